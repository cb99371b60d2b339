//! The journal in SQLite: one writer, write-ahead log, every commit synced.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use grange_protocol::client::{LogsQuery, OutputsQuery, Page};
use grange_protocol::codec;
use grange_protocol::file::{Blob, Output, OutputRole};
use grange_protocol::limits::PAGE_ROWS_MAX;
use grange_protocol::view::OutputView;
use grange_protocol::{
    AgentId, BlobHash, JobId, Millis, OutputName, StepIndex, TaskIndex, TaskRef,
};
use grange_scheduler::{Fact, Recorded, State};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row, SqliteExecutor};

use super::{Answer, Archive, AttemptLog, Journal, JournalError, LogRow};

/// Grows when an older program could not read what this one writes.
const FORMAT: i64 = 2;
const READERS: u32 = 4;
/// SQLite's own code for a full disk.
const SQLITE_FULL: &str = "13";
/// Facts that one statement inserts.
const ROWS_PER_INSERT: usize = 32;

const SCHEMA: &str = "
create table if not exists meta (key text primary key, value integer not null) strict;
create table if not exists journal (seq integer primary key, at integer not null, fact blob not null) strict;
create table if not exists snapshot (seq integer primary key, at integer not null, state blob not null) strict;
create table if not exists outputs (
    cursor integer primary key, job integer not null, step integer not null, task integer not null,
    name text not null, role integer not null, frame integer not null, hash blob not null, len integer not null
) strict;
create index if not exists outputs_of_job on outputs (job, cursor);
create index if not exists outputs_by_name on outputs (job, name);
create table if not exists logs (
    cursor integer primary key autoincrement, job integer not null, step integer not null,
    task integer not null, agent blob not null, failed integer not null, at integer not null,
    text blob not null
) strict;
create index if not exists logs_of_task on logs (job, step, task, cursor);
";

const INSERT_FACT: &str = "insert into journal (seq, at, fact) values (?, ?, ?)";
/// The same for [`ROWS_PER_INSERT`] facts.
const INSERT_FACTS: &str = "insert into journal (seq, at, fact) values \
    (?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),\
    (?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),\
    (?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),\
    (?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?)";

pub(crate) struct Sqlite {
    writer: SqliteConnection,
    readers: SqlitePool,
    /// Of the latest fact.
    seq: u64,
}

impl Sqlite {
    /// Opens the journal, made if it is not there, and replays it.
    pub(crate) async fn open(path: &Path) -> Result<(Self, State), JournalError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .disable_statement_logging();
        let mut writer = options.connect().await?;
        check_version(&mut writer).await?;
        sqlx::raw_sql(SCHEMA).execute(&mut writer).await?;
        check_format(&mut writer).await?;
        let (state, seq) = replay(&mut writer).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_lazy_with(options.read_only(true).create_if_missing(false));
        Ok((Self { writer, readers, seq }, state))
    }

    /// A copy of a journal that somebody else may be writing to, as of one moment. Nothing may lie
    /// at `to`.
    pub(crate) async fn copy(path: &Path, to: &Path) -> Result<(), JournalError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(Duration::from_secs(10))
            .disable_statement_logging();
        let mut reader = options.connect().await?;
        check_version(&mut reader).await?;
        check_format(&mut reader).await?;
        sqlx::query("vacuum into ?")
            .bind(to.to_string_lossy().into_owned())
            .execute(&mut reader)
            .await?;
        reader.close().await?;
        Ok(())
    }

    /// All files that jobs have committed, each once.
    pub(crate) async fn committed(&self) -> Result<Vec<Blob>, JournalError> {
        let rows =
            sqlx::query("select distinct hash, len from outputs").fetch_all(&self.readers).await?;
        rows.iter().map(blob).collect()
    }

    /// Leaves the disk as it is when nobody writes.
    pub(crate) async fn close(self) -> Result<(), JournalError> {
        self.readers.close().await;
        Ok(self.writer.close().await?)
    }

    async fn append(
        &mut self,
        facts: &[Recorded],
        logs: &[AttemptLog],
    ) -> Result<u64, JournalError> {
        let first = self.seq + 1;
        let mut rows = Vec::with_capacity(facts.len());
        for (seq, recorded) in (first..).zip(facts) {
            rows.push((seq as i64, recorded.at.0 as i64, encode(&recorded.fact)?));
        }
        let mut transaction = self.writer.begin().await?;
        for group in rows.chunks(ROWS_PER_INSERT) {
            insert_facts(&mut transaction, group).await?;
        }
        for (seq, recorded) in (first..).zip(facts) {
            if let Fact::OutputStored { task, output } = &recorded.fact {
                insert_output(&mut *transaction, seq, *task, output).await?;
            }
        }
        for log in logs {
            insert_log(&mut *transaction, log).await?;
        }
        transaction.commit().await?;
        self.seq += facts.len() as u64;
        Ok(first)
    }

    async fn snapshot(&mut self, state: &State) -> Result<(), JournalError> {
        let bytes = zstd::bulk::compress(&encode(state)?, 1)
            .map_err(|error| JournalError::Unreadable(error.to_string()))?;
        let mut transaction = self.writer.begin().await?;
        sqlx::query("insert or replace into snapshot (seq, at, state) values (?, ?, ?)")
            .bind(self.seq as i64)
            .bind(state.at.0 as i64)
            .bind(bytes)
            .execute(&mut *transaction)
            .await?;
        // The one before stays, and the facts since then, should this one be damaged.
        sqlx::query(
            "delete from snapshot where seq < (select min(seq) from (select seq from snapshot order by seq desc limit 2))",
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query("delete from journal where seq <= (select min(seq) from snapshot) and (select count(*) from snapshot) > 1")
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }
}

