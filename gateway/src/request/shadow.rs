//! Copies of requests to shadow backends. No client sees their answers, and nothing about them can
//! delay, alter or fail what a client is answered (hardening T26).
//!
//! A copy has its own connections, its own places and its own queue; when there is no room it is
//! dropped and counted. Its answer is read to the end, timed, laid beside the client's
//! (`shadow/watch.rs`), and thrown away.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use policies::outcome::{Flag, Outcome};
use policies::usage::{BodyKind, UsageReader};

use crate::backends::connect::ConnectError;
use crate::backends::h1::H1Body;
use crate::backends::pool::Lease;
use crate::backends::{Backend, ShadowResult, balance};
use crate::clock;
use crate::comparison::kept::KeptBody;
use crate::comparison::pair::{Side, Times};
use crate::recorder::row::{Micros, Row};
use crate::recorder::tally::TallyKey;
use crate::request::dispatch::{head_for, outgoing, rewritten};
use crate::request::read_head::{Head, Payload};
use crate::request::record::cut;
use crate::request::stream_back::{grpc_status, outcome_of_grpc};
use crate::request::{Cx, Record, trace};
use crate::snapshot::{RoutePlan, ShadowPlan, names};
use crate::telemetry::counters::{bump, lower};

pub mod gate;
pub mod watch;

use gate::{Entry, Place};
use watch::{Meeting, Watch};

/// Most bytes of one answer to a copy that are read (T26). Far above what a model says; what is
/// larger is broken off and counted as an error.
const MOST_READ: usize = 64 << 20;

/// gRPC's code of a call of which nobody said how it ended.
const GRPC_UNKNOWN: u16 = 2;

struct Job {
    cx: Cx,
    route: usize,
    shadow: usize,
    head: Head,
    trace: Option<Parent>,
    meeting: Rc<Meeting>,
}

/// The trace that a copy belongs to, if its request is sampled.
#[derive(Clone, Copy, Debug)]
struct Parent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    random: bool,
}

/// Copies of one request, decided and not yet sent.
#[derive(Debug, Default)]
pub struct Copies(Option<Box<Forked>>);

/// What the copies are made of, which shadows get one and where each meets the client's answer, and
/// their trace if the request is sampled.
type Forked = (Head, Vec<(usize, Rc<Meeting>)>, Option<Parent>);

/// Decides which shadows get a copy, keeps what they need, and has the answer watched. Costs nothing
/// where none does.
pub fn fork(cx: &Cx, route: &RoutePlan, head: &Head, record: &mut Record) -> Copies {
    if route.shadows.is_empty() || head.upgrade {
        return Copies::default();
    }
    let chosen: Vec<usize> = (0..route.shadows.len())
        .filter(|&at| policies::shadow::copies(route.shadows[at].share, fastrand::u64(..)))
        .collect();
    if chosen.is_empty() {
        return Copies::default();
    }
    if head.is_copy {
        chosen.iter().for_each(|&at| count(cx, &route.shadows[at], ShadowResult::DroppedPolicy));
        return Copies::default();
    }
    let mut headers = head.headers.clone();
    policies::headers::strip_for_shadow(&mut headers);
    headers.insert(&names::SHADOW, http::HeaderValue::from_static("1"));
    let payload = match &head.payload {
        Payload::Whole(body, peeked) => Payload::Whole(body.clone(), peeked.clone()),
        Payload::Streaming(source, length) => Payload::Streaming(Rc::clone(source), *length),
        Payload::Empty | Payload::Unread => Payload::Empty,
    };
    let copy = Head {
        method: head.method.clone(),
        host: head.host.clone(),
        authority: None,
        path: head.path.clone(),
        query: head.query.clone(),
        headers,
        seen: head.seen,
        added: head.added.clone(),
        forced: crate::request::read_head::Forced::No,
        is_copy: true,
        trusted: false,
        trace: None,
        trace_state: None,
        upgrade: false,
        payload,
    };
    let row = record.row();
    let parent = row.sampled.then_some(Parent {
        trace_id: row.trace_id,
        span_id: row.span_id,
        random: row.spans.random,
    });
    let meetings: Vec<(usize, Rc<Meeting>)> =
        chosen.into_iter().map(|at| (at, Meeting::new(&cx.worker, &route.shadows[at]))).collect();
    let watching = meetings.iter().map(|(_, meeting)| Rc::clone(meeting)).collect();
    record.watch(Some(Watch::new(watching)));
    Copies(Some(Box::new((copy, meetings, parent))))
}

