//! Answers to copies beside those that clients got: compared as the file says, counted, kept over
//! restarts, and nothing that a client would notice (T26).

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use weir_tests::{
    Backend, BackendBuilder, Client, Gateway, backend, gateway, millis, seconds, until_async,
};

const PATH: &str = "/v1/chat/completions";

/// A route of which everything is copied, with lines for the shadow and for its `compare`.
pub(crate) fn beside(live: &Backend, copy: &Backend, shadow: &str, compare: &str) -> String {
    format!(
        r#"
        [backends.live]
        endpoints = ["{}"]
        [backends.next]
        endpoints = ["{}"]
        [routes.chat]
        path = "/*"
        backend = "live"
        payload_capture = true
        [shadows.next]
        route = "chat"
        backend = "next"
        percent = 100
        {shadow}
        [shadows.next.compare]
        {compare}
        "#,
        live.url(),
        copy.url()
    )
}

/// The comparison once it has so many pairs.
pub(crate) async fn compared(gateway: &Gateway, pairs: u64) -> Value {
    until_async(seconds(10), async || {
        let found = gateway.get("/shadows/next/comparison").await;
        if found["pairs"] == pairs { Ok(()) } else { Err(format!("{found:#}")) }
    })
    .await;
    gateway.get("/shadows/next/comparison").await
}

/// A backend that answers what the request's body has under `member`, as it is.
pub(crate) fn says(member: &'static str) -> BackendBuilder {
    backend().handler(move |seen| {
        let asked = seen.json();
        let answer = asked[member].clone();
        let status = answer["status"].as_u64().unwrap_or(200);
        async move {
            let body = answer.get("body").cloned().unwrap_or(answer);
            let body = match body.as_str() {
                Some(text) => text.to_owned(),
                None => body.to_string(),
            };
            let status = u16::try_from(status).unwrap();
            Response::builder()
                .status(status)
                .header("content-type", "application/json")
                .body(Bytes::from(body))
                .unwrap()
        }
    })
}

/// One request, of which the client and the copy are answered as told.
pub(crate) async fn ask(client: &Client, live: &Value, copy: &Value) -> Bytes {
    let body = json!({ "live": live, "copy": copy }).to_string();
    client.post(PATH, body).await.body
}

fn share(found: &Value) -> (u64, u64) {
    let agreement = &found["agreement"];
    (agreement["agreed"].as_u64().unwrap(), agreement["pairs"].as_u64().unwrap())
}

