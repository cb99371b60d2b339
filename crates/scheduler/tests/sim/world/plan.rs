//! What a seed stands for: how large its farm is, what it renders, how much goes wrong.

use grange_protocol::agent::{AgentHello, DeviceInfo, DeviceKind, RuntimeInfo};
use grange_protocol::job::{
    DeviceRequest, Engine, FrameRate, NoopWork, Policy, RenderSettings, RenderWork, SceneNeeds,
    SessionWork, StepSpec, VideoWork, Work,
};
use grange_protocol::{BlenderVersion, BlobHash, FrameSet, JobSpec, Shot, StepIndex};

use super::random::Random;

/// How long the farms of a run live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Minutes: for every build.
    Short,
    /// Hours.
    Long,
}

pub(crate) struct Plan {
    pub(crate) agents: usize,
    /// Things go wrong for so long. Milliseconds.
    pub(crate) trouble_ms: u64,
    /// Between two deeds of clients and between two faults, on average.
    pub(crate) deed_every_ms: u64,
    pub(crate) fault_every_ms: u64,
    /// Of a step.
    pub(crate) tasks_max: u64,
    /// Of a hundred attempts, those that do not go well.
    pub(crate) bad_attempts_percent: u64,
    pub(crate) scenes: Vec<Scene>,
}

/// What renders, and what it really takes.
pub(crate) struct Scene {
    pub(crate) manifest: BlobHash,
    pub(crate) peak_mib: u32,
    pub(crate) ram_mib: u32,
    pub(crate) frame_ms: u64,
}

impl Plan {
    pub(crate) fn of(seed: u64, scale: Scale, random: &mut Random) -> Self {
        let minute = 60_000;
        let (agents, trouble_ms, tasks_max) = match scale {
            Scale::Short if seed % 100 == 51 => (1_000, minute / 2, 200),
            Scale::Short => (random.between(1, 12), random.between(2, 6) * minute, 12),
            Scale::Long if seed % 100 == 51 => (1_000, 10 * minute, 500),
            Scale::Long if seed % 10 == 5 => (100, 30 * minute, 100),
            Scale::Long => (random.between(1, 20), random.between(60, 240) * minute, 25),
        };
        // One deed of a client every few seconds for ten agents, no more than that for a thousand.
        let pace = (60_000 / agents).clamp(1_000, 20_000);
        let scenes = (0..6u32)
            .map(|at| Scene {
                manifest: BlobHash::of(&at.to_le_bytes()),
                // The largest fits on no device.
                peak_mib: if at == 5 { 90_000 } else { random.magnitude(300, 20_000) as u32 },
                ram_mib: random.magnitude(200, 8_000) as u32,
                frame_ms: random.magnitude(2_000, 60_000),
            })
            .collect();
        Self {
            agents: agents as usize,
            trouble_ms,
            deed_every_ms: random.between(pace / 2, pace * 2),
            fault_every_ms: random.between(pace / 2, pace * 4),
            tasks_max,
            bad_attempts_percent: random.between(0, 25),
            scenes,
        }
    }

    pub(crate) fn scene(&self, manifest: Option<BlobHash>) -> Option<&Scene> {
        self.scenes.iter().find(|scene| Some(scene.manifest) == manifest)
    }

    pub(crate) fn hello(&self, at: usize, random: &mut Random) -> AgentHello {
        let mut devices = Vec::new();
        // Of some hosts less than some scenes need beside a GPU.
        let ram_mib = random.magnitude(4_000, 128_000);
        if random.percent(80) || at == 0 {
            devices.push(device("cpu", DeviceKind::Cpu, ram_mib, random.between(1, 2)));
        }
        let gpus = if random.percent(60) { random.between(1, 4) } else { 0 };
        let kind = if random.percent(80) { DeviceKind::Cuda } else { DeviceKind::Hip };
        let memory_mib = random.magnitude(4_000, 48_000);
        for gpu in 0..gpus.max(u64::from(devices.is_empty())) {
            let slots = random.between(1, 3);
            devices.push(device(&format!("gpu{gpu}"), kind, memory_mib, slots));
        }
        let denoiser = random.percent(70) || at == 0;
        AgentHello {
            name: label(&format!("host{at}")),
            software: "sim".into(),
            runtimes: vec![RuntimeInfo {
                version: label("4.2"),
                full_version: "4.2.0".into(),
                path: "/usr/bin/blender".into(),
                engines: [Engine::Cycles].into(),
                denoiser,
            }],
            devices,
            ffmpeg: random.percent(60),
            ahead: random.below(3) as u8,
            holding: Vec::new(),
        }
    }

