//! The asking side of every exchange: call, put, get. The words are [`grange_protocol::stream`]'s.

use std::io::{Read, Seek, SeekFrom};

use bytes::Bytes;
use grange_protocol::BlobHash;
use grange_protocol::client::{Request, Response};
use grange_protocol::file::{
    Blob, EAGER_MAX, GetBlob, GetReply, PutBlob, PutDone, PutOutput, PutReply,
};
use grange_protocol::limits::FRAME_MAX;
use grange_protocol::stream::Open;
use quinn::{Connection, RecvStream, SendStream};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::file;
use crate::message::{Receiver, Sender, StreamError};

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
    match recv.retype::<PutDone>().expect().await? {
        PutDone::Stored => Ok(()),
        PutDone::Refused(refusal) => Err(StreamError::Refused(refusal)),
    }
}

/// Sends a file from an offset to its end, and ends the stream.
pub async fn send_from(
    send: &mut SendStream,
    mut source: impl Source,
    offset: u64,
) -> Result<(), StreamError> {
    let (pieces, mut outgoing) = file::outgoing();
    let reading = spawn_blocking(move || {
        let mut read = || -> std::io::Result<()> {
            source.seek(SeekFrom::Start(offset))?;
            loop {
                let mut piece = Vec::with_capacity(file::PIECE_BYTES);
                source.by_ref().take(file::PIECE_BYTES as u64).read_to_end(&mut piece)?;
                if piece.is_empty() || pieces.blocking_send(Ok(Bytes::from(piece))).is_err() {
                    return Ok(());
                }
            }
        };
        if let Err(error) = read() {
            let _ = pieces.blocking_send(Err(error));
        }
    });
    let sent = file::send(send, &mut outgoing).await;
    drop(outgoing);
    let _ = reading.await;
    sent
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
