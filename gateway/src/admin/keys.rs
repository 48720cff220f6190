//! Keys: made, listed, revoked. A secret is shown once, in the answer that made it.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use policies::{Grants, Role};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

use super::access::Who;
use super::error::ApiError;
use super::extract::{Body, Path};
use super::idempotency::{Answer, Answers};
use super::status::items;
use super::{Context, to_the_end};
use crate::clock;
use crate::store::KeyRow;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    name: String,
    role: String,
    #[serde(default)]
    routes: Option<Vec<String>>,
    #[serde(default)]
    expires_at: Option<String>,
    #[serde(default)]
    expires_in_seconds: Option<i64>,
    #[serde(default)]
    requests_per_second: Option<f64>,
    #[serde(default)]
    concurrent: Option<u32>,
    #[serde(default)]
    tokens_per_minute: Option<u64>,
}

fn time(seconds: Option<i64>) -> Option<String> {
    seconds.map(|seconds| clock::rfc3339_micros(seconds.saturating_mul(1_000_000)))
}

fn described(row: &KeyRow) -> Value {
    json!({
        "id": row.id,
        "name": row.name,
        "role": row.role,
        "routes": row.routes,
        "created_at": time(Some(row.created_at)),
        "created_by": row.created_by,
        "expires_at": time(row.expires_at),
        "revoked_at": time(row.revoked_at),
        "requests_per_second": row.requests_per_second,
        "concurrent": row.concurrent,
        "tokens_per_minute": row.tokens_per_minute,
    })
}

/// `GET /keys`: never a secret, never a hash.
pub async fn list(State(context): State<Context>) -> Json<Value> {
    let keys = context.changes.keys().await;
    let mut all: Vec<Value> = keys.iter().map(described).collect();
    for key in &context.changes.view().plan.declared_keys {
        all.push(json!({
            "id": key.name, "name": key.name, "role": key.role.as_str(), "routes": key.routes,
            "declared": true,
        }));
    }
    items(all, None)
}

/// `POST /keys`.
pub async fn create(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Body(bytes): Body,
) -> Result<Answer, ApiError> {
    let what = format!("key {}", blake3::hash(&bytes));
    let key = Answers::key(&who, &headers)?;
    let _turn = context.answers.turn(key.as_deref()).await;
    // The answer holds a secret, so it is not kept: a repeat is told apart, not answered again.
    if context.answers.find(key.as_deref(), &what)?.is_some() {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "already_created",
            "this key was made before; its secret is shown only once",
        ));
    }
    let asked: NewKey = super::experiments::body(&bytes, None)?;
    let good_name = (1..=64).contains(&asked.name.len())
        && asked.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if !good_name {
        return Err(ApiError::invalid("`name` must be 1 to 64 letters, digits, `_`, `.` or `-`"));
    }
    let role: Role = asked
        .role
        .parse()
        .map_err(|error: policies::access::UnknownRole| ApiError::invalid(error.to_string()))?;
    let grants = asked.routes.as_ref().map_or(Grants::All, |routes| {
        Grants::Only(routes.iter().map(|route| Arc::from(&**route)).collect())
    });
    if !who.caller.may_grant(role, &grants) {
        return Err(ApiError::forbidden(format!(
            "a key of role {} may not make a key of role {role} for these routes",
            who.caller.role
        )));
    }
    let expires_at = expiry(&asked)?;
    if asked.requests_per_second.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return Err(ApiError::invalid("`requests_per_second` must be above 0"));
    }
    if asked.concurrent == Some(0) {
        return Err(ApiError::invalid("`concurrent` must be above 0"));
    }
    if asked.tokens_per_minute == Some(0) {
        return Err(ApiError::invalid("`tokens_per_minute` must be above 0"));
    }
    let row = KeyRow {
        id: String::new(),
        name: asked.name,
        role: role.as_str().into(),
        routes: asked.routes,
        hash: [0; 32],
        created_at: 0,
        created_by: String::new(),
        expires_at,
        revoked_at: None,
        requests_per_second: asked.requests_per_second,
        concurrent: asked.concurrent,
        tokens_per_minute: asked.tokens_per_minute,
    };
    let changes = Arc::clone(&context.changes);
    let (row, secret) =
        to_the_end(async move { changes.add_key(row, None, &who.actor()).await }).await??;
    let mut body = described(&row);
    let kept = Answer { status: StatusCode::CREATED, revision: None, body: body.clone() };
    context.answers.keep(key, what, &kept);
    super::status::merge(&mut body, json!({ "secret": secret }));
    Ok(Answer { status: StatusCode::CREATED, revision: None, body })
}

fn expiry(asked: &NewKey) -> Result<Option<i64>, ApiError> {
    let now = clock::unix_seconds();
    let at = match (&asked.expires_at, asked.expires_in_seconds) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid("give `expires_at` or `expires_in_seconds`, not both"));
        }
        (Some(text), None) => text
            .parse::<jiff::Timestamp>()
            .map_err(|_| {
                ApiError::invalid("`expires_at` must be a time such as 2027-01-31T00:00:00Z")
            })?
            .as_second(),
        (None, Some(seconds)) => now.saturating_add(seconds),
    };
    if at <= now {
        return Err(ApiError::invalid("the key would have expired already"));
    }
    if jiff::Timestamp::from_second(at).is_err() {
        return Err(ApiError::invalid(
            "the key's end is too far away; leave it out for a key without an end",
        ));
    }
    Ok(Some(at))
}

/// `DELETE /keys/{id}`.
pub async fn revoke(
    State(context): State<Context>,
    Path(id): Path<String>,
    Extension(who): Extension<Who>,
) -> Result<Json<Value>, ApiError> {
    let changes = Arc::clone(&context.changes);
    let row = to_the_end(async move {
        let may = |role, grants: &Grants| who.caller.may_grant(role, grants);
        changes.revoke_key(&id, may, &who.actor()).await
    })
    .await??;
    Ok(Json(described(&row)))
}