/// Every kind, with answers that agree and answers that do not; each a route of its own would be.
#[tokio::test]
async fn each_kind_of_comparison_tells_what_agrees_from_what_does_not() {
    let chat = |text: &str| json!({"id": text.len(), "choices": [{"message": {"content": text}}]});
    let long = "the quick brown fox jumps over the lazy dog and then sleeps in the sun";
    // 1.0 and 2.0 as OpenAI's own client asks for them.
    let packed = json!({"data": [{"embedding": "AACAPwAAAEA="}]});
    type Case = (&'static str, Vec<(Value, Value)>, Vec<(Value, Value)>);
    let cases: Vec<Case> = vec![
        (
            "",
            vec![(json!({"a": 1}), json!({"b": 2}))],
            vec![(json!({"status": 200}), json!({"status": 404}))],
        ),
        (
            "kind = \"exact\"\nignore = [\"/id\"]",
            vec![(json!({"id": 1, "a": 1, "b": 2}), json!({"b": 2, "a": 1, "id": 5}))],
            vec![(json!({"id": 1, "a": 1}), json!({"id": 1, "a": 2}))],
        ),
        (
            "kind = \"label\"\npath = \"/class\"",
            vec![(json!({"class": "cat"}), json!({"class": "cat", "p": 1}))],
            vec![
                (json!({"class": "cat"}), json!({"class": "dog"})),
                (json!({"class": "cat"}), json!({"klass": "cat"})),
            ],
        ),
        (
            "kind = \"numeric\"\npath = \"/outputs/0/data\"\nrtol = 0.01",
            vec![(
                json!({"outputs": [{"data": [1.0, 2.0]}]}),
                json!({"outputs": [{"data": [1.005, 2.0]}]}),
            )],
            vec![(
                json!({"outputs": [{"data": [1.0, 2.0]}]}),
                json!({"outputs": [{"data": [1.0, 2.5]}]}),
            )],
        ),
        (
            "kind = \"text\"",
            vec![
                (chat(long), chat(&long.to_uppercase())),
                (chat(long), chat(&long.replace("sun", "sand"))),
            ],
            vec![(chat(long), chat("i am sorry, but i cannot help with that"))],
        ),
        (
            "kind = \"embedding\"",
            vec![(packed.clone(), json!({"data": [{"embedding": [1.0, 2.01]}]}))],
            vec![(packed.clone(), json!({"data": [{"embedding": [2.0, -1.0]}]}))],
        ),
    ];
    let (live, next) = (says("live").start().await, says("copy").start().await);
    let mut gateway = gateway(beside(&live, &next, "", "")).start().await;
    for (at, (compare, agree, differ)) in cases.iter().enumerate() {
        gateway.reconfigure(&beside(&live, &next, "", compare)).await.unwrap();
        let client = gateway.client();
        for (of_live, of_copy) in agree.iter().chain(differ) {
            ask(&client, of_live, of_copy).await;
        }
        let all = (agree.len() + differ.len()) as u64;
        let found = compared(&gateway, all).await;
        assert_eq!(share(&found), (agree.len() as u64, all), "{compare}: {found:#}");
        assert_eq!(found["revision"], at as u64 + 1, "each kind begins anew");
        match at {
            0 => {
                assert_eq!(found["compare"], json!({"kind": "status"}));
                assert_eq!(found["differences"]["status"], 1);
                assert_eq!(
                    found["status_pairs"],
                    json!([{"live": 200, "copy": 200, "count": 1}, {"live": 200, "copy": 404, "count": 1}])
                );
            }
            2 => {
                assert_eq!(found["differences"]["content"], 1);
                assert_eq!(found["differences"]["copy_shape"], 1);
                let table = json!([
                    {"live": "cat", "copy": "cat", "count": 1},
                    {"live": "cat", "copy": "dog", "count": 1},
                ]);
                assert_eq!(found["labels"]["table"], table);
                assert!(found["labels"]["kappa"].is_number());
            }
            3 => assert_eq!(found["largest_gap"], 0.5),
            4 => {
                let bins = found["similarity"]["bins"].as_array().unwrap();
                let counts: Vec<u64> = bins.iter().map(|b| b["count"].as_u64().unwrap()).collect();
                assert_eq!((bins.len(), counts.iter().sum::<u64>(), counts[19]), (20, 3, 1));
                assert!(found["similarity"]["length_ratio"].as_f64().unwrap() < 1.0);
            }
            _ => {}
        }
        assert_eq!(found["latency"]["end"]["pairs"], if at == 0 { 1 } else { all }, "{found:#}");
    }
}

/// A stream and a whole answer say the same, and so do two streams in different pieces. The client has
/// its stream byte by byte as the backend sent it.
#[tokio::test]
async fn streams_are_compared_by_what_they_say_and_pass_unaltered() {
    let chat = |stream: bool| json!({"model": "m", "stream": stream, "messages": []}).to_string();
    let live = backend().openai("same").pieces(30).start().await;
    let next = backend().openai("same").pieces(30).h2().start().await;
    let mut gateway = gateway(beside(&live, &next, "", "kind = \"text\"")).start().await;
    let client = gateway.client();
    let direct = Client::plain(live.addr).post(PATH, chat(true)).await;
    for client in [client.clone(), client.clone().h2()] {
        let through = client.post(PATH, chat(true)).await;
        assert_eq!(through.body, direct.body);
    }
    let found = compared(&gateway, 2).await;
    assert_eq!(share(&found), (2, 2), "{found:#}");
    assert_eq!(found["similarity"]["bins"][19]["count"], 2);
    assert_eq!(found["latency"]["first_token"]["pairs"], 2, "{found:#}");

    // The copy does not stream: it is answered whole.
    let whole = json!({"choices": [{"message": {"content": text_of(&direct.text())}}]});
    next.becomes(backend().json(whole));
    client.post(PATH, chat(true)).await;
    let found = compared(&gateway, 3).await;
    assert_eq!(share(&found), (3, 3), "{found:#}");
    assert_eq!(found["latency"]["first_token"]["pairs"], 2, "one that does not stream has none");
    next.becomes(backend().openai("another").pieces(3));
    client.post(PATH, chat(true)).await;
    let found = compared(&gateway, 4).await;
    assert_eq!((share(&found), &found["differences"]["content"]), ((3, 4), &json!(1)));

    // Anthropic's, at a place that only a whole answer has.
    let (live, next) = (backend().anthropic("claude"), backend().anthropic("claude"));
    let (live, next) = (live.start().await, next.start().await);
    let compare = "kind = \"text\"\npath = \"/content/0/text\"";
    gateway.reconfigure(&beside(&live, &next, "", compare)).await.unwrap();
    let message = |stream| json!({"model": "m", "stream": stream, "max_tokens": 9, "messages": []});
    for stream in [true, false] {
        gateway.client().post("/v1/messages", message(stream).to_string()).await;
    }
    let found = compared(&gateway, 2).await;
    assert_eq!(share(&found), (2, 2), "{found:#}");
}

/// The text that the deltas of a chat stream make up.
fn text_of(stream: &str) -> String {
    let events = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = events.filter_map(|event| serde_json::from_str::<Value>(event).ok());
    let word = |event: Value| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned);
    events.filter_map(word).collect()
}

