//! What the coordinator stores, for how long, and what room it has.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::Problems;
use super::{Api, Problem};

const DAY_S: f64 = 24.0 * 3_600.0;

/// Assets and outputs on the coordinator's disk, and the rules by which they go. Times that are `null`
/// are for ever.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StorageView {
    /// Of all files, as of the latest round, which comes every ten minutes.
    stored_bytes: u64,
    /// Of the small pictures of frames, which are none of these files.
    pictures_bytes: u64,
    /// With more than that, downloaded jobs go before their time.
    limit_bytes: Option<u64>,
    /// `null` if the system does not say.
    disk_free_bytes: Option<u64>,
    disk_bytes: Option<u64>,
    /// What to do, as a sentence, if there is no room for files.
    full: Option<String>,
    /// Days since the end of jobs without outputs, and of those that somebody has downloaded.
    keep_days: Option<f64>,
    /// Of those that nobody has downloaded.
    keep_unfetched_days: Option<f64>,
    keep_logs_days: Option<f64>,
    /// Hours since somebody last asked for a file that no job has.
    keep_uploads_hours: Option<f64>,
    /// What has gone since the coordinator was started.
    collected_jobs: u64,
    collected_files: u64,
    collected_bytes: u64,
}

/// What is stored, for how long, and what room there is
#[utoipa::path(
    get, path = "/api/v1/storage", tag = "farm",
    responses((status = 200, body = StorageView), Problems),
)]
pub(super) async fn storage(State(api): State<Api>) -> Result<Json<StorageView>, Problem> {
    let (keep, kept) = (api.shared.keeping.rules(), api.shared.keeping.kept());
    let room = api.shared.storage.room();
    let limit = room.map(|(_, total)| keep.limit(total)).or(keep.bytes);
    Ok(Json(StorageView {
        stored_bytes: kept.stored_bytes,
        pictures_bytes: api.shared.pictures.bytes(),
        limit_bytes: limit.filter(|limit| *limit < u64::MAX),
        disk_free_bytes: room.map(|(free, _)| free),
        disk_bytes: room.map(|(_, total)| total),
        full: api.shared.storage.problem(),
        keep_days: days(keep.fetched),
        keep_unfetched_days: days(keep.unfetched),
        keep_logs_days: days(keep.logs),
        keep_uploads_hours: days(keep.uploads).map(|days| days * 24.0),
        collected_jobs: kept.collected_jobs,
        collected_files: kept.collected_files,
        collected_bytes: kept.collected_bytes,
    }))
}

fn days(duration: Duration) -> Option<f64> {
    (duration < Duration::MAX).then(|| duration.as_secs_f64() / DAY_S)
}
