//! Memory that does not suffice: what the farm learns of it, who waits and who gives way.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::eventually;
use crate::support::farm::{FakeJob, Farm};
use crate::support::gpus::FakeGpus;
use crate::support::told::failures;

const GPU: &str = "GPU-0";

/// A farm of one host with these GPUs.
fn farm_on(gpus: &FakeGpus, args: &[&str]) -> Farm {
    let mut farm = Farm::new();
    farm.start_agent_on(gpus, "host", args);
    farm.wait_for_agents(1);
    farm
}

fn frames(count: usize) -> Vec<String> {
    (1..=count).map(|frame| format!("{frame:04}.png")).collect()
}

/// Attempts of a job that failed, one line each.
fn failed_attempts(farm: &Farm, job: u64) -> usize {
    farm.grange(&["logs", &job.to_string(), "--failed", "--json"]).json_lines().len()
}

#[test]
fn a_shot_that_is_too_large_for_one_gpu_is_rendered_on_another_and_that_is_remembered() {
    let gpus = FakeGpus::of_sizes(&[4_096, 24_576]);
    let mut farm = farm_on(&gpus, &[]);
    // It may not fail even once, but want of memory is no failure.
    let scene = "memory_mib = 6144\nframe_ms = 150\ngpu_share = 0.2";
    let first = farm.submit_fake(&FakeJob::in_one_attempt(scene, 40));
    let detail = farm.wait_for_state(first, "completed");
    let failures = failures(&detail);
    assert_eq!(failures, ["out_of_memory on host: System is out of GPU memory"]);
    assert_eq!(failed_attempts(&farm, first), 1);
    assert_eq!(farm.outputs(first), frames(40));
    let learned = farm.footprints();
    let rendered = learned.iter().filter(|one| one.frames > 0);
    let peaks: Vec<_> = rendered.map(|one| one.plain.or(one.kept).unwrap().device_mib).collect();
    assert_eq!(peaks, [6_144], "{learned:?}");
    let settled = farm.device_states()[1]["slots"].as_u64().unwrap();
    assert!((2..=3).contains(&settled), "three times 6,758 MiB fit: {settled}");

    farm.kill_coordinator();
    farm.start_coordinator();
    farm.wait_for_agents(1);
    assert_eq!(farm.footprints(), learned);
    let again = farm.submit_fake(&FakeJob::in_one_attempt(scene, 20));
    let mut at_once = BTreeSet::new();
    eventually("it is rendered again", || {
        assert_eq!(gpus.allocated_mib("GPU-0"), [0; 0], "it does not fit there");
        at_once.insert(gpus.allocated_mib("GPU-1").len() as u64);
        (farm.job(again)["job"]["state"] == "completed").then_some(())
    });
    assert_eq!(failed_attempts(&farm, again), 0);
    assert!(at_once.contains(&settled), "{at_once:?} instances, {settled} before");
    assert_eq!(farm.outputs(again), frames(20));
}

#[test]
fn a_shot_that_fits_nowhere_fails_with_both_numbers() {
    let gpus = FakeGpus::of_sizes(&[4_096, 8_192]);
    let farm = farm_on(&gpus, &[]);
    let job = farm.submit_fake(&FakeJob::in_one_attempt("memory_mib = 20000", 2));
    let detail = farm.wait_for_state(job, "failed");
    let reason = detail["job"]["reason"].as_str().unwrap();
    // What it had, and a quarter more: all that is sure.
    assert_eq!(
        reason,
        "2 of 2 tasks failed (frame 1: it needs 9.8 GiB of memory, and the largest device \
         that could render it has 7.9 GiB: make the scene or the picture smaller, or add a larger \
         device)"
    );
}

