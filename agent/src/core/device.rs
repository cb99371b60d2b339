//! A device as the core sees it: what it has, who else uses it, and how many instances it runs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use grange_protocol::agent::DeviceKind;
use grange_protocol::footprint::{DeviceState, Expected, Memory};
use grange_protocol::shot::Label;
use grange_protocol::{BlobHash, Millis};

use super::tuning::Tuner;
use crate::devices::Instances;
use crate::gpu::{Read, Reading};

/// A part of a device's memory that is never given away: drivers and file caches need some.
const HEADROOM_PARTS: u64 = 64;
/// A device is nearly free while others use no more than this part of it.
const NEARLY_FREE_PARTS: u64 = 8;
/// More instances than this are never tried on a GPU.
const GPU_INSTANCES_MAX: u16 = 16;
/// What others use is the least of so many readings, so that an instance that grows between two
/// looks is not taken for somebody else.
const OTHERS_READINGS: usize = 3;
/// Searches that are remembered, for scenes that come back.
const SEARCHES_KEPT: usize = 64;
/// Keeping the scene's data between frames takes at most so many percent of what a frame takes
/// without; assumed until it is measured.
const KEPT_PERCENT: u32 = 250;
/// On top of what was measured here.
pub(super) const MARGIN_PERCENT: u32 = 110;

/// A device to begin with.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) name: Label,
    pub(crate) kind: DeviceKind,
    pub(crate) memory_mib: u64,
    /// Instances to begin with.
    pub(crate) slots: u16,
    pub(crate) instances: Instances,
    /// Processor cores that its instances share; 0 if it computes by itself.
    pub(crate) cores: u16,
}

#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) name: Label,
    pub(crate) kind: DeviceKind,
    pub(crate) cores: u16,
    instances: Instances,
    slots: u16,
    reading: Reading,
    /// Why there is none, as a sentence.
    pub(crate) problem: Option<String>,
    /// Whether that is what storage is short of.
    is_full: bool,
    /// What an instance's failure says of the device, until it is read anew.
    pub(crate) suspicion: Suspicion,
    others_mib: VecDeque<u64>,
    /// The scenes that it renders now, and the search that goes with them.
    scenes: BTreeSet<BlobHash>,
    tuner: Tuner,
    searches: BTreeMap<BTreeSet<BlobHash>, Tuner>,
    /// What was measured here since the start, by scene.
    learned: BTreeMap<BlobHash, Learned>,
    /// Since when its instances need more than there is.
    pub(crate) short_since: Option<Millis>,
    /// Since when it runs fewer instances than it wants, for want of memory.
    pub(crate) lacking_since: Option<Millis>,
    pub(crate) clock: Clock,
    pub(crate) told: DeviceState,
    /// Instances that people drive or wait for.
    pub(crate) sessions: u16,
}

/// What is held up on a device until it is known how it is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Suspicion {
    #[default]
    None,
    /// Memory ran out, so others may have taken it: no instance starts.
    Full,
    /// The host failed a render, so the device may be lost: nothing renders.
    Lost,
}

/// How many instances were busy on a device, summed over time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// Milliseconds times instances that rendered, and that loaded.
    pub(crate) rendering: u64,
    pub(crate) loading: u64,
}

/// What was measured of a scene on a device.
#[derive(Clone, Copy, Debug, Default)]
struct Learned {
    plain: Option<Memory>,
    kept: Option<Memory>,
    load_ms: Option<u32>,
    frame_ms: Option<u32>,
}

impl Device {
    pub(crate) fn new(setup: &Setup) -> Self {
        let reading = Reading { total_mib: setup.memory_mib, ..Reading::default() };
        let mut device = Self {
            name: setup.name.clone(),
            kind: setup.kind,
            cores: setup.cores,
            instances: setup.instances,
            slots: setup.slots,
            reading,
            problem: None,
            is_full: false,
            suspicion: Suspicion::None,
            others_mib: VecDeque::new(),
            scenes: BTreeSet::new(),
            tuner: Tuner::fixed(setup.slots),
            searches: BTreeMap::new(),
            learned: BTreeMap::new(),
            short_since: None,
            lacking_since: None,
            clock: Clock::default(),
            told: DeviceState::default(),
            sessions: 0,
        };
        device.tuner = device.search_from(setup.slots);
        device
    }

    /// Takes a reading in. `ours_mib` is what our instances take of what is in use.
    pub(crate) fn read(
        &mut self,
        read: Read,
        ours_mib: impl Fn(&Reading) -> u64,
    ) -> Option<String> {
        let before = std::mem::take(&mut self.suspicion);
        match read {
            Ok(reading) => {
                if before == Suspicion::Full {
                    // Somebody may have come whom the readings before do not know.
                    self.others_mib.clear();
                }
                if self.others_mib.len() == OTHERS_READINGS {
                    self.others_mib.pop_front();
                }
                self.others_mib.push_back(reading.used_mib.saturating_sub(ours_mib(&reading)));
                self.reading = reading;
                if self.is_full {
                    return None;
                }
                self.problem.take().map(|_| "it can be used again".into())
            }
            Err(problem) if self.problem.as_ref() == Some(&problem) => None,
            Err(problem) => {
                self.is_full = false;
                self.problem = Some(problem.clone());
                Some(problem)
            }
        }
    }

