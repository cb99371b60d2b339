//! The volatile side of an open job: what runs, and which task comes next.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use grange_protocol::{AgentId, JobId, Millis, Priority, StepIndex};

use crate::job::{Job, Phase};

/// The order in which jobs are served: highest priority, then fewest running tasks (fair share),
/// then the one that has waited longest for a task of its own to be assigned.
pub(crate) type Rank = (Reverse<Priority>, u32, u64, JobId);

#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) steps: Vec<LiveStep>,
    /// Its place among the jobs that have ready tasks.
    pub(crate) rank: Option<Rank>,
    /// Nothing is dispatched before: agents may still say that they hold its tasks.
    pub(crate) settled_at: Millis,
    /// The number of its latest lease.
    pub(crate) served: u64,
    /// Since when it is among the next to be served and has nothing running.
    pub(crate) starving_since: Option<Millis>,
    /// The device that is kept free for it.
    pub(crate) saved_at: Option<(AgentId, usize)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct LiveStep {
    /// Tasks under a lease that may commit.
    pub(crate) running: u32,
    /// Every task before it is closed, running or returned.
    cursor: u32,
    /// Tasks before the cursor that are ready again.
    returned: BTreeSet<u32>,
}

impl Live {
    pub(crate) fn new(job: &Job, settled_at: Millis) -> Self {
        let steps = job.steps.iter().map(|_| LiveStep::default()).collect();
        Self { steps, rank: None, settled_at, served: 0, starving_since: None, saved_at: None }
    }

    pub(crate) fn running(&self) -> u32 {
        self.steps.iter().map(|step| step.running).sum()
    }

    pub(crate) fn step(&self, index: StepIndex) -> &LiveStep {
        &self.steps[usize::from(index.0)]
    }

    pub(crate) fn step_mut(&mut self, index: StepIndex) -> &mut LiveStep {
        &mut self.steps[usize::from(index.0)]
    }

    /// Tasks of a step that could be assigned now.
    pub(crate) fn ready(&self, job: &Job, index: StepIndex) -> u32 {
        let Some(step) = job.step(index) else { return 0 };
        let idle = step.tasks.open().saturating_sub(self.step(index).running);
        if idle == 0 || step.skipped.is_some() || !job.is_unlocked(index) { 0 } else { idle }
    }

    pub(crate) fn has_ready(&self, job: &Job) -> bool {
        job.step_indices().any(|step| self.ready(job, step) > 0)
    }

    /// The rank that the job should have; `None` if it has nothing to assign.
    pub(crate) fn rank_of(&self, id: JobId, job: &Job) -> Option<Rank> {
        (job.phase == Phase::Open && self.has_ready(job))
            .then(|| (Reverse(job.priority()), self.running(), self.served, id))
    }
}

impl LiveStep {
    /// The next ready task that `acceptable` takes. Tasks that came back go first.
    pub(crate) fn next(
        &self,
        tasks: &crate::TaskTable,
        is_running: impl Fn(u32) -> bool,
        acceptable: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        if let Some(task) = self.returned.iter().copied().find(|task| acceptable(*task)) {
            return Some(task);
        }
        let mut from = self.cursor;
        loop {
            let task = tasks.next_open(from)?;
            if !is_running(task) {
                return Some(task);
            }
            from = task + 1;
        }
    }

    /// [`LiveStep::next`] named this task and it was taken: all before it is accounted for.
    pub(crate) fn pass(&mut self, task: u32) {
        self.cursor = self.cursor.max(task + 1);
    }

    /// Any task may be open again: look at all of them anew.
    pub(crate) fn rewind(&mut self) {
        self.cursor = 0;
        self.returned.clear();
    }

    /// The task is under a lease.
    pub(crate) fn begin(&mut self, task: u32) {
        self.running += 1;
        self.returned.remove(&task);
    }

    /// The task was closed without having run.
    pub(crate) fn forget(&mut self, task: u32) {
        self.returned.remove(&task);
    }

    /// The task runs no more. If it is `open` it is ready again.
    pub(crate) fn end(&mut self, task: u32, open: bool) {
        self.running = self.running.saturating_sub(1);
        if open && task < self.cursor {
            self.returned.insert(task);
        }
    }
}
