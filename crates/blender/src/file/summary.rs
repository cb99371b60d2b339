//! What the scenes of a file ask for.

use std::collections::BTreeSet;

use grange_protocol::frames::BadFrames;
use grange_protocol::job::{Engine, FrameRate, SceneNeeds};
use grange_protocol::shot::Resolution;
use grange_protocol::{BlenderVersion, FrameSet};

use super::document::{Document, Shelf};
use super::error::ReadError;
use super::output::OutputSettings;
use super::scene;

/// The scenes of a file, and who saved it.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The Blender that saved the file.
    pub saved_by: BlenderVersion,
    /// The name of the scene that renders unless another is asked for: one of `scenes`.
    pub active_scene: String,
    /// In the file's order, never none.
    pub scenes: Vec<SceneSummary>,
}

/// A scene's settings, as they are without animation.
#[derive(Clone, Debug, PartialEq)]
pub struct SceneSummary {
    pub name: String,
    pub engine: Engine,
    pub frame_start: i32,
    pub frame_end: i32,
    /// The frame that was shown when the file was saved.
    pub frame_current: i32,
    /// Every how many-th frame an animation renders; at least 1.
    pub frame_step: u32,
    /// The camera that renders, unless a marker binds another.
    pub camera: Option<String>,
    /// All cameras in the scene's collections, linked ones too; sorted, each name once.
    pub cameras: Vec<String>,
    /// Cameras that markers bind to frames, by frame.
    pub marker_cameras: Vec<MarkerCamera>,
    pub view_layers: Vec<ViewLayer>,
    /// Pixels before the percentage.
    pub resolution: Resolution,
    pub resolution_percentage: u32,
    pub frame_rate: FrameRate,
    /// Samples per pixel that its engine takes; `None` if the engine has no such number.
    pub samples: Option<u32>,
    pub output: OutputSettings,
    /// Whether its compositor changes the picture.
    pub uses_compositor: bool,
    /// Whether the picture comes from strips of its sequencer.
    pub uses_sequencer: bool,
    /// Whether File Output nodes write pictures besides the main one.
    pub writes_files: bool,
    /// Whether Cycles denoises; the file's version decides where the file does not.
    pub denoises: bool,
}

/// A camera that a marker of the timeline binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkerCamera {
    /// It renders from this frame on.
    pub frame: i32,
    pub camera: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewLayer {
    pub name: String,
    /// Whether it takes part in renders.
    pub renders: bool,
}

impl Summary {
    pub fn scene(&self, name: &str) -> Option<&SceneSummary> {
        self.scenes.iter().find(|scene| scene.name == name)
    }

    /// What some of the scenes ask of a Blender together.
    pub fn needs_of<'a>(&self, scenes: impl IntoIterator<Item = &'a SceneSummary>) -> SceneNeeds {
        let mut needs =
            SceneNeeds { saved_by: self.saved_by, engines: BTreeSet::new(), denoiser: false };
        for scene in scenes {
            needs.engines.insert(scene.engine.clone());
            needs.denoiser |= scene.denoises && scene.engine == Engine::Cycles;
        }
        needs
    }

    /// How many things it has in all.
    pub(super) fn size(&self) -> usize {
        self.scenes.iter().map(SceneSummary::size).sum()
    }

    /// The scene that renders unless another is asked for.
    pub fn active(&self) -> &SceneSummary {
        self.scene(&self.active_scene).unwrap_or(&self.scenes[0])
    }
}

impl SceneSummary {
    fn size(&self) -> usize {
        let views = self.output.multiview.as_ref().map_or(0, |views| views.suffixes.len());
        1 + self.cameras.len() + self.marker_cameras.len() + self.view_layers.len() + views
    }

    /// The frames of its animation. The error says what is wrong with its range.
    pub fn frames(&self) -> Result<FrameSet, BadFrames> {
        FrameSet::range(self.frame_start, self.frame_end, self.frame_step)
    }
}

pub(super) fn read(document: &Document, shelf: &Shelf) -> Result<Summary, ReadError> {
    let blocks = &document.blocks;
    let linked = blocks.placeholders().filter(|id| id.id_name().starts_with("SC"));
    let (mut scenes, mut size) = (Vec::new(), 0);
    for scene in blocks.datablocks(*b"SC").chain(linked) {
        if shelf.place().check(size).is_err() {
            break;
        }
        let read = shelf.resolve(document, scene, |at, it| scene::read(shelf, at, it)).flatten();
        size += read.as_ref().map_or(0, SceneSummary::size);
        scenes.extend(read);
    }
    let active = blocks.global().and_then(|global| global.follow("curscene"));
    let active = active.map(|scene| scene.name());
    match scenes.first() {
        None => Err(ReadError::NoScene { path: document.path.clone() }),
        Some(first) => Ok(Summary {
            saved_by: blocks.saved_by,
            active_scene: active
                .filter(|name| scenes.iter().any(|scene| scene.name == *name))
                .unwrap_or_else(|| first.name.clone()),
            scenes,
        }),
    }
}
