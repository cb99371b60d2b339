//! The names of the pictures that Blender really wrote.

use std::collections::BTreeSet;
use std::path::PathBuf;

use grange_blender::file::BlendFile;
use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct Pictures {
    file: PathBuf,
    written: Vec<Written>,
}

#[derive(Deserialize)]
struct Written {
    scene: String,
    /// A pattern if it has a `#`.
    name: String,
    frame: i32,
    files: BTreeSet<String>,
}

pub(super) fn check(pictures: &Pictures) {
    let summary = BlendFile::open(&pictures.file).and_then(|file| file.summary());
    let summary = summary.expect("the scenes cannot be read");
    assert!(pictures.written.len() > 100, "only {} pictures", pictures.written.len());
    for Written { scene, name, frame, files } in &pictures.written {
        let output = &summary.scene(scene).expect("the scene is overlooked").output;
        let pattern = name.parse().expect("no pattern");
        let predicted = output.pictures(&pattern, *frame).expect("a name that cannot be one");
        let predicted: BTreeSet<String> =
            predicted.iter().map(|name| name.as_str().into()).collect();
        assert_eq!(&predicted, files, "`{name}` with {output:?}");
    }
}
