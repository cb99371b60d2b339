//! Every file that rendering a .blend needs.
//!
//! Of the file itself every datablock counts, used or not: Blender saves only what has users or
//! was kept on purpose. Of a library only what is linked counts, and what that leads to, as
//! Blender loads it; a library that nothing is linked from does not count at all. Paths in a
//! library start from the library's directory.

mod links;
mod reach;
mod search;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::blocks::Code;
use super::document::{Document, Shelf};
use super::error::ReadError;
use super::paths::StoredPath;
use super::record::Record;
use links::Link;
use search::Search;

/// What a .blend file needs from the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The file itself and all that is there, sorted by path, each path once.
    pub files: Vec<TracedFile>,
    /// What is named but not there, sorted by path, each path once.
    pub missing: Vec<MissingFile>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedFile {
    /// Absolute, without `.` and `..`, symlinks as they are.
    pub path: PathBuf,
    pub kind: LinkKind,
    /// The first datablock that names it, for people: ``image `Wood` ``.
    pub used_by: String,
}

/// Displayed as a sentence for the person whose file it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingFile {
    /// As [`TracedFile::path`] where the name has such a meaning, else as the file has it.
    pub path: PathBuf,
    pub kind: LinkKind,
    /// The first datablock that names it, for people.
    pub used_by: String,
    pub problem: Problem,
}

/// Why a file is as good as missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// There is no such file.
    Absent,
    /// The path has a drive, as on Windows, and leads nowhere here.
    WindowsPath,
    /// The path starts from the directory that Blender happens to run in.
    NoDirectory,
    /// A library that cannot be read; the reason is a sentence.
    Unreadable(String),
}

/// What a file is to the scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// The .blend file itself.
    Blend,
    Library,
    Image,
    /// One picture of an animated texture.
    ImageSequence,
    UdimTile,
    /// A movie as a texture.
    Movie,
    /// A movie or a picture that is tracked or composited.
    MovieClip,
    Sound,
    Font,
    /// OpenVDB, single or of a sequence.
    Volume,
    /// Alembic or USD.
    CacheFile,
    /// Vertex positions, MDD or PC2.
    MeshCache,
    /// Displacements of a multiresolution modifier.
    Multires,
    /// Particles, cloth, soft bodies, dynamic paint, rigid bodies.
    PointCache,
    FluidCache,
    OceanCache,
    /// Baked geometry nodes.
    NodesBake,
    /// What a geometry node imports.
    NodesImport,
    /// Light distribution.
    Ies,
    /// A shader script.
    Osl,
    /// A picture or movie of the sequencer.
    Strip,
}

pub(super) fn of(document: &Document, shelf: &Shelf) -> Trace {
    let mut tracer = Tracer::new(document, shelf);
    tracer.add(document.path.clone(), LinkKind::Blend, "the scene");
    for owner in document.blocks.owners() {
        tracer.datablock(document, owner);
    }
    while let Some(path) = tracer.pending.pop().filter(|_| !tracer.is_spent()) {
        tracer.library(&path);
    }
    Trace {
        files: tracer.files.into_values().collect(),
        missing: tracer.missing.into_values().collect(),
    }
}

struct Tracer<'a> {
    shelf: &'a Shelf,
    /// The file that renders.
    main: &'a Path,
    search: Search<'a>,
    /// What the scenes add to the names of their views' pictures.
    view_suffixes: Vec<String>,
    files: BTreeMap<PathBuf, TracedFile>,
    missing: BTreeMap<PathBuf, MissingFile>,
    /// Datablocks of libraries that are needed, by name with code.
    wanted: BTreeMap<PathBuf, BTreeSet<String>>,
    /// Libraries of which more is needed than when they were last looked at.
    pending: Vec<PathBuf>,
    /// Datablocks of libraries that were looked at.
    seen: HashSet<(PathBuf, u32)>,
}

