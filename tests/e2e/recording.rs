//! What is written down of a request is what happened to it, and everything is written down.

use rusqlite::Connection;
use serde_json::{Value, json};
use weir_tests::{
    Answer, Backend, Client, Gateway, backend, gateway, millis, seconds, until_async,
};

/// A 50/50 split of a chat route and of the Anthropic messages route, and a route for the rest.
pub(crate) fn split(stable: &Backend, canary: &Backend) -> String {
    format!(
        r#"
        [backends.stable]
        endpoints = ["{}"]
        [backends.canary]
        endpoints = ["{}"]
        [routes.chat]
        path = "/v1/chat/completions"
        backend = "stable"
        [routes.messages]
        path = "/v1/messages"
        backend = "stable"
        [routes.rest]
        path = "/rest/*"
        backend = "stable"
        [experiments.int8]
        route = "chat"
        unit = ["header:x-user-id"]
        control = "stable"
        [experiments.int8.variants]
        stable = {{ backend = "stable", weight = 50 }}
        canary = {{ backend = "canary", weight = 50 }}
        "#,
        stable.url(),
        canary.url()
    )
}

/// The store's file, read from outside while the gateway has it.
pub(crate) use weir_tests::gateway::database;

/// The blocks that the outcome of a request may be in: those of its 64 milliseconds.
fn blocks_of(id: &str) -> (i64, i64) {
    let millis = i64::from_str_radix(&[&id[..8], &id[9..13]].concat(), 16).unwrap();
    let slice = millis / 64;
    (slice << 20, (slice + 1) << 20)
}

pub(crate) fn request_id(answer: &Answer) -> String {
    answer.header("x-request-id").unwrap().to_owned()
}

/// Whether the request's outcome is in the file.
pub(crate) fn is_stored(database: &Connection, id: &str) -> bool {
    let (first, after) = blocks_of(id);
    let count: i64 = database
        .query_row(
            "SELECT count(*) FROM requests
             WHERE block >= ?1 AND block < ?2 AND request_id = ?3",
            (first, after, id),
            |row| row.get(0),
        )
        .unwrap();
    count == 1
}

/// The sum of all series of one metric whose labels contain `part`.
pub(crate) fn sum_of(metrics: &str, name: &str, part: &str) -> f64 {
    metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(series, _)| {
            let (of, labels) = series.split_once('{').unwrap_or((series, ""));
            of == name && labels.contains(part)
        })
        .map(|(_, value)| value.parse::<f64>().unwrap())
        .sum()
}

/// D6, from the status and from the metrics, at rest.
pub(crate) async fn assert_accounts_balance(gateway: &Gateway) -> Value {
    let accounts = gateway.accounts().await;
    let count = |name: &str| accounts[name].as_u64().unwrap();
    assert_eq!(
        count("assigned"),
        count("recorded") + count("dropped") + count("pending"),
        "{accounts}"
    );
    let metrics = gateway.metrics().await;
    let state =
        |state: &str| sum_of(&metrics, "weir_outcomes_total", &format!("state=\"{state}\""));
    assert_eq!(sum_of(&metrics, "weir_outcomes_pending", ""), 0.0);
    assert_eq!(state("assigned"), state("recorded") + state("dropped"));
    assert_eq!(Some(state("assigned")), accounts["assigned"].as_f64());
    let ended = sum_of(&metrics, "weir_requests_total", "");
    assert_eq!(Some(ended), accounts["assigned"].as_f64());
    accounts
}

async fn row_of(gateway: &Gateway, id: &str) -> Value {
    gateway.accounts().await;
    gateway.get(&format!("/requests/{id}")).await
}

fn chat(stream: bool) -> String {
    let mut body = json!({"model": "chat", "messages": [{"role": "user", "content": "hi"}]});
    if stream {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
    }
    body.to_string()
}

