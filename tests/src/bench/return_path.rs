//! Finished frames on their way back: from an agent's files to committed ones, beside what the
//! network, the disk and other programs can do in the same run.
//!
//! - **grange**: a real coordinator process; this process is the agent, and sends as an agent does
//!   (a stream per file, 32 at once). Each file is hashed, synced, renamed, its directory synced,
//!   and its fact in the journal before it counts.
//! - **quinn**: the same endpoint, the same streams, to a receiver process that hashes and writes
//!   each file and answers; no sync, no rename, no journal.
//! - **rsync**: `rsync` to a daemon over TCP, with `--whole-file --fsync`.
//! - **cp**: `cp` and `sync -f`.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use grange_protocol::BlobHash;
use grange_protocol::file::{Blob, Output, OutputRole, PutOutput};
use grange_transport::exchange;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::bare;
use super::processes::{Farm, cpu_s, disk, ended_children_cpu_s};
use super::{Figures, median};
use crate::puppet::{Puppet, submit_noop};

const ROUNDS: usize = 3;
const STREAMS: usize = 32;

/// A set of files to send.
struct Load {
    name: &'static str,
    count: usize,
    len: usize,
}

const LOADS: [Load; 2] = [
    Load { name: "200x5mb", count: 200, len: 5_000_000 },
    Load { name: "5000x100kb", count: 5_000, len: 100_000 },
];

/// Seconds that pass, and CPU seconds of both ends.
#[derive(Clone, Copy)]
struct Cost {
    wall_s: f64,
    cpu_s: f64,
}

pub(super) fn run() -> anyhow::Result<Figures> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}

async fn measure() -> anyhow::Result<Figures> {
    let mut figures = Figures::new();
    for load in LOADS {
        let files = load.make()?;
        let gb = (load.count * load.len) as f64 / 1e9;
        let (mut grange, mut quinn) = (Vec::new(), Vec::new());
        let (mut rsync, mut cp) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // Side by side, so that a machine that drifts drifts for all of them; and nobody pays for
            // what the one before has left to be written.
            quinn.push(by_bare_quinn(&files).await?);
            grange.push(by_grange(&files).await?);
            rsync.push(by_rsync(&files)?);
            cp.push(by_cp(&files)?);
        }
        let ratios = grange.iter().zip(&quinn).map(|(ours, bare)| bare.wall_s / ours.wall_s);
        figures.insert(format!("{}_grange_to_quinn_ratio", load.name), median(ratios.collect()));
        for (way, costs) in [("grange", grange), ("quinn", quinn), ("rsync", rsync), ("cp", cp)] {
            let rate = costs.iter().map(|cost| gb * 1000.0 / cost.wall_s).collect();
            let cpu = costs.iter().map(|cost| cost.cpu_s / gb).collect();
            figures.insert(format!("{}_{way}_mb_per_s", load.name), median(rate));
            figures.insert(format!("{}_{way}_cpu_s_per_gb", load.name), median(cpu));
        }
    }
    Ok(figures)
}

/// Files that do not compress, each another one.
struct Files {
    dir: TempDir,
    names: Vec<String>,
}

impl Load {
    fn make(&self) -> anyhow::Result<Files> {
        let dir = TempDir::new_in(disk()?)?;
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut names = Vec::new();
        for at in 0..self.count {
            let mut bytes = Vec::with_capacity(self.len + 8);
            while bytes.len() < self.len {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.extend_from_slice(&state.to_le_bytes());
            }
            bytes.truncate(self.len);
            let name = format!("{at:05}.bin");
            fs::write(dir.path().join(&name), bytes)?;
            names.push(name);
        }
        Ok(Files { dir, names })
    }
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

async fn by_grange(files: &Files) -> anyhow::Result<Cost> {
    let farm = Farm::start()?;
    let client = farm.client().await?;
    let mut agent = Puppet::join(&client).await?;
    submit_noop(&client, 1).await?;
    client.close().await;
    let (lease, task) = agent.assigned().await?;
    let connection = agent.connection.clone();
    send_all(
        files,
        || farm.coordinator_cpu_s(),
        move |name, blob, source| {
            let connection = connection.clone();
            async move {
                let name = name.parse()?;
                let output = Output { name, role: OutputRole::Frame, frame: 1, blob };
                let put = PutOutput { lease, task, output, eager: false };
                Ok(exchange::put_output(&connection, put, source).await?)
            }
        },
    )
    .await
}

/// Hashes and sends every file, so many at once. `other_cpu_s` is what the receiver has used.
async fn send_all<F>(
    files: &Files,
    other_cpu_s: impl Fn() -> anyhow::Result<f64>,
    send: impl Fn(String, Blob, File) -> F + Clone + Send + 'static,
) -> anyhow::Result<Cost>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let (before_own, before_other) = (cpu_s(std::process::id())?, other_cpu_s()?);
    settle();
    let began = Instant::now();
    let permits = Arc::new(Semaphore::new(STREAMS));
    let mut sending = JoinSet::new();
    for name in &files.names {
        let permit = permits.clone().acquire_owned().await?;
        let (send, path, name) = (send.clone(), files.path(name), name.clone());
        sending.spawn(async move {
            let _permit = permit;
            let blob = hashed(&path).await?;
            send(name, blob, File::open(path)?).await
        });
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    let wall_s = began.elapsed().as_secs_f64();
    let own = cpu_s(std::process::id())? - before_own;
    let other = other_cpu_s()? - before_other;
    Ok(Cost { wall_s, cpu_s: own + other })
}

/// Writes what the system still holds back.
fn settle() {
    rustix::fs::sync();
}

/// An agent hashes what it sends.
async fn hashed(path: &Path) -> anyhow::Result<Blob> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let bytes = fs::read(path)?;
        Ok(Blob { hash: BlobHash::of(&bytes), len: bytes.len() as u64 })
    })
    .await?
}

