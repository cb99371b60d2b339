//! The same on a real NVIDIA GPU with real Blenders: `cargo xtask test gpu`. Each test prints the
//! GPU's name and its figures, for docs/gpu.md.
#![expect(clippy::print_stdout, reason = "the figures are what these tests are for")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::runtimes::bpy;
use crate::support::eventually_within;
use crate::support::farm::Farm;
use crate::support::scenes::script;
use crate::support::told::Told;

/// The first render of a new driver compiles its kernels.
const PATIENCE_S: u64 = 540;
const BLENDER: &str = "4.5.15";

/// A farm of this machine's GPUs.
struct Gpus {
    farm: Farm,
    scenes: TempDir,
    /// What the agent told of its GPUs when it joined, in its order; the CPU is not among them.
    devices: Vec<Value>,
}

impl Gpus {
    fn new() -> Self {
        let mut farm = Farm::new();
        farm.start_agent("host", &[bpy(BLENDER)], &["--engines", "cycles"]);
        farm.wait_for_agents(1);
        let agents = farm.grange(&["agents", "--json"]).json();
        let devices: Vec<Value> = agents[0]["devices"].as_array().unwrap().clone();
        let devices: Vec<Value> =
            devices.into_iter().filter(|device| device["kind"] == "cuda").collect();
        assert!(!devices.is_empty(), "the agent finds no NVIDIA GPU: {}", farm.said("host"));
        for device in &devices {
            println!(
                "GPU {}: {}, {} MiB, driver {}",
                text(&device["id"]),
                text(&device["name"]),
                device["memory_mib"],
                text(&device["driver"])
            );
        }
        let largest = devices.iter().filter_map(|device| device["memory_mib"].as_u64()).max();
        let scenes = scenes_for(largest.unwrap());
        Self { farm, scenes, devices }
    }

    /// Submits a scene to CUDA devices; returns the job's number.
    fn submit(&self, scene: &str, more: &[&str]) -> u64 {
        submit(&self.farm, &self.scenes.path().join(scene), &[&["--device", "cuda"], more].concat())
    }

    /// The state of each GPU.
    fn states(&self) -> Vec<Value> {
        let mut states = self.farm.device_states();
        states.truncate(self.devices.len());
        states
    }

    /// Waits for the end of a job while `look` sees the GPUs again and again.
    fn follow(&self, job: u64, mut look: impl FnMut(&[Value])) -> Value {
        eventually_within(PATIENCE_S, &format!("job {job} ends"), || {
            look(&self.states());
            let detail = self.farm.job(job);
            let state = text(&detail["job"]["state"]).to_owned();
            matches!(state.as_str(), "completed" | "failed" | "canceled").then_some(detail)
        })
    }

    /// What the agent decided about its devices and why.
    fn decisions(&self) -> Vec<String> {
        let said = self.farm.said("host");
        said.lines()
            .filter_map(|line| {
                line.split_once(" device ").map(|(_, rest)| format!("device {rest}"))
            })
            .collect()
    }
}

/// The scenes of `scenes/gpu.py` for a GPU with so much memory.
fn scenes_for(memory_mib: u64) -> TempDir {
    let dir = TempDir::new().unwrap();
    let made = Command::new(bpy(BLENDER))
        .arg(script("gpu.py"))
        .arg(dir.path())
        .arg(memory_mib.to_string())
        .output()
        .expect("Blender starts");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(dir.path().join("huge.blend").exists(), "the scenes were not made: {said}");
    dir
}

