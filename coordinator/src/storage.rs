//! Room on the coordinator's disk. What is left of it when files are refused already is the
//! journal's, so that the farm can go on telling and deciding; and when even the journal cannot be
//! written, everybody who asks is told so instead of waiting.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use grange_protocol::{Refusal, RefusalCode};
use grange_store::ReceiveError;
use tokio::sync::watch;

/// Free space that files leave to the journal. Bytes.
const RESERVE: u64 = 256 << 20;
/// On small file systems it is this part of them.
const RESERVE_PARTS: u64 = 20;
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether there is room. Clones share what they know.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    dir: Arc<PathBuf>,
    /// Files are refused.
    full: Arc<AtomicBool>,
    /// The journal waits for room.
    stuck: Arc<AtomicBool>,
    /// Whether the disk was full when it was looked at last.
    seen_full: Arc<watch::Sender<bool>>,
}

impl Storage {
    /// Looks at the disk of a directory from now on, in a task that ends with the runtime.
    pub(crate) fn watch(dir: &Path) -> Self {
        let storage = Self {
            dir: Arc::new(dir.into()),
            full: Arc::default(),
            stuck: Arc::default(),
            seen_full: Arc::new(watch::Sender::new(false)),
        };
        storage.look();
        let watching = storage.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(LOOK_EVERY);
            loop {
                ticks.tick().await;
                watching.look();
            }
        });
        storage
    }

    /// Bytes that are free on the disk, and all that it has; `None` if the system does not say.
    pub(crate) fn room(&self) -> Option<(u64, u64)> {
        let stat = rustix::fs::statvfs(self.dir.as_path()).ok()?;
        Some((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
    }

    /// Whether the disk is full, by the looks at it alone: a file that is refused may just be too large.
    /// Waits for nobody but the clock.
    pub(crate) fn seen_full(&self) -> watch::Receiver<bool> {
        self.seen_full.subscribe()
    }

    fn look(&self) {
        let Some((free, total)) = self.room() else { return };
        let reserve = RESERVE.min(total / RESERVE_PARTS);
        let was_full = self.full.load(Ordering::Relaxed);
        // A little more, lest it changes with every file.
        let full = free < if was_full { reserve + reserve / 4 } else { reserve };
        self.full.store(full, Ordering::Relaxed);
        self.seen_full.send_if_modified(|seen| std::mem::replace(seen, full) != full);
        match (was_full, full) {
            (false, true) => tracing::warn!("{}", self.sentence()),
            (true, false) => tracing::info!("there is room again"),
            _ => {}
        }
    }

    /// The journal could not be written, or could.
    pub(crate) fn journal_is_stuck(&self, stuck: bool) {
        self.stuck.store(stuck, Ordering::Relaxed);
    }

    /// What people should know, if there is no room.
    pub(crate) fn problem(&self) -> Option<String> {
        self.full.load(Ordering::Relaxed).then(|| self.sentence())
    }

    /// Whether a file of so many bytes is to be refused: it must leave its reserve to the journal.
    pub(crate) fn refuses(&self, len: u64) -> Option<Refusal> {
        let (free, total) = self.room()?;
        let reserve = RESERVE.min(total / RESERVE_PARTS);
        let full = self.full.load(Ordering::Relaxed) || free < reserve.saturating_add(len);
        full.then(|| {
            self.full.store(true, Ordering::Relaxed);
            Refusal::new(RefusalCode::NotNow, self.sentence())
        })
    }

    /// Whoever asks while the journal cannot be written is told this.
    pub(crate) fn refuses_all(&self) -> Option<Refusal> {
        self.stuck
            .load(Ordering::Relaxed)
            .then(|| Refusal::new(RefusalCode::NotNow, self.sentence()))
    }

    fn sentence(&self) -> String {
        let host = crate::config::host_name();
        let dir = self.dir.display();
        format!(
            "the farm's storage is full: make room at {dir} on {host}, and it goes on by itself"
        )
    }
}

/// What whoever sent a file is told when the store does not have it afterwards.
pub(crate) fn not_stored(error: &ReceiveError) -> Refusal {
    let code = match error {
        ReceiveError::Length { .. } | ReceiveError::Hash => RefusalCode::Invalid,
        ReceiveError::Before | ReceiveError::DiskFull | ReceiveError::Io(_) => RefusalCode::NotNow,
    };
    Refusal::new(code, format!("the coordinator could not store the file: {error}"))
}
