//! A process group: killed as a whole, weighed as a whole.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

/// The group that a spawned process leads. Dropping it kills what is left of it.
#[derive(Debug)]
pub(crate) struct Group(Mutex<State>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Alive(Pid),
    /// Killed by us; not yet reaped.
    Killed(Pid),
    /// Its id may belong to another process by now.
    Reaped {
        by_us: bool,
    },
}

impl Group {
    /// The group of a child that was spawned as its leader. `None` if it has been reaped already.
    pub(crate) fn of_child(id: Option<u32>) -> Self {
        let pid = id.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Self(Mutex::new(pid.map_or(State::Reaped { by_us: false }, State::Alive)))
    }

    pub(crate) fn kill(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Alive(pid) | State::Killed(pid) = *state {
            // It may just have ended by itself.
            let _ = kill_process_group(pid, Signal::KILL);
            *state = State::Killed(pid);
        }
    }

    /// After the leader was waited for: ends what is left of the group and forgets its id.
    pub(crate) fn reaped(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let by_us = matches!(*state, State::Killed(_));
        if let State::Alive(pid) | State::Killed(pid) = *state {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        *state = State::Reaped { by_us };
    }

    pub(crate) fn is_reaped(&self) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*state, State::Reaped { .. })
    }

    pub(crate) fn was_killed(&self) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*state, State::Killed(_) | State::Reaped { by_us: true })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The resident set of a process and its descendants, in MiB. `None` if there is no such process
/// or no `/proc`.
pub(crate) fn resident_mib(pid: u32) -> Option<u64> {
    let sizes: Vec<u64> = family(pid).into_iter().filter_map(resident_kib).collect();
    (!sizes.is_empty()).then(|| sizes.iter().sum::<u64>() / 1024)
}

/// A process and its descendants, without their order.
pub(crate) fn family(pid: u32) -> BTreeSet<u32> {
    let mut open = vec![pid];
    let mut found = BTreeSet::new();
    while let Some(pid) = open.pop() {
        if found.insert(pid) {
            open.extend(children(pid));
        }
    }
    found
}

fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|line| line.split_whitespace().flat_map(str::parse).collect::<Vec<u32>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn the_whole_group_dies_and_is_forgotten() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & sleep 60"])
            .process_group(0)
            .spawn()
            .unwrap();
        let pid = shell.id();
        let group = Group::of_child(Some(pid));
        let child = loop {
            if let Some(child) = children(pid).first() {
                break *child;
            }
        };
        assert!(resident_mib(pid).is_some());
        assert!(!group.was_killed());
        group.kill();
        shell.wait().unwrap();
        group.reaped();
        assert!(group.was_killed());
        let gone = || {
            fs::read_to_string(format!("/proc/{child}/stat"))
                .map_or(true, |stat| stat.contains(") Z "))
        };
        while !gone() {
            std::thread::yield_now();
        }
        group.kill();
    }

    #[test]
    fn this_process_weighs_something_and_none_weighs_nothing() {
        assert!(resident_mib(std::process::id()).unwrap() > 0);
        assert_eq!(resident_mib(u32::MAX), None);
    }
}
