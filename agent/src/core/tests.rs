//! The agent's core, told as stories: what happens, and exactly what it wants done.

mod session;
mod sizing;

use grange_protocol::agent::{Assignment, DeviceKind, Failure, FailureKind, FromAgent, Outcome};
use grange_protocol::file::{Blob, Output, OutputRole};
use grange_protocol::job::{NoopWork, RenderSettings, RenderWork, SceneNeeds, TaskWork};
use grange_protocol::session::{CallAnswer, FromSession};
use grange_protocol::shot::Label;
use grange_protocol::{
    BlenderVersion, BlobHash, Epoch, FrameSet, JobId, LeaseId, Millis, Shot, StepIndex, TaskIndex,
    TaskRef,
};
use proptest::prelude::*;

use super::device::Setup;
use super::event::{Frame, RenderedFile, Sign};
use super::instance::{Activity, Instance};
use super::{Command, Core, Event, InstanceId, Patience};
use crate::devices::Instances;

struct Story {
    core: Core,
    now: Millis,
}

impl Story {
    fn new(slots: u16) -> Self {
        let instances = Instances::Fixed(slots.try_into().unwrap());
        let setup = Setup {
            name: label("gpu"),
            kind: DeviceKind::Cuda,
            memory_mib: 24_000,
            slots,
            instances,
            cores: 0,
        };
        Self::on(setup)
    }

    fn on(setup: Setup) -> Self {
        Self { core: Core::new(&[setup], Patience::default()), now: Millis(1_000_000) }
    }

    fn after(&mut self, event: Event) -> Vec<String> {
        self.core.handle(self.now, event);
        self.told()
    }

    fn wait(&mut self, millis: u64) -> Vec<String> {
        let end = self.now + millis;
        let mut told = Vec::new();
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            told.extend(self.after(Event::Tick));
        }
        self.now = end;
        told.extend(self.after(Event::Tick));
        told
    }

    /// What the core wants, without progress.
    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(command) = self.core.next_command() {
            told.extend(tell(command));
        }
        assert_eq!(self.core.check_invariants(), Vec::<String>::new());
        told
    }

    /// An instance that has rendered frame 1 of task 1 of scene `x`.
    fn warm(slots: u16) -> Self {
        let mut story = Self::new(slots);
        assert_eq!(story.after(assign(1, "x", "1")), ["prepare x"]);
        assert_eq!(story.after(Event::SceneReady(scene("x"))), ["start 1 for x"]);
        assert_eq!(story.after(up(1)), ["open x in 1"]);
        assert_eq!(story.after(opened(1)), ["render 1 of task 1 in 1"]);
        assert_eq!(story.after(rendered(1, 1)), ["store 1 file of task 1"]);
        story
    }
}

