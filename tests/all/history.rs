//! What happened on the farm: who asks later is told all of it, once, in its order.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use grange_protocol::job::Policy;
use serde_json::Value;

use crate::support::eventually;
use crate::support::farm::{FakeJob, Farm};
use crate::support::http::Http;

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
    let started =
        |kinds: Vec<String>| kinds.iter().filter(|kind| *kind == "coordinator.started").count();
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
    let farm = Farm::of_fakes(&["here", "there"], 1);
    let viewer = Http::of(&farm, "viewer");
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 60000", 3));
    let detail = farm.wait_for_state(job, "active");
    let me = detail["job"]["submitter"].as_str().unwrap();
    let number = job.to_string();
    for action in ["pause", "resume", "cancel"] {
        farm.grange(&[action, &number]).well();
    }
    eventually("it can be deleted", || (farm.grange(&["delete", &number]).code == 0).then_some(()));
    for action in ["drain", "resume"] {
        farm.grange(&["agent", action, "there"]).well();
    }
    let there = farm.grange(&["history", "--agent", "there", "--json"]).json_lines();
    let id = there[0]["agent"].as_str().unwrap().to_owned();
    farm.grange(&["agent", "remove", "there"]).well();
    farm.grange(&["token", "create", "--api", "--role", "submitter", "--name", "night"]).well();
    farm.grange(&["token", "revoke", "night"]).well();

    let sentences = |args: &[&str]| -> Vec<String> {
        let text = farm.grange(&[&["history", "--limit", "5000"], args].concat()).well();
        // After the date and the time of day.
        text.lines().map(|line| line[21..].to_owned()).collect()
    };
    let of_job = |what: &str| format!("job {job} (fake.blend) {what}");
    assert_eq!(
        sentences(&["--job", &number]),
        [
            of_job(&format!("was submitted by {me}")),
            of_job("has begun"),
            of_job(&format!("was paused by {me}")),
            of_job(&format!("was resumed by {me}")),
            of_job(&format!("was canceled by {me}")),
            of_job(&format!("was deleted by {me}")),
        ]
    );
    // Of one that is gone by its id.
    assert_eq!(
        sentences(&["--agent", &id]),
        [
            "agent there joined the farm".to_owned(),
            "agent there is online".into(),
            format!("agent there was drained by {me}"),
            format!("agent there was resumed by {me}"),
            format!("agent there was removed from the farm by {me}"),
        ]
    );
    farm.grange(&["history", "--agent", "there"]).fails(1, "there is no agent there");
    let of_farm = sentences(&["--farm"]);
    for expected in [
        format!("the coordinator started, Grange {}", env!("CARGO_PKG_VERSION")),
        format!("{me} joined the farm as admin"),
        format!("{me} made a join string for the role agent"),
        format!("{me} made the token night with the role submitter"),
        format!("{me} revoked the token night"),
    ] {
        assert!(of_farm.contains(&expected), "no `{expected}`: {of_farm:?}");
    }

    // Who only looks sees the same, the latest first, page by page.
    let all = history(&farm, &[]);
    is_whole(&all);
    let (mut told, mut next) = (Vec::new(), Some(String::new()));
    while let Some(cursor) = next {
        let page = viewer.get(&format!("/api/v1/history?limit=4{cursor}")).json(200);
        told.extend(page["items"].as_array().unwrap().iter().cloned());
        next = page["next"].as_str().map(|next| format!("&cursor={next}"));
    }
    told.reverse();
    assert_eq!(told, all);
    let ask = |query: &str| viewer.get(&format!("/api/v1/history?{query}"));
    let agents = ask("about=agents").json(200);
    assert_eq!(agents["items"].as_array().unwrap().len(), kinds(&farm, &["--agents"]).len());
    let none = ask(&format!("job={job}&agent={id}")).json(200);
    assert_eq!(none["items"].as_array().unwrap().len(), 0);
    for query in ["about=nobody", "limit=0", "cursor=x", "agent=there", "jobs=1"] {
        assert_eq!(ask(query).status, 400, "{query}");
    }
}

