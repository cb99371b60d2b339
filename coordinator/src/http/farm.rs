//! The farm as a whole: how it is, who is in it, what it has learned.

use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::{Extension, Json};
use grange_protocol::client::{Request, Response};
use grange_protocol::view::{AgentView, DecisionView, FarmView, FootprintView};

use super::gate::Caller;
use super::openapi::Problems;
use super::{Api, Problem};

/// Told without a token: whom to trust.
pub(super) const CA_PATH: &str = "/api/v1/ca.pem";

/// The certificate of the farm's authority
///
/// Without a token. Compare the SHA-256 hash of the certificate (DER) with `ca` of the connect
/// string before you trust it.
#[utoipa::path(
    get, path = "/api/v1/ca.pem", tag = "farm", security(()),
    responses(
        (status = 200, body = String, content_type = "application/x-pem-file"),
        Problems,
    ),
)]
pub(super) async fn ca(State(api): State<Api>) -> ([(HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, "application/x-pem-file")], api.shared.authority.pem())
}

/// How the farm is
#[utoipa::path(
    get, path = "/api/v1/farm", tag = "farm",
    responses((status = 200, body = FarmView), Problems),
)]
pub(super) async fn farm(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<FarmView>, Problem> {
    let expected = |response| match response {
        Response::Farm(view) => Some(Json(view)),
        _ => None,
    };
    api.call(&caller, Request::Farm, expected).await
}

/// The agents, their devices and how they are doing
#[utoipa::path(
    get, path = "/api/v1/agents", tag = "farm",
    responses((status = 200, body = Vec<AgentView>), Problems),
)]
pub(super) async fn agents(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<AgentView>>, Problem> {
    let expected = |response| match response {
        Response::Agents(views) => Some(Json(views)),
        _ => None,
    };
    api.call(&caller, Request::Agents, expected).await
}

/// What shots were measured to need
#[utoipa::path(
    get, path = "/api/v1/footprints", tag = "farm",
    responses((status = 200, body = Vec<FootprintView>), Problems),
)]
pub(super) async fn footprints(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<FootprintView>>, Problem> {
    let expected = |response| match response {
        Response::Footprints(views) => Some(Json(views)),
        _ => None,
    };
    api.call(&caller, Request::Footprints, expected).await
}

/// What was decided lately about the devices of connected agents, and why
#[utoipa::path(
    get, path = "/api/v1/decisions", tag = "farm",
    responses((status = 200, body = Vec<DecisionView>), Problems),
)]
pub(super) async fn decisions(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<DecisionView>>, Problem> {
    let expected = |response| match response {
        Response::Decisions(views) => Some(Json(views)),
        _ => None,
    };
    api.call(&caller, Request::Decisions, expected).await
}
