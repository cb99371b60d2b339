//! From what a person asks of a scene to a job, checked against what the scene has.

use std::path::{Path, PathBuf};

use grange_blender::file::{SceneSummary, Summary};
use grange_protocol::frames::BadFrames;
use grange_protocol::job::{RenderSettings, SceneNeeds};
use grange_protocol::kinds::{Animation, Preview, Shots};
use grange_protocol::name::BadName;
use grange_protocol::shot::{BadShot, Label, OutputPattern, Resolution};
use grange_protocol::{FrameSet, LayoutPath, OutputName, Shot};
use serde::Deserialize;

/// What is asked for all pictures of a job. What is `None` stays as the file has it.
#[derive(Clone, Debug)]
pub struct RenderRequest {
    pub frames: Option<FrameSet>,
    pub scene: Option<String>,
    pub view_layer: Option<String>,
    pub camera: Option<String>,
    pub resolution: Option<Resolution>,
    pub samples: Option<u32>,
    /// The pictures' name, without extension.
    pub output: Option<OutputPattern>,
    /// Frames of one task.
    pub chunk: u32,
    pub settings: RenderSettings,
}

impl Default for RenderRequest {
    fn default() -> Self {
        Self {
            frames: None,
            scene: None,
            view_layer: None,
            camera: None,
            resolution: None,
            samples: None,
            output: None,
            chunk: 1,
            settings: RenderSettings::default(),
        }
    }
}

/// One shot as people write it in a file of `[[shot]]` tables.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShotRequest {
    pub name: String,
    pub scene: Option<String>,
    pub view_layer: Option<String>,
    pub camera: Option<String>,
    /// `12`, or `"1-24"`.
    pub frames: Option<Written<i32>>,
    /// `[1920, 1080]`, or `"1920x1080"`.
    pub resolution: Option<Written<(u32, u32)>>,
    pub samples: Option<u32>,
    /// Without extension; the shot's name if it is not given.
    pub output: Option<String>,
}

/// A value as TOML has it, or as text.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Written<T> {
    Value(T),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShotsFile {
    shot: Vec<ShotRequest>,
}

/// Which cameras `--cameras` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cameras {
    All,
    Named(Vec<String>),
}

impl std::str::FromStr for Cameras {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.trim() {
            "all" => Self::All,
            names => Self::Named(
                names
                    .split(',')
                    .map(str::trim)
                    .filter(|name| !name.is_empty())
                    .map(Into::into)
                    .collect(),
            ),
        })
    }
}

/// The animation of a scene, or the frames of it that are asked for, and if wanted a preview
/// video called after the file.
pub fn animation(
    summary: &Summary,
    blend: &LayoutPath,
    request: &RenderRequest,
    preview: bool,
) -> Result<Animation, RequestError> {
    let scene = scene_of(summary, request.scene.as_deref())?;
    check_shot(scene, request.camera.as_deref(), request.view_layer.as_deref())?;
    let frames = match &request.frames {
        Some(frames) => frames.clone(),
        None => scene.frames()?,
    };
    let stem = Path::new(blend.file_name()).file_stem().unwrap_or_default().to_string_lossy();
    let preview = preview
        .then(|| format!("{stem}-preview.mp4").parse())
        .transpose()?
        .map(|output| Preview { fps: scene.frame_rate, output });
    Ok(Animation {
        blend: blend.clone(),
        needs: needs(summary, [scene], &request.settings),
        settings: request.settings.clone(),
        chunk: request.chunk,
        shot: Shot {
            name: Label::default(),
            scene: label(request.scene.as_deref())?,
            view_layer: label(request.view_layer.as_deref())?,
            camera: label(request.camera.as_deref())?,
            frames,
            resolution: request.resolution,
            samples: request.samples,
            output: request.output.clone().unwrap_or_else(|| scene.output.pattern.clone()),
            extras: None,
        },
        preview,
    })
}

/// Shots of one scene, each to its own name. What a shot leaves open is taken from `request`,
/// then from the file; the frame is the one that the file was saved at.
pub fn shots(
    summary: &Summary,
    blend: &LayoutPath,
    request: &RenderRequest,
    list: &[ShotRequest],
) -> Result<Shots, RequestError> {
    let mut scenes = Vec::new();
    let mut shots = Vec::new();
    for asked in list {
        let scene = scene_of(summary, asked.scene.as_deref().or(request.scene.as_deref()))?;
        shots.push(shot(scene, request, asked).map_err(|error| error.of_shot(&asked.name))?);
        scenes.push(scene);
    }
    Ok(Shots {
        blend: blend.clone(),
        needs: needs(summary, scenes, &request.settings),
        settings: request.settings.clone(),
        chunk: request.chunk,
        shots,
    })
}

fn shot(
    scene: &SceneSummary,
    request: &RenderRequest,
    asked: &ShotRequest,
) -> Result<Shot, RequestError> {
    let camera = asked.camera.as_ref().or(request.camera.as_ref());
    let view_layer = asked.view_layer.as_ref().or(request.view_layer.as_ref());
    check_shot(scene, camera.map(String::as_str), view_layer.map(String::as_str))?;
    let frames = match &asked.frames {
        Some(Written::Value(frame)) => FrameSet::single(*frame),
        Some(Written::Text(text)) => text.parse()?,
        None => request.frames.clone().unwrap_or_else(|| FrameSet::single(scene.frame_current)),
    };
    let resolution = match &asked.resolution {
        Some(Written::Value((width, height))) => Some(format!("{width}x{height}").parse()?),
        Some(Written::Text(text)) => Some(text.parse()?),
        None => request.resolution,
    };
    let output = asked.output.clone().unwrap_or_else(|| file_name_of(&asked.name));
    Ok(Shot {
        name: asked.name.parse()?,
        scene: label(asked.scene.as_deref().or(request.scene.as_deref()))?,
        view_layer: label(view_layer.map(String::as_str))?,
        camera: label(camera.map(String::as_str))?,
        frames,
        resolution,
        samples: asked.samples.or(request.samples),
        output: output.parse()?,
        extras: None,
    })
}

