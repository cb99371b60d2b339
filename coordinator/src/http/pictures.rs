//! Small pictures of what was rendered, in three sizes, made when somebody wants to see one.
//!
//! A file never changes, so neither does its picture: browsers keep them for good, and the latest
//! ones are kept here in memory. Nothing is made for nobody.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use grange_blender::thumbnail;
use grange_protocol::BlobHash;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::extract::At;
use super::openapi::Problems;
use super::{Api, Problem};

/// Pictures that are made at once; each takes a core.
const MAKERS: usize = 2;
/// Bytes of pictures that are kept. Full, the oldest goes.
const KEPT_MAX_BYTES: usize = 64 << 20;
/// How long a picture waits for one of the others.
const TURN: Duration = Duration::from_secs(20);

/// How large a picture is at most, on its longer side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Size {
    /// 192 pixels.
    Small,
    /// 480 pixels.
    Medium,
    /// 1,600 pixels.
    Large,
}

/// Pictures that were made lately, and who makes new ones.
pub(super) struct Pictures {
    makers: Arc<Semaphore>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    pictures: HashMap<(BlobHash, Size), Bytes>,
    order: VecDeque<(BlobHash, Size)>,
    bytes: usize,
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
    let bytes = match api.pictures.kept(hash, size) {
        Some(bytes) => bytes,
        None => make(&api, hash, size).await?,
    };
    Ok((common, bytes).into_response())
}

async fn make(api: &Api, hash: BlobHash, size: Size) -> Result<Bytes, Problem> {
    if api.shared.store.len_of(hash).is_none() {
        return Err(Problem::not_found(format!("the farm has no file {hash}")));
    }
    let turn = tokio::time::timeout(TURN, api.pictures.makers.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        return Err(Problem::busy("too many pictures are being made: try again in a moment"));
    };
    if let Some(bytes) = api.pictures.kept(hash, size) {
        return Ok(bytes);
    }
    let path = api.shared.store.path(hash);
    let made = spawn_blocking(move || {
        // Kept until the end, also when nobody waits any more.
        let _turn = turn;
        thumbnail::jpeg(&path, size.side())
    });
    let bytes: Bytes = made
        .await
        .map_err(|_| Problem::unexpected())?
        .map_err(|error| {
            let detail = format!("the file cannot be shown: {error}");
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "no_picture", detail)
        })?
        .into();
    api.pictures.keep(hash, size, bytes.clone());
    Ok(bytes)
}

impl Default for Pictures {
    fn default() -> Self {
        Self { makers: Arc::new(Semaphore::new(MAKERS)), kept: Mutex::default() }
    }
}

impl Pictures {
    fn kept(&self, hash: BlobHash, size: Size) -> Option<Bytes> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.pictures.get(&(hash, size)).cloned()
    }

    fn keep(&self, hash: BlobHash, size: Size, bytes: Bytes) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += bytes.len();
        if let Some(before) = kept.pictures.insert((hash, size), bytes) {
            kept.bytes -= before.len();
        } else {
            kept.order.push_back((hash, size));
        }
        while kept.bytes > KEPT_MAX_BYTES {
            let Some(oldest) = kept.order.pop_front() else { break };
            let gone = kept.pictures.remove(&oldest).map_or(0, |bytes| bytes.len());
            kept.bytes -= gone;
        }
    }
}

impl Size {
    const fn side(self) -> u32 {
        match self {
            Self::Small => 192,
            Self::Medium => 480,
            Self::Large => 1_600,
        }
    }
}
