//! How often the same thing is said.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::clock;

/// Time from one line to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// Lets something be said at most once a second, and counts what was not said. For a `static`, so
/// that all threads share one.
#[derive(Debug, Default)]
pub struct Pace {
    // Milliseconds of the process's time at which the next may be said.
    next: AtomicU64,
    unsaid: AtomicU64,
}

impl Pace {
    /// One that lets the first through.
    pub const fn new() -> Self {
        Self { next: AtomicU64::new(0), unsaid: AtomicU64::new(0) }
    }

    /// Whether it may be said now: how many were not, since the last that was.
    pub fn may_say(&self) -> Option<u64> {
        static START: LazyLock<Instant> = LazyLock::new(clock::now);
        self.at(START.elapsed())
    }

    fn at(&self, now: Duration) -> Option<u64> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let next = self.next.load(Relaxed);
        let after = millis(now + PAUSE);
        // Of those who come at the same moment one speaks.
        let may = millis(now) >= next
            && self.next.compare_exchange(next, after, Relaxed, Relaxed).is_ok();
        if !may {
            self.unsaid.fetch_add(1, Relaxed);
            return None;
        }
        Some(self.unsaid.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_second_is_said_and_the_others_are_counted() {
        let pace = Pace::new();
        // Four workers that fail every 50 ms, for 5 s.
        let said: Vec<(u64, u64)> = (0..100)
            .flat_map(|round| [round * 50; 4])
            .filter_map(|at| Some((at, pace.at(Duration::from_millis(at))?)))
            .collect();
        assert_eq!(said, [(0, 0), (1_000, 79), (2_000, 79), (3_000, 79), (4_000, 79)]);
        assert_eq!(pace.at(Duration::from_secs(60)), Some(79));
        assert_eq!(pace.at(Duration::from_secs(70)), Some(0));
    }

    #[test]
    fn of_many_threads_one_speaks_and_nothing_is_forgotten() {
        let pace = Pace::new();
        let said: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..1_000).filter(|_| pace.at(Duration::from_secs(1)).is_some()).count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(said, 1);
        assert_eq!(pace.at(Duration::from_secs(2)), Some(3_999));
    }
}
