//! From a journal to the state: the latest snapshot that is whole, and all facts after it.

use grange_protocol::{BlobHash, Millis};
use grange_scheduler::{FORMAT, Recorded, State, read_state};

use super::database::{Connection, Row};
use super::schema::Versions;
use super::{JournalError, decode, unpack};

/// What a journal gives back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) state: State,
    /// Of the latest fact in it.
    pub(crate) seq: u64,
}

/// What was found in a journal by somebody who only looks.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) replayed: Replayed,
    /// Snapshots whose state was compared with that of the snapshot before and the facts since.
    pub(crate) compared: u32,
    /// Whether it was written by an earlier program, which a start would bring up to date.
    pub(crate) is_earlier: bool,
}

struct Kept {
    seq: u64,
    state: State,
}

/// For a start: what can be read.
pub(super) async fn replay(connection: &mut impl Connection) -> Result<Replayed, JournalError> {
    let mut latest = None;
    for row in snapshots(connection, true).await? {
        match kept(&row, FORMAT, true) {
            Ok(kept) => {
                latest = Some(kept);
                break;
            }
            Err(error) => {
                tracing::error!("a snapshot is damaged, the one before is taken: {error}");
            }
        }
    }
    let mut replayed = latest.map_or_else(Replayed::default, Replayed::from);
    replayed.go_on(connection, u64::MAX).await?;
    Ok(replayed)
}

/// For a look: every snapshot is read, and compared with what the one before and the facts since
/// then make.
pub(super) async fn look<C: Connection>(
    (mut connection, versions): (C, Versions),
    as_of: u64,
) -> Result<Looked, JournalError> {
    let connection = &mut connection;
    connection.fetch(C::DIALECT.begin_reading, Vec::new()).await?;
    let mut rows = snapshots(connection, versions.has_hashes()).await?;
    rows.reverse();
    let (mut replayed, mut compared) = (Replayed::default(), 0);
    for (number, row) in rows.iter().enumerate() {
        let kept = kept(row, versions.format(), versions.has_hashes())?;
        if kept.seq > as_of && number > 0 {
            break;
        }
        if number > 0 {
            replayed.go_on(connection, kept.seq).await?;
            compared += 1;
            if replayed.state != kept.state {
                return Err(JournalError::Differs { seq: kept.seq });
            }
        }
        replayed = kept.into();
    }
    replayed.go_on(connection, as_of).await?;
    Ok(Looked { replayed, compared, is_earlier: versions.is_of_an_earlier_program() })
}

/// The latest one first: number, state, and its hash if that is there.
async fn snapshots(
    connection: &mut impl Connection,
    with_hashes: bool,
) -> Result<Vec<Row>, JournalError> {
    let sql = if with_hashes {
        "select seq, state, hash from snapshot order by seq desc"
    } else {
        "select seq, state from snapshot order by seq desc"
    };
    connection.fetch(sql, Vec::new()).await
}

fn kept(row: &Row, format: u32, with_hash: bool) -> Result<Kept, JournalError> {
    let bytes = unpack(row.bytes(1)?)?;
    if with_hash && BlobHash::of(&bytes).as_bytes().as_slice() != row.bytes(2)? {
        return Err(JournalError::damaged("a snapshot"));
    }
    let state =
        read_state(format, &bytes).map_err(|error| JournalError::Unreadable(error.to_string()))?;
    Ok(Kept { seq: row.int(0)? as u64, state })
}

impl Replayed {
    /// Applies the facts that come next, up to the one with the number `last`.
    async fn go_on(
        &mut self,
        connection: &mut impl Connection,
        last: u64,
    ) -> Result<(), JournalError> {
        let last = i64::try_from(last).unwrap_or(i64::MAX);
        loop {
            let facts = next_facts(connection, self.seq, last).await?;
            if facts.is_empty() {
                return Ok(());
            }
            for (seq, recorded) in facts {
                if seq != self.seq + 1 {
                    return Err(JournalError::Unreadable(format!(
                        "fact {} is missing",
                        self.seq + 1
                    )));
                }
                self.state
                    .apply(&recorded)
                    .map_err(|error| JournalError::Unreadable(error.to_string()))?;
                self.seq = seq;
            }
        }
    }
}

/// So many as come at once.
async fn next_facts(
    connection: &mut impl Connection,
    after: u64,
    last: i64,
) -> Result<Vec<(u64, Recorded)>, JournalError> {
    let next = "select seq, at, fact from journal where seq > $1 and seq <= $2 \
                order by seq limit 10000";
    let rows = connection.fetch(next, vec![(after as i64).into(), last.into()]).await?;
    let recorded = |row: &Row| {
        let at = Millis(row.int(1)? as u64);
        Ok((row.int(0)? as u64, Recorded { at, fact: decode(row.bytes(2)?)? }))
    };
    rows.iter().map(recorded).collect()
}

impl From<Kept> for Replayed {
    fn from(kept: Kept) -> Self {
        Self { state: kept.state, seq: kept.seq }
    }
}
