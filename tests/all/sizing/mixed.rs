//! Farms of GPUs of all sizes, jobs of all sizes, and neighbours who come and go, drawn from seeds.
//! Somebody looks at the GPUs all the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use grange_client::Farm as Client;
use grange_protocol::agent::DeviceKind;
use grange_protocol::view::AgentView;

use crate::support::eventually;
use crate::support::farm::{FakeJob, Farm};
use crate::support::gpus::FakeGpus;
use crate::support::told::failures;

const SIZES_MIB: [u64; 4] = [4_096, 8_192, 12_288, 24_576];
/// A lesson raises what is known by a quarter: so many take a shot from the smallest GPU's size
/// past the largest one's.
const LESSONS_MAX: usize = 9;
/// How often neighbours come, each for a while.
const NEIGHBOURS: usize = 5;

/// A row of numbers that follows from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    /// From `low` to `high`, both included.
    fn roll(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        low + (mixed ^ (mixed >> 31)) % (high - low + 1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(0, from.len() as u64 - 1) as usize]
    }
}

/// What a seed says of a farm.
#[derive(Debug)]
struct Plan {
    /// GPUs of each host.
    hosts: Vec<Vec<u64>>,
    jobs: Vec<Shots>,
}

/// Frames of a scene, and what they take.
#[derive(Debug)]
struct Shots {
    file: &'static str,
    mib: u64,
    scene: String,
    frames: i32,
}

impl Plan {
    fn of(dice: &mut Dice) -> Self {
        let mut hosts: Vec<Vec<u64>> = vec![Vec::new(); dice.roll(1, 3) as usize];
        for gpu in 0..dice.roll(hosts.len() as u64, 8) as usize {
            let at = gpu % hosts.len();
            hosts[at].push(dice.pick(&SIZES_MIB));
        }
        let largest = hosts.iter().flatten().copied().max().unwrap();
        let gpus = hosts.iter().flatten().count() as u64;
        let mut job = |file, mib: u64, frames: u64| {
            let (frame_ms, share) = (dice.roll(150, 400), dice.roll(5, 9));
            let scene = format!(
                "memory_mib = {mib}\nframe_ms = {frame_ms}\ngpu_share = 0.{share}\nload_ms = 50"
            );
            Shots { file, mib, scene, frames: frames as i32 }
        };
        let floods = [job("rain", largest / 6, 14 * gpus), job("hail", largest / 4, 10 * gpus)];
        // Larger than some GPUs, which nobody knows; of one a small version was seen.
        let large = [job("whale", largest * 3 / 4, 4), job("hail", largest * 11 / 20, 3)];
        Self { hosts, jobs: floods.into_iter().chain(large).collect() }
    }

    /// Every GPU that is too small for a shot may try it before the first one tells; after that each
    /// lesson raises what is known. And a neighbour may take what was just given.
    fn most_that_may_run_out(&self) -> usize {
        let sizes = || self.hosts.iter().flatten();
        let too_small = |job: &Shots| sizes().filter(|size| job.mib > **size * 63 / 64).count();
        self.jobs.iter().map(too_small).sum::<usize>() + LESSONS_MAX + NEIGHBOURS
    }
}

/// What was seen of a farm while it worked: sentences on what must not be.
#[derive(Debug, Default)]
struct Seen {
    wrong: Vec<String>,
}

impl Seen {
    fn look_at_worlds(&mut self, worlds: &[(grange_fake_nvml::World, Vec<u64>)]) {
        for (world, sizes) in worlds {
            let mut sums: BTreeMap<String, u64> = BTreeMap::new();
            for own in world.allocations() {
                *sums.entry(own.uuid).or_default() += own.mib;
            }
            for (at, size) in sizes.iter().enumerate() {
                let sum = sums.get(&format!("GPU-{at}")).copied().unwrap_or_default();
                if sum > *size {
                    self.wrong.push(format!("{sum} MiB are taken of {size}"));
                }
            }
        }
    }

    fn look_at_agents(&mut self, agents: &[AgentView]) {
        for agent in agents {
            for (at, state) in agent.device_states.iter().enumerate() {
                if agent.devices[at].kind == DeviceKind::Cpu {
                    continue;
                }
                // What is given is free. An instance that then turns out to be larger grows into the
                // margins of others, at most an eighth and a quarter, and gets one of its own.
                if state.reserved_mib > agent.devices[at].memory_mib * 11 / 8 {
                    let (reserved, total) = (state.reserved_mib, state.total_mib);
                    self.wrong.push(format!("{reserved} MiB are reserved of {total}: {state:?}"));
                }
            }
        }
    }
}

