//! Files that come in parts, so that they go on where a connection broke. In the terms of the IETF's
//! draft [Resumable Uploads for HTTP], of which docs/http-api.md says what is left out.
//!
//! Owns which uploads there are, whose they are, and who writes to one: whoever came last. The one
//! before may be at the end of a connection that broke without anybody knowing, so it is told to stop
//! and its last bytes are waited for. The bytes are the store's ([`grange_store::Upload`]).
//!
//! [Resumable Uploads for HTTP]: https://datatracker.ietf.org/doc/draft-ietf-httpbis-resumable-upload/

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use grange_protocol::BlobHash;
use grange_protocol::connect::parse_token;
use grange_protocol::file::Blob;
use grange_protocol::limits::BLOB_MAX;
use grange_store::{Announced, Store, Upload};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as Turns, OwnedMutexGuard, watch};
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::extract::{Asked, At};
use super::gate::{Caller, announced, is_sent_anyway};
use super::openapi::Problems;
use super::{Api, Problem, blobs};

/// Uploads that somebody may go on with, and those of one name. Of more, those go that nobody has
/// asked for for the longest time.
const UPLOADS: usize = 1_024;
const OF_ONE_NAME: usize = 64;
/// One that nobody has asked for for so long goes anyway.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// How long a request waits for the one before it, which may be making a large file durable.
const TURN: Duration = Duration::from_secs(45);

const PART: &str = "application/partial-upload";
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const COMPLETE: HeaderName = HeaderName::from_static("upload-complete");
const LIMIT: HeaderName = HeaderName::from_static("upload-limit");
const YES: &str = "?1";
const NO: &str = "?0";

/// What the whole file shall be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    hash: Option<BlobHash>,
}

/// How far an upload is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UploadView {
    /// Bytes that have come.
    offset: u64,
    /// Bytes of the whole file.
    len: u64,
    /// The file, once it is stored.
    blob: Option<Blob>,
}

/// Begin an upload
///
/// Without content, for a file that may go on where its connection broke. `Location` is where its
/// bytes go, with PATCH. It is kept for a day after it was last asked for, and no longer than the
/// coordinator's host runs.
#[utoipa::path(
    post, path = "/api/v1/uploads", operation_id = "create_upload", tag = "files",
    params(
        ("hash" = Option<BlobHash>, Query, description = "What the whole file shall have"),
        ("Upload-Length" = String, Header, description = "Bytes of the whole file"),
        ("Upload-Complete" = Option<String>, Header, description = "`?0`, if it is said"),
    ),
    responses(
        (
            status = 201, description = "It may come",
            headers(("Location" = String), ("Upload-Limit" = String)),
        ),
        Problems,
    ),
)]
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Asked(Wish { hash }): Asked<Wish>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let len = length(&headers)?;
    blobs::room(&api, len)?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| Problem::unexpected())?;
    let what = Announced { key: key_of(&id, &caller), owner: owner(&caller), len, hash };
    let (uploads, store) = (api.uploads.clone(), api.shared.store.clone());
    let begun = spawn_blocking(move || uploads.begin(&store, what)).await;
    begun.map_err(|_| Problem::unexpected())??;
    let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let location = format!("/api/v1/uploads/{digits}");
    Ok((StatusCode::CREATED, [(header::LOCATION, location), (LIMIT, limit())]).into_response())
}

/// How far an upload is
///
/// The same is told by HEAD. Whoever is writing to it is told to stop, for whoever asks will go on.
#[utoipa::path(
    get, path = "/api/v1/uploads/{id}", operation_id = "upload", tag = "files",
    params(("id" = String, Path)),
    responses(
        (
            status = 200, body = UploadView,
            headers(
                ("Upload-Offset" = String), ("Upload-Length" = String), ("Upload-Complete" = String),
                ("Upload-Limit" = String),
            ),
        ),
        Problems,
    ),
)]
pub(super) async fn state(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<String>,
) -> Result<Response, Problem> {
    let turn = api.uploads.take(key(&id, &caller)?).await?;
    let len = turn.known.what.len;
    let (offset, blob) = match &*turn.stage {
        Stage::Open(upload) => (turn.offset_of(upload)?, None),
        Stage::Whole(blob) => (blob.len, Some(*blob)),
        Stage::Gone => return Err(unknown()),
    };
    let told = [
        (OFFSET, offset.to_string()),
        (LENGTH, len.to_string()),
        (COMPLETE, if blob.is_some() { YES } else { NO }.into()),
        (LIMIT, limit()),
        (header::CACHE_CONTROL, "no-store".into()),
    ];
    Ok((told, Json(UploadView { offset, len, blob })).into_response())
}

