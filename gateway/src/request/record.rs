//! What happened to one request, written exactly once.
//!
//! [`Record`] is a guard. It moves with the request from its head to its last byte; wherever the
//! request ends (answered, refused, broken off, panicked), the drop counts it, tallies it and hands
//! its row to the recorder. Nothing here waits or locks.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::request;
use policies::outcome::{Flag, Outcome, RejectReason};
use policies::usage::Usage;
use routing::{Assignment, VariantId};
use tokio::sync::oneshot;

use crate::body::{ClientBody, Source};
use crate::clock;
use crate::ids::{IdText, RequestId};
use crate::names::Name;
use crate::recorder::row::{Micros, Protocol, Row};
use crate::recorder::tally::Cell;
use crate::request::admit::Places;
use crate::request::rejection::{Rejection, Told};
use crate::request::shadow::watch::{Ended, Watch};
use crate::request::{Cx, trace};
use crate::server::conn::{Kick, Refusal};
use crate::telemetry::counters::{bump, lower, protocol_index};

mod attempts;

use attempts::Times;

/// Largest leftover of a body that is read so that the connection can go on (T03).
const MOST_DRAINED: u64 = 64 << 10;

/// The record of one request.
pub struct Record {
    cx: Cx,
    // Taken when it is over.
    row: Option<Box<Row>>,
    started: Instant,
    // When the head of the response came.
    answered: Instant,
    ahead: usize,
    /// The client's body, until somebody reads it.
    pub body: Option<ClientBody>,
    /// The client's body, once somebody does.
    pub source: Option<Rc<Source>>,
    /// Whether the client waits for a `100 Continue`.
    pub expects_continue: bool,
    grpc: bool,
    /// Whether the caller may see which variant served.
    pub inspect: bool,
    // Route, and the variant if an experiment took the request.
    place: Option<(usize, Option<(usize, VariantId)>)>,
    places: Option<Places>,
    counted: bool,
    times: Times,
    // Of a request that is copied.
    watch: Option<Box<Watch>>,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("row", &self.row).finish_non_exhaustive()
    }
}

