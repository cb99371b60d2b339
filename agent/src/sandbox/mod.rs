//! Where Blender and ffmpeg run: in bubblewrap, seeing what they need and nothing else.
//!
//! A cell has no network, no other processes, a read-only root made of the system's programs and
//! libraries, the files of its scene at the paths where the submitter has them, and its own scratch
//! directory to write to. The environment is empty but for what is set here.

mod mounts;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use grange_blender::runtime::Launch;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::gpu::Found;
use mounts::{Mount, Tree};

/// Whether Blender is locked in. Off must be written by the host's owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    On,
    Off,
}

/// The way that this host runs programs it does not trust.
#[derive(Clone, Debug)]
pub enum Sandbox {
    Bubblewrap(PathBuf),
    Off,
}

/// A program to run, and all that it may see. Paths are the same inside and outside, but for
/// `scene`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) reads: Vec<PathBuf>,
    pub(crate) writes: Vec<PathBuf>,
    /// Device files and directories of them, below `/dev`. Those that are not there are not shown.
    pub(crate) nodes: Vec<PathBuf>,
    /// Becomes `/tmp`.
    pub(crate) tmp: PathBuf,
    /// A directory below which lies what should appear at the root: `SCENE/home/ada/a.blend` as
    /// `/home/ada/a.blend`.
    pub(crate) scene: Option<PathBuf>,
}

impl Cell {
    /// A cell for an instance of Blender.
    pub(crate) fn of(
        launch: Launch,
        writes: Vec<PathBuf>,
        tmp: PathBuf,
        scene: Option<PathBuf>,
    ) -> Self {
        let Launch { program, args, env, reads, .. } = launch;
        Self { program, args, env, reads, writes, nodes: Vec::new(), tmp, scene }
    }

    /// Shows a device to the program, and hides all others from it.
    pub(crate) fn give(&mut self, device: &Found) {
        self.env.extend(device.env.iter().cloned());
        let (nodes, others): (Vec<PathBuf>, Vec<PathBuf>) =
            device.nodes.iter().cloned().partition(|path| path.starts_with("/dev"));
        self.nodes.extend(nodes);
        self.reads.extend(others.into_iter().filter(|path| path.exists()));
    }
}

/// The system's programs, libraries, fonts and drivers. Some do not exist everywhere.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/glvnd",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/OpenCL",
    "/etc/vulkan",
];

const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

impl Sandbox {
    /// Finds bubblewrap and sees that it works here.
    pub async fn find(mode: Mode) -> Result<Self, SandboxError> {
        if mode == Mode::Off {
            return Ok(Self::Off);
        }
        let path = find_program("bwrap").ok_or(SandboxError::Missing)?;
        let probe = Command::new(&path)
            .args(["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/"])
            // The one program that is surely there.
            .arg(&path)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|error| SandboxError::Broken(error.to_string()))?;
        if !probe.status.success() {
            let said = String::from_utf8_lossy(&probe.stderr);
            return Err(SandboxError::Broken(said.trim().to_owned()));
        }
        Ok(Self::Bubblewrap(path))
    }

    pub fn is_on(&self) -> bool {
        matches!(self, Self::Bubblewrap(_))
    }

    /// Where a file of a scene is seen from inside.
    pub(crate) fn scene_path(&self, layout: &Path, path: &grange_protocol::LayoutPath) -> PathBuf {
        match self {
            Self::Bubblewrap(_) => path.as_str().into(),
            Self::Off => layout.join(path.relative()),
        }
    }

    /// The command that runs the cell. What cannot be looked at on this host is not shown.
    pub(crate) fn command(&self, cell: &Cell) -> Command {
        match self {
            Self::Off => {
                let mut command = Command::new(&cell.program);
                command.args(&cell.args).envs(cell.env.iter().cloned()).env("TMPDIR", &cell.tmp);
                command
            }
            Self::Bubblewrap(bwrap) => {
                let mut command = Command::new(bwrap);
                command.args(fixed_arguments());
                for (name, value) in environment(cell) {
                    command.arg("--setenv").arg(name).arg(value);
                }
                for mount in plan(cell) {
                    command.args(mount.arguments());
                }
                command.args(["--proc", "/proc", "--dev", "/dev"]);
                // After the new /dev, which would cover them.
                for node in &cell.nodes {
                    command.arg("--dev-bind-try").arg(node).arg(node);
                }
                command.args(["--chdir", "/tmp", "--"]).arg(&cell.program).args(&cell.args);
                command.env_clear();
                command
            }
        }
    }
}

