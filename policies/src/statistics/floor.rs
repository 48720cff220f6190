//! Are the events of one variant many at all?
//!
//! A ratio alone would roll back 4 failures in a million against 0. These one-sample tests, with
//! `k` events in `n` exposures and the grid of [`attribution`](super::attribution), say whether the
//! rate itself is above a floor, or below a ceiling:
//!
//! ```text
//! log_e_above(p0) = lse_j( lw'_j + k*ln(p_j/p0) + (n-k)*ln((1-p_j)/(1-p0)) ),  p_j = p0*exp(u_j)
//! log_e_below(p1) = the same with p_j = p1*exp(-u_j)
//! ```
//!
//! Only alternatives with `p_j < 1` take part, and weights are normalised over those.
//!
//! In sticky mode `k` counts affected units and `n` is the number of sampled units of `T` over the
//! sampling rate, so `n` is real.

use super::attribution::{GRID, GRID_POINTS};
use super::special::log_sum_exp;

/// The logarithm of the e-value against "the rate is at most `p0`".
///
/// `p0` is a fraction strictly between 0 and 1, else the answer is 0; `n` below `k` counts as `k`.
pub fn log_e_above(events: u64, n: f64, p0: f64) -> f64 {
    log_e(events, n, p0, 1.0, &GRID_POINTS.up)
}

/// The logarithm of the e-value against "the rate is at least `p1`". Arguments as for
/// [`log_e_above`].
pub fn log_e_below(events: u64, n: f64, p1: f64) -> f64 {
    log_e(events, n, p1, -1.0, &GRID_POINTS.down)
}

/// `growth` of each alternative: `p_j/p - 1`.
fn log_e(events: u64, n: f64, p: f64, sign: f64, growth: &[f64; GRID]) -> f64 {
    if !(p > 0.0 && p < 1.0) || n.is_nan() {
        return 0.0;
    }
    let k = events as f64;
    let others = (n - k).max(0.0);
    // Those below 1 come first: the grid ascends. ln((1-p_j)/(1-p)) as one logarithm.
    let odds = p / (1.0 - p);
    let count = growth.iter().take_while(|growth| *growth * odds < 1.0).count();
    let weights = &GRID_POINTS.log_weights[..count];
    let mut terms = [f64::NEG_INFINITY; GRID];
    for (j, term) in terms[..count].iter_mut().enumerate() {
        let yes = sign * k * GRID_POINTS.steps[j];
        *term = weights[j] + yes + others * (-odds * growth[j]).ln_1p();
    }
    if count == 0 {
        return 0.0;
    }
    // All of them together weigh 1.
    let weight = if count == GRID { 0.0 } else { log_sum_exp(weights) };
    log_sum_exp(&terms[..count]) - weight
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::statistics::special::ln_gamma;
    use crate::statistics::threshold;

    fn expectation(n: u32, truth: f64, log_e: impl Fn(u64) -> f64) -> f64 {
        let of = |k: u32| {
            let (whole, k, n) = (u64::from(k), f64::from(k), f64::from(n));
            let ways = ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0);
            (ways + k * truth.ln() + (n - k) * (-truth).ln_1p() + log_e(whole)).exp()
        };
        (0..=n).map(of).sum()
    }

    /// Law 1.
    #[test]
    fn the_expectation_is_one_under_the_hypothesis_and_less_within_it() {
        for n in [1, 2, 7, 40, 100] {
            for p in [0.002, 0.02, 0.3, 0.9] {
                let above = |truth| expectation(n, truth, |k| log_e_above(k, f64::from(n), p));
                let below = |truth| expectation(n, truth, |k| log_e_below(k, f64::from(n), p));
                assert!((above(p) - 1.0).abs() < 1e-9, "{n} {p} {}", above(p));
                assert!((below(p) - 1.0).abs() < 1e-9, "{n} {p} {}", below(p));
                assert!(above(0.8 * p) <= 1.0 + 1e-9);
                assert!(below(1.1 * p) <= 1.0 + 1e-9);
            }
        }
    }

    #[test]
    fn four_failures_in_a_million_are_few_and_four_in_four_are_many() {
        assert!(log_e_above(4, 1e6, 0.002) < 0.0);
        assert!(log_e_above(4, 4.0, 0.002) > threshold(0.01));
        assert!(log_e_below(0, 2_000.0, 0.01) > threshold(0.025));
    }

    #[test]
    fn what_is_no_rate_shows_nothing() {
        for p in [0.0, 1.0, -1.0, 2.0, f64::NAN] {
            assert_eq!(log_e_above(3, 10.0, p), 0.0);
            assert_eq!(log_e_below(3, 10.0, p), 0.0);
        }
        assert_eq!(log_e_above(3, f64::NAN, 0.1), 0.0);
        // So near 1 that no alternative is left above.
        assert_eq!(log_e_above(3, 3.0, 1.0 - 1e-9), 0.0);
        assert!(log_e_above(5, 3.0, 0.1).is_finite());
    }

    proptest! {
        #[test]
        fn more_events_among_as_many_speak_for_a_higher_rate(
            k in 0..200_u64, n in 1.0..1000.0_f64, p in 0.001..0.999_f64
        ) {
            let n = n + k as f64;
            prop_assert!(log_e_above(k + 1, n + 1.0, p) >= log_e_above(k, n + 1.0, p) - 1e-9);
            prop_assert!(log_e_below(k + 1, n + 1.0, p) <= log_e_below(k, n + 1.0, p) + 1e-9);
        }
    }
}
