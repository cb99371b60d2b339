//! `grange-agent`, the program.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use grange_daemon::signals::StopSignals;
use grange_daemon::{logging, notify};
use grange_protocol::client::Role;
use grange_protocol::join::JoinString;
use grange_transport::{Identity, IdentityError, enrol};

use crate::agent::Agent;
use crate::config::{Config, Settings};

#[derive(Debug, Parser)]
#[command(name = "grange-agent", version, about, long_about = None)]
pub struct Args {
    /// The configuration file [default: /etc/grange/agent.toml, if it is there]
    #[arg(long, short, env = "GRANGE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Join the farm with this join string, on the first start; later ones do not need it
    #[arg(long, env = "GRANGE_JOIN", value_name = "JOIN-STRING", hide_env_values = true)]
    join: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

/// Runs until it is told to stop: once to finish what has begun, twice to stop at once.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let config = args.settings.resolve(args.config.as_deref())?;
    logging::init(&config.log, config.log_format);
    let mut signals = StopSignals::catch()?;
    let identity = identity(&config, args.join.as_deref()).await?;
    let (farm, drain_s) = (identity.farm.name.clone(), config.drain_s);
    let mut agent = Agent::start(config, &identity).await?;
    for runtime in &agent.hello().runtimes {
        let engines: Vec<String> = runtime.engines.iter().map(ToString::to_string).collect();
        tracing::info!(
            "Blender {} at {}: {}",
            runtime.full_version,
            runtime.path,
            engines.join(", ")
        );
    }
    for device in &agent.hello().devices {
        tracing::info!("{}: {} instances, {} MiB", device.name, device.slots, device.memory_mib);
    }
    notify::ready(&format!("rendering for farm {farm}"));
    let pulse = agent.pulse();
    tokio::select! {
        ended = agent.ended() => return ended,
        () = signals.next() => {}
        () = notify::watchdog(|| pulse.beats()) => {}
    }
    tracing::info!("finishing what has begun (at most {drain_s} s); stop again to stop at once");
    notify::stopping("finishing what has begun");
    agent.drain().await;
    tokio::select! {
        ended = agent.ended() => return ended,
        () = signals.next() => tracing::info!("stopping at once"),
        () = tokio::time::sleep(Duration::from_secs(drain_s)) => tracing::info!("out of patience"),
    }
    agent.stop().await;
    Ok(())
}

/// The identity of the state directory; made with the join string if there is none yet.
async fn identity(config: &Config, join: Option<&str>) -> anyhow::Result<Identity> {
    let dir = config.state_dir.join("identity");
    match (Identity::load(&dir), join) {
        (Ok(identity), _) => Ok(identity),
        (Err(IdentityError::None(_)), Some(join)) => enrol(config, join, &dir).await,
        (Err(IdentityError::None(_)), None) => anyhow::bail!(
            "this host is in no farm yet: run `grange token create --role agent` where the farm's admin is, \
             and start this agent once with --join and what that prints"
        ),
        (Err(error), _) => Err(error.into()),
    }
}

async fn enrol(config: &Config, join: &str, dir: &Path) -> anyhow::Result<Identity> {
    let join: JoinString = join.parse()?;
    anyhow::ensure!(
        join.role == Role::Agent,
        "this join string is for a {}: make one with `grange token create --role agent`",
        join.role
    );
    let identity = enrol::join(&join, config.name.clone()).await?;
    identity.save(dir).context("the farm let this host in, but")?;
    Ok(identity)
}

/// One line, with the causes after it.
#[expect(clippy::print_stderr, reason = "the program's last words, where a person looks for them")]
pub fn print_error(error: &anyhow::Error) {
    eprintln!("grange-agent: {error:#}");
}
