//! From assignments to instances that render.

use std::collections::BTreeSet;

use grange_protocol::agent::{Assignment, Failure, FailureKind, FromAgent};
use grange_protocol::footprint::Memory;
use grange_protocol::job::RenderSettings;
use grange_protocol::{BlobHash, LeaseId};

use super::attempt::{Attempt, Stage};
use super::device::{Clock, Suspicion};
use super::event::{InstanceId, RenderOrder, Start};
use super::instance::{Activity, Instance, LastSign};
use super::memory::Grant;
use super::sizing::LONG_FRAME_MS;
use super::{Command, Core, SceneState};

impl Core {
    pub(super) fn assigned(&mut self, assignment: Assignment) {
        let lease = assignment.lease;
        if self.attempts.contains_key(&lease) {
            return;
        }
        if self.draining {
            return self.tell(FromAgent::Returned(vec![lease]));
        }
        let attempt = Attempt::new(assignment, Stage::Queued);
        let renders = attempt.render().is_some();
        let manifest = attempt.assignment.manifest;
        self.attempts.insert(lease, attempt);
        self.order.push(lease);
        if !renders {
            self.set_stage(lease, Stage::Working);
            if let Some(attempt) = self.attempts.get_mut(&lease) {
                attempt.began = Some(self.now);
                let assignment = Box::new(attempt.assignment.clone());
                self.command(Command::Work(assignment));
            }
            return;
        }
        match manifest {
            None => {
                let failure =
                    Failure::new(FailureKind::Scene, "the task renders, but names no files");
                self.fail(lease, failure);
            }
            Some(manifest) => match self.scenes.get(&manifest) {
                Some(SceneState::Ready) => {}
                Some(SceneState::Preparing) => self.set_stage(lease, Stage::Fetching),
                None => {
                    self.scenes.insert(manifest, SceneState::Preparing);
                    self.set_stage(lease, Stage::Fetching);
                    self.command(Command::PrepareScene(manifest));
                }
            },
        }
    }

    pub(super) fn scene_ready(&mut self, manifest: BlobHash) {
        if let Some(scene) = self.scenes.get_mut(&manifest) {
            *scene = SceneState::Ready;
        }
        for lease in self.fetching(manifest) {
            self.set_stage(lease, Stage::Queued);
        }
    }

    pub(super) fn scene_failed(&mut self, manifest: BlobHash, failure: &Failure) {
        for lease in self.fetching(manifest) {
            self.fail(lease, failure.clone());
        }
        // The next assignment tries again.
        self.scenes.remove(&manifest);
    }

    fn fetching(&self, manifest: BlobHash) -> Vec<LeaseId> {
        self.order
            .iter()
            .copied()
            .filter(|lease| {
                self.attempts.get(lease).is_some_and(|attempt| {
                    matches!(attempt.stage, Stage::Fetching)
                        && attempt.assignment.manifest == Some(manifest)
                })
            })
            .collect()
    }

    /// Gives every queued attempt an instance, as far as there are any.
    pub(super) fn place_all(&mut self) {
        let mut queued: Vec<LeaseId> = self
            .order
            .iter()
            .copied()
            .filter(|lease| {
                self.attempts
                    .get(lease)
                    .is_some_and(|attempt| matches!(attempt.stage, Stage::Queued))
            })
            .collect();
        // People wait for their sessions.
        queued.sort_by_key(|lease| !self.serves_a_session(Some(*lease)));
        let mut kept_free: BTreeSet<u16> = BTreeSet::new();
        for lease in queued {
            let Some(attempt) = self.attempts.get(&lease) else { continue };
            let device = attempt.assignment.device;
            if kept_free.contains(&device) {
                continue;
            }
            let is_starving = self.is_starving(attempt);
            if !self.place(lease) && is_starving {
                // What has waited for memory for so long is not overtaken any more.
                kept_free.insert(device);
                if let Some(idle) = self.instance_to_replace(device) {
                    self.quit(idle);
                }
            }
        }
    }

    /// Whether it has an instance now.
    fn place(&mut self, lease: LeaseId) -> bool {
        let now = self.now;
        let Some(device) = self.attempts.get(&lease).map(|attempt| attempt.assignment.device)
        else {
            return false;
        };
        let is_lost =
            self.devices.get(usize::from(device)).is_none_or(|device| device.problem.is_some());
        if is_lost && let Some(attempt) = self.attempts.get_mut(&lease) {
            attempt.waits_for_memory_since.get_or_insert(now);
            return false;
        }
        let suspicion =
            self.devices.get(usize::from(device)).map_or(Suspicion::Lost, |one| one.suspicion);
        if suspicion == Suspicion::Lost || self.is_busy(device) {
            return false;
        }
        let Some(attempt) = self.attempts.get(&lease) else { return false };
        if let Some(warm) = self.idle_instance_for(attempt) {
            self.begin(warm, lease);
            return true;
        }
        if suspicion == Suspicion::Full {
            return false;
        }
        let has_slot = self.has_free_slot(device);
        let grant = if has_slot { self.grant(attempt) } else { None };
        if let Some(grant) = grant {
            self.start_instance(lease, grant);
            return true;
        }
        if has_slot && let Some(attempt) = self.attempts.get_mut(&lease) {
            attempt.waits_for_memory_since.get_or_insert(now);
        }
        let unused = if self.serves_a_session(Some(lease)) {
            self.idle_instance_on(device)
        } else {
            self.instance_to_replace(device)
        };
        if let Some(unused) = unused {
            // It goes; its slot and its memory are free when its process is gone.
            self.quit(unused);
        }
        false
    }

