//! Rates and quantiles of the last ten seconds, from the same tallies that everything reads.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use policies::sketch::{self, Sketch};
use serde_json::{Value, json};

use super::Context;
use crate::clock;
use crate::recorder::tally::{Tally, TallyKey};

/// Seconds a rate looks back.
const WINDOW: usize = 10;

#[derive(Clone, Debug)]
struct Sample {
    requests: u64,
    failures: u64,
    output_tokens: u64,
    sketch: Sketch,
}

impl Sample {
    fn of(tally: &Tally) -> Self {
        Self {
            requests: tally.requests(),
            failures: tally.failures(),
            output_tokens: tally.output_tokens,
            sketch: tally.duration.sketch.clone(),
        }
    }
}

/// Samples, one a second.
#[derive(Debug, Default)]
pub struct Rates(Mutex<VecDeque<(Instant, HashMap<TallyKey, Sample>)>>);

/// Takes a sample every second, for ever.
pub async fn keep_sampling(context: &Context) {
    let mut timer = tokio::time::interval(Duration::from_secs(1));
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let now = context
            .shared
            .tallies
            .by_variant()
            .into_iter()
            .map(|(key, tally)| (key, Sample::of(&tally)))
            .collect();
        let mut samples = context.rates.0.lock();
        samples.push_back((clock::now(), now));
        while samples.len() > WINDOW + 1 {
            samples.pop_front();
        }
    }
}

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
    sketch: Sketch,
}

impl Window {
    /// A quantile of the duration in the window, seconds.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        self.sketch.quantile(q)
    }

    /// The members that routes and variants share.
    pub fn json(&self) -> Value {
        json!({
            "requests": self.requests,
            "failures": self.failures,
            "requests_per_second": self.per_second,
            "error_rate": self.error_rate,
            "output_tokens_per_second": self.tokens_per_second,
            "p50": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "p99": self.quantile(0.99),
        })
    }
}

impl Rates {
    /// Sum over the keys that `wanted` accepts.
    pub fn window(&self, now: &[(TallyKey, Tally)], wanted: impl Fn(&TallyKey) -> bool) -> Window {
        let samples = self.0.lock();
        let oldest = samples.front();
        let seconds = oldest.map_or(1.0, |(at, _)| at.elapsed().as_secs_f64()).max(0.001);
        let (mut requests, mut recent, mut failures, mut tokens, mut failed) = (0, 0, 0, 0, 0);
        let mut difference = Sketch::new();
        for (key, tally) in now.iter().filter(|(key, _)| wanted(key)) {
            let current = Sample::of(tally);
            let before = oldest.and_then(|(_, samples)| samples.get(key));
            let since =
                |now: u64, field: fn(&Sample) -> u64| now.saturating_sub(before.map_or(0, field));
            requests += current.requests;
            failed += current.failures;
            recent += since(current.requests, |s| s.requests);
            failures += since(current.failures, |s| s.failures);
            tokens += since(current.output_tokens, |s| s.output_tokens);
            for bucket in 0..sketch::BUCKETS {
                let count = current.sketch.counts()[bucket]
                    .saturating_sub(before.map_or(0, |b| b.sketch.counts()[bucket]));
                if count > 0 {
                    difference.add_count(bucket, count);
                }
            }
        }
        Window {
            requests,
            failures: failed,
            per_second: recent as f64 / seconds,
            error_rate: (recent > 0).then(|| failures as f64 / recent as f64),
            tokens_per_second: tokens as f64 / seconds,
            sketch: difference,
        }
    }
}
