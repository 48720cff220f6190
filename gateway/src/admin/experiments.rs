//! Experiments: what is split, by whom, and moving it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::shown::{Experiment, shown};
use super::access::Who;
use super::error::ApiError;
use super::extract::{Body, Path, Query};
use super::idempotency::{Answer, Answers};
use super::live::Named;
use super::status::{List, merge};
use super::{Context, to_the_end};
use crate::change::View;
use crate::clock;
use crate::live::LiveExperiment;
use crate::recorder::tally::{Tally, TallyKey};
use crate::store::{RevisionRow, Source, State as Running};

pub mod define;
pub mod shown;

pub(super) use shown::route_of;

/// The experiment as the API shows it, as JSON.
pub fn described(
    context: &Context,
    view: &View,
    name: &str,
    now: Option<&[(TallyKey, Tally)]>,
) -> Option<Value> {
    serde_json::to_value(shown(context, view, name, now)?).ok()
}

fn missing(name: &str) -> ApiError {
    ApiError::missing(format!("experiment {name:?} does not exist"))
}

/// `?state=`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InState {
    /// Only those in this state. Without it: all but those that have ended.
    state: Option<Running>,
}

/// `GET /experiments`.
pub async fn list(
    State(context): State<Context>,
    Query(asked): Query<InState>,
) -> Json<List<Experiment>> {
    let view = context.changes.view();
    let now = context.shared.tallies.by_variant();
    let wanted =
        |state: Running| asked.state.map_or(state != Running::Ended, |asked| asked == state);
    let names = view.live.iter().chain(&view.past).filter(|(_, live)| wanted(live.state));
    let all = names.filter_map(|(name, _)| shown(&context, &view, name, Some(&now)));
    Json(List { items: all.collect(), next: None })
}

/// `GET /experiments/{e}`, with the revision as `ETag`.
pub async fn show(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let view = context.changes.view();
    let now = context.shared.tallies.by_variant();
    let shown = shown(&context, &view, &name, Some(&now)).ok_or_else(|| missing(&name))?;
    let revision = Some(shown.revision);
    let body = serde_json::to_value(shown).unwrap_or_default();
    Ok(Answer { status: StatusCode::OK, revision, body }.into_response())
}

/// New weights.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetWeights {
    /// By variant. One that is not named keeps its weight.
    weights: Weights,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

/// Weights as they are sent; a variant that is named twice is an error, not the last one's.
#[derive(Debug)]
struct Weights(Vec<(String, Value)>);

impl JsonSchema for Weights {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Weights".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": { "type": "number", "minimum": 0 },
            "minProperties": 1,
        })
    }
}

impl<'de> Deserialize<'de> for Weights {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Weights;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of variants and weights")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Weights, A::Error> {
                let mut weights: Vec<(String, Value)> = Vec::new();
                while let Some((variant, weight)) = map.next_entry::<String, Value>()? {
                    if weights.iter().any(|(earlier, _)| *earlier == variant) {
                        let twice = format!("variant {variant:?} is given twice");
                        return Err(serde::de::Error::custom(twice));
                    }
                    weights.push((variant, weight));
                }
                Ok(Weights(weights))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A reason, or nothing.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Because {
    /// Why.
    #[serde(default)]
    pub(super) reason: Option<String>,
}

/// What is taken back.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// The revision to go back to; without it the one before the newest.
    #[serde(default)]
    to: Option<u64>,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

/// Reads a JSON body; an empty one is the default where that makes sense.
pub(super) fn body<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    empty: Option<T>,
) -> Result<T, ApiError> {
    if bytes.iter().all(u8::is_ascii_whitespace)
        && let Some(empty) = empty
    {
        return Ok(empty);
    }
    // Derived code takes a list for a struct, members in order; nobody means that.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(ApiError::invalid(
            "the body is not what is expected: it is a list, not an object",
        ));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| ApiError::invalid(format!("the body is not what is expected: {error}")))
}

pub(super) fn reason(reason: Option<String>) -> Result<Option<String>, ApiError> {
    match reason {
        Some(text) if text.len() > 1_000 => {
            Err(ApiError::invalid("the reason is longer than 1,000 bytes"))
        }
        other => Ok(other.filter(|text| !text.trim().is_empty())),
    }
}

/// The revision that `If-Match` names.
fn if_match(headers: &HeaderMap) -> Result<u64, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Err(ApiError::new(
            StatusCode::PRECONDITION_REQUIRED,
            "precondition_required",
            "send `If-Match` with the ETag of `GET /experiments/{e}`, so that nobody's change is lost",
        ));
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.trim().strip_prefix('"')?.strip_suffix('"')?.parse().ok())
        .ok_or_else(|| ApiError::invalid("`If-Match` must be a revision in quotes, such as \"7\""))
}