#[tokio::test]
async fn every_field_of_a_whole_answer_is_recorded_as_it_was() {
    let stable = backend().openai("model-a").delay(millis(60)).start().await;
    let canary = backend().openai("model-b").delay(millis(60)).start().await;
    let gateway = gateway(split(&stable, &canary)).start().await;

    let body = chat(false);
    let answer = gateway
        .client()
        .post("/v1/chat/completions", body.clone())
        .header("content-type", "application/json")
        .header("user-agent", "sdk/1.2")
        .header("x-request-id", "job-17.retry_2")
        .header("x-user-id", "u1")
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let row = row_of(&gateway, &request_id(&answer)).await;
    let assigned = gateway.get("/experiments/int8/assign?unit=u1").await;
    let keys = gateway.get("/keys").await;
    let key =
        keys["items"].as_array().unwrap().iter().find(|k| k["name"] == "test-client").unwrap();
    let served = if stable.calls() == 1 { (&stable, "stable") } else { (&canary, "canary") };

    for (member, expected) in [
        ("outcome", json!("ok")),
        ("http.response.status_code", json!(200)),
        ("upstream.status", json!(200)),
        ("flags", json!("-")),
        ("route", json!("chat")),
        ("http.route", json!("/v1/chat/completions")),
        ("url.path", json!("/v1/chat/completions")),
        ("http.request.method", json!("POST")),
        ("network.protocol.version", json!("1.1")),
        ("tls.protocol.version", json!("1.3")),
        ("user_agent.original", json!("sdk/1.2")),
        ("client_request_id", json!("job-17.retry_2")),
        ("auth.key_id", key["id"].clone()),
        ("experiment", json!("int8")),
        ("experiment.revision", json!(1)),
        ("variant", assigned["variant"].clone()),
        ("assignment.reason", assigned["reason"].clone()),
        ("assignment.bucket", assigned["bucket"].clone()),
        ("unit.hash", assigned["unit_hash"].clone()),
        ("backend", json!(served.1)),
        ("server.backend.address", json!(served.0.addr.to_string())),
        ("attempts", json!(1)),
        ("connection.reused", json!(false)),
        ("http.request.body.size", json!(body.len())),
        ("http.response.body.size", json!(answer.body.len())),
        ("stream", json!(false)),
        ("stream.complete", json!(true)),
        ("gen_ai.response.model", answer.json()["model"].clone()),
        ("gen_ai.usage.input_tokens", json!(7)),
        ("gen_ai.usage.output_tokens", json!(4)),
        ("usage.source", json!("reported")),
        ("gen_ai.response.finish_reason", json!("stop")),
        ("seq", json!(1)),
    ] {
        assert_eq!(row[member], expected, "{member} of {row:#}");
    }
    let micros = |name: &str| row[name].as_u64().unwrap_or_else(|| panic!("no {name} in {row:#}"));
    let first_byte = micros("t_first_byte");
    let seen = u64::try_from(answer.total.as_micros()).unwrap();
    assert!((60_000..=seen).contains(&first_byte), "{first_byte} of {seen}");
    assert!(micros("t_first_token") >= first_byte && micros("t_total") >= first_byte);
    assert!(micros("t_gateway") < micros("t_total") - 50_000, "the backend's time is not ours");
    assert_eq!(served.0.last().header("x-user-id"), Some("u1"));

    // The access line of the same request says the same.
    let lines = gateway.access_lines();
    let line = lines.iter().find(|line| line["request_id"] == row["request_id"]).unwrap();
    for (member, value) in line.as_object().unwrap() {
        if row.get(member).is_some() && member != "timestamp" {
            assert_eq!(&row[member], value, "{member}");
        }
    }
    assert_eq!(line["trace_id"], row["trace_id"]);
    assert_eq!(line["outcome.seq"], row["seq"]);
}

#[tokio::test]
async fn tokens_are_taken_from_whole_and_streamed_answers_of_both_kinds_of_api() {
    let openai = backend().openai("gpt").pieces(6).gap(millis(10));
    let model = openai.on("/v1/messages", backend().anthropic("claude").pieces(5)).start().await;
    let gateway = gateway(split(&model, &model)).start().await;
    let client = gateway.client();
    let anthropic = |stream: bool| {
        json!({"model": "c", "max_tokens": 9, "stream": stream, "messages": []}).to_string()
    };
    for (path, body, stream, output, model, finish) in [
        ("/v1/chat/completions", chat(false), false, 6, "gpt", "stop"),
        ("/v1/chat/completions", chat(true), true, 6, "gpt", "stop"),
        ("/v1/messages", anthropic(false), false, 5, "claude", "end_turn"),
        ("/v1/messages", anthropic(true), true, 5, "claude", "end_turn"),
    ] {
        let answer = client.post(path, body).header("content-type", "application/json").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let row = row_of(&gateway, &request_id(&answer)).await;
        let case = format!("{path} stream {stream}: {row:#}");
        assert_eq!(row["stream"], stream, "{case}");
        assert_eq!(row["gen_ai.usage.input_tokens"], 7, "{case}");
        assert_eq!(row["gen_ai.usage.output_tokens"], output, "{case}");
        assert_eq!(row["usage.source"], "reported", "{case}");
        assert_eq!(row["gen_ai.response.finish_reason"], finish, "{case}");
        assert_eq!(row["gen_ai.response.model"], model, "{case}");
        assert_eq!(row["http.response.body.size"], answer.body.len(), "{case}");
        if stream && model == "gpt" {
            assert!(row["t_stream"].as_u64().unwrap() >= 60_000, "{case}");
            assert_eq!(row["stream.complete"], true, "{case}");
            assert!(row["stream.chunks"].as_u64().unwrap() >= 6, "{case}");
        }
    }
}

