//! Has what is seen changed? A current histogram against a reference, and one sample against
//! another.
//!
//! ```text
//! PSI         = sum (r - q)*ln(r/q)                       zeros become 0.0001, or the least share/10^6 if that is <= 0.0001
//! JS distance = sqrt( KL(r,a)/2 + KL(q,a)/2 ),            a = (r+q)/2, natural log, zeros contribute 0
//! KS          : D = max |F_r - F_q|;  p = Q(sqrt(n*m/(n+m))*D)
//! Wasserstein = integral |F_r - F_q| dv / max(sd_r, 0.001)
//! chi-square  : 2 x B table of counts, without continuity correction
//! ```
//!
//! with `r` and `q` the shares of reference and current. The definitions are Evidently's (0.7.23),
//! on bins that are frozen (see [`histogram`](super::histogram)); noise of PSI: Yurdakul, Naranjo,
//! "Statistical properties of the population stability index", Journal of Risk Model Validation
//! 14(4), 2020. None of this is anytime-valid: it raises alarms, it does not decide.

use super::special::chi_square_tail;
use crate::sketch::{self, Sketch};

/// PSI from which there is a warning.
pub const PSI_WARN: f64 = 0.1;
/// PSI from which there is an alert.
pub const PSI_ALERT: f64 = 0.25;
/// JS distance from which a category, or a number with few values, has drifted.
pub const JS_DRIFT: f64 = 0.1;
/// Wasserstein distance in standard deviations from which a number has drifted.
pub const WASSERSTEIN_DRIFT: f64 = 0.1;
/// PSI's own noise above which it is not judged.
pub const NOISE_LIMIT: f64 = 0.02;
/// Chance of a false alarm from the chi-square test, over all watched numbers together.
pub const ALARM_ALPHA: f64 = 0.001;

/// How far apart two histograms over the same bins are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistogramDrift {
    /// Population stability index.
    pub psi: f64,
    /// What PSI is on average if nothing drifted: `(B-1)*(1/n + 1/m)`.
    pub psi_noise: f64,
    /// Jensen-Shannon distance, 0 to 0.83.
    pub js_distance: f64,
    /// Pearson's statistic.
    pub chi2: f64,
    /// Its p-value, for one look. With thousands of values a p-value alone always alarms.
    pub chi2_p: f64,
}

/// Compares counts by bin; bins beyond the shorter list are not looked at.
///
/// `None` if either side is empty.
pub fn of_histograms(reference: &[u64], current: &[u64]) -> Option<HistogramDrift> {
    let total = |counts: &[u64]| counts.iter().map(|count| *count as f64).sum::<f64>();
    let bins = reference.len().min(current.len());
    let (reference, current) = (&reference[..bins], &current[..bins]);
    let (n, m) = (total(reference), total(current));
    if n == 0.0 || m == 0.0 {
        return None;
    }
    let shares = |counts: &[u64], of: f64| -> Vec<f64> {
        counts.iter().map(|count| *count as f64 / of).collect()
    };
    let (r, q) = (shares(reference, n), shares(current, m));
    let (chi2, df) = chi_square(reference, current, n, m);
    Some(HistogramDrift {
        psi: psi(&r, &q),
        psi_noise: (bins as f64 - 1.0) * (1.0 / n + 1.0 / m),
        js_distance: js_distance(&r, &q),
        chi2,
        chi2_p: chi_square_tail(chi2, df),
    })
}

fn psi(r: &[f64], q: &[f64]) -> f64 {
    // Each side fills its own zeros, and is not made to add up to 1 again.
    let filling = |shares: &[f64]| {
        let least = shares.iter().copied().filter(|share| *share > 0.0).fold(1.0, f64::min);
        if least <= 1e-4 { least / 1e6 } else { 1e-4 }
    };
    let (fill_r, fill_q) = (filling(r), filling(q));
    let filled = |share: f64, fill: f64| if share == 0.0 { fill } else { share };
    let term = |(r, q): (&f64, &f64)| {
        let (r, q) = (filled(*r, fill_r), filled(*q, fill_q));
        (r - q) * (r / q).ln()
    };
    r.iter().zip(q).map(term).sum()
}

fn js_distance(r: &[f64], q: &[f64]) -> f64 {
    let part = |share: f64, middle: f64| {
        if share > 0.0 { share * (share / middle).ln() } else { 0.0 }
    };
    let terms = r.iter().zip(q).map(|(r, q)| {
        let middle = (r + q) / 2.0;
        part(*r, middle) + part(*q, middle)
    });
    (terms.sum::<f64>() / 2.0).max(0.0).sqrt()
}

