//! One try at a task, from its assignment until the coordinator has settled its end.

use grange_protocol::agent::{self, Assignment, AttemptEnded, TaskProgress};
use grange_protocol::job::{RenderWork, TaskWork};
use grange_protocol::limits::LOG_MAX;
use grange_protocol::{Millis, Shot};

use super::event::InstanceId;
use super::session::Desk;

#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) assignment: Assignment,
    pub(crate) stage: Stage,
    /// When it first used an instance.
    pub(crate) began: Option<Millis>,
    /// Frames of its chunk that are rendered.
    pub(crate) frames_rendered: u32,
    /// Groups of files that are on their way.
    pub(crate) storing: u32,
    pub(crate) outputs: u32,
    pub(crate) load_ms: u32,
    pub(crate) render_ms: u32,
    pub(crate) peak_mib: u32,
    pub(crate) log: String,
    /// Of the frame that is rendering.
    pub(crate) fraction: f32,
    pub(crate) sample: u32,
    pub(crate) samples: u32,
    pub(crate) memory_mib: u32,
    /// Since when it could begin if there were memory for an instance.
    pub(crate) waits_for_memory_since: Option<Millis>,
    /// When progress was last told.
    pub(crate) told: Option<Millis>,
    /// What a session's owner wants.
    pub(crate) desk: Desk,
}

#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// The scene's files are on their way.
    Fetching,
    /// Waits for an instance.
    Queued,
    /// An instance starts, or opens the scene, for it.
    Loading {
        instance: InstanceId,
        since: Millis,
    },
    Rendering {
        instance: InstanceId,
    },
    /// A person drives the instance, or may.
    Serving {
        instance: InstanceId,
    },
    /// Work that needs no instance is under way.
    Working,
    /// It ran out of memory, and is told so when it is known how much there was.
    Judging,
    /// All is rendered; files are on their way.
    Storing,
    /// Told to the coordinator, which has not settled it yet.
    Ended(Box<AttemptEnded>),
}

impl Attempt {
    pub(crate) fn new(assignment: Assignment, stage: Stage) -> Self {
        Self {
            assignment,
            stage,
            began: None,
            frames_rendered: 0,
            storing: 0,
            outputs: 0,
            load_ms: 0,
            render_ms: 0,
            peak_mib: 0,
            log: String::new(),
            fraction: 0.0,
            sample: 0,
            samples: 0,
            memory_mib: 0,
            waits_for_memory_since: None,
            told: None,
            desk: Desk::default(),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }

    /// Nothing has been done for it that another agent could not do as well.
    pub(crate) fn has_begun(&self) -> bool {
        !matches!(self.stage, Stage::Fetching | Stage::Queued)
    }

    pub(crate) fn instance(&self) -> Option<InstanceId> {
        match self.stage {
            Stage::Loading { instance, .. }
            | Stage::Rendering { instance }
            | Stage::Serving { instance } => Some(instance),
            _ => None,
        }
    }

    pub(crate) fn is_session(&self) -> bool {
        matches!(self.assignment.work, TaskWork::Session(_))
    }

    /// What it renders; `None` for work that needs no instance.
    pub(crate) fn render(&self) -> Option<(&RenderWork, &Shot)> {
        let render = self.assignment.work.render()?;
        Some((render, render.shots.first()?))
    }

    /// The frame that comes next; `None` if all are rendered.
    pub(crate) fn next_frame(&self) -> Option<i32> {
        self.render()?.1.frames.nth(self.frames_rendered.into())
    }

    pub(crate) fn frames(&self) -> u32 {
        self.render().map_or(1, |(_, shot)| shot.frames.len() as u32)
    }

    pub(crate) fn append_log(&mut self, text: &str) {
        self.log.push_str(text);
        if self.log.len() > LOG_MAX {
            // The beginning says how it was set up, the end what went wrong.
            const CUT: &str = "\n[… the middle of this log is left out …]\n";
            let keep = (LOG_MAX - CUT.len()) / 2;
            let head = self.log.floor_char_boundary(keep);
            let tail = self.log.ceil_char_boundary(self.log.len() - keep);
            self.log = format!("{}{CUT}{}", &self.log[..head], &self.log[tail..]);
        }
    }

    pub(crate) fn progress(&self, now: Millis) -> TaskProgress {
        let stage = match self.stage {
            Stage::Fetching => agent::Stage::Fetching,
            Stage::Queued => agent::Stage::Queued,
            Stage::Loading { .. } => agent::Stage::Loading,
            Stage::Rendering { .. } | Stage::Working | Stage::Judging => agent::Stage::Rendering,
            Stage::Serving { .. } => agent::Stage::Serving,
            Stage::Storing | Stage::Ended(_) => agent::Stage::Uploading,
        };
        let rendering =
            if matches!(self.stage, Stage::Rendering { .. }) { self.fraction } else { 0.0 };
        let done = self.frames_rendered as f32 + rendering;
        TaskProgress {
            lease: self.assignment.lease,
            stage,
            fraction: (done / self.frames().max(1) as f32).min(1.0),
            frame: self.next_frame().or_else(|| Some(self.render()?.1.frames.last())).unwrap_or(0),
            sample: self.sample,
            samples: self.samples,
            memory_mib: self.memory_mib,
            elapsed_ms: self.began.map_or(0, |began| now.since(began)) as u32,
        }
    }
}
