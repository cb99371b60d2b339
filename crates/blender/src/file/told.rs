//! A scene that lies on another machine: whoever has it tells which files there are, and gets
//! asked for what was not told.
//!
//! A .blend file names libraries, which name others, and folders whose names decide what a
//! sequence is. So a scene is read in rounds, each from its beginning with all that was told so
//! far: nothing is kept from one to the next. A round without questions has the scene.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//! use std::time::{Duration, Instant};
//! use grange_blender::file::{Bounds, Reading, ToldFiles, read_told};
//!
//! let mut told = ToldFiles::default();
//! told.blends.insert("/home/ada/shot.blend".into(), Some("/var/lib/store/3f2a".into()));
//! let until = Instant::now() + Duration::from_secs(20);
//! let bounds = Bounds { memory: 1 << 30, until, canceled: Default::default() };
//! match read_told(Path::new("/home/ada/shot.blend"), told, bounds)? {
//!     Reading::Asks(questions) => println!("list {:?}", questions.folders),
//!     Reading::Scene { summary, .. } => println!("it has scene {}", summary.active_scene),
//! }
//! # Ok(())
//! # }
//! ```

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::blocks::Blocks;
use super::document::{Document, Shelf};
use super::error::{Fault, ReadError};
use super::place::Place;
use super::source::{Deadline, Source};
use super::summary::{self, Summary};
use super::trace::{self, Trace};

/// Files of one scene that is told of, found and missing ones together; and its cameras, layers and
/// the like.
pub const TOLD_MAX: usize = 100_000;
/// Libraries, and folders, that are asked for in one round.
const QUESTIONS_MAX: usize = 10_000;

/// What is known of the machine that has the scene. Paths are absolute, without `.` and `..`.
#[derive(Clone, Debug, Default)]
pub struct ToldFiles {
    /// .blend files by their path there, each with the path of its bytes here; `None` for one that
    /// is there and cannot be read.
    pub blends: BTreeMap<PathBuf, Option<PathBuf>>,
    /// Folders with all that is in them; `None` for one that is not there or cannot be listed.
    pub folders: BTreeMap<PathBuf, Option<Folder>>,
}

/// The names in a folder: plain ones, without `/`. Symlinks are what they lead to.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    pub files: BTreeSet<String>,
    pub folders: BTreeSet<String>,
}

/// What reading may take; where that does not do, it ends with [`ReadError::TooLarge`].
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Bytes of all files together that are held at once.
    pub memory: u64,
    pub until: Instant,
    /// Set by another thread, it ends the reading before that.
    pub canceled: Arc<AtomicBool>,
}

/// How a round ended.
#[derive(Debug)]
pub enum Reading {
    /// More must be told first.
    Asks(Questions),
    Scene {
        summary: Summary,
        trace: Trace,
    },
}

/// What was not told. The folder of every library is asked for too: where the library is not in
/// it, there is none to tell of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    pub libraries: BTreeSet<PathBuf>,
    pub folders: BTreeSet<PathBuf>,
}

/// Reads a scene of another machine as [`BlendFile`](super::BlendFile) reads one of this. Paths in
/// errors are those of the other machine.
pub fn read_told(path: &Path, told: ToldFiles, bounds: Bounds) -> Result<Reading, ReadError> {
    let place = Place::Told(Told::new(told, bounds));
    let document = Document::open(path, &place)?;
    let shelf = Shelf::of(&document, place);
    let trace = trace::of(&document, &shelf);
    let summary = summary::read(&document, &shelf);
    let found = trace.files.len() + trace.missing.len();
    let has = summary.as_ref().map_or(0, Summary::size);
    shelf.place().check(found.max(has)).map_err(|fault| fault.at(path.into()))?;
    let questions = shelf.place().take_questions();
    if questions != Questions::default() {
        return Ok(Reading::Asks(questions));
    }
    Ok(Reading::Scene { summary: summary?, trace })
}

/// [`ToldFiles`] while a scene is being read.
pub(super) struct Told {
    files: ToldFiles,
    /// Bytes that may still be held.
    memory: Cell<u64>,
    deadline: Deadline,
    questions: RefCell<Questions>,
}