#[tokio::test]
async fn what_cannot_be_compared_is_counted_with_its_reason_and_not_as_agreement() {
    let (live, next) = (says("live").start().await, says("copy").start().await);
    let compare = "kind = \"exact\"\nanswer_bytes = \"1KiB\"";
    let gateway = gateway(beside(&live, &next, "", compare)).start().await;
    let client = gateway.client();
    let (small, large) = (json!({"a": 1}), json!({"a": "x".repeat(2_000)}));
    let failed = json!({"status": 503});
    let refused = json!({"status": 422});
    ask(&client, &small, &small).await;
    // Either side may be too long.
    ask(&client, &large, &small).await;
    ask(&client, &small, &large).await;
    ask(&client, &failed, &failed).await;
    ask(&client, &refused, &json!({"status": 400})).await;
    let found = compared(&gateway, 5).await;
    assert_eq!(share(&found), (1, 1), "{found:#}");
    let reasons = &found["not_comparable"];
    assert_eq!(
        (&reasons["too_long"], &reasons["both_failed"]),
        (&json!(2), &json!(1)),
        "{found:#}"
    );
    assert_eq!(reasons["both_refused"], 1);

    next.becomes(backend().json(small.clone()).header("content-encoding", "gzip"));
    ask(&client, &small, &small).await;
    let found = compared(&gateway, 6).await;
    assert_eq!(found["not_comparable"]["encoded"], 1, "{found:#}");

    // The client leaves in the middle of its answer.
    live.becomes(backend().streams(["some ", "more"]).stalls_after(1));
    let mut left = client.post(PATH, "{}").open().await.unwrap();
    left.chunk().await;
    drop(left);
    let found = compared(&gateway, 7).await;
    assert_eq!(found["not_comparable"]["client_left"], 1, "{found:#}");
    assert_eq!(share(&found), (1, 1));
    assert_eq!(gateway.metric("weir_shadow_compare_bytes").await, 0.0, "all of it is let go");
    for (reason, count) in [("too_long", 2.0), ("encoded", 1.0), ("client_left", 1.0)] {
        let series =
            format!("weir_shadow_not_comparable_total{{shadow=\"next\",reason=\"{reason}\"}}");
        assert_eq!(gateway.metric(&series).await, count, "{reason}");
    }
}

