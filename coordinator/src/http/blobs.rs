//! Files in and out, by their BLAKE3 hash, and manifests of them.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::{Extension, Json};
use futures_util::StreamExt;
use grange_protocol::client::{Request, Response as Answer};
use grange_protocol::file::Blob;
use grange_protocol::limits::BLOB_MAX;
use grange_protocol::{BlobHash, Manifest, codec};
use grange_store::{ReceiveError, Receiving, Store};
use serde::{Deserialize, Serialize};
use tokio::sync::{SemaphorePermit, mpsc};
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::download::{self, Lifetime};
use super::extract::{At, Told};
use super::gate::{Caller, announced};
use super::openapi::Problems;
use super::{Api, Problem};
use crate::storage;

/// A file of which nothing arrives for so long is given up.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a file waits for one of the others to end.
const TURN: Duration = Duration::from_secs(20);
/// Pieces that wait for the disk. Full, the network waits.
const PIECES: usize = 16;

/// Files by their hashes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Hashes {
    hashes: Vec<BlobHash>,
}

/// Those of them that the farm lacks, each once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Missing {
    missing: Vec<BlobHash>,
}

/// Ask which files the farm lacks
#[utoipa::path(
    post, path = "/api/v1/blobs/missing",
    operation_id = "missing_blobs", tag = "files", request_body = Hashes,
    responses((status = 200, body = Missing), Problems),
)]
pub(super) async fn missing(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Told(Hashes { hashes }): Told<Hashes>,
) -> Result<Json<Missing>, Problem> {
    let expected = |answer| match answer {
        Answer::MissingBlobs(missing) => Some(Json(Missing { missing })),
        _ => None,
    };
    api.call(&caller, Request::MissingBlobs(hashes), expected).await
}

/// Make a manifest of files
///
/// The answer's hash is the `manifest` of a submission. The files need not be there yet.
#[utoipa::path(
    post, path = "/api/v1/manifests",
    operation_id = "create_manifest", tag = "files", request_body = Manifest,
    responses((status = 200, body = Blob), Problems),
)]
pub(super) async fn manifest(
    State(api): State<Api>,
    Told(manifest): Told<Manifest>,
) -> Result<Json<Blob>, Problem> {
    let bytes = codec::encode(&manifest).map_err(|_| Problem::unexpected())?;
    let store = api.shared.store.clone();
    let kept = spawn_blocking(move || store.put_bytes(&bytes)).await;
    Ok(Json(kept.map_err(|_| Problem::unexpected())?.map_err(not_stored)?))
}

/// A file's bytes
///
/// Knows ranges and `If-None-Match`; the ETag is the hash.
#[utoipa::path(
    get, path = "/api/v1/blobs/{hash}", operation_id = "blob", tag = "files",
    params(
        ("hash" = BlobHash, Path),
        ("Range" = Option<String>, Header, description = "`bytes=FIRST-LAST`, one range"),
    ),
    responses(
        (
            status = 200, body = Vec<u8>, content_type = "application/octet-stream",
            headers(("ETag" = String)),
        ),
        (
            status = 206, body = Vec<u8>, content_type = "application/octet-stream",
            description = "The range asked for",
        ),
        (status = 304, description = "You have it already"),
        Problems,
    ),
)]
pub(super) async fn get(
    State(api): State<Api>,
    At(hash): At<BlobHash>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    download::send(&api, hash, &headers, "application/octet-stream", Lifetime::Forever).await
}

/// Send a file
///
/// With its `Content-Length`. It is stored if its bytes have the hash; 200 says that the farm had
/// it already. A file that broke off may be sent again from its beginning; an upload (`/uploads`) goes
/// on where it broke.
#[utoipa::path(
    put, path = "/api/v1/blobs/{hash}",
    operation_id = "put_blob", tag = "files", params(("hash" = BlobHash, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, body = Blob, description = "The farm has it already"),
        (status = 201, body = Blob, description = "Stored, and durable"),
        Problems,
    ),
)]
pub(super) async fn put(
    State(api): State<Api>,
    At(hash): At<BlobHash>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Blob>), Problem> {
    let blob = Blob { hash, len: length(&headers)? };
    if api.shared.store.len_of(hash) == Some(blob.len) {
        // Whoever is sending reads no answer before all is sent.
        drain(body).await?;
        return Ok((StatusCode::OK, Json(blob)));
    }
    room(&api, blob.len)?;
    let _permit = turn(&api).await?;
    receive(&api.shared.store, Some(hash), blob.len, body).await?;
    Ok((StatusCode::CREATED, Json(blob)))
}

