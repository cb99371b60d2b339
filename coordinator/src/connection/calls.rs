//! Questions and wishes of people: one request, one response.

use std::sync::Arc;

use grange_blocking as blocking;
use grange_protocol::client::{
    AgentAction, ApiToken, HistoryQuery, JobAction, JoinToken, LogsQuery, OutputsQuery, Page,
    PageLink, Request, Response, Role,
};
use grange_protocol::connect::ConnectString;
use grange_protocol::join::JoinString;
use grange_protocol::limits::{MANIFEST_ENTRIES_MAX, MANIFEST_MAX};
use grange_protocol::shot::Label;
use grange_protocol::view::LogView;
use grange_protocol::{
    AgentId, BlobHash, JobId, JobSpec, Manifest, Refusal, RefusalCode, Submission, codec,
};
use grange_scheduler::{Answer, Event, Once, TokenHash};
use grange_store::Store;

use super::{Shared, forbidden, no_job, stopping};
use crate::hours;

/// A token of the HTTP API lives at least and at most so long, in seconds.
const API_TOKEN_TTL_S: std::ops::RangeInclusive<u32> = 10..=3_653 * 24 * 3600;
/// A join token lives at least and at most so long, in seconds.
const TOKEN_TTL_S: std::ops::RangeInclusive<u32> = 10..=7 * 24 * 3600;

pub(crate) async fn answer(
    shared: &Arc<Shared>,
    role: Role,
    name: &Label,
    request: Request,
) -> Response {
    if !may(role, &request) {
        return Response::Refused(forbidden(role));
    }
    if let Some(refusal) = shared.storage.refuses_all() {
        return Response::Refused(refusal);
    }
    let response = match request {
        Request::MissingBlobs(hashes) => missing_blobs(shared, hashes).await,
        Request::Submit { submission, key } => {
            let submitted = match once(name, &key.0, &submission) {
                Ok(once) => submit(shared, name.clone(), *submission, Some(once)).await,
                Err(refusal) => Err(refusal),
            };
            Some(submitted.map_or_else(Response::Refused, Response::Submitted))
        }
        Request::Jobs => shared.farm.look(|farm| Response::Jobs(farm.job_views())).await.ok(),
        Request::Job(job) => job_detail(shared, job).await,
        Request::Act { job, action } => act(shared, name, job, action).await,
        Request::Agents => shared.farm.look(|farm| Response::Agents(farm.agent_views())).await.ok(),
        Request::Outputs(query) => {
            if role != Role::Agent {
                shared.keeping.note_asked(query.job);
            }
            outputs(shared, query).await
        }
        Request::Logs(query) => logs(shared, query).await,
        Request::CreateToken { role, ttl_s } => create_token(shared, name, role, ttl_s).await,
        Request::Footprints => {
            shared.farm.look(|farm| Response::Footprints(farm.footprint_views())).await.ok()
        }
        Request::Decisions => {
            shared.farm.look(|farm| Response::Decisions(farm.decision_views())).await.ok()
        }
        Request::CreateApiToken { name: of, role, ttl_s } => {
            create_api_token(shared, name, of, role, ttl_s).await
        }
        Request::ApiTokens => {
            shared.farm.look(|farm| Response::ApiTokens(farm.api_token_views())).await.ok()
        }
        Request::RevokeApiToken(of) => {
            let revoke = move |request| Event::RevokeApiToken { request, name: of };
            shared.farm.ask_as(name, revoke).await.ok().map(done)
        }
        Request::ActOnAgent { agent, action } => act_on_agent(shared, name, agent, action).await,
        Request::Members => {
            shared.farm.look(|farm| Response::Members(farm.member_views())).await.ok()
        }
        Request::RemoveMember(member) => remove_member(shared, name, member).await,
        Request::PageLink => page_link(shared, role, name).await,
        Request::History(query) => Some(history(shared, query).await),
        Request::Farm => shared.farm.look(|farm| Response::Farm(farm.farm_view())).await.ok(),
    };
    response.unwrap_or_else(|| Response::Refused(stopping()))
}

fn may(role: Role, request: &Request) -> bool {
    match role {
        Role::Admin => true,
        Role::Submitter => !matches!(
            request,
            Request::CreateToken { .. }
                | Request::CreateApiToken { .. }
                | Request::ApiTokens
                | Request::RevokeApiToken(_)
                | Request::ActOnAgent { .. }
                | Request::Members
                | Request::RemoveMember(_)
        ),
        Role::Viewer => matches!(
            request,
            Request::Jobs
                | Request::Job(_)
                | Request::Agents
                | Request::Outputs(_)
                | Request::Logs(_)
                | Request::Farm
                | Request::Footprints
                | Request::Decisions
                | Request::PageLink
                | Request::History(_)
        ),
        // A video's agent asks for the frames.
        Role::Agent => matches!(request, Request::Outputs(_)),
    }
}

