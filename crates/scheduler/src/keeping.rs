//! Which jobs the farm may forget, and what forgetting one is.
//!
//! [`due`] decides by ages and sizes alone. The core has the last word, for between a look at the farm
//! and the wish to collect a job somebody may have retried it.

use std::collections::BTreeSet;

use grange_protocol::{JobId, Millis, Refusal, RefusalCode};

use crate::core::Core;
use crate::fact::Fact;
use crate::job::Phase;

/// A job is not collected for the want of room before it has ended for so long: whoever waited for it
/// may still be downloading.
pub const ROOM_AFTER_MS: u64 = 3600 * 1000;

/// How long jobs stay that have ended. Milliseconds since their end, and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Those without outputs, and those whose outputs somebody has downloaded.
    pub fetched_ms: u64,
    /// Those with outputs that nobody has downloaded.
    pub unfetched_ms: u64,
    /// Of all files. Over it, downloaded jobs go before their time, and then those that nobody has
    /// downloaded, once they are as old as `fetched_ms`.
    pub bytes: u64,
}

/// A job that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub job: JobId,
    pub at: Millis,
    /// What becomes free without it.
    pub bytes: u64,
    /// There is nothing in it that nobody has downloaded.
    pub is_fetched: bool,
    pub is_kept: bool,
}

/// The jobs that may go now, out of those that have ended, of a farm whose files have `stored` bytes.
pub fn due(rules: Rules, now: Millis, stored: u64, ended: &[Ended]) -> Vec<JobId> {
    let age = |job: &Ended| now.since(job.at);
    let longest = |job: &Ended| {
        if job.is_fetched { rules.fetched_ms } else { rules.unfetched_ms.max(rules.fetched_ms) }
    };
    let (old, mut others): (Vec<Ended>, Vec<Ended>) =
        ended.iter().filter(|job| !job.is_kept).partition(|job| age(job) >= longest(job));
    let mut stored = stored.saturating_sub(old.iter().map(|job| job.bytes).sum());
    let mut due: Vec<JobId> = old.iter().map(|job| job.job).collect();
    others.retain(|job| {
        let least = if job.is_fetched { ROOM_AFTER_MS } else { rules.fetched_ms };
        job.bytes > 0 && age(job) >= least.max(ROOM_AFTER_MS)
    });
    others.sort_unstable_by_key(|job| (!job.is_fetched, job.at, job.job));
    for job in others {
        if stored <= rules.bytes {
            break;
        }
        stored = stored.saturating_sub(job.bytes);
        due.push(job.job);
    }
    due
}

impl Core {
    /// Why there is no such job.
    pub fn no_job(&self, id: JobId) -> Refusal {
        if self.state.is_collected(id) {
            let message = format!(
                "job {id} is gone with its files: somebody deleted it, or it had ended long ago and was \
                 collected; submit it again, and `grange keep` the job if it shall stay"
            );
            return Refusal::new(RefusalCode::Gone, message);
        }
        let message = format!("there is no job {id}: `grange jobs` lists the jobs of this farm");
        Refusal::new(RefusalCode::NotFound, message)
    }

    /// All jobs that have ended. Their bytes are those of their outputs.
    pub fn ended_jobs(&self) -> Vec<Ended> {
        let ended = |(id, job): (&JobId, &crate::Job)| {
            let (Phase::Completed { at } | Phase::Canceled { at } | Phase::Failed { at, .. }) =
                job.phase
            else {
                return None;
            };
            Some(Ended {
                job: *id,
                at,
                bytes: job.output_bytes,
                is_fetched: job.outputs == 0 || self.state.fetched.contains(id),
                is_kept: self.state.kept.contains(id),
            })
        };
        self.state.jobs.iter().filter_map(ended).collect()
    }

    pub(crate) fn keep(&mut self, job: JobId, kept: bool) {
        if self.state.kept.contains(&job) != kept {
            self.record(Fact::JobKept { job, kept });
        }
    }

    pub(crate) fn fetched(&mut self, jobs: &[JobId]) {
        for job in jobs {
            if self.state.jobs.contains_key(job) && !self.state.fetched.contains(job) {
                self.record(Fact::JobFetched(*job));
            }
        }
    }

    /// Somebody wants a job forgotten now.
    pub(crate) fn delete(&mut self, id: JobId) -> Result<(), Refusal> {
        let refuse = |why: String| Err(Refusal::new(RefusalCode::Invalid, why));
        if self.state.kept.contains(&id) {
            return refuse(format!("job {id} is kept: `grange release {id}` before you delete it"));
        }
        if self.leases.of_job(id).next().is_some() {
            return refuse(format!(
                "an agent is still stopping work of job {id}: try again in a moment"
            ));
        }
        self.record(Fact::JobCollected(id));
        Ok(())
    }

    pub(crate) fn collect(&mut self, jobs: &[JobId]) {
        let held: BTreeSet<JobId> = self.leases.iter().map(|(_, lease)| lease.task.job).collect();
        for id in jobs {
            let has_ended = self.job(*id).is_some_and(|job| job.phase.is_final());
            // An agent that is to stop a task still says how that went.
            let is_held = held.contains(id);
            if has_ended && !is_held && !self.state.kept.contains(id) {
                self.record(Fact::JobCollected(*id));
                self.job_changed(*id);
            }
        }
    }
}
