//! The live Blenders of this host: each driven by a task of its own, which tells the loop what
//! happens and is told what to do.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use grange_blender::instance::{
    CallId, CallOrder, Instance, InstanceEvent, Limits, OpenOrder, Order, RenderId,
    RenderOrder as BlenderOrder, Rendered, RenderedFile as WrittenFile,
};
use grange_blender::runtime::Runtime;
use grange_protocol::LayoutPath;
use grange_protocol::agent::{DeviceKind, Failure, FailureKind, RuntimeInfo};
use grange_protocol::job::SceneNeeds;
use grange_protocol::session::Raised;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::core::{Event, Frame, InstanceId, RenderOrder, RenderedFile, Reply, Said, Sign, Start};
use crate::gpu::Found;
use crate::host;
use crate::sandbox::{Cell, Sandbox};

/// How often an instance's memory is looked at.
const MEMORY_EVERY: Duration = Duration::from_millis(500);
/// Deeds that wait for an instance's task; the core never has more than a few under way.
const DEEDS: usize = 64;

/// Starts instances and knows those that live.
pub(crate) struct Instances {
    shared: Arc<Shared>,
    live: HashMap<InstanceId, Handle>,
}

/// The Blenders of this host.
pub(crate) enum Blenders {
    Found(Vec<Runtime>),
    Played(Arc<dyn Stage>),
}

impl Blenders {
    pub(crate) fn infos(&self) -> Vec<RuntimeInfo> {
        match self {
            Self::Found(runtimes) => runtimes.iter().map(|runtime| runtime.info.clone()).collect(),
            Self::Played(stage) => vec![stage.info()],
        }
    }
}

/// Where Blenders are played by [stand-ins](grange_blender::instance::StandIn), without processes.
pub trait Stage: Send + Sync {
    /// The one version of Blender that is played.
    fn info(&self) -> RuntimeInfo;

    /// Starts an instance, of which somebody plays the other end.
    fn start(&self) -> (Instance, mpsc::Receiver<InstanceEvent>);
}

/// What every instance's task uses.
pub(crate) struct Shared {
    pub(crate) blenders: Blenders,
    pub(crate) devices: Vec<Found>,
    pub(crate) sandbox: Sandbox,
    /// For sockets, so its path is short.
    pub(crate) run_dir: PathBuf,
    pub(crate) scratch: PathBuf,
    pub(crate) events: mpsc::Sender<Event>,
}

struct Handle {
    deeds: mpsc::Sender<Deed>,
    task: JoinHandle<()>,
}

/// What an instance's task is told.
enum Deed {
    Open(OpenOrder),
    Render(Box<RenderOrder>),
    Call { operation: String, arguments: serde_json::Value },
    Cancel,
    Quit,
    Kill,
}

impl Instances {
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared), live: HashMap::new() }
    }

    pub(crate) fn start(&mut self, start: Start, layout: PathBuf) {
        self.live.retain(|_, handle| !handle.task.is_finished());
        let (deeds, told) = mpsc::channel(DEEDS);
        let id = start.instance;
        let task = tokio::spawn(live(self.shared.clone(), start, layout, told));
        self.live.insert(id, Handle { deeds, task });
    }

    pub(crate) fn open(
        &self,
        instance: InstanceId,
        layout: &Path,
        blend: &LayoutPath,
        allow_missing: bool,
    ) {
        let path = self.shared.sandbox.scene_path(layout, blend);
        self.tell(instance, Deed::Open(OpenOrder { path, allow_missing }));
    }

    pub(crate) fn render(&self, order: RenderOrder) {
        self.tell(order.instance, Deed::Render(Box::new(order)));
    }

    pub(crate) fn call(
        &self,
        instance: InstanceId,
        operation: String,
        arguments: serde_json::Value,
    ) {
        self.tell(instance, Deed::Call { operation, arguments });
    }

    pub(crate) fn cancel(&self, instance: InstanceId) {
        self.tell(instance, Deed::Cancel);
    }

    pub(crate) fn quit(&self, instance: InstanceId) {
        self.tell(instance, Deed::Quit);
    }

    pub(crate) fn kill(&self, instance: InstanceId) {
        self.tell(instance, Deed::Kill);
    }

    pub(crate) fn kill_all(&self) {
        for instance in self.live.keys() {
            self.tell(*instance, Deed::Kill);
        }
    }

    /// Waits until no process is left.
    pub(crate) async fn wait_gone(self) {
        for (_, handle) in self.live {
            drop(handle.deeds);
            let _ = handle.task.await;
        }
    }

    fn tell(&self, instance: InstanceId, deed: Deed) {
        // A task that has ended has told the loop so.
        if let Some(handle) = self.live.get(&instance) {
            let _ = handle.deeds.try_send(deed);
        }
    }
}

