//! What the core wants done. The shell does it after the facts before it are durable.

use std::collections::BTreeSet;

use grange_protocol::agent::Assignment;
use grange_protocol::client::Role;
use grange_protocol::{AgentId, Epoch, JobId, LeaseId, Refusal, TaskRef};

use crate::event::RequestId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Greet an agent that joined, and name the leases that it must drop.
    Welcome {
        agent: AgentId,
        epoch: Epoch,
        drop: Vec<LeaseId>,
    },
    Assign {
        agent: AgentId,
        assignment: Box<Assignment>,
    },
    /// Ask an agent for a task that it has not begun.
    Recall {
        agent: AgentId,
        lease: LeaseId,
    },
    /// Have an agent stop a task.
    Revoke {
        agent: AgentId,
        lease: LeaseId,
    },
    /// Tell an agent that an attempt's end is durable.
    Settle {
        agent: AgentId,
        lease: LeaseId,
    },
    /// The agent is no member any more: end its connection.
    Dismiss {
        agent: AgentId,
    },
    Answer {
        request: RequestId,
        answer: Answer,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Submitted(JobId),
    Done,
    Enrolled(Role),
    /// The output is committed; also if it was before.
    Committed,
    Refused(Refusal),
}

/// What changed since the last look, for watchers. Which change it was they see by looking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub jobs: BTreeSet<JobId>,
    pub tasks: BTreeSet<TaskRef>,
    pub agents: BTreeSet<AgentId>,
}
