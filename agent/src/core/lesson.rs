//! An instance ran out of memory: what that says of its shot.
//!
//! It says that the shot needs more than the instance could get, which may be less than what was
//! set aside for it: somebody else may have taken the memory meanwhile. So the attempt fails only
//! after the device was looked at again, with the figure that is true.

use grange_protocol::agent::{Failure, FromAgent};
use grange_protocol::footprint::{MeasuredEnd, Measurement, Memory};
use grange_protocol::{BlobHash, LeaseId, Millis};

use super::Core;
use super::attempt::Stage;
use super::event::InstanceId;

/// A reading that came sooner may be from before the instance ran out.
const LOOK_AFTER_MS: u64 = 250;
/// If nobody looks at the device within this time, what was set aside must do.
const LOOK_WITHIN_MS: u64 = 4_000;

/// An attempt that ran out of memory, until it is known how much there was.
#[derive(Clone, Debug)]
pub(super) struct Lesson {
    lease: LeaseId,
    device: u16,
    scene: BlobHash,
    kept: bool,
    /// Set aside for it, or more if it took more.
    given: Memory,
    peak: Memory,
    /// Instances on the device, this one included.
    beside: u16,
    failure: Failure,
    since: Millis,
}

impl Core {
    pub(super) fn ran_out_of_memory(&mut self, id: InstanceId, lease: LeaseId, failure: Failure) {
        let Some(instance) = self.instances.get(&id) else { return };
        let on_it = self.live_on(instance.device);
        let lesson = Lesson {
            lease,
            device: instance.device,
            scene: instance.manifest,
            kept: instance.kept,
            given: instance.takes().max(instance.peak),
            peak: instance.peak,
            beside: on_it.count() as u16,
            failure,
            since: self.now,
        };
        self.set_stage(lease, Stage::Judging);
        self.lessons.push(lesson);
    }

    /// The devices were read: it is known now what there was.
    pub(super) fn judge_lessons(&mut self) {
        self.judge_those_older_than(LOOK_AFTER_MS);
    }

    /// Nobody looks at the devices.
    pub(super) fn judge_lessons_that_wait(&mut self) {
        self.judge_those_older_than(LOOK_WITHIN_MS);
    }

    pub(super) fn next_lesson(&self) -> Option<Millis> {
        self.lessons.first().map(|lesson| lesson.since + LOOK_WITHIN_MS)
    }

    fn judge_those_older_than(&mut self, millis: u64) {
        let now = self.now;
        let (due, rest): (Vec<Lesson>, Vec<Lesson>) = std::mem::take(&mut self.lessons)
            .into_iter()
            .partition(|lesson| now.since(lesson.since) >= millis);
        self.lessons = rest;
        for lesson in due {
            self.judge(lesson);
        }
    }

    fn judge(&mut self, lesson: Lesson) {
        let Lesson { lease, device: at, scene, kept, given, peak, beside, failure, .. } = lesson;
        let had = self.could_have(at, given).max(peak);
        let task = self.attempts.get(&lease).map(|attempt| attempt.assignment.task);
        if let Some(task) = task {
            let end = MeasuredEnd::OutOfMemory { reserved: had };
            let (pixels, load_ms) = (0, None);
            let measurement =
                Measurement { lease, task, device: at, kept, pixels, peak, load_ms, end };
            self.tell(FromAgent::Measured(measurement));
        }
        if let Some(device) = self.devices.get_mut(usize::from(at)) {
            device.learn_that_it_ran_out(scene, kept, had);
            let fewer = if beside > 1 { device.tuner().ran_out(beside) } else { None };
            self.decide(at, format!("an instance ran out of memory with {} MiB", had.device_mib));
            if let Some(text) = fewer {
                self.decide(at, text);
            }
        }
        self.fail(lease, failure);
    }

    /// What of the memory that was set aside was there, beside what others and other instances use.
    fn could_have(&self, at: u16, given: Memory) -> Memory {
        let Some(device) = self.devices.get(usize::from(at)) else { return given };
        let used = self.live_on(at).map(|(_, one)| u64::from(one.now.device_mib)).sum();
        let there_mib = device.capacity_mib().saturating_sub(used);
        let device_mib = given.device_mib.min(u32::try_from(there_mib).unwrap_or(u32::MAX));
        Memory { device_mib, ..given }
    }
}
