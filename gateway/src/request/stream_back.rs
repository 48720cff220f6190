//! The answer on its way to the client, frame by frame as the backend sends it.
//!
//! Nothing is held back: each frame goes out as it comes. A passing
//! reader takes token usage from OpenAI and Anthropic answers without altering a byte. The record
//! learns how the body ended: whole, broken, too slow, or left by the client.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body::{Body, Frame, SizeHint};
use policies::headers::Seen;
use policies::outcome::{Flag, Outcome};
use policies::usage::{BodyKind, UsageReader};
use tokio::sync::oneshot;

use crate::clock;
use crate::request::dispatch::{Answered, BackendBody};
use crate::request::{Cx, Record, receipt};
use crate::snapshot::names;
use crate::telemetry::counters::bump;

/// A response body, as the server takes it.
#[derive(Debug)]
pub enum ResponseBody {
    /// The gateway's own words.
    Own(Option<Bytes>, Option<Box<Record>>),
    /// A backend's answer.
    Backend(Box<StreamBack>),
}

/// Why an answer broke off: the client's connection is cut, so that it cannot take a part for the
/// whole (F03).
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the answer broke off")]
pub struct BrokenOff;

/// A backend's answer under way.
pub struct StreamBack {
    cx: Cx,
    body: BackendBody,
    record: Option<Record>,
    reader: Option<UsageReader>,
    status: u16,
    // gRPC says how a call ended in its own field, under an HTTP status of 200.
    grpc_status: Option<u16>,
    idle: std::time::Duration,
    deadline: Instant,
    last: Instant,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    tail: Tail,
    over: bool,
    // Set by a test's backend; release builds have no such thing.
    #[cfg(debug_assertions)]
    panics: bool,
}

/// In mode `sync` the last byte waits for the store (D2).
enum Tail {
    None,
    Waiting(oneshot::Receiver<bool>, Option<Frame<Bytes>>),
}

impl std::fmt::Debug for StreamBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamBack").field("record", &self.record).finish_non_exhaustive()
    }
}

/// Headers every answer carries.
fn add_request_id(cx: &Cx, headers: &mut http::HeaderMap, record: &Record) {
    if let Some(value) = cx.worker.header_of(record.id_text().as_str().as_bytes()) {
        headers.insert(&names::REQUEST_ID, value);
    }
    if let Some(state) = record.key_state() {
        add_rate_limits(cx, headers, state);
    }
    if cx.conn.draining.get() && record.is_http1() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// What is left of the key's limits, as OpenAI's clients read it.
fn add_rate_limits(cx: &Cx, headers: &mut http::HeaderMap, state: &crate::limits::KeyState) {
    let now = cx.worker.shared.backends.nanos();
    let sets = [
        (
            &state.requests,
            [
                "x-ratelimit-limit-requests",
                "x-ratelimit-remaining-requests",
                "x-ratelimit-reset-requests",
            ],
        ),
        (
            &state.tokens,
            [
                "x-ratelimit-limit-tokens",
                "x-ratelimit-remaining-tokens",
                "x-ratelimit-reset-tokens",
            ],
        ),
    ];
    for (limit, [most, left, reset]) in sets {
        let Some(limit) = limit else { continue };
        for (name, number) in [(most, limit.burst()), (left, limit.remaining(now))] {
            if let Some(value) = cx.worker.header_of_number(number) {
                headers.insert(name, value);
            }
        }
        let text = format!("{}ms", limit.reset_after(now).as_millis());
        if let Some(value) = cx.worker.header_of(text.as_bytes()) {
            headers.insert(reset, value);
        }
    }
}

/// An answer of the gateway's own.
pub fn own(cx: &Cx, response: Response<Bytes>, mut record: Record) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    add_request_id(cx, &mut parts.headers, &record);
    {
        let row = record.row();
        if row.status == 0 {
            row.status = parts.status.as_u16();
        }
        row.response_bytes = body.len() as u64;
        row.complete = true;
    }
    Response::from_parts(parts, ResponseBody::Own(Some(body), Some(Box::new(record))))
}

/// In mode `sync` an answer that is whole already has no last byte to hold back: its head waits for
/// the store (D2).
pub async fn settled(cx: &Cx, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    if !cx.worker.shared.recorder.waits_for_store() {
        return response;
    }
    match response.body_mut() {
        ResponseBody::Own(_, record) => {
            if let Some(mut record) = record.take() {
                // Stored or not: a client is never failed because the store is (D5).
                let _ = record.end_durable().await;
            }
        }
        ResponseBody::Backend(stream) => {
            if !stream.over && stream.body.is_end_stream() {
                let _ = stream.whole(None, clock::now());
            }
            if let Tail::Waiting(stored, None) = &mut stream.tail {
                let _ = stored.await;
                stream.tail = Tail::None;
            }
        }
    }
    response
}

