//! `grange render`: one machine, nothing configured, real Blender.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::runtimes::blender;
use crate::support::pictures::{names, pixels};
use crate::support::scenes::scenes;
use crate::support::told::Told;
use crate::support::{eventually, processes, program, signal};

fn grange(cache: &TempDir) -> Command {
    let mut command = Command::new(program("grange"));
    command.env("XDG_CACHE_HOME", cache.path());
    command
}

fn render(cache: &TempDir, scene: &str, out: &Path, more: &[&str]) -> Told {
    let scene = scenes().join(scene);
    Told::by(grange(cache).arg("render").arg(scene).arg("-o").arg(out).args(more))
}

#[test]
fn an_animation_is_rendered_frame_by_frame_and_only_what_is_missing_again() {
    let (cache, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let expected = ["turn_0001.png", "turn_0002.png", "turn_0003.png", "turn_0004.png"];
    let told = render(&cache, "turn.blend", out.path(), &[]);
    assert_eq!(told.stdout.matches("saved ").count(), 4, "{told:?}");
    assert!(told.stderr.contains("completed · 4/4 frames · 100 %"), "{told:?}");
    told.well();
    assert_eq!(names(out.path()), expected);
    let first: Vec<_> = expected.map(|name| pixels(&out.path().join(name))).into();
    assert_eq!(first, by_blender_alone(&scenes().join("turn.blend"), &expected));

    let told = render(&cache, "turn.blend", out.path(), &[]);
    assert_eq!(told.stdout, "", "nothing is rendered: {told:?}");
    assert!(told.stderr.contains("all 4 frames are in"), "{told:?}");

    // One is gone, one is half of itself.
    fs::remove_file(out.path().join("turn_0002.png")).unwrap();
    let half = fs::read(out.path().join("turn_0004.png")).unwrap();
    fs::write(out.path().join("turn_0004.png"), &half[..half.len() / 2]).unwrap();
    let told = render(&cache, "turn.blend", out.path(), &[]);
    let saved = told.well();
    assert_eq!(saved.matches("saved ").count(), 2, "{saved}");
    let again: Vec<_> = expected.map(|name| pixels(&out.path().join(name))).into();
    assert_eq!(again, first);

    let saved = render(&cache, "turn.blend", out.path(), &["--overwrite", "-f", "2-3"]).well();
    assert_eq!(saved.matches("saved ").count(), 2, "{saved}");
    assert_eq!(names(&cache.path().join("grange")), [""; 0], "its own files stay behind");
}

#[test]
fn what_a_killed_farm_has_left_is_cleared_by_the_next_and_nothing_of_the_living() {
    let cache = TempDir::new().unwrap();
    let start = || {
        let mut command = grange(&cache);
        command.arg("local").arg("--blender").arg(program("fake-blender"));
        let mut farm = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut connect = String::new();
        BufReader::new(farm.stdout.as_mut().unwrap()).read_line(&mut connect).unwrap();
        assert!(connect.starts_with("grange+https://"), "{connect}");
        farm
    };
    let folders = || {
        let entries = fs::read_dir(cache.path().join("grange")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<BTreeSet<_>>()
    };
    let mut living = start();
    let of_living = folders();
    let mut killed = start();
    assert_eq!(folders().len(), 2);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(folders().len(), 2, "nobody was there to clear it");
    let mut next = start();
    let there = folders();
    assert!(there.is_superset(&of_living) && there.len() == 2, "{there:?}");
    for farm in [&mut living, &mut next] {
        signal(farm.id(), "INT");
        assert!(farm.wait().unwrap().success());
    }
    assert_eq!(folders(), BTreeSet::new());
}

#[test]
fn shots_too_are_rendered_only_where_they_are_missing() {
    let (cache, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let list = out.path().join("shots.toml");
    fs::write(
        &list,
        "[[shot]]\nname = 'front'\ncamera = 'Front'\n\
         [[shot]]\nname = 'turn'\ncamera = 'Up'\nframes = '1-2'\n",
    )
    .unwrap();
    let shots = ["--shots", list.to_str().unwrap()];
    let first = render(&cache, "skybox.blend", out.path(), &shots).well();
    assert_eq!(first.matches("saved ").count(), 3, "{first}");
    let all = ["front.png", "shots.toml", "turn_0001.png", "turn_0002.png"];
    assert_eq!(names(out.path()), all);
    let told = render(&cache, "skybox.blend", out.path(), &shots);
    assert!(told.stderr.contains("all 3 frames are in"), "{told:?}");
    // Of two frames one is left, and it keeps its number.
    fs::remove_file(out.path().join("turn_0002.png")).unwrap();
    let saved = render(&cache, "skybox.blend", out.path(), &shots).well();
    assert_eq!(saved.matches("saved ").count(), 1, "{saved}");
    assert_eq!(names(out.path()), all);
}

/// What one Blender makes of the scene by itself.
fn by_blender_alone(scene: &Path, names: &[&str]) -> Vec<(u32, u32, Vec<u8>)> {
    let out = TempDir::new().unwrap();
    let done = Command::new(blender())
        .arg("-b")
        .arg(scene)
        .arg("-o")
        .arg(out.path().join("turn_####"))
        .arg("-a")
        .output()
        .unwrap();
    assert!(done.status.success());
    names.iter().map(|name| pixels(&out.path().join(name))).collect()
}

#[test]
fn json_tells_every_event_and_every_file() {
    let (cache, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let told = render(
        &cache,
        "turn.blend",
        out.path(),
        &["--json", "-f", "1-2", "--instances", "2", "--fine-progress", "--samples", "1024"],
    );
    let lines = told.json_lines();
    let saved = lines.iter().filter(|line| line["saved"].is_string()).count();
    assert_eq!(saved, 2);
    let samples =
        lines.iter().filter(|line| line["task"]["task"]["progress"]["samples"] == 1024).count();
    assert!(samples > 0, "no samples were told: {lines:?}");
    let last = lines.iter().rfind(|line| line["job"].is_object()).unwrap();
    assert_eq!(last["job"]["state"], "completed");
    assert_eq!(last["job"]["progress"]["fraction"], 1.0);
}

/// A render of many frames, interrupted in the middle of one.
struct Interrupted {
    cache: TempDir,
    out: TempDir,
    child: std::process::Child,
}

impl Interrupted {
    fn after_the_first_frame() -> Self {
        let (cache, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let mut command = grange(&cache);
        command.arg("render").arg(scenes().join("slow.blend")).arg("-o").arg(out.path());
        command.env("TMPDIR", cache.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        eventually("a frame", || (!names(out.path()).is_empty()).then_some(()));
        Self { cache, out, child }
    }

    /// Blenders and sandboxes of this render that live.
    fn processes(&self) -> Vec<String> {
        processes(self.cache.path().to_str().unwrap())
            .into_iter()
            .filter(|line| !line.contains("slow.blend"))
            .collect()
    }
}

#[test]
fn ctrl_c_cancels_within_a_second_and_keeps_what_is_done() {
    let mut render = Interrupted::after_the_first_frame();
    assert!(!render.processes().is_empty(), "no Blender renders");
    let whole = |names: Vec<String>| names.into_iter().filter(|name| name.ends_with(".png"));
    let done: Vec<String> = whole(names(render.out.path())).collect();
    let began = Instant::now();
    signal(render.child.id(), "INT");
    let status = render.child.wait().unwrap();
    let took = began.elapsed();
    assert_eq!(status.code(), Some(130));
    assert_eq!(render.processes(), [""; 0], "Blenders outlive the render");
    let kept = names(render.out.path());
    assert!(done.iter().all(|name| kept.contains(name)), "finished frames are gone");
    for name in kept {
        pixels(&render.out.path().join(name));
    }
    assert_eq!(names(&render.cache.path().join("grange")), [""; 0], "its own files stay behind");
    // Generous, because the machine may be busy; the figure is in docs/performance.md.
    assert!(took < Duration::from_secs(5), "it took {took:?}");
}

#[test]
fn ctrl_c_twice_ends_it_at_once() {
    let mut render = Interrupted::after_the_first_frame();
    signal(render.child.id(), "INT");
    std::thread::sleep(Duration::from_millis(10));
    // It may be gone already, which is just as well.
    let _ = Command::new("kill").arg("-INT").arg(render.child.id().to_string()).output();
    assert_eq!(render.child.wait().unwrap().code(), Some(130));
    eventually("no Blender is left", || render.processes().is_empty().then_some(()));
}
