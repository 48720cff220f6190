//! Are groups treated alike? Counts by group, their spread, and each against a reference.
//!
//! Groups come from a header or a feedback field that the operator names; unknown is a group. Point
//! values agree with fairlearn. The largest less the smallest is too large on average when there
//! are many small groups, so intervals and flags compare with a fixed reference group.
//!
//! Sources: Newcombe, "Interval estimation for the difference between independent proportions",
//! Statistics in Medicine 17, 1998 (method 10); Wilson, JASA 22, 1927; Katz, Baptista, Azen, Pike,
//! Biometrics 34, 1978; flags: Uniform Guidelines on Employee Selection Procedures, 29 CFR 1607.4 D;
//! equal opportunity: Hardt, Price, Srebro, NeurIPS 2016.

use super::Interval;

/// The two-sided 95 % point of the normal distribution.
pub const Z: f64 = 1.959_963_984_540_054;

/// Groups smaller than this show no ratio.
pub const LEAST_SHOWN: u64 = 30;

/// So many of a group must have been selected, and so many not, to show a ratio.
pub const LEAST_EITHER: u64 = 5;

/// Groups smaller than this are never flagged.
pub const LEAST_FLAGGED: u64 = 100;

/// The four-fifths rule.
pub const FOUR_FIFTHS: f64 = 0.8;

/// Below this part of a group labelled, say so beside what rests on labels.
pub const COVERAGE: f64 = 0.5;

/// How many, of how many, were selected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Group {
    /// Exposures of the group.
    pub n: u64,
    /// Those with the outcome that matters: a positive prediction.
    pub selected: u64,
    /// Those whose label came back and was positive.
    pub positives: u64,
    /// Of these, those that were selected.
    pub true_positives: u64,
    /// Those whose label came back and was negative.
    pub negatives: u64,
    /// Of these, those that were selected.
    pub false_positives: u64,
}

impl Group {
    /// Counts one exposure, with its label if that is known.
    pub fn add(&mut self, selected: bool, label: Option<bool>) {
        self.n += 1;
        self.selected += u64::from(selected);
        if let Some(label) = label {
            self.positives += u64::from(label);
            self.negatives += u64::from(!label);
            self.true_positives += u64::from(label && selected);
            self.false_positives += u64::from(!label && selected);
        }
    }

    /// Adds what another replica counted.
    pub fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.selected += other.selected;
        self.positives += other.positives;
        self.true_positives += other.true_positives;
        self.negatives += other.negatives;
        self.false_positives += other.false_positives;
    }

    /// Share of the group that was selected.
    pub fn rate(&self) -> Option<f64> {
        part(self.selected, self.n)
    }

    /// Share of the positives that were selected (TPR).
    pub fn true_positive_rate(&self) -> Option<f64> {
        part(self.true_positives, self.positives)
    }

    /// Share of the negatives that were selected (FPR).
    pub fn false_positive_rate(&self) -> Option<f64> {
        part(self.false_positives, self.negatives)
    }

    /// Share of the group whose label is known. Labels arrive more often for those who were
    /// selected: below [`COVERAGE`] rates that rest on them say little.
    pub fn coverage(&self) -> Option<f64> {
        part(self.positives + self.negatives, self.n)
    }
}

fn part(of: u64, n: u64) -> Option<f64> {
    (n > 0).then(|| of as f64 / n as f64)
}

/// How far the groups are apart, each number over all groups at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Largest rate less smallest.
    pub statistical_parity_difference: f64,
    /// Smallest rate over largest; 1 if nobody was selected.
    pub disparate_impact_ratio: f64,
    /// Largest TPR less smallest; `None` where a group has no positives.
    pub equal_opportunity_difference: Option<f64>,
    /// The larger of the TPR's and the FPR's difference; `None` where either is not known.
    pub equalized_odds_difference: Option<f64>,
}

/// The spread over `groups`; `None` without any, or with an empty one.
pub fn spread(groups: &[Group]) -> Option<Spread> {
    let (least, most) = range(groups.iter().map(Group::rate))?;
    let gap = |rates: Option<(f64, f64)>| rates.map(|(least, most)| most - least);
    let tpr = gap(range(groups.iter().map(Group::true_positive_rate)));
    let fpr = gap(range(groups.iter().map(Group::false_positive_rate)));
    Some(Spread {
        statistical_parity_difference: most - least,
        disparate_impact_ratio: if most > 0.0 { least / most } else { 1.0 },
        equal_opportunity_difference: tpr,
        equalized_odds_difference: tpr.zip(fpr).map(|(tpr, fpr)| tpr.max(fpr)),
    })
}

