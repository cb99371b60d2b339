//! The tuned QUIC endpoint: who listens, who connects, and what a connection may cost.
//!
//! Tuning follows measurements on loopback and on links with delay and loss: socket buffers of
//! 4 MB (fewer lose packets by themselves), datagrams found up to 6,500 bytes (twice the rate
//! where the path carries them), windows of several times a long fat link's bandwidth × delay,
//! and BBR, which on a link with 0.5 % loss carries fifty times what Cubic does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use grange_protocol::stream::{ALPN_JOIN, COORDINATOR_NAME};
use quinn::congestion::BbrConfig;
use quinn::crypto::rustls::HandshakeData;
use quinn::{
    ClientConfig, Connection, EndpointConfig, MtuDiscoveryConfig, ServerConfig, TimeSource,
    TransportConfig, VarInt,
};
use rustls_pki_types::CertificateDer;

use crate::identity::{Identity, IdentityError, Peer};
use crate::reset::ResetKey;
use crate::socket::Socket;
use crate::tls;

pub(crate) const DATAGRAM_MAX_BYTES: u16 = 6_500;
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// Until a peer has shown who it is.
const STRANGER_WINDOW_BYTES: u32 = 64 << 10;
const STREAMS_MAX: u32 = 256;
const KEEP_ALIVE: Duration = Duration::from_secs(4);
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Whoever is turned away because many come at once tries again after this.
const CROWDED_PAUSE: Duration = Duration::from_millis(200);
/// First packets that wait until they are looked at; further ones are refused.
const KNOCKS_MAX: usize = 1_024;
/// What may arrive besides of each of them, and of all together, in bytes: a handshake that goes on
/// before it is looked at has a packet or two.
const KNOCK_BYTES: u64 = 8 << 10;
const KNOCKS_BYTES: u64 = 4 << 20;

/// Why a connection was closed, for the other side.
pub mod close_code {
    use quinn::VarInt;

    /// All is done.
    pub const DONE: VarInt = VarInt::from_u32(0);
    /// The peer's identity is not, or no longer, the farm's.
    pub const UNKNOWN_IDENTITY: VarInt = VarInt::from_u32(1);
    /// The peer broke the protocol.
    pub const PROTOCOL: VarInt = VarInt::from_u32(2);
    /// The same identity has connected again.
    pub const REPLACED: VarInt = VarInt::from_u32(3);
    /// The coordinator is stopping.
    pub const STOPPING: VarInt = VarInt::from_u32(4);
    /// One identity has more connections than it may have.
    pub const TOO_MANY: VarInt = VarInt::from_u32(5);
}

/// Connects to a farm as one identity.
#[derive(Clone, Debug)]
pub struct Endpoint {
    inner: quinn::Endpoint,
    addresses: Vec<String>,
}

impl Endpoint {
    pub fn new(identity: &Identity) -> Result<Self, ConnectError> {
        Self::on(Socket::anywhere().map_err(ConnectError::Socket)?, identity)
    }

    /// One whose datagrams go through that socket.
    pub fn on(socket: Socket, identity: &Identity) -> Result<Self, ConnectError> {
        let tls = tls::client(identity).map_err(|error| ConnectError::Tls(error.to_string()))?;
        Self::with_tls(socket, tls, identity.farm.addresses.clone())
    }

    pub(crate) fn with_tls(
        socket: Socket,
        tls: quinn::crypto::rustls::QuicClientConfig,
        addresses: Vec<String>,
    ) -> Result<Self, ConnectError> {
        let endpoint = socket.endpoint(EndpointConfig::default(), None);
        let mut inner = endpoint.map_err(ConnectError::Socket)?;
        let mut config = ClientConfig::new(Arc::new(tls));
        config.transport_config(Arc::new(transport(CONNECTION_WINDOW_BYTES)));
        inner.set_default_client_config(config);
        Ok(Self { inner, addresses })
    }

