//! What an agent can be told: flags over environment over file over defaults.

use std::path::{Path, PathBuf};

use anyhow::Context;
use grange_daemon::{logging, settings};
use grange_protocol::agent::DeviceKind;
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
    /// RAM that Blenders may use together, in GiB, such as 24 or 1.5 [default: all of it]
    #[arg(long, env = "GRANGE_MEMORY_GIB", value_name = "GIB")]
    pub memory_gib: Option<f64>,
    /// NVIDIA's management library, libnvidia-ml.so.1 [default: the one that the system finds]
    #[arg(long, env = "GRANGE_NVML", value_name = "PATH")]
    pub nvml: Option<PathBuf>,
    /// Devices that are not found by themselves; only in the file.
    #[arg(skip)]
    pub device: Option<Vec<DeclaredDevice>>,
    /// Frames that a Blender renders before a fresh one takes its place [default: 1000]
    #[arg(long, env = "GRANGE_FRAMES_PER_INSTANCE", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub frames_per_instance: Option<u32>,
    /// Tasks per instance to take before it is free for them [default: 1]
    #[arg(long, env = "GRANGE_AHEAD", value_name = "N")]
    pub ahead: Option<u8>,
    /// Lock Blender into bubblewrap. `off` lets every job see this whole host
    #[arg(long, env = "GRANGE_SANDBOX", value_name = "on|off")]
    pub sandbox: Option<Mode>,
    /// Whether people's sessions may bring Python of their own: `sandboxed` is only where the
    /// sandbox is on [default: sandboxed]
    #[arg(long, env = "GRANGE_EXTENSIONS", value_name = "sandboxed|always|never")]
    pub extensions: Option<Extensions>,
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
    /// How log lines look [default: text]
    #[arg(long, env = "GRANGE_LOG_FORMAT", value_name = "text|json")]
    pub log_format: Option<logging::Format>,
}

/// Whether sessions may bring Python of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Extensions {
    /// Where the sandbox is on.
    #[default]
    Sandboxed,
    Always,
    Never,
}

impl Extensions {
    pub(crate) fn allows(self, has_sandbox: bool) -> bool {
        match self {
            Self::Sandboxed => has_sandbox,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// A device that its host's owner has written down, because nothing here can find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredDevice {
    pub kind: DeviceKind,
    /// What the driver calls it where it is chosen, such as in `HIP_VISIBLE_DEVICES`: a number from
    /// 0, or a UUID.
    pub id: Label,
    pub name: Label,
    pub memory_mib: u64,
}

/// A Blender does not leak over so many frames, but add-ons and scenes may.
pub const FRAMES_PER_INSTANCE: u32 = 1_000;

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
    /// RAM for instances; `None`: all that there is.
    pub memory_mib: Option<u64>,
    /// NVIDIA's management library; `None`: where the loader finds it.
    pub nvml: Option<PathBuf>,
    /// Devices besides those that are found.
    pub devices: Vec<DeclaredDevice>,
    /// Frames that a Blender renders before a fresh one takes its place.
    pub frames_per_instance: u32,
    pub ahead: u8,
    pub sandbox: Mode,
    pub extensions: Extensions,
    pub state_dir: PathBuf,
    /// Where assets are kept, if not in the state directory.
    pub store_dir: Option<PathBuf>,
    pub cache_bytes: u64,
    pub drain_s: u64,
    pub log: String,
    pub log_format: logging::Format,
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
            memory_mib: merged.memory_gib.map(memory_mib).transpose()?,
            nvml: merged.nvml,
            devices: declared(merged.device.unwrap_or_default())?,
            frames_per_instance: frames(merged.frames_per_instance)?,
            ahead: merged.ahead.unwrap_or(1),
            sandbox: merged.sandbox.unwrap_or_default(),
            extensions: merged.extensions.unwrap_or_default(),
            state_dir: state_dir(merged.state_dir)?,
            store_dir: None,
            cache_bytes: merged.cache_gib.unwrap_or(50).saturating_mul(1 << 30),
            drain_s: merged.drain_s.unwrap_or(900),
            log: merged.log.unwrap_or_else(|| "info".into()),
            log_format: merged.log_format.unwrap_or_default(),
        })
    }
}

