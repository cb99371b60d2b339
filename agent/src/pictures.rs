//! Small pictures of frames, for those who will look at them. They are made here because the file is at
//! hand, one at a time and with the least priority, and nothing waits for them: with too many to make
//! some are left out, and the coordinator makes those that somebody asks for.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use grange_blender::thumbnail;
use grange_blocking as blocking;
use grange_protocol::BlobHash;
use grange_protocol::file::{Output, OutputRole, PICTURE_SIDES, PutPictures};
use grange_transport::exchange;
use tokio::sync::mpsc;

use crate::deliver::{free_space, reopened};
use crate::supply::Supply;

/// Files of which pictures are to be made. Full, a file gets none.
const WAITING: usize = 16;
/// Files that wait are open, so their room is not free yet: it may be so much of what frames have left,
/// one part in …
const ROOM_PARTS: u64 = 4;

/// Makes pictures of what was committed.
#[derive(Clone)]
pub(crate) struct Pictures {
    files: mpsc::Sender<(BlobHash, File)>,
    scratch: PathBuf,
    /// What the farm said last.
    wanted: Arc<AtomicBool>,
    /// Files that got none since the coordinator was told so.
    skipped: Arc<AtomicU32>,
}

impl Pictures {
    pub(crate) fn new(supply: Supply, scratch: PathBuf) -> Self {
        let (files, waiting) = mpsc::channel(WAITING);
        let skipped = Arc::<AtomicU32>::default();
        tokio::spawn(keep_making(waiting, supply, skipped.clone()));
        Self { files, scratch, wanted: Arc::default(), skipped }
    }

    /// Whether anybody can look at them.
    pub(crate) fn set_wanted(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// Has pictures made of a file that the farm has, if people look at files of its kind.
    pub(crate) fn make(&self, output: &Output, file: File) {
        if output.role != OutputRole::Frame || !self.wanted.load(Ordering::Relaxed) {
            return;
        }
        let room = free_space(&self.scratch).unwrap_or(0) / ROOM_PARTS;
        let all = output.blob.len.saturating_mul(WAITING as u64);
        if all > room || self.files.try_send((output.blob.hash, file)).is_err() {
            self.skipped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn keep_making(
    mut waiting: mpsc::Receiver<(BlobHash, File)>,
    supply: Supply,
    skipped: Arc<AtomicU32>,
) {
    while let Some((of, file)) = waiting.recv().await {
        let made = blocking::aside(move || thumbnail::jpegs(&reopened(&file), PICTURE_SIDES)).await;
        // What is no picture, such as a video, gets none.
        let Some(Ok(pictures)) = made else { continue };
        let Ok(connection) = supply.connected().await else { return };
        let lens = pictures.each_ref().map(|picture| picture.len() as u32);
        let put = PutPictures { of, lens, skipped: skipped.swap(0, Ordering::Relaxed) };
        if let Err(error) = exchange::put_pictures(&connection, put, pictures.concat()).await {
            tracing::debug!("the pictures of {of} were not sent: {error}");
            skipped.fetch_add(put.skipped + 1, Ordering::Relaxed);
        }
    }
}
