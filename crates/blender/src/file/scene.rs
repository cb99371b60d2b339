//! One scene, as [`SceneSummary`] tells it.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use grange_protocol::BlenderVersion;
use grange_protocol::job::{Engine, FrameRate};
use grange_protocol::shot::Resolution;

use super::document::{Document, Shelf};
use super::output;
use super::place::Place;
use super::record::Record;
use super::summary::{MarkerCamera, SceneSummary, ViewLayer};

// Bits of `RenderData.scemode`, the same since 2.5.
const USES_SEQUENCER: i64 = 1;
const USES_COMPOSITOR: i64 = 1 << 6;

/// Collections in collections, node groups in node groups, across libraries: more than anyone
/// nests, less than a stack holds.
const NESTING_MAX: usize = 64;

/// `scene` is a datablock of `document` itself.
pub(super) fn read(shelf: &Shelf, document: &Document, scene: Record<'_>) -> Option<SceneSummary> {
    let render = scene.inside("r")?;
    let saved_by = document.blocks.saved_by;
    let layers = view_layers(shelf.place(), scene);
    let compositor = compositor(scene).filter(|_| render.flag("scemode", USES_COMPOSITOR));
    let mut file_outputs = FileOutputs { shelf, seen: HashSet::new() };
    let number = |field| render.int(field).unwrap_or_default();
    let pixels = |field| number(field).clamp(1, i64::from(u16::MAX)) as u32;
    Some(SceneSummary {
        name: scene.name(),
        engine: Engine::from_id(&render.text("engine")),
        frame_start: number("sfra") as i32,
        frame_end: number("efra") as i32,
        frame_current: number("cfra") as i32,
        frame_step: number("frame_step").clamp(1, i64::from(i32::MAX)) as u32,
        camera: scene.follow("camera").map(|camera| camera.name()),
        cameras: cameras(shelf, document, scene),
        marker_cameras: marker_cameras(scene),
        view_layers: layers.iter().map(|(layer, _)| layer.clone()).collect(),
        resolution: Resolution { width: pixels("xsch"), height: pixels("ysch") },
        resolution_percentage: number("size").clamp(1, i64::from(u16::MAX)) as u32,
        frame_rate: FrameRate {
            fps: number("frs_sec").clamp(1, i64::from(u16::MAX)) as u16,
            base: render.float("frs_sec_base").unwrap_or(1.0) as f32,
        },
        samples: samples(saved_by, scene, &Engine::from_id(&render.text("engine"))),
        output: output::read(document, scene, render)?,
        uses_compositor: compositor.is_some(),
        uses_sequencer: render.flag("scemode", USES_SEQUENCER) && has_strips(scene),
        writes_files: compositor.is_some_and(|tree| {
            let inside = |at: &Document, it: Record<'_>| file_outputs.are_in(at, it, NESTING_MAX);
            shelf.resolve(document, tree, inside).unwrap_or(false)
        }),
        denoises: denoises(saved_by, scene)
            && layers.iter().any(|(layer, denoises)| layer.renders && *denoises),
    })
}

/// Each layer, and whether Cycles may denoise it.
fn view_layers(place: &Place, scene: Record<'_>) -> Vec<(ViewLayer, bool)> {
    const RENDERS: i64 = 1;
    let layers = scene.list("view_layers").take_while(|_| !place.is_late()).map(|layer| {
        let denoises = ["system_properties", "id_properties"]
            .into_iter()
            .find_map(|root| cycles_setting(layer, root, "use_denoising"))
            .map(|on| on != 0);
        let name = layer.text("name");
        (ViewLayer { name, renders: layer.flag("flag", RENDERS) }, denoises.unwrap_or(true))
    });
    layers.collect()
}

fn marker_cameras(scene: Record<'_>) -> Vec<MarkerCamera> {
    let mut markers: Vec<MarkerCamera> = scene
        .list("markers")
        .filter_map(|marker| {
            let camera = marker.follow("camera")?.name();
            Some(MarkerCamera { frame: marker.int("frame")? as i32, camera })
        })
        .collect();
    markers.sort_by_key(|marker| marker.frame);
    markers
}

fn cameras(shelf: &Shelf, document: &Document, scene: Record<'_>) -> Vec<String> {
    let mut walk = CameraWalk { shelf, found: BTreeSet::new(), seen: HashSet::new() };
    if let Some(master) = scene.follow("master_collection") {
        walk.collection(document, master, NESTING_MAX);
    }
    walk.found.into_iter().collect()
}

/// Collects the cameras of a collection and of those inside it, also through libraries.
struct CameraWalk<'a> {
    shelf: &'a Shelf,
    found: BTreeSet<String>,
    /// Collections, by file and name: one may be in several.
    seen: HashSet<(PathBuf, String)>,
}

