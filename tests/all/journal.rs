//! What a coordinator remembers: over its death, and over versions of Grange.
//!
//! `journal/format-N` is a backup of a farm, without the keys that were in it. It was made by
//! [`a_state_is_made_for_later_versions`] with the programs of the last commit with that format:
//!
//! ```text
//! cargo build --workspace --bins
//! cargo test --package grange-tests --test all journal::a_state_is_made -- --ignored
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use grange_scheduler::FORMAT;
use tempfile::TempDir;

use crate::support::errand;
use crate::support::farm::{FakeJob, Farm};
use crate::support::told::{Told, failures};
use crate::support::{eventually, program};

/// Jobs of the old state, by the number that they had there.
const COMPLETED: u64 = 1;
const FAILED: u64 = 2;
const PAUSED: u64 = 3;
const UNDER_WAY: u64 = 4;
const FRAMES: i32 = 12;

#[test]
#[ignore = "it makes what later versions are tested with, in target/old-state"]
fn a_state_is_made_for_later_versions() {
    let mut farm = Farm::of_fakes(&["host"], 1);
    let state = farm.home().join("coordinator");
    let token = ["token", "create", "--api", "--role", "submitter", "--name", "notebook"];
    farm.grange(&token).well();
    let completed = farm.submit_fake(&FakeJob::new("frame_ms = 5", 4));
    farm.wait_for_state(completed, "completed");
    // A snapshot, and another one, so that facts are forgotten.
    farm.stop_coordinator();
    farm.start_coordinator();
    farm.wait_for_agents(1);
    let failed = farm.submit_fake(&FakeJob::new("crash = [3]\nonly_first = false", 4));
    farm.wait_for_state(failed, "failed");
    farm.stop_coordinator();
    farm.start_coordinator();
    farm.wait_for_agents(1);
    let begun = |job| {
        eventually("it has begun", || (farm.outputs(job).len() >= 2).then_some(()));
    };
    let paused = farm.submit_fake(&FakeJob::new("frame_ms = 100", FRAMES));
    begun(paused);
    farm.grange(&["pause", &paused.to_string()]).well();
    let under_way = farm.submit_fake(&FakeJob::new("frame_ms = 300", FRAMES));
    begun(under_way);
    assert_eq!([completed, failed, paused, under_way], [COMPLETED, FAILED, PAUSED, UNDER_WAY]);
    farm.kill_coordinator();
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/old-state");
    let _ = fs::remove_dir_all(&made);
    errand(&state, "backup", &made).well();
    // Keys are nobody's business, and a coordinator makes new ones.
    for entry in fs::read_dir(&made).unwrap().map(Result::unwrap) {
        if !["journal.sqlite", "store"].iter().any(|kept| entry.file_name() == *kept) {
            let path = entry.path();
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        }
    }
}

fn kept(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("all/journal/format-{format}"))
}

#[test]
fn a_journal_of_an_earlier_version_is_brought_up_to_date_and_its_jobs_go_on() {
    let mut farm = Farm::without_a_coordinator();
    let state = farm.home().join("coordinator");
    copy(&kept(2), &state);
    let told = check(&state).well();
    assert!(told.contains("4 jobs, fact 55, ") && told.contains("by an earlier Grange"), "{told}");
    farm.start_coordinator();
    let said = farm.said("coordinator");
    assert!(said.contains(&format!("format 2 to {FORMAT}")), "{said}");
    let told = check(&state).well();
    assert!(!told.contains("earlier Grange"), "{told}");

    let state_of = |job: u64| farm.job(job)["job"]["state"].as_str().unwrap().to_owned();
    assert_eq!(
        [COMPLETED, FAILED, PAUSED, UNDER_WAY].map(state_of),
        ["completed", "failed", "paused", "active"]
    );
    assert_eq!(farm.outputs(COMPLETED), ["0001.png", "0002.png", "0003.png", "0004.png"]);
    let failures = failures(&farm.job(FAILED));
    assert_eq!(failures.len(), 3, "{failures:?}");
    let logs = farm.grange(&["logs", &FAILED.to_string(), "--failed"]).well();
    assert!(logs.contains("Writing: /tmp/fake.crash.txt"), "{logs}");
    let tokens = farm.grange(&["token", "list"]).well();
    assert!(tokens.contains("notebook"), "{tokens}");
    let before = farm.outputs(UNDER_WAY);
    assert!((2..FRAMES as usize).contains(&before.len()), "{before:?}");

    farm.start_agent("newcomer", &[program("fake-blender")], &["--instances", "1"]);
    farm.grange(&["resume", &PAUSED.to_string()]).well();
    for job in [PAUSED, UNDER_WAY] {
        let detail = farm.wait_for_state(job, "completed");
        assert_eq!(detail["job"]["progress"]["outputs"], FRAMES, "{detail}");
    }
    let out = TempDir::new().unwrap();
    farm.grange(&["fetch", &UNDER_WAY.to_string(), "-o", out.path().to_str().unwrap()]).well();
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), FRAMES as usize);
    farm.stop_coordinator();
    check(&state).well();
}

