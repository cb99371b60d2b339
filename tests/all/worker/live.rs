//! One live Blender for a test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use grange_blender::instance::{
    Exit, Instance, InstanceEvent, Limits, OpenOrder, Opened, Order, RenderId, RenderOrder,
    RenderProgress, Rendered,
};
use grange_blender::runtime::{Candidate, Runtime, probe};
use grange_protocol::agent::{DeviceKind, Failure};
use grange_protocol::frames::FrameSet;
use grange_protocol::job::{Engine, RenderSettings};
use grange_protocol::shot::{Label, Shot};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::runtimes::{blender, bpy_pythons};
use crate::support::pictures::pixels;

const PATIENCE: Duration = Duration::from_secs(60);

/// How a render ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Rendered(Rendered),
    Failed(Failure),
    Canceled,
    CannotCancel,
    Exited(Exit),
}

pub(crate) struct Live {
    pub(crate) instance: Instance,
    pub(crate) runtime: Runtime,
    /// Progress that was told since the last render began.
    pub(crate) progress: Vec<RenderProgress>,
    /// What orders say it was given: a kind of device and its place on the bus.
    pub(crate) device: (DeviceKind, Option<String>),
    pub(crate) threads: Option<u16>,
    events: mpsc::Receiver<InstanceEvent>,
    dir: TempDir,
    last: u64,
}

/// A Blender that is known, with those of `engines` that work.
pub(crate) async fn runtime(program: &Path, engines: &[Engine]) -> Runtime {
    let dir = TempDir::new().unwrap();
    let candidate = Candidate { program: program.into() };
    probe(&candidate, engines, dir.path(), |launch| launch.command()).await.unwrap()
}

/// A shot of one frame, called by its pattern.
pub(crate) fn shot(pattern: &str) -> Shot {
    Shot {
        name: Label::default(),
        scene: None,
        view_layer: None,
        camera: None,
        frames: FrameSet::single(1),
        resolution: None,
        samples: None,
        output: pattern.parse().unwrap(),
        extras: None,
    }
}

impl Live {
    pub(crate) async fn start(program: &Path) -> Self {
        let runtime = runtime(program, &[]).await;
        let dir = TempDir::new().unwrap();
        let launch = runtime.launch(&dir.path().join("run"), Some(2)).unwrap();
        let (instance, events) =
            Instance::start(launch.command(), &launch.run_dir, Limits::default()).await.unwrap();
        let device = (DeviceKind::Cpu, None);
        let (progress, threads) = (Vec::new(), None);
        Self { instance, runtime, progress, device, threads, events, dir, last: 0 }
    }

    /// With a file open.
    pub(crate) async fn with(program: &Path, blend: &Path) -> Self {
        let mut live = Self::start(program).await;
        live.open(blend).await.unwrap();
        live
    }

    pub(crate) async fn event(&mut self) -> InstanceEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("no event came").expect("it has ended")
    }

    pub(crate) async fn open(&mut self, blend: &Path) -> Result<Opened, Failure> {
        self.open_with(blend, false).await
    }

    pub(crate) async fn open_with(
        &mut self,
        blend: &Path,
        allow_missing: bool,
    ) -> Result<Opened, Failure> {
        self.instance.send(Order::Open(OpenOrder { path: blend.into(), allow_missing })).unwrap();
        match self.event().await {
            InstanceEvent::Opened(opened) => Ok(opened),
            InstanceEvent::NotOpened(failure) => Err(failure),
            other => panic!("an open was answered with {other:?}"),
        }
    }

    /// Orders a render and does not wait for it.
    pub(crate) fn order(&mut self, shot: &Shot, frame: i32, settings: RenderSettings) -> RenderId {
        let scratch = self.dir.path().join(format!("scratch-{}", self.last));
        self.order_into(shot, frame, settings, scratch)
    }

    pub(crate) fn order_into(
        &mut self,
        shot: &Shot,
        frame: i32,
        settings: RenderSettings,
        scratch: PathBuf,
    ) -> RenderId {
        self.last += 1;
        let id = RenderId(self.last);
        let (device, device_pci) = self.device.clone();
        let (shot, threads) = (shot.clone(), self.threads);
        let order = RenderOrder {
            id,
            shot,
            frame,
            settings,
            device,
            device_pci,
            threads,
            session: None,
            scratch,
        };
        self.instance.send(Order::Render(Box::new(order))).unwrap();
        id
    }

    pub(crate) async fn end_of(&mut self, render: RenderId) -> Ended {
        self.progress.clear();
        loop {
            match self.event().await {
                InstanceEvent::Progress(progress) => self.progress.push(progress),
                InstanceEvent::Rendered(rendered) if rendered.id == render => {
                    return Ended::Rendered(rendered);
                }
                InstanceEvent::Failed { id, failure } if id == render => {
                    return Ended::Failed(failure);
                }
                InstanceEvent::Canceled { id } if id == render => return Ended::Canceled,
                InstanceEvent::CannotCancel { id } if id == render => return Ended::CannotCancel,
                InstanceEvent::Exited(exit) => return Ended::Exited(exit),
                other => panic!("not expected now: {other:?}"),
            }
        }
    }

    pub(crate) async fn render(
        &mut self,
        shot: &Shot,
        frame: i32,
        settings: RenderSettings,
    ) -> Rendered {
        let render = self.order(shot, frame, settings);
        match self.end_of(render).await {
            Ended::Rendered(rendered) => rendered,
            other => panic!("it was not rendered: {other:?}"),
        }
    }

    pub(crate) async fn refusal(&mut self, shot: &Shot, settings: RenderSettings) -> Failure {
        let render = self.order(shot, 1, settings);
        match self.end_of(render).await {
            Ended::Failed(failure) => failure,
            other => panic!("it was not refused: {other:?}"),
        }
    }

    /// The only picture of a shot.
    pub(crate) async fn picture(
        &mut self,
        shot: &Shot,
        frame: i32,
        settings: RenderSettings,
    ) -> Vec<u8> {
        let rendered = self.render(shot, frame, settings).await;
        assert_eq!(rendered.files.len(), 1, "{rendered:?}");
        pixels(&rendered.files[0].path).2
    }
}

/// The four Blenders.
pub(crate) fn every_blender() -> Vec<PathBuf> {
    let wheels = bpy_pythons().into_iter().map(|(_, program)| program);
    std::iter::once(blender()).chain(wheels).collect()
}

/// Runs a script of checks, by its path below the tests, inside each of them. It is given where the
/// worker is, and says that all is well at its end.
#[track_caller]
pub(crate) fn goes_well_in_every_blender(script: &str) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = tests.join(script);
    for program in every_blender() {
        let mut command = Command::new(&program);
        if program == blender() {
            command.args(["-b", "--factory-startup", "--python-exit-code", "1", "--python"]);
            command.arg(&script).arg("--");
        } else {
            command.arg(&script);
        }
        let done = command.arg(tests.join("../crates/blender/src")).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        let complained = String::from_utf8_lossy(&done.stderr);
        let well = done.status.success() && said.contains("all is well");
        assert!(well, "{}: {said}{complained}", program.display());
    }
}

/// Names of what was rendered.
pub(crate) fn names(rendered: &Rendered) -> Vec<String> {
    rendered.files.iter().map(|file| file.name.to_string()).collect()
}