/// A backend's answer, made fit for the client.
pub fn stream_back(cx: &Cx, answered: Answered, mut record: Record) -> Response<ResponseBody> {
    let Answered { mut parts, body, backend: _, shown, idle, deadline } = answered;
    let status = parts.status.as_u16();
    let headers = &mut parts.headers;
    // One look at all names; what is not there is not searched for.
    let seen = Seen::of(headers);
    // HTTP/1.1 framing and connection fields are this side's own.
    if seen.has(Seen::HOP_BY_HOP) {
        policies::headers::strip_hop_by_hop(headers, false);
    }
    if seen.has(Seen::TRANSFER_ENCODING) {
        headers.remove(header::TRANSFER_ENCODING);
    }
    #[cfg(debug_assertions)]
    let panics = headers.contains_key("x-weir-test-panic");
    if seen.has(Seen::OURS.and(Seen::ALT_SVC)) {
        strip_ours(headers);
    }
    if seen.has(Seen::REQUEST_ID)
        && let Some(Ok(id)) = headers.get(&names::REQUEST_ID).map(HeaderValue::to_str)
    {
        record.row().upstream_request_id.push_str(crate::request::record::cut(id, 128));
    }
    if let Some(watch) = record.watched() {
        watch.head(headers);
    }
    add_request_id(cx, headers, &record);
    if let Some(place) = shown {
        receipt::add(cx, headers, &mut record, place);
    }
    if record.route_and_inspect().is_some_and(|(at, _)| cx.snapshot.routes[at].server_timing)
        && let Some(timing) = record.server_timing()
        && let Some(value) = cx.worker.header_of(timing.as_bytes())
    {
        headers.insert(&names::SERVER_TIMING, value);
    }

    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = BodyKind::of_content_type(content_type);
    record.status(status);
    if matches!(kind, BodyKind::EventStream) {
        record.streams();
    }
    let reader = match kind {
        BodyKind::Json | BodyKind::EventStream => Some(UsageReader::new(kind)),
        BodyKind::Other => None,
    };
    let grpc = seen.has(Seen::GRPC_STATUS) && content_type.starts_with("application/grpc");
    let grpc_status = if grpc { grpc_status(headers) } else { None };
    let stream = StreamBack {
        grpc_status,
        cx: cx.clone(),
        over: false,
        body,
        last: record.answered_at(),
        record: Some(record),
        reader,
        status,
        idle,
        deadline,
        timer: None,
        tail: Tail::None,
        #[cfg(debug_assertions)]
        panics,
    };
    Response::from_parts(parts, ResponseBody::Backend(Box::new(stream)))
}

