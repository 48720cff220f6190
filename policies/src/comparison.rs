//! A copy's answer beside the one that the client got: can they be compared, and do they agree?
//!
//! `statistics/agreement` compares two bodies. Here stands what comes before and after: who failed,
//! which bodies cannot be compared and why, what an event stream says when it is put together
//! (`comparison/stream.rs`), where the text of a model's answer stands (`comparison/said.rs`), and
//! what is counted (`comparison/tally.rs`).
//!
//! Two answers agree if clients could have got either. So a copy that fails where the live answer
//! did not disagrees, whatever is compared; and pairs that show nothing (both failed, a body that is
//! compressed or too long) are counted apart with their reason, not as agreement.

use std::borrow::Cow;

use serde_json::Value;

use crate::redact;
use crate::statistics::agreement::{self, Agreement, Content, Unusable};
use crate::usage::BodyKind;

mod said;
mod stream;
mod tally;

pub use said::said;
pub use tally::{ALPHA, FAILURES_TOLERATED, Measured, Tally};

/// How the answers of one shadow are compared.
#[derive(Clone, Debug, PartialEq)]
pub enum How {
    /// The classes of their statuses; no body is looked at.
    Status,
    /// Bodies; or a part of them.
    Body(agreement::Comparison),
    /// What the model said, wherever its API puts that: by similarity, from which two agree.
    Said {
        /// From 0 to 1.
        at_least: f64,
    },
    /// What the model said, as a label.
    SaidLabel,
}

impl How {
    /// Whether bodies are needed.
    pub fn reads_bodies(&self) -> bool {
        *self != Self::Status
    }

    /// Whether agreement comes by degrees.
    pub fn has_degrees(&self) -> bool {
        use agreement::Comparison::{Embedding, Exact, Label, Numeric, Status, Text};
        match self {
            Self::Status | Self::SaidLabel => false,
            Self::Said { .. } => true,
            Self::Body(Text { .. } | Embedding { .. }) => true,
            Self::Body(Status | Exact { .. } | Label { .. } | Numeric { .. }) => false,
        }
    }
}

/// One of two answers.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Status; 0 if there was none.
    pub status: u16,
    /// The backend failed: it answered 5xx, broke off, was too slow, or could not be reached.
    pub failed: bool,
    /// Its body.
    pub body: Body<'a>,
}

/// A body, as far as it was kept.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// All of it.
    Whole(BodyKind, &'a [u8]),
    /// Not kept.
    Missing(Missing),
}

/// Why a body was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is compressed.
    Encoded,
    /// It is longer than may be kept.
    TooLong,
    /// Other answers took all the room there is for answers.
    NoRoom,
    /// Nobody needed it.
    Unwanted,
}

/// Why a pair shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The client left before it had all of its answer.
    ClientLeft,
    /// The live answer ended in the gateway: its own cap, a panic, a shutdown.
    Gateway,
    /// Both failed.
    BothFailed,
    /// Both refused the request (4xx).
    BothRefused,
    /// A body is compressed, and nothing here decompresses.
    Encoded,
    /// A body is longer than may be kept.
    TooLong,
    /// Other answers took all the room there is for answers.
    NoRoom,
    /// The live answer has nothing at the place that is compared.
    LiveShape,
}

impl Reason {
    /// Every reason, in the order of `as usize`.
    pub const ALL: [Self; 8] = [
        Self::ClientLeft,
        Self::Gateway,
        Self::BothFailed,
        Self::BothRefused,
        Self::Encoded,
        Self::TooLong,
        Self::NoRoom,
        Self::LiveShape,
    ];

    /// The name in the API and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientLeft => "client_left",
            Self::Gateway => "gateway",
            Self::BothFailed => "both_failed",
            Self::BothRefused => "both_refused",
            Self::Encoded => "encoded",
            Self::TooLong => "too_long",
            Self::NoRoom => "no_room",
            Self::LiveShape => "live_shape",
        }
    }
}

/// What tells two answers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// What is compared of their bodies.
    Content,
    /// The copy has nothing at the place that is compared.
    CopyShape,
    /// One refused the request (4xx), or redirected it, and the other did not.
    Status,
    /// The copy failed and the live answer did not.
    CopyFailed,
    /// The live answer failed and the copy did not.
    LiveFailed,
}

impl Cause {
    /// Every cause, in the order of `as usize`.
    pub const ALL: [Self; 5] =
        [Self::Content, Self::CopyShape, Self::Status, Self::CopyFailed, Self::LiveFailed];

    /// The name in the API and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::CopyShape => "copy_shape",
            Self::Status => "status",
            Self::CopyFailed => "copy_failed",
            Self::LiveFailed => "live_failed",
        }
    }
}

/// What became of a pair.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// They agree; how much, where bodies were looked at.
    Agree(Option<Agreement>),
    /// They do not.
    Differ(Cause, Option<Agreement>),
    /// Nothing can be said.
    NotComparable(Reason),
}

