//! What the gateway tells of requests: exactly that, and none of their secrets.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};
use weir_tests::{
    Client, Collector, RawClient, backend, gateway, millis, seconds, until, until_async,
};

use crate::recording::{assert_accounts_balance, request_id, split, sum_of};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn at_ratio_1_the_collector_gets_the_trace_that_the_backend_saw() {
    let collector = Collector::start().await;
    let model = backend().openai("m").start().await;
    let text = collector.telemetry(1.0, "off") + &split(&model, &model);
    let gateway = gateway(text).start().await;
    let refused = gateway.client().get("/nowhere").await;
    assert_eq!(refused.status, 404);
    let body = json!({"model": "m", "messages": []}).to_string();
    let answer = gateway.client().post("/v1/chat/completions", body).await;
    assert_eq!(answer.status, 200);
    let traceparent = model.last().header("traceparent").unwrap().to_owned();
    let parts: Vec<&str> = traceparent.split('-').collect();
    let [_, trace, parent, flags] = *parts else { panic!("{traceparent}") };
    assert_eq!(u8::from_str_radix(flags, 16).unwrap() & 1, 1, "sampled");

    until(seconds(5), || collector.spans().iter().any(|span| hex(&span.span_id) == parent)).await;
    let spans = collector.spans();
    let ours: Vec<&Span> = spans.iter().filter(|span| hex(&span.trace_id) == trace).collect();
    assert_eq!(ours.len(), 2, "{ours:#?}");
    let server = ours.iter().find(|span| span.kind() == SpanKind::Server).unwrap();
    let client = ours.iter().find(|span| span.kind() == SpanKind::Client).unwrap();
    assert_eq!(hex(&client.span_id), parent, "the backend's parent is the attempt");
    assert_eq!(client.parent_span_id, server.span_id);
    assert!(server.start_time_unix_nano <= client.start_time_unix_nano);
    assert!(server.end_time_unix_nano >= client.end_time_unix_nano);
    let row = gateway.get(&format!("/requests/{}", request_id(&answer))).await;
    assert_eq!(row["trace_id"], trace);
    assert_eq!(row["span_id"], hex(&server.span_id));
    let told = |span: &Span, key: &str| {
        let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
        Some(format!("{:?}", found.value.as_ref()?.value.as_ref()?))
    };
    assert!(told(server, "http.route").unwrap().contains("/v1/chat/completions"));
}

#[tokio::test]
async fn a_client_cannot_have_itself_sampled_and_ratio_0_samples_nothing() {
    let collector = Collector::start().await;
    let model = backend().answers("x").start().await;
    let text = collector.telemetry(0.0, "off") + &split(&model, &model);
    let gateway = gateway(text).start().await;
    let forced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for client in [gateway.client(), gateway.client().h2(), gateway.inspector()] {
        let answer = client
            .get("/rest/x")
            .header("traceparent", forced)
            .header("tracestate", "vendor=forced")
            .await;
        assert_eq!(answer.status, 200);
        let seen = model.last();
        let traceparent = seen.header("traceparent").unwrap();
        let flags = u8::from_str_radix(&traceparent[53..], 16).unwrap();
        assert_eq!(flags & 1, 0, "{traceparent}");
        let row = gateway.accounts().await;
        assert_eq!(row["pending"], 0);
        let row = gateway.get(&format!("/requests/{}", request_id(&answer))).await;
        assert_eq!(row["trace_sampled"], false);
    }
    // A client's key begins a new trace.
    gateway.client().get("/rest/x").header("traceparent", forced).await;
    let traceparent = model.last().header("traceparent").unwrap().to_owned();
    assert!(!traceparent.contains("0af7651916cd43dd8448eb211c80319c"), "{traceparent}");
    assert_eq!(model.last().header("tracestate"), None);
    tokio::time::sleep(millis(1_500)).await;
    assert!(collector.spans().is_empty(), "{:?}", collector.spans());
}

/// Every form in which a secret could be written.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![
        secret.as_bytes().to_vec(),
        hex(secret.as_bytes()).into_bytes(),
        hex(secret.as_bytes()).to_uppercase().into_bytes(),
        secret.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>().into_bytes(),
        secret.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>().into_bytes(),
    ];
    // Base64 depends on where in a group of three a text begins; its ends mix with their neighbours.
    for before in 0..3 {
        let padded = [&b"   "[..before], secret.as_bytes()].concat();
        for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            forms.push(encoded.as_bytes()[4..encoded.len() - 4].to_vec());
        }
    }
    forms
}

