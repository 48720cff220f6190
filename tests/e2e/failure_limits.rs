//! Limits that refuse instead of letting things grow (L13).

use serde_json::json;
use weir_tests::{Answer, Backend, Failure, backend, gateway, millis, seconds, until, until_async};

fn route(backend: &Backend, more: &str) -> String {
    format!(
        "[backends.b]\nendpoints = [\"{}\"]\n{more}\n[routes.r]\npath = \"/*\"\nbackend = \"b\"\n",
        backend.url()
    )
}

fn seconds_to_wait(answer: &Answer) -> u64 {
    answer.header("retry-after").expect("it says when to come again").parse().unwrap()
}

#[tokio::test]
async fn l13_in_flight_has_a_cap_and_its_places_come_back() {
    let served = backend().on("/slow", backend().stalls()).start().await;
    let gateway = gateway(route(&served, "")).limits("in_flight = 4").start().await;
    // One connection is on one worker; the places are the whole process's.
    let client = gateway.client().h2();
    let mut waiting = Vec::new();
    for count in 1..=4 {
        waiting.push(tokio::spawn(client.get("/slow").open()));
        until(seconds(2), || served.calls() == count).await;
    }
    let refused = client.post("/x", "{}").await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("x-weir-error"), Some("overloaded"));
    assert!(seconds_to_wait(&refused) >= 1);
    assert_eq!(gateway.client().get("/x").await.status, 503, "the other worker has none either");
    assert_eq!(served.calls(), 4);
    waiting.iter().for_each(|task| task.abort());
    until_async(seconds(2), async || client.post("/x", "{}").await.status == 200).await;
}

#[tokio::test]
async fn l08_connections_have_a_cap_over_all_workers() {
    let served = backend().start().await;
    let gateway = gateway(route(&served, "")).limits("connections = 3").start().await;
    // Whichever worker has them: three are served.
    let mut open: Vec<_> = (0..3).map(|_| gateway.client()).collect();
    for client in &open {
        assert_eq!(client.get("/x").await.status, 200);
    }
    assert!(gateway.client().get("/x").attempt().await.is_err());
    assert!(
        gateway.metric("weir_connections_closed_total{listener=\"edge\",reason=\"refused\"}").await
            >= 1.0
    );
    open.pop();
    until_async(seconds(2), async || {
        matches!(gateway.client().get("/x").attempt().await, Ok(answer) if answer.status == 200)
    })
    .await;
}

#[tokio::test]
async fn l13_in_flight_over_all_workers_is_never_above_the_cap() {
    let served = backend().delay(millis(300)).start().await;
    let gateway = gateway(route(&served, "")).limits("in_flight = 6").start().await;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let client = gateway.client();
        running.spawn(async move {
            client.get("/x").attempt().await.map(|answer| answer.status.as_u16())
        });
    }
    let answers: Vec<Result<u16, Failure>> = running.join_all().await;
    let ok = answers.iter().filter(|answer| matches!(answer, Ok(200))).count();
    let refused = answers.iter().filter(|answer| matches!(answer, Ok(503))).count();
    assert_eq!(ok + refused, 30, "{answers:?}");
    assert!((1..=6).contains(&ok), "{ok} at the same time");
}

#[tokio::test]
async fn l13_a_full_backend_refuses_and_others_do_not_notice() {
    let full = backend().on("/slow", backend().stalls()).start().await;
    let free = backend().start().await;
    let more = format!(
        "max_in_flight = 2\n[backends.free]\nendpoints = [\"{}\"]\n\
         [routes.free]\npath = \"/free\"\nbackend = \"free\"",
        free.url()
    );
    let gateway = gateway(route(&full, &more)).start().await;
    let client = gateway.client();
    let mut waiting = Vec::new();
    for count in 1..=2 {
        waiting.push(tokio::spawn(client.get("/slow").open()));
        until(seconds(2), || full.calls() == count).await;
    }
    let refused = client.get("/x").await;
    assert_eq!(
        (refused.status.as_u16(), refused.header("x-weir-error")),
        (503, Some("upstream_overflow"))
    );
    assert!(seconds_to_wait(&refused) >= 1);
    assert_eq!(full.calls(), 2);
    assert_eq!(client.get("/free").await.status, 200);
    waiting.iter().for_each(|task| task.abort());
    until_async(seconds(2), async || client.get("/x").await.status == 200).await;
    let rows = gateway.outcomes("outcome=upstream_error").await;
    assert!(!rows.is_empty() && rows.iter().all(|row| row["flags"] == "UO"), "{rows:?}");
}

#[tokio::test]
async fn l13_a_key_has_so_many_requests_at_the_same_time() {
    let served = backend().on("/slow", backend().stalls()).start().await;
    let gateway = gateway(route(&served, "")).start().await;
    let limited = gateway.make_key("client", json!({"concurrent": 2})).await;
    let client = gateway.anonymous().bearer(&limited);
    let mut waiting = Vec::new();
    for count in 1..=2 {
        waiting.push(tokio::spawn(client.apart().get("/slow").open()));
        until(seconds(2), || served.calls() == count).await;
    }
    let refused = client.get("/x").await;
    assert_eq!(
        (refused.status.as_u16(), refused.header("x-weir-error")),
        (429, Some("rate_limited"))
    );
    assert!(seconds_to_wait(&refused) >= 1);
    assert_eq!(served.calls(), 2);
    assert_eq!(gateway.client().get("/x").await.status, 200, "another key has its own");
    waiting.iter().for_each(|task| task.abort());
    until_async(seconds(2), async || client.get("/x").await.status == 200).await;
}

#[tokio::test]
async fn l13_a_key_has_so_many_requests_a_second() {
    let served = backend().start().await;
    let gateway = gateway(route(&served, "")).start().await;
    let limited = gateway.make_key("client", json!({"requests_per_second": 5})).await;
    let client = gateway.anonymous().bearer(&limited);
    let began = std::time::Instant::now();
    let (mut ok, mut refused) = (0, 0);
    while began.elapsed() < millis(1500) {
        let answer = client.get("/x").await;
        if answer.status == 200 {
            ok += 1;
        } else {
            assert_eq!(answer.status, 429);
            assert_eq!(seconds_to_wait(&answer), 1);
            refused += 1;
        }
    }
    assert!((10..=13).contains(&ok), "{ok} passed: a burst of 5, and 5 a second");
    assert!(refused > 0);
    assert_eq!(served.calls(), ok);
    tokio::time::sleep(millis(1100)).await;
    assert_eq!(client.get("/x").await.status, 200, "after `retry-after` it passes");
    assert_eq!(gateway.outcomes("").await.len(), ok + 1, "what is refused has no outcome");
}

#[tokio::test]
async fn l13_a_key_has_so_many_tokens_a_minute() {
    let served = backend().openai("m").pieces(50).start().await;
    let gateway = gateway(route(&served, "")).start().await;
    // Each answer costs 7 + 50.
    let limited = gateway.make_key("client", json!({"tokens_per_minute": 100})).await;
    let client = gateway.anonymous().bearer(&limited);
    let body = json!({"model": "m", "messages": []}).to_string();
    assert_eq!(client.post("/v1/chat/completions", body.clone()).await.status, 200);
    assert_eq!(client.post("/v1/chat/completions", body.clone()).await.status, 200);
    let refused = client.post("/v1/chat/completions", body).await;
    assert_eq!(refused.status, 429, "114 of 100 are used");
    assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
    // 14 tokens of debt come back in 8.4 s.
    assert!((7..=9).contains(&seconds_to_wait(&refused)), "{}", seconds_to_wait(&refused));
    assert_eq!(served.calls(), 2);
}
