//! `grange`: the farm from a terminal.

mod args;
mod commands;
mod display;
mod exit;
mod follow;
mod local;
mod missing;
mod news;
mod print;
mod scene;
mod top;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    exit::report(commands::run(args::parse()).await)
}