/// Append to an upload
///
/// What comes of a body that breaks off stays. The last part says `Upload-Complete: ?1`, and its answer
/// tells the file's hash; it may be empty, if all has come.
#[utoipa::path(
    patch, path = "/api/v1/uploads/{id}", operation_id = "append_to_upload", tag = "files",
    params(
        ("id" = String, Path),
        ("Upload-Offset" = String, Header, description = "Bytes before this part"),
        ("Upload-Complete" = String, Header, description = "`?1` with the last part, else `?0`"),
    ),
    request_body(content = Vec<u8>, content_type = "application/partial-upload"),
    responses(
        (
            status = 201, body = Blob, description = "The file is stored, and durable",
            headers(("Location" = String), ("Upload-Complete" = String)),
        ),
        (
            status = 204, description = "The part has come",
            headers(("Upload-Offset" = String), ("Upload-Complete" = String)),
        ),
        (
            status = 409, body = Problem, content_type = "application/problem+json",
            description = "It is somewhere else, which `Upload-Offset` tells; or another request \
                           goes on with it, or it is complete",
        ),
        Problems,
    ),
)]
pub(super) async fn append(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    // It has an end also if nobody waits for its answer any more.
    let appending = tokio::spawn(async move {
        let mut unread = Some(body);
        let done = append_part(&api, &caller, &id, &headers, &mut unread).await;
        if let Some(body) = unread.filter(|_| is_sent_anyway(&headers)) {
            let _ = blobs::drain(body).await;
        }
        done
    });
    appending.await.map_err(|_| Problem::unexpected())?
}

/// Takes the body only when it is wanted.
async fn append_part(
    api: &Api,
    caller: &Caller,
    id: &str,
    headers: &HeaderMap,
    body: &mut Option<Body>,
) -> Result<Response, Problem> {
    let part = Part::of(headers)?;
    let turn = api.uploads.take(key(id, caller)?).await?;
    turn.append(api, part, body).await
}

/// Forget an upload
#[utoipa::path(
    delete, path = "/api/v1/uploads/{id}", operation_id = "delete_upload", tag = "files",
    params(("id" = String, Path)),
    responses((status = 204, description = "Nobody goes on with it"), Problems),
)]
pub(super) async fn forget(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<String>,
) -> Result<StatusCode, Problem> {
    let mut turn = api.uploads.take(key(&id, &caller)?).await?;
    if let Stage::Gone = *turn.stage {
        return Err(unknown());
    }
    turn.forget(&api.uploads).await;
    Ok(StatusCode::NO_CONTENT)
}

/// The uploads that somebody may go on with. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Uploads(Arc<Mutex<BTreeMap<BlobHash, Arc<Known>>>>);

struct Known {
    what: Announced,
    /// Requests so far, of which the latest one goes on.
    latest: watch::Sender<u64>,
    used: Mutex<Instant>,
    stage: Arc<Turns<Stage>>,
}

enum Stage {
    Open(Arc<Upload>),
    Whole(Blob),
    Gone,
}

/// An upload that is one request's alone.
struct Turn {
    number: u64,
    known: Arc<Known>,
    stage: OwnedMutexGuard<Stage>,
}

/// What a request says of the part that it brings.
struct Part {
    offset: u64,
    /// Bytes; `None` if its sender does not say.
    len: Option<u64>,
    is_last: bool,
}

impl Uploads {
    /// With those that an earlier process has left.
    pub(super) fn of(store: &Arc<Store>) -> Self {
        let left = store.uploads().unwrap_or_else(|error| {
            tracing::warn!("what has come of uploads cannot be read: {error}");
            Vec::new()
        });
        let known = left.into_iter().map(|upload| (upload.announced().key, Known::new(upload)));
        Self(Arc::new(Mutex::new(known.collect())))
    }

