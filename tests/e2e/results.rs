//! Results: what each variant did, counted as it was sent, and what is concluded from it.

use serde_json::{Value, json};
use weir_tests::{Backend, Client, Gateway, backend, gateway, seconds, until_async};

/// Half of the requests to each of two backends.
fn split(stable: &Backend, canary: &Backend, unit: &str) -> String {
    format!(
        r#"
        [backends.stable]
        endpoints = ["{}"]
        [backends.canary]
        endpoints = ["{}"]
        [routes.chat]
        path = "/v1/chat/completions"
        backend = "stable"
        [experiments.int8]
        route = "chat"
        unit = ["{unit}"]
        control = "stable"
        [experiments.int8.variants]
        stable = {{ backend = "stable", weight = 50 }}
        canary = {{ backend = "canary", weight = 50 }}
        "#,
        stable.url(),
        canary.url()
    )
}

/// Sends so many requests, each of another user; how many were answered with a 5xx.
async fn send(client: &Client, count: usize) -> u64 {
    let mut failed = 0;
    for user in 0..count {
        let post = client.post("/v1/chat/completions", "{}");
        let answer = post.header("x-user-id", &format!("user-{user}")).await;
        failed += u64::from(answer.status.is_server_error());
    }
    failed
}

async fn results(gateway: &Gateway) -> Value {
    gateway.get("/experiments/int8/results").await
}

fn requests(results: &Value) -> u64 {
    let of = |variant: &str| results["variants"][variant]["requests"].as_u64().unwrap();
    of("stable") + of("canary")
}

/// The results, once so many requests are in them.
async fn results_of(gateway: &Gateway, count: u64) -> Value {
    until_async(seconds(10), || async { requests(&results(gateway).await) == count }).await;
    results(gateway).await
}

#[tokio::test]
async fn a_variant_that_fails_is_worse_with_the_numbers_that_were_sent() {
    let stable = backend().answers("stable").start().await;
    let bad = backend().answers("sorry").status(503);
    let canary = backend().answers("canary").every(3, bad).start().await;
    let gateway = gateway(split(&stable, &canary, "request")).start().await;
    let failed = send(&gateway.client(), 400).await;
    let results = results_of(&gateway, 400).await;

    let of = &results["variants"]["canary"];
    let exposures = of["exposures"].as_u64().unwrap();
    assert_eq!(exposures, canary.calls() as u64, "{results:#}");
    assert_eq!(results["variants"]["stable"]["exposures"], stable.calls());
    assert_eq!(of["units"], exposures, "each request is a unit");
    assert_eq!(of["outcomes"]["upstream_error"], failed);
    assert_eq!(of["outcomes"]["ok"], exposures - failed);
    let rate = failed as f64 / exposures as f64;
    let error_rate = &of["error_rate"];
    assert!((error_rate["value"].as_f64().unwrap() - rate).abs() < 1e-9);
    let (low, high) = (error_rate["low"].as_f64().unwrap(), error_rate["high"].as_f64().unwrap());
    assert!(0.1 < low && low < rate && rate < high && high < 0.6, "{error_rate}");
    let p95 = &of["latency"]["p95"];
    assert!(p95["value"].as_f64().unwrap() > 0.0 && p95["low"].is_number(), "{p95}");
    assert!(of["time_to_first_byte"]["p50"]["value"].as_f64().unwrap() > 0.0);

    let versus = &of["versus_control"]["error_rate"];
    assert_eq!(versus["verdict"], "worse", "{versus:#}");
    assert!((versus["difference"].as_f64().unwrap() - rate).abs() < 1e-9);
    assert!(versus["low"].as_f64().unwrap() > 0.0);
    assert!(versus["ratio"]["low"].as_f64().unwrap() > 1.2);
    assert_eq!(versus["events"], json!({ "variant": failed, "control": 0 }));
    assert_eq!(of["verdict"], "worse");
    assert_eq!(of["words"], "canary fails more often than stable: roll it back");
    assert_eq!(results["words"], of["words"]);
    assert_eq!(results["control"], "stable");
    assert!(results["variants"]["stable"].get("versus_control").is_none());

    let ratio = &results["sample_ratio"];
    assert_eq!(ratio["verdict"], "ok", "{ratio}");
    assert_eq!(ratio["observed"]["canary"], exposures);
    assert!((ratio["expected"]["canary"].as_f64().unwrap() - 200.0).abs() < 1e-9);

    // Thinned buckets hold every request.
    let with = gateway.get("/experiments/int8/results?sketch=12").await;
    let buckets = with["variants"]["canary"]["latency"]["sketch"].as_array().unwrap().clone();
    assert!(!buckets.is_empty() && buckets.len() <= 12);
    assert_eq!(buckets.iter().map(|bucket| bucket[1].as_u64().unwrap()).sum::<u64>(), exposures);
}

