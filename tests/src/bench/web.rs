//! The dashboard in headless Chromium, while a job of a hundred thousand tasks runs at thousands
//! a second: real agents that do nothing, over real QUIC, and the page as a person has it open.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use grange_client::Farm as Client;
use grange_protocol::client::JobAction;
use grange_protocol::job::Policy;
use grange_protocol::kinds::{Noop, Submission};
use grange_protocol::{JobKind, Priority};

use super::Figures;
use super::processes::Farm;

const AGENTS: usize = 2;
const INSTANCES: u16 = 128;
const AHEAD: u8 = 3;
/// What the figures are called, tasks, and what each waits for: a little more than five thousand a
/// second, and than ten thousand, where the machine has room.
const LOADS: [(&str, u32, u32); 2] = [("web", 100_000, 192), ("web_10k", 200_000, 90)];

pub(super) fn run() -> anyhow::Result<Figures> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}

async fn measure() -> anyhow::Result<Figures> {
    let mut farm = Farm::start()?;
    farm.start_idle_agents(AGENTS, INSTANCES, AHEAD).await?;
    let client = farm.client().await?;
    let mut figures = Figures::new();
    for (name, tasks, millis) in LOADS {
        for (figure, value) in watched(&client, tasks, millis).await? {
            figures.insert(format!("{name}_{figure}"), value);
        }
    }
    client.close().await;
    Ok(figures)
}

/// The figures of a page that shows a job of so many tasks while they run.
async fn watched(client: &Client, tasks: u32, millis: u32) -> anyhow::Result<Figures> {
    let submission = Submission {
        name: "many".parse()?,
        priority: Priority::DEFAULT,
        policy: Policy::default(),
        manifest: None,
        queue_anyway: true,
        tags: BTreeSet::new(),
        kind: JobKind::Noop(Noop { tasks, millis }),
    };
    let job = client.submit(submission).await?;
    let link = client.page_link().await?.url;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coordinator/web/tests/measure.js");
    let measured = Command::new("node")
        .arg(script)
        .args([link, job.to_string()])
        .output()
        .context("there is no node: run this with `cargo xtask bench web`")?;
    anyhow::ensure!(
        measured.status.success(),
        "the measurement failed: {}",
        String::from_utf8_lossy(&measured.stderr)
    );
    // The next one has the machine to itself.
    client.act(job, JobAction::Cancel).await?;
    Ok(serde_json::from_slice(&measured.stdout)?)
}
