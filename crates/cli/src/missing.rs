//! What of a job is in the user's folder already.

use std::path::Path;

use grange_blender::file::Summary;
use grange_blender::verify::verify;
use grange_client::request;
use grange_protocol::{FrameSet, JobKind, Shot};

/// Pictures that are wanted, and of them those that are there, counted in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) wanted: u64,
    pub(crate) there: u64,
}

/// Takes out of a job the frames whose pictures are all in the folder, whole. If that is all of
/// them the job is left as it is, because there is none without frames.
pub(crate) fn leave_out_what_is_there(
    kind: &mut JobKind,
    summary: &Summary,
    folder: &Path,
) -> anyhow::Result<Count> {
    let mut missing = kind.clone();
    let mut count = Count::default();
    match &mut missing {
        JobKind::Animation(animation) => {
            animation.shot.output = animation.shot.output.numbered();
            keep_missing(&mut animation.shot, summary, folder, &mut count)?;
        }
        JobKind::Shots(shots) => {
            shots.settle().map_err(anyhow::Error::msg)?;
            let mut kept = Vec::new();
            for mut shot in shots.shots.drain(..) {
                if keep_missing(&mut shot, summary, folder, &mut count)? {
                    kept.push(shot);
                }
            }
            shots.shots = kept;
        }
        JobKind::Noop(_) | JobKind::Session(_) => {}
    }
    if count.there < count.wanted {
        *kind = missing;
    }
    Ok(count)
}

/// Leaves a shot the frames that are missing; false if none is.
fn keep_missing(
    shot: &mut Shot,
    summary: &Summary,
    folder: &Path,
    count: &mut Count,
) -> anyhow::Result<bool> {
    let mut missing = Vec::new();
    for frame in shot.frames.iter() {
        let pictures = request::pictures_of(summary, shot, frame)?;
        let there = !pictures.is_empty()
            && pictures.iter().all(|picture| verify(&folder.join(picture.as_str())).is_ok());
        if !there {
            missing.push(frame);
        }
    }
    count.wanted += shot.frames.len();
    count.there += shot.frames.len() - missing.len() as u64;
    match FrameSet::from_frames(missing) {
        Ok(missing) => shot.frames = missing,
        Err(_) => return Ok(false),
    }
    Ok(true)
}
