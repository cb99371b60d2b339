//! What happened on the farm: who asks later is told all of it, once, in its order.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use grange_protocol::job::Policy;
use serde_json::Value;

use crate::support::farm::{FakeJob, Farm};
use crate::support::http::Http;
use crate::support::{eventually, signal};

/// The latest last, as `grange history --json` tells them.
#[track_caller]
fn history(farm: &Farm, args: &[&str]) -> Vec<Value> {
    let all = [&["history", "--json", "--limit", "5000"], args].concat();
    farm.grange(&all).json_lines()
}

#[track_caller]
fn kinds(farm: &Farm, args: &[&str]) -> Vec<String> {
    let events = history(farm, args);
    events.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

/// None is missing and none is there twice.
#[track_caller]
fn is_whole(events: &[Value]) {
    let cursors: Vec<u64> = events.iter().map(|event| event["cursor"].as_u64().unwrap()).collect();
    let expected: Vec<u64> = (1..=cursors.len() as u64).collect();
    assert_eq!(cursors, expected);
}

#[test]
fn neither_a_kill_nor_a_restart_loses_or_doubles_what_happened() {
    outlives_kills(Farm::new());
}

#[test]
fn neither_a_kill_nor_a_restart_loses_or_doubles_what_happened_on_postgres() {
    outlives_kills(Farm::on_postgres());
}

fn outlives_kills(mut farm: Farm) {
    farm.add_fakes(&["host"], 1);
    eventually("the host is told of", || {
        kinds(&farm, &["--agents"]).contains(&"agent.online".into()).then_some(())
    });
    let mut jobs = Vec::new();
    // There and then; while it renders; and when it was told that it is done.
    let at_once = farm.submit_fake(&FakeJob::new("frame_ms = 100", 4));
    jobs.push(at_once);
    farm.kill_coordinator();
    farm.start_coordinator();
    farm.wait_for_state(at_once, "completed");
    let under_way = farm.submit_fake(&FakeJob::new("frame_ms = 300", 6));
    jobs.push(under_way);
    eventually("it has begun", || (!farm.outputs(under_way).is_empty()).then_some(()));
    farm.kill_coordinator();
    farm.start_coordinator();
    farm.wait_for_state(under_way, "completed");
    farm.kill_coordinator();
    farm.start_coordinator();
    let policy = Policy { attempts_max: 1, ..Policy::default() };
    let failing = farm.submit_fake(&FakeJob { policy, ..FakeJob::new("fail = [1, 2]", 2) });
    farm.wait_for_state(failing, "failed");
    farm.stop_coordinator();
    farm.start_coordinator();

    for job in jobs {
        let told = kinds(&farm, &["--job", &job.to_string()]);
        assert_eq!(told, ["job.submitted", "job.started", "job.completed"], "job {job}");
    }
    let told = history(&farm, &["--job", &failing.to_string()]);
    let last = told.last().unwrap();
    assert_eq!((&last["kind"], &last["job"]), (&"job.failed".into(), &failing.into()));
    let text = last["text"].as_str().unwrap();
    assert!(text.starts_with("has failed: "), "{text}");
    // Who comes back within its grace was never away.
    assert_eq!(kinds(&farm, &["--agents"]), ["agent.joined", "agent.online"]);
    let started = |kinds: Vec<String>| kinds.iter().filter(|kind| *kind == "coordinator.started").count();
    assert_eq!(started(kinds(&farm, &["--farm"])), 5);
    let all = history(&farm, &[]);
    is_whole(&all);
    let times: Vec<u64> = all.iter().map(|event| event["at"].as_u64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");

    // And one that does not come back is missed, by whichever coordinator there is.
    farm.kill_coordinator();
    farm.kill_agent("host");
    farm.start_coordinator();
    eventually("the host is missed", || {
        kinds(&farm, &["--agents"]).ends_with(&["agent.offline".into()]).then_some(())
    });
    is_whole(&history(&farm, &[]));
}

#[test]
fn it_says_who_did_what_and_is_asked_for_by_job_agent_and_page() {
    let mut farm = Farm::of_fakes(&["here", "there"], 1);
    let viewer = Http::of(&farm, "viewer");
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 60000", 3));
    farm.wait_for_state(job, "active");
    let number = job.to_string();
    for action in ["pause", "resume", "cancel"] {
        farm.grange(&[action, &number]).well();
    }
    eventually("it can be deleted", || (farm.grange(&["delete", &number]).code == 0).then_some(()));
    farm.grange(&["agent", "drain", "there"]).well();
    farm.grange(&["agent", "resume", "there"]).well();
    farm.grange(&["token", "revoke", "viewer"]).fails(2, "");
}
