//! Spans: one of a request, one of each attempt, one of each copy, and who continues whose trace.

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::json;
use weir_tests::{Authority, Backend, Collector, backend, gateway, millis, seconds, until};

use crate::recording::{request_id, split};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An attribute as text.
fn told(span: &Span, key: &str) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    let value = found.value.as_ref()?.value.as_ref()?;
    if let Value::StringValue(text) = value {
        Some(text.clone())
    } else if let Value::IntValue(number) = value {
        Some(number.to_string())
    } else if let Value::BoolValue(yes) = value {
        Some(yes.to_string())
    } else {
        Some(format!("{value:?}"))
    }
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

/// Trace and span of a `traceparent`, and whether it is sampled.
fn parent(traceparent: &str) -> (String, String, bool) {
    let parts: Vec<&str> = traceparent.split('-').collect();
    let [_, trace, parent, flags] = *parts else { panic!("{traceparent}") };
    (trace.into(), parent.into(), u8::from_str_radix(flags, 16).unwrap() & 1 == 1)
}

/// The spans of the trace that a request belongs to, the earliest first, once there are `count`.
async fn trace_of(
    collector: &Collector,
    server: impl Fn(&Span) -> bool,
    count: usize,
) -> Vec<Span> {
    let found = || {
        let all = collector.spans();
        let trace = all.iter().find(|span| server(span)).map(|span| span.trace_id.clone());
        let mut spans: Vec<Span> =
            all.into_iter().filter(|span| Some(&span.trace_id) == trace.as_ref()).collect();
        spans.sort_by_key(|span| (span.kind() != SpanKind::Server, span.start_time_unix_nano));
        spans
    };
    until(seconds(5), || found().len() >= count).await;
    let spans = found();
    assert_eq!(spans.len(), count, "{spans:#?}");
    spans
}

fn is_of(id: String) -> impl Fn(&Span) -> bool {
    move |span| told(span, "weir.request_id").as_deref() == Some(&*id)
}

#[tokio::test]
async fn a_refused_request_has_a_span_like_any_other() {
    let collector = Collector::start().await;
    let model = backend().answers("x").start().await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let text = collector.telemetry(1.0, &format!("file:{}", log.display()))
        + &split(&model, &model).replace("[routes.rest]", "[routes.rest]\nmethods = [\"GET\"]");
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    let cases = [
        (gateway.anonymous().get("/rest/x").await, "GET", 401, "unauthenticated"),
        (client.get("/nowhere").await, "GET", 404, "no_route"),
        (client.request("BREW", "/nowhere", "").await, "HTTP", 404, "no_route"),
        (client.get("/rest/x").header("expect", "tea").await, "GET", 417, "invalid_headers"),
    ];
    let known = cases.iter().map(|(answer, ..)| request_id(answer));
    for ((answer, name, status, error), id) in cases.iter().zip(known) {
        assert_eq!(answer.status, *status, "{}", answer.text());
        let spans = trace_of(&collector, is_of(id.clone()), 1).await;
        let [span] = &*spans else { panic!("{spans:#?}") };
        assert_eq!((span.kind(), &*span.name), (SpanKind::Server, *name));
        assert_eq!(told(span, "error.type").as_deref(), Some(*error));
        assert_eq!(told(span, "http.response.status_code"), Some(status.to_string()));
        assert!(!is_error(span), "a client's mistake is none of ours");
        let lines = std::fs::read_to_string(&log).unwrap();
        let line = lines.lines().find(|line| line.contains(&id)).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["trace_id"], hex(&span.trace_id), "log and span join");
        assert_eq!(line["span_id"], hex(&span.span_id));
    }
    // What is no request at all has a span too.
    let mut raw = gateway.raw().await;
    raw.send("GET /x HTTP/1.1\r\nhost: a\r\nx y: 1\r\n\r\n").await.unwrap();
    let answer = raw.read_response(seconds(2)).await.unwrap();
    assert_eq!(answer.status, 400);
    let malformed =
        |span: &Span| told(span, "error.type").as_deref() == Some("downstream_protocol_error");
    let spans = trace_of(&collector, malformed, 1).await;
    assert_eq!(spans[0].name, "HTTP");
}

