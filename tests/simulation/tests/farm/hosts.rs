//! The programs of the farm on simulated hosts: the coordinator and the agents, as they are.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use grange_agent::{Agent, Surroundings, devices, sandbox};
use grange_coordinator::{HttpListen, Keep, Server};
use grange_protocol::Manifest;
use grange_protocol::codec;
use grange_protocol::manifest::ManifestEntry;
use grange_protocol::shot::Label;
use grange_transport::{Endpoint, Identity, enrol};
use tokio::sync::Notify;

use crate::blender::Player;
use crate::network::Network;

pub(crate) const PORT: u16 = 4747;
/// Tries of a coordinator to start: the threads of the one that crashed may still have its files.
const STARTS: u32 = 50;

/// What the hosts of one farm share with who watches them.
#[derive(Clone)]
pub(crate) struct Ground {
    /// On this machine; each host has a folder of its own in it.
    pub(crate) home: PathBuf,
    pub(crate) network: Network,
    pub(crate) coordinator: IpAddr,
    /// A join string that nobody has used yet, which the client makes.
    pub(crate) join: Arc<Mutex<Option<String>>>,
    pub(crate) joined: Arc<AtomicUsize>,
    /// Tells the coordinator to end in good order.
    pub(crate) stop: Arc<Notify>,
}

impl Ground {
    pub(crate) fn coordinator_home(&self) -> PathBuf {
        self.home.join("coordinator")
    }

    fn agent_home(&self, agent: usize) -> PathBuf {
        self.home.join(format!("agent{agent}"))
    }
}

pub(crate) async fn coordinator(ground: Ground) -> anyhow::Result<()> {
    let address = format!("{}:{PORT}", ground.coordinator);
    let config = grange_coordinator::Config {
        farm: "meadow".parse()?,
        listen: ([0, 0, 0, 0], PORT).into(),
        http_listen: HttpListen::Off,
        advertise: Some(vec![address]),
        state_dir: ground.coordinator_home(),
        journal: None,
        timing: grange_scheduler::Timing::default(),
        keep: Keep::ALL,
        webhooks: Vec::new(),
        log: "info".into(),
        log_format: grange_daemon::logging::Format::Text,
    };
    let mut tries = 0;
    let server = loop {
        let socket = ground.network.bind(PORT).await?;
        match Server::bind_on(socket, config.clone()).await {
            Ok(server) => break server,
            Err(error) if tries == STARTS => return Err(error),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    ground.stop.notified().await;
    server.shutdown().await;
    Ok(())
}

pub(crate) async fn agent(ground: Ground, ahead: u8, player: Player) -> anyhow::Result<()> {
    let home = ground.agent_home(player.agent);
    let identity = identity(&ground, &home, player.agent).await?;
    let socket = ground.network.bind(0).await?;
    let surroundings =
        Surroundings { endpoint: Endpoint::on(socket, &identity)?, stage: Some(Arc::new(player)) };
    let config = grange_agent::config::Config {
        name: identity.peer.name.clone(),
        blender: None,
        engines: Vec::new(),
        instances: "2".parse::<devices::Instances>().map_err(anyhow::Error::msg)?,
        // Of a host that has more, so that what else happens on it changes nothing.
        memory_mib: Some(1_024),
        // No GPU of this machine.
        nvml: Some("/nowhere/libnvidia-ml.so.1".into()),
        devices: Vec::new(),
        frames_per_instance: 1_000,
        ahead,
        sandbox: sandbox::Mode::Off,
        extensions: grange_agent::config::Extensions::Never,
        state_dir: home.clone(),
        store_dir: None,
        cache_bytes: u64::MAX,
        drain_s: 900,
        log: "info".into(),
        log_format: grange_daemon::logging::Format::Text,
    };
    Agent::start_in(surroundings, config, &identity).await?.ended().await
}

/// That of the host, which it joins with when it has none.
async fn identity(
    ground: &Ground,
    home: &std::path::Path,
    agent: usize,
) -> anyhow::Result<Identity> {
    let dir = home.join("identity");
    if let Ok(identity) = Identity::load(&dir) {
        return Ok(identity);
    }
    let name: Label = format!("agent{agent}").parse()?;
    let identity = loop {
        let join = ground.join.lock().unwrap().take();
        let Some(join) = join else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let socket = ground.network.bind(0).await?;
        // Whoever did not hear the answer needs another join string: the first one may be used up.
        match enrol::join_on(socket, &join.parse().context("a join string")?, name.clone()).await {
            Ok(identity) => break identity,
            Err(error) => tracing::info!("{name} has not joined yet: {error}"),
        }
    };
    std::fs::create_dir_all(home)?;
    identity.save(&dir)?;
    ground.joined.fetch_add(1, Ordering::Relaxed);
    Ok(identity)
}

/// A file that nobody reads, and the manifest that names it.
pub(crate) struct Scene {
    pub(crate) blend: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

const SCENE_BYTES: usize = 400_000;
pub(crate) const BLEND: &str = "/p/shot.blend";

impl Scene {
    pub(crate) fn of(number: u8) -> Self {
        // A piece and a half, so that it can break off in the middle.
        let blend = [number; SCENE_BYTES].to_vec();
        let entry = ManifestEntry {
            path: BLEND.parse().expect("a good path"),
            blob: grange_protocol::BlobHash::of(&blend),
            len: blend.len() as u64,
        };
        let manifest = Manifest::new(vec![entry]).expect("one file");
        Self { blend, manifest: codec::encode(&manifest).expect("it can be encoded") }
    }
}
