//! Files from the farm: what this host does not have yet is fetched into its store.

use std::sync::Arc;
use std::time::Duration;

use grange_blocking as blocking;
use grange_protocol::BlobHash;
use grange_protocol::agent::{Failure, FailureKind};
use grange_protocol::file::Blob;
use grange_store::{ReceiveError, Store};
use grange_transport::{Connection, StreamError, exchange, file};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinError;

/// Files that are fetched at once; more wait.
const FETCHES: usize = 16;
/// A fetch that fails for reasons that may pass is tried so often.
const TRIES: u32 = 5;

/// The agent's store, and the farm behind it.
#[derive(Clone)]
pub(crate) struct Supply {
    pub(crate) store: Arc<Store>,
    connection: watch::Receiver<Option<Connection>>,
    fetches: Arc<Semaphore>,
}

impl Supply {
    pub(crate) fn new(store: Arc<Store>, connection: watch::Receiver<Option<Connection>>) -> Self {
        Self { store, connection, fetches: Arc::new(Semaphore::new(FETCHES)) }
    }

    /// The connection, as soon as there is one.
    pub(crate) async fn connected(&self) -> Result<Connection, NotFetched> {
        let mut connection = self.connection.clone();
        let there = connection.wait_for(Option::is_some).await;
        there.ok().and_then(|there| there.clone()).ok_or(NotFetched::Stopping)
    }

    /// Has the file in the store. A transfer that broke goes on where it broke.
    pub(crate) async fn fetch(&self, blob: Blob) -> Result<(), NotFetched> {
        if self.store.len_of(blob.hash) == Some(blob.len) {
            // So that it is not the next to be collected.
            let _ = self.store.touch(blob.hash);
            return Ok(());
        }
        let _permit = self.fetches.acquire().await;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_fetch(blob).await {
                Err(error) if error.may_pass() && tries < TRIES => {
                    tracing::debug!("a file is fetched again: {error}");
                    tokio::time::sleep(Duration::from_millis(200) * tries).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_fetch(&self, blob: Blob) -> Result<(), NotFetched> {
        let connection = self.connected().await?;
        let store = self.store.clone();
        let receiving = blocking::run(move || store.receive(blob)).await??;
        let offset = receiving.offset();
        let (pieces, incoming) = file::incoming();
        let writing = blocking::consume(incoming, receiving, |receiving, piece| {
            piece.iter().try_for_each(|bytes| receiving.write(bytes))
        });
        let fetched = exchange::get_blob(&connection, blob.hash, offset, &pieces).await;
        drop(pieces);
        let receiving = writing.await??;
        fetched?;
        Ok(blocking::run(move || receiving.finish()).await??)
    }

    /// Fetches a small file whose length is not known beforehand.
    pub(crate) async fn fetch_small(&self, hash: BlobHash, max: u64) -> Result<(), NotFetched> {
        if self.store.contains(hash) {
            return Ok(());
        }
        let connection = self.connected().await?;
        let (pieces, incoming) = file::incoming();
        let collecting = blocking::consume(incoming, Vec::new(), move |bytes, piece| {
            piece.iter().for_each(|piece| bytes.extend_from_slice(piece));
            let got = bytes.len() as u64;
            if got > max { Err(ReceiveError::Length { expected: max, got }) } else { Ok(()) }
        });
        let fetched = exchange::get_blob(&connection, hash, 0, &pieces).await;
        drop(pieces);
        let bytes = collecting.await??;
        fetched?;
        let store = self.store.clone();
        let blob = Blob { hash, len: bytes.len() as u64 };
        Ok(blocking::run(move || store.put_known(blob, &bytes)).await??)
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum NotFetched {
    #[error("{0}")]
    Stream(#[from] StreamError),
    #[error("this host's disk is full: make room in the agent's state directory")]
    DiskFull,
    #[error("{0}")]
    Store(ReceiveError),
    #[error("the agent is stopping")]
    Stopping,
    #[error("{0}")]
    Panic(#[from] JoinError),
}

impl NotFetched {
    /// That something cannot be had, and why.
    pub(crate) fn failure(&self, what: &str) -> Failure {
        let kind = match self {
            Self::DiskFull => FailureKind::Storage,
            _ => FailureKind::Host,
        };
        Failure::new(kind, format!("{what}: {self}"))
    }

    fn may_pass(&self) -> bool {
        match self {
            Self::Stream(error) => !matches!(error, StreamError::Refused(_)),
            Self::Store(error) => !matches!(error, ReceiveError::Io(_)),
            Self::DiskFull | Self::Stopping | Self::Panic(_) => false,
        }
    }
}

impl From<ReceiveError> for NotFetched {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::DiskFull => Self::DiskFull,
            other => Self::Store(other),
        }
    }
}