    /// Connects to the first of the farm's addresses that answers.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        let mut last = ConnectError::NoAddress;
        for address in &self.addresses {
            match self.connect_to(address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, address: &str) -> Result<Connection, ConnectError> {
        let unresolvable =
            |error: std::io::Error| ConnectError::Name(address.into(), error.to_string());
        let mut failure = unresolvable(std::io::Error::other("no address"));
        for resolved in tokio::net::lookup_host(address).await.map_err(unresolvable)? {
            match self.connect_to_socket(address, resolved).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn connect_to_socket(
        &self,
        address: &str,
        resolved: SocketAddr,
    ) -> Result<Connection, ConnectError> {
        let v6_socket = self.inner.local_addr().is_ok_and(|local| local.is_ipv6());
        let resolved = match resolved {
            SocketAddr::V4(v4) if v6_socket => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            other => other,
        };
        let unreachable = |why: String| ConnectError::Unreachable(address.into(), why);
        let until = tokio::time::Instant::now() + CONNECT_TIMEOUT;
        loop {
            let connecting = self
                .inner
                .connect(resolved, COORDINATOR_NAME)
                .map_err(|error| unreachable(error.to_string()))?;
            match tokio::time::timeout_at(until, connecting).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) if is_crowded(&error) => {}
                Ok(Err(error)) => return Err(ConnectError::of(address, &error)),
                Err(_) => return Err(unreachable("no answer".into())),
            }
            if tokio::time::timeout_at(until, tokio::time::sleep(CROWDED_PAUSE)).await.is_err() {
                return Err(unreachable("too many are connecting".into()));
            }
        }
    }

    /// Waits until all connections have said goodbye, at most a second.
    pub async fn close(&self) {
        self.inner.close(close_code::DONE, b"");
        let _ = tokio::time::timeout(Duration::from_secs(1), self.inner.wait_idle()).await;
    }
}

/// Takes connections of members and newcomers.
#[derive(Clone, Debug)]
pub struct Listener {
    inner: quinn::Endpoint,
}

/// Somebody who connected, and how far they are to be trusted.
#[derive(Debug)]
pub enum Accepted {
    /// Shows a certificate of the farm. Whether the farm still knows them is not checked yet.
    Member(Peer, Connection),
    /// Has no certificate, and may only enrol.
    Newcomer(Connection),
}

impl Listener {
    /// Listens. With the same `reset_key` as before, those who still talk to the process before
    /// hear at once that it is gone.
    pub fn bind(
        address: SocketAddr,
        identity: &Identity,
        reset_key: &ResetKey,
    ) -> Result<Self, ConnectError> {
        let socket = Socket::bind(address).map_err(|error| ConnectError::Bind(address, error))?;
        Self::on(socket, identity, reset_key)
    }

    /// One whose datagrams come through that socket.
    pub fn on(
        socket: Socket,
        identity: &Identity,
        reset_key: &ResetKey,
    ) -> Result<Self, ConnectError> {
        let tls = tls::server(identity).map_err(|error| ConnectError::Tls(error.to_string()))?;
        let mut config = ServerConfig::with_crypto(Arc::new(tls));
        config
            .transport_config(Arc::new(transport(STRANGER_WINDOW_BYTES)))
            .max_incoming(KNOCKS_MAX)
            .incoming_buffer_size(KNOCK_BYTES)
            .incoming_buffer_size_total(KNOCKS_BYTES)
            .time_source(Arc::new(SteadyTime::start()));
        let mut endpoint = EndpointConfig::default();
        reset_key.apply(&mut endpoint);
        let inner = socket.endpoint(endpoint, Some(config)).map_err(ConnectError::Socket)?;
        Ok(Self { inner })
    }

    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// The next one to knock; `None` when the listener is closed. Run the returned handshake in a
    /// task of its own, so that a slow one holds nobody up.
    pub async fn knock(&self) -> Option<Knock> {
        self.inner.accept().await.map(Knock)
    }

    /// Connections of any kind, also those that are saying goodbye.
    pub fn connections(&self) -> usize {
        self.inner.open_connections()
    }

    pub fn close(&self) {
        self.inner.close(close_code::STOPPING, b"the coordinator is stopping");
    }

    /// Waits until all connections have said goodbye, at most a second.
    pub async fn wait_idle(&self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.inner.wait_idle()).await;
    }
}

/// A handshake that somebody wants to begin. Nothing is kept for them yet.
#[derive(Debug)]
pub struct Knock(quinn::Incoming);

/// Why a handshake did not become a connection.
#[derive(Debug, thiserror::Error)]
pub enum NotAccepted {
    #[error("{0}")]
    Handshake(quinn::ConnectionError),
    #[error("the handshake was not finished in time")]
    Silent,
    #[error("it shows no certificate, or one to join again with")]
    Certificate,
}

impl Knock {
    pub fn remote(&self) -> SocketAddr {
        self.0.remote_address()
    }

    /// Whether they have shown that they receive what is sent to their address.
    pub fn is_validated(&self) -> bool {
        self.0.remote_address_validated()
    }

    /// Sends them away with one packet.
    pub fn refuse(self) {
        self.0.refuse();
    }

    /// Asks them to knock again with what this one packet says, which shows that their address is
    /// theirs. Nothing is kept meanwhile.
    pub fn validate(self) {
        // It fails only for those who have done so, who are then refused as it is dropped.
        let _ = self.0.retry();
    }

