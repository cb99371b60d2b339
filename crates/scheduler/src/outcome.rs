//! What becomes of tasks and jobs: agents come and go, attempts end, outputs are committed.

use grange_protocol::agent::{AgentHello, Completed, Failure, FailureKind, Outcome};
use grange_protocol::client::Role;
use grange_protocol::file::Output;
use grange_protocol::footprint::Memory;
use grange_protocol::{AgentId, JobId, LeaseId, Refusal, RefusalCode, StepIndex, TaskRef};

use crate::agent::{Agent, Connection, Lack};
use crate::command::{Answer, Command};
use crate::core::Core;
use crate::fact::Fact;
use crate::job::Job;
use crate::lease::{Hold, Lease};
use crate::live::Live;
use crate::tasks::Mark;

/// However few tasks a job has, so many may fail before the rest is given up.
const FAILED_TASKS_TOLERATED: u64 = 2;

impl Core {
    pub(crate) fn agent_joined(&mut self, id: AgentId, hello: AgentHello) {
        if self.standing(id).is_removed {
            // It was removed while it was being let in.
            self.command(Command::Dismiss { agent: id });
            return;
        }
        if let Connection::Lost { expires_at } = self.connection_of(id) {
            self.expiries.remove(&(expires_at, id));
        }
        let before: Vec<LeaseId> =
            self.agents.get(&id).map_or(Vec::new(), |old| old.held().collect());
        let kept: Vec<(LeaseId, Lease)> = before
            .iter()
            .filter_map(|lease| Some((*lease, *self.leases.get(*lease)?)))
            .filter(|(lease, _)| hello.holding.iter().any(|held| held.lease == *lease))
            .collect();
        for lease in &before {
            self.release(*lease);
        }
        let holding = hello.holding.clone();
        if let Some(old) = self.agents.insert(id, Agent::new(hello)) {
            self.unfile(id, &old.filed);
        }
        self.file(id);
        let mut drop = Vec::new();
        for held in holding {
            let device = held.device;
            let known =
                kept.iter().find(|(lease, _)| *lease == held.lease).map(|(_, lease)| *lease);
            let good = match known {
                Some(lease) => lease.hold != Hold::Revoked && lease.task == held.task,
                None => self.leases.get(held.lease).is_none(),
            };
            if good && self.has_device(id, device) && self.may_adopt(held.lease, held.task) {
                let since = known.map_or(self.now, |lease| lease.since);
                let need = self.need_on(id, device, held.task);
                let hold = Hold::Held;
                let lease = Lease { task: held.task, agent: id, device, since, need, hold };
                self.hold(held.lease, lease);
            } else {
                drop.push(held.lease);
            }
        }
        self.command(Command::Welcome { agent: id, epoch: self.state.epoch, drop });
        self.take_standing(id);
        if self.settles_at > self.now && self.has_heard_of_all(id) {
            self.settles_at = self.now;
            self.live.values_mut().for_each(|live| live.settled_at = live.settled_at.min(self.now));
        }
        let open: Vec<JobId> = self.live.keys().copied().collect();
        for job in open {
            self.settle_job(job);
            self.job_changed(job);
        }
    }

    /// Whether there is nobody left who could say that they hold a task.
    fn has_heard_of_all(&self, newcomer: AgentId) -> bool {
        let members = &self.state.identities;
        members.contains_key(&newcomer)
            && members.iter().all(|(id, identity)| {
                identity.role != Role::Agent
                    || self.is_removed(*id)
                    || self.agents.get(id).is_some_and(Agent::is_connected)
            })
    }

    fn has_device(&self, agent: AgentId, device: u16) -> bool {
        self.agents
            .get(&agent)
            .is_some_and(|agent| agent.devices.get(usize::from(device)).is_some())
    }

    fn need_on(&self, agent: AgentId, device: u16, task: TaskRef) -> Option<Memory> {
        let device = self.agents.get(&agent)?.devices.get(usize::from(device))?;
        self.estimate(self.job(task.job)?, task, device.kind).need()
    }

    /// Whether an agent that says it works on the task may go on.
    fn may_adopt(&self, lease: LeaseId, task: TaskRef) -> bool {
        self.job(task.job).is_some_and(|job| {
            !job.phase.is_final()
                && !job.spent.contains(&lease)
                && job.step(task.step).is_some_and(|step| step.skipped.is_none())
                && job.mark(task) == Some(Mark::Open)
                && self.leases.of_task(task).is_none()
        })
    }

