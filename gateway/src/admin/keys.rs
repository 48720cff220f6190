//! Keys: made, listed, revoked. A secret is shown once, in the answer that made it.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use policies::{Grants, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::access::Who;
use super::audit::EVERY_HOUR;
use super::error::ApiError;
use super::extract::{Body, Path};
use super::idempotency::{Answer, Answers, once};
use super::status::List;
use super::{Context, to_the_end};
use crate::clock;
use crate::store::KeyRow;

/// A key to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What to call it: 1 to 64 letters, digits, `_`, `.` or `-`.
    name: String,
    /// What it may do: `client`, `viewer`, `experimenter`, `operator`, `auditor` or `admin`.
    role: String,
    /// Routes it may call; without them all.
    #[serde(default)]
    routes: Option<Vec<String>>,
    /// When it stops working, RFC 3339.
    #[serde(default)]
    expires_at: Option<String>,
    /// The same as seconds from now.
    #[serde(default)]
    expires_in_seconds: Option<i64>,
    /// Most requests a second.
    #[serde(default)]
    requests_per_second: Option<f64>,
    /// Most requests at the same time.
    #[serde(default)]
    concurrent: Option<u32>,
    /// Most tokens a minute.
    #[serde(default)]
    tokens_per_minute: Option<u64>,
}

/// A key, without its secret.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Key {
    /// Public id; the name, for one that the file declares.
    id: String,
    /// Name.
    name: String,
    /// What it may do.
    role: String,
    /// Routes it may call; null for all.
    routes: Option<Vec<String>>,
    /// When it was made, RFC 3339 in UTC; null for one that the file declares.
    created_at: Option<String>,
    /// Who made it.
    created_by: Option<String>,
    /// When it stops working.
    expires_at: Option<String>,
    /// When it was revoked.
    revoked_at: Option<String>,
    /// Most requests a second.
    requests_per_second: Option<f64>,
    /// Most requests at the same time.
    concurrent: Option<u32>,
    /// Most tokens a minute.
    tokens_per_minute: Option<u64>,
    /// Whether the file declares it: then it is changed there.
    declared: bool,
}

/// A key that was made: the only time its secret is told.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MadeKey {
    /// The key.
    #[serde(flatten)]
    key: Key,
    /// Its secret.
    secret: String,
}

fn time(seconds: Option<i64>) -> Option<String> {
    seconds.map(|seconds| clock::rfc3339_micros(seconds.saturating_mul(1_000_000)))
}

fn described(row: &KeyRow) -> Key {
    Key {
        id: row.id.clone(),
        name: row.name.clone(),
        role: row.role.clone(),
        routes: row.routes.clone(),
        created_at: time(Some(row.created_at)),
        created_by: Some(row.created_by.clone()),
        expires_at: time(row.expires_at),
        revoked_at: time(row.revoked_at),
        requests_per_second: row.requests_per_second,
        concurrent: row.concurrent,
        tokens_per_minute: row.tokens_per_minute,
        declared: false,
    }
}

/// `GET /keys`: never a secret, never a hash.
pub async fn list(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
) -> Json<List<Key>> {
    context.reads.note(&context, &who, "keys.read", "keys", EVERY_HOUR).await;
    let keys = context.changes.keys().await;
    let view = context.changes.view();
    let declared = view.plan.declared_keys.iter().map(|key| Key {
        id: key.name.to_string(),
        name: key.name.to_string(),
        role: key.role.as_str().into(),
        routes: key.routes.as_ref().map(|all| all.iter().map(ToString::to_string).collect()),
        created_at: None,
        created_by: None,
        expires_at: None,
        revoked_at: None,
        requests_per_second: key.limits.requests_per_second,
        concurrent: key.limits.concurrent,
        tokens_per_minute: key.limits.tokens_per_minute,
        declared: true,
    });
    Json(List { items: keys.iter().map(described).chain(declared).collect(), next: None })
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
    let made = described(&row);
    let created = |answer: Answer| Answer { status: StatusCode::CREATED, ..answer };
    context.answers.keep(key, what, &created(Answer::ok(&made)));
    Ok(created(Answer::ok(MadeKey { key: made, secret })))
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
    headers: HeaderMap,
) -> Result<Answer, ApiError> {
    let changes = Arc::clone(&context.changes);
    let (by, what) = (who.clone(), format!("revoke {id}"));
    let work = async move {
        let revoked = to_the_end(async move {
            let may = |role, grants: &Grants| by.caller.may_grant(role, grants);
            changes.revoke_key(&id, may, &by.actor()).await
        });
        Ok(Answer::ok(described(&revoked.await??)))
    };
    once(&context, &who, &headers, what, work).await
}
