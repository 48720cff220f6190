//! What is seen without deciding anything: units that do not arrive as dealt, and guardrails that
//! are only observed. Told once when it begins and once when it ends (`Change::seen`).
//!
//! Every experiment's sample ratio is looked at, with a ramp or without, so that somebody hears of a
//! mismatch who never asks for results.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use policies::guardrail::{Action, Judgement};
use policies::statistics::{Verdict, sample_ratio};
use serde_json::{Map, Value, json};

use super::Control;
use crate::clock;
use crate::evidence::{Known, arrivals, ratios};
use crate::store::State as Running;
use crate::telemetry::events;
use crate::webhooks::alert::Alert;
use crate::webhooks::{Event, message};

/// How often sample ratios are looked at.
const EVERY: Duration = Duration::from_secs(5);

/// What is told and has not ended: the event, the experiment, and the metric of a guardrail.
type Told = (Event, String, String);

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Watch {
    told: Mutex<BTreeSet<Told>>,
    /// The smallest p-values so far, by experiment.
    p_values: Mutex<Vec<(String, f64)>>,
    looked: Mutex<Instant>,
}

impl Watch {
    /// With what the store has.
    pub(super) fn new(lasting: &[Alert]) -> Self {
        let told = lasting
            .iter()
            .map(|lasts| (lasts.event, lasts.experiment.clone(), lasts.about.clone()));
        Self {
            told: Mutex::new(told.collect()),
            p_values: Mutex::default(),
            looked: Mutex::new(clock::now()),
        }
    }

    /// A ramp begins: its guardrails are judged anew.
    pub(super) fn begins(&self, experiment: &str) {
        self.told
            .lock()
            .retain(|(event, of, _)| *event != Event::GuardrailBreached || of != experiment);
    }
}

impl Control {
    /// The smallest p-value of "units arrive as dealt" so far, by experiment.
    pub fn sample_ratios(&self) -> Vec<(String, f64)> {
        self.watch.p_values.lock().clone()
    }

    /// Looks whether units arrive as they were dealt, now and then.
    pub(super) async fn watch_ratios(&self) {
        {
            let mut looked = self.watch.looked.lock();
            if looked.elapsed() < EVERY {
                return;
            }
            *looked = clock::now();
        }
        self.shared.evidence.count_begun(&self.shared.tallies);
        let view = self.changes.view();
        let goes_on = |of: &str| view.live.get(of).is_some_and(|live| live.state != Running::Ended);
        // Of what is over nothing is told any more, and what comes under its name is something new.
        self.watch.told.lock().retain(|(_, of, _)| goes_on(of));
        let mut p_values = Vec::new();
        for (experiment, live) in view.live.iter().filter(|(experiment, _)| goes_on(experiment)) {
            let Some((reached, numbers)) = self.shared.evidence.with_known(experiment, |known| {
                let log_e = ratios(&known.evidence, &known.watched.guardrails);
                (known.sample_ratio(log_e), Numbers::of(known))
            }) else {
                continue;
            };
            let p = reached.map(sample_ratio::Reached::p_value);
            let smallest = p.into_iter().fold(1.0, f64::min);
            p_values.push((experiment.clone(), smallest));
            let is_mismatch = reached.iter().any(|each| each.mismatch(sample_ratio::ALPHA));
            let told = (Event::SampleRatioMismatch, experiment.clone(), String::new());
            if is_mismatch == self.watch.told.lock().contains(&told) {
                continue;
            }
            let (event, reason) = if is_mismatch {
                let reason = format!(
                    "units do not arrive as they were dealt (p = {smallest:.2e}): {}",
                    numbers.words()
                );
                (Event::SampleRatioMismatch, reason)
            } else {
                (Event::SampleRatioCleared, "the evidence began anew".to_owned())
            };
            let evidence = json!({
                "p_value": smallest,
                "assigned": p[0],
                "served": p[1],
                "feedback": p[2],
                "threshold": sample_ratio::ALPHA,
                "variants": numbers.json(),
            });
            let mut members = Map::new();
            members.insert("evidence".into(), evidence);
            let entry = message::seen(event, experiment, reason, members, live.revision);
            self.tell(told, is_mismatch, entry).await;
        }
        *self.watch.p_values.lock() = p_values;
    }

    /// Tells of guardrails that are observed only and are breached; a breach of the others is a
    /// rollback, and told with it.
    pub(super) async fn watch_observed(
        &self,
        experiment: &str,
        ramp: &super::Told,
        revision: u64,
        judged: &[(u8, Judgement)],
    ) {
        let breached = |(_, judged): &&(u8, Judgement)| {
            judged.verdict == Verdict::Breached && judged.action == Action::Observe
        };
        for (number, judgement) in judged.iter().filter(breached) {
            let (variant, metric) = (ramp.name(*number), judgement.metric.to_string());
            // Of several arms each is told.
            let about = match ramp.arms.len() {
                0 | 1 => metric.clone(),
                _ => format!("{metric} of {variant}"),
            };
            let told = (Event::GuardrailBreached, experiment.to_owned(), about);
            if self.watch.told.lock().contains(&told) {
                continue;
            }
            let reason =
                format!("guardrail {metric} of {variant} is breached; it is observed only");
            let mut members = Map::new();
            members.insert("variant".into(), variant.into());
            members.insert("metric".into(), metric.into());
            members.insert("evidence".into(), json!({ "guardrails": [judgement] }));
            let entry =
                message::seen(Event::GuardrailBreached, experiment, reason, members, revision);
            self.tell(told, true, entry).await;
        }
    }

    async fn tell(&self, of: Told, begins: bool, entry: crate::store::AuditRow) {
        // If the store is away it is seen again at the next look.
        if let Err(error) = self.changes.see(entry).await {
            events::warning("weir.watch.not_stored", &error.to_string());
            return;
        }
        let mut told = self.watch.told.lock();
        if begins {
            told.insert(of);
        } else {
            told.remove(&of);
        }
    }
}

/// How units arrived, by variant: over all revisions.
struct Numbers(Vec<(String, f64, u64)>);

impl Numbers {
    fn of(known: &Known) -> Self {
        let (expected, observed) = arrivals(&known.evidence, known.variants().len());
        let numbers = known.variants().iter().zip(expected).zip(observed);
        Self(
            numbers
                .map(|((name, expected), observed)| (name.clone(), expected, observed))
                .collect(),
        )
    }

    fn words(&self) -> String {
        let each = |(name, expected, observed): &(String, f64, u64)| {
            format!("{name} {observed} of {expected:.0} expected")
        };
        self.0.iter().map(each).collect::<Vec<_>>().join(", ")
    }

    fn json(&self) -> Value {
        let each = |(name, expected, observed): &(String, f64, u64)| {
            (name.clone(), json!({ "expected": expected, "observed": observed }))
        };
        Value::Object(self.0.iter().map(each).collect())
    }
}
