//! Farms as they could be, for the tests of the model and of its pictures.

use grange_protocol::agent::{DeviceInfo, DeviceKind, HostLoad, RuntimeInfo, Stage};
use grange_protocol::footprint::{Decision, DeviceState, ProcessUse};
use grange_protocol::view::{
    AgentState, AgentView, DecisionView, FarmView, JobProgress, JobState, JobView, TaskCounts,
    TaskProgressView, TaskState, TaskView, WatchEvent,
};
use grange_protocol::{AgentId, BlenderVersion, Epoch, JobId, Millis, StepIndex, TaskIndex};

use super::model::{Asked, Model, News};

/// When the samples are looked at.
pub(super) const NOW: Millis = Millis(1_800_000_000_000);

pub(super) fn farm() -> FarmView {
    FarmView {
        farm: "studio".parse().unwrap(),
        software: "0.1.0".into(),
        epoch: Epoch(3),
        agents_online: 2,
        jobs_open: 4,
        tasks_running: 7,
        fraction: 0.437,
        frames_per_minute: 41.25,
        seconds_left: Some(7_511),
        storage_full: None,
    }
}

pub(super) fn idle() -> FarmView {
    FarmView {
        agents_online: 0,
        jobs_open: 0,
        tasks_running: 0,
        fraction: 1.0,
        frames_per_minute: 0.0,
        seconds_left: None,
        ..farm()
    }
}

pub(super) fn job(id: u32, name: &str, state: JobState, priority: &str) -> JobView {
    JobView {
        id: JobId(id),
        name: name.parse().unwrap(),
        kind: "animation".parse().unwrap(),
        submitter: "ada@meadow".parse().unwrap(),
        state,
        step: None,
        priority: priority.parse().unwrap(),
        reason: None,
        submitted_at: Millis(NOW.0 - 3_600_000 + u64::from(id)),
        ended_at: state.is_final().then_some(Millis(NOW.0 - 60_000 * u64::from(id))),
        kept: false,
        tags: Default::default(),
        progress: JobProgress { frames_total: 240, ..JobProgress::default() },
    }
}

/// A job of which so many frames are done, a rate known, and tasks run.
pub(super) fn rendering(mut job: JobView, done: u64, fraction: f32, running: u64) -> JobView {
    job.progress = JobProgress {
        tasks: TaskCounts { total: 240, running, completed: done, ..TaskCounts::default() },
        frames_done: done,
        fraction,
        frames_per_minute: 20.4,
        seconds_left: Some(372),
        ..job.progress
    };
    job
}

/// One job in each state, and names as they are.
pub(super) fn jobs() -> Vec<JobView> {
    let mut queued = job(3, "turntable", JobState::Queued, "50");
    queued.reason = Some("no agent that is online has a GPU for OptiX".into());
    queued.submitter = "grace@attic".parse().unwrap();
    queued.tags = ["big", "night"].map(|tag| tag.parse().unwrap()).into();
    let mut failed = rendering(job(4, "smoke_test.blend", JobState::Failed, "90"), 3, 0.0125, 0);
    failed.reason = Some("12 of 240 tasks failed, more than 10 %".into());
    failed.progress.tasks.failed = 12;
    failed.progress.seconds_left = None;
    let mut completed = rendering(job(5, "title.blend", JobState::Completed, "50"), 240, 1.0, 0);
    completed.progress.seconds_left = None;
    completed.kept = true;
    let mut session = job(8, "session of ada@meadow", JobState::Active, "50");
    session.kind = "session".parse().unwrap();
    session.progress.frames_total = 0;
    session.progress.tasks.running = 1;
    vec![
        rendering(
            job(1, "sq010_sh0040_lighting_v012.blend", JobState::Active, "50"),
            104,
            0.437,
            5,
        ),
        rendering(job(2, "urgent.blend", JobState::Active, "95"), 12, 0.0525, 1),
        queued,
        failed,
        completed,
        job(6, "left.blend", JobState::Canceled, "50"),
        rendering(job(7, "later.blend", JobState::Paused, "10"), 60, 0.25, 0),
        session,
    ]
}

fn device(name: &str, kind: DeviceKind, memory_mib: u64) -> DeviceInfo {
    DeviceInfo {
        id: name.parse().unwrap(),
        name: name.parse().unwrap(),
        kind,
        memory_mib,
        slots: 1,
        driver: "550.54".parse().unwrap(),
    }
}

fn host(name: &str, devices: Vec<DeviceInfo>, device_states: Vec<DeviceState>) -> AgentView {
    let id: AgentId = serde_json::from_value(serde_json::json!(format!(
        "00000000-0000-0000-0000-{:0>12x}",
        name.len()
    )))
    .unwrap();
    AgentView {
        id,
        name: name.parse().unwrap(),
        state: AgentState::Online,
        software: "0.1.0".into(),
        runtimes: vec![RuntimeInfo {
            version: BlenderVersion::new(4, 5),
            full_version: "4.5.15 LTS".into(),
            path: "/opt/blender".into(),
            engines: Default::default(),
            denoiser: true,
        }],
        devices,
        ffmpeg: true,
        load: HostLoad {
            cores: 64,
            cpu_percent: 41.7,
            memory_total_mib: 257_000,
            memory_available_mib: 198_321,
            instances: 4,
        },
        tasks: 6,
        last_seen: NOW,
        device_states,
        tags: Default::default(),
        schedule: None,
    }
}

