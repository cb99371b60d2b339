//! `grange-agent`: see `grange_agent`.

use clap::Parser;
use std::process::ExitCode;

use grange_agent::daemon::{Args, print_error, run};

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}
