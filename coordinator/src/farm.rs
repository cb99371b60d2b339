//! The coordinator's one loop: receive → handle → append facts → run commands.
//!
//! Everything that anybody learns from here was made durable first: answers, assignments and
//! notices to watchers leave only after the facts behind them are in the journal. One append takes
//! all that happened meanwhile (group commit).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use grange_daemon::clock::Clock;
use grange_protocol::agent::{
    AgentHello, AttemptEnded, Failure, FromAgent, HostLoad, Outcome, TaskProgress, ToAgent, Welcome,
};
use grange_protocol::footprint::{Decision, DeviceState};
use grange_protocol::history::HistoryView;
use grange_protocol::limits::LOG_MAX;
use grange_protocol::shot::Label;
use grange_protocol::view::OutputView;
use grange_protocol::{AgentId, JobId, LeaseId, Millis};
use grange_scheduler::{Answer, Command, Core, Event, Fact, Recorded, RequestId, State, Timing};
use grange_transport::close_code;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use crate::history::History;
use crate::journal::{AttemptLog, Journal, JournalError, Remembered};
use crate::news::Watchers;
use crate::rate::{Done, Rate};
use crate::storage::Storage;
use crate::telling::{Changed, StatesTold};
use crate::webhooks::Webhooks;

/// Inputs that wait for the loop. Full, it blocks whoever brings more.
const INPUTS: usize = 4_096;
/// Inputs that one turn of the loop takes.
const INPUTS_PER_TURN: usize = 1_024;
/// How often watchers hear of progress.
const PUBLISH_EVERY: Duration = Duration::from_millis(200);
/// Facts between two snapshots.
const SNAPSHOT_EVERY: u64 = 100_000;
const HEARTBEAT_MS: u32 = 2_000;
/// Decisions of an agent that are kept for people who ask why, the latest ones.
const DECISIONS_KEPT: usize = 200;
/// Jobs whose rate is remembered, the latest ones.
const RATES_KEPT: usize = 1_000;

/// Runs between two turns of the loop.
pub(crate) type Look = Box<dyn FnOnce(&mut Farm) + Send>;

/// What enters the loop.
pub(crate) enum Input {
    /// An event whose answer somebody awaits.
    Ask {
        make: Box<dyn FnOnce(RequestId) -> Event + Send>,
        /// Who wants it, if it is somebody whose name the history tells.
        by: Option<Label>,
        reply: oneshot::Sender<Answer>,
    },
    /// A look at the farm, or at what the loop keeps beside it.
    Look(Look),
    AgentJoined {
        agent: AgentId,
        link: AgentLink,
        hello: Box<AgentHello>,
    },
    AgentGone {
        agent: AgentId,
        link: u64,
    },
    FromAgent {
        agent: AgentId,
        link: u64,
        messages: Vec<FromAgent>,
        /// Given back when they are handled.
        turn: OwnedSemaphorePermit,
    },
    Stop(oneshot::Sender<()>),
}

/// What goes to an agent.
pub(crate) enum Outgoing {
    Welcome(Welcome),
    Message(ToAgent),
}

/// The loop's end of an agent's connection.
pub(crate) struct AgentLink {
    /// Tells an agent's connections apart.
    pub(crate) id: u64,
    pub(crate) outgoing: mpsc::Sender<Outgoing>,
    pub(crate) connection: grange_transport::Connection,
    pub(crate) load: HostLoad,
    pub(crate) devices: Vec<DeviceState>,
    /// The latest ones, at most [`DECISIONS_KEPT`].
    pub(crate) decisions: VecDeque<Decision>,
    pub(crate) last_seen: Millis,
}

/// All that the loop owns.
pub(crate) struct Farm {
    pub(crate) name: Label,
    pub(crate) core: Core,
    pub(crate) links: BTreeMap<AgentId, AgentLink>,
    pub(crate) progress: HashMap<LeaseId, TaskProgress>,
    pub(crate) rates: BTreeMap<JobId, Rate>,
    pub(crate) done: Done,
    pub(crate) watchers: Watchers,
    pub(crate) states_told: StatesTold,
    clock: Clock,
    journal: Box<dyn Journal>,
    pub(crate) storage: Storage,
    history: History,
    webhooks: Option<Arc<Webhooks>>,
    wants_pictures: bool,
    /// That are not durable yet, and that the history has heard of.
    facts: Vec<Recorded>,
    logs: Vec<AttemptLog>,
    looks: Vec<Look>,
    /// Logs of attempts from before are to be forgotten.
    old_logs: Option<Millis>,
    asking: BTreeMap<RequestId, oneshot::Sender<Answer>>,
    last_request: u64,
    /// What the core does not know to have changed.
    dirty: Changed,
    facts_since_snapshot: u64,
    /// The latest fact, if the state was not logged since.
    unlogged: Option<u64>,
    heart: Arc<AtomicU64>,
}

