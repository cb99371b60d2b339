//! The sample scene's 24 frames by `grange render`, beside what Blender needs for them by itself.
//!
//! - **floor**: `blender -b scene -a`, one process that renders one frame after the other.
//! - **kept**: the same with persistent data switched on.
//! - **process per frame**: `blender -b scene -f N`, once for each frame.
//! - **grange**: `grange render` with one instance, as a whole; its one-off start lasts until the
//!   first task runs: coordinator, certificates, agent, a Blender probed.
//! - **grange two**: the same with two instances, one of which prepares and saves while the other
//!   renders.
//!
//! All with the threads that Blender takes by itself; two instances get half of them each. Every way
//! must give the same pixels, but for what Blender itself makes different with fewer threads: of the
//! sample scene one channel of one pixel, by 1 of 255.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;
use tempfile::TempDir;

use super::processes::{disk, program};
use super::{Figures, median};

const FRAMES: u32 = 24;
const ROUNDS: usize = 3;
/// Channels of pixels, of 5.5 million, in which Blender may differ from itself, each by 1 of 255: with
/// fewer threads, and now and then with as many. One and two were seen.
const OTHER_BY_BLENDER: usize = 4;
/// Switches on what an agent switches on where memory allows it.
const KEEP: &str = "import bpy; bpy.context.scene.render.use_persistent_data = True";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Floor,
    Kept,
    ProcessPerFrame,
    Grange,
    GrangeTwo,
}

const WAYS: [(Way, &str); 5] = [
    (Way::Floor, "floor"),
    (Way::Kept, "kept"),
    (Way::ProcessPerFrame, "process_per_frame"),
    (Way::Grange, "grange"),
    (Way::GrangeTwo, "grange_two"),
];

/// Seconds.
#[derive(Clone, Copy)]
struct Took {
    wall: f64,
    /// Of that, what is needed once, before the first frame.
    start: f64,
}

pub(super) fn run() -> anyhow::Result<Figures> {
    let home = TempDir::new_in(disk()?)?;
    let scene = sample_scene(home.path())?;
    let mut rounds: Vec<Vec<Took>> = Vec::new();
    let mut expected = None;
    for _ in 0..ROUNDS {
        let mut round = Vec::new();
        for (way, name) in WAYS {
            let out = TempDir::new_in(home.path())?;
            round.push(way.render(&scene, out.path())?);
            let pictures = pixels(out.path())?;
            let expected = expected.get_or_insert_with(|| pictures.clone());
            let differing = pictures.iter().zip(expected.iter()).filter(|(a, b)| a != b);
            let (mut other, mut largest) = (0, 0);
            for (a, b) in differing {
                other += 1;
                largest = largest.max(a.abs_diff(*b));
            }
            anyhow::ensure!(
                other <= OTHER_BY_BLENDER && largest <= 1,
                "{name} gave other pixels: {other} channels of {}, by up to {largest}",
                pictures.len()
            );
        }
        rounds.push(round);
    }
    let mut figures = Figures::new();
    for (at, (way, name)) in WAYS.into_iter().enumerate() {
        let of = |figure: fn(Took) -> f64| {
            median(rounds.iter().map(|round| figure(round[at])).collect())
        };
        figures.insert(format!("warm_{name}_s"), of(|took| took.wall));
        if matches!(way, Way::Grange | Way::GrangeTwo) {
            figures.insert(format!("warm_{name}_start_s"), of(|took| took.start));
            let ratios = rounds.iter().map(|round| {
                let took = round[at];
                (took.wall - took.start) / round[0].wall
            });
            figures.insert(format!("warm_{name}_to_floor_ratio"), median(ratios.collect()));
        }
    }
    Ok(figures)
}

impl Way {
    fn render(self, scene: &Path, out: &Path) -> anyhow::Result<Took> {
        let began = Instant::now();
        let mut start = 0.0;
        match self {
            Self::Floor => blender(scene, out, &["-a"])?,
            Self::Kept => blender(scene, out, &["--python-expr", KEEP, "-a"])?,
            Self::ProcessPerFrame => {
                for frame in 1..=FRAMES {
                    blender(scene, out, &["-f", &frame.to_string()])?;
                }
            }
            Self::Grange => start = grange(scene, out, "1")?,
            Self::GrangeTwo => start = grange(scene, out, "2")?,
        }
        Ok(Took { wall: began.elapsed().as_secs_f64(), start })
    }
}

fn blender(scene: &Path, out: &Path, what: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("blender");
    command.arg("-b").arg(scene).arg("-o").arg(out.join("turntable_####")).args(what);
    let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    anyhow::ensure!(done.success(), "{command:?} failed");
    Ok(())
}

/// Seconds until the first task ran.
fn grange(scene: &Path, out: &Path, instances: &str) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut child = Command::new(program("grange")?)
        .args(["--json", "render", "--instances", instances, "-o"])
        .arg(out)
        .arg(scene)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut start = None;
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        let event: serde_json::Value = serde_json::from_str(&line?)?;
        if event["task"]["task"]["state"] == "running" {
            start.get_or_insert(began.elapsed().as_secs_f64());
        }
    }
    anyhow::ensure!(child.wait()?.success(), "grange render failed");
    start.context("no task ran")
}

/// The scene of `examples/turntable.py`, in `home`.
pub(super) fn sample_scene(home: &Path) -> anyhow::Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/turntable.py");
    let scene = home.join("turntable.blend");
    let mut command = Command::new("blender");
    command.args(["-b", "--factory-startup", "--python-exit-code", "1", "--python"]);
    command.arg(script).arg("--").arg(&scene).stdout(Stdio::null()).stderr(Stdio::null());
    anyhow::ensure!(command.status()?.success(), "{command:?} failed");
    Ok(scene)
}

/// Of all frames, one after the other.
fn pixels(out: &Path) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::new();
    for frame in 1..=FRAMES {
        let path = out.join(format!("turntable_{frame:04}.png"));
        let picture = image::open(&path).with_context(|| path.display().to_string())?;
        all.extend(picture.to_rgba8().into_raw());
    }
    Ok(all)
}
