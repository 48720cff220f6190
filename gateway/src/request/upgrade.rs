//! WebSocket: the head is a request like any other, and after a 101 both sides are joined.
//!
//! HTTP/1.1 on both sides, on routes that allow it. No byte after the head goes to the backend before
//! its 101 (hardening T02). A backend that answers something else is answered as usual.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Response, StatusCode, header, response};
use policies::outcome::{Flag, Outcome};
use policies::timeout::Deadlines;
use routing::Assignment;

use crate::backends::connect::{self, ConnectError, Connected};
use crate::backends::h1::{H1, H1Body, OpenConnection};
use crate::backends::{AttemptResult, Backend, Endpoint, balance};
use crate::body::Outgoing;
use crate::clock;
use crate::config::plan::Scheme;
use crate::request::dispatch::{Busy, Trying, affinity, all_down, head_for};
use crate::request::read_head::Head;
use crate::request::{Cx, Record, Rejection, ResponseBody, receipt, stream_back};
use crate::server::tunnel::Tunnel;
use crate::snapshot::{RoutePlan, names};

/// A backend that agreed to switch, or its refusal.
#[derive(Debug)]
pub struct Upgraded {
    parts: response::Parts,
    connection: Option<Box<H1>>,
    refusal: bytes::Bytes,
    shown: Option<(usize, routing::VariantId)>,
    idle: Duration,
    busy: Busy,
}

/// Sends the upgrade on a connection of its own.
///
/// # Errors
/// As any dispatch; 403 where the route does not allow it.
pub async fn dispatch(
    cx: &Cx,
    route: &RoutePlan,
    assignment: &Assignment,
    head: Box<Head>,
    record: &mut Record,
) -> Result<Box<Upgraded>, Rejection> {
    if !route.websocket {
        return Err(Rejection::Forbidden("upgrade on this route (`websocket = true` allows it)"));
    }
    let shown = assignment.experiment.zip(assignment.variant);
    let backend = match shown {
        None => route.backend,
        Some((experiment, variant)) => {
            route.plans[experiment].variants[usize::from(variant.0)].backend
        }
    };
    let backend = &cx.snapshot.backends[backend];
    let set = backend.life.endpoints.load_full();
    let uptime = cx.worker.shared.backends.uptime();
    let unit_hash = affinity(cx, backend, assignment, record);
    let endpoint =
        balance::choose(backend, &set, unit_hash, None, uptime).ok_or(Rejection::NoEndpoint)?;
    // A tunnel is in flight as long as it lives (L13).
    let Some(busy) = Busy::enter(backend, &endpoint) else {
        endpoint.health.gave_up();
        return Err(Rejection::BackendFull);
    };
    record.attempt(backend, &endpoint, clock::now());
    let trying = Trying::begin(backend, &endpoint, cx.worker.id, 1);
    let asked = ask(cx, route, backend, &endpoint, &head, record).await;
    trying.over();
    let result = match &asked {
        Ok(_) => AttemptResult::Ok,
        Err(Rejection::ConnectFailed | Rejection::ConnectTimeout) => AttemptResult::ConnectError,
        Err(Rejection::FirstByteTimeout | Rejection::TotalTimeout) => AttemptResult::Timeout,
        Err(Rejection::Protocol) => AttemptResult::ProtocolError,
        Err(_) => AttemptResult::Reset,
    };
    record.attempt_ended(backend, result);
    // As with any other request: a trial that is over must be told, a dead endpoint left alone.
    let uptime = cx.worker.shared.backends.uptime();
    let ejected = || set.all.iter().filter(|e| !e.health.is_serving()).count();
    let _ = if result == AttemptResult::Ok {
        endpoint.health.succeeded(uptime)
    } else {
        let may = policies::health::may_eject(ejected(), set.all.len());
        endpoint.health.failed(uptime, may)
    };
    let (parts, connection, refusal) = asked.map_err(|rejection| all_down(rejection, &set))?;
    let idle = route.deadlines.idle;
    Ok(Box::new(Upgraded { parts, connection, refusal, shown, idle, busy }))
}

/// A backend's word: a connection that switched, or a refusal with its body.
type Word = (response::Parts, Option<Box<H1>>, bytes::Bytes);

