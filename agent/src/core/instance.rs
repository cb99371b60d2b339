//! One Blender process, as the core sees it.

use grange_protocol::agent::DeviceKind;
use grange_protocol::footprint::Memory;
use grange_protocol::job::SceneNeeds;
use grange_protocol::shot::Label;
use grange_protocol::{BlobHash, LeaseId, Millis};

use super::device::Clock;
use super::event::InstanceId;
use super::{Command, Core, Event};

#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) device: u16,
    pub(crate) manifest: BlobHash,
    pub(crate) needs: SceneNeeds,
    pub(crate) submitter: Label,
    pub(crate) activity: Activity,
    /// As this host numbers it.
    pub(crate) pid: Option<u32>,
    /// As Blender says its version, once it has.
    pub(crate) blender: String,
    /// Set aside for it.
    pub(crate) reserved: Memory,
    /// What it takes now, and the most during this frame.
    pub(crate) now: Memory,
    pub(crate) peak: Memory,
    /// The driver says what it takes of the device.
    pub(crate) driver_says: bool,
    /// Cycles keeps the scene's data between frames; and whether the job says so or says not.
    pub(crate) kept: bool,
    pub(crate) pinned: bool,
    /// How long its start and the opening of the scene took, until that is told.
    pub(crate) load_ms: Option<u32>,
    pub(crate) frames: u32,
    /// Of them those since it began to keep data, or stopped.
    pub(crate) frames_this_way: u32,
    /// Resident set after its first frames, in MiB.
    pub(crate) young_mib: u32,
    pub(crate) frame_began: Millis,
    /// The device's clock when the frame began.
    pub(crate) clock: Clock,
}

impl Instance {
    /// What nobody else can have: what was set aside, or more if it took more.
    pub(crate) fn takes(&self) -> Memory {
        self.reserved.max(self.now)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.activity, Activity::Stopping { .. })
    }
}

/// What an instance does, and since when.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Activity {
    /// The process starts.
    Starting {
        lease: LeaseId,
        since: Millis,
    },
    /// It opens the scene.
    Opening {
        lease: LeaseId,
        sign: LastSign,
    },
    Idle {
        since: Millis,
    },
    Rendering {
        lease: LeaseId,
        sign: LastSign,
    },
    /// It waits for what its session's owner wants next.
    Serving {
        lease: LeaseId,
    },
    /// It does an operation of its session.
    Calling {
        lease: LeaseId,
        sign: LastSign,
    },
    /// It was told to stop rendering; it is killed if it does not.
    Canceling {
        since: Millis,
    },
    /// It was told to end, and is killed if it does not.
    Stopping {
        since: Millis,
        killed: bool,
    },
}

/// When something last changed, and the limit for how long nothing may.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LastSign {
    pub(crate) at: Millis,
    pub(crate) stall_ms: u64,
}

impl Activity {
    /// The attempt that it works for.
    pub(crate) fn lease(&self) -> Option<LeaseId> {
        match self {
            Self::Starting { lease, .. }
            | Self::Opening { lease, .. }
            | Self::Serving { lease }
            | Self::Calling { lease, .. }
            | Self::Rendering { lease, .. } => Some(*lease),
            Self::Idle { .. } | Self::Canceling { .. } | Self::Stopping { .. } => None,
        }
    }

    pub(crate) fn last_sign(&mut self) -> Option<&mut LastSign> {
        match self {
            Self::Opening { sign, .. }
            | Self::Rendering { sign, .. }
            | Self::Calling { sign, .. } => Some(sign),
            _ => None,
        }
    }
}

/// A process that was asked to quit has so long before it is killed. Milliseconds.
const QUIT_MS: u64 = 3_000;

impl Core {
    /// When the core's patience with an instance ends.
    pub(super) fn deadline_of(&self, instance: &Instance) -> Option<Millis> {
        match &instance.activity {
            Activity::Starting { since, .. } => Some(*since + self.patience.start_ms),
            Activity::Opening { sign, .. }
            | Activity::Rendering { sign, .. }
            | Activity::Calling { sign, .. } => Some(sign.at + sign.stall_ms),
            Activity::Serving { .. } => None,
            Activity::Idle { since } => Some(*since + self.patience.idle_ms),
            Activity::Canceling { since } => Some(*since + self.patience.cancel_ms),
            Activity::Stopping { since, killed: false } => Some(*since + QUIT_MS),
            Activity::Stopping { killed: true, .. } => None,
        }
    }

