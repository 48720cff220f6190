//! Two answers to one request, on their way from a worker to whoever compares them.

use std::sync::Arc;
use std::time::Duration;

use policies::comparison::{self, Measured, Reason};

use super::kept::KeptBody;
use super::known::Known;
use crate::config::plan::Compare;
use crate::names::Name;

/// Times of one answer, from the moment when its request was on a connection: neither the queue of
/// copies nor a handshake is in them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// To the head of the answer.
    pub first_byte: Option<Duration>,
    /// To the first piece of the body of an event stream.
    pub first_piece: Option<Duration>,
    /// To the end. `None` too if the client was slower than the backend.
    pub end: Option<Duration>,
}

/// One answer.
#[derive(Debug)]
pub struct Side {
    /// Status; 0 if there was no whole answer.
    pub status: u16,
    /// Whether the backend failed.
    pub failed: bool,
    /// Times.
    pub times: Times,
    /// Its body.
    pub body: KeptBody,
}

impl Side {
    /// As it is compared.
    pub fn compared(&self) -> comparison::Side<'_> {
        let Self { status, failed, times: _, body } = self;
        comparison::Side { status: *status, failed: *failed, body: body.body() }
    }
}

/// The answer that the client got.
#[derive(Debug)]
pub struct Live {
    /// The answer.
    pub side: Side,
    /// Why it shows nothing, if so.
    pub void: Option<Reason>,
    /// Who gave it; empty if nobody was asked.
    pub backend: Name,
    /// The request's id.
    pub request_id: [u8; 16],
    /// When its head was there, microseconds since 1970.
    pub started: i64,
}

/// A pair.
#[derive(Debug)]
pub struct Pair {
    /// Whose it is.
    pub shadow: Arc<Known>,
    /// Revision and subject when the request came: counted only if they still are.
    pub revision: u64,
    /// The subject.
    pub subject: Arc<str>,
    /// How.
    pub compare: Arc<Compare>,
    /// What the client got.
    pub live: Arc<Live>,
    /// What the copy got.
    pub copy: Side,
    /// What was asked, where disagreements are kept.
    pub request: Option<KeptBody>,
}

impl Pair {
    /// As it is counted.
    pub fn measured(&self) -> Measured<'_> {
        let (live, copy) = (&self.live.side, &self.copy);
        let both = |of: fn(&Times) -> Option<Duration>| {
            let (live, copy) = (of(&live.times)?, of(&copy.times)?);
            Some((live.as_secs_f64(), copy.as_secs_f64()))
        };
        Measured {
            live: live.compared(),
            copy: copy.compared(),
            void: self.live.void,
            backend: self.live.backend,
            first_byte: both(|times| times.first_byte),
            first_piece: both(|times| times.first_piece),
            end: both(|times| times.end),
        }
    }
}
