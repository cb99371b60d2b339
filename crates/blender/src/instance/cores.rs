//! Holding a process to some of the processor's cores.

use std::io;

/// Lets all threads of a process and of its descendants run on these cores alone, by their numbers
/// as the system has them. Threads that they start later inherit it.
///
/// Errors: no core or none of this system is named, the process has ended, the system does not
/// allow it, or cannot do it at all.
#[cfg(target_os = "linux")]
pub(super) fn pin(pid: u32, cores: &[usize]) -> io::Result<()> {
    use std::collections::BTreeSet;

    use rustix::process::Pid;
    use rustix::thread::{CpuSet, sched_setaffinity};

    let mut set = CpuSet::new();
    for core in cores {
        if *core >= CpuSet::MAX_CPU {
            let reason = format!("there is no core {core}: they go up to {}", CpuSet::MAX_CPU - 1);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        set.set(*core);
    }
    let mut pinned = BTreeSet::new();
    // A thread that is not pinned yet may start others meanwhile: look until there is no new one.
    loop {
        let new: Vec<i32> =
            threads(pid).into_iter().filter(|thread| !pinned.contains(thread)).collect();
        if new.is_empty() {
            break;
        }
        for thread in new {
            match sched_setaffinity(Pid::from_raw(thread), &set) {
                // Some threads end in between.
                Ok(()) | Err(rustix::io::Errno::SRCH) => pinned.insert(thread),
                Err(error) => return Err(error.into()),
            };
        }
    }
    if pinned.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the process has ended"));
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn pin(_pid: u32, _cores: &[usize]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The threads of a process and of its descendants.
#[cfg(target_os = "linux")]
fn threads(pid: u32) -> Vec<i32> {
    let tasks = super::group::family(pid)
        .into_iter()
        .filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).ok());
    tasks
        .flat_map(|tasks| tasks.flatten())
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
        .collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn children_are_pinned_too_and_what_cannot_be_is_an_error() {
        let core = allowed(std::process::id())[0];
        let mut shell =
            Command::new("sh").args(["-c", "sleep 60 & sleep 60 & wait"]).spawn().unwrap();
        while super::super::group::family(shell.id()).len() < 3 {
            std::thread::yield_now();
        }
        pin(shell.id(), &[core]).unwrap();
        let family = super::super::group::family(shell.id());
        for pid in &family {
            assert_eq!(allowed(*pid), [core]);
        }
        let error = |cores: &[usize]| pin(shell.id(), cores).unwrap_err().kind();
        assert_eq!(error(&[]), io::ErrorKind::InvalidInput);
        assert_eq!(error(&[100_000]), io::ErrorKind::InvalidInput);
        for pid in family.into_iter().rev() {
            Command::new("kill").arg(pid.to_string()).status().unwrap();
        }
        shell.wait().unwrap();
        assert_eq!(pin(shell.id(), &[core]).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// Cores that a process may run on.
    fn allowed(pid: u32) -> Vec<usize> {
        let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap());
        let set = rustix::thread::sched_getaffinity(pid).unwrap();
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
    }
}
