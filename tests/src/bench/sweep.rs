//! Frames a minute with the number of instances that an agent finds by itself, beside every fixed
//! number, on a GPU that does not exist.
//!
//! Coordinator, agent and Blenders are processes. The GPU has 24 GiB, told by a stand-in for
//! NVIDIA's library; the Blenders are fakes that take its memory, are out of it in Blender's words,
//! and hold each other up: with n of them in the middle of a frame, each frame takes
//!
//! ```text
//! frame_ms × (1 − gpu_share + gpu_share × n × (1 + switch_cost × (n − 1)))
//! ```
//!
//! Each setting gets a farm of its own that knows nothing of the scene; the scenes take their turns
//! at the same time, for their processes sleep for most of it. The first [`LEARNING`] frames do not
//! count, nor do the last ones, when fewer instances render than could: the rate is that between the
//! mean times at which two groups of frames are committed, of which the first begins after the
//! learning and the second ends before the tail. Means of groups, because frames come in bursts.

use std::collections::BTreeSet;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use grange_client::Farm as Client;
use grange_fake_nvml::{Gpu, State, World};
use grange_protocol::client::WatchRequest;
use grange_protocol::file::Blob;
use grange_protocol::job::{Engine, Policy, RenderSettings, SceneNeeds};
use grange_protocol::kinds::{Animation, Submission};
use grange_protocol::manifest::ManifestEntry;
use grange_protocol::shot::Label;
use grange_protocol::view::WatchEvent;
use grange_protocol::{
    BlenderVersion, BlobHash, FrameSet, JobId, JobKind, Manifest, Priority, Shot, codec,
};
use tempfile::TempDir;
use tokio::time::Instant;

use super::Figures;
use super::processes::{Farm, disk, program};

/// Frames that a search may take.
pub(super) const LEARNING: usize = 8;
const GPU_MIB: u64 = 24 << 10;
const FIXED: [u16; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const FRAMES: usize = 88;
/// Frames of the two groups.
const GROUP: usize = 8;

/// Scenes for fake Blenders; see there.
const SCENES: [(&str, &str); 3] = [
    // Two are best: the GPU is busy for most of a frame, and dislikes to be shared.
    (
        "two",
        "frame_ms = 200\nload_ms = 300\nmemory_mib = 1200\ngpu_share = 0.6\nswitch_cost = 0.15",
    ),
    // Four are best.
    (
        "four",
        "frame_ms = 240\nload_ms = 300\nmemory_mib = 2500\ngpu_share = 0.35\nswitch_cost = 0.1",
    ),
    // As many as possible are best, and three fit.
    (
        "memory",
        "frame_ms = 280\nload_ms = 300\nmemory_mib = 7000\ngpu_share = 0.2\nswitch_cost = 0.02",
    ),
];

/// How fast a job was, in frames a minute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speed {
    /// After the learning and before the tail.
    pub(super) steady: f64,
    /// From the submission to the last frame.
    pub(super) whole: f64,
}

pub(super) fn run() -> anyhow::Result<Figures> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}

/// All scenes at the same time: their processes sleep for most of it.
async fn measure() -> anyhow::Result<Figures> {
    let scenes: Vec<_> =
        SCENES.into_iter().map(|(name, scene)| tokio::spawn(sweep(name, scene))).collect();
    let mut figures = Figures::new();
    for scene in scenes {
        figures.extend(scene.await??);
    }
    Ok(figures)
}

async fn sweep(name: &str, scene: &str) -> anyhow::Result<Figures> {
    let mut figures = Figures::new();
    let name = |figure: &str| format!("sweep_gpu_{name}_{figure}");
    let mut best: Option<(u16, Speed)> = None;
    for count in FIXED {
        let (speed, _) = render(scene, &count.to_string()).await?;
        figures.insert(name(&format!("{count}_per_min")), speed.steady);
        if best.is_none_or(|(_, best)| speed.steady > best.steady) {
            best = Some((count, speed));
        }
    }
    let (best_count, best) = best.context("nothing was measured")?;
    let (auto, decided) = render(scene, "auto").await?;
    figures.insert(name("best_count"), best_count.into());
    figures.insert(name("auto_per_min"), auto.steady);
    figures.insert(name("auto_to_best_ratio"), auto.steady / best.steady);
    figures.insert(name("auto_to_best_whole_ratio"), auto.whole / best.whole);
    println!("{}\n{}", name("auto decided:"), decided.join("\n"));
    Ok(figures)
}

