//! A rate with an interval that holds at all times: for showing, for fairness, for agreement.
//!
//! The beta-binomial confidence sequence: every rate that the mixture of `mixture` does not refute.
//!
//! ```text
//! CS = { p : log_mix(k, n, p, c) < ln(1/alpha) },   c = max( t_opt/(2 L + ln(1 + 2 L)) - 1, 0.001 )
//! ```
//!
//! Source: Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence
//! sequences", Annals of Statistics 49(2), 2021.

use super::mixture::{beta_binomial, concentration};
use super::special::bisect;
use super::{Interval, threshold};

/// The number of trials at which an interval is tightest, unless told otherwise.
pub const T_OPT: f64 = 1000.0;

/// The nearest to 0 and to 1 that a bound is sought.
const EDGE: f64 = 1e-14;

/// The rates that `successes` of `trials` are compatible with, at all times at once with chance
/// `1 - alpha`.
///
/// Fractions; 0 to 1 without trials. `successes` above `trials` count as `trials`.
pub fn interval(successes: u64, trials: u64, alpha: f64, t_opt: f64) -> Interval {
    let l = threshold(alpha);
    if trials == 0 || l.is_infinite() {
        return Interval { lower: 0.0, upper: 1.0 };
    }
    let (k, n) = (successes.min(trials) as f64, trials as f64);
    let c = concentration(t_opt, alpha);
    let possible = |p: f64| beta_binomial(k, n, p, c) < l;
    // The rate itself is possible, unless it is 0 or 1, where the mixture has no value; and those
    // have no bound on their side. A bound beyond the edge is none either.
    let middle = (k / n).clamp(EDGE, 1.0 - EDGE);
    let lower = if k == 0.0 { None } else { bisect(middle, EDGE, 0.0, possible) };
    let upper = if k == n { None } else { bisect(middle, 1.0 - EDGE, 0.0, possible) };
    Interval { lower: lower.unwrap_or(0.0), upper: upper.unwrap_or(1.0) }
}

/// Successes among trials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many had it.
    pub successes: u64,
    /// Among how many.
    pub trials: u64,
}

/// The rate of `T` less the rate of `C`, with chance `1 - alpha` at all times: each arm gets half
/// of `alpha`.
pub fn difference(treated: Count, control: Count, alpha: f64, t_opt: f64) -> Interval {
    let of = |count: Count| interval(count.successes, count.trials, alpha / 2.0, t_opt);
    let (treated, control) = (of(treated), of(control));
    Interval { lower: treated.lower - control.upper, upper: treated.upper - control.lower }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_seen_is_everything_possible() {
        let all = Interval { lower: 0.0, upper: 1.0 };
        assert_eq!(interval(0, 0, 0.05, T_OPT), all);
        assert_eq!(interval(5, 10, 0.0, T_OPT), all);
        assert_eq!(interval(5, 10, f64::NAN, T_OPT), all);
        let none = Count::default();
        assert_eq!(difference(none, none, 0.05, T_OPT), Interval { lower: -1.0, upper: 1.0 });
    }

    #[test]
    fn none_and_all_have_one_bound() {
        let none = interval(0, 1_000_000, 0.05, T_OPT);
        assert!(none.lower == 0.0 && none.upper > 0.0 && none.upper < 1e-4, "{none:?}");
        let all = interval(1_000_000, 1_000_000, 0.05, T_OPT);
        assert!(all.upper == 1.0 && all.lower < 1.0 && all.lower > 1.0 - 1e-4, "{all:?}");
        assert_eq!(interval(20, 10, 0.05, T_OPT), interval(10, 10, 0.05, T_OPT));
    }

    #[test]
    fn a_difference_is_shown_once_it_is_there() {
        let of = |successes, trials| Count { successes, trials };
        let shown = difference(of(300, 10_000), of(1_000, 100_000), 0.05, 10_000.0);
        assert!(shown.lower > 0.0 && shown.upper < 0.05, "{shown:?}");
    }

    proptest! {
        #[test]
        fn the_rate_lies_inside_and_more_alpha_is_tighter(
            k in 0..5_000_u64, others in 0..100_000_u64, alpha in 1e-6..0.2_f64
        ) {
            let n = k + others + 1;
            let wide = interval(k, n, alpha, T_OPT);
            let rate = k as f64 / n as f64;
            prop_assert!(0.0 <= wide.lower && wide.lower <= rate);
            prop_assert!(rate <= wide.upper && wide.upper <= 1.0);
            // The mirror image has the mirrored interval.
            let mirror = interval(n - k, n, alpha, T_OPT);
            prop_assert!((mirror.lower - (1.0 - wide.upper)).abs() < 1e-9);
            prop_assert!((mirror.upper - (1.0 - wide.lower)).abs() < 1e-9);
        }
    }
}
