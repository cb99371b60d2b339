//! The HTTP API: the farm as JSON over HTTPS, for whatever does not speak QUIC.
//!
//! Owns routes, tokens in headers, problems as [RFC 9457] has them, and what a request may cost.
//! Never decides: what it asks of the farm are the same questions as those of a QUIC connection
//! ([`crate::connection::calls`]), and events come from the same [`crate::watching`].
//!
//! Every request but those for the CA's certificate, for signs of life and for the dashboard's own files
//! shows a token, which is checked before anything else is read ([`gate`]): programs in a header,
//! browsers in a cookie ([`sign_in`]), which counts only for what the dashboard itself asks
//! ([`origin`]). Bodies are limited by kind of request, files pass through in pieces and
//! never lie in memory ([`blobs`], [`uploads`], [`download`]), and whoever is too slow holds up nobody else.
//!
//! [RFC 9457]: https://www.rfc-editor.org/rfc/rfc9457
#![expect(unused_qualifications, reason = "utoipa's macros write paths in full")]

mod agents;
mod archive;
mod blobs;
mod dashboard;
mod download;
mod events;
mod extract;
mod farm;
mod gate;
mod grid;
mod health;
mod history;
mod jobs;
mod members;
mod metrics;
mod openapi;
mod origin;
mod outgoing;
mod outputs;
pub mod outside;
mod page;
mod pictures;
mod problem;
mod scenes;
mod serve;
mod sessions;
mod sign_in;
mod storage;
mod submit;
mod tokens;
mod unread;
mod uploads;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use grange_protocol::client::{Request, Response};
use grange_protocol::limits::FRAME_MAX;
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::connection::{Shared, calls};
use gate::Caller;
use problem::Problem;

pub(crate) use serve::{Serving, Web};

/// Requests that are answered at once; more are told to come back.
const REQUESTS: usize = 256;
/// Requests at once that need no token, for the page and signing in: strangers must not be able to
/// take all.
const FREE_REQUESTS: usize = 64;
/// Those that need none and have no body, so that nobody holds one of them for long: whether there is
/// anybody.
const SHORT_REQUESTS: usize = 64;
/// How long a request of the page may take to arrive and to be answered, in seconds.
const SIGN_IN_PATIENCE_S: u64 = 10;
/// Watchers at once; more are told to come back.
const WATCHERS: usize = 512;
/// Files on their way at once, up and down; more wait for a while.
const TRANSFERS: usize = 64;
/// What somebody sends who has not signed in yet. Bytes of the body.
const SIGN_IN_MAX: usize = 16 << 10;
/// Lists of many files: what a farm lacks, manifests, what a scene lies among. Bytes of the body.
const LIST_MAX: usize = 16 << 20;

/// What every request works with.
#[derive(Clone)]
struct Api {
    shared: Arc<Shared>,
    requests: Arc<Semaphore>,
    free_requests: Arc<Semaphore>,
    short_requests: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
    transfers: Arc<Semaphore>,
    uploads: uploads::Uploads,
    readings: Arc<Semaphore>,
    /// Small pictures that are made at once; more wait.
    makers: Arc<Semaphore>,
    /// By which names browsers may call this host, and what their cookie is called.
    hosts: Arc<origin::Hosts>,
    cookie: Arc<str>,
}

impl Api {
    fn new(shared: Arc<Shared>, hosts: &BTreeSet<String>) -> Self {
        Self {
            uploads: uploads::Uploads::of(&shared.store),
            makers: pictures::makers(),
            hosts: Arc::new(origin::Hosts::new(hosts)),
            cookie: sign_in::cookie_name(&shared.authority.sha256()).into(),
            shared,
            requests: Arc::new(Semaphore::new(REQUESTS)),
            free_requests: Arc::new(Semaphore::new(FREE_REQUESTS)),
            short_requests: Arc::new(Semaphore::new(SHORT_REQUESTS)),
            watchers: Arc::new(Semaphore::new(WATCHERS)),
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
            readings: Arc::new(Semaphore::new(scenes::READINGS)),
        }
    }

    /// Asks what a QUIC connection would ask, as the token's owner.
    async fn call<T>(
        &self,
        caller: &Caller,
        request: Request,
        expected: impl FnOnce(Response) -> Option<T>,
    ) -> Result<T, Problem> {
        match calls::answer(&self.shared, caller.role, &caller.name, request).await {
            Response::Refused(refusal) => Err(refusal.into()),
            response => expected(response).ok_or_else(Problem::unexpected),
        }
    }
}