/// `PUT /experiments/{e}/weights`.
pub async fn set_weights(
    State(context): State<Context>,
    Path(name): Path<String>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Body(bytes): Body,
) -> Result<Answer, ApiError> {
    let seen = if_match(&headers)?;
    let what = format!("weights {name} {seen} {}", blake3::hash(&bytes));
    let key = Answers::key(&who, &headers)?;
    let _turn = context.answers.turn(key.as_deref()).await;
    if let Some(answer) = context.answers.find(key.as_deref(), &what)? {
        return Ok(answer);
    }
    let asked: SetWeights = body(&bytes, None)?;
    let mut weights = Vec::new();
    for (variant, weight) in asked.weights.0 {
        let Some(weight) = weight.as_f64() else {
            return Err(ApiError::invalid(format!(
                "the weight of {variant:?} is {weight}, not a number; \
                 weights are relative, any number from 0 up"
            )));
        };
        weights.push((variant, weight));
    }
    let reason = reason(asked.reason)?;
    let (changes, experiment) = (Arc::clone(&context.changes), name.clone());
    let live = to_the_end(async move {
        changes.set_weights(&experiment, seen, &weights, &who.actor(), reason).await
    })
    .await??;
    changed(&context, &name, &live, StatusCode::OK, key, what)
}

