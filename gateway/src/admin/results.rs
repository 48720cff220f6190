//! `GET /experiments/{e}/results`: what each variant did, and how it compares with control.
//!
//! Evidence is copied out of the book and worked on beside the runtime: bounds cost milliseconds.
//! Every number holds however often one looks. Revisions are compared each by itself (`against`); the
//! numbers of one variant (`variant`) are over all of them, and `revisions` tells them apart.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use policies::evidence::{Evidence, UnitKind};
use policies::guardrail::{Action, Alphas, Guardrail, Metric};
use policies::statistics::rule::Reached;
use policies::statistics::sample_ratio;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Context;
use super::error::ApiError;
use super::extract::{Path, Query};
use super::requests::moment;
use crate::clock;
use crate::control::Ramp;
use crate::evidence::{Known, Watched, arrivals, ratios};

mod against;
mod said;
mod variant;

use said::Verdict;

/// Chance that an interval ever misses the truth.
const ALPHA: f64 = 0.05;

/// Most latency buckets that are given.
const MOST_BUCKETS: usize = 871;

/// `?since=&sketch=`.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Only from here on: a revision, a duration before now, or a time.
    since: Option<String>,
    /// Adds at most so many latency buckets of each variant.
    sketch: Option<usize>,
}

/// From where on results are asked for.
enum Since {
    Revision(u64),
    Moment(i64),
}

/// What a ramp holds a variant to, and what that has reached: one evidence has one verdict.
struct Ramped {
    variant: u8,
    guardrails: Vec<Guardrail>,
    alphas: Alphas,
    reached: Vec<Reached>,
}

/// What is looked at: a copy, so that nobody waits meanwhile.
struct Look {
    evidence: Evidence,
    names: Vec<String>,
    control: u8,
    watched: Watched,
    reached: BTreeMap<(u8, Metric), Reached>,
    /// What the ramp whose evidence this is holds its variants to.
    ramped: Vec<Ramped>,
    began: BTreeMap<u64, i64>,
    /// Whether it is all that is known: only then is something to be remembered of it.
    is_whole: bool,
    buckets: usize,
}

/// `GET /experiments/{e}/results`.
pub async fn results(
    State(context): State<Context>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, ApiError> {
    let since = match asked.since.as_deref() {
        None => None,
        Some(text) => Some(since(text)?),
    };
    let shared = &context.shared;
    shared.evidence.count_begun(&shared.tallies);
    let buckets = asked.sketch.unwrap_or(0).min(MOST_BUCKETS);
    let ramp = context.control.ramp(&name);
    let look = shared
        .evidence
        .with_known(&name, |known| Look::at(known, since.as_ref(), buckets, ramp.as_deref()))
        .ok_or_else(|| ApiError::missing(format!("experiment {name:?} does not exist")))?;
    let sequence = look.evidence.sequence();
    let worked = tokio::task::spawn_blocking(move || {
        let told = look.told();
        (look, told)
    });
    let (look, told) = worked.await.map_err(|_| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the results failed")
    })?;
    let p_value = shared.evidence.with_known(&name, |known| {
        // Unless it began anew meanwhile.
        if !look.is_whole || known.evidence.sequence() < sequence {
            return None;
        }
        for (variant, metric, reached) in &told.reached {
            known.remember(*variant, metric, *reached);
        }
        Some(known.sample_ratio(told.log_e))
    });
    let ratios = p_value
        .flatten()
        .unwrap_or_else(|| told.log_e.map(|log_e| sample_ratio::Reached::default().with(log_e)));

    let view = context.changes.view();
    let live = view.live.get(&name);
    let plan = view.plan.experiments.iter().find(|plan| *plan.name == *name);
    let mismatch = ratios.iter().any(|ratio| ratio.mismatch(sample_ratio::ALPHA));
    let first = look.evidence.epochs().keys().next().copied();
    let began = first.and_then(|first| look.began.get(&first));
    let unit = plan.map(|plan| plan.unit.iter().map(ToString::to_string).collect::<Vec<_>>());
    let newest = look.evidence.epochs().keys().next_back().copied();
    Ok(Json(json!({
        "experiment": name,
        "route": plan.map(|plan| view.plan.routes[plan.route].name.to_string()),
        "state": live.map(|live| live.state),
        "since": began.map(|at| clock::rfc3339_micros(*at)),
        "since_revision": first,
        "revision": live.map(|live| live.revision).or(newest),
        "control": look.name(look.control),
        "unit": unit,
        "counts": if look.is_sticky() { "units" } else { "requests" },
        "alpha": ALPHA,
        "sample_ratio": look.sample_ratio(ratios),
        "words": said::headline(&told.verdicts, mismatch),
        "order": look.order().iter().map(|number| look.name(*number)).collect::<Vec<_>>(),
        "variants": told.variants,
        "revisions": look.revisions(),
    })))
}

