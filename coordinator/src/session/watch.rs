//! Watchers: the present state, then what changes. A slow one never slows the farm: it misses
//! events in between and is told the present state again. Outputs it never misses.

use std::sync::Arc;

use grange_protocol::client::{OutputsQuery, Response, WatchRequest};
use grange_protocol::limits::FRAME_MAX;
use grange_protocol::view::WatchEvent;
use grange_protocol::{JobId, Refusal, RefusalCode};
use grange_transport::{Receiver, SendStream, Sender, StreamError};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::{Shared, reply, stopping};
use crate::farm::Farm;

type Events = broadcast::Receiver<Arc<WatchEvent>>;

/// A watcher, and how much it has been told.
struct Watch<'a> {
    shared: &'a Shared,
    request: WatchRequest,
    sender: Sender<Result<WatchEvent, Refusal>>,
    /// The latest output that was told.
    cursor: u64,
}

pub(super) async fn serve(
    shared: &Arc<Shared>,
    request: WatchRequest,
    send: SendStream,
    mut recv: Receiver<()>,
) -> Result<(), StreamError> {
    if let WatchRequest::Job { job, .. } = request {
        let known = shared.farm.look(move |farm| farm.core.state().jobs.contains_key(&job)).await;
        let refusal = match known {
            Ok(true) => None,
            Ok(false) => Some(unknown_job(job)),
            Err(_) => Some(stopping()),
        };
        if let Some(refusal) = refusal {
            return reply(send, &Err::<WatchEvent, _>(refusal)).await;
        }
    }
    let cursor = match request {
        WatchRequest::Farm => 0,
        WatchRequest::Job { outputs_after, .. } => outputs_after,
    };
    let mut watch = Watch { shared, request, sender: Sender::new(send, FRAME_MAX), cursor };
    tokio::select! {
        result = watch.run() => result,
        // The watcher ends its side when it has seen enough.
        _ = recv.recv() => Ok(()),
    }
}

impl Watch<'_> {
    async fn run(&mut self) -> Result<(), StreamError> {
        let mut events = self.catch_up().await?;
        self.send(WatchEvent::CaughtUp).await?;
        loop {
            let next = match events.try_recv() {
                Ok(event) => Ok(event),
                Err(TryRecvError::Empty) => {
                    self.sender.flush().await?;
                    events.recv().await
                }
                Err(TryRecvError::Lagged(missed)) => Err(RecvError::Lagged(missed)),
                Err(TryRecvError::Closed) => Err(RecvError::Closed),
            };
            match next {
                Ok(event) => self.pass_on(&event).await?,
                Err(RecvError::Lagged(_)) => events = self.catch_up().await?,
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }

    /// Tells the present state, and subscribes at that very moment.
    async fn catch_up(&mut self) -> Result<Events, StreamError> {
        let request = self.request;
        let present = self
            .shared
            .farm
            .look(move |farm| (farm.watchers.subscribe(), present(farm, request)))
            .await
            .map_err(|stopped| StreamError::Lost(stopped.to_string()))?;
        let (events, present) = present;
        if let WatchRequest::Job { job, .. } = self.request {
            self.tell_outputs(job).await?;
        }
        for event in present {
            self.send(event).await?;
        }
        Ok(events)
    }

    /// Tells all outputs after the cursor that the journal has.
    async fn tell_outputs(&mut self, job: JobId) -> Result<(), StreamError> {
        loop {
            let query = OutputsQuery { job, step: None, after: self.cursor };
            let page = self.shared.archive.outputs(query).await;
            let page = page.map_err(|error| StreamError::Lost(error.to_string()))?;
            for output in page.rows {
                self.cursor = output.cursor;
                self.send(WatchEvent::Output { job, output }).await?;
            }
            if page.next.is_none() {
                return Ok(());
            }
        }
    }

    async fn pass_on(&mut self, event: &WatchEvent) -> Result<(), StreamError> {
        let wanted = match (self.request, event) {
            (WatchRequest::Farm, WatchEvent::Task { .. } | WatchEvent::Output { .. }) => false,
            (WatchRequest::Farm, _) | (WatchRequest::Job { .. }, WatchEvent::Agent(_)) => true,
            (WatchRequest::Job { job, .. }, WatchEvent::Job(view)) => view.id == job,
            (WatchRequest::Job { job, .. }, WatchEvent::Task { job: of, .. }) => *of == job,
            (WatchRequest::Job { job, .. }, WatchEvent::Output { job: of, output }) => {
                *of == job && output.cursor > self.cursor
            }
            (WatchRequest::Job { .. }, _) => false,
        };
        if let (true, WatchEvent::Output { output, .. }) = (wanted, event) {
            self.cursor = output.cursor;
        }
        if wanted { self.send(event.clone()).await } else { Ok(()) }
    }

    async fn send(&mut self, event: WatchEvent) -> Result<(), StreamError> {
        self.sender.feed(&Ok(event)).await
    }
}

fn present(farm: &Farm, request: WatchRequest) -> Vec<WatchEvent> {
    let agents = farm.agent_views().into_iter().map(WatchEvent::Agent);
    match request {
        WatchRequest::Farm => {
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

pub(super) fn unknown_job(job: JobId) -> Refusal {
    Refusal::new(
        RefusalCode::NotFound,
        format!("there is no job {job}: `grange jobs` lists the jobs of this farm"),
    )
}

pub(super) fn unknown_job_response(job: JobId) -> Response {
    Response::Refused(unknown_job(job))
}
