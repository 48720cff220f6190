//! The effective state, for whoever looks for something: `/debug/…`. Secrets are replaced by `***`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::access::Who;
use super::audit::{EVERY_MINUTE, entry};
use super::error::ApiError;
use super::experiments::{Assigned, UnitQuery};
use super::extract::{Body, Path, Query};
use super::idempotency::{Answer, once};
use super::status::List;
use super::{Context, experiments, requests, to_the_end};
use crate::clock;
use crate::config::definition;
use crate::config::parse_duration;
use crate::telemetry::counters::{Closed, PROTOCOLS};
use crate::telemetry::events;
use crate::telemetry::logs::{self, Severity};

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

/// The file in force, and what came on top of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Config {
    /// The file.
    path: String,
    /// Number of the configuration in force.
    generation: u64,
    /// What the file says, as JSON. Variables stand as they are written; secrets are `***`.
    file: Value,
    /// Experiments as they are in force: definition by name.
    experiments: Value,
}

/// `GET /debug/config`.
pub async fn config(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
) -> Result<Json<Config>, ApiError> {
    context.reads.note(&context, &who, "config.read", "config", EVERY_MINUTE).await;
    let view = context.changes.view();
    let mut file = view.file.as_json();
    hide(&mut file, "");
    let of = |planned: &crate::config::plan::Experiment| {
        let live = view.live.get(&*planned.name)?;
        let is = definition::of(&view.plan, planned, &live.weights);
        Some((planned.name.to_string(), is))
    };
    Ok(Json(Config {
        path: view.file.path().display().to_string(),
        generation: view.generation,
        file,
        experiments: view.plan.experiments.iter().filter_map(of).collect::<Map<_, _>>().into(),
    }))
}

/// Members that are secrets, or may hold one; `under` is the member they stand in.
fn hide(value: &mut Value, under: &str) {
    const SECRET: [&str; 5] = ["credential", "hash", "secret", "secrets", "token"];
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let is_secret = SECRET.contains(&name.as_str())
                    // What comes after the host of a webhook's address often is one.
                    || (under == "webhooks" && name == "url");
                if is_secret && !member.is_object() {
                    *member = HIDDEN.into();
                } else {
                    let within = if under == "webhooks" { under } else { name };
                    hide(member, within);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| hide(item, under)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A route and what it matches.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RouteRule {
    /// Its name.
    name: &'static str,
    /// Hosts; empty for any.
    hosts: Vec<String>,
    /// Path pattern.
    path: &'static str,
    /// Methods; empty for any.
    methods: Vec<String>,
    /// Names of headers it asks for. Their values stay in the file.
    headers: Vec<String>,
    /// The model it asks for; null for any.
    model: Option<String>,
    /// Serves when no experiment decides.
    backend: &'static str,
    /// Experiments on it, in the order in which they are asked.
    experiments: Vec<&'static str>,
    /// Largest request body.
    body_bytes: u64,
    /// Whether the body is read, for the model, a unit or a rewrite.
    inspects: bool,
    /// Deadlines in seconds.
    timeouts: Timeouts,
}

/// Deadlines in seconds.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Timeouts {
    connect: f64,
    first_byte: f64,
    idle: f64,
    total: f64,
}

/// `GET /debug/routes`: which rule a request meets, in the order of the table.
pub async fn routes(State(context): State<Context>) -> Json<List<RouteRule>> {
    let snapshot = context.shared.current.load();
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
    let of = |(rule, place): (&routing::Rule, &usize)| {
        let route = &snapshot.routes[*place];
        RouteRule {
            name: route.name,
            hosts: rule.hosts.iter().map(|host| text(host)).collect(),
            path: route.pattern,
            methods: rule.methods.iter().map(ToString::to_string).collect(),
            headers: rule.headers.iter().map(|header| header.name.to_string()).collect(),
            model: rule.model.as_deref().map(str::to_owned),
            backend: snapshot.backends[route.backend].name,
            experiments: route.plans.iter().map(|plan| plan.name).collect(),
            body_bytes: route.body_bytes,
            inspects: route.inspect,
            timeouts: Timeouts {
                connect: route.deadlines.connect.as_secs_f64(),
                first_byte: route.deadlines.first_byte.as_secs_f64(),
                idle: route.deadlines.idle.as_secs_f64(),
                total: route.deadlines.total.as_secs_f64(),
            },
        }
    };
    Json(List { items: snapshot.table.iter().map(of).collect(), next: None })
}

/// An experiment and whose buckets are whose.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Dealt {
    /// Its name.
    name: &'static str,
    /// Its route.
    route: &'static str,
    /// Revision in force.
    revision: u64,
    /// Whether it decides.
    running: bool,
    /// The part of its layer that it has, in buckets; null without a layer.
    layer_buckets: Option<u32>,
    /// Runs of buckets, in order.
    runs: Vec<Run>,
}

