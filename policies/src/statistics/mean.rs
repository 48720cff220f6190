//! Is a mean worse? Scores, cost, tokens, revenue.
//!
//! An asymptotic confidence sequence for the difference of two means, with one stratum an epoch
//! (or a period of a bandit) and precision weights:
//!
//! ```text
//! per stratum: h = 1/(1/n_T + 1/n_C);  d = mean_T - mean_C;  v = max(welch, pooled)
//! t = sum h;  diff = sum(h*d)/t;  se = sqrt(sum(h*h*v))/t
//! kappa(a)   = t_opt / (2*ln(1/a) + ln(1 + 2*ln(1/a)))
//! two-sided:   diff +- se * sqrt( (1+k/t) * (ln(1+t/k) + 2*ln(1/alpha)) ),            k = kappa(alpha)
//! one-sided:   diff -  se * sqrt( 2*(1+k/t) * ln(1 + sqrt(1+t/k)/(2*alpha)) ),        k = kappa(2*alpha)
//! ```
//!
//! `t` is the effective size, close to `n_T` while `T` is small. Why the larger of two variances:
//! with 5 % against 95 % and skewed numbers the usual (Welch's) makes 8.5 to 13 % errors at a
//! nominal 5 %, because the small arm looks precise exactly when it happened to draw no large
//! value.
//!
//! Sources: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and
//! asymptotic confidence sequences", Annals of Statistics 52(6), 2024; the mixture: Robbins, Annals
//! of Mathematical Statistics 41, 1970.

use super::moments::{Groups, Moments};
use super::{Interval, Verdict};

/// The effective size at which a bound is tightest, unless told otherwise.
pub const T_OPT: f64 = 500.0;

/// One arm of a stratum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arm {
    /// How many values.
    pub n: u64,
    /// Their mean.
    pub mean: f64,
    /// Their variance, with `n - 1`.
    pub variance: f64,
    /// The variance of the mean over groups of units, where units are sticky.
    pub grouped: Option<f64>,
}

impl Arm {
    /// Values of requests that were dealt one by one. `None` below two.
    pub fn of_requests(moments: &Moments) -> Option<Self> {
        let variance = moments.variance()?;
        Some(Self { n: moments.n, mean: moments.mean, variance, grouped: None })
    }

    /// Values of sticky units. `None` below two values or 50 groups.
    pub fn of_units(moments: &Moments, groups: &Groups) -> Option<Self> {
        let grouped = Some(groups.variance_of_mean()?);
        Some(Self { grouped, ..Self::of_requests(moments)? })
    }

    fn variance_of_mean(&self) -> f64 {
        self.variance / self.n as f64
    }
}

/// Strata added up: what is kept of an epoch, or a bandit's period, once it is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Strata {
    /// Sum of `h`.
    pub h: f64,
    /// Sum of `h*d`.
    pub hd: f64,
    /// Sum of `h*h*v`.
    pub hhv: f64,
}

impl Strata {
    /// With one more stratum. One with fewer than two values in an arm, or with a number that is
    /// none, is left out.
    pub fn add(&mut self, treated: &Arm, control: &Arm) {
        if treated.n < 2 || control.n < 2 {
            return;
        }
        let h = 1.0 / (1.0 / treated.n as f64 + 1.0 / control.n as f64);
        let d = treated.mean - control.mean;
        let v = variance_of_difference(treated, control);
        if d.is_finite() && v.is_finite() {
            self.merge(&Self { h, hd: h * d, hhv: h * h * v });
        }
    }

    /// Adds the strata of another.
    pub fn merge(&mut self, other: &Self) {
        self.h += other.h;
        self.hd += other.hd;
        self.hhv += other.hhv;
    }

    /// The difference that all strata together show; `None` without any.
    pub fn difference(&self) -> Option<Difference> {
        (self.h > 0.0).then(|| Difference {
            diff: self.hd / self.h,
            se: self.hhv.sqrt() / self.h,
            t: self.h,
        })
    }
}

/// `max(welch, pooled)`.
fn variance_of_difference(treated: &Arm, control: &Arm) -> f64 {
    let (n_t, n_c) = (treated.n as f64, control.n as f64);
    let n = n_t + n_c;
    let joint = (n_t * treated.mean + n_c * control.mean) / n;
    let around = |arm: &Arm, n: f64| (n - 1.0) * arm.variance + n * (arm.mean - joint).powi(2);
    let squares = around(treated, n_t) + around(control, n_c);
    let pooled = squares / (n - 1.0) * (1.0 / n_t + 1.0 / n_c);
    match (treated.grouped, control.grouped) {
        (Some(of_t), Some(of_c)) => {
            // Units spread more than requests do; control, the larger arm, says by how much.
            let plain = control.variance_of_mean();
            let more = if plain > 0.0 { (of_c / plain).max(1.0) } else { 1.0 };
            (of_t + of_c).max(pooled * more)
        }
        (None, None) => (treated.variance_of_mean() + control.variance_of_mean()).max(pooled),
        // Units on one side and requests on the other cannot be compared.
        (Some(_), None) | (None, Some(_)) => f64::NAN,
    }
}

