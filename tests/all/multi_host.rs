//! A coordinator and agents as separate processes, and a submitter elsewhere: real Blender.

use std::process::Command;

use tempfile::TempDir;

use crate::runtimes::{blender, bpy_pythons};
use crate::support::farm::Farm;
use crate::support::pictures::names;
use crate::support::program;
use crate::support::scenes::scenes;
use crate::support::told::Told;

#[test]
fn a_submitter_without_a_blender_renders_on_two_hosts() {
    let mut farm = Farm::new();
    farm.start_agent("meadow", &[blender()], &["--instances", "1", "--engines", "cycles"]);
    farm.start_agent("paddock", &[blender()], &["--instances", "1", "--engines", "cycles"]);
    farm.wait_for_agents(2);

    // Somebody joins, with nothing on the path: reading a scene needs no Blender.
    let home = TempDir::new().unwrap();
    let ada = |args: &[&str]| {
        let mut command = Command::new(program("grange"));
        command.env_clear().env("HOME", home.path()).env("USER", "ada").args(args);
        Told::by(&mut command)
    };
    let join = farm.grange(&["token", "create", "--role", "submitter"]).well();
    let joined = ada(&["join", join.trim(), "--json"]).json();
    assert_eq!(
        (joined["farm"].as_str(), joined["role"].as_str()),
        (Some("test"), Some("submitter"))
    );

    let scene = scenes().join("turn.blend");
    let out = home.path().join("frames");
    let (scene, to) = (scene.to_str().unwrap(), out.to_str().unwrap());
    let told = ada(&["submit", scene, "--wait", "-o", to, "--priority", "60"]);
    assert!(told.stderr.contains("completed · 4/4 frames · 100 %"), "{told:?}");
    told.well();
    let expected =
        ["turn-preview.mp4", "turn_0001.png", "turn_0002.png", "turn_0003.png", "turn_0004.png"];
    assert_eq!(names(&out), expected);
    let probed = Told::by(
        Command::new("ffprobe")
            .args([
                "-v",
                "error",
                "-count_frames",
                "-show_entries",
                "stream=nb_read_frames,width",
                "-of",
                "csv=p=0",
            ])
            .arg(out.join("turn-preview.mp4")),
    );
    assert_eq!(probed.well().trim(), "64,4");

    let jobs = ada(&["jobs", "--json"]).json();
    assert_eq!(jobs[0]["name"], "turn.blend");
    assert!(jobs[0]["submitter"].as_str().unwrap().starts_with("ada@"));
    let table = ada(&["jobs"]).well();
    assert!(table.contains("turn.blend") && table.contains("completed"), "{table}");
    let detail = ada(&["job", "1"]).well();
    assert!(detail.contains("render") && detail.contains("preview"), "{detail}");
    let agents = ada(&["agents", "--json"]).json();
    assert_eq!(agents.as_array().unwrap().len(), 2);
    assert_eq!(agents[0]["runtimes"][0]["full_version"], "3.4.1");
    assert_eq!(agents[0]["ffmpeg"], true);
    let logs = ada(&["logs", "1", "--task", "0"]).well();
    assert!(logs.contains("task 0/0 on"), "{logs}");
    let again = TempDir::new().unwrap();
    let fetched = ada(&["fetch", "1", "-o", again.path().to_str().unwrap()]).well();
    assert!(fetched.contains("5 files"), "{fetched}");
    assert_eq!(names(again.path()), expected);
}

#[test]
fn a_file_is_rendered_by_the_oldest_blender_that_can_open_it() {
    let mut farm = Farm::new();
    let blenders: Vec<_> =
        bpy_pythons().into_iter().map(|(_, python)| python).chain([blender()]).collect();
    farm.start_agent("host", &blenders, &["--engines", "cycles"]);
    farm.wait_for_agents(1);
    let agents = farm.grange(&["agents", "--json"]).json();
    let versions: Vec<&str> = agents[0]["runtimes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|runtime| runtime["full_version"].as_str().unwrap())
        .collect();
    assert_eq!(versions, ["4.2.23 LTS", "4.5.15 LTS", "5.0.1", "3.4.1"]);
    let scene = scenes().join("turn.blend");
    farm.grange(&["submit", scene.to_str().unwrap(), "--frames", "1", "--no-preview", "--wait"])
        .well();
    let newer = crate::support::scenes::scene_of_5_0(farm.home());
    let args = ["submit", newer.to_str().unwrap(), "--frames", "1", "--no-preview", "--wait"];
    farm.grange(&args).well();
    // It is denoised too; 3.4 could not have opened it.
    assert_eq!(farm.job(2)["job"]["state"], "completed");
    // A denoised scene of 3.4 goes to the oldest that has the denoiser.
    let denoised = scenes().join("denoised.blend");
    farm.grange(&["submit", denoised.to_str().unwrap(), "--frames", "1", "--no-preview", "--wait"])
        .well();
}
