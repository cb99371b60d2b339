//! The journal as its one writer has it: facts in, all of a batch or nothing.

use std::sync::Arc;

use grange_faults::point;
use grange_protocol::file::{Blob, Output};
use grange_protocol::history::HistoryView;
use grange_protocol::{AgentId, Millis, TaskRef};
use grange_scheduler::{Fact, Recorded, State};

use super::archive::{Questions, blob, role_number};
use super::database::{Connection, Readers, Value};
use super::replay::{Replayed, replay};
use super::schema::{Snapshot, bring_up_to_date};
use super::{
    Answer, Archive, AttemptLog, Journal, JournalError, Remembered, encode, history, pack,
};

/// Facts that one statement inserts.
const ROWS_PER_INSERT: usize = 32;
/// So many that the loop does not wait long; more go the next time.
const LOGS_FORGOTTEN_AT_ONCE: i64 = 5_000;
const INSERT_FACT: &str = "insert into journal (seq, at, fact) values ($1, $2, $3)";
/// The same for [`ROWS_PER_INSERT`] facts.
const INSERT_FACTS: &str = "insert into journal (seq, at, fact) values \
    ($1,$2,$3),($4,$5,$6),($7,$8,$9),($10,$11,$12),($13,$14,$15),($16,$17,$18),($19,$20,$21),\
    ($22,$23,$24),($25,$26,$27),($28,$29,$30),($31,$32,$33),($34,$35,$36),($37,$38,$39),\
    ($40,$41,$42),($43,$44,$45),($46,$47,$48),($49,$50,$51),($52,$53,$54),($55,$56,$57),\
    ($58,$59,$60),($61,$62,$63),($64,$65,$66),($67,$68,$69),($70,$71,$72),($73,$74,$75),\
    ($76,$77,$78),($79,$80,$81),($82,$83,$84),($85,$86,$87),($88,$89,$90),($91,$92,$93),\
    ($94,$95,$96)";

pub(super) struct Writer<C: Connection> {
    connection: C,
    readers: C::Readers,
    /// Of the latest fact.
    seq: u64,
    /// The last transaction went wrong, and nobody knows how far it came.
    is_in_doubt: bool,
}

impl<C: Connection> Writer<C> {
    /// Makes what is missing, brings up to date what is old, and replays.
    pub(super) async fn open(
        mut connection: C,
        readers: C::Readers,
    ) -> Result<(Self, State), JournalError> {
        bring_up_to_date(&mut connection).await?;
        let Replayed { state, seq } = replay(&mut connection).await?;
        Ok((Self { connection, readers, seq, is_in_doubt: false }, state))
    }

    async fn append(
        &mut self,
        facts: &[Recorded],
        logs: &[AttemptLog],
        history: &[HistoryView],
    ) -> Result<u64, JournalError> {
        let first = self.seq + 1;
        let mut rows = Vec::with_capacity(facts.len());
        for (seq, recorded) in (first..).zip(facts) {
            rows.push((seq as i64, recorded.at.0 as i64, encode(&recorded.fact)?));
        }
        if self.is_in_doubt && self.was_written(&rows).await? {
            self.seq += facts.len() as u64;
            return Ok(first);
        }
        self.is_in_doubt = true;
        self.write(facts, rows, logs, history).await?;
        self.is_in_doubt = false;
        self.seq += facts.len() as u64;
        Ok(first)
    }

    /// After a failure: whether these facts came to be durable all the same. Where a batch has no facts,
    /// nobody can tell; a log may then be kept twice, and a line of the history has its number.
    async fn was_written(&mut self, rows: &[(i64, i64, Vec<u8>)]) -> Result<bool, JournalError> {
        self.connection.renew().await?;
        let after = "select seq, fact from journal where seq > $1 order by seq";
        let found = self.connection.fetch(after, vec![(self.seq as i64).into()]).await?;
        if found.is_empty() {
            return Ok(false);
        }
        let mut ours = rows.iter().zip(&found);
        let is_ours = found.len() == rows.len()
            && ours.all(|((_, _, fact), row)| row.bytes(1).is_ok_and(|bytes| bytes == fact));
        if is_ours { Ok(true) } else { Err(JournalError::Superseded) }
    }

    async fn write(
        &mut self,
        facts: &[Recorded],
        rows: Vec<(i64, i64, Vec<u8>)>,
        logs: &[AttemptLog],
        history: &[HistoryView],
    ) -> Result<(), JournalError> {
        let connection = &mut self.connection;
        let first = self.seq + 1;
        point("journal.begin")?;
        connection.fetch("begin", Vec::new()).await?;
        insert_facts(connection, rows).await?;
        for (seq, recorded) in (first..).zip(facts) {
            if let Fact::OutputStored { task, output } = &recorded.fact {
                insert_output(connection, seq, *task, output).await?;
            }
            if let Fact::JobCollected(job) = &recorded.fact {
                for delete in
                    ["delete from outputs where job = $1", "delete from logs where job = $1"]
                {
                    connection.fetch(delete, vec![i64::from(job.0).into()]).await?;
                }
            }
        }
        for log in logs {
            insert_log(connection, log).await?;
        }
        history::insert(connection, history).await?;
        point("journal.commit")?;
        connection.fetch("commit", Vec::new()).await?;
        point("journal.committed")?;
        Ok(())
    }

