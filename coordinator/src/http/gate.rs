//! What every request passes: a bound on how many there are, its token, a bound on its time.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use grange_protocol::client::Role;
use grange_protocol::connect::parse_token;
use grange_protocol::shot::Label;
use grange_scheduler::TokenHash;
use tokio::time::timeout;

use super::serve::Guest;
use super::{Api, Problem, dashboard, farm, health, origin, sign_in};
use crate::connection::forbidden;

/// How long an answer may take that is not a file, in seconds.
pub(super) const PATIENCE_S: u64 = 30;
const PATIENCE: Duration = Duration::from_secs(PATIENCE_S);

/// What is told without a token: whom to trust, and whether there is anybody.
const FREE_PATHS: [&str; 3] = [farm::CA_PATH, health::ALIVE_PATH, health::READY_PATH];

/// Where browsers sign in and out.
pub(super) const SESSION_PATH: &str = "/session";

/// Bytes that are read although they are not wanted.
const WASTE_MAX: u64 = 64 << 20;
/// The same of somebody who may have shown nothing, and for how long.
const WASTE_OF_STRANGERS_MAX: u64 = 64 << 10;
const WASTE_OF_STRANGERS: Duration = Duration::from_secs(5);

/// Whose token a request has shown.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) name: Label,
    pub(super) role: Role,
    token: TokenHash,
}

pub(super) async fn pass(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let is_page = is_of_page(request.uri().path());
    let places = if FREE_PATHS.contains(&request.uri().path()) {
        &api.short_requests
    } else if is_page {
        &api.free_requests
    } else {
        &api.requests
    };
    let Ok(place) = places.try_acquire() else { return too_many().into_response() };
    let mut response = match admit(&api, &mut request, is_page).await {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            drop(place);
            hear_out(request).await;
            problem.into_response()
        }
    };
    dashboard::guard(is_page, &mut response);
    response
}

/// Takes a short body of somebody who is refused. The rest of one that is on its way when its answer is
/// sent costs them the connection, over HTTP/1, and often the answer too.
async fn hear_out(request: Request) {
    let is_short = announced(request.headers()).is_some_and(|len| len <= WASTE_OF_STRANGERS_MAX);
    let asks = request.headers().contains_key(header::EXPECT);
    if is_short && !asks && request.version() < Version::HTTP_2 {
        let _ = timeout(WASTE_OF_STRANGERS, throw_away(request)).await;
    }
}

/// Reads what comes with a request to its end.
async fn throw_away(request: Request) {
    let mut body = request.into_body().into_data_stream();
    while let Some(Ok(_)) = body.next().await {}
}

/// The dashboard's own files, which tell nothing, and the door.
fn is_of_page(path: &str) -> bool {
    path == "/" || path == SESSION_PATH || path.starts_with("/assets/")
}

async fn admit(api: &Api, request: &mut Request, is_page: bool) -> Result<(), Problem> {
    if is_page {
        api.hosts.check(request.headers(), request.uri())?;
        return if request.method().is_safe() { Ok(()) } else { origin::check_request(request) };
    }
    if FREE_PATHS.contains(&request.uri().path()) {
        return Ok(());
    }
    if let Some(refusal) = api.shared.storage.refuses_all() {
        return Err(refusal.into());
    }
    // The disk may become full meanwhile.
    let caller = timeout(PATIENCE, identify(api, shown(api, request)));
    let caller = caller.await.map_err(|_| too_slow())?;
    let guest = request.extensions().get::<Guest>();
    let caller = caller.inspect_err(|problem| {
        if let Some(guest) = guest.filter(|_| problem.is_of_token()) {
            let what = "a request to the HTTP API was refused";
            api.shared.refusals.note(what, guest.from(), "it shows no token, or no good one");
        }
    })?;
    if guest.is_some_and(|guest| !guest.is_known()) {
        return Err(too_many());
    }
    // Whoever only looks reads; what is not told in words is not changed either.
    if caller.role == Role::Viewer && !request.method().is_safe() {
        return Err(forbidden(caller.role).into());
    }
    request.extensions_mut().insert(caller);
    Ok(())
}

pub(super) async fn in_time<const S: u64>(request: Request, next: Next) -> Response {
    timeout(Duration::from_secs(S), next.run(request))
        .await
        .unwrap_or_else(|_| too_slow().into_response())
}

fn too_many() -> Problem {
    Problem::busy("the coordinator has too many requests at once: try again in a moment")
}

fn too_slow() -> Problem {
    Problem::busy("the request took too long to arrive or to be answered: try again in a moment")
}

/// Refuses a body that says itself that it is too large, before it is sent if the client asks
/// first. What a client sends without asking is taken up to a bound and thrown away: who is sending
/// reads no answer.
pub(super) async fn within<const MAX: u64>(request: Request, next: Next) -> Response {
    match announced(request.headers()) {
        Some(len) if len > MAX => {
            if is_sent_anyway(request.headers()) {
                throw_away(request).await;
            }
            let detail = format!(
                "the body has {len} bytes, and this request takes {MAX} at most: send it in parts"
            );
            Problem::too_large(detail).into_response()
        }
        _ => next.run(request).await,
    }
}

/// Whether a body that is not wanted is better read to its end.
pub(super) fn is_sent_anyway(headers: &HeaderMap) -> bool {
    let asks = headers.contains_key(header::EXPECT);
    !asks && announced(headers).is_some_and(|len| len <= WASTE_MAX)
}

impl Caller {
    /// Whether the token is still good.
    pub(super) async fn is_welcome(&self, api: &Api) -> bool {
        let token = self.token;
        let look =
            api.shared.farm.look(move |farm| farm.core.api_token(token, farm.now()).is_some());
        look.await.unwrap_or(false)
    }
}

/// How many bytes a body has, as its sender says.
pub(super) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn identify(api: &Api, shown: Result<TokenHash, Problem>) -> Result<Caller, Problem> {
    let token = shown?;
    let look = api.shared.farm.look(move |farm| {
        let known = farm.core.api_token(token, farm.now())?;
        Some(Caller { name: known.name.clone(), role: known.role, token })
    });
    look.await?.ok_or_else(unknown)
}

/// The token in a header; else in the cookie, if the dashboard itself asks.
fn shown(api: &Api, request: &Request) -> Result<TokenHash, Problem> {
    let headers = request.headers();
    if let Some(token) = bearer(headers) {
        return token;
    }
    let token = sign_in::token_of(api, headers).ok_or_else(|| {
        Problem::unauthorised(
            "show a token as `Authorization: Bearer TOKEN`: `grange token create --api` makes one",
        )
    })?;
    api.hosts.check(headers, request.uri())?;
    origin::check_request(request)?;
    Ok(token)
}

/// The token that a header has; none if there is no such header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<Result<TokenHash, Problem>> {
    let shown = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = shown.split_once(' ')?;
    let secret = parse_token(token.trim()).filter(|_| scheme.eq_ignore_ascii_case("bearer"));
    Some(secret.map(|secret| TokenHash::of(&secret)).ok_or_else(unknown))
}

fn unknown() -> Problem {
    Problem::unauthorised(
        "the token is unknown, has expired or was revoked: ask the farm's admin for a new one \
         (`grange token create --api`)",
    )
}
