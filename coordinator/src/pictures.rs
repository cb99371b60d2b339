//! Small pictures of files, kept beside the store: a cache on the disk, and never a fact.
//!
//! Agents make them of what they have committed, and the coordinator of what somebody looks at that has
//! none; an agent sends only those of a frame that it has just committed. All sizes of a file's picture
//! are one file, `ab/abcd…`: how long each is, then their bytes. Nothing is synced, so what a crash has left
//! may be damaged; it is then as if it were not there. The first pictures of a file stay. With too many
//! bytes the oldest go, with a full disk all do, and with the file that they are of they go too.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use grange_blender::thumbnail::{JPEG_BEGIN, JPEG_END, is_jpeg};
use grange_blocking as blocking;
use grange_protocol::file::PICTURE_SIDES;
use grange_protocol::limits::picture_max;
use grange_protocol::{AgentId, BlobHash};
use tokio::sync::Semaphore;

use crate::storage::Storage;

/// Where they are, in the state directory.
pub(crate) const PICTURES_DIR: &str = "pictures";
/// What is being written.
const ARRIVING: &str = "arriving";
const SIZES: usize = PICTURE_SIDES.len();
const LEN_BYTES: usize = size_of::<u32>();
/// Files of which pictures arrive at once: they are in memory until they are whole.
const ARRIVING_MAX: usize = 4;
/// Frames of which it is known who has just committed them. An agent has few that wait for their pictures.
const COMMITS_NOTED: usize = 4_096;
/// A file takes whole blocks of the disk, and so does what is known of it. Bytes.
const BLOCK: u64 = 4_096;
/// When there are too many, so much of what may stay goes besides, one part in …
const TRIM_PARTS: u64 = 10;

/// A picture of each size, the smallest first.
pub(crate) type Sizes = [Vec<u8>; SIZES];

/// Pictures of files, and where they come from.
pub(crate) struct Pictures {
    dir: PathBuf,
    limit_bytes: u64,
    /// Of all, as far as it is known: each round counts anew.
    bytes: AtomicU64,
    trimming: Mutex<()>,
    /// Of agents that send some; more wait.
    pub(crate) arriving: Semaphore,
    written: AtomicU64,
    /// Frames and who has committed them, the latest last.
    commits: Mutex<VecDeque<(BlobHash, AgentId)>>,
    pub(crate) counts: Counts,
}

/// Since the start, in files of which there are pictures.
#[derive(Default)]
pub(crate) struct Counts {
    /// Sent by agents, and kept.
    pub(crate) sent: AtomicU64,
    /// Made here, because somebody looked.
    pub(crate) made: AtomicU64,
    /// Left out by agents, which did not keep up.
    pub(crate) skipped: AtomicU64,
}

/// A file's pictures on the disk.
struct Kept {
    modified: SystemTime,
    bytes: u64,
    of: BlobHash,
}

