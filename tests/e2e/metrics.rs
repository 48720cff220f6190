//! Metrics move by what happened, no more and no less.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weir_tests::{Gateway, backend, gateway, millis, seconds, until, until_async};

use crate::recording::sum_of;

/// Every series with its value.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    async fn of(gateway: &Gateway) -> Self {
        let text = gateway.metrics().await;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let parsed = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        });
        Self(parsed.collect())
    }

    /// One series, which must be there.
    #[track_caller]
    fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("{series} is not there"))
    }
}

async fn until_value(gateway: &Gateway, series: &str, wanted: f64) {
    until_async(seconds(5), async || {
        let now = Scrape::of(gateway).await.value(series);
        if now == wanted { Ok(()) } else { Err(format!("{series}: {now}, not {wanted}")) }
    })
    .await;
}

/// Rows of the store, counted by variant and reason.
fn by_reason(rows: &[Value]) -> BTreeMap<(String, String), f64> {
    let mut counts = BTreeMap::new();
    for row in rows {
        let text = |name: &str| row[name].as_str().unwrap_or("").to_owned();
        *counts.entry((text("variant"), text("assignment.reason"))).or_default() += 1.0;
    }
    counts
}

#[tokio::test]
async fn assignments_and_times_of_backends_are_counted_once_for_each_request() {
    let stable = backend().openai("stable").start().await;
    let canary = backend().openai("canary").start().await;
    let text = crate::recording::split(&stable, &canary);
    let gateway = gateway(text).start().await;
    let (client, inspector) = (gateway.client(), gateway.inspector());
    let body = r#"{"messages":[]}"#;
    for number in 0..20 {
        let request = client.post("/v1/chat/completions", body);
        assert_eq!(request.header("x-user-id", &format!("u{number}")).await.status, 200);
    }
    for _ in 0..3 {
        assert_eq!(client.post("/v1/chat/completions", body).await.status, 200);
    }
    for _ in 0..2 {
        let request = inspector.post("/v1/chat/completions", body);
        assert_eq!(request.header("x-weir-variant", "canary").await.status, 200);
    }
    for _ in 0..4 {
        client.get("/rest/x").await;
    }
    assert_eq!(client.get("/nowhere").await.status, 404);

    let rows = gateway.outcomes("").await;
    let now = Scrape::of(&gateway).await;
    let assigned = |variant: &str, reason: &str| {
        let experiment = if variant.is_empty() { "" } else { "int8" };
        now.value(&format!(
            "weir_assignments_total{{experiment=\"{experiment}\",variant=\"{variant}\",\
             reason=\"{reason}\"}}"
        ))
    };
    let counts = by_reason(&rows);
    assert_eq!(counts.values().sum::<f64>(), 29.0);
    for ((variant, reason), count) in &counts {
        assert_eq!(assigned(variant, reason), *count, "{variant} {reason}");
    }
    assert_eq!(assigned("stable", "split") + assigned("canary", "split"), 20.0);
    assert_eq!(assigned("stable", "default"), 3.0);
    assert_eq!(assigned("canary", "targeting_match"), 2.0);
    assert_eq!(assigned("", "none"), 4.0);
    assert_eq!(assigned("canary", "static"), 0.0);
    assert_eq!(assigned("", "holdout"), 0.0);

    for (route, count) in [("chat", 25.0), ("rest", 4.0), ("messages", 0.0)] {
        let label = format!("{{route=\"{route}\"}}");
        assert_eq!(now.value(&format!("weir_overhead_seconds_count{label}")), count, "{route}");
        assert_eq!(now.value(&format!("weir_in_flight_requests{label}")), 0.0);
        assert_eq!(now.value(&format!("weir_streams_open{label}")), 0.0);
    }
    for (name, backend) in [("stable", &stable), ("canary", &canary)] {
        let label = format!("{{backend=\"{name}\"}}");
        let times = |metric: &str| now.value(&format!("weir_upstream_{metric}_count{label}"));
        assert_eq!(times("connect_seconds"), backend.connections() as f64, "{name}");
        assert_eq!(times("first_byte_seconds"), backend.calls() as f64, "{name}");
    }
    let handshakes = now.value("weir_tls_handshake_seconds_count{listener=\"edge\"}");
    assert_eq!(handshakes, (client.connections() + inspector.connections()) as f64);
    let last = "weir_tls_handshake_seconds_bucket{listener=\"edge\",le=\"10\"}";
    assert_eq!(now.value(last), handshakes, "it has buckets below that of all");
}

