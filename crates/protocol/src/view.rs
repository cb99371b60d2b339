//! What people see of a farm: the same values for the CLI, its `--json`, and every watcher.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::agent::{DeviceInfo, DeviceKind, FailureKind, HostLoad, RuntimeInfo, Stage};
use crate::file::Output;
use crate::footprint::{Decision, DeviceState, Memory};
use crate::history::HistoryView;
use crate::ids::{AgentId, Epoch, JobId, StepIndex, TaskIndex};
use crate::quantity::{Millis, Priority};
use crate::schedule::Schedule;
use crate::shot::Label;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum JobState {
    /// Accepted, nothing begun.
    Queued,
    Active,
    Paused,
    Completed,
    Canceled,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum TaskState {
    /// For another step.
    Waiting,
    Ready,
    Running,
    Completed,
    Failed,
    Canceled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum AgentState {
    Online,
    /// It finishes what it has begun and gets nothing more: it stops, or somebody said so.
    Draining,
    /// It gets nothing at this time of the week.
    Asleep,
    Offline,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JobView {
    pub id: JobId,
    pub name: Label,
    pub kind: Label,
    pub submitter: Label,
    pub state: JobState,
    /// The step whose turn it is, where there are several.
    pub step: Option<Label>,
    pub priority: Priority,
    /// Why it failed, or why it does not go on.
    pub reason: Option<String>,
    pub submitted_at: Millis,
    pub ended_at: Option<Millis>,
    /// It stays with its files, however old it gets.
    pub kept: bool,
    /// Only agents that have all of these get tasks of it.
    pub tags: BTreeSet<Label>,
    pub progress: JobProgress,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JobProgress {
    pub tasks: TaskCounts,
    /// Frames of all tasks, and of completed ones.
    pub frames_total: u64,
    pub frames_done: u64,
    /// Done share, 0 to 1, with the parts of running frames.
    pub fraction: f32,
    /// Over the last minutes; 0 before the first frame.
    pub frames_per_minute: f32,
    /// Seconds to the end at that rate.
    pub seconds_left: Option<u32>,
    pub outputs: u64,
    /// Bytes of all outputs.
    pub output_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TaskCounts {
    pub total: u64,
    pub waiting: u64,
    pub ready: u64,
    pub running: u64,
    pub completed: u64,
    pub failed: u64,
    pub canceled: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JobDetail {
    pub job: JobView,
    pub steps: Vec<StepView>,
    /// Tasks that run, or have failed, at most 1,000, running ones before others; completed and ready
    /// ones are only counted.
    pub tasks: Vec<TaskView>,
    pub cost: JobCost,
}

/// What completed attempts took on their devices. Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JobCost {
    /// From the first use of an instance to the last output.
    pub total_ms: u64,
    pub render_ms: u64,
    /// Starts of instances and opening of scenes.
    pub load_ms: u64,
    /// What starting Blender and opening the scene for every task would have taken besides, as far as
    /// that was measured.
    pub saved_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StepView {
    pub name: Label,
    pub after: Vec<StepIndex>,
    pub optional: bool,
    pub tasks: TaskCounts,
    /// Why it was left out, if it was.
    pub skipped: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TaskView {
    pub step: StepIndex,
    pub task: TaskIndex,
    /// `frame 12`, `Front, frame 1`.
    pub label: String,
    pub state: TaskState,
    /// The agent's name.
    pub agent: Option<Label>,
    /// Index into the agent's devices.
    pub device: Option<u16>,
    pub progress: Option<TaskProgressView>,
    pub failures: Vec<FailureView>,
}

/// [`TaskProgress`](crate::agent::TaskProgress) without its lease.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TaskProgressView {
    pub stage: Stage,
    pub fraction: f32,
    pub frame: i32,
    pub sample: u32,
    pub samples: u32,
    pub memory_mib: u32,
    pub seconds: f32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FailureView {
    pub agent: Label,
    pub kind: FailureKind,
    pub reason: String,
    pub at: Millis,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AgentView {
    pub id: AgentId,
    pub name: Label,
    pub state: AgentState,
    pub software: String,
    pub runtimes: Vec<RuntimeInfo>,
    pub devices: Vec<DeviceInfo>,
    pub ffmpeg: bool,
    pub load: HostLoad,
    /// Tasks that it holds, running or ahead.
    pub tasks: u32,
    pub last_seen: Millis,
    /// In the order of `devices`; empty before the agent has told.
    pub device_states: Vec<DeviceState>,
    /// What jobs can ask for.
    pub tags: BTreeSet<Label>,
    /// When it takes tasks; `None`: always.
    pub schedule: Option<Schedule>,
}

/// What shots of one kind were measured to need on one kind of device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FootprintView {
    /// The .blend file's name.
    pub file: String,
    /// `None`: the file's own.
    pub scene: Option<Label>,
    pub view_layer: Option<Label>,
    pub device: DeviceKind,
    /// Width × height of the largest picture of this class of size; 0 if nobody knows.
    pub pixels: u64,
    /// The largest peaks, without and with the scene's data kept between frames.
    pub plain: Option<Memory>,
    pub kept: Option<Memory>,
    /// What is added to a peak when memory is set aside, in percent.
    pub margin_percent: u32,
    /// Running means, in milliseconds; 0 before there is one.
    pub load_ms: u32,
    pub frame_ms: u32,
    pub frames: u64,
    pub out_of_memory: u32,
}

/// A decision about a device, and whose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DecisionView {
    /// The agent's and the device's names.
    pub agent: Label,
    pub device: Label,
    pub decision: Decision,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OutputView {
    /// Its place in the order of commits; the cursor for what comes after it.
    pub cursor: u64,
    pub step: StepIndex,
    pub task: TaskIndex,
    pub output: Output,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogView {
    pub cursor: u64,
    pub step: StepIndex,
    pub task: TaskIndex,
    pub agent: Label,
    pub failed: bool,
    pub at: Millis,
    pub text: String,
}

/// The farm as one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FarmView {
    pub farm: Label,
    pub software: String,
    pub epoch: Epoch,
    pub agents_online: u32,
    pub jobs_open: u32,
    pub tasks_running: u64,
    /// Done share of all open jobs' frames, with the parts of running ones.
    pub fraction: f32,
    pub frames_per_minute: f32,
    pub seconds_left: Option<u32>,
    /// What to do, as a sentence, if the farm has no room for files.
    pub storage_full: Option<String>,
}

/// What a watcher gets. A watcher that is too slow loses events in between and gets the current
/// state instead; outputs it never loses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum WatchEvent {
    Farm(FarmView),
    Job(JobView),
    /// A running task's progress, or a change of state.
    Task {
        job: JobId,
        task: TaskView,
    },
    Output {
        job: JobId,
        output: OutputView,
    },
    Agent(AgentView),
    /// All that was before the watch has been told; what follows is new.
    CaughtUp,
    /// The job was deleted or collected.
    JobGone(JobId),
    /// The agent was removed.
    AgentGone(AgentId),
    /// States of tasks of a step that follow one another, a letter each: see
    /// [`TaskState::letter`].
    States {
        job: JobId,
        step: StepIndex,
        first: TaskIndex,
        states: String,
    },
    /// One more line of the history, from now on. A watcher of a job is told that job's.
    Happened(HistoryView),
    /// What a watcher of the farm knows of its jobs and agents may be wrong, as it was too slow: the
    /// present state follows, then [`WatchEvent::CaughtUp`]. What is not told again is gone.
    Anew,
}

impl TaskState {
    /// For lists of very many: `w`aiting, re`a`dy, `r`unning, `c`ompleted, `f`ailed, canceled (`x`).
    pub const fn letter(self) -> char {
        match self {
            Self::Waiting => 'w',
            Self::Ready => 'a',
            Self::Running => 'r',
            Self::Completed => 'c',
            Self::Failed => 'f',
            Self::Canceled => 'x',
        }
    }
}

impl JobState {
    /// Nothing more happens unless somebody retries.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Canceled | Self::Failed)
    }
}

macro_rules! lower_case_names {
    ($($type:ident { $($variant:ident = $text:literal),* $(,)? })*) => {
        $(impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(match self { $(Self::$variant => $text),* })
            }
        })*
    };
}

lower_case_names! {
    JobState {
        Queued = "queued", Active = "active", Paused = "paused",
        Completed = "completed", Canceled = "canceled", Failed = "failed",
    }
    TaskState {
        Waiting = "waiting", Ready = "ready", Running = "running",
        Completed = "completed", Failed = "failed", Canceled = "canceled",
    }
    AgentState {
        Online = "online", Draining = "draining", Asleep = "asleep", Offline = "offline",
    }
    Stage {
        Fetching = "fetching", Queued = "queued", Loading = "loading",
        Rendering = "rendering", Uploading = "uploading", Serving = "serving",
    }
}
