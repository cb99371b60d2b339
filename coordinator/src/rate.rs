//! How fast frames get done, and how many.

use std::collections::VecDeque;

use grange_protocol::Millis;

const BUCKET_MS: u64 = 5_000;
const BUCKETS: usize = 60;
/// Below so many frames in the window the whole run says more than the window does.
const ENOUGH_FRAMES: u64 = 4;

/// What the farm has done since the coordinator's start, whatever became of the jobs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) frames: u64,
    pub(crate) outputs: u64,
    pub(crate) output_bytes: u64,
}

/// Frames per minute over the last five minutes; of slow frames, since the beginning.
#[derive(Clone, Debug)]
pub(crate) struct Rate {
    began_at: Millis,
    frames: u64,
    /// The start of each bucket, and its frames.
    buckets: VecDeque<(u64, u64)>,
}

impl Rate {
    pub(crate) fn begin(now: Millis) -> Self {
        Self { began_at: now, frames: 0, buckets: VecDeque::new() }
    }

    pub(crate) fn add(&mut self, now: Millis, frames: u64) {
        self.frames += frames;
        let bucket = now.0 / BUCKET_MS * BUCKET_MS;
        match self.buckets.back_mut() {
            Some((start, count)) if *start == bucket => *count += frames,
            _ => self.buckets.push_back((bucket, frames)),
        }
        if self.buckets.len() > BUCKETS {
            self.buckets.pop_front();
        }
    }

    pub(crate) fn per_minute(&self, now: Millis) -> f32 {
        let window = now.0.saturating_sub(BUCKET_MS * BUCKETS as u64).max(self.began_at.0);
        let recent: u64 = self
            .buckets
            .iter()
            .filter(|(start, _)| start + BUCKET_MS > window)
            .map(|(_, n)| n)
            .sum();
        let (frames, since) =
            if recent >= ENOUGH_FRAMES { (recent, window) } else { (self.frames, self.began_at.0) };
        let minutes = now.0.saturating_sub(since).max(1) as f32 / 60_000.0;
        frames as f32 / minutes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_five_minutes_count_unless_frames_are_slow() {
        let mut rate = Rate::begin(Millis(0));
        for second in 1..=600 {
            let frames = if second <= 300 { 1 } else { 2 };
            rate.add(Millis(second * 1000), frames);
        }
        let fast = rate.per_minute(Millis(600_000));
        assert!((fast - 120.0).abs() < 3.0, "{fast}");

        let mut slow = Rate::begin(Millis(0));
        slow.add(Millis(1_200_000), 1);
        slow.add(Millis(2_400_000), 1);
        let slow = slow.per_minute(Millis(2_400_000));
        assert!((slow - 0.05).abs() < 0.001, "{slow}");
    }
}
