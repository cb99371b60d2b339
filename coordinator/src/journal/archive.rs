//! Questions to the journal: outputs by their job, logs by their task, and what happened.

use grange_protocol::client::{HistoryQuery, LogsQuery, OutputsQuery, Page};
use grange_protocol::file::{Blob, Output, OutputRole};
use grange_protocol::history::HistoryView;
use grange_protocol::limits::PAGE_ROWS_MAX;
use grange_protocol::view::OutputView;
use grange_protocol::{
    AgentId, BlobHash, JobId, Millis, OutputName, StepIndex, TaskIndex, TaskRef,
};

use super::database::{Readers, Row};
use super::{Answer, Archive, AttemptLog, JournalError, LogRow, history};

/// The journal's readers.
pub(super) struct Questions<R>(pub(super) R);

impl<R: Readers> Archive for Questions<R> {
    fn outputs(&self, query: OutputsQuery) -> Answer<'_, Page<OutputView>> {
        let step = query.step.map_or(-1, |step| i64::from(step.0));
        let values = vec![
            i64::from(query.job.0).into(),
            (query.after as i64).into(),
            step.into(),
            i64::from(PAGE_ROWS_MAX).into(),
        ];
        Box::pin(async move {
            let rows = self
                .0
                .fetch(
                    "select cursor, step, task, name, role, frame, hash, len from outputs \
                     where job = $1 and cursor > $2 and ($3 < 0 or step = $3) \
                     order by cursor limit $4",
                    values,
                )
                .await?;
            let rows: Vec<OutputView> = rows.iter().map(output_view).collect::<Result<_, _>>()?;
            let full = rows.len() == PAGE_ROWS_MAX as usize;
            let next = rows.last().filter(|_| full).map(|row| row.cursor);
            Ok(Page { rows, next })
        })
    }

    fn output(&self, job: JobId, name: OutputName) -> Answer<'_, Option<OutputView>> {
        Box::pin(async move {
            let rows = self
                .0
                .fetch(
                    "select cursor, step, task, name, role, frame, hash, len from outputs \
                     where job = $1 and name = $2",
                    vec![i64::from(job.0).into(), name.as_str().into()],
                )
                .await?;
            rows.first().map(output_view).transpose()
        })
    }

    fn jobs_with(&self, hash: BlobHash) -> Answer<'_, Vec<JobId>> {
        Box::pin(async move {
            let find = "select distinct job from outputs where hash = $1";
            let rows = self.0.fetch(find, vec![hash.as_bytes().as_slice().into()]).await?;
            rows.iter().map(|row| Ok(JobId(row.int(0)? as u32))).collect()
        })
    }

    fn logs(&self, query: LogsQuery) -> Answer<'_, Page<LogRow>> {
        /// Texts are large: fewer to a page.
        const ROWS: usize = 50;
        let (step, task) =
            query.task.map_or((-1, -1), |(step, task)| (i64::from(step.0), i64::from(task.0)));
        let before = if query.before == 0 { i64::MAX } else { query.before as i64 };
        let values = vec![
            i64::from(query.job.0).into(),
            before.into(),
            step.into(),
            task.into(),
            i64::from(query.failed_only).into(),
            (ROWS as i64).into(),
        ];
        Box::pin(async move {
            let rows = self
                .0
                .fetch(
                    "select cursor, step, task, agent, failed, at, text from logs \
                     where job = $1 and cursor < $2 and ($3 < 0 or (step = $3 and task = $4)) \
                     and failed >= $5 order by cursor desc limit $6",
                    values,
                )
                .await?;
            let rows: Vec<LogRow> =
                rows.iter().map(|row| log_row(query.job, row)).collect::<Result<_, _>>()?;
            let next = rows.last().filter(|_| rows.len() == ROWS).map(|row| row.cursor);
            Ok(Page { rows, next })
        })
    }

    fn history(&self, query: HistoryQuery) -> Answer<'_, Page<HistoryView>> {
        Box::pin(history::page(&self.0, query))
    }
}

fn output_view(row: &Row) -> Result<OutputView, JournalError> {
    Ok(OutputView {
        cursor: row.int(0)? as u64,
        step: StepIndex(row.int(1)? as u16),
        task: TaskIndex(row.int(2)? as u32),
        output: Output {
            name: row.text(3)?.parse().map_err(|_| JournalError::damaged("an output's name"))?,
            role: role_of(row.int(4)?)?,
            frame: row.int(5)? as i32,
            blob: blob(row.bytes(6)?, row.int(7)?)?,
        },
    })
}

pub(super) fn blob(hash: &[u8], len: i64) -> Result<Blob, JournalError> {
    let hash: [u8; 32] = hash.try_into().map_err(|_| JournalError::damaged("a hash"))?;
    Ok(Blob { hash: BlobHash::from_bytes(hash), len: len as u64 })
}

fn log_row(job: JobId, row: &Row) -> Result<LogRow, JournalError> {
    let agent =
        uuid::Uuid::from_slice(row.bytes(3)?).map_err(|_| JournalError::damaged("an agent"))?;
    let text = super::unpack(row.bytes(6)?).unwrap_or_default();
    Ok(LogRow {
        cursor: row.int(0)? as u64,
        log: AttemptLog {
            task: TaskRef {
                job,
                step: StepIndex(row.int(1)? as u16),
                task: TaskIndex(row.int(2)? as u32),
            },
            agent: AgentId(agent),
            failed: row.int(4)? != 0,
            at: Millis(row.int(5)? as u64),
            text: String::from_utf8_lossy(&text).into_owned(),
        },
    })
}

const ROLES: [OutputRole; 3] = [OutputRole::Frame, OutputRole::Extra, OutputRole::Preview];

pub(super) fn role_number(role: OutputRole) -> i64 {
    ROLES.iter().position(|known| *known == role).unwrap_or_default() as i64
}

fn role_of(number: i64) -> Result<OutputRole, JournalError> {
    ROLES.get(number as usize).copied().ok_or_else(|| JournalError::damaged("an output's role"))
}