fn fixed_arguments() -> [&'static str; 6] {
    ["--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
}

fn environment(cell: &Cell) -> Vec<(OsString, OsString)> {
    let fixed = [("PATH", PATH), ("HOME", "/tmp"), ("TMPDIR", "/tmp"), ("LANG", "C.UTF-8")];
    let fixed = fixed.map(|(name, value)| (name.into(), value.into()));
    fixed.into_iter().chain(cell.env.iter().cloned()).collect()
}

/// Every mount of a cell, parents before children.
fn plan(cell: &Cell) -> Vec<Mount> {
    let mut tree = Tree::default();
    for path in SYSTEM {
        tree.show_system(Path::new(path));
    }
    for path in &cell.reads {
        tree.show(path, path);
    }
    tree.write(&cell.tmp, Path::new("/tmp"));
    if let Some(scene) = &cell.scene {
        show_scene(&mut tree, scene, Path::new("/"));
    }
    for path in &cell.writes {
        tree.write(path, path);
    }
    tree.mounts()
}

/// Shows a scene's directories, each as a whole where it holds files, so that a cell has few
/// mounts however many textures there are.
fn show_scene(tree: &mut Tree, dir: &Path, target: &Path) {
    let entries: Vec<fs::DirEntry> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    if target != Path::new("/") && entries.iter().any(|entry| !is_dir(entry)) {
        return tree.show(dir, target);
    }
    for entry in entries {
        let target = target.join(entry.file_name());
        if is_dir(&entry) {
            show_scene(tree, &entry.path(), &target);
        } else {
            tree.show(&entry.path(), &target);
        }
    }
}

/// A program on the path of this process.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
}

