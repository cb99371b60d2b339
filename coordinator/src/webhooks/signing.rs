//! Signatures as the Standard Webhooks specification has them: HMAC-SHA256 of `id.timestamp.body`,
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use std::fmt;
use std::ops::RangeInclusive;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

const PREFIX: &str = "whsec_";
/// Of a secret, as the specification has it.
const LEN_BYTES: RangeInclusive<usize> = 24..=64;

/// What a webhook and its receiver share.
#[derive(Clone)]
pub(crate) struct Secret(Vec<u8>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadSecret {
    #[error("has {PREFIX} before something that is not base64")]
    NoBase64,
    #[error("has {0} bytes and needs 24 to 64")]
    Length(usize),
}

impl Secret {
    /// After `whsec_` it is base64; without that, the text itself is the secret.
    pub(crate) fn parse(text: &str) -> Result<Self, BadSecret> {
        let bytes = match text.strip_prefix(PREFIX) {
            Some(base64) => BASE64_STANDARD.decode(base64).map_err(|_| BadSecret::NoBase64)?,
            None => text.as_bytes().to_vec(),
        };
        if LEN_BYTES.contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(BadSecret::Length(bytes.len()))
        }
    }

    /// The header `webhook-signature`.
    pub(crate) fn sign(&self, id: &str, timestamp_s: u64, body: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let tag = hmac::sign(&key, format!("{id}.{timestamp_s}.{body}").as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(tag))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the specification's own libraries.
    #[test]
    fn it_signs_as_the_specification_does() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signature = secret.sign(id, 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_long_enough_and_is_not_shown() {
        let refused = |text: &str| Secret::parse(text).map(|_| ()).unwrap_err();
        assert_eq!(refused("hunter2"), BadSecret::Length(7));
        assert_eq!(refused(&"x".repeat(65)), BadSecret::Length(65));
        assert_eq!(refused("whsec_MfKQ9r8G"), BadSecret::Length(6));
        assert_eq!(refused("whsec_not base64"), BadSecret::NoBase64);
        let text = "twenty-four bytes of text";
        assert!(!format!("{:?}", Secret::parse(text).unwrap()).contains("twenty"));
    }
}