/// Sees one instance through, from its start to its end.
async fn live(shared: Arc<Shared>, start: Start, layout: PathBuf, mut told: mpsc::Receiver<Deed>) {
    let id = start.instance;
    let places = Places::of(&shared, id);
    let gone = match places.make() {
        Err(error) => {
            (host_failure(format!("no directory for an instance: {error}")), String::new())
        }
        Ok(()) => run(&shared, &start, layout, &places, &mut told).await,
    };
    places.remove();
    let (failure, log) = gone;
    let _ = shared.events.send(Event::InstanceGone { instance: id, failure, log }).await;
}

/// Runs the process; returns why it is gone, and its last words.
async fn run(
    shared: &Shared,
    start: &Start,
    layout: PathBuf,
    places: &Places,
    told: &mut mpsc::Receiver<Deed>,
) -> (Failure, String) {
    let started = tokio::select! {
        started = begin(shared, start, layout, places) => started,
        // Nothing but the order to end can come before the hello.
        _ = told.recv() => return (stopped(), String::new()),
    };
    let (instance, events) = match started {
        Ok(started) => started,
        Err(reason) => return (host_failure(reason), String::new()),
    };
    let mut driver = Driver {
        shared,
        id: start.instance,
        device: shared.devices.get(usize::from(start.device)),
        instance,
        places,
        orders: 0,
        cores: None,
        rendering: None,
    };
    driver.stay_on(start.cores.clone());
    let pid = driver.instance.pid();
    let blender = driver.instance.hello().full_version.clone();
    driver.tell(Event::InstanceUp { instance: start.instance, pid, blender }).await;
    driver.drive(events, told).await
}

/// Starts it; the error is a sentence.
async fn begin(
    shared: &Shared,
    start: &Start,
    layout: PathBuf,
    places: &Places,
) -> Result<(Instance, mpsc::Receiver<InstanceEvent>), String> {
    let runtimes = match &shared.blenders {
        Blenders::Found(runtimes) => runtimes,
        Blenders::Played(stage) => return Ok(stage.start()),
    };
    let runtime = choose(runtimes, &start.needs).ok_or_else(|| {
        format!("this host has no Blender that can render a file of {}", start.needs.saved_by)
    })?;
    let command = command(shared, runtime, start, layout, places)
        .map_err(|error| format!("the sandbox cannot be set up: {error}"))?;
    let started = Instance::start(command, &places.run, Limits::default()).await;
    started.map_err(|error| format!("Blender does not start: {error}"))
}

/// The runtime that changes the file least: the oldest that can render it.
fn choose<'a>(runtimes: &'a [Runtime], needs: &SceneNeeds) -> Option<&'a Runtime> {
    runtimes
        .iter()
        .filter(|runtime| {
            let info = &runtime.info;
            info.version.can_open(needs.saved_by)
                && needs.engines.is_subset(&info.engines)
                && (info.denoiser || !needs.denoiser)
        })
        .min_by_key(|runtime| runtime.info.version)
}

fn command(
    shared: &Shared,
    runtime: &Runtime,
    start: &Start,
    layout: PathBuf,
    places: &Places,
) -> std::io::Result<tokio::process::Command> {
    let device = shared.devices.get(usize::from(start.device));
    let threads = start.cores.as_ref().map(|cores| cores.len() as u16);
    let launch = runtime.launch(&places.run, threads)?;
    let writes = vec![places.run.clone(), places.scratch.clone()];
    let mut cell = Cell::of(launch, writes, places.tmp.clone(), Some(layout));
    if let Some(device) = device {
        cell.give(device);
    }
    Ok(shared.sandbox.command(&cell))
}

/// The directories of one instance.
struct Places {
    run: PathBuf,
    scratch: PathBuf,
    tmp: PathBuf,
    /// The scratch directory's name, which is its path below the agent's.
    name: String,
}

impl Places {
    fn of(shared: &Shared, id: InstanceId) -> Self {
        let name = format!("i{}", id.0);
        Self {
            run: shared.run_dir.join(&name),
            scratch: shared.scratch.join(&name),
            tmp: shared.scratch.join(format!("{name}.tmp")),
            name,
        }
    }

