//! The attempts of a request, and where its time went.
//!
//! The clock is read at moments that are there anyway; what spans want to know is worked out from
//! them. Only a second attempt looks at it once more.

use std::time::{Duration, Instant};

use policies::outcome::Flag;

use super::Record;
use crate::backends::{AttemptResult, Backend, Endpoint};
use crate::clock;
use crate::recorder::row::{Attempt, Micros, Row};
use crate::telemetry::counters::bump;

/// Moments of a request, in nanoseconds from the end of its head, and what was spent on attempts that
/// failed.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// When the caller was known, or refused.
    auth: u64,
    /// Waiting for connections, over all attempts.
    connect: u64,
    /// Waiting for an answer in attempts that failed.
    lost: u64,
    /// When the present attempt began.
    began: Option<u64>,
    /// When it had a connection.
    sent: Option<u64>,
    /// When its last byte was written.
    written: Option<u64>,
    /// When the head of the response came.
    first_byte: Option<u64>,
    /// When the first piece of body went to the client.
    first_out: Option<u64>,
    /// When the request was over, where that was read off the clock already.
    pub(super) over: Option<Instant>,
}

impl Record {
    /// When the request was on its connection with all of its body, of which the client sent the last
    /// at `body_ended` if it was streamed: until then the backend could not answer.
    pub(super) fn sent_at(&self, body_ended: Option<Instant>) -> Option<Instant> {
        let sent = self.started + Duration::from_nanos(self.times.sent?);
        Some(body_ended.map_or(sent, |ended| ended.max(sent)))
    }

    /// When the head of the answer came.
    pub(super) fn first_byte_at(&self) -> Option<Instant> {
        Some(self.started + Duration::from_nanos(self.times.first_byte?))
    }

