//! One device of an agent in the core's books: what it holds, what of that runs, and what fits
//! beside it.

use std::collections::BTreeMap;

use crate::footprint::Estimate;
use grange_protocol::agent::{DeviceInfo, DeviceKind};
use grange_protocol::footprint::{DeviceState, Memory};
use grange_protocol::{BlobHash, JobId, LeaseId, Millis};

/// An instance of a shot that nobody has measured may be alone on a device where others leave this
/// share of the memory, in percent.
const UNKNOWN_NEEDS_PERCENT: u64 = 25;

/// What a device holds, running or ahead, and which scenes are warm on it.
#[derive(Clone, Debug)]
pub(crate) struct DeviceBook {
    pub(crate) kind: DeviceKind,
    /// Instances that it wants to run at once.
    pub(crate) slots: usize,
    /// Tasks that wait for each running one, so that no instance waits for the network.
    ahead: usize,
    /// Memory for instances if nobody else uses any, and what others use of it.
    pub(crate) total_mib: u64,
    pub(crate) others_mib: u64,
    /// Nothing renders here any more.
    pub(crate) is_lost: bool,
    /// In the order of assignment.
    pub(crate) held: Vec<Held>,
    /// By manifest.
    pub(crate) scenes: BTreeMap<BlobHash, WarmScene>,
    /// Nobody else gets anything here until this job's task fits.
    pub(crate) saved_for: Option<JobId>,
}

/// A lease in a device's book.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) lease: LeaseId,
    /// `None`: nobody knows.
    pub(crate) need: Option<Memory>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct WarmScene {
    /// Leases that use it.
    pub(crate) held: u32,
    /// Instances that have it open: as many as ever used it at once.
    pub(crate) instances: u32,
    /// Since when the device works on it without a break.
    pub(crate) since: Millis,
}

/// What of a device's leases runs now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) instances: usize,
    /// RAM that they take; what device memory they leave is in `free_mib`.
    pub(crate) ram_mib: u64,
    pub(crate) free_mib: u64,
}

impl DeviceBook {
    pub(crate) fn new(info: &DeviceInfo, ahead: u8) -> Self {
        Self {
            kind: info.kind,
            slots: info.slots.into(),
            ahead: ahead.into(),
            total_mib: info.memory_mib,
            others_mib: 0,
            is_lost: false,
            held: Vec::new(),
            scenes: BTreeMap::new(),
            saved_for: None,
        }
    }

    pub(crate) fn told(&mut self, state: &DeviceState) {
        self.slots = state.slots.into();
        self.total_mib = state.total_mib;
        self.others_mib = state.others_mib;
        self.is_lost = state.problem.is_some();
    }

    /// Memory for instances now.
    pub(crate) fn capacity_mib(&self) -> u64 {
        self.total_mib.saturating_sub(self.others_mib)
    }

    /// The leases that have an instance now: the first ones that fit.
    pub(crate) fn running(&self) -> Running {
        let mut running = Running { free_mib: self.capacity_mib(), ..Running::default() };
        for held in &self.held {
            if running.instances == self.slots {
                break;
            }
            // Whoever is alone got what there was.
            if running.instances == 0 || self.fits(held.need, running) {
                running.instances += 1;
                running.free_mib = running.free_mib.saturating_sub(self.mib(held.need));
                running.ram_mib += held.need.map_or(0, |need| u64::from(need.ram_mib));
            }
        }
        running
    }

    /// Device memory of an instance. One of a shot that nobody has measured gets its share of the
    /// device: all of it as long as that runs one.
    fn mib(&self, need: Option<Memory>) -> u64 {
        need.map_or(self.capacity_mib() / self.slots.max(1) as u64, |need| need.device_mib.into())
    }

    /// What an instance would get here: what it is expected to need, or, where it would be alone
    /// and only its margin does not fit, all that there is.
    pub(crate) fn offers(&self, estimate: &Estimate, running: Running) -> Option<Memory> {
        let need = estimate.need()?;
        let free_mib = u32::try_from(running.free_mib).unwrap_or(u32::MAX);
        let squeezed = running.instances == 0
            && (estimate.surely.device_mib..need.device_mib).contains(&free_mib);
        Some(if squeezed { Memory { device_mib: free_mib, ..need } } else { need })
    }

    /// Whether an instance with that need could start beside those that run.
    pub(crate) fn fits(&self, need: Option<Memory>, running: Running) -> bool {
        let alone = need.is_none()
            && running.instances == 0
            && running.free_mib * 100 >= self.total_mib * UNKNOWN_NEEDS_PERCENT;
        alone || self.mib(need) <= running.free_mib
    }

    pub(crate) fn has_free_slot(&self, running: Running) -> bool {
        running.instances < self.slots && !self.is_lost
    }

    /// Whether it takes a task to have it at hand when an instance is free for it.
    pub(crate) fn has_room_ahead(&self, running: Running) -> bool {
        !self.is_lost && self.held.len() < running.instances * (1 + self.ahead)
    }

    /// Thousandths of the slots that are in use; above 1000 if tasks wait.
    pub(crate) fn load(&self) -> usize {
        self.held.len() * 1000 / self.slots.max(1)
    }

    /// Leases that wait behind those that run.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = LeaseId> + '_ {
        self.held.iter().skip(self.running().instances).map(|held| held.lease)
    }

    pub(crate) fn holds(&self, lease: LeaseId) -> bool {
        self.held.iter().any(|held| held.lease == lease)
    }

    pub(crate) fn hold(&mut self, held: Held, scene: Option<BlobHash>, now: Millis) {
        self.held.push(held);
        if let Some(scene) = scene {
            let slots = self.slots.max(1) as u32;
            let new = WarmScene { held: 0, instances: 0, since: now };
            let warm = self.scenes.entry(scene).or_insert(new);
            warm.held += 1;
            warm.instances = warm.instances.max(warm.held.min(slots));
        }
    }

    pub(crate) fn release(&mut self, lease: LeaseId, scene: Option<BlobHash>) {
        self.held.retain(|held| held.lease != lease);
        if let Some(warm) = scene.and_then(|scene| self.scenes.get_mut(&scene)) {
            warm.held = warm.held.saturating_sub(1);
        }
    }

    /// Forgets scenes that nobody uses until there is a slot for another.
    pub(crate) fn make_way(&mut self, keep: BlobHash) {
        while self.scenes.len() >= self.slots.max(1) && !self.scenes.contains_key(&keep) {
            let oldest = self
                .scenes
                .iter()
                .min_by_key(|(_, warm)| (warm.held, warm.since))
                .map(|(scene, _)| *scene);
            match oldest {
                Some(scene) => self.scenes.remove(&scene),
                None => break,
            };
        }
    }
}
