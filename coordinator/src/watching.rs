//! Watchers: the present state, then what changes. A slow one never slows the farm: it misses
//! events in between and is told the present state again, of the whole farm from nothing. A job's
//! outputs it never misses.

use std::collections::VecDeque;
use std::sync::Arc;

use grange_protocol::client::{OutputsQuery, WatchRequest};
use grange_protocol::view::WatchEvent;
use grange_protocol::{JobId, Refusal};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::connection::{Shared, no_job, stopping};
use crate::farm::Farm;
use crate::news::{Audience, News, Subscription, Told};

/// A watcher, and how much it has been told.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    request: WatchRequest,
    stage: Stage,
    /// What it is told next.
    pending: VecDeque<Arc<Told>>,
    /// The latest output that was told.
    cursor: u64,
    caught_up: bool,
}

enum Stage {
    /// It knows nothing, or too little.
    Behind,
    /// It is told the outputs that came before it subscribed; then the present state, as it was then.
    Outputs(JobId, Subscription, Vec<WatchEvent>),
    Live(Subscription),
}

impl Watch {
    pub(crate) async fn begin(
        shared: &Arc<Shared>,
        request: WatchRequest,
    ) -> Result<Self, Refusal> {
        let mut cursor = 0;
        if let Some((job, outputs_after)) = one_job(request) {
            let known = shared.farm.look(move |farm| farm.core.state().jobs.contains_key(&job));
            if !known.await.map_err(|_| stopping())? {
                return Err(no_job(shared, job).await);
            }
            shared.keeping.note_asked(job);
            cursor = outputs_after;
        }
        let (shared, pending) = (shared.clone(), VecDeque::new());
        Ok(Self { shared, request, stage: Stage::Behind, pending, cursor, caught_up: false })
    }

