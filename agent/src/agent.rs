//! The daemon as a value: start, drain, stop.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use grange_blender::runtime::{self, Launch, Runtime};
use grange_blocking as blocking;
use grange_daemon::clock::Clock;
use grange_protocol::agent::{AgentHello, DeviceKind};
use grange_protocol::client::Role;
use grange_store::Store;
use grange_transport::{Endpoint, Identity};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::core::device::Setup;
use crate::core::{Core, Patience};
use crate::deliver::Delivery;
use crate::gpu::{self, Devices};
use crate::host::{self, Host};
use crate::instances::{Blenders, Instances, Shared, Stage};
use crate::link::{Link, OUTGOING};
use crate::pictures::Pictures;
use crate::sandbox::{self, Cell, Sandbox};
use crate::scenes::Scenes;
use crate::sessions::Sessions;
use crate::shell::{EVENTS, Inputs, Shell, Wish};
use crate::space::Places;
use crate::supply::Supply;
use crate::work::Workshop;

/// How often devices are looked at. Others come and go within seconds.
const READ_DEVICES_EVERY: Duration = Duration::from_secs(1);

/// A running agent.
pub struct Agent {
    wishes: mpsc::Sender<Wish>,
    task: JoinHandle<anyhow::Result<()>>,
    hello: AgentHello,
}

/// What is around an agent, for whoever gives it another world than this host and its network.
pub struct Surroundings {
    /// Through which it reaches the coordinator.
    pub endpoint: Endpoint,
    /// Blenders instead of those that are installed.
    pub stage: Option<Arc<dyn Stage>>,
}

/// Tells whether an agent's loop turns.
#[derive(Clone, Debug)]
pub struct Pulse {
    wishes: mpsc::Sender<Wish>,
}

impl Pulse {
    /// True as soon as the loop has answered; never if it is stuck.
    pub async fn beats(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.wishes.send(Wish::Answer(reply)).await.is_ok() && answer.await.is_ok()
    }
}

impl Agent {
    /// Finds and tries the Blenders of this host, then connects, and goes on connecting for as long
    /// as it runs. Fails if there is no Blender, no sandbox, or no place to work in.
    pub async fn start(config: Config, identity: &Identity) -> anyhow::Result<Self> {
        let surroundings = Surroundings { endpoint: Endpoint::new(identity)?, stage: None };
        Self::start_in(surroundings, config, identity).await
    }

    /// The same, in other surroundings.
    pub async fn start_in(
        surroundings: Surroundings,
        config: Config,
        identity: &Identity,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(
            identity.peer.role == Role::Agent,
            "the identity is one of a {}, not of an agent: join with a join string for agents",
            identity.peer.role
        );
        let sandbox = Sandbox::find(config.sandbox).await?;
        if !sandbox.is_on() {
            tracing::warn!("the sandbox is off: every job sees this whole host");
        }
        let (layouts, scratch) =
            (config.state_dir.join("layouts"), config.state_dir.join("scratch"));
        for dir in [&layouts, &scratch] {
            renew(dir).with_context(|| format!("{} cannot be used", dir.display()))?;
        }
        let run_dir = run_dir()?;
        let blenders = match surroundings.stage {
            Some(stage) => Blenders::Played(stage),
            None => {
                let found = find_runtimes(&config, &sandbox, run_dir.path(), &scratch).await?;
                Blenders::Found(found)
            }
        };
        let host = Host::open()?;
        let devices = find_devices(&config).await?;
        let ffmpeg = sandbox::find_program("ffmpeg");
        let hello = AgentHello {
            name: config.name.clone(),
            software: env!("CARGO_PKG_VERSION").into(),
            runtimes: blenders.infos(),
            devices: devices.found().iter().map(|found| found.info.clone()).collect(),
            ffmpeg: ffmpeg.is_some(),
            ahead: config.ahead,
            holding: Vec::new(),
        };
        let store_dir = config.store_dir.clone().unwrap_or_else(|| config.state_dir.join("store"));
        let store = Arc::new(Store::open(&store_dir).context("the store cannot be opened")?);
        let (connection, connected) = watch::channel(None);
        let supply = Supply::new(store, connected.clone());
        let (events, happened) = mpsc::channel(EVENTS);
        let (outgoing, outgoing_taken) = mpsc::channel(OUTGOING);
        let (to_loop, from_link) = mpsc::channel(EVENTS);
        let (wishes, wished) = mpsc::channel(4);
        let link = Link {
            endpoint: surroundings.endpoint,
            hello: hello.clone(),
            to_loop,
            outgoing: outgoing_taken,
            connection,
        };
        let setups: Vec<Setup> = hello
            .devices
            .iter()
            .map(|device| Setup {
                name: device.name.clone(),
                kind: device.kind,
                memory_mib: device.memory_mib,
                slots: device.slots,
                instances: config.instances,
                cores: if device.kind == DeviceKind::Cpu { host::cores() as u16 } else { 0 },
            })
            .collect();
        let takes_code = config.extensions.allows(sandbox.is_on());
        let pictures = Pictures::new(supply.clone(), scratch.clone());
        let patience =
            Patience { frames_per_instance: config.frames_per_instance, ..Patience::default() };
        let shell = Shell {
            core: Core::new(&setups, patience),
            clock: Clock::start(),
            host,
            places: Places::of(&[&scratch, &store_dir]),
            instances: Instances::new(Shared {
                blenders,
                devices: devices.found().to_vec(),
                sandbox: sandbox.clone(),
                run_dir: run_dir.path().into(),
                scratch: scratch.clone(),
                events: events.clone(),
            }),
            sessions: Sessions::new(events.clone(), connected.clone(), takes_code),
            events,
            scenes: Scenes { supply: supply.clone(), layouts, cache_bytes: config.cache_bytes },
            delivery: Delivery::new(supply.clone(), scratch.clone(), pictures.clone()),
            pictures,
            workshop: Workshop { sandbox, ffmpeg, supply, scratch },
            outgoing,
            connection: connected,
            backlog: VecDeque::new(),
            storing: HashMap::new(),
            working: HashMap::new(),
        };
        let readings = gpu::watch(devices, READ_DEVICES_EVERY);
        let inputs = Inputs { events: happened, link: from_link, wishes: wished, readings };
        tokio::spawn(link.run());
        let task = tokio::spawn(async move {
            let ended = shell.run(inputs).await;
            drop(run_dir);
            ended
        });
        Ok(Self { wishes, task, hello })
    }