/// The statistic and its degrees of freedom; bins that are empty on both sides are dropped.
fn chi_square(reference: &[u64], current: &[u64], n: f64, m: f64) -> (f64, u64) {
    let mut sum = 0.0;
    let mut bins = 0_u64;
    for (r, q) in reference.iter().zip(current) {
        let (r, q) = (*r as f64, *q as f64);
        let both = r + q;
        if both == 0.0 {
            continue;
        }
        bins += 1;
        let (expected_r, expected_q) = (both * n / (n + m), both * m / (n + m));
        sum += (r - expected_r).powi(2) / expected_r + (q - expected_q).powi(2) / expected_q;
    }
    (sum, bins.saturating_sub(1))
}

/// How far apart two samples of a number are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleDrift {
    /// Kolmogorov-Smirnov: the largest gap between the two distributions. From sketches it is a
    /// lower bound; the true one is at most the largest share of a single bucket higher.
    pub ks_d: f64,
    /// Its asymptotic p-value, for one look.
    pub ks_p: f64,
    /// How far values moved on average, in standard deviations of the reference.
    pub wasserstein: f64,
}

/// Compares raw values, each ascending. `None` if either side is empty.
pub fn of_samples(reference: &[f64], current: &[f64]) -> Option<SampleDrift> {
    let mut points: Vec<Point> = Vec::with_capacity(reference.len() + current.len());
    let (mut r, mut q) = (reference, current);
    loop {
        // The smaller of the two heads; equal values of both sides are one point.
        let value = match (r.first(), q.first()) {
            (Some(a), Some(b)) => a.min(*b),
            (Some(a), None) | (None, Some(a)) => *a,
            (None, None) => break,
        };
        let (of_r, of_q) = (at_or_below(r, value), at_or_below(q, value));
        if of_r + of_q == 0 {
            // NaN is at or below nothing.
            return None;
        }
        points.push(Point { value, reference: of_r as f64, current: of_q as f64 });
        (r, q) = (&r[of_r..], &q[of_q..]);
    }
    compare(&points)
}

fn at_or_below(sorted: &[f64], value: f64) -> usize {
    sorted.iter().take_while(|other| **other <= value).count()
}

/// Compares sketches; every value is taken for the upper edge of its bucket.
pub fn of_sketches(reference: &Sketch, current: &Sketch) -> Option<SampleDrift> {
    let counts = reference.counts().iter().zip(current.counts()).enumerate();
    let points: Vec<Point> = counts
        .filter(|(_, (r, q))| **r > 0 || **q > 0)
        .map(|(bucket, (r, q))| Point {
            value: sketch::edge(bucket),
            reference: *r as f64,
            current: *q as f64,
        })
        .collect();
    compare(&points)
}

/// How often a value was seen on each side.
#[derive(Clone, Copy, Debug)]
struct Point {
    value: f64,
    reference: f64,
    current: f64,
}

/// `points` ascend.
fn compare(points: &[Point]) -> Option<SampleDrift> {
    let n: f64 = points.iter().map(|point| point.reference).sum();
    let m: f64 = points.iter().map(|point| point.current).sum();
    if n == 0.0 || m == 0.0 {
        return None;
    }
    let (mut f_r, mut f_q, mut ks_d, mut area) = (0.0, 0.0, 0.0_f64, 0.0);
    for (at, point) in points.iter().enumerate() {
        f_r += point.reference / n;
        f_q += point.current / m;
        let gap = (f_r - f_q).abs();
        ks_d = ks_d.max(gap);
        if let Some(next) = points.get(at + 1) {
            area += gap * (next.value - point.value);
        }
    }
    let mean = points.iter().map(|point| point.reference * point.value).sum::<f64>() / n;
    let squares = |point: &Point| point.reference * (point.value - mean).powi(2);
    let sd = (points.iter().map(squares).sum::<f64>() / n).sqrt();
    let ks_p = kolmogorov_tail((n * m / (n + m)).sqrt() * ks_d);
    Some(SampleDrift { ks_d, ks_p, wasserstein: area / sd.max(0.001) })
}

/// `Q(x) = 2 * sum over k >= 1 of (-1)^(k-1) exp(-2 k^2 x^2)`: the chance of Kolmogorov's statistic
/// to be at least `x`.
fn kolmogorov_tail(x: f64) -> f64 {
    if x < 0.04 {
        return 1.0;
    }
    let mut sum = 0.0;
    let mut sign = 1.0;
    // From 0.04 on, term 200 is below 1e-55.
    for k in 1..=200_u32 {
        let term = (-2.0 * f64::from(k).powi(2) * x * x).exp();
        sum += sign * term;
        sign = -sign;
        if term < 1e-18 {
            break;
        }
    }
    (2.0 * sum).clamp(0.0, 1.0)
}

/// What to say about drift.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing.
    #[default]
    Calm,
    /// PSI is at least 0.1.
    Warn,
    /// PSI is at least 0.25.
    Alert,
}

