//! Sessions: an instance that serves one person, call by call, for as long as they hold it.
//!
//! A call is either an operation or a frame. The instance does one at a time, in the order in which
//! they came; a frame's files travel while it is at the next. What goes wrong in a call is the
//! caller's to know; only the end of the instance ends the session.

use std::collections::VecDeque;

use grange_blender::instance::SessionFrame;
use grange_protocol::agent::{Failure, FailureKind};
use grange_protocol::file::Output;
use grange_protocol::session::{CallAnswer, CallNumber, FromSession, OpenSession, Raised};
use grange_protocol::{LeaseId, Millis, OutputName, Shot};

use super::Core;
use super::attempt::Stage;
use super::event::{Command, Frame, InstanceId, RenderOrder, RenderedFile, Reply, Said};
use super::instance::{Activity, LastSign};

/// What a session's owner wants of its instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Desk {
    waiting: VecDeque<Wanted>,
    under_way: Option<CallNumber>,
    /// They are done: when what they want is done, the session ends.
    is_closing: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) number: CallNumber,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    Operation {
        name: String,
        arguments: serde_json::Value,
    },
    /// A frame of the scene as the session has it. The shot names its files.
    Frame {
        frame: i32,
        shot: Box<Shot>,
        session: SessionFrame,
    },
}

