//! Memory is given before it is taken: what an instance may have, who gives way when there is too
//! little, and what people and the coordinator are told of it.

use std::collections::BTreeSet;

use grange_protocol::agent::{Assignment, DeviceKind, FromAgent};
use grange_protocol::footprint::{
    DEVICE_PROCESSES_MAX, Decision, DeviceState, MeasuredEnd, Measurement, Memory, ProcessUse,
};
use grange_protocol::{BlobHash, LeaseId};

use super::attempt::{Attempt, Stage};
use super::device::{Device, MARGIN_PERCENT};
use super::event::{Frame, InstanceId};
use super::instance::{Activity, Instance};
use super::tuning::Room;
use super::{Command, Core};
use crate::gpu::{Read, Reading};

/// What a CUDA context takes besides what Cycles says of itself; only where the driver does not say
/// what the process takes. MiB.
const CONTEXT_MIB: u32 = 300;
/// A shot that nobody has measured may be alone on a device of which this part is free.
const UNKNOWN_NEEDS_PART: u64 = 4;
/// An attempt that waits for memory for so long goes before all that came later.
const STARVING_MS: u64 = 15_000;
/// What could not even start if this host were empty is given back after this time.
const HOPELESS_MS: u64 = 20_000;
/// Instances are given up only when memory stays short for so long.
const SHORT_MS: u64 = 2_500;
/// A number of instances that the memory does not allow is given up after this time.
const LACKING_MS: u64 = 5_000;
/// The search goes on only if what is left to do takes this many times the start of an instance.
const LOADS_WORTH: u64 = 3;
/// A frame that loading instances disturbed for more than this share of its time, in percent, says
/// nothing about the rate.
const DISTURBED_PERCENT: u64 = 15;
/// An instance that has grown by so many percent since it was young is replaced, if that is at
/// least so many MiB.
const GROWTH_PERCENT: u32 = 150;
const GROWTH_MIB: u32 = 512;
/// Frames after which an instance is no longer young: its memory has settled by then.
const YOUNG_FRAMES: u32 = 4;
/// Frames that are expected to take so long are rendered in tiles, so that they can be stopped.
pub(super) const LONG_FRAME_MS: u32 = 120_000;

/// What an instance gets to start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) kept: bool,
    pub(super) memory: Memory,
}

impl Core {
    pub(super) fn devices_read(&mut self, readings: Vec<Read>) {
        for (at, read) in (0u16..).zip(readings) {
            let on_it: Vec<Instance> = self.instances_on(at).map(|(_, one)| one.clone()).collect();
            let everywhere: u64 =
                self.instances.values().map(|instance| u64::from(instance.now.ram_mib)).sum();
            let Some(device) = self.devices.get_mut(usize::from(at)) else { break };
            let is_cpu = device.kind == DeviceKind::Cpu;
            let ours_mib = |reading: &Reading| {
                if is_cpu { everywhere } else { ours_on_gpu(reading, &on_it) }
            };
            let said = device.read(read, ours_mib);
            self.watch_gpu_memory(at);
            if let Some(text) = said {
                self.decide(at, text);
            }
        }
        self.judge_lessons();
        for at in 0..self.devices.len() as u16 {
            self.give_way(at);
            self.give_up_what_has_no_memory(at);
        }
        self.give_back_the_hopeless();
        self.readings += 1;
        if self.readings.is_multiple_of(2) {
            self.tell_devices();
        }
    }

