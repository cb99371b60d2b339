//! The bytes of facts and of the state: their version, and what earlier programs wrote.
//!
//! Facts are append-only, so those of every format since [`FORMAT_OLDEST`] are read as they are. A
//! state is not: whoever changes a type in it, or what a fact does to it, raises [`FORMAT`] and
//! keeps here what the type was.

use std::collections::{BTreeMap, BTreeSet};

use grange_protocol::codec::{self, CodecError};
use grange_protocol::file::Output;
use grange_protocol::shot::Label;
use grange_protocol::{AgentId, BlobHash, Epoch, JobId, JobSpec, Millis, StepIndex};
use serde::Deserialize;

use crate::footprint::Footprints;
use crate::job::{Cost, Job, Phase, Step};
use crate::state::{Keyed, State};
use crate::token::{ApiToken, Identity, Token, TokenHash};

/// Of what this program writes.
///
/// | format | since it |
/// | --- | --- |
/// | 2 | tasks carry what they are expected to need |
/// | 3 | leases of failed attempts are remembered |
/// | 4 | jobs are collected, unless they are kept |
/// | 5 | people drain, tag, schedule and remove agents |
pub const FORMAT: u32 = 5;
/// The first that this program can read.
pub const FORMAT_OLDEST: u32 = 2;

/// A state from its bytes in a format from [`FORMAT_OLDEST`] to [`FORMAT`].
pub fn read_state(format: u32, bytes: &[u8]) -> Result<State, CodecError> {
    match format {
        2 => Ok(codec::decode::<State2>(bytes)?.into()),
        3 => Ok(codec::decode::<State3>(bytes)?.into()),
        4 => Ok(codec::decode::<State4>(bytes)?.into()),
        _ => codec::decode(bytes),
    }
}

impl State {
    /// Equal states of one format have equal hashes.
    pub fn hash(&self) -> Result<BlobHash, CodecError> {
        Ok(BlobHash::of(&codec::encode(self)?))
    }
}

/// The state in format 4: nothing was decided of agents.
#[derive(Deserialize)]
struct State4 {
    epoch: Epoch,
    at: Millis,
    jobs: BTreeMap<JobId, Job>,
    identities: BTreeMap<AgentId, Identity>,
    footprints: Footprints,
    tokens: BTreeMap<TokenHash, Token>,
    last_job: u32,
    api_tokens: BTreeMap<TokenHash, ApiToken>,
    keyed: BTreeMap<BlobHash, Keyed>,
    fetched: BTreeSet<JobId>,
    kept: BTreeSet<JobId>,
}

impl From<State4> for State {
    fn from(old: State4) -> Self {
        Self {
            epoch: old.epoch,
            at: old.at,
            jobs: old.jobs,
            identities: old.identities,
            footprints: old.footprints,
            tokens: old.tokens,
            last_job: old.last_job,
            api_tokens: old.api_tokens,
            keyed: old.keyed,
            fetched: old.fetched,
            kept: old.kept,
            tags: BTreeMap::new(),
            standings: BTreeMap::new(),
        }
    }
}

/// The state in format 3: every job stayed for ever.
#[derive(Deserialize)]
struct State3 {
    epoch: Epoch,
    at: Millis,
    jobs: BTreeMap<JobId, Job>,
    identities: BTreeMap<AgentId, Identity>,
    footprints: Footprints,
    tokens: BTreeMap<TokenHash, Token>,
    last_job: u32,
    api_tokens: BTreeMap<TokenHash, ApiToken>,
    keyed: BTreeMap<BlobHash, Keyed>,
}

impl From<State3> for State {
    fn from(old: State3) -> Self {
        Self {
            epoch: old.epoch,
            at: old.at,
            jobs: old.jobs,
            identities: old.identities,
            footprints: old.footprints,
            tokens: old.tokens,
            last_job: old.last_job,
            api_tokens: old.api_tokens,
            keyed: old.keyed,
            fetched: BTreeSet::new(),
            kept: BTreeSet::new(),
            tags: BTreeMap::new(),
            standings: BTreeMap::new(),
        }
    }
}

/// The state in format 2.
#[derive(Deserialize)]
struct State2 {
    epoch: Epoch,
    at: Millis,
    jobs: BTreeMap<JobId, Job2>,
    identities: BTreeMap<AgentId, Identity>,
    footprints: Footprints,
    tokens: BTreeMap<TokenHash, Token>,
    last_job: u32,
    api_tokens: BTreeMap<TokenHash, ApiToken>,
    keyed: BTreeMap<BlobHash, Keyed>,
}

/// A job in format 2: leases of failed attempts were not remembered.
#[derive(Deserialize)]
struct Job2 {
    spec: JobSpec,
    submitter: Label,
    submitted_at: Millis,
    phase: Phase,
    steps: Vec<Step>,
    blocked: BTreeSet<AgentId>,
    outputs: u64,
    output_bytes: u64,
    cost: Cost,
    frames_total: u64,
    frames_done: u64,
    failed_on: BTreeMap<AgentId, BTreeSet<(StepIndex, u32)>>,
    partial: BTreeMap<(StepIndex, u32), Vec<Output>>,
    names: BTreeSet<u64>,
}

impl From<State2> for State {
    fn from(old: State2) -> Self {
        Self {
            epoch: old.epoch,
            at: old.at,
            jobs: old.jobs.into_iter().map(|(id, job)| (id, job.into())).collect(),
            identities: old.identities,
            footprints: old.footprints,
            tokens: old.tokens,
            last_job: old.last_job,
            api_tokens: old.api_tokens,
            keyed: old.keyed,
            fetched: BTreeSet::new(),
            kept: BTreeSet::new(),
            tags: BTreeMap::new(),
            standings: BTreeMap::new(),
        }
    }
}

impl From<Job2> for Job {
    fn from(old: Job2) -> Self {
        Self {
            spec: old.spec,
            submitter: old.submitter,
            submitted_at: old.submitted_at,
            phase: old.phase,
            steps: old.steps,
            blocked: old.blocked,
            outputs: old.outputs,
            output_bytes: old.output_bytes,
            cost: old.cost,
            frames_total: old.frames_total,
            frames_done: old.frames_done,
            failed_on: old.failed_on,
            partial: old.partial,
            names: old.names,
            spent: BTreeSet::new(),
        }
    }
}
