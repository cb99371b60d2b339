//! The connection to the coordinator: kept, and made anew when it breaks. While it is away the
//! agent goes on; what it has to say is said again when it is back.

use std::time::Duration;

use grange_protocol::agent::{AgentHello, FromAgent, Holding, ToAgent, Welcome};
use grange_protocol::stream::Open;
use grange_transport::message::{Receiver, Sender};
use grange_transport::{
    ConnectError, Connection, ConnectionError, Endpoint, StreamError, exchange,
};
use tokio::sync::{mpsc, oneshot, watch};

/// Messages on their way to the coordinator. Full, progress is dropped by whoever brings it.
pub(crate) const OUTGOING: usize = 4_096;
const BATCH: usize = 512;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the link tells the agent's loop.
pub(crate) enum FromLink {
    /// About to connect: what does the agent hold?
    Connecting(oneshot::Sender<Vec<Holding>>),
    Welcomed(Welcome),
    Messages(Vec<ToAgent>),
    /// The farm will not have this agent, whatever it does.
    Rejected(ConnectError),
}

pub(crate) struct Link {
    pub(crate) endpoint: Endpoint,
    pub(crate) hello: AgentHello,
    pub(crate) to_loop: mpsc::Sender<FromLink>,
    pub(crate) outgoing: mpsc::Receiver<FromAgent>,
    /// The connection, for those that move files; `None` while there is none.
    pub(crate) connection: watch::Sender<Option<Connection>>,
}

/// Why a connection's life ended.
enum Ended {
    /// The agent's loop is gone.
    Stopped,
    Lost(String),
    Rejected(ConnectError),
}

impl Link {
    /// Keeps the connection until the agent stops or is rejected.
    pub(crate) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let ended = self.live().await;
            if self.connection.send_replace(None).is_some() {
                pause = FIRST_PAUSE;
            }
            match ended {
                Ended::Stopped => break,
                Ended::Rejected(error) => {
                    let _ = self.to_loop.send(FromLink::Rejected(error)).await;
                    break;
                }
                Ended::Lost(reason) => {
                    tracing::warn!("no connection to the coordinator: {reason}");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(jittered(pause)) => {}
                () = self.to_loop.closed() => break,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.endpoint.close().await;
    }

    /// One connection, from its beginning to its end.
    async fn live(&mut self) -> Ended {
        let connection = match self.endpoint.connect().await {
            Ok(connection) => connection,
            Err(
                error @ (ConnectError::Stranger(_)
                | ConnectError::Removed(_)
                | ConnectError::Version(_)),
            ) => {
                return Ended::Rejected(error);
            }
            Err(error) => return Ended::Lost(error.to_string()),
        };
        match self.talk(&connection).await {
            Ok(()) => Ended::Stopped,
            Err(error) => match connection.close_reason() {
                Some(reason) if is_removal(&reason) => {
                    let address = connection.remote_address().to_string();
                    Ended::Rejected(ConnectError::Removed(address))
                }
                Some(ConnectionError::Reset) => Ended::Lost("it was started anew".into()),
                Some(reason) => Ended::Lost(reason.to_string()),
                None => Ended::Lost(error.to_string()),
            },
        }
    }

    async fn talk(&mut self, connection: &Connection) -> Result<(), StreamError> {
        let (reply, holding) = oneshot::channel();
        if self.to_loop.send(FromLink::Connecting(reply)).await.is_err() {
            return Ok(());
        }
        let Ok(holding) = holding.await else { return Ok(()) };
        let hello = Box::new(AgentHello { holding, ..self.hello.clone() });
        let (sender, mut receiver) =
            exchange::listen::<Welcome>(connection, &Open::Control(hello)).await?;
        let welcome = receiver.expect().await?;
        tracing::info!(farm = %welcome.farm, "connected to farm {}", welcome.farm);
        self.connection.send_replace(Some(connection.clone()));
        if self.to_loop.send(FromLink::Welcomed(welcome)).await.is_err() {
            return Ok(());
        }
        tokio::select! {
            result = write(sender.retype(), &mut self.outgoing) => result,
            result = read(receiver.retype(), &self.to_loop) => result,
        }
    }
}

/// Ends well only when nobody has anything to say any more: the agent has stopped.
async fn write(
    mut sender: Sender<FromAgent>,
    outgoing: &mut mpsc::Receiver<FromAgent>,
) -> Result<(), StreamError> {
    let mut batch = Vec::with_capacity(BATCH);
    while outgoing.recv_many(&mut batch, BATCH).await > 0 {
        for message in batch.drain(..) {
            sender.feed(&message).await?;
        }
        sender.flush().await?;
    }
    // The stream's end tells the coordinator; wait until it has everything.
    let _ = tokio::time::timeout(Duration::from_secs(1), sender.finish().stopped()).await;
    Ok(())
}

async fn read(
    mut receiver: Receiver<ToAgent>,
    to_loop: &mpsc::Sender<FromLink>,
) -> Result<(), StreamError> {
    loop {
        let mut messages = vec![receiver.expect().await?];
        while messages.len() < BATCH
            && let Some(message) = receiver.take()?
        {
            messages.push(message);
        }
        if to_loop.send(FromLink::Messages(messages)).await.is_err() {
            return Ok(());
        }
    }
}

fn is_removal(reason: &ConnectionError) -> bool {
    matches!(
        reason,
        ConnectionError::ApplicationClosed(close)
            if close.error_code == grange_transport::close_code::UNKNOWN_IDENTITY
    )
}

/// Half to all of a pause, so that a thousand agents do not come back in one instant.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without random numbers they come back together, which works too.
    let _ = getrandom::fill(&mut byte);
    pause.mul_f32(0.5 + f32::from(byte[0]) / 510.0)
}
