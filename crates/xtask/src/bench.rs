//! Measurements, by the program that makes them, in a release build.

use std::path::PathBuf;

use crate::process::{cargo, run};
use crate::setup;
use crate::web;

#[derive(clap::Args)]
pub(crate) struct Bench {
    /// dispatch, warm, return-path, scale, placement, python, addon or web; all of them if none is
    /// named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Write the figures to this file, an object of name → number
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Bench {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut programs: Vec<&setup::Program> = setup::FOR_RENDERING
            .iter()
            .chain(setup::FOR_BENCHMARKS)
            .chain(setup::FOR_WEB)
            .collect();
        programs.push(&setup::CHROMIUM);
        setup::programs(&programs)?;
        setup::python_tools()?;
        web::install()?;
        web::build()?;
        run(&mut cargo(&["build", "--release", "--workspace", "--bins"]))?;
        let mut bench = cargo(&[
            "run",
            "--release",
            "--quiet",
            "--package",
            "grange-tests",
            "--bin",
            "grange-bench",
            "--",
        ]);
        bench.args(&self.names);
        if let Some(file) = &self.json {
            bench.arg("--json").arg(std::path::absolute(file)?);
        }
        run(&mut bench)
    }
}
