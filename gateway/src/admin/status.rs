//! The effective state with live rates: routes, backends, shadows, and all on one screen.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::atomic::Ordering::Relaxed;

use super::{Context, experiments, webhooks};
use crate::backends::ShadowResult;
use crate::clock;
use crate::config::plan::{Durability, Scheme};
use crate::recorder::DROP_REASONS;
use crate::recorder::tally::{Tally, TallyKey};

/// A list, or a page of one.
#[derive(Debug, Serialize, JsonSchema)]
pub struct List<T> {
    /// What there is.
    pub items: Vec<T>,
    /// `cursor` of the next page; null if there is none.
    pub next: Option<String>,
}

/// `{"items":[…],"next":…}`.
pub fn items(items: Vec<Value>, next: Option<String>) -> Json<Value> {
    Json(json!({ "items": items, "next": next }))
}

/// Everything on one screen.
pub async fn status(State(context): State<Context>) -> Json<Value> {
    let now = context.shared.tallies.by_variant();
    let view = context.changes.view();
    let reloads = context.changes.reloads();
    let experiments: Vec<Value> = view
        .live
        .keys()
        .chain(view.aside.keys())
        .filter_map(|name| experiments::described(&context, &view, name, Some(&now)))
        .collect();
    let stats = context.store.stats();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": context.shared.backends.uptime().as_secs(),
        "generation": view.generation,
        "config": {
            "file": context.changes.file().display().to_string(),
            "loaded_at": clock::rfc3339_micros(reloads.last_success * 1_000_000),
            "last_error": reloads.last_error,
            "notices": reloads.notices,
        },
        "edge": context.edge.to_string(),
        "admin": context.admin.to_string(),
        "draining": context.shared.draining.load(Relaxed),
        "routes": route_items(&context, &now),
        "experiments": experiments,
        "backends": backend_items(&context),
        "shadows": shadow_items(&context),
        "webhooks": webhooks::described(&context),
        "store": {
            "up": stats.up,
            "mode": durability(view.plan.recording.outcomes),
            "last_error": stats.last_error.map(|error| error.text),
        },
        "recording": recording(&context),
    }))
}

/// D2's name of the mode.
pub fn durability(mode: Durability) -> &'static str {
    match mode {
        Durability::Sync => "sync",
        Durability::Group => "group",
        Durability::Async => "async",
        Durability::Off => "off",
    }
}

/// The accounting of outcomes (D6): at rest, assigned is the sum of the other three.
pub fn recording(context: &Context) -> Value {
    let shared = &context.shared;
    let counts = &shared.recorder.counts;
    let assigned = shared.counters.sum(|c| &c.assigned);
    let finished = shared.counters.sum(|c| &c.finished);
    let queue_full = shared.counters.sum(|c| &c.queue_full);
    let recorded = counts.recorded.load(Relaxed);
    let mut dropped: serde_json::Map<String, Value> = DROP_REASONS
        .iter()
        .zip(&counts.dropped)
        .map(|(reason, count)| ((*reason).to_owned(), json!(count.load(Relaxed))))
        .collect();
    dropped.insert("queue_full".into(), json!(queue_full));
    let dropped_sum: u64 = dropped.values().filter_map(Value::as_u64).sum();
    let running = assigned.saturating_sub(finished);
    let in_hand = counts.in_hand.load(Relaxed);
    let spooled = counts.spooled.load(Relaxed);
    // What is in the queue was finished and is not in hand yet.
    let queued = finished.saturating_sub(recorded + dropped_sum + in_hand + spooled);
    json!({
        "assigned": assigned,
        "recorded": recorded,
        "dropped": dropped_sum,
        "dropped_by_reason": dropped,
        "pending": running + queued + in_hand + spooled,
        "running": running,
        "spooled": spooled,
        "spool_bytes": counts.spool_bytes.load(Relaxed),
    })
}

/// `GET /routes`.
pub async fn routes(State(context): State<Context>) -> Json<Value> {
    let now = context.shared.tallies.by_variant();
    items(route_items(&context, &now), None)
}

