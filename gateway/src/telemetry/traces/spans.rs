//! The spans of a finished request, made from its row.
//!
//! One SERVER span, one CLIENT span for each attempt; for a copy to a shadow one CLIENT span, which
//! is a child of the request's and may end after it.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use policies::outcome::{Flag, Outcome};

use super::gen_ai;
use crate::ids::{RequestId, hex};
use crate::recorder::row::{Attempt, Micros, Row};

/// Longest path in a span, bytes.
const MOST_PATH: usize = 512;
/// Longest of other texts in a span, bytes.
pub(super) const MOST_TEXT: usize = 256;

/// Gives the spans of `row` to `take`: as many as [`Row::span_count`] says.
pub(super) fn of(row: &Row, scope: &InstrumentationScope, mut take: impl FnMut(SpanData)) {
    if row.spans.copy {
        take(shadow_span(row, scope));
        return;
    }
    take(server_span(row, scope));
    for (number, attempt) in (1..).zip(row.earlier()) {
        take(attempt_span(row, attempt, number, false, scope));
    }
    if row.attempts > 0 {
        take(attempt_span(row, &last(row), row.attempts, true, scope));
    }
}

fn server_span(row: &Row, scope: &InstrumentationScope) -> SpanData {
    let method = known_method(&row.method);
    let mut attributes = Attributes(Vec::with_capacity(28));
    attributes.put("http.request.method", method.unwrap_or("_OTHER"));
    if method.is_none() {
        attributes.text("http.request.method_original", &row.method, MOST_TEXT);
    }
    attributes.text("url.path", &row.path, MOST_PATH);
    attributes.put("url.scheme", if row.tls_version.is_empty() { "http" } else { "https" });
    attributes.name("http.route", row.pattern);
    // 499 is a word of our log; nobody was answered.
    if row.status > 0 && row.status != 499 {
        attributes.number("http.response.status_code", row.status.into());
    }
    let flag = row.flag.unwrap_or_default();
    match flag.error_type() {
        Some(error_type) => attributes.put("error.type", error_type),
        None if row.status >= 500 => attributes.put("error.type", row.status.to_string()),
        None => {}
    }
    attributes.put("network.protocol.version", row.protocol.as_str());
    attributes.text("server.address", &row.host, MOST_TEXT);
    attributes.put("client.address", row.client.to_canonical().to_string());
    attributes.put("network.peer.address", row.peer.ip().to_canonical().to_string());
    attributes.number("network.peer.port", row.peer.port().into());
    attributes.text("user_agent.original", &row.user_agent, MOST_TEXT);
    // Joins the span with log line, outcome and feedback.
    attributes.put("weir.request_id", RequestId(row.request_id).to_string());
    if let Some(experiment) = row.experiment {
        attributes.put("feature_flag.key", experiment);
        attributes.name("feature_flag.result.variant", row.variant);
        attributes.name("feature_flag.result.reason", Some(row.reason));
        attributes.put("feature_flag.version", row.revision.to_string());
        attributes.put("feature_flag.provider.name", "weir");
        if row.unit_hash != 0 {
            attributes.put("feature_flag.context.id", hex(&row.unit_hash.to_be_bytes()));
        }
        attributes.name("weir.variant.served", row.served);
    }
    let name = match (method, row.pattern) {
        (None, _) => Cow::Borrowed("HTTP"),
        (Some(method), None) => Cow::Borrowed(method),
        (Some(method), Some(pattern)) => Cow::Owned(format!("{method} {pattern}")),
    };
    Parts {
        id: row.span_id,
        parent: row.parent_span_id,
        kind: SpanKind::Server,
        name,
        began: Micros::NONE,
        ended: row.t_total,
        attributes,
        in_error: row.status >= 500 || was_cut(row),
    }
    .span(row, scope)
}

fn attempt_span(
    row: &Row,
    attempt: &Attempt,
    number: u32,
    last: bool,
    scope: &InstrumentationScope,
) -> SpanData {
    let mut attributes = Attributes(Vec::with_capacity(24));
    let status = if last { row.upstream_status } else { 0 };
    let failed = if last { failure_of_last(row) } else { attempt.failed };
    let in_error = called(row, attempt, status, failed, &mut attributes);
    if number > 1 {
        attributes.number("http.request.resend_count", u64::from(number) - 1);
    }
    attributes.name("weir.backend", attempt.backend);
    attributes.number("weir.attempt", number.into());
    attributes.put("weir.connection.reused", attempt.reused);
    let name = match gen_ai::operation(&row.path) {
        Some((operation, provider)) => {
            let model = row.request_model.unwrap_or("_other");
            gen_ai::request(model, operation, provider, &mut attributes);
            if last {
                gen_ai::response(row, &mut attributes);
            }
            Cow::Owned(format!("{operation} {model}"))
        }
        None => Cow::Borrowed(known_method(&row.method).unwrap_or("HTTP")),
    };
    Parts {
        id: attempt.span_id,
        parent: row.span_id,
        kind: SpanKind::Client,
        name,
        began: attempt.began,
        ended: attempt.ended,
        attributes,
        in_error,
    }
    .span(row, scope)
}