fn tell(command: Command) -> Option<String> {
    let name =
        |hash: BlobHash| ["x", "y"].into_iter().find(|name| scene(name) == hash).unwrap_or("?");
    Some(match command {
        Command::PrepareScene(hash) => format!("prepare {}", name(hash)),
        Command::ReleaseScene(hash) => format!("release {}", name(hash)),
        Command::StartInstance(start) => {
            format!("start {} for {}", start.instance.0, name(start.manifest))
        }
        Command::OpenScene { instance, manifest, .. } => {
            format!("open {} in {}", name(manifest), instance.0)
        }
        Command::Render(order) => {
            format!("render {} of task {} in {}", order.frame, order.lease.number, order.instance.0)
        }
        Command::Call { instance, operation, .. } => {
            format!("call {operation} in {}", instance.0)
        }
        Command::OpenSession(open) => format!("open session {}", open.lease.number),
        Command::TellSession(lease, message) => {
            let told = match message {
                FromSession::Progress { .. } => return None,
                FromSession::Stored { call, output } => {
                    format!("{} of call {} is stored", output.name, call.0)
                }
                FromSession::Answered { call, answer: CallAnswer::Returned { value, .. } } => {
                    format!("call {} gave {}", call.0, String::from_utf8_lossy(&value))
                }
                FromSession::Answered { call, answer: CallAnswer::Raised(raised) } => {
                    format!("call {} raised {}: {}", call.0, raised.kind, raised.message)
                }
                FromSession::Ended { reason } => format!("over: {reason}"),
            };
            format!("tell session {}: {told}", lease.number)
        }
        Command::CloseSession(lease) => format!("close session {}", lease.number),
        Command::CancelRender(instance) => format!("cancel in {}", instance.0),
        Command::Quit(instance) => format!("quit {}", instance.0),
        Command::Kill(instance) => format!("kill {}", instance.0),
        Command::Store { lease, frame, .. } => {
            format!("store {} file of task {}", frame.files.len(), lease.number)
        }
        Command::Discard(_) => "discard".into(),
        Command::StopStoring(lease) => format!("stop storing task {}", lease.number),
        Command::Work(assignment) => format!("work on task {}", assignment.lease.number),
        Command::StopWork(lease) => format!("stop work on task {}", lease.number),
        Command::Tell(
            FromAgent::Progress(_)
            | FromAgent::Heartbeat(_)
            | FromAgent::Devices(_)
            | FromAgent::Measured(_)
            | FromAgent::Decided(_),
        ) => return None,
        Command::Tell(FromAgent::Ended(ended)) => match ended.outcome {
            Outcome::Completed(done) => {
                format!("task {} completed, {} outputs", ended.lease.number, done.outputs)
            }
            Outcome::Failed(failure) => {
                format!("task {} failed: {}", ended.lease.number, failure.reason)
            }
            Outcome::Canceled => format!("task {} canceled", ended.lease.number),
        },
        Command::Tell(FromAgent::Returned(leases)) => {
            let tasks: Vec<String> = leases.iter().map(|lease| lease.number.to_string()).collect();
            format!("give back task {}", tasks.join(" "))
        }
        Command::Tell(FromAgent::Draining) => "draining".into(),
        Command::Note { .. } => return None,
    })
}

fn label(name: &str) -> Label {
    name.parse().unwrap()
}

fn output() -> Output {
    let blob = Blob { hash: BlobHash::of(b"x"), len: 1 };
    Output { name: "f.png".parse().unwrap(), role: OutputRole::Frame, frame: 1, blob }
}

fn lease(number: u64) -> LeaseId {
    LeaseId { epoch: Epoch(1), number }
}

fn scene(name: &str) -> BlobHash {
    BlobHash::of(name.as_bytes())
}

fn assign(number: u64, name: &str, frames: &str) -> Event {
    let shot = Shot {
        name: "".parse().unwrap(),
        scene: None,
        view_layer: None,
        camera: None,
        frames: frames.parse::<FrameSet>().unwrap(),
        resolution: None,
        samples: None,
        output: "####".parse().unwrap(),
        extras: None,
    };
    let needs = SceneNeeds {
        saved_by: BlenderVersion::new(3, 4),
        engines: Default::default(),
        denoiser: false,
    };
    let work = RenderWork {
        blend: "/p/x.blend".parse().unwrap(),
        needs,
        settings: RenderSettings::default(),
        chunk: 1,
        shots: vec![shot],
    };
    assignment(number, Some(scene(name)), TaskWork::Render(work))
}

fn assign_noop(number: u64) -> Event {
    assignment(number, None, TaskWork::Noop(NoopWork { tasks: 1, millis: 0 }))
}

fn assignment(number: u64, manifest: Option<BlobHash>, work: TaskWork) -> Event {
    let task = TaskRef { job: JobId(1), step: StepIndex(0), task: TaskIndex(number as u32) };
    Event::Assigned(Box::new(Assignment {
        lease: lease(number),
        task,
        device: 0,
        manifest,
        submitter: "ada".parse().unwrap(),
        stall_s: 100,
        work,
        expected: Default::default(),
        more: 0,
    }))
}

