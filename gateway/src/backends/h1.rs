//! One HTTP/1.1 connection to a backend, driven by the request that uses it.
//!
//! `policies::framing` looks at every byte of a backend anyway (hardening T07); here it is also what
//! reads the answer, so that no byte is parsed twice and nothing stands between the request and its
//! socket. Nobody polls an idle connection: a close by the backend is noticed when the connection is
//! taken from the pool, before a request is put on it.
//!
//! A backend may answer before it has read the request, and close: then writing fails while its answer
//! waits to be read. So a failed write is not reported; nothing more is written, and what is read
//! decides.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, Method};
use http_body::{Body, Frame, SizeHint};
use policies::framing::{Fault, FieldMark, HeadLimits, Piece, ResponseFraming};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::h1_head::{self, RequestHead};
use super::stream::Stream;
use super::{Backend, Endpoint};
use crate::body::Outgoing;
use crate::fields::{Names, fields};

/// Room for one read, at first and at most. It doubles when a read fills it.
const LEAST_READ: usize = 8 << 10;
const MOST_READ: usize = 128 << 10;

/// Content up to this size is copied behind the head, so that both leave in one plain write.
const MOST_COPIED: usize = 4 << 10;

/// Bytes that are gathered for one write before more content is asked for.
const MOST_GATHERED: usize = 16 << 10;

/// A connection.
pub struct H1 {
    stream: Stream,
    framing: ResponseFraming,
    // Where the fields of the present head or trailer section stand.
    marks: Vec<FieldMark>,
    // Read and not yet taken.
    read: BytesMut,
    room: usize,
    // Bytes to write, `written` of them are; `piece` comes behind them.
    out: Vec<u8>,
    written: usize,
    piece: Bytes,
    // What is still to be sent of the request's content.
    body: Option<Outgoing>,
    chunked: bool,
    // The line end behind the last chunk is still to be written.
    open_chunk: bool,
    flushed: bool,
    upgrading: bool,
    // How writing failed: nothing is written from then on.
    deaf: Option<io::ErrorKind>,
    // Bytes written for the present request, and whether a byte of its answer has come.
    sent: u64,
    answered: bool,
    /// When the last of them were: one look at the clock beside a system call.
    pub written_at: Option<Instant>,
    // Whether the backend will take another request here.
    keep: bool,
    ended: bool,
    /// Why the answer was refused.
    pub fault: Option<Fault>,
    /// Where it leads.
    pub endpoint: Arc<Endpoint>,
    /// Since when it is unused.
    pub idle_since: Instant,
    /// Whether a request was answered on it before.
    pub reused: bool,
    /// Waits for answers that are late. It is set once and again only when it fires early, so a
    /// request costs the timer wheel nothing.
    pub timer: Option<Pin<Box<Sleep>>>,
    open: OpenConnection,
}

/// Counts an open connection to a backend as long as it lives.
#[derive(Debug)]
pub struct OpenConnection {
    backend: Arc<Backend>,
    worker: usize,
}

impl OpenConnection {
    /// Counts one more.
    pub fn new(backend: &Arc<Backend>, worker: usize) -> Self {
        backend.life.counts[worker].open_connections.fetch_add(1, Relaxed);
        Self { backend: Arc::clone(backend), worker }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.backend.life.counts[self.worker].open_connections.fetch_sub(1, Relaxed);
    }
}

impl std::fmt::Debug for H1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H1").field("endpoint", &self.endpoint.address).finish_non_exhaustive()
    }
}

/// Why no head of an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendError {
    /// No byte of the request was written.
    pub unsent: bool,
    /// A byte of an answer came.
    pub answered: bool,
    /// What came is not HTTP.
    pub malformed: bool,
}

/// Why an answer's content broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer broke off")]
pub struct Broken {
    /// The bytes were at fault, not the connection: one that ended too early is not.
    pub malformed: bool,
}