/// Somebody who follows it over the death of a coordinator, and hears all of it.
struct Follower(Child, BufReader<ChildStdout>);

impl Follower {
    fn of(farm: &Farm, args: &[&str]) -> Self {
        let mut command = farm.command(&["history", "--follow", "--json"]);
        let mut child = command.args(args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self(child, lines)
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        serde_json::from_str(&line).expect("a line of JSON")
    }

    /// All up to one of this kind.
    fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut told = Vec::new();
        while told.last().is_none_or(|event: &Value| event["kind"] != kind) {
            told.push(self.next());
        }
        told
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn who_follows_it_hears_all_of_it_once_also_over_the_death_of_the_coordinator() {
    let mut farm = Farm::new();
    let mut all = Follower::of(&farm, &[]);
    let mut of_jobs = Follower::of(&farm, &["--jobs"]);
    all.until("member.joined");
    farm.add_fakes(&["host"], 1);
    let first = farm.submit_fake(&FakeJob::new("frame_ms = 1", 2));
    let mut told = all.until("job.completed");
    let heard = of_jobs.until("job.completed");
    assert!(heard.iter().all(|event| event["job"] == first), "{heard:?}");
    farm.kill_coordinator();
    farm.start_coordinator();
    let second = farm.submit_fake(&FakeJob::new("frame_ms = 1", 2));
    told.extend(all.until("job.completed"));
    let first_cursor = told[0]["cursor"].as_u64().unwrap();
    for (expected, event) in (first_cursor..).zip(&told) {
        assert_eq!(event["cursor"], expected, "{told:?}");
    }
    let heard = of_jobs.until("job.completed");
    let kinds: Vec<&str> = heard.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["job.submitted", "job.started", "job.completed"]);
    assert!(heard.iter().all(|event| event["job"] == second), "{heard:?}");
}

/// Or the first round over an old farm would leave room for nothing else.
#[test]
fn jobs_that_go_for_their_age_at_once_are_one_line() {
    let mut farm = Farm::of_fakes(&["host"], 1);
    let jobs = [1, 2, 3].map(|_| farm.submit_fake(&FakeJob::new("frame_ms = 1", 1)));
    for job in jobs {
        farm.wait_for_state(job, "completed");
    }
    farm.stop_coordinator();
    farm.start_coordinator_with(&["--keep-days", "0", "--keep-unfetched-days", "0"]);
    let line = eventually("the jobs are gone", || {
        let told = history(&farm, &["--jobs"]);
        told.into_iter().find(|event| event["kind"] == "job.collected")
    });
    assert_eq!(line["text"], "3 jobs were old enough to go, with their files");
    assert_eq!((&line["subject"], &line["job"]), (&"".into(), &Value::Null));
    let all = history(&farm, &[]);
    is_whole(&all);
    assert_eq!(all.iter().filter(|event| event["kind"] == "job.collected").count(), 1);
    let page = Http::of(&farm, "viewer").get("/api/v1/history?about=jobs&limit=1").json(200);
    assert_eq!(page["items"][0], line);
}

/// A watcher of a job hears what happens to that one.
#[test]
fn the_watcher_of_a_job_hears_its_history_and_no_other() {
    let farm = Farm::of_fakes(&["host"], 1);
    let one = farm.submit_fake(&FakeJob::new("frame_ms = 60000", 2));
    let other = farm.submit_fake(&FakeJob::new("frame_ms = 60000", 2));
    eventually("it has begun", || {
        kinds(&farm, &["--job", &one.to_string()]).contains(&"job.started".into()).then_some(())
    });
    let http = Http::of(&farm, "viewer");
    let mut events = http.events(&format!("/api/v1/jobs/{one}/events"), None);
    while events.next().expect("an event").data != "caughtup" {}
    for job in [other, one] {
        farm.grange(&["cancel", &job.to_string()]).well();
    }
    let happened = loop {
        let event = events.next().expect("an event");
        if let Some(happened) = event.data.get("happened") {
            break happened.clone();
        }
    };
    assert_eq!((&happened["job"], &happened["kind"]), (&one.into(), &"job.canceled".into()));
}
