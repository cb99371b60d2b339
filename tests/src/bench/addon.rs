//! The Blender add-on: how long it holds up the window while a job's pictures come in. The work is
//! `addon.py`'s, inside a Blender whose window is on a screen that nobody sees.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use tempfile::TempDir;

use super::Figures;
use super::processes::{disk, program};

pub(super) fn run() -> anyhow::Result<Figures> {
    let home = TempDir::new_in(disk()?)?;
    let pictures = home.path().join("pictures");
    std::fs::create_dir(&pictures)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bench/addon.py");
    // `xvfb-run` is not there wherever Xvfb is, so the shell chooses the display.
    let screen = r#"
        told=$(mktemp -u); mkfifo "$told"
        Xvfb -displayfd 3 -screen 0 1280x800x24 -nolisten tcp 3>"$told" 2>/dev/null & server=$!
        read -r number <"$told"; rm "$told"
        DISPLAY=":$number" "$@"; code=$?
        kill $server; exit $code
    "#;
    let done = Command::new("sh")
        .args(["-c", screen, "sh", "blender", "--factory-startup"])
        .args(["--python-exit-code", "1", "--python"])
        .arg(script)
        .arg("--")
        .args([program("grange")?, pictures])
        .env("LIBGL_ALWAYS_SOFTWARE", "1")
        .env("BLENDER_USER_RESOURCES", home.path())
        .env_remove("GRANGE_CONNECT")
        .env_remove("WAYLAND_DISPLAY")
        .stderr(Stdio::inherit())
        .output()?;
    anyhow::ensure!(done.status.success(), "addon.py failed");
    let text = String::from_utf8(done.stdout)?;
    let last = text.lines().rev().find(|line| line.starts_with('{'));
    Ok(serde_json::from_str(last.context("it printed no figures")?)?)
}
