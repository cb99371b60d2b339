//! The Python package: what a call costs, what waiting costs, and renders beside `blender -a`. The
//! work is `python.py`'s, because its users are Python's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use tempfile::TempDir;

use super::Figures;
use super::processes::{disk, program};
use super::warm::sample_scene;

pub(super) fn run() -> anyhow::Result<Figures> {
    let home = TempDir::new_in(disk()?)?;
    let scene = sample_scene(home.path())?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let done = Command::new(interpreter(&root)?)
        .arg(root.join("tests/src/bench/python.py"))
        .args([scene.as_path(), home.path(), &program("grange")?])
        .env("PYTHONPATH", root.join("python/src"))
        .stderr(Stdio::inherit())
        .output()?;
    anyhow::ensure!(done.status.success(), "python.py failed");
    let text = String::from_utf8(done.stdout)?;
    let last = text.lines().last().context("it printed no figures")?;
    Ok(serde_json::from_str(last)?)
}

/// The Python that has what the package needs.
fn interpreter(root: &Path) -> anyhow::Result<PathBuf> {
    let path = root.join("target/python-tools/bin/python");
    anyhow::ensure!(path.exists(), "no {}: `cargo xtask bench` installs it", path.display());
    Ok(path)
}