/// What the loop tells besides, and asks.
pub(crate) struct Beside {
    /// How the history so far leaves the farm.
    pub(crate) remembered: Remembered,
    pub(crate) storage: Storage,
    pub(crate) webhooks: Option<Arc<Webhooks>>,
    /// Whether agents shall send small pictures of frames.
    pub(crate) wants_pictures: bool,
}

/// How everybody else reaches the loop.
#[derive(Clone)]
pub(crate) struct FarmHandle {
    inputs: mpsc::Sender<Input>,
    heart: Arc<AtomicU64>,
}

/// The loop has ended: the coordinator is stopping.
#[derive(Debug, thiserror::Error)]
#[error("the coordinator is stopping")]
pub(crate) struct Stopped;

impl FarmHandle {
    /// An event, and the core's answer to it, after it is durable.
    pub(crate) async fn ask(
        &self,
        make: impl FnOnce(RequestId) -> Event + Send + 'static,
    ) -> Result<Answer, Stopped> {
        self.put(None, Box::new(make)).await
    }

    /// The same, and the history tells whose wish it was.
    pub(crate) async fn ask_as(
        &self,
        by: &Label,
        make: impl FnOnce(RequestId) -> Event + Send + 'static,
    ) -> Result<Answer, Stopped> {
        self.put(Some(by.clone()), Box::new(make)).await
    }

    async fn put(
        &self,
        by: Option<Label>,
        make: Box<dyn FnOnce(RequestId) -> Event + Send>,
    ) -> Result<Answer, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Ask { make, by, reply }).await?;
        answer.await.map_err(|_| Stopped)
    }

    /// A look at the farm, between two turns of the loop.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Farm) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |farm: &mut Farm| drop(reply.send(look(farm))));
        self.send(Input::Look(look)).await?;
        answer.await.map_err(|_| Stopped)
    }

    pub(crate) async fn send(&self, input: Input) -> Result<(), Stopped> {
        self.inputs.send(input).await.map_err(|_| Stopped)
    }

    /// Ends the loop after a last snapshot.
    pub(crate) async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        if self.send(Input::Stop(reply)).await.is_ok() {
            let _ = stopped.await;
        }
    }

    /// Counts the loop's turns, also while it waits for a full disk.
    pub(crate) fn heartbeats(&self) -> u64 {
        self.heart.load(Ordering::Relaxed)
    }
}

impl Farm {
    /// Starts the loop on what the journal remembers.
    pub(crate) fn start(
        name: Label,
        state: State,
        journal: Box<dyn Journal>,
        timing: Timing,
        beside: Beside,
    ) -> FarmHandle {
        let clock = Clock::start_after(state.at.0);
        let now = Millis(clock.now_ms());
        let core = Core::start(state, now, timing);
        let history = History::go_on(beside.remembered, &core, now, timing.agent_grace_ms);
        let (inputs, receiver) = mpsc::channel(INPUTS);
        let heart = Arc::new(AtomicU64::new(0));
        let farm = Self {
            name,
            core,
            links: BTreeMap::new(),
            progress: HashMap::new(),
            rates: BTreeMap::new(),
            done: Done::default(),
            watchers: Watchers::none(),
            states_told: StatesTold::default(),
            clock,
            journal,
            storage: beside.storage,
            history,
            webhooks: beside.webhooks,
            wants_pictures: beside.wants_pictures,
            facts: Vec::new(),
            logs: Vec::new(),
            looks: Vec::new(),
            old_logs: None,
            asking: BTreeMap::new(),
            last_request: 0,
            dirty: Changed::default(),
            facts_since_snapshot: 0,
            unlogged: None,
            heart: heart.clone(),
        };
        if let Some(webhooks) = &farm.webhooks {
            webhooks.catch_up(&farm);
        }
        tokio::spawn(farm.run(receiver));
        FarmHandle { inputs, heart }
    }

