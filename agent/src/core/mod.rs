//! The agent's pure core: Assign → Fetch → Ensure instance → Render → Upload.
//!
//! The same shape as the scheduler: [`Core::handle`] takes an event, [`Core::next_command`] says
//! what to do, [`Core::next_deadline`] when to call again. No clock, no IO, no processes: the shell
//! ([`crate::shell`]) does what it is told and says what happened.

mod attempt;
pub(crate) mod device;
mod ending;
mod event;
mod giving_way;
mod instance;
mod lesson;
mod memory;
mod placing;
mod session;
mod sizing;
mod storage;
mod telling;
#[cfg(test)]
mod tests;
mod tuning;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use grange_protocol::agent::{FromAgent, Holding};
use grange_protocol::{BlobHash, LeaseId, Millis};

use attempt::Attempt;
use device::{Device, Setup};
pub(crate) use event::{
    Command, Event, Frame, InstanceId, RenderOrder, RenderedFile, Reply, Said, Sign, Start,
};
#[cfg(test)]
use instance::Activity;
use instance::Instance;
use lesson::Lesson;
pub(crate) use session::{Wanted, What};
pub(crate) use storage::Space;
use storage::Storage;

/// How long the core waits for what. Milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// A Blender that says nothing for so long after it was started is given up.
    pub(crate) start_ms: u64,
    /// A render that does not stop within this time after it was told to is killed.
    pub(crate) cancel_ms: u64,
    /// An instance without work for so long is let go.
    pub(crate) idle_ms: u64,
    /// Frames that an instance renders before another one takes its place.
    pub(crate) frames_per_instance: u32,
    /// Progress of an attempt is told at most so often.
    pub(crate) progress_ms: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            start_ms: 60_000,
            cancel_ms: 700,
            idle_ms: 120_000,
            frames_per_instance: 1_000,
            progress_ms: 200,
        }
    }
}

/// Everything that the agent is in the middle of.
#[derive(Debug)]
pub(crate) struct Core {
    patience: Patience,
    now: Millis,
    devices: Vec<Device>,
    storage: Storage,
    /// Attempts that ran out of memory, the oldest first.
    lessons: Vec<Lesson>,
    /// How often they were read.
    readings: u64,
    attempts: BTreeMap<LeaseId, Attempt>,
    /// Leases in the order in which they came.
    order: Vec<LeaseId>,
    instances: BTreeMap<InstanceId, Instance>,
    scenes: BTreeMap<BlobHash, SceneState>,
    last_instance: u32,
    draining: bool,
    commands: VecDeque<Command>,
}

/// Whether a scene's files are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SceneState {
    Preparing,
    Ready,
}

impl Core {
    pub(crate) fn new(devices: &[Setup], patience: Patience) -> Self {
        Self {
            patience,
            now: Millis(0),
            devices: devices.iter().map(Device::new).collect(),
            storage: Storage::default(),
            lessons: Vec::new(),
            readings: 0,
            attempts: BTreeMap::new(),
            order: Vec::new(),
            instances: BTreeMap::new(),
            scenes: BTreeMap::new(),
            last_instance: 0,
            draining: false,
            commands: VecDeque::new(),
        }
    }

