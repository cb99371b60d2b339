//! File bytes over a stream. Reading, writing, hashing and syncing are the caller's, on its own
//! threads; here the bytes only move. The exchange of messages around them is described in
//! [`grange_protocol::file`].

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use grange_protocol::codec::CodecError;
use quinn::{RecvStream, SendStream};
use tokio::sync::mpsc;

use crate::message::StreamError;

/// Bytes per read of a file.
pub const PIECE_BYTES: usize = 256 << 10;
/// Pieces in flight between a file's thread and the network.
const PIECES_AHEAD: usize = 4;
/// Datagrams' worth of bytes that are handed to a file's thread at once.
const CHUNKS_PER_PIECE: usize = 64;

/// A sender of whom nothing comes for so long is given up: whoever it is holds a place that others
/// wait for.
const UNSENT: Duration = Duration::from_secs(45);
/// A receiver that takes not one piece for so long is, too. Many files may share a slow line.
const UNTAKEN: Duration = Duration::from_secs(120);

/// Pieces of a file on their way to the network, from a thread that reads it.
pub type Outgoing = mpsc::Receiver<std::io::Result<Bytes>>;
/// Pieces of a file on their way from the network, to a thread that writes it.
pub type Incoming = mpsc::Receiver<Vec<Bytes>>;

/// A channel for a file's pieces: when it is full it blocks the faster side.
pub fn outgoing() -> (mpsc::Sender<std::io::Result<Bytes>>, Outgoing) {
    mpsc::channel(PIECES_AHEAD)
}

/// See [`outgoing`].
pub fn incoming() -> (mpsc::Sender<Vec<Bytes>>, Incoming) {
    mpsc::channel(PIECES_AHEAD)
}

/// Sends pieces until there are no more, then ends the stream.
pub async fn send(stream: &mut SendStream, pieces: &mut Outgoing) -> Result<(), StreamError> {
    while let Some(piece) = pieces.recv().await {
        within(UNTAKEN, stream.write_chunk(piece?)).await??;
    }
    // It fails only on a stream that has ended, which the peer's answer will tell.
    let _ = stream.finish();
    Ok(())
}

/// Hands on what was read already and what comes, until the end of the stream. Ends early,
/// without an error, if nobody takes the pieces any more.
pub async fn receive(
    first: Bytes,
    stream: &mut RecvStream,
    pieces: &mpsc::Sender<Vec<Bytes>>,
) -> Result<(), StreamError> {
    if !first.is_empty() && pieces.send(vec![first]).await.is_err() {
        return Ok(());
    }
    let mut chunks = vec![Bytes::new(); CHUNKS_PER_PIECE];
    loop {
        match within(UNSENT, stream.read_chunks(&mut chunks)).await? {
            Ok(Some(count)) => {
                let piece = chunks[..count].iter_mut().map(std::mem::take).collect();
                if pieces.send(piece).await.is_err() {
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives a small file whole. More than `max` bytes are an error.
pub async fn receive_small(
    first: Bytes,
    stream: &mut RecvStream,
    max: usize,
) -> Result<Vec<u8>, StreamError> {
    let mut bytes = first.to_vec();
    let mut chunks = vec![Bytes::new(); CHUNKS_PER_PIECE];
    loop {
        match within(UNSENT, stream.read_chunks(&mut chunks)).await? {
            Ok(Some(count)) => {
                chunks[..count].iter().for_each(|chunk| bytes.extend_from_slice(chunk))
            }
            Ok(None) => return Ok(bytes),
            Err(error) => return Err(error.into()),
        }
        if bytes.len() > max {
            return Err(CodecError::TooLarge { len: bytes.len(), max }.into());
        }
    }
}

async fn within<T>(silence: Duration, step: impl Future<Output = T>) -> Result<T, StreamError> {
    tokio::time::timeout(silence, step).await.map_err(|_| StreamError::Silent(silence))
}
