//! Alarms: breaches and mismatches are told when they begin and when they end, to Alertmanager too.

use serde_json::{Value, json};
use weir_tests::{Backend, Gateway, gateway, seconds, until, until_async};

use crate::experiments::split;
use crate::ramps::{Load, RAMP, by_request, failing, patient, started};
use crate::webhooks::{SECRET, hook, move_weights, receiver, telling};

fn alertmanager(receiver: &Backend, events: &str) -> String {
    format!(
        "[[webhooks]]\nname = \"alerts\"\nurl = \"{}\"\nevents = {events}\n\
         format = \"alertmanager\"\nlabels = {{ team = \"ml\" }}\n",
        receiver.url()
    )
}

fn events(receiver: &Backend) -> Vec<String> {
    let name = |told: Value| told["event"].as_str().unwrap().to_owned();
    receiver.seen().iter().map(|seen| name(seen.json())).collect()
}

/// Every alert that came, one after the other.
fn alerts(receiver: &Backend) -> Vec<Value> {
    let all = receiver.seen().into_iter().map(|seen| seen.json());
    all.flat_map(|list| list.as_array().unwrap().clone()).collect()
}

/// Times are all in UTC with as many digits, so that their order is that of their text.
fn is_over(alert: &Value) -> bool {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = ::gateway::clock::rfc3339_micros(i64::try_from(since.as_micros()).unwrap());
    *alert["endsAt"].as_str().unwrap() <= *now
}

async fn rolled_back(gateway: &Gateway) {
    started(&gateway.api(), &patient()).await;
    let _load = Load::on(&gateway.client());
    crate::ramps::becomes(&gateway.api(), "rolled_back").await;
}

#[tokio::test]
async fn a_breach_and_its_rollback_are_told_with_their_evidence() {
    let (ops, am) = (receiver().await, receiver().await);
    let (stable, canary) = crate::ramps::pair(failing()).await;
    let hooks = hook("ops", &ops, "[\"ramp.*\", \"guardrail.breached\"]", "")
        + &alertmanager(&am, "[\"ramp.roll_back\", \"guardrail.*\"]");
    let prepared = gateway(by_request(&stable, &canary) + &hooks).write();
    std::fs::write(prepared.dir.join("hook.key"), SECRET).unwrap();
    let gateway = prepared.start().await;
    rolled_back(&gateway).await;
    until(seconds(20), || ops.calls() >= 3).await;
    let told = events(&ops);
    assert_eq!(told.first().map(String::as_str), Some("ramp.start"));
    assert_eq!(told[told.len() - 2..], ["guardrail.breached", "ramp.roll_back"]);
    let seen = ops.seen();
    let rollback = seen.last().unwrap().json();
    assert_eq!(
        (&rollback["variant"], &rollback["ramp"]["reason"]),
        (&json!("canary"), &json!("breached"))
    );
    assert_eq!(rollback["after"]["weights"]["canary"], 0.0);
    let guardrail = &rollback["evidence"]["guardrails"][0];
    assert_eq!(guardrail["metric"], "failed");
    assert!(guardrail["log_e_harm"].as_f64() >= guardrail["thresholds"]["breach"].as_f64());
    let breach = seen[seen.len() - 2].json();
    assert_eq!((&breach["metric"], &breach["audit"]), (&json!("failed"), &rollback["audit"]));
    assert_ne!(breach["id"], rollback["id"]);
    let entry = gateway.get("/audit").await["items"][0].clone();
    assert_eq!((&entry["id"], &entry["action"]), (&rollback["audit"], &json!("ramp.roll_back")));

    // The same as alerts: both fire, and end when somebody acts on the experiment.
    until(seconds(20), || am.calls() >= 1).await;
    assert_eq!(am.last().path(), "/api/v2/alerts");
    assert!(am.last().header("webhook-signature").is_none());
    let firing = alerts(&am);
    let names: Vec<&str> =
        firing.iter().map(|alert| alert["labels"]["alertname"].as_str().unwrap()).collect();
    assert_eq!(names, ["WeirGuardrailBreached", "WeirRampRolledBack"]);
    for alert in &firing {
        let labels = &alert["labels"];
        assert_eq!((&labels["experiment"], &labels["variant"]), (&json!("int8"), &json!("canary")));
        assert_eq!((&labels["team"], &labels["severity"]), (&json!("ml"), &json!("warning")));
        assert!(!is_over(alert), "{alert:#}");
    }
    assert!(
        firing[1]["annotations"]["summary"]
            .as_str()
            .unwrap()
            .contains("guardrail failed is breached")
    );
    let before = am.calls();
    move_weights(&gateway, 1).await;
    until(seconds(20), || am.calls() > before).await;
    let mut ended = am.last().json().as_array().unwrap().clone();
    ended.sort_by_key(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned());
    assert_eq!(ended.len(), 2, "{ended:#?}");
    for (began, ended) in firing.iter().zip(&ended) {
        assert_eq!((&began["labels"], &began["startsAt"]), (&ended["labels"], &ended["startsAt"]));
        assert!(is_over(ended), "{ended:#}");
    }
}

