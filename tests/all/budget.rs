//! The CPU as a device whose memory is RAM: real Blender, real frames, and a budget.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::runtimes::blender;
use crate::support::eventually;
use crate::support::farm::Farm;
use crate::support::scenes::scenes;

/// Two of the small scene (about 300 MiB each) or one of the large (about 850), never both.
const BUDGET_GIB: &str = "1.2";

/// What was seen of the one device while jobs ran.
#[derive(Debug, Default)]
struct Seen {
    /// The most that all instances took together, and that was set aside for them. MiB.
    used_mib: u64,
    reserved_mib: u64,
    total_mib: u64,
    instances: BTreeSet<u64>,
}

impl Seen {
    fn look(&mut self, farm: &Farm) {
        let agents = farm.grange(&["agents", "--json"]).json();
        let state = &agents[0]["device_states"][0];
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let processes = state["processes"].as_array().cloned().unwrap_or_default();
        let used = processes.iter().map(|process| number(&process["mib"])).sum();
        self.used_mib = self.used_mib.max(used);
        self.reserved_mib = self.reserved_mib.max(number(&state["reserved_mib"]));
        self.total_mib = number(&state["total_mib"]);
        self.instances.insert(number(&state["instances"]));
    }
}

fn decisions(farm: &Farm) -> Vec<String> {
    let told = farm.grange(&["agents", "--why", "--json"]).json();
    let text = |view: &Value| view["decision"]["text"].as_str().unwrap().to_owned();
    told.as_array().unwrap().iter().map(text).collect()
}

#[test]
fn small_and_large_scenes_share_a_budget_and_nothing_is_killed() {
    let mut farm = Farm::new();
    let args = ["--memory-gib", BUDGET_GIB, "--engines", "cycles"];
    farm.start_agent("meadow", &[blender()], &args);
    farm.wait_for_agents(1);
    let submit = |scene: &str, more: &[&str]| {
        let scene = scenes().join(scene);
        let mut args = vec!["submit", scene.to_str().unwrap(), "--no-preview"];
        args.extend(more);
        farm.grange(&args).well();
    };
    submit("turn.blend", &["--frames", "1-30", "--samples", "64"]);
    submit("heavy.blend", &[]);
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut seen = Seen::default();
            while !done.load(Ordering::Relaxed) {
                seen.look(&farm);
                std::thread::sleep(Duration::from_millis(200));
            }
            seen
        });
        let jobs = eventually("both jobs end", || {
            let jobs = [1, 2].map(|job| farm.job(job));
            let ended = |job: &Value| job["job"]["ended_at"].is_u64();
            jobs.iter().all(ended).then_some(jobs)
        });
        done.store(true, Ordering::Relaxed);
        for job in jobs {
            assert_eq!(job["job"]["state"], "completed", "{job}");
            assert_eq!(job["tasks"].as_array().unwrap().len(), 0, "no attempt failed: {job}");
        }
        looking.join().unwrap()
    });
    assert!(seen.reserved_mib <= seen.total_mib, "more was given than there is: {seen:?}");
    assert!(seen.used_mib <= seen.total_mib, "more was used than there is: {seen:?}");
    assert!(seen.instances.iter().all(|count| *count <= 2), "{seen:?}");
    let why = decisions(&farm);
    let trouble = |text: &&String| text.contains("ran out") || text.contains("gives way");
    assert_eq!(why.iter().find(trouble), None, "{why:?}");

    let footprints = farm.grange(&["footprints", "--json"]).json();
    let peak = |file: &str| {
        let of_file = |row: &&Value| row["file"] == file;
        let row = footprints.as_array().unwrap().iter().find(of_file).unwrap();
        row["plain"]["device_mib"].as_u64().unwrap()
    };
    let (small, large) = (peak("turn.blend"), peak("heavy.blend"));
    assert!(large > 2 * small, "{footprints}");

    // What was learned is there after the coordinator was killed.
    farm.kill_coordinator();
    farm.start_coordinator();
    farm.wait_for_agents(1);
    assert_eq!(farm.grange(&["footprints", "--json"]).json(), footprints);
}
