//! An agent's stream of one session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use grange_protocol::AgentId;
use grange_protocol::limits::{CALLS_MAX, FRAME_MAX};
use grange_protocol::session::{FromSession, OpenSession, ToSession};
use grange_transport::{Receiver, SendStream, Sender, StreamError};
use tokio::sync::mpsc;

use super::papers::Ready;
use super::{Session, Terms, cancel};
use crate::connection::Shared;

static LAST_STREAM: AtomicU64 = AtomicU64::new(0);

/// Serves the stream to its end. One for a lease that is not the agent's is ended at once.
pub(crate) async fn serve(
    shared: &Shared,
    agent: AgentId,
    open: OpenSession,
    send: SendStream,
    mut recv: Receiver<FromSession>,
) -> Result<(), StreamError> {
    let (lease, task) = (open.lease, open.task);
    let known = shared.farm.look(move |farm| {
        let held = farm.core.leases().get(lease)?;
        let is_its = held.agent == agent && held.task == task;
        let terms = Terms::of(farm, task.job)?;
        is_its.then(|| (terms, farm.agent_name(agent)))
    });
    let Ok(Some((terms, agent))) = known.await else { return Ok(()) };
    let session = shared.sessions.adopt(terms);
    let (to_agent, messages) = mpsc::channel(2 * CALLS_MAX);
    let stream = LAST_STREAM.fetch_add(1, Ordering::Relaxed) + 1;
    let OpenSession { blender, device, .. } = open;
    let ready = Ready { stream, agent, device, blender, to_agent };
    let Some(first) = session.change(|papers| papers.attach(lease, ready)) else {
        cancel(&shared.farm, session.terms.job).await;
        return Ok(());
    };
    let result = tokio::select! {
        result = write(send, first, messages) => result,
        result = read(&session, &mut recv) => result,
    };
    session.change(|papers| papers.detach(stream));
    if session.has_ended() {
        cancel_unless_over(shared, &session).await;
    }
    result
}

/// After a session's end its task must not begin anew elsewhere. Where the agent completes it that
/// comes first, on its other stream; a moment later nothing is left to cancel.
async fn cancel_unless_over(shared: &Shared, session: &Session) {
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    cancel(&shared.farm, session.terms.job).await;
}

async fn write(
    send: SendStream,
    first: Vec<ToSession>,
    mut messages: mpsc::Receiver<ToSession>,
) -> Result<(), StreamError> {
    let mut sender = Sender::<ToSession>::new(send, FRAME_MAX);
    for message in &first {
        sender.feed(message).await?;
    }
    sender.flush().await?;
    while let Some(message) = messages.recv().await {
        sender.send(&message).await?;
    }
    // The session is over, and has let go of its end: whatever the agent still has to say is read.
    std::future::pending().await
}

async fn read(session: &Arc<Session>, recv: &mut Receiver<FromSession>) -> Result<(), StreamError> {
    while let Some(message) = recv.recv().await? {
        session.change(|papers| papers.told(message));
    }
    Ok(())
}