/// Smallest and largest; `None` if one is not known, or there is none.
fn range(rates: impl Iterator<Item = Option<f64>>) -> Option<(f64, f64)> {
    let rates: Option<Vec<f64>> = rates.collect();
    let rates = rates.filter(|rates| !rates.is_empty())?;
    let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
    Some((least, rates.iter().copied().fold(f64::NEG_INFINITY, f64::max)))
}

/// Wilson's interval of a rate; 0 to 1 without trials.
///
/// `centre (k + z^2/2)/(n + z^2)`, `half-width z/(n+z^2) * sqrt(k*(n-k)/n + z^2/4)`. Holds for one
/// look; [`rate::interval`](super::rate::interval) holds for all.
pub fn wilson(k: u64, n: u64, z: f64) -> Interval {
    if n == 0 {
        return Interval { lower: 0.0, upper: 1.0 };
    }
    let (k, n) = (k.min(n) as f64, n as f64);
    let centre = (k + z * z / 2.0) / (n + z * z);
    let half = z / (n + z * z) * (k * (n - k) / n + z * z / 4.0).sqrt();
    Interval { lower: (centre - half).max(0.0), upper: (centre + half).min(1.0) }
}

/// One rate compared with another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// First less second.
    pub difference: f64,
    /// Newcombe's interval of the difference.
    pub newcombe: Interval,
    /// First over second; NaN if both are 0.
    pub ratio: f64,
    /// Katz's interval of the ratio; 0.5 added to both counts and both sizes if a count is 0.
    pub katz: Interval,
}

/// Compares `k1` of `n1` with `k2` of `n2`, at the normal point `z`; `None` if either is empty.
pub fn compare(k1: u64, n1: u64, k2: u64, n2: u64, z: f64) -> Option<Compared> {
    if n1 == 0 || n2 == 0 {
        return None;
    }
    let (one, two) = (wilson(k1, n1, z), wilson(k2, n2, z));
    let (k1, n1, k2, n2) = (k1.min(n1) as f64, n1 as f64, k2.min(n2) as f64, n2 as f64);
    let (p1, p2) = (k1 / n1, k2 / n2);
    let d = p1 - p2;
    let newcombe = Interval {
        lower: d - (p1 - one.lower).hypot(two.upper - p2),
        upper: d + (one.upper - p1).hypot(p2 - two.lower),
    };
    let more = if k1 == 0.0 || k2 == 0.0 { 0.5 } else { 0.0 };
    let (k1, n1, k2, n2) = (k1 + more, n1 + more, k2 + more, n2 + more);
    let spread = (z * (1.0 / k1 - 1.0 / n1 + 1.0 / k2 - 1.0 / n2).max(0.0).sqrt()).exp();
    let centre = (k1 / n1) / (k2 / n2);
    let katz = Interval { lower: centre / spread, upper: centre * spread };
    Some(Compared { difference: d, newcombe, ratio: p1 / p2, katz })
}

/// What to say about a group beside the reference group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Too few to show a ratio.
    Insufficient,
    /// Nothing.
    Fine,
    /// Selected less than four fifths as often, but it may be chance, or the group is small.
    Watch,
    /// Selected less than four fifths as often, and not by chance.
    Flag,
}

/// A group's standing against the reference group: the largest, fixed at the start.
pub fn standing(group: &Group, reference: &Group, z: f64) -> Standing {
    let enough = |group: &Group| {
        let others = group.n.saturating_sub(group.selected);
        group.n >= LEAST_SHOWN && group.selected >= LEAST_EITHER && others >= LEAST_EITHER
    };
    if !enough(group) || !enough(reference) {
        return Standing::Insufficient;
    }
    let compared = compare(group.selected, group.n, reference.selected, reference.n, z);
    match compared {
        Some(compared) if compared.ratio < FOUR_FIFTHS => {
            if compared.katz.upper < 1.0 && group.n >= LEAST_FLAGGED {
                Standing::Flag
            } else {
                Standing::Watch
            }
        }
        Some(_) => Standing::Fine,
        None => Standing::Insufficient,
    }
}