/// Consecutive buckets of one variant, `first` to before `end`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Run {
    first: u16,
    end: u16,
    variant: &'static str,
}

/// `GET /debug/experiments`.
pub async fn experiments(State(context): State<Context>) -> Json<List<Dealt>> {
    let snapshot = context.shared.current.load();
    let mut items = Vec::new();
    for route in &snapshot.routes {
        for (plan, experiment) in route.plans.iter().zip(&route.experiments) {
            let variant = |id: routing::VariantId| {
                plan.variants.get(usize::from(id.0)).map_or("", |variant| variant.name)
            };
            let runs = experiment.allocation.runs().into_iter().map(|run| Run {
                first: run.first,
                end: run.end,
                variant: variant(run.variant),
            });
            let of_layer = experiment.layer.as_ref().map(|(layer, slot)| {
                let runs = layer.allocation.runs().into_iter();
                runs.filter(|run| run.variant == *slot)
                    .map(|run| u32::from(run.end - run.first))
                    .sum()
            });
            items.push(Dealt {
                name: plan.name,
                route: route.name,
                revision: plan.revision,
                running: experiment.running,
                layer_buckets: of_layer,
                runs: runs.collect(),
            });
        }
    }
    Json(List { items, next: None })
}

/// Connections of one worker.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OfWorker {
    /// The worker.
    worker: usize,
    /// Client connections that are open.
    open: usize,
    /// Requests under way.
    in_flight: u64,
    /// Accepted since the start, by protocol.
    accepted: super::live::Named<u64>,
    /// Closed since the start, by reason.
    closed: super::live::Named<u64>,
    /// Seconds since its loop was last seen alive.
    seen_seconds_ago: u64,
}

/// `GET /debug/connections`.
pub async fn connections(State(context): State<Context>) -> Json<List<OfWorker>> {
    let shared = &context.shared;
    let uptime = shared.backends.uptime().as_secs();
    let named = |names: &[&str], counts: &[AtomicU64]| {
        names.iter().zip(counts).map(|(name, n)| ((*name).to_owned(), n.load(Relaxed))).collect()
    };
    let of = |(worker, counts): (usize, &crate::telemetry::counters::WorkerCounters)| OfWorker {
        worker,
        open: shared.open[worker].load(Relaxed),
        in_flight: counts.in_flight.load(Relaxed),
        accepted: named(&PROTOCOLS, &counts.connections),
        closed: named(&Closed::ALL.map(Closed::as_str), &counts.closed),
        seen_seconds_ago: uptime.saturating_sub(shared.alive[worker].load(Relaxed)),
    };
    Json(List { items: shared.counters.each().enumerate().map(of).collect(), next: None })
}

/// `?experiment=&unit=`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhoGetsWhat {
    /// The experiment.
    experiment: String,
    /// The unit.
    unit: String,
}

/// `GET /debug/assign`.
pub async fn assign(
    context: State<Context>,
    Query(asked): Query<WhoGetsWhat>,
) -> Result<Json<Assigned>, ApiError> {
    let unit = UnitQuery { unit: asked.unit };
    experiments::assign(context, Path(asked.experiment), Query(unit)).await
}

