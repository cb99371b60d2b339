//! What shots were measured to need, and what is expected of the next one.
//!
//! Shots are alike if they show the same view layer of the same scene of the same files on the same
//! kind of device. Among those, memory depends on the size of the picture, so peaks are kept per
//! class of size (half an octave of pixels), and other frames, other cameras and other sizes are
//! carried over from them:
//!
//! | what is known | expected peak | margin |
//! | --- | --- | --- |
//! | a picture of this size | the largest one measured | 10 % |
//! | pictures of two other sizes | the line through the two nearest | 20 % |
//! | pictures of one other size | that one, and [`BYTES_PER_PIXEL`] for each pixel more | 20 % |
//! | an earlier version of the file | the same | 35 % |
//! | nothing | nobody knows: the instance gets what is free | |
//!
//! Only whole numbers are used, so that every replay gives the same.

use std::collections::BTreeMap;

use grange_protocol::agent::DeviceKind;
use grange_protocol::footprint::{Expected, MeasuredEnd, Measurement, Memory};
use grange_protocol::job::RenderWork;
use grange_protocol::shot::Label;
use grange_protocol::{BlobHash, LayoutPath, Millis, Shot};
use serde::{Deserialize, Serialize};

/// Footprints that are remembered; the one that was not measured for the longest time goes first.
const KINDS_MAX: usize = 10_000;
/// Margins in percent, by how a figure came about.
pub const MARGIN_MEASURED: u32 = 10;
const MARGIN_FITTED: u32 = 20;
const MARGIN_EARLIER_FILE: u32 = 35;
/// What a pixel more takes where only one size was measured: the passes of a denoised picture as
/// floats, twice.
const BYTES_PER_PIXEL: u64 = 256;
/// What keeping the scene's data takes where only rendering without was measured, in percent of
/// that. The largest ratio that was seen is 236.
const KEPT_PERCENT: u32 = 250;
/// After an instance ran out of memory the shot is expected to need so much of what it had.
const RAISE_PERCENT: u32 = 125;
/// Somebody else may have taken the memory, so it is proven only after so many times in a row.
const RAN_OUT_PROVEN: u8 = 2;
/// But at least so much more, in MiB.
const RAISE_MIB: u32 = 256;
/// New figures count for a quarter of a running mean.
const MEAN_OLD_PARTS: u64 = 3;

/// What makes shots alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Likeness {
    pub blend: LayoutPath,
    pub scene: Option<Label>,
    pub view_layer: Option<Label>,
    pub device: DeviceKind,
    /// The files, as they are now.
    pub manifest: BlobHash,
}

/// What was learned from all shots of one likeness.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footprint {
    /// By class of size, see [`class_of`].
    pub sizes: BTreeMap<u8, SizeClass>,
    /// Pixels of pictures whose size is the file's own.
    pub own_pixels: Option<u64>,
    /// From the start of an instance to the open scene: a running mean in milliseconds.
    pub load_ms: Option<u32>,
    pub measured_at: Millis,
}

/// What was measured of pictures of about one size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeClass {
    /// Of the largest picture.
    pub pixels: u64,
    pub plain: Option<Peak>,
    pub kept: Option<Peak>,
    /// A running mean in milliseconds.
    pub frame_ms: Option<u32>,
    pub frames: u64,
    pub out_of_memory: u32,
}

/// The most that was seen, and what is asked for besides since memory ran out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    pub seen: Memory,
    /// Falls with every frame that needed less.
    pub raised: Memory,
    /// How often memory ran out since a frame was rendered.
    pub ran_out: u8,
}

/// Everything that was learned; part of the durable state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footprints {
    kinds: BTreeMap<Likeness, Footprint>,
}

/// What a task is expected to take on one kind of device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// With margins.
    pub expected: Expected,
    /// The least that it surely needs: what was measured, or raised, without a margin.
    pub surely: Memory,
    /// The part of it that is beyond doubt: what was measured, or what ran out more than once.
    pub proven: Memory,
}

