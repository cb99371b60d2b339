//! What is remembered of a job.

use std::collections::{BTreeMap, BTreeSet};

use grange_protocol::agent::{Completed, FailureKind};
use grange_protocol::file::Output;
use grange_protocol::shot::Label;
use grange_protocol::view::TaskCounts;
use grange_protocol::{
    AgentId, JobSpec, LeaseId, Millis, OutputName, Priority, StepIndex, TaskRef,
};
use serde::{Deserialize, Serialize};

use crate::tasks::{Mark, TaskTable};

/// Failures that are remembered per task, the latest ones.
const FAILURES_KEPT: usize = 8;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub spec: JobSpec,
    pub submitter: Label,
    pub submitted_at: Millis,
    pub phase: Phase,
    pub steps: Vec<Step>,
    /// Agents that get no more of it.
    pub blocked: BTreeSet<AgentId>,
    /// Committed outputs, and their bytes.
    pub outputs: u64,
    pub output_bytes: u64,
    pub cost: Cost,
    /// Frames of all tasks, and of completed ones.
    pub frames_total: u64,
    pub frames_done: u64,
    /// For every agent, the tasks that failed on it.
    pub(crate) failed_on: BTreeMap<AgentId, BTreeSet<(StepIndex, u32)>>,
    /// Outputs of tasks that are not completed yet.
    pub(crate) partial: BTreeMap<(StepIndex, u32), Vec<Output>>,
    /// Hashes of all committed names: a name is committed once.
    pub(crate) names: BTreeSet<u64>,
    /// Leases of failed attempts, until the job is completed.
    pub(crate) spent: BTreeSet<LeaseId>,
}

/// What a job is in, durably. Queued and active are one: they differ in what runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    Open,
    Paused,
    Completed { at: Millis },
    Canceled { at: Millis },
    Failed { at: Millis, reason: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub tasks: TaskTable,
    /// Why the step was left out, if it was.
    pub skipped: Option<String>,
    pub(crate) failures: BTreeMap<u32, Vec<AttemptFailure>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptFailure {
    pub agent: AgentId,
    pub kind: FailureKind,
    pub reason: String,
    pub at: Millis,
}

impl AttemptFailure {
    /// Whether it says something about the task or the agent. Want of memory only says where not
    /// to put it.
    pub fn counts(&self) -> bool {
        self.kind != FailureKind::OutOfMemory
    }
}

/// What completed attempts took together, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    pub total_ms: u64,
    pub render_ms: u64,
    pub load_ms: u64,
}

impl Cost {
    fn add(&mut self, attempt: Completed) {
        self.total_ms += u64::from(attempt.total_ms);
        self.render_ms += u64::from(attempt.render_ms);
        self.load_ms += u64::from(attempt.load_ms);
    }
}

impl Phase {
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Open | Self::Paused)
    }
}

impl Job {
    pub(crate) fn new(spec: JobSpec, submitter: Label, submitted_at: Millis) -> Self {
        let steps = spec
            .steps
            .iter()
            .map(|step| Step {
                tasks: TaskTable::new(u32::try_from(step.work.task_count()).unwrap_or(u32::MAX)),
                skipped: None,
                failures: BTreeMap::new(),
            })
            .collect();
        let frames_total = spec.steps.iter().map(|step| step.work.frames()).sum();
        Self {
            spec,
            submitter,
            submitted_at,
            phase: Phase::Open,
            steps,
            blocked: BTreeSet::new(),
            outputs: 0,
            output_bytes: 0,
            cost: Cost::default(),
            frames_total,
            frames_done: 0,
            failed_on: BTreeMap::new(),
            partial: BTreeMap::new(),
            names: BTreeSet::new(),
            spent: BTreeSet::new(),
        }
    }

    pub fn priority(&self) -> Priority {
        self.spec.priority
    }

    pub fn step(&self, index: StepIndex) -> Option<&Step> {
        self.steps.get(usize::from(index.0))
    }

    pub(crate) fn step_mut(&mut self, index: StepIndex) -> Option<&mut Step> {
        self.steps.get_mut(usize::from(index.0))
    }

