//! Members who speak, and make no sense, or say half of it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use grange_protocol::BlobHash;
use grange_protocol::client::{Role, WatchRequest};
use grange_protocol::codec;
use grange_protocol::file::{Blob, GetBlob, PutBlob, PutDone, PutReply};
use grange_protocol::limits::{ENROL_FRAME_MAX, FRAME_MAX};
use grange_protocol::stream::Open;
use grange_tests::puppet::Puppet;
use grange_transport::{Connection, Endpoint, Identity, Receiver, RecvStream, close_code, enrol};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::renders_on;
use crate::support::farm::{FakeJob, Farm};
use crate::support::promise::files_of_store;
use crate::support::scenes::scenes;
use crate::support::strangers::{Caller, Stranger, source};
use crate::support::{eventually, memory_mib};

/// How long a peer is waited for that should have given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// As often as everything is tried: more than there may be lines of the log.
const TIMES: usize = 20;

/// A length and as many bytes, or not as many.
fn frame(len: usize, body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(len).unwrap().to_le_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

fn encoded(open: &Open) -> Vec<u8> {
    let mut frame = Vec::new();
    codec::encode_frame(open, FRAME_MAX, &mut frame).unwrap();
    frame
}

/// What nobody should say first.
fn nonsense(max: usize) -> Vec<(&'static str, Vec<u8>)> {
    let mut trailing = encoded(&Open::Watch(WatchRequest::Farm));
    trailing[0] += 1;
    trailing.push(0);
    vec![
        ("longest", u32::MAX.to_le_bytes().to_vec()),
        ("one too long", frame(max + 1, b"")),
        ("half a length", vec![7, 0]),
        ("half a message", frame(100, b"abc")),
        ("no message", frame(4, &[0xff; 4])),
        ("an empty one", frame(0, b"")),
        ("one with more behind it", trailing),
        // A request for the files that the farm lacks, of which there are 2^63.
        ("a list without end", frame(12, &[1, 0, 255, 255, 255, 255, 255, 255, 255, 255, 127, 0])),
    ]
}

/// Says something on a stream of its own, and ends it. Returns what is answered.
async fn say(connection: &Connection, bytes: &[u8]) -> Vec<u8> {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    // The other side may have stopped listening.
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    answer(&mut recv).await
}

/// All that comes until the stream ends, one way or the other.
async fn answer(recv: &mut RecvStream) -> Vec<u8> {
    let end = tokio::time::timeout(PATIENCE, recv.read_to_end(FRAME_MAX)).await;
    end.expect("the stream ends").unwrap_or_default()
}

pub(super) async fn as_admin(farm: &Farm) -> Connection {
    let identity = Identity::load(&farm.admin_identity()).unwrap();
    Endpoint::new(&identity).unwrap().connect().await.unwrap()
}

#[test]
fn messages_that_make_no_sense_end_their_streams_and_are_told_once() {
    let farm = super::farm();
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 50", 40));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let admin = as_admin(&farm).await;
        let agent = Puppet::join(&farm.client().await).await.unwrap();
        for _ in 0..TIMES {
            for (what, bytes) in nonsense(FRAME_MAX) {
                for connection in [&admin, &agent.connection] {
                    assert_eq!(say(connection, &bytes).await, b"", "{what} got an answer");
                }
            }
            // The stranger's connection goes with the stream.
            for (what, bytes) in nonsense(ENROL_FRAME_MAX) {
                let stranger = Caller::new(Stranger::Newcomer, source(9));
                let stranger = stranger.connect(farm.address()).await.unwrap();
                assert_eq!(say(&stranger, &bytes).await, b"", "{what} got an answer");
                tokio::time::timeout(PATIENCE, stranger.closed()).await.expect(what);
            }
            // Amid a stream that began well.
            let blob = Blob { hash: BlobHash::of(b"ten bytes."), len: 10 };
            for sent in [&b"ten"[..], b"ten bytes and more", b"ten byteS."] {
                let open = encoded(&Open::PutBlob(PutBlob { blob, eager: true }));
                let told = say(&admin, &[&open, sent].concat()).await;
                let told: PutDone = codec::decode(&told[4..]).unwrap();
                assert!(matches!(told, PutDone::Refused(_)), "{told:?}");
            }
        }
        // The control stream of an agent, whose end is the agent's.
        for (what, bytes) in [("too long", frame(FRAME_MAX + 1, b"")), ("none", frame(1, &[99]))] {
            let mut rogue = Puppet::join(&farm.client().await).await.unwrap();
            rogue.say(&bytes).await.unwrap();
            tokio::time::timeout(PATIENCE, rogue.is_over()).await.expect(what);
        }
        // Both connections are as good as they were.
        let open = Open::GetBlob(GetBlob { hash: BlobHash::of(b"nothing"), offset: 0 });
        for connection in [&admin, &agent.connection] {
            assert_ne!(say(connection, &encoded(&open)).await, b"");
        }
    });
    renders_on(&farm, job, 40);
    let said = farm.said("coordinator");
    for (who, what) in [
        ("admin@", "a message that makes no sense"),
        ("puppet", "a message that makes no sense"),
        ("puppet", "in the middle of a message"),
        ("127.0.0.9", "it did not join"),
    ] {
        let of = |line: &&str| line.contains(" WARN ") && line.contains(who) && line.contains(what);
        assert_eq!(said.lines().filter(of).count(), 1, "{who}: {what}:\n{said}");
    }
    assert!(said.lines().filter(|line| line.contains(" WARN ")).count() < 12, "{said}");
}

