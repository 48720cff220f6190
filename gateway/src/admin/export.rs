//! Outcomes written out: a stream of lines, a page of the store at a time.
//!
//! Whoever reads slowly is waited for: at most two pages are in memory. What breaks on the way breaks the
//! answer off, so that a part is never taken for the whole.

use std::io;
use std::pin::Pin;
use std::task::{Context as Task, Poll};

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::Frame;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Context;
use super::access::Who;
use super::audit::entry;
use super::error::ApiError;
use super::extract::Query;
use super::requests::{Wanted, outcomes};
use crate::store::OutcomeQuery;

/// Rows of one page.
const PAGE: u32 = 500;

/// Columns of CSV, in this order: members of an outcome. Lists are left out.
pub(super) const COLUMNS: [&str; 58] = [
    "request_id",
    "boot_id",
    "seq",
    "timestamp",
    "route",
    "http.route",
    "experiment",
    "experiment.revision",
    "variant",
    "variant.served",
    "assignment.reason",
    "assignment.bucket",
    "assignment.eligible",
    "unit.hash",
    "backend",
    "server.backend.address",
    "outcome",
    "flags",
    "error.type",
    "http.response.status_code",
    "upstream.status",
    "attempts",
    "connection.reused",
    "stream",
    "stream.chunks",
    "stream.complete",
    "shadow",
    "http.request.method",
    "url.path",
    "server.address",
    "http.request.body.size",
    "http.response.body.size",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.response.finish_reason",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "usage.source",
    "t_header",
    "t_auth",
    "t_connect",
    "t_send",
    "t_attempt",
    "t_first_byte",
    "t_first_token",
    "t_stream",
    "t_total",
    "t_gateway",
    "auth.key_id",
    "client.address",
    "user_agent.original",
    "network.protocol.version",
    "tls.protocol.version",
    "trace_id",
    "span_id",
    "trace_sampled",
    "client_request_id",
    "upstream_request_id",
];

/// `?format=` and the filters of `GET /requests`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// `jsonl`, the default, or `csv`.
    format: Option<String>,
    /// Only of this route.
    route: Option<String>,
    /// Only of this experiment.
    experiment: Option<String>,
    /// Only of this assigned variant.
    variant: Option<String>,
    /// Only with this outcome, or `failed`.
    outcome: Option<String>,
    /// Only those that took longer, such as `500ms`.
    slower: Option<String>,
    /// Only from here on: a duration before now, or a time.
    since: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Lines,
    Csv,
}

/// `GET /export/outcomes`: newest first.
pub async fn export(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    Query(asked): Query<Asked>,
) -> Result<Response, ApiError> {
    let format = match asked.format.as_deref() {
        None | Some("jsonl") => Format::Lines,
        Some("csv") => Format::Csv,
        Some(_) => return Err(ApiError::invalid("`format` must be jsonl or csv")),
    };
    let told = json!({
        "format": asked.format, "route": asked.route, "experiment": asked.experiment,
        "variant": asked.variant, "outcome": asked.outcome, "slower": asked.slower,
        "since": asked.since,
    });
    let which = outcomes(asked.outcome.as_deref())?;
    let query = Wanted {
        route: asked.route,
        experiment: asked.experiment,
        variant: asked.variant,
        slower: asked.slower,
        since: asked.since,
    }
    .query()?;
    // All of it at once is what an audit is asked about: without an entry there is no export.
    let row = entry(&who, "outcomes.export", "outcomes", told);
    context.store.call(move |store| store.add_audit(&row)).await?;
    let (to, pages) = mpsc::channel(1);
    tokio::spawn(async move {
        if let Err(error) = write(&context, query, &which, format, &to).await {
            let _ = to.send(Err(error)).await;
        }
    });
    let (kind, name) = match format {
        Format::Lines => ("application/x-ndjson", "attachment; filename=\"outcomes.jsonl\""),
        Format::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"outcomes.csv\""),
    };
    let head = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static(name)),
    ];
    Ok((head, Body::new(Pages(pages))).into_response())
}

/// Writes page after page, until there is no more or nobody reads.
async fn write(
    context: &Context,
    mut query: OutcomeQuery,
    which: &[&'static str],
    format: Format,
    to: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    if format == Format::Csv {
        let head = format!("{}\r\n", COLUMNS.join(","));
        if to.send(Ok(head.into())).await.is_err() {
            return Ok(());
        }
    }
    query.limit = PAGE;
    loop {
        let asked = query.clone();
        let page = context.store.call(move |store| store.outcome_page(&asked)).await;
        let page = page.map_err(io::Error::other)?;
        let mut out = Vec::new();
        for item in &page.items {
            let outcome = item.get("outcome").and_then(Value::as_str).unwrap_or("");
            if !which.is_empty() && !which.contains(&outcome) {
                continue;
            }
            match format {
                Format::Lines => {
                    serde_json::to_writer(&mut out, item)?;
                    out.push(b'\n');
                }
                Format::Csv => record(item, &mut out),
            }
        }
        if !out.is_empty() && to.send(Ok(out.into())).await.is_err() {
            return Ok(());
        }
        if to.is_closed() {
            return Ok(());
        }
        match page.next {
            Some(next) => query.before = Some(next),
            None => return Ok(()),
        }
    }
}

/// One record of CSV (RFC 4180).
fn record(item: &Value, out: &mut Vec<u8>) {
    for (at, column) in COLUMNS.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match item.get(column) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => field(text, out),
            Some(other) => out.extend_from_slice(other.to_string().as_bytes()),
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// A text. One that a spreadsheet would take for a formula is quoted with an apostrophe before it: texts
/// of clients are among them.
fn field(text: &str, out: &mut Vec<u8>) {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if !is_formula && !text.contains(['"', ',', '\n', '\r']) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    if is_formula {
        out.push(b'\'');
    }
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}

/// Pages as a body.
struct Pages(mpsc::Receiver<io::Result<Bytes>>);

impl http_body::Body for Pages {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(task).map(|page| page.map(|page| page.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_quoted_where_it_must_be_and_no_text_becomes_a_formula() {
        let item = json!({
            "request_id": "a", "url.path": "/x,\"y\"", "user_agent.original": "=cmd()",
            "seq": 7, "stream": true, "attempts.earlier": [1],
        });
        let mut out = Vec::new();
        record(&item, &mut out);
        let line = String::from_utf8(out).unwrap();
        assert!(line.starts_with("a,,7,") && line.ends_with("\r\n"));
        assert!(line.contains(",\"/x,\"\"y\"\"\","), "{line}");
        assert!(line.contains(",\"'=cmd()\","), "{line}");
        assert_eq!(line.matches(',').count(), COLUMNS.len(), "one more within the path");
    }
}