impl Estimate {
    /// What must be free for an instance to start: the smaller way to render. `None`: unknown.
    pub fn need(&self) -> Option<Memory> {
        match (self.expected.plain, self.expected.kept) {
            (Some(plain), Some(kept)) => Some(plain.min(kept)),
            (one, other) => one.or(other),
        }
    }
}

impl Likeness {
    pub fn of(work: &RenderWork, shot: &Shot, manifest: BlobHash, device: DeviceKind) -> Self {
        Self {
            blend: work.blend.clone(),
            scene: shot.scene.clone(),
            view_layer: shot.view_layer.clone(),
            device,
            manifest,
        }
    }
}

impl Peak {
    fn of(seen: Memory) -> Self {
        Self { seen, ..Self::default() }
    }

    /// What one must count with, before any margin.
    pub fn mib(self) -> Memory {
        self.seen.max(self.raised)
    }

    fn proven(self) -> Memory {
        if self.ran_out < RAN_OUT_PROVEN { self.seen } else { self.mib() }
    }

    fn saw(&mut self, seen: Memory) {
        self.seen = self.seen.max(seen);
        self.ran_out = 0;
        let halfway =
            |raised: u32, seen: u32| if raised > seen { seen + (raised - seen) / 2 } else { 0 };
        self.raised = Memory {
            device_mib: halfway(self.raised.device_mib, self.seen.device_mib),
            ram_mib: halfway(self.raised.ram_mib, self.seen.ram_mib),
        };
    }

    fn ran_out(&mut self, had: Memory) {
        let raise = |mib: u32| match mib {
            0 => 0,
            mib => (mib / 100 * RAISE_PERCENT).max(mib.saturating_add(RAISE_MIB)),
        };
        // What was less than others took teaches nothing.
        if had.device_mib < self.seen.device_mib {
            return;
        }
        let raised = Memory { device_mib: raise(had.device_mib), ram_mib: had.ram_mib };
        self.raised = self.raised.max(raised);
        self.ran_out = self.ran_out.saturating_add(1);
    }
}

impl Footprints {
    /// Takes in what an agent measured. `own_size`: the shot has the size that its file says.
    pub(crate) fn learn(
        &mut self,
        likeness: &Likeness,
        measured: &Measurement,
        own_size: bool,
        at: Millis,
    ) {
        let footprint = self.kinds.entry(likeness.clone()).or_default();
        footprint.measured_at = at;
        if own_size && measured.pixels > 0 {
            footprint.own_pixels = Some(measured.pixels);
        }
        if let Some(load_ms) = measured.load_ms {
            footprint.load_ms = Some(mean(footprint.load_ms, load_ms));
        }
        footprint.sizes.entry(class_of(measured.pixels)).or_default().learn(measured);
        while self.kinds.len() > KINDS_MAX {
            let oldest = self.kinds.iter().min_by_key(|(_, footprint)| footprint.measured_at);
            let Some(oldest) = oldest.map(|(likeness, _)| likeness.clone()) else { break };
            self.kinds.remove(&oldest);
        }
    }

    /// What to expect of a shot; all `None` if nothing like it was measured.
    pub fn estimate(&self, likeness: &Likeness, shot: &Shot) -> Estimate {
        if let Some(footprint) = self.kinds.get(likeness) {
            return footprint.estimate(shot, None);
        }
        self.earlier_version(likeness)
            .map(|footprint| footprint.estimate(shot, Some(MARGIN_EARLIER_FILE)))
            .unwrap_or_default()
    }

    /// Pixels of pictures whose size is the file's own, if one was measured.
    pub(crate) fn own_pixels(&self, likeness: &Likeness) -> Option<u64> {
        self.kinds.get(likeness)?.own_pixels
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Likeness, &Footprint)> {
        self.kinds.iter()
    }

    /// The same file, saved anew or with other textures since.
    fn earlier_version(&self, likeness: &Likeness) -> Option<&Footprint> {
        let first = Likeness { manifest: BlobHash::from_bytes([0; 32]), ..likeness.clone() };
        self.kinds
            .range(first..)
            .take_while(|(other, _)| {
                (&other.blend, &other.scene, &other.view_layer, other.device)
                    == (&likeness.blend, &likeness.scene, &likeness.view_layer, likeness.device)
            })
            .map(|(_, footprint)| footprint)
            .max_by_key(|footprint| footprint.measured_at)
    }
}

