//! What must not be forgotten, on disk. The only place in the workspace that speaks SQL.
//!
//! `journal(seq, at, fact)` is the truth; `snapshot` shortens the replay of it; `outputs`, `logs` and
//! `history` are kept in rows of their own, written in the same transaction as the facts they belong
//! to, because nobody wants them all in memory.
//!
//! [`writing`], [`replay`], [`archive`] and [`history`] have the statements, [`schema`] the tables and what
//! becomes of those of earlier programs; [`sqlite`] and [`postgres`] are the databases that run them,
//! behind [`database`].

mod archive;
mod database;
mod history;
mod postgres;
mod replay;
mod schema;
mod sqlite;
#[cfg(test)]
mod tests;
mod transfer;
mod writing;

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use grange_protocol::client::{HistoryQuery, LogsQuery, OutputsQuery, Page};
use grange_protocol::codec;
use grange_protocol::file::Blob;
use grange_protocol::history::HistoryView;
use grange_protocol::view::OutputView;
use grange_protocol::{
    AgentId, BlobHash, JobId, Millis, OutputName, Refusal, RefusalCode, TaskRef,
};
use grange_scheduler::{Recorded, State};

pub(crate) use history::Remembered;
pub(crate) use replay::Looked;

use database::{Connection, Readers};
use postgres::Postgres;
use schema::bring_up_to_date;
use sqlite::Sqlite;
use sqlx::postgres::PgConnectOptions;
use writing::Writer;

pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, JournalError>> + Send + 'a>>;

/// In the state directory.
pub(crate) const SQLITE_FILE: &str = "journal.sqlite";

/// Where a journal is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A file, which only one coordinator uses.
    Sqlite(PathBuf),
    /// A database, which only one coordinator writes to.
    Postgres(Box<PgConnectOptions>),
}

impl Place {
    /// Where the coordinator of a state directory has it, unless it was told of a database.
    pub(crate) fn new(state_dir: &Path, database: Option<&str>) -> Result<Self, JournalError> {
        match database {
            None => Ok(Self::in_dir(state_dir)),
            Some(url) => Ok(Self::Postgres(Box::new(postgres::options(url)?))),
        }
    }

    pub(crate) fn in_dir(state_dir: &Path) -> Self {
        Self::Sqlite(state_dir.join(SQLITE_FILE))
    }

    /// Opens the journal, made if it is not there, and replays it.
    pub(crate) async fn open(&self) -> Result<(Box<dyn Journal>, State), JournalError> {
        match self {
            Self::Sqlite(path) => {
                let (connection, readers) = Sqlite::open(path).await?;
                let (writer, state) = Writer::open(connection, readers).await?;
                Ok((Box::new(writer), state))
            }
            Self::Postgres(options) => {
                let (connection, readers) = Postgres::open((**options).clone()).await?;
                let (writer, state) = Writer::open(connection, readers).await?;
                Ok((Box::new(writer), state))
            }
        }
    }

    /// Reads a journal that somebody else may be writing to, up to a fact, and compares what it says
    /// twice.
    pub(crate) async fn look(&self, as_of: u64) -> Result<Looked, JournalError> {
        match self {
            Self::Sqlite(path) => replay::look(Sqlite::look_at(path).await?, as_of).await,
            Self::Postgres(options) => {
                replay::look(Postgres::look_at((**options).clone()).await?, as_of).await
            }
        }
    }

    /// A file of SQLite with all of a journal that somebody else may be writing to, as of one moment.
    /// Nothing may lie at `to`.
    pub(crate) async fn copy_to(&self, to: &Path) -> Result<(), JournalError> {
        match self {
            Self::Sqlite(path) => Sqlite::copy(path, to).await,
            Self::Postgres(options) => {
                let (mut from, versions) = Postgres::look_at((**options).clone()).await?;
                if versions.is_nothing_yet() || versions.is_of_an_earlier_program() {
                    return Err(JournalError::NotUpToDate);
                }
                let mut to = Sqlite::make(to).await?;
                transfer::transfer(&mut from, &mut to).await?;
                to.close().await?;
                from.close().await
            }
        }
    }

