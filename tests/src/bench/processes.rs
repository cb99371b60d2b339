//! Daemons under measurement: started in a directory of their own, their CPU time read from /proc.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use grange_protocol::client::Role;
use grange_transport::Identity;
use tempfile::TempDir;

/// Clock ticks per second in /proc; 100 on every Linux that Grange runs on.
const TICKS_PER_S: f64 = 100.0;

/// A coordinator and agents as processes, ended with the value.
pub(crate) struct Farm {
    home: TempDir,
    coordinator: Child,
    agents: Vec<Child>,
    port: u16,
}

impl Farm {
    /// A coordinator with its journal on this machine's disk, not in memory.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("grange-bench-").tempdir_in(disk()?)?;
        let port = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let coordinator = coordinator(home.path(), port)?;
        let farm = Self { home, coordinator, agents: Vec::new(), port };
        wait_for("the coordinator", || farm.admin().is_ok())?;
        Ok(farm)
    }

    /// Kills the coordinator without warning and starts it again on what it has on disk.
    pub(crate) async fn crash_coordinator(&mut self) -> anyhow::Result<()> {
        self.coordinator.kill()?;
        self.coordinator.wait()?;
        self.coordinator = coordinator(self.home.path(), self.port)?;
        let began = Instant::now();
        while self.client().await.is_err() {
            anyhow::ensure!(began.elapsed() < Duration::from_secs(30), "it does not come back");
        }
        Ok(())
    }

    pub(crate) fn admin(&self) -> anyhow::Result<Identity> {
        Ok(Identity::load(&self.admin_dir())?)
    }

    pub(crate) fn admin_dir(&self) -> PathBuf {
        self.home.path().join("coordinator/admin")
    }

    pub(crate) async fn client(&self) -> anyhow::Result<grange_client::Farm> {
        Ok(grange_client::Farm::connect(&self.admin()?).await?)
    }

    /// Agents without a Blender, that hold so many tasks at once.
    pub(crate) async fn start_idle_agents(
        &mut self,
        count: usize,
        instances: u16,
        ahead: u8,
    ) -> anyhow::Result<()> {
        let client = self.client().await?;
        let config = self.home.path().join("agent.toml");
        fs::write(&config, "blender = []\n")?;
        for at in 0..count {
            let token = client.create_token(Role::Agent, Duration::from_secs(60)).await?;
            let agent = Command::new(program("grange-agent")?)
                .args(["--log", "warn", "--name", &format!("agent-{at}")])
                .args(["--instances", &instances.to_string(), "--ahead", &ahead.to_string()])
                .arg("--config")
                .arg(&config)
                .arg("--state-dir")
                .arg(self.home.path().join(format!("agent-{at}")))
                .env("GRANGE_JOIN", token.join)
                .stdin(Stdio::null())
                .spawn()?;
            self.agents.push(agent);
        }
        let began = Instant::now();
        while client.farm().await?.agents_online as usize != count {
            anyhow::ensure!(began.elapsed() < Duration::from_secs(30), "the agents do not come up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        client.close().await;
        Ok(())
    }

    /// One more agent, with what `configure` gives it, and waits until it is online.
    pub(crate) async fn start_agent(
        &mut self,
        configure: impl FnOnce(&mut Command) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let client = self.client().await?;
        let token = client.create_token(Role::Agent, Duration::from_secs(60)).await?;
        let name = format!("agent-{}", self.agents.len());
        let mut agent = Command::new(program("grange-agent")?);
        agent
            .args(["--log", "info", "--name", &name, "--state-dir"])
            .arg(self.home.path().join(&name))
            .env("GRANGE_JOIN", token.join)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.agents_log())?);
        configure(&mut agent)?;
        self.agents.push(agent.spawn()?);
        let began = Instant::now();
        while client.farm().await?.agents_online as usize != self.agents.len() {
            let said = || fs::read_to_string(self.agents_log()).unwrap_or_default();
            let patience = Duration::from_secs(60);
            anyhow::ensure!(began.elapsed() < patience, "the agent does not come up:\n{}", said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        client.close().await;
        Ok(())
    }

    /// What the agent that was started last decided about its devices, line by line.
    pub(crate) fn decisions(&self) -> anyhow::Result<Vec<String>> {
        let log = fs::read_to_string(self.agents_log())?;
        let of_devices = log.lines().filter_map(|line| Some(line.split_once(" device ")?.1));
        Ok(of_devices.map(Into::into).collect())
    }

    fn agents_log(&self) -> PathBuf {
        self.home.path().join("agent.log")
    }

    /// CPU seconds that the coordinator has used.
    pub(crate) fn coordinator_cpu_s(&self) -> anyhow::Result<f64> {
        cpu_s(self.coordinator.id())
    }

    /// CPU seconds that all agents have used together.
    pub(crate) fn agents_cpu_s(&self) -> anyhow::Result<f64> {
        self.agents.iter().map(|agent| cpu_s(agent.id())).sum()
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        for child in self.agents.iter_mut().chain([&mut self.coordinator]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn coordinator(home: &Path, port: u16) -> anyhow::Result<Child> {
    Ok(Command::new(program("grange-coordinator")?)
        .args(["--farm", "bench", "--log", "warn", "--listen", &format!("127.0.0.1:{port}")])
        .arg("--state-dir")
        .arg(home.join("coordinator"))
        .stdin(Stdio::null())
        .spawn()?)
}

/// CPU seconds, user and system, that a process has used.
pub(crate) fn cpu_s(pid: u32) -> anyhow::Result<f64> {
    two_fields_s(pid, 11)
}

/// CPU seconds of a process's children that have ended.
pub(crate) fn ended_children_cpu_s(pid: u32) -> anyhow::Result<f64> {
    two_fields_s(pid, 13)
}

/// The sum of two neighbouring fields of /proc/PID/stat, counted after the name; they are in ticks.
fn two_fields_s(pid: u32, first: usize) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may contain anything, so count from its closing bracket.
    let fields: Vec<&str> =
        stat.rsplit(')').next().context("no stat")?.split_whitespace().collect();
    let ticks =
        |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(first) + ticks(first + 1)) / TICKS_PER_S)
}

/// A program of the same build.
pub(crate) fn program(name: &str) -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe()?;
    let program = here.with_file_name(name);
    anyhow::ensure!(
        program.exists(),
        "{} is not built: use `cargo xtask bench`",
        program.display()
    );
    Ok(program)
}

/// A directory on a real disk: beside the build, because /tmp may be memory.
pub(crate) fn disk() -> anyhow::Result<PathBuf> {
    let dir = std::env::current_exe()?.with_file_name("bench");
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) -> anyhow::Result<()> {
    let began = Instant::now();
    while !there() {
        anyhow::ensure!(began.elapsed() < Duration::from_secs(30), "{what} does not come up");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