#[tokio::test]
async fn who_fails_more_often_is_told_from_pairs_in_which_one_did() {
    let (live, next) = (says("live").start().await, says("copy").start().await);
    let gateway = gateway(beside(&live, &next, "timeout = \"300ms\"", "")).start().await;
    let client = gateway.client();
    let (good, bad) = (json!({"status": 200}), json!({"status": 500}));
    for _ in 0..30 {
        ask(&client, &good, &bad).await;
    }
    ask(&client, &bad, &good).await;
    ask(&client, &bad, &bad).await;
    // A copy that is not answered in time, and one that is cut.
    next.becomes(backend().stalls());
    ask(&client, &good, &good).await;
    next.becomes(backend().large(100_000).resets_after(10));
    ask(&client, &good, &good).await;
    let found = compared(&gateway, 34).await;
    let failures = &found["failures"];
    assert_eq!(failures["only_copy"], 32, "{found:#}");
    assert_eq!((&failures["only_live"], &failures["both"]), (&json!(1), &json!(1)));
    assert_eq!(failures["verdict"], "breached");
    assert_eq!(found["passed"], false);
    assert_eq!(found["differences"]["copy_failed"], 32);
    assert!(found["words"].as_str().unwrap().ends_with("it fails more often"), "{found:#}");
    let statuses = found["status_pairs"].as_array().unwrap();
    assert!(statuses.contains(&json!({"live": 200, "copy": 0, "count": 2})), "{statuses:?}");
    // How soon an error comes says nothing about how long an answer takes.
    assert_eq!(found["latency"]["end"], Value::Null);
}

/// A gRPC call says how it ended in its trailer, under a status of 200 either way.
#[tokio::test]
async fn a_grpc_call_fails_by_its_own_status() {
    let live = backend().grpc_echo().start().await;
    let next = backend().grpc_error(13, "internal").start().await;
    let gateway = gateway(beside(&live, &next, "", "")).start().await;
    let client = gateway.client().h2();
    let call = || client.post("/a.B/C", "\0\0\0\0\0").header("content-type", "application/grpc");
    assert_eq!(call().await.trailer("grpc-status"), Some("0"));
    let found = compared(&gateway, 1).await;
    assert_eq!(found["failures"]["only_copy"], 1, "{found:#}");
    assert_eq!(found["differences"]["copy_failed"], 1);
    next.becomes(backend().grpc_echo());
    call().await;
    let found = compared(&gateway, 2).await;
    assert_eq!(share(&found), (1, 2), "{found:#}");
}

/// Copies that wait for a place are not slower for it. With the queue in their times the last of these
/// would take twenty times as long as what the client got.
#[tokio::test]
async fn a_copys_time_begins_when_it_is_on_its_way() {
    let live = backend().answers("live").delay(millis(40)).start().await;
    let next = backend().answers("next").delay(millis(40)).start().await;
    let shadow = "max_in_flight = 1\nqueue = 100";
    let gateway = gateway(beside(&live, &next, shadow, "")).start().await;
    let client = gateway.client();
    let calls = (0..20).map(|_| client.post(PATH, "{}"));
    for answer in weir_tests::together(calls).await {
        assert_eq!(answer.unwrap().status, 200);
    }
    let found = compared(&gateway, 20).await;
    for at in ["first_byte", "end"] {
        let latency = &found["latency"][at];
        assert_eq!(latency["pairs"], 20, "{found:#}");
        let ratio = latency["ratio"]["value"].as_f64().unwrap();
        assert!((0.2..4.0).contains(&ratio), "{ratio} at {at}");
        let counted = latency["histogram"].as_array().unwrap().iter();
        assert_eq!(counted.map(|bin| bin["count"].as_u64().unwrap()).sum::<u64>(), 20);
    }
    // And one that is slower is.
    next.becomes(backend().answers("next").delay(millis(400)));
    for answer in weir_tests::together((0..4).map(|_| client.post(PATH, "{}"))).await {
        assert_eq!(answer.unwrap().status, 200);
    }
    let found = compared(&gateway, 24).await;
    assert!(found["latency"]["end"]["p99"].as_f64().unwrap() > 3.0, "{found:#}");
    assert!(found["latency"]["end"]["sign_test"]["slower"].as_u64().unwrap() >= 4);
}

