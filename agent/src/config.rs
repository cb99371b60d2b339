//! What an agent can be told: flags over environment over file over defaults.

use std::path::{Path, PathBuf};

use anyhow::Context;
use grange_daemon::settings;
use grange_protocol::job::Engine;
use grange_protocol::shot::Label;
use serde::{Deserialize, Serialize};

use crate::devices::Instances;
use crate::sandbox::Mode;

pub const DEFAULT_FILE: &str = "/etc/grange/agent.toml";

/// The agent of a Grange render farm: it keeps Blender instances on this host and renders for the
/// farm that it has joined.
#[derive(Debug, Default, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What the farm calls this host [default: its name]
    #[arg(long, env = "GRANGE_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Blenders to use: paths of `blender` executables, or of Pythons that have the bpy module
    /// [default: what is found on the PATH and in /opt]
    #[arg(long, env = "GRANGE_BLENDER", value_name = "PATH", value_delimiter = ',')]
    pub blender: Option<Vec<PathBuf>>,
    /// Engines to offer, such as cycles,eevee [default: those that can render here]
    #[arg(long, env = "GRANGE_ENGINES", value_name = "ENGINES", value_delimiter = ',', value_parser = engine)]
    pub engines: Option<Vec<Engine>>,
    /// Blenders that run at once: `auto`, or a number
    #[arg(long, env = "GRANGE_INSTANCES", value_name = "auto|N")]
    pub instances: Option<Instances>,
    /// Tasks per instance to take before it is free for them [default: 1]
    #[arg(long, env = "GRANGE_AHEAD", value_name = "N")]
    pub ahead: Option<u8>,
    /// Lock Blender into bubblewrap. `off` lets every job see this whole host
    #[arg(long, env = "GRANGE_SANDBOX", value_name = "on|off")]
    pub sandbox: Option<Mode>,
    /// Where scenes and the identity are kept [default: /var/lib/grange-agent, or what systemd says]
    #[arg(long, env = "GRANGE_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// How much disk the assets of past jobs may use, in GiB [default: 50]
    #[arg(long, env = "GRANGE_CACHE_GIB", value_name = "GIB")]
    pub cache_gib: Option<u64>,
    /// When told to stop, how long to go on rendering what has begun, in seconds [default: 900]
    #[arg(long, env = "GRANGE_DRAIN_S", value_name = "SECONDS")]
    pub drain_s: Option<u64>,
    /// What to log: error, warn, info, debug, trace, or tracing directives [default: info]
    #[arg(long, env = "GRANGE_LOG", value_name = "LEVEL")]
    pub log: Option<String>,
}

/// Engines that come with Blender.
pub const ALL_ENGINES: [Engine; 3] = [Engine::Cycles, Engine::Eevee, Engine::Workbench];

/// Settings, complete and checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub name: Label,
    /// `None`: look for them.
    pub blender: Option<Vec<PathBuf>>,
    /// Engines to try; those that work are offered.
    pub engines: Vec<Engine>,
    pub instances: Instances,
    pub ahead: u8,
    pub sandbox: Mode,
    pub state_dir: PathBuf,
    /// Where assets are kept, if not in the state directory.
    pub store_dir: Option<PathBuf>,
    pub cache_bytes: u64,
    pub drain_s: u64,
    pub log: String,
}

impl Settings {
    /// These over the file, over the defaults.
    pub fn resolve(&self, file: Option<&Path>) -> anyhow::Result<Config> {
        let merged = settings::layered(self, file, Path::new(DEFAULT_FILE))?;
        let name = merged.name.unwrap_or_else(host_name);
        Ok(Config {
            name: name.parse().with_context(|| format!("the host cannot be called `{name}`"))?,
            blender: merged.blender,
            engines: merged.engines.unwrap_or_else(|| ALL_ENGINES.to_vec()),
            instances: merged.instances.unwrap_or_default(),
            ahead: merged.ahead.unwrap_or(1),
            sandbox: merged.sandbox.unwrap_or_default(),
            state_dir: merged.state_dir.unwrap_or_else(|| settings::state_dir("grange-agent")),
            store_dir: None,
            cache_bytes: merged.cache_gib.unwrap_or(50) << 30,
            drain_s: merged.drain_s.unwrap_or(900),
            log: merged.log.unwrap_or_else(|| "info".into()),
        })
    }
}

fn engine(text: &str) -> Result<Engine, String> {
    match text.to_ascii_lowercase().as_str() {
        "cycles" => Ok(Engine::Cycles),
        "eevee" => Ok(Engine::Eevee),
        "workbench" => Ok(Engine::Workbench),
        _ => Err("cycles, eevee or workbench".into()),
    }
}

/// This host's name.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".into() } else { name }
}