impl<'a> Tracer<'a> {
    fn new(document: &'a Document, shelf: &'a Shelf) -> Self {
        Self {
            shelf,
            main: &document.path,
            search: Search::of(shelf.place()),
            view_suffixes: links::view_suffixes(document),
            files: BTreeMap::new(),
            missing: BTreeMap::new(),
            wanted: BTreeMap::new(),
            pending: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// Whether no more may be looked for.
    fn is_spent(&self) -> bool {
        self.shelf.place().check(self.files.len() + self.missing.len()).is_err()
    }

    /// Everything that a datablock, or the name of one of another file, leads to.
    fn datablock(&mut self, document: &Document, owner: u32) {
        let Some(record) = document.blocks.record(owner, 0) else { return };
        match record.code() {
            Code::Placeholder => self.linked(document, record),
            _ => {
                for link in links::of(self.shelf.place(), document, record) {
                    if self.is_spent() {
                        return;
                    }
                    self.link(&link);
                }
            }
        }
    }

    /// A datablock that lies in a library.
    fn linked(&mut self, document: &Document, placeholder: Record<'_>) {
        let Some(library) = placeholder.library() else { return };
        let used_by = links::described(document, library, self.main);
        let stored = document.library_path(library);
        let Some(path) = stored.path.clone() else {
            return self.lack(&stored, None, LinkKind::Library, &used_by);
        };
        match self.shelf.get(&path) {
            Ok(_) if self.shelf.is_packed(&path) => {}
            Ok(_) => self.add(path.clone(), LinkKind::Library, &used_by),
            Err(error) => return self.lack_library(&stored, path, &used_by, &error),
        }
        let is_new = self.wanted.entry(path.clone()).or_default().insert(placeholder.id_name());
        if is_new && !self.pending.contains(&path) {
            self.pending.push(path);
        }
    }

    /// What is linked from a library, and all that it leads to.
    fn library(&mut self, path: &Path) {
        let Ok(library) = self.shelf.get(path) else { return };
        let names = self.wanted.get(path).into_iter().flatten();
        let roots: Vec<u32> =
            names.filter_map(|name| library.blocks.find(name)).map(|root| root.owner()).collect();
        for owner in reach::from(&library.blocks, &roots) {
            if self.seen.insert((path.into(), owner)) {
                self.datablock(&library, owner);
            }
        }
    }

    fn link(&mut self, link: &Link<'_>) {
        let used_by = links::described(link.document, link.datablock, self.main);
        let mut absent = Vec::new();
        if let Some(path) = &link.stored.path {
            let found = self.search.find(path, &link.spread);
            let views = if link.has_views { &*self.view_suffixes } else { &[] };
            let views = links::views_of(path, views);
            let views = views.iter().flat_map(|view| self.search.find(view, &link.spread).there);
            let there: Vec<PathBuf> = found.there.into_iter().chain(views).collect();
            for file in there {
                self.add(file, link.kind, &used_by);
            }
            absent.extend(found.absent.into_iter().map(Some));
        } else {
            absent.push(None);
        }
        for path in absent.into_iter().filter(|_| !link.optional) {
            self.lack(&link.stored, path, link.kind, &used_by);
        }
    }

    fn add(&mut self, path: PathBuf, kind: LinkKind, used_by: &str) {
        let file = || TracedFile { path: path.clone(), kind, used_by: used_by.into() };
        self.files.entry(path.clone()).or_insert_with(file);
    }

    /// `path`: what the stored path means here, if anything.
    fn lack(&mut self, stored: &StoredPath, path: Option<PathBuf>, kind: LinkKind, used_by: &str) {
        let as_stored = || PathBuf::from(&stored.stored);
        let (path, problem) = match path {
            Some(_) if stored.has_drive => (as_stored(), Problem::WindowsPath),
            Some(path) => (path, Problem::Absent),
            None => (as_stored(), Problem::NoDirectory),
        };
        let missing = || MissingFile { path: path.clone(), kind, used_by: used_by.into(), problem };
        self.missing.entry(path.clone()).or_insert_with(missing);
    }

    fn lack_library(&mut self, stored: &StoredPath, path: PathBuf, used_by: &str, why: &ReadError) {
        let kind = LinkKind::Library;
        if let ReadError::NotFound { .. } | ReadError::NotAFile { .. } = why {
            return self.lack(stored, Some(path), kind, used_by);
        }
        let problem = Problem::Unreadable(why.to_string());
        let missing = || MissingFile { path: path.clone(), kind, used_by: used_by.into(), problem };
        self.missing.entry(path.clone()).or_insert_with(missing);
    }
}

impl fmt::Display for MissingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, kind, used_by, problem } = self;
        let path = path.display();
        match problem {
            Problem::Absent => write!(
                f,
                "{kind} `{path}` (used by {used_by}) is not there: restore it, or find it in \
                 Blender with File > External Data > Find Missing Files"
            ),
            Problem::WindowsPath => write!(
                f,
                "{kind} `{path}` (used by {used_by}) has a path of a Windows machine: make the \
                 paths relative with File > External Data > Make Paths Relative"
            ),
            Problem::NoDirectory => write!(
                f,
                "{kind} `{path}` (used by {used_by}) has a path that starts nowhere: begin it with \
                 // to start from the .blend file, or with / to start from the root"
            ),
            Problem::Unreadable(reason) => {
                write!(f, "{kind} `{path}` (used by {used_by}) cannot be used: {reason}")
            }
        }
    }
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blend => ".blend file",
            Self::Library => "library",
            Self::Image => "image",
            Self::ImageSequence => "image of a sequence",
            Self::UdimTile => "UDIM tile",
            Self::Movie => "movie",
            Self::MovieClip => "movie clip",
            Self::Sound => "sound",
            Self::Font => "font",
            Self::Volume => "volume",
            Self::CacheFile => "Alembic or USD file",
            Self::MeshCache => "mesh cache",
            Self::Multires => "multires file",
            Self::PointCache => "point cache",
            Self::FluidCache => "fluid cache",
            Self::OceanCache => "ocean cache",
            Self::NodesBake => "baked file",
            Self::NodesImport => "imported file",
            Self::Ies => "IES file",
            Self::Osl => "OSL script",
            Self::Strip => "file of a strip",
        })
    }
}
