//! The simulation of the scheduler, for as long as one likes.

use crate::process::{cargo, run};

#[derive(clap::Args)]
pub(crate) struct Sim {
    /// Go on until so many hours of farms were simulated
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    hours: Option<u64>,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// So many seeds
    #[arg(long, value_name = "K")]
    seeds: Option<u64>,
    /// The farms of minutes that the tests run, instead of those of hours
    #[arg(long)]
    short: bool,
}

impl Sim {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut sim = cargo(&[
            "run",
            "--profile",
            "sim",
            "--quiet",
            "--package",
            "grange-scheduler",
            "--example",
            "sim",
            "--",
            "--seed",
        ]);
        sim.arg(self.seed.to_string());
        if let Some(hours) = self.hours {
            sim.args(["--hours", &hours.to_string()]);
        }
        if let Some(seeds) = self.seeds {
            sim.args(["--seeds", &seeds.to_string()]);
        }
        if self.short {
            sim.arg("--short");
        }
        run(&mut sim)
    }
}