/// A client that sends slowly holds up the live backend, and no copy: its time begins when it has all.
#[tokio::test]
async fn a_client_that_sends_slowly_does_not_make_the_copy_look_fast() {
    let live = backend().answers("live").delay(millis(50)).start().await;
    let next = backend().answers("next").delay(millis(50)).start().await;
    let gateway = gateway(beside(&live, &next, "", "")).start().await;
    for _ in 0..2 {
        let slow = gateway.client().post(PATH, "").in_pieces(["a", "b", "c"], millis(400));
        assert_eq!(slow.await.text(), "live");
    }
    let found = compared(&gateway, 2).await;
    for at in ["first_byte", "end"] {
        let ratio = found["latency"][at]["ratio"]["value"].as_f64().unwrap();
        assert!(ratio > 0.25, "{ratio} at {at}");
    }
}

/// A client that reads slowly makes the live answer late, not the backend: its end is not compared.
#[tokio::test]
async fn a_client_that_reads_slowly_does_not_make_the_copy_look_fast() {
    let live = backend().large(8 << 20).start().await;
    let next = backend().large(8 << 20).start().await;
    let gateway = gateway(beside(&live, &next, "", "")).start().await;
    let mut slow = gateway.client().post(PATH, "{}").open().await.unwrap();
    slow.chunk().await;
    tokio::time::sleep(millis(300)).await;
    assert_eq!(slow.rest().await.error, None);
    let found = compared(&gateway, 1).await;
    assert_eq!(share(&found), (1, 1), "{found:#}");
    assert_eq!(found["latency"]["end"], Value::Null, "{found:#}");
    assert_eq!(found["latency"]["slow_readers"], 1);
    assert_eq!(found["latency"]["first_byte"]["pairs"], 1);
}

/// A shadow that hangs, or answers without end, changes nothing for the client while its answers are
/// compared, and holds no more than it may.
#[tokio::test]
async fn t26_a_hung_or_endless_shadow_changes_nothing_and_what_is_kept_is_bounded() {
    let live = backend().openai("live").pieces(20).start().await;
    let next = backend().stalls().start().await;
    let shadow = "max_in_flight = 4\nqueue = 0\ntimeout = \"700ms\"";
    let gateway = gateway(beside(&live, &next, shadow, "kind = \"text\"")).start().await;
    let client = gateway.client();
    let chat = json!({"model": "m", "stream": true, "messages": []}).to_string();
    let direct = Client::plain(live.addr).post(PATH, chat.clone()).await;
    for _ in 0..60 {
        let answer = client.post(PATH, chat.clone()).await;
        assert_eq!((answer.status.as_u16(), &answer.body), (200, &direct.body));
        assert!(answer.total < millis(600), "{:?}", answer.total);
    }
    // The four that were sent and those that found a place later; none of the others is a pair.
    let sent = async || {
        gateway.metric("weir_shadow_requests_total{backend=\"next\",result=\"error\"}").await
    };
    until_async(seconds(5), async || {
        let (sent, open) =
            (sent().await, gateway.metric("weir_shadow_in_flight{backend=\"next\"}").await);
        sent >= 4.0 && open == 0.0
    })
    .await;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let found = compared(&gateway, sent().await as u64).await;
    assert_eq!(found["differences"]["copy_failed"], found["pairs"]);

    next.becomes(backend().large(80 << 20));
    let before = found["pairs"].as_u64().unwrap();
    assert_eq!(client.post(PATH, chat.clone()).await.body, direct.body);
    compared(&gateway, before + 1).await;
    assert_eq!(gateway.metric("weir_shadow_compare_bytes").await, 0.0);
    let rows = gateway.outcomes("").await;
    assert!(rows.iter().all(|row| row["outcome"] == "ok"), "a copy has no outcome");
}

/// The first pieces of an answer are with the client while the rest has not come, watched or not.
#[tokio::test]
async fn t26_a_watched_answer_is_not_held_back() {
    let live = backend().streams(["one ", "two ", "three"]).stalls_after(2).start().await;
    let next = backend().answers("next").start().await;
    let gateway = gateway(beside(&live, &next, "", "kind = \"exact\"")).start().await;
    for client in [gateway.client(), gateway.client().h2()] {
        let mut answer = client.post(PATH, "{}").open().await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 8 {
            seen.extend(answer.chunk_within(seconds(5)).await.unwrap().unwrap());
        }
        assert_eq!(seen, b"one two ");
    }
}