#[test]
fn a_shot_that_fits_the_larger_gpu_just_so_is_rendered_there_alone() {
    let gpus = FakeGpus::of_sizes(&[4_096, 8_192]);
    let farm = farm_on(&gpus, &[]);
    let scene = "memory_mib = 7700\nframe_ms = 100";
    let job = farm.submit_fake(&FakeJob::in_one_attempt(scene, 12));
    let detail = farm.wait_for_state(job, "completed");
    assert_eq!(detail["job"]["progress"]["tasks"]["failed"], 0);
    assert!(failed_attempts(&farm, job) <= 2, "{:?}", failures(&detail));
    assert_eq!(farm.outputs(job), frames(12));
}

#[test]
fn the_youngest_gives_way_to_others_and_comes_back_when_they_leave() {
    let mut gpus = FakeGpus::of_sizes(&[8_192]);
    let farm = farm_on(&gpus, &[]);
    // Two fit, and two bring nearly twice as much as one.
    let scene = "memory_mib = 3000\nframe_ms = 400\ngpu_share = 0.1";
    let job = farm.submit_fake(&FakeJob::in_one_attempt(scene, 50));
    let pids = |gpus: &FakeGpus| -> Vec<u32> {
        gpus.world().allocations().iter().map(|own| own.pid).collect()
    };
    let mut two = eventually("two render", || {
        let pids = pids(&gpus);
        (pids.len() == 2 && farm.device_states()[0]["slots"] == 2).then_some(pids)
    });
    two.sort_by_key(|pid| started_at(*pid));
    let rendered = || farm.job(job)["job"]["progress"]["frames_done"].as_u64().unwrap();
    let before = rendered();
    eventually("both have rendered a frame", || (rendered() >= before + 4).then_some(()));
    gpus.foreign_process(0, 777, 2_100);
    // The youngest, unless one is idle just then.
    let left = eventually("one gives way", || {
        let pids = pids(&gpus);
        (pids.len() == 1 && two.contains(&pids[0])).then_some(pids[0])
    });
    let said = farm.said("host");
    let youngest = left == two[0] && said.contains("the youngest instance gives way");
    assert!(youngest || said.contains("an idle instance gives way"), "{said}");
    let told = farm.device_states().swap_remove(0);
    assert_eq!(told["others_mib"], 2_100);
    gpus.end_foreign_process(777);
    eventually("there are two again", || (pids(&gpus).len() == 2).then_some(()));
    let detail = farm.wait_for_state(job, "completed");
    assert_eq!(failures(&detail), [""; 0]);
    assert_eq!(failed_attempts(&farm, job), 0, "to give way is no failure");
    assert_eq!(farm.outputs(job), frames(50));
}

/// When a process began, in ticks since the machine did.
fn started_at(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.clone().nth(19).and_then(|field| field.parse().ok()).unwrap_or(u64::MAX)
}

#[test]
fn a_large_shot_gets_its_turn_beside_a_flood_of_small_ones() {
    let gpus = FakeGpus::of_sizes(&[8_192]);
    let farm = farm_on(&gpus, &["--instances", "3"]);
    // So that the farm knows what it needs.
    let large = "memory_mib = 6000\nframe_ms = 300";
    let first = farm.submit_fake(&FakeJob::in_one_attempt(large, 1));
    farm.wait_for_state(first, "completed");
    let flood = farm.submit_fake(&FakeJob::in_one_attempt(
        "memory_mib = 2000\nframe_ms = 100\ngpu_share = 0.0",
        900,
    ));
    eventually("the flood fills the GPU", || (gpus.allocated_mib(GPU) == [2_000; 3]).then_some(()));
    let second = farm.submit_fake(&FakeJob::in_one_attempt(large, 3));
    farm.wait_for_state(second, "completed");
    let left = |detail: &Value| detail["job"]["progress"]["tasks"]["ready"].as_u64();
    let detail = farm.job(flood);
    assert!(left(&detail) > Some(0), "the flood was over before: {detail}");
    farm.grange(&["cancel", &flood.to_string()]).well();
    assert_eq!(failed_attempts(&farm, first) + failed_attempts(&farm, second), 0);
    assert_eq!(farm.outputs(second), frames(3));
}
