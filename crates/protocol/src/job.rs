//! The job model: job → step → task, in the terms of OpenJobDescription.
//!
//! A [`JobSpec`] is what a job kind planned and what the journal keeps. It is small however many
//! tasks it has: a step is a range that expands to tasks one by one ([`Work::task`]).

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{BlobHash, StepIndex, TaskIndex};
use crate::limits::{STEPS_MAX, TASKS_MAX};
use crate::manifest::LayoutPath;
use crate::name::OutputName;
use crate::quantity::Priority;
use crate::shot::{Label, Shot};
use crate::version::BlenderVersion;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    pub name: Label,
    /// The registered job kind that planned it.
    pub kind: Label,
    pub priority: Priority,
    /// The blob with the job's [`Manifest`](crate::Manifest); `None` if it reads no files.
    pub manifest: Option<BlobHash>,
    pub policy: Policy,
    pub steps: Vec<StepSpec>,
}

/// How much goes wrong before people are told that it went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Policy {
    /// Attempts of a task before it counts as failed.
    pub attempts_max: u8,
    /// Failed attempts of one job on one agent before that agent gets no more of it.
    pub agent_failures_max: u8,
    /// Percent of a job's tasks that may fail before the rest is canceled.
    pub failed_tasks_max_percent: u8,
    /// Seconds without a sample and without a change of memory after which a render hangs.
    pub stall_s: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self { attempts_max: 3, agent_failures_max: 3, failed_tasks_max_percent: 10, stall_s: 600 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSpec {
    pub name: Label,
    /// Steps of the same job, earlier in its list, that must complete first.
    pub after: Vec<StepIndex>,
    /// Nice to have: if no agent can do it, or if it fails, the job still completes.
    pub optional: bool,
    pub work: Work,
}

/// What a step's tasks do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    Render(RenderWork),
    Video(VideoWork),
    Noop(NoopWork),
    Session(SessionWork),
}

/// One task of a [`Work`], as an agent gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskWork {
    /// The step's work with one shot, whose frames are this task's chunk.
    Render(RenderWork),
    Video(VideoWork),
    Noop(NoopWork),
    Session(SessionWork),
}

/// What an agent must have to do a step's tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needs<'a> {
    Blender(&'a SceneNeeds),
    Ffmpeg,
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenderWork {
    /// The .blend file's place in the manifest.
    pub blend: LayoutPath,
    pub needs: SceneNeeds,
    pub settings: RenderSettings,
    /// Frames of one task.
    pub chunk: u32,
    pub shots: Vec<Shot>,
}

/// An instance that a person drives: one task, which lasts as long as the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionWork {
    /// The scene and how it renders. Its one shot stands for the frames to come, of which nobody
    /// knows yet.
    pub render: RenderWork,
    /// Seconds without a call after which the session ends.
    pub idle_s: u32,
}

/// What a scene asks of a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SceneNeeds {
    /// The Blender that saved the file.
    pub saved_by: BlenderVersion,
    pub engines: BTreeSet<Engine>,
    /// Whether Cycles must have its denoiser, which some builds of Blender lack.
    #[serde(default)]
    pub denoiser: bool,
}

/// A render engine, by what it is and not by the id of one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Engine {
    Cycles,
    Eevee,
    Workbench,
    /// An add-on's engine, by its id.
    Other(Label),
}

/// How the job's frames are rendered; nothing here changes the picture unless it says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RenderSettings {
    pub device: DeviceRequest,
    /// Keep Cycles' scene data between frames. `None`: as the agent's memory allows.
    pub persistent_data: Option<bool>,
    /// Report Cycles' samples often also where the scene has adaptive sampling off. Changes
    /// pixels by at most 1e-6 and time by at most 5 %.
    pub fine_progress: bool,
    /// Render without denoising on a Blender that was built without its denoiser. Changes the
    /// picture; otherwise such a Blender refuses the scene.
    pub allow_no_denoiser: bool,
    /// Render although files are missing that the scene names. Otherwise a missing library fails
    /// the job.
    pub allow_missing: bool,
    /// Have Cycles render in tiles of 256 pixels, so that a long frame can be stopped within about
    /// a second; it takes 3 to 15 % longer. `None`: where a frame is expected to take minutes.
    pub tiles: Option<bool>,
}

