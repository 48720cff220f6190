//! What was recorded: outcomes of requests, and the audit log.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;

use super::Context;
use super::error::ApiError;
use super::extract::{Path, Query};
use super::status::items;
use crate::clock;
use crate::config::parse_duration;
use crate::ids::RequestId;
use crate::store::OutcomeQuery;

/// Filters of `GET /requests`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    route: Option<String>,
    experiment: Option<String>,
    variant: Option<String>,
    outcome: Option<String>,
    slower: Option<String>,
    unit: Option<String>,
    since: Option<String>,
    cursor: Option<String>,
    limit: Option<u32>,
}

fn bad(what: &str, how: &str) -> ApiError {
    ApiError::invalid(format!("`{what}` is not understood; {how}"))
}

/// A moment: a duration before now (`10m`), or a time.
pub(super) fn moment(text: &str) -> Option<i64> {
    if let Ok(ago) = parse_duration(text) {
        return Some(clock::unix_micros() - i64::try_from(ago.as_micros()).ok()?);
    }
    text.parse::<jiff::Timestamp>().ok().map(|time| time.as_microsecond())
}

/// `GET /requests`, newest first.
pub async fn requests(
    State(context): State<Context>,
    Query(filter): Query<Filter>,
) -> Result<Json<Value>, ApiError> {
    let slower = match &filter.slower {
        None => None,
        Some(text) => Some(
            parse_duration(text)
                .ok()
                .and_then(|slower| u64::try_from(slower.as_micros()).ok())
                .ok_or_else(|| bad("slower", "give a duration such as 500ms"))?,
        ),
    };
    let since = match &filter.since {
        None => None,
        Some(text) => Some(
            moment(text).ok_or_else(|| bad("since", "give a duration such as 10m, or a time"))?,
        ),
    };
    let before = match &filter.cursor {
        None => None,
        Some(text) => {
            Some(RequestId::parse(text).ok_or_else(|| bad("cursor", "use `next` of this list"))?.0)
        }
    };
    let unit_hash = match (&filter.unit, &filter.experiment) {
        (None, _) => None,
        (Some(_), None) => {
            return Err(ApiError::invalid(
                "`unit` needs `experiment`: a unit is hashed for each experiment anew",
            ));
        }
        (Some(unit), Some(experiment)) => {
            let key = routing::HashKey(context.changes.installation().hash_key);
            Some(routing::Salt::new(&key, &format!("{experiment}/variant")).hash(unit))
        }
    };
    let limit = filter.limit.unwrap_or(100).clamp(1, 1_000);
    let mut query = OutcomeQuery {
        route: filter.route,
        experiment: filter.experiment,
        variant: filter.variant,
        outcome: filter.outcome,
        slower,
        unit_hash,
        since,
        before,
        limit,
    };
    let mut found = Vec::new();
    // Each page looks at a bounded number of rows, so that a rare thing does not hold the store up.
    for _ in 0..50 {
        let asked = query.clone();
        let page = context.store.call(move |store| store.outcome_page(&asked)).await?;
        found.extend(page.items);
        query.limit = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(limit));
        query.before = page.next;
        if query.limit == 0 || page.next.is_none() {
            break;
        }
    }
    let next = query.before.map(|id| RequestId(id).to_string());
    Ok(items(found, next))
}

/// `GET /requests/{id}`.
pub async fn request(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let missing = || ApiError::missing(format!("no outcome of request {id:?} is stored"));
    let bytes = RequestId::parse(&id).ok_or_else(missing)?.0;
    let found = context.store.call(move |store| store.outcome(bytes)).await?;
    found.map(Json).ok_or_else(missing)
}

/// `?cursor=&limit=`.
#[derive(Debug, Deserialize)]
pub struct Page {
    cursor: Option<u64>,
    limit: Option<u32>,
}

/// `GET /audit`, newest first.
pub async fn audit(
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
