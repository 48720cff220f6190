//! What is safe to send again, and the budget that keeps retries from making a bad day worse.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;

/// Retries of one request (L15).
pub const RETRIES: u32 = 1;

/// How an attempt failed, as far as it matters for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No connection came to stand: refused, unreachable, no address, TLS, or too late.
    ConnectFailed,
    /// A reused connection turned out to be closed before anything was written; the request was
    /// given back with its body untouched.
    NotSent,
    /// A reused connection was closed or reset after at least part of the request was written, and
    /// before any byte of an answer.
    ReusedClosed,
    /// Nothing came back in time.
    TimedOut,
    /// Anything else before the first byte of an answer, on a fresh connection too.
    Other,
    /// At least one byte of an answer was seen, be it a 5xx.
    AfterResponse,
}

impl Failure {
    /// Every one, by its number (`as usize`).
    pub const ALL: [Self; 6] = [
        Self::ConnectFailed,
        Self::NotSent,
        Self::ReusedClosed,
        Self::TimedOut,
        Self::Other,
        Self::AfterResponse,
    ];

    /// Those that another attempt may follow.
    pub const RETRIED: [Self; 4] =
        [Self::ConnectFailed, Self::NotSent, Self::ReusedClosed, Self::Other];

    /// Those whose retry takes from the budget.
    pub const BUDGETED: [Self; 2] = [Self::ConnectFailed, Self::Other];

    /// The `reason` label of `weir_retries_total`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectFailed => "connect_failed",
            Self::NotSent => "not_sent",
            Self::ReusedClosed => "reused_closed",
            Self::TimedOut => "timed_out",
            Self::Other => "other",
            Self::AfterResponse => "after_response",
        }
    }
}

/// Whether an attempt that failed may be followed by another, on a fresh connection.
///
/// * `method`: GET, HEAD, OPTIONS, TRACE, PUT and DELETE may be repeated by their definition
///   (RFC 9110, 9.2.2). A completion is a POST: to repeat it is to pay twice.
/// * `body_replayable`: the whole body sent so far is still here (L14).
/// * `attempt`: the number of the attempt that failed, from 1.
/// * `allow_non_idempotent`: the route says that a request lost on a reused connection may be sent
///   again whatever its method (F05).
/// * `take_budget`: [`RetryBudget::try_take`]; asked last, and only where the budget matters, so
///   that nothing is taken for a retry that does not happen.
///
/// The caller looks at the deadline: no retry is begun that could not end in time (F28).
pub fn may_retry(
    failure: Failure,
    method: &Method,
    body_replayable: bool,
    attempt: u32,
    allow_non_idempotent: bool,
    take_budget: impl FnOnce() -> bool,
) -> bool {
    if attempt > RETRIES {
        return false;
    }
    match failure {
        // The backend has seen nothing of the request and the body is untouched, so any method may
        // go again. The budget counts it: if every endpoint refuses, twice as many knocks do not
        // help.
        Failure::ConnectFailed => take_budget(),
        // Seen nothing, too. Not counted: each one uses up an idle connection, so there can be no
        // more of them than connections that had worked before, and a backend that restarts closes
        // all of them at once, which must not become errors (F05).
        Failure::NotSent => true,
        // The usual race: the backend closed an idle connection while the request was on its way.
        // Almost certainly nothing was processed, but it cannot be known, so a method that may not
        // be repeated needs the route's word. Not counted, for the same reason as above.
        Failure::ReusedClosed => {
            body_replayable && (method.is_idempotent() || allow_non_idempotent)
        }
        // A fresh connection that breaks without an answer is a backend in trouble: it may have
        // begun to work. Only what may be repeated anyway, and within the budget.
        Failure::Other => body_replayable && method.is_idempotent() && take_budget(),
        // It is still working on the first one. Sending a second is how a slow backend becomes a
        // dead one.
        Failure::TimedOut => false,
        // The client may have seen part of it, and bytes of two answers are never spliced. An error
        // status is an answer (F28).
        Failure::AfterResponse => false,
    }
}

/// How many requests may be retried: a share of the requests of the last ten seconds, and a few
/// always (L15). One for each backend; shared by all workers.
///
/// Time is cut into seconds; the last ten count, the current one included. So within any ten of
/// them, retries stay below the larger of the share and the floor.
#[derive(Debug)]
pub struct RetryBudget {
    seconds: [AtomicU64; SECONDS],
    percent: u64,
    floor: u64,
}

const SECONDS: usize = 10;

/// A second's counts in one number: which second (the low 20 bits of it, 12 days), requests
/// (24 bits), retries (20 bits). Packed, so that a new second cannot lose half of its reset.
struct Second;