    /// Takes in a file of SQLite that this program has opened before, and that is not used. A file
    /// is renamed.
    pub(crate) async fn take_from(&self, file: &Path) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(path) => fs::rename(file, path)?,
            Self::Postgres(options) => {
                let (mut to, readers) = Postgres::open((**options).clone()).await?;
                readers.close().await;
                bring_up_to_date(&mut to).await?;
                let (mut from, _) = Sqlite::look_at(file).await?;
                transfer::transfer(&mut from, &mut to).await?;
                from.close().await?;
                to.close().await?;
                fs::remove_file(file)?;
            }
        }
        Ok(())
    }

    /// Refuses a database that has a journal, for a restore.
    pub(crate) async fn refuse_unless_empty(&self) -> Result<(), JournalError> {
        let Self::Postgres(options) = self else { return Ok(()) };
        let (mut connection, versions) = Postgres::look_at((**options).clone()).await?;
        let is_empty = versions.is_nothing_yet() || transfer::is_empty(&mut connection).await?;
        connection.close().await?;
        if is_empty { Ok(()) } else { Err(JournalError::NotEmpty) }
    }

    /// Refuses to begin a journal where a farm has one elsewhere: whoever has just turned to PostgreSQL,
    /// or from it, would miss all jobs.
    pub(crate) async fn refuse_to_forget(
        &self,
        state_dir: &Path,
        is_a_farm: bool,
    ) -> Result<(), JournalError> {
        let file = state_dir.join(SQLITE_FILE);
        match self {
            Self::Sqlite(_) if file.exists() || !is_a_farm => Ok(()),
            Self::Sqlite(_) => Err(JournalError::Elsewhere(file)),
            Self::Postgres(options) => {
                let (connection, versions) = Postgres::look_at((**options).clone()).await?;
                connection.close().await?;
                match versions.is_nothing_yet() {
                    true if file.is_file() => Err(JournalError::LeftBehind(file)),
                    true if is_a_farm => Err(JournalError::OtherDatabase(state_dir.into())),
                    _ => Ok(()),
                }
            }
        }
    }

    /// All files that jobs have committed, each once.
    pub(crate) async fn committed(&self) -> Result<Vec<Blob>, JournalError> {
        match self {
            Self::Sqlite(path) => writing::committed(Sqlite::look_at(path).await?.0).await,
            Self::Postgres(options) => {
                writing::committed(Postgres::look_at((**options).clone()).await?.0).await
            }
        }
    }
}

/// Writes. There is one writer.
pub(crate) trait Journal: Send {
    /// Makes facts durable, with the logs of attempts that ended with them and what they are in the
    /// history. Returns the sequence number of the first fact; the others follow it.
    fn append<'a>(
        &'a mut self,
        facts: &'a [Recorded],
        logs: &'a [AttemptLog],
        history: &'a [HistoryView],
    ) -> Answer<'a, u64>;

    /// How the history so far leaves the farm.
    fn remembered(&mut self) -> Answer<'_, Remembered>;

    /// What is still there of the history after a cursor, in its order.
    fn history_after(&mut self, cursor: u64) -> Answer<'_, Vec<HistoryView>>;

    /// Keeps the state as of the facts appended so far, and forgets facts that two snapshots cover.
    fn snapshot<'a>(&'a mut self, state: &'a State) -> Answer<'a, ()>;

    /// Forgets logs of attempts from before, of all jobs; not all at once if there are many.
    fn forget_logs(&mut self, before: Millis) -> Answer<'_, ()>;

    /// A handle for questions, which never hold up the writer.
    fn archive(&self) -> Arc<dyn Archive>;

    /// Leaves the disk as it is when nobody writes.
    fn close(self: Box<Self>) -> Answer<'static, ()>;
}

/// Reads.
pub(crate) trait Archive: Send + Sync {
    fn outputs(&self, query: OutputsQuery) -> Answer<'_, Page<OutputView>>;
    /// A job's output by its name.
    fn output(&self, job: JobId, name: OutputName) -> Answer<'_, Option<OutputView>>;
    /// The jobs that have committed a file.
    fn jobs_with(&self, hash: BlobHash) -> Answer<'_, Vec<JobId>>;
    fn logs(&self, query: LogsQuery) -> Answer<'_, Page<LogRow>>;
    /// The latest first.
    fn history(&self, query: HistoryQuery) -> Answer<'_, Page<HistoryView>>;
}

