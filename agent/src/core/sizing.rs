//! As many instances as help: what each frame took, what follows for their number, who has which
//! cores, and who has served its time.

use std::collections::BTreeSet;

use grange_protocol::agent::{Assignment, DeviceKind, FromAgent};
use grange_protocol::footprint::{MeasuredEnd, Measurement, Memory};
use grange_protocol::{BlobHash, LeaseId};

use super::Core;
use super::event::{Frame, InstanceId};
use super::instance::{Activity, Instance};
use super::tuning::Room;
use crate::gpu::{Read, Reading};

/// What a CUDA context takes besides what Cycles says of itself; only where the driver does not say
/// what the process takes. MiB.
const CONTEXT_MIB: u32 = 300;
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
        let live: Vec<&Instance> = self.live_on(at).map(|(_, one)| one).collect();
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

    pub(super) fn waiting_for(&self, at: u16, scene: BlobHash) -> usize {
        self.attempts
            .values()
            .filter(|attempt| !attempt.has_begun() && attempt.assignment.device == at)
            .filter(|attempt| attempt.assignment.manifest == Some(scene))
            .count()
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
        let live: Vec<InstanceId> = self.live_on(instance.device).map(|(id, _)| id).collect();
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
            let scenes: BTreeSet<BlobHash> =
                self.live_on(at as u16).map(|(_, one)| one.manifest).collect();
            self.devices[at].renders(scenes);
        }
    }

    /// Instances beyond what a device runs now leave as soon as they are idle.
    pub(super) fn retire_the_surplus(&mut self) {
        for at in 0..self.devices.len() {
            let live: Vec<InstanceId> = self.live_on(at as u16).map(|(id, _)| id).collect();
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
