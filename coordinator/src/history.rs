//! What is worth telling people and programs of what happens: the one place that makes events of facts
//! and of changes.
//!
//! The farm's loop says what happened; what is noted goes into the journal with the facts that it
//! comes from, so that neither a kill nor a restart loses or doubles any of it. Watchers and
//! [webhooks](crate::webhooks) hear of the same events. There are some of each job and each agent,
//! and none of a task.

use std::collections::{BTreeMap, BTreeSet};

use grange_protocol::client::Role;
use grange_protocol::history::{HistoryKind, HistoryView};
use grange_protocol::shot::Label;
use grange_protocol::view::TaskCounts;
use grange_protocol::{AgentId, JobId, Millis};
use grange_scheduler::{Connection, Core, Fact, Job, Recorded};

use crate::journal::Remembered;

/// Bytes of an event's text; the end of a longer one is cut off.
const TEXT_MAX: usize = 600;
/// After a failure to write down what waits for no fact.
const PAUSE_MS: u64 = 1_000;

/// What was told so far, and what is not durable yet.
pub(crate) struct History {
    /// The latest cursor that was given.
    last: u64,
    noted: Vec<HistoryView>,
    /// What was noted is not written down before, unless facts are.
    not_before: Millis,
    /// Open jobs whose start was told.
    started: BTreeSet<JobId>,
    /// Agents that are online as far as anybody was told.
    online: BTreeSet<AgentId>,
    /// Agents that are away, and when that is told.
    leaving: BTreeMap<AgentId, Millis>,
    agent_grace_ms: u64,
    storage_full: bool,
    /// What jobs are called, for when they are gone.
    names: BTreeMap<JobId, Label>,
}

#[derive(Clone, Copy)]
enum Subject {
    Job(JobId),
    Agent(AgentId),
    Farm,
}

impl History {
    /// Goes on where the coordinator before left off. Whoever was there then has a while to come back.
    pub(crate) fn go_on(
        remembered: Remembered,
        core: &Core,
        now: Millis,
        agent_grace_ms: u64,
    ) -> Self {
        let jobs = &core.state().jobs;
        let is_open = |job: &Job| !job.phase.is_final();
        let mut started = remembered.started;
        started.retain(|id| jobs.get(id).is_some_and(is_open));
        started.extend(
            jobs.iter().filter(|(_, job)| is_open(job) && has_begun(job)).map(|(id, _)| *id),
        );
        let due = now + agent_grace_ms;
        Self {
            last: remembered.last,
            noted: Vec::new(),
            not_before: Millis(0),
            started,
            leaving: remembered.online.iter().map(|id| (*id, due)).collect(),
            online: remembered.online,
            agent_grace_ms,
            storage_full: remembered.storage_full,
            names: jobs.iter().map(|(id, job)| (*id, job.spec.name.clone())).collect(),
        }
    }

    /// What is not durable yet.
    pub(crate) fn noted(&self) -> &[HistoryView] {
        &self.noted
    }

    /// Whether what was noted is to be written down although no facts are.
    pub(crate) fn is_due(&self, now: Millis) -> bool {
        !self.noted.is_empty() && now >= self.not_before
    }

    /// To make it durable.
    pub(crate) fn take(&mut self) -> Vec<HistoryView> {
        std::mem::take(&mut self.noted)
    }

    /// It could not be written, and no fact waits for it.
    pub(crate) fn put_back(&mut self, mut noted: Vec<HistoryView>, now: Millis) {
        noted.append(&mut self.noted);
        self.noted = noted;
        self.not_before = now + PAUSE_MS;
    }

    /// Facts that are about to become durable, and who wanted them.
    pub(crate) fn hear_facts(&mut self, core: &Core, facts: &[Recorded], by: Option<&Label>) {
        let mut collected = Vec::new();
        for recorded in facts {
            match (&recorded.fact, by) {
                (Fact::JobCollected(job), None) => collected.push(*job),
                _ => self.hear_fact(core, recorded, by),
            }
        }
        if let Some(last) = facts.last() {
            self.hear_collected(core, last.at, &collected);
        }
    }

