//! Events that an operator wants to hear of, one function each.

use std::net::SocketAddr;

use serde_json::json;

use super::logs::{Severity, event};
use super::pace::Pace;
use crate::backends::connect::ConnectError;
use crate::store::StoreError;

/// An endpoint is left alone for a while.
pub fn endpoint_ejected(backend: &str, endpoint: SocketAddr) {
    event(
        Severity::Warn,
        "weir.endpoint.ejected",
        &[("backend", json!(backend)), ("endpoint", json!(endpoint.to_string()))],
    );
}

/// An endpoint serves again.
pub fn endpoint_restored(backend: &str, endpoint: SocketAddr) {
    event(
        Severity::Info,
        "weir.endpoint.restored",
        &[("backend", json!(backend)), ("endpoint", json!(endpoint.to_string()))],
    );
}

/// A connection could not be made. At most one line a second: a backend that is down says so with
/// every request.
pub fn connect_failed(backend: &str, endpoint: SocketAddr, error: &ConnectError) {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = crate::clock::unix_nanos() / 1_000_000_000;
    if LAST.swap(now, Relaxed) == now {
        return;
    }
    event(
        Severity::Warn,
        "weir.backend.connect_failed",
        &[
            ("backend", json!(backend)),
            ("endpoint", json!(endpoint.to_string())),
            ("error", json!(chain(error))),
        ],
    );
}

/// A name did not resolve, or led where it must not.
pub fn resolve_failed(backend: &str, host: &str, why: &str) {
    event(
        Severity::Warn,
        "weir.backend.resolve_failed",
        &[("backend", json!(backend)), ("host", json!(host)), ("error", json!(why))],
    );
}

/// The store cannot be written.
pub fn store_down(error: &StoreError) {
    event(
        Severity::Error,
        "weir.store.unavailable",
        &[
            ("error", json!(error.to_string())),
            ("effect", json!("outcomes wait in memory, then in the spool; requests go on")),
        ],
    );
}

/// The store can be written again.
pub fn store_up() {
    event(Severity::Info, "weir.store.available", &[]);
}

/// The spool cannot be written.
pub fn spool_failed(error: &std::io::Error) {
    event(
        Severity::Error,
        "weir.spool.failed",
        &[("error", json!(error.to_string())), ("effect", json!("outcomes are lost and counted"))],
    );
}

/// A new configuration is in force.
pub fn config_loaded(file: &str, generation: u64, notices: &[String]) {
    event(
        Severity::Info,
        "weir.config.loaded",
        &[("file", json!(file)), ("generation", json!(generation)), ("notices", json!(notices))],
    );
}

/// A configuration was refused; the last good one stays.
pub fn config_refused(file: &str, generation: u64, problems: &str) {
    event(
        Severity::Error,
        "weir.config.refused",
        &[
            ("file", json!(file)),
            ("problems", json!(problems)),
            ("generation", json!(generation)),
            ("effect", json!("nothing was changed")),
        ],
    );
}

/// Weights, state or variants of an experiment changed.
pub fn experiment_changed(
    experiment: &str,
    revision: u64,
    action: &str,
    by: &str,
    weights: &serde_json::Value,
) {
    event(
        Severity::Info,
        "weir.experiment.changed",
        &[
            ("experiment", json!(experiment)),
            ("revision", json!(revision)),
            ("action", json!(action)),
            ("by", json!(by)),
            ("weights", weights.clone()),
        ],
    );
}

/// The newest entry of the audit log. At most once a minute.
pub fn audit_head(id: u64, hash: &str) {
    event(Severity::Info, "weir.audit.head", &[("id", json!(id)), ("hash", json!(hash))]);
}

/// Somebody called the admin API. At `debug` only.
pub fn admin_call(method: &str, path: &str, status: u16, key_id: &str, took: std::time::Duration) {
    event(
        Severity::Debug,
        "weir.admin.call",
        &[
            ("method", json!(method)),
            ("path", json!(path)),
            ("status", json!(status)),
            ("key_id", json!(key_id)),
            ("took_us", json!(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))),
        ],
    );
}

/// The level of event lines changed.
pub fn log_level(level: &str, by: &str) {
    // Whatever the level is: who reads the log must know why lines are missing.
    super::logs::event_anyway(
        Severity::Info,
        "weir.log.level",
        &[("level", json!(level)), ("by", json!(by))],
    );
}

