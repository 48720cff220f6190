//! What is known of one request when it is over: the source of its outcome row, its access line,
//! its spans and its share of every tally.
//!
//! Rows are recycled: a worker takes one from the pool, fills it while the request runs, and hands
//! it to the recorder; the recorder gives it back. So the text fields keep their capacity and an
//! ordinary request allocates nothing here.

use compact_str::CompactString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use policies::outcome::{Flag, Outcome, RejectReason};
use policies::trace_context::TraceContext;

use crate::names::Name;

/// Attempts that a row keeps besides the last: two at the variant's backend, two at control's.
const MOST_EARLIER: usize = 3;

/// A duration in whole microseconds that may be unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Micros(Option<std::num::NonZeroU64>);

impl Micros {
    /// Unknown.
    pub const NONE: Self = Self(None);

    /// A known duration. Stored plus one, so that zero is a value like any other.
    pub fn of(duration: std::time::Duration) -> Self {
        Self::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX - 1))
    }

    /// The same from nanoseconds.
    pub fn of_nanos(nanos: u64) -> Self {
        Self::from_micros(nanos / 1_000)
    }

    /// A known number of microseconds.
    pub fn from_micros(micros: u64) -> Self {
        Self(std::num::NonZeroU64::new(micros.saturating_add(1)))
    }

    /// The number of microseconds, if known.
    pub fn get(self) -> Option<u64> {
        self.0.map(|n| n.get() - 1)
    }
}

/// Protocol a client spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// `network.protocol.version`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

/// One attempt at a backend that another one followed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attempt {
    /// Its span.
    pub span_id: [u8; 8],
    /// Backend.
    pub backend: Option<Name>,
    /// Address.
    pub endpoint: Option<SocketAddr>,
    /// Whether it used an existing connection.
    pub reused: bool,
    /// Why it failed.
    pub failed: Option<Flag>,
    /// End of the head to its beginning.
    pub began: Micros,
    /// End of the head to its end.
    pub ended: Micros,
}

/// What only spans are made of, and nobody stores. A request that is not sampled allocates nothing
/// for it, unless it is retried.
#[derive(Clone, Debug, Default)]
pub struct SpanFacts {
    /// What the caller's `traceparent` said, if its trace is not continued.
    pub link: Option<TraceContext>,
    /// Whether the low bytes of the trace id are random.
    pub random: bool,
    /// End of the head to the beginning of the last attempt.
    pub began: Micros,
    /// Why the last attempt failed, if it did before an answer.
    pub failed: Option<Flag>,
    /// Attempts before the last one, the first first.
    pub earlier: Vec<Attempt>,
    /// Whether the row tells of a copy to a shadow: it has one span, no line, and no outcome.
    pub copy: bool,
}

/// One request, over. Text fields are empty where unknown.
#[derive(Clone, Debug)]
pub struct Row {
    /// UUIDv7, made here; the key of everything that is joined later.
    pub request_id: [u8; 16],
    /// Number of this request among those assigned since the process started; 0 if it was refused.
    pub seq: u64,
    /// Wall clock at the end of the head, nanoseconds since 1970.
    pub started_unix_nanos: u64,
    /// The client's own request id, if well formed.
    pub client_request_id: CompactString,
    /// The backend's.
    pub upstream_request_id: CompactString,
    /// Trace this request belongs to.
    pub trace_id: [u8; 16],
    /// Span of this request.
    pub span_id: [u8; 8],
    /// Span of the caller, if the trace is continued (else zero).
    pub parent_span_id: [u8; 8],
    /// Whether spans are sent.
    pub sampled: bool,
    /// Span of the attempt that answered.
    pub attempt_span_id: [u8; 8],

    /// Socket peer.
    pub peer: SocketAddr,
    /// Client after trusted-proxy rules.
    pub client: IpAddr,
    /// Protocol of the client.
    pub protocol: Protocol,
    /// TLS version, such as `1.3`.
    pub tls_version: &'static str,
    /// TLS cipher suite.
    pub tls_cipher: &'static str,
    /// User agent, cut.
    pub user_agent: CompactString,

    /// Method, cut.
    pub method: CompactString,
    /// Canonical path, cut at 512 bytes.
    pub path: CompactString,
    /// Authority as the client asked.
    pub host: CompactString,
    /// Route.
    pub route: Option<Name>,
    /// `http.route`.
    pub pattern: Option<Name>,
    /// Request body bytes read.
    pub request_bytes: u64,

    /// Key that called: its public id.
    pub key_id: CompactString,

    /// Experiment that decided, or held the request out.
    pub experiment: Option<Name>,
    /// Its revision.
    pub revision: u64,
    /// Assigned variant.
    pub variant: Option<Name>,
    /// Variant that served, if another.
    pub served: Option<Name>,
    /// Why (`split`, `targeting_match`, …); empty if nothing was assigned.
    pub reason: &'static str,
    /// Bucket of the unit.
    pub bucket: Option<u16>,
    /// Keyed hash of the unit; 0 if there was none.
    pub unit_hash: u64,
    /// Whether this is an exposure that may be compared: dealt by hash.
    pub eligible: bool,

    /// Backend of the last attempt.
    pub backend: Option<Name>,
    /// Address of the last attempt.
    pub endpoint: Option<SocketAddr>,
    /// Attempts made.
    pub attempts: u32,
    /// Status the backend answered; 0 if none.
    pub upstream_status: u16,
    /// Whether the last attempt used an existing connection.
    pub reused: bool,

