//! How many instances a device runs at once, found by measuring.
//!
//! The search climbs: while more instances bring more frames a minute it adds some, and it settles
//! on the smallest number that none of its neighbours beats by more than the noise. A step that
//! brings nearly all it could is followed by a doubling, any other by one more. What was measured
//! is forgotten when the settled rate drifts by a quarter: the scene has changed, or the host has.
//!
//! Rates are compared per device, not per job: a frame counts for the time that frames of its scene
//! take ([`Tuner::frame`]), so that jobs with long and short frames can share a device.

use std::collections::BTreeMap;
use std::fmt::Write;

use grange_protocol::BlobHash;

/// A gain must be at least this large to be worth an instance's memory.
const GAIN_MIN: f64 = 0.02;
/// Spread of frame times that is assumed before it is known, as a share of their mean, and for how
/// many frames that assumption counts.
const SPREAD_ASSUMED: f64 = 0.04;
const SPREAD_ASSUMED_FRAMES: f64 = 2.0;
/// A gain is in doubt while it is within so many standard errors of what would be worth it.
const DOUBT: f64 = 1.5;
/// Frames of a level are at most so many times those that it needs; then doubt is settled by
/// taking fewer instances.
const PATIENCE: u32 = 3;
/// A step whose gain is this share of the best possible one is followed by a doubling.
const NEARLY_ALL: f64 = 0.8;
/// A settled rate that moves by this share begins a new search.
const DRIFT: f64 = 0.25;
/// A frame counts for a level if so many instances rendered beside it on average, give or take.
const BESIDE_TOLERANCE: f64 = 0.25;
/// A number of instances that ran out of memory is not tried again for so many frames.
const FRAMES_AFTER_RUNNING_OUT: u64 = 200;

/// The search for one device and what renders on it.
#[derive(Clone, Debug)]
pub(crate) struct Tuner {
    /// Instances to run now.
    count: u16,
    /// Never more than this.
    max: u16,
    /// Somebody chose the number: nothing is searched.
    chosen: bool,
    levels: BTreeMap<u16, Level>,
    phase: Phase,
    /// One frame of each scene: how long its first one took, in milliseconds.
    weights: BTreeMap<BlobHash, f64>,
    /// So many instances were too many for the memory; and the frame until which that counts.
    ran_out: Option<(u16, u64)>,
    frames: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Searching,
    /// At this rate per instance; the deviation since is a running mean.
    Settled {
        rate: f64,
        now: f64,
        frames: u32,
    },
}

/// What was measured with so many instances. Durations are in units of the scene's weight.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    frames: u32,
    sum: f64,
    squares: f64,
}

/// What stands in the way of more instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// There is memory and work for one more.
    Free,
    /// Not now; it may change any time.
    NoMemory,
    /// What is left to do is not worth starting one.
    NoWork,
}

impl Level {
    fn mean(&self) -> f64 {
        self.sum / f64::from(self.frames.max(1))
    }

    fn deviations(&self) -> f64 {
        (self.squares - self.sum * self.sum / f64::from(self.frames.max(1))).max(0.0)
    }
}

impl Tuner {
    /// Begins with `count` instances.
    pub(crate) fn new(count: u16, max: u16) -> Self {
        Self {
            count: count.clamp(1, max.max(1)),
            max: max.max(1),
            chosen: false,
            levels: BTreeMap::new(),
            phase: Phase::Searching,
            weights: BTreeMap::new(),
            ran_out: None,
            frames: 0,
        }
    }

