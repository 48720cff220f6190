use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span, Status};
use policies::outcome::{Flag, Outcome, RejectReason};
use policies::trace_context::TraceContext;
use prost::Message;

use super::super::tests::served;
use super::write;
use crate::recorder::row::SpanFacts;
use crate::recorder::row::{Micros, Row};

/// What a collector reads.
fn spans(row: &Row) -> Vec<Span> {
    let mut bytes = Vec::new();
    (0..row.span_count()).for_each(|number| write(row, number, &mut bytes));
    let read = ScopeSpans::decode(&*bytes).unwrap();
    assert_eq!(read.spans.len(), row.span_count());
    assert_eq!(read.encode_to_vec(), bytes, "as any other writer would write it");
    read.spans
}

fn server(row: &Row) -> Span {
    spans(row).swap_remove(0)
}

fn last_span(row: &Row) -> Span {
    spans(row).pop().unwrap()
}

fn text_of(value: &AnyValue) -> String {
    match value.value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(yes) => yes.to_string(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::ArrayValue(list) => {
            format!("{:?}", list.values.iter().map(text_of).collect::<Vec<_>>())
        }
        other @ (Value::KvlistValue(_) | Value::BytesValue(_) | Value::StringValueStrindex(_)) => {
            panic!("{other:?}")
        }
    }
}

fn told(span: &Span) -> Vec<String> {
    let pair = |kv: &KeyValue| format!("{}={}", kv.key, text_of(kv.value.as_ref().unwrap()));
    span.attributes.iter().map(pair).collect()
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().unwrap().code() == StatusCode::Error
}

/// Microseconds from the beginning of `of` to the beginning and the end of `span`.
fn since(of: &Span, span: &Span) -> (u64, u64) {
    let since = |nanos: u64| (nanos - of.start_time_unix_nano) / 1_000;
    (since(span.start_time_unix_nano), since(span.end_time_unix_nano))
}

#[test]
fn a_served_request_has_the_promised_attributes() {
    let span = server(&served());
    assert_eq!(span.name, "POST /v1/chat/completions");
    assert!(!is_error(&span));
    assert_eq!(span.flags, 0x301, "sampled, the parent is remote");
    assert_eq!(
        told(&span),
        [
            "http.request.method=POST",
            "url.path=/v1/chat/completions",
            "url.scheme=https",
            "http.route=/v1/chat/completions",
            "http.response.status_code=200",
            "network.protocol.version=1.1",
            "server.address=models.example.com",
            "client.address=192.0.2.9",
            "network.peer.address=10.0.0.7",
            "network.peer.port=51234",
            "user_agent.original=OpenAI/Python 1.99.0",
            "weir.request_id=019aace4-1903-774f-8000-000000000001",
            "feature_flag.key=int8",
            "feature_flag.result.variant=canary",
            "feature_flag.result.reason=split",
            "feature_flag.version=12",
            "feature_flag.provider.name=weir",
            "feature_flag.context.id=0123456789abcdef",
            "weir.variant.served=control",
        ]
    );
    let attempt = last_span(&served());
    assert_eq!(attempt.name, "chat llama-3");
    assert!(!is_error(&attempt));
    assert_eq!(attempt.flags, 0x101);
    assert_eq!(
        told(&attempt),
        [
            "http.request.method=POST",
            "server.address=10.1.2.3",
            "server.port=8000",
            "network.peer.address=10.1.2.3",
            "network.peer.port=8000",
            "http.response.status_code=200",
            "http.request.resend_count=1",
            "weir.backend=vllm-int8",
            "weir.attempt=2",
            "weir.connection.reused=true",
            "gen_ai.operation.name=chat",
            "gen_ai.provider.name=openai",
            "gen_ai.request.model=llama-3",
            "gen_ai.response.model=llama-3-int8",
            "gen_ai.response.finish_reasons=[\"stop\"]",
            "gen_ai.request.stream=true",
            "gen_ai.response.time_to_first_chunk=0.084151",
            "gen_ai.usage.input_tokens=512",
            "gen_ai.usage.output_tokens=309",
        ]
    );
    assert_eq!(since(&span, &attempt), (61, 2_184_151));
    assert_eq!(since(&span, &span), (0, 2_184_151));
    assert_eq!(attempt.parent_span_id, span.span_id);
}

