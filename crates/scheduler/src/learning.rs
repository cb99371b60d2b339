//! What the core takes from what agents tell of their devices and of frames.

use grange_protocol::footprint::{DeviceState, MeasuredEnd, Measurement, Memory};
use grange_protocol::{AgentId, JobId, LeaseId, StepIndex, TaskRef};

use crate::core::Core;
use crate::device::DeviceBook;
use crate::fact::Fact;
use crate::footprint::Likeness;
use crate::job::Job;

impl Core {
    pub(crate) fn devices_told(&mut self, id: AgentId, devices: &[DeviceState]) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        for (book, state) in agent.devices.iter_mut().zip(devices) {
            book.told(state);
        }
        self.file(id);
        self.agent_changed(id);
    }

    /// A frame's figures become a fact at once; those of an instance that ran out of memory when
    /// the end of its attempt is told, so that each is learned once.
    pub(crate) fn measured(&mut self, agent: AgentId, measurement: Measurement) {
        let held = self.leases.get(measurement.lease);
        if held.is_none_or(|held| held.agent != agent || held.task != measurement.task) {
            return;
        }
        match measurement.end {
            MeasuredEnd::Rendered { .. } => self.learn(measurement),
            MeasuredEnd::OutOfMemory { .. } => {
                self.ran_out.insert(measurement.lease, measurement);
            }
        }
    }

    /// The attempt under the lease ended for want of memory. If what the agent measured got lost, or
    /// is that there was none at all, what the core gave it for the shot was not enough.
    pub(crate) fn learn_that_memory_ran_out(&mut self, lease: LeaseId) {
        let Some(held) = self.leases.get(lease).copied() else { return };
        let device = self
            .agents
            .get(&held.agent)
            .and_then(|agent| agent.devices.get(usize::from(held.device)));
        let all = device.map_or(0, |device| u32::try_from(device.total_mib).unwrap_or(u32::MAX));
        let reserved = held.need.unwrap_or(Memory { device_mib: all, ram_mib: 0 });
        let told = self.ran_out.remove(&lease).filter(says_something);
        self.learn(told.unwrap_or(Measurement {
            lease,
            task: held.task,
            device: held.device,
            kept: false,
            pixels: 0,
            peak: Memory::default(),
            load_ms: None,
            end: MeasuredEnd::OutOfMemory { reserved },
        }));
    }

    fn learn(&mut self, mut measurement: Measurement) {
        let Some(lease) = self.leases.get(measurement.lease).copied() else { return };
        let device = self
            .agents
            .get(&lease.agent)
            .and_then(|agent| agent.devices.get(usize::from(lease.device)));
        let (Some(kind), Some(job)) = (device.map(|device| device.kind), self.job(lease.task.job))
        else {
            return;
        };
        let Some((likeness, own_size, asked)) = likeness_of(job, lease.task, kind) else { return };
        if measurement.pixels == 0 {
            // An instance that died before it knew: the size that was asked for, or is usual.
            let usual = || self.state.footprints.own_pixels(&likeness);
            measurement.pixels = asked.or_else(usual).unwrap_or(0);
        }
        self.record(Fact::Measured { likeness: Box::new(likeness), measurement, own_size });
    }

    pub(crate) fn fits_nowhere(&mut self, task: TaskRef, reason: String) {
        self.record(Fact::FitsNowhere { task, reason });
        if let Some(live) = self.live.get_mut(&task.job) {
            live.step_mut(task.step).forget(task.task.0);
        }
        self.task_changed(task);
        self.settle_job(task.job);
    }

    /// Devices of agents that are online and may take the step's tasks.
    fn suitable<'a>(
        &'a self,
        id: JobId,
        job: &'a Job,
        step: StepIndex,
    ) -> impl Iterator<Item = &'a DeviceBook> {
        let work = job.spec.step(step).map(|step| &step.work);
        self.online()
            .filter(move |(agent, _)| self.may_take(**agent, id, job, step))
            .flat_map(|(_, agent)| (0..agent.devices.len()).map(move |at| (agent, at)))
            .filter(move |(agent, at)| work.is_some_and(|work| agent.suits(*at, work)))
            .map(|(agent, at)| &agent.devices[at])
    }

    /// A sentence if all devices that could render the step are in trouble.
    pub(crate) fn why_no_device(&self, id: JobId, job: &Job, step: StepIndex) -> Option<String> {
        self.suitable(id, job, step).all(|book| book.is_lost).then(|| {
            "no device that could render it works now: `grange agents --json` says why".into()
        })
    }

    /// A sentence if the step's next task waits for memory that others use.
    pub(crate) fn why_no_memory(&self, id: JobId, job: &Job, step: StepIndex) -> Option<String> {
        let task = Self::task_ref(id, step, job.step(step)?.tasks.next_open(0)?);
        let lacking = |book: &DeviceBook| {
            let need = u64::from(self.estimate(job, task, book.kind).need()?.device_mib);
            let free = book.total_mib.saturating_sub(book.others_mib);
            (need > free && book.others_mib > 0).then_some((need, free))
        };
        let mut least: Option<(u64, u64)> = None;
        for book in self.suitable(id, job, step) {
            let (need, free) = lacking(book)?;
            least = Some(least.map_or((need, free), |least| least.max((need, free))));
        }
        let (need, free) = least?;
        Some(format!(
            "it needs {:.1} GiB of memory, and other programs leave at most {:.1} GiB on the devices \
             that could render it",
            need as f64 / 1024.0,
            free as f64 / 1024.0
        ))
    }
}

/// From nothing one learns that nothing is needed, and tries for ever.
fn says_something(measurement: &Measurement) -> bool {
    let had_mib = match measurement.end {
        MeasuredEnd::OutOfMemory { reserved } => reserved.device_mib,
        MeasuredEnd::Rendered { .. } => 0,
    };
    had_mib > 0 || measurement.peak.device_mib > 0
}

/// What the task's shot is like, whether it has the size that its file says, and the size that was
/// asked for otherwise. `None` for work that renders nothing.
fn likeness_of(
    job: &Job,
    task: TaskRef,
    kind: grange_protocol::agent::DeviceKind,
) -> Option<(Likeness, bool, Option<u64>)> {
    let render = job.spec.step(task.step)?.work.render()?;
    let shot = render.shot_of(task.task)?;
    let likeness = Likeness::of(render, shot, job.spec.manifest?, kind);
    let asked = shot.resolution.map(|size| u64::from(size.width) * u64::from(size.height));
    Some((likeness, shot.resolution.is_none(), asked))
}
