//! Scenes read for clients that cannot: what a .blend file needs, and what its scenes are like.
//!
//! A client tells what it has, and is asked for what matters of the rest until nothing is open
//! ([`grange_blender::file::read_told`]). Nothing is kept between two requests. What a file and its
//! client say is not trusted: the names that are told, the memory and the time of a reading, and
//! how many there are at once have bounds, and a path of the client's is never opened here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use grange_blender::file::{
    self, Bounds, LinkKind, MissingFile, Questions, Reading, SceneSummary, Summary, TOLD_MAX,
    ToldFiles, read_told,
};
use grange_protocol::job::{Engine, FrameRate, SceneNeeds};
use grange_protocol::shot::{OutputPattern, Resolution};
use grange_protocol::{BlenderVersion, BlobHash, LayoutPath};
use grange_store::Store;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use utoipa::openapi::schema::{Object, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::extract::Unread;
use super::openapi::Problems;
use super::{Api, Problem};

/// Readings at once; more wait for a while.
pub(super) const READINGS: usize = 2;
/// How long a reading waits for one of the others to end.
const TURN: Duration = Duration::from_secs(10);
/// How long it may take itself.
const READING: Duration = Duration::from_secs(40);
/// How long all of it may take, with the time in which the request arrives; in seconds.
pub(super) const PATIENCE_S: u64 = 90;
/// Memory for the files of one reading, in bytes.
const MEMORY: u64 = 1 << 30;

/// A scene, and what its client has told of it so far.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ToldScene {
    /// Where the .blend file lies for the client.
    path: LayoutPath,
    #[schema(schema_with = sent_files)]
    files: BTreeMap<LayoutPath, Option<SentFile>>,
    #[serde(default)]
    #[schema(schema_with = listed_folders)]
    folders: BTreeMap<FolderPath, Option<Folder>>,
}

/// A file that the farm has.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SentFile {
    blob: BlobHash,
    /// Length in bytes.
    len: u64,
}

/// The names in a folder, without its own path. Symlinks are what they lead to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Folder {
    #[schema(value_type = Vec<String>)]
    files: BTreeSet<Name>,
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    folders: BTreeSet<Name>,
}

/// A [`LayoutPath`], or the root.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct FolderPath(String);

/// A part of a path.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Name(String);

/// What is asked next, or the scene.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum SceneReading {
    More(SceneQuestions),
    Scene(Box<Scene>),
}

/// What to tell besides what was told. A library that is not there is left out: the listing of its
/// folder says so.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SceneQuestions {
    /// Send these, and name them among `files`.
    libraries: Vec<LayoutPath>,
    /// List these among `folders`.
    folders: Vec<String>,
}

/// Everything that a submission has to say of a .blend file.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Scene {
    blend: LayoutPath,
    /// What belongs in the manifest, with the .blend file itself and its libraries.
    files: Vec<LayoutPath>,
    missing: Vec<AbsentFile>,
    /// Of the active scene.
    needs: SceneNeeds,
    summary: SceneOverview,
}

/// A file that the scene names and that is not there.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AbsentFile {
    /// As the .blend file has it where it means nothing on the client's machine.
    path: String,
    /// `library`, `image`, `udim_tile` …
    #[schema(value_type = String)]
    kind: LinkKind,
    /// The first datablock that names it, for people.
    used_by: String,
    /// One sentence that names the file and the next step.
    problem: String,
}

/// What a .blend file has.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SceneOverview {
    /// The scene that renders unless another is asked for.
    active: String,
    saved_by: BlenderVersion,
    scenes: Vec<SceneView>,
}

/// A scene's settings, as they are without animation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SceneView {
    name: String,
    engine: Engine,
    frame_start: i32,
    frame_end: i32,
    frame_step: u32,
    /// The frame that was shown when the file was saved.
    frame_current: i32,
    frame_rate: FrameRate,
    /// The camera that renders, unless a marker binds another.
    camera: Option<String>,
    /// Sorted, each name once.
    cameras: Vec<String>,
    marker_cameras: Vec<MarkerCamera>,
    view_layers: Vec<ViewLayer>,
    /// The pictures' name, without extension.
    output: OutputPattern,
    /// As Blender's Python calls it: `PNG`, `OPEN_EXR`, `FFMPEG` …
    #[schema(value_type = String)]
    file_format: &'static str,
    /// Without the dot.
    #[schema(value_type = String)]
    extension: &'static str,
    is_movie: bool,
    /// Pixels before the percentage.
    resolution: Resolution,
    resolution_percentage: u32,
    /// Samples per pixel; `null` if the engine has no such number.
    samples: Option<u32>,
    denoises: bool,
    uses_compositor: bool,
    uses_sequencer: bool,
    /// Whether File Output nodes write pictures besides the main one.
    writes_files: bool,
    needs: SceneNeeds,
}

