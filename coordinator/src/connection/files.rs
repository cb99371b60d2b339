//! Files in and out. See [`grange_protocol::file`] for what is said on the stream.

use std::sync::Arc;

use bytes::Bytes;
use grange_blocking as blocking;
use grange_protocol::client::Role;
use grange_protocol::file::{
    Blob, EAGER_MAX, GetBlob, GetReply, OutputRole, PutBlob, PutDone, PutOutput, PutReply,
};
use grange_protocol::limits::{BLOB_MAX, FRAME_MAX};
use grange_protocol::stream::Open;
use grange_protocol::{AgentId, Refusal, RefusalCode};
use grange_scheduler::{Answer, Event};
use grange_store::{ReceiveError, Store};
use grange_transport::{Receiver, RecvStream, SendStream, Sender, StreamError, exchange, file};

use super::members::Bounds;
use super::{Shared, reply, stopping};
use crate::storage;

pub(super) async fn put_blob(
    shared: &Arc<Shared>,
    bounds: &Bounds,
    put: PutBlob,
    send: SendStream,
    recv: Receiver<Open>,
) -> Result<(), StreamError> {
    match receive(shared, bounds, put.blob, put.eager, send, recv).await? {
        Received::Refused => Ok(()),
        Received::Failed(send, refusal) => reply(send, &PutDone::Refused(refusal)).await,
        Received::Stored { send, .. } => reply(send, &PutDone::Stored).await,
    }
}

pub(super) async fn put_output(
    shared: &Arc<Shared>,
    bounds: &Bounds,
    agent: AgentId,
    put: PutOutput,
    send: SendStream,
    recv: Receiver<Open>,
) -> Result<(), StreamError> {
    let PutOutput { lease, task, output, eager } = put;
    if !eager {
        // Better to hear it before a gigabyte than after. The commit itself asks again.
        let check = shared.farm.look(move |farm| farm.core.check_lease(agent, lease, task)).await;
        if let Err(refusal) = check.unwrap_or_else(|_| Err(stopping())) {
            return reply(send, &PutReply::Refused(refusal)).await;
        }
    }
    match receive(shared, bounds, output.blob, eager, send, recv).await? {
        Received::Refused => Ok(()),
        Received::Failed(send, refusal) => reply(send, &PutDone::Refused(refusal)).await,
        Received::Stored { send, sent } => {
            let (of, role) = (output.blob.hash, output.role);
            let answer = shared
                .farm
                .ask(move |request| Event::OutputReceived { request, agent, lease, task, output })
                .await;
            let done = match answer {
                Ok(Answer::Committed) => {
                    // Its pictures may follow as soon as it has heard it.
                    if role == OutputRole::Frame {
                        shared.pictures.note_commit(of, agent, sent);
                    }
                    PutDone::Stored
                }
                Ok(Answer::Refused(refusal)) => PutDone::Refused(refusal),
                _ => PutDone::Refused(stopping()),
            };
            reply(send, &done).await
        }
    }
}

pub(super) async fn get_blob(
    shared: &Arc<Shared>,
    bounds: &Bounds,
    role: Role,
    get: GetBlob,
    send: SendStream,
) -> Result<(), StreamError> {
    let _own = bounds.transfers.acquire().await;
    let _permit = shared.transfers.acquire().await;
    let mut sender = Sender::new(send, FRAME_MAX);
    let Some(len) = shared.store.len_of(get.hash) else {
        let refusal =
            Refusal::new(RefusalCode::NotFound, format!("the farm has no file {}", get.hash));
        return sender.send(&GetReply::Refused(refusal)).await;
    };
    if role != Role::Agent {
        shared.keeping.note_fetched(get.hash);
    }
    sender.send(&GetReply::Sending { len }).await?;
    let mut send = sender.into_inner();
    let store = shared.store.clone();
    let source =
        blocking::run(move || store.read(get.hash)).await.map_err(std::io::Error::other)??;
    exchange::send_from(&mut send, source, get.offset).await
}