    /// Takes from a reading what each instance on the device uses.
    fn watch_gpu_memory(&mut self, at: u16) {
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

    /// Memory that is neither used by others nor given to an instance, or taken by one.
    fn free(&self, device: u16) -> Memory {
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
        let live = self.instances_on(instance.device).filter(|(_, one)| !one.is_stopping()).count();
        let to_come = usize::from(book.count()).saturating_sub(live);
        let free = self.free(instance.device);
        let own = instance.takes();
        let room = |free: u32, own: u32, each: u32| {
            u64::from(free) + u64::from(own) >= u64::from(each) * to_come as u64
        };
        let fits_beside = |kept_mib: u32, free: u32, own: u32, each: u32| {
            u64::from(free) + u64::from(own)
                >= u64::from(kept_mib) + u64::from(each) * to_come as u64
        };
        let good = room(free.device_mib, own.device_mib, plain.device_mib)
            && fits_beside(kept.device_mib, free.device_mib, own.device_mib, plain.device_mib)
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

    /// A frame is rendered: what it took is learned and told, and the search takes a step.
    pub(super) fn frame_measured(&mut self, id: InstanceId, lease: LeaseId, frame: &Frame) {
        let now = self.now;
        let Some(attempt) = self.attempts.get(&lease) else { return };
        let assignment = attempt.assignment.clone();
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let is_first_this_way = instance.frames_this_way == 0;
        instance.frames += 1;
        instance.frames_this_way += 1;
        let at = instance.device;
        let Some(device) = self.devices.get_mut(usize::from(at)) else { return };
        let is_cpu = device.kind == DeviceKind::Cpu;
        let ram_mib = instance.peak.ram_mib.max(frame.peak_mib);
        let device_mib = match (is_cpu, instance.driver_says, frame.device_peak_mib) {
            (true, _, _) => ram_mib,
            (false, true, cycles_mib) => instance.peak.device_mib.max(cycles_mib.unwrap_or(0)),
            (false, false, Some(cycles_mib)) => cycles_mib + CONTEXT_MIB,
            // A frame that was over before anybody looked: the next one may tell.
            (false, false, None) => return,
        };
        let peak = Memory { device_mib, ram_mib };
        let (kept, scene) = (instance.kept, instance.manifest);
        let load_ms = instance.load_ms.take();
        let millis = now.since(instance.frame_began).max(1);
        let rendering = device.clock.rendering - instance.clock.rendering;
        let loading = device.clock.loading - instance.clock.loading;
        let beside = rendering as f64 / millis as f64;
        let is_disturbed = loading * 100 > millis * DISTURBED_PERCENT;
        device.learn_frame(scene, kept, peak, millis as u32);
        if let Some(load_ms) = load_ms {
            device.learn_load(scene, load_ms);
        }
        if instance.frames == YOUNG_FRAMES {
            instance.young_mib = instance.now.ram_mib;
        }
        let end = MeasuredEnd::Rendered {
            frame_ms: millis as u32,
            beside: beside.round().clamp(1.0, 1000.0) as u16,
        };
        let task = assignment.task;
        let measurement =
            Measurement { lease, task, device: at, kept, pixels: frame.pixels, peak, load_ms, end };
        self.tell(FromAgent::Measured(measurement));
        self.reserve_anew(id, &assignment, peak);
        // The first frame of an instance, and the first that keeps its data, take longer than those
        // that follow.
        if !is_disturbed && !is_first_this_way {
            self.search_on(at, &assignment, millis as f64, beside);
        }
    }

    /// Sets aside what is expected of an instance that was measured: surely what it took and the
    /// margin on top, and what others like it needed as far as that is free.
    fn reserve_anew(&mut self, id: InstanceId, assignment: &Assignment, peak: Memory) {
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

    fn search_on(&mut self, at: u16, assignment: &Assignment, millis: f64, beside: f64) {
        let Some(scene) = assignment.manifest else { return };
        let Some(device) = self.devices.get_mut(usize::from(at)) else { return };
        let mut tuner = device.tuner().clone();
        let text = tuner.frame(scene, millis, beside, |count| self.room(at, assignment, count));
        *self.devices[usize::from(at)].tuner() = tuner;
        if let Some(text) = text {
            self.decide(at, text);
        }
    }

    /// Whether so many instances of the assignment's scene could run, keeping nothing.
    fn room(&self, at: u16, assignment: &Assignment, count: u16) -> Room {
        let Some(device) = self.devices.get(usize::from(at)) else { return Room::NoMemory };
        let Some(scene) = assignment.manifest else { return Room::NoWork };
        let expected = device.expects(scene, &assignment.expected);
        let Some(plain) = expected.plain else { return Room::NoMemory };
        let live: Vec<&Instance> =
            self.instances_on(at).map(|(_, one)| one).filter(|one| !one.is_stopping()).collect();
        let extra = usize::from(count).saturating_sub(live.len()) as u64;
        let free = self.free(at);
        // What those get back that keep data only because there was room.
        let spare = |part: fn(Memory) -> u32| -> u64 {
            live.iter()
                .filter(|one| one.kept && !one.pinned)
                .map(|one| u64::from(part(one.reserved).saturating_sub(part(plain))))
                .sum()
        };
        let fits =
            |free: u32, spare: u64, each: u32| u64::from(free) + spare >= u64::from(each) * extra;
        let has_memory = fits(free.device_mib, spare(|m| m.device_mib), plain.device_mib)
            && fits(free.ram_mib, spare(|m| m.ram_mib), plain.ram_mib);
        if !has_memory {
            return Room::NoMemory;
        }
        let waiting = self.waiting_for(at, scene) as u64;
        let left = waiting + u64::from(assignment.more);
        let left_ms =
            left * u64::from(expected.frame_ms.unwrap_or(0)) / u64::from(device.count().max(1));
        let load_ms = u64::from(expected.load_ms.unwrap_or(0));
        let is_worth_it = left >= u64::from(count) && left_ms >= LOADS_WORTH * load_ms;
        if extra == 0 || is_worth_it { Room::Free } else { Room::NoWork }
    }

    fn waiting_for(&self, at: u16, scene: BlobHash) -> usize {
        self.attempts
            .values()
            .filter(|attempt| !attempt.has_begun() && attempt.assignment.device == at)
            .filter(|attempt| attempt.assignment.manifest == Some(scene))
            .count()
    }

    /// Where instances need more than others leave: those that keep data stop it with their next
    /// frame, then the idle go, then the youngest. One stays, for what it has is its own.
    fn give_way(&mut self, at: u16) {
        let Some(device) = self.devices.get(usize::from(at)) else { return };
        let live: Vec<(InstanceId, Instance)> = self
            .instances_on(at)
            .filter(|(_, one)| !one.is_stopping())
            .map(|(id, one)| (id, one.clone()))
            .collect();
        let taken: u64 = live.iter().map(|(_, one)| u64::from(one.takes().device_mib)).sum();
        let capacity = device.capacity_mib();
        let used: u64 = live.iter().map(|(_, one)| u64::from(one.now.device_mib)).sum();
        let is_short = taken > capacity && (device.others_mib() > 0 || used > capacity);
        let now = self.now;
        let Some(device) = self.devices.get_mut(usize::from(at)) else { return };
        if !is_short {
            device.short_since = None;
            return;
        }
        let since = *device.short_since.get_or_insert(now);
        let idle = live.iter().filter(|(_, one)| matches!(one.activity, Activity::Idle { .. }));
        let oldest_idle = idle.map(|(id, _)| *id).next();
        let words = if device.others_mib() > 0 {
            format!("others use {} MiB of it", device.others_mib())
        } else {
            format!("its instances take {used} MiB, more than was expected")
        };
        if let Some(id) = oldest_idle {
            self.decide(at, format!("{words}: an idle instance gives way"));
            return self.quit(id);
        }
        let keeps = live.iter().any(|(_, one)| one.kept && !one.pinned);
        let patience = if keeps { 4 * SHORT_MS } else { SHORT_MS };
        if live.len() < 2 || now.since(since) < patience {
            return;
        }
        let Some((id, youngest)) = live.last() else { return };
        self.decide(at, format!("{words}: the youngest instance gives way"));
        if let Some(device) = self.devices.get_mut(usize::from(at)) {
            device.short_since = Some(now);
            let fewer = device.tuner().no_more_than(live.len() as u16 - 1);
            if let Some(text) = fewer {
                self.decide(at, text);
            }
        }
        if let Some(lease) = youngest.activity.lease() {
            // It has lost nothing but time: another instance begins it anew.
            self.set_stage(lease, Stage::Queued);
        }
        self.kill(*id);
    }

    /// A number of instances that waits for memory in vain is lowered to what there is.
    fn give_up_what_has_no_memory(&mut self, at: u16) {
        let live = self.instances_on(at).filter(|(_, one)| !one.is_stopping()).count();
        let waits = self.attempts.values().any(|attempt| {
            attempt.assignment.device == at && attempt.waits_for_memory_since.is_some()
        });
        let now = self.now;
        let Some(device) = self.devices.get_mut(usize::from(at)) else { return };
        if !waits || live == 0 || live >= usize::from(device.count()) {
            device.lacking_since = None;
            return;
        }
        let since = *device.lacking_since.get_or_insert(now);
        if now.since(since) >= LACKING_MS
            && let Some(text) = device.tuner().no_more_than(live as u16)
        {
            self.decide(at, text);
        }
    }

    /// Gives back what could not start here even if nothing of ours ran: at once where nothing
    /// renders any more, else when others have had time to make room.
    fn give_back_the_hopeless(&mut self) {
        let hopeless: Vec<LeaseId> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| {
                let since = attempt.waits_for_memory_since;
                let device = self.devices.get(usize::from(attempt.assignment.device));
                since.zip(device).is_some_and(|(since, device)| {
                    device.problem.is_some()
                        || (self.now.since(since) >= HOPELESS_MS
                            && !self.could_ever_start(attempt, device))
                })
            })
            .map(|(lease, _)| *lease)
            .collect();
        if !hopeless.is_empty() {
            for lease in &hopeless {
                self.forget_lessons_for(*lease);
                self.forget(*lease);
            }
            self.tell(FromAgent::Returned(hopeless));
        }
    }

    /// If it comes here again, it is because the coordinator knows better.
    fn forget_lessons_for(&mut self, lease: LeaseId) {
        let Some(attempt) = self.attempts.get(&lease) else { return };
        let at = usize::from(attempt.assignment.device);
        if let (Some(scene), Some(device)) = (attempt.assignment.manifest, self.devices.get_mut(at))
        {
            device.forget(scene);
        }
    }

    fn could_ever_start(&self, attempt: &Attempt, device: &Device) -> bool {
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

    /// Whether an idle instance has served its time: it rendered many frames, or has grown.
    pub(super) fn is_worn_out(&self, instance: &Instance) -> bool {
        let (young, now) = (instance.young_mib, instance.now.ram_mib);
        let has_grown = young > 0
            && !instance.kept
            && now > young.saturating_add(GROWTH_MIB)
            && now / GROWTH_PERCENT > young / 100;
        instance.frames >= self.patience.frames_per_instance || has_grown
    }

    /// Cores and threads for the next frame of an instance, so that all of them together use the
    /// host once. `None` on a device that computes by itself.
    pub(super) fn share_of_cores(&self, id: InstanceId) -> Option<Vec<u16>> {
        let instance = self.instances.get(&id)?;
        let device = self.devices.get(usize::from(instance.device))?;
        if device.cores == 0 {
            return None;
        }
        let live: Vec<InstanceId> = self
            .instances_on(instance.device)
            .filter(|(_, one)| !one.is_stopping())
            .map(|(id, _)| id)
            .collect();
        let parts = u32::from(device.count().max(1)).max(live.len() as u32);
        let place = live.iter().position(|other| *other == id).unwrap_or(0) as u32;
        let cores = u32::from(device.cores);
        let (from, to) = (place * cores / parts, (place + 1) * cores / parts);
        // With more instances than cores some share one.
        Some((from..to.max(from + 1)).map(|core| (core % cores) as u16).collect())
    }

    /// Counts how many instances have been busy since the last event.
    pub(super) fn advance_clocks(&mut self, millis: u64) {
        for instance in self.instances.values() {
            let Some(device) = self.devices.get_mut(usize::from(instance.device)) else { continue };
            match instance.activity {
                Activity::Rendering { .. } => device.clock.rendering += millis,
                Activity::Starting { .. } | Activity::Opening { .. } => {
                    device.clock.loading += millis;
                }
                _ => {}
            }
        }
    }

    /// Goes on with the search that belongs to the scenes that each device renders now.
    pub(super) fn follow_scenes(&mut self) {
        for at in 0..self.devices.len() {
            let scenes: BTreeSet<BlobHash> = self
                .instances_on(at as u16)
                .filter(|(_, one)| !one.is_stopping())
                .map(|(_, one)| one.manifest)
                .collect();
            self.devices[at].renders(scenes);
        }
    }

    /// Instances beyond what a device runs now leave as soon as they are idle.
    pub(super) fn retire_the_surplus(&mut self) {
        for at in 0..self.devices.len() {
            let live: Vec<InstanceId> = self
                .instances_on(at as u16)
                .filter(|(_, one)| !one.is_stopping())
                .map(|(id, _)| id)
                .collect();
            let surplus = live.len().saturating_sub(usize::from(self.devices[at].count()));
            let idle = |id: &InstanceId| {
                self.instances
                    .get(id)
                    .is_some_and(|one| matches!(one.activity, Activity::Idle { .. }))
            };
            let leaving: Vec<InstanceId> =
                live.into_iter().rev().filter(idle).take(surplus).collect();
            for id in leaving {
                self.quit(id);
            }
        }
    }

    pub(super) fn device_states(&self) -> Vec<DeviceState> {
        (0..self.devices.len() as u16).map(|at| self.device_state(at)).collect()
    }

    fn device_state(&self, at: u16) -> DeviceState {
        let device = &self.devices[usize::from(at)];
        let reading = device.reading();
        let reserved = self.instances_on(at).map(|(_, one)| u64::from(one.reserved.device_mib));
        let (instances, reserved_mib) = (self.instances_on(at).count() as u16, reserved.sum());
        let ours = |pid: u32| self.instances.values().any(|instance| instance.pid == Some(pid));
        let mut processes: Vec<ProcessUse> = reading
            .processes
            .iter()
            .map(|(pid, mib)| ProcessUse { pid: *pid, mib: *mib, ours: ours(*pid) })
            .collect();
        if device.kind == DeviceKind::Cpu {
            let of_ours = self.instances_on(at).filter_map(|(_, one)| {
                Some(ProcessUse { pid: one.pid?, mib: Some(one.now.ram_mib), ours: true })
            });
            processes.extend(of_ours);
        }
        processes.sort_by_key(|process| std::cmp::Reverse(process.mib));
        processes.truncate(DEVICE_PROCESSES_MAX);
        DeviceState {
            total_mib: device.total_mib(),
            used_mib: reading.used_mib,
            others_mib: device.others_mib(),
            reserved_mib,
            instances,
            slots: device.count(),
            utilisation_percent: reading.utilisation_percent,
            temperature_c: reading.temperature_c,
            power_w: reading.power_w,
            processes,
            problem: device.problem.clone(),
        }
    }

    pub(super) fn tell_devices(&mut self) {
        let states = self.device_states();
        for (device, state) in self.devices.iter_mut().zip(&states) {
            device.told = state.clone();
        }
        self.tell(FromAgent::Devices(states));
    }

    /// Tells at once what the coordinator places by.
    pub(super) fn tell_devices_if_they_changed(&mut self) {
        let changed = self.devices.iter().any(|device| {
            (device.told.slots, device.told.problem.is_some())
                != (device.count(), device.problem.is_some())
        });
        if changed {
            self.tell_devices();
        }
    }

    pub(super) fn decide(&mut self, device: u16, text: String) {
        let at = self.now;
        self.tell(FromAgent::Decided(Decision { device, at, text: text.clone() }));
        self.command(Command::Note { device, text });
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

/// What our instances take of a GPU's memory: as the driver says, or as they say themselves.
fn ours_on_gpu(reading: &Reading, instances: &[Instance]) -> u64 {
    instances
        .iter()
        .map(|instance| {
            let listed = reading.processes.iter().find(|(pid, _)| Some(*pid) == instance.pid);
            match listed {
                Some((_, Some(mib))) => u64::from(*mib),
                _ => u64::from(instance.now.device_mib),
            }
        })
        .sum()
}