/// A scene on a farm of its own; what the agent decided is told besides.
async fn render(scene: &str, instances: &str) -> anyhow::Result<(Speed, Vec<String>)> {
    let gpu = FakeGpu::new()?;
    let mut farm = Farm::start()?;
    farm.start_agent(|agent| {
        agent.env(grange_fake_nvml::world::DIR, gpu.path()).env("GRANGE_NVML", gpu.library());
        // The sandbox would hide the GPU, and number processes anew.
        agent.args(["--sandbox", "off", "--instances", instances, "--blender"]);
        agent.arg(program("fake-blender")?);
        Ok(())
    })
    .await?;
    let client = farm.client().await?;
    let began = Instant::now();
    let job = submit(&client, scene).await?;
    let committed_s = watch(&client, job, began).await?;
    client.close().await;
    Ok((Speed::of(&committed_s, GROUP)?, farm.decisions()?))
}

impl Speed {
    pub(super) fn of(committed_s: &[f64], group: usize) -> anyhow::Result<Self> {
        let count = committed_s.len();
        let counted = count.checked_sub(LEARNING + 2 * group).context("too few frames")?;
        let mean_of =
            |from: usize| committed_s[from..from + group].iter().sum::<f64>() / group as f64;
        let took_s = mean_of(LEARNING + counted) - mean_of(LEARNING);
        let last = committed_s.last().context("no frames")?;
        Ok(Self { steady: counted as f64 / took_s * 60.0, whole: count as f64 / last * 60.0 })
    }
}

/// Waits until the job is completed; says when its frames were committed, in seconds.
pub(super) async fn watch(client: &Client, job: JobId, began: Instant) -> anyhow::Result<Vec<f64>> {
    let mut watch = client.watch(WatchRequest::Job { job, outputs_after: 0 }).await?;
    let mut committed_s = Vec::new();
    loop {
        let event = tokio::time::timeout(Duration::from_secs(120), watch.next()).await;
        match event.context("nothing happens any more")??.context("the watch has ended")? {
            WatchEvent::Output { .. } => committed_s.push(began.elapsed().as_secs_f64()),
            WatchEvent::Job(job) if job.state.is_final() => {
                let done = job.progress.tasks.completed as usize;
                anyhow::ensure!(done == committed_s.len(), "{done} tasks, {}", committed_s.len());
                return Ok(committed_s);
            }
            _ => {}
        }
    }
}

async fn submit(client: &Client, scene: &str) -> anyhow::Result<JobId> {
    let put = async |bytes: Vec<u8>| {
        let blob = Blob { hash: BlobHash::of(&bytes), len: bytes.len() as u64 };
        client.put_bytes(blob, bytes).await?;
        anyhow::Ok(blob)
    };
    let animation = Animation {
        blend: "/project/fake.blend".parse()?,
        needs: SceneNeeds {
            saved_by: BlenderVersion::new(4, 2),
            engines: [Engine::Cycles].into(),
            denoiser: false,
        },
        settings: RenderSettings::default(),
        chunk: 1,
        shot: Shot {
            name: Label::default(),
            scene: None,
            view_layer: None,
            camera: None,
            frames: FrameSet::range(1, FRAMES as i32, 1)?,
            resolution: None,
            samples: None,
            output: "####".parse()?,
            extras: None,
        },
        preview: None,
    };
    let blob = put(scene.as_bytes().to_vec()).await?;
    let entry = ManifestEntry { path: animation.blend.clone(), blob: blob.hash, len: blob.len };
    let manifest = put(codec::encode(&Manifest::new(vec![entry])?)?).await?;
    let submission = Submission {
        name: "fake.blend".parse()?,
        priority: Priority::DEFAULT,
        policy: Policy::default(),
        manifest: Some(manifest.hash),
        queue_anyway: false,
        tags: BTreeSet::new(),
        kind: JobKind::Animation(animation),
    };
    Ok(client.submit(submission).await?)
}

/// A GPU in a directory of its own, and the library that tells of it.
struct FakeGpu {
    dir: TempDir,
}

impl FakeGpu {
    fn new() -> anyhow::Result<Self> {
        let gpu = Self { dir: TempDir::new_in(disk()?)? };
        // As cargo leaves it, because this program depends on it.
        let built = program("deps/libgrange_fake_nvml.so")?;
        fs::copy(built, gpu.library())?;
        let one = Gpu {
            uuid: "GPU-0".into(),
            name: "Fake".into(),
            memory_mib: GPU_MIB,
            ..Gpu::default()
        };
        let state = State { driver: "570.86".into(), error: None, gpus: vec![one] };
        World::at(gpu.path()).set_state(&state)?;
        Ok(gpu)
    }

    fn library(&self) -> PathBuf {
        self.path().join("libnvidia-ml.so.1")
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}