    /// Whether as many instances work as the device runs now.
    fn is_busy(&self, device: u16) -> bool {
        let at_work = |instance: &Instance| {
            !matches!(instance.activity, Activity::Idle { .. } | Activity::Stopping { .. })
        };
        let working = self.instances_on(device).filter(|(_, one)| at_work(one)).count();
        let count = self.devices.get(usize::from(device)).map_or(0, |device| device.count());
        working >= usize::from(count)
    }

    /// An idle instance with the attempt's scene.
    fn idle_instance_for(&self, attempt: &Attempt) -> Option<InstanceId> {
        let serves = |instance: &Instance| {
            matches!(instance.activity, Activity::Idle { .. }) && self.is_for(instance, attempt)
        };
        self.instances.iter().find(|(_, instance)| serves(instance)).map(|(id, _)| *id)
    }

    /// Whether the instance has, or will have, the attempt's scene open.
    fn is_for(&self, instance: &Instance, attempt: &Attempt) -> bool {
        let assignment = &attempt.assignment;
        attempt.render().is_some_and(|(render, _)| {
            instance.device == assignment.device
                && Some(instance.manifest) == assignment.manifest
                && instance.submitter == assignment.submitter
                && instance.needs == render.needs
        })
    }

    fn has_free_slot(&self, device: u16) -> bool {
        let used = self.instances_on(device).count();
        let count = self.devices.get(usize::from(device)).map_or(0, |device| device.count());
        used < usize::from(count)
    }

    /// The instance that has been idle for the longest time and whose scene nobody waits for.
    fn instance_to_replace(&self, device: u16) -> Option<InstanceId> {
        let awaited = |instance: &Instance| {
            self.attempts.values().any(|attempt| {
                matches!(attempt.stage, Stage::Queued | Stage::Fetching)
                    && self.is_for(instance, attempt)
            })
        };
        let on_device = || self.instances.iter().filter(|(_, instance)| instance.device == device);
        if on_device().any(|(_, instance)| matches!(instance.activity, Activity::Stopping { .. })) {
            // One is on its way out already.
            return None;
        }
        on_device()
            .filter(|(_, instance)| !awaited(instance))
            .filter_map(|(id, instance)| match instance.activity {
                Activity::Idle { since } => Some((since, *id)),
                _ => None,
            })
            .min()
            .map(|(_, id)| id)
    }

    fn start_instance(&mut self, lease: LeaseId, grant: Grant) {
        let Some(attempt) = self.attempts.get(&lease) else { return };
        let (Some((render, _)), Some(manifest)) = (attempt.render(), attempt.assignment.manifest)
        else {
            return;
        };
        self.last_instance += 1;
        let id = InstanceId(self.last_instance);
        let instance = Instance {
            device: attempt.assignment.device,
            manifest,
            needs: render.needs.clone(),
            submitter: attempt.assignment.submitter.clone(),
            activity: Activity::Starting { lease, since: self.now },
            pid: None,
            blender: String::new(),
            reserved: grant.memory,
            now: Memory::default(),
            peak: Memory::default(),
            driver_says: false,
            kept: grant.kept,
            pinned: render.settings.persistent_data.is_some(),
            load_ms: None,
            frames: 0,
            frames_this_way: 0,
            young_mib: 0,
            frame_began: self.now,
            clock: Clock::default(),
        };
        let start = Start {
            instance: id,
            device: instance.device,
            manifest,
            needs: instance.needs.clone(),
            cores: None,
        };
        self.instances.insert(id, instance);
        let start = Start { cores: self.share_of_cores(id), ..start };
        self.command(Command::StartInstance(Box::new(start)));
        let now = self.now;
        if let Some(attempt) = self.attempts.get_mut(&lease) {
            attempt.began.get_or_insert(now);
            attempt.waits_for_memory_since = None;
        }
        self.set_stage(lease, Stage::Loading { instance: id, since: now });
    }

    pub(super) fn instance_up(&mut self, id: InstanceId, pid: Option<u32>, blender: String) {
        let now = self.now;
        let Some(instance) = self.instances.get_mut(&id) else { return };
        (instance.pid, instance.blender) = (pid, blender);
        let Activity::Starting { lease, .. } = instance.activity else { return };
        let Some(attempt) = self.attempts.get(&lease) else { return };
        let Some((render, _)) = attempt.render() else { return };
        let (manifest, blend) = (instance.manifest, render.blend.clone());
        let allow_missing = render.settings.allow_missing;
        let stall_ms = u64::from(attempt.assignment.stall_s) * 1000;
        instance.activity = Activity::Opening { lease, sign: LastSign { at: now, stall_ms } };
        self.command(Command::OpenScene { instance: id, manifest, blend, allow_missing });
    }

