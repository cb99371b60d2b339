//! Every program of `examples/python`, with real Blenders.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::{Person, farm_of_blender, nothing_runs};
use crate::runtimes::blender;
use crate::support::pictures::{channels, names, pixels};
use crate::support::scenes::scenes;
use crate::support::told::Told;

/// Pictures of a folder by their names.
fn pictures(folder: &Path) -> Vec<(u32, u32, Vec<u8>)> {
    names(folder).iter().map(|name| pixels(&folder.join(name))).collect()
}

fn frames(of: impl IntoIterator<Item = u32>) -> Vec<String> {
    of.into_iter().map(|frame| format!("frames/frame_{frame:06}.png")).collect()
}

#[test]
fn an_animation_is_the_same_from_one_process_one_instance_several_and_a_pool() {
    let alone = TempDir::new().unwrap();
    let scene = scenes().join("around.blend");
    let pattern = alone.path().join("frame_######");
    let mut command = Command::new(blender());
    Told::by(command.arg("-b").arg(&scene).arg("-o").arg(pattern).arg("-a")).well();
    let alone = pictures(alone.path());
    assert_eq!(alone.len(), 24);
    assert!(alone.windows(2).all(|pair| pair[0] != pair[1]), "the scene moves");

    let farm = farm_of_blender(2);
    let person = Person::of(&farm);
    let of_one = person.out().join("one");
    let told = Told::by(person.example("one.py").arg(&scene).arg(&of_one));
    // It is no terminal: progress comes as lines.
    assert!(told.well().contains("100 %, 1 of 1 done"));
    let of_several = person.out().join("several");
    let told = Told::by(person.example("several.py").arg(&scene).arg(&of_several));
    assert!(told.well().contains("100 %, 1 of 1 done"));
    let of_pool = person.out().join("pool");
    let parts = Told::by(person.story("blenders.py", "pool").arg(&scene).arg(&of_pool)).json();
    let expected: Vec<Vec<String>> = (1..5).map(|first| frames((first..25).step_by(4))).collect();
    assert_eq!(parts, serde_json::json!(expected));

    for folder in [of_one, of_several, of_pool] {
        assert_eq!(names(&folder), frames(1..25));
        for (frame, (here, there)) in pictures(&folder).iter().zip(&alone).enumerate() {
            assert!(here == there, "frame {} of {} differs", frame + 1, folder.display());
        }
    }
    nothing_runs(&farm);
}

#[test]
fn scenes_go_through_a_pool_and_one_that_fails_leaves_the_others_alone() {
    let farm = farm_of_blender(2);
    let person = Person::of(&farm);
    let scene = |name: &str| scenes().join(name).with_extension("blend");
    let (plain, bars) = (person.out().join("plain"), person.out().join("bars"));

    let mut command = person.example("pool_simple.py");
    let told = Told::by(command.args(["turn", "skybox"].map(scene)).arg(&plain)).well();
    assert_eq!(told, "turn: 4 frames\nskybox: 4 frames\n");
    let of_each = |scenes: [&str; 2]| -> Vec<String> {
        let each = |scene| frames(1..5).into_iter().map(move |frame| format!("{scene}/{frame}"));
        scenes.into_iter().flat_map(each).collect()
    };
    assert_eq!(names(&plain), of_each(["skybox", "turn"]));
    pictures(&plain);

    let mut command = person.example("pool_with_bars.py");
    let told = Told::by(command.args(["turn", "no_camera", "hair"].map(scene)).arg(&bars));
    assert!(told.stdout.contains("100 %, 3 of 3 done, 1 of them failed"), "{told:?}");
    let told = told.fails(1, "no_camera.blend: scene `Scene` has no camera");
    assert_eq!(told.stderr.lines().count(), 1, "{told:?}");
    assert_eq!(names(&bars), of_each(["hair", "turn"]));
    assert!(pictures(&bars)[4..] == pictures(&plain)[4..], "the same scene, the same pictures");
    nothing_runs(&farm);
}

