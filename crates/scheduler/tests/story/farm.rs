//! A farm of nothing but the core. Agents are letters, tasks are `job/step/task`, and what the
//! core wants is told in short lines, so that a story asserts all of it.

use std::collections::BTreeMap;

use grange_protocol::agent::{
    AgentHello, Completed, DeviceInfo, DeviceKind, Failure, FailureKind, Holding, Outcome,
    RuntimeInfo,
};
use grange_protocol::client::{AgentAction, JobAction, Role};
use grange_protocol::file::{Blob, Output, OutputRole};
use grange_protocol::job::{
    Engine, FrameRate, NoopWork, Policy, RenderSettings, RenderWork, SceneNeeds, StepSpec,
    VideoWork, Work,
};
use grange_protocol::view::{JobState, TaskState};
use grange_protocol::{
    AgentId, BlenderVersion, BlobHash, FrameSet, JobId, JobSpec, LeaseId, Millis, Shot, StepIndex,
    TaskIndex, TaskRef,
};
use grange_scheduler::{
    Answer, Command, Core, Event, Once, Recorded, RequestId, State, Timing, TokenHash,
};
use uuid::Uuid;

pub(crate) struct Farm {
    pub(crate) core: Core,
    pub(crate) now: Millis,
    pub(crate) journal: Vec<Recorded>,
    requests: u64,
    hellos: BTreeMap<char, AgentHello>,
}

/// What the core wanted after an event.
#[must_use = "a story asserts all that the core wants"]
pub(crate) struct Told(Vec<String>);

impl Told {
    #[track_caller]
    pub(crate) fn expects<const N: usize>(self, lines: [&str; N]) {
        assert_eq!(self.0, lines.map(str::to_owned).to_vec());
    }

    #[track_caller]
    pub(crate) fn expects_nothing(self) {
        self.expects([]);
    }

    /// For steps of a story that another one asserts.
    pub(crate) fn whatever(self) -> Vec<String> {
        self.0
    }
}

impl Farm {
    pub(crate) fn new() -> Self {
        Self::with(Timing::default())
    }

    pub(crate) fn with(timing: Timing) -> Self {
        let now = Millis(1_000_000);
        let core = Core::start(State::default(), now, timing);
        let mut farm =
            Self { core, now, journal: Vec::new(), requests: 0, hellos: BTreeMap::new() };
        farm.drain().whatever();
        farm
    }

    /// The coordinator dies here and starts again from its journal.
    pub(crate) fn restart(&mut self) {
        let mut state = State::default();
        for fact in &self.journal {
            state.apply(fact).unwrap();
        }
        assert_eq!(&state, self.core.state(), "replay gives another state");
        self.core = Core::start(state, self.now, Timing::default());
        self.drain().whatever();
    }

    pub(crate) fn after(&mut self, event: Event) -> Told {
        self.core.handle(self.now, event);
        self.drain()
    }

