//! The core itself: what it holds, how events enter, how facts and commands leave.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use grange_protocol::client::{JobAction, Role};
use grange_protocol::footprint::Measurement;
use grange_protocol::shot::Label;
use grange_protocol::view::{JobState, TaskState};
use grange_protocol::{
    AgentId, Epoch, JobId, JobSpec, LeaseId, Millis, Refusal, RefusalCode, StepIndex, TaskIndex,
    TaskRef,
};

use crate::agent::{Agent, Connection, Lack};
use crate::command::{Answer, Changes, Command};
use crate::event::{Event, Once, RequestId};
use crate::fact::{Fact, Recorded};
use crate::job::{Job, Phase};
use crate::lease::{Hold, Leases};
use crate::live::{Live, LiveStep, Rank};
use crate::placement::{Queueing, Roomy, Total, Warm};
use crate::standing::{check_tags, lack_of_tagged, lacks_tags};
use crate::state::State;
use crate::tasks::Mark;

/// How long the core waits for what. Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Leases of an agent whose connection is gone are kept for so long.
    pub agent_grace_ms: u64,
    /// After a start, agents have so long to say what they hold before it is given to others, or
    /// until all have.
    pub adopt_grace_ms: u64,
    /// A device keeps to its scene for so long before another job of equal priority may take its
    /// place, because loading a scene costs more than a frame.
    pub scene_quantum_ms: u64,
    /// A task that waits behind another for so long is recalled for an idle agent.
    pub recall_after_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            agent_grace_ms: 30_000,
            adopt_grace_ms: 10_000,
            scene_quantum_ms: 15_000,
            recall_after_ms: 1_000,
        }
    }
}

/// The decisions of a farm. See the crate's documentation for how to drive it.
#[derive(Clone, Debug)]
pub struct Core {
    pub(crate) state: State,
    pub(crate) timing: Timing,
    pub(crate) now: Millis,
    pub(crate) agents: BTreeMap<AgentId, Agent>,
    pub(crate) leases: Leases,
    /// Jobs that are not final.
    pub(crate) live: BTreeMap<JobId, Live>,
    /// Jobs with ready tasks, in the order in which they are served.
    pub(crate) ranks: BTreeSet<Rank>,
    /// Devices with a free slot.
    pub(crate) roomy: BTreeSet<Roomy>,
    /// Devices that take tasks ahead.
    pub(crate) queueing: BTreeSet<Queueing>,
    /// Those with a free slot that have an idle instance with a scene open.
    pub(crate) warm: BTreeSet<Warm>,
    /// What the devices that are online have.
    pub(crate) totals: BTreeSet<Total>,
    /// What agents said of instances that ran out of memory, until the attempt's end is told.
    pub(crate) ran_out: BTreeMap<LeaseId, Measurement>,
    /// When the leases of lost agents end.
    pub(crate) expiries: BTreeSet<(Millis, AgentId)>,
    pub(crate) last_lease: u64,
    /// When those have spoken, or have had the time, who were here in the epoch before.
    pub(crate) settles_at: Millis,
    /// Agents that shall get no tasks at this time of the week.
    pub(crate) asleep: BTreeSet<AgentId>,
    facts: Vec<Recorded>,
    commands: VecDeque<Command>,
    changes: Changes,
}

impl Core {
    /// Begins a new epoch on what is remembered.
    pub fn start(state: State, now: Millis, timing: Timing) -> Self {
        let now = now.max(state.at);
        let settles_at = now + timing.adopt_grace_ms;
        let live = state
            .jobs
            .iter()
            .filter(|(_, job)| !job.phase.is_final())
            .map(|(id, job)| (*id, Live::new(job, settles_at)))
            .collect::<BTreeMap<_, _>>();
        let epoch = Epoch(state.epoch.0 + 1);
        let mut core = Self {
            state,
            timing,
            now,
            agents: BTreeMap::new(),
            leases: Leases::default(),
            live,
            ranks: BTreeSet::new(),
            roomy: BTreeSet::new(),
            queueing: BTreeSet::new(),
            warm: BTreeSet::new(),
            totals: BTreeSet::new(),
            ran_out: BTreeMap::new(),
            expiries: BTreeSet::new(),
            last_lease: 0,
            settles_at,
            asleep: BTreeSet::new(),
            facts: Vec::new(),
            commands: VecDeque::new(),
            changes: Changes::default(),
        };
        core.record(Fact::EpochBegan(epoch));
        let open: Vec<JobId> = core.live.keys().copied().collect();
        for job in open {
            core.rank(job);
        }
        core
    }