impl Journal for Sqlite {
    fn append<'a>(&'a mut self, facts: &'a [Recorded], logs: &'a [AttemptLog]) -> Answer<'a, u64> {
        Box::pin(self.append(facts, logs))
    }

    fn snapshot<'a>(&'a mut self, state: &'a State) -> Answer<'a, ()> {
        Box::pin(self.snapshot(state))
    }

    fn archive(&self) -> Arc<dyn Archive> {
        Arc::new(SqliteArchive { readers: self.readers.clone() })
    }
}

struct SqliteArchive {
    readers: SqlitePool,
}

impl Archive for SqliteArchive {
    fn outputs(&self, query: OutputsQuery) -> Answer<'_, Page<OutputView>> {
        Box::pin(async move {
            let step = query.step.map_or(-1, |step| i64::from(step.0));
            let rows = sqlx::query(
                "select cursor, step, task, name, role, frame, hash, len from outputs \
                 where job = ? and cursor > ? and (? < 0 or step = ?) order by cursor limit ?",
            )
            .bind(i64::from(query.job.0))
            .bind(query.after as i64)
            .bind(step)
            .bind(step)
            .bind(i64::from(PAGE_ROWS_MAX))
            .fetch_all(&self.readers)
            .await?;
            let rows: Vec<OutputView> = rows.iter().map(output_view).collect::<Result<_, _>>()?;
            let full = rows.len() == PAGE_ROWS_MAX as usize;
            let next = rows.last().filter(|_| full).map(|row| row.cursor);
            Ok(Page { rows, next })
        })
    }

    fn output(&self, job: JobId, name: OutputName) -> Answer<'_, Option<OutputView>> {
        Box::pin(async move {
            let row = sqlx::query(
                "select cursor, step, task, name, role, frame, hash, len from outputs \
                 where job = ? and name = ?",
            )
            .bind(i64::from(job.0))
            .bind(name.as_str())
            .fetch_optional(&self.readers)
            .await?;
            row.as_ref().map(output_view).transpose()
        })
    }

    fn logs(&self, query: LogsQuery) -> Answer<'_, Page<LogRow>> {
        /// Texts are large: fewer to a page.
        const ROWS: usize = 50;
        Box::pin(async move {
            let (step, task) =
                query.task.map_or((-1, -1), |(step, task)| (i64::from(step.0), i64::from(task.0)));
            let before = if query.before == 0 { i64::MAX } else { query.before as i64 };
            let rows = sqlx::query(
                "select cursor, step, task, agent, failed, at, text from logs \
                 where job = ? and cursor < ? and (? < 0 or (step = ? and task = ?)) and failed >= ? \
                 order by cursor desc limit ?",
            )
            .bind(i64::from(query.job.0))
            .bind(before)
            .bind(step)
            .bind(step)
            .bind(task)
            .bind(i64::from(query.failed_only))
            .bind(ROWS as i64)
            .fetch_all(&self.readers)
            .await?;
            let rows: Vec<LogRow> =
                rows.iter().map(|row| log_row(query.job, row)).collect::<Result<_, _>>()?;
            let next = rows.last().filter(|_| rows.len() == ROWS).map(|row| row.cursor);
            Ok(Page { rows, next })
        })
    }
}

