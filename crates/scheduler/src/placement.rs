//! Which task goes where: highest priority, fair share, a warm scene, the least loaded device, and
//! among those the one whose free memory the shot fits best.

use std::cmp::Reverse;
use std::ops::Bound;

use grange_protocol::agent::DeviceKind;
use grange_protocol::footprint::{Expected, Memory};
use grange_protocol::job::{DeviceRequest, Work};
use grange_protocol::{AgentId, BlobHash, JobId, Millis, Priority, StepIndex, TaskRef};

use crate::agent::Agent;
use crate::core::Core;
use crate::device::DeviceBook;
use crate::footprint::{Estimate, Likeness};
use crate::job::Job;
use crate::live::Live;

/// A device with a free slot: kind, load, free memory in MiB, whose it is.
pub(crate) type Roomy = (DeviceKind, usize, u64, AgentId, u16);
/// A device that takes tasks ahead: kind, load, whose it is.
pub(crate) type Queueing = (DeviceKind, usize, AgentId, u16);
/// A device with an idle instance: its scene, kind, load, free memory in MiB, whose it is.
pub(crate) type Warm = (BlobHash, DeviceKind, usize, u64, AgentId, u16);
/// What a device has if nobody uses it: kind, whether it is a CPU beside GPUs, memory in MiB.
pub(crate) type Total = (DeviceKind, bool, u64, AgentId, u16);

const NOBODY: AgentId = AgentId(uuid::Uuid::nil());
/// GPUs first: whoever asks for nothing is glad of one.
const KINDS: [DeviceKind; 5] =
    [DeviceKind::Cuda, DeviceKind::Hip, DeviceKind::OneApi, DeviceKind::Metal, DeviceKind::Cpu];

/// A device among others of its kind: load, free memory in MiB, whose it is.
type Seat = (usize, u64, AgentId, u16);

/// A task and the device that gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) agent: AgentId,
    pub(crate) device: usize,
    pub(crate) task: TaskRef,
    /// Memory that is set aside for it; `None`: nobody knows.
    pub(crate) need: Option<Memory>,
    pub(crate) expected: Expected,
}

/// What becomes of a ready task.
pub(crate) enum Verdict {
    Place(Place),
    /// No device of the farm could ever hold it.
    FitsNowhere {
        task: TaskRef,
        reason: String,
    },
}

/// A step whose next task wants a place.
struct Asking<'a> {
    core: &'a Core,
    id: JobId,
    job: &'a Job,
    live: &'a Live,
    step: StepIndex,
    work: &'a Work,
    /// The next task, if it does not matter on which agent.
    task: TaskRef,
}

impl Core {
    /// What becomes of the job's next task now, if anything.
    pub(crate) fn place(&self, id: JobId) -> Option<Verdict> {
        let (job, live) = (self.job(id)?, self.live.get(&id)?);
        if live.settled_at > self.now {
            return None;
        }
        job.step_indices().filter(|step| live.ready(job, *step) > 0).find_map(|step| {
            let asking = self.asking(id, job, live, step)?;
            let place = asking.place().map(Verdict::Place);
            place.or_else(|| asking.fits_nowhere())
        })
    }

