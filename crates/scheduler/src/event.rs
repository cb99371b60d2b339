//! What happens to a farm.

use std::collections::BTreeSet;

use grange_protocol::agent::{AgentHello, Outcome};
use grange_protocol::client::{AgentAction, JobAction, Role};
use grange_protocol::file::Output;
use grange_protocol::footprint::{DeviceState, Measurement};
use grange_protocol::shot::Label;
use grange_protocol::{AgentId, BlobHash, JobId, JobSpec, LeaseId, Millis, TaskRef};

use crate::token::TokenHash;

/// The shell's name for somebody who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Makes a submission one job however often it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Once {
    /// Of who submits and the key that they gave it.
    pub key: BlobHash,
    /// Of all that is submitted.
    pub body: BlobHash,
}

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
        /// Only agents that have all of them get its tasks.
        tags: BTreeSet<Label>,
        /// `None`: every time it comes it is another job.
        once: Option<Once>,
    },
    ActOnAgent {
        request: RequestId,
        agent: AgentId,
        action: AgentAction,
    },
    /// The agents whose schedules keep them from taking tasks now; all others may.
    Asleep {
        request: RequestId,
        agents: BTreeSet<AgentId>,
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
    CreateApiToken {
        request: RequestId,
        token: TokenHash,
        name: Label,
        role: Role,
        expires_at: Millis,
    },
    RevokeApiToken {
        request: RequestId,
        name: Label,
    },
    RemoveMember {
        request: RequestId,
        member: AgentId,
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
    /// People downloaded outputs of these jobs.
    Fetched {
        request: RequestId,
        jobs: Vec<JobId>,
    },
    /// The shell found these jobs to be old enough to go.
    Collect {
        request: RequestId,
        jobs: Vec<JobId>,
    },
}
