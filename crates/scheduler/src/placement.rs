//! Which task goes where: highest priority, fair share, a warm scene, the least loaded device.

use std::cmp::Reverse;

use grange_protocol::job::Work;
use grange_protocol::{AgentId, BlobHash, JobId, Millis, Priority, StepIndex, TaskRef};

use crate::agent::{Agent, DeviceBook};
use crate::core::Core;
use crate::job::Job;
use crate::live::Live;
use uuid::Uuid;

/// A task and the device that gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) agent: AgentId,
    pub(crate) device: usize,
    pub(crate) task: TaskRef,
}

impl Core {
    /// The best place for the job's next task, if there is one now.
    pub(crate) fn place(&self, id: JobId) -> Option<Place> {
        let (job, live) = (self.job(id)?, self.live.get(&id)?);
        if live.settled_at > self.now {
            return None;
        }
        job.step_indices()
            .filter(|step| live.ready(job, *step) > 0)
            .find_map(|step| self.place_step(id, job, live, step))
    }

    /// A free slot beats a place behind a running task, an instance with the scene open beats one
    /// without, and then the least loaded agent gets the task.
    fn place_step(&self, id: JobId, job: &Job, live: &Live, step: StepIndex) -> Option<Place> {
        let work = &job.spec.step(step)?.work;
        let try_agent = |agent: AgentId| {
            let device = self.device_on(agent, job, work)?;
            let task = self.task_for(agent, id, job, live, step)?;
            Some(Place { agent, device, task })
        };
        let warm = job.spec.manifest.and_then(|scene| {
            let first = (scene, AgentId(Uuid::nil()));
            let have_it = self.warm.range(first..).take_while(|(warm, _)| *warm == scene);
            let places = have_it.filter_map(|(_, agent)| try_agent(*agent));
            places.min_by_key(|place| self.agents.get(&place.agent).map(|agent| agent.filed.load))
        });
        warm.or_else(|| self.roomy.iter().find_map(|(_, agent)| try_agent(*agent)))
    }

    /// The device of the agent that would take a task of this work now.
    fn device_on(&self, id: AgentId, job: &Job, work: &Work) -> Option<usize> {
        let agent = self.agents.get(&id)?;
        if job.blocked.contains(&id) || !agent.fits(work) {
            return None;
        }
        let at = agent.device_for(work)?;
        self.admits(&agent.devices[at], job.spec.manifest, job.priority()).then_some(at)
    }

    /// Whether a device may take up a scene. While it has as many scenes as slots and each still
    /// has ready tasks of no lower priority, every one of them keeps its place for a quantum.
    fn admits(&self, device: &DeviceBook, scene: Option<BlobHash>, priority: Priority) -> bool {
        let Some(scene) = scene else { return true };
        if device.scenes.contains_key(&scene) || device.scenes.len() < device.slots {
            return true;
        }
        device.scenes.iter().any(|(kept, warm)| {
            self.now.since(warm.since) >= self.timing.scene_quantum_ms
                || !self.has_ready_for(*kept, priority)
        })
    }

    /// Whether a job with that scene, of that priority or a higher one, has ready tasks.
    fn has_ready_for(&self, scene: BlobHash, priority: Priority) -> bool {
        self.ranks.iter().take_while(|(Reverse(rank), _, _, _)| *rank >= priority).any(
            |(_, _, _, job)| self.job(*job).is_some_and(|job| job.spec.manifest == Some(scene)),
        )
    }

    /// When a device that keeps to its scene may next take up another.
    pub(crate) fn next_scene_change(&self) -> Option<Millis> {
        if self.ranks.is_empty() {
            return None;
        }
        self.roomy
            .iter()
            .filter_map(|(_, agent)| self.agents.get(agent))
            .flat_map(|agent| &agent.devices)
            .filter(|device| device.scenes.len() >= device.slots)
            .flat_map(|device| device.scenes.values())
            .map(|warm| warm.since + self.timing.scene_quantum_ms)
            .filter(|due| *due > self.now)
            .min()
    }

    /// The step's next task for this agent. A task that failed here goes to another agent, where
    /// there is one.
    fn task_for(
        &self,
        agent: AgentId,
        id: JobId,
        job: &Job,
        live: &Live,
        step: StepIndex,
    ) -> Option<TaskRef> {
        let task_ref = |task| Self::task_ref(id, step, task);
        let tasks = &job.step(step)?.tasks;
        live.step(step)
            .next(
                tasks,
                |task| self.leases.of_task(task_ref(task)).is_some(),
                |task| {
                    let failed_here = |agent: AgentId| {
                        job.failures(task_ref(task)).iter().any(|failure| failure.agent == agent)
                    };
                    !failed_here(agent)
                        || !self.online().any(|(other, _)| {
                            !failed_here(*other) && self.may_take(*other, job, step)
                        })
                },
            )
            .map(task_ref)
    }

    /// Whether the agent could be given tasks of the step at all.
    pub(crate) fn may_take(&self, agent: AgentId, job: &Job, step: StepIndex) -> bool {
        !job.blocked.contains(&agent)
            && self.agents.get(&agent).is_some_and(Agent::is_online)
            && job.spec.step(step).is_some_and(|step| {
                self.agents.get(&agent).is_some_and(|agent| agent.fits(&step.work))
            })
    }
}
