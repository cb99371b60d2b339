//! No shared file system: what a scene needs travels, once.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::runtimes::blender;
use crate::support::farm::Farm;
use crate::support::pictures::{names, pixels};
use crate::support::scenes::scenes;

/// A copy of the scene with library and textures, so that it can be hidden from the agent.
fn copy_of_linked(to: &Path) {
    for name in ["linked.blend", "library/things.blend", "textures/wood.png", "textures/sky.png"] {
        let target = to.join(name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(scenes().join(name), target).unwrap();
    }
}

#[test]
fn libraries_and_textures_travel_once_and_resolve_by_relative_and_absolute_paths() {
    let mut farm = Farm::new();
    farm.start_agent("host", &[blender()], &["--engines", "cycles"]);
    farm.wait_for_agents(1);
    let (home, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    copy_of_linked(home.path());
    let scene = home.path().join("linked.blend");
    let (scene, to) = (scene.to_str().unwrap(), out.path().to_str().unwrap());

    let submitted = farm.grange(&["submit", scene, "--json", "--no-preview"]).json();
    assert_eq!(submitted["files"], 4, "{submitted}");
    assert_eq!(submitted["uploaded_files"], 4, "{submitted}");
    farm.wait_for_state(1, "completed");
    farm.grange(&["fetch", "1", "-o", to]).well();
    assert_eq!(names(out.path()), ["turn_0001.png"]);
    // The cube is wood, linked through a library by relative paths; the wall behind it is sky, by
    // an absolute path. A missing texture would be pink.
    let (width, height, picture) = pixels(&out.path().join("turn_0001.png"));
    let at = |x: u32, y: u32| {
        let start = ((y * width + x) * 4) as usize;
        <[u8; 3]>::try_from(&picture[start..start + 3]).unwrap()
    };
    let [r, g, b] = at(width / 2, height / 2);
    assert!(r > g && g > b, "the cube is not of wood: {r} {g} {b}");
    let [r, g, b] = at(2, height / 3);
    assert!(b > g && g > r, "the wall is not of sky: {r} {g} {b}");

    let again = farm.grange(&["submit", scene, "--json", "--no-preview"]).json();
    assert_eq!(again["uploaded_files"], 0, "{again}");
    assert_eq!(again["uploaded_bytes"], 0, "{again}");

    // One texture changes: it alone travels.
    fs::copy(home.path().join("textures/sky.png"), home.path().join("textures/wood.png")).unwrap();
    let changed = farm.grange(&["submit", scene, "--json", "--no-preview"]).json();
    assert_eq!(
        changed["uploaded_files"], 0,
        "its bytes are the sky's, which the farm has: {changed}"
    );
    farm.wait_for_state(3, "completed");
    let third = TempDir::new().unwrap();
    farm.grange(&["fetch", "3", "-o", third.path().to_str().unwrap()]).well();
    let (_, _, recolored) = pixels(&third.path().join("turn_0001.png"));
    assert_ne!(recolored, picture, "the farm rendered with the old texture");
}

#[test]
fn missing_files_are_named_before_anything_is_sent() {
    let farm = Farm::new();
    let home = TempDir::new().unwrap();
    copy_of_linked(home.path());
    fs::remove_file(home.path().join("textures/wood.png")).unwrap();
    let scene = home.path().join("linked.blend");
    let scene = scene.to_str().unwrap();
    let told = farm.grange(&["submit", scene]).fails(1, "textures/wood.png");
    assert!(told.stderr.contains("or pass --allow-missing"), "{told:?}");
    let submitted = farm.grange(&["submit", scene, "--allow-missing", "--json"]);
    assert!(submitted.stderr.contains("textures/wood.png"), "{submitted:?}");
    assert_eq!(submitted.json()["files"], 3);
}