/// Where Cycles computes. A device that is asked for and not there is a failure, never the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum DeviceRequest {
    #[default]
    Any,
    Cpu,
    Cuda,
    Optix,
    Hip,
    OneApi,
    Metal,
}

/// A video of the frames of another step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoWork {
    pub source: StepIndex,
    pub fps: FrameRate,
    pub output: OutputName,
}

/// Frames per second as a fraction, as scenes keep it (30 / 1.001).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FrameRate {
    pub fps: u16,
    pub base: f32,
}

impl Eq for FrameRate {}

/// Tasks that do nothing for a while: they measure the farm itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoopWork {
    pub tasks: u32,
    pub millis: u32,
}

impl JobSpec {
    /// The first reason why this cannot be a job, as a sentence for the submitter.
    pub fn problem(&self) -> Option<String> {
        if self.name.is_empty() {
            return Some("the job has no name: give it one".into());
        }
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            return Some(format!("a job has 1 to {STEPS_MAX} steps, not {}", self.steps.len()));
        }
        for (at, step) in self.steps.iter().enumerate() {
            if step.after.iter().any(|after| usize::from(after.0) >= at) {
                return Some(format!(
                    "step `{}` waits for one that does not come before it",
                    step.name
                ));
            }
            let tasks = step.work.task_count();
            if tasks == 0 || tasks > TASKS_MAX {
                return Some(format!(
                    "step `{}` has {tasks} tasks: a step has 1 to {TASKS_MAX}",
                    step.name
                ));
            }
            match &step.work {
                work if work.render().is_some() && self.manifest.is_none() => {
                    return Some(format!(
                        "step `{}` renders, but the job names no files",
                        step.name
                    ));
                }
                Work::Render(render) if render.chunk == 0 => {
                    return Some("a chunk has at least 1 frame".into());
                }
                Work::Video(video) if !step.after.contains(&video.source) => {
                    return Some(format!("step `{}` does not wait for its frames", step.name));
                }
                _ => {}
            }
        }
        None
    }

    pub fn step(&self, index: StepIndex) -> Option<&StepSpec> {
        self.steps.get(usize::from(index.0))
    }
}

impl Work {
    /// The scene that instances open for it; `None` if it needs no instance.
    pub fn render(&self) -> Option<&RenderWork> {
        match self {
            Self::Render(render) | Self::Session(SessionWork { render, .. }) => Some(render),
            Self::Video(_) | Self::Noop(_) => None,
        }
    }

    /// How many tasks the work expands to.
    pub fn task_count(&self) -> u64 {
        match self {
            Self::Render(render) => render.shots.iter().map(|shot| render.chunks(shot)).sum(),
            Self::Video(_) | Self::Session(_) => 1,
            Self::Noop(noop) => u64::from(noop.tasks),
        }
    }

    /// The task at a place; `None` past the last.
    pub fn task(&self, index: TaskIndex) -> Option<TaskWork> {
        match self {
            Self::Render(render) => {
                let mut at = u64::from(index.0);
                for shot in &render.shots {
                    let chunks = render.chunks(shot);
                    if at < chunks {
                        return Some(TaskWork::Render(render.task(shot, at)));
                    }
                    at -= chunks;
                }
                None
            }
            Self::Video(video) => (index.0 == 0).then(|| TaskWork::Video(video.clone())),
            Self::Noop(noop) => (index.0 < noop.tasks).then_some(TaskWork::Noop(*noop)),
            Self::Session(work) => (index.0 == 0).then(|| TaskWork::Session(work.clone())),
        }
    }

    /// Frames of a task: what its progress weighs. A video weighs nothing, nor does a session.
    pub fn frames_of(&self, index: TaskIndex) -> u32 {
        match self {
            // One shot in chunks of one frame is nearly every job: no need to look further.
            Self::Render(render) if render.chunk == 1 => 1,
            Self::Render(_) => match self.task(index) {
                Some(TaskWork::Render(render)) => {
                    render.shots.iter().map(|shot| shot.frames.len() as u32).sum()
                }
                _ => 0,
            },
            Self::Video(_) | Self::Session(_) => 0,
            Self::Noop(_) => 1,
        }
    }

