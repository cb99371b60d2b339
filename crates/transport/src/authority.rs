//! The farm's certificate authority: it lives with the coordinator and signs every identity.

use std::collections::BTreeSet;
use std::path::Path;

use grange_protocol::client::Role;
use grange_protocol::shot::Label;
use grange_protocol::stream::COORDINATOR_NAME;
use grange_protocol::{AgentId, BlobHash};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::identity::{FarmAddress, Identity, IdentityError, Peer, pem, write_private};
use crate::reset::ResetKey;
use crate::tls;

const CA_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca-key.pem";

/// Certificates do not end by themselves: a member is removed by striking its identity, which the
/// coordinator looks up on every connection, and a host with a wrong clock can still join.
const FIRST_YEAR: i32 = 2000;
const LAST_YEAR: i32 = 2999;

pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Whether one is kept in `dir`.
    pub fn is_in(dir: &Path) -> bool {
        dir.join(CA_FILE).exists()
    }

    /// The authority that is kept in `dir`, made there on the first call.
    pub fn open(dir: &Path, farm: &Label) -> Result<Self, IdentityError> {
        let (ca_path, key_path) = (dir.join(CA_FILE), dir.join(KEY_FILE));
        if !ca_path.exists() {
            let (certificate, key) = create(farm)?;
            let write = || {
                write_private(&key_path, key.serialize_pem().as_bytes())?;
                write_private(&ca_path, pem("CERTIFICATE", &certificate).as_bytes())
            };
            write().map_err(|error| IdentityError::Unwritable(dir.into(), error))?;
        }
        let certificate = CertificateDer::from_pem_file(&ca_path)
            .map_err(|error| IdentityError::Unreadable(ca_path.clone(), error.to_string()))?;
        let unreadable = |error: &dyn std::fmt::Display| {
            IdentityError::Unreadable(key_path.clone(), error.to_string())
        };
        let key = std::fs::read_to_string(&key_path).map_err(|error| unreadable(&error))?;
        let key = KeyPair::from_pem(&key).map_err(|error| unreadable(&error))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(crypto)?;
        Ok(Self { certificate, issuer })
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The hash by which join strings pin this authority.
    pub fn hash(&self) -> BlobHash {
        BlobHash::of(&self.certificate)
    }

    /// The hash by which connect strings pin this authority: SHA-256, which every language has.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    /// By which a coordinator that was started anew tells those who still talk to the one before
    /// that it knows nothing of their connections.
    pub fn reset_key(&self) -> ResetKey {
        ResetKey::of(self.issuer.key().serialized_der())
    }

    /// The certificate as a file that TLS libraries take.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// Signs a newcomer's request. Only the key is taken from it: name, id and role are ours.
    pub fn sign(&self, csr: &[u8], peer: &Peer) -> Result<CertificateDer<'static>, IdentityError> {
        let csr = CertificateSigningRequestDer::from(csr);
        let mut request = CertificateSigningRequestParams::from_der(&csr).map_err(crypto)?;
        request.params = member(peer)?;
        Ok(request.signed_by(&self.issuer).map_err(crypto)?.der().clone())
    }

    /// An identity for somebody on this very machine, key and all.
    pub fn issue(&self, peer: &Peer, farm: FarmAddress) -> Result<Identity, IdentityError> {
        let (key, csr) = request()?;
        let certificate = self.sign(&csr, peer)?;
        Identity::new(self.certificate.clone(), certificate, key, farm)
    }

    /// The coordinator's own identity, made anew at every start.
    pub fn coordinator(&self, farm: FarmAddress) -> Result<Identity, IdentityError> {
        let key = KeyPair::generate().map_err(crypto)?;
        let peer = Peer { id: AgentId(Uuid::nil()), role: Role::Admin, name: farm.name.clone() };
        let mut params = member(&peer)?;
        params.subject_alt_names.push(SanType::DnsName(ia5(COORDINATOR_NAME)?));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(crypto)?.der().clone();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Identity::new(self.certificate.clone(), certificate, key, farm)
    }
}

impl Authority {
    /// Serves HTTPS under the coordinator's own name and these names and addresses, with a key
    /// made anew at every start.
    pub fn https(&self, hosts: &BTreeSet<String>) -> Result<ServerConfig, IdentityError> {
        let key = KeyPair::generate().map_err(crypto)?;
        let mut params = dated(COORDINATOR_NAME);
        params.subject_alt_names = vec![SanType::DnsName(ia5(COORDINATOR_NAME)?)];
        for host in hosts {
            params.subject_alt_names.push(match host.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(ia5(host)?),
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Strict verifiers, such as Python's since 3.13, want it.
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(crypto)?.der().clone();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        tls::https(vec![certificate, self.certificate.clone()], key.into())
            .map_err(|error| IdentityError::Crypto(error.to_string()))
    }
}

/// A newcomer's key, and the request to sign it.
pub(crate) fn request() -> Result<(PrivatePkcs8KeyDer<'static>, Vec<u8>), IdentityError> {
    let key = KeyPair::generate().map_err(crypto)?;
    let csr = CertificateParams::default().serialize_request(&key).map_err(crypto)?;
    Ok((PrivatePkcs8KeyDer::from(key.serialize_der()), csr.der().to_vec()))
}

fn create(farm: &Label) -> Result<(CertificateDer<'static>, KeyPair), IdentityError> {
    let key = KeyPair::generate().map_err(crypto)?;
    let mut params = dated(&format!("Grange farm {farm}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(crypto)?;
    Ok((certificate.der().clone(), key))
}

fn member(peer: &Peer) -> Result<CertificateParams, IdentityError> {
    let mut params = dated(peer.name.as_str());
    params.subject_alt_names = vec![SanType::URI(ia5(&peer.uri())?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn dated(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(FIRST_YEAR, 1, 1);
    params.not_after = rcgen::date_time_ymd(LAST_YEAR, 12, 31);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn ia5(text: &str) -> Result<Ia5String, IdentityError> {
    text.try_into().map_err(crypto)
}

fn crypto(error: rcgen::Error) -> IdentityError {
    IdentityError::Crypto(error.to_string())
}
