//! What facts make of a state, to the byte: whoever changes that writes another format.

use grange_protocol::agent::{Completed, DeviceKind, FailureKind};
use grange_protocol::client::Role;
use grange_protocol::file::{Blob, Output, OutputRole};
use grange_protocol::footprint::{MeasuredEnd, Measurement, Memory};
use grange_protocol::{BlobHash, Epoch, JobId, LeaseId, Millis, Priority, StepIndex};
use grange_scheduler::{FORMAT, Fact, Likeness, Recorded, State, TokenHash, read_state};

use crate::farm::{agent, frames, label, noops, task};

/// One of each kind, in an order in which they could have come.
fn facts() -> Vec<Fact> {
    let job = JobId(1);
    let lease = LeaseId { epoch: Epoch(1), number: 7 };
    let cost = Completed { outputs: 1, total_ms: 90, render_ms: 70, load_ms: 10, peak_mib: 300 };
    let output = Output {
        name: label("0001.png"),
        role: OutputRole::Frame,
        frame: 1,
        blob: Blob { hash: BlobHash::of(b"picture"), len: 7 },
    };
    let likeness = Likeness {
        blend: label("/project/x.blend"),
        scene: None,
        view_layer: Some(label("beauty")),
        device: DeviceKind::Cuda,
        manifest: BlobHash::of(b"manifest"),
    };
    let measurement = |end| Measurement {
        lease,
        task: task("1/0"),
        device: 0,
        kept: false,
        pixels: 1920 * 1080,
        peak: Memory { device_mib: 3_000, ram_mib: 900 },
        load_ms: Some(400),
        end,
    };
    let rendered = MeasuredEnd::Rendered { frame_ms: 800, beside: 1 };
    let reserved = Memory { device_mib: 4_000, ram_mib: 900 };
    let (token, api, key) =
        (TokenHash::of(&[1; 16]), TokenHash::of(&[2; 16]), BlobHash::of(b"the key"));
    let measured = |end| Fact::Measured {
        likeness: Box::new(likeness.clone()),
        measurement: measurement(end),
        own_size: true,
    };
    let submitted =
        |job, spec| Fact::JobSubmitted { job, submitter: label("ada"), spec: Box::new(spec) };
    let failed = |at, kind| Fact::AttemptFailed {
        task: task(at),
        agent: agent('A'),
        kind,
        reason: "it broke".into(),
    };
    vec![
        Fact::EpochBegan(Epoch(1)),
        Fact::TokenCreated { token, role: Role::Agent, expires_at: Millis(9_000) },
        Fact::Enrolled { token, identity: agent('A'), name: label("A"), role: Role::Agent },
        Fact::TokenCreated { token: api, role: Role::Admin, expires_at: Millis(9_000) },
        Fact::ApiTokenCreated {
            token: api,
            name: label("notebook"),
            role: Role::Submitter,
            expires_at: Millis(90_000),
        },
        Fact::ApiTokenCreated {
            token: TokenHash::of(&[3; 16]),
            name: label("gone"),
            role: Role::Submitter,
            expires_at: Millis(90_000),
        },
        Fact::ApiTokenRevoked(label("gone")),
        submitted(job, frames("x", 5)),
        Fact::SubmissionKeyed { key, body: BlobHash::of(b"the body"), job },
        Fact::JobPaused(job),
        Fact::JobResumed(job),
        Fact::JobPrioritised(job, label::<Priority>("70")),
        measured(rendered),
        measured(MeasuredEnd::OutOfMemory { reserved }),
        Fact::OutputStored { task: task("1/0"), output: output.clone() },
        Fact::TaskCompleted { task: task("1/0"), agent: agent('A'), cost },
        Fact::OutputStored { task: task("1/1"), output: Output { name: label("2.png"), ..output } },
        failed("1/1", FailureKind::Crash),
        Fact::LeaseSpent { task: task("1/1"), lease },
        failed("1/2", FailureKind::OutOfMemory),
        Fact::AgentBlocked { job, agent: agent('A') },
        Fact::TaskFailed(task("1/3")),
        Fact::FitsNowhere { task: task("1/2"), reason: "too large".into() },
        submitted(JobId(2), noops(3)),
        Fact::StepSkipped { job: JobId(2), step: StepIndex(0), reason: "no ffmpeg".into() },
        Fact::JobCompleted(JobId(2)),
        submitted(JobId(3), noops(40)),
        Fact::JobFailed { job: JobId(3), reason: "too many failed".into() },
        Fact::JobRetried(JobId(3)),
        Fact::JobCanceled(JobId(3)),
        Fact::JobFetched(JobId(3)),
        Fact::JobKept { job: JobId(3), kept: true },
        Fact::JobCollected(JobId(2)),
        Fact::JobTagged { job: JobId(3), tags: [label("big")].into() },
        Fact::AgentDrained { agent: agent('A'), drained: true },
        Fact::AgentTagged { agent: agent('A'), tags: [label("big"), label("night")].into() },
        Fact::AgentScheduled { agent: agent('A'), schedule: Some(label("mon-fri 19:00-07:00")) },
        Fact::TokenCreated { token, role: Role::Agent, expires_at: Millis(9_000) },
        Fact::Enrolled { token, identity: agent('B'), name: label("B"), role: Role::Agent },
        Fact::AgentRemoved(agent('B')),
    ]
}

#[test]
fn facts_make_the_state_of_this_format_to_the_byte() {
    let facts: Vec<Recorded> =
        (1_000..).zip(facts()).map(|(at, fact)| Recorded { at: Millis(at), fact }).collect();
    let mut state = State::default();
    for fact in &facts {
        state.apply(fact).unwrap();
    }
    let written = BlobHash::of(&postcard::to_stdvec(&facts).unwrap());
    let hashes = (FORMAT, written.to_string(), state.hash().unwrap().to_string());
    let expected = (
        5,
        "3b4cb0492dd0ffe57b5beb62152a23a6773a34b3cc6b6877e1fedd6d41a56811",
        "c65e8778e03d7bb1ae1e9420671eed36ef4a55b28091ffbad1cf4c5dbf772b51",
    );
    assert_eq!(
        (hashes.0, hashes.1.as_str(), hashes.2.as_str()),
        expected,
        "facts, or what they do, have changed: src/format.rs says what else to do"
    );
}

/// Format 5 only added two maps at the end, so a state without anything in them shows what a state of
/// format 4 was.
#[test]
fn a_state_of_format_4_is_read() {
    let of_format_4 =
        facts().into_iter().take_while(|fact| !matches!(fact, Fact::JobTagged { .. }));
    let mut state = State::default();
    for (at, fact) in (1_000..).zip(of_format_4) {
        state.apply(&Recorded { at: Millis(at), fact }).unwrap();
    }
    let mut bytes = postcard::to_stdvec(&state).unwrap();
    assert_eq!([bytes.pop(), bytes.pop()], [Some(0), Some(0)], "two empty maps");
    assert_eq!(read_state(4, &bytes).unwrap(), state);
}
