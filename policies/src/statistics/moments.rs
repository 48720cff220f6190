//! Numbers on their way to a mean: count, mean and spread, in few bytes, mergeable.
//!
//! Welford's update in each replica and the pairwise merge between replicas; never a sum of squares
//! less the square of a sum, which loses the digits that matter.
//!
//! A sticky unit is one throw of the dice, however many requests it sends. For those the spread of
//! the mean is worked out from [`GROUPS`] groups of units instead of from single values.
//!
//! Sources: Welford, Technometrics 4(3), 1962; Chan, Golub, LeVeque, "Algorithms for computing the
//! sample variance", The American Statistician 37(3), 1983; groups: Deng, Knoblich, Lu, "Applying
//! the delta method in metric analytics", KDD 2018.

/// How many groups units are dealt to.
pub const GROUPS: usize = 200;

/// Below so many groups with a value, nothing is known about the spread.
pub const LEAST_GROUPS: usize = 50;

/// Count, mean and spread of numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Moments {
    /// How many.
    pub n: u64,
    /// Their mean.
    pub mean: f64,
    /// Sum of squared distances from the mean.
    pub m2: f64,
    /// How many were not 0.
    pub nonzero: u64,
}

impl Moments {
    /// With one more value. A value that is no number makes the rest unusable: nothing is judged by
    /// it any more.
    pub fn add(&mut self, value: f64) {
        self.n += 1;
        let gap = value - self.mean;
        self.mean += gap / self.n as f64;
        self.m2 += gap * (value - self.mean);
        self.nonzero += u64::from(value != 0.0);
    }

    /// Adds everything the other has counted.
    ///
    /// `n = n1+n2; d = mean2-mean1; mean = mean1 + d*n2/n; M2 = M2_1 + M2_2 + d*d*n1*n2/n`.
    pub fn merge(&mut self, other: &Self) {
        let n = self.n.saturating_add(other.n);
        if n == 0 {
            return;
        }
        let (n1, n2) = (self.n as f64, other.n as f64);
        let gap = other.mean - self.mean;
        self.mean += gap * n2 / n as f64;
        self.m2 += other.m2 + gap * gap * n1 * n2 / n as f64;
        self.n = n;
        self.nonzero = self.nonzero.saturating_add(other.nonzero);
    }

    /// The variance, with `n - 1`; `None` for fewer than two values, or if one was no number.
    pub fn variance(&self) -> Option<f64> {
        (self.n >= 2 && self.m2.is_finite() && self.mean.is_finite())
            .then(|| (self.m2 / (self.n as f64 - 1.0)).max(0.0))
    }
}

/// Values above it count as it: heavy tails say little and cost much.
///
/// By default the 99.9 % quantile of `C` at the end of warm-up, frozen from then on.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Cap(
    /// The largest value that counts as itself.
    pub f64,
);

impl Cap {
    /// The value to count, and whether it was cut; how many were is reported beside the result.
    pub fn apply(self, value: f64) -> (f64, bool) {
        if value > self.0 { (self.0, true) } else { (value, false) }
    }
}

/// Counts and sums of one variant's values by group of units, for the spread of a mean over sticky
/// units.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups {
    /// By group: how many values, and their sum. Always [`GROUPS`] long.
    groups: Box<[(u64, f64)]>,
}

impl Default for Groups {
    fn default() -> Self {
        Self { groups: vec![(0, 0.0); GROUPS].into() }
    }
}

impl Groups {
    /// Counts a value of the unit with this hash.
    ///
    /// The group comes from the hash's lowest 16 bits; the bucket, and so the variant, comes from
    /// the highest.
    pub fn add(&mut self, unit_hash: u64, value: f64) {
        self.add_many(unit_hash, value, 1);
    }

    /// Counts a value so many times.
    pub fn add_many(&mut self, unit_hash: u64, value: f64, count: u64) {
        let group = &mut self.groups[Self::group_of(unit_hash)];
        group.0 = group.0.saturating_add(count);
        group.1 += value * count as f64;
    }

    /// From counts and sums by group, [`GROUPS`] of them; missing ones are empty, further ones are
    /// left out.
    pub fn of_parts(parts: impl IntoIterator<Item = (u64, f64)>) -> Self {
        let mut groups = Self::default();
        for (group, part) in groups.groups.iter_mut().zip(parts) {
            *group = part;
        }
        groups
    }

    /// Counts and sums by group, [`GROUPS`] of them.
    pub fn parts(&self) -> &[(u64, f64)] {
        &self.groups
    }

    /// Which group, below [`GROUPS`], the unit with this hash belongs to.
    pub fn group_of(unit_hash: u64) -> usize {
        ((unit_hash & 0xffff) % GROUPS as u64) as usize
    }

    /// Adds everything the other has counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.groups.iter_mut().zip(&other.groups) {
            mine.0 = mine.0.saturating_add(theirs.0);
            mine.1 += theirs.1;
        }
    }

    /// The variance of the mean of all values:
    /// `G/(G-1) * sum((s_g - mean*n_g)^2) / (sum n_g)^2`, over the `G` groups that have values.
    ///
    /// `None` below [`LEAST_GROUPS`] of them, or if a value was no number.
    pub fn variance_of_mean(&self) -> Option<f64> {
        variance_of_mean(self.groups.iter().map(|(n, sum)| (*n as f64, *sum)))
    }
}