/// What only the gateway may say, in an answer: a backend's words in its name are dropped.
pub(super) fn strip_ours(headers: &mut http::HeaderMap) {
    if headers.keys().any(|name| name.as_str().starts_with("x-weir-")) {
        let names: Vec<http::HeaderName> =
            headers.keys().filter(|name| name.as_str().starts_with("x-weir-")).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
    // A backend must not send clients past the gateway.
    headers.remove(header::ALT_SVC);
}

pub(super) fn grpc_status(fields: &http::HeaderMap) -> Option<u16> {
    fields.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Whose fault a gRPC status is: what the caller asked for, or the backend's.
pub(super) fn outcome_of_grpc(code: u16) -> Outcome {
    match code {
        0 => Outcome::Ok,
        // Cancelled, invalid argument, not found, exists, denied, precondition, out of range,
        // unimplemented, unauthenticated.
        1 | 3 | 5 | 6 | 7 | 9 | 11 | 12 | 16 => Outcome::ClientError,
        4 => Outcome::Timeout,
        _ => Outcome::UpstreamError,
    }
}

impl StreamBack {
    /// The answer is over, at `now`. Gives the last frame back, unless it must wait for the store.
    fn finish(
        &mut self,
        outcome: Outcome,
        flag: Option<Flag>,
        complete: bool,
        frame: Option<Frame<Bytes>>,
        now: Instant,
    ) -> Option<Frame<Bytes>> {
        self.over = true;
        self.timer = None;
        if complete {
            self.body.release(&self.cx.worker.pool, now);
        }
        let Some(mut record) = self.record.take() else { return frame };
        if let Some(mut reader) = self.reader.take() {
            record.usage(reader.finish());
        }
        record.ended(outcome, flag, complete);
        record.over(now);
        if self.cx.worker.shared.recorder.waits_for_store() && complete {
            self.tail = Tail::Waiting(record.end_durable(), frame);
            return None;
        }
        frame
    }

    fn whole(&mut self, frame: Option<Frame<Bytes>>, now: Instant) -> Option<Frame<Bytes>> {
        if let Some(trailers) = frame.as_ref().and_then(Frame::trailers_ref) {
            self.grpc_status = grpc_status(trailers).or(self.grpc_status);
        }
        let outcome = match self.grpc_status {
            Some(code) if self.status == 200 => outcome_of_grpc(code),
            _ => Outcome::of_status(self.status),
        };
        self.finish(outcome, None, true, frame, now)
    }

    fn poll_tail(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Tail::Waiting(stored, frame) = &mut self.tail {
            // Stored or not: a client is never failed because the store is (D5).
            let _ = ready!(Pin::new(stored).poll(cx));
            let frame = frame.take();
            self.tail = Tail::None;
            return Poll::Ready(frame.map(Ok));
        }
        Poll::Ready(None)
    }

    /// A panic while the answer was passed on ends this answer and nothing else (F27).
    fn panicked(&mut self) {
        self.over = true;
        self.timer = None;
        self.tail = Tail::None;
        // It may be what panicked.
        self.reader = None;
        bump(&self.cx.worker.counters().panics, 1);
        if let Some(mut record) = self.record.take() {
            record.panicked();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        #[cfg(debug_assertions)]
        assert!(!self.panics, "asked for by a test");
        if let Some(watch) = self.record.as_mut().and_then(Record::watched) {
            watch.asked();
        }
        if self.over {
            return self.poll_tail(cx);
        }
        match self.body.poll_frame(cx) {
            Poll::Pending => self.poll_timer(cx),
            Poll::Ready(None) => {
                let _ = self.whole(None, clock::now());
                self.poll_tail(cx)
            }
            Poll::Ready(Some(Err(broken))) => {
                let flag = if broken.malformed {
                    Flag::UpstreamProtocolError
                } else {
                    Flag::UpstreamReset
                };
                let now = clock::now();
                let _ = self.finish(Outcome::UpstreamReset, Some(flag), false, None, now);
                Poll::Ready(Some(Err(BrokenOff)))
            }
            Poll::Ready(Some(Ok(mut frame))) => {
                let now = clock::now();
                self.last = now;
                if now >= self.deadline {
                    let flag = Some(Flag::MaxDuration);
                    let _ = self.finish(Outcome::Timeout, flag, false, None, now);
                    return Poll::Ready(Some(Err(BrokenOff)));
                }
                if let Some(data) = frame.data_ref() {
                    if let Some(record) = &mut self.record {
                        record.first_out(now);
                        if let Some(watch) = record.watched() {
                            watch.piece(data, now);
                        }
                        let row = record.row();
                        row.response_bytes += data.len() as u64;
                        row.chunks += 1;
                    }
                    if let Some(reader) = &mut self.reader {
                        reader.feed(data);
                    }
                }
                if let Some(trailers) = frame.trailers_mut() {
                    // They may say no more than a head may.
                    policies::headers::strip_hop_by_hop(trailers, false);
                    trailers.remove(header::TRANSFER_ENCODING);
                    trailers.remove(header::CONTENT_LENGTH);
                    strip_ours(trailers);
                    self.grpc_status = grpc_status(trailers).or(self.grpc_status);
                }
                if self.body.is_end_stream() {
                    return match self.whole(Some(frame), now) {
                        Some(frame) => Poll::Ready(Some(Ok(frame))),
                        None => self.poll_tail(cx),
                    };
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    // One timer per answer that has to wait at all, set again when it fires early.
    fn poll_timer(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        loop {
            let at = (self.last + self.idle).min(self.deadline);
            let timer =
                self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into())));
            ready!(timer.as_mut().poll(cx));
            let now = clock::now();
            if now < at {
                timer.as_mut().reset(at.into());
                continue;
            }
            let flag = if now >= self.deadline { Flag::MaxDuration } else { Flag::UpstreamTimeout };
            let _ = self.finish(Outcome::Timeout, Some(flag), false, None, now);
            return Poll::Ready(Some(Err(BrokenOff)));
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Own(body, record) => {
                // The record ends with the only frame.
                drop(record.take());
                Poll::Ready(body.take().filter(|b| !b.is_empty()).map(|b| Ok(Frame::data(b))))
            }
            Self::Backend(stream) => {
                // This runs inside the connection's own task, behind the request path's guard.
                let polled = catch_unwind(AssertUnwindSafe(|| stream.poll(cx)));
                polled.unwrap_or_else(|_| {
                    stream.panicked();
                    Poll::Ready(Some(Err(BrokenOff)))
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body, _) => body.as_ref().is_none_or(Bytes::is_empty),
            Self::Backend(stream) => {
                (stream.over && matches!(stream.tail, Tail::None))
                    || (!stream.over && stream.body.is_end_stream() && stream.bodiless())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body, _) => {
                SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64))
            }
            Self::Backend(stream) => match &stream.tail {
                Tail::Waiting(_, frame) => SizeHint::with_exact(
                    frame.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64),
                ),
                Tail::None => stream.body.size_hint(),
            },
        }
    }
}

impl StreamBack {
    /// Whether there is nothing to stream at all. Nobody then polls the body, so the end is
    /// noted when it is dropped.
    fn bodiless(&self) -> bool {
        !self.cx.worker.shared.recorder.waits_for_store()
    }
}

impl Drop for StreamBack {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // A body is dropped without being polled when there is nothing in it (HEAD, 204, 304, or a
        // length of zero): that is an end, not a hang-up.
        if self.body.is_end_stream() {
            let _ = self.whole(None, clock::now());
        } else if let Some(mut record) = self.record.take() {
            // The client left; the record finds that out by itself.
            if let Some(mut reader) = self.reader.take() {
                record.usage(reader.finish());
            }
            record.row().status = 0;
        }
    }
}
