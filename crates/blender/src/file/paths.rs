//! Paths as .blend files store them, and what they mean on this machine.

use std::path::{Component, Path, PathBuf};

/// A path of a .blend file and the file that it names here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredPath {
    /// Absolute and lexically normalised. `None` if Blender would start from the directory that
    /// it happens to run in.
    pub(super) path: Option<PathBuf>,
    /// As the file has it, to show.
    pub(super) stored: String,
    /// Whether it names a drive, as only Windows has them.
    pub(super) has_drive: bool,
}

/// The meaning of a stored path in a file (or library) in `directory`, by Blender's rules: `//` is
/// that directory, a backslash is a slash, and a drive becomes a directory (`C:\a` is `/c/a`).
pub(super) fn resolve(stored: &str, directory: &Path) -> StoredPath {
    let slashed = stored.replace('\\', "/");
    let has_drive = drive_of(&slashed).is_some();
    let path = if let Some(relative) = slashed.strip_prefix("//") {
        Some(directory.join(relative.trim_start_matches('/')))
    } else if let Some((drive, rest)) = drive_of(&slashed) {
        Some(PathBuf::from(format!("/{}{rest}", drive.to_ascii_lowercase())))
    } else {
        slashed.starts_with('/').then(|| PathBuf::from(&slashed))
    };
    StoredPath { path: path.map(|path| normalised(&path)), stored: stored.into(), has_drive }
}

/// The path without `.` and `..`, by its text alone.
pub(super) fn normalised(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// The drive's letter and the rest, from its slash on.
fn drive_of(slashed: &str) -> Option<(char, &str)> {
    let mut chars = slashed.chars();
    let drive = chars.next().filter(char::is_ascii_alphabetic)?;
    let rest = chars.as_str().strip_prefix(':')?;
    rest.starts_with('/').then_some((drive, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_paths_mean_what_they_mean_to_blender() {
        let meaning = |stored| {
            resolve(stored, Path::new("/show/shots"))
                .path
                .map_or("-".into(), |path| path.display().to_string())
        };
        assert_eq!(meaning("//tex/a.png"), "/show/shots/tex/a.png");
        assert_eq!(meaning("//../tex/a b.png"), "/show/tex/a b.png");
        assert_eq!(meaning("//tex\\win.png"), "/show/shots/tex/win.png");
        assert_eq!(meaning("///tex/a.png"), "/show/shots/tex/a.png");
        assert_eq!(meaning("/abs/./x/../a.png"), "/abs/a.png");
        assert_eq!(meaning("//../../../../a.png"), "/a.png");
        assert_eq!(meaning("C:\\tex\\a.png"), "/c/tex/a.png");
        assert_eq!(meaning("a.png"), "-");
        assert_eq!(meaning("C:a.png"), "-");
    }
}
