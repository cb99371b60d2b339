//! A file on its way into the store.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grange_faults::point;
use grange_protocol::BlobHash;
use grange_protocol::file::Blob;

use crate::store::Store;
use crate::upload::Upload;

/// Write the bytes from [`Receiving::offset`] on, then [`Receiving::finish`]. Dropped before that,
/// it leaves what has arrived for the next attempt.
#[derive(Debug)]
pub struct Receiving {
    store: Arc<Store>,
    /// What the bytes shall have; `None`: whatever they have.
    hash: Option<BlobHash>,
    len: u64,
    path: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    written: u64,
    /// Some of it was there before, which others may have sent.
    went_on: bool,
    left: Left,
}

/// What becomes of a file that is not whole.
#[derive(Debug)]
enum Left {
    /// It is removed: nobody can go on with it.
    Nothing,
    /// Whoever sends the file with this hash goes on with it.
    For(BlobHash),
    /// Whose upload it is goes on with it.
    Of(Arc<Upload>),
}

impl Receiving {
    /// Goes on with what has come of a file. What somebody else is still bringing, or was until
    /// their connection broke, which nobody knows yet, is left to them, and a copy gone on with.
    pub(crate) fn begin(store: Arc<Store>, blob: Blob) -> Result<Self, ReceiveError> {
        if store.doubts(blob.hash) {
            return Self::begin_anew(store, blob);
        }
        let resumable = store.resumable(blob.hash);
        let alone = store.claim(&resumable);
        let path = if alone { resumable.clone() } else { store.claim_scratch() };
        let copied = if alone { Ok(()) } else { copy_of_what_is_there(&resumable, &path) };
        let opened = copied.and_then(|()| open_arriving(&path, blob.len));
        Self::with(store, path, opened, Some(blob.hash), blob.len, Left::For(blob.hash))
    }

    /// Goes on with an upload, of which all has come from its owner.
    pub(crate) fn go_on(store: Arc<Store>, upload: Arc<Upload>) -> Result<Self, ReceiveError> {
        let (path, what) = (upload.path().to_path_buf(), *upload.announced());
        store.claim(&path);
        let opened = open_upload(&upload, what.len);
        Self::with(store, path, opened, what.hash, what.len, Left::Of(upload))
    }

    pub(crate) fn begin_unnamed(store: Arc<Store>, len: u64) -> Result<Self, ReceiveError> {
        let path = store.claim_scratch();
        let opened = open_arriving(&path, len);
        Self::with(store, path, opened, None, len, Left::Nothing)
    }

    pub(crate) fn begin_anew(store: Arc<Store>, blob: Blob) -> Result<Self, ReceiveError> {
        let path = store.claim_scratch();
        let opened = open_arriving(&path, blob.len);
        Self::with(store, path, opened, Some(blob.hash), blob.len, Left::Nothing)
    }

    fn with(
        store: Arc<Store>,
        path: PathBuf,
        opened: io::Result<(File, blake3::Hasher, u64)>,
        hash: Option<BlobHash>,
        len: u64,
        left: Left,
    ) -> Result<Self, ReceiveError> {
        match opened {
            Ok((file, hasher, written)) => {
                let went_on = written > 0 && !matches!(left, Left::Of(_));
                Ok(Self { store, hash, len, path, file, hasher, written, went_on, left })
            }
            Err(error) => {
                store.unclaim(&path);
                let stays = match left {
                    Left::Nothing => false,
                    Left::For(hash) => store.resumable(hash) == path,
                    Left::Of(_) => true,
                };
                if !stays {
                    let _ = fs::remove_file(&path);
                }
                Err(ReceiveError::of(error))
            }
        }
    }

