//! A .blend file in memory with its place on the disk, and the libraries around it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blocks::Blocks;
use super::error::ReadError;
use super::paths::{self, StoredPath};
use super::place::Place;
use super::record::Record;

pub(super) struct Document {
    /// Absolute and lexically normalised; symlinks are not resolved.
    pub(super) path: PathBuf,
    pub(super) blocks: Blocks,
}

/// The libraries of a file, each read once, when it is first asked for.
pub(super) struct Shelf {
    place: Place,
    read: RefCell<BTreeMap<PathBuf, Library>>,
    /// Libraries that lie packed in the file, at the paths where they would lie otherwise.
    packed: BTreeMap<PathBuf, Vec<u8>>,
}

/// A library, or why it cannot be read.
type Library = Result<Arc<Document>, Arc<ReadError>>;

impl Document {
    /// `path` is absolute and normalised.
    pub(super) fn open(path: &Path, place: &Place) -> Result<Self, ReadError> {
        match place.read(path) {
            Ok(Some(blocks)) => Ok(Self { path: path.into(), blocks }),
            Ok(None) => Err(ReadError::NotAFile { path: path.into() }),
            Err(fault) => Err(fault.at(path.into())),
        }
    }

    /// The directory that paths with `//` start from.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// The directory that the paths of a datablock start from: the file's own, but for one that
    /// was linked and packed (5.0 and later) that of the library it came from.
    pub(super) fn directory_of(&self, datablock: Record<'_>) -> PathBuf {
        let library = datablock
            .id()
            .filter(|id| id.is_linked_and_packed())
            .and_then(|id| id.follow("lib"))
            .and_then(|library| self.library_path(library).path);
        match library.as_deref().and_then(Path::parent) {
            Some(directory) => directory.into(),
            None => self.directory().into(),
        }
    }

    /// Where a library of this file lies.
    pub(super) fn library_path(&self, library: Record<'_>) -> StoredPath {
        let field = if library.has("filepath") { "filepath" } else { "name" };
        paths::resolve(&library.text(field), self.directory())
    }
}

impl Shelf {
    /// `place` is where the file and its libraries lie.
    pub(super) fn of(document: &Document, place: Place) -> Self {
        let packed = document.blocks.datablocks(*b"LI").filter_map(|library| {
            let bytes = library.follow("packedfile")?.bytes_behind("data")?;
            Some((document.library_path(library).path?, bytes.to_vec()))
        });
        Self { place, read: RefCell::default(), packed: packed.collect() }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Whether the library at that path lies in the file itself.
    pub(super) fn is_packed(&self, path: &Path) -> bool {
        self.packed.contains_key(path)
    }

    pub(super) fn get(&self, path: &Path) -> Library {
        if let Some(known) = self.read.borrow().get(path) {
            return known.clone();
        }
        let read = match self.packed.get(path) {
            Some(bytes) => self
                .place
                .unpack(bytes)
                .map(|blocks| Document { path: path.into(), blocks })
                .map_err(|fault| fault.at(path.into())),
            None => Document::open(path, &self.place),
        };
        let read = read.map(Arc::new).map_err(Arc::new);
        self.read.borrow_mut().insert(path.into(), read.clone());
        read
    }

    /// Calls `visit` with a datablock where it really is: in this document, or in the library
    /// that a placeholder stands for. Not at all if it cannot be found.
    pub(super) fn resolve<T>(
        &self,
        document: &Document,
        datablock: Record<'_>,
        visit: impl FnOnce(&Document, Record<'_>) -> T,
    ) -> Option<T> {
        if !datablock.is_placeholder() {
            return Some(visit(document, datablock));
        }
        let library = document.library_path(datablock.library()?).path?;
        let library = self.get(&library).ok()?;
        let found = library.blocks.find(&datablock.id_name())?;
        Some(visit(&library, found))
    }
}
