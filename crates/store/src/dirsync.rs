//! Group commit of directory entries: many renames, few fsyncs.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Syncs directories on behalf of many threads. Whoever finds nobody syncing does it for all that
/// wait; the others wait for it.
#[derive(Debug, Default)]
pub(crate) struct DirSync {
    state: Mutex<State>,
    synced: Condvar,
}

#[derive(Debug, Default)]
struct State {
    dirty: BTreeSet<PathBuf>,
    /// Requests so far, and those that are durable.
    requested: u64,
    completed: u64,
    leader: bool,
    /// The latest groups that failed, with the requests in each.
    failures: VecDeque<(RangeInclusive<u64>, io::Error)>,
}

/// Long before so many groups have failed after it, every member of a group has seen its outcome.
const FAILURES_KEPT: usize = 64;

impl DirSync {
    /// Returns when all entries of `dir`, as they were at the call, are durable.
    pub(crate) fn sync(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.dirty.insert(dir.into());
        state.requested += 1;
        let ticket = state.requested;
        loop {
            if state.completed >= ticket {
                return state.outcome(ticket);
            }
            if state.leader {
                state = self.synced.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.leader = true;
            let group = state.completed + 1..=state.requested;
            let dirty = std::mem::take(&mut state.dirty);
            drop(state);
            let result = dirty.iter().try_for_each(|dir| File::open(dir)?.sync_all());
            state = self.lock();
            state.leader = false;
            state.completed = *group.end();
            if let Err(error) = result {
                state.failures.push_back((group, error));
                if state.failures.len() > FAILURES_KEPT {
                    state.failures.pop_front();
                }
            }
            self.synced.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn outcome(&self, ticket: u64) -> io::Result<()> {
        match self.failures.iter().find(|(group, _)| group.contains(&ticket)) {
            Some((_, error)) => Err(io::Error::new(error.kind(), error.to_string())),
            None => Ok(()),
        }
    }
}