    /// A job of any kind.
    pub(crate) fn job(&self, random: &mut Random) -> JobSpec {
        let tasks = random.magnitude(1, self.tasks_max);
        let fits_nowhere = random.percent(5);
        let scene = &self.scenes[if fits_nowhere { 5 } else { random.index(5) }];
        let mut spec = JobSpec {
            name: label("shot.blend"),
            kind: label("sim"),
            priority: label(&random.between(40, 60).to_string()),
            manifest: Some(scene.manifest),
            policy: Policy {
                attempts_max: random.between(2, 5) as u8,
                agent_failures_max: random.between(1, 4) as u8,
                failed_tasks_max_percent: random.between(0, 30) as u8,
                stall_s: 120,
            },
            steps: Vec::new(),
        };
        match random.below(100) {
            0..20 => spec.steps.push(noops(tasks, random)),
            20..40 => spec.steps.push(step("render", frames(tasks, random))),
            40..60 => {
                spec.steps.push(step("render", frames(tasks, random)));
                spec.steps.push(preview());
            }
            60..75 => spec.steps.push(step("shots", shots(tasks, random))),
            75..85 => {
                spec.policy.attempts_max = 1;
                let render = render(vec![shot("session", "session/#", 1)], 1, random);
                spec.steps.push(step("session", Work::Session(SessionWork { render, idle_s: 60 })));
            }
            85..90 => {
                // Both write the same names.
                spec.steps.push(step("one", frames(tasks, random)));
                spec.steps.push(step("two", frames(tasks, random)));
            }
            90..97 => {
                spec.steps.push(noops(tasks, random));
                let after = vec![StepIndex(0)];
                spec.steps.push(StepSpec { after, ..step("render", frames(tasks, random)) });
            }
            _ => spec.steps.push(step("impossible", impossible(random))),
        }
        spec
    }
}

pub(crate) fn label<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is bad"))
}

fn device(id: &str, kind: DeviceKind, memory_mib: u64, slots: u64) -> DeviceInfo {
    let slots = slots as u16;
    DeviceInfo { id: label(id), name: label(id), kind, memory_mib, slots, driver: label("") }
}

fn step(name: &str, work: Work) -> StepSpec {
    StepSpec { name: label(name), after: Vec::new(), optional: false, work }
}

fn noops(tasks: u64, random: &mut Random) -> StepSpec {
    let millis = random.magnitude(100, 20_000) as u32;
    step("noop", Work::Noop(NoopWork { tasks: tasks as u32, millis }))
}

fn preview() -> StepSpec {
    let fps = FrameRate { fps: 24, base: 1.0 };
    let video = VideoWork { source: StepIndex(0), fps, output: label("preview.mp4") };
    let after = vec![StepIndex(0)];
    StepSpec { after, optional: true, ..step("preview", Work::Video(video)) }
}

fn frames(tasks: u64, random: &mut Random) -> Work {
    let chunk = random.between(1, 3) as u32;
    Work::Render(render(vec![shot("", "####", tasks as i32)], chunk, random))
}

fn shots(tasks: u64, random: &mut Random) -> Work {
    let shots = (0..tasks.min(8))
        .map(|at| {
            let mut shot = shot(&format!("s{at}"), &format!("s{at}/##"), 1 + at as i32 % 3);
            if random.percent(50) {
                shot.resolution =
                    Some(label(["1920x1080", "960x540", "3840x2160"][random.index(3)]));
            }
            shot
        })
        .collect();
    Work::Render(render(shots, 1, random))
}

/// Nobody has what it asks for.
fn impossible(random: &mut Random) -> Work {
    let mut render = render(vec![shot("", "####", 2)], 1, random);
    match random.below(3) {
        0 => render.needs.saved_by = BlenderVersion::new(9, 9),
        1 => render.needs.engines = [Engine::Eevee].into(),
        _ => render.settings.device = DeviceRequest::Metal,
    }
    Work::Render(render)
}

fn shot(name: &str, output: &str, frames: i32) -> Shot {
    Shot {
        name: label(name),
        scene: None,
        view_layer: None,
        camera: None,
        frames: FrameSet::range(1, frames, 1).expect("frames in order"),
        resolution: None,
        samples: None,
        output: label(output),
        extras: None,
    }
}

fn render(shots: Vec<Shot>, chunk: u32, random: &mut Random) -> RenderWork {
    let device = match random.below(10) {
        0 => DeviceRequest::Cpu,
        1 => DeviceRequest::Cuda,
        _ => DeviceRequest::Any,
    };
    RenderWork {
        blend: label("/p/shot.blend"),
        needs: SceneNeeds {
            saved_by: BlenderVersion::new(4, 2),
            engines: [Engine::Cycles].into(),
            denoiser: random.percent(20),
        },
        settings: RenderSettings { device, ..RenderSettings::default() },
        chunk,
        shots,
    }
}
