//! Pools: who is chosen, who is left out and taken back, and what happens when nobody is left
//! (F06, F08, F09, F28, T24).

use std::collections::HashMap;
use std::time::Instant;

use serde_json::json;
use weir_tests::{Backend, Client, backend, gateway, millis, seconds, until, until_async};

fn pool(endpoints: &[&Backend], more: &str) -> String {
    let urls: Vec<String> = endpoints.iter().map(|e| format!("\"{}\"", e.url())).collect();
    format!(
        "[backends.pool]\nendpoints = [{}]\n{more}\n\
         [routes.r]\npath = \"/*\"\nbackend = \"pool\"\n",
        urls.join(", ")
    )
}

fn asked(backend: &Backend, path: &str) -> usize {
    backend.seen().iter().filter(|seen| seen.path() == path).count()
}

async fn all_ok(client: &Client, count: usize) {
    for at in 0..count {
        let answer = client.post("/x", "{}").await;
        assert_eq!(answer.status, 200, "request {at}: {}", answer.text());
    }
}

#[tokio::test]
async fn f06_a_refused_connection_moves_to_another_endpoint_and_the_dead_one_is_left_out() {
    let dead = backend().start().await;
    let alive = backend().answers("alive").start().await;
    let text = pool(&[&dead, &alive], "balance = \"round_robin\"");
    let gateway = gateway(text).start().await;
    dead.stop();
    all_ok(&gateway.client(), 40).await;
    assert_eq!(alive.calls(), 40);
    let rows = gateway.outcomes("").await;
    let twice = rows.iter().filter(|row| row["attempts"] == 2).count();
    assert_eq!(twice, 5, "five failures in ten seconds eject");
    assert_eq!(gateway.metric("weir_upstream_ejected_total{backend=\"pool\"}").await, 1.0);
    assert_eq!(gateway.metric("weir_upstream_healthy{backend=\"pool\"}").await, 1.0);
}

/// Without probes a request tries an ejected endpoint once its time is over.
///
/// Once a client that left during such a trial kept the endpoint out for another minute: nobody
/// reported the trial as given up. The next request should try.
#[tokio::test]
async fn f06_an_ejected_endpoint_is_tried_again_also_after_a_client_left_during_the_trial() {
    let weak = backend().resets().start().await;
    let alive = backend().answers("alive").start().await;
    let text = pool(&[&weak, &alive], "balance = \"round_robin\"");
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    for _ in 0..20 {
        assert_eq!(client.get("/x").await.status, 200);
    }
    assert_eq!(weak.calls(), 5);
    let ejected = Instant::now();

    weak.becomes(backend().stalls());
    until_async(seconds(15), async || {
        let left = client.apart().get("/x").within(millis(200)).attempt().await.is_err();
        let tried = weak.calls() == 6;
        assert_eq!(left, tried, "only the trial meets the stalled endpoint");
        tokio::time::sleep(millis(100)).await;
        tried
    })
    .await;
    assert!(ejected.elapsed() > seconds(8), "tried after {:?}", ejected.elapsed());

    weak.becomes(backend().answers("back"));
    until_async(seconds(3), async || client.get("/x").await.text() == "back").await;
    let served: Vec<String> = {
        let mut served = Vec::new();
        for _ in 0..10 {
            served.push(client.get("/x").await.text());
        }
        served
    };
    assert_eq!(served.iter().filter(|text| *text == "back").count(), 5, "it has its share again");
    let cancelled =
        "weir_upstream_attempts_total{backend=\"pool\",result=\"cancelled\",retry=\"false\"}";
    assert!(gateway.metric(cancelled).await >= 1.0);
}

#[tokio::test]
async fn f06_at_most_half_of_a_pool_is_ejected_and_then_all_are_used() {
    let mut pool_of = Vec::new();
    for _ in 0..4 {
        pool_of.push(backend().resets().start().await);
    }
    let all: Vec<&Backend> = pool_of.iter().collect();
    let gateway = gateway(pool(&all, "balance = \"round_robin\"")).start().await;
    for _ in 0..80 {
        assert_eq!(gateway.client().post("/x", "{}").await.status, 502);
    }
    assert_eq!(gateway.metric("weir_upstream_ejected_total{backend=\"pool\"}").await, 2.0);
    assert_eq!(gateway.metric("weir_upstream_healthy{backend=\"pool\"}").await, 2.0);
    let calls: Vec<usize> = all.iter().map(|backend| backend.calls()).collect();
    assert_eq!(calls.iter().sum::<usize>(), 80, "every request was tried: {calls:?}");
}