/// A difference of means (or a mean), how exact it is, and on how much it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The estimate.
    pub diff: f64,
    /// Its standard error at this moment; not itself valid at all times, the bounds are.
    pub se: f64,
    /// Effective size.
    pub t: f64,
}

impl Difference {
    /// One sample's mean, as if it were a difference from 0: for pairs. `None` below two values.
    pub fn of_one(moments: &Moments) -> Option<Self> {
        let t = moments.n as f64;
        Some(Self { diff: moments.mean, se: (moments.variance()? / t).sqrt(), t })
    }

    /// Contains the truth at all times at once with chance `1 - alpha`, once there are some values.
    pub fn two_sided(&self, alpha: f64, t_opt: f64) -> Interval {
        let k = kappa(alpha, t_opt);
        let ratio = k / self.t;
        let square = (1.0 + ratio) * ((self.t / k).ln_1p() - 2.0 * alpha.ln());
        let radius = or_infinite(self.se * square.sqrt());
        Interval { lower: self.diff - radius, upper: self.diff + radius }
    }

    /// Below the truth at all times with chance `1 - alpha`; `alpha` below 0.5.
    pub fn lower(&self, alpha: f64, t_opt: f64) -> f64 {
        self.diff - self.one_sided_radius(alpha, t_opt)
    }

    /// Above the truth at all times with chance `1 - alpha`; `alpha` below 0.5.
    pub fn upper(&self, alpha: f64, t_opt: f64) -> f64 {
        self.diff + self.one_sided_radius(alpha, t_opt)
    }

    /// The same as a number that grows: the logarithm of the evidence that the truth is above
    /// `beyond`, at least `ln(1/alpha)` just where [`Difference::lower`] is not below `beyond`.
    ///
    /// Between -700 and `f64::MAX`; 0 for what is no number.
    pub fn log_e_above(&self, beyond: f64, alpha: f64, t_opt: f64) -> f64 {
        if !(alpha > 0.0 && alpha < 0.5) {
            return 0.0;
        }
        let k = kappa(2.0 * alpha, t_opt);
        let z = (self.diff - beyond) / self.se;
        if z.is_nan() || self.t.is_nan() || self.t <= 0.0 {
            return 0.0;
        }
        let y = z.max(0.0).powi(2) / (2.0 * (1.0 + k / self.t));
        // ln(2 (e^y - 1) / sqrt(1 + t/k)): the bound solved for alpha.
        let grown = if y > 30.0 { y } else { y.exp_m1().ln() };
        (2.0_f64.ln() + grown - 0.5 * (self.t / k).ln_1p()).clamp(-700.0, f64::MAX)
    }

    /// [`Difference::log_e_above`] for "the truth is below `beyond`".
    pub fn log_e_below(&self, beyond: f64, alpha: f64, t_opt: f64) -> f64 {
        Self { diff: -self.diff, ..*self }.log_e_above(-beyond, alpha, t_opt)
    }

    fn one_sided_radius(&self, alpha: f64, t_opt: f64) -> f64 {
        if !(alpha > 0.0 && alpha < 0.5) {
            return f64::INFINITY;
        }
        let k = kappa(2.0 * alpha, t_opt);
        let log = ((1.0 + self.t / k).sqrt() / (2.0 * alpha)).ln_1p();
        or_infinite(self.se * (2.0 * (1.0 + k / self.t) * log).sqrt())
    }
}

fn kappa(alpha: f64, t_opt: f64) -> f64 {
    let l = -alpha.ln();
    t_opt / (2.0 * l + (2.0 * l).ln_1p())
}

/// What is no number bounds nothing.
fn or_infinite(radius: f64) -> f64 {
    if radius.is_nan() { f64::INFINITY } else { radius }
}

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Larger is better: scores, revenue.
    Higher,
    /// Smaller is better: cost, tokens.
    Lower,
}

