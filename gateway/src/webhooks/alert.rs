//! The same as alerts, for Alertmanager: something that begins, lasts and ends.
//!
//! A rollback lasts until somebody acts on its experiment, a hold until the ramp goes on, and so
//! forth; what is over as soon as it is told (a ramp that widened) lasts [`LASTS`]. What lasts is kept
//! in the store ([`Alert`]), so that its end is told once, and is sent again every [`AGAIN`], because
//! an Alertmanager that restarts knows nothing any more.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Value, json};

use super::event::Event;
use super::message::{Parts, experiment};
use crate::clock;
use crate::store::AuditRow;

/// How long an alert stands that nobody sends again.
pub const LASTS: Duration = Duration::from_secs(300);

/// How often what lasts is sent again.
pub const AGAIN: Duration = Duration::from_secs(60);

/// An alert that lasts: kept until something ends it. One for each name, experiment and `about`.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Label `alertname`.
    pub name: Cow<'static, str>,
    /// Experiment.
    pub experiment: String,
    /// Which of several of this name: the metric of a guardrail, else empty.
    pub about: String,
    /// The event that began it.
    pub event: Event,
    /// When, microseconds since 1970.
    pub began: i64,
    /// Labels and annotations, JSON.
    pub shown: Value,
}

/// What an entry of the audit log begins, says and ends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// Alerts that last from now on.
    pub begins: Vec<Alert>,
    /// What is over once it is told: the event, labels and annotations.
    pub says: Vec<(Event, Value)>,
    /// Names of alerts of the same experiment that are over.
    pub ends: Vec<&'static str>,
}

const HOLDING: &str = "WeirRampHolding";
const ROLLED_BACK: &str = "WeirRampRolledBack";
const BREACHED: &str = "WeirGuardrailBreached";
const MISMATCH: &str = "WeirSampleRatioMismatch";
const STOPPED: &str = "WeirExperimentStopped";

/// The name of an event's alert, and whether it lasts. An end of another one has none.
fn kind(event: Event) -> Option<(&'static str, bool)> {
    Some(match event {
        Event::RampStart => ("WeirRampStarted", false),
        Event::RampWiden => ("WeirRampWidened", false),
        Event::RampMove => ("WeirRampMoved", false),
        Event::RampHold => (HOLDING, true),
        Event::RampPause => ("WeirRampPaused", false),
        Event::RampResume => ("WeirRampResumed", false),
        Event::RampRollBack => (ROLLED_BACK, true),
        Event::RampPromote => ("WeirRampPromoted", false),
        Event::RampAbort => ("WeirRampAborted", false),
        Event::GuardrailBreached => (BREACHED, true),
        Event::SampleRatioMismatch => (MISMATCH, true),
        Event::SampleRatioCleared => return None,
        Event::WeightsSet => ("WeirWeightsChanged", false),
        Event::ExperimentCreate => ("WeirExperimentCreated", false),
        Event::ExperimentEdit => ("WeirExperimentEdited", false),
        Event::ExperimentEnd => ("WeirExperimentEnded", false),
        Event::ExperimentUndo => ("WeirExperimentUndone", false),
        Event::ExperimentStop => (STOPPED, true),
        Event::WebhookTest => ("WeirWebhookTest", false),
    })
}

/// What else is over once an event happened.
fn ends(event: Event) -> &'static [&'static str] {
    match event {
        Event::RampStart => &[HOLDING, ROLLED_BACK, BREACHED],
        Event::RampWiden
        | Event::RampMove
        | Event::RampPause
        | Event::RampResume
        | Event::RampRollBack => &[HOLDING],
        Event::RampPromote | Event::RampAbort => &[HOLDING, BREACHED],
        Event::SampleRatioCleared => &[MISMATCH],
        // Somebody has dealt with it.
        Event::WeightsSet | Event::ExperimentEdit | Event::ExperimentUndo | Event::ExperimentStop => {
            &[ROLLED_BACK, BREACHED]
        }
        Event::RampHold
        | Event::GuardrailBreached
        | Event::SampleRatioMismatch
        | Event::ExperimentCreate
        // What an end ends follows from the state.
        | Event::ExperimentEnd
        | Event::WebhookTest => &[],
    }
}

/// What an entry that is these events begins, says and ends.
pub fn effects(row: &AuditRow, events: &[Event]) -> Effects {
    let mut effects = Effects::default();
    let Some(experiment) = experiment(row) else { return effects };
    for event in events {
        effects.ends.extend_from_slice(ends(*event));
        let Some((name, lasts)) = kind(*event) else { continue };
        let of = Parts::of(*event, row);
        let metric = of.metric.as_str().unwrap_or_default();
        let shown = shown(name, *event, experiment, (of.variant, metric), row, lasts);
        if lasts {
            effects.begins.push(Alert {
                name: name.into(),
                experiment: experiment.to_owned(),
                about: metric.to_owned(),
                event: *event,
                began: row.at,
                shown,
            });
        } else {
            effects.says.push((*event, shown));
        }
    }
    match row.after.get("state").and_then(Value::as_str) {
        Some("running") => effects.ends.push(STOPPED),
        Some("ended") => effects.ends.extend([HOLDING, ROLLED_BACK, BREACHED, MISMATCH, STOPPED]),
        _ => {}
    }
    // A rollback begins what it would end as a change.
    effects.ends.retain(|name| effects.begins.iter().all(|alert| alert.name != *name));
    effects
}

