//! Spans of sampled requests, sent to an OpenTelemetry collector.
//!
//! A request runs without any span: the row it leaves knows its ids and times, and the spans are
//! written from it afterwards, off the request path: at once as the bytes that are sent. They wait in a
//! bounded queue and leave in batches.
//! A collector that is down, slow or refuses costs spans, which are counted, and one log line a
//! minute; nothing else (hardening F23).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::recorder::row::Row;

mod settings;
mod spans;
mod gen_ai;
mod wire;
mod waiting;
mod export;
mod resource;
mod envelope;
mod retry;
mod transport;
mod answer;
#[cfg(test)]
mod tests;

use envelope::Envelope;
use export::Export;
pub use resource::resource;
use retry::Destination;
use settings::Settings;
pub use transport::check;
use waiting::{Lost, Waiting};

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
    waiting: Option<Arc<Waiting>>,
    counts: Arc<SpanCounts>,
}

impl SpanSender {
    /// Writes the spans of `row` and queues them, all or none. Never waits for the collector; `false`
    /// if there was no room.
    pub fn send(&self, row: &Row) -> bool {
        let Some(waiting) = &self.waiting else { return true };
        let counts = &self.counts;
        let taken = waiting.add(row);
        let count = match taken {
            Ok(()) => &counts.accepted,
            Err(Lost::Full) => &counts.queue_full,
            Err(Lost::Closed) => &counts.shutdown,
        };
        count.fetch_add(row.span_count() as u64, Relaxed);
        taken.is_ok()
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
        let sender = SpanSender { waiting: None, counts: Arc::clone(&counts) };
        return Ok((sender, Shutdown { stop, done, task: None, counts }));
    }
    let collector = transport::collector(&settings)?;
    Ok(start(collector, &settings, &runtime, counts, &resource(boot)))
}

fn start(
    destination: impl Destination + 'static,
    settings: &Settings,
    runtime: &Handle,
    counts: Arc<SpanCounts>,
    resource: &Resource,
) -> (SpanSender, Shutdown) {
    let envelope = Envelope::new(resource, !settings.http);
    let waiting = Arc::new(Waiting::new(settings.queue, settings.batch, envelope.room()));
    let (stop, stopped) = oneshot::channel();
    let (finished, done) = std::sync::mpsc::channel();
    let of_task = Arc::clone(&waiting);
    let export = Export::new(destination, of_task, envelope, settings, Arc::clone(&counts));
    let task = runtime.spawn(async move {
        export.run(stopped).await;
        let _ = finished.send(());
    });
    let shutdown =
        Shutdown { stop, done, task: Some(task.abort_handle()), counts: Arc::clone(&counts) };
    (SpanSender { waiting: Some(waiting), counts }, shutdown)
}
