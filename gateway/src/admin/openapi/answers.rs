//! Answers that handlers put together member by member, as types: what the document says of them. That
//! they say the truth is tested against a gateway that runs, member by member
//! (`tests/real/with_openapi.py`).
#![expect(dead_code, reason = "nobody makes one: they are what the document says")]

use std::collections::BTreeMap;

use schemars::JsonSchema;

pub mod comparison;
pub mod outcomes;
pub mod ramps;
pub mod results;

/// A webhook and how it stands.
#[derive(Debug, JsonSchema)]
pub struct Webhook {
    name: String,
    destination: String,
    /// `weir` or `alertmanager`.
    format: String,
    events: Vec<String>,
    signed: bool,
    /// `ok`, `failing` or `idle`.
    state: String,
    pending: u64,
    oldest_pending_at: Option<String>,
    next_try_at: Option<String>,
    delivered: u64,
    failed: u64,
    results: BTreeMap<String, u64>,
    dead: u64,
    last_delivered_at: Option<String>,
    failing_since: Option<String>,
    last_error: Option<WebhookError>,
}

/// What went wrong last.
#[derive(Debug, JsonSchema)]
pub struct WebhookError {
    at: String,
    message: String,
}

/// A test that was taken.
#[derive(Debug, JsonSchema)]
pub struct WebhookTest {
    webhook: String,
    id: String,
    event: String,
    status: Option<u16>,
    /// Seconds.
    took: f64,
}

/// Who the caller is, and what it may do.
#[derive(Debug, JsonSchema)]
pub struct Session {
    key: Option<SessionKey>,
    role: Option<String>,
    /// Null for all.
    routes: Option<Vec<String>>,
    permissions: Vec<String>,
    may_grant: Vec<String>,
    session: Option<SessionToken>,
}

/// The key that signed in.
#[derive(Debug, JsonSchema)]
pub struct SessionKey {
    id: String,
    name: String,
}

/// The session.
#[derive(Debug, JsonSchema)]
pub struct SessionToken {
    token: String,
    ends_at: String,
}
