//! Enrolment: one token, one certificate.

use grange_protocol::client::{EnrolReply, EnrolRequest};
use grange_protocol::{AgentId, Refusal, RefusalCode};
use grange_scheduler::{Answer, Event, TokenHash};
use grange_transport::{Connection, Peer, StreamError, enrol as wire};
use std::time::Duration;
use uuid::Uuid;

use super::{Shared, stopping};

/// A newcomer who says nothing for so long is sent away.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn enrol(shared: &Shared, connection: &Connection) -> Result<(), StreamError> {
    let request = tokio::time::timeout(PATIENCE, wire::next_request(connection)).await;
    let (request, sender) = request.map_err(|_| StreamError::Silent(PATIENCE))??;
    let reply = decide(shared, &request).await;
    wire::reply(connection, sender, &reply).await?;
    match reply {
        EnrolReply::Refused(refusal) => Err(StreamError::Refused(refusal)),
        EnrolReply::Enrolled { .. } => Ok(()),
    }
}

async fn decide(shared: &Shared, request: &EnrolRequest) -> EnrolReply {
    let (token, identity, name) =
        (TokenHash::of(&request.token), AgentId(Uuid::now_v7()), request.name.clone());
    if name.is_empty() {
        return refused(RefusalCode::Invalid, "a newcomer needs a name");
    }
    // A bad request must not use the token up.
    let probe =
        Peer { id: identity, role: grange_protocol::client::Role::Agent, name: name.clone() };
    if let Err(error) = shared.authority.sign(&request.csr, &probe) {
        return refused(RefusalCode::Invalid, &format!("the certificate request is bad: {error}"));
    }
    let event_name = name.clone();
    let answer = shared
        .farm
        .ask(move |request| Event::Enrol { request, token, identity, name: event_name })
        .await;
    let role = match answer {
        Ok(Answer::Enrolled(role)) => role,
        Ok(Answer::Refused(refusal)) => return EnrolReply::Refused(refusal),
        _ => return EnrolReply::Refused(stopping()),
    };
    tracing::info!(peer = %name, %role, "{name} has joined as {role}");
    match shared.authority.sign(&request.csr, &Peer { id: identity, role, name }) {
        Ok(certificate) => EnrolReply::Enrolled {
            role,
            farm: shared.name.clone(),
            certificate: certificate.to_vec(),
        },
        Err(error) => refused(RefusalCode::Invalid, &error.to_string()),
    }
}

fn refused(code: RefusalCode, message: &str) -> EnrolReply {
    EnrolReply::Refused(Refusal::new(code, message))
}
