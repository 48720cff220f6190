//! Disagreements that are kept, where that is allowed (hardening T27): what was asked, and both
//! answers, without credentials and cut.

use policies::comparison::{Body, Cause, shown};
use policies::statistics::agreement::Agreement;
use serde_json::{Value, json};

use super::pair::Pair;
use crate::config::plan::Samples;
use crate::ids::RequestId;

/// A disagreement, as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct DisagreementRow {
    /// Shadow.
    pub shadow: String,
    /// When the request came, microseconds since 1970.
    pub at: i64,
    /// Everything else, JSON.
    pub content: String,
}

/// A disagreement as the API shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Disagreement {
    /// Its number; rises with time.
    pub id: u64,
    /// When the request came, microseconds since 1970.
    pub at: i64,
    /// What [`row`] made.
    pub content: Value,
}

/// What is kept of a pair that differs.
pub fn row(
    pair: &Pair,
    cause: Cause,
    agreement: Option<&Agreement>,
    samples: &Samples,
) -> DisagreementRow {
    let text = |body: Option<Body<'_>>| -> Value {
        let Some(mut text) = body.and_then(|body| shown(&body, &samples.redact)) else {
            return Value::Null;
        };
        // After what must not be kept was taken out: a cut never leaves half of it.
        let cut = text.floor_char_boundary(samples.bytes);
        let is_cut = cut < text.len();
        text.truncate(cut);
        json!({ "text": text, "cut": is_cut })
    };
    let (live, copy) = (&pair.live, &pair.copy);
    let labels = agreement.and_then(|found| found.labels.as_ref());
    let content = json!({
        "request_id": RequestId(live.request_id).to_string(),
        "revision": pair.revision,
        "cause": cause.as_str(),
        "similarity": agreement.map(|found| found.similarity),
        "gap": agreement.and_then(|found| found.largest_gap),
        "labels": labels.map(|(live, copy)| json!({
            "live": policies::redact::text(live), "copy": policies::redact::text(copy),
        })),
        "request": text(pair.request.as_ref().map(|request| request.body())),
        "live": {
            "backend": live.backend, "status": live.side.status,
            "body": text(Some(live.side.body.body())),
        },
        "copy": { "status": copy.status, "body": text(Some(copy.body.body())) },
    });
    DisagreementRow {
        shadow: pair.shadow.name.to_owned(),
        at: live.started,
        content: content.to_string(),
    }
}