#[test]
fn a_camera_path_makes_a_data_set() {
    let farm = farm_of_blender(1);
    let person = Person::of(&farm);
    let out = person.out();
    let mut command = person.example("custom_camera_path.py");
    command.arg(scenes().join("turn.blend")).arg(&out);
    Told::by(command.args(["--frames", "5", "--radius", "7", "--height", "3"])).well();
    let mut expected = Vec::new();
    for frame in 1..6 {
        for (kind, of) in [("depth", "depths"), ("segmentation", "segmentations")] {
            expected.push(format!("{of}/{kind}_{frame:06}.exr"));
            expected.push(format!("{of}/debug_{kind}_{frame:06}.png"));
        }
        expected.push(format!("frames/frame_{frame:06}.png"));
    }
    expected.extend(["segmentation.json".into(), "transforms.json".into()]);
    expected.sort();
    assert_eq!(names(&out), expected);
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(out.join(name)).unwrap()).unwrap()
    };
    assert_eq!(read("segmentation.json"), serde_json::json!({ "1": "Cube" }));
    let transforms = read("transforms.json");
    let number = |key: &str| transforms[key].as_f64().unwrap();
    assert_eq!((number("w"), number("h"), number("cx"), number("cy")), (64.0, 36.0, 32.0, 18.0));
    let focal = 32.0 / (number("angle_x") / 2.0).tan();
    assert!((number("fl_x") - focal).abs() < 1e-3 && (number("fl_y") - focal).abs() < 1e-3);
    let told = transforms["frames"].as_array().unwrap();
    assert_eq!(told.len(), 5);
    for (at, frame) in told.iter().enumerate() {
        let pose: [[f64; 4]; 4] =
            serde_json::from_value(frame["transform_matrix"].clone()).unwrap();
        let angle = std::f64::consts::TAU * at as f64 / 5.0;
        let place = [7.0 * angle.sin(), -7.0 * angle.cos(), 3.0];
        // The camera looks along its -z, at (0, 0, 1) from seven away and two above.
        let away = [place[0], place[1], 2.0].map(|side| side / 53f64.sqrt());
        for row in 0..3 {
            assert!((pose[row][3] - place[row]).abs() < 1e-4, "{pose:?} is not at {place:?}");
            assert!((pose[row][2] - away[row]).abs() < 1e-4, "{pose:?} looks elsewhere");
        }
        let file = |key: &str| out.join(frame[key].as_str().unwrap());
        assert_eq!(pixels(&file("file_path")).0, 64);
        cube_is_where_it_is(&file("depth_file_path"), &file("segmentation_file_path"), pose, focal);
    }
    nothing_runs(&farm);
}

/// Every pixel that is numbered as the cube's shows a point of it: it turns about z, and goes from
/// -1 to 1.
fn cube_is_where_it_is(depth: &Path, numbers: &Path, pose: [[f64; 4]; 4], focal: f64) {
    let (width, _, depth) = channels(depth);
    let (_, _, numbers) = channels(numbers);
    let mut seen = 0;
    for (at, (depth, number)) in depth["Y"].iter().zip(&numbers["Y"]).enumerate() {
        assert_eq!(depth.is_finite(), *number == 1.0, "there is nothing but the cube");
        if !depth.is_finite() {
            continue;
        }
        seen += 1;
        let (depth, u, v) = (f64::from(*depth), (at % width) as f64, (at / width) as f64);
        let here = [depth * (u + 0.5 - 32.0) / focal, depth * (17.5 - v) / focal, -depth, 1.0];
        let point = pose.map(|row| (0..4).map(|at| row[at] * here[at]).sum::<f64>());
        let off = point[0].hypot(point[1]);
        assert!(off < 1.4143 && point[2].abs() < 1.001, "{point:?} is not on the cube");
    }
    assert!(seen > 100, "{seen} pixels of the cube");
}

#[test]
fn operations_of_ones_own_are_called_like_all_others() {
    let farm = farm_of_blender(1);
    let person = Person::of(&farm);
    let folder = TempDir::new().unwrap();
    // Without its texture, which it says when it is sent and when it is asked.
    let scene = folder.path().join("linked.blend");
    std::fs::copy(scenes().join("linked.blend"), &scene).unwrap();
    let library = folder.path().join("library");
    std::fs::create_dir(&library).unwrap();
    std::fs::copy(scenes().join("library/things.blend"), library.join("things.blend")).unwrap();
    let mut command = person.example("extended_operations.py");
    let told = Told::by(command.arg(&scene).arg(person.out()).args(["--objects", "Things"]));
    assert!(told.stderr.contains("wood.png"), "{told:?}");
    let told = told.well();
    assert!(told.contains("missing: wood") && told.contains("textures/wood.png"), "{told}");
    assert!(told.contains("they lie between [-1."), "{told}");
    assert_eq!(names(&person.out()), ["frames/frame_000001.png"]);
    let (width, height, picture) = pixels(&person.out().join("frames/frame_000001.png"));
    assert_eq!((width, height), (64, 36));
    assert!(picture.iter().any(|byte| *byte != picture[0]), "nothing is to be seen");
}
