//! The dashboard as people meet it: a real coordinator, real agents, headless Chromium. What is done
//! there is told in `coordinator/web/tests/stories.js`; here is the farm that it is done to.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use grange_protocol::job::Policy;
use serde_json::Value;

use crate::runtimes::blender;
use crate::support::farm::{FakeJob, Farm};
use crate::support::gpus::FakeGpus;
use crate::support::http::agent;
use crate::support::scenes::scenes;
use crate::support::{eventually, program, signal};

/// A frame that does not end while somebody looks.
const ENDLESS: &str = "frame_ms = 600000";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../coordinator/web")
}

/// Plays a story to its end, and does with the farm what it asks for.
fn play(farm: &mut Farm, story: &str, mut deed: impl FnMut(&mut Farm, &str) -> String) {
    for built in ["dist/index.html", "node_modules/playwright-core"] {
        let path = folder().join(built);
        assert!(path.exists(), "no {}: run the tests with `cargo xtask test`", path.display());
    }
    let link = farm.grange(&["dashboard"]).well();
    let mut player = Player::start(story, link.trim());
    while let Some(asked) = player.next() {
        let answer = match asked.split_once(' ') {
            None if asked == "link" => farm.grange(&["dashboard"]).well().trim().to_owned(),
            Some(("token", role)) => {
                let create = ["token", "create", "--api", "--role", role, "--name", role];
                farm.grange(&create).well().trim().to_owned()
            }
            _ => deed(farm, &asked),
        };
        player.answer(&answer);
    }
}

struct Player(Child, BufReader<std::process::ChildStdout>);

impl Player {
    fn start(story: &str, link: &str) -> Self {
        let mut child = Command::new("node")
            .arg(folder().join("tests/play.js"))
            .args([story, link])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("no node: run the tests with `cargo xtask test`, which installs it");
        let said = BufReader::new(child.stdout.take().unwrap());
        Self(child, said)
    }

