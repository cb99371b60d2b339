//! The dashboard in headless Chromium, while a job of a hundred thousand tasks runs at thousands
//! a second: real agents that do nothing, over real QUIC, and the page as a person has it open.

use std::collections::BTreeSet;

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use grange_protocol::job::Policy;
use grange_protocol::kinds::{Noop, Submission};
use grange_protocol::{JobKind, Priority};

use super::Figures;
use super::processes::Farm;

const TASKS: u32 = 100_000;
const AGENTS: usize = 2;
/// So many tasks at once that each take so long are a little more than five thousand a second, where the
/// machine has room.
const INSTANCES: u16 = 128;
const TASK_MS: u32 = 48;
const AHEAD: u8 = 3;

pub(super) fn run() -> anyhow::Result<Figures> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}

async fn measure() -> anyhow::Result<Figures> {
    let mut farm = Farm::start()?;
    farm.start_idle_agents(AGENTS, INSTANCES, AHEAD).await?;
    let client = farm.client().await?;
    let submission = Submission {
        name: "many".parse()?,
        priority: Priority::DEFAULT,
        policy: Policy::default(),
        manifest: None,
        queue_anyway: true,
        tags: BTreeSet::new(),
        kind: JobKind::Noop(Noop { tasks: TASKS, millis: TASK_MS }),
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
    client.close().await;
    Ok(serde_json::from_slice(&measured.stdout)?)
}