/// How a mean is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanRule {
    /// Which way is better.
    pub better: Better,
    /// Harm that is forgiven, as a fraction of control's mean: 0.01.
    pub tolerance: f64,
    /// Harm below which the guardrail holds, as a fraction of control's mean.
    pub margin: f64,
    /// Chance of one false [`Verdict::Breached`], over all looks.
    pub alpha_breach: f64,
    /// Chance of a false [`Verdict::Held`].
    pub alpha_held: f64,
    /// The effective size at which the bounds are tightest: [`T_OPT`].
    pub t_opt: f64,
    /// Fewer exposures in an arm are [`Verdict::TooEarly`]: 100.
    pub least: u64,
    /// So are fewer values other than 0 in an arm: 25.
    pub least_nonzero: u64,
}

impl Default for MeanRule {
    fn default() -> Self {
        Self {
            better: Better::Higher,
            tolerance: 0.01,
            margin: 0.05,
            alpha_breach: 0.05,
            alpha_held: 0.05,
            t_opt: T_OPT,
            least: 100,
            least_nonzero: 25,
        }
    }
}

impl MeanRule {
    /// The verdict at this look. `treated` and `control` are all values of the arms, merged.
    ///
    /// For [`Verdict::Held`] give only exposures older than the metric's window; for
    /// [`Verdict::Breached`] all of them: that is two calls if outcomes come late.
    pub fn judge(&self, strata: &Strata, treated: &Moments, control: &Moments) -> Verdict {
        let enough = |arm: &Moments| arm.n >= self.least && arm.nonzero >= self.least_nonzero;
        if !enough(treated) || !enough(control) || !control.mean.is_finite() {
            return Verdict::TooEarly;
        }
        let Some(mut harm) = strata.difference() else { return Verdict::TooEarly };
        if self.better == Better::Higher {
            harm.diff = -harm.diff;
        }
        let scale = control.mean.abs();
        if harm.lower(self.alpha_breach, self.t_opt) > self.tolerance * scale {
            return Verdict::Breached;
        }
        if harm.upper(self.alpha_held, self.t_opt) < self.margin * scale {
            return Verdict::Held;
        }
        Verdict::TooEarly
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(n: u64, mean: f64, variance: f64) -> Arm {
        Arm { n, mean, variance, grouped: None }
    }

    fn one(treated: &Arm, control: &Arm) -> Difference {
        let mut strata = Strata::default();
        strata.add(treated, control);
        strata.difference().unwrap()
    }

    #[test]
    fn a_small_arm_without_large_values_does_not_look_precise() {
        // The small arm drew none of the rare large values.
        let (treated, control) = (arm(200, 1.0, 0.01), arm(3800, 2.0, 50.0));
        let welch: f64 = 0.01 / 200.0 + 50.0 / 3800.0;
        assert!(one(&treated, &control).se > 4.0 * welch.sqrt());
    }

    /// The Simpson trap: a ramp over a day whose mean drifts, with no difference at any time.
    #[test]
    fn strata_do_not_take_a_drift_for_a_difference() {
        let mut strata = Strata::default();
        strata.add(&arm(100, 1.0, 0.1), &arm(9900, 1.0, 0.1));
        strata.add(&arm(5000, 3.0, 0.1), &arm(5000, 3.0, 0.1));
        let shown = strata.difference().unwrap();
        assert!(shown.diff.abs() < 1e-12);
        assert!(shown.lower(0.05, T_OPT) < 0.0 && shown.upper(0.05, T_OPT) > 0.0);
    }

    #[test]
    fn strata_that_say_nothing_are_left_out() {
        let mut strata = Strata::default();
        strata.add(&arm(1, 9.0, 0.0), &arm(900, 1.0, 1.0));
        strata.add(&arm(100, f64::NAN, 1.0), &arm(900, 1.0, 1.0));
        strata.add(&arm(100, 1.0, f64::INFINITY), &arm(900, 1.0, 1.0));
        strata.add(&Arm { grouped: Some(0.1), ..arm(100, 1.0, 1.0) }, &arm(900, 1.0, 1.0));
        assert_eq!(strata.difference(), None);
    }

    #[test]
    fn groups_widen_and_never_narrow() {
        let (treated, control) = (arm(1000, 1.0, 1.0), arm(9000, 1.0, 1.0));
        let plain = one(&treated, &control).se;
        let with = |of_t, of_c| {
            let treated = Arm { grouped: Some(of_t), ..treated };
            one(&treated, &Arm { grouped: Some(of_c), ..control }).se
        };
        assert!((with(1e-3, 1.0 / 9000.0) - plain).abs() < 0.05 * plain);
        assert!(with(1e-9, 1e-9) > 0.99 * plain);
        assert!((with(4e-3, 4.0 / 9000.0) - 2.0 * plain).abs() < 0.05 * plain);
    }

    fn moments(n: u64, mean: f64, variance: f64) -> Moments {
        Moments { n, mean, m2: variance * (n as f64 - 1.0), nonzero: n }
    }

    fn judged(rule: &MeanRule, treated: &Moments, control: &Moments) -> Verdict {
        let mut strata = Strata::default();
        if let (Some(t), Some(c)) = (Arm::of_requests(treated), Arm::of_requests(control)) {
            strata.add(&t, &c);
        }
        rule.judge(&strata, treated, control)
    }

    #[test]
    fn which_way_is_better_decides_what_is_harm() {
        let (less, more) = (moments(5_000, 0.8, 0.04), moments(95_000, 1.0, 0.04));
        let higher = MeanRule::default();
        let lower = MeanRule { better: Better::Lower, ..higher };
        assert_eq!(judged(&higher, &less, &more), Verdict::Breached);
        assert_eq!(judged(&lower, &less, &more), Verdict::Held);
        assert_eq!(judged(&higher, &more, &less), Verdict::Held);
        assert_eq!(judged(&lower, &more, &less), Verdict::Breached);
        let same = moments(5_000, 1.0, 0.04);
        assert_eq!(judged(&higher, &same, &more), Verdict::Held);
        let few = moments(150, 1.0, 0.09);
        assert_eq!(judged(&higher, &few, &more), Verdict::TooEarly, "the margin is not shown");
    }

    #[test]
    fn too_little_is_not_judged() {
        let control = moments(95_000, 1.0, 0.04);
        let rule = MeanRule::default();
        assert_eq!(judged(&rule, &moments(99, 0.1, 1e-6), &control), Verdict::TooEarly);
        let zeros = Moments { nonzero: 24, ..moments(5_000, 0.1, 0.04) };
        assert_eq!(judged(&rule, &zeros, &control), Verdict::TooEarly);
        let broken = moments(5_000, f64::NAN, 0.04);
        assert_eq!(judged(&rule, &broken, &control), Verdict::TooEarly);
        assert_eq!(judged(&rule, &Moments::default(), &Moments::default()), Verdict::TooEarly);
    }

    #[test]
    fn an_alpha_that_is_none_bounds_nothing() {
        let shown = Difference { diff: 1.0, se: 0.1, t: 1000.0 };
        for alpha in [0.0, 0.5, 1.0, f64::NAN] {
            assert_eq!(shown.lower(alpha, T_OPT), f64::NEG_INFINITY, "{alpha}");
            assert_eq!(shown.upper(alpha, T_OPT), f64::INFINITY, "{alpha}");
        }
        let nothing = Difference { diff: 1.0, se: f64::NAN, t: 1000.0 };
        assert_eq!(nothing.two_sided(0.05, T_OPT).upper, f64::INFINITY);
    }

    #[test]
    fn evidence_reaches_its_threshold_just_where_the_bound_passes() {
        for alpha in [0.01_f64, 0.05] {
            for z in [1.0, 2.5, 3.4, 3.9, 6.0, 60.0] {
                for t in [20.0, 500.0, 1e6] {
                    let shown = Difference { diff: z, se: 1.0, t };
                    let reached = shown.log_e_above(0.0, alpha, T_OPT) >= -alpha.ln();
                    assert_eq!(reached, shown.lower(alpha, T_OPT) >= 0.0, "{alpha} {z} {t}");
                    let below = Difference { diff: -z, ..shown };
                    let reached = below.log_e_below(0.0, alpha, T_OPT) >= -alpha.ln();
                    assert_eq!(reached, below.upper(alpha, T_OPT) <= 0.0, "{alpha} {z} {t}");
                }
            }
        }
        let nothing = Difference { diff: f64::NAN, se: 1.0, t: 10.0 };
        assert_eq!(nothing.log_e_above(0.0, 0.05, T_OPT), 0.0);
        let certain = Difference { diff: 1.0, se: 0.0, t: 10.0 };
        assert_eq!(certain.log_e_above(0.0, 0.05, T_OPT), f64::MAX);
    }

    /// The figures that the choice of `t_opt` rests on.
    #[test]
    fn the_multiplier_is_three_where_it_is_tightest() {
        let at = |t: f64| Difference { diff: 0.0, se: 1.0, t }.two_sided(0.05, T_OPT).upper;
        assert!((at(500.0) - 3.0).abs() < 0.05, "{}", at(500.0));
        assert!((at(5_000.0) - 3.2).abs() < 0.1, "{}", at(5_000.0));
        assert!((at(5.0) - 9.0).abs() < 5.0 && at(5.0) > 3.2, "{}", at(5.0));
        assert!(at(400.0) > at(500.0) * 0.99 && at(700.0) > at(500.0) * 0.99);
    }
}
