//! Paths, queries and bodies, with a problem where axum would answer in plain text.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::{HeaderMap, StatusCode, Uri, header, request::Parts};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::Problem;

/// The parts of the path that a route leaves open.
pub(super) struct At<T>(pub(super) T);

/// What stands after the `?`.
pub(super) struct Asked<T>(pub(super) T);

/// A body of JSON, within the route's limit.
pub(super) struct Told<T>(pub(super) T);

/// The same before it is understood: its bytes.
pub(super) struct Unread(Bytes);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(error) => {
                let (path, why) = (parts.uri.path(), error.body_text());
                Err(Problem::bad_request(format!(
                    "a part of {path} is not what belongs there: {why}"
                )))
            }
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(&parts.uri)
    }
}

impl<T: DeserializeOwned> Asked<T> {
    pub(super) fn of(uri: &Uri) -> Result<Self, Problem> {
        match Query::try_from_uri(uri) {
            Ok(Query(value)) => Ok(Self(value)),
            Err(error) => Err(Problem::bad_request(error.body_text())),
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Told<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Unread::from_request(request, state).await?.read().map(Self)
    }
}

impl<S: Send + Sync> FromRequest<S> for Unread {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        check_kind(request.headers())?;
        let bytes =
            Bytes::from_request(request, state).await.map_err(|error| match error.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(
                    "the body is larger than this request allows: send it in parts",
                ),
                _ => Problem::bad_request("the body did not arrive whole: send it again"),
            })?;
        Ok(Self(bytes))
    }
}

/// Refuses a body that does not say that it is JSON.
fn check_kind(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()?.split(';').next());
    if kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    let detail = "send the body as `Content-Type: application/json`";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", detail))
}

impl Unread {
    /// A body that has arrived.
    pub(super) fn of(headers: &HeaderMap, bytes: Bytes) -> Result<Self, Problem> {
        check_kind(headers)?;
        Ok(Self(bytes))
    }

    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.0).map_err(|error| match error.classify() {
            Category::Data => {
                let detail = format!("the body is not what this request takes: {error}");
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
            }
            _ => Problem::bad_request(format!("the body is not JSON: {error}")),
        })
    }
}
