//! The coordinator's loop, and its death: events → facts → journal → commands.
//!
//! Dies before its facts are durable, between facts and commands, in the middle of its commands,
//! and while it waits. Comes back from all of its facts, or from a snapshot and those after it; both
//! went through their bytes.

use std::collections::{BTreeMap, BTreeSet};

use grange_protocol::agent::Holding;
use grange_protocol::{AgentId, JobId, LeaseId, Millis, TaskRef};
use grange_scheduler::{Answer, Command, Core, Event, Fact, Recorded, RequestId, State, Timing};

use super::{Ask, Input, Next, ToHost, World, word};

/// 2026, as good as any.
const BEGAN: u64 = 1_767_225_600_000;
/// Inputs of one turn.
const TURN_INPUTS: usize = 64;

/// Where the coordinator dies when it next has facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    BeforeFacts,
    BeforeCommands,
    /// After so many of them.
    AmongCommands(usize),
}

pub(super) struct Coordinator {
    /// `None` while it is down.
    life: Option<Life>,
    lives: u32,
    journal: Vec<Vec<u8>>,
    /// After so many facts, and its bytes.
    snapshot: Option<(usize, Vec<u8>)>,
    /// What the facts of the journal make.
    durable: State,
    /// What the wall clock is ahead of the world, in milliseconds; negative if behind.
    pub(super) clock_ms: i64,
    pub(super) death: Option<Death>,
    /// The disk does not write before.
    pub(super) stalled_until_ms: u64,
    last_request: u64,
}

struct Life {
    core: Core,
    links: BTreeMap<usize, u64>,
    inbox: Vec<Input>,
    asking: BTreeMap<u64, Ask>,
    /// A turn is due.
    is_woken: bool,
    /// When the core wants to be called although nothing happens.
    deadline: Option<Millis>,
    /// What the core takes for now, at a moment of the world.
    began: Millis,
    began_ms: u64,
}

impl Coordinator {
    pub(super) fn new() -> Self {
        Self {
            life: None,
            lives: 0,
            journal: Vec::new(),
            snapshot: None,
            durable: State::default(),
            clock_ms: 0,
            death: None,
            stalled_until_ms: 0,
            last_request: 0,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.life.is_some()
    }

    pub(super) fn durable(&self) -> &State {
        &self.durable
    }

    pub(super) fn core(&self) -> Option<&Core> {
        self.life.as_ref().map(|life| &life.core)
    }

    pub(super) fn link_of(&self, host: usize) -> Option<u64> {
        self.life.as_ref()?.links.get(&host).copied()
    }

    pub(super) fn why_waiting(&self, job: JobId) -> Option<String> {
        self.core()?.why_waiting(job)
    }

    /// In the world's time.
    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        let life = self.life.as_ref().filter(|life| !life.is_woken)?;
        let at = life.deadline?;
        Some((life.began_ms + at.since(life.began)).max(self.stalled_until_ms))
    }

    fn now(&self, now_ms: u64) -> Millis {
        self.life.as_ref().map_or(Millis(BEGAN), |life| life.began + (now_ms - life.began_ms))
    }

    pub(super) fn take_snapshot(&mut self) {
        self.snapshot = Some((self.journal.len(), bytes(&self.durable)));
    }

    /// What the journal gives back.
    fn recover(&self, whole: bool) -> Result<State, String> {
        let from_snapshot = self.snapshot.as_ref().filter(|_| !whole);
        let (at, mut state) = match from_snapshot {
            Some((at, bytes)) => (*at, read::<State>(bytes)?),
            None => (0, State::default()),
        };
        for fact in &self.journal[at..] {
            let fact: Recorded = read(fact)?;
            state.apply(&fact).map_err(|problem| problem.to_string())?;
        }
        Ok(state)
    }
}

fn bytes<T: serde::Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("it can be written")
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    postcard::from_bytes(bytes).map_err(|error| format!("the journal cannot be read: {error}"))
}

fn hash(state: &State) -> blake3::Hash {
    blake3::hash(&bytes(state))
}

