//! A farm of this machine, in this process: coordinator and agent as libraries, talking QUIC with
//! mutual TLS on loopback like any other. Nothing of it outlives the process.

mod home;

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use grange_agent::Agent;
use grange_agent::config::{Config as AgentConfig, Extensions, FRAMES_PER_INSTANCE};
use grange_client::Farm;
use grange_coordinator::{Config as CoordinatorConfig, HttpListen, Keep, Server};
use grange_daemon::logging;
use grange_protocol::client::Role;
use grange_protocol::job::Engine;
use grange_protocol::join::JoinString;
use grange_scheduler::Timing;
use grange_transport::{Identity, enrol};
use std::time::Duration;

use crate::args::Host;
use home::Home;

/// What a farm of this machine is made of.
pub(crate) struct Plan<'a> {
    pub(crate) host: &'a Host,
    /// The engines to try; others would only cost time.
    pub(crate) engines: Vec<Engine>,
    /// RAM for all Blenders together; `None`: all of it.
    pub(crate) memory_mib: Option<u64>,
    pub(crate) http: HttpListen,
}

pub(crate) struct LocalFarm {
    server: Server,
    agent: Agent,
    farm: Farm,
    /// Everything that it keeps; removed at the end.
    _home: Home,
}

impl LocalFarm {
    pub(crate) async fn start(plan: Plan<'_>) -> anyhow::Result<Self> {
        let home = tokio::task::spawn_blocking(Home::make).await.context("a panic")??;
        let name = grange_agent::config::host_name();
        let server = Server::bind(CoordinatorConfig {
            farm: name.parse()?,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            http_listen: plan.http,
            advertise: None,
            state_dir: home.path().join("coordinator"),
            journal: None,
            timing: Timing::default(),
            keep: Keep::ALL,
            webhooks: Vec::new(),
            log: String::new(),
            log_format: logging::Format::Text,
        })
        .await?;
        let admin = Identity::load(server.admin_identity())?;
        let farm = Farm::connect(&admin).await?;
        let token = farm.create_token(Role::Agent, Duration::from_secs(60)).await?;
        let join: JoinString = token.join.parse()?;
        let identity = enrol::join(&join, name.parse()?).await?;
        let config = AgentConfig {
            name: name.parse()?,
            blender: plan.host.blender.clone(),
            instances: plan.host.instances,
            memory_mib: plan.memory_mib,
            nvml: None,
            devices: Vec::new(),
            frames_per_instance: FRAMES_PER_INSTANCE,
            ahead: 1,
            sandbox: plan.host.sandbox,
            // Whoever started it may run what they like here anyway.
            extensions: Extensions::Always,
            state_dir: home.path().join("agent"),
            // One store for both: what the coordinator has, the agent need not fetch.
            store_dir: Some(home.path().join("coordinator").join("store")),
            engines: plan.engines,
            cache_bytes: u64::MAX,
            drain_s: 0,
            log: String::new(),
            log_format: logging::Format::Text,
        };
        let agent = Agent::start(config, &identity).await?;
        Ok(Self { server, agent, farm, _home: home })
    }

    pub(crate) fn farm(&self) -> &Farm {
        &self.farm
    }

    /// Ends everything; no Blender outlives it.
    pub(crate) async fn stop(self) {
        self.agent.stop().await;
        self.farm.close().await;
        self.server.shutdown().await;
    }
}
