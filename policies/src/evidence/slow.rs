//! What is slow, and how often it was: counts above marks that were frozen beforehand.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sketch;
use crate::statistics::attribution;
use crate::statistics::mean::Arm;
use crate::statistics::moments::{GROUPS, Moments, variance_of_mean};
use crate::statistics::slowdown::{self, Judged, Mark};

/// A mark is watched with at most so many slowdowns forgiven: the tolerance and a margin for each
/// step.
pub const MOST_FORGIVEN: usize = 8;

/// In one epoch marks of one slowness are replaced at most so often.
pub const MOST_REPLACED: usize = 8;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timing {
    /// The end of the request's head to the end of the answer.
    Duration,
    /// The end of the request's head to the answer's first byte.
    FirstByte,
    /// Time for each token of the answer.
    TokenTime,
}

impl Timing {
    /// Every timing, in the order of [`Timing::index`].
    pub const ALL: [Self; 3] = [Self::Duration, Self::FirstByte, Self::TokenTime];

    /// Its place in [`Timing::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A quantile of a timing that can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slowness {
    /// Median duration.
    LatencyP50,
    /// 95 % quantile of duration.
    LatencyP95,
    /// 99 % quantile of duration.
    LatencyP99,
    /// 95 % quantile of the time to the first byte.
    FirstByteP95,
    /// Median time for each token.
    TokenTimeP50,
}

impl Slowness {
    /// All of them, in the order of [`Slowness::index`].
    pub const ALL: [Self; 5] = [
        Self::LatencyP50,
        Self::LatencyP95,
        Self::LatencyP99,
        Self::FirstByteP95,
        Self::TokenTimeP50,
    ];

    /// Its place in [`Slowness::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// What is timed.
    pub const fn timing(self) -> Timing {
        match self {
            Self::LatencyP50 | Self::LatencyP95 | Self::LatencyP99 => Timing::Duration,
            Self::FirstByteP95 => Timing::FirstByte,
            Self::TokenTimeP50 => Timing::TokenTime,
        }
    }

    /// Which quantile, with how much forgiven and after how many requests of control, by default.
    pub const fn judged(self) -> Judged {
        match self {
            Self::LatencyP50 | Self::TokenTimeP50 => slowdown::P50,
            Self::LatencyP95 | Self::FirstByteP95 => slowdown::P95,
            Self::LatencyP99 => slowdown::P99,
        }
    }
}

/// Above what a request counts as slow, in one epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Marks {
    /// Dense bucket of the sketch whose upper edge is control's mark.
    bucket: u16,
    /// By how many buckets the mark of `T` is higher; ascending, no two equal.
    shifts: Vec<u16>,
}

impl Marks {
    /// Control's mark, and the slowdowns (fractions) that shall be forgiven, as many as there is
    /// room for.
    #[expect(clippy::cast_possible_truncation, reason = "buckets and shifts are below 1000")]
    pub fn new(control: Mark, forgiven: impl IntoIterator<Item = f64>) -> Self {
        let mut shifts: Vec<u16> =
            forgiven.into_iter().map(|slowdown| slowdown::shift(slowdown) as u16).collect();
        shifts.sort_unstable();
        shifts.dedup();
        // The smallest are those that decide whether harm is shown, and the last steps' margins.
        shifts.truncate(MOST_FORGIVEN);
        Self { bucket: control.bucket.min(sketch::BUCKETS - 1) as u16, shifts }
    }

    pub(super) fn of_parts(bucket: u16, shifts: Vec<u16>) -> Option<Self> {
        let ascends = shifts.windows(2).all(|pair| pair[0] < pair[1]);
        (ascends && shifts.len() <= MOST_FORGIVEN).then_some(Self { bucket, shifts })
    }

    pub(super) fn parts(&self) -> (u16, &[u16]) {
        (self.bucket, &self.shifts)
    }

    /// Control's mark in seconds.
    pub fn seconds(&self) -> f64 {
        sketch::edge(usize::from(self.bucket))
    }

