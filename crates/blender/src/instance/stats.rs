//! How far a render is, read out of what Blender says about it.
//!
//! Blender says it as text for people, in a few ways: on standard output in 3.4, to a handler in
//! Python from 4.2 on, tiled or not, by Cycles or by EEVEE. This is the only place that reads it.

/// One such text, understood. What it does not say is zero or `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Samples done and to do, of the tile under way if the picture is tiled.
    pub sample: u32,
    pub samples: u32,
    /// Tiles done and to do; `0` of `0` if the picture is not tiled.
    pub tile: u32,
    pub tiles: u32,
    /// Memory that Cycles holds on its device now, and at most so far if it says that, in MiB.
    pub device_mib: Option<u32>,
    pub device_peak_mib: Option<u32>,
}

impl Stats {
    /// Reads a line of Blender's; `None` if it is not about the progress of a render.
    pub fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        let is_stats = line.starts_with("Fra:")
            || line.starts_with("Mem:")
            || line.starts_with("Remaining:")
            || line.starts_with("Time:")
            || line.starts_with("Sample ")
            || (line.starts_with("Rendered ") || line.starts_with("Rendering "));
        if !is_stats {
            return None;
        }
        let mut stats = Self::default();
        for part in line.split(['|', ',']).map(str::trim) {
            stats.take(part);
        }
        // 5.0 says only what is held now.
        stats.device_peak_mib = stats.device_peak_mib.max(stats.device_mib);
        Some(stats)
    }

    /// Share of the pass that is done, 0 to 1; `None` if the text does not say.
    pub fn fraction(&self) -> Option<f32> {
        let share = |done: u32, of: u32| (of > 0).then(|| done.min(of) as f32 / of as f32);
        let samples = share(self.sample, self.samples);
        match share(self.tile, self.tiles) {
            None => samples,
            // A tile whose samples are all done is among the finished ones already.
            Some(tiles) if self.sample >= self.samples => Some(tiles),
            Some(tiles) => Some((tiles + samples.unwrap_or(0.0) / self.tiles as f32).min(1.0)),
        }
    }

    fn take(&mut self, part: &str) {
        if let Some((sample, samples)) = part.strip_prefix("Sample ").and_then(counts) {
            (self.sample, self.samples) = (sample, samples);
        } else if let Some(rest) = part.strip_prefix("Rendered ") {
            if let Some((tile, tiles)) = rest.strip_suffix(" Tiles").and_then(counts) {
                (self.tile, self.tiles) = (tile, tiles);
            }
        } else if let Some(rest) = part.strip_prefix("Rendering ") {
            if let Some((sample, samples)) = rest.strip_suffix(" samples").and_then(counts) {
                (self.sample, self.samples) = (sample, samples);
            }
        } else if let Some(size) = part.strip_prefix("Mem:").and_then(mebibytes) {
            // The first pair of a line is Blender's own memory, the last the device's.
            self.device_mib = Some(size);
        } else if let Some(size) = part.strip_prefix("Peak:").and_then(mebibytes) {
            self.device_peak_mib = Some(size);
        }
    }
}

/// `3/16` or `3 / 16`.
fn counts(text: &str) -> Option<(u32, u32)> {
    let (done, of) = text.split_once('/')?;
    Some((done.trim().parse().ok()?, of.trim().parse().ok()?))
}

/// `13.95M`, `1.2G`, `900K`, and what may follow after a space; rounded to MiB.
fn mebibytes(text: &str) -> Option<u32> {
    let text = text.split_whitespace().next()?;
    let unit = text.chars().last()?;
    let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
    let factor = match unit {
        'K' => 1.0 / 1024.0,
        'M' => 1.0,
        'G' => 1024.0,
        'T' => 1024.0 * 1024.0,
        _ => return None,
    };
    let size = (number * factor).round();
    (0.0..=f64::from(u32::MAX)).contains(&size).then_some(size as u32)
}

/// How far a whole frame is: it may be rendered in several passes, one for each view layer and
/// view, which Blender does not number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    passes: u32,
    done: u32,
    pass: f32,
    best: f32,
}

impl Meter {
    /// A fall of the pass's share by this much means that another one has begun.
    const NEW_PASS: f32 = 0.3;