#[test]
fn a_span_is_in_error_as_the_conventions_say() {
    // (status, backend's status, flag, outcome) → (server, client, client's error.type)
    let cases = [
        ((200, 200, None, Some(Outcome::Ok)), (false, false, None)),
        ((404, 404, None, Some(Outcome::ClientError)), (false, true, Some("404"))),
        ((500, 500, None, Some(Outcome::UpstreamError)), (true, true, Some("500"))),
        (
            (504, 0, Some(Flag::UpstreamTimeout), Some(Outcome::Timeout)),
            (true, true, Some("upstream_timeout")),
        ),
        (
            (200, 200, Some(Flag::UpstreamReset), Some(Outcome::UpstreamReset)),
            (true, true, Some("upstream_reset")),
        ),
        ((499, 200, Some(Flag::ClientAborted), Some(Outcome::ClientAborted)), (false, false, None)),
        ((499, 200, Some(Flag::LocalReset), Some(Outcome::ClientAborted)), (true, false, None)),
    ];
    for ((status, upstream_status, flag, outcome), (server, client, error_type)) in cases {
        let row = Row { status, upstream_status, flag, outcome, ..served() };
        let (request, attempt) = (self::server(&row), last_span(&row));
        assert_eq!((is_error(&request), is_error(&attempt)), (server, client), "{row:?}");
        let told = told(&attempt);
        let have = told.iter().find_map(|text| text.strip_prefix("error.type="));
        assert_eq!(have, error_type);
        let code = request.attributes.iter().any(|kv| kv.key.ends_with("status_code"));
        assert_eq!(code, status != 499, "499 is for the log only");
    }
}

/// T29: what a client makes up reaches attributes, cut, and no name.
#[test]
fn t29_no_span_name_is_taken_from_client_text() {
    let row = Row {
        method: "BREW".into(),
        path: "/é".repeat(600).into(),
        user_agent: "ü".repeat(600).into(),
        pattern: None,
        status: 404,
        rejected: Some(RejectReason::NoRoute),
        flag: Some(Flag::NoRoute),
        outcome: None,
        attempts: 0,
        ..served()
    };
    let span = server(&row);
    assert_eq!((&*span.name, is_error(&span)), ("HTTP", false));
    let told = told(&span);
    assert!(told.contains(&"http.request.method=_OTHER".to_owned()));
    assert!(told.contains(&"http.request.method_original=BREW".to_owned()));
    assert!(told.iter().all(|text| text.len() < 512 + 32));
}

#[test]
fn each_attempt_has_a_span_of_its_own() {
    let spans = spans(&served());
    let [server, first, second] = &*spans else { panic!("{spans:?}") };
    assert_eq!(
        told(first),
        [
            "http.request.method=POST",
            "server.address=10.1.2.4",
            "server.port=8000",
            "network.peer.address=10.1.2.4",
            "network.peer.port=8000",
            "error.type=upstream_closed",
            "weir.backend=vllm",
            "weir.attempt=1",
            "weir.connection.reused=true",
            "gen_ai.operation.name=chat",
            "gen_ai.provider.name=openai",
            "gen_ai.request.model=llama-3",
        ]
    );
    assert_eq!((is_error(first), is_error(second)), (true, false));
    assert_eq!(since(server, first), (20, 50));
    assert_eq!(first.parent_span_id, second.parent_span_id);
    assert_ne!(first.span_id, second.span_id);
}

#[test]
fn a_request_that_finds_nobody_after_a_failed_attempt_says_both() {
    let row = Row {
        attempts: 1,
        upstream_status: 0,
        status: 503,
        outcome: Some(Outcome::UpstreamError),
        flag: Some(Flag::NoHealthyUpstream),
        spans: SpanFacts { failed: Some(Flag::UpstreamConnectFailure), ..SpanFacts::default() },
        ..served()
    };
    let spans = spans(&row);
    let [server, client] = &*spans else { panic!("{spans:?}") };
    assert!(told(server).contains(&"error.type=no_healthy_upstream".to_owned()));
    assert!(told(client).contains(&"error.type=upstream_connect_failure".to_owned()));
}

