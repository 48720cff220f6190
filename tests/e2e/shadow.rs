//! Copies of requests: no client sees them, nothing depends on them (T26).

use std::time::Duration;

use serde_json::{Value, json};
use weir_tests::{Backend, Client, Gateway, backend, gateway, millis, seconds, until, until_async};

use crate::recording::sum_of;

const PATH: &str = "/v1/chat/completions";

fn copied(live: &Backend, copy: &Backend, copy_more: &str, shadow: &str) -> String {
    format!(
        r#"
        [backends.live]
        endpoints = ["{}"]
        [backends.next]
        endpoints = ["{}"]
        {copy_more}
        [routes.chat]
        path = "{PATH}"
        backend = "live"
        [shadows.next]
        route = "chat"
        backend = "next"
        {shadow}
        "#,
        live.url(),
        copy.url()
    )
}

async fn counted(gateway: &Gateway, result: &str) -> f64 {
    gateway
        .metric(&format!("weir_shadow_requests_total{{backend=\"next\",result=\"{result}\"}}"))
        .await
}

async fn until_counted(gateway: &Gateway, result: &str, count: f64) {
    until_async(seconds(5), async || {
        let now = counted(gateway, result).await;
        if now == count { Ok(()) } else { Err(format!("{result}: {now} of {count}")) }
    })
    .await;
}

fn chat(stream: bool) -> String {
    json!({"model": "chat", "messages": [{"role": "user", "content": "hi"}], "stream": stream})
        .to_string()
}

#[tokio::test]
async fn t26_a_copy_has_the_whole_request_and_none_of_the_clients_secrets() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("next.key"), "next-secret").unwrap();
    let live = backend().openai("live").start().await;
    let next = backend().openai("next").start().await;
    let more =
        format!("model = \"m-next\"\ncredential = \"file:{}/next.key\"", dir.path().display());
    let gateway = gateway(copied(&live, &next, &more, "percent = 100")).start().await;

    let answer = gateway
        .client()
        .post(&format!("{PATH}?q=1"), chat(false))
        .header("cookie", "session=canary-cookie")
        .header("idempotency-key", "canary-idem")
        .header("x-idempotency-key", "canary-idem")
        .header("x-request-id", "canary-request")
        .header("x-api-key", "canary-api-key")
        .header("x-user-id", "u1")
        .await;
    // Two credentials that differ may be refused; then the request goes without the second.
    let answer = if answer.status == 200 {
        answer
    } else {
        gateway
            .client()
            .post(&format!("{PATH}?q=1"), chat(false))
            .header("cookie", "session=canary-cookie")
            .header("idempotency-key", "canary-idem")
            .header("x-idempotency-key", "canary-idem")
            .header("x-request-id", "canary-request")
            .header("x-user-id", "u1")
            .await
    };
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("live") && !answer.text().contains("next"));
    until(seconds(3), || next.calls() == 1 && next.last().body_complete).await;
    let copy = next.last();
    let sent: Value = serde_json::from_str(&chat(false)).unwrap();
    assert_eq!(copy.json()["messages"], sent["messages"]);
    assert_eq!(copy.json()["model"], "m-next");
    assert_eq!(copy.uri.to_string(), format!("{PATH}?q=1"));
    assert_eq!(copy.header("authorization"), Some("Bearer next-secret"));
    assert_eq!(copy.header("x-weir-shadow"), Some("1"));
    assert_eq!(copy.header("x-user-id"), Some("u1"));
    let fields = format!("{:?}", copy.headers);
    assert!(!fields.contains("canary"), "{fields}");
    assert!(!fields.contains(&gateway.client_key), "{fields}");
    let id = copy.header("x-request-id").expect("a request id of its own");
    assert_ne!(Some(id), answer.header("x-request-id"));

    let original = live.last();
    assert_eq!(original.header("x-weir-shadow"), None);
    assert!(!format!("{:?}", original.headers).contains("next-secret"));
    assert_ne!(original.header("x-request-id"), Some(id));
    assert_eq!(original.json()["model"], "chat");
}

