//! Which tables there are, and what becomes of a journal that an earlier program has written.
//!
//! A journal says two versions of itself: its schema (the tables) and its format (the bytes of facts
//! and snapshots, [`FORMAT`]). A newer program brings both up to its own in one transaction; an
//! older one refuses before it has changed anything.

use grange_scheduler::{FORMAT, FORMAT_OLDEST, State, read_state};

use super::database::{Connection, Dialect, Value};
use super::{JournalError, pack, unpack};

/// What brings the tables from one version to the next, beginning with none at all. Append-only.
const STEPS: [&str; 4] = [
    "
create table if not exists meta (key text primary key, value {int} not null){strict};
create table if not exists journal (seq {int} primary key, at {int} not null, fact {bytes} not null){strict};
create table if not exists snapshot (seq {int} primary key, at {int} not null, state {bytes} not null){strict};
create table if not exists outputs (
    cursor {int} primary key, job {int} not null, step {int} not null, task {int} not null,
    name text not null, role {int} not null, frame {int} not null, hash {bytes} not null, len {int} not null
){strict};
create index if not exists outputs_of_job on outputs (job, cursor);
create index if not exists outputs_by_name on outputs (job, name);
create table if not exists logs (
    cursor {serial}, job {int} not null, step {int} not null,
    task {int} not null, agent {bytes} not null, failed {int} not null, at {int} not null,
    text {bytes} not null
){strict};
create index if not exists logs_of_task on logs (job, step, task, cursor);
",
    // The state's hash, of its bytes before they are packed.
    "alter table snapshot add column hash {bytes};",
    // Which jobs a downloaded file is of; which logs are old.
    "create index if not exists outputs_of_file on outputs (hash);
create index if not exists logs_by_age on logs (at);
",
    // What happened, for people; `job` is -1 and `agent` empty where it is about none.
    "create table if not exists history (
    cursor {int} primary key, at {int} not null, kind text not null, about {int} not null,
    job {int} not null, agent {bytes} not null, subject text not null, text text not null
){strict};
create index if not exists history_of_agent on history (agent, cursor);
",
];
const SCHEMA: i64 = STEPS.len() as i64;

/// What a journal says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Versions {
    /// 0 where there is nothing yet.
    schema: i64,
    format: i64,
}

impl Versions {
    const OURS: Self = Self { schema: SCHEMA, format: FORMAT as i64 };

    /// Only looks.
    pub(super) async fn of(connection: &mut impl Connection) -> Result<Self, JournalError> {
        if connection.fetch(dialect(connection).find_journal, Vec::new()).await?.is_empty() {
            return Ok(Self { schema: 0, format: Self::OURS.format });
        }
        // The first programs with a journal said their format only, and had the first schema.
        let mut versions = Self { schema: 1, format: Self::OURS.format };
        for row in connection.fetch("select key, value from meta", Vec::new()).await? {
            match row.text(0)? {
                "schema" => versions.schema = row.int(1)?,
                "format" => versions.format = row.int(1)?,
                _ => {}
            }
        }
        Ok(versions)
    }

    /// Refuses what this program cannot read, by a sentence.
    pub(super) fn check(self) -> Result<Self, JournalError> {
        for (what, found, known) in
            [("format", self.format, Self::OURS.format), ("schema", self.schema, Self::OURS.schema)]
        {
            if found > known {
                return Err(JournalError::Newer { what, found, known });
            }
        }
        if self.format < i64::from(FORMAT_OLDEST) {
            return Err(JournalError::Older(self.format));
        }
        Ok(self)
    }

    pub(super) fn is_nothing_yet(self) -> bool {
        self.schema == 0
    }

    pub(super) fn is_of_an_earlier_program(self) -> bool {
        self.schema > 0 && self != Self::OURS
    }

    /// Whether snapshots come with the hash of their state.
    pub(super) fn has_hashes(self) -> bool {
        self.schema >= 2
    }

    /// Of facts and snapshots.
    pub(super) fn format(self) -> u32 {
        u32::try_from(self.format).unwrap_or(FORMAT)
    }
}

fn dialect<C: Connection>(_: &C) -> Dialect {
    C::DIALECT
}

/// Makes the tables, or brings those of an earlier program up to date; all of it or nothing.
pub(super) async fn bring_up_to_date<C: Connection>(
    connection: &mut C,
) -> Result<(), JournalError> {
    let found = Versions::of(connection).await?.check()?;
    if found == Versions::OURS {
        return Ok(());
    }
    if found.is_of_an_earlier_program() {
        tracing::info!(
            "the journal is of an earlier Grange and is brought up to date: schema {} to {SCHEMA}, \
             format {} to {FORMAT}",
            found.schema,
            found.format
        );
    }
    connection.fetch("begin", Vec::new()).await?;
    for step in STEPS.iter().skip(usize::try_from(found.schema).unwrap_or_default()) {
        connection.run_all(in_words_of(&C::DIALECT, step)).await?;
    }
    rewrite_snapshots(connection, found).await?;
    for (key, value) in [("schema", SCHEMA), ("format", i64::from(FORMAT))] {
        let set = "insert into meta (key, value) values ($1, $2) \
                   on conflict (key) do update set value = excluded.value";
        connection.fetch(set, vec![key.into(), value.into()]).await?;
    }
    connection.fetch("commit", Vec::new()).await?;
    Ok(())
}

/// Snapshots in this program's format, with hashes. Facts stay as they are: they are append-only.
async fn rewrite_snapshots(
    connection: &mut impl Connection,
    found: Versions,
) -> Result<(), JournalError> {
    let snapshots = connection.fetch("select seq, state from snapshot", Vec::new()).await?;
    for row in snapshots {
        let state = read_state(found.format(), &unpack(row.bytes(1)?)?)
            .map_err(|error| JournalError::Unreadable(error.to_string()))?;
        let Snapshot { hash, packed } = Snapshot::of(&state)?;
        let values: Vec<Value> = vec![packed.into(), hash.into(), row.int(0)?.into()];
        connection
            .fetch("update snapshot set state = $1, hash = $2 where seq = $3", values)
            .await?;
    }
    Ok(())
}

/// A state as it is kept.
pub(super) struct Snapshot {
    pub(super) hash: Vec<u8>,
    pub(super) packed: Vec<u8>,
}

impl Snapshot {
    pub(super) fn of(state: &State) -> Result<Self, JournalError> {
        let bytes = super::encode(state)?;
        let hash = grange_protocol::BlobHash::of(&bytes);
        Ok(Self { hash: hash.as_bytes().to_vec(), packed: pack(&bytes)? })
    }
}

fn in_words_of(dialect: &Dialect, sql: &str) -> String {
    sql.replace("{int}", dialect.int)
        .replace("{bytes}", dialect.bytes)
        .replace("{serial}", dialect.serial)
        .replace("{strict}", dialect.strict)
}
