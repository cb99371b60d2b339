//! Why a .blend file could not be read, as one sentence that names it and the next step.

use std::io;
use std::path::PathBuf;

/// Each is a whole sentence for the person who named the file.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("there is no file `{}`: check the name", path.display())]
    NotFound { path: PathBuf },
    #[error("`{}` is not a file: name a .blend file", path.display())]
    NotAFile { path: PathBuf },
    #[error("`{}` cannot be read ({why}): check its permissions and its disk", path.display())]
    Unreadable { path: PathBuf, why: io::Error },
    #[error("`{}` is not a .blend file: name one that Blender saved", path.display())]
    NotBlend { path: PathBuf },
    #[error("`{}` has a newer file format than this program knows: update it", path.display())]
    TooNew { path: PathBuf },
    #[error("`{}` ends too early: save it again, or copy it again if it is a copy", path.display())]
    Truncated { path: PathBuf },
    #[error("`{}` is damaged ({what}): open it in Blender and save it again", path.display())]
    Damaged { path: PathBuf, what: &'static str },
    #[error(
        "`{}` is too large ({what}): split the scene into libraries, or clean it up in Blender",
        path.display()
    )]
    TooLarge { path: PathBuf, what: &'static str },
    #[error("`{}` has no scene: open it in Blender, add one and save it", path.display())]
    NoScene { path: PathBuf },
}

/// [`ReadError`] before the path is known: what the layers below deal in.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    NotBlend,
    TooNew,
    Truncated,
    Damaged(&'static str),
    TooLarge(&'static str),
}

impl Fault {
    /// What an error of a (perhaps decompressing) reader means. Decompressors have no errors of
    /// the operating system: theirs say that the file's bytes are wrong.
    pub(super) fn of_reader(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Truncated
        } else if error.raw_os_error().is_some() {
            Self::Io(error)
        } else {
            Self::Damaged("its compressed data makes no sense")
        }
    }

    pub(super) fn at(self, path: PathBuf) -> ReadError {
        match self {
            Self::Io(why) if why.kind() == io::ErrorKind::NotFound => ReadError::NotFound { path },
            Self::Io(why) => ReadError::Unreadable { path, why },
            Self::NotBlend => ReadError::NotBlend { path },
            Self::TooNew => ReadError::TooNew { path },
            Self::Truncated => ReadError::Truncated { path },
            Self::Damaged(what) => ReadError::Damaged { path, what },
            Self::TooLarge(what) => ReadError::TooLarge { path, what },
        }
    }
}
