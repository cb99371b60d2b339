//! What a .blend file says, read without Blender: its scenes ([`Summary`]), and the files that
//! rendering it needs ([`Trace`]).
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use grange_blender::file::BlendFile;
//!
//! let file = BlendFile::open("shot.blend")?;
//! let summary = file.summary()?;
//! let output = &summary.active().output;
//! let first = output.pictures(&output.pattern.numbered(), 1)?;
//! let missing = file.trace().missing;
//! # Ok(())
//! # }
//! ```
//!
//! A .blend file describes its own structs (its DNA), so fields are looked up by name, and what a
//! version does not have is simply absent. Written for files of Blender 2.8 and later, plain or
//! compressed; tested with those of 3.4, 4.2, 4.5 and 5.0.
//!
//! A scene of another machine is read from what that machine tells ([`read_told`]).
//!
//! Only the parts that matter are held in memory: a file of gigabytes mostly costs megabytes. So
//! of the `blend` crate only the header and the DNA are used: it would hold every byte, search
//! all blocks for every pointer, and panic on damaged files.
//!
//! Never starts Blender, never writes, never opens what is not a plain file. Whatever bytes a file
//! has, reading ends with an answer or an error: every length, list and pointer is checked.

mod blocks;
mod document;
mod error;
mod layout;
mod output;
mod paths;
mod place;
mod record;
mod scene;
mod source;
mod summary;
mod template;
mod told;
mod trace;

#[cfg(test)]
mod tests;

use std::path::Path;

use grange_protocol::BlenderVersion;

use document::{Document, Shelf};
use place::Place;

pub use error::ReadError;
pub use output::{Multiview, OutputSettings, PictureFormat, ViewsFormat};
pub use summary::{MarkerCamera, SceneSummary, Summary, ViewLayer};
pub use told::{Bounds, Folder, Questions, Reading, TOLD_MAX, ToldFiles, read_told};
pub use trace::{LinkKind, MissingFile, Problem, Trace, TracedFile};

/// A .blend file, read once. Libraries that it links are read when they are needed, once each.
pub struct BlendFile {
    document: Document,
    shelf: Shelf,
}

impl BlendFile {
    /// Reads a file. Takes about as long as decompressing it; a plain file is mostly skipped.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        let path = path.as_ref();
        let absolute = std::path::absolute(path)
            .map_err(|why| ReadError::Unreadable { path: path.into(), why })?;
        let document = Document::open(&paths::normalised(&absolute), &Place::Disk)?;
        let shelf = Shelf::of(&document, Place::Disk);
        Ok(Self { document, shelf })
    }

    /// Where the file lies: absolute, without `.` and `..`, symlinks as they are.
    pub fn path(&self) -> &Path {
        &self.document.path
    }

    /// The Blender that saved it.
    pub fn saved_by(&self) -> BlenderVersion {
        self.document.blocks.saved_by
    }

    /// Its scenes and their settings. What lies in a library that cannot be read is left out:
    /// [`trace`](Self::trace) names such libraries. Fails only if there is no scene.
    pub fn summary(&self) -> Result<Summary, ReadError> {
        summary::read(&self.document, &self.shelf)
    }

    /// Every file that rendering it needs, and those that are not there.
    pub fn trace(&self) -> Trace {
        trace::of(&self.document, &self.shelf)
    }
}

impl std::fmt::Debug for BlendFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlendFile").field("path", &self.document.path).finish_non_exhaustive()
    }
}
