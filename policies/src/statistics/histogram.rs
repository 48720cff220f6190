//! What is seen of a watched number or category, counted in bins that do not move.
//!
//! Bins are frozen with the reference: 10 of them with edges at the reference's deciles, so that
//! each holds as much and none is empty; or one for each of few values; or equally wide ones. The
//! outer bins are open. What is missing has a bin of its own. A sliding hour is 12 histograms of
//! five minutes.

use std::collections::BTreeMap;

/// Numeric bins, unless told otherwise.
pub const BINS: usize = 10;

/// Up to so many different values, each has a bin.
pub const FEW_VALUES: usize = 20;

/// So many categories have a bin; what is rarer is `other`.
pub const CATEGORIES: usize = 49;

/// Histograms in a sliding hour.
pub const WINDOWS: usize = 12;

/// Bins of a number.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NumericBins {
    /// Ascending and different; a value at an edge belongs below it.
    edges: Vec<f64>,
}

impl NumericBins {
    /// Bins with these edges: sorted, and each once; what is no number is left out.
    pub fn with_edges(mut edges: Vec<f64>) -> Self {
        edges.retain(|edge| edge.is_finite());
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        Self { edges }
    }

    /// For this reference, ascending: one bin for each value if there are at most [`FEW_VALUES`]
    /// different ones, with edges halfway between; else `bins` with edges at its quantiles.
    pub fn of_reference(sorted: &[f64], bins: usize) -> Self {
        let mut values = sorted.to_vec();
        values.dedup();
        if values.len() <= FEW_VALUES {
            return Self::with_edges(values.windows(2).map(|w| w[0] / 2.0 + w[1] / 2.0).collect());
        }
        let at = |part: usize| {
            // The least value that `part/bins` of all are at or below.
            let rank = (part * sorted.len()).div_ceil(bins.max(1));
            sorted[rank.clamp(1, sorted.len()) - 1]
        };
        Self::with_edges((1..bins.max(1)).map(at).collect())
    }

    /// Equally wide bins over the reference's range; the outer two are open.
    pub fn equal_width(low: f64, high: f64, bins: usize) -> Self {
        let edge = |part: usize| low + (high - low) * part as f64 / bins as f64;
        Self::with_edges((1..bins).map(edge).collect())
    }

    /// The edges between the bins, ascending.
    pub fn edges(&self) -> &[f64] {
        &self.edges
    }

    /// How many bins there are, the one for what is missing included.
    pub fn count(&self) -> usize {
        self.edges.len() + 2
    }

    /// The bin of a value: what is missing, or no number, goes to the last.
    pub fn bin_of(&self, value: Option<f64>) -> usize {
        match value {
            Some(value) if !value.is_nan() => self.edges.partition_point(|edge| *edge < value),
            Some(_) | None => self.edges.len() + 1,
        }
    }
}

/// Bins of a category.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CategoryBins {
    /// Sorted.
    names: Vec<String>,
}

impl CategoryBins {
    /// For this reference: the [`CATEGORIES`] most frequent have a bin each; of equally frequent
    /// ones, the first by name.
    pub fn of_reference(counts: &BTreeMap<String, u64>) -> Self {
        let mut by_count: Vec<_> = counts.iter().collect();
        by_count.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let mut names: Vec<String> =
            by_count.into_iter().take(CATEGORIES).map(|(name, _)| name.clone()).collect();
        names.sort();
        Self { names }
    }

    /// The categories with a bin of their own, sorted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many bins there are, those for other and missing included.
    pub fn count(&self) -> usize {
        self.names.len() + 2
    }

    /// The bin of a category: unknown ones go to the last but one, missing ones to the last.
    pub fn bin_of(&self, name: Option<&str>) -> usize {
        let of = |name: &str| {
            self.names
                .binary_search_by(|known| known.as_str().cmp(name))
                .unwrap_or(self.names.len())
        };
        name.map_or(self.names.len() + 1, of)
    }
}

/// Counts by bin over the last [`WINDOWS`] stretches of time.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sliding {
    bins: usize,
    /// Stretch and counts, ascending by stretch; at most [`WINDOWS`].
    windows: Vec<(u64, Vec<u64>)>,
}

impl Sliding {
    /// Nothing counted yet.
    pub fn new(bins: usize) -> Self {
        Self { bins, windows: Vec::new() }
    }

