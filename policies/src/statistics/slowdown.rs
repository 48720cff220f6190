//! Is `T` slower? The test that decides, made of counts at the edges of sketches.
//!
//! ```text
//! at the start of each epoch freeze, per quantile q:  i_C = bucket of C's q-quantile so far
//! shift(tol) = round( ln(1+tol)/ln(gamma) )
//! x = #{ T's requests in this epoch above gamma^(i_C + shift) },   y = #{ C's above gamma^(i_C) }
//! Breached when log_e_harm(1) over all epochs reaches L_b;  Held when log_e_safe(1), with
//! shift(margin), reaches ln(1/alpha_h)
//! ```
//!
//! "`T`, with a slowdown of `tol` forgiven, passes the mark no more often than `C` does." Counts at
//! edges are exact, so the sketch adds no error; load that slows both sides alike does not matter;
//! no variance is needed. The mark is frozen, so that it could have been written down before, and
//! `T` is compared with `C` *now*, not with `C` then.
//!
//! Requests are taken to be dealt one by one. With a sticky unit the same marks, as 0 and 1, go
//! through [`mean`](super::mean) with its grouped variance: Breached when the lower bound is above
//! 0.

use super::attribution::Epoch;
use crate::sketch::{self, Sketch};

/// A quantile that is judged, and how much slowdown is forgiven.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// Which quantile, as a fraction.
    pub quantile: f64,
    /// The slowdown that is forgiven, as a fraction: 0.15 forgives 15 %.
    pub tolerance: f64,
    /// So many requests of `C` must have been seen before a mark is frozen.
    pub least_control: u64,
}

/// The median, forgiving 15 %.
pub const P50: Judged = Judged { quantile: 0.50, tolerance: 0.15, least_control: 1000 };
/// The 95 % quantile, forgiving 15 %.
pub const P95: Judged = Judged { quantile: 0.95, tolerance: 0.15, least_control: 1000 };
/// The 99 % quantile, forgiving 25 %.
pub const P99: Judged = Judged { quantile: 0.99, tolerance: 0.25, least_control: 5000 };

/// A slowdown as a number of buckets: `round(ln(1 + tolerance) / ln(gamma))`.
///
/// 0 for what is no slowdown.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to BUCKETS")]
pub fn shift(tolerance: f64) -> usize {
    let buckets = (tolerance.ln_1p() / sketch::GAMMA.ln()).round();
    // NaN becomes 0 here.
    buckets.clamp(0.0, sketch::BUCKETS as f64) as usize
}

/// Above which edge a request of `C` counts as slow, for one epoch and one quantile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// The dense bucket of the sketch whose upper edge is the mark.
    pub bucket: usize,
}

impl Mark {
    /// Freezes the mark at the start of an epoch, from all of `C` so far; the first time at the end
    /// of warm-up.
    ///
    /// `None` while `C` has too few requests, or if the quantile lies in the sketch's last bucket:
    /// nothing can be above that.
    pub fn freeze(control_so_far: &Sketch, judged: &Judged) -> Option<Self> {
        if control_so_far.total() < judged.least_control {
            return None;
        }
        Self::at_quantile(control_so_far, judged.quantile)
    }

    /// The mark at a quantile, of however few requests: the least bucket at whose edge
    /// `ceil(q*n)` are counted.
    pub fn at_quantile(control_so_far: &Sketch, quantile: f64) -> Option<Self> {
        let edge = control_so_far.quantile(quantile)?;
        let bucket = sketch::bucket_of(edge);
        (bucket + 1 < sketch::BUCKETS).then_some(Self { bucket })
    }

    /// The mark at a declared objective, which needs no requests of `C`. Rounded up to an edge.
    pub fn at_objective(seconds: f64) -> Self {
        Self { bucket: sketch::bucket_of(seconds) }
    }

    /// The mark of `T`: higher by the slowdown that is forgiven.
    #[must_use]
    pub fn shifted(self, tolerance: f64) -> Self {
        let bucket = self.bucket.saturating_add(shift(tolerance)).min(sketch::BUCKETS - 1);
        Self { bucket }
    }

