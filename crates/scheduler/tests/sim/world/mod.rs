//! A farm in a time of its own around the real core: hosts that render, clients that ask, a
//! coordinator that is killed, and everything that can go wrong between them.
//!
//! - All of it follows from one seed. There is one queue of things to come, one source of numbers
//!   and no thread, so the same seed gives the same trace, line by line.
//! - [`coordinator`] does what the coordinator's loop does: events in, facts to a journal, commands
//!   out, in this order. It dies between any two of them and comes back from its journal.
//! - [`host`] does what an agent's core does with leases, without rendering anything.
//! - [`faults`] and [`clients`] choose what happens, [`oracle`] knows what must be true outside,
//!   whatever the core thinks.
//! - When the trouble is over everything that can end must end: [`World::run`].

mod clients;
mod coordinator;
mod faults;
mod host;
mod oracle;
mod plan;
mod random;
mod runs;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use grange_protocol::agent::{Assignment, Outcome};
use grange_protocol::file::Output;
use grange_protocol::{JobId, LeaseId};
use grange_scheduler::{Answer, Event};

use coordinator::Coordinator;
use host::Host;
use oracle::Oracle;
use plan::Plan;
use random::Random;

pub(crate) use plan::Scale;
pub(crate) use runs::Runs;

/// Of what happened, so much is shown when something is wrong.
const LINES_KEPT: usize = 60;
/// Nobody is patient for longer than this with a farm that is well, however much there is to do.
const PATIENCE_MS: u64 = 30 * 60_000;

/// What is to come.
#[derive(Debug)]
enum Next {
    /// Reaches the coordinator, if the connection that it came over is still the agent's.
    Arrive {
        over: Option<(usize, u64)>,
        input: Input,
    },
    /// Reaches an agent over a connection.
    Deliver {
        host: usize,
        link: u64,
        message: ToHost,
    },
    /// The coordinator takes up what has arrived.
    Turn,
    CoordinatorStarts,
    /// The agent tries to connect.
    Connect {
        host: usize,
        life: u32,
    },
    /// The coordinator sees that the connection is dead.
    LinkDied {
        host: usize,
        link: u64,
    },
    /// The agent sees that the connection is dead.
    LinkLost {
        host: usize,
        link: u64,
    },
    HostStarts {
        host: usize,
        life: u32,
    },
    /// What an attempt was doing is over.
    WorkOver {
        host: usize,
        life: u32,
        lease: LeaseId,
    },
    /// An agent that drains has had its time.
    Leave {
        host: usize,
        life: u32,
    },
    Deed,
    Fault,
    ClientTriesAgain {
        submission: usize,
    },
}

#[derive(Debug)]
enum Input {
    Event(Box<Event>),
    Ask(Ask, Box<Event>),
    Joined { host: usize, link: u64, event: Box<Event> },
    Gone { host: usize, link: u64 },
}

/// Who waits for an answer.
#[derive(Clone, Debug)]
enum Ask {
    Submission(usize),
    /// A submission without a key.
    Anonymous,
    Act {
        job: JobId,
        action: grange_protocol::client::JobAction,
    },
    ActOnHost {
        agent: grange_protocol::AgentId,
        action: grange_protocol::client::AgentAction,
    },
    CreateToken,
    Enrol(grange_scheduler::TokenHash, grange_protocol::AgentId),
    CreateApiToken(grange_scheduler::TokenHash, grange_protocol::shot::Label),
    RevokeApiToken(grange_protocol::shot::Label),
    Output {
        host: usize,
        life: u32,
        lease: LeaseId,
        output: Output,
    },
    /// Someone who has no right to commit; whatever the answer is, nobody hears it.
    Forgery,
}

#[derive(Debug)]
enum ToHost {
    Welcome { drop: Vec<LeaseId> },
    Assign(Box<Assignment>),
    Recall(LeaseId),
    Revoke(LeaseId),
    Settled(LeaseId),
    Answer { life: u32, lease: LeaseId, output: Output, answer: Answer },
}

/// What happened, counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) facts: u64,
    pub(crate) restarts: u64,
    pub(crate) jobs: u64,
    pub(crate) tasks_completed: u64,
    pub(crate) outputs: u64,
    pub(crate) virtual_ms: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
}

