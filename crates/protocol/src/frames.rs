//! Sets of frames as people write them: `47`, `1-30`, `3, 5-10`, `1-100x4`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::FRAMES_MAX;

/// Frames of ranges with different steps that lie among one another: those are sorted one by one …
const TANGLED_MAX: u64 = 10_000;
/// … and may make so many ranges more than were written. A few bytes must not become a long list.
const PIECES_MAX: usize = 256;

/// Frames in ascending order without repeats, kept as a few ranges however many they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct FrameSet {
    ranges: Vec<FrameRange>,
}

/// `first`, `first + step`, … up to `last`, which is always one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
struct FrameRange {
    first: i32,
    last: i32,
    step: u32,
}

impl FrameSet {
    /// The one frame.
    pub fn single(frame: i32) -> Self {
        Self { ranges: vec![FrameRange { first: frame, last: frame, step: 1 }] }
    }

    /// `first` to `last`, every `step`-th.
    pub fn range(first: i32, last: i32, step: u32) -> Result<Self, BadFrames> {
        Self::normalised(vec![FrameRange::new(first, last, step)?])
    }

    /// These frames, in any order.
    pub fn from_frames(frames: impl IntoIterator<Item = i32>) -> Result<Self, BadFrames> {
        let mut frames: Vec<i32> = frames.into_iter().collect();
        frames.sort_unstable();
        frames.dedup();
        if frames.is_empty() {
            return Err(BadFrames::Empty);
        }
        if frames.len() as u64 > FRAMES_MAX {
            return Err(BadFrames::TooMany(frames.len() as u64));
        }
        Ok(Self { ranges: runs(&frames) })
    }

    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|range| range.len()).sum()
    }

    /// Never true: a set of no frames cannot be made.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub fn first(&self) -> i32 {
        self.ranges[0].first
    }

    pub fn last(&self) -> i32 {
        self.ranges[self.ranges.len() - 1].last
    }

    /// The frame at `position`, from 0.
    pub fn nth(&self, position: u64) -> Option<i32> {
        let mut position = position;
        for range in &self.ranges {
            if position < range.len() {
                return Some(range.at(position));
            }
            position -= range.len();
        }
        None
    }

    pub fn contains(&self, frame: i32) -> bool {
        self.ranges.iter().any(|range| range.contains(frame))
    }

    pub fn iter(&self) -> impl Iterator<Item = i32> + '_ {
        self.ranges.iter().flat_map(|range| (0..range.len()).map(|at| range.at(at)))
    }

    /// The `size` frames from `start`, a position from 0; fewer at the end.
    pub fn slice(&self, start: u64, size: u64) -> Vec<i32> {
        let mut skip = start;
        let mut out = Vec::new();
        for range in &self.ranges {
            if skip >= range.len() {
                skip -= range.len();
                continue;
            }
            let take = (range.len() - skip).min(size - out.len() as u64);
            out.extend((skip..skip + take).map(|at| range.at(at)));
            skip = 0;
            if out.len() as u64 == size {
                break;
            }
        }
        out
    }

    /// These frames without `others`; `None` if nothing is left.
    pub fn without(&self, others: &Self) -> Option<Self> {
        Self::from_frames(self.iter().filter(|frame| !others.contains(*frame))).ok()
    }

    fn normalised(mut ranges: Vec<FrameRange>) -> Result<Self, BadFrames> {
        ranges.sort_unstable();
        let apart = ranges.windows(2).all(|pair| pair[0].last < pair[1].first);
        let set = if apart {
            Self { ranges }
        } else if let Some(ranges) = untangled(&ranges) {
            Self { ranges }
        } else {
            Self::sorted(&ranges)?
        };
        match set.len() {
            0 => Err(BadFrames::Empty),
            len if len > FRAMES_MAX => Err(BadFrames::TooMany(len)),
            _ => Ok(set),
        }
    }

    /// Ranges of different steps that lie among one another, frame by frame.
    fn sorted(ranges: &[FrameRange]) -> Result<Self, BadFrames> {
        if ranges.iter().map(FrameRange::len).sum::<u64>() > TANGLED_MAX {
            return Err(BadFrames::Tangled);
        }
        let all = ranges.iter().flat_map(|range| (0..range.len()).map(|at| range.at(at)));
        let sorted = Self::from_frames(all)?;
        if sorted.ranges.len() > ranges.len() + PIECES_MAX {
            return Err(BadFrames::Tangled);
        }
        Ok(sorted)
    }
}

impl FrameRange {
    fn new(first: i32, last: i32, step: u32) -> Result<Self, BadFrames> {
        if step == 0 {
            return Err(BadFrames::ZeroStep);
        }
        if last < first {
            return Err(BadFrames::Backwards(first, last));
        }
        let span = last.abs_diff(first);
        let step = if span == 0 { 1 } else { step };
        let last = (i64::from(first) + i64::from(span / step * step)) as i32;
        Ok(Self { first, last, step: if last == first { 1 } else { step } })
    }