#[tokio::test]
async fn a_healthy_pair_is_not_judged_too_early_and_revisions_are_told_apart() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let gateway = gateway(split(&stable, &canary, "request")).start().await;
    send(&gateway.client(), 60).await;
    let before = results_of(&gateway, 60).await;
    assert_eq!(before["variants"]["canary"]["verdict"], "too_early");
    assert!(before["words"].as_str().unwrap().starts_with("too early"), "{}", before["words"]);
    assert_eq!(
        before["variants"]["canary"]["versus_control"]["error_rate"]["verdict"],
        "too_early"
    );

    let changed = gateway.set_weights("int8", json!({"stable": 80, "canary": 20})).await;
    assert_eq!(changed.status, 200);
    send(&gateway.client(), 50).await;
    let both = results_of(&gateway, 110).await;
    let revisions = both["revisions"].as_array().unwrap();
    assert_eq!((&revisions[0]["revision"], &revisions[1]["revision"]), (&json!(2), &json!(1)));
    assert_eq!(revisions[0]["variants"]["canary"]["share"], 0.2);
    assert_eq!(requests(&gateway.get("/experiments/int8/results?since=2").await), 50);
    assert_eq!(requests(&gateway.get("/experiments/int8/results?since=1h").await), 110);
    let refused = gateway.api().get("/api/v1/experiments/int8/results?since=never").await;
    assert_eq!(refused.status, 400);
    let missing = gateway.api().get("/api/v1/experiments/int9/results").await;
    assert_eq!(missing.status, 404);
    // A viewer may read them, a client may not.
    let viewer = gateway.make_key("viewer", json!({})).await;
    let path = "/api/v1/experiments/int8/results";
    assert_eq!(Client::plain(gateway.admin).bearer(&viewer).get(path).await.status, 200);
    let client = Client::plain(gateway.admin).bearer(&gateway.client_key);
    assert_eq!(client.get(path).await.status, 403);
}

#[tokio::test]
async fn forced_requests_and_those_without_a_unit_are_no_exposures() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let gateway = gateway(split(&stable, &canary, "header:x-user-id")).start().await;
    for _ in 0..5 {
        assert_eq!(gateway.client().post("/v1/chat/completions", "{}").await.status, 200);
        let forced = gateway.inspector().post("/v1/chat/completions", "{}");
        let forced = forced.header("x-user-id", "u").header("x-weir-variant", "canary").await;
        assert_eq!(forced.status, 200);
    }
    let client = gateway.client();
    // The same users twice: as many units as users.
    for _ in 0..2 {
        send(&client, 30).await;
    }
    let results = results_of(&gateway, 60).await;
    let units = |variant: &str| results["variants"][variant]["units"].as_u64().unwrap();
    assert_eq!(units("stable") + units("canary"), 30);
    assert_eq!(results["counts"], "units");
    let observed = &results["sample_ratio"]["observed"];
    assert_eq!(observed["stable"].as_u64().unwrap() + observed["canary"].as_u64().unwrap(), 30);
}

