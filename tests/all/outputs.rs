//! All that a frame writes comes back: views, view layers, extra files.

use tempfile::TempDir;

use crate::runtimes::blender;
use crate::support::farm::Farm;
use crate::support::pictures::{names, pixels};
use crate::support::scenes::scenes;

#[test]
fn both_eyes_and_every_pass_come_back_under_blenders_names() {
    let mut farm = Farm::new();
    farm.start_agent("host", &[blender()], &["--engines", "cycles"]);
    farm.wait_for_agents(1);
    let out = TempDir::new().unwrap();
    let scene = scenes().join("passes.blend");
    let (scene, to) = (scene.to_str().unwrap(), out.path().to_str().unwrap());
    farm.grange(&["submit", scene, "--no-preview", "--wait", "-o", to]).well();
    assert_eq!(
        names(out.path()),
        [
            "passes/depth_0001_L.exr",
            "passes/depth_0001_R.exr",
            "passes/depth_0002_L.exr",
            "passes/depth_0002_R.exr",
            "turn_0001_L.png",
            "turn_0001_R.png",
            "turn_0002_L.png",
            "turn_0002_R.png",
        ]
    );
    let (left, right) = (out.path().join("turn_0001_L.png"), out.path().join("turn_0001_R.png"));
    assert_ne!(pixels(&left), pixels(&right), "two eyes see two pictures");

    // The same again with cameras: extras of two shots do not meet.
    let shots = TempDir::new().unwrap();
    let list = shots.path().join("s.toml");
    std::fs::write(
        &list,
        "[[shot]]\nname = 'a'\n[[shot]]\nname = 'b'\n\
         [[shot]]\nname = 'c'\nview_layer = 'Second'\n",
    )
    .unwrap();
    let to = shots.path().join("out");
    let (list, to) = (list.to_str().unwrap(), to.to_str().unwrap());
    farm.grange(&["submit", scene, "--shots", list, "--frames", "2", "--wait", "-o", to]).well();
    let written = names(std::path::Path::new(to));
    assert!(
        written.contains(&"a_L.png".into()) && written.contains(&"b_R.png".into()),
        "{written:?}"
    );
    let extras: Vec<&String> = written.iter().filter(|name| name.ends_with(".exr")).collect();
    // The compositor of shot c has nothing to write: its layer is not the one that it reads.
    assert!(extras.iter().all(|name| name.starts_with("a_files/") || name.starts_with("b_files/")));
    assert_eq!(extras.len(), 4, "{written:?}");
}
