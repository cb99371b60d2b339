//! Sessions as stories.

use grange_blender::instance::SessionFrame;
use grange_protocol::job::SessionWork;
use grange_protocol::session::{CallNumber, Raised};
use serde_json::json;

use super::super::event::{Reply, Said};
use super::super::session::{Wanted, What};
use super::*;

impl Story {
    /// Session 1 of scene `x`, with its instance.
    fn session(instances: Instances) -> Self {
        let setup = Setup {
            name: label("gpu"),
            kind: DeviceKind::Cuda,
            memory_mib: 24_000,
            slots: 1,
            instances,
            cores: 0,
        };
        let mut story = Self::on(setup);
        assert_eq!(story.after(assign_session(1, "x")), ["prepare x"]);
        assert_eq!(story.after(Event::SceneReady(scene("x"))), ["start 1 for x"]);
        assert_eq!(story.after(up(1)), ["open x in 1"]);
        assert_eq!(story.after(opened(1)), ["open session 1"]);
        story
    }
}

fn one() -> Instances {
    Instances::Fixed(1.try_into().unwrap())
}

pub(super) fn assign_session(number: u64, name: &str) -> Event {
    let Event::Assigned(mut assignment) = assign(number, name, "1") else { unreachable!() };
    let TaskWork::Render(render) = assignment.work else { unreachable!() };
    assignment.work = TaskWork::Session(SessionWork { render, idle_s: 60 });
    Event::Assigned(assignment)
}

fn call(number: u64, name: &str) -> Event {
    call_of(1, number, name)
}

pub(super) fn call_of(session: u64, number: u64, name: &str) -> Event {
    let what = What::Operation { name: name.into(), arguments: json!({}) };
    Event::Called { lease: lease(session), wanted: Wanted { number: CallNumber(number), what } }
}

fn call_for_frame(number: u64, frame: i32) -> Event {
    frame_of(1, number, frame)
}

pub(super) fn frame_of(of: u64, number: u64, frame: i32) -> Event {
    let Event::Assigned(assignment) = assign(1, "x", "1") else { unreachable!() };
    let TaskWork::Render(render) = assignment.work else { unreachable!() };
    let session = SessionFrame { number: frame.to_string() };
    let what = What::Frame { frame, shot: Box::new(render.shots[0].clone()), session };
    Event::Called { lease: lease(of), wanted: Wanted { number: CallNumber(number), what } }
}

fn gave(value: serde_json::Value) -> Event {
    gave_in(1, value)
}

pub(super) fn gave_in(instance: u32, value: serde_json::Value) -> Event {
    let said = Said { value, ..Said::default() };
    let reply = Reply { said, ..Reply::default() };
    let instance = InstanceId(instance);
    Event::Answered { instance, answer: Box::new(Ok(reply)), log: String::new() }
}

fn stored_for(call: u64, value: serde_json::Value) -> Event {
    let reply = Some((CallNumber(call), Said { value, ..Said::default() }));
    Event::Stored { lease: lease(1), reply, outputs: vec![output()] }
}

const NOTHING: [&str; 0] = [];

#[test]
fn calls_are_done_one_after_the_other_and_files_travel_meanwhile() {
    let mut story = Story::session(one());
    assert_eq!(story.after(call(1, "ping")), ["call ping in 1"]);
    assert_eq!(story.after(call_for_frame(2, 7)), NOTHING);
    assert_eq!(story.after(call(3, "look")), NOTHING);
    let told = story.after(gave(json!(5)));
    assert_eq!(told, ["tell session 1: call 1 gave 5", "render 7 of task 1 in 1"]);
    assert_eq!(story.after(rendered(1, 7)), ["store 1 file of task 1", "call look in 1"]);
    assert_eq!(story.after(gave(json!(null))), ["tell session 1: call 3 gave null"]);
    assert_eq!(
        story.after(stored_for(2, json!({"seconds": 1}))),
        [
            "tell session 1: f.png of call 2 is stored",
            "tell session 1: call 2 gave {\"seconds\":1}"
        ]
    );
    // Whoever drives it may take their time.
    assert_eq!(story.wait(10 * 3_600_000), NOTHING);
}

#[test]
fn a_session_that_is_closed_finishes_what_is_wanted_and_leaves_no_instance() {
    let mut story = Story::session(one());
    story.after(call_for_frame(1, 7));
    story.after(call(2, "ping"));
    assert_eq!(story.after(Event::SessionClosed(lease(1))), NOTHING);
    let refused = "tell session 1: call 3 raised RuntimeError: the session is over";
    assert_eq!(story.after(call(3, "ping")), [refused]);
    assert_eq!(story.after(rendered(1, 7)), ["store 1 file of task 1", "call ping in 1"]);
    assert_eq!(
        story.after(gave(json!(null))),
        ["tell session 1: call 2 gave null", "quit 1", "close session 1"]
    );
    let told = story.after(stored_for(1, json!(1)));
    assert_eq!(told.last().unwrap(), "task 1 completed, 1 outputs");
}

