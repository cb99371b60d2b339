//! An agent's control stream: its messages to the loop, the loop's messages to it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use grange_protocol::AgentId;
use grange_protocol::agent::{AgentHello, FromAgent, HostLoad, ToAgent, Welcome};
use grange_protocol::limits::FRAME_MAX;
use grange_transport::{Connection, Receiver, SendStream, Sender, StreamError};
use tokio::sync::{Semaphore, mpsc};

use super::Shared;
use crate::farm::{AgentLink, Input, Outgoing};

/// Messages that wait for an agent's connection. An agent that is further behind is cut off.
const OUTGOING: usize = 16_384;
/// Messages that are handed on together.
const BATCH: usize = 512;
/// Batches of one agent that wait for the loop. Full, the network waits: an agent that says more than
/// the loop can hear holds up itself.
const BATCHES: usize = 4;

static LAST_LINK: AtomicU64 = AtomicU64::new(0);

pub(super) async fn serve(
    shared: &Arc<Shared>,
    agent: AgentId,
    connection: &Connection,
    hello: AgentHello,
    send: SendStream,
    recv: Receiver<FromAgent>,
) -> Result<(), StreamError> {
    let (outgoing, messages) = mpsc::channel(OUTGOING);
    let id = LAST_LINK.fetch_add(1, Ordering::Relaxed) + 1;
    let link = AgentLink {
        id,
        outgoing,
        connection: connection.clone(),
        load: HostLoad::default(),
        devices: Vec::new(),
        decisions: VecDeque::new(),
        last_seen: grange_protocol::Millis::default(),
    };
    tracing::info!(agent = %hello.name, "agent {} is here", hello.name);
    let name = hello.name.clone();
    let joined = Input::AgentJoined { agent, link, hello: Box::new(hello) };
    if shared.farm.send(joined).await.is_err() {
        return Ok(());
    }
    let result = tokio::select! {
        result = write(send, messages) => result,
        result = read(shared, agent, id, recv) => result,
    };
    tracing::info!(agent = %name, "agent {name} has gone");
    let _ = shared.farm.send(Input::AgentGone { agent, link: id }).await;
    result
}

async fn write(
    send: SendStream,
    mut messages: mpsc::Receiver<Outgoing>,
) -> Result<(), StreamError> {
    let Some(Outgoing::Welcome(welcome)) = messages.recv().await else { return Ok(()) };
    let mut sender = Sender::<Welcome>::new(send, FRAME_MAX);
    sender.send(&welcome).await?;
    let mut sender = sender.retype::<ToAgent>();
    let mut batch = Vec::with_capacity(BATCH);
    while messages.recv_many(&mut batch, BATCH).await > 0 {
        for message in batch.drain(..) {
            if let Outgoing::Message(message) = message {
                sender.feed(&message).await?;
            }
        }
        sender.flush().await?;
    }
    Ok(())
}

async fn read(
    shared: &Shared,
    agent: AgentId,
    link: u64,
    mut recv: Receiver<FromAgent>,
) -> Result<(), StreamError> {
    let turns = Arc::new(Semaphore::new(BATCHES));
    while let Some(message) = recv.recv().await? {
        let Ok(turn) = turns.clone().acquire_owned().await else { break };
        let mut messages = vec![message];
        while messages.len() < BATCH
            && let Some(message) = recv.take()?
        {
            messages.push(message);
        }
        if shared.farm.send(Input::FromAgent { agent, link, messages, turn }).await.is_err() {
            break;
        }
    }
    Ok(())
}
