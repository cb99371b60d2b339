//! What a shot wrote: everything that lies in its scratch directory afterwards.
//!
//! The worker is not asked: it runs beside the scene, and a scene is a stranger's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use grange_protocol::agent::{Failure, FailureKind};
use grange_protocol::file::OutputRole;
use grange_protocol::limits::OUTPUTS_PER_TASK_MAX;
use grange_protocol::name::OutputName;

/// Folders below a scratch directory, as the worker's `naming.py` makes them.
const MAIN: &str = "main";
const EXTRA: &str = "extra";
/// Folders inside each other.
const DEPTH_MAX: usize = 32;

/// A file that a shot wrote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RenderedFile {
    /// Its name inside the job.
    pub name: OutputName,
    pub role: OutputRole,
    /// Where it lies now.
    pub path: PathBuf,
}

/// Everything below `scratch`, sorted by name. Extras get `folder` before their names.
pub(crate) fn collect(
    scratch: &Path,
    folder: Option<&OutputName>,
) -> Result<Vec<RenderedFile>, Failure> {
    let mut files = Vec::new();
    for (root, role, folder) in
        [(MAIN, OutputRole::Frame, None), (EXTRA, OutputRole::Extra, folder)]
    {
        let mut walk = Walk { root: scratch.join(root), role, folder, files: &mut files };
        match walk.visit(Path::new(""), 0) {
            Err(Refused::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(refused) => return Err(refused.into()),
            Ok(()) => {}
        }
    }
    if !files.iter().any(|file| file.role == OutputRole::Frame) {
        return Err(Failure::new(
            FailureKind::Output,
            "Blender says that it rendered, but wrote no picture",
        ));
    }
    files.sort();
    Ok(files)
}

/// Everything that a call wrote, sorted by name; often there is nothing, and no directory.
pub(crate) fn written(scratch: &Path) -> Result<Vec<RenderedFile>, Failure> {
    let mut files = Vec::new();
    let role = OutputRole::Extra;
    let mut walk = Walk { root: scratch.into(), role, folder: None, files: &mut files };
    match walk.visit(Path::new(""), 0) {
        Err(Refused::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
        Err(refused) => return Err(refused.into()),
        Ok(()) => {}
    }
    files.sort();
    Ok(files)
}

struct Walk<'a> {
    root: PathBuf,
    role: OutputRole,
    folder: Option<&'a OutputName>,
    files: &'a mut Vec<RenderedFile>,
}

enum Refused {
    Io(io::Error),
    /// A name or a kind of file that no output may have.
    Odd(String),
}

impl Walk<'_> {
    fn visit(&mut self, inside: &Path, depth: usize) -> Result<(), Refused> {
        for entry in fs::read_dir(self.root.join(inside)).map_err(Refused::Io)? {
            let entry = entry.map_err(Refused::Io)?;
            let inside = inside.join(entry.file_name());
            let kind = entry.file_type().map_err(Refused::Io)?;
            if kind.is_dir() && depth < DEPTH_MAX {
                self.visit(&inside, depth + 1)?;
            } else if kind.is_file() {
                self.take(&inside, entry.path())?;
            } else {
                return Err(Refused::Odd(format!("`{}` is not a plain file", inside.display())));
            }
        }
        Ok(())
    }

    fn take(&mut self, inside: &Path, path: PathBuf) -> Result<(), Refused> {
        if self.files.len() >= OUTPUTS_PER_TASK_MAX as usize {
            return Err(Refused::Odd(format!("there are more than {OUTPUTS_PER_TASK_MAX} files")));
        }
        let named = |text: &str| text.parse::<OutputName>();
        let name = inside.to_str().map_or_else(
            || Err(format!("`{}` is not UTF-8", inside.display())),
            |text| named(text).map_err(|error| error.to_string()),
        );
        let name = name.and_then(|name| match self.folder {
            Some(folder) => name.within(folder).map_err(|error| error.to_string()),
            None => Ok(name),
        });
        let name = name.map_err(Refused::Odd)?;
        self.files.push(RenderedFile { name, role: self.role, path });
        Ok(())
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let why = match refused {
            Refused::Io(error) => {
                return Self::new(FailureKind::Host, format!("outputs cannot be read: {error}"));
            }
            Refused::Odd(why) => why,
        };
        Self::new(FailureKind::Output, format!("the scene wrote what cannot be kept: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
        dir
    }

    fn names(files: Vec<RenderedFile>) -> Vec<(String, OutputRole)> {
        files.into_iter().map(|file| (file.name.to_string(), file.role)).collect()
    }

    #[test]
    fn frames_keep_their_names_and_extras_get_a_folder() {
        let dir = scratch(&["main/a/0001_L.png", "main/a/0001_R.png", "extra/depth/D0001.exr"]);
        let plain = collect(dir.path(), None).unwrap();
        assert_eq!(
            names(plain),
            [
                ("a/0001_L.png".into(), OutputRole::Frame),
                ("a/0001_R.png".into(), OutputRole::Frame),
                ("depth/D0001.exr".into(), OutputRole::Extra),
            ]
        );
        let folder = "front_files".parse().unwrap();
        let files = collect(dir.path(), Some(&folder)).unwrap();
        assert_eq!(files[2].name.as_str(), "front_files/depth/D0001.exr");
        assert_eq!(files[2].path, dir.path().join("extra/depth/D0001.exr"));
    }

    #[test]
    fn no_picture_is_a_failure_whatever_else_was_written() {
        let dir = scratch(&["extra/depth/D0001.exr"]);
        assert_eq!(collect(dir.path(), None).unwrap_err().kind, FailureKind::Output);
    }

    #[test]
    fn links_and_names_that_mean_something_elsewhere_are_refused() {
        let dir = scratch(&["main/0001.png"]);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("main/0002.png")).unwrap();
        let failure = collect(dir.path(), None).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Output);
        assert!(failure.reason.contains("0002.png"), "{failure}");

        let dir = scratch(&["main/C:0001.png"]);
        assert_eq!(collect(dir.path(), None).unwrap_err().kind, FailureKind::Output);
    }
}
