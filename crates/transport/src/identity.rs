//! Who somebody is: a key, a certificate of the farm's CA, and where the farm is.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use grange_protocol::client::Role;
use grange_protocol::shot::Label;
use grange_protocol::{AgentId, BlobHash};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

const CA_FILE: &str = "ca.pem";
const CERTIFICATE_FILE: &str = "certificate.pem";
const KEY_FILE: &str = "key.pem";
const FARM_FILE: &str = "farm.toml";

/// The scheme of the URI that a certificate carries as its subject's alternative name:
/// `grange:ROLE:UUID`.
const URI_SCHEME: &str = "grange";

/// All that one member of a farm needs to talk to it.
#[derive(Debug)]
pub struct Identity {
    pub ca: CertificateDer<'static>,
    pub certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub farm: FarmAddress,
    pub peer: Peer,
}

/// Where a farm is, as `farm.toml` keeps it beside the certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FarmAddress {
    pub name: Label,
    /// `host:port`, in the order to try them.
    pub addresses: Vec<String>,
}

/// Who a certificate speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub id: AgentId,
    pub role: Role,
    pub name: Label,
}

impl Identity {
    pub fn new(
        ca: CertificateDer<'static>,
        certificate: CertificateDer<'static>,
        key: PrivatePkcs8KeyDer<'static>,
        farm: FarmAddress,
    ) -> Result<Self, IdentityError> {
        let peer = Peer::of(&certificate)?;
        Ok(Self { ca, certificate, key: key.into(), farm, peer })
    }

    /// Reads the four files of an identity's directory.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        if !dir.join(CERTIFICATE_FILE).exists() {
            return Err(IdentityError::None(dir.into()));
        }
        let bad = |file: &str| {
            let path = dir.join(file);
            move |error: &dyn std::fmt::Display| IdentityError::Unreadable(path, error.to_string())
        };
        let ca = CertificateDer::from_pem_file(dir.join(CA_FILE)).map_err(|e| bad(CA_FILE)(&e))?;
        let certificate = CertificateDer::from_pem_file(dir.join(CERTIFICATE_FILE))
            .map_err(|e| bad(CERTIFICATE_FILE)(&e))?;
        let key =
            PrivatePkcs8KeyDer::from_pem_file(dir.join(KEY_FILE)).map_err(|e| bad(KEY_FILE)(&e))?;
        let farm = fs::read_to_string(dir.join(FARM_FILE)).map_err(|e| bad(FARM_FILE)(&e))?;
        let farm = toml::from_str(&farm).map_err(|e| bad(FARM_FILE)(&e))?;
        Self::new(ca, certificate, key, farm)
    }

    /// Writes the four files, the key readable by its owner only. The certificate comes last, so
    /// that a directory with a certificate is whole.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let save = || -> std::io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            let farm = toml::to_string(&self.farm).map_err(std::io::Error::other)?;
            write_private(&dir.join(FARM_FILE), farm.as_bytes())?;
            write_private(
                &dir.join(KEY_FILE),
                pem("PRIVATE KEY", self.key.secret_der()).as_bytes(),
            )?;
            write_private(&dir.join(CA_FILE), pem("CERTIFICATE", &self.ca).as_bytes())?;
            write_private(
                &dir.join(CERTIFICATE_FILE),
                pem("CERTIFICATE", &self.certificate).as_bytes(),
            )
        };
        save().map_err(|error| IdentityError::Unwritable(dir.into(), error))
    }

    /// The hash by which join strings pin the farm's CA.
    pub fn ca_hash(&self) -> BlobHash {
        BlobHash::of(&self.ca)
    }
}

impl Peer {
    /// Reads who a certificate speaks for. That it can be trusted is TLS's business.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let malformed = || IdentityError::NotOfAFarm;
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| malformed())?;
        let name = parsed
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .and_then(|name| name.parse().ok())
            .ok_or_else(malformed)?;
        let uri = parsed
            .extensions()
            .iter()
            .filter_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
                _ => None,
            })
            .flatten()
            .find_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            })
            .ok_or_else(malformed)?;
        let mut parts = uri.split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(URI_SCHEME), Some(role), Some(id), None) => Ok(Self {
                id: AgentId(id.parse().map_err(|_| malformed())?),
                role: role.parse().map_err(|_| malformed())?,
                name,
            }),
            _ => Err(malformed()),
        }
    }

    pub(crate) fn uri(&self) -> String {
        format!("{URI_SCHEME}:{}:{}", self.role, self.id)
    }
}

/// Writes a file that only its owner may read, through a temporary one.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// A PEM block (RFC 7468).
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    pem::encode_config(
        &pem::Pem::new(label, der),
        pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
    )
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "there is no identity in {0}: ask the farm's admin for a join string and run `grange join`"
    )]
    None(PathBuf),
    #[error("the identity file {0} cannot be read: {1}")]
    Unreadable(PathBuf, String),
    #[error("the identity cannot be written to {0}: {1}")]
    Unwritable(PathBuf, std::io::Error),
    #[error("the certificate is not one of a Grange farm")]
    NotOfAFarm,
    #[error("a key or certificate cannot be made: {0}")]
    Crypto(String),
}