enum Received {
    /// The sender has been told no and sends nothing.
    Refused,
    /// Something went wrong on the way; the sender waits to hear it.
    Failed(SendStream, Refusal),
    /// The store has the file, and its bytes came now if they were `sent`.
    Stored { send: SendStream, sent: bool },
}

async fn receive(
    shared: &Arc<Shared>,
    bounds: &Bounds,
    blob: Blob,
    eager: bool,
    send: SendStream,
    recv: Receiver<Open>,
) -> Result<Received, StreamError> {
    let _own = bounds.transfers.acquire().await;
    let _permit = shared.transfers.acquire().await;
    let (mut stream, first) = recv.into_parts();
    let mut sender = Sender::new(send, FRAME_MAX);
    if blob.len > BLOB_MAX || (eager && blob.len > EAGER_MAX) {
        let refusal = Refusal::new(RefusalCode::Invalid, "the file is too large");
        if eager {
            return Ok(Received::Failed(sender.into_inner(), refusal));
        }
        sender.send(&PutReply::Refused(refusal)).await?;
        return Ok(Received::Refused);
    }
    if shared.store.claim_len(blob.hash) == Some(blob.len) {
        if eager {
            // The bytes are on their way already, and not wanted.
            let _ = stream.stop(grange_transport::close_code::DONE);
        } else {
            sender.send(&PutReply::Have).await?;
        }
        return Ok(Received::Stored { send: sender.into_inner(), sent: false });
    }
    if let Some(refusal) = shared.storage.refuses(blob.len) {
        if eager {
            let _ = stream.stop(grange_transport::close_code::DONE);
            return Ok(Received::Failed(sender.into_inner(), refusal));
        }
        sender.send(&PutReply::Refused(refusal)).await?;
        return Ok(Received::Refused);
    }
    let result = if eager {
        let bytes = file::receive_small(first.freeze(), &mut stream, blob.len as usize).await?;
        keep_small(&shared.store, blob, bytes).await
    } else {
        receive_large(&shared.store, blob, first.freeze(), &mut stream, &mut sender).await?
    };
    let send = sender.into_inner();
    match result {
        Ok(()) => Ok(Received::Stored { send, sent: true }),
        Err(error) => {
            let _ = stream.stop(grange_transport::close_code::PROTOCOL);
            Ok(Received::Failed(send, storage::not_stored(&error)))
        }
    }
}

async fn keep_small(store: &Arc<Store>, blob: Blob, bytes: Vec<u8>) -> Result<(), ReceiveError> {
    let store = store.clone();
    let kept = blocking::run(move || {
        // Checks the length and, as it writes, the hash.
        store.put_known(blob, &bytes)
    });
    kept.await.unwrap_or_else(|error| Err(ReceiveError::Io(std::io::Error::other(error))))
}

/// The outer error is the connection's, the inner one the store's.
async fn receive_large(
    store: &Arc<Store>,
    blob: Blob,
    first: Bytes,
    stream: &mut RecvStream,
    sender: &mut Sender<PutReply>,
) -> Result<Result<(), ReceiveError>, StreamError> {
    let opening = store.clone();
    let opened = blocking::run(move || opening.receive(blob)).await;
    let receiving = match opened {
        Ok(Ok(receiving)) => receiving,
        Ok(Err(error)) => return Ok(Err(error)),
        Err(error) => return Ok(Err(ReceiveError::Io(std::io::Error::other(error)))),
    };
    sender.send(&PutReply::SendFrom(receiving.offset())).await?;
    let (pieces, incoming) = file::incoming();
    let writing = blocking::consume(incoming, receiving, |receiving, piece| {
        piece.iter().try_for_each(|bytes| receiving.write(bytes))
    });
    let received = file::receive(first, stream, &pieces).await;
    drop(pieces);
    let written =
        writing.await.unwrap_or_else(|error| Err(ReceiveError::Io(std::io::Error::other(error))));
    let receiving = match written {
        Ok(receiving) => receiving,
        Err(error) => return Ok(Err(error)),
    };
    received?;
    let finished = blocking::run(move || receiving.finish()).await;
    Ok(finished.unwrap_or_else(|error| Err(ReceiveError::Io(std::io::Error::other(error)))))
}