    fn len(&self) -> u64 {
        u64::from(self.last.abs_diff(self.first) / self.step) + 1
    }

    fn at(&self, position: u64) -> i32 {
        (i64::from(self.first) + position as i64 * i64::from(self.step)) as i32
    }

    fn contains(&self, frame: i32) -> bool {
        (self.first..=self.last).contains(&frame)
            && frame.abs_diff(self.first).is_multiple_of(self.step)
    }

    /// Whether all frames of the other are among its own.
    fn covers(&self, other: &Self) -> bool {
        let aligned = other.first == other.last || other.step.is_multiple_of(self.step);
        aligned && self.contains(other.first) && self.contains(other.last)
    }

    /// Those of its frames that come before one.
    fn before(&self, frame: i32) -> Option<Self> {
        (self.first < frame).then(|| Self::new(self.first, frame - 1, self.step).ok()).flatten()
    }

    /// Those of its frames that come after one, which is none before its first.
    fn after(&self, frame: i32) -> Option<Self> {
        let passed = frame.abs_diff(self.first) / self.step + 1;
        let first = (frame < self.last).then(|| self.at(u64::from(passed)))?;
        Self::new(first, self.last, self.step).ok()
    }
}

/// The same frames in ranges that follow one another, hardly more than there were; `None` where
/// two of different steps lie among one another.
fn untangled(ranges: &[FrameRange]) -> Option<Vec<FrameRange>> {
    let mut ahead: BinaryHeap<_> = ranges.iter().copied().map(Reverse).collect();
    let mut apart: Vec<FrameRange> = Vec::with_capacity(ranges.len());
    while let Some(Reverse(next)) = ahead.pop() {
        let Some(last) = apart.pop_if(|last| last.last >= next.first) else {
            apart.push(next);
            continue;
        };
        if last.covers(&next) {
            apart.push(last);
        } else if next.covers(&last) {
            apart.push(next);
        } else if last.step == next.step && last.contains(next.first) {
            apart.push(FrameRange { last: last.last.max(next.last), ..last });
        } else if next.step == 1 {
            apart.extend(last.before(next.first));
            apart.push(next);
            ahead.extend(last.after(next.last).map(Reverse));
        } else if last.step == 1 {
            apart.push(last);
            ahead.extend(next.after(last.last).map(Reverse));
        } else {
            return None;
        }
    }
    Some(apart)
}

/// Ascending frames as runs of equal distance.
fn runs(frames: &[i32]) -> Vec<FrameRange> {
    let mut ranges: Vec<FrameRange> = Vec::new();
    for &frame in frames {
        match ranges.last_mut() {
            Some(run) if run.first == run.last && frame.abs_diff(run.last) == 1 => run.last = frame,
            Some(run) if run.first != run.last && frame.abs_diff(run.last) == run.step => {
                run.last = frame;
            }
            _ => ranges.push(FrameRange { first: frame, last: frame, step: 1 }),
        }
    }
    ranges
}

impl fmt::Display for FrameSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.ranges.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            match range {
                FrameRange { first, last, .. } if first == last => write!(f, "{first}")?,
                FrameRange { first, last, step: 1 } => write!(f, "{first}-{last}")?,
                FrameRange { first, last, step } => write!(f, "{first}-{last}x{step}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for FrameSet {
    type Err = BadFrames;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut ranges = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            ranges.push(parse_range(part).ok_or_else(|| BadFrames::Syntax(part.into()))??);
        }
        if ranges.is_empty() {
            return Err(BadFrames::Empty);
        }
        Self::normalised(ranges)
    }
}

/// `None` if the part has another form; the inner error if its numbers make no range.
fn parse_range(part: &str) -> Option<Result<FrameRange, BadFrames>> {
    let (span, step) = match part.split_once('x') {
        Some((span, step)) => (span.trim(), step.trim().parse().ok()?),
        None => (part, 1),
    };
    if let Ok(frame) = span.parse() {
        return Some(FrameRange::new(frame, frame, step));
    }
    // The first character may be the sign of the first frame, not the dash between two.
    let dash = span.char_indices().skip(1).find(|(_, c)| *c == '-')?.0;
    let first = span[..dash].trim().parse().ok()?;
    let last = span[dash + 1..].trim().parse().ok()?;
    Some(FrameRange::new(first, last, step))
}