    /// Counts a value.
    ///
    /// `stretch` numbers stretches of time, rising: seconds since any start, over 300. One that has
    /// slid out already is not counted, nor is a bin that does not exist.
    pub fn add(&mut self, stretch: u64, bin: usize, count: u64) {
        if bin >= self.bins {
            return;
        }
        let at = match self.windows.binary_search_by_key(&stretch, |(of, _)| *of) {
            Ok(at) => at,
            Err(0) if self.windows.len() == WINDOWS => return,
            Err(at) => {
                self.windows.insert(at, (stretch, vec![0; self.bins]));
                let newest = self.windows.last().map_or(stretch, |(of, _)| *of);
                let before = self.windows.len();
                self.windows.retain(|(of, _)| newest - of < WINDOWS as u64);
                match at.checked_sub(before - self.windows.len()) {
                    Some(at) if self.windows.get(at).is_some_and(|(of, _)| *of == stretch) => at,
                    Some(_) | None => return,
                }
            }
        };
        let counted = &mut self.windows[at].1[bin];
        *counted = counted.saturating_add(count);
    }

    /// Adds what another replica counted.
    pub fn merge(&mut self, other: &Self) {
        for (stretch, counts) in &other.windows {
            for (bin, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                self.add(*stretch, bin, *count);
            }
        }
    }

    /// The counts by bin of the [`WINDOWS`] stretches that end with `now`.
    pub fn counts(&self, now: u64) -> Vec<u64> {
        let mut sums = vec![0_u64; self.bins];
        let recent = |stretch: u64| stretch <= now && now - stretch < WINDOWS as u64;
        for (_, counts) in self.windows.iter().filter(|(stretch, _)| recent(*stretch)) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum = sum.saturating_add(*count);
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn deciles_hold_a_tenth_each() {
        let reference: Vec<f64> = (0..1000).map(|n| f64::from(n) * f64::from(n)).collect();
        let bins = NumericBins::of_reference(&reference, BINS);
        let mut counts = vec![0; bins.count()];
        reference.iter().for_each(|value| counts[bins.bin_of(Some(*value))] += 1);
        assert_eq!(counts, [100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 0]);
        assert_eq!(bins.bin_of(Some(-1e300)), 0);
        assert_eq!(bins.bin_of(Some(f64::INFINITY)), 9);
        assert_eq!((bins.bin_of(None), bins.bin_of(Some(f64::NAN))), (10, 10));
    }

    #[test]
    fn few_values_have_a_bin_each() {
        let bins = NumericBins::of_reference(&[0.0, 0.0, 1.0, 1.0, 5.0], BINS);
        assert_eq!([0.0, 1.0, 5.0, 99.0].map(|value| bins.bin_of(Some(value))), [0, 1, 2, 2]);
        assert_eq!(NumericBins::of_reference(&[], BINS).count(), 2);
        assert_eq!(NumericBins::equal_width(0.0, 10.0, 5).edges(), [2.0, 4.0, 6.0, 8.0]);
        assert_eq!(NumericBins::equal_width(f64::NAN, 10.0, 5).count(), 2);
    }

    #[test]
    fn rare_categories_share_a_bin() {
        let counts: BTreeMap<String, u64> =
            (0..60_u64).map(|n| (format!("c{n:02}"), 100 - n)).collect();
        let bins = CategoryBins::of_reference(&counts);
        assert_eq!(bins.count(), 51);
        assert_eq!(bins.bin_of(Some("c00")), 0);
        assert_eq!(bins.bin_of(Some("c48")), 48);
        assert_eq!((bins.bin_of(Some("c49")), bins.bin_of(Some("new"))), (49, 49));
        assert_eq!(bins.bin_of(None), 50);
    }

    #[test]
    fn an_hour_slides() {
        let mut hour = Sliding::new(2);
        for stretch in 0..20 {
            hour.add(stretch, 0, 1);
        }
        assert_eq!(hour.counts(19), [12, 0]);
        hour.add(8, 1, 1);
        assert_eq!(hour.counts(19), [12, 1]);
        hour.add(7, 1, 5);
        assert_eq!(hour.counts(19), [12, 1], "too late");
        assert_eq!(hour.counts(25), [6, 0]);
        hour.add(1000, 1, 3);
        hour.add(1000, 2, 3);
        assert_eq!((hour.counts(1000), hour.windows.len()), (vec![0, 3], 1));
    }

    proptest! {
        #[test]
        fn replicas_merge_to_the_same_counts(
            adds in vec((0..30_u64, 0..3_usize, any::<bool>()), 0..100)
        ) {
            let newest = adds.iter().map(|(stretch, ..)| *stretch).max().unwrap_or(0);
            let mut all = Sliding::new(3);
            let mut parts = [Sliding::new(3), Sliding::new(3)];
            for (stretch, bin, second) in adds {
                all.add(stretch, bin, 1);
                parts[usize::from(second)].add(stretch, bin, 1);
            }
            let [mut one, two] = parts;
            one.merge(&two);
            prop_assert_eq!(one.counts(newest), all.counts(newest));
            prop_assert!(one.windows.len() <= WINDOWS);
        }
    }
}