/// A camera that a marker binds, from its frame on.
#[derive(Debug, Serialize, ToSchema)]
struct MarkerCamera {
    frame: i32,
    camera: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct ViewLayer {
    name: String,
    /// Whether it takes part in renders.
    renders: bool,
}

/// Read a scene
///
/// For clients that cannot read .blend files. Send the .blend file as a blob and name it; while the
/// answer has `more`, send and list what it asks for and ask again with all that was told so far.
/// Then the answer has the `scene`: which files to send and what a submission needs to say.
#[utoipa::path(
    post, path = "/api/v1/scenes", tag = "files", operation_id = "read_scene",
    request_body = ToldScene, responses((status = 200, body = SceneReading), Problems),
)]
pub(super) async fn read(
    State(api): State<Api>,
    body: Unread,
) -> Result<Json<SceneReading>, Problem> {
    let turn = tokio::time::timeout(TURN, api.readings.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        return Err(Problem::busy("too many scenes are being read: try again in a moment"));
    };
    let store = api.shared.store.clone();
    let waits = Waits::default();
    let canceled = waits.0.clone();
    let read = spawn_blocking(move || {
        // Kept until the end, also when the client is gone.
        let _turn = turn;
        read_body(&store, &body, canceled)
    });
    Ok(Json(read.await.map_err(|_| Problem::unexpected())??))
}

