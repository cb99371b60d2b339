//! A coordinator's state in another place, and back, with its agents none the wiser.

use std::fs;

use tempfile::TempDir;

use crate::support::farm::{FakeJob, Farm};
use crate::support::told::Told;
use crate::support::{errand, eventually};

#[test]
fn a_farm_comes_back_from_its_backup_and_goes_on() {
    comes_back_from_its_backup(Farm::new());
}

#[test]
fn a_farm_comes_back_from_its_backup_and_goes_on_on_postgres() {
    comes_back_from_its_backup(Farm::on_postgres());
}

fn comes_back_from_its_backup(mut farm: Farm) {
    farm.add_fakes(&["host"], 1);
    let done = farm.submit_fake(&FakeJob::new("frame_ms = 5", 4));
    farm.wait_for_state(done, "completed");
    let before = farm.outputs(done);
    let under_way = farm.submit_fake(&FakeJob::new("frame_ms = 300", 12));
    eventually("it has begun", || (!farm.outputs(under_way).is_empty()).then_some(()));

    let place = TempDir::new().unwrap();
    let backup = place.path().join("backup");
    let told = farm.errand("backup", &backup).well();
    assert!(told.contains("2 jobs"), "{told}");
    // The next one copies what is new, and no more.
    eventually("there is more", || (farm.outputs(under_way).len() >= 3).then_some(()));
    let again = farm.errand("backup", &backup).well();
    let copied = |told: &str| -> u32 {
        let files = told.split(" jobs, ").nth(1).expect("a report").split(' ').next().unwrap();
        files.parse().unwrap()
    };
    assert!(copied(&again) < copied(&told), "{told}{again}");

    farm.lose_all();
    let told = farm.errand("restore", &backup).well();
    assert!(told.contains("2 jobs"), "{told}");
    farm.errand("restore", &backup).fails(1, "is not empty");
    farm.start_coordinator();
    farm.wait_for_agents(1);
    assert_eq!(farm.outputs(done), before);
    let fetched = place.path().join("fetched");
    farm.grange(&["fetch", &done.to_string(), "-o", fetched.to_str().unwrap()]).well();
    assert_eq!(fs::read_dir(&fetched).unwrap().count(), 4);
    let detail = farm.wait_for_state(under_way, "completed");
    assert_eq!(detail["job"]["progress"]["outputs"], 12, "{detail}");
    // Nothing that was leased before may pass for a lease of now.
    assert!(farm.grange(&["agents", "--json"]).json()[0]["tasks"].as_u64() <= Some(1));
}

/// A journal moves by a backup: from a file to PostgreSQL, and back.
#[test]
fn a_farm_moves_to_postgres_and_back() {
    let mut farm = Farm::of_fakes(&["host"], 1);
    let job = farm.submit_fake(&FakeJob::new("crash = [3]\nonly_first = false", 4));
    farm.wait_for_state(job, "failed");
    let logs = farm.grange(&["logs", &job.to_string(), "--json"]).json_lines();
    let history = |farm: &Farm| farm.grange(&["history", "--json"]).json_lines();
    let before = history(&farm);
    farm.stop_coordinator();
    let state = farm.home().join("coordinator");
    let place = TempDir::new().unwrap();
    let (backup, back) = (place.path().join("backup"), place.path().join("back"));
    errand(&state, "backup", &backup).well();

    // Who only adds the line would miss all jobs, and is told.
    farm.turn_to_postgres();
    let listen = ["--listen", "127.0.0.1:0"];
    Told::by(farm.coordinator_command().args(listen)).fails(1, "is empty and");
    fs::remove_dir_all(&state).unwrap();
    farm.errand("restore", &backup).well();
    farm.start_coordinator();
    farm.wait_for_agents(1);
    assert_eq!(farm.grange(&["logs", &job.to_string(), "--json"]).json_lines(), logs);
    assert_eq!(history(&farm)[..before.len()], before);
    farm.grange(&["retry", &job.to_string()]).well();
    farm.wait_for_state(job, "failed");
    let logs = farm.grange(&["logs", &job.to_string(), "--json"]).json_lines();
    let outputs = farm.outputs(job);
    assert_eq!(outputs.len(), 3);

    farm.errand("backup", &back).well();
    farm.stop_coordinator();
    // Neither may anybody forget the line, or name another database.
    farm.turn_to_postgres();
    Told::by(farm.coordinator_command().args(listen)).fails(1, "names the farm's database");
    farm.turn_to_a_file();
    Told::by(farm.coordinator_command().args(listen)).fails(1, "put the setting `journal` back");
    fs::remove_dir_all(&state).unwrap();
    errand(&state, "restore", &back).well();
    farm.start_coordinator();
    assert_eq!(farm.outputs(job), outputs);
    assert_eq!(history(&farm)[..before.len()], before);
    assert_eq!(farm.grange(&["logs", &job.to_string(), "--json"]).json_lines(), logs);
}

#[test]
fn what_is_no_backup_or_lacks_something_is_said() {
    let farm = Farm::of_fakes(&["host"], 1);
    let job = farm.submit_fake(&FakeJob::new("", 2));
    farm.wait_for_state(job, "completed");
    let place = TempDir::new().unwrap();
    let (nothing, backup) = (place.path().join("nothing"), place.path().join("backup"));
    errand(&nothing, "backup", &backup).fails(1, "is no state of a coordinator");
    errand(&nothing, "restore", place.path()).fails(1, "is no backup");
    errand(&farm.home().join("coordinator"), "backup", &backup).well();
    // One file is damaged, as by a failing disk: it is left out and missed.
    let blobs = backup.join("store/blobs");
    let largest = fs::read_dir(blobs)
        .unwrap()
        .flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| fs::read(path).unwrap().starts_with(b"\x89PNG"))
        .max()
        .unwrap();
    fs::write(&largest, b"bits that have rotten").unwrap();
    let restored = place.path().join("restored");
    errand(&restored, "restore", &backup).fails(1, "lacks 1 files that jobs have committed");
}