async fn by_bare_quinn(files: &Files) -> anyhow::Result<Cost> {
    let out = TempDir::new_in(disk()?)?;
    let receiver = bare::Receiver::start(out.path())?;
    let connection = receiver.connect().await?;
    send_all(
        files,
        || receiver.cpu_s(),
        move |name, blob, source| {
            let connection = connection.clone();
            async move { bare::send(&connection, &name, blob, source).await }
        },
    )
    .await
}

fn by_rsync(files: &Files) -> anyhow::Result<Cost> {
    let daemon = RsyncDaemon::start()?;
    let mut client = Command::new("rsync");
    client.args(["-r", "--whole-file", "--fsync"]).arg(format!("{}/", files.dir.path().display()));
    client.arg(format!("rsync://{}/out/", daemon.address));
    timed(&mut client, Some(&daemon))
}

fn by_cp(files: &Files) -> anyhow::Result<Cost> {
    let out = TempDir::new_in(disk()?)?;
    let copy = format!(
        "cp -r '{}/.' '{}' && sync -f '{1}'",
        files.dir.path().display(),
        out.path().display()
    );
    timed(Command::new("sh").args(["-c", &copy]), None)
}

/// Runs a command; CPU time by the shell's own accounting of its children.
fn timed(command: &mut Command, daemon: Option<&RsyncDaemon>) -> anyhow::Result<Cost> {
    settle();
    let before = children_cpu_s()?;
    let began = Instant::now();
    let done = command.stdout(Stdio::null()).status().with_context(|| format!("{command:?}"))?;
    let wall_s = began.elapsed().as_secs_f64();
    anyhow::ensure!(done.success(), "{command:?} failed");
    let mut cpu = children_cpu_s()? - before;
    if let Some(daemon) = daemon {
        cpu += daemon.children_cpu_s()?;
    }
    Ok(Cost { wall_s, cpu_s: cpu })
}

/// CPU seconds of this process's children that have ended.
fn children_cpu_s() -> anyhow::Result<f64> {
    ended_children_cpu_s(std::process::id())
}

/// `rsync --daemon`, which forks a child for each connection.
struct RsyncDaemon {
    child: Child,
    address: SocketAddr,
    _out: TempDir,
}

impl RsyncDaemon {
    fn start() -> anyhow::Result<Self> {
        let out = TempDir::new_in(disk()?)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = out.path().join("rsyncd.conf");
        let to = out.path().join("out");
        fs::create_dir(&to)?;
        let text =
            format!("uid=0\ngid=0\nuse chroot=no\n[out]\npath={}\nread only=no\n", to.display());
        fs::write(&config, text)?;
        let child = Command::new("rsync")
            .args(["--daemon", "--no-detach", "--address=127.0.0.1", &format!("--port={port}")])
            .arg(format!("--config={}", config.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let began = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            anyhow::ensure!(began.elapsed() < Duration::from_secs(5), "rsync does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { child, address, _out: out })
    }

    fn children_cpu_s(&self) -> anyhow::Result<f64> {
        // The child of the connection is reaped a moment after the client is done.
        std::thread::sleep(Duration::from_millis(100));
        ended_children_cpu_s(self.child.id())
    }
}

impl Drop for RsyncDaemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