/// A revision, a duration before now, or a time.
fn since(text: &str) -> Result<Since, ApiError> {
    if let Ok(revision) = text.parse() {
        return Ok(Since::Revision(revision));
    }
    moment(text).map(Since::Moment).ok_or_else(|| {
        ApiError::invalid(
            "`since` is not understood; give a revision such as 7, a duration such as 2h, or a time \
             such as 2026-11-30T17:00:00Z",
        )
    })
}

/// The answer but for what is remembered.
struct Told {
    variants: Map<String, Value>,
    verdicts: Vec<Verdict>,
    reached: Vec<(u8, Metric, Reached)>,
    log_e: [f64; 3],
}

impl Look {
    fn at(known: &Known, since: Option<&Since>, buckets: usize, ramp: Option<&Ramp>) -> Self {
        let from = since.and_then(|since| match since {
            Since::Revision(revision) => Some(*revision),
            Since::Moment(time) => known.in_force_at(*time),
        });
        let evidence = match from {
            None => known.evidence.clone(),
            Some(revision) => known.evidence.since(revision),
        };
        let is_whole = evidence.epochs().len() == known.evidence.epochs().len();
        let mut watched = known.watched.clone();
        watched.guardrails.extend(new_feedback(&evidence, &watched.guardrails));
        let mut reached = BTreeMap::new();
        for variant in (0..=u8::MAX).take(known.variants().len()).filter(|_| is_whole) {
            for Guardrail { metric, .. } in &watched.guardrails {
                reached.insert((variant, metric.clone()), known.reached(variant, metric));
            }
        }
        let ramped = ramp.map(|ramp| Ramped::all(ramp, known)).unwrap_or_default();
        for ramped in ramped.iter().filter(|_| is_whole) {
            for (guardrail, most) in ramped.guardrails.iter().zip(&ramped.reached) {
                let of = reached.entry((ramped.variant, guardrail.metric.clone())).or_default();
                of.harm = of.harm.max(most.harm);
                of.above_floor = of.above_floor.max(most.above_floor);
            }
        }
        let began = evidence
            .epochs()
            .keys()
            .filter_map(|revision| Some((*revision, known.began(*revision)?)))
            .collect();
        Self {
            evidence,
            names: known.variants().to_vec(),
            control: known.control(),
            watched,
            reached,
            ramped,
            began,
            is_whole,
            buckets,
        }
    }

    fn name(&self, number: u8) -> &str {
        self.names.get(usize::from(number)).map_or("", String::as_str)
    }

    /// What a variant is held to, and with which chances of error.
    fn held_to(&self, variant: u8) -> (Vec<Guardrail>, Alphas) {
        let watched = &self.watched.guardrails;
        let Some(ramped) = self.ramped.iter().find(|ramped| ramped.variant == variant) else {
            let judged = self.names.len().saturating_sub(1);
            return (watched.clone(), Alphas::shared(ALPHA, watched, judged));
        };
        // What is only shown stays: it spends nothing.
        let is_other = |each: &&Guardrail| {
            each.action == Action::Observe
                && ramped.guardrails.iter().all(|held| held.metric != each.metric)
        };
        let shown = watched.iter().filter(is_other);
        (ramped.guardrails.iter().chain(shown).cloned().collect(), ramped.alphas)
    }

    fn is_sticky(&self) -> bool {
        matches!(self.evidence.unit(), UnitKind::Sticky { .. })
    }

    /// Control first, then the others in the order in which they were first seen.
    fn order(&self) -> Vec<u8> {
        let all = (0..=u8::MAX).take(self.names.len());
        let others = all.filter(|number| *number != self.control);
        std::iter::once(self.control).chain(others).collect()
    }

