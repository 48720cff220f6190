//! Whether the process lives, serves, and which one it is. No credential; never a secret.

use std::sync::atomic::Ordering::Relaxed;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::Context;
use crate::control::status_word;
use crate::ids;
use crate::telemetry::{exposition, metrics};

/// A worker that was not seen for this long is stuck.
const WATCHDOG_SECONDS: u64 = 5;

/// `?verbose`.
#[derive(Debug, serde::Deserialize, JsonSchema)]
pub struct Verbose {
    /// Whatever it says: each check by itself.
    verbose: Option<String>,
}

/// Which build this is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Version {
    /// Version of the program.
    version: &'static str,
    /// Revision of the source it was built from; `unknown` where the build was not told.
    revision: &'static str,
    /// When it was built; `unknown` where the build was not told.
    built: &'static str,
    /// Number of the configuration in force.
    config_revision: u64,
    /// Start of the process, 32 hex digits.
    boot_id: String,
}

/// Each check by itself.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Checks {
    /// `ok` or `fail`.
    status: &'static str,
    /// By name: `ok`, or what is wrong.
    checks: super::live::Named<String>,
}

fn alive(context: &Context) -> bool {
    let now = context.shared.backends.uptime().as_secs();
    context
        .shared
        .alive
        .iter()
        .all(|seen| now.saturating_sub(seen.load(Relaxed)) <= WATCHDOG_SECONDS)
}

fn answer(good: bool, query: &Verbose, checks: &[(&str, &str)]) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if query.verbose.is_some() {
        let checks = checks.iter().map(|(name, said)| ((*name).to_owned(), (*said).to_owned()));
        let word = if good { "ok" } else { "fail" };
        return (status, Json(Checks { status: word, checks: checks.collect() })).into_response();
    }
    (status, if good { "ok\n" } else { "fail\n" }).into_response()
}

/// Whether the workers make progress. Never looks at store or backends.
pub async fn livez(State(context): State<Context>, Query(query): Query<Verbose>) -> Response {
    let good = alive(&context);
    answer(good, &query, &[("workers", if good { "ok" } else { "stuck" })])
}

/// Whether traffic should come here.
pub async fn readyz(State(context): State<Context>, Query(query): Query<Verbose>) -> Response {
    let draining = context.shared.draining.load(Relaxed);
    let loaded = context.shared.current.load().generation > 0;
    let checks = [
        ("config", if loaded { "ok" } else { "missing" }),
        ("draining", if draining { "fail" } else { "ok" }),
        ("store", if context.store.stats().up { "ok" } else { "degraded" }),
    ];
    answer(loaded && !draining, &query, &checks)
}

/// Whether the first configuration was put in force.
pub async fn startupz(State(context): State<Context>, Query(query): Query<Verbose>) -> Response {
    let loaded = context.shared.current.load().generation > 0;
    answer(loaded, &query, &[("config", if loaded { "ok" } else { "missing" })])
}

/// Which build this is.
pub async fn version(State(context): State<Context>) -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION"),
        revision: option_env!("WEIR_BUILD_REVISION").unwrap_or("unknown"),
        built: option_env!("WEIR_BUILD_TIME").unwrap_or("unknown"),
        config_revision: context.shared.current.load().generation,
        boot_id: ids::hex(&context.shared.boot),
    })
}

/// Prometheus and OpenMetrics text.
pub async fn metrics(State(context): State<Context>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let dialect = exposition::Dialect::negotiate(accept);
    let reloads = context.changes.reloads();
    let view = context.changes.view();
    let certificates = |listener: &'static str, list: &[crate::config::plan::Certificate]| {
        list.iter().map(|c| (listener, c.subject.clone(), c.not_after)).collect::<Vec<_>>()
    };
    let mut all = certificates("edge", &view.plan.server.certificates);
    all.extend(certificates("admin", &view.plan.admin.certificates));
    let extra = metrics::Extra {
        config_reloads_ok: reloads.ok,
        config_reloads_failed: reloads.failed,
        config_last_success_unix: reloads.last_success,
        config_revision: view.generation,
        config_last_successful: reloads.last_error.is_none(),
        certificates: all,
        started_unix: context.started_unix,
        ramps: (context.control.ramps().into_iter())
            .map(|(experiment, ramp)| {
                let step = ramp.told.step(ramp.state.phase);
                (experiment, status_word(ramp.state.status), step)
            })
            .collect(),
        ramp_decisions: (context.control.counts().into_iter())
            .map(|((experiment, action, reason), count)| (experiment, action, reason, count))
            .collect(),
        webhooks: (context.webhooks.all().into_iter())
            .map(|(webhook, hook)| (webhook.name.to_string(), hook.counts(), hook.state().pending))
            .collect(),
        sample_ratios: context.control.sample_ratios(),
        spans: context.spans.clone(),
    };
    let stats = context.store.stats();
    let text = metrics::render(&context.shared, Some(&stats), &extra, dialect);
    ([(header::CONTENT_TYPE, dialect.content_type())], text).into_response()
}