#[tokio::test]
async fn kill_9_and_a_restart_keep_what_was_counted() {
    let (live, next) = (says("live").start().await, says("copy").start().await);
    let compare = "kind = \"label\"\npath = \"/class\"";
    let prepared = gateway(beside(&live, &next, "", compare)).write();
    let weir = prepared.spawn().await;
    let key = weir.make_key("client").await;
    let (cat, dog) = (json!({"class": "cat"}), json!({"class": "dog"}));
    let client = weir.client(&key);
    for copy in [&cat, &cat, &cat, &dog] {
        ask(&client, &cat, copy).await;
    }
    let saved = || {
        let database = crate::recording::database(&prepared.dir);
        let query = "SELECT bytes FROM comparisons WHERE shadow = 'next'";
        let bytes: Result<Vec<u8>, _> = database.query_row(query, [], |row| row.get(0));
        bytes.is_ok_and(|bytes| {
            let kept: Value = serde_json::from_slice(&bytes[1..]).unwrap();
            kept["tally"]["agreed"]["pairs"] == 4
        })
    };
    weir_tests::until(seconds(10), saved).await;
    weir.kill();

    let weir = prepared.spawn().await;
    let found = weir.get("/shadows/next/comparison").await;
    assert_eq!((share(&found), &found["revision"]), ((3, 4), &json!(1)), "{found:#}");
    ask(&weir.client(&key), &cat, &cat).await;
    until_async(seconds(10), async || {
        let found = weir.get("/shadows/next/comparison").await;
        share(&found) == (4, 5) && found["latency"]["end"]["pairs"] == 5
    })
    .await;
    // An orderly end saves what came in the last second.
    weir.signal("TERM");
    assert_eq!(weir.exit(seconds(10)).await, Some(0));
    let weir = prepared.spawn().await;
    let found = weir.get("/shadows/next/comparison").await;
    assert_eq!(share(&found), (4, 5), "{found:#}");
    assert_eq!(found["labels"]["table"][0], json!({"live": "cat", "copy": "cat", "count": 4}));
}

#[tokio::test]
async fn a_reload_that_changes_what_is_compared_begins_anew_and_no_other_does() {
    let (live, next) = (says("live").start().await, says("copy").start().await);
    let of = |shadow: &str, compare: &str| beside(&live, &next, shadow, compare);
    let label = "kind = \"label\"\npath = \"/class\"";
    let mut gateway = gateway(of("", label)).start().await;
    let cat = json!({"class": "cat"});
    ask(&gateway.client(), &cat, &cat).await;
    compared(&gateway, 1).await;
    gateway
        .reconfigure(&of("max_in_flight = 9", &format!("{label}\nmin_pairs = 7")))
        .await
        .unwrap();
    let found = compared(&gateway, 1).await;
    assert_eq!((&found["revision"], &found["to_pass"]["min_pairs"]), (&json!(1), &json!(7)));
    let rows = gateway.outcomes("").await;
    assert_eq!(rows[0]["shadow"], true, "a copy was sent: {}", rows[0]);
    gateway.reconfigure(&of("", "kind = \"label\"\npath = \"/klass\"")).await.unwrap();
    let found = compared(&gateway, 0).await;
    assert_eq!(found["revision"], 2);
    assert_eq!(found["words"], "no answer of next was compared yet");
    // Counters of the process go on.
    let agree = "weir_shadow_pairs_total{shadow=\"next\",result=\"agree\"}";
    assert_eq!(gateway.metric(agree).await, 1.0);
    // Another model of the same backend is another subject.
    let text = of("", label).replace("[routes.chat]", "model = \"m2\"\n[routes.chat]");
    gateway.reconfigure(&text).await.unwrap();
    assert_eq!(compared(&gateway, 0).await["revision"], 3);
    // And so it is after a restart.
    let gateway = gateway.restart().await;
    assert_eq!(gateway.get("/shadows/next/comparison").await["revision"], 3);
}

