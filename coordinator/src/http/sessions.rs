//! Sessions: an instance of the farm for a person, and the calls that they make to it.

use std::collections::BTreeSet;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::stream;
use grange_protocol::client::Role;
use grange_protocol::job::{Policy, RenderSettings, SceneNeeds};
use grange_protocol::kinds::{JobKind, Session as SessionRequest};
use grange_protocol::limits::{CALL_MAX, OPERATION_MAX};
use grange_protocol::session::{Call, CallNumber};
use grange_protocol::shot::Label;
use grange_protocol::{BlobHash, JobId, LayoutPath, Priority, Submission};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;

use super::extract::{At, Told};
use super::gate::Caller;
use super::openapi::Problems;
use super::page::Page;
use super::{Api, Problem};
use crate::connection::{calls, forbidden};
use crate::sessions::{Line, Listening, Session, SessionView, Terms};

/// After so long without news of a call an empty line is sent.
const QUIET: Duration = Duration::from_secs(10);
const LINES: &str = "application/x-ndjson";

/// A scene to open in an instance of one's own.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSession {
    name: Label,
    #[serde(default)]
    priority: Priority,
    /// The blob with the scene's manifest, which the farm must have already.
    manifest: BlobHash,
    blend: LayoutPath,
    needs: SceneNeeds,
    #[serde(default)]
    settings: RenderSettings,
    /// Only an agent that has all of these tags is asked.
    #[serde(default)]
    tags: BTreeSet<Label>,
    /// Seconds without a call after which it ends; 1800 unless told.
    idle_s: Option<u32>,
}

impl NewSession {
    /// The job that holds the instance.
    pub(super) fn submission(self) -> Submission {
        let Self { name, priority, manifest, blend, needs, settings, tags, idle_s } = self;
        let mut request = SessionRequest { blend, needs, settings, idle_s: 1_800 };
        request.idle_s = idle_s.unwrap_or(request.idle_s);
        Submission {
            name,
            priority,
            // What was changed in an instance is gone with it, so there is no second try.
            policy: Policy { attempts_max: 1, ..Policy::default() },
            manifest: Some(manifest),
            queue_anyway: false,
            tags,
            kind: JobKind::Session(request),
        }
    }
}

/// What a new session is answered with: 201, where it is, and how.
type Created = (StatusCode, [(HeaderName, String); 1], Json<SessionView>);

/// Ask for an instance with a scene
///
/// It is placed like a job's task. Calls may be made at once: they wait for the instance. Whoever
/// has a session says every few seconds that they are there (`/sessions/alive`), or has a call
/// under way; 30 seconds after the last sign it ends.
#[utoipa::path(
    post, path = "/api/v1/sessions", operation_id = "new_session", tag = "sessions",
    request_body = NewSession,
    responses(
        (status = 201, body = SessionView, headers(("Location" = String))),
        Problems,
    ),
)]
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Told(new): Told<NewSession>,
) -> Result<Created, Problem> {
    may_drive(&caller)?;
    let job = calls::submit(&api.shared, caller.name.clone(), new.submission(), None).await?;
    let terms = api.shared.farm.look(move |farm| Terms::of(farm, job)).await?;
    let session = api.shared.sessions.adopt(terms.ok_or_else(Problem::unexpected)?);
    let location = [(header::LOCATION, format!("/api/v1/sessions/{job}"))];
    Ok((StatusCode::CREATED, location, Json(session.view())))
}

/// Sessions that are open, or were a moment ago
#[utoipa::path(
    get, path = "/api/v1/sessions", operation_id = "sessions", tag = "sessions",
    responses((status = 200, body = Page<SessionView>), Problems),
)]
pub(super) async fn list(State(api): State<Api>) -> Json<Page<SessionView>> {
    let items = api.shared.sessions.all().iter().map(|session| session.view()).collect();
    Json(Page { items, next: None })
}

/// A session
#[utoipa::path(
    get, path = "/api/v1/sessions/{id}", operation_id = "session", tag = "sessions",
    params(("id" = u32, Path, example = 1)),
    responses((status = 200, body = SessionView), Problems),
)]
pub(super) async fn detail(
    State(api): State<Api>,
    At(id): At<u32>,
) -> Result<Json<SessionView>, Problem> {
    Ok(Json(find(&api, id)?.view()))
}

/// End a session
///
/// What was called before is finished. A session that is over stays over.
#[utoipa::path(
    delete, path = "/api/v1/sessions/{id}", operation_id = "end_session", tag = "sessions",
    params(("id" = u32, Path, example = 1)),
    responses((status = 200, body = SessionView), Problems),
)]
pub(super) async fn end(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<u32>,
) -> Result<Json<SessionView>, Problem> {
    let session = own(&api, &caller, id)?;
    session.close(&api.shared.farm, "the session was closed").await;
    Ok(Json(session.view()))
}

