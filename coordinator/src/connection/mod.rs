//! One connection: who it is, and which of its streams may do what.

mod agent;
pub(crate) mod calls;
pub(crate) mod door;
mod files;
pub(crate) mod members;
mod newcomer;
mod pictures;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use grange_protocol::client::{Response, Role};
use grange_protocol::file::{GetReply, PutBlob, PutDone, PutOutput, PutReply};
use grange_protocol::limits::FRAME_MAX;
use grange_protocol::stream::Open;
use grange_protocol::view::WatchEvent;
use grange_protocol::{JobId, Refusal, RefusalCode};
use grange_store::Store;
use grange_transport::endpoint::{Accepted, Knock};
use grange_transport::{
    Authority, Connection, Peer, Receiver, RecvStream, SendStream, Sender, StreamError, close_code,
};
use tokio::sync::Semaphore;

use crate::farm::{FarmHandle, Stopped};
use crate::journal::Archive;
use crate::keeping::Keeping;
use crate::links::Links;
use crate::pictures::Pictures;
use crate::refusals::Refusals;
use crate::sessions::{self, Sessions};
use crate::storage::Storage;
use crate::strangers::{Place, SentAway, Strangers};
use crate::webhooks::Webhooks;
use members::{Entered, Members};

/// How often it is looked whether the journal waits for room.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A question that is going to be refused has so long to arrive.
const ASK_WITHIN: Duration = Duration::from_secs(5);
/// A stream that does not say for so long what it is for is ended …
const SILENCE: Duration = Duration::from_secs(10);
/// … and so is one whose first message is not whole by then, if it is as slow as it can be.
const OPENED_WITHIN: Duration = Duration::from_secs(60);
/// Bytes that any number of first messages may have; of larger ones few are taken in at once.
pub(super) const SMALL: usize = 64 << 10;

/// What every session works with.
pub(crate) struct Shared {
    pub(crate) farm: FarmHandle,
    pub(crate) store: Arc<Store>,
    pub(crate) storage: Storage,
    pub(crate) archive: Arc<dyn Archive>,
    pub(crate) authority: Authority,
    pub(crate) name: grange_protocol::shot::Label,
    /// What join strings say.
    pub(crate) addresses: Vec<String>,
    /// What connect strings say; `None` where there is no HTTP API.
    pub(crate) http_addresses: Option<Vec<String>>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) keeping: Arc<Keeping>,
    /// Links to the dashboard that nobody has followed yet.
    pub(crate) links: Links,
    pub(crate) webhooks: Option<Arc<Webhooks>>,
    /// Transfers at once; more wait.
    pub(crate) transfers: Semaphore,
    pub(crate) pictures: Arc<Pictures>,
    pub(crate) strangers: Arc<Strangers>,
    pub(crate) members: Arc<Members>,
    pub(crate) refusals: Arc<Refusals>,
}

/// Sees one connection through, from its handshake to its end. Its place is given back as soon as it
/// has shown who it is.
async fn serve(shared: Arc<Shared>, knock: Knock, place: Place, sent_away: SentAway) {
    let from = knock.remote().ip().to_canonical().to_string();
    let mut sent_away = std::pin::pin!(sent_away.told());
    let accepted = tokio::select! {
        accepted = knock.accept() => accepted,
        () = &mut sent_away => return crowded_out(&shared, &from),
    };
    match accepted {
        Err(why) => shared.refusals.note("a connection did not come about", &from, why),
        Ok(Accepted::Newcomer(connection)) => {
            let enrolled = tokio::select! {
                enrolled = newcomer::enrol(&shared, &connection) => enrolled,
                () = &mut sent_away => {
                    connection.close(close_code::TOO_MANY, b"others wait to join");
                    return crowded_out(&shared, &from);
                }
            };
            if let Err(why) = enrolled {
                shared.refusals.note("it did not join", &from, why);
                connection.close(close_code::PROTOCOL, b"not enrolled");
            }
        }
        Ok(Accepted::Member(peer, connection)) => {
            drop(place);
            let Some(entered) = shared.members.enter(peer.id) else {
                connection.close(close_code::TOO_MANY, b"this identity has too many connections");
                let what = "a connection was refused because this identity has too many";
                return shared.refusals.note(what, peer.name.as_str(), from);
            };
            match is_known(&shared, &peer, &connection).await {
                Ok(true) => serve_member(shared, peer, connection, entered).await,
                Ok(false) => {
                    let what = "it shows a certificate of somebody whom this farm does not know";
                    shared.refusals.note(what, &from, &peer.name);
                    unknown(&connection);
                }
                // Nobody looks it up any more. An agent that is called a stranger ends for good.
                Err(Stopped) => {
                    connection.close(close_code::STOPPING, b"the coordinator is stopping");
                }
            }
        }
    }
}