#[tokio::test]
async fn each_attempt_is_a_span_that_its_backend_is_told() {
    let collector = Collector::start().await;
    let weak = backend().resets().start().await;
    let strong = backend().answers("x").start().await;
    let text = format!(
        "{}[backends.pool]\nendpoints = [\"{}\", \"{}\"]\nbalance = \"round_robin\"\n\
         [routes.r]\npath = \"/rest/*\"\nbackend = \"pool\"\n",
        collector.telemetry(1.0, "off"),
        weak.url(),
        strong.url()
    );
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    let mut retried = None;
    for _ in 0..4 {
        let answer = client.get("/rest/x").await;
        assert_eq!(answer.status, 200);
        if weak.calls() == 1 {
            retried = Some(request_id(&answer));
            break;
        }
    }
    let id = retried.expect("the first endpoint is never asked");
    let spans = trace_of(&collector, is_of(id), 3).await;
    let [server, first, second] = &*spans else { panic!("{spans:#?}") };
    for (number, span, backend) in [(1, first, &weak), (2, second, &strong)] {
        assert_eq!(span.kind(), SpanKind::Client);
        assert_eq!(span.parent_span_id, server.span_id);
        assert_eq!(told(span, "weir.attempt"), Some(number.to_string()));
        let (trace, parent, sampled) = parent(backend.last().header("traceparent").unwrap());
        assert_eq!(trace, hex(&server.trace_id));
        assert_eq!(parent, hex(&span.span_id), "attempt {number}");
        assert!(sampled);
    }
    assert_eq!(told(first, "http.request.resend_count"), None);
    assert_eq!(told(second, "http.request.resend_count").as_deref(), Some("1"));
    assert_eq!(told(first, "error.type").as_deref(), Some("upstream_closed"));
    assert_eq!((is_error(first), is_error(second), is_error(server)), (true, false, false));
    assert_ne!(told(first, "server.port"), told(second, "server.port"));
    assert!(first.end_time_unix_nano <= second.start_time_unix_nano);
    assert!(server.start_time_unix_nano <= first.start_time_unix_nano);
}

#[tokio::test]
async fn a_fallback_is_an_attempt_at_another_backend() {
    let collector = Collector::start().await;
    let stable = backend().openai("m").start().await;
    let canary = backend().openai("m").start().await;
    let text = split(&stable, &canary)
        .replace("control = \"stable\"", "control = \"stable\"\non_failure = \"fallback\"")
        .replace("weight = 50 }\n        canary", "weight = 0 }\n        canary");
    let gateway = gateway(collector.telemetry(1.0, "off") + &text).start().await;
    canary.stop();
    let answer = gateway.client().post("/v1/chat/completions", "{}").header("x-user-id", "u").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = request_id(&answer);
    until(seconds(5), || collector.spans().iter().any(is_of(id.clone()))).await;
    let row = gateway.outcomes("").await.pop().unwrap();
    let attempts = usize::try_from(row["attempts"].as_u64().unwrap()).unwrap();
    assert!(attempts >= 2);
    let spans = trace_of(&collector, is_of(id), attempts + 1).await;
    let [server, tried @ .., last] = &*spans else { panic!("{spans:#?}") };
    for (at, span) in tried.iter().enumerate() {
        assert_eq!(told(span, "weir.backend").as_deref(), Some("canary"), "{}", at + 1);
        assert_eq!(told(span, "error.type").as_deref(), Some("upstream_connect_failure"));
    }
    assert_eq!(told(last, "weir.backend").as_deref(), Some("stable"));
    assert_eq!(told(last, "http.request.resend_count"), Some((attempts - 1).to_string()));
    assert_eq!(told(server, "weir.variant.served").as_deref(), Some("stable"));
}

fn copied(live: &Backend, copy: &Backend) -> String {
    format!(
        "[backends.live]\nendpoints = [\"{}\"]\n[backends.next]\nendpoints = [\"{}\"]\n\
         [routes.rest]\npath = \"/rest/*\"\nbackend = \"live\"\n\
         [shadows.s]\nroute = \"rest\"\nbackend = \"next\"\npercent = 100\n",
        live.url(),
        copy.url()
    )
}