/// All routes, and what is done with every request before and after.
fn router(shared: Arc<Shared>, hosts: &BTreeSet<String>) -> Router {
    let api = Api::new(shared, hosts);
    let (quick, mut document) = OpenApiRouter::with_openapi(openapi::document())
        .routes(routes!(farm::farm))
        .routes(routes!(farm::ca))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::metrics))
        .routes(routes!(farm::agents))
        .routes(routes!(agents::drain))
        .routes(routes!(agents::resume))
        .routes(routes!(agents::remove))
        .routes(routes!(agents::tags))
        .routes(routes!(agents::schedule))
        .routes(routes!(farm::footprints))
        .routes(routes!(history::list))
        .routes(routes!(storage::storage))
        .routes(routes!(farm::decisions))
        .routes(routes!(jobs::list, submit::submit))
        .routes(routes!(jobs::detail, jobs::delete))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::pause))
        .routes(routes!(jobs::resume))
        .routes(routes!(jobs::retry))
        .routes(routes!(jobs::keep))
        .routes(routes!(jobs::release))
        .routes(routes!(jobs::prioritise))
        .routes(routes!(jobs::tasks))
        .routes(routes!(jobs::logs))
        .routes(routes!(grid::grid))
        .routes(routes!(outputs::list))
        .routes(routes!(pictures::picture))
        .routes(routes!(sign_in::me))
        .routes(routes!(tokens::join))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(members::list))
        .routes(routes!(members::remove))
        .routes(routes!(sessions::list, sessions::create))
        .routes(routes!(sessions::detail, sessions::end))
        .routes(routes!(sessions::alive))
        .routes(routes!(sessions::call))
        .routes(routes!(events::farm))
        .routes(routes!(events::job))
        .layer(from_fn(gate::within::<{ FRAME_MAX as u64 }>))
        .layer(DefaultBodyLimit::max(FRAME_MAX))
        .split_for_parts();
    let (lists, of_lists) = OpenApiRouter::new()
        .routes(routes!(blobs::missing))
        .routes(routes!(blobs::manifest))
        .layer(from_fn(gate::within::<{ LIST_MAX as u64 }>))
        .layer(DefaultBodyLimit::max(LIST_MAX))
        .split_for_parts();
    let (scenes, of_scenes) = OpenApiRouter::new()
        .routes(routes!(scenes::read))
        .layer(from_fn(gate::within::<{ LIST_MAX as u64 }>))
        .layer(DefaultBodyLimit::max(LIST_MAX))
        .split_for_parts();
    let (files, of_files) = OpenApiRouter::new()
        .routes(routes!(blobs::get, blobs::put))
        .routes(routes!(blobs::post))
        .routes(routes!(uploads::create))
        .routes(routes!(uploads::state, uploads::append, uploads::forget))
        .routes(routes!(archive::zip))
        .split_for_parts();
    document.merge(of_lists);
    document.merge(of_scenes);
    document.merge(of_files);
    // A name has slashes, which a path of OpenAPI cannot say.
    document.merge(openapi::of_output());
    let files = files.route("/api/v1/jobs/{id}/outputs/{*name}", get(outputs::get));
    let quick = quick.merge(lists).layer(from_fn(gate::in_time::<{ gate::PATIENCE_S }>));
    let scenes = scenes.layer(from_fn(gate::in_time::<{ scenes::PATIENCE_S }>));
    let page = Router::new()
        .route("/", get(dashboard::page))
        .route("/assets/{*name}", get(dashboard::asset))
        .route(gate::SESSION_PATH, post(sign_in::sign_in).delete(sign_in::sign_out))
        .layer(from_fn(gate::within::<{ SIGN_IN_MAX as u64 }>))
        .layer(DefaultBodyLimit::max(SIGN_IN_MAX))
        .layer(from_fn(gate::in_time::<SIGN_IN_PATIENCE_S>));
    Router::new()
        .merge(page)
        .merge(quick)
        .merge(scenes)
        .merge(files)
        .merge(openapi::route(document))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(from_fn_with_state(api.clone(), gate::pass))
        .layer(from_fn(unread::say))
        .with_state(api)
}
