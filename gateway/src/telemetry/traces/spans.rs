//! The spans of a finished request: what its row has to say.
//!
//! One SERVER span, one CLIENT span for each attempt; for a copy to a shadow one CLIENT span, which
//! is a child of the request's and may end after it.

use policies::outcome::{Flag, Outcome};

use super::gen_ai;
use super::wire::{Head, Key, Kind, Link, SpanWriter, Tail, key};
use crate::ids::RequestId;
use crate::recorder::row::{Attempt, Micros, Row};

/// Longest path in a span, bytes.
const MOST_PATH: usize = 512;
/// Longest of other texts in a span, bytes.
pub(super) const MOST_TEXT: usize = 256;

/// Appends the span `number` of `row` to `out`; it has as many as [`Row::span_count`] says.
pub(super) fn write(row: &Row, number: usize, out: &mut Vec<u8>) {
    if row.spans.copy {
        return shadow_span(row, out);
    }
    let Some(place) = number.checked_sub(1) else { return server_span(row, out) };
    match row.earlier().get(place) {
        // At most `MOST_EARLIER`.
        #[expect(clippy::cast_possible_truncation, reason = "a handful")]
        Some(attempt) => attempt_span(row, attempt, number as u32, false, out),
        None => attempt_span(row, &last(row), row.attempts, true, out),
    }
}

fn server_span(row: &Row, out: &mut Vec<u8>) {
    let method = known_method(&row.method);
    let head = Head {
        trace_id: &row.trace_id,
        id: &row.span_id,
        parent: &row.parent_span_id,
        kind: Kind::Server,
        name: (method.unwrap_or("HTTP"), row.pattern.filter(|_| method.is_some())),
        began: row.started_unix_nanos,
        ended: at(row, row.t_total),
    };
    let mut span = SpanWriter::begin(out, &head);
    span.text(key!("http.request.method"), method.unwrap_or("_OTHER"));
    if method.is_none() {
        text(&mut span, key!("http.request.method_original"), &row.method, MOST_TEXT);
    }
    text(&mut span, key!("url.path"), &row.path, MOST_PATH);
    span.text(key!("url.scheme"), if row.tls_version.is_empty() { "http" } else { "https" });
    name(&mut span, key!("http.route"), row.pattern);
    // 499 is a word of our log; nobody was answered.
    if row.status > 0 && row.status != 499 {
        span.number(key!("http.response.status_code"), row.status.into());
    }
    match row.flag.unwrap_or_default().error_type() {
        Some(error_type) => span.text(key!("error.type"), error_type),
        None if row.status >= 500 => span.number_text(key!("error.type"), row.status.into()),
        None => {}
    }
    span.text(key!("network.protocol.version"), row.protocol.as_str());
    text(&mut span, key!("server.address"), &row.host, MOST_TEXT);
    span.address(key!("client.address"), row.client);
    span.address(key!("network.peer.address"), row.peer.ip());
    span.number(key!("network.peer.port"), row.peer.port().into());
    text(&mut span, key!("user_agent.original"), &row.user_agent, MOST_TEXT);
    // Joins the span with log line, outcome and feedback.
    span.text(key!("weir.request_id"), RequestId(row.request_id).text().as_str());
    if let Some(experiment) = row.experiment {
        span.text(key!("feature_flag.key"), experiment);
        name(&mut span, key!("feature_flag.result.variant"), row.variant);
        name(&mut span, key!("feature_flag.result.reason"), Some(row.reason));
        span.number_text(key!("feature_flag.version"), row.revision);
        span.text(key!("feature_flag.provider.name"), "weir");
        if row.unit_hash != 0 {
            span.hex(key!("feature_flag.context.id"), row.unit_hash);
        }
        name(&mut span, key!("weir.variant.served"), row.served);
    }
    let link = row.spans.link.as_ref().map(|link| Link {
        trace_id: &link.trace_id,
        id: &link.parent_id,
        sampled: link.sampled,
    });
    span.end(&Tail {
        link,
        in_error: row.status >= 500 || was_cut(row),
        remote_parent: row.parent_span_id != [0; 8],
    });
}