#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error(
        "bubblewrap is missing, and without it Blender would see this whole host: install it \
         (`apt-get install bubblewrap`), or write `sandbox = \"off\"` if you trust every job"
    )]
    Missing,
    #[error(
        "bubblewrap does not work here ({0}): allow unprivileged user namespaces, or write \
         `sandbox = \"off\"` if you trust every job"
    )]
    Broken(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(sandbox: &Sandbox, cell: &Cell) -> Vec<String> {
        let command = sandbox.command(cell);
        let words = command.as_std().get_args();
        words.map(|word| word.to_string_lossy().into_owned()).collect()
    }

    /// A device with a file that is there, one that is not, and a directory of the system.
    fn device() -> Found {
        Found {
            info: grange_protocol::agent::DeviceInfo {
                id: "GPU-1".parse().unwrap(),
                name: "one".parse().unwrap(),
                kind: grange_protocol::agent::DeviceKind::Cuda,
                memory_mib: 1,
                slots: 1,
                driver: Default::default(),
            },
            pci: None,
            env: vec![("CUDA_VISIBLE_DEVICES".into(), "GPU-1".into()), ("HIP".into(), "".into())],
            nodes: ["/dev/fuse", "/dev/none", "/sys"].map(PathBuf::from).into(),
        }
    }

    #[test]
    fn device_files_are_shown_in_the_new_dev_and_their_variables_are_set() {
        let mut cell = Cell { program: "/bin/true".into(), ..Cell::default() };
        cell.give(&device());
        let words = words(&Sandbox::Bubblewrap("bwrap".into()), &cell);
        let at = |group: &[&str]| {
            words.windows(group.len()).position(|window| window == group).expect("it is there")
        };
        let order = [
            at(&["--clearenv"]),
            at(&["--setenv", "CUDA_VISIBLE_DEVICES", "GPU-1"]),
            at(&["--setenv", "HIP", ""]),
            at(&["--ro-bind", "/sys", "/sys"]),
            at(&["--dev", "/dev"]),
            at(&["--dev-bind-try", "/dev/fuse", "/dev/fuse"]),
            at(&["--dev-bind-try", "/dev/none", "/dev/none"]),
            at(&["--", "/bin/true"]),
        ];
        assert!(order.is_sorted(), "{words:?}");
    }

    #[test]
    fn without_a_sandbox_the_variables_are_set_too() {
        let mut cell = Cell { program: "/bin/true".into(), ..Cell::default() };
        cell.give(&device());
        let command = Sandbox::Off.command(&cell);
        let env: Vec<_> = command.as_std().get_envs().collect();
        assert!(env.contains(&("HIP".as_ref(), Some("".as_ref()))), "{env:?}");
        assert!(env.contains(&("CUDA_VISIBLE_DEVICES".as_ref(), Some("GPU-1".as_ref()))));
    }

    #[tokio::test]
    async fn a_device_is_seen_in_its_cell_and_in_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut cell = shell(dir.path(), "ls /dev/full /dev/fuse; ls -d /sys/class; echo $HIP.");
        let without = run(&cell).await;
        assert!(without.contains("cannot access '/dev/fuse'"), "{without}");
        assert!(without.contains("cannot access '/sys/class'"), "{without}");
        cell.give(&device());
        let with = run(&cell).await;
        let there = Path::new("/dev/fuse").exists();
        assert_eq!(with.contains("cannot access"), !there, "{with}");
        assert!(with.contains("/sys/class"), "{with}");
    }

    async fn run(cell: &Cell) -> String {
        let sandbox = Sandbox::find(Mode::On).await.expect("bubblewrap is installed");
        let output = sandbox.command(cell).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        format!("{}{}", text(&output.stdout), text(&output.stderr))
    }

    fn shell(dir: &Path, script: &str) -> Cell {
        let tmp = dir.join("tmp");
        fs::create_dir_all(&tmp).unwrap();
        Cell {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            tmp,
            ..Cell::default()
        }
    }

    #[tokio::test]
    async fn a_cell_has_no_network_no_home_and_a_read_only_root() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        let script = format!(
            "cat /proc/net/dev | grep -c -v lo: ; ls {}; touch /usr/x; touch /x; env | sort | tr '\\n' ' '",
            secret.display()
        );
        let said = run(&shell(dir.path(), &script)).await;
        assert!(said.starts_with("2\n"), "more than loopback: {said}");
        assert!(said.contains("No such file"), "{said}");
        assert!(said.contains("cannot touch '/usr/x': Read-only file system"), "{said}");
        assert!(said.contains("HOME=/tmp LANG=C.UTF-8"), "{said}");
        assert!(!said.contains("CARGO"), "the environment leaks: {said}");
    }

    #[tokio::test]
    async fn a_scene_appears_where_its_submitter_has_it_and_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let scene = dir.path().join("scene");
        // One below a directory of its own, one in a system directory, one in /tmp itself, one at
        // the very root, one beside the agent's own directories.
        let beside = dir.path().join("beside.png");
        let paths =
            ["/home/ada/a b/x.blend", "/usr/share/grange tex/y.png", "/tmp/z.png", "/w.png"];
        for path in paths.into_iter().chain([beside.to_str().unwrap()]) {
            let file = scene.join(&path[1..]);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, path).unwrap();
        }
        let out = dir.path().join("out");
        fs::create_dir(&out).unwrap();
        let script = format!(
            "cat '/home/ada/a b/x.blend' '/usr/share/grange tex/y.png' /tmp/z.png /w.png {} >{}/all; \
             echo x >'/home/ada/a b/new'; echo x >/w.png; ls /usr/share/doc >/dev/null && echo system",
            beside.display(),
            out.display()
        );
        let mut cell = shell(dir.path(), &script);
        cell.scene = Some(scene);
        cell.writes = vec![out.clone()];
        let said = run(&cell).await;
        let all = fs::read_to_string(out.join("all")).unwrap_or_default();
        assert_eq!(all, paths.concat() + beside.to_str().unwrap(), "{said}");
        assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
        assert!(said.contains("system"), "{said}");
    }

    #[tokio::test]
    async fn a_cell_dies_with_its_command() {
        let dir = tempfile::tempdir().unwrap();
        let marker = format!("31{:07}", std::process::id());
        let cell = shell(dir.path(), &format!("sleep {marker} & sleep {marker}"));
        let sandbox = Sandbox::find(Mode::On).await.unwrap();
        let mut child = sandbox.command(&cell).spawn().unwrap();
        let sleeping = || {
            fs::read_dir("/proc")
                .unwrap()
                .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("cmdline")).ok())
                .filter(|line| line.starts_with("sleep") && line.contains(&marker))
                .count()
        };
        while sleeping() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        child.kill().await.unwrap();
        for _ in 0..200 {
            if sleeping() == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{} processes outlive the cell", sleeping());
    }
}