fn crowded_out(shared: &Shared, from: &str) {
    let what = "it was sent away because others came and it had not shown who it is";
    shared.refusals.note(what, from, "too many connections are being opened");
}

/// Whether the farm knows somebody. While its journal waits for room nobody can say, and whoever
/// asks something is told so.
async fn is_known(shared: &Shared, peer: &Peer, connection: &Connection) -> Result<bool, Stopped> {
    let (id, role) = (peer.id, peer.role);
    let known = shared.farm.look(move |farm| farm.core.is_member(id, role));
    let mut known = std::pin::pin!(known);
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        let refusal = shared.storage.refuses_all();
        let waits = refusal.is_some();
        tokio::select! {
            known = &mut known => return known,
            Ok((send, recv)) = connection.accept_bi(), if waits => {
                let refusing = refuse_next(refusal.unwrap_or_else(stopping), send, recv);
                let _ = tokio::time::timeout(ASK_WITHIN, refusing).await;
            }
            _ = looks.tick() => {}
        }
    }
}

async fn refuse_next(
    refusal: Refusal,
    send: SendStream,
    recv: RecvStream,
) -> Result<(), StreamError> {
    match Receiver::<Open>::new(recv, FRAME_MAX).recv().await? {
        Some(open) => refuse(open, refusal, send).await,
        None => Ok(()),
    }
}

async fn serve_member(shared: Arc<Shared>, peer: Peer, connection: Connection, entered: Entered) {
    let peer = Arc::new(peer);
    let entered = Arc::new(entered);
    let mut removed = std::pin::pin!(entered.removed());
    loop {
        let stream = tokio::select! {
            stream = connection.accept_bi() => stream,
            () = &mut removed => return unknown(&connection),
        };
        match stream {
            Ok((send, recv)) => {
                let (shared, peer, connection) = (shared.clone(), peer.clone(), connection.clone());
                let entered = entered.clone();
                tokio::spawn(async move {
                    let stream = Stream { connection: &connection, send, recv };
                    if let Err(error) = serve_stream(&shared, &peer, &entered, stream).await {
                        stream_ended(&shared, &peer, &error);
                    }
                });
            }
            Err(reason) => {
                tracing::debug!("{} has gone: {reason}", peer.name);
                return;
            }
        }
    }
}

fn unknown(connection: &Connection) {
    connection.close(close_code::UNKNOWN_IDENTITY, b"this farm does not know you");
}

fn stream_ended(shared: &Shared, peer: &Peer, error: &StreamError) {
    let what = match error {
        StreamError::Codec(_) => "a stream was ended because of a message that makes no sense",
        StreamError::Truncated => "a stream ended in the middle of a message",
        StreamError::Silent(_) => "a stream was ended because nothing came",
        _ => return tracing::debug!("a stream of {} ended: {error}", peer.name),
    };
    shared.refusals.note(what, peer.name.as_str(), error);
}

struct Stream<'a> {
    connection: &'a Connection,
    send: SendStream,
    recv: RecvStream,
}

