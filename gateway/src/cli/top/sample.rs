//! A gateway for tests: three routes, two experiments, a shadow, half a minute of it.

use serde_json::{Value, json};

use super::detail::Detail;
use super::frame::{Frame, News};
use super::seen::Seen;

/// The second that is told last: 2026-11-22 19:20:20 UTC, four seconds into the newest revision.
pub(super) const NOW: i64 = 1_795_375_220;

fn numbers(rate: f64, failed: f64, p50: f64) -> Value {
    json!({ "rate": rate, "failed": failed, "p50": p50, "p95": p50 * 2.5, "p99": p50 * 6.0,
        "first_byte_p95": p50 / 2.0, "rejected": 0.0, "in_flight": 2 })
}

fn variant(weight: f64, assigned: f64, numbers: Value) -> Value {
    let mut of = json!({ "weight": weight, "share": weight / 100.0, "assigned_share": assigned });
    if let (Value::Object(of), Value::Object(numbers)) = (&mut of, numbers) {
        of.extend(numbers);
    }
    of
}

fn frame(at: i64) -> Value {
    // Up and down, the same each time.
    let wave = [0.0, 0.5, 1.0, 0.5, 0.0, -0.5, -1.0, -0.5][usize::try_from(at / 5 % 8).unwrap()];
    let revision = if at > NOW - 4 { 7 } else { 6 };
    let (stable, canary) = if revision == 7 { (75.0, 20.0) } else { (85.0, 10.0) };
    json!({
        "at_unix": at,
        "gateway": { "rate": 48.0 + wave, "failed": 0.004, "rejected": 0.2, "in_flight": 3,
            "connections": 12, "draining": false, "revision": 4 },
        "routes": {
            "chat": numbers(18.0 + wave, 0.012, 0.041),
            "embeddings": numbers(30.0, 0.0, 0.004),
            "images": { "rate": 0.0, "failed": null, "p50": null, "p95": null, "p99": null,
                "rejected": 0.0, "in_flight": 0 },
        },
        "experiments": {
            "int8": { "route": "chat", "revision": revision, "state": "running", "variants": {
                "stable": variant(stable, 0.748, numbers(18.0 * stable / 100.0, 0.002, 0.041)),
                "canary": variant(canary, 0.2, numbers(18.0 * canary / 100.0 + wave, 0.031, 0.063)),
                "next": variant(5.0, 0.052, numbers(0.9, 0.0, 0.033)),
            }, "ramp": { "variant": "canary", "state": "running", "step": 2, "steps": 4, "share": canary / 100.0 } },
            "bge": { "route": "embeddings", "revision": 3, "state": "stopped", "variants": {
                "old": variant(50.0, 0.5, numbers(15.0, 0.0, 0.004)),
                "new": variant(50.0, 0.5, numbers(15.0, 0.0, 0.003)),
            }, "ramp": null },
        },
        "shadows": { "next": { "rate": 1.8, "failed": 0.0, "dropped": 0.0 } },
        "backends": {
            "stable": { "endpoints": 2, "serving": 1, "ejected": 1, "in_flight": 2 },
            "canary": { "endpoints": 1, "serving": 1, "ejected": 0, "in_flight": 1 },
        },
    })
}

/// Everything that was told up to [`NOW`].
pub(super) fn seen() -> Seen {
    let mut seen = Seen::default();
    for at in NOW - 60..=NOW {
        let news = match at - NOW {
            -50 => vec![news(at, "ml-team", "next 0 → 5 %", Some("int4 under real load"), 6)],
            -3 => vec![news(at, "ramp", "canary 10 → 20 %", None, 7)],
            _ => Vec::new(),
        };
        seen.frame(Frame::read(&frame(at)).unwrap(), news);
    }
    seen
}

fn news(at: i64, by: &str, words: &str, reason: Option<&str>, revision: u64) -> News {
    News {
        at,
        experiment: Some("int8".into()),
        revision: Some(revision),
        by: by.into(),
        reason: reason.map(str::to_owned),
        words: words.into(),
    }
}

/// What is known of `int8` beside its frames.
pub(super) fn detail() -> Detail {
    let ratio =
        |value: f64, low: f64, high: f64| json!({ "value": value, "low": low, "high": high });
    Detail {
        experiment: "int8".into(),
        described: Some(json!({ "name": "int8", "owner": "api", "revision": 7,
            "changed_at": "2026-11-22T19:20:17Z", "changed_by": "ramp", "reason": null })),
        judged: NOW - 6,
        results: Some(json!({
            "experiment": "int8", "counts": "requests", "control": "stable",
            "sample_ratio": { "p_value": 0.62, "verdict": "ok" },
            "variants": {
                "canary": { "verdict": "worse", "words": "canary fails more often than stable: roll it back",
                    "versus_control": {
                        "error_rate": { "difference": 0.03, "verdict": "worse", "required": true,
                            "margin": 0.25, "needed": null, "ratio": ratio(3.1, 2.0, 4.9) },
                        "latency_p95": { "difference": 0.01, "verdict": "too_early", "required": true,
                            "margin": 0.15, "needed": 1_900.0, "ratio": ratio(1.05, 0.9, 1.2) },
                    } },
                "next": { "verdict": "too_early",
                    "words": "too early to judge next, nothing shown against it" },
            },
        })),
        ramp: Some(json!({
            "experiment": "int8", "variant": "canary", "control": "stable", "state": "running",
            "phase": "step", "step": 2, "steps": [{}, {}, {}, {}], "share": 0.2, "seconds_left": 119,
            "exposures": 1_234, "min_exposures": 2_000,
            "guardrails": [{ "metric": "failed", "required": true, "verdict": "too_early",
                "log_e_harm": 2.1, "log_e_safe": -0.4, "log_e_below_ceiling": 1.5,
                "thresholds": { "breach": 4.6, "held": 3.0 },
                "exposures": { "treated": 1_234, "control": 23_446 },
                "events": { "treated": 9, "control": 80 } }],
        })),
        why: None,
    }
}
