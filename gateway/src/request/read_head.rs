//! The head of a request, made canonical: one form for matching, for the backend and for the log.

use std::rc::Rc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, Uri, Version, header};
use policies::framing::Fault;
use policies::headers::{AskedVariant, Seen};
use policies::peek::Member;
use policies::trace_context::{self, TraceContext};

use crate::backends::added::{Added, Forwarded};
use crate::body::Outgoing;
use crate::request::record::cut;
use crate::request::{Cx, Record, Rejection};
use crate::server::conn::Refusal;
use crate::snapshot::names;

/// A request, ready to be decided about and sent on.
#[derive(Debug)]
pub struct Head {
    /// Method.
    pub method: Method,
    /// Canonical host, without port; empty for an HTTP/1.0 client that names none.
    pub host: Rc<str>,
    /// Host and port as the client wrote them.
    pub authority: Option<HeaderValue>,
    /// Canonical path.
    pub path: String,
    /// Query with its `?`, untouched; empty if there is none.
    pub query: String,
    /// Fields that may go on.
    pub headers: HeaderMap,
    /// Which were there when it came.
    pub seen: Seen,
    /// What is added to them.
    pub added: Added,
    /// The variant that the client asks for; whether it may is for `assign` to say.
    pub forced: Forced,
    /// Whether it is a shadow copy already.
    pub is_copy: bool,
    /// Whether the peer is one whose forwarding headers and trace context are believed.
    pub trusted: bool,
    /// Trace context that came along.
    pub trace: Option<TraceContext>,
    /// Trace state that came along, combined.
    pub trace_state: Option<String>,
    /// Whether a WebSocket upgrade is asked for.
    pub upgrade: bool,
    /// What is sent to the backend.
    pub payload: Payload,
}

/// What `x-weir-variant` asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forced {
    /// Nothing.
    No,
    /// One variant, by name.
    Variant(String),
    /// More than one.
    Ambiguous,
}

/// The body, as far as it was read.
#[derive(Debug, Default)]
pub enum Payload {
    /// Not looked at.
    #[default]
    Unread,
    /// There is none.
    Empty,
    /// All of it, and what was found in it.
    Whole(Bytes, Peeked),
    /// Still coming.
    Streaming(Rc<crate::body::Source>, Option<u64>),
}

/// What was found in a JSON body.
#[derive(Clone, Debug, Default)]
pub struct Peeked {
    /// `model`, and where its value stands.
    pub model: Option<(String, std::ops::Range<usize>)>,
    /// Members that units are taken from, by the route's pointers.
    pub found: Vec<Option<String>>,
}

impl Peeked {
    /// Keeps what `policies::peek` found, without the borrow.
    pub fn own(model: Option<Member<'_>>, found: Vec<Option<std::borrow::Cow<'_, str>>>) -> Self {
        Self {
            model: model.map(|member| (member.value.into_owned(), member.span)),
            found: found.into_iter().map(|text| text.map(|text| text.into_owned())).collect(),
        }
    }
}

impl Payload {
    /// A body for one attempt; a streamed one starts at its first byte.
    pub fn outgoing(&self) -> Outgoing {
        match self {
            Self::Unread | Self::Empty => Outgoing::Empty,
            Self::Whole(bytes, _) if bytes.is_empty() => Outgoing::Empty,
            Self::Whole(bytes, _) => Outgoing::Full(Some(bytes.clone())),
            Self::Streaming(source, length) => {
                Outgoing::Stream { source: Rc::clone(source), replayed: 0, length: *length }
            }
        }
    }

    /// All of it, where it is at hand.
    pub fn whole(&self) -> Option<&[u8]> {
        match self {
            Self::Whole(bytes, _) => Some(bytes),
            Self::Unread | Self::Empty | Self::Streaming(..) => None,
        }
    }

    /// Whether a second attempt can have the same body.
    pub fn replayable(&self) -> bool {
        match self {
            Self::Unread | Self::Empty | Self::Whole(..) => true,
            Self::Streaming(source, _) => source.replayable(),
        }
    }

    /// Whether the client has sent all of it.
    pub fn is_read(&self) -> bool {
        match self {
            Self::Unread | Self::Empty | Self::Whole(..) => true,
            Self::Streaming(source, _) => source.done.get(),
        }
    }

    /// What was found in it.
    pub fn peeked(&self) -> Option<&Peeked> {
        match self {
            Self::Whole(_, peeked) => Some(peeked),
            Self::Unread | Self::Empty | Self::Streaming(..) => None,
        }
    }
}