/// Send a file without knowing its hash
///
/// With its `Content-Length`. The answer tells the BLAKE3 hash, for clients that have none at hand.
#[utoipa::path(
    post, path = "/api/v1/blobs", tag = "files", operation_id = "post_blob",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, body = Blob, description = "Stored, and durable"), Problems),
)]
pub(super) async fn post(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Blob>), Problem> {
    let len = length(&headers)?;
    room(&api, len)?;
    let _permit = turn(&api).await?;
    let hash = receive(&api.shared.store, None, len, body).await?;
    Ok((StatusCode::CREATED, Json(Blob { hash, len })))
}

pub(super) fn room(api: &Api, len: u64) -> Result<(), Problem> {
    api.shared.storage.refuses(len).map_or(Ok(()), |refusal| Err(refusal.into()))
}

pub(super) async fn turn(api: &Api) -> Result<SemaphorePermit<'_>, Problem> {
    match tokio::time::timeout(TURN, api.transfers.acquire()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(Problem::busy("too many files are on their way: try again in a moment")),
    }
}

fn length(headers: &HeaderMap) -> Result<u64, Problem> {
    match announced(headers) {
        None => Err(Problem::new(
            StatusCode::LENGTH_REQUIRED,
            "length_required",
            "say with Content-Length how long the file is",
        )),
        Some(len) if len > BLOB_MAX => {
            Err(Problem::too_large(format!("the file has {len} bytes, more than {BLOB_MAX}")))
        }
        Some(len) => Ok(len),
    }
}

/// Writes the body to the store's disk, piece by piece, and verifies it. Returns its hash.
async fn receive(
    store: &Arc<Store>,
    hash: Option<BlobHash>,
    len: u64,
    body: Body,
) -> Result<BlobHash, Problem> {
    let store = store.clone();
    let opened = spawn_blocking(move || match hash {
        Some(hash) => store.receive(Blob { hash, len }),
        None => store.receive_unnamed(len),
    });
    let opened = opened.await;
    let receiving = opened.map_err(|_| Problem::unexpected())?.map_err(not_stored)?;
    // What an earlier attempt left is not written again; if it differs, the hash tells.
    let there = receiving.offset();
    let (receiving, arrived) = write(receiving, there, body, pending()).await?;
    arrived?;
    finish(receiving).await
}

/// Writes a body to a file, but for its first `there` bytes, until it ends or breaks, or until
/// somebody says why to stop. Returns the file, and how the body ended; an error is the disk's.
pub(super) async fn write(
    mut receiving: Receiving,
    mut there: u64,
    body: Body,
    stop: impl Future<Output = Problem>,
) -> Result<(Receiving, Result<(), Problem>), Problem> {
    let (pieces, mut incoming) = mpsc::channel::<Bytes>(PIECES);
    let writing = spawn_blocking(move || {
        while let Some(mut piece) = incoming.blocking_recv() {
            let known = there.min(piece.len() as u64);
            there -= known;
            receiving.write(&piece.split_off(known as usize))?;
        }
        Ok::<_, ReceiveError>(receiving)
    });
    let mut body = body.into_data_stream();
    let arriving = async {
        while let Some(piece) = next(&mut body).await? {
            if pieces.send(piece).await.is_err() {
                // The writer has ended, and says why.
                break;
            }
        }
        Ok(())
    };
    let arrived = tokio::select! {
        arrived = arriving => arrived,
        problem = stop => Err(problem),
    };
    drop(pieces);
    let written = writing.await.map_err(|_| Problem::unexpected())?;
    Ok((written.map_err(not_stored)?, arrived))
}

/// Verifies a file that has come, and makes it durable. Returns its hash.
pub(super) async fn finish(receiving: Receiving) -> Result<BlobHash, Problem> {
    let finished = spawn_blocking(move || {
        let hash = receiving.hash();
        receiving.finish().map(|()| hash)
    });
    finished.await.map_err(|_| Problem::unexpected())?.map_err(not_stored)
}

/// Reads a body to its end.
pub(super) async fn drain(body: Body) -> Result<(), Problem> {
    let mut body = body.into_data_stream();
    while next(&mut body).await?.is_some() {}
    Ok(())
}

async fn next(body: &mut axum::body::BodyDataStream) -> Result<Option<Bytes>, Problem> {
    match tokio::time::timeout(SILENCE, body.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(piece))) => Ok(Some(piece)),
        Ok(Some(Err(_))) => {
            Err(Problem::bad_request("the file did not arrive whole: send it again"))
        }
        Err(_) => {
            let detail = "nothing of the file arrived for 30 seconds: send it again";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", detail))
        }
    }
}

pub(super) fn not_stored(error: ReceiveError) -> Problem {
    storage::not_stored(&error).into()
}
