//! The process itself: its event loops, configuration, state, identity and what it costs.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use super::{Extra, times};
use crate::telemetry::exposition::Exposition;
use crate::telemetry::{logs, names, process, traces};
use crate::webhooks::post::RESULTS;
use crate::worker::Shared;

pub(super) fn runtime(shared: &Shared, out: &mut Exposition) {
    let loops: Vec<_> = shared
        .counters
        .each()
        .enumerate()
        .map(|(worker, counters)| (worker.to_string(), &counters.runtime))
        .collect();
    out.family(&names::RUNTIME_BUSY);
    for (worker, of) in &loops {
        out.gauge(&[worker], of.busy_ratio());
    }
    out.family(&names::RUNTIME_QUEUE);
    for (worker, of) in &loops {
        out.gauge(&[worker], of.queue_depth());
    }
    out.family(&names::RUNTIME_STALL);
    for (worker, of) in &loops {
        times(out, &[worker], &of.stalls.read());
    }
}

pub(super) fn configuration(extra: &Extra, out: &mut Exposition) {
    out.family(&names::CONFIG_RELOADS);
    out.counter(&["ok"], extra.config_reloads_ok);
    out.counter(&["failed"], extra.config_reloads_failed);
    out.family(&names::CONFIG_LAST_OK);
    out.gauge(&[], extra.config_last_successful);
    out.family(&names::CONFIG_LAST_SUCCESS);
    out.gauge(&[], extra.config_last_success_unix as f64);
    out.family(&names::CONFIG_REVISION);
    out.gauge(&[], extra.config_revision);
}

pub(super) fn state(shared: &Shared, extra: &Extra, out: &mut Exposition) {
    out.family(&names::PANICS);
    out.counter(&[], shared.counters.sum(|worker| &worker.panics));
    out.family(&names::DRAINING);
    out.gauge(&[], shared.draining.load(Relaxed));
    let counts = &shared.recorder.counts;
    let [full, failed, late] = extra.spans.as_ref().map_or([0; 3], |spans| {
        [&spans.queue_full, &spans.export_failed, &spans.shutdown].map(|c| c.load(Relaxed))
    });
    let full = full + counts.spans_dropped.load(Relaxed);
    out.family(&names::TELEMETRY_DROPPED);
    for (signal, reason, count) in [
        ("traces", "queue_full", full),
        ("traces", "export_failed", failed),
        ("traces", "shutdown", late),
        ("access_log", "queue_full", counts.lines_dropped.load(Relaxed)),
        ("events", "queue_full", logs::EVENTS_DROPPED.load(Relaxed)),
    ] {
        out.counter(&[signal, reason], count);
    }
}

pub(super) fn webhooks(extra: &Extra, out: &mut Exposition) {
    out.family(&names::WEBHOOK_DELIVERIES);
    for (webhook, counts, _) in &extra.webhooks {
        for (result, count) in RESULTS.iter().zip(counts) {
            out.counter(&[webhook, result], *count);
        }
    }
    out.family(&names::WEBHOOK_PENDING);
    for (webhook, _, pending) in &extra.webhooks {
        out.gauge(&[webhook], *pending);
    }
}

pub(super) fn identity(shared: &Shared, out: &mut Exposition) {
    out.family(&names::BUILD_INFO);
    out.info(&[
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", option_env!("WEIR_REVISION").unwrap_or("")),
        ("rustc", option_env!("WEIR_RUSTC").unwrap_or("")),
        ("features", ""),
    ]);
    let resource = traces::resource(shared.boot);
    let attributes: BTreeMap<&str, String> =
        resource.iter().map(|(key, value)| (key.as_str(), value.to_string())).collect();
    let labels: Vec<(&str, &str)> =
        attributes.iter().map(|(key, value)| (*key, value.as_str())).collect();
    out.family(&names::TARGET_INFO);
    out.info(&labels);
}

pub(super) fn system(extra: &Extra, out: &mut Exposition) {
    let now = process::read();
    out.family(&names::PROCESS_CPU);
    if let Some(seconds) = now.cpu_seconds {
        out.counter(&[], seconds);
    }
    out.family(&names::PROCESS_MEMORY);
    if let Some(bytes) = now.resident_bytes {
        out.gauge(&[], bytes);
    }
    out.family(&names::PROCESS_OPEN_FDS);
    if let Some(count) = now.open_fds {
        out.gauge(&[], count);
    }
    out.family(&names::PROCESS_MAX_FDS);
    if let Some(count) = now.max_fds {
        out.gauge(&[], count);
    }
    out.family(&names::PROCESS_START);
    let told = (extra.started_unix > 0).then_some(extra.started_unix as f64);
    if let Some(seconds) = now.start_seconds.or(told) {
        out.gauge(&[], seconds);
    }
}