impl Footprint {
    fn estimate(&self, shot: &Shot, margin: Option<u32>) -> Estimate {
        let asked = shot.resolution.map(|size| u64::from(size.width) * u64::from(size.height));
        let pixels = asked.or(self.own_pixels);
        let (plain, kept) =
            (self.peak(pixels, |size| size.plain), self.peak(pixels, |size| size.kept));
        let with_margin =
            |peak: &Guess| peak.mib.percent(100 + margin.unwrap_or(0).max(peak.margin));
        // What was never tried: at most as much as with the data kept; surely not more than so
        // many times what it takes without.
        let expected_plain = plain.as_ref().or(kept.as_ref()).map(with_margin);
        let expected_kept = match (&kept, &plain) {
            (Some(kept), _) => Some(with_margin(kept)),
            (None, Some(plain)) => Some(with_margin(plain).percent(KEPT_PERCENT)),
            (None, None) => None,
        };
        let smaller = |of: fn(&Guess) -> Memory| match (&plain, &kept) {
            (Some(one), None) | (None, Some(one)) => of(one),
            (Some(one), Some(other)) => of(one).min(of(other)),
            (None, None) => Memory::default(),
        };
        let (surely, proven) = (smaller(|guess| guess.surely), smaller(|guess| guess.proven));
        let class = pixels.and_then(|pixels| self.sizes.get(&class_of(pixels)));
        let frame_ms = class.and_then(|size| size.frame_ms);
        let nearest = || self.sizes.values().rev().find_map(|size| size.frame_ms);
        let expected = Expected {
            plain: expected_plain,
            kept: expected_kept,
            frame_ms: frame_ms.or_else(nearest),
            load_ms: self.load_ms,
        };
        // An earlier version of the file proves nothing.
        if margin.is_some() {
            return Estimate { expected, ..Estimate::default() };
        }
        Estimate { expected, surely, proven }
    }

    fn peak(&self, pixels: Option<u64>, of: impl Fn(&SizeClass) -> Option<Peak>) -> Option<Guess> {
        let known: Vec<(u64, Memory)> =
            self.sizes.values().filter_map(|size| Some((size.pixels, of(size)?.mib()))).collect();
        let largest = known.iter().map(|(_, mib)| *mib).reduce(Memory::max)?;
        // A file's own size that nobody has seen yet is a class of its own.
        let class = class_of(pixels.unwrap_or(0));
        if let Some(peak) = self.sizes.get(&class).and_then(&of) {
            let (mib, proven) = (peak.mib(), peak.proven());
            return Some(Guess { mib, surely: mib, proven, margin: MARGIN_MEASURED });
        }
        let nothing = Memory::default();
        let Some(pixels) = pixels else {
            let margin = MARGIN_FITTED;
            return Some(Guess { mib: largest, surely: nothing, proven: nothing, margin });
        };
        let smaller = known.iter().filter(|(size, _)| *size <= pixels).map(|(_, mib)| *mib);
        let at_least = smaller.reduce(Memory::max).unwrap_or_default();
        let mib = carried(&known, pixels).max(at_least);
        Some(Guess { mib, surely: at_least, proven: nothing, margin: MARGIN_FITTED })
    }
}

/// An expected peak, what of it is sure, and the margin that it needs in percent.
struct Guess {
    mib: Memory,
    surely: Memory,
    proven: Memory,
    margin: u32,
}

impl SizeClass {
    fn learn(&mut self, measured: &Measurement) {
        self.pixels = self.pixels.max(measured.pixels);
        let peak = if measured.kept { &mut self.kept } else { &mut self.plain };
        match measured.end {
            MeasuredEnd::Rendered { frame_ms, .. } => {
                self.frames += 1;
                self.frame_ms = Some(mean(self.frame_ms, frame_ms));
                peak.get_or_insert(Peak::of(measured.peak)).saw(measured.peak);
            }
            MeasuredEnd::OutOfMemory { reserved } => {
                self.out_of_memory += 1;
                peak.get_or_insert_default().ran_out(reserved.max(measured.peak));
            }
        }
    }
}

