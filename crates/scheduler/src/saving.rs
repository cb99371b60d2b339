//! A job whose shots need much memory must not wait for ever beside jobs that need little and
//! always fit: after a while a device is kept free for it.

use grange_protocol::{AgentId, JobId, Millis};

use crate::core::Core;

/// Of the jobs that are next to be served, so many are looked at.
const LOOKED_AT: usize = 4;

impl Core {
    /// Notes who waits in vain, and keeps a device free for whoever has done so for long enough.
    pub(crate) fn save_for_those_who_starve(&mut self) {
        for id in self.waiting_for_a_first_task() {
            let now = self.now;
            let Some(live) = self.live.get_mut(&id) else { continue };
            let since = *live.starving_since.get_or_insert(now);
            if live.saved_at.is_none()
                && now.since(since) >= self.timing.scene_quantum_ms
                && let Some((agent, device)) = self.device_to_save(id)
            {
                self.save(id, agent, device);
            }
        }
    }

    /// When somebody will have waited for long enough.
    pub(crate) fn next_saving(&self) -> Option<Millis> {
        self.waiting_for_a_first_task()
            .filter_map(|id| self.live.get(&id)?.starving_since)
            .map(|since| since + self.timing.scene_quantum_ms)
            .filter(|due| *due > self.now)
            .min()
    }

    /// The job has a task under way, or wants none any more.
    pub(crate) fn end_saving(&mut self, id: JobId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        live.starving_since = None;
        if let Some((agent, device)) = live.saved_at.take()
            && let Some(agent) = self.agents.get_mut(&agent)
            && let Some(book) = agent.devices.get_mut(device)
        {
            book.saved_for = None;
        }
    }

    fn waiting_for_a_first_task(&self) -> impl Iterator<Item = JobId> + use<> {
        let first = self.ranks.iter().filter(|(_, running, _, _)| *running == 0);
        let jobs: Vec<JobId> = first.map(|(_, _, _, job)| *job).take(LOOKED_AT).collect();
        jobs.into_iter()
    }

    fn save(&mut self, id: JobId, agent: AgentId, device: usize) {
        if let Some(book) =
            self.agents.get_mut(&agent).and_then(|agent| agent.devices.get_mut(device))
        {
            book.saved_for = Some(id);
        }
        if let Some(live) = self.live.get_mut(&id) {
            live.saved_at = Some((agent, device));
        }
    }

    /// The device with the fewest instances among those that hold the job's next shot once they are
    /// empty, and do not now.
    fn device_to_save(&self, id: JobId) -> Option<(AgentId, usize)> {
        let (job, live) = (self.job(id)?, self.live.get(&id)?);
        let step = job.step_indices().find(|step| live.ready(job, *step) > 0)?;
        let work = &job.spec.step(step)?.work;
        let task = Self::task_ref(id, step, job.step(step)?.tasks.next_open(0)?);
        self.online()
            .filter(|(agent, _)| self.may_take(**agent, id, job, step))
            .flat_map(|(id, agent)| (0..agent.devices.len()).map(move |at| (*id, agent, at)))
            .filter(|(_, agent, at)| agent.suits(*at, work))
            .filter(|(_, agent, at)| {
                let book = &agent.devices[*at];
                let estimate = self.estimate(job, task, book.kind);
                let holds = |mib: u32| mib > 0 && u64::from(mib) <= book.capacity_mib();
                // Alone it may do without its margin.
                let could = estimate.need().is_some_and(|need| {
                    holds(need.device_mib) || holds(estimate.surely.device_mib)
                });
                let is_free = book.saved_for.is_none() && !book.is_lost;
                is_free && could && !agent.runs_now(*at, &estimate)
            })
            .min_by_key(|(_, agent, at)| agent.devices[*at].running().instances)
            .map(|(id, _, at)| (id, at))
    }
}
