//! Spans of sampled requests, sent to an OpenTelemetry collector.
//!
//! A request runs without any span: the row it leaves knows its ids and times, and the spans are
//! made from it afterwards, off the request path. They wait in a bounded queue and leave in batches.
//! A collector that is down, slow or refuses costs spans, which are counted, and one log line a
//! minute; nothing else (hardening F23).
//!
//! A request that was tried twice has one CLIENT span: the row keeps the last attempt only.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_otlp::{Protocol, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter, SpanLinks};
use policies::outcome::{Flag, Outcome};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::logs::{Severity, event};
use crate::clock;
use crate::ids::{RequestId, hex};
use crate::recorder::row::{Micros, Row};

/// Version of the semantic conventions that names and values follow.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";

/// Spans that may wait, unless `OTEL_BSP_MAX_QUEUE_SIZE` says otherwise.
const QUEUE: usize = 8_192;
/// Spans of one batch, unless `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` says otherwise.
const BATCH: usize = 512;
/// Longest wait for a batch to fill, unless `OTEL_BSP_SCHEDULE_DELAY` says otherwise.
const DELAY: Duration = Duration::from_secs(1);
/// Longest export with all its retries, unless `OTEL_BSP_EXPORT_TIMEOUT` says otherwise.
const EXPORT: Duration = Duration::from_secs(30);
/// Longest flush at the end.
const FLUSH: Duration = Duration::from_secs(5);
/// Time between two lines about failed exports.
const QUIET: Duration = Duration::from_secs(60);
/// Longest path in a span, bytes.
const MOST_PATH: usize = 512;
/// Longest of other texts in a span, bytes.
const MOST_TEXT: usize = 256;

/// What became of spans.
#[derive(Debug, Default)]
pub struct SpanCounts {
    /// Taken into the queue.
    pub accepted: AtomicU64,
    /// Taken by the collector.
    pub exported: AtomicU64,
    /// Lost: the queue was full.
    pub queue_full: AtomicU64,
    /// Lost: the collector was away, too slow, or refused them.
    pub export_failed: AtomicU64,
    /// Lost: the process ended first.
    pub shutdown: AtomicU64,
}

/// Where rows of sampled requests go.
#[derive(Clone, Debug)]
pub struct SpanSender {
    // None where the environment switched telemetry off.
    queue: Option<mpsc::Sender<SpanData>>,
    counts: Arc<SpanCounts>,
    scope: InstrumentationScope,
}

impl SpanSender {
    /// Makes the spans of `row` and queues them, all or none. Never waits; `false` if there was no
    /// room.
    pub fn send(&self, row: &Row) -> bool {
        let Some(queue) = &self.queue else { return true };
        let spans = if row.attempts > 0 { 2 } else { 1 };
        // Room first: with a collector that is down, a full queue costs nothing.
        let mut places = match queue.try_reserve_many(spans) {
            Ok(places) => places,
            Err(mpsc::error::TrySendError::Full(())) => {
                self.counts.queue_full.fetch_add(spans as u64, Relaxed);
                return false;
            }
            Err(mpsc::error::TrySendError::Closed(())) => {
                self.counts.shutdown.fetch_add(spans as u64, Relaxed);
                return false;
            }
        };
        self.counts.accepted.fetch_add(spans as u64, Relaxed);
        if let Some(place) = places.next() {
            place.send(server_span(row, &self.scope));
        }
        if let Some(place) = places.next() {
            place.send(attempt_span(row, &self.scope));
        }
        true
    }

    /// What became of spans so far.
    pub fn counts(&self) -> Arc<SpanCounts> {
        Arc::clone(&self.counts)
    }
}

/// Ends the export. Dropping it ends it too, without waiting.
#[derive(Debug)]
pub struct Shutdown {
    stop: oneshot::Sender<()>,
    done: std::sync::mpsc::Receiver<()>,
    task: Option<tokio::task::AbortHandle>,
    counts: Arc<SpanCounts>,
}