fn holds(text: &[u8], form: &[u8]) -> bool {
    text.windows(form.len()).any(|window| window.eq_ignore_ascii_case(form))
}

#[tokio::test]
async fn t16_no_secret_is_in_anything_the_process_writes() {
    let slots = [
        "bearer",
        "xapikey",
        "apikey",
        "basic",
        "cookie",
        "header",
        "query",
        "body",
        "model",
        "unit",
        "baggage",
        "tracestate",
        "backendkey",
        "answer",
        "setcookie",
        "malformed",
        "adminkey",
        "adminquery",
        "trailer",
        "feedback",
        "goodkey",
        "clientcookie",
        "urluser",
        "sse",
        "refusedbody",
    ];
    let canary = |slot: &str| {
        assert!(slots.contains(&slot), "{slot} is not looked for");
        format!("cnry{slot}7f3a9b2e5dq0")
    };
    let collector = Collector::start().await;
    let model = backend()
        .json(json!({
            "id": "x", "model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 1},
            "choices": [{"message": {"content": canary("answer")}, "finish_reason": "stop"}],
        }))
        .header("set-cookie", &format!("s={}", canary("setcookie")))
        .on(
            "/rest/sse",
            backend()
                .streams([format!(
                    "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
                    canary("sse")
                )])
                .header("content-type", "text/event-stream"),
        )
        .on("/rest/500", backend().status(500).answers(canary("answer")))
        .on("/rest/cut", backend().large(50_000).resets_after(5_000))
        .start()
        .await;
    let text = split(&model, &model).replacen(
        "[backends.canary]",
        "credential = \"file:backend.key\"\n[backends.canary]",
        1,
    );
    // The chat route speaks for one model only, so that the model slot is read.
    let text = text.replacen(
        "path = \"/v1/chat/completions\"",
        "path = \"/v1/chat/completions\"\nmodel = \"chat\"",
        1,
    );
    let prepared = gateway(collector.telemetry(1.0, "stdout") + &text).write();
    std::fs::write(prepared.dir.join("backend.key"), canary("backendkey")).unwrap();
    let weir = prepared.spawn().await;
    let good = weir.make_key("client").await;

    let with_all = |request: weir_tests::client::Request| {
        request
            .header("cookie", &format!("session={}", canary("cookie")))
            .header("x-secret", &canary("header"))
            .header("x-user-id", &canary("unit"))
            .header("baggage", &format!("k={}", canary("baggage")))
            .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            .header("tracestate", &format!("v={}", canary("tracestate")))
            .header("referer", &format!("https://x/{}", canary("header")))
    };
    let query = format!("?token={}&api_key={}", canary("query"), canary("query"));
    let body = |model: &str, slot: &str| {
        json!({"model": model, "messages": [{"role": "user", "content": canary(slot)}]}).to_string()
    };
    let mut statuses = BTreeSet::new();
    for h2 in [false, true] {
        let plain = |client: Client| if h2 { client.h2() } else { client };
        // Accepted.
        let client = plain(weir.client(&good));
        for path in ["/v1/chat/completions", "/rest/x", "/rest/500", "/rest/sse", "/rest/cut"] {
            let request = with_all(client.post(&format!("{path}{query}"), body("chat", "body")));
            statuses.insert(request.attempt().await.map_or(0, |answer| answer.status.as_u16()));
        }
        // Refused: unknown model, no route, every kind of bad credential.
        let refused = "refusedbody";
        for (path, model) in [("/v1/chat/completions", &*canary("model")), ("/nowhere", "chat")] {
            let request = with_all(client.post(&format!("{path}{query}"), body(model, refused)));
            statuses.insert(request.await.status.as_u16());
        }
        let anonymous = plain(weir.anonymous());
        for (name, value) in [
            ("authorization", format!("Bearer {}", canary("bearer"))),
            ("authorization", format!("Bearer weir_{}", canary("bearer"))),
            ("authorization", format!("Basic {}", STANDARD_NO_PAD.encode(canary("basic")))),
            ("x-api-key", canary("xapikey")),
            ("api-key", canary("apikey")),
        ] {
            let request =
                with_all(anonymous.post(&format!("/rest/x{query}"), body("chat", refused)));
            let answer = request.header(name, &value).await;
            assert_eq!(answer.status, 401);
            for slot in slots {
                assert!(!answer.text().contains(&canary(slot)), "{slot}: {}", answer.text());
            }
        }
        let feedback =
            json!({"receipt": canary("feedback"), "metric": "m", "value": canary("feedback")});
        let _ = client.post("/feedback", feedback.to_string()).attempt().await;
        let _ =
            client.post("/rest/x", "x").trailers(&[("x-t", &canary("trailer"))]).attempt().await;
    }
    assert!(
        statuses.contains(&200) && statuses.contains(&404) && statuses.contains(&500),
        "{statuses:?}"
    );
    let roots = prepared.authority.roots();
    for head in [
        format!("GET /x HTTP/1.1\r\nhost: a\r\nx y: {}\r\n\r\n", canary("malformed")),
        format!("GET /x HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", canary("malformed")),
        format!("{} /x HTTP/9.9\r\n\r\n", canary("malformed")),
        format!("GET http://u:{}@a/x HTTP/1.1\r\nhost: a\r\n\r\n", canary("urluser")),
        format!("GET /x\u{7f}?{} HTTP/1.1\r\nhost: a\r\n\r\n", canary("query")),
        format!("GET /rest/x#{} HTTP/1.1\r\nhost: a\r\n\r\n", canary("query")),
        format!(
            "GET /x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {0}\r\nauthorization: {0}\r\n\r\n",
            canary("bearer")
        ),
    ] {
        let mut raw = RawClient::tls(weir.edge, &roots, &["http/1.1"]).await;
        raw.send(&head).await.unwrap();
        let _ = raw.read_response(seconds(2)).await;
    }
    let admin = Client::plain(weir.admin);
    let bad = admin.clone().bearer(&canary("adminkey"));
    assert_eq!(bad.get("/api/v1/keys").await.status, 401);
    let _ = weir.api().get(&format!("/api/v1/requests?secret={}", canary("adminquery"))).await;
    let _ = admin.get(&format!("/metrics?key={}", canary("adminquery"))).await;
    let _ = admin.get(&format!("/livez?verbose={}", canary("adminquery"))).await;

    until_async(seconds(5), || async { weir.get("/status").await["recording"]["pending"] == 0 })
        .await;
    until(seconds(5), || collector.spans().len() > 20).await;
    let mut written: Vec<(String, Vec<u8>)> = Vec::new();
    for path in [
        "/status",
        "/requests?limit=1000",
        "/experiments",
        "/keys",
        "/audit",
        "/backends",
        "/routes",
    ] {
        written.push((path.into(), weir.get(path).await.to_string().into_bytes()));
    }
    written.push(("/metrics".into(), admin.get("/metrics").await.body.to_vec()));
    weir.signal("TERM");
    assert_eq!(weir.exit(seconds(10)).await, Some(0));
    written.push(("stdout".into(), weir.stdout().into_bytes()));
    written.push(("stderr".into(), weir.stderr().into_bytes()));
    for body in &collector.bodies() {
        written.push(("spans".into(), body.to_vec()));
    }
    for entry in std::fs::read_dir(&prepared.dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && !path.ends_with("backend.key") {
            written.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    let lines = weir.stdout().lines().filter(|line| line.contains("weir.access")).count();
    assert!(lines >= 24, "{lines} access lines");
    assert!(written.iter().any(|(name, bytes)| name.ends_with("weir.db") && bytes.len() > 4096));

    let mut leaks = Vec::new();
    for slot in slots {
        for form in forms(&canary(slot)) {
            for (name, bytes) in &written {
                if holds(bytes, &form) {
                    leaks.push(format!("{slot} in {name} as {}", String::from_utf8_lossy(&form)));
                }
            }
        }
    }
    for form in forms(&good) {
        for (name, bytes) in &written {
            if holds(bytes, &form) {
                leaks.push(format!("a key in {name}"));
            }
        }
    }
    assert!(leaks.is_empty(), "{leaks:#?}");
}

#[tokio::test]
async fn t28_client_text_stays_on_its_line() {
    let model = backend()
        .answers("x")
        .on("/rest/model", backend().json(json!({"model": "a\n{\u{1b}[31m\u{2028}\"\u{85}b"})))
        .start()
        .await;
    let gateway = gateway(split(&model, &model)).start().await;
    let key = &gateway.client_key;
    let agents: [&[u8]; 6] = [
        b"a\tb",
        b"\xff\xfe{\"x\":1}",
        "\u{2028}\u{2029}\u{85}".as_bytes(),
        b"\"}\\\",\"event\":\"forged",
        "é\u{202e}evil".as_bytes(),
        &[b'a'; 3_000],
    ];
    let mut sent = 0;
    for agent in agents {
        let mut raw = gateway.raw().await;
        let mut head =
            b"GET /rest/%1b%5B31m%0a%0d%00%e2%80%a8 HTTP/1.1\r\nhost: localhost\r\n".to_vec();
        head.extend_from_slice(format!("authorization: Bearer {key}\r\nuser-agent: ").as_bytes());
        head.extend_from_slice(agent);
        head.extend_from_slice(b"\r\n\r\n");
        raw.send(&head).await.unwrap();
        let _ = raw.read_response(seconds(2)).await;
        sent += 1;
    }
    // Characters that no field may hold are refused, and stay out of the log.
    for agent in [&b"\x1b[31mred"[..], b"a\rb", b"a\0b"] {
        let mut raw = gateway.raw().await;
        raw.send(
            [&b"GET /rest/x HTTP/1.1\r\nhost: a\r\nuser-agent: "[..], agent, b"\r\n\r\n"].concat(),
        )
        .await
        .unwrap();
        let answer = raw.read_response(seconds(2)).await.unwrap();
        assert!([400, 401].contains(&answer.status), "{}", answer.status);
        sent += 1;
    }
    // A backend is no more to be trusted.
    assert_eq!(gateway.client().get("/rest/model").await.status, 200);
    sent += 1;
    gateway.accounts().await;
    until(seconds(3), || gateway.access_lines().len() >= sent).await;
    assert!(gateway.access_lines().iter().any(|line| line["gen_ai.response.model"].is_string()));
    let raw = std::fs::read(gateway.prepared.dir.join("access.log")).unwrap();
    let text = String::from_utf8(raw).expect("invalid UTF-8 in the log");
    assert_eq!(text.lines().count(), sent, "{text}");
    for line in text.lines() {
        let parsed: Value = serde_json::from_str(line).unwrap();
        assert_eq!(parsed["event"], "weir.access");
        let bad = |c: char| c.is_control() || c == '\u{2028}' || c == '\u{2029}';
        assert!(!line.contains(bad), "{line:?}");
        assert!(line.len() < 2_500, "{}", line.len());
    }
}

#[tokio::test]
async fn a_thousand_mixed_requests_give_a_thousand_lines_and_counters_that_sum_to_a_thousand() {
    let collector = Collector::start().await;
    let model = backend()
        .openai("m")
        .on("/rest/500", backend().status(500))
        .on("/rest/404", backend().status(404))
        .on("/rest/resets", backend().resets())
        .start()
        .await;
    let text = collector.telemetry(1.0, "file:access.log") + &split(&model, &model);
    let gateway = gateway(text).start().await;
    let (h1, h2) = (gateway.client(), gateway.client().h2());
    let mut tasks = Vec::new();
    for number in 0..1_000 {
        let client = if number % 2 == 0 { &h1 } else { &h2 };
        let request = match number % 10 {
            0..4 => client
                .post("/v1/chat/completions", "{\"messages\":[]}")
                .header("x-user-id", &format!("u{number}")),
            4 => client.get("/rest/404"),
            5 => client.get("/rest/500"),
            6 => client.post("/rest/resets", "x"),
            7 => client.get("/nowhere"),
            8 => gateway.anonymous().get("/rest/x"),
            _ => client.post("/v1/messages", "{}"),
        };
        tasks.push(tokio::spawn(request.attempt()));
        if tasks.len() == 25 {
            for task in tasks.drain(..) {
                task.await.unwrap().unwrap();
            }
        }
    }
    let accounts = assert_accounts_balance(&gateway).await;
    assert_eq!(accounts["assigned"], 800);
    let metrics = gateway.metrics().await;
    let outcomes = sum_of(&metrics, "weir_requests_total", "");
    let rejected = sum_of(&metrics, "weir_rejected_total", "");
    assert_eq!((outcomes, rejected), (800.0, 200.0));
    assert_eq!(sum_of(&metrics, "weir_request_duration_seconds_count", ""), 800.0);
    assert_eq!(sum_of(&metrics, "weir_requests_total", "experiment=\"int8\""), 400.0);
    until(seconds(3), || gateway.access_lines().len() >= 1_000).await;
    tokio::time::sleep(millis(100)).await;
    let lines = gateway.access_lines();
    assert_eq!(lines.len(), 1_000);
    let ids: BTreeSet<&str> = lines.iter().map(|l| l["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 1_000);
    assert_eq!(lines.iter().filter(|line| line.get("outcome").is_some()).count(), 800);
    let servers =
        || collector.spans().iter().filter(|span| span.kind() == SpanKind::Server).count();
    until(seconds(5), || servers() >= 1_000).await;
    tokio::time::sleep(millis(1_200)).await;
    assert_eq!(servers(), 1_000);
    assert!(lines.iter().all(|line| line["trace_sampled"] == true));
}

#[tokio::test]
async fn t29_what_clients_make_up_adds_no_series() {
    let model = backend().answers("x").counts_only().start().await;
    let gateway = gateway(split(&model, &model)).start().await;
    let series = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
    };
    let ask = |number: usize, client: &Client| {
        let body = json!({"model": format!("model-{number}")}).to_string();
        let path = if number.is_multiple_of(2) { "/rest" } else { "/elsewhere" };
        let method = if number.is_multiple_of(50) { format!("M{number}") } else { "POST".into() };
        client
            .request(&method, &format!("{path}/{number}?q={number}"), body)
            .header("user-agent", &format!("agent/{number}"))
            .header("x-user-id", &format!("u{number}"))
    };
    let client = gateway.client();
    for number in 0..101 {
        ask(number, &client).await;
    }
    gateway.accounts().await;
    let before = series(&gateway.metrics().await);
    let mut tasks = Vec::new();
    for number in 0..5_000 {
        let unknown =
            (number % 10 == 3).then(|| gateway.anonymous().bearer(&format!("k-{number}")));
        tasks.push(tokio::spawn(ask(number, unknown.as_ref().unwrap_or(&client)).attempt()));
        if tasks.len() == 64 {
            for task in tasks.drain(..) {
                task.await.unwrap().unwrap();
            }
        }
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    gateway.accounts().await;
    let text = gateway.metrics().await;
    assert!(sum_of(&text, "weir_requests_total", "") >= 2_000.0);
    let after = series(&text);
    let new: Vec<_> =
        after.difference(&before).filter(|s| !s.contains("unauthenticated")).collect();
    // The refused handed in a bad key for the first time, which may be counted by its kind.
    // And the first look at whether units arrive as dealt may come in between.
    let known = |s: &str| {
        s.starts_with("weir_auth_total")
            || s == "weir_sample_ratio_mismatch_pvalue{experiment=\"int8\"}"
    };
    let new: Vec<_> = new.into_iter().filter(|s| !known(s)).collect();
    assert!(new.is_empty(), "{new:#?}");
    assert!(after.len() < 5_000, "{} series", after.len());
}

#[tokio::test]
async fn health_and_version_answer_without_a_credential() {
    let model = backend().answers("x").start().await;
    let gateway = gateway(split(&model, &model)).start().await;
    let admin = Client::plain(gateway.admin);
    for path in ["/livez", "/healthz", "/readyz", "/startupz"] {
        let answer = admin.get(path).await;
        assert_eq!((answer.status.as_u16(), &*answer.text()), (200, "ok\n"), "{path}");
        assert!(answer.total < millis(500), "{path} took {:?}", answer.total);
    }
    let verbose = admin.get("/readyz?verbose").await.json();
    assert_eq!(verbose["status"], "ok");
    assert_eq!(verbose["checks"]["config"], "ok");
    assert_eq!(verbose["checks"]["draining"], "ok");
    // Backends do not count.
    model.stop();
    assert_eq!(gateway.client().get("/rest/x").await.status.as_u16() / 100, 5);
    assert_eq!(admin.get("/readyz").await.status, 200);
    let version = admin.get("/version").await.json();
    let generation = gateway.get("/status").await["generation"].clone();
    assert_eq!(version["config_revision"], generation);
    assert_eq!(version["boot_id"].as_str().unwrap().len(), 32);
    let row = gateway.outcomes("").await.pop().unwrap();
    assert_eq!(row["boot_id"], version["boot_id"], "rows and process join on it");
    assert_eq!(admin.get("/api/v1/status").await.status, 401);
    assert_eq!(admin.get("/metrics").await.status, 200);
}
