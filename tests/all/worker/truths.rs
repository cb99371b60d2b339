//! Ground truths against closed forms, with every Blender.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use grange_blender::instance::{
    CallId, CallOrder, InstanceEvent, Order, RenderId, RenderOrder, Rendered, SessionFrame,
};
use grange_blender::truths::{PASSES, split};
use grange_blender::verify::verify;
use grange_protocol::agent::{DeviceKind, Failure};
use grange_protocol::job::RenderSettings;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::live::{Live, every_blender, shot};
use crate::runtimes::blender;
use crate::support::pictures::{channels, pixels};
use crate::support::scenes::truth_scenes;

const WIDTH: usize = 96;
const HEIGHT: usize = 64;
/// Focal length, in pixels: the lens is as long as the sensor is wide.
const FOCAL: f32 = 96.0;

type Vector = [f32; 3];
type Pixel = (usize, usize);

/// A Blender with a scene open, driven as a session drives it.
struct Driven {
    live: Live,
    dir: TempDir,
    orders: u64,
}

/// What came of a frame: its picture, and its ground truths by the folders that they are in.
struct Framed {
    rendered: Rendered,
    truths: BTreeMap<String, Picture>,
    dir: PathBuf,
}

/// Channels of an EXR by name.
struct Picture(BTreeMap<String, Vec<f32>>);

impl Driven {
    async fn with(program: &Path, blend: &str) -> Self {
        let live = Live::with(program, &truth_scenes().join(blend)).await;
        Self { live, dir: TempDir::new().unwrap(), orders: 1000 }
    }

    fn scratch(&mut self) -> (u64, PathBuf) {
        self.orders += 1;
        (self.orders, self.dir.path().join(self.orders.to_string()))
    }

    /// What the operation returned, or the message of what it raised.
    async fn call(&mut self, operation: &str, arguments: Value) -> Result<Value, String> {
        let (id, scratch) = self.scratch();
        let operation = operation.into();
        let call = CallOrder {
            id: CallId(id),
            operation,
            arguments,
            device: DeviceKind::Cpu,
            device_pci: None,
            scratch,
        };
        self.live.instance.send(Order::Call(Box::new(call))).unwrap();
        match self.live.event().await {
            InstanceEvent::Returned { value, .. } => Ok(value),
            InstanceEvent::Raised { raised, .. } => Err(raised.message),
            other => panic!("a call was answered with {other:?}"),
        }
    }

    async fn include(&mut self, operations: &[(&str, Value)]) {
        for (operation, arguments) in operations {
            self.call(operation, arguments.clone()).await.unwrap();
        }
    }

    async fn render(&mut self, frame: i32) -> Result<Framed, Failure> {
        let (id, scratch) = self.scratch();
        let number = format!("{frame:06}");
        let mut shot = shot(&format!("7/frames/frame_{number}"));
        shot.extras = Some("7".parse().unwrap());
        let order = RenderOrder {
            id: RenderId(id),
            shot,
            frame,
            settings: RenderSettings::default(),
            device: DeviceKind::Cpu,
            device_pci: None,
            threads: None,
            session: Some(SessionFrame { number }),
            scratch: scratch.clone(),
        };
        self.live.instance.send(Order::Render(Box::new(order))).unwrap();
        loop {
            match self.live.event().await {
                InstanceEvent::Progress(_) => {}
                InstanceEvent::Failed { failure, .. } => return Err(failure),
                InstanceEvent::Rendered(rendered) => return Ok(Framed::of(rendered, &scratch)),
                other => panic!("not expected now: {other:?}"),
            }
        }
    }
}

impl Framed {
    fn of(rendered: Rendered, scratch: &Path) -> Self {
        let dir = scratch.join("split");
        let mut truths = BTreeMap::new();
        if !rendered.truths.is_empty() {
            let passes = File::open(scratch.join(PASSES)).unwrap();
            for file in split(passes, &rendered.truths, &dir).unwrap() {
                verify(&file.path).unwrap();
                let folder = file.name.as_str().split('/').nth(1).unwrap().to_owned();
                if file.name.as_str().ends_with(".exr") {
                    truths.insert(folder, Picture::read(&file.path));
                }
            }
        }
        Self { rendered, truths, dir }
    }

    fn pose(&self) -> [[f32; 4]; 4] {
        serde_json::from_value(self.rendered.data["transform_matrix"].clone()).unwrap()
    }

