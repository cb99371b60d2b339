//! What the journal promises, in a real database.

use grange_protocol::agent::Completed;
use grange_protocol::client::{HistoryQuery, LogsQuery, OutputsQuery};
use grange_protocol::file::{Blob, Output, OutputRole};
use grange_protocol::history::{About, HistoryKind, HistoryView};
use grange_protocol::job::{NoopWork, Policy, StepSpec, Work};
use grange_protocol::{
    AgentId, BlobHash, Epoch, JobId, JobSpec, Millis, StepIndex, TaskIndex, TaskRef,
};
use grange_scheduler::{Fact, Recorded, State};
use tempfile::TempDir;
use uuid::Uuid;

use super::database::{Connection, Row};
use super::postgres::Postgres;
use super::sqlite::Sqlite;
use super::{AttemptLog, Journal, JournalError, Place, Remembered};

/// A database of a test's own.
struct Bed {
    place: Place,
    _dir: TempDir,
    postgres: Option<grange_test_postgres::Postgres>,
}

impl Bed {
    fn sqlite() -> Self {
        let dir = TempDir::new().unwrap();
        Self { place: Place::in_dir(dir.path()), _dir: dir, postgres: None }
    }

    fn postgres() -> Self {
        let (dir, postgres) = (TempDir::new().unwrap(), grange_test_postgres::Postgres::start());
        let place = Place::new(dir.path(), Some(&postgres.url())).unwrap();
        Self { place, _dir: dir, postgres: Some(postgres) }
    }

    async fn open(&self) -> (Box<dyn Journal>, State) {
        self.place.open().await.unwrap()
    }

    async fn refuses(&self) -> JournalError {
        self.place.open().await.err().expect("it must be refused")
    }

    /// What somebody else does to the database.
    async fn sql(&self, sql: &'static str) -> Vec<Row> {
        async fn run(mut connection: impl Connection, sql: &'static str) -> Vec<Row> {
            let rows = connection.fetch(sql, Vec::new()).await.unwrap();
            connection.close().await.unwrap();
            rows
        }
        match &self.place {
            Place::Sqlite(path) => run(Sqlite::raw(path).await, sql).await,
            Place::Postgres(options) => run(Postgres::raw((**options).clone()).await, sql).await,
        }
    }

    /// PostgreSQL ends the connection that writes.
    async fn end_the_writer(&self) {
        self.sql(
            "select pg_terminate_backend(pid)::int::bigint from pg_locks \
             where locktype = 'advisory'",
        )
        .await;
    }

    async fn count(&self, sql: &'static str) -> i64 {
        self.sql(sql).await[0].int(0).unwrap()
    }
}

/// Every story on every database.
macro_rules! on_every_database {
    ($($story:ident,)*) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $story() {
                super::$story(&super::Bed::sqlite()).await;
            })*
        }

        mod on_postgres {
            $(#[tokio::test]
            async fn $story() {
                super::$story(&super::Bed::postgres()).await;
            })*
        }
    };
}

on_every_database! {
    what_was_appended_is_there_after_a_restart,
    snapshots_shorten_the_replay_and_change_nothing,
    a_damaged_snapshot_is_passed_over,
    outputs_come_in_the_order_of_their_commit_page_by_page,
    logs_are_found_by_task_and_by_failure,
    the_history_is_asked_page_by_page_of_whom_one_likes,
    of_the_history_the_latest_stays_and_who_was_there,
    a_line_of_the_history_that_was_written_is_not_written_again,
    a_journal_of_a_newer_program_is_refused,
    a_journal_from_before_the_first_release_is_refused,
    a_damaged_journal_is_told_and_not_guessed_at,
    two_writers_never_both_succeed,
}

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

