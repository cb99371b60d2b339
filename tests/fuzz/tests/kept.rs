//! Every input that is kept, and for a minute damaged ones: whatever the bytes, each reader of bytes
//! from outside answers soon, within bounds of memory, and does not panic.
//!
//! An input is made by its number and the seed alone. `GRANGE_FUZZ_SEED` and `GRANGE_FUZZ_FIRST` begin
//! anywhere, `GRANGE_FUZZ_INPUTS` or `GRANGE_FUZZ_SECONDS` (of each target) go on for longer,
//! `GRANGE_FUZZ_TARGET` is for one target, and `GRANGE_FUZZ_FILE` reads one file.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use grange_fuzz::damage::Random;
use grange_fuzz::{TARGETS, Target, corpus};
use rustix::process::{Resource, Rlimit, setrlimit};

/// Of memory that is written to, for the whole process: where the count of it is too late.
const MEMORY_MAX: u64 = 8 << 30;
/// An input that takes longer hangs.
const HANG: Duration = Duration::from_secs(30);
/// All targets together.
const ALL: Duration = Duration::from_secs(60);

#[test]
fn what_is_kept() {
    for target in targets() {
        let mut reading = Reading::of(target, "kept");
        let kept = match std::env::var_os("GRANGE_FUZZ_FILE") {
            Some(path) => vec![(format!("{path:?}"), fs::read(path).expect("the file is there"))],
            None => corpus::kept(target),
        };
        assert!(!kept.is_empty(), "{} has no inputs to begin with", target.name);
        for (name, input) in &kept {
            reading.read(input, name);
        }
        reading.end(kept.len() as u64, "kept inputs");
    }
}

#[test]
fn what_is_damaged() {
    let seed = number("GRANGE_FUZZ_SEED").unwrap_or(1);
    let first = number("GRANGE_FUZZ_FIRST").unwrap_or(0);
    let targets = targets();
    let share = ALL / u32::try_from(TARGETS.len()).expect("a few");
    let until = number("GRANGE_FUZZ_SECONDS").map_or(share, Duration::from_secs);
    let inputs = number("GRANGE_FUZZ_INPUTS");
    for target in targets {
        let kept = corpus::kept(target);
        let mut reading = Reading::of(target, "damaged");
        let start = Instant::now();
        let mut at = first;
        while inputs.map_or_else(|| start.elapsed() < until, |inputs| at < first + inputs) {
            let input = Random::new(seed, at).damaged(&kept, target.len_max);
            let target = target.name;
            let again = format!(
                "GRANGE_FUZZ_TARGET={target} GRANGE_FUZZ_SEED={seed} GRANGE_FUZZ_FIRST={at} \
                 GRANGE_FUZZ_INPUTS=1"
            );
            reading.read(&input, &again);
            at += 1;
        }
        reading.end(at - first, &format!("damaged inputs of seed {seed} from {first}"));
    }
}

/// A target that reads, and what is left of its input if it ends the process.
struct Reading {
    target: &'static Target,
    path: PathBuf,
    /// The input that is being read.
    left: File,
    start: Instant,
    /// Since when it is being read, in milliseconds from 1; 0 between two.
    since: Arc<AtomicU64>,
}

impl Reading {
    fn of(target: &'static Target, what: &str) -> Self {
        let limit = Rlimit { current: Some(MEMORY_MAX), maximum: Some(MEMORY_MAX) };
        setrlimit(Resource::Data, limit).expect("a limit can be set");
        let name = format!("grange-fuzz-{}-{what}-{}", target.name, std::process::id());
        let path = std::env::temp_dir().join(name);
        let left = File::create(&path).expect("a temporary file can be made");
        tell(&format!("{}: each input is in {} while it is read", target.name, path.display()));
        let (start, since) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        watch(target.name, Arc::downgrade(&since), start);
        Self { target, path, left, start, since }
    }

    fn read(&mut self, input: &[u8], name: &str) {
        self.left.write_all_at(input, 0).expect("a temporary file can be written");
        self.left.set_len(input.len() as u64).expect("a temporary file can be cut");
        self.since.store(self.start.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
        let read = catch_unwind(AssertUnwindSafe(|| self.target.read(input)));
        self.since.store(0, Ordering::Relaxed);
        if read.is_err() {
            let (target, path) = (self.target.name, self.path.display());
            panic!("{target} does not hold for {name}: the input is in {path}");
        }
    }

    fn end(self, count: u64, what: &str) {
        tell(&format!("{}: {count} {what} in {:?}", self.target.name, self.start.elapsed()));
        fs::remove_file(self.path).expect("the temporary file is there");
    }
}

/// Ends the process if an input takes too long.
fn watch(target: &'static str, since: std::sync::Weak<AtomicU64>, start: Instant) {
    std::thread::spawn(move || {
        while let Some(since) = since.upgrade() {
            let since = since.load(Ordering::Relaxed);
            if since > 0 && start.elapsed() > Duration::from_millis(since) + HANG {
                tell(&format!("{target}: the input that is left there hangs"));
                std::process::abort();
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    });
}

fn targets() -> Vec<&'static Target> {
    match std::env::var("GRANGE_FUZZ_TARGET") {
        Ok(name) => vec![Target::named(&name).unwrap_or_else(|| panic!("there is no `{name}`"))],
        Err(_) => TARGETS.iter().collect(),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

/// Not by the test's own output, which is lost when the process ends.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
