//! The byte stream to a backend, watched.
//!
//! hyper repairs some of what must be refused (hardening T07), so on HTTP/1.1 every byte of a
//! response goes through `policies::framing` before hyper sees it. The same place knows what hyper
//! does not tell: whether a response byte came, and whether the fault was the backend's.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use policies::framing::{Fault, HeadLimits, ResponseFraming};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::clock;

/// What a connection to a backend runs over.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP. Boxed: it is large, and most backends are plain.
    Tls(Box<TlsStream<TcpStream>>),
}

/// What is known of a connection's bytes, shared between the stream inside hyper and the pool.
pub struct Wire {
    framing: RefCell<Option<ResponseFraming>>,
    /// Most fields of a response head.
    pub header_fields: usize,
    /// Why the response was refused.
    pub fault: Cell<Option<Fault>>,
    /// Whether a byte of the present response has come.
    pub answered: Cell<bool>,
    /// Bytes written for the present request.
    pub written: Cell<u64>,
    /// When the last of them were: one look at the clock beside a system call.
    pub written_at: Cell<Option<Instant>>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("fault", &self.fault).finish_non_exhaustive()
    }
}

impl Wire {
    /// Watching HTTP/1.1 responses, or nothing (HTTP/2 frames itself).
    pub fn new(http1: Option<HeadLimits>) -> Rc<Self> {
        Rc::new(Self {
            header_fields: http1.map_or(0, |limits| limits.header_fields),
            framing: RefCell::new(http1.map(ResponseFraming::new)),
            fault: Cell::new(None),
            answered: Cell::new(false),
            written: Cell::new(0),
            written_at: Cell::new(None),
        })
    }

    fn wrote(&self, bytes: usize) {
        self.written.set(self.written.get() + bytes as u64);
        // On HTTP/2 the bytes are of many requests.
        if self.framing.borrow().is_some() {
            self.written_at.set(Some(clock::now()));
        }
    }

    /// A request is about to be written.
    pub fn expect(&self, head: bool) {
        if let Some(framing) = &mut *self.framing.borrow_mut() {
            framing.expect(head);
        }
        self.answered.set(false);
        self.written.set(0);
        self.written_at.set(None);
    }

    /// A request that asks for an upgrade is about to be written.
    pub fn expect_upgrade(&self) {
        if let Some(framing) = &mut *self.framing.borrow_mut() {
            framing.expect_upgrade();
        }
        self.answered.set(false);
        self.written.set(0);
        self.written_at.set(None);
    }

    /// Why the bytes behind a head that was passed on will be refused, where that is known already:
    /// nothing of the answer need be sent on then (T07).
    pub fn foreseen(&self) -> Option<Fault> {
        self.framing.borrow().as_ref().and_then(ResponseFraming::fault)
    }

    /// Whether the last response was whole and exactly framed, so that the connection may be used
    /// again (T03).
    pub fn finished(&self) -> bool {
        self.fault.get().is_none()
            && self
                .framing
                .borrow()
                .as_ref()
                .is_none_or(|framing| framing.finished() && !framing.close_delimited())
    }
}

/// A [`Stream`] under hyper.
#[derive(Debug)]
pub struct BackendIo {
    stream: Stream,
    wire: Rc<Wire>,
    // Bytes read and not yet passed on: the beginning of a head that is not complete.
    held: Vec<u8>,
    // How many of them may be passed on.
    cleared: usize,
}

impl BackendIo {
    /// Watches `stream`.
    pub fn new(stream: Stream, wire: Rc<Wire>) -> Self {
        Self { stream, wire, held: Vec::new(), cleared: 0 }
    }

    fn fail(&self, fault: Fault) -> io::Error {
        self.wire.fault.set(Some(fault));
        io::Error::new(io::ErrorKind::InvalidData, fault)
    }

    /// Passes on what may be passed on of `held`.
    fn pass_held(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let n = self.cleared.min(buf.remaining());
        if n == 0 {
            return false;
        }
        buf.put_slice(&self.held[..n]);
        self.held.drain(..n);
        self.cleared -= n;
        true
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for BackendIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.wire.framing.borrow().is_none() {
            // HTTP/2: nothing to watch.
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let wire = Rc::clone(&this.wire);
        let mut framing = wire.framing.borrow_mut();
        let Some(framing) = framing.as_mut() else { return Poll::Ready(Ok(())) };
        loop {
            if !this.held.is_empty() {
                if this.cleared == 0 {
                    this.cleared = framing.scan(&this.held).map_err(|fault| this.fail(fault))?;
                }
                if this.pass_held(buf) {
                    return Poll::Ready(Ok(()));
                }
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let fresh = &buf.filled()[before..];
            if fresh.is_empty() {
                return Poll::Ready(framing.end().map_err(|fault| this.fail(fault)));
            }
            wire.answered.set(true);
            if !this.held.is_empty() {
                this.held.extend_from_slice(fresh);
                buf.set_filled(before);
                continue;
            }
            match framing.scan(fresh) {
                Ok(passed) if passed == fresh.len() => return Poll::Ready(Ok(())),
                Ok(passed) => {
                    this.held.extend_from_slice(&fresh[passed..]);
                    buf.set_filled(before + passed);
                    if passed > 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(fault) => {
                    buf.set_filled(before);
                    return Poll::Ready(Err(this.fail(fault)));
                }
            }
        }
    }
}

impl AsyncWrite for BackendIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let n = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        this.wire.wrote(n);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let n = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bufs))?;
        this.wire.wrote(n);
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