#[tokio::test]
async fn what_lasts_is_sent_again_to_an_alertmanager_that_knows_nothing_of_it() {
    let am = receiver().await;
    let hooks = alertmanager(&am, "[\"experiment.stop\"]");
    let (gateway, _backends) = telling(hooks).await;
    let api = gateway.api();
    assert_eq!(api.post("/api/v1/experiments/int8/stop", "").await.status, 200);
    until(seconds(10), || am.calls() == 1).await;
    // A start sends it at once; while the process runs, each minute does.
    let gateway = gateway.restart().await;
    until(seconds(10), || am.calls() == 2).await;
    let [first, again] = [0, 1].map(|at| am.seen()[at].json()[0].clone());
    assert_eq!(first["labels"]["alertname"], "WeirExperimentStopped");
    assert_eq!((&first["labels"], &first["startsAt"]), (&again["labels"], &again["startsAt"]));
    assert!(!is_over(&again), "{again:#}");
    let shown = gateway.get("/experiments/int8").await;
    let etag = format!("\"{}\"", shown["revision"]);
    let undo = gateway.api().post("/api/v1/experiments/int8/undo", r#"{"to":1}"#);
    assert_eq!(undo.header("if-match", &etag).await.status, 200);
    until(seconds(10), || am.calls() == 3).await;
    assert!(is_over(&am.last().json()[0]), "{}", am.last().text());
    let gateway = gateway.restart().await;
    gateway.get("/status").await;
    assert_eq!(am.calls(), 3, "what is over is not sent again");
}

#[tokio::test]
async fn a_sample_ratio_mismatch_is_told_when_it_begins_and_when_it_ends() {
    let (ops, am) = (receiver().await, receiver().await);
    let hooks =
        hook("ops", &ops, "[\"sample_ratio.*\"]", "") + &alertmanager(&am, "[\"sample_ratio.*\"]");
    let (gateway, _backends) = telling(hooks).await;
    let evidence = || std::sync::Arc::clone(&gateway.running.as_ref().unwrap().shared().evidence);
    // As if what deals were broken: a tenth should have come to canary.
    evidence().with_known("int8", |known| {
        let control = known.number("stable").unwrap();
        known.evidence.open(1, &[9_000, 1_000]);
        for unit in 0..3_000 {
            let exposure = policies::evidence::Exposure {
                revision: 1,
                variant: control,
                unit: u64::wrapping_mul(unit, 0x9E37_79B9_7F4A_7C15),
                ..Default::default()
            };
            known.evidence.add(&exposure);
        }
    });
    until(seconds(20), || ops.calls() == 1 && am.calls() == 1).await;
    let told = ops.last().json();
    assert_eq!((&told["event"], &told["by"]), (&json!("sample_ratio.mismatch"), &json!("control")));
    assert_eq!(told["evidence"]["variants"]["stable"]["observed"], 3_000);
    assert!(told["evidence"]["p_value"].as_f64().unwrap() < 0.001);
    assert!(told["reason"].as_str().unwrap().contains("canary 0 of 300 expected"), "{told:#}");
    assert!(gateway.metric("weir_sample_ratio_mismatch_pvalue{experiment=\"int8\"}").await < 0.001);
    let entry = gateway.get("/audit").await["items"][0].clone();
    assert_eq!(entry["action"], "sample_ratio.mismatch");

    // Neither time nor a restart tells it again.
    let gateway = gateway.restart().await;
    until(seconds(10), || am.calls() == 2).because("it is still firing").await;
    gateway.running.as_ref().unwrap().shared().evidence.begin_anew("int8");
    until(seconds(20), || ops.calls() == 2).await;
    assert_eq!(events(&ops), ["sample_ratio.mismatch", "sample_ratio.cleared"]);
    until(seconds(10), || am.calls() == 3).await;
    assert!(is_over(&am.last().json()[0]), "{}", am.last().text());
    let told = gateway.get("/audit").await["items"].as_array().unwrap().clone();
    let of_it =
        told.iter().filter(|entry| entry["action"].as_str().unwrap().starts_with("sample_ratio"));
    assert_eq!(of_it.count(), 2);
}

/// A guardrail that is only observed decides nothing, and is told once.
#[tokio::test]
async fn a_breach_that_is_only_observed_is_told_and_rolls_nothing_back() {
    let ops = receiver().await;
    let (stable, canary) = crate::ramps::pair(failing()).await;
    let text = split(&stable, &canary, (100, 0)).replace("[\"header:x-user-id\"]", "[\"request\"]");
    let prepared = gateway(text + &hook("ops", &ops, "\"guardrail.breached\"", "")).write();
    std::fs::write(prepared.dir.join("hook.key"), SECRET).unwrap();
    let gateway = prepared.start().await;
    let mut ramp = patient();
    ramp["guardrails"] =
        json!([{ "metric": "client_error" }, { "metric": "failed", "action": "observe" }]);
    let begun = gateway.api().post(RAMP, ramp.to_string()).await;
    assert_eq!(begun.status, 201, "{}", begun.text());
    let load = Load::on(&gateway.client());
    until(seconds(60), || ops.calls() == 1).await;
    let told = ops.last().json();
    assert_eq!((&told["metric"], &told["variant"]), (&json!("failed"), &json!("canary")));
    assert!(told["reason"].as_str().unwrap().contains("it is observed only"), "{told:#}");
    drop(load);
    let now = gateway.api().get(RAMP).await.json();
    assert_ne!(now["state"], "rolled_back");
    // Looked at again and again since, also after a restart, and told once.
    let gateway = gateway.restart().await;
    until_async(seconds(20), || async {
        let now = gateway.api().get(RAMP).await.json();
        let judged = now["guardrails"].as_array().unwrap().clone();
        judged.iter().any(|judged| judged["metric"] == "failed" && judged["verdict"] == "breached")
    })
    .await;
    let told = gateway.get("/audit").await["items"].as_array().unwrap().clone();
    let of_it = told.iter().filter(|entry| entry["action"] == "guardrail.breached");
    assert_eq!((of_it.count(), ops.calls()), (1, 1));
}