impl Pictures {
    /// In a directory that is made when it is needed. With a limit of 0 none are kept.
    pub(crate) fn new(dir: PathBuf, limit_bytes: u64) -> Self {
        let _ = fs::remove_dir_all(dir.join(ARRIVING));
        Self {
            dir,
            limit_bytes,
            bytes: AtomicU64::new(0),
            trimming: Mutex::default(),
            arriving: Semaphore::new(ARRIVING_MAX),
            written: AtomicU64::new(0),
            commits: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// From now on all go whenever the disk becomes full, and now if it is: files and journal need it
    /// more. The farm's loop is not asked, which waits for the journal then.
    pub(crate) fn give_way(self: &Arc<Self>, storage: &Storage) {
        let (pictures, mut full) = (self.clone(), storage.seen_full());
        tokio::spawn(async move {
            while full.wait_for(|full| *full).await.is_ok() {
                let clearing = pictures.clone();
                let _ = blocking::run(move || clearing.clear()).await;
                if full.wait_for(|full| !*full).await.is_err() {
                    return;
                }
            }
        });
    }

    /// An agent has committed a frame, and may send pictures of it for a while. One that has not `sent`
    /// the file's bytes may only if somebody just has: else it could name any file of the farm its own.
    pub(crate) fn note_commit(&self, of: BlobHash, agent: AgentId, sent: bool) {
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        if sent || commits.iter().any(|(hash, _)| *hash == of) {
            if commits.len() == COMMITS_NOTED {
                commits.pop_front();
            }
            commits.push_back((of, agent));
        }
    }

    /// Whether the agent has just committed that frame.
    pub(crate) fn may_send(&self, of: BlobHash, agent: AgentId) -> bool {
        let commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        commits.contains(&(of, agent))
    }

    /// Whether agents shall send some.
    pub(crate) fn are_wanted(&self) -> bool {
        self.limit_bytes > 0
    }

    /// Bytes of all.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn has(&self, of: BlobHash) -> bool {
        self.path(of).exists()
    }

    /// The picture of that size, an index of [`PICTURE_SIDES`]. A damaged one goes.
    pub(crate) fn get(&self, of: BlobHash, size: usize) -> Option<Vec<u8>> {
        let mut file = File::open(self.path(of)).ok()?;
        let read = read(&mut file, size);
        if read.is_err() {
            let _ = fs::remove_file(self.path(of));
        }
        read.ok()
    }

    /// Keeps pictures if it can, and says whether it does; there is no other promise.
    pub(crate) fn keep(&self, of: BlobHash, sizes: &Sizes) -> bool {
        let too_large = |(bytes, side): (&Vec<u8>, u32)| bytes.len() > picture_max(side) as usize;
        if !self.are_wanted() || self.has(of) || sizes.iter().zip(PICTURE_SIDES).any(too_large) {
            return false;
        }
        match self.write(of, sizes) {
            Ok(bytes) => {
                let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
                if before + bytes > self.limit_bytes {
                    self.trim();
                }
                true
            }
            Err(error) => {
                tracing::debug!("the pictures of {of} are not kept: {error}");
                false
            }
        }
    }

    /// The same with what somebody has sent, if each is a JPEG of its size; says which is none. The
    /// pixels are not looked at.
    pub(crate) fn keep_sent(&self, of: BlobHash, sizes: &Sizes) -> Result<bool, String> {
        let mut pictures = sizes.iter().zip(PICTURE_SIDES);
        match pictures.find(|(bytes, side)| !is_jpeg(bytes, *side)) {
            Some((_, side)) => Err(format!("one is no JPEG of at most {side} pixels a side")),
            None => Ok(self.keep(of, sizes)),
        }
    }

    /// Removes those of files that are not `there` any more, and the oldest if they are too many.
    pub(crate) fn tidy(&self, there: impl Fn(BlobHash) -> bool) {
        for kept in self.all() {
            if !there(kept.of) {
                let _ = fs::remove_file(self.path(kept.of));
            }
        }
        self.trim();
    }

    /// Removes all that are on the disk, whether they are counted yet or not.
    fn clear(&self) {
        if !self.all().is_empty() {
            tracing::info!("the small pictures of frames go, for the disk is full");
            self.tidy(|_| false);
        }
    }

    fn trim(&self) {
        let _trimming = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.all();
        let mut total: u64 = all.iter().map(|kept| kept.bytes).sum();
        if total > self.limit_bytes {
            all.sort_unstable_by_key(|kept| kept.modified);
            let target = self.limit_bytes - self.limit_bytes / TRIM_PARTS;
            for kept in all {
                if total <= target {
                    break;
                }
                if fs::remove_file(self.path(kept.of)).is_ok() {
                    total -= kept.bytes;
                }
            }
        }
        self.bytes.store(total, Ordering::Relaxed);
    }

    fn all(&self) -> Vec<Kept> {
        let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
        let files = entries(&self.dir).flat_map(|shard| entries(&shard.path()));
        let kept = files.filter_map(|entry| {
            let of = entry.file_name().to_str()?.parse().ok()?;
            let metadata = entry.metadata().ok()?;
            Some(Kept { modified: metadata.modified().ok()?, bytes: on_disk(metadata.len()), of })
        });
        kept.collect()
    }

    fn path(&self, of: BlobHash) -> PathBuf {
        let hex = of.to_hex();
        self.dir.join(&hex[..2]).join(hex)
    }

    /// Returns the bytes that it takes.
    fn write(&self, of: BlobHash, sizes: &Sizes) -> io::Result<u64> {
        let path = self.path(of);
        let arriving = self.dir.join(ARRIVING);
        fs::create_dir_all(&arriving)?;
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let arriving = arriving.join(number.to_string());
        let lens = sizes.iter().flat_map(|bytes| (bytes.len() as u32).to_le_bytes());
        let bytes: Vec<u8> = lens.chain(sizes.iter().flatten().copied()).collect();
        let written = fs::write(&arriving, &bytes).and_then(|()| {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::rename(&arriving, &path)
        });
        if written.is_err() {
            let _ = fs::remove_file(&arriving);
        }
        written.map(|()| on_disk(bytes.len() as u64))
    }
}

fn on_disk(len: u64) -> u64 {
    (len.div_ceil(BLOCK) + 1) * BLOCK
}

fn read(file: &mut File, size: usize) -> io::Result<Vec<u8>> {
    let mut head = [0; SIZES * LEN_BYTES];
    file.read_exact(&mut head)?;
    let (lens, _) = head.as_chunks::<LEN_BYTES>();
    let lens: Vec<u32> = lens.iter().map(|len| u32::from_le_bytes(*len)).collect();
    let before: u64 = lens[..size].iter().map(|len| u64::from(*len)).sum();
    let damaged = || io::Error::other("it is damaged");
    if lens[size] > picture_max(PICTURE_SIDES[size]) {
        return Err(damaged());
    }
    file.seek(SeekFrom::Start(head.len() as u64 + before))?;
    let mut bytes = vec![0; lens[size] as usize];
    file.read_exact(&mut bytes)?;
    if bytes.starts_with(&JPEG_BEGIN) && bytes.ends_with(&JPEG_END) {
        Ok(bytes)
    } else {
        Err(damaged())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn of(number: u8) -> BlobHash {
        BlobHash::of(&[number])
    }

    /// As much of a JPEG as is looked at when it is read.
    fn pictures(len: usize) -> Sizes {
        let picture = |fill: u8| [&JPEG_BEGIN[..], &vec![fill; len - 4], &JPEG_END].concat();
        [picture(1), picture(2), picture(3)]
    }

    fn hold(dir: &Path, limit_bytes: u64) -> Pictures {
        Pictures::new(dir.join("pictures"), limit_bytes)
    }

    #[test]
    fn each_size_comes_back_also_after_a_restart_and_the_first_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (pictures(100), pictures(90));
        let kept = hold(dir.path(), 1 << 20);
        assert_eq!(kept.get(of(1), 0), None);
        assert!(kept.keep(of(1), &first));
        assert!(!kept.keep(of(1), &second));
        assert_eq!(kept.bytes(), 2 * BLOCK);
        let again = hold(dir.path(), 1 << 20);
        let each = [0, 1, 2].map(|size| again.get(of(1), size));
        assert_eq!(each, first.map(Some));
        again.tidy(|_| true);
        assert_eq!(again.bytes(), 2 * BLOCK);
        again.tidy(|hash| hash != of(1));
        assert!(!again.has(of(1)));
        assert_eq!(again.bytes(), 0);
    }

    #[test]
    fn with_too_many_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let kept = hold(dir.path(), 20 * BLOCK);
        for number in 0..10 {
            kept.keep(of(number), &pictures(100));
            let age = Duration::from_secs(1_000 - u64::from(number));
            let file = File::open(kept.path(of(number))).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        assert_eq!(kept.bytes(), 20 * BLOCK);
        kept.keep(of(10), &pictures(100));
        let left: Vec<u8> = (0..=10).filter(|number| kept.has(of(*number))).collect();
        assert_eq!(left, (2..=10).collect::<Vec<u8>>());
        assert_eq!(kept.bytes(), 18 * BLOCK);
        // After a start nothing is counted yet.
        let again = hold(dir.path(), 20 * BLOCK);
        assert_eq!(again.bytes(), 0);
        again.clear();
        assert_eq!((again.bytes(), again.all().len()), (0, 0));
    }

    #[test]
    fn only_who_has_just_committed_a_frame_sends_pictures_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let kept = hold(dir.path(), 1 << 20);
        let [first, second] = [1, 2].map(|id| AgentId(uuid::Uuid::from_u128(id)));
        kept.note_commit(of(1), first, false);
        assert!(!kept.may_send(of(1), first), "it named a file that was there");
        kept.note_commit(of(1), first, true);
        assert!(kept.may_send(of(1), first) && !kept.may_send(of(1), second));
        // Two agents have rendered the same.
        kept.note_commit(of(1), second, false);
        assert!(kept.may_send(of(1), first) && kept.may_send(of(1), second));
        for _ in 0..COMMITS_NOTED {
            kept.note_commit(of(2), first, true);
        }
        assert!(kept.may_send(of(2), first));
        assert!(!kept.may_send(of(1), first) && !kept.may_send(of(1), second), "long ago");
    }

