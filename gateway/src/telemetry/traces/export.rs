//! Spans leave in batches: a full one at once, any other after a short wait.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::SpanCounts;
use super::settings::Settings;
use super::transport::Cause;
use crate::clock;
use crate::telemetry::logs::{Severity, event};

/// Time between two lines about failed exports.
const QUIET: Duration = Duration::from_secs(60);

/// The task that empties the queue.
pub(super) struct Export<E> {
    exporter: E,
    queue: mpsc::Receiver<SpanData>,
    batch: usize,
    delay: Duration,
    timeout: Duration,
    counts: Arc<SpanCounts>,
    // When a failure was last told, and how many spans were lost since.
    said: Option<Instant>,
    lost: u64,
    cause: Cause,
}

impl<E: SpanExporter> Export<E> {
    /// Takes spans from `queue` to `exporter`.
    pub(super) fn new(
        exporter: E,
        queue: mpsc::Receiver<SpanData>,
        settings: &Settings,
        counts: Arc<SpanCounts>,
        cause: Cause,
    ) -> Self {
        let &Settings { batch, delay, timeout, .. } = settings;
        Self { exporter, queue, batch, delay, timeout, counts, said: None, lost: 0, cause }
    }

    /// Works until it is told to stop and the queue is empty.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
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
        let error = match self.cause.lock().take() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_owned(),
        };
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
