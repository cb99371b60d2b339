//! Everybody who has joined, for admins.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use grange_protocol::AgentId;
use grange_protocol::client::{MemberView, Request, Response};

use super::extract::At;
use super::gate::Caller;
use super::openapi::Problems;
use super::{Api, Problem};

/// Everybody who has joined, agents too
///
/// Whoever has been here for the longest time first. Tokens of this API are listed by `/tokens`.
#[utoipa::path(
    get, path = "/api/v1/members", operation_id = "members", tag = "members",
    responses((status = 200, body = Vec<MemberView>), Problems),
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<MemberView>>, Problem> {
    let expected = |response| match response {
        Response::Members(members) => Some(Json(members)),
        _ => None,
    };
    api.call(&caller, Request::Members, expected).await
}

/// Strike a member off
///
/// Whoever it is, is unknown from now on, on open connections too; to come back they join anew. Tokens
/// that they have made are good for as long as they were.
#[utoipa::path(
    delete, path = "/api/v1/members/{id}",
    operation_id = "remove_member", tag = "members", params(("id" = AgentId, Path)),
    responses((status = 204, description = "They are no member any more"), Problems),
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<AgentId>,
) -> Result<StatusCode, Problem> {
    let expected = |response| match response {
        Response::Done => Some(StatusCode::NO_CONTENT),
        _ => None,
    };
    api.call(&caller, Request::RemoveMember(id), expected).await
}