    /// The mark in seconds.
    pub fn seconds(self) -> f64 {
        sketch::edge(self.bucket)
    }
}

/// One side's requests of one epoch.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Those that are over.
    pub finished: &'a Sketch,
    /// Those still running that have already passed the side's mark: waiting for their end would
    /// hide exactly the slow ones.
    pub running_above: u64,
}

impl Side<'_> {
    /// How many passed the mark.
    fn above(&self, mark: Mark) -> u64 {
        let finished = self.finished.total();
        let above = finished - self.finished.count_at_or_below(mark.bucket).min(finished);
        above.saturating_add(self.running_above)
    }
}

/// What the epoch says about slowness, for [`attribution`](super::attribution) to judge.
///
/// * `pi`: the share of `T` among `T` and `C`.
/// * `mark`: frozen at the start of the epoch.
/// * `forgiven`: the tolerance for a breach, the step's margin for holding; a fraction.
pub fn slow_events(
    treated: Side<'_>,
    control: Side<'_>,
    pi: f64,
    mark: Mark,
    forgiven: f64,
) -> Epoch {
    Epoch { pi, treated: treated.above(mark.shifted(forgiven)), control: control.above(mark) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::attribution::log_e_harm;

    fn sketch(parts: &[(f64, u64)]) -> Sketch {
        let mut sketch = Sketch::new();
        for (seconds, count) in parts {
            sketch.add_count(sketch::bucket_of(*seconds), *count);
        }
        sketch
    }

    fn over(finished: &Sketch) -> Side<'_> {
        Side { finished, running_above: 0 }
    }

    #[test]
    fn the_shifts_are_those_of_the_defaults() {
        assert_eq!([P50, P95, P99].map(|judged| shift(judged.tolerance)), [7, 7, 11]);
        assert_eq!([0.0, -0.5, -2.0, f64::NAN].map(shift), [0, 0, 0, 0]);
        assert_eq!(shift(f64::INFINITY), sketch::BUCKETS);
    }

    #[test]
    fn a_mark_waits_for_enough_of_control() {
        let few = sketch(&[(0.1, 999)]);
        assert_eq!(Mark::freeze(&few, &P95), None);
        let enough = sketch(&[(0.1, 940), (0.5, 60)]);
        let mark = Mark::freeze(&enough, &P95).unwrap();
        assert_eq!(mark.bucket, sketch::bucket_of(0.5));
        assert_eq!(Mark::freeze(&enough, &P50).unwrap().bucket, sketch::bucket_of(0.1));
        assert_eq!(Mark::freeze(&enough, &P99), None);
        assert_eq!(Mark::freeze(&sketch(&[(1e9, 9000)]), &P50), None, "nothing is above the last");
        assert!(Mark::at_objective(0.2).seconds() >= 0.2);
    }

    #[test]
    fn what_is_forgiven_is_not_counted_and_what_still_runs_is() {
        let control = sketch(&[(0.1, 900), (1.0, 100)]);
        let mark = Mark::at_quantile(&control, 0.5).unwrap();
        // 12 % slower: below the shifted mark, but above the plain one.
        let treated = sketch(&[(0.112, 90), (1.0, 10)]);
        let count = |forgiven| slow_events(over(&treated), over(&control), 0.1, mark, forgiven);
        assert_eq!(count(0.15), Epoch { pi: 0.1, treated: 10, control: 100 });
        assert_eq!(count(0.0), Epoch { pi: 0.1, treated: 100, control: 100 });
        let waiting = Side { finished: &treated, running_above: 7 };
        assert_eq!(slow_events(waiting, over(&control), 0.1, mark, 0.15).treated, 17);
        assert!(log_e_harm(&[count(0.15)], 1.0) < 0.0 && log_e_harm(&[count(0.0)], 1.0) > 10.0);
    }

    #[test]
    fn a_mark_never_leaves_the_sketch() {
        let top = Mark { bucket: sketch::BUCKETS - 2 }.shifted(1e9);
        let treated = sketch(&[(1e9, 5)]);
        assert_eq!(slow_events(over(&treated), over(&treated), 0.5, top, 0.0).treated, 0);
    }
}