    /// Where the count of those above the mark, with so much forgiven, stands. Slowdowns that nobody
    /// asked for beforehand are taken for a neighbour, at the cost of whoever asks.
    fn forgiving(&self, slowdown: f64, whose: Neighbour) -> Option<usize> {
        let shift = slowdown::shift(slowdown);
        match whose {
            Neighbour::Larger => self.shifts.iter().position(|at| usize::from(*at) >= shift),
            Neighbour::Smaller => self.shifts.iter().rposition(|at| usize::from(*at) <= shift),
        }
    }
}

/// Which count to take where the exact one is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// More is forgiven: harm is shown later.
    Larger,
    /// Less is forgiven: safety is shown later.
    Smaller,
}

/// How many of one variant's requests were above the marks, in one epoch and since it has marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlowTally {
    /// Requests whose time was known.
    pub n: u64,
    /// Those above control's mark.
    pub above_control: u64,
    /// Those above the mark with each slowdown forgiven.
    pub above: Vec<u64>,
    /// Where units are sticky, the same by group of units: for each group `n`, `above_control` and
    /// `above`, one after the other. Else empty.
    pub(super) groups: Vec<u32>,
}

impl SlowTally {
    pub(super) const fn nothing() -> Self {
        Self { n: 0, above_control: 0, above: Vec::new(), groups: Vec::new() }
    }

    /// Counts so many requests whose time lies in this bucket of the sketch.
    pub(super) fn add(&mut self, bucket: usize, marks: &Marks, group: Option<usize>, count: u64) {
        let width = 2 + marks.shifts.len();
        self.above.resize(marks.shifts.len(), 0);
        let mark = usize::from(marks.bucket);
        let is_above = |shift: usize| bucket > (mark + shift).min(sketch::BUCKETS - 1);
        let above_control = is_above(0);
        // Shifts ascend: who is not above the mark with something forgiven is not with more, and most
        // are not above it at all.
        let forgiven =
            marks.shifts.iter().take_while(|shift| is_above(usize::from(**shift))).count();
        let step = |counted: &mut u64| *counted = counted.saturating_add(count);
        step(&mut self.n);
        if above_control {
            step(&mut self.above_control);
        }
        self.above.iter_mut().take(forgiven).for_each(step);
        let Some(group) = group else { return };
        self.groups.resize(GROUPS * width, 0);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if let Some(counts) = self.groups.get_mut(group * width..(group + 1) * width) {
            let yes = 1 + usize::from(above_control) + forgiven;
            for counted in counts.iter_mut().take(yes) {
                *counted = counted.saturating_add(count);
            }
        }
    }