/// Bodies as they come: of known length, in chunks, and none.
#[tokio::test]
async fn t26_a_copy_has_the_body_however_it_came() {
    let live = backend().answers("live").start().await;
    let next = backend().answers("next").start().await;
    let gateway = gateway(copied(&live, &next, "", "percent = 100")).start().await;
    let client = gateway.client();
    let large = "z".repeat(300 << 10);
    client.post(PATH, "small").await;
    client.post(PATH, large.clone()).await;
    client.post(PATH, "").in_pieces(vec![large[..50_000].to_owned(); 4], millis(5)).await;
    client.h2().post(PATH, "").in_pieces(["ab", "cd"], millis(5)).await;
    gateway.client().get(PATH).await;
    until_counted(&gateway, "ok", 5.0).await;
    let mut lengths: Vec<u64> = next.seen().iter().map(|seen| seen.body_length).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [0, 4, 5, 200_000, 300 << 10]);
    assert!(next.seen().iter().all(|seen| seen.body_complete));
}

#[tokio::test]
async fn t26_a_streamed_answer_to_a_copy_is_read_to_its_end() {
    for h2 in [false, true] {
        let live = backend().answers("live").start().await;
        let builder = backend().openai("next").pieces(20).gap(millis(10));
        let next = if h2 { builder.h2() } else { builder }.start().await;
        let gateway = gateway(copied(&live, &next, "", "percent = 100")).start().await;
        let client = gateway.client();
        for _ in 0..3 {
            let answer = client.post(PATH, chat(true)).await;
            assert!(answer.total < millis(150), "{:?}", answer.total);
        }
        until_counted(&gateway, "ok", 3.0).await;
        assert!(next.seen().iter().all(|seen| seen.ended.is_some() && seen.aborted.is_none()));
        // Clients that hang up do not end copies.
        let mut left = client.post(PATH, chat(true)).open().await.unwrap();
        let _ = left.chunk().await;
        drop(left);
        until_counted(&gateway, "ok", 4.0).await;
        assert!(next.aborted().is_empty());
    }
}

async fn times(client: &Client, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..count {
        let answer = client.post(PATH, chat(false)).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "live".into()));
        times.push(answer.total);
    }
    times.sort();
    times
}

/// A hung shadow takes its own places and nothing else.
#[tokio::test]
async fn t26_a_hung_shadow_changes_nothing_for_the_client_and_its_queue_is_bounded() {
    let live = backend().answers("live").start().await;
    let hung = backend().stalls().start().await;
    let text = |percent| {
        copied(&live, &hung, "", &format!("percent = {percent}\nmax_in_flight = 4\nqueue = 6"))
    };
    let mut gateway = gateway(text(0)).limits("in_flight = 4").start().await;
    let client = gateway.client();
    times(&client, 50).await;
    let before = times(&client, 200).await;
    assert_eq!(hung.calls(), 0, "0 percent is none");

    gateway.reconfigure(&text(100)).await.unwrap();
    let during = times(&client, 200).await;
    // The bound is 5 % of p99 on a quiet machine; tests run beside each other.
    assert!(during[100] < before[100] * 2 + millis(5), "{:?} and {:?}", before[100], during[100]);
    assert!(during[190] < before[190] * 2 + millis(30), "{:?} and {:?}", before[190], during[190]);
    until_counted(&gateway, "dropped_queue", 190.0).await;
    assert_eq!(hung.calls(), 4);
    assert_eq!(counted(&gateway, "ok").await, 0.0);
    let rows = gateway.outcomes("").await;
    assert_eq!(rows.len(), 450);
    assert!(rows.iter().all(|row| row["outcome"] == "ok"), "its state is not the client's");
    assert_eq!(gateway.metric("weir_in_flight_requests{route=\"chat\"}").await, 0.0);
}

