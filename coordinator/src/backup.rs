//! `backup` and `restore`: a coordinator's state in another directory, and back.
//!
//! A backup is a state directory with its journal in a file, wherever the coordinator has it. It is
//! taken while the coordinator runs. First the journal is copied as of one moment, under
//! another name; then the files of the store, of which none goes meanwhile; then the copy gets its name. So a
//! backup whose journal is there has all files that this journal names. The next backup into the
//! same directory copies only what is new.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use grange_protocol::file::Blob;
use grange_protocol::{BlobHash, Epoch};
use grange_scheduler::{Fact, Recorded};
use grange_store::{Copied, Store};
use tokio::task::spawn_blocking;

use crate::config::Config;
use crate::journal::{Place, SQLITE_FILE};
use crate::keeping;
use crate::pictures::PICTURES_DIR;

const JOURNAL: &str = SQLITE_FILE;
const STORE: &str = "store";
/// A journal whose files are not all there yet.
const ARRIVING: &str = "journal.sqlite.arriving";
/// What lies beside the journal and is of one life of a coordinator, or made by SQLite.
const OF_ONE_LIFE: [&str; 7] = [
    JOURNAL,
    "journal.sqlite-wal",
    "journal.sqlite-shm",
    ARRIVING,
    "journal.sqlite.arriving-wal",
    "journal.sqlite.arriving-shm",
    "lock",
];
/// Starts that a coordinator may have had since its backup. Its leases must not pass for those of
/// the restored one.
const STARTS_SINCE: u32 = 1_000_000;

/// What was copied, for people.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) dir: PathBuf,
    pub(crate) jobs: usize,
    pub(crate) copied: Copied,
}

/// Copies the state of a coordinator, which may be running, into `to`.
pub(crate) async fn back_up(config: &Config, to: &Path) -> anyhow::Result<Report> {
    let state_dir = &config.state_dir;
    let place = config.journal_of_a_state()?;
    make(to)?;
    let arriving = to.join(ARRIVING);
    remove(&arriving)?;
    // What the journal names as of its copy must still be there when the files are copied.
    let _held_off = keeping::hold_off(state_dir)?;
    place.copy_to(&arriving).await.context("the journal cannot be copied")?;
    let copied = copy_files(state_dir, to).await?;
    File::open(&arriving)?.sync_all()?;
    fs::rename(&arriving, to.join(JOURNAL))?;
    File::open(to)?.sync_all()?;
    let jobs = Place::in_dir(to).look(u64::MAX).await?.replayed.state.jobs.len();
    Ok(Report { dir: to.into(), jobs, copied })
}

/// Copies a backup into a state directory that is empty, and sees that everything is there.
pub(crate) async fn restore(from: &Path, config: &Config) -> anyhow::Result<Report> {
    let state_dir = &config.state_dir;
    anyhow::ensure!(
        from.join(JOURNAL).is_file(),
        "{} is no backup, or one that was not finished: take another one",
        from.display()
    );
    let is_empty = match fs::read_dir(state_dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    anyhow::ensure!(
        is_empty,
        "{} is not empty: a backup is restored into a directory of its own, so move what is there \
         away or name another one with --state-dir",
        state_dir.display()
    );
    let place = Place::new(state_dir, config.journal.as_deref())?;
    place.refuse_unless_empty().await?;
    make(state_dir)?;
    // The journal comes first, under another name: one of a newer program, or a damaged one, is
    // refused before there is anything else.
    let arriving = state_dir.join(ARRIVING);
    fs::copy(from.join(JOURNAL), &arriving)?;
    if let Err(error) = Place::Sqlite(arriving.clone()).look(u64::MAX).await {
        for entry in fs::read_dir(state_dir)? {
            fs::remove_file(entry?.path())?;
        }
        return Err(error.into());
    }
    let copied = copy_files(from, state_dir).await?;
    let (mut journal, state) = Place::Sqlite(arriving.clone()).open().await?;
    let epoch = Fact::EpochBegan(Epoch(state.epoch.0.saturating_add(STARTS_SINCE)));
    let recorded = Recorded { at: state.at, fact: epoch };
    journal.append(&[recorded], &[], &[]).await?;
    journal.close().await?;
    place.take_from(&arriving).await?;
    File::open(state_dir)?.sync_all()?;
    let lost = lost(&place, state_dir).await?;
    if let Some(first) = lost.first() {
        anyhow::bail!(
            "the backup lacks {} files that jobs have committed, such as {first}: what is there was \
             restored to {}, and those cannot be fetched",
            lost.len(),
            state_dir.display()
        );
    }
    Ok(Report { dir: state_dir.into(), jobs: state.jobs.len(), copied })
}

/// Files that jobs have committed and that the store does not have.
pub(crate) async fn lost(journal: &Place, state_dir: &Path) -> anyhow::Result<Vec<BlobHash>> {
    let store = Store::open(&state_dir.join(STORE))?;
    let committed = journal.committed().await?;
    let is_lost = |blob: &Blob| store.len_of(blob.hash) != Some(blob.len);
    Ok(committed.into_iter().filter(is_lost).map(|blob| blob.hash).collect())
}

impl Report {
    /// One line on what was copied, and one more if something could not be.
    pub(crate) fn lines(&self) -> Vec<String> {
        let Copied { files, bytes, there, damaged } = &self.copied;
        let mut lines = vec![format!(
            "{}: {} jobs, {files} files copied ({:.1} MiB), {there} were there",
            self.dir.display(),
            self.jobs,
            *bytes as f64 / f64::from(1 << 20)
        )];
        if let Some(first) = damaged.first() {
            lines.push(format!(
                "{} files are damaged and were left out, such as {first}: is the disk failing?",
                damaged.len()
            ));
        }
        lines
    }
}

/// Everything but the journal, and pictures that can be made again: keys, identities, the store's files.
async fn copy_files(from: &Path, to: &Path) -> anyhow::Result<Copied> {
    let (from, to) = (from.to_owned(), to.to_owned());
    spawn_blocking(move || {
        for entry in fs::read_dir(&from)? {
            let name = entry?.file_name();
            let is_left = OF_ONE_LIFE.iter().any(|left| name == OsStr::new(left));
            if !is_left && name != OsStr::new(STORE) && name != OsStr::new(PICTURES_DIR) {
                copy_tree(&from.join(&name), &to.join(&name))
                    .with_context(|| format!("{} cannot be copied", from.join(&name).display()))?;
            }
        }
        let store = Arc::new(Store::open(&to.join(STORE))?);
        let copied = Store::open(&from.join(STORE))?.copy_to(&store);
        copied.context("the store cannot be copied")
    })
    .await?
}

/// Small files, with their permissions; each is replaced as a whole.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    if fs::symlink_metadata(from)?.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy_tree(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    let mut arriving = to.as_os_str().to_owned();
    arriving.push(".arriving");
    fs::copy(from, &arriving)?;
    File::open(&arriving)?.sync_all()?;
    fs::rename(&arriving, to)
}

fn make(dir: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("the directory {} cannot be made", dir.display()))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
