//! The dashboard: its packages, its checks, and its files for the coordinator to have in it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use crate::process::{root, run};
use crate::setup;

#[derive(clap::Args)]
pub(crate) struct Web {
    /// Check formatting, lints and types instead
    #[arg(long)]
    check: bool,
}

impl Web {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        setup::programs(&setup::FOR_WEB.iter().collect::<Vec<_>>())?;
        install()?;
        if self.check { check() } else { build() }
    }
}

/// The packages that the lock file names, in `coordinator/web/node_modules`. No script of theirs runs.
pub(crate) fn install() -> anyhow::Result<()> {
    let lock = fs::read(folder().join("package-lock.json")).context("no package-lock.json")?;
    let mark = folder().join("node_modules/.installed");
    if fs::read(&mark).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    run(npm().args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]))?;
    fs::write(&mark, lock).with_context(|| format!("{} cannot be written", mark.display()))
}

/// Into `coordinator/web/dist`, where the coordinator's build takes them from.
pub(crate) fn build() -> anyhow::Result<()> {
    run(npm().args(["run", "--silent", "build"]))
}

pub(crate) fn check() -> anyhow::Result<()> {
    run(npm().args(["run", "--silent", "check"]))
}

fn npm() -> Command {
    let mut npm = Command::new("npm");
    npm.current_dir(folder());
    npm
}

fn folder() -> PathBuf {
    root().join("coordinator/web")
}
