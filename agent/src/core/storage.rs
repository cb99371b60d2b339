//! Room on this host's disks: without it nothing new begins, and what could not be written begins
//! anew, here or elsewhere, and counts against nobody.

use grange_protocol::{LeaseId, Millis};

use super::Core;
use super::attempt::Stage;

/// Less free space than this is none, for frames are written before anybody can count them. Bytes.
const RESERVE: u64 = 256 << 20;
/// On small file systems it is this part of them.
const RESERVE_PARTS: u64 = 20;
/// What did not suffice is tried again after so long: what was free when it mattered is a guess.
const GUESS_HOLDS_MS: u64 = 30_000;

/// A file system that the agent writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// A directory on it.
    pub(crate) place: String,
    /// Bytes that are free for us, and all that it has.
    pub(crate) free: u64,
    pub(crate) total: u64,
}

impl Space {
    fn reserve(&self) -> u64 {
        RESERVE.min(self.total / RESERVE_PARTS)
    }
}

#[derive(Debug, Default)]
pub(super) struct Storage {
    spaces: Vec<Space>,
    /// What has to be free before work goes on, for each of the spaces; 0 where work goes on.
    awaited: Vec<u64>,
    /// Something could not be written since the last reading.
    ran_out: bool,
    /// Until when what is awaited may be more than the reserve.
    guess_ends: Millis,
}

impl Storage {
    fn read(&mut self, now: Millis, spaces: Vec<Space>) {
        self.awaited.resize(spaces.len(), 0);
        let before = std::mem::replace(&mut self.spaces, spaces);
        if now >= self.guess_ends {
            for (space, awaited) in self.spaces.iter().zip(&mut self.awaited) {
                *awaited = (*awaited).min(space.reserve() + space.reserve() / 4);
            }
        }
        if std::mem::take(&mut self.ran_out)
            && let Some(at) = self.tightest()
        {
            // What was free was not enough, so it takes more than that. Somebody may have made room
            // since then.
            let space = &self.spaces[at];
            let free = before.get(at).map_or(space.free, |before| before.free.min(space.free));
            self.awaited[at] = self.awaited[at].max(free + space.reserve());
            self.guess_ends = now + GUESS_HOLDS_MS;
        }
        for (space, awaited) in self.spaces.iter().zip(&mut self.awaited) {
            if *awaited == 0 && space.free < space.reserve() {
                // A little more, lest it begins and ends with every file.
                *awaited = space.reserve() + space.reserve() / 4;
            } else if space.free >= *awaited {
                *awaited = 0;
            }
        }
    }

    fn tightest(&self) -> Option<usize> {
        (0..self.spaces.len()).min_by_key(|at| self.spaces[*at].free)
    }

    /// Why nothing begins, as a sentence.
    pub(super) fn problem(&self) -> Option<String> {
        let full = self.awaited.iter().position(|awaited| *awaited > 0);
        let full = full.or_else(|| self.tightest().filter(|_| self.ran_out))?;
        let place = &self.spaces[full].place;
        Some(format!("storage full: make room at {place}, and work goes on by itself"))
    }
}

impl Core {
    pub(super) fn spaces_read(&mut self, spaces: Vec<Space>) {
        self.storage.read(self.now, spaces);
        self.devices_follow_storage();
        self.give_back_the_hopeless();
    }

    /// Ends an attempt whose files this host had no room for, so that it begins anew.
    pub(super) fn ran_out_of_storage(&mut self, lease: LeaseId, reason: &str) {
        self.storage.ran_out = true;
        self.devices_follow_storage();
        // First: the coordinator must not give it back to us.
        self.tell_devices_if_they_changed();
        if let Some(attempt) = self.attempts.get_mut(&lease) {
            attempt.append_log(&format!("{reason}\n"));
            attempt.stage = Stage::Storing;
        }
        self.begin_anew_elsewhere(lease);
    }

    fn devices_follow_storage(&mut self) {
        let problem = self.storage.problem();
        for at in 0..self.devices.len() as u16 {
            let device = &mut self.devices[usize::from(at)];
            if let Some(text) = device.storage(problem.clone()) {
                self.decide(at, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn storage(frees_mib: &[u64], storage: &mut Storage) -> bool {
        let space = |free: &u64| Space { place: "/s".into(), free: free * MIB, total: 100 * MIB };
        storage.read(Millis(1), frees_mib.iter().map(space).collect());
        storage.problem().is_some()
    }

    #[test]
    fn what_is_nearly_full_is_full_until_there_is_a_little_more() {
        let mut one = Storage::default();
        let read: Vec<bool> =
            [50, 4, 5, 7, 5].iter().map(|free| storage(&[*free], &mut one)).collect();
        assert_eq!(read, [false, true, true, false, false]);
    }

    #[test]
    fn what_did_not_suffice_once_does_not_suffice_again() {
        let mut one = Storage::default();
        assert!(!storage(&[30, 60], &mut one));
        one.ran_out = true;
        assert!(one.problem().is_some(), "at once, before anybody looks again");
        assert!(storage(&[30, 60], &mut one));
        assert!(storage(&[34, 60], &mut one));
        assert!(!storage(&[35, 60], &mut one));
        assert!(!storage(&[30, 60], &mut one), "the next shot may need less");
        one.ran_out = true;
        assert!(storage(&[90, 60], &mut one), "somebody made room before anybody looked");
        one.read(Millis(1 + GUESS_HOLDS_MS), one.spaces.clone());
        assert_eq!(one.problem(), None, "it is tried again");
    }
}