/// Which sessions somebody still holds.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Held {
    #[schema(max_items = 10_000)]
    sessions: Vec<u32>,
}

/// Which of them are over.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Over {
    ended: Vec<u32>,
}

/// Say that one still holds sessions
#[utoipa::path(
    post, path = "/api/v1/sessions/alive", operation_id = "sessions_alive", tag = "sessions",
    request_body = Held, responses((status = 200, body = Over), Problems),
)]
pub(super) async fn alive(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Told(held): Told<Held>,
) -> Result<Json<Over>, Problem> {
    may_drive(&caller)?;
    let is_over = |id: &u32| match own(&api, &caller, *id) {
        Ok(session) => {
            session.hear();
            session.has_ended()
        }
        Err(_) => true,
    };
    Ok(Json(Over { ended: held.sessions.into_iter().filter(is_over).collect() }))
}

/// A call to a session's instance.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCall {
    /// Chosen by the caller, rising from 1. The same number again, with the same call, joins it.
    #[schema(minimum = 1)]
    call: u64,
    /// The operation's name.
    #[serde(rename = "do")]
    #[schema(min_length = 1, max_length = 128)]
    operation: String,
    /// Its arguments by name.
    #[serde(default)]
    args: serde_json::Map<String, serde_json::Value>,
}

/// Have the instance do something
///
/// Lines of JSON, as things happen: `waiting` while there is no instance, `progress` and `output`
/// of a frame, and one last line: `returned`, `raised`, or `ended` if the session is over. An empty
/// line is a sign of life. The instance does one call after the other, in the order in which they
/// came.
#[utoipa::path(
    post, path = "/api/v1/sessions/{id}/calls", operation_id = "call", tag = "sessions",
    params(("id" = u32, Path, example = 1)), request_body = NewCall,
    responses((status = 200, body = Line, content_type = "application/x-ndjson"), Problems),
)]
pub(super) async fn call(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<u32>,
    Told(new): Told<NewCall>,
) -> Result<Response, Problem> {
    let session = own(&api, &caller, id)?;
    let Ok(place) = api.watchers.clone().try_acquire_owned() else {
        return Err(Problem::busy(
            "the coordinator has too many calls open: try again in a moment",
        ));
    };
    let listening = session.call(checked(new)?)?;
    let telling = Telling { listening, _place: place };
    let lines = stream::unfold(telling, async |mut telling| {
        let line = telling.next().await?;
        Some((Ok::<_, std::convert::Infallible>(line), telling))
    });
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(LINES))];
    Ok((kind, Body::from_stream(lines)).into_response())
}

/// A call's lines on their way.
struct Telling {
    listening: Listening,
    _place: OwnedSemaphorePermit,
}

impl Telling {
    async fn next(&mut self) -> Option<Bytes> {
        match tokio::time::timeout(QUIET, self.listening.next()).await {
            Ok(line) => {
                let mut bytes = serde_json::to_vec(&line?).unwrap_or_default();
                bytes.push(b'\n');
                Some(bytes.into())
            }
            Err(_) => Some(Bytes::from_static(b"\n")),
        }
    }
}

pub(super) fn checked(new: NewCall) -> Result<Call, Problem> {
    let NewCall { call, operation, args } = new;
    let is_name = |text: &str| text.chars().all(|c| c.is_alphanumeric() || c == '_');
    if call == 0 || operation.is_empty() || operation.len() > OPERATION_MAX || !is_name(&operation)
    {
        return Err(Problem::bad_request(
            "a call has a number from 1 and the name of an operation, such as `ping`",
        ));
    }
    let arguments = serde_json::Value::Object(args).to_string().into_bytes();
    if arguments.len() > CALL_MAX {
        let detail =
            format!("the arguments are larger than {} MiB: send them in parts", CALL_MAX >> 20);
        return Err(Problem::too_large(detail));
    }
    Ok(Call { number: CallNumber(call), operation, arguments })
}

fn may_drive(caller: &Caller) -> Result<(), Problem> {
    match caller.role {
        Role::Submitter | Role::Admin => Ok(()),
        Role::Agent | Role::Viewer => Err(forbidden(caller.role).into()),
    }
}

fn find(api: &Api, id: u32) -> Result<Arc<Session>, Problem> {
    api.shared.sessions.get(JobId(id)).ok_or_else(|| {
        Problem::not_found(format!("there is no session {id}, or it is long over: begin a new one"))
    })
}

/// A session is driven by whoever began it, or by an admin.
fn own(api: &Api, caller: &Caller, id: u32) -> Result<Arc<Session>, Problem> {
    may_drive(caller)?;
    let session = find(api, id)?;
    if caller.role != Role::Admin && session.terms.owner != caller.name {
        return Err(forbidden(caller.role).into());
    }
    Ok(session)
}