    fn told(&self) -> Told {
        let mut told = Told {
            variants: Map::new(),
            verdicts: Vec::new(),
            reached: Vec::new(),
            log_e: ratios(&self.evidence, &self.watched.guardrails),
        };
        for number in self.order() {
            let mut of = variant::numbers(&self.evidence, number, self.buckets);
            if number != self.control {
                let against = against::control(self, number);
                let mut verdict =
                    said::verdict(self.name(number), self.name(self.control), &against.compared);
                if self.evidence.exposures(number) == 0 {
                    verdict.has_nothing = true;
                    verdict.words = said::nothing_yet(self.name(number));
                }
                of.insert("versus_control".into(), against.json.into());
                of.insert("verdict".into(), verdict.word.into());
                of.insert("words".into(), verdict.words.clone().into());
                of.insert("needed".into(), json!(verdict.needed));
                told.reached.extend(against.reached);
                told.verdicts.push(verdict);
            }
            told.variants.insert(self.name(number).to_owned(), of.into());
        }
        told
    }

    fn sample_ratio(&self, reached: [sample_ratio::Reached; 3]) -> Value {
        let (expected, observed) = arrivals(&self.evidence, self.names.len());
        let named = |values: Vec<Value>| -> Map<String, Value> {
            self.order()
                .into_iter()
                .filter_map(|number| {
                    Some((self.name(number).to_owned(), values.get(usize::from(number))?.clone()))
                })
                .collect()
        };
        let p_values = reached.map(sample_ratio::Reached::p_value);
        let mismatch = reached.iter().any(|ratio| ratio.mismatch(sample_ratio::ALPHA));
        json!({
            "p_value": p_values.into_iter().fold(1.0, f64::min),
            "expected": named(expected.into_iter().map(Value::from).collect()),
            "observed": named(observed.into_iter().map(Value::from).collect()),
            "verdict": if mismatch { "mismatch" } else { "ok" },
            "threshold": sample_ratio::ALPHA,
            "assigned": p_values[0],
            "served": p_values[1],
            "feedback": p_values[2],
            "closed": self.evidence.sampled().is_closed(),
        })
    }

    /// Each revision by itself, the newest first.
    fn revisions(&self) -> Vec<Value> {
        let of = |(revision, epoch): (&u64, &policies::evidence::EpochTally)| {
            let variants: Map<String, Value> = self
                .order()
                .into_iter()
                .filter_map(|number| {
                    let tally = epoch.variants.get(&number)?;
                    let item = variant::of_revision(tally, epoch.share(number));
                    Some((self.name(number).to_owned(), item))
                })
                .collect();
            json!({
                "revision": revision,
                "since": self.began.get(revision).map(|at| clock::rfc3339_micros(*at)),
                "variants": variants,
            })
        };
        self.evidence.epochs().iter().rev().map(of).collect()
    }
}

impl Ramped {
    /// None if the evidence is not the ramp's: it began before, or a variant of another one is gone.
    fn all(ramp: &Ramp, known: &Known) -> Vec<Self> {
        let first = known.evidence.epochs().keys().next().copied();
        let (told, state) = (&ramp.told, &ramp.state);
        if first.is_some_and(|first| first < told.from) {
            return Vec::new();
        }
        let reached = |place: usize| match told.settings.bandit {
            Some(_) => state.arms.get(place).map(|arm| arm.reached.clone()).unwrap_or_default(),
            None => state.reached.clone(),
        };
        let each = told.treated().iter().enumerate().filter_map(|(place, name)| {
            Some(Self {
                variant: known.number(name)?,
                guardrails: told.settings.held_to_at_the_end(),
                alphas: told.settings.alphas(),
                reached: reached(place),
            })
        });
        each.collect()
    }
}

/// Feedback that came and that nobody asked to watch: it is shown.
fn new_feedback(evidence: &Evidence, guardrails: &[Guardrail]) -> Vec<Guardrail> {
    let mut found: Vec<Guardrail> = Vec::new();
    let tallies = evidence.epochs().values().flat_map(|epoch| epoch.variants.values());
    for name in tallies.flat_map(|tally| tally.feedback.keys()) {
        let metric = Metric::Feedback(name.clone());
        if guardrails.iter().chain(&found).all(|guardrail| guardrail.metric != metric) {
            found.push(Guardrail { action: Action::Observe, ..Guardrail::new(metric) });
        }
    }
    found
}