    pub(crate) fn new(passes: u32) -> Self {
        Self { passes: passes.max(1), done: 0, pass: 0.0, best: 0.0 }
    }

    /// Takes the share of the pass under way if Blender says it, gives the share of the frame.
    /// Never falls.
    pub(crate) fn advance(&mut self, share: Option<f32>) -> f32 {
        let Some(share) = share else { return self.best };
        if share + Self::NEW_PASS < self.pass && self.done + 1 < self.passes {
            self.done += 1;
        }
        self.pass = share;
        let whole = (self.done as f32 + share) / self.passes as f32;
        self.best = self.best.max(whole).min(1.0);
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Stats {
        Stats::parse(line).unwrap_or_else(|| panic!("not understood: {line}"))
    }

    #[test]
    fn cycles_in_3_4_and_4_x_with_tiles_and_without() {
        let line = "Fra:5 Mem:13.95M (Peak 13.95M) | Time:00:00.41 | Remaining:00:06.12 | \
                    Mem:1.19M, Peak:65.22M | Scene, ViewLayer | Sample 1/16";
        let stats = parse(line);
        assert_eq!(
            stats,
            Stats {
                sample: 1,
                samples: 16,
                device_mib: Some(1),
                device_peak_mib: Some(65),
                ..Stats::default()
            }
        );
        assert_eq!(stats.fraction(), Some(1.0 / 16.0));

        let tiled = parse(
            "Fra:1 Mem:1.20G (Peak 1.31G) | Time:00:03.11 | Mem:1.1G, Peak:1.1G | Scene, \
             ViewLayer | Rendered 3/15 Tiles, Sample 100/400",
        );
        assert_eq!((tiled.tile, tiled.tiles, tiled.sample, tiled.samples), (3, 15, 100, 400));
        assert_eq!(tiled.device_mib, Some(1126));
        assert_eq!(tiled.fraction(), Some((3.0 / 15.0) + 0.25 / 15.0));
        assert_eq!(parse("Rendered 1/15 Tiles, Sample 400/400").fraction(), Some(1.0 / 15.0));
    }

    #[test]
    fn cycles_in_5_0_and_eevee() {
        let stats = parse("Remaining: 00:02.44 | Mem: 4M | Sample 1/16");
        assert_eq!((stats.sample, stats.samples, stats.device_mib), (1, 16, Some(4)));
        assert_eq!(stats.device_peak_mib, Some(4));
        let eevee = parse("Fra:2 Mem:44M (Peak 51M) | Time:00:01.20 | Rendering 25 / 64 samples");
        assert_eq!(eevee.fraction(), Some(25.0 / 64.0));
    }

    #[test]
    fn what_says_nothing_of_samples_is_stats_all_the_same() {
        let line = "Fra:14 Mem:76.78M (Peak 364.77M) | Time:00:00.02 | Main, ViewLayer | \
                    Updating Lights";
        assert_eq!(parse(line).fraction(), None);
        for other in ["Saved: '/tmp/0001.png'", "", "Rendering", "Error: x", "frame 1/2"] {
            let fraction = Stats::parse(other).and_then(|stats| stats.fraction());
            assert_eq!(fraction, None, "{other}");
        }
    }

    #[test]
    fn a_frame_of_two_passes_goes_from_0_to_1_once() {
        let mut meter = Meter::new(2);
        let shares = [0.1, 0.5, 1.0, 0.1, 0.6, 1.0].map(|share| meter.advance(Some(share)));
        assert_eq!(shares, [0.05, 0.25, 0.5, 0.55, 0.8, 1.0]);
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in r"(Fra:|Mem:|Remaining:|Sample |Rendered |Rendering )?[\PC|/:, .0-9KMGTilesamp]{0,80}") {
            if let Some(share) = Stats::parse(&text).and_then(|stats| stats.fraction()) {
                prop_assert!((0.0..=1.0).contains(&share));
            }
        }

        #[test]
        fn the_meter_never_falls_and_never_passes_1(
            passes in 0u32..6,
            shares in proptest::collection::vec(0.0f32..=1.0, 0..60),
        ) {
            let mut meter = Meter::new(passes);
            let mut last = 0.0;
            for share in shares {
                let whole = meter.advance(Some(share));
                prop_assert!(whole >= last && whole <= 1.0);
                last = whole;
            }
        }
    }
}