#[tokio::test]
async fn a_copy_has_a_span_of_its_own_that_may_end_after_the_answer() {
    let collector = Collector::start().await;
    let live = backend().answers("live").start().await;
    let next = backend().answers("next").delay(millis(300)).start().await;
    let gateway = gateway(collector.telemetry(1.0, "off") + &copied(&live, &next)).start().await;
    let answer = gateway.client().post("/rest/x", "body").await;
    assert_eq!(answer.text(), "live");
    let spans = trace_of(&collector, is_of(request_id(&answer)), 3).await;
    let server = &spans[0];
    let shadow = spans.iter().find(|span| span.name == "shadow next").unwrap();
    let attempt = spans[1..].iter().find(|span| span.name != "shadow next").unwrap();
    assert_eq!((shadow.kind(), &shadow.parent_span_id), (SpanKind::Client, &server.span_id));
    assert_eq!(told(shadow, "weir.shadow").as_deref(), Some("true"));
    assert_eq!(told(shadow, "weir.backend").as_deref(), Some("next"));
    assert_eq!(told(shadow, "http.response.status_code").as_deref(), Some("200"));
    assert!(shadow.end_time_unix_nano > server.end_time_unix_nano);
    for (backend, span) in [(&live, attempt), (&next, shadow)] {
        let (trace, parent, sampled) = parent(backend.last().header("traceparent").unwrap());
        assert_eq!((trace, parent), (hex(&server.trace_id), hex(&span.span_id)));
        assert!(sampled);
    }
    // A copy is no request: it has no line, no outcome.
    assert_eq!(gateway.accounts().await["assigned"], 1);
}

#[tokio::test]
async fn a_copy_of_a_request_that_is_not_sampled_has_no_span() {
    let collector = Collector::start().await;
    let live = backend().answers("live").start().await;
    let next = backend().answers("next").start().await;
    let gateway = gateway(collector.telemetry(0.0, "off") + &copied(&live, &next)).start().await;
    gateway.client().post("/rest/x", "body").await;
    until(seconds(3), || !next.seen().is_empty()).await;
    let (trace, _, sampled) = parent(next.last().header("traceparent").unwrap());
    assert!(!sampled);
    assert_eq!(trace, parent(live.last().header("traceparent").unwrap()).0);
    drop(gateway);
    assert!(collector.spans().is_empty(), "{:?}", collector.spans());
}

#[tokio::test]
async fn a_trace_of_a_stranger_is_linked_and_one_of_a_trusted_caller_is_continued() {
    let collector = Collector::start().await;
    let model = backend().answers("x").start().await;
    let text = collector.telemetry(1.0, "off") + &split(&model, &model);
    let gateway = gateway(text).start().await;
    let theirs = "0af7651916cd43dd8448eb211c80319c";
    let field = format!("00-{theirs}-b7ad6b7169203331-01");
    let ask = |client: weir_tests::Client, path: &str| {
        client.get(path).header("traceparent", &field).header("tracestate", "v=1")
    };
    // Known, unknown, and on a path that is not served.
    for (client, path) in [
        (gateway.client(), "/rest/x"),
        (gateway.client(), "/nowhere"),
        (gateway.anonymous(), "/rest/x"),
    ] {
        let answer = ask(client, path).await;
        until(seconds(5), || collector.spans().iter().any(is_of(request_id(&answer)))).await;
        let spans = collector.spans();
        let server = spans.iter().find(|span| is_of(request_id(&answer))(span)).unwrap();
        assert_ne!(hex(&server.trace_id), theirs);
        assert!(server.parent_span_id.is_empty());
        let [link] = &*server.links else { panic!("{server:#?}") };
        assert_eq!((&*hex(&link.trace_id), &*hex(&link.span_id)), (theirs, "b7ad6b7169203331"));
        assert!(spans.iter().filter(|s| s.kind() == SpanKind::Client).all(|s| s.links.is_empty()));
    }
    // A field that is not valid is nothing to link to.
    let answer = gateway.client().get("/rest/x").header("traceparent", &field.to_uppercase()).await;
    let spans = trace_of(&collector, is_of(request_id(&answer)), 2).await;
    assert!(spans[0].links.is_empty());

    let answer = ask(gateway.inspector(), "/rest/x").await;
    let spans = trace_of(&collector, is_of(request_id(&answer)), 2).await;
    assert_eq!(hex(&spans[0].trace_id), theirs);
    assert_eq!(hex(&spans[0].parent_span_id), "b7ad6b7169203331");
    assert!(spans[0].links.is_empty());
    assert_eq!(model.last().header("tracestate"), Some("v=1"));
}