/// Anew by hand, with an entry in the audit log; and whose shadow is gone is told as such.
#[tokio::test]
async fn counting_begins_anew_when_somebody_says_so() {
    let (live, next) = (says("live").start().await, says("copy").start().await);
    let mut gateway = gateway(beside(&live, &next, "", "")).start().await;
    ask(&gateway.client(), &json!({}), &json!({})).await;
    compared(&gateway, 1).await;
    let path = "/api/v1/shadows/next/comparison/restart";
    let experimenter = gateway.make_key("experimenter", Value::Null).await;
    let api = Client::plain(gateway.admin).bearer(&experimenter);
    let restarted = api.post(path, json!({"reason": "new weights"}).to_string()).await;
    assert_eq!((restarted.status.as_u16(), &restarted.json()["revision"]), (200, &json!(2)));
    assert_eq!(compared(&gateway, 0).await["revision"], 2);
    let entry = &gateway.get("/audit").await["items"][0];
    assert_eq!(entry["action"], "comparison.restart");
    assert_eq!(
        (&entry["target"], &entry["reason"]),
        (&json!("shadow/next"), &json!("new weights"))
    );
    assert_eq!(entry["before"], json!({"revision": 1, "pairs": 1}));

    let none = gateway.api().get("/api/v1/shadows/nex/comparison").await;
    assert_eq!(none.status, 404, "{}", none.text());
    ask(&gateway.client(), &json!({}), &json!({})).await;
    compared(&gateway, 1).await;
    let without = beside(&live, &next, "", "");
    let without = without.split("[shadows.next]").next().unwrap();
    gateway.reconfigure(without).await.unwrap();
    let found = gateway.get("/shadows/next/comparison").await;
    assert_eq!((&found["running"], &found["pairs"]), (&json!(false), &json!(1)), "{found:#}");
    assert_eq!(gateway.api().post(path, "").await.status, 404, "it is not in force");
}

/// With an experiment on the route, whose answers the client got is told apart.
#[tokio::test]
async fn live_answers_of_several_backends_are_told_apart() {
    let live = backend().json(json!({"class": "cat"})).start().await;
    let canary = backend().json(json!({"class": "dog"})).start().await;
    let next = backend().json(json!({"class": "cat"})).start().await;
    let text = format!(
        r#"{}
        [backends.canary]
        endpoints = ["{}"]
        [experiments.e]
        route = "chat"
        unit = ["header:x-user-id"]
        control = "stable"
        [experiments.e.variants]
        stable = {{ backend = "live", weight = 50 }}
        canary = {{ backend = "canary", weight = 50 }}
        "#,
        beside(&live, &next, "", "kind = \"label\"\npath = \"/class\""),
        canary.url()
    );
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    for user in 0..40 {
        client.post(PATH, "{}").header("x-user-id", &format!("u{user}")).await;
    }
    let found = compared(&gateway, 40).await;
    let of = |backend: &str| &found["by_backend"][backend];
    assert_eq!(of("live")["value"], 1.0, "{found:#}");
    assert_eq!(of("canary")["value"], 0.0);
    let pairs = |backend| of(backend)["pairs"].as_u64().unwrap();
    assert_eq!(pairs("live") + pairs("canary"), 40);
    assert_eq!(pairs("canary"), canary.calls() as u64);
}

