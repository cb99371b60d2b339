//! What went wrong, as RFC 9457 has it: one sentence for people, a type and a status for programs.

use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use grange_protocol::{Refusal, RefusalCode};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::connection::stopping;
use crate::farm::Stopped;

pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// Why a request was not answered as it was meant to be.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// `urn:grange:` and a word that stays the same, for programs.
    #[serde(rename = "type", serialize_with = "urn")]
    #[schema(value_type = String)]
    kind: &'static str,
    /// The status in words.
    #[schema(value_type = String)]
    title: &'static str,
    status: u16,
    /// One sentence that names the thing and the next step.
    detail: String,
    #[serde(skip)]
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind,
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: detail.into(),
            header: None,
        }
    }

    /// The request cannot be understood.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    pub(super) fn unauthorised(detail: &str) -> Self {
        let bearer = HeaderValue::from_static("Bearer realm=\"grange\"");
        Self::new(StatusCode::UNAUTHORIZED, "bad_token", detail)
            .with(header::WWW_AUTHENTICATE, bearer)
    }

    /// Whether another token would help.
    pub(super) fn is_of_token(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED.as_u16()
    }

    /// There is too much to do; the same may well work in a moment.
    pub(super) fn busy(detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_now", detail)
            .with(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    pub(super) fn unexpected() -> Self {
        let detail = "the coordinator gave an answer that makes no sense: please report this";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "unexpected", detail)
    }

    /// The same refusal where it is the state of a thing that forbids it, not the request.
    pub(super) fn of_state(refusal: Refusal) -> Self {
        match refusal.code {
            RefusalCode::Invalid => Self::new(StatusCode::CONFLICT, "conflict", refusal.message),
            _ => refusal.into(),
        }
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }
}

impl From<Refusal> for Problem {
    fn from(Refusal { code, message }: Refusal) -> Self {
        let (status, kind) = match code {
            RefusalCode::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            RefusalCode::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            RefusalCode::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            RefusalCode::BadToken => return Self::unauthorised(&message),
            RefusalCode::StaleLease => (StatusCode::CONFLICT, "stale_lease"),
            RefusalCode::NameTaken => (StatusCode::CONFLICT, "name_taken"),
            RefusalCode::NoAgentFits => (StatusCode::UNPROCESSABLE_ENTITY, "no_agent_fits"),
            RefusalCode::MissingBlobs => (StatusCode::UNPROCESSABLE_ENTITY, "missing_blobs"),
            RefusalCode::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "key_reused"),
            RefusalCode::Gone => (StatusCode::GONE, "gone"),
            RefusalCode::NotNow => return Self::busy(&message),
        };
        Self::new(status, kind, message)
    }
}

impl From<Stopped> for Problem {
    fn from(_: Stopped) -> Self {
        stopping().into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or_default();
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE))];
        let mut response = (status, kind, body).into_response();
        if let Some(header) = self.header {
            response.headers_mut().insert(header.0, header.1);
        }
        response
    }
}

fn urn<S: Serializer>(kind: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("urn:grange:{kind}"))
}

pub(super) async fn no_such_path(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::not_found(format!("there is nothing at {path}: /openapi.json lists what there is"))
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    let detail = format!("{path} does not know {method}: /openapi.json lists what it knows");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no_such_method", detail)
}
