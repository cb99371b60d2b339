//! Small pictures that an agent has made of what it committed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use grange_blocking as blocking;
use grange_protocol::file::{PutDone, PutPictures};
use grange_protocol::stream::Open;
use grange_protocol::{AgentId, Refusal, RefusalCode};
use grange_transport::{Peer, Receiver, SendStream, StreamError, close_code, file};

use super::members::Bounds;
use super::{Shared, reply};

/// Pictures of a file must be here within so long: whoever sends them holds a place.
const WITHIN: Duration = Duration::from_secs(60);

pub(super) async fn put(
    shared: &Arc<Shared>,
    bounds: &Bounds,
    agent: &Peer,
    put: PutPictures,
    send: SendStream,
    recv: Receiver<Open>,
) -> Result<(), StreamError> {
    let _own = bounds.pictures.acquire().await;
    let _turn = shared.pictures.arriving.acquire().await;
    let (mut stream, first) = recv.into_parts();
    let done = match wanted(shared, agent.id, put) {
        Err(refusal) => Err(refusal),
        // The first ones stay.
        Ok(None) => Ok(()),
        Ok(Some(len)) => {
            let receiving = file::receive_small(first.freeze(), &mut stream, len);
            let received = tokio::time::timeout(WITHIN, receiving).await;
            keep(shared, put, received.map_err(|_| StreamError::Silent(WITHIN))??).await
        }
    };
    let _ = stream.stop(close_code::DONE);
    match done {
        Ok(()) => {
            let skipped = u64::from(put.skipped);
            shared.pictures.counts.skipped.fetch_add(skipped, Ordering::Relaxed);
            reply(send, &PutDone::Stored).await
        }
        Err(refusal) => {
            if refusal.code != RefusalCode::NotNow {
                let what = "small pictures that it sent were refused";
                shared.refusals.note(what, agent.name.as_str(), &refusal);
            }
            reply(send, &PutDone::Refused(refusal)).await
        }
    }
}

/// How many bytes are to come; none if there are pictures of the file.
fn wanted(shared: &Shared, agent: AgentId, put: PutPictures) -> Result<Option<usize>, Refusal> {
    let Some(len) = put.total_len() else {
        return Err(Refusal::new(
            RefusalCode::Invalid,
            "a small picture has too many bytes or none",
        ));
    };
    if !shared.store.contains(put.of) {
        let why = format!("the farm has no file {} to have pictures of", put.of);
        return Err(Refusal::new(RefusalCode::NotFound, why));
    }
    if !shared.pictures.are_wanted() {
        return Err(Refusal::new(RefusalCode::NotNow, "nobody looks at pictures here"));
    }
    if shared.pictures.has(put.of) {
        return Ok(None);
    }
    if !shared.pictures.may_send(put.of, agent) {
        let why = format!("pictures of {} come from who has just committed it as a frame", put.of);
        return Err(Refusal::new(RefusalCode::Forbidden, why));
    }
    if let Some(refusal) = shared.storage.refuses(len as u64) {
        return Err(refusal);
    }
    Ok(Some(len))
}

async fn keep(shared: &Arc<Shared>, put: PutPictures, bytes: Vec<u8>) -> Result<(), Refusal> {
    let Some(sizes) = put.split(&bytes) else {
        let why = "the small pictures have not the bytes that were announced";
        return Err(Refusal::new(RefusalCode::Invalid, why));
    };
    drop(bytes);
    let keeping = shared.clone();
    let kept = blocking::run(move || keeping.pictures.keep_sent(put.of, &sizes)).await;
    let kept = kept.unwrap_or_else(|error| Err(error.to_string()));
    if kept.map_err(|why| Refusal::new(RefusalCode::Invalid, why))? {
        shared.pictures.counts.sent.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
