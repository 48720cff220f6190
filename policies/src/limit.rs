//! How often, and how many at a time. Both are asked on every request: atomics only, no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// A rate with a burst, as one number.
///
/// The generic cell rate algorithm: instead of a count of tokens and the time of the last refill it
/// keeps the one moment at which the bucket will be full again, so a check is one compare-and-swap.
/// Source: ITU-T I.371 (2004), annex A. Admits at most `rate × t + burst` units in any time `t`.
#[derive(Debug)]
pub struct RateLimit {
    /// When the bucket is full again, nanoseconds on the caller's scale.
    full_at: AtomicU64,
    /// Nanoseconds that one unit takes to come back.
    interval: u64,
    /// Nanoseconds that a whole bucket takes to come back.
    tolerance: u64,
    burst: u64,
}

/// A rate that cannot be enforced.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "a rate of {per_second} per second with a burst of {burst} cannot be kept: both must be above \
     zero, and the burst must come back within 100 years"
)]
pub struct InvalidRate {
    /// The rate asked for.
    pub per_second: f64,
    /// The burst asked for.
    pub burst: u64,
}

impl RateLimit {
    /// A full bucket of `burst` units that refills at `per_second`.
    ///
    /// The time between two units is rounded up to whole nanoseconds, so that the rate is never
    /// exceeded; up to a million per second it falls short by less than 0.1 %.
    pub fn new(per_second: f64, burst: u64) -> Result<Self, InvalidRate> {
        const CENTURY: f64 = 100.0 * 365.25 * 86_400.0 * 1e9;
        let invalid = InvalidRate { per_second, burst };
        let interval = (1e9 / per_second).ceil();
        // Written so that NaN fails too.
        if !(per_second > 0.0 && interval <= CENTURY && burst > 0) {
            return Err(invalid);
        }
        #[expect(clippy::cast_possible_truncation, reason = "a century of nanoseconds fits")]
        let interval = (interval as u64).max(1);
        let Some(tolerance) = interval.checked_mul(burst).filter(|&all| all as f64 <= CENTURY)
        else {
            return Err(invalid);
        };
        Ok(Self { full_at: AtomicU64::new(0), interval, tolerance, burst })
    }

    /// The same, where refusing is no way out: a rate or a burst that cannot be kept becomes the
    /// nearest one that can, and one that is no number at all the slowest there is. So what was meant
    /// as a limit is never none.
    pub fn nearest(per_second: f64, burst: u64) -> Self {
        const CENTURY: u64 = 3_155_760_000_000_000_000;
        let interval = (1e9 / per_second).ceil();
        #[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates")]
        let interval = if per_second > 0.0 { (interval as u64).clamp(1, CENTURY) } else { CENTURY };
        let burst = burst.clamp(1, CENTURY / interval);
        Self { full_at: AtomicU64::new(0), interval, tolerance: interval * burst, burst }
    }

    /// Takes `cost` units at `now` (nanoseconds since an arbitrary start), or says how long to wait
    /// until they are there.
    ///
    /// A cost above [`RateLimit::burst`] is refused always; where the cost is an estimate, take at
    /// most the burst and [`charge`](Self::charge) the rest.
    #[inline]
    pub fn check(&self, now: u64, cost: u64) -> Result<(), Duration> {
        let needed = self.interval.saturating_mul(cost);
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let then = full_at.max(now).saturating_add(needed);
            let wait = (then - now).saturating_sub(self.tolerance);
            if wait > 0 {
                return Err(Duration::from_nanos(wait));
            }
            // Relaxed: nothing else is published with this number.
            match self.full_at.compare_exchange_weak(
                full_at,
                then,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(seen) => full_at = seen,
            }
        }
    }

    /// Takes `cost` units that have been used already, into debt if need be: tokens are known only
    /// at the end of an answer. Later checks wait until the debt is paid.
    pub fn charge(&self, now: u64, cost: u64) {
        let needed = self.interval.saturating_mul(cost);
        let add = |full_at: u64| Some(full_at.max(now).saturating_add(needed));
        // The closure never gives `None`, so neither arm is a failure.
        let _ = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Units that a check at `now` would find: `x-ratelimit-remaining-*`.
    pub fn remaining(&self, now: u64) -> u64 {
        let used = self.full_at.load(Ordering::Relaxed).saturating_sub(now);
        self.tolerance.saturating_sub(used) / self.interval
    }

    /// Time until the bucket is full if nothing more is taken: `x-ratelimit-reset-*`.
    pub fn reset_after(&self, now: u64) -> Duration {
        Duration::from_nanos(self.full_at.load(Ordering::Relaxed).saturating_sub(now))
    }

    /// Units of a full bucket: `x-ratelimit-limit-*`.
    pub fn burst(&self) -> u64 {
        self.burst
    }
}