fn route_items(context: &Context, now: &[(TallyKey, Tally)]) -> Vec<Value> {
    let snapshot = context.shared.current.load();
    let view = context.changes.view();
    snapshot
        .routes
        .iter()
        .map(|route| {
            let mut item = json!({
                "name": route.name,
                "pattern": route.pattern,
                "backend": snapshot.backends[route.backend].name,
                "model": view.plan.routes.iter()
                    .find(|r| *r.name == *route.name)
                    .and_then(|r| r.rule.model.as_deref()),
                "experiments": route.plans.iter().map(|plan| plan.name).collect::<Vec<_>>(),
                "shadows": route.shadows.iter().map(|shadow| shadow.name).collect::<Vec<_>>(),
            });
            let window = context.rates.window(now, |key| key.route == route.name);
            merge(&mut item, serde_json::to_value(window.recent()).unwrap_or_default());
            item
        })
        .collect()
}

/// Adds the members of `more` to `item`.
pub fn merge(item: &mut Value, more: Value) {
    if let (Value::Object(item), Value::Object(more)) = (item, more) {
        item.extend(more);
    }
}

/// `GET /backends`.
pub async fn backends(State(context): State<Context>) -> Json<Value> {
    items(backend_items(&context), None)
}

fn backend_items(context: &Context) -> Vec<Value> {
    let snapshot = context.shared.current.load();
    snapshot
        .backends
        .iter()
        .map(|backend| {
            let set = backend.life.endpoints.load();
            let endpoints: Vec<Value> = set
                .all
                .iter()
                .map(|endpoint| {
                    json!({
                        "address": endpoint.address.to_string(),
                        "host": endpoint.host,
                        "scheme": match endpoint.scheme {
                            Scheme::Http => "http",
                            Scheme::Https => "https",
                            Scheme::H2c => "h2c",
                        },
                        "state": endpoint.health.state().as_str(),
                        "in_flight": endpoint.in_flight.load(Relaxed),
                    })
                })
                .collect();
            let unresolved: Vec<Value> = backend
                .life
                .unresolved
                .lock()
                .iter()
                .map(|(host, why)| json!({ "host": host, "error": why }))
                .collect();
            let open: u64 = backend
                .life
                .counts
                .iter()
                .map(|counts| counts.open_connections.load(Relaxed))
                .sum();
            json!({
                "name": backend.name,
                "model": backend.model,
                "endpoints": endpoints,
                "unresolved": unresolved,
                "in_flight": backend.life.in_flight.load(Relaxed),
                "open_connections": open,
                "ejections": backend.life.ejections.load(Relaxed),
            })
        })
        .collect()
}

/// `GET /shadows`.
pub async fn shadows(State(context): State<Context>) -> Json<Value> {
    items(shadow_items(&context), None)
}

fn shadow_items(context: &Context) -> Vec<Value> {
    let snapshot = context.shared.current.load();
    let tallies = context.shared.shadow_tallies.by_variant();
    let mut shadows = Vec::new();
    for route in &snapshot.routes {
        for shadow in &route.shadows {
            let backend = &snapshot.backends[shadow.backend];
            let count = |result: ShadowResult| -> u64 {
                let counts = backend.life.counts.iter();
                counts.map(|c| c.shadows[result as usize].load(Relaxed)).sum()
            };
            let tally = tallies
                .iter()
                .find(|(key, _)| key.route == route.name && key.experiment == shadow.name)
                .map(|(_, tally)| tally);
            let quantile = |q: f64| tally.and_then(|tally| tally.duration.sketch.quantile(q));
            let dropped = count(ShadowResult::DroppedQueue)
                + count(ShadowResult::DroppedBody)
                + count(ShadowResult::DroppedPolicy);
            shadows.push(json!({
                "name": shadow.name,
                "route": route.name,
                "backend": backend.name,
                "percent": shadow.share * 100.0,
                "ok": count(ShadowResult::Ok),
                "error": count(ShadowResult::Error),
                "dropped": dropped,
                "dropped_queue": count(ShadowResult::DroppedQueue),
                "dropped_body": count(ShadowResult::DroppedBody),
                "p50": quantile(0.5),
                "p95": quantile(0.95),
                "p99": quantile(0.99),
                "comparison": super::comparison::in_short(shadow),
            }));
        }
    }
    shadows
}