impl World {
    pub(super) fn start_coordinator(&mut self) {
        if self.coordinator.is_up() {
            return;
        }
        let whole = self.random.percent(50);
        let state = match self.coordinator.recover(whole) {
            Ok(state) => state,
            Err(problem) => return self.oracle.object(problem),
        };
        if hash(&state) != hash(&self.coordinator.durable) {
            let way = if whole { "all facts" } else { "a snapshot and the facts after it" };
            self.oracle.object(format!("{way} give another state than the one that was"));
        }
        self.oracle.life_begins(&state);
        // As the shell does: a wall clock that was set back does not make the past come again.
        let wall = Millis((BEGAN + self.now_ms).saturating_add_signed(self.coordinator.clock_ms));
        let began = wall.max(state.at);
        self.coordinator.lives += 1;
        self.tally.restarts += u64::from(self.coordinator.lives > 1);
        let lives = self.coordinator.lives;
        self.trace(|| format!("== life {lives} of the coordinator begins"));
        self.coordinator.life = Some(Life {
            core: Core::start(state, began, Timing::default()),
            links: BTreeMap::new(),
            inbox: Vec::new(),
            asking: BTreeMap::new(),
            is_woken: false,
            deadline: None,
            began,
            began_ms: self.now_ms,
        });
        self.turn(true);
    }

    /// All that was not durable is gone, and nobody's connection lives.
    pub(super) fn kill_coordinator(&mut self, how: &'static str) {
        let Some(life) = self.coordinator.life.take() else { return };
        self.count(how);
        self.coordinator.death = None;
        for host in 0..self.hosts.len() {
            let Some(link) = self.hosts[host].link else { continue };
            self.cut.insert(link);
            let delay = self.random.between(10, 3_000);
            self.at(delay, Next::LinkLost { host, link });
        }
        for ask in life.asking.into_values() {
            self.unanswered(&ask);
        }
        for input in life.inbox {
            if let Input::Ask(ask, _) = input {
                self.unanswered(&ask);
            }
        }
    }

    fn die(&mut self, how: &'static str) {
        self.kill_coordinator(how);
        let away_ms = self.random.magnitude(100, 120_000);
        self.at(away_ms, Next::CoordinatorStarts);
    }

    pub(super) fn die_now(&mut self) {
        self.die("coordinator: killed while it waits");
    }

    pub(super) fn arrive(&mut self, over: Option<(usize, u64)>, input: Input) {
        if let Some((host, link)) = over {
            let current = self.coordinator.link_of(host) == Some(link);
            if self.cut.contains(&link) || (!current && !matches!(input, Input::Joined { .. })) {
                return;
            }
        }
        let delay_ms = self.random.below(5);
        let stalled_until_ms = self.coordinator.stalled_until_ms;
        let Some(life) = &mut self.coordinator.life else {
            if let Input::Ask(ask, _) = input {
                self.unanswered(&ask);
            }
            return;
        };
        life.inbox.push(input);
        if !life.is_woken {
            life.is_woken = true;
            let at_ms = (self.now_ms + delay_ms).max(stalled_until_ms);
            self.at_moment(at_ms, Next::Turn);
        }
    }

    /// One turn of the loop. `tick`: nothing has arrived, but time has passed.
    pub(super) fn turn(&mut self, tick: bool) {
        let Some(life) = &mut self.coordinator.life else { return };
        let taken = life.inbox.len().min(TURN_INPUTS);
        let mut inputs: Vec<Input> = Vec::new();
        if !tick {
            inputs.extend(life.inbox.drain(..taken));
            life.is_woken = !life.inbox.is_empty();
            if life.is_woken {
                self.at(0, Next::Turn);
            }
        }
        let mut facts = Vec::new();
        let mut commands = Vec::new();
        if inputs.is_empty() {
            self.handle(Event::Tick, &mut facts, &mut commands);
        }
        for input in inputs {
            if let Some(event) = self.take(input) {
                self.handle(event, &mut facts, &mut commands);
            }
        }
        if let Some(life) = &mut self.coordinator.life {
            life.deadline = life.core.next_deadline();
            if life.deadline.is_some_and(|at| at <= life.core.now()) {
                self.oracle.object("the core wants to be called again at once, for ever".into());
            }
        }
        if self.oracle.is_content() {
            self.commit(&facts, commands);
        }
    }

    /// What an input is to the core.
    fn take(&mut self, input: Input) -> Option<Event> {
        let life = self.coordinator.life.as_mut()?;
        match input {
            Input::Event(event) => Some(*event),
            Input::Joined { host, link, event } => {
                if let Some(old) = life.links.insert(host, link) {
                    self.cut.insert(old);
                }
                Some(*event)
            }
            Input::Gone { host, link } => {
                let current = life.links.get(&host) == Some(&link);
                current.then(|| {
                    life.links.remove(&host);
                    Event::AgentGone { agent: self.hosts[host].id }
                })
            }
            Input::Ask(ask, mut event) => {
                self.coordinator.last_request += 1;
                let number = self.coordinator.last_request;
                life.asking.insert(number, ask);
                set_request(&mut event, RequestId(number));
                Some(*event)
            }
        }
    }