    /// What it told the farm of itself.
    pub fn hello(&self) -> &AgentHello {
        &self.hello
    }

    /// For a watchdog.
    pub fn pulse(&self) -> Pulse {
        Pulse { wishes: self.wishes.clone() }
    }

    /// Lets what has begun finish, gives the rest back, takes nothing new. Then it ends.
    pub async fn drain(&self) {
        let _ = self.wishes.send(Wish::Drain).await;
    }

    /// Waits until it has ended: drained, or not wanted by its farm any more.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        (&mut self.task).await.context("the agent broke")?
    }

    /// Ends it now. No process of it is left afterwards.
    pub async fn stop(mut self) {
        let _ = self.wishes.send(Wish::Stop).await;
        if let Err(error) = self.ended().await {
            tracing::debug!("the agent ended: {error:#}");
        }
    }
}

/// The devices of this host. Their drivers may take their time.
async fn find_devices(config: &Config) -> anyhow::Result<Devices> {
    let config = config.clone();
    let finding = blocking::run(move || Devices::find(&config));
    finding.await.context("the search for devices broke")
}

/// A directory for sockets, whose names must be short.
fn run_dir() -> anyhow::Result<tempfile::TempDir> {
    let base = ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"]
        .into_iter()
        .filter_map(std::env::var_os)
        .map(std::path::PathBuf::from)
        .find(|dir| dir.is_dir())
        .unwrap_or_else(std::env::temp_dir);
    tempfile::Builder::new()
        .prefix("grange-")
        .tempdir_in(&base)
        .with_context(|| format!("{} cannot be written to", base.display()))
}

/// Empties a directory, made if it is not there.
fn renew(dir: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(dir),
    }
}

/// The Blenders that work, each tried in the sandbox that it will run in. An empty list in the
/// configuration means that this host shall render nothing; one that names Blenders means these.
async fn find_runtimes(
    config: &Config,
    sandbox: &Sandbox,
    run_dir: &Path,
    scratch: &Path,
) -> anyhow::Result<Vec<Runtime>> {
    if config.blender.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let named = config.blender.as_deref().unwrap_or_default();
    let mut runtimes = Vec::new();
    let mut last_error = None;
    for (at, candidate) in runtime::find(named)?.into_iter().enumerate() {
        let (run, tmp) = (run_dir.join(format!("p{at}")), scratch.join(format!("p{at}.tmp")));
        for dir in [&run, &tmp] {
            fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        }
        let jail = |launch: &Launch| {
            let cell = Cell::of(launch.clone(), vec![run.clone()], tmp.clone(), None);
            sandbox.command(&cell)
        };
        match runtime::probe(&candidate, &config.engines, &run, jail).await {
            Ok(runtime) => runtimes.push(runtime),
            Err(error) if named.is_empty() => {
                tracing::warn!("{error}");
                last_error = Some(error);
            }
            // What somebody named must work.
            Err(error) => return Err(error.into()),
        }
        let _ = fs::remove_dir_all(&run);
        let _ = fs::remove_dir_all(&tmp);
    }
    match last_error {
        Some(error) if runtimes.is_empty() => Err(error.into()),
        _ => Ok(runtimes),
    }
}
