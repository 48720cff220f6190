//! One variant against control, metric by metric. Revisions are compared each by itself and then
//! added up, so that a share that moved while the load changed misleads nobody.

use policies::evidence::{EpochTally, Slowness, VariantTally};
use policies::guardrail::{self, Guardrail, Judgement, Metric, Tables};
use policies::statistics::mean::Better;
use policies::statistics::rate::{self, Count, T_OPT as RATES_AT};
use policies::statistics::rule::Reached;
use policies::statistics::{self, Interval, quantile};
use serde_json::{Map, Value, json};

use super::variant::finite;
use super::{ALPHA, Look};

/// What was found of every metric.
pub(super) struct Against {
    pub(super) json: Map<String, Value>,
    pub(super) compared: Vec<Compared>,
    pub(super) reached: Vec<(u8, Metric, Reached)>,
}

/// One metric of a variant against control.
pub(super) struct Compared {
    pub(super) metric: Metric,
    pub(super) is_required: bool,
    pub(super) verdict: &'static str,
    /// Variant over control.
    pub(super) ratio: Option<f64>,
    pub(super) margin: f64,
    pub(super) needed: Option<f64>,
}

/// A number and where it lies; ends without bound are infinite.
struct Bounded {
    value: Option<f64>,
    ends: Interval,
}

impl Bounded {
    fn json(&self) -> Value {
        let value = self.value.filter(|value| value.is_finite());
        json!({ "value": value, "low": finite(self.ends.lower), "high": finite(self.ends.upper) })
    }
}

/// Compares `treated` with control.
pub(super) fn control(look: &Look, treated: u8) -> Against {
    let (guardrails, alphas) = look.held_to(treated);
    let mut tables = Tables::default();
    let mut found = Against { json: Map::new(), compared: Vec::new(), reached: Vec::new() };
    for guardrail in &guardrails {
        let key = (treated, guardrail.metric.clone());
        let before = look.reached.get(&key).copied().unwrap_or_default();
        let judgement = guardrail::judge(
            &look.evidence,
            treated,
            look.control,
            guardrail,
            alphas,
            before,
            &mut tables,
        );
        found.reached.push((treated, guardrail.metric.clone(), judgement.reached));
        let (key, json, compared) = one(look, treated, guardrail, &judgement);
        found.json.insert(key, json);
        found.compared.push(compared);
    }
    found
}

fn one(
    look: &Look,
    treated: u8,
    guardrail: &Guardrail,
    judgement: &Judgement,
) -> (String, Value, Compared) {
    let shown = guardrail::shown(&look.evidence, treated, look.control, guardrail, ALPHA);
    let counted = Bounded { value: shown.ratio, ends: shown.interval };
    let (ratio, difference, above_mark) = match guardrail.metric.slowness() {
        Some(slowness) => {
            let (ratio, difference) = quantiles(look, treated, slowness);
            (ratio, difference, Some(counted))
        }
        None => {
            let difference = match (guardrail.metric.event(), shown.difference) {
                (Some(event), _) => rates(look, treated, |tally| {
                    let ours = |outcome: &policies::Outcome| event.is(*outcome);
                    let all = policies::Outcome::ALL.into_iter().filter(ours);
                    all.map(|outcome| tally.outcomes[outcome.index()]).sum()
                }),
                (None, Some((value, ends))) => Bounded { value: Some(value), ends },
                (None, None) => Bounded { value: None, ends: NOWHERE },
            };
            (counted, difference, None)
        }
    };
    let is_feedback = matches!(guardrail.metric, Metric::Feedback(_));
    let is_better = match guardrail.better {
        Better::Higher if is_feedback => difference.ends.lower > 0.0,
        Better::Lower if is_feedback => difference.ends.upper < 0.0,
        Better::Higher | Better::Lower => ratio.ends.upper < 1.0,
    };
    let verdict = match judgement.verdict {
        statistics::Verdict::Breached => "worse",
        statistics::Verdict::Held | statistics::Verdict::TooEarly if is_better => "better",
        statistics::Verdict::Held => "no_worse",
        statistics::Verdict::TooEarly => "too_early",
    };
    let compared = Compared {
        metric: guardrail.metric.clone(),
        is_required: judgement.required,
        verdict,
        ratio: ratio.value,
        margin: judgement.thresholds.margin,
        needed: judgement.needed,
    };
    let words =
        super::said::words(look.name(treated), look.name(look.control), &compared, guardrail);
    let json = json!({
        "verdict": verdict,
        "words": words,
        "difference": difference.value.filter(|value| value.is_finite()),
        "low": finite(difference.ends.lower),
        "high": finite(difference.ends.upper),
        "ratio": ratio.json(),
        "above_mark": above_mark.map(|above| above.json()),
        "tolerance": guardrail.tolerance,
        "floor": guardrail.floor,
        "margin": judgement.thresholds.margin,
        "needed": judgement.needed,
        "required": judgement.required,
        "exposures": { "variant": judgement.exposures.0, "control": judgement.exposures.1 },
        "events": judgement.events.map(|(of_t, of_c)| json!({ "variant": of_t, "control": of_c })),
        "log_e_harm": judgement.log_e_harm,
        "log_e_safe": judgement.log_e_safe,
        "thresholds": judgement.thresholds,
    });
    (key(&guardrail.metric), json, compared)
}