    pub(crate) fn handle(&mut self, now: Millis, event: Event) {
        let before = self.now;
        self.now = before.max(now);
        if before.0 > 0 {
            self.advance_clocks(self.now.since(before));
        }
        match event {
            Event::Tick => {}
            Event::Welcomed { drop } => self.welcomed(&drop),
            Event::Assigned(assignment) => self.assigned(*assignment),
            Event::Revoked(lease) => self.revoked(lease),
            Event::Recalled(lease) => self.recalled(lease),
            Event::Settled(lease) => self.settled(lease),
            Event::Drain => self.drain(),
            Event::Abandon => self.abandon(),
            Event::SceneReady(manifest) => self.scene_ready(manifest),
            Event::SceneFailed(manifest, failure) => self.scene_failed(manifest, &failure),
            Event::InstanceUp { instance, pid, blender } => {
                self.instance_up(instance, pid, blender);
            }
            Event::DevicesRead(readings) => self.devices_read(readings),
            Event::SpacesRead(spaces) => self.spaces_read(spaces),
            Event::Opened { instance, warnings } => self.opened(instance, &warnings),
            Event::Sign { instance, sign } => self.sign(instance, sign),
            Event::Rendered { instance, frame } => self.rendered(instance, *frame),
            Event::RenderFailed { instance, failure, log } => {
                self.render_failed(instance, failure, &log);
            }
            Event::RenderCanceled { instance, log } => self.render_canceled(instance, &log),
            Event::InstanceGone { instance, failure, log } => {
                self.instance_gone(instance, failure, &log);
            }
            Event::Called { lease, wanted } => self.called(lease, wanted),
            Event::SessionClosed(lease) => self.session_closed(lease),
            Event::Answered { instance, answer, log } => self.answered(instance, *answer, &log),
            Event::Stored { lease, reply, outputs } => self.stored(lease, reply, outputs),
            Event::NotStored { lease, call, failure } => self.not_stored(lease, call, failure),
            Event::WorkDone { lease, result, log } => self.work_done(lease, result, &log),
        }
        self.enforce_deadlines();
        self.judge_lessons_that_wait();
        self.count_sessions();
        self.place_all();
        self.follow_scenes();
        self.retire_the_surplus();
        self.tell_devices_if_they_changed();
        self.release_scenes();
    }

    pub(crate) fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`Core::handle`] with [`Event::Tick`] if nothing else happens before.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        let instances = self.instances.values().filter_map(|one| self.deadline_of(one));
        instances.chain(self.next_lesson()).min()
    }

    /// What the coordinator is told after a reconnection.
    pub(crate) fn holding(&self) -> Vec<Holding> {
        self.attempts
            .values()
            .map(|attempt| Holding {
                lease: attempt.assignment.lease,
                task: attempt.assignment.task,
                device: attempt.assignment.device,
            })
            .collect()
    }

    /// Processes that are alive.
    pub(crate) fn instance_count(&self) -> usize {
        self.instances.len()
    }

    /// Nothing is held any more and nothing new will be taken.
    pub(crate) fn is_drained(&self) -> bool {
        self.draining && self.attempts.is_empty()
    }

    fn command(&mut self, command: Command) {
        self.commands.push_back(command);
    }

    fn tell(&mut self, message: FromAgent) {
        self.command(Command::Tell(message));
    }

    /// Lets go of scenes that no attempt and no instance uses.
    fn release_scenes(&mut self) {
        let used: BTreeSet<BlobHash> = self
            .attempts
            .values()
            .filter(|attempt| !attempt.has_ended())
            .filter_map(|attempt| attempt.assignment.manifest)
            .chain(self.instances.values().map(|instance| instance.manifest))
            .collect();
        let unused: Vec<BlobHash> =
            self.scenes.keys().copied().filter(|manifest| !used.contains(manifest)).collect();
        for manifest in unused {
            self.scenes.remove(&manifest);
            self.command(Command::ReleaseScene(manifest));
        }
    }

    #[cfg(test)]
    pub(crate) fn check_invariants(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (id, instance) in &self.instances {
            if let Some(lease) = instance.activity.lease() {
                let good = self
                    .attempts
                    .get(&lease)
                    .is_some_and(|attempt| attempt.instance() == Some(*id));
                if !good && !matches!(instance.activity, Activity::Stopping { .. }) {
                    problems
                        .push(format!("instance {id:?} works for {lease}, which does not know it"));
                }
            }
        }
        for (lease, attempt) in &self.attempts {
            if let Some(instance) = attempt.instance() {
                let known =
                    self.instances.get(&instance).and_then(|instance| instance.activity.lease());
                if known != Some(*lease) {
                    problems
                        .push(format!("{lease} counts on {instance:?}, which does something else"));
                }
            }
            if !self.order.contains(lease) {
                problems.push(format!("{lease} has no place in the order"));
            }
        }
        for (at, device) in self.devices.iter().enumerate() {
            let on_it = || self.instances_on(at as u16).map(|(_, instance)| instance);
            let running = self.live_on(at as u16).count();
            if device.is_fixed() && running > usize::from(device.count()) {
                problems.push(format!("device {at} runs {running} instances, too many"));
            }
            let reserved: u64 = on_it().map(|one| u64::from(one.reserved.device_mib)).sum();
            if reserved > device.total_mib() && device.others_mib() == 0 {
                problems.push(format!("{reserved} MiB of device {at} are given away, too much"));
            }
        }
        problems
    }
}
