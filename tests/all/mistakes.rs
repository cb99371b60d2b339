//! What people do wrong, and what they are told: one sentence that names the thing and the next
//! step.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::runtimes::blender;
use crate::support::farm::Farm;
use crate::support::program;
use crate::support::scenes::{scene_of_5_0, scenes};
use crate::support::told::Told;

fn render(scene: PathBuf, args: &[&str]) -> Told {
    let out = TempDir::new().unwrap();
    let mut command = Command::new(program("grange"));
    command.env("XDG_CACHE_HOME", out.path()).arg("render").arg(scene);
    Told::by(command.arg("-o").arg(out.path().join("out")).args(args))
}

#[test]
fn a_file_that_is_none() {
    render("/nowhere/x.blend".into(), &[]).fails(1, "there is no file `/nowhere/x.blend`");
    let dir = TempDir::new().unwrap();
    let garbage = dir.path().join("garbage.blend");
    fs::write(&garbage, "not a scene").unwrap();
    render(garbage, &[]).fails(1, "is not a .blend file: name one that Blender saved");
    let whole = fs::read(scenes().join("turn.blend")).unwrap();
    let half = dir.path().join("half.blend");
    fs::write(&half, &whole[..whole.len() / 2]).unwrap();
    render(half, &[]).fails(1, "ends too early: save it again");
}

#[test]
fn a_scene_without_a_camera() {
    let told = render(scenes().join("no_camera.blend"), &[]);
    told.fails(1, "scene `Scene` has no camera to render with: set one in Blender");
}

#[test]
fn a_file_of_a_newer_blender_than_the_host_has() {
    let dir = TempDir::new().unwrap();
    let newer = scene_of_5_0(dir.path());
    let old = blender().display().to_string();
    let args = ["--blender", &old, "--allow-no-denoiser"];
    let told = render(newer, &args).fails(1, "the file was saved by Blender 5.0");
    assert!(told.stderr.contains("3.4"), "{told:?}");
}

#[test]
fn a_scene_that_needs_a_denoiser_that_is_not_there() {
    let old = blender().display().to_string();
    let scene = || scenes().join("denoised.blend");
    let told = render(scene(), &["--blender", &old]).fails(1, "was built without the denoiser");
    assert!(told.stderr.contains("--allow-no-denoiser"), "{told:?}");
    render(scene(), &["--blender", &old, "--allow-no-denoiser", "-f", "1"]).well();
}

#[test]
fn no_blender_no_sandbox_and_something_else_than_a_blender() {
    let scene = || scenes().join("turn.blend");
    render(scene(), &["--blender", "/bin/true"])
        .fails(1, "`/bin/true` is neither a Blender nor a Python");
    let empty = TempDir::new().unwrap();
    let without = |programs: &[&str]| {
        for name in programs {
            let real = std::env::split_paths(&std::env::var_os("PATH").unwrap())
                .map(|dir| dir.join(name))
                .find(|path| path.exists())
                .unwrap();
            let _ = std::os::unix::fs::symlink(real, empty.path().join(name));
        }
        let out = TempDir::new().unwrap();
        let mut command = Command::new(program("grange"));
        command.env("PATH", empty.path()).env("XDG_CACHE_HOME", out.path()).env("HOME", out.path());
        Told::by(command.arg("render").arg(scene()).arg("-o").arg(out.path().join("out")))
    };
    without(&[]).fails(1, "bubblewrap is missing");
    let told = without(&["bwrap"]).fails(1, "no Blender");
    assert!(told.stderr.contains("apt-get install blender"), "{told:?}");
}

#[test]
fn a_coordinator_that_is_not_there() {
    let mut farm = Farm::new();
    farm.kill_coordinator();
    let told = farm.grange(&["jobs"]).fails(3, "cannot be reached");
    assert!(told.stderr.contains("check that it runs"), "{told:?}");
    let nobody = TempDir::new().unwrap();
    let mut command = Command::new(program("grange"));
    command.arg("--identity").arg(nobody.path()).arg("jobs");
    Told::by(&mut command).fails(1, "ask the farm's admin for a join string");
}