async fn serve_stream(
    shared: &Arc<Shared>,
    peer: &Peer,
    entered: &Entered,
    Stream { connection, send, recv }: Stream<'_>,
) -> Result<(), StreamError> {
    let mut recv = Receiver::<Open>::new(recv, FRAME_MAX);
    let bounds = &entered.bounds;
    let first = tokio::time::timeout(SILENCE, recv.announced()).await;
    let Some(len) = first.map_err(|_| StreamError::Silent(SILENCE))?? else { return Ok(()) };
    let opened = async {
        let large = if len > SMALL { bounds.large.acquire().await.ok() } else { None };
        Ok::<_, StreamError>((recv.expect().await?, large))
    };
    let opened = tokio::time::timeout(OPENED_WITHIN, opened).await;
    // The place of a large message is kept for as long as the message may be in memory.
    let (open, large) = opened.map_err(|_| StreamError::Silent(OPENED_WITHIN))??;
    match (open, peer.role) {
        (Open::Control(hello), Role::Agent) => {
            drop(large);
            agent::serve(shared, peer.id, connection, *hello, send, recv.retype()).await
        }
        (Open::PutOutput(put), Role::Agent) => {
            files::put_output(shared, bounds, peer.id, put, send, recv).await
        }
        (Open::PutPictures(put), Role::Agent) => {
            pictures::put(shared, bounds, peer, put, send, recv).await
        }
        (Open::Session(open), Role::Agent) => {
            drop(large);
            sessions::link::serve(shared, peer.id, open, send, recv.retype()).await
        }
        (Open::GetBlob(get), role) => files::get_blob(shared, bounds, role, get, send).await,
        (Open::PutBlob(put), Role::Admin | Role::Submitter) => {
            files::put_blob(shared, bounds, put, send, recv).await
        }
        (Open::Call(request), _) => {
            let response = calls::answer(shared, peer.role, &peer.name, *request).await;
            reply(send, &response).await
        }
        (Open::Watch(request), Role::Admin | Role::Submitter | Role::Viewer) => {
            drop(large);
            watch::serve(shared, request, send, recv.retype()).await
        }
        (open, role) => refuse(open, forbidden(role), send).await,
    }
}

async fn reply<T: serde::Serialize>(send: SendStream, message: &T) -> Result<(), StreamError> {
    let mut sender = Sender::new(send, FRAME_MAX);
    sender.send(message).await?;
    sender.finish();
    Ok(())
}

/// Says no in the words that the other side waits for.
async fn refuse(open: Open, refusal: Refusal, send: SendStream) -> Result<(), StreamError> {
    match open {
        Open::PutBlob(PutBlob { eager: true, .. })
        | Open::PutOutput(PutOutput { eager: true, .. })
        | Open::PutPictures(_) => reply(send, &PutDone::Refused(refusal)).await,
        Open::PutBlob(_) | Open::PutOutput(_) => reply(send, &PutReply::Refused(refusal)).await,
        Open::GetBlob(_) => reply(send, &GetReply::Refused(refusal)).await,
        Open::Watch(_) => reply(send, &Err::<WatchEvent, _>(refusal)).await,
        Open::Control(_) | Open::Call(_) | Open::Session(_) => {
            reply(send, &Response::Refused(refusal)).await
        }
    }
}

pub(crate) fn forbidden(role: Role) -> Refusal {
    Refusal::new(
        RefusalCode::Forbidden,
        format!("your role ({role}) does not allow this: ask the farm's admin"),
    )
}

/// Why there is no such job: there never was, or it was collected.
pub(crate) async fn no_job(shared: &Shared, job: JobId) -> Refusal {
    let why = shared.farm.look(move |farm| farm.core.no_job(job)).await;
    why.unwrap_or_else(|_| stopping())
}

pub(crate) fn stopping() -> Refusal {
    Refusal::new(RefusalCode::NotNow, "the coordinator is stopping: try again in a moment")
}
