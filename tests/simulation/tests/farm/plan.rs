//! What a seed stands for: the weather, what is rendered, and when what goes wrong. All of it is
//! decided before the farm begins to live.

use std::time::Duration;

use crate::blender::Manners;
use crate::network::Weather;

pub(crate) const AGENTS: usize = 10;
const SCENES: u8 = 3;
/// Hosts start before any of them crashes.
const QUIET_MS: u64 = 2_000;

pub(crate) struct Plan {
    /// From here on nothing goes wrong any more.
    pub(crate) peace_ms: u64,
    pub(crate) latency_ms: (u64, u64),
    pub(crate) weather: Weather,
    pub(crate) manners: Manners,
    /// Tasks that an agent takes before it is free for them.
    pub(crate) ahead: u8,
    pub(crate) jobs: Vec<Job>,
    /// In the order of their time.
    pub(crate) deeds: Vec<Deed>,
}

/// A job that the client submits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) at_ms: u64,
    pub(crate) frames: i32,
    /// Each is another file to open.
    pub(crate) scene: u8,
    pub(crate) priority: u8,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Deed {
    pub(crate) at_ms: u64,
    pub(crate) host: Host,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    Coordinator,
    Agent(usize),
    Client,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Crash,
    /// The coordinator ends in good order.
    Stop,
    Start,
    /// Of the line to the coordinator.
    Cut,
    CutTowards,
    CutFrom,
    /// What is sent waits, and all of it arrives at once in the end.
    Hold,
    Mend,
    Release,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x6772_616e_6765);
        let peace_ms = random.u64(35_000..65_000);
        let low = random.u64(1..20);
        let calm = random.u64(..5) == 0;
        let part =
            |random: &mut fastrand::Rng, most: f64| if calm { 0.0 } else { random.f64() * most };
        let weather = Weather {
            loss: part(&mut random, 0.05),
            repetition: part(&mut random, 0.03),
            damage: part(&mut random, 0.02),
        };
        let manners = Manners {
            load: Duration::from_millis(random.u64(100..2_000)),
            frame_max: Duration::from_millis(random.u64(1_000..8_000)),
            crashes: random.f64() * 0.05,
        };
        let jobs = jobs(peace_ms, &mut random);
        let mut deeds = Vec::new();
        let trouble = random.u64(1..4);
        for host in hosts() {
            deeds.extend(life(host, peace_ms, trouble, &mut random));
        }
        deeds.sort_by_key(|deed| (deed.at_ms, deed.host, deed.what));
        Self {
            peace_ms,
            latency_ms: (low, low + random.u64(0..150)),
            weather,
            manners,
            ahead: random.u8(..3),
            jobs,
            deeds,
        }
    }
}

fn hosts() -> impl Iterator<Item = Host> {
    [Host::Coordinator, Host::Client].into_iter().chain((0..AGENTS).map(Host::Agent))
}

fn jobs(peace_ms: u64, random: &mut fastrand::Rng) -> Vec<Job> {
    let mut jobs: Vec<Job> = (0..random.u64(3..8))
        .map(|_| Job {
            at_ms: random.u64(QUIET_MS..peace_ms),
            frames: random.i32(1..50),
            scene: random.u8(..SCENES),
            priority: random.u8(40..60),
        })
        .collect();
    jobs.sort_by_key(|job| job.at_ms);
    jobs
}

/// What goes wrong with one host, one thing after the other.
fn life(host: Host, peace_ms: u64, trouble: u64, random: &mut fastrand::Rng) -> Vec<Deed> {
    let mut deeds = Vec::new();
    let mut at_ms = QUIET_MS;
    loop {
        at_ms += random.u64(1_000..30_000 / trouble);
        let (begins, ends) = what(host, random);
        // As likely a blink as a long time: nobody notices half a second, leases end after half a
        // minute.
        let lasts_ms = 100 << random.u64(0..9);
        let until_ms = at_ms + random.u64(lasts_ms..2 * lasts_ms);
        if until_ms >= peace_ms {
            return deeds;
        }
        deeds.push(Deed { at_ms, host, what: begins });
        deeds.push(Deed { at_ms: until_ms, host, what: ends });
        at_ms = until_ms;
    }
}

fn what(host: Host, random: &mut fastrand::Rng) -> (What, What) {
    let lines = [
        (What::Cut, What::Mend),
        (What::CutTowards, What::Mend),
        (What::CutFrom, What::Mend),
        (What::Hold, What::Release),
    ];
    let line = lines[random.usize(..lines.len())];
    match host {
        Host::Client => line,
        Host::Agent(_) if random.bool() => line,
        Host::Coordinator if random.bool() => (What::Stop, What::Start),
        Host::Agent(_) | Host::Coordinator => (What::Crash, What::Start),
    }
}
