//! Whose are the failures? The test that decides about everything that happens or does not.
//!
//! The gateway throws the dice, so it knows with which chance an eligible request went to `T`.
//! Given that a request failed, the chance that it was one of `T`'s is known too, if `T` is no
//! worse than `C`. That stays true when load, error rate or clients change from minute to minute,
//! because such changes hit both sides. So this compares *who the events belong to*, never a rate
//! with a fixed line.
//!
//! ```text
//! ell(rho)       = sum over epochs [ x*ln(rho) - (x+y)*ln(pi*rho + 1 - pi) ]
//! log_e_harm(r)  = lse_j( lw_j + ell(r*exp( u_j)) ) - ell(r)        against "ratio <= r"
//! log_e_safe(r)  = lse_j( lw_j + ell(r*exp(-u_j)) ) - ell(r)        against "ratio >= r"
//! ```
//!
//! with `x` events of `T`, `y` of `C`, `pi` the share of `T` among both, and a fixed grid of 128
//! alternatives up to 64 times worse (or better), `lw_j = -u_j - lse(-u)`: "the chance of a k-fold
//! increase is 1/k".
//!
//! Sources: Lindon, Sanden, Shirikian, "Rapid regression detection in software deployments through
//! sequential testing", KDD 2022; Ham, Bojinov, Lindon, Tingley, "Design-based confidence
//! sequences", arXiv 2210.08639.

use std::sync::LazyLock;

use super::special::{bisect, log_sum_exp};
use super::{Interval, threshold};

/// How many alternatives are mixed.
pub const GRID: usize = 128;

/// Alternatives go up to so many times worse, or better.
pub const GRID_SPAN: f64 = 64.0;

/// Ratios are sought from one over this up to this.
const RATIO_RANGE: f64 = 1e6;

/// Events while the shares did not change.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Epoch {
    /// The chance that an eligible request of `T` or `C` went to `T`: `share_T/(share_T + share_C)`.
    /// Outside of 0 to 1 exclusive there was nothing to compare, and the epoch says nothing.
    pub pi: f64,
    /// Events of `T`.
    pub treated: u64,
    /// Events of `C`.
    pub control: u64,
}

/// Which hypothesis the evidence is against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Against {
    /// "`T` has the event at most this many times as often as `C`, at every moment": evidence
    /// against it is evidence of harm.
    AtMost(f64),
    /// "`T` has the event at least this many times as often": evidence against it is evidence of
    /// safety.
    AtLeast(f64),
}

/// The alternatives, as logarithms of how many times the ratio of the hypothesis they are.
pub(crate) struct Grid {
    /// `u_j`, ascending.
    pub(crate) steps: [f64; GRID],
    /// `lw_j`: the logarithm of each one's weight.
    pub(crate) log_weights: [f64; GRID],
    /// `exp(u_j) - 1`.
    pub(crate) up: [f64; GRID],
    /// `exp(-u_j) - 1`.
    pub(crate) down: [f64; GRID],
}

/// The one grid, worked out once.
pub(crate) static GRID_POINTS: LazyLock<Grid> = LazyLock::new(|| {
    let width = GRID_SPAN.ln() / GRID as f64;
    let steps = std::array::from_fn(|j| (j as f64 + 0.5) * width);
    let all = log_sum_exp(&steps.map(|u: f64| -u));
    Grid {
        steps,
        log_weights: steps.map(|u| -u - all),
        up: steps.map(f64::exp_m1),
        down: steps.map(|u| (-u).exp_m1()),
    }
});

impl Against {
    fn ratio(self) -> f64 {
        match self {
            Self::AtMost(ratio) | Self::AtLeast(ratio) => ratio,
        }
    }

    fn is_ratio(self) -> bool {
        self.ratio() > 0.0 && self.ratio().is_finite()
    }

    /// For each alternative `rho`: `ln(pi*rho + 1 - pi)` less the same of the hypothesis.
    fn row(self, pi: f64) -> [f64; GRID] {
        let grid = &*GRID_POINTS;
        let (ratio, growth) = match self {
            Self::AtMost(ratio) => (ratio, &grid.up),
            Self::AtLeast(ratio) => (ratio, &grid.down),
        };
        let treated = pi * ratio;
        // The difference of two logarithms as one, which keeps its digits when `pi` is near 0 or 1
        // and when counts are large.
        let part = treated / (treated + (1.0 - pi));
        growth.map(|growth| (part * growth).ln_1p())
    }

    /// From the sums over epochs to the answer.
    fn mix(self, treated: f64, sums: &[f64; GRID]) -> f64 {
        let grid = &*GRID_POINTS;
        let sign = match self {
            Self::AtMost(_) => 1.0,
            Self::AtLeast(_) => -1.0,
        };
        let terms: [f64; GRID] =
            std::array::from_fn(|j| grid.log_weights[j] + sign * treated * grid.steps[j] - sums[j]);
        log_sum_exp(&terms)
    }
}

impl Epoch {
    fn is_comparison(&self) -> bool {
        self.pi > 0.0 && self.pi < 1.0
    }

    fn events(&self) -> f64 {
        self.treated as f64 + self.control as f64
    }
}

/// The logarithm of the e-value against a hypothesis about the ratio of `T`'s event rate to `C`'s.
///
/// 0 without events, and for a ratio that is not above 0 and finite. Takes about 1 µs an epoch;
/// [`Table`] is for those who ask again and again.
pub fn log_e(epochs: &[Epoch], against: Against) -> f64 {
    if !against.is_ratio() {
        return 0.0;
    }
    let (mut treated, mut sums) = (0.0, [0.0; GRID]);
    for epoch in epochs.iter().filter(|epoch| epoch.is_comparison() && epoch.events() > 0.0) {
        treated += epoch.treated as f64;
        add(&mut sums, &against.row(epoch.pi), epoch.events());
    }
    against.mix(treated, &sums)
}

