//! Wasted memory and instances that run out of it: Grange, which is told nothing, beside the rule of
//! a Python tool for pools of Blenders, `instances = floor(free memory ÷ a number that the user
//! types)`.
//!
//! Both get the same GPUs and the same scenes ([`super::simulated`]).
//!
//! - **The rule** fills each GPU with instances of one scene, for each scene that fits on the GPU at
//!   all. The number that is typed is the scene's true peak times a factor, the same for all. What
//!   does not fit beside the others runs out of memory; what fits works.
//! - **Grange** begins with no footprint known and one instance per GPU, and renders all scenes for
//!   half an hour. Everything counts from the first frame on: GPUs that hold one instance because
//!   nobody knows the scene, and instances that run out of memory because nobody did.
//!
//! Wasted is memory that no instance that works takes, as a share of all memory: over all pairs of
//! GPU and scene, or over time.

use super::Figures;
use super::simulated::{Farm, Random, Scene, Slots, gpus, scenes};

const GPUS: usize = 200;
const SCENES: usize = 32;
/// Of each job, more than are rendered.
const FRAMES: i32 = 5_000;
const SEED: u64 = 7;
const TIME_MS: u64 = 1_800_000;
/// Of the true peak, in percent.
const GUESSES: [u64; 5] = [25, 50, 100, 200, 400];

pub(super) fn run() -> anyhow::Result<Figures> {
    let mut random = Random(SEED);
    let memory_mib = gpus(GPUS, &mut random);
    let scenes = scenes(SCENES, 1.0, &mut random)?;
    let mut figures = Figures::new();
    for guess in GUESSES {
        let ruled = rule(&memory_mib, &scenes, guess);
        let name = |figure: &str| format!("guesses_{guess:03}_percent_{figure}");
        figures.insert(name("wasted_percent"), ruled.wasted_percent);
        figures.insert(name("out_of_memory_per_100"), ruled.out_of_memory_per_100);
    }
    let mut farm = Farm::new(&memory_mib, scenes, Slots::OneAtFirst, random)?;
    for scene in 0..SCENES {
        farm.submit(scene, FRAMES)?;
    }
    farm.run_for(TIME_MS);
    let tally = farm.tally;
    figures
        .insert("guesses_grange_wasted_percent".into(), 100.0 * (1.0 - tally.used / tally.there));
    figures.insert(
        "guesses_grange_out_of_memory_per_100".into(),
        100.0 * tally.out_of_memory as f64 / tally.instances as f64,
    );
    figures.insert("guesses_grange_out_of_memory".into(), tally.out_of_memory as f64);
    figures.insert("guesses_grange_frames".into(), tally.frames as f64);
    Ok(figures)
}

struct Outcome {
    wasted_percent: f64,
    out_of_memory_per_100: f64,
}

/// What comes of a number that is so many percent of each scene's true peak.
fn rule(memory_mib: &[u64], scenes: &[Scene], guess_percent: u64) -> Outcome {
    let (mut there, mut used, mut started, mut out_of_memory) = (0, 0, 0, 0);
    for memory_mib in memory_mib {
        for scene in scenes {
            let peak_mib = u64::from(scene.peak_mib);
            let fitting = memory_mib / peak_mib;
            if fitting == 0 {
                continue;
            }
            let instances = memory_mib * 100 / (peak_mib * guess_percent);
            there += memory_mib;
            used += instances.min(fitting) * peak_mib;
            started += instances;
            out_of_memory += instances.saturating_sub(fitting);
        }
    }
    Outcome {
        wasted_percent: 100.0 * (1.0 - used as f64 / there as f64),
        out_of_memory_per_100: 100.0 * out_of_memory as f64 / started.max(1) as f64,
    }
}