#[test]
fn what_goes_wrong_in_a_call_is_the_callers_and_the_session_goes_on() {
    let mut story = Story::session(one());
    story.after(call(1, "ping"));
    let answer = Box::new(Err(Raised::new("ValueError", "no")));
    let raised = Event::Answered { instance: InstanceId(1), answer, log: String::new() };
    assert_eq!(story.after(raised), ["tell session 1: call 1 raised ValueError: no"]);
    story.after(call_for_frame(2, 7));
    let failure = Failure::new(FailureKind::Scene, "no camera");
    let failed = Event::RenderFailed { instance: InstanceId(1), failure, log: String::new() };
    assert_eq!(story.after(failed), ["tell session 1: call 2 raised RuntimeError: no camera"]);
    story.after(call_for_frame(3, 7));
    story.after(rendered(1, 7));
    let failure = Some(Failure::new(FailureKind::Output, "cut short"));
    let not = Event::NotStored { lease: lease(1), call: Some(CallNumber(3)), failure };
    assert_eq!(story.after(not), ["tell session 1: call 3 raised OSError: cut short"]);
    assert_eq!(story.after(call(4, "ping")), ["call ping in 1"]);
}

#[test]
fn the_end_of_the_instance_is_the_end_of_the_session() {
    let mut story = Story::session(one());
    story.after(call(1, "ping"));
    let failure = Failure::new(FailureKind::Crash, "Blender crashed");
    let gone = Event::InstanceGone { instance: InstanceId(1), failure, log: String::new() };
    assert_eq!(
        story.after(gone),
        [
            "tell session 1: over: Blender crashed",
            "close session 1",
            "kill 1",
            "task 1 failed: Blender crashed",
            "release x"
        ]
    );
}

#[test]
fn a_canceled_session_ends_at_once() {
    let mut story = Story::session(one());
    story.after(call_for_frame(1, 7));
    assert_eq!(
        story.after(Event::Revoked(lease(1))),
        [
            "kill 1",
            "tell session 1: over: the session was canceled",
            "close session 1",
            "task 1 canceled"
        ]
    );
}

#[test]
fn work_makes_room_for_a_session_when_its_frame_is_done() {
    let mut story = Story::new(1);
    story.after(assign(1, "x", "1-9"));
    story.after(Event::SceneReady(scene("x")));
    story.after(up(1));
    story.after(opened(1));
    story.after(assign(2, "x", "1"));
    story.after(assign_session(3, "y"));
    assert_eq!(story.after(Event::SceneReady(scene("y"))), NOTHING);
    for frame in 1..9 {
        story.after(rendered(1, frame));
    }
    assert_eq!(story.after(rendered(1, 9)), ["store 1 file of task 1", "quit 1"]);
    let failure = Failure::new(FailureKind::Other, "stopped");
    let gone = Event::InstanceGone { instance: InstanceId(1), failure, log: String::new() };
    assert_eq!(story.after(gone), ["start 2 for y"]);
}

#[test]
fn a_session_that_renders_nothing_leaves_half_of_the_device() {
    let mut story = Story::session(Instances::Auto);
    assert_eq!(story.after(assign_session(2, "y")), ["prepare y"]);
    assert_eq!(story.after(Event::SceneReady(scene("y"))), ["start 2 for y"]);
    story.after(up(2));
    story.after(opened(2));
    assert_eq!(story.after(assign_session(3, "x")), NOTHING);
    assert_eq!(story.wait(60_000), NOTHING);
}

#[test]
fn sessions_run_side_by_side_where_memory_is_known_to_allow_it() {
    let mut story = Story::session(Instances::Auto);
    story.after(call_for_frame(1, 7));
    assert_eq!(story.after(assign_session(2, "x")), ["start 2 for x"]);
    assert_eq!(story.after(assign_session(3, "x")), NOTHING);
    let mut frame = rendered(1, 7);
    if let Event::Rendered { frame, .. } = &mut frame {
        (frame.device_peak_mib, frame.peak_mib, frame.pixels) = (Some(1_000), 1_000, 100);
    }
    assert_eq!(story.after(frame), ["store 1 file of task 1", "start 3 for x"]);
}
