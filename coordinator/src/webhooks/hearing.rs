//! What the farm's loop says to webhooks: which facts and changes are events, and what they show.
//!
//! Called by the loop between its turns, with the farm as it is then. Nothing here waits.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use grange_protocol::view::{AgentView, TaskCounts};
use grange_protocol::{AgentId, JobId, Millis};
use grange_scheduler::{Connection, Fact, Job, Recorded};

use super::event::Kind;
use super::{Book, Webhooks};
use crate::farm::Farm;

impl Webhooks {
    /// At the start, before anything else happens: what the coordinator before had not noted yet.
    pub(crate) fn catch_up(&self, farm: &Farm) {
        let missed =
            std::mem::take(&mut *self.missed.lock().unwrap_or_else(PoisonError::into_inner));
        let mut book = self.book();
        for (seq, recorded) in missed {
            self.hear_fact(&mut book, farm, seq, &recorded);
        }
        // Whoever was there before has a while to come back.
        let due = farm.now() + farm.agent_grace_ms;
        book.leaving = book.online.iter().map(|id| (*id, due)).collect();
        let jobs = &farm.core.state().jobs;
        // Where nobody has listened before, what has begun is no news.
        book.started.extend(
            jobs.iter()
                .filter(|(_, job)| !job.phase.is_final() && has_begun(job))
                .map(|(id, _)| *id),
        );
        book.started.retain(|id| jobs.get(id).is_some_and(|job| !job.phase.is_final()));
        self.changed.notify_one();
    }

    /// Facts, now that they are durable.
    pub(crate) fn hear_facts(&self, farm: &Farm, first: u64, facts: &[Recorded]) {
        let mut book = self.book();
        for (seq, recorded) in (first..).zip(facts) {
            self.hear_fact(&mut book, farm, seq, recorded);
        }
    }

    fn hear_fact(&self, book: &mut Book, farm: &Farm, seq: u64, recorded: &Recorded) {
        book.seen = seq;
        let at = recorded.at;
        let (kind, job) = match &recorded.fact {
            Fact::JobSubmitted { job, .. } => (Kind::JobSubmitted, *job),
            Fact::JobPaused(job) => (Kind::JobPaused, *job),
            Fact::JobResumed(job) => (Kind::JobResumed, *job),
            Fact::JobRetried(job) => (Kind::JobRetried, *job),
            Fact::JobCompleted(job) => (Kind::JobCompleted, *job),
            Fact::JobFailed { job, .. } => (Kind::JobFailed, *job),
            Fact::JobCanceled(job) => (Kind::JobCanceled, *job),
            // Who was adopted after a restart was never assigned.
            Fact::OutputStored { task, .. }
            | Fact::TaskCompleted { task, .. }
            | Fact::AttemptFailed { task, .. } => return self.job_begun(book, farm, task.job, at),
            _ => return,
        };
        match kind {
            Kind::JobRetried if farm.core.state().jobs.get(&job).is_some_and(has_begun) => {
                book.started.insert(job);
            }
            Kind::JobCompleted | Kind::JobFailed | Kind::JobCanceled => {
                book.started.remove(&job);
            }
            _ => {}
        }
        self.job_event(book, farm, kind, job, at, &format!("{job}/{seq}/{}", at.0));
    }

    /// A task of the job was given to an agent.
    pub(crate) fn hear_assigned(&self, farm: &Farm, job: JobId) {
        let now = farm.now();
        self.job_begun(&mut self.book(), farm, job, now);
    }

    fn job_begun(&self, book: &mut Book, farm: &Farm, job: JobId, at: Millis) {
        if book.started.insert(job) {
            let submitted = farm.core.state().jobs.get(&job).map_or(0, |job| job.submitted_at.0);
            let which = format!("{job}/{submitted}");
            self.job_event(book, farm, Kind::JobStarted, job, at, &which);
        }
    }

    fn job_event(
        &self,
        book: &mut Book,
        farm: &Farm,
        kind: Kind,
        job: JobId,
        at: Millis,
        which: &str,
    ) {
        if book.wanted.contains(&kind)
            && let Some(view) = farm.job_view(job)
            && let Some(event) = self.teller.event(kind, which, at, &view)
        {
            self.note(book, event);
        }
    }

    /// Agents that are not as they were, and the storage.
    pub(crate) fn hear_changes(&self, farm: &Farm, agents: &BTreeSet<AgentId>) {
        let now = farm.now();
        let mut book = self.book();
        for id in agents {
            match farm.core.agents().get(id).map(|agent| agent.connection) {
                Some(Connection::Online | Connection::Draining) => {
                    book.leaving.remove(id);
                    if book.online.insert(*id)
                        && let Some(view) = farm.agent_view(*id)
                    {
                        self.agent_event(&mut book, Kind::AgentOnline, &view, now);
                    }
                }
                Some(Connection::Lost { .. } | Connection::Offline) if book.online.contains(id) => {
                    book.leaving.entry(*id).or_insert(now + farm.agent_grace_ms);
                }
                // It was removed, which whoever did it knows.
                None => {
                    book.leaving.remove(id);
                    book.online.remove(id);
                }
                _ => {}
            }
        }
        self.miss_agents(&mut book, farm, now);
        let problem = farm.storage.problem();
        if problem.is_some() != book.storage_full {
            book.storage_full = problem.is_some();
            let kind = if book.storage_full { Kind::StorageFull } else { Kind::StorageRecovered };
            if book.wanted.contains(&kind)
                && let Some(event) =
                    self.teller.event(kind, &now.0.to_string(), now, &farm.farm_view())
            {
                self.note(&mut book, event);
            }
        }
    }

    /// Agents that have been away for too long.
    fn miss_agents(&self, book: &mut Book, farm: &Farm, now: Millis) {
        let gone: Vec<AgentId> =
            book.leaving.iter().filter(|(_, due)| **due <= now).map(|(id, _)| *id).collect();
        for id in gone {
            book.leaving.remove(&id);
            book.online.remove(&id);
            if let Some(view) = farm.agent_view(id) {
                self.agent_event(book, Kind::AgentOffline, &view, now);
            }
        }
    }

    fn agent_event(&self, book: &mut Book, kind: Kind, view: &AgentView, at: Millis) {
        // What is remembered of who is there has changed, even if nobody wants to hear of it.
        self.changed.notify_one();
        if book.wanted.contains(&kind)
            && let Some(event) = self.teller.event(kind, &format!("{}/{}", view.id, at.0), at, view)
        {
            self.note(book, event);
        }
    }
}

/// Whether anything of it is done, whatever came of it.
fn has_begun(job: &Job) -> bool {
    let is_done = |counts: TaskCounts| counts.completed + counts.failed > 0;
    job.step_indices().any(|step| is_done(job.counts(step, 0)))
}
