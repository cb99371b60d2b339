//! From ready tasks and free slots to leases: assign, recall, revoke, release.

use grange_protocol::agent::Assignment;
use grange_protocol::{AgentId, BlobHash, JobId, LeaseId, Millis, TaskIndex, TaskRef};

use crate::agent::{Agent, Filed};
use crate::command::Command;
use crate::core::Core;
use crate::lease::{Hold, Lease};
use crate::placement::Place;
use crate::tasks::Mark;

impl Core {
    /// Assigns until nothing fits any more.
    pub(crate) fn dispatch(&mut self) {
        while let Some(place) = self.next_place() {
            self.assign(place);
        }
        self.recall_for_idle();
    }

    fn next_place(&self) -> Option<Place> {
        if self.roomy.is_empty() {
            return None;
        }
        self.ranks.iter().find_map(|(_, _, _, job)| self.place(*job))
    }

    fn assign(&mut self, place: Place) {
        let Place { agent, device, task } = place;
        let Some(job) = self.state.jobs.get(&task.job) else { return };
        let Some(work) = job.spec.step(task.step).and_then(|step| step.work.task(task.task)) else {
            return;
        };
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
            expected: Default::default(),
            more: 0,
        };
        if let Some(live) = self.live.get_mut(&task.job) {
            live.step_mut(task.step).pass(task.task.0);
            live.served = self.last_lease;
        }
        self.hold(
            lease,
            Lease { task, agent, device: device as u16, since: self.now, hold: Hold::Held },
        );
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
            device.hold(id, scene, now);
        }
        self.leases.insert(id, lease);
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

    fn recall(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.get(id).copied() else { return };
        if lease.hold == Hold::Held {
            self.leases.recall(id);
            self.command(Command::Recall { agent: lease.agent, lease: id });
        }
    }

    /// Where an agent idles and another has tasks that wait behind running ones, one of those is
    /// asked back, so that the end of a job does not queue on one host.
    fn recall_for_idle(&mut self) {
        for agent in self.idle_agents() {
            let due = self.now.0.saturating_sub(self.timing.recall_after_ms);
            let waiting = self.waiting_leases().find(|(id, lease)| {
                lease.since <= Millis(due) && self.could_take(agent, *id, lease)
            });
            if let Some((id, _)) = waiting {
                self.recall(id);
            }
        }
    }

    /// When the next recall is due.
    pub(crate) fn next_recall(&self) -> Option<Millis> {
        let idle = self.idle_agents();
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
        let is_idle = |agent: &Agent| agent.devices.iter().any(|device| device.has_idle_slot());
        self.roomy
            .iter()
            .map(|(_, id)| *id)
            .filter(|id| self.agents.get(id).is_some_and(is_idle))
            .collect()
    }

    fn waiting_leases(&self) -> impl Iterator<Item = (LeaseId, Lease)> + '_ {
        self.agents
            .values()
            .flat_map(|agent| &agent.devices)
            .flat_map(|device| device.waiting())
            .filter_map(|id| Some((*id, *self.leases.get(*id)?)))
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
            && job.failures(lease.task).iter().all(|failure| failure.agent != agent)
            && job.spec.step(lease.task.step).is_some_and(|step| {
                taker.fits(&step.work)
                    && taker
                        .device_for(&step.work)
                        .is_some_and(|at| taker.devices[at].has_idle_slot())
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
        self.roomy.extend(filing.load.map(|load| (load, id)));
        self.warm.extend(filing.scenes.into_iter().map(|scene| (scene, id)));
    }

    pub(crate) fn unfile(&mut self, id: AgentId, old: &Filed) {
        if let Some(load) = old.load {
            self.roomy.remove(&(load, id));
        }
        for scene in &old.scenes {
            self.warm.remove(&(*scene, id));
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