impl Shutdown {
    /// Sends what waits, for at most five seconds; the rest is lost and counted. Blocks: not for a
    /// thread of a runtime.
    pub fn shutdown(self) {
        let _ = self.stop.send(());
        let _ = self.done.recv_timeout(FLUSH);
        if let Some(task) = &self.task {
            task.abort();
        }
        let counts = &self.counts;
        let known = counts.exported.load(Relaxed) + counts.export_failed.load(Relaxed);
        let lost = counts.accepted.load(Relaxed).saturating_sub(known);
        counts.shutdown.fetch_add(lost, Relaxed);
    }
}

/// Starts sending to `endpoint` on `runtime`.
///
/// `http://HOST:4317` is gRPC. HTTP with protobuf is chosen by the path `/v1/traces`, by port 4318,
/// or by `OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf`. The other standard variables are respected:
/// `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_TIMEOUT`, `OTEL_SERVICE_NAME`,
/// `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_*`, `OTEL_SDK_DISABLED`.
///
/// # Errors
/// An endpoint that cannot be used; the collector itself need not be there.
pub fn spawn(
    endpoint: &str,
    runtime: Handle,
    boot: [u8; 16],
) -> Result<(SpanSender, Shutdown), String> {
    let settings = Settings::of(endpoint, &|name| std::env::var(name).ok())?;
    let counts = Arc::<SpanCounts>::default();
    if settings.disabled {
        let (stop, _) = oneshot::channel();
        let (_, done) = std::sync::mpsc::channel();
        let sender = SpanSender { queue: None, counts: Arc::clone(&counts), scope: scope() };
        return Ok((sender, Shutdown { stop, done, task: None, counts }));
    }
    // The gRPC client wants to see a runtime when it is made.
    let mut exporter = {
        let _inside = runtime.enter();
        settings.exporter()?
    };
    exporter.set_resource(&resource(boot));
    Ok(start(exporter, &settings, &runtime, counts))
}

fn start(
    exporter: impl SpanExporter + 'static,
    settings: &Settings,
    runtime: &Handle,
    counts: Arc<SpanCounts>,
) -> (SpanSender, Shutdown) {
    let (sender, queue) = mpsc::channel(settings.queue);
    let (stop, stopped) = oneshot::channel();
    let (finished, done) = std::sync::mpsc::channel();
    let export = Export {
        exporter,
        queue,
        batch: settings.batch,
        delay: settings.delay,
        timeout: settings.timeout,
        counts: Arc::clone(&counts),
        said: None,
        lost: 0,
    };
    let task = runtime.spawn(async move {
        export.run(stopped).await;
        let _ = finished.send(());
    });
    let shutdown =
        Shutdown { stop, done, task: Some(task.abort_handle()), counts: Arc::clone(&counts) };
    (SpanSender { queue: Some(sender), counts, scope: scope() }, shutdown)
}

/// What endpoint and environment ask for.
#[derive(Debug, PartialEq)]
struct Settings {
    disabled: bool,
    // Else gRPC.
    http: bool,
    endpoint: String,
    queue: usize,
    batch: usize,
    delay: Duration,
    timeout: Duration,
}

impl Settings {
    fn of(endpoint: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let number = |name: &str| -> Option<u64> { variable(name)?.trim().parse().ok() };
        let size = |name: &str, otherwise: usize| {
            number(name)
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| (1..=1 << 20).contains(n))
                .unwrap_or(otherwise)
        };
        let millis = |name: &str, otherwise: Duration| {
            number(name).filter(|n| *n > 0).map_or(otherwise, Duration::from_millis)
        };