/// One shot for each camera, called after it.
pub fn shots_of_cameras(
    summary: &Summary,
    request: &RenderRequest,
    cameras: &Cameras,
) -> Result<Vec<ShotRequest>, RequestError> {
    let scene = scene_of(summary, request.scene.as_deref())?;
    let names = match cameras {
        Cameras::All if scene.cameras.is_empty() => {
            return Err(RequestError::NoCameras(scene.name.clone()));
        }
        Cameras::All => scene.cameras.clone(),
        Cameras::Named(names) => names.clone(),
    };
    let shot =
        |name: String| ShotRequest { camera: Some(name.clone()), name, ..ShotRequest::default() };
    Ok(names.into_iter().map(shot).collect())
}

/// Reads a file of `[[shot]]` tables.
pub fn read_shots(path: &Path) -> Result<Vec<ShotRequest>, RequestError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| RequestError::Unreadable(path.into(), error.to_string()))?;
    let file: ShotsFile = toml::from_str(&text)
        .map_err(|error| RequestError::Unreadable(path.into(), error.to_string()))?;
    Ok(file.shot)
}

/// The pictures of a shot that a folder should have, by frame. A scene that is set to a movie gets
/// PNGs.
pub fn pictures_of(
    summary: &Summary,
    shot: &Shot,
    frame: i32,
) -> Result<Vec<OutputName>, RequestError> {
    let scene = scene_of(summary, shot.scene.as_ref().map(Label::as_str))?;
    if scene.output.format.is_movie {
        return Ok(vec![format!("{}.png", shot.output.expand(frame)).parse()?]);
    }
    Ok(scene.output.pictures(&shot.output, frame)?)
}

fn scene_of<'a>(
    summary: &'a Summary,
    name: Option<&str>,
) -> Result<&'a SceneSummary, RequestError> {
    match name {
        None => Ok(summary.active()),
        Some(name) => summary.scene(name).ok_or_else(|| RequestError::Unknown {
            what: "scene",
            name: name.into(),
            there_are: list(summary.scenes.iter().map(|scene| scene.name.as_str())),
        }),
    }
}

fn check_shot(
    scene: &SceneSummary,
    camera: Option<&str>,
    view_layer: Option<&str>,
) -> Result<(), RequestError> {
    if let Some(name) = camera
        && !scene.cameras.iter().any(|camera| camera == name)
    {
        let there_are = list(scene.cameras.iter().map(String::as_str));
        return Err(RequestError::Unknown { what: "camera", name: name.into(), there_are });
    }
    if let Some(name) = view_layer
        && !scene.view_layers.iter().any(|layer| layer.name == name)
    {
        let there_are = list(scene.view_layers.iter().map(|layer| layer.name.as_str()));
        return Err(RequestError::Unknown { what: "view layer", name: name.into(), there_are });
    }
    let has_camera = camera.is_some()
        || scene.camera.is_some()
        || !scene.marker_cameras.is_empty()
        || scene.uses_sequencer;
    if has_camera {
        return Ok(());
    }
    Err(RequestError::NoCamera {
        scene: scene.name.clone(),
        there_are: list(scene.cameras.iter().map(String::as_str)),
    })
}

fn needs<'a>(
    summary: &Summary,
    scenes: impl IntoIterator<Item = &'a SceneSummary>,
    settings: &RenderSettings,
) -> SceneNeeds {
    let mut needs = summary.needs_of(scenes);
    needs.denoiser &= !settings.allow_no_denoiser;
    needs
}

fn label(text: Option<&str>) -> Result<Option<Label>, RequestError> {
    Ok(text.map(str::parse).transpose()?)
}

/// A shot's name as a file's: what names of files cannot have becomes `_`.
fn file_name_of(name: &str) -> String {
    let clean =
        |c: char| if c.is_control() || matches!(c, '/' | '\\' | ':' | '#') { '_' } else { c };
    let cleaned: String = name.trim().chars().map(clean).collect();
    if matches!(cleaned.as_str(), "." | "..") { "_".into() } else { cleaned }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        "there is none".into()
    } else {
        format!("there are: {}", names.join(", "))
    }
}

/// Each is a whole sentence for the person who asks.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("the scene has no {what} `{name}` ({there_are})")]
    Unknown { what: &'static str, name: String, there_are: String },
    #[error(
        "scene `{scene}` has no camera to render with: set one in Blender, or name one with --camera \
         ({there_are})"
    )]
    NoCamera { scene: String, there_are: String },
    #[error("scene `{0}` has no cameras: add some in Blender")]
    NoCameras(String),
    #[error("shot `{shot}`: {error}")]
    Shot { shot: String, error: Box<RequestError> },
    #[error("the list of shots {0} cannot be used: {1}")]
    Unreadable(PathBuf, String),
    #[error(transparent)]
    Frames(#[from] BadFrames),
    #[error(transparent)]
    Word(#[from] BadShot),
    #[error(transparent)]
    Name(#[from] BadName),
}

impl RequestError {
    fn of_shot(self, shot: &str) -> Self {
        Self::Shot { shot: shot.into(), error: Box::new(self) }
    }
}
