//! Spans leave in batches: a full one at once, any other after a short wait.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant as Deadline;

use super::SpanCounts;
use super::envelope::Envelope;
use super::retry::{self, Destination};
use super::settings::Settings;
use super::waiting::{Batch, State, Waiting};
use crate::clock;
use crate::telemetry::logs::{Severity, event};

/// Time between two lines about failed exports.
const QUIET: Duration = Duration::from_secs(60);

/// The task that empties the queue.
pub(super) struct Export<D> {
    destination: D,
    waiting: Arc<Waiting>,
    envelope: Envelope,
    delay: Duration,
    timeout: Duration,
    answer: Duration,
    counts: Arc<SpanCounts>,
    // When a failure was last told, and how many spans were lost since.
    said: Option<Instant>,
    lost: u64,
}

impl<D> Drop for Export<D> {
    /// However it ends, nothing waits for it any more.
    fn drop(&mut self) {
        self.waiting.close();
    }
}

impl<D: Destination> Export<D> {
    /// Takes spans from `waiting` to `destination`.
    pub(super) fn new(
        destination: D,
        waiting: Arc<Waiting>,
        envelope: Envelope,
        settings: &Settings,
        counts: Arc<SpanCounts>,
    ) -> Self {
        let &Settings { delay, timeout, answer, .. } = settings;
        Self { destination, waiting, envelope, delay, timeout, answer, counts, said: None, lost: 0 }
    }

    /// Works until it is told to stop and the queue is empty.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut open = true;
        let mut full_by = None;
        loop {
            match self.waiting.state() {
                State::Over => return,
                State::Empty => full_by = None,
                State::Some => {
                    full_by.get_or_insert_with(|| Deadline::now() + self.delay);
                }
                State::Full => {
                    full_by = None;
                    self.export().await;
                    continue;
                }
            }
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
                    // What waits still leaves.
                    self.waiting.close();
                }
                () = self.waiting.changed() => {}
                () = late => {
                    full_by = None;
                    self.export().await;
                }
            }
        }
    }

    /// Sends the next batch.
    async fn export(&mut self) {
        let Some(Batch { bytes, spans }) = self.waiting.take() else { return };
        let count = spans as u64;
        let mut body = self.envelope.close(bytes);
        let sent = retry::send(&mut self.destination, &body, self.answer);
        match tokio::time::timeout(self.timeout, sent).await {
            Ok(Ok(())) => {
                self.counts.exported.fetch_add(count, Relaxed);
            }
            Ok(Err(refused)) => self.failed(count, &refused.why),
            Err(_) => self.failed(count, "the collector did not answer in time"),
        }
        // The same memory for the next one, if nobody holds it any more.
        body.clear();
        self.waiting.recycle(body.into());
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
