//! Jobs as people steer them: priorities, pause, cancel, retry, chunks.

use std::process::Stdio;

use tempfile::TempDir;

use crate::support::eventually;
use crate::support::farm::{FakeJob, Farm};
use crate::support::pictures::names;

fn running(farm: &Farm, job: u64) -> u64 {
    farm.job(job)["job"]["progress"]["tasks"]["running"].as_u64().unwrap()
}

fn frames_done(farm: &Farm, job: u64) -> u64 {
    farm.job(job)["job"]["progress"]["frames_done"].as_u64().unwrap()
}

#[test]
fn a_more_urgent_job_overtakes_and_priorities_can_be_changed() {
    let farm = Farm::of_fakes(&["host"], 1);
    let usual = farm.submit_fake(&FakeJob::new("frame_ms = 150", 30));
    eventually("it renders", || (frames_done(&farm, usual) > 0).then_some(()));
    let mut urgent = FakeJob::new("frame_ms = 50\nload_ms = 1", 4);
    urgent.priority = 90;
    let urgent = farm.submit_fake(&urgent);
    farm.wait_for_state(urgent, "completed");
    assert!(frames_done(&farm, usual) < 30, "the urgent job waited for the usual one");
    let told = farm.grange(&["priority", &usual.to_string(), "7"]).well();
    assert_eq!(told.trim(), format!("job {usual}: active, priority 7"));
    let jobs = farm.grange(&["jobs", "--json"]).json();
    assert_eq!(jobs[0]["priority"], 7);
    farm.grange(&["cancel", &usual.to_string()]).well();
}

#[test]
fn a_job_is_paused_resumed_canceled_and_retried() {
    let farm = Farm::of_fakes(&["host"], 2);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 300", 20));
    let number = job.to_string();
    eventually("it renders", || (frames_done(&farm, job) > 0).then_some(()));
    farm.grange(&["pause", &number]).well();
    eventually("running frames finish", || (running(&farm, job) == 0).then_some(()));
    let done = frames_done(&farm, job);
    std::thread::sleep(std::time::Duration::from_millis(900));
    assert_eq!(frames_done(&farm, job), done, "a paused job goes on");
    assert_eq!(farm.job(job)["job"]["state"], "paused");
    farm.grange(&["resume", &number]).well();
    eventually("it goes on", || (frames_done(&farm, job) > done).then_some(()));
    farm.grange(&["cancel", &number]).well();
    farm.wait_for_state(job, "canceled");
    farm.grange(&["cancel", &number]).fails(1, "has canceled already; `grange retry");
    let out = TempDir::new().unwrap();
    farm.grange(&["fetch", &number, "-o", out.path().to_str().unwrap()]).well();
    let kept = names(out.path()).len();
    assert!(kept > 0 && kept < 20, "{kept} frames are kept of a canceled job");
    farm.grange(&["retry", &number]).well();
    farm.wait_for_state(job, "completed");
    assert_eq!(farm.job(job)["job"]["progress"]["outputs"], 20);
}

#[test]
fn frames_come_back_while_the_job_runs() {
    let farm = Farm::of_fakes(&["host"], 1);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 400", 6));
    let out = TempDir::new().unwrap();
    let mut fetch = farm
        .command(&["fetch", &job.to_string(), "--wait", "-o", out.path().to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("a frame is saved", || (!names(out.path()).is_empty()).then_some(()));
    assert_eq!(farm.job(job)["job"]["state"], "active", "the frame came only at the end");
    assert!(fetch.wait().unwrap().success());
    assert_eq!(names(out.path()).len(), 6);
}

#[test]
fn equal_jobs_share_the_farm() {
    let farm = Farm::of_fakes(&["one", "two"], 1);
    let first = farm.submit_fake(&FakeJob::new("frame_ms = 100", 300));
    let second = farm.submit_fake(&FakeJob::new("frame_ms = 100", 300));
    eventually("both go on", || {
        (frames_done(&farm, first) > 3 && frames_done(&farm, second) > 3).then_some(())
    });
    farm.grange(&["cancel", &first.to_string(), &second.to_string()]).well();
}

#[test]
fn chunks_weigh_by_their_frames() {
    let farm = Farm::of_fakes(&["host"], 1);
    let mut job = FakeJob::new("frame_ms = 100\nextras = { \"depth/a.bin\" = 0 }", 10);
    job.scene = "frame_ms = 100".into();
    job.chunk = 4;
    let job = farm.submit_fake(&job);
    let detail = farm.wait_for_state(job, "completed");
    assert_eq!(detail["job"]["progress"]["tasks"]["total"], 3);
    assert_eq!(detail["job"]["progress"]["frames_done"], 10);
    assert_eq!(detail["job"]["progress"]["outputs"], 10);
}

#[test]
fn two_frames_that_write_one_name_fail_with_that_name() {
    let farm = Farm::of_fakes(&["host"], 1);
    let job = farm.submit_fake(&FakeJob::new("extras = { \"depth.exr\" = 100 }\nframe_ms = 20", 2));
    let detail = farm.wait_for_state(job, "failed");
    let reason = detail["job"]["reason"].as_str().unwrap();
    assert!(reason.contains("depth.exr"), "{reason}");
}
