//! Jobs that have ended go in time, and so do files that no job has.
//!
//! [`grange_scheduler::due`] decides which. A job's record goes from the journal first, in the
//! transaction of its fact; its files go after that, by what the journal names then. So a crash at any
//! moment leaves files too many, never too few, and the next round removes them: the first one runs at
//! the start. Small pictures go with the files that they are of. Files that are on their way, were asked
//! for lately, or are read by somebody stay.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use grange_blocking as blocking;
use grange_protocol::limits::MANIFEST_MAX;
use grange_protocol::{BlobHash, JobId, Manifest, codec};
use grange_scheduler::{Ended, Event, Rules, due};
use grange_store::{Collected, Store};
use rustix::fs::FlockOperation;

use crate::config::Keep;
use crate::connection::Shared;
use crate::farm::Farm;
use crate::journal::Place;

/// How often downloads are told and ages looked at.
const EVERY: Duration = Duration::from_secs(10);
/// A round that looks at all files comes after so many of these, and when a job is old enough to go.
const TURNS_PER_ROUND: u32 = 60;
/// Downloads that are noted between two rounds. Full, more are not: their jobs stay for longer.
const FETCHED_NOTED: usize = 100_000;
/// Jobs whose outputs were listed and not downloaded. Full, more are not noted: they stay for longer.
const JOBS_NOTED: usize = 100_000;
/// Jobs that one turn of the farm's loop forgets.
const JOBS_AT_ONCE: usize = 100;
/// Whoever copies the store holds the lock of its directory, and no file goes meanwhile.
const LOCK: &str = "store";

/// What is known of downloads, and what rounds came to.
pub(crate) struct Keeping {
    keep: Keep,
    fetched: Mutex<BTreeSet<BlobHash>>,
    /// Jobs whose outputs somebody who is no agent asked for. A file is fetched by its hash, and jobs
    /// often have the same one: a black frame must not make strangers' jobs downloaded ones.
    asked: Mutex<BTreeSet<JobId>>,
    stored_bytes: AtomicU64,
    collected_jobs: AtomicU64,
    collected_files: AtomicU64,
    collected_bytes: AtomicU64,
}

/// For people, since the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// As of the latest round.
    pub(crate) stored_bytes: u64,
    pub(crate) collected_jobs: u64,
    pub(crate) collected_files: u64,
    pub(crate) collected_bytes: u64,
}

/// What the farm says before a round.
struct Looked {
    ended: Vec<Ended>,
    /// What each job needs.
    manifests: BTreeMap<JobId, BlobHash>,
}

impl Keeping {
    pub(crate) fn new(keep: Keep) -> Self {
        Self {
            keep,
            fetched: Mutex::default(),
            asked: Mutex::default(),
            stored_bytes: AtomicU64::new(0),
            collected_jobs: AtomicU64::new(0),
            collected_files: AtomicU64::new(0),
            collected_bytes: AtomicU64::new(0),
        }
    }

    /// Somebody who is no agent asks what the job has rendered.
    pub(crate) fn note_asked(&self, job: JobId) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() < JOBS_NOTED {
            asked.insert(job);
        }
    }

    fn forget_asked(&self, jobs: &BTreeSet<JobId>) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|job| !jobs.contains(job));
    }

    fn was_asked(&self, job: JobId) -> bool {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).contains(&job)
    }

    /// Somebody who is no agent downloads the file.
    pub(crate) fn note_fetched(&self, hash: BlobHash) {
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        if fetched.len() < FETCHED_NOTED {
            fetched.insert(hash);
        }
    }

    pub(crate) fn kept(&self) -> Kept {
        Kept {
            stored_bytes: self.stored_bytes.load(Ordering::Relaxed),
            collected_jobs: self.collected_jobs.load(Ordering::Relaxed),
            collected_files: self.collected_files.load(Ordering::Relaxed),
            collected_bytes: self.collected_bytes.load(Ordering::Relaxed),
        }
    }

    /// How long what stays.
    pub(crate) fn rules(&self) -> Keep {
        self.keep
    }

    fn take_fetched(&self) -> BTreeSet<BlobHash> {
        std::mem::take(&mut *self.fetched.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, collected: Collected, stored: u64) {
        self.collected_files.fetch_add(collected.files, Ordering::Relaxed);
        self.collected_bytes.fetch_add(collected.bytes, Ordering::Relaxed);
        self.stored_bytes.store(stored, Ordering::Relaxed);
    }
}

