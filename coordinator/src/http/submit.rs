//! A new job, and the key that makes it one job however often it is sent.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::{Extension, Json};
use grange_protocol::Submission;
use grange_protocol::shot::Label;
use grange_protocol::view::JobView;
use grange_scheduler::Once;

use super::extract::Told;
use super::gate::Caller;
use super::openapi::Problems;
use super::{Api, Problem, jobs};
use crate::connection::calls;

const KEY: &str = "idempotency-key";
const KEY_MAX: usize = 255;

/// What a new job is answered with: 201, where it is, and how.
type Created = (StatusCode, [(HeaderName, String); 1], Json<JobView>);

/// Submit a job
///
/// Its files and its manifest must be there. The same `Idempotency-Key` with the same body within
/// a week is the same job, also after the coordinator was started anew; with another body it is
/// refused.
#[utoipa::path(
    post, path = "/api/v1/jobs", tag = "jobs",
    request_body(content = Submission, example = json!({
        "name": "a test of the farm", "queue_anyway": true,
        "kind": { "noop": { "tasks": 3, "millis": 1 } },
    })),
    params((
        "Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
        description = "Any text; a token's keys are its own",
    )),
    responses(
        (status = 201, body = JobView, headers(("Location" = String))),
        Problems,
    ),
)]
pub(super) async fn submit(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Told(submission): Told<Submission>,
) -> Result<Created, Problem> {
    let once = once(&caller.name, &headers, &submission)?;
    let job = calls::submit(&api.shared, caller.name.clone(), submission, once).await?;
    let location = [(header::LOCATION, format!("/api/v1/jobs/{job}"))];
    Ok((StatusCode::CREATED, location, Json(jobs::view(&api, job).await?)))
}

/// The key in the headers, as one of whoever shows the token.
pub(super) fn once(
    caller: &Label,
    headers: &HeaderMap,
    submission: &Submission,
) -> Result<Option<Once>, Problem> {
    let Some(key) = headers.get(KEY) else { return Ok(None) };
    if !(1..=KEY_MAX).contains(&key.len()) {
        let detail = format!("an Idempotency-Key has 1 to {KEY_MAX} characters");
        return Err(Problem::bad_request(detail));
    }
    Ok(Some(calls::once(caller, key.as_bytes(), submission)?))
}