impl H1 {
    /// Speaks HTTP/1.1 over `stream`.
    pub fn new(
        stream: Stream,
        limits: HeadLimits,
        endpoint: Arc<Endpoint>,
        open: OpenConnection,
    ) -> Box<Self> {
        Box::new(Self {
            stream,
            framing: ResponseFraming::new(limits),
            marks: Vec::new(),
            read: BytesMut::new(),
            room: LEAST_READ,
            out: Vec::new(),
            written: 0,
            piece: Bytes::new(),
            body: None,
            chunked: false,
            open_chunk: false,
            flushed: true,
            upgrading: false,
            deaf: None,
            sent: 0,
            answered: false,
            written_at: None,
            keep: true,
            ended: true,
            fault: None,
            endpoint,
            idle_since: crate::clock::now(),
            reused: false,
            timer: None,
            open,
        })
    }

    /// Whether the connection can take a request now: the backend has neither closed it nor said
    /// anything that nobody asked for.
    pub fn is_fresh(&mut self) -> bool {
        let mut scrap = [0];
        let mut cx = Context::from_waker(Waker::noop());
        self.read.is_empty()
            && Pin::new(&mut self.stream)
                .poll_read(&mut cx, &mut ReadBuf::new(&mut scrap))
                .is_pending()
    }

    /// Begins a request. [`Self::poll_answer`] sends it.
    pub fn ask(&mut self, head: &RequestHead<'_>, body: Outgoing) {
        if head.upgrade {
            self.framing.expect_upgrade();
        } else {
            self.framing.expect(*head.method == Method::HEAD);
        }
        self.upgrading = head.upgrade;
        let length = body.size_hint().exact();
        h1_head::write(&mut self.out, head, length);
        self.chunked = length.is_none();
        self.body = (!body.is_end_stream()).then_some(body);
        (self.sent, self.answered, self.ended, self.flushed) = (0, false, false, false);
        self.written_at = None;
    }