    /// The next events; `None` when the farm ends. Canceled, it has lost nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Arc<Told>>, Refusal> {
        loop {
            if let Some(told) = self.pending.pop_front() {
                return Ok(Some(told));
            }
            match &mut self.stage {
                Stage::Behind => self.catch_up().await?,
                Stage::Outputs(job, ..) => {
                    let job = *job;
                    if !self.tell_outputs(job).await? {
                        self.go_live_after_outputs();
                    }
                }
                Stage::Live(subscription) => match subscription.news.recv().await {
                    Ok(news) => self.hear(&news),
                    Err(RecvError::Lagged(_)) => self.stage = Stage::Behind,
                    Err(RecvError::Closed) => return Ok(None),
                },
            }
        }
    }

    /// The next events, if they are there already.
    pub(crate) fn next_now(&mut self) -> Option<Arc<Told>> {
        while self.pending.is_empty() {
            let Stage::Live(subscription) = &mut self.stage else { return None };
            match subscription.news.try_recv() {
                Ok(news) => self.hear(&news),
                Err(TryRecvError::Lagged(_)) => self.stage = Stage::Behind,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
        self.pending.pop_front()
    }

    /// Tells the outputs so far, as fast as they are heard; then subscribes, and looks at the present
    /// state at that very moment.
    async fn catch_up(&mut self) -> Result<(), Refusal> {
        let request = self.request;
        let job = one_job(request).map(|(job, _)| job);
        if let Some(job) = job
            && self.tell_outputs(job).await?
        {
            return Ok(());
        }
        let look = self
            .shared
            .farm
            .look(move |farm| (farm.watchers.subscribe(request), present(farm, request)));
        let (subscription, present) = look.await.map_err(|_| stopping())?;
        match job {
            None => self.go_live(subscription, present),
            Some(job) => self.stage = Stage::Outputs(job, subscription, present),
        }
        Ok(())
    }

    /// Tells the next page of outputs after the cursor. Returns whether there are more.
    async fn tell_outputs(&mut self, job: JobId) -> Result<bool, Refusal> {
        let query = OutputsQuery { job, step: None, after: self.cursor };
        let page = self.shared.archive.outputs(query).await.map_err(|error| error.refusal())?;
        self.cursor = page.rows.last().map_or(self.cursor, |output| output.cursor);
        let outputs = page.rows.into_iter().map(|output| WatchEvent::Output { job, output });
        self.tell(outputs.collect());
        Ok(page.next.is_some())
    }

    fn go_live_after_outputs(&mut self) {
        if let Stage::Outputs(_, subscription, present) =
            std::mem::replace(&mut self.stage, Stage::Behind)
        {
            self.go_live(subscription, present);
        }
    }

    fn go_live(&mut self, subscription: Subscription, mut present: Vec<WatchEvent>) {
        self.stage = Stage::Live(subscription);
        let of_the_farm = one_job(self.request).is_none();
        if self.caught_up && of_the_farm {
            present.insert(0, WatchEvent::Anew);
        }
        if !self.caught_up || of_the_farm {
            self.caught_up = true;
            present.push(WatchEvent::CaughtUp);
        }
        self.tell(present);
    }

    fn tell(&mut self, events: Vec<WatchEvent>) {
        if !events.is_empty() {
            self.pending.push_back(Arc::new(events.into()));
        }
    }

    fn hear(&mut self, news: &News) {
        for notice in news {
            match &self.stage {
                Stage::Live(subscription) if subscription.wants(notice.audience) => {}
                _ => continue,
            }
            match &notice.told {
                None => self.stage = Stage::Behind,
                Some(told) if matches!(notice.audience, Audience::JobOutputs(_)) => {
                    self.hear_outputs(told);
                }
                Some(told) => self.pending.push_back(told.clone()),
            }
        }
    }

    /// Of a job's outputs those that were not among the journal's.
    fn hear_outputs(&mut self, told: &Arc<Told>) {
        let is_new = |event: &&WatchEvent| match event {
            WatchEvent::Output { output, .. } => output.cursor > self.cursor,
            _ => true,
        };
        if !told.events().iter().all(|event| is_new(&event)) {
            let new = told.events().iter().filter(is_new);
            self.tell(new.cloned().collect());
        } else {
            self.pending.push_back(told.clone());
        }
        if let Some(WatchEvent::Output { output, .. }) = told.events().last() {
            self.cursor = self.cursor.max(output.cursor);
        }
    }
}

fn one_job(request: WatchRequest) -> Option<(JobId, u64)> {
    match request {
        WatchRequest::Farm | WatchRequest::Outputs => None,
        WatchRequest::Job { job, outputs_after } | WatchRequest::States { job, outputs_after } => {
            Some((job, outputs_after))
        }
    }
}

fn present(farm: &mut Farm, request: WatchRequest) -> Vec<WatchEvent> {
    let agents = farm.agent_views().into_iter().map(WatchEvent::Agent);
    match request {
        WatchRequest::Farm | WatchRequest::Outputs => {
            let jobs = farm.job_views().into_iter().map(WatchEvent::Job);
            agents.chain(jobs).chain([WatchEvent::Farm(farm.farm_view())]).collect()
        }
        WatchRequest::Job { job, .. } | WatchRequest::States { job, .. } => {
            let states = match request {
                WatchRequest::States { .. } => farm.all_states(job),
                _ => Vec::new(),
            };
            let detail = farm.job_detail(job);
            let tasks = detail.iter().flat_map(|detail| &detail.tasks).cloned();
            let tasks = tasks.map(|task| WatchEvent::Task { job, task }).collect::<Vec<_>>();
            let view = detail.into_iter().map(|detail| WatchEvent::Job(detail.job));
            agents.chain(states).chain(tasks).chain(view).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::farm::FarmHandle;
    use crate::journal::Place;
    use crate::news::Notice;
    use grange_scheduler::Timing;
    use grange_store::Store;
    use grange_transport::Authority;
    use tempfile::TempDir;
    use tokio::sync::Semaphore;

    async fn shared(dir: &TempDir) -> (FarmHandle, Arc<Shared>) {
        let (journal, state) = Place::in_dir(dir.path()).open().await.unwrap();
        let archive = journal.archive();
        let name: grange_protocol::shot::Label = "test".parse().unwrap();
        let storage = crate::storage::Storage::watch(dir.path());
        let beside = crate::farm::Beside {
            remembered: crate::journal::Remembered::default(),
            storage: storage.clone(),
            webhooks: None,
            wants_pictures: false,
        };
        let farm = Farm::start(name.clone(), state, journal, Timing::default(), beside);
        let shared = Shared {
            farm: farm.clone(),
            store: Arc::new(Store::open(&dir.path().join("store")).unwrap()),
            storage,
            archive,
            authority: Authority::open(dir.path(), &name).unwrap(),
            name,
            addresses: Vec::new(),
            http_addresses: None,
            sessions: Arc::default(),
            keeping: Arc::new(crate::keeping::Keeping::new(crate::config::Keep::ALL)),
            links: crate::links::Links::default(),
            webhooks: None,
            transfers: Semaphore::new(1),
            pictures: Arc::new(crate::pictures::Pictures::new(dir.path().join("pictures"), 0)),
            strangers: crate::connection::door::strangers(),
            members: Arc::default(),
            refusals: Arc::default(),
        };
        (farm, Arc::new(shared))
    }

    #[tokio::test]
    async fn a_watcher_that_lags_is_told_the_present_state_again() {
        let dir = TempDir::new().unwrap();
        let (farm, shared) = shared(&dir).await;
        let mut watch = Watch::begin(&shared, WatchRequest::Farm).await.unwrap();
        let first = watch.next().await.unwrap().unwrap();
        let [present, WatchEvent::CaughtUp] = first.events() else { panic!("{first:?}") };
        assert!(matches!(present, WatchEvent::Farm(_)), "{present:?}");
        assert!(watch.next_now().is_none());

        let flood = farm.look(|farm| {
            for jobs_open in 0..10_000 {
                let view = grange_protocol::view::FarmView { jobs_open, ..farm.farm_view() };
                let told = Some(Arc::new(vec![WatchEvent::Farm(view)].into()));
                farm.watchers.tell(vec![Notice { audience: Audience::Farm, told }]);
            }
        });
        flood.await.unwrap();
        // Of ten thousand changes it hears nothing but how things are now.
        let again = watch.next().await.unwrap().unwrap();
        assert_eq!(again.events(), [WatchEvent::Anew, present.clone(), WatchEvent::CaughtUp]);
        assert!(watch.next_now().is_none());
        farm.stop().await;
        assert!(watch.next().await.unwrap().is_none());
    }
}