async fn check_version(connection: &mut SqliteConnection) -> Result<(), JournalError> {
    let version: String =
        sqlx::query_scalar("select sqlite_version()").fetch_one(connection).await?;
    let numbers: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
    if numbers.as_slice() < [3, 51, 3].as_slice() {
        return Err(JournalError::OldSqlite(version));
    }
    Ok(())
}

async fn check_format(connection: &mut SqliteConnection) -> Result<(), JournalError> {
    sqlx::query("insert or ignore into meta (key, value) values ('format', ?)")
        .bind(FORMAT)
        .execute(&mut *connection)
        .await?;
    let found: i64 = sqlx::query_scalar("select value from meta where key = 'format'")
        .fetch_one(connection)
        .await?;
    match found.cmp(&FORMAT) {
        Ordering::Greater => Err(JournalError::Newer { found, known: FORMAT }),
        Ordering::Less => Err(JournalError::Older(found)),
        Ordering::Equal => Ok(()),
    }
}

/// The latest snapshot and all facts after it. Returns the state and the latest fact's number.
async fn replay(connection: &mut SqliteConnection) -> Result<(State, u64), JournalError> {
    let snapshot = sqlx::query("select seq, state from snapshot order by seq desc limit 1")
        .fetch_optional(&mut *connection)
        .await?;
    let (mut state, mut seq) = match snapshot {
        None => (State::default(), 0),
        Some(row) => {
            let bytes: Vec<u8> = row.try_get("state")?;
            let bytes = zstd::stream::decode_all(bytes.as_slice())
                .map_err(|error| JournalError::Unreadable(error.to_string()))?;
            (decode(&bytes)?, row.try_get::<i64, _>("seq")? as u64)
        }
    };
    loop {
        let rows =
            sqlx::query("select seq, at, fact from journal where seq > ? order by seq limit 10000")
                .bind(seq as i64)
                .fetch_all(&mut *connection)
                .await?;
        if rows.is_empty() {
            return Ok((state, seq));
        }
        for row in rows {
            let at = Millis(row.try_get::<i64, _>("at")? as u64);
            let fact = decode(row.try_get("fact")?)?;
            state
                .apply(&Recorded { at, fact })
                .map_err(|error| JournalError::Unreadable(error.to_string()))?;
            seq = row.try_get::<i64, _>("seq")? as u64;
        }
    }
}

