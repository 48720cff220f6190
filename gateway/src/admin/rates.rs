//! Rates and quantiles of the last seconds, from the same tallies that everything reads.
//!
//! Once a second the tallies are compared with what they were a second ago. Of each second only the
//! differences are kept, so ten of them cost little more than one.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use policies::sketch::Sketch;
use schemars::JsonSchema;
use serde::Serialize;

use crate::clock;
use crate::recorder::tally::{Tally, TallyKey};

/// Seconds a rate looks back, and the quantiles of the live stream with it.
pub const WINDOW: usize = 10;

/// Counts since the start, as far as rates need them.
#[derive(Clone, Debug)]
struct Sums {
    requests: u64,
    failures: u64,
    begun: u64,
    refused: u64,
    output_tokens: u64,
    duration: Sketch,
    first_byte: Sketch,
}

impl Default for Sums {
    fn default() -> Self {
        Self {
            requests: 0,
            failures: 0,
            begun: 0,
            refused: 0,
            output_tokens: 0,
            duration: Sketch::new(),
            first_byte: Sketch::new(),
        }
    }
}

/// Where the buckets of a sketch went up, and by how much.
type Rises = Box<[(usize, u64)]>;

fn rises(before: &Sketch, now: &Sketch) -> Rises {
    let pairs = before.counts().iter().zip(now.counts()).enumerate();
    pairs.filter(|(_, (b, n))| n > b).map(|(at, (b, n))| (at, n - b)).collect()
}

fn raise(sketch: &mut Sketch, rises: &[(usize, u64)]) {
    for (bucket, count) in rises {
        sketch.add_count(*bucket, *count);
    }
}

/// What happened between two ticks.
#[derive(Clone, Debug, Default)]
struct Step {
    counts: Counts,
    output_tokens: u64,
    duration: Rises,
    first_byte: Rises,
}

/// What one (route, experiment, variant) did between two ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that ended.
    pub requests: u64,
    /// Of them, those that failed by the backend's fault.
    pub failures: u64,
    /// Requests that were assigned and begun.
    pub begun: u64,
    /// Requests that were refused before.
    pub refused: u64,
}

impl Counts {
    /// Adds `other` to this.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.failures += other.failures;
        self.begun += other.begun;
        self.refused += other.refused;
    }
}

/// One key: at the last tick, at the first tick of the window, and the steps in between.
#[derive(Debug, Default)]
struct Seen {
    last: Sums,
    base: Sums,
    steps: VecDeque<Step>,
}

impl Seen {
    fn tick(&mut self, tally: &Tally) -> Counts {
        let last = &self.last;
        let step = Step {
            counts: Counts {
                requests: tally.requests().saturating_sub(last.requests),
                failures: tally.failures().saturating_sub(last.failures),
                begun: tally.started.saturating_sub(last.begun),
                refused: tally.watched.refused.saturating_sub(last.refused),
            },
            output_tokens: tally.output_tokens.saturating_sub(last.output_tokens),
            duration: rises(&last.duration, &tally.duration.sketch),
            first_byte: rises(&last.first_byte, &tally.first_byte.sketch),
        };
        let counts = step.counts;
        self.last.follow(&step);
        self.steps.push_back(step);
        if self.steps.len() > WINDOW
            && let Some(oldest) = self.steps.pop_front()
        {
            self.base.follow(&oldest);
        }
        counts
    }
}

impl Sums {
    fn follow(&mut self, step: &Step) {
        self.requests += step.counts.requests;
        self.failures += step.counts.failures;
        self.begun += step.counts.begun;
        self.refused += step.counts.refused;
        self.output_tokens += step.output_tokens;
        raise(&mut self.duration, &step.duration);
        raise(&mut self.first_byte, &step.first_byte);
    }
}

#[derive(Debug, Default)]
struct Kept {
    // When the ticks of the window were, oldest first; one more than there are steps.
    at: VecDeque<Instant>,
    keys: HashMap<TallyKey, Seen>,
}

/// What was counted, second by second.
#[derive(Debug, Default)]
pub struct Rates(Mutex<Kept>);

/// What happened to one (route, experiment, variant), since the start and in the last seconds.
#[derive(Clone, Debug)]
pub struct Window {
    /// Requests since the start.
    pub requests: u64,
    /// Of them, those that failed by the backend's fault.
    pub failures: u64,
    /// Requests a second.
    pub per_second: f64,
    /// Share of requests that failed by the backend's fault; `None` without requests.
    pub error_rate: Option<f64>,
    /// Tokens made a second.
    pub tokens_per_second: f64,
    /// Durations in the window.
    pub duration: Sketch,
    /// Times to the first byte in the window.
    pub first_byte: Sketch,
}