#[tokio::test]
async fn f06_probes_leave_an_unhealthy_endpoint_out_and_take_it_back() {
    let sick = || backend().answers("a").on("/health", backend().status(500));
    let a = backend().answers("a").on("/health", backend().status(200)).start().await;
    let b = backend().answers("b").h1_and_h2().start().await;
    let more = "balance = \"round_robin\"\n\
                health = { path = \"/health\", interval = \"200ms\", timeout = \"150ms\" }";
    let gateway = gateway(pool(&[&a, &b], more)).start().await;
    let healthy =
        async |count: f64| gateway.metric("weir_upstream_healthy{backend=\"pool\"}").await == count;
    until(seconds(2), || asked(&a, "/health") > 1 && asked(&b, "/health") > 1).await;
    a.becomes(sick());
    until_async(seconds(3), async || healthy(1.0).await).await;
    a.forget();
    all_ok(&gateway.client(), 10).await;
    assert_eq!(asked(&a, "/x"), 0);
    a.becomes(backend().answers("a"));
    let well = Instant::now();
    until_async(seconds(3), async || healthy(2.0).await).await;
    assert!(well.elapsed() < millis(1000), "back after {:?}: two intervals", well.elapsed());
    all_ok(&gateway.client(), 10).await;
    assert_eq!(asked(&a, "/x"), 5);
    assert_eq!(gateway.outcomes("").await.len(), 20, "probes are no requests");
}

fn experiment(
    stable: &Backend,
    canary: &Backend,
    on_failure: &str,
    dir: &std::path::Path,
) -> String {
    std::fs::write(dir.join("stable.key"), "stable-secret\n").unwrap();
    std::fs::write(dir.join("canary.key"), "canary-secret\n").unwrap();
    format!(
        r#"
        [backends.stable]
        endpoints = ["{}"]
        model = "m-stable"
        credential = "file:{dir}/stable.key"
        [backends.canary]
        endpoints = ["{}"]
        model = "m-canary"
        credential = "file:{dir}/canary.key"
        credential_header = "x-canary-key"
        [routes.chat]
        path = "/v1/chat/completions"
        backend = "stable"
        [experiments.e]
        route = "chat"
        unit = ["header:x-user-id"]
        control = "stable"
        on_failure = "{on_failure}"
        [experiments.e.variants]
        stable = {{ backend = "stable", weight = 50 }}
        canary = {{ backend = "canary", weight = 50 }}
        "#,
        stable.url(),
        canary.url(),
        dir = dir.display(),
    )
}

