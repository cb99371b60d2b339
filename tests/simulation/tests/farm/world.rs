//! One farm, from its first start to the verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use grange_protocol::view::JobState;
use grange_protocol::{BlobHash, OutputName};
use tokio::sync::Notify;
use turmoil::Sim;

use crate::blender::{Picture, Player};
use crate::client::{Told, client};
use crate::hosts::{Ground, agent, coordinator};
use crate::network::{Counts, Network};
use crate::plan::{AGENTS, Deed, Host, Plan, What};
use crate::random;

/// Hosts take turns of so long, and datagrams arrive between two turns.
const TICK: Duration = Duration::from_millis(10);
/// When nothing goes wrong any more, everything that was submitted is rendered within this.
const PATIENCE: Duration = Duration::from_secs(300);
/// An agent that was cut off has heard after so long what became of its tasks: QUIC notices, it
/// connects again, and is told.
const HEARD_AFTER: Duration = Duration::from_secs(30);

/// What became of a farm.
pub(crate) struct Ended {
    pub(crate) seed: u64,
    pub(crate) problems: Vec<String>,
    lived: Duration,
    took: Duration,
    jobs: usize,
    outputs: usize,
    rendered: usize,
    crashed: u64,
    deeds: BTreeMap<What, u32>,
    datagrams: Counts,
    /// Of all that was sent and rendered, and when: the same for the same seed.
    trace: BlobHash,
}

/// What was said by tasks that broke, whose end nobody else may notice.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct World<'a> {
    plan: Arc<Plan>,
    sim: Sim<'a>,
    ground: Ground,
    told: Arc<Mutex<Told>>,
    rendered: Arc<Mutex<Vec<Picture>>>,
    crashed: Arc<Mutex<u64>>,
    /// When the line of each agent to a living coordinator was last broken.
    broken: [Duration; AGENTS],
    deeds: BTreeMap<What, u32>,
    problems: Vec<String>,
}

pub(crate) fn live(seed: u64) -> Ended {
    let began = Instant::now();
    random::seed(seed);
    grange_blocking::at_once();
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(|panic| PANICS.lock().unwrap().push(panic.to_string())));
    // In memory, where there is such a place: a disk's pauses are not this farm's.
    let memory = Path::new("/dev/shm");
    let home = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let home = home.expect("there is a place for files");
    let mut world = World::new(seed, home.path());
    world.live();
    world.judge();
    std::panic::set_hook(usual);
    world.problems.append(&mut PANICS.lock().unwrap());
    let outputs = world.told.lock().unwrap().outputs.len();
    let jobs = world.told.lock().unwrap().jobs.len();
    let rendered = world.rendered.lock().unwrap().len();
    let crashed = *world.crashed.lock().unwrap();
    let trace = world.trace();
    Ended {
        trace,
        seed,
        lived: world.sim.elapsed(),
        took: began.elapsed(),
        jobs,
        outputs,
        rendered,
        crashed,
        datagrams: world.ground.network.counts(),
        deeds: world.deeds,
        problems: world.problems,
    }
}

