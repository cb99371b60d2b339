//! Whether the coordinator lives, and whether it can be asked: for those that start, stop and route
//! to it. Both need no token and tell nothing else.

use std::time::Duration;

use axum::extract::State;
use tokio::time::timeout;

use super::openapi::Problems;
use super::{Api, Problem};

pub(super) const ALIVE_PATH: &str = "/healthz";
pub(super) const READY_PATH: &str = "/readyz";

/// The loop answers within microseconds, unless it waits for a full disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the program runs
#[utoipa::path(
    get, path = "/healthz", operation_id = "alive", tag = "farm", security(()),
    responses((status = 200, body = String, content_type = "text/plain"), Problems),
)]
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// Whether it can be asked: its loop turns, and its journal can be written
#[utoipa::path(
    get, path = "/readyz", operation_id = "ready", tag = "farm", security(()),
    responses((status = 200, body = String, content_type = "text/plain"), Problems),
)]
pub(super) async fn ready(State(api): State<Api>) -> Result<&'static str, Problem> {
    if let Some(refusal) = api.shared.storage.refuses_all() {
        return Err(refusal.into());
    }
    match timeout(PATIENCE, api.shared.farm.look(|_| ())).await {
        Ok(answered) => answered.map(|()| "ok\n").map_err(Problem::from),
        Err(_) => Err(Problem::busy("the coordinator does not get on: is its disk full?")),
    }
}