        let uri: http::Uri =
            endpoint.parse().map_err(|error| format!("{endpoint:?} is not a URL: {error}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!(
                    "{endpoint:?}: spans are sent in the clear only; \
                     name a collector beside the gateway by http://, it can go on over TLS"
                ));
            }
            Some(_) | None => return Err(format!("{endpoint:?} does not begin with http://")),
        }
        let named = variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            .or_else(|| variable("OTEL_EXPORTER_OTLP_PROTOCOL"));
        let path = uri.path().trim_end_matches('/');
        let http = match named.as_deref().map(str::trim) {
            Some("grpc") => false,
            Some("http/protobuf") => true,
            None => path.ends_with("/v1/traces") || uri.port_u16() == Some(4318),
            Some(other) => {
                return Err(format!(
                    "OTEL_EXPORTER_OTLP_PROTOCOL={other:?} is not known here; \
                     known: grpc, http/protobuf"
                ));
            }
        };
        let mut endpoint = endpoint.trim_end_matches('/').to_owned();
        if http && !path.ends_with("/v1/traces") {
            endpoint.push_str("/v1/traces");
        }
        let queue = size("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE).max(2);
        Ok(Self {
            disabled: variable("OTEL_SDK_DISABLED")
                .is_some_and(|value| value.trim().eq_ignore_ascii_case("true")),
            http,
            endpoint,
            queue,
            batch: size("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH).min(queue),
            delay: millis("OTEL_BSP_SCHEDULE_DELAY", DELAY),
            timeout: millis("OTEL_BSP_EXPORT_TIMEOUT", EXPORT),
        })
    }

    fn exporter(&self) -> Result<opentelemetry_otlp::SpanExporter, String> {
        let builder = opentelemetry_otlp::SpanExporter::builder();
        let built = if self.http {
            builder
                .with_http()
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(&self.endpoint)
                .build()
        } else {
            builder.with_tonic().with_endpoint(&self.endpoint).build()
        };
        built.map_err(|error| error.to_string())
    }
}

/// The task that empties the queue.
struct Export<E> {
    exporter: E,
    queue: mpsc::Receiver<SpanData>,
    batch: usize,
    delay: Duration,
    timeout: Duration,
    counts: Arc<SpanCounts>,
    // When a failure was last told, and how many spans were lost since.
    said: Option<Instant>,
    lost: u64,
}

impl<E: SpanExporter> Export<E> {
    async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        // A closed queue still gives what is in it, then nothing.
        let mut open = true;
        loop {
            let mut spans = Vec::with_capacity(self.batch);
            let mut full_by = None;
            while spans.len() < self.batch {
                let room = self.batch - spans.len();
                let late = async {
                    match full_by {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    _ = &mut stop, if open => {
                        open = false;
                        self.queue.close();
                    }
                    came = self.queue.recv_many(&mut spans, room) => {
                        if came == 0 {
                            break;
                        }
                        full_by.get_or_insert_with(|| tokio::time::Instant::now() + self.delay);
                    }
                    () = late => break,
                }
            }
            if spans.is_empty() {
                return;
            }
            self.export(spans).await;
        }
    }

    async fn export(&mut self, spans: Vec<SpanData>) {
        let count = spans.len() as u64;
        match tokio::time::timeout(self.timeout, self.exporter.export(spans)).await {
            Ok(Ok(())) => {
                self.counts.exported.fetch_add(count, Relaxed);
            }
            Ok(Err(error)) => self.failed(count, &error.to_string()),
            Err(_) => self.failed(count, "the collector did not answer in time"),
        }
    }

    fn failed(&mut self, count: u64, error: &str) {
        self.counts.export_failed.fetch_add(count, Relaxed);
        self.lost += count;
        if self.said.is_some_and(|at| at.elapsed() < QUIET) {
            return;
        }
        self.said = Some(clock::now());
        event(
            Severity::Warn,
            "weir.telemetry.export_failed",
            &[
                ("error", json!(error)),
                ("spans_lost", json!(std::mem::take(&mut self.lost))),
                ("effect", json!("spans are lost and counted; requests go on")),
            ],
        );
    }
}

/// Who sends: `service.*`, `host.name`, `process.pid`, `telemetry.sdk.*`, and what
/// `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` say, which count more. The instance is the boot
/// id of the store, whatever they say, so that spans and outcomes can be joined.
pub fn resource(boot: [u8; 16]) -> Resource {
    let mut builder = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "weir"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("process.pid", i64::from(std::process::id())),
        ])
        .with_detector(Box::new(TelemetryResourceDetector));
    if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        builder = builder.with_attribute(KeyValue::new("host.name", host.trim().to_owned()));
    }
    builder = builder.with_detector(Box::new(EnvResourceDetector::new()));
    if let Some(name) = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty()) {
        builder = builder.with_service_name(name);
    }
    builder
        .with_attribute(KeyValue::new("service.instance.id", hex(&boot)))
        .with_schema_url([], SCHEMA_URL)
        .build()
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("weir")
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(SCHEMA_URL)
        .build()
}

