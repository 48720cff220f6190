//! Stored outcomes: found, and one of them with where its time went and why it went there.

use axum::Json;
use axum::extract::{Extension, State};
use policies::Outcome;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Context;
use super::access::Who;
use super::audit::EVERY_HOUR;
use super::error::ApiError;
use super::extract::{Path, Query};
use super::status::{items, merge};
use crate::clock;
use crate::config::parse_duration;
use crate::ids::RequestId;
use crate::live::LiveExperiment;
use crate::store::OutcomeQuery;

mod phases;

/// Pieces of bounded work for one page: what is rare may be far back.
const PIECES: usize = 50;

/// Most answers that are shown beside a request.
const MOST_FEEDBACK: u32 = 100;

/// Filters of `GET /requests`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Only of this route.
    route: Option<String>,
    /// Only of this experiment.
    experiment: Option<String>,
    /// Only of this assigned variant.
    variant: Option<String>,
    /// Only with this outcome, or `failed` for those that count against a variant.
    outcome: Option<String>,
    /// Only those that took longer, such as `500ms`.
    slower: Option<String>,
    /// Only of this unit of `experiment`.
    unit: Option<String>,
    /// Only from here on: a duration before now (`10m`), or a time.
    since: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// At most this many: 100 if it is not said, never more than 1,000.
    limit: Option<u32>,
}

/// What lists and exports have in common.
pub(super) struct Wanted {
    pub(super) route: Option<String>,
    pub(super) experiment: Option<String>,
    pub(super) variant: Option<String>,
    pub(super) slower: Option<String>,
    pub(super) since: Option<String>,
}

impl Wanted {
    /// As the store is asked.
    ///
    /// # Errors
    /// 400 for what is not understood.
    pub(super) fn query(self) -> Result<OutcomeQuery, ApiError> {
        let slower = match &self.slower {
            None => None,
            Some(text) => Some(
                parse_duration(text)
                    .ok()
                    .and_then(|slower| u64::try_from(slower.as_micros()).ok())
                    .ok_or_else(|| bad("slower", "give a duration such as 500ms"))?,
            ),
        };
        let how = "give a duration such as 10m, or a time";
        let since = match &self.since {
            None => None,
            Some(text) => Some(moment(text).ok_or_else(|| bad("since", how))?),
        };
        Ok(OutcomeQuery {
            route: self.route,
            experiment: self.experiment,
            variant: self.variant,
            slower,
            since,
            ..OutcomeQuery::default()
        })
    }
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

/// The outcomes that are asked for; empty: all. `failed` are those that count against a variant.
pub(super) fn outcomes(text: Option<&str>) -> Result<Vec<&'static str>, ApiError> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let wanted =
        |outcome: &Outcome| outcome.as_str() == text || text == "failed" && outcome.is_failure();
    let found: Vec<_> = Outcome::ALL.into_iter().filter(wanted).map(Outcome::as_str).collect();
    if found.is_empty() {
        let known = Outcome::ALL.map(Outcome::as_str).join(", ");
        return Err(bad("outcome", &format!("give one of {known}, or `failed`")));
    }
    Ok(found)
}

/// `GET /requests`, newest first.
pub async fn list(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    Query(filter): Query<Filter>,
) -> Result<Json<Value>, ApiError> {
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
    let outcomes = outcomes(filter.outcome.as_deref())?;
    let limit = filter.limit.unwrap_or(100).clamp(1, 1_000);
    context.reads.note(&context, &who, "requests.read", "outcomes", EVERY_HOUR).await;
    let wanted = Wanted {
        route: filter.route,
        experiment: filter.experiment,
        variant: filter.variant,
        slower: filter.slower,
        since: filter.since,
    };
    let query = OutcomeQuery { unit_hash, before, limit, ..wanted.query()? };
    if outcomes.is_empty() {
        let (found, next) = search(&context, query).await?;
        return Ok(items(found, next.map(|id| RequestId(id).to_string())));
    }
    let mut pages = Vec::new();
    for outcome in outcomes {
        let query = OutcomeQuery { outcome: Some(outcome.to_owned()), ..query.clone() };
        pages.push(search(&context, query).await?);
    }
    let (found, next) = merged(pages, limit as usize);
    Ok(items(found, next.map(|id| RequestId(id).to_string())))
}

/// What was found, newest first, and where to go on if there may be more.
type Found = (Vec<Value>, Option<[u8; 16]>);

async fn search(context: &Context, mut query: OutcomeQuery) -> Result<Found, ApiError> {
    let limit = query.limit;
    let mut found = Vec::new();
    // Each piece looks at a bounded number of rows, so that a rare thing does not hold the store up.
    for _ in 0..PIECES {
        let asked = query.clone();
        let page = context.store.call(move |store| store.outcome_page(&asked)).await?;
        found.extend(page.items);
        query.limit = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(limit));
        query.before = page.next;
        if query.limit == 0 || page.next.is_none() {
            break;
        }
    }
    Ok((found, query.before))
}