/// Neighbours take what is free of some GPU, and leave again.
fn neighbours(hosts: &mut [FakeGpus], sizes: &[Vec<u64>], dice: &mut Dice) {
    for pid in 0..NEIGHBOURS as u32 {
        sleep(Duration::from_millis(dice.roll(300, 1_500)));
        let host = dice.roll(0, hosts.len() as u64 - 1) as usize;
        let gpu = dice.roll(0, sizes[host].len() as u64 - 1) as usize;
        let taken: u64 = hosts[host].allocated_mib(&format!("GPU-{gpu}")).iter().sum();
        let mib = (sizes[host][gpu] - taken).min(sizes[host][gpu] * dice.roll(1, 6) / 10);
        hosts[host].foreign_process(gpu, 90_000 + pid, mib);
        sleep(Duration::from_millis(dice.roll(500, 3_000)));
        hosts[host].end_foreign_process(90_000 + pid);
    }
}

fn a_farm_of(seed: u64) {
    let mut dice = Dice(seed);
    let plan = Plan::of(&mut dice);
    let mut worlds: Vec<FakeGpus> =
        plan.hosts.iter().map(|sizes| FakeGpus::of_sizes(sizes)).collect();
    let mut farm = Farm::new();
    for (at, gpus) in worlds.iter().enumerate() {
        farm.start_agent_on(gpus, &format!("host{at}"), &[]);
    }
    farm.wait_for_agents(worlds.len());

    let looked_at: Vec<_> =
        worlds.iter().zip(&plan.hosts).map(|(gpus, sizes)| (gpus.world(), sizes.clone())).collect();
    let over = Arc::new(AtomicBool::new(false));
    let (ends, told) = (over.clone(), farm.teller());
    let looking = thread::spawn(move || {
        let mut seen = Seen::default();
        told.ask(async |client: Client| {
            while !ends.load(Ordering::Relaxed) {
                seen.look_at_worlds(&looked_at);
                seen.look_at_agents(&client.agents().await.unwrap());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        seen
    });

    let submit = |shots: &Shots| {
        let job = FakeJob::in_one_attempt(&shots.scene, shots.frames);
        (farm.submit_fake(&FakeJob { file: shots.file, ..job }), shots.frames)
    };
    let jobs: Vec<(u64, i32)> = plan.jobs.iter().map(submit).collect();
    neighbours(&mut worlds, &plan.hosts, &mut dice);
    for (job, frames) in &jobs {
        eventually(&format!("job {job} of {seed}, {plan:?} ends"), || {
            let detail = farm.job(*job);
            let state = detail["job"]["state"].as_str().unwrap();
            let reason = detail["job"]["reason"].as_str().unwrap_or_default();
            assert!(state != "failed", "{seed}, {plan:?}: {reason}, {:?}", failures(&detail));
            sleep(Duration::from_millis(300));
            (state == "completed").then_some(())
        });
        let expected: Vec<String> = (1..=*frames).map(|frame| format!("{frame:04}.png")).collect();
        assert_eq!(farm.outputs(*job), expected, "job {job} of {seed}");
    }
    over.store(true, Ordering::Relaxed);
    let seen = looking.join().unwrap();
    assert_eq!(seen.wrong, [""; 0], "{seed}, {plan:?}");

    let ran_out: usize = jobs
        .iter()
        .map(|(job, _)| farm.grange(&["logs", &job.to_string(), "--failed", "--json"]))
        .map(|logs| logs.json_lines().len())
        .sum();
    assert!(
        ran_out <= plan.most_that_may_run_out(),
        "{ran_out} attempts ran out of memory: {seed}, {plan:?}"
    );
}

#[test]
fn every_job_of_a_mixed_farm_completes_and_memory_is_never_given_twice() {
    thread::scope(|scope| {
        for seed in [1, 2, 3, 4] {
            scope.spawn(move || a_farm_of(seed));
        }
    });
}

#[test]
fn the_number_of_instances_settles_long_before_the_end_of_a_long_job() {
    let gpus = FakeGpus::of_sizes(&[24_576]);
    let mut farm = Farm::new();
    farm.start_agent_on(&gpus, "host", &[]);
    farm.wait_for_agents(1);
    // Two bring 1.3 times as much as one, three 1.1 times as much as two, four nothing more.
    let scene = "memory_mib = 2000\nframe_ms = 200\ngpu_share = 0.6\nswitch_cost = 0.05";
    let job = farm.submit_fake(&FakeJob::in_one_attempt(scene, 100));
    let mut slots: Vec<(u64, u64)> = Vec::new();
    eventually("the job is done", || {
        sleep(Duration::from_millis(100));
        let done = farm.job(job);
        let now = farm.device_states()[0]["slots"].as_u64().unwrap();
        if slots.last().is_none_or(|(_, last)| *last != now) {
            slots.push((done["job"]["progress"]["frames_done"].as_u64().unwrap(), now));
        }
        (done["job"]["state"] == "completed").then_some(())
    });
    let (frames_done, settled) = *slots.last().unwrap();
    assert!(frames_done < 80, "it went on looking: {slots:?}");
    assert!((2..=5).contains(&settled), "{slots:?}");
}
