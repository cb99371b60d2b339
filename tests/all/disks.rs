//! Disks that are full: people see it, nothing is damaged, and work goes on by itself when there is
//! room.

use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::support::disk::Disk;
use crate::support::farm::{FakeJob, Farm};
use crate::support::http::Http;
use crate::support::promise::{Frames, files_of_store};
use crate::support::{eventually, program};

/// Pictures of noise, 3 MB each.
const LARGE: &str = "width = 1000\nheight = 1000\nframe_ms = 50";

fn large(count: i32) -> Frames {
    Frames { count, width: 1000, height: 1000 }
}

/// What the farm says is wrong with an agent's first device.
fn problem_of(farm: &Farm, name: &str) -> Option<String> {
    let agents = farm.grange(&["agents", "--json"]).json();
    let agent = agents.as_array().unwrap().iter().find(|agent| agent["name"] == name)?;
    Some(agent["device_states"][0]["problem"].as_str()?.to_owned())
}

fn says_storage_full(problem: &str) -> bool {
    problem.starts_with("storage full: make room at ")
}

#[test]
fn an_agent_whose_disk_is_full_says_so_and_goes_on_when_there_is_room() {
    let mut farm = Farm::new();
    let Some(disk) = Disk::mount(&farm.home().join("tight"), "24m") else { return };
    farm.start_agent("tight", &[program("fake-blender")], &["--instances", "1"]);
    farm.wait_for_agents(1);
    // Room for what it knows of, and not for a picture.
    disk.fill_but(2 << 20);
    let job = farm.submit_fake(&FakeJob::in_one_attempt(LARGE, 6));
    let problem = eventually("the agent says that its storage is full", || {
        problem_of(&farm, "tight").filter(|problem| says_storage_full(problem))
    });
    assert!(problem.contains("/tight"), "it does not say where: {problem}");
    let shown = farm.grange(&["agents"]).well();
    assert!(shown.contains("storage full: make room"), "{shown}");
    let told = Http::of(&farm, "submitter").get("/api/v1/agents").json(200);
    let told = told[0]["device_states"][0]["problem"].as_str().unwrap().to_owned();
    assert!(says_storage_full(&told), "{told}");
    let tasks = &farm.job(job)["job"]["progress"]["tasks"];
    assert_eq!((&tasks["completed"], &tasks["failed"]), (&Value::from(0), &Value::from(0)));
    disk.empty();
    farm.wait_for_state(job, "completed");
    farm.keeps_its_promise(job, large(6));
    assert_eq!(problem_of(&farm, "tight"), None);
}

#[test]
fn a_disk_that_is_too_small_for_a_frame_leaves_the_work_to_others_and_fails_nothing() {
    let mut farm = Farm::of_fakes(&["roomy"], 1);
    let Some(disk) = Disk::mount(&farm.home().join("tight"), "2m") else { return };
    farm.start_agent("tight", &[program("fake-blender")], &["--instances", "1"]);
    farm.wait_for_agents(2);
    let job = farm.submit_fake(&FakeJob::in_one_attempt(LARGE, 8));
    farm.wait_for_state(job, "completed");
    farm.keeps_its_promise(job, large(8));
    eventually("the small disk is said to be full", || {
        problem_of(&farm, "tight").filter(|problem| says_storage_full(problem))
    });
    disk.resize("64m");
    eventually("it takes work again", || problem_of(&farm, "tight").is_none().then_some(()));
}

#[test]
fn a_scene_that_does_not_fit_the_agents_disk_waits_for_room() {
    let mut farm = Farm::new();
    let Some(disk) = Disk::mount(&farm.home().join("tight"), "16m") else { return };
    farm.start_agent("tight", &[program("fake-blender")], &["--instances", "1"]);
    farm.wait_for_agents(1);
    disk.fill_but(2 << 20);
    // A scene of 4 MB, for comments are as good as geometry.
    let scene = format!("frame_ms = 10\n{}", "# a line of a scene\n".repeat(210_000));
    let job = farm.submit_fake(&FakeJob::in_one_attempt(&scene, 3));
    eventually("the agent says that its storage is full", || {
        problem_of(&farm, "tight").filter(|problem| says_storage_full(problem))
    });
    disk.empty();
    farm.wait_for_state(job, "completed");
    farm.keeps_its_promise(job, Frames::small(3));
}

