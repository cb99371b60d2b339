//! `grange-coordinator`, the program.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use grange_daemon::signals::StopSignals;
use grange_daemon::{logging, notify};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::{Config, Settings};
use crate::server::Server;
use crate::{backup, check, webhooks};

#[derive(Debug, Parser)]
#[command(name = "grange-coordinator", version, about, long_about = None)]
pub struct Args {
    /// The configuration file [default: /etc/grange/coordinator.toml, if it is there]
    #[arg(long, short, env = "GRANGE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    errand: Option<Errand>,
}

/// What it does instead of serving a farm.
#[derive(Debug, clap::Subcommand)]
enum Errand {
    /// Copy journal, keys and files to a directory, while the coordinator runs or not. Into the same
    /// directory again it copies what is new
    Backup {
        #[arg(value_name = "DIR")]
        to: PathBuf,
    },
    /// Make a state directory of a backup, which then is a coordinator's like any other. The one that
    /// it was taken from must not run any more
    Restore {
        #[arg(value_name = "DIR")]
        from: PathBuf,
    },
    /// Read journal and store, while the coordinator runs or not, and say whether they are whole:
    /// that snapshots and facts make the same state, and that no committed file is missing
    Check {
        /// Only up to this fact
        #[arg(long, value_name = "FACT")]
        as_of: Option<u64>,
    },
    /// Send every webhook of the configuration an event of the type webhook.test, and say what came
    /// of it
    TestWebhooks {
        /// Only the one with this `url`
        #[arg(value_name = "URL")]
        url: Option<String>,
    },
}

/// Runs until it is told to stop, or has done its errand.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let config = args.settings.resolve(args.config.as_deref())?;
    match args.errand {
        None => serve(config).await,
        Some(errand) => errand.run(&config).await,
    }
}

impl Errand {
    #[expect(clippy::print_stdout, reason = "what it has done is for a person at a terminal")]
    async fn run(self, config: &Config) -> anyhow::Result<()> {
        let lines = match self {
            Self::Backup { to } => backup::back_up(config, &to).await?.lines(),
            Self::Restore { from } => backup::restore(&from, config).await?.lines(),
            Self::Check { as_of } => vec![check::check(config, as_of).await?],
            Self::TestWebhooks { url } => {
                webhooks::try_out(&config.webhooks, url.as_deref(), config.farm.clone()).await?
            }
        };
        for line in lines {
            println!("{line}");
        }
        Ok(())
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    logging::init(&config.log, config.log_format);
    raise_file_limit();
    let mut signals = StopSignals::catch()?;
    let farm = config.farm.clone();
    let server = Server::bind(config).await?;
    tracing::info!("farm {farm} listens on {}", server.local_addr());
    match server.http_addr() {
        Some(address) => tracing::info!("the HTTP API listens on {address}"),
        None => tracing::info!("the HTTP API is off"),
    }
    tracing::info!("admin identity: {}", server.admin_identity().display());
    notify::ready(&format!("farm {farm} on {}", server.local_addr()));
    let last_beat = AtomicU64::new(0);
    tokio::select! {
        () = signals.next() => {}
        () = notify::watchdog(|| async {
            let beat = server.heartbeats();
            last_beat.swap(beat, Ordering::Relaxed) != beat
        }) => {}
    }
    tracing::info!("stopping");
    notify::stopping("writing a snapshot");
    tokio::select! {
        () = server.shutdown() => {}
        () = signals.next() => {}
    }
    Ok(())
}

/// Each connection and transfer is an open file, and shells start programs with 1,024 of them. It may
/// have as many as the system allows: its own limits are what bounds it.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit of open files stays as it is: {error}");
    }
}

/// One line, with the causes after it.
#[expect(clippy::print_stderr, reason = "the program's last words, where a person looks for them")]
pub fn print_error(error: &anyhow::Error) {
    eprintln!("grange-coordinator: {error:#}");
}
