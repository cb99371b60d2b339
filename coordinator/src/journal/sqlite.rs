//! SQLite: one file in the state directory, a write-ahead log, every commit synced. Statements are
//! run by threads of sqlx's.

use std::path::Path;
use std::time::Duration;

use grange_blocking::wait;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Row as _, SqliteExecutor, TypeInfo};
use sqlx::{Column as _, ValueRef};

use super::JournalError;
use super::database::{Connection, Dialect, Readers, Row, Value};
use super::schema::{Versions, bring_up_to_date};

const READERS: u32 = 4;
/// SQLite's own code for a full disk.
const SQLITE_FULL: &str = "13";

pub(super) struct Sqlite {
    connection: SqliteConnection,
    options: SqliteConnectOptions,
}

#[derive(Clone)]
pub(super) struct SqliteReaders(SqlitePool);

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(10))
        .disable_statement_logging()
}

impl Sqlite {
    /// Opens the journal, made if it is not there. One that this program cannot read is not touched.
    pub(super) async fn open(path: &Path) -> Result<(Self, SqliteReaders), JournalError> {
        if path.exists() {
            Self::look_at(path).await?.0.close().await?;
        }
        let options = options(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let writer = Self::connect(options.clone()).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_lazy_with(options.read_only(true).create_if_missing(false));
        Ok((writer, SqliteReaders(readers)))
    }

    /// A new journal in one file, with its tables and nothing in them.
    pub(super) async fn make(path: &Path) -> Result<Self, JournalError> {
        let mut made = Self::connect(options(path).create_if_missing(true)).await?;
        bring_up_to_date(&mut made).await?;
        Ok(made)
    }

    /// A journal that somebody else may be writing to, to read it only.
    pub(super) async fn look_at(path: &Path) -> Result<(Self, Versions), JournalError> {
        let mut reader = Self::connect(options(path).read_only(true)).await?;
        let versions = Versions::of(&mut reader).await?.check()?;
        Ok((reader, versions))
    }

    async fn connect(options: SqliteConnectOptions) -> Result<Self, JournalError> {
        let mut connection = wait(options.connect()).await.map_err(error)?;
        check_version(&mut connection).await?;
        Ok(Self { connection, options })
    }

    #[cfg(test)]
    pub(super) async fn raw(path: &Path) -> Self {
        Self::connect(options(path)).await.expect("a file of SQLite")
    }

    /// A copy of a journal that somebody else may be writing to, as of one moment. Nothing may lie
    /// at `to`.
    pub(super) async fn copy(path: &Path, to: &Path) -> Result<(), JournalError> {
        let (mut reader, _) = Self::look_at(path).await?;
        let to = Value::Text(to.to_string_lossy().into_owned());
        Connection::fetch(&mut reader, "vacuum into $1", vec![to]).await?;
        reader.close().await
    }
}

impl Connection for Sqlite {
    type Readers = SqliteReaders;
    const DIALECT: Dialect = Dialect {
        int: "integer",
        bytes: "blob",
        serial: "integer primary key autoincrement",
        strict: " strict",
        begin_reading: "begin",
        after_keys: "",
        find_journal: "select name from sqlite_master where type = 'table' and name = 'meta'",
    };

    async fn fetch(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, JournalError> {
        fetch(&mut self.connection, sql, values).await
    }

    async fn run_all(&mut self, sql: String) -> Result<(), JournalError> {
        wait(sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection))
            .await
            .map_err(error)?;
        Ok(())
    }

    /// What is left of a failed transaction must not become the beginning of the next one, so that
    /// has a connection of its own.
    async fn renew(&mut self) -> Result<(), JournalError> {
        *self = Self::connect(self.options.clone()).await?;
        Ok(())
    }

    async fn close(self) -> Result<(), JournalError> {
        Ok(wait(self.connection.close()).await?)
    }
}

impl Readers for SqliteReaders {
    async fn fetch(&self, sql: &'static str, values: Vec<Value>) -> Result<Vec<Row>, JournalError> {
        fetch(&self.0, sql, values).await
    }

    async fn close(self) {
        wait(self.0.close()).await;
    }
}

async fn fetch(
    executor: impl SqliteExecutor<'_>,
    sql: &'static str,
    values: Vec<Value>,
) -> Result<Vec<Row>, JournalError> {
    let mut query = sqlx::query(sql);
    for value in values {
        query = match value {
            Value::Int(int) => query.bind(int),
            Value::Text(text) => query.bind(text),
            Value::Bytes(bytes) => query.bind(bytes),
        };
    }
    let rows = wait(query.fetch_all(executor)).await.map_err(error)?;
    rows.iter().map(row).collect()
}

fn row(row: &SqliteRow) -> Result<Row, JournalError> {
    let value = |at: usize| {
        let kind = row.try_get_raw(at)?.type_info().name().to_owned();
        Ok(match kind.as_str() {
            "INTEGER" => Value::Int(row.try_get(at)?),
            "TEXT" => Value::Text(row.try_get(at)?),
            "BLOB" => Value::Bytes(row.try_get(at)?),
            _ => return Err(JournalError::damaged(row.column(at).name())),
        })
    };
    (0..row.len()).map(value).collect::<Result<_, _>>().map(Row)
}

async fn check_version(connection: &mut SqliteConnection) -> Result<(), JournalError> {
    let version: String =
        wait(sqlx::query_scalar("select sqlite_version()").fetch_one(connection)).await?;
    let numbers: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
    if numbers.as_slice() < [3, 51, 3].as_slice() {
        return Err(JournalError::OldSqlite(version));
    }
    Ok(())
}

fn error(error: sqlx::Error) -> JournalError {
    let code = error.as_database_error().and_then(|error| error.code());
    if code.is_some_and(|code| code == SQLITE_FULL) {
        JournalError::DiskFull
    } else {
        JournalError::Database(error)
    }
}
