//! Steps, and what people do to jobs.

use grange_protocol::JobId;
use grange_protocol::agent::FailureKind;
use grange_protocol::client::JobAction;
use grange_protocol::view::{JobState, TaskState};

use crate::farm::{Farm, agent, animation, frames, hello, noops};

#[test]
fn the_preview_waits_for_all_frames() {
    let mut farm = Farm::new();
    farm.join('A', 2).whatever();
    farm.submit(animation("x", 2)).expects(["Submitted(JobId(1))", "A gets 1/0/0", "A gets 1/0/1"]);
    assert_eq!(farm.task_state("1/1/0"), TaskState::Waiting);
    farm.completes('A', "1/0").expects(["A may forget"]);
    farm.completes('A', "1/1").expects(["A may forget", "A gets 1/1/0"]);
    farm.completes('A', "1/1/0").expects(["A may forget"]);
    assert_eq!(farm.job_state(1), JobState::Completed);
}

#[test]
fn without_ffmpeg_the_job_completes_without_a_preview() {
    let mut farm = Farm::new();
    let mut plain = hello('A', 1);
    plain.ffmpeg = false;
    farm.join_as(plain).whatever();
    farm.submit(animation("x", 1)).whatever();
    farm.completes('A', "1/0").expects(["A may forget"]);
    assert_eq!(farm.job_state(1), JobState::Completed);
    let job = &farm.core.state().jobs[&JobId(1)];
    let skipped = job.steps[1].skipped.as_deref();
    assert_eq!(skipped, Some("no agent that is online has ffmpeg: install it on a host"));
}

#[test]
fn a_preview_that_fails_does_not_fail_the_job() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(animation("x", 1)).whatever();
    farm.completes('A', "1/0").expects(["A may forget", "A gets 1/1/0"]);
    farm.fails('A', "1/1/0", FailureKind::Scene).expects(["A may forget"]);
    assert_eq!(farm.job_state(1), JobState::Completed);
}

#[test]
fn a_failed_frame_leaves_the_preview_out_and_fails_the_job() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(animation("x", 2)).whatever();
    farm.fails('A', "1/0", FailureKind::Scene).expects(["A may forget", "A gets 1/0/1"]);
    farm.completes('A', "1/1").expects(["A may forget"]);
    assert_eq!(farm.reason(1), "1 of 2 tasks failed (frame 1: Scene on A)");
    farm.act(1, JobAction::Retry).expects(["Done", "A gets 1/0/0"]);
    farm.completes('A', "1/0").expects(["A may forget", "A gets 1/1/0"]);
    farm.completes('A', "1/1/0").expects(["A may forget"]);
    assert_eq!(farm.job_state(1), JobState::Completed);
}

#[test]
fn a_paused_job_finishes_what_runs_and_gives_back_what_waits() {
    let mut farm = Farm::new();
    let mut greedy = hello('A', 1);
    greedy.ahead = 1;
    farm.join_as(greedy).whatever();
    farm.submit(noops(3)).expects(["Submitted(JobId(1))", "A gets 1/0/0", "A gets 1/0/1"]);
    farm.act(1, JobAction::Pause).expects(["A is asked for 1/0/0", "A is asked for 1/0/1", "Done"]);
    let lease = farm.lease("1/1");
    farm.after(grange_scheduler::Event::Returned { agent: agent('A'), leases: vec![lease] })
        .expects_nothing();
    farm.completes('A', "1/0").expects(["A may forget"]);
    assert_eq!(farm.job_state(1), JobState::Paused);
    farm.act(1, JobAction::Resume).expects(["Done", "A gets 1/0/1", "A gets 1/0/2"]);
}

#[test]
fn a_canceled_job_stops_and_keeps_what_it_has() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(frames("x", 3)).whatever();
    farm.completes('A', "1/0").expects(["A may forget", "A gets 1/0/1"]);
    let lease = farm.lease("1/1");
    farm.act(1, JobAction::Cancel).expects(["A stops 1/0/1", "Done"]);
    assert_eq!(farm.task_state("1/0"), TaskState::Completed);
    assert_eq!(farm.task_state("1/1"), TaskState::Canceled);
    farm.submit(noops(1)).expects(["Submitted(JobId(2))"]);
    farm.ends_lease('A', lease, "1/1", grange_protocol::agent::Outcome::Canceled)
        .expects(["A may forget", "A gets 2/0/0"]);
    farm.act(1, JobAction::Cancel)
        .expects(["no: job 1 has canceled already; `grange retry 1` renders what is missing"]);
    farm.completes('A', "2/0").whatever();
    farm.act(1, JobAction::Retry).expects(["Done", "A gets 1/0/1"]);
}

#[test]
fn unknown_jobs_and_needless_retries_are_refused() {
    let mut farm = Farm::new();
    farm.act(7, JobAction::Pause)
        .expects(["no: there is no job 7: `grange jobs` lists the jobs of this farm"]);
    farm.join('A', 1).whatever();
    farm.submit(noops(1)).whatever();
    farm.act(1, JobAction::Retry)
        .expects(["no: job 1 has no failed tasks: there is nothing to retry"]);
}

#[test]
fn a_draining_agent_finishes_and_gets_no_more() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(noops(2)).whatever();
    farm.after(grange_scheduler::Event::AgentDraining { agent: agent('A') }).expects_nothing();
    farm.completes('A', "1/0").expects(["A may forget"]);
    farm.gone('A').expects_nothing();
    farm.join('B', 1).expects(["B is welcome", "B gets 1/0/1"]);
}