    /// What it asks for next; `None` at the end, which must be a happy one.
    fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        match line.trim() {
            "the end" => None,
            "" => {
                let mut why = String::new();
                self.0.stderr.take().unwrap().read_to_string(&mut why).unwrap();
                panic!("the story broke off: {why}")
            }
            asked => Some(asked.to_owned()),
        }
    }

    fn answer(&mut self, text: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{text}").unwrap();
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn nothing(_: &mut Farm, asked: &str) -> String {
    panic!("nobody knows how to {asked}")
}

#[test]
fn an_empty_farm_says_what_comes_next_and_lets_nobody_in_without_a_secret() {
    let mut farm = Farm::new();
    play(&mut farm, "firstStart", |farm, asked| {
        let join = asked.strip_prefix("join ").expect("a join string");
        farm.start_agent_by("host", &[program("fake-blender")], &["--instances", "1"], join);
        farm.wait_for_agents(1);
        "joined".into()
    });
}

#[test]
fn a_scene_is_dropped_and_its_frames_are_watched_as_they_arrive() {
    let mut farm = Farm::new();
    farm.start_agent("host", &[blender()], &["--instances", "1"]);
    farm.wait_for_agents(1);
    farm.grange(&["agent", "tag", "host", "big"]).well();
    let scene = farm.home().join("turntable.blend");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/turntable.py");
    let made = Command::new(blender())
        .args(["-b", "--factory-startup", "--python-exit-code", "1", "--python"])
        .args([&script, Path::new("--"), &scene])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    play(&mut farm, "rendering", |farm, asked| match asked {
        "scene" => scene.display().to_string(),
        asked => nothing(farm, asked),
    });
}

#[test]
fn a_frame_is_seen_on_the_device_that_renders_it() {
    let gpus = FakeGpus::of_sizes(&[24_576, 24_576]);
    let mut farm = Farm::new();
    farm.start_agent_on(&gpus, "meadow", &["--instances", "1"]);
    farm.wait_for_agents(1);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 600000\nsamples = 400", 12));
    play(&mut farm, "devices", nothing);
    farm.grange(&["cancel", &job.to_string()]).well();
    farm.wait_for_state(job, "canceled");
}

#[test]
fn jobs_are_acted_on_one_and_several() {
    let mut farm = Farm::of_fakes(&["host"], 1);
    let policy = Policy { attempts_max: 1, ..Policy::default() };
    let failing = FakeJob { policy, ..FakeJob::new("fail = [1, 2, 3]", 4) };
    let failed = farm.submit_fake(&failing);
    farm.wait_for_state(failed, "failed");
    farm.grange(&["agent", "tag", "host", "big", "night"]).well();
    let endless = FakeJob { tags: &["big", "night"], ..FakeJob::new(ENDLESS, 3) };
    let jobs: Vec<u64> = (0..4).map(|_| farm.submit_fake(&endless)).collect();
    farm.wait_for_state(jobs[0], "active");
    let failed_at = |farm: &Farm| farm.job(failed)["tasks"][0]["failures"][0]["at"].clone();
    let mut before = Value::Null;
    play(&mut farm, "acting", |farm, asked| match asked {
        "states" => {
            let listed = farm.grange(&["jobs", "--json"]).json();
            let mut jobs: Vec<(u64, String)> = listed
                .as_array()
                .unwrap()
                .iter()
                .map(|job| (job["id"].as_u64().unwrap(), job["state"].as_str().unwrap().into()))
                .collect();
            jobs.sort();
            jobs.into_iter().map(|(_, state)| state).collect::<Vec<_>>().join(",")
        }
        "remember" => {
            before = failed_at(farm);
            "remembered".into()
        }
        "retried" => {
            let now = failed_at(farm);
            (if now.is_null() || now == before { "no" } else { "yes" }).into()
        }
        "stumble" => {
            // The Blender after the one that crashes has begun with what was sent ahead.
            let scene = "crash = [1]\nonly_first = true\nframe_ms = 1";
            let job = farm.submit_fake(&FakeJob::new(scene, 3));
            farm.wait_for_state(job, "completed");
            job.to_string()
        }
        "delete 2" => {
            farm.wait_for_state(jobs[0], "canceled");
            farm.grange(&["delete", &jobs[0].to_string()]).well();
            "deleted".into()
        }
        asked => nothing(farm, asked),
    });
}

#[test]
fn a_viewer_sees_everything_and_changes_nothing() {
    let mut farm = Farm::of_fakes(&["host"], 1);
    let job = farm.submit_fake(&FakeJob::new(ENDLESS, 3));
    farm.wait_for_state(job, "active");
    play(&mut farm, "viewing", nothing);
    assert_eq!(farm.job(job)["job"]["state"], "active");
    // An agent that is told to stop would wait for the frame.
    farm.grange(&["cancel", &job.to_string()]).well();
    farm.wait_for_state(job, "canceled");
}

#[test]
fn a_render_on_one_machine_shows_its_dashboard_if_wanted() {
    let home = tempfile::TempDir::new().unwrap();
    // A browser that only writes down what it was to show, and finds it there.
    let opener = home.path().join("xdg-open");
    let shown = home.path().join("shown");
    std::fs::write(&opener, format!("#!/bin/sh\necho \"$1\" > '{}'\n", shown.display())).unwrap();
    std::fs::set_permissions(&opener, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap());
    let scene = scenes().join("slow.blend");
    let mut render = Command::new(program("grange"))
        .args(["render", "--open", "--frames", "1"])
        .arg(scene)
        .arg("--output")
        .arg(home.path().join("out"))
        .env("PATH", path)
        .env("XDG_CACHE_HOME", home.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let url = eventually("a browser is opened", || {
        std::fs::read_to_string(&shown).ok().filter(|url| url.ends_with('\n'))
    });
    let (page, secret) = url.trim().split_once("#link=").expect("a link");
    assert_eq!(secret.len(), 32);
    let mut answer = agent(None, false).get(page).call().unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.body_mut().read_to_string().unwrap().contains("<div id=\"app\">"));
    signal(render.id(), "INT");
    render.wait().unwrap();
}

#[test]
fn what_happened_is_told_and_what_happens_shows_up() {
    let mut farm = Farm::of_fakes(&["host"], 1);
    play(&mut farm, "remembering", |farm, asked| match asked {
        "submit" => {
            let job = farm.submit_fake(&FakeJob::new("frame_ms = 1", 2));
            farm.wait_for_state(job, "completed");
            job.to_string()
        }
        "pause and resume" => {
            let job = farm.submit_fake(&FakeJob::new(ENDLESS, 1)).to_string();
            for _ in 0..12 {
                farm.grange(&["pause", &job]).well();
                farm.grange(&["resume", &job]).well();
            }
            farm.grange(&["cancel", &job]).well();
            "done".into()
        }
        "restart" => {
            farm.kill_coordinator();
            farm.start_coordinator();
            "done".into()
        }
        asked => nothing(farm, asked),
    });
}

#[test]
fn a_page_says_when_it_is_not_live_and_comes_back_by_itself() {
    let mut farm = Farm::of_fakes(&["host"], 1);
    // It waits for its turn in the story, however long that takes to come.
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 1000", 12));
    farm.grange(&["pause", &job.to_string()]).well();
    play(&mut farm, "losing", |farm, asked| {
        match asked {
            "stop" => farm.stop_coordinator(),
            "start" => farm.start_coordinator(),
            "go on" => {
                farm.grange(&["resume", &job.to_string()]).well();
                farm.wait_for_state(job, "completed");
            }
            "revoke" => {
                let tokens = farm.grange(&["token", "list", "--json"]).json();
                let name = tokens[0]["name"].as_str().expect("the browser's token");
                farm.grange(&["token", "revoke", name]).well();
            }
            asked => return nothing(farm, asked),
        }
        "done".into()
    });
}