    /// `None` for a task that the job does not have.
    pub fn mark(&self, task: TaskRef) -> Option<Mark> {
        self.step(task.step)?.tasks.get(task.task.0)
    }

    pub fn step_indices(&self) -> impl Iterator<Item = StepIndex> + use<> {
        (0..self.steps.len() as u16).map(StepIndex)
    }

    /// Whether all that a step waits for is there.
    pub fn is_unlocked(&self, index: StepIndex) -> bool {
        self.spec.step(index).is_some_and(|spec| {
            spec.after.iter().all(|after| {
                self.step(*after).is_some_and(|step| {
                    step.skipped.is_some() || step.tasks.completed() == step.tasks.len()
                })
            })
        })
    }

    /// The failed attempts of a task, oldest first.
    pub fn failures(&self, task: TaskRef) -> &[AttemptFailure] {
        self.step(task.step)
            .and_then(|step| step.failures.get(&task.task.0))
            .map_or(&[], Vec::as_slice)
    }

    /// Every task with failed attempts.
    pub fn tasks_with_failures(&self) -> impl Iterator<Item = (StepIndex, u32)> + '_ {
        self.step_indices()
            .zip(&self.steps)
            .flat_map(|(index, step)| step.failures.keys().map(move |task| (index, *task)))
    }

    /// What the task has committed so far; empty once it is completed.
    pub fn partial_outputs(&self, task: TaskRef) -> &[Output] {
        self.partial.get(&(task.step, task.task.0)).map_or(&[], Vec::as_slice)
    }

    pub fn has_output(&self, name: &OutputName) -> bool {
        self.names.contains(&name_key(name))
    }

    /// Counts of a step's tasks; `running` is not remembered, so it comes from outside.
    pub fn counts(&self, index: StepIndex, running: u32) -> TaskCounts {
        let Some(step) = self.step(index) else {
            return TaskCounts::default();
        };
        let idle = u64::from(step.tasks.open().saturating_sub(running));
        let mut counts = TaskCounts {
            total: step.tasks.len().into(),
            running: running.into(),
            completed: step.tasks.completed().into(),
            failed: step.tasks.failed().into(),
            ..TaskCounts::default()
        };
        if self.phase.is_final() || step.skipped.is_some() {
            counts.canceled = idle;
        } else if self.is_unlocked(index) {
            counts.ready = idle;
        } else {
            counts.waiting = idle;
        }
        counts
    }

    pub(crate) fn record_completion(&mut self, task: TaskRef, cost: Completed) {
        self.cost.add(cost);
        let step = self.spec.step(task.step);
        self.frames_done += step.map_or(0, |step| u64::from(step.work.frames_of(task.task)));
    }

    pub(crate) fn record_output(&mut self, task: TaskRef, output: &Output) {
        self.names.insert(name_key(&output.name));
        self.outputs += 1;
        self.output_bytes += output.blob.len;
        self.partial.entry((task.step, task.task.0)).or_default().push(output.clone());
    }

    /// An attempt that ran out of memory counts neither against the task nor against the agent; of
    /// those only the last is remembered.
    pub(crate) fn record_failure(&mut self, task: TaskRef, failure: AttemptFailure) {
        if failure.counts() {
            self.failed_on.entry(failure.agent).or_default().insert((task.step, task.task.0));
        }
        if let Some(step) = self.step_mut(task.step) {
            let kept = step.failures.entry(task.task.0).or_default();
            if !failure.counts() {
                kept.retain(AttemptFailure::counts);
            }
            if kept.len() == FAILURES_KEPT {
                kept.remove(0);
            }
            kept.push(failure);
        }
    }

    pub(crate) fn retry(&mut self) {
        for step in &mut self.steps {
            step.tasks.reopen_failed();
            step.failures.clear();
            step.skipped = None;
        }
        self.blocked.clear();
        self.failed_on.clear();
        self.phase = Phase::Open;
    }
}

fn name_key(name: &OutputName) -> u64 {
    let hash = blake3::hash(name.as_str().as_bytes());
    let mut key = [0; 8];
    key.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(key)
}
