//! Request bodies on their way from a client to a backend.
//!
//! A body is read only as far as a decision needs it, then streamed. What was streamed is kept up to
//! a limit, so that a retry or a shadow copy can have it from the start (hardening L14).

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use policies::framing::Fault;

use crate::clock;
use crate::server::{h1, h2};

/// Why a client's body did not arrive whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// Larger than the route allows (L05).
    #[error("the request body is larger than {0} bytes")]
    TooLarge(u64),
    /// A gap too long, or too slow on average (L06).
    #[error("the request body came too slowly")]
    TooSlow,
    /// The client left or broke the connection.
    #[error("the request body broke off")]
    Broken,
    /// Its framing is not beyond doubt (T01).
    #[error("malformed request body: {0}")]
    Malformed(Fault),
}

/// A client's body as its connection brings it.
#[derive(Debug)]
pub enum ClientBody {
    /// There is none.
    None,
    /// Over HTTP/1.1.
    H1(h1::RequestBody),
    /// Over HTTP/2.
    H2(h2::RequestBody),
}

impl ClientBody {
    /// The next frame.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match self {
            Self::None => Poll::Ready(None),
            Self::H1(body) => body.poll_frame(cx),
            Self::H2(body) => body.poll_frame(cx),
        }
    }

    /// Whether everything was read.
    pub fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::H1(body) => body.is_end_stream(),
            Self::H2(body) => body.is_end_stream(),
        }
    }

    /// Length, where known: of what is still to come.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::H1(body) => body.size_hint(),
            Self::H2(body) => body.size_hint(),
        }
    }
}

/// Limits of one body.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Largest body.
    pub bytes: u64,
    /// Longest gap between two pieces.
    pub gap: Duration,
    /// Least average rate after 5 s, bytes per second.
    pub min_rate: u64,
}

/// Slow bodies are judged only after this long.
const RATE_GRACE: Duration = Duration::from_secs(5);

