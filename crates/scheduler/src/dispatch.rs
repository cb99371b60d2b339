//! From ready tasks and free slots to leases: assign, recall, revoke, release.

use grange_protocol::agent::Assignment;
use grange_protocol::{AgentId, BlobHash, JobId, LeaseId, Millis, TaskIndex, TaskRef};

use crate::agent::Filed;
use crate::command::Command;
use crate::core::Core;
use crate::device::Held;
use crate::lease::{Hold, Lease};
use crate::placement::{Place, Verdict};
use crate::tasks::Mark;

impl Core {
    /// Assigns until nothing fits any more.
    pub(crate) fn dispatch(&mut self) {
        while let Some(verdict) = self.next_verdict() {
            match verdict {
                Verdict::Place(place) => self.assign(place),
                Verdict::FitsNowhere { task, reason } => self.fits_nowhere(task, reason),
            }
        }
        self.save_for_those_who_starve();
        self.recall_for_idle();
    }

    fn next_verdict(&self) -> Option<Verdict> {
        if self.roomy.is_empty() && self.queueing.is_empty() {
            return None;
        }
        self.ranks.iter().find_map(|(_, _, _, job)| self.place(*job))
    }

    fn assign(&mut self, place: Place) {
        let Place { agent, device, task, need, expected } = place;
        let Some(job) = self.state.jobs.get(&task.job) else { return };
        let Some(work) = job.spec.step(task.step).and_then(|step| step.work.task(task.task)) else {
            return;
        };
        let live = self.live.get(&task.job);
        let ready = live.map_or(0, |live| live.ready(job, task.step));
        let more = ready.saturating_sub(1);
        self.last_lease += 1;
        let lease = LeaseId { epoch: self.state.epoch, number: self.last_lease };
        let assignment = Assignment {
            lease,
            task,
            device: device as u16,
            manifest: job.spec.manifest,
            submitter: job.submitter.clone(),
            stall_s: job.spec.policy.stall_s,
            work,
            expected,
            more,
        };
        if let Some(live) = self.live.get_mut(&task.job) {
            live.step_mut(task.step).pass(task.task.0);
            live.served = self.last_lease;
        }
        let held =
            Lease { task, agent, device: device as u16, since: self.now, need, hold: Hold::Held };
        self.hold(lease, held);
        self.command(Command::Assign { agent, assignment: Box::new(assignment) });
    }

    /// Enters a lease into every book.
    pub(crate) fn hold(&mut self, id: LeaseId, lease: Lease) {
        let scene = self.scene_of(lease.task);
        let now = self.now;
        if let Some(live) = self.live.get_mut(&lease.task.job) {
            live.step_mut(lease.task.step).begin(lease.task.task.0);
        }
        if let Some(agent) = self.agents.get_mut(&lease.agent)
            && let Some(device) = agent.devices.get_mut(usize::from(lease.device))
        {
            if let Some(scene) = scene {
                device.make_way(scene);
            }
            device.hold(Held { lease: id, need: lease.need }, scene, now);
        }
        self.leases.insert(id, lease);
        self.end_saving(lease.task.job);
        self.rank(lease.task.job);
        self.file(lease.agent);
        self.task_changed(lease.task);
        self.agent_changed(lease.agent);
    }

    /// Strikes a lease from every book. Its task is ready again if it is still open and no other
    /// lease has it.
    pub(crate) fn release(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.leases.remove(id)?;
        let scene = self.scene_of(lease.task);
        if let Some(agent) = self.agents.get_mut(&lease.agent)
            && let Some(device) = agent.devices.get_mut(usize::from(lease.device))
        {
            device.release(id, scene);
        }
        if lease.hold != Hold::Revoked {
            self.end_task(lease.task);
        }
        self.file(lease.agent);
        self.agent_changed(lease.agent);
        Some(lease)
    }

    /// Takes the right to commit away. The slot stays taken until the agent says that it stopped.
    pub(crate) fn revoke(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.get(id).copied() else { return };
        if lease.hold == Hold::Revoked {
            return;
        }
        self.leases.revoke(id);
        self.end_task(lease.task);
        self.command(Command::Revoke { agent: lease.agent, lease: id });
    }

    /// The task is under no lease any more.
    fn end_task(&mut self, task: TaskRef) {
        let open = self.job(task.job).and_then(|job| job.mark(task)) == Some(Mark::Open);
        if let Some(live) = self.live.get_mut(&task.job) {
            live.step_mut(task.step).end(task.task.0, open);
        }
        self.rank(task.job);
        self.task_changed(task);
    }

    /// Asks for all tasks of a job that no agent has begun.
    pub(crate) fn recall_job(&mut self, job: JobId) {
        let leases: Vec<LeaseId> = self.leases.of_job(job).map(|(lease, _)| lease).collect();
        for lease in leases {
            self.recall(lease);
        }
    }

