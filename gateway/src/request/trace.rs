//! The trace a request belongs to, and what the backend is told of it.
//!
//! Decided before any span exists: an unsampled request carries two ids and nothing else.

use http::HeaderValue;
use policies::Permission;
use policies::api_key::KeyEntry;
use policies::trace_context;

use crate::recorder::row::Row;
use crate::request::read_head::Head;
use crate::request::{Cx, Record};

/// Continues the trace of a caller that may have it continued, else begins a new one with a link to
/// the caller's: nobody else can force sampling.
pub fn begin(cx: &Cx, caller: &KeyEntry, head: &mut Head, record: &mut Record) {
    let may = head.trusted || caller.role.allows(Permission::TraceContinue);
    let row = record.row();
    match head.trace.filter(|_| may) {
        Some(context) => {
            row.trace_id = context.trace_id;
            row.parent_span_id = context.parent_id;
            row.sampled = context.sampled && cx.snapshot.sample_ratio > 0.0;
            row.spans.random = context.random;
            row.spans.link = None;
            row.span_id = fastrand::u64(1..).to_be_bytes();
            row.attempt_span_id = fastrand::u64(1..).to_be_bytes();
        }
        None => {
            head.trace_state = None;
            begin_if_none(cx.snapshot.sample_ratio, row);
        }
    }
}

/// A new trace for a request that has none yet, sampled by `ratio`.
pub fn begin_if_none(ratio: f64, row: &mut Row) {
    if row.trace_id != [0; 16] {
        return;
    }
    row.trace_id = fastrand::u128(1..).to_be_bytes();
    row.spans.random = true;
    row.sampled = trace_context::ratio_samples(&row.trace_id, ratio);
    row.span_id = fastrand::u64(1..).to_be_bytes();
    row.attempt_span_id = fastrand::u64(1..).to_be_bytes();
}

/// What the backend is told: the trace, and the present attempt as its parent.
pub fn tell(head: &mut Head, row: &Row) {
    head.added.traceparent = Some(traceparent(row, row.attempt_span_id));
    if let Some(state) = head.trace_state.take()
        && let Ok(value) = HeaderValue::try_from(state)
    {
        head.added.tracestate = Some(value);
    }
}

/// `traceparent` with the span `parent`.
pub fn traceparent(row: &Row, parent: [u8; 8]) -> [u8; trace_context::TRACEPARENT_LEN] {
    trace_context::format_traceparent(row.trace_id, parent, row.sampled, row.spans.random)
}
