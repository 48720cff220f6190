//! Copies beside the answers they were made of: agreement beyond chance, latency and failures in
//! pairs.
//!
//! A shadow is never an exposure; these numbers are of their own. A pair compares two backends over
//! the same request, which removes the spread between requests. Only pairs whose live part did not
//! end in the gateway belong here; time that a copy queued before it was sent does not. A shadow
//! backend that takes a tenth of the traffic is colder than it will be.
//!
//! Sources: kappa: Cohen, Educational and Psychological Measurement 20(1), 1960; pairs: McNemar,
//! Psychometrika 12, 1947, here through [`attribution`](super::attribution) with `pi = 0.5`, so that
//! it holds at every look.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::attribution::Epoch;
use super::fairness::{Z, wilson};
use super::mean::{Difference, T_OPT};
use super::moments::Moments;
use super::special::e_value;
use super::{Interval, Verdict, rate};
use crate::sketch::{self, Sketch};

/// So many different labels have a row and a column; what comes after shares `(other)`.
pub const LABELS: usize = 64;

/// A label is at most so many bytes long; longer ones are text, and share `(other)`.
pub const LABEL_BYTES: usize = 64;

/// The label of those that have no row.
pub const OTHER: &str = "(other)";

/// So many pairs are needed before a shadow can be said to have passed.
pub const LEAST_PAIRS: u64 = 1000;

/// Chance that a shadow whose agreement is too low ever passes.
pub const PASS_ALPHA: f64 = 0.05;

/// What turned into what: labels of live answers and of their copies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// By (live, copy).
    #[serde(with = "rows")]
    table: BTreeMap<(String, String), u64>,
    known: Vec<String>,
    agreed: u64,
    pairs: u64,
}

impl Labels {
    /// Counts a pair.
    pub fn add(&mut self, live: &str, copy: &str) {
        self.add_count(live, copy, 1);
        self.agreed += u64::from(live == copy);
        self.pairs += 1;
    }

    fn add_count(&mut self, live: &str, copy: &str, count: u64) {
        let key = (self.row(live), self.row(copy));
        *self.table.entry(key).or_default() += count;
    }

    fn row(&mut self, label: &str) -> String {
        if self.known.iter().any(|known| known == label) {
            return label.to_owned();
        }
        if label != OTHER && label.len() <= LABEL_BYTES && self.known.len() < LABELS {
            self.known.push(label.to_owned());
            return label.to_owned();
        }
        OTHER.to_owned()
    }

    /// Adds what another replica counted. Agreement stays exact; which labels have a row depends on
    /// who came first, if there are more than [`LABELS`].
    pub fn merge(&mut self, other: &Self) {
        for ((live, copy), count) in &other.table {
            self.add_count(live, copy, *count);
        }
        self.agreed += other.agreed;
        self.pairs += other.pairs;
    }

    /// What turned into what, and how often: (live, copy, count), by name.
    pub fn table(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.table.iter().map(|((live, copy), count)| (live.as_str(), copy.as_str(), *count))
    }

    /// Share of pairs that agree.
    pub fn agreement(&self) -> Agreed {
        Agreed { agreed: self.agreed, pairs: self.pairs }
    }

    /// Cohen's kappa, `(po - pe)/(1 - pe)` with `pe = sum over labels of row*col/N^2`: 1 if all
    /// agree, 0 if as many as by chance.
    ///
    /// `None` without pairs, and if chance alone would make all agree (one label everywhere).
    pub fn kappa(&self) -> Option<f64> {
        let n = self.pairs as f64;
        let mut margins: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for (live, copy, count) in self.table() {
            margins.entry(live).or_default().0 += count as f64;
            margins.entry(copy).or_default().1 += count as f64;
        }
        let by_chance = margins.values().map(|(row, col)| row * col / (n * n)).sum::<f64>();
        let observed = self.agreed as f64 / n;
        (self.pairs > 0 && by_chance < 1.0).then(|| (observed - by_chance) / (1.0 - by_chance))
    }
}

/// JSON has no maps with pairs for keys: they are written as a list of rows.
mod rows {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    type Table = BTreeMap<(String, String), u64>;

