//! What people do to render hosts: drain, resume, tag, schedule, remove; and jobs that they delete.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::farm::{FakeJob, Farm};
use crate::support::{eventually, program};

impl Farm {
    /// A host as `grange agents --json` shows it.
    #[track_caller]
    fn host(&self, name: &str) -> Option<Value> {
        let agents = self.grange(&["agents", "--json"]).json();
        agents.as_array().unwrap().iter().find(|agent| agent["name"] == name).cloned()
    }

    #[track_caller]
    fn wait_for_host(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) {
        eventually(&format!("{name} {what}"), || self.host(name).filter(|host| is(host)));
    }

    /// Who opened a job's scene: a host prints that with its first frame.
    #[track_caller]
    pub(crate) fn renderers(&self, job: u64) -> BTreeSet<String> {
        let logs = self.grange(&["logs", &job.to_string(), "--json"]).json_lines();
        logs.iter().map(|log| log["agent"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_drained_host_finishes_its_frame_and_gets_no_more_until_it_is_resumed() {
    let mut farm = Farm::of_fakes(&["host"], 1);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 1500", 4));
    farm.wait_for_state(job, "active");
    let told = farm.grange(&["agent", "drain", "host"]).well();
    assert!(told.starts_with("host: draining"), "{told}");
    farm.wait_for_host("host", "has nothing left", |host| host["tasks"] == 0);
    let progress = farm.job(job)["job"]["progress"].clone();
    assert_eq!(progress["tasks"]["failed"], 0);
    assert!(progress["frames_done"].as_u64() < Some(4), "{progress}");
    let why = farm.job(job)["job"]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("every agent that could run it is drained"), "{why}");

    // It stays so, whoever is started again.
    farm.kill_coordinator();
    farm.start_coordinator();
    farm.wait_for_host("host", "is back", |host| host["state"] == "draining");
    farm.grange(&["agent", "resume", "host"]).well();
    let detail = farm.wait_for_state(job, "completed");
    assert_eq!(detail["job"]["progress"]["frames_done"], 4);
    farm.grange(&["agent", "drain", "nobody"]).fails(1, "there is no agent nobody");
}

#[test]
fn a_removed_host_is_gone_at_once_and_cannot_come_back_as_it_was() {
    let mut farm = Farm::of_fakes(&["first", "second"], 1);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 300", 10));
    farm.wait_for_host("first", "renders", |host| host["tasks"].as_u64() > Some(0));
    let told = farm.grange(&["agent", "remove", "first"]).well();
    assert_eq!(told, "first is removed; to come back it joins anew\n");
    assert!(farm.host("first").is_none());
    // The agent is told, and ends.
    let status = farm.wait_for_end_of("first");
    assert!(!status.success());
    let said = farm.said("first");
    assert!(said.contains("does not know this identity any more: join again"), "{said}");
    let detail = farm.wait_for_state(job, "completed");
    assert_eq!(detail["job"]["progress"]["frames_done"], 10);
    assert_eq!(detail["job"]["progress"]["outputs"], 10);
    // Its name is remembered with what it rendered.
    farm.kill_coordinator();
    farm.start_coordinator();
    assert!(farm.host("first").is_none());
    assert!(farm.host("second").is_some());
}

/// Blender is started elsewhere, and finds its files all the same.
#[test]
fn a_state_directory_may_be_told_from_where_the_agent_is_started() {
    let mut farm = Farm::new();
    farm.start_agent_beside_its_state("host", &[program("fake-blender")]);
    farm.wait_for_agents(1);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 20", 2));
    farm.wait_for_state(job, "completed");
}

#[test]
fn jobs_with_tags_go_to_hosts_that_have_them() {
    let farm = Farm::of_fakes(&["large", "small"], 1);
    let told = farm.grange(&["agent", "tag", "large", "big", "night"]).well();
    assert!(told.contains("tags big, night"), "{told}");
    assert!(farm.grange(&["agents"]).well().contains("big, night"));
    let mut job = FakeJob::new("frame_ms = 100", 8);
    job.tags = &["big"];
    let job = farm.submit_fake(&job);
    farm.wait_for_state(job, "completed");
    assert_eq!(farm.renderers(job), ["large".to_owned()].into());

    let mut job = FakeJob::new("frame_ms = 20", 1);
    job.tags = &["big", "day"];
    let refused = farm.try_submit_fake(&job, false).unwrap_err().to_string();
    assert!(refused.contains("has all of the tags big, day"), "{refused}");
    let waiting = farm.submit_fake(&job);
    let view = farm.job(waiting)["job"].clone();
    let why = view["reason"].as_str().unwrap_or_default();
    assert!(why.contains("has all of the tags big, day: `grange agent tag` gives"), "{why}");
    assert_eq!(view["tags"], json!(["big", "day"]));
    assert!(farm.grange(&["jobs"]).well().contains("big, day"));
    assert!(farm.grange(&["job", &waiting.to_string()]).well().contains("tags: big, day\n"));
    farm.grange(&["agent", "tag", "small", "big", "day"]).well();
    farm.wait_for_state(waiting, "completed");
    assert_eq!(farm.renderers(waiting), ["small".to_owned()].into());
}

#[test]
fn a_host_takes_tasks_at_its_hours() {
    let farm = Farm::of_fakes(&["desk"], 1);
    // All days but those from yesterday to tomorrow, whatever time zone this is.
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let since_1970 = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400;
    let today = (since_1970 + 3) as usize % 7;
    let others = format!("{}-{}", days[(today + 2) % 7], days[(today + 5) % 7]);
    farm.grange(&["agent", "schedule", "desk", "by night"]).fails(2, "write hours as");
    let told = farm.grange(&["agent", "schedule", "desk", &others]).well();
    assert_eq!(told, format!("desk: asleep, 0 tasks, takes tasks {others}\n"));
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 20", 2));
    let why = farm.job(job)["job"]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("asleep at this time"), "{why}");
    let told = farm.grange(&["agent", "schedule", "desk", "--always"]).well();
    assert_eq!(told.split(',').next().unwrap(), "desk: online");
    farm.wait_for_state(job, "completed");
}

#[test]
fn a_job_that_has_ended_can_be_deleted_and_its_files_go() {
    let farm = Farm::of_fakes(&["host"], 1);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 600", 3)).to_string();
    farm.grange(&["delete", &job])
        .fails(1, &format!("job {job} goes on: `grange cancel {job}` before you delete it"));
    farm.grange(&["cancel", &job]).well();
    let deleted = eventually("its agent has stopped", || {
        let told = farm.grange(&["delete", &job]);
        (told.code == 0).then_some(told.stdout)
    });
    assert_eq!(deleted, format!("job {job}: deleted\n"));
    farm.grange(&["job", &job]).fails(1, &format!("job {job} "));
    assert_eq!(farm.grange(&["jobs", "--json"]).json().as_array().unwrap().len(), 0);
}
