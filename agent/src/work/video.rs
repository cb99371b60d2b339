//! A video of a step's frames, by ffmpeg.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use grange_protocol::agent::{Assignment, Failure, FailureKind};
use grange_protocol::client::{OutputsQuery, Request, Response};
use grange_protocol::file::{Output, OutputRole};
use grange_protocol::job::VideoWork;
use grange_transport::exchange;

use super::{Report, Workshop};
use crate::core::{Frame, RenderedFile};
use crate::sandbox::Cell;
use crate::scenes::link_or_copy;

pub(super) async fn perform(
    workshop: &Workshop,
    assignment: &Assignment,
    work: &VideoWork,
) -> Report {
    let dir = format!("video-{}", assignment.lease);
    let mut log = String::new();
    let result = make(workshop, assignment, work, &dir, &mut log).await;
    if result.is_err() {
        let _ = fs::remove_dir_all(workshop.scratch.join(&dir));
    }
    Report { result, log }
}

async fn make(
    workshop: &Workshop,
    assignment: &Assignment,
    work: &VideoWork,
    dir: &str,
    log: &mut String,
) -> Result<Frame, Failure> {
    let ffmpeg = workshop.ffmpeg.clone().ok_or_else(|| host("this host has no ffmpeg"))?;
    let frames = frames(workshop, assignment, work).await?;
    let extension = common_extension(&frames)?;
    let at = workshop.scratch.join(dir);
    let (inputs, outputs) = (at.join("frames"), at.join("out"));
    for dir in [&inputs, &outputs, &at.join("tmp")] {
        fs::create_dir_all(dir).map_err(|error| host(&format!("no scratch directory: {error}")))?;
    }
    for (number, frame) in frames.iter().enumerate() {
        let target = inputs.join(format!("{number:08}.{extension}"));
        fetch(workshop, frame, &target).await?;
    }
    let video = outputs.join(work.output.file_name());
    let cell = Cell {
        program: ffmpeg,
        args: arguments(work, &inputs, &extension, &video),
        reads: vec![inputs.clone()],
        writes: vec![outputs],
        tmp: at.join("tmp"),
        ..Cell::default()
    };
    let mut command = workshop.sandbox.command(&cell);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let done =
        command.output().await.map_err(|error| host(&format!("ffmpeg does not start: {error}")))?;
    log.push_str(&String::from_utf8_lossy(&done.stderr));
    let _ = fs::remove_dir_all(&inputs);
    if !done.status.success() {
        let last = log.lines().last().unwrap_or("it printed nothing").to_owned();
        return Err(Failure::new(
            FailureKind::Other,
            format!("ffmpeg could not make the video: {last}"),
        ));
    }
    let path = Path::new(dir).join("out").join(work.output.file_name());
    let file = RenderedFile { path, name: work.output.clone(), role: OutputRole::Preview };
    Ok(Frame { dir: dir.into(), files: vec![file], ..Frame::default() })
}

/// H.264 that plays everywhere: 4:2:0, even sides, the index in front.
fn arguments(
    work: &VideoWork,
    inputs: &Path,
    extension: &str,
    video: &Path,
) -> Vec<std::ffi::OsString> {
    let rate = format!("{}", f64::from(work.fps.fps) / f64::from(work.fps.base));
    let mut args: Vec<std::ffi::OsString> =
        ["-nostdin", "-hide_banner", "-loglevel", "warning", "-y", "-framerate"]
            .map(Into::into)
            .into();
    args.push(rate.into());
    if matches!(extension, "exr" | "hdr") {
        // Linear light, which a video is not.
        args.extend(["-apply_trc", "iec61966_2_1"].map(Into::into));
    }
    args.extend(["-start_number".into(), "0".into(), "-i".into()]);
    args.push(inputs.join(format!("%08d.{extension}")).into());
    args.extend(
        [
            "-vf",
            "scale=trunc(iw/2)*2:trunc(ih/2)*2",
            "-c:v",
            "libx264",
            "-preset",
            "fast",
            "-crf",
            "20",
            "-pix_fmt",
            "yuv420p",
            "-movflags",
            "+faststart",
        ]
        .map(Into::into),
    );
    args.push(video.into());
    args
}

/// The main picture of every frame, in order. Of several views the first.
async fn frames(
    workshop: &Workshop,
    assignment: &Assignment,
    work: &VideoWork,
) -> Result<Vec<Output>, Failure> {
    let connection = workshop.supply.connected().await.map_err(|error| host(&error.to_string()))?;
    let (mut frames, mut after) = (Vec::new(), 0);
    loop {
        let query = OutputsQuery { job: assignment.task.job, step: Some(work.source), after };
        let page = match exchange::call(&connection, Request::Outputs(query)).await {
            Ok(Response::Outputs(page)) => page,
            Ok(Response::Refused(refusal)) => return Err(host(&refusal.message)),
            Ok(_) => return Err(host("the coordinator's answer makes no sense")),
            Err(error) => return Err(host(&error.to_string())),
        };
        frames.extend(
            page.rows.into_iter().map(|row| row.output).filter(|o| o.role == OutputRole::Frame),
        );
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    frames.sort_by(|a, b| (a.frame, &a.name).cmp(&(b.frame, &b.name)));
    frames.dedup_by_key(|output| output.frame);
    Ok(frames)
}

fn common_extension(frames: &[Output]) -> Result<String, Failure> {
    let extension = |output: &Output| {
        Path::new(output.name.as_str()).extension().map(|e| e.to_string_lossy().into_owned())
    };
    let first = frames.first().and_then(extension);
    first.ok_or_else(|| {
        Failure::new(FailureKind::Scene, "there are no frames that a video could be made of")
    })
}

async fn fetch(workshop: &Workshop, output: &Output, target: &Path) -> Result<(), Failure> {
    workshop
        .supply
        .fetch(output.blob)
        .await
        .map_err(|error| host(&format!("{} cannot be fetched: {error}", output.name)))?;
    link_or_copy(&workshop.supply.store.path(output.blob.hash), target)
        .map_err(|error| host(&format!("{} cannot be laid out: {error}", output.name)))
}

fn host(reason: &str) -> Failure {
    Failure::new(FailureKind::Host, reason)
}
