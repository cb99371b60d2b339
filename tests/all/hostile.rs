//! Those who mean harm. Here: an agent that a stranger has taken over, whose outputs and leases are
//! refused; in the files beside: crowds, and what makes no sense.

mod bombs;
mod clocks;
mod floods;
mod links;
mod messages;
mod pictures;

use std::time::Duration;

use grange_protocol::agent::{AttemptEnded, Failure, FailureKind, FromAgent, Outcome};
use grange_protocol::client::OutputsQuery;
use grange_protocol::file::{Blob, PutOutput};
use grange_protocol::limits::{FRAME_MAX, LOG_MAX, REASON_MAX};
use grange_protocol::session::{OpenSession, ToSession};
use grange_protocol::stream::Open;
use grange_protocol::{BlobHash, LeaseId, TaskRef, codec};
use grange_tests::puppet::{Puppet, small_output, submit_manifest, submit_noop};
use grange_transport::{StreamError, close_code, exchange};

use crate::support::farm::Farm;
use crate::support::http::Http;
use crate::support::pictures::names;

/// A farm whose log has what an admin would see, with a host of fake Blenders.
fn farm() -> Farm {
    let mut farm = Farm::without_a_coordinator();
    farm.set_environment(&[("RUST_LOG", "info")]);
    farm.start_coordinator();
    farm.add_fakes(&["host"], 1);
    farm
}

/// The job ends well, and the host was never away.
#[track_caller]
fn renders_on(farm: &Farm, job: u64, frames: u64) {
    let detail = farm.wait_for_state(job, "completed");
    assert_eq!(detail["job"]["progress"]["tasks"]["completed"], frames);
    let said = farm.said("coordinator");
    assert_eq!(said.matches("agent host is here").count(), 1, "{said}");
    assert!(!said.contains("agent host has gone"), "{said}");
}

const BYTES: &[u8] = b"not a picture at all";

/// Outputs that the farm keeps of a job, by name.
async fn outputs(client: &grange_client::Farm, task: TaskRef) -> Vec<String> {
    let query = OutputsQuery { job: task.job, step: None, after: 0 };
    let page = client.outputs(query).await.unwrap();
    page.rows.into_iter().map(|row| row.output.name.to_string()).collect()
}

