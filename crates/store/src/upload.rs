//! A file that comes in parts, each over a connection of its own.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use grange_protocol::BlobHash;

use crate::receiving::{ReceiveError, Receiving};
use crate::store::Store;

const EXTENSION: &str = ".upload";
/// In the place of a hash that nobody has announced.
const UNNAMED: &str = "unnamed";
/// Changes with every start of the host, and only then.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Of a hash: enough to tell starts of the host apart.
const BOOT_DIGITS: usize = 16;

/// Keeps what has come of a file until whoever sends it goes on, also over an end of the process. An
/// upload is written by one at a time; that is for its user to see to.
///
/// An end of the host it does not survive: what of it was on the disk by then nobody knows, and a file
/// without an announced hash has nothing to be verified by.
pub struct Upload {
    store: Arc<Store>,
    what: Announced,
    path: PathBuf,
    /// Of the bytes that are there, so that they need not be read again; with their number.
    hashed: Mutex<Option<(blake3::Hasher, u64)>>,
}

/// What was said of an upload when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Its name, which nobody guesses.
    pub key: BlobHash,
    /// Who has begun it, as a number of their own.
    pub owner: u64,
    /// Bytes.
    pub len: u64,
    /// What the bytes shall have; `None`: whatever they have.
    pub hash: Option<BlobHash>,
}

impl Store {
    pub fn begin_upload(self: &Arc<Self>, what: Announced) -> Result<Arc<Upload>, ReceiveError> {
        let upload = Upload::new(self.clone(), what, &boot().map_err(ReceiveError::of)?);
        fs::File::create_new(&upload.path).map_err(ReceiveError::of)?;
        Ok(Arc::new(upload))
    }

    /// What processes before this one have left. Uploads of an earlier start of the host are removed.
    pub fn uploads(self: &Arc<Self>) -> io::Result<Vec<Arc<Upload>>> {
        let boot = boot();
        let mut uploads = Vec::new();
        for entry in fs::read_dir(self.arriving())? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if !name.ends_with(EXTENSION) {
                continue;
            }
            let known =
                boot.as_ref().ok().and_then(|boot| Announced::of(name, boot).zip(Some(boot)));
            match known {
                Some((what, boot)) => uploads.push(Arc::new(Upload::new(self.clone(), what, boot))),
                None => fs::remove_file(&path)?,
            }
        }
        Ok(uploads)
    }
}

impl Upload {
    fn new(store: Arc<Store>, what: Announced, boot: &str) -> Self {
        let path = store.arriving().join(what.file_name(boot));
        Self { store, what, path, hashed: Mutex::default() }
    }

    pub fn announced(&self) -> &Announced {
        &self.what
    }

    /// Bytes that are there; `None` if the upload was [collected](Store::collect) or forgotten.
    pub fn offset(&self) -> Option<u64> {
        fs::metadata(&self.path).ok().map(|metadata| metadata.len())
    }

    /// Goes on at [`Receiving::offset`]. Dropped before it is finished, that leaves what has come;
    /// what it could not write, or has another hash than the announced one, is removed.
    pub fn go_on(self: &Arc<Self>) -> Result<Receiving, ReceiveError> {
        Receiving::go_on(self.store.clone(), self.clone())
    }

    /// Removes what is there.
    pub fn forget(&self) {
        // It may be gone already.
        let _ = fs::remove_file(&self.path);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What [`Upload::remember`] was told, once.
    pub(crate) fn recall(&self) -> Option<(blake3::Hasher, u64)> {
        self.hashed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn remember(&self, hasher: blake3::Hasher, written: u64) {
        *self.hashed.lock().unwrap_or_else(PoisonError::into_inner) = Some((hasher, written));
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("what", &self.what).finish_non_exhaustive()
    }
}

impl Announced {
    fn file_name(&self, boot: &str) -> String {
        let Self { key, owner, len, hash } = self;
        let hash = hash.map_or_else(|| UNNAMED.into(), |hash| hash.to_hex());
        format!("{key}.{owner:016x}.{len}.{hash}.{boot}{EXTENSION}")
    }

    /// What a file's name says, if it is of this start of the host.
    fn of(name: &str, boot: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(EXTENSION)?.split('.');
        let mut part = || parts.next();
        let (key, owner, len, hash) = (part()?, part()?, part()?, part()?);
        let what = Self {
            key: key.parse().ok()?,
            owner: u64::from_str_radix(owner, 16).ok()?,
            len: len.parse().ok()?,
            hash: if hash == UNNAMED { None } else { Some(hash.parse().ok()?) },
        };
        (part()? == boot).then_some(what)
    }
}

fn boot() -> io::Result<String> {
    let id = fs::read(BOOT_ID)?;
    Ok(BlobHash::of(&id).to_hex()[..BOOT_DIGITS].to_owned())
}