/// Sends copies aside. Called when the client's own request has its answer or has failed, so that a
/// streamed body is known whole by then, or is known to be too large.
pub fn send(cx: &Cx, route: usize, copies: Copies, record: &mut Record) {
    let Copies(Some(copies)) = copies else { return };
    send_all(cx, route, *copies);
    record.copies_sent();
}

fn send_all(cx: &Cx, route: usize, copies: Forked) {
    let (head, chosen, trace) = copies;
    let plan = &cx.snapshot.routes[route];
    let whole = match &head.payload {
        Payload::Streaming(source, _) => match source.whole() {
            Some(body) => Some(Payload::Whole(body, Default::default())),
            None => {
                for (at, _) in chosen {
                    count(cx, &plan.shadows[at], ShadowResult::DroppedBody);
                }
                return;
            }
        },
        Payload::Unread | Payload::Empty | Payload::Whole(..) => None,
    };
    let head = match whole {
        Some(payload) => Head { payload, ..head },
        None => head,
    };
    for (shadow, meeting) in chosen {
        let copy = copy_of(&head);
        submit(Job { cx: cx.clone(), route, shadow, head: copy, trace, meeting });
    }
}

fn copy_of(head: &Head) -> Head {
    let payload = match &head.payload {
        Payload::Whole(body, peeked) => Payload::Whole(body.clone(), peeked.clone()),
        Payload::Streaming(..) | Payload::Empty | Payload::Unread => Payload::Empty,
    };
    Head {
        method: head.method.clone(),
        host: head.host.clone(),
        authority: None,
        path: head.path.clone(),
        query: head.query.clone(),
        headers: head.headers.clone(),
        seen: head.seen,
        added: head.added.clone(),
        forced: crate::request::read_head::Forced::No,
        is_copy: true,
        trusted: false,
        trace: None,
        trace_state: None,
        upgrade: false,
        payload,
    }
}

fn count(cx: &Cx, shadow: &ShadowPlan, result: ShadowResult) {
    let backend = &cx.snapshot.backends[shadow.backend];
    bump(&backend.life.counts[cx.worker.id].shadows[result as usize], 1);
}

fn submit(job: Job) {
    let plan = &job.cx.snapshot.routes[job.route].shadows[job.shadow];
    match plan.gate.enter() {
        Entry::Runs(place) => start(place, job),
        Entry::Waits(turn) => {
            tokio::task::spawn_local(async move {
                let place = turn.come().await;
                start(place, job);
            });
        }
        Entry::Full => count(&job.cx, plan, ShadowResult::DroppedQueue),
    }
}

fn start(place: Place, mut job: Job) {
    let open = Open::begin(&job);
    tokio::task::spawn_local(async move {
        let (_place, _open) = (place, open);
        let mut span = begin_span(&mut job);
        // An id of its own: the backend must not take it for the request that it copies.
        let id = crate::ids::RequestId::new(clock::unix_nanos(), fastrand::u64(..));
        if let Some(value) = job.cx.worker.header_of(id.text().as_str().as_bytes()) {
            job.head.headers.insert(&names::REQUEST_ID, value);
        }
        let plan = &job.cx.snapshot.routes[job.route].shadows[job.shadow];
        let began = clock::now();
        let reached = Cell::new(None);
        let ended = tokio::time::timeout(plan.timeout, run(&job, plan, &reached))
            .await
            .unwrap_or(Err(Flag::UpstreamTimeout));
        let took = began.elapsed();
        let outcome = ended.as_ref().map_or(Outcome::UpstreamError, |answer| answer.outcome);
        let status = ended.as_ref().map_or(0, |answer| answer.status);
        let tokens = ended.as_ref().ok().and_then(|answer| answer.tokens);
        let result = if outcome.is_failure() { ShadowResult::Error } else { ShadowResult::Ok };
        count(&job.cx, plan, result);
        tally(&job, plan, took, status, tokens, outcome);
        let failed = ended.as_ref().err().copied();
        let (times, body) = match ended {
            Ok(answer) => (answer.times, answer.body),
            Err(_) => (Times::default(), job.meeting.no_body()),
        };
        let side = Side { status, failed: outcome.is_failure(), times, body };
        job.meeting.copy_came(side, job.head.payload.whole());
        if let Some(mut row) = span.take() {
            row.backend = Some(job.cx.snapshot.backends[plan.backend].name);
            if let Some((address, reused)) = reached.get() {
                row.endpoint = Some(address);
                row.reused = reused;
            }
            row.upstream_status = status;
            row.spans.failed = failed;
            row.t_total = Micros::of(took);
            job.cx.worker.shared.recorder.copy_ended(job.cx.worker.id, row);
        }
    });
}