/// A client's body: read once, kept for whoever needs it again.
pub struct Source {
    incoming: RefCell<ClientBody>,
    limits: BodyLimits,
    keep: usize,
    // Pieces so far, as long as they fit into `keep`.
    kept: RefCell<Option<Vec<Bytes>>>,
    kept_bytes: Cell<usize>,
    /// Bytes read.
    pub bytes: Cell<u64>,
    /// Whether the end was reached.
    pub done: Cell<bool>,
    /// When, if it was streamed.
    pub ended: Cell<Option<Instant>>,
    // Read before it is sent on: nobody asks when it ended.
    collected: Cell<bool>,
    /// Why it will not be reached.
    pub fault: Cell<Option<BodyFault>>,
    started: Instant,
    last: Cell<Instant>,
    timer: RefCell<Option<Pin<Box<tokio::time::Sleep>>>>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Source {
    /// Reads `incoming` from `now` on; keeps its pieces while they fit into `keep` bytes.
    pub fn new(incoming: ClientBody, limits: BodyLimits, keep: usize, now: Instant) -> Rc<Self> {
        let done = incoming.is_end_stream();
        Rc::new(Self {
            incoming: RefCell::new(incoming),
            limits,
            keep,
            kept: RefCell::new(Some(Vec::new())),
            kept_bytes: Cell::new(0),
            bytes: Cell::new(0),
            done: Cell::new(done),
            ended: Cell::new(done.then_some(now)),
            collected: Cell::new(false),
            fault: Cell::new(None),
            started: now,
            last: Cell::new(now),
            timer: RefCell::new(None),
        })
    }

    /// The same where the first piece has come already, and is kept.
    ///
    /// # Errors
    /// If it is too large.
    pub fn begun(
        incoming: ClientBody,
        first: Bytes,
        limits: BodyLimits,
        keep: usize,
        now: Instant,
    ) -> Result<Rc<Self>, BodyFault> {
        let source = Self::new(incoming, limits, keep, now);
        source.note(&mut Frame::data(first))?;
        Ok(source)
    }

    /// Length, where known: of what is still to come.
    pub fn size_hint(&self) -> SizeHint {
        self.incoming.borrow().size_hint()
    }

    /// Whether a second reader can have all of it.
    pub fn replayable(&self) -> bool {
        self.kept.borrow().is_some()
    }

    /// The whole body, if it was read to its end and kept.
    pub fn whole(&self) -> Option<Bytes> {
        if !self.done.get() || self.fault.get().is_some() {
            return None;
        }
        let kept = self.kept.borrow();
        match kept.as_deref()? {
            [] => Some(Bytes::new()),
            [only] => Some(only.clone()),
            pieces => {
                let mut whole = BytesMut::with_capacity(self.kept_bytes.get());
                pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
                Some(whole.freeze())
            }
        }
    }

    fn kept_piece(&self, index: usize) -> Option<Bytes> {
        self.kept.borrow().as_ref()?.get(index).cloned()
    }

    fn finished(&self) {
        self.done.set(true);
        if !self.collected.get() {
            self.ended.set(Some(clock::now()));
        }
    }

    fn fail(&self, fault: BodyFault) -> BodyFault {
        self.fault.set(Some(fault));
        fault
    }

    /// The next frame from the client.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if let Some(fault) = self.fault.get() {
            return Poll::Ready(Some(Err(fault)));
        }
        if self.done.get() {
            return Poll::Ready(None);
        }
        let frame = match self.incoming.borrow_mut().poll_frame(cx) {
            Poll::Pending => return self.poll_timer(cx).map(|fault| Some(Err(self.fail(fault)))),
            Poll::Ready(None) => {
                self.finished();
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(fault))) => return Poll::Ready(Some(Err(self.fail(fault)))),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        let mut frame = frame;
        if let Err(fault) = self.note(&mut frame) {
            return Poll::Ready(Some(Err(fault)));
        }
        if self.incoming.borrow().is_end_stream() {
            self.finished();
        } else {
            let now = clock::now();
            self.last.set(now);
            if self.too_slow(now) {
                return Poll::Ready(Some(Err(self.fail(BodyFault::TooSlow))));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// A frame came: it is counted, and kept if there is room.
    fn note(&self, frame: &mut Frame<Bytes>) -> Result<(), BodyFault> {
        if let Some(data) = frame.data_ref() {
            let bytes = self.bytes.get() + data.len() as u64;
            self.bytes.set(bytes);
            if bytes > self.limits.bytes {
                return Err(self.fail(BodyFault::TooLarge(self.limits.bytes)));
            }
            let mut kept = self.kept.borrow_mut();
            if let Some(pieces) = kept.as_mut() {
                let total = self.kept_bytes.get() + data.len();
                if total <= self.keep {
                    self.kept_bytes.set(total);
                    pieces.push(data.clone());
                } else {
                    *kept = None;
                }
            }
        } else {
            if !self.collected.get() {
                // Trailers cannot be replayed in their place. Where all of the body is needed before
                // anything is sent on, they are left out.
                *self.kept.borrow_mut() = None;
            }
            if let Some(trailers) = frame.trailers_mut() {
                // They may say no more than a head may (T17, T24).
                let _ = policies::headers::scrub_client(trailers, false);
                let _ = policies::headers::strip_hop_by_hop(trailers, false);
                policies::headers::strip_credentials(trailers);
            }
        }
        Ok(())
    }

    fn too_slow(&self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.started);
        elapsed > RATE_GRACE
            && (self.bytes.get() as f64) < self.limits.min_rate as f64 * elapsed.as_secs_f64()
    }

    // One timer, set again only when it fires early: pieces that come in time cost no timer work.
    fn poll_timer(&self, cx: &mut Context<'_>) -> Poll<BodyFault> {
        let mut slot = self.timer.borrow_mut();
        loop {
            let deadline = self.last.get() + self.limits.gap;
            let timer =
                slot.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
            ready!(timer.as_mut().poll(cx));
            if clock::now() >= deadline {
                return Poll::Ready(BodyFault::TooSlow);
            }
            timer.as_mut().reset(deadline.into());
        }
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// The [`BodyFault`] that ended it.
    pub async fn collect(self: &Rc<Self>) -> Result<Bytes, BodyFault> {
        self.collected.set(true);
        std::future::poll_fn(|cx| {
            loop {
                match ready!(self.poll_next(cx)) {
                    None => return Poll::Ready(Ok(())),
                    Some(Ok(_)) => {}
                    Some(Err(fault)) => return Poll::Ready(Err(fault)),
                }
            }
        })
        .await?;
        // `keep` is at least the limit where a body is collected.
        self.whole().ok_or(BodyFault::TooLarge(self.keep as u64))
    }
}

/// A request body as hyper's client takes it.
#[derive(Debug)]
pub enum Outgoing {
    /// No body.
    Empty,
    /// A body in hand.
    Full(Option<Bytes>),
    /// A body still coming: from its first byte, however much was read of it before.
    Stream {
        /// Where it comes from.
        source: Rc<Source>,
        /// Kept pieces already given out.
        replayed: usize,
        /// Length, where the client stated one.
        length: Option<u64>,
    },
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream { source, replayed, .. } => {
                if let Some(piece) = source.kept_piece(*replayed) {
                    *replayed += 1;
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                let frame = ready!(source.poll_next(cx));
                // What was just read is kept too, and given out here.
                *replayed += 1;
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Stream { source, replayed, .. } => {
                source.done.get()
                    && source.fault.get().is_none()
                    && source.kept_piece(*replayed).is_none()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream { length, .. } => {
                length.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}
