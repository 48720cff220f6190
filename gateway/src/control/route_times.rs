//! How long a whole route takes, over the last minute: for the one line that no comparison draws.
//!
//! If what is ramped slows everybody down, as on a shared machine, both sides get worse alike and ratios
//! see nothing. So a ramp may be given an objective for its route.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use policies::evidence::Slowness;
use policies::guardrail::Metric;
use policies::sketch::Sketch;

/// How often a route is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// How far a quantile looks back.
const WINDOW: Duration = Duration::from_secs(60);
/// Fewer requests in the window say nothing.
const LEAST: u64 = 100;

/// Everything counted of each route, as it was every few seconds.
#[derive(Debug, Default)]
pub(super) struct RouteTimes(Mutex<BTreeMap<String, VecDeque<(Instant, Sketch)>>>);

impl RouteTimes {
    /// Whether a route is to be looked at again.
    pub(super) fn is_due(&self, route: &str, now: Instant) -> bool {
        let of = self.0.lock();
        let last = of.get(route).and_then(|seen| seen.back());
        last.is_none_or(|(at, _)| now.duration_since(*at) >= EVERY)
    }

    /// Takes note of all that was counted of a route so far.
    pub(super) fn note(&self, route: &str, now: Instant, all: Sketch) {
        let mut of = self.0.lock();
        let seen = of.entry(route.to_owned()).or_default();
        seen.push_back((now, all));
        // The one before the window begins is what it is counted from.
        while seen.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            seen.pop_front();
        }
    }

    /// Forgets routes that nobody asks for.
    pub(super) fn keep(&self, routes: &[String]) {
        self.0.lock().retain(|route, _| routes.contains(route));
    }

    /// A quantile of the last minute, in seconds; `None` if too little happened.
    pub(super) fn of(&self, route: &str, metric: &Metric) -> Option<f64> {
        let q = match metric.slowness()? {
            Slowness::LatencyP50 => 0.5,
            Slowness::LatencyP95 => 0.95,
            Slowness::LatencyP99 => 0.99,
            Slowness::FirstByteP95 | Slowness::TokenTimeP50 => return None,
        };
        let of = self.0.lock();
        let seen = of.get(route)?;
        let ((_, before), (_, now)) = (seen.front()?, seen.back()?);
        let mut window = Sketch::new();
        for (bucket, (before, now)) in before.counts().iter().zip(now.counts()).enumerate() {
            window.add_count(bucket, now.saturating_sub(*before));
        }
        (window.total() >= LEAST).then(|| window.quantile(q)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_minute_counts_and_little_says_nothing() {
        let times = RouteTimes::default();
        let begun = Instant::now();
        let mut all = Sketch::new();
        let mut at = |seconds: u64, took: f64, count: u64| {
            let now = begun + Duration::from_secs(seconds);
            all.add_count(policies::sketch::bucket_of(took), count);
            times.note("chat", now, all.clone());
            times.of("chat", &Metric::LatencyP99).map(|got| (got * 10.0).round() / 10.0)
        };
        assert_eq!(at(0, 9.0, 500), None, "nobody knows when these were");
        assert_eq!(at(5, 1.0, 99), None);
        assert_eq!(at(10, 1.0, 1), Some(1.0));
        assert_eq!(at(15, 3.0, 10), Some(3.0));
        // A minute later the slow ones are gone.
        assert_eq!(at(90, 1.0, 1_000), Some(1.0));
        assert!(!times.is_due("chat", begun + Duration::from_secs(94)));
        assert!(times.is_due("chat", begun + Duration::from_secs(95)));
        times.keep(&[]);
        assert!(times.is_due("chat", begun));
    }
}