/// Makes the copy of a sampled request a span of its own, whose id its backend is told: the row that
/// the span is made from when the copy is over.
fn begin_span(job: &mut Job) -> Option<Box<Row>> {
    let parent = job.trace?;
    let worker = &job.cx.worker;
    let mut row = worker.shared.recorder.take_row(worker.id);
    row.spans.copy = true;
    row.spans.random = parent.random;
    row.sampled = true;
    row.trace_id = parent.trace_id;
    row.parent_span_id = parent.span_id;
    row.span_id = fastrand::u64(1..).to_be_bytes();
    row.started_unix_nanos = clock::unix_nanos();
    row.method.push_str(cut(job.head.method.as_str(), 32));
    job.head.added.traceparent = Some(trace::traceparent(&row, row.span_id));
    Some(row)
}

/// Counts a copy under way until it is dropped.
struct Open {
    backend: Arc<Backend>,
    worker: usize,
}

impl Open {
    fn begin(job: &Job) -> Self {
        let cx = &job.cx;
        let shadow = &cx.snapshot.routes[job.route].shadows[job.shadow];
        let backend = Arc::clone(&cx.snapshot.backends[shadow.backend]);
        bump(&backend.life.counts[cx.worker.id].shadows_open, 1);
        Self { backend, worker: cx.worker.id }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        lower(&self.backend.life.counts[self.worker].shadows_open, 1);
    }
}

/// Counts of a copy go to tallies of their own, never to a variant's.
fn tally(
    job: &Job,
    plan: &ShadowPlan,
    took: Duration,
    status: u16,
    tokens: Option<u64>,
    outcome: Outcome,
) {
    let worker = &job.cx.worker;
    let route = &job.cx.snapshot.routes[job.route];
    let key = TallyKey { route: route.name, experiment: plan.name, revision: 0, variant: "shadow" };
    let row = Row {
        t_total: Micros::of(took),
        output_tokens: tokens,
        upstream_status: status,
        ..Row::default()
    };
    worker.shared.shadow_tallies.cell(key).add(worker.id, &row, outcome);
}

/// The answer to a copy, whole.
struct Answer {
    status: u16,
    outcome: Outcome,
    tokens: Option<u64>,
    times: Times,
    body: KeptBody,
}

/// An answer that is being read.
struct Reading {
    status: u16,
    sent: Instant,
    first_byte: Instant,
    first_piece: Option<Instant>,
    is_stream: bool,
    grpc: Option<u16>,
    read: usize,
    usage: UsageReader,
    body: KeptBody,
}

impl Reading {
    fn begin(meeting: &Meeting, parts: &http::response::Parts, sent: Instant) -> Self {
        let headers = &parts.headers;
        let content_type = headers.get(http::header::CONTENT_TYPE);
        let content_type = content_type.and_then(|v| v.to_str().ok()).unwrap_or_default();
        let is_grpc = content_type.starts_with("application/grpc");
        Self {
            status: parts.status.as_u16(),
            sent,
            first_byte: clock::now(),
            first_piece: None,
            is_stream: watch::is_stream(headers),
            // Without a word a call has not ended as it should.
            grpc: is_grpc.then(|| grpc_status(headers).unwrap_or(GRPC_UNKNOWN)),
            read: 0,
            usage: UsageReader::new(BodyKind::of_content_type(content_type)),
            body: meeting.body_behind(headers),
        }
    }