#[test]
fn a_farm_whose_disk_is_full_says_so_and_takes_the_frames_when_there_is_room() {
    let mut farm = Farm::without_a_coordinator();
    let Some(disk) = Disk::mount(&farm.home().join("coordinator"), "48m") else { return };
    farm.start_coordinator();
    farm.start_agent("host", &[program("fake-blender")], &["--instances", "1"]);
    farm.wait_for_agents(1);
    // The first frame takes longer than it takes to fill the disk.
    let scene = LARGE.replace("frame_ms = 50", "frame_ms = 2000");
    let job = farm.submit_fake(&FakeJob::in_one_attempt(&scene, 3));
    // Less than what is kept for the journal, a twentieth.
    disk.fill_but(2 << 20);
    let said = eventually("the farm says that its storage is full", || {
        let shown = farm.grange(&["jobs"]).well();
        shown.contains("the farm's storage is full: make room at ").then_some(shown)
    });
    assert!(said.contains("/coordinator on "), "it does not say where: {said}");
    let http = Http::of(&farm, "submitter");
    let told = http.get("/api/v1/farm").json(200)["storage_full"].as_str().unwrap().to_owned();
    assert!(told.contains("it goes on by itself"), "{told}");
    let refused = farm.try_put(&[7; 3 << 20]).unwrap_err().to_string();
    assert!(refused.contains("the farm's storage is full"), "{refused}");
    // It can be asked, told, and killed.
    farm.kill_coordinator();
    farm.start_coordinator();
    disk.empty();
    farm.wait_for_state(job, "completed");
    farm.keeps_its_promise(job, large(3));
    assert_eq!(http.get("/api/v1/farm").json(200)["storage_full"], Value::Null);
}

#[test]
fn an_upload_over_http_waits_for_room_where_it_was() {
    let mut farm = Farm::without_a_coordinator();
    let Some(disk) = Disk::mount(&farm.home().join("coordinator"), "48m") else { return };
    farm.start_coordinator();
    let http = Http::of(&farm, "submitter");
    let begin =
        || http.send("POST", "/api/v1/uploads", &[("Upload-Length", "3000000")], Vec::new());
    let upload = begin().headers["location"].to_str().unwrap().to_owned();
    let append = |offset: &str, last: &str, bytes: u64| {
        let headers = [
            ("Content-Type", "application/partial-upload"),
            ("Upload-Offset", offset),
            ("Upload-Complete", last),
        ];
        let body = std::io::repeat(7).take(bytes);
        http.send_from_with("PATCH", &upload, Some(bytes), &headers, body).unwrap()
    };
    assert_eq!(append("0", "?0", 1_000_000).status, 204);
    disk.fill_but(2 << 20);
    append("1000000", "?1", 2_000_000).problem(503, "not_now", "the farm's storage is full");
    begin().problem(503, "not_now", "the farm's storage is full: make room at ");
    assert_eq!(http.get(&upload).json(200)["offset"], 1_000_000);
    disk.empty();
    let last = eventually("there is room again", || {
        Some(append("1000000", "?1", 2_000_000)).filter(|answer| answer.status != 503)
    });
    assert_eq!(last.json(201)["len"], 3_000_000);
}

#[test]
fn a_journal_without_room_answers_everybody_at_once_and_loses_nothing() {
    let mut farm = Farm::without_a_coordinator();
    let Some(disk) = Disk::mount(&farm.home().join("coordinator"), "24m") else { return };
    farm.start_coordinator();
    farm.start_agent("host", &[program("fake-blender")], &["--instances", "1"]);
    farm.wait_for_agents(1);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 50", 60));
    eventually("a frame is done", || {
        (farm.job(job)["job"]["progress"]["frames_done"].as_u64() >= Some(1)).then_some(())
    });
    disk.fill_but(0);
    // Whatever room is given back is taken again, and there is always something to write down.
    let mut priorities = 1..100;
    let mut change = || {
        let priority = priorities.next().unwrap().to_string();
        let mut command = farm.command(&["priority", &job.to_string(), &priority]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut changing = change();
    eventually("whoever asks is told", || {
        disk.fill_but(0);
        if changing.try_wait().unwrap().is_some() {
            changing = change();
        }
        let answer = farm.grange(&["jobs"]);
        (answer.code != 0 && answer.stderr.contains("the farm's storage is full")).then_some(())
    });
    disk.empty();
    eventually("the farm answers again", || (farm.grange(&["jobs"]).code == 0).then_some(()));
    changing.wait().unwrap();
    farm.wait_for_state(job, "completed");
    farm.keeps_its_promise(job, Frames::small(60));
    let arriving = farm.home().join("coordinator/store/arriving");
    assert_eq!(std::fs::read_dir(arriving).unwrap().count(), 0, "half files are left");
    assert!(files_of_store(&farm.home().join("coordinator/store/blobs")).len() >= 60);
}