async fn what_was_appended_is_there_after_a_restart(bed: &Bed) {
    let (mut journal, state) = bed.open().await;
    assert_eq!(state, State::default());
    // More than one statement's worth, and not a multiple of it.
    let facts = at(5, [submitted(100)].into_iter().chain((0..77).map(completed)));
    assert_eq!(journal.append(&facts, &[], &[]).await.unwrap(), 1);
    assert_eq!(journal.append(&at(6, [completed(80)]), &[], &[]).await.unwrap(), 79);
    drop(journal);
    let (_, state) = bed.open().await;
    let all: Vec<Recorded> = facts.into_iter().chain(at(6, [completed(80)])).collect();
    assert_eq!(state, applied(&all));
}

async fn snapshots_shorten_the_replay_and_change_nothing(bed: &Bed) {
    let (mut journal, _) = bed.open().await;
    let mut all = at(1, [Fact::EpochBegan(Epoch(1)), submitted(1000)]);
    journal.append(&all, &[], &[]).await.unwrap();
    for round in 0..4 {
        let facts = at(2 + round, (round as u32 * 50..(round as u32 + 1) * 50).map(completed));
        journal.append(&facts, &[], &[]).await.unwrap();
        all.extend(facts);
        journal.snapshot(&applied(&all)).await.unwrap();
    }
    let tail = at(9, [completed(999)]);
    journal.append(&tail, &[], &[]).await.unwrap();
    all.extend(tail);
    drop(journal);
    let facts = bed.count("select count(*) from journal").await;
    let snapshots = bed.count("select count(*) from snapshot").await;
    assert!(facts <= 51, "{facts} facts are kept that snapshots cover");
    assert_eq!(snapshots, 2, "the latest snapshot and the one before");
    let (_, state) = bed.open().await;
    assert_eq!(state, applied(&all));
}

async fn a_damaged_snapshot_is_passed_over(bed: &Bed) {
    let (mut journal, _) = bed.open().await;
    let mut all = at(1, [submitted(100)]);
    journal.append(&all, &[], &[]).await.unwrap();
    for number in 0..3 {
        let facts = at(2, [completed(number)]);
        journal.append(&facts, &[], &[]).await.unwrap();
        all.extend(facts);
        journal.snapshot(&applied(&all)).await.unwrap();
    }
    journal.close().await.unwrap();
    assert_eq!(bed.place.look(u64::MAX).await.unwrap().compared, 1);
    // One that is whole by itself, but not what the facts make.
    bed.sql(
        "update snapshot set state = (select state from snapshot where seq = 3), \
             hash = (select hash from snapshot where seq = 3) where seq = 4",
    )
    .await;
    let error = bed.place.look(u64::MAX).await.unwrap_err();
    assert!(matches!(error, JournalError::Differs { seq: 4 }), "{error}");
    // One that is not even whole.
    bed.sql("update snapshot set hash = (select fact from journal limit 1) where seq = 4").await;
    let error = bed.place.look(u64::MAX).await.unwrap_err();
    assert!(error.to_string().contains("a snapshot is damaged"), "{error}");
    let (_, state) = bed.open().await;
    assert_eq!(state, applied(&all), "from the one before, and the facts since");
}

async fn two_writers_never_both_succeed(bed: &Bed) {
    let (mut first, _) = bed.open().await;
    first.append(&at(1, [submitted(9)]), &[], &[]).await.unwrap();
    if bed.postgres.is_some() {
        let error = bed.refuses().await;
        assert!(matches!(error, JournalError::InUse), "{error}");
        // Its server takes it for dead: the lock is gone, and a second one begins.
        bed.end_the_writer().await;
    }
    let (mut second, state) = bed.place.open().await.unwrap();
    assert_eq!(state, applied(&at(1, [submitted(9)])));
    second.append(&at(2, [completed(1)]), &[], &[]).await.unwrap();
    first.append(&at(2, [completed(2)]), &[], &[]).await.unwrap_err();
    let error = first.append(&at(2, [completed(2)]), &[], &[]).await.unwrap_err();
    assert!(matches!(error, JournalError::Superseded | JournalError::InUse), "{error}");
    second.append(&at(3, [completed(3)]), &[], &[]).await.unwrap();
    second.close().await.unwrap();
    let error = first.append(&at(2, [completed(2)]), &[], &[]).await.unwrap_err();
    assert!(matches!(error, JournalError::Superseded), "{error}");
    drop(first);
    let (_, state) = bed.open().await;
    let facts = [at(1, [submitted(9)]), at(2, [completed(1)]), at(3, [completed(3)])].concat();
    assert_eq!(state, applied(&facts));
}