/// What an instance printed during an attempt.
#[derive(Clone, Debug)]
pub(crate) struct AttemptLog {
    pub(crate) task: TaskRef,
    pub(crate) agent: AgentId,
    pub(crate) failed: bool,
    pub(crate) at: Millis,
    pub(crate) text: String,
}

/// A kept log, with its place in the order of all logs.
#[derive(Clone, Debug)]
pub(crate) struct LogRow {
    pub(crate) cursor: u64,
    pub(crate) log: AttemptLog,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("the journal's disk is full: make room, and the farm goes on by itself")]
    DiskFull,
    #[error("the journal cannot be used: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the journal holds something that this program cannot read ({0})")]
    Unreadable(String),
    #[error("another coordinator writes to this journal: stop one of the two")]
    Superseded,
    #[error(
        "another coordinator has this journal: stop it, or give this one a database of its own"
    )]
    InUse,
    #[error(
        "PostgreSQL runs with `{setting} = off` and would forget jobs in a power cut: turn it on"
    )]
    Forgetful { setting: &'static str },
    #[error("the database has a journal already: restore into an empty one")]
    NotEmpty,
    #[error(
        "the database has no journal of this version of Grange: start this coordinator once, which \
         makes it or brings it up to date"
    )]
    NotUpToDate,
    #[error(
        "the database is empty and {0} is not: move that file away to begin anew, or take it along, \
         with `backup` without the setting `journal` and `restore` with it"
    )]
    LeftBehind(PathBuf),
    #[error(
        "{} is not there, and the rest of a farm is: if its journal is in PostgreSQL, put the setting \
         `journal` back, or move it with `backup` with the setting and `restore` without it; a new \
         farm begins in an empty directory",
        .0.display()
    )]
    Elsewhere(PathBuf),
    #[error(
        "the database is empty and {} is a farm's: see that the setting `journal` names the farm's \
         database, or `restore` a backup; a new farm begins in an empty directory",
        .0.display()
    )]
    OtherDatabase(PathBuf),
    #[error(
        "PostgreSQL on {host} does not let the coordinator in ({error}): is it running, and is the \
         setting `journal` right?"
    )]
    Unreachable { host: String, error: sqlx::Error },
    #[error("the setting `journal` is no address like postgres://USER@HOST/DATABASE: {0}")]
    BadAddress(String),
    #[error(
        "the journal contradicts itself: the facts up to {seq} make another state than its snapshot \
         after them"
    )]
    Differs { seq: u64 },
    #[error(
        "the journal was written by a newer Grange ({what} {found}, this one knows {known}): update \
         this coordinator"
    )]
    Newer { what: &'static str, found: i64, known: i64 },
    #[error(
        "the journal is of a Grange from before its first release (format {0}), which this one cannot \
         read: let that one finish and fetch its jobs, then start with an empty state directory"
    )]
    Older(i64),
    #[error("SQLite {0} is too old to be trusted with a journal: 3.51.3 is the first that can be")]
    OldSqlite(String),
}

impl From<std::io::Error> for JournalError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull => Self::DiskFull,
            _ => Self::Database(sqlx::Error::Io(error)),
        }
    }
}

impl JournalError {
    fn damaged(what: &str) -> Self {
        Self::Unreadable(format!("{what} is damaged"))
    }

    /// For whoever asked something of the journal.
    pub(crate) fn refusal(&self) -> Refusal {
        Refusal::new(RefusalCode::NotNow, self.to_string())
    }
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, JournalError> {
    codec::encode(value).map_err(|error| JournalError::Unreadable(error.to_string()))
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, JournalError> {
    codec::decode(bytes).map_err(|error| JournalError::Unreadable(error.to_string()))
}

/// Level 1: the writer has better things to do.
fn pack(bytes: &[u8]) -> Result<Vec<u8>, JournalError> {
    zstd::bulk::compress(bytes, 1).map_err(|error| JournalError::Unreadable(error.to_string()))
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, JournalError> {
    zstd::stream::decode_all(bytes).map_err(|error| JournalError::Unreadable(error.to_string()))
}
