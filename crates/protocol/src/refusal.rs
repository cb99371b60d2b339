//! A farm's no: a code for programs, a sentence for people.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: RefusalCode,
    /// Names the thing and the next step.
    pub message: String,
}

/// Append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The request makes no sense as it stands.
    Invalid,
    /// No such job, task, blob, agent …
    NotFound,
    /// The identity's role does not allow it.
    Forbidden,
    /// A join token that is unknown, used or too old.
    BadToken,
    /// The lease is not, or no longer, the agent's.
    StaleLease,
    /// Another task has committed an output of that name, or this one another file.
    NameTaken,
    /// No agent of the farm could run the job.
    NoAgentFits,
    /// The coordinator is stopping, or its disk is full: later.
    NotNow,
    /// The farm needs files that it does not have.
    MissingBlobs,
    /// The key of this request came with another request before.
    KeyReused,
    /// The job was there, and was collected after the farm had kept it for long enough.
    Gone,
}

impl Refusal {
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
