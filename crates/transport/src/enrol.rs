//! From a join string to an identity.

use grange_protocol::client::{EnrolReply, EnrolRequest};
use grange_protocol::join::JoinString;
use grange_protocol::limits::ENROL_FRAME_MAX;
use grange_protocol::shot::Label;
use quinn::Connection;
use rustls_pki_types::CertificateDer;

use crate::authority;
use crate::endpoint::{ConnectError, Endpoint, close_code};
use crate::identity::{FarmAddress, Identity, IdentityError};
use crate::message::{Receiver, Sender, StreamError};
use crate::socket::Socket;
use crate::tls;

/// Joins a farm: makes a key, has it signed, and returns the identity for the caller to save.
/// `name` is what the farm calls the newcomer.
pub async fn join(join: &JoinString, name: Label) -> Result<Identity, JoinError> {
    join_on(Socket::anywhere().map_err(ConnectError::Socket)?, join, name).await
}

/// The same, through that socket.
pub async fn join_on(
    socket: Socket,
    join: &JoinString,
    name: Label,
) -> Result<Identity, JoinError> {
    let tls = tls::newcomer(join.ca).map_err(|error| ConnectError::Tls(error.to_string()))?;
    let endpoint = Endpoint::with_tls(socket, tls, join.addresses.clone())?;
    let connection = endpoint.connect().await?;
    let (key, csr) = authority::request()?;
    let ca = farm_ca(&connection, join)?;
    let reply = ask(&connection, &EnrolRequest { token: join.token, name, csr }).await?;
    endpoint.close().await;
    match reply {
        EnrolReply::Refused(refusal) => Err(JoinError::Refused(refusal)),
        EnrolReply::Enrolled { role, farm, certificate } if role == join.role => {
            let farm = FarmAddress { name: farm, addresses: join.addresses.clone() };
            Ok(Identity::new(ca, certificate.into(), key, farm)?)
        }
        EnrolReply::Enrolled { role, .. } => Err(JoinError::Role(role.to_string())),
    }
}

/// The CA that the coordinator showed, which the handshake has checked against the pin.
fn farm_ca(
    connection: &Connection,
    join: &JoinString,
) -> Result<CertificateDer<'static>, JoinError> {
    connection
        .peer_identity()
        .and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok())
        .and_then(|chain| {
            chain.into_iter().find(|shown| grange_protocol::BlobHash::of(shown) == join.ca)
        })
        .ok_or(JoinError::Identity(IdentityError::NotOfAFarm))
}

async fn ask(connection: &Connection, request: &EnrolRequest) -> Result<EnrolReply, StreamError> {
    let (send, recv) = connection.open_bi().await?;
    let mut sender = Sender::new(send, ENROL_FRAME_MAX);
    sender.send(request).await?;
    sender.finish();
    Receiver::new(recv, ENROL_FRAME_MAX).expect().await
}

/// The coordinator's side: the one request of a newcomer, and the way to answer it.
pub async fn next_request(
    connection: &Connection,
) -> Result<(EnrolRequest, Sender<EnrolReply>), StreamError> {
    let (send, recv) = connection.accept_bi().await?;
    let request = Receiver::new(recv, ENROL_FRAME_MAX).expect().await?;
    Ok((request, Sender::new(send, ENROL_FRAME_MAX)))
}

/// Answers, and sees the newcomer off.
pub async fn reply(
    connection: &Connection,
    mut sender: Sender<EnrolReply>,
    reply: &EnrolReply,
) -> Result<(), StreamError> {
    sender.send(reply).await?;
    let stream = sender.finish();
    // The newcomer closes once it has read the reply; a rude one is not waited for.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), stream.stopped()).await;
    connection.close(close_code::DONE, b"");
    Ok(())
}

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Refused(grange_protocol::Refusal),
    #[error("the token is for another role ({0}): ask for a new join string")]
    Role(String),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}