    /// Where a point of the world is in the picture, in pixels from its upper left corner.
    fn project(&self, point: Vector) -> [f32; 2] {
        let [x, y, z] = seen_from(self.pose(), point);
        [48.0 + FOCAL * x / -z, 32.0 - FOCAL * y / -z]
    }

    fn at(&self, truth: &str, channels: &str, pixel: Pixel) -> Vec<f32> {
        let picture = &self.truths[truth].0;
        channels.chars().map(|c| picture[&c.to_string()][pixel.1 * WIDTH + pixel.0]).collect()
    }

    fn vector(&self, truth: &str, pixel: Pixel) -> Vector {
        self.at(truth, "RGB", pixel).try_into().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        let files = &self.rendered.files;
        let found = files.iter().find(|file| file.name.as_str() == name);
        found.unwrap_or_else(|| panic!("no {name} in {files:?}")).path.clone()
    }
}

impl Picture {
    fn read(path: &Path) -> Self {
        let (width, height, channels) = channels(path);
        assert_eq!((width, height), (WIDTH, HEIGHT));
        Self(channels)
    }

    fn channels(&self) -> String {
        self.0.keys().map(String::as_str).collect()
    }
}

/// A point of the world in the camera's space.
fn seen_from(pose: [[f32; 4]; 4], point: Vector) -> Vector {
    let away: Vector = std::array::from_fn(|row| point[row] - pose[row][3]);
    std::array::from_fn(|column| (0..3).map(|row| pose[row][column] * away[row]).sum())
}

/// The ray through a pixel's centre, in the camera's space, at depth 1.
fn ray(pixel: Pixel) -> Vector {
    [(pixel.0 as f32 + 0.5 - 48.0) / FOCAL, (32.0 - pixel.1 as f32 - 0.5) / FOCAL, -1.0]
}

/// The point of the world at a depth behind a pixel's centre.
fn unprojected(pose: [[f32; 4]; 4], pixel: Pixel, depth: f32) -> Vector {
    let [x, y, z] = ray(pixel).map(|one| one * depth);
    std::array::from_fn(|row| pose[row][0] * x + pose[row][1] * y + pose[row][2] * z + pose[row][3])
}

#[track_caller]
fn near(found: &[f32], expected: &[f32], within: f32) {
    let same = found.len() == expected.len()
        && found.iter().zip(expected).all(|(a, b)| a == b || (a - b).abs() <= within);
    assert!(same, "{found:?} is not {expected:?}");
}

/// Pixels that show a number, some way inside of its object.
fn inside(framed: &Framed, number: f32) -> Vec<Pixel> {
    let shows = |x: usize, y: usize| framed.at("segmentations", "Y", (x, y)) == [number];
    let all = (2..HEIGHT - 2).flat_map(|y| (2..WIDTH - 2).map(move |x| (x, y)));
    let around = |x: usize, y: usize| {
        (y - 2..=y + 2).flat_map(move |y| (x - 2..=x + 2).map(move |x| (x, y)))
    };
    let found: Vec<_> = all.filter(|(x, y)| around(*x, *y).all(|(x, y)| shows(x, y))).collect();
    assert!(!found.is_empty(), "nothing shows {number}");
    found
}

#[track_caller]
fn number_of(ids: &Value, name: &str) -> f32 {
    let ids: BTreeMap<String, String> = serde_json::from_value(ids.clone()).unwrap();
    let found = ids.iter().find(|(_, known)| *known == name);
    found.unwrap_or_else(|| panic!("no {name} in {ids:?}")).0.parse().unwrap()
}

/// Where the middle of an object is in the picture of frame 12, for its place in the world.
fn pixel_of(framed: &Framed, point: Vector) -> Pixel {
    let [x, y] = framed.project(point);
    (x as usize, y as usize)
}

