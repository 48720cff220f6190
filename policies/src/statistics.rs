//! From counts to verdicts: what the numbers of an experiment show, however often one looks.
//!
//! Pure functions over counts that the caller has merged. Everything that decides is an
//! *e-process*, kept as its logarithm: a number that starts at 0 and, if the hypothesis is true,
//! has an expectation (of its exponential) of at most 1 at every moment. The chance that it *ever*
//! reaches `ln(1/alpha)` is then at most `alpha` (Ville's inequality), so a look every second costs
//! nothing. Intervals are *confidence sequences*: they cover the truth at all times at once.
//!
//! An *epoch* is a stretch in which the shares did not change; counts are kept by epoch, because
//! the shares are what is known for certain. `T`, or *treated*, is the variant that is judged, `C`
//! the control.
//!
//! In reading order:
//!
//! * [`special`], [`mixture`]: the mathematics.
//! * [`sample_ratio`]: do units arrive in the shares that were dealt?
//! * [`attribution`]: whose are the failures, given the shares? [`floor`]: are they many?
//!   [`rule`]: both together, as a [`Verdict`].
//! * [`rate`]: a rate with its interval, for showing.
//! * [`slowdown`]: is `T` slower? [`quantile`]: how slow, for showing.
//! * [`moments`], [`mean`]: numbers instead of events.
//! * [`histogram`], [`drift`]: has what is seen changed? [`fairness`]: are groups treated alike?
//! * [`agreement`], [`shadow`]: copies beside the answers they were made of.
//! * [`bandit`]: shares that follow what is known.
//! * [`vectors`]: all of it held against numbers of other packages.

pub mod special;
pub mod mixture;
pub mod sample_ratio;
pub mod attribution;
pub mod floor;
pub mod rule;
pub mod rate;
pub mod slowdown;
pub mod quantile;
pub mod moments;
pub mod mean;
pub mod histogram;
pub mod drift;
pub mod fairness;
pub mod agreement;
pub mod shadow;
pub mod bandit;
pub mod vectors;

pub use rule::Verdict;

/// From `lower` to `upper`, either of which may be infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

/// `ln(1/alpha)`: what a `log_e` has to reach for an error of at most `alpha`.
///
/// Infinite, so that nothing is ever shown, for an `alpha` that is no chance above 0.
pub fn threshold(alpha: f64) -> f64 {
    if alpha > 0.0 && alpha <= 1.0 { -alpha.ln() } else { f64::INFINITY }
}
