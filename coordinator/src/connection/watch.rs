//! Watchers over QUIC: events on a stream, flushed when nothing more is there to say.

use std::sync::Arc;

use grange_protocol::Refusal;
use grange_protocol::client::WatchRequest;
use grange_protocol::limits::FRAME_MAX;
use grange_protocol::view::WatchEvent;
use grange_transport::{Receiver, SendStream, Sender, StreamError};

use super::{Shared, reply};
use crate::watching::Watch;

pub(super) async fn serve(
    shared: &Arc<Shared>,
    request: WatchRequest,
    send: SendStream,
    mut recv: Receiver<()>,
) -> Result<(), StreamError> {
    let watch = match Watch::begin(shared, request).await {
        Ok(watch) => watch,
        Err(refusal) => return reply(send, &Err::<WatchEvent, _>(refusal)).await,
    };
    tokio::select! {
        result = tell(watch, Sender::new(send, FRAME_MAX)) => result,
        // The watcher ends its side when it has seen enough.
        _ = recv.recv() => Ok(()),
    }
}

async fn tell(
    mut watch: Watch,
    mut sender: Sender<Result<WatchEvent, Refusal>>,
) -> Result<(), StreamError> {
    loop {
        let told = match watch.next_now() {
            Some(told) => told,
            None => {
                sender.flush().await?;
                match watch.next().await {
                    Ok(Some(told)) => told,
                    Ok(None) => return Ok(()),
                    Err(refusal) => return Err(StreamError::Lost(refusal.message)),
                }
            }
        };
        for event in told.events() {
            sender.feed(&Ok(event.clone())).await?;
        }
    }
}
