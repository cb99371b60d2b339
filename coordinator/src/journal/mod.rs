//! What must not be forgotten, on disk. The only place in the workspace that speaks SQL.
//!
//! `journal(seq, at, fact)` is the truth; `snapshot` shortens the replay of it; `outputs` and `logs`
//! are kept in rows of their own, written in the same transaction as the facts they belong to,
//! because nobody wants a million of them in memory.

mod sqlite;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use grange_protocol::client::{LogsQuery, OutputsQuery, Page};
use grange_protocol::view::OutputView;
use grange_protocol::{AgentId, JobId, Millis, OutputName, Refusal, RefusalCode, TaskRef};
use grange_scheduler::{Recorded, State};

pub(crate) use sqlite::Sqlite;

pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, JournalError>> + Send + 'a>>;

/// Writes. There is one writer.
pub(crate) trait Journal: Send {
    /// Makes facts durable, with the logs of attempts that ended with them. Returns the sequence
    /// number of the first fact; the others follow it.
    fn append<'a>(&'a mut self, facts: &'a [Recorded], logs: &'a [AttemptLog]) -> Answer<'a, u64>;

    /// Keeps the state as of the facts appended so far, and forgets facts that two snapshots cover.
    fn snapshot<'a>(&'a mut self, state: &'a State) -> Answer<'a, ()>;

    /// A handle for questions, which never hold up the writer.
    fn archive(&self) -> Arc<dyn Archive>;
}

/// Reads.
pub(crate) trait Archive: Send + Sync {
    fn outputs(&self, query: OutputsQuery) -> Answer<'_, Page<OutputView>>;
    /// A job's output by its name.
    fn output(&self, job: JobId, name: OutputName) -> Answer<'_, Option<OutputView>>;
    fn logs(&self, query: LogsQuery) -> Answer<'_, Page<LogRow>>;
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
    Database(sqlx::Error),
    #[error("the journal holds something that this program cannot read ({0})")]
    Unreadable(String),
    #[error(
        "the journal was written by a newer Grange (format {found}, this one knows {known}): update \
         this coordinator"
    )]
    Newer { found: i64, known: i64 },
    #[error(
        "the journal is of a Grange from before its first release (format {0}), which this one cannot \
         read: let that one finish and fetch its jobs, then start with an empty state directory"
    )]
    Older(i64),
    #[error("SQLite {0} is too old to be trusted with a journal: 3.51.3 is the first that can be")]
    OldSqlite(String),
}

impl JournalError {
    /// For whoever asked something of the journal.
    pub(crate) fn refusal(&self) -> Refusal {
        Refusal::new(RefusalCode::NotNow, self.to_string())
    }
}
