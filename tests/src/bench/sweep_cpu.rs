//! Frames a minute of real Blenders on this host's processor, with the number of instances that an
//! agent finds and with fixed ones.
//!
//! The sample scene (`examples/turntable.py`) in three sizes of picture. Each setting gets a farm of
//! its own; settings take turns, and medians of the rounds count. The rates are those of
//! [`super::sweep`]: the first eight frames do not count.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use grange_protocol::JobId;
use tempfile::TempDir;
use tokio::time::Instant;

use super::processes::{Farm, disk, program};
use super::sweep::{Speed, watch};
use super::{Figures, median, warm};

const ROUNDS: usize = 3;
const SETTINGS: [&str; 3] = ["1", "2", "auto"];
/// Pixels, samples, frames: more of those that take little.
const SCENES: [(&str, &str, &str, &str); 3] = [
    ("small", "160x90", "4", "1-72"),
    ("medium", "240x135", "8", "1-40"),
    ("large", "320x180", "12", "1-24"),
];
const GROUP: usize = 2;

pub(super) fn run() -> anyhow::Result<Figures> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}

async fn measure() -> anyhow::Result<Figures> {
    let home = TempDir::new_in(disk()?)?;
    let scene = warm::sample_scene(home.path())?;
    let mut figures = Figures::new();
    for (name, resolution, samples, frames) in SCENES {
        let mut rounds: Vec<Vec<Speed>> = Vec::new();
        for _ in 0..ROUNDS {
            let mut round = Vec::new();
            for instances in SETTINGS {
                let asked = ["--resolution", resolution, "--samples", samples, "-f", frames];
                let (speed, decided) = render(&scene, &asked, instances).await?;
                round.push(speed);
                if instances == "auto" {
                    println!("sweep_cpu_{name}_auto decided:\n{}", decided.join("\n"));
                }
            }
            rounds.push(round);
        }
        let of = |at: usize, figure: fn(Speed) -> f64| {
            median(rounds.iter().map(|round| figure(round[at])).collect())
        };
        let mut best: (f64, f64) = (0.0, 0.0);
        for (at, instances) in SETTINGS.into_iter().enumerate() {
            let (steady, whole) = (of(at, |speed| speed.steady), of(at, |speed| speed.whole));
            figures.insert(format!("sweep_cpu_{name}_{instances}_per_min"), steady);
            if instances == "auto" {
                let ratio = |figure: &str| format!("sweep_cpu_{name}_auto_to_best_{figure}");
                figures.insert(ratio("ratio"), steady / best.0);
                figures.insert(ratio("whole_ratio"), whole / best.1);
            } else if steady > best.0 {
                best = (steady, whole);
            }
        }
    }
    Ok(figures)
}

async fn render(
    scene: &Path,
    asked: &[&str],
    instances: &str,
) -> anyhow::Result<(Speed, Vec<String>)> {
    let mut farm = Farm::start()?;
    farm.start_agent(|agent| {
        agent.args(["--engines", "cycles", "--instances", instances, "--blender"]);
        agent.arg(blender()?);
        Ok(())
    })
    .await?;
    let client = farm.client().await?;
    let began = Instant::now();
    let mut submit = Command::new(program("grange")?);
    submit.arg("--identity").arg(farm.admin_dir()).args(["submit", "--json", "--no-preview"]);
    submit.args(["--device", "cpu"]).args(asked).arg(scene);
    let told = submit.stderr(Stdio::inherit()).output()?;
    let told: serde_json::Value = serde_json::from_slice(&told.stdout)?;
    let job = told["job"].as_u64().context("no job was told")?;
    let committed_s = watch(&client, JobId(u32::try_from(job)?), began).await?;
    client.close().await;
    Ok((Speed::of(&committed_s, GROUP)?, farm.decisions()?))
}

/// The one that `blender` starts.
fn blender() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("blender")).find(|at| at.is_file());
    found.context("there is no `blender` on the PATH")
}
