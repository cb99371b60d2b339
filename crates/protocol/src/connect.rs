//! Connect strings: all that a client of the HTTP API needs, in one line to paste.
//!
//! `grange+https://TOKEN@HOST:PORT?ca=CA[&or=HOST:PORT…]`, where TOKEN is 16 secret bytes and CA the
//! SHA-256 hash of the farm's CA certificate (DER), both hexadecimal, and each `or` another address
//! to try. It is a URL, so that every language reads it; and SHA-256, because Python's standard
//! library has no BLAKE3. The client fetches `https://HOST:PORT/api/v1/ca.pem` without trusting
//! anybody, compares that certificate's hash, and trusts it and nothing else from then on.

use std::fmt;

const SCHEME: &str = "grange+https://";

#[derive(Clone, PartialEq, Eq)]
pub struct ConnectString {
    /// `host:port`, in the order to try them; at least one.
    pub addresses: Vec<String>,
    pub token: [u8; 16],
    /// SHA-256 of the CA's certificate.
    pub ca: [u8; 32],
}

impl fmt::Display for ConnectString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut addresses = self.addresses.iter();
        let first = addresses.next().map_or("localhost", String::as_str);
        write!(f, "{SCHEME}{}@{first}?ca={}", hex(&self.token), hex(&self.ca))?;
        addresses.try_for_each(|address| write!(f, "&or={address}"))
    }
}

/// Without the secret.
impl fmt::Debug for ConnectString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectString({})", self.addresses.join(","))
    }
}

/// The secret that a bearer token spells: 32 hexadecimal digits.
pub fn parse_token(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut token = [0; 16];
    for (at, byte) in token.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(token)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_string_is_a_url_with_a_secret_that_logs_do_not_show() {
        let connect = ConnectString {
            addresses: vec!["farm.local:4747".into(), "[::1]:4747".into()],
            token: *b"0123456789abcdef",
            ca: [0xab; 32],
        };
        let ca = "ab".repeat(32);
        let token = "30313233343536373839616263646566";
        assert_eq!(
            connect.to_string(),
            format!("grange+https://{token}@farm.local:4747?ca={ca}&or=[::1]:4747")
        );
        assert!(!format!("{connect:?}").contains("3031"), "a secret in a log");
        assert_eq!(parse_token(token), Some(connect.token));
        for bad in ["", "30", &token[1..], &token.replace('6', "g"), &token.replace("30", "+3")] {
            assert_eq!(parse_token(bad), None, "{bad}");
        }
    }
}