fn up(instance: u32) -> Event {
    Event::InstanceUp {
        instance: InstanceId(instance),
        pid: Some(instance),
        blender: "4.2.0".into(),
    }
}

fn opened(instance: u32) -> Event {
    Event::Opened { instance: InstanceId(instance), warnings: Vec::new() }
}

fn rendered(instance: u32, number: i32) -> Event {
    let file = RenderedFile {
        path: "f.png".into(),
        name: "f.png".parse().unwrap(),
        role: OutputRole::Frame,
    };
    let frame = Frame { number, files: vec![file], render_ms: 5, ..Frame::default() };
    Event::Rendered { instance: InstanceId(instance), frame: Box::new(frame) }
}

fn stored(number: u64) -> Event {
    Event::Stored { lease: lease(number), reply: None, outputs: vec![output()] }
}

fn gone(instance: u32) -> Event {
    let failure = Failure::new(FailureKind::Crash, "Blender crashed");
    Event::InstanceGone { instance: InstanceId(instance), failure, log: String::new() }
}

#[test]
fn a_task_goes_from_assignment_to_settled() {
    let mut story = Story::warm(1);
    assert_eq!(story.after(stored(1)), ["task 1 completed, 1 outputs"]);
    assert_eq!(story.core.holding().len(), 1, "kept until it is settled");
    assert_eq!(story.after(Event::Settled(lease(1))), [""; 0]);
    assert_eq!(story.core.holding().len(), 0);
}

#[test]
fn the_next_task_renders_while_the_last_one_is_stored() {
    let mut story = Story::warm(1);
    assert_eq!(story.after(assign(2, "x", "2")), ["render 2 of task 2 in 1"]);
    assert_eq!(story.after(stored(1)), ["task 1 completed, 1 outputs"]);
}

#[test]
fn a_task_ahead_waits_for_the_one_instance() {
    let mut story = Story::new(1);
    story.after(assign(1, "x", "1"));
    assert_eq!(story.after(assign(2, "x", "2")), [""; 0]);
    assert_eq!(story.after(Event::SceneReady(scene("x"))), ["start 1 for x"]);
    story.after(up(1));
    story.after(opened(1));
    assert_eq!(story.after(rendered(1, 1)), ["store 1 file of task 1", "render 2 of task 2 in 1"]);
}

#[test]
fn a_chunk_renders_frame_after_frame_and_ends_when_all_are_stored() {
    let mut story = Story::new(1);
    story.after(assign(1, "x", "1-2"));
    story.after(Event::SceneReady(scene("x")));
    story.after(up(1));
    assert_eq!(story.after(opened(1)), ["render 1 of task 1 in 1"]);
    assert_eq!(story.after(rendered(1, 1)), ["render 2 of task 1 in 1", "store 1 file of task 1"]);
    assert_eq!(story.after(stored(1)), [""; 0]);
    assert_eq!(story.after(rendered(1, 2)), ["store 1 file of task 1"]);
    assert_eq!(story.after(stored(1)), ["task 1 completed, 2 outputs"]);
}

#[test]
fn another_scene_replaces_an_idle_instance() {
    let mut story = Story::warm(1);
    story.after(assign(2, "y", "1"));
    assert_eq!(story.after(Event::SceneReady(scene("y"))), ["quit 1"]);
    assert_eq!(story.after(stored(1)), ["task 1 completed, 1 outputs"]);
    assert_eq!(story.after(gone(1)), ["start 2 for y", "release x"]);
}

#[test]
fn a_revoked_render_is_canceled_and_then_killed() {
    let mut story = Story::warm(1);
    story.after(assign(2, "x", "2"));
    assert_eq!(story.after(Event::Revoked(lease(2))), ["cancel in 1", "task 2 canceled"]);
    assert_eq!(story.wait(699), [""; 0]);
    assert_eq!(story.wait(1), ["kill 1"]);
    assert_eq!(story.after(gone(1)), [""; 0]);
}

