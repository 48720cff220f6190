//! The audit log, as it is read.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;

use super::Context;
use super::error::ApiError;
use super::extract::Query;
use super::status::items;
use crate::clock;

/// `?cursor=&limit=`.
#[derive(Debug, Deserialize)]
pub struct Page {
    cursor: Option<u64>,
    limit: Option<u32>,
}

/// `GET /audit`, newest first.
pub async fn list(
    State(context): State<Context>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, ApiError> {
    let limit = page.limit.unwrap_or(100).clamp(1, 1_000);
    let cursor = page.cursor;
    let entries = context.store.call(move |store| store.audit(cursor, limit)).await?;
    let next = (entries.len() == limit as usize)
        .then(|| entries.last().map(|entry| entry.id.to_string()))
        .flatten();
    let found = entries
        .into_iter()
        .map(|entry| {
            let at = clock::rfc3339_micros(entry.row.at);
            let mut value = serde_json::to_value(entry).unwrap_or_default();
            if let Value::Object(members) = &mut value {
                members.insert("at".into(), Value::String(at));
            }
            value
        })
        .collect();
    Ok(items(found, next))
}