pub(crate) struct World {
    plan: Plan,
    random: Random,
    /// Since the farm began, in milliseconds. Never jumps; what the coordinator takes for the time
    /// of day does.
    now_ms: u64,
    queue: BTreeMap<(u64, u64), Next>,
    queued: u64,
    coordinator: Coordinator,
    hosts: Vec<Host>,
    /// Connections on which nothing travels any more.
    cut: BTreeSet<u64>,
    last_link: u64,
    clients: clients::Clients,
    pub(crate) oracle: Oracle,
    pub(crate) tally: Tally,
    /// No more faults.
    calm: bool,
    trace: blake3::Hasher,
    lines: VecDeque<String>,
}

impl World {
    pub(crate) fn new(seed: u64, scale: Scale) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::of(seed, scale, &mut random);
        let hosts = (0..plan.agents)
            .map(|at| Host::new(at, plan.hello(at, &mut random)))
            .collect::<Vec<_>>();
        let mut world = Self {
            plan,
            random,
            now_ms: 0,
            queue: BTreeMap::new(),
            queued: 0,
            coordinator: Coordinator::new(),
            hosts,
            cut: BTreeSet::new(),
            last_link: 0,
            clients: clients::Clients::default(),
            oracle: Oracle::default(),
            tally: Tally::default(),
            calm: false,
            trace: blake3::Hasher::new(),
            lines: VecDeque::new(),
        };
        world.at(0, Next::CoordinatorStarts);
        for host in 0..world.hosts.len() {
            let delay = world.random.between(1, 3_000);
            world.at(delay, Next::HostStarts { host, life: 0 });
        }
        world.enrol_the_submitter();
        world.enrol_hosts();
        world.at(1_000, Next::Deed);
        world.at(5_000, Next::Fault);
        world
    }

    /// Trouble, then calm until all has ended that can. The oracle has what was wrong.
    pub(crate) fn run(&mut self) {
        self.run_until(self.plan.trouble_ms, |_| false);
        self.heal();
        let patience_ms = PATIENCE_MS + self.work_left_ms();
        self.run_until(self.now_ms + patience_ms, |world| world.all_has_ended());
        if self.oracle.is_content() && !self.all_has_ended() {
            self.say_what_never_ends(patience_ms);
        }
        // What was told is still there when the coordinator comes back for the last time.
        if self.oracle.is_content() {
            self.kill_coordinator("a last restart");
            self.start_coordinator();
        }
        self.tally.virtual_ms = self.now_ms;
    }

    fn run_until(&mut self, end_ms: u64, is_over: impl Fn(&Self) -> bool) {
        let mut looked_at = None;
        while self.oracle.is_content() {
            // Nothing is over that was not a moment ago unless something has happened.
            let events = Some(self.tally.events);
            if looked_at != events && is_over(self) {
                break;
            }
            looked_at = events;
            let deadline_ms = self.coordinator.next_deadline_ms();
            let next_ms = self.queue.first_key_value().map(|((at, _), _)| *at);
            let Some(at_ms) = [deadline_ms, next_ms].into_iter().flatten().min() else { break };
            if at_ms > end_ms {
                break;
            }
            self.now_ms = self.now_ms.max(at_ms);
            if next_ms.is_some_and(|next_ms| next_ms <= at_ms) {
                if let Some((_, next)) = self.queue.pop_first() {
                    self.step(next);
                }
            } else {
                self.turn(true);
            }
        }
    }

    fn step(&mut self, next: Next) {
        match next {
            Next::Arrive { over, input } => self.arrive(over, input),
            Next::Deliver { host, link, message } => {
                if !self.cut.contains(&link) && self.hosts[host].link == Some(link) {
                    self.deliver(host, message);
                }
            }
            Next::Turn => self.turn(false),
            Next::CoordinatorStarts => self.start_coordinator(),
            Next::Connect { host, life } => self.connect(host, life),
            Next::LinkDied { host, link } => self.arrive(None, Input::Gone { host, link }),
            Next::LinkLost { host, link } => self.link_lost(host, link),
            Next::HostStarts { host, life } => self.start_host(host, life),
            Next::WorkOver { host, life, lease } => self.work_over(host, life, lease),
            Next::Leave { host, life } => self.leave(host, life),
            Next::Deed => self.deed(),
            Next::Fault => self.fault(),
            Next::ClientTriesAgain { submission } => self.submit_again(submission),
        }
    }

    fn at(&mut self, delay_ms: u64, next: Next) {
        self.at_moment(self.now_ms + delay_ms, next);
    }

    fn at_moment(&mut self, at_ms: u64, next: Next) {
        self.queued += 1;
        self.queue.insert((at_ms, self.queued), next);
    }

    /// Sends something that no connection of an agent carries.
    fn ask(&mut self, delay_ms: u64, ask: Ask, event: Event) {
        let input = Input::Ask(ask, Box::new(event));
        self.at(delay_ms, Next::Arrive { over: None, input });
    }

    /// A line of the trace.
    fn trace(&mut self, line: impl FnOnce() -> String) {
        let line = format!("{:>9} {}", self.now_ms, line());
        self.trace.update(line.as_bytes());
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn count(&mut self, fault: &'static str) {
        *self.tally.faults.entry(fault).or_default() += 1;
        self.trace(|| format!("!! {fault}"));
    }

    /// The same for the same seed.
    pub(crate) fn trace_hash(&self) -> String {
        self.trace.finalize().to_hex()[..16].to_owned()
    }

    /// What happened last.
    pub(crate) fn last_lines(&self) -> impl Iterator<Item = &String> {
        self.lines.iter()
    }

    /// How long the attempts that are left would take one after the other, and the time that
    /// everybody is given to come back.
    fn work_left_ms(&self) -> u64 {
        let state = self.coordinator.durable();
        let jobs = state.jobs.values().filter(|job| !job.phase.is_final());
        jobs.map(|job| {
            let longest_ms = match self.plan.scene(job.spec.manifest) {
                Some(scene) => scene.frame_ms * 3 * 4,
                None => 60_000,
            };
            let open: u64 = job.steps.iter().map(|step| u64::from(step.tasks.open())).sum();
            60_000 + open * longest_ms
        })
        .sum()
    }

    /// Whether all jobs have ended but those that are paused or ask for what the farm lacks.
    fn all_has_ended(&self) -> bool {
        self.coordinator.is_up() && self.clients.are_answered() && self.endless().next().is_none()
    }

    /// Jobs that should end and have not.
    fn endless(&self) -> impl Iterator<Item = JobId> + '_ {
        let state = self.coordinator.durable();
        state
            .jobs
            .iter()
            .filter(|(_, job)| job.phase == grange_scheduler::Phase::Open)
            .filter(|(_, job)| {
                let steps = job.spec.steps.iter().filter(|step| !step.optional);
                let mut works = steps.map(|step| &step.work);
                works.all(|work| self.hosts.iter().any(|host| host.could_do(work)))
            })
            .map(|(id, _)| *id)
    }

    fn say_what_never_ends(&mut self, patience_ms: u64) {
        let ids: Vec<JobId> = self.endless().collect();
        let minutes = patience_ms / 60_000;
        for id in ids.into_iter().take(3) {
            let why = self.coordinator.why_waiting(id);
            let job = &self.coordinator.durable().jobs[&id];
            let steps: Vec<String> = (job.steps.iter())
                .map(|step| format!("{} of {} open", step.tasks.open(), step.tasks.len()))
                .collect();
            let line = format!(
                "job {id} never ends: nothing goes wrong any more, and after {minutes} minutes it is \
                 {:?} ({}); {}",
                job.phase,
                steps.join(", "),
                why.unwrap_or_else(|| "nobody knows what it waits for".into())
            );
            self.oracle.object(line);
        }
        if self.oracle.is_content() {
            self.oracle.object("a client never gets its answer, though nothing goes wrong".into());
        }
    }
}

/// An attempt's end in a word.
fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Completed(cost) => format!("completed, {} outputs", cost.outputs),
        Outcome::Failed(failure) => format!("failed, {:?}", failure.kind),
        Outcome::Canceled => "canceled".into(),
    }
}