fn shadow_span(row: &Row, scope: &InstrumentationScope) -> SpanData {
    let mut attributes = Attributes(Vec::with_capacity(12));
    let attempt = last(row);
    let in_error = called(row, &attempt, row.upstream_status, row.spans.failed, &mut attributes);
    attributes.name("weir.backend", row.backend);
    attributes.put("weir.connection.reused", row.reused);
    attributes.put("weir.shadow", true);
    Parts {
        id: row.span_id,
        parent: row.parent_span_id,
        kind: SpanKind::Client,
        name: Cow::Owned(format!("shadow {}", row.backend.unwrap_or_default())),
        began: Micros::NONE,
        ended: row.t_total,
        attributes,
        in_error,
    }
    .span(row, scope)
}

/// What every span of a call to a backend says; whether the call failed.
fn called(
    row: &Row,
    attempt: &Attempt,
    status: u16,
    failed: Option<Flag>,
    attributes: &mut Attributes,
) -> bool {
    attributes.put("http.request.method", known_method(&row.method).unwrap_or("_OTHER"));
    if let Some(endpoint) = attempt.endpoint {
        let address = endpoint.ip().to_canonical().to_string();
        attributes.put("server.address", address.clone());
        attributes.number("server.port", endpoint.port().into());
        attributes.put("network.peer.address", address);
        attributes.number("network.peer.port", endpoint.port().into());
    }
    if status > 0 {
        attributes.number("http.response.status_code", status.into());
    }
    if status >= 400 {
        attributes.put("error.type", status.to_string());
        return true;
    }
    match failed.and_then(Flag::error_type) {
        Some(error_type) => {
            attributes.put("error.type", error_type);
            true
        }
        None => false,
    }
}

/// The last attempt, as an earlier one is kept.
fn last(row: &Row) -> Attempt {
    Attempt {
        span_id: row.attempt_span_id,
        backend: row.backend,
        endpoint: row.endpoint,
        reused: row.reused,
        failed: row.spans.failed,
        began: row.spans.began,
        ended: row.t_total,
    }
}

/// Why the last attempt failed. The request's own flag says it more exactly, unless the request
/// failed of something else: nobody to try next, or somebody else than the backend ended it.
fn failure_of_last(row: &Row) -> Option<Flag> {
    if row.outcome == Some(Outcome::ClientAborted) {
        return None;
    }
    let flag = row.flag?;
    if matches!(flag, Flag::ClientAborted | Flag::LocalReset) {
        return None;
    }
    let of_another =
        matches!(flag, Flag::NoHealthyUpstream | Flag::UpstreamOverflow | Flag::Overloaded);
    row.spans.failed.filter(|_| of_another).or(Some(flag))
}

/// In what the spans of a request differ.
struct Parts {
    id: [u8; 8],
    parent: [u8; 8],
    kind: SpanKind,
    name: Cow<'static, str>,
    began: Micros,
    ended: Micros,
    attributes: Attributes,
    in_error: bool,
}

impl Parts {
    fn span(self, row: &Row, scope: &InstrumentationScope) -> SpanData {
        let server = self.kind == SpanKind::Server;
        let start_time = at(row, self.began);
        let mut links = SpanLinks::default();
        if let Some(link) = row.spans.link.filter(|_| server) {
            links.links.push(Link::with_context(context(
                link.trace_id,
                link.parent_id,
                if link.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() },
                true,
            )));
        }
        // No description: the attributes say it.
        let error = Status::Error { description: Cow::Borrowed("") };
        SpanData {
            span_context: context(row.trace_id, self.id, TraceFlags::SAMPLED, false),
            parent_span_id: SpanId::from_bytes(self.parent),
            parent_span_is_remote: server && self.parent != [0; 8],
            span_kind: self.kind,
            name: self.name,
            start_time,
            end_time: at(row, self.ended).max(start_time),
            attributes: self.attributes.0,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: if self.in_error { error } else { Status::Unset },
            instrumentation_scope: scope.clone(),
        }
    }
}

fn context(trace_id: [u8; 16], id: [u8; 8], flags: TraceFlags, remote: bool) -> SpanContext {
    let (trace_id, id) = (TraceId::from_bytes(trace_id), SpanId::from_bytes(id));
    SpanContext::new(trace_id, id, flags, remote, TraceState::NONE)
}

/// Wall time of a moment counted from the end of the head.
fn at(row: &Row, since: Micros) -> SystemTime {
    let started = UNIX_EPOCH + Duration::from_nanos(row.started_unix_nanos);
    let since = Duration::from_micros(since.get().unwrap_or(0));
    started.checked_add(since).unwrap_or(started)
}

/// Whether an answer that had begun well did not end as it should, and not because its client left.
fn was_cut(row: &Row) -> bool {
    let failed = |outcome: Outcome| outcome.is_failure() || outcome == Outcome::GatewayError;
    row.flag == Some(Flag::LocalReset) || row.outcome.is_some_and(failed)
}

