//! What is old goes, with its files, and what is needed stays.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::support::eventually;
use crate::support::farm::{FakeJob, Farm};
use crate::support::http::Http;

/// Downloaded jobs go at once, others stay.
const IMPATIENT: [&str; 4] = ["--keep-days", "0", "--keep-unfetched-days", "1000"];

fn files(farm: &Farm) -> Vec<PathBuf> {
    let shards = fs::read_dir(farm.home().join("coordinator/store/blobs")).unwrap();
    shards
        .flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect()
}

/// As if nobody had asked for any file for two days.
fn age_files(farm: &Farm) {
    let then = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    for file in files(farm) {
        File::open(file).unwrap().set_modified(then).unwrap();
    }
}

fn fetch(farm: &Farm, job: u64) {
    let to = TempDir::new().unwrap();
    farm.grange(&["fetch", &job.to_string(), "-o", to.path().to_str().unwrap()]).well();
    assert!(fs::read_dir(to.path()).unwrap().count() > 0, "job {job} has outputs");
}

fn wait_until_collected(farm: &Farm, job: u64) {
    eventually("the job is collected", || {
        let told = farm.grange(&["job", &job.to_string()]);
        (told.code != 0).then_some(())
    });
    farm.grange(&["job", &job.to_string()])
        .fails(1, "somebody deleted it, or it had ended long ago");
}

/// Three jobs that are done, each with a scene of its own.
fn three_jobs(farm: &mut Farm) -> [u64; 3] {
    farm.add_fakes(&["host"], 1);
    let jobs = ["frame_ms = 1", "frame_ms = 2", "frame_ms = 3"]
        .map(|scene| farm.submit_fake(&FakeJob::new(scene, 2)));
    for job in jobs {
        farm.wait_for_state(job, "completed");
    }
    jobs
}

#[test]
fn a_downloaded_job_goes_in_time_with_its_files_and_others_stay() {
    goes_in_time(Farm::new());
}

#[test]
fn a_downloaded_job_goes_in_time_with_its_files_and_others_stay_on_postgres() {
    goes_in_time(Farm::on_postgres());
}

fn goes_in_time(mut farm: Farm) {
    let [fetched, waiting, kept] = three_jobs(&mut farm);
    let told = farm.grange(&["keep", &kept.to_string()]).well();
    assert_eq!(told, format!("job {kept}: completed, priority 50, kept\n"));
    let row = |told: &str, job: u64| {
        let is = |row: &&str| row.split_whitespace().next() == Some(&job.to_string());
        told.lines().find(is).expect("a row of the job").to_owned()
    };
    let jobs = farm.grange(&["jobs"]).well();
    assert!(row(&jobs, kept).ends_with("kept") && !row(&jobs, waiting).ends_with("kept"), "{jobs}");
    assert_eq!(farm.job(kept)["job"]["kept"], true);
    farm.stop_coordinator();
    farm.start_coordinator_with(&IMPATIENT);
    let before = files(&farm).len();
    age_files(&farm);
    fetch(&farm, kept);
    fetch(&farm, fetched);
    wait_until_collected(&farm, fetched);
    eventually("its files are gone", || (files(&farm).len() < before).then_some(()));
    let http = Http::of(&farm, "submitter");
    for path in ["", "/outputs", "/logs", "/tasks", "/outputs/0001.png"] {
        let gone = http.get(&format!("/api/v1/jobs/{fetched}{path}"));
        gone.problem(410, "gone", "somebody deleted it, or it had ended long ago");
    }
    http.get("/api/v1/jobs/99").problem(404, "not_found", "there is no job 99");
    // Nobody has downloaded the one, and the other is kept: both are whole.
    fetch(&farm, waiting);
    fetch(&farm, kept);
    let shown = farm.grange(&["job", &kept.to_string()]).well();
    assert!(shown.contains("state: completed, priority 50, kept\n"), "{shown}");
    wait_until_collected(&farm, waiting);
    fetch(&farm, kept);
    let metrics = http.get("/metrics");
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(metrics.contains("grange_collected_jobs_total 2\n"), "{metrics}");
    let storage = http.get("/api/v1/storage").json(200);
    assert_eq!(storage["collected_jobs"], 2);
    assert!(storage["collected_files"].as_u64() > Some(0), "{storage}");
    assert!(storage["disk_free_bytes"].as_u64() < storage["disk_bytes"].as_u64(), "{storage}");
    assert!(storage["keep_days"].as_f64() < Some(1.0), "{storage}");
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 1", 2));
    assert_eq!(job, 4, "numbers are never given again");
    farm.wait_for_state(job, "completed");
}

/// The coordinator dies between the end of a job's record and that of its files.
#[test]
fn files_of_a_collected_job_go_after_a_crash() {
    let mut farm = Farm::new();
    let [fetched, waiting, _] = three_jobs(&mut farm);
    farm.stop_coordinator();
    // As a backup does, somebody keeps files from going.
    let lock = File::open(farm.home().join("coordinator/store")).unwrap();
    lock.lock_shared().unwrap();
    farm.start_coordinator_with(&IMPATIENT);
    let before = files(&farm);
    age_files(&farm);
    fetch(&farm, fetched);
    wait_until_collected(&farm, fetched);
    farm.kill_coordinator();
    assert_eq!(files(&farm), before, "no file goes while the lock is held");
    drop(lock);
    farm.start_coordinator_with(&IMPATIENT);
    eventually("its files are gone", || (files(&farm).len() < before.len()).then_some(()));
    fetch(&farm, waiting);
}
