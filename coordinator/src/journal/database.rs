//! What the journal needs of a database: statements with numbered places, rows of plain values.
//!
//! SQLite and PostgreSQL understand the same statements as long as they are plain, so there is one
//! text of each; the few words in which they differ are a [`Dialect`].

use std::future::Future;

use super::JournalError;

/// What goes into a statement, and what comes out of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// Values in the order in which they were asked for.
#[derive(Debug)]
pub(super) struct Row(pub(super) Vec<Value>);

/// Words that the two do not share.
pub(super) struct Dialect {
    /// 64 bits.
    pub(super) int: &'static str,
    pub(super) bytes: &'static str,
    /// A key that grows by itself.
    pub(super) serial: &'static str,
    /// After a table's columns.
    pub(super) strict: &'static str,
    /// Begins to read everything as of one moment.
    pub(super) begin_reading: &'static str,
    /// After rows were inserted with keys that else grow by themselves.
    pub(super) after_keys: &'static str,
    /// A row if there is a journal at all.
    pub(super) find_journal: &'static str,
}

/// One connection. There is one that writes.
pub(super) trait Connection: Send + Sized + 'static {
    type Readers: Readers;
    const DIALECT: Dialect;

    fn fetch(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> impl Future<Output = Result<Vec<Row>, JournalError>> + Send;

    /// Statements without values, in the words of the dialect.
    fn run_all(&mut self, sql: String) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// After something went wrong: ends what was begun, and connects again if need be.
    fn renew(&mut self) -> impl Future<Output = Result<(), JournalError>> + Send;

    fn close(self) -> impl Future<Output = Result<(), JournalError>> + Send;
}

/// Connections that read, for questions that must not hold up the writer.
pub(super) trait Readers: Clone + Send + Sync + 'static {
    fn fetch(
        &self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> impl Future<Output = Result<Vec<Row>, JournalError>> + Send;

    fn close(self) -> impl Future<Output = ()> + Send;
}

impl Row {
    pub(super) fn int(&self, at: usize) -> Result<i64, JournalError> {
        match self.0.get(at) {
            Some(Value::Int(int)) => Ok(*int),
            _ => Err(JournalError::damaged("a number")),
        }
    }

    pub(super) fn text(&self, at: usize) -> Result<&str, JournalError> {
        match self.0.get(at) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(JournalError::damaged("a text")),
        }
    }

    pub(super) fn bytes(&self, at: usize) -> Result<&[u8], JournalError> {
        match self.0.get(at) {
            Some(Value::Bytes(bytes)) => Ok(bytes),
            _ => Err(JournalError::damaged("a value")),
        }
    }
}

impl From<i64> for Value {
    fn from(int: i64) -> Self {
        Self::Int(int)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}
