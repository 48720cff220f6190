//! To the backend and back to the head of its answer: endpoint, connection, deadlines, retry.
//!
//! A retry happens before the first response byte only, once, within a budget, and never where it
//! could run a request twice without the route's leave. Another variant serves only if the
//! experiment says so, and the record keeps assigned and served apart.

mod answer;
mod sent;

pub use answer::{Answered, BackendBody};
pub use sent::{head_for, outgoing, rewritten};

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::Poll;
use std::time::Instant;

use http::{Request, response};
use policies::retry::{Failure, may_retry};
use policies::timeout::TimeoutKind;
use routing::Assignment;
use tokio::time::Sleep;

use self::answer::Kind;
use crate::backends::connect::ConnectError;
use crate::backends::h1::{H1Body, SendError};
use crate::backends::pool::Lease;
use crate::backends::{AttemptResult, Backend, Endpoint, EndpointSet, balance};
use crate::body::{BodyFault, Outgoing};
use crate::clock;
use crate::config::plan::{Balance, OnFailure};
use crate::request::read_head::{Head, Payload};
use crate::request::{Cx, Record, Rejection, trace};
use crate::snapshot::RoutePlan;
use crate::telemetry::counters::bump;

/// A request or a tunnel in flight at an endpoint and at its backend, counted as long as this lives.
#[derive(Debug)]
pub struct Busy {
    endpoint: Arc<Endpoint>,
    backend: Arc<Backend>,
}

impl Busy {
    /// Takes a place (L13); `None` if the backend has as many requests as it may.
    pub fn enter(backend: &Arc<Backend>, endpoint: &Arc<Endpoint>) -> Option<Self> {
        let most = backend.max_in_flight.unwrap_or(u32::MAX);
        let count: &AtomicU32 = &backend.life.in_flight;
        if count.fetch_add(1, Relaxed) >= most {
            count.fetch_sub(1, Relaxed);
            return None;
        }
        endpoint.in_flight.fetch_add(1, Relaxed);
        Some(Self { endpoint: Arc::clone(endpoint), backend: Arc::clone(backend) })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Relaxed);
        self.backend.life.in_flight.fetch_sub(1, Relaxed);
    }
}

/// An attempt that has not come to a result. Dropped before it has (the client left), it is counted
/// as cancelled, and a trial that it was is given up, so that the next request may try (F06, F10).
pub(super) struct Trying<'a> {
    backend: &'a Backend,
    endpoint: &'a Endpoint,
    worker: usize,
    again: bool,
    over: bool,
}

impl<'a> Trying<'a> {
    pub(super) fn begin(
        backend: &'a Backend,
        endpoint: &'a Endpoint,
        worker: usize,
        attempt: u32,
    ) -> Self {
        Self { backend, endpoint, worker, again: attempt > 1, over: false }
    }

    pub(super) fn over(mut self) {
        self.over = true;
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.endpoint.health.gave_up();
            let counts = &self.backend.life.counts[self.worker];
            let cancelled = &counts.attempts[AttemptResult::Cancelled as usize];
            bump(&cancelled[usize::from(self.again)], 1);
        }
    }
}

/// Sends the request to the backend of the assigned variant, and to control's if that fails and the
/// experiment says `fallback`.
///
/// # Errors
/// What the client is told when no backend answered.
pub async fn dispatch(
    cx: &Cx,
    route: &RoutePlan,
    assignment: &Assignment,
    head: Box<Head>,
    record: &mut Record,
) -> Result<Answered, Rejection> {
    let shown = assignment.experiment.zip(assignment.variant);
    let backend = match shown {
        None => route.backend,
        Some((experiment, variant)) => {
            route.plans[experiment].variants[usize::from(variant.0)].backend
        }
    };
    let fallback = shown.and_then(|(experiment, variant)| {
        let plan = &route.plans[experiment];
        let control = &plan.variants[usize::from(plan.control.0)];
        (plan.on_failure == OnFailure::Fallback && variant != plan.control)
            .then_some((control.backend, control.name))
    });
    let mut sender = Sender { cx, route, head, assignment };
    let (backend, mut answered) = match sender.attempts(backend, record).await {
        Err(rejection) => match fallback {
            // Only where nothing of an answer was seen, and the body can be had again.
            Some((control, name)) if may_fall_back(&rejection, &sender.head) => {
                record.served_by(name);
                (control, sender.attempts(control, record).await?)
            }
            _ => return Err(rejection),
        },
        Ok(answered) => (backend, answered),
    };
    let backend = Arc::clone(&cx.snapshot.backends[backend]);
    let (parts, body) = answered.take();
    Ok(Answered {
        parts,
        body,
        backend,
        shown,
        idle: route.deadlines.idle,
        deadline: record.started() + route.deadlines.total,
    })
}