async fn insert_facts(
    connection: &mut SqliteConnection,
    rows: &[(i64, i64, Vec<u8>)],
) -> Result<(), sqlx::Error> {
    if rows.len() == ROWS_PER_INSERT {
        let mut query = sqlx::query(INSERT_FACTS);
        for (seq, at, fact) in rows {
            query = query.bind(seq).bind(at).bind(fact.as_slice());
        }
        query.execute(connection).await?;
        return Ok(());
    }
    for (seq, at, fact) in rows {
        let query = sqlx::query(INSERT_FACT).bind(seq).bind(at).bind(fact.as_slice());
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn insert_output(
    executor: impl SqliteExecutor<'_>,
    seq: u64,
    task: TaskRef,
    output: &Output,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into outputs (cursor, job, step, task, name, role, frame, hash, len) \
         values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(seq as i64)
    .bind(i64::from(task.job.0))
    .bind(i64::from(task.step.0))
    .bind(i64::from(task.task.0))
    .bind(output.name.as_str())
    .bind(role_number(output.role))
    .bind(i64::from(output.frame))
    .bind(output.blob.hash.as_bytes().as_slice())
    .bind(output.blob.len as i64)
    .execute(executor)
    .await?;
    Ok(())
}

async fn insert_log(
    executor: impl SqliteExecutor<'_>,
    log: &AttemptLog,
) -> Result<(), sqlx::Error> {
    // Level 1: a log is small, and the writer has better things to do.
    let text = zstd::bulk::compress(log.text.as_bytes(), 1).unwrap_or_default();
    sqlx::query(
        "insert into logs (job, step, task, agent, failed, at, text) values (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(i64::from(log.task.job.0))
    .bind(i64::from(log.task.step.0))
    .bind(i64::from(log.task.task.0))
    .bind(log.agent.0.as_bytes().as_slice())
    .bind(i64::from(log.failed))
    .bind(log.at.0 as i64)
    .bind(text)
    .execute(executor)
    .await?;
    Ok(())
}

fn blob(row: &SqliteRow) -> Result<Blob, JournalError> {
    let hash: &[u8] = row.try_get("hash")?;
    let hash: [u8; 32] = hash.try_into().map_err(|_| unreadable("a hash"))?;
    Ok(Blob { hash: BlobHash::from_bytes(hash), len: row.try_get::<i64, _>("len")? as u64 })
}

fn output_view(row: &SqliteRow) -> Result<OutputView, JournalError> {
    let name: &str = row.try_get("name")?;
    Ok(OutputView {
        cursor: row.try_get::<i64, _>("cursor")? as u64,
        step: StepIndex(row.try_get::<i64, _>("step")? as u16),
        task: TaskIndex(row.try_get::<i64, _>("task")? as u32),
        output: Output {
            name: name.parse().map_err(|_| unreadable("an output's name"))?,
            role: role_of(row.try_get("role")?)?,
            frame: row.try_get::<i64, _>("frame")? as i32,
            blob: blob(row)?,
        },
    })
}

fn log_row(job: JobId, row: &SqliteRow) -> Result<LogRow, JournalError> {
    let text = zstd::stream::decode_all(row.try_get::<&[u8], _>("text")?).unwrap_or_default();
    let agent =
        uuid::Uuid::from_slice(row.try_get("agent")?).map_err(|_| unreadable("an agent"))?;
    Ok(LogRow {
        cursor: row.try_get::<i64, _>("cursor")? as u64,
        log: AttemptLog {
            task: TaskRef {
                job,
                step: StepIndex(row.try_get::<i64, _>("step")? as u16),
                task: TaskIndex(row.try_get::<i64, _>("task")? as u32),
            },
            agent: AgentId(agent),
            failed: row.try_get::<i64, _>("failed")? != 0,
            at: Millis(row.try_get::<i64, _>("at")? as u64),
            text: String::from_utf8_lossy(&text).into_owned(),
        },
    })
}

const ROLES: [OutputRole; 3] = [OutputRole::Frame, OutputRole::Extra, OutputRole::Preview];

fn role_number(role: OutputRole) -> i64 {
    ROLES.iter().position(|known| *known == role).unwrap_or_default() as i64
}

fn role_of(number: i64) -> Result<OutputRole, JournalError> {
    ROLES.get(number as usize).copied().ok_or_else(|| unreadable("an output's role"))
}

fn unreadable(what: &str) -> JournalError {
    JournalError::Unreadable(format!("{what} is damaged"))
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, JournalError> {
    codec::encode(value).map_err(|error| JournalError::Unreadable(error.to_string()))
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, JournalError> {
    codec::decode(bytes).map_err(|error| JournalError::Unreadable(error.to_string()))
}

impl From<sqlx::Error> for JournalError {
    fn from(error: sqlx::Error) -> Self {
        let full = error
            .as_database_error()
            .and_then(|error| error.code().map(|code| code == SQLITE_FULL))
            .unwrap_or(false);
        if full { Self::DiskFull } else { Self::Database(error) }
    }
}
