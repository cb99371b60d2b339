//! A farm of this machine, from nothing to a video: for people who want to see it work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::process::{cargo, output, root, run, target};
use crate::setup;

const AGENTS: [&str; 2] = ["meadow", "paddock"];
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(clap::Args)]
pub(crate) struct Demo {
    /// Frames of the sample scene, which has 24
    #[arg(long, value_name = "FRAMES", default_value = "1-24")]
    frames: String,
    /// Where the frames go
    #[arg(long, short, value_name = "DIR", default_value = "target/demo/frames")]
    output: PathBuf,
    /// Build with optimisation: slower to build
    #[arg(long)]
    release: bool,
}

impl Demo {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let programs: Vec<&setup::Program> =
            setup::FOR_RENDERING.iter().chain([&setup::KILL]).collect();
        setup::programs(&programs)?;
        println!("building grange");
        let mut build = cargo(&[
            "build",
            "--package",
            "grange-cli",
            "--package",
            "grange-coordinator",
            "--package",
            "grange-agent",
        ]);
        if self.release {
            build.arg("--release");
        }
        run(&mut build)?;
        let frames = std::path::absolute(&self.output)?;
        let home = target().join("demo");
        let _ = fs::remove_dir_all(home.join("farm"));
        fs::create_dir_all(home.join("farm"))?;
        let scene = sample_scene(&home)?;
        let farm = Farm::start(&home.join("farm"), self.release)?;
        println!("rendering frames {} of {}", self.frames, scene.display());
        run(farm
            .grange()
            .args(["submit", "--wait", "--frames", &self.frames, "--output"])
            .arg(&frames)
            .arg(&scene))?;
        run(farm.grange().arg("agents"))?;
        drop(farm);
        println!();
        println!("the frames:  {}", frames.display());
        println!("the preview: {}", frames.join("turntable-preview.mp4").display());
        Ok(())
    }
}

/// Made by Blender itself.
fn sample_scene(home: &Path) -> anyhow::Result<PathBuf> {
    let scene = home.join("turntable.blend");
    println!("making a sample scene with Blender");
    let script = root().join("examples/turntable.py");
    output(
        Command::new("blender")
            .args(["-b", "--factory-startup", "--python-exit-code", "1", "--python"])
            .arg(script)
            .arg("--")
            .arg(&scene),
    )?;
    Ok(scene)
}

/// A coordinator and its agents, as processes that end with this value.
struct Farm {
    home: PathBuf,
    binaries: PathBuf,
    processes: Vec<Child>,
}

impl Farm {
    fn start(home: &Path, release: bool) -> anyhow::Result<Self> {
        let binaries = target().join(if release { "release" } else { "debug" });
        let mut farm = Self { home: home.into(), binaries, processes: Vec::new() };
        println!("starting a coordinator and {} agents", AGENTS.len());
        let port = free_port()?;
        let coordinator = farm.home.join("coordinator");
        farm.spawn(
            "coordinator",
            Command::new(farm.binaries.join("grange-coordinator"))
                .args(["--farm", "demo", "--listen", &format!("127.0.0.1:{port}"), "--state-dir"])
                .arg(&coordinator),
        )?;
        farm.wait_for("the coordinator", |_| {
            Ok(coordinator.join("admin/certificate.pem").exists())
        })?;
        for name in AGENTS {
            let join = farm.join_string()?;
            farm.spawn(
                name,
                Command::new(farm.binaries.join("grange-agent"))
                    .args(["--name", name, "--instances", "1", "--state-dir"])
                    .arg(farm.home.join(name))
                    .env("GRANGE_JOIN", join),
            )?;
        }
        farm.wait_for("the agents", |farm| {
            let agents = output(farm.grange().args(["agents", "--json"]))?;
            Ok(agents.matches("\"online\"").count() == AGENTS.len())
        })?;
        Ok(farm)
    }

    fn spawn(&mut self, name: &str, command: &mut Command) -> anyhow::Result<()> {
        let log = self.home.join(format!("{name}.log"));
        let log = fs::File::create(&log)
            .with_context(|| format!("{} cannot be written", log.display()))?;
        self.processes
            .push(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?);
        Ok(())
    }

    fn grange(&self) -> Command {
        let mut command = Command::new(self.binaries.join("grange"));
        command.arg("--identity").arg(self.home.join("coordinator/admin"));
        command
    }

    fn join_string(&self) -> anyhow::Result<String> {
        let mut create = self.grange();
        create.args(["token", "create", "--role", "agent"]).stderr(Stdio::null());
        let output = create.output().context("no token")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn wait_for(
        &mut self,
        what: &str,
        mut there: impl FnMut(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        while !there(self)? {
            for process in &mut self.processes {
                if let Some(status) = process.try_wait()? {
                    anyhow::bail!(
                        "a part of the farm ended ({status}): its log is in {}",
                        self.home.display()
                    );
                }
            }
            anyhow::ensure!(
                began.elapsed() < PATIENCE,
                "{what} did not come up: see {}",
                self.home.display()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        // Agents first, so that they can say goodbye.
        for process in self.processes.iter_mut().rev() {
            let _ = Command::new("kill").arg(process.id().to_string()).status();
            let _ = process.wait();
        }
    }
}

/// A UDP port that nobody uses now.
fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}
