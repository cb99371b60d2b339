//! GPUs, none of which exist: what agents tell of them, and what fake Blenders do with them.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::farm::{FakeJob, Farm};
use crate::support::gpus::FakeGpus;
use crate::support::{eventually, program};

/// A fake Blender on a GPU, and the other end of its socket.
struct Fake {
    dir: TempDir,
    child: Child,
    lines: BufReader<UnixStream>,
    hello: Value,
}

impl Fake {
    fn on(gpus: &FakeGpus, uuid: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let child = Command::new(program("fake-blender"))
            .arg(&socket)
            .arg("0")
            .env(grange_fake_nvml::world::DIR, gpus.dir())
            .env("CUDA_VISIBLE_DEVICES", uuid)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(listener.accept().unwrap().0);
        let mut fake = Self { dir, child, lines, hello: Value::Null };
        fake.hello = fake.hears("hello");
        fake
    }

    fn tell(&mut self, order: &Value) {
        self.lines.get_mut().write_all(format!("{order}\n").as_bytes()).unwrap();
    }

    /// The next message of one of these kinds, which are separated by `|`.
    fn hears(&mut self, kinds: &str) -> Value {
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line).unwrap();
            let message: Value = serde_json::from_str(&line).unwrap();
            if kinds.split('|').any(|kind| message["is"] == kind) {
                return message;
            }
        }
    }

    fn open(&mut self, scene: &str) -> Value {
        let path = self.dir.path().join("scene.blend");
        fs::write(&path, scene).unwrap();
        self.tell(&json!({"do": "open", "path": path, "allow_missing": false}));
        self.hears("opened|not_opened")
    }

    fn begin(&mut self, kept: bool) {
        self.tell(&json!({
            "do": "render", "id": 1, "frame": 1, "pattern": "####", "scratch": self.dir.path(),
            "persistent_data": kept,
        }));
    }

    fn render(&mut self, kept: bool) -> Value {
        self.begin(kept);
        self.hears("rendered|failed")
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_fake_blender_takes_memory_of_its_gpu_and_fails_in_blenders_words() {
    let mut gpus = FakeGpus::of_sizes(&[1_000, 500]);
    let mut first = Fake::on(&gpus, "GPU-0");
    assert_eq!(
        first.hello["devices"][1],
        json!({"kind": "CUDA", "name": "Fake 0", "id": "CUDA_Fake 0_0000:01:00"})
    );
    assert_eq!(first.open("memory_mib = 400\nkept_memory_mib = 700")["is"], "opened");
    assert_eq!(gpus.allocated_mib("GPU-0"), [400]);
    assert_eq!(first.render(true)["is"], "rendered");
    assert_eq!(gpus.allocated_mib("GPU-0"), [700]);

    let mut second = Fake::on(&gpus, "GPU-0");
    let failed = second.open("memory_mib = 400");
    let why = (failed["is"].as_str(), failed["fault"].as_str(), failed["reason"].as_str());
    let out_of_memory = (Some("out_of_memory"), Some("System is out of GPU memory"));
    assert_eq!(why, (Some("not_opened"), out_of_memory.0, out_of_memory.1));
    assert_eq!(first.render(false)["is"], "rendered");
    assert_eq!(second.open("memory_mib = 400\nkept_memory_mib = 700")["is"], "opened");
    let failed = second.render(true);
    let why = (failed["is"].as_str(), failed["fault"].as_str(), failed["reason"].as_str());
    assert_eq!(why, (Some("failed"), out_of_memory.0, out_of_memory.1));

    // What one had is free when it has ended, however that came.
    drop(first);
    assert_eq!(second.render(true)["is"], "rendered");
    second.tell(&json!({"do": "quit"}));
    eventually("it quits", || second.child.try_wait().unwrap());
    assert_eq!(gpus.allocated_mib("GPU-0"), [] as [u64; 0]);

    let mut third = Fake::on(&gpus, "GPU-1");
    assert_eq!(third.open("memory_mib = 400")["is"], "opened");
    gpus.change(|state| state.gpus[1].lost = true);
    assert_eq!(third.render(false)["fault"], "host");
}

#[test]
fn fake_blenders_hold_each_other_up_on_one_gpu_and_not_on_two() {
    let gpus = FakeGpus::of_sizes(&[1_000, 1_000]);
    let render_both = |uuids: [&str; 2]| {
        let mut fakes = uuids.map(|uuid| Fake::on(&gpus, uuid));
        for fake in &mut fakes {
            let scene = "frame_ms = 600\ngpu_share = 1.0\nswitch_cost = 0.1";
            assert_eq!(fake.open(scene)["is"], "opened");
        }
        let began = Instant::now();
        for fake in &mut fakes {
            fake.begin(false);
        }
        for fake in &mut fakes {
            assert_eq!(fake.hears("rendered|failed")["is"], "rendered");
        }
        began.elapsed()
    };
    // Twice as long, and the tenth for the second instance: 1.32 s.
    let together = render_both(["GPU-0", "GPU-0"]);
    assert!(together > Duration::from_millis(1_150), "{together:?}");
    let apart = render_both(["GPU-0", "GPU-1"]);
    assert!(apart < Duration::from_millis(1_100), "{apart:?}");
}

#[test]
fn an_agent_tells_of_its_gpus_and_then_of_its_cpu() {
    let gpus = FakeGpus::of_sizes(&[8_192, 24_576]);
    let mut farm = Farm::new();
    farm.start_agent_on(&gpus, "host", &["--memory-gib", "0.5"]);
    farm.wait_for_agents(1);
    let agents = farm.grange(&["agents", "--json"]).json();
    let devices = agents[0]["devices"].as_array().unwrap();
    let told: Vec<_> = devices
        .iter()
        .map(|device| (device["id"].as_str(), device["memory_mib"].as_u64()))
        .collect();
    assert_eq!(
        told,
        [(Some("GPU-0"), Some(8_192)), (Some("GPU-1"), Some(24_576)), (Some("cpu"), Some(512)),]
    );
}

#[test]
fn an_instance_uses_the_gpu_that_it_was_started_for() {
    let gpus = FakeGpus::of_sizes(&[1_000, 1_000]);
    let mut farm = Farm::new();
    farm.start_agent_on(&gpus, "host", &["--instances", "1"]);
    farm.wait_for_agents(1);
    let job = farm.submit_fake(&FakeJob::new("memory_mib = 64\nframe_ms = 1000", 9));
    eventually("each GPU has an instance", || {
        ["GPU-0", "GPU-1"].iter().all(|uuid| gpus.allocated_mib(uuid) == [64]).then_some(())
    });
    farm.wait_for_state(job, "completed");
}