/// A host with three GPUs, one of which is lost; one that renders on its CPU; one that is off.
pub(super) fn agents() -> Vec<AgentView> {
    let card = "NVIDIA RTX PRO 6000 Blackwell Workstation Edition";
    let process = |mib, ours| ProcessUse { pid: 1, mib: Some(mib), ours };
    let first = host(
        "render-01",
        vec![device(card, DeviceKind::Cuda, 97_887); 3],
        vec![
            DeviceState {
                total_mib: 97_887,
                used_mib: 60_113,
                others_mib: 9_433,
                reserved_mib: 61_440,
                instances: 3,
                slots: 3,
                utilisation_percent: Some(98),
                temperature_c: Some(71),
                power_w: Some(583),
                processes: vec![
                    process(17_000, true),
                    process(16_900, true),
                    process(16_780, true),
                    process(9_433, false),
                ],
                problem: None,
            },
            DeviceState {
                total_mib: 97_887,
                used_mib: 17_000,
                reserved_mib: 20_480,
                instances: 1,
                slots: 1,
                utilisation_percent: Some(84),
                temperature_c: Some(64),
                power_w: Some(412),
                processes: vec![process(17_000, true)],
                ..DeviceState::default()
            },
            DeviceState {
                total_mib: 97_887,
                slots: 1,
                problem: Some("it has fallen off the bus: this host must be restarted".into()),
                ..DeviceState::default()
            },
        ],
    );
    let mut second = host(
        "attic",
        vec![device("AMD Ryzen 9 7950X 16-Core Processor", DeviceKind::Cpu, 64_000)],
        vec![DeviceState {
            total_mib: 64_000,
            used_mib: 12_679,
            others_mib: 3_900,
            reserved_mib: 9_216,
            instances: 1,
            slots: 1,
            utilisation_percent: Some(97),
            ..DeviceState::default()
        }],
    );
    second.tasks = 1;
    let mut off = host(
        "laptop.studio",
        vec![device("Intel Core i5-8250U", DeviceKind::Cpu, 7_800)],
        Vec::new(),
    );
    (off.state, off.tasks, off.load) = (AgentState::Offline, 0, HostLoad::default());
    off.last_seen = Millis(NOW.0 - 1_260_000);
    vec![first, second, off]
}

pub(super) fn task(agent: &str, device: u16, number: u32, stage: Option<Stage>) -> TaskView {
    TaskView {
        step: StepIndex(0),
        task: TaskIndex(number),
        label: format!("frame {}", number + 1),
        state: TaskState::Running,
        agent: Some(agent.parse().unwrap()),
        device: Some(device),
        progress: stage.map(|stage| TaskProgressView {
            stage,
            fraction: if stage == Stage::Rendering { 0.36 } else { 0.0 },
            frame: number as i32 + 1,
            sample: if stage == Stage::Rendering { 46 } else { 0 },
            samples: if stage == Stage::Rendering { 128 } else { 0 },
            memory_mib: if stage == Stage::Rendering { 17_000 } else { 0 },
            seconds: 3.25,
        }),
        failures: Vec::new(),
    }
}

pub(super) fn asked() -> Asked {
    let decision = |agent: &str, device, ago_ms, text: &str| DecisionView {
        agent: agent.parse().unwrap(),
        device: "what the coordinator calls it".parse().unwrap(),
        decision: Decision { device, at: Millis(NOW.0 - ago_ms), text: text.into() },
    };
    Asked {
        tasks: vec![
            (
                JobId(1),
                vec![
                    task("render-01", 0, 105, None),
                    task("render-01", 0, 107, Some(Stage::Queued)),
                    task("render-01", 0, 104, Some(Stage::Rendering)),
                    task("render-01", 0, 106, Some(Stage::Loading)),
                    task("render-01", 1, 108, Some(Stage::Rendering)),
                ],
            ),
            (JobId(2), vec![task("render-01", 0, 12, Some(Stage::Rendering))]),
            (JobId(8), vec![task("attic", 0, 0, Some(Stage::Serving))]),
        ],
        decisions: vec![
            decision(
                "render-01",
                0,
                90_000,
                "1 instance: 22.3 frames/min, 2: 41.0 (+84 %): trying 3",
            ),
            decision(
                "render-01",
                0,
                20_000,
                "2 instances: 41.0 frames/min, 3: 52.1 (+27 %): staying with 3",
            ),
        ],
    }
}

/// A farm in the middle of its work.
pub(super) fn busy() -> Model {
    let mut model = Model::new(farm());
    catch_up(&mut model, jobs(), agents());
    model.hear(News::Asked(asked()));
    model.arrange();
    model
}

pub(super) fn empty() -> Model {
    let mut model = Model::new(idle());
    catch_up(&mut model, Vec::new(), Vec::new());
    model.arrange();
    model
}

/// What a watch tells first.
pub(super) fn catch_up(model: &mut Model, jobs: Vec<JobView>, agents: Vec<AgentView>) {
    model.hear(News::Begins);
    let agents = agents.into_iter().map(WatchEvent::Agent);
    let jobs = jobs.into_iter().map(WatchEvent::Job);
    for event in agents.chain(jobs).chain([WatchEvent::CaughtUp]) {
        model.hear(News::Event(event));
    }
}
