//! The bytes of every message, pinned. A change here breaks farms in which old and new programs
//! meet: append instead, and if that cannot be, change the number in the ALPN.

use std::collections::BTreeSet;
use std::fmt::Write;

use grange_protocol::agent::*;
use grange_protocol::client::*;
use grange_protocol::file::*;
use grange_protocol::footprint::*;
use grange_protocol::history::*;
use grange_protocol::job::*;
use grange_protocol::kinds::*;
use grange_protocol::manifest::ManifestEntry;
use grange_protocol::session::*;
use grange_protocol::stream::Open;
use grange_protocol::view::*;
use grange_protocol::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// One line per value: its name and its bytes. Every value must also decode to itself.
#[derive(Default)]
struct Golden(String);

impl Golden {
    fn pin<T>(&mut self, name: &str, value: T)
    where
        T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let bytes = codec::encode(&value).unwrap();
        assert_eq!(codec::decode::<T>(&bytes).unwrap(), value, "{name}");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(self.0, "{name}: {hex}").unwrap();
    }
}

fn text<T: std::str::FromStr>(text: &str) -> T {
    text.parse().ok().unwrap()
}

fn lease() -> LeaseId {
    LeaseId { epoch: Epoch(2), number: 300 }
}

fn task() -> TaskRef {
    TaskRef { job: JobId(7), step: StepIndex(1), task: TaskIndex(200) }
}

fn hash() -> BlobHash {
    BlobHash::from_bytes([0xab; 32])
}

fn blob() -> Blob {
    Blob { hash: hash(), len: 1000 }
}

fn output() -> Output {
    Output { name: text("a/0001.png"), role: OutputRole::Frame, frame: -1, blob: blob() }
}

fn refusal() -> Refusal {
    Refusal::new(RefusalCode::StaleLease, "no")
}

fn failure() -> Failure {
    Failure::new(FailureKind::Crash, "it crashed")
}

fn shot() -> Shot {
    Shot {
        name: text("Front"),
        scene: Some(text("Scene")),
        view_layer: None,
        camera: Some(text("Cam")),
        frames: text("1-10x3, 20"),
        resolution: Some(text("64x32")),
        samples: Some(16),
        output: text("front_##"),
        extras: Some(text("front_files")),
    }
}

fn needs() -> SceneNeeds {
    let engines = BTreeSet::from([
        Engine::Cycles,
        Engine::Eevee,
        Engine::Workbench,
        Engine::Other(text("X")),
    ]);
    SceneNeeds { saved_by: BlenderVersion::new(4, 2), engines, denoiser: true }
}

fn settings() -> RenderSettings {
    RenderSettings {
        device: DeviceRequest::Optix,
        persistent_data: Some(true),
        fine_progress: true,
        allow_no_denoiser: false,
        allow_missing: true,
        tiles: Some(false),
    }
}

fn render() -> RenderWork {
    RenderWork {
        blend: text("/p/a.blend"),
        needs: needs(),
        settings: settings(),
        chunk: 2,
        shots: vec![shot()],
    }
}

fn video() -> VideoWork {
    VideoWork {
        source: StepIndex(0),
        fps: FrameRate { fps: 30, base: 1.001 },
        output: text("p.mp4"),
    }
}

fn memory() -> Memory {
    Memory { device_mib: 1200, ram_mib: 700 }
}

fn progress() -> TaskProgress {
    TaskProgress {
        lease: lease(),
        stage: Stage::Rendering,
        fraction: 0.5,
        frame: 12,
        sample: 8,
        samples: 16,
        memory_mib: 212,
        elapsed_ms: 3100,
    }
}

fn device_state() -> DeviceState {
    DeviceState {
        total_mib: 24_000,
        used_mib: 9_000,
        others_mib: 1_000,
        reserved_mib: 8_800,
        instances: 2,
        slots: 3,
        utilisation_percent: Some(97),
        temperature_c: Some(61),
        power_w: None,
        processes: vec![ProcessUse { pid: 4711, mib: Some(4_000), ours: true }],
        problem: Some("gone".into()),
    }
}

fn decision() -> Decision {
    Decision { device: 1, at: Millis(77), text: "2 instances".into() }
}

