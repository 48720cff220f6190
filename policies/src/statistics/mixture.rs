//! Counts against the shares they were dealt in: one formula behind sample ratios, rates and
//! ranks of quantiles.
//!
//! If every event falls into cell `k` with chance `p_k`, the likelihood of the counts under a
//! Dirichlet mixture around `p`, against their likelihood under `p` itself, is an e-process:
//!
//! ```text
//! log_e = lnG(c) - lnG(c+N) + sum_k [ lnG(c*p_k + n_k) - lnG(c*p_k) - n_k*ln(p_k) ]    lnG = ln gamma
//! ```
//!
//! `c` says how closely the mixture hugs `p`: larger finds smaller differences later. With two
//! cells it is the beta-binomial mixture.
//!
//! Sources: Lindon, Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022;
//! Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence
//! sequences", Annals of Statistics 49(2), 2021.

use super::special::stirling_rest;

/// One cell: what was counted in it, and its share of what is dealt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// How many; real, because ranks are found between whole numbers.
    pub count: f64,
    /// The chance of an event to fall in here, above 0; those of all cells add up to 1.
    pub share: f64,
}

/// The logarithm of the e-value against the hypothesis that `cells` have the shares they claim.
///
/// `concentration` is `c`, above 0. Does not fail; NaN in, NaN out.
pub fn log_e(cells: &[Cell], concentration: f64) -> f64 {
    let c = concentration;
    let total: f64 = cells.iter().map(|cell| cell.count).sum();
    // By Stirling's formula lnG(a+n) - lnG(a) = (a - 1/2) ln(1 + n/a) + n ln(a+n) - n + rest. Here
    // the large parts, n ln(a+n), of cells, total and shares are taken together: what remains of
    // them is n ln of a ratio near 1, so that billions of counts cost no digits.
    let cells: f64 = cells
        .iter()
        .map(|cell| {
            let (n, p) = (cell.count, cell.share);
            let a = c * p;
            let ratio = (n - p * total) / (p * (c + total));
            let ratio = if n > 0.0 { n * ratio.ln_1p() } else { 0.0 };
            growth(a, n) + ratio
        })
        .sum();
    cells - growth(c, total)
}

/// `lnG(a+n) - lnG(a) - n ln(a+n) + n`.
fn growth(a: f64, n: f64) -> f64 {
    (a - 0.5) * (n / a).ln_1p() + stirling_rest(a + n) - stirling_rest(a)
}

/// The concentration with which an interval at `alpha` is tightest around `t_opt` observations.
///
/// `c = max(t_opt / (2 L + ln(1 + 2 L)) - 1, 0.001)` with `L = ln(1/alpha)`.
pub fn concentration(t_opt: f64, alpha: f64) -> f64 {
    let l = -alpha.ln();
    (t_opt / (2.0 * l + (2.0 * l).ln_1p()) - 1.0).max(0.001)
}

/// [`log_e`] for `k` of `n` (both real) against a rate of `p`, strictly between 0 and 1.
pub fn beta_binomial(k: f64, n: f64, p: f64, concentration: f64) -> f64 {
    let yes = Cell { count: k, share: p };
    let no = Cell { count: n - k, share: 1.0 - p };
    log_e(&[yes, no], concentration)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::special::ln_gamma;
    use super::*;

    /// The formula as it stands in the text.
    fn plainly(cells: &[Cell], c: f64) -> f64 {
        let total: f64 = cells.iter().map(|cell| cell.count).sum();
        let each = |cell: &Cell| {
            let a = c * cell.share;
            ln_gamma(a + cell.count) - ln_gamma(a) - cell.count * cell.share.ln()
        };
        ln_gamma(c) - ln_gamma(c + total) + cells.iter().map(each).sum::<f64>()
    }

    proptest! {
        #[test]
        fn taking_large_parts_together_changes_nothing(
            weights in proptest::collection::vec((0..3000_u32, 0.01..1.0_f64), 2..6),
            c in 0.1..2000.0_f64
        ) {
            let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
            let cells: Vec<Cell> = weights
                .iter()
                .map(|(count, weight)| Cell { count: f64::from(*count), share: weight / sum })
                .collect();
            let (got, expected) = (log_e(&cells, c), plainly(&cells, c));
            prop_assert!((got - expected).abs() <= 1e-9 + 1e-10 * expected.abs());
        }

        #[test]
        fn its_expectation_is_one(n in 1..60_u32, p in 0.001..0.999_f64, c in 0.01..3000.0_f64) {
            let n = f64::from(n);
            let chance = |k: f64| ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0)
                + k * p.ln() + (n - k) * (-p).ln_1p();
            let mut sum = 0.0;
            let mut k = 0.0;
            while k <= n {
                sum += (chance(k) + beta_binomial(k, n, p, c)).exp();
                k += 1.0;
            }
            prop_assert!((sum - 1.0).abs() < 1e-9, "{}", sum);
        }
    }

    /// Counts exactly in their shares speak for them by `ln(10)/2` for each power of ten; the plain
    /// formula has lost that among terms of 1e14.
    #[test]
    fn billions_of_counts_cost_no_digits() {
        let at = |n: f64| beta_binomial(n / 2.0, n, 0.5, 1000.0);
        let step = at(1e13) - at(1e12);
        assert!((step + 10_f64.ln() / 2.0).abs() < 1e-7, "{step}");
    }
}
