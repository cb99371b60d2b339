//! What is always true of a core. Every test and every simulation asks after every event.

use std::collections::BTreeMap;

use grange_protocol::{JobId, LeaseId, StepIndex};

use crate::agent::Filed;
use crate::core::Core;
use crate::lease::Hold;
use crate::tasks::Mark;

impl Core {
    /// Everything that should be true and is not, a sentence each.
    pub fn check_invariants(&self) -> Vec<String> {
        let mut problems = Vec::new();
        self.check_leases(&mut problems);
        self.check_devices(&mut problems);
        self.check_jobs(&mut problems);
        problems
    }

    fn check_leases(&self, problems: &mut Vec<String>) {
        let mut running: BTreeMap<(JobId, StepIndex), u32> = BTreeMap::new();
        for (id, lease) in self.leases.iter() {
            let Some(agent) = self.agents.get(&lease.agent) else {
                problems.push(format!("lease {id} is held by an agent that nobody knows"));
                continue;
            };
            let booked =
                agent.devices.get(usize::from(lease.device)).is_some_and(|device| device.holds(id));
            if !booked {
                problems.push(format!("lease {id} is not in its device's book"));
            }
            if lease.hold == Hold::Revoked {
                continue;
            }
            *running.entry((lease.task.job, lease.task.step)).or_default() += 1;
            match self.job(lease.task.job) {
                Some(job) if job.phase.is_final() => {
                    problems.push(format!("lease {id} may commit to a job that has ended"));
                }
                Some(job) if job.mark(lease.task) != Some(Mark::Open) => {
                    problems.push(format!(
                        "lease {id} may commit to task {} that has ended",
                        lease.task
                    ));
                }
                Some(_) => {}
                None => problems.push(format!("lease {id} is on a job that does not exist")),
            }
            if self.leases.of_task(lease.task).map(|(other, _)| other) != Some(id) {
                problems.push(format!("task {} is under two leases", lease.task));
            }
        }
        for (job, live) in &self.live {
            for (at, step) in live.steps.iter().enumerate() {
                let counted = running.get(&(*job, StepIndex(at as u16))).copied().unwrap_or(0);
                if counted != step.running {
                    problems
                        .push(format!("job {job} counts {} running, has {counted}", step.running));
                }
            }
        }
    }

    fn check_devices(&self, problems: &mut Vec<String>) {
        for (id, agent) in &self.agents {
            for device in &agent.devices {
                let lost: Vec<LeaseId> = device
                    .held
                    .iter()
                    .map(|held| held.lease)
                    .filter(|lease| self.leases.get(*lease).is_none())
                    .collect();
                if !lost.is_empty() {
                    problems.push(format!("agent {id} has leases in its book that do not exist"));
                }
            }
            if agent.filed != agent.filing() {
                problems.push(format!("agent {id} is filed wrongly"));
            }
        }
        let filed = |count: fn(&Filed) -> usize| -> usize {
            self.agents.values().flat_map(|agent| &agent.filed).map(count).sum()
        };
        let expected = [
            filed(|filed| usize::from(filed.roomy.is_some())),
            filed(|filed| usize::from(filed.ahead.is_some())),
            filed(|filed| filed.scenes.len()),
            filed(|filed| usize::from(filed.total.is_some())),
        ];
        let found = [self.roomy.len(), self.queueing.len(), self.warm.len(), self.totals.len()];
        if expected != found {
            problems.push("the files of agents have entries that no agent has".into());
        }
    }

    fn check_jobs(&self, problems: &mut Vec<String>) {
        for (id, job) in &self.state.jobs {
            for step in &job.steps {
                if let Some(problem) = step.tasks.problem() {
                    problems.push(format!("job {id} {problem}"));
                }
            }
            match self.live.get(id) {
                Some(live) if live.rank != live.rank_of(*id, job) => {
                    problems.push(format!("job {id} is ranked wrongly"));
                }
                Some(live) if live.rank.is_some_and(|rank| !self.ranks.contains(&rank)) => {
                    problems.push(format!("job {id} has a rank that is not filed"));
                }
                None if !job.phase.is_final() => {
                    problems.push(format!("job {id} is open and forgotten"));
                }
                Some(_) if job.phase.is_final() => {
                    problems.push(format!("job {id} has ended and lives on"));
                }
                _ => {}
            }
        }
        let filed = self.live.values().filter(|live| live.rank.is_some()).count();
        if filed != self.ranks.len() {
            problems.push(format!("{filed} jobs have a rank, {} are filed", self.ranks.len()));
        }
    }
}