#[test]
fn a_render_that_stops_in_time_leaves_its_instance_warm() {
    let mut story = Story::warm(1);
    story.after(assign(2, "x", "2"));
    story.after(Event::Revoked(lease(2)));
    story.after(Event::RenderCanceled { instance: InstanceId(1), log: String::new() });
    assert_eq!(story.after(assign(3, "x", "3")), ["render 3 of task 3 in 1"]);
}

#[test]
fn a_render_that_was_done_before_it_could_be_canceled_is_discarded() {
    let mut story = Story::warm(1);
    story.after(assign(2, "x", "2"));
    story.after(Event::Revoked(lease(2)));
    assert_eq!(story.after(rendered(1, 2)), ["discard"]);
}

#[test]
fn a_render_without_a_sign_of_life_is_killed_and_failed() {
    let mut story = Story::warm(1);
    story.after(assign(2, "x", "2"));
    let sign = |sign| Event::Sign { instance: InstanceId(1), sign };
    assert_eq!(story.wait(90_000), [""; 0]);
    story.after(sign(Sign::Progress { fraction: 0.5, sample: 8, samples: 16, device_mib: None }));
    assert_eq!(story.wait(90_000), [""; 0]);
    story.after(sign(Sign::Memory(100)));
    assert_eq!(story.wait(60_000), [""; 0]);
    story.after(sign(Sign::Memory(100)));
    story.after(sign(Sign::Progress { fraction: 0.5, sample: 8, samples: 16, device_mib: None }));
    assert_eq!(
        story.wait(40_000),
        ["kill 1", "task 2 failed: the render hung: no sample and no change of memory for 100 s"]
    );
}

#[test]
fn a_crash_fails_the_attempt_and_the_next_one_gets_a_new_instance() {
    let mut story = Story::warm(1);
    story.after(assign(2, "x", "2"));
    assert_eq!(story.after(gone(1)), ["task 2 failed: Blender crashed"]);
    assert_eq!(story.after(assign(3, "x", "2")), ["start 2 for x"]);
}

#[test]
fn a_scene_that_cannot_be_opened_fails_all_that_wait_for_it() {
    let mut story = Story::new(1);
    story.after(assign(1, "x", "1"));
    story.after(assign(2, "x", "2"));
    story.after(Event::SceneReady(scene("x")));
    story.after(up(1));
    let failure = Failure::new(FailureKind::Scene, "x.blend is damaged");
    let event = Event::RenderFailed { instance: InstanceId(1), failure, log: String::new() };
    assert_eq!(
        story.after(event),
        ["task 1 failed: x.blend is damaged", "quit 1", "task 2 failed: x.blend is damaged"]
    );
}

#[test]
fn what_has_not_begun_is_given_back_when_asked_and_what_has_is_not() {
    let mut story = Story::warm(1);
    story.after(assign(2, "x", "2"));
    story.after(assign(3, "x", "3"));
    assert_eq!(story.after(Event::Recalled(lease(2))), [""; 0]);
    assert_eq!(story.after(Event::Recalled(lease(3))), ["give back task 3"]);
    assert_eq!(story.after(Event::Recalled(lease(3))), [""; 0]);
}

#[test]
fn a_draining_agent_finishes_and_gives_the_rest_back() {
    let mut story = Story::warm(1);
    story.after(stored(1));
    story.after(Event::Settled(lease(1)));
    story.after(assign(2, "x", "2"));
    story.after(assign(3, "x", "3"));
    assert_eq!(story.after(Event::Drain), ["draining", "give back task 3"]);
    assert_eq!(story.after(assign(4, "x", "4")), ["give back task 4"]);
    story.after(rendered(1, 2));
    story.after(stored(2));
    assert!(!story.core.is_drained());
    story.after(Event::Settled(lease(2)));
    assert!(story.core.is_drained());
}

#[test]
fn after_a_reconnection_ends_are_told_again_and_foreign_leases_dropped() {
    let mut story = Story::warm(2);
    story.after(stored(1));
    story.after(assign(2, "x", "2"));
    assert_eq!(
        story.after(Event::Welcomed { drop: vec![lease(2)] }),
        ["cancel in 1", "task 1 completed, 1 outputs"]
    );
    assert_eq!(story.core.holding().len(), 1);
}

