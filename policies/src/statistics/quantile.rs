//! A quantile with an interval that holds at all times: how slow, for showing.
//!
//! Which ranks the quantile can have follows from the beta-binomial mixture; values only have to be
//! looked up at two ranks. From a sketch they are rounded outwards to the edges of buckets (a factor
//! of at most `gamma`, 2 %), so that coverage is never lost.
//!
//! It takes values to be independent, which latencies of one arm are not quite: so this is shown,
//! and [`slowdown`](super::slowdown) decides. It is also 2 to 5 times slower to say something.
//!
//! Source: Howard, Ramdas, "Sequential estimation of quantiles with applications to A/B testing and
//! best-arm identification", Bernoulli 28(3), 2022.

use super::mixture::{beta_binomial, concentration};
use super::special::bisect;
use super::{Interval, threshold};
use crate::sketch::{self, Sketch};

/// The number of values at which an interval is tightest, unless told otherwise.
pub const T_OPT: f64 = 10_000.0;

/// Between which ranks a quantile lies. Real, between whole ranks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranks {
    /// The root below `n*p`; `None` if even the smallest value is no bound yet.
    pub low: Option<f64>,
    /// The root above; `None` if even the largest value is no bound yet.
    pub high: Option<f64>,
}

impl Ranks {
    /// The rank (from 1) of the value that is the lower bound: `floor(k_lo) + 1`.
    pub fn lower(&self) -> Option<u64> {
        self.low.map(|low| whole(low.floor()).saturating_add(1))
    }

    /// The rank (from 1) of the value that is the upper bound: `ceil(k_hi)`.
    pub fn upper(&self) -> Option<u64> {
        self.high.map(|high| whole(high.ceil()).max(1))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank: whole, 0 to n"
)]
fn whole(rank: f64) -> u64 {
    rank as u64
}

/// The ranks among `n` values between which the `p`-quantile lies, at all times at once with chance
/// `1 - alpha`.
///
/// `k_lo` and `k_hi` are the roots of `log_mix(k, n, p, c) = ln(1/alpha)` below and above `n*p`. No
/// ranks without values, and for a `p` that is not strictly between 0 and 1.
pub fn ranks(n: u64, p: f64, alpha: f64, t_opt: f64) -> Ranks {
    let l = threshold(alpha);
    if n == 0 || !(p > 0.0 && p < 1.0) || l.is_infinite() {
        return Ranks { low: None, high: None };
    }
    let c = concentration(t_opt, alpha);
    let n = n as f64;
    let possible = |k: f64| beta_binomial(k, n, p, c) < l;
    Ranks { low: bisect(n * p, 0.0, 0.0, possible), high: bisect(n * p, n, 0.0, possible) }
}

/// The interval of the `p`-quantile of `sorted`, ascending. Infinite on a side without bound.
pub fn interval_of_values(sorted: &[f64], p: f64, alpha: f64, t_opt: f64) -> Interval {
    let ranks = ranks(sorted.len() as u64, p, alpha, t_opt);
    let at = |rank: u64| sorted.get(usize::try_from(rank.checked_sub(1)?).ok()?).copied();
    Interval {
        lower: ranks.lower().and_then(at).unwrap_or(f64::NEG_INFINITY),
        upper: ranks.upper().and_then(at).unwrap_or(f64::INFINITY),
    }
}

/// The interval of the `p`-quantile of a sketch, in seconds, rounded outwards.
///
/// 0 and infinity on a side without bound; infinity also if the bound lies in the sketch's last
/// bucket, which holds everything longer than its edge.
pub fn interval_of_sketch(sketch: &Sketch, p: f64, alpha: f64, t_opt: f64) -> Interval {
    let ranks = ranks(sketch.total(), p, alpha, t_opt);
    let upper_edge = |bucket: usize| {
        if bucket + 1 < sketch::BUCKETS { sketch::edge(bucket) } else { f64::INFINITY }
    };
    let bucket = |rank: Option<u64>| rank.and_then(|rank| sketch.rank_bucket(rank));
    Interval {
        lower: bucket(ranks.lower()).map_or(0.0, sketch::lower_edge),
        upper: bucket(ranks.upper()).map_or(f64::INFINITY, upper_edge),
    }
}

/// The difference in seconds and the ratio of two quantiles, `T` to `C`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// `T` less `C`.
    pub difference: Interval,
    /// `T` over `C`.
    pub ratio: Interval,
}