    /// Blocks.
    fn begin(&self, store: &Arc<Store>, what: Announced) -> Result<(), Problem> {
        let upload = store.begin_upload(what).map_err(blobs::not_stored)?;
        let mut left = Vec::new();
        let has_room = {
            let mut known = self.lock();
            let has_room = make_room(&mut known, what.owner, &mut left);
            if has_room {
                known.insert(what.key, Known::new(upload));
            } else {
                left.push(upload);
            }
            has_room
        };
        left.iter().for_each(|upload| upload.forget());
        let busy = "too many uploads are on their way: try again in a moment";
        has_room.then_some(()).ok_or_else(|| Problem::busy(busy))
    }

    /// Has whoever is writing to an upload stop, and waits for that.
    async fn take(&self, key: BlobHash) -> Result<Turn, Problem> {
        let known = self.lock().get(&key).cloned().ok_or_else(unknown)?;
        known.touch();
        let mut number = 0;
        known.latest.send_modify(|latest| {
            *latest += 1;
            number = *latest;
        });
        let stage = tokio::select! {
            stage = known.stage.clone().lock_owned() => stage,
            problem = known.superseded(number) => return Err(problem),
            () = tokio::time::sleep(TURN) => {
                return Err(Problem::busy("the file is being stored: ask again in a moment"));
            }
        };
        Ok(Turn { number, known, stage })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BlobHash, Arc<Known>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets old ones go, and those that one more would be too many for. Whether there is room now.
fn make_room(
    known: &mut BTreeMap<BlobHash, Arc<Known>>,
    owner: u64,
    left: &mut Vec<Arc<Upload>>,
) -> bool {
    let mut by_age: Vec<Arc<Known>> = known.values().cloned().collect();
    by_age.sort_by_key(|one| one.used());
    let mut of_owner = by_age.iter().filter(|one| one.what.owner == owner).count();
    for one in by_age {
        let is_owners = one.what.owner == owner;
        let crowded = known.len() >= UPLOADS || (is_owners && of_owner >= OF_ONE_NAME);
        if !crowded && one.used().elapsed() < STALE {
            continue;
        }
        // Somebody is writing to it.
        let Ok(mut stage) = one.stage.try_lock() else { continue };
        if let Stage::Open(upload) = std::mem::replace(&mut *stage, Stage::Gone) {
            left.push(upload);
        }
        known.remove(&one.what.key);
        of_owner -= usize::from(is_owners);
    }
    known.len() < UPLOADS && of_owner < OF_ONE_NAME
}

impl Known {
    fn new(upload: Arc<Upload>) -> Arc<Self> {
        Arc::new(Self {
            what: *upload.announced(),
            latest: watch::Sender::new(0),
            used: Mutex::new(Instant::now()),
            stage: Arc::new(Turns::new(Stage::Open(upload))),
        })
    }

    /// Ends when a later request than this one has come.
    async fn superseded(&self, number: u64) -> Problem {
        let mut latest = self.latest.subscribe();
        // Its sender is this value's.
        let _ = latest.wait_for(|latest| *latest != number).await;
        tracing::debug!("an upload goes on over another connection");
        conflict("another request goes on with this upload: leave it to that one")
    }

    fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Turn {
    async fn append(
        mut self,
        api: &Api,
        part: Part,
        body: &mut Option<Body>,
    ) -> Result<Response, Problem> {
        let upload = match &*self.stage {
            Stage::Open(upload) => upload.clone(),
            Stage::Whole(_) => return Err(conflict("the upload is complete: GET tells its file")),
            Stage::Gone => return Err(unknown()),
        };
        let (known, number, len) = (self.known.clone(), self.number, self.known.what.len);
        let there = self.offset_of(&upload)?;
        part.check(there, len)?;
        blobs::room(api, len - there)?;
        let _permit = tokio::select! {
            permit = blobs::turn(api) => permit?,
            problem = known.superseded(number) => return Err(problem),
        };
        let opened = spawn_blocking(move || upload.go_on()).await;
        let receiving = opened.map_err(|_| Problem::unexpected())?.map_err(blobs::not_stored)?;
        // It may have been collected just now.
        part.check(receiving.offset(), len)?;
        let body = body.take().unwrap_or_default();
        let written = blobs::write(receiving, 0, body, known.superseded(number)).await;
        let (receiving, arrived) = match written {
            Ok(written) => written,
            Err(problem) => {
                self.forget(&api.uploads).await;
                return Err(problem);
            }
        };
        arrived?;
        let offset = receiving.offset();
        if !part.is_last {
            let told = [(OFFSET, offset.to_string()), (COMPLETE, NO.into())];
            return Ok((StatusCode::NO_CONTENT, told).into_response());
        }
        if offset < len {
            return Err(inconsistent(offset, len));
        }
        match blobs::finish(receiving).await {
            Ok(hash) => {
                let blob = Blob { hash, len };
                *self.stage = Stage::Whole(blob);
                let location = format!("/api/v1/blobs/{hash}");
                let told = [(header::LOCATION, location), (COMPLETE, YES.into())];
                Ok((StatusCode::CREATED, told, Json(blob)).into_response())
            }
            Err(problem) => {
                self.forget(&api.uploads).await;
                Err(problem.with(COMPLETE, HeaderValue::from_static(YES)))
            }
        }
    }

    fn offset_of(&self, upload: &Upload) -> Result<u64, Problem> {
        upload.offset().ok_or_else(unknown)
    }

    async fn forget(&mut self, uploads: &Uploads) {
        uploads.lock().remove(&self.known.what.key);
        if let Stage::Open(upload) = std::mem::replace(&mut *self.stage, Stage::Gone) {
            let _ = spawn_blocking(move || upload.forget()).await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.known.touch();
    }
}

impl Part {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes() != PART.as_bytes()) {
            let detail = format!("send a part of a file as `Content-Type: {PART}`");
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_a_part", detail));
        }
        let offset = number(headers, &OFFSET).ok_or_else(|| {
            Problem::bad_request("say with Upload-Offset how many bytes were before this part")
        })?;
        let is_last = match headers.get(COMPLETE).map(HeaderValue::as_bytes) {
            Some(b"?1") => true,
            Some(b"?0") => false,
            _ => {
                let detail = "say with Upload-Complete whether this part is the last: `?1` or `?0`";
                return Err(Problem::bad_request(detail));
            }
        };
        Ok(Self { offset, len: announced(headers), is_last })
    }

    /// Whether it belongs after the bytes that are `there`, of an upload of so many.
    fn check(&self, there: u64, len: u64) -> Result<(), Problem> {
        if self.offset != there {
            let detail = format!("the upload is at byte {there} and not at {}", self.offset);
            return Err(Problem::new(StatusCode::CONFLICT, "wrong_offset", detail)
                .with(OFFSET, HeaderValue::from(there)));
        }
        let end = self.len.map(|part| there.saturating_add(part));
        match end {
            Some(end) if end > len || (self.is_last && end < len) => Err(inconsistent(end, len)),
            _ => Ok(()),
        }
    }
}

/// The whole file's length.
fn length(headers: &HeaderMap) -> Result<u64, Problem> {
    if headers.get(COMPLETE).is_some_and(|told| told.as_bytes() != NO.as_bytes())
        || announced(headers).is_some_and(|content| content > 0)
    {
        return Err(Problem::bad_request(
            "begin an upload without content: its bytes go to its `Location`, with PATCH",
        ));
    }
    match number(headers, &LENGTH) {
        None => Err(Problem::new(
            StatusCode::LENGTH_REQUIRED,
            "length_required",
            "say with Upload-Length how long the file is",
        )),
        Some(len) if len > BLOB_MAX => {
            let detail = format!("the file has {len} bytes, more than {BLOB_MAX}");
            let limit = HeaderValue::try_from(limit()).map_err(|_| Problem::unexpected())?;
            Err(Problem::too_large(detail).with(LIMIT, limit))
        }
        Some(len) => Ok(len),
    }
}

fn limit() -> String {
    format!("max-size={BLOB_MAX}")
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn key(id: &str, caller: &Caller) -> Result<BlobHash, Problem> {
    parse_token(id).map(|id| key_of(&id, caller)).ok_or_else(unknown)
}

/// What an upload is known by. Only who has begun it and knows its id can tell.
fn key_of(id: &[u8; 16], caller: &Caller) -> BlobHash {
    BlobHash::of(&[id, caller.name.as_str().as_bytes()].concat())
}

fn owner(caller: &Caller) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&BlobHash::of(caller.name.as_str().as_bytes()).as_bytes()[..8]);
    u64::from_be_bytes(first)
}

fn unknown() -> Problem {
    Problem::not_found("there is no such upload of yours: begin it anew")
}

fn conflict(detail: &str) -> Problem {
    Problem::new(StatusCode::CONFLICT, "conflict", detail)
}

fn inconsistent(end: u64, len: u64) -> Problem {
    let detail = format!("the upload has {len} bytes and this part would end at {end}");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
}
