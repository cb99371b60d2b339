//! What the journal promises, on a real SQLite file.

use grange_protocol::agent::Completed;
use grange_protocol::client::{LogsQuery, OutputsQuery};
use grange_protocol::file::{Blob, Output, OutputRole};
use grange_protocol::job::{NoopWork, Policy, StepSpec, Work};
use grange_protocol::{
    AgentId, BlobHash, Epoch, JobId, JobSpec, Millis, StepIndex, TaskIndex, TaskRef,
};
use grange_scheduler::{Fact, Recorded, State};
use tempfile::TempDir;
use uuid::Uuid;

use super::{AttemptLog, Journal, JournalError, Sqlite};

fn task(number: u32) -> TaskRef {
    TaskRef { job: JobId(1), step: StepIndex(0), task: TaskIndex(number) }
}

fn submitted(tasks: u32) -> Fact {
    let work = Work::Noop(NoopWork { tasks, millis: 0 });
    let step = StepSpec { name: "noop".parse().unwrap(), after: Vec::new(), optional: false, work };
    let spec = JobSpec {
        name: "job".parse().unwrap(),
        kind: "noop".parse().unwrap(),
        priority: Default::default(),
        manifest: None,
        policy: Policy::default(),
        steps: vec![step],
    };
    Fact::JobSubmitted { job: JobId(1), submitter: "ada".parse().unwrap(), spec: Box::new(spec) }
}

fn completed(number: u32) -> Fact {
    let cost = Completed { outputs: 0, total_ms: 9, render_ms: 7, load_ms: 1, peak_mib: 3 };
    Fact::TaskCompleted { task: task(number), agent: AgentId(Uuid::nil()), cost }
}

fn stored(number: u32) -> Fact {
    let bytes = number.to_le_bytes();
    let output = Output {
        name: format!("{number:04}.png").parse().unwrap(),
        role: OutputRole::Frame,
        frame: number as i32,
        blob: Blob { hash: BlobHash::of(&bytes), len: 4 },
    };
    Fact::OutputStored { task: task(number), output }
}

fn at(at: u64, facts: impl IntoIterator<Item = Fact>) -> Vec<Recorded> {
    facts.into_iter().map(|fact| Recorded { at: Millis(at), fact }).collect()
}

fn applied(facts: &[Recorded]) -> State {
    let mut state = State::default();
    facts.iter().for_each(|fact| state.apply(fact).unwrap());
    state
}

async fn open(dir: &TempDir) -> (Sqlite, State) {
    Sqlite::open(&dir.path().join("journal.sqlite")).await.unwrap()
}

#[tokio::test]
async fn what_was_appended_is_there_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let (mut journal, state) = open(&dir).await;
    assert_eq!(state, State::default());
    // More than one statement's worth, and not a multiple of it.
    let facts = at(5, [submitted(100)].into_iter().chain((0..77).map(completed)));
    assert_eq!(Journal::append(&mut journal, &facts, &[]).await.unwrap(), 1);
    assert_eq!(Journal::append(&mut journal, &at(6, [completed(80)]), &[]).await.unwrap(), 79);
    drop(journal);
    let (_, state) = open(&dir).await;
    let all: Vec<Recorded> = facts.into_iter().chain(at(6, [completed(80)])).collect();
    assert_eq!(state, applied(&all));
}

#[tokio::test]
async fn snapshots_shorten_the_replay_and_change_nothing() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir).await;
    let mut all = at(1, [Fact::EpochBegan(Epoch(1)), submitted(1000)]);
    Journal::append(&mut journal, &all, &[]).await.unwrap();
    for round in 0..4 {
        let facts = at(2 + round, (round as u32 * 50..(round as u32 + 1) * 50).map(completed));
        Journal::append(&mut journal, &facts, &[]).await.unwrap();
        all.extend(facts);
        Journal::snapshot(&mut journal, &applied(&all)).await.unwrap();
    }
    let tail = at(9, [completed(999)]);
    Journal::append(&mut journal, &tail, &[]).await.unwrap();
    all.extend(tail);
    drop(journal);
    let (facts, snapshots) = rows_in(&dir).await;
    assert!(facts <= 51, "{facts} facts are kept that snapshots cover");
    assert_eq!(snapshots, 2, "the latest snapshot and the one before");
    let (_, state) = open(&dir).await;
    assert_eq!(state, applied(&all));
}