/// What one look at one watched number would say by itself.
///
/// Calm while PSI's noise is above [`NOISE_LIMIT`] (10 bins: below 500 current values against
/// 10 000), and unless the chi-square test agrees at [`ALARM_ALPHA`] over all `watched` numbers.
pub fn level(drift: &HistogramDrift, watched: usize) -> Level {
    let shown = drift.chi2_p < ALARM_ALPHA / watched.max(1) as f64;
    if drift.psi_noise >= NOISE_LIMIT || !shown {
        return Level::Calm;
    }
    match drift.psi {
        psi if psi >= PSI_ALERT => Level::Alert,
        psi if psi >= PSI_WARN => Level::Warn,
        _ => Level::Calm,
    }
}

/// The alarm of one watched number: it takes two looks in a row that share no data. Kept by the
/// caller between looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Alarm {
    /// What the last look said.
    before: Level,
}

impl Alarm {
    /// What to say after a look at a window that shares no data with the last one's, and what to
    /// remember: the lower of the two levels.
    pub fn after(self, now: Level) -> (Level, Self) {
        (self.before.min(now), Self { before: now })
    }
}

/// Whether the data as a whole has drifted: at least half of the watched numbers have.
pub fn dataset_drift(drifted: usize, watched: usize) -> bool {
    watched > 0 && 2 * drifted >= watched
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_histograms_have_not_drifted() {
        let same = of_histograms(&[10, 0, 30], &[100, 0, 300]).unwrap();
        assert!(same.psi.abs() < 1e-15 && same.js_distance < 1e-8 && same.chi2 < 1e-12);
        assert_eq!(same.chi2_p, 1.0);
        assert_eq!(of_histograms(&[0, 0], &[1, 2]), None);
        assert_eq!(of_histograms(&[], &[]), None);
    }

    #[test]
    fn equal_samples_have_not_drifted_and_nan_is_no_sample() {
        let same = of_samples(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]).unwrap();
        assert!(same.ks_d < 1e-15 && same.ks_p == 1.0 && same.wasserstein < 1e-15);
        assert_eq!(of_samples(&[], &[1.0]), None);
        assert_eq!(of_samples(&[f64::NAN], &[f64::NAN]), None);
        let moved = of_samples(&[0.0, 1.0], &[10.0, 11.0]).unwrap();
        assert_eq!((moved.ks_d, moved.wasserstein), (1.0, 20.0));
        // A reference without spread does not divide by zero.
        assert_eq!(of_samples(&[1.0, 1.0], &[2.0]).unwrap().wasserstein, 1000.0);
    }

    #[test]
    fn a_sketch_knows_the_gap_to_within_a_bucket() {
        let values: Vec<f64> = (1..=5000).map(|n| f64::from(n) / 1000.0).collect();
        let slower: Vec<f64> = values.iter().map(|value| 1.5 * value).collect();
        let sketch = |values: &[f64]| {
            let mut sketch = Sketch::new();
            values.iter().for_each(|value| sketch.add(*value));
            sketch
        };
        let raw = of_samples(&values, &slower).unwrap();
        let seen = of_sketches(&sketch(&values), &sketch(&slower)).unwrap();
        let largest = sketch(&values).counts().iter().copied().max().unwrap() as f64 / 5000.0;
        assert!(seen.ks_d <= raw.ks_d + 1e-12 && raw.ks_d <= seen.ks_d + largest);
        assert!((seen.wasserstein / raw.wasserstein - 1.0).abs() < 0.03);
    }

    #[test]
    fn kolmogorovs_tail_is_that_of_the_tables() {
        assert_eq!(kolmogorov_tail(0.0), 1.0);
        assert!((kolmogorov_tail(1.358_098_6) - 0.05).abs() < 1e-6);
        assert!((kolmogorov_tail(0.05) - 1.0).abs() < 1e-12);
        assert_eq!(kolmogorov_tail(100.0), 0.0);
    }

    #[test]
    fn it_takes_size_a_test_and_two_looks_to_raise_an_alarm() {
        let much = of_histograms(&[5000, 5000], &[200, 800]).unwrap();
        let some = of_histograms(&[5000, 5000], &[650, 350]).unwrap();
        assert!(some.psi < PSI_WARN, "{some:?}");
        let more = of_histograms(&[5000, 5000], &[680, 320]).unwrap();
        assert_eq!(
            [&much, &some, &more].map(|d| level(d, 5)),
            [Level::Alert, Level::Calm, Level::Warn]
        );
        let few = of_histograms(&[5000, 5000], &[4, 16]).unwrap();
        assert!(few.psi > PSI_ALERT && level(&few, 5) == Level::Calm);

        let (said, alarm) = Alarm::default().after(Level::Alert);
        assert_eq!(said, Level::Calm);
        let (said, alarm) = alarm.after(Level::Warn);
        assert_eq!(said, Level::Warn);
        assert_eq!(alarm.after(Level::Calm).0, Level::Calm);
        assert!(dataset_drift(2, 4) && !dataset_drift(1, 4) && !dataset_drift(0, 0));
    }
}