/// What a route or variant did, since the start of the process and in the last ten seconds.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Recent {
    /// Requests since the start.
    requests: u64,
    /// Of them, those that failed by the backend's fault.
    failures: u64,
    /// Requests a second, lately.
    requests_per_second: f64,
    /// Part of the requests that failed by the backend's fault, lately; null without requests.
    error_rate: Option<f64>,
    /// Tokens made a second, lately.
    output_tokens_per_second: f64,
    /// Quantiles of the duration, lately, in seconds; null without requests.
    p50: Option<f64>,
    /// The same.
    p95: Option<f64>,
    /// The same.
    p99: Option<f64>,
}

impl Window {
    /// A quantile of the duration in the window, seconds.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        self.duration.quantile(q)
    }

    /// The members that routes and variants share.
    pub fn recent(&self) -> Recent {
        Recent {
            requests: self.requests,
            failures: self.failures,
            requests_per_second: self.per_second,
            error_rate: self.error_rate,
            output_tokens_per_second: self.tokens_per_second,
            p50: self.quantile(0.5),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
        }
    }
}

impl Rates {
    /// Another second is over: what each key did in it, in the order of `now`, and how long it was.
    pub fn tick(&self, now: &[(TallyKey, Tally)]) -> (Vec<Counts>, Duration) {
        let mut kept = self.0.lock();
        let at = clock::now();
        let took = kept.at.back().map_or(Duration::from_secs(1), |last| at - *last);
        kept.at.push_back(at);
        if kept.at.len() > WINDOW + 1 {
            kept.at.pop_front();
        }
        let counts = now.iter().map(|(key, tally)| kept.keys.entry(*key).or_default().tick(tally));
        (counts.collect(), took)
    }

    /// Sum over the keys that `wanted` accepts.
    pub fn window(&self, now: &[(TallyKey, Tally)], wanted: impl Fn(&TallyKey) -> bool) -> Window {
        self.window_of(now.iter().filter(|(key, _)| wanted(key)))
    }

    /// Sum over `keys`.
    pub fn window_of<'a>(&self, keys: impl Iterator<Item = &'a (TallyKey, Tally)>) -> Window {
        let kept = self.0.lock();
        let seconds = kept.at.front().map_or(1.0, |at| at.elapsed().as_secs_f64()).max(0.001);
        let (mut requests, mut recent, mut failures, mut tokens, mut failed) = (0, 0, 0, 0, 0);
        let (mut duration, mut first_byte) = (Sketch::new(), Sketch::new());
        let nothing = Sums::default();
        for (key, tally) in keys {
            let base = kept.keys.get(key).map_or(&nothing, |seen| &seen.base);
            requests += tally.requests();
            failed += tally.failures();
            recent += tally.requests().saturating_sub(base.requests);
            failures += tally.failures().saturating_sub(base.failures);
            tokens += tally.output_tokens.saturating_sub(base.output_tokens);
            // Most keys of a large configuration rest.
            if tally.requests() > base.requests {
                raise(&mut duration, &rises(&base.duration, &tally.duration.sketch));
                raise(&mut first_byte, &rises(&base.first_byte, &tally.first_byte.sketch));
            }
        }
        Window {
            requests,
            failures: failed,
            per_second: recent as f64 / seconds,
            error_rate: (recent > 0).then(|| failures as f64 / recent as f64),
            tokens_per_second: tokens as f64 / seconds,
            duration,
            first_byte,
        }
    }
}

#[cfg(test)]
mod tests {
    use policies::Outcome;

    use super::*;
    use crate::recorder::row::{Micros, Row};
    use crate::recorder::tally::Tallies;

    const KEY: TallyKey = TallyKey { route: "chat", experiment: "", revision: 0, variant: "" };

    fn row(micros: u64) -> Row {
        Row { t_total: Micros::from_micros(micros), ..Row::default() }
    }

    #[test]
    fn a_second_is_what_came_since_the_one_before_and_a_window_is_the_last_ten() {
        let tallies = Tallies::new(1);
        let cell = tallies.cell(KEY);
        let rates = Rates::default();
        rates.tick(&tallies.by_variant());
        cell.add(0, &row(1_000_000), Outcome::Timeout);
        let (counts, _) = rates.tick(&tallies.by_variant());
        assert_eq!((counts[0].requests, counts[0].failures), (1, 1));
        for _ in 0..WINDOW - 1 {
            cell.add(0, &row(1_000), Outcome::Ok);
            let (counts, _) = rates.tick(&tallies.by_variant());
            assert_eq!((counts[0].requests, counts[0].failures), (1, 0));
        }
        let now = tallies.by_variant();
        let window = rates.window(&now, |_| true);
        assert_eq!((window.requests, window.failures), (10, 1));
        assert_eq!(window.error_rate, Some(0.1));
        assert!(window.quantile(1.0) > Some(0.9), "the slow one is still in it");
        rates.tick(&now);
        let window = rates.window(&now, |_| true);
        assert_eq!((window.requests, window.error_rate), (10, Some(0.0)));
        assert!(window.quantile(1.0) < Some(0.1), "the slow one has left it");
    }
}
