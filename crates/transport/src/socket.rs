//! Where an endpoint's datagrams go and come from: a UDP socket of this host, or what stands for one.
//!
//! Time needs no such choice: all that waits here does so on tokio's clock, which is QUIC's as well.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use quinn::{AsyncUdpSocket, EndpointConfig, Runtime, ServerConfig, TokioRuntime};

use crate::endpoint::DATAGRAM_MAX_BYTES;

const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// A socket that an endpoint can be made on. There must be a tokio runtime where one is made.
#[derive(Debug)]
pub struct Socket {
    datagrams: Arc<dyn AsyncUdpSocket>,
    seed: Option<[u8; 32]>,
}

impl Socket {
    /// A UDP socket of this host.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::of_this_host(std::net::UdpSocket::bind(address)?)
    }

    /// One that can reach everybody.
    pub(crate) fn anywhere() -> io::Result<Self> {
        // A wildcard IPv6 socket reaches IPv4 too; hosts without IPv6 get an IPv4 one.
        let socket = std::net::UdpSocket::bind("[::]:0");
        Self::of_this_host(socket.or_else(|_| std::net::UdpSocket::bind("0.0.0.0:0"))?)
    }

    /// Another network than this host's, such as a simulated one. What QUIC decides by chance then
    /// follows from `seed`; its keys and connection ids do not.
    pub fn on(datagrams: Arc<dyn AsyncUdpSocket>, seed: [u8; 32]) -> Self {
        Self { datagrams, seed: Some(seed) }
    }

    fn of_this_host(socket: std::net::UdpSocket) -> io::Result<Self> {
        // Less than asked for is slower, not wrong: the kernel's limit is not ours to judge.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER_BYTES);
        Ok(Self { datagrams: TokioRuntime.wrap_udp_socket(socket)?, seed: None })
    }

    pub(crate) fn endpoint(
        self,
        mut config: EndpointConfig,
        server: Option<ServerConfig>,
    ) -> io::Result<quinn::Endpoint> {
        config.max_udp_payload_size(DATAGRAM_MAX_BYTES).map_err(io::Error::other)?;
        config.rng_seed(self.seed);
        let runtime = Arc::new(TokioRuntime);
        quinn::Endpoint::new_with_abstract_socket(config, server, self.datagrams, runtime)
    }
}
