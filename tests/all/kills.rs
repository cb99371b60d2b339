//! Processes that are killed at random while they work, as often as a test has time for. Every run
//! has a seed, which decides who is killed and when; `GRANGE_SEED` has it again. See
//! `docs/reliability/faults.md`.

use std::time::Duration;

use crate::runtimes::blender;
use crate::support::farm::{FakeJob, Farm};
use crate::support::promise::{Frames, files_of_store};
use crate::support::scenes::scenes;
use crate::support::{
    descendants, eventually, eventually_within, processes, program, seed, signal,
};

const INSTANCES: [&str; 2] = ["--instances", "2"];

/// No Blender of a farm lives on, and nothing of its files is half there.
#[track_caller]
fn leaves_nothing(farm: &mut Farm, agents: &[&str]) {
    let home = farm.home().display().to_string();
    for name in agents {
        farm.kill_agent(name);
    }
    eventually("no process of an agent is left", || {
        let left = processes(&home);
        left.iter().all(|line| line.contains("grange-coordinator")).then_some(())
    });
    for name in files_of_store(&farm.home().join("coordinator/store/blobs")) {
        let bytes = std::fs::read(&name.1).unwrap();
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), name.0, "half a file");
    }
}

#[test]
fn random_kills_of_coordinator_and_agents_lose_nothing_and_commit_nothing_twice() {
    let mut random = fastrand::Rng::with_seed(seed(4));
    let agents = ["one", "two"];
    let mut farm = Farm::of_fakes(&agents, 2);
    let scene = "width = 150\nheight = 130\nframe_ms = 120\nsamples = 2\nload_ms = 20";
    let job = farm.submit_fake(&FakeJob::new(scene, 150));
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(random.u64(50..900)));
        match random.usize(..3) {
            0 => {
                farm.kill_coordinator();
                std::thread::sleep(Duration::from_millis(random.u64(0..400)));
                farm.start_coordinator();
            }
            victim => {
                let name = agents[victim - 1];
                farm.kill_agent(name);
                farm.restart_agent(name, &[program("fake-blender")], &INSTANCES);
            }
        }
    }
    eventually_within(120, "the job is completed", || {
        let state = farm.job(job)["job"]["state"].clone();
        assert_ne!(state, "failed", "{}", farm.job(job));
        (state == "completed").then_some(())
    });
    farm.keeps_its_promise(job, Frames { count: 150, width: 150, height: 130 });
    leaves_nothing(&mut farm, &agents);
}

#[test]
fn a_killed_blender_costs_its_frame_some_time_and_nothing_else() {
    let mut farm = Farm::of_fakes(&["host"], 1);
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 400\nsamples = 4", 6));
    for done in [1, 3] {
        eventually("a frame is done", || {
            let progress = &farm.job(job)["job"]["progress"];
            (progress["frames_done"].as_u64() >= Some(done)).then_some(())
        });
        kill_blender(&farm, "host");
    }
    farm.wait_for_state(job, "completed");
    farm.keeps_its_promise(job, Frames::small(6));
    leaves_nothing(&mut farm, &["host"]);
}

/// Kills the Blender of an agent that has one.
#[track_caller]
fn kill_blender(farm: &Farm, agent: &str) {
    let found = eventually("the agent has a Blender", || {
        let all = descendants(farm.agent_pid(agent));
        all.into_iter().find(|(_, name)| name.contains("blender")).map(|(pid, _)| pid)
    });
    signal(found, "KILL");
}

/// With a Blender that renders: each kind of kill once.
#[test]
fn a_real_blender_through_every_kind_of_kill() {
    let mut farm = Farm::new();
    farm.start_agent("host", &[blender()], &["--engines", "cycles", "--instances", "1"]);
    farm.wait_for_agents(1);
    let scene = scenes().join("turn.blend");
    let scene = scene.to_str().unwrap();
    farm.grange(&["submit", scene, "--frames", "1-8", "--no-preview", "--json"]).well();
    let job = 1;
    let frames_done = |farm: &Farm| farm.job(job)["job"]["progress"]["frames_done"].as_u64();
    eventually("a frame is done", || (frames_done(&farm) >= Some(1)).then_some(()));
    farm.kill_coordinator();
    farm.start_coordinator();
    kill_blender(&farm, "host");
    eventually("two are done", || (frames_done(&farm) >= Some(2)).then_some(()));
    farm.kill_agent("host");
    farm.restart_agent("host", &[blender()], &["--engines", "cycles", "--instances", "1"]);
    farm.wait_for_state(job, "completed");
    assert_eq!(farm.outputs(job).len(), 8);
    leaves_nothing(&mut farm, &["host"]);
}