#[test]
fn between_agent_and_coordinator() {
    let mut golden = Golden::default();
    let device = DeviceInfo {
        id: text("cpu"),
        name: text("EPYC"),
        kind: DeviceKind::Cpu,
        memory_mib: 24_000,
        slots: 2,
        driver: text("535.1"),
    };
    let runtime = RuntimeInfo {
        version: BlenderVersion::new(3, 4),
        full_version: "3.4.1".into(),
        path: "/usr/bin/blender".into(),
        engines: BTreeSet::from([Engine::Cycles]),
        denoiser: false,
    };
    let holding = Holding { lease: lease(), task: task(), device: 0 };
    let hello = AgentHello {
        name: text("host"),
        software: "0.1.0".into(),
        runtimes: vec![runtime],
        devices: vec![device],
        ffmpeg: true,
        ahead: 1,
        holding: vec![holding],
    };
    golden.pin("hello", Open::Control(Box::new(hello)));
    let agent = AgentId(Uuid::from_u128(5));
    let welcome = Welcome {
        farm: text("f"),
        agent,
        epoch: Epoch(2),
        drop: vec![lease()],
        heartbeat_ms: 2000,
        pictures: true,
    };
    golden.pin("welcome", welcome);
    let load = HostLoad {
        cores: 2,
        cpu_percent: 50.0,
        memory_total_mib: 24_000,
        memory_available_mib: 12_000,
        instances: 1,
    };
    golden.pin("heartbeat", FromAgent::Heartbeat(load));
    golden.pin("progress", FromAgent::Progress(progress()));
    let completed =
        Completed { outputs: 1, total_ms: 900, render_ms: 800, load_ms: 70, peak_mib: 212 };
    for (name, outcome) in [
        ("completed", Outcome::Completed(completed)),
        ("failed", Outcome::Failed(failure())),
        ("canceled", Outcome::Canceled),
    ] {
        let ended = AttemptEnded { lease: lease(), task: task(), outcome, log: "log".into() };
        golden.pin(&format!("ended, {name}"), FromAgent::Ended(ended));
    }
    golden.pin("returned", FromAgent::Returned(vec![lease()]));
    golden.pin("draining", FromAgent::Draining);
    golden.pin("devices", FromAgent::Devices(vec![device_state()]));
    for (name, end) in [
        ("rendered", MeasuredEnd::Rendered { frame_ms: 900, beside: 2 }),
        ("out of memory", MeasuredEnd::OutOfMemory { reserved: memory() }),
    ] {
        let measurement = Measurement {
            lease: lease(),
            task: task(),
            device: 1,
            kept: true,
            pixels: 2048,
            peak: memory(),
            load_ms: Some(70),
            end,
        };
        golden.pin(&format!("measured, {name}"), FromAgent::Measured(measurement));
    }
    golden.pin("decided", FromAgent::Decided(decision()));
    for (name, work) in [
        ("render", TaskWork::Render(render())),
        ("video", TaskWork::Video(video())),
        ("noop", TaskWork::Noop(NoopWork { tasks: 9, millis: 1 })),
    ] {
        let assignment = Assignment {
            lease: lease(),
            task: task(),
            device: 1,
            manifest: Some(hash()),
            submitter: text("ada"),
            stall_s: 600,
            work,
            expected: Expected {
                plain: Some(memory()),
                kept: None,
                frame_ms: Some(900),
                load_ms: None,
            },
            more: 12,
        };
        golden.pin(&format!("assign, {name}"), ToAgent::Assign(Box::new(assignment)));
    }
    golden.pin("revoke", ToAgent::Revoke(lease()));
    golden.pin("recall", ToAgent::Recall(lease()));
    golden.pin("settled", ToAgent::Settled(lease()));
    for kind in [
        FailureKind::Scene,
        FailureKind::Host,
        FailureKind::Crash,
        FailureKind::Stalled,
        FailureKind::OutOfMemory,
        FailureKind::Output,
        FailureKind::Other,
    ] {
        golden.pin(&format!("{kind:?}"), kind);
    }
    insta::assert_snapshot!(golden.0);
}

#[test]
fn files() {
    let mut golden = Golden::default();
    golden.pin("put blob", Open::PutBlob(PutBlob { blob: blob(), eager: true }));
    let put = PutOutput { lease: lease(), task: task(), output: output(), eager: false };
    golden.pin("put output", Open::PutOutput(put));
    let put = PutPictures { of: hash(), lens: [5, 300, 70_000], skipped: 2 };
    golden.pin("put pictures", Open::PutPictures(put));
    golden.pin("get blob", Open::GetBlob(GetBlob { hash: hash(), offset: 5 }));
    golden.pin("put reply, send from", PutReply::SendFrom(5));
    golden.pin("put reply, have", PutReply::Have);
    golden.pin("put reply, refused", PutReply::Refused(refusal()));
    golden.pin("put done, stored", PutDone::Stored);
    golden.pin("put done, refused", PutDone::Refused(refusal()));
    golden.pin("get reply, sending", GetReply::Sending { len: 1000 });
    golden.pin("get reply, refused", GetReply::Refused(refusal()));
    for role in [OutputRole::Frame, OutputRole::Extra, OutputRole::Preview] {
        golden.pin(&format!("{role:?}"), role);
    }
    let entry = ManifestEntry { path: text("/p/a.blend"), blob: hash(), len: 1000 };
    golden.pin("manifest", Manifest::new(vec![entry]).unwrap());
    insta::assert_snapshot!(golden.0);
}