/// Of a test.
pub fn of_test(webhook: &str, at: i64, by: &str) -> Value {
    json!([{
        "labels": { "alertname": "WeirWebhookTest", "severity": "info", "source": "weir" },
        "annotations": {
            "summary": "a test: nothing happened",
            "webhook": webhook,
            "by": by,
        },
        "startsAt": clock::rfc3339_micros(at),
    }])
}

fn shown(
    name: &str,
    event: Event,
    experiment: &str,
    (variant, metric): (Option<&str>, &str),
    row: &AuditRow,
    lasts: bool,
) -> Value {
    let mut labels = json!({
        "alertname": name,
        "experiment": experiment,
        "severity": if lasts { "warning" } else { "info" },
        "source": "weir",
    });
    if let Some(variant) = variant {
        labels["variant"] = variant.into();
    }
    if !metric.is_empty() {
        labels["metric"] = metric.into();
    }
    let summary = row.reason.as_deref().unwrap_or(event.what());
    let revision = row.after.get("revision").cloned().unwrap_or_default();
    json!({
        "labels": labels,
        "annotations": {
            "summary": format!("{experiment}: {summary}"),
            "description": event.what(),
            "event": event.as_str(),
            "revision": revision.to_string(),
            "by": row.actor,
        },
    })
}

/// One alert as Alertmanager takes it. Without an end it stands for [`LASTS`] from when it is sent.
pub fn entry(shown: &Value, began: i64, ended: Option<i64>) -> Value {
    let mut entry = shown.clone();
    entry["startsAt"] = clock::rfc3339_micros(began).into();
    if let Some(ended) = ended {
        entry["endsAt"] = clock::rfc3339_micros(ended).into();
    }
    entry
}

/// The body of `POST /api/v2/alerts`: `alerts`, each with `labels` of its webhook, as sent `now`
/// (microseconds since 1970).
pub fn body(alerts: &Value, labels: &[(String, String)], now: i64) -> Value {
    let mut alerts = alerts.clone();
    let lasts = i64::try_from(LASTS.as_micros()).unwrap_or(i64::MAX);
    let until = clock::rfc3339_micros(now.saturating_add(lasts));
    for alert in alerts.as_array_mut().into_iter().flatten() {
        for (name, value) in labels {
            alert["labels"][name] = value.as_str().into();
        }
        if alert.get("endsAt").is_none() {
            alert["endsAt"] = until.as_str().into();
        }
    }
    alerts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhooks::message::{events, tests::rollback};

    fn of(row: &AuditRow) -> Effects {
        effects(row, &events(row))
    }

    #[test]
    fn a_rollback_lasts_and_names_its_guardrail() {
        let Effects { begins, says, ends } = of(&rollback());
        let names: Vec<_> = begins.iter().map(|alert| (&*alert.name, &*alert.about)).collect();
        assert_eq!(names, [(BREACHED, "failed"), (ROLLED_BACK, "")]);
        assert_eq!((says.len(), ends.as_slice()), (0, [HOLDING, STOPPED].as_slice()));
        let labels = &begins[1].shown["labels"];
        assert_eq!(
            *labels,
            json!({ "alertname": ROLLED_BACK, "experiment": "int8", "severity": "warning", "source": "weir", "variant": "canary" })
        );
        assert_eq!(begins[0].shown["labels"]["metric"], "failed");
    }

    #[test]
    fn who_acts_on_an_experiment_ends_its_rollback_and_an_end_of_it_everything() {
        let row = |action: &str, state: &str| AuditRow {
            action: action.into(),
            after: json!({ "revision": 6, "state": state }),
            ..rollback()
        };
        assert_eq!(of(&row("weights.set", "running")).ends, [ROLLED_BACK, BREACHED, STOPPED]);
        let stop = of(&row("experiment.stop", "stopped"));
        assert_eq!(stop.ends, [ROLLED_BACK, BREACHED]);
        assert_eq!(stop.begins[0].name, STOPPED);
        assert_eq!(of(&row("anything", "ended")).ends.len(), 5);
        let key = AuditRow { target: "key/a".into(), ..row("weights.set", "running") };
        assert_eq!(of(&key), Effects::default());
    }

    #[test]
    fn what_has_no_end_yet_stands_five_minutes_from_when_it_is_sent() {
        let alert = &of(&rollback()).begins[1];
        let (began, later) = (alert.began, alert.began + 3_600_000_000);
        let open = json!([entry(&alert.shown, began, None)]);
        let over = json!([entry(&alert.shown, began, Some(later))]);
        let labels = [("team".to_owned(), "ml".to_owned())];
        let sent = body(&open, &labels, later);
        assert_eq!(sent[0]["startsAt"], "2023-11-14T22:13:20.000000Z");
        assert_eq!(sent[0]["endsAt"], "2023-11-14T23:18:20.000000Z");
        assert_eq!(sent[0]["labels"]["team"], "ml");
        let ended = body(&over, &[], later + 1);
        assert_eq!(ended[0]["endsAt"], "2023-11-14T23:13:20.000000Z");
        // The same labels: that is how an Alertmanager knows it again.
        assert_eq!(body(&over, &labels, later)[0]["labels"], sent[0]["labels"]);
    }
}