    /// Time passes, with a tick at every deadline on the way.
    pub(crate) fn wait(&mut self, millis: u64) -> Told {
        let end = self.now + millis;
        let mut told = Vec::new();
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= end) {
            assert!(at > self.now, "a deadline that does not advance");
            self.now = at;
            told.extend(self.after(Event::Tick).0);
        }
        self.now = end;
        told.extend(self.after(Event::Tick).0);
        Told(told)
    }

    fn drain(&mut self) -> Told {
        self.journal.extend(self.core.take_facts());
        let mut told = Vec::new();
        while let Some(command) = self.core.next_command() {
            told.push(self.tell(command));
        }
        self.core.take_changes();
        assert_eq!(self.core.check_invariants(), Vec::<String>::new());
        Told(told)
    }

    fn tell(&self, command: Command) -> String {
        match command {
            Command::Welcome { agent, drop, .. } if drop.is_empty() => {
                format!("{} is welcome", letter(agent))
            }
            Command::Welcome { agent, drop, .. } => {
                let drop: Vec<String> = drop.iter().map(ToString::to_string).collect();
                format!("{} is welcome and drops {}", letter(agent), drop.join(" "))
            }
            Command::Assign { agent, assignment } => {
                format!("{} gets {}", letter(agent), assignment.task)
            }
            Command::Recall { agent, lease } => {
                format!("{} is asked for {}", letter(agent), self.task_of(lease))
            }
            Command::Revoke { agent, lease } => {
                format!("{} stops {}", letter(agent), self.task_of(lease))
            }
            Command::Dismiss { agent } => format!("{} is dismissed", letter(agent)),
            Command::Settle { agent, .. } => format!("{} may forget", letter(agent)),
            Command::Answer { answer: Answer::Refused(refusal), .. } => {
                format!("no: {}", refusal.message)
            }
            Command::Answer { answer, .. } => format!("{answer:?}"),
        }
    }

    fn task_of(&self, lease: LeaseId) -> TaskRef {
        self.core.leases().get(lease).expect("a lease in a command exists").task
    }

    pub(crate) fn join(&mut self, name: char, slots: u16) -> Told {
        self.join_as(hello(name, slots))
    }

    pub(crate) fn join_as(&mut self, hello: AgentHello) -> Told {
        let name = hello.name.as_str().chars().next().unwrap();
        self.hellos.insert(name, hello.clone());
        self.after(Event::AgentJoined { agent: agent(name), hello: Box::new(hello) })
    }

    /// The agent connects again and says what it holds.
    pub(crate) fn rejoin(&mut self, name: char, holding: &[(LeaseId, TaskRef)]) -> Told {
        let mut hello = self.hellos[&name].clone();
        hello.holding = holding
            .iter()
            .map(|(lease, task)| Holding { lease: *lease, task: *task, device: 0 })
            .collect();
        self.join_as(hello)
    }

    pub(crate) fn gone(&mut self, name: char) -> Told {
        self.after(Event::AgentGone { agent: agent(name) })
    }

    pub(crate) fn submit(&mut self, spec: JobSpec) -> Told {
        self.submit_once(spec, None)
    }

    pub(crate) fn submit_once(&mut self, spec: JobSpec, once: Option<Once>) -> Told {
        self.submit_with(spec, &[], once)
    }

    pub(crate) fn submit_tagged(&mut self, spec: JobSpec, tags: &[&str]) -> Told {
        self.submit_with(spec, tags, None)
    }

    fn submit_with(&mut self, spec: JobSpec, tags: &[&str], once: Option<Once>) -> Told {
        let request = self.request();
        let (submitter, spec) = (label("ada"), Box::new(spec));
        let tags = tags.iter().map(|tag| label(tag)).collect();
        self.after(Event::Submit { request, submitter, spec, queue_anyway: false, tags, once })
    }

    /// The agent joins with a token of its own, and is a member.
    pub(crate) fn enrol(&mut self, name: char, slots: u16) {
        let token = TokenHash::of(&[name as u8; 16]);
        let (request, expires_at) = (self.request(), self.now + 60_000);
        self.after(Event::CreateToken { request, token, role: Role::Agent, expires_at }).whatever();
        let (request, identity) = (self.request(), agent(name));
        let name_of = label(&name.to_string());
        self.after(Event::Enrol { request, token, identity, name: name_of }).whatever();
        self.join(name, slots).whatever();
    }

    /// These are to sleep now, and no others.
    pub(crate) fn falls_asleep(&mut self, names: &[char]) -> Told {
        let request = self.request();
        let agents = names.iter().map(|name| agent(*name)).collect();
        self.after(Event::Asleep { request, agents })
    }

    pub(crate) fn act_on_agent(&mut self, name: char, action: AgentAction) -> Told {
        let request = self.request();
        self.after(Event::ActOnAgent { request, agent: agent(name), action })
    }

    pub(crate) fn act(&mut self, job: u32, action: JobAction) -> Told {
        let request = self.request();
        self.after(Event::Act { request, job: JobId(job), action })
    }

    /// The agent ends its attempt at the task, after committing one output if it is a render.
    pub(crate) fn completes(&mut self, name: char, at: &str) -> Told {
        let outputs = if self.is_render(task(at)) { 1 } else { 0 };
        if outputs == 1 {
            let told = self.commits(name, at, &format!("{at}.png")).whatever();
            assert_eq!(told[0], "Committed");
        }
        self.ends(
            name,
            at,
            Outcome::Completed(Completed {
                outputs,
                total_ms: 7,
                render_ms: 5,
                load_ms: 0,
                peak_mib: 9,
            }),
        )
    }

    pub(crate) fn fails(&mut self, name: char, at: &str, kind: FailureKind) -> Told {
        self.ends(name, at, Outcome::Failed(Failure::new(kind, format!("{kind:?} on {name}"))))
    }

    pub(crate) fn ends(&mut self, name: char, at: &str, outcome: Outcome) -> Told {
        let lease = self.lease(at);
        self.ends_lease(name, lease, at, outcome)
    }

    pub(crate) fn ends_lease(
        &mut self,
        name: char,
        lease: LeaseId,
        at: &str,
        outcome: Outcome,
    ) -> Told {
        self.after(Event::Ended { agent: agent(name), lease, task: task(at), outcome })
    }

    pub(crate) fn commits(&mut self, name: char, at: &str, output: &str) -> Told {
        let lease = self.lease(at);
        self.commits_under(name, lease, at, output, b"pixels")
    }

    pub(crate) fn commits_under(
        &mut self,
        name: char,
        lease: LeaseId,
        at: &str,
        output: &str,
        bytes: &[u8],
    ) -> Told {
        let request = self.request();
        let output = Output {
            name: output.parse().unwrap(),
            role: OutputRole::Frame,
            frame: 1,
            blob: Blob { hash: BlobHash::of(bytes), len: bytes.len() as u64 },
        };
        self.after(Event::OutputReceived {
            request,
            agent: agent(name),
            lease,
            task: task(at),
            output,
        })
    }

    /// The lease that may commit the task's outputs.
    #[track_caller]
    pub(crate) fn lease(&self, at: &str) -> LeaseId {
        self.core.leases().of_task(task(at)).unwrap_or_else(|| panic!("task {at} is not running")).0
    }

    pub(crate) fn job_state(&self, job: u32) -> JobState {
        self.core.job_state(JobId(job)).unwrap()
    }

    pub(crate) fn task_state(&self, at: &str) -> TaskState {
        self.core.task_state(task(at)).unwrap()
    }

    pub(crate) fn reason(&self, job: u32) -> String {
        match &self.core.state().jobs[&JobId(job)].phase {
            grange_scheduler::Phase::Failed { reason, .. } => reason.clone(),
            other => panic!("job {job} has not failed: {other:?}"),
        }
    }

    pub(crate) fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn is_render(&self, task: TaskRef) -> bool {
        let job = &self.core.state().jobs[&task.job];
        matches!(job.spec.step(task.step).unwrap().work, Work::Render(_))
    }
}

