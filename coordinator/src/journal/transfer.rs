//! A whole journal from one database to another, row by row: how backups are files of SQLite
//! wherever the journal is, and how a journal moves.

use super::JournalError;
use super::database::Connection;

/// What reads a thousand rows after a key, and what writes one. The versions are not copied: both
/// journals are of this program.
const TABLES: [(&str, &str); 5] = [
    (
        "select seq, at, fact from journal where seq > $1 order by seq limit 1000",
        "insert into journal (seq, at, fact) values ($1, $2, $3)",
    ),
    (
        "select seq, at, state, hash from snapshot where seq > $1 order by seq limit 1000",
        "insert into snapshot (seq, at, state, hash) values ($1, $2, $3, $4)",
    ),
    (
        "select cursor, job, step, task, name, role, frame, hash, len from outputs \
         where cursor > $1 order by cursor limit 1000",
        "insert into outputs (cursor, job, step, task, name, role, frame, hash, len) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    ),
    (
        "select cursor, job, step, task, agent, failed, at, text from logs \
         where cursor > $1 order by cursor limit 1000",
        "insert into logs (cursor, job, step, task, agent, failed, at, text) \
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    ),
    (
        "select cursor, at, kind, about, job, agent, subject, text from history \
         where cursor > $1 order by cursor limit 1000",
        "insert into history (cursor, at, kind, about, job, agent, subject, text) \
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    ),
];

/// Copies as of one moment. `to` has the tables and nothing in them, and gets all or nothing.
pub(super) async fn transfer<From: Connection, To: Connection>(
    from: &mut From,
    to: &mut To,
) -> Result<(), JournalError> {
    if !is_empty(to).await? {
        return Err(JournalError::NotEmpty);
    }
    from.fetch(From::DIALECT.begin_reading, Vec::new()).await?;
    to.fetch("begin", Vec::new()).await?;
    for (read, write) in TABLES {
        let mut after = -1;
        loop {
            let rows = from.fetch(read, vec![after.into()]).await?;
            let Some(last) = rows.last() else { break };
            after = last.int(0)?;
            for row in rows {
                to.fetch(write, row.0).await?;
            }
        }
    }
    to.run_all(To::DIALECT.after_keys.into()).await?;
    to.fetch("commit", Vec::new()).await?;
    from.fetch("commit", Vec::new()).await?;
    Ok(())
}

/// Whether there are the tables only.
pub(super) async fn is_empty(connection: &mut impl Connection) -> Result<bool, JournalError> {
    let facts = connection.fetch("select seq from journal limit 1", Vec::new()).await?;
    let snapshots = connection.fetch("select seq from snapshot limit 1", Vec::new()).await?;
    Ok(facts.is_empty() && snapshots.is_empty())
}
