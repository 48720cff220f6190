//! What a ramp without steps is told: `{"mode": "bandit", "metric": …}`.

use policies::guardrail::Metric;
use policies::ramp::bandit::Bandit;
use policies::statistics::mean::Better;
use serde_json::{Map, Value};

use super::{Faults, MOST, no_variant, number, text, time};
use crate::config::plan;

/// Members that only a bandit has.
pub(super) const MEMBERS: [&str; 6] = ["arms", "metric", "better", "period", "floor", "decay"];

/// The variants that compete with control: those that are named, or all there are.
pub(super) fn arms(
    object: &Map<String, Value>,
    control: &str,
    names: &[&str],
    faults: &mut Faults,
) -> Vec<String> {
    let named = object.get("arms").filter(|arms| !arms.is_null());
    let one = text(object, "variant", faults);
    let arms: Vec<String> = match (named, one) {
        (Some(_), Some(_)) => {
            faults.add("variant", "`arms` says already who takes part");
            Vec::new()
        }
        (Some(Value::Array(list)), None) if (1..=MOST).contains(&list.len()) => {
            let texts = list.iter().filter_map(Value::as_str).map(str::to_owned);
            let arms: Vec<String> = texts.collect();
            if arms.len() < list.len() {
                faults.add("arms", "must be names of variants");
            }
            arms
        }
        (Some(_), None) => {
            faults.add("arms", format!("must be a list of 1 to {MOST} names of variants"));
            Vec::new()
        }
        (None, Some(one)) => vec![one],
        (None, None) => {
            names.iter().filter(|name| **name != control).map(|name| (*name).to_owned()).collect()
        }
    };
    let field = if named.is_some() { "arms" } else { "variant" };
    for arm in &arms {
        if arm == control {
            faults.add(field, format!("{arm:?} is control: it takes part anyway"));
        } else if !names.contains(&arm.as_str()) {
            faults.add(field, no_variant(arm, names));
        }
    }
    if arms.is_empty() && faults.0.is_empty() {
        faults.add(field, "the experiment has no variant beside control");
    }
    arms
}

/// Everything else that a bandit is told.
pub(super) fn settings(object: &Map<String, Value>, arms: Vec<u8>, faults: &mut Faults) -> Bandit {
    let usual = Bandit::default();
    let metric = match text(object, "metric", faults).map(|text| text.parse::<Metric>()) {
        Some(Ok(metric)) => metric,
        Some(Err(fault)) => {
            faults.add("metric", fault.to_string());
            usual.metric
        }
        None => {
            faults.add(
                "metric",
                "must be given: what the best variant is best at, such as \"failed\"",
            );
            usual.metric
        }
    };
    let better = match text(object, "better", faults).as_deref() {
        None => usual.better,
        Some(word @ ("higher" | "lower")) => {
            if metric.feedback().is_none() && word == "higher" {
                faults.add("better", format!("less is better of {metric}"));
            }
            if word == "higher" { Better::Higher } else { Better::Lower }
        }
        Some(_) => {
            faults.add("better", "must be \"higher\" or \"lower\"");
            usual.better
        }
    };
    Bandit {
        arms,
        metric,
        better,
        period: time(object, "period", "", faults).unwrap_or(usual.period),
        floor: number(object, "floor", "", faults).unwrap_or(usual.floor),
        decay: number(object, "decay", "", faults).unwrap_or(usual.decay),
    }
}

/// Units that stay on one variant, and what is known of them within a period.
pub(super) struct Sticky<'a> {
    pub(super) experiment: &'a plan::Experiment,
    pub(super) feedback: &'a plan::Feedback,
}

impl Sticky<'_> {
    /// As shares move people change sides. What is known of a request when it ends belongs to the side
    /// that it was on, so that is a note; what people say of it up to a day later mixes the sides.
    pub(super) fn note(&self, bandit: Option<&Bandit>, faults: &mut Faults) -> Option<String> {
        let by_request = self.experiment.unit.iter().all(|unit| unit.to_string() == "request");
        let bandit = bandit.filter(|_| !by_request)?;
        let units = self.experiment.unit.iter().map(ToString::to_string);
        let units = units.collect::<Vec<_>>().join(", ");
        if let Some(name) = bandit.metric.feedback() {
            let declared = self.feedback.metrics.iter().find(|metric| *metric.name == *name);
            let window = declared.map_or(self.feedback.window, |metric| metric.window);
            if window.as_secs() > bandit.period {
                faults.add(
                    "metric",
                    format!(
                        "units stay on one variant ({units}) and feedback on {name} is taken for {} s, \
                         longer than a period: by then people have changed sides. Use unit = \
                         [\"request\"], a metric that is known at once, or a `window` of at most the \
                         period in [feedback.metrics.{name}]",
                        window.as_secs()
                    ),
                );
            }
        }
        Some(format!(
            "units stay on one variant ({units}), and some change sides whenever shares move; each \
             counts once, where it was first. unit = [\"request\"] deals every request anew"
        ))
    }
}