impl CameraWalk<'_> {
    fn collection(&mut self, document: &Document, collection: Record<'_>, nesting: usize) {
        let fresh = self.seen.insert((document.path.clone(), collection.id_name()));
        if nesting == 0 || !fresh || self.shelf.place().is_late() {
            return;
        }
        for object in collection.list("gobject").filter_map(|link| link.follow("ob")) {
            self.object(document, object);
        }
        for child in collection.list("children").filter_map(|link| link.follow("collection")) {
            let shelf = self.shelf;
            shelf.resolve(document, child, |at, child| self.collection(at, child, nesting - 1));
        }
    }

    fn object(&mut self, document: &Document, object: Record<'_>) {
        const CAMERA: i64 = 11;
        let kind = self.shelf.resolve(document, object, |_, object| object.int("type"));
        if kind.flatten() == Some(CAMERA) {
            self.found.insert(object.name());
        }
    }
}

/// The node tree of the scene's compositor, if it has one that is on.
fn compositor(scene: Record<'_>) -> Option<Record<'_>> {
    // 5.0 still writes `nodetree`, for older versions to read.
    if scene.has("compositing_node_group") {
        return scene.follow("compositing_node_group");
    }
    let on = scene.int("use_nodes").is_some_and(|on| on != 0);
    scene.follow("nodetree").filter(|_| on)
}

/// Looks for nodes that write files in a compositor and in its groups, also through libraries.
struct FileOutputs<'a> {
    shelf: &'a Shelf,
    /// Groups, by file and name: one may be used many times.
    seen: HashSet<(PathBuf, String)>,
}

impl FileOutputs<'_> {
    fn are_in(&mut self, document: &Document, tree: Record<'_>, nesting: usize) -> bool {
        const MUTED: i64 = 1 << 9;
        let fresh = self.seen.insert((document.path.clone(), tree.id_name()));
        if nesting == 0 || !fresh || self.shelf.place().is_late() {
            return false;
        }
        let mut nodes = tree.list("nodes").filter(|node| !node.flag("flag", MUTED));
        nodes.any(|node| match node.text("idname").as_str() {
            "CompositorNodeOutputFile" => true,
            "CompositorNodeGroup" => node.follow("id").is_some_and(|group| {
                let shelf = self.shelf;
                let inside = |at: &Document, it: Record<'_>| self.are_in(at, it, nesting - 1);
                shelf.resolve(document, group, inside).unwrap_or(false)
            }),
            _ => false,
        })
    }
}

/// Whether the sequencer has a strip that can be seen.
fn has_strips(scene: Record<'_>) -> bool {
    const MUTED: i64 = 1 << 5;
    const SOUNDS: [i64; 2] = [4, 5];
    scene.follow("ed").is_some_and(|editing| {
        editing.list("seqbase").any(|strip| {
            let is_sound = strip.int("type").is_some_and(|kind| SOUNDS.contains(&kind));
            !is_sound && !strip.flag("flag", MUTED)
        })
    })
}

fn denoises(saved_by: BlenderVersion, scene: Record<'_>) -> bool {
    // 3.0 changed the default; its Cycles writes the old one into older files.
    let default = saved_by >= BlenderVersion::new(3, 0);
    scene_setting(scene, "use_denoising").map_or(default, |on| on != 0)
}

fn samples(saved_by: BlenderVersion, scene: Record<'_>, engine: &Engine) -> Option<u32> {
    let samples = match engine {
        // 3.0 changed the default here, too.
        Engine::Cycles => scene_setting(scene, "samples")
            .unwrap_or(if saved_by >= BlenderVersion::new(3, 0) { 4096 } else { 128 }),
        Engine::Eevee => scene.inside("eevee")?.int("taa_render_samples")?,
        Engine::Workbench | Engine::Other(_) => return None,
    };
    u32::try_from(samples).ok()
}

/// One of Cycles' settings of a scene; `None` if it was never touched.
fn scene_setting(scene: Record<'_>, name: &str) -> Option<i64> {
    let id = scene.id()?;
    ["system_properties", "properties"].into_iter().find_map(|root| cycles_setting(id, root, name))
}

/// A number or a switch among Cycles' custom properties; `None` if it was never touched.
fn cycles_setting(of: Record<'_>, root: &str, name: &str) -> Option<i64> {
    let setting = property(property(of.follow(root)?, "cycles")?, name)?;
    setting.inside("data")?.int("val")
}

/// A custom property in a group of them.
fn property<'a>(group: Record<'a>, name: &str) -> Option<Record<'a>> {
    group.inside("data")?.list("group").find(|property| property.text("name") == name)
}
