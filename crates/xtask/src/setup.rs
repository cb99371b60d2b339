//! What the demo and the tests need, installed where it is missing.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::process::{output, root, run, target};

/// A program, and the Debian package that has it.
pub(crate) struct Program {
    name: &'static str,
    package: &'static str,
}

const BLENDER: Program = Program { name: "blender", package: "blender" };
const FFMPEG: Program = Program { name: "ffmpeg", package: "ffmpeg" };
const PYTHON: Program = Program { name: "python3.11", package: "python3.11" };
const BUBBLEWRAP: Program = Program { name: "bwrap", package: "bubblewrap" };

/// What libFuzzer is compiled with.
pub(crate) const CPP: Program = Program { name: "c++", package: "build-essential" };

/// Ends processes; missing in small images of Debian.
pub(crate) const KILL: Program = Program { name: "kill", package: "procps" };

/// What rendering needs.
pub(crate) const FOR_RENDERING: &[Program] = &[BLENDER, FFMPEG, BUBBLEWRAP];

/// What the tests on a real GPU need; its driver nobody can install for them.
pub(crate) const FOR_GPUS: &[Program] =
    &[BUBBLEWRAP, PYTHON, Program { name: "cc", package: "build-essential" }, KILL];

/// What the tests need besides.
pub(crate) const FOR_TESTS: &[Program] = &[
    Program { name: "cc", package: "build-essential" },
    PYTHON,
    Program { name: "systemd-analyze", package: "systemd" },
    Program { name: "mount", package: "mount" },
    Program { name: "ip", package: "iproute2" },
    Program { name: "initdb", package: "postgresql" },
    Program { name: "faketime", package: "faketime" },
    KILL,
];

/// What the add-on's tests need: a screen that nobody sees, OpenGL in software, and hands.
pub(crate) const FOR_WINDOWS: &[Program] =
    &[Program { name: "Xvfb", package: "xvfb" }, Program { name: "xdotool", package: "xdotool" }];

/// What builds the dashboard. Any Node from 18 on does.
pub(crate) const FOR_WEB: &[Program] =
    &[Program { name: "node", package: "nodejs" }, Program { name: "npm", package: "npm" }];

/// What the dashboard's tests look at it with.
pub(crate) const CHROMIUM: Program = Program { name: "chromium", package: "chromium" };

/// What the benchmarks compare with.
pub(crate) const FOR_BENCHMARKS: &[Program] = &[Program { name: "rsync", package: "rsync" }];

/// The versions of Blender's Python module that the tests render with, besides Debian's Blender.
const BPY_VERSIONS: [&str; 3] = ["4.2.23", BPY_FOR_GPUS, "5.0.1"];
const BPY_FOR_GPUS: &str = "4.5.15";
/// What the module needs of the system and Debian's Blender does not bring along.
const BPY_LIBRARY: Program = Program { name: "libSM.so.6", package: "libsm6" };
/// What asks of the HTTP API whatever its description allows.
const SCHEMATHESIS: &str = "4.32.5";
/// Checkers of Python, and what the client package's tests and its own programs run with.
const PYTHON_TOOLS: [&str; 4] =
    ["ruff==0.17.5", "basedpyright==1.40.2", "pytest==9.2.0", "rich==15.0.0"];

/// Installs those programs that are not on the path, with apt-get.
pub(crate) fn programs(wanted: &[&Program]) -> anyhow::Result<()> {
    let missing: Vec<&&Program> =
        wanted.iter().filter(|program| find(program.name).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|program| program.name).collect();
    let packages: Vec<&str> = missing.iter().map(|program| program.package).collect();
    println!(
        "installing what is missing ({}): apt-get install {}",
        names.join(", "),
        packages.join(" ")
    );
    anyhow::ensure!(
        find("apt-get").is_some(),
        "{} cannot be installed here, because there is no apt-get: install them and run this again",
        packages.join(", ")
    );
    install(&packages)?;
    for program in missing {
        find(program.name).with_context(|| {
            format!(
                "apt-get installed {}, but there is still no `{}`",
                program.package, program.name
            )
        })?;
    }
    Ok(())
}

/// The Pythons with a bpy module, one per version, in `target/runtimes`.
pub(crate) fn bpy_runtimes() -> anyhow::Result<()> {
    bpy_runtimes_of(&BPY_VERSIONS)
}

