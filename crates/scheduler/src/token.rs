//! Join tokens and the identities that they made; tokens of the HTTP API.

use grange_protocol::client::Role;
use grange_protocol::shot::Label;
use grange_protocol::{BlobHash, Millis};
use serde::{Deserialize, Serialize};

/// What is kept of a token: its hash, so that the journal tells nobody how to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenHash(BlobHash);

impl TokenHash {
    pub fn of(secret: &[u8; 16]) -> Self {
        Self(BlobHash::of(secret))
    }
}

/// A token that nobody has used yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    pub(crate) role: Role,
    pub(crate) expires_at: Millis,
}

/// A token of the HTTP API, good for any number of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    /// Two tokens never share one: jobs and logs tell by it who it was.
    pub name: Label,
    pub role: Role,
    pub created_at: Millis,
    pub expires_at: Millis,
}

/// Somebody who joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub name: Label,
    pub role: Role,
    pub since: Millis,
}
