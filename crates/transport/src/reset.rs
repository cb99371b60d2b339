//! A coordinator that died says so when it is back.
//!
//! Whoever talks to a connection that nobody has any more is answered with a stateless reset
//! (RFC 9000, section 10.3), which it believes because of a token that it got with the
//! connection. The tokens, and what makes connection IDs recognisable as this coordinator's, follow
//! from one key: if that outlives the process, the reset does too. Otherwise every agent would
//! wait for its idle timeout.

use std::sync::Arc;

use quinn::EndpointConfig;
use quinn::crypto::{CryptoError, HmacKey};
use quinn_proto::HashedConnectionIdGenerator;

/// What keys are derived for, so that they are of no use for anything else.
const TOKENS: &str = "grange 2026-11-25 tokens of stateless resets";
const CONNECTION_IDS: &str = "grange 2026-11-25 connection ids";

/// The key that one farm's coordinators have in common.
#[derive(Clone)]
pub struct ResetKey {
    tokens: [u8; blake3::KEY_LEN],
    connection_ids: u64,
}

impl ResetKey {
    /// From what the farm's coordinators alone know.
    pub(crate) fn of(secret: &[u8]) -> Self {
        let ids = blake3::derive_key(CONNECTION_IDS, secret);
        let mut connection_ids = [0; 8];
        connection_ids.copy_from_slice(&ids[..8]);
        Self {
            tokens: blake3::derive_key(TOKENS, secret),
            connection_ids: u64::from_le_bytes(connection_ids),
        }
    }

    pub(crate) fn apply(&self, config: &mut EndpointConfig) {
        let key = self.connection_ids;
        config
            .reset_key(Arc::new(Tokens(self.tokens)))
            .cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)));
    }
}

/// Shows no secret.
impl std::fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResetKey(..)")
    }
}

/// BLAKE3 with a key is a message authentication code.
struct Tokens([u8; blake3::KEY_LEN]);

impl HmacKey for Tokens {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // Compared in constant time.
        let signed = blake3::Hash::from_slice(signature).map_err(|_| CryptoError)?;
        if blake3::keyed_hash(&self.0, data) == signed { Ok(()) } else { Err(CryptoError) }
    }
}
