//! The store itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use grange_protocol::BlobHash;
use grange_protocol::file::Blob;

use crate::dirsync::DirSync;
use crate::receiving::{ReceiveError, Receiving};

const BLOBS: &str = "blobs";
const ARRIVING: &str = "arriving";
/// Files lie in a directory for each beginning of their names: enough of them that none gets huge,
/// and few enough that a group of new files shares them when they are synced.
const SHARD_DIGITS: usize = 1;
/// Files that are doubted at a time. When there are more, all are trusted again: whoever sends one of
/// them sends it twice.
const DOUBTED_MAX: usize = 10_000;
/// Bytes that are copied at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Files named by their hash, below one directory that is nobody else's.
///
/// `blobs/ab/abcd…` are whole files; `arriving/` holds what is on its way.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    pub(crate) dirsync: DirSync,
    state: Mutex<State>,
    opened: Opened,
}

/// When the store was opened, by the clock that is never set and by the one on the wall.
#[derive(Clone, Copy, Debug)]
struct Opened {
    at: Instant,
    time: SystemTime,
}

#[derive(Debug, Default)]
struct State {
    /// Files that are arriving, so that two senders of one file do not write the same bytes.
    arriving: BTreeSet<PathBuf>,
    pins: BTreeMap<BlobHash, usize>,
    scratch_names: u64,
    /// Files of which somebody has sent bytes that were not theirs.
    doubted: BTreeSet<BlobHash>,
}

/// Keeps a file from being collected for as long as it lives.
#[derive(Debug)]
pub struct Pin {
    store: Arc<Store>,
    hash: BlobHash,
}

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub files: u64,
    pub bytes: u64,
}

/// What a copy of a store came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub files: u64,
    pub bytes: u64,
    /// Files that were there already.
    pub there: u64,
    /// Files that are not what their names say.
    pub damaged: Vec<BlobHash>,
}