async fn ask(
    cx: &Cx,
    route: &RoutePlan,
    backend: &Arc<Backend>,
    endpoint: &Arc<Endpoint>,
    head: &Head,
    record: &mut Record,
) -> Result<Word, Rejection> {
    if endpoint.scheme == Scheme::H2c {
        return Err(Rejection::Protocol);
    }
    let limits = policies::framing::HeadLimits {
        target_bytes: 0,
        header_bytes: cx.snapshot.limits.response_header_bytes,
        header_fields: cx.snapshot.limits.response_header_fields,
    };
    let Deadlines { connect, first_byte, idle, total } = route.deadlines;
    let until = Until { deadline: record.started() + total };
    let open = OpenConnection::new(backend, cx.worker.id);
    let connecting = connect::connect_http1(endpoint);
    let began = record.connecting(clock::now());
    let connected = tokio::time::timeout_at(until.in_time(connect), connecting)
        .await
        .unwrap_or(Err(ConnectError::TimedOut));
    let now = record.connected();
    endpoint.reached(!connected.as_ref().is_err_and(ConnectError::is_unreachable));
    let stream = match connected {
        Ok(Connected::H1(stream)) => {
            backend.life.counts[cx.worker.id].connect.add(began.elapsed());
            stream
        }
        Ok(Connected::H2(_)) => return Err(Rejection::Protocol),
        Err(ConnectError::TimedOut) => return Err(Rejection::ConnectTimeout),
        Err(_) => return Err(Rejection::ConnectFailed),
    };
    let mut connection = H1::new(stream, limits, Arc::clone(endpoint), open);
    let request = head_for(head, backend, endpoint, route.preserve_host);
    record.sent(now);
    let sending = connection.send(&request, Outgoing::Empty);
    let parts = until.wait(first_byte, sending).await?.map_err(|_| Rejection::Closed)?;
    record.first_byte(backend, parts.status.as_u16());
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok((parts, Some(connection), bytes::Bytes::new()));
    }
    // A refusal is short; it is read whole and passed on.
    let mut body = H1Body::new(connection);
    let mut refusal = bytes::BytesMut::new();
    loop {
        let next = std::future::poll_fn(|cx| body.poll_frame(cx));
        let Some(frame) = until.wait(idle, next).await? else { break };
        let frame = frame.map_err(|_| Rejection::Closed)?;
        if let Some(data) = frame.data_ref() {
            refusal.extend_from_slice(data);
        }
        if refusal.len() > 1 << 20 {
            return Err(Rejection::Protocol);
        }
    }
    Ok((parts, None, refusal.freeze()))
}

/// The end of the whole request, beside the shorter times of its steps (L10).
#[derive(Clone, Copy)]
struct Until {
    deadline: Instant,
}

impl Until {
    /// When a step that may last `step` must be over.
    fn in_time(self, step: Duration) -> tokio::time::Instant {
        (clock::now() + step).min(self.deadline).into()
    }

    async fn wait<T>(self, step: Duration, done: impl Future<Output = T>) -> Result<T, Rejection> {
        tokio::time::timeout_at(self.in_time(step), done).await.map_err(|_| {
            if clock::now() >= self.deadline {
                Rejection::TotalTimeout
            } else {
                Rejection::FirstByteTimeout
            }
        })
    }
}

/// Answers the client, and leaves the two streams where the connection's task joins them.
pub fn switch(cx: &Cx, upgraded: Upgraded, mut record: Record) -> Response<ResponseBody> {
    let Upgraded { mut parts, connection, refusal, shown, idle, busy } = upgraded;
    let agreed = connection.is_some();
    policies::headers::strip_hop_by_hop(&mut parts.headers, agreed);
    parts.headers.remove(header::TRANSFER_ENCODING);
    parts.headers.remove(header::CONTENT_LENGTH);
    stream_back::strip_ours(&mut parts.headers);
    if let Some(value) = cx.worker.header_of(record.id_text().as_str().as_bytes()) {
        parts.headers.insert(&names::REQUEST_ID, value);
    }
    if let Some(place) = shown {
        receipt::add(cx, &mut parts.headers, &mut record, place);
    }
    record.status(parts.status.as_u16());
    let Some(connection) = connection else {
        record.ended(Outcome::of_status(parts.status.as_u16()), None, true);
        record.row().response_bytes = refusal.len() as u64;
        return Response::from_parts(
            parts,
            ResponseBody::Own(Some(refusal), Some(Box::new(record))),
        );
    };
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let (stream, early, open) = connection.into_stream();
    *cx.conn.upgrade.borrow_mut() =
        Some(Tunnel { stream, early, record, idle, _open: open, _busy: busy });
    Response::from_parts(parts, ResponseBody::Own(None, None))
}

/// How a tunnel ended, as the record has it.
pub fn ended(record: &mut Record, clean: bool) {
    if clean {
        record.ended(Outcome::Ok, None, true);
    } else {
        record.ended(Outcome::UpstreamReset, Some(Flag::UpstreamReset), false);
    }
}
