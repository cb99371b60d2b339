//! Work that needs no Blender. A new kind is one new file here and one line in [`perform`].

mod noop;
mod video;

use std::path::PathBuf;

use grange_protocol::agent::{Assignment, Failure, FailureKind};
use grange_protocol::job::TaskWork;

use crate::core::Frame;
use crate::sandbox::Sandbox;
use crate::supply::Supply;

/// What work may use.
#[derive(Clone)]
pub(crate) struct Workshop {
    pub(crate) sandbox: Sandbox,
    pub(crate) ffmpeg: Option<PathBuf>,
    pub(crate) supply: Supply,
    /// Where results are left, in directories of their own.
    pub(crate) scratch: PathBuf,
}

/// What became of work: its files, and what its programs printed.
pub(crate) struct Report {
    pub(crate) result: Result<Frame, Failure>,
    pub(crate) log: String,
}

/// Does the work. Dropped, it stops.
pub(crate) async fn perform(workshop: &Workshop, assignment: &Assignment) -> Report {
    match &assignment.work {
        TaskWork::Video(work) => video::perform(workshop, assignment, work).await,
        TaskWork::Noop(work) => noop::perform(work).await,
        TaskWork::Render(_) | TaskWork::Session(_) => {
            Report::failed(Failure::new(FailureKind::Other, "a render needs a Blender instance"))
        }
    }
}

impl Report {
    fn failed(failure: Failure) -> Self {
        Self { result: Err(failure), log: String::new() }
    }
}