/// How many are at it right now, with a cap (L13). Clones count together.
#[derive(Clone, Debug)]
pub struct InFlight(Arc<Count>);

#[derive(Debug)]
struct Count {
    now: AtomicU32,
    cap: AtomicU32,
}

impl InFlight {
    /// None at it, `cap` allowed.
    pub fn new(cap: u32) -> Self {
        Self(Arc::new(Count { now: AtomicU32::new(0), cap: AtomicU32::new(cap) }))
    }

    /// A place, given back when the guard is dropped; `None` if all are taken.
    #[inline]
    pub fn try_enter(&self) -> Option<InFlightGuard> {
        let cap = self.0.cap.load(Ordering::Relaxed);
        // Not add-then-check: that would turn others away while it is above the cap.
        let one_more = |now: u32| (now < cap).then(|| now + 1);
        self.0.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(InFlightGuard(Arc::clone(&self.0)))
    }

    /// How many are at it.
    pub fn count(&self) -> u32 {
        self.0.now.load(Ordering::Relaxed)
    }

    /// How many may be.
    pub fn cap(&self) -> u32 {
        self.0.cap.load(Ordering::Relaxed)
    }

    /// Changes the cap. Those above a lower one finish; nobody new comes in until they have.
    pub fn set_cap(&self, cap: u32) {
        self.0.cap.store(cap, Ordering::Relaxed);
    }
}

