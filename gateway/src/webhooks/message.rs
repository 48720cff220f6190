//! What is told of an entry of the audit log, as JSON.
//!
//! Whatever is told stands in the audit log, so a message is made of the entry and nothing else: its id
//! follows from the entry's number, and telling it again is telling the same.

use serde_json::{Map, Value, json};

use super::event::Event;
use crate::clock;
use crate::ids;
use crate::store::AuditRow;

/// The events that an entry is: mostly one or none. A rollback that a guardrail made is two.
pub fn events(row: &AuditRow) -> Vec<Event> {
    let mut events = Vec::new();
    // A test is sent to one webhook, and not by its entry.
    let named = Event::named(&row.action).filter(|event| *event != Event::WebhookTest);
    if named == Some(Event::RampRollBack) && breached(row).is_some() {
        events.push(Event::GuardrailBreached);
    }
    events.extend(named);
    events
}

/// The id of what is told of entry `number`: the same however often it is sent.
pub fn id(instance: &str, number: u64, event: Event) -> String {
    let text = format!("{instance}/{number}/{event}");
    ids_text(blake3::hash(text.as_bytes()).as_bytes())
}

/// The id of a test, which has no number before it is sent.
pub fn id_of_test(random: [u8; 32]) -> String {
    ids_text(&random)
}

/// No dot: the signature joins id, time and body with dots.
fn ids_text(bytes: &[u8; 32]) -> String {
    format!("evt_{}", ids::hex(&bytes[..16]))
}

/// What is told of entry `number`. Members that it has nothing to say of are absent.
pub fn body(instance: &str, number: u64, event: Event, row: &AuditRow) -> Value {
    let of = Parts::of(event, row);
    let mut body = Map::new();
    let mut say = |name: &str, value: Value| {
        if !value.is_null() {
            body.insert(name.to_owned(), value);
        }
    };
    say("id", id(instance, number, event).into());
    say("event", event.as_str().into());
    say("at", clock::rfc3339_micros(row.at).into());
    say("instance", instance.into());
    say("version", env!("CARGO_PKG_VERSION").into());
    say("experiment", experiment(row).into());
    say("variant", of.variant.into());
    say("metric", of.metric);
    say("revision", of.revision);
    say("before", row.before.clone());
    say("after", of.after);
    say("reason", row.reason.as_deref().into());
    say("by", row.actor.as_str().into());
    say("ramp", of.ramp);
    say("evidence", of.evidence);
    say("audit", number.into());
    Value::Object(body)
}

/// What a test says.
pub fn test_body(instance: &str, id: &str, at: i64, webhook: &str, by: &str) -> Value {
    json!({
        "id": id,
        "event": Event::WebhookTest.as_str(),
        "at": clock::rfc3339_micros(at),
        "instance": instance,
        "version": env!("CARGO_PKG_VERSION"),
        "webhook": webhook,
        "reason": "a test: nothing happened",
        "by": by,
    })
}

/// The experiment that an entry is about.
pub fn experiment(row: &AuditRow) -> Option<&str> {
    row.target.strip_prefix("experiment/")
}

/// An entry that changes nothing: what is seen and has to be known.
pub fn seen(
    event: Event,
    experiment: &str,
    reason: String,
    mut told: Map<String, Value>,
    revision: u64,
) -> AuditRow {
    told.insert("revision".into(), revision.into());
    AuditRow {
        at: clock::unix_micros(),
        key_id: "control".into(),
        actor: "control".into(),
        from: String::new(),
        action: event.as_str().into(),
        target: format!("experiment/{experiment}"),
        reason: Some(reason),
        before: Value::Null,
        after: Value::Object(told),
        request_id: String::new(),
    }
}

/// An entry taken apart.
pub(super) struct Parts<'a> {
    pub(super) variant: Option<&'a str>,
    pub(super) metric: Value,
    revision: Value,
    after: Value,
    /// A ramp's decision, but for its evidence.
    ramp: Value,
    evidence: Value,
}

