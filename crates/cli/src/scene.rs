//! From the command line's words about a scene to a packed job.

use anyhow::Context;
use grange_blender::file::{BlendFile, MissingFile, Summary};
use grange_client::Package;
use grange_client::request::{self, RenderRequest};
use grange_protocol::job::RenderSettings;
use grange_protocol::{JobKind, LayoutPath};

use crate::args::Scene;
use crate::print;

/// A scene file, read.
pub(crate) struct Opened {
    pub(crate) file: BlendFile,
    pub(crate) summary: Summary,
    pub(crate) request: RenderRequest,
}

impl Scene {
    /// Reads the file. Nothing else of the scene is touched yet.
    pub(crate) fn open(&self) -> anyhow::Result<Opened> {
        let file = BlendFile::open(&self.file)?;
        let summary = file.summary()?;
        Ok(Opened { file, summary, request: self.request() })
    }

    fn request(&self) -> RenderRequest {
        RenderRequest {
            frames: self.frames.clone(),
            scene: self.scene.clone(),
            view_layer: self.view_layer.clone(),
            camera: self.camera.clone(),
            resolution: self.resolution,
            samples: self.samples,
            output: self.pattern.clone(),
            chunk: self.chunk,
            settings: RenderSettings {
                device: self.device,
                persistent_data: self.persistent_data,
                fine_progress: self.fine_progress,
                allow_no_denoiser: self.allow_no_denoiser,
                allow_missing: self.allow_missing,
                tiles: self.tiles,
            },
        }
    }
}

impl Opened {
    /// Where the file lies, as the farm will know it.
    pub(crate) fn layout_path(&self) -> anyhow::Result<LayoutPath> {
        let path = self.file.path();
        let text =
            path.to_str().with_context(|| format!("{} is not UTF-8: rename it", path.display()))?;
        Ok(text.parse()?)
    }

    /// The job that is asked for, checked against the scene before anything is sent.
    pub(crate) fn kind(&self, scene: &Scene, preview: bool) -> anyhow::Result<JobKind> {
        let blend = self.layout_path()?;
        let list = match (&scene.shots, &scene.cameras) {
            (Some(path), _) => Some(request::read_shots(path)?),
            (None, Some(cameras)) => {
                Some(request::shots_of_cameras(&self.summary, &self.request, cameras)?)
            }
            (None, None) => None,
        };
        Ok(match list {
            Some(list) => {
                JobKind::Shots(request::shots(&self.summary, &blend, &self.request, &list)?)
            }
            None => JobKind::Animation(request::animation(
                &self.summary,
                &blend,
                &self.request,
                preview,
            )?),
        })
    }

    /// Traces and hashes everything that the scene needs. Missing files are refused unless they
    /// are allowed; either way they are named.
    pub(crate) fn pack(&self, allow_missing: bool) -> anyhow::Result<Package> {
        let package = Package::of(&self.file, |_, _| {})?;
        if package.missing.is_empty() {
            return Ok(package);
        }
        if !allow_missing {
            anyhow::bail!(
                "{}\nrestore them, or pass --allow-missing to render without them",
                missing(&package.missing)
            );
        }
        print::note(&missing(&package.missing));
        Ok(package)
    }
}

fn missing(files: &[MissingFile]) -> String {
    const LISTED: usize = 20;
    let count = files.len();
    let what = if count == 1 {
        "1 file that the scene needs is missing"
    } else {
        "files that the scene needs are missing"
    };
    let head = if count == 1 { what.to_owned() } else { format!("{count} {what}") };
    let mut lines: Vec<String> =
        files.iter().take(LISTED).map(|file| format!("  {file}")).collect();
    if count > LISTED {
        lines.push(format!("  … and {} more", count - LISTED));
    }
    format!("{head}:\n{}", lines.join("\n"))
}
