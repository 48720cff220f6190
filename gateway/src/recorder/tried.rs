//! Attempts before the last one, as they are kept with an outcome: few requests have any.

use std::borrow::Cow;
use std::net::SocketAddr;

use policies::outcome::Flag;
use serde::{Deserialize, Serialize};

use super::row::{Attempt, Micros, Row};
use crate::ids::hex;
use crate::names::intern;

/// One attempt that another one followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried<'a> {
    /// Backend.
    pub backend: Option<Cow<'a, str>>,
    /// Address.
    pub endpoint: Option<SocketAddr>,
    /// Whether it used a connection that was there.
    pub reused: bool,
    /// Why it failed, as `error.type` has it; `None`: the status it got.
    pub error: Option<Cow<'a, str>>,
    /// End of the head to its beginning, microseconds.
    pub began: Option<u64>,
    /// End of the head to its end, microseconds.
    pub ended: Option<u64>,
    /// Its span, 16 hex digits.
    pub span_id: Cow<'a, str>,
}

impl Tried<'_> {
    fn of(attempt: &Attempt) -> Self {
        Self {
            backend: attempt.backend.map(Cow::from),
            endpoint: attempt.endpoint,
            reused: attempt.reused,
            error: attempt.failed.and_then(Flag::error_type).map(Cow::from),
            began: attempt.began.get(),
            ended: attempt.ended.get(),
            span_id: hex(&attempt.span_id).into(),
        }
    }

    /// Those of a row, the first first.
    pub fn all(row: &Row) -> Vec<Self> {
        row.earlier().iter().map(Self::of).collect()
    }

    fn attempt(&self) -> Attempt {
        let micros = |micros: Option<u64>| micros.map_or(Micros::NONE, Micros::from_micros);
        let error = self.error.as_deref();
        let failed =
            Flag::ALL.into_iter().find(|flag| error.is_some() && flag.error_type() == error);
        Attempt {
            span_id: u64::from_str_radix(&self.span_id, 16).unwrap_or(0).to_be_bytes(),
            backend: self.backend.as_deref().map(intern),
            endpoint: self.endpoint,
            reused: self.reused,
            failed,
            began: micros(self.began),
            ended: micros(self.ended),
        }
    }

    /// Gives a row that is read back the attempts it had.
    pub fn give(tried: &[Self], row: &mut Row) {
        row.spans.earlier.clear();
        tried.iter().for_each(|tried| row.add_earlier(tried.attempt()));
    }
}
