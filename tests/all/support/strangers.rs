//! Those who reach a farm's port and do not belong to it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use grange_protocol::client::{EnrolReply, EnrolRequest};
use grange_protocol::limits::ENROL_FRAME_MAX;
use grange_protocol::stream::{ALPN_FARM, ALPN_JOIN, COORDINATOR_NAME};
use grange_transport::{Receiver, Sender};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint};
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

/// A packet that begins a handshake is at least so long (RFC 9000, section 14.1).
const INITIAL_MIN_BYTES: usize = 1_200;

/// Who they say they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stranger {
    /// A member without a certificate.
    NoCertificate,
    /// A member with a certificate that they made themselves.
    ForeignCertificate,
    /// A newcomer.
    Newcomer,
}

/// An address of this host; all of 127.0.0.0/8 are.
pub(crate) fn source(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, number).into()
}

/// A stranger's way to connect from an address.
pub(crate) struct Caller {
    endpoint: Endpoint,
}

impl Caller {
    /// Needs a runtime.
    pub(crate) fn new(stranger: Stranger, from: IpAddr) -> Self {
        let mut endpoint = Endpoint::client(SocketAddr::new(from, 0)).unwrap();
        endpoint.set_default_client_config(config(stranger));
        Self { endpoint }
    }

    pub(crate) async fn connect(&self, farm: SocketAddr) -> Result<Connection, ConnectionError> {
        self.endpoint.connect(farm, COORDINATOR_NAME).unwrap().await
    }
}

/// What a newcomer with a wrong token is told.
pub(crate) async fn join(connection: &Connection, csr: &[u8]) -> Option<EnrolReply> {
    let (send, recv) = connection.open_bi().await.ok()?;
    let mut sender = Sender::new(send, ENROL_FRAME_MAX);
    let name = "stranger".parse().unwrap();
    let request = EnrolRequest { token: [7; 16], name, csr: csr.to_vec() };
    sender.send(&request).await.ok()?;
    Receiver::new(recv, ENROL_FRAME_MAX).expect().await.ok()
}

/// A request to sign a key.
pub(crate) fn request() -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    CertificateParams::default().serialize_request(&key).unwrap().der().to_vec()
}

/// First packets of so many handshakes, to be sent by whoever will not go on with them.
pub(crate) async fn first_packets(count: usize) -> Vec<Vec<u8>> {
    let sink = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = sink.local_addr().unwrap();
    let mut packets = Vec::new();
    let mut piece = vec![0; 65_536];
    let caller = Caller::new(Stranger::NoCertificate, source(1));
    while packets.len() < count {
        let connecting = caller.endpoint.connect(address, COORDINATOR_NAME).unwrap();
        let got = tokio::time::timeout(Duration::from_secs(20), sink.recv_from(&mut piece));
        let (got, _) = got.await.expect("a packet").unwrap();
        // Whoever is not waited for any more says goodbye, in a packet that is shorter.
        if got >= INITIAL_MIN_BYTES {
            packets.push(piece[..got].to_vec());
        }
        drop(connecting);
    }
    packets
}

/// Sends bytes from an address, and listens to no answer.
pub(crate) fn send_from(from: IpAddr, to: SocketAddr, packets: &[Vec<u8>]) {
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).unwrap();
    for packet in packets {
        socket.send_to(packet, to).unwrap();
    }
}

fn config(stranger: Stranger) -> ClientConfig {
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustsAnybody));
    let mut tls = if stranger == Stranger::ForeignCertificate {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap().der().clone();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        builder.with_client_auth_cert(vec![certificate], key.into()).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    let joins = stranger == Stranger::Newcomer;
    tls.alpn_protocols = vec![if joins { ALPN_JOIN } else { ALPN_FARM }.to_vec()];
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

#[derive(Debug)]
struct TrustsAnybody;

impl ServerCertVerifier for TrustsAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