#[tokio::test]
async fn f08_fallback_serves_from_control_and_keeps_assigned_and_served_apart() {
    let dir = tempfile::tempdir().unwrap();
    let stable = backend().openai("stable").start().await;
    let canary = backend().openai("canary").start().await;
    let gateway = gateway(experiment(&stable, &canary, "fallback", dir.path())).start().await;
    canary.stop();
    let body = json!({"model": "m", "messages": []}).to_string();
    for user in 0..40 {
        let answer = gateway
            .client()
            .post("/v1/chat/completions", body.clone())
            .header("x-user-id", &format!("u{user}"))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let assigned = gateway.outcomes("variant=canary").await;
    assert!((8..=32).contains(&assigned.len()), "{} of 40 at 50 %", assigned.len());
    for row in &assigned {
        assert_eq!(row["variant"], "canary", "{row}");
        assert_eq!(row["variant.served"], "stable", "{row}");
        assert_eq!(row["outcome"], "ok", "{row}");
        assert_eq!(row["backend"], "stable", "{row}");
    }
    for row in gateway.outcomes("variant=stable").await {
        assert!(row["variant.served"].is_null() || row["variant.served"] == "stable", "{row}");
    }
    assert_eq!(stable.calls(), 40);
    // T24: whoever serves gets its own credential and model, and nobody else's.
    for seen in stable.seen() {
        assert_eq!(seen.header("authorization"), Some("Bearer stable-secret"));
        assert_eq!(seen.json()["model"], "m-stable");
        let fields = format!("{:?}", seen.headers);
        assert!(!fields.contains("canary"), "{fields}");
        assert!(!fields.contains(&gateway.client_key), "{fields}");
    }
}

#[tokio::test]
async fn f08_without_fallback_the_variant_fails_and_nobody_is_reassigned() {
    let dir = tempfile::tempdir().unwrap();
    let stable = backend().openai("stable").start().await;
    let canary = backend().openai("canary").start().await;
    let gateway = gateway(experiment(&stable, &canary, "fail", dir.path())).start().await;
    let body = json!({"model": "m", "messages": []}).to_string();
    let ask = async |user: usize| {
        gateway
            .client()
            .post("/v1/chat/completions", body.clone())
            .header("x-user-id", &format!("u{user}"))
            .await
            .status
            .as_u16()
    };
    for user in 0..20 {
        assert_eq!(ask(user).await, 200);
    }
    let of_canary = canary.calls();
    for seen in canary.seen() {
        assert_eq!(seen.header("x-canary-key"), Some("canary-secret"));
        assert_eq!(seen.header("authorization"), None, "the client's own is never sent");
        assert_eq!(seen.json()["model"], "m-canary");
    }
    canary.stop();
    let mut failed = 0;
    for user in 0..20 {
        let status = ask(user).await;
        assert!(matches!(status, 200 | 503), "{status}");
        failed += usize::from(status != 200);
    }
    assert_eq!(failed, of_canary, "the same units, no more and no less");
    let rows = gateway.outcomes("variant=canary&outcome=upstream_error").await;
    assert_eq!(rows.len(), failed);
    assert!(rows.iter().all(|row| row["variant.served"].is_null()), "{rows:?}");
}

#[tokio::test]
async fn f09_everything_down_is_told_at_once_and_recovers_without_a_restart() {
    let a = backend().answers("a").start().await;
    let b = backend().answers("b").start().await;
    let gateway = gateway(pool(&[&a, &b], "")).start().await;
    a.stop();
    b.stop();
    let client = gateway.client();
    let mut times = Vec::new();
    for _ in 0..30 {
        let answer = client.post("/x", "{}").await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.header("x-weir-error"), Some("no_healthy_upstream"));
        assert_eq!(answer.header("retry-after"), Some("1"));
        times.push(answer.total);
    }
    times.sort();
    assert!(times[15] < millis(50), "half of them took {:?}", times[15]);
    assert!(times[29] < millis(500), "one took {:?}", times[29]);
    assert!(gateway.outcomes("").await.iter().all(|row| row["outcome"] == "upstream_error"));
    a.restart();
    b.restart();
    until_async(seconds(10), async || client.post("/x", "{}").await.status == 200).await;
}

#[tokio::test]
async fn f28_retries_add_at_most_a_fifth() {
    let broken = backend().resets().start().await;
    let gateway = gateway(pool(&[&broken], "")).start().await;
    let client = gateway.client();
    for _ in 0..300 {
        assert_eq!(client.get("/x").await.status, 502);
    }
    let calls = broken.calls();
    assert!(calls > 300, "{calls}: nothing was repeated at all");
    assert!(calls <= 360, "{calls} calls for 300 requests");
    let series = "weir_retry_budget_exhausted_total{backend=\"pool\",reason=\"other\"}";
    assert!(gateway.metric(series).await > 0.0);
    let retries = gateway.metric("weir_retries_total{backend=\"pool\",reason=\"other\"}").await;
    assert_eq!(retries, (calls - 300) as f64);
}

#[tokio::test]
async fn round_robin_is_even_and_least_requests_avoids_the_busy() {
    let mut three = Vec::new();
    for _ in 0..3 {
        three.push(backend().on("/slow", backend().delay(seconds(5))).start().await);
    }
    let all: Vec<&Backend> = three.iter().collect();
    let even = gateway(pool(&all, "balance = \"round_robin\"")).start().await;
    all_ok(&even.client(), 60).await;
    assert!(all.iter().all(|backend| backend.calls() == 20));

    let least = gateway(pool(&all, "balance = \"least_requests\"")).start().await;
    all.iter().for_each(|backend| backend.forget());
    let client = least.client();
    let slow = tokio::spawn(client.apart().get("/slow").open());
    until(seconds(2), || all.iter().any(|backend| asked(backend, "/slow") == 1)).await;
    all_ok(&client, 60).await;
    for backend in &all {
        let busy = asked(backend, "/slow") == 1;
        let calls = asked(backend, "/x");
        assert_eq!(calls == 0, busy, "{calls} requests beside a busy one: {busy}");
        assert!(busy || calls >= 10, "ties go to a random one: {calls}");
    }
    slow.abort();
}