async fn refusal(agent: &Puppet, put: PutOutput) -> String {
    match exchange::put_output(&agent.connection, put, std::io::Cursor::new(BYTES)).await {
        Err(StreamError::Refused(refusal)) => refusal.message,
        other => panic!("it was not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_leave_the_jobs_folder_never_reach_the_farm() {
    let farm = Farm::new();
    let client = farm.client().await;
    let mut agent = Puppet::join(&client).await.unwrap();
    submit_noop(&client, 1).await.unwrap();
    let (lease, task) = agent.assigned().await.unwrap();
    let forgeries = [
        ["aa/evil.png", "../evil.png"],
        ["aaaaaaa/evil.png", "a/../../evil.png"],
        ["a/etc/cron.d/evil", "//etc/cron.d/evil"],
        ["aa/evil.png", "a\\\\evil.png"],
        ["evil.png", "ev\0l.png"],
    ];
    for [honest, forged] in forgeries {
        let put = small_output(lease, task, honest, BYTES);
        let answer = agent.put_forged(put, BYTES, [honest, forged]).await.unwrap();
        assert_eq!(answer, b"", "`{forged}` got an answer");
    }
    assert_eq!(outputs(&client, task).await, [""; 0]);
    // The same way with nothing forged works, so it is the names that were refused.
    let put = small_output(lease, task, "aa/good.png", BYTES);
    let answer = agent.put_forged(put, BYTES, ["good", "good"]).await.unwrap();
    assert_ne!(answer, b"");
    assert_eq!(outputs(&client, task).await, ["aa/good.png"]);
    let beside = names(farm.home()).into_iter().filter(|name| name.contains("evil"));
    assert_eq!(beside.collect::<Vec<_>>(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_holder_of_a_lease_commits_and_only_what_it_announced() {
    let farm = Farm::new();
    let client = farm.client().await;
    let mut holder = Puppet::join(&client).await.unwrap();
    let other = Puppet::join(&client).await.unwrap();
    submit_noop(&client, 1).await.unwrap();
    let (lease, task) = holder.assigned().await.unwrap();

    let put = |lease: LeaseId, task: TaskRef| small_output(lease, task, "0001.png", BYTES);
    let told = refusal(&other, put(lease, task)).await;
    assert!(told.contains("lease"), "{told}");
    let stale = LeaseId { number: lease.number + 1, ..lease };
    let told = refusal(&holder, put(stale, task)).await;
    assert!(told.contains("lease"), "{told}");
    let mut damaged = put(lease, task);
    damaged.output.blob.hash = BlobHash::of(b"something else");
    let told = refusal(&holder, damaged).await;
    assert!(told.contains("hash"), "{told}");
    assert_eq!(outputs(&client, task).await, [""; 0]);

    let good = put(lease, task);
    exchange::put_output(&holder.connection, good, std::io::Cursor::new(BYTES)).await.unwrap();
    assert_eq!(outputs(&client, task).await, ["0001.png"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_has_moved_commits_nothing_and_nobody_commits_anothers_frame() {
    let farm = Farm::new();
    let client = farm.client().await;
    let mut first = Puppet::join(&client).await.unwrap();
    submit_noop(&client, 1).await.unwrap();
    let (before, task) = first.assigned().await.unwrap();
    let Puppet { connection, identity, .. } = first;
    connection.close(close_code::DONE, b"");
    let mut second = Puppet::join(&client).await.unwrap();
    let (lease, same) = second.assigned().await.unwrap();
    assert_eq!(same, task);
    assert_ne!(lease, before);

    // It comes back, and repeats what was good before, and what is good for the other one.
    let first = Puppet::connect(identity).await.unwrap();
    for lease in [before, lease] {
        let told = refusal(&first, small_output(lease, task, "0001.png", BYTES)).await;
        assert!(told.contains("lease"), "{told}");
    }
    let told = refusal(&second, small_output(before, task, "0001.png", BYTES)).await;
    assert!(told.contains("lease"), "{told}");
    assert_eq!(outputs(&client, task).await, [""; 0]);

    // The holder commits, once however often it says so, and its first version stays.
    for bytes in [BYTES, BYTES, b"another picture"] {
        let put = small_output(lease, task, "0001.png", bytes);
        exchange::put_output(&second.connection, put, std::io::Cursor::new(bytes)).await.unwrap();
    }
    let told = refusal(&first, small_output(lease, task, "0001.png", BYTES)).await;
    assert!(told.contains("lease"), "{told}");
    let query = OutputsQuery { job: task.job, step: None, after: 0 };
    let kept = client.outputs(query).await.unwrap().rows;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].output.blob.hash, BlobHash::of(BYTES));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_writes_logs_of_its_own_tasks_alone_and_no_longer_than_they_may_be() {
    let farm = Farm::new();
    let client = farm.client().await;
    let mut holder = Puppet::join(&client).await.unwrap();
    let mut other = Puppet::join(&client).await.unwrap();
    submit_noop(&client, 1).await.unwrap();
    let (lease, task) = holder.assigned().await.unwrap();
    let ended = |log: String| {
        let why = Failure { kind: FailureKind::Scene, reason: "r".repeat(1 << 20) };
        let ended = AttemptEnded { lease, task, outcome: Outcome::Failed(why), log };
        let mut frame = Vec::new();
        codec::encode_frame(&FromAgent::Ended(ended), FRAME_MAX, &mut frame).unwrap();
        frame
    };
    for _ in 0..10 {
        other.say(&ended("not its own".repeat(10_000))).await.unwrap();
    }
    // Heard in their order, and before the other one's: it goes when it has said nonsense.
    other.say(&u32::MAX.to_le_bytes()).await.unwrap();
    other.is_over().await;
    holder.say(&ended("its own ".repeat(100_000))).await.unwrap();
    let job = task.job.0.to_string();
    let failed = farm.wait_for_state(task.job.0.into(), "failed");
    assert!(failed["job"]["reason"].as_str().unwrap().len() < 2 * REASON_MAX, "{failed}");
    let logs = farm.grange(&["logs", &job, "--json"]).json_lines();
    assert_eq!(logs.len(), 1, "one attempt, one log");
    let text = logs[0]["text"].as_str().unwrap();
    assert!(text.starts_with("its own") && text.len() <= LOG_MAX, "{} bytes", text.len());
}

/// Manifests whose paths would be written elsewhere are refused before anybody lays them out.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_leads_out_of_its_layout_is_never_submitted() {
    let farm = Farm::new();
    let client = farm.client().await;
    let scene = BlobHash::of(b"scene");
    let entry = |path: &str| -> (String, BlobHash, u64) { (path.into(), scene, 5) };
    let forged = [
        vec![entry("/p/../../etc/cron.d/evil")],
        vec![entry("/p/a/./b")],
        vec![entry("p/a.blend")],
        vec![entry("C:\\p\\a.blend")],
        vec![entry("//server/share/a.blend")],
        vec![entry("/p/a\0.blend")],
        vec![entry("/p/a.blend"), entry("/p/a.blend/b")],
        vec![entry("/p/a.blend"), entry("/p/a.blend-b"), entry("/p/a.blend/b")],
    ];
    client.put_bytes(Blob { hash: scene, len: 5 }, b"scene".to_vec()).await.unwrap();
    for entries in forged {
        let bytes = codec::encode(&entries).unwrap();
        let blob = Blob { hash: BlobHash::of(&bytes), len: bytes.len() as u64 };
        client.put_bytes(blob, bytes).await.unwrap();
        let told = submit_manifest(&client, blob.hash).await.unwrap_err().to_string();
        assert!(told.contains("the manifest is bad"), "{entries:?}: {told}");
    }
    // The same way with nothing forged works.
    let bytes = codec::encode(&vec![entry("/p/a.blend")]).unwrap();
    let blob = Blob { hash: BlobHash::of(&bytes), len: bytes.len() as u64 };
    client.put_bytes(blob, bytes).await.unwrap();
    submit_manifest(&client, blob.hash).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_serves_a_session_that_is_none_or_anothers() {
    let farm = Farm::new();
    let client = farm.client().await;
    let mut holder = Puppet::join(&client).await.unwrap();
    let other = Puppet::join(&client).await.unwrap();
    submit_noop(&client, 1).await.unwrap();
    let (lease, task) = holder.assigned().await.unwrap();
    let stale = LeaseId { number: lease.number + 1, ..lease };
    for (agent, lease) in [(&holder, lease), (&other, lease), (&holder, stale)] {
        let (blender, device) = ("4.2.0".into(), "cpu".parse().unwrap());
        let open = Open::Session(OpenSession { lease, task, blender, device });
        let (_sender, mut calls) =
            exchange::listen::<ToSession>(&agent.connection, &open).await.unwrap();
        let told = tokio::time::timeout(Duration::from_secs(30), calls.recv()).await;
        assert!(!matches!(told.expect("the stream ends"), Ok(Some(_))), "it was believed");
    }
    let sessions = Http::of(&farm, "submitter").get("/api/v1/sessions").json(200);
    assert_eq!(sessions["items"], serde_json::json!([]));
}
