//! Small pictures of what was rendered, in three sizes. Agents have made most of them
//! ([`crate::pictures`]); one that is not there is made when somebody wants to see it.
//!
//! A file never changes, so neither does its picture: browsers keep them for good.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use grange_blender::thumbnail;
use grange_protocol::BlobHash;
use grange_protocol::file::PICTURE_SIDES;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::extract::At;
use super::openapi::Problems;
use super::{Api, Problem};

/// Files of which pictures are made at once; each takes a core.
const MAKERS: usize = 2;
/// How long one waits for the others.
const TURN: Duration = Duration::from_secs(20);

/// How large a picture is at most, on its longer side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Size {
    /// 192 pixels.
    Small,
    /// 480 pixels.
    Medium,
    /// 1,600 pixels.
    Large,
}

/// Who makes pictures that are not there.
pub(super) fn makers() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAKERS))
}

/// A small picture of a rendered file
///
/// As JPEG; of EXR and other files with open range tone-mapped. 422 says that the file is none that
/// can be shown.
#[utoipa::path(
    get, path = "/api/v1/pictures/{hash}/{size}", operation_id = "picture", tag = "outputs",
    params(("hash" = BlobHash, Path), ("size" = inline(Size), Path)),
    responses(
        (status = 200, body = Vec<u8>, content_type = "image/jpeg", headers(("ETag" = String))),
        (status = 304, description = "You have it already"),
        Problems,
    ),
)]
pub(super) async fn picture(
    State(api): State<Api>,
    At((hash, size)): At<(BlobHash, Size)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let etag = format!("\"{hash}-{}\"", size.side());
    let common = [
        (header::ETAG, etag.clone()),
        (header::CACHE_CONTROL, "private, max-age=31536000, immutable".into()),
        (header::CONTENT_TYPE, "image/jpeg".into()),
    ];
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| known.contains(&etag)) {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    let bytes = match kept(&api, hash, size).await? {
        Some(bytes) => bytes,
        None => make(&api, hash, size).await?,
    };
    Ok((common, bytes).into_response())
}

async fn kept(api: &Api, hash: BlobHash, size: Size) -> Result<Option<Vec<u8>>, Problem> {
    let shared = api.shared.clone();
    let read = spawn_blocking(move || shared.pictures.get(hash, size as usize));
    read.await.map_err(|_| Problem::unexpected())
}

async fn make(api: &Api, hash: BlobHash, size: Size) -> Result<Vec<u8>, Problem> {
    if api.shared.store.len_of(hash).is_none() {
        return Err(Problem::not_found(format!("the farm has no file {hash}")));
    }
    let turn = tokio::time::timeout(TURN, api.makers.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        return Err(Problem::busy("too many pictures are being made: try again in a moment"));
    };
    if let Some(bytes) = kept(api, hash, size).await? {
        return Ok(bytes);
    }
    let shared = api.shared.clone();
    let made = spawn_blocking(move || {
        // Kept until the end, also when nobody waits any more.
        let _turn = turn;
        let mut sizes = thumbnail::jpegs(&shared.store.path(hash), PICTURE_SIDES)?;
        shared.pictures.counts.made.fetch_add(1, Ordering::Relaxed);
        if shared.storage.problem().is_none() {
            shared.pictures.keep(hash, &sizes);
        }
        Ok(std::mem::take(&mut sizes[size as usize]))
    });
    made.await.map_err(|_| Problem::unexpected())?.map_err(|error: thumbnail::NoPicture| {
        let detail = format!("the file cannot be shown: {error}");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "no_picture", detail)
    })
}

impl Size {
    const fn side(self) -> u32 {
        PICTURE_SIDES[self as usize]
    }
}
