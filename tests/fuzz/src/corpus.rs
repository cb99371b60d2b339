//! Inputs that are kept: `corpus/TARGET`, which coverage has chosen, and `found/TARGET`, which showed
//! a bug and are never thrown away.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Target;

/// Where a target's inputs are kept that reach what no other does.
pub fn chosen(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// Where those are kept that showed a bug.
pub fn found(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("found").join(target.name)
}

/// All of them, each with a name for people, in the same order every time.
pub fn kept(target: &Target) -> Vec<(String, Vec<u8>)> {
    let seeds = target.seeds().into_iter().enumerate();
    let mut kept: Vec<_> = seeds.map(|(at, seed)| (format!("seed {at}"), seed)).collect();
    for folder in [found(target), chosen(target)] {
        for path in files(&folder) {
            let bytes = fs::read(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
            kept.push((path.display().to_string(), bytes));
        }
    }
    kept
}

/// The files in a folder, sorted; none if it is not there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
