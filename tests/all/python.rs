//! The client package for Python against real farms: the examples, and stories told by programs in
//! `python/`.
//!
//! They run from the package's source in the environment `target/python-tools`, which `cargo xtask
//! test` makes and which has rich. It is the one of the checkers: the package is to work in an
//! environment that has more than it needs, and its declared needs are for its own `pyproject.toml`.

mod examples;
mod faults;
mod instances;
mod local;
mod pools;
mod uploads;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::runtimes::blender;
use crate::support::farm::Farm;
use crate::support::told::Told;
use crate::support::{eventually, program};

/// Somebody who runs Python programs, with a folder of their own.
struct Person {
    /// Nobody's farm without it.
    connect: Option<String>,
    home: TempDir,
}

impl Person {
    /// Who may submit to the farm, and nothing more.
    fn of(farm: &Farm) -> Self {
        Self::called(farm, "person")
    }

    fn called(farm: &Farm, name: &str) -> Self {
        let create = ["token", "create", "--api", "--role", "submitter", "--name", name];
        let connect = farm.grange(&create).well().trim().to_owned();
        Self { connect: Some(connect), home: TempDir::new().unwrap() }
    }

    /// Who has no farm.
    fn alone() -> Self {
        Self { connect: None, home: TempDir::new().unwrap() }
    }

    /// Python, with nothing of the person who runs the tests.
    fn python(&self) -> Command {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let python = tree.join("target/python-tools/bin/python");
        assert!(
            python.exists(),
            "no {}: run the tests with `cargo xtask test`, which makes it",
            python.display()
        );
        let temporary = self.home.path().join("tmp");
        std::fs::create_dir_all(&temporary).unwrap();
        let mut command = Command::new(python);
        command
            .current_dir(self.home.path())
            .env("PYTHONPATH", tree.join("python/src"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("GRANGE_PROGRAM", program("grange"))
            .env("HOME", self.home.path())
            .env("XDG_CACHE_HOME", self.home.path().join("cache"))
            .env("XDG_CONFIG_HOME", self.home.path().join("config"))
            .env("TMPDIR", temporary)
            .env_remove("GRANGE_CONNECT");
        if let Some(connect) = &self.connect {
            command.env("GRANGE_CONNECT", connect);
        }
        command
    }

    /// One of the programs that people are shown.
    fn example(&self, name: &str) -> Command {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python");
        let mut command = self.python();
        command.arg(folder.join(name));
        command
    }

    /// A story from a file in `python/`.
    fn story(&self, file: &str, name: &str) -> Command {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("all/python");
        let mut command = self.python();
        command.arg(folder.join(file)).arg(name);
        command
    }

    /// What a story of `fakes.py` tells, of a scene for fake Blenders.
    #[track_caller]
    fn tells_of_fakes(&self, name: &str, scene: &str) -> Value {
        Told::by(&mut self.story_of_fakes(name, scene)).json()
    }

    fn story_of_fakes(&self, name: &str, scene: &str) -> Command {
        let file = self.home.path().join("fake.blend");
        std::fs::write(&file, scene).unwrap();
        let mut command = self.story("fakes.py", name);
        command.arg(file).arg(self.out());
        command
    }

    /// Where the programs are told to write.
    fn out(&self) -> PathBuf {
        self.home.path().join("out")
    }

    fn mark(&self) -> &str {
        self.home.path().to_str().unwrap()
    }
}

/// A program that is under way, and is killed where its test fails.
struct Running {
    child: Option<Child>,
    shown: String,
}

impl Running {
    fn of(command: &mut Command) -> Self {
        let shown = format!("{command:?}");
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child: Some(child), shown }
    }

    /// Waits for its end.
    fn told(mut self) -> Told {
        let child = self.child.take().expect("it was not waited for");
        Told::of(self.shown.clone(), child.wait_with_output().unwrap())
    }

    /// With SIGKILL. What it has started is on its own.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A farm of one host whose Blender is Debian's, with so many instances.
fn farm_of_blender(instances: u16) -> Farm {
    let mut farm = Farm::new();
    let instances = instances.to_string();
    farm.start_agent(
        "host",
        &[blender()],
        &["--engines", "cycles", "--instances", &instances, "--sandbox", "on"],
    );
    farm.wait_for_agents(1);
    farm
}

/// Waits until no instance of the farm lives, which is soon when all sessions have ended.
#[track_caller]
fn nothing_runs(farm: &Farm) {
    eventually("all instances are gone", || {
        let agents = farm.grange(&["agents", "--json"]).json();
        let agents = agents.as_array().unwrap().iter();
        let online = agents.filter(|agent| agent["state"] == "online");
        let devices = online.flat_map(|agent| agent["device_states"].as_array().unwrap());
        devices
            .map(|device| device["instances"].as_u64())
            .all(|count| count == Some(0))
            .then_some(())
    });
}