impl Core {
    /// The instance has the scene open, and is its owner's from now on.
    pub(super) fn begin_session(&mut self, id: InstanceId, lease: LeaseId) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.activity = Activity::Serving { lease };
        let (blender, device) = (instance.blender.clone(), instance.device);
        let Some(attempt) = self.attempts.get_mut(&lease) else { return };
        attempt.began.get_or_insert(self.now);
        attempt.waits_for_memory_since = None;
        let task = attempt.assignment.task;
        self.let_others_beside(id, lease);
        let device = self
            .devices
            .get(usize::from(device))
            .map(|device| device.name.clone())
            .unwrap_or_default();
        self.set_stage(lease, Stage::Serving { instance: id });
        let open = OpenSession { lease, task, blender, device };
        self.command(Command::OpenSession(Box::new(open)));
        self.serve(lease);
    }

    /// What nobody has measured keeps the whole device until its first frame is done. In a session
    /// that may never come, so with its scene open it makes do with half.
    fn let_others_beside(&mut self, id: InstanceId, lease: LeaseId) {
        let Some(attempt) = self.attempts.get(&lease) else { return };
        let assignment = attempt.assignment.clone();
        if self.expected_of(id, &assignment).is_some() {
            return;
        }
        let Some(device) = self.devices.get(usize::from(assignment.device)) else { return };
        let half_mib = u32::try_from(device.capacity_mib() / 2).unwrap_or(u32::MAX);
        if let Some(instance) = self.instances.get_mut(&id) {
            let reserved = &mut instance.reserved;
            reserved.device_mib = reserved.device_mib.min(half_mib);
            reserved.ram_mib = reserved.ram_mib.min(half_mib.max(reserved.device_mib));
        }
    }

    pub(super) fn called(&mut self, lease: LeaseId, wanted: Wanted) {
        let number = wanted.number;
        match self.attempts.get_mut(&lease).filter(|attempt| !attempt.has_ended()) {
            Some(attempt) if !attempt.desk.is_closing => {
                attempt.desk.waiting.push_back(wanted);
                self.serve(lease);
            }
            _ => {
                self.answer(lease, number, Err(Raised::new("RuntimeError", "the session is over")))
            }
        }
    }

    pub(super) fn session_closed(&mut self, lease: LeaseId) {
        if let Some(attempt) = self.attempts.get_mut(&lease) {
            attempt.desk.is_closing = true;
            self.serve(lease);
        }
    }

    /// Has the instance do what is wanted next, if it is free.
    fn serve(&mut self, lease: LeaseId) {
        let Some(attempt) = self.attempts.get_mut(&lease) else { return };
        let Stage::Serving { instance: id } = attempt.stage else { return };
        if attempt.desk.under_way.is_some() {
            return;
        }
        let stall_ms = u64::from(attempt.assignment.stall_s) * 1000;
        let Some(wanted) = attempt.desk.waiting.pop_front() else {
            if attempt.desk.is_closing {
                self.end_session(id, lease);
            }
            return;
        };
        attempt.desk.under_way = Some(wanted.number);
        match wanted.what {
            What::Operation { name, arguments } => {
                let sign = LastSign { at: self.now, stall_ms };
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.activity = Activity::Calling { lease, sign };
                }
                self.command(Command::Call { instance: id, operation: name, arguments });
            }
            What::Frame { frame, shot, session } => {
                self.begin_frame_of_session(id, lease, (frame, *shot, session));
            }
        }
    }

    fn begin_frame_of_session(
        &mut self,
        id: InstanceId,
        lease: LeaseId,
        (frame, shot, session): (i32, Shot, SessionFrame),
    ) {
        let Some(settings) = self.settle_settings(id, lease) else { return };
        let cores = self.share_of_cores(id);
        let order = RenderOrder {
            instance: id,
            lease,
            frame,
            shot,
            settings,
            session: Some(session),
            cores,
        };
        self.begin_order(order);
    }

    /// The operation under way has ended.
    pub(super) fn answered(&mut self, id: InstanceId, answer: Result<Reply, Raised>, log: &str) {
        let Some((lease, number)) = self.end_call(id) else {
            if let Ok(Reply { dir, files, .. }) = answer
                && !files.is_empty()
            {
                self.command(Command::Discard(Box::new(Frame { dir, ..Frame::default() })));
            }
            return;
        };
        if let Some(attempt) = self.attempts.get_mut(&lease) {
            attempt.append_log(log);
        }
        match answer {
            Ok(Reply { said, files, .. }) if files.is_empty() => {
                self.answer(lease, number, Ok(said));
            }
            Ok(Reply { said: Said { value, warnings }, dir, files }) => {
                let files =
                    files.into_iter().filter_map(|file| named_after(number, file)).collect();
                let frame =
                    Frame { dir, files, call: Some(number), value, warnings, ..Frame::default() };
                self.store_for_session(lease, frame);
            }
            Err(raised) => self.answer(lease, number, Err(raised)),
        }
        self.serve(lease);
    }

    /// A frame of a session is rendered.
    pub(super) fn session_rendered(&mut self, id: InstanceId, mut frame: Frame) {
        let Some((lease, number)) = self.end_call(id) else {
            return self.command(Command::Discard(Box::new(frame)));
        };
        if let Some(attempt) = self.attempts.get_mut(&lease) {
            attempt.peak_mib = attempt.peak_mib.max(frame.peak_mib);
            attempt.render_ms += frame.render_ms;
            attempt.append_log(&std::mem::take(&mut frame.log));
        }
        frame.call = Some(number);
        self.store_for_session(lease, frame);
        self.serve(lease);
    }

    /// What went wrong is told to the caller, and the session goes on.
    pub(super) fn session_render_failed(&mut self, id: InstanceId, failure: &Failure) {
        let Some((lease, number)) = self.end_call(id) else { return };
        self.answer(lease, number, Err(Raised::new("RuntimeError", failure.reason.clone())));
        self.serve(lease);
    }

    /// Whether the failure of a render leaves the session as it was.
    pub(super) fn session_survives(&self, id: InstanceId, failure: &Failure) -> bool {
        let ends_it = matches!(failure.kind, FailureKind::OutOfMemory | FailureKind::Host);
        !ends_it
            && self.instances.get(&id).is_some_and(|instance| {
                matches!(instance.activity, Activity::Rendering { .. })
                    && self.serves_a_session(instance.activity.lease())
            })
    }

    pub(super) fn serves_a_session(&self, lease: Option<LeaseId>) -> bool {
        lease
            .and_then(|lease| self.attempts.get(&lease))
            .is_some_and(|attempt| attempt.is_session())
    }

    /// The instance waits for its owner again. Whose it is, and the call that has ended.
    fn end_call(&mut self, id: InstanceId) -> Option<(LeaseId, CallNumber)> {
        let instance = self.instances.get_mut(&id)?;
        let lease = instance.activity.lease()?;
        let attempt = self.attempts.get_mut(&lease).filter(|attempt| attempt.is_session())?;
        let number = attempt.desk.under_way.take()?;
        instance.activity = Activity::Serving { lease };
        attempt.fraction = 0.0;
        self.set_stage(lease, Stage::Serving { instance: id });
        Some((lease, number))
    }

    fn store_for_session(&mut self, lease: LeaseId, frame: Frame) {
        let Some(attempt) = self.attempts.get_mut(&lease) else { return };
        attempt.storing += 1;
        let assignment = Box::new(attempt.assignment.clone());
        self.command(Command::Store { lease, assignment, frame: Box::new(frame) });
    }

    /// Files of a call are committed, or not.
    pub(super) fn session_stored(
        &mut self,
        lease: LeaseId,
        call: CallNumber,
        result: Result<(Said, Vec<Output>), Failure>,
    ) {
        let answer = match result {
            Ok((said, outputs)) => {
                for output in outputs {
                    self.tell_session(lease, FromSession::Stored { call, output });
                }
                Ok(said)
            }
            Err(failure) => Err(Raised::new("OSError", failure.reason)),
        };
        self.answer(lease, call, answer);
    }

    fn answer(&mut self, lease: LeaseId, call: CallNumber, answer: Result<Said, Raised>) {
        let answer = match answer {
            Ok(Said { value, warnings }) => {
                CallAnswer::Returned { value: value.to_string().into_bytes(), warnings }
            }
            Err(raised) => CallAnswer::Raised(raised),
        };
        self.tell_session(lease, FromSession::Answered { call, answer });
    }

    pub(super) fn tell_session(&mut self, lease: LeaseId, message: FromSession) {
        self.command(Command::TellSession(lease, message));
    }

    /// How far the frame under way is.
    pub(super) fn tell_session_progress(&mut self, lease: LeaseId) {
        let Some(attempt) = self.attempts.get(&lease) else { return };
        if let (Stage::Rendering { .. }, Some(call)) = (&attempt.stage, attempt.desk.under_way) {
            let (fraction, sample, samples) = (attempt.fraction, attempt.sample, attempt.samples);
            self.tell_session(lease, FromSession::Progress { call, fraction, sample, samples });
        }
    }

    /// Nobody drives the instance any more. It goes too: what was changed in it is nobody else's.
    fn end_session(&mut self, id: InstanceId, lease: LeaseId) {
        self.quit(id);
        self.command(Command::CloseSession(lease));
        let Some(attempt) = self.attempts.get_mut(&lease) else { return };
        attempt.stage = Stage::Storing;
        self.complete_if_all_is_stored(lease);
    }

    /// The attempt of a session ends in another way than by its owner's wish.
    pub(super) fn break_session(&mut self, lease: LeaseId, reason: &str) {
        let Some(attempt) = self.attempts.get(&lease).filter(|attempt| attempt.is_session()) else {
            return;
        };
        let instance = attempt.instance();
        self.tell_session(lease, FromSession::Ended { reason: reason.into() });
        self.command(Command::CloseSession(lease));
        if let Some(id) = instance
            && self.instances.get(&id).is_some_and(|instance| !instance.is_stopping())
        {
            self.kill(id);
        }
    }

    /// Sessions have instances of their own, as many as memory and cores allow: they wait for
    /// people for most of their time, so the search for the best number says nothing of them.
    pub(super) fn count_sessions(&mut self) {
        for (at, device) in (0u16..).zip(&mut self.devices) {
            let wants = |attempt: &&super::attempt::Attempt| {
                attempt.assignment.device == at
                    && attempt.is_session()
                    && !matches!(
                        attempt.stage,
                        Stage::Fetching | Stage::Judging | Stage::Storing | Stage::Ended(_)
                    )
            };
            device.sessions = self.attempts.values().filter(wants).count() as u16;
        }
    }

    /// An instance that a session may have: one that is idle, whoever waits for its scene. So work
    /// makes room for people when its frame is done.
    pub(super) fn idle_instance_on(&self, device: u16) -> Option<InstanceId> {
        let is_on_its_way = self.instances_on(device).any(|(_, instance)| instance.is_stopping());
        let since = |instance: &super::instance::Instance| match instance.activity {
            Activity::Idle { since } => Some(since),
            _ => None,
        };
        let idle: Option<(Millis, InstanceId)> = self
            .instances_on(device)
            .filter_map(|(id, instance)| Some((since(instance)?, id)))
            .min();
        idle.filter(|_| !is_on_its_way).map(|(_, id)| id)
    }
}

/// Every call's files have names of their own.
fn named_after(number: CallNumber, file: RenderedFile) -> Option<RenderedFile> {
    let folder: OutputName = number.0.to_string().parse().ok()?;
    Some(RenderedFile { name: file.name.within(&folder).ok()?, ..file })
}
