//! Attempts that fail, and what becomes of their tasks, agents and jobs.

use grange_protocol::StepIndex;
use grange_protocol::agent::FailureKind::{Crash, Host, Scene};
use grange_protocol::agent::{Completed, Outcome};
use grange_protocol::job::StepSpec;
use grange_protocol::view::{JobState, TaskState};

use crate::farm::{Farm, agent, frames, hello, noops, render, step};

#[test]
fn a_failed_task_is_retried_on_another_agent_where_there_is_one() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.join('B', 1).whatever();
    farm.submit(noops(2)).expects(["Submitted(JobId(1))", "A gets 1/0/0", "B gets 1/0/1"]);
    farm.fails('A', "1/0", Crash).expects(["A may forget"]);
    assert_eq!(farm.task_state("1/0"), TaskState::Ready);
    farm.completes('B', "1/1").expects(["B may forget", "B gets 1/0/0"]);
    farm.completes('B', "1/0").expects(["B may forget"]);
    assert_eq!(farm.job_state(1), JobState::Completed);
}

#[test]
fn a_lone_agent_retries_by_itself_until_the_attempts_are_spent() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(noops(1)).whatever();
    farm.fails('A', "1/0", Crash).expects(["A may forget", "A gets 1/0/0"]);
    farm.fails('A', "1/0", Host).expects(["A may forget", "A gets 1/0/0"]);
    farm.fails('A', "1/0", Crash).expects(["A may forget"]);
    assert_eq!(farm.job_state(1), JobState::Failed);
    assert_eq!(farm.reason(1), "1 of 1 task failed (no-op 0: Crash on A)");
    farm.act(1, grange_protocol::client::JobAction::Retry).expects(["Done", "A gets 1/0/0"]);
    farm.completes('A', "1/0").expects(["A may forget"]);
    assert_eq!(farm.job_state(1), JobState::Completed);
}

#[test]
fn what_fails_everywhere_alike_is_not_tried_again() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(noops(1)).whatever();
    farm.fails('A', "1/0", Scene).expects(["A may forget"]);
    assert_eq!(farm.job_state(1), JobState::Failed);
}

#[test]
fn an_agent_that_fails_a_job_three_times_gets_no_more_of_it() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.join('B', 1).whatever();
    farm.submit(noops(100)).whatever();
    farm.fails('A', "1/0", Host).expects(["A may forget", "A gets 1/0/2"]);
    farm.fails('A', "1/2", Host).expects(["A may forget", "A gets 1/0/3"]);
    farm.fails('A', "1/3", Host).expects(["A may forget"]);
    assert!(farm.core.state().jobs[&grange_protocol::JobId(1)].blocked.contains(&agent('A')));
    farm.submit(noops(1)).expects(["Submitted(JobId(2))", "A gets 2/0/0"]);
    farm.completes('B', "1/1").expects(["B may forget", "B gets 1/0/0"]);
    farm.completes('A', "2/0").expects(["A may forget"]);
}

#[test]
fn a_job_ends_when_too_many_of_its_tasks_have_failed() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(noops(40)).whatever();
    for task in 0..4 {
        farm.fails('A', &format!("1/{task}"), Scene).whatever();
    }
    assert_eq!(farm.job_state(1), JobState::Active, "4 of 40 are the 10 % that are tolerated");
    farm.join('B', 1).expects(["B is welcome", "B gets 1/0/5"]);
    farm.fails('A', "1/4", Scene).expects(["B stops 1/0/5", "A may forget"]);
    assert_eq!(farm.job_state(1), JobState::Failed);
    assert_eq!(farm.reason(1), "5 of 40 tasks failed (no-op 0: Scene on A)");
    assert_eq!(farm.task_state("1/30"), TaskState::Canceled);
}

#[test]
fn a_few_failures_fail_the_job_only_when_the_rest_is_done() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(noops(3)).whatever();
    farm.fails('A', "1/0", Scene).expects(["A may forget", "A gets 1/0/1"]);
    farm.completes('A', "1/1").expects(["A may forget", "A gets 1/0/2"]);
    farm.completes('A', "1/2").expects(["A may forget"]);
    assert_eq!(farm.reason(1), "1 of 3 tasks failed (no-op 0: Scene on A)");
}

#[test]
fn an_attempt_that_committed_less_than_it_says_has_failed() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(frames("x", 1)).whatever();
    farm.commits('A', "1/0", "0001.png").expects(["Committed"]);
    let cost = Completed { outputs: 2, total_ms: 1, render_ms: 1, load_ms: 0, peak_mib: 0 };
    farm.ends('A', "1/0", Outcome::Completed(cost)).expects(["A may forget", "A gets 1/0/0"]);
}

#[test]
fn an_output_is_committed_once_and_under_one_name() {
    let mut farm = Farm::new();
    farm.join('A', 2).whatever();
    farm.submit(frames("x", 2)).whatever();
    let lease = farm.lease("1/0");
    farm.commits_under('A', lease, "1/0", "0001.png", b"first").expects(["Committed"]);
    let facts = farm.journal.len();
    farm.commits_under('A', lease, "1/0", "0001.png", b"first").expects(["Committed"]);
    farm.commits_under('A', lease, "1/0", "0001.png", b"other").expects(["Committed"]);
    assert_eq!(farm.journal.len(), facts, "a repeated commit leaves no trace");
    farm.commits('A', "1/1", "0001.png").expects([
        "no: `0001.png` was written by another task of job 1 already: give each its own name",
    ]);
}

#[test]
fn nobody_commits_under_a_lease_that_is_not_theirs() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.join('B', 1).whatever();
    farm.submit(frames("x", 2)).whatever();
    let (a, b) = (farm.lease("1/0"), farm.lease("1/1"));
    let no = |lease, task| {
        format!("no: lease {lease} on task {task} is not, or no longer, this agent's")
    };
    farm.commits_under('B', a, "1/0", "f.png", b"").expects([&no(a, "1/0/0")]);
    farm.commits_under('B', b, "1/0", "f.png", b"").expects([&no(b, "1/0/0")]);
    farm.act(1, grange_protocol::client::JobAction::Cancel).expects([
        "A stops 1/0/0",
        "B stops 1/0/1",
        "Done",
    ]);
    farm.commits_under('A', a, "1/0", "f.png", b"").expects([&no(a, "1/0/0")]);
    farm.ends_lease('A', a, "1/0", Outcome::Canceled).expects(["A may forget"]);
    assert_eq!(farm.job_state(1), JobState::Canceled);
}

#[test]
fn an_agent_that_is_the_only_one_for_a_later_step_is_not_shut_out() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    let mut without_blender = hello('B', 1);
    without_blender.runtimes.clear();
    farm.join_as(without_blender).whatever();
    let mut spec = noops(2);
    spec.policy.agent_failures_max = 1;
    spec.manifest = frames("x", 1).manifest;
    let after = vec![StepIndex(0)];
    spec.steps.push(StepSpec { after, ..step("render", render(1)) });
    farm.submit(spec).expects(["Submitted(JobId(1))", "A gets 1/0/0", "B gets 1/0/1"]);
    farm.fails('A', "1/0/0", Host).expects(["A may forget"]);
    farm.completes('B', "1/0/1").expects(["B may forget", "B gets 1/0/0"]);
    farm.completes('B', "1/0/0").expects(["B may forget", "A gets 1/1/0"]);
    farm.completes('A', "1/1/0").expects(["A may forget"]);
    assert_eq!(farm.job_state(1), JobState::Completed);
}
