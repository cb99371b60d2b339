//! A scene is a stranger's: what it cannot do on a render host.

use std::path::Path;

use tempfile::TempDir;

use crate::runtimes::blender;
use crate::support::farm::Farm;
use crate::support::scenes::scenes;

#[test]
fn a_script_in_a_file_does_not_run_and_its_frame_is_rendered() {
    let mut farm = Farm::new();
    farm.start_agent("host", &[blender()], &["--engines", "cycles"]);
    farm.wait_for_agents(1);
    let escape = Path::new("/tmp/grange-escape");
    let _ = std::fs::remove_file(escape);
    let out = TempDir::new().unwrap();
    let scene = scenes().join("script.blend");
    let to = out.path().to_str().unwrap();
    farm.grange(&["submit", scene.to_str().unwrap(), "--no-preview", "--wait", "-o", to]).well();
    assert!(!escape.exists(), "a script of the scene ran on the host");
    assert!(out.path().join("turn_0001.png").exists());
}
