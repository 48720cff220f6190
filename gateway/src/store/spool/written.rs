//! A row as JSON, so that a later version can read what an earlier one left.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use policies::outcome::{Flag, Outcome, RejectReason};
use serde::{Deserialize, Serialize};

use crate::names::{Name, intern};
use crate::recorder::row::{Micros, Protocol, Row, SpanFacts};
use crate::recorder::tried::Tried;

/// A [`Row`] as it is written. Members that are missing were unknown to the version that wrote them.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Written<'a> {
    request_id: [u8; 16],
    seq: u64,
    started_unix_nanos: u64,
    #[serde(skip_serializing_if = "is_default")]
    client_request_id: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    upstream_request_id: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    trace_id: [u8; 16],
    #[serde(skip_serializing_if = "is_default")]
    span_id: [u8; 8],
    #[serde(skip_serializing_if = "is_default")]
    parent_span_id: [u8; 8],
    #[serde(skip_serializing_if = "is_default")]
    sampled: bool,
    #[serde(skip_serializing_if = "is_default")]
    attempt_span_id: [u8; 8],
    peer: Option<SocketAddr>,
    client: Option<IpAddr>,
    protocol: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    tls_version: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    tls_cipher: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    user_agent: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    method: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    host: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    route: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    pattern: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    request_bytes: u64,
    #[serde(skip_serializing_if = "is_default")]
    key_id: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    experiment: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    revision: u64,
    #[serde(skip_serializing_if = "is_default")]
    variant: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    served: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    reason: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    bucket: Option<u16>,
    #[serde(skip_serializing_if = "is_default")]
    unit_hash: u64,
    #[serde(skip_serializing_if = "is_default")]
    eligible: bool,
    #[serde(skip_serializing_if = "is_default")]
    backend: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    endpoint: Option<SocketAddr>,
    #[serde(skip_serializing_if = "is_default")]
    attempts: u32,
    #[serde(skip_serializing_if = "is_default")]
    upstream_status: u16,
    #[serde(skip_serializing_if = "is_default")]
    reused: bool,
    #[serde(skip_serializing_if = "is_default")]
    status: u16,
    #[serde(skip_serializing_if = "is_default")]
    outcome: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    rejected: Option<Cow<'a, str>>,
    /// `error.type`, which is unlike for each flag; empty for `Flag::None`.
    #[serde(skip_serializing_if = "is_default")]
    flag: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    response_bytes: u64,
    #[serde(skip_serializing_if = "is_default")]
    stream: bool,
    #[serde(skip_serializing_if = "is_default")]
    chunks: u64,
    #[serde(skip_serializing_if = "is_default")]
    complete: bool,
    #[serde(skip_serializing_if = "is_default")]
    request_model: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_default")]
    response_model: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    tokens_estimated: bool,
    #[serde(skip_serializing_if = "is_default")]
    finish_reason: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_default")]
    t_header: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    t_auth: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    t_connect: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    t_send: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    t_first_byte: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    t_first_token: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    t_stream: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    t_total: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    t_gateway: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    shadow: bool,
    #[serde(skip_serializing_if = "is_default")]
    t_attempt: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    tried: Vec<Tried<'a>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl<'a> Written<'a> {
    pub(super) fn of(row: &'a Row) -> Self {
        // Field by field, so that a new one does not compile until it is written.
        let &Row {
            request_id,
            seq,
            started_unix_nanos,
            ref client_request_id,
            ref upstream_request_id,
            trace_id,
            span_id,
            parent_span_id,
            sampled,
            attempt_span_id,
            peer,
            client,
            protocol,
            tls_version,
            tls_cipher,
            ref user_agent,
            ref method,
            ref path,
            ref host,
            route,
            pattern,
            request_bytes,
            ref key_id,
            experiment,
            revision,
            variant,
            served,
            reason,
            bucket,
            unit_hash,
            eligible,
            backend,
            endpoint,
            attempts,
            upstream_status,
            reused,
            status,
            outcome,
            rejected,
            flag,
            response_bytes,
            stream,
            chunks,
            complete,
            request_model,
            ref response_model,
            input_tokens,
            output_tokens,
            tokens_estimated,
            ref finish_reason,
            t_header,
            t_auth,
            t_connect,
            t_send,
            t_first_byte,
            t_first_token,
            t_stream,
            t_total,
            t_gateway,
            shadow,
            // Spans are on their way before a row comes here: of them, the attempts are kept.
            ref spans,
        } = row;
        Self {
            request_id,
            seq,
            started_unix_nanos,
            client_request_id: client_request_id.into(),
            upstream_request_id: upstream_request_id.into(),
            trace_id,
            span_id,
            parent_span_id,
            sampled,
            attempt_span_id,
            peer: Some(peer),
            client: Some(client),
            protocol: protocol.as_str().into(),
            tls_version: tls_version.into(),
            tls_cipher: tls_cipher.into(),
            user_agent: user_agent.into(),
            method: method.into(),
            path: path.into(),
            host: host.into(),
            route: route.map(Cow::from),
            pattern: pattern.map(Cow::from),
            request_bytes,
            key_id: key_id.into(),
            experiment: experiment.map(Cow::from),
            revision,
            variant: variant.map(Cow::from),
            served: served.map(Cow::from),
            reason: reason.into(),
            bucket,
            unit_hash,
            eligible,
            backend: backend.map(Cow::from),
            endpoint,
            attempts,
            upstream_status,
            reused,
            status,
            outcome: outcome.map(|outcome| outcome.as_str().into()),
            rejected: rejected.map(|reason| reason.as_str().into()),
            flag: flag.map(|flag| flag.error_type().unwrap_or_default().into()),
            response_bytes,
            stream,
            chunks,
            complete,
            request_model: request_model.map(Cow::from),
            response_model: response_model.into(),
            input_tokens,
            output_tokens,
            tokens_estimated,
            finish_reason: finish_reason.into(),
            t_header: t_header.get(),
            t_auth: t_auth.get(),
            t_connect: t_connect.get(),
            t_send: t_send.get(),
            t_first_byte: t_first_byte.get(),
            t_first_token: t_first_token.get(),
            t_stream: t_stream.get(),
            t_total: t_total.get(),
            t_gateway: t_gateway.get(),
            shadow,
            t_attempt: spans.began.get(),
            tried: Tried::all(row),
        }
    }

    /// `None` if it says something that this version does not know.
    pub(super) fn read(self) -> Option<Row> {
        let unknown = Row::default();
        let name = |text: Option<Cow<'_, str>>| -> Option<Name> { text.map(|text| intern(&text)) };
        let protocols = [Protocol::Http10, Protocol::Http11, Protocol::Http2];
        let protocol = protocols.into_iter().find(|known| known.as_str() == self.protocol)?;
        let outcome = match self.outcome {
            None => None,
            Some(text) => Some(Outcome::ALL.into_iter().find(|known| known.as_str() == text)?),
        };
        let rejected = match self.rejected {
            None => None,
            Some(text) => Some(RejectReason::ALL.into_iter().find(|known| known.as_str() == text)?),
        };
        let flag = match self.flag {
            None => None,
            Some(text) => Some(
                Flag::ALL
                    .into_iter()
                    .find(|known| known.error_type().unwrap_or_default() == text)?,
            ),
        };
        let began = self.t_attempt.map_or(Micros::NONE, Micros::from_micros);
        let mut row = Row {
            request_id: self.request_id,
            seq: self.seq,
            started_unix_nanos: self.started_unix_nanos,
            client_request_id: self.client_request_id.into(),
            upstream_request_id: self.upstream_request_id.into(),
            trace_id: self.trace_id,
            span_id: self.span_id,
            parent_span_id: self.parent_span_id,
            sampled: self.sampled,
            attempt_span_id: self.attempt_span_id,
            peer: self.peer.unwrap_or(unknown.peer),
            client: self.client.unwrap_or(unknown.client),
            protocol,
            tls_version: intern(&self.tls_version),
            tls_cipher: intern(&self.tls_cipher),
            user_agent: self.user_agent.into(),
            method: self.method.into(),
            path: self.path.into(),
            host: self.host.into(),
            route: name(self.route),
            pattern: name(self.pattern),
            request_bytes: self.request_bytes,
            key_id: self.key_id.into(),
            experiment: name(self.experiment),
            revision: self.revision,
            variant: name(self.variant),
            served: name(self.served),
            reason: intern(&self.reason),
            bucket: self.bucket,
            unit_hash: self.unit_hash,
            eligible: self.eligible,
            backend: name(self.backend),
            endpoint: self.endpoint,
            attempts: self.attempts,
            upstream_status: self.upstream_status,
            reused: self.reused,
            status: self.status,
            outcome,
            rejected,
            flag,
            response_bytes: self.response_bytes,
            stream: self.stream,
            chunks: self.chunks,
            complete: self.complete,
            request_model: name(self.request_model),
            response_model: self.response_model.into(),
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            tokens_estimated: self.tokens_estimated,
            finish_reason: self.finish_reason.into(),
            t_header: self.t_header.map_or(Micros::NONE, Micros::from_micros),
            t_auth: self.t_auth.map_or(Micros::NONE, Micros::from_micros),
            t_connect: self.t_connect.map_or(Micros::NONE, Micros::from_micros),
            t_send: self.t_send.map_or(Micros::NONE, Micros::from_micros),
            t_first_byte: self.t_first_byte.map_or(Micros::NONE, Micros::from_micros),
            t_first_token: self.t_first_token.map_or(Micros::NONE, Micros::from_micros),
            t_stream: self.t_stream.map_or(Micros::NONE, Micros::from_micros),
            t_total: self.t_total.map_or(Micros::NONE, Micros::from_micros),
            t_gateway: self.t_gateway.map_or(Micros::NONE, Micros::from_micros),
            shadow: self.shadow,
            spans: SpanFacts { began, ..unknown.spans },
        };
        Tried::give(&self.tried, &mut row);
        Some(row)
    }
}