/// Several lists as one. Each is whole down to where it would go on; below that the others have to
/// wait for it.
fn merged(pages: Vec<Found>, limit: usize) -> Found {
    let horizon = pages.iter().filter_map(|(_, next)| *next).max();
    let id = |item: &Value| {
        let text = item.get("request_id").and_then(Value::as_str);
        text.and_then(RequestId::parse).map_or([0; 16], |id| id.0)
    };
    let mut found: Vec<([u8; 16], Value)> = pages
        .into_iter()
        .flat_map(|(items, _)| items)
        .map(|item| (id(&item), item))
        .filter(|(id, _)| horizon.is_none_or(|horizon| *id >= horizon))
        .collect();
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    let next = if found.len() > limit {
        found.truncate(limit);
        found.last().map(|(id, _)| *id)
    } else {
        horizon
    };
    (found.into_iter().map(|(_, item)| item).collect(), next)
}

/// `GET /requests/{id}`.
pub async fn show(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    context.reads.note(&context, &who, "requests.read", "outcomes", EVERY_HOUR).await;
    let missing = || ApiError::missing(format!("no outcome of request {id:?} is stored"));
    let bytes = RequestId::parse(&id).ok_or_else(missing)?.0;
    let found = context.store.call(move |store| store.outcome(bytes)).await?;
    let mut row = found.ok_or_else(missing)?;
    let said = context.store.call(move |store| store.feedback_of(bytes, MOST_FEEDBACK)).await?;
    let more = {
        let Some(members) = row.as_object() else { return Err(missing()) };
        json!({
            "attempt_list": phases::attempts(members),
            "phases": phases::phases(members),
            "decision": decision(&context, members).await?,
            "feedback": said,
        })
    };
    merge(&mut row, more);
    Ok(Json(row))
}

/// Why it went where it went; null if its route has no experiment.
async fn decision(context: &Context, row: &Map<String, Value>) -> Result<Value, ApiError> {
    let Some(experiment) = row.get("experiment").and_then(Value::as_str) else {
        return Ok(Value::Null);
    };
    let member = |name: &str| row.get(name).cloned().unwrap_or(Value::Null);
    let revision = row.get("experiment.revision").and_then(Value::as_u64).unwrap_or(0);
    let (name, before) = (experiment.to_owned(), revision.saturating_add(1));
    let dealt = context.store.call(move |store| store.revisions(&name, Some(before), 1)).await?;
    let dealt = dealt
        .into_iter()
        .find(|row| row.revision == revision)
        .and_then(|row| LiveExperiment::from_row(&row).ok());
    let bucket = row.get("assignment.bucket").and_then(Value::as_u64);
    let bucket = bucket.and_then(|bucket| u16::try_from(bucket).ok());
    let range = dealt.as_ref().zip(bucket).and_then(|(dealt, bucket)| {
        let runs = dealt.allocation.runs().into_iter();
        runs.into_iter().find(|run| (run.first..run.end).contains(&bucket))
    });
    let share = dealt.as_ref().and_then(|dealt| {
        let variant = row.get("variant").and_then(Value::as_str)?;
        let place = dealt.weights.iter().position(|(name, _)| name == variant)?;
        dealt.shares().get(place).map(|share| f64::from(*share) / 10_000.0)
    });
    // Only the split deals by bucket: elsewhere the range says what the split would have done.
    let dealt_to = dealt.as_ref().zip(range).and_then(|(dealt, run)| {
        dealt.weights.get(usize::from(run.variant.0)).map(|(name, _)| name.clone())
    });
    Ok(json!({
        "experiment": experiment,
        "revision": revision,
        "reason": member("assignment.reason"),
        "eligible": member("assignment.eligible"),
        "variant": member("variant"),
        "served": member("variant.served"),
        "unit_hash": member("unit.hash"),
        "bucket": bucket,
        "bucket_range": range.map(|run| json!({
            "first": run.first, "end": run.end, "variant": dealt_to,
        })),
        "share": share,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> [u8; 16] {
        RequestId::new(u64::from(number) * 1_000_000_000_000, 0).0
    }

    fn page(ids: &[u8], next: Option<u8>) -> Found {
        let item = |number: &u8| json!({ "request_id": RequestId(id(*number)).to_string() });
        (ids.iter().map(item).collect(), next.map(id))
    }

    #[test]
    fn lists_are_merged_as_far_down_as_each_of_them_is_whole() {
        let both = vec![page(&[9, 5, 4], Some(4)), page(&[8, 7, 2], None)];
        assert_eq!(
            merged(both.clone(), 10),
            page(&[9, 8, 7, 5, 4], Some(4)),
            "2 waits for the first"
        );
        assert_eq!(merged(both, 3), page(&[9, 8, 7], Some(7)));
        assert_eq!(merged(vec![page(&[3], None), page(&[], None)], 3), page(&[3], None));
    }

    #[test]
    fn failed_is_every_outcome_that_counts_against_a_variant() {
        assert_eq!(outcomes(None).unwrap(), [] as [&str; 0]);
        assert_eq!(outcomes(Some("ok")).unwrap(), ["ok"]);
        let failed = ["upstream_error", "timeout", "upstream_reset"];
        assert_eq!(outcomes(Some("failed")).unwrap(), failed);
        assert!(outcomes(Some("good")).is_err());
    }
}
