//! What people who watch cost the farm: the dispatch benchmark beside fifty open dashboards.
//!
//! A dashboard is what the page keeps open, over HTTPS: the stream of the whole farm, and on the page
//! of a job the one of that job. Whoever reads them here only reads; what that takes is said too, as
//! it is on the same machine.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use grange_client::Farm as Client;
use grange_protocol::JobId;
use grange_protocol::client::{JobAction, Role};
use rustls::crypto::aws_lc_rs::default_provider;
use ureq::tls::TlsConfig;

use super::dispatch::until_completed;
use super::processes::{Farm, cpu_s};
use super::{Figures, median};
use crate::puppet::submit_noop;

const AGENTS: usize = 4;
const INSTANCES: u16 = 128;
const AHEAD: u8 = 3;
const TASKS: u32 = 200_000;
const ROUNDS: usize = 5;
const DASHBOARDS: usize = 50;

/// What the dashboards show.
#[derive(Clone, Copy)]
enum Open {
    Nothing,
    Jobs,
    Job,
}

impl Open {
    const ALL: [(&str, Self); 3] =
        [("none", Self::Nothing), ("jobs", Self::Jobs), ("job", Self::Job)];

    fn streams(self, job: JobId) -> Vec<String> {
        let farm = "/api/v1/events?outputs=true".to_owned();
        match self {
            Self::Nothing => Vec::new(),
            Self::Jobs => vec![farm],
            Self::Job => vec![farm, format!("/api/v1/jobs/{job}/events?states=true")],
        }
    }
}

/// What one round took.
struct Round {
    tasks_per_s: f64,
    coordinator_us: f64,
    readers_us: f64,
    read_mb: f64,
}

pub(super) fn run() -> anyhow::Result<Figures> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}

async fn measure() -> anyhow::Result<Figures> {
    let mut farm = Farm::start()?;
    farm.start_idle_agents(AGENTS, INSTANCES, AHEAD).await?;
    let client = farm.client().await?;
    let token = client.create_api_token("dashboards".parse()?, Role::Viewer, LIFETIME).await?;
    let web = Web::of(&token.connect)?;
    let mut rounds = Open::ALL.map(|_| Vec::new());
    round(&farm, &client, &web, Open::Nothing).await?;
    for _ in 0..ROUNDS {
        for ((_, open), rounds) in Open::ALL.into_iter().zip(&mut rounds) {
            rounds.push(round(&farm, &client, &web, open).await?);
        }
    }
    client.close().await;
    let mut figures = Figures::new();
    for ((name, _), rounds) in Open::ALL.into_iter().zip(&rounds) {
        let mut note = |figure: &str, of: fn(&Round) -> f64| {
            let value = median(rounds.iter().map(of).collect());
            figures.insert(format!("dashboards_{name}_{figure}"), value);
        };
        note("tasks_per_s", |round| round.tasks_per_s);
        note("coordinator_us_per_task", |round| round.coordinator_us);
        note("readers_us_per_task", |round| round.readers_us);
        note("read_mb", |round| round.read_mb);
    }
    Ok(figures)
}

const LIFETIME: Duration = Duration::from_secs(3_600);

/// A job of very many tasks that do nothing, from the moment when all who watch are there.
async fn round(farm: &Farm, client: &Client, web: &Web, open: Open) -> anyhow::Result<Round> {
    let job = submit_noop(client, TASKS).await?;
    client.act(job, JobAction::Pause).await?;
    let readers = web.open(open.streams(job))?;
    // What had begun ends, and everybody is told.
    let mut done = 0;
    let before = loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = client.job(job).await?.job.progress.tasks.completed;
        if std::mem::replace(&mut done, now) == now {
            break now;
        }
    };
    let own = std::process::id();
    let cpu = || anyhow::Ok((farm.coordinator_cpu_s()?, cpu_s(own)?));
    let (cpu_before, read_before) = (cpu()?, readers.read());
    let began = Instant::now();
    client.act(job, JobAction::Resume).await?;
    until_completed(client, job).await?;
    let took = began.elapsed();
    let cpu_after = cpu()?;
    let tasks = u64::from(TASKS) - before;
    let per_task = |seconds: f64| seconds * 1e6 / tasks as f64;
    Ok(Round {
        tasks_per_s: tasks as f64 / took.as_secs_f64(),
        coordinator_us: per_task(cpu_after.0 - cpu_before.0),
        readers_us: per_task(cpu_after.1 - cpu_before.1),
        read_mb: (readers.read() - read_before) as f64 / 1e6,
    })
}

/// The farm's HTTP API, for who trusts its certificate whatever it is.
struct Web {
    agent: ureq::Agent,
    base: String,
    token: String,
}

/// Those who read, until the value is dropped.
struct Readers {
    read: Arc<AtomicU64>,
    stop: Arc<AtomicU64>,
}

impl Web {
    fn of(connect: &str) -> anyhow::Result<Self> {
        let rest = connect.strip_prefix("grange+https://").context("no connect string")?;
        let (token, rest) = rest.split_once('@').context("no token")?;
        let (address, _) = rest.split_once("?ca=").context("no address")?;
        let tls = TlsConfig::builder()
            .disable_verification(true)
            .unversioned_rustls_crypto_provider(Arc::new(default_provider()))
            .build();
        let agent = ureq::Agent::config_builder().tls_config(tls).build().into();
        Ok(Self { agent, base: format!("https://{address}"), token: token.into() })
    }

    /// Opens the streams for each dashboard, and reads them to no end.
    fn open(&self, streams: Vec<String>) -> anyhow::Result<Readers> {
        let readers = Readers { read: Arc::default(), stop: Arc::default() };
        for stream in streams {
            for _ in 0..DASHBOARDS {
                let response = self
                    .agent
                    .get(format!("{}{stream}", self.base))
                    .header("Authorization", format!("Bearer {}", self.token))
                    .call()?;
                let mut body = response.into_body().into_reader();
                let (read, stop) = (readers.read.clone(), readers.stop.clone());
                std::thread::spawn(move || {
                    let mut piece = vec![0; 64 << 10];
                    while stop.load(Ordering::Relaxed) == 0
                        && let Ok(got @ 1..) = body.read(&mut piece)
                    {
                        read.fetch_add(got as u64, Ordering::Relaxed);
                    }
                });
            }
        }
        Ok(readers)
    }
}

impl Readers {
    fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.stop.store(1, Ordering::Relaxed);
    }
}