    async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        let mut batch = Vec::with_capacity(INPUTS_PER_TURN);
        let mut publish = tokio::time::interval(PUBLISH_EVERY);
        publish.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stop = None;
        while stop.is_none() {
            let deadline = self.core.next_deadline().map(|at| self.clock.instant_at(at.0));
            tokio::select! {
                taken = inputs.recv_many(&mut batch, INPUTS_PER_TURN) => if taken == 0 { break },
                () = sleep_until(deadline) => {}
                _ = publish.tick() => {
                    self.heart.fetch_add(1, Ordering::Relaxed);
                    self.publish();
                    self.commit().await;
                    continue;
                }
            }
            if batch.is_empty() {
                self.core.handle(self.now(), Event::Tick);
            }
            for input in batch.drain(..) {
                if let Some(reply) = self.take(input) {
                    stop = Some(reply);
                }
            }
            self.commit().await;
            self.run_commands();
            for look in std::mem::take(&mut self.looks) {
                look(&mut self);
            }
            if let Some(before) = self.old_logs.take()
                && let Err(error) = self.journal.forget_logs(before).await
            {
                tracing::warn!("old logs stay for now: {error}");
            }
        }
        // What the last turn has begun.
        self.commit().await;
        self.snapshot().await;
        if let Some(reply) = stop {
            let _ = reply.send(());
        }
    }

    /// After this turn of the loop.
    pub(crate) fn forget_logs(&mut self, before: Millis) {
        self.old_logs = Some(before);
    }

    pub(crate) fn now(&self) -> Millis {
        Millis(self.clock.now_ms())
    }

    /// Takes one input. Returns whom to tell if it is the last.
    fn take(&mut self, input: Input) -> Option<oneshot::Sender<()>> {
        let now = self.now();
        match input {
            Input::Ask { make, by, reply } => {
                self.last_request += 1;
                let request = RequestId(self.last_request);
                self.asking.insert(request, reply);
                if by.is_some() {
                    self.gather(None);
                }
                self.core.handle(now, make(request));
                if by.is_some() {
                    self.gather(by.as_ref());
                }
            }
            Input::Look(look) => self.looks.push(look),
            Input::AgentJoined { agent, mut link, hello } => {
                link.last_seen = now;
                if let Some(old) = self.links.insert(agent, link) {
                    old.connection.close(close_code::REPLACED, b"connected again");
                }
                self.core.handle(now, Event::AgentJoined { agent, hello });
            }
            Input::AgentGone { agent, link } => {
                if self.links.get(&agent).is_some_and(|current| current.id == link) {
                    self.links.remove(&agent);
                    self.core.handle(now, Event::AgentGone { agent });
                }
            }
            Input::FromAgent { agent, link, messages, turn: _turn } => {
                let current = self.links.get_mut(&agent).filter(|current| current.id == link);
                if let Some(current) = current {
                    current.last_seen = now;
                    for message in messages {
                        self.take_from_agent(now, agent, message);
                    }
                }
            }
            Input::Stop(reply) => return Some(reply),
        }
        None
    }

    fn take_from_agent(&mut self, now: Millis, agent: AgentId, message: FromAgent) {
        match message {
            FromAgent::Heartbeat(load) => {
                if let Some(link) = self.links.get_mut(&agent) {
                    link.load = load;
                }
                self.dirty.agents.insert(agent);
            }
            FromAgent::Progress(progress) => {
                let lease = self.core.leases().get(progress.lease);
                if let Some(lease) = lease.filter(|lease| lease.agent == agent) {
                    self.dirty.tasks.insert(lease.task);
                    self.dirty.jobs.insert(lease.task.job);
                    self.progress.insert(progress.lease, progress);
                }
            }
            FromAgent::Ended(AttemptEnded { lease, task, outcome, mut log }) => {
                let held = self.core.leases().get(lease);
                let is_its = held.is_some_and(|held| held.agent == agent && held.task == task);
                if is_its {
                    self.progress.remove(&lease);
                }
                // Whoever was given nothing has nothing to tell of it, and nobody tells more than this.
                log.truncate(log.floor_char_boundary(LOG_MAX));
                let outcome = match outcome {
                    Outcome::Failed(why) => Outcome::Failed(Failure::new(why.kind, why.reason)),
                    other => other,
                };
                if is_its && !log.is_empty() {
                    let failed = matches!(outcome, Outcome::Failed(_));
                    self.logs.push(AttemptLog { task, agent, failed, at: now, text: log });
                }
                self.core.handle(now, Event::Ended { agent, lease, task, outcome });
            }
            FromAgent::Returned(leases) => {
                for lease in &leases {
                    self.progress.remove(lease);
                }
                self.core.handle(now, Event::Returned { agent, leases });
            }
            FromAgent::Devices(devices) => {
                if let Some(link) = self.links.get_mut(&agent) {
                    link.devices.clone_from(&devices);
                }
                self.dirty.agents.insert(agent);
                self.core.handle(now, Event::DevicesTold { agent, devices });
            }
            FromAgent::Measured(measurement) => {
                self.core.handle(now, Event::Measured { agent, measurement });
            }
            FromAgent::Decided(mut decision) => {
                // Its host's clock may be a wrong one.
                decision.at = now;
                if let Some(link) = self.links.get_mut(&agent) {
                    if link.decisions.len() == DECISIONS_KEPT {
                        link.decisions.pop_front();
                    }
                    link.decisions.push_back(decision);
                }
            }
            FromAgent::Draining => self.core.handle(now, Event::AgentDraining { agent }),
        }
    }

    /// Takes what the core has decided, and says who wanted it.
    fn gather(&mut self, by: Option<&Label>) {
        let facts = self.core.take_facts();
        self.history.hear_facts(&self.core, &facts, by);
        self.facts.extend(facts);
    }

    /// Makes what happened durable. While the disk is full, nothing else happens.
    async fn commit(&mut self) {
        self.gather(None);
        let facts = std::mem::take(&mut self.facts);
        let logs = std::mem::take(&mut self.logs);
        let is_waited_for = !facts.is_empty() || !logs.is_empty();
        if !is_waited_for && !self.history.is_due(self.now()) {
            return;
        }
        let happened = self.history.take();
        let first = loop {
            match self.journal.append(&facts, &logs, &happened).await {
                Ok(first) => break first,
                // Nothing depends on it, so the farm can still be asked.
                Err(error) if !is_waited_for => {
                    tracing::warn!("what happened is not on disk yet: {error}");
                    return self.history.put_back(happened, self.now());
                }
                Err(error) => {
                    tracing::error!("{error}");
                    // A database that is away comes back sooner than somebody makes room.
                    self.storage.journal_is_stuck(matches!(error, JournalError::DiskFull));
                    self.heart.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        };
        self.storage.journal_is_stuck(false);
        self.learn(first, &facts);
        self.tell_of(happened);
        if !facts.is_empty() {
            self.unlogged = Some(first + facts.len() as u64 - 1);
        }
        self.facts_since_snapshot += facts.len() as u64;
        if self.facts_since_snapshot >= SNAPSHOT_EVERY {
            self.snapshot().await;
        }
    }

    async fn snapshot(&mut self) {
        self.facts_since_snapshot = 0;
        if let Err(error) = self.journal.snapshot(self.core.state()).await {
            tracing::error!("no snapshot: {error}");
        }
    }

    /// Says what state the facts so far have made, for who wants to compare it with what the journal
    /// gives back: `grange-coordinator check --as-of FACT`.
    fn log_state(&mut self) {
        if tracing::enabled!(tracing::Level::DEBUG)
            && let Some(fact) = self.unlogged.take()
            && let Ok(hash) = self.core.state().hash()
        {
            tracing::debug!("as of fact {fact} the state is {hash}");
        }
    }

    /// What happened is durable: watchers and webhooks hear of it.
    fn tell_of(&self, happened: Vec<HistoryView>) {
        if let Some(webhooks) = &self.webhooks {
            webhooks.hear_durable(self, &happened);
        }
        for event in &happened {
            let job = event.job.map(|job| job.0);
            let agent = event.agent.map(|agent| self.agent_name(agent).to_string());
            tracing::info!(event = %event.kind, job, agent, "{}", event.sentence());
        }
        self.watchers.tell(self.news_of_history(&happened));
    }

    /// What watchers and statistics take from facts.
    fn learn(&mut self, first: u64, facts: &[Recorded]) {
        let mut outputs: Vec<(JobId, OutputView)> = Vec::new();
        for (cursor, recorded) in (first..).zip(facts) {
            match &recorded.fact {
                Fact::OutputStored { task, output } => {
                    let output = OutputView {
                        cursor,
                        step: task.step,
                        task: task.task,
                        output: output.clone(),
                    };
                    self.done.outputs += 1;
                    self.done.output_bytes += output.output.blob.len;
                    outputs.push((task.job, output));
                }
                Fact::TaskCompleted { task, .. } => {
                    let step = self
                        .core
                        .state()
                        .jobs
                        .get(&task.job)
                        .and_then(|job| job.spec.step(task.step));
                    let frames = step.map_or(0, |step| u64::from(step.work.frames_of(task.task)));
                    self.done.frames += frames;
                    if let Some(rate) = self.rates.get_mut(&task.job) {
                        rate.add(recorded.at, frames);
                    }
                }
                Fact::JobRetried(job) | Fact::JobCollected(job) => {
                    self.rates.remove(job);
                    self.forget_states(*job);
                }
                _ => {}
            }
        }
        self.watchers.tell(self.news_of_outputs(outputs));
    }

    fn run_commands(&mut self) {
        while let Some(command) = self.core.next_command() {
            match command {
                Command::Welcome { agent, epoch, drop } => {
                    let farm = self.name.clone();
                    let (heartbeat_ms, pictures) = (HEARTBEAT_MS, self.wants_pictures);
                    let welcome = Welcome { farm, agent, epoch, drop, heartbeat_ms, pictures };
                    self.send(agent, Outgoing::Welcome(welcome));
                }
                Command::Assign { agent, assignment } => {
                    let (now, job) = (self.now(), assignment.task.job);
                    self.rates.entry(job).or_insert_with(|| Rate::begin(now));
                    self.history.hear_begun(&self.core, now, job);
                    self.send(agent, Outgoing::Message(ToAgent::Assign(assignment)));
                }
                Command::Recall { agent, lease } => {
                    self.send(agent, Outgoing::Message(ToAgent::Recall(lease)));
                }
                Command::Revoke { agent, lease } => {
                    self.progress.remove(&lease);
                    self.send(agent, Outgoing::Message(ToAgent::Revoke(lease)));
                }
                Command::Settle { agent, lease } => {
                    self.send(agent, Outgoing::Message(ToAgent::Settled(lease)));
                }
                Command::Dismiss { agent } => {
                    if let Some(link) = self.links.remove(&agent) {
                        let reason = b"this farm does not know you";
                        link.connection.close(close_code::UNKNOWN_IDENTITY, reason);
                    }
                }
                Command::Answer { request, answer } => {
                    if let Some(reply) = self.asking.remove(&request) {
                        let _ = reply.send(answer);
                    }
                }
            }
        }
    }

    /// An agent that does not keep up is cut off; it comes back and says what it holds.
    fn send(&self, agent: AgentId, message: Outgoing) {
        if let Some(link) = self.links.get(&agent)
            && link.outgoing.try_send(message).is_err()
        {
            tracing::warn!("agent {agent} does not keep up with its messages and is cut off");
            link.connection.close(close_code::PROTOCOL, b"too slow");
        }
    }

    /// Tells watchers what has changed, a few times a second.
    fn publish(&mut self) {
        self.log_state();
        let changes = self.core.take_changes();
        let mut dirty = std::mem::take(&mut self.dirty);
        self.forget_the_past();
        self.hear_changes(&changes.agents);
        if self.watchers.is_nobody() {
            self.states_told = StatesTold::default();
            return;
        }
        dirty.jobs.extend(changes.jobs);
        dirty.tasks.extend(changes.tasks);
        dirty.agents.extend(changes.agents);
        let news = self.news(dirty);
        self.watchers.tell(news);
    }

    /// Agents that are not as they were, and the storage. Webhooks hear of these at once, because a disk
    /// that is full may keep them from becoming durable.
    fn hear_changes(&mut self, agents: &BTreeSet<AgentId>) {
        let (before, now) = (self.history.noted().len(), self.now());
        self.history.hear_changes(&self.core, agents, self.storage.problem(), now);
        if let Some(webhooks) = &self.webhooks {
            webhooks.hear(self, &self.history.noted()[before..]);
        }
    }

    /// A receiver of webhooks takes nothing.
    pub(crate) fn hear_given_up(&mut self, why: String) {
        self.history.hear_given_up(&self.core, self.now(), why);
    }

    fn forget_the_past(&mut self) {
        let leases = self.core.leases();
        self.progress.retain(|lease, _| leases.get(*lease).is_some());
        while self.rates.len() > RATES_KEPT {
            self.rates.pop_first();
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
