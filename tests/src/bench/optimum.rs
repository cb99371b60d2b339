//! The most memory that GPUs could have set aside at once: a bound that no placement can beat.
//!
//! For each size of GPU the exact best filling is computed with as many frames of every kind as one
//! likes, at most [`GENEROUS_SLOTS`] on a GPU: the largest sum of needs that is not above its
//! memory, by dynamic programming over MiB (for each sum the fewest frames that make it). Summed
//! over all GPUs, and no more than the needs of all frames that there are, that bounds every
//! placement from above:
//!
//! - what any placement has on a GPU is one of the fillings that were considered, for these differ
//!   from real ones only in that they may use a frame on several GPUs at once;
//! - no placement sets aside more than all frames need together;
//! - a frame may be given a whole GPU where only its margin does not fit, and then that GPU counts
//!   as full.

use std::collections::BTreeMap;

use super::simulated::{Farm, GENEROUS_SLOTS};

/// Needs in MiB of frames that could run.
#[derive(Default)]
pub(super) struct Frames {
    /// How often each need occurs.
    needs: BTreeMap<u64, u64>,
    /// Measured need and the need with its margin.
    margins: Vec<(u64, u64)>,
}

impl Frames {
    /// Those that run, and at most `ready` more of each scene.
    pub(super) fn of(farm: &Farm, ready: u64) -> anyhow::Result<Self> {
        let mut frames = Self::default();
        for booked_mib in farm.booked() {
            *frames.needs.entry(booked_mib).or_default() += 1;
        }
        for scene in 0..farm.scenes.len() {
            let estimate = farm.estimate(scene)?;
            let need_mib = estimate.need().map_or(0, |need| u64::from(need.device_mib));
            *frames.needs.entry(need_mib).or_default() += ready;
            frames.margins.push((estimate.surely.device_mib.into(), need_mib));
        }
        Ok(frames)
    }

    /// The bound in MiB.
    pub(super) fn most_on(&self, memory_mib: impl Iterator<Item = u64>) -> u64 {
        let mut known = BTreeMap::new();
        let gpus: u64 =
            memory_mib.map(|mib| *known.entry(mib).or_insert_with(|| self.most_on_one(mib))).sum();
        gpus.min(self.needs.iter().map(|(need, count)| need * count).sum())
    }

    fn most_on_one(&self, memory_mib: u64) -> u64 {
        let whole = |(surely, need): &(u64, u64)| (*surely..*need).contains(&memory_mib);
        if self.margins.iter().any(whole) {
            return memory_mib;
        }
        let memory = memory_mib as usize;
        let mut fewest = vec![u16::MAX; memory + 1];
        fewest[0] = 0;
        for (need, _) in self.needs.range(1..=memory_mib) {
            for sum in *need as usize..=memory {
                fewest[sum] = fewest[sum].min(fewest[sum - *need as usize].saturating_add(1));
            }
        }
        fewest.iter().rposition(|frames| *frames <= GENEROUS_SLOTS).unwrap_or(0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(needs: &[(u64, u64)], memory_mib: &[u64]) -> u64 {
        let frames = Frames { needs: needs.iter().copied().collect(), margins: Vec::new() };
        frames.most_on(memory_mib.iter().copied())
    }

    #[test]
    fn it_is_the_best_sum_of_each_gpu_and_no_more_than_there_is() {
        assert_eq!(most(&[(5, 9), (7, 9)], &[13]), 12);
        assert_eq!(most(&[(5, 9), (7, 9)], &[13, 10, 4]), 22);
        assert_eq!(most(&[(5, 1), (7, 1)], &[100]), 12);
        assert_eq!(most(&[(1, 100)], &[100]), 16, "no more than there are slots");
    }

    #[test]
    fn a_margin_that_does_not_fit_counts_as_a_full_gpu() {
        let frames = Frames { needs: [(11, 5)].into(), margins: vec![(9, 11)] };
        assert_eq!(frames.most_on([10, 8].into_iter()), 10);
    }
}
