//! Webhooks: how each stands, and a test. They are made in the file alone.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::access::Who;
use super::error::ApiError;
use super::extract::Path;
use super::idempotency::{Answer, once};
use super::status::items;
use super::{Context, to_the_end};
use crate::clock;
use crate::config::plan::Webhook;
use crate::webhooks::post::{DEAD, RESULTS};
use crate::webhooks::{Answer as Said, Hook, TestFault, Tested};

impl From<TestFault> for ApiError {
    fn from(fault: TestFault) -> Self {
        match fault {
            TestFault::Missing(_) => Self::missing(fault.to_string()),
            TestFault::Store(error) => Self::from(error),
        }
    }
}

/// `GET /webhooks`, in the order of the file.
pub async fn list(State(context): State<Context>) -> Json<Value> {
    items(described(&context), None)
}

/// Every webhook as the API shows it.
pub(super) fn described(context: &Context) -> Vec<Value> {
    context.webhooks.all().iter().map(|(webhook, hook)| one(webhook, hook)).collect()
}

fn one(webhook: &Webhook, hook: &Hook) -> Value {
    let state = hook.state();
    let counts = hook.counts();
    let at = |micros: Option<i64>| micros.map(clock::rfc3339_micros);
    // The number of tries that were not taken, whatever they met.
    let failed: u64 = counts[1..DEAD].iter().sum();
    let by_result: serde_json::Map<String, Value> = RESULTS
        .iter()
        .zip(counts)
        .map(|(result, count)| ((*result).to_owned(), count.into()))
        .collect();
    json!({
        "name": webhook.name,
        // The path may be a secret.
        "destination": webhook.url.origin(),
        "format": if webhook.takes_alerts { "alertmanager" } else { "weir" },
        "events": webhook.events.names(),
        "signed": !webhook.secrets.is_empty(),
        "state": if state.failing_since.is_some() {
            "failing"
        } else if state.last_taken.is_some() {
            "ok"
        } else {
            "idle"
        },
        "pending": state.pending,
        "oldest_pending_at": at(state.oldest),
        "next_try_at": at(state.next_try),
        "delivered": counts[0],
        "failed": failed,
        "results": by_result,
        "dead": state.dead,
        "last_delivered_at": at(state.last_taken),
        "failing_since": at(state.failing_since),
        "last_error": state.last_error.map(|(when, why)| json!({
            "at": clock::rfc3339_micros(when),
            "message": why,
        })),
    })
}

/// `POST /webhooks/{name}/test`: sent at once; 502 if the receiver did not take it.
pub async fn test(
    State(context): State<Context>,
    Path(name): Path<String>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
) -> Result<Answer, ApiError> {
    let what = format!("test {name}");
    once(&context, &who, &headers, what, tested(&context, &who, name)).await
}

async fn tested(context: &Context, who: &Who, name: String) -> Result<Answer, ApiError> {
    let who = who.clone();
    let (webhooks, webhook) = (Arc::clone(&context.webhooks), name.clone());
    let Tested { id, answer, took } =
        to_the_end(async move { webhooks.test(&webhook, &who.actor()).await }).await??;
    let status = answer.status().map(|status| status.as_u16());
    if !matches!(answer, Said::Taken(_)) {
        let why = answer.why();
        let message = format!("webhook {name:?} did not take the test: {why}");
        return Err(ApiError::new(StatusCode::BAD_GATEWAY, "not_delivered", message)
            .with(json!({ "id": id, "status": status, "reason": why })));
    }
    Ok(Answer::ok(json!({
        "webhook": name,
        "id": id,
        "event": "webhook.test",
        "status": status,
        "took": took.as_secs_f64(),
    })))
}
