//! Every durable step fails once, before it and after it: the process dies there, the disk says no,
//! or it is full. The tables come from `grange-faults`, so a new point is tried by being listed; one
//! that is never passed fails its test.

use grange_faults::{POINTS, Point, Program};
use tempfile::TempDir;

use crate::support::farm::{FakeJob, Farm};
use crate::support::pictures::names;
use crate::support::promise::Frames;
use crate::support::{eventually, program, signal};

const SCENE: &str = "frame_ms = 60\nsamples = 2";
const FRAMES: i32 = 6;
const INSTANCES: [&str; 2] = ["--instances", "2"];

/// Points of a program, each with the ways in which it fails.
fn cases(of: Program) -> impl Iterator<Item = (&'static Point, &'static str)> {
    POINTS.iter().filter(move |point| point.of == of).flat_map(|point| {
        let kinds: &[&str] = match point.name {
            "journal.commit" | "store.write" | "download.write" => &["abort", "io", "enospc"],
            "store.rename" | "layout.rename" | "delivery.send" | "download.rename" => {
                &["abort", "io"]
            }
            _ => &["abort"],
        };
        kinds.iter().map(move |kind| (point, *kind))
    })
}

fn hits(farm: &Farm, process: &str, point: &Point, kind: &str) -> usize {
    farm.said(process).matches(&format!("fault at {}: {kind}", point.name)).count()
}

#[test]
fn the_journal_fails_at_every_step_and_the_farm_keeps_its_promise() {
    coordinator_fails_at("journal.");
}

#[test]
fn the_store_fails_at_every_step_and_the_farm_keeps_its_promise() {
    coordinator_fails_at("store.");
}

#[track_caller]
fn coordinator_fails_at(steps: &str) {
    let mut farm = Farm::of_fakes(&["host"], 2);
    let of_these = cases(Program::Coordinator).filter(|(point, _)| point.name.starts_with(steps));
    // Pictures of a width of their own: what the store has it does not write again.
    for (width, (point, kind)) in (8..).zip(of_these) {
        let scene = format!("frame_ms = 250\nsamples = 2\nwidth = {width}");
        let frames = Frames { count: FRAMES, width, height: 8 };
        // The agent goes on rendering; most of the frames wait for the next coordinator.
        let job = farm.submit_fake(&FakeJob::new(&scene, FRAMES));
        farm.kill_coordinator();
        let is_snapshot = point.name.starts_with("journal.snapshot");
        // The first commit is the one of the start.
        let pass = if is_snapshot { 1 } else { 2 };
        farm.set_environment(&[("GRANGE_FAULT", &format!("{}:{kind}:{pass}", point.name))]);
        farm.spawn_coordinator();
        farm.set_environment(&[]);
        if is_snapshot {
            eventually("it listens", || (farm.grange(&["jobs", "--json"]).code == 0).then_some(()));
            signal(farm.coordinator_pid(), "TERM");
        }
        eventually(&format!("{} is passed", point.name), || {
            (hits(&farm, "coordinator", point, kind) > 0).then_some(())
        });
        if kind == "abort" || is_snapshot {
            eventually("it ends", || farm.coordinator_has_ended().then_some(()));
            farm.start_coordinator();
        }
        eventually("it answers", || (farm.grange(&["jobs", "--json"]).code == 0).then_some(()));
        farm.wait_for_state(job, "completed");
        farm.keeps_its_promise(job, frames);
    }
}

#[test]
fn an_agent_fails_at_every_durable_step_and_the_frames_are_committed_once() {
    let mut farm = Farm::of_fakes(&["host"], 2);
    for (point, kind) in cases(Program::Agent) {
        farm.kill_agent("host");
        let job = farm.submit_fake(&FakeJob::new(SCENE, FRAMES));
        farm.set_environment(&[("GRANGE_FAULT", &format!("{}:{kind}:1", point.name))]);
        farm.restart_agent("host", &[program("fake-blender")], &INSTANCES);
        farm.set_environment(&[]);
        eventually(&format!("{} is passed", point.name), || {
            (hits(&farm, "host", point, kind) > 0).then_some(())
        });
        if kind == "abort" {
            eventually("it ends", || farm.agent_has_ended("host").then_some(()));
            farm.restart_agent("host", &[program("fake-blender")], &INSTANCES);
        }
        farm.wait_for_state(job, "completed");
        farm.keeps_its_promise(job, Frames::small(FRAMES));
    }
}

#[test]
fn a_download_fails_at_every_step_and_the_next_one_leaves_whole_files_only() {
    let farm = Farm::of_fakes(&["host"], 2);
    let job = farm.submit_fake(&FakeJob::new(SCENE, FRAMES));
    farm.wait_for_state(job, "completed");
    let expected: Vec<String> = (1..=FRAMES).map(|frame| format!("{frame:04}.png")).collect();
    for (point, kind) in cases(Program::Client) {
        let out = TempDir::new().unwrap();
        let args = ["fetch", &job.to_string(), "-o", out.path().to_str().unwrap()];
        let mut failing = farm.command(&args);
        failing.env("GRANGE_FAULT", format!("{}:{kind}:2", point.name));
        let failed = failing.output().unwrap();
        assert!(!failed.status.success(), "{}: {kind} changed nothing", point.name);
        let said = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(said.contains(&format!("fault at {}: {kind}", point.name)), "{said}");
        farm.grange(&args).well();
        assert_eq!(names(out.path()), expected);
        for frame in 1..=FRAMES {
            let bytes = std::fs::read(out.path().join(format!("{frame:04}.png"))).unwrap();
            assert!(bytes == grange_tests::noise::png(8, 8, frame), "frame {frame} is damaged");
        }
    }
}