    /// Finishes the handshake. Whoever speaks the farm's protocol without a certificate, and
    /// whoever shows one to enrol again, is sent away.
    pub async fn accept(self) -> Result<Accepted, NotAccepted> {
        let connecting = self.0.accept().map_err(NotAccepted::Handshake)?;
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| NotAccepted::Silent)?
            .map_err(NotAccepted::Handshake)?;
        let protocol = connection
            .handshake_data()
            .and_then(|data| data.downcast::<HandshakeData>().ok())
            .and_then(|data| data.protocol);
        match (protocol.as_deref() == Some(ALPN_JOIN), peer_of(&connection)) {
            (false, Some(peer)) => {
                connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES));
                Ok(Accepted::Member(peer, connection))
            }
            (true, None) => Ok(Accepted::Newcomer(connection)),
            _ => {
                connection.close(close_code::UNKNOWN_IDENTITY, b"this farm does not know you");
                Err(NotAccepted::Certificate)
            }
        }
    }
}

/// The time in what newcomers are asked to repeat: a clock that is set meanwhile turns nobody away.
struct SteadyTime {
    started: Instant,
    started_at: SystemTime,
}

impl SteadyTime {
    fn start() -> Self {
        Self { started: Instant::now(), started_at: SystemTime::now() }
    }
}

impl TimeSource for SteadyTime {
    fn now(&self) -> SystemTime {
        self.started_at + self.started.elapsed()
    }
}

fn peer_of(connection: &Connection) -> Option<Peer> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    Peer::of(chain.first()?).ok()
}

fn transport(connection_window: u32) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(DATAGRAM_MAX_BYTES);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(connection_window))
        .send_window(CONNECTION_WINDOW_BYTES.into())
        .mtu_discovery_config(Some(discovery))
        .congestion_controller_factory(Arc::new(BbrConfig::default()))
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(IDLE_TIMEOUT.try_into().ok());
    config
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the identity names no address of the farm")]
    NoAddress,
    #[error("the name in `{0}` cannot be resolved ({1}): check the address")]
    Name(String, String),
    #[error(
        "the coordinator at {0} cannot be reached ({1}): check that it runs, and that UDP passes to it"
    )]
    Unreachable(String, String),
    #[error("{0} is not the coordinator of this farm: its certificate is of another CA")]
    Stranger(String),
    #[error(
        "the farm at {0} does not know this identity any more: join again with a new join string"
    )]
    Removed(String),
    #[error("the coordinator at {0} speaks another version of Grange: update the older one")]
    Version(String),
    #[error("the address {0} cannot be listened on: {1}")]
    Bind(SocketAddr, std::io::Error),
    #[error("no UDP socket: {0}")]
    Socket(std::io::Error),
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// TLS alerts that peers send (RFC 8446, section 6), as QUIC carries them (RFC 9001, section 4.8).
const ALERT_UNKNOWN_CA: u64 = 0x130;
const ALERT_NO_APPLICATION_PROTOCOL: u64 = 0x178;

/// Whether somebody is there who has no time just now (RFC 9000, section 20.1): a connection is
/// refused at once, or ended amid its handshake.
fn is_crowded(error: &quinn::ConnectionError) -> bool {
    use quinn::TransportErrorCode as Code;
    matches!(
        error,
        quinn::ConnectionError::ConnectionClosed(close)
            if [Code::CONNECTION_REFUSED, Code::APPLICATION_ERROR].contains(&close.error_code)
    )
}

impl ConnectError {
    /// What a failed handshake means.
    fn of(address: &str, error: &quinn::ConnectionError) -> Self {
        use quinn::ConnectionError::{ApplicationClosed, ConnectionClosed, TransportError};
        let address = address.to_owned();
        match error {
            ApplicationClosed(close) if close.error_code == close_code::UNKNOWN_IDENTITY => {
                Self::Removed(address)
            }
            TransportError(error) if error.reason.contains("invalid peer certificate") => {
                Self::Stranger(address)
            }
            TransportError(error) if u64::from(error.code) == ALERT_NO_APPLICATION_PROTOCOL => {
                Self::Version(address)
            }
            ConnectionClosed(close)
                if u64::from(close.error_code) == ALERT_NO_APPLICATION_PROTOCOL =>
            {
                Self::Version(address)
            }
            ConnectionClosed(close) if u64::from(close.error_code) == ALERT_UNKNOWN_CA => {
                Self::Removed(address)
            }
            other => Self::Unreachable(address, other.to_string()),
        }
    }
}
