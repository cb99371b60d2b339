//! What a job has rendered: the list, and each file by its name.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::{Extension, Json};
use grange_protocol::client::{OutputsQuery, Request, Response as Answer};
use grange_protocol::view::OutputView;
use grange_protocol::{JobId, OutputName, StepIndex};
use serde::Deserialize;
use utoipa::IntoParams;

use super::download::{self, Lifetime};
use super::extract::{Asked, At};
use super::gate::Caller;
use super::openapi::Problems;
use super::page::{self, LIMIT_MAX, Page};
use super::{Api, Problem};
use crate::connection::no_job;

/// Which outputs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfOutputs {
    /// One step's.
    step: Option<u16>,
    /// Rows at most; 1000 unless told.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// What the page before gave as `next`, or the `cursor` of an output: what was committed after
    /// it.
    cursor: Option<String>,
}

impl OfOutputs {
    /// What to ask, and how many rows of the answer to tell.
    pub(super) fn query(&self, job: JobId) -> Result<(OutputsQuery, usize), Problem> {
        let limit = self.limit.map_or(LIMIT_MAX, |limit| limit as usize);
        if !(1..=LIMIT_MAX).contains(&limit) {
            let detail = format!("`limit` is {limit}: give 1 to {LIMIT_MAX}");
            return Err(Problem::bad_request(detail));
        }
        let after = self.cursor.as_deref().map(page::parse::<u64>).transpose()?.unwrap_or(0);
        Ok((OutputsQuery { job, step: self.step.map(StepIndex), after }, limit))
    }
}

/// A job's committed outputs, in the order of their commit
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/outputs", operation_id = "outputs", tag = "outputs",
    params(("id" = u32, Path, example = 1), OfOutputs),
    responses((status = 200, body = Page<OutputView>), Problems),
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<u32>,
    Asked(of): Asked<OfOutputs>,
) -> Result<Json<Page<OutputView>>, Problem> {
    let (query, limit) = of.query(JobId(id))?;
    let expected = |answer| match answer {
        Answer::Outputs(page) => Some(page),
        _ => None,
    };
    let page = api.call(&caller, Request::Outputs(query), expected).await?;
    let (mut items, mut next) = (page.rows, page.next);
    if items.len() > limit {
        items.truncate(limit);
        next = items.last().map(|output| output.cursor);
    }
    Ok(Json(Page { items, next: next.map(|next| next.to_string()) }))
}

/// An output's file
///
/// Its name may be given with slashes or with `%2F`. Knows ranges and `If-None-Match`; the ETag is
/// the file's BLAKE3 hash.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/outputs/{name}", operation_id = "output", tag = "outputs",
    params(
        ("id" = u32, Path, example = 1),
        ("name" = String, Path),
        ("Range" = Option<String>, Header, description = "`bytes=FIRST-LAST`, one range"),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "*/*", headers(("ETag" = String))),
        (status = 206, body = Vec<u8>, content_type = "*/*", description = "The range asked for"),
        (status = 304, description = "You have it already"),
        Problems,
    ),
)]
pub(super) async fn get(
    State(api): State<Api>,
    At((id, name)): At<(u32, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let job = JobId(id);
    let unknown = || {
        let detail = format!(
            "job {job} has no output of that name, or not yet: /api/v1/jobs/{job}/outputs lists them"
        );
        Problem::not_found(detail)
    };
    let name: OutputName = name.parse().map_err(|_| unknown())?;
    let kind = download::media_type(name.file_name());
    let output = api.shared.archive.output(job, name).await.map_err(|error| error.refusal())?;
    let Some(output) = output else {
        let known = api.shared.farm.look(move |farm| farm.core.state().jobs.contains_key(&job));
        return Err(if known.await? { unknown() } else { no_job(&api.shared, job).await.into() });
    };
    api.shared.keeping.note_asked(job);
    let blob = output.output.blob;
    download::send(&api, blob.hash, &headers, kind, Lifetime::Checked).await
}
