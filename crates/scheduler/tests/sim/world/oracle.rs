//! What must be true whatever the core thinks of itself: a model of its own, fed with nothing but
//! what goes in and comes out.

use std::collections::{BTreeMap, BTreeSet};

use grange_protocol::agent::{Assignment, Outcome};
use grange_protocol::shot::Label;
use grange_protocol::{
    AgentId, BlobHash, JobId, LeaseId, Millis, OutputName, RefusalCode, TaskRef,
};
use grange_scheduler::{
    Answer, Command, Core, Duty, Event, Fact, Hold, Phase, Recorded, State, Timing, TokenHash,
};

use super::Ask;
use super::random::Random;

/// Leases of the past that are remembered for those who misuse them.
const DEAD_KEPT: usize = 64;

#[derive(Default)]
pub(crate) struct Oracle {
    problems: Vec<String>,
    /// Who may commit what, in this life of the coordinator.
    holders: BTreeMap<TaskRef, (LeaseId, AgentId)>,
    /// Agents that are gone, and when their leases end.
    gone: BTreeMap<AgentId, Millis>,
    dead: Vec<(LeaseId, TaskRef, AgentId)>,
    /// Every assignment that ever left, of all lives.
    sent: BTreeMap<LeaseId, TaskRef>,
    /// Of all durable facts.
    outputs: BTreeMap<JobId, BTreeMap<OutputName, BlobHash>>,
    completed: BTreeSet<TaskRef>,
    /// Leases whose end is known, on its way to the journal or in it.
    ending: Vec<(LeaseId, TaskRef)>,
    counted: BTreeSet<LeaseId>,
    /// What was told to those who asked.
    jobs: BTreeSet<JobId>,
    keys: BTreeMap<usize, JobId>,
    enrolled: BTreeMap<AgentId, TokenHash>,
    /// Tokens of the HTTP API that ever were, by what they were called.
    made: BTreeMap<TokenHash, Label>,
    /// Those of them that were revoked; their names may be given again, in the same turn even.
    revoked: BTreeSet<TokenHash>,
    /// Names of which a token was ever revoked.
    names_revoked: BTreeSet<Label>,
    /// Devices that hold only what was placed since they were last empty, under the same figures.
    devices: BTreeMap<(AgentId, u16), Figures>,
}

/// A device as it was told, for as long as it stays so.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Figures {
    free_mib: u64,
    slots: u64,
    ahead: u64,
    /// It changed while it held something, so nothing follows from what it holds.
    changed: bool,
}