/// The one that the tests render on GPUs with.
pub(crate) fn bpy_for_gpus() -> anyhow::Result<()> {
    bpy_runtimes_of(&[BPY_FOR_GPUS])
}

fn bpy_runtimes_of(versions: &[&str]) -> anyhow::Result<()> {
    if !output(Command::new("/sbin/ldconfig").arg("-p"))?.contains(BPY_LIBRARY.name) {
        println!("installing what the module needs: apt-get install {}", BPY_LIBRARY.package);
        install(&[BPY_LIBRARY.package])?;
    }
    for version in versions {
        let home = target().join("runtimes").join(format!("bpy-{version}"));
        let packages = [format!("bpy=={version}")];
        if is_complete(&home, &packages) {
            continue;
        }
        println!(
            "installing Blender {version} as a Python module (about 350 MB) to {}",
            home.display()
        );
        install_venv(&home, &packages)?;
    }
    link_runtimes()
}

/// The tool that holds the HTTP API against its description, in `target/runtimes`.
pub(crate) fn schemathesis() -> anyhow::Result<()> {
    let home = target().join("runtimes").join(format!("schemathesis-{SCHEMATHESIS}"));
    let packages = [format!("schemathesis=={SCHEMATHESIS}")];
    if !is_complete(&home, &packages) {
        println!("installing schemathesis {SCHEMATHESIS} to {}", home.display());
        install_venv(&home, &packages)?;
    }
    link_runtimes()
}

/// Where the Python checkers are, and a Python that the client package runs in.
pub(crate) fn python_tools() -> anyhow::Result<PathBuf> {
    let home = target().join("python-tools");
    let packages = PYTHON_TOOLS.map(String::from);
    if !is_complete(&home, &packages) {
        println!("installing {}", packages.join(", "));
        install_venv(&home, &packages)?;
    }
    link_below_root("python-tools")?;
    Ok(home.join("bin"))
}

/// A program on the path, or one of PostgreSQL's server, which Debian keeps out of it.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    std::env::split_paths(&path)
        .chain(versions.map(|version| version.path().join("bin")))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    apt(&["update", "--quiet=2"])?;
    let mut install = vec!["install", "--yes", "--quiet=2", "--no-install-recommends"];
    install.extend(packages);
    apt(&install)
}

fn apt(args: &[&str]) -> anyhow::Result<()> {
    let is_root = output(Command::new("id").arg("-u"))? == "0";
    let mut command = if is_root {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("apt-get");
        sudo
    };
    run(command.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// A new environment with these packages in it. An installation that broke off halfway is not taken
/// for a whole one, and neither is one of other packages.
fn install_venv(home: &Path, packages: &[String]) -> anyhow::Result<()> {
    make_venv(home)?;
    pip(home, packages)?;
    Ok(fs::write(home.join("complete"), packages.join("\n"))?)
}

fn make_venv(home: &Path) -> anyhow::Result<()> {
    if home.exists() {
        fs::remove_dir_all(home)
            .with_context(|| format!("{} cannot be removed", home.display()))?;
    }
    let venv = |home: &Path| {
        let args: [OsString; 3] = ["-m".into(), "venv".into(), home.into()];
        run(Command::new("python3.11").args(args))
    };
    // Debian's Python leaves out the part that puts pip into an environment.
    if venv(home).is_err() {
        install(&["python3.11-venv"])?;
        venv(home)?;
    }
    Ok(())
}

fn pip(home: &Path, packages: &[String]) -> anyhow::Result<()> {
    run(Command::new(home.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"])
        .args(packages))
}

/// Whether all of these are installed there. Environments of one package had an empty mark, and a
/// name with the version.
fn is_complete(home: &Path, packages: &[String]) -> bool {
    let installed = fs::read_to_string(home.join("complete"));
    installed.is_ok_and(|installed| {
        installed == packages.join("\n") || (installed.is_empty() && packages.len() == 1)
    })
}

fn link_runtimes() -> anyhow::Result<()> {
    link_below_root("runtimes")
}

/// The tests look below the workspace, wherever cargo builds.
fn link_below_root(name: &str) -> anyhow::Result<()> {
    let expected = root().join("target").join(name);
    if !expected.exists() {
        fs::create_dir_all(root().join("target"))?;
        std::os::unix::fs::symlink(target().join(name), expected)?;
    }
    Ok(())
}
