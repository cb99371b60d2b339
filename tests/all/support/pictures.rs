//! Pictures that were rendered.

use std::fs;
use std::path::Path;

/// The names of all files below a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    fn collect(folder: &Path, prefix: &str, names: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                collect(&entry.path(), &format!("{name}/"), names);
            } else {
                names.push(name);
            }
        }
    }
    let mut found = Vec::new();
    collect(folder, "", &mut found);
    found.sort();
    found
}

/// The pixels of a picture, as 8-bit RGBA, and its size.
#[track_caller]
pub(crate) fn pixels(path: &Path) -> (u32, u32, Vec<u8>) {
    let picture = image::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let picture = picture.to_rgba8();
    (picture.width(), picture.height(), picture.into_raw())
}
