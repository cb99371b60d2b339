//! rustls, set up once for each of the four ways to meet: serve, connect, join, serve the web.

use std::sync::Arc;
use std::time::Duration;

use grange_protocol::BlobHash;
use grange_protocol::stream::{ALPN_FARM, ALPN_JOIN};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::identity::Identity;

/// 2026-01-01, in seconds since the Unix epoch.
const ANY_TIME_S: u64 = 1_767_225_600;

/// The time by which certificates of a farm are judged: always the same. They do not end (see
/// [`crate::authority`]), so all that a clock could do is to keep a host out whose own is wrong.
#[derive(Debug)]
struct AnyTime;

impl AnyTime {
    fn now() -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(ANY_TIME_S))
    }
}

impl TimeProvider for AnyTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(Self::now())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn roots(ca: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone())?;
    Ok(Arc::new(roots))
}

/// Serves members (who show a certificate of the farm) and newcomers (who show none, and get no
/// further than enrolment: see [`Listener`](crate::Listener)).
pub(crate) fn server(identity: &Identity) -> Result<QuicServerConfig, Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(&identity.ca)?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    let mut config = rustls::ServerConfig::builder_with_details(provider(), Arc::new(AnyTime))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![identity.certificate.clone(), identity.ca.clone()],
            identity.key.clone_key(),
        )?;
    config.alpn_protocols = vec![ALPN_FARM.to_vec(), ALPN_JOIN.to_vec()];
    config.max_early_data_size = 0;
    QuicServerConfig::try_from(config).map_err(|error| Error::General(error.to_string()))
}

/// Serves HTTPS to clients that show a token and no certificate.
pub(crate) fn https(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<rustls::ServerConfig, Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Connects as a member.
pub(crate) fn client(identity: &Identity) -> Result<QuicClientConfig, Error> {
    let mut config = rustls::ClientConfig::builder_with_details(provider(), Arc::new(AnyTime))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(&identity.ca)?)
        .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    config.alpn_protocols = vec![ALPN_FARM.to_vec()];
    QuicClientConfig::try_from(config).map_err(|error| Error::General(error.to_string()))
}

/// Connects as a newcomer who knows nothing but the hash of the farm's CA.
pub(crate) fn newcomer(ca: BlobHash) -> Result<QuicClientConfig, Error> {
    let mut config = rustls::ClientConfig::builder_with_details(provider(), Arc::new(AnyTime))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedCa { ca, provider: provider() }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_JOIN.to_vec()];
    QuicClientConfig::try_from(config).map_err(|error| Error::General(error.to_string()))
}

/// Trusts a chain that ends in the one CA with this hash, and verifies it in full against that CA.
#[derive(Debug)]
struct PinnedCa {
    ca: BlobHash,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ca = intermediates
            .iter()
            .find(|certificate| BlobHash::of(certificate) == self.ca)
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let roots = roots(&ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is never offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