/// `GET /debug/requests/{id}`.
pub async fn request(
    context: State<Context>,
    who: Extension<Who>,
    id: Path<String>,
) -> Result<Response, ApiError> {
    requests::show(context, who, id).await.map(axum::response::IntoResponse::into_response)
}

/// A level of event lines, for a while.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetLevel {
    /// The least severe events that are written: `debug`, `info`, `warn` or `error`.
    level: String,
    /// For how long, such as `30m`; 10 minutes if it is not said, a day at most. Then it is `info` again.
    #[serde(rename = "for")]
    lasts: Option<String>,
    /// Why.
    reason: Option<String>,
}

/// The level in force.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Level {
    /// The least severe events that are written.
    level: &'static str,
    /// When it is `info` again, RFC 3339 in UTC; null if it is.
    until: Option<String>,
}

const USUAL: Duration = Duration::from_secs(600);
const LONGEST: Duration = Duration::from_secs(86_400);

/// `PUT /debug/log-level`. What libraries log of their own stays out, whatever the level (T16).
pub async fn log_level(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Body(bytes): Body,
) -> Result<Answer, ApiError> {
    let what = format!("log level {}", blake3::hash(&bytes));
    once(&context, &who, &headers, what, set_level(&context, &who, &bytes)).await
}

async fn set_level(context: &Context, who: &Who, bytes: &[u8]) -> Result<Answer, ApiError> {
    let asked: SetLevel = experiments::body(bytes, None)?;
    let known = Severity::ALL.into_iter().find(|level| level.as_str() == asked.level);
    let level = known
        .ok_or_else(|| ApiError::invalid("`level` must be one of debug, info, warn, error"))?;
    let lasts = match asked.lasts.as_deref() {
        None => USUAL,
        Some(text) => parse_duration(text)
            .ok()
            .filter(|lasts| !lasts.is_zero() && *lasts <= LONGEST)
            .ok_or_else(|| ApiError::invalid("`for` must be a duration up to 24h, such as 30m"))?,
    };
    let before = logs::level().as_str();
    let mut row = entry(who, "log_level.set", "log_level", json!({ "level": level.as_str() }));
    row.before = json!({ "level": before });
    row.reason = experiments::reason(asked.reason)?;
    let (store, name) = (context.store.clone(), who.caller.name.to_string());
    let turn = Arc::clone(&context.level_turn);
    to_the_end(async move {
        store.call(move |store| store.add_audit(&row)).await?;
        let mine = turn.fetch_add(1, Relaxed) + 1;
        logs::set_level(level);
        events::log_level(level.as_str(), &name);
        tokio::spawn(async move {
            tokio::time::sleep(lasts).await;
            // Unless somebody has set it since.
            if turn.load(Relaxed) == mine {
                logs::set_level(Severity::Info);
                events::log_level("info", "its time was over");
            }
        });
        Ok::<(), ApiError>(())
    })
    .await??;
    let until = clock::unix_micros() + i64::try_from(lasts.as_micros()).unwrap_or(0);
    let until = (level != Severity::Info).then(|| clock::rfc3339_micros(until));
    Ok(Answer::ok(Level { level: level.as_str(), until }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_wherever_they_stand_and_nothing_else_is() {
        let mut value = json!({
            "backends": {"a": {"credential": "env:KEY", "endpoints": ["http://a"]}},
            "auth": {"keys": [{"name": "m", "hash": "blake3:00", "role": "client"}]},
            "webhooks": [{"url": "https://h/x?token=1", "secrets": ["a", "b"], "events": ["ramp.*"]}],
            "routes": {"secret": {"path": "/url", "url": "kept"}},
        });
        hide(&mut value, "");
        assert_eq!(
            value,
            json!({
                "backends": {"a": {"credential": "***", "endpoints": ["http://a"]}},
                "auth": {"keys": [{"name": "m", "hash": "***", "role": "client"}]},
                "webhooks": [{"url": "***", "secrets": "***", "events": ["ramp.*"]}],
                "routes": {"secret": {"path": "/url", "url": "kept"}},
            })
        );
    }
}
