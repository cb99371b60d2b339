//! Who gets what, and when.

use grange_protocol::BlenderVersion;
use grange_protocol::client::JobAction;
use grange_protocol::job::{Engine, Work};
use grange_protocol::view::{JobState, TaskState};

use crate::farm::{Farm, frames, hello, label, noops};

#[test]
fn tasks_go_to_free_slots_and_then_wait() {
    let mut farm = Farm::new();
    farm.join('A', 1).expects(["A is welcome"]);
    farm.join('B', 1).expects(["B is welcome"]);
    farm.submit(noops(3)).expects(["Submitted(JobId(1))", "A gets 1/0/0", "B gets 1/0/1"]);
    assert_eq!(farm.task_state("1/2"), TaskState::Ready);
    farm.completes('B', "1/1").expects(["B may forget", "B gets 1/0/2"]);
    farm.completes('A', "1/0").expects(["A may forget"]);
    assert_eq!(farm.job_state(1), JobState::Active);
    farm.completes('B', "1/2").expects(["B may forget"]);
    assert_eq!(farm.job_state(1), JobState::Completed);
}

#[test]
fn a_job_waits_for_the_first_agent() {
    let mut farm = Farm::new();
    farm.submit(noops(1)).expects(["Submitted(JobId(1))"]);
    assert_eq!(farm.core.why_waiting(grange_protocol::JobId(1)).unwrap(), "no agent is online");
    farm.join('A', 1).expects(["A is welcome", "A gets 1/0/0"]);
}

#[test]
fn higher_priority_goes_first_and_may_change() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(noops(3)).whatever();
    farm.submit(noops(2)).expects(["Submitted(JobId(2))"]);
    farm.act(2, JobAction::SetPriority(label("80"))).expects(["Done"]);
    farm.completes('A', "1/0").expects(["A may forget", "A gets 2/0/0"]);
    farm.act(1, JobAction::SetPriority(label("100"))).expects(["Done"]);
    farm.completes('A', "2/0").expects(["A may forget", "A gets 1/0/1"]);
}

#[test]
fn jobs_of_equal_priority_share_the_farm() {
    let mut farm = Farm::new();
    for name in ['A', 'B', 'C', 'D'] {
        farm.join(name, 1).whatever();
    }
    farm.submit(noops(100)).whatever();
    farm.submit(noops(100)).expects(["Submitted(JobId(2))"]);
    farm.completes('A', "1/0").expects(["A may forget", "A gets 2/0/0"]);
    farm.completes('B', "1/1").expects(["B may forget", "B gets 2/0/1"]);
    farm.completes('C', "1/2").expects(["C may forget", "C gets 1/0/4"]);
    farm.completes('A', "2/0").expects(["A may forget", "A gets 2/0/2"]);
}

#[test]
fn an_agent_takes_tasks_ahead_only_when_no_slot_is_free() {
    let mut farm = Farm::new();
    for name in ['A', 'B'] {
        let mut agent = hello(name, 1);
        agent.ahead = 1;
        farm.join_as(agent).whatever();
    }
    farm.submit(noops(5)).expects([
        "Submitted(JobId(1))",
        "A gets 1/0/0",
        "B gets 1/0/1",
        "A gets 1/0/2",
        "B gets 1/0/3",
    ]);
}

#[test]
fn a_task_that_waits_behind_another_is_recalled_for_an_idle_agent() {
    let mut farm = Farm::new();
    let mut greedy = hello('A', 1);
    greedy.ahead = 1;
    farm.join_as(greedy).whatever();
    farm.submit(noops(2)).expects(["Submitted(JobId(1))", "A gets 1/0/0", "A gets 1/0/1"]);
    farm.join('B', 1).expects(["B is welcome"]);
    farm.wait(2_000).expects(["A is asked for 1/0/1"]);
    farm.wait(2_000).expects_nothing();
    let lease = farm.lease("1/1");
    farm.after(grange_scheduler::Event::Returned {
        agent: crate::farm::agent('A'),
        leases: vec![lease],
    })
    .expects(["B gets 1/0/1"]);
}

#[test]
fn a_device_keeps_its_scene_for_a_quantum() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(frames("x", 100)).expects(["Submitted(JobId(1))", "A gets 1/0/0"]);
    farm.submit(frames("y", 100)).expects(["Submitted(JobId(2))"]);
    farm.completes('A', "1/0").expects(["A may forget", "A gets 1/0/1"]);
    farm.wait(15_000).expects_nothing();
    farm.completes('A', "1/1").expects(["A may forget", "A gets 2/0/0"]);
    farm.completes('A', "2/0").expects(["A may forget", "A gets 2/0/1"]);
}

#[test]
fn a_more_urgent_job_does_not_wait_for_the_quantum() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(frames("x", 100)).whatever();
    let mut urgent = frames("y", 100);
    urgent.priority = label("51");
    farm.submit(urgent).expects(["Submitted(JobId(2))"]);
    farm.completes('A', "1/0").expects(["A may forget", "A gets 2/0/0"]);
}

#[test]
fn a_warm_scene_attracts_its_tasks() {
    let mut farm = Farm::new();
    farm.submit(frames("x", 1)).whatever();
    farm.join('B', 1).expects(["B is welcome", "B gets 1/0/0"]);
    farm.completes('B', "1/0").expects(["B may forget"]);
    farm.join('A', 1).whatever();
    farm.submit(frames("x", 1)).expects(["Submitted(JobId(2))", "B gets 2/0/0"]);
}

#[test]
fn a_file_of_a_newer_blender_is_refused_with_both_versions() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    let mut spec = frames("x", 1);
    if let Work::Render(render) = &mut spec.steps[0].work {
        render.needs.saved_by = BlenderVersion::new(5, 0);
    }
    farm.submit(spec).expects([
        "no: `shot.blend` cannot be rendered: the file was saved by Blender 5.0, and the newest Blender on the \
         agents that are online is 4.2: install Blender 5.0 on a host",
    ]);
}

#[test]
fn an_engine_that_nobody_has_is_named() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    let mut spec = frames("x", 1);
    if let Work::Render(render) = &mut spec.steps[0].work {
        render.needs.engines = [Engine::Eevee].into();
    }
    let told = farm.submit(spec).whatever();
    assert!(told[0].contains("no agent that is online can render with EEVEE"), "{told:?}");
}