/// Twice the binary logarithm of the pixels, rounded down: two classes an octave. 0 if unknown.
pub fn class_of(pixels: u64) -> u8 {
    let Some(octave) = pixels.checked_ilog2() else { return 0 };
    let upper_half = octave > 0 && pixels >> (octave - 1) & 1 == 1;
    (octave * 2 + u32::from(upper_half)) as u8
}

/// Peaks of other sizes carried to a size that was not measured; `known` is in ascending order.
fn carried(known: &[(u64, Memory)], pixels: u64) -> Memory {
    let above = known.iter().position(|(size, _)| *size >= pixels);
    let (low, high) = match above {
        Some(at) if at > 0 => (known[at - 1], known[at]),
        None if known.len() > 1 => (known[known.len() - 2], known[known.len() - 1]),
        // Only larger ones, or only one: a smaller picture needs no more than a larger one.
        Some(at) => return known[at].1,
        None => {
            let Some((size, mib)) = known.last() else { return Memory::default() };
            let more = (pixels.saturating_sub(*size) * BYTES_PER_PIXEL) >> 20;
            let add = |mib: u32| mib.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
            return Memory { device_mib: add(mib.device_mib), ram_mib: add(mib.ram_mib) };
        }
    };
    let line = |low_mib: u32, high_mib: u32| {
        let (run, rise) = (high.0 - low.0, u64::from(high_mib.saturating_sub(low_mib)));
        let along = pixels.saturating_sub(low.0);
        let more = u128::from(rise) * u128::from(along) / u128::from(run.max(1));
        low_mib.saturating_add(u32::try_from(more).unwrap_or(u32::MAX))
    };
    Memory {
        device_mib: line(low.1.device_mib, high.1.device_mib),
        ram_mib: line(low.1.ram_mib, high.1.ram_mib),
    }
}

