//! Room where the agent writes, and whether want of it is why something went wrong.

use std::path::{Path, PathBuf};

use grange_protocol::agent::{Failure, FailureKind};

use crate::core::{Event, Space};

/// Below so much free space a write that fails does so for want of it. Bytes.
const FULL: u64 = 1 << 20;

/// Where the agent writes.
#[derive(Clone, Debug)]
pub(crate) struct Places(Vec<PathBuf>);

impl Places {
    /// Directories, those on one file system once.
    pub(crate) fn of(places: &[&Path]) -> Self {
        let mut devices = Vec::new();
        let mut apart = Vec::new();
        for place in places {
            let device = rustix::fs::stat(*place).map(|stat| stat.st_dev).ok();
            if !devices.contains(&device) {
                devices.push(device);
                apart.push((*place).to_owned());
            }
        }
        Self(apart)
    }

    /// How much room there is now.
    pub(crate) fn spaces(&self) -> Vec<Space> {
        let space = |place: &PathBuf| {
            let stat = rustix::fs::statvfs(place).ok()?;
            Some(Space {
                place: place.display().to_string(),
                free: stat.f_bavail * stat.f_frsize,
                total: stat.f_blocks * stat.f_frsize,
            })
        };
        self.0.iter().filter_map(space).collect()
    }

    /// The same event, but for the reason of a failure: what Blender and ffmpeg say of a full disk
    /// differs from version to version, so what is left of the disk decides.
    pub(crate) fn blame(&self, event: Event) -> Event {
        let blame = |failure: Failure| match failure.kind {
            FailureKind::OutOfMemory | FailureKind::Stalled | FailureKind::Storage => failure,
            _ => match self.spaces().into_iter().find(|space| space.free < FULL) {
                None => failure,
                Some(space) => {
                    let reason =
                        format!("this host's disk is full at {}: {}", space.place, failure.reason);
                    Failure::new(FailureKind::Storage, reason)
                }
            },
        };
        match event {
            Event::SceneFailed(scene, failure) => Event::SceneFailed(scene, blame(failure)),
            Event::RenderFailed { instance, failure, log } => {
                Event::RenderFailed { instance, failure: blame(failure), log }
            }
            Event::InstanceGone { instance, failure, log } => {
                Event::InstanceGone { instance, failure: blame(failure), log }
            }
            Event::NotStored { lease, call, failure } => {
                Event::NotStored { lease, call, failure: failure.map(blame) }
            }
            Event::WorkDone { lease, result, log } => {
                Event::WorkDone { lease, result: result.map_err(blame), log }
            }
            other => other,
        }
    }
}