/// Where no experiment names a unit, `hash:unit` goes by the key and the client's address.
#[tokio::test]
async fn without_a_unit_a_client_stays_on_its_endpoint() {
    let names = ["a", "b", "c"];
    let mut three = Vec::new();
    for name in names {
        three.push(backend().answers(name).start().await);
    }
    let all: Vec<&Backend> = three.iter().collect();
    let plain = pool(&all, "balance = \"hash:unit\"");
    let asks_for_a_unit = format!(
        "{plain}[backends.other]\nendpoints = [\"http://127.0.0.1:9\"]\n\
         [experiments.e]\nroute = \"r\"\nunit = [\"header:x-user-id\"]\ncontrol = \"on\"\n\
         [experiments.e.variants]\non = {{ backend = \"pool\", weight = 1 }}\n\
         off = {{ backend = \"other\", weight = 0 }}\n"
    );
    for text in [plain, asks_for_a_unit] {
        let gateway = gateway(text).start().await;
        let mut homes = std::collections::HashSet::new();
        for _ in 0..12 {
            let key = gateway.make_key("client", json!({})).await;
            let clients = [gateway.anonymous().bearer(&key), gateway.anonymous().bearer(&key)];
            let home = clients[0].get("/x").await.text();
            for at in 0..6 {
                assert_eq!(clients[at % 2].get("/x").await.text(), home, "a client moved");
            }
            homes.insert(home);
        }
        assert!(homes.len() > 1, "twelve clients are all on {homes:?}");
    }
}

#[tokio::test]
async fn a_hashed_unit_stays_on_its_endpoint_and_only_those_of_a_dead_one_move() {
    let names = ["a", "b", "c"];
    let mut three = Vec::new();
    for name in names {
        three.push(backend().answers(name).start().await);
    }
    let all: Vec<&Backend> = three.iter().collect();
    let text = |endpoints: &[&Backend]| {
        pool(endpoints, "balance = \"hash:unit\"")
            + "[backends.other]\nendpoints = [\"http://127.0.0.1:9\"]\n\
           [experiments.e]\nroute = \"r\"\nunit = [\"header:x-user-id\"]\ncontrol = \"on\"\n\
           [experiments.e.variants]\non = { backend = \"pool\", weight = 1 }\n\
           off = { backend = \"other\", weight = 0 }\n"
    };
    let mut gateway = gateway(text(&all)).start().await;
    let clients = [gateway.client(), gateway.client()];
    let place = async |user: usize, round: usize| {
        let answer = clients[round % 2].get("/x").header("x-user-id", &format!("u{user}")).await;
        assert_eq!(answer.status, 200);
        answer.text()
    };
    let mut home = HashMap::new();
    for round in 0..3 {
        for user in 0..60 {
            let at = place(user, round).await;
            let known = home.entry(user).or_insert_with(|| at.clone()).clone();
            assert_eq!(known, at, "user {user} moved");
        }
    }
    for name in names {
        let count = home.values().filter(|at| *at == name).count();
        assert!(count >= 5, "{count} of 60 on {name}");
    }
    // An endpoint leaves by configuration and comes back.
    gateway.reconfigure(&text(&[all[0], all[2]])).await.unwrap();
    for user in 0..60 {
        let at = place(user, 0).await;
        assert!(at == home[&user] || home[&user] == "b", "user {user} moved to {at}");
        assert_ne!(at, "b");
    }
    gateway.reconfigure(&text(&all)).await.unwrap();
    for user in 0..60 {
        assert_eq!(place(user, 0).await, home[&user]);
    }
    // It dies.
    three[1].stop();
    let mut moved_to = HashMap::new();
    for round in 0..2 {
        for user in 0..60 {
            let at = place(user, round).await;
            if home[&user] == "b" {
                assert_eq!(*moved_to.entry(user).or_insert_with(|| at.clone()), at);
            } else {
                assert_eq!(home[&user], at, "user {user} moved though its endpoint lives");
            }
        }
    }
    let spread: std::collections::HashSet<&String> = moved_to.values().collect();
    assert_eq!(spread.len(), 2, "the dead one's units are spread");
}
