//! What the journal remembers. Append-only: old journals are replayed by newer programs.

use std::collections::BTreeSet;

use grange_protocol::agent::{Completed, FailureKind};
use grange_protocol::client::Role;
use grange_protocol::file::Output;
use grange_protocol::footprint::Measurement;
use grange_protocol::shot::Label;
use grange_protocol::{
    AgentId, BlobHash, Epoch, JobId, JobSpec, LeaseId, Millis, Priority, Schedule, StepIndex,
    TaskRef,
};
use serde::{Deserialize, Serialize};

use crate::footprint::Likeness;
use crate::token::TokenHash;

/// A fact and when it became one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    pub at: Millis,
    pub fact: Fact,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    /// A life of the coordinator began.
    EpochBegan(Epoch),
    JobSubmitted {
        job: JobId,
        submitter: Label,
        spec: Box<JobSpec>,
    },
    JobPaused(JobId),
    JobResumed(JobId),
    JobCanceled(JobId),
    JobPrioritised(JobId, Priority),
    /// Failed tasks are open again, blocked agents welcome again, a failed or canceled job goes on.
    JobRetried(JobId),
    JobCompleted(JobId),
    JobFailed {
        job: JobId,
        reason: String,
    },
    /// An optional step was left out.
    StepSkipped {
        job: JobId,
        step: StepIndex,
        reason: String,
    },
    TaskCompleted {
        task: TaskRef,
        agent: AgentId,
        cost: Completed,
    },
    /// A task has no attempts left, or no attempt could help.
    TaskFailed(TaskRef),
    AttemptFailed {
        task: TaskRef,
        agent: AgentId,
        kind: FailureKind,
        reason: String,
    },
    /// The agent gets no more of the job.
    AgentBlocked {
        job: JobId,
        agent: AgentId,
    },
    OutputStored {
        task: TaskRef,
        output: Output,
    },
    TokenCreated {
        token: TokenHash,
        role: Role,
        expires_at: Millis,
    },
    /// A token was used up, and this identity exists now.
    Enrolled {
        token: TokenHash,
        identity: AgentId,
        name: Label,
        role: Role,
    },
    /// What a frame took, or that memory ran out for it.
    Measured {
        likeness: Box<Likeness>,
        measurement: Measurement,
        /// The shot has the size that its file says.
        own_size: bool,
    },
    /// No device of the farm has the memory that the task needs.
    FitsNowhere {
        task: TaskRef,
        reason: String,
    },
    ApiTokenCreated {
        token: TokenHash,
        name: Label,
        role: Role,
        expires_at: Millis,
    },
    /// The token of that name is good for nothing any more.
    ApiTokenRevoked(Label),
    /// A submission came with a key; the same key stands for this job from now on.
    SubmissionKeyed {
        key: BlobHash,
        /// Of all that was submitted.
        body: BlobHash,
        job: JobId,
    },
    /// The attempt under the lease has failed and is counted. An agent that claims it later has
    /// only not heard of that.
    LeaseSpent {
        task: TaskRef,
        lease: LeaseId,
    },
    /// Somebody downloaded outputs of the job for the first time.
    JobFetched(JobId),
    /// Whether the job stays whatever its age.
    JobKept {
        job: JobId,
        kept: bool,
    },
    /// The job is forgotten. Its files go after this, so that no job ever misses one.
    JobCollected(JobId),
    /// Only agents that have all of the tags get tasks of the job.
    JobTagged {
        job: JobId,
        tags: BTreeSet<Label>,
    },
    /// Whether somebody said that the agent shall get no tasks.
    AgentDrained {
        agent: AgentId,
        drained: bool,
    },
    AgentTagged {
        agent: AgentId,
        tags: BTreeSet<Label>,
    },
    /// When the agent takes tasks; `None`: always.
    AgentScheduled {
        agent: AgentId,
        schedule: Option<Schedule>,
    },
    /// The identity is good for nothing any more.
    AgentRemoved(AgentId),
}
