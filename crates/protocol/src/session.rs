//! A session's own stream: calls to an instance, and what becomes of them.
//!
//! The agent opens it when the instance is ready ([`OpenSession`]), and again after a
//! reconnection; the coordinator then says again what it has no answer to, and the agent knows by
//! their numbers which calls it has seen. Values are JSON in bytes, which neither side looks into.

use serde::{Deserialize, Serialize};

use crate::file::Output;
use crate::ids::{LeaseId, TaskRef};
use crate::shot::Label;

/// Begins the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    pub lease: LeaseId,
    pub task: TaskRef,
    /// As Blender says it: `4.2.23 LTS`.
    pub blender: String,
    /// The device's name.
    pub device: Label,
}

/// Names a call among those of its session; whoever calls chooses it, and never twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CallNumber(pub u64);

/// To the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSession {
    Call(Call),
    /// The person is done: end the instance, and the task with it.
    Close,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub number: CallNumber,
    pub operation: String,
    /// A JSON object, at most [`CALL_MAX`](crate::limits::CALL_MAX) bytes.
    pub arguments: Vec<u8>,
}

/// From the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromSession {
    /// Of the frame that a call renders. Only the latest counts.
    Progress { call: CallNumber, fraction: f32, sample: u32, samples: u32 },
    /// A file of the call is committed.
    Stored { call: CallNumber, output: Output },
    /// The call's end, after all its files.
    Answered { call: CallNumber, answer: CallAnswer },
    /// The instance is gone, and the session with it. One sentence says why.
    Ended { reason: String },
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallAnswer {
    Returned {
        /// JSON.
        value: Vec<u8>,
        /// Sentences for people.
        warnings: Vec<String>,
    },
    Raised(Raised),
}

impl CallAnswer {
    /// How much memory it takes, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Returned { value, warnings } => {
                value.len() + warnings.iter().map(String::len).sum::<usize>()
            }
            Self::Raised(raised) => raised.message.len() + raised.traceback.len(),
        }
    }
}

/// An exception, as the instance's Python tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Raised {
    /// The exception's class: `ValueError`.
    pub kind: String,
    /// One sentence.
    pub message: String,
    /// Where it was raised; empty if not in Python.
    pub traceback: String,
}

impl Raised {
    /// One that no Python raised.
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into(), traceback: String::new() }
    }
}