async fn missing_blobs(shared: &Shared, hashes: Vec<BlobHash>) -> Option<Response> {
    if hashes.len() > MANIFEST_ENTRIES_MAX {
        return Some(invalid("too many files at once"));
    }
    let store = shared.store.clone();
    blocking::run(move || Response::MissingBlobs(store.missing(hashes))).await.ok()
}

/// What makes a submission under one of the submitter's keys one job. The submission counts as the
/// farm understands it, however it was written.
pub(crate) fn once(
    submitter: &Label,
    key: &[u8],
    submission: &Submission,
) -> Result<Once, Refusal> {
    // Names have no control characters, so nothing else gives the same bytes.
    let owned = [submitter.as_str().as_bytes(), b"\0", key].concat();
    let body = codec::encode(submission)
        .map_err(|error| Refusal::new(RefusalCode::Invalid, error.to_string()))?;
    Ok(Once { key: BlobHash::of(&owned), body: BlobHash::of(&body) })
}

pub(crate) async fn submit(
    shared: &Shared,
    submitter: Label,
    submission: Submission,
    once: Option<Once>,
) -> Result<JobId, Refusal> {
    let (queue_anyway, tags) = (submission.queue_anyway, submission.tags.clone());
    let spec = submission.plan().map_err(|why| Refusal::new(RefusalCode::Invalid, why))?;
    let store = shared.store.clone();
    let checked = blocking::run(move || check_files(&store, &spec).map(|()| spec)).await;
    let spec = Box::new(checked.map_err(|_| stopping())??);
    let answer = shared
        .farm
        .ask(move |request| Event::Submit { request, submitter, spec, queue_anyway, tags, once })
        .await;
    match answer.map_err(|_| stopping())? {
        Answer::Submitted(job) => Ok(job),
        Answer::Refused(refusal) => Err(refusal),
        other => Err(Refusal::new(RefusalCode::Invalid, format!("unexpected answer {other:?}"))),
    }
}

/// Every file that the job names must be there before the job is.
fn check_files(store: &Store, spec: &JobSpec) -> Result<(), Refusal> {
    let Some(hash) = spec.manifest else { return Ok(()) };
    let missing = |what: &str| Refusal::new(RefusalCode::MissingBlobs, what);
    // All that the job needs counts as used now, so none of it is collected before the job is there.
    let bytes = store
        .touch(hash)
        .and_then(|()| store.read_small(hash, MANIFEST_MAX))
        .map_err(|_| missing("the farm does not have the job's manifest: send it first"))?;
    let manifest: Manifest = codec::decode(&bytes).map_err(|error| {
        Refusal::new(RefusalCode::Invalid, format!("the manifest is bad: {error}"))
    })?;
    for step in &spec.steps {
        if let Some(render) = step.work.render()
            && manifest.get(&render.blend).is_none()
        {
            let message = format!("the manifest does not name {}", render.blend);
            return Err(Refusal::new(RefusalCode::Invalid, message));
        }
    }
    let lacking =
        manifest.entries().iter().find(|entry| store.claim_len(entry.blob) != Some(entry.len));
    match lacking {
        Some(entry) => {
            Err(missing(&format!("the farm does not have {}: send it first", entry.path)))
        }
        None => Ok(()),
    }
}

async fn job_detail(shared: &Shared, job: JobId) -> Option<Response> {
    let detail = shared.farm.look(move |farm| farm.job_detail(job)).await.ok()?;
    Some(match detail {
        Some(detail) => Response::Job(Box::new(detail)),
        None => no_job_response(shared, job).await,
    })
}

async fn act(shared: &Shared, by: &Label, job: JobId, action: JobAction) -> Option<Response> {
    shared.farm.ask_as(by, move |request| Event::Act { request, job, action }).await.ok().map(done)
}

async fn act_on_agent(
    shared: &Shared,
    by: &Label,
    agent: AgentId,
    action: AgentAction,
) -> Option<Response> {
    let is_schedule = matches!(action, AgentAction::Schedule(_));
    let is_removal = action == AgentAction::Remove;
    let acted = shared.farm.ask_as(by, move |request| Event::ActOnAgent { request, agent, action });
    let answer = acted.await.ok()?;
    if is_schedule {
        hours::look(&shared.farm).await.ok()?;
    }
    if is_removal && matches!(answer, Answer::Done) {
        shared.members.dismiss(agent);
    }
    Some(done(answer))
}

async fn remove_member(shared: &Shared, by: &Label, member: AgentId) -> Option<Response> {
    let remove = move |request| Event::RemoveMember { request, member };
    let answer = shared.farm.ask_as(by, remove).await.ok()?;
    if matches!(answer, Answer::Done) {
        shared.members.dismiss(member);
    }
    Some(done(answer))
}

async fn outputs(shared: &Shared, query: OutputsQuery) -> Option<Response> {
    if let Some(refusal) = unknown(shared, query.job).await {
        return Some(refusal);
    }
    Some(match shared.archive.outputs(query).await {
        Ok(page) => Response::Outputs(page),
        Err(error) => Response::Refused(error.refusal()),
    })
}