    fn hear_fact(&mut self, core: &Core, recorded: &Recorded, by: Option<&Label>) {
        let at = recorded.at;
        let done = |what: &str| match by {
            Some(by) => format!("{what} by {by}"),
            None => what.to_owned(),
        };
        let mut of_job = |kind, job, text| self.note(core, at, kind, Subject::Job(job), text);
        match &recorded.fact {
            // Who was adopted after a restart was never assigned.
            Fact::OutputStored { task, .. }
            | Fact::TaskCompleted { task, .. }
            | Fact::AttemptFailed { task, .. } => self.hear_begun(core, at, task.job),
            Fact::JobSubmitted { job, submitter, spec } => {
                self.names.insert(*job, spec.name.clone());
                let text = format!("was submitted by {submitter}");
                self.note(core, at, HistoryKind::JobSubmitted, Subject::Job(*job), text);
            }
            Fact::JobPaused(job) => of_job(HistoryKind::JobPaused, *job, done("was paused")),
            Fact::JobResumed(job) => of_job(HistoryKind::JobResumed, *job, done("was resumed")),
            Fact::JobRetried(job) => {
                of_job(HistoryKind::JobRetried, *job, done("was retried"));
                if core.state().jobs.get(job).is_some_and(has_begun) {
                    self.started.insert(*job);
                }
            }
            Fact::JobCompleted(job) => {
                of_job(HistoryKind::JobCompleted, *job, "is completed".into());
                self.started.remove(job);
            }
            Fact::JobFailed { job, reason } => {
                of_job(HistoryKind::JobFailed, *job, format!("has failed: {reason}"));
                self.started.remove(job);
            }
            Fact::JobCanceled(job) => {
                of_job(HistoryKind::JobCanceled, *job, done("was canceled"));
                self.started.remove(job);
            }
            Fact::JobCollected(job) => {
                of_job(HistoryKind::JobDeleted, *job, done("was deleted"));
                self.names.remove(job);
            }
            fact => self.hear_of_members(core, at, fact, by),
        }
    }

    /// Jobs that nobody deleted. Several are one line: a farm that has collected nothing for years
    /// would else tell of nothing but that.
    fn hear_collected(&mut self, core: &Core, at: Millis, jobs: &[JobId]) {
        let (subject, text) = match jobs {
            [] => return,
            [job] => (Subject::Job(*job), "was old enough to go, with its files".to_owned()),
            _ => {
                let text = format!("{} jobs were old enough to go, with their files", jobs.len());
                (Subject::Farm, text)
            }
        };
        self.note(core, at, HistoryKind::JobCollected, subject, text);
        for job in jobs {
            self.names.remove(job);
        }
    }

    /// Of agents, of people, and of the coordinator itself.
    fn hear_of_members(&mut self, core: &Core, at: Millis, fact: &Fact, by: Option<&Label>) {
        let by_whom = by.map_or(String::new(), |by| format!(" by {by}"));
        let (kind, subject, text) = match fact {
            Fact::EpochBegan(_) => {
                let text = format!("the coordinator started, Grange {}", env!("CARGO_PKG_VERSION"));
                (HistoryKind::CoordinatorStarted, Subject::Farm, text)
            }
            Fact::Enrolled { identity, role: Role::Agent, .. } => {
                let text = "joined the farm".into();
                (HistoryKind::AgentJoined, Subject::Agent(*identity), text)
            }
            Fact::Enrolled { name, role, .. } => {
                let text = format!("{name} joined the farm as {role}");
                (HistoryKind::MemberJoined, Subject::Farm, text)
            }
            Fact::AgentDrained { agent, drained: true } => {
                let text = format!("was drained{by_whom}");
                (HistoryKind::AgentDrained, Subject::Agent(*agent), text)
            }
            Fact::AgentDrained { agent, drained: false } => {
                let text = format!("was resumed{by_whom}");
                (HistoryKind::AgentResumed, Subject::Agent(*agent), text)
            }
            Fact::AgentRemoved(id) if !is_agent(core, *id) => {
                let name = core.state().identities.get(id).map(|member| member.name.clone());
                let text =
                    format!("{} was removed from the farm{by_whom}", name.unwrap_or_default());
                (HistoryKind::MemberRemoved, Subject::Farm, text)
            }
            Fact::AgentRemoved(agent) => {
                // That it is away now is no news.
                self.leaving.remove(agent);
                self.online.remove(agent);
                let text = format!("was removed from the farm{by_whom}");
                (HistoryKind::AgentRemoved, Subject::Agent(*agent), text)
            }
            // Those that the coordinator makes by itself, for a browser or at its first start, are not
            // worth telling.
            Fact::TokenCreated { role, .. } => {
                let Some(by) = by else { return };
                let text = format!("{by} made a join string for the role {role}");
                (HistoryKind::InvitationMade, Subject::Farm, text)
            }
            Fact::ApiTokenCreated { name, role, .. } => {
                let Some(by) = by else { return };
                let text = format!("{by} made the token {name} with the role {role}");
                (HistoryKind::TokenMade, Subject::Farm, text)
            }
            Fact::ApiTokenRevoked(name) => {
                let Some(by) = by else { return };
                let text = format!("{by} revoked the token {name}");
                (HistoryKind::TokenRevoked, Subject::Farm, text)
            }
            _ => return,
        };
        self.note(core, at, kind, subject, text);
    }

    /// A task of the job was given to an agent, or something came of one.
    pub(crate) fn hear_begun(&mut self, core: &Core, at: Millis, job: JobId) {
        if self.started.insert(job) {
            self.note(core, at, HistoryKind::JobStarted, Subject::Job(job), "has begun".into());
        }
    }

