//! Experiments made, edited, ended, and written as TOML.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::{JsonSchema, Schema};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::shown::current;
use super::{changed, if_match, missing, reason};
use crate::admin::access::{Who, may_change};
use crate::admin::error::ApiError;
use crate::admin::extract::{Body, Path, Query};
use crate::admin::idempotency::{Answer, Answers};
use crate::admin::{Context, to_the_end};
use crate::clock;
use crate::config::definition;

/// An object in which nothing is named twice: the last one would count, and who reads over it would not
/// know.
struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_bool<E>(self, yes: bool) -> Result<Value, E> {
                Ok(yes.into())
            }
            fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
                Ok(number.into())
            }
            fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
                Ok(number.into())
            }
            fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
                Ok(number.into())
            }
            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(text.into())
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Value, A::Error> {
                let mut all = Vec::new();
                while let Some(Once(value)) = list.next_element()? {
                    all.push(value);
                }
                Ok(all.into())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut members = Map::new();
                while let Some((name, Once(value))) = map.next_entry::<String, Once>()? {
                    if members.contains_key(&name) {
                        let twice = format!("{name:?} is given twice");
                        return Err(serde::de::Error::custom(twice));
                    }
                    members.insert(name, value);
                }
                Ok(members.into())
            }
        }
        deserializer.deserialize_any(Any).map(Self)
    }
}

/// An experiment to be made.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "read member by member, and checked as the file is")]
pub struct NewExperiment {
    /// Its name.
    name: String,
    /// Why.
    reason: Option<String>,
    #[schemars(flatten)]
    definition: crate::config::Definition,
}

/// Members that become others, null for those that go.
#[derive(Debug, JsonSchema)]
#[schemars(transform = any_member)]
pub struct Patch {}

fn any_member(schema: &mut Schema) {
    schema.insert("additionalProperties".into(), true.into());
}

/// The members of a body, and its `reason`.
fn members(bytes: &[u8]) -> Result<(Map<String, Value>, Option<String>), ApiError> {
    let Once(body) = super::body(bytes, None)?;
    let Value::Object(mut members) = body else {
        return Err(ApiError::invalid("the body is not what is expected: it is not an object"));
    };
    let because = match members.shift_remove("reason") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(other) => {
            return Err(ApiError::invalid(format!("`reason` is {other}, not a text")));
        }
    };
    Ok((members, reason(because)?))
}

/// An experiment is made on, or moved to, a route that the caller may change.
fn check_route(who: &Who, members: &Map<String, Value>) -> Result<(), ApiError> {
    match members.get("route").and_then(Value::as_str) {
        Some(route) => may_change(&who.caller, route),
        None => Ok(()),
    }
}

/// `POST /experiments`.
pub async fn create(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Body(bytes): Body,
) -> Result<Answer, ApiError> {
    let what = format!("create {}", blake3::hash(&bytes));
    let key = Answers::key(&who, &headers)?;
    let _turn = context.answers.turn(key.as_deref()).await;
    if let Some(answer) = context.answers.find(key.as_deref(), &what)? {
        return Ok(answer);
    }
    let (mut members, because) = members(&bytes)?;
    let name = match members.shift_remove("name") {
        Some(Value::String(name)) => name,
        _ => return Err(ApiError::invalid("give the experiment a `name`, a text")),
    };
    check_route(&who, &members)?;
    let (changes, experiment) = (Arc::clone(&context.changes), name.clone());
    let made =
        to_the_end(
            async move { changes.create(&experiment, &members, &who.actor(), because).await },
        );
    let live = made.await??;
    changed(&context, &name, &live, StatusCode::CREATED, key, what)
}

/// `PATCH /experiments/{e}`: JSON merge patch (RFC 7396).
pub async fn edit(
    State(context): State<Context>,
    Path(name): Path<String>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Body(bytes): Body,
) -> Result<Answer, ApiError> {
    let seen = if_match(&headers)?;
    let what = format!("edit {name} {seen} {}", blake3::hash(&bytes));
    let key = Answers::key(&who, &headers)?;
    let _turn = context.answers.turn(key.as_deref()).await;
    if let Some(answer) = context.answers.find(key.as_deref(), &what)? {
        return Ok(answer);
    }
    let (patch, because) = members(&bytes)?;
    if patch.get("name").is_some_and(|other| other.as_str() != Some(&name)) {
        return Err(ApiError::invalid("an experiment keeps its `name`; make another one"));
    }
    check_route(&who, &patch)?;
    let patch = patch.into_iter().filter(|(member, _)| member != "name").collect();
    let (changes, experiment) = (Arc::clone(&context.changes), name.clone());
    let edited =
        to_the_end(
            async move { changes.edit(&experiment, seen, &patch, &who.actor(), because).await },
        );
    let live = edited.await??;
    changed(&context, &name, &live, StatusCode::OK, key, what)
}

/// `?reason=`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Because {
    /// Why it ends.
    reason: Option<String>,
}

/// `DELETE /experiments/{e}`: ends it; results stay.
pub async fn end(
    State(context): State<Context>,
    Path(name): Path<String>,
    Extension(who): Extension<Who>,
    Query(because): Query<Because>,
    headers: HeaderMap,
) -> Result<Answer, ApiError> {
    let seen = if_match(&headers)?;
    let what = format!("end {name} {seen}");
    let key = Answers::key(&who, &headers)?;
    let _turn = context.answers.turn(key.as_deref()).await;
    if let Some(answer) = context.answers.find(key.as_deref(), &what)? {
        return Ok(answer);
    }
    let because = reason(because.reason)?;
    if context.control.ramp(&name).is_some_and(|ramp| !ramp.state.is_over()) {
        let message = format!(
            "a ramp of experiment {name:?} is under way; `weir ramp abort {name}` or \
             `weir ramp promote {name}` ends it"
        );
        return Err(ApiError::new(StatusCode::CONFLICT, "ramp_under_way", message));
    }
    let (changes, experiment) = (Arc::clone(&context.changes), name.clone());
    let ended =
        to_the_end(async move { changes.end(&experiment, seen, &who.actor(), because).await });
    let live = ended.await??;
    changed(&context, &name, &live, StatusCode::OK, key, what)
}

/// `GET /experiments/{e}/export`: as the section of a file, with the weights in force.
pub async fn export(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let view = context.changes.view();
    let live = view.live.get(&name).or_else(|| view.past.get(&name));
    let live = live.ok_or_else(|| missing(&name))?;
    let is = current(&view, &name, live).ok_or_else(|| missing(&name))?;
    let Value::Object(members) = is else { return Err(missing(&name)) };
    let state = match live.state {
        crate::store::State::Running => "",
        crate::store::State::Stopped => ", stopped",
        crate::store::State::Ended => ", ended",
    };
    // Names and times hold no line break.
    let text = format!(
        "# Revision {}{state}, made by {} at {}.\n{}",
        live.revision,
        live.by,
        clock::rfc3339_micros(live.at),
        definition::toml(&name, &members)
    );
    let kind = HeaderValue::from_static("application/toml; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