#[test]
fn sessions() {
    let mut golden = Golden::default();
    let (lease, task, call) = (lease(), task(), CallNumber(300));
    let (blender, device) = ("4.2.23 LTS".into(), text("RTX"));
    golden.pin("open", Open::Session(OpenSession { lease, task, blender, device }));
    let (operation, arguments) = ("ping".into(), b"{}".to_vec());
    golden.pin("call", ToSession::Call(Call { number: call, operation, arguments }));
    golden.pin("close", ToSession::Close);
    let (fraction, sample, samples) = (0.5, 8, 16);
    golden.pin("progress", FromSession::Progress { call, fraction, sample, samples });
    golden.pin("stored", FromSession::Stored { call, output: output() });
    let returned =
        CallAnswer::Returned { value: b"null".to_vec(), warnings: vec!["careful".into()] };
    golden.pin("returned", FromSession::Answered { call, answer: returned });
    let raised = CallAnswer::Raised(Raised::new("ValueError", "no"));
    golden.pin("raised", FromSession::Answered { call, answer: raised });
    golden.pin("ended", FromSession::Ended { reason: "it crashed".into() });
    let work = SessionWork { render: render(), idle_s: 1_800 };
    golden.pin("work", Work::Session(work.clone()));
    golden.pin("task", TaskWork::Session(work));
    let (blend, needs, settings) = (text("/p/a.blend"), needs(), settings());
    golden.pin("kind", JobKind::Session(Session { blend, needs, settings, idle_s: 60 }));
    golden.pin("stage", Stage::Serving);
    insta::assert_snapshot!(golden.0);
}

#[test]
fn what_clients_ask() {
    let mut golden = Golden::default();
    let mut call = |name: &str, request: Request| golden.pin(name, Open::Call(Box::new(request)));
    call("missing blobs", Request::MissingBlobs(vec![hash()]));
    call("jobs", Request::Jobs);
    call("job", Request::Job(JobId(7)));
    for action in [
        JobAction::Cancel,
        JobAction::Pause,
        JobAction::Resume,
        JobAction::Retry,
        JobAction::SetPriority(text("80")),
        JobAction::Keep,
        JobAction::Release,
        JobAction::Delete,
    ] {
        call(&format!("{action:?}"), Request::Act { job: JobId(7), action });
    }
    call("agents", Request::Agents);
    let outputs = OutputsQuery { job: JobId(7), step: Some(StepIndex(0)), after: 3 };
    call("outputs", Request::Outputs(outputs));
    let task = Some((StepIndex(0), TaskIndex(3)));
    call("logs", Request::Logs(LogsQuery { job: JobId(7), task, failed_only: true, before: 9 }));
    call("create token", Request::CreateToken { role: Role::Submitter, ttl_s: 900 });
    call("farm", Request::Farm);
    call("footprints", Request::Footprints);
    call("decisions", Request::Decisions);
    let (name, role) = (text("ada"), Role::Submitter);
    call("create API token", Request::CreateApiToken { name, role, ttl_s: 900 });
    call("API tokens", Request::ApiTokens);
    call("revoke API token", Request::RevokeApiToken(text("ada")));
    call("page link", Request::PageLink);
    call("members", Request::Members);
    call("remove member", Request::RemoveMember(AgentId(Uuid::from_u128(5))));
    let agent = AgentId(Uuid::from_u128(5));
    for action in [
        AgentAction::Drain,
        AgentAction::Resume,
        AgentAction::Remove,
        AgentAction::Tag([text("big"), text("night")].into()),
        AgentAction::Schedule(Some(text("mon-fri 19:00-07:00"))),
        AgentAction::Schedule(None),
    ] {
        call(&format!("{action:?} an agent"), Request::ActOnAgent { agent, action });
    }
    let about = Some(About::Farm);
    let query = HistoryQuery { about, job: Some(JobId(7)), agent: None, before: 300, limit: 100 };
    call("history", Request::History(query));
    for (name, kind) in [
        (
            "animation",
            JobKind::Animation(Animation {
                blend: text("/p/a.blend"),
                needs: needs(),
                settings: settings(),
                chunk: 2,
                shot: shot(),
                preview: Some(Preview {
                    fps: FrameRate { fps: 24, base: 1.0 },
                    output: text("p.mp4"),
                }),
            }),
        ),
        (
            "shots",
            JobKind::Shots(Shots {
                blend: text("/p/a.blend"),
                needs: needs(),
                settings: settings(),
                chunk: 1,
                shots: vec![shot()],
            }),
        ),
        ("noop", JobKind::Noop(Noop { tasks: 9, millis: 1 })),
    ] {
        let submission = Submission {
            name: text("a.blend"),
            priority: text("50"),
            policy: Policy::default(),
            manifest: Some(hash()),
            queue_anyway: true,
            tags: [text("big")].into(),
            kind,
        };
        call(
            &format!("submit, {name}"),
            Request::Submit { submission: Box::new(submission), key: SubmissionKey([7; 16]) },
        );
    }
    golden.pin("watch the farm", Open::Watch(WatchRequest::Farm));
    golden.pin("watch the outputs", Open::Watch(WatchRequest::Outputs));
    golden.pin("watch a job", Open::Watch(WatchRequest::Job { job: JobId(7), outputs_after: 3 }));
    let states = WatchRequest::States { job: JobId(7), outputs_after: 3 };
    golden.pin("watch a job's states", Open::Watch(states));
    let enrol = EnrolRequest { token: [7; 16], name: text("host"), csr: vec![1, 2] };
    golden.pin("enrol", enrol);
    let enrolled =
        EnrolReply::Enrolled { role: Role::Agent, farm: text("f"), certificate: vec![3] };
    golden.pin("enrolled", enrolled);
    golden.pin("not enrolled", EnrolReply::Refused(refusal()));
    insta::assert_snapshot!(golden.0);
}

