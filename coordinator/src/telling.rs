//! What the farm's loop tells watchers when something has changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use grange_protocol::history::HistoryView;
use grange_protocol::view::{OutputView, TaskState, WatchEvent};
use grange_protocol::{AgentId, JobId, StepIndex, TaskIndex, TaskRef};
use grange_scheduler::Job;

use crate::farm::Farm;
use crate::news::{Audience, News, Notice};

/// Changed tasks of a job that are told one by one at a time. Who hears of more looks at the job.
const TASKS_TOLD_MAX: usize = 2_000;
/// The same beside states that are told as letters: next time others have their turn first.
const TASKS_BESIDE_STATES_MAX: usize = 256;
/// States in between that are told again rather than beginning anew: as many bytes as a beginning.
const SAME_RUN_MAX: u32 = 64;
/// States of one event.
const STATES_TOLD_MAX: usize = 65_536;

/// Jobs, tasks and agents that are not as watchers know them.
#[derive(Default)]
pub(crate) struct Changed {
    pub(crate) jobs: BTreeSet<JobId>,
    pub(crate) tasks: BTreeSet<TaskRef>,
    pub(crate) agents: BTreeSet<AgentId>,
}

/// What those who hear states as letters know of jobs.
#[derive(Default)]
pub(crate) struct StatesTold(HashMap<JobId, JobShape>);

#[derive(Default)]
struct JobShape {
    steps: Vec<StepShape>,
    /// The latest task that was told as it is.
    latest: Option<TaskRef>,
}

/// What all tasks of a step have in common. If that changes, the state of each may.
#[derive(Clone, Copy)]
struct StepShape {
    is_over: bool,
    is_unlocked: bool,
    failed: u32,
}

impl StepShape {
    /// Whether no task has another state than before but those that are known to have changed.
    fn follows(self, before: Self) -> bool {
        self.is_over == before.is_over
            && self.is_unlocked == before.is_unlocked
            && self.failed >= before.failed
    }
}

impl Farm {
    /// The news of what has changed, as far as somebody wants to hear them.
    pub(crate) fn news(&mut self, changed: Changed) -> News {
        let mut news = News::new();
        let agents = changed.agents.into_iter();
        let agents = agents
            .map(|id| self.agent_view(id).map_or(WatchEvent::AgentGone(id), WatchEvent::Agent));
        say(&mut news, Audience::Agents, agents.collect());
        let mut tasks: BTreeMap<JobId, Vec<TaskRef>> = BTreeMap::new();
        for task in changed.tasks {
            tasks.entry(task.job).or_default().push(task);
        }
        self.states_told.0.retain(|job, _| self.watchers.want(Audience::States(*job)));
        for job in &changed.jobs {
            let tasks = tasks.remove(job).unwrap_or_default();
            if self.watchers.want(Audience::Tasks(*job)) {
                news.push(self.tasks_one_by_one(*job, &tasks));
            }
            if self.watchers.want(Audience::States(*job)) {
                let states = self.states_that_changed(*job, &tasks);
                say(&mut news, Audience::States(*job), states);
            }
            if self.watchers.want(Audience::Job(*job)) {
                say(&mut news, Audience::Job(*job), vec![self.job_event(*job)]);
            }
        }
        if !changed.jobs.is_empty() && self.watchers.want(Audience::Farm) {
            let jobs = changed.jobs.iter().map(|job| self.job_event(*job));
            let events = jobs.chain([WatchEvent::Farm(self.farm_view())]).collect();
            say(&mut news, Audience::Farm, events);
        }
        news
    }

    /// Outputs, as soon as they are committed.
    pub(crate) fn news_of_outputs(&self, outputs: Vec<(JobId, OutputView)>) -> News {
        let mut news = News::new();
        let event = |(job, output)| WatchEvent::Output { job, output };
        for of_one in outputs.chunk_by(|(a, _), (b, _)| a == b) {
            if let [(job, _), ..] = of_one
                && self.watchers.want(Audience::JobOutputs(*job))
            {
                let events = of_one.iter().cloned().map(event).collect();
                say(&mut news, Audience::JobOutputs(*job), events);
            }
        }
        if self.watchers.want(Audience::Outputs) {
            say(&mut news, Audience::Outputs, outputs.into_iter().map(event).collect());
        }
        news
    }

    /// More may have changed of a job than its tasks say: it begins anew.
    pub(crate) fn forget_states(&mut self, job: JobId) {
        self.states_told.0.remove(&job);
    }

    /// What happened, which is durable.
    pub(crate) fn news_of_history(&self, happened: &[HistoryView]) -> News {
        let mut news = News::new();
        for event in happened {
            for audience in [Some(Audience::Farm), event.job.map(Audience::Job)] {
                if let Some(audience) = audience.filter(|audience| self.watchers.want(*audience)) {
                    say(&mut news, audience, vec![WatchEvent::Happened(event.clone())]);
                }
            }
        }
        news
    }