/// Reads the head. Nothing of the client's that could steer us survives it.
///
/// # Errors
/// What is wrong with the head.
pub fn read_head(cx: &Cx, parts: Parts, record: &mut Record) -> Result<Box<Head>, Rejection> {
    let h2_fault = if parts.version == Version::HTTP_2 {
        policies::headers::h2_request_fault(&parts)
    } else {
        None
    };
    let Parts { method, uri, version, mut headers, .. } = parts;
    // One look at all names; what is not there is not searched for.
    let seen = Seen::of(&headers);
    if seen.has(Seen::CONTENT_TYPE)
        && let Some(value) = headers.get(header::CONTENT_TYPE)
        && value.as_bytes().starts_with(b"application/grpc")
    {
        record.set_grpc();
    }
    // Before anything can refuse: the log wants to know what was asked.
    {
        let row = record.row();
        row.path.push_str(cut(uri.path(), 512));
        if seen.has(Seen::USER_AGENT)
            && let Some(Ok(agent)) = headers.get(header::USER_AGENT).map(HeaderValue::to_str)
        {
            row.user_agent.push_str(cut(agent, 256));
        }
        if seen.has(Seen::REQUEST_ID)
            && let Some(Ok(id)) = headers.get(&names::REQUEST_ID).map(HeaderValue::to_str)
            && (8..=128).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        {
            row.client_request_id.push_str(id);
        }
    }
    // Whatever is wrong, a client that waits for a 100 is not made to send its body.
    let mut expectations: Vec<HeaderValue> = Vec::new();
    if seen.has(Seen::EXPECT) {
        expectations.extend(headers.get_all(header::EXPECT).iter().cloned());
        headers.remove(header::EXPECT);
    }
    let is_continue = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    record.expects_continue = expectations.iter().any(is_continue);
    if version == Version::HTTP_2 && headers.len() > cx.snapshot.limits.header_fields {
        // On HTTP/1 they are counted before they are parsed (L03).
        return Err(Rejection::Refused(Refusal::Framing(Fault::TooManyFields)));
    }
    if matches!(method, Method::CONNECT | Method::TRACE) {
        return Err(Rejection::Method);
    }
    if let Some(fault) = h2_fault {
        return Err(Rejection::Head(fault.to_string()));
    }
    if uri.path() == "*" && method != Method::OPTIONS {
        return Err(Rejection::Head("the target `*` is for OPTIONS only".into()));
    }
    let (host, authority) = host(cx, &uri, &headers, version)?;
    let path = routing::canonical_path(uri.path())
        .map_err(|fault| Rejection::Head(format!("the path is not acceptable: {fault}")))?
        .into_owned();
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    {
        let row = record.row();
        row.path.clear();
        row.path.push_str(cut(&path, 512));
        row.host.push_str(cut(&host, 256));
    }

    if !expectations.iter().all(is_continue) {
        return Err(Rejection::Expectation);
    }
    let trusted = trusted(cx);
    let upgrade = seen.has(Seen::UPGRADE) && asks_for_websocket(&headers, version)?;
    let is_copy = trusted && seen.has(Seen::OURS) && headers.contains_key(&names::SHADOW);
    let (trace, trace_state) =
        if seen.has(Seen::TRACEPARENT) { trace_of(&headers) } else { (None, None) };
    record.row().spans.link = trace;

    let asked = if seen.has(Seen::OURS) {
        policies::headers::scrub_client(&mut headers, trusted)
    } else {
        AskedVariant::Nothing
    };
    let forced = match asked {
        AskedVariant::Nothing => Forced::No,
        AskedVariant::One(value) => {
            Forced::Variant(cut(value.to_str().unwrap_or("?"), 128).to_owned())
        }
        AskedVariant::Ambiguous => Forced::Ambiguous,
    };
    if seen.has(Seen::HOP_BY_HOP) {
        policies::headers::strip_hop_by_hop(&mut headers, upgrade);
    }
    for (kind, name) in [
        (Seen::REQUEST_ID, &names::REQUEST_ID),
        (Seen::TRACEPARENT, &names::TRACEPARENT),
        (Seen::TRACESTATE, &names::TRACESTATE),
        (Seen::BAGGAGE, &names::BAGGAGE),
        (Seen::TRANSFER_ENCODING, &header::TRANSFER_ENCODING),
    ] {
        if seen.has(kind) {
            headers.remove(name);
        }
    }
    if version == Version::HTTP_2 && seen.has(Seen::COOKIE) {
        policies::headers::join_cookies(&mut headers);
    }
    if trusted && let Some(client) = forwarded_client(&headers) {
        record.row().client = client;
    }
    let mut added = Added::default();
    let client = &cx.conn.peer_value;
    if trusted {
        policies::headers::set_forwarded(&mut headers, client, "https", authority.as_ref());
    } else {
        added.forwarded = Some(Forwarded { client: client.clone(), host: authority.clone() });
    }
    // Boxed: it goes through many hands.
    Ok(Box::new(Head {
        method,
        host,
        authority,
        path,
        query,
        headers,
        seen,
        added,
        forced,
        is_copy,
        trusted,
        trace,
        trace_state,
        upgrade,
        payload: Payload::Unread,
    }))
}

