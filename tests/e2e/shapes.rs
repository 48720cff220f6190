//! The shapes of the interface, member by member: what others program against.

use serde_json::{Value, json};
use weir_tests::{ADMIN_KEY, Gateway, backend, gateway, seconds, until_async, weir};

use crate::experiments::split;
use crate::ramps::{Load, RAMP};

const RESULTS: &str = "/experiments/int8/results";

#[track_caller]
fn has(value: &Value, members: &[&str]) {
    for member in members {
        assert!(value.get(member).is_some(), "no {member:?} in {value:#}");
    }
}

/// `{"value","low","high"}`, numbers or null.
#[track_caller]
fn is_bounded(value: &Value) {
    for member in ["value", "low", "high"] {
        let found = value.get(member).unwrap_or_else(|| panic!("no {member:?} in {value:#}"));
        assert!(found.is_number() || found.is_null(), "{value:#}");
    }
}

/// A pair that both answer, with feedback on some of it.
async fn measured() -> (Gateway, [weir_tests::Backend; 2]) {
    // Both fail now and then: of what never fails it cannot be said when it will have shown enough.
    let fails = || backend().status(500).answers("no");
    let stable = backend().openai("stable").every(5, fails()).start().await;
    let canary = backend().openai("canary").every(5, fails()).start().await;
    let text = split(&stable, &canary, (50, 50)).replace("[\"header:x-user-id\"]", "[\"request\"]");
    let text = format!("{text}\n[feedback.metrics.thumbs_up]\nkind = \"bool\"\n");
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    for number in 0..60 {
        let answer = client.post("/v1/chat/completions", r#"{"messages":[]}"#).await;
        let receipt = answer.header("x-weir-receipt").unwrap();
        let said = json!({
            "receipt": receipt, "metric": "thumbs_up", "value": number % 3 > 0,
            "segment": { "country": "de" },
        });
        assert_eq!(client.post("/feedback", said.to_string()).await.json()["stored"], 1);
    }
    until_async(seconds(20), || async {
        let results = gateway.get(RESULTS).await;
        let told = |variant: &str| {
            let of = &results["variants"][variant];
            let said = of["metrics"]["thumbs_up"]["count"].as_u64().unwrap_or(0);
            (of["requests"].as_u64().unwrap_or(0), said)
        };
        let (stable, canary) = (told("stable"), told("canary"));
        (stable.0 + canary.0, stable.1 + canary.1) == (60, 60)
    })
    .await;
    (gateway, [stable, canary])
}

/// Interface 5 and 6.3.
#[tokio::test]
async fn results_have_every_member_of_the_interface() {
    let (gateway, _backends) = measured().await;
    let results = gateway.get(&format!("{RESULTS}?sketch=120")).await;
    has(&results, &["experiment", "since", "revision", "control", "sample_ratio", "variants"]);
    assert_eq!((&results["experiment"], &results["control"]), (&json!("int8"), &json!("stable")));
    assert_eq!(results["revision"], 1);
    let ratio = &results["sample_ratio"];
    has(ratio, &["p_value", "expected", "observed", "verdict"]);
    assert!(ratio["p_value"].as_f64().unwrap() <= 1.0);
    has(&ratio["expected"], &["stable", "canary"]);
    has(&ratio["observed"], &["stable", "canary"]);
    for name in ["stable", "canary"] {
        let variant = &results["variants"][name];
        for count in ["exposures", "units", "requests"] {
            assert!(variant[count].as_u64().unwrap() > 0, "{count} of {variant:#}");
        }
        let outcomes = variant["outcomes"].as_object().unwrap();
        let all: Vec<&str> = outcomes.keys().map(String::as_str).collect();
        assert_eq!(
            all,
            [
                "ok",
                "client_error",
                "upstream_error",
                "timeout",
                "upstream_reset",
                "client_aborted",
                "gateway_error"
            ]
        );
        is_bounded(&variant["error_rate"]);
        for timing in ["latency", "time_to_first_byte"] {
            for quantile in ["p50", "p95", "p99"] {
                is_bounded(&variant[timing][quantile]);
                let value = variant[timing][quantile]["value"].as_f64().unwrap();
                assert!((0.000_01..5.0).contains(&value), "seconds: {value}");
            }
        }
        assert!(variant["latency"]["sketch"].as_array().unwrap().len() <= 120);
        for kind in ["input", "output"] {
            assert!(variant["tokens"][kind].as_u64().unwrap() > 0, "{:#}", variant["tokens"]);
        }
        let said = &variant["metrics"]["thumbs_up"];
        for member in ["count", "mean", "low", "high"] {
            assert!(said[member].is_number(), "{member} of {said:#}");
        }
    }
    let versus = &results["variants"]["canary"]["versus_control"];
    has(versus, &["error_rate", "latency_p95", "feedback:thumbs_up"]);
    let words = ["better", "worse", "no_worse", "too_early"];
    for (metric, against) in versus.as_object().unwrap() {
        has(against, &["difference", "low", "high", "verdict", "ratio", "margin", "needed"]);
        assert!(words.contains(&against["verdict"].as_str().unwrap()), "{metric}: {against:#}");
        is_bounded(&against["ratio"]);
        assert!(against["margin"].as_f64().unwrap() > 0.0, "{metric}: {against:#}");
        assert!(!against["words"].as_str().unwrap().is_empty());
    }
    // Sixty requests judge nobody, and what is still needed is told.
    let failures = &versus["error_rate"];
    assert_eq!(failures["verdict"], "too_early");
    let needed = failures["needed"].as_f64().unwrap();
    assert!((100.0..1e6).contains(&needed), "{failures:#}");
    let told = results["variants"]["canary"]["words"].as_str().unwrap().to_owned();
    assert!(told.starts_with("too early to judge canary"), "{told}");
    assert!(
        failures["words"].as_str().unwrap().contains("more requests to canary"),
        "{failures:#}"
    );
}

/// The command says the same: for people, for programs, for spreadsheets.
#[tokio::test]
async fn weir_results_tells_what_the_api_does_in_three_forms() {
    let (gateway, _backends) = measured().await;
    let admin = format!("http://{}", gateway.admin);
    let run = |more: &[&str]| {
        let words = [&["results", "int8"], more, &["--admin", &admin, "--token", ADMIN_KEY]];
        let out = weir(&words.concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let answer = gateway.get(RESULTS).await;
    let same: Value = serde_json::from_str(&run(&["--json"])).unwrap();
    assert_eq!(same["variants"]["canary"]["metrics"], answer["variants"]["canary"]["metrics"]);

    let screen = run(&[]);
    let lines: Vec<&str> = screen.lines().collect();
    let at = |text: &str| {
        lines
            .iter()
            .position(|line| line.contains(text))
            .unwrap_or_else(|| panic!("{text:?} is not in\n{screen}"))
    };
    // The verdict first, then whether it can be trusted, then numbers and bars.
    assert!(at("too early to judge canary") < at("sample ratio: requests arrive as dealt"));
    assert!(at("sample ratio:") < at("exposures") && at("exposures") < at("canary against stable"));
    assert!(screen.contains("too early, about ") && screen.contains(" more requests"), "{screen}");
    assert!(lines[at("failures")..].iter().any(|line| line.contains('o')), "{screen}");

    let rows = run(&["--csv"]);
    let mut cells = rows.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let heading = [
        "experiment",
        "variant",
        "against",
        "measure",
        "value",
        "low",
        "high",
        "verdict",
        "needed",
    ];
    assert_eq!(cells.next().unwrap(), heading);
    let cells: Vec<Vec<&str>> = cells.collect();
    assert!(cells.iter().all(|row| row.len() == heading.len() && row[0] == "int8"), "{rows}");
    let of = |variant: &str, measure: &str| {
        let found = cells.iter().find(|row| row[1] == variant && row[3] == measure);
        found.unwrap_or_else(|| panic!("{variant} {measure} is not in\n{rows}")).clone()
    };
    for variant in ["stable", "canary"] {
        let exposures = &answer["variants"][variant]["exposures"];
        assert_eq!(of(variant, "exposures")[4], exposures.to_string());
        assert!(of(variant, "latency_p95")[4].parse::<f64>().unwrap() > 0.0);
        assert_eq!(
            of(variant, "feedback:thumbs_up")[4].parse::<f64>().ok(),
            answer["variants"][variant]["metrics"]["thumbs_up"]["mean"].as_f64()
        );
    }
    let failures = of("canary", "error_rate:difference");
    assert_eq!((failures[2], failures[7]), ("stable", "too_early"));
    assert!(failures[8].parse::<f64>().unwrap() > 0.0);
}

/// Interface 6.4, with its own example.
#[tokio::test]
async fn a_ramp_takes_and_has_every_member_of_the_interface() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let text = split(&stable, &canary, (100, 0)).replace("[\"header:x-user-id\"]", "[\"request\"]");
    let gateway = gateway(text).start().await;
    let api = gateway.api();
    let asked = r#"{"variant":"canary","steps":[{"share":0.05,"min_time":"10m","min_exposures":2000}],
        "guardrails":[{"metric":"failed","tolerance":0.2,"floor":0.002},{"metric":"latency_p95","tolerance":0.15},
        {"metric":"feedback:thumbs_up","tolerance":0.02,"required":false}],"on_undecided":"hold","patience":"24h"}"#;
    let answer = api.post(RAMP, asked).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let check = |ramp: &Value, is_series_there: bool| {
        has(ramp, &["state", "step", "share", "since", "guardrails", "decisions"]);
        let states = ["running", "holding", "paused", "promoted", "rolled_back", "aborted"];
        assert!(states.contains(&ramp["state"].as_str().unwrap()));
        assert!(ramp["step"].is_u64() && ramp["share"].is_f64() && ramp["since"].is_string());
        let metrics: Vec<&str> = ramp["guardrails"]
            .as_array()
            .unwrap()
            .iter()
            .map(|each| each["metric"].as_str().unwrap())
            .collect();
        assert_eq!(metrics, ["failed", "latency_p95", "feedback:thumbs_up"], "{ramp:#}");
        for guardrail in ramp["guardrails"].as_array().unwrap() {
            has(guardrail, &["metric", "log_e_harm", "log_e_safe", "thresholds", "series"]);
            assert!(guardrail["log_e_harm"].is_number() && guardrail["log_e_safe"].is_number());
            has(&guardrail["thresholds"], &["breach", "held"]);
            let series = guardrail["series"].as_array().unwrap();
            assert!(series.len() <= 200 && series.is_empty() != is_series_there, "{guardrail:#}");
        }
        for made in ramp["decisions"].as_array().unwrap() {
            has(made, &["at", "action", "reason", "evidence"]);
            assert!(made["at"].is_string() && made["evidence"].is_object());
        }
    };
    // What is watched is told at once, not only after the first look.
    check(&answer.json(), true);
    assert_eq!(answer.json()["decisions"][0]["action"], "start");
    let load = Load::on(&gateway.client());
    until_async(seconds(30), || async {
        let now = api.get(RAMP).await.json();
        now["guardrails"][0]["exposures"]["treated"].as_u64() > Some(10)
    })
    .await;
    drop(load);
    check(&api.get(RAMP).await.json(), true);
    for (hand, state) in [("pause", "paused"), ("resume", "running"), ("promote", "promoted")] {
        let moved = api.post(&format!("{RAMP}/{hand}"), r#"{"reason":"by hand"}"#).await;
        assert_eq!((moved.status.as_u16(), &moved.json()["state"]), (200, &json!(state)));
        check(&moved.json(), true);
    }
    // A viewer that comes later, to a gateway that was restarted, sees how it ended.
    let gateway = gateway.restart().await;
    let over = gateway.api().get(RAMP).await.json();
    assert_eq!(
        (&over["state"], &over["decisions"][0]["action"]),
        (&json!("promoted"), &json!("promote"))
    );
}

/// What was said of an answer stands beside it, with the segment it was said of.
#[tokio::test]
async fn feedback_is_shown_with_its_request() {
    let (gateway, _backends) = measured().await;
    let client = gateway.client();
    // One that failed is spoken of like any other.
    let answer = client.post("/v1/chat/completions", r#"{"messages":[]}"#).await;
    let id = answer.header("x-request-id").unwrap().to_owned();
    let receipt = answer.header("x-weir-receipt").unwrap();
    let said = json!([
        { "receipt": receipt, "metric": "thumbs_up", "value": true, "segment": { "country": "de", "plan": "pro" } },
        { "receipt": receipt, "metric": "stars", "value": 4, "id": "a" },
        { "receipt": receipt, "metric": "comment", "value": "it's '); DROP TABLE feedback; --" },
    ]);
    assert_eq!(client.post("/feedback", said.to_string()).await.json()["stored"], 3);
    gateway.accounts().await;
    let shown = gateway.get(&format!("/requests/{id}")).await;
    let mut feedback = shown["feedback"].as_array().unwrap().clone();
    feedback.sort_by_key(|said| said["metric"].as_str().unwrap().to_owned());
    let [comment, stars, thumbs] = feedback.as_slice() else { panic!("{shown:#}") };
    assert_eq!(comment["value"], "it's '); DROP TABLE feedback; --");
    assert_eq!(
        (&stars["value"], &stars["id"], &stars["segment"]),
        (&json!(4.0), &json!("a"), &json!(null))
    );
    assert_eq!((&thumbs["value"], &thumbs["id"]), (&json!(true), &json!(null)));
    assert_eq!(thumbs["segment"], json!({ "country": "de", "plan": "pro" }));
    assert_eq!((&thumbs["eligible"], &thumbs["key_id"]), (&json!(true), &shown["auth.key_id"]));
    let other = gateway.outcomes("").await;
    let other = other.iter().find(|row| row["request_id"] != id.as_str()).unwrap();
    let shown = gateway.get(&format!("/requests/{}", other["request_id"].as_str().unwrap())).await;
    assert_eq!(shown["feedback"].as_array().unwrap().len(), 1);
}