    fn job_event(&self, job: JobId) -> WatchEvent {
        self.job_view(job).map_or(WatchEvent::JobGone(job), WatchEvent::Job)
    }

    fn tasks_one_by_one(&self, job: JobId, tasks: &[TaskRef]) -> Notice {
        let told = (tasks.len() <= TASKS_TOLD_MAX).then(|| {
            let tasks = tasks.iter().filter_map(|task| self.task_view(*task));
            let events = tasks.map(|task| WatchEvent::Task { job, task });
            Arc::new(events.collect::<Vec<_>>().into())
        });
        Notice { audience: Audience::Tasks(job), told }
    }

    /// Letters for what has changed, and some of the tasks that run or have failed as they are.
    fn states_that_changed(&mut self, job: JobId, tasks: &[TaskRef]) -> Vec<WatchEvent> {
        let shapes = self.shapes(job);
        let before = self.states_told.0.remove(&job).unwrap_or_default();
        let follows = |step: StepIndex| {
            let at = usize::from(step.0);
            matches!((shapes.get(at), before.steps.get(at)), (Some(now), Some(then)) if now.follows(*then))
        };
        let mut events = Vec::new();
        for step in (0..).map(StepIndex).take(shapes.len()).filter(|step| !follows(*step)) {
            events.extend(self.states(job, step, 0..u32::MAX));
        }
        let single: Vec<TaskRef> =
            tasks.iter().copied().filter(|task| follows(task.step)).collect();
        let runs = single.chunk_by(|a, b| a.step == b.step && b.task.0 - a.task.0 <= SAME_RUN_MAX);
        for run in runs {
            if let [first, ..] = run
                && let [.., last] = run
            {
                events.extend(self.states(job, first.step, first.task.0..last.task.0 + 1));
            }
        }
        let turn = before.latest.map_or(0, |latest| tasks.partition_point(|task| *task <= latest));
        let (later, sooner) = tasks.split_at(turn);
        let of_interest = later.iter().chain(sooner).filter(|task| self.is_of_interest(**task));
        let mut latest = before.latest;
        for task in of_interest.take(TASKS_BESIDE_STATES_MAX) {
            latest = Some(*task);
            events.extend(self.task_view(*task).map(|task| WatchEvent::Task { job, task }));
        }
        self.states_told.0.insert(job, JobShape { steps: shapes, latest });
        events
    }

    /// The states of some of a step's tasks.
    fn states(
        &self,
        job: JobId,
        step: StepIndex,
        tasks: Range<u32>,
    ) -> impl Iterator<Item = WatchEvent> {
        let step_of_job = self.core.state().jobs.get(&job).and_then(|job| job.step(step));
        let end = step_of_job.map_or(0, |step| step.tasks.len()).min(tasks.end);
        (tasks.start..end).step_by(STATES_TOLD_MAX).map(move |first| {
            let last = end.min(first.saturating_add(STATES_TOLD_MAX as u32));
            let states = self.core.task_states(job, step, first..last);
            let (first, states) = (TaskIndex(first), states.map(TaskState::letter).collect());
            WatchEvent::States { job, step, first, states }
        })
    }

    /// The states of all of a job's tasks, for somebody who hears from now on what becomes of them.
    pub(crate) fn all_states(&mut self, job: JobId) -> Vec<WatchEvent> {
        let steps = self.shapes(job);
        let events = (0..).map(StepIndex).take(steps.len());
        let events = events.flat_map(|step| self.states(job, step, 0..u32::MAX)).collect();
        self.states_told.0.entry(job).or_insert(JobShape { steps, latest: None });
        events
    }

    fn is_of_interest(&self, task: TaskRef) -> bool {
        let has_failures = |job: &Job| !job.failures(task).is_empty();
        self.core.task_state(task) == Some(TaskState::Running)
            || self.core.state().jobs.get(&task.job).is_some_and(has_failures)
    }

    fn shapes(&self, job: JobId) -> Vec<StepShape> {
        let Some(job) = self.core.state().jobs.get(&job) else { return Vec::new() };
        let steps = job.step_indices().zip(&job.steps).map(|(index, step)| StepShape {
            is_over: job.phase.is_final() || step.skipped.is_some(),
            is_unlocked: job.is_unlocked(index),
            failed: step.tasks.failed(),
        });
        steps.collect()
    }
}

fn say(news: &mut News, audience: Audience, events: Vec<WatchEvent>) {
    if !events.is_empty() {
        news.push(Notice { audience, told: Some(Arc::new(events.into())) });
    }
}