    async fn forget_logs(&mut self, before: Millis) -> Result<(), JournalError> {
        if self.is_in_doubt {
            return Ok(());
        }
        let old = "delete from logs where cursor in \
                   (select cursor from logs where at < $1 order by at limit $2)";
        let values = vec![(before.0 as i64).into(), LOGS_FORGOTTEN_AT_ONCE.into()];
        self.connection.fetch(old, values).await?;
        Ok(())
    }

    async fn snapshot(&mut self, state: &State) -> Result<(), JournalError> {
        if self.is_in_doubt {
            self.connection.renew().await?;
        }
        let Snapshot { hash, packed } = Snapshot::of(state)?;
        let values: Vec<Value> =
            vec![(self.seq as i64).into(), (state.at.0 as i64).into(), packed.into(), hash.into()];
        self.is_in_doubt = true;
        self.write_snapshot(values).await?;
        self.is_in_doubt = false;
        Ok(())
    }

    async fn write_snapshot(&mut self, values: Vec<Value>) -> Result<(), JournalError> {
        let connection = &mut self.connection;
        point("journal.snapshot")?;
        connection.fetch("begin", Vec::new()).await?;
        let insert = "insert into snapshot (seq, at, state, hash) values ($1, $2, $3, $4) \
                      on conflict (seq) do update set \
                      at = excluded.at, state = excluded.state, hash = excluded.hash";
        connection.fetch(insert, values).await?;
        // The one before stays, and the facts since then, should this one be damaged.
        let old_snapshots = "delete from snapshot where seq < \
            (select min(seq) from (select seq from snapshot order by seq desc limit 2) as latest)";
        connection.fetch(old_snapshots, Vec::new()).await?;
        let old_facts = "delete from journal where seq <= (select min(seq) from snapshot) \
                         and (select count(*) from snapshot) > 1";
        connection.fetch(old_facts, Vec::new()).await?;
        connection.fetch("commit", Vec::new()).await?;
        point("journal.snapshotted")?;
        Ok(())
    }
}

impl<C: Connection> Journal for Writer<C> {
    fn append<'a>(
        &'a mut self,
        facts: &'a [Recorded],
        logs: &'a [AttemptLog],
        history: &'a [HistoryView],
    ) -> Answer<'a, u64> {
        Box::pin(self.append(facts, logs, history))
    }

    fn remembered(&mut self) -> Answer<'_, Remembered> {
        Box::pin(history::remembered(&mut self.connection))
    }

    fn history_after(&mut self, cursor: u64) -> Answer<'_, Vec<HistoryView>> {
        Box::pin(history::after(&mut self.connection, cursor))
    }

    fn snapshot<'a>(&'a mut self, state: &'a State) -> Answer<'a, ()> {
        Box::pin(self.snapshot(state))
    }

    fn forget_logs(&mut self, before: Millis) -> Answer<'_, ()> {
        Box::pin(self.forget_logs(before))
    }

    fn archive(&self) -> Arc<dyn Archive> {
        Arc::new(Questions(self.readers.clone()))
    }

    fn close(self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(async move {
            self.readers.close().await;
            self.connection.close().await
        })
    }
}

async fn insert_facts(
    connection: &mut impl Connection,
    mut rows: Vec<(i64, i64, Vec<u8>)>,
) -> Result<(), JournalError> {
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(ROWS_PER_INSERT));
        if rows.len() == ROWS_PER_INSERT {
            connection.fetch(INSERT_FACTS, rows.into_iter().flat_map(values_of).collect()).await?;
        } else {
            for row in rows {
                connection.fetch(INSERT_FACT, values_of(row).into()).await?;
            }
        }
        rows = rest;
    }
    Ok(())
}

fn values_of((seq, at, fact): (i64, i64, Vec<u8>)) -> [Value; 3] {
    [seq.into(), at.into(), fact.into()]
}

async fn insert_output(
    connection: &mut impl Connection,
    seq: u64,
    task: TaskRef,
    output: &Output,
) -> Result<(), JournalError> {
    let insert = "insert into outputs (cursor, job, step, task, name, role, frame, hash, len) \
                  values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let values = vec![
        (seq as i64).into(),
        i64::from(task.job.0).into(),
        i64::from(task.step.0).into(),
        i64::from(task.task.0).into(),
        output.name.as_str().into(),
        role_number(output.role).into(),
        i64::from(output.frame).into(),
        output.blob.hash.as_bytes().as_slice().into(),
        (output.blob.len as i64).into(),
    ];
    connection.fetch(insert, values).await?;
    Ok(())
}

async fn insert_log(
    connection: &mut impl Connection,
    log: &AttemptLog,
) -> Result<(), JournalError> {
    let AgentId(agent) = log.agent;
    let insert = "insert into logs (job, step, task, agent, failed, at, text) \
                  values ($1, $2, $3, $4, $5, $6, $7)";
    let values = vec![
        i64::from(log.task.job.0).into(),
        i64::from(log.task.step.0).into(),
        i64::from(log.task.task.0).into(),
        agent.as_bytes().as_slice().into(),
        i64::from(log.failed).into(),
        (log.at.0 as i64).into(),
        pack(log.text.as_bytes()).unwrap_or_default().into(),
    ];
    connection.fetch(insert, values).await?;
    Ok(())
}

/// All files that jobs have committed, each once.
pub(super) async fn committed(mut connection: impl Connection) -> Result<Vec<Blob>, JournalError> {
    let rows = connection.fetch("select distinct hash, len from outputs", Vec::new()).await?;
    connection.close().await?;
    rows.iter().map(|row| blob(row.bytes(0)?, row.int(1)?)).collect()
}
