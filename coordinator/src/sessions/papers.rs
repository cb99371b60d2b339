//! What is known of one session at one moment.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use grange_protocol::file::Output;
use grange_protocol::limits::{ANSWERS_MAX, CALLS_MAX};
use grange_protocol::session::{Call, CallAnswer, CallNumber, FromSession, ToSession};
use grange_protocol::shot::Label;
use grange_protocol::{JobId, LeaseId};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use utoipa::ToSchema;

use super::Terms;

pub(super) struct Papers {
    pub(super) phase: Phase,
    /// The right by which its instance is its own. Another one would be another instance, with
    /// nothing of what was done in this one.
    lease: Option<LeaseId>,
    calls: BTreeMap<CallNumber, Entry>,
    /// Requests that wait for an answer.
    pub(super) listeners: usize,
    pub(super) heard_at: Instant,
    pub(super) called_at: Instant,
}

pub(super) enum Phase {
    /// It has no instance yet.
    Waiting {
        detail: String,
    },
    Ready(Ready),
    /// Its agent's stream is gone and may come back.
    Broken {
        since: Instant,
    },
    Ended {
        reason: String,
        at: Instant,
    },
}

/// Where it has its instance.
pub(super) struct Ready {
    /// Tells the streams of one session apart.
    pub(super) stream: u64,
    pub(super) agent: Label,
    pub(super) device: Label,
    pub(super) blender: String,
    pub(super) to_agent: mpsc::Sender<ToSession>,
}

#[derive(Default)]
struct Entry {
    /// `None`: the agent knows of it from before a restart, and its caller has not come back yet.
    call: Option<Call>,
    outputs: Vec<Output>,
    progress: Option<Line>,
    answer: Option<CallAnswer>,
}

/// What is said of a call, a line of JSON each.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "is", rename_all = "lowercase")]
pub(crate) enum Line {
    /// The session has no instance at this moment.
    Waiting { detail: String },
    /// Of the frame that it renders.
    Progress { fraction: f32, sample: u32, samples: u32 },
    /// A file is committed; it can be fetched as an output of the session's job.
    Output { name: String, hash: String, len: u64 },
    /// The last line of a call that went well.
    Returned {
        #[schema(value_type = Object)]
        value: Box<RawValue>,
        /// Sentences for people.
        warnings: Vec<String>,
    },
    /// The last line of one that raised an exception.
    Raised { kind: String, message: String, traceback: String },
    /// The last line of a session that is over: its instance is gone.
    Ended { message: String },
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Waiting { detail: one }, Self::Waiting { detail: other }) => one == other,
            (
                Self::Progress { fraction: a, sample: b, samples: c },
                Self::Progress { fraction: x, sample: y, samples: z },
            ) => (a, b, c) == (x, y, z),
            _ => false,
        }
    }
}

impl Line {
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Self::Returned { .. } | Self::Raised { .. } | Self::Ended { .. })
    }
}

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SessionState {
    Waiting,
    Ready,
    Ended,
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Ended => "ended",
        })
    }
}

/// A session as people see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SessionView {
    /// That of its job.
    pub(crate) id: JobId,
    pub(crate) name: Label,
    pub(crate) submitter: Label,
    pub(crate) state: SessionState,
    /// Why it waits, or why it is over.
    pub(crate) detail: Option<String>,
    /// Where its instance is.
    pub(crate) agent: Option<Label>,
    pub(crate) device: Option<Label>,
    /// As Blender says its version.
    pub(crate) blender: Option<String>,
    /// Calls without an answer.
    pub(crate) open_calls: usize,
}

impl Default for Papers {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            phase: Phase::Waiting { detail: "it waits for an instance".into() },
            lease: None,
            calls: BTreeMap::new(),
            listeners: 0,
            heard_at: now,
            called_at: now,
        }
    }
}

impl Papers {
    pub(super) fn hear(&mut self) {
        self.heard_at = Instant::now();
    }

    pub(super) fn open_calls(&self) -> usize {
        self.calls.values().filter(|entry| entry.answer.is_none()).count()
    }

    /// Takes a call in and hands it on. The error is a sentence for the caller.
    pub(super) fn call(&mut self, call: Call) -> Result<(), String> {
        self.hear();
        if let Some(known) = self.calls.get(&call.number).and_then(|entry| entry.call.as_ref()) {
            if *known == call {
                return Ok(());
            }
            let number = call.number.0;
            return Err(format!("call {number} was another one before: number each call anew"));
        }
        if self
            .calls
            .last_key_value()
            .is_some_and(|(last, _)| call.number.0 + 8 * CALLS_MAX as u64 <= last.0)
        {
            let number = call.number.0;
            return Err(format!("call {number} is older than what is remembered of this session"));
        }
        if self.open_calls() >= CALLS_MAX {
            return Err(format!("the session has {CALLS_MAX} calls open: wait for one of them"));
        }
        self.called_at = Instant::now();
        self.forget_the_oldest();
        if let Phase::Ready(ready) = &self.phase {
            // If the way is full or broken, the next stream begins with it.
            let _ = ready.to_agent.try_send(ToSession::Call(call.clone()));
        }
        let number = call.number;
        self.calls.entry(number).or_default().call = Some(call);
        Ok(())
    }

