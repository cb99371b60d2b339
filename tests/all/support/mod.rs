//! Farms of real processes, for stories.

pub(crate) mod farm;
pub(crate) mod gpus;
pub(crate) mod http;
pub(crate) mod pictures;
pub(crate) mod scenes;
pub(crate) mod told;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

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
    numbered_processes(containing).into_values().collect()
}

/// The same, by their numbers.
pub(crate) fn numbered_processes(containing: &str) -> BTreeMap<u32, String> {
    let entries = std::fs::read_dir("/proc").expect("there is a /proc");
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_string_lossy().parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
        })
        .filter(|(_, line)| line.contains(containing))
        .collect()
}

/// Sends a signal, such as `INT`, to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(sent.expect("there is a kill").success(), "no process {pid}");
}