#[test]
fn a_stale_lease_ends_the_attempt_quietly() {
    let mut story = Story::warm(1);
    let event = Event::NotStored { lease: lease(1), call: None, failure: None };
    assert_eq!(story.after(event), ["task 1 canceled"]);
}

#[test]
fn work_without_an_instance_runs_at_once() {
    let mut story = Story::new(1);
    assert_eq!(story.after(assign_noop(1)), ["work on task 1"]);
    let done =
        Event::WorkDone { lease: lease(1), result: Ok(Frame::default()), log: String::new() };
    assert_eq!(story.after(done), ["task 1 completed, 0 outputs"]);
}

#[test]
fn an_idle_instance_is_let_go_and_killed_if_it_does_not_go() {
    let mut story = Story::warm(1);
    story.after(stored(1));
    story.after(Event::Settled(lease(1)));
    assert_eq!(story.wait(120_000), ["quit 1"]);
    assert_eq!(story.wait(2_999), [""; 0]);
    assert_eq!(story.wait(1), ["kill 1"]);
    assert_eq!(story.wait(10_000), [""; 0]);
    assert_eq!(story.after(gone(1)), ["release x"]);
}

fn any_event() -> impl Strategy<Value = Event> {
    let number = 1..6u64;
    let instance = 1..5u32;
    let failure = || Failure::new(FailureKind::Crash, "it broke");
    prop_oneof![
        4 => (number.clone(), 0..2usize, 1..4i32).prop_map(|(n, s, f)| assign(n, ["x", "y"][s], &format!("1-{f}"))),
        1 => number.clone().prop_map(assign_noop),
        2 => number.clone().prop_map(|n| Event::Revoked(lease(n))),
        1 => number.clone().prop_map(|n| Event::Recalled(lease(n))),
        2 => number.clone().prop_map(|n| Event::Settled(lease(n))),
        1 => (number.clone()).prop_map(|n| Event::Welcomed { drop: vec![lease(n)] }),
        3 => (0..2usize).prop_map(|s| Event::SceneReady(scene(["x", "y"][s]))),
        1 => (0..2usize).prop_map(move |s| Event::SceneFailed(scene(["x", "y"][s]), failure())),
        4 => instance.clone().prop_map(up),
        4 => instance.clone().prop_map(opened),
        6 => (instance.clone(), 1..4i32).prop_map(|(i, f)| rendered(i, f)),
        1 => instance.clone().prop_map(move |i| Event::RenderFailed { instance: InstanceId(i), failure: failure(), log: String::new() }),
        1 => instance.clone().prop_map(|i| Event::RenderCanceled { instance: InstanceId(i), log: "l".into() }),
        2 => instance.prop_map(gone),
        4 => number.clone().prop_map(stored),
        1 => number.clone().prop_map(|n| Event::NotStored { lease: lease(n), call: None, failure: None }),
        2 => (number.clone(), 0..2usize).prop_map(|(n, s)| session::assign_session(n, ["x", "y"][s])),
        4 => (number.clone(), 1..9u64).prop_map(|(n, c)| session::call_of(n, c, "look")),
        4 => (number.clone(), 1..9u64, 1..4i32).prop_map(|(n, c, f)| session::frame_of(n, c, f)),
        1 => number.prop_map(|n| Event::SessionClosed(lease(n))),
        4 => (1..5u32).prop_map(|i| session::gave_in(i, serde_json::Value::Null)),
    ]
}

proptest! {
    #[test]
    fn events_in_any_order_do_no_harm(
        slots in 1..3u16,
        events in proptest::collection::vec((any_event(), 0..200_000u64), 1..80),
    ) {
        let mut story = Story::new(slots);
        for (event, pause) in events {
            story.after(event);
            if pause > 150_000 {
                story.wait(pause);
            }
        }
    }
}
