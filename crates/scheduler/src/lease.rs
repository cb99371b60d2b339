//! Who may commit what: volatile, and re-told by agents after a restart.

use std::collections::BTreeMap;
use std::ops::Range;

use grange_protocol::footprint::Memory;
use grange_protocol::{AgentId, LeaseId, Millis, TaskRef};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub task: TaskRef,
    pub agent: AgentId,
    /// Index into the agent's devices.
    pub device: u16,
    pub since: Millis,
    /// Memory that an instance for it needs, as far as anybody knows.
    pub need: Option<Memory>,
    pub hold: Hold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The agent may commit.
    Held,
    /// It still may; and it was asked to give the task back if it has not begun.
    Recalled,
    /// It may not. The lease only says that its slot is not free yet.
    Revoked,
}

/// All leases, by lease and by task.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    by_id: BTreeMap<LeaseId, Lease>,
    by_task: BTreeMap<TaskRef, LeaseId>,
}

impl Leases {
    pub fn get(&self, lease: LeaseId) -> Option<&Lease> {
        self.by_id.get(&lease)
    }

    /// The lease that may commit the task's outputs.
    pub fn of_task(&self, task: TaskRef) -> Option<(LeaseId, &Lease)> {
        let id = *self.by_task.get(&task)?;
        Some((id, self.by_id.get(&id)?))
    }

    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.by_id.iter().map(|(id, lease)| (*id, lease))
    }

    /// Leases that may commit outputs of the job, in the order of its tasks.
    pub fn of_job(&self, job: grange_protocol::JobId) -> impl Iterator<Item = (LeaseId, TaskRef)> {
        let first = TaskRef {
            job,
            step: grange_protocol::StepIndex(0),
            task: grange_protocol::TaskIndex(0),
        };
        self.by_task
            .range(first..)
            .take_while(move |(task, _)| task.job == job)
            .map(|(task, lease)| (*lease, *task))
    }

    /// Which of these tasks are held, in their order.
    pub(crate) fn of_tasks(&self, tasks: Range<TaskRef>) -> impl Iterator<Item = TaskRef> {
        self.by_task.range(tasks).map(|(task, _)| *task)
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn insert(&mut self, id: LeaseId, lease: Lease) {
        self.by_task.insert(lease.task, id);
        self.by_id.insert(id, lease);
    }

    pub(crate) fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.by_id.remove(&id)?;
        if self.by_task.get(&lease.task) == Some(&id) {
            self.by_task.remove(&lease.task);
        }
        Some(lease)
    }

    pub(crate) fn recall(&mut self, id: LeaseId) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.hold = Hold::Recalled;
        }
    }

    /// The task is free for another lease; this one only keeps its slot.
    pub(crate) fn revoke(&mut self, id: LeaseId) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.hold = Hold::Revoked;
            if self.by_task.get(&lease.task) == Some(&id) {
                self.by_task.remove(&lease.task);
            }
        }
    }
}
