//! What is kept: outcomes on their way, feedback, the store, the audit log.

use std::sync::atomic::Ordering::Relaxed;

use super::times;
use crate::feedback::counts::Outcome;
use crate::recorder::DROP_REASONS;
use crate::store::thread::{OPERATIONS, StoreStats};
use crate::telemetry::exposition::Exposition;
use crate::telemetry::names;
use crate::worker::Shared;

/// The one kind of store.
const STORE: &str = "sqlite";

pub(super) fn outcomes(shared: &Shared, out: &mut Exposition) {
    let counts = &shared.recorder.counts;
    let counters = &shared.counters;
    // Ends before beginnings, so that what moves on meanwhile is seen twice rather than never.
    let recorded = counts.recorded.load(Relaxed);
    let mut dropped = [0; DROP_REASONS.len()];
    for (count, lost) in dropped.iter_mut().zip(&counts.dropped) {
        *count = lost.load(Relaxed);
    }
    // The first reason is counted where it happens.
    dropped[0] += counters.sum(|worker| &worker.queue_full);
    let waiting =
        counts.in_hand.load(Relaxed) + counts.spooled.load(Relaxed) + shared.recorder.queued();
    let finished = counters.sum(|worker| &worker.finished);
    let assigned = counters.sum(|worker| &worker.assigned);

    out.family(&names::OUTCOMES);
    out.counter(&["assigned", ""], assigned);
    out.counter(&["recorded", ""], recorded);
    for (reason, count) in DROP_REASONS.into_iter().zip(dropped) {
        out.counter(&["dropped", reason], count);
    }
    out.family(&names::OUTCOMES_PENDING);
    out.gauge(&[], assigned.saturating_sub(finished) + waiting);
    out.family(&names::OUTCOME_SPOOL);
    out.gauge(&[], counts.spool_bytes.load(Relaxed));
    out.family(&names::OUTCOME_COMMIT);
    times(out, &[], &counts.commits.read());
}

pub(super) fn feedback(shared: &Shared, out: &mut Exposition) {
    out.family(&names::FEEDBACK);
    for ((experiment, metric), counts) in shared.feedback.counts().read() {
        for (result, count) in Outcome::ALL.into_iter().zip(counts) {
            out.counter(&[experiment, metric, result.as_str()], count);
        }
    }
}

pub(super) fn stored(store: Option<&StoreStats>, out: &mut Exposition) {
    out.family(&names::STORE_UP);
    if let Some(store) = store {
        out.gauge(&[STORE], store.up);
    }
    out.family(&names::STORE_OPERATION);
    if let Some(store) = store {
        for (operation, took) in OPERATIONS.into_iter().zip(&store.took) {
            times(out, &[STORE, operation], took);
        }
    }
    out.family(&names::STORE_ERRORS);
    if let Some(store) = store {
        for (kind, count) in [
            ("unavailable", store.unavailable),
            ("damaged", store.damaged),
            ("newer", store.newer),
            ("panic", store.panics),
            ("refused", store.refused),
        ] {
            out.counter(&[STORE, kind], count);
        }
    }
    out.family(&names::STORE_CONNECTIONS);
    if let Some(store) = store {
        out.gauge(&[STORE, "idle"], !store.busy);
        out.gauge(&[STORE, "used"], store.busy);
    }
    out.family(&names::AUDIT_ENTRIES);
    if let Some(store) = store {
        out.counter(&[], store.audited);
    }
}
