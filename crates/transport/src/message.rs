//! Typed messages over the halves of a stream.

use std::marker::PhantomData;

use bytes::BytesMut;
use grange_protocol::codec::{self, CodecError, LENGTH_BYTES};
use quinn::{ConnectionError, ReadError, ReadExactError, RecvStream, SendStream, WriteError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::endpoint::close_code;

/// Bytes after which a batch of messages is handed to the network.
const FLUSH_BYTES: usize = 64 << 10;

/// Sends messages of one type. Messages that are ready together travel together: [`Sender::feed`]
/// them, then [`Sender::flush`].
#[derive(Debug)]
pub struct Sender<T> {
    stream: SendStream,
    buffer: Vec<u8>,
    max: usize,
    kind: PhantomData<fn(T)>,
}

/// Receives messages of one type, each at most `max` bytes.
#[derive(Debug)]
pub struct Receiver<T> {
    stream: RecvStream,
    buffer: BytesMut,
    max: usize,
    kind: PhantomData<fn() -> T>,
}

impl<T: Serialize> Sender<T> {
    pub fn new(stream: SendStream, max: usize) -> Self {
        Self { stream, buffer: Vec::new(), max, kind: PhantomData }
    }

    /// Sends one message now.
    pub async fn send(&mut self, message: &T) -> Result<(), StreamError> {
        self.feed(message).await?;
        self.flush().await
    }

    /// Adds a message to the batch, which goes out by itself when it is large.
    pub async fn feed(&mut self, message: &T) -> Result<(), StreamError> {
        codec::encode_frame(message, self.max, &mut self.buffer)?;
        if self.buffer.len() >= FLUSH_BYTES { self.flush().await } else { Ok(()) }
    }

    pub async fn flush(&mut self) -> Result<(), StreamError> {
        if !self.buffer.is_empty() {
            self.stream.write_all(&self.buffer).await?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// The raw stream, for what is not a message.
    pub fn into_inner(self) -> SendStream {
        self.stream
    }

    /// The same stream for messages of another type.
    pub fn retype<U>(self) -> Sender<U> {
        Sender { stream: self.stream, buffer: self.buffer, max: self.max, kind: PhantomData }
    }

    /// No more messages will come. The peer may not have read them all yet.
    pub fn finish(mut self) -> SendStream {
        // It fails only on a stream that is finished or reset already.
        let _ = self.stream.finish();
        self.stream
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    pub fn new(stream: RecvStream, max: usize) -> Self {
        Self { stream, buffer: BytesMut::new(), max, kind: PhantomData }
    }

    /// The next message; `None` at the end of the stream. Cancel safe: what has arrived of a
    /// message is kept for the next call.
    pub async fn recv(&mut self) -> Result<Option<T>, StreamError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// Waits for more bytes; false at the end of the stream, if it does not end amid a message.
    async fn read(&mut self) -> Result<bool, StreamError> {
        match self.stream.read_chunk(FLUSH_BYTES, true).await {
            Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk.bytes),
            Ok(None) if self.buffer.is_empty() => return Ok(false),
            Ok(None) => return Err(StreamError::Truncated),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// How long the next message is going to be, as soon as its sender says so; `None` at the end of
    /// the stream. At most a piece of the message is held then.
    pub async fn announced(&mut self) -> Result<Option<usize>, StreamError> {
        loop {
            if let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() {
                return Ok(Some(codec::frame_len(*length, self.max)?));
            }
            if !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// The next message, which must come.
    pub async fn expect(&mut self) -> Result<T, StreamError> {
        self.recv().await?.ok_or(StreamError::Truncated)
    }

    /// A message that is there already.
    pub fn take(&mut self) -> Result<Option<T>, StreamError> {
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let len = codec::frame_len(*length, self.max)?;
        if self.buffer.len() < LENGTH_BYTES + len {
            return Ok(None);
        }
        let frame = self.buffer.split_to(LENGTH_BYTES + len);
        Ok(Some(codec::decode(&frame[LENGTH_BYTES..])?))
    }

    /// The same stream for messages of another type.
    pub fn retype<U>(self) -> Receiver<U> {
        Receiver { stream: self.stream, buffer: self.buffer, max: self.max, kind: PhantomData }
    }

    /// The raw stream, and what was read of it beyond the last message.
    pub fn into_parts(self) -> (RecvStream, BytesMut) {
        (self.stream, self.buffer)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the stream ended in the middle of a message")]
    Truncated,
    #[error("the connection was lost ({0})")]
    Lost(String),
    #[error("the farm does not know this identity any more: join again")]
    Removed,
    /// The other side is there and sends nothing, or takes nothing.
    #[error("nothing moved for {} seconds", .0.as_secs())]
    Silent(std::time::Duration),
    /// The other side does not want to read on.
    #[error("the other side stopped the transfer")]
    Stopped,
    #[error("{0}")]
    Refused(grange_protocol::Refusal),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<WriteError> for StreamError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(_) => Self::Stopped,
            WriteError::ConnectionLost(error) => error.into(),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<ReadError> for StreamError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => error.into(),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<ReadExactError> for StreamError {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::FinishedEarly(_) => Self::Truncated,
            ReadExactError::ReadError(error) => error.into(),
        }
    }
}

impl From<ConnectionError> for StreamError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close)
                if close.error_code == close_code::UNKNOWN_IDENTITY =>
            {
                Self::Removed
            }
            other => Self::Lost(other.to_string()),
        }
    }
}
