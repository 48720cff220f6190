//! What came back: the head of an answer, and a body that holds its connection and its place.

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::response;
use hyper::body::Incoming;

use super::Busy;
use crate::backends::Backend;
use crate::backends::h1::{Broken, H1Body};
use crate::backends::pool::H2Stream;

/// A response head, and the body behind it.
#[derive(Debug)]
pub struct Answered {
    /// Status and fields.
    pub parts: response::Parts,
    /// The body, with its connection.
    pub body: BackendBody,
    /// Who answered.
    pub backend: Arc<Backend>,
    /// Which experiment and variant, for those who may see it.
    pub shown: Option<(usize, routing::VariantId)>,
    /// How long the body may stand still.
    pub idle: Duration,
    /// Until when the whole may last.
    pub deadline: Instant,
}

/// A response body with what brings it.
pub struct BackendBody {
    pub(super) kind: Kind,
    pub(super) _busy: Busy,
}

pub(super) enum Kind {
    H1(H1Body),
    H2(Incoming, #[expect(dead_code, reason = "gives its place back when dropped")] H2Stream),
}

impl std::fmt::Debug for BackendBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackendBody")
    }
}

impl BackendBody {
    /// The next frame.
    pub fn poll_frame(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Broken>>> {
        match &mut self.kind {
            Kind::H1(body) => body.poll_frame(cx),
            Kind::H2(body, _) => http_body::Body::poll_frame(std::pin::Pin::new(body), cx)
                .map_err(|_| Broken { malformed: false }),
        }
    }

    /// Whether everything was read.
    pub fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::H1(body) => body.is_end_stream(),
            Kind::H2(body, _) => http_body::Body::is_end_stream(body),
        }
    }

    /// Length, where known.
    pub fn size_hint(&self) -> http_body::SizeHint {
        match &self.kind {
            Kind::H1(body) => body.size_hint(),
            Kind::H2(body, _) => http_body::Body::size_hint(body),
        }
    }

    /// After the last frame: the connection goes back to the pool if it can serve again.
    pub fn release(&mut self, pool: &crate::backends::pool::Pool, now: Instant) {
        if let Kind::H1(body) = &mut self.kind
            && let Some(connection) = body.release(now)
        {
            pool.keep(connection);
        }
    }
}
