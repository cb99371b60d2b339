//! What people see of the farm, made from the core and from what agents say.

use std::collections::BTreeSet;

use grange_protocol::agent::HostLoad;
use grange_protocol::client::{ApiTokenView, MemberView, Role};
use grange_protocol::footprint::Decision;
use grange_protocol::shot::Label;
use grange_protocol::view::{
    AgentState, AgentView, DecisionView, FailureView, FarmView, FootprintView, JobCost, JobDetail,
    JobProgress, JobState, JobView, StepView, TaskCounts, TaskProgressView, TaskView,
};
use grange_protocol::{AgentId, JobId, Millis, StepIndex, TaskIndex, TaskRef};
use grange_scheduler::{
    Connection, Cost, Duty, Footprint, Identity, Job, Likeness, MARGIN_MEASURED, Peak, Phase,
    SizeClass,
};

use crate::farm::{AgentLink, Farm};

/// Tasks that one answer about a job lists.
const TASKS_LISTED_MAX: usize = 1_000;

impl Farm {
    pub(crate) fn job_views(&self) -> Vec<JobView> {
        self.core.state().jobs.keys().filter_map(|job| self.job_view(*job)).collect()
    }

    pub(crate) fn job_view(&self, id: JobId) -> Option<JobView> {
        let job = self.core.state().jobs.get(&id)?;
        let failure = match &job.phase {
            Phase::Failed { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        Some(JobView {
            id,
            name: job.spec.name.clone(),
            kind: job.spec.kind.clone(),
            submitter: job.submitter.clone(),
            state: self.core.job_state(id)?,
            step: step_at_work(job),
            priority: job.priority(),
            reason: failure.or_else(|| self.core.why_waiting(id)),
            submitted_at: job.submitted_at,
            ended_at: ended_at(job),
            kept: self.core.state().is_kept(id),
            tags: self.core.state().tags_of(id),
            progress: self.job_progress(id, job),
        })
    }

    pub(crate) fn job_detail(&self, id: JobId) -> Option<JobDetail> {
        let job = self.core.state().jobs.get(&id)?;
        let steps = job
            .step_indices()
            .filter_map(|step| {
                let spec = job.spec.step(step)?;
                Some(StepView {
                    name: spec.name.clone(),
                    after: spec.after.clone(),
                    optional: spec.optional,
                    tasks: job.counts(step, self.core.running(id, step)),
                    skipped: job.step(step)?.skipped.clone(),
                })
            })
            .collect();
        Some(JobDetail {
            job: self.job_view(id)?,
            steps,
            tasks: self.notable_tasks(id, job),
            cost: self.job_cost(job),
        })
    }

    /// Tasks that run, or have failed attempts, in their order. Where there are too many, those that
    /// run go first.
    fn notable_tasks(&self, id: JobId, job: &Job) -> Vec<TaskView> {
        let running = self.core.leases().of_job(id).map(|(_, task)| (task.step, task.task.0));
        let mut tasks: BTreeSet<(StepIndex, u32)> = running.take(TASKS_LISTED_MAX).collect();
        for task in job.tasks_with_failures() {
            if tasks.len() == TASKS_LISTED_MAX {
                break;
            }
            tasks.insert(task);
        }
        tasks
            .into_iter()
            .filter_map(|(step, task)| {
                self.task_view(TaskRef { job: id, step, task: TaskIndex(task) })
            })
            .collect()
    }

    fn job_cost(&self, job: &Job) -> JobCost {
        let Cost { total_ms, render_ms, load_ms } = job.cost;
        let completed: u32 = job.steps.iter().map(|step| step.tasks.completed()).sum();
        let cold = u64::from(completed) * self.measured_load_ms(job);
        JobCost { total_ms, render_ms, load_ms, saved_ms: cold.saturating_sub(load_ms) }
    }

    /// What one start took, by the footprints of the job's scene; 0 if nobody measured it.
    fn measured_load_ms(&self, job: &Job) -> u64 {
        let blends = job.spec.steps.iter().filter_map(|step| Some(&step.work.render()?.blend));
        let blends: BTreeSet<_> = blends.collect();
        let of_job = self.core.state().footprints.iter();
        let of_job = of_job.filter(|(likeness, _)| blends.contains(&likeness.blend));
        of_job.filter_map(|(_, footprint)| footprint.load_ms).min().map_or(0, u64::from)
    }

    /// So many tasks of a job from a place on, in their order; `None` for a job that is not there.
    pub(crate) fn task_page(
        &self,
        id: JobId,
        from: (StepIndex, TaskIndex),
        limit: usize,
    ) -> Option<Vec<TaskView>> {
        let job = self.core.state().jobs.get(&id)?;
        let steps = job.step_indices().skip_while(|step| *step < from.0);
        let tasks = steps.flat_map(|step| {
            let first = if step == from.0 { from.1.0 } else { 0 };
            let count = job.spec.step(step).map_or(0, |spec| spec.work.task_count());
            let last = u32::try_from(count).unwrap_or(u32::MAX);
            (first..last).map(move |task| TaskRef { job: id, step, task: TaskIndex(task) })
        });
        Some(tasks.take(limit).filter_map(|task| self.task_view(task)).collect())
    }

    pub(crate) fn task_view(&self, task: TaskRef) -> Option<TaskView> {
        let job = self.core.state().jobs.get(&task.job)?;
        let lease = self.core.leases().of_task(task);
        let progress = lease.and_then(|(lease, _)| self.progress.get(&lease)).map(|progress| {
            TaskProgressView {
                stage: progress.stage,
                fraction: progress.fraction,
                frame: progress.frame,
                sample: progress.sample,
                samples: progress.samples,
                memory_mib: progress.memory_mib,
                seconds: progress.elapsed_ms as f32 / 1000.0,
            }
        });
        let failures = job
            .failures(task)
            .iter()
            .map(|failure| FailureView {
                agent: self.agent_name(failure.agent),
                kind: failure.kind,
                reason: failure.reason.clone(),
                at: failure.at,
            })
            .collect();
        Some(TaskView {
            step: task.step,
            task: task.task,
            label: job.spec.step(task.step)?.work.label(task.task),
            state: self.core.task_state(task)?,
            agent: lease.map(|(_, lease)| self.agent_name(lease.agent)),
            device: lease.map(|(_, lease)| lease.device),
            progress,
            failures,
        })
    }

    pub(crate) fn agent_views(&self) -> Vec<AgentView> {
        let here = self.core.agents();
        let others = self.core.state().identities.keys().filter(|id| !here.contains_key(id));
        here.keys().chain(others).filter_map(|agent| self.agent_view(*agent)).collect()
    }

    pub(crate) fn agent_view(&self, id: AgentId) -> Option<AgentView> {
        let Some(agent) = self.core.agents().get(&id) else { return self.absent_agent_view(id) };
        let link = self.links.get(&id);
        let state = match (agent.connection, agent.duty) {
            (Connection::Lost { .. } | Connection::Offline, _) => AgentState::Offline,
            (Connection::Draining, _) | (Connection::Online, Duty::Drained) => AgentState::Draining,
            (Connection::Online, Duty::Asleep) => AgentState::Asleep,
            (Connection::Online, Duty::On) => AgentState::Online,
        };
        let standing = self.core.standing(id);
        Some(AgentView {
            id,
            name: agent.hello.name.clone(),
            state,
            software: agent.hello.software.clone(),
            runtimes: agent.hello.runtimes.clone(),
            devices: agent.hello.devices.clone(),
            ffmpeg: agent.hello.ffmpeg,
            load: link.map(|link| link.load).unwrap_or_default(),
            tasks: agent.held().count() as u32,
            last_seen: link.map_or_else(|| self.now(), |link| link.last_seen),
            device_states: link.map(|link| link.devices.clone()).unwrap_or_default(),
            tags: standing.tags,
            schedule: standing.schedule,
        })
    }

    /// A member that was not here since the coordinator began.
    fn absent_agent_view(&self, id: AgentId) -> Option<AgentView> {
        if !self.core.is_member(id, Role::Agent) {
            return None;
        }
        let (identity, standing) = (self.core.state().identities.get(&id)?, self.core.standing(id));
        Some(AgentView {
            id,
            name: identity.name.clone(),
            state: AgentState::Offline,
            software: String::new(),
            runtimes: Vec::new(),
            devices: Vec::new(),
            ffmpeg: false,
            load: HostLoad::default(),
            tasks: 0,
            last_seen: identity.since,
            device_states: Vec::new(),
            tags: standing.tags,
            schedule: standing.schedule,
        })
    }

    pub(crate) fn footprint_views(&self) -> Vec<FootprintView> {
        let of_one = |(likeness, footprint): (&Likeness, &Footprint)| {
            let (likeness, load_ms) = (likeness.clone(), footprint.load_ms.unwrap_or(0));
            let sizes = footprint.sizes.values();
            let view = |size: &SizeClass| FootprintView {
                file: likeness.blend.file_name().into(),
                scene: likeness.scene.clone(),
                view_layer: likeness.view_layer.clone(),
                device: likeness.device,
                pixels: size.pixels,
                plain: size.plain.map(Peak::mib),
                kept: size.kept.map(Peak::mib),
                margin_percent: MARGIN_MEASURED,
                load_ms,
                frame_ms: size.frame_ms.unwrap_or(0),
                frames: size.frames,
                out_of_memory: size.out_of_memory,
            };
            sizes.map(view).collect::<Vec<_>>()
        };
        self.core.state().footprints.iter().flat_map(of_one).collect()
    }

    /// Of every agent that is connected, its latest decisions in the order in which they were made.
    pub(crate) fn decision_views(&self) -> Vec<DecisionView> {
        let of_agent = |(id, link): (&AgentId, &AgentLink)| {
            let name = self.agent_name(*id);
            let devices = self.core.agents().get(id).map(|agent| agent.hello.devices.clone());
            let devices = devices.unwrap_or_default();
            let view = |decision: &Decision| DecisionView {
                agent: name.clone(),
                device: devices
                    .get(usize::from(decision.device))
                    .map(|device| device.name.clone())
                    .unwrap_or_default(),
                decision: decision.clone(),
            };
            link.decisions.iter().map(view).collect::<Vec<_>>()
        };
        self.links.iter().flat_map(of_agent).collect()
    }

    pub(crate) fn api_token_views(&self) -> Vec<ApiTokenView> {
        let now = self.now();
        let tokens = self.core.state().api_tokens.values();
        tokens
            .filter(|token| token.expires_at > now)
            .map(|token| ApiTokenView {
                name: token.name.clone(),
                role: token.role,
                created_at: token.created_at,
                expires_at: token.expires_at,
            })
            .collect()
    }

    /// Whoever has been here for the longest time first.
    pub(crate) fn member_views(&self) -> Vec<MemberView> {
        let members = self.core.members().map(|(id, Identity { name, role, since })| MemberView {
            id,
            name: name.clone(),
            role: *role,
            joined_at: *since,
        });
        let mut members: Vec<MemberView> = members.collect();
        members.sort_by_key(|member| member.joined_at);
        members
    }

    pub(crate) fn agent_name(&self, id: AgentId) -> Label {
        let identity = self.core.state().identities.get(&id).map(|identity| identity.name.clone());
        let agent = self.core.agents().get(&id).map(|agent| agent.hello.name.clone());
        agent.or(identity).unwrap_or_default()
    }

    pub(crate) fn farm_view(&self) -> FarmView {
        let jobs = &self.core.state().jobs;
        let open: Vec<JobView> = jobs
            .iter()
            .filter(|(_, job)| !job.phase.is_final())
            .filter_map(|(id, _)| self.job_view(*id))
            .collect();
        let total: f64 = open.iter().map(|job| job.progress.frames_total as f64).sum();
        let done: f64 = open
            .iter()
            .map(|job| f64::from(job.progress.fraction) * job.progress.frames_total as f64)
            .sum();
        // From 0, because the sum of no floats is -0.
        let rates = open.iter().map(|job| job.progress.frames_per_minute);
        let per_minute = rates.fold(0.0, |sum, rate| sum + rate);
        FarmView {
            farm: self.name.clone(),
            software: env!("CARGO_PKG_VERSION").into(),
            epoch: self.core.state().epoch,
            agents_online: self.core.agents().values().filter(|agent| agent.is_online()).count()
                as u32,
            jobs_open: open.len() as u32,
            tasks_running: open.iter().map(|job| job.progress.tasks.running).sum(),
            fraction: if total > 0.0 { (done / total) as f32 } else { 1.0 },
            frames_per_minute: per_minute,
            seconds_left: seconds_left(total - done, per_minute),
            storage_full: self.storage.problem(),
        }
    }

    fn job_progress(&self, id: JobId, job: &Job) -> JobProgress {
        let tasks = job.step_indices().fold(TaskCounts::default(), |sum, step| {
            add(sum, job.counts(step, self.core.running(id, step)))
        });
        let total = job.frames_total;
        let partial: f64 = self
            .core
            .leases()
            .of_job(id)
            .filter_map(|(lease, task)| {
                let frames = job.spec.step(task.step)?.work.frames_of(task.task);
                Some(f64::from(frames) * f64::from(self.progress.get(&lease)?.fraction))
            })
            .sum();
        let done = job.frames_done as f64 + partial;
        let now = ended_at(job).unwrap_or_else(|| self.now());
        let frames_per_minute = self.rates.get(&id).map_or(0.0, |rate| rate.per_minute(now));
        let ended = self.core.job_state(id) == Some(JobState::Completed);
        JobProgress {
            tasks,
            frames_total: total,
            frames_done: job.frames_done,
            fraction: match total {
                _ if ended => 1.0,
                // Nobody knows how far a session is.
                0 => 0.0,
                total => (done / total as f64).min(1.0) as f32,
            },
            frames_per_minute,
            seconds_left: if job.phase.is_final() {
                None
            } else {
                seconds_left(total as f64 - done, frames_per_minute)
            },
            outputs: job.outputs,
            output_bytes: job.output_bytes,
        }
    }
}

/// The first step that can go on, if there are others.
fn step_at_work(job: &Job) -> Option<Label> {
    let can_go_on = |index: &StepIndex| {
        let step = job.step(*index);
        job.is_unlocked(*index)
            && step.is_some_and(|step| step.skipped.is_none() && step.tasks.open() > 0)
    };
    let several = job.steps.len() > 1 && !job.phase.is_final();
    let index = several.then(|| job.step_indices().find(can_go_on)).flatten()?;
    Some(job.spec.step(index)?.name.clone())
}

fn ended_at(job: &Job) -> Option<Millis> {
    match &job.phase {
        Phase::Open | Phase::Paused => None,
        Phase::Completed { at } | Phase::Canceled { at } | Phase::Failed { at, .. } => Some(*at),
    }
}

fn seconds_left(frames: f64, per_minute: f32) -> Option<u32> {
    (per_minute > 0.0).then(|| (frames.max(0.0) * 60.0 / f64::from(per_minute)).ceil() as u32)
}

fn add(a: TaskCounts, b: TaskCounts) -> TaskCounts {
    TaskCounts {
        total: a.total + b.total,
        waiting: a.waiting + b.waiting,
        ready: a.ready + b.ready,
        running: a.running + b.running,
        completed: a.completed + b.completed,
        failed: a.failed + b.failed,
        canceled: a.canceled + b.canceled,
    }
}
