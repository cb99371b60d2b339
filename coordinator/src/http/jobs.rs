//! Jobs: which there are, what is done to them, their tasks and what those printed.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use grange_protocol::client::{JobAction, LogsQuery, Request, Response};
use grange_protocol::view::{JobDetail, JobView, LogView, TaskView};
use grange_protocol::{JobId, Priority, StepIndex, TaskIndex};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Asked, At, Told};
use super::gate::Caller;
use super::openapi::Problems;
use super::page::{self, Page, Part};
use super::{Api, Problem};
use crate::connection::{calls, no_job};

/// The jobs, the latest first
#[utoipa::path(
    get, path = "/api/v1/jobs", operation_id = "jobs", tag = "jobs", params(Part),
    responses((status = 200, body = Page<JobView>), Problems),
)]
pub(super) async fn list(
    State(api): State<Api>,
    Asked(part): Asked<Part>,
) -> Result<Json<Page<JobView>>, Problem> {
    let limit = part.limit()?;
    let before = JobId(part.cursor()?.unwrap_or(u32::MAX));
    let look = api.shared.farm.look(move |farm| {
        let older = farm.core.state().jobs.range(..before).rev();
        let ids: Vec<JobId> = older.map(|(id, _)| *id).take(limit + 1).collect();
        let next = (ids.len() > limit).then(|| ids[limit - 1].to_string());
        let items = ids.into_iter().take(limit).filter_map(|id| farm.job_view(id)).collect();
        Page { items, next }
    });
    Ok(Json(look.await?))
}

/// A job with its steps, and the tasks that run or have failed
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}",
    operation_id = "job", tag = "jobs", params(("id" = u32, Path, example = 1)),
    responses((status = 200, body = JobDetail), Problems),
)]
pub(super) async fn detail(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<u32>,
) -> Result<Json<JobDetail>, Problem> {
    let expected = |response| match response {
        Response::Job(detail) => Some(Json(*detail)),
        _ => None,
    };
    api.call(&caller, Request::Job(JobId(id)), expected).await
}

/// Stop a job for good
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs", params(("id" = u32, Path, example = 1)),
    responses((status = 200, body = JobView), Problems),
)]
pub(super) async fn cancel(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<u32>,
) -> Result<Json<JobView>, Problem> {
    act(&api, &caller, JobId(id), JobAction::Cancel).await
}

/// Begin no more of a job's tasks
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/pause", tag = "jobs", params(("id" = u32, Path, example = 1)),
    responses((status = 200, body = JobView), Problems),
)]
pub(super) async fn pause(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<u32>,
) -> Result<Json<JobView>, Problem> {
    act(&api, &caller, JobId(id), JobAction::Pause).await
}

/// Go on with a paused job
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/resume", tag = "jobs", params(("id" = u32, Path, example = 1)),
    responses((status = 200, body = JobView), Problems),
)]
pub(super) async fn resume(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<u32>,
) -> Result<Json<JobView>, Problem> {
    act(&api, &caller, JobId(id), JobAction::Resume).await
}

/// Try failed and canceled tasks anew
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/retry", tag = "jobs", params(("id" = u32, Path, example = 1)),
    responses((status = 200, body = JobView), Problems),
)]
pub(super) async fn retry(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<u32>,
) -> Result<Json<JobView>, Problem> {
    act(&api, &caller, JobId(id), JobAction::Retry).await
}

/// Keep a job and its files, however old they get
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/keep", tag = "jobs", params(("id" = u32, Path, example = 1)),
    responses((status = 200, body = JobView), Problems),
)]
pub(super) async fn keep(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<u32>,
) -> Result<Json<JobView>, Problem> {
    act(&api, &caller, JobId(id), JobAction::Keep).await
}

/// Let a job that was kept be collected like all others
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/release", tag = "jobs", params(("id" = u32, Path, example = 1)),
    responses((status = 200, body = JobView), Problems),
)]
pub(super) async fn release(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<u32>,
) -> Result<Json<JobView>, Problem> {
    act(&api, &caller, JobId(id), JobAction::Release).await
}

