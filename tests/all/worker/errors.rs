//! What cannot be rendered is refused in a sentence, and nothing else is rendered instead.

use std::fs;
use std::path::Path;

use grange_protocol::agent::FailureKind;
use grange_protocol::job::RenderSettings;
use grange_protocol::shot::Shot;
use tempfile::TempDir;

use super::live::{Live, shot};
use crate::runtimes::{blender, bpy_pythons};
use crate::support::scenes::{scene_of_5_0, scenes};

#[tokio::test]
async fn a_file_that_does_not_open_leaves_nothing_open() {
    let dir = TempDir::new().unwrap();
    let whole = fs::read(scenes().join("turn.blend")).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let half = write("half.blend", &whole[..whole.len() / 2]);
    let other = write("other.blend", b"this is a letter, not a scene");
    let newer = scene_of_5_0(dir.path());
    let gone = dir.path().join("gone.blend");
    let programs = [blender(), bpy_pythons()[0].1.clone()];
    for program in programs {
        let mut live = Live::start(&program).await;
        let who = live.runtime.info.full_version.clone();
        for (path, saying) in [
            (&half, "does not open"),
            (&other, "it is not a .blend file"),
            (&gone, "does not open"),
            (&newer, "newer"),
        ] {
            live.open(&scenes().join("turn.blend")).await.unwrap();
            let failure = live.open(path).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Scene, "{who}: {failure:?}");
            assert!(failure.reason.contains(saying), "{who}: {failure:?}");
            assert!(failure.reason.contains(path.to_str().unwrap()), "{who}: {failure:?}");
            // The file before must not be taken for it.
            let refused = live.refusal(&shot("a"), RenderSettings::default()).await;
            assert_eq!(refused.reason, "no file is open", "{who}");
        }
    }
}

#[tokio::test]
async fn names_that_a_scene_does_not_have_are_refused_with_those_that_it_has() {
    let mut live = Live::with(&blender(), &scenes().join("skybox.blend")).await;
    let named = |text: &str| Some(text.parse().unwrap());
    let refusals = [
        (
            Shot { camera: named("Bakc"), ..shot("a") },
            "has no camera `Bakc`; it has `Front`, `Back`",
        ),
        (Shot { camera: named("Cube"), ..shot("a") }, "has no camera `Cube`"),
        (Shot { scene: named("Second"), ..shot("a") }, "has no scene `Second`; it has `Scene`"),
        (Shot { view_layer: named("Clay"), ..shot("a") }, "has no view layer `Clay`; it has `"),
    ];
    for (shot, saying) in refusals {
        let failure = live.refusal(&shot, RenderSettings::default()).await;
        assert_eq!(failure.kind, FailureKind::Scene);
        assert!(failure.reason.contains(saying), "{failure:?}");
    }
    live.open(&scenes().join("no_camera.blend")).await.unwrap();
    let failure = live.refusal(&shot("a"), RenderSettings::default()).await;
    assert_eq!(failure.kind, FailureKind::Scene);
    assert!(failure.reason.to_lowercase().contains("no camera"), "{failure:?}");
    // After all that the Blender is as good as new.
    live.open(&scenes().join("turn.blend")).await.unwrap();
    live.render(&shot("a"), 1, RenderSettings::default()).await;
}

#[tokio::test]
async fn a_missing_library_is_refused_unless_it_is_allowed_and_a_missing_picture_is_told() {
    let dir = TempDir::new().unwrap();
    let alone = dir.path().join("linked.blend");
    fs::copy(scenes().join("linked.blend"), &alone).unwrap();
    let programs = [blender(), bpy_pythons()[2].1.clone()];
    for program in &programs {
        let mut live = Live::start(program).await;
        let who = live.runtime.info.full_version.clone();
        let failure = live.open(&alone).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Scene, "{who}");
        assert!(failure.reason.contains("links to what is not there: library"), "{failure:?}");
        assert!(failure.reason.contains("library/things.blend"), "{who}: {failure:?}");
        let opened = live.open_with(&alone, true).await.unwrap();
        assert!(opened.warnings.iter().any(|one| one.contains("things.blend")), "{opened:?}");
        live.render(&shot("a"), 1, RenderSettings::default()).await;
    }
    // With the library, but without the texture that it needs.
    copy_library(dir.path());
    for program in &programs {
        let mut live = Live::start(program).await;
        let opened = live.open(&alone).await.unwrap();
        let missing = opened.warnings.iter().any(|one| one.contains("textures/wood.png"));
        assert!(missing, "{}: {opened:?}", live.runtime.info.full_version);
    }
}

fn copy_library(to: &Path) {
    fs::create_dir(to.join("library")).unwrap();
    let library = scenes().join("library/things.blend");
    fs::copy(library, to.join("library/things.blend")).unwrap();
}