impl Second {
    const REQUEST: u64 = 1 << 20;
    const EPOCHS: u64 = 1 << 20;

    const fn fresh(second: u64) -> u64 {
        (second % Self::EPOCHS) << 44
    }

    const fn requests(word: u64) -> u64 {
        (word >> 20) & 0xff_ffff
    }

    const fn retries(word: u64) -> u64 {
        word & 0xf_ffff
    }

    /// How many seconds before `second` this one was; 0 if it is `second`, or a slightly later one
    /// that a worker with a newer clock has begun. Wrong after a silence of exactly 12 days.
    const fn age(word: u64, second: u64) -> u64 {
        let age = (second % Self::EPOCHS + Self::EPOCHS - (word >> 44)) % Self::EPOCHS;
        let ahead = Self::EPOCHS - age;
        if ahead <= SECONDS as u64 { 0 } else { age }
    }
}

impl Default for RetryBudget {
    /// 20 % of requests over 10 s, at least 3 per second.
    fn default() -> Self {
        Self::new(20, 3)
    }
}

impl RetryBudget {
    /// A budget of `percent` of the requests, and of `least_per_second` retries in any case.
    pub fn new(percent: u32, least_per_second: u32) -> Self {
        Self {
            seconds: std::array::from_fn(|_| AtomicU64::new(0)),
            percent: u64::from(percent),
            floor: u64::from(least_per_second) * SECONDS as u64,
        }
    }

    /// Counts a request: once for each that a client sent, not for its retry.
    #[inline]
    pub fn request(&self, now: Duration) {
        let second = now.as_secs();
        let slot = self.slot(second);
        if Second::age(slot.load(Ordering::Relaxed), second) == 0 {
            // If the second ends in between, the request counts for the next one to use this slot.
            slot.fetch_add(Second::REQUEST, Ordering::Relaxed);
        } else {
            let count = |word| Some(Self::begun(word, second) + Second::REQUEST);
            // The closure never gives `None`.
            let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
        }
    }

