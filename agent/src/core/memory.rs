//! Memory is given before it is taken: what is free, and what an instance may have of it.

use grange_protocol::agent::{Assignment, DeviceKind};
use grange_protocol::footprint::Memory;

use super::Core;
use super::attempt::Attempt;
use super::device::{Device, MARGIN_PERCENT};
use super::event::InstanceId;
use super::instance::Instance;

/// A shot that nobody has measured may be alone on a device of which this part is free.
const UNKNOWN_NEEDS_PART: u64 = 4;
/// An attempt that waits for memory for so long goes before all that came later.
const STARVING_MS: u64 = 15_000;

/// What an instance gets to start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) kept: bool,
    pub(super) memory: Memory,
}

impl Core {
    /// Takes from a reading what each instance on the device uses.
    pub(super) fn watch_gpu_memory(&mut self, at: u16) {
        let Some(device) = self.devices.get(usize::from(at)) else { return };
        let processes = device.reading().processes.clone();
        for instance in self.instances.values_mut().filter(|instance| instance.device == at) {
            let used = processes.iter().find(|(pid, _)| Some(*pid) == instance.pid);
            if let Some((_, Some(mib))) = used {
                instance.now.device_mib = *mib;
                instance.driver_says = true;
                instance.peak = instance.peak.max(instance.now);
            }
        }
    }

    pub(super) fn instances_on(
        &self,
        device: u16,
    ) -> impl Iterator<Item = (InstanceId, &Instance)> {
        self.instances
            .iter()
            .filter(move |(_, instance)| instance.device == device)
            .map(|(id, instance)| (*id, instance))
    }

    /// Those that are not on their way out.
    pub(super) fn live_on(&self, device: u16) -> impl Iterator<Item = (InstanceId, &Instance)> {
        self.instances_on(device).filter(|(_, one)| !one.is_stopping())
    }

    /// Memory that is neither used by others nor given to an instance, or taken by one.
    pub(super) fn free(&self, device: u16) -> Memory {
        let mib = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let Some(book) = self.devices.get(usize::from(device)) else { return Memory::default() };
        let taken: u64 =
            self.instances_on(device).map(|(_, one)| u64::from(one.takes().device_mib)).sum();
        let device_mib = mib(book.capacity_mib().saturating_sub(taken));
        if book.kind == DeviceKind::Cpu {
            // The CPU's memory is the RAM, of which instances on GPUs take some too.
            let elsewhere: u64 = self
                .instances
                .values()
                .filter(|instance| instance.device != device)
                .map(|instance| u64::from(instance.takes().ram_mib))
                .sum();
            let device_mib = device_mib.saturating_sub(mib(elsewhere));
            return Memory { device_mib, ram_mib: device_mib };
        }
        let cpu = self.devices.iter().position(|device| device.kind == DeviceKind::Cpu);
        let ram_mib = cpu.map_or(u32::MAX, |cpu| self.free(cpu as u16).ram_mib);
        Memory { device_mib, ram_mib }
    }

    /// What an instance for the attempt could start with now; `None` if it would not fit.
    pub(super) fn grant(&self, attempt: &Attempt) -> Option<Grant> {
        let (render, _) = attempt.render()?;
        let assignment = &attempt.assignment;
        let book = self.devices.get(usize::from(assignment.device))?;
        let free = self.free(assignment.device);
        let expected = book.expects(assignment.manifest?, &assignment.expected);
        let wanted = render.settings.persistent_data;
        let is_alone = self.instances_on(assignment.device).next().is_none();
        let kept = wanted == Some(true);
        let Some(plain) = expected.plain else {
            let memory = unknown_needs(book, free, is_alone)?;
            return Some(Grant { kept, memory });
        };
        let need = if kept { expected.kept.unwrap_or(plain) } else { plain };
        if fits(need, free) {
            return Some(Grant { kept, memory: need });
        }
        // What takes more than the whole device only because of its margin may have all of it.
        (is_alone && (is_trial(assignment, book) || fits(need.percent(90), free)))
            .then_some(Grant { kept, memory: need.min(free) })
    }