    /// Ready with the head of the answer. Its content is still to be read then, and of the request's
    /// content some may still be to be sent: [`H1Body`] does both.
    ///
    /// * `names`: field names that came before, if somebody keeps them.
    ///
    /// # Errors
    /// [`SendError`] when the connection ended first, or what came is not an answer.
    pub fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        names: Option<&mut Names>,
    ) -> Poll<Result<Parts, SendError>> {
        if self.poll_send(cx).is_err() {
            return Poll::Ready(Err(self.failed()));
        }
        let head = ready!(self.poll_head(cx, names));
        Poll::Ready(head.map_err(|Broken { .. }| self.failed()))
    }

    /// The same, to be waited for.
    ///
    /// # Errors
    /// As [`Self::poll_answer`].
    pub async fn send(
        &mut self,
        head: &RequestHead<'_>,
        body: Outgoing,
    ) -> Result<Parts, SendError> {
        self.ask(head, body);
        std::future::poll_fn(|cx| self.poll_answer(cx, None)).await
    }

    fn failed(&self) -> SendError {
        SendError {
            unsent: self.sent == 0,
            answered: self.answered,
            // A connection that ends before a byte of the answer is closed, not malformed.
            malformed: self.fault.is_some() && self.answered,
        }
    }

    /// Writes what there is to write. An error is the client's content that broke off, or an upgrade
    /// that could not be asked for.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        while self.deaf.is_none() {
            self.gather(cx)?;
            if self.written == self.out.len() && self.piece.is_empty() {
                break;
            }
            match self.poll_write(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return self.went_deaf(cx, &error),
            }
            if self.written == self.out.len() && self.piece.is_empty() {
                self.out.clear();
                self.written = 0;
                if std::mem::take(&mut self.open_chunk) {
                    self.out.extend_from_slice(b"\r\n");
                }
            }
        }
        if !self.flushed && self.deaf.is_none() {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.flushed = true,
                Poll::Ready(Err(error)) => return self.went_deaf(cx, &error),
            }
        }
        Ok(())
    }

    /// Content that is at hand leaves together with what is before it.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        while self.piece.is_empty() && self.out.len() < MOST_GATHERED {
            let Some(body) = &mut self.body else { break };
            match Pin::new(body).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => {
                    self.body = None;
                    self.end_content(None);
                }
                Poll::Ready(Some(Ok(frame))) => self.put(frame),
                Poll::Ready(Some(Err(_))) => return Err(Broken { malformed: false }),
            }
        }
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let rest = &self.out[self.written..];
        let stream = Pin::new(&mut self.stream);
        let count = if self.piece.is_empty() {
            ready!(stream.poll_write(cx, rest))?
        } else {
            let both = [io::IoSlice::new(rest), io::IoSlice::new(&self.piece)];
            ready!(stream.poll_write_vectored(cx, &both))?
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.flushed = false;
        self.sent += count as u64;
        self.written_at = Some(crate::clock::now());
        let of_out = count.min(rest.len());
        self.written += of_out;
        self.piece.advance(count - of_out);
        Poll::Ready(Ok(()))
    }

    fn went_deaf(&mut self, cx: &Context<'_>, error: &io::Error) -> Result<(), Broken> {
        if self.upgrading {
            return Err(Broken { malformed: false });
        }
        self.deaf = Some(error.kind());
        // The read may have been asked before its end was there to be seen.
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// One piece of the request's content, or its trailers, on the way out.
    fn put(&mut self, frame: Frame<Bytes>) {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    self.body = None;
                    self.end_content(Some(&trailers));
                }
                return;
            }
        };
        if data.is_empty() {
            return;
        }
        if self.chunked {
            h1_head::begin_chunk(&mut self.out, data.len());
        }
        if data.len() <= MOST_COPIED {
            self.out.extend_from_slice(&data);
            if self.chunked {
                self.out.extend_from_slice(b"\r\n");
            }
        } else {
            self.piece = data;
            self.open_chunk = self.chunked;
        }
    }

    fn end_content(&mut self, trailers: Option<&HeaderMap>) {
        if self.chunked {
            h1_head::end_chunks(&mut self.out, trailers);
        }
    }

    fn sent_all(&self) -> bool {
        self.body.is_none()
            && self.written == self.out.len()
            && self.piece.is_empty()
            && self.deaf.is_none()
    }

    /// More bytes; false at the end of the connection.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.read.capacity() - self.read.len() < self.room / 2 {
            self.read.reserve(self.room);
        }
        let room = self.read.capacity() - self.read.len();
        let count = ready!(pin!(self.stream.read_buf(&mut self.read)).poll(cx))?;
        if count == room && self.room < MOST_READ {
            self.room *= 2;
        }
        self.answered |= count > 0;
        Poll::Ready(Ok(count > 0))
    }

    /// What to make of the end of the connection: fine if it ends the answer.
    fn end(&mut self) -> Result<(), Broken> {
        if self.deaf.is_some_and(|kind| kind != io::ErrorKind::BrokenPipe) {
            // The write took the reset away from the read: this is no clean end (F03). A broken pipe
            // is one: the backend had ended its side before it reset ours.
            return Err(Broken { malformed: false });
        }
        self.framing.end().map_err(|fault| self.refuse(fault))
    }

    fn refuse(&mut self, fault: Fault) -> Broken {
        self.fault = Some(fault);
        self.keep = false;
        // A connection that ended is not one that said something wrong.
        Broken { malformed: !matches!(fault, Fault::ShortBody) }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        names: Option<&mut Names>,
    ) -> Poll<Result<Parts, Broken>> {
        loop {
            match self.framing.next(&self.read, &mut self.marks) {
                Err(fault) => return Poll::Ready(Err(self.refuse(fault))),
                Ok(Piece::Informational(count)) => self.read.advance(count),
                Ok(Piece::Head(count)) => {
                    let head = self.read.split_to(count).freeze();
                    if let Some(fault) = self.framing.foresee(&self.read) {
                        // Nothing of the answer need be sent on then (T07).
                        return Poll::Ready(Err(self.refuse(fault)));
                    }
                    let parts = h1_head::read(&head, &self.marks, &self.framing, names);
                    let Some(parts) = parts else {
                        return Poll::Ready(Err(self.refuse(Fault::StatusLine)));
                    };
                    self.keep = self.framing.keeps();
                    self.take_frames();
                    return Poll::Ready(Ok(parts));
                }
                Ok(Piece::Nothing) => match ready!(self.poll_more(cx)) {
                    Ok(true) => {}
                    Ok(false) => {
                        let broken = self.end().err();
                        return Poll::Ready(Err(broken.unwrap_or(Broken { malformed: false })));
                    }
                    Err(_) => return Poll::Ready(Err(Broken { malformed: false })),
                },
                Ok(Piece::Data(_) | Piece::Frame(_) | Piece::Trailers(_)) => {
                    return Poll::Ready(Err(self.refuse(Fault::StatusLine)));
                }
            }
        }
    }

    /// Passes over lines of framing that are there, so that the end of the content is known together
    /// with the last of it.
    fn take_frames(&mut self) {
        loop {
            if self.framing.finished() {
                self.ended = true;
                return;
            }
            // Only lines: what is content or trailers is for the next frame, and a fault too.
            let mut ahead = self.framing.clone();
            match ahead.next(&self.read, &mut Vec::new()) {
                Ok(Piece::Frame(count)) => {
                    self.framing = ahead;
                    // Those of the head; trailers may have begun.
                    self.marks.clear();
                    self.read.advance(count);
                }
                Ok(Piece::Trailers(2)) => {
                    // Just the empty line.
                    self.framing = ahead;
                    self.read.advance(2);
                }
                Ok(_) | Err(_) => return,
            }
        }
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if !self.sent_all() && self.poll_send(cx).is_err() {
            return Poll::Ready(Some(Err(Broken { malformed: false })));
        }
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match self.framing.next(&self.read, &mut self.marks) {
                Err(fault) => return Poll::Ready(Some(Err(self.refuse(fault)))),
                Ok(Piece::Data(count)) => {
                    let data = self.read.split_to(count).freeze();
                    self.take_frames();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Piece::Trailers(count)) => {
                    let lines = self.read.split_to(count).freeze();
                    self.ended = true;
                    let trailers = fields(&lines, &self.marks, None, 0);
                    if let Some(trailers) = trailers.filter(|trailers| !trailers.is_empty()) {
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                }
                Ok(Piece::Frame(count) | Piece::Head(count) | Piece::Informational(count)) => {
                    self.read.advance(count);
                }
                Ok(Piece::Nothing) if self.framing.finished() => self.ended = true,
                Ok(Piece::Nothing) => match ready!(self.poll_more(cx)) {
                    Ok(true) => {}
                    Ok(false) => match self.end() {
                        // The close is the end of the content.
                        Ok(()) => {
                            self.ended = true;
                            self.keep = false;
                        }
                        Err(broken) => return Poll::Ready(Some(Err(broken))),
                    },
                    Err(_) => return Poll::Ready(Some(Err(Broken { malformed: false }))),
                },
            }
        }
    }

    /// The bare stream and what was read beyond the head, after a 101.
    pub fn into_stream(self: Box<Self>) -> (Stream, Bytes, OpenConnection) {
        (self.stream, self.read.freeze(), self.open)
    }
}