fn add(sums: &mut [f64; GRID], row: &[f64; GRID], events: f64) {
    for (sum, row) in sums.iter_mut().zip(row) {
        *sum += events * row;
    }
}

/// [`log_e`] against "the ratio is at most `rho0`": large if `T` does harm.
pub fn log_e_harm(epochs: &[Epoch], rho0: f64) -> f64 {
    log_e(epochs, Against::AtMost(rho0))
}

/// [`log_e`] against "the ratio is at least `rho1`": large if `T` is safe.
pub fn log_e_safe(epochs: &[Epoch], rho1: f64) -> f64 {
    log_e(epochs, Against::AtLeast(rho1))
}

/// The logarithms that one hypothesis needs, kept from look to look: 1 KiB an epoch.
///
/// They depend on the epochs' shares alone. So all guardrails that share a hypothesis and a pair of
/// variants may share a table, and a control task that looks every second works out a logarithm
/// only when a new epoch begins.
#[derive(Clone, Debug)]
pub struct Table {
    against: Against,
    /// By epoch, in the order in which they were given.
    rows: Vec<(f64, [f64; GRID])>,
}

impl Table {
    /// For one hypothesis, about no epochs yet.
    pub fn new(against: Against) -> Self {
        Self { against, rows: Vec::new() }
    }

    /// The hypothesis.
    pub fn against(&self) -> Against {
        self.against
    }

    /// The same as [`log_e`]; quick if epochs come in the order of the last call, new ones last.
    pub fn log_e(&mut self, epochs: &[Epoch]) -> f64 {
        if !self.against.is_ratio() {
            return 0.0;
        }
        let (mut treated, mut sums) = (0.0, [0.0; GRID]);
        self.rows.truncate(epochs.len());
        for (at, epoch) in epochs.iter().enumerate() {
            match self.rows.get_mut(at) {
                Some((pi, _)) if pi.to_bits() == epoch.pi.to_bits() => {}
                Some(row) => *row = (epoch.pi, self.against.row(epoch.pi)),
                None => self.rows.push((epoch.pi, self.against.row(epoch.pi))),
            }
            if epoch.is_comparison() && epoch.events() > 0.0 {
                treated += epoch.treated as f64;
                add(&mut sums, &self.rows[at].1, epoch.events());
            }
        }
        self.against.mix(treated, &sums)
    }
}

/// How many times as often `T` has the event as `C`: what is shown beside the verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The ratio under which what happened is most likely; `None` without events on both sides.
    pub estimate: Option<f64>,
    /// Each end is one-sided at `alpha`; together they are a `1 - 2 alpha` confidence sequence. 0
    /// and infinity where there is no bound.
    pub bounds: Interval,
}

/// The ratio and its bounds, which agree with the tests: `lower` is the largest `rho0` with
/// `log_e_harm(rho0) >= ln(1/alpha)`, `upper` the smallest `rho1` with `log_e_safe(rho1)` there.
///
/// For showing: some 90 times the work of [`log_e`].
pub fn ratio(epochs: &[Epoch], alpha: f64) -> Ratio {
    Ratio { estimate: estimate(epochs), bounds: bounds(epochs, alpha) }
}

fn bounds(epochs: &[Epoch], alpha: f64) -> Interval {
    let epochs = by_share(epochs);
    let l = threshold(alpha);
    let end = RATIO_RANGE.ln();
    let harm = |v: f64| log_e_harm(&epochs, v.exp()) >= l;
    let safe = |v: f64| log_e_safe(&epochs, v.exp()) >= l;
    // Evidence of harm falls with the ratio, evidence of safety rises. Where the bracket does not
    // change its answer, there is either no bound or one beyond the range.
    let lower = bisect(-end, end, 1e-12, harm)
        .map_or_else(|| if harm(end) { RATIO_RANGE } else { 0.0 }, f64::exp);
    let upper = bisect(end, -end, 1e-12, safe)
        .map_or_else(|| if safe(-end) { 1.0 / RATIO_RANGE } else { f64::INFINITY }, f64::exp);
    Interval { lower, upper }
}

/// Maximum likelihood: the ratio under which `T` was to have as many events as it had.
fn estimate(epochs: &[Epoch]) -> Option<f64> {
    let epochs = by_share(epochs);
    let had: f64 = epochs.iter().map(|epoch| epoch.treated as f64).sum();
    let to_have = |ratio: f64| -> f64 {
        let of = |epoch: &Epoch| {
            epoch.events() * epoch.pi * ratio / (epoch.pi * ratio + (1.0 - epoch.pi))
        };
        epochs.iter().map(of).sum()
    };
    let end = RATIO_RANGE.ln();
    bisect(-end, end, 1e-12, |v| to_have(v.exp()) <= had && had > 0.0).map(f64::exp)
}

/// Epochs with equal shares as one: they enter as a sum. A ramp has few different shares.
fn by_share(epochs: &[Epoch]) -> Vec<Epoch> {
    let mut sums: Vec<Epoch> = Vec::new();
    for epoch in epochs.iter().filter(|epoch| epoch.is_comparison() && epoch.events() > 0.0) {
        match sums.iter_mut().find(|sum| sum.pi.to_bits() == epoch.pi.to_bits()) {
            Some(sum) => {
                sum.treated = sum.treated.saturating_add(epoch.treated);
                sum.control = sum.control.saturating_add(epoch.control);
            }
            None => sums.push(*epoch),
        }
    }
    sums
}

#[cfg(test)]
mod tests;
