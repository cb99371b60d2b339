//! Farms of real processes, for stories.

pub(crate) mod cable;
pub(crate) mod disk;
pub(crate) mod farm;
pub(crate) mod gpus;
pub(crate) mod http;
pub(crate) mod pictures;
pub(crate) mod promise;
pub(crate) mod relay;
pub(crate) mod scenes;
pub(crate) mod strangers;
pub(crate) mod terminal;
pub(crate) mod told;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use told::Told;

/// A program of this workspace, as `cargo build --workspace --bins` leaves it beside the tests.
pub(crate) fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("a test has a path");
    let directory = tests.ancestors().nth(2).expect("tests lie in target/PROFILE/deps");
    let program = directory.join(name);
    assert!(
        program.exists(),
        "{} is not built: run the tests with `cargo xtask test`, which builds it",
        program.display()
    );
    program
}

/// `grange-coordinator … backup DIR` and the like.
pub(crate) fn errand(state_dir: &Path, errand: &str, dir: &Path) -> Told {
    let mut command = Command::new(program("grange-coordinator"));
    command.arg("--state-dir").arg(state_dir).arg(errand).arg(dir);
    Told::by(&mut command)
}

/// Waits until something is so, looking often; fails after a minute.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    eventually_within(60, what, look)
}

/// The same, with as many seconds of patience as it takes.
#[track_caller]
pub(crate) fn eventually_within<T>(
    seconds: u64,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(seconds), "this never came: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes whose command line contains a text.
pub(crate) fn processes(containing: &str) -> Vec<String> {
    let all = told_of_processes(&["cmdline"]);
    all.into_iter().filter(|line| line.contains(containing)).collect()
}

/// Command lines of processes in which a text is, or in whose environment it is.
pub(crate) fn processes_that_know(text: &str) -> Vec<String> {
    let all = told_of_processes(&["cmdline", "environ"]).into_iter();
    all.filter(|told| told.contains(text))
        .map(|told| told.split('\n').next().unwrap().to_owned())
        .collect()
}

/// For each process the contents of files in `/proc`, a line for each.
fn told_of_processes(files: &[&str]) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("there is a /proc");
    let read = |path: PathBuf| -> Option<String> {
        let texts: std::io::Result<Vec<Vec<u8>>> =
            files.iter().map(|file| std::fs::read(path.join(file))).collect();
        Some(texts.ok()?.iter().map(|text| plain(text) + "\n").collect())
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
        .filter_map(|entry| read(entry.path()))
        .collect()
}

fn plain(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace(['\0', '\n'], " ")
}

/// Processes that a process has started, and those that these have, with the names of their
/// programs, of which the kernel keeps 15 bytes.
pub(crate) fn descendants(of: u32) -> BTreeMap<u32, String> {
    let entries = std::fs::read_dir("/proc").expect("there is a /proc");
    let all: Vec<(u32, String, u32)> = entries
        .flatten()
        .filter_map(|entry| {
            // NUMBER (NAME) STATE PARENT ...
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let (pid, rest) = stat.split_once(" (")?;
            let (name, rest) = rest.rsplit_once(") ")?;
            let parent = rest.split(' ').nth(1)?.parse().ok()?;
            Some((pid.parse().ok()?, name.to_owned(), parent))
        })
        .collect();
    let mut found = BTreeMap::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        for (pid, name, _) in all.iter().filter(|(_, _, of)| *of == parent) {
            parents.push(*pid);
            found.insert(*pid, name.clone());
        }
    }
    found
}

/// Memory that a process has taken, in MiB: now, and at most so far.
pub(crate) fn memory_mib(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let of = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// What a test has measured, for whoever reads its output.
#[expect(clippy::print_stderr, reason = "it is read by people")]
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Sends a signal, such as `INT`, to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(sent.expect("there is a kill").success(), "no process {pid}");
}

/// The seed of a random test: what `GRANGE_SEED` says, or a fixed one. It is printed, so that a run
/// that failed can be had again.
#[expect(clippy::print_stderr, reason = "a failed test tells how to have it again")]
pub(crate) fn seed(default: u64) -> u64 {
    let set = std::env::var("GRANGE_SEED").ok().map(|text| text.parse().expect("a number"));
    let seed = set.unwrap_or(default);
    eprintln!("GRANGE_SEED={seed}");
    seed
}