/// The places were split over the workers: of 3 each had 2, and a client had those of its worker only.
/// A shadow should have as many copies under way and waiting as the file says, wherever they come from,
/// also after a reload, and a place that comes free on one worker should go to who waits on the other.
#[tokio::test]
async fn t26_places_and_queue_of_a_shadow_hold_for_the_whole_process() {
    let live = backend().answers("live").start().await;
    let hung = backend().stalls().start().await;
    let text = |most: u32, queue: u32| {
        let bounds = format!("max_in_flight = {most}\nqueue = {queue}\ntimeout = \"60s\"");
        copied(&live, &hung, "", &format!("percent = 100\n{bounds}"))
    };
    let mut gateway = gateway(text(3, 5)).start().await;
    // More connections than can all be on one worker: accepting evens them out.
    let clients: Vec<Client> = (0..10).map(|_| gateway.client().apart()).collect();
    async fn each(clients: &[Client]) {
        for client in clients {
            times(client, 2).await;
        }
    }
    each(&clients).await;
    until_counted(&gateway, "dropped_queue", 12.0).await;
    until(seconds(5), || hung.calls() == 3).await;

    gateway.reconfigure(&text(4, 7)).await.unwrap();
    until(seconds(5), || hung.calls() == 4).await;
    // 4 run, 4 wait: there is room for 3.
    each(&clients).await;
    until_counted(&gateway, "dropped_queue", 12.0 + 17.0).await;
    assert_eq!(hung.calls(), 4);
    assert_eq!(gateway.metric("weir_shadow_in_flight{backend=\"next\"}").await, 4.0);

    hung.becomes(backend().answers("next"));
    hung.reset_connections();
    until_counted(&gateway, "error", 4.0).await;
    until_counted(&gateway, "ok", 7.0).await;
    assert_eq!(hung.calls(), 11);
    assert_eq!(gateway.metric("weir_shadow_in_flight{backend=\"next\"}").await, 0.0);
}

#[tokio::test]
async fn t26_a_copy_that_takes_too_long_is_given_up_and_gives_its_place_back() {
    let live = backend().answers("live").start().await;
    let hung = backend().stalls().start().await;
    let shadow = "percent = 100\nmax_in_flight = 1\nqueue = 100\ntimeout = \"200ms\"";
    let gateway = gateway(copied(&live, &hung, "", shadow)).start().await;
    let client = gateway.client();
    times(&client, 5).await;
    until_counted(&gateway, "error", 5.0).await;
    assert_eq!(hung.calls(), 5, "one after the other");
    until(seconds(2), || hung.aborted().len() == 5).await;
}

#[tokio::test]
async fn t26_a_shadow_that_is_down_or_fails_is_nobodys_failure() {
    for down in [false, true] {
        let live = backend().answers("live").start().await;
        let next = backend().status(500).start().await;
        let gateway = gateway(copied(&live, &next, "", "percent = 100")).start().await;
        if down {
            next.stop();
        }
        times(&gateway.client(), 20).await;
        until_counted(&gateway, "error", 20.0).await;
        let healthy = gateway.metric("weir_upstream_healthy{backend=\"next\"}").await;
        assert_eq!(healthy, 1.0, "copies do not touch health");
        assert_eq!(gateway.metric("weir_upstream_ejected_total{backend=\"next\"}").await, 0.0);
        let metrics = gateway.metrics().await;
        assert_eq!(sum_of(&metrics, "weir_retries_total", "backend=\"next\""), 0.0);
        let rows = gateway.outcomes("").await;
        assert_eq!(rows.len(), 20, "a copy has no outcome");
        assert!(rows.iter().all(|row| row["outcome"] == "ok"));
    }
}

#[tokio::test]
async fn t26_a_body_too_large_to_keep_is_served_and_not_copied() {
    let live = backend().echo().start().await;
    let next = backend().start().await;
    let gateway = gateway(copied(&live, &next, "", "percent = 100"))
        .limits("shadow_bytes = \"128KiB\"")
        .start()
        .await;
    let body = "z".repeat(200 << 10);
    assert_eq!(gateway.client().post(PATH, body.clone()).await.json()["length"], 200 << 10);
    let pieces = vec![body[..100 << 10].to_owned(); 2];
    let answer = gateway.client().post(PATH, "").in_pieces(pieces, millis(2)).await;
    assert_eq!(answer.json()["length"], 200 << 10);
    until_counted(&gateway, "dropped_body", 2.0).await;
    assert_eq!(next.calls(), 0);
}

