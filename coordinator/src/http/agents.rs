//! What people do to render hosts.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use grange_protocol::client::{AgentAction, Request, Response};
use grange_protocol::shot::Label;
use grange_protocol::view::AgentView;
use grange_protocol::{AgentId, Schedule};
use serde::Deserialize;
use utoipa::ToSchema;

use super::extract::{At, Told};
use super::gate::Caller;
use super::openapi::Problems;
use super::{Api, Problem};

/// Give an agent nothing more; it finishes what it has begun
#[utoipa::path(
    post, path = "/api/v1/agents/{id}/drain",
    operation_id = "drain_agent", tag = "farm", params(("id" = AgentId, Path)),
    responses((status = 200, body = AgentView), Problems),
)]
pub(super) async fn drain(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<AgentId>,
) -> Result<Json<AgentView>, Problem> {
    act(&api, &caller, id, AgentAction::Drain).await
}

/// Give a drained agent tasks again
#[utoipa::path(
    post, path = "/api/v1/agents/{id}/resume",
    operation_id = "resume_agent", tag = "farm", params(("id" = AgentId, Path)),
    responses((status = 200, body = AgentView), Problems),
)]
pub(super) async fn resume(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<AgentId>,
) -> Result<Json<AgentView>, Problem> {
    act(&api, &caller, id, AgentAction::Resume).await
}

/// Remove an agent from the farm
///
/// Its tasks go to others at once. To come back it joins anew.
#[utoipa::path(
    delete, path = "/api/v1/agents/{id}",
    operation_id = "remove_agent", tag = "farm", params(("id" = AgentId, Path)),
    responses((status = 204, description = "It is no member any more"), Problems),
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<AgentId>,
) -> Result<StatusCode, Problem> {
    tell(&api, &caller, id, AgentAction::Remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What jobs can ask for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tags {
    tags: BTreeSet<Label>,
}

/// Give an agent tags, in the place of those that it has
///
/// A job with `tags` goes only to agents that have them all.
#[utoipa::path(
    put, path = "/api/v1/agents/{id}/tags",
    operation_id = "tag_agent", tag = "farm", params(("id" = AgentId, Path)), request_body = Tags,
    responses((status = 200, body = AgentView), Problems),
)]
pub(super) async fn tags(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<AgentId>,
    Told(Tags { tags }): Told<Tags>,
) -> Result<Json<AgentView>, Problem> {
    act(&api, &caller, id, AgentAction::Tag(tags)).await
}

/// The hours of a week in which an agent takes tasks; `null`: all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Hours {
    #[schema(required = true)]
    schedule: Option<Schedule>,
}

/// Say when an agent takes tasks
///
/// In the coordinator's local time, such as `mon-fri 19:00-07:00, sat-sun`.
#[utoipa::path(
    put, path = "/api/v1/agents/{id}/schedule",
    operation_id = "schedule_agent", tag = "farm", params(("id" = AgentId, Path)),
    request_body = Hours, responses((status = 200, body = AgentView), Problems),
)]
pub(super) async fn schedule(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<AgentId>,
    Told(Hours { schedule }): Told<Hours>,
) -> Result<Json<AgentView>, Problem> {
    act(&api, &caller, id, AgentAction::Schedule(schedule)).await
}

async fn act(
    api: &Api,
    caller: &Caller,
    id: AgentId,
    action: AgentAction,
) -> Result<Json<AgentView>, Problem> {
    tell(api, caller, id, action).await?;
    let view = api.shared.farm.look(move |farm| farm.agent_view(id)).await?;
    // Somebody removed it in this very moment, or it was not there since the coordinator began.
    view.map(Json).ok_or_else(|| Problem::not_found(format!("agent {id} has not been here lately")))
}

async fn tell(
    api: &Api,
    caller: &Caller,
    agent: AgentId,
    action: AgentAction,
) -> Result<(), Problem> {
    let done = |response| matches!(response, Response::Done).then_some(());
    api.call(caller, Request::ActOnAgent { agent, action }, done).await
}
