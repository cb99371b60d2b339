//! What happens, as it happens: server-sent events, each a `WatchEvent` in JSON.
//!
//! First comes the present state, then `"caughtup"`, then what changes. An output's event has its
//! cursor as its id, so that a client that comes back with `Last-Event-ID` misses none and gets none
//! twice. A client that lags is told the present state again.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::Event;
use futures_util::stream::{self, Stream};
use grange_protocol::JobId;
use grange_protocol::client::WatchRequest;
use grange_protocol::view::WatchEvent;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;

use super::extract::{Asked, At};
use super::gate::Caller;
use super::openapi::Problems;
use super::{Api, Problem, page};
use crate::watching::Watch;

/// After so long without an event a comment is sent, and the token looked at again.
const QUIET: Duration = Duration::from_secs(15);
/// When a client whose connection broke may come back.
const COME_BACK_AFTER: Duration = Duration::from_secs(2);

/// A watcher over HTTP.
struct Telling {
    api: Api,
    caller: Caller,
    watch: Watch,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

/// What else of the farm.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Besides {
    /// Also the outputs of all jobs, as they are committed from now on. A client that lags misses
    /// some.
    outputs: Option<bool>,
}

/// What happens to the farm's jobs and agents
///
/// Server-sent events; each is a WatchEvent.
#[utoipa::path(
    get, path = "/api/v1/events", operation_id = "farm_events", tag = "events", params(Besides),
    responses((status = 200, body = WatchEvent, content_type = "text/event-stream"), Problems),
)]
pub(super) async fn farm(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Asked(besides): Asked<Besides>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let outputs = besides.outputs.unwrap_or(false);
    tell(api, caller, if outputs { WatchRequest::Outputs } else { WatchRequest::Farm }).await
}

/// From where on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Since {
    /// Only outputs after this cursor; all unless told. `Last-Event-ID` goes before it.
    outputs_after: Option<u64>,
}

impl Since {
    pub(super) fn after(&self, headers: &HeaderMap) -> Result<u64, Problem> {
        let last = headers.get("last-event-id").map(|id| page::parse(id.to_str().unwrap_or("")));
        Ok(last.transpose()?.or(self.outputs_after).unwrap_or(0))
    }
}

/// What happens to a job, with its outputs as they are committed
///
/// Server-sent events; each is a WatchEvent. Outputs of before come first.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/events", operation_id = "job_events", tag = "events",
    params(
        ("id" = u32, Path, example = 1), Since,
        (
            "Last-Event-ID" = Option<String>, Header,
            description = "The id of the latest event that had one",
        ),
    ),
    responses((status = 200, body = WatchEvent, content_type = "text/event-stream"), Problems),
)]
pub(super) async fn job(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<u32>,
    Asked(since): Asked<Since>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let outputs_after = since.after(&headers)?;
    tell(api, caller, WatchRequest::Job { job: JobId(id), outputs_after }).await
}

async fn tell(
    api: Api,
    caller: Caller,
    request: WatchRequest,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let Ok(place) = api.watchers.clone().try_acquire_owned() else {
        return Err(Problem::busy("the coordinator has too many watchers: try again in a moment"));
    };
    let watch = Watch::begin(&api.shared, request).await?;
    let telling = Telling { api, caller, watch, greeted: false, _place: place };
    let events = stream::unfold(telling, async |mut telling| {
        let event = telling.next().await?;
        Some((Ok(event), telling))
    });
    Ok(Sse::new(Box::pin(events)))
}

impl Telling {
    /// `None` ends the stream: the farm is stopping, or the token is not good any more.
    async fn next(&mut self) -> Option<Event> {
        if !self.greeted {
            self.greeted = true;
            return Some(Event::default().retry(COME_BACK_AFTER));
        }
        match tokio::time::timeout(QUIET, self.watch.next()).await {
            Ok(Ok(Some(event))) => sse(&event),
            Ok(_) => None,
            Err(_) => {
                let welcome = self.caller.is_welcome(&self.api).await;
                welcome.then(|| Event::default().comment("nothing new"))
            }
        }
    }
}

fn sse(event: &WatchEvent) -> Option<Event> {
    let sse = match event {
        WatchEvent::Output { output, .. } => Event::default().id(output.cursor.to_string()),
        _ => Event::default(),
    };
    sse.json_data(event).ok()
}
