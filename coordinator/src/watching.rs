//! Watchers: the present state, then what changes. A slow one never slows the farm: it misses
//! events in between and is told the present state again. Outputs it never misses.

use std::collections::VecDeque;
use std::sync::Arc;

use grange_protocol::client::{OutputsQuery, WatchRequest};
use grange_protocol::view::WatchEvent;
use grange_protocol::{JobId, Refusal};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::connection::{Shared, no_job, stopping};
use crate::farm::Farm;

type Events = broadcast::Receiver<Arc<WatchEvent>>;

/// A watcher, and how much it has been told.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    request: WatchRequest,
    stage: Stage,
    /// What it is told next.
    pending: VecDeque<WatchEvent>,
    /// The latest output that was told.
    cursor: u64,
    caught_up: bool,
}

enum Stage {
    /// It knows nothing, or too little.
    Behind,
    /// It is told the outputs that the journal has, page by page; then the present state, as it was
    /// when it subscribed.
    Outputs(JobId, Events, Vec<WatchEvent>),
    Live(Events),
}

impl Watch {
    pub(crate) async fn begin(
        shared: &Arc<Shared>,
        request: WatchRequest,
    ) -> Result<Self, Refusal> {
        let mut cursor = 0;
        if let WatchRequest::Job { job, outputs_after } = request {
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

    /// The next event; `None` when the farm ends. Canceled, it has lost nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<WatchEvent>, Refusal> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            match &mut self.stage {
                Stage::Behind => self.subscribe().await?,
                Stage::Outputs(job, ..) => {
                    let job = *job;
                    self.tell_outputs(job).await?;
                }
                Stage::Live(events) => match events.recv().await {
                    Ok(event) => self.hear(&event),
                    Err(RecvError::Lagged(_)) => self.stage = Stage::Behind,
                    Err(RecvError::Closed) => return Ok(None),
                },
            }
        }
    }

    /// The next event, if it is there already.
    pub(crate) fn next_now(&mut self) -> Option<WatchEvent> {
        while self.pending.is_empty() {
            let Stage::Live(events) = &mut self.stage else { return None };
            match events.try_recv() {
                Ok(event) => self.hear(&event),
                Err(TryRecvError::Lagged(_)) => self.stage = Stage::Behind,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
        self.pending.pop_front()
    }

    /// Subscribes, and looks at the present state at that very moment.
    async fn subscribe(&mut self) -> Result<(), Refusal> {
        let request = self.request;
        let look =
            self.shared.farm.look(move |farm| (farm.watchers.subscribe(), present(farm, request)));
        let (events, present) = look.await.map_err(|_| stopping())?;
        match request {
            WatchRequest::Farm | WatchRequest::Outputs => self.go_live(events, present),
            WatchRequest::Job { job, .. } => self.stage = Stage::Outputs(job, events, present),
        }
        Ok(())
    }

    /// Tells the next page of outputs after the cursor.
    async fn tell_outputs(&mut self, job: JobId) -> Result<(), Refusal> {
        let query = OutputsQuery { job, step: None, after: self.cursor };
        let page = self.shared.archive.outputs(query).await.map_err(|error| error.refusal())?;
        for output in page.rows {
            self.cursor = output.cursor;
            self.pending.push_back(WatchEvent::Output { job, output });
        }
        if page.next.is_none()
            && let Stage::Outputs(_, events, present) =
                std::mem::replace(&mut self.stage, Stage::Behind)
        {
            self.go_live(events, present);
        }
        Ok(())
    }

    fn go_live(&mut self, events: Events, present: Vec<WatchEvent>) {
        self.stage = Stage::Live(events);
        self.pending.extend(present);
        if !self.caught_up {
            self.caught_up = true;
            self.pending.push_back(WatchEvent::CaughtUp);
        }
    }

    fn hear(&mut self, event: &WatchEvent) {
        let wanted = match (self.request, event) {
            (WatchRequest::Farm, WatchEvent::Task { .. } | WatchEvent::Output { .. })
            | (WatchRequest::Outputs, WatchEvent::Task { .. }) => false,
            (WatchRequest::Farm | WatchRequest::Outputs, _)
            | (WatchRequest::Job { .. }, WatchEvent::Agent(_) | WatchEvent::AgentGone(_)) => true,
            (WatchRequest::Job { job, .. }, WatchEvent::Job(view)) => view.id == job,
            (WatchRequest::Job { job, .. }, WatchEvent::JobGone(gone)) => *gone == job,
            (WatchRequest::Job { job, .. }, WatchEvent::Task { job: of, .. }) => *of == job,
            (WatchRequest::Job { job, .. }, WatchEvent::Output { job: of, output }) => {
                *of == job && output.cursor > self.cursor
            }
            (WatchRequest::Job { .. }, _) => false,
        };
        if wanted {
            if let WatchEvent::Output { output, .. } = event {
                self.cursor = output.cursor;
            }
            self.pending.push_back(event.clone());
        }
    }
}

fn present(farm: &Farm, request: WatchRequest) -> Vec<WatchEvent> {
    let agents = farm.agent_views().into_iter().map(WatchEvent::Agent);
    match request {
        WatchRequest::Farm | WatchRequest::Outputs => {
            let jobs = farm.job_views().into_iter().map(WatchEvent::Job);
            agents.chain(jobs).chain([WatchEvent::Farm(farm.farm_view())]).collect()
        }
        WatchRequest::Job { job, .. } => {
            let detail = farm.job_detail(job);
            let tasks = detail.iter().flat_map(|detail| &detail.tasks).cloned();
            let tasks = tasks.map(|task| WatchEvent::Task { job, task }).collect::<Vec<_>>();
            let view = detail.into_iter().map(|detail| WatchEvent::Job(detail.job));
            agents.chain(tasks).chain(view).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::farm::FarmHandle;
    use crate::journal::Place;
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
        let beside =
            crate::farm::Beside { storage: storage.clone(), webhooks: None, wants_pictures: false };
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
            pictures: crate::pictures::Pictures::new(dir.path().join("pictures"), 0),
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
        let present = watch.next().await.unwrap().unwrap();
        assert!(matches!(present, WatchEvent::Farm(_)), "{present:?}");
        assert_eq!(watch.next().await, Ok(Some(WatchEvent::CaughtUp)));
        assert_eq!(watch.next_now(), None);

        let flood = farm.look(|farm| {
            for jobs_open in 0..10_000 {
                let view = grange_protocol::view::FarmView { jobs_open, ..farm.farm_view() };
                farm.watchers.send(Arc::new(WatchEvent::Farm(view))).unwrap();
            }
        });
        flood.await.unwrap();
        // Of ten thousand changes it hears nothing but how things are now.
        assert_eq!(watch.next().await, Ok(Some(present)));
        assert_eq!(watch.next_now(), None);
        farm.stop().await;
        assert_eq!(watch.next().await, Ok(None));
    }
}
