//! A scene with everything that it needs, hashed and ready to travel.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use grange_blender::file::{BlendFile, MissingFile, TracedFile};
use grange_protocol::file::Blob;
use grange_protocol::manifest::{BadManifest, ManifestEntry};
use grange_protocol::{BlobHash, LayoutPath, Manifest, RefusalCode, codec};
use grange_transport::exchange;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};

use crate::farm::{ClientError, Farm, MayBeLost};

/// Files that are sent at once.
const SENDS: usize = 16;
/// Bytes hashed at a time.
const PIECE_BYTES: usize = 1 << 20;

/// The files of a scene, by path and by hash.
#[derive(Debug)]
pub struct Package {
    pub manifest: Manifest,
    /// The .blend file's place in the manifest.
    pub blend: LayoutPath,
    /// What the scene names and what is not there.
    pub missing: Vec<MissingFile>,
    sources: BTreeMap<BlobHash, (PathBuf, u64)>,
}

/// How an upload went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uploaded {
    pub files: u64,
    pub bytes: u64,
    /// Of all files together, also those that the farm had.
    pub total_files: u64,
    pub total_bytes: u64,
}

impl Package {
    /// Traces and hashes. Blocks; with many gigabytes for a while: `on_bytes` hears of every bit
    /// of it, as (hashed, of all).
    pub fn of(file: &BlendFile, on_bytes: impl Fn(u64, u64) + Sync) -> Result<Self, PackageError> {
        let trace = file.trace();
        let entries = hash_all(&trace.files, &on_bytes)?;
        let blend = layout_path(file.path())?;
        let mut sources = BTreeMap::new();
        for (entry, file) in entries.iter().zip(&trace.files) {
            sources.insert(entry.blob, (file.path.clone(), entry.len));
        }
        Ok(Self { manifest: Manifest::new(entries)?, blend, missing: trace.missing, sources })
    }

    /// Sends what the farm lacks, and the manifest. Returns the manifest's hash, for the
    /// submission. `on_bytes` hears of every file sent, as (sent, of those to send).
    pub async fn upload(
        &self,
        farm: &Farm,
        on_bytes: impl Fn(u64, u64),
    ) -> Result<(BlobHash, Uploaded), PackageError> {
        let missing = farm.missing(self.sources.keys().copied().collect()).await?;
        let to_send: Vec<(PathBuf, Blob)> = missing
            .iter()
            .filter_map(|hash| {
                let (path, len) = self.sources.get(hash)?;
                Some((path.clone(), Blob { hash: *hash, len: *len }))
            })
            .collect();
        let total: u64 = to_send.iter().map(|(_, blob)| blob.len).sum();
        on_bytes(0, total);
        let mut sent = 0;
        let uploaded = Uploaded {
            files: to_send.len() as u64,
            bytes: total,
            total_files: self.manifest.entries().len() as u64,
            total_bytes: self.manifest.total_len(),
        };
        let permits = std::sync::Arc::new(Semaphore::new(SENDS));
        let mut sending = JoinSet::new();
        for (path, blob) in to_send {
            let (connection, permits) = (farm.connection().clone(), permits.clone());
            sending.spawn(async move {
                let _permit = permits.acquire().await;
                send(&connection, path, blob).await.map(|()| blob.len)
            });
        }
        while let Some(done) = sending.join_next().await {
            sent += done.map_err(io::Error::other).map_err(ClientError::Io)??;
            on_bytes(sent, total);
        }
        let manifest = codec::encode(&self.manifest).map_err(|error| {
            PackageError::Farm(ClientError::Io(io::Error::other(error.to_string())))
        })?;
        let blob = Blob { hash: BlobHash::of(&manifest), len: manifest.len() as u64 };
        if !farm.missing(vec![blob.hash]).await?.is_empty() {
            farm.put_bytes(blob, manifest).await?;
        }
        Ok((blob.hash, uploaded))
    }
}

async fn send(
    connection: &grange_transport::Connection,
    path: PathBuf,
    blob: Blob,
) -> Result<(), PackageError> {
    let mut again = true;
    loop {
        let opening = path.clone();
        let source = spawn_blocking(move || File::open(opening)).await.map_err(io::Error::other);
        let source = source
            .and_then(|source| source)
            .map_err(|error| PackageError::File(path.clone(), error))?;
        match exchange::put_blob(connection, blob, source).await.map_err(ClientError::from) {
            Ok(()) => return Ok(()),
            Err(ClientError::Refused(refusal)) if refusal.code == RefusalCode::Invalid => {
                return Err(PackageError::Changed(path));
            }
            // The farm may have gone on with what somebody else had sent under this hash.
            Err(ClientError::Refused(refusal)) if refusal.code == RefusalCode::NotNow && again => {
                again = false;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Hashes on all cores, a file per core.
fn hash_all(
    files: &[TracedFile],
    on_bytes: &(impl Fn(u64, u64) + Sync),
) -> Result<Vec<ManifestEntry>, PackageError> {
    let total: u64 = files.iter().filter_map(|file| Some(file.path.metadata().ok()?.len())).sum();
    let (next, hashed) = (AtomicUsize::new(0), AtomicU64::new(0));
    let results: Mutex<Vec<(usize, Result<ManifestEntry, PackageError>)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(files.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((at, file)) = take(files, &next) {
                    let entry = hash(&file.path, |bytes| {
                        on_bytes(hashed.fetch_add(bytes, Ordering::Relaxed) + bytes, total);
                    });
                    results
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push((at, entry));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, entry)| entry).collect()
}

fn take<'a>(files: &'a [TracedFile], next: &AtomicUsize) -> Option<(usize, &'a TracedFile)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    Some((at, files.get(at)?))
}

fn hash(path: &Path, on_bytes: impl Fn(u64)) -> Result<ManifestEntry, PackageError> {
    use std::io::Read;
    let unreadable = |error| PackageError::File(path.into(), error);
    let mut file = File::open(path).map_err(unreadable)?;
    let mut hasher = blake3::Hasher::new();
    let (mut piece, mut len) = (vec![0; PIECE_BYTES], 0);
    loop {
        let got = file.read(&mut piece).map_err(unreadable)?;
        if got == 0 {
            break;
        }
        hasher.update(&piece[..got]);
        len += got as u64;
        on_bytes(got as u64);
    }
    Ok(ManifestEntry { path: layout_path(path)?, blob: hasher.finalize().into(), len })
}

fn layout_path(path: &Path) -> Result<LayoutPath, PackageError> {
    path.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| PackageError::Name(path.into()))
}

#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("{0} cannot be read: {1}")]
    File(PathBuf, io::Error),
    #[error("{0} changed while it was being sent: submit again")]
    Changed(PathBuf),
    #[error("{0} has a name that cannot travel (not UTF-8, or too long): rename it")]
    Name(PathBuf),
    #[error(transparent)]
    Manifest(#[from] BadManifest),
    #[error(transparent)]
    Farm(#[from] ClientError),
}

impl MayBeLost for PackageError {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Farm(error) if error.is_lost())
    }
}