    pub(crate) fn agent_gone(&mut self, id: AgentId) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        if agent.held().next().is_none() {
            agent.connection = Connection::Offline;
        } else if !matches!(agent.connection, Connection::Lost { .. }) {
            let expires_at = self.now + self.timing.agent_grace_ms;
            agent.connection = Connection::Lost { expires_at };
            self.expiries.insert((expires_at, id));
        }
        self.file(id);
        self.agent_changed(id);
    }

    /// Ends the leases of agents that have been gone for too long.
    pub(crate) fn expire(&mut self) {
        while let Some((at, id)) = self.expiries.first().copied()
            && at <= self.now
        {
            self.expiries.remove(&(at, id));
            let Some(agent) = self.agents.get_mut(&id) else { continue };
            if agent.connection != (Connection::Lost { expires_at: at }) {
                continue;
            }
            agent.connection = Connection::Offline;
            let held: Vec<LeaseId> = agent.held().collect();
            for lease in held {
                self.release(lease);
            }
            self.file(id);
            self.agent_changed(id);
        }
    }

    pub(crate) fn agent_draining(&mut self, id: AgentId) {
        if let Some(agent) = self.agents.get_mut(&id)
            && agent.connection == Connection::Online
        {
            agent.connection = Connection::Draining;
        }
        self.file(id);
        self.agent_changed(id);
    }

    pub(crate) fn returned(&mut self, agent: AgentId, leases: &[LeaseId]) {
        for lease in leases {
            if self.leases.get(*lease).is_some_and(|held| held.agent == agent) {
                self.release(*lease);
            }
        }
    }

    pub(crate) fn ended(
        &mut self,
        agent: AgentId,
        lease: LeaseId,
        task: TaskRef,
        outcome: Outcome,
    ) {
        let held = self.leases.get(lease).copied();
        if let Some(held) = held.filter(|held| held.agent == agent && held.task == task) {
            if held.hold == Hold::Revoked {
                self.release(lease);
            } else {
                self.attempt_ended(agent, lease, task, outcome);
            }
        }
        self.command(Command::Settle { agent, lease });
    }

    fn attempt_ended(&mut self, agent: AgentId, lease: LeaseId, task: TaskRef, outcome: Outcome) {
        match outcome {
            Outcome::Completed(cost) => match self.missing_outputs(task, cost) {
                None => self.record(Fact::TaskCompleted { task, agent, cost }),
                Some(failure) => self.attempt_failed(agent, lease, task, failure),
            },
            Outcome::Failed(failure) => {
                if failure.kind == FailureKind::OutOfMemory {
                    self.learn_that_memory_ran_out(lease);
                }
                self.attempt_failed(agent, lease, task, failure);
            }
            Outcome::Canceled => {}
        }
        self.release(lease);
        self.settle_job(task.job);
    }

    /// A failure if fewer outputs are committed than the agent says.
    fn missing_outputs(&self, task: TaskRef, cost: Completed) -> Option<Failure> {
        let committed = self.job(task.job).map_or(0, |job| job.partial_outputs(task).len());
        (committed < cost.outputs as usize).then(|| {
            Failure::new(
                FailureKind::Output,
                format!("{committed} outputs were committed of {}", cost.outputs),
            )
        })
    }

    fn attempt_failed(&mut self, agent: AgentId, lease: LeaseId, task: TaskRef, failure: Failure) {
        let Failure { kind, reason } = failure;
        self.record(Fact::AttemptFailed { task, agent, kind, reason });
        self.record(Fact::LeaseSpent { task, lease });
        let Some(job) = self.job(task.job) else { return };
        let counted = job.failures(task).iter().filter(|failure| failure.counts()).count();
        let spent = counted >= usize::from(job.spec.policy.attempts_max);
        let hopeless = kind == FailureKind::Scene;
        let limit = usize::from(job.spec.policy.agent_failures_max);
        let block = job.failed_on.get(&agent).is_some_and(|tasks| tasks.len() >= limit)
            && !job.blocked.contains(&agent)
            && self.others_can_do_all_that_it_can(agent, task.job, job);
        if block {
            self.record(Fact::AgentBlocked { job: task.job, agent });
        }
        if spent || hopeless {
            self.record(Fact::TaskFailed(task));
        }
    }

    /// Whether nothing of what is left of the job needs this agent.
    fn others_can_do_all_that_it_can(&self, agent: AgentId, id: JobId, job: &Job) -> bool {
        let Some(one) = self.agents.get(&agent) else { return true };
        let could_do = |step: &StepIndex| {
            let is_left = job.step(*step).is_some_and(|step| step.tasks.open() > 0);
            is_left && job.spec.step(*step).is_some_and(|step| one.fits(&step.work))
        };
        job.step_indices().filter(could_do).all(|step| {
            self.online().any(|(other, _)| *other != agent && self.may_take(*other, id, job, step))
        })
    }

    /// Draws the consequences for a job: optional steps that cannot be done, too many failures,
    /// nothing left to do.
    pub(crate) fn settle_job(&mut self, id: JobId) {
        let Some(job) = self.job(id) else { return };
        if job.phase.is_final() {
            return;
        }
        let skips: Vec<(StepIndex, String)> = job
            .step_indices()
            .filter_map(|step| Some((step, self.reason_to_skip(id, job, step)?)))
            .collect();
        for (step, reason) in skips {
            self.record(Fact::StepSkipped { job: id, step, reason });
            self.job_changed(id);
        }
        self.rank(id);
        if let Some(reason) = self.reason_to_fail(id) {
            self.record(Fact::JobFailed { job: id, reason });
            self.close_job(id);
        } else if self.is_done(id) {
            self.record(Fact::JobCompleted(id));
            self.close_job(id);
        }
    }

    fn reason_to_skip(&self, id: JobId, job: &Job, index: StepIndex) -> Option<String> {
        let (spec, step) = (job.spec.step(index)?, job.step(index)?);
        if !spec.optional || step.skipped.is_some() {
            return None;
        }
        if step.tasks.failed() > 0 {
            let task = Self::task_ref(id, index, step.tasks.failed_tasks().next()?);
            return Some(
                job.failures(task).last().map_or("it failed".into(), |f| f.reason.clone()),
            );
        }
        if step.tasks.open() == 0 {
            return None;
        }
        let fails_before = spec.after.iter().any(|after| {
            job.step(*after).is_some_and(|step| step.tasks.failed() > 0 && step.tasks.open() == 0)
        });
        if fails_before {
            return Some("tasks that it builds on have failed".into());
        }
        let nobody = self.online().next().is_some()
            && !self.online().any(|(_, agent)| agent.fits(&spec.work));
        (job.is_unlocked(index) && nobody && self.running(id, index) == 0)
            .then(|| Lack::of(&spec.work, self.online().map(|(_, agent)| agent)).to_string())
    }

    /// Why the job has failed, if it has: too many tasks failed, or some did and nothing is left.
    fn reason_to_fail(&self, id: JobId) -> Option<String> {
        let job = self.job(id)?;
        let required = || {
            job.step_indices()
                .filter(|step| job.spec.step(*step).is_some_and(|spec| !spec.optional))
        };
        let sum = |count: fn(&crate::TaskTable) -> u32| -> u64 {
            required()
                .filter_map(|step| job.step(step))
                .map(|step| u64::from(count(&step.tasks)))
                .sum()
        };
        let (total, failed) = (sum(crate::TaskTable::len), sum(crate::TaskTable::failed));
        if failed == 0 {
            return None;
        }
        let percent = u64::from(job.spec.policy.failed_tasks_max_percent);
        let tolerated = (total * percent / 100).max(FAILED_TASKS_TOLERATED);
        if failed <= tolerated && !self.is_exhausted(id) {
            return None;
        }
        let first = required().find_map(|index| {
            let task = Self::task_ref(id, index, job.step(index)?.tasks.failed_tasks().next()?);
            let label = job.spec.step(index)?.work.label(task.task);
            let reason = job.failures(task).last()?.reason.clone();
            Some(format!(" ({label}: {reason})"))
        });
        let tasks = if total == 1 { "task" } else { "tasks" };
        Some(format!("{failed} of {total} {tasks} failed{}", first.unwrap_or_default()))
    }

    /// Nothing runs, and nothing is ready or will be.
    fn is_exhausted(&self, id: JobId) -> bool {
        self.live
            .get(&id)
            .zip(self.job(id))
            .is_some_and(|(live, job): (&Live, &Job)| live.running() == 0 && !live.has_ready(job))
    }

    fn is_done(&self, id: JobId) -> bool {
        self.job(id).is_some_and(|job| {
            job.steps.iter().all(|step| step.skipped.is_some() || step.tasks.open() == 0)
        })
    }

    pub(crate) fn commit_output(
        &mut self,
        agent: AgentId,
        lease: LeaseId,
        task: TaskRef,
        output: Output,
    ) -> Answer {
        if self.role_of(agent).is_some_and(|role| role != Role::Agent) {
            let message = "only agents commit outputs";
            return Answer::Refused(Refusal::new(RefusalCode::Forbidden, message));
        }
        if let Err(refusal) = self.check_lease(agent, lease, task) {
            return Answer::Refused(refusal);
        }
        let Some(job) = self.job(task.job) else {
            return Answer::Refused(Refusal::new(RefusalCode::NotFound, "the job is gone"));
        };
        // The first committed version stays: an attempt after a lost one may bring other bytes of
        // the same picture, and watchers may have fetched the first already.
        if job.partial_outputs(task).iter().any(|stored| stored.name == output.name) {
            return Answer::Committed;
        }
        if job.has_output(&output.name) {
            return Answer::Refused(Refusal::new(
                RefusalCode::NameTaken,
                format!(
                    "`{}` was written by another task of job {} already: give each its own name",
                    output.name, task.job
                ),
            ));
        }
        if job.partial_outputs(task).len() >= grange_protocol::limits::OUTPUTS_PER_TASK_MAX as usize
        {
            let message = format!("task {task} writes too many files");
            return Answer::Refused(Refusal::new(RefusalCode::Invalid, message));
        }
        self.record(Fact::OutputStored { task, output });
        self.job_changed(task.job);
        Answer::Committed
    }
}