#[tokio::test]
async fn t30_tokens_of_a_stream_that_stops_early_are_what_was_passed_on() {
    let model = backend().openai("gpt").pieces(200).gap(millis(20)).start().await;
    let gateway = gateway(split(&model, &model)).start().await;

    // The client leaves.
    let mut stream = gateway
        .client()
        .apart()
        .post("/v1/chat/completions", chat(true))
        .header("content-type", "application/json")
        .open()
        .await
        .unwrap();
    let id = stream.header("x-request-id").unwrap().to_owned();
    let mut events = 0;
    while events < 5 {
        let piece = stream.chunk().await.unwrap();
        events += String::from_utf8_lossy(&piece).matches("data: ").count();
    }
    drop(stream);
    let row = row_of(&gateway, &id).await;
    assert_eq!(row["outcome"], "client_aborted", "{row:#}");
    assert_eq!(row["flags"], "DC", "{row:#}");
    assert_eq!(row["usage.source"], "estimated", "{row:#}");
    assert_eq!(row["stream.complete"], false, "{row:#}");
    let counted = row["gen_ai.usage.output_tokens"].as_u64().unwrap();
    assert!((5..60).contains(&counted), "{counted} tokens after {events} events");

    // The backend breaks off.
    model.becomes(backend().openai("gpt").pieces(20).gap(millis(5)).resets_after(1_500));
    let answer = gateway
        .client()
        .post("/v1/chat/completions", chat(true))
        .header("content-type", "application/json")
        .attempt()
        .await
        .unwrap();
    assert!(answer.error.is_some(), "a part must not look like the whole");
    let events = answer.text().matches("\"content\"").count();
    let row = row_of(&gateway, &request_id(&answer)).await;
    assert_eq!(row["outcome"], "upstream_reset", "{row:#}");
    assert_eq!(row["usage.source"], "estimated", "{row:#}");
    // An event that came in part may count, and the last piece may be lost between two sockets.
    let counted = row["gen_ai.usage.output_tokens"].as_u64().unwrap();
    let events = u64::try_from(events).unwrap();
    assert!((events..=events + 2).contains(&counted), "{events}: {row:#}");
    let bytes = row["http.response.body.size"].as_u64().unwrap();
    let came = u64::try_from(answer.body.len()).unwrap();
    assert!((came..=1_500).contains(&bytes), "{row:#}");
}

#[tokio::test]
async fn d6_whatever_happens_to_requests_the_accounts_balance() {
    let stable = backend()
        .answers("ok")
        .on("/rest/500", backend().status(500))
        .on("/rest/404", backend().status(404))
        .on("/rest/closes", backend().closes())
        .on("/rest/resets", backend().resets())
        .on("/rest/cut", backend().large(100_000).resets_after(5_000))
        .on("/rest/slow", backend().stalls())
        .start()
        .await;
    let canary = backend().openai("b").pieces(100).gap(millis(10)).start().await;
    let gateway = gateway(split(&stable, &canary)).start().await;
    let (h1, h2) = (gateway.client(), gateway.client().h2());

    let mut sent = 0;
    let mut aborted = 0_u64;
    for round in 0..8 {
        let client = if round % 2 == 0 { &h1 } else { &h2 };
        let mut tasks = Vec::new();
        for path in
            ["/rest/a", "/rest/500", "/rest/404", "/rest/closes", "/rest/resets", "/rest/cut"]
        {
            let request = client.post(path, "x");
            tasks.push(tokio::spawn(async move { drop(request.attempt().await) }));
            sent += 1;
        }
        // Given up before the answer, and in the middle of it.
        let request = client.apart().post("/rest/slow", "x").within(millis(400));
        tasks.push(tokio::spawn(async move { assert!(request.attempt().await.is_err()) }));
        let stream = client
            .apart()
            .post("/v1/chat/completions", chat(true))
            .header("x-user-id", &format!("u{round}"));
        tasks.push(tokio::spawn(async move {
            let mut stream = stream.open().await.unwrap();
            stream.chunk().await;
        }));
        sent += 2;
        aborted += 1;
        // Refused: no key, no route.
        assert_eq!(gateway.anonymous().post("/rest/a", "x").await.status, 401);
        assert_eq!(client.get("/nowhere").await.status, 404);
        for task in tasks {
            task.await.unwrap();
        }
    }
    let accounts = assert_accounts_balance(&gateway).await;
    // On a busy machine, who gives up may do so before the request has arrived.
    let assigned = accounts["assigned"].as_u64().unwrap();
    assert!((sent - aborted..=sent).contains(&assigned), "{accounts} of {sent}");
    assert_eq!(accounts["recorded"], assigned);
    let rows = gateway.outcomes("").await;
    assert_eq!(rows.len() as u64, assigned);
    let of = |outcome: &str| rows.iter().filter(|row| row["outcome"] == outcome).count();
    assert_eq!(of("client_error"), 8);
    assert!(of("client_aborted") >= 8, "{}", of("client_aborted"));
    assert!(of("upstream_error") >= 8 && of("upstream_reset") >= 8, "{rows:#?}");
    let metrics = gateway.metrics().await;
    assert_eq!(sum_of(&metrics, "weir_rejected_total", "unauthenticated"), 8.0);
    assert_eq!(sum_of(&metrics, "weir_rejected_total", "no_route"), 8.0);
    assert_eq!(sum_of(&metrics, "weir_in_flight_requests", ""), 0.0);
    let mut seqs: Vec<u64> = rows.iter().map(|row| row["seq"].as_u64().unwrap()).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=assigned).collect::<Vec<_>>(), "D4: no gaps");
}

