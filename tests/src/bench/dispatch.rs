//! Tasks that do nothing, through a coordinator and agents that are processes of their own, over
//! real QUIC, with the journal on: what remains is the farm itself.

use std::time::{Duration, Instant};

use grange_client::Farm as Client;
use grange_protocol::JobId;
use grange_protocol::view::JobState;

use super::processes::Farm;
use super::{Figures, median};
use crate::puppet::submit_noop;

const AGENTS: usize = 4;
const INSTANCES: u16 = 128;
const AHEAD: u8 = 3;
const SIZES: [u32; 3] = [1_000, 10_000, 100_000];
const ROUNDS: usize = 5;

pub(super) fn run() -> anyhow::Result<Figures> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}

async fn measure() -> anyhow::Result<Figures> {
    let mut farm = Farm::start()?;
    farm.start_idle_agents(AGENTS, INSTANCES, AHEAD).await?;
    let client = farm.client().await?;
    // A first job warms everybody up.
    run_job(&client, 1_000).await?;
    let mut figures = Figures::new();
    for size in SIZES {
        let (mut rates, mut coordinator, mut agents) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let before = (farm.coordinator_cpu_s()?, farm.agents_cpu_s()?);
            let took = run_job(&client, size).await?;
            let after = (farm.coordinator_cpu_s()?, farm.agents_cpu_s()?);
            rates.push(f64::from(size) / took.as_secs_f64());
            coordinator.push((after.0 - before.0) * 1e6 / f64::from(size));
            agents.push((after.1 - before.1) * 1e6 / f64::from(size));
        }
        let name = |figure: &str| format!("dispatch_{}k_{figure}", size / 1000);
        figures.insert(name("tasks_per_s"), median(rates));
        // Ticks of 10 ms say nothing about a job of a thousand tasks.
        if size > 1_000 {
            figures.insert(name("coordinator_us_per_task"), median(coordinator));
            figures.insert(name("agents_us_per_task"), median(agents));
        }
    }
    client.close().await;
    // What was answered is on disk: killed, the coordinator knows of every task.
    farm.crash_coordinator().await?;
    let client = farm.client().await?;
    for job in client.jobs().await? {
        let done = job.progress.tasks.completed == job.progress.tasks.total;
        anyhow::ensure!(done && job.state == JobState::Completed, "job {} was forgotten", job.id);
    }
    client.close().await;
    Ok(figures)
}

/// From the submission to the notice that the job is completed.
async fn run_job(client: &Client, tasks: u32) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let job = submit_noop(client, tasks).await?;
    until_completed(client, job).await?;
    Ok(began.elapsed())
}

/// Asking now and then is cheaper than watching a hundred thousand changes.
pub(super) async fn until_completed(client: &Client, job: JobId) -> anyhow::Result<()> {
    loop {
        let state = client.job(job).await?.job.state;
        if state == JobState::Completed {
            return Ok(());
        }
        anyhow::ensure!(!state.is_final(), "the job ended as {state}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