    fn make(&self) -> std::io::Result<()> {
        [&self.run, &self.scratch, &self.tmp].into_iter().try_for_each(fs::create_dir_all)
    }

    /// Removes all but frames that are still on their way to the coordinator.
    fn remove(&self) {
        let _ = fs::remove_dir_all(&self.run);
        let _ = fs::remove_dir_all(&self.tmp);
        let _ = fs::remove_dir(&self.scratch);
    }
}

/// The render under way.
struct Rendering {
    id: RenderId,
    frame: i32,
    /// The name of its scratch directory.
    dir: String,
}

/// Between the core's words and Blender's.
struct Driver<'a> {
    shared: &'a Shared,
    id: InstanceId,
    device: Option<&'a Found>,
    instance: Instance,
    places: &'a Places,
    /// Names each of them, and its directory.
    orders: u64,
    /// The cores that it is held to.
    cores: Option<Vec<u16>>,
    rendering: Option<Rendering>,
}

impl Driver<'_> {
    async fn drive(
        &mut self,
        mut events: mpsc::Receiver<InstanceEvent>,
        told: &mut mpsc::Receiver<Deed>,
    ) -> (Failure, String) {
        let mut memory = tokio::time::interval(MEMORY_EVERY);
        memory.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(InstanceEvent::Exited(exit)) => return (exit.failure(), self.instance.take_log()),
                    Some(event) => self.happened(event).await,
                    None => return (stopped(), self.instance.take_log()),
                },
                deed = told.recv() => match deed {
                    Some(deed) => self.perform(deed),
                    // The agent is ending, and this instance with it.
                    None => self.instance.kill(),
                },
                _ = memory.tick() => self.look_at_memory().await,
            }
        }
    }

    fn perform(&mut self, deed: Deed) {
        let order = match deed {
            Deed::Open(open) => Order::Open(open),
            Deed::Render(order) => self.render_order(*order),
            Deed::Call { operation, arguments } => self.call_order(operation, arguments),
            Deed::Cancel => match &self.rendering {
                Some(rendering) => Order::Cancel(rendering.id),
                None => return,
            },
            Deed::Quit => Order::Quit,
            Deed::Kill => return self.instance.kill(),
        };
        if let Err(error) = self.instance.send(order) {
            // An instance that takes no orders is of no use.
            tracing::warn!("instance {}: {error}", self.id.0);
            self.instance.kill();
        }
    }

    /// What it was given to render on, and where that is on the PCI bus.
    fn device(&self) -> (DeviceKind, Option<String>) {
        self.device.map_or((DeviceKind::Cpu, None), |device| (device.info.kind, device.pci.clone()))
    }

    /// The worker makes the directory if it writes at all.
    fn call_order(&mut self, operation: String, arguments: serde_json::Value) -> Order {
        self.orders += 1;
        let scratch = self.places.scratch.join(self.orders.to_string());
        let id = CallId(self.orders);
        let (device, device_pci) = self.device();
        Order::Call(Box::new(CallOrder { id, operation, arguments, device, device_pci, scratch }))
    }

    fn render_order(&mut self, order: RenderOrder) -> Order {
        self.orders += 1;
        let (id, dir) = (RenderId(self.orders), self.orders.to_string());
        let threads = order.cores.as_ref().map(|cores| cores.len() as u16);
        self.stay_on(order.cores);
        let scratch = self.places.scratch.join(&dir);
        if let Err(error) = fs::create_dir(&scratch) {
            // Blender will say that it cannot write there.
            tracing::warn!("no scratch directory: {error}");
        }
        let (device, device_pci) = self.device();
        self.rendering = Some(Rendering { id, frame: order.frame, dir });
        Order::Render(Box::new(BlenderOrder {
            id,
            shot: order.shot,
            frame: order.frame,
            settings: order.settings,
            device,
            device_pci,
            threads,
            session: order.session,
            scratch,
        }))
    }

    /// Holds Blender to its share of the cores, so that instances do not fight for the same ones.
    fn stay_on(&mut self, cores: Option<Vec<u16>>) {
        if self.cores == cores {
            return;
        }
        if let Some(cores) = &cores {
            let own = host::own_cores();
            let cores: Vec<usize> =
                cores.iter().filter_map(|core| own.get(usize::from(*core)).copied()).collect();
            if let Err(error) = self.instance.pin_to_cores(&cores) {
                // It renders as well, only not as fast.
                tracing::debug!("instance {} is not held to its cores: {error}", self.id.0);
            }
        }
        self.cores = cores;
    }

    async fn happened(&mut self, event: InstanceEvent) {
        let instance = self.id;
        match event {
            InstanceEvent::Opened(opened) => {
                self.tell(Event::Opened { instance, warnings: opened.warnings }).await;
            }
            InstanceEvent::Progress(progress) => {
                let sign = Sign::Progress {
                    fraction: progress.fraction,
                    sample: progress.sample,
                    samples: progress.samples,
                    device_mib: progress.device_mib,
                };
                self.tell(Event::Sign { instance, sign }).await;
            }
            InstanceEvent::Rendered(rendered) => {
                let frame = Box::new(self.frame(rendered));
                self.tell(Event::Rendered { instance, frame }).await;
            }
            InstanceEvent::NotOpened(failure) | InstanceEvent::Failed { failure, .. } => {
                self.clear_scratch();
                let log = self.instance.take_log();
                self.tell(Event::RenderFailed { instance, failure, log }).await;
            }
            InstanceEvent::Canceled { .. } => {
                self.clear_scratch();
                let log = self.instance.take_log();
                self.tell(Event::RenderCanceled { instance, log }).await;
            }
            InstanceEvent::CannotCancel { .. } => self.instance.kill(),
            InstanceEvent::Returned { id, value, warnings, files } => {
                let dir = Path::new(&self.places.name).join(id.0.to_string());
                let reply = Reply { said: Said { value, warnings }, dir, files: self.files(files) };
                self.answered(Ok(reply)).await;
            }
            InstanceEvent::Raised { id, raised } => {
                let _ = fs::remove_dir_all(self.places.scratch.join(id.0.to_string()));
                self.answered(Err(raised)).await;
            }
            InstanceEvent::Probed { .. } | InstanceEvent::Pong | InstanceEvent::Exited(_) => {}
        }
    }

    async fn answered(&self, answer: Result<Reply, Raised>) {
        let (instance, log) = (self.id, self.instance.take_log());
        self.tell(Event::Answered { instance, answer: Box::new(answer), log }).await;
    }

    fn frame(&mut self, rendered: Rendered) -> Frame {
        let rendering = self.rendering.take();
        let (number, dir) = rendering.map_or((0, String::new()), |r| (r.frame, r.dir));
        let dir = Path::new(&self.places.name).join(dir);
        let value = serde_json::json!({
            "width": rendered.width,
            "height": rendered.height,
            "seconds": rendered.seconds,
            "device": rendered.device,
            "warnings": rendered.warnings,
            "data": rendered.data,
        });
        Frame {
            number,
            dir,
            files: self.files(rendered.files),
            truths: rendered.truths,
            render_ms: (rendered.seconds * 1000.0) as u32,
            peak_mib: rendered.peak_mib,
            device_peak_mib: rendered.device_peak_mib,
            pixels: u64::from(rendered.width) * u64::from(rendered.height),
            warnings: rendered.warnings,
            log: self.instance.take_log(),
            // The core knows whose it is.
            call: None,
            value,
        }
    }

    /// Files by where they lie below the agent's scratch directory.
    fn files(&self, files: Vec<WrittenFile>) -> Vec<RenderedFile> {
        let below_scratch = |path: PathBuf| {
            path.strip_prefix(&self.shared.scratch).map(Path::to_owned).unwrap_or(path)
        };
        let file = |file: WrittenFile| RenderedFile {
            path: below_scratch(file.path),
            name: file.name,
            role: file.role,
        };
        files.into_iter().map(file).collect()
    }

    fn clear_scratch(&mut self) {
        if let Some(rendering) = self.rendering.take() {
            let _ = fs::remove_dir_all(self.places.scratch.join(rendering.dir));
        }
    }

    async fn look_at_memory(&self) {
        if let Some(mib) = self.instance.memory_mib() {
            let sign = Sign::Memory(u32::try_from(mib).unwrap_or(u32::MAX));
            self.tell(Event::Sign { instance: self.id, sign }).await;
        }
    }

    async fn tell(&self, event: Event) {
        let _ = self.shared.events.send(event).await;
    }
}

fn host_failure(reason: String) -> Failure {
    Failure::new(FailureKind::Host, reason)
}

fn stopped() -> Failure {
    Failure::new(FailureKind::Other, "the instance was stopped")
}