    pub(crate) fn recall(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.get(id).copied() else { return };
        if lease.hold == Hold::Held {
            self.leases.recall(id);
            self.command(Command::Recall { agent: lease.agent, lease: id });
        }
    }

    /// Where an agent idles and another has tasks that wait behind running ones, one of those is
    /// asked back, so that the end of a job does not queue on one host.
    fn recall_for_idle(&mut self) {
        let idle = self.idle_agents();
        if idle.is_empty() {
            return;
        }
        let due = Millis(self.now.0.saturating_sub(self.timing.recall_after_ms));
        // Looked for once, not once for every agent: a large farm is idle most of the time.
        let mut waiting: Vec<(LeaseId, Lease)> =
            self.waiting_leases().filter(|(_, lease)| lease.since <= due).collect();
        for agent in idle {
            let taken = waiting.iter().position(|(id, lease)| self.could_take(agent, *id, lease));
            if let Some(at) = taken {
                let (id, _) = waiting.remove(at);
                self.recall(id);
            }
        }
    }

    /// When the next recall is due.
    pub(crate) fn next_recall(&self) -> Option<Millis> {
        let idle = self.idle_agents();
        if idle.is_empty() {
            return None;
        }
        self.waiting_leases()
            .filter(|(id, lease)| idle.iter().any(|agent| self.could_take(*agent, *id, lease)))
            .map(|(_, lease)| lease.since + self.timing.recall_after_ms)
            .filter(|due| *due > self.now)
            .min()
    }

    /// Agents with an idle slot, while no job has a ready task for one.
    fn idle_agents(&self) -> Vec<AgentId> {
        if !self.ranks.is_empty() {
            return Vec::new();
        }
        let mut idle: Vec<AgentId> = self.roomy.iter().map(|(_, _, _, id, _)| *id).collect();
        idle.dedup();
        idle
    }

    fn waiting_leases(&self) -> impl Iterator<Item = (LeaseId, Lease)> + '_ {
        self.agents
            .values()
            .flat_map(|agent| &agent.devices)
            .flat_map(|device| device.waiting())
            .filter_map(|id| Some((id, *self.leases.get(id)?)))
            .filter(|(_, lease)| lease.hold == Hold::Held)
    }

    fn could_take(&self, agent: AgentId, _id: LeaseId, lease: &Lease) -> bool {
        if lease.agent == agent {
            return false;
        }
        let (Some(job), Some(taker)) = (self.job(lease.task.job), self.agents.get(&agent)) else {
            return false;
        };
        !job.blocked.contains(&agent)
            && self.has_tags(taker, lease.task.job)
            && job
                .failures(lease.task)
                .iter()
                .all(|failure| failure.agent != agent || !failure.counts())
            && job.spec.step(lease.task.step).is_some_and(|step| {
                taker.fits(&step.work)
                    && (0..taker.devices.len()).any(|at| {
                        let estimate = self.estimate(job, lease.task, taker.devices[at].kind);
                        taker.suits(at, &step.work) && taker.runs_now(at, &estimate)
                    })
            })
    }

    /// Files an agent anew after anything about it has changed.
    pub(crate) fn file(&mut self, id: AgentId) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        let filing = agent.filing();
        if filing == agent.filed {
            return;
        }
        let old = std::mem::replace(&mut agent.filed, filing.clone());
        self.unfile(id, &old);
        for (at, filed) in (0u16..).zip(&filing) {
            let kind = filed.kind;
            self.roomy.extend(filed.roomy.map(|(load, free_mib)| (kind, load, free_mib, id, at)));
            self.queueing.extend(filed.ahead.map(|load| (kind, load, id, at)));
            self.totals.extend(filed.total.map(|(spared, mib)| (kind, spared, mib, id, at)));
            if let Some((load, free_mib)) = filed.roomy {
                let scenes = filed.scenes.iter();
                self.warm.extend(scenes.map(|scene| (*scene, kind, load, free_mib, id, at)));
            }
        }
    }

    pub(crate) fn unfile(&mut self, id: AgentId, old: &[Filed]) {
        for (at, filed) in (0u16..).zip(old) {
            let kind = filed.kind;
            if let Some((load, free_mib)) = filed.roomy {
                self.roomy.remove(&(kind, load, free_mib, id, at));
                for scene in &filed.scenes {
                    self.warm.remove(&(*scene, kind, load, free_mib, id, at));
                }
            }
            if let Some(load) = filed.ahead {
                self.queueing.remove(&(kind, load, id, at));
            }
            if let Some((spared, mib)) = filed.total {
                self.totals.remove(&(kind, spared, mib, id, at));
            }
        }
    }

    pub(crate) fn scene_of(&self, task: TaskRef) -> Option<BlobHash> {
        let job = self.job(task.job)?;
        job.spec.manifest
    }

    pub(crate) fn task_ref(job: JobId, step: grange_protocol::StepIndex, task: u32) -> TaskRef {
        TaskRef { job, step, task: TaskIndex(task) }
    }
}