#[tokio::test]
async fn retries_are_counted_by_what_made_them_necessary() {
    let weak = backend().answers("ok").first(2, backend().resets()).start().await;
    let text = format!(
        "[backends.weak]\nendpoints = [\"{}\"]\n[routes.r]\npath = \"/*\"\nbackend = \"weak\"\n",
        weak.url()
    );
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    // A POST is not repeated, a GET is.
    assert_eq!(client.post("/x", "x").await.status, 502);
    assert_eq!(client.get("/x").await.status, 200);
    weak.stop();
    assert_eq!(client.get("/x").await.status, 503);
    gateway.accounts().await;
    let text = gateway.metrics().await;
    let retries = |reason: &str| {
        sum_of(&text, "weir_retries_total", &format!("backend=\"weak\",reason=\"{reason}\""))
    };
    assert_eq!((retries("other"), retries("connect_failed")), (1.0, 1.0));
    assert_eq!(sum_of(&text, "weir_retries_total", ""), 2.0);
    assert_eq!(sum_of(&text, "weir_upstream_attempts_total", "retry=\"true\""), 2.0);
    let now = Scrape::of(&gateway).await;
    let exhausted = "weir_retry_budget_exhausted_total{backend=\"weak\",reason=\"other\"}";
    assert_eq!(now.value(exhausted), 0.0);
    for (state, on) in [("closed", 1.0), ("open", 0.0), ("half_open", 0.0)] {
        let series = format!("weir_circuit_state{{backend=\"weak\",state=\"{state}\"}}");
        assert_eq!(now.value(&series), on, "the only endpoint is never ejected");
    }
}

#[tokio::test]
async fn what_is_under_way_is_seen_while_it_is() {
    let model = backend()
        .answers("whole")
        .on("/v1/chat/completions", backend().openai("m").stalls_after(1))
        .on("/plain", backend().streams(["1", "2"]).stalls_after(1))
        .start()
        .await;
    let hung = backend().stalls().start().await;
    let text = format!(
        "[backends.model]\nendpoints = [\"{}\"]\n[backends.next]\nendpoints = [\"{}\"]\n\
         [routes.r]\npath = \"/*\"\nbackend = \"model\"\n\
         [routes.copied]\npath = \"/copied\"\nbackend = \"model\"\n\
         [shadows.next]\nroute = \"copied\"\nbackend = \"next\"\npercent = 100\n\
         max_in_flight = 4\nqueue = 100\n",
        model.url(),
        hung.url()
    );
    let gateway = gateway(text).start().await;
    let (streams, requests) =
        ("weir_streams_open{route=\"r\"}", "weir_in_flight_requests{route=\"r\"}");
    let copies = "weir_shadow_in_flight{backend=\"next\"}";
    let start = Scrape::of(&gateway).await;
    assert_eq!((start.value(streams), start.value(copies)), (0.0, 0.0));

    let open = async |path: &str| {
        let body = r#"{"stream":true,"messages":[]}"#;
        let mut streaming = gateway.client().post(path, body).open().await.unwrap();
        streaming.chunk_within(seconds(5)).await.unwrap().unwrap();
        streaming
    };
    let chat = "/v1/chat/completions";
    let (one, two, plain) = (open(chat).await, open(chat).await, open("/plain").await);
    let now = Scrape::of(&gateway).await;
    assert_eq!((now.value(streams), now.value(requests)), (2.0, 3.0));
    assert_eq!(now.value("weir_streams_open{route=\"copied\"}"), 0.0);
    drop(one);
    until_value(&gateway, streams, 1.0).await;
    drop((two, plain));
    until_value(&gateway, streams, 0.0).await;
    until_value(&gateway, requests, 0.0).await;

    // One has to wait.
    let client = gateway.client();
    for _ in 0..5 {
        assert_eq!(client.get("/copied").await.status, 200);
    }
    until_value(&gateway, copies, 4.0).await;
    until(seconds(5), || hung.calls() == 4).await;
    hung.becomes(backend().answers("x"));
    hung.reset_connections();
    until_value(&gateway, copies, 0.0).await;
    until_value(&gateway, "weir_shadow_duration_seconds_count{backend=\"next\"}", 5.0).await;
    let now = Scrape::of(&gateway).await;
    let result = |result: &str| {
        now.value(&format!("weir_shadow_requests_total{{backend=\"next\",result=\"{result}\"}}"))
    };
    assert_eq!((result("error"), result("ok")), (4.0, 1.0));
    assert_eq!(
        now.value("weir_upstream_first_byte_seconds_count{backend=\"next\"}"),
        0.0,
        "copies leave no trace there"
    );
}

