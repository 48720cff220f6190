//! The same answer to the same request: a client that lost an answer may ask again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use axum::Json;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::Value;

use super::access::Who;
use super::error::ApiError;
use crate::clock;

const KEPT: usize = 1_000;
const FOR: Duration = Duration::from_secs(600);

#[derive(Debug)]
struct Kept {
    key: String,
    what: String,
    at: Instant,
    answer: Answer,
}

/// A successful answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Revision for the `ETag`.
    pub revision: Option<u64>,
    /// Body.
    pub body: Value,
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(revision) = self.revision
            && let Ok(etag) = header::HeaderValue::from_str(&format!("\"{revision}\""))
        {
            response.headers_mut().insert(header::ETAG, etag);
        }
        response
    }
}

/// Answers of the last ten minutes.
#[derive(Debug, Default)]
pub struct Answers {
    kept: Mutex<VecDeque<Kept>>,
    // One for each key whose call is under way.
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

/// Does `work`, unless a call with the same `Idempotency-Key` did it lately: then its answer.
///
/// # Errors
/// Those of the work; 400 and 422 for a key that cannot be one or was used for something else.
pub async fn once(
    context: &super::Context,
    who: &Who,
    headers: &HeaderMap,
    what: String,
    work: impl Future<Output = Result<Answer, ApiError>>,
) -> Result<Answer, ApiError> {
    let key = Answers::key(who, headers)?;
    let _turn = context.answers.turn(key.as_deref()).await;
    if let Some(answer) = context.answers.find(key.as_deref(), &what)? {
        return Ok(answer);
    }
    let answer = work.await?;
    context.answers.keep(key, what, &answer);
    Ok(answer)
}

impl Answer {
    /// 200 with this body.
    pub fn ok(body: impl serde::Serialize) -> Self {
        let body = serde_json::to_value(body).unwrap_or_default();
        Self { status: StatusCode::OK, revision: None, body }
    }
}

impl Answers {
    /// The name under which an answer is kept; `None` if the caller sent no `Idempotency-Key`.
    ///
    /// # Errors
    /// 400 for a key that is not 1 to 128 visible characters.
    pub fn key(who: &Who, headers: &HeaderMap) -> Result<Option<String>, ApiError> {
        let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
        match value.to_str() {
            Ok(text) if (1..=128).contains(&text.len()) => {
                Ok(Some(format!("{}/{text}", who.caller.key_id)))
            }
            _ => Err(ApiError::invalid("`Idempotency-Key` must be 1 to 128 visible characters")),
        }
    }

    /// Held from [`Answers::find`] to [`Answers::keep`]: a request that is repeated while it runs waits
    /// for its answer. Whoever has another key does not: nothing may hold up the kill switch.
    pub async fn turn(&self, key: Option<&str>) -> Option<tokio::sync::OwnedMutexGuard<()>> {
        let key = key?;
        let turn = {
            let mut turns = self.turns.lock();
            turns.retain(|_, turn| turn.strong_count() > 0);
            match turns.get(key).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::default();
                    turns.insert(key.to_owned(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        Some(turn.lock_owned().await)
    }

    /// The answer that was given before.
    ///
    /// # Errors
    /// 422 if the key was used for something else.
    pub fn find(&self, key: Option<&str>, what: &str) -> Result<Option<Answer>, ApiError> {
        let Some(key) = key else { return Ok(None) };
        let kept = self.kept.lock();
        match kept.iter().find(|kept| kept.key == key && kept.at.elapsed() < FOR) {
            None => Ok(None),
            Some(kept) if kept.what == what => Ok(Some(kept.answer.clone())),
            Some(_) => Err(ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "this `Idempotency-Key` was used for another request",
            )),
        }
    }

    /// Keeps an answer.
    pub fn keep(&self, key: Option<String>, what: String, answer: &Answer) {
        let Some(key) = key else { return };
        let mut kept = self.kept.lock();
        while kept.len() >= KEPT || kept.front().is_some_and(|oldest| oldest.at.elapsed() > FOR) {
            kept.pop_front();
        }
        kept.push_back(Kept { key, what, at: clock::now(), answer: answer.clone() });
    }
}
