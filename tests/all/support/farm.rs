//! A coordinator and agents as processes, in directories of their own, ended with the value.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use grange_client::ClientError;
use grange_protocol::client::{OutputsQuery, Request, Response};
use grange_protocol::file::Blob;
use grange_protocol::job::{DeviceRequest, Engine, Policy, RenderSettings, SceneNeeds};
use grange_protocol::kinds::{Animation, Submission};
use grange_protocol::manifest::ManifestEntry;
use grange_protocol::shot::Label;
use grange_protocol::view::FootprintView;
use grange_protocol::{BlenderVersion, BlobHash, FrameSet, JobId, JobKind, Manifest, Shot, codec};
use grange_test_postgres::Postgres;
use grange_transport::{Endpoint, Identity, exchange};
use serde_json::Value;
use tempfile::TempDir;

use super::gpus::FakeGpus;
use super::relay::Relay;
use super::told::Told;
use super::{eventually, eventually_within, program, signal};

pub(crate) struct Farm {
    home: TempDir,
    coordinator: Option<Child>,
    agents: Vec<(String, Child)>,
    port: u16,
    /// The server that has its journal, instead of a file.
    postgres: Option<Postgres>,
    /// What join strings say besides.
    advertised: Option<u16>,
    /// Of processes that are started from now on.
    environment: Vec<(String, String)>,
}

/// Says that every farm of the tests has its journal in a PostgreSQL of its own.
const ON_POSTGRES: &str = "GRANGE_TESTS_ON_POSTGRES";

impl Farm {
    /// A coordinator, and nobody else.
    pub(crate) fn new() -> Self {
        let mut farm = Self::without_a_coordinator();
        farm.start_coordinator();
        farm
    }

    /// A coordinator that everybody with a join string reaches through a relay.
    pub(crate) fn behind_relay(seed: u64) -> (Self, Relay) {
        let mut farm = Self::without_a_coordinator();
        let relay = Relay::to(farm.port, seed);
        farm.advertised = Some(relay.port);
        farm.start_coordinator();
        (farm, relay)
    }

    /// Nobody yet: somebody lays a state into `coordinator` first.
    pub(crate) fn without_a_coordinator() -> Self {
        Self {
            home: TempDir::new().unwrap(),
            coordinator: None,
            agents: Vec::new(),
            port: free_port(),
            postgres: std::env::var_os(ON_POSTGRES).map(|_| Postgres::start()),
            advertised: None,
            environment: Vec::new(),
        }
    }

    /// A coordinator whose journal is in a PostgreSQL.
    pub(crate) fn on_postgres() -> Self {
        let mut farm = Self::without_a_coordinator();
        farm.postgres.get_or_insert_with(Postgres::start);
        farm.start_coordinator();
        farm
    }

    /// What coordinators and agents that are started from now on find in their environment.
    pub(crate) fn set_environment(&mut self, variables: &[(&str, &str)]) {
        let owned = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        self.environment = owned.collect();
    }

    pub(crate) fn postgres(&mut self) -> &mut Postgres {
        self.postgres.as_mut().expect("a farm on PostgreSQL")
    }

    /// The disk is gone, and so is the server that had the journal; there is another one.
    pub(crate) fn lose_all(&mut self) {
        self.kill_coordinator();
        fs::remove_dir_all(self.home().join("coordinator")).unwrap();
        if self.postgres.is_some() {
            self.postgres = Some(Postgres::start());
        }
    }

    /// From now on the journal is in an empty PostgreSQL.
    pub(crate) fn turn_to_postgres(&mut self) {
        self.postgres = Some(Postgres::start());
    }

    /// From now on the journal is in a file.
    pub(crate) fn turn_to_a_file(&mut self) {
        self.postgres = None;
    }

    /// `grange-coordinator … backup DIR` and the like.
    pub(crate) fn errand(&self, errand: &str, dir: &Path) -> Told {
        Told::by(self.coordinator_command().arg(errand).arg(dir))
    }

    /// `grange-coordinator` on this farm's state, with its journal.
    pub(crate) fn coordinator_command(&self) -> Command {
        let mut command = Command::new(program("grange-coordinator"));
        command.arg("--state-dir").arg(self.home().join("coordinator"));
        if let Some(postgres) = &self.postgres {
            command.args(["--journal", &postgres.url()]);
        }
        command
    }

