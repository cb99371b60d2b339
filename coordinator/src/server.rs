//! The daemon as a value: bind, serve, shut down.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use grange_protocol::client::Role;
use grange_protocol::{AgentId, BlobHash};
use grange_scheduler::{Answer, Event, TokenHash};
use grange_store::Store;
use grange_transport::identity::FarmAddress;
use grange_transport::{Authority, Identity, Listener, Peer, Socket};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::config::{Config, host_name};
use crate::connection::{Shared, door};
use crate::farm::{Beside, Farm, FarmHandle};
use crate::hours;
use crate::http::{Serving, Web};
use crate::journal::Place;
use crate::keeping::{self, Keeping};
use crate::links::Links;
use crate::pictures::{PICTURES_DIR, Pictures};
use crate::sessions::Sessions;
use crate::storage::Storage;
use crate::webhooks::{Delivering, Webhooks};

/// Transfers that are under way at once.
const TRANSFERS: usize = 64;

/// A running coordinator. Dropped, it goes on until its runtime ends; [`Server::shutdown`] ends it
/// properly.
pub struct Server {
    farm: FarmHandle,
    listener: Listener,
    web: Option<Serving>,
    local_addr: SocketAddr,
    admin: PathBuf,
    accepting: JoinHandle<()>,
    delivering: Option<Delivering>,
    _lock: File,
}

impl Server {
    /// Opens the state directory, replays the journal, listens. On the first start it makes the
    /// farm's CA, and an admin identity for this host in `STATE/admin`.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        Self::open(config, None).await
    }

    /// The same, but the farm's connections come through that socket.
    pub async fn bind_on(socket: Socket, config: Config) -> anyhow::Result<Self> {
        Self::open(config, Some(socket)).await
    }

    async fn open(config: Config, socket: Option<Socket>) -> anyhow::Result<Self> {
        let state_dir = config.state_dir.as_path();
        DirBuilder::new().recursive(true).mode(0o700).create(state_dir).with_context(|| {
            format!("the state directory {} cannot be made", state_dir.display())
        })?;
        let lock = lock(state_dir)?;
        // First of all: a state that this program cannot read is not touched.
        let place = Place::new(state_dir, config.journal.as_deref())?;
        place.refuse_to_forget(state_dir, Authority::is_in(state_dir)).await?;
        let (mut journal, state) = place.open().await?;
        let authority = Authority::open(state_dir, &config.farm)?;
        let store =
            Arc::new(Store::open(&state_dir.join("store")).context("the store cannot be opened")?);
        let archive = journal.archive();
        let own = authority
            .coordinator(FarmAddress { name: config.farm.clone(), addresses: Vec::new() })?;
        let listener = match socket {
            Some(socket) => Listener::on(socket, &own, &authority.reset_key())?,
            None => Listener::bind(config.listen, &own, &authority.reset_key())?,
        };
        let local_addr = listener.local_addr().context("the socket has no address")?;
        let web = Web::bind(config.http_listen, local_addr, config.listen.port() == 0).await?;
        let storage = Storage::watch(state_dir);
        let remembered = journal.remembered().await?;
        let webhooks = Webhooks::open(
            &config.webhooks,
            state_dir,
            config.farm.clone(),
            authority.hash(),
            journal.as_mut(),
            remembered.last,
        )
        .await?;
        // Without the HTTP API nobody can look at any.
        let pictures_bytes = if web.is_some() { config.keep.pictures_bytes } else { 0 };
        let pictures = Arc::new(Pictures::new(state_dir.join(PICTURES_DIR), pictures_bytes));
        pictures.give_way(&storage);
        let beside = Beside {
            remembered,
            storage: storage.clone(),
            webhooks: webhooks.clone(),
            wants_pictures: pictures.are_wanted(),
        };
        let farm = Farm::start(config.farm.clone(), state, journal, config.timing, beside);
        let admin = state_dir.join("admin");
        let address = FarmAddress {
            name: config.farm.clone(),
            addresses: vec![reachable(local_addr).to_string()],
        };
        ensure_admin(&farm, &authority, &admin, address).await?;
        let addresses = config.advertise.clone().unwrap_or_else(|| advertised(local_addr));
        let http_addresses = web.as_ref().map(|web| web.addresses(&addresses, local_addr));
        let hosts = hosts(&addresses, local_addr);
        let sessions = Arc::new(Sessions::default());
        let shared = Arc::new(Shared {
            farm: farm.clone(),
            store,
            storage,
            archive,
            authority,
            name: config.farm,
            addresses,
            http_addresses,
            sessions: sessions.clone(),
            keeping: Arc::new(Keeping::new(config.keep)),
            links: Links::default(),
            webhooks: webhooks.clone(),
            transfers: Semaphore::new(TRANSFERS),
            pictures,
            strangers: door::strangers(),
            members: Arc::default(),
            refusals: Arc::default(),
        });
        shared.refusals.keep();
        sessions.keep(farm.clone());
        hours::keep(farm.clone());
        keeping::keep(shared.clone(), place, state_dir);
        let web = web.map(|web| web.serve(&shared, &hosts)).transpose()?;
        let accepting = tokio::spawn(door::keep(shared, listener.clone()));
        let delivering = webhooks.as_ref().map(|webhooks| webhooks.deliver(&farm));
        Ok(Self { farm, listener, web, local_addr, admin, accepting, delivering, _lock: lock })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where the HTTP API listens, if there is one.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.web.as_ref().map(Serving::local_addr)
    }

    /// The directory of the admin identity of this host.
    pub fn admin_identity(&self) -> &Path {
        &self.admin
    }

    /// Counts the turns of the coordinator's loop. While it grows, the coordinator is alive.
    pub fn heartbeats(&self) -> u64 {
        self.farm.heartbeats()
    }

    /// Writes a snapshot, stops listening, says goodbye. Agents go on rendering and come back.
    pub async fn shutdown(self) {
        self.farm.stop().await;
        self.listener.close();
        self.accepting.abort();
        if let Some(web) = self.web {
            web.shutdown().await;
        }
        if let Some(delivering) = self.delivering {
            delivering.end().await;
        }
        self.listener.wait_idle().await;
    }
}