/// Cut at a boundary of characters.
pub fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl Record {
    /// Begins with the head.
    pub fn open(cx: &Cx, head: &request::Parts, body: ClientBody) -> Self {
        let worker = &cx.worker;
        let started = clock::now();
        let wall = worker.wall_at(started);
        let id = RequestId::new(wall, fastrand::u64(..));
        let mut row = worker.shared.recorder.take_row(worker.id);
        row.request_id = id.0;
        row.started_unix_nanos = wall;
        row.peer = cx.conn.peer;
        row.client = cx.conn.peer.ip();
        row.protocol = match head.version {
            http::Version::HTTP_10 => Protocol::Http10,
            http::Version::HTTP_2 => Protocol::Http2,
            _ => Protocol::Http11,
        };
        row.tls_version = cx.conn.tls_version;
        row.tls_cipher = cx.conn.tls_cipher;
        row.t_header = Micros::of(cx.conn.head_took.get());
        row.method.push_str(cut(head.method.as_str(), 32));
        let ahead = worker.shared.in_use.requests.fetch_add(1, Relaxed);
        bump(&worker.counters().in_flight, 1);
        Self {
            cx: cx.clone(),
            row: Some(row),
            started,
            answered: started,
            ahead,
            body: Some(body),
            source: None,
            expects_continue: false,
            grpc: false,
            inspect: false,
            place: None,
            places: None,
            counted: false,
            times: Times::default(),
            watch: None,
        }
    }

    /// The row while the request runs. After the end: a spare one that nobody reads.
    #[expect(
        clippy::expect_used,
        reason = "the row is taken only by `end`, which consumes or drops"
    )]
    pub fn row(&mut self) -> &mut Row {
        self.row.as_deref_mut().expect("the request is not over")
    }

    /// Requests that were in flight in the process when this one came.
    pub fn ahead(&self) -> usize {
        self.ahead
    }

    /// Id of the request.
    pub fn id(&self) -> RequestId {
        RequestId(self.row.as_ref().map_or([0; 16], |row| row.request_id))
    }

    /// Its text.
    pub fn id_text(&self) -> IdText {
        self.id().text()
    }

    /// Canonical path, for the shape of an error.
    pub fn path(&self) -> &str {
        self.row.as_ref().map_or("", |row| &row.path)
    }

    /// `application/grpc` if the client speaks gRPC.
    pub fn content_type(&self) -> &'static str {
        if self.grpc { "application/grpc" } else { "" }
    }

    /// The client speaks gRPC.
    pub fn set_grpc(&mut self) {
        self.grpc = true;
    }

    /// Whether the client's connection is HTTP/1.
    pub fn is_http1(&self) -> bool {
        self.row.as_ref().is_some_and(|row| row.protocol != Protocol::Http2)
    }

    /// The request is copied: its answer is watched, unless nobody waits for it.
    pub fn watch(&mut self, watch: Option<Box<Watch>>) {
        self.watch = watch;
    }

    /// Who watches the answer.
    pub fn watched(&mut self) -> Option<&mut Watch> {
        self.watch.as_deref_mut()
    }

    /// Copies are on their way, or were dropped: what is not copied is watched no longer.
    pub fn copies_sent(&mut self) {
        let is_copied = self.watch.as_mut().is_some_and(|watch| watch.settle());
        self.row().shadow = is_copied;
        if !is_copied {
            self.watch = None;
        }
    }

    /// When the head was complete.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The route's place, and whether the caller may see which variant served.
    pub fn route_and_inspect(&self) -> Option<(usize, bool)> {
        self.place.map(|(route, _)| (route, self.inspect))
    }

    /// The request has a caller and a route: whoever refuses it from here on, it is one of this route's.
    pub fn found(&mut self, route: usize) {
        self.place = Some((route, None));
    }

    /// The request has places in every limit.
    pub fn admitted(&mut self, cx: &Cx, route: usize, places: Places) {
        let plan = &cx.snapshot.routes[route];
        self.places = Some(places);
        let row = self.row();
        row.route = Some(plan.name);
        row.pattern = Some(plan.pattern);
        row.request_model = plan.model;
    }

    /// The request is assigned: from here on it has an outcome, and is counted exactly once.
    pub fn assigned(&mut self, cx: &Cx, route: usize, assignment: &Assignment) {
        let worker = &cx.worker;
        let plan = &cx.snapshot.routes[route];
        let variant = assignment.experiment.zip(assignment.variant);
        self.place = Some((route, variant));
        self.counted = true;
        let seq = worker.shared.recorder.next_seq();
        bump(&worker.counters().assigned, 1);
        let row = self.row();
        row.seq = seq;
        row.reason = assignment.reason.as_str();
        row.bucket = assignment.bucket;
        row.unit_hash = assignment.unit_hash;
        row.eligible = assignment.eligible;
        if let Some((experiment, variant)) = variant {
            let experiment = &plan.plans[experiment];
            row.experiment = Some(experiment.name);
            row.revision = experiment.revision;
            row.variant = Some(experiment.variants[usize::from(variant.0)].name);
        }
        if let Some(cell) = self.cell() {
            cell.begin(worker.id, assignment.reason);
        }
    }

    /// The gateway answers this itself, at `pattern`, and it has places in the limits of its key.
    pub fn own(&mut self, pattern: Name, places: Places) {
        self.places = Some(places);
        self.row().pattern = Some(pattern);
    }

    fn cell(&self) -> Option<&Cell> {
        let (route, variant) = self.place.filter(|_| self.counted)?;
        let plan = &self.cx.snapshot.routes[route];
        Some(match variant {
            None => &plan.cell,
            Some((experiment, variant)) => {
                &plan.plans[experiment].variants[usize::from(variant.0)].cell
            }
        })
    }

    /// Another variant serves than the one assigned (F08).
    pub fn served_by(&mut self, variant: Name) {
        self.row().served = Some(variant);
    }

    /// The limits of the caller's key, if it has any.
    pub fn key_state(&self) -> Option<&crate::limits::KeyState> {
        self.places.as_ref()?.key.as_deref()
    }

    /// What the answer said about tokens.
    pub fn usage(&mut self, usage: Usage) {
        let row = self.row();
        row.input_tokens = usage.input_tokens;
        row.output_tokens = usage.output_tokens;
        if usage.output_tokens.is_none() && usage.content_events > 0 && !usage.complete {
            // The stream stopped before it said; what passed is the best count (T30).
            row.output_tokens = Some(usage.content_events);
            row.tokens_estimated = true;
        }
        if let Some(reason) = usage.finish_reason {
            row.finish_reason.push_str(cut(&reason, 64));
        }
        if let Some(model) = usage.response_model {
            row.response_model.push_str(cut(&model, 128));
        }
    }

    /// The request is refused. If it was assigned before, it is a failed outcome, else a rejection.
    pub fn rejected(&mut self, rejection: &Rejection, told: &Told) {
        let counted = self.counted;
        let row = self.row();
        row.status = told.status.as_u16();
        row.flag = (told.flag != Flag::None).then_some(told.flag);
        if counted {
            row.outcome = Some(told.outcome);
        } else {
            let reason = told.reason.unwrap_or(RejectReason::Overloaded);
            row.rejected = Some(reason);
            let protocol = protocol_index(row.protocol);
            bump(&self.cx.worker.counters().rejected[reason.index()][protocol], 1);
            if let Some((route, _)) = self.place {
                self.cx.snapshot.routes[route].cell.refused(self.cx.worker.id);
            }
        }
        if matches!(rejection, Rejection::Refused(Refusal::HeaderTimeout)) {
            self.row().t_header = Micros::NONE;
        }
    }

    /// The head of the answer: status for the client.
    pub fn status(&mut self, status: u16) {
        self.row().status = status;
    }

    /// The body names `model`: kept if it is a configured name, so that no text of a client gets into
    /// names or labels.
    pub fn model(&mut self, model: &str) {
        let known = self.cx.snapshot.models.get(model).copied();
        self.row().request_model.get_or_insert(known.unwrap_or("_other"));
    }

    /// The answer ended: `outcome`, and whether the body was whole.
    pub fn ended(&mut self, outcome: Outcome, flag: Option<Flag>, complete: bool) {
        let row = self.row();
        row.outcome = Some(outcome);
        row.flag = flag.or(row.flag);
        row.complete = complete;
    }

    /// The answer ended in a panic of ours (F27).
    pub fn panicked(&mut self) {
        self.row().status = 500;
        self.ended(Outcome::GatewayError, None, false);
    }

    /// Reads what is left of a small body that nobody wanted, so that the connection can go on. A
    /// client that waits for `100 Continue` has sent nothing and is not asked to.
    pub async fn drain_body(&mut self) {
        let Some(mut body) = self.body.take() else { return };
        let small = body.size_hint().exact().is_some_and(|length| length <= MOST_DRAINED);
        // On HTTP/2 too: a stream that ends with its body unread is reset, with NO_ERROR, and there are
        // clients that take that for a failure.
        if !small || self.expects_continue {
            return;
        }
        let drained = std::future::poll_fn(|cx| {
            loop {
                match std::task::ready!(body.poll_frame(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return std::task::Poll::Ready(()),
                }
            }
        });
        let _ = tokio::time::timeout(Duration::from_secs(1), drained).await;
    }

    /// Ends the record and gives a signal for when its row is on stable storage (D2 `sync`). Without
    /// a row to store the signal is there at once.
    pub fn end_durable(&mut self) -> oneshot::Receiver<bool> {
        let (ack, stored) = oneshot::channel();
        self.end(Some(ack));
        stored
    }

    fn end(&mut self, ack: Option<oneshot::Sender<bool>>) {
        let Some(mut row) = self.row.take() else { return };
        let worker = Rc::clone(&self.cx.worker);
        let counters = worker.counters();
        let now = self.times.over.unwrap_or_else(clock::now);
        let conn = &self.cx.conn;

        worker.shared.in_use.requests.fetch_sub(1, Relaxed);
        lower(&counters.in_flight, 1);
        conn.busy.set(conn.busy.get() - 1);
        conn.quiet_since.set(now);

        let unsaid = row.outcome.is_none() && row.rejected.is_none();
        if unsaid && (row.status == 0 || self.counted) {
            self.left_early(&mut row);
        }
        self.take_times(&mut row, now);
        // One that was refused before its caller was known has a trace all the same.
        trace::begin_if_none(self.cx.snapshot.sample_ratio, &mut row);
        if let Some(source) = &self.source {
            row.request_bytes = source.bytes.get();
        }
        if let (Some(state), Some(tokens)) = (
            self.places.as_ref().and_then(|places| places.key.as_ref()),
            row.input_tokens.unwrap_or(0).checked_add(row.output_tokens.unwrap_or(0)),
        ) && let Some(limit) = &state.tokens
            && tokens > 0
        {
            // A backend's word; an absurd one must not lock the key for ever.
            limit.charge(worker.shared.backends.nanos(), tokens.min(100_000_000));
        }
        if let Some(cell) = self.cell() {
            if row.stream {
                cell.stream_closed(worker.id);
            }
            if let Some(outcome) = row.outcome {
                cell.add(worker.id, &row, outcome);
            }
        }
        if self.cx.snapshot.sample_errors
            && row.outcome.is_some_and(|o| o.is_failure() || o == Outcome::GatewayError)
        {
            // Decided at the end, from timestamps that are kept anyway.
            row.sampled = true;
        }
        self.places = None;
        if let Some(watch) = self.watch.take() {
            watch.over(&Ended {
                outcome: row.outcome,
                status: row.status,
                backend: row.backend,
                request_id: row.request_id,
                started_unix_nanos: row.started_unix_nanos,
                sent: self.sent_at(self.source.as_ref().and_then(|source| source.ended.get())),
                first_byte: self.first_byte_at(),
                over: now,
            });
        }
        worker.shared.recorder.finish(worker.id, counters, row, ack);
    }

    /// Nobody said how it ended: the client left, we cut it, or a panic unwinds.
    fn left_early(&self, row: &mut Row) {
        let conn = &self.cx.conn;
        let shared = &self.cx.worker.shared;
        let (outcome, flag, status) = if std::thread::panicking() || conn.panicked.get() {
            (Outcome::GatewayError, Flag::None, 500)
        } else if shared.closing_now.load(Relaxed) {
            // The end of the drain. Who had the head of an answer had its status.
            if !self.counted {
                let reason = RejectReason::Draining;
                row.rejected = Some(reason);
                let protocol = protocol_index(row.protocol);
                bump(&self.cx.worker.counters().rejected[reason.index()][protocol], 1);
            }
            (Outcome::GatewayError, Flag::LocalReset, row.upstream_status)
        } else if matches!(conn.kick.get(), Some(Kick::Stuck)) {
            (Outcome::ClientAborted, Flag::LocalReset, 499)
        } else {
            (Outcome::ClientAborted, Flag::ClientAborted, 499)
        };
        row.status = status;
        row.flag = (flag != Flag::None).then_some(flag);
        if self.counted {
            row.outcome = Some(outcome);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// Whether anybody is at work on this worker: for tests of slots being given back.
pub fn in_flight(worker: &crate::worker::Worker) -> u64 {
    worker.counters().in_flight.load(Relaxed)
}