    fn handle(&mut self, event: Event, facts: &mut Vec<Recorded>, commands: &mut Vec<Command>) {
        let now = self.coordinator.now(self.now_ms);
        let Some(life) = &mut self.coordinator.life else { return };
        self.tally.events += 1;
        let told = tell(&event);
        life.core.handle(now, event.clone());
        let new_facts = life.core.take_facts();
        let new_commands: Vec<Command> = std::iter::from_fn(|| life.core.next_command()).collect();
        life.core.take_changes();
        for problem in life.core.check_invariants() {
            self.oracle.object(problem);
        }
        self.oracle.after_event(&life.core, &event, &new_facts, &new_commands);
        self.trace(|| {
            let commands: Vec<String> = new_commands.iter().map(tell_command).collect();
            format!("{told} → {} facts; {}", new_facts.len(), commands.join(", "))
        });
        facts.extend(new_facts);
        commands.extend(new_commands);
    }

    fn commit(&mut self, facts: &[Recorded], commands: Vec<Command>) {
        let death = self.coordinator.death.filter(|_| !facts.is_empty());
        if death == Some(Death::BeforeFacts) {
            return self.die("coordinator: killed before its facts are durable");
        }
        self.append(facts);
        if death == Some(Death::BeforeCommands) {
            return self.die("coordinator: killed between facts and commands");
        }
        for (at, command) in commands.into_iter().enumerate() {
            if death == Some(Death::AmongCommands(at)) {
                return self.die("coordinator: killed among its commands");
            }
            self.run_command(command);
        }
    }

    fn append(&mut self, facts: &[Recorded]) {
        self.tally.facts += facts.len() as u64;
        let mut touched: BTreeSet<JobId> = BTreeSet::new();
        for recorded in facts {
            self.coordinator.journal.push(bytes(recorded));
            if let Err(problem) = self.coordinator.durable.apply(recorded) {
                self.oracle.object(problem.to_string());
            }
            self.oracle.durable(recorded);
            match &recorded.fact {
                Fact::TaskCompleted { task, .. } => {
                    self.tally.tasks_completed += 1;
                    touched.insert(task.job);
                }
                Fact::OutputStored { task, .. } => {
                    self.tally.outputs += 1;
                    touched.insert(task.job);
                }
                Fact::JobSubmitted { job, .. } => {
                    self.tally.jobs += 1;
                    touched.insert(*job);
                }
                Fact::JobRetried(job) | Fact::JobCompleted(job) => drop(touched.insert(*job)),
                _ => {}
            }
        }
        let Some(core) = self.coordinator.core() else { return };
        let same = |job| self.coordinator.durable.jobs.get(job) == core.state().jobs.get(job);
        if !touched.iter().all(same) {
            self.oracle.object("the facts do not give the state that the core has".into());
        }
        self.oracle.jobs_exist(&self.coordinator.durable);
    }

    fn run_command(&mut self, command: Command) {
        let send = |agent: AgentId, message| Some((agent, message));
        let sent = match command {
            Command::Welcome { agent, drop, .. } => send(agent, ToHost::Welcome { drop }),
            Command::Assign { agent, assignment } => {
                self.oracle.sent(&assignment);
                send(agent, ToHost::Assign(assignment))
            }
            Command::Recall { agent, lease } => send(agent, ToHost::Recall(lease)),
            Command::Revoke { agent, lease } => send(agent, ToHost::Revoke(lease)),
            // Nobody removes hosts here.
            Command::Dismiss { .. } => None,
            Command::Settle { agent, lease } => send(agent, ToHost::Settled(lease)),
            Command::Answer { request, answer } => {
                self.answered(request, answer);
                None
            }
        };
        let Some((agent, message)) = sent else { return };
        let Some(host) = self.hosts.iter().position(|host| host.id == agent) else { return };
        let Some(link) = self.coordinator.link_of(host) else { return };
        self.send_to_host(host, link, message);
    }

    fn answered(&mut self, request: RequestId, answer: Answer) {
        let asked = self.coordinator.life.as_mut().and_then(|life| life.asking.remove(&request.0));
        let Some(ask) = asked else {
            return self.oracle.object(format!("{request:?} got an answer that nobody waits for"));
        };
        self.oracle.answered(&ask, &answer, &self.coordinator.durable);
        match ask {
            Ask::Submission(at) => self.submission_answered(at, &answer),
            Ask::Output { host, life, lease, output } => {
                if let Some(link) = self.coordinator.link_of(host) {
                    let message = ToHost::Answer { life, lease, output, answer };
                    self.send_to_host(host, link, message);
                }
            }
            Ask::Act { .. } | Ask::ActOnHost { .. } => self.clients.acted(),
            _ => {}
        }
    }
}