    /// Takes one retry if there is one.
    pub fn try_take(&self, now: Duration) -> bool {
        let second = now.as_secs();
        let slot = self.slot(second);
        let mut seen = slot.load(Ordering::Relaxed);
        loop {
            let current = Self::begun(seen, second);
            let (mut requests, mut retries) = (Second::requests(current), Second::retries(current));
            for other in self.seconds.iter().filter(|other| !std::ptr::eq(*other, slot)) {
                let word = other.load(Ordering::Relaxed);
                if Second::age(word, second) < SECONDS as u64 {
                    requests += Second::requests(word);
                    retries += Second::retries(word);
                }
            }
            if retries >= (requests * self.percent / 100).max(self.floor) {
                return false;
            }
            // Whoever takes from the same second in the meantime makes this fail and look again.
            match slot.compare_exchange_weak(
                seen,
                current + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(word) => seen = word,
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a remainder of 10")]
    fn slot(&self, second: u64) -> &AtomicU64 {
        &self.seconds[(second % SECONDS as u64) as usize]
    }

    /// The counts of `second`, from what its slot holds: those of ten seconds ago are forgotten.
    fn begun(word: u64, second: u64) -> u64 {
        if Second::age(word, second) == 0 { word } else { Second::fresh(second) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FAILURES: [Failure; 6] = Failure::ALL;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn l15_what_may_be_sent_again() {
        use Failure::{AfterResponse, ConnectFailed, NotSent, Other, ReusedClosed, TimedOut};
        // failure, method, body is still here, route allows → may
        let table = [
            (ConnectFailed, "POST", false, false, true),
            (ConnectFailed, "GET", true, false, true),
            (NotSent, "POST", false, false, true),
            (NotSent, "GET", true, false, true),
            (ReusedClosed, "GET", true, false, true),
            (ReusedClosed, "DELETE", true, false, true),
            (ReusedClosed, "GET", false, false, false),
            (ReusedClosed, "POST", true, false, false),
            (ReusedClosed, "POST", true, true, true),
            (ReusedClosed, "POST", false, true, false),
            (ReusedClosed, "BREW", true, false, false),
            (Other, "GET", true, false, true),
            (Other, "PUT", true, false, true),
            (Other, "PUT", false, false, false),
            (Other, "POST", true, true, false),
            (TimedOut, "GET", true, true, false),
            (AfterResponse, "GET", true, true, false),
        ];
        for (failure, method, replayable, allowed, expected) in table {
            let method: Method = method.parse().unwrap();
            let may = may_retry(failure, &method, replayable, 1, allowed, || true);
            assert_eq!(may, expected, "{failure:?} {method} {replayable} {allowed}");
        }
    }

    #[test]
    fn the_lists_of_failures_say_what_may_retry_does() {
        for (number, failure) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, number);
            let mut asked = false;
            let budget = || {
                asked = true;
                true
            };
            let may = may_retry(failure, &Method::GET, true, 1, true, budget);
            assert_eq!(may, Failure::RETRIED.contains(&failure), "{failure:?}");
            assert_eq!(asked, Failure::BUDGETED.contains(&failure), "{failure:?}");
        }
    }

    #[test]
    fn l15_nothing_is_retried_twice() {
        for failure in FAILURES {
            assert!(!may_retry(failure, &Method::GET, true, 2, true, || panic!("not asked")));
        }
    }

    #[test]
    fn f28_an_empty_budget_stops_what_can_multiply_load_and_f05_not_the_idle_race() {
        let may = |failure| may_retry(failure, &Method::GET, true, 1, true, || false);
        let allowed: Vec<_> = FAILURES.into_iter().filter(|&failure| may(failure)).collect();
        assert_eq!(allowed, [Failure::NotSent, Failure::ReusedClosed]);
    }

    #[test]
    fn nothing_is_taken_from_the_budget_for_a_retry_that_does_not_happen() {
        for failure in [Failure::Other, Failure::ReusedClosed, Failure::TimedOut] {
            assert!(!may_retry(failure, &Method::POST, true, 1, false, || panic!("not asked")));
        }
    }

    #[test]
    fn l15_an_idle_backend_has_three_retries_a_second() {
        let budget = RetryBudget::default();
        let taken = (0..100).filter(|_| budget.try_take(s(5))).count();
        assert_eq!(taken, 30);
        assert!(!budget.try_take(s(14)));
        assert!(budget.try_take(s(15)), "ten seconds later they are forgotten");
    }

    #[test]
    fn l15_a_busy_backend_has_a_fifth_of_its_requests() {
        let budget = RetryBudget::default();
        for n in 0..1000 {
            budget.request(Duration::from_millis(100_000 + n * 10));
        }
        let taken = (0..1000).filter(|_| budget.try_take(s(109))).count();
        assert_eq!(taken, 200);
        assert!(!budget.try_take(s(110)));
        assert!(budget.try_take(s(119)), "both have been forgotten");
    }

    #[test]
    fn after_days_of_silence_old_counts_do_not_count() {
        let budget = RetryBudget::default();
        assert!((0..30).all(|_| budget.try_take(s(0))));
        assert!(!budget.try_take(s(0)));
        for later in [s(10), s(600_000), s(1_200_000), s(4_000_000_000)] {
            assert!((0..30).all(|_| budget.try_take(later)), "{later:?}");
            assert!(!budget.try_take(later));
        }
    }

    #[test]
    fn a_worker_whose_clock_lags_behind_forgets_nothing() {
        let budget = RetryBudget::default();
        for _ in 0..1000 {
            budget.request(s(20));
        }
        budget.request(s(10));
        assert_eq!((0..1000).filter(|_| budget.try_take(s(20))).count(), 200);
    }

    #[test]
    fn threads_together_take_no_more_than_the_budget() {
        let budget = RetryBudget::default();
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..100).filter(|_| budget.try_take(s(1))).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 30);
    }

    proptest! {
        /// In any ten whole seconds: no more retries than a fifth of the requests of these seconds
        /// and of the nine before them, or the floor.
        #[test]
        fn f28_retries_stay_within_the_budget(
            steps in prop::collection::vec((0_u64..800, 0_u64..60, 0_u64..60), 1..150),
        ) {
            let budget = RetryBudget::default();
            let mut now = Duration::ZERO;
            let (mut requests, mut retries) = (vec![0_u64; 400], vec![0_u64; 400]);
            for (pause, asked, wanted) in steps {
                now += Duration::from_millis(pause);
                let second = usize::try_from(now.as_secs()).unwrap();
                (0..asked).for_each(|_| budget.request(now));
                requests[second] += asked;
                let taken = (0..wanted).filter(|_| budget.try_take(now)).count();
                retries[second] += u64::try_from(taken).unwrap();

                let from = second.saturating_sub(9);
                let offered: u64 = requests[from..=second].iter().sum();
                let repeated: u64 = retries[from..=second].iter().sum();
                // Requests that have just been forgotten may have paid for retries that have not.
                let paid: u64 = requests[from.saturating_sub(9)..=second].iter().sum();
                prop_assert!(repeated <= (paid / 5).max(30));
                if budget.try_take(now) {
                    retries[second] += 1;
                    prop_assert!(repeated < (offered / 5).max(30));
                }
            }
        }
    }
}
