//! The pure core alone: 1,000 agents, 1,000,000 tasks.

use std::time::Instant;

use grange_protocol::agent::{AgentHello, Completed, DeviceInfo, DeviceKind, Outcome};
use grange_protocol::job::{NoopWork, Policy, StepSpec, Work};
use grange_protocol::{AgentId, JobSpec, LeaseId, Millis, TaskRef};
use grange_scheduler::{Command, Core, Event, RequestId, State, Timing};
use std::collections::{BTreeSet, VecDeque};
use uuid::Uuid;

use super::{Figures, median};

const AGENTS: u128 = 1_000;
const TASKS: u32 = 1_000_000;
const ROUNDS: usize = 5;

pub(super) fn run() -> anyhow::Result<Figures> {
    let mut figures = Figures::new();
    let (mut submits, mut events, mut restores) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = Vec::new();
    for _ in 0..ROUNDS {
        let round = round()?;
        submits.push(round.submit_ms);
        events.push(round.us_per_event);
        restores.push(round.replay_ms);
        bytes.push(round.bytes_per_task);
    }
    figures.insert("submit_1m_ms".into(), median(submits));
    figures.insert("event_us".into(), median(events));
    figures.insert("task_bytes".into(), median(bytes));
    figures.insert("replay_1m_facts_ms".into(), median(restores));
    Ok(figures)
}

struct Round {
    submit_ms: f64,
    us_per_event: f64,
    /// Growth of the process's resident memory from before the job to its peak, per task.
    bytes_per_task: f64,
    replay_ms: f64,
}

fn round() -> anyhow::Result<Round> {
    let mut now = Millis(1);
    let mut core = Core::start(State::default(), now, Timing::default());
    for agent in 0..AGENTS {
        core.handle(
            now,
            Event::AgentJoined { agent: AgentId(Uuid::from_u128(agent)), hello: Box::new(hello()) },
        );
    }
    let mut held = VecDeque::new();
    let mut facts = drain(&mut core, &mut held);
    let before = resident_bytes()?;

    let began = Instant::now();
    let spec = Box::new(million());
    core.handle(
        now,
        Event::Submit {
            request: RequestId(1),
            submitter: Default::default(),
            spec,
            queue_anyway: false,
            tags: BTreeSet::new(),
            once: None,
        },
    );
    let submit_ms = began.elapsed().as_secs_f64() * 1e3;
    facts.extend(drain(&mut core, &mut held));
    let mut peak = resident_bytes()?;

    // Facts go to a journal, not into the core: keep them off its account.
    let mut fact_count = facts.len();
    let began = Instant::now();
    let mut count = 0u32;
    while let Some((agent, lease, task)) = held.pop_front() {
        now = now + 1;
        let cost = Completed { outputs: 0, total_ms: 1, render_ms: 1, load_ms: 0, peak_mib: 1 };
        core.handle(now, Event::Ended { agent, lease, task, outcome: Outcome::Completed(cost) });
        fact_count += drain(&mut core, &mut held).len();
        core.take_changes();
        count += 1;
        if count.is_multiple_of(100_000) {
            peak = peak.max(resident_bytes()?);
        }
    }
    let elapsed = began.elapsed();
    anyhow::ensure!(count == TASKS, "{count} of {TASKS} tasks ran");
    anyhow::ensure!(fact_count > TASKS as usize, "only {fact_count} facts");
    anyhow::ensure!(core.check_invariants().is_empty(), "{:?}", core.check_invariants());

    Ok(Round {
        submit_ms,
        us_per_event: elapsed.as_secs_f64() * 1e6 / f64::from(count),
        bytes_per_task: peak.saturating_sub(before) as f64 / f64::from(TASKS),
        replay_ms: replay()?,
    })
}

/// What recovery costs: a job and a million completions, applied.
fn replay() -> anyhow::Result<f64> {
    use grange_protocol::{JobId, StepIndex, TaskIndex};
    use grange_scheduler::{Fact, Recorded};
    let mut state = State::default();
    let submitted = Fact::JobSubmitted {
        job: JobId(1),
        submitter: Default::default(),
        spec: Box::new(million()),
    };
    state.apply(&Recorded { at: Millis(1), fact: submitted })?;
    let began = Instant::now();
    for task in 0..TASKS {
        let task = TaskRef { job: JobId(1), step: StepIndex(0), task: TaskIndex(task) };
        let cost = Completed { outputs: 0, total_ms: 1, render_ms: 1, load_ms: 0, peak_mib: 1 };
        let fact = Fact::TaskCompleted { task, agent: AgentId(Uuid::nil()), cost };
        state.apply(&Recorded { at: Millis(2), fact })?;
    }
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

fn drain(
    core: &mut Core,
    held: &mut VecDeque<(AgentId, LeaseId, TaskRef)>,
) -> Vec<grange_scheduler::Recorded> {
    let facts = core.take_facts();
    while let Some(command) = core.next_command() {
        if let Command::Assign { agent, assignment } = command {
            held.push_back((agent, assignment.lease, assignment.task));
        }
    }
    facts
}

fn million() -> JobSpec {
    let work = Work::Noop(NoopWork { tasks: TASKS, millis: 0 });
    let step = StepSpec { name: Default::default(), after: Vec::new(), optional: false, work };
    JobSpec {
        name: "million".parse().unwrap_or_default(),
        kind: Default::default(),
        priority: Default::default(),
        manifest: None,
        policy: Policy::default(),
        steps: vec![step],
    }
}

fn hello() -> AgentHello {
    AgentHello {
        name: Default::default(),
        software: String::new(),
        runtimes: Vec::new(),
        devices: vec![DeviceInfo {
            id: Default::default(),
            name: Default::default(),
            kind: DeviceKind::Cpu,
            memory_mib: 0,
            slots: 2,
            driver: Default::default(),
        }],
        ffmpeg: false,
        ahead: 1,
        holding: Vec::new(),
    }
}

fn resident_bytes() -> anyhow::Result<u64> {
    const PAGE: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let resident = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    Ok(resident.unwrap_or(0) * PAGE)
}
