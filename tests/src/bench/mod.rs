//! What Grange costs, measured on real processes in a release build. Each benchmark prints its
//! figures and returns them as name → number; `docs/performance.md` keeps them with the command.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a terminal program")]

mod addon;
mod bare;
mod dashboards;
mod dispatch;
mod guesses;
mod optimum;
mod packing;
mod placement;
mod processes;
mod python;
mod return_path;
mod scale;
mod simulated;
mod sweep;
mod sweep_cpu;
mod warm;
mod web;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

/// Figures by name. The unit is the end of the name.
pub type Figures = BTreeMap<String, f64>;

type Benchmark = fn() -> anyhow::Result<Figures>;

const BENCHMARKS: &[(&str, Benchmark)] = &[
    ("dispatch", dispatch::run),
    ("dashboards", dashboards::run),
    ("warm", warm::run),
    ("return-path", return_path::run),
    ("scale", scale::run),
    ("placement", placement::run),
    ("python", python::run),
    ("addon", addon::run),
    ("web", web::run),
];

#[derive(Parser)]
struct Args {
    /// Which to run; all if none is named
    names: Vec<String>,
    /// Write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Be the receiver of the bare sender, writing to this directory
    #[arg(long, hide = true)]
    bare_receiver: Option<PathBuf>,
}

pub fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(out) = &args.bare_receiver {
        return bare::receive(out);
    }
    let known = || BENCHMARKS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    for name in &args.names {
        let exists = BENCHMARKS.iter().any(|(known, _)| known == name);
        anyhow::ensure!(exists, "there is no benchmark `{name}`: there are {}", known());
    }
    let mut all = Figures::new();
    for (name, benchmark) in BENCHMARKS {
        if args.names.is_empty() || args.names.iter().any(|wanted| wanted == name) {
            println!("── {name}");
            let figures = benchmark().with_context(|| format!("benchmark {name}"))?;
            for (figure, value) in &figures {
                println!("{figure:<44} {value:>14.2}");
            }
            all.extend(figures);
        }
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&all)?;
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The middle of an odd number of measurements.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