fn mean(old: Option<u32>, new: u32) -> u32 {
    match old {
        None => new,
        Some(old) => {
            ((u64::from(old) * MEAN_OLD_PARTS + u64::from(new)) / (MEAN_OLD_PARTS + 1)) as u32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grange_protocol::FrameSet;
    use grange_protocol::job::{RenderSettings, SceneNeeds};
    use grange_protocol::{BlenderVersion, Epoch, JobId, LeaseId, StepIndex, TaskIndex, TaskRef};

    const HD: u64 = 1920 * 1080;

    fn shot(resolution: Option<&str>) -> Shot {
        Shot {
            name: Label::default(),
            scene: None,
            view_layer: None,
            camera: None,
            frames: FrameSet::single(1),
            resolution: resolution.map(|text| text.parse().unwrap()),
            samples: None,
            output: "####".parse().unwrap(),
            extras: None,
        }
    }

    fn likeness(files: &str) -> Likeness {
        let work = RenderWork {
            blend: "/p/a.blend".parse().unwrap(),
            needs: SceneNeeds {
                saved_by: BlenderVersion::new(4, 2),
                engines: Default::default(),
                denoiser: false,
            },
            settings: RenderSettings::default(),
            chunk: 1,
            shots: Vec::new(),
        };
        Likeness::of(&work, &shot(None), BlobHash::of(files.as_bytes()), DeviceKind::Cuda)
    }

    fn both(mib: u32) -> Memory {
        Memory { device_mib: mib, ram_mib: mib / 2 }
    }

    fn rendered(pixels: u64, mib: u32, kept: bool) -> Measurement {
        Measurement {
            lease: LeaseId { epoch: Epoch(1), number: 1 },
            task: TaskRef { job: JobId(1), step: StepIndex(0), task: TaskIndex(0) },
            device: 0,
            kept,
            pixels,
            peak: both(mib),
            load_ms: None,
            end: MeasuredEnd::Rendered { frame_ms: 800, beside: 1 },
        }
    }

    fn after(measured: &[Measurement]) -> Footprints {
        let mut footprints = Footprints::default();
        for (at, one) in measured.iter().enumerate() {
            footprints.learn(&likeness("v1"), one, one.pixels == HD, Millis(at as u64));
        }
        footprints
    }

    fn plain(footprints: &Footprints, files: &str, resolution: Option<&str>) -> Option<u32> {
        let estimate = footprints.estimate(&likeness(files), &shot(resolution));
        estimate.expected.plain.map(|memory| memory.device_mib)
    }

    #[test]
    fn other_frames_and_cameras_of_the_same_size_get_the_peak_and_a_tenth() {
        let footprints = after(&[rendered(HD, 1000, false), rendered(HD, 1200, false)]);
        assert_eq!(plain(&footprints, "v1", None), Some(1320));
        assert_eq!(plain(&footprints, "v1", Some("1920x1080")), Some(1320));
        assert_eq!(plain(&Footprints::default(), "v1", None), None);
    }

    #[test]
    fn other_sizes_are_carried_over_with_a_larger_margin() {
        let one = after(&[rendered(HD, 1000, false)]);
        // 6.2 million pixels more, 256 bytes each.
        assert_eq!(plain(&one, "v1", Some("3840x2160")), Some((1000 + 1518) * 120 / 100 + 1));
        assert_eq!(plain(&one, "v1", Some("960x540")), Some(1200), "no less than seen");
        let two = after(&[rendered(HD, 1000, false), rendered(HD / 4, 700, false)]);
        // 300 MiB for three quarters of a picture.
        assert_eq!(plain(&two, "v1", Some("3840x2160")), Some(2200 * 120 / 100));
        assert_eq!(plain(&two, "v1", Some("1440x810")), Some(825 * 120 / 100));
    }

    #[test]
    fn an_earlier_version_of_the_file_is_better_than_nothing() {
        let footprints = after(&[rendered(HD, 1000, false)]);
        assert_eq!(plain(&footprints, "v2", None), Some(1350));
        let estimate = footprints.estimate(&likeness("v2"), &shot(None));
        assert_eq!(estimate.surely, Memory::default());
    }

    #[test]
    fn keeping_data_is_learned_apart_and_guessed_before() {
        let both_ways = |measured: &[Measurement]| {
            let expected = after(measured).estimate(&likeness("v1"), &shot(None)).expected;
            (expected.plain.unwrap().device_mib, expected.kept.unwrap().device_mib)
        };
        assert_eq!(both_ways(&[rendered(HD, 1000, false)]), (1100, 2750));
        assert_eq!(both_ways(&[rendered(HD, 1600, true)]), (1760, 1760));
        assert_eq!(both_ways(&[rendered(HD, 1600, true), rendered(HD, 1000, false)]), (1100, 1760));
    }

    #[test]
    fn running_out_raises_it_and_frames_that_need_less_lower_it_again() {
        let end = MeasuredEnd::OutOfMemory { reserved: both(2000) };
        let out = Measurement { end, ..rendered(HD, 900, false) };
        let mut seen = vec![rendered(HD, 1000, false), out];
        assert_eq!(plain(&after(&seen), "v1", None), Some(2750), "2000 and a quarter, and a tenth");
        let surely = after(&seen).estimate(&likeness("v1"), &shot(None)).surely;
        assert_eq!(surely.device_mib, 2500);
        seen.push(rendered(HD, 1000, false));
        assert_eq!(plain(&after(&seen), "v1", None), Some(1750 * 110 / 100));
        seen.extend(vec![rendered(HD, 1000, false); 12]);
        assert_eq!(plain(&after(&seen), "v1", None), Some(1100));
    }

    #[test]
    fn classes_are_half_octaves() {
        assert_eq!([0, 1, 2, 3, 4, 6, 8].map(class_of), [0, 0, 2, 3, 4, 5, 6]);
        assert_eq!(class_of(HD), class_of(1600 * 1100));
        assert_ne!(class_of(HD), class_of(3840 * 2160));
        assert_eq!(class_of(u64::MAX), 127);
    }
}
