//! `cargo xtask`: set-up and checks, nothing that a user needs at run time.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a terminal program")]

mod addon;
mod bench;
mod demo;
mod fuzz;
mod process;
mod setup;
mod sim;
mod task;
mod test;
mod web;

use std::process::ExitCode;

use clap::Parser;
use task::Task;

fn main() -> ExitCode {
    process::exit_code(Task::parse().run())
}
