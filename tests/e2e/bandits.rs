//! Ramps without steps from outside: shares follow what is known, and guardrails win.
//!
//! Periods are shortened to a second; what must be known before shares move is not.

use serde_json::{Value, json};
use weir_tests::{ADMIN_KEY, backend, gateway, millis, seconds};

use crate::experiments::split;
use crate::ramps::{
    Load, RAMP, becomes, by_request, failing, healthy, pair, serving, started, state, until_is,
};

fn bandit() -> Value {
    json!({
        "mode": "bandit", "metric": "failed", "period": "1s", "warm_up": null,
        "guardrails": [{ "metric": "failed" }], "reason": "let it find out",
    })
}

/// The shares of canary, oldest revision first.
fn path(history: &Value) -> Vec<f64> {
    let revisions = history["revisions"].as_array().unwrap().iter().rev();
    revisions.map(|revision| revision["weights"]["canary"].as_f64().unwrap()).collect()
}

/// Ten points at a time from the floor to where control has a tenth.
const UP: [f64; 11] = [0.0, 5.0, 15.0, 25.0, 35.0, 45.0, 55.0, 65.0, 75.0, 85.0, 90.0];

#[tokio::test]
async fn shares_go_to_who_fails_less_and_every_move_is_stored_with_what_it_rests_on() {
    let (gateway, stable, _canary) = serving(healthy()).await;
    stable.becomes(
        backend().answers("stable").delay(millis(5)).every(5, backend().status(500).answers("no")),
    );
    let api = gateway.api();
    let begun = started(&api, &bandit()).await;
    assert_eq!((&begun["mode"], &begun["state"]), (&json!("bandit"), &json!("running")));
    assert_eq!((&begun["share"], &begun["steps"]), (&json!(0.05), &json!([])));
    assert_eq!(begun["decisions"][0]["shares"], json!({ "canary": 0.05, "stable": 0.95 }));
    assert!(begun.get("notes").is_none(), "units are requests: {begun:#}");
    let _load = Load::on(&gateway.client());
    until_is(&api, seconds(90), |now| now["share"].as_f64() >= Some(0.89)).await;

    let now = state(&api).await;
    assert_eq!(now["state"], "running", "it has no end of its own");
    let moves: Vec<&Value> = now["decisions"].as_array().unwrap().iter().rev().skip(1).collect();
    assert_eq!(moves.len(), 9, "{now:#}");
    for made in &moves {
        assert_eq!((&made["action"], &made["reason"]), (&json!("move"), &json!("chances")));
        let arms = made["evidence"]["arms"].as_array().unwrap();
        assert_eq!(arms.len(), 2);
        assert!(arms[0]["chance_best"].as_f64() > Some(0.9), "{made:#}");
        for arm in arms {
            assert!(arm["values"].as_f64() >= Some(200.0), "{made:#}");
        }
        assert!(arms[1]["events"].as_f64() >= Some(20.0), "{made:#}");
        assert_eq!(arms[0]["guardrails"][0]["metric"], "failed");
    }
    let history = gateway.get("/experiments/int8/history").await;
    let path = path(&history);
    // The last one is rounded down to a basis point.
    assert!(path.iter().zip(UP).all(|(got, want)| (got - want).abs() < 0.02), "{path:?}");
    assert_eq!(path.len(), UP.len());
    let entry = gateway.get("/audit").await["items"][0].clone();
    assert_eq!(entry["action"], "ramp.move");
    assert_eq!(entry["after"]["ramp"]["evidence"]["arms"].as_array().unwrap().len(), 2);
    assert_eq!(entry["after"]["ramp"]["arms"], json!(["canary", "stable"]));
    let words = entry["reason"].as_str().unwrap();
    assert!(
        words.starts_with("shares move: canary ") && words.contains("chances of being best"),
        "{words}"
    );
    let arms = &now["bandit"]["arms"];
    assert_eq!((&arms[0]["variant"], &arms[1]["variant"]), (&json!("canary"), &json!("stable")));
    assert_eq!(now["guardrails"][0]["variant"], "canary");
    let series =
        "weir_ramp_decisions_total{experiment=\"int8\",decision=\"move\",reason=\"chances\"}";
    assert_eq!(gateway.metric(series).await, 9.0);

    // Each period is an epoch of the results.
    let results = gateway.get("/experiments/int8/results").await;
    assert!(results["revisions"].as_array().unwrap().len() >= 9, "{results:#}");
    assert_eq!(results["variants"]["canary"]["versus_control"]["error_rate"]["verdict"], "better");

    // Somebody ends it.
    let promoted = api.post(&format!("{RAMP}/promote"), r#"{"variant":"canary"}"#).await;
    assert_eq!((promoted.status.as_u16(), &promoted.json()["state"]), (200, &json!("promoted")));
    assert_eq!(promoted.json()["share"], 1.0);
}

#[tokio::test]
async fn an_arm_that_breaches_is_rolled_back_and_cools_down_whatever_is_started_next() {
    let (gateway, _stable, _canary) = serving(failing()).await;
    let api = gateway.api();
    started(&api, &bandit()).await;
    let _load = Load::on(&gateway.client());
    let over = becomes(&api, "rolled_back").await;
    assert_eq!((&over["share"], &over["decisions"][0]["variant"]), (&json!(0.0), &json!("canary")));
    assert_eq!(over["decisions"][0]["evidence"]["guardrails"][0]["metric"], "failed");
    assert_eq!(over["bandit"]["arms"][0]["state"], "rolled_back");
    for next in [bandit(), json!({ "variant": "canary" })] {
        let refused = api.post(RAMP, next.to_string()).await;
        assert_eq!(refused.status, 409, "{}", refused.text());
        assert_eq!(refused.json()["error"]["type"], "cooling_down");
    }
}

#[tokio::test]
async fn a_pause_freezes_shares_and_a_hand_on_them_is_followed() {
    let (gateway, stable, _canary) = serving(healthy()).await;
    stable.becomes(
        backend().answers("stable").delay(millis(5)).every(5, backend().status(500).answers("no")),
    );
    let api = gateway.api();
    started(&api, &bandit()).await;
    assert_eq!(api.post(&format!("{RAMP}/pause"), "").await.status, 200);
    let load = Load::on(&gateway.client());
    until_is(&api, seconds(60), |now| {
        now["bandit"]["arms"].as_array().unwrap().iter().all(|arm| arm["is_enough"] == true)
    })
    .await;
    assert_eq!(state(&api).await["share"], 0.05, "it is paused");
    drop(load);
    let set = gateway.set_weights("int8", json!({ "stable": 60, "canary": 40 })).await;
    assert_eq!(set.status, 200, "{}", set.text());
    assert_eq!(api.post(&format!("{RAMP}/resume"), "").await.status, 200);
    let _load = Load::on(&gateway.client());
    until_is(&api, seconds(60), |now| now["share"] == 0.5).await;
    let aborted = api.post(&format!("{RAMP}/abort"), "").await.json();
    assert_eq!((&aborted["state"], &aborted["share"]), (&json!("aborted"), &json!(0.0)));
}

/// F18 for moves: none is skipped and none is made twice, although the process is killed right at each.
#[tokio::test]
async fn f18_a_kill_at_every_move_neither_skips_nor_repeats_one() {
    let (stable, canary) = pair(healthy()).await;
    stable.becomes(
        backend().answers("stable").delay(millis(5)).every(5, backend().status(500).answers("no")),
    );
    let prepared = gateway(by_request(&stable, &canary)).write();
    let mut process = prepared.spawn().await;
    started(&process.api(), &bandit()).await;
    for _ in 0..4 {
        let _load = Load::on(&process.client(ADMIN_KEY));
        let limit = tokio::time::Instant::now() + seconds(60);
        // What this process decided, not what it read.
        let moved = || {
            let events = process.events("weir.ramp.decided");
            events.iter().any(|event| event["decision"] == "move")
        };
        while !moved() {
            assert!(tokio::time::Instant::now() < limit, "{:#}", state(&process.api()).await);
            tokio::time::sleep(millis(2)).await;
        }
        process.kill();
        assert!(process.exit(seconds(10)).await.is_none_or(|code| code != 0));
        process = prepared.spawn().await;
    }
    let over = state(&process.api()).await;
    let made = over["decisions"].as_array().unwrap();
    let path = path(&process.get("/experiments/int8/history").await);
    assert!(made.len() >= 5, "{over:#}");
    assert_eq!(path.len(), made.len() + 1, "a revision for the file's and each decision: {path:?}");
    assert!(path.iter().zip(UP).all(|(got, want)| (got - want).abs() < 0.02), "{path:?}");
}

#[tokio::test]
async fn sticky_units_are_noted_and_late_feedback_of_theirs_is_refused() {
    let (stable, canary) = pair(healthy()).await;
    let text = split(&stable, &canary, (100, 0));
    let text = format!("{text}\n[feedback.metrics.quick]\nkind = \"bool\"\nwindow = \"1m\"\n");
    let gateway = gateway(text).start().await;
    let api = gateway.api();
    let mut late = bandit();
    late["metric"] = json!("feedback:thumbs_up");
    late["period"] = json!("5m");
    let refused = api.post(RAMP, late.to_string()).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    let error = refused.json()["error"].clone();
    assert_eq!(error["details"][0]["field"], "metric");
    assert!(error["message"].as_str().unwrap().contains("changed sides"), "{error}");
    late["metric"] = json!("feedback:quick");
    let taken = started(&api, &late).await;
    assert!(taken["notes"][0].as_str().unwrap().contains("header:x-user-id"), "{taken:#}");
    assert_eq!(taken["bandit"]["better"], "higher");
}

#[tokio::test]
async fn what_is_wrong_with_a_bandit_is_told_member_by_member() {
    let (gateway, _stable, _canary) = serving(healthy()).await;
    let api = gateway.api();
    let fields = |bad: Value| {
        let api = api.clone();
        async move {
            let answer = api.post(RAMP, bad.to_string()).await;
            assert_eq!(answer.status, 400, "{}", answer.text());
            let details = answer.json()["error"]["details"].as_array().unwrap().clone();
            let mut fields: Vec<String> =
                details.iter().map(|d| d["field"].as_str().unwrap().to_owned()).collect();
            fields.sort();
            fields
        }
    };
    let bad = json!({ "mode": "bandit", "metric": "luck", "better": "maybe", "period": 5,
        "arms": ["canary", "stable", "nobody"], "steps": [] });
    let expected = ["arms", "arms", "better", "metric", "period", "steps"];
    assert_eq!(fields(bad).await, expected);
    let bad = json!({ "mode": "bandit", "metric": "failed", "floor": 0.7, "decay": 1 });
    assert_eq!(fields(bad).await, ["decay", "floor"]);
    assert_eq!(fields(json!({ "mode": "bandit" })).await, ["metric"]);
    assert_eq!(fields(json!({ "mode": "steps", "period": "5m" })).await, ["period"]);
    assert_eq!(fields(json!({ "mode": "roulette" })).await, ["mode"]);
    // And a ramp as it always was is none.
    let plain = started(&api, &json!({})).await;
    assert_eq!((&plain["mode"], &plain["bandit"]), (&json!("steps"), &Value::Null));
}
