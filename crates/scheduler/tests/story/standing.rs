//! What people decide of agents, and what becomes of their tasks.

use grange_protocol::JobId;
use grange_protocol::agent::AgentHello;
use grange_protocol::client::{AgentAction, JobAction};
use grange_protocol::view::JobState;
use grange_scheduler::{Duty, Event};

use crate::farm::{Farm, agent, frames, hello, label, noops, task};

#[test]
fn a_drained_agent_finishes_what_it_has_begun_and_gets_nothing_more() {
    let mut farm = Farm::new();
    farm.enrol('A', 2);
    // One that it has begun, and one that it has not.
    farm.submit(noops(3)).expects(["Submitted(JobId(1))", "A gets 1/0/0", "A gets 1/0/1"]);
    farm.act_on_agent('A', AgentAction::Drain).expects([
        "A is asked for 1/0/0",
        "A is asked for 1/0/1",
        "Done",
    ]);
    let waiting = farm.lease("1/0/1");
    farm.after(Event::Returned { agent: agent('A'), leases: vec![waiting] }).expects_nothing();
    farm.completes('A', "1/0/0").expects(["A may forget"]);
    assert_eq!(
        farm.core.why_waiting(JobId(1)).unwrap(),
        "every agent that could run it is drained, or asleep at this time: `grange agents` says \
         which"
    );
    farm.act_on_agent('A', AgentAction::Resume).expects(["Done", "A gets 1/0/1", "A gets 1/0/2"]);
}

#[test]
fn who_is_drained_stays_so_over_a_restart_of_anybody() {
    let mut farm = Farm::new();
    farm.enrol('A', 1);
    farm.act_on_agent('A', AgentAction::Drain).expects(["Done"]);
    farm.gone('A').expects_nothing();
    farm.restart();
    farm.rejoin('A', &[]).expects(["A is welcome"]);
    assert_eq!(farm.core.agents()[&agent('A')].duty, Duty::Drained);
    // It would do, so the job is taken; it waits for it.
    farm.submit(noops(1)).expects(["Submitted(JobId(1))"]);
    farm.act_on_agent('A', AgentAction::Resume).expects(["Done", "A gets 1/0/0"]);
}

#[test]
fn a_removed_agents_tasks_go_to_others_and_it_is_not_let_in_again() {
    let mut farm = Farm::new();
    farm.enrol('A', 1);
    farm.submit(frames("x", 1)).whatever();
    let lease = farm.lease("1/0");
    farm.enrol('B', 1);
    farm.act_on_agent('A', AgentAction::Remove).expects(["A is dismissed", "Done", "B gets 1/0/0"]);
    let late = farm.commits_under('A', lease, "1/0", "x.png", b"pixels").whatever();
    assert!(late[0].starts_with("no: "), "{late:?}");
    farm.rejoin('A', &[(lease, task("1/0"))]).expects(["A is dismissed"]);
    farm.act_on_agent('A', AgentAction::Resume).expects([&format!(
        "no: there is no agent {}: `grange agents` lists the agents of this farm",
        agent('A')
    )]);
    farm.restart();
    farm.rejoin('A', &[]).expects(["A is dismissed"]);
    // Nobody waits for one who is no member.
    farm.rejoin('B', &[]).expects(["B is welcome", "B gets 1/0/0"]);
}

#[test]
fn an_agent_that_was_lost_can_be_removed() {
    let mut farm = Farm::new();
    farm.enrol('A', 1);
    farm.enrol('B', 1);
    farm.submit(noops(1)).expects(["Submitted(JobId(1))", "A gets 1/0/0"]);
    farm.gone('A').expects_nothing();
    // Its task need not wait until the grace is over.
    farm.act_on_agent('A', AgentAction::Remove).expects(["A is dismissed", "Done", "B gets 1/0/0"]);
    farm.wait(60_000).expects_nothing();
}