pub(crate) fn label<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is bad"))
}

pub(crate) fn agent(name: char) -> AgentId {
    AgentId(Uuid::from_u128(name as u128))
}

fn letter(agent: AgentId) -> char {
    char::from_u32(agent.0.as_u128() as u32).unwrap()
}

/// `job/step/task`, or `job/task` of step 0.
pub(crate) fn task(at: &str) -> TaskRef {
    let numbers: Vec<u32> = at.split('/').map(|number| number.parse().unwrap()).collect();
    let (job, step, task) = match numbers[..] {
        [job, task] => (job, 0, task),
        [job, step, task] => (job, step, task),
        _ => panic!("{at} is not a task"),
    };
    TaskRef { job: JobId(job), step: StepIndex(step as u16), task: TaskIndex(task) }
}

/// An agent with a Blender 3.4 and 4.2, ffmpeg, a CPU, and no tasks ahead.
pub(crate) fn hello(name: char, slots: u16) -> AgentHello {
    let runtime = |version: &str| RuntimeInfo {
        version: label(version),
        full_version: version.into(),
        path: "/usr/bin/blender".into(),
        engines: [Engine::Cycles].into(),
        denoiser: true,
    };
    AgentHello {
        name: label(&name.to_string()),
        software: "test".into(),
        runtimes: vec![runtime("3.4"), runtime("4.2")],
        devices: vec![DeviceInfo {
            id: label("cpu"),
            name: label("CPU"),
            kind: DeviceKind::Cpu,
            memory_mib: 1000,
            slots,
            driver: label(""),
        }],
        ffmpeg: true,
        ahead: 0,
        holding: Vec::new(),
    }
}

/// A job of no-op tasks.
pub(crate) fn noops(tasks: u32) -> JobSpec {
    job(vec![step("noop", Work::Noop(NoopWork { tasks, millis: 0 }))])
}

/// A job that renders frames 1 to `frames` of a scene.
pub(crate) fn frames(scene: &str, frames: i32) -> JobSpec {
    let mut spec = job(vec![step("render", render(frames))]);
    spec.manifest = Some(BlobHash::of(scene.as_bytes()));
    spec
}

/// The same with a preview video.
pub(crate) fn animation(scene: &str, count: i32) -> JobSpec {
    let mut spec = frames(scene, count);
    let video = VideoWork {
        source: StepIndex(0),
        fps: FrameRate { fps: 24, base: 1.0 },
        output: label("preview.mp4"),
    };
    spec.steps.push(StepSpec {
        after: vec![StepIndex(0)],
        optional: true,
        ..step("preview", Work::Video(video))
    });
    spec
}

pub(crate) fn job(steps: Vec<StepSpec>) -> JobSpec {
    JobSpec {
        name: label("shot.blend"),
        kind: label("test"),
        priority: label("50"),
        manifest: None,
        policy: Policy::default(),
        steps,
    }
}

pub(crate) fn step(name: &str, work: Work) -> StepSpec {
    StepSpec { name: label(name), after: Vec::new(), optional: false, work }
}

pub(crate) fn render(frames: i32) -> Work {
    Work::Render(RenderWork {
        blend: label("/p/shot.blend"),
        needs: SceneNeeds {
            saved_by: BlenderVersion::new(3, 4),
            engines: [Engine::Cycles].into(),
            denoiser: false,
        },
        settings: RenderSettings::default(),
        chunk: 1,
        shots: vec![Shot {
            name: label(""),
            scene: None,
            view_layer: None,
            camera: None,
            frames: FrameSet::range(1, frames, 1).unwrap(),
            resolution: None,
            samples: None,
            output: label("####"),
            extras: None,
        }],
    })
}
