//! Frames through a bad network: real agents, real QUIC, and a relay between them that does what
//! networks do. The same promise holds whatever it does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::farm::{FakeJob, Farm};
use crate::support::promise::Frames;
use crate::support::relay::{Relay, Weather};
use crate::support::{eventually, eventually_within, program, seed};

/// A farm with one agent behind a relay.
fn farm() -> (Farm, Relay) {
    let (mut farm, relay) = Farm::behind_relay(seed(6));
    farm.start_agent("far", &[program("fake-blender")], &["--instances", "2"]);
    farm.wait_for_agents(1);
    (farm, relay)
}

/// Pictures of 60 kB, which take several datagrams.
const SCENE: &str = "width = 150\nheight = 130\nframe_ms = 30\nsamples = 2";

fn frames(count: i32) -> Frames {
    Frames { count, width: 150, height: 130 }
}

#[track_caller]
fn has_happened(what: &str, counter: &AtomicU64) {
    assert!(counter.load(Ordering::Relaxed) > 0, "nothing was {what}");
}

fn wait_for_frames(farm: &Farm, job: u64, count: u64) {
    eventually(&format!("{count} frames are done"), || {
        let done = farm.job(job)["job"]["progress"]["frames_done"].as_u64();
        (done >= Some(count)).then_some(())
    });
}

#[test]
fn loss_delay_reordering_repetition_and_damage_change_no_frame() {
    let (farm, relay) = farm();
    relay.set(Weather {
        loss: 0.03,
        duplication: 0.03,
        corruption: 0.03,
        reordering: 0.1,
        delay_ms: 10,
        ..Weather::default()
    });
    let job = farm.submit_fake(&FakeJob::new(SCENE, 40));
    farm.wait_for_state(job, "completed");
    farm.keeps_its_promise(job, frames(40));
    let counts = relay.counts();
    has_happened("lost", &counts.lost);
    has_happened("duplicated", &counts.duplicated);
    has_happened("corrupted", &counts.corrupted);
    has_happened("reordered", &counts.reordered);
}

#[test]
fn a_connection_goes_on_when_the_agents_port_changes() {
    let (farm, relay) = farm();
    let job = farm.submit_fake(&FakeJob::new(SCENE, 40));
    for count in [5, 15, 25] {
        wait_for_frames(&farm, job, count);
        relay.rebind();
    }
    farm.wait_for_state(job, "completed");
    farm.keeps_its_promise(job, frames(40));
    has_happened("rebound", &relay.counts().rebound);
    // It migrated: the coordinator saw the agent come once.
    assert_eq!(farm.said("coordinator").matches("agent far is here").count(), 1);
}

#[test]
fn a_cut_line_does_not_stop_rendering_and_what_was_finished_is_delivered_late() {
    let (farm, relay) = farm();
    let job = farm.submit_fake(&FakeJob::new(SCENE, 30));
    wait_for_frames(&farm, job, 3);
    // Shorter than anybody notices, a few times.
    for cut_ms in [100, 400, 1_000] {
        relay.set(Weather { cut: true, ..Weather::default() });
        std::thread::sleep(Duration::from_millis(cut_ms));
        relay.set(Weather::default());
        std::thread::sleep(Duration::from_millis(200));
    }
    farm.wait_for_state(job, "completed");
    farm.keeps_its_promise(job, frames(30));
    has_happened("cut", &relay.counts().cut);
}

#[test]
fn a_line_that_is_cut_for_longer_than_leases_live_commits_nothing_twice() {
    let (mut farm, relay) = farm();
    let scene = SCENE.replace("frame_ms = 30", "frame_ms = 300");
    let job = farm.submit_fake(&FakeJob::new(&scene, 30));
    wait_for_frames(&farm, job, 2);
    relay.sever();
    // QUIC gives up after 15 s, and the farm 3 s later: then another agent renders what the first
    // one holds, and has finished meanwhile.
    farm.start_agent("near", &[program("fake-blender")], &["--instances", "2"]);
    farm.wait_for_state(job, "completed");
    relay.mend();
    farm.wait_for_agents(2);
    farm.keeps_its_promise(job, frames(30));
}

#[test]
#[ignore = "it takes seven minutes"]
fn a_line_that_is_cut_for_five_minutes_is_found_again() {
    let (farm, relay) = farm();
    // Longer than the line is cut.
    let scene = SCENE.replace("frame_ms = 30", "frame_ms = 20000");
    let job = farm.submit_fake(&FakeJob::new(&scene, 40));
    wait_for_frames(&farm, job, 2);
    relay.set(Weather { cut: true, ..Weather::default() });
    std::thread::sleep(Duration::from_secs(300));
    relay.set(Weather::default());
    eventually_within(600, "the job is completed", || {
        (farm.job(job)["job"]["state"] == "completed").then_some(())
    });
    farm.keeps_its_promise(job, frames(40));
}

#[test]
fn frames_pass_a_link_of_ten_megabits() {
    let (farm, relay) = farm();
    relay.set(Weather { kbit_per_s: Some(10_000), delay_ms: 10, ..Weather::default() });
    // 20 pictures of 120 kB: 2.4 MB, 2 s of that link.
    let scene = "width = 200\nheight = 200\nframe_ms = 10\nsamples = 2";
    let job = farm.submit_fake(&FakeJob::new(scene, 20));
    farm.wait_for_state(job, "completed");
    farm.keeps_its_promise(job, Frames { count: 20, width: 200, height: 200 });
    has_happened("passed", &relay.counts().passed);
}
