//! Join strings: all that a newcomer needs, in one line to paste.
//!
//! `grange://HOST:PORT[,HOST:PORT…]/ROLE/TOKEN/CA`, where TOKEN is 16 secret bytes and CA the
//! BLAKE3 hash of the farm's CA certificate (DER), both hexadecimal. The newcomer trusts a
//! coordinator that shows a chain to that CA, and nothing else.

use std::fmt;
use std::str::FromStr;

use crate::client::Role;
use crate::ids::BlobHash;

const SCHEME: &str = "grange://";

#[derive(Clone, PartialEq, Eq)]
pub struct JoinString {
    /// `host:port`, in the order to try them.
    pub addresses: Vec<String>,
    pub role: Role,
    pub token: [u8; 16],
    pub ca: BlobHash,
}

impl fmt::Display for JoinString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/", self.addresses.join(","), self.role)?;
        for byte in self.token {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "/{}", self.ca)
    }
}

/// Without the secret.
impl fmt::Debug for JoinString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinString({} as {})", self.addresses.join(","), self.role)
    }
}

impl FromStr for JoinString {
    type Err = BadJoinString;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let rest = text.strip_prefix(SCHEME).ok_or(BadJoinString::Scheme)?;
        let mut parts = rest.split('/');
        let (Some(addresses), Some(role), Some(token), Some(ca), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadJoinString::Incomplete);
        };
        let addresses: Vec<String> = addresses.split(',').map(str::to_owned).collect();
        for address in &addresses {
            let good = address.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
            });
            if !good {
                return Err(BadJoinString::Address(address.clone()));
            }
        }
        Ok(Self {
            addresses,
            role: role.parse().map_err(|_| BadJoinString::Incomplete)?,
            token: token_bytes(token).ok_or(BadJoinString::Incomplete)?,
            ca: ca.parse().map_err(|_| BadJoinString::Incomplete)?,
        })
    }
}

fn token_bytes(hex: &str) -> Option<[u8; 16]> {
    if hex.len() != 32 || !hex.is_ascii() {
        return None;
    }
    let mut token = [0; 16];
    for (at, byte) in token.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(token)
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadJoinString {
    #[error(
        "a join string begins with {SCHEME}: copy the whole line that `grange token create` printed"
    )]
    Scheme,
    #[error(
        "the join string is incomplete: copy the whole line that `grange token create` printed"
    )]
    Incomplete,
    #[error("the join string's address `{0}` is not HOST:PORT")]
    Address(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_string_survives_being_pasted() {
        let join = JoinString {
            addresses: vec!["farm.local:4747".into(), "[::1]:4747".into()],
            role: Role::Agent,
            token: *b"0123456789abcdef",
            ca: BlobHash::of(b"ca"),
        };
        let text = join.to_string();
        assert_eq!(format!(" {text}\n").parse::<JoinString>().unwrap(), join);
        assert!(!format!("{join:?}").contains("3031"), "a secret in a log");
        assert_eq!(text[..60].parse::<JoinString>(), Err(BadJoinString::Incomplete));
        assert_eq!("http://x".parse::<JoinString>(), Err(BadJoinString::Scheme));
        let portless = text.replace("farm.local:4747", "farm.local");
        assert_eq!(
            portless.parse::<JoinString>(),
            Err(BadJoinString::Address("farm.local".into()))
        );
    }
}