fn set_request(event: &mut Event, number: RequestId) {
    match event {
        Event::Submit { request, .. }
        | Event::Act { request, .. }
        | Event::ActOnAgent { request, .. }
        | Event::Asleep { request, .. }
        | Event::CreateToken { request, .. }
        | Event::CreateApiToken { request, .. }
        | Event::RevokeApiToken { request, .. }
        | Event::Enrol { request, .. }
        | Event::OutputReceived { request, .. } => *request = number,
        _ => {}
    }
}

fn short(agent: AgentId) -> String {
    format!("host{}", agent.0.as_u128())
}

fn list(leases: &[LeaseId]) -> String {
    leases.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// An event in a line.
fn tell(event: &Event) -> String {
    let held = |holding: &[Holding]| {
        let each = |held: &Holding| format!("{}={}", held.lease, held.task);
        holding.iter().map(each).collect::<Vec<_>>().join(" ")
    };
    let of = |agent: &AgentId, what: &str, lease: &LeaseId, task: &TaskRef| {
        format!("{} {what} {lease}={task}", short(*agent))
    };
    match event {
        Event::Tick => "tick".into(),
        Event::Submit { spec, once, .. } => {
            let steps: Vec<&str> = spec.steps.iter().map(|step| step.name.as_str()).collect();
            let key = once.map_or(String::new(), |once| format!(" with key {:?}", once.key));
            format!("submit {}{key}", steps.join("+"))
        }
        Event::Act { job, action, .. } => format!("{action:?} job {job}"),
        Event::ActOnAgent { agent, action, .. } => format!("{action:?} {}", short(*agent)),
        Event::Asleep { agents, .. } => {
            let agents: Vec<String> = agents.iter().map(|agent| short(*agent)).collect();
            format!("asleep are [{}]", agents.join(" "))
        }
        Event::CreateToken { .. } => "create a join token".into(),
        Event::CreateApiToken { name, .. } => format!("create token {}", name.as_str()),
        Event::RevokeApiToken { name, .. } => format!("revoke token {}", name.as_str()),
        Event::RemoveMember { member, .. } => format!("remove {}", short(*member)),
        Event::Enrol { identity, .. } => format!("enrol {}", short(*identity)),
        Event::AgentJoined { agent, hello } => {
            format!("{} joins with [{}]", short(*agent), held(&hello.holding))
        }
        Event::AgentGone { agent } => format!("{} is gone", short(*agent)),
        Event::AgentDraining { agent } => format!("{} drains", short(*agent)),
        Event::DevicesTold { agent, devices } => {
            let each = |state: &grange_protocol::footprint::DeviceState| {
                let lost = if state.problem.is_some() { " lost" } else { "" };
                format!("{}-{}/{}{lost}", state.total_mib, state.others_mib, state.slots)
            };
            let devices: Vec<String> = devices.iter().map(each).collect();
            format!("{} has {}", short(*agent), devices.join(", "))
        }
        Event::Measured { agent, measurement } => {
            let what = format!("measured {} MiB", measurement.peak.device_mib);
            of(agent, &what, &measurement.lease, &measurement.task)
        }
        Event::Returned { agent, leases } => format!("{} returns {}", short(*agent), list(leases)),
        Event::Ended { agent, lease, task, outcome } => {
            of(agent, &format!("ends ({})", word(outcome)), lease, task)
        }
        Event::Fetched { jobs, .. } => format!("downloads of {jobs:?}"),
        Event::Collect { jobs, .. } => format!("collect {jobs:?}"),
        Event::OutputReceived { agent, lease, task, output, .. } => {
            let what = format!("commits {} ({:?})", output.name, output.blob.hash);
            of(agent, &what, lease, task)
        }
    }
}

fn tell_command(command: &Command) -> String {
    match command {
        Command::Welcome { agent, drop, .. } => {
            format!("{} is welcome, drops [{}]", short(*agent), list(drop))
        }
        Command::Assign { agent, assignment } => {
            format!("{} gets {}={}", short(*agent), assignment.lease, assignment.task)
        }
        Command::Recall { lease, .. } => format!("recall {lease}"),
        Command::Revoke { lease, .. } => format!("revoke {lease}"),
        Command::Dismiss { agent } => format!("dismiss {}", short(*agent)),
        Command::Settle { lease, .. } => format!("settle {lease}"),
        Command::Answer { answer: Answer::Refused(refusal), .. } => {
            format!("no ({:?})", refusal.code)
        }
        Command::Answer { answer, .. } => format!("{answer:?}"),
    }
}