    /// A farm of fake Blenders: agents called `names`, each with so many instances.
    pub(crate) fn of_fakes(names: &[&str], instances: u16) -> Self {
        let mut farm = Self::new();
        farm.add_fakes(names, instances);
        farm
    }

    /// Agents with fake Blenders, each with so many instances.
    pub(crate) fn add_fakes(&mut self, names: &[&str], instances: u16) {
        for name in names {
            let instances = ["--instances", &instances.to_string()];
            self.start_agent(name, &[program("fake-blender")], &instances);
        }
        self.wait_for_agents(self.agents.len());
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn admin_identity(&self) -> PathBuf {
        self.home().join("coordinator/admin")
    }

    pub(crate) fn start_coordinator(&mut self) {
        self.start_coordinator_with(&[]);
    }

    pub(crate) fn start_coordinator_with(&mut self, settings: &[&str]) {
        self.spawn_coordinator_with(settings);
        eventually("the coordinator listens", || {
            let answer = self.grange(&["jobs", "--json"]);
            (answer.code == 0).then_some(())
        });
    }

    /// Starts one and does not wait for it.
    pub(crate) fn spawn_coordinator(&mut self) {
        self.spawn_coordinator_with(&[]);
    }

    fn spawn_coordinator_with(&mut self, settings: &[&str]) {
        let mut command = self.coordinator_command();
        command
            .args(settings)
            .args(["--farm", "test", "--agent-grace-s", "3", "--log", "debug"])
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(self.log("coordinator"))
            .stderr(self.log("coordinator"));
        if let Some(port) = self.advertised {
            command.args(["--advertise", &format!("127.0.0.1:{port}")]);
        }
        self.coordinator = Some(command.spawn().expect("the coordinator starts"));
    }

    /// Whether the coordinator has ended, by itself.
    pub(crate) fn coordinator_has_ended(&mut self) -> bool {
        let ended =
            self.coordinator.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
        if ended {
            self.coordinator = None;
        }
        ended
    }

    /// Whether an agent has ended, by itself.
    pub(crate) fn agent_has_ended(&mut self, name: &str) -> bool {
        let at = self.agents.iter().position(|(other, _)| other == name);
        let Some(at) = at else { return true };
        let ended = self.agents[at].1.try_wait().unwrap().is_some();
        if ended {
            self.agents.remove(at);
        }
        ended
    }

    /// Starts an agent that joins with a token of its own.
    pub(crate) fn start_agent(&mut self, name: &str, blenders: &[PathBuf], args: &[&str]) {
        let token = self.grange(&["token", "create", "--role", "agent"]).well();
        self.start_agent_with(name, blenders, args, Some(token.trim()));
    }

    /// Starts an agent that joins with this join string.
    pub(crate) fn start_agent_by(
        &mut self,
        name: &str,
        blenders: &[PathBuf],
        args: &[&str],
        join: &str,
    ) {
        self.start_agent_with(name, blenders, args, Some(join));
    }

    /// Starts an agent again that has joined before.
    pub(crate) fn restart_agent(&mut self, name: &str, blenders: &[PathBuf], args: &[&str]) {
        self.start_agent_with(name, blenders, args, None);
    }

    fn start_agent_with(
        &mut self,
        name: &str,
        blenders: &[PathBuf],
        args: &[&str],
        join: Option<&str>,
    ) {
        let mut command = Command::new(program("grange-agent"));
        self.start_agent_as(&mut command, name, blenders, args, join);
    }

    /// Starts an agent of fake Blenders on GPUs that do not exist. Without the sandbox, which would
    /// hide them and number processes anew.
    pub(crate) fn start_agent_on(&mut self, gpus: &FakeGpus, name: &str, args: &[&str]) {
        let token = self.grange(&["token", "create", "--role", "agent"]).well();
        let mut command = Command::new(program("grange-agent"));
        command.env(grange_fake_nvml::world::DIR, gpus.dir()).env("GRANGE_NVML", gpus.library());
        command.args(["--sandbox", "off"]);
        let blender = [program("fake-blender")];
        self.start_agent_as(&mut command, name, &blender, args, Some(token.trim()));
    }

    /// Starts an agent whose state directory is told by its name, from where that is.
    pub(crate) fn start_agent_beside_its_state(&mut self, name: &str, blenders: &[PathBuf]) {
        let token = self.grange(&["token", "create", "--role", "agent"]).well();
        let mut command = Command::new(program("grange-agent"));
        command.current_dir(self.home());
        self.start_agent_as(&mut command, name, blenders, &[], Some(token.trim()));
    }

    fn start_agent_as(
        &mut self,
        command: &mut Command,
        name: &str,
        blenders: &[PathBuf],
        args: &[&str],
        join: Option<&str>,
    ) {
        let is_beside = command.get_current_dir().is_some();
        let state_dir = if is_beside { name.into() } else { self.home().join(name) };
        command
            .args(["--name", name, "--log", "debug"])
            .args(args)
            .envs(self.environment.iter().cloned())
            .arg("--state-dir")
            .arg(state_dir)
            .stdin(Stdio::null())
            .stdout(self.log(name))
            .stderr(self.log(name));
        if !blenders.is_empty() {
            let list: Vec<String> =
                blenders.iter().map(|path| path.display().to_string()).collect();
            command.args(["--blender", &list.join(",")]);
        }
        if let Some(join) = join {
            command.env("GRANGE_JOIN", join);
        }
        self.agents.push((name.into(), command.spawn().expect("the agent starts")));
    }

    /// Waits until so many agents are online.
    #[track_caller]
    pub(crate) fn wait_for_agents(&mut self, count: usize) {
        self.wait_for_agents_within(60, count);
    }

    /// The same for agents that have many Blenders to try out.
    #[track_caller]
    pub(crate) fn wait_for_agents_within(&mut self, seconds: u64, count: usize) {
        eventually_within(seconds, &format!("{count} agents online"), || {
            for at in 0..self.agents.len() {
                let (name, child) = &mut self.agents[at];
                if let Some(status) = child.try_wait().unwrap() {
                    let name = name.clone();
                    panic!("agent {name} ended ({status}):\n{}", self.said(&name));
                }
            }
            let agents = self.grange(&["agents", "--json"]).json();
            let online =
                agents.as_array().unwrap().iter().filter(|agent| agent["state"] == "online");
            (online.count() == count).then_some(())
        });
    }

    /// `grange` as the farm's admin.
    pub(crate) fn grange(&self, args: &[&str]) -> Told {
        Told::by(&mut self.command(args))
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("grange"));
        command.arg("--identity").arg(self.admin_identity()).args(args);
        command
    }

