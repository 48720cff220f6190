//! The answer that a client gets, watched as it passes, and its meeting with the answer to a copy.
//!
//! Only requests that are copied are watched. A [`Watch`] sees each piece when it is given out anyway,
//! copies it within bounds if bodies are compared, and has nothing that could fail. The two sides of a
//! pair meet on their one worker: when both have let go of the [`Meeting`], in whichever order, the
//! pair is handed on, if both answers came.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use policies::comparison::{Missing, Reason};
use policies::outcome::Outcome;
use policies::usage::BodyKind;

use crate::clock;
use crate::comparison::kept::KeptBody;
use crate::comparison::known::Known;
use crate::comparison::pair::{Live, Pair, Side, Times};
use crate::config::plan::Compare;
use crate::names::Name;
use crate::snapshot::ShadowPlan;
use crate::worker::Worker;

/// Hundredths of an answer's time for which its client may hold it up, before the end says more about
/// the client than about the backend.
const HELD_UP: u32 = 5;

/// Where the two answers to one request meet.
pub struct Meeting {
    worker: Rc<Worker>,
    shadow: Arc<Known>,
    revision: u64,
    subject: Arc<str>,
    compare: Arc<Compare>,
    live: OnceCell<Arc<Live>>,
    copy: OnceCell<(Side, Option<KeptBody>)>,
}

impl std::fmt::Debug for Meeting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meeting").field("shadow", &self.shadow.name).finish_non_exhaustive()
    }
}

impl Meeting {
    /// For one copy.
    pub fn new(worker: &Rc<Worker>, plan: &ShadowPlan) -> Rc<Self> {
        Rc::new(Self {
            worker: Rc::clone(worker),
            shadow: Arc::clone(&plan.known),
            revision: plan.known.revision(),
            subject: Arc::clone(&plan.subject),
            compare: Arc::clone(&plan.compare),
            live: OnceCell::new(),
            copy: OnceCell::new(),
        })
    }

    /// Most bytes of an answer that are kept; 0 if none is needed.
    fn body_bytes(&self) -> usize {
        let compare = &self.compare;
        let is_needed = compare.how.reads_bodies() || compare.samples.is_some();
        if is_needed { compare.answer_bytes } else { 0 }
    }

    /// What is kept of the answer behind a head.
    pub fn body_behind(&self, headers: &HeaderMap) -> KeptBody {
        kept_behind(headers, self.body_bytes(), &self.worker)
    }

    /// There is no answer, or none that is kept.
    pub fn no_body(&self) -> KeptBody {
        KeptBody::missing(&self.worker.shared.comparisons.room, Missing::Unwanted)
    }

    /// The copy has its answer, or will not have one. `request` is what was asked.
    pub fn copy_came(&self, side: Side, request: Option<&[u8]>) {
        let room = &self.worker.shared.comparisons.room;
        let request = request
            .filter(|_| self.compare.samples.is_some())
            .map(|body| KeptBody::whole(body, self.compare.answer_bytes, room));
        // A copy has one answer.
        let _ = self.copy.set((side, request));
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        // A copy that was never sent is no pair; it is counted where it was dropped.
        let (Some(live), Some((copy, request))) = (self.live.take(), self.copy.take()) else {
            return;
        };
        self.worker.shared.comparisons.offer(Pair {
            shadow: Arc::clone(&self.shadow),
            revision: self.revision,
            subject: Arc::clone(&self.subject),
            compare: Arc::clone(&self.compare),
            live,
            copy,
            request,
        });
    }
}

fn kept_behind(headers: &HeaderMap, most: usize, worker: &Worker) -> KeptBody {
    let room = &worker.shared.comparisons.room;
    if most == 0 {
        return KeptBody::missing(room, Missing::Unwanted);
    }
    KeptBody::behind(headers, most, room)
}

/// Whether what comes behind a head is an event stream.
pub fn is_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(http::header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    BodyKind::of_content_type(content_type) == BodyKind::EventStream
}

/// Watches the answer to a request that is copied.
#[derive(Debug)]
pub struct Watch {
    meetings: Vec<Rc<Meeting>>,
    body: Option<KeptBody>,
    is_stream: bool,
    first_piece: Option<Instant>,
    // Since when a piece that was given out is not asked after, and how long that took in all.
    given: Option<Instant>,
    held: Duration,
}

/// What the request's record knows in the end.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Status that the client got.
    pub status: u16,
    /// Who answered.
    pub backend: Option<Name>,
    /// Its id.
    pub request_id: [u8; 16],
    /// When it came, nanoseconds since 1970.
    pub started_unix_nanos: u64,
    /// When the request was on its connection, with all of its body.
    pub sent: Option<Instant>,
    /// When the head of the answer came.
    pub first_byte: Option<Instant>,
    /// When all was over.
    pub over: Instant,
}

impl Watch {
    /// For the copies of one request.
    pub fn new(meetings: Vec<Rc<Meeting>>) -> Box<Self> {
        Box::new(Self {
            meetings,
            body: None,
            is_stream: false,
            first_piece: None,
            given: None,
            held: Duration::ZERO,
        })
    }

    /// Copies that were dropped are waited for no longer; whether any is left.
    pub fn settle(&mut self) -> bool {
        self.meetings
            .retain(|meeting| Rc::strong_count(meeting) > 1 || meeting.copy.get().is_some());
        !self.meetings.is_empty()
    }

    /// The head of the answer, as the backend sent it.
    pub fn head(&mut self, headers: &HeaderMap) {
        self.is_stream = is_stream(headers);
        let most = self.meetings.iter().map(|meeting| meeting.body_bytes()).max().unwrap_or(0);
        self.body = self.meetings.first().map(|first| kept_behind(headers, most, &first.worker));
    }

    /// The client takes the next piece.
    pub fn asked(&mut self) {
        if let Some(given) = self.given.take() {
            self.held += clock::now().saturating_duration_since(given);
        }
    }

    /// A piece goes to the client at `now`.
    pub fn piece(&mut self, data: &[u8], now: Instant) {
        self.given = Some(now);
        self.first_piece.get_or_insert(now);
        if let Some(body) = &mut self.body {
            body.push(data);
        }
    }

    /// The answer is over.
    pub fn over(mut self, ended: &Ended) {
        let Some(first) = self.meetings.first() else { return };
        let void = match ended.outcome {
            Some(Outcome::ClientAborted) => Some(Reason::ClientLeft),
            Some(Outcome::GatewayError) | None => Some(Reason::Gateway),
            Some(
                Outcome::Ok
                | Outcome::ClientError
                | Outcome::UpstreamError
                | Outcome::Timeout
                | Outcome::UpstreamReset,
            ) => None,
        };
        let since = |at: Option<Instant>| Some(at?.saturating_duration_since(ended.sent?));
        let end = since(Some(ended.over)).filter(|end| self.held * 100 <= *end * HELD_UP);
        let body = self.body.take().unwrap_or_else(|| first.no_body());
        let live = Arc::new(Live {
            side: Side {
                status: ended.status,
                failed: ended.outcome.is_some_and(Outcome::is_failure),
                times: Times {
                    first_byte: since(ended.first_byte),
                    first_piece: since(self.first_piece).filter(|_| self.is_stream),
                    end,
                },
                body,
            },
            void,
            backend: ended.backend.unwrap_or_default(),
            request_id: ended.request_id,
            started: i64::try_from(ended.started_unix_nanos / 1_000).unwrap_or(i64::MAX),
        });
        for meeting in self.meetings {
            // An answer ends once.
            let _ = meeting.live.set(Arc::clone(&live));
        }
    }
}
