//! Times sorted into buckets: added by one thread, read by any.
//!
//! An add is two loads and two stores, without a lock and without a bus lock. That is right only
//! because each histogram has a single writer: a worker has its own, and so has the store's thread.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::counters::bump;

/// Upper bounds for whole requests and what a backend takes for them, in microseconds.
pub const REQUEST_BOUNDS: [u64; 19] = [
    5_000,
    10_000,
    25_000,
    50_000,
    75_000,
    100_000,
    250_000,
    500_000,
    750_000,
    1_000_000,
    2_500_000,
    5_000_000,
    7_500_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    600_000_000,
];

/// Upper bounds for the gateway's own share of a request, in microseconds: 25 µs doubling to 0.1 s.
pub const OVERHEAD_BOUNDS: [u64; 13] =
    [25, 50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400];

/// Upper bounds for single steps, in microseconds: a handshake, a connect, a commit, a late wake-up.
pub const STEP_BOUNDS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// Times of whole requests.
pub type RequestTimes = Histogram<{ REQUEST_BOUNDS.len() + 1 }>;
/// Times that were the gateway's own.
pub type OverheadTimes = Histogram<{ OVERHEAD_BOUNDS.len() + 1 }>;
/// Times of single steps.
pub type StepTimes = Histogram<{ STEP_BOUNDS.len() + 1 }>;

impl Default for RequestTimes {
    fn default() -> Self {
        Self::new(&REQUEST_BOUNDS)
    }
}

impl Default for OverheadTimes {
    fn default() -> Self {
        Self::new(&OVERHEAD_BOUNDS)
    }
}

impl Default for StepTimes {
    fn default() -> Self {
        Self::new(&STEP_BOUNDS)
    }
}

/// Counts of times by bucket; the last bucket has no bound.
#[derive(Debug)]
pub struct Histogram<const BUCKETS: usize> {
    bounds: &'static [u64],
    counts: [AtomicU64; BUCKETS],
    sum_micros: AtomicU64,
}

impl<const BUCKETS: usize> Histogram<BUCKETS> {
    /// An empty one; `bounds` in microseconds, rising, one fewer than buckets.
    pub const fn new<const BOUNDS: usize>(bounds: &'static [u64; BOUNDS]) -> Self {
        const { assert!(BUCKETS == BOUNDS + 1) }
        Self {
            bounds,
            counts: [const { AtomicU64::new(0) }; BUCKETS],
            sum_micros: AtomicU64::new(0),
        }
    }

    /// One more. On the writer's thread only.
    #[inline]
    pub fn add(&self, took: Duration) {
        self.add_micros(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// [`Self::add`] of whole microseconds.
    #[inline]
    pub fn add_micros(&self, micros: u64) {
        bump(&self.counts[self.bounds.partition_point(|&bound| bound < micros)], 1);
        bump(&self.sum_micros, micros);
    }

    /// What it says now. Its number is the sum of its buckets, so that a scrape agrees with itself.
    pub fn read(&self) -> Counted {
        Counted {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Relaxed)).collect(),
            sum_micros: self.sum_micros.load(Relaxed),
        }
    }
}

/// What a histogram said, or several of the same bounds together.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Counted {
    /// Upper bounds in microseconds; none before anything was merged in.
    pub bounds: &'static [u64],
    /// By bucket, not cumulative; one more than bounds.
    pub counts: Vec<u64>,
    /// Sum of all times, microseconds.
    pub sum_micros: u64,
}

impl Counted {
    /// All of `parts` together.
    pub fn of<'a, const BUCKETS: usize>(
        parts: impl IntoIterator<Item = &'a Histogram<BUCKETS>>,
    ) -> Self {
        let mut all = Self::default();
        parts.into_iter().for_each(|part| all.merge(&part.read()));
        all
    }

    /// Adds `other`, which has the same bounds, or nothing yet.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.is_empty() {
            self.clone_from(other);
            return;
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.sum_micros += other.sum_micros;
    }

    /// How many times were added.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_goes_to_the_first_bucket_that_holds_it() {
        let (one, two) = (OverheadTimes::default(), OverheadTimes::default());
        [0, 25, 26].into_iter().for_each(|micros| one.add_micros(micros));
        two.add(Duration::from_millis(103));
        let all = Counted::of([&one, &two]);
        assert_eq!((all.counts[0], all.counts[1], all.counts[13]), (2, 1, 1));
        assert_eq!((all.count(), all.sum_micros), (4, 103_051));
        assert_eq!(all.counts.len(), all.bounds.len() + 1);
    }

    #[test]
    fn bounds_rise() {
        for bounds in [&REQUEST_BOUNDS[..], &OVERHEAD_BOUNDS, &STEP_BOUNDS] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
        }
    }
}
