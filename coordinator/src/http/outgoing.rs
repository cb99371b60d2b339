//! A body that a thread makes, piece by piece, for a network that may be slow and may stand still.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// A body of which nobody takes anything for so long is given up: what it holds is for others.
const STANDSTILL: Duration = Duration::from_secs(120);

/// Where the thread puts them. A body ends well with [`Pieces::end`], and with an error without it, so
/// that nobody takes a part for the whole.
pub(super) struct Pieces {
    sender: mpsc::Sender<Bytes>,
    ended: Arc<AtomicBool>,
    runtime: Handle,
    patience: Duration,
}

impl Pieces {
    /// So many pieces wait for the network at most. Needs a runtime.
    pub(super) fn new(waiting: usize) -> (Self, Body) {
        Self::with_patience(waiting, STANDSTILL)
    }

    fn with_patience(waiting: usize, patience: Duration) -> (Self, Body) {
        let (sender, receiver) = mpsc::channel(waiting);
        let ended = Arc::new(AtomicBool::new(false));
        let body = stream::unfold(Some((receiver, ended.clone())), |open| async {
            let (mut receiver, ended) = open?;
            match receiver.recv().await {
                Some(piece) => Some((Ok(piece), Some((receiver, ended)))),
                None if ended.load(Ordering::Acquire) => None,
                None => Some((Err(io::Error::other("this is not all of it")), None)),
            }
        });
        let pieces = Self { sender, ended, runtime: Handle::current(), patience };
        (pieces, Body::from_stream(body))
    }

    /// Waits until there is room, on a thread that may wait. An error means that nobody wants more.
    pub(super) fn send(&self, piece: Bytes) -> io::Result<()> {
        let sending = tokio::time::timeout(self.patience, self.sender.send(piece));
        match self.runtime.block_on(sending) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// That was all.
    pub(super) fn end(self) {
        self.ended.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;
    use tokio::task::spawn_blocking;

    #[tokio::test]
    async fn a_whole_body_ends_and_a_part_of_one_breaks() {
        for is_whole in [true, false] {
            let (pieces, body) = Pieces::new(1);
            spawn_blocking(move || {
                for piece in ["one", "two"] {
                    pieces.send(piece.into()).unwrap();
                }
                if is_whole {
                    pieces.end();
                }
            });
            let read = axum::body::to_bytes(body, 100).await;
            assert_eq!(read.ok().as_deref(), is_whole.then_some(&b"onetwo"[..]));
        }
    }

    #[tokio::test]
    async fn a_body_that_nobody_takes_is_given_up() {
        let (pieces, body) = Pieces::with_patience(1, Duration::from_millis(20));
        let making = spawn_blocking(move || {
            let sent = (0..3).map(|_| pieces.send("piece".into()));
            sent.collect::<io::Result<Vec<()>>>().unwrap_err().kind()
        });
        assert_eq!(making.await.unwrap(), io::ErrorKind::TimedOut);
        // Whoever comes back after all gets what was there, and then not a whole body.
        let mut body = body.into_data_stream();
        assert_eq!(body.next().await.unwrap().unwrap(), "piece");
        assert!(body.next().await.unwrap().is_err());
        assert!(body.next().await.is_none());
    }
}