/// The content of a response together with the connection that brings it.
#[derive(Debug)]
pub struct H1Body {
    // Gone once it went back to the pool.
    connection: Option<Box<H1>>,
}

impl H1Body {
    /// What follows the head that [`H1::send`] gave.
    pub fn new(connection: Box<H1>) -> Self {
        Self { connection: Some(connection) }
    }

    /// The next frame; drives the connection.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.connection {
            None => Poll::Ready(None),
            Some(connection) => connection.poll_content(cx),
        }
    }

    /// Whether everything was read.
    pub fn is_end_stream(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| connection.ended)
    }

    /// Length, where known.
    pub fn size_hint(&self) -> SizeHint {
        match &self.connection {
            None => SizeHint::with_exact(0),
            Some(connection) if connection.ended => SizeHint::with_exact(0),
            Some(connection) => connection
                .framing
                .content_left()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }

    /// After the last frame, at `now`: the connection, if it can serve again (T03).
    pub fn release(&mut self, now: Instant) -> Option<Box<H1>> {
        let mut connection = self.connection.take()?;
        let whole = connection.ended
            && connection.keep
            && connection.fault.is_none()
            && connection.framing.finished()
            && connection.sent_all();
        // Whether the backend keeps it too is asked before it is used again.
        if !whole {
            return None;
        }
        connection.reused = true;
        connection.room = LEAST_READ;
        connection.idle_since = now;
        Some(connection)
    }
}