/// Attributes of one span. Texts of clients and backends are cut; empty ones are unknown.
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn put(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.push(KeyValue::new(key, value));
    }

    fn text(&mut self, key: &'static str, text: &str, most: usize) {
        if !text.is_empty() {
            self.put(key, text[..text.floor_char_boundary(most)].to_owned());
        }
    }

    fn name(&mut self, key: &'static str, name: Option<&'static str>) {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            self.put(key, name);
        }
    }

    fn number(&mut self, key: &'static str, number: u64) {
        self.put(key, i64::try_from(number).unwrap_or(i64::MAX));
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
    let status = if row.status >= 500 || was_cut(row) { error() } else { Status::Unset };
    let start = at(row, Micros::from_micros(0));
    span(
        row,
        scope,
        row.span_id,
        row.parent_span_id,
        SpanKind::Server,
        name,
        start,
        attributes,
        status,
    )
}

fn attempt_span(row: &Row, scope: &InstrumentationScope) -> SpanData {
    let method = known_method(&row.method);
    let mut attributes = Attributes(Vec::with_capacity(24));
    attributes.put("http.request.method", method.unwrap_or("_OTHER"));
    if let Some(endpoint) = row.endpoint {
        let address = endpoint.ip().to_canonical().to_string();
        attributes.put("server.address", address.clone());
        attributes.number("server.port", endpoint.port().into());
        attributes.put("network.peer.address", address);
        attributes.number("network.peer.port", endpoint.port().into());
    }
    if row.upstream_status > 0 {
        attributes.number("http.response.status_code", row.upstream_status.into());
    }
    let flag = row.flag.unwrap_or_default();
    // Somebody else than the backend ended it.
    let ours = matches!(flag, Flag::ClientAborted | Flag::LocalReset)
        || row.outcome == Some(Outcome::ClientAborted);
    let status = match flag.error_type().filter(|_| !ours) {
        _ if row.upstream_status >= 400 => {
            attributes.put("error.type", row.upstream_status.to_string());
            error()
        }
        Some(error_type) => {
            attributes.put("error.type", error_type);
            error()
        }
        None => Status::Unset,
    };
    if row.attempts > 1 {
        attributes.number("http.request.resend_count", u64::from(row.attempts) - 1);
    }
    attributes.name("weir.backend", row.backend);
    attributes.number("weir.attempt", row.attempts.into());
    attributes.put("weir.connection.reused", row.reused);
    let name = match (row.request_model, operation(&row.path)) {
        (Some(model), Some((operation, provider))) => {
            gen_ai(row, model, operation, provider, &mut attributes);
            Cow::Owned(format!("{operation} {model}"))
        }
        (Some(_) | None, _) => Cow::Borrowed(method.unwrap_or("HTTP")),
    };
    let start = at(row, attempt_began(row));
    span(
        row,
        scope,
        row.attempt_span_id,
        row.span_id,
        SpanKind::Client,
        name,
        start,
        attributes,
        status,
    )
}

