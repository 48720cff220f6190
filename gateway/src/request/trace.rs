//! The trace a request belongs to, and what the backend is told of it.
//!
//! Decided before any span exists: an unsampled request carries two ids and nothing else.

use bytes::BufMut;
use http::HeaderValue;
use policies::Permission;
use policies::api_key::KeyEntry;
use policies::trace_context;

use crate::request::read_head::Head;
use crate::request::{Cx, Record};
use crate::snapshot::names;

/// Continues the client's trace where the key may, else begins a new one; a client can never force
/// sampling.
pub fn begin(cx: &Cx, caller: &KeyEntry, head: &mut Head, record: &mut Record) {
    let continued = head.trace.filter(|_| caller.role.allows(Permission::TraceContinue));
    let row = record.row();
    let random = match continued {
        Some(context) => {
            row.trace_id = context.trace_id;
            row.parent_span_id = context.parent_id;
            row.sampled = context.sampled && cx.snapshot.sample_ratio > 0.0;
            context.random
        }
        None => {
            row.trace_id = fastrand::u128(1..).to_be_bytes();
            head.trace_state = None;
            row.sampled = trace_context::ratio_samples(&row.trace_id, cx.snapshot.sample_ratio);
            true
        }
    };
    row.span_id = fastrand::u64(1..).to_be_bytes();
    row.attempt_span_id = fastrand::u64(1..).to_be_bytes();
    let text =
        trace_context::format_traceparent(row.trace_id, row.attempt_span_id, row.sampled, random);
    if let Some(value) = cx.worker.header(|out| out.put_slice(&text)) {
        head.headers.insert(&names::TRACEPARENT, value);
    }
    if let Some(state) = head.trace_state.take()
        && let Ok(value) = HeaderValue::try_from(state)
    {
        head.headers.insert(&names::TRACESTATE, value);
    }
}
