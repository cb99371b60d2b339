//! How full the core keeps 1,000 GPUs, beside the most that is possible.
//!
//! The farm is simulated ([`super::simulated`]): hosts with four equal GPUs of 8 to 80 GiB, 64 jobs
//! of 1 to 70 GiB per frame, half of them below 4.5, whose footprints were measured before, and more
//! frames than fit. Agents ask for 16 instances per GPU and take nothing ahead. The *coarse* load has
//! no scene below 4 GiB that could fill a gap. When the farm has been full for a while, the memory
//! that the core has set aside, margins included, is compared with a bound from above
//! ([`super::optimum`]) several times, half a minute apart.

use super::optimum::Frames;
use super::simulated::{Farm, Random, Slots, gpus, scenes};
use super::{Figures, median};

const GPUS: usize = 1_000;
const SCENES: usize = 64;
/// Of each job, more than are rendered.
const FRAMES: i32 = 5_000;
const SEED: u64 = 7;
const WARM_UP_MS: u64 = 300_000;
const LOOKS: usize = 7;
const BETWEEN_LOOKS_MS: u64 = 30_000;

/// Loads, and the smallest scene of each in GiB.
const LOADS: [(&str, f64); 2] = [("packing", 1.0), ("packing_coarse", 4.0)];

pub(super) fn run() -> anyhow::Result<Figures> {
    let mut figures = Figures::new();
    for (name, smallest_gib) in LOADS {
        let of_load = pack(smallest_gib)?.into_iter();
        figures.extend(of_load.map(|(figure, value)| (format!("{name}_{figure}"), value)));
    }
    Ok(figures)
}

fn pack(smallest_gib: f64) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let mut random = Random(SEED);
    let memory_mib = gpus(GPUS, &mut random);
    let scenes = scenes(SCENES, smallest_gib, &mut random)?;
    let mut farm = Farm::new(&memory_mib, scenes, Slots::Generous, random)?;
    // One frame of each measures them all.
    for scene in 0..SCENES {
        farm.submit(scene, 1)?;
    }
    farm.run_out();
    let measuring = farm.tally;
    anyhow::ensure!(measuring.frames == SCENES as u64, "{measuring:?}");
    for scene in 0..SCENES {
        farm.submit(scene, FRAMES)?;
    }
    farm.run_for(WARM_UP_MS);

    let there: u64 = memory_mib.iter().sum();
    let before = farm.tally;
    let (mut ratios, mut shares) = (Vec::new(), Vec::new());
    for _ in 0..LOOKS {
        farm.run_for(BETWEEN_LOOKS_MS);
        let booked: u64 = farm.booked().sum();
        let frames = Frames::of(&farm, FRAMES as u64)?;
        ratios.push(booked as f64 / frames.most_on(memory_mib.iter().copied()) as f64);
        shares.push(booked as f64 / there as f64 * 100.0);
    }
    anyhow::ensure!(farm.core.check_invariants().is_empty(), "{:?}", farm.core.check_invariants());
    let events = (farm.tally.events - before.events) as f64;
    let deciding_s = (farm.tally.deciding - before.deciding).as_secs_f64();
    Ok(vec![
        ("worst_of_optimum_ratio", ratios.iter().copied().fold(1.0, f64::min)),
        ("of_optimum_ratio", median(ratios)),
        ("booked_percent", median(shares)),
        ("running", farm.booked().count() as f64),
        ("over_committed", farm.tally.over_committed as f64),
        ("out_of_memory", (farm.tally.out_of_memory - measuring.out_of_memory) as f64),
        ("events", events),
        ("events_per_s", events / deciding_s),
    ])
}