    /// A number that somebody chose: nothing is searched.
    pub(crate) fn fixed(count: u16) -> Self {
        let phase = Phase::Settled { rate: 0.0, now: 0.0, frames: 0 };
        Self { phase, chosen: true, ..Self::new(count, count) }
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// A frame of a scene took `millis`; `beside` instances rendered meanwhile, on average, it
    /// included. `room` is asked how many instances could run, if that matters. Says what was
    /// decided, if anything was.
    pub(crate) fn frame(
        &mut self,
        scene: BlobHash,
        millis: f64,
        beside: f64,
        room: impl Fn(u16) -> Room,
    ) -> Option<String> {
        self.frames += 1;
        if self.chosen {
            return self.back_to_what_was_chosen();
        }
        if (beside - f64::from(self.count)).abs() > BESIDE_TOLERANCE || self.max == 1 {
            return None;
        }
        let weight = *self.weights.entry(scene).or_insert(millis.max(1.0));
        let duration = millis.max(1.0) / weight;
        if let Phase::Settled { rate, now, frames } = &mut self.phase {
            *frames += 1;
            *now += (1.0 / duration - *now) / f64::from((*frames).min(8));
            let drifted =
                *frames >= 4 * u32::from(self.count) && (*now / *rate - 1.0).abs() > DRIFT;
            if drifted && *rate > 0.0 {
                let percent = (*now / *rate - 1.0) * 100.0;
                self.levels.clear();
                self.weights.clear();
                self.phase = Phase::Searching;
                return Some(format!(
                    "{} now render at a rate {percent:+.0} % off what it was: looking again",
                    instances(self.count)
                ));
            }
            if let Some(told) = self.back_to_the_best(&room) {
                return Some(told);
            }
            // What was not possible when it settled may be now.
            return self.wants_to_grow(&room).then(|| self.go_on(&room)).flatten();
        }
        let level = self.levels.entry(self.count).or_default();
        level.frames += 1;
        level.sum += duration;
        level.squares += duration * duration;
        self.go_on(&room)
    }

    /// So many instances were more than the memory holds.
    pub(crate) fn ran_out(&mut self, count: u16) -> Option<String> {
        let too_many = count.max(2);
        self.ran_out = Some((too_many, self.frames + FRAMES_AFTER_RUNNING_OUT));
        if self.count < too_many || self.max == 1 {
            return None;
        }
        self.count = too_many - 1;
        self.settle();
        Some(format!(
            "{} ran out of memory: {} for the next {FRAMES_AFTER_RUNNING_OUT} frames",
            instances(too_many),
            instances(self.count)
        ))
    }

    /// More than so many do not fit beside what others use.
    pub(crate) fn no_more_than(&mut self, count: u16) -> Option<String> {
        let count = count.max(1);
        if self.count <= count || self.chosen {
            return None;
        }
        let wanted = self.count;
        self.count = count;
        self.settle();
        Some(format!("there is memory for {} instead of {wanted}", instances(count)))
    }

    /// Running out of memory does not count for ever.
    fn back_to_what_was_chosen(&mut self) -> Option<String> {
        if self.count == self.max || !self.may_try(self.max) {
            return None;
        }
        self.count = self.max;
        Some(format!("{} again, as was chosen", instances(self.count)))
    }

    /// Takes the next step of the search, if enough is known for it.
    fn go_on(&mut self, room: &impl Fn(u16) -> Room) -> Option<String> {
        let level = self.levels.get(&self.count).copied().unwrap_or_default();
        if level.frames < needed(self.count) {
            return None;
        }
        let in_doubt = self.is_in_doubt() && level.frames < PATIENCE * needed(self.count);
        if in_doubt {
            return None;
        }
        let best = self.best();
        let next = self.next_to_measure(best, room);
        if next == Some(self.count) {
            return None;
        }
        let figures = self.figures();
        let before = std::mem::replace(&mut self.count, next.unwrap_or(best));
        match next {
            Some(next) => {
                self.phase = Phase::Searching;
                Some(format!("{figures}: trying {next}"))
            }
            None => {
                let was_settled = self.phase != Phase::Searching;
                self.settle();
                (before != best || !was_settled).then(|| format!("{figures}: staying with {best}"))
            }
        }
    }

    /// It had to make do with fewer than are best, and there is room again.
    fn back_to_the_best(&mut self, room: &impl Fn(u16) -> Room) -> Option<String> {
        let best = self.best();
        let fits = |count: &u16| self.may_try(*count) && room(*count) == Room::Free;
        let more = (self.count + 1..=best).rev().find(fits)?;
        self.count = more;
        self.settle();
        Some(format!("there is memory for {} again", instances(more)))
    }

    fn settle(&mut self) {
        let rate = self.levels.get(&self.count).map_or(0.0, |level| 1.0 / level.mean());
        self.phase = Phase::Settled { rate, now: rate, frames: 0 };
    }

    /// Whether one more is worth a look that was out of the question when the search settled.
    fn wants_to_grow(&self, room: &impl Fn(u16) -> Room) -> bool {
        !self.levels.is_empty()
            && self.best() == self.count
            && self.next_to_measure(self.count, room).is_some()
    }

    /// The number that must be measured before the best one is known to be the best.
    fn next_to_measure(&self, best: u16, room: &impl Fn(u16) -> Room) -> Option<u16> {
        let above = self.levels.range(best + 1..).next().map(|(count, _)| *count);
        if let Some(above) = above {
            if above > best + 1 {
                return Some((best + above) / 2);
            }
        } else {
            let next = self.step_up(best);
            if next > best && self.may_try(next) {
                match room(next) {
                    Room::Free => return Some(next),
                    // A doubling may be too much where one more is not.
                    Room::NoMemory | Room::NoWork if next > best + 1 => {
                        if self.may_try(best + 1) && room(best + 1) == Room::Free {
                            return Some(best + 1);
                        }
                    }
                    Room::NoMemory | Room::NoWork => {}
                }
            }
        }
        let below = best.saturating_sub(1);
        (below > 0 && self.levels.range(..best).next().is_none()).then_some(below)
    }

    fn step_up(&self, best: u16) -> u16 {
        let below = self.levels.range(..best).next_back().map(|(count, _)| *count);
        let doubling = below.is_some_and(|below| {
            let most = f64::from(best) / f64::from(below) - 1.0;
            self.gain(below, best) >= NEARLY_ALL * most
        });
        let next = if doubling { best * 2 } else { best + 1 };
        next.min(self.max)
    }

    fn may_try(&self, count: u16) -> bool {
        let too_many = self.ran_out.is_some_and(|(at, until)| count >= at && self.frames < until);
        count <= self.max && !too_many
    }

    /// The smallest measured number that no other beats by more than the noise.
    fn best(&self) -> u16 {
        let counts = || self.levels.keys().copied();
        let fastest = counts().max_by(|a, b| self.rate(*a).total_cmp(&self.rate(*b)));
        let Some(fastest) = fastest else { return self.count };
        counts()
            .find(|count| self.gain(*count, fastest) <= self.margin(*count, fastest))
            .unwrap_or(fastest)
    }

    /// Whether the level under way is neither clearly better nor clearly worse than the best of
    /// the others.
    fn is_in_doubt(&self) -> bool {
        let others = self.levels.keys().copied().filter(|count| *count != self.count);
        let Some(other) = others.max_by(|a, b| self.rate(*a).total_cmp(&self.rate(*b))) else {
            return false;
        };
        let (gain, noise) = (self.gain(other, self.count), self.noise(other, self.count));
        (gain - GAIN_MIN).abs() < DOUBT * noise
    }

    fn rate(&self, count: u16) -> f64 {
        self.levels.get(&count).map_or(0.0, |level| f64::from(count) / level.mean())
    }

    /// What the second number brings over the first, as a share.
    fn gain(&self, from: u16, to: u16) -> f64 {
        self.rate(to) / self.rate(from) - 1.0
    }

    fn margin(&self, from: u16, to: u16) -> f64 {
        if from == to { 0.0 } else { GAIN_MIN }
    }

    /// The standard error of a gain.
    fn noise(&self, from: u16, to: u16) -> f64 {
        let frames = |count: u16| f64::from(self.levels.get(&count).map_or(1, |l| l.frames.max(1)));
        self.spread() * (1.0 / frames(from) + 1.0 / frames(to)).sqrt()
    }

    /// How much frame times of one level differ, as a share of their mean.
    fn spread(&self) -> f64 {
        let (mut variance, mut weight) =
            (SPREAD_ASSUMED * SPREAD_ASSUMED * SPREAD_ASSUMED_FRAMES, SPREAD_ASSUMED_FRAMES);
        for level in self.levels.values().filter(|level| level.frames > 1) {
            variance += level.deviations() / level.mean().powi(2);
            weight += f64::from(level.frames - 1);
        }
        (variance / weight).sqrt()
    }

    /// `1 instance: 22.3 frames/min, 2: 41.0 (+84 %)`.
    fn figures(&self) -> String {
        let weight = self.weights.values().sum::<f64>() / self.weights.len().max(1) as f64;
        let per_minute = |count| self.rate(count) * 60_000.0 / weight.max(1.0);
        let mut text = String::new();
        let mut before: Option<u16> = None;
        for count in self.levels.keys().copied() {
            let rate = per_minute(count);
            // Writing to a string cannot fail.
            let _ = match before {
                None => write!(text, "{}: {rate:.1} frames/min", instances(count)),
                Some(before) => {
                    write!(
                        text,
                        ", {count}: {rate:.1} ({:+.0} %)",
                        self.gain(before, count) * 100.0
                    )
                }
            };
            before = Some(count);
        }
        text
    }
}

/// Frames that a level needs before it is judged.
fn needed(count: u16) -> u32 {
    u32::from(count).max(2)
}

fn instances(count: u16) -> String {
    if count == 1 { "1 instance".into() } else { format!("{count} instances") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Frame time with `n` instances: a part of it needs the device alone, each more costs a
    /// little on top.
    fn millis(n: u16, share: f64, cost: f64) -> f64 {
        let n = f64::from(n);
        1000.0 * ((n * share).max(1.0 - share + share * 0.5 * (n - 1.0) + share) + cost * (n - 1.0))
    }

    fn rate(n: u16, share: f64, cost: f64) -> f64 {
        f64::from(n) / millis(n, share, cost)
    }

    fn scene() -> BlobHash {
        BlobHash::of(b"scene")
    }

    /// Frames until it settles, and the numbers that it tried.
    fn search(
        tuner: &mut Tuner,
        share: f64,
        cost: f64,
        noise: &mut impl FnMut() -> f64,
    ) -> Vec<u16> {
        let mut tried = vec![tuner.count()];
        for _ in 0..300 {
            let time = millis(tuner.count(), share, cost) * noise();
            tuner.frame(scene(), time, f64::from(tuner.count()), |_| Room::Free);
            if tried.last() != Some(&tuner.count()) {
                tried.push(tuner.count());
            }
        }
        tried
    }

    fn best(share: f64, cost: f64, max: u16) -> u16 {
        (1..=max).max_by(|a, b| rate(*a, share, cost).total_cmp(&rate(*b, share, cost))).unwrap()
    }

    #[test]
    fn it_climbs_and_says_why() {
        let mut tuner = Tuner::new(1, 8);
        let mut told = Vec::new();
        for _ in 0..20 {
            let time = millis(tuner.count(), 0.4, 0.02);
            let count = tuner.count();
            told.extend(tuner.frame(scene(), time, f64::from(count), |_| Room::Free));
        }
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn what_has_no_memory_is_not_tried_and_is_tried_when_there_is_some() {
        let mut tuner = Tuner::new(1, 8);
        let full = |count: u16| if count > 1 { Room::NoMemory } else { Room::Free };
        for _ in 0..10 {
            tuner.frame(scene(), 1000.0, 1.0, full);
        }
        assert_eq!(tuner.count(), 1);
        tuner.frame(scene(), 1000.0, 1.0, |_| Room::Free);
        assert_eq!(tuner.count(), 2);
    }

    #[test]
    fn too_many_for_the_memory_is_one_less_and_not_tried_again_soon() {
        let mut tuner = Tuner::new(1, 8);
        tuner.frame(scene(), 1000.0, 1.0, |_| Room::Free);
        tuner.frame(scene(), 1000.0, 1.0, |_| Room::Free);
        assert_eq!(tuner.count(), 2);
        let told = tuner.ran_out(2);
        assert_eq!(
            told.unwrap(),
            "2 instances ran out of memory: 1 instance for the next 200 frames"
        );
        for _ in 0..190 {
            tuner.frame(scene(), 1000.0, 1.0, |_| Room::Free);
            assert_eq!(tuner.count(), 1);
        }
        for _ in 0..20 {
            tuner.frame(scene(), 1000.0, 1.0, |_| Room::Free);
        }
        assert_eq!(tuner.count(), 2);
    }

    #[test]
    fn when_memory_is_taken_it_gives_way_and_comes_back() {
        let mut tuner = Tuner::new(1, 8);
        search(&mut tuner, 0.3, 0.02, &mut || 1.0);
        let best = tuner.count();
        assert!(best > 2);
        assert_eq!(
            tuner.no_more_than(1).unwrap(),
            format!("there is memory for 1 instance instead of {best}")
        );
        let two = |count: u16| if count > 2 { Room::NoMemory } else { Room::Free };
        tuner.frame(scene(), millis(1, 0.3, 0.02), 1.0, two);
        assert_eq!(tuner.count(), 2);
        search(&mut tuner, 0.3, 0.02, &mut || 1.0);
        assert_eq!(tuner.count(), best);
    }

    #[test]
    fn a_scene_that_changes_is_searched_anew() {
        let mut tuner = Tuner::new(1, 8);
        search(&mut tuner, 0.9, 0.05, &mut || 1.0);
        let narrow = tuner.count();
        let tried = search(&mut tuner, 0.2, 0.01, &mut || 0.5);
        assert!(tuner.count() > narrow, "{narrow} then {tried:?}");
    }

    #[test]
    fn frames_with_fewer_or_more_beside_do_not_count() {
        let mut tuner = Tuner::new(1, 8);
        for _ in 0..10 {
            assert_eq!(tuner.frame(scene(), 1000.0, 1.6, |_| Room::Free), None);
        }
        assert_eq!(tuner.count(), 1);
    }

    #[test]
    fn a_chosen_number_stays() {
        let mut tuner = Tuner::fixed(3);
        let tried = search(&mut tuner, 0.1, 0.0, &mut || 1.0);
        assert_eq!(tried, [3]);
        assert_eq!(tuner.no_more_than(1), None);
    }

    proptest! {
        /// Whatever the device is like, with frames that differ by up to a tenth, it comes within
        /// a few percent of the best and stays there.
        #[test]
        fn it_converges_without_oscillation(
            share in 0.05f64..1.0,
            cost in 0.0f64..0.1,
            max in 1u16..10,
            seed in any::<u32>(),
        ) {
            let mut state = seed;
            let mut noise = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                1.0 + (f64::from(state >> 8) / f64::from(1u32 << 24) - 0.5) * 0.1
            };
            let mut tuner = Tuner::new(1, max);
            let tried = search(&mut tuner, share, cost, &mut noise);
            let found = rate(tuner.count(), share, cost);
            let most = rate(best(share, cost, max), share, cost);
            prop_assert!(found >= 0.92 * most, "{} of {} with {tried:?}", found, most);
            let falls = tried.windows(2).filter(|pair| pair[1] < pair[0]).count();
            prop_assert!(falls <= 3, "{tried:?}");
        }
    }
}
