//! Jobs that have ended go in time, and leave nothing behind.

use std::collections::BTreeSet;

use grange_protocol::client::JobAction;
use grange_protocol::{JobId, Millis};
use grange_scheduler::{Ended, Event, ROOM_AFTER_MS, Rules, due};
use proptest::prelude::*;

use crate::farm::{Farm, frames};

const DAY: u64 = 24 * 3600 * 1000;

impl Farm {
    fn collect(&mut self, jobs: impl IntoIterator<Item = u32>) {
        let (request, jobs) = (self.request(), jobs.into_iter().map(JobId).collect());
        self.after(Event::Collect { request, jobs }).expects(["Done"]);
    }
}

#[test]
fn a_job_that_is_collected_is_gone_for_good_and_says_so() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(frames("x", 1)).whatever();
    farm.collect([1]);
    farm.completes('A', "1/0").whatever();
    farm.act(1, JobAction::Keep).expects(["Done"]);
    farm.collect([1]);
    assert!(farm.core.state().jobs.contains_key(&JobId(1)), "neither open nor kept jobs go");
    farm.act(1, JobAction::Release).expects(["Done"]);
    farm.collect([1]);
    let gone = "no: job 1 is gone with its files: somebody deleted it, or it had ended long ago and was \
                collected; submit it again, and `grange keep` the job if it shall stay";
    farm.act(1, JobAction::Retry).expects([gone]);
    farm.act(2, JobAction::Retry)
        .expects(["no: there is no job 2: `grange jobs` lists the jobs of this farm"]);
    farm.restart();
    farm.act(1, JobAction::Cancel).expects([gone]);
    farm.join('A', 1).whatever();
    assert_eq!(farm.core.state().next_job(), JobId(2), "a number is never given again");
}

/// An agent that was told to stop has not said yet how that went.
#[test]
fn a_job_that_an_agent_still_has_a_lease_of_stays() {
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    farm.submit(frames("x", 1)).whatever();
    let lease = farm.lease("1/0");
    farm.act(1, JobAction::Cancel).whatever();
    farm.collect([1]);
    assert!(farm.core.state().jobs.contains_key(&JobId(1)));
    let canceled = grange_protocol::agent::Outcome::Canceled;
    farm.ends_lease('A', lease, "1/0", canceled).whatever();
    farm.collect([1]);
    assert!(farm.core.state().jobs.is_empty());
    assert_eq!(farm.core.check_invariants(), Vec::<String>::new());
}

/// A farm through which jobs pass for years: what it remembers grows no more once the first have
/// begun to go.
#[test]
fn a_farm_that_has_seen_thousands_of_jobs_remembers_a_few() {
    const JOBS: u32 = 5_000;
    const STAYING: u32 = 50;
    let mut farm = Farm::new();
    farm.join('A', 1).whatever();
    let rules = Rules { fetched_ms: DAY, unfetched_ms: DAY * 2, bytes: u64::MAX };
    let mut sizes = Vec::new();
    for job in 1..=JOBS {
        farm.submit(frames("x", 1)).whatever();
        farm.completes('A', &format!("{job}/0")).whatever();
        if job % 2 == 0 {
            let request = farm.request();
            farm.after(Event::Fetched { request, jobs: vec![JobId(job)] }).expects(["Done"]);
        }
        farm.now = farm.now + 2 * DAY / u64::from(STAYING);
        let old = due(rules, farm.now, 0, &farm.core.ended_jobs());
        farm.collect(old.into_iter().map(|job| job.0));
        if job % 100 == 0 {
            assert!(farm.core.state().jobs.len() <= STAYING as usize, "after job {job}");
            assert_eq!(farm.core.check_invariants(), Vec::<String>::new(), "after job {job}");
            sizes.push(postcard::to_stdvec(farm.core.state()).unwrap().len());
        }
    }
    let (first, last) = (sizes[1], sizes[sizes.len() - 1]);
    // Numbers of jobs and times grow by a byte or two each.
    assert!(last < first + first / 4, "the state had {first} bytes and now has {last}");
    assert_eq!(farm.core.state().next_job(), JobId(JOBS + 1));
}

fn job() -> impl Strategy<Value = (u64, u64, bool, bool)> {
    (0..10 * DAY, 0..1_000_u64, any::<bool>(), prop::bool::weighted(0.2))
}

proptest! {
    #[test]
    fn what_goes_is_old_enough_and_no_more_than_is_needed(
        jobs in prop::collection::vec(job(), 0..40),
        fetched_ms in 0..6 * DAY,
        unfetched_ms in 0..12 * DAY,
        bytes in 0..20_000_u64,
        others in 0..5_000_u64,
    ) {
        let rules = Rules { fetched_ms, unfetched_ms, bytes };
        let ended: Vec<Ended> = jobs.iter().zip(1..).map(|((at, bytes, is_fetched, is_kept), job)| Ended {
            job: JobId(job), at: Millis(*at), bytes: *bytes, is_fetched: *is_fetched, is_kept: *is_kept,
        }).collect();
        let now = Millis(10 * DAY);
        let stored = others + ended.iter().map(|job| job.bytes).sum::<u64>();
        let going: BTreeSet<JobId> = due(rules, now, stored, &ended).into_iter().collect();
        let goes = |job: &Ended| going.contains(&job.job);
        let age = |job: &Ended| now.since(job.at);
        let longest = |job: &Ended| if job.is_fetched { fetched_ms } else { unfetched_ms.max(fetched_ms) };
        let shortest = |job: &Ended| {
            let least = if job.is_fetched { 0 } else { fetched_ms };
            least.max(ROOM_AFTER_MS).min(longest(job))
        };
        prop_assert!(!ended.iter().any(|job| goes(job) && job.is_kept), "a kept job goes");
        prop_assert!(!ended.iter().any(|job| goes(job) && age(job) < shortest(job)), "a young job goes");
        let stays_too_long = |job: &Ended| !goes(job) && !job.is_kept && age(job) >= longest(job);
        prop_assert!(!ended.iter().any(stays_too_long), "an old job stays");
        // For the want of room none goes while it is not needed, and none that could stays while it is.
        let early: Vec<&Ended> = ended.iter().filter(|job| goes(job) && age(job) < longest(job)).collect();
        let left = stored - ended.iter().filter(|job| goes(job)).map(|job| job.bytes).sum::<u64>();
        if let Some(last) = early.iter().max_by_key(|job| (!job.is_fetched, job.at, job.job)) {
            prop_assert!(left + last.bytes > bytes, "one more goes than is needed");
        }
        if left > bytes {
            let could = |job: &Ended| {
                !goes(job) && !job.is_kept && job.bytes > 0 && age(job) >= shortest(job)
            };
            prop_assert!(!ended.iter().any(could), "there is no room, and one that could go stays");
        }
        // None that nobody has downloaded goes before all that were.
        if early.iter().any(|job| !job.is_fetched) {
            let waits = |job: &Ended| job.is_fetched && !goes(job) && !job.is_kept && job.bytes > 0
                && age(job) >= shortest(job);
            prop_assert!(!ended.iter().any(waits), "what was downloaded outlives what was not");
        }
    }
}