#[tokio::test]
async fn t26_so_many_percent_are_copied() {
    let live = backend().answers("live").start().await;
    let next = backend().start().await;
    let shadow = "percent = 50\nmax_in_flight = 1000\nqueue = 1000";
    let gateway = gateway(copied(&live, &next, "", shadow)).start().await;
    times(&gateway.client(), 400).await;
    until_async(seconds(3), async || {
        next.calls() > 0 && counted(&gateway, "ok").await == next.calls() as f64
    })
    .await;
    // Six standard deviations.
    assert!((140..=260).contains(&next.calls()), "{} of 400 at 50 %", next.calls());
}

#[tokio::test]
async fn t26_copies_are_in_no_live_metric_and_quota() {
    let live = backend().openai("live").start().await;
    let next = backend().openai("next").pieces(30).start().await;
    let gateway = gateway(copied(&live, &next, "", "percent = 100")).start().await;
    let limited =
        gateway.make_key("client", json!({"concurrent": 1, "tokens_per_minute": 30})).await;
    let client = gateway.anonymous().bearer(&limited);
    // 7 + 4 tokens each; a copy would cost 37 more.
    for _ in 0..3 {
        assert_eq!(client.post(PATH, chat(false)).await.status, 200);
    }
    until_counted(&gateway, "ok", 3.0).await;
    let text = gateway.metrics().await;
    let of = |name: &str| -> f64 {
        text.lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    assert_eq!(of("weir_requests_total{"), 3.0);
    assert_eq!(of("weir_request_duration_seconds_count{"), 3.0);
    assert_eq!(of("weir_shadow_duration_seconds_count{backend=\"next\"}"), 3.0);
    assert_eq!(of("weir_upstream_attempts_total{backend=\"next\""), 0.0);
    assert_eq!(of("weir_outcomes_total{state=\"assigned\""), 3.0);
    assert!(!text.lines().any(|line| line.contains("variant=\"shadow\"")), "{text}");
    assert_eq!(gateway.accounts().await["assigned"], 3);
}

#[tokio::test]
async fn t26_the_mark_is_believed_from_trusted_peers_only() {
    for (trusted, copies) in [(false, 1), (true, 0)] {
        let live = backend().answers("live").start().await;
        let next = backend().start().await;
        let builder = gateway(copied(&live, &next, "", "percent = 100"));
        let builder =
            if trusted { builder.server("trusted_peers = [\"127.0.0.1\"]") } else { builder };
        let gateway = builder.start().await;
        let answer = gateway.client().post(PATH, "{}").header("x-weir-shadow", "1").await;
        assert_eq!(answer.text(), "live");
        let result = if trusted { "dropped_policy" } else { "ok" };
        until_counted(&gateway, result, 1.0).await;
        assert_eq!(next.calls(), copies);
    }
}

/// Once a copy could be the one request that tries an endpoint whose ejection is over. It never
/// reports back, so the endpoint stayed out for another minute. Copies should leave no trace in the
/// state of circuits.
#[tokio::test]
async fn t26_a_copy_is_never_the_trial_of_an_ejected_endpoint() {
    let weak = backend().resets().start().await;
    let good = backend().answers("good").start().await;
    let other = backend().answers("other").start().await;
    let text = format!(
        r#"
        [backends.pool]
        endpoints = ["{}", "{}"]
        balance = "round_robin"
        [backends.other]
        endpoints = ["{}"]
        [routes.live]
        path = "/live"
        backend = "pool"
        [routes.copied]
        path = "/copied"
        backend = "other"
        [shadows.s]
        route = "copied"
        backend = "pool"
        percent = 100
        "#,
        weak.url(),
        good.url(),
        other.url()
    );
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    for _ in 0..20 {
        assert_eq!(client.get("/live").await.status, 200);
    }
    assert_eq!(weak.calls(), 5, "ejected after five");
    weak.becomes(backend().answers("weak"));
    tokio::time::sleep(millis(10_300)).await;
    let before = good.calls();
    for _ in 0..20 {
        assert_eq!(client.get("/copied").await.text(), "other");
    }
    until(seconds(3), || good.calls() == before + 20).await;
    assert_eq!(weak.calls(), 5, "no copy goes to what is ejected");
    assert_eq!(client.get("/live").await.text(), "weak", "the next request is the trial");
}