    /// Nanoseconds from the end of the head to `now`.
    fn nanos(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.started);
        since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos())
    }

    /// The caller is known, or refused.
    pub fn authenticated(&mut self) {
        self.times.auth = self.nanos(clock::now());
        self.row().t_auth = Micros::of_nanos(self.times.auth);
    }

    /// An attempt begins at `endpoint`, and with that the one before it is over.
    pub fn attempt(&mut self, backend: &Backend, endpoint: &Endpoint, now: Instant) {
        if self.row().attempts > 0 {
            self.attempt_lost(now);
        }
        let row = self.row();
        row.backend = Some(backend.name);
        row.endpoint = Some(endpoint.address);
        row.attempts += 1;
    }

    /// Another attempt follows the present one, which becomes an earlier one.
    fn attempt_lost(&mut self, now: Instant) {
        let now = self.nanos(now);
        let times = &mut self.times;
        if let Some(sent) = times.sent.take() {
            times.lost += now.saturating_sub(sent);
        }
        let began = times.began.take().unwrap_or(now);
        times.written = None;
        let row = self.row();
        row.add_earlier(Attempt {
            span_id: row.attempt_span_id,
            backend: row.backend,
            endpoint: row.endpoint,
            reused: row.reused,
            failed: row.spans.failed,
            began: Micros::of_nanos(began),
            ended: Micros::of_nanos(now),
        });
        row.spans.failed = None;
        row.reused = false;
        row.attempt_span_id = fastrand::u64(1..).to_be_bytes();
    }

    /// The attempt uses an existing connection.
    pub fn reuses(&mut self) {
        self.row().reused = true;
    }

    /// The attempt waits for a connection from now on.
    pub fn connecting(&mut self, now: Instant) -> Instant {
        self.times.began = Some(self.nanos(now));
        now
    }

    /// The wait is over, well or not; when.
    pub fn connected(&mut self) -> Instant {
        let now = clock::now();
        if let Some(began) = self.times.began {
            self.times.connect += self.nanos(now).saturating_sub(began);
        }
        now
    }

    /// The request goes onto the connection at `now`, which it gives back.
    pub fn sent(&mut self, now: Instant) -> Instant {
        let nanos = self.nanos(now);
        self.times.sent = Some(nanos);
        self.times.began.get_or_insert(nanos);
        now
    }

    /// Head and body of the request were written at `at`, if that is known.
    pub fn written(&mut self, at: Option<Instant>) {
        self.times.written = at.map(|at| self.nanos(at));
    }

    /// The head of the response came, from `backend`; when.
    pub fn first_byte(&mut self, backend: &Backend, status: u16) -> Instant {
        let now = clock::now();
        self.answered = now;
        let first_byte = self.nanos(now);
        self.times.first_byte = Some(first_byte);
        self.row().upstream_status = status;
        if let Some(sent) = self.times.sent {
            let counts = &backend.life.counts[self.cx.worker.id];
            counts.first_byte.add(Duration::from_nanos(first_byte.saturating_sub(sent)));
        }
        now
    }

    /// When the head of the response came.
    pub fn answered_at(&self) -> Instant {
        self.answered
    }

    /// The request is over at `now`: the clock need not be read again.
    pub fn over(&mut self, now: Instant) {
        self.times.over = Some(now);
    }

    /// The answer is an event stream.
    pub fn streams(&mut self) {
        self.row().stream = true;
        if let Some(cell) = self.cell() {
            cell.stream_opened(self.cx.worker.id);
        }
    }

    /// A piece of body goes to the client at `now`; the first counts.
    pub fn first_out(&mut self, now: Instant) {
        if self.times.first_out.is_none() {
            self.times.first_out = Some(self.nanos(now));
        }
    }

    /// An attempt ended: counted with its backend.
    pub fn attempt_ended(&mut self, backend: &Backend, result: AttemptResult) {
        let again = usize::from(self.row().attempts > 1);
        let counts = &backend.life.counts[self.cx.worker.id];
        bump(&counts.attempts[result as usize][again], 1);
        self.row().spans.failed = match result {
            AttemptResult::ConnectError => Some(Flag::UpstreamConnectFailure),
            AttemptResult::Timeout => Some(Flag::UpstreamTimeout),
            AttemptResult::Reset => Some(Flag::UpstreamClosed),
            AttemptResult::ProtocolError => Some(Flag::UpstreamProtocolError),
            // The status says it; or it was not the backend.
            AttemptResult::Ok
            | AttemptResult::Status4xx
            | AttemptResult::Status5xx
            | AttemptResult::Cancelled => None,
        };
    }

    /// `server-timing`: authentication, waiting for a connection, for the backend's first byte, and
    /// what was ours.
    pub fn server_timing(&self) -> Option<String> {
        let times = &self.times;
        let (sent, first_byte) = (times.sent?, times.first_byte?);
        let ms = |nanos: u64| nanos as f64 / 1e6;
        Some(format!(
            "auth;dur={:.3}, connect;dur={:.3}, upstream;dur={:.3}, gateway;dur={:.3}",
            ms(times.auth),
            ms(times.connect),
            ms(first_byte.saturating_sub(sent)),
            ms(self.ours_before(sent) + self.nanos(clock::now()).saturating_sub(first_byte)),
        ))
    }

    /// What of the time before `sent` was ours: neither a wait for a connection nor for an answer
    /// that did not come.
    fn ours_before(&self, sent: u64) -> u64 {
        sent.saturating_sub(self.times.connect).saturating_sub(self.times.lost)
    }

    /// Writes down where the time went, at the end.
    pub(super) fn take_times(&self, row: &mut Row, now: Instant) {
        let times = &self.times;
        let total = self.nanos(now);
        row.t_total = Micros::of_nanos(total);
        if let Some(began) = times.began {
            row.spans.began = Micros::of_nanos(began);
        }
        if times.sent.is_some() || row.attempts > 0 {
            row.t_connect = Micros::of_nanos(times.connect);
        }
        let Some(sent) = times.sent else {
            if row.attempts == 0 {
                row.t_gateway = row.t_total;
            }
            return;
        };
        if let Some(written) = times.written {
            row.t_send = Micros::of_nanos(written.saturating_sub(sent));
        }
        if let Some(first_byte) = times.first_byte {
            row.t_first_byte = Micros::of_nanos(first_byte);
            let before = self.ours_before(sent);
            let out = times.first_out.map_or(0, |out| out.saturating_sub(first_byte));
            // Waiting for the first piece of a body is the backend's time, not ours.
            let ours = if row.stream { before } else { before + out.min(1_000_000) };
            row.t_gateway = Micros::of_nanos(ours);
            if let Some(cell) = self.cell() {
                cell.overhead(self.cx.worker.id, ours / 1_000);
            }
        }
        if let Some(out) = times.first_out {
            row.t_first_token = Micros::of_nanos(out);
            row.t_stream = Micros::of_nanos(total.saturating_sub(out));
        }
    }
}