    /// Decides. `now` never runs backwards: an earlier one counts as the latest.
    pub fn handle(&mut self, now: Millis, event: Event) {
        self.now = self.now.max(now);
        match event {
            Event::Tick => {}
            Event::Submit { request, submitter, spec, queue_anyway, tags, once } => {
                let answer = match self.submit(submitter, *spec, queue_anyway, tags, once) {
                    Ok(job) => Answer::Submitted(job),
                    Err(refusal) => Answer::Refused(refusal),
                };
                self.answer(request, answer);
            }
            Event::Act { request, job, action } => self.act(request, job, action),
            Event::ActOnAgent { request, agent, action } => {
                self.act_on_agent(request, agent, action);
            }
            Event::Asleep { request, agents } => {
                self.put_to_sleep(agents);
                self.answer(request, Answer::Done);
            }
            Event::CreateToken { request, token, role, expires_at } => {
                self.record(Fact::TokenCreated { token, role, expires_at });
                self.answer(request, Answer::Done);
            }
            Event::CreateApiToken { request, token, name, role, expires_at } => {
                let answer = self.create_api_token(token, name, role, expires_at);
                self.answer(request, answer);
            }
            Event::RevokeApiToken { request, name } => {
                let answer = self.revoke_api_token(name);
                self.answer(request, answer);
            }
            Event::RemoveMember { request, member } => self.remove_member(request, member),
            Event::Enrol { request, token, identity, name } => {
                self.enrol(request, token, identity, name);
            }
            Event::Fetched { request, jobs } => {
                self.fetched(&jobs);
                self.answer(request, Answer::Done);
            }
            Event::Collect { request, jobs } => {
                self.collect(&jobs);
                self.answer(request, Answer::Done);
            }
            Event::AgentJoined { agent, hello } => self.agent_joined(agent, *hello),
            Event::AgentGone { agent } => self.agent_gone(agent),
            Event::AgentDraining { agent } => self.agent_draining(agent),
            Event::DevicesTold { agent, devices } => self.devices_told(agent, &devices),
            Event::Measured { agent, measurement } => self.measured(agent, measurement),
            Event::Returned { agent, leases } => self.returned(agent, &leases),
            Event::Ended { agent, lease, task, outcome } => self.ended(agent, lease, task, outcome),
            Event::OutputReceived { request, agent, lease, task, output } => {
                let answer = self.commit_output(agent, lease, task, output);
                self.answer(request, answer);
            }
        }
        self.expire();
        self.dispatch();
    }

    /// Facts since the last call, to be made durable before any later command runs.
    pub fn take_facts(&mut self) -> Vec<Recorded> {
        std::mem::take(&mut self.facts)
    }

    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// What changed since the last call, for watchers.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// When to call [`Core::handle`] with [`Event::Tick`] if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Millis> {
        let expiry = self.expiries.first().map(|(at, _)| *at);
        let settled = self
            .live
            .values()
            .filter(|live| live.rank.is_some() && live.settled_at > self.now)
            .map(|live| live.settled_at)
            .min();
        let next = [self.next_recall(), self.next_scene_change(), self.next_saving()];
        next.into_iter().chain([expiry, settled]).flatten().min()
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    pub fn agents(&self) -> &BTreeMap<AgentId, Agent> {
        &self.agents
    }

    pub const fn now(&self) -> Millis {
        self.now
    }

    /// Running tasks of a step.
    pub fn running(&self, job: JobId, step: StepIndex) -> u32 {
        self.live.get(&job).map_or(0, |live| live.step(step).running)
    }

