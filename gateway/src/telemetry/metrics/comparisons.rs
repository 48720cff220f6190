//! Answers to copies beside those that clients got.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use policies::comparison::{Cause, Reason};

use crate::comparison::known::Known;
use crate::snapshot::Snapshot;
use crate::telemetry::exposition::Exposition;
use crate::telemetry::names;
use crate::worker::Shared;

/// Of the shadows in force: names of the file alone.
pub(super) fn comparisons(shared: &Shared, snapshot: &Snapshot, out: &mut Exposition) {
    let shadows = snapshot.routes.iter().flat_map(|route| &route.shadows);
    let all: Vec<&Arc<Known>> = shadows.map(|shadow| &shadow.known).collect();
    let sum = |counts: &[AtomicU64]| counts.iter().map(|count| count.load(Relaxed)).sum::<u64>();
    out.family(&names::SHADOW_PAIRS);
    for known in &all {
        let counts = &known.counts;
        for (result, count) in [
            ("agree", counts.agree.load(Relaxed)),
            ("differ", sum(&counts.differ)),
            ("not_comparable", sum(&counts.void)),
            ("dropped", counts.dropped.load(Relaxed)),
            ("outdated", counts.outdated.load(Relaxed)),
        ] {
            out.counter(&[known.name, result], count);
        }
    }
    out.family(&names::SHADOW_DIFFERENCES);
    for known in &all {
        for (cause, count) in Cause::ALL.into_iter().zip(&known.counts.differ) {
            out.counter(&[known.name, cause.as_str()], count.load(Relaxed));
        }
    }
    out.family(&names::SHADOW_NOT_COMPARABLE);
    for known in &all {
        for (reason, count) in Reason::ALL.into_iter().zip(&known.counts.void) {
            out.counter(&[known.name, reason.as_str()], count.load(Relaxed));
        }
    }
    let gauges: Vec<_> = all.iter().map(|known| (known.name, known.gauges())).collect();
    out.family(&names::SHADOW_AGREEMENT);
    for (name, (agreement, _)) in &gauges {
        if let Some(share) = agreement {
            out.gauge(&[name], *share);
        }
    }
    out.family(&names::SHADOW_LATENCY);
    for (name, (_, ratios)) in &gauges {
        for (at, ratio) in ["first_byte", "first_token", "end"].into_iter().zip(ratios) {
            if let Some(ratio) = ratio {
                out.gauge(&[name, at], *ratio);
            }
        }
    }
    out.family(&names::SHADOW_SAMPLES);
    for known in &all {
        out.counter(&[known.name, "kept"], known.counts.samples.load(Relaxed));
        out.counter(&[known.name, "lost"], known.counts.samples_lost.load(Relaxed));
    }
    out.family(&names::SHADOW_COMPARE_BYTES);
    out.gauge(&[], shared.comparisons.room.used());
}