/// Somebody who waits for a reading; without anybody it ends.
#[derive(Default)]
struct Waits(Arc<AtomicBool>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn read_body(
    store: &Store,
    body: &Unread,
    canceled: Arc<AtomicBool>,
) -> Result<SceneReading, Problem> {
    let told: ToldScene = body.read()?;
    let path = told.path.clone();
    let files = told.files_of(|blob| store.len_of(blob), |blob| store.path(blob))?;
    let bounds = Bounds { memory: MEMORY, until: Instant::now() + READING, canceled };
    match read_told(path.as_str().as_ref(), files, bounds) {
        Ok(Reading::Asks(questions)) => Ok(SceneReading::More(SceneQuestions::of(questions)?)),
        Ok(Reading::Scene { summary, trace }) => {
            Ok(SceneReading::Scene(Box::new(Scene::of(path, &summary, trace)?)))
        }
        Err(error) => Err(invalid(error.to_string())),
    }
}

impl ToldScene {
    /// The same with the store's files; refuses what the store lacks, and what is too much.
    pub(super) fn files_of(
        self,
        len_of: impl Fn(BlobHash) -> Option<u64>,
        path_of: impl Fn(BlobHash) -> PathBuf,
    ) -> Result<ToldFiles, Problem> {
        let in_folders = |folder: &Folder| folder.files.len() + folder.folders.len();
        let names = self.folders.values().flatten().map(in_folders).sum::<usize>();
        let names = names + self.folders.len() + self.files.len();
        if names > TOLD_MAX {
            return Err(invalid(format!(
                "{names} names of files and folders are told, and a scene may have {TOLD_MAX} \
                 beside it: move its files out of folders that have so many others"
            )));
        }
        if !matches!(self.files.get(&self.path), Some(Some(_))) {
            let path = &self.path;
            return Err(invalid(format!("`files` lacks {path}: send it, and name it there")));
        }
        let mut told = ToldFiles::default();
        for (path, file) in self.files {
            let here = match file {
                Some(SentFile { blob, len }) if len_of(blob) == Some(len) => Some(path_of(blob)),
                Some(_) => return Err(lacks(&path)),
                None => None,
            };
            told.blends.insert(path.as_str().into(), here);
        }
        let listed = |Folder { files, folders }: Folder| file::Folder {
            files: files.into_iter().map(|Name(name)| name).collect(),
            folders: folders.into_iter().map(|Name(name)| name).collect(),
        };
        let folders = self.folders.into_iter();
        told.folders =
            folders.map(|(FolderPath(path), folder)| (path.into(), folder.map(listed))).collect();
        Ok(told)
    }
}

impl SceneQuestions {
    fn of(questions: Questions) -> Result<Self, Problem> {
        let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
        let libraries = questions.libraries.into_iter().map(|path| named(text(path)));
        Ok(Self {
            libraries: libraries.collect::<Result<_, _>>()?,
            folders: questions.folders.into_iter().map(text).collect(),
        })
    }
}

impl Scene {
    fn of(blend: LayoutPath, summary: &Summary, trace: file::Trace) -> Result<Self, Problem> {
        let files =
            trace.files.into_iter().map(|file| named(file.path.to_string_lossy().into_owned()));
        Ok(Self {
            blend,
            files: files.collect::<Result<_, _>>()?,
            missing: trace.missing.iter().map(AbsentFile::of).collect(),
            needs: summary.needs_of([summary.active()]),
            summary: SceneOverview {
                active: summary.active_scene.clone(),
                saved_by: summary.saved_by,
                scenes: summary.scenes.iter().map(|scene| SceneView::of(summary, scene)).collect(),
            },
        })
    }
}

impl AbsentFile {
    fn of(missing: &MissingFile) -> Self {
        Self {
            path: missing.path.to_string_lossy().into_owned(),
            kind: missing.kind,
            used_by: missing.used_by.clone(),
            problem: missing.to_string(),
        }
    }
}

impl SceneView {
    fn of(summary: &Summary, scene: &SceneSummary) -> Self {
        let marker = |marker: &file::MarkerCamera| MarkerCamera {
            frame: marker.frame,
            camera: marker.camera.clone(),
        };
        let layer = |layer: &file::ViewLayer| ViewLayer {
            name: layer.name.clone(),
            renders: layer.renders,
        };
        Self {
            name: scene.name.clone(),
            engine: scene.engine.clone(),
            frame_start: scene.frame_start,
            frame_end: scene.frame_end,
            frame_step: scene.frame_step,
            frame_current: scene.frame_current,
            frame_rate: scene.frame_rate,
            camera: scene.camera.clone(),
            cameras: scene.cameras.clone(),
            marker_cameras: scene.marker_cameras.iter().map(marker).collect(),
            view_layers: scene.view_layers.iter().map(layer).collect(),
            output: scene.output.pattern.clone(),
            file_format: scene.output.format.id,
            extension: scene.output.format.extension,
            is_movie: scene.output.format.is_movie,
            resolution: scene.resolution,
            resolution_percentage: scene.resolution_percentage,
            samples: scene.samples,
            denoises: scene.denoises,
            uses_compositor: scene.uses_compositor,
            uses_sequencer: scene.uses_sequencer,
            writes_files: scene.writes_files,
            needs: summary.needs_of([scene]),
        }
    }
}

impl TryFrom<String> for FolderPath {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        match path.as_str() {
            "/" => Ok(Self(path)),
            text => match text.parse::<LayoutPath>() {
                Ok(_) => Ok(Self(path)),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let good = !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0']);
        if good {
            Ok(Self(name))
        } else {
            let name: String = name.chars().take(200).collect();
            Err(format!("`{name}` is not the name of a file in a folder: leave its path out"))
        }
    }
}

fn sent_files() -> Object {
    by_path::<SentFile>(
        "The .blend file and the libraries that were asked for, by their paths; all of them are \
         sent before. `null` is for a library that is there and cannot be read.",
    )
}

fn listed_folders() -> Object {
    by_path::<Folder>(
        "The folders that were asked for, by their paths. `null` is for one that is not there, or \
         cannot be listed.",
    )
}

/// An object whose keys are paths and whose values may be `null`.
fn by_path<T: PartialSchema>(description: &str) -> Object {
    let null = ObjectBuilder::new().schema_type(Type::Null);
    let value = Schema::from(OneOfBuilder::new().item(null).item(T::schema()));
    ObjectBuilder::new().additional_properties(Some(value)).description(Some(description)).build()
}

/// A path of the .blend file's as one that travels.
fn named(path: String) -> Result<LayoutPath, Problem> {
    path.parse().map_err(|_| {
        let path: String = path.chars().filter(|c| !c.is_control()).take(200).collect();
        invalid(format!(
            "{path} has a name that cannot travel (too long, or with control characters): rename it"
        ))
    })
}

fn lacks(path: &LayoutPath) -> Problem {
    let detail = format!("the farm does not have {path}: send it first");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "missing_blobs", detail)
}

fn invalid(detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
}