async fn outputs_come_in_the_order_of_their_commit_page_by_page(bed: &Bed) {
    let (mut journal, _) = bed.open().await;
    let facts = at(1, [submitted(3000)].into_iter().chain((0..2500).map(stored)));
    journal.append(&facts, &[], &[]).await.unwrap();
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

async fn logs_are_found_by_task_and_by_failure(bed: &Bed) {
    let (mut journal, _) = bed.open().await;
    let log = |number, failed| AttemptLog {
        task: task(number),
        agent: AgentId(Uuid::from_u128(7)),
        failed,
        at: Millis(1),
        text: format!("log of {number}, failed: {failed}"),
    };
    let logs = [log(1, true), log(2, false), log(1, false)];
    journal.append(&[], &logs, &[]).await.unwrap();
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

const HOST: AgentId = AgentId(Uuid::from_u128(7));
const OTHER: AgentId = AgentId(Uuid::from_u128(8));

fn happened(cursor: u64, kind: HistoryKind) -> HistoryView {
    let (job, agent) = match kind.about() {
        About::Jobs => (Some(JobId(cursor as u32 % 3 + 1)), None),
        About::Agents => (None, Some(HOST)),
        About::Farm => (None, None),
    };
    let (subject, text) = ("it".into(), format!("did {cursor}"));
    HistoryView { cursor, at: Millis(cursor * 10), kind, job, agent, subject, text }
}

async fn the_history_is_asked_page_by_page_of_whom_one_likes(bed: &Bed) {
    let (mut journal, _) = bed.open().await;
    let kinds = [HistoryKind::JobPaused, HistoryKind::AgentDrained, HistoryKind::TokenMade];
    let all: Vec<HistoryView> =
        (1..=90).map(|cursor| happened(cursor, kinds[cursor as usize % 3])).collect();
    journal.append(&at(1, [submitted(1)]), &[], &all[..50]).await.unwrap();
    journal.append(&[], &[], &all[50..]).await.unwrap();
    let archive = journal.archive();
    let any = HistoryQuery { limit: 40, ..HistoryQuery::default() };
    let (mut told, mut before) = (Vec::new(), Some(0));
    while let Some(cursor) = before {
        let page = archive.history(HistoryQuery { before: cursor, ..any }).await.unwrap();
        assert!(page.rows.len() <= 40);
        told.extend(page.rows);
        before = page.next;
    }
    told.reverse();
    assert_eq!(told, all);
    assert_eq!(journal.history_after(70).await.unwrap(), all[70..]);
    let ask = async |query| archive.history(query).await.unwrap().rows;
    for about in [About::Jobs, About::Agents, About::Farm] {
        let told = ask(HistoryQuery { about: Some(about), ..any }).await;
        assert_eq!(told.len(), 30);
        assert!(told.iter().all(|row| row.kind.about() == about));
    }
    let told = ask(HistoryQuery { job: Some(JobId(1)), ..any }).await;
    assert!(told.len() == 30 && told.iter().all(|row| row.job == Some(JobId(1))), "{told:?}");
    let told = ask(HistoryQuery { agent: Some(HOST), about: Some(About::Agents), ..any }).await;
    assert_eq!(told.len(), 30);
    assert_eq!(ask(HistoryQuery { agent: Some(OTHER), ..any }).await, []);
    assert_eq!(ask(HistoryQuery { job: Some(JobId(1)), agent: Some(HOST), ..any }).await, []);
}

async fn of_the_history_the_latest_stays_and_who_was_there(bed: &Bed) {
    let (mut journal, _) = bed.open().await;
    let of = |cursor, kind, agent| HistoryView { agent: Some(agent), ..happened(cursor, kind) };
    let began = [
        of(1, HistoryKind::AgentOnline, HOST),
        of(2, HistoryKind::AgentOffline, HOST),
        of(3, HistoryKind::AgentOnline, OTHER),
        of(4, HistoryKind::AgentOnline, HOST),
        of(5, HistoryKind::AgentRemoved, OTHER),
        happened(6, HistoryKind::StorageFull),
        happened(7, HistoryKind::JobStarted),
    ];
    journal.append(&[], &[], &began).await.unwrap();
    let job = JobId(7 % 3 + 1);
    let expected = |last, started: &[JobId], storage_full| Remembered {
        last,
        started: started.iter().copied().collect(),
        online: [HOST].into(),
        storage_full,
    };
    assert_eq!(journal.remembered().await.unwrap(), expected(7, &[job], true));
    let more: Vec<HistoryView> = (8..=10_500)
        .map(|cursor| match cursor {
            8 => happened(8, HistoryKind::StorageRecovered),
            cursor => happened(cursor, HistoryKind::TokenMade),
        })
        .collect();
    for rows in more.chunks(1_000) {
        journal.append(&[], &[], rows).await.unwrap();
    }
    assert_eq!(journal.remembered().await.unwrap(), expected(10_500, &[], false));
    let kept = journal.history_after(0).await.unwrap();
    let cursors: Vec<u64> = kept.iter().map(|row| row.cursor).collect();
    assert_eq!(cursors, [4].into_iter().chain(501..=10_500).collect::<Vec<_>>());
}

/// Nobody heard of its end, so the loop says it again, with what has come since.
async fn a_line_of_the_history_that_was_written_is_not_written_again(bed: &Bed) {
    let (mut journal, _) = bed.open().await;
    let rows: Vec<HistoryView> =
        (1..=3).map(|cursor| happened(cursor, HistoryKind::AgentDrained)).collect();
    journal.append(&[], &[], &rows[..2]).await.unwrap();
    journal.append(&at(1, [submitted(1)]), &[], &rows).await.unwrap();
    journal.close().await.unwrap();
    let (mut journal, _) = bed.open().await;
    assert_eq!(journal.history_after(0).await.unwrap(), rows);
}

async fn a_journal_of_a_newer_program_is_refused(bed: &Bed) {
    drop(bed.open().await);
    bed.sql("update meta set value = 99 where key = 'schema'").await;
    let error = bed.refuses().await;
    assert!(matches!(error, JournalError::Newer { what: "schema", found: 99, .. }), "{error}");
    bed.sql("update meta set value = 98 where key = 'format'").await;
    let error = bed.refuses().await;
    assert!(matches!(error, JournalError::Newer { what: "format", found: 98, .. }), "{error}");
}

async fn a_journal_from_before_the_first_release_is_refused(bed: &Bed) {
    drop(bed.open().await);
    bed.sql("update meta set value = 1 where key = 'format'").await;
    let error = bed.refuses().await;
    assert!(matches!(error, JournalError::Older(1)), "{error}");
}

async fn a_damaged_journal_is_told_and_not_guessed_at(bed: &Bed) {
    let (mut journal, _) = bed.open().await;
    journal.append(&at(1, [submitted(3), completed(1), completed(2)]), &[], &[]).await.unwrap();
    drop(journal);
    bed.sql("delete from journal where seq = 2").await;
    let error = bed.refuses().await.to_string();
    assert!(error.contains("fact 2 is missing"), "{error}");
    bed.sql("delete from journal where seq = 1").await;
    let error = bed.refuses().await.to_string();
    assert!(error.contains("fact 1 is missing"), "{error}");
}

#[tokio::test]
async fn a_server_that_breaks_down_is_waited_for_and_nothing_is_lost_or_written_twice() {
    let mut bed = Bed::postgres();
    let (mut journal, _) = bed.open().await;
    let mut all = at(1, [submitted(100)]);
    journal.append(&all, &[], &[]).await.unwrap();
    for number in 0..3 {
        bed.postgres.as_mut().unwrap().kill();
        let facts = at(2, [completed(number), stored(number)]);
        journal.append(&facts, &[], &[]).await.unwrap_err();
        journal.append(&facts, &[], &[]).await.unwrap_err();
        bed.postgres.as_mut().unwrap().start_again(&[]);
        let first = journal.append(&facts, &[], &[]).await.unwrap();
        assert_eq!(first, all.len() as u64 + 1);
        all.extend(facts);
    }
    drop(journal);
    let (journal, state) = bed.open().await;
    assert_eq!(state, applied(&all));
    let query = OutputsQuery { job: JobId(1), step: None, after: 0 };
    assert_eq!(journal.archive().outputs(query).await.unwrap().rows.len(), 3);
}

/// The answer to a commit may get lost with the connection, and the commit not.
#[tokio::test]
async fn facts_that_were_written_although_nobody_heard_of_it_are_not_written_again() {
    let bed = Bed::postgres();
    let (mut journal, _) = bed.open().await;
    let (first, second) = (at(1, [submitted(9)]), at(2, [completed(1), completed(2)]));
    journal.append(&first, &[], &[]).await.unwrap();
    // What a commit whose answer is lost leaves: the rows, and a connection that is gone.
    let (mut other, _) = {
        bed.end_the_writer().await;
        bed.open().await
    };
    other.append(&second, &[], &[]).await.unwrap();
    other.close().await.unwrap();
    assert!(matches!(journal.append(&second, &[], &[]).await, Err(JournalError::Database(_))));
    assert_eq!(journal.append(&second, &[], &[]).await.unwrap(), 2);
    assert_eq!(journal.append(&at(3, [completed(3)]), &[], &[]).await.unwrap(), 4);
    drop(journal);
    let (_, state) = bed.open().await;
    assert_eq!(state, applied(&[first, second, at(3, [completed(3)])].concat()));
}

#[tokio::test]
async fn what_postgres_has_confirmed_survives_it_whatever_its_settings_say() {
    let mut bed = Bed::postgres();
    bed.postgres.as_mut().unwrap().start_again(&["synchronous_commit=off"]);
    let (mut journal, _) = bed.open().await;
    let mut all = at(1, [submitted(100)]);
    journal.append(&all, &[], &[]).await.unwrap();
    for number in 0..20 {
        let facts = at(2, [completed(number)]);
        journal.append(&facts, &[], &[]).await.unwrap();
        all.extend(facts);
    }
    bed.postgres.as_mut().unwrap().kill();
    drop(journal);
    bed.postgres.as_mut().unwrap().start_again(&["fsync=off"]);
    let error = bed.refuses().await;
    assert!(matches!(error, JournalError::Forgetful { setting: "fsync" }), "{error}");
    bed.postgres.as_mut().unwrap().start_again(&[]);
    let (_, state) = bed.open().await;
    assert_eq!(state, applied(&all));
}

#[tokio::test]
async fn an_address_that_leads_nowhere_is_a_sentence() {
    let dir = TempDir::new().unwrap();
    for address in ["journal.sqlite", "mysql://host/grange", "postgres://host:port/grange"] {
        let error = Place::new(dir.path(), Some(address)).unwrap_err();
        assert!(matches!(error, JournalError::BadAddress(_)), "{address}: {error}");
    }
    let nobody = format!("postgres://ada:secret@localhost/grange?host={}", dir.path().display());
    let error = Place::new(dir.path(), Some(&nobody)).unwrap().open().await.err().unwrap();
    let said = error.to_string();
    assert!(said.contains("is it running, and is the setting `journal` right?"), "{said}");
    assert!(!said.contains("secret"), "{said}");
}
