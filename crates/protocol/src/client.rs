//! What clients ask a coordinator, one question a stream.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::history::{About, HistoryView};
use crate::ids::{AgentId, BlobHash, JobId, StepIndex, TaskIndex};
use crate::kinds::Submission;
use crate::quantity::{Millis, Priority};
use crate::schedule::Schedule;
use crate::shot::Label;
use crate::view::{
    AgentView, DecisionView, FarmView, FootprintView, JobDetail, JobView, LogView, OutputView,
};

/// What an identity may do; written into its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Role {
    /// Everything.
    Admin,
    /// Submit jobs, act on them, fetch their outputs.
    Submitter,
    /// Render. Nothing of what people do.
    Agent,
    /// See everything that submitters see, change nothing.
    Viewer,
}

/// Drawn at random for each submission, so that who has heard no answer can ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmissionKey(pub [u8; 16]);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Which of these the farm lacks. At most 1,000,000.
    MissingBlobs(Vec<BlobHash>),
    /// However often it comes under one key, it is one job.
    Submit {
        submission: Box<Submission>,
        key: SubmissionKey,
    },
    Jobs,
    Job(JobId),
    Act {
        job: JobId,
        action: JobAction,
    },
    Agents,
    Outputs(OutputsQuery),
    Logs(LogsQuery),
    CreateToken {
        role: Role,
        ttl_s: u32,
    },
    Farm,
    /// What shots were measured to need.
    Footprints,
    /// Why agents run as many instances as they do, the latest decisions last.
    Decisions,
    /// A token for the HTTP API.
    CreateApiToken {
        name: Label,
        role: Role,
        ttl_s: u32,
    },
    ApiTokens,
    /// By its name.
    RevokeApiToken(Label),
    /// A link that signs whoever asks for it in to the dashboard, once.
    PageLink,
    ActOnAgent {
        agent: AgentId,
        action: AgentAction,
    },
    /// What happened lately.
    History(HistoryQuery),
    /// Everybody who has joined, agents too.
    Members,
    /// Whoever it is is unknown from now on, and to come back joins anew.
    RemoveMember(AgentId),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    MissingBlobs(Vec<BlobHash>),
    Submitted(JobId),
    Jobs(Vec<JobView>),
    Job(Box<JobDetail>),
    Done,
    Agents(Vec<AgentView>),
    Outputs(Page<OutputView>),
    Logs(Page<LogView>),
    Token(JoinToken),
    Farm(FarmView),
    Refused(crate::Refusal),
    Footprints(Vec<FootprintView>),
    Decisions(Vec<DecisionView>),
    ApiToken(ApiToken),
    ApiTokens(Vec<ApiTokenView>),
    PageLink(PageLink),
    History(Page<HistoryView>),
    Members(Vec<MemberView>),
}

/// What people do to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobAction {
    Cancel,
    Pause,
    Resume,
    /// Failed tasks (and those canceled with a failed or canceled job) are tried anew.
    Retry,
    SetPriority(Priority),
    /// The job and its files stay, however old they get and however full the disk is.
    Keep,
    /// The job is collected like all others again.
    Release,
    /// A job that has ended is forgotten now, with its outputs and logs.
    Delete,
}

/// What people do to a render host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentAction {
    /// It finishes what it has begun and gets nothing more, until it is resumed.
    Drain,
    Resume,
    /// The farm does not know it any more. What it had goes to others; to come back it joins anew.
    Remove,
    /// What jobs can ask for.
    Tag(BTreeSet<Label>),
    /// When it takes tasks; `None`: always.
    Schedule(Option<Schedule>),
}

/// A job's committed outputs, in the order of their commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputsQuery {
    pub job: JobId,
    pub step: Option<StepIndex>,
    /// Outputs after this cursor; 0 for the first page.
    pub after: u64,
}

/// Logs of attempts, the latest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsQuery {
    pub job: JobId,
    /// One task's; `None`: of all tasks.
    pub task: Option<(StepIndex, TaskIndex)>,
    /// Only attempts that failed.
    pub failed_only: bool,
    /// Logs older than this cursor; 0 for the first page.
    pub before: u64,
}

/// What happened lately, the latest first: all of it, or what fits everything that is said here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryQuery {
    pub about: Option<About>,
    pub job: Option<JobId>,
    pub agent: Option<AgentId>,
    /// What has a smaller cursor; 0 for the first page.
    pub before: u64,
    /// Rows at most, up to [`PAGE_ROWS_MAX`](crate::limits::PAGE_ROWS_MAX).
    pub limit: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// Where the next page begins; `None` if this is the last one for now.
    pub next: Option<u64>,
}

/// A join string for people to hand on, and when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JoinToken {
    pub join: String,
    pub role: Role,
    pub expires_at: Millis,
}

/// A connect string for people to hand on, and when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ApiToken {
    /// A [`ConnectString`](crate::connect::ConnectString).
    pub connect: String,
    pub name: Label,
    pub role: Role,
    pub expires_at: Millis,
}

/// Where the dashboard is, with a secret that signs one browser in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageLink {
    pub url: String,
    pub role: Role,
    pub expires_at: Millis,
}

/// A token of the HTTP API, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ApiTokenView {
    pub name: Label,
    pub role: Role,
    pub created_at: Millis,
    pub expires_at: Millis,
}

/// Somebody who has joined, a person, a program or a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct MemberView {
    pub id: AgentId,
    /// Several may be called the same.
    pub name: Label,
    pub role: Role,
    pub joined_at: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchRequest {
    /// Jobs and agents of the whole farm.
    Farm,
    /// One job with its running and failed tasks, and its outputs as they commit. Those committed
    /// before come first, from the cursor on (0 for all).
    Job { job: JobId, outputs_after: u64 },
    /// As `Farm`, with the outputs of all jobs from now on. One that lags misses some.
    Outputs,
    /// As `Job`, for a job of very many tasks: first the states of all, then those that change, as
    /// letters. Of running and failed tasks a few hundred at a time are told as they are.
    States { job: JobId, outputs_after: u64 },
}

/// The first frame on a join connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The secret of the join string.
    pub token: [u8; 16],
    /// What the newcomer calls itself: a host, a person.
    pub name: Label,
    /// A certificate signing request (PKCS#10, DER) that proves possession of the key.
    pub csr: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrolReply {
    Enrolled {
        role: Role,
        farm: Label,
        /// The newcomer's certificate, DER.
        certificate: Vec<u8>,
    },
    Refused(crate::Refusal),
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::Submitter => "submitter",
            Self::Agent => "agent",
            Self::Viewer => "viewer",
        })
    }
}

impl std::str::FromStr for Role {
    type Err = BadRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "admin" => Ok(Self::Admin),
            "submitter" => Ok(Self::Submitter),
            "agent" => Ok(Self::Agent),
            "viewer" => Ok(Self::Viewer),
            other => Err(BadRole(other.into())),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a role: admin, submitter, viewer or agent")]
pub struct BadRole(String);