/// `POST /experiments/{e}/stop`: the kill switch.
pub async fn stop(
    State(context): State<Context>,
    Path(name): Path<String>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Body(bytes): Body,
) -> Result<Answer, ApiError> {
    let what = format!("stop {name}");
    let key = Answers::key(&who, &headers)?;
    let _turn = context.answers.turn(key.as_deref()).await;
    if let Some(answer) = context.answers.find(key.as_deref(), &what)? {
        return Ok(answer);
    }
    let asked: Because = body(&bytes, Some(Because::default()))?;
    let reason = reason(asked.reason)?;
    let (changes, experiment) = (Arc::clone(&context.changes), name.clone());
    let stopped =
        to_the_end(async move { changes.stop(&experiment, &who.actor(), reason).await }).await?;
    match stopped {
        Ok(live) => changed(&context, &name, &live, StatusCode::OK, key, what),
        Err(crate::change::ChangeError::Store(error)) => {
            // In force, which is what matters; say that a restart would forget it.
            let view = context.changes.view();
            let mut body = described(&context, &view, &name, None).ok_or_else(|| missing(&name))?;
            merge(
                &mut body,
                json!({ "stored": false, "warning": format!(
                    "stopped on this gateway, but not stored: {error}"
                ) }),
            );
            Ok(Answer { status: StatusCode::OK, revision: None, body })
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /experiments/{e}/undo`.
pub async fn undo(
    State(context): State<Context>,
    Path(name): Path<String>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Body(bytes): Body,
) -> Result<Answer, ApiError> {
    let seen = if_match(&headers)?;
    let what = format!("undo {name} {seen} {}", blake3::hash(&bytes));
    let key = Answers::key(&who, &headers)?;
    let _turn = context.answers.turn(key.as_deref()).await;
    if let Some(answer) = context.answers.find(key.as_deref(), &what)? {
        return Ok(answer);
    }
    let asked: Undo = body(&bytes, Some(Undo::default()))?;
    let reason = reason(asked.reason)?;
    let (changes, experiment) = (Arc::clone(&context.changes), name.clone());
    let live =
        to_the_end(
            async move { changes.undo(&experiment, seen, asked.to, &who.actor(), reason).await },
        )
        .await??;
    changed(&context, &name, &live, StatusCode::OK, key, what)
}

fn changed(
    context: &Context,
    name: &str,
    live: &LiveExperiment,
    status: StatusCode,
    key: Option<String>,
    what: String,
) -> Result<Answer, ApiError> {
    let view = context.changes.view();
    let mut body = described(context, &view, name, None).ok_or_else(|| missing(name))?;
    merge(
        &mut body,
        json!({ "buckets_moved": live.buckets_moved, "undoes": live.undoes, "stored": true }),
    );
    if let Some(note) = under_way(context, name) {
        merge(&mut body, json!({ "note": note }));
    }
    let answer = Answer { status, revision: Some(live.revision), body };
    context.answers.keep(key, what, &answer);
    Ok(answer)
}

/// What whoever changes an experiment by hand should know.
fn under_way(context: &Context, name: &str) -> Option<String> {
    let ramp = context.control.ramp(name).filter(|ramp| !ramp.state.is_over())?;
    Some(format!(
        "a ramp of {:?} is under way: it goes on from the new shares, and judges; \
         `weir ramp pause {name}` freezes the share",
        ramp.told.variant
    ))
}

/// `?cursor=&limit=`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// `next` of the page before.
    cursor: Option<String>,
    /// At most this many: 100 if it is not said, never more than 1,000.
    limit: Option<u32>,
}

/// One revision.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Revision {
    /// Its number.
    revision: u64,
    /// Whether the experiment decides since then.
    state: Running,
    /// Weights by variant, control first.
    weights: Named<f64>,
    /// Where it came from.
    source: Source,
    /// Who made it: name of a key, `file` or `ramp`.
    by: String,
    /// When, RFC 3339 in UTC.
    at: String,
    /// Why, if somebody said so.
    reason: Option<String>,
    /// How many of the 10,000 buckets changed hands.
    buckets_moved: u16,
    /// The revision it took back.
    undoes: Option<u64>,
    /// Whether it changed what the experiment is, and not only its weights or state.
    redefines: bool,
}

/// Revisions of one experiment, newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub struct History {
    /// Revisions.
    revisions: Vec<Revision>,
    /// `cursor` of the next page; null if there is none.
    next: Option<String>,
}

fn revision_item(row: &RevisionRow) -> Revision {
    Revision {
        revision: row.revision,
        state: row.state,
        weights: row.weights.iter().cloned().collect(),
        source: row.source,
        by: row.by.clone(),
        at: clock::rfc3339_micros(row.at),
        reason: row.reason.clone(),
        buckets_moved: row.buckets_moved,
        undoes: row.undoes,
        redefines: row.definition.is_some(),
    }
}

/// `GET /experiments/{e}/history`, newest first.
pub async fn history(
    State(context): State<Context>,
    Path(name): Path<String>,
    Query(page): Query<Page>,
) -> Result<Json<History>, ApiError> {
    let before = match page.cursor {
        None => None,
        Some(text) => Some(
            text.parse().map_err(|_| ApiError::invalid("`cursor` is not one of this list's"))?,
        ),
    };
    let limit = page.limit.unwrap_or(100).clamp(1, 1_000);
    let experiment = name.clone();
    let rows = context.store.call(move |store| store.revisions(&experiment, before, limit)).await?;
    if rows.is_empty() && before.is_none() {
        return Err(missing(&name));
    }
    let next = (rows.len() == limit as usize)
        .then(|| rows.last().map(|row| row.revision.to_string()))
        .flatten();
    Ok(Json(History { revisions: rows.iter().map(revision_item).collect(), next }))
}

/// `?unit=`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnitQuery {
    /// The unit: a user id, or whatever the experiment's `unit` names.
    pub(super) unit: String,
}

/// What a unit gets.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Assigned {
    /// The experiment.
    experiment: String,
    /// The unit.
    unit: String,
    /// The variant; null if the experiment does not take the unit.
    variant: Option<&'static str>,
    /// Why: `split`, `static`, `holdout`, `outside`, `disabled`, …
    reason: &'static str,
    /// Its bucket, of 10,000.
    bucket: Option<u16>,
    /// Its keyed hash, 16 hex digits: what outcomes have.
    unit_hash: String,
    /// Revision in force.
    revision: u64,
    /// Backend that serves it.
    backend: &'static str,
}

/// `GET /experiments/{e}/assign?unit=`: which variant a unit gets from the split, and why. Targets
/// that look at headers or keys are not asked: a unit alone has none.
pub async fn assign(
    State(context): State<Context>,
    Path(name): Path<String>,
    Query(query): Query<UnitQuery>,
) -> Result<Json<Assigned>, ApiError> {
    let snapshot = Arc::clone(&context.shared.current.load_full());
    let found = snapshot.routes.iter().find_map(|route| {
        let index = route.plans.iter().position(|plan| plan.name == name)?;
        Some((route, index))
    });
    let Some((route, index)) = found else { return Err(missing(&name)) };
    let headers = HeaderMap::new();
    let facts = routing::Facts { headers: &headers, key: "", forced: None };
    let one = std::slice::from_ref(&route.experiments[index]);
    let assignment = routing::assign(snapshot.holdout.as_ref(), one, &facts, |_| {
        Some(routing::Unit(query.unit.as_str().into()))
    })
    .map_err(|error| ApiError::invalid(error.to_string()))?;
    let plan = &route.plans[index];
    let variant = assignment
        .variant
        .filter(|_| assignment.experiment.is_some())
        .map(|id| &plan.variants[usize::from(id.0)]);
    let backend = variant.map_or(route.backend, |variant| variant.backend);
    Ok(Json(Assigned {
        experiment: name,
        unit: query.unit,
        variant: variant.map(|variant| variant.name),
        reason: assignment.reason.as_str(),
        bucket: assignment.bucket,
        unit_hash: format!("{:016x}", assignment.unit_hash),
        revision: plan.revision,
        backend: snapshot.backends[backend].name,
    }))
}