/// One place taken in an [`InFlight`].
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub struct InFlightGuard(Arc<Count>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    proptest! {
        /// The law of the whole thing, over every stretch of every history.
        #[test]
        fn never_more_than_rate_times_time_plus_burst(
            per_second in 0.1_f64..5000.0,
            burst in 1_u64..50,
            steps in prop::collection::vec((0_u64..SECOND / 2, 0_u64..8), 1..120),
        ) {
            let limit = RateLimit::new(per_second, burst).unwrap();
            let mut now = 12_345;
            let mut admitted: Vec<(u64, u64)> = Vec::new();
            for (pause, cost) in steps {
                now += pause;
                if limit.check(now, cost).is_ok() {
                    admitted.push((now, cost));
                }
            }
            for (first, (from, _)) in admitted.iter().enumerate() {
                let mut units = 0;
                for (at, cost) in &admitted[first..] {
                    units += cost;
                    let seconds = (at - from) as f64 / 1e9;
                    prop_assert!(units as f64 <= per_second * seconds + burst as f64 + 1e-6);
                }
            }
        }

        #[test]
        fn whoever_waits_as_told_is_admitted_and_not_sooner(
            per_second in 0.1_f64..5000.0,
            burst in 1_u64..50,
            costs in prop::collection::vec(1_u64..50, 1..40),
        ) {
            let limit = RateLimit::new(per_second, burst).unwrap();
            let mut now = 0;
            for cost in costs.into_iter().map(|cost| cost.min(burst)) {
                if let Err(wait) = limit.check(now, cost) {
                    let wait = u64::try_from(wait.as_nanos()).unwrap();
                    prop_assert!(limit.check(now + wait - 1, cost).is_err());
                    now += wait;
                    prop_assert_eq!(limit.check(now, cost), Ok(()));
                }
            }
        }

        #[test]
        fn what_remains_is_what_a_check_finds(
            per_second in 0.1_f64..5000.0, burst in 1_u64..50, used in 0_u64..50, now in 0..SECOND,
        ) {
            let limit = RateLimit::new(per_second, burst).unwrap();
            let _ = limit.check(0, used.min(burst));
            let remaining = limit.remaining(now);
            prop_assert!(limit.check(now, remaining + 1).is_err());
            prop_assert_eq!(limit.check(now, remaining), Ok(()));
        }
    }

    #[test]
    fn a_whole_burst_passes_at_once_also_at_odd_rates() {
        for per_second in [3.0, 7.0, 0.3, 1e6 / 7.0] {
            let limit = RateLimit::new(per_second, 7).unwrap();
            assert_eq!(limit.remaining(0), 7);
            assert!((0..7).all(|_| limit.check(0, 1).is_ok()));
            assert!(limit.check(0, 1).is_err());
            assert_eq!(limit.remaining(0), 0);
        }
    }

    #[test]
    fn a_steady_caller_below_the_rate_is_never_refused() {
        let limit = RateLimit::new(10.0, 1).unwrap();
        assert!((0..1000).all(|n| limit.check(n * SECOND / 10, 1).is_ok()));
    }

    #[test]
    fn tokens_used_beyond_the_estimate_are_paid_back_in_time() {
        let per_minute = RateLimit::new(600.0 / 60.0, 600).unwrap();
        per_minute.check(0, 1).unwrap();
        per_minute.charge(0, 1199);
        assert_eq!(per_minute.remaining(0), 0);
        assert_eq!(per_minute.check(0, 1), Err(Duration::from_millis(60_100)));
        assert_eq!(per_minute.reset_after(0), Duration::from_secs(120));
        assert!(per_minute.check(60_100 * SECOND / 1000, 1).is_ok());
    }

    #[test]
    fn a_cost_above_the_burst_is_refused_even_when_the_bucket_is_full() {
        let limit = RateLimit::new(10.0, 5).unwrap();
        assert!(limit.check(100 * SECOND, 6).is_err());
        assert!(limit.check(100 * SECOND, u64::MAX).is_err());
        assert_eq!(limit.remaining(100 * SECOND), 5, "a refusal takes nothing");
    }

    #[test]
    fn f25_a_clock_that_stands_still_or_goes_back_gives_nothing_away() {
        let limit = RateLimit::new(1.0, 2).unwrap();
        limit.check(10 * SECOND, 2).unwrap();
        assert!(limit.check(10 * SECOND, 1).is_err());
        assert!(limit.check(5 * SECOND, 1).is_err());
    }

    #[test]
    fn a_rate_that_cannot_be_kept_is_refused_when_it_is_made() {
        for (rate, burst) in
            [(0.0, 1), (-1.0, 1), (f64::NAN, 1), (1.0, 0), (1e-12, 1), (0.001, u64::MAX)]
        {
            assert!(RateLimit::new(rate, burst).is_err(), "{rate} {burst}");
        }
        assert!(RateLimit::new(f64::INFINITY, 1).is_ok());
        assert!(RateLimit::new(1e12, 1_000_000).is_ok());
    }

    #[test]
    fn threads_together_take_no_more_than_the_burst() {
        let limit = RateLimit::new(1e-3, 1000).unwrap();
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).filter(|_| limit.check(5, 1).is_ok()).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 1000);
    }

    #[test]
    fn l13_no_more_than_the_cap_are_in_flight_and_every_place_comes_back() {
        let in_flight = InFlight::new(2);
        let first = in_flight.try_enter().unwrap();
        let second = in_flight.clone().try_enter().unwrap();
        assert!(in_flight.try_enter().is_none());
        assert_eq!(in_flight.count(), 2);
        drop(first);
        let third = in_flight.try_enter().unwrap();
        in_flight.set_cap(1);
        drop(second);
        assert!(in_flight.try_enter().is_none(), "one is one too many");
        drop(third);
        assert!(in_flight.try_enter().is_some());
        assert_eq!((in_flight.count(), in_flight.cap()), (0, 1));
        assert!(InFlight::new(0).try_enter().is_none());
    }
}