#[tokio::test]
async fn a_trusted_peer_has_its_trace_continued() {
    let collector = Collector::start().await;
    let model = backend().answers("x").start().await;
    let text = collector.telemetry(0.5, "off") + &split(&model, &model);
    let gateway = gateway(text).server("trusted_peers = [\"127.0.0.1\"]").start().await;
    let theirs = "0af7651916cd43dd8448eb211c80319c";
    for (flags, sampled) in [("01", true), ("00", false)] {
        let field = format!("00-{theirs}-b7ad6b7169203331-{flags}");
        gateway.client().get("/rest/x").header("traceparent", &field).await;
        let (trace, parent, told) = parent(model.last().header("traceparent").unwrap());
        assert_eq!((&*trace, told), (theirs, sampled));
        assert_ne!(parent, "b7ad6b7169203331");
    }
}

#[tokio::test]
async fn t29_a_model_in_a_span_is_one_that_is_configured() {
    let collector = Collector::start().await;
    let model = backend().openai("m").start().await;
    let text = split(&model, &model)
        .replace("[backends.canary]", "model = \"llama\"\n[backends.canary]")
        .replace(
            "[routes.messages]",
            "[routes.named]\npath = \"/v1/completions\"\n\
            model = \"known\"\nbackend = \"stable\"\n[routes.messages]",
        );
    let gateway = gateway(collector.telemetry(1.0, "off") + &text).start().await;
    let client = gateway.client();
    for (path, model, name) in [
        ("/v1/chat/completions", "llama", "chat llama"),
        ("/v1/chat/completions", "known", "chat known"),
        ("/v1/chat/completions", "made-up", "chat _other"),
        ("/v1/completions", "known", "text_completion known"),
    ] {
        let answer = client.post(path, json!({"model": model}).to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let spans = trace_of(&collector, is_of(request_id(&answer)), 2).await;
        assert_eq!(spans[1].name, name);
        let (_, model) = name.split_once(' ').unwrap();
        assert_eq!(told(&spans[1], "gen_ai.request.model").as_deref(), Some(model));
    }
    let all = format!("{:?}", collector.spans());
    assert!(!all.contains("made-up"));
}

#[tokio::test]
async fn the_times_of_a_request_are_in_its_line_and_in_server_timing() {
    let model = backend().answers("x").delay(millis(20)).start().await;
    let text = split(&model, &model)
        .replace("path = \"/rest/*\"", "path = \"/rest/*\"\nserver_timing = true");
    let gateway = gateway(text).start().await;
    let answer = gateway.client().post("/rest/x", "y".repeat(100_000)).await;
    let timing = answer.header("server-timing").unwrap();
    let parts: Vec<(&str, f64)> = timing
        .split(", ")
        .map(|part| part.split_once(";dur=").unwrap())
        .map(|(name, took)| (name, took.parse().unwrap()))
        .collect();
    let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["auth", "connect", "upstream", "gateway"]);
    assert!(parts.iter().all(|(_, took)| *took >= 0.0));

    gateway.anonymous().get("/rest/x").await;
    until(seconds(3), || gateway.access_lines().len() == 2).await;
    let lines = gateway.access_lines();
    let served = &lines[0];
    let micros = |key: &str| served[key].as_u64().unwrap_or_else(|| panic!("no {key}: {served}"));
    // Told to the client in milliseconds, rounded, and to the log in whole microseconds.
    assert!((parts[0].1 * 1e3 - micros("t_auth") as f64).abs() < 1.1, "{timing} {served}");
    assert!(micros("t_auth") <= micros("t_gateway"), "{served}");
    // From connection had to all written: within the wait for the answer, and apart from it.
    assert!(micros("t_send") + 15_000 < micros("t_first_byte"), "{served}");
    let refused = &lines[1];
    assert!(refused["t_auth"].is_u64(), "{refused}");
    assert!(refused.get("t_send").is_none() && refused.get("t_queue").is_none());
}

#[tokio::test]
async fn spans_travel_over_tls_to_a_collector_that_the_named_authority_vouches_for() {
    let model = backend().answers("x").start().await;
    let authority = Authority::new();
    let pair = authority.leaf(&["127.0.0.1"]);
    for collector in [Collector::https(&pair).await, Collector::grpcs(&pair).await] {
        let text = collector.telemetry(1.0, "off") + &split(&model, &model);
        let prepared = gateway(text).write();
        let ca = authority.write_ca(&prepared.dir, "collector");
        let variables = [("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.to_str().unwrap())];
        let weir = prepared.spawn_with(&variables).await;
        let client = weir.client(&weir.make_key("client").await);
        let answer = client.get("/rest/x").await;
        let spans = trace_of(&collector, is_of(request_id(&answer)), 2).await;
        assert_eq!(spans[0].name, "GET /rest/*");
    }
}