    /// Whether the instance may keep the scene's data for its next frame, beside all instances that
    /// are to run.
    pub(super) fn may_keep(&self, id: InstanceId, assignment: &Assignment) -> Option<Memory> {
        let instance = self.instances.get(&id)?;
        let book = self.devices.get(usize::from(instance.device))?;
        let expected = book.expects(instance.manifest, &assignment.expected);
        let (plain, kept) = (expected.plain?, expected.kept?);
        let live = self.live_on(instance.device).count();
        let to_come = usize::from(book.count()).saturating_sub(live);
        let free = self.free(instance.device);
        let own = instance.takes();
        let fits_beside = |kept_mib: u32, free: u32, own: u32, each: u32| {
            u64::from(free) + u64::from(own)
                >= u64::from(kept_mib) + u64::from(each) * to_come as u64
        };
        let good = fits_beside(kept.device_mib, free.device_mib, own.device_mib, plain.device_mib)
            && fits_beside(kept.ram_mib, free.ram_mib, own.ram_mib, plain.ram_mib);
        good.then_some(kept)
    }

    /// What the instance is expected to take the way it renders now.
    pub(super) fn expected_of(&self, id: InstanceId, assignment: &Assignment) -> Option<Memory> {
        let instance = self.instances.get(&id)?;
        let book = self.devices.get(usize::from(instance.device))?;
        let expected = book.expects(instance.manifest, &assignment.expected);
        if instance.kept { expected.kept } else { expected.plain }
    }

    /// Sets aside what is expected of an instance that was measured: surely what it took and the
    /// margin on top, and what others like it needed as far as that is free.
    pub(super) fn reserve_anew(&mut self, id: InstanceId, assignment: &Assignment, peak: Memory) {
        let Some(expected) = self.expected_of(id, assignment) else { return };
        let Some(at) = self.instances.get(&id).map(|instance| instance.device) else { return };
        let free = self.free(at);
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let own = instance.takes();
        let room = Memory {
            device_mib: own.device_mib.saturating_add(free.device_mib),
            ram_mib: own.ram_mib.saturating_add(free.ram_mib),
        };
        instance.reserved = expected.min(room.max(peak.percent(MARGIN_PERCENT)));
    }

    pub(super) fn could_ever_start(&self, attempt: &Attempt, device: &Device) -> bool {
        let Some(manifest) = attempt.assignment.manifest else { return true };
        let expected = device.expects(manifest, &attempt.assignment.expected);
        let capacity = device.capacity_mib();
        match expected.plain {
            Some(plain) => {
                is_trial(&attempt.assignment, device)
                    || u64::from(plain.percent(90).device_mib) <= capacity
            }
            None => capacity * UNKNOWN_NEEDS_PART >= device.total_mib(),
        }
    }

    /// Whether an attempt has waited for memory for so long that nothing may overtake it.
    pub(super) fn is_starving(&self, attempt: &Attempt) -> bool {
        attempt.waits_for_memory_since.is_some_and(|since| self.now.since(since) >= STARVING_MS)
    }
}

/// What an instance gets whose shot nobody has measured: all that is free, if that is at least half
/// of what others leave, so that nothing else starts before it is known. Where somebody chose the
/// number of instances, that says what each may have.
fn unknown_needs(book: &Device, free: Memory, is_alone: bool) -> Option<Memory> {
    let (free_mib, capacity_mib) = (u64::from(free.device_mib), book.capacity_mib());
    let (least_mib, most_mib) = if book.is_fixed() {
        let share_mib = capacity_mib / u64::from(book.count().max(1));
        (share_mib, share_mib)
    } else {
        (capacity_mib / 2, free_mib)
    };
    let is_enough = free_mib >= least_mib;
    let will_do = is_alone && free_mib * UNKNOWN_NEEDS_PART >= book.total_mib();
    let device_mib = u32::try_from(free_mib.min(most_mib)).unwrap_or(u32::MAX);
    let ram_mib = if book.kind == DeviceKind::Cpu { device_mib } else { 0 };
    (is_enough || will_do).then_some(Memory { device_mib, ram_mib })
}

/// Whether the coordinator sends what it expects to need more than there is, to be tried with all
/// that there is.
fn is_trial(assignment: &Assignment, device: &Device) -> bool {
    let told = assignment.expected.plain.map(|plain| u64::from(plain.percent(90).device_mib));
    device.is_nearly_free() && told.is_some_and(|mib| mib > device.capacity_mib())
}

fn fits(need: Memory, free: Memory) -> bool {
    need.device_mib <= free.device_mib && need.ram_mib <= free.ram_mib
}