    fn asking<'a>(
        &'a self,
        id: JobId,
        job: &'a Job,
        live: &'a Live,
        step: StepIndex,
    ) -> Option<Asking<'a>> {
        let work = &job.spec.step(step)?.work;
        let task = self.next_task(id, job, live, step, |_| true)?;
        Some(Asking { core: self, id, job, live, step, work, task })
    }

    /// What a task is expected to take on a kind of device.
    pub(crate) fn estimate(&self, job: &Job, task: TaskRef, device: DeviceKind) -> Estimate {
        let nothing = Estimate {
            expected: Expected { plain: Some(Memory::default()), ..Expected::default() },
            ..Estimate::default()
        };
        let render = job.spec.step(task.step).and_then(|step| step.work.render());
        let (Some(render), Some(manifest)) = (render, job.spec.manifest) else {
            return nothing;
        };
        let Some(shot) = render.shot_of(task.task) else { return nothing };
        let likeness = Likeness::of(render, shot, manifest, device);
        let mut estimate = self.state.footprints.estimate(&likeness, shot);
        // Before it is given up it gets all of the largest device once more, or nearly all: of
        // many a desktop uses a little.
        if estimate.surely.device_mib > 0
            && let Some(work) = job.spec.step(task.step).map(|step| &step.work)
            && let Some(largest_mib) = self.largest(device, work)
        {
            let surely = &mut estimate.surely.device_mib;
            *surely = u64::from(*surely).min(largest_mib - largest_mib / 8) as u32;
            *surely = (*surely).max(estimate.proven.device_mib);
        }
        estimate
    }

    /// Memory of the largest device of a kind whose agent has what the work needs, if there is one.
    fn largest(&self, kind: DeviceKind, work: &Work) -> Option<u64> {
        [false, true].into_iter().filter_map(|spared| self.largest_of(kind, spared, work)).max()
    }

    fn largest_of(&self, kind: DeviceKind, spared: bool, work: &Work) -> Option<u64> {
        let of_kind = (kind, spared, 0, NOBODY, 0)..=(kind, spared, u64::MAX, NOBODY, 0);
        let needs = work.needs();
        let is_able =
            |id: &AgentId| self.agents.get(id).is_some_and(|agent| agent.has_what_it_needs(&needs));
        let mut largest_first = self.totals.range(of_kind).rev();
        largest_first.find(|(_, _, _, id, _)| is_able(id)).map(|(_, _, mib, ..)| *mib)
    }

    fn next_task(
        &self,
        id: JobId,
        job: &Job,
        live: &Live,
        step: StepIndex,
        acceptable: impl Fn(TaskRef) -> bool,
    ) -> Option<TaskRef> {
        let task_ref = |task| Self::task_ref(id, step, task);
        live.step(step)
            .next(
                &job.step(step)?.tasks,
                |task| self.leases.of_task(task_ref(task)).is_some(),
                |task| acceptable(task_ref(task)),
            )
            .map(task_ref)
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
        let roomy = self.roomy.iter().map(|(_, _, _, agent, device)| (agent, device));
        let ahead = self.queueing.iter().map(|(_, _, agent, device)| (agent, device));
        roomy
            .chain(ahead)
            .filter_map(|(agent, device)| self.agents.get(agent)?.devices.get(usize::from(*device)))
            .filter(|device| device.scenes.len() >= device.slots)
            .flat_map(|device| device.scenes.values())
            .map(|warm| warm.since + self.timing.scene_quantum_ms)
            .filter(|due| *due > self.now)
            .min()
    }

    /// Whether the agent could be given tasks of the step at all.
    pub(crate) fn may_take(&self, agent: AgentId, id: JobId, job: &Job, step: StepIndex) -> bool {
        !job.blocked.contains(&agent)
            && self.agents.get(&agent).is_some_and(|agent| {
                agent.takes_tasks()
                    && self.has_tags(agent, id)
                    && job.spec.step(step).is_some_and(|step| agent.fits(&step.work))
            })
    }

    /// Whether the agent has a device that renders now and could hold the task.
    fn has_place_for(&self, agent: &Agent, job: &Job, task: TaskRef) -> bool {
        let work = job.spec.step(task.step).map(|step| &step.work);
        agent.devices.iter().enumerate().any(|(at, book)| {
            let estimate = self.estimate(job, task, book.kind);
            work.is_some_and(|work| agent.suits(at, work))
                && book.slots > 0
                && !book.is_lost
                && agent.has_ram_for(at, &estimate)
                && u64::from(estimate.surely.device_mib) <= book.capacity_mib()
        })
    }

    /// Whether a device is kept free for another job of no lower priority.
    fn is_saved_from(&self, device: &DeviceBook, id: JobId, job: &Job) -> bool {
        let other = device.saved_for.filter(|other| *other != id).and_then(|other| self.job(other));
        other.is_some_and(|other| other.priority() >= job.priority())
    }
}