impl Told {
    fn new(files: ToldFiles, bounds: Bounds) -> Self {
        let Bounds { memory, until, canceled } = bounds;
        let deadline = Deadline { until, canceled };
        Self { files, memory: Cell::new(memory), deadline, questions: RefCell::default() }
    }

    /// Where the bytes of a .blend file are. One that was not told is asked for, and passes for
    /// one that is not there.
    pub(super) fn blend(&self, path: &Path) -> Result<&Path, Fault> {
        match self.files.blends.get(path) {
            Some(Some(bytes)) => Ok(bytes),
            Some(None) => Err(Fault::Io(io::ErrorKind::PermissionDenied.into())),
            None => {
                let folder = path.parent().map(|folder| self.folder(folder));
                let mut questions = self.questions.borrow_mut();
                if self.may_have(path, folder) && questions.libraries.len() < QUESTIONS_MAX {
                    questions.libraries.insert(path.into());
                }
                Err(Fault::Io(io::ErrorKind::NotFound.into()))
            }
        }
    }

    /// Reads a file's blocks within the bounds.
    pub(super) fn read(&self, mut source: Source<'_>) -> Result<Blocks, Fault> {
        source.held_max = source.held_max.min(self.memory.get());
        source.deadline = Some(self.deadline.clone());
        let blocks = Blocks::read(source)?;
        self.memory.set(self.memory.get().saturating_sub(blocks.held()));
        Ok(blocks)
    }

    pub(super) fn is_file(&self, path: &Path) -> bool {
        self.holds(path, |folder, name| folder.files.contains(name))
    }

    pub(super) fn is_folder(&self, path: &Path) -> bool {
        self.holds(path, |folder, name| folder.folders.contains(name))
    }

    pub(super) fn names(&self, path: &Path) -> Vec<String> {
        match self.folder(path) {
            Known::There(folder) => folder.files.union(&folder.folders).cloned().collect(),
            Known::Absent | Known::Unknown => Vec::new(),
        }
    }

    pub(super) fn take_questions(&self) -> Questions {
        self.questions.take()
    }

    pub(super) fn check(&self, found: usize) -> Result<(), Fault> {
        self.deadline.check()?;
        if found > TOLD_MAX {
            return Err(Fault::TooLarge(
                "it has more than 100,000 files, or so many cameras and layers",
            ));
        }
        Ok(())
    }

    fn holds(&self, path: &Path, holds: impl Fn(&Folder, &str) -> bool) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        path.parent().zip(name).is_some_and(|(parent, name)| match self.folder(parent) {
            Known::There(folder) => holds(folder, name),
            Known::Absent | Known::Unknown => false,
        })
    }

    /// Whether a file that was not told may be there.
    fn may_have(&self, path: &Path, folder: Option<Known<'_>>) -> bool {
        match folder {
            Some(Known::There(_)) => self.is_file(path),
            Some(Known::Unknown) => true,
            Some(Known::Absent) | None => false,
        }
    }

    /// What is known of a folder; one of which nothing is known is asked for.
    fn folder(&self, path: &Path) -> Known<'_> {
        match self.files.folders.get(path) {
            Some(Some(folder)) => return Known::There(folder),
            Some(None) => return Known::Absent,
            None if self.is_ruled_out(path) => return Known::Absent,
            None => {}
        }
        let mut questions = self.questions.borrow_mut();
        if questions.folders.len() < QUESTIONS_MAX {
            questions.folders.insert(path.into());
        }
        Known::Unknown
    }

    /// Whether a folder further up says that there is no such folder.
    fn is_ruled_out(&self, path: &Path) -> bool {
        let above = path.ancestors().zip(path.ancestors().skip(1));
        for (below, above) in above {
            match self.files.folders.get(above) {
                Some(None) => return true,
                Some(Some(folder)) => {
                    let name = below.file_name().and_then(|name| name.to_str());
                    return !name.is_some_and(|name| folder.folders.contains(name));
                }
                None => {}
            }
        }
        false
    }
}

enum Known<'a> {
    There(&'a Folder),
    Absent,
    Unknown,
}