#[test]
fn a_backup_of_an_earlier_version_is_restored_and_stays_what_it_was() {
    let place = TempDir::new().unwrap();
    let (backup, state) = (place.path().join("backup"), place.path().join("state"));
    copy(&kept(2), &backup);
    let before = files_in(&backup);
    let told = errand(&state, "restore", &backup).well();
    assert!(told.contains("4 jobs"), "{told}");
    assert!(!check(&state).well().contains("earlier Grange"));
    // Of a coordinator that was not started since, too.
    let again = place.path().join("again");
    let told = errand(&backup, "backup", &again).well();
    assert!(told.contains("4 jobs"), "{told}");
    assert!(check(&again).well().contains("earlier Grange"), "it is copied as it is");
    assert_eq!(files_in(&backup), before);
}

#[test]
fn a_journal_of_a_newer_version_is_refused_and_not_touched() {
    let mut farm = Farm::of_fakes(&["host"], 1);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 5", 2));
    farm.wait_for_state(job, "completed");
    farm.stop_coordinator();
    let state = farm.home().join("coordinator");
    let newer = format!("(format 99, this one knows {FORMAT}): update this coordinator");
    for (versions, sentence) in [
        ("('format', 99)", newer.as_str()),
        ("('format', 3), ('schema', 99)", "(schema 99, this one knows 4): update this coordinator"),
    ] {
        write_versions(&state.join("journal.sqlite"), versions);
        let before = files_in(&state);
        let refused = |told: Told| {
            told.fails(1, "the journal was written by a newer Grange").fails(1, sentence);
        };
        let mut start = Command::new(program("grange-coordinator"));
        start.args(["--listen", "127.0.0.1:0"]).arg("--state-dir").arg(&state);
        refused(Told::by(&mut start));
        refused(check(&state));
        let place = TempDir::new().unwrap();
        let backup = place.path().join("backup");
        refused(errand(&state, "backup", &backup));
        let restored = place.path().join("restored");
        refused(errand(&restored, "restore", &state));
        assert_eq!(files_in(&state), before);
        assert_eq!(files_in(&backup).len() + files_in(&restored).len(), 0);
    }
}

#[test]
fn a_killed_coordinator_comes_back_with_the_state_that_it_had() {
    comes_back_with_its_state(Farm::new());
}

#[test]
fn a_killed_coordinator_comes_back_with_the_state_that_it_had_on_postgres() {
    let farm = Farm::on_postgres();
    assert!(!farm.home().join("coordinator/journal.sqlite").exists());
    comes_back_with_its_state(farm);
}