    /// Agents that are not as they were, and what is wrong with the storage.
    pub(crate) fn hear_changes(
        &mut self,
        core: &Core,
        agents: &BTreeSet<AgentId>,
        storage: Option<String>,
        now: Millis,
    ) {
        for id in agents {
            match core.agents().get(id).map(|agent| agent.connection) {
                Some(Connection::Online | Connection::Draining) => {
                    self.leaving.remove(id);
                    if self.online.insert(*id) {
                        let text = "is online".into();
                        self.note(core, now, HistoryKind::AgentOnline, Subject::Agent(*id), text);
                    }
                }
                Some(Connection::Lost { .. } | Connection::Offline) if self.online.contains(id) => {
                    self.leaving.entry(*id).or_insert(now + self.agent_grace_ms);
                }
                _ => {}
            }
        }
        self.miss_agents(core, now);
        if storage.is_some() != self.storage_full {
            self.storage_full = storage.is_some();
            let (kind, text) = match storage {
                Some(problem) => (HistoryKind::StorageFull, problem),
                None => {
                    let text = "there is room in the farm's storage again".into();
                    (HistoryKind::StorageRecovered, text)
                }
            };
            self.note(core, now, kind, Subject::Farm, text);
        }
    }

    /// Agents that have been away for too long.
    fn miss_agents(&mut self, core: &Core, now: Millis) {
        let gone: Vec<AgentId> =
            self.leaving.iter().filter(|(_, due)| **due <= now).map(|(id, _)| *id).collect();
        for id in gone {
            self.leaving.remove(&id);
            self.online.remove(&id);
            let text = "is offline".into();
            self.note(core, now, HistoryKind::AgentOffline, Subject::Agent(id), text);
        }
    }

    /// A receiver of webhooks did not take something, however often it was asked.
    pub(crate) fn hear_given_up(&mut self, core: &Core, now: Millis, text: String) {
        self.note(core, now, HistoryKind::WebhookGaveUp, Subject::Farm, text);
    }

    fn note(&mut self, core: &Core, at: Millis, kind: HistoryKind, of: Subject, text: String) {
        self.last += 1;
        let (job, agent, subject) = match of {
            Subject::Job(job) => {
                let name = self.names.get(&job).map_or(String::new(), |name| format!(" ({name})"));
                (Some(job), None, format!("job {job}{name}"))
            }
            Subject::Agent(agent) => {
                let name = core.state().identities.get(&agent).map(|known| known.name.to_string());
                (None, Some(agent), format!("agent {}", name.unwrap_or_else(|| agent.to_string())))
            }
            Subject::Farm => (None, None, String::new()),
        };
        let text = in_one_line(&text);
        self.noted.push(HistoryView { cursor: self.last, at, kind, job, agent, subject, text });
    }
}

/// Reasons of failures may have been printed by anything.
fn in_one_line(text: &str) -> String {
    let line = text.split(char::is_control).filter(|part| !part.is_empty());
    let mut line = line.collect::<Vec<_>>().join(" ");
    if line.len() > TEXT_MAX {
        line.truncate(line.floor_char_boundary(TEXT_MAX));
        line.push('…');
    }
    line
}

/// Whether anything of it is done, whatever came of it.
fn has_begun(job: &Job) -> bool {
    let is_done = |counts: TaskCounts| counts.completed + counts.failed > 0;
    job.step_indices().any(|step| is_done(job.counts(step, 0)))
}

fn is_agent(core: &Core, id: AgentId) -> bool {
    core.state().identities.get(&id).is_some_and(|member| member.role == Role::Agent)
}

#[cfg(test)]
mod tests {
    use grange_scheduler::{State, Timing};

    use super::*;

    /// What is told of these jobs going in one batch of facts: whose line it is, and the line.
    fn told_of(jobs: &[u32], by: Option<&str>) -> Vec<(HistoryKind, Option<JobId>, String)> {
        let core = Core::start(State::default(), Millis(0), Timing::default());
        let mut history = History::go_on(Remembered::default(), &core, Millis(0), 0);
        let gone = |job: &u32| Recorded { at: Millis(5), fact: Fact::JobCollected(JobId(*job)) };
        let facts: Vec<Recorded> = jobs.iter().map(gone).collect();
        let by: Option<Label> = by.map(|by| by.parse().unwrap());
        history.hear_facts(&core, &facts, by.as_ref());
        let told = history.take().into_iter();
        told.map(|event| (event.kind, event.job, event.sentence())).collect()
    }

    #[test]
    fn jobs_that_go_for_their_age_at_once_are_one_line() {
        let text = "3 jobs were old enough to go, with their files".to_owned();
        assert_eq!(told_of(&[4, 7, 9], None), [(HistoryKind::JobCollected, None, text)]);
        let text = "job 7 was old enough to go, with its files".to_owned();
        assert_eq!(told_of(&[7], None), [(HistoryKind::JobCollected, Some(JobId(7)), text)]);
        assert!(told_of(&[], None).is_empty());
    }

    #[test]
    fn of_jobs_that_somebody_deleted_each_has_its_line() {
        let line = |job: u32| {
            let text = format!("job {job} was deleted by ada");
            (HistoryKind::JobDeleted, Some(JobId(job)), text)
        };
        assert_eq!(told_of(&[4, 7], Some("ada")), [line(4), line(7)]);
    }
}