fn gen_ai(
    row: &Row,
    model: &'static str,
    operation: &'static str,
    provider: &'static str,
    attributes: &mut Attributes,
) {
    attributes.put("gen_ai.operation.name", operation);
    attributes.put("gen_ai.provider.name", provider);
    attributes.put("gen_ai.request.model", model);
    attributes.text("gen_ai.response.model", &row.response_model, MOST_TEXT);
    if !row.finish_reason.is_empty() {
        let reasons = vec![StringValue::from(row.finish_reason.clone())];
        attributes.put("gen_ai.response.finish_reasons", Value::Array(Array::String(reasons)));
    }
    if row.stream {
        attributes.put("gen_ai.request.stream", true);
        if let Some(micros) = row.t_first_token.get() {
            let seconds = Duration::from_micros(micros).as_secs_f64();
            attributes.put("gen_ai.response.time_to_first_chunk", seconds);
        }
    }
    if let Some(tokens) = row.input_tokens {
        attributes.number("gen_ai.usage.input_tokens", tokens);
    }
    if let Some(tokens) = row.output_tokens {
        attributes.number("gen_ai.usage.output_tokens", tokens);
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts in which the two spans differ")]
fn span(
    row: &Row,
    scope: &InstrumentationScope,
    id: [u8; 8],
    parent: [u8; 8],
    kind: SpanKind,
    name: Cow<'static, str>,
    start_time: SystemTime,
    attributes: Attributes,
    status: Status,
) -> SpanData {
    SpanData {
        span_context: SpanContext::new(
            TraceId::from_bytes(row.trace_id),
            SpanId::from_bytes(id),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        ),
        parent_span_id: SpanId::from_bytes(parent),
        parent_span_is_remote: kind == SpanKind::Server && parent != [0; 8],
        span_kind: kind,
        name,
        start_time,
        end_time: at(row, row.t_total).max(start_time),
        attributes: attributes.0,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status,
        instrumentation_scope: scope.clone(),
    }
}

/// Wall time of a moment counted from the end of the head.
fn at(row: &Row, since: Micros) -> SystemTime {
    let started = UNIX_EPOCH + Duration::from_nanos(row.started_unix_nanos);
    let since = Duration::from_micros(since.get().unwrap_or(0));
    started.checked_add(since).unwrap_or(started)
}

/// When the attempt began: what came before was ours. The gateway's time also holds the little that
/// it took after the first byte, so it is a bound, and off by microseconds.
fn attempt_began(row: &Row) -> Micros {
    let answered = row.t_first_byte.get().or(row.t_total.get()).unwrap_or(0);
    Micros::from_micros(row.t_gateway.get().unwrap_or(0).min(answered))
}

/// Whether an answer that had begun well did not end as it should, and not because its client left.
fn was_cut(row: &Row) -> bool {
    match row.outcome {
        Some(outcome) => {
            outcome.is_failure()
                || outcome == Outcome::GatewayError
                || row.flag == Some(Flag::LocalReset)
        }
        None => false,
    }
}

/// No description: the attributes say it.
fn error() -> Status {
    Status::Error { description: Cow::Borrowed("") }
}

/// The method if it is a registered one: only those may stand in a span's name (T29).
fn known_method(method: &str) -> Option<&'static str> {
    const KNOWN: [&str; 10] =
        ["POST", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"];
    KNOWN.into_iter().find(|known| *known == method)
}

/// `gen_ai.operation.name` and `gen_ai.provider.name` by the shape of the API. The provider is the
/// one whose protocol is spoken, as the conventions ask where the server's maker is not known.
fn operation(path: &str) -> Option<(&'static str, &'static str)> {
    const SHAPES: [(&str, &str, &str); 7] = [
        ("/chat/completions", "chat", "openai"),
        ("/completions", "text_completion", "openai"),
        ("/embeddings", "embeddings", "openai"),
        ("/responses", "chat", "openai"),
        ("/messages", "chat", "anthropic"),
        (":generateContent", "generate_content", "gcp.gemini"),
        (":streamGenerateContent", "generate_content", "gcp.gemini"),
    ];
    SHAPES
        .into_iter()
        .find(|(end, _, _)| path.ends_with(end))
        .map(|(_, operation, provider)| (operation, provider))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use bytes::Bytes;
    use http_body_util::combinators::BoxBody;
    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::trace::v1 as proto;
    use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
    use policies::outcome::RejectReason;
    use prost::Message;

    use super::*;

    fn served() -> Row {
        Row {
            request_id: RequestId::new(1_763_837_221_123_456_789, 7).0,
            seq: 41,
            started_unix_nanos: 1_763_837_221_123_456_789,
            trace_id: [0xab; 16],
            span_id: [0xcd; 8],
            parent_span_id: [0xef; 8],
            attempt_span_id: [0x12; 8],
            sampled: true,
            peer: "[::ffff:10.0.0.7]:51234".parse().unwrap(),
            client: "192.0.2.9".parse().unwrap(),
            tls_version: "1.3",
            user_agent: "OpenAI/Python 1.99.0".into(),
            method: "POST".into(),
            path: "/v1/chat/completions".into(),
            host: "models.example.com".into(),
            pattern: Some("/v1/chat/completions"),
            experiment: Some("int8"),
            revision: 12,
            variant: Some("canary"),
            served: Some("control"),
            reason: "split",
            unit_hash: 0x0123_4567_89ab_cdef,
            backend: Some("vllm-int8"),
            endpoint: Some("10.1.2.3:8000".parse().unwrap()),
            attempts: 2,
            upstream_status: 200,
            reused: true,
            status: 200,
            outcome: Some(Outcome::Ok),
            stream: true,
            complete: true,
            request_model: Some("llama-3"),
            response_model: "llama-3-int8".into(),
            input_tokens: Some(512),
            output_tokens: Some(309),
            finish_reason: "stop".into(),
            t_first_byte: Micros::from_micros(84_120),
            t_first_token: Micros::from_micros(84_151),
            t_total: Micros::from_micros(2_184_151),
            t_gateway: Micros::from_micros(61),
            ..Row::default()
        }
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
        let attempt = attempt_span(&served(), &scope());
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
            let (request, attempt) = (server_span(&row, &scope()), attempt_span(&row, &scope()));
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
    fn the_transport_follows_endpoint_and_environment() {
        let of = |endpoint: &str, protocol: Option<&str>| {
            Settings::of(endpoint, &|name| match name {
                "OTEL_EXPORTER_OTLP_PROTOCOL" => protocol.map(str::to_owned),
                _ => None,
            })
            .map(|settings| (settings.http, settings.endpoint))
        };
        for (endpoint, protocol, http, expected) in [
            ("http://otel:4317", None, false, "http://otel:4317"),
            ("http://otel:4317/", None, false, "http://otel:4317"),
            ("http://otel:4318", None, true, "http://otel:4318/v1/traces"),
            ("http://otel/v1/traces", None, true, "http://otel/v1/traces"),
            ("http://otel:9/base", Some("http/protobuf"), true, "http://otel:9/base/v1/traces"),
            ("http://otel:4318", Some("grpc"), false, "http://otel:4318"),
        ] {
            assert_eq!(of(endpoint, protocol), Ok((http, expected.to_owned())), "{endpoint}");
        }
        assert!(of("https://otel:4317", None).unwrap_err().contains("in the clear only"));
        assert!(of("otel:4317", None).is_err());
        assert!(of("http://otel:4317", Some("http/json")).unwrap_err().contains("known: grpc"));

        let variables = |name: &str| {
            let value = match name {
                "OTEL_SDK_DISABLED" => "TRUE",
                "OTEL_BSP_MAX_QUEUE_SIZE" => "100",
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE" => "700",
                "OTEL_BSP_SCHEDULE_DELAY" => "250",
                "OTEL_BSP_EXPORT_TIMEOUT" => "soon",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let settings = Settings::of("http://otel:4317", &variables).unwrap();
        assert_eq!(
            settings,
            Settings {
                disabled: true,
                http: false,
                endpoint: "http://otel:4317".into(),
                queue: 100,
                batch: 100,
                delay: Duration::from_millis(250),
                timeout: EXPORT,
            }
        );
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    type Answer = http::Response<BoxBody<Bytes, Infallible>>;

    /// A collector that takes one kind of OTLP and hands over what it was sent.
    async fn collector(grpc: bool) -> (u16, mpsc::Receiver<ExportTraceServiceRequest>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, receiver) = mpsc::channel(16);
        drop(tokio::task::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let sender = sender.clone();
                let service = service_fn(move |request: http::Request<Incoming>| {
                    let sender = sender.clone();
                    async move { Ok::<_, Infallible>(collect(grpc, request, sender).await) }
                });
                let stream = TokioIo::new(stream);
                drop(tokio::task::spawn(async move {
                    if grpc {
                        let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        let _ = http2.serve_connection(stream, service).await;
                    } else {
                        let http1 = hyper::server::conn::http1::Builder::new();
                        let _ = http1.serve_connection(stream, service).await;
                    }
                }));
            }
        }));
        (port, receiver)
    }

    async fn collect(
        grpc: bool,
        request: http::Request<Incoming>,
        sender: mpsc::Sender<ExportTraceServiceRequest>,
    ) -> Answer {
        let path = request.uri().path().to_owned();
        let kind = request.headers()["content-type"].to_str().unwrap().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        if grpc {
            assert_eq!(path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
            assert_eq!(kind, "application/grpc");
            // One message: not compressed, its length, itself.
            let length = u32::from_be_bytes(body[1..5].try_into().unwrap());
            assert_eq!((body[0], length as usize), (0, body.len() - 5));
            sender.send(ExportTraceServiceRequest::decode(body.slice(5..)).unwrap()).await.unwrap();
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            let body = Full::new(Bytes::from_static(&[0; 5]));
            let body = body.with_trailers(async move { Some(Ok(trailers)) });
            let mut answer = http::Response::new(body.boxed());
            let grpc = http::HeaderValue::from_static("application/grpc");
            answer.headers_mut().insert("content-type", grpc);
            answer
        } else {
            assert_eq!((&*path, &*kind), ("/v1/traces", "application/x-protobuf"));
            sender.send(ExportTraceServiceRequest::decode(body).unwrap()).await.unwrap();
            http::Response::new(BodyExt::boxed(Full::default()))
        }
    }

    fn text_of(
        attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue],
        key: &str,
    ) -> String {
        let found = attributes.iter().find(|kv| kv.key == key).and_then(|kv| kv.value.clone());
        match found.and_then(|value| value.value) {
            Some(Any::StringValue(text)) => text,
            other => format!("{other:?}"),
        }
    }

    fn exported(grpc: bool) {
        let runtime = runtime();
        let (port, mut received) = runtime.block_on(collector(grpc));
        let path = if grpc { "" } else { "/v1/traces" };
        let endpoint = format!("http://127.0.0.1:{port}{path}");
        let (sender, shutdown) = spawn(&endpoint, runtime.handle().clone(), [0x5a; 16]).unwrap();
        assert!(sender.send(&served()));
        assert!(sender.send(&Row { attempts: 0, ..served() }));
        shutdown.shutdown();

        let counts = sender.counts();
        assert_eq!(counts.exported.load(Relaxed), 3);
        assert_eq!(counts.shutdown.load(Relaxed), 0);
        let request = received.try_recv().unwrap();
        let [of_resource] = &*request.resource_spans else { panic!("{request:?}") };
        assert_eq!(of_resource.schema_url, SCHEMA_URL);
        let resource = &of_resource.resource.as_ref().unwrap().attributes;
        assert_eq!(text_of(resource, "service.name"), "weir");
        assert_eq!(text_of(resource, "service.instance.id"), "5a".repeat(16));
        assert_eq!(text_of(resource, "telemetry.sdk.language"), "rust");
        let [of_scope] = &*of_resource.scope_spans else { panic!("{request:?}") };
        assert_eq!(of_scope.schema_url, SCHEMA_URL);
        let [server, client, alone] = &*of_scope.spans else { panic!("{request:?}") };
        assert_eq!(server.trace_id, [0xab; 16]);
        assert_eq!((&*server.span_id, &*server.parent_span_id), (&[0xcd; 8][..], &[0xef; 8][..]));
        assert_eq!((&*client.span_id, &*client.parent_span_id), (&[0x12; 8][..], &[0xcd; 8][..]));
        assert_eq!(
            (server.kind(), client.kind(), alone.kind()),
            (proto::span::SpanKind::Server, proto::span::SpanKind::Client, server.kind())
        );
        assert_eq!(server.start_time_unix_nano, 1_763_837_221_123_456_789);
        assert_eq!(server.end_time_unix_nano - server.start_time_unix_nano, 2_184_151_000);
        assert_eq!(server.flags & 1, 1, "sampled");
        assert_eq!(text_of(&server.attributes, "http.route"), "/v1/chat/completions");
        assert_eq!(text_of(&client.attributes, "weir.backend"), "vllm-int8");
        assert!(received.try_recv().is_err(), "one batch");
    }

    #[test]
    fn a_batch_arrives_over_http() {
        exported(false);
    }

    #[test]
    fn a_batch_arrives_over_grpc() {
        exported(true);
    }

    /// Behaves as told; keeps the sizes of the batches it was given.
    #[derive(Debug)]
    struct Scripted {
        batches: Arc<Mutex<Vec<usize>>>,
        fails: bool,
        hangs: bool,
    }

    impl SpanExporter for Scripted {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.batches.lock().unwrap().push(batch.len());
            if self.hangs {
                std::future::pending::<()>().await;
            }
            if self.fails { Err(OTelSdkError::InternalFailure("down".into())) } else { Ok(()) }
        }
    }

    fn scripted(
        runtime: &tokio::runtime::Runtime,
        fails: bool,
        hangs: bool,
        settings: Settings,
    ) -> (SpanSender, Shutdown, Arc<Mutex<Vec<usize>>>) {
        let batches = Arc::<Mutex<Vec<usize>>>::default();
        let exporter = Scripted { batches: Arc::clone(&batches), fails, hangs };
        let (sender, shutdown) =
            start(exporter, &settings, runtime.handle(), Arc::<SpanCounts>::default());
        (sender, shutdown, batches)
    }

    fn settings() -> Settings {
        Settings::of("http://otel:4317", &|_| None).unwrap()
    }

    fn until(what: impl Fn() -> bool) {
        let deadline = clock::now() + Duration::from_secs(10);
        while !what() {
            assert!(clock::now() < deadline, "not in ten seconds");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn spans_leave_in_full_batches_at_once_and_in_others_after_the_delay() {
        let runtime = runtime();
        let settings = Settings { delay: Duration::from_millis(50), ..settings() };
        let (sender, shutdown, batches) = scripted(&runtime, false, false, settings);
        let one = Row { attempts: 0, ..served() };
        (0..3).for_each(|_| assert!(sender.send(&one)));
        until(|| sender.counts().exported.load(Relaxed) == 3);
        assert_eq!(batches.lock().unwrap().iter().sum::<usize>(), 3);
        (0..1_100).for_each(|_| assert!(sender.send(&one)));
        shutdown.shutdown();
        assert_eq!(sender.counts().exported.load(Relaxed), 1_103);
        assert!(batches.lock().unwrap().iter().all(|size| *size <= BATCH));
        assert!(!sender.send(&one), "it has ended");
        assert_eq!(sender.counts().shutdown.load(Relaxed), 1);
    }

    #[test]
    fn f23_a_collector_that_refuses_costs_spans_that_are_counted() {
        let runtime = runtime();
        let settings = Settings { delay: Duration::from_millis(1), ..settings() };
        let (sender, shutdown, _) = scripted(&runtime, true, false, settings);
        (0..10).for_each(|_| assert!(sender.send(&served())));
        shutdown.shutdown();
        assert_eq!(sender.counts().export_failed.load(Relaxed), 20);
        assert_eq!(sender.counts().shutdown.load(Relaxed), 0);
    }

    #[test]
    fn f23_a_collector_that_hangs_makes_nobody_wait_and_the_end_takes_five_seconds_at_most() {
        let runtime = runtime();
        let settings = Settings { delay: Duration::from_millis(1), queue: 64, ..settings() };
        let (sender, shutdown, batches) = scripted(&runtime, false, true, settings);
        assert!(sender.send(&served()));
        until(|| !batches.lock().unwrap().is_empty());
        let began = clock::now();
        let taken = (0..1_000).filter(|_| sender.send(&served())).count();
        assert_eq!(taken, 32, "64 spans fit");
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        assert_eq!(sender.counts().queue_full.load(Relaxed), 2 * 968);
        let began = clock::now();
        shutdown.shutdown();
        let took = began.elapsed();
        assert!((4_900..6_000).contains(&took.as_millis()), "{took:?}");
        assert_eq!(sender.counts().shutdown.load(Relaxed), 66);
    }

    /// Run in release with `--ignored --nocapture`: the recorder's thread makes the spans of all
    /// workers.
    #[test]
    #[ignore = "a measurement"]
    fn measure_the_spans_of_a_request() {
        let runtime = runtime();
        let settings = Settings { queue: 1 << 20, ..settings() };
        let (sender, shutdown, _) = scripted(&runtime, false, false, settings);
        let row = served();
        let rows = 100_000_u32;
        let began = clock::now();
        for _ in 0..rows {
            assert!(sender.send(std::hint::black_box(&row)));
        }
        let sent = began.elapsed() / rows;
        let began = clock::now();
        shutdown.shutdown();
        println!("{sent:?} for the two spans of a row; {:?} to drain", began.elapsed());
    }
}
