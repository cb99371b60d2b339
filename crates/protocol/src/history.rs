//! What happened on a farm lately, for people who were not there.

use serde::{Deserialize, Serialize};

use crate::client::HistoryQuery;
use crate::ids::{AgentId, JobId};
use crate::quantity::Millis;

macro_rules! kinds {
    // A name is a token and no literal, for schemas do not see literals that come from a macro.
    ($($(#[$doc:meta])* $variant:ident = $name:tt,)*) => {
        /// What kind of thing happened. Append-only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        pub enum HistoryKind {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl HistoryKind {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

kinds! {
    JobSubmitted = "job.submitted",
    /// Its first task was given to an agent.
    JobStarted = "job.started",
    JobPaused = "job.paused",
    JobResumed = "job.resumed",
    JobRetried = "job.retried",
    JobCompleted = "job.completed",
    JobFailed = "job.failed",
    JobCanceled = "job.canceled",
    /// By somebody.
    JobDeleted = "job.deleted",
    /// It was old enough to go, or room was needed. About no job where several went at once.
    JobCollected = "job.collected",
    /// A host is a member now.
    AgentJoined = "agent.joined",
    AgentOnline = "agent.online",
    /// It has been away for its grace.
    AgentOffline = "agent.offline",
    AgentDrained = "agent.drained",
    AgentResumed = "agent.resumed",
    AgentRemoved = "agent.removed",
    StorageFull = "storage.full",
    StorageRecovered = "storage.recovered",
    CoordinatorStarted = "coordinator.started",
    /// Somebody is a member now who renders nothing.
    MemberJoined = "member.joined",
    /// Somebody made a join string.
    InvitationMade = "invitation.made",
    /// Somebody made a token of the HTTP API.
    TokenMade = "token.made",
    TokenRevoked = "token.revoked",
    /// A receiver did not take an event, however often it was asked.
    WebhookGaveUp = "webhook.gave_up",
    /// Somebody is no member any more who rendered nothing.
    MemberRemoved = "member.removed",
}

/// A part of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum About {
    Jobs,
    Agents,
    /// The coordinator, its storage, who may do what.
    Farm,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HistoryView {
    /// Its number. They follow one another, so whoever sees a gap has missed something.
    pub cursor: u64,
    pub at: Millis,
    pub kind: HistoryKind,
    /// Whose history it is.
    pub job: Option<JobId>,
    pub agent: Option<AgentId>,
    /// What people call the job or the agent; empty where it is about neither.
    pub subject: String,
    /// The sentence, or what follows on the subject in it.
    pub text: String,
}

impl HistoryKind {
    pub fn about(self) -> About {
        match self.name().split_once('.') {
            Some(("job", _)) => About::Jobs,
            Some(("agent", _)) => About::Agents,
            _ => About::Farm,
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

impl std::fmt::Display for HistoryKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl HistoryView {
    /// What happened, in a line.
    pub fn sentence(&self) -> String {
        if self.subject.is_empty() {
            self.text.clone()
        } else {
            format!("{} {}", self.subject, self.text)
        }
    }
}

impl HistoryQuery {
    /// Whether it asks for this, be it on this page or on another one.
    pub fn fits(&self, event: &HistoryView) -> bool {
        self.about.is_none_or(|about| event.kind.about() == about)
            && (self.job.is_none() || event.job == self.job)
            && (self.agent.is_none() || event.agent == self.agent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_asks_for_what_fits_everything_that_it_says() {
        let happened = |kind, job, agent| HistoryView {
            cursor: 7,
            at: Millis(1),
            kind,
            job,
            agent,
            subject: String::new(),
            text: "happened".into(),
        };
        let host = Some(AgentId::default());
        let started = happened(HistoryKind::JobStarted, Some(JobId(1)), None);
        let collected = happened(HistoryKind::JobCollected, None, None);
        let online = happened(HistoryKind::AgentOnline, None, host);
        let any = HistoryQuery::default();
        let fitting =
            |query: HistoryQuery| [&started, &collected, &online].map(|event| query.fits(event));
        assert_eq!(fitting(any), [true, true, true]);
        assert_eq!(fitting(HistoryQuery { before: 3, limit: 1, ..any }), [true, true, true]);
        let of_jobs = HistoryQuery { about: Some(About::Jobs), ..any };
        assert_eq!(fitting(of_jobs), [true, true, false]);
        assert_eq!(fitting(HistoryQuery { job: Some(JobId(1)), ..any }), [true, false, false]);
        assert_eq!(fitting(HistoryQuery { job: Some(JobId(2)), ..any }), [false, false, false]);
        assert_eq!(fitting(HistoryQuery { agent: host, ..any }), [false, false, true]);
        assert_eq!(fitting(HistoryQuery { agent: host, ..of_jobs }), [false, false, false]);
    }

    #[test]
    fn every_kind_is_found_by_its_name_and_belongs_somewhere() {
        for kind in HistoryKind::ALL {
            assert_eq!(HistoryKind::named(kind.name()), Some(*kind));
        }
        assert_eq!(HistoryKind::JobFailed.about(), About::Jobs);
        assert_eq!(HistoryKind::AgentOffline.about(), About::Agents);
        assert_eq!(HistoryKind::StorageFull.about(), About::Farm);
        assert_eq!(HistoryKind::named("job.done"), None);
    }
}