#[test]
fn a_trace_that_is_not_continued_is_linked() {
    let context =
        TraceContext { trace_id: [7; 16], parent_id: [8; 8], sampled: true, random: false };
    let mut row = Row { parent_span_id: [0; 8], ..served() };
    row.spans.link = Some(context);
    let spans = spans(&row);
    let [link] = &*spans[0].links else { panic!("{spans:?}") };
    assert_eq!((&*link.trace_id, &*link.span_id), (&[7; 16][..], &[8; 8][..]));
    assert_eq!(link.flags, 0x301, "sampled, remote");
    assert_eq!((spans[0].flags, &*spans[0].parent_span_id), (0x101, &[][..]), "no parent");
    assert!(spans[1..].iter().all(|span| span.links.is_empty()), "once a request");
}

#[test]
fn a_model_that_no_configuration_names_is_other() {
    let span = last_span(&Row { request_model: None, ..served() });
    assert_eq!(span.name, "chat _other");
    assert!(told(&span).contains(&"gen_ai.request.model=_other".to_owned()));
    let plain = last_span(&Row { request_model: None, path: "/rest/x".into(), ..served() });
    assert_eq!(plain.name, "POST");
}

#[test]
fn a_copy_has_one_span_that_says_so() {
    let row = Row {
        started_unix_nanos: 1_763_837_221_123_456_789,
        trace_id: [0xab; 16],
        span_id: [1; 8],
        parent_span_id: [2; 8],
        method: "POST".into(),
        backend: Some("next"),
        endpoint: Some("10.1.2.3:8000".parse().unwrap()),
        t_total: Micros::from_micros(7_000),
        spans: SpanFacts {
            copy: true,
            failed: Some(Flag::UpstreamTimeout),
            ..SpanFacts::default()
        },
        ..Row::default()
    };
    let spans = spans(&row);
    let [span] = &*spans else { panic!("{spans:?}") };
    assert_eq!((&*span.name, span.kind()), ("shadow next", SpanKind::Client));
    assert_eq!((&*span.parent_span_id, span.flags), (&[2; 8][..], 0x101));
    assert_eq!(
        told(span),
        [
            "http.request.method=POST",
            "server.address=10.1.2.3",
            "server.port=8000",
            "network.peer.address=10.1.2.3",
            "network.peer.port=8000",
            "error.type=upstream_timeout",
            "weir.backend=next",
            "weir.connection.reused=false",
            "weir.shadow=true",
        ]
    );
    assert_eq!(since(span, span), (0, 7_000));
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

fn texts(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    pairs.iter().map(|(key, value)| pair(key, Value::StringValue((*value).into()))).collect()
}

fn failed() -> Option<Status> {
    Some(Status { message: String::new(), code: StatusCode::Error.into() })
}

/// The row of a request that has as much to say as one can.
fn eventful() -> Row {
    let mut row = Row {
        method: "BREW".into(),
        path: "/v1/messages".into(),
        peer: "[2001:db8::7]:443".parse().unwrap(),
        client: "::ffff:192.0.2.255".parse().unwrap(),
        endpoint: Some("[::1]:65535".parse().unwrap()),
        revision: u64::MAX,
        status: 504,
        upstream_status: 502,
        outcome: Some(Outcome::UpstreamError),
        input_tokens: Some(0),
        output_tokens: Some(u64::MAX),
        attempts: 4,
        ..served()
    };
    row.spans.link =
        Some(TraceContext { trace_id: [7; 16], parent_id: [8; 8], sampled: false, random: false });
    row.spans.earlier = vec![row.spans.earlier[0]; 3];
    row
}

/// Whoever changes a byte that is written changes what a collector reads.
#[test]
fn spans_with_every_attribute_are_read_as_they_were_meant() {
    let spans = spans(&eventful());
    let [server, _, _, _, last] = &*spans else { panic!("{spans:?}") };
    let began = 1_763_837_221_123_456_789;
    let mut attributes = texts(&[
        ("http.request.method", "_OTHER"),
        ("http.request.method_original", "BREW"),
        ("url.path", "/v1/messages"),
        ("url.scheme", "https"),
        ("http.route", "/v1/chat/completions"),
    ]);
    attributes.push(pair("http.response.status_code", Value::IntValue(504)));
    attributes.extend(texts(&[
        ("error.type", "504"),
        ("network.protocol.version", "1.1"),
        ("server.address", "models.example.com"),
        ("client.address", "192.0.2.255"),
        ("network.peer.address", "2001:db8::7"),
    ]));
    attributes.push(pair("network.peer.port", Value::IntValue(443)));
    attributes.extend(texts(&[
        ("user_agent.original", "OpenAI/Python 1.99.0"),
        ("weir.request_id", "019aace4-1903-774f-8000-000000000001"),
        ("feature_flag.key", "int8"),
        ("feature_flag.result.variant", "canary"),
        ("feature_flag.result.reason", "split"),
        ("feature_flag.version", "18446744073709551615"),
        ("feature_flag.provider.name", "weir"),
        ("feature_flag.context.id", "0123456789abcdef"),
        ("weir.variant.served", "control"),
    ]));
    assert_eq!(
        *server,
        Span {
            trace_id: vec![0xab; 16],
            span_id: vec![0xcd; 8],
            parent_span_id: vec![0xef; 8],
            flags: 0x301,
            name: "HTTP".into(),
            kind: SpanKind::Server.into(),
            start_time_unix_nano: began,
            end_time_unix_nano: began + 2_184_151_000,
            attributes,
            links: vec![Link {
                trace_id: vec![7; 16],
                span_id: vec![8; 8],
                flags: 0x300,
                ..Link::default()
            }],
            status: failed(),
            ..Span::default()
        }
    );

    let mut attributes = texts(&[("http.request.method", "_OTHER"), ("server.address", "::1")]);
    attributes.push(pair("server.port", Value::IntValue(65_535)));
    attributes.extend(texts(&[("network.peer.address", "::1")]));
    attributes.push(pair("network.peer.port", Value::IntValue(65_535)));
    attributes.push(pair("http.response.status_code", Value::IntValue(502)));
    attributes.extend(texts(&[("error.type", "502")]));
    attributes.push(pair("http.request.resend_count", Value::IntValue(3)));
    attributes.extend(texts(&[("weir.backend", "vllm-int8")]));
    attributes.push(pair("weir.attempt", Value::IntValue(4)));
    attributes.push(pair("weir.connection.reused", Value::BoolValue(true)));
    attributes.extend(texts(&[
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "anthropic"),
        ("gen_ai.request.model", "llama-3"),
        ("gen_ai.response.model", "llama-3-int8"),
    ]));
    let stop = AnyValue { value: Some(Value::StringValue("stop".into())) };
    let stop = Value::ArrayValue(ArrayValue { values: vec![stop] });
    attributes.push(pair("gen_ai.response.finish_reasons", stop));
    attributes.push(pair("gen_ai.request.stream", Value::BoolValue(true)));
    let first = Value::DoubleValue(0.084_151);
    attributes.push(pair("gen_ai.response.time_to_first_chunk", first));
    attributes.push(pair("gen_ai.usage.input_tokens", Value::IntValue(0)));
    attributes.push(pair("gen_ai.usage.output_tokens", Value::IntValue(i64::MAX)));
    assert_eq!(
        *last,
        Span {
            trace_id: vec![0xab; 16],
            span_id: vec![0x12; 8],
            parent_span_id: vec![0xcd; 8],
            flags: 0x101,
            name: "chat llama-3".into(),
            kind: SpanKind::Client.into(),
            start_time_unix_nano: began + 61_000,
            end_time_unix_nano: began + 2_184_151_000,
            attributes,
            status: failed(),
            ..Span::default()
        }
    );
}

#[test]
fn names_of_any_length_are_told_whole() {
    for length in [0, 60, 100, 120, 128, 16_000, 16_300, 20_000, 200_000] {
        let name: &'static str = "x".repeat(length).leak();
        let row = Row { pattern: Some(name), experiment: Some(name), ..served() };
        let server = server(&row);
        assert_eq!(server.name, format!("POST {name}"));
        assert!(told(&server).contains(&format!("feature_flag.key={name}")));
    }
}
