//! Scenes to render: real ones made by real Blenders, once per run of the tests, and fake ones.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::runtimes::{blender, bpy_pythons};

/// The scenes of `scenes/farm.py`, made by Debian's Blender.
pub(crate) fn scenes() -> &'static Path {
    static SCENES: OnceLock<TempDir> = OnceLock::new();
    SCENES.get_or_init(|| made_by("farm.py")).path()
}

/// The scenes of `scenes/truths.py`, made by Debian's Blender.
pub(crate) fn truth_scenes() -> &'static Path {
    static SCENES: OnceLock<TempDir> = OnceLock::new();
    SCENES.get_or_init(|| made_by("truths.py")).path()
}

fn made_by(name: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    let made = Command::new(blender())
        .args(["-b", "--factory-startup", "--python-exit-code", "1", "--python"])
        .arg(script(name))
        .arg("--")
        .arg(dir.path())
        .output()
        .expect("Blender starts");
    let said = String::from_utf8_lossy(&made.stdout);
    assert!(made.status.success(), "the scenes could not be made: {said}");
    dir
}

/// A scene that Blender 5.0 saved.
pub(crate) fn scene_of_5_0(dir: &Path) -> PathBuf {
    let (_, python) = bpy_pythons().pop().expect("5.0 is the last");
    let path = dir.join("newer.blend");
    let code = format!(
        "import bpy, os, sys; scene = bpy.context.scene; scene.render.engine = 'CYCLES'; \
         scene.cycles.samples = 4; scene.render.resolution_percentage = 5; \
         bpy.ops.wm.save_as_mainfile(filepath={:?}); sys.stdout.flush(); os._exit(0)",
        path.display().to_string()
    );
    let made = Command::new(python).args(["-c", &code]).output().expect("bpy starts");
    assert!(path.exists(), "{}", String::from_utf8_lossy(&made.stderr));
    path
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("all/scenes").join(name)
}