#[tokio::test]
async fn results_go_on_after_a_restart() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let gateway = gateway(split(&stable, &canary, "request")).start().await;
    send(&gateway.client(), 40).await;
    let before = results_of(&gateway, 40).await;
    let gateway = gateway.restart().await;
    let after = results(&gateway).await;
    assert_eq!(after["variants"], before["variants"]);
    assert_eq!(after["since"], before["since"]);
    send(&gateway.client(), 10).await;
    let more = results_of(&gateway, 50).await;
    assert_eq!(more["sample_ratio"]["verdict"], "ok");
}

#[tokio::test]
async fn kill_9_loses_a_moment_of_results_and_no_more() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let prepared = gateway(split(&stable, &canary, "request")).write();
    let weir = prepared.spawn().await;
    let key = weir.make_key("client").await;
    send(&weir.client(&key), 40).await;
    let path = "/experiments/int8/results";
    until_async(seconds(10), || async { requests(&weir.get(path).await) == 40 }).await;
    // What was counted is saved within a second; what is saved afterwards tells that it was.
    let database = crate::recording::database(&prepared.dir);
    let saved = || -> i64 {
        let newest = "SELECT coalesce(max(at), 0) FROM evidence";
        database.query_row(newest, [], |row| row.get(0)).unwrap()
    };
    let counted = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let counted = i64::try_from(counted.as_micros()).unwrap();
    send(&weir.client(&key), 1).await;
    until_async(seconds(10), || async { saved() > counted }).await;
    weir.kill();
    let weir = prepared.spawn().await;
    let kept = requests(&weir.get(path).await);
    assert!((40..=41).contains(&kept), "{kept}");
}

#[tokio::test]
async fn what_is_not_recorded_is_counted_all_the_same() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let gateway =
        gateway(split(&stable, &canary, "request")).recording("outcomes = \"off\"").start().await;
    send(&gateway.client(), 30).await;
    results_of(&gateway, 30).await;
    assert!(gateway.outcomes("").await.is_empty());
    let gateway = gateway.restart().await;
    assert_eq!(requests(&results(&gateway).await), 30);
}

#[tokio::test]
async fn feedback_stands_beside_what_was_measured() {
    let stable = backend().answers("stable").start().await;
    let canary = backend().answers("canary").start().await;
    let gateway = gateway(split(&stable, &canary, "request")).start().await;
    let client = gateway.client();
    let mut said = [0_u64; 2];
    for _ in 0..40 {
        let answer = client.post("/v1/chat/completions", "{}").await;
        let likes = answer.text() == "stable";
        said[usize::from(!likes)] += 1;
        let body = json!({
            "receipt": answer.header("x-weir-receipt").unwrap(), "metric": "thumbs_up", "value": likes,
        });
        let told = client.post("/feedback", body.to_string()).await;
        assert_eq!(told.json()["stored"], 1, "{}", told.text());
    }
    let of = |results: &Value, variant: &str| results["variants"][variant]["metrics"].clone();
    let [liked, disliked] = said;
    until_async(seconds(10), || async {
        let now = results(&gateway).await;
        let count = |variant| of(&now, variant)["thumbs_up"]["count"].as_u64();
        count("stable") == Some(liked) && count("canary") == Some(disliked)
    })
    .await;
    let results = results(&gateway).await;
    assert_eq!(of(&results, "stable")["thumbs_up"]["mean"], 1.0);
    let disliked = &of(&results, "canary")["thumbs_up"];
    assert_eq!((&disliked["mean"], &disliked["low"]), (&json!(0.0), &json!(0.0)));
    assert!(disliked["high"].as_f64().unwrap() < 1.0, "{disliked}");
    let versus = &results["variants"]["canary"]["versus_control"]["feedback:thumbs_up"];
    assert_eq!(
        versus["verdict"], "too_early",
        "a hundred answers on each side are needed: {versus:#}"
    );
}
