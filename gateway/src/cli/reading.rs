//! Reads the admin API's JSON: what is missing or of another kind is `None`, never an error, so
//! that an older command can talk to a newer gateway.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::words;

/// What stands under `key`.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str().filter(|text| !text.is_empty())
}

/// The number under `key`.
pub(crate) fn number(value: &Value, key: &str) -> Option<f64> {
    value.get(key)?.as_f64()
}

/// The whole number under `key`.
pub(crate) fn whole(value: &Value, key: &str) -> Option<u64> {
    value.get(key)?.as_u64()
}

/// The list under `key`; empty if there is none.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The strings under `key`.
pub(crate) fn texts<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    list(value, key).iter().filter_map(Value::as_str).collect()
}

/// Members of the object under `key`, in the order in which they came.
pub(crate) fn members<'a>(
    value: &'a Value,
    key: &str,
) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let object: Option<&Map<String, Value>> = value.get(key).and_then(Value::as_object);
    object.into_iter().flatten().map(|(name, member)| (name.as_str(), member))
}

/// The time under `key`: RFC 3339, or seconds since 1970.
pub(crate) fn time(value: &Value, key: &str) -> Option<Timestamp> {
    let value = value.get(key)?;
    match value.as_str() {
        Some(text) => text.parse().ok(),
        None => Timestamp::from_second(value.as_i64()?).ok(),
    }
}

/// An experiment's variants, control first, then as they were written: the same order on every
/// screen.
pub(crate) fn variants(experiment: &Value) -> Vec<(&str, &Value)> {
    let control = text(experiment, "control");
    let order = texts(experiment, "order");
    let mut variants: Vec<_> = members(experiment, "variants").collect();
    let place = |name: &str| order.iter().position(|each| *each == name).unwrap_or(usize::MAX);
    variants.sort_by_key(|(name, _)| (Some(*name) != control, place(name), *name));
    variants
}

/// `stable 90 %, canary 10 %`.
pub(crate) fn shares(experiment: &Value) -> String {
    let each = |(name, variant): (&str, &Value)| {
        let share = number(variant, "share").map_or_else(|| "–".to_owned(), words::share);
        format!("{name} {share}")
    };
    variants(experiment).into_iter().map(each).collect::<Vec<_>>().join(", ")
}

/// `stable=90 canary=10`, of a history entry's weights.
pub(crate) fn weights(revision: &Value) -> String {
    let each = |(name, value): (&str, &Value)| {
        format!("{name}={}", value.as_f64().map_or_else(|| "?".to_owned(), words::weight))
    };
    members(revision, "weights").map(each).collect::<Vec<_>>().join(" ")
}

/// `3 min ago by ada (2026-11-22 19:20:21 UTC): slower than it looked`.
pub(crate) fn change(experiment: &Value, now: Timestamp) -> String {
    let mut out = String::new();
    let at = time(experiment, "changed_at");
    out.push_str(
        &at.map_or_else(|| "at an unknown time".to_owned(), |at| words::relative(now, at)),
    );
    if let Some(by) = text(experiment, "changed_by") {
        out.push_str(&format!(" by {}", words::clean(by)));
    }
    if let Some(at) = at {
        out.push_str(&format!(" ({})", words::utc(at)));
    }
    if let Some(reason) = text(experiment, "reason") {
        out.push_str(&format!(": {}", words::clean(reason)));
    }
    out
}