/// [`Groups::variance_of_mean`] of counts and sums that are kept in another way.
pub fn variance_of_mean(groups: impl Iterator<Item = (f64, f64)> + Clone) -> Option<f64> {
    let filled = || groups.clone().filter(|(n, _)| *n > 0.0);
    let count = filled().count();
    if count < LEAST_GROUPS {
        return None;
    }
    let n: f64 = filled().map(|(n, _)| n).sum();
    let mean = filled().map(|(_, sum)| sum).sum::<f64>() / n;
    let squares: f64 = filled().map(|(n, sum)| (sum - mean * n).powi(2)).sum();
    let variance = count as f64 / (count as f64 - 1.0) * squares / (n * n);
    variance.is_finite().then_some(variance)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn moments(values: &[f64]) -> Moments {
        let mut moments = Moments::default();
        values.iter().for_each(|value| moments.add(*value));
        moments
    }

    #[test]
    fn a_small_spread_far_from_zero_is_not_lost() {
        let values = [1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0];
        assert_eq!(moments(&values).variance(), Some(30.0));
    }

    #[test]
    fn too_few_values_and_broken_ones_have_no_variance() {
        assert_eq!(moments(&[]).variance(), None);
        assert_eq!(moments(&[1.0]).variance(), None);
        assert_eq!(moments(&[1.0, f64::NAN, 2.0]).variance(), None);
        assert_eq!(moments(&[1.0, f64::INFINITY]).variance(), None);
        assert_eq!(moments(&[3.0, 3.0]).variance(), Some(0.0));
        assert_eq!(moments(&[0.0, 3.0, 0.0]).nonzero, 1);
    }

    #[test]
    fn a_cap_cuts_and_says_so() {
        assert_eq!(Cap(5.0).apply(4.0), (4.0, false));
        assert_eq!(Cap(5.0).apply(6.0), (5.0, true));
        assert!(Cap(5.0).apply(f64::NAN).0.is_nan());
    }

    #[test]
    fn one_busy_unit_does_not_make_a_mean_certain() {
        let (mut busy, mut all) = (Groups::default(), Moments::default());
        for unit in 0..100_u64 {
            let answers = if unit == 0 { 10_000 } else { 10 };
            for _ in 0..answers {
                let value = if unit % 2 == 0 { 1.0 } else { 0.0 };
                busy.add(unit, value);
                all.add(value);
            }
        }
        let by_value = all.variance().unwrap() / all.n as f64;
        assert!(busy.variance_of_mean().unwrap() > 20.0 * by_value);
    }

    #[test]
    fn few_groups_say_nothing_about_the_spread() {
        let mut groups = Groups::default();
        for unit in 0..49 {
            groups.add(unit, 1.0);
        }
        assert_eq!(groups.variance_of_mean(), None);
        groups.add(49, 1.0);
        assert_eq!(groups.variance_of_mean(), Some(0.0));
        groups.add(49, f64::NAN);
        assert_eq!(groups.variance_of_mean(), None);
    }

    /// A value for each unit: groups then know the same as the values themselves.
    #[test]
    fn with_one_value_a_unit_both_variances_agree() {
        let (mut groups, mut all) = (Groups::default(), Moments::default());
        for n in 0..200_000_u64 {
            let value = (n as f64 * 0.618_033_988_749_894_9).fract();
            // Hashes with the low bits of a good hash.
            groups.add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20, value);
            all.add(value);
        }
        let (grouped, plain) =
            (groups.variance_of_mean().unwrap(), all.variance().unwrap() / all.n as f64);
        // The sequence is more even than chance, so only the upper side says something.
        assert!(grouped < 1.5 * plain, "{grouped} {plain}");
    }

    proptest! {
        /// Law 3, for numbers: any split over any replicas, merged in any order.
        #[test]
        fn splitting_over_replicas_changes_nothing(
            values in vec((-1e6..1e6_f64, 0..5_usize, any::<u64>()), 0..200), from in 0..5_usize
        ) {
            let (mut all, mut all_groups) = (Moments::default(), Groups::default());
            let mut parts = vec![(Moments::default(), Groups::default()); 5];
            for (value, replica, unit) in values {
                all.add(value);
                all_groups.add(unit, value);
                parts[replica].0.add(value);
                parts[replica].1.add(unit, value);
            }
            let (mut merged, mut merged_groups) = (Moments::default(), Groups::default());
            for at in 0..5 {
                let (moments, groups) = &parts[(from + at) % 5];
                merged.merge(moments);
                merged_groups.merge(groups);
            }
            prop_assert_eq!((merged.n, merged.nonzero), (all.n, all.nonzero));
            prop_assert!((merged.mean - all.mean).abs() <= 1e-9 * (1.0 + all.mean.abs()));
            prop_assert!((merged.m2 - all.m2).abs() <= 1e-9 * (1.0 + all.m2));
            let counts = |groups: &Groups| groups.groups.iter().map(|g| g.0).collect::<Vec<_>>();
            prop_assert_eq!(counts(&merged_groups), counts(&all_groups));
            if let (Some(a), Some(b)) = (merged_groups.variance_of_mean(), all_groups.variance_of_mean()) {
                prop_assert!((a - b).abs() <= 1e-9 * b);
            }
        }
    }
}