    /// Adds what was counted above the same marks.
    pub(super) fn merge(&mut self, other: &Self) {
        self.n = self.n.saturating_add(other.n);
        self.above_control = self.above_control.saturating_add(other.above_control);
        self.above.resize(self.above.len().max(other.above.len()), 0);
        for (mine, theirs) in self.above.iter_mut().zip(&other.above) {
            *mine = mine.saturating_add(*theirs);
        }
        self.groups.resize(self.groups.len().max(other.groups.len()), 0);
        for (mine, theirs) in self.groups.iter_mut().zip(&other.groups) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// Above control's own mark or not, with the spread over groups; `None` below 50 of them.
    pub(crate) fn above_mark(&self) -> Option<Arm> {
        self.arm(None)
    }

    /// The count (`None`: above control's own mark) as 0 and 1 of sticky units, on its way to a
    /// mean.
    fn arm(&self, at: Option<usize>) -> Option<Arm> {
        let events = match at {
            None => self.above_control,
            Some(at) => *self.above.get(at)?,
        };
        let (n, x) = (self.n as f64, events as f64);
        let moments =
            Moments { n: self.n, mean: x / n, m2: (x - x * x / n).max(0.0), nonzero: events };
        let column = at.map_or(1, |at| at + 2);
        let groups = self.groups.chunks(2 + self.above.len());
        let groups = groups
            .map(|group| (f64::from(group[0]), group.get(column).copied().map_or(0.0, f64::from)));
        let grouped = Some(variance_of_mean(groups)?);
        Some(Arm { grouped, ..Arm::of_requests(&moments)? })
    }
}

/// The slow requests of `T` and `C` in one epoch, for the test of who they belong to. `None` where
/// no count fits.
pub(super) fn events(
    marks: &Marks,
    (treated, control): (&SlowTally, &SlowTally),
    pi: f64,
    forgiven: f64,
    whose: Neighbour,
) -> Option<attribution::Epoch> {
    let at = marks.forgiving(forgiven, whose)?;
    let treated = treated.above.get(at).copied().unwrap_or(0);
    Some(attribution::Epoch { pi, treated, control: control.above_control })
}

/// Spreads over groups, kept from look to look: some microseconds each, and those of epochs that are
/// over do not change. For one pair of variants.
#[derive(Clone, Debug, Default)]
pub struct SlowMemo {
    known: BTreeMap<Known, (Counts, Option<Arms>)>,
}

/// Revision, slowness, and the mark with what is forgiven, in buckets.
type Known = (u64, Slowness, u16, u16);

/// One of `T` and one of `C`.
type Arms = (Arm, Arm);

/// What changes if anything was counted: of `T` all and slow ones, of `C` all and slow ones.
type Counts = [u64; 4];

/// More than all epochs with all that is forgiven: beyond it everything is worked out anew.
const MOST_KNOWN: usize = 4_096;

impl SlowMemo {
    /// The same as [`events`], as two arms of a comparison of means, for sticky units.
    pub(super) fn arms(
        &mut self,
        (revision, slowness): (u64, Slowness),
        marks: &Marks,
        (treated, control): (&SlowTally, &SlowTally),
        forgiven: f64,
        whose: Neighbour,
    ) -> Option<(Arm, Arm)> {
        let at = marks.forgiving(forgiven, whose)?;
        let slow = treated.above.get(at).copied().unwrap_or(0);
        let counts = [treated.n, slow, control.n, control.above_control];
        let key = (revision, slowness, marks.bucket, *marks.shifts.get(at)?);
        if let Some((then, arms)) = self.known.get(&key)
            && *then == counts
        {
            return *arms;
        }
        let arms = treated.arm(Some(at)).and_then(|of_t| Some((of_t, control.arm(None)?)));
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        self.known.insert(key, (counts, arms));
        arms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> Marks {
        Marks::new(Mark { bucket: 400 }, [0.15, 1.0, 0.15, 0.5])
    }

    #[test]
    fn what_is_forgiven_is_counted_beside_what_is_not() {
        let marks = marks();
        assert_eq!(marks.shifts, [7, 20, 35]);
        let mut treated = SlowTally::default();
        let mut control = SlowTally::default();
        for bucket in [400, 401, 407, 408, 421, 436] {
            treated.add(bucket, &marks, None, 1);
            control.add(bucket, &marks, None, 1);
        }
        assert_eq!((treated.n, treated.above_control, &treated.above[..]), (6, 5, &[3, 2, 1][..]));
        let both = (&treated, &control);
        let at = |forgiven, whose| {
            events(&marks, both, 0.5, forgiven, whose).map(|epoch| (epoch.treated, epoch.control))
        };
        assert_eq!(at(0.15, Neighbour::Larger), Some((3, 5)));
        // 0.25 was not asked for: harm is judged by 0.5, safety by 0.15.
        assert_eq!(at(0.25, Neighbour::Larger), Some((2, 5)));
        assert_eq!(at(0.25, Neighbour::Smaller), Some((3, 5)));
        assert_eq!(at(3.0, Neighbour::Larger), None);
        assert_eq!(at(0.01, Neighbour::Smaller), None);
    }

    #[test]
    fn groups_tell_many_units_from_one_busy_one() {
        let marks = marks();
        let (mut spread, mut busy) = (SlowTally::default(), SlowTally::default());
        for request in 0..2_000_usize {
            let bucket = if request.is_multiple_of(4) { 450 } else { 300 };
            // A prime step, so that what is slow meets all groups.
            spread.add(bucket, &marks, Some(request * 7 % 199), 1);
            let group = if bucket == 450 { 3 } else { request % 199 };
            busy.add(bucket, &marks, Some(group), 1);
        }
        let (even, uneven) = (spread.arm(None).unwrap(), busy.arm(None).unwrap());
        assert!((even.mean - 0.25).abs() < 1e-9 && (uneven.mean - 0.25).abs() < 1e-9);
        assert!(uneven.grouped.unwrap() > 20.0 * even.grouped.unwrap());
    }
}