/// A ramp may be told to begin only once its backend has been seen beside what clients get.
#[tokio::test]
async fn a_ramp_begins_only_if_its_shadow_has_passed() {
    let live = backend().json(json!({"class": "cat"})).start().await;
    let next = backend().json(json!({"class": "dog"})).start().await;
    let text = format!(
        r#"{}
        [backends.other]
        endpoints = ["http://127.0.0.1:1"]
        [shadows.other]
        route = "chat"
        backend = "other"
        percent = 0
        [experiments.e]
        route = "chat"
        unit = ["request"]
        control = "stable"
        [experiments.e.variants]
        stable = {{ backend = "live", weight = 100 }}
        canary = {{ backend = "next", weight = 0 }}
        "#,
        beside(
            &live,
            &next,
            "",
            "kind = \"label\"\npath = \"/class\"\nmin_pairs = 30\nagreement = 0.4"
        ),
    );
    let gateway = gateway(text).start().await;
    let begin = async |shadow: &str| {
        let body = json!({ "shadow": shadow }).to_string();
        let answer = gateway.api().post("/api/v1/experiments/e/ramp", body).await;
        (answer.status.as_u16(), answer.json())
    };
    let message = |answer: &Value| answer["error"]["message"].as_str().unwrap().to_owned();
    let (status, answer) = begin("none").await;
    assert_eq!(status, 400, "{answer}");
    let (status, answer) = begin("other").await;
    assert_eq!(status, 400, "{answer}");
    assert!(message(&answer).contains("the variant is served by \"next\""), "{answer}");

    for _ in 0..30 {
        gateway.client().post(PATH, "{}").await;
    }
    compared(&gateway, 30).await;
    let (status, answer) = begin("next").await;
    assert_eq!((status, &answer["error"]["type"]), (409, &json!("shadow_not_passed")), "{answer}");
    assert!(message(&answer).contains("agreement is surely 0.0 % at least"), "{answer}");
    assert_eq!(gateway.get("/experiments/e").await["revision"], 1, "nothing was changed");

    gateway.api().post("/api/v1/shadows/next/comparison/restart", "").await;
    next.becomes(backend().json(json!({"class": "cat"})));
    for _ in 0..29 {
        gateway.client().post(PATH, "{}").await;
    }
    compared(&gateway, 29).await;
    let (status, answer) = begin("next").await;
    assert_eq!(status, 409, "{answer}");
    assert!(message(&answer).contains("29 of 30 pairs"), "{answer}");
    gateway.client().post(PATH, "{}").await;
    compared(&gateway, 30).await;
    let (status, answer) = begin("next").await;
    assert_eq!((status, &answer["shadow"]), (201, &json!("next")), "{answer}");
}

/// The command says it in words first.
#[tokio::test]
async fn weir_shadow_says_it_in_words_first() {
    let (live, next) = (says("live").start().await, says("copy").start().await);
    let compare = "kind = \"label\"\npath = \"/class\"\nmin_pairs = 20\nagreement = 0.5";
    let gateway = gateway(beside(&live, &next, "", compare)).start().await;
    let client = gateway.client();
    let (cat, dog) = (json!({"class": "cat"}), json!({"class": "dog"}));
    for n in 0..40 {
        ask(&client, &cat, if n % 10 == 0 { &dog } else { &cat }).await;
    }
    compared(&gateway, 40).await;
    let viewer = gateway.make_key("viewer", Value::Null).await;
    let admin = format!("http://{}", gateway.admin);
    let weir = move |arguments: &[&str]| {
        let all = [arguments, &["--admin", &admin, "--token", &viewer]].concat();
        let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
        tokio::task::spawn_blocking(move || {
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let output = weir_tests::weir(&all);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (output.status.code(), text(&output.stdout), text(&output.stderr))
        })
    };
    let (code, out, err) = weir(&["shadow", "comparison", "next"]).await.unwrap();
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let mut lines = out.lines();
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("next: next beside route chat, compared by label at /class")
    );
    assert_eq!(lines.next(), Some(""));
    let words = lines.next().unwrap();
    assert!(
        words.starts_with("next agrees with what clients got in 90.0 % of 40 pairs ("),
        "{words}"
    );
    assert!(lines.next().unwrap().starts_with("has passed: at least 50.0 % agree"), "{out}");
    let (_, out, _) = weir(&["shadow", "list"]).await.unwrap();
    assert!(out.contains("90.0 %") && out.contains("passed") && out.contains("label"), "{out}");
    let (_, out, _) = weir(&["shadow", "comparison", "next", "--json"]).await.unwrap();
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["agreement"]["pairs"], 40);
    let (code, _, err) = weir(&["shadow", "comparison", "nxt"]).await.unwrap();
    assert_eq!(code, Some(1));
    assert!(err.contains("did you mean \"next\"?"), "{err}");
    let (code, _, err) = weir(&["shadow", "disagreements", "next"]).await.unwrap();
    assert_eq!(code, Some(1));
    assert!(err.contains("payload:read"), "{err}");
}