fn may_fall_back(rejection: &Rejection, head: &Head) -> bool {
    head.payload.replayable()
        && matches!(
            rejection,
            Rejection::NoEndpoint
                | Rejection::Dns
                | Rejection::ConnectFailed
                | Rejection::ConnectTimeout
                | Rejection::BackendFull
        )
}

/// A head and a body, taken once.
struct Got(Option<(response::Parts, BackendBody)>);

impl Got {
    #[expect(clippy::expect_used, reason = "made with Some and taken once")]
    fn take(&mut self) -> (response::Parts, BackendBody) {
        self.0.take().expect("taken once")
    }
}

struct Sender<'a> {
    cx: &'a Cx,
    route: &'a RoutePlan,
    head: Box<Head>,
    assignment: &'a Assignment,
}

/// How one attempt failed: what the client would be told, and whether another may be made.
struct Failed {
    rejection: Rejection,
    failure: Failure,
    result: AttemptResult,
    /// Whether the endpoint is to blame.
    blame: bool,
}

impl Failed {
    fn new(rejection: Rejection, failure: Failure, result: AttemptResult, blame: bool) -> Self {
        Self { rejection, failure, result, blame }
    }
}

impl Sender<'_> {
    /// At most two attempts at one backend.
    async fn attempts(&mut self, backend: usize, record: &mut Record) -> Result<Got, Rejection> {
        let backend = &self.cx.snapshot.backends[backend];
        let life = &backend.life;
        let uptime_at = |now| self.cx.worker.shared.backends.uptime_at(now);
        // One look at the clock for all that happens at once.
        let mut now = clock::now();
        let mut uptime = uptime_at(now);
        life.budget.request(uptime);
        let unit_hash = affinity(self.cx, backend, self.assignment, record);
        let mut avoid = None;
        let mut attempt = 1;
        loop {
            let set = life.endpoints.load_full();
            let Some(endpoint) = balance::choose(backend, &set, unit_hash, avoid, uptime) else {
                return Err(if life.unresolved.lock().is_empty() {
                    Rejection::NoEndpoint
                } else {
                    Rejection::Dns
                });
            };
            let Some(busy) = Busy::enter(backend, &endpoint) else {
                endpoint.health.gave_up();
                return Err(Rejection::BackendFull);
            };
            record.attempt(backend, &endpoint, now);
            if record.row().attempts > 1 {
                // Each attempt is a span of its own.
                trace::tell(&mut self.head, record.row());
            }
            let trying = Trying::begin(backend, &endpoint, self.cx.worker.id, attempt);
            let tried = self.attempt(backend, &endpoint, busy, attempt > 1, now, record).await;
            trying.over();
            let failed = match tried {
                Ok(got) => return Ok(got),
                Err(failed) => failed,
            };
            now = clock::now();
            uptime = uptime_at(now);
            record.attempt_ended(backend, failed.result);
            if failed.blame {
                let all = &set.all;
                let ejected = all.iter().filter(|e| !e.health.is_serving()).count();
                let may = policies::health::may_eject(ejected, all.len());
                if let Some(policies::health::Change::Ejected { .. }) =
                    endpoint.health.failed(uptime, may)
                {
                    life.ejections.fetch_add(1, Relaxed);
                    crate::telemetry::events::endpoint_ejected(backend.name, endpoint.address);
                }
            } else {
                endpoint.health.gave_up();
            }
            let left =
                (record.started() + self.route.deadlines.total).saturating_duration_since(now);
            let counts = &life.counts[self.cx.worker.id];
            let budget = || {
                let taken = life.budget.try_take(uptime_at(now));
                if !taken {
                    bump(&counts.budget_exhausted[failed.failure as usize], 1);
                }
                taken
            };
            let again = !left.is_zero()
                && may_retry(
                    failed.failure,
                    &self.head.method,
                    self.head.payload.replayable(),
                    attempt,
                    self.route.retry_non_idempotent,
                    budget,
                );
            if !again {
                return Err(all_down(failed.rejection, &set));
            }
            bump(&counts.retries[failed.failure as usize], 1);
            // A stale connection says nothing against the endpoint; a refused one does.
            avoid = failed.blame.then_some(endpoint.id);
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        backend: &Arc<Backend>,
        endpoint: &Arc<Endpoint>,
        busy: Busy,
        fresh: bool,
        now: Instant,
        record: &mut Record,
    ) -> Result<Got, Failed> {
        let worker = &self.cx.worker;
        let whole_deadline = record.started() + self.route.deadlines.total;
        // A retry has a fresh connection: the next idle one may be closed as the first was (F05).
        let existing = if fresh { None } else { worker.pool.existing(endpoint) };
        let (lease, now) = match existing {
            Some(lease) => {
                record.reuses();
                (lease, now)
            }
            None => {
                let began = record.connecting(now);
                let timeout = self
                    .route
                    .deadlines
                    .connect
                    .min(whole_deadline.saturating_duration_since(began));
                let limits = policies::framing::HeadLimits {
                    target_bytes: 0,
                    header_bytes: self.cx.snapshot.limits.response_header_bytes,
                    header_fields: self.cx.snapshot.limits.response_header_fields,
                };
                // Boxed: a handshake under way is large, and rare.
                let connect = worker.pool.connect(backend, endpoint, timeout, limits, worker.id);
                let lease = Box::pin(connect).await;
                let now = record.connected();
                (lease.map_err(|error| connect_failed(backend, endpoint, &error))?, now)
            }
        };
        match lease {
            Lease::H1(mut connection) => {
                let body = self.body(backend);
                let head = head_for(&self.head, backend, endpoint, self.route.preserve_host);
                connection.ask(&head, body);
                let sent = record.sent(now);
                let reused = connection.reused;
                let mut timer = connection.timer.take();
                let answer = std::future::poll_fn(|cx| {
                    connection.poll_answer(cx, Some(&mut worker.field_names.borrow_mut()))
                });
                let answer = self.within(answer, sent, whole_deadline, &mut timer).await;
                connection.timer = timer;
                match answer {
                    Ok(Ok(parts)) => {
                        // A backend may answer before it has all of the body.
                        let written = connection.written_at;
                        record.written(written.filter(|_| self.head.payload.is_read()));
                        let body = Kind::H1(H1Body::new(connection));
                        Ok(self.got(backend, endpoint, busy, record, parts, body))
                    }
                    Ok(Err(error)) => Err(self.send_failed(error, reused)),
                    Err(kind) => Err(self.timed_out(kind)),
                }
            }
            Lease::H2(stream) => {
                let request = self.request(backend, endpoint)?;
                let sent = record.sent(now);
                let reused = stream.reused;
                let mut sender = stream.sender();
                let send = async {
                    sender.try_send_request(request).await.map_err(|mut failed| SendError {
                        unsent: failed.take_message().is_some(),
                        answered: false,
                        malformed: failed.error().is_parse(),
                    })
                };
                // Boxed: hyper's future is large.
                match Box::pin(self.within(send, sent, whole_deadline, &mut None)).await {
                    Ok(Ok(response)) => {
                        let (parts, incoming) = response.into_parts();
                        let body = Kind::H2(incoming, stream);
                        Ok(self.got(backend, endpoint, busy, record, parts, body))
                    }
                    Ok(Err(error)) => Err(self.send_failed(error, reused)),
                    Err(kind) => Err(self.timed_out(kind)),
                }
            }
        }
    }

    /// Waits for `answer`, as long as the route allows. `timer` may be one that waited before.
    async fn within<T>(
        &self,
        answer: impl Future<Output = T>,
        sent: Instant,
        whole_deadline: Instant,
        timer: &mut Option<Pin<Box<Sleep>>>,
    ) -> Result<T, TimeoutKind> {
        let mut answer = pin!(answer);
        let deadlines = &self.route.deadlines;
        // While the client still sends its body the backend cannot be late.
        let next = || match &self.head.payload {
            Payload::Streaming(source, _) if !source.done.get() => None,
            Payload::Streaming(source, _) => Some(source.ended.get().unwrap_or(sent)),
            Payload::Unread | Payload::Empty | Payload::Whole(..) => Some(sent),
        };
        let deadline = |now: Instant| match next() {
            None => (whole_deadline.min(now + deadlines.first_byte), TimeoutKind::Total),
            Some(sent) if sent + deadlines.first_byte <= whole_deadline => {
                (sent + deadlines.first_byte, TimeoutKind::FirstByte)
            }
            Some(_) => (whole_deadline, TimeoutKind::Total),
        };
        let first = deadline(sent).0.into();
        std::future::poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(answer));
            }
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(first)));
            if timer.deadline() > first {
                // It waited for somebody with more time.
                timer.as_mut().reset(first);
            }
            while timer.as_mut().poll(cx).is_ready() {
                let now = clock::now();
                let (at, kind) = deadline(now);
                if at <= now {
                    return Poll::Ready(Err(kind));
                }
                timer.as_mut().reset(at.into());
            }
            Poll::Pending
        })
        .await
    }

    fn got(
        &self,
        backend: &Arc<Backend>,
        endpoint: &Arc<Endpoint>,
        busy: Busy,
        record: &mut Record,
        parts: response::Parts,
        kind: Kind,
    ) -> Got {
        let status = parts.status.as_u16();
        let now = record.first_byte(backend, status);
        record.attempt_ended(
            backend,
            match status {
                500.. => AttemptResult::Status5xx,
                400..=499 => AttemptResult::Status4xx,
                _ => AttemptResult::Ok,
            },
        );
        let _ = endpoint.health.succeeded(self.cx.worker.shared.backends.uptime_at(now));
        endpoint.reached(true);
        Got(Some((parts, BackendBody { kind, _busy: busy })))
    }

    /// What to make of a wait that was too long.
    fn timed_out(&self, kind: TimeoutKind) -> Failed {
        if let Payload::Streaming(source, _) = &self.head.payload
            && !source.done.get()
        {
            // It was the client that took so long.
            return Failed::new(
                Rejection::Body(BodyFault::TooSlow),
                Failure::TimedOut,
                AttemptResult::Cancelled,
                false,
            );
        }
        timed_out(kind)
    }

    /// What to make of a send that failed.
    fn send_failed(&self, error: SendError, reused: bool) -> Failed {
        if let Payload::Streaming(source, _) = &self.head.payload
            && let Some(fault) = source.fault.get()
        {
            // The client's fault, not the backend's.
            return Failed::new(
                Rejection::Body(fault),
                Failure::AfterResponse,
                AttemptResult::Cancelled,
                false,
            );
        }
        if error.malformed {
            return Failed::new(
                Rejection::Protocol,
                Failure::AfterResponse,
                AttemptResult::ProtocolError,
                true,
            );
        }
        let failure = if error.unsent {
            Failure::NotSent
        } else if error.answered {
            Failure::AfterResponse
        } else if reused {
            Failure::ReusedClosed
        } else {
            Failure::Other
        };
        // A connection that was closed while idle is how keep-alive ends; no fault of the endpoint.
        let blame = !matches!(failure, Failure::NotSent | Failure::ReusedClosed);
        Failed::new(Rejection::Closed, failure, AttemptResult::Reset, blame)
    }

    /// The body as `backend` gets it.
    fn body(&self, backend: &Backend) -> Outgoing {
        let payload = &self.head.payload;
        rewritten(backend, payload).unwrap_or_else(|| payload.outgoing())
    }

    /// The request as an endpoint that speaks HTTP/2 gets it.
    fn request(&self, backend: &Backend, endpoint: &Endpoint) -> Result<Request<Outgoing>, Failed> {
        let body = self.body(backend);
        outgoing(self.cx, &self.head, backend, endpoint, self.route.preserve_host, body).map_err(
            |rejection| {
                // Nobody tried to reach the endpoint, and no other would get a shorter target.
                let result = AttemptResult::Cancelled;
                Failed::new(rejection, Failure::AfterResponse, result, false)
            },
        )
    }
}

