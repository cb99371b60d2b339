//! A farm of GPUs that do not exist around the real core, in a time of its own: it hands out tasks,
//! and what a GPU does with them is computed here.
//!
//! **Memory.** Each scene has a peak, and each of its frames takes 92 to 100 % of that, from its
//! start to its end. As on an agent, a frame waits until what was set aside for it is really free,
//! or, if nobody knows what it needs, a share of its GPU. One that then does not fit beside those
//! that run is out of memory after [`OUT_OF_MEMORY_MS`]. **Time.** Each frame takes 80 to 120 % of its scene's, whatever runs
//! beside it. Both are drawn from a seed, so every run is the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Context;
use grange_protocol::agent::{
    AgentHello, Assignment, Completed, DeviceInfo, DeviceKind, Failure, FailureKind, Outcome,
    RuntimeInfo,
};
use grange_protocol::footprint::{DeviceState, MeasuredEnd, Measurement, Memory};
use grange_protocol::job::{
    Engine, Policy, RenderSettings, RenderWork, SceneNeeds, StepSpec, Work,
};
use grange_protocol::shot::Label;
use grange_protocol::{
    AgentId, BlenderVersion, BlobHash, FrameSet, JobId, JobSpec, LayoutPath, LeaseId, Millis, Shot,
    TaskRef,
};
use grange_scheduler::{Command, Core, Estimate, Event, Likeness, RequestId, State, Timing};
use uuid::Uuid;

/// Of hosts, which have [`GPUS_PER_HOST`] equal ones: GiB, and how many of a hundred hosts.
pub(super) const GPU_MIX: [(u64, u64); 6] =
    [(8, 16), (12, 20), (16, 20), (24, 28), (48, 10), (80, 6)];
pub(super) const GPUS_PER_HOST: usize = 4;
/// The largest scene.
const LARGEST_GIB: f64 = 70.0;
/// The power of what is drawn that makes small scenes frequent.
const SMALL_ONES: f64 = 1.5;
/// Frames of a scene take 20 to 200 seconds, each order of magnitude as likely.
const FRAME_MS: (f64, f64) = (20_000.0, 200_000.0);
const OUT_OF_MEMORY_MS: u64 = 5_000;
const PIXELS: u64 = 1920 * 1080;

/// Numbers that look random and are always the same (SplitMix64).
pub(super) struct Random(pub(super) u64);

/// What renders in a job.
pub(super) struct Scene {
    pub(super) peak_mib: u32,
    frame_ms: u64,
    manifest: BlobHash,
    blend: LayoutPath,
}

pub(super) struct Gpu {
    pub(super) memory_mib: u64,
    /// What the core set aside.
    pub(super) booked_mib: u64,
    /// What frames that run really take, and the most that frames of their scenes do.
    used_mib: u64,
    peaks_mib: u64,
    /// What nobody else may have: what was set aside for frames that run, or more if they take more.
    taken_mib: u64,
    slots: u16,
    /// In the order in which they came.
    waiting: Vec<LeaseId>,
}

/// How many instances a GPU asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Slots {
    /// As many as there is memory for.
    Generous,
    /// One until it has rendered a frame, as agents do.
    OneAtFirst,
}

/// As many as there is memory for, as good as.
pub(super) const GENEROUS_SLOTS: u16 = 16;

struct Attempt {
    task: TaskRef,
    gpu: usize,
    scene: usize,
    /// What the core set aside; `None`: nobody knows what it needs.
    need_mib: Option<u64>,
    run: Option<Run>,
}

/// A frame that has begun.
#[derive(Clone, Copy)]
struct Run {
    began: Millis,
    /// What nobody else may have.
    taken_mib: u64,
    end: RunEnd,
}

#[derive(Clone, Copy)]
enum RunEnd {
    Rendered { used_mib: u32 },
    OutOfMemory { free_mib: u32 },
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) frames: u64,
    /// Instances that were started: for every frame but those that follow on one of the same scene
    /// at once.
    pub(super) instances: u64,
    pub(super) out_of_memory: u64,
    /// Times that a GPU had more set aside than it has.
    pub(super) over_committed: u64,
    pub(super) events: u64,
    /// Spent in the core.
    pub(super) deciding: Duration,
    /// Memory × time, in MiB × milliseconds: what there is, and the peaks of scenes that rendered.
    pub(super) there: f64,
    pub(super) used: f64,
}

