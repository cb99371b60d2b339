//! What goes wrong on a farm, and what it makes of it. Fake Blenders, real processes, real QUIC.

use std::path::PathBuf;
use std::time::Duration;

use grange_protocol::job::Policy;
use tempfile::TempDir;

use crate::support::farm::{FakeJob, Farm};
use crate::support::pictures::names;
use crate::support::told::failures;
use crate::support::{eventually, processes, program, signal};

/// A fake that crashes at every render.
fn crashing(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("crashing-blender");
    std::fs::copy(program("fake-blender"), &path).unwrap();
    path
}

#[test]
fn a_frame_that_crashes_blender_is_tried_again_and_the_crash_is_named() {
    let farm = Farm::of_fakes(&["host"], 1);
    let job = farm.submit_fake(&FakeJob::new("crash = [3]\nonly_first = false", 4));
    let detail = farm.wait_for_state(job, "failed");
    let failures = failures(&detail);
    assert_eq!(failures.len(), 3, "a lone host tries by itself: {failures:?}");
    assert!(
        failures[0].starts_with("crash on host: Blender 4.2.0 (fake) crashed with SIGSEGV"),
        "{failures:?}"
    );
    assert_eq!(detail["job"]["progress"]["tasks"]["completed"], 3);
    let reason = detail["job"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("1 of 4 tasks failed (frame 3: "), "{reason}");
    let logs = farm.grange(&["logs", &job.to_string(), "--task", "2", "--failed"]).well();
    assert!(logs.contains("Writing: /tmp/fake.crash.txt"), "{logs}");
    farm.grange(&["watch", &job.to_string()]).fails(1, "failed · 3/4 frames");
}

#[test]
fn a_host_that_crashes_gets_no_more_of_the_job_and_the_others_finish_it() {
    let mut farm = Farm::of_fakes(&["good"], 1);
    let dir = TempDir::new().unwrap();
    farm.start_agent("bad", &[crashing(&dir)], &["--instances", "1"]);
    farm.wait_for_agents(2);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 100", 30));
    let detail = farm.wait_for_state(job, "completed");
    let failed = farm.grange(&["logs", &job.to_string(), "--failed", "--json"]).json_lines();
    assert_eq!(detail["job"]["progress"]["tasks"]["completed"], 30);
    let on_bad = failed.iter().filter(|log| log["agent"] == "bad").count();
    // Three, and those that it held already when the third one failed.
    assert!((3..=5).contains(&on_bad), "the bad host failed {on_bad} times");
    assert_eq!(failed.len(), on_bad);
}

#[test]
fn a_render_that_hangs_is_found_and_tried_again() {
    let farm = Farm::of_fakes(&["host"], 1);
    let mut job = FakeJob::new("hang = [2]\nonly_first = false", 3);
    job.policy = Policy { stall_s: 1, attempts_max: 2, ..Policy::default() };
    let job = farm.submit_fake(&job);
    let detail = farm.wait_for_state(job, "failed");
    assert_eq!(
        failures(&detail),
        ["stalled on host: the render hung: no sample and no change of memory for 1 s"; 2]
    );
    assert_eq!(detail["job"]["progress"]["tasks"]["completed"], 2);
}

#[test]
fn a_picture_that_is_not_whole_is_never_committed() {
    let farm = Farm::of_fakes(&["host"], 1);
    let job = farm.submit_fake(&FakeJob::new("truncate = [1]", 2));
    let detail = farm.wait_for_state(job, "failed");
    let failures = failures(&detail);
    assert!(
        failures[0].starts_with("output on host: 0001.png is not a whole picture"),
        "{failures:?}"
    );
    let out = TempDir::new().unwrap();
    farm.grange(&["fetch", &job.to_string(), "-o", out.path().to_str().unwrap()]).well();
    assert_eq!(names(out.path()), ["0002.png"]);
}

#[test]
fn a_killed_agents_frames_are_rendered_by_others_and_nothing_of_it_lives_on() {
    let mut farm = Farm::of_fakes(&["first", "second"], 1);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 400\nload_ms = 50", 12));
    eventually("both render", || {
        let running = farm.job(job)["job"]["progress"]["tasks"]["running"].as_u64();
        (running >= Some(2)).then_some(())
    });
    let mark = farm.home().join("first").display().to_string();
    farm.kill_agent("first");
    eventually("its Blenders die with it", || processes(&mark).is_empty().then_some(()));
    let detail = farm.wait_for_state(job, "completed");
    assert_eq!(detail["job"]["progress"]["frames_done"], 12);
    assert_eq!(detail["job"]["progress"]["outputs"], 12);
}

#[test]
fn jobs_and_frames_survive_a_killed_coordinator_and_rendering_goes_on_meanwhile() {
    let mut farm = Farm::of_fakes(&["host"], 1);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 300", 10));
    eventually("some frames are done", || {
        (farm.job(job)["job"]["progress"]["frames_done"].as_u64() >= Some(2)).then_some(())
    });
    farm.kill_coordinator();
    std::thread::sleep(Duration::from_millis(800));
    farm.start_coordinator();
    let detail = farm.wait_for_state(job, "completed");
    assert_eq!(detail["job"]["progress"]["outputs"], 10);
    // The one under way was adopted, not begun anew.
    assert_eq!(farm.said("host").matches("panicked").count(), 0);
    // The new one said that it knows nothing of the connection; nobody waited for a timeout.
    let said = farm.said("host");
    assert!(said.contains("no connection to the coordinator: it was started anew"), "{said}");
    let out = TempDir::new().unwrap();
    farm.grange(&["fetch", &job.to_string(), "-o", out.path().to_str().unwrap()]).well();
    assert_eq!(names(out.path()).len(), 10);
}

#[test]
fn a_watcher_that_stands_still_does_not_slow_the_farm_and_misses_no_output() {
    let farm = Farm::of_fakes(&["host"], 2);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 0\nsamples = 1", 400));
    let out = TempDir::new().unwrap();
    let number = job.to_string();
    let mut watcher = farm
        .command(&["fetch", &number, "--wait", "-o", out.path().to_str().unwrap()])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    signal(watcher.id(), "STOP");
    farm.wait_for_state(job, "completed");
    signal(watcher.id(), "CONT");
    assert!(watcher.wait().unwrap().success());
    assert_eq!(names(out.path()).len(), 400);
}