    /// Frames of all tasks together.
    pub fn frames(&self) -> u64 {
        match self {
            Self::Render(render) => render.shots.iter().map(|shot| shot.frames.len()).sum(),
            Self::Video(_) | Self::Session(_) => 0,
            Self::Noop(noop) => u64::from(noop.tasks),
        }
    }

    /// What a person calls a task: its frames, its shot, or the step's deed.
    pub fn label(&self, index: TaskIndex) -> String {
        match self.task(index) {
            Some(TaskWork::Render(render)) => {
                let shot = &render.shots[0];
                let frames = if shot.frames.len() == 1 { "frame" } else { "frames" };
                match shot.name.as_str() {
                    "" => format!("{frames} {}", shot.frames),
                    name => format!("{name}, {frames} {}", shot.frames),
                }
            }
            Some(TaskWork::Video(video)) => video.output.to_string(),
            Some(TaskWork::Noop(_)) => format!("no-op {}", index.0),
            Some(TaskWork::Session(_)) => "session".into(),
            None => String::new(),
        }
    }

    pub fn needs(&self) -> Needs<'_> {
        match self {
            Self::Render(render) | Self::Session(SessionWork { render, .. }) => {
                Needs::Blender(&render.needs)
            }
            Self::Video(_) => Needs::Ffmpeg,
            Self::Noop(_) => Needs::Nothing,
        }
    }
}

impl TaskWork {
    /// The scene that an instance opens for it; `None` if it needs no instance.
    pub fn render(&self) -> Option<&RenderWork> {
        match self {
            Self::Render(render) | Self::Session(SessionWork { render, .. }) => Some(render),
            Self::Video(_) | Self::Noop(_) => None,
        }
    }
}

impl RenderWork {
    /// The shot that a task renders a part of; `None` past the last task.
    pub fn shot_of(&self, index: TaskIndex) -> Option<&Shot> {
        let mut at = u64::from(index.0);
        self.shots.iter().find(|shot| {
            let chunks = self.chunks(shot);
            let found = at < chunks;
            at = at.saturating_sub(chunks);
            found
        })
    }

    fn chunks(&self, shot: &Shot) -> u64 {
        shot.frames.len().div_ceil(u64::from(self.chunk.max(1)))
    }

    fn task(&self, shot: &Shot, chunk: u64) -> Self {
        let size = u64::from(self.chunk);
        let frames = shot.frames.slice(chunk * size, size);
        let frames = crate::FrameSet::from_frames(frames).unwrap_or_else(|_| shot.frames.clone());
        Self {
            blend: self.blend.clone(),
            needs: self.needs.clone(),
            settings: self.settings.clone(),
            chunk: self.chunk,
            shots: vec![Shot { frames, ..shot.clone_without_frames() }],
        }
    }
}

impl Shot {
    /// Everything but the frames, which may be many.
    fn clone_without_frames(&self) -> Self {
        Self {
            name: self.name.clone(),
            scene: self.scene.clone(),
            view_layer: self.view_layer.clone(),
            camera: self.camera.clone(),
            frames: crate::FrameSet::single(0),
            resolution: self.resolution,
            samples: self.samples,
            output: self.output.clone(),
            extras: self.extras.clone(),
        }
    }
}

impl Engine {
    /// From the id that a scene of any Blender version names.
    pub fn from_id(id: &str) -> Self {
        match id {
            "CYCLES" => Self::Cycles,
            "BLENDER_EEVEE" | "BLENDER_EEVEE_NEXT" => Self::Eevee,
            "BLENDER_WORKBENCH" | "BLENDER_WORKBENCH_NEXT" => Self::Workbench,
            other => Self::Other(other.parse().unwrap_or_default()),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cycles => "Cycles",
            Self::Eevee => "EEVEE",
            Self::Workbench => "Workbench",
            Self::Other(id) => id.as_str(),
        })
    }
}