#[tokio::test(flavor = "multi_thread")]
async fn truths_are_those_that_geometry_gives() {
    for program in every_blender() {
        let mut driven = Driven::with(&program, "truths.blend").await;
        let debug = json!({"debug": true});
        let ids = driven.call("include_segmentations", debug.clone()).await.unwrap();
        let materials = driven.call("include_materials", debug.clone()).await.unwrap();
        let world = json!({"space": "world", "debug": true});
        driven.include(&[("include_depths", debug.clone()), ("include_normals", world)]).await;
        for operation in ["flows", "diffuses", "speculars", "points"] {
            driven.include(&[(&format!("include_{operation}"), debug.clone())]).await;
        }
        let framed = driven.render(12).await.unwrap();
        files_are_named(&framed);
        depths(&framed, &ids);
        moved_object(&framed, &ids);
        numbers(&framed, &ids, &materials);
        colors(&framed, &ids);
        points(&framed);
        marks(&framed, &ids);

        driven.include(&[("include_normals", json!({"space": "camera"}))]).await;
        moved_camera(&driven.render(30).await.unwrap(), &ids);

        let framed = driven.render(50).await.unwrap();
        points(&framed);
        marks(&framed, &ids);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn normals_are_a_spheres() {
    for program in every_blender() {
        let mut driven = Driven::with(&program, "sharp.blend").await;
        let ids = driven.call("include_segmentations", json!({})).await.unwrap();
        let world = json!({"space": "world", "debug": true});
        driven.include(&[("include_points", json!({})), ("include_normals", world)]).await;
        for frame in [12, 50] {
            spheres(&driven.render(frame).await.unwrap(), &ids, |normal| normal);
        }
        driven.include(&[("include_normals", json!({"space": "camera"}))]).await;
        let framed = driven.render(50).await.unwrap();
        let pose = framed.pose();
        spheres(&framed, &ids, |normal| {
            std::array::from_fn(|column| (0..3).map(|row| pose[row][column] * normal[row]).sum())
        });
    }
}

fn files_are_named(framed: &Framed) {
    let mut files = Vec::new();
    for folder in fs::read_dir(framed.dir.join("7")).unwrap() {
        let folder = folder.unwrap();
        for file in fs::read_dir(folder.path()).unwrap() {
            let (folder, file) = (folder.file_name(), file.unwrap().file_name());
            files.push(format!("{}/{}", folder.to_str().unwrap(), file.to_str().unwrap()));
        }
    }
    files.sort();
    let kinds = ["depth", "diffuse", "flow", "material", "normal", "points", "segmentation"];
    let mut expected: Vec<_> = kinds
        .into_iter()
        .chain(["specular"])
        .flat_map(|kind| {
            let folder = if kind == "points" { "points".into() } else { format!("{kind}s") };
            let file = format!("{folder}/{kind}_000012.exr");
            assert_eq!(framed.rendered.data[format!("{kind}_file_path")], json!(file));
            [file, format!("{folder}/debug_{kind}_000012.png")]
        })
        .collect();
    expected.sort();
    assert_eq!(files, expected);
    assert_eq!(framed.truths["flows"].channels(), "ABGR");
    assert_eq!(framed.truths["depths"].channels(), "Y");
    framed.file("7/frames/frame_000012.png");
}

fn depths(framed: &Framed, ids: &Value) {
    for pixel in inside(framed, number_of(ids, "Facing")) {
        near(&framed.at("depths", "Y", pixel), &[10.0], 1e-5);
    }
    for pixel in inside(framed, number_of(ids, "Tilted")) {
        // y = 0.75 (x + 0.9), and x = depth × ray.
        let depth = (10.0 + 0.75 * 0.9) / (1.0 - 0.75 * ray(pixel)[0]);
        near(&framed.at("depths", "Y", pixel), &[depth], 1e-4);
        near(&framed.vector("normals", pixel), &[0.6, -0.8, 0.0], 1e-5);
    }
    assert_eq!(framed.at("depths", "Y", (0, 0)), [f32::INFINITY]);
    assert_eq!(framed.vector("normals", (0, 0)), [0.0; 3]);
}

fn spheres(framed: &Framed, ids: &Value, turned: impl Fn(Vector) -> Vector) {
    let center = [2.8, 0.0, 1.4];
    for pixel in inside(framed, number_of(ids, "Ball")) {
        let point = framed.vector("points", pixel);
        let normal: Vector = std::array::from_fn(|axis| (point[axis] - center[axis]) / 1.2);
        near(&framed.vector("normals", pixel), &turned(normal), 2e-3);
        let length = framed.vector("normals", pixel).iter().map(|one| one * one).sum::<f32>();
        near(&[length], &[1.0], 1e-5);
    }
}

fn moved_object(framed: &Framed, ids: &Value) {
    // 9.6 pixels a unit; it came by (0.5, 0.25) and goes on by (0.25, 0.5), upwards.
    for pixel in inside(framed, number_of(ids, "Mover")) {
        near(&framed.at("flows", "RGBA", pixel), &[2.4, -4.8, -4.8, 2.4], 1e-3);
    }
    for pixel in inside(framed, number_of(ids, "Cube.B")) {
        near(&framed.at("flows", "RGBA", pixel), &[0.0; 4], 1e-3);
    }
}

/// The camera goes half a unit to the right each frame: what it sees goes to the left.
fn moved_camera(framed: &Framed, ids: &Value) {
    for pixel in inside(framed, number_of(ids, "Cube.C")) {
        let depth = framed.at("depths", "Y", pixel)[0];
        let shift = 0.5 * FOCAL / depth;
        near(&framed.at("flows", "RGBA", pixel), &[-shift, 0.0, shift, 0.0], 0.02);
    }
}

fn numbers(framed: &Framed, ids: &Value, materials: &Value) {
    let cubes = [("Cube.A", -0.5, "Cube.A"), ("Cube.B", 1.2, "Cube.B"), ("Cube.C", 3.1, "Cube.A")];
    for (name, x, material) in cubes {
        let pixel = pixel_of(framed, [x, -0.5, -2.0]);
        assert_eq!(framed.at("segmentations", "Y", pixel), [number_of(ids, name)]);
        assert_eq!(framed.at("materials", "Y", pixel), [number_of(materials, material)]);
    }
    assert_eq!(framed.at("segmentations", "Y", (0, 0)), [0.0]);
    assert_eq!(framed.at("materials", "Y", (0, 0)), [0.0]);
}

fn colors(framed: &Framed, ids: &Value) {
    for pixel in inside(framed, number_of(ids, "Cube.B")) {
        near(&framed.vector("diffuses", pixel), &[0.2, 0.4, 0.6], 1e-5);
        assert_eq!(framed.vector("speculars", pixel), [0.0; 3]);
    }
    for pixel in inside(framed, number_of(ids, "Facing")) {
        let [r, g, b] = framed.vector("speculars", pixel);
        assert!(r > 0.0, "nothing is reflected");
        near(&[g / r, b / r], &[2.0, 3.0], 1e-3);
        near(&framed.vector("diffuses", pixel), &[0.0; 3], 1e-5);
    }
}

fn points(framed: &Framed) {
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let depth = framed.at("depths", "Y", (x, y))[0];
            let expected = match depth.is_finite() {
                true => unprojected(framed.pose(), (x, y), depth),
                false => [0.0; 3],
            };
            near(&framed.vector("points", (x, y)), &expected, 1e-3);
        }
    }
}

