//! Sessions: the calls of people between their arrival and their answer.
//!
//! A session is a job; which instance it gets, and when, the scheduler decides like any task's.
//! What is here is what a job does not have: who is listening, which calls are open, what was
//! answered. None of it is written down. After a restart agents say which sessions they serve and
//! repeat what they said of their calls, and clients ask again for the answers they miss.
//!
//! [`Session`] is what both sides write to: requests of the HTTP API ([`Session::call`],
//! [`Listening`]) and the agent's stream ([`link`]). The [`keeper`] ends what nobody holds.

mod keeper;
pub(crate) mod link;
mod papers;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use grange_protocol::client::JobAction;
use grange_protocol::job::Work;
use grange_protocol::session::{Call, CallNumber};
use grange_protocol::shot::Label;
use grange_protocol::{JobId, Refusal, RefusalCode};
use grange_scheduler::Event;
use tokio::sync::{Notify, watch};

use crate::farm::{Farm, FarmHandle};
use papers::{Papers, Phase};

pub(crate) use papers::{Line, SessionState, SessionView};

/// A client that nobody hears of for so long has lost its sessions.
const LOST_AFTER: Duration = Duration::from_secs(30);
/// So long an agent may be away before its sessions are over.
const BROKEN_FOR: Duration = Duration::from_secs(15);
/// So long the end of a session is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(120);

/// All sessions of the farm that are not long over.
#[derive(Default)]
pub(crate) struct Sessions {
    live: Mutex<BTreeMap<JobId, Arc<Session>>>,
    woken: Notify,
}

/// What a session's job says of it.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) job: JobId,
    pub(crate) name: Label,
    pub(crate) owner: Label,
    pub(crate) idle: Duration,
}

/// One session.
pub(crate) struct Session {
    pub(crate) terms: Terms,
    papers: Mutex<Papers>,
    /// Rises with every change.
    version: watch::Sender<u64>,
}

/// Somebody who waits for the answer to a call.
pub(crate) struct Listening {
    session: Arc<Session>,
    number: CallNumber,
    outputs_told: usize,
    told: Option<Line>,
    version: watch::Receiver<u64>,
}

impl Terms {
    /// `None` if the job is no session.
    pub(crate) fn of(farm: &Farm, job: JobId) -> Option<Self> {
        let known = farm.core.state().jobs.get(&job)?;
        let Work::Session(work) = &known.spec.steps.first()?.work else { return None };
        Some(Self {
            job,
            name: known.spec.name.clone(),
            owner: known.submitter.clone(),
            idle: Duration::from_secs(u64::from(work.idle_s)),
        })
    }
}

impl Sessions {
    fn live(&self) -> MutexGuard<'_, BTreeMap<JobId, Arc<Session>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session of a job, known from now on.
    pub(crate) fn adopt(&self, terms: Terms) -> Arc<Session> {
        let session = self.live().entry(terms.job).or_insert_with(|| Session::new(terms)).clone();
        self.woken.notify_one();
        session
    }

    pub(crate) fn get(&self, job: JobId) -> Option<Arc<Session>> {
        self.live().get(&job).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.live().values().cloned().collect()
    }
}

impl Session {
    fn new(terms: Terms) -> Arc<Self> {
        Arc::new(Self { terms, papers: Mutex::default(), version: watch::Sender::new(0) })
    }

    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and tells everybody who listens.
    fn change<T>(&self, change: impl FnOnce(&mut Papers) -> T) -> T {
        let changed = change(&mut self.papers());
        self.version.send_modify(|version| *version += 1);
        changed
    }

    pub(crate) fn view(&self) -> SessionView {
        self.papers().view(&self.terms)
    }

    /// Its owner is there.
    pub(crate) fn hear(&self) {
        self.papers().hear();
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.papers().phase, Phase::Ended { .. })
    }

    /// Makes a call, or joins it if it was made before.
    pub(crate) fn call(self: &Arc<Self>, call: Call) -> Result<Listening, Refusal> {
        let number = call.number;
        let version = self.version.subscribe();
        self.change(|papers| papers.call(call))
            .map_err(|why| Refusal::new(RefusalCode::Invalid, why))?;
        self.papers().listeners += 1;
        Ok(Listening { session: self.clone(), number, outputs_told: 0, told: None, version })
    }

    /// Ends it, whoever wants that: what is under way is stopped if its agent is away, and finished
    /// if not.
    pub(crate) async fn close(&self, farm: &FarmHandle, reason: &str) {
        let was_told = self.change(|papers| papers.end(reason));
        if was_told == Some(false) {
            cancel(farm, self.terms.job).await;
        }
    }
}

impl Listening {
    /// What there is to say next; `None` after the last line.
    pub(crate) async fn next(&mut self) -> Option<Line> {
        if self.told.as_ref().is_some_and(Line::is_last) {
            return None;
        }
        loop {
            self.version.borrow_and_update();
            if let Some(line) = self.line() {
                self.told = Some(line.clone());
                return Some(line);
            }
            self.version.changed().await.ok()?;
        }
    }

    fn line(&mut self) -> Option<Line> {
        let papers = self.session.papers();
        let line = papers.line(self.number, self.outputs_told)?;
        if matches!(line, Line::Output { .. }) {
            self.outputs_told += 1;
        }
        (self.told.as_ref() != Some(&line)).then_some(line)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut papers = self.session.papers();
        papers.listeners = papers.listeners.saturating_sub(1);
        papers.hear();
    }
}

/// Its task may be placed anew, and nobody is there for it any more. It may also be over already.
async fn cancel(farm: &FarmHandle, job: JobId) {
    let action = JobAction::Cancel;
    let _ = farm.ask(move |request| Event::Act { request, job, action }).await;
}

impl Sessions {
    /// Ends what nobody holds, for as long as the farm lives.
    pub(crate) fn keep(self: Arc<Self>, farm: FarmHandle) {
        tokio::spawn(keeper::keep(self, farm));
    }
}
