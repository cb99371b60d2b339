//! What happens to a farm.

use grange_protocol::agent::{AgentHello, Outcome};
use grange_protocol::client::{JobAction, Role};
use grange_protocol::file::Output;
use grange_protocol::footprint::{DeviceState, Measurement};
use grange_protocol::shot::Label;
use grange_protocol::{AgentId, JobId, JobSpec, LeaseId, Millis, TaskRef};

use crate::token::TokenHash;

/// The shell's name for somebody who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Time has passed; nothing else.
    Tick,
    Submit {
        request: RequestId,
        submitter: Label,
        spec: Box<JobSpec>,
        /// Accept it also if no agent that is there could run it.
        queue_anyway: bool,
    },
    Act {
        request: RequestId,
        job: JobId,
        action: JobAction,
    },
    CreateToken {
        request: RequestId,
        token: TokenHash,
        role: Role,
        expires_at: Millis,
    },
    Enrol {
        request: RequestId,
        token: TokenHash,
        identity: AgentId,
        name: Label,
    },
    /// An agent is connected and says what it is and holds.
    AgentJoined {
        agent: AgentId,
        hello: Box<AgentHello>,
    },
    /// An agent's connection is gone. Its leases live on for a while.
    AgentGone {
        agent: AgentId,
    },
    AgentDraining {
        agent: AgentId,
    },
    /// How its devices are doing, in the order of its hello.
    DevicesTold {
        agent: AgentId,
        devices: Vec<DeviceState>,
    },
    /// What a frame took, or that memory ran out.
    Measured {
        agent: AgentId,
        measurement: Measurement,
    },
    /// The agent will not begin these.
    Returned {
        agent: AgentId,
        leases: Vec<LeaseId>,
    },
    Ended {
        agent: AgentId,
        lease: LeaseId,
        task: TaskRef,
        outcome: Outcome,
    },
    /// A file is in the store and wants to be committed.
    OutputReceived {
        request: RequestId,
        agent: AgentId,
        lease: LeaseId,
        task: TaskRef,
        output: Output,
    },
}
