//! Where a scene's files lie: on this machine's disk, or on another's that somebody tells of.

use std::fs::File;
use std::path::Path;

use super::blocks::Blocks;
use super::error::Fault;
use super::source::Source;
use super::told::{Questions, Told};

pub(super) enum Place {
    Disk,
    Told(Told),
}

impl Place {
    /// Reads the .blend file at a path that is absolute and normalised. `None` if the path names
    /// no file: a pipe or a device would never end.
    pub(super) fn read(&self, path: &Path) -> Result<Option<Blocks>, Fault> {
        match self {
            Self::Disk => open(path)?.map(Blocks::read).transpose(),
            Self::Told(told) => {
                let source = open(told.blend(path)?)?;
                source.map(|source| told.read(source)).transpose()
            }
        }
    }

    /// Reads a library that lies packed in another file.
    pub(super) fn unpack(&self, bytes: &[u8]) -> Result<Blocks, Fault> {
        let source = Source::of_bytes(bytes)?;
        match self {
            Self::Disk => Blocks::read(source),
            Self::Told(told) => told.read(source),
        }
    }

    pub(super) fn is_file(&self, path: &Path) -> bool {
        match self {
            Self::Disk => path.is_file(),
            Self::Told(told) => told.is_file(path),
        }
    }

    pub(super) fn is_folder(&self, path: &Path) -> bool {
        match self {
            Self::Disk => path.is_dir(),
            Self::Told(told) => told.is_folder(path),
        }
    }

    /// The names in a folder, sorted; none if it cannot be listed. Names that are no UTF-8 are
    /// left out: no .blend file can have them right.
    pub(super) fn names(&self, folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Self::Disk => {
                let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
                entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
            }
            Self::Told(told) => told.names(folder),
        };
        names.sort_unstable();
        names
    }

    /// Whether reading may go on when so much was found: files, missing ones, or what scenes have.
    /// Where it may not, what was found is not all. On the own disk it always may.
    pub(super) fn check(&self, found: usize) -> Result<(), Fault> {
        match self {
            Self::Disk => Ok(()),
            Self::Told(told) => told.check(found),
        }
    }

    /// Whether the time for reading is over. Looked at wherever a damaged file could make a short
    /// list of long ones.
    pub(super) fn is_late(&self) -> bool {
        self.check(0).is_err()
    }

    /// What would have to be told first; after that, nothing.
    pub(super) fn take_questions(&self) -> Questions {
        match self {
            Self::Disk => Questions::default(),
            Self::Told(told) => told.take_questions(),
        }
    }
}

fn open(path: &Path) -> Result<Option<Source<'static>>, Fault> {
    if !path.metadata().map_err(Fault::Io)?.is_file() {
        return Ok(None);
    }
    let file = File::open(path).map_err(Fault::Io)?;
    Source::of_file(file).map(Some)
}
