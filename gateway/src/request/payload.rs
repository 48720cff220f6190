//! The body: read only as far as a decision needs it, then streamed.

use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::header;
use policies::peek;

use crate::body::{BodyFault, BodyLimits, Source};
use crate::request::read_head::{Head, Payload, Peeked};
use crate::request::{Cx, Record, Rejection};
use crate::snapshot::RoutePlan;

/// Brings the body into the form in which it is sent on.
///
/// * Needed for a decision or a rewrite: read whole, and looked into.
/// * Small and of known length: read whole, so that head and body leave in one write and a retry or a
///   copy costs nothing.
/// * Anything else is streamed as it comes.
///
/// # Errors
/// 413, 408, 400: what is wrong with the body.
pub async fn prepare(
    cx: &Cx,
    route: &RoutePlan,
    head: &mut Head,
    record: &mut Record,
) -> Result<(), Rejection> {
    let limits = &cx.snapshot.limits;
    if let Payload::Whole(body, peeked) = &mut head.payload {
        if body.len() as u64 > route.body_bytes {
            return Err(Rejection::Body(BodyFault::TooLarge(route.body_bytes)));
        }
        if !route.pointers.is_empty() {
            // The route was found by the model alone; its units are looked for now.
            *peeked = look(body, &pointers(route))?;
        }
        return Ok(());
    }
    let Some(body) = &record.body else { return Ok(()) };
    if body.is_end_stream() {
        head.payload = Payload::Empty;
        return Ok(());
    }
    let length = body.size_hint().exact();
    if length.is_some_and(|length| length > route.body_bytes) {
        return Err(Rejection::Body(BodyFault::TooLarge(route.body_bytes)));
    }
    if route.inspect && is_json(head) {
        return read_whole(cx, head, record, limits.inspect_bytes, &pointers(route)).await;
    }
    let copied = !route.shadows.is_empty();
    let keep =
        if copied { limits.shadow_bytes.max(limits.replay_bytes) } else { limits.replay_bytes };
    if length.is_some_and(|length| length <= limits.replay_bytes as u64) {
        let body = match at_hand(record).await? {
            AtHand::All(body) => body,
            AtHand::Some(first) => {
                let source = source(cx, record, route.body_bytes, keep, first)?;
                source.collect().await.map_err(Rejection::Body)?
            }
        };
        head.payload = Payload::Whole(body, Peeked::default());
    } else {
        let source = source(cx, record, route.body_bytes, keep, None)?;
        head.payload = Payload::Streaming(source, length);
    }
    Ok(())
}

/// What has come of a body so far.
enum AtHand {
    /// All of it.
    All(Bytes),
    /// A piece of it, or nothing.
    Some(Option<Bytes>),
}

/// Takes what came together with the head: nearly always all of a small body, which then needs nobody
/// who reads and keeps it.
async fn at_hand(record: &mut Record) -> Result<AtHand, Rejection> {
    let Some(body) = &mut record.body else { return Ok(AtHand::Some(None)) };
    let first = std::future::poll_fn(|cx| Poll::Ready(body.poll_frame(cx))).await;
    let first = match first {
        Poll::Pending => None,
        Poll::Ready(None) => Some(Bytes::new()),
        Poll::Ready(Some(Err(fault))) => return Err(Rejection::Body(fault)),
        // A body of a known length has no trailers before its content.
        Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
    };
    match first {
        Some(data) if body.is_end_stream() => {
            record.body = None;
            record.row().request_bytes = data.len() as u64;
            Ok(AtHand::All(data))
        }
        first => Ok(AtHand::Some(first)),
    }
}

fn pointers(route: &RoutePlan) -> Vec<&str> {
    route.pointers.iter().map(|pointer| &**pointer).collect()
}

/// Reads the whole body and looks into it.
///
/// # Errors
/// As [`prepare`]; 400 for a body above `limit`, since it cannot be inspected (L17).
pub async fn read_whole(
    cx: &Cx,
    head: &mut Head,
    record: &mut Record,
    limit: usize,
    pointers: &[&str],
) -> Result<(), Rejection> {
    let Some(incoming) = &record.body else { return Ok(()) };
    if incoming.is_end_stream() {
        head.payload = Payload::Empty;
        return Ok(());
    }
    let too_large = || {
        Rejection::BadBody(format!(
            "this request must be read to be routed, and its body is larger than {limit} bytes; \
             the operator can raise `server.limits.inspect_bytes`"
        ))
    };
    if incoming.size_hint().exact().is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let most = cx.snapshot.limits.body_bytes.min(limit as u64);
    let source = source(cx, record, most, limit, None)?;
    let body = source.collect().await.map_err(|fault| match fault {
        BodyFault::TooLarge(_) => too_large(),
        BodyFault::TooSlow | BodyFault::Broken | BodyFault::Malformed(_) => Rejection::Body(fault),
    })?;
    let peeked = if is_json(head) { look(&body, pointers)? } else { Peeked::default() };
    head.payload = Payload::Whole(body, peeked);
    Ok(())
}

/// The whole body, for an answer of the gateway's own.
///
/// # Errors
/// 413 above `limit` bytes, 408, 400.
pub async fn whole(cx: &Cx, record: &mut Record, limit: u64) -> Result<Bytes, Rejection> {
    let Some(incoming) = &record.body else { return Ok(Bytes::new()) };
    if incoming.is_end_stream() {
        return Ok(Bytes::new());
    }
    let limit = limit.min(cx.snapshot.limits.body_bytes);
    if incoming.size_hint().exact().is_some_and(|length| length > limit) {
        return Err(Rejection::Body(BodyFault::TooLarge(limit)));
    }
    let keep = usize::try_from(limit).unwrap_or(usize::MAX);
    source(cx, record, limit, keep, None)?.collect().await.map_err(Rejection::Body)
}

fn source(
    cx: &Cx,
    record: &mut Record,
    bytes: u64,
    keep: usize,
    first: Option<Bytes>,
) -> Result<Rc<Source>, Rejection> {
    let limits = &cx.snapshot.limits;
    let incoming = record.body.take().ok_or(Rejection::Internal)?;
    let limits =
        BodyLimits { bytes, gap: limits.body_idle_timeout, min_rate: limits.body_min_rate };
    let source = match first {
        None => Source::new(incoming, limits, keep, record.started()),
        Some(first) => Source::begun(incoming, first, limits, keep, record.started())
            .map_err(Rejection::Body)?,
    };
    record.source = Some(Rc::clone(&source));
    Ok(source)
}

/// Whether the body may be read as JSON by whoever gets it. Lenient servers do so whatever the content
/// type says; only what says to be of another, unmistakable kind is left alone, else a content type
/// would be a way around the rewrite of `model` (T25).
fn is_json(head: &Head) -> bool {
    const OTHERS: [&str; 6] = [
        "multipart/",
        "audio/",
        "image/",
        "video/",
        "application/octet-stream",
        "application/grpc",
    ];
    head.headers.get_all(header::CONTENT_TYPE).iter().all(|value| {
        let text = value.as_bytes().trim_ascii();
        let begins = |other: &&str| {
            text.get(..other.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(other.as_bytes()))
        };
        !OTHERS.iter().any(begins)
    })
}

fn look(body: &Bytes, pointers: &[&str]) -> Result<Peeked, Rejection> {
    peek::peek(body, pointers)
        .map(|peek| Peeked::own(peek.model, peek.found))
        .map_err(|fault| Rejection::BadBody(format!("the request body is not acceptable: {fault}")))
}