    pub(super) fn serialize<S: Serializer>(table: &Table, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(table.iter().map(|((live, copy), count)| (live, copy, count)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Table, D::Error> {
        let rows = Vec::<(String, String, u64)>::deserialize(from)?;
        Ok(rows.into_iter().map(|(live, copy, count)| ((live, copy), count)).collect())
    }
}

/// How many of how many pairs agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Agreed {
    /// Those that agree.
    pub agreed: u64,
    /// All.
    pub pairs: u64,
}

impl Agreed {
    /// The share that agrees; `None` without pairs.
    pub fn share(&self) -> Option<f64> {
        (self.pairs > 0).then(|| self.agreed as f64 / self.pairs as f64)
    }

    /// Wilson's 95 % interval of it: for one look. [`rate::interval`] is for live display.
    pub fn interval(&self) -> Interval {
        wilson(self.agreed, self.pairs, Z)
    }

    /// Counts a pair.
    pub fn add(&mut self, agrees: bool) {
        self.agreed += u64::from(agrees);
        self.pairs += 1;
    }

    /// Adds what another replica counted.
    pub fn merge(&mut self, other: &Self) {
        self.agreed += other.agreed;
        self.pairs += other.pairs;
    }

    /// The interval of it that holds at every look, with chance `1 - alpha`.
    pub fn at_all_times(&self, alpha: f64) -> Interval {
        rate::interval(self.agreed, self.pairs, alpha, rate::T_OPT)
    }

    /// Whether a shadow has passed: enough pairs, agreement that is surely at least `least` however
    /// often that was asked, and no guardrail breached.
    pub fn passes(&self, least_pairs: u64, least: f64, guardrails: &[Verdict]) -> bool {
        self.pairs >= least_pairs
            && self.at_all_times(PASS_ALPHA).lower >= least
            && !guardrails.contains(&Verdict::Breached)
    }
}

/// Which of the two failed, of pairs in which one did: the only ones that say something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failures {
    /// Pairs of which only the copy failed.
    pub only_copy: u64,
    /// Pairs of which only the live answer failed.
    pub only_live: u64,
}

impl Failures {
    /// Counts a pair.
    pub fn add(&mut self, live_failed: bool, copy_failed: bool) {
        self.only_copy += u64::from(copy_failed && !live_failed);
        self.only_live += u64::from(live_failed && !copy_failed);
    }

    /// Adds what another replica counted.
    pub fn merge(&mut self, other: &Self) {
        self.only_copy += other.only_copy;
        self.only_live += other.only_live;
    }

    /// McNemar's pairs, for [`attribution`](super::attribution) to judge: harm is "the copy fails
    /// more often".
    pub fn events(&self) -> Epoch {
        Epoch { pi: 0.5, treated: self.only_copy, control: self.only_live }
    }
}

/// How much slower copies are, pair by pair: `r = ln(copy/live)`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairedLatency {
    moments: Moments,
    /// Sizes of `r` where the copy was slower, and where it was faster.
    slower: Sketch,
    faster: Sketch,
    /// Pairs, also those equally fast.
    slower_pairs: u64,
    faster_pairs: u64,
}

impl PairedLatency {
    /// Counts a pair of durations in seconds; of a duration that is not above 0 nothing is learned.
    pub fn add(&mut self, live: f64, copy: f64) {
        let r = (copy / live).ln();
        if !r.is_finite() {
            return;
        }
        self.moments.add(r);
        if r > 0.0 {
            self.slower_pairs += 1;
            self.slower.add(r);
        } else if r < 0.0 {
            self.faster_pairs += 1;
            self.faster.add(-r);
        }
    }

    /// Adds what another replica counted.
    pub fn merge(&mut self, other: &Self) {
        self.moments.merge(&other.moments);
        self.slower.merge(&other.slower);
        self.faster.merge(&other.faster);
        self.slower_pairs += other.slower_pairs;
        self.faster_pairs += other.faster_pairs;
    }

    /// How many pairs.
    pub fn pairs(&self) -> u64 {
        self.moments.n
    }

