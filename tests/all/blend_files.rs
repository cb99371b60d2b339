//! What the .blend reader says, against what Blender itself says.
//!
//! Each Blender runs once: it makes its files, reports what it makes of them, and the reader has
//! to agree. What to expect stands beside what makes it, in `scenes/`.

mod pictures;
mod settings;
mod told;
mod traces;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use tempfile::TempDir;

use crate::runtimes;

#[test]
fn blender_3_4_and_the_reader_agree() {
    check(&Made::by_blender());
}

#[test]
fn blender_4_2_and_the_reader_agree() {
    check(&Made::by_bpy("4.2.23"));
}

#[test]
fn blender_4_5_and_the_reader_agree() {
    check(&Made::by_bpy("4.5.15"));
}

#[test]
fn blender_5_0_and_the_reader_agree() {
    check(&Made::by_bpy("5.0.1"));
}

fn check(made: &Made) {
    for links in &made.report.links {
        traces::check(links);
    }
    settings::check(&made.report.settings);
    pictures::check(&made.report.pictures);
}

/// The files that one Blender made, and its report.
struct Made {
    report: Report,
    /// Keeps the files until the test ends.
    folder: TempDir,
}

#[derive(Deserialize)]
struct Report {
    links: Vec<traces::Links>,
    settings: settings::Settings,
    pictures: pictures::Pictures,
}

/// Shots that name files in every way, by Debian's Blender, and the folder that goes with them.
pub(crate) fn shots() -> (Vec<PathBuf>, TempDir) {
    let made = Made::by_blender();
    (made.report.links.iter().map(|links| links.shot().into()).collect(), made.folder)
}

impl Made {
    fn by_blender() -> Self {
        let script = scenes().join("blend_files.py");
        let mut blender = Command::new(runtimes::blender());
        blender.args(["-b", "--factory-startup", "--python"]).arg(script).arg("--");
        Self::by(blender)
    }

    fn by_bpy(version: &str) -> Self {
        let python = runtimes::bpy_pythons()
            .into_iter()
            .find_map(|(has, python)| (has == version).then_some(python))
            .unwrap_or_else(|| panic!("no bpy {version} among the runtimes of the tests"));
        let mut command = Command::new(python);
        command.arg(scenes().join("blend_files.py"));
        Self::by(command)
    }

    /// Runs the scripts with the folder's name as the last argument.
    fn by(mut blender: Command) -> Self {
        let folder = tempfile::tempdir().expect("no room for a temporary folder");
        let output = blender
            .arg(folder.path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .unwrap_or_else(|error| panic!("{blender:?} did not start: {error}"));
        let error = std::fs::read_to_string(folder.path().join("error.txt")).unwrap_or_default();
        let report = std::fs::read_to_string(folder.path().join("report.json"))
            .unwrap_or_else(|_| panic!("{blender:?} made no report: {error}\n{output:?}"));
        let report = serde_json::from_str(&report).expect("the report has another form");
        Self { report, folder }
    }
}

fn scenes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("all/scenes")
}