impl Oracle {
    pub(crate) fn is_content(&self) -> bool {
        self.problems.is_empty()
    }

    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }

    pub(super) fn object(&mut self, problem: String) {
        self.problems.push(problem);
    }

    fn demand(&mut self, good: bool, problem: impl FnOnce() -> String) {
        if !good {
            self.problems.push(problem());
        }
    }

    /// A coordinator has come back with this.
    pub(super) fn life_begins(&mut self, state: &State) {
        for (task, (lease, agent)) in std::mem::take(&mut self.holders) {
            self.bury(lease, task, agent);
        }
        self.gone.clear();
        self.ending.clear();
        self.devices.clear();
        self.jobs_exist(state);
        let enrolled = self.enrolled.keys().all(|agent| state.identities.contains_key(agent));
        self.demand(enrolled, || "an identity is gone that was enrolled".into());
        self.none_is_good_again(state);
    }

    fn none_is_good_again(&mut self, state: &State) {
        let good = self.revoked.iter().any(|token| state.api_tokens.contains_key(token));
        self.demand(!good, || "a token is good that was revoked".into());
    }

    pub(super) fn jobs_exist(&mut self, state: &State) {
        let lost = self.jobs.iter().find(|job| !state.jobs.contains_key(job)).copied();
        self.demand(lost.is_none(), || format!("job {lost:?} was acknowledged and is gone"));
    }

    pub(super) fn after_event(
        &mut self,
        core: &Core,
        event: &Event,
        facts: &[Recorded],
        commands: &[Command],
    ) {
        self.commits_are_rightful(event, facts, commands);
        self.take_event(core, event);
        for command in commands {
            self.take_command(core, event, command);
        }
        self.leases_agree(core);
    }

    /// An output is committed by the holder of the task's lease and by nobody else.
    fn commits_are_rightful(&mut self, event: &Event, facts: &[Recorded], commands: &[Command]) {
        let stored: Vec<&TaskRef> = (facts.iter())
            .filter_map(|recorded| match &recorded.fact {
                Fact::OutputStored { task, .. } => Some(task),
                _ => None,
            })
            .collect();
        let Event::OutputReceived { agent, lease, task, output, .. } = event else {
            return self
                .demand(stored.is_empty(), || "an output is stored that nobody brought".into());
        };
        let rightful = self.holders.get(task) == Some(&(*lease, *agent));
        let own = stored.iter().all(|stored| *stored == task) && stored.len() <= 1;
        self.demand(own, || format!("{task} brought outputs for {stored:?}"));
        self.demand(rightful || stored.is_empty(), || {
            format!("{} was committed under the stale lease {lease}", output.name)
        });
        let answer = commands.iter().find_map(|command| match command {
            Command::Answer { answer, .. } => Some(answer),
            _ => None,
        });
        match answer {
            Some(Answer::Committed) => self.demand(rightful, || {
                format!("{} was called committed under the stale lease {lease}", output.name)
            }),
            Some(Answer::Refused(refusal)) if refusal.code == RefusalCode::StaleLease => {
                self.demand(!rightful, || format!("the good lease {lease} was called stale"));
            }
            Some(_) => {}
            None => self.object(format!("{} got no answer", output.name)),
        }
    }

    fn take_event(&mut self, core: &Core, event: &Event) {
        let now = core.now();
        match event {
            Event::AgentJoined { agent, hello } => {
                self.gone.remove(agent);
                let theirs: Vec<TaskRef> = self.tasks_of(*agent);
                for task in theirs {
                    let (lease, _) = self.holders[&task];
                    if !hello.holding.iter().any(|held| held.lease == lease) {
                        self.lay_down(task);
                    }
                }
            }
            Event::AgentGone { agent } => {
                let grace_ms = Timing::default().agent_grace_ms;
                self.gone.entry(*agent).or_insert(now + grace_ms);
            }
            Event::Ended { agent, lease, task, outcome }
                if self.holders.get(task) == Some(&(*lease, *agent)) =>
            {
                self.lay_down(*task);
                if matches!(outcome, Outcome::Failed(_)) {
                    self.ending.push((*lease, *task));
                }
            }
            Event::Returned { agent, leases } => {
                let theirs = self.tasks_of(*agent);
                for task in theirs {
                    if leases.contains(&self.holders[&task].0) {
                        self.lay_down(task);
                    }
                }
            }
            _ => {}
        }
        let expired: Vec<AgentId> =
            self.gone.iter().filter(|(_, at)| **at <= now).map(|(agent, _)| *agent).collect();
        for agent in expired {
            self.gone.remove(&agent);
            for task in self.tasks_of(agent) {
                self.lay_down(task);
            }
        }
        self.take_figures(core, event);
    }

    /// What a device is said to have, and whether what it holds was placed under that.
    fn take_figures(&mut self, core: &Core, event: &Event) {
        let told: Vec<((AgentId, u16), Figures)> = match event {
            Event::AgentJoined { agent, hello } => (0u16..)
                .zip(&hello.devices)
                .map(|(at, info)| {
                    let figures = Figures {
                        free_mib: info.memory_mib,
                        slots: info.slots.into(),
                        ahead: hello.ahead.into(),
                        changed: !hello.holding.is_empty(),
                    };
                    ((*agent, at), figures)
                })
                .collect(),
            Event::DevicesTold { agent, devices } => (0u16..)
                .zip(devices)
                .filter_map(|(at, state)| {
                    let before = *self.devices.get(&(*agent, at))?;
                    let figures = Figures {
                        free_mib: state.total_mib.saturating_sub(state.others_mib),
                        slots: state.slots.into(),
                        ..before
                    };
                    let held = held_on(core, *agent, at).next().is_some();
                    let changed = before.changed || (figures != before && held);
                    Some(((*agent, at), Figures { changed, ..figures }))
                })
                .collect(),
            _ => return,
        };
        self.devices.extend(told);
    }

    fn take_command(&mut self, core: &Core, event: &Event, command: &Command) {
        match command {
            Command::Assign { agent, assignment } => self.assigned(core, *agent, assignment),
            Command::Revoke { lease, .. } => {
                let task = self.holders.iter().find(|(_, held)| held.0 == *lease);
                if let Some(task) = task.map(|(task, _)| *task) {
                    self.lay_down(task);
                }
            }
            Command::Welcome { agent, drop, .. } => {
                let Event::AgentJoined { hello, .. } = event else { return };
                for held in &hello.holding {
                    let before = self.holders.get(&held.task).copied();
                    if drop.contains(&held.lease) {
                        if before == Some((held.lease, *agent)) {
                            self.lay_down(held.task);
                        }
                        continue;
                    }
                    // Of two leases of its own on one task it keeps the first that it names.
                    let free = before.is_none_or(|(_, holder)| holder == *agent);
                    self.demand(free, || {
                        format!("{} was adopted for {agent}, and {before:?} has it", held.task)
                    });
                    self.holders.insert(held.task, (held.lease, *agent));
                }
            }
            _ => {}
        }
    }

    fn assigned(&mut self, core: &Core, agent: AgentId, assignment: &Assignment) {
        let Assignment { task, lease, device, .. } = *assignment;
        let before = self.holders.insert(task, (lease, agent));
        self.demand(before.is_none(), || {
            format!("{task} is under the lease {lease} and under {before:?}")
        });
        let again = self.completed.contains(&task);
        self.demand(!again, || format!("{task} is completed, and rendered again"));
        let paused = core.state().jobs.get(&task.job).is_none_or(|job| job.phase == Phase::Paused);
        self.demand(!paused, || format!("{task} was assigned while its job is paused"));
        let duty = core.agents().get(&agent).map(|agent| agent.duty);
        self.demand(duty == Some(Duty::On), || {
            format!("{task} was assigned to one who is {duty:?}")
        });
        self.memory_is_there(core, agent, device);
    }

    /// What was set aside on a device is there, unless only one has it; and no device has more
    /// tasks than it asked for.
    fn memory_is_there(&mut self, core: &Core, agent: AgentId, device: u16) {
        let Some(figures) = self.devices.get(&(agent, device)).copied() else {
            return self
                .object(format!("{agent} has no device {device}, and was given a task for it"));
        };
        let held: Vec<Option<u64>> = held_on(core, agent, device).collect();
        let figures = if held.len() <= 1 { Figures { changed: false, ..figures } } else { figures };
        self.devices.insert((agent, device), figures);
        if figures.changed {
            return;
        }
        // Those that wait for memory let smaller ones pass.
        let most = figures.slots * (2 + figures.ahead);
        self.demand(held.len() as u64 <= most, || {
            format!("device {device} of {agent} has {} tasks and wants {most}", held.len())
        });
        if figures.ahead > 0 || held.len() <= 1 {
            return;
        }
        let share_mib = figures.free_mib / figures.slots.max(1);
        let taken_mib: u64 = held.iter().map(|need| need.unwrap_or(share_mib)).sum();
        self.demand(taken_mib <= figures.free_mib, || {
            format!(
                "device {device} of {agent} has {} MiB, and {taken_mib} were set aside",
                figures.free_mib
            )
        });
    }

    /// The core's leases are those of the model.
    fn leases_agree(&mut self, core: &Core) {
        let theirs = core.leases().iter().filter(|(_, lease)| lease.hold != Hold::Revoked);
        let mut count = 0;
        let mut wrong = None;
        for (id, lease) in theirs {
            count += 1;
            if self.holders.get(&lease.task) != Some(&(id, lease.agent)) {
                wrong = Some((id, lease.task));
            }
        }
        let should = self.holders.len();
        self.demand(wrong.is_none() && count == should, || {
            format!("{count} leases may commit, {should} should; {wrong:?} should not")
        });
    }

    /// A fact is in the journal.
    pub(super) fn durable(&mut self, recorded: &Recorded) {
        match &recorded.fact {
            Fact::OutputStored { task, output } => {
                let of_job = self.outputs.entry(task.job).or_default();
                let before = of_job.insert(output.name.clone(), output.blob.hash);
                self.demand(before.is_none(), || {
                    format!("{} of job {} was committed twice", output.name, task.job)
                });
            }
            Fact::TaskCompleted { task, .. } => {
                let new = self.completed.insert(*task);
                self.demand(new, || format!("{task} was completed twice"));
            }
            Fact::ApiTokenCreated { token, name, .. } => {
                self.made.insert(*token, name.clone());
            }
            Fact::ApiTokenRevoked(name) => {
                let so_called = self.made.iter().filter(|(_, other)| *other == name);
                self.revoked.extend(so_called.map(|(token, _)| *token));
                self.names_revoked.insert(name.clone());
            }
            Fact::AttemptFailed { task, .. } => {
                let Some(at) = self.ending.iter().position(|(_, ended)| ended == task) else {
                    return;
                };
                let (lease, _) = self.ending.remove(at);
                let new = self.counted.insert(lease);
                self.demand(new, || {
                    format!("the failure of one attempt at {task}, {lease}, was counted twice")
                });
            }
            _ => {}
        }
    }

    /// An assignment has left.
    pub(super) fn sent(&mut self, assignment: &Assignment) {
        let before = self.sent.insert(assignment.lease, assignment.task);
        self.demand(before.is_none(), || {
            format!("the lease {} was given twice: it is also {before:?}'s", assignment.lease)
        });
    }

    /// Somebody got an answer, so it must be true for ever.
    pub(super) fn answered(&mut self, ask: &Ask, answer: &Answer, durable: &State) {
        match (ask, answer) {
            (Ask::Submission(at), Answer::Submitted(job)) => {
                let first = *self.keys.entry(*at).or_insert(*job);
                self.demand(first == *job, || {
                    format!("a submission with a key became job {first} and job {job}")
                });
                self.jobs.insert(*job);
                self.jobs_exist(durable);
            }
            (Ask::Anonymous, Answer::Submitted(job)) => {
                self.jobs.insert(*job);
                self.jobs_exist(durable);
            }
            (Ask::Enrol(token, agent), Answer::Enrolled(_)) => {
                let twice = self.enrolled.values().any(|used| used == token);
                self.demand(!twice, || "a join token was good for two".into());
                self.enrolled.insert(*agent, *token);
                let known = durable.identities.contains_key(agent);
                self.demand(known, || format!("{agent} was enrolled, and nobody knows"));
            }
            (Ask::CreateApiToken(token, name), Answer::Done) => {
                let made = self.made.contains_key(token);
                self.demand(made, || format!("token {} was made, it was said", name.as_str()));
            }
            (Ask::RevokeApiToken(name), Answer::Done) => {
                let revoked = self.names_revoked.contains(name);
                self.demand(revoked, || {
                    format!("token {} was revoked, it was said", name.as_str())
                });
                self.none_is_good_again(durable);
            }
            (Ask::Output { lease, output, .. }, Answer::Committed) => {
                let task = self.sent.get(lease).copied();
                let job = task.and_then(|task| self.outputs.get(&task.job));
                let known = job.is_some_and(|names| names.contains_key(&output.name));
                self.demand(known, || format!("{} was called committed, and is not", output.name));
            }
            _ => {}
        }
    }

    fn tasks_of(&self, agent: AgentId) -> Vec<TaskRef> {
        let held = self.holders.iter().filter(|(_, (_, holder))| *holder == agent);
        held.map(|(task, _)| *task).collect()
    }

    fn lay_down(&mut self, task: TaskRef) {
        if let Some((lease, agent)) = self.holders.remove(&task) {
            self.bury(lease, task, agent);
        }
    }

    fn bury(&mut self, lease: LeaseId, task: TaskRef, agent: AgentId) {
        if self.dead.len() == DEAD_KEPT {
            self.dead.remove(0);
        }
        self.dead.push((lease, task, agent));
    }

    pub(super) fn some_lease(&self, random: &mut Random) -> Option<(LeaseId, TaskRef, AgentId)> {
        let at = random.index(self.holders.len().max(1));
        self.holders.iter().nth(at).map(|(task, (lease, agent))| (*lease, *task, *agent))
    }

    pub(super) fn some_dead_lease(
        &self,
        random: &mut Random,
    ) -> Option<(LeaseId, TaskRef, AgentId)> {
        let at = random.index(self.dead.len().max(1));
        self.dead.get(at).copied()
    }

    /// A name that is committed.
    pub(super) fn some_name(&self, job: JobId, which: u8) -> Option<OutputName> {
        let names = self.outputs.get(&job)?;
        names.keys().nth(usize::from(which) % names.len().max(1)).cloned()
    }
}

/// What was set aside for each lease of a device, in MiB; `None`: nobody knows.
fn held_on(core: &Core, agent: AgentId, device: u16) -> impl Iterator<Item = Option<u64>> {
    let on_it = core.leases().iter().map(|(_, lease)| lease);
    on_it
        .filter(move |lease| lease.agent == agent && lease.device == device)
        .map(|lease| lease.need.map(|need| u64::from(need.device_mib)))
}
