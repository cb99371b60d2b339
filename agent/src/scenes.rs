//! A job's files on this host: fetched once, laid out as the submitter has them.
//!
//! `layouts/MANIFEST/home/ada/shot.blend` is a hard link to the store's file, so a layout costs no
//! space and relative and absolute paths resolve as they did at home.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use grange_blocking as blocking;
use grange_faults::point;
use grange_protocol::agent::{Failure, FailureKind};
use grange_protocol::file::Blob;
use grange_protocol::limits::MANIFEST_MAX;
use grange_protocol::{BlobHash, Manifest, codec};
use tokio::task::JoinSet;

use crate::supply::Supply;

/// A file that was used within this time is not collected, whatever the cache's limit.
const MIN_AGE: Duration = Duration::from_secs(600);

/// Fetches scenes and lays them out.
#[derive(Clone)]
pub(crate) struct Scenes {
    pub(crate) supply: Supply,
    /// Where layouts are made.
    pub(crate) layouts: PathBuf,
    /// What the store may keep of past jobs.
    pub(crate) cache_bytes: u64,
}

impl Scenes {
    /// Where a scene is laid out.
    pub(crate) fn layout(&self, manifest: BlobHash) -> PathBuf {
        self.layouts.join(manifest.to_hex())
    }

    /// Fetches what is missing and lays everything out.
    pub(crate) async fn prepare(&self, hash: BlobHash) -> Result<(), Failure> {
        let manifest = self.manifest(hash).await?;
        let mut fetching = JoinSet::new();
        for entry in manifest.entries() {
            let blob = Blob { hash: entry.blob, len: entry.len };
            let (supply, path) = (self.supply.clone(), entry.path.clone());
            fetching.spawn(async move {
                supply
                    .fetch(blob)
                    .await
                    .map_err(|why| why.failure(&format!("{path} cannot be fetched")))
            });
        }
        while let Some(fetched) = fetching.join_next().await {
            fetched.unwrap_or_else(|error| Err(cannot(&error.to_string())))?;
        }
        let scenes = self.clone();
        let laid_out = blocking::run(move || scenes.lay_out(hash, &manifest)).await;
        laid_out.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| {
            let reason = format!("the scene's files cannot be laid out: {error}");
            Failure::new(kind_of(&error), reason)
        })
    }

    /// Removes a layout, and from the store what has not been used for the longest time. The layout
    /// is out of the way at once: the same scene may be laid out anew while it is removed.
    pub(crate) fn release(&self, manifest: BlobHash) {
        let unused = self.set_aside(manifest);
        let scenes = self.clone();
        blocking::run(move || {
            if let Some(unused) = unused {
                let _ = fs::remove_dir_all(unused);
            }
            match scenes.supply.store.collect(scenes.cache_bytes, MIN_AGE, |_| false) {
                Ok(collected) if collected.files > 0 => tracing::info!(
                    "removed {} files ({} MiB) from the cache",
                    collected.files,
                    collected.bytes >> 20
                ),
                Ok(_) => {}
                Err(error) => tracing::warn!("the cache cannot be tidied: {error}"),
            }
        });
    }

    /// Where a layout is now that nobody will look for it.
    fn set_aside(&self, manifest: BlobHash) -> Option<PathBuf> {
        let layout = self.layout(manifest);
        (0..u32::MAX).find_map(|number| {
            let unused = self.layouts.join(format!("{manifest}.unused{number}"));
            match fs::rename(&layout, &unused) {
                Ok(()) => Some(Some(unused)),
                // An earlier one is still being removed.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => None,
                Err(_) => Some(None),
            }
        })?
    }

    async fn manifest(&self, hash: BlobHash) -> Result<Manifest, Failure> {
        self.supply
            .fetch_small(hash, MANIFEST_MAX)
            .await
            .map_err(|why| why.failure("the job's manifest cannot be fetched"))?;
        let bytes = self
            .supply
            .store
            .read_small(hash, MANIFEST_MAX)
            .map_err(|error| cannot(&format!("the job's manifest cannot be read: {error}")))?;
        codec::decode(&bytes).map_err(|error| {
            Failure::new(FailureKind::Scene, format!("the job's manifest is bad: {error}"))
        })
    }

    fn lay_out(&self, hash: BlobHash, manifest: &Manifest) -> io::Result<()> {
        let layout = self.layout(hash);
        if layout.exists() {
            return Ok(());
        }
        let making = self.layouts.join(format!("{hash}.making"));
        let _ = fs::remove_dir_all(&making);
        for entry in manifest.entries() {
            let target = making.join(entry.path.relative());
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            link_or_copy(&self.supply.store.path(entry.blob), &target)?;
        }
        point("layout.rename")?;
        fs::rename(&making, &layout)?;
        point("layout.named")
    }
}

/// A hard link where the file system has them and the file has not too many.
pub(crate) fn link_or_copy(source: &Path, target: &Path) -> io::Result<()> {
    match fs::hard_link(source, target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => fs::copy(source, target).map(drop),
        outcome => outcome,
    }
}

/// Whose fault it is that something cannot be written.
fn kind_of(error: &io::Error) -> FailureKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureKind::Storage,
        _ => FailureKind::Host,
    }
}

fn cannot(reason: &str) -> Failure {
    Failure::new(FailureKind::Host, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use grange_protocol::manifest::ManifestEntry;
    use grange_store::Store;
    use std::sync::Arc;
    use tokio::sync::watch;

    /// Jobs of one scene follow each other closely: the second is laid out while the first one's
    /// layout is removed.
    #[tokio::test]
    async fn a_scene_can_be_laid_out_anew_at_once_after_it_was_released() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("store")).unwrap());
        let blob = store.put_bytes(b"a scene").unwrap();
        let entries = (0..200).map(|at| ManifestEntry {
            path: format!("/p/{at}.blend").parse().unwrap(),
            blob: blob.hash,
            len: blob.len,
        });
        let manifest = Manifest::new(entries.collect()).unwrap();
        let manifest = store.put_bytes(&codec::encode(&manifest).unwrap()).unwrap().hash;
        let (_connection, connected) = watch::channel(None);
        let supply = Supply::new(store, connected);
        let layouts = dir.path().join("layouts");
        fs::create_dir(&layouts).unwrap();
        let scenes = Scenes { supply, layouts: layouts.clone(), cache_bytes: u64::MAX };
        for _ in 0..3 {
            scenes.prepare(manifest).await.unwrap();
            scenes.release(manifest);
            assert!(!scenes.layout(manifest).exists(), "half of it could be taken for all of it");
        }
        scenes.prepare(manifest).await.unwrap();
        // Whatever is still being removed is gone after this.
        while fs::read_dir(&layouts).unwrap().count() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(fs::read_dir(scenes.layout(manifest).join("p")).unwrap().count(), 200);
    }
}