    /// A job's state, in the words of people. `None` for a job that does not exist.
    pub fn job_state(&self, id: JobId) -> Option<JobState> {
        let job = self.state.jobs.get(&id)?;
        let begun = || {
            self.live.get(&id).is_some_and(|live| live.running() > 0)
                || job.steps.iter().any(|step| step.tasks.open() < step.tasks.len())
        };
        Some(match job.phase {
            Phase::Open if begun() => JobState::Active,
            Phase::Open => JobState::Queued,
            Phase::Paused => JobState::Paused,
            Phase::Completed { .. } => JobState::Completed,
            Phase::Canceled { .. } => JobState::Canceled,
            Phase::Failed { .. } => JobState::Failed,
        })
    }

    /// A task's state. `None` for a task that does not exist.
    pub fn task_state(&self, task: TaskRef) -> Option<TaskState> {
        let TaskIndex(index) = task.task;
        self.task_states(task.job, task.step, index..index.saturating_add(1)).next()
    }

    /// The states of some of a step's tasks, in their order; none of those that are not there.
    pub fn task_states(
        &self,
        id: JobId,
        index: StepIndex,
        tasks: Range<u32>,
    ) -> impl Iterator<Item = TaskState> {
        let task = |task| TaskRef { job: id, step: index, task: TaskIndex(task) };
        let held = self.leases.of_tasks(task(tasks.start)..task(tasks.end));
        let mut held = held.map(|task| task.task.0).peekable();
        let job = self.state.jobs.get(&id);
        let step = job.and_then(|job| job.step(index));
        let is_over = job.is_some_and(|job| job.phase.is_final())
            || step.is_some_and(|step| step.skipped.is_some());
        let open = if is_over {
            TaskState::Canceled
        } else if job.is_some_and(|job| job.is_unlocked(index)) {
            TaskState::Ready
        } else {
            TaskState::Waiting
        };
        tasks.map_while(move |task| {
            while held.next_if(|held| *held < task).is_some() {}
            Some(match step?.tasks.get(task)? {
                Mark::Completed => TaskState::Completed,
                Mark::Failed => TaskState::Failed,
                Mark::Open if held.next_if_eq(&task).is_some() => TaskState::Running,
                Mark::Open => open,
            })
        })
    }

    /// Why an open job with ready tasks has none running, as a sentence for people.
    pub fn why_waiting(&self, id: JobId) -> Option<String> {
        let job = self.state.jobs.get(&id)?;
        let live = self.live.get(&id)?;
        if live.rank.is_none() || live.running() > 0 {
            return None;
        }
        if live.settled_at > self.now {
            return Some("the coordinator has just started and waits for its agents".into());
        }
        if !self.agents.values().any(Agent::is_online) {
            return Some("no agent is online".into());
        }
        let step = job.step_indices().find(|step| live.ready(job, *step) > 0)?;
        let work = &job.spec.step(step)?.work;
        let tags = self.state.tags_of(id);
        let tagged = || self.online().filter(|(_, agent)| tags.is_subset(&agent.tags));
        if tagged().next().is_none() {
            return Some(lacks_tags(&tags));
        }
        if !tagged().any(|(_, agent)| agent.fits(work)) {
            let lack = Lack::of(work, tagged().map(|(_, agent)| agent));
            return Some(lack_of_tagged(&tags, &lack));
        }
        let fitting = || tagged().filter(|(_, agent)| agent.takes_tasks() && agent.fits(work));
        if fitting().next().is_none() {
            return Some(
                "every agent that could run it is drained, or asleep at this time: `grange agents` \
                 says which"
                    .into(),
            );
        }
        if fitting().all(|(id, _)| job.blocked.contains(id)) {
            return Some(
                "every agent that could run it has failed it too often; `grange retry` lets them \
                 try again"
                    .into(),
            );
        }
        self.why_no_device(id, job, step)
            .or_else(|| self.why_no_memory(id, job, step))
            .or_else(|| Some("the farm is busy with other jobs".into()))
    }

    pub(crate) fn online(&self) -> impl Iterator<Item = (&AgentId, &Agent)> {
        self.agents.iter().filter(|(_, agent)| agent.is_online())
    }

