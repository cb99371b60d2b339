//! What happened, in rows for people: the latest ones, however old they are.

use std::collections::BTreeSet;

use grange_protocol::client::{HistoryQuery, Page};
use grange_protocol::history::{About, HistoryKind, HistoryView};
use grange_protocol::limits::PAGE_ROWS_MAX;
use grange_protocol::{AgentId, JobId, Millis};
use uuid::Uuid;

use super::JournalError;
use super::database::{Connection, Readers, Row};

/// Rows that stay, and of each agent of the farm beyond that when it came or went last.
pub(super) const ROWS_KEPT: i64 = 10_000;
/// Older ones go when so many have come.
const ROWS_BETWEEN: u64 = 500;
/// Where it is about no job.
const NO_JOB: i64 = -1;

/// How the history leaves the farm, as far as anybody was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// The latest cursor; 0 if nothing has happened yet.
    pub(crate) last: u64,
    /// Jobs that have begun.
    pub(crate) started: BTreeSet<JobId>,
    pub(crate) online: BTreeSet<AgentId>,
    pub(crate) storage_full: bool,
}

/// A row that is there already is the same one: its batch was written although nobody heard of it.
pub(super) async fn insert(
    connection: &mut impl Connection,
    rows: &[HistoryView],
) -> Result<(), JournalError> {
    let insert = "insert into history (cursor, at, kind, about, job, agent, subject, text) \
                  values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (cursor) do nothing";
    for row in rows {
        let agent = row.agent.map_or(Vec::new(), |agent| agent.0.as_bytes().to_vec());
        let values = vec![
            (row.cursor as i64).into(),
            (row.at.0 as i64).into(),
            row.kind.name().into(),
            about_number(row.kind.about()).into(),
            row.job.map_or(NO_JOB, |job| i64::from(job.0)).into(),
            agent.into(),
            row.subject.as_str().into(),
            row.text.as_str().into(),
        ];
        connection.fetch(insert, values).await?;
        if row.cursor.is_multiple_of(ROWS_BETWEEN) {
            forget(connection, row.cursor as i64 - ROWS_KEPT).await?;
        }
    }
    Ok(())
}

async fn forget(connection: &mut impl Connection, up_to: i64) -> Result<(), JournalError> {
    // What an agent did last is how the next coordinator knows who was there.
    let old = "delete from history where cursor <= $1 and not \
               (kind in ('agent.online', 'agent.offline') and not exists \
                (select 1 from history as later where later.agent = history.agent \
                 and later.cursor > history.cursor \
                 and later.kind in ('agent.online', 'agent.offline', 'agent.removed')))";
    connection.fetch(old, vec![up_to.into()]).await?;
    Ok(())
}

pub(super) async fn remembered(
    connection: &mut impl Connection,
) -> Result<Remembered, JournalError> {
    let mut remembered = Remembered::default();
    let last = "select cursor from history order by cursor desc limit 1";
    if let Some(row) = connection.fetch(last, Vec::new()).await?.first() {
        remembered.last = row.int(0)? as u64;
    }
    let telling = "select kind, job, agent from history where kind in \
                   ('job.started', 'agent.online', 'agent.offline', 'agent.removed', \
                    'storage.full', 'storage.recovered') order by cursor";
    for row in connection.fetch(telling, Vec::new()).await? {
        let (kind, job, agent) = (kind(&row, 0)?, job(&row, 1)?, agent(&row, 2)?);
        match kind {
            HistoryKind::JobStarted => remembered.started.extend(job),
            HistoryKind::AgentOnline => remembered.online.extend(agent),
            HistoryKind::AgentOffline | HistoryKind::AgentRemoved => {
                remembered.online.retain(|online| Some(*online) != agent);
            }
            kind => remembered.storage_full = kind == HistoryKind::StorageFull,
        }
    }
    Ok(remembered)
}

pub(super) async fn after(
    connection: &mut impl Connection,
    cursor: u64,
) -> Result<Vec<HistoryView>, JournalError> {
    let after = "select cursor, at, kind, job, agent, subject, text from history \
                 where cursor > $1 order by cursor";
    let rows = connection.fetch(after, vec![(cursor as i64).into()]).await?;
    rows.iter().map(view).collect()
}

pub(super) async fn page(
    readers: &impl Readers,
    query: HistoryQuery,
) -> Result<Page<HistoryView>, JournalError> {
    let limit = query.limit.clamp(1, PAGE_ROWS_MAX);
    let before = if query.before == 0 { i64::MAX } else { query.before as i64 };
    let agent = query.agent.map_or(Vec::new(), |agent| agent.0.as_bytes().to_vec());
    let values = vec![
        before.into(),
        query.about.map_or(-1, about_number).into(),
        query.job.map_or(NO_JOB, |job| i64::from(job.0)).into(),
        agent.into(),
        i64::from(limit).into(),
    ];
    let find = "select cursor, at, kind, job, agent, subject, text from history \
                where cursor < $1 and ($2 < 0 or about = $2) and ($3 < 0 or job = $3) \
                and (length($4) = 0 or agent = $4) order by cursor desc limit $5";
    let rows = readers.fetch(find, values).await?;
    let rows: Vec<HistoryView> = rows.iter().map(view).collect::<Result<_, _>>()?;
    let full = rows.len() == limit as usize;
    let next = rows.last().filter(|_| full).map(|row| row.cursor);
    Ok(Page { rows, next })
}

fn view(row: &Row) -> Result<HistoryView, JournalError> {
    Ok(HistoryView {
        cursor: row.int(0)? as u64,
        at: Millis(row.int(1)? as u64),
        kind: kind(row, 2)?,
        job: job(row, 3)?,
        agent: agent(row, 4)?,
        subject: row.text(5)?.into(),
        text: row.text(6)?.into(),
    })
}

fn kind(row: &Row, at: usize) -> Result<HistoryKind, JournalError> {
    HistoryKind::named(row.text(at)?).ok_or_else(|| JournalError::damaged("what happened"))
}

fn job(row: &Row, at: usize) -> Result<Option<JobId>, JournalError> {
    Ok(u32::try_from(row.int(at)?).ok().map(JobId))
}

fn agent(row: &Row, at: usize) -> Result<Option<AgentId>, JournalError> {
    Ok(Uuid::from_slice(row.bytes(at)?).ok().map(AgentId))
}

fn about_number(about: About) -> i64 {
    match about {
        About::Jobs => 0,
        About::Agents => 1,
        About::Farm => 2,
    }
}
