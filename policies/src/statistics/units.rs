//! Which units had an event, each counted once: what the tests count where units are sticky.
//!
//! With a sticky unit requests are not independent: one busy client is one throw of the dice.
//! Measured on clients that differ, with nothing wrong: counting requests, 18 % false breaches at
//! alpha 5 %; counting affected units, 2 %. So a unit counts once in an experiment, at its first
//! event, in the epoch of that event and for the variant it then had. This is also what keeps one
//! noisy client from rolling back a release.
//!
//! Each replica keeps its own set, of bounded size; sets of replicas unite, in any order and with
//! repeats, to the same.

use std::collections::BTreeMap;

/// So many affected units are kept of a guardrail, over all its variants; 64 KiB of hashes.
pub const AFFECTED: usize = 8_192;

/// So many sampled units are kept of an experiment, over all its variants; 512 KiB of hashes.
pub const SAMPLED: usize = 65_536;

/// When and where a unit was first seen. The earliest wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct First {
    /// The epoch: the generation that dealt the request.
    pub epoch: u64,
    /// The variant's place in its experiment.
    pub variant: u8,
}

/// Units by their hash, each with where it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Units {
    limit: usize,
    closed: bool,
    first: BTreeMap<u64, First>,
}

impl Units {
    /// Nobody yet, and at most so many: [`AFFECTED`] or [`SAMPLED`].
    pub fn new(limit: usize) -> Self {
        Self { limit, closed: false, first: BTreeMap::new() }
    }

    /// Counts a unit, if it has not been yet. Once the set is full it is closed, for good and for
    /// all variants alike: to close one side only would bias every comparison.
    pub fn add(&mut self, unit_hash: u64, first: First) {
        if let Some(known) = self.first.get_mut(&unit_hash) {
            // A slow request of an earlier epoch may end after one of a later.
            *known = first.min(*known);
        } else if !self.closed {
            self.first.insert(unit_hash, first);
            self.closed = self.first.len() >= self.limit;
        }
    }

    /// Unites with another replica's set. Not cut to the limit, so that order does not matter.
    pub fn merge(&mut self, other: &Self) {
        for (unit, first) in &other.first {
            let known = self.first.entry(*unit).or_insert(*first);
            *known = (*first).min(*known);
        }
        self.closed |= other.closed;
    }

    /// Whether units are missing because the set was full.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many units, by where they were first seen.
    pub fn counts(&self) -> BTreeMap<First, u64> {
        let mut counts = BTreeMap::new();
        for first in self.first.values() {
            *counts.entry(*first).or_default() += 1;
        }
        counts
    }
}

/// Whether a unit belongs to the sample: `mix64(hash) < 2^64 * rate`.
///
/// `rate` is a fraction, fixed when the experiment starts so that some 20 000 units are to be
/// expected. Mixed first, because the hash's top bits choose the variant already. The mixing is
/// SplitMix64's (Steele, Lea, Flood, OOPSLA 2014).
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "stops at 0 and 2^64")]
pub fn is_sampled(unit_hash: u64, rate: f64) -> bool {
    if rate >= 1.0 {
        return true;
    }
    let mut z = unit_hash;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    z < (rate * 2_f64.powi(64)) as u64
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_unit_counts_once_where_it_was_first_seen() {
        let mut units = Units::new(AFFECTED);
        let at = |epoch, variant| First { epoch, variant };
        for first in [at(3, 1), at(2, 0), at(2, 0), at(5, 1)] {
            units.add(42, first);
        }
        units.add(43, at(3, 1));
        assert_eq!(units.counts(), BTreeMap::from([(at(2, 0), 1), (at(3, 1), 1)]));
    }

    #[test]
    fn a_full_set_is_closed_for_all_variants() {
        let mut units = Units::new(3);
        for unit in 0..10 {
            units.add(unit, First { epoch: 1, variant: (unit % 2) as u8 });
        }
        assert!(units.is_closed());
        assert_eq!(units.counts().values().sum::<u64>(), 3);
        // Those that are in still learn of an earlier epoch.
        units.add(0, First { epoch: 0, variant: 0 });
        assert_eq!(units.counts()[&First { epoch: 0, variant: 0 }], 1);
    }

    #[test]
    fn a_sample_is_as_large_as_its_rate_and_the_same_everywhere() {
        // Hashes of one variant: their top bits are alike.
        let of_variant = (0..100_000_u64).map(|n| (n * 0x0001_0000_0001) >> 4);
        let sampled = of_variant.filter(|hash| is_sampled(*hash, 0.2)).count();
        assert!((19_500..20_500).contains(&sampled), "{sampled}");
        assert!(is_sampled(u64::MAX, 1.0) && !is_sampled(7, 0.0) && !is_sampled(7, f64::NAN));
    }

    proptest! {
        /// Law 3: any replicas, any order, with repeats.
        #[test]
        fn replicas_unite_to_the_same_whatever_the_order(
            seen in vec((0..40_u64, 0..5_u64, 0..2_u8, 0..3_usize), 0..100),
            order in Just(vec![0, 1, 2, 0, 2, 1, 1]).prop_shuffle()
        ) {
            let mut all = Units::new(AFFECTED);
            let mut parts = vec![Units::new(AFFECTED); 3];
            for (unit, epoch, variant, replica) in seen {
                all.add(unit, First { epoch, variant });
                parts[replica].add(unit, First { epoch, variant });
            }
            let mut united = Units::new(AFFECTED);
            for replica in order {
                united.merge(&parts[replica]);
            }
            prop_assert_eq!(united, all);
        }
    }
}
