//! Scenes and their settings.

use std::path::PathBuf;

use grange_blender::file::{BlendFile, Multiview, SceneSummary, ViewsFormat};
use grange_protocol::job::Engine;
use serde::Deserialize;

use super::told;

#[derive(Deserialize)]
pub(super) struct Settings {
    file: PathBuf,
    active: String,
    scenes: Vec<Scene>,
}

/// A scene as Blender's Python describes it.
#[derive(Debug, PartialEq, Deserialize)]
struct Scene {
    name: String,
    engine: String,
    frame_current: i32,
    frames: (i32, i32, u32),
    camera: Option<String>,
    cameras: Vec<String>,
    marker_cameras: Vec<(i32, String)>,
    view_layers: Vec<(String, bool)>,
    resolution: (u32, u32, u32),
    rate: (u16, f32),
    filepath: String,
    format: String,
    /// With its dot; none for movies, where Blender does not tell.
    extension: Option<String>,
    is_movie: bool,
    adds_extension: bool,
    multiview: Option<(String, Vec<String>)>,
    uses_compositor: bool,
    writes_files: bool,
    uses_sequencer: bool,
    denoises: bool,
    /// None for engines that have no such number.
    samples: Option<u32>,
    /// The name of frame 7; none if Blender refuses the output path.
    frame_path: Option<String>,
}

pub(super) fn check(settings: &Settings) {
    let file = BlendFile::open(&settings.file).expect("the scenes cannot be read");
    let summary = file.summary().expect("there are no scenes");
    assert_eq!(told::read(&settings.file).0, summary, "read from what was told");
    assert_eq!(summary.active_scene, settings.active);
    assert_eq!(summary.active().name, settings.active);
    assert_eq!(summary.saved_by, file.saved_by());
    assert_eq!(summary.scenes.len(), settings.scenes.len());
    for expected in &settings.scenes {
        let read = summary
            .scene(&expected.name)
            .unwrap_or_else(|| panic!("scene {} is overlooked", expected.name));
        let engine = Engine::from_id(&expected.engine);
        assert_eq!(read.engine, engine, "engine of {}", expected.name);
        assert_eq!(&as_blender_says(read, expected), expected);
        if !expected.is_movie {
            assert_names(read, expected);
        }
    }
}

fn as_blender_says(read: &SceneSummary, expected: &Scene) -> Scene {
    let output = &read.output;
    let markers = read.marker_cameras.iter();
    let layers = read.view_layers.iter();
    Scene {
        name: read.name.clone(),
        engine: expected.engine.clone(),
        frames: (read.frame_start, read.frame_end, read.frame_step),
        frame_current: read.frame_current,
        camera: read.camera.clone(),
        cameras: read.cameras.clone(),
        marker_cameras: markers.map(|marker| (marker.frame, marker.camera.clone())).collect(),
        view_layers: layers.map(|layer| (layer.name.clone(), layer.renders)).collect(),
        resolution: (read.resolution.width, read.resolution.height, read.resolution_percentage),
        rate: (read.frame_rate.fps, read.frame_rate.base),
        filepath: output.filepath.clone(),
        format: output.format.id.into(),
        extension: (!output.format.is_movie).then(|| format!(".{}", output.format.extension)),
        is_movie: output.format.is_movie,
        adds_extension: output.adds_extension,
        multiview: output.multiview.as_ref().map(views),
        uses_compositor: read.uses_compositor,
        writes_files: read.writes_files,
        uses_sequencer: read.uses_sequencer,
        denoises: read.denoises,
        samples: read.samples,
        frame_path: expected.frame_path.clone(),
    }
}

fn views(multiview: &Multiview) -> (String, Vec<String>) {
    let format = match multiview.format {
        ViewsFormat::Individual => "INDIVIDUAL",
        ViewsFormat::Stereo3d => "STEREO_3D",
        ViewsFormat::Multiview => "MULTIVIEW",
    };
    (format.into(), multiview.suffixes.clone())
}

/// The scene's own output path leads to the name that Blender gives to its frames.
fn assert_names(read: &SceneSummary, expected: &Scene) {
    if let Some(name) = &expected.frame_path {
        let pattern = read.output.pattern.numbered();
        let pictures = read.output.pictures(&pattern, 7).expect("a name that cannot be one");
        assert_eq!(pictures[0].as_str(), name, "`{}` of {}", expected.filepath, expected.name);
    }
}