impl World<'_> {
    fn new(seed: u64, home: &Path) -> Self {
        let plan = Arc::new(Plan::of(seed));
        let (low, high) = plan.latency_ms;
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::MAX)
            .min_message_latency(Duration::from_millis(low))
            .max_message_latency(Duration::from_millis(high))
            .udp_capacity(1 << 16)
            .enable_random_order()
            .build();
        let ground = Ground {
            home: home.into(),
            network: Network::new(plan.weather, seed),
            coordinator: sim.lookup("coordinator"),
            join: Arc::default(),
            joined: Arc::default(),
            stop: Arc::new(Notify::new()),
        };
        let (told, rendered, crashed) = <(Arc<Mutex<Told>>, Arc<_>, Arc<_>)>::default();
        let own = ground.clone();
        sim.host("coordinator", move || {
            let ground = own.clone();
            async move { Ok(coordinator(ground).await?) }
        });
        for number in 0..AGENTS {
            let random = fastrand::Rng::with_seed(seed * 100 + number as u64);
            let player = Player {
                agent: number,
                manners: plan.manners,
                random: Arc::new(Mutex::new(random)),
                rendered: Arc::clone(&rendered),
                crashed: Arc::clone(&crashed),
            };
            let (ground, ahead) = (ground.clone(), plan.ahead);
            sim.host(name(Host::Agent(number)), move || {
                let (ground, player) = (ground.clone(), player.clone());
                async move { Ok(agent(ground, ahead, player).await?) }
            });
        }
        let submitting = client(ground.clone(), plan.clone(), Arc::clone(&told));
        sim.client("client", async move { Ok(submitting.await?) });
        let broken = [Duration::ZERO; AGENTS];
        let (deeds, problems) = Default::default();
        Self { plan, sim, ground, told, rendered, crashed, broken, deeds, problems }
    }

    fn live(&mut self) {
        let plan = self.plan.clone();
        let mut deeds = plan.deeds.iter().copied().peekable();
        let peace = Duration::from_millis(plan.peace_ms);
        while self.told.lock().unwrap().all_ended_at.is_none_or(|at| at < peace) {
            let now = self.sim.elapsed();
            while let Some(deed) = deeds.next_if(|deed| Duration::from_millis(deed.at_ms) <= now) {
                self.perform(deed);
            }
            if now >= peace {
                self.ground.network.clear_up();
            }
            if now >= peace + PATIENCE {
                return self.object("not everything has ended".into());
            }
            if !self.step() {
                return;
            }
        }
        self.ground.stop.notify_waiters();
        let until = self.sim.elapsed() + Duration::from_secs(30);
        while self.sim.is_host_running("coordinator") && self.sim.elapsed() < until {
            if !self.step() {
                return;
            }
        }
        if self.sim.is_host_running("coordinator") {
            self.object("the coordinator does not stop".into());
        }
    }

    /// False if a program has ended that should not have.
    fn step(&mut self) -> bool {
        let stepped = self.sim.step();
        if let Err(error) = &stepped {
            self.object(format!("a program has ended: {error}"));
        }
        stepped.is_ok()
    }

    fn perform(&mut self, Deed { host, what, .. }: Deed) {
        let name = name(host);
        match what {
            What::Crash => self.sim.crash(name.as_str()),
            What::Stop => self.ground.stop.notify_waiters(),
            What::Start => self.sim.bounce(name.as_str()),
            What::Cut => self.sim.partition(name.as_str(), "coordinator"),
            What::CutTowards => self.sim.partition_oneway(name.as_str(), "coordinator"),
            What::CutFrom => self.sim.partition_oneway("coordinator", name.as_str()),
            What::Mend => self.sim.repair(name.as_str(), "coordinator"),
            What::Hold if host == Host::Coordinator => {}
            What::Hold => self.sim.hold(name.as_str(), "coordinator"),
            What::Release => self.sim.release(name.as_str(), "coordinator"),
        }
        *self.deeds.entry(what).or_default() += 1;
        let now = self.sim.elapsed();
        match host {
            Host::Coordinator => self.broken = [now; AGENTS],
            Host::Agent(agent) => self.broken[agent] = now,
            Host::Client => {}
        }
        tracing::debug!("{now:?}: {what:?} {name}");
    }

    fn trace(&self) -> BlobHash {
        let told = self.told.lock().unwrap();
        let pictures = self.rendered.lock().unwrap();
        let mut trace = format!("{:?}{:?}", told.outputs, self.ground.network.counts());
        for picture in pictures.iter() {
            trace.push_str(&format!("{picture:?}"));
        }
        BlobHash::of(trace.as_bytes())
    }

    fn object(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Holds the farm against what it promises.
    fn judge(&mut self) {
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        let rendered = self.rendered.lock().unwrap().clone();
        let mut problems = told.contradictions.clone();
        let mut made: BTreeMap<&OutputName, BTreeSet<BlobHash>> = BTreeMap::new();
        for picture in &rendered {
            made.entry(&picture.name).or_default().insert(picture.hash);
        }
        for job in &told.jobs {
            if job.state != JobState::Completed {
                problems.push(format!(
                    "{} ({}) is {:?}: {:?}",
                    job.id, job.name, job.state, job.reason
                ));
            }
            let outputs: Vec<_> =
                told.outputs.iter().filter(|((of, _), _)| *of == job.id).collect();
            let names: BTreeSet<String> =
                outputs.iter().map(|((_, name), _)| name.to_string()).collect();
            let expected: BTreeSet<String> = (1..=job.progress.frames_total)
                .map(|frame| format!("{}/{frame:04}.png", job.name))
                .collect();
            if names != expected {
                problems.push(format!(
                    "job {} has {} outputs of {}",
                    job.id,
                    names.len(),
                    expected.len()
                ));
            }
            for ((_, name), (hash, _)) in outputs {
                if !made.get(name).is_some_and(|made| made.contains(hash)) {
                    problems.push(format!("{name} is committed as {hash}, which nobody rendered"));
                }
            }
        }
        for (id, (name, frames)) in &told.submitted {
            let kept = told.jobs.iter().find(|job| job.id == *id);
            let frames = u64::try_from(*frames).expect("a positive number");
            if kept.is_none_or(|job| job.name != *name || job.progress.frames_total != frames) {
                problems.push(format!("job {id} is not what was submitted as {name}"));
            }
        }
        for picture in &rendered {
            let committed = told.outputs.iter().find(|((_, name), _)| *name == picture.name);
            let Some((_, (_, committed))) = committed else { continue };
            let knows = self.broken[picture.agent].max(*committed) + HEARD_AFTER;
            if picture.began > knows {
                problems.push(format!(
                    "{} was committed before {committed:?} and agent{} began it at {:?}",
                    picture.name, picture.agent, picture.began
                ));
            }
        }
        problems.extend(self.check_files());
        self.problems.extend(problems);
        *self.told.lock().unwrap() = told;
    }

    /// The store has what the names of its files say, and the journal gives the state that the
    /// coordinator had when it stopped.
    fn check_files(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let home = self.ground.coordinator_home();
        for shard in std::fs::read_dir(home.join("store/blobs")).into_iter().flatten().flatten() {
            for file in std::fs::read_dir(shard.path()).into_iter().flatten().flatten() {
                let bytes = std::fs::read(file.path()).unwrap_or_default();
                if *BlobHash::of(&bytes).to_hex() != *file.file_name().to_string_lossy() {
                    problems.push(format!("{} is damaged", file.path().display()));
                }
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let home = home.display().to_string();
        let args = ["grange-coordinator", "--state-dir", &home, "check"];
        let args = grange_coordinator::daemon::Args::parse_from(args);
        let checked = runtime.expect("a runtime").block_on(grange_coordinator::daemon::run(args));
        problems.extend(checked.err().map(|error| format!("the journal: {error:#}")));
        problems
    }
}

fn name(host: Host) -> String {
    match host {
        Host::Coordinator => "coordinator".into(),
        Host::Agent(number) => format!("agent{number}"),
        Host::Client => "client".into(),
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.problems.is_empty() { "good" } else { "VIOLATED" };
        let Counts { sent, lost, repeated, damaged } = self.datagrams;
        write!(
            f,
            "seed {} is {verdict}: {} s in {:.1} s, {} jobs, {} outputs, {} pictures rendered, \
             {} Blenders crashed, {sent} datagrams ({lost} lost, {repeated} repeated, {damaged} \
             damaged), {:?}, trace {}",
            self.seed,
            self.lived.as_secs(),
            self.took.as_secs_f32(),
            self.jobs,
            self.outputs,
            self.rendered,
            self.crashed,
            self.deeds,
            &self.trace.to_hex()[..8],
        )?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