fn attempt_span(row: &Row, attempt: &Attempt, number: u32, last: bool, out: &mut Vec<u8>) {
    let operation = gen_ai::operation(&row.path);
    let model = row.request_model.unwrap_or("_other");
    let began = at(row, attempt.began);
    let head = Head {
        trace_id: &row.trace_id,
        id: &attempt.span_id,
        parent: &row.span_id,
        kind: Kind::Client,
        name: match operation {
            Some((operation, _)) => (operation, Some(model)),
            None => (known_method(&row.method).unwrap_or("HTTP"), None),
        },
        began,
        ended: at(row, attempt.ended).max(began),
    };
    let mut span = SpanWriter::begin(out, &head);
    let status = if last { row.upstream_status } else { 0 };
    let failed = if last { failure_of_last(row) } else { attempt.failed };
    let in_error = called(row, attempt, status, failed, &mut span);
    if number > 1 {
        span.number(key!("http.request.resend_count"), u64::from(number) - 1);
    }
    name(&mut span, key!("weir.backend"), attempt.backend);
    span.number(key!("weir.attempt"), number.into());
    span.flag(key!("weir.connection.reused"), attempt.reused);
    if let Some((operation, provider)) = operation {
        gen_ai::request(model, operation, provider, &mut span);
        if last {
            gen_ai::response(row, &mut span);
        }
    }
    span.end(&Tail { link: None, in_error, remote_parent: false });
}

fn shadow_span(row: &Row, out: &mut Vec<u8>) {
    let head = Head {
        trace_id: &row.trace_id,
        id: &row.span_id,
        parent: &row.parent_span_id,
        kind: Kind::Client,
        name: ("shadow", Some(row.backend.unwrap_or_default())),
        began: row.started_unix_nanos,
        ended: at(row, row.t_total),
    };
    let mut span = SpanWriter::begin(out, &head);
    let in_error = called(row, &last(row), row.upstream_status, row.spans.failed, &mut span);
    name(&mut span, key!("weir.backend"), row.backend);
    span.flag(key!("weir.connection.reused"), row.reused);
    span.flag(key!("weir.shadow"), true);
    span.end(&Tail { link: None, in_error, remote_parent: false });
}

/// What every span of a call to a backend says; whether the call failed.
fn called(
    row: &Row,
    attempt: &Attempt,
    status: u16,
    failed: Option<Flag>,
    span: &mut SpanWriter<'_>,
) -> bool {
    span.text(key!("http.request.method"), known_method(&row.method).unwrap_or("_OTHER"));
    if let Some(endpoint) = attempt.endpoint {
        span.address(key!("server.address"), endpoint.ip());
        span.number(key!("server.port"), endpoint.port().into());
        span.address(key!("network.peer.address"), endpoint.ip());
        span.number(key!("network.peer.port"), endpoint.port().into());
    }
    if status > 0 {
        span.number(key!("http.response.status_code"), status.into());
    }
    if status >= 400 {
        span.number_text(key!("error.type"), status.into());
        return true;
    }
    match failed.and_then(Flag::error_type) {
        Some(error_type) => {
            span.text(key!("error.type"), error_type);
            true
        }
        None => false,
    }
}

/// The last attempt, as an earlier one is kept.
fn last(row: &Row) -> Attempt {
    Attempt {
        span_id: row.attempt_span_id,
        backend: row.backend,
        endpoint: row.endpoint,
        reused: row.reused,
        failed: row.spans.failed,
        began: row.spans.began,
        ended: row.t_total,
    }
}

/// Why the last attempt failed. The request's own flag says it more exactly, unless the request
/// failed of something else: nobody to try next, or somebody else than the backend ended it.
fn failure_of_last(row: &Row) -> Option<Flag> {
    if row.outcome == Some(Outcome::ClientAborted) {
        return None;
    }
    let flag = row.flag?;
    if matches!(flag, Flag::ClientAborted | Flag::LocalReset) {
        return None;
    }
    let of_another =
        matches!(flag, Flag::NoHealthyUpstream | Flag::UpstreamOverflow | Flag::Overloaded);
    row.spans.failed.filter(|_| of_another).or(Some(flag))
}

/// Wall time of a moment counted from the end of the head, nanoseconds since 1970.
fn at(row: &Row, since: Micros) -> u64 {
    let nanos = since.get().unwrap_or(0).saturating_mul(1_000);
    row.started_unix_nanos.saturating_add(nanos)
}

/// Whether an answer that had begun well did not end as it should, and not because its client left.
fn was_cut(row: &Row) -> bool {
    let failed = |outcome: Outcome| outcome.is_failure() || outcome == Outcome::GatewayError;
    row.flag == Some(Flag::LocalReset) || row.outcome.is_some_and(failed)
}

/// The method if it is a registered one: only those may stand in a span's name (T29).
fn known_method(method: &str) -> Option<&'static str> {
    const KNOWN: [&str; 10] =
        ["POST", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"];
    KNOWN.into_iter().find(|known| *known == method)
}

/// A text of a client or a backend, cut to `most` bytes; an empty one is unknown.
pub(super) fn text(span: &mut SpanWriter<'_>, key: Key, text: &str, most: usize) {
    if !text.is_empty() {
        span.text(key, &text[..text.floor_char_boundary(most)]);
    }
}

/// A name that the configuration gave, if there is one.
fn name(span: &mut SpanWriter<'_>, key: Key, name: Option<&'static str>) {
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        span.text(key, name);
    }
}

#[cfg(test)]
mod tests;
