//! Out of service and back, while the process goes on: `POST /drain`, `POST /undrain`.
//!
//! As after SIGTERM, readiness is refused at once; after `server.pre_drain`, when balancers have noticed,
//! client connections are ended as they become idle. Whoever connects all the same is served.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::access::Who;
use super::audit::entry;
use super::error::ApiError;
use super::experiments::{Because, body, reason};
use super::extract::Body;
use super::idempotency::{Answer, once};
use super::{Context, to_the_end};
use crate::news::{Kind, News};
use crate::store::StoreError;
use crate::telemetry::events;

/// Whether the gateway is in service.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Drained {
    /// Whether it is out of service.
    draining: bool,
    /// Whether that was written down; it is in force anyway.
    stored: bool,
    /// Requests under way.
    in_flight: usize,
}

/// `POST /drain`.
pub async fn drain(
    context: State<Context>,
    who: Extension<Who>,
    headers: HeaderMap,
    body: Body,
) -> Result<Answer, ApiError> {
    set(context, who, &headers, body, true).await
}

/// `POST /undrain`.
pub async fn undrain(
    context: State<Context>,
    who: Extension<Who>,
    headers: HeaderMap,
    body: Body,
) -> Result<Answer, ApiError> {
    set(context, who, &headers, body, false).await
}

async fn set(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    headers: &HeaderMap,
    Body(bytes): Body,
    draining: bool,
) -> Result<Answer, ApiError> {
    let what = if draining { "drain" } else { "undrain" };
    once(&context, &who, headers, what.to_owned(), change(&context, &who, &bytes, draining)).await
}

async fn change(
    context: &Context,
    who: &Who,
    bytes: &[u8],
    draining: bool,
) -> Result<Answer, ApiError> {
    let what = if draining { "drain" } else { "undrain" };
    let asked: Because = body(bytes, Some(Because::default()))?;
    let because = reason(asked.reason)?;
    let shared = Arc::clone(&context.shared);
    if !draining && shared.closing.load(Relaxed) {
        let said = "the process is about to end, and does not come back";
        return Err(ApiError::new(axum::http::StatusCode::CONFLICT, "shutting_down", said));
    }
    let before = shared.draining.load(Relaxed);
    let mut row =
        entry(who, &format!("gateway.{what}"), "gateway", json!({ "draining": draining }));
    row.before = json!({ "draining": before });
    row.reason.clone_from(&because);
    let (store, by, turn) =
        (context.store.clone(), who.caller.name.to_string(), Arc::clone(&context.drain_turn));
    let wait = context.changes.view().plan.server.pre_drain;
    let stored = to_the_end(async move {
        // In force first: a gateway that is in trouble must not be kept in service by its store.
        let mine = turn.fetch_add(1, Relaxed) + 1;
        shared.draining.store(draining, Relaxed);
        if draining {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                if turn.load(Relaxed) == mine {
                    shared.leaving.store(true, Relaxed);
                }
            });
        } else {
            shared.leaving.store(false, Relaxed);
        }
        if before == draining {
            return Ok(());
        }
        events::drained(draining, &by);
        let (action, words) = if draining {
            ("drain", "the gateway is out of service")
        } else {
            ("undrain", "the gateway is in service again")
        };
        let news = News::now(Kind::Drain, action, &by, words.to_owned());
        shared.news.tell(News { reason: because, ..news });
        store.call(move |store| store.add_audit(&row)).await
    })
    .await?;
    let stored: Result<(), StoreError> = stored;
    let body = Drained {
        draining,
        stored: stored.is_ok(),
        in_flight: context.shared.in_use.requests.load(Relaxed),
    };
    Ok(Answer::ok(body))
}