pub(super) struct Farm {
    pub(super) core: Core,
    pub(super) gpus: Vec<Gpu>,
    pub(super) scenes: Vec<Scene>,
    pub(super) tally: Tally,
    jobs: BTreeMap<JobId, usize>,
    attempts: BTreeMap<LeaseId, Attempt>,
    ends: BTreeSet<(Millis, LeaseId)>,
    random: Random,
    slots: Slots,
    /// The GPU and the scene of an instance that has just become free.
    warm: Option<(usize, usize)>,
    now: Millis,
}

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1.
    pub(super) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Memory of so many GPUs, host by host, drawn from [`GPU_MIX`].
pub(super) fn gpus(count: usize, random: &mut Random) -> Vec<u64> {
    let mut draw = || {
        let mut at = (random.share() * 100.0) as u64;
        for (gib, hosts) in GPU_MIX {
            if at < hosts {
                return gib << 10;
            }
            at -= hosts;
        }
        GPU_MIX[0].0 << 10
    };
    (0..count / GPUS_PER_HOST).flat_map(|_| [draw(); GPUS_PER_HOST]).collect()
}

/// Scenes that take from `smallest_gib`, s, to 70 GiB: s × (70 / s)^(u^1.5), with u drawn from 0 to
/// 1. Of those from 1 GiB on half take less than 4.5.
pub(super) fn scenes(
    count: usize,
    smallest_gib: f64,
    random: &mut Random,
) -> anyhow::Result<Vec<Scene>> {
    let scene = |at: usize| {
        let times = (LARGEST_GIB / smallest_gib).powf(random.share().powf(SMALL_ONES));
        let gib = smallest_gib * times;
        let blend = format!("/project/{at}.blend");
        anyhow::Ok(Scene {
            peak_mib: (gib * 1024.0) as u32,
            frame_ms: (FRAME_MS.0 * (FRAME_MS.1 / FRAME_MS.0).powf(random.share())) as u64,
            manifest: BlobHash::of(blend.as_bytes()),
            blend: blend.parse()?,
        })
    };
    (0..count).map(scene).collect()
}

impl Scene {
    fn work(&self, frames: i32) -> anyhow::Result<RenderWork> {
        Ok(RenderWork {
            blend: self.blend.clone(),
            needs: SceneNeeds {
                saved_by: BlenderVersion::new(4, 2),
                engines: [Engine::Cycles].into(),
                denoiser: false,
            },
            settings: RenderSettings::default(),
            chunk: 1,
            shots: vec![Shot {
                name: Label::default(),
                scene: None,
                view_layer: None,
                camera: None,
                frames: FrameSet::range(1, frames, 1)?,
                resolution: None,
                samples: None,
                output: "####".parse()?,
                extras: None,
            }],
        })
    }
}

impl Farm {
    pub(super) fn new(
        memory_mib: &[u64],
        scenes: Vec<Scene>,
        slots: Slots,
        random: Random,
    ) -> anyhow::Result<Self> {
        let now = Millis(1);
        let first = if slots == Slots::Generous { GENEROUS_SLOTS } else { 1 };
        let gpu = |mib: &u64| Gpu {
            memory_mib: *mib,
            booked_mib: 0,
            used_mib: 0,
            peaks_mib: 0,
            taken_mib: 0,
            slots: first,
            waiting: Vec::new(),
        };
        let mut farm = Self {
            core: Core::start(State::default(), now, Timing::default()),
            gpus: memory_mib.iter().map(gpu).collect(),
            scenes,
            tally: Tally::default(),
            jobs: BTreeMap::new(),
            attempts: BTreeMap::new(),
            ends: BTreeSet::new(),
            random,
            slots,
            warm: None,
            now,
        };
        for (host, memory_mib) in memory_mib.chunks(GPUS_PER_HOST).enumerate() {
            let hello = Box::new(hello(memory_mib, first)?);
            farm.handle(Event::AgentJoined { agent: agent(host), hello });
        }
        Ok(farm)
    }

    /// A job of so many frames of a scene.
    pub(super) fn submit(&mut self, scene: usize, frames: i32) -> anyhow::Result<()> {
        let shown = &self.scenes[scene];
        let work = Work::Render(shown.work(frames)?);
        let step = StepSpec { name: Label::default(), after: Vec::new(), optional: false, work };
        let spec = Box::new(JobSpec {
            name: format!("scene {scene}").parse()?,
            kind: Label::default(),
            priority: Default::default(),
            manifest: Some(shown.manifest),
            policy: Policy::default(),
            steps: vec![step],
        });
        self.jobs.insert(self.core.state().next_job(), scene);
        let (request, submitter) = (RequestId(1), Label::default());
        self.handle(Event::Submit {
            request,
            submitter,
            spec,
            once: None,
            queue_anyway: false,
            tags: BTreeSet::new(),
        });
        Ok(())
    }

