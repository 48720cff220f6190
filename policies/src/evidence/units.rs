//! Units, each remembered once, with the epoch that saw it first.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// Merged sets may hold so many times what one replica collects.
const MERGED: usize = 4;

/// The unit has been served by the variant it was assigned to.
pub(super) const SERVED: u8 = 1;
/// Feedback came back from the unit.
pub(super) const ANSWERED: u8 = 2;

/// A bijection of 64 bits without pattern (SplitMix64's last steps): bucket and group of a unit come
/// from its hash itself, so whoever samples units must look at something else.
pub fn mix64(hash: u64) -> u64 {
    let mut z = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Where a unit was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) revision: u64,
    pub(super) variant: u8,
}

/// How many units were first seen at a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitCount {
    /// All of them.
    pub seen: u64,
    /// Those served by the variant they were assigned to.
    pub served: u64,
    /// Those that sent feedback.
    pub answered: u64,
}

impl UnitCount {
    fn change(&mut self, flags: u8, add: bool) {
        let step = |count: &mut u64, by: bool| {
            let by = u64::from(by);
            *count = if add { count.saturating_add(by) } else { count.saturating_sub(by) };
        };
        step(&mut self.seen, true);
        step(&mut self.served, flags & SERVED > 0);
        step(&mut self.answered, flags & ANSWERED > 0);
    }
}

/// A bounded set of units. When it is full it closes, for all variants together and for good: what
/// it says stays true of the units in it.
///
/// Merging is a union in which the earliest place wins, so order, splitting and repeats do not
/// matter. A merged set may hold four times the bound; beyond that it keeps those with the smallest
/// mixed hash, which again is the same in every order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Units {
    bound: usize,
    closed: bool,
    /// By mixed hash.
    units: HashMap<u64, (Place, u8), BuildHasherDefault<Mixed>>,
    /// Follows from `units`; kept, because every look asks.
    counts: BTreeMap<Place, UnitCount>,
}

/// What is hashed is a hash already, under a key that nobody outside knows.
#[derive(Clone, Copy, Debug, Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = mix64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, mixed: u64) {
        self.0 = mixed;
    }
}

impl Units {
    pub(super) fn new(bound: usize) -> Self {
        Self { bound, closed: false, units: HashMap::default(), counts: BTreeMap::new() }
    }

    /// Notes that a unit was at a place; an earlier place takes the unit over, a later one is
    /// nothing new.
    pub(super) fn see(&mut self, mixed: u64, place: Place, flags: u8) {
        match self.units.get(&mixed) {
            // The ordinary case: a unit that was here before.
            Some((first, had)) if *first == place && had | flags == *had => return,
            Some(_) => {}
            None => {
                self.closed |= self.units.len() >= self.bound;
                if self.closed {
                    return;
                }
            }
        }
        self.put(mixed, place, flags);
    }

    fn put(&mut self, mixed: u64, place: Place, flags: u8) {
        let (before, after) = match self.units.get(&mixed) {
            Some((first, _)) if *first < place => return,
            Some((first, had)) if *first == place && had | flags == *had => return,
            Some((first, had)) if *first == place => (Some((*first, *had)), (place, had | flags)),
            Some(before) => (Some(*before), (place, flags)),
            None => (None, (place, flags)),
        };
        if let Some((place, flags)) = before {
            self.counts.entry(place).or_default().change(flags, false);
            self.counts.retain(|_, count| count.seen > 0);
        }
        self.units.insert(mixed, after);
        self.counts.entry(after.0).or_default().change(after.1, true);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.closed |= other.closed;
        for (mixed, (place, flags)) in &other.units {
            self.put(*mixed, *place, *flags);
        }
        let most = self.bound.saturating_mul(MERGED);
        if self.units.len() > most {
            self.closed = true;
            let mut all: Vec<u64> = self.units.keys().copied().collect();
            all.sort_unstable();
            for mixed in all.split_off(most) {
                if let Some((place, flags)) = self.units.remove(&mixed) {
                    self.counts.entry(place).or_default().change(flags, false);
                }
            }
        }
        self.counts.retain(|_, count| count.seen > 0);
    }

    /// Whether it takes no more units.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many units it holds.
    pub fn len(&self) -> usize {
        self.units.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// How many units were first seen in this epoch on this variant.
    pub fn count(&self, revision: u64, variant: u8) -> UnitCount {
        self.counts.get(&Place { revision, variant }).copied().unwrap_or_default()
    }

    /// Everything in it: closed, then mixed hash, place and flags of each, ascending.
    pub(super) fn parts(&self) -> (bool, impl ExactSizeIterator<Item = (u64, Place, u8)>) {
        let all = self.units.iter().map(|(mixed, (place, flags))| (*mixed, *place, *flags));
        let mut all: Vec<_> = all.collect();
        all.sort_unstable();
        (self.closed, all.into_iter())
    }

    /// From [`Units::parts`]; what is beyond the bound of merged sets is cut.
    pub(super) fn of_parts(
        bound: usize,
        closed: bool,
        parts: impl IntoIterator<Item = (u64, Place, u8)>,
    ) -> Self {
        let mut units = Self::new(bound);
        units.closed = closed;
        for (mixed, place, flags) in parts.into_iter().take(bound.saturating_mul(MERGED)) {
            units.put(mixed, place, flags);
        }
        units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(revision: u64, variant: u8) -> Place {
        Place { revision, variant }
    }

    #[test]
    fn a_unit_counts_once_where_it_was_first() {
        let mut units = Units::new(10);
        units.see(1, at(5, 0), 0);
        units.see(1, at(7, 1), SERVED);
        assert_eq!(units.count(5, 0), UnitCount { seen: 1, served: 0, answered: 0 });
        assert_eq!(units.count(7, 1), UnitCount::default());
        // A late record of an earlier epoch.
        units.see(1, at(4, 0), SERVED);
        assert_eq!(units.count(5, 0).seen, 0);
        assert_eq!(units.count(4, 0), UnitCount { seen: 1, served: 1, answered: 0 });
        units.see(1, at(5, 0), ANSWERED);
        assert_eq!(units.count(4, 0).answered, 0);
        units.see(1, at(4, 0), ANSWERED);
        assert_eq!(units.count(4, 0).answered, 1);
    }

    #[test]
    fn a_full_set_closes_for_all_and_a_merged_one_is_bounded() {
        let mut units = Units::new(2);
        for unit in 0..4 {
            units.see(unit, at(1, (unit % 2) as u8), 0);
        }
        assert!(units.is_closed());
        assert_eq!((units.count(1, 0).seen, units.count(1, 1).seen), (1, 1));
        let mut all = Units::new(2);
        for replica in 0..9 {
            let mut units = Units::new(2);
            units.see(100 - replica, at(1, 0), 0);
            all.merge(&units);
        }
        assert_eq!((all.len(), all.is_closed()), (8, true));
        assert_eq!(all.count(1, 0).seen, 8);
    }
}
