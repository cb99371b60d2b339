//! What happens, as it happens: server-sent events, each a `WatchEvent` in JSON.
//!
//! First comes the present state, then `"caughtup"`, then what changes. An output's event has its
//! cursor as its id, so that a client that comes back with `Last-Event-ID` misses none and gets none
//! twice. A client that lags is told the present state again.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures_util::stream;
use grange_protocol::JobId;
use grange_protocol::client::WatchRequest;
use grange_protocol::view::WatchEvent;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::extract::{Asked, At};
use super::gate::Caller;
use super::openapi::Problems;
use super::{Api, Problem, page};
use crate::news::Told;
use crate::watching::Watch;

/// So often a comment is sent, and the token looked at again.
const QUIET: Duration = Duration::from_secs(15);
/// The first words: a client whose connection broke may come back after so many milliseconds.
const GREETING: &[u8] = b"retry: 2000\n\n";
/// Bytes that are written at once although more may be there.
const TOGETHER: usize = 64 << 10;
const NOTHING_NEW: &[u8] = b": nothing new\n\n";

/// A watcher over HTTP.
struct Telling {
    api: Api,
    caller: Caller,
    watch: Watch,
    greeted: bool,
    /// When the token is looked at again.
    due: Instant,
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
) -> Result<Response, Problem> {
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
    /// States of tasks as letters, first those of all: one event for many tasks. Of running and
    /// failed tasks only some are told as they are.
    states: Option<bool>,
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
) -> Result<Response, Problem> {
    let (job, outputs_after) = (JobId(id), since.after(&headers)?);
    let request = match since.states {
        Some(true) => WatchRequest::States { job, outputs_after },
        _ => WatchRequest::Job { job, outputs_after },
    };
    tell(api, caller, request).await
}

async fn tell(api: Api, caller: Caller, request: WatchRequest) -> Result<Response, Problem> {
    let Ok(place) = api.watchers.clone().try_acquire_owned() else {
        return Err(Problem::busy("the coordinator has too many watchers: try again in a moment"));
    };
    let watch = Watch::begin(&api.shared, request).await?;
    let due = Instant::now() + QUIET;
    let telling = Telling { api, caller, watch, greeted: false, due, _place: place };
    let texts = stream::unfold(telling, async |mut telling| {
        let text = telling.next().await?;
        Some((Ok::<_, Infallible>(text), telling))
    });
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(texts)).into_response())
}

impl Telling {
    /// `None` ends the stream: the farm is stopping, or the token is not good any more.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.greeted {
            self.greeted = true;
            return Some(Bytes::from_static(GREETING));
        }
        // Also where there is always something new, nobody hears it for long without a good token.
        if Instant::now() < self.due
            && let Ok(heard) = tokio::time::timeout_at(self.due, self.watch.next()).await
        {
            return heard.ok().flatten().map(|told| self.together(&told));
        }
        self.due = Instant::now() + QUIET;
        let is_welcome = self.caller.is_welcome(&self.api).await;
        is_welcome.then(|| Bytes::from_static(NOTHING_NEW))
    }

    /// What is there already goes along.
    fn together(&mut self, told: &Told) -> Bytes {
        let first = told.text(text);
        let Some(second) = self.watch.next_now() else { return first };
        let mut all = BytesMut::from(first);
        all.extend_from_slice(&second.text(text));
        while all.len() < TOGETHER
            && let Some(more) = self.watch.next_now()
        {
            all.extend_from_slice(&more.text(text));
        }
        all.freeze()
    }
}

/// Events as the HTML standard has them (section 9.2.6). JSON in one line has no line's end in it.
fn text(events: &[WatchEvent]) -> Bytes {
    let mut text = Vec::new();
    for event in events {
        let Ok(json) = serde_json::to_vec(event) else { continue };
        if let WatchEvent::Output { output, .. } = event {
            text.extend_from_slice(format!("id: {}\n", output.cursor).as_bytes());
        }
        text.extend_from_slice(b"data: ");
        text.extend_from_slice(&json);
        text.extend_from_slice(b"\n\n");
    }
    text.into()
}
