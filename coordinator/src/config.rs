//! What a coordinator can be told: flags over environment over file over defaults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use grange_daemon::{logging, settings};
use grange_protocol::shot::Label;
use grange_scheduler::Timing;
use serde::{Deserialize, Serialize};

use crate::journal::{Place, SQLITE_FILE};
use crate::webhooks::WebhookSettings;

pub const DEFAULT_FILE: &str = "/etc/grange/coordinator.toml";
/// UDP for the farm, TCP for the HTTP API.
pub const DEFAULT_PORT: u16 = 4747;

/// The coordinator of a Grange render farm: it holds the job graph, hands tasks to agents, keeps
/// assets and finished frames.
#[derive(Debug, Default, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The farm's name, shown to everybody who joins [default: the host's name]
    #[arg(long, env = "GRANGE_FARM", value_name = "NAME")]
    pub farm: Option<String>,
    /// The UDP address to listen on [default: [::]:4747, every interface]
    #[arg(long, env = "GRANGE_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// The TCP address of the HTTP API, or `off` for none [default: like `listen`]
    #[arg(long, env = "GRANGE_HTTP_LISTEN", value_name = "ADDRESS:PORT")]
    pub http_listen: Option<String>,
    /// What to write into join strings and connect strings, the addresses by which others reach this host [default: its
    /// name and its own address]
    #[arg(long, env = "GRANGE_ADVERTISE", value_name = "HOST:PORT", value_delimiter = ',')]
    pub advertise: Option<Vec<String>>,
    /// Where journal, assets, outputs and keys are kept [default: /var/lib/grange-coordinator, or
    /// what systemd says]
    #[arg(long, env = "GRANGE_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The PostgreSQL database that has the journal, instead of a file in the state directory:
    /// postgres://USER:PASSWORD@HOST/DATABASE, or without a password where PGPASSFILE or ~/.pgpass
    /// has it
    #[arg(long, env = "GRANGE_JOURNAL", value_name = "URL", hide_env_values = true)]
    pub journal: Option<String>,
    /// How long a lost agent keeps its tasks, in seconds [default: 20]
    #[arg(long, env = "GRANGE_AGENT_GRACE_S", value_name = "SECONDS")]
    pub agent_grace_s: Option<u64>,
    /// How long jobs stay after they have ended, with their files, if somebody has downloaded outputs
    /// or there are none, in days such as 30 or 0.5 [default: 30]
    #[arg(long, env = "GRANGE_KEEP_DAYS", value_name = "DAYS")]
    pub keep_days: Option<f64>,
    /// The same for jobs with outputs that nobody has downloaded [default: 180]
    #[arg(long, env = "GRANGE_KEEP_UNFETCHED_DAYS", value_name = "DAYS")]
    pub keep_unfetched_days: Option<f64>,
    /// How long what Blender printed stays, in days [default: 30]
    #[arg(long, env = "GRANGE_KEEP_LOGS_DAYS", value_name = "DAYS")]
    pub keep_logs_days: Option<f64>,
    /// How long files stay that no job has, in hours: uploads whose job is not submitted yet
    /// [default: 24]
    #[arg(long, env = "GRANGE_KEEP_UPLOADS_HOURS", value_name = "HOURS")]
    pub keep_uploads_hours: Option<f64>,
    /// How much disk assets and outputs may use, in GiB, before downloaded jobs go early
    /// [default: 80 % of the disk]
    #[arg(long, env = "GRANGE_STORE_GIB", value_name = "GIB")]
    pub store_gib: Option<f64>,
    /// How much disk the small pictures of frames may use that the dashboard shows, in GiB; 0 for none
    /// [default: 2]
    #[arg(long, env = "GRANGE_PICTURES_GIB", value_name = "GIB")]
    pub pictures_gib: Option<f64>,
    /// What to log: error, warn, info, debug, trace, or tracing directives [default: info]
    #[arg(long, env = "GRANGE_LOG", value_name = "LEVEL")]
    pub log: Option<String>,
    /// How log lines look [default: text]
    #[arg(long, env = "GRANGE_LOG_FORMAT", value_name = "text|json")]
    pub log_format: Option<logging::Format>,
    /// Who is told of jobs and agents. Only in the file: each has a secret.
    #[arg(skip)]
    pub webhook: Option<Vec<WebhookSettings>>,
}

/// Settings, complete and checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub farm: Label,
    pub listen: SocketAddr,
    pub http_listen: HttpListen,
    pub advertise: Option<Vec<String>>,
    pub state_dir: PathBuf,
    /// The address of a PostgreSQL database that has the journal, instead of the state directory.
    pub journal: Option<String>,
    pub timing: Timing,
    pub keep: Keep,
    /// As they are written: checked by whoever tells them something.
    pub webhooks: Vec<WebhookSettings>,
    pub log: String,
    pub log_format: logging::Format,
}

/// How long what stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keep {
    /// Jobs that have ended and whose outputs, if any, somebody has downloaded.
    pub fetched: Duration,
    /// Those with outputs that nobody has downloaded.
    pub unfetched: Duration,
    pub logs: Duration,
    /// Files that no job has.
    pub uploads: Duration,
    /// Of all files. `None`: most of the disk.
    pub bytes: Option<u64>,
    /// Of the small pictures of files.
    pub pictures_bytes: u64,
}