#[test]
fn jobs_and_tasks_that_do_not_exist() {
    let farm = Farm::new();
    for command in ["job", "watch", "cancel", "pause", "resume", "retry", "logs"] {
        farm.grange(&[command, "7"])
            .fails(1, "there is no job 7: `grange jobs` lists the jobs of this farm");
    }
    farm.grange(&["priority", "7", "80"]).fails(1, "there is no job 7");
    farm.grange(&["priority", "7", "101"])
        .fails(2, "give a whole number from 0 (last) to 100 (first)");
    let out = farm.home().join("out");
    farm.grange(&["fetch", "7", "-o", out.to_str().unwrap()]).fails(1, "there is no job 7");
}

#[test]
fn agents_that_do_not_exist_and_figures_that_are_not_there_yet() {
    let farm = Farm::new();
    farm.grange(&["agents", "--why", "meadow"])
        .fails(1, "there is no agent meadow: `grange agents` lists the agents of this farm");
    assert!(farm.grange(&["agents", "--why"]).well().contains("nothing was decided yet"));
    assert_eq!(farm.grange(&["agents", "--why", "--json"]).well(), "[]\n");
    // A submitter may ask what a farm has learned; so may its admin.
    let join = farm.grange(&["token", "create", "--role", "submitter"]).well();
    let ada = |args: &[&str]| {
        let mut command = Command::new(program("grange"));
        command.arg("--identity").arg(farm.home().join("ada"));
        Told::by(command.args(args))
    };
    ada(&["join", join.trim()]).well();
    assert!(ada(&["footprints"]).well().contains("nothing was measured yet"));
    assert!(ada(&["agents", "--why"]).well().contains("nothing was decided yet"));
    assert_eq!(farm.grange(&["footprints", "--json"]).well(), "[]\n");
}

#[test]
fn join_strings_are_for_one_newcomer_of_one_role_for_a_short_time() {
    let farm = Farm::new();
    let token = |args: &[&str]| {
        let told = farm.grange(&[&["token", "create"], args].concat());
        told.well().trim().to_owned()
    };
    let join = |string: &str, dir: &str| {
        let mut command = Command::new(program("grange"));
        command.arg("--identity").arg(farm.home().join(dir)).args(["join", string]);
        Told::by(&mut command)
    };
    let submitter = token(&["--role", "submitter"]);
    assert!(join(&submitter, "ada").well().contains("joined farm test as submitter"));
    join(&submitter, "bob").fails(1, "unknown or has been used already; ask for a new one");
    join(&submitter, "ada").fails(1, "you are in farm test already");
    let agent = token(&["--role", "agent"]);
    join(&agent, "bob").fails(1, "this join string is for a render host");
    join(&submitter[..50], "bob").fails(1, "the join string is incomplete");
    let short = token(&["--role", "submitter", "--ttl", "10s"]);
    farm.grange(&["token", "create", "--role", "submitter", "--ttl", "1s"])
        .fails(1, "a join token lives from 10 seconds to 7 days");
    farm.grange(&["token", "create", "--role", "king"])
        .fails(2, "admin, submitter, viewer or agent");

    // A submitter makes no tokens.
    let mut command = Command::new(program("grange"));
    command.arg("--identity").arg(farm.home().join("ada"));
    command.args(["token", "create", "--role", "admin"]);
    Told::by(&mut command).fails(1, "your role (submitter) does not allow this");

    // A wrong CA: somebody sits between.
    let mut wrong: String = submitter.clone();
    wrong.replace_range(wrong.len() - 4.., "0000");
    join(&wrong, "bob").fails(1, "is not the coordinator of this farm");

    std::thread::sleep(std::time::Duration::from_secs(11));
    join(&short, "bob").fails(1, "the join token has expired");
}
