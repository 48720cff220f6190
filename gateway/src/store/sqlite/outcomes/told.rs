//! An outcome as JSON, with the names of the access log, as far as they are known.

use std::net::SocketAddr;

use policies::outcome::Flag;
use rusqlite::Connection;
use serde_json::{Map, Value};

use super::address::Address;
use super::block::Known;
use super::packed::{More, bit};
use crate::clock::rfc3339;
use crate::ids::{RequestId, hex};
use crate::recorder::row::Protocol;
use crate::store::StoreError;
use crate::store::sqlite::vocabulary::{Vocabulary, Way};
use crate::store::sqlite::{Fault, damaged, int};

/// An outcome with everything that is known of it.
pub(super) struct Found<'a> {
    /// Id of its boot.
    pub(super) boot: [u8; 16],
    pub(super) known: &'a Known,
    /// Of `known`, in numbers.
    pub(super) way: Way,
    pub(super) more: More<'a>,
}

/// Tells it.
pub(super) fn json(
    connection: &Connection,
    vocabulary: &mut Vocabulary,
    row: &Found<'_>,
) -> Result<Value, Fault> {
    let mut out = Map::new();
    let Found { boot, known, way, more } = row;
    let set = |bit| more.bits & bit != 0;

    let id = RequestId(known.key.id());
    let started = id.unix_nanos().wrapping_add_signed(more.started);
    out.insert("request_id".into(), id.to_string().into());
    out.insert("boot_id".into(), hex(boot).into());
    out.insert("timestamp".into(), rfc3339(started).into());
    out.insert("trace_sampled".into(), set(bit::SAMPLED).into());
    let protocol = if set(bit::HTTP_10) {
        Protocol::Http10
    } else if set(bit::HTTP_2) {
        Protocol::Http2
    } else {
        Protocol::Http11
    };
    out.insert("network.protocol.version".into(), protocol.as_str().into());
    for (member, bit) in [
        ("stream", bit::STREAM),
        ("stream.complete", bit::COMPLETE),
        ("connection.reused", bit::REUSED),
        ("shadow", bit::SHADOW),
    ] {
        out.insert(member.into(), set(bit).into());
    }

    let packed = |number: Option<u64>| number.map(int);
    let [route, pattern, experiment, variant, served, backend] =
        way.map(|number| Some(number).filter(|&number| number != 0));
    for (member, number) in [
        ("route", route),
        ("http.route", pattern),
        ("experiment", experiment),
        ("variant", variant),
        ("variant.served", served),
        ("assignment.reason", packed(more.reason)),
        ("backend", backend),
        ("outcome", known.outcome),
        ("rejected", packed(more.rejected)),
        ("error.type", packed(more.flag)),
        ("tls.protocol.version", packed(more.tls_version)),
        ("tls.cipher", packed(more.tls_cipher)),
        ("gen_ai.request.model", packed(more.request_model)),
    ] {
        let Some(number) = number else { continue };
        let word = vocabulary.word(connection, number)?.ok_or_else(|| {
            StoreError::Damaged(format!("name {number} is missing, an outcome has it"))
        })?;
        out.insert(member.into(), word.into());
    }
    let flag = out.get("error.type").and_then(Value::as_str);
    let flag = Flag::ALL.into_iter().find(|known| known.error_type() == flag).unwrap_or_default();
    out.insert("flags".into(), flag.as_str().into());

    for (member, number) in [
        ("seq", Some(known.seq)),
        ("attempts", Some(more.attempts)),
        ("http.request.body.size", Some(more.request_bytes)),
        ("http.response.body.size", Some(more.response_bytes)),
        ("stream.chunks", Some(more.chunks)),
        ("assignment.bucket", more.bucket),
        ("gen_ai.usage.input_tokens", more.input_tokens),
        ("gen_ai.usage.output_tokens", more.output_tokens),
        ("t_header", more.t_header),
        ("t_auth", more.t_auth),
        ("t_connect", more.t_connect),
        ("t_send", more.t_send),
        ("t_first_byte", more.t_first_byte),
        ("t_first_token", more.t_first_token),
        ("t_stream", more.t_stream),
        ("t_total", known.t_total),
        ("t_gateway", more.t_gateway),
        ("t_attempt", more.t_attempt),
        // Zero means that there was none.
        ("http.response.status_code", Some(known.status.into()).filter(|&status| status != 0)),
        ("upstream.status", Some(more.upstream_status).filter(|&status| status != 0)),
    ] {
        if let Some(number) = number {
            out.insert(member.into(), number.into());
        }
    }
    let pattern = out.get("http.route").cloned();
    for (member, text) in [
        ("http.request.method", more.method),
        ("url.path", more.path),
        ("server.address", more.host),
        ("user_agent.original", more.user_agent),
        ("auth.key_id", more.key_id),
        ("gen_ai.response.model", more.response_model),
        ("gen_ai.response.finish_reason", more.finish_reason),
        ("client_request_id", more.client_request_id),
        ("upstream_request_id", more.upstream_request_id),
    ] {
        if !text.is_empty() {
            out.insert(member.into(), text.into());
        }
    }
    if let Some(pattern) = pattern.filter(|_| set(bit::PATH_IS_PATTERN)) {
        out.insert("url.path".into(), pattern);
    }
    if out.contains_key("experiment") {
        out.insert("experiment.revision".into(), more.revision.into());
        out.insert("assignment.eligible".into(), set(bit::ELIGIBLE).into());
    }
    if more.output_tokens.is_some() {
        let source = if set(bit::TOKENS_ESTIMATED) { "estimated" } else { "reported" };
        out.insert("usage.source".into(), source.into());
    }
    if let Some(hash) = known.unit_hash {
        // As text: a number of 64 bits does not survive JavaScript.
        out.insert("unit.hash".into(), hex(&hash.to_be_bytes()).into());
    }
    if !more.tried.is_empty() {
        let tried = serde_json::from_str(more.tried)
            .map_err(|error| damaged(&"attempts of an outcome", &error))?;
        out.insert("attempts.earlier".into(), tried);
    }
    addresses(more, &mut out);
    traces(more, &mut out);
    Ok(Value::Object(out))
}

fn addresses(more: &More<'_>, out: &mut Map<String, Value>) {
    if let Some((ip, port)) = Address::read(more.peer) {
        out.insert("network.peer.address".into(), ip.to_string().into());
        out.insert("network.peer.port".into(), port.into());
        out.insert("client.address".into(), ip.to_string().into());
    }
    if let Some((ip, _)) = Address::read(more.client) {
        out.insert("client.address".into(), ip.to_string().into());
    }
    if let Some((ip, port)) = Address::read(more.endpoint) {
        let address = SocketAddr::new(ip, port.unwrap_or_default());
        out.insert("server.backend.address".into(), address.to_string().into());
    }
}

fn traces(more: &More<'_>, out: &mut Map<String, Value>) {
    for (member, bytes) in [
        ("trace_id", &more.trace_id[..]),
        ("span_id", &more.span_id),
        ("parent_span_id", &more.parent_span_id),
        ("attempt.span_id", &more.attempt_span_id),
    ] {
        if bytes.iter().any(|&byte| byte != 0) {
            out.insert(member.into(), hex(bytes).into());
        }
    }
}