fn marks(framed: &Framed, ids: &Value) {
    let pixel = pixel_of(framed, [0.3, 1.0, 0.1]);
    assert_eq!(framed.at("segmentations", "Y", pixel), [number_of(ids, "Mark")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_decides_what_comes() {
    for program in every_blender() {
        let mut driven = Driven::with(&program, "truths.blend").await;
        let named = json!({"ids": {"Cube.A": 5, "Cube.B": 300, "Cube.C": 5}, "codec": "PXR24"});
        let ids = driven.call("include_segmentations", named).await.unwrap();
        assert_eq!(ids, json!({"5": "Cube.A, Cube.C", "300": "Cube.B"}));
        let forward = json!({"direction": "forward", "codec": "NONE"});
        driven.include(&[("include_flows", forward), ("include_depths", json!({}))]).await;
        driven.include(&[("exclude", json!({"kind": "depths"}))]).await;
        let framed = driven.render(12).await.unwrap();
        assert_eq!(framed.truths.keys().collect::<Vec<_>>(), ["flows", "segmentations"]);
        let at = |x| framed.at("segmentations", "Y", pixel_of(&framed, [x, -0.5, -2.0]));
        assert_eq!((at(-0.5), at(1.2), at(-3.0)), (vec![5.0], vec![300.0], vec![0.0]));
        let mover = pixel_of(&framed, [-3.0, 0.0, -1.55]);
        near(&framed.vector("flows", mover), &[2.4, -4.8, 0.0], 1e-3);

        driven.include(&[("include_flows", json!({"direction": "backward"}))]).await;
        let framed = driven.render(12).await.unwrap();
        near(&framed.vector("flows", mover), &[-4.8, 2.4, 0.0], 1e-3);

        driven.include(&[("clear_truths", json!({}))]).await;
        let framed = driven.render(12).await.unwrap();
        assert!(framed.rendered.truths.is_empty());
        assert_eq!(framed.rendered.files.len(), 1);
        refusals(&mut driven).await;
    }
}

async fn refusals(driven: &mut Driven) {
    let mut refused = async |operation: &str, arguments: Value, why: &str| {
        let message = driven.call(operation, arguments).await.unwrap_err();
        assert!(message.contains(why), "{message}");
    };
    let codec = json!({"codec": "DWAA"});
    refused("include_depths", codec, "choose NONE, RLE, ZIPS, ZIP, PIZ, PXR24").await;
    refused("include_normals", json!({"space": "object"}), "choose camera, world").await;
    refused("include_flows", json!({"direction": "up"}), "choose forward, backward, both").await;
    refused("include_segmentations", json!({"ids": {"Cube": 1}}), "no object `Cube`").await;
    refused("include_segmentations", json!({"ids": {"Ball": 40000}}), "0 to 32767").await;
    refused("include_composites", json!({}), "does not composite").await;
    refused("exclude", json!({"kind": "depth map"}), "choose depths, normals").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_scene_cannot_give_is_refused() {
    for program in every_blender() {
        let mut driven = Driven::with(&program, "blurred.blend").await;
        let message = driven.call("include_flows", json!({})).await.unwrap_err();
        assert!(message.contains("motion blur"), "{message}");
        let mut driven = Driven::with(&program, "workbench.blend").await;
        for kind in ["depths", "segmentations", "materials", "points"] {
            let message = driven.call(&format!("include_{kind}"), json!({})).await.unwrap_err();
            assert!(message.contains(&format!("{kind} need Cycles")), "{message}");
        }
    }
}

/// With 3.4 alone: the later ones compile shaders for half a minute where there is no GPU.
#[tokio::test(flavor = "multi_thread")]
async fn eevee_gives_what_it_has() {
    let mut driven = Driven::with(&blender(), "eevee.blend").await;
    for kind in ["depths", "diffuses", "speculars"] {
        driven.include(&[(&format!("include_{kind}"), json!({}))]).await;
    }
    driven.include(&[("include_normals", json!({"space": "world"}))]).await;
    let framed = driven.render(12).await.unwrap();
    let facing = pixel_of(&framed, [-3.5, 0.0, 1.8]);
    near(&framed.at("depths", "Y", facing), &[10.0], 0.02);
    near(&framed.vector("normals", facing), &[0.0, -1.0, 0.0], 2e-3);
    assert_eq!(framed.at("depths", "Y", (0, 0)), [f32::INFINITY]);
    let cube = pixel_of(&framed, [1.2, -0.5, -2.0]);
    near(&framed.vector("diffuses", cube), &[0.2, 0.4, 0.6], 2e-3);
    for kind in ["segmentations", "materials", "flows", "points"] {
        let message = driven.call(&format!("include_{kind}"), json!({})).await.unwrap_err();
        assert!(message.contains(&format!("{kind} need Cycles")), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_before_and_after_compositing_are_those_that_blender_makes() {
    for program in every_blender() {
        // Dithering is off in the plain scene.
        let mut undithered = Driven::with(&program, "truths.blend").await;
        let plain = undithered.render(12).await.unwrap();
        let mut driven = Driven::with(&program, "composited.blend").await;
        let picture = |framed: &Framed| pixels(&framed.file("7/frames/frame_000012.png"));
        driven.include(&[("include_composites", json!({}))]).await;
        let framed = driven.render(12).await.unwrap();
        assert!(picture(&framed) == picture(&plain), "before compositing it is another picture");
        let composite = pixels(&framed.file("7/composites/composite_000012.png")).2;
        let before = picture(&plain).2;
        let unlike = composite.iter().zip(&before).filter(|(a, b)| a != b).count();
        assert!(unlike > before.len() / 2, "it is not composited");
        assert_eq!(
            framed.rendered.data["composite_file_path"],
            json!("composites/composite_000012.png")
        );
        let again = driven.render(12).await.unwrap();
        assert!(pixels(&again.file("7/composites/composite_000012.png")).2 == composite);
    }
}