    fn frame(&mut self, frame: &hyper::body::Frame<bytes::Bytes>) -> Result<(), Flag> {
        if let Some(fields) = frame.trailers_ref()
            && self.grpc.is_some()
        {
            self.grpc = grpc_status(fields).or(self.grpc);
        }
        let Some(data) = frame.data_ref() else { return Ok(()) };
        if self.is_stream {
            self.first_piece.get_or_insert_with(clock::now);
        }
        self.read += data.len();
        if self.read > MOST_READ {
            return Err(Flag::LocalReset);
        }
        self.usage.feed(data);
        self.body.push(data);
        Ok(())
    }

    fn finish(mut self) -> Answer {
        let since = |at: Instant| at.saturating_duration_since(self.sent);
        let times = Times {
            first_byte: Some(since(self.first_byte)),
            first_piece: self.first_piece.map(since),
            end: Some(since(clock::now())),
        };
        let outcome = match self.grpc {
            Some(code) if self.status == 200 => outcome_of_grpc(code),
            _ => Outcome::of_status(self.status),
        };
        let tokens = self.usage.finish().output_tokens;
        Answer { status: self.status, outcome, tokens, times, body: self.body }
    }
}

/// Sends one copy and reads its answer to the end. Says in `reached` where it went, and whether on an
/// existing connection.
async fn run(
    job: &Job,
    plan: &ShadowPlan,
    reached: &Cell<Option<(SocketAddr, bool)>>,
) -> Result<Answer, Flag> {
    let cx = &job.cx;
    let worker = &cx.worker;
    let backend: &Arc<Backend> = &cx.snapshot.backends[plan.backend];
    let set = backend.life.endpoints.load_full();
    let endpoint = balance::choose_aside(&set).ok_or(Flag::NoHealthyUpstream)?;
    reached.set(Some((endpoint.address, false)));
    let route = &cx.snapshot.routes[job.route];
    let limits = policies::framing::HeadLimits {
        target_bytes: 0,
        header_bytes: cx.snapshot.limits.response_header_bytes,
        header_fields: cx.snapshot.limits.response_header_fields,
    };
    let lease = match worker.shadow_pool.existing(&endpoint) {
        Some(lease) => lease,
        None => worker
            .shadow_pool
            .connect(backend, &endpoint, route.deadlines.connect, limits, worker.id)
            .await
            .map_err(|error| match error {
                ConnectError::NoAddress => Flag::DnsFailure,
                ConnectError::TimedOut
                | ConnectError::Tcp(_)
                | ConnectError::Tls(_)
                | ConnectError::Protocol(_) => Flag::UpstreamConnectFailure,
            })?,
    };
    let reused = match &lease {
        Lease::H1(connection) => connection.reused,
        Lease::H2(stream) => stream.reused,
    };
    reached.set(Some((endpoint.address, reused)));
    let body = rewritten(backend, &job.head.payload).unwrap_or_else(|| job.head.payload.outgoing());
    // Neither the queue nor a handshake is the backend's time.
    let sent = clock::now();
    match lease {
        Lease::H1(mut connection) => {
            let request = head_for(&job.head, backend, &endpoint, false);
            let sending = connection.send(&request, body);
            let parts = sending.await.map_err(|_| Flag::UpstreamClosed)?;
            let mut reading = Reading::begin(&job.meeting, &parts, sent);
            let mut body = H1Body::new(connection);
            while let Some(frame) = std::future::poll_fn(|cx| body.poll_frame(cx)).await {
                reading.frame(&frame.map_err(|_| Flag::UpstreamReset)?)?;
            }
            let answer = reading.finish();
            if let Some(connection) = body.release(clock::now()) {
                worker.shadow_pool.keep(connection);
            }
            Ok(answer)
        }
        Lease::H2(stream) => {
            let request = outgoing(cx, &job.head, backend, &endpoint, false, body)
                .map_err(|_| Flag::UpstreamProtocolError)?;
            let response = stream.sender().send_request(request).await;
            let response = response.map_err(|_| Flag::UpstreamClosed)?;
            let (parts, mut body) = response.into_parts();
            let mut reading = Reading::begin(&job.meeting, &parts, sent);
            while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
                reading.frame(&frame.map_err(|_| Flag::UpstreamReset)?)?;
            }
            Ok(reading.finish())
        }
    }
}