    /// Applies a fact and keeps it for the journal.
    pub(crate) fn record(&mut self, fact: Fact) {
        let recorded = Recorded { at: self.now, fact };
        match self.state.apply(&recorded) {
            Ok(()) => self.facts.push(recorded),
            Err(problem) => debug_assert!(false, "the core made a bad fact: {problem}"),
        }
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.commands.push_back(command);
    }

    pub(crate) fn answer(&mut self, request: RequestId, answer: Answer) {
        self.command(Command::Answer { request, answer });
    }

    pub(crate) fn job_changed(&mut self, job: JobId) {
        self.changes.jobs.insert(job);
    }

    pub(crate) fn task_changed(&mut self, task: TaskRef) {
        self.changes.jobs.insert(task.job);
        self.changes.tasks.insert(task);
    }

    pub(crate) fn agent_changed(&mut self, agent: AgentId) {
        self.changes.agents.insert(agent);
    }

    /// Puts a job where it belongs among those with ready tasks.
    pub(crate) fn rank(&mut self, id: JobId) {
        let (Some(live), Some(job)) = (self.live.get_mut(&id), self.state.jobs.get(&id)) else {
            return;
        };
        let rank = live.rank_of(id, job);
        if rank != live.rank {
            if let Some(old) = live.rank {
                self.ranks.remove(&old);
            }
            self.ranks.extend(rank);
            live.rank = rank;
        }
        if live.rank.is_none() {
            self.end_saving(id);
        }
    }

    fn submit(
        &mut self,
        submitter: Label,
        spec: JobSpec,
        queue_anyway: bool,
        tags: BTreeSet<Label>,
        once: Option<Once>,
    ) -> Result<JobId, Refusal> {
        if let Some(job) = self.submitted_before(once)? {
            return Ok(job);
        }
        check_tags(&tags)?;
        if let Some(problem) = spec.problem() {
            return Err(Refusal::new(RefusalCode::Invalid, problem));
        }
        if !queue_anyway && let Some(refusal) = self.nobody_fits(&spec, &tags) {
            return Err(refusal);
        }
        let id = self.state.next_job();
        self.record(Fact::JobSubmitted { job: id, submitter, spec: Box::new(spec) });
        if let Some(Once { key, body }) = once {
            self.record(Fact::SubmissionKeyed { key, body, job: id });
        }
        if !tags.is_empty() {
            self.record(Fact::JobTagged { job: id, tags });
        }
        if let Some(job) = self.state.jobs.get(&id) {
            self.live.insert(id, Live::new(job, self.now));
        }
        self.settle_job(id);
        self.rank(id);
        self.job_changed(id);
        Ok(id)
    }

    /// A refusal if agents are online and none of them could do some step.
    fn nobody_fits(&self, spec: &JobSpec, tags: &BTreeSet<Label>) -> Option<Refusal> {
        self.online().next()?;
        let tagged = || {
            let agents = self.online().map(|(_, agent)| agent);
            agents.filter(|agent| tags.is_subset(&agent.tags))
        };
        if tagged().next().is_none() {
            let message = format!("`{}` cannot be rendered: {}", spec.name, lacks_tags(tags));
            return Some(Refusal::new(RefusalCode::NoAgentFits, message));
        }
        let step = spec
            .steps
            .iter()
            .filter(|step| !step.optional)
            .find(|step| !tagged().any(|agent| agent.fits(&step.work)))?;
        let lack = lack_of_tagged(tags, &Lack::of(&step.work, tagged()));
        let message = format!("`{}` cannot be rendered: {lack}", spec.name);
        Some(Refusal::new(RefusalCode::NoAgentFits, message))
    }

    fn act(&mut self, request: RequestId, id: JobId, action: JobAction) {
        let answer = match self.try_act(id, action) {
            Ok(()) => Answer::Done,
            Err(refusal) => Answer::Refused(refusal),
        };
        self.job_changed(id);
        self.answer(request, answer);
    }

