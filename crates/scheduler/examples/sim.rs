//! Runs farms of the simulation for long, or one of them again: what `cargo xtask sim` starts.
//!
//! `--seed S`: the first one (1). `--seeds K`: so many. `--hours N`: as many as it takes for so many
//! simulated hours. `--short`: the farms that the tests run. The last line is the verdict.

#[path = "../tests/sim/world/mod.rs"]
mod world;

use std::io::Write;
use std::process::ExitCode;

use world::{Runs, Scale};

fn main() -> ExitCode {
    let Some(runs) = asked(std::env::args().skip(1)) else {
        let usage = "usage: sim [--hours N] [--seed S] [--seeds K] [--short]";
        let _ = writeln!(std::io::stderr(), "{usage}");
        return ExitCode::from(2);
    };
    let verdict = runs.run();
    let _ = writeln!(std::io::stdout(), "{verdict}");
    if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn asked(mut words: impl Iterator<Item = String>) -> Option<Runs> {
    let mut runs = Runs { scale: Scale::Long, first_seed: 1, seeds: None, hours: None };
    while let Some(word) = words.next() {
        if word == "--short" {
            runs.scale = Scale::Short;
            continue;
        }
        let number = words.next()?.parse().ok()?;
        match word.as_str() {
            "--hours" => runs.hours = Some(number),
            "--seed" => runs.first_seed = number,
            "--seeds" => runs.seeds = Some(number),
            _ => return None,
        }
    }
    if runs.hours.is_none() && runs.seeds.is_none() {
        runs.hours = Some(10);
    }
    Some(runs)
}
