//! Spans of sampled requests, sent to an OpenTelemetry collector.
//!
//! A request runs without any span: the row it leaves knows its ids and times, and the spans are
//! made from it afterwards, off the request path. They wait in a bounded queue and leave in batches.
//! A collector that is down, slow or refuses costs spans, which are counted, and one log line a
//! minute; nothing else (hardening F23).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::recorder::row::Row;

mod settings;
mod transport;
mod export;
mod resource;
mod spans;
mod gen_ai;
#[cfg(test)]
mod tests;

use export::Export;
pub use resource::resource;
use settings::Settings;
pub use transport::check;

/// Version of the semantic conventions that names and values follow.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";

/// Longest flush at the end.
const FLUSH: Duration = Duration::from_secs(5);

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
        let spans = row.span_count();
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
        spans::of(row, &self.scope, |span| {
            if let Some(place) = places.next() {
                place.send(span);
            }
        });
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
/// `http://HOST:4317` and `https://HOST:4317` are gRPC. HTTP with protobuf is chosen by the path `/v1/traces`, by port 4318,
/// or by `OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf`. The other standard variables are respected:
/// `OTEL_EXPORTER_OTLP_CERTIFICATE`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_TIMEOUT`,
/// `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_*`, `OTEL_SDK_DISABLED`.
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
        let sender =
            SpanSender { queue: None, counts: Arc::clone(&counts), scope: resource::scope() };
        return Ok((sender, Shutdown { stop, done, task: None, counts }));
    }
    // The gRPC client wants to see a runtime when it is made.
    let (mut exporter, cause) = {
        let _inside = runtime.enter();
        transport::exporter(&settings)?
    };
    exporter.set_resource(&resource(boot));
    Ok(start(exporter, &settings, &runtime, counts, cause))
}

fn start(
    exporter: impl SpanExporter + 'static,
    settings: &Settings,
    runtime: &Handle,
    counts: Arc<SpanCounts>,
    cause: transport::Cause,
) -> (SpanSender, Shutdown) {
    let (sender, queue) = mpsc::channel(settings.queue);
    let (stop, stopped) = oneshot::channel();
    let (finished, done) = std::sync::mpsc::channel();
    let export = Export::new(exporter, queue, settings, Arc::clone(&counts), cause);
    let task = runtime.spawn(async move {
        export.run(stopped).await;
        let _ = finished.send(());
    });
    let shutdown =
        Shutdown { stop, done, task: Some(task.abort_handle()), counts: Arc::clone(&counts) };
    (SpanSender { queue: Some(sender), counts, scope: resource::scope() }, shutdown)
}