/// Forget a job that has ended, with its outputs and logs
///
/// Files that no other job needs go with the next round of the store.
#[utoipa::path(
    delete, path = "/api/v1/jobs/{id}",
    operation_id = "delete_job", tag = "jobs", params(("id" = u32, Path, example = 1)),
    responses((status = 204, description = "It is gone"), Problems),
)]
pub(super) async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<u32>,
) -> Result<StatusCode, Problem> {
    tell(&api, &caller, JobId(id), JobAction::Delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How urgent a job is from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Urgency {
    priority: Priority,
}

/// Change how urgent a job is
#[utoipa::path(
    put, path = "/api/v1/jobs/{id}/priority", tag = "jobs", params(("id" = u32, Path, example = 1)),
    request_body = Urgency, responses((status = 200, body = JobView), Problems),
)]
pub(super) async fn prioritise(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<u32>,
    Told(Urgency { priority }): Told<Urgency>,
) -> Result<Json<JobView>, Problem> {
    act(&api, &caller, JobId(id), JobAction::SetPriority(priority)).await
}

/// All tasks of a job, step by step
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/tasks",
    tag = "jobs", params(("id" = u32, Path, example = 1), Part),
    responses((status = 200, body = Page<TaskView>), Problems),
)]
pub(super) async fn tasks(
    State(api): State<Api>,
    At(id): At<u32>,
    Asked(part): Asked<Part>,
) -> Result<Json<Page<TaskView>>, Problem> {
    let (job, limit) = (JobId(id), part.limit()?);
    let from = match part.cursor::<String>()? {
        None => (StepIndex(0), TaskIndex(0)),
        Some(cursor) => place(&cursor)?,
    };
    let look = api.shared.farm.look(move |farm| farm.task_page(job, from, limit + 1));
    let Some(mut items) = look.await? else { return Err(no_job(&api.shared, job).await.into()) };
    let next = items.get(limit).map(|task| format!("{}.{}", task.step.0, task.task.0));
    items.truncate(limit);
    Ok(Json(Page { items, next }))
}

/// The task at which a page begins.
pub(super) fn place(cursor: &str) -> Result<(StepIndex, TaskIndex), Problem> {
    let (step, task) = cursor.split_once('.').unwrap_or((cursor, ""));
    Ok((StepIndex(page::parse(step)?), TaskIndex(page::parse(task)?)))
}

/// Which logs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfLogs {
    /// One task's, together with `task`.
    step: Option<u16>,
    task: Option<u32>,
    /// Only of attempts that failed.
    failed: Option<bool>,
    /// What the page before gave as `next`.
    cursor: Option<String>,
}

impl OfLogs {
    pub(super) fn query(&self, job: JobId) -> Result<LogsQuery, Problem> {
        let task = match (self.step, self.task) {
            (None, None) => None,
            (Some(step), Some(task)) => Some((StepIndex(step), TaskIndex(task))),
            _ => return Err(Problem::bad_request("give both `step` and `task`, or neither")),
        };
        let before = self.cursor.as_deref().map(page::parse).transpose()?.unwrap_or(0);
        Ok(LogsQuery { job, task, failed_only: self.failed.unwrap_or(false), before })
    }
}

/// What Blender printed in a job's attempts, the latest first, 50 to a page
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/logs",
    tag = "jobs", params(("id" = u32, Path, example = 1), OfLogs),
    responses((status = 200, body = Page<LogView>), Problems),
)]
pub(super) async fn logs(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<u32>,
    Asked(of): Asked<OfLogs>,
) -> Result<Json<Page<LogView>>, Problem> {
    let query = of.query(JobId(id))?;
    let expected = |response| match response {
        Response::Logs(page) => {
            Some(Json(Page { items: page.rows, next: page.next.map(|next| next.to_string()) }))
        }
        _ => None,
    };
    api.call(&caller, Request::Logs(query), expected).await
}

async fn act(
    api: &Api,
    caller: &Caller,
    job: JobId,
    action: JobAction,
) -> Result<Json<JobView>, Problem> {
    tell(api, caller, job, action).await?;
    view(api, job).await.map(Json)
}

async fn tell(api: &Api, caller: &Caller, job: JobId, action: JobAction) -> Result<(), Problem> {
    let request = Request::Act { job, action };
    match calls::answer(&api.shared, caller.role, &caller.name, request).await {
        Response::Refused(refusal) => Err(Problem::of_state(refusal)),
        Response::Done => Ok(()),
        _ => Err(Problem::unexpected()),
    }
}

pub(super) async fn view(api: &Api, job: JobId) -> Result<JobView, Problem> {
    let view = api.shared.farm.look(move |farm| farm.job_view(job)).await?;
    match view {
        Some(view) => Ok(view),
        None => Err(no_job(&api.shared, job).await.into()),
    }
}