    /// A job as `grange job --json` shows it.
    #[track_caller]
    pub(crate) fn job(&self, job: u64) -> Value {
        self.grange(&["job", &job.to_string(), "--json"]).json()
    }

    /// Waits until the job is in this state.
    #[track_caller]
    pub(crate) fn wait_for_state(&self, job: u64, state: &str) -> Value {
        eventually(&format!("job {job} is {state}"), || {
            let detail = self.job(job);
            if detail["job"]["state"] == state {
                return Some(detail);
            }
            // To ask takes a process; that should not be what the machine is busy with.
            std::thread::sleep(Duration::from_millis(150));
            None
        })
    }

    /// Where the coordinator listens for QUIC.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub(crate) fn coordinator_pid(&self) -> u32 {
        self.coordinator.as_ref().expect("a coordinator").id()
    }

    pub(crate) fn agent_pid(&self, name: &str) -> u32 {
        self.agents.iter().find(|(other, _)| other == name).expect("a known agent").1.id()
    }

    /// Kills an agent without warning.
    pub(crate) fn kill_agent(&mut self, name: &str) {
        let at = self.agents.iter().position(|(other, _)| other == name).expect("a known agent");
        let (_, mut child) = self.agents.remove(at);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until an agent that was told to stop has ended.
    pub(crate) fn wait_for_end_of(&mut self, name: &str) -> std::process::ExitStatus {
        let at = self.agents.iter().position(|(other, _)| other == name).expect("a known agent");
        let (_, mut child) = self.agents.remove(at);
        eventually("the agent ends", || child.try_wait().unwrap())
    }

    /// Kills the coordinator without warning.
    pub(crate) fn kill_coordinator(&mut self) {
        if let Some(mut child) = self.coordinator.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Has the coordinator end as it should.
    pub(crate) fn stop_coordinator(&mut self) {
        if let Some(mut child) = self.coordinator.take() {
            signal(child.id(), "TERM");
            assert!(child.wait().unwrap().success());
        }
    }

    /// What a process of the farm printed.
    pub(crate) fn said(&self, name: &str) -> String {
        fs::read_to_string(self.home().join(format!("{name}.log"))).unwrap_or_default()
    }

    fn log(&self, name: &str) -> File {
        let path = self.home().join(format!("{name}.log"));
        File::options().append(true).create(true).open(path).expect("a log")
    }
}

/// A job of a scene for fake Blenders.
pub(crate) struct FakeJob {
    /// What the fake does, in TOML; see `tests/src/bin/fake-blender`.
    pub(crate) scene: String,
    /// The file's name, which stays when its scene changes.
    pub(crate) file: &'static str,
    pub(crate) frames: i32,
    pub(crate) chunk: u32,
    pub(crate) priority: u8,
    pub(crate) policy: Policy,
    pub(crate) device: DeviceRequest,
    pub(crate) tags: &'static [&'static str],
}