/// How much less alike `T` treats two groups than `C` does: the difference of their parity
/// differences, with `half-width sqrt(w_T^2 + w_C^2)`.
///
/// As a guardrail: breached when the lower end exceeds 0.05. Each of `treated` and `control` is
/// (group, reference group). `None` if one is empty.
pub fn parity_change(
    treated: (&Group, &Group),
    control: (&Group, &Group),
    z: f64,
) -> Option<Interval> {
    let gap = |(group, reference): (&Group, &Group)| {
        let shown = compare(group.selected, group.n, reference.selected, reference.n, z)?;
        // The parity difference is the size of the gap, in whichever direction.
        let half = (shown.newcombe.upper - shown.newcombe.lower) / 2.0;
        Some((shown.difference.abs(), half))
    };
    let ((of_t, w_t), (of_c, w_c)) = (gap(treated)?, gap(control)?);
    let (change, half) = (of_t - of_c, w_t.hypot(w_c));
    Some(Interval { lower: change - half, upper: change + half })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(n: u64, selected: u64) -> Group {
        Group { n, selected, ..Group::default() }
    }

    #[test]
    fn four_fifths_need_numbers_behind_them() {
        let reference = group(1000, 500);
        let stands = |n, selected| standing(&group(n, selected), &reference, Z);
        assert_eq!(stands(1000, 300), Standing::Flag);
        assert_eq!(stands(1000, 450), Standing::Fine);
        assert_eq!(stands(40, 14), Standing::Watch, "small");
        assert_eq!(stands(99, 10), Standing::Watch, "never flagged below 100");
        assert_eq!(stands(29, 10), Standing::Insufficient);
        assert_eq!(stands(1000, 4), Standing::Insufficient);
        assert_eq!(stands(1000, 996), Standing::Insufficient);
        assert_eq!(standing(&group(1000, 300), &group(10, 5), Z), Standing::Insufficient);
    }

    #[test]
    fn groups_without_labels_have_no_rates_that_rest_on_them() {
        let mut one = Group::default();
        one.add(true, None);
        one.add(false, Some(true));
        assert_eq!((one.rate(), one.coverage()), (Some(0.5), Some(0.5)));
        assert_eq!((one.true_positive_rate(), one.false_positive_rate()), (Some(0.0), None));
        let all = spread(&[one, one]).unwrap();
        assert_eq!(all.equal_opportunity_difference, Some(0.0));
        assert_eq!(all.equalized_odds_difference, None);
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[one, Group::default()]), None);
        assert_eq!(spread(&[group(5, 0), group(7, 0)]).unwrap().disparate_impact_ratio, 1.0);
    }

    #[test]
    fn counts_of_replicas_add_up() {
        let (mut a, mut b, mut all) = (Group::default(), Group::default(), Group::default());
        for n in 0..100_u32 {
            let (selected, label) = (n % 3 == 0, (n % 4 > 0).then_some(n % 2 == 0));
            all.add(selected, label);
            if n % 5 == 0 { a.add(selected, label) } else { b.add(selected, label) }
        }
        a.merge(&b);
        assert_eq!(a, all);
    }

    #[test]
    fn nobody_selected_still_has_an_interval() {
        let none = compare(0, 50, 10, 50, Z).unwrap();
        assert!(none.ratio == 0.0 && none.katz.lower > 0.0 && none.katz.upper < 1.0, "{none:?}");
        assert!(compare(0, 50, 0, 50, Z).unwrap().ratio.is_nan());
        assert_eq!(compare(0, 0, 1, 2, Z), None);
        assert_eq!(wilson(0, 0, Z), Interval { lower: 0.0, upper: 1.0 });
        assert_eq!(wilson(0, 10, Z).lower, 0.0);
        assert!((wilson(10, 10, Z).upper - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_variant_that_treats_groups_less_alike_is_seen() {
        let control = (&group(10_000, 5_000), &group(10_000, 5_000));
        let treated = (&group(5_000, 1_500), &group(5_000, 2_500));
        assert!(parity_change(treated, control, Z).unwrap().lower > 0.05);
        let same = parity_change(control, control, Z).unwrap();
        assert!(same.lower < 0.0 && same.upper > 0.0);
        assert_eq!(parity_change(control, (&group(0, 0), &group(1, 1)), Z), None);
    }
}