/// Small pictures of about 15,000 frames.
const PICTURES_BYTES: u64 = 2 << 30;

impl Keep {
    /// Nothing is collected: the farm does not live for long.
    pub const ALL: Self = Self {
        fetched: Duration::MAX,
        unfetched: Duration::MAX,
        logs: Duration::MAX,
        uploads: Duration::MAX,
        bytes: Some(u64::MAX),
        pictures_bytes: PICTURES_BYTES,
    };

    /// How many bytes of files there may be, on a disk of so many, before any go for want of room.
    pub fn limit(&self, disk_bytes: u64) -> u64 {
        self.bytes.unwrap_or(disk_bytes / 10 * 8)
    }
}

/// Where the HTTP API is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpListen {
    /// On TCP where the farm listens on UDP.
    LikeFarm,
    At(SocketAddr),
    Off,
}

impl Settings {
    /// These over the file, over the defaults.
    pub fn resolve(&self, file: Option<&Path>) -> anyhow::Result<Config> {
        let merged = settings::layered(self, file, Path::new(DEFAULT_FILE))?;
        let defaults = Timing::default();
        let farm = merged.farm.unwrap_or_else(host_name);
        Ok(Config {
            farm: farm.parse().with_context(|| format!("the farm cannot be called `{farm}`"))?,
            listen: merged.listen.unwrap_or_else(|| SocketAddr::from(([0; 16], DEFAULT_PORT))),
            http_listen: http_listen(merged.http_listen.as_deref())?,
            advertise: merged.advertise.map(|list| checked_addresses(&list)).transpose()?,
            state_dir: merged
                .state_dir
                .unwrap_or_else(|| settings::state_dir("grange-coordinator")),
            journal: merged.journal,
            timing: Timing {
                agent_grace_ms: merged
                    .agent_grace_s
                    .map_or(20_000, |seconds| seconds.saturating_mul(1_000)),
                ..defaults
            },
            keep: Keep {
                fetched: days("keep_days", merged.keep_days, 30.0)?,
                unfetched: days("keep_unfetched_days", merged.keep_unfetched_days, 180.0)?,
                logs: days("keep_logs_days", merged.keep_logs_days, 30.0)?,
                uploads: uploads(merged.keep_uploads_hours)?,
                bytes: merged.store_gib.map(store_bytes).transpose()?,
                pictures_bytes: pictures_bytes(merged.pictures_gib)?,
            },
            webhooks: merged.webhook.unwrap_or_default(),
            log: merged.log.unwrap_or_else(|| "info".into()),
            log_format: merged.log_format.unwrap_or_default(),
        })
    }
}

impl Config {
    /// The journal of a coordinator that has been started once.
    pub(crate) fn journal_of_a_state(&self) -> anyhow::Result<Place> {
        let file = self.state_dir.join(SQLITE_FILE);
        anyhow::ensure!(
            self.journal.is_some() && self.state_dir.is_dir() || file.is_file(),
            "{} is no state of a coordinator: name it with --state-dir",
            self.state_dir.display()
        );
        Ok(Place::new(&self.state_dir, self.journal.as_deref())?)
    }
}

fn days(name: &str, setting: Option<f64>, default: f64) -> anyhow::Result<Duration> {
    Duration::try_from_secs_f64(setting.unwrap_or(default) * 86_400.0)
        .ok()
        .with_context(|| format!("`{name}` is no length of time: give 0 or more"))
}

/// Not less than an hour: between the last look at the journal and the removal of a file, jobs go on.
fn uploads(hours: Option<f64>) -> anyhow::Result<Duration> {
    let hours = hours.unwrap_or(24.0);
    anyhow::ensure!(hours >= 1.0, "`keep_uploads_hours` is {hours}: give 1 or more");
    days("keep_uploads_hours", Some(hours / 24.0), 1.0)
}

fn store_bytes(gib: f64) -> anyhow::Result<u64> {
    let bytes = gib * (1_u64 << 30) as f64;
    anyhow::ensure!(bytes >= 1.0, "`store_gib` is {gib}: give more than 0");
    Ok(bytes as u64)
}

fn pictures_bytes(gib: Option<f64>) -> anyhow::Result<u64> {
    let Some(gib) = gib else { return Ok(PICTURES_BYTES) };
    anyhow::ensure!(gib >= 0.0, "`pictures_gib` is {gib}: give 0 or more");
    Ok((gib * (1_u64 << 30) as f64) as u64)
}

fn http_listen(setting: Option<&str>) -> anyhow::Result<HttpListen> {
    Ok(match setting {
        None => HttpListen::LikeFarm,
        Some("off") => HttpListen::Off,
        Some(address) => HttpListen::At(address.parse().ok().with_context(|| {
            format!("`{address}` in `http_listen` is neither ADDRESS:PORT nor `off`")
        })?),
    })
}

fn checked_addresses(list: &[String]) -> anyhow::Result<Vec<String>> {
    for address in list {
        let good = address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        anyhow::ensure!(good, "`{address}` in `advertise` is not HOST:PORT");
    }
    Ok(list.to_vec())
}

pub(crate) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".into() } else { name }
}
