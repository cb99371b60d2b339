//! How attempts end: rendered and stored, failed, revoked, given back.

use grange_protocol::LeaseId;
use grange_protocol::agent::{AttemptEnded, Completed, Failure, FailureKind, FromAgent, Outcome};
use grange_protocol::file::Output;
use grange_protocol::session::CallNumber;

use super::attempt::{Attempt, Stage};
use super::device::Suspicion;
use super::event::{Frame, InstanceId, Said};
use super::instance::Activity;
use super::{Command, Core};

impl Core {
    /// The coordinator is there again. What it does not want is dropped, what it may have missed
    /// is said again.
    pub(super) fn welcomed(&mut self, drop: &[LeaseId]) {
        for lease in drop {
            self.stop(*lease);
            self.forget(*lease);
        }
        let ended: Vec<AttemptEnded> = self
            .attempts
            .values()
            .filter_map(|attempt| match &attempt.stage {
                Stage::Ended(ended) => Some((**ended).clone()),
                _ => None,
            })
            .collect();
        for ended in ended {
            self.tell(FromAgent::Ended(ended));
        }
        if self.draining {
            self.tell(FromAgent::Draining);
        }
        self.tell_devices();
    }

    pub(super) fn revoked(&mut self, lease: LeaseId) {
        self.stop(lease);
        self.end(lease, Outcome::Canceled);
    }

    pub(super) fn recalled(&mut self, lease: LeaseId) {
        if self.attempts.get(&lease).is_some_and(|attempt| !attempt.has_begun()) {
            self.forget(lease);
            self.tell(FromAgent::Returned(vec![lease]));
        }
    }