fn submit(farm: &Farm, scene: &Path, more: &[&str]) -> u64 {
    let args = ["submit", scene.to_str().unwrap(), "--no-preview", "--json"];
    farm.grange(&[&args, more].concat()).json()["job"].as_u64().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Process numbers in a device's state that the farm says are its own, and what each takes.
fn ours(state: &Value) -> BTreeMap<u64, Option<u64>> {
    let processes = state["processes"].as_array().into_iter().flatten();
    let ours = processes.filter(|process| process["ours"] == true);
    ours.map(|process| (process["pid"].as_u64().unwrap(), process["mib"].as_u64())).collect()
}

/// What `nvidia-smi` says of processes that compute: the GPU and the number of each.
fn nvidia_smi() -> BTreeSet<(String, u64)> {
    let query = ["--query-compute-apps=gpu_uuid,pid", "--format=csv,noheader"];
    let listed = Told::by(Command::new("nvidia-smi").args(query)).well();
    listed
        .lines()
        .filter_map(|line| {
            let (uuid, pid) = line.split_once(',')?;
            Some((uuid.trim().to_owned(), pid.trim().parse().ok()?))
        })
        .collect()
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn the_inventory_and_the_accounting_of_processes_agree_with_nvidia_smi() {
    let gpus = Gpus::new();
    let listed = Told::by(Command::new("nvidia-smi").arg("-L")).well();
    for device in &gpus.devices {
        assert!(listed.contains(text(&device["id"])), "{listed}");
    }
    let job = gpus.submit("ball.blend", &["--frames", "1-20"]);
    let mut most = 0;
    let mut agreed = false;
    gpus.follow(job, |states| {
        let by_driver = nvidia_smi();
        for (device, state) in gpus.devices.iter().zip(states) {
            for (pid, mib) in ours(state) {
                most = most.max(mib.unwrap_or(0));
                agreed |= by_driver.contains(&(text(&device["id"]).to_owned(), pid));
            }
            assert!(state["problem"].is_null(), "{state}");
        }
    });
    for (device, state) in gpus.devices.iter().zip(gpus.states()) {
        println!(
            "{}: {} of {} MiB used, {} MiB by others, {} %, {} °C, {} W",
            text(&device["name"]),
            state["used_mib"],
            state["total_mib"],
            state["others_mib"],
            state["utilisation_percent"],
            state["temperature_c"],
            state["power_w"]
        );
    }
    println!("one Blender took at most {most} MiB as the driver says");
    assert!(agreed, "no process of ours was seen by the agent and by nvidia-smi");
    assert!(most > 100, "a CUDA context alone takes more: {most} MiB");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn each_blender_computes_on_the_one_gpu_that_it_was_given() {
    let gpus = Gpus::new();
    let job = gpus.submit("ball.blend", &["--frames", "1-60"]);
    let mut seen: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    let detail = gpus.follow(job, |states| {
        let our_pids: BTreeSet<u64> =
            states.iter().flat_map(|state| ours(state).into_keys()).collect();
        for (uuid, pid) in nvidia_smi() {
            if our_pids.contains(&pid) {
                seen.entry(pid).or_default().insert(uuid);
            }
        }
    });
    assert_eq!(text(&detail["job"]["state"]), "completed", "{detail}");
    println!("process → GPUs: {seen:?}");
    assert!(!seen.is_empty(), "none of our processes was seen on a GPU");
    assert!(seen.values().all(|uuids| uuids.len() == 1), "{seen:?}");
    let used: BTreeSet<&String> = seen.values().flatten().collect();
    assert_eq!(used.len(), gpus.devices.len(), "some GPU was not used: {seen:?}");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn several_blenders_share_a_gpu_and_their_number_is_found_by_measuring() {
    let gpus = Gpus::new();
    let job = gpus.submit("ball.blend", &["--frames", "1-120"]);
    let mut slots: Vec<Vec<u64>> = vec![Vec::new(); gpus.devices.len()];
    let mut together = 0;
    let detail = gpus.follow(job, |states| {
        for (slots, state) in slots.iter_mut().zip(states) {
            let now = state["slots"].as_u64().unwrap();
            if slots.last() != Some(&now) {
                slots.push(now);
            }
            together = together.max(ours(state).len());
            let sum: u64 = ours(state).values().flatten().sum();
            assert!(sum <= state["total_mib"].as_u64().unwrap(), "{state}");
        }
    });
    for line in gpus.decisions() {
        println!("{line}");
    }
    let progress = &detail["job"]["progress"];
    println!(
        "{} frames at {} a minute; wanted instances {slots:?}, at most {together} on one GPU",
        progress["frames_done"], progress["frames_per_minute"]
    );
    assert_eq!(text(&detail["job"]["state"]), "completed", "{detail}");
    assert_eq!(progress["outputs"], 120);
    assert!(together >= 2, "a second Blender was never tried");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_picture_that_fits_no_gpu_fails_with_both_numbers_and_the_next_job_renders() {
    let gpus = Gpus::new();
    let job = gpus.submit("huge.blend", &[]);
    let detail = gpus.follow(job, |_| {});
    let reason = text(&detail["job"]["reason"]).to_owned();
    println!("{reason}");
    for line in gpus.decisions() {
        println!("{line}");
    }
    assert_eq!(text(&detail["job"]["state"]), "failed", "{detail}");
    assert!(
        reason.contains("GiB of memory, and the largest device that could render it has"),
        "{reason}"
    );
    let after = gpus.submit("ball.blend", &["--frames", "1-4"]);
    let detail = gpus.follow(after, |_| {});
    assert_eq!(text(&detail["job"]["state"]), "completed", "{detail}");
}

/// What can be tried of all that without a GPU: the scenes, made for a tiny one.
#[test]
fn the_scenes_for_gpus_are_good() {
    let scenes = scenes_for(16);
    let mut farm = Farm::new();
    farm.start_agent("host", &[bpy(BLENDER)], &["--engines", "cycles", "--instances", "1"]);
    farm.wait_for_agents(1);
    let samples = ["--device", "cpu", "--frames", "1-1", "--samples", "1"];
    for scene in ["ball.blend", "huge.blend"] {
        let job = submit(&farm, &scenes.path().join(scene), &samples);
        let detail = farm.wait_for_state(job, "completed");
        assert_eq!(detail["job"]["progress"]["outputs"], 1, "{scene}");
    }
}
