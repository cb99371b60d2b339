//! A Blender without a process: it opens, renders and crashes in virtual time, and what it renders no
//! other attempt renders as well.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use grange_agent::Stage;
use grange_blender::instance::{
    ExitHow, Instance, InstanceEvent, Opened, Order, RenderOrder, RenderProgress, Rendered,
    RenderedFile, StandIn,
};
use grange_protocol::agent::RuntimeInfo;
use grange_protocol::file::OutputRole;
use grange_protocol::job::Engine;
use grange_protocol::{BlenderVersion, BlobHash, OutputName};
use image::{ImageFormat, Rgb, RgbImage};
use tokio::sync::mpsc;

const SIGSEGV: i32 = 11;
const SAMPLES: u32 = 4;
const SIDE: u32 = 64;
const LARGE_SIDE: u32 = 600;
const LARGE_EVERY: u32 = 60;

/// A picture that was rendered.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) name: OutputName,
    pub(crate) hash: BlobHash,
    pub(crate) agent: usize,
    /// Of the simulation.
    pub(crate) began: Duration,
}

/// How Blenders behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    pub(crate) load: Duration,
    pub(crate) frame_max: Duration,
    /// Of frames, those in which it crashes. Parts of 1.
    pub(crate) crashes: f64,
}

/// The Blenders of one host.
#[derive(Clone)]
pub(crate) struct Player {
    pub(crate) agent: usize,
    pub(crate) manners: Manners,
    pub(crate) random: Arc<Mutex<fastrand::Rng>>,
    pub(crate) rendered: Arc<Mutex<Vec<Picture>>>,
    pub(crate) crashed: Arc<Mutex<u64>>,
}

impl Stage for Player {
    fn info(&self) -> RuntimeInfo {
        RuntimeInfo {
            version: BlenderVersion::new(4, 2),
            full_version: "4.2.0".into(),
            path: "/played".into(),
            engines: [Engine::Cycles].into(),
            denoiser: true,
        }
    }

    fn start(&self) -> (Instance, mpsc::Receiver<InstanceEvent>) {
        let (instance, events, stand_in) = Instance::stand_in("4.2.0");
        tokio::spawn(self.clone().play(stand_in));
        (instance, events)
    }
}

impl Player {
    async fn play(self, mut part: StandIn) {
        let killed = part.killed.clone();
        let how = tokio::select! {
            how = self.take_orders(&mut part.orders, &part.events) => how,
            () = killed.notified() => ExitHow::Asked,
        };
        part.exit(how).await;
    }

    /// Until it is told to quit, or crashes.
    async fn take_orders(
        &self,
        orders: &mut mpsc::Receiver<Order>,
        events: &mpsc::Sender<InstanceEvent>,
    ) -> ExitHow {
        while let Some(order) = orders.recv().await {
            let answer = match order {
                Order::Open(_) => {
                    tokio::time::sleep(self.manners.load).await;
                    let seconds = self.manners.load.as_secs_f32();
                    InstanceEvent::Opened(Opened { seconds, warnings: Vec::new() })
                }
                Order::Render(order) => match self.render(&order, orders, events).await {
                    Ok(answer) => answer,
                    Err(how) => return how,
                },
                Order::Quit => return ExitHow::Asked,
                Order::Ping => InstanceEvent::Pong,
                Order::Call(_) | Order::Cancel(_) | Order::Probe(..) => continue,
            };
            if events.send(answer).await.is_err() {
                break;
            }
        }
        ExitHow::Asked
    }

    async fn render(
        &self,
        order: &RenderOrder,
        orders: &mut mpsc::Receiver<Order>,
        events: &mpsc::Sender<InstanceEvent>,
    ) -> Result<InstanceEvent, ExitHow> {
        let began = now();
        let id = order.id;
        let (takes, crashes_at) = self.decide();
        for sample in 0..SAMPLES {
            if crashes_at == Some(sample) {
                *self.crashed.lock().unwrap() += 1;
                return Err(ExitHow::Signal(SIGSEGV));
            }
            let sampled = tokio::time::sleep(takes / SAMPLES);
            tokio::pin!(sampled);
            loop {
                tokio::select! {
                    () = &mut sampled => break,
                    order = orders.recv() => match order {
                        Some(Order::Cancel(canceled)) if canceled == id => {
                            return Ok(InstanceEvent::Canceled { id });
                        }
                        Some(Order::Quit) | None => return Err(ExitHow::Asked),
                        Some(_) => {}
                    },
                }
            }
            let progress = RenderProgress {
                id,
                fraction: (sample + 1) as f32 / SAMPLES as f32,
                sample: sample + 1,
                samples: SAMPLES,
                device_mib: None,
            };
            // Progress may be left out.
            let _ = events.try_send(InstanceEvent::Progress(progress));
        }
        Ok(InstanceEvent::Rendered(Rendered {
            id,
            files: vec![self.write(order, began)],
            seconds: takes.as_secs_f32(),
            width: SIDE,
            height: SIDE,
            device: None,
            peak_mib: 100,
            device_peak_mib: None,
            warnings: Vec::new(),
            data: serde_json::Value::Null,
            truths: Vec::new(),
        }))
    }

    /// How long the frame takes, and at which sample Blender crashes, if it does.
    fn decide(&self) -> (Duration, Option<u32>) {
        let mut random = self.random.lock().unwrap();
        let takes = self.manners.frame_max.mul_f64(0.2 + 0.8 * random.f64());
        let crashes = random.f64() < self.manners.crashes;
        let sample = random.u32(..SAMPLES);
        (takes, crashes.then_some(sample))
    }

    fn write(&self, order: &RenderOrder, began: Duration) -> RenderedFile {
        let bytes = self.picture();
        let name: OutputName =
            format!("{}.png", order.shot.output.expand(order.frame)).parse().expect("a good name");
        let path = order.scratch.join(name.as_str());
        let folder = path.parent().map(PathBuf::from).expect("it lies below scratch");
        std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, &bytes)).expect("room");
        let picture =
            Picture { name: name.clone(), hash: BlobHash::of(&bytes), agent: self.agent, began };
        self.rendered.lock().unwrap().push(picture);
        RenderedFile { name, role: OutputRole::Frame, path }
    }

    /// Noise, which is never the same twice: 12 kB, several datagrams, and one in many is too large
    /// to be sent without asking.
    fn picture(&self) -> Vec<u8> {
        let mut random = self.random.lock().unwrap();
        let side = if random.u32(..LARGE_EVERY) == 0 { LARGE_SIDE } else { SIDE };
        let picture = RgbImage::from_fn(side, side, |_, _| {
            let [red, green, blue, _] = random.u32(..).to_le_bytes();
            Rgb([red, green, blue])
        });
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).expect("a picture can be encoded");
        bytes.into_inner()
    }
}

/// Since the simulation began.
pub(crate) fn now() -> Duration {
    turmoil::sim_elapsed().expect("this runs on a simulated host")
}