impl Asking<'_> {
    /// A free slot beats a place behind a running task, and an instance with the scene open beats
    /// one without.
    fn place(&self) -> Option<Place> {
        let first = |kind| (kind, 0, 0, NOBODY, 0);
        let is_roomy = |kind: &_| {
            self.core.roomy.range(first(*kind)..).next().is_some_and(|seat| seat.0 == *kind)
        };
        let roomy: Vec<(DeviceKind, Estimate)> = self
            .kinds()
            .filter(is_roomy)
            .map(|kind| (kind, self.core.estimate(self.job, self.task, kind)))
            .collect();
        let warm = || roomy.iter().find_map(|(kind, estimate)| self.warm(*kind, estimate));
        let cold = || roomy.iter().find_map(|(kind, estimate)| self.cold(*kind, estimate));
        warm().or_else(cold).or_else(|| self.ahead())
    }

    /// An idle instance that has the scene open.
    fn warm(&self, kind: DeviceKind, estimate: &Estimate) -> Option<Place> {
        let scene = self.job.spec.manifest?;
        let within = |(load, mib, agent, device)| (scene, kind, load, mib, agent, device);
        self.snug(estimate, |from| {
            let found = self.core.warm.range((from.map(within), Bound::Unbounded)).next();
            let (its_scene, its_kind, load, mib, agent, device) = *found?;
            (its_scene == scene && its_kind == kind).then_some((load, mib, agent, device))
        })
    }

    fn cold(&self, kind: DeviceKind, estimate: &Estimate) -> Option<Place> {
        if estimate.need().is_none() {
            return self.loosest(kind);
        }
        let within = |(load, mib, agent, device)| (kind, load, mib, agent, device);
        self.snug(estimate, |from| {
            let found = self.core.roomy.range((from.map(within), Bound::Unbounded)).next();
            let (its_kind, load, mib, agent, device) = *found?;
            (its_kind == kind).then_some((load, mib, agent, device))
        })
    }

    /// A place for what is expected. `next` finds the first seat from there on.
    fn snug(
        &self,
        estimate: &Estimate,
        next: impl Fn(Bound<Seat>) -> Option<Seat>,
    ) -> Option<Place> {
        let need_mib = estimate.need().map_or(0, |need| need.device_mib.into());
        let surely_mib = u64::from(estimate.surely.device_mib).min(need_mib);
        // One that has a margin on top may have a device for itself that is smaller.
        let alone = || {
            self.tightest(surely_mib, |from| {
                next(from).filter(|(load, mib, ..)| *load == 0 && *mib < need_mib)
            })
        };
        self.tightest(need_mib, &next).or_else(alone)
    }

    /// Of the least loaded seats the one with the least free memory that is enough.
    fn tightest(&self, enough: u64, next: impl Fn(Bound<Seat>) -> Option<Seat>) -> Option<Place> {
        let mut from = Bound::Included((0, enough, NOBODY, 0));
        loop {
            let seat = next(from)?;
            let (load, free_mib, agent, device) = seat;
            from = if free_mib < enough {
                Bound::Included((load, enough, NOBODY, 0))
            } else if let Some(place) = self.at(agent, device, true) {
                return Some(place);
            } else {
                Bound::Excluded(seat)
            };
        }
    }

    /// Of the least loaded devices the one with the most free memory.
    fn loosest(&self, kind: DeviceKind) -> Option<Place> {
        let mut load = 0;
        loop {
            let group = (kind, load, 0, NOBODY, 0)..;
            let (its_kind, its_load, ..) = *self.core.roomy.range(group).next()?;
            if its_kind != kind {
                return None;
            }
            let mut below = u64::MAX;
            let seats_with_less = |mib| {
                let group = (kind, its_load, 0, NOBODY, 0)..(kind, its_load, mib, NOBODY, 0);
                self.core.roomy.range(group)
            };
            while let Some((_, _, most_mib, ..)) = seats_with_less(below).next_back() {
                let same =
                    (kind, its_load, *most_mib, NOBODY, 0)..(kind, its_load, below, NOBODY, 0);
                let mut seats = self.core.roomy.range(same);
                let found = seats.find_map(|(_, _, _, agent, at)| self.at(*agent, *at, true));
                if found.is_some() {
                    return found;
                }
                below = *most_mib;
            }
            load = its_load + 1;
        }
    }

    fn ahead(&self) -> Option<Place> {
        let best_of = |kind| {
            let of_kind = self.core.queueing.range((kind, 0, NOBODY, 0)..);
            of_kind.take_while(|(its_kind, ..)| *its_kind == kind).find_map(
                |(_, load, agent, device)| Some((*load, self.at(*agent, *device, false)?)),
            )
        };
        self.kinds().filter_map(best_of).min_by_key(|(load, _)| *load).map(|(_, place)| place)
    }

    /// Kinds of devices in the order in which they are tried.
    fn kinds(&self) -> Box<dyn Iterator<Item = DeviceKind>> {
        match self.work.render() {
            Some(render) => {
                let request = render.settings.device;
                Box::new(KINDS.into_iter().filter(move |kind| kind.serves(request)))
            }
            None => Box::new(KINDS.into_iter().rev()),
        }
    }

    /// The place on a device, if it may have the task: at once, or ahead.
    fn at(&self, id: AgentId, device: u16, at_once: bool) -> Option<Place> {
        let (core, device) = (self.core, usize::from(device));
        let agent = core.agents.get(&id)?;
        let book = agent.devices.get(device)?;
        let (scene, priority) = (self.job.spec.manifest, self.job.priority());
        let may = core.has_tags(agent, self.id)
            && agent.suits(device, self.work)
            && agent.has_what_it_needs(&self.work.needs())
            && !core.is_saved_from(book, self.id, self.job)
            && core.admits(book, scene, priority);
        if !may {
            return None;
        }
        let task = self.task_for(id)?;
        if self.job.blocked.contains(&id) && !self.only_the_blocked_hold(task) {
            return None;
        }
        let estimate = core.estimate(self.job, task, book.kind);
        let estimate = agent.within_ram(device, &estimate);
        let fits = if at_once {
            agent.runs_now(device, &estimate)
        } else {
            agent.has_ram_for(device, &estimate)
                && u64::from(estimate.surely.device_mib) <= book.total_mib
        };
        let need = book.offers(&estimate, book.running());
        fits.then_some(Place { agent: id, device, task, need, expected: estimate.expected })
    }

    /// The step's next task for this agent. A task that failed here goes to another agent, where
    /// there is one.
    fn task_for(&self, agent: AgentId) -> Option<TaskRef> {
        let (core, job, step) = (self.core, self.job, self.step);
        core.next_task(self.id, job, self.live, step, |task| {
            let failed_here = |agent: AgentId| {
                let mut counted = job.failures(task).iter().filter(|failure| failure.counts());
                counted.any(|failure| failure.agent == agent)
            };
            !failed_here(agent)
                || !core.online().any(|(other, agent)| {
                    !failed_here(*other)
                        && core.may_take(*other, self.id, job, step)
                        && core.has_place_for(agent, job, task)
                })
        })
    }

    /// Whether others are there that could do the work, and none of them has the memory for the
    /// task. Then an agent that failed the job too often is better than nobody, for ever.
    fn only_the_blocked_hold(&self, task: TaskRef) -> bool {
        let (core, job) = (self.core, self.job);
        let holds = |agent: &Agent| {
            agent.devices.iter().enumerate().any(|(at, book)| {
                let estimate = core.estimate(job, task, book.kind);
                agent.suits(at, self.work)
                    && agent.has_ram_for(at, &estimate)
                    && u64::from(estimate.surely.device_mib) <= book.total_mib
            })
        };
        let mut others =
            core.online().filter(|(id, _)| core.may_take(**id, self.id, job, self.step)).peekable();
        others.peek().is_some() && !others.any(|(_, agent)| holds(agent))
    }

    /// A verdict if the task surely needs more than any device has that could be asked for, or its
    /// host.
    fn fits_nowhere(&self) -> Option<Verdict> {
        let render = self.work.render()?;
        let spared: &[bool] = match render.settings.device {
            DeviceRequest::Any => &[false],
            _ => &[false, true],
        };
        let largest_of = |kind| {
            spared.iter().filter_map(|one| self.core.largest_of(kind, *one, self.work)).max()
        };
        // The most that there is, and what is needed, of device memory and of RAM.
        let mut memory: Option<(u64, u64)> = None;
        let mut ram: Option<(u64, u64)> = None;
        for kind in self.kinds() {
            let Some(largest_mib) = largest_of(kind) else { continue };
            let estimate = self.core.estimate(self.job, self.task, kind);
            let needs_mib = u64::from(estimate.surely.device_mib);
            if needs_mib > largest_mib {
                memory = memory.max(Some((largest_mib, needs_mib)));
                continue;
            }
            // One host that has enough is enough, so most of the time this looks at one.
            let most_mib = self.most_ram_if_too_little(kind, spared, &estimate)?;
            ram = ram.max(Some((most_mib, estimate.surely.ram_mib.into())));
        }
        let gib = |mib: u64| format!("{:.1} GiB", mib as f64 / 1024.0);
        let reason = if let Some((most_mib, needs_mib)) = ram {
            format!(
                "it needs {} of the host's memory beside that of a GPU, and the largest host that \
                 could render it has {}: make the scene smaller, or add a host with more",
                gib(needs_mib),
                gib(most_mib)
            )
        } else {
            let (largest_mib, needs_mib) = memory?;
            format!(
                "it needs {} of memory, and the largest device that could render it has {}: make \
                 the scene or the picture smaller, or add a larger device",
                gib(needs_mib),
                gib(largest_mib)
            )
        };
        Some(Verdict::FitsNowhere { task: self.task, reason })
    }

    /// Of the hosts whose devices of a kind are large enough for the task: the most RAM that one
    /// has, if all have too little.
    fn most_ram_if_too_little(
        &self,
        kind: DeviceKind,
        spared: &[bool],
        estimate: &Estimate,
    ) -> Option<u64> {
        let needs = self.work.needs();
        let mut most_mib = 0;
        for spared in spared {
            let least_mib = u64::from(estimate.surely.device_mib);
            let large = (kind, *spared, least_mib, NOBODY, 0)..(kind, *spared, u64::MAX, NOBODY, 0);
            for (_, _, _, id, device) in self.core.totals.range(large).rev() {
                let agent = self.core.agents.get(id).filter(|one| one.has_what_it_needs(&needs));
                let Some(agent) = agent else { continue };
                if agent.has_ram_for(usize::from(*device), estimate) {
                    return None;
                }
                most_mib = most_mib.max(agent.ram_mib().unwrap_or_default());
            }
        }
        Some(most_mib)
    }
}
