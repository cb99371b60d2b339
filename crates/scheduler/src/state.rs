//! All that is remembered: a fold over facts, and nothing but facts.

use std::collections::{BTreeMap, BTreeSet};

use grange_protocol::agent::FailureKind;
use grange_protocol::shot::Label;
use grange_protocol::{AgentId, BlobHash, Epoch, JobId, Millis, StepIndex, TaskRef};
use serde::{Deserialize, Serialize};

use crate::fact::{Fact, Recorded};
use crate::footprint::Footprints;
use crate::job::{AttemptFailure, Job, Phase};
use crate::standing::Standing;
use crate::tasks::Mark;
use crate::token::{ApiToken, Identity, Token, TokenHash};

/// A key of a submission is remembered for so long: a client that tries again does so sooner.
const KEY_KEPT_MS: u64 = 7 * 24 * 3600 * 1000;

/// The farm's durable state. A snapshot is this value's bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub epoch: Epoch,
    /// When the latest fact became one.
    pub at: Millis,
    pub jobs: BTreeMap<JobId, Job>,
    pub identities: BTreeMap<AgentId, Identity>,
    pub footprints: Footprints,
    pub(crate) tokens: BTreeMap<TokenHash, Token>,
    pub(crate) last_job: u32,
    /// Revoked and expired ones are gone, the latter at the next fact about tokens.
    pub api_tokens: BTreeMap<TokenHash, ApiToken>,
    /// By the hash of who submitted and the key that came with it.
    pub(crate) keyed: BTreeMap<BlobHash, Keyed>,
    /// Jobs that somebody downloaded outputs of.
    pub(crate) fetched: BTreeSet<JobId>,
    /// Jobs that stay whatever their age.
    pub(crate) kept: BTreeSet<JobId>,
    /// Tags that an agent must have for a job's tasks, of the jobs that ask for any.
    pub(crate) tags: BTreeMap<JobId, BTreeSet<Label>>,
    /// What people decided of agents, of those that they decided something of.
    pub(crate) standings: BTreeMap<AgentId, Standing>,
}

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keyed {
    pub(crate) body: BlobHash,
    pub(crate) job: JobId,
    at: Millis,
}

/// A fact that cannot follow on the facts before it: the journal is damaged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal contradicts itself: {0}")]
pub struct Inconsistent(String);

impl State {
    /// Whether somebody said that the job stays, however old it gets.
    pub fn is_kept(&self, job: JobId) -> bool {
        self.kept.contains(&job)
    }

    /// Tags that an agent must have for the job's tasks.
    pub fn tags_of(&self, job: JobId) -> BTreeSet<Label> {
        self.tags.get(&job).cloned().unwrap_or_default()
    }

    pub fn next_job(&self) -> JobId {
        JobId(self.last_job + 1)
    }

    /// Whether there was such a job, and it was collected. Ids are never given again.
    pub fn is_collected(&self, job: JobId) -> bool {
        (1..=self.last_job).contains(&job.0) && !self.jobs.contains_key(&job)
    }

