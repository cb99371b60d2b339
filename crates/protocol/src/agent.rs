//! Between an agent and its coordinator: one stream for as long as the agent is connected.
//!
//! The agent opens it with [`AgentHello`], the coordinator answers [`Welcome`], then both send
//! batches of messages whenever they have some. Files never travel here (see
//! [`stream`](crate::stream)).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::footprint::{Decision, DeviceState, Expected, Measurement};
use crate::ids::{AgentId, BlobHash, Epoch, LeaseId, TaskRef};
use crate::job::{DeviceRequest, Engine, TaskWork};
use crate::shot::Label;
use crate::version::BlenderVersion;

/// What an agent is and has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentHello {
    /// The host's name, for people.
    pub name: Label,
    /// The agent program's version.
    pub software: String,
    pub runtimes: Vec<RuntimeInfo>,
    pub devices: Vec<DeviceInfo>,
    pub ffmpeg: bool,
    /// Tasks per slot that the agent takes before it has a slot for them, so that an instance
    /// never waits for the network between frames.
    pub ahead: u8,
    /// Leases of before, which the coordinator adopts or has dropped.
    pub holding: Vec<Holding>,
}

/// A Blender that an agent can start, as it was found by starting it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RuntimeInfo {
    pub version: BlenderVersion,
    /// As Blender says it: `4.2.23 LTS`.
    pub full_version: String,
    /// The executable, or the Python that has the bpy module.
    pub path: String,
    pub engines: BTreeSet<Engine>,
    /// Whether Cycles' denoiser is built in.
    pub denoiser: bool,
}

/// Something that renders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeviceInfo {
    /// Unique on its host: a GPU's UUID, or `cpu`.
    pub id: Label,
    pub name: Label,
    pub kind: DeviceKind,
    /// Memory that instances on it can use together, in MiB.
    pub memory_mib: u64,
    /// Instances that it runs at once to begin with; [`DeviceState`] tells how that changes.
    pub slots: u16,
    /// The driver's version; empty where there is none.
    pub driver: Label,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum DeviceKind {
    Cpu,
    /// NVIDIA, for CUDA and OptiX alike.
    Cuda,
    Hip,
    OneApi,
    Metal,
}

impl DeviceKind {
    /// Whether a job that asks for `request` may render here.
    pub fn serves(self, request: DeviceRequest) -> bool {
        match request {
            DeviceRequest::Any => true,
            DeviceRequest::Cpu => self == Self::Cpu,
            DeviceRequest::Cuda | DeviceRequest::Optix => self == Self::Cuda,
            DeviceRequest::Hip => self == Self::Hip,
            DeviceRequest::OneApi => self == Self::OneApi,
            DeviceRequest::Metal => self == Self::Metal,
        }
    }
}

/// A lease that an agent still works on, or whose result the coordinator has not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    pub lease: LeaseId,
    pub task: TaskRef,
    /// Index into the agent's devices.
    pub device: u16,
}

/// The first message back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    pub farm: Label,
    pub agent: AgentId,
    pub epoch: Epoch,
    /// Leases among those held that are no longer the agent's: stop the work, forget the outputs.
    pub drop: Vec<LeaseId>,
    /// How often the agent sends a heartbeat, in milliseconds.
    pub heartbeat_ms: u32,
    /// Somebody could look at small pictures of frames, and the coordinator keeps them.
    pub pictures: bool,
}

/// From an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromAgent {
    Heartbeat(HostLoad),
    /// May be dropped or overtaken: only the latest per lease counts.
    Progress(TaskProgress),
    /// Sent again after a reconnection until it is settled.
    Ended(AttemptEnded),
    /// Tasks that the agent has not begun and will not begin.
    Returned(Vec<LeaseId>),
    /// No more tasks, please: the agent finishes what it runs and leaves.
    Draining,
    /// Its devices, in the order of the hello. Only the latest counts.
    Devices(Vec<DeviceState>),
    /// May be dropped: what was not learned from this frame is learned from the next.
    Measured(Measurement),
    /// May be dropped: it is for people who ask why.
    Decided(Decision),
}

/// To an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAgent {
    Assign(Box<Assignment>),
    /// The work is not wanted any more: stop it, commit nothing, say so by ending the attempt.
    Revoke(LeaseId),
    /// Another agent could begin it sooner: give it back if it has not begun.
    Recall(LeaseId),
    /// The attempt's end is durable: forget it.
    Settled(LeaseId),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub lease: LeaseId,
    pub task: TaskRef,
    /// Index into the agent's devices.
    pub device: u16,
    pub manifest: Option<BlobHash>,
    /// Whose job it is: instances are not shared between submitters.
    pub submitter: Label,
    pub stall_s: u32,
    pub work: TaskWork,
    pub expected: Expected,
    /// Tasks of the same step that wait for a place after this one.
    pub more: u32,
}

/// How a host is doing. Percentages are of the whole host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HostLoad {
    pub cores: u16,
    pub cpu_percent: f32,
    pub memory_total_mib: u64,
    pub memory_available_mib: u64,
    pub instances: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskProgress {
    pub lease: LeaseId,
    pub stage: Stage,
    /// Done share of the whole task, 0 to 1.
    pub fraction: f32,
    /// The frame that is rendering.
    pub frame: i32,
    /// Samples done of the samples to do; 0 of 0 if the engine does not say.
    pub sample: u32,
    pub samples: u32,
    /// Memory of the instance, in MiB.
    pub memory_mib: u32,
    /// Since the attempt began to use an instance, in milliseconds.
    pub elapsed_ms: u32,
}

/// Where an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Stage {
    /// Assets are on their way.
    Fetching,
    /// All is there but an instance.
    Queued,
    /// An instance starts, or opens the scene.
    Loading,
    Rendering,
    /// Outputs are on their way.
    Uploading,
    /// A person drives the instance.
    Serving,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptEnded {
    pub lease: LeaseId,
    pub task: TaskRef,
    pub outcome: Outcome,
    /// What the instance printed meanwhile, at most [`LOG_MAX`](crate::limits::LOG_MAX) bytes.
    pub log: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    Completed(Completed),
    Failed(Failure),
    /// Revoked, and stopped.
    Canceled,
}

/// What a completed attempt cost. Times in milliseconds, memory in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    /// Outputs that the attempt committed; the coordinator counts them too.
    pub outputs: u32,
    /// From first use of an instance to the last output.
    pub total_ms: u32,
    pub render_ms: u32,
    /// Start of an instance and opening of the scene, 0 on a warm one.
    pub load_ms: u32,
    pub peak_mib: u32,
}

/// Why an attempt failed, as a sentence for people and as a kind for the scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    pub kind: FailureKind,
    /// One sentence that names the thing and, where there is one, the next step.
    pub reason: String,
}

/// What a failure says about another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum FailureKind {
    /// The scene or the request is at fault: every host would fail the same way.
    Scene,
    /// This host is at fault (disk full, device gone): another may do it.
    Host,
    /// The instance died.
    Crash,
    /// No sample and no change of memory for too long.
    Stalled,
    OutOfMemory,
    /// An output did not decode, or could not be stored.
    Output,
    /// Anything else.
    Other,
    /// This host has no room for what was to be written.
    Storage,
}

impl Failure {
    pub fn new(kind: FailureKind, reason: impl Into<String>) -> Self {
        let mut reason: String = reason.into();
        if reason.len() > crate::limits::REASON_MAX {
            reason.truncate(reason.floor_char_boundary(crate::limits::REASON_MAX));
        }
        Self { kind, reason }
    }
}
