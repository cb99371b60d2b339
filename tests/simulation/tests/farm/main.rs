//! A whole farm in one thread and in a time of its own: the real coordinator with its journal and
//! store, ten real agents, a client, and real QUIC between them, on turmoil's simulated hosts.
//!
//! Every farm has a seed, from which follow the network's weather, what is rendered, and when hosts
//! crash and lines are cut; `docs/reliability.md` says what does not follow from it. One again:
//!
//! ```text
//! GRANGE_SEED=7 cargo test -p grange-simulation -- --nocapture
//! GRANGE_SEED=7 GRANGE_LOG=debug,turmoil=warn,quinn=warn cargo test -p grange-simulation -- --nocapture
//! GRANGE_SEED=21-200 cargo test -p grange-simulation -- --nocapture
//! ```

mod blender;
mod client;
mod hosts;
mod network;
mod plan;
mod random;
mod world;

use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

const SEEDS: u64 = 20;
const NAME: &str = "whatever_goes_wrong_nothing_is_lost_and_nothing_happens_twice";

#[test]
fn whatever_goes_wrong_nothing_is_lost_and_nothing_happens_twice() {
    let (first, last) = seeds();
    if first == last {
        return one(first);
    }
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let broken: Vec<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| several(&next, last))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a farm")).collect()
    });
    assert_eq!(broken, [0; 0], "these seeds' farms have broken their promise, as is told above");
}

/// The first and the last: those of every build, or what `GRANGE_SEED` says, such as `7` or `21-200`.
fn seeds() -> (u64, u64) {
    let Ok(text) = std::env::var("GRANGE_SEED") else { return (1, SEEDS) };
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    let seed = |text: &str| text.parse().expect("GRANGE_SEED is a number, or two like 21-200");
    (seed(first), seed(last))
}

/// Each in a process of its own, so that none can tell whether others have lived before it. Returns
/// the seeds of those that broke their promise.
fn several(next: &AtomicU64, last: u64) -> Vec<u64> {
    let mut broken = Vec::new();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed > last {
            return broken;
        }
        if !process(seed).success() {
            broken.push(seed);
        }
    }
}

#[expect(clippy::print_stdout, reason = "a failed test tells how to have it again")]
fn process(seed: u64) -> ExitStatus {
    let mut farm = Command::new(std::env::current_exe().expect("a test has a path"));
    farm.args(["--exact", NAME, "--nocapture"]).env("GRANGE_SEED", seed.to_string());
    let ended = farm.output().expect("a test can be run");
    let said = String::from_utf8_lossy(&ended.stdout);
    let told = said.lines().skip_while(|line| !line.starts_with(VERDICT));
    let told: Vec<&str> = told.take_while(|line| !line.starts_with("test ")).collect();
    println!("GRANGE_SEED={seed}\n{}", told.join("\n"));
    if told.is_empty() {
        println!("{said}{}", String::from_utf8_lossy(&ended.stderr));
    }
    ended.status
}

const VERDICT: &str = "seed ";

#[expect(clippy::print_stdout, reason = "what it was is for whoever runs the test")]
fn one(seed: u64) {
    if let Ok(directives) = std::env::var("GRANGE_LOG") {
        let log = tracing_subscriber::fmt().with_env_filter(directives).with_test_writer();
        let _ = log.with_ansi(false).with_timer(FarmTime).try_init();
    }
    let farm = world::live(seed);
    println!("{farm}");
    assert!(farm.problems.is_empty(), "the farm has broken its promise");
}

/// The time of the log is the farm's.
struct FarmTime;

impl FormatTime for FarmTime {
    fn format_time(&self, to: &mut Writer<'_>) -> std::fmt::Result {
        let seconds = turmoil::sim_elapsed().unwrap_or_default().as_secs_f64();
        write!(to, "{seconds:8.3}")
    }
}