#[tokio::test]
async fn the_store_and_the_audit_log_are_counted() {
    let model = backend().answers("x").start().await;
    let gateway = gateway(crate::recording::split(&model, &model)).start().await;
    let entries = async || {
        let list = gateway.get("/audit?limit=1000").await;
        list["items"].as_array().unwrap().len() as f64
    };
    let counted = async || Scrape::of(&gateway).await.value("weir_audit_entries_total");
    // The first reading of the log is an entry itself; more of them within the minute are not.
    entries().await;
    let before = entries().await;
    assert!(before >= 2.0, "the first key and the client's");
    assert_eq!(counted().await, before);
    gateway.make_key("viewer", json!({})).await;
    let weights = gateway.set_weights("int8", json!({"stable": 90, "canary": 10})).await;
    assert_eq!(weights.status, 200, "{}", weights.text());
    // Refused changes leave no entry.
    let refused = gateway.set_weights("int8", json!({"stable": 90, "nobody": 10})).await;
    assert!(refused.status.is_client_error(), "{}", refused.text());
    assert_eq!(entries().await, before + 2.0);
    assert_eq!(counted().await, before + 2.0);

    gateway.client().get("/rest/x").await;
    gateway.accounts().await;
    let now = Scrape::of(&gateway).await;
    let commits = now.value("weir_outcome_commit_seconds_count");
    assert!(commits >= 1.0);
    assert_eq!(now.value("weir_outcome_commit_seconds_bucket{le=\"10\"}"), commits);
    for operation in ["control", "batch"] {
        let label = format!("{{backend=\"sqlite\",operation=\"{operation}\"}}");
        assert!(now.value(&format!("weir_store_operation_seconds_count{label}")) >= 1.0);
    }
    let state = |state: &str| {
        format!("weir_store_pool_connections{{backend=\"sqlite\",state=\"{state}\"}}")
    };
    assert_eq!(now.value(&state("idle")) + now.value(&state("used")), 1.0);
}

#[tokio::test]
async fn every_workers_event_loop_is_watched() {
    let model = backend().answers("x").start().await;
    let gateway = gateway(crate::recording::split(&model, &model)).start().await;
    let client = gateway.client();
    let late = |worker: usize| format!("weir_runtime_stall_seconds_count{{worker=\"{worker}\"}}");
    let busy = |worker: usize| format!("weir_runtime_busy_ratio{{worker=\"{worker}\"}}");
    until_async(seconds(20), async || {
        for _ in 0..20 {
            client.get("/rest/x").await;
        }
        tokio::time::sleep(millis(20)).await;
        let now = Scrape::of(&gateway).await;
        let ratios = [now.value(&busy(0)), now.value(&busy(1))];
        assert!(ratios.iter().all(|ratio| (0.0..=1.0).contains(ratio)), "{ratios:?}");
        assert!(now.value("weir_runtime_queue_depth{worker=\"1\"}") >= 0.0);
        let looked = now.value(&late(0)) >= 4.0 && now.value(&late(1)) >= 4.0;
        if looked && ratios.iter().sum::<f64>() > 0.0 { Ok(()) } else { Err(format!("{ratios:?}")) }
    })
    .await;
}
