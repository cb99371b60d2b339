//! What is remembered of every task of a step, in two bits.

use serde::{Deserialize, Serialize};

const PER_WORD: u32 = 32;
const COMPLETED: u64 = 1;
const FAILED: u64 = 2;
/// The low bit of every pair.
const LOW_BITS: u64 = 0x5555_5555_5555_5555;

/// A task's durable state. Whether an open one is waiting, ready, running or canceled follows from
/// its step, its job and the leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Open,
    Completed,
    Failed,
}

/// Marks of a step's tasks. A million of them are 250 kB, made in one allocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskTable {
    words: Vec<u64>,
    len: u32,
    completed: u32,
    failed: u32,
}

impl TaskTable {
    pub fn new(len: u32) -> Self {
        Self { words: vec![0; len.div_ceil(PER_WORD) as usize], len, completed: 0, failed: 0 }
    }

    pub const fn len(&self) -> u32 {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub const fn completed(&self) -> u32 {
        self.completed
    }

    pub const fn failed(&self) -> u32 {
        self.failed
    }

    pub const fn open(&self) -> u32 {
        self.len - self.completed - self.failed
    }

    /// `None` past the last task.
    pub fn get(&self, task: u32) -> Option<Mark> {
        if task >= self.len {
            return None;
        }
        let bits = self.words[(task / PER_WORD) as usize] >> shift(task) & 3;
        Some(match bits {
            0 => Mark::Open,
            COMPLETED => Mark::Completed,
            _ => Mark::Failed,
        })
    }

    /// Marks an open task. Returns whether it was open.
    pub(crate) fn close(&mut self, task: u32, mark: Mark) -> bool {
        if self.get(task) != Some(Mark::Open) {
            return false;
        }
        let bits = match mark {
            Mark::Open => return true,
            Mark::Completed => {
                self.completed += 1;
                COMPLETED
            }
            Mark::Failed => {
                self.failed += 1;
                FAILED
            }
        };
        self.words[(task / PER_WORD) as usize] |= bits << shift(task);
        true
    }

    /// Opens every failed task again.
    pub(crate) fn reopen_failed(&mut self) {
        for word in &mut self.words {
            *word &= LOW_BITS;
        }
        self.failed = 0;
    }

    /// The first open task at or after `from`.
    pub fn next_open(&self, from: u32) -> Option<u32> {
        let mut task = from;
        while task < self.len {
            let word = self.words[(task / PER_WORD) as usize];
            // A pair with neither bit set is open: give each one its low bit.
            let open = !(word | word >> 1) & LOW_BITS;
            let ahead = open >> shift(task);
            if ahead != 0 {
                let found = task + ahead.trailing_zeros() / 2;
                return (found < self.len).then_some(found);
            }
            task = (task / PER_WORD + 1) * PER_WORD;
        }
        None
    }

    /// The failed tasks, in order.
    pub fn failed_tasks(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().filter(|(_, word)| *word & !LOW_BITS != 0).flat_map(
            |(at, _)| {
                let first = at as u32 * PER_WORD;
                (first..first + PER_WORD).filter(|task| self.get(*task) == Some(Mark::Failed))
            },
        )
    }

    /// What is wrong with the counters, if anything is.
    pub(crate) fn problem(&self) -> Option<String> {
        let count =
            |mark| (0..self.len).filter(|task| self.get(*task) == Some(mark)).count() as u32;
        let (completed, failed) = (count(Mark::Completed), count(Mark::Failed));
        ((completed, failed) != (self.completed, self.failed)).then(|| {
            format!(
                "counts {}/{} completed/failed, has {completed}/{failed}",
                self.completed, self.failed
            )
        })
    }
}

const fn shift(task: u32) -> u32 {
    task % PER_WORD * 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn the_table_agrees_with_a_plain_map(
            len in 1u32..200,
            closings in proptest::collection::vec((0u32..220, any::<bool>()), 0..150),
            reopen in any::<bool>(),
        ) {
            let mut table = TaskTable::new(len);
            let mut model: BTreeMap<u32, Mark> = (0..len).map(|task| (task, Mark::Open)).collect();
            for (task, good) in closings {
                let mark = if good { Mark::Completed } else { Mark::Failed };
                let was_open = model.get(&task) == Some(&Mark::Open);
                prop_assert_eq!(table.close(task, mark), was_open);
                if was_open {
                    model.insert(task, mark);
                }
            }
            if reopen {
                table.reopen_failed();
                for mark in model.values_mut().filter(|mark| **mark == Mark::Failed) {
                    *mark = Mark::Open;
                }
            }
            for from in 0..len + 2 {
                prop_assert_eq!(table.get(from), model.get(&from).copied());
                let next = model.range(from..).find(|(_, mark)| **mark == Mark::Open).map(|(at, _)| *at);
                prop_assert_eq!(table.next_open(from), next);
            }
            let failed: Vec<u32> = model.iter().filter(|(_, m)| **m == Mark::Failed).map(|(t, _)| *t).collect();
            prop_assert_eq!(table.failed_tasks().collect::<Vec<_>>(), failed);
            prop_assert_eq!(table.problem(), None);
        }
    }
}