#[test]
fn what_clients_are_told() {
    let mut golden = Golden::default();
    let counts = TaskCounts {
        total: 6,
        waiting: 1,
        ready: 1,
        running: 1,
        completed: 1,
        failed: 1,
        canceled: 1,
    };
    let job = JobView {
        id: JobId(7),
        name: text("a.blend"),
        kind: text("animation"),
        submitter: text("ada"),
        state: JobState::Active,
        step: Some(text("render")),
        priority: text("50"),
        reason: Some("why".into()),
        submitted_at: Millis(1000),
        ended_at: None,
        kept: true,
        tags: [text("big"), text("night")].into(),
        progress: JobProgress {
            tasks: counts,
            frames_total: 6,
            frames_done: 1,
            fraction: 0.25,
            frames_per_minute: 2.0,
            seconds_left: Some(60),
            outputs: 1,
            output_bytes: 1000,
        },
    };
    let shown = TaskProgressView {
        stage: Stage::Loading,
        fraction: 0.5,
        frame: 12,
        sample: 8,
        samples: 16,
        memory_mib: 212,
        seconds: 3.5,
    };
    let task = TaskView {
        step: StepIndex(0),
        task: TaskIndex(3),
        label: "frame 12".into(),
        state: TaskState::Running,
        agent: Some(text("host")),
        device: Some(1),
        progress: Some(shown),
        failures: vec![FailureView {
            agent: text("host"),
            kind: FailureKind::Host,
            reason: "disk full".into(),
            at: Millis(1000),
        }],
    };
    let step = StepView {
        name: text("render"),
        after: vec![StepIndex(0)],
        optional: true,
        tasks: counts,
        skipped: Some("why".into()),
    };
    let agent = AgentView {
        id: AgentId(Uuid::from_u128(5)),
        name: text("host"),
        state: AgentState::Online,
        software: "0.1.0".into(),
        runtimes: Vec::new(),
        devices: Vec::new(),
        ffmpeg: true,
        load: HostLoad::default(),
        tasks: 2,
        last_seen: Millis(1000),
        device_states: vec![device_state()],
        tags: [text("big"), text("night")].into(),
        schedule: Some(text("mon-fri 19:00-07:00, sat-sun")),
    };
    let farm = FarmView {
        farm: text("f"),
        software: "0.1.0".into(),
        epoch: Epoch(2),
        agents_online: 1,
        jobs_open: 1,
        tasks_running: 1,
        fraction: 0.25,
        frames_per_minute: 2.0,
        seconds_left: None,
        storage_full: None,
    };
    let output = OutputView { cursor: 9, step: StepIndex(0), task: TaskIndex(3), output: output() };
    let log = LogView {
        cursor: 9,
        step: StepIndex(0),
        task: TaskIndex(3),
        agent: text("host"),
        failed: true,
        at: Millis(1000),
        text: "log".into(),
    };
    let token =
        JoinToken { join: "grange://…".into(), role: Role::Admin, expires_at: Millis(1000) };
    let detail = JobDetail {
        job: job.clone(),
        steps: vec![step],
        tasks: vec![task.clone()],
        cost: JobCost { total_ms: 4_000, render_ms: 3_000, load_ms: 500, saved_ms: 1_500 },
    };
    golden.pin("missing blobs", Response::MissingBlobs(vec![hash()]));
    golden.pin("submitted", Response::Submitted(JobId(7)));
    golden.pin("jobs", Response::Jobs(vec![job.clone()]));
    golden.pin("job", Response::Job(Box::new(detail)));
    golden.pin("done", Response::Done);
    golden.pin("agents", Response::Agents(vec![agent.clone()]));
    golden.pin("outputs", Response::Outputs(Page { rows: vec![output.clone()], next: Some(9) }));
    golden.pin("logs", Response::Logs(Page { rows: vec![log], next: None }));
    golden.pin("token", Response::Token(token));
    golden.pin("farm", Response::Farm(farm.clone()));
    golden.pin("refused", Response::Refused(refusal()));
    let footprint = FootprintView {
        file: "a.blend".into(),
        scene: Some(text("Scene")),
        view_layer: None,
        device: DeviceKind::Cuda,
        pixels: 2_097_152,
        plain: Some(memory()),
        kept: None,
        margin_percent: 10,
        load_ms: 70,
        frame_ms: 900,
        frames: 12,
        out_of_memory: 1,
    };
    golden.pin("footprints", Response::Footprints(vec![footprint]));
    let why = DecisionView { agent: text("host"), device: text("RTX"), decision: decision() };
    golden.pin("decisions", Response::Decisions(vec![why]));
    let (name, role, expires_at) = (text("ada"), Role::Submitter, Millis(900));
    let connect = "grange+https://…".into();
    golden.pin("API token", Response::ApiToken(ApiToken { connect, name, role, expires_at }));
    let (name, created_at) = (text("ada"), Millis(7));
    let view = ApiTokenView { name, role, created_at, expires_at };
    golden.pin("API tokens", Response::ApiTokens(vec![view]));
    let (url, role) = ("https://h/#link=00".into(), Role::Viewer);
    golden.pin("page link", Response::PageLink(PageLink { url, role, expires_at }));
    let happened = HistoryView {
        cursor: 300,
        at: Millis(1000),
        kind: HistoryKind::WebhookGaveUp,
        job: Some(JobId(7)),
        agent: Some(AgentId(Uuid::from_u128(5))),
        subject: "host".into(),
        text: "is online".into(),
    };
    let page = Page { rows: vec![happened.clone()], next: Some(300) };
    golden.pin("history", Response::History(page));
    let member = MemberView {
        id: AgentId(Uuid::from_u128(5)),
        name: text("ada@desk"),
        role: Role::Admin,
        joined_at: Millis(1000),
    };
    golden.pin("members", Response::Members(vec![member]));
    golden.pin("watch: farm", Ok::<_, Refusal>(WatchEvent::Farm(farm)));
    golden.pin("watch: job", Ok::<_, Refusal>(WatchEvent::Job(job)));
    golden.pin("watch: task", Ok::<_, Refusal>(WatchEvent::Task { job: JobId(7), task }));
    golden.pin("watch: output", Ok::<_, Refusal>(WatchEvent::Output { job: JobId(7), output }));
    golden.pin("watch: agent", Ok::<_, Refusal>(WatchEvent::Agent(agent)));
    golden.pin("watch: caught up", Ok::<_, Refusal>(WatchEvent::CaughtUp));
    golden.pin("watch: job gone", Ok::<_, Refusal>(WatchEvent::JobGone(JobId(7))));
    let gone = AgentId(Uuid::from_u128(5));
    golden.pin("watch: agent gone", Ok::<_, Refusal>(WatchEvent::AgentGone(gone)));
    let (step, first, states) = (StepIndex(1), TaskIndex(3), "ccr".into());
    let states = WatchEvent::States { job: JobId(7), step, first, states };
    golden.pin("watch: states", Ok::<_, Refusal>(states));
    golden.pin("watch: happened", Ok::<_, Refusal>(WatchEvent::Happened(happened)));
    golden.pin("watch: anew", Ok::<_, Refusal>(WatchEvent::Anew));
    golden.pin("watch: refused", Err::<WatchEvent, _>(refusal()));
    insta::assert_snapshot!(golden.0);
}