impl FakeJob {
    pub(crate) fn new(scene: &str, frames: i32) -> Self {
        Self {
            scene: scene.into(),
            file: "fake",
            frames,
            chunk: 1,
            priority: 50,
            policy: Policy::default(),
            device: DeviceRequest::Any,
            tags: &[],
        }
    }

    /// One that must not go wrong even once, but for want of memory.
    pub(crate) fn in_one_attempt(scene: &str, frames: i32) -> Self {
        let policy = Policy { attempts_max: 1, ..Policy::default() };
        Self { policy, ..Self::new(scene, frames) }
    }

    fn animation(&self) -> Animation {
        Animation {
            blend: format!("/project/{}.blend", self.file).parse().unwrap(),
            needs: SceneNeeds {
                saved_by: BlenderVersion::new(4, 2),
                engines: [Engine::Cycles].into(),
                denoiser: false,
            },
            settings: RenderSettings { device: self.device, ..RenderSettings::default() },
            chunk: self.chunk,
            shot: Shot {
                name: Label::default(),
                scene: None,
                view_layer: None,
                camera: None,
                frames: FrameSet::range(1, self.frames, 1).unwrap(),
                resolution: None,
                samples: None,
                output: "####".parse().unwrap(),
                extras: None,
            },
            preview: None,
        }
    }
}

impl Farm {
    /// Submits a job for fake Blenders, whether anybody could render it or not; returns its number.
    pub(crate) fn submit_fake(&self, job: &FakeJob) -> u64 {
        self.try_submit_fake(job, true).unwrap()
    }

    /// The same, but refused by the farm where nobody could render it.
    pub(crate) fn try_submit_fake(
        &self,
        job: &FakeJob,
        queue_anyway: bool,
    ) -> Result<u64, ClientError> {
        let job = self.ask(async |farm| {
            let put = async |bytes: Vec<u8>| {
                let blob = Blob { hash: BlobHash::of(&bytes), len: bytes.len() as u64 };
                farm.put_bytes(blob, bytes).await.unwrap();
                blob
            };
            let animation = job.animation();
            let scene = put(job.scene.clone().into_bytes()).await;
            let entry =
                ManifestEntry { path: animation.blend.clone(), blob: scene.hash, len: scene.len };
            let manifest = put(codec::encode(&Manifest::new(vec![entry]).unwrap()).unwrap()).await;
            let submission = Submission {
                name: "fake.blend".parse().unwrap(),
                priority: job.priority.to_string().parse().unwrap(),
                policy: job.policy,
                manifest: Some(manifest.hash),
                queue_anyway,
                tags: job.tags.iter().map(|tag| tag.parse().unwrap()).collect(),
                kind: JobKind::Animation(animation),
            };
            farm.submit(submission).await
        })?;
        Ok(job.0.into())
    }

