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
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use world::{Ended, live};

const SEEDS: u64 = 20;

#[test]
fn whatever_goes_wrong_nothing_is_lost_and_nothing_happens_twice() {
    if let Ok(directives) = std::env::var("GRANGE_LOG") {
        let log = tracing_subscriber::fmt().with_env_filter(directives).with_test_writer();
        let _ = log.try_init();
    }
    let (first, last) = seeds();
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let ended: Vec<Ended> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| farms(&next, last))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a farm")).collect()
    });
    let violated = ended.iter().filter(|farm| !farm.problems.is_empty()).count();
    assert_eq!(violated, 0, "farms have broken their promise; what they did is above");
}

/// The first and the last: those of every build, or what `GRANGE_SEED` says, such as `7` or `21-200`.
fn seeds() -> (u64, u64) {
    let Ok(text) = std::env::var("GRANGE_SEED") else { return (1, SEEDS) };
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    let seed = |text: &str| text.parse().expect("GRANGE_SEED is a number, or two like 21-200");
    (seed(first), seed(last))
}

#[expect(clippy::print_stdout, reason = "a failed test tells how to have it again")]
fn farms(next: &AtomicU64, last: u64) -> Vec<Ended> {
    let mut ended = Vec::new();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed > last {
            return ended;
        }
        println!("GRANGE_SEED={seed}");
        let farm = live(seed);
        println!("{farm}");
        ended.push(farm);
    }
}