    fn try_act(&mut self, id: JobId, action: JobAction) -> Result<(), Refusal> {
        let Some(job) = self.state.jobs.get(&id) else {
            return Err(self.no_job(id));
        };
        let ended = match &job.phase {
            Phase::Completed { .. } => Some("completed"),
            Phase::Canceled { .. } => Some("canceled"),
            Phase::Failed { .. } => Some("failed"),
            Phase::Open | Phase::Paused => None,
        };
        match (action, ended) {
            (JobAction::Retry, _) => return self.retry(id),
            (JobAction::Keep, _) => {
                self.keep(id, true);
                return Ok(());
            }
            (JobAction::Release, _) => {
                self.keep(id, false);
                return Ok(());
            }
            (JobAction::Delete, Some(_)) => return self.delete(id),
            (JobAction::Delete, None) => {
                let message =
                    format!("job {id} goes on: `grange cancel {id}` before you delete it");
                return Err(Refusal::new(RefusalCode::Invalid, message));
            }
            (_, Some(ended)) => {
                let message = format!(
                    "job {id} has {ended} already; `grange retry {id}` renders what is missing"
                );
                return Err(Refusal::new(RefusalCode::Invalid, message));
            }
            (JobAction::Cancel, None) => {
                self.record(Fact::JobCanceled(id));
                self.close_job(id);
            }
            (JobAction::Pause, None) => {
                if job.phase == Phase::Open {
                    self.record(Fact::JobPaused(id));
                    self.recall_job(id);
                }
            }
            (JobAction::Resume, None) => {
                if job.phase == Phase::Paused {
                    self.record(Fact::JobResumed(id));
                    self.settle_job(id);
                }
            }
            (JobAction::SetPriority(priority), None) => {
                if job.priority() != priority {
                    self.record(Fact::JobPrioritised(id, priority));
                }
            }
        }
        self.rank(id);
        Ok(())
    }

    fn retry(&mut self, id: JobId) -> Result<(), Refusal> {
        let Some(job) = self.state.jobs.get(&id) else {
            return Err(self.no_job(id));
        };
        let stopped = matches!(job.phase, Phase::Failed { .. } | Phase::Canceled { .. });
        let left_out =
            job.steps.iter().any(|step| step.tasks.failed() > 0 || step.skipped.is_some());
        if !stopped && !left_out && job.blocked.is_empty() {
            let message = format!("job {id} has no failed tasks: there is nothing to retry");
            return Err(Refusal::new(RefusalCode::Invalid, message));
        }
        self.record(Fact::JobRetried(id));
        if let Some(job) = self.state.jobs.get(&id) {
            let live = self.live.entry(id).or_insert_with(|| Live::new(job, self.now));
            live.steps.iter_mut().for_each(LiveStep::rewind);
        }
        self.settle_job(id);
        self.rank(id);
        Ok(())
    }

    /// Whether the agent may commit outputs of the task under the lease, now.
    pub fn check_lease(
        &self,
        agent: AgentId,
        lease: LeaseId,
        task: TaskRef,
    ) -> Result<(), Refusal> {
        match self.leases.get(lease) {
            Some(held)
                if held.agent == agent && held.task == task && held.hold != Hold::Revoked =>
            {
                Ok(())
            }
            _ => Err(Refusal::new(
                RefusalCode::StaleLease,
                format!("lease {lease} on task {task} is not, or no longer, this agent's"),
            )),
        }
    }

    /// Revokes what runs of a job that has ended.
    pub(crate) fn close_job(&mut self, id: JobId) {
        let running: Vec<(LeaseId, TaskRef)> = self.leases.of_job(id).collect();
        for (lease, task) in running {
            self.revoke(lease);
            self.task_changed(task);
        }
        self.end_saving(id);
        if let Some(rank) = self.live.remove(&id).and_then(|live| live.rank) {
            self.ranks.remove(&rank);
        }
        self.job_changed(id);
    }

    pub(crate) fn connection_of(&self, agent: AgentId) -> Connection {
        self.agents.get(&agent).map_or(Connection::Offline, |agent| agent.connection)
    }

    pub(crate) fn role_of(&self, identity: AgentId) -> Option<Role> {
        self.state.identities.get(&identity).map(|identity| identity.role)
    }

    pub(crate) fn job(&self, id: JobId) -> Option<&Job> {
        self.state.jobs.get(&id)
    }
}