    /// Status the client got; 499 if it left, 0 if none.
    pub status: u16,
    /// How it ended; `None` if it was refused.
    pub outcome: Option<Outcome>,
    /// Why it was refused.
    pub rejected: Option<RejectReason>,
    /// Response flag; `None` as the backend answered.
    pub flag: Option<Flag>,
    /// Response body bytes written.
    pub response_bytes: u64,
    /// Whether the answer was an event stream.
    pub stream: bool,
    /// Pieces of body passed on.
    pub chunks: u64,
    /// Whether the body ended as the backend meant it.
    pub complete: bool,

    /// Model the client asked for, clamped to a configured name, else `_other`.
    pub request_model: Option<Name>,
    /// Model the backend named.
    pub response_model: CompactString,
    /// Tokens read.
    pub input_tokens: Option<u64>,
    /// Tokens made.
    pub output_tokens: Option<u64>,
    /// Whether `output_tokens` was counted here because the stream stopped early (T30).
    pub tokens_estimated: bool,
    /// Why the model stopped.
    pub finish_reason: CompactString,

    /// First byte of the head to its end.
    pub t_header: Micros,
    /// End of head to the caller known, or refused.
    pub t_auth: Micros,
    /// Waiting for a connection.
    pub t_connect: Micros,
    /// Connection had to the last byte of head and body written to it; HTTP/1.1 only.
    pub t_send: Micros,
    /// End of head to first response byte from the backend.
    pub t_first_byte: Micros,
    /// End of head to the first body byte handed to the client.
    pub t_first_token: Micros,
    /// First body byte to the last.
    pub t_stream: Micros,
    /// End of head to the end.
    pub t_total: Micros,
    /// Time that was ours: neither waiting for the backend nor for a connection.
    pub t_gateway: Micros,

    /// Whether a copy went to a shadow.
    pub shadow: bool,

    /// What only spans are made of.
    pub spans: SpanFacts,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            request_id: [0; 16],
            seq: 0,
            started_unix_nanos: 0,
            client_request_id: CompactString::const_new(""),
            upstream_request_id: CompactString::const_new(""),
            trace_id: [0; 16],
            span_id: [0; 8],
            parent_span_id: [0; 8],
            sampled: false,
            attempt_span_id: [0; 8],
            peer: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            protocol: Protocol::default(),
            tls_version: "",
            tls_cipher: "",
            user_agent: CompactString::const_new(""),
            method: CompactString::const_new(""),
            path: CompactString::const_new(""),
            host: CompactString::const_new(""),
            route: None,
            pattern: None,
            request_bytes: 0,
            key_id: CompactString::const_new(""),
            experiment: None,
            revision: 0,
            variant: None,
            served: None,
            reason: "",
            bucket: None,
            unit_hash: 0,
            eligible: false,
            backend: None,
            endpoint: None,
            attempts: 0,
            upstream_status: 0,
            reused: false,
            status: 0,
            outcome: None,
            rejected: None,
            flag: None,
            response_bytes: 0,
            stream: false,
            chunks: 0,
            complete: false,
            request_model: None,
            response_model: CompactString::const_new(""),
            input_tokens: None,
            output_tokens: None,
            tokens_estimated: false,
            finish_reason: CompactString::const_new(""),
            t_header: Micros::NONE,
            t_auth: Micros::NONE,
            t_connect: Micros::NONE,
            t_send: Micros::NONE,
            t_first_byte: Micros::NONE,
            t_first_token: Micros::NONE,
            t_stream: Micros::NONE,
            t_total: Micros::NONE,
            t_gateway: Micros::NONE,
            shadow: false,
            spans: SpanFacts::default(),
        }
    }
}

impl Row {
    /// Attempts before the last one.
    pub fn earlier(&self) -> &[Attempt] {
        let count = (self.attempts as usize).saturating_sub(1);
        self.spans.earlier.get(..count).unwrap_or(&self.spans.earlier)
    }

    /// Another attempt follows this one.
    pub fn add_earlier(&mut self, attempt: Attempt) {
        if self.spans.earlier.len() < MOST_EARLIER {
            self.spans.earlier.push(attempt);
        }
    }

    /// Spans that it has if it is sampled.
    pub fn span_count(&self) -> usize {
        if self.spans.copy || self.attempts == 0 { 1 } else { 2 + self.earlier().len() }
    }

    /// Back to the beginning, keeping the room of the text fields.
    pub fn clear(&mut self) {
        let mut texts = [
            std::mem::take(&mut self.client_request_id),
            std::mem::take(&mut self.upstream_request_id),
            std::mem::take(&mut self.user_agent),
            std::mem::take(&mut self.method),
            std::mem::take(&mut self.path),
            std::mem::take(&mut self.host),
            std::mem::take(&mut self.key_id),
            std::mem::take(&mut self.response_model),
            std::mem::take(&mut self.finish_reason),
        ];
        for text in &mut texts {
            text.clear();
        }
        let [
            client_request_id,
            upstream_request_id,
            user_agent,
            method,
            path,
            host,
            key_id,
            response_model,
            finish_reason,
        ] = texts;
        *self = Self {
            client_request_id,
            upstream_request_id,
            user_agent,
            method,
            path,
            host,
            key_id,
            response_model,
            finish_reason,
            ..Self::default()
        };
    }
}