    /// Takes in whether there is room to write to. Returns what is new, if anything is.
    pub(crate) fn storage(&mut self, problem: Option<String>) -> Option<String> {
        match problem {
            None if self.is_full => {
                (self.is_full, self.problem) = (false, None);
                Some("there is room again".into())
            }
            Some(_) if self.problem.is_none() => {
                self.is_full = true;
                self.problem.clone_from(&problem);
                problem
            }
            _ => None,
        }
    }

    pub(crate) fn reading(&self) -> &Reading {
        &self.reading
    }

    pub(crate) fn others_mib(&self) -> u64 {
        self.others_mib.iter().copied().min().unwrap_or(0)
    }

    /// Memory for instances if nobody else uses any.
    pub(crate) fn total_mib(&self) -> u64 {
        self.reading.total_mib - self.reading.total_mib / HEADROOM_PARTS
    }

    pub(crate) fn capacity_mib(&self) -> u64 {
        self.total_mib().saturating_sub(self.others_mib())
    }

    /// A GPU of which others have no more than a desktop takes.
    pub(crate) fn is_nearly_free(&self) -> bool {
        self.kind != DeviceKind::Cpu && self.others_mib() * NEARLY_FREE_PARTS <= self.total_mib()
    }

    /// Instances to run at once now.
    pub(crate) fn count(&self) -> u16 {
        if self.problem.is_some() {
            return 0;
        }
        let found = self.tuner.count();
        if self.is_fixed() {
            return found;
        }
        let most = if self.kind == DeviceKind::Cpu { self.cores.max(1) } else { GPU_INSTANCES_MAX };
        found.max(self.sessions.min(most))
    }

    pub(crate) fn tuner(&mut self) -> &mut Tuner {
        &mut self.tuner
    }

    pub(crate) fn is_fixed(&self) -> bool {
        matches!(self.instances, Instances::Fixed(_))
    }

    /// Goes on with the search that belongs to these scenes. Scenes that are all new begin with few
    /// instances, others with as many as run now.
    pub(crate) fn renders(&mut self, scenes: BTreeSet<BlobHash>) {
        if scenes == self.scenes || scenes.is_empty() || self.is_fixed() {
            return;
        }
        let goes_on = scenes.intersection(&self.scenes).next().is_some();
        let begin = if goes_on { self.tuner.count() } else { self.slots };
        let next = self.searches.remove(&scenes).unwrap_or_else(|| self.search_from(begin));
        let before = std::mem::replace(&mut self.scenes, scenes);
        let search = std::mem::replace(&mut self.tuner, next);
        if self.searches.len() < SEARCHES_KEPT {
            self.searches.insert(before, search);
        }
    }

    fn search_from(&self, count: u16) -> Tuner {
        let max = if self.cores > 0 { self.cores } else { GPU_INSTANCES_MAX };
        match self.instances {
            Instances::Fixed(number) => Tuner::fixed(number.get()),
            Instances::Auto => Tuner::new(count, max),
        }
    }

    pub(crate) fn learn_frame(&mut self, scene: BlobHash, kept: bool, peak: Memory, frame_ms: u32) {
        let learned = self.learned.entry(scene).or_default();
        let known = if kept { &mut learned.kept } else { &mut learned.plain };
        *known = Some(known.unwrap_or_default().max(peak));
        learned.frame_ms = Some(frame_ms);
    }

    pub(crate) fn learn_load(&mut self, scene: BlobHash, load_ms: u32) {
        self.learned.entry(scene).or_default().load_ms = Some(load_ms);
    }

    pub(crate) fn forget(&mut self, scene: BlobHash) {
        self.learned.remove(&scene);
    }

    /// The scene needs more than this.
    pub(crate) fn learn_that_it_ran_out(&mut self, scene: BlobHash, kept: bool, had: Memory) {
        let learned = self.learned.entry(scene).or_default();
        let known = if kept { &mut learned.kept } else { &mut learned.plain };
        *known = Some(known.unwrap_or_default().max(had.percent(MARGIN_PERCENT)));
    }

    /// What the coordinator says and what was seen here, the larger of both. What was not tried
    /// yet is derived from what was.
    pub(crate) fn expects(&self, scene: BlobHash, told: &Expected) -> Expected {
        let seen = self.learned.get(&scene).copied().unwrap_or_default();
        let larger = |told: Option<Memory>, seen: Option<Memory>| {
            let seen = seen.map(|memory| memory.percent(MARGIN_PERCENT));
            match (told, seen) {
                (Some(told), Some(seen)) => Some(told.max(seen)),
                (one, other) => one.or(other),
            }
        };
        // The coordinator's figure for what it never saw is a guess; ours is not.
        let guessed_kept = if seen.kept.is_some() { None } else { told.kept };
        let (plain, kept) = (larger(told.plain, seen.plain), larger(guessed_kept, seen.kept));
        Expected {
            plain: plain.or(kept),
            kept: kept.or_else(|| plain.map(|memory| memory.percent(KEPT_PERCENT))),
            frame_ms: seen.frame_ms.or(told.frame_ms),
            load_ms: seen.load_ms.or(told.load_ms),
        }
    }
}
