//! Tokens of this very API, and what newcomers join with; for admins.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use grange_protocol::client::{ApiToken, ApiTokenView, JoinToken, Request, Response, Role};
use grange_protocol::shot::Label;
use serde::Deserialize;
use utoipa::ToSchema;

use super::extract::{At, Told};
use super::gate::Caller;
use super::openapi::Problems;
use super::{Api, Problem};

/// Whom a token is for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    name: Label,
    role: Role,
    /// How long it is good, in seconds.
    ttl_s: u32,
}

/// The tokens that are good now, without their secrets
#[utoipa::path(
    get, path = "/api/v1/tokens", operation_id = "tokens", tag = "tokens",
    responses((status = 200, body = Vec<ApiTokenView>), Problems),
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<ApiTokenView>>, Problem> {
    let expected = |response| match response {
        Response::ApiTokens(tokens) => Some(Json(tokens)),
        _ => None,
    };
    api.call(&caller, Request::ApiTokens, expected).await
}

/// Make a token
///
/// Its connect string is told now and never again.
#[utoipa::path(
    post, path = "/api/v1/tokens",
    operation_id = "create_token", tag = "tokens", request_body = Wish,
    responses((status = 201, body = ApiToken), Problems),
)]
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Told(Wish { name, role, ttl_s }): Told<Wish>,
) -> Result<(StatusCode, Json<ApiToken>), Problem> {
    let expected = |response| match response {
        Response::ApiToken(token) => Some((StatusCode::CREATED, Json(token))),
        _ => None,
    };
    api.call(&caller, Request::CreateApiToken { name, role, ttl_s }, expected).await
}

/// Who is to join.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Newcomer {
    role: Role,
    /// How long there is to join, in seconds.
    ttl_s: u32,
}

/// Make a join string
///
/// Good for one newcomer: `grange-agent --join STRING` on a render host, `grange join STRING` for a
/// person.
#[utoipa::path(
    post, path = "/api/v1/join-tokens",
    operation_id = "create_join_token", tag = "tokens", request_body = Newcomer,
    responses((status = 201, body = JoinToken), Problems),
)]
pub(super) async fn join(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Told(Newcomer { role, ttl_s }): Told<Newcomer>,
) -> Result<(StatusCode, Json<JoinToken>), Problem> {
    let expected = |response| match response {
        Response::Token(token) => Some((StatusCode::CREATED, Json(token))),
        _ => None,
    };
    api.call(&caller, Request::CreateToken { role, ttl_s }, expected).await
}

/// Revoke a token by its name
#[utoipa::path(
    delete, path = "/api/v1/tokens/{name}",
    operation_id = "revoke_token", tag = "tokens", params(("name" = String, Path)),
    responses((status = 204, description = "It is good for nothing any more"), Problems),
)]
pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(name): At<Label>,
) -> Result<StatusCode, Problem> {
    let expected = |response| match response {
        Response::Done => Some(StatusCode::NO_CONTENT),
        _ => None,
    };
    api.call(&caller, Request::RevokeApiToken(name), expected).await
}
