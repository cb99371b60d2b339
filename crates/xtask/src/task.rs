//! What there is to do.

use clap::Parser;

use crate::{addon, bench, demo, fuzz, sim, test, web};

/// Set-up and checks of Grange.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) enum Task {
    /// Render a small sample scene on a farm of this machine: a coordinator and two agents
    Demo(demo::Demo),
    /// Install what the tests need and run all of them
    Test(test::Test),
    /// Pack the Blender add-on into `target/addon/grange-VERSION.zip`
    Addon(addon::Addon),
    /// Build the dashboard, which a coordinator that is built afterwards has in it
    Web(web::Web),
    /// Measure, in a release build
    Bench(bench::Bench),
    /// Run farms on which everything goes wrong, in a time of their own; the last line is the verdict
    Sim(sim::Sim),
    /// Feed whatever reads bytes from outside with what nobody sends; the last line is the verdict
    Fuzz(fuzz::Fuzz),
}

impl Task {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Demo(demo) => demo.run(),
            Self::Test(test) => test.run(),
            Self::Addon(addon) => addon.run(),
            Self::Web(web) => web.run(),
            Self::Bench(bench) => bench.run(),
            Self::Sim(sim) => sim.run(),
            Self::Fuzz(fuzz) => fuzz.run(),
        }
    }
}
