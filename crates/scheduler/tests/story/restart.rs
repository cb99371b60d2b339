//! Agents that vanish, coordinators that die.

use grange_protocol::agent::{Completed, Failure, FailureKind, Outcome};
use grange_protocol::view::JobState;

use crate::farm::{Farm, frames, noops, task};
use crate::tokens::{create, enrol};

#[test]
fn a_lost_agents_tasks_wait_for_it_and_then_go_to_others() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(noops(1)).whatever();
    farm.gone('A').expects_nothing();
    farm.join('B', 1).expects(["B is welcome"]);
    farm.wait(29_999).expects_nothing();
    farm.wait(1).expects(["B gets 1/0/0"]);
}

#[test]
fn an_agent_that_comes_back_in_time_goes_on() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(frames("x", 1)).whatever();
    let lease = farm.lease("1/0");
    farm.gone('A').expects_nothing();
    farm.wait(10_000).expects_nothing();
    farm.rejoin('A', &[(lease, task("1/0"))]).expects(["A is welcome"]);
    farm.wait(60_000).expects_nothing();
    farm.completes('A', "1/0").expects(["A may forget"]);
    assert_eq!(farm.job_state(1), JobState::Completed);
}

#[test]
fn an_agent_that_comes_back_too_late_drops_what_another_has() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.join('B', 1).whatever();
    farm.submit(frames("x", 1)).whatever();
    let lease = farm.lease("1/0");
    farm.gone('A').expects_nothing();
    farm.wait(30_000).expects(["B gets 1/0/0"]);
    farm.rejoin('A', &[(lease, task("1/0"))]).expects([&format!("A is welcome and drops {lease}")]);
    farm.commits_under('A', lease, "1/0", "0001.png", b"late")
        .expects([&format!("no: lease {lease} on task 1/0/0 is not, or no longer, this agent's")]);
    farm.completes('B', "1/0").expects(["B may forget"]);
    assert_eq!(farm.job_state(1), JobState::Completed);
}

#[test]
fn an_agent_that_restarted_has_forgotten_its_tasks() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(noops(1)).whatever();
    farm.gone('A').expects_nothing();
    farm.rejoin('A', &[]).expects(["A is welcome", "A gets 1/0/0"]);
}

#[test]
fn after_a_restart_agents_say_what_they_hold_and_it_is_adopted() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.join('B', 1).whatever();
    farm.submit(frames("x", 3)).whatever();
    farm.completes('B', "1/1").expects(["B may forget", "B gets 1/0/2"]);
    farm.commits('A', "1/0", "0001.png").expects(["Committed"]);
    let (a, b) = (farm.lease("1/0"), farm.lease("1/2"));

    farm.restart();
    assert_eq!(farm.job_state(1), JobState::Active);
    farm.rejoin('B', &[(b, task("1/2"))]).expects(["B is welcome"]);
    farm.rejoin('A', &[(a, task("1/0"))]).expects(["A is welcome"]);
    let cost = Completed { outputs: 1, total_ms: 1, render_ms: 1, load_ms: 0, peak_mib: 0 };
    farm.ends('A', "1/0", Outcome::Completed(cost)).expects(["A may forget"]);
    farm.completes('B', "1/2").expects(["B may forget"]);
    assert_eq!(farm.job_state(1), JobState::Completed);
    farm.restart();
    assert_eq!(farm.job_state(1), JobState::Completed);
}

#[test]
fn after_a_restart_unclaimed_tasks_are_given_out_when_the_grace_is_over() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(noops(1)).whatever();
    farm.restart();
    farm.join('B', 1).expects(["B is welcome"]);
    assert_eq!(
        farm.core.why_waiting(grange_protocol::JobId(1)).unwrap(),
        "the coordinator has just started and waits for its agents"
    );
    farm.submit(noops(1)).expects(["Submitted(JobId(2))", "B gets 2/0/0"]);
    farm.completes('B', "2/0").expects(["B may forget"]);
    farm.wait(10_000).expects(["B gets 1/0/0"]);
}

#[test]
fn after_a_restart_nobody_waits_for_the_grace_when_all_agents_have_spoken() {
    let mut farm = Farm::new();
    for (secret, name) in [(b"0123456789abcdef", 'A'), (b"fedcba9876543210", 'B')] {
        create(&mut farm, secret, 15);
        assert_eq!(enrol(&mut farm, secret, name), "Enrolled(Agent)");
    }
    farm.join('A', 1).whatever();
    farm.join('B', 1).whatever();
    farm.submit(frames("x", 3)).whatever();
    let held = farm.lease("1/1");
    farm.restart();
    farm.rejoin('A', &[]).expects(["A is welcome"]);
    farm.rejoin('B', &[(held, task("1/1"))]).expects(["B is welcome", "A gets 1/0/0"]);
}

#[test]
fn a_lease_of_an_earlier_life_never_passes_for_one_of_this_life() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(frames("x", 1)).whatever();
    let old = farm.lease("1/0");
    farm.restart();
    farm.join('B', 1).whatever();
    farm.wait(10_000).expects(["B gets 1/0/0"]);
    assert_ne!(farm.lease("1/0"), old);
    farm.rejoin('A', &[(old, task("1/0"))]).expects([&format!("A is welcome and drops {old}")]);
}

#[test]
fn a_failure_that_was_counted_is_not_counted_again_when_its_agent_has_not_heard_of_that() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(noops(1)).whatever();
    let lease = farm.lease("1/0");
    // The coordinator dies before it tells the agent that the failure is known.
    farm.fails('A', "1/0", FailureKind::Crash).whatever();
    farm.restart();
    farm.rejoin('A', &[(lease, task("1/0"))]).expects([&format!("A is welcome and drops {lease}")]);
    let failure = Failure::new(FailureKind::Crash, "once more");
    farm.ends_lease('A', lease, "1/0", Outcome::Failed(failure)).expects(["A may forget"]);
    let job = &farm.core.state().jobs[&task("1/0").job];
    assert_eq!(job.failures(task("1/0")).len(), 1);
    farm.wait(10_000).expects(["A gets 1/0/0"]);
}
