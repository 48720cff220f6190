//! How a worker's event loop keeps up: how busy it is, what waits for it, how late it wakes.
//!
//! The worker looks at itself each time its sweep comes round, so this costs a request nothing. Only
//! what tokio promises to keep is used; its finer numbers need a build flag.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeMetrics};

use super::histogram::StepTimes;
use crate::clock;

/// Sweeps between two looks at how busy the loop was.
const LOOK: u32 = 4;

/// What is known of one worker's loop.
#[derive(Debug, Default)]
pub struct RuntimeCounts {
    /// How late its sweeps came.
    pub stalls: StepTimes,
    // Of the time between the last two looks: the bits of an `f64`.
    busy: AtomicU64,
    // Once the loop runs.
    metrics: OnceLock<RuntimeMetrics>,
}

impl RuntimeCounts {
    /// Share of the last second or so in which the loop ran tasks, 0 to 1.
    pub fn busy_ratio(&self) -> f64 {
        f64::from_bits(self.busy.load(Relaxed))
    }

    /// Tasks that other threads woke and that the loop has not come to.
    pub fn queue_depth(&self) -> usize {
        self.metrics.get().map_or(0, RuntimeMetrics::global_queue_depth)
    }
}

/// A worker's look at its own loop.
#[derive(Debug)]
pub struct Watch<'a> {
    counts: &'a RuntimeCounts,
    metrics: RuntimeMetrics,
    sweeps: u32,
    looked_at: Instant,
    busy: Duration,
}

impl<'a> Watch<'a> {
    /// Begins, inside the loop that is watched.
    pub fn begin(counts: &'a RuntimeCounts) -> Self {
        let metrics = Handle::current().metrics();
        let busy = metrics.worker_total_busy_duration(0);
        let _ = counts.metrics.set(metrics.clone());
        Self { counts, metrics, sweeps: 0, looked_at: clock::now(), busy }
    }

    /// A sweep began, `late` after the moment it was due.
    pub fn swept(&mut self, late: Duration) {
        self.counts.stalls.add(late);
        self.sweeps = self.sweeps.wrapping_add(1);
        if !self.sweeps.is_multiple_of(LOOK) {
            return;
        }
        let now = clock::now();
        // What runs at this moment is counted when it is over, so a share may come out above one.
        let busy = self.metrics.worker_total_busy_duration(0);
        let passed = now.saturating_duration_since(self.looked_at).as_secs_f64().max(1e-3);
        let ratio = (busy.saturating_sub(self.busy).as_secs_f64() / passed).min(1.0);
        self.counts.busy.store(ratio.to_bits(), Relaxed);
        (self.looked_at, self.busy) = (now, busy);
    }
}
