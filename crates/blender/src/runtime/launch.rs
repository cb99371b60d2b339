//! What to execute for an instance, and the worker's files that it needs.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use grange_protocol::agent::RuntimeInfo;
use tokio::process::Command;

use crate::instance::CyclesDevice;

/// The socket's name in a run directory.
pub(crate) const SOCKET: &str = "socket";
/// What an exception in the worker ends Blender with.
const PYTHON_EXIT_CODE: &str = "66";

/// The worker, file by file, as it lies below `worker/` in a run directory.
const WORKER: &[(&str, &str)] = &[
    ("__init__.py", include_str!("../worker/__init__.py")),
    ("host.py", include_str!("../worker/host.py")),
    ("link.py", include_str!("../worker/link.py")),
    ("main.py", include_str!("../worker/main.py")),
    ("naming.py", include_str!("../worker/naming.py")),
    ("opening.py", include_str!("../worker/opening.py")),
    ("overrides.py", include_str!("../worker/overrides.py")),
    ("persistence.py", include_str!("../worker/persistence.py")),
    ("picture.py", include_str!("../worker/picture.py")),
    ("probing.py", include_str!("../worker/probing.py")),
    ("rendering.py", include_str!("../worker/rendering.py")),
    ("session/__init__.py", include_str!("../worker/session/__init__.py")),
    ("session/begin.py", include_str!("../worker/session/begin.py")),
    ("session/calls.py", include_str!("../worker/session/calls.py")),
    ("session/camera.py", include_str!("../worker/session/camera.py")),
    ("session/checks.py", include_str!("../worker/session/checks.py")),
    ("session/combined.py", include_str!("../worker/session/combined.py")),
    ("session/curves.py", include_str!("../worker/session/curves.py")),
    ("session/engine.py", include_str!("../worker/session/engine.py")),
    ("session/extensions.py", include_str!("../worker/session/extensions.py")),
    ("session/frames.py", include_str!("../worker/session/frames.py")),
    ("session/naming.py", include_str!("../worker/session/naming.py")),
    ("session/output.py", include_str!("../worker/session/output.py")),
    ("session/placing.py", include_str!("../worker/session/placing.py")),
    ("session/state.py", include_str!("../worker/session/state.py")),
    ("session/timeline.py", include_str!("../worker/session/timeline.py")),
    ("session/truths.py", include_str!("../worker/session/truths.py")),
    ("session/values.py", include_str!("../worker/session/values.py")),
    ("shot.py", include_str!("../worker/shot.py")),
    ("stop.py", include_str!("../worker/stop.py")),
];

/// A Blender that was started once and showed what it can do.
#[derive(Clone, Debug, PartialEq)]
pub struct Runtime {
    pub info: RuntimeInfo,
    /// What Cycles saw when it was probed, CPU included.
    pub devices: Vec<CyclesDevice>,
    /// Whether it can be stopped in mid-frame without being killed.
    pub can_stop: bool,
    pub(super) program: Program,
}

/// What to execute, before any sandbox wraps it. Paths mean the same inside and outside of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// To be set besides what the environment has.
    pub env: Vec<(OsString, OsString)>,
    /// Directories that the runtime reads besides the system's own (`/usr`, `/lib`, `/etc` …).
    pub reads: Vec<PathBuf>,
    /// Holds the worker, its socket and its temporary files: read and written. Scenes and scratch
    /// directories are not in here.
    pub run_dir: PathBuf,
}

/// An executable of one of the two kinds, and what it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) kind: Kind,
    pub(super) path: PathBuf,
    pub(super) reads: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Blender itself.
    Blender,
    /// A Python that has the bpy module.
    Python,
}

impl Runtime {
    /// Prepares a run directory — made if need be, for this instance alone — and says what to
    /// execute. `threads` bounds the processor threads that render, where an order does not say
    /// otherwise; `None` takes all.
    pub fn launch(&self, run_dir: &Path, threads: Option<u16>) -> io::Result<Launch> {
        self.program.launch(run_dir, threads)
    }

    /// Directories that it reads besides the system's own.
    pub fn reads(&self) -> &[PathBuf] {
        &self.program.reads
    }
}

impl Launch {
    /// As a command, without a sandbox.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().cloned());
        command
    }
}

impl Program {
    pub(super) fn launch(&self, run_dir: &Path, threads: Option<u16>) -> io::Result<Launch> {
        let run_dir = std::path::absolute(run_dir)?;
        lay_out(&run_dir)?;
        let threads = threads.unwrap_or(0).to_string();
        let worker = run_dir.join("worker/main.py").into_os_string();
        let mut args: Vec<OsString> = Vec::new();
        match self.kind {
            // No `--threads`: Blender would hold to that whatever a render asks for.
            Kind::Blender => {
                args.extend(["-b", "--factory-startup", "-Y"].map(Into::into));
                args.extend(["--python-exit-code", PYTHON_EXIT_CODE].map(Into::into));
                args.extend(["--python".into(), worker, "--".into()]);
            }
            Kind::Python => args.extend(["-u".into(), worker]),
        }
        args.extend([run_dir.join(SOCKET).into(), threads.into()]);
        Ok(Launch {
            program: self.path.clone(),
            args,
            env: environment(&run_dir),
            reads: self.reads.clone(),
            run_dir,
        })
    }
}

/// The run directory is private: whoever can open the socket could pass for the worker.
fn lay_out(run_dir: &Path) -> io::Result<()> {
    for dir in [run_dir.to_owned(), run_dir.join("worker/session"), run_dir.join("tmp")] {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    for (name, text) in WORKER {
        fs::write(run_dir.join("worker").join(name), text)?;
    }
    Ok(())
}

/// Temporary files where they are removed with the run directory, and nothing of the settings
/// and scripts of the user that the agent happens to run as.
fn environment(run_dir: &Path) -> Vec<(OsString, OsString)> {
    let below = |name: &str| run_dir.join(name).into_os_string();
    vec![
        ("TMPDIR".into(), below("tmp")),
        ("PYTHONDONTWRITEBYTECODE".into(), "1".into()),
        ("BLENDER_USER_RESOURCES".into(), below("user")),
        ("BLENDER_USER_CONFIG".into(), below("user/config")),
        ("BLENDER_USER_SCRIPTS".into(), below("user/scripts")),
        ("BLENDER_USER_DATAFILES".into(), below("user/datafiles")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_launched_with_the_worker_and_a_private_directory() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        let launch = |kind, threads| {
            let path = PathBuf::from("/opt/x/program");
            let launch = Program { kind, path, reads: vec![] }.launch(&run_dir, threads).unwrap();
            let args: Vec<String> = launch
                .args
                .iter()
                .map(|arg| arg.to_str().unwrap().replace(run_dir.to_str().unwrap(), "RUN"))
                .collect();
            args.join(" ")
        };
        assert_eq!(
            launch(Kind::Blender, Some(3)),
            "-b --factory-startup -Y --python-exit-code 66 \
             --python RUN/worker/main.py -- RUN/socket 3"
        );
        assert_eq!(launch(Kind::Python, None), "-u RUN/worker/main.py RUN/socket 0");
        assert!(run_dir.join("worker/rendering.py").is_file());
        let mode = fs::metadata(&run_dir).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn every_file_of_the_worker_is_laid_out() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/worker");
        let mut names = Vec::new();
        for below in ["", "session/"] {
            for entry in fs::read_dir(source.join(below)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                names.extend(name.ends_with(".py").then(|| format!("{below}{name}")));
            }
        }
        names.sort();
        assert_eq!(names, WORKER.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }
}