/// The gateway is taken out of service, or back.
pub fn drained(is_draining: bool, by: &str) {
    let name = if is_draining { "weir.drained" } else { "weir.undrained" };
    event(Severity::Warn, name, &[("by", json!(by))]);
}

/// A ramp decided something.
pub fn ramp_decided(
    experiment: &str,
    ramp: &crate::control::Ramp,
    made: &crate::control::Made,
    (action, reason): (&str, &str),
    share: Option<f64>,
    words: &str,
) {
    let decision = &made.decision;
    let first = decision.evidence.guardrails.first();
    let bad = action == "roll_back" || action == "hold";
    event(
        if bad { Severity::Warn } else { Severity::Info },
        "weir.ramp.decided",
        &[
            ("experiment", json!(experiment)),
            ("variant", json!(made.variant)),
            ("number", json!(ramp.number)),
            ("decision", json!(action)),
            ("reason", json!(reason)),
            ("row", json!(decision.row)),
            ("from_revision", json!(decision.from_revision)),
            ("from_step", json!(ramp.told.step(decision.from_phase))),
            ("step", json!(ramp.told.step(ramp.state.phase))),
            ("share", json!(share)),
            ("metric", json!(first.map(|judged| &judged.metric))),
            ("log_e_harm", json!(first.map(|judged| judged.log_e_harm))),
            ("words", json!(words)),
        ],
    );
}

/// A webhook does not take messages; said once until it does.
pub fn webhook_failing(webhook: &str, why: &str, pending: u64) {
    event(
        Severity::Warn,
        "weir.webhook.failing",
        &[
            ("webhook", json!(webhook)),
            ("error", json!(why)),
            ("pending", json!(pending)),
            ("effect", json!("messages wait in the store and are tried again")),
        ],
    );
}

/// A webhook that failed takes messages again.
pub fn webhook_delivering(webhook: &str) {
    event(Severity::Info, "weir.webhook.delivering", &[("webhook", json!(webhook))]);
}

/// A message for a webhook was given up.
pub fn webhook_gave_up(webhook: &str, message: &str, what: &str, tries: u32, why: &str) {
    event(
        Severity::Error,
        "weir.webhook.gave_up",
        &[
            ("webhook", json!(webhook)),
            ("id", json!(message)),
            ("what", json!(what)),
            ("tries", json!(tries)),
            ("error", json!(why)),
        ],
    );
}

/// A webhook is no longer in the file, and what waited for it is forgotten.
pub fn webhook_removed(webhook: &str, pending: u64) {
    event(
        Severity::Warn,
        "weir.webhook.removed",
        &[("webhook", json!(webhook)), ("forgotten", json!(pending))],
    );
}

/// The process serves.
pub fn ready(edge: SocketAddr, admin: SocketAddr, workers: usize, generation: u64) {
    event(
        Severity::Info,
        "weir.ready",
        &[
            ("edge", json!(edge.to_string())),
            ("admin", json!(admin.to_string())),
            ("workers", json!(workers)),
            ("generation", json!(generation)),
            ("version", json!(env!("CARGO_PKG_VERSION"))),
        ],
    );
}

/// The process is about to end.
pub fn draining(seconds: u64) {
    event(Severity::Info, "weir.draining", &[("drain_timeout_s", json!(seconds))]);
}

/// The process ends.
pub fn stopped() {
    event(Severity::Info, "weir.stopped", &[]);
}

/// A client's connection could not be accepted, mostly for want of file descriptors: then every
/// worker fails again and again until others end. At most one line a second for all of them, with how
/// many failures were not told of since the line before.
pub fn accept_failed(error: &std::io::Error) {
    static PACE: Pace = Pace::new();
    if let Some(suppressed) = PACE.may_say() {
        event(
            Severity::Warn,
            "weir.accept.failed",
            &[("error", json!(error.to_string())), ("suppressed", json!(suppressed))],
        );
    }
}

/// Something coped with that is nobody's request. At most one line a second: what goes wrong here
/// can go wrong with every connection.
pub fn warning(name: &str, error: &str) {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = crate::clock::unix_nanos() / 1_000_000_000;
    if LAST.swap(now, Relaxed) == now {
        return;
    }
    event(Severity::Warn, name, &[("error", json!(error))]);
}

/// An error and its causes, joined with ": ".
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
