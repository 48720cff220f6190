//! The numbers of one variant, by itself.

use policies::evidence::{Event, Evidence, MeanTally, Timing, VariantTally};
use policies::outcome::Outcome;
use policies::sketch::{self, Sketch};
use policies::statistics::Interval;
use policies::statistics::mean::{Difference, T_OPT as MEANS_AT};
use policies::statistics::moments::Moments;
use policies::statistics::quantile::{self, T_OPT as QUANTILES_AT};
use policies::statistics::rate::{self, T_OPT as RATES_AT};
use serde_json::{Map, Value, json};

use super::ALPHA;

const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)];

/// Everything over all revisions. Bounds that are not known are `null`.
pub(super) fn numbers(evidence: &Evidence, number: u8, buckets: usize) -> Map<String, Value> {
    let tallies: Vec<&VariantTally> =
        evidence.epochs().values().filter_map(|epoch| epoch.variants.get(&number)).collect();
    let sum = |of: &dyn Fn(&VariantTally) -> u64| -> u64 {
        tallies.iter().map(|tally| of(tally)).fold(0, u64::saturating_add)
    };
    let exposures = sum(&VariantTally::exposures);
    let failed = sum(&VariantTally::failed);
    let outcomes: Map<String, Value> = Outcome::ALL
        .into_iter()
        .map(|outcome| {
            let count = sum(&|tally: &VariantTally| tally.outcomes[outcome.index()]);
            (outcome.as_str().to_owned(), count.into())
        })
        .collect();
    let (units, failed_units) = units(evidence, number, exposures, failed);
    let mut latency = quantiles(&evidence.latencies(number, Timing::Duration));
    if buckets > 0 {
        let thinned = thinned(&evidence.latencies(number, Timing::Duration), buckets);
        latency.insert("sketch".into(), thinned.into());
    }
    let item = json!({
        "exposures": exposures,
        "units": units,
        "requests": sum(&VariantTally::finished),
        "begun": sum(&VariantTally::assigned),
        "rescued": sum(&|tally: &VariantTally| tally.rescued),
        "outcomes": outcomes,
        "failed": failed,
        "failed_units": failed_units,
        "error_rate": rate(failed, exposures),
        "latency": latency,
        "time_to_first_byte": quantiles(&evidence.latencies(number, Timing::FirstByte)),
        "token_time": quantiles(&evidence.latencies(number, Timing::TokenTime)),
        "tokens": {
            "input": tokens(&tallies, |tally| &tally.input_tokens),
            "output": tokens(&tallies, |tally| &tally.output_tokens),
        },
        "metrics": feedback(&tallies),
    });
    // It is an object: it stands above.
    if let Value::Object(item) = item { item } else { Map::new() }
}

/// One revision's part, in few words.
pub(super) fn of_revision(tally: &VariantTally, share: u16) -> Value {
    let latency = tally.latencies.as_deref().and_then(|all| all.of(Timing::Duration));
    json!({
        "share": f64::from(share) / 10_000.0,
        "exposures": tally.exposures(),
        "failed": tally.failed(),
        "error_rate": rate(tally.failed(), tally.exposures()),
        "latency_p95": latency.map(|sketch| quantile(sketch, 0.95)),
    })
}

/// Units, and those with a failure; `null` once the sample is closed.
fn units(evidence: &Evidence, number: u8, exposures: u64, failed: u64) -> (Value, Value) {
    let policies::evidence::UnitKind::Sticky { rate } = evidence.unit() else {
        return (exposures.into(), failed.into());
    };
    let count = |units: &policies::evidence::Units| -> u64 {
        let each = evidence.epochs().keys().map(|revision| units.count(*revision, number).seen);
        each.fold(0, u64::saturating_add)
    };
    let known = |units: &policies::evidence::Units, per: f64| {
        (!units.is_closed()).then(|| (count(units) as f64 / per).round())
    };
    (
        json!(known(evidence.sampled(), rate).map(whole)),
        json!(known(evidence.affected(Event::Failed), 1.0).map(whole)),
    )
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rounded count")]
fn whole(count: f64) -> u64 {
    count as u64
}

/// `{"value","low","high"}`; without requests nothing is known.
pub(super) fn rate(successes: u64, trials: u64) -> Value {
    let Interval { lower, upper } = rate::interval(successes, trials, ALPHA, RATES_AT);
    let value = (trials > 0).then(|| successes as f64 / trials as f64);
    json!({ "value": value, "low": lower, "high": upper })
}

fn quantiles(sketch: &Sketch) -> Map<String, Value> {
    QUANTILES.into_iter().map(|(name, p)| (name.to_owned(), quantile(sketch, p))).collect()
}

fn quantile(sketch: &Sketch, p: f64) -> Value {
    let Interval { lower, upper } = quantile::interval_of_sketch(sketch, p, ALPHA, QUANTILES_AT);
    let value = Some(sketch.quantile(p)).filter(|_| sketch.total() > 0).flatten();
    json!({ "value": value, "low": value.map(|_| lower), "high": finite(upper) })
}

/// JSON knows no infinity: what has no bound is `null`.
pub(super) fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// At most so many buckets between the first and the last that hold something: upper edge in
/// seconds, and count.
fn thinned(sketch: &Sketch, most: usize) -> Vec<Value> {
    let counts = sketch.counts();
    let filled = |count: &u64| *count > 0;
    let (Some(first), Some(last)) =
        (counts.iter().position(filled), counts.iter().rposition(filled))
    else {
        return Vec::new();
    };
    let width = (last - first + 1).div_ceil(most);
    let pieces = counts[first..=last].chunks(width).enumerate();
    pieces
        .map(|(at, piece)| {
            let upper = sketch::edge((first + (at + 1) * width - 1).min(last));
            json!([upper, piece.iter().copied().fold(0, u64::saturating_add)])
        })
        .collect()
}

fn merged(tallies: &[&VariantTally], of: impl Fn(&VariantTally) -> Option<&MeanTally>) -> Moments {
    let mut sum = Moments::default();
    for mean in tallies.iter().filter_map(|tally| of(tally)) {
        sum.merge(&mean.moments);
    }
    sum
}

fn tokens(tallies: &[&VariantTally], of: fn(&VariantTally) -> &MeanTally) -> u64 {
    let moments = merged(tallies, |tally| Some(of(tally)));
    whole((moments.mean * moments.n as f64).round())
}

/// `{"thumbs_up":{"count","mean","low","high"}}`.
fn feedback(tallies: &[&VariantTally]) -> Map<String, Value> {
    let names: std::collections::BTreeSet<&str> =
        tallies.iter().flat_map(|tally| tally.feedback.keys()).map(|name| &**name).collect();
    let of = |name: &str| {
        let means = || tallies.iter().filter_map(|tally| tally.feedback.get(name));
        let moments = merged(tallies, |tally| tally.feedback.get(name));
        let is_yes_or_no = means().all(|mean| mean.fractional == 0);
        let ends = if is_yes_or_no {
            Some(rate::interval(moments.nonzero, moments.n, ALPHA, RATES_AT))
        } else {
            Difference::of_one(&moments).map(|mean| mean.two_sided(ALPHA, MEANS_AT))
        };
        json!({
            "count": moments.n,
            "mean": (moments.n > 0).then_some(moments.mean),
            "low": ends.and_then(|ends| finite(ends.lower)),
            "high": ends.and_then(|ends| finite(ends.upper)),
            "capped": means().map(|mean| mean.capped).fold(0, u64::saturating_add),
        })
    };
    names.into_iter().map(|name| (name.to_owned(), of(name))).collect()
}