async fn logs(shared: &Shared, query: LogsQuery) -> Option<Response> {
    if let Some(refusal) = unknown(shared, query.job).await {
        return Some(refusal);
    }
    let page = match shared.archive.logs(query).await {
        Ok(page) => page,
        Err(error) => return Some(Response::Refused(error.refusal())),
    };
    let named = shared.farm.look(move |farm| {
        let rows = page
            .rows
            .into_iter()
            .map(|row| LogView {
                cursor: row.cursor,
                step: row.log.task.step,
                task: row.log.task.task,
                agent: farm.agent_name(row.log.agent),
                failed: row.log.failed,
                at: row.log.at,
                text: row.log.text,
            })
            .collect();
        Response::Logs(Page { rows, next: page.next })
    });
    named.await.ok()
}

async fn create_token(shared: &Shared, by: &Label, role: Role, ttl_s: u32) -> Option<Response> {
    if !TOKEN_TTL_S.contains(&ttl_s) {
        return Some(invalid("a join token lives from 10 seconds to 7 days"));
    }
    let mut secret = [0; 16];
    if let Err(error) = getrandom::fill(&mut secret) {
        return Some(not_now(&format!("no random numbers: {error}")));
    }
    let now = shared.farm.look(|farm| farm.now()).await.ok()?;
    let (token, expires_at) = (TokenHash::of(&secret), now + u64::from(ttl_s) * 1000);
    let made = shared
        .farm
        .ask_as(by, move |request| Event::CreateToken { request, token, role, expires_at })
        .await
        .ok()?;
    if let Answer::Refused(refusal) = made {
        return Some(Response::Refused(refusal));
    }
    let join = JoinString {
        addresses: shared.addresses.clone(),
        role,
        token: secret,
        ca: shared.authority.hash(),
    };
    Some(Response::Token(JoinToken { join: join.to_string(), role, expires_at }))
}

async fn create_api_token(
    shared: &Shared,
    by: &Label,
    name: Label,
    role: Role,
    ttl_s: u32,
) -> Option<Response> {
    let Some(addresses) = shared.http_addresses.clone() else {
        return Some(invalid("this farm has no HTTP API: its coordinator's `http_listen` is off"));
    };
    if !API_TOKEN_TTL_S.contains(&ttl_s) {
        return Some(invalid("a token of the HTTP API lives from 10 seconds to 10 years"));
    }
    let mut secret = [0; 16];
    if let Err(error) = getrandom::fill(&mut secret) {
        return Some(not_now(&format!("no random numbers: {error}")));
    }
    let now = shared.farm.look(|farm| farm.now()).await.ok()?;
    let (token, expires_at) = (TokenHash::of(&secret), now + u64::from(ttl_s) * 1000);
    let of = name.clone();
    let made = shared
        .farm
        .ask_as(by, move |request| Event::CreateApiToken {
            request,
            token,
            name: of,
            role,
            expires_at,
        })
        .await
        .ok()?;
    if let Answer::Refused(refusal) = made {
        return Some(Response::Refused(refusal));
    }
    let ca = shared.authority.sha256();
    let connect = ConnectString { addresses, token: secret, ca }.to_string();
    Some(Response::ApiToken(ApiToken { connect, name, role, expires_at }))
}

/// Also of jobs and agents that are gone.
async fn history(shared: &Shared, query: HistoryQuery) -> Response {
    match shared.archive.history(query).await {
        Ok(page) => Response::History(page),
        Err(error) => Response::Refused(error.refusal()),
    }
}

async fn page_link(shared: &Shared, role: Role, name: &Label) -> Option<Response> {
    let address = shared.http_addresses.as_ref().and_then(|addresses| addresses.first());
    let Some(address) = address else {
        return Some(invalid("this farm has no dashboard: its coordinator's `http_listen` is off"));
    };
    let now = shared.farm.look(|farm| farm.now()).await.ok()?;
    let (secret, expires_at) = match shared.links.make(name.clone(), role, now) {
        Ok(made) => made,
        Err(error) => return Some(not_now(&format!("no random numbers: {error}"))),
    };
    // After the `#`, so that no server and no proxy writes it into a log.
    let url = format!("https://{address}/#link={secret}");
    Some(Response::PageLink(PageLink { url, role, expires_at }))
}

async fn unknown(shared: &Shared, job: JobId) -> Option<Response> {
    let known = shared.farm.look(move |farm| farm.core.state().jobs.contains_key(&job)).await;
    match known {
        Ok(true) => None,
        Ok(false) => Some(no_job_response(shared, job).await),
        Err(_) => Some(Response::Refused(stopping())),
    }
}

fn done(answer: Answer) -> Response {
    match answer {
        Answer::Refused(refusal) => Response::Refused(refusal),
        _ => Response::Done,
    }
}

async fn no_job_response(shared: &Shared, job: JobId) -> Response {
    Response::Refused(no_job(shared, job).await)
}

fn invalid(message: &str) -> Response {
    Response::Refused(Refusal::new(RefusalCode::Invalid, message))
}

fn not_now(message: &str) -> Response {
    Response::Refused(Refusal::new(RefusalCode::NotNow, message))
}