/// What keeps a request of this kind on one endpoint with `hash:unit`: its unit, or where it has none
/// (no experiment, none running, no such header) its key and its client's address. 0 for the other
/// ways to choose.
pub(super) fn affinity(
    cx: &Cx,
    backend: &Backend,
    assignment: &Assignment,
    record: &mut Record,
) -> u64 {
    if backend.balance != Balance::HashUnit || assignment.unit_hash != 0 {
        return assignment.unit_hash;
    }
    let row = record.row();
    cx.snapshot.client_salt.hash(&format!("{}@{}", row.key_id, row.client.to_canonical()))
}

/// A refused connection is one endpoint's matter (F06). Where no endpoint can be reached the whole
/// backend is down, which the client is told as such, with when to come again (F09).
pub(super) fn all_down(rejection: Rejection, set: &EndpointSet) -> Rejection {
    if rejection == Rejection::ConnectFailed && set.all.iter().all(|e| e.unreachable.load(Relaxed))
    {
        return Rejection::NoEndpoint;
    }
    rejection
}

fn connect_failed(backend: &Backend, endpoint: &Endpoint, error: &ConnectError) -> Failed {
    crate::telemetry::events::connect_failed(backend.name, endpoint.address, error);
    endpoint.reached(!error.is_unreachable());
    let rejection = match error {
        ConnectError::TimedOut => Rejection::ConnectTimeout,
        ConnectError::NoAddress => Rejection::Dns,
        ConnectError::Tcp(_) | ConnectError::Tls(_) | ConnectError::Protocol(_) => {
            Rejection::ConnectFailed
        }
    };
    Failed::new(rejection, Failure::ConnectFailed, AttemptResult::ConnectError, true)
}

fn timed_out(kind: TimeoutKind) -> Failed {
    let rejection = match kind {
        TimeoutKind::FirstByte | TimeoutKind::Idle => Rejection::FirstByteTimeout,
        TimeoutKind::Total => Rejection::TotalTimeout,
    };
    Failed::new(rejection, Failure::TimedOut, AttemptResult::Timeout, true)
}

/// Whether a body fault is the client's leaving.
pub fn left(fault: BodyFault) -> bool {
    fault == BodyFault::Broken
}