    /// Sends a file to the farm.
    pub(crate) fn try_put(&self, bytes: &[u8]) -> Result<(), ClientError> {
        let blob = Blob { hash: BlobHash::of(bytes), len: bytes.len() as u64 };
        let bytes = bytes.to_vec();
        self.ask(async |farm| farm.put_bytes(blob, bytes).await)
    }

    /// Asks the farm as a program does.
    pub(crate) fn ask<T>(&self, question: impl AsyncFnOnce(grange_client::Farm) -> T) -> T {
        self.teller().ask(question)
    }

    /// Whoever wants to ask on a thread of its own.
    pub(crate) fn teller(&self) -> Teller {
        Teller(Identity::load(&self.admin_identity()).unwrap())
    }

    /// What the farm has learned of shots.
    pub(crate) fn footprints(&self) -> Vec<FootprintView> {
        let identity = Identity::load(&self.admin_identity()).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let response = runtime.block_on(async {
            let connection = Endpoint::new(&identity).unwrap().connect().await.unwrap();
            exchange::call(&connection, Request::Footprints).await.unwrap()
        });
        match response {
            Response::Footprints(footprints) => footprints,
            other => panic!("no footprints: {other:?}"),
        }
    }

    /// What a job has rendered: names of files, as often as they are there.
    pub(crate) fn outputs(&self, job: u64) -> Vec<String> {
        let job = JobId(u32::try_from(job).unwrap());
        self.ask(async |farm| {
            let (mut names, mut after) = (Vec::new(), Some(0));
            while let Some(cursor) = after {
                let query = OutputsQuery { job, step: None, after: cursor };
                let page = farm.outputs(query).await.unwrap();
                names.extend(page.rows.into_iter().map(|row| row.output.name.to_string()));
                after = page.next;
            }
            names.sort();
            names
        })
    }

    /// The devices of the farm's first agent, as `grange agents --json` tells of their state.
    #[track_caller]
    pub(crate) fn device_states(&self) -> Vec<Value> {
        let agents = self.grange(&["agents", "--json"]).json();
        agents[0]["device_states"].as_array().unwrap().clone()
    }

    /// The farm as a program sees it.
    pub(crate) async fn client(&self) -> grange_client::Farm {
        let identity = Identity::load(&self.admin_identity()).unwrap();
        grange_client::Farm::connect(&identity).await.unwrap()
    }
}

/// Somebody who may ask a farm.
pub(crate) struct Teller(Identity);

impl Teller {
    pub(crate) fn ask<T>(&self, question: impl AsyncFnOnce(grange_client::Farm) -> T) -> T {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            question(grange_client::Farm::connect(&self.0).await.unwrap()).await
        })
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        let children = self.agents.drain(..).map(|(_, child)| child).chain(self.coordinator.take());
        for mut child in children {
            // Twice: not to wait for what has begun.
            signal(child.id(), "TERM");
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let began = std::time::Instant::now();
            while child.try_wait().is_ok_and(|ended| ended.is_none()) {
                std::thread::sleep(Duration::from_millis(5));
                if began.elapsed() > Duration::from_secs(20) {
                    // One that waits for a disk that is gone.
                    let _ = child.kill();
                }
            }
        }
    }
}

impl Farm {
    #[expect(clippy::print_stderr, reason = "a failed test tells what its processes said")]
    fn show_logs(&self) {
        for entry in fs::read_dir(self.home()).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(40).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                eprintln!("── {}\n{}", path.display(), tail.join("\n"));
            }
        }
    }
}

/// Free on UDP for the farm, and on TCP for its HTTP API, and also for whoever is there after somebody
/// was killed: none of those that the system gives to sockets that ask for any.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 16_384;
    const COUNT: u32 = 16_384;
    static TRIED: AtomicU32 = AtomicU32::new(0);
    eventually("a free port", || {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        // Programs that run tests at the same time begin at different ones.
        let begin = std::process::id().wrapping_mul(257);
        let port = u16::try_from(FIRST + begin.wrapping_add(tried) % COUNT).unwrap();
        let is_free = std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok()
            && std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        is_free.then_some(port)
    })
}