    pub(super) fn opened(&mut self, id: InstanceId, warnings: &[String]) {
        let now = self.now;
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Activity::Opening { lease, .. } = instance.activity else { return };
        instance.load_ms = Some(now.since(instance.frame_began) as u32);
        if let Some(attempt) = self.attempts.get_mut(&lease) {
            if let Stage::Loading { since, .. } = attempt.stage {
                attempt.load_ms = self.now.since(since) as u32;
            }
            for warning in warnings {
                attempt.append_log(&format!("warning: {warning}\n"));
            }
        }
        self.begin(id, lease);
    }

    /// The instance has the attempt's scene open.
    fn begin(&mut self, id: InstanceId, lease: LeaseId) {
        if self.serves_a_session(Some(lease)) {
            self.begin_session(id, lease);
        } else {
            self.begin_render(id, lease);
        }
    }

    /// Has an instance render the attempt's next frame.
    pub(super) fn begin_render(&mut self, id: InstanceId, lease: LeaseId) {
        let Some(attempt) = self.attempts.get(&lease) else { return };
        let (Some(frame), Some((_, shot))) = (attempt.next_frame(), attempt.render()) else {
            return;
        };
        let shot = shot.clone();
        let Some(settings) = self.settle_settings(id, lease) else { return };
        let cores = self.share_of_cores(id);
        self.begin_order(RenderOrder {
            instance: id,
            lease,
            frame,
            shot,
            settings,
            session: None,
            cores,
        });
    }

    pub(super) fn begin_order(&mut self, order: RenderOrder) {
        let (now, id, lease) = (self.now, order.instance, order.lease);
        let Some(attempt) = self.attempts.get_mut(&lease) else { return };
        let stall_ms = u64::from(attempt.assignment.stall_s) * 1000;
        attempt.began.get_or_insert(now);
        (attempt.fraction, attempt.sample, attempt.samples) = (0.0, 0, 0);
        if let Some(instance) = self.instances.get_mut(&id) {
            attempt.memory_mib = instance.now.ram_mib;
            attempt.peak_mib = attempt.peak_mib.max(instance.now.ram_mib);
            attempt.waits_for_memory_since = None;
            (instance.peak, instance.frame_began) = (instance.now, now);
            if let Some(device) = self.devices.get(usize::from(instance.device)) {
                instance.clock = device.clock;
            }
            instance.activity = Activity::Rendering { lease, sign: LastSign { at: now, stall_ms } };
        }
        self.command(Command::Render(Box::new(order)));
        self.set_stage(lease, Stage::Rendering { instance: id });
    }

    /// How an instance renders an attempt's next frame: what its job leaves open is decided by what
    /// is known of the scene and by the memory that is there.
    pub(super) fn settle_settings(
        &mut self,
        id: InstanceId,
        lease: LeaseId,
    ) -> Option<RenderSettings> {
        let attempt = self.attempts.get(&lease)?;
        let (render, _) = attempt.render()?;
        let mut settings = render.settings.clone();
        let assignment = attempt.assignment.clone();
        let room_to_keep = self.may_keep(id, &assignment);
        let kept = settings.persistent_data.unwrap_or(room_to_keep.is_some());
        let instance = self.instances.get_mut(&id)?;
        instance.pinned = settings.persistent_data.is_some();
        if instance.kept != kept {
            (instance.kept, instance.frames_this_way) = (kept, 0);
            if let Some(memory) = self.expected_of(id, &assignment) {
                self.instances.get_mut(&id)?.reserved = memory;
            }
        }
        settings.persistent_data = Some(kept);
        let device = self.devices.get(usize::from(assignment.device))?;
        let expected = device.expects(assignment.manifest?, &assignment.expected);
        let is_long = expected.frame_ms.is_some_and(|millis| millis >= LONG_FRAME_MS);
        settings.tiles = settings.tiles.or(is_long.then_some(true));
        Some(settings)
    }

    pub(super) fn set_stage(&mut self, lease: LeaseId, stage: Stage) {
        if let Some(attempt) = self.attempts.get_mut(&lease) {
            attempt.stage = stage;
        }
        self.tell_progress(lease, true);
    }

    /// Tells the coordinator where the attempt is; not too often, unless it is news.
    pub(super) fn tell_progress(&mut self, lease: LeaseId, news: bool) {
        let (now, pause) = (self.now, self.patience.progress_ms);
        let Some(attempt) = self.attempts.get_mut(&lease) else { return };
        // Work without an instance is over before anybody could look at it.
        let quiet = attempt.has_ended() || matches!(attempt.stage, Stage::Working);
        let soon = attempt.told.is_some_and(|told| now.since(told) < pause);
        if quiet || (soon && !news) {
            return;
        }
        attempt.told = Some(now);
        let progress = attempt.progress(now);
        self.tell(FromAgent::Progress(progress));
    }
}