/// The `p`-quantiles of two sketches compared, with chance `1 - alpha` at all times: each arm gets
/// half of `alpha`.
pub fn compare(treated: &Sketch, control: &Sketch, p: f64, alpha: f64, t_opt: f64) -> Comparison {
    let t = interval_of_sketch(treated, p, alpha / 2.0, t_opt);
    let c = interval_of_sketch(control, p, alpha / 2.0, t_opt);
    // An end without bound leaves none; inf/inf and 0/0 are nothing known either.
    let or = |value: f64, unknown: f64| if value.is_nan() { unknown } else { value };
    Comparison {
        difference: Interval {
            lower: or(t.lower - c.upper, f64::NEG_INFINITY),
            upper: or(t.upper - c.lower, f64::INFINITY),
        },
        ratio: Interval {
            lower: or(t.lower / c.upper, 0.0),
            upper: or(t.upper / c.lower, f64::INFINITY),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn sketch_of(values: &[f64]) -> Sketch {
        let mut sketch = Sketch::new();
        values.iter().for_each(|value| sketch.add(*value));
        sketch
    }

    #[test]
    fn few_values_bound_nothing() {
        let nothing = Ranks { low: None, high: None };
        assert_eq!(ranks(0, 0.5, 0.05, T_OPT), nothing);
        assert_eq!(ranks(1, 0.5, 0.05, T_OPT), nothing);
        for p in [0.0, 1.0, f64::NAN] {
            assert_eq!(ranks(1000, p, 0.05, T_OPT), nothing);
        }
        let all = Interval { lower: 0.0, upper: f64::INFINITY };
        assert_eq!(interval_of_sketch(&Sketch::new(), 0.5, 0.05, T_OPT), all);
        let none = compare(&Sketch::new(), &Sketch::new(), 0.5, 0.05, T_OPT);
        assert_eq!(none.ratio, all);
        assert_eq!(none.difference.lower, f64::NEG_INFINITY);
    }

    #[test]
    fn what_is_longer_than_the_sketch_can_hold_has_no_upper_bound() {
        let interval = interval_of_sketch(&sketch_of(&[1e6; 1000]), 0.5, 0.05, 1000.0);
        assert_eq!(interval.upper, f64::INFINITY);
        assert!(interval.lower > 3000.0);
    }

    #[test]
    fn twice_as_slow_is_shown() {
        let fast: Vec<f64> = (1..=20_000).map(|n| f64::from(n) / 1e4).collect();
        let slow: Vec<f64> = fast.iter().map(|value| 2.0 * value).collect();
        let shown = compare(&sketch_of(&slow), &sketch_of(&fast), 0.5, 0.05, T_OPT);
        assert!(shown.ratio.lower > 1.7 && shown.ratio.lower < 2.0, "{shown:?}");
        assert!(shown.ratio.upper < 2.3 && shown.difference.lower > 0.7);
    }

    proptest! {
        /// Law 8: the interval from the sketch contains the one from raw values.
        #[test]
        fn a_sketch_loses_no_coverage(
            mut values in vec(1e-3..3000.0_f64, 1..600), p in 0.01..0.99_f64, alpha in 0.001..0.2_f64
        ) {
            let sketch = interval_of_sketch(&sketch_of(&values), p, alpha, 300.0);
            values.sort_by(f64::total_cmp);
            let raw = interval_of_values(&values, p, alpha, 300.0);
            prop_assert!(sketch.lower <= raw.lower.max(0.0) && raw.upper <= sketch.upper);
            prop_assert!(sketch.lower == 0.0 || sketch.lower * sketch::GAMMA * (1.0 + 1e-12) >= raw.lower);
        }

        #[test]
        fn ranks_lie_around_the_quantile(n in 1..3_000_000_u64, p in 0.001..0.999_f64) {
            let ranks = ranks(n, p, 0.05, T_OPT);
            let centre = n as f64 * p;
            prop_assert!(ranks.low.is_none_or(|low| 0.0 <= low && low <= centre));
            prop_assert!(ranks.high.is_none_or(|high| centre <= high && high <= n as f64));
            prop_assert!(ranks.lower().is_none_or(|rank| (1..=n).contains(&rank)));
            prop_assert!(ranks.upper().is_none_or(|rank| (1..=n).contains(&rank)));
        }
    }
}