/// Begins the rounds, which end with the farm's loop.
pub(crate) fn keep(shared: Arc<Shared>, place: Place, state_dir: &Path) {
    let lock = state_dir.join(LOCK);
    tokio::spawn(async move {
        for turn in (0..TURNS_PER_ROUND).cycle() {
            if shared.farm.look(|_| ()).await.is_err() {
                return;
            }
            if let Err(error) = take_turn(&shared, turn == 0, &place, &lock).await {
                tracing::warn!("not everything that is old was collected this time: {error:#}");
            }
            tokio::time::sleep(EVERY).await;
        }
    });
}

/// Held by whoever copies the store: until it is dropped, no file goes.
pub(crate) fn hold_off(state_dir: &Path) -> anyhow::Result<File> {
    let path = state_dir.join(LOCK);
    let file = File::open(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    rustix::fs::flock(&file, FlockOperation::LockShared)?;
    Ok(file)
}

async fn take_turn(
    shared: &Arc<Shared>,
    is_round: bool,
    place: &Place,
    lock: &Path,
) -> anyhow::Result<()> {
    tell_of_downloads(shared).await?;
    let rules = rules(shared.keeping.keep, u64::MAX);
    let is_due =
        move |farm: &mut Farm| !due(rules, farm.now(), 0, &farm.core.ended_jobs()).is_empty();
    if is_round || shared.farm.look(is_due).await? {
        round(shared, place, lock).await?;
    }
    Ok(())
}

fn rules(keep: Keep, bytes: u64) -> Rules {
    Rules { fetched_ms: in_ms(keep.fetched), unfetched_ms: in_ms(keep.unfetched), bytes }
}

async fn round(shared: &Arc<Shared>, place: &Place, lock: &Path) -> anyhow::Result<()> {
    let keep = shared.keeping.keep;
    let store = shared.store.clone();
    let (stored, limit) = blocking::run(move || measure(&store, keep)).await??;
    let looked = shared.farm.look(look).await?;
    let manifests = looked.manifests;
    let sizes = sizes_of(&shared.store, &manifests).await?;
    let ended: Vec<Ended> = looked
        .ended
        .into_iter()
        .map(|job| Ended { bytes: job.bytes + sizes.get(&job.job).copied().unwrap_or(0), ..job })
        .collect();
    let now = shared.farm.look(|farm| farm.now()).await?;
    let old = due(rules(keep, limit), now, stored, &ended);
    collect_jobs(shared, &old).await?;
    let logs = grange_protocol::Millis(now.0.saturating_sub(in_ms(keep.logs)));
    shared.farm.look(move |farm| farm.forget_logs(logs)).await?;
    let Some(_lock) = try_lock(lock)? else { return Ok(()) };
    let collected = collect_files(shared, place).await?;
    let tidying = shared.clone();
    let stored = blocking::run(move || {
        tidying.pictures.tidy(|of| tidying.store.contains(of));
        tidying.store.stored()
    });
    let stored = stored.await??;
    shared.keeping.note(collected, stored);
    if !old.is_empty() || collected.files > 0 {
        tracing::info!(
            "collected {} jobs that had ended long ago and {} files ({} MiB); {} MiB are kept",
            old.len(),
            collected.files,
            collected.bytes >> 20,
            stored >> 20
        );
    }
    if stored > limit {
        tracing::warn!(
            "assets and outputs have {} GiB, more than the {} GiB of `store_gib`, and nothing more may \
             go: download finished jobs, cancel some, or allow more",
            stored >> 30,
            limit >> 30
        );
    }
    Ok(())
}

async fn tell_of_downloads(shared: &Shared) -> anyhow::Result<()> {
    let mut jobs = BTreeSet::new();
    for hash in shared.keeping.take_fetched() {
        let with = shared.archive.jobs_with(hash).await?;
        jobs.extend(with.into_iter().filter(|job| shared.keeping.was_asked(*job)));
    }
    if !jobs.is_empty() {
        shared.keeping.forget_asked(&jobs);
        let jobs = jobs.into_iter().collect();
        shared.farm.ask(move |request| Event::Fetched { request, jobs }).await?;
    }
    Ok(())
}

fn look(farm: &mut Farm) -> Looked {
    let jobs = &farm.core.state().jobs;
    let manifest = |(id, job): (&JobId, &grange_scheduler::Job)| Some((*id, job.spec.manifest?));
    Looked { ended: farm.core.ended_jobs(), manifests: jobs.iter().filter_map(manifest).collect() }
}

async fn collect_jobs(shared: &Shared, old: &[JobId]) -> anyhow::Result<()> {
    let count = |farm: &mut Farm| farm.core.state().jobs.len() as u64;
    for some in old.chunks(JOBS_AT_ONCE) {
        let jobs = some.to_vec();
        let before = shared.farm.look(count).await?;
        shared.farm.ask(move |request| Event::Collect { request, jobs }).await?;
        let after = shared.farm.look(count).await?;
        let gone = before.saturating_sub(after);
        shared.keeping.collected_jobs.fetch_add(gone, Ordering::Relaxed);
    }
    Ok(())
}

/// Removes the files that no job has and that nobody has asked for lately.
async fn collect_files(shared: &Shared, place: &Place) -> anyhow::Result<Collected> {
    // Outputs that are committed after this look, and files of jobs that come after it, are young.
    let committed = place.committed().await?;
    let manifests = shared.farm.look(look).await?.manifests;
    let (store, min_age) = (shared.store.clone(), shared.keeping.keep.uploads);
    let collected = blocking::run(move || {
        let mut wanted: BTreeSet<BlobHash> = committed.into_iter().map(|blob| blob.hash).collect();
        let manifests: BTreeSet<BlobHash> = manifests.into_values().collect();
        for hash in manifests {
            wanted.insert(hash);
            let manifest = read_manifest(&store, hash)?;
            wanted.extend(manifest.entries().iter().map(|entry| entry.blob));
        }
        store.collect(0, min_age, |hash| wanted.contains(&hash)).context("the store")
    });
    collected.await?
}

/// What becomes free with a job besides its outputs: the scene, if no other job has the same.
async fn sizes_of(
    store: &Arc<Store>,
    manifests: &BTreeMap<JobId, BlobHash>,
) -> anyhow::Result<BTreeMap<JobId, u64>> {
    let mut users: BTreeMap<BlobHash, Vec<JobId>> = BTreeMap::new();
    for (job, hash) in manifests {
        users.entry(*hash).or_default().push(*job);
    }
    let store = store.clone();
    let sizes = blocking::run(move || {
        let mut sizes = BTreeMap::new();
        for (hash, jobs) in users {
            if let [job] = jobs[..] {
                let manifest = read_manifest(&store, hash)?;
                sizes.insert(job, manifest.entries().iter().map(|entry| entry.len).sum());
            }
        }
        anyhow::Ok(sizes)
    });
    sizes.await?
}

/// Without one that a job names nobody knows what else that job needs, so nothing goes.
fn read_manifest(store: &Store, hash: BlobHash) -> anyhow::Result<Manifest> {
    let bytes = store
        .read_small(hash, MANIFEST_MAX)
        .with_context(|| format!("the manifest {hash} cannot be read"))?;
    codec::decode(&bytes).with_context(|| format!("the manifest {hash} is damaged"))
}

/// The bytes of all files, and how many there may be: most of what the disk has for them.
fn measure(store: &Store, keep: Keep) -> anyhow::Result<(u64, u64)> {
    let stored = store.stored()?;
    let disk = rustix::fs::statvfs(store.root())?;
    Ok((stored, keep.limit(disk.f_blocks * disk.f_frsize)))
}

fn try_lock(path: &Path) -> anyhow::Result<Option<File>> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn in_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