/// Checks what the wire says, so that a decoded set keeps every promise of a parsed one.
impl<'de> Deserialize<'de> for FrameSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ranges = Vec::<FrameRange>::deserialize(deserializer)?
            .into_iter()
            .map(|range| FrameRange::new(range.first, range.last, range.step))
            .collect::<Result<_, _>>()
            .map_err(serde::de::Error::custom)?;
        Self::normalised(ranges).map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for FrameSet {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        <Vec<FrameRange> as utoipa::PartialSchema>::schema()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for FrameSet {
    fn schemas(schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>) {
        schemas.push((
            FrameRange::name().into_owned(),
            <FrameRange as utoipa::PartialSchema>::schema(),
        ));
        FrameRange::schemas(schemas);
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrames {
    #[error("`{0}` is not a frame or a range: write 47, 1-30, 1-100x4, or several with commas")]
    Syntax(String),
    #[error("no frames are named: write 47, 1-30, or several with commas")]
    Empty,
    #[error("the range {0}-{1} runs backwards: write the smaller frame first")]
    Backwards(i32, i32),
    #[error("a range cannot advance by 0 frames: write 1-100x2 for every second")]
    ZeroStep,
    #[error(
        "these ranges lie among one another in too many pieces: write them one after the other, or \
         submit several jobs"
    )]
    Tangled,
    #[error("{0} frames are too many for one job (at most {FRAMES_MAX}): submit several jobs")]
    TooMany(u64),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(text: &str) -> Vec<i32> {
        text.parse::<FrameSet>().unwrap().iter().collect()
    }

    #[test]
    fn people_write_frames_in_many_ways() {
        assert_eq!(frames("47"), [47]);
        assert_eq!(frames("1-4"), [1, 2, 3, 4]);
        assert_eq!(frames(" 3, 5-7 "), [3, 5, 6, 7]);
        assert_eq!(frames("1-10x4"), [1, 5, 9]);
        assert_eq!(frames("-3--1"), [-3, -2, -1]);
        assert_eq!(frames("-1-1"), [-1, 0, 1]);
        assert_eq!(frames("5-7, 1-6"), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(frames("1-9x2, 2"), [1, 2, 3, 5, 7, 9]);
    }

    #[test]
    fn a_mistake_is_named() {
        let error = |text: &str| text.parse::<FrameSet>().unwrap_err().to_string();
        insta::assert_snapshot!(
            ["", "1-", "a", "9-1", "1-9x0", "1-2000000000", "1-9000x2, 2-9000x3"].map(error).join("\n"),
            @r"
        no frames are named: write 47, 1-30, or several with commas
        `1-` is not a frame or a range: write 47, 1-30, 1-100x4, or several with commas
        `a` is not a frame or a range: write 47, 1-30, 1-100x4, or several with commas
        the range 9-1 runs backwards: write the smaller frame first
        a range cannot advance by 0 frames: write 1-100x2 for every second
        2000000000 frames are too many for one job (at most 10000000): submit several jobs
        these ranges lie among one another in too many pieces: write them one after the other, or submit several jobs
        "
        );
    }

    #[test]
    fn ranges_that_overlap_stay_few() {
        let ranges = |text: &str| text.parse::<FrameSet>().unwrap().to_string();
        assert_eq!(ranges("1-9000000, 500-9500000"), "1-9500000");
        assert_eq!(ranges("1-1000x10, 1-1000"), "1-1000");
        assert_eq!(ranges("1-9000001x2, 6"), "1-5x2, 6, 7-9000001x2");
        assert_eq!(ranges("1-9000001x10, 500-600"), "1-491x10, 500-600, 601-9000001x10");
        assert_eq!(ranges("1-100, 50-9000000x50"), "1-100, 150-9000000x50");
        assert_eq!(ranges("1-11x5, 6-21x5"), "1-21x5");
        assert!("1-9000000x3, 2-900000x7".parse::<FrameSet>().is_err());
    }

    proptest! {
        #[test]
        fn ranges_that_overlap_have_each_frame_once(
            ranges in proptest::collection::vec((-20i32..20, 0i32..40, 1u32..5), 1..6),
        ) {
            let ranges: Vec<FrameRange> = ranges
                .into_iter()
                .map(|(first, len, step)| FrameRange::new(first, first + len, step).unwrap())
                .collect();
            let mut frames: Vec<i32> =
                ranges.iter().flat_map(|range| (0..range.len()).map(|at| range.at(at))).collect();
            frames.sort_unstable();
            frames.dedup();
            let set = FrameSet::normalised(ranges).unwrap();
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), frames);
        }

        #[test]
        fn any_frames_survive_text_and_wire(
            mut list in proptest::collection::vec(-50i32..50, 1..40),
        ) {
            let set = FrameSet::from_frames(list.clone()).unwrap();
            list.sort_unstable();
            list.dedup();
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), list.clone());
            prop_assert_eq!(&set.to_string().parse::<FrameSet>().unwrap(), &set);
            let wire = postcard::to_stdvec(&set).unwrap();
            prop_assert_eq!(&postcard::from_bytes::<FrameSet>(&wire).unwrap(), &set);
            prop_assert_eq!(set.len(), list.len() as u64);
            for (at, frame) in list.iter().enumerate() {
                prop_assert_eq!(set.nth(at as u64), Some(*frame));
                prop_assert!(set.contains(*frame));
            }
            for size in 1..5u64 {
                let chunks = set.len().div_ceil(size);
                let joined: Vec<i32> =
                    (0..chunks).flat_map(|chunk| set.slice(chunk * size, size)).collect();
                prop_assert_eq!(joined, list.clone());
            }
        }
    }
}