    pub(super) fn enforce_deadlines(&mut self) {
        let due: Vec<InstanceId> = self
            .instances
            .iter()
            .filter(|(_, instance)| self.deadline_of(instance).is_some_and(|at| at <= self.now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.lose_patience(id);
        }
    }

    fn lose_patience(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get(&id) else { return };
        match instance.activity.clone() {
            Activity::Idle { .. } => self.quit(id),
            Activity::Starting { lease, .. } => {
                let seconds = self.patience.start_ms / 1000;
                self.fail_on_kill(id, lease, &format!("Blender did not start within {seconds} s"));
            }
            Activity::Opening { lease, sign } => {
                let seconds = sign.stall_ms / 1000;
                let what =
                    format!("opening the scene hung: its memory did not change for {seconds} s");
                self.fail_on_kill(id, lease, &what);
            }
            Activity::Rendering { lease, sign } => {
                let seconds = sign.stall_ms / 1000;
                let what =
                    format!("the render hung: no sample and no change of memory for {seconds} s");
                self.fail_on_kill(id, lease, &what);
            }
            Activity::Calling { lease, sign } => {
                let seconds = sign.stall_ms / 1000;
                let what = format!("an operation hung: its memory did not change for {seconds} s");
                self.fail_on_kill(id, lease, &what);
            }
            Activity::Canceling { .. } | Activity::Stopping { .. } => self.kill(id),
            // It waits for its owner, and the coordinator knows for how long.
            Activity::Serving { .. } => {}
        }
    }

    /// Lets an instance end by itself.
    pub(super) fn quit(&mut self, id: InstanceId) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.activity = Activity::Stopping { since: self.now, killed: false };
            self.command(Command::Quit(id));
        }
    }

    pub(super) fn kill(&mut self, id: InstanceId) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.activity = Activity::Stopping { since: self.now, killed: true };
            self.command(Command::Kill(id));
        }
    }

    /// Something was heard of an instance. Only changes count as signs of life.
    pub(super) fn sign(&mut self, id: InstanceId, sign: super::event::Sign) {
        use super::event::Sign;
        let now = self.now;
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let device = self.devices.get(usize::from(instance.device));
        let is_cpu = device.is_some_and(|device| device.kind == DeviceKind::Cpu);
        let attempt = instance.activity.lease().and_then(|lease| self.attempts.get_mut(&lease));
        let changed = match (sign, attempt) {
            (Sign::Memory(mib), attempt) => {
                let changed = instance.now.ram_mib != mib;
                instance.now.ram_mib = mib;
                if is_cpu {
                    instance.now.device_mib = mib;
                }
                instance.peak = instance.peak.max(instance.now);
                if let Some(attempt) = attempt {
                    attempt.memory_mib = mib;
                    attempt.peak_mib = attempt.peak_mib.max(mib);
                }
                changed
            }
            (Sign::Progress { fraction, sample, samples, device_mib }, Some(attempt)) => {
                if let Some(mib) = device_mib
                    && !is_cpu
                    && !instance.driver_says
                {
                    instance.now.device_mib = mib;
                    instance.peak = instance.peak.max(instance.now);
                }
                let changed = (attempt.fraction, attempt.sample, attempt.samples)
                    != (fraction, sample, samples);
                (attempt.fraction, attempt.sample, attempt.samples) = (fraction, sample, samples);
                changed
            }
            (Sign::Progress { .. }, None) => false,
        };
        if changed && let Some(last) = instance.activity.last_sign() {
            last.at = now;
        }
        if let Some(lease) = instance.activity.lease() {
            if changed && self.serves_a_session(Some(lease)) {
                self.tell_session_progress(lease);
            }
            self.tell_progress(lease, false);
        }
    }
}

impl Event {
    /// For the shell's log: the name of what happened.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Tick => "tick",
            Self::Welcomed { .. } => "welcomed",
            Self::Assigned(_) => "assigned",
            Self::Revoked(_) => "revoked",
            Self::Recalled(_) => "recalled",
            Self::Settled(_) => "settled",
            Self::Drain => "drain",
            Self::Abandon => "abandon",
            Self::SceneReady(_) => "scene ready",
            Self::SceneFailed(..) => "scene failed",
            Self::DevicesRead(_) => "devices read",
            Self::InstanceUp { .. } => "instance up",
            Self::Opened { .. } => "opened",
            Self::Sign { .. } => "sign",
            Self::Rendered { .. } => "rendered",
            Self::RenderFailed { .. } => "render failed",
            Self::RenderCanceled { .. } => "render canceled",
            Self::InstanceGone { .. } => "instance gone",
            Self::Called { .. } => "called",
            Self::SessionClosed(_) => "session closed",
            Self::Answered { .. } => "answered",
            Self::Stored { .. } => "stored",
            Self::NotStored { .. } => "not stored",
            Self::WorkDone { .. } => "work done",
            Self::SpacesRead(_) => "spaces read",
        }
    }
}