/// One coordinator per state directory.
fn lock(state_dir: &Path) -> anyhow::Result<File> {
    let path = state_dir.join("lock");
    let file =
        File::create(&path).with_context(|| format!("{} cannot be written", path.display()))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).with_context(
        || {
            format!(
                "another coordinator is using {}: stop it, or give this one another --state-dir",
                state_dir.display()
            )
        },
    )?;
    Ok(file)
}

/// Keeps an identity for the host's owner, who could read the CA's key anyway.
async fn ensure_admin(
    farm: &FarmHandle,
    authority: &Authority,
    dir: &Path,
    address: FarmAddress,
) -> anyhow::Result<()> {
    if let Ok(mut identity) = Identity::load(dir) {
        if BlobHash::of(&identity.ca) == authority.hash() {
            identity.farm = address;
            identity.save(dir)?;
            return Ok(());
        }
        fs::remove_dir_all(dir).with_context(|| format!("{} cannot be removed", dir.display()))?;
    }
    let peer = Peer {
        id: AgentId(Uuid::now_v7()),
        role: Role::Admin,
        name: format!("admin@{}", host_name()).parse()?,
    };
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let token = TokenHash::of(&secret);
    let expires_at = grange_protocol::Millis(u64::MAX);
    farm.ask(move |request| Event::CreateToken { request, token, role: Role::Admin, expires_at })
        .await?;
    let (identity, name) = (peer.id, peer.name.clone());
    match farm.ask(move |request| Event::Enrol { request, token, identity, name }).await? {
        Answer::Enrolled(_) => Ok(authority.issue(&peer, address)?.save(dir)?),
        other => anyhow::bail!("no admin identity could be made: {other:?}"),
    }
}

/// Where this host reaches what listens on `local`.
fn reachable(local: SocketAddr) -> SocketAddr {
    match local.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, local.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, local.port()).into(),
        _ => local,
    }
}

/// By which names and addresses clients of the HTTP API may call this host.
fn hosts(addresses: &[String], local: SocketAddr) -> BTreeSet<String> {
    let advertised = addresses.iter().filter_map(|address| address.rsplit_once(':'));
    let mut hosts: BTreeSet<String> =
        advertised.map(|(host, _)| host.trim_matches(['[', ']']).to_owned()).collect();
    hosts.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    hosts.insert(host_name());
    if !local.ip().is_unspecified() {
        hosts.insert(local.ip().to_string());
    }
    hosts
}

/// Where others probably reach it: by the host's name, and by the address that faces the network.
fn advertised(local: SocketAddr) -> Vec<String> {
    if !local.ip().is_unspecified() {
        return vec![local.to_string()];
    }
    let port = local.port();
    // Nothing is sent: connecting a UDP socket only asks the kernel for a route.
    let facing = std::net::UdpSocket::bind("0.0.0.0:0")
        .and_then(|socket| socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()))
        .ok()
        .map(|address| SocketAddr::new(address.ip(), port).to_string());
    [Some(format!("{}:{port}", host_name())), facing].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HttpListen, Keep};
    use grange_transport::{ConnectionError, Endpoint, close_code};

    /// An agent that is told so ends for good.
    #[tokio::test]
    async fn whoever_knocks_while_it_stops_is_not_called_a_stranger() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            farm: "meadow".parse().unwrap(),
            listen: ([127, 0, 0, 1], 0).into(),
            http_listen: HttpListen::Off,
            advertise: None,
            state_dir: dir.path().into(),
            journal: None,
            timing: grange_scheduler::Timing::default(),
            keep: Keep::ALL,
            webhooks: Vec::new(),
            log: String::new(),
            log_format: grange_daemon::logging::Format::Text,
        };
        let server = Server::bind(config).await.unwrap();
        let admin = Identity::load(server.admin_identity()).unwrap();
        // What `shutdown` begins with; then it closes the listener.
        server.farm.stop().await;
        let connection = Endpoint::new(&admin).unwrap().connect().await.unwrap();
        match connection.closed().await {
            ConnectionError::ApplicationClosed(close) => {
                assert_eq!(close.error_code, close_code::STOPPING);
            }
            other => panic!("{other}"),
        }
        server.shutdown().await;
    }
}