    /// What the core expects of the next frame of a scene.
    pub(super) fn estimate(&self, scene: usize) -> anyhow::Result<Estimate> {
        let scene = &self.scenes[scene];
        let work = scene.work(1)?;
        let shot = work.shots.first().context("no shot")?;
        let likeness = Likeness::of(&work, shot, scene.manifest, DeviceKind::Cuda);
        Ok(self.core.state().footprints.estimate(&likeness, shot))
    }

    /// What was set aside for each frame that runs.
    pub(super) fn booked(&self) -> impl Iterator<Item = u64> + '_ {
        self.attempts.values().filter_map(|attempt| attempt.need_mib)
    }

    /// Until nothing runs.
    pub(super) fn run_out(&mut self) {
        while !self.ends.is_empty() {
            self.step(Millis(u64::MAX));
        }
    }

    /// So many milliseconds on.
    pub(super) fn run_for(&mut self, millis: u64) {
        let until = self.now + millis;
        while self.step(until) {}
    }

    /// The next thing that happens, if it does before `until`.
    fn step(&mut self, until: Millis) -> bool {
        let deciding = Instant::now();
        let deadline = self.core.next_deadline();
        self.tally.deciding += deciding.elapsed();
        let end = self.ends.first().copied();
        let due = [deadline, end.map(|(at, _)| at)].into_iter().flatten().min();
        let due = due.unwrap_or(until).clamp(self.now, until);
        let millis = due.since(self.now) as f64;
        self.tally.there += millis * self.gpus.iter().map(|gpu| gpu.memory_mib).sum::<u64>() as f64;
        self.tally.used += millis * self.gpus.iter().map(|gpu| gpu.peaks_mib).sum::<u64>() as f64;
        self.now = due;
        match end {
            Some((at, lease)) if at <= due => {
                self.ends.pop_first();
                self.end(lease);
            }
            _ if due == until => return false,
            _ => self.handle(Event::Tick),
        }
        true
    }

    fn end(&mut self, lease: LeaseId) {
        let Some(attempt) = self.attempts.remove(&lease) else { return };
        let Attempt { task, gpu: at, scene, need_mib, run: Some(run) } = attempt else { return };
        let (agent, device) = (agent(at / GPUS_PER_HOST), (at % GPUS_PER_HOST) as u16);
        let gpu = &mut self.gpus[at];
        gpu.booked_mib -= need_mib.unwrap_or(0);
        gpu.taken_mib -= run.taken_mib;
        let millis = self.now.since(run.began) as u32;
        let memory = |device_mib| Memory { device_mib, ram_mib: 0 };
        let (peak_mib, end, outcome) = match run.end {
            RunEnd::Rendered { used_mib } => {
                gpu.used_mib -= u64::from(used_mib);
                gpu.peaks_mib -= u64::from(self.scenes[scene].peak_mib);
                self.tally.frames += 1;
                let cost = Completed {
                    outputs: 0,
                    total_ms: millis,
                    render_ms: millis,
                    load_ms: 0,
                    peak_mib: used_mib,
                };
                let end = MeasuredEnd::Rendered { frame_ms: millis, beside: 1 };
                (used_mib, end, Outcome::Completed(cost))
            }
            RunEnd::OutOfMemory { free_mib } => {
                self.tally.out_of_memory += 1;
                let reserved = memory((run.taken_mib as u32).max(free_mib));
                let failure = Failure::new(FailureKind::OutOfMemory, "out of memory");
                (free_mib, MeasuredEnd::OutOfMemory { reserved }, Outcome::Failed(failure))
            }
        };
        let measurement = Measurement {
            lease,
            task,
            device,
            kept: false,
            pixels: PIXELS,
            peak: memory(peak_mib),
            load_ms: None,
            end,
        };
        let rendered = matches!(run.end, RunEnd::Rendered { .. });
        self.start_those_that_wait(at);
        self.handle(Event::Measured { agent, measurement });
        if self.slots == Slots::OneAtFirst && rendered && self.gpus[at].slots == 1 {
            self.gpus[at].slots = GENEROUS_SLOTS;
            self.tell_devices(at / GPUS_PER_HOST);
        }
        self.warm = rendered.then_some((at, scene));
        self.handle(Event::Ended { agent, lease, task, outcome });
        self.warm = None;
    }

    fn tell_devices(&mut self, host: usize) {
        let of_host = self.gpus.iter().skip(host * GPUS_PER_HOST).take(GPUS_PER_HOST);
        let state = |gpu: &Gpu| DeviceState {
            total_mib: gpu.memory_mib,
            slots: gpu.slots,
            ..DeviceState::default()
        };
        let devices = of_host.map(state).collect();
        self.handle(Event::DevicesTold { agent: agent(host), devices });
    }

    fn handle(&mut self, event: Event) {
        let began = Instant::now();
        self.core.handle(self.now, event);
        let facts = self.core.take_facts();
        let commands: Vec<Command> = std::iter::from_fn(|| self.core.next_command()).collect();
        self.core.take_changes();
        self.tally.deciding += began.elapsed();
        self.tally.events += 1;
        drop(facts);
        for command in commands {
            if let Command::Assign { agent, assignment } = command {
                self.assigned(agent, &assignment);
            }
        }
    }

    fn assigned(&mut self, agent: AgentId, assignment: &Assignment) {
        let at = agent.0.as_u128() as usize * GPUS_PER_HOST + usize::from(assignment.device);
        let (scene, gpu) = (self.jobs[&assignment.task.job], &mut self.gpus[at]);
        let lease = self.core.leases().get(assignment.lease);
        let need = lease.and_then(|lease| lease.need);
        let need_mib = need.map(|need| u64::from(need.device_mib));
        gpu.booked_mib += need_mib.unwrap_or(0);
        gpu.waiting.push(assignment.lease);
        if gpu.booked_mib > gpu.memory_mib {
            self.tally.over_committed += 1;
        }
        let attempt = Attempt { task: assignment.task, gpu: at, scene, need_mib, run: None };
        self.attempts.insert(assignment.lease, attempt);
        self.start_those_that_wait(at);
    }

    fn start_those_that_wait(&mut self, at: usize) {
        for lease in std::mem::take(&mut self.gpus[at].waiting) {
            if !self.start(lease) {
                self.gpus[at].waiting.push(lease);
            }
        }
    }

    /// Whether there is memory to begin with.
    fn start(&mut self, lease: LeaseId) -> bool {
        let Some(attempt) = self.attempts.get_mut(&lease) else { return true };
        let (scene, gpu) = (&self.scenes[attempt.scene], &mut self.gpus[attempt.gpu]);
        let free_mib = gpu.memory_mib.saturating_sub(gpu.taken_mib);
        let share_mib = gpu.memory_mib / u64::from(gpu.slots);
        let reserved_mib = attempt.need_mib.unwrap_or(share_mib);
        if reserved_mib > free_mib {
            return false;
        }
        let used_mib = (f64::from(scene.peak_mib) * (0.92 + 0.08 * self.random.share())) as u32;
        let free_mib = (gpu.memory_mib - gpu.used_mib) as u32;
        let (end, millis) = if used_mib <= free_mib {
            gpu.used_mib += u64::from(used_mib);
            gpu.peaks_mib += u64::from(scene.peak_mib);
            let millis = scene.frame_ms as f64 * (0.8 + 0.4 * self.random.share());
            (RunEnd::Rendered { used_mib }, millis as u64)
        } else {
            (RunEnd::OutOfMemory { free_mib }, OUT_OF_MEMORY_MS)
        };
        let rendering_mib = if used_mib <= free_mib { used_mib.into() } else { 0 };
        let taken_mib = reserved_mib.max(rendering_mib);
        gpu.taken_mib += taken_mib;
        attempt.run = Some(Run { began: self.now, taken_mib, end });
        self.ends.insert((self.now + millis, lease));
        if self.warm.take_if(|warm| *warm == (attempt.gpu, attempt.scene)).is_none() {
            self.tally.instances += 1;
        }
        true
    }
}

fn agent(host: usize) -> AgentId {
    AgentId(Uuid::from_u128(host as u128))
}

fn hello(memory_mib: &[u64], slots: u16) -> anyhow::Result<AgentHello> {
    let device = |(at, mib): (usize, &u64)| {
        Ok(DeviceInfo {
            id: format!("GPU-{at}").parse()?,
            name: "GPU".parse()?,
            kind: DeviceKind::Cuda,
            memory_mib: *mib,
            slots,
            driver: Label::default(),
        })
    };
    Ok(AgentHello {
        name: Label::default(),
        software: String::new(),
        runtimes: vec![RuntimeInfo {
            version: BlenderVersion::new(4, 2),
            full_version: String::new(),
            path: String::new(),
            engines: [Engine::Cycles].into(),
            denoiser: false,
        }],
        devices: memory_mib.iter().enumerate().map(device).collect::<anyhow::Result<_>>()?,
        ffmpeg: false,
        ahead: 0,
        holding: Vec::new(),
    })
}
