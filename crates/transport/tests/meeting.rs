//! Who gets in, who does not, and what a stream carries, over real QUIC on loopback.

use std::sync::Arc;

use grange_protocol::client::{EnrolReply, Role};
use grange_protocol::join::JoinString;
use grange_protocol::{AgentId, Refusal, RefusalCode};
use grange_transport::endpoint::Accepted;
use grange_transport::identity::FarmAddress;
use grange_transport::{
    Authority, ConnectError, Endpoint, Identity, Listener, Peer, Receiver, Sender, StreamError,
    enrol,
};
use tempfile::TempDir;
use uuid::Uuid;

struct Farm {
    authority: Arc<Authority>,
    listener: Listener,
    address: FarmAddress,
    _dir: TempDir,
}

impl Farm {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let name = "meadow".parse().unwrap();
        let authority = Authority::open(dir.path(), &name).unwrap();
        let mut address = FarmAddress { name, addresses: Vec::new() };
        let own = authority.coordinator(address.clone()).unwrap();
        let listener =
            Listener::bind("127.0.0.1:0".parse().unwrap(), &own, &authority.reset_key()).unwrap();
        address.addresses.push(listener.local_addr().unwrap().to_string());
        Self { authority: Arc::new(authority), listener, address, _dir: dir }
    }

    fn join_string(&self, token: &[u8; 16]) -> JoinString {
        JoinString {
            addresses: self.address.addresses.clone(),
            role: Role::Agent,
            token: *token,
            ca: self.authority.hash(),
        }
    }

    /// Lets one newcomer in if it has the token.
    fn enrol_one(&self, token: [u8; 16]) {
        let (listener, authority, farm) =
            (self.listener.clone(), self.authority.clone(), self.address.name.clone());
        tokio::spawn(async move {
            let Ok(Accepted::Newcomer(connection)) = listener.knock().await.unwrap().accept().await
            else {
                panic!("a newcomer was expected");
            };
            let (request, sender) = enrol::next_request(&connection).await.unwrap();
            let reply = if request.token == token {
                let id = AgentId(Uuid::from_u128(7));
                let peer = Peer { id, role: Role::Agent, name: request.name };
                let certificate = authority.sign(&request.csr, &peer).unwrap().to_vec();
                EnrolReply::Enrolled { role: Role::Agent, farm, certificate }
            } else {
                EnrolReply::Refused(Refusal::new(RefusalCode::BadToken, "bad token"))
            };
            enrol::reply(&connection, sender, &reply).await.unwrap();
        });
    }

    async fn member(&self) -> Identity {
        self.enrol_one(*b"0123456789abcdef");
        enrol::join(&self.join_string(b"0123456789abcdef"), "host".parse().unwrap()).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_joins_and_comes_back_as_a_member() {
    let farm = Farm::new();
    let identity = farm.member().await;
    let dir = TempDir::new().unwrap();
    let home = dir.path().join("identity");
    identity.save(&home).unwrap();
    let identity = Identity::load(&home).unwrap();

    let endpoint = Endpoint::new(&identity).unwrap();
    let listener = farm.listener.clone();
    let server = tokio::spawn(async move { listener.knock().await.unwrap().accept().await });
    let connection = endpoint.connect().await.unwrap();
    let Ok(Accepted::Member(peer, theirs)) = server.await.unwrap() else { panic!("not let in") };
    assert_eq!(peer.name.as_str(), "host");
    assert_eq!((peer.role, peer.id), (Role::Agent, AgentId(Uuid::from_u128(7))));

    let (send, _recv) = connection.open_bi().await.unwrap();
    let mut sender = Sender::<String>::new(send, 1000);
    for word in ["a", "b", "c"] {
        sender.feed(&word.to_string()).await.unwrap();
    }
    sender.flush().await.unwrap();
    let (_, recv) = theirs.accept_bi().await.unwrap();
    let mut receiver = Receiver::<String>::new(recv, 1000);
    assert_eq!(receiver.recv().await.unwrap().as_deref(), Some("a"));
    assert_eq!(receiver.take().unwrap().as_deref(), Some("b"));
    assert_eq!(receiver.recv().await.unwrap().as_deref(), Some("c"));
    sender.finish();
    assert_eq!(receiver.recv().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_limit_ends_the_stream_before_it_is_read() {
    let farm = Farm::new();
    let endpoint = Endpoint::new(&farm.member().await).unwrap();
    let listener = farm.listener.clone();
    let server = tokio::spawn(async move { listener.knock().await.unwrap().accept().await });
    let connection = endpoint.connect().await.unwrap();
    let Ok(Accepted::Member(_, theirs)) = server.await.unwrap() else { panic!("not let in") };
    let (send, _recv) = connection.open_bi().await.unwrap();
    Sender::<Vec<u8>>::new(send, 10_000).send(&vec![0; 5_000]).await.unwrap();
    let (_, recv) = theirs.accept_bi().await.unwrap();
    let error = Receiver::<Vec<u8>>::new(recv, 1_000).recv().await.unwrap_err();
    assert!(matches!(error, StreamError::Codec(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_and_a_false_coordinator_are_told_apart() {
    let farm = Farm::new();
    farm.enrol_one(*b"0123456789abcdef");
    let bad = farm.join_string(b"fedcba9876543210");
    let error = enrol::join(&bad, "host".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "bad token");

    let other = Farm::new();
    let mut false_ca = farm.join_string(b"0123456789abcdef");
    false_ca.ca = other.authority.hash();
    let listener = farm.listener.clone();
    tokio::spawn(async move { listener.knock().await.unwrap().accept().await });
    let error = enrol::join(&false_ca, "host".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, enrol::JoinError::Connect(ConnectError::Stranger(_))), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_another_farm_are_strangers() {
    let (farm, other) = (Farm::new(), Farm::new());
    let mut identity = farm.member().await;
    identity.farm.addresses = other.address.addresses.clone();
    let listener = other.listener.clone();
    tokio::spawn(async move { listener.knock().await.unwrap().accept().await });
    let error = Endpoint::new(&identity).unwrap().connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Stranger(_)), "{error:?}");

    // One that trusts the other farm's CA but has no certificate of it.
    identity.ca = other.authority.certificate().clone();
    let listener = other.listener.clone();
    let server = tokio::spawn(async move { listener.knock().await.unwrap().accept().await });
    let outcome = Endpoint::new(&identity).unwrap().connect().await;
    assert!(server.await.unwrap().is_err(), "a stranger was let in");
    if let Ok(connection) = outcome {
        connection.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_said_with_the_address() {
    let farm = Farm::new();
    let mut identity = farm.member().await;
    let unused = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = unused.local_addr().unwrap().to_string();
    identity.farm.addresses = vec![address.clone()];
    let error = Endpoint::new(&identity).unwrap().connect().await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "the coordinator at {address} cannot be reached (no answer): check that it runs, and that UDP \
             passes to it"
        )
    );
}
