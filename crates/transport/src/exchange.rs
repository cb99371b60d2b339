//! The asking side of every exchange: call, put, get. The words are [`grange_protocol::stream`]'s.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use bytes::Bytes;
use grange_blocking as blocking;
use grange_protocol::BlobHash;
use grange_protocol::client::{Request, Response};
use grange_protocol::file::{
    Blob, EAGER_MAX, GetBlob, GetReply, PutBlob, PutDone, PutOutput, PutPictures, PutReply,
};
use grange_protocol::limits::FRAME_MAX;
use grange_protocol::stream::Open;
use quinn::{Connection, RecvStream, SendStream};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::file;
use crate::message::{Receiver, Sender, StreamError};

/// Of streams, of which usual ones have 0.
const BEHIND_OTHERS: i32 = -1;

/// Where the bytes to send are: a file, or memory.
pub trait Source: Read + Seek + Send + 'static {}

impl<T: Read + Seek + Send + 'static> Source for T {}

/// One question and its answer. A refusal is an answer here.
pub async fn call(connection: &Connection, request: Request) -> Result<Response, StreamError> {
    let (sender, recv) = open(connection, &Open::Call(Box::new(request))).await?;
    sender.finish();
    Receiver::new(recv, FRAME_MAX).expect().await
}

/// Opens a stream of messages of type `T` from the other side.
pub async fn listen<T: DeserializeOwned>(
    connection: &Connection,
    what: &Open,
) -> Result<(Sender<Open>, Receiver<T>), StreamError> {
    let (sender, recv) = open(connection, what).await?;
    Ok((sender, Receiver::new(recv, FRAME_MAX)))
}

/// Sends an asset. `source` is read from its beginning.
pub async fn put_blob(
    connection: &Connection,
    blob: Blob,
    source: impl Source,
) -> Result<(), StreamError> {
    let eager = blob.len <= EAGER_MAX;
    put(connection, &Open::PutBlob(PutBlob { blob, eager }), eager, source).await
}

/// Commits an output. `eager` in `output` is set here. `source` is read from its beginning.
pub async fn put_output(
    connection: &Connection,
    mut output: PutOutput,
    source: impl Source,
) -> Result<(), StreamError> {
    output.eager = output.output.blob.len <= EAGER_MAX;
    let eager = output.eager;
    put(connection, &Open::PutOutput(output), eager, source).await
}

/// Sends small pictures of a file; `bytes` are those of all.
pub async fn put_pictures(
    connection: &Connection,
    pictures: PutPictures,
    bytes: Vec<u8>,
) -> Result<(), StreamError> {
    let (sender, recv) = open(connection, &Open::PutPictures(pictures)).await?;
    let mut send = sender.into_inner();
    // Frames go first. It fails only on a stream that has ended, which the answer will tell.
    let _ = send.set_priority(BEHIND_OTHERS);
    match send_from(&mut send, Cursor::new(bytes), 0).await {
        // Whoever stops the transfer says why, or that they were there already.
        Ok(()) | Err(StreamError::Stopped) => {}
        Err(error) => return Err(error),
    }
    done(Receiver::new(recv, FRAME_MAX)).await
}

async fn put(
    connection: &Connection,
    what: &Open,
    eager: bool,
    source: impl Source,
) -> Result<(), StreamError> {
    let (sender, recv) = open(connection, what).await?;
    let mut recv = Receiver::<PutReply>::new(recv, FRAME_MAX);
    let mut send = sender.into_inner();
    let offset = if eager {
        Some(0)
    } else {
        match recv.expect().await? {
            PutReply::SendFrom(offset) => Some(offset),
            PutReply::Have => None,
            PutReply::Refused(refusal) => return Err(StreamError::Refused(refusal)),
        }
    };
    if let Some(offset) = offset {
        match send_from(&mut send, source, offset).await {
            // Whoever stops the transfer says why, or that the file was there already.
            Ok(()) | Err(StreamError::Stopped) => {}
            Err(error) => return Err(error),
        }
    }
    done(recv.retype()).await
}

async fn done(mut recv: Receiver<PutDone>) -> Result<(), StreamError> {
    match recv.expect().await? {
        PutDone::Stored => Ok(()),
        PutDone::Refused(refusal) => Err(StreamError::Refused(refusal)),
    }
}

/// Sends a file from an offset to its end, and ends the stream.
pub async fn send_from(
    send: &mut SendStream,
    source: impl Source,
    offset: u64,
) -> Result<(), StreamError> {
    let (pieces, mut outgoing) = file::outgoing();
    let reading = blocking::produce(pieces, Pieces { source, seek: Some(offset), ended: false });
    let sent = file::send(send, &mut outgoing).await;
    drop(outgoing);
    let _ = reading.await;
    sent
}

/// A source, piece by piece, to its end or the first error.
struct Pieces<S> {
    source: S,
    /// Where to begin, if it was not begun yet.
    seek: Option<u64>,
    ended: bool,
}

impl<S: Source> Pieces<S> {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        if let Some(offset) = self.seek.take() {
            self.source.seek(SeekFrom::Start(offset))?;
        }
        let mut piece = Vec::with_capacity(file::PIECE_BYTES);
        self.source.by_ref().take(file::PIECE_BYTES as u64).read_to_end(&mut piece)?;
        Ok(piece)
    }
}

impl<S: Source> Iterator for Pieces<S> {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let piece = self.read();
        self.ended = !piece.as_ref().is_ok_and(|piece| !piece.is_empty());
        match piece {
            Ok(piece) if piece.is_empty() => None,
            piece => Some(piece.map(Bytes::from)),
        }
    }
}

/// Fetches a file from an offset on; its bytes go to `pieces`. Returns the whole file's length.
pub async fn get_blob(
    connection: &Connection,
    hash: BlobHash,
    offset: u64,
    pieces: &mpsc::Sender<Vec<Bytes>>,
) -> Result<u64, StreamError> {
    let (sender, recv) = open(connection, &Open::GetBlob(GetBlob { hash, offset })).await?;
    sender.finish();
    let mut recv = Receiver::<GetReply>::new(recv, FRAME_MAX);
    match recv.expect().await? {
        GetReply::Refused(refusal) => Err(StreamError::Refused(refusal)),
        GetReply::Sending { len } => {
            let (mut stream, first) = recv.into_parts();
            file::receive(first.freeze(), &mut stream, pieces).await?;
            Ok(len)
        }
    }
}

async fn open(
    connection: &Connection,
    what: &Open,
) -> Result<(Sender<Open>, RecvStream), StreamError> {
    let (send, recv) = connection.open_bi().await?;
    let mut sender = Sender::new(send, FRAME_MAX);
    sender.send(what).await?;
    Ok((sender, recv))
}