/// The method if it is a registered one: only those may stand in a span's name (T29).
fn known_method(method: &str) -> Option<&'static str> {
    const KNOWN: [&str; 10] =
        ["POST", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"];
    KNOWN.into_iter().find(|known| *known == method)
}

/// Attributes of one span. Texts of clients and backends are cut; empty ones are unknown.
pub(super) struct Attributes(Vec<KeyValue>);

impl Attributes {
    pub(super) fn put(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.push(KeyValue::new(key, value));
    }

    pub(super) fn text(&mut self, key: &'static str, text: &str, most: usize) {
        if !text.is_empty() {
            self.put(key, text[..text.floor_char_boundary(most)].to_owned());
        }
    }

    fn name(&mut self, key: &'static str, name: Option<&'static str>) {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            self.put(key, name);
        }
    }

    pub(super) fn number(&mut self, key: &'static str, number: u64) {
        self.put(key, i64::try_from(number).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use policies::outcome::RejectReason;
    use policies::trace_context::TraceContext;

    use super::super::resource::scope;
    use super::super::tests::served;
    use super::*;
    use crate::recorder::row::SpanFacts;

    fn spans(row: &Row) -> Vec<SpanData> {
        let mut spans = Vec::new();
        of(row, &scope(), |span| spans.push(span));
        assert_eq!(spans.len(), row.span_count());
        spans
    }

    fn last_span(row: &Row) -> SpanData {
        spans(row).pop().unwrap()
    }

    fn told(span: &SpanData) -> Vec<String> {
        span.attributes.iter().map(|kv| format!("{}={}", kv.key, kv.value)).collect()
    }

    #[test]
    fn a_served_request_has_the_promised_attributes() {
        let span = server_span(&served(), &scope());
        assert_eq!(span.name, "POST /v1/chat/completions");
        assert_eq!(span.status, Status::Unset);
        assert!(span.parent_span_is_remote);
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
        assert_eq!(attempt.status, Status::Unset);
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
        let since = |time: SystemTime| time.duration_since(span.start_time).unwrap().as_micros();
        assert_eq!(
            (since(attempt.start_time), since(attempt.end_time), since(span.end_time)),
            (61, 2_184_151, 2_184_151)
        );
        assert_eq!(attempt.parent_span_id, span.span_context.span_id());
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
            (
                (499, 200, Some(Flag::ClientAborted), Some(Outcome::ClientAborted)),
                (false, false, None),
            ),
            ((499, 200, Some(Flag::LocalReset), Some(Outcome::ClientAborted)), (true, false, None)),
        ];
        for ((status, upstream_status, flag, outcome), (server, client, error_type)) in cases {
            let row = Row { status, upstream_status, flag, outcome, ..served() };
            let is_error = |span: &SpanData| matches!(span.status, Status::Error { .. });
            let (request, attempt) = (server_span(&row, &scope()), last_span(&row));
            assert_eq!((is_error(&request), is_error(&attempt)), (server, client), "{row:?}");
            let have = attempt.attributes.iter().find(|kv| kv.key.as_str() == "error.type");
            assert_eq!(have.map(|kv| kv.value.as_str().into_owned()).as_deref(), error_type);
            let code = request.attributes.iter().any(|kv| kv.key.as_str().ends_with("status_code"));
            assert_eq!(code, status != 499, "499 is for the log only");
        }
    }

    /// T29: what a client makes up reaches attributes, cut, and no name.
    #[test]
    fn t29_no_span_name_is_taken_from_client_text() {
        let row = Row {
            method: "BREW".into(),
            path: "/é".repeat(600),
            user_agent: "ü".repeat(600),
            pattern: None,
            status: 404,
            rejected: Some(RejectReason::NoRoute),
            flag: Some(Flag::NoRoute),
            outcome: None,
            attempts: 0,
            ..served()
        };
        let span = server_span(&row, &scope());
        assert_eq!((&*span.name, &span.status), ("HTTP", &Status::Unset));
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
        assert!(matches!(first.status, Status::Error { .. }));
        assert_eq!(second.status, Status::Unset);
        let since = |time: SystemTime| time.duration_since(server.start_time).unwrap().as_micros();
        assert_eq!((since(first.start_time), since(first.end_time)), (20, 50));
        assert_eq!(first.parent_span_id, second.parent_span_id);
        assert_ne!(first.span_context.span_id(), second.span_context.span_id());
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
        let [link] = &*spans[0].links.links else { panic!("{spans:?}") };
        assert_eq!(link.span_context.trace_id(), TraceId::from_bytes([7; 16]));
        assert_eq!(link.span_context.span_id(), SpanId::from_bytes([8; 8]));
        assert!(link.span_context.is_remote() && link.span_context.is_sampled());
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
        assert_eq!((&*span.name, &span.span_kind), ("shadow next", &SpanKind::Client));
        assert_eq!(span.parent_span_id, SpanId::from_bytes([2; 8]));
        assert!(!span.parent_span_is_remote);
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
        let took = span.end_time.duration_since(span.start_time).unwrap();
        assert_eq!(took, Duration::from_millis(7));
    }
}
