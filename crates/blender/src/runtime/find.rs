//! Where Blenders usually are.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Something that may be a Blender, or a Python with the bpy module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub program: PathBuf,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no Blender was found: install one (`apt-get install blender`, or unpack one from \
     blender.org into /opt), or name it as `blender = [\"/path/to/blender\"]` in the agent's \
     configuration"
)]
pub struct NoBlender;

/// The Blenders that the configuration names, or if it names none, those on the path, in `/opt`,
/// in `/usr/local` and in the home directory. A directory stands for the `blender` or the
/// `bin/python` in it. Each is named once, whatever links lead to it.
pub fn find(configured: &[PathBuf]) -> Result<Vec<Candidate>, NoBlender> {
    let programs = if configured.is_empty() {
        usual_places(std::env::var_os("PATH").as_deref(), std::env::home_dir().as_deref())
    } else {
        configured.iter().map(|path| inside(path)).collect()
    };
    let mut seen = BTreeSet::new();
    let found: Vec<Candidate> = programs
        .into_iter()
        .filter(|program| seen.insert(identity(program)))
        .map(|program| Candidate { program })
        .collect();
    if found.is_empty() { Err(NoBlender) } else { Ok(found) }
}

fn usual_places(path: Option<&OsStr>, home: Option<&Path>) -> Vec<PathBuf> {
    let on_path = path
        .into_iter()
        .flat_map(std::env::split_paths)
        .map(|dir| dir.join("blender"))
        .find(|program| program.is_file());
    let roots = [Some(Path::new("/opt")), Some(Path::new("/usr/local")), home];
    on_path.into_iter().chain(roots.into_iter().flatten().flat_map(unpacked_in)).collect()
}

/// `blender*/blender` in a directory, sorted by name.
fn unpacked_in(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let mut programs: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("blender"))
        .map(|entry| entry.path().join("blender"))
        .filter(|program| program.is_file())
        .collect();
    programs.sort();
    programs
}

/// The program that a configured path means.
fn inside(path: &Path) -> PathBuf {
    let choices = [path.join("blender"), path.join("bin/python")];
    match choices.into_iter().find(|program| path.is_dir() && program.is_file()) {
        Some(program) => program,
        None => path.into(),
    }
}

/// Two names of one Blender have one identity. A Python's is its name: it is what its virtual
/// environment hangs on, and many link to one interpreter.
fn identity(program: &Path) -> PathBuf {
    let real = fs::canonicalize(program).unwrap_or_else(|_| program.into());
    let is_blender = real.file_name().is_some_and(|name| name == "blender");
    if is_blender { real } else { program.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn touch(path: &Path) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
        path.into()
    }

    #[test]
    fn the_path_comes_first_and_homes_have_unpacked_ones() {
        let dir = tempfile::tempdir().unwrap();
        let on_path = touch(&dir.path().join("bin/blender"));
        let unpacked = touch(&dir.path().join("home/blender-4.2.23-linux-x64/blender"));
        touch(&dir.path().join("home/blender-files/notes.txt"));
        let path = std::env::join_paths([dir.path().join("empty"), dir.path().join("bin")]);
        let found = usual_places(Some(&path.unwrap()), Some(&dir.path().join("home")));
        assert_eq!(found[0], on_path);
        assert_eq!(found.last().unwrap(), &unpacked);
    }

    #[test]
    fn a_configured_directory_stands_for_its_program_and_links_do_not_double_it() {
        let dir = tempfile::tempdir().unwrap();
        let blender = touch(&dir.path().join("blender-5.0/blender"));
        let python = touch(&dir.path().join("venv/bin/python"));
        let link = dir.path().join("link");
        symlink(&blender, &link).unwrap();
        let configured =
            [dir.path().join("blender-5.0"), link, dir.path().join("venv"), "/nowhere/x".into()];
        let found = find(&configured).unwrap();
        let programs: Vec<_> = found.into_iter().map(|candidate| candidate.program).collect();
        assert_eq!(programs, [blender, python, "/nowhere/x".into()]);
    }
}