#[test]
fn half_said_things_take_bounded_memory_and_end_by_themselves() {
    let farm = super::farm();
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 50", 20));
    let (before, _) = memory_mib(farm.coordinator_pid());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let agent = Puppet::join(&farm.client().await).await.unwrap();
        // All but the last byte of the largest message.
        let large = Arc::new(frame(FRAME_MAX, &vec![0; FRAME_MAX - 1]));
        let (mut silent, mut speaking) = (JoinSet::new(), JoinSet::new());
        for number in 0..250 {
            let (mut send, mut recv) = agent.connection.open_bi().await.unwrap();
            // A stream is known to the other side when something was said on it.
            send.write_all(&large[..1]).await.unwrap();
            let large = large.clone();
            let of_kind = if number % 5 == 0 { &mut silent } else { &mut speaking };
            of_kind.spawn(async move {
                if number % 5 != 0 {
                    let _ = send.write_all(&large[1..]).await;
                }
                answer(&mut recv).await
            });
        }
        for said in silent.join_all().await {
            assert_eq!(said, b"");
        }
        agent.connection.close(close_code::DONE, b"");
        speaking.join_all().await;
    });
    let (_, most) = memory_mib(farm.coordinator_pid());
    crate::support::note(&format!("from {before} to at most {most} MiB"));
    assert!(most < before + 160, "from {before} to {most} MiB, of the gigabyte that was begun");
    renders_on(&farm, job, 20);
}

#[test]
fn transfers_that_begin_and_stand_still_leave_others_room() {
    let farm = super::farm();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (slow, held) = runtime.block_on(async {
        let token = farm.client().await.create_token(Role::Submitter, PATIENCE).await.unwrap();
        let identity = enrol::join(&token.join.parse().unwrap(), "slow".parse().unwrap()).await;
        let slow = Endpoint::new(&identity.unwrap()).unwrap().connect().await.unwrap();
        let mut held = Vec::new();
        // More than the coordinator moves at once, of one who may have half of that.
        for number in 0..80_u32 {
            let blob = Blob { hash: BlobHash::of(&number.to_le_bytes()), len: 1 << 20 };
            let (mut send, recv) = slow.open_bi().await.unwrap();
            let open = encoded(&Open::PutBlob(PutBlob { blob, eager: false }));
            send.write_all(&open).await.unwrap();
            held.push((send, Receiver::<PutReply>::new(recv, FRAME_MAX)));
        }
        let first = held[0].1.expect().await.unwrap();
        assert_eq!(first, PutReply::SendFrom(0));
        (slow, held)
    });
    let job = farm.submit_fake(&FakeJob::new("frame_ms = 5", 10));
    renders_on(&farm, job, 10);
    drop((slow, held));
}

#[test]
fn false_bytes_under_a_files_hash_keep_nobody_from_sending_it() {
    let farm = super::farm();
    let folder = TempDir::new().unwrap();
    let scene = folder.path().join("large.blend");
    // Blender reads no further than a file's end block.
    let mut bytes = fs::read(scenes().join("turn.blend")).unwrap();
    bytes.resize(bytes.len() + (8 << 20), 1);
    fs::write(&scene, &bytes).unwrap();
    let blob = Blob { hash: BlobHash::of(&bytes), len: bytes.len() as u64 };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let held = runtime.block_on(async {
        let rogue = as_admin(&farm).await;
        let (mut send, recv) = rogue.open_bi().await.unwrap();
        send.write_all(&encoded(&Open::PutBlob(PutBlob { blob, eager: false }))).await.unwrap();
        let mut recv = Receiver::<PutReply>::new(recv, FRAME_MAX);
        assert_eq!(recv.expect().await.unwrap(), PutReply::SendFrom(0));
        send.write_all(&[7; 1 << 20]).await.unwrap();
        (rogue, send, recv)
    });
    let store = farm.home().join("coordinator/store");
    let arriving = store.join("arriving").join(blob.hash.to_hex());
    eventually("they have come", || (fs::metadata(&arriving).ok()?.len() > 0).then_some(()));
    let submit = ["submit", scene.to_str().unwrap(), "--queue-anyway", "--no-preview"];
    let told = farm.grange(&submit).well();
    assert!(told.contains("job 1: large.blend"), "{told}");
    let stored = files_of_store(&store.join("blobs"));
    let (_, kept) = stored.iter().find(|(name, _)| *name == blob.hash.to_hex()).unwrap();
    assert!(fs::read(kept).unwrap() == bytes, "something else was stored");
    drop(held);
    eventually("nothing of it is left", || (!arriving.exists()).then_some(()));
}
