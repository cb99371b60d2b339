//! The same scenes as somebody reads them who does not have them, and is told of them in rounds.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grange_blender::file::{
    Bounds, Folder, Questions, Reading, Summary, ToldFiles, Trace, read_told,
};

/// A client's whole part: it sends the .blend files that it is asked for and lists folders.
pub(super) fn read(shot: &Path) -> (Summary, Trace) {
    let mut told = ToldFiles::default();
    told.blends.insert(shot.into(), Some(shot.into()));
    for _ in 0..20 {
        let until = Instant::now() + Duration::from_secs(60);
        let bounds = Bounds { memory: 1 << 30, until, canceled: Arc::default() };
        let Questions { libraries, folders } = match read_told(shot, told.clone(), bounds) {
            Ok(Reading::Scene { summary, trace }) => return (summary, trace),
            Ok(Reading::Asks(questions)) => questions,
            Err(error) => panic!("{error}"),
        };
        for library in libraries.into_iter().filter(|library| library.is_file()) {
            assert!(told.blends.insert(library.clone(), Some(library)).is_none(), "asked twice");
        }
        for folder in folders {
            let listed = listed(&folder);
            assert!(told.folders.insert(folder, listed).is_none(), "asked twice");
        }
    }
    panic!("the questions have no end");
}

fn listed(path: &Path) -> Option<Folder> {
    let mut folder = Folder::default();
    for entry in path.read_dir().ok()? {
        let entry = entry.unwrap();
        let Ok(name) = entry.file_name().into_string() else { continue };
        // Through symlinks.
        let path = entry.path();
        if path.is_file() {
            folder.files.insert(name);
        } else if path.is_dir() {
            folder.folders.insert(name);
        }
    }
    Some(folder)
}