impl Store {
    /// Opens the store in `root`, and makes it if it is not there.
    pub fn open(root: &Path) -> io::Result<Self> {
        let blobs = root.join(BLOBS);
        fs::create_dir_all(root.join(ARRIVING))?;
        for shard in 0..1 << (4 * SHARD_DIGITS) {
            fs::create_dir_all(blobs.join(format!("{shard:0SHARD_DIGITS$x}")))?;
        }
        let dirsync = DirSync::default();
        dirsync.sync(&blobs)?;
        Ok(Self { root: root.into(), dirsync, state: Mutex::default(), opened: Opened::now() })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the file with this hash is, if it is there. Nobody may write to it.
    pub fn path(&self, hash: BlobHash) -> PathBuf {
        let hex = hash.to_hex();
        self.root.join(BLOBS).join(&hex[..SHARD_DIGITS]).join(hex)
    }

    /// The file's length in bytes; `None` if the store does not have it.
    pub fn len_of(&self, hash: BlobHash) -> Option<u64> {
        fs::metadata(self.path(hash)).ok().map(|metadata| metadata.len())
    }

    pub fn contains(&self, hash: BlobHash) -> bool {
        self.len_of(hash).is_some()
    }

    /// Those of the files that the store lacks, each once. The others count as used now.
    pub fn missing(&self, hashes: impl IntoIterator<Item = BlobHash>) -> Vec<BlobHash> {
        let unique: BTreeSet<BlobHash> = hashes.into_iter().collect();
        unique.into_iter().filter(|hash| self.claim_len(*hash).is_none()).collect()
    }

    /// Opens a file for reading.
    pub fn read(&self, hash: BlobHash) -> io::Result<File> {
        File::open(self.path(hash))
    }

    /// Reads a small file whole. Longer than `max` bytes is an error.
    pub fn read_small(&self, hash: BlobHash, max: u64) -> io::Result<Vec<u8>> {
        match self.len_of(hash) {
            Some(len) if len <= max => fs::read(self.path(hash)),
            Some(len) => {
                Err(io::Error::other(format!("the file has {len} bytes, more than {max}")))
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Begins to receive a file. If an earlier attempt broke off, it goes on there
    /// ([`Receiving::offset`]).
    pub fn receive(self: &Arc<Self>, blob: Blob) -> Result<Receiving, ReceiveError> {
        Receiving::begin(self.clone(), blob)
    }

    /// Begins to receive a file of which only the length in bytes is known. Its name is the hash
    /// that it turns out to have ([`Receiving::hash`]).
    pub fn receive_unnamed(self: &Arc<Self>, len: u64) -> Result<Receiving, ReceiveError> {
        Receiving::begin_unnamed(self.clone(), len)
    }

    /// Keeps bytes that are in memory.
    pub fn put_bytes(self: &Arc<Self>, bytes: &[u8]) -> Result<Blob, ReceiveError> {
        let blob = Blob { hash: BlobHash::of(bytes), len: bytes.len() as u64 };
        self.put_known(blob, bytes)?;
        Ok(blob)
    }

    /// Keeps bytes that should have this hash and length.
    pub fn put_known(self: &Arc<Self>, blob: Blob, bytes: &[u8]) -> Result<(), ReceiveError> {
        if self.claim_len(blob.hash) == Some(blob.len) {
            return Ok(());
        }
        let mut receiving = Receiving::begin_anew(self.clone(), blob)?;
        receiving.write(bytes)?;
        receiving.finish()
    }

    /// Keeps the file from being collected, whether it is there already or not.
    pub fn pin(self: &Arc<Self>, hash: BlobHash) -> Pin {
        *self.lock().pins.entry(hash).or_default() += 1;
        Pin { store: self.clone(), hash }
    }

    /// Removes the files that have not been used for the longest time until the rest is at most
    /// `keep_bytes` long. Pinned files, those that `wanted` names, and those younger than
    /// `min_age` stay. Also removes what has been arriving for longer than a day.
    pub fn collect(
        &self,
        keep_bytes: u64,
        min_age: Duration,
        wanted: impl Fn(BlobHash) -> bool,
    ) -> io::Result<Collected> {
        self.collect_arriving()?;
        let mut files = self.files()?;
        files.sort_unstable_by_key(|(modified, _, _)| self.opened.used(*modified));
        let mut total: u64 = files.iter().map(|(_, len, _)| len).sum();
        let now = self.opened.time();
        let mut collected = Collected::default();
        for (modified, len, hash) in files {
            let used = self.opened.used(modified);
            let young = now.duration_since(used).unwrap_or_default() < min_age;
            if total <= keep_bytes || young {
                break;
            }
            if wanted(hash) || !self.remove_unused(hash, modified)? {
                continue;
            }
            total -= len;
            collected.files += 1;
            collected.bytes += len;
        }
        Ok(collected)
    }

    /// Removes a file unless it is pinned or was used since. Whoever touches it meanwhile is told the
    /// truth about whether it is there.
    fn remove_unused(&self, hash: BlobHash, since: SystemTime) -> io::Result<bool> {
        let state = self.lock();
        let path = self.path(hash);
        if state.pins.contains_key(&hash) || fs::metadata(&path)?.modified()? != since {
            return Ok(false);
        }
        fs::remove_file(path)?;
        Ok(true)
    }

    /// The file's length if it is there, which then counts as used now: whoever was told so has
    /// `min_age` of [`Store::collect`] to make use of it.
    pub fn claim_len(&self, hash: BlobHash) -> Option<u64> {
        let _state = self.lock();
        let file = File::open(self.path(hash)).ok()?;
        file.set_modified(self.opened.time()).ok()?;
        file.metadata().ok().map(|metadata| metadata.len())
    }

    /// Bytes of all files.
    pub fn stored(&self) -> io::Result<u64> {
        Ok(self.files()?.iter().map(|(_, len, _)| len).sum())
    }

    /// Gives another store what it lacks of this one's files, and goes on where an earlier copy broke
    /// off. Every file that is copied is hashed; one that is not what its name says is left out and
    /// named.
    pub fn copy_to(&self, to: &Arc<Self>) -> Result<Copied, ReceiveError> {
        let mut copied = Copied::default();
        for (_, len, hash) in self.files().map_err(ReceiveError::Io)? {
            let blob = Blob { hash, len };
            if to.len_of(hash) == Some(len) {
                copied.there += 1;
                continue;
            }
            match self.copy_one(blob, to) {
                Ok(()) => {
                    copied.files += 1;
                    copied.bytes += len;
                }
                Err(ReceiveError::Hash | ReceiveError::Length { .. }) => copied.damaged.push(hash),
                Err(error) => return Err(error),
            }
        }
        Ok(copied)
    }

    fn copy_one(&self, blob: Blob, to: &Arc<Self>) -> Result<(), ReceiveError> {
        let mut source = self.read(blob.hash).map_err(ReceiveError::Io)?;
        let mut receiving = to.receive(blob)?;
        source.seek(SeekFrom::Start(receiving.offset())).map_err(ReceiveError::Io)?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let got = source.read(&mut piece).map_err(ReceiveError::Io)?;
            if got == 0 {
                return receiving.finish();
            }
            receiving.write(&piece[..got])?;
        }
    }

    /// Notes that the file was used now, for [`Store::collect`].
    pub fn touch(&self, hash: BlobHash) -> io::Result<()> {
        File::open(self.path(hash))?.set_modified(self.opened.time())
    }

    /// All files: when each was used last, its length, its hash.
    fn files(&self) -> io::Result<Vec<(SystemTime, u64, BlobHash)>> {
        let mut files = Vec::new();
        for shard in fs::read_dir(self.root.join(BLOBS))? {
            for entry in fs::read_dir(shard?.path())? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                if let Some(hash) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                    files.push((metadata.modified()?, metadata.len(), hash));
                }
            }
        }
        Ok(files)
    }

    fn collect_arriving(&self) -> io::Result<()> {
        const STALE: Duration = Duration::from_secs(24 * 3600);
        for entry in fs::read_dir(self.arriving())? {
            let entry = entry?;
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if age > STALE && !self.lock().arriving.contains(&entry.path()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Where what is on its way lies.
    pub(crate) fn arriving(&self) -> PathBuf {
        self.root.join(ARRIVING)
    }

    /// Where what has come of a file lies until somebody goes on with it.
    pub(crate) fn resumable(&self, hash: BlobHash) -> PathBuf {
        self.arriving().join(hash.to_hex())
    }

    /// Makes a path one's own, if nobody is writing there.
    pub(crate) fn claim(&self, path: &Path) -> bool {
        self.lock().arriving.insert(path.into())
    }

    /// A path of one's own, to receive a file at that nobody goes on with.
    pub(crate) fn claim_scratch(&self) -> PathBuf {
        let mut state = self.lock();
        state.scratch_names += 1;
        let name = format!("{}.{}.scratch", std::process::id(), state.scratch_names);
        let path = self.arriving().join(name);
        state.arriving.insert(path.clone());
        path
    }

    /// What files that are stored now are said to be of.
    pub(crate) fn time(&self) -> SystemTime {
        self.opened.time()
    }

    pub(crate) fn unclaim(&self, path: &Path) {
        self.lock().arriving.remove(path);
    }

    /// From now on nobody goes on with what others have sent of a file.
    pub(crate) fn doubt(&self, hash: BlobHash) {
        let doubted = &mut self.lock().doubted;
        if doubted.len() == DOUBTED_MAX {
            doubted.clear();
        }
        doubted.insert(hash);
    }

    pub(crate) fn doubts(&self, hash: BlobHash) -> bool {
        self.lock().doubted.contains(&hash)
    }

    pub(crate) fn doubt_no_more(&self, hash: BlobHash) {
        self.lock().doubted.remove(&hash);
    }

    /// What broke off at a path of its own goes to where others go on with it, if it is more than
    /// lies there; else it is removed.
    pub(crate) fn leave(&self, path: &Path, hash: BlobHash) {
        let resumable = self.resumable(hash);
        let len = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let state = self.lock();
        let left = !state.arriving.contains(&resumable)
            && len(path) > len(&resumable)
            && fs::rename(path, &resumable).is_ok();
        if !left {
            // Gone already, if it is whole.
            let _ = fs::remove_file(path);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    fn now() -> Self {
        Self { at: Instant::now(), time: SystemTime::now() }
    }

    /// The time, by a clock that nobody sets.
    fn time(&self) -> SystemTime {
        self.time + self.at.elapsed()
    }

    /// When a file was used that says so. One from a time that is yet to come is from before the clock
    /// was set back: nobody has used it since the store was opened.
    fn used(&self, modified: SystemTime) -> SystemTime {
        if modified > self.time() { self.time } else { modified }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.store.lock();
        if let Some(count) = state.pins.get_mut(&self.hash) {
            *count -= 1;
            if *count == 0 {
                state.pins.remove(&self.hash);
            }
        }
    }
}