/// Host as routes see it, and as the client wrote it (T06). One authority, said once or twice alike.
fn host(
    cx: &Cx,
    uri: &Uri,
    headers: &HeaderMap,
    version: Version,
) -> Result<(Rc<str>, Option<HeaderValue>), Rejection> {
    let bad = |why: String| Rejection::Head(why);
    let mut fields = headers.get_all(header::HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(bad("header `host` occurs twice".into()));
    }
    let target = uri.authority().map(http::uri::Authority::as_str);
    let field_text = match field {
        None => None,
        Some(value) => Some(value.to_str().map_err(|_| bad("header `host` is not text".into()))?),
    };
    let text = match (target, field_text) {
        (Some(target), Some(field)) if !target.eq_ignore_ascii_case(field) => {
            return Err(bad("the request names two hosts".into()));
        }
        (Some(target), _) => target,
        (None, Some(field)) => field,
        (None, None) if version == Version::HTTP_10 => return Ok(("".into(), None)),
        (None, None) => return Err(bad("the request names no host".into())),
    };
    let value = match field {
        Some(value) => value.clone(),
        None => HeaderValue::from_str(text).map_err(|_| bad("the host is not text".into()))?,
    };
    let mut last = cx.conn.host.borrow_mut();
    if let Some((written, host)) = &*last
        && **written == *text
    {
        return Ok((Rc::clone(host), Some(value)));
    }
    let authority = routing::canonical_authority(text)
        .map_err(|fault| bad(format!("the host is not acceptable: {fault}")))?;
    let host: Rc<str> = authority.host.into();
    *last = Some((text.into(), Rc::clone(&host)));
    Ok((host, Some(value)))
}

/// Whether the peer's forwarding headers are believed.
fn trusted(cx: &Cx) -> bool {
    let peers = &cx.snapshot.trusted_peers;
    !peers.is_empty() && {
        let ip = cx.conn.peer.ip().to_canonical();
        peers.iter().any(|network| network.contains(ip))
    }
}

/// The client as a trusted peer tells it: the last address it appended.
fn forwarded_client(headers: &HeaderMap) -> Option<std::net::IpAddr> {
    let last = headers.get_all(policies::headers::X_FORWARDED_FOR).iter().next_back()?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// Whether the client asks for a WebSocket. Any other upgrade is only a header that is dropped.
fn asks_for_websocket(headers: &HeaderMap, version: Version) -> Result<bool, Rejection> {
    let Some(protocol) = headers.get(header::UPGRADE) else { return Ok(false) };
    let connection_says = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
    let websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
    if version != Version::HTTP_11 || !connection_says || !websocket {
        return Ok(false);
    }
    if headers.contains_key(header::CONTENT_LENGTH)
        || headers.contains_key(header::TRANSFER_ENCODING)
    {
        return Err(Rejection::Head("an upgrade request cannot have a body".into()));
    }
    Ok(true)
}

fn trace_of(headers: &HeaderMap) -> (Option<TraceContext>, Option<String>) {
    let mut fields = headers.get_all(&names::TRACEPARENT).iter();
    let (Some(first), None) = (fields.next(), fields.next()) else { return (None, None) };
    let Some(context) = trace_context::parse_traceparent(first.as_bytes()) else {
        return (None, None);
    };
    let states = headers.get_all(&names::TRACESTATE);
    let state =
        trace_context::combine_tracestate(states.iter().filter_map(|value| value.to_str().ok()));
    (Some(context), state)
}

/// The answer to a load balancer's question on the edge.
pub fn health(cx: &Cx, head: &Head) -> Option<Response<Bytes>> {
    let path = cx.snapshot.health_path.as_deref()?;
    if head.path != path || !matches!(head.method, Method::GET | Method::HEAD | Method::POST) {
        return None;
    }
    let (status, text) = if cx.worker.draining() { (503, "draining") } else { (200, "ok") };
    let mut response = Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::OK);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Some(response)
}
