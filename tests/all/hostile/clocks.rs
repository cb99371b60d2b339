//! Clocks that are wrong, and clocks that jump: nothing but lines of logs depends on them.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use crate::support::farm::{FakeJob, Farm};
use crate::support::http::Http;
use crate::support::promise::Frames;
use crate::support::{eventually, program};

/// Gives a process another wall clock; the loader fills in where libraries are.
const PRELOAD: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";
const HOUR_S: i64 = 3_600;
/// The library cannot work in the sandbox, which shares no memory with anybody.
const OPEN: &[&str] = &["--sandbox", "off"];

/// A wall clock, and no other: neither the one that never jumps nor the times of files.
fn clock<'a>(says: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let common = [
        ("LD_PRELOAD", PRELOAD),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
        ("FAKE_UTIME", "0"),
    ];
    [&common, says].concat()
}

#[test]
fn agents_with_wrong_clocks_join_and_render_and_only_their_logs_show_it() {
    let mut farm = Farm::new();
    for (name, time) in [("early", "@1971-02-03 04:05:06"), ("late", "@2100-02-03 04:05:06")] {
        farm.set_environment(&clock(&[("FAKETIME", time)]));
        farm.start_agent(name, &[program("fake-blender")], OPEN);
    }
    farm.wait_for_agents(2);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 50", 30));
    farm.wait_for_state(job, "completed");
    farm.keeps_its_promise(job, Frames::small(30));
    for (name, year) in [("early", "1971-02-03T"), ("late", "2100-02-03T")] {
        let said = farm.said(name);
        assert!(said.contains(year), "its clock was not wrong: {said}");
    }
    // What they have decided is told by the farm's clock.
    let decided = farm.grange(&["agents", "--why", "--json"]).json();
    let decided = decided.as_array().unwrap();
    assert!(!decided.is_empty());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    for view in decided {
        let at = u128::from(view["decision"]["at"].as_u64().unwrap());
        assert!(at.abs_diff(now) < 3_600_000, "{view}");
    }
    // They come back as who they are, with a clock that is wrong in another way.
    farm.kill_agent("early");
    farm.set_environment(&clock(&[("FAKETIME", "@2037-02-03 04:05:06")]));
    farm.restart_agent("early", &[program("fake-blender")], OPEN);
    farm.wait_for_agents(2);
}

#[test]
fn a_coordinator_whose_clock_jumps_loses_no_lease_no_frame_and_no_token() {
    let mut farm = Farm::without_a_coordinator();
    let offset = farm.home().join("clock");
    set(&offset, 0);
    let path = offset.display().to_string();
    let file = ("FAKETIME_TIMESTAMP_FILE", path.as_str());
    farm.set_environment(&clock(&[file, ("FAKETIME_NO_CACHE", "1")]));
    farm.start_coordinator();
    farm.set_environment(&[]);
    farm.add_fakes(&["host"], 2);
    let http = Http::of(&farm, "submitter");
    let mut jobs = Vec::new();
    for hours in [30, -30, 24 * 365, -24 * 365, 0] {
        let job = farm.submit_fake(&FakeJob::new("frame_ms = 1500", 3));
        eventually("its frames are rendered", || {
            let running = farm.job(job)["job"]["progress"]["tasks"]["running"].as_u64();
            (running >= Some(1)).then_some(())
        });
        let day = set(&offset, hours);
        farm.wait_for_state(job, "completed");
        farm.keeps_its_promise(job, Frames::small(3));
        let said = farm.said("coordinator");
        assert!(said.contains(&day), "the clock did not jump to {day}: {said}");
        assert_eq!(http.get("/api/v1/farm").json(200)["farm"], "test");
        jobs.push(job);
    }
    let said = farm.said("coordinator");
    assert_eq!(said.matches("agent host is here").count(), 1, "{said}");
    assert!(!said.contains("agent host has gone"), "{said}");
    // The time that people are told goes on.
    let told: Vec<u64> =
        jobs.iter().map(|job| farm.job(*job)["job"]["submitted_at"].as_u64().unwrap()).collect();
    assert!(told.is_sorted() && told[4] - told[0] < HOUR_S.unsigned_abs() * 1_000, "{told:?}");
}

/// Sets the clock that reads this file. Returns what day it is by that.
fn set(file: &Path, hours: i64) -> String {
    let fresh = file.with_extension("new");
    fs::write(&fresh, format!("{:+}\n", hours * HOUR_S)).unwrap();
    fs::rename(fresh, file).unwrap();
    let told = std::process::Command::new("date")
        .args(["--utc", "+%Y-%m-%dT", "--date", &format!("{hours} hours")])
        .output()
        .unwrap();
    String::from_utf8(told.stdout).unwrap().trim().to_owned()
}
