//! Do units arrive in the shares that were dealt?
//!
//! If not, records are lost, a variant dies before it is counted, a replica deals by an old
//! allocation, or feedback comes back from one side only; every other number is then suspect. A
//! mismatch holds a ramp; it does not say whose fault it is.
//!
//! Anytime-valid and exact; ramps do not trouble it, because each epoch has its own shares.
//!
//! Sources: Lindon, Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022;
//! what mismatches mean: Fabijan et al., "Diagnosing sample ratio mismatch in online controlled
//! experiments", KDD 2019.

use super::mixture::{self, Cell};
use super::special::{chi_square_tail, e_value};
use super::threshold;

/// How closely the alternatives hug the dealt shares: finds the large losses of routing faults up
/// to twice as soon as 10 000, and small ones at most a fifth later.
pub const CONCENTRATION: f64 = 1000.0;

/// Chance of one false mismatch in an experiment's life.
pub const ALPHA: f64 = 0.001;

/// So many exposures of a variant must have been expected before their absence is a fault.
pub const EXPECTED_BEFORE_NO_TRAFFIC: f64 = 20.0;

/// What arrived while the shares did not change.
#[derive(Clone, Copy, Debug)]
pub struct Epoch<'a> {
    /// Units counted, one number for each compared variant; a unit counts once, in the epoch of its
    /// first eligible exposure.
    pub counts: &'a [u64],
    /// The shares they were dealt with, in any unit: they are normalised here.
    pub shares: &'a [f64],
}

/// The logarithm of the e-value against "units arrive as they were dealt".
///
/// [`mixture::log_e`] of each epoch, added up. Infinite if units arrived where none were dealt. An
/// epoch without units, or whose shares are no shares, adds nothing.
pub fn log_e(epochs: &[Epoch<'_>], concentration: f64) -> f64 {
    epochs.iter().map(|epoch| log_e_of(epoch, concentration)).sum()
}

fn log_e_of(epoch: &Epoch<'_>, concentration: f64) -> f64 {
    let pairs = || epoch.counts.iter().zip(epoch.shares);
    let sum: f64 = pairs().map(|(_, share)| share).sum();
    if !(sum > 0.0 && sum.is_finite()) || pairs().any(|(_, share)| *share < 0.0) {
        return 0.0;
    }
    if pairs().any(|(count, share)| *share == 0.0 && *count > 0) {
        return f64::INFINITY;
    }
    let cells: Vec<Cell> = pairs()
        .filter(|(_, share)| **share > 0.0)
        .map(|(count, share)| Cell { count: *count as f64, share: share / sum })
        .collect();
    mixture::log_e(&cells, concentration)
}

/// The chance, had units arrived as dealt, of ever seeing evidence like this: `min(1, exp(-log_e))`.
pub fn p_value(log_e: f64) -> f64 {
    (1.0 / e_value(log_e)).min(1.0)
}

/// The chi-square test of one epoch, for comparison with other tools: valid for a single look at a
/// size fixed beforehand, so never for judging.
pub fn fixed_size_p_value(epoch: &Epoch<'_>) -> f64 {
    let pairs = || epoch.counts.iter().zip(epoch.shares).filter(|(_, share)| **share > 0.0);
    let shares: f64 = pairs().map(|(_, share)| share).sum();
    let total: f64 = pairs().map(|(count, _)| *count as f64).sum();
    let term = |(count, share): (&u64, &f64)| {
        let expected = total * share / shares;
        (*count as f64 - expected).powi(2) / expected
    };
    let cells = pairs().count() as u64;
    if total > 0.0 {
        chi_square_tail(pairs().map(term).sum(), cells.saturating_sub(1))
    } else {
        1.0
    }
}

/// What has been seen at any look so far; kept by the caller between looks.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Reached {
    /// The largest `log_e` of all looks; at least 0.
    pub log_e: f64,
}

impl Default for Reached {
    /// Before the first look.
    fn default() -> Self {
        Self { log_e: 0.0 }
    }
}

impl Reached {
    /// With one more look.
    #[must_use]
    pub fn with(self, log_e: f64) -> Self {
        // Kept finite, so that JSON can carry it.
        Self { log_e: self.log_e.max(log_e).min(f64::MAX) }
    }

    /// The smallest p-value so far: what is shown.
    pub fn p_value(self) -> f64 {
        p_value(self.log_e)
    }

    /// Whether there is a mismatch, at an error of at most `alpha` ([`ALPHA`]) for all looks.
    pub fn mismatch(self, alpha: f64) -> bool {
        self.log_e >= threshold(alpha)
    }
}

/// Whether `T` gets nothing although much was dealt to it: a fault in routing, and reason enough to
/// roll back.
///
/// For each epoch: the share of `T` (a fraction) and the eligible exposures of the experiment.
pub fn no_traffic(treated_exposures: u64, epochs: &[(f64, u64)]) -> bool {
    let expected: f64 = epochs.iter().map(|(share, eligible)| share * *eligible as f64).sum();
    treated_exposures == 0 && expected >= EXPECTED_BEFORE_NO_TRAFFIC
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(counts: &[u64], shares: &[f64]) -> f64 {
        log_e(&[Epoch { counts, shares }], CONCENTRATION)
    }

    #[test]
    fn a_loss_is_found_and_a_fair_deal_is_not() {
        assert!(one(&[500, 9_500], &[5.0, 95.0]) < 0.0);
        // Half of the canary's units are lost.
        let reached = Reached::default().with(one(&[50, 1_750], &[5.0, 95.0]));
        assert!(!reached.mismatch(ALPHA));
        let reached = reached.with(one(&[100, 3_700], &[5.0, 95.0]));
        assert!(reached.mismatch(ALPHA) && reached.p_value() <= 0.001);
        // What was shown once stays shown.
        assert_eq!(reached.with(-1.0), reached);
    }

    #[test]
    fn shares_may_be_written_in_any_unit() {
        assert!((one(&[40, 60], &[0.5, 0.5]) - one(&[40, 60], &[5000.0, 5000.0])).abs() < 1e-12);
    }

    #[test]
    fn units_where_none_were_dealt_are_a_mismatch_at_once() {
        assert_eq!(one(&[1, 99], &[0.0, 1.0]), f64::INFINITY);
        let reached = Reached::default().with(f64::INFINITY);
        assert!(reached.mismatch(ALPHA));
        let text = serde_json::to_string(&reached).unwrap();
        assert_eq!(serde_json::from_str::<Reached>(&text).unwrap(), reached);
        assert_eq!(one(&[0, 99], &[0.0, 1.0]), 0.0);
    }

    #[test]
    fn what_cannot_be_judged_shows_nothing() {
        assert_eq!(one(&[], &[]), 0.0);
        assert_eq!(one(&[0, 0], &[0.5, 0.5]), 0.0);
        assert_eq!(one(&[5, 0], &[0.0, 0.0]), 0.0);
        assert_eq!(one(&[5, 0], &[f64::NAN, 0.5]), 0.0);
        assert_eq!(Reached::default().with(f64::NAN), Reached::default());
        assert_eq!(p_value(-3.0), 1.0);
    }

    #[test]
    fn a_variant_without_any_traffic_is_a_fault_once_twenty_were_due() {
        assert!(!no_traffic(0, &[(0.01, 1_900)]));
        assert!(no_traffic(0, &[(0.01, 1_900), (0.05, 20)]));
        assert!(!no_traffic(1, &[(0.5, 1_000_000)]));
    }
}