/// Rows of the journal, and snapshots.
async fn rows_in(dir: &TempDir) -> (i64, i64) {
    use sqlx::{Connection, SqliteConnection};
    let url = format!("sqlite://{}", dir.path().join("journal.sqlite").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let facts = sqlx::query_scalar("select count(*) from journal").fetch_one(&mut connection).await;
    let snapshots =
        sqlx::query_scalar("select count(*) from snapshot").fetch_one(&mut connection).await;
    (facts.unwrap(), snapshots.unwrap())
}

#[tokio::test]
async fn outputs_come_in_the_order_of_their_commit_page_by_page() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir).await;
    let facts = at(1, [submitted(3000)].into_iter().chain((0..2500).map(stored)));
    Journal::append(&mut journal, &facts, &[]).await.unwrap();
    let archive = journal.archive();
    let (mut names, mut after, mut pages) = (Vec::new(), Some(0), 0);
    while let Some(cursor) = after {
        let query = OutputsQuery { job: JobId(1), step: Some(StepIndex(0)), after: cursor };
        let page = archive.outputs(query).await.unwrap();
        names.extend(page.rows.iter().map(|row| row.output.name.to_string()));
        after = page.next;
        pages += 1;
    }
    let expected: Vec<String> = (0..2500).map(|number| format!("{number:04}.png")).collect();
    assert_eq!((names, pages), (expected, 3));
    let first = OutputsQuery { job: JobId(1), step: None, after: 0 };
    let row = archive.outputs(first).await.unwrap().rows.swap_remove(0);
    assert_eq!((row.cursor, row.task), (2, TaskIndex(0)));
    assert_eq!(row.output.blob.hash, BlobHash::of(&0u32.to_le_bytes()));
    let other = OutputsQuery { job: JobId(1), step: Some(StepIndex(1)), after: 0 };
    assert_eq!(archive.outputs(other).await.unwrap().rows, []);
    let by_name = async |job, name: &str| {
        let found = archive.output(JobId(job), name.parse().unwrap()).await.unwrap();
        found.map(|output| output.cursor)
    };
    assert_eq!(by_name(1, "0007.png").await, Some(9));
    assert_eq!((by_name(2, "0007.png").await, by_name(1, "7.png").await), (None, None));
}

#[tokio::test]
async fn logs_are_found_by_task_and_by_failure() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir).await;
    let log = |number, failed| AttemptLog {
        task: task(number),
        agent: AgentId(Uuid::from_u128(7)),
        failed,
        at: Millis(1),
        text: format!("log of {number}, failed: {failed}"),
    };
    let logs = [log(1, true), log(2, false), log(1, false)];
    Journal::append(&mut journal, &[], &logs).await.unwrap();
    let archive = journal.archive();
    let ask = async |task: Option<u32>, failed_only| {
        let task = task.map(|task| (StepIndex(0), TaskIndex(task)));
        let query = LogsQuery { job: JobId(1), task, failed_only, before: 0 };
        let page = archive.logs(query).await.unwrap();
        page.rows.into_iter().map(|row| row.log.text).collect::<Vec<_>>()
    };
    assert_eq!(ask(Some(1), false).await, ["log of 1, failed: false", "log of 1, failed: true"]);
    assert_eq!(ask(None, true).await, ["log of 1, failed: true"]);
    assert_eq!(ask(None, false).await.len(), 3);
}

#[tokio::test]
async fn a_journal_of_a_newer_program_is_refused() {
    use sqlx::{Connection, SqliteConnection};
    let dir = TempDir::new().unwrap();
    drop(open(&dir).await);
    let path = dir.path().join("journal.sqlite");
    let url = format!("sqlite://{}", path.display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("update meta set value = 99 where key = 'format'")
        .execute(&mut connection)
        .await
        .unwrap();
    drop(connection);
    let error = Sqlite::open(&path).await.err().expect("it must be refused");
    assert!(matches!(error, JournalError::Newer { found: 99, .. }), "{error}");
}

#[tokio::test]
async fn a_damaged_journal_is_told_and_not_guessed_at() {
    use sqlx::{Connection, SqliteConnection};
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(&dir).await;
    Journal::append(&mut journal, &at(1, [submitted(3), completed(1)]), &[]).await.unwrap();
    drop(journal);
    let path = dir.path().join("journal.sqlite");
    let url = format!("sqlite://{}", path.display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("delete from journal where seq = 1").execute(&mut connection).await.unwrap();
    drop(connection);
    let error = Sqlite::open(&path).await.err().expect("it must be refused").to_string();
    assert!(error.contains("job 1 does not exist"), "{error}");
}
