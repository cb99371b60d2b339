//! `cargo xtask`: set-up and checks, nothing that a user needs at run time.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a terminal program")]

mod addon;
mod bench;
mod demo;
mod process;
mod setup;
mod sim;
mod test;
mod web;

use std::process::ExitCode;

use clap::Parser;

/// Set-up and checks of Grange.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
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
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Demo(demo) => demo.run(),
        Task::Test(test) => test.run(),
        Task::Addon(addon) => addon.run(),
        Task::Web(web) => web.run(),
        Task::Bench(bench) => bench.run(),
        Task::Sim(sim) => sim.run(),
    };
    process::exit_code(done)
}
