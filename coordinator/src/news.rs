//! What watchers are told: once for all of them, and encoded at most once.
//!
//! The farm's loop makes [`News`] of what has changed, a few times a second, and only those parts of
//! it that somebody has asked for. Each part has an audience; a watcher takes the parts for the
//! audiences that it belongs to. So a farm that completes thousands of tasks a second has the same
//! work for one watcher as for many.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use grange_protocol::JobId;
use grange_protocol::client::WatchRequest;
use grange_protocol::view::WatchEvent;
use tokio::sync::broadcast;

/// News that a watcher may be behind before it is told the present state instead.
const BACKLOG: usize = 512;

/// Who wants to hear something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Audience {
    /// Of agents: everybody.
    Agents,
    /// Of all jobs, and of the farm as one.
    Farm,
    /// Of the outputs of all jobs.
    Outputs,
    /// Of one job.
    Job(JobId),
    JobOutputs(JobId),
    /// Of its tasks one by one.
    Tasks(JobId),
    /// Of its tasks as letters.
    States(JobId),
}

impl Audience {
    fn all_of(request: WatchRequest) -> Vec<Self> {
        match request {
            WatchRequest::Farm => vec![Self::Agents, Self::Farm],
            WatchRequest::Outputs => vec![Self::Agents, Self::Farm, Self::Outputs],
            WatchRequest::Job { job, .. } => {
                vec![Self::Agents, Self::Job(job), Self::JobOutputs(job), Self::Tasks(job)]
            }
            WatchRequest::States { job, .. } => {
                vec![Self::Agents, Self::Job(job), Self::JobOutputs(job), Self::States(job)]
            }
        }
    }
}

/// Events that are told one after another.
#[derive(Debug, Default)]
pub(crate) struct Told {
    events: Vec<WatchEvent>,
    text: OnceLock<Bytes>,
}

impl Told {
    pub(crate) fn events(&self) -> &[WatchEvent] {
        &self.events
    }

    /// The events as `encode` writes them, who always is the same.
    pub(crate) fn text(&self, encode: impl FnOnce(&[WatchEvent]) -> Bytes) -> Bytes {
        self.text.get_or_init(|| encode(&self.events)).clone()
    }
}

impl From<Vec<WatchEvent>> for Told {
    fn from(events: Vec<WatchEvent>) -> Self {
        Self { events, text: OnceLock::new() }
    }
}

/// A part of what there is to say.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    pub(crate) audience: Audience,
    /// `None`: more than anybody is told at a time. Whoever wants it looks at the present state.
    pub(crate) told: Option<Arc<Told>>,
}

/// All that there is to say, in the order in which it is told.
pub(crate) type News = Vec<Notice>;

/// Everybody who watches the farm.
#[derive(Clone)]
pub(crate) struct Watchers {
    sender: broadcast::Sender<Arc<News>>,
    /// How many want to hear what.
    asking: Arc<Mutex<HashMap<Audience, usize>>>,
}

impl Watchers {
    pub(crate) fn none() -> Self {
        Self { sender: broadcast::channel(BACKLOG).0, asking: Arc::default() }
    }

    pub(crate) fn subscribe(&self, request: WatchRequest) -> Subscription {
        let audiences = Audience::all_of(request);
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        for audience in &audiences {
            *asking.entry(*audience).or_default() += 1;
        }
        Subscription { news: self.sender.subscribe(), audiences, asking: self.asking.clone() }
    }

    /// Whether anybody wants to hear that.
    pub(crate) fn want(&self, audience: Audience) -> bool {
        let asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        asking.contains_key(&audience)
    }

    pub(crate) fn is_nobody(&self) -> bool {
        self.sender.receiver_count() == 0
    }

    pub(crate) fn tell(&self, news: News) {
        if !news.is_empty() {
            // Nobody may be there any more.
            let _ = self.sender.send(Arc::new(news));
        }
    }
}

/// A watcher's place among them.
pub(crate) struct Subscription {
    pub(crate) news: broadcast::Receiver<Arc<News>>,
    audiences: Vec<Audience>,
    asking: Arc<Mutex<HashMap<Audience, usize>>>,
}

impl Subscription {
    pub(crate) fn wants(&self, audience: Audience) -> bool {
        self.audiences.contains(&audience)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        for audience in &self.audiences {
            if let Some(count) = asking.get_mut(audience) {
                *count -= 1;
                if *count == 0 {
                    asking.remove(audience);
                }
            }
        }
    }
}
