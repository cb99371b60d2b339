//! Many seeds, on every core, and the verdict on all of them.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Scale, Tally, World};

/// Every so many seeds one is run twice: both must leave the same trace.
const TWICE_EVERY: u64 = 25;
/// Seeds that fail before a run is given up.
const FAILURES_SHOWN: usize = 3;

pub(crate) struct Runs {
    pub(crate) scale: Scale,
    pub(crate) first_seed: u64,
    /// So many seeds, or as many as it takes for so many simulated hours.
    pub(crate) seeds: Option<u64>,
    pub(crate) hours: Option<u64>,
}

/// What became of all farms of a run.
#[derive(Default)]
pub(crate) struct Verdict {
    seeds: u64,
    tally: Tally,
    violations: Vec<Violation>,
}

struct Violation {
    seed: u64,
    text: String,
}

impl Runs {
    pub(crate) fn run(&self) -> Verdict {
        let next = AtomicU64::new(self.first_seed);
        let simulated_ms = AtomicU64::new(0);
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let mut all = Verdict::default();
        std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..threads).map(|_| scope.spawn(|| self.work(&next, &simulated_ms))).collect();
            for worker in workers {
                all.add(worker.join().expect("a worker catches panics"));
            }
        });
        all.violations.sort_by_key(|violation| violation.seed);
        all
    }

    fn work(&self, next: &AtomicU64, simulated_ms: &AtomicU64) -> Verdict {
        let mut verdict = Verdict::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let enough_seeds =
                self.seeds.is_some_and(|seeds| seed >= self.first_seed.saturating_add(seeds));
            let ms = simulated_ms.load(Ordering::Relaxed);
            let enough_hours = self.hours.is_some_and(|hours| ms >= hours * 3_600_000);
            if enough_seeds || enough_hours || verdict.violations.len() == FAILURES_SHOWN {
                return verdict;
            }
            let one = run_seed(seed, self.scale);
            simulated_ms.fetch_add(one.tally.virtual_ms, Ordering::Relaxed);
            verdict.add(one);
        }
    }
}

fn run_seed(seed: u64, scale: Scale) -> Verdict {
    let (world, mut problems) = live(seed, scale);
    if seed.is_multiple_of(TWICE_EVERY) && live(seed, scale).0.trace_hash() != world.trace_hash() {
        problems.push("the same seed gives another trace".into());
    }
    let mut verdict = Verdict { seeds: 1, tally: world.tally.clone(), violations: Vec::new() };
    if !problems.is_empty() {
        let mut text = format!("seed {seed} is violated (trace {}):\n", world.trace_hash());
        for line in world.last_lines() {
            text.push_str(&format!("    {line}\n"));
        }
        for problem in problems {
            text.push_str(&format!("  {problem}\n"));
        }
        let short = if scale == Scale::Short { " --short" } else { "" };
        text.push_str(&format!("  again: cargo xtask sim --seed {seed} --seeds 1{short}\n"));
        verdict.violations.push(Violation { seed, text });
    }
    verdict
}

fn live(seed: u64, scale: Scale) -> (World, Vec<String>) {
    let mut world = World::new(seed, scale);
    let run = catch_unwind(AssertUnwindSafe(|| world.run()));
    let mut problems = world.oracle.problems().to_vec();
    if let Err(panic) = run {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        problems.push(format!("a panic: {}", said.unwrap_or("it says nothing")));
    }
    (world, problems)
}

impl Verdict {
    pub(crate) fn is_good(&self) -> bool {
        self.violations.is_empty()
    }

    fn add(&mut self, other: Self) {
        let (tally, others) = (&mut self.tally, other.tally);
        self.seeds += other.seeds;
        tally.events += others.events;
        tally.facts += others.facts;
        tally.restarts += others.restarts;
        tally.jobs += others.jobs;
        tally.tasks_completed += others.tasks_completed;
        tally.outputs += others.outputs;
        tally.virtual_ms += others.virtual_ms;
        for (fault, count) in others.faults {
            *tally.faults.entry(fault).or_default() += count;
        }
        self.violations.extend(other.violations);
    }
}

/// Violations first, then what was done, and the verdict as the last line.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in &self.violations {
            writeln!(f, "{}", violation.text)?;
        }
        let tally = &self.tally;
        for (fault, count) in &tally.faults {
            writeln!(f, "{count:>10}  {fault}")?;
        }
        let faults: u64 = tally.faults.values().sum();
        write!(
            f,
            "{}: {} seeds, {:.1} farm-hours, {} events, {} facts, {} jobs, {} tasks completed, \
             {} outputs, {} restarts, {faults} faults of {} kinds, {} violations",
            if self.is_good() { "good" } else { "VIOLATED" },
            self.seeds,
            tally.virtual_ms as f64 / 3_600_000.0,
            tally.events,
            tally.facts,
            tally.jobs,
            tally.tasks_completed,
            tally.outputs,
            tally.restarts,
            tally.faults.len(),
            self.violations.len(),
        )
    }
}
