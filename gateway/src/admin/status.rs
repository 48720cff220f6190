//! The effective state with live rates: routes, backends, shadows, and all on one screen.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::experiments::shown::{Experiment, shown};
use super::live::Named;
use super::rates::Recent;
use super::{Context, webhooks};
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

/// The whole gateway on one screen.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Status {
    /// Version of the program.
    version: &'static str,
    /// Seconds since the start.
    uptime_seconds: u64,
    /// Number of the configuration in force.
    generation: u64,
    /// How the file was read.
    config: Config,
    /// Address of the edge.
    edge: String,
    /// Address of this listener.
    admin: String,
    /// Whether it is out of service.
    draining: bool,
    /// Routes, in the order of the file.
    routes: Vec<Route>,
    /// Experiments that have not ended.
    experiments: Vec<Experiment>,
    /// Backends, in the order of the file.
    backends: Vec<Backend>,
    /// Shadows.
    shadows: Vec<Shadow>,
    /// Webhooks, in the order of the file.
    #[schemars(with = "Vec<super::openapi::answers::Webhook>")]
    webhooks: Vec<Value>,
    /// The store.
    store: Store,
    /// What became of outcomes: at rest, `assigned` is the sum of `recorded`, `dropped` and `pending`.
    recording: Recording,
}

/// How the file was read.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Config {
    /// The file.
    file: String,
    /// When it came into force, RFC 3339 in UTC.
    loaded_at: String,
    /// What is wrong with the one read last, if it was refused.
    last_error: Option<String>,
    /// What deserves a look.
    notices: Vec<String>,
}

/// The store.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Store {
    /// Whether it can be written.
    up: bool,
    /// How durable outcomes are: `sync`, `group`, `async` or `off`.
    mode: &'static str,
    /// What went wrong last.
    last_error: Option<String>,
}

/// What became of outcomes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Recording {
    /// Requests that were assigned.
    assigned: u64,
    /// Outcomes on stable storage.
    recorded: u64,
    /// Outcomes that were lost.
    dropped: u64,
    /// The same by reason.
    dropped_by_reason: Named<u64>,
    /// Outcomes under way.
    pending: u64,
    /// Of them, requests that still run.
    running: u64,
    /// Of them, outcomes on disk beside the store.
    spooled: u64,
    /// Bytes of those.
    spool_bytes: u64,
}

/// Everything on one screen.
pub async fn status(State(context): State<Context>) -> Json<Status> {
    let now = context.shared.tallies.by_variant();
    let view = context.changes.view();
    let reloads = context.changes.reloads();
    let names = view.live.keys().chain(view.aside.keys());
    let experiments = names.filter_map(|name| shown(&context, &view, name, Some(&now)));
    let stats = context.store.stats();
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: context.shared.backends.uptime().as_secs(),
        generation: view.generation,
        config: Config {
            file: context.changes.file().display().to_string(),
            loaded_at: clock::rfc3339_micros(reloads.last_success * 1_000_000),
            last_error: reloads.last_error,
            notices: reloads.notices,
        },
        edge: context.edge.to_string(),
        admin: context.admin.to_string(),
        draining: context.shared.draining.load(Relaxed),
        routes: route_items(&context, &now),
        experiments: experiments.collect(),
        backends: backend_items(&context),
        shadows: shadow_items(&context),
        webhooks: webhooks::described(&context),
        store: Store {
            up: stats.up,
            mode: durability(view.plan.recording.outcomes),
            last_error: stats.last_error.map(|error| error.text),
        },
        recording: recording(&context),
    })
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
fn recording(context: &Context) -> Recording {
    let shared = &context.shared;
    let counts = &shared.recorder.counts;
    let assigned = shared.counters.sum(|c| &c.assigned);
    let finished = shared.counters.sum(|c| &c.finished);
    let queue_full = shared.counters.sum(|c| &c.queue_full);
    let recorded = counts.recorded.load(Relaxed);
    let count = |(reason, count): (&&str, &std::sync::atomic::AtomicU64)| {
        // Workers count this one.
        let count = if *reason == "queue_full" { queue_full } else { count.load(Relaxed) };
        ((*reason).to_owned(), count)
    };
    let dropped: Named<u64> = DROP_REASONS.iter().zip(&counts.dropped).map(count).collect();
    let dropped_sum: u64 = dropped.0.iter().map(|(_, count)| count).sum();
    let running = assigned.saturating_sub(finished);
    let in_hand = counts.in_hand.load(Relaxed);
    let spooled = counts.spooled.load(Relaxed);
    // What is in the queue was finished and is not in hand yet.
    let queued = finished.saturating_sub(recorded + dropped_sum + in_hand + spooled);
    Recording {
        assigned,
        recorded,
        dropped: dropped_sum,
        dropped_by_reason: dropped,
        pending: running + queued + in_hand + spooled,
        running,
        spooled,
        spool_bytes: counts.spool_bytes.load(Relaxed),
    }
}

/// A route.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Route {
    /// Its name.
    name: &'static str,
    /// Its path pattern.
    pattern: &'static str,
    /// Serves when no experiment decides.
    backend: &'static str,
    /// Only requests that ask for this model; null for any.
    model: Option<String>,
    /// Experiments on it.
    experiments: Vec<&'static str>,
    /// Shadows of it.
    shadows: Vec<&'static str>,
    /// What it did.
    #[serde(flatten)]
    recent: Recent,
}

/// `GET /routes`.
pub async fn routes(State(context): State<Context>) -> Json<List<Route>> {
    let now = context.shared.tallies.by_variant();
    Json(List { items: route_items(&context, &now), next: None })
}

