//! What a person reads.

use serde_json::json;

use super::*;

fn bounded(value: f64, low: f64, high: f64) -> Value {
    json!({ "value": value, "low": low, "high": high })
}

fn variant(exposures: u64, rate: Value, p95: f64) -> Value {
    let times = |scale: f64| {
        json!({
            "p50": bounded(0.04 * scale, 0.03, 0.05),
            "p95": bounded(p95 * scale, 0.1, 0.3),
            "p99": bounded(2.0 * p95 * scale, 0.2, 0.6),
        })
    };
    json!({
        "exposures": exposures, "units": exposures, "requests": exposures, "failed": 3,
        "outcomes": { "ok": exposures }, "error_rate": rate, "latency": times(1.0),
        "time_to_first_byte": times(0.1), "tokens": { "input": 12_000, "output": 3_400 },
        "metrics": {},
    })
}

fn found() -> Value {
    let mut canary = variant(1_000, bounded(0.031, 0.02, 0.045), 0.21);
    canary["verdict"] = json!("worse");
    canary["words"] = json!("canary fails more often than stable: roll it back");
    canary["versus_control"] = json!({
        "error_rate": { "difference": 0.03, "low": 0.01, "high": 0.04, "verdict": "worse",
            "ratio": bounded(3.1, 1.9, 5.2), "required": true, "margin": 0.25, "needed": null },
        "latency_p95": { "difference": 0.01, "low": -0.01, "high": 0.03, "verdict": "too_early",
            "ratio": bounded(1.05, 0.9, 1.2), "required": true, "margin": 0.15, "needed": 12_000.0 },
        "latency_p50": { "difference": -0.001, "low": -0.002, "high": 0.0, "verdict": "no_worse",
            "ratio": bounded(0.98, 0.95, 1.02), "required": true, "margin": 0.15, "needed": null },
        "token_time_p50": { "difference": null, "verdict": "too_early", "required": false,
            "ratio": { "value": null, "low": 0.0, "high": null } },
    });
    json!({
        "experiment": "int8", "route": "chat", "state": "running", "revision": 7,
        "since": "2026-11-22T17:20:21Z", "control": "stable", "counts": "requests", "alpha": 0.05,
        "sample_ratio": { "p_value": 0.834, "verdict": "ok",
            "expected": { "stable": 9_010.2, "canary": 990.8 },
            "observed": { "stable": 9_001, "canary": 1_000 } },
        "order": ["stable", "canary"],
        "variants": { "canary": canary, "stable": variant(9_001, bounded(0.001, 0.0, 0.002), 0.2) },
        "revisions": [{}, {}],
    })
}

fn now() -> Timestamp {
    "2026-11-22T19:20:21Z".parse().unwrap()
}

#[test]
fn results_read_like_this() {
    let text = screen(&found(), now(), Bar::plain(), usize::MAX, Paint { on: false });
    assert_eq!(text, include_str!("tests/screen.txt"), "{text}");
}

#[test]
fn a_mismatch_comes_before_every_number() {
    let mut found = found();
    found["sample_ratio"]["verdict"] = json!("mismatch");
    found["sample_ratio"]["p_value"] = json!(0.00001);
    let text = screen(&found, now(), Bar::plain(), usize::MAX, Paint { on: false });
    let said =
        text.find("SAMPLE RATIO MISMATCH: requests do not arrive as dealt (p = below 0.0001)");
    assert!(said.unwrap() < text.find("exposures").unwrap(), "{text}");
}

#[test]
fn every_number_is_a_row_of_the_csv() {
    let rows = csv::rows(&found());
    let mut lines = rows.lines();
    assert_eq!(
        lines.next().unwrap(),
        "experiment,variant,against,measure,value,low,high,verdict,needed"
    );
    for line in [
        "int8,stable,,exposures,9001,,,,",
        "int8,canary,,error_rate,0.031,0.02,0.045,,",
        "int8,canary,,outcome:ok,1000,,,,",
        "int8,canary,stable,error_rate:ratio,3.1,1.9,5.2,worse,",
        "int8,canary,stable,latency_p95:difference,0.01,-0.01,0.03,too_early,12000.0",
    ] {
        assert!(rows.lines().any(|each| each == line), "{line} is not in\n{rows}");
    }
    assert!(rows.lines().all(|line| line.split(',').count() == 9));
}

/// What is known of one comes before what is not known of another.
#[test]
fn who_had_no_traffic_is_spoken_of_last() {
    let mut found = found();
    let mut idle = variant(0, json!(null), 0.0);
    idle["verdict"] = json!("too_early");
    idle["words"] = json!("a has had no traffic that counts: nothing to judge");
    found["variants"]["a"] = idle;
    found["order"] = json!(["stable", "a", "canary"]);
    let text = screen(&found, now(), Bar::plain(), usize::MAX, Paint { on: false });
    let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part}: {text}"));
    assert!(at("canary fails more often") < at("a has had no traffic"), "{text}");
}
