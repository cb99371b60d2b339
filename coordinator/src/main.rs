//! `grange-coordinator`: see `grange_coordinator`.

use clap::Parser;
use std::process::ExitCode;

use grange_coordinator::daemon::{Args, run};

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            grange_coordinator::daemon::print_error(&error);
            ExitCode::FAILURE
        }
    }
}