fn route_items(context: &Context, now: &[(TallyKey, Tally)]) -> Vec<Route> {
    let snapshot = context.shared.current.load();
    let of = |route: &crate::snapshot::RoutePlan| Route {
        name: route.name,
        pattern: route.pattern,
        backend: snapshot.backends[route.backend].name,
        model: route.model.map(str::to_owned),
        experiments: route.plans.iter().map(|plan| plan.name).collect(),
        shadows: route.shadows.iter().map(|shadow| shadow.name).collect(),
        recent: context.rates.window(now, |key| key.route == route.name).recent(),
    };
    snapshot.routes.iter().map(of).collect()
}

/// Adds the members of `more` to `item`.
pub fn merge(item: &mut Value, more: Value) {
    if let (Value::Object(item), Value::Object(more)) = (item, more) {
        item.extend(more);
    }
}

/// A backend.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Backend {
    /// Its name.
    name: &'static str,
    /// Written in place of the request's model; null leaves it.
    model: Option<String>,
    /// Addresses that are known.
    endpoints: Vec<Endpoint>,
    /// Names that lead nowhere.
    unresolved: Vec<Unresolved>,
    /// Requests under way.
    in_flight: u64,
    /// Open connections.
    open_connections: u64,
    /// How often an endpoint was ejected.
    ejections: u64,
}

/// One address of a backend.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Endpoint {
    /// Address and port.
    address: String,
    /// Host as the file has it.
    host: String,
    /// `http`, `https` or `h2c`.
    scheme: &'static str,
    /// `serving`, `ejected` or `on_trial`.
    state: &'static str,
    /// Requests under way.
    in_flight: u64,
}

/// A name that leads nowhere.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Unresolved {
    /// The name.
    host: String,
    /// Why.
    error: String,
}

/// `GET /backends`.
pub async fn backends(State(context): State<Context>) -> Json<List<Backend>> {
    Json(List { items: backend_items(&context), next: None })
}

fn backend_items(context: &Context) -> Vec<Backend> {
    let snapshot = context.shared.current.load();
    let endpoint = |endpoint: &Arc<crate::backends::Endpoint>| Endpoint {
        address: endpoint.address.to_string(),
        host: endpoint.host.to_string(),
        scheme: match endpoint.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::H2c => "h2c",
        },
        state: endpoint.health.state().as_str(),
        in_flight: u64::from(endpoint.in_flight.load(Relaxed)),
    };
    let of = |backend: &Arc<crate::backends::Backend>| {
        let unresolved = backend.life.unresolved.lock();
        let unresolved = unresolved.iter();
        let open = backend.life.counts.iter();
        Backend {
            name: backend.name,
            model: backend.model.as_ref().map(ToString::to_string),
            endpoints: backend.life.endpoints.load().all.iter().map(endpoint).collect(),
            unresolved: unresolved
                .map(|(host, why)| Unresolved { host: host.to_string(), error: why.to_string() })
                .collect(),
            in_flight: u64::from(backend.life.in_flight.load(Relaxed)),
            open_connections: open.map(|counts| counts.open_connections.load(Relaxed)).sum(),
            ejections: backend.life.ejections.load(Relaxed),
        }
    };
    snapshot.backends.iter().map(of).collect()
}

/// A shadow.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Shadow {
    /// Its name.
    name: &'static str,
    /// The route that is copied.
    route: &'static str,
    /// Where copies go.
    backend: &'static str,
    /// How much of the route is copied, in percent.
    percent: f64,
    /// Copies that were answered.
    ok: u64,
    /// Copies that failed.
    error: u64,
    /// Copies that were not sent.
    dropped: u64,
    /// Of them, those for want of room.
    dropped_queue: u64,
    /// Of them, those whose body was too large.
    dropped_body: u64,
    /// Quantiles of their duration since the start, in seconds; null without copies.
    p50: Option<f64>,
    /// The same.
    p95: Option<f64>,
    /// The same.
    p99: Option<f64>,
    /// What its answers are beside what clients got.
    #[schemars(with = "super::openapi::answers::comparison::ComparisonInShort")]
    comparison: Value,
}

/// `GET /shadows`.
pub async fn shadows(State(context): State<Context>) -> Json<List<Shadow>> {
    Json(List { items: shadow_items(&context), next: None })
}

fn shadow_items(context: &Context) -> Vec<Shadow> {
    let snapshot = context.shared.current.load();
    let tallies = context.shared.shadow_tallies.by_variant();
    let of = |(route, shadow): (&crate::snapshot::RoutePlan, &crate::snapshot::ShadowPlan)| {
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
        Shadow {
            name: shadow.name,
            route: route.name,
            backend: backend.name,
            percent: shadow.share * 100.0,
            ok: count(ShadowResult::Ok),
            error: count(ShadowResult::Error),
            dropped: count(ShadowResult::DroppedQueue)
                + count(ShadowResult::DroppedBody)
                + count(ShadowResult::DroppedPolicy),
            dropped_queue: count(ShadowResult::DroppedQueue),
            dropped_body: count(ShadowResult::DroppedBody),
            p50: quantile(0.5),
            p95: quantile(0.95),
            p99: quantile(0.99),
            comparison: super::comparison::in_short(shadow),
        }
    };
    let routes = snapshot.routes.iter();
    routes
        .flat_map(|route| route.shadows.iter().map(move |shadow| (route, shadow)))
        .map(of)
        .collect()
}