    #[test]
    fn what_a_crash_has_damaged_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let kept = hold(dir.path(), 1 << 20);
        let whole = pictures(5_000);
        for damage in [0, 3, 12, 5_000, 10_000, 15_011] {
            kept.keep(of(1), &whole);
            let path = kept.path(of(1));
            let len = fs::metadata(&path).unwrap().len();
            // Cut off, and then as long as it was: what was not written is zeros.
            let file = File::options().write(true).open(&path).unwrap();
            file.set_len(damage).unwrap();
            file.set_len(len).unwrap();
            assert_eq!(kept.get(of(1), 2), None, "{damage}");
            assert!(!kept.has(of(1)), "{damage}: so that it can be made anew");
        }
    }

    #[test]
    fn only_jpegs_of_their_size_are_taken_and_none_where_none_are_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let kept = hold(dir.path(), 1 << 20);
        let told = kept.keep_sent(of(1), &pictures(100)).unwrap_err();
        assert_eq!(told, "one is no JPEG of at most 192 pixels a side");
        assert!(!kept.has(of(1)));
        let mut long = pictures(100);
        long[0] = pictures(picture_max(PICTURE_SIDES[0]) as usize + 1)[0].clone();
        kept.keep(of(1), &long);
        assert!(!kept.has(of(1)));
        let none = hold(&dir.path().join("none"), 0);
        assert!(!none.keep(of(1), &pictures(100)));
        assert!(!none.are_wanted() && !dir.path().join("none").exists());
    }
}