    /// The only thing that changes durable state.
    pub fn apply(&mut self, recorded: &Recorded) -> Result<(), Inconsistent> {
        let at = recorded.at;
        self.at = self.at.max(at);
        match &recorded.fact {
            Fact::EpochBegan(epoch) => self.epoch = *epoch,
            Fact::JobSubmitted { job, submitter, spec } => {
                self.last_job = self.last_job.max(job.0);
                let new = Job::new((**spec).clone(), submitter.clone(), at);
                if self.jobs.insert(*job, new).is_some() {
                    return Err(Inconsistent(format!("job {job} was submitted twice")));
                }
            }
            Fact::JobPaused(job) => self.job(*job)?.phase = Phase::Paused,
            Fact::JobResumed(job) => self.job(*job)?.phase = Phase::Open,
            Fact::JobCanceled(job) => self.job(*job)?.phase = Phase::Canceled { at },
            Fact::JobPrioritised(job, priority) => self.job(*job)?.spec.priority = *priority,
            Fact::JobRetried(job) => self.job(*job)?.retry(),
            Fact::JobCompleted(job) => {
                let job = self.job(*job)?;
                job.phase = Phase::Completed { at };
                job.spent.clear();
            }
            Fact::JobFailed { job, reason } => {
                self.job(*job)?.phase = Phase::Failed { at, reason: reason.clone() };
            }
            Fact::StepSkipped { job, step, reason } => self.skip(*job, *step, reason)?,
            Fact::TaskCompleted { task, cost, .. } => {
                self.close(*task, Mark::Completed)?;
                self.job(task.job)?.record_completion(*task, *cost);
            }
            Fact::TaskFailed(task) => self.close(*task, Mark::Failed)?,
            Fact::AttemptFailed { task, agent, kind, reason } => {
                let failure =
                    AttemptFailure { agent: *agent, kind: *kind, reason: reason.clone(), at };
                self.job(task.job)?.record_failure(*task, failure);
            }
            Fact::AgentBlocked { job, agent } => {
                self.job(*job)?.blocked.insert(*agent);
            }
            Fact::Measured { likeness, measurement, own_size } => {
                self.footprints.learn(likeness, measurement, *own_size, at);
            }
            Fact::FitsNowhere { task, reason } => {
                self.close(*task, Mark::Failed)?;
                let failure = AttemptFailure {
                    agent: AgentId::default(),
                    kind: FailureKind::OutOfMemory,
                    reason: reason.clone(),
                    at,
                };
                self.job(task.job)?.record_failure(*task, failure);
            }
            Fact::OutputStored { task, output } => {
                self.job(task.job)?.record_output(*task, output);
            }
            Fact::TokenCreated { token, role, expires_at } => {
                self.tokens.retain(|_, token| token.expires_at > at);
                self.tokens.insert(*token, Token { role: *role, expires_at: *expires_at });
            }
            Fact::ApiTokenCreated { token, name, role, expires_at } => {
                self.api_tokens.retain(|_, token| token.expires_at > at);
                let (name, role, expires_at) = (name.clone(), *role, *expires_at);
                let created = ApiToken { name, role, created_at: at, expires_at };
                self.api_tokens.insert(*token, created);
            }
            Fact::ApiTokenRevoked(name) => {
                self.api_tokens.retain(|_, token| token.name != *name);
            }
            Fact::SubmissionKeyed { key, body, job } => {
                self.keyed.retain(|_, keyed| at.since(keyed.at) < KEY_KEPT_MS);
                self.keyed.insert(*key, Keyed { body: *body, job: *job, at });
            }
            Fact::LeaseSpent { task, lease } => {
                self.job(task.job)?.spent.insert(*lease);
            }
            Fact::JobFetched(job) => {
                self.job(*job)?;
                self.fetched.insert(*job);
            }
            Fact::JobKept { job, kept } => {
                self.job(*job)?;
                if *kept {
                    self.kept.insert(*job);
                } else {
                    self.kept.remove(job);
                }
            }
            Fact::JobCollected(job) => {
                if !self.job(*job)?.phase.is_final() {
                    return Err(Inconsistent(format!("job {job} was collected before it ended")));
                }
                self.jobs.remove(job);
                self.fetched.remove(job);
                self.kept.remove(job);
                self.tags.remove(job);
            }
            Fact::JobTagged { job, tags } => {
                self.job(*job)?;
                self.tags.insert(*job, tags.clone());
            }
            Fact::AgentDrained { agent, drained } => {
                self.standing(*agent)?.is_drained = *drained;
            }
            Fact::AgentTagged { agent, tags } => self.standing(*agent)?.tags = tags.clone(),
            Fact::AgentScheduled { agent, schedule } => {
                self.standing(*agent)?.schedule = schedule.clone();
            }
            Fact::AgentRemoved(agent) => *self.standing(*agent)? = Standing::removed(),
            Fact::Enrolled { token, identity, name, role } => {
                self.tokens.remove(token);
                let identity_of = Identity { name: name.clone(), role: *role, since: at };
                self.identities.insert(*identity, identity_of);
            }
        }
        Ok(())
    }

    fn standing(&mut self, agent: AgentId) -> Result<&mut Standing, Inconsistent> {
        if !self.identities.contains_key(&agent) {
            return Err(Inconsistent(format!("agent {} never joined", agent.0)));
        }
        Ok(self.standings.entry(agent).or_default())
    }

    fn job(&mut self, job: JobId) -> Result<&mut Job, Inconsistent> {
        self.jobs.get_mut(&job).ok_or_else(|| Inconsistent(format!("job {job} does not exist")))
    }

    fn skip(&mut self, job: JobId, step: StepIndex, reason: &str) -> Result<(), Inconsistent> {
        match self.job(job)?.step_mut(step) {
            Some(step) => step.skipped = Some(reason.into()),
            None => return Err(Inconsistent(format!("job {job} has no step {}", step.0))),
        }
        Ok(())
    }

    fn close(&mut self, task: TaskRef, mark: Mark) -> Result<(), Inconsistent> {
        let job = self.job(task.job)?;
        let was_open =
            job.step_mut(task.step).is_some_and(|step| step.tasks.close(task.task.0, mark));
        if !was_open {
            return Err(Inconsistent(format!("task {task} ended twice, or does not exist")));
        }
        if mark == Mark::Completed {
            job.partial.remove(&(task.step, task.task.0));
        }
        Ok(())
    }
}
