//! Those who mean harm. Here: an agent that a stranger has taken over, whose outputs and leases are
//! refused; in the files beside: crowds, and what makes no sense.

mod floods;
mod messages;

use std::time::Duration;

use grange_protocol::file::PutOutput;
use grange_protocol::session::{OpenSession, ToSession};
use grange_protocol::stream::Open;
use grange_protocol::{LeaseId, TaskRef};
use grange_tests::puppet::{Puppet, small_output, submit_noop};
use grange_transport::{StreamError, exchange};

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
    let query = grange_protocol::client::OutputsQuery { job: task.job, step: None, after: 0 };
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
    damaged.output.blob.hash = grange_protocol::BlobHash::of(b"something else");
    let told = refusal(&holder, damaged).await;
    assert!(told.contains("hash"), "{told}");
    assert_eq!(outputs(&client, task).await, [""; 0]);

    let good = put(lease, task);
    exchange::put_output(&holder.connection, good, std::io::Cursor::new(BYTES)).await.unwrap();
    assert_eq!(outputs(&client, task).await, ["0001.png"]);
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