/// Compares a copy's answer with the live one.
pub fn compare(how: &How, live: &Side<'_>, copy: &Side<'_>) -> Found {
    match (live.failed, copy.failed) {
        (true, true) => return Found::NotComparable(Reason::BothFailed),
        (false, true) => return Found::Differ(Cause::CopyFailed, None),
        (true, false) => return Found::Differ(Cause::LiveFailed, None),
        (false, false) => {}
    }
    let class = |status: u16| status / 100;
    if class(live.status) != class(copy.status) {
        return Found::Differ(Cause::Status, None);
    }
    if *how == How::Status {
        return Found::Agree(None);
    }
    if class(live.status) == 4 {
        return Found::NotComparable(Reason::BothRefused);
    }
    let (of_live, of_copy) = match (Read::of(&live.body), Read::of(&copy.body)) {
        (Ok(live), Ok(copy)) => (live, copy),
        (Err(reason), _) | (_, Err(reason)) => return Found::NotComparable(reason),
    };
    let found = match how {
        How::Status => return Found::Agree(None),
        How::Body(comparison) => comparison.compare(
            answer(live.status, of_live.content()),
            answer(copy.status, of_copy.content()),
        ),
        How::Said { at_least } => {
            let comparison =
                agreement::Comparison::Text { pointer: String::new(), at_least: *at_least };
            compare_said(&comparison, &of_live, &of_copy)
        }
        How::SaidLabel => {
            let comparison = agreement::Comparison::Label { pointer: String::new() };
            compare_said(&comparison, &of_live, &of_copy)
        }
    };
    match found {
        Ok(agreement) if agreement.agrees => Found::Agree(Some(agreement)),
        Ok(agreement) => Found::Differ(Cause::Content, Some(agreement)),
        Err(Unusable::Live) => Found::NotComparable(Reason::LiveShape),
        Err(Unusable::Copy) => Found::Differ(Cause::CopyShape, None),
    }
}

fn answer(status: u16, body: Content<'_>) -> agreement::Answer<'_> {
    agreement::Answer { status, body }
}

fn compare_said(
    comparison: &agreement::Comparison,
    live: &Read<'_>,
    copy: &Read<'_>,
) -> Result<Agreement, Unusable> {
    let live = live.said().ok_or(Unusable::Live)?;
    let copy = copy.said().ok_or(Unusable::Copy)?;
    let trimmed = |text: &str| text.trim().to_owned();
    let (live, copy) = (trimmed(&live), trimmed(&copy));
    let (live, copy) = (Content::Bytes(live.as_bytes()), Content::Bytes(copy.as_bytes()));
    comparison.compare(answer(200, live), answer(200, copy))
}

/// A body as it is compared.
enum Read<'a> {
    Json(Value),
    Bytes(Cow<'a, [u8]>),
}

impl<'a> Read<'a> {
    fn of(body: &Body<'a>) -> Result<Self, Reason> {
        let (kind, bytes) = match body {
            Body::Whole(kind, bytes) => (*kind, *bytes),
            Body::Missing(Missing::Encoded) => return Err(Reason::Encoded),
            Body::Missing(Missing::TooLong) => return Err(Reason::TooLong),
            Body::Missing(Missing::NoRoom | Missing::Unwanted) => return Err(Reason::NoRoom),
        };
        Ok(match kind {
            BodyKind::EventStream => match stream::assemble(bytes) {
                stream::Assembled::Answer(value) => Self::Json(value),
                stream::Assembled::Data(data) => Self::Bytes(Cow::Owned(data)),
            },
            // Many servers forget to say that it is JSON.
            BodyKind::Json | BodyKind::Other => match serde_json::from_slice(bytes) {
                Ok(value) => Self::Json(value),
                Err(_) => Self::Bytes(Cow::Borrowed(bytes)),
            },
        })
    }

    fn content(&self) -> Content<'_> {
        match self {
            Self::Json(value) => Content::Json(value),
            Self::Bytes(bytes) => Content::Bytes(bytes),
        }
    }

    /// What the model said; of an answer of no known API all of it, if it is text.
    fn said(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Json(value) => said(value).map(Cow::Owned),
            Self::Bytes(bytes) => Some(String::from_utf8_lossy(bytes)),
        }
    }
}

/// What of a body may be shown to somebody who is allowed to see payloads: streams put together, without
/// credentials and without what stands at `also` (JSON pointers). `None` of a body that was not kept
/// or is no text.
pub fn shown(body: &Body<'_>, also: &[String]) -> Option<String> {
    match Read::of(body).ok()? {
        Read::Json(mut value) => {
            redact::json(&mut value, also);
            Some(value.to_string())
        }
        // Where places are named and there are none, nothing says what would stand there.
        Read::Bytes(_) if !also.is_empty() => None,
        Read::Bytes(bytes) => std::str::from_utf8(&bytes).ok().map(redact::text),
    }
}

#[cfg(test)]
mod tests;
