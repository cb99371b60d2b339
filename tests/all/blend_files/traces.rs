//! A shot that names files in every way: what is found, what is missing, and nothing else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use grange_blender::file::{BlendFile, Problem, Trace};
use serde::Deserialize;

use super::told;

#[derive(Deserialize)]
pub(super) struct Links {
    shot: PathBuf,
    /// Path and kind.
    files: BTreeSet<(PathBuf, String)>,
    /// Path, kind and problem.
    missing: BTreeSet<(PathBuf, String, String)>,
    /// What Blender names although no render needs it.
    not_needed: BTreeSet<PathBuf>,
    /// What Blender names.
    reported: BTreeSet<PathBuf>,
}

impl Links {
    pub(super) fn shot(&self) -> &Path {
        &self.shot
    }
}

pub(super) fn check(links: &Links) {
    let trace = BlendFile::open(&links.shot).expect("the shot cannot be read").trace();
    assert_eq!(differences(&files_of(&trace), &links.files), [""; 0], "files");
    assert_eq!(differences(&missing_of(&trace), &links.missing), [""; 0], "missing files");
    assert_sorted(&trace);
    assert_eq!(told::read(&links.shot).1, trace, "read from what was told");

    let overlooked: Vec<_> =
        links.reported.difference(&links.not_needed).filter(|path| !covers(&trace, path)).collect();
    assert_eq!(overlooked, [""; 0], "Blender names these, the reader does not");
}

fn files_of(trace: &Trace) -> BTreeSet<(PathBuf, String)> {
    trace.files.iter().map(|file| (file.path.clone(), format!("{:?}", file.kind))).collect()
}

fn missing_of(trace: &Trace) -> BTreeSet<(PathBuf, String, String)> {
    let missing = trace.missing.iter();
    missing
        .map(|file| {
            let problem = match &file.problem {
                Problem::Unreadable(_) => "Unreadable".into(),
                problem => format!("{problem:?}"),
            };
            (file.path.clone(), format!("{:?}", file.kind), problem)
        })
        .collect()
}

/// What is in one of the sets only, `-` before what the reader overlooks.
fn differences<T: Ord + std::fmt::Debug>(has: &BTreeSet<T>, wants: &BTreeSet<T>) -> Vec<String> {
    let extra = has.difference(wants).map(|extra| format!("+ {extra:?}"));
    extra.chain(wants.difference(has).map(|lacks| format!("- {lacks:?}"))).collect()
}

fn assert_sorted(trace: &Trace) {
    let files: Vec<_> = trace.files.iter().map(|file| &file.path).collect();
    let missing: Vec<_> = trace.missing.iter().map(|file| &file.path).collect();
    assert!(files.is_sorted_by(|a, b| a < b), "{files:#?}");
    assert!(missing.is_sorted_by(|a, b| a < b), "{missing:#?}");
    for file in &trace.files {
        assert!(file.path.is_absolute() && file.path.is_file(), "{file:?}");
        assert!(!file.used_by.is_empty(), "{file:?}");
    }
    for missing in &trace.missing {
        let is_there = missing.path.is_file();
        assert_eq!(is_there, matches!(missing.problem, Problem::Unreadable(_)), "{missing}");
    }
}

/// Whether a path that Blender reports is found or missed: itself, the files in it if it is a
/// directory, or the tiles that it stands for.
fn covers(trace: &Trace, reported: &Path) -> bool {
    let files = || trace.files.iter().map(|file| &file.path);
    let missing = || trace.missing.iter().map(|file| &file.path);
    let text = reported.to_string_lossy();
    if let Some((before, _)) = text.split_once("<U") {
        return files().chain(missing()).any(|path| path.to_string_lossy().starts_with(before));
    }
    // Blender takes a drive for a directory; the reader shows what the artist wrote.
    let drive = |path: &&PathBuf| path.to_string_lossy().starts_with("C:\\");
    files().any(|path| path.starts_with(reported))
        || missing().any(|path| path == reported)
        || text.starts_with("/c/") && missing().any(|path| drive(&path))
}