    /// Bytes that are there already.
    pub fn offset(&self) -> u64 {
        self.written
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ReceiveError> {
        let after = self.written + bytes.len() as u64;
        if after > self.len {
            return Err(ReceiveError::Length { expected: self.len, got: after });
        }
        let written = point("store.write").and_then(|()| self.file.write_all(bytes));
        if let Err(error) = written {
            // What is there now is of no known length, and what has come of many files may be what
            // fills the disk.
            self.left = Left::Nothing;
            return Err(ReceiveError::of(error));
        }
        self.hasher.update(bytes);
        self.written = after;
        Ok(())
    }

    /// Of the bytes so far.
    pub fn hash(&self) -> BlobHash {
        self.hasher.finalize().into()
    }

    /// Verifies length and hash, makes the file durable and gives it its name. Bytes that are not
    /// the announced ones are thrown away; if some of them were there before, nobody goes on with what
    /// others send of this file until it is whole.
    pub fn finish(mut self) -> Result<(), ReceiveError> {
        if self.written < self.len {
            return Err(ReceiveError::Length { expected: self.len, got: self.written });
        }
        let hash = self.hash();
        match self.hash {
            Some(expected) if expected != hash => {
                self.left = Left::Nothing;
                if !self.went_on {
                    return Err(ReceiveError::Hash);
                }
                self.store.doubt(expected);
                return Err(ReceiveError::Before);
            }
            None if self.store.claim_len(hash) == Some(self.len) => {
                self.left = Left::Nothing;
                return Ok(());
            }
            _ => {}
        }
        let settled = self.settle(hash);
        if let Left::Of(_) = self.left {
            // It is there under its hash; or what of it is on the disk nobody knows, and a hash that
            // would tell need not have been announced.
            self.left = Left::Nothing;
        }
        settled.map_err(ReceiveError::of)
    }

    fn settle(&mut self, hash: BlobHash) -> io::Result<()> {
        let target = self.store.path(hash);
        let shard = target.parent().map_or_else(|| target.clone(), PathBuf::from);
        self.file.set_permissions(Permissions::from_mode(0o444))?;
        self.file.set_modified(self.store.time())?;
        point("store.sync")?;
        self.file.sync_data()?;
        point("store.rename")?;
        fs::rename(&self.path, &target)?;
        point("store.dirsync")?;
        self.store.dirsync.sync(&shard)?;
        self.store.doubt_no_more(hash);
        point("store.named")
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.store.unclaim(&self.path);
        match &self.left {
            // Nobody will go on with this: others have brought all of it meanwhile, or it is doubted.
            Left::For(hash) if self.store.contains(*hash) || self.store.doubts(*hash) => {
                drop(fs::remove_file(&self.path));
            }
            Left::For(hash) if self.path == self.store.resumable(*hash) => {}
            Left::For(hash) => self.store.leave(&self.path, *hash),
            Left::Of(upload) => upload.remember(self.hasher.clone(), self.written),
            // Renamed away after success; after a failure nobody can go on with it.
            Left::Nothing => drop(fs::remove_file(&self.path)),
        }
    }
}

fn copy_of_what_is_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::copy(from, to) {
        // It has just become whole, or was thrown away.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        copied => copied.map(drop),
    }
}

/// Opens a file to append to, with the hash of what it has. One that is longer than it should be
/// begins anew.
fn open_arriving(path: &Path, len: u64) -> io::Result<(File, blake3::Hasher, u64)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut there = file.metadata()?.len();
    if there > len {
        file.set_len(0)?;
        there = 0;
    }
    if there > 0 {
        let mut piece = vec![0; 1 << 20];
        let mut seen = 0;
        while seen < there {
            let got = file.read(&mut piece)?;
            if got == 0 {
                break;
            }
            hasher.update(&piece[..got]);
            seen += got as u64;
        }
        there = seen;
    }
    Ok((file, hasher, there))
}

/// The same for an upload that is there, and without reading what was hashed before.
fn open_upload(upload: &Upload, len: u64) -> io::Result<(File, blake3::Hasher, u64)> {
    let there = fs::metadata(upload.path())?.len();
    match upload.recall() {
        Some((hasher, written)) if written == there => {
            let file = OpenOptions::new().append(true).open(upload.path())?;
            Ok((file, hasher, written))
        }
        _ => open_arriving(upload.path(), len),
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error("{expected} bytes were announced and {got} came")]
    Length { expected: u64, got: u64 },
    #[error("the bytes that came are not the announced ones: their hash differs")]
    Hash,
    #[error("what had come of it before was not of this file and is thrown away: send it again")]
    Before,
    #[error("the disk is full")]
    DiskFull,
    #[error("the store cannot be written: {0}")]
    Io(io::Error),
}

impl ReceiveError {
    pub(crate) fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io(error),
        }
    }
}