/// Whatever is made of it is also used by programs that are started elsewhere.
fn state_dir(told: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let dir = told.unwrap_or_else(|| settings::state_dir("grange-agent"));
    std::path::absolute(&dir)
        .with_context(|| format!("the state directory `{}` cannot be found", dir.display()))
}

/// A number from a file is not checked by the command line.
fn frames(per_instance: Option<u32>) -> anyhow::Result<u32> {
    let frames = per_instance.unwrap_or(FRAMES_PER_INSTANCE);
    anyhow::ensure!(
        frames > 0,
        "`frames_per_instance` is 0, but a Blender renders at least 1 frame: write how many"
    );
    Ok(frames)
}

/// GiB of memory for Blenders, as people write them, in MiB. The error is a sentence for them.
pub fn memory_mib(gib: f64) -> anyhow::Result<u64> {
    let mib = gib * 1024.0;
    anyhow::ensure!(
        mib.is_finite() && mib >= 1.0,
        "`memory_gib` is {gib}, but Blenders need some memory: write how many GiB they may use"
    );
    Ok(mib as u64)
}

fn declared(devices: Vec<DeclaredDevice>) -> anyhow::Result<Vec<DeclaredDevice>> {
    for (at, device) in devices.iter().enumerate() {
        let DeclaredDevice { kind, id, name, memory_mib } = device;
        anyhow::ensure!(
            *kind != DeviceKind::Cpu,
            "the [[device]] `{name}` is of kind cpu, but the CPU is always there: leave it out"
        );
        anyhow::ensure!(
            !id.is_empty() && !name.is_empty() && *memory_mib > 0,
            "the [[device]] `{name}` needs an id, a name and some memory"
        );
        anyhow::ensure!(
            devices[..at].iter().all(|other| (other.kind, &other.id) != (*kind, id)),
            "there are two [[device]] tables of the same kind with the id `{id}`: give each its own"
        );
    }
    Ok(devices)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> anyhow::Result<Config> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, text)?;
        Settings::default().resolve(Some(&path))
    }

    #[test]
    fn memory_is_in_gib_whole_or_not() {
        let memory = |text: &str| resolved(text).unwrap().memory_mib;
        assert_eq!(memory(""), None);
        assert_eq!(memory("memory_gib = 1.5"), Some(1_536));
        assert_eq!(memory("memory_gib = 24"), Some(24_576));
        let error = resolved("memory_gib = -1").unwrap_err().to_string();
        assert!(error.starts_with("`memory_gib` is -1, but"), "{error}");
    }

    #[test]
    fn the_state_directory_is_the_same_from_everywhere() {
        let here = std::env::current_dir().unwrap();
        let state_dir = |text: &str| resolved(text).unwrap().state_dir;
        assert_eq!(state_dir("state_dir = 'own/state'"), here.join("own/state"));
        assert_eq!(state_dir("state_dir = '/own/state'"), Path::new("/own/state"));
        let error = resolved("state_dir = ''").unwrap_err().to_string();
        assert_eq!(error, "the state directory `` cannot be found");
    }

    #[test]
    fn a_cache_that_is_larger_than_any_disk_is_not_taken_for_none() {
        let bytes = |text: &str| resolved(text).unwrap().cache_bytes;
        assert_eq!(bytes("cache_gib = 2"), 2 << 30);
        // 2⁶⁴ bytes.
        assert_eq!(bytes("cache_gib = 17179869184"), u64::MAX);
    }

    #[test]
    fn devices_are_declared_in_the_file() {
        let table = |kind: &str, id: &str| {
            format!("[[device]]\nkind = '{kind}'\nid = '{id}'\nname = 'X'\nmemory_mib = 1\n")
        };
        let devices = resolved(&(table("hip", "0") + &table("oneapi", "0"))).unwrap().devices;
        assert_eq!(
            devices.iter().map(|device| device.kind).collect::<Vec<_>>(),
            [DeviceKind::Hip, DeviceKind::OneApi]
        );
        for (text, problem) in [
            (table("cpu", "0"), "the CPU is always there"),
            (table("hip", ""), "needs an id"),
            (table("hip", "0") + &table("hip", "0"), "two [[device]] tables"),
            (table("hpi", "0"), "unknown variant `hpi`"),
        ] {
            let error = resolved(&text).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