/// `failed` is told as the error rate that it is.
fn key(metric: &Metric) -> String {
    if *metric == Metric::Failed { "error_rate".to_owned() } else { metric.to_string() }
}

const NOWHERE: Interval = Interval { lower: f64::NEG_INFINITY, upper: f64::INFINITY };

fn both<'a>(epoch: &'a EpochTally, look: &Look, treated: u8) -> Option<[&'a VariantTally; 2]> {
    epoch.pi(treated, look.control)?;
    let of = |number: u8| epoch.variants.get(&number);
    Some([of(treated)?, of(look.control)?])
}

/// The difference of two rates: within each revision, weighted by how much that revision can say.
/// Each revision gets its part of alpha.
fn rates(look: &Look, treated: u8, events: impl Fn(&VariantTally) -> u64) -> Bounded {
    let counts: Vec<(Count, Count)> = look
        .evidence
        .epochs()
        .values()
        .filter_map(|epoch| both(epoch, look, treated))
        .map(|pair| {
            let [of_t, of_c] =
                pair.map(|tally| Count { successes: events(tally), trials: tally.exposures() });
            (of_t, of_c)
        })
        .filter(|(of_t, of_c)| of_t.trials > 0 && of_c.trials > 0)
        .collect();
    let alpha = ALPHA / counts.len().max(1) as f64;
    let mut weight = 0.0;
    let (mut value, mut lower, mut upper) = (0.0, 0.0, 0.0);
    for (of_t, of_c) in &counts {
        let h = 1.0 / (1.0 / of_t.trials as f64 + 1.0 / of_c.trials as f64);
        let rate = |count: &Count| count.successes as f64 / count.trials as f64;
        let ends = rate::difference(*of_t, *of_c, alpha, RATES_AT);
        weight += h;
        value += h * (rate(of_t) - rate(of_c));
        lower += h * ends.lower;
        upper += h * ends.upper;
    }
    if weight > 0.0 {
        let ends = Interval { lower: lower / weight, upper: upper / weight };
        Bounded { value: Some(value / weight), ends }
    } else {
        Bounded { value: None, ends: Interval { lower: -1.0, upper: 1.0 } }
    }
}

/// Ratio and difference of a quantile, in the revision that can say most of it: quantiles of several
/// cannot be added up.
fn quantiles(look: &Look, treated: u8, slowness: Slowness) -> (Bounded, Bounded) {
    let timing = slowness.timing();
    let p = match slowness {
        Slowness::LatencyP50 | Slowness::TokenTimeP50 => 0.5,
        Slowness::LatencyP95 | Slowness::FirstByteP95 => 0.95,
        Slowness::LatencyP99 => 0.99,
    };
    let pairs = look.evidence.epochs().values().filter_map(|epoch| {
        epoch.pi(treated, look.control)?;
        let of = |number: u8| epoch.variants.get(&number)?.latencies.as_deref()?.of(timing);
        Some((of(treated)?, of(look.control)?))
    });
    let Some((of_t, of_c)) = pairs.max_by_key(|(of_t, of_c)| of_t.total().min(of_c.total())) else {
        let none =
            |lower: f64| Bounded { value: None, ends: Interval { lower, upper: f64::INFINITY } };
        return (none(0.0), none(f64::NEG_INFINITY));
    };
    let ends = quantile::compare(of_t, of_c, p, ALPHA, quantile::T_OPT);
    let values = of_t.quantile(p).zip(of_c.quantile(p));
    let values = values.filter(|_| of_t.total() > 0 && of_c.total() > 0);
    (
        Bounded { value: values.map(|(t, c)| t / c), ends: ends.ratio },
        Bounded { value: values.map(|(t, c)| t - c), ends: ends.difference },
    )
}
