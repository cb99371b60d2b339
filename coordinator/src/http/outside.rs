//! All that this API makes of a request by itself, before it asks the farm: for tests that feed it
//! what nobody's client sends.
//!
//! Every word is read by the very functions that the routes read it with, in the same order.
//! Nothing here is served, and nothing here knows what is in a store.

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use grange_protocol::shot::Label;
use grange_protocol::{BlobHash, JobId, Manifest, OutputName, Submission, TaskIndex, codec};
use serde::de::DeserializeOwned;

use super::download::Wanted;
use super::extract::{Asked, Unread};
use super::page::Part;
use super::{Problem, blobs, download, events, gate, jobs, origin, outputs, scenes, sessions};
use super::{sign_in, submit, tokens};

/// The status of the answer to a request that is refused.
pub type Refused = StatusCode;

/// The name that its tokens have, where one is needed.
const CALLER: &str = "somebody";
const COOKIE: &str = "__Host-grange-000000000000";
/// The length of a file of which a part is asked for.
const FILE_LEN: u64 = 1_000;

/// Reads a request as its route does. What no route takes is read like `GET /api/v1/jobs`.
///
/// Panics where something does not hold that must hold of every request.
pub fn read(parts: &Parts, body: Bytes) -> Result<(), Refused> {
    headers(parts);
    status(route(parts, body))
}

/// A problem is made an answer, as it would be for a client.
fn status<T>(read: Result<T, Problem>) -> Result<T, Refused> {
    read.map_err(|problem| problem.into_response().status())
}

/// What is looked at whatever the route is, and what of it holds for any bytes.
fn headers(parts: &Parts) {
    let _ = gate::bearer(&parts.headers).map(status);
    let _ = gate::announced(&parts.headers);
    let _ = sign_in::token_in(COOKIE, &parts.headers);
    let hosts = origin::Hosts::new(&["farm.local".into(), "::1".into()].into());
    let _ = status(hosts.check(&parts.headers, &parts.uri));
    let _ = status(origin::check(&parts.method, &parts.headers, &parts.uri));
    for len in [0, FILE_LEN, u64::MAX] {
        if let Wanted::Part(first, end) = download::wanted(&parts.headers, "\"etag\"", len) {
            assert!(first < end && end <= len, "bytes {first} to {end} of {len}");
        }
    }
}

fn route(parts: &Parts, body: Bytes) -> Result<(), Problem> {
    let segments: Vec<&str> = parts.uri.path().split('/').skip(1).collect();
    match (parts.method.as_str(), &*segments) {
        ("POST", ["api", "v1", "jobs"]) => {
            let submission: Submission = told(parts, body)?;
            let caller: Label = CALLER.parse().map_err(|_| Problem::unexpected())?;
            submit::once(&caller, &parts.headers, &submission)?;
            planned(&submission)
        }
        ("PUT", ["api", "v1", "jobs", _, "priority"]) => {
            told::<jobs::Urgency>(parts, body).map(drop)
        }
        ("POST", ["api", "v1", "sessions"]) => {
            planned(&told::<sessions::NewSession>(parts, body)?.submission())
        }
        ("POST", ["api", "v1", "sessions", "alive"]) => {
            told::<sessions::Held>(parts, body).map(drop)
        }
        ("POST", ["api", "v1", "sessions", _, "calls"]) => {
            sessions::checked(told(parts, body)?).map(drop)
        }
        ("POST", ["api", "v1", "scenes"]) => {
            // As if the farm had every file that is named, with one byte.
            let scene: scenes::ToldScene = told(parts, body)?;
            scene.files_of(|_| Some(1), |blob| blob.to_hex().into()).map(drop)
        }
        ("POST", ["api", "v1", "manifests"]) => {
            let manifest: Manifest = told(parts, body)?;
            codec::encode(&manifest).map(drop).map_err(|_| Problem::unexpected())
        }
        ("POST", ["api", "v1", "blobs", "missing"]) => told::<blobs::Hashes>(parts, body).map(drop),
        ("POST", ["api", "v1", "tokens"]) => told::<tokens::Wish>(parts, body).map(drop),
        ("POST", ["api", "v1", "join-tokens"]) => told::<tokens::Newcomer>(parts, body).map(drop),
        ("POST", ["session"]) => match told(parts, body)? {
            sign_in::Shown::Token(text) => sign_in::token_shown(&text).map(drop),
            sign_in::Shown::Link(_) => Ok(()),
        },
        ("GET", ["api", "v1", "blobs", hash]) => {
            let bad = |_| Problem::bad_request("it is no hash");
            hash.parse::<BlobHash>().map(drop).map_err(bad)
        }
        ("GET", ["api", "v1", "events"]) => asked::<events::Besides>(parts).map(drop),
        ("GET", ["api", "v1", "jobs", _, "events"]) => {
            asked::<events::Since>(parts)?.after(&parts.headers).map(drop)
        }
        ("GET", ["api", "v1", "jobs", _, "logs"]) => {
            asked::<jobs::OfLogs>(parts)?.query(JobId(1)).map(drop)
        }
        ("GET", ["api", "v1", "jobs", _, "outputs"]) => {
            asked::<outputs::OfOutputs>(parts)?.query(JobId(1)).map(drop)
        }
        ("GET", ["api", "v1", "jobs", _, "outputs", name @ ..]) => {
            let name: OutputName =
                name.join("/").parse().map_err(|_| Problem::not_found("no such output"))?;
            download::media_type(name.file_name());
            Ok(())
        }
        ("GET", ["api", "v1", "jobs", _, "tasks"]) => {
            let part: Part = asked(parts)?;
            part.limit()?;
            part.cursor::<String>()?.map_or(Ok(()), |cursor| jobs::place(&cursor).map(drop))
        }
        _ => {
            let part: Part = asked(parts)?;
            part.limit()?;
            part.cursor::<u32>().map(drop)
        }
    }
}

fn told<T: DeserializeOwned>(parts: &Parts, body: Bytes) -> Result<T, Problem> {
    Unread::of(&parts.headers, body)?.read()
}

fn asked<T: DeserializeOwned>(parts: &Parts) -> Result<T, Problem> {
    Asked::of(&parts.uri).map(|Asked(value)| value)
}

/// The job that is asked for is made, and every question that the farm will have about it answered.
fn planned(submission: &Submission) -> Result<(), Problem> {
    let refused = |why| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", why);
    let spec = submission.plan().map_err(refused)?;
    for step in &spec.steps {
        let count = step.work.task_count();
        let last = TaskIndex((count - 1) as u32);
        assert!(step.work.task(last).is_some(), "the last of {count} tasks");
        assert!(step.work.task(TaskIndex(count as u32)).is_none());
        let _ = (step.work.frames(), step.work.frames_of(last), step.work.label(last));
    }
    Ok(())
}