fn comes_back_with_its_state(mut farm: Farm) {
    farm.add_fakes(&["first", "second"], 1);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 60", 60));
    for round in 1..=2 {
        eventually("more frames are done", || {
            let done = farm.job(job)["job"]["progress"]["frames_done"].as_u64();
            (done >= Some(round * 12)).then_some(())
        });
        farm.kill_coordinator();
        // What the living one said of itself, and what its journal gives back.
        let said = farm.said("coordinator");
        let (fact, hash) = last_state(&said).expect("it said what its state is");
        let told = farm.check(Some(fact)).well();
        assert!(told.contains(&format!("fact {fact}, state {hash},")), "{hash} {told}");
        let whole = farm.check(None).well();
        farm.start_coordinator();
        if round == 1 {
            // With a snapshot in between, and the one before it to compare with.
            farm.stop_coordinator();
            farm.start_coordinator();
        }
        assert!(whole.contains("agree with the facts before them"), "{whole}");
    }
    let detail = farm.wait_for_state(job, "completed");
    assert_eq!(detail["job"]["progress"]["outputs"], 60);
    farm.stop_coordinator();
    let told = farm.check(None).well();
    assert!(told.contains(" 1 snapshots agree with the facts before them"), "{told}");
}

/// The latest fact of which the coordinator said what state it made.
fn last_state(said: &str) -> Option<(u64, String)> {
    let line = said.lines().rev().find(|line| line.contains("as of fact "))?;
    let (fact, hash) = line.split("as of fact ").nth(1)?.split_once(" the state is ")?;
    Some((fact.parse().ok()?, hash.trim().to_owned()))
}

/// `grange-coordinator check` of a state with its journal in a file.
fn check(state_dir: &Path) -> Told {
    let mut command = Command::new(program("grange-coordinator"));
    Told::by(command.arg("--state-dir").arg(state_dir).arg("check"))
}

impl Farm {
    fn check(&self, as_of: Option<u64>) -> Told {
        let mut command = self.coordinator_command();
        command.arg("check");
        if let Some(fact) = as_of {
            command.args(["--as-of", &fact.to_string()]);
        }
        Told::by(&mut command)
    }
}

#[test]
fn a_postgres_that_breaks_down_holds_the_farm_up_and_loses_nothing() {
    let mut farm = Farm::on_postgres();
    farm.add_fakes(&["host"], 1);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 100", 20));
    for round in 1..=2 {
        eventually("more frames are done", || (farm.outputs(job).len() >= round * 5).then_some(()));
        farm.postgres().kill();
        // It says nothing that it cannot write, and says why.
        eventually("the coordinator notices", || {
            let said = farm.said("coordinator");
            (said.matches("the journal cannot be used").count() >= round).then_some(())
        });
        farm.postgres().start_again(&[]);
    }
    let detail = farm.wait_for_state(job, "completed");
    assert_eq!(detail["job"]["progress"]["outputs"], 20);
    farm.kill_coordinator();
    farm.start_coordinator();
    assert_eq!(farm.outputs(job).len(), 20);
    farm.check(None).well();
}

#[test]
fn a_second_coordinator_on_the_same_postgres_is_refused() {
    let mut farm = Farm::on_postgres();
    let place = TempDir::new().unwrap();
    let mut second = Command::new(program("grange-coordinator"));
    second.args(["--listen", "127.0.0.1:0", "--journal", &farm.postgres().url()]);
    second.arg("--state-dir").arg(place.path().join("second"));
    Told::by(&mut second).fails(1, "another coordinator has this journal");
    assert!(farm.grange(&["jobs"]).code == 0, "the first one does not mind");
}

/// What a program of another version would have written.
fn write_versions(journal: &Path, versions: &str) {
    let script = "import sqlite3, sys\n\
                  with sqlite3.connect(sys.argv[1]) as journal:\n    \
                  journal.execute('insert or replace into meta (key, value) values ' + sys.argv[2])\n\
                  journal.close()";
    let mut python = Command::new("python3.11");
    Told::by(python.args(["-c", script]).arg(journal).arg(versions)).well();
}

/// What is in a directory, but for what SQLite keeps beside a file that it has opened.
fn files_in(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            files.extend(files_in(&path));
        } else if !path.to_string_lossy().ends_with("-shm")
            && !path.to_string_lossy().ends_with("-wal")
        {
            files.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).map(drop).unwrap();
        }
    }
}
