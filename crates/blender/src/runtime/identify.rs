//! What a program is: asked of itself, because names and links say little.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;
use tokio::time::timeout;

use super::launch::{Kind, Program};

const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Links that lead from a program to the next.
const LINKS_MAX: usize = 16;
/// What every program reads and every sandbox shows.
const SYSTEM: [&str; 5] = ["/usr", "/bin", "/sbin", "/lib", "/lib64"];

/// Prints where a Python keeps what it needs.
const WHERE: &str = "\
import importlib.util, json, sys
spec = importlib.util.find_spec('bpy')
print(json.dumps({
    'bpy': spec.origin if spec else None,
    'reads': [sys.prefix, sys.base_prefix, sys.exec_prefix, *filter(None, sys.path[1:])],
}))
";

#[derive(Debug, thiserror::Error)]
pub enum NotABlender {
    #[error("`{program}` cannot be run: {source}")]
    CannotRun { program: PathBuf, source: io::Error },
    #[error("`{0}` did not say its version in time")]
    Silent(PathBuf),
    #[error("`{program}` is neither a Blender nor a Python; it says: {said}")]
    Stranger { program: PathBuf, said: String },
    #[error(
        "the Python `{0}` has no bpy module: install it there (`pip install bpy`), or name \
         another one"
    )]
    NoModule(PathBuf),
}

pub(super) async fn identify(program: &Path) -> Result<Program, NotABlender> {
    let absolute = std::path::absolute(program)
        .map_err(|source| NotABlender::CannotRun { program: program.into(), source })?;
    let said = ask(&absolute, &["--version"]).await?;
    let says = |name: &str| said.lines().any(|line| line.trim_start().starts_with(name));
    if says("Blender ") {
        let real = fs::canonicalize(&absolute).unwrap_or_else(|_| absolute.clone());
        let reads = beyond_system(folders_on_the_way(&real));
        return Ok(Program { kind: Kind::Blender, path: real, reads });
    }
    if !says("Python ") {
        let said = said.lines().next().unwrap_or_default().chars().take(200).collect();
        return Err(NotABlender::Stranger { program: absolute, said });
    }
    let python: Python = serde_json::from_str(&ask(&absolute, &["-c", WHERE]).await?)
        .map_err(|_| NotABlender::NoModule(absolute.clone()))?;
    let Some(module) = python.bpy else { return Err(NotABlender::NoModule(absolute)) };
    let mut reads = folders_on_the_way(&absolute);
    reads.extend(python.reads.iter().flat_map(|path| [path.clone(), real(path)]));
    reads.extend(module.parent().map(Path::to_owned));
    Ok(Program { kind: Kind::Python, path: absolute, reads: beyond_system(reads) })
}

#[derive(Deserialize)]
struct Python {
    bpy: Option<PathBuf>,
    reads: Vec<PathBuf>,
}

async fn ask(program: &Path, args: &[&str]) -> Result<String, NotABlender> {
    let answer = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    match timeout(ANSWER_MAX, answer).await {
        Ok(Ok(output)) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Err(source)) => Err(NotABlender::CannotRun { program: program.into(), source }),
        Err(_) => Err(NotABlender::Silent(program.into())),
    }
}

fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.into())
}

/// The folder of a program, and of everything that it links to.
fn folders_on_the_way(program: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut at = program.to_owned();
    for _ in 0..LINKS_MAX {
        let Some(folder) = at.parent().map(Path::to_owned) else { break };
        let next = fs::read_link(&at).map(|target| folder.join(target));
        folders.push(folder);
        match next {
            Ok(next) => at = next,
            Err(_) => break,
        }
    }
    folders
}

/// The directories that exist, without the system's, and without those inside of others.
fn beyond_system(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let wanted: BTreeSet<PathBuf> = paths
        .into_iter()
        .filter(|path| path.is_dir() && path.parent().is_some())
        .filter(|path| !SYSTEM.iter().any(|system| path.starts_with(system)))
        .collect();
    let is_inside =
        |path: &PathBuf| wanted.iter().any(|other| other != path && path.starts_with(other));
    wanted.iter().filter(|path| !is_inside(path)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn script(path: &Path, text: &str) -> PathBuf {
        fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        path.into()
    }

    #[tokio::test]
    async fn a_blender_is_known_by_what_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir(root.join("blender-4.2")).unwrap();
        let real =
            script(&root.join("blender-4.2/blender"), "echo 'AL lib: hm'; echo Blender 4.2.1");
        let link = root.join("python");
        symlink(&real, &link).unwrap();
        let program = identify(&link).await.unwrap();
        let reads = vec![root.join("blender-4.2")];
        assert_eq!(program, Program { kind: Kind::Blender, path: real, reads });
    }

    #[tokio::test]
    async fn a_virtual_environment_needs_its_base_too() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        for folder in ["venv/bin", "venv/bpy", "base/bin", "base/lib"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let where_ = format!(
            r#"{{"bpy":"{0}/venv/bpy/__init__.py","reads":["{0}/venv","{0}/base","/usr/lib"]}}"#,
            root.display()
        );
        let answer = format!("[ $1 = -c ] && echo '{where_}' || echo Python 3.11.7");
        script(&root.join("base/bin/python3"), &answer);
        symlink("../../base/bin/python3", root.join("venv/bin/python")).unwrap();
        let program = identify(&root.join("venv/bin/python")).await.unwrap();
        assert_eq!((program.kind, program.path), (Kind::Python, root.join("venv/bin/python")));
        assert_eq!(program.reads[..2], [root.join("base"), root.join("venv")]);
    }

    #[tokio::test]
    async fn other_programs_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let stranger = script(&dir.path().join("blender"), "echo GIMP 2.10");
        let empty = script(
            &dir.path().join("python"),
            "[ $1 = -c ] && echo '{\"bpy\":null,\"reads\":[]}' || echo Python 3",
        );
        let said = |error: NotABlender| {
            error.to_string().replace(&dir.path().display().to_string(), "DIR")
        };
        let told = [
            said(identify(&stranger).await.unwrap_err()),
            said(identify(&empty).await.unwrap_err()),
            said(identify(&dir.path().join("nothing")).await.unwrap_err()),
        ];
        insta::assert_snapshot!(told.join("\n"), @r"
        `DIR/blender` is neither a Blender nor a Python; it says: GIMP 2.10
        the Python `DIR/python` has no bpy module: install it there (`pip install bpy`), or name another one
        `DIR/nothing` cannot be run: No such file or directory (os error 2)
        ");
    }
}