    /// How many times as long copies take on (geometric) average, with an interval that holds at
    /// all times with chance `1 - alpha`. `None` below two pairs.
    pub fn slowdown(&self, alpha: f64) -> Option<(f64, Interval)> {
        let mean = Difference::of_one(&self.moments)?;
        let Interval { lower, upper } = mean.two_sided(alpha, T_OPT);
        let upper = if upper == f64::INFINITY { upper } else { e_value(upper) };
        Some((e_value(mean.diff), Interval { lower: e_value(lower), upper }))
    }

    /// The sign test, for [`attribution`](super::attribution) to judge: harm is "the copy is slower
    /// more often than faster".
    pub fn signs(&self) -> Epoch {
        Epoch { pi: 0.5, treated: self.slower_pairs, control: self.faster_pairs }
    }

    /// How many times as long the copy takes, at a quantile over pairs: to within 1 % of its
    /// logarithm. `None` without pairs, and outside of 0 to 1.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to n")]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let n = self.moments.n;
        if n == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = ((q * n as f64).ceil() as u64).clamp(1, n);
        // Ascending: from much faster to a little faster, equal, from a little to much slower.
        let equal = n - self.slower_pairs - self.faster_pairs;
        let r = if rank <= self.faster_pairs {
            let from_smallest = self.faster_pairs - rank + 1;
            -sketch::edge(self.faster.rank_bucket(from_smallest)?)
        } else if rank <= self.faster_pairs + equal {
            0.0
        } else {
            sketch::edge(self.slower.rank_bucket(rank - self.faster_pairs - equal)?)
        };
        Some(r.exp())
    }

    /// How many pairs lie between neighbours of `bounds`, which are ratios in ascending order: at
    /// most the first, above it and at most the second, and so on, above the last at the end. To
    /// within 1 % of the logarithm.
    pub fn histogram(&self, bounds: &[f64]) -> Vec<u64> {
        let mut counts = vec![0; bounds.len() + 1];
        let mut add = |r: f64, count: u64| {
            counts[bounds.partition_point(|bound| bound.ln() < r)] += count;
        };
        for (bucket, &count) in self.slower.counts().iter().enumerate() {
            add(sketch::edge(bucket), count);
        }
        for (bucket, &count) in self.faster.counts().iter().enumerate() {
            add(-sketch::edge(bucket), count);
        }
        add(0.0, self.moments.n - self.slower_pairs - self.faster_pairs);
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::attribution::log_e_harm;
    use crate::statistics::threshold;

    #[test]
    fn kappa_takes_chance_away() {
        let mut labels = Labels::default();
        // The textbook's table: 20 and 15 agree, 5 and 10 do not.
        for (live, copy, count) in [("y", "y", 20), ("y", "n", 5), ("n", "y", 10), ("n", "n", 15)] {
            for _ in 0..count {
                labels.add(live, copy);
            }
        }
        assert!((labels.kappa().unwrap() - 0.4).abs() < 1e-12);
        assert_eq!(labels.agreement(), Agreed { agreed: 35, pairs: 50 });
        assert_eq!(labels.table().count(), 4);
        assert_eq!(labels.table().find(|row| row.0 == "n" && row.1 == "y").unwrap().2, 10);

        assert_eq!(Labels::default().kappa(), None);
        let mut one = Labels::default();
        one.add("y", "y");
        assert_eq!(one.kappa(), None, "chance alone would do");
    }

    #[test]
    fn text_is_no_label_and_is_not_kept() {
        let mut labels = Labels::default();
        let text = "a sentence that somebody said ".repeat(3);
        labels.add(&text, &text);
        labels.add("cat", &text);
        let rows: Vec<_> = labels.table().collect();
        assert_eq!(rows, [(OTHER, OTHER, 1), ("cat", OTHER, 1)]);
        assert_eq!(labels.agreement(), Agreed { agreed: 1, pairs: 2 });
        let again: Labels = serde_json::from_str(&serde_json::to_string(&labels).unwrap()).unwrap();
        assert_eq!(again, labels);
    }

    #[test]
    fn endless_labels_stay_in_a_bounded_table_and_agreement_stays_exact() {
        let mut labels = Labels::default();
        for n in 0..1000 {
            labels.add(&format!("a{n}"), &format!("b{n}"));
        }
        assert!(labels.table.len() <= LABELS * LABELS && labels.known.len() == LABELS);
        assert_eq!(labels.agreement().agreed, 0);
        let mut twice = labels.clone();
        twice.merge(&labels);
        assert_eq!(twice.agreement(), Agreed { agreed: 0, pairs: 2000 });
        assert_eq!(twice.table().map(|row| row.2).sum::<u64>(), 2000);
    }

    #[test]
    fn passing_needs_pairs_agreement_and_no_breach() {
        let of = |agreed, pairs| Agreed { agreed, pairs };
        assert!(of(990, 1000).passes(LEAST_PAIRS, 0.97, &[Verdict::TooEarly]));
        // Surely, and however often it was asked: the interval for a single look is not enough.
        assert!(of(990, 1000).interval().lower > 0.981);
        assert!(!of(990, 1000).passes(LEAST_PAIRS, 0.981, &[]));
        assert!(!of(990, 1000).passes(LEAST_PAIRS, 0.99, &[]));
        assert!(!of(999, 999).passes(LEAST_PAIRS, 0.9, &[]));
        assert!(!of(1000, 1000).passes(LEAST_PAIRS, 0.9, &[Verdict::Breached]));
    }

    #[test]
    fn only_pairs_that_differ_say_who_fails_more() {
        let mut failures = Failures::default();
        for n in 0..1000_u32 {
            failures.add(n % 100 == 0, n % 100 == 0 || n % 50 == 1);
        }
        assert_eq!(failures.events(), Epoch { pi: 0.5, treated: 20, control: 0 });
        assert!(log_e_harm(&[failures.events()], 1.0) > threshold(0.01));
        let mut both = failures;
        both.merge(&failures);
        assert_eq!(both.only_copy, 40);
    }

    #[test]
    fn pairs_see_a_slowdown_far_below_the_spread_between_requests() {
        let mut paired = PairedLatency::default();
        let mut half = PairedLatency::default();
        for n in 1..=400_u32 {
            // From 10 ms to 4 s, each 5 % slower, give or take 10 %.
            let live = f64::from(n) / 100.0;
            let around = 1.0 + 0.1 * f64::from(n % 21).mul_add(0.1, -1.0);
            let into = if n % 2 == 0 { &mut paired } else { &mut half };
            into.add(live, live * 1.05 * around);
        }
        paired.merge(&half);
        let (mean, interval) = paired.slowdown(0.05).unwrap();
        assert!((mean - 1.048).abs() < 0.005, "{mean}");
        assert!(interval.lower > 1.0 && interval.upper < 1.1, "{interval:?}");
        assert!(log_e_harm(&[paired.signs()], 1.0) > threshold(0.01));
        let median = paired.quantile(0.5).unwrap();
        assert!((median - 1.05).abs() < 0.02, "{median}");
        assert!(paired.quantile(0.0).unwrap() < 0.96 && paired.quantile(1.0).unwrap() > 1.14);
        let histogram = paired.histogram(&[0.9, 1.0, 1.05, 2.0]);
        assert_eq!(histogram.iter().sum::<u64>(), 400);
        assert!(histogram[0] == 0 && histogram[4] == 0 && histogram[1] > 50, "{histogram:?}");
        let up_to_median: u64 = histogram[..3].iter().sum();
        assert!((180..=230).contains(&up_to_median), "{histogram:?}");
        let again: PairedLatency =
            serde_json::from_str(&serde_json::to_string(&paired).unwrap()).unwrap();
        assert_eq!(again.histogram(&[1.0]), paired.histogram(&[1.0]));
        assert_eq!(again.quantile(0.9), paired.quantile(0.9));
    }

    #[test]
    fn broken_durations_teach_nothing() {
        let mut paired = PairedLatency::default();
        for (live, copy) in [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (f64::NAN, 1.0)] {
            paired.add(live, copy);
        }
        assert_eq!((paired.pairs(), paired.quantile(0.5), paired.slowdown(0.05)), (0, None, None));
        paired.add(2.0, 2.0);
        assert_eq!(paired.quantile(0.5), Some(1.0));
        assert_eq!(paired.quantile(f64::NAN), None);
    }
}