    /// Answers are kept for clients whose connection broke, the latest ones.
    fn forget_the_oldest(&mut self) {
        while self.calls.len() >= 2 * CALLS_MAX || self.answers_size() > ANSWERS_MAX {
            let answered = self.calls.iter().find(|(_, entry)| entry.answer.is_some());
            let Some(number) = answered.map(|(number, _)| *number) else { return };
            self.calls.remove(&number);
        }
    }

    fn answers_size(&self) -> usize {
        self.calls.values().filter_map(|entry| entry.answer.as_ref()).map(CallAnswer::size).sum()
    }

    /// What a listener is told of a call next, who was told of so many outputs.
    pub(super) fn line(&self, number: CallNumber, outputs_told: usize) -> Option<Line> {
        let entry = self.calls.get(&number);
        if let Some(output) = entry.and_then(|entry| entry.outputs.get(outputs_told)) {
            let (name, hash) = (output.name.to_string(), output.blob.hash.to_string());
            return Some(Line::Output { name, hash, len: output.blob.len });
        }
        if let Some(answer) = entry.and_then(|entry| entry.answer.as_ref()) {
            return Some(said(answer));
        }
        match (&self.phase, entry) {
            (Phase::Ended { reason, .. }, _) => Some(Line::Ended { message: reason.clone() }),
            (_, None) => {
                Some(Line::Ended { message: "the answer is not remembered any more".into() })
            }
            (Phase::Waiting { detail }, _) => Some(Line::Waiting { detail: detail.clone() }),
            (Phase::Broken { .. }, _) => {
                Some(Line::Waiting { detail: "its agent is away and may come back".into() })
            }
            (Phase::Ready(_), Some(entry)) => entry.progress.clone(),
        }
    }

    /// The agent has opened a stream: what it has to be told first. `None` if the session is over
    /// without it.
    pub(super) fn attach(&mut self, lease: LeaseId, ready: Ready) -> Option<Vec<ToSession>> {
        if *self.lease.get_or_insert(lease) != lease {
            self.end("its agent was lost, and the instance with it");
            return None;
        }
        if matches!(self.phase, Phase::Ended { .. }) {
            return Some(vec![ToSession::Close]);
        }
        self.phase = Phase::Ready(ready);
        let open = self.calls.values().filter(|entry| entry.answer.is_none());
        Some(open.filter_map(|entry| entry.call.clone()).map(ToSession::Call).collect())
    }

    /// A stream is gone.
    pub(super) fn detach(&mut self, stream: u64) {
        if matches!(&self.phase, Phase::Ready(ready) if ready.stream == stream) {
            self.phase = Phase::Broken { since: Instant::now() };
        }
    }

    /// Takes in what the agent says. What was heard before is passed over.
    pub(super) fn told(&mut self, message: FromSession) {
        match message {
            FromSession::Progress { call, fraction, sample, samples } => {
                let progress = Line::Progress { fraction, sample, samples };
                self.calls.entry(call).or_default().progress = Some(progress);
            }
            FromSession::Stored { call, output } => {
                let entry = self.calls.entry(call).or_default();
                if !entry.outputs.contains(&output) {
                    entry.outputs.push(output);
                }
            }
            FromSession::Answered { call, answer } => {
                self.calls.entry(call).or_default().answer.get_or_insert(answer);
                self.called_at = Instant::now();
                self.forget_the_oldest();
            }
            FromSession::Ended { reason } => drop(self.end(&reason)),
        }
    }

    /// Ends it. Whether its agent was told; `None` if it was over before.
    pub(super) fn end(&mut self, reason: &str) -> Option<bool> {
        let ended = Phase::Ended { reason: reason.into(), at: Instant::now() };
        match std::mem::replace(&mut self.phase, ended) {
            was @ Phase::Ended { .. } => {
                self.phase = was;
                None
            }
            Phase::Ready(ready) => Some(ready.to_agent.try_send(ToSession::Close).is_ok()),
            Phase::Waiting { .. } | Phase::Broken { .. } => Some(false),
        }
    }

    pub(super) fn view(&self, terms: &Terms) -> SessionView {
        let (state, detail, ready) = match &self.phase {
            Phase::Waiting { detail } => (SessionState::Waiting, Some(detail.clone()), None),
            Phase::Ready(ready) => (SessionState::Ready, None, Some(ready)),
            Phase::Broken { .. } => {
                (SessionState::Waiting, Some("its agent is away and may come back".into()), None)
            }
            Phase::Ended { reason, .. } => (SessionState::Ended, Some(reason.clone()), None),
        };
        SessionView {
            id: terms.job,
            name: terms.name.clone(),
            submitter: terms.owner.clone(),
            state,
            detail,
            agent: ready.map(|ready| ready.agent.clone()),
            device: ready.map(|ready| ready.device.clone()),
            blender: ready.map(|ready| ready.blender.clone()),
            open_calls: self.open_calls(),
        }
    }
}

/// JSON that an agent sent is passed on as it is, if it is JSON.
fn said(answer: &CallAnswer) -> Line {
    match answer {
        CallAnswer::Returned { value, warnings } => match serde_json::from_slice(value) {
            Ok(value) => Line::Returned { value, warnings: warnings.clone() },
            Err(error) => Line::Raised {
                kind: "ValueError".into(),
                message: format!("the instance gave an answer that is no JSON: {error}"),
                traceback: String::new(),
            },
        },
        CallAnswer::Raised(raised) => Line::Raised {
            kind: raised.kind.clone(),
            message: raised.message.clone(),
            traceback: raised.traceback.clone(),
        },
    }
}