/// What the sync mode promises, for one request.
async fn stored_with_its_last_byte(gateway: &Gateway, client: &Client, path: &str, body: String) {
    let database = database(&gateway.prepared.dir);
    let answer = client.post(path, body).header("content-type", "application/json").await;
    let stored = is_stored(&database, &request_id(&answer));
    assert!(stored, "{path}: {} came before its row was stored", answer.status);
}

#[tokio::test]
async fn d2_sync_the_row_is_in_the_file_when_the_last_byte_is_at_the_client() {
    let stable = backend()
        .openai("gpt")
        .on("/rest/chunked", backend().streams(["a", "b", "c"]))
        .on("/rest/large", backend().large(300_000))
        .on("/rest/failing", backend().status(500).answers("no"))
        .start()
        .await;
    let gateway = gateway(split(&stable, &stable)).recording("outcomes = \"sync\"").start().await;
    assert_eq!(gateway.get("/status").await["store"]["mode"], "sync");
    for client in [gateway.client(), gateway.client().h2()] {
        for _ in 0..5 {
            stored_with_its_last_byte(&gateway, &client, "/v1/chat/completions", chat(false)).await;
            stored_with_its_last_byte(&gateway, &client, "/v1/chat/completions", chat(true)).await;
            for path in ["/rest/chunked", "/rest/large", "/rest/failing"] {
                stored_with_its_last_byte(&gateway, &client, path, "x".into()).await;
            }
        }
    }
    assert_accounts_balance(&gateway).await;
}

/// An answer without a body, and one of the gateway's own, are whole with their heads.
#[tokio::test]
async fn d2_sync_answers_without_a_body_wait_for_the_store_too() {
    let stable = backend()
        .on("/rest/none", backend().status(204))
        .on("/rest/closes", backend().closes())
        .start()
        .await;
    let gateway = gateway(split(&stable, &stable)).recording("outcomes = \"sync\"").start().await;
    for client in [gateway.client(), gateway.client().h2()] {
        for path in ["/rest/none", "/rest/closes", "/rest/empty"] {
            stored_with_its_last_byte(&gateway, &client, path, "x".into()).await;
        }
    }
}

#[tokio::test]
async fn d2_group_the_row_is_in_the_file_soon_after() {
    let stable = backend().answers("x").start().await;
    let gateway = gateway(split(&stable, &stable)).start().await;
    assert_eq!(gateway.get("/status").await["store"]["mode"], "group");
    let database = database(&gateway.prepared.dir);
    let client = gateway.client();
    let mut waits = Vec::new();
    for _ in 0..15 {
        let answer = client.get("/rest/x").await;
        let began = std::time::Instant::now();
        let id = request_id(&answer);
        until_async(seconds(2), || async { is_stored(&database, &id) }).await;
        waits.push(began.elapsed());
    }
    waits.sort_unstable();
    // 50 ms, and what a busy machine adds.
    assert!(waits[7] < millis(100), "{waits:?}");
}

#[tokio::test]
async fn d2_off_counts_exactly_and_stores_nothing() {
    let stable = backend().openai("a").start().await;
    let gateway = gateway(split(&stable, &stable)).recording("outcomes = \"off\"").start().await;
    for user in 0..40 {
        let client = gateway.client().header("x-user-id", &format!("u{user}"));
        assert_eq!(client.post("/v1/chat/completions", chat(false)).await.status, 200);
    }
    let accounts = assert_accounts_balance(&gateway).await;
    assert_eq!(accounts["assigned"], 40);
    assert_eq!(accounts["recorded"], 0);
    assert_eq!(accounts["dropped_by_reason"]["off"], 40, "{accounts}");
    assert!(gateway.outcomes("").await.is_empty());
    let metrics = gateway.metrics().await;
    assert_eq!(sum_of(&metrics, "weir_requests_total", "outcome=\"ok\""), 40.0);
    assert_eq!(gateway.access_lines().len(), 40, "access lines go on");
}
