//! What happened lately.

use axum::extract::State;
use axum::{Extension, Json};
use grange_protocol::client::{HistoryQuery, Request, Response};
use grange_protocol::history::{About, HistoryView};
use grange_protocol::{AgentId, JobId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::Asked;
use super::gate::Caller;
use super::openapi::Problems;
use super::page::{self, Page};
use super::{Api, Problem};

/// Which part of the history; all that is said here must fit.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfHistory {
    about: Option<About>,
    /// One job's, also of one that is gone.
    job: Option<u32>,
    /// One agent's, also of one that was removed.
    agent: Option<AgentId>,
    /// Rows at most; 100 unless told.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// What the page before gave as `next`, or the `cursor` of an event: what happened before it.
    cursor: Option<String>,
}

impl OfHistory {
    fn query(&self) -> Result<HistoryQuery, Problem> {
        let limit = page::limit(self.limit)?;
        let before = self.cursor.as_deref().map(page::parse).transpose()?.unwrap_or(0);
        let (about, job, agent) = (self.about, self.job.map(JobId), self.agent);
        Ok(HistoryQuery { about, job, agent, before, limit: limit as u32 })
    }
}

/// What happened to the farm's jobs and agents and to the farm itself, the latest first
#[utoipa::path(
    get, path = "/api/v1/history", operation_id = "history", tag = "farm", params(OfHistory),
    responses((status = 200, body = Page<HistoryView>), Problems),
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Asked(of): Asked<OfHistory>,
) -> Result<Json<Page<HistoryView>>, Problem> {
    let expected = |response| match response {
        Response::History(page) => {
            Some(Json(Page { items: page.rows, next: page.next.map(|next| next.to_string()) }))
        }
        _ => None,
    };
    api.call(&caller, Request::History(of.query()?), expected).await
}