impl<'a> Parts<'a> {
    pub(super) fn of(event: Event, row: &'a AuditRow) -> Self {
        let decision = row.after.get("ramp");
        // What was seen has its parts beside each other; a decision has them in `ramp`.
        let source = decision.unwrap_or(&row.after);
        let mut metric = row.after.get("metric").cloned().unwrap_or_default();
        let mut evidence = source.get("evidence").cloned().unwrap_or_default();
        if event == Event::GuardrailBreached
            && let Some(judged) = breached(row)
        {
            metric = judged.get("metric").cloned().unwrap_or_default();
            evidence = json!({ "guardrails": [judged] });
        }
        let revision = |of: &Value| of.get("revision").cloned();
        Self {
            variant: source.get("variant").and_then(Value::as_str),
            metric,
            revision: revision(&row.after).or_else(|| revision(&row.before)).unwrap_or_default(),
            after: without(&row.after, &["ramp", "evidence", "variant", "metric"]),
            ramp: decision.map_or(Value::Null, |ramp| without(ramp, &["evidence", "variant"])),
            evidence,
        }
    }
}

/// The guardrail for which a ramp was rolled back.
fn breached(row: &AuditRow) -> Option<&Value> {
    let ramp = row.after.get("ramp")?;
    if ramp.get("reason")? != "breached" {
        return None;
    }
    ramp.get("evidence")?.get("guardrails")?.get(0)
}

fn without(object: &Value, names: &[&str]) -> Value {
    let Value::Object(members) = object else { return object.clone() };
    let kept = members.iter().filter(|(name, _)| !names.contains(&name.as_str()));
    Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::webhooks) fn rollback() -> AuditRow {
        let weights = |canary: u64| json!({ "stable": 100 - canary, "canary": canary });
        AuditRow {
            at: 1_700_000_000_000_000,
            key_id: "ramp".into(),
            actor: "ramp".into(),
            from: String::new(),
            action: "ramp.roll_back".into(),
            target: "experiment/int8".into(),
            reason: Some("canary is rolled back to 0 %".into()),
            before: json!({ "revision": 4, "state": "running", "weights": weights(5) }),
            after: json!({
                "revision": 5, "state": "running", "weights": weights(0),
                "ramp": {
                    "action": "roll_back", "reason": "breached", "share": 0, "variant": "canary",
                    "evidence": { "guardrails": [{ "metric": "failed", "log_e_harm": 6.1 }, { "metric": "aborted" }] },
                },
            }),
            request_id: String::new(),
        }
    }

    #[test]
    fn a_rollback_that_a_guardrail_made_is_two_events() {
        let row = rollback();
        assert_eq!(events(&row), [Event::GuardrailBreached, Event::RampRollBack]);
        let told = body("ab", 9, Event::RampRollBack, &row);
        let order: Vec<&str> = told.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            order,
            [
                "id",
                "event",
                "at",
                "instance",
                "version",
                "experiment",
                "variant",
                "revision",
                "before",
                "after",
                "reason",
                "by",
                "ramp",
                "evidence",
                "audit"
            ]
        );
        assert_eq!(
            told["after"],
            json!({ "revision": 5, "state": "running", "weights": { "stable": 100, "canary": 0 } })
        );
        assert_eq!(
            told["ramp"],
            json!({ "action": "roll_back", "reason": "breached", "share": 0 })
        );
        assert_eq!(told["evidence"]["guardrails"][1]["metric"], "aborted");
        let told = body("ab", 9, Event::GuardrailBreached, &row);
        assert_eq!((&told["metric"], &told["variant"]), (&json!("failed"), &json!("canary")));
        assert_eq!(told["evidence"]["guardrails"].as_array().unwrap().len(), 1);
        assert_eq!(told["at"], "2023-11-14T22:13:20.000000Z");
    }

    #[test]
    fn an_id_says_which_entry_of_which_store_and_has_no_dot() {
        let one = id("ab", 9, Event::RampRollBack);
        assert_eq!(one, id("ab", 9, Event::RampRollBack));
        assert!(one.len() == 36 && !one.contains('.'), "{one}");
        for other in [
            id("ab", 10, Event::RampRollBack),
            id("ac", 9, Event::RampRollBack),
            id("ab", 9, Event::GuardrailBreached),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn what_no_event_is_named_for_is_not_told() {
        let row = |action: &str| AuditRow { action: action.into(), ..rollback() };
        assert_eq!(events(&row("key.create")), []);
        assert_eq!(events(&row("webhook.test")), []);
        assert_eq!(events(&row("weights.set")), [Event::WeightsSet]);
    }
}