#[test]
fn jobs_that_ask_for_tags_go_to_those_who_have_them_all() {
    let mut farm = Farm::new();
    farm.enrol('A', 1);
    farm.enrol('B', 2);
    farm.submit_tagged(noops(1), &["big", "night"]).expects([
        "no: `shot.blend` cannot be rendered: no agent that is online has all of the tags big, night: \
         `grange agent tag` gives an agent tags",
    ]);
    let tags = |tags: &[&str]| AgentAction::Tag(tags.iter().map(|tag| label(tag)).collect());
    farm.act_on_agent('A', tags(&["big"])).expects(["Done"]);
    farm.act_on_agent('B', tags(&["big", "night"])).expects(["Done"]);
    farm.submit_tagged(noops(1), &["day"]).expects([
        "no: `shot.blend` cannot be rendered: no agent that is online has the tag day: \
         `grange agent tag` gives an agent tags",
    ]);
    farm.submit_tagged(noops(2), &["big", "night"]).expects([
        "Submitted(JobId(1))",
        "B gets 1/0/0",
        "B gets 1/0/1",
    ]);
    // A idles, and is not asked to help.
    farm.wait(5_000).expects_nothing();
    farm.submit_tagged(noops(1), &["big"]).expects(["Submitted(JobId(2))", "A gets 2/0/0"]);
    farm.completes('B', "1/0/0").whatever();
    farm.act_on_agent('B', tags(&[])).expects(["Done"]);
    farm.completes('B', "1/0/1").whatever();
    assert_eq!(farm.job_state(1), JobState::Completed);
}

#[test]
fn what_those_with_the_tags_lack_is_said_of_them_alone() {
    let mut farm = Farm::new();
    farm.enrol('A', 1);
    farm.enrol('B', 1);
    farm.join_as(AgentHello { runtimes: Vec::new(), ..hello('B', 1) }).whatever();
    farm.act_on_agent('B', AgentAction::Tag([label("big")].into())).expects(["Done"]);
    farm.submit_tagged(frames("shot", 1), &["big"]).expects([
        "no: `shot.blend` cannot be rendered: no agent that is online has a Blender: install one on a \
         host; only agents with the tag big count",
    ]);
}

#[test]
fn an_agent_sleeps_when_its_schedule_says_so() {
    let mut farm = Farm::new();
    farm.enrol('A', 1);
    let nights = "mon-fri 19:00-07:00".parse().unwrap();
    farm.act_on_agent('A', AgentAction::Schedule(Some(nights))).expects(["Done"]);
    farm.falls_asleep(&['A']).expects(["Done"]);
    assert_eq!(farm.core.agents()[&agent('A')].duty, Duty::Asleep);
    // By night it will be rendered.
    farm.submit(noops(1)).expects(["Submitted(JobId(1))"]);
    farm.falls_asleep(&[]).expects(["Done", "A gets 1/0/0"]);
    farm.act_on_agent('A', AgentAction::Schedule(None)).expects(["Done"]);
    farm.falls_asleep(&['A']).expects(["Done"]);
    assert_eq!(farm.core.agents()[&agent('A')].duty, Duty::On, "it has no schedule any more");
}

#[test]
fn a_job_is_deleted_when_it_has_ended_and_nobody_keeps_it() {
    let mut farm = Farm::new();
    farm.enrol('A', 1);
    farm.submit(noops(1)).whatever();
    farm.act(1, JobAction::Delete)
        .expects(["no: job 1 goes on: `grange cancel 1` before you delete it"]);
    farm.completes('A', "1/0").whatever();
    farm.act(1, JobAction::Keep).expects(["Done"]);
    farm.act(1, JobAction::Delete)
        .expects(["no: job 1 is kept: `grange release 1` before you delete it"]);
    farm.act(1, JobAction::Release).expects(["Done"]);
    farm.act(1, JobAction::Delete).expects(["Done"]);
    let told = farm.act(1, JobAction::Retry).whatever();
    assert!(told[0].starts_with("no: job 1 "), "{told:?}");
}