    pub(super) fn drain(&mut self) {
        self.draining = true;
        let untouched: Vec<LeaseId> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| !attempt.has_begun())
            .map(|(lease, _)| *lease)
            .collect();
        for lease in &untouched {
            self.forget(*lease);
        }
        self.tell(FromAgent::Draining);
        if !untouched.is_empty() {
            self.tell(FromAgent::Returned(untouched));
        }
    }

    /// Everything ends here and may begin anew elsewhere.
    pub(super) fn abandon(&mut self) {
        self.drain();
        let begun: Vec<LeaseId> = self.attempts.keys().copied().collect();
        for lease in begun {
            self.revoked(lease);
        }
    }

    /// Ends an attempt through nobody's fault.
    pub(super) fn begin_anew_elsewhere(&mut self, lease: LeaseId) {
        self.end(lease, Outcome::Canceled);
    }

    pub(super) fn settled(&mut self, lease: LeaseId) {
        if self.attempts.get(&lease).is_some_and(Attempt::has_ended) {
            self.forget(lease);
        }
    }

    pub(super) fn forget(&mut self, lease: LeaseId) {
        self.attempts.remove(&lease);
        self.order.retain(|other| *other != lease);
    }

    /// Stops whatever is under way for an attempt.
    fn stop(&mut self, lease: LeaseId) {
        let Some(attempt) = self.attempts.get(&lease) else { return };
        let (instance, working) = (attempt.instance(), matches!(attempt.stage, Stage::Working));
        if attempt.storing > 0 {
            self.command(Command::StopStoring(lease));
        }
        if working {
            self.command(Command::StopWork(lease));
        }
        let Some(id) = instance else { return };
        let is_session = self.serves_a_session(Some(lease));
        let Some(held) = self.instances.get_mut(&id) else { return };
        if !is_session && matches!(held.activity, Activity::Rendering { .. }) {
            held.activity = Activity::Canceling { since: self.now };
            self.command(Command::CancelRender(id));
        } else {
            self.kill(id);
        }
        if let Some(attempt) = self.attempts.get_mut(&lease) {
            attempt.stage = Stage::Storing;
        }
    }

    /// Fails an attempt whose instance shows no life, and ends the instance.
    pub(super) fn fail_on_kill(&mut self, id: InstanceId, lease: LeaseId, reason: &str) {
        self.kill(id);
        self.fail(lease, Failure::new(FailureKind::Stalled, reason));
    }

    pub(super) fn fail(&mut self, lease: LeaseId, failure: Failure) {
        let Some(attempt) = self.attempts.get(&lease) else { return };
        if attempt.has_ended() {
            return;
        }
        if attempt.storing > 0 {
            self.command(Command::StopStoring(lease));
        }
        // What was set in a session's Blender cannot begin anew.
        if failure.kind == FailureKind::Storage && !self.serves_a_session(Some(lease)) {
            return self.ran_out_of_storage(lease, &failure.reason);
        }
        self.end(lease, Outcome::Failed(failure));
    }

    /// Tells the coordinator, and keeps the end until it is settled.
    fn end(&mut self, lease: LeaseId, outcome: Outcome) {
        let Some(attempt) = self.attempts.get_mut(&lease) else { return };
        if attempt.has_ended() {
            return;
        }
        let ended = AttemptEnded {
            lease,
            task: attempt.assignment.task,
            outcome,
            log: std::mem::take(&mut attempt.log),
        };
        match &ended.outcome {
            Outcome::Completed(_) => {}
            Outcome::Failed(failure) => self.break_session(lease, &failure.reason),
            Outcome::Canceled => self.break_session(lease, "the session was canceled"),
        }
        let Some(attempt) = self.attempts.get_mut(&lease) else { return };
        attempt.stage = Stage::Ended(Box::new(ended.clone()));
        self.tell(FromAgent::Ended(ended));
    }

    pub(super) fn rendered(&mut self, id: InstanceId, frame: Frame) {
        let serving = self.instances.get(&id).and_then(|instance| instance.activity.lease());
        if let Some(lease) = serving.filter(|lease| self.serves_a_session(Some(*lease))) {
            self.frame_measured(id, lease, &frame);
            return self.session_rendered(id, frame);
        }
        let lease = self.finish_render(id);
        if let Some(lease) = lease {
            self.frame_measured(id, lease, &frame);
        }
        let Some((lease, attempt)) =
            lease.and_then(|lease| Some((lease, self.attempts.get_mut(&lease)?)))
        else {
            return self.command(Command::Discard(Box::new(frame)));
        };
        attempt.frames_rendered += 1;
        attempt.peak_mib = attempt.peak_mib.max(frame.peak_mib);
        attempt.fraction = 0.0;
        attempt.render_ms += frame.render_ms;
        for warning in &frame.warnings {
            attempt.append_log(&format!("warning: {warning}\n"));
        }
        attempt.append_log(&frame.log);
        attempt.storing += 1;
        let assignment = Box::new(attempt.assignment.clone());
        let more = attempt.next_frame().is_some();
        let is_worn_out = self.instances.get(&id).is_some_and(|one| self.is_worn_out(one));
        if is_worn_out {
            self.quit(id);
        }
        if more && is_worn_out {
            self.set_stage(lease, Stage::Queued);
        } else if more {
            self.begin_render(id, lease);
        } else {
            self.set_stage(lease, Stage::Storing);
        }
        self.command(Command::Store { lease, assignment, frame: Box::new(frame) });
    }

    pub(super) fn render_failed(&mut self, id: InstanceId, failure: Failure, log: &str) {
        if self.session_survives(id, &failure) {
            return self.session_render_failed(id, &failure);
        }
        let opening = matches!(
            self.instances.get(&id).map(|instance| &instance.activity),
            Some(Activity::Opening { .. })
        );
        let manifest = self.instances.get(&id).map(|instance| instance.manifest);
        let Some(lease) = self.finish_render(id) else { return };
        if let Some(attempt) = self.attempts.get_mut(&lease) {
            attempt.append_log(log);
        }
        let hopeless = opening && failure.kind == FailureKind::Scene;
        let ran_out = failure.kind == FailureKind::OutOfMemory;
        let host_failed = failure.kind == FailureKind::Host;
        self.fail_on(id, lease, failure.clone());
        if opening || ran_out || host_failed {
            self.quit(id);
        }
        if hopeless {
            // It would fail the same way for all that wait for the scene.
            let waiting: Vec<LeaseId> = self
                .attempts
                .iter()
                .filter(|(_, attempt)| {
                    !attempt.has_begun() && attempt.assignment.manifest == manifest
                })
                .map(|(lease, _)| *lease)
                .collect();
            for lease in waiting {
                self.fail(lease, failure.clone());
            }
        }
    }

    pub(super) fn render_canceled(&mut self, id: InstanceId, log: &str) {
        let canceled = Failure::new(FailureKind::Other, "the render was canceled on its host");
        if self.session_survives(id, &canceled) {
            return self.session_render_failed(id, &canceled);
        }
        if let Some(lease) = self.finish_render(id) {
            // Nobody asked for it: a person at the host, or a script in the scene.
            if let Some(attempt) = self.attempts.get_mut(&lease) {
                attempt.append_log(log);
            }
            self.fail(lease, canceled);
        }
    }

    /// The instance is idle again. Returns the attempt that it worked for, if that is still on.
    fn finish_render(&mut self, id: InstanceId) -> Option<LeaseId> {
        let instance = self.instances.get_mut(&id)?;
        let lease = instance.activity.lease();
        if !matches!(instance.activity, Activity::Stopping { .. }) {
            instance.activity = Activity::Idle { since: self.now };
        }
        lease
    }

    pub(super) fn instance_gone(&mut self, id: InstanceId, failure: Failure, log: &str) {
        let lease = self.instances.get(&id).and_then(|instance| instance.activity.lease());
        if let Some(lease) = lease {
            if let Some(attempt) = self.attempts.get_mut(&lease) {
                attempt.append_log(log);
            }
            self.fail_on(id, lease, failure);
        }
        self.instances.remove(&id);
    }

    /// Fails an attempt for what its instance did: at once, but for want of memory.
    fn fail_on(&mut self, id: InstanceId, lease: LeaseId, failure: Failure) {
        self.suspect_device_of(id, failure.kind);
        if failure.kind == FailureKind::OutOfMemory {
            self.ran_out_of_memory(id, lease, failure);
        } else {
            self.fail(lease, failure);
        }
    }

    /// A device that is lost fails whatever it is given within no time, and one that is full runs
    /// out again. So that this neither eats up the attempts of a whole job nor teaches that a shot
    /// needs ever more, one failure is enough until it is known how the device is doing.
    fn suspect_device_of(&mut self, id: InstanceId, failed: FailureKind) {
        let suspicion = match failed {
            FailureKind::Host => Suspicion::Lost,
            FailureKind::OutOfMemory => Suspicion::Full,
            _ => return,
        };
        let Some(instance) = self.instances.get(&id) else { return };
        if let Some(device) = self.devices.get_mut(usize::from(instance.device)) {
            device.suspicion = device.suspicion.max(suspicion);
        }
    }

    pub(super) fn stored(
        &mut self,
        lease: LeaseId,
        reply: Option<(CallNumber, Said)>,
        outputs: Vec<Output>,
    ) {
        let Some(attempt) = self.attempts.get_mut(&lease) else { return };
        attempt.storing = attempt.storing.saturating_sub(1);
        attempt.outputs += outputs.len() as u32;
        if let Some((call, said)) = reply {
            self.session_stored(lease, call, Ok((said, outputs)));
        }
        self.complete_if_all_is_stored(lease);
    }

    pub(super) fn complete_if_all_is_stored(&mut self, lease: LeaseId) {
        let now = self.now;
        let Some(attempt) = self.attempts.get_mut(&lease) else { return };
        if attempt.storing == 0 && matches!(attempt.stage, Stage::Storing) {
            let completed = Completed {
                outputs: attempt.outputs,
                total_ms: attempt.began.map_or(0, |began| now.since(began)) as u32,
                render_ms: attempt.render_ms,
                load_ms: attempt.load_ms,
                peak_mib: attempt.peak_mib,
            };
            self.end(lease, Outcome::Completed(completed));
        }
    }

    pub(super) fn not_stored(
        &mut self,
        lease: LeaseId,
        call: Option<CallNumber>,
        failure: Option<Failure>,
    ) {
        if let Some(attempt) = self.attempts.get_mut(&lease) {
            attempt.storing = attempt.storing.saturating_sub(1);
        }
        match (failure, call) {
            (Some(failure), Some(call)) => {
                self.session_stored(lease, call, Err(failure));
                self.complete_if_all_is_stored(lease);
            }
            // The coordinator has given the task to somebody else: a revocation is on its way.
            (None, _) => self.revoked(lease),
            (Some(failure), None) => {
                self.stop(lease);
                self.fail(lease, failure);
            }
        }
    }

    pub(super) fn work_done(&mut self, lease: LeaseId, result: Result<Frame, Failure>, log: &str) {
        let Some(attempt) = self.attempts.get_mut(&lease) else { return };
        if attempt.has_ended() {
            return;
        }
        attempt.append_log(log);
        match result {
            Err(failure) => self.fail(lease, failure),
            Ok(frame) if frame.files.is_empty() => {
                attempt.stage = Stage::Storing;
                attempt.storing = 1;
                self.stored(lease, None, Vec::new());
            }
            Ok(frame) => {
                attempt.storing = 1;
                attempt.stage = Stage::Storing;
                let assignment = Box::new(attempt.assignment.clone());
                self.command(Command::Store { lease, assignment, frame: Box::new(frame) });
            }
        }
    }
}
