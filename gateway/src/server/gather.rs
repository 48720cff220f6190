//! One write for the answers of many streams.
//!
//! The HTTP/2 library flushes each piece of content, and each flush would cost a TLS record and a system
//! call of its own. Under this wrapper what is flushed waits until connection and streams have had their
//! turn ([`h2`](super::h2)); then all of it leaves together.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::conn::Conn;

/// Room for the first bytes; it grows with what is gathered.
const FIRST: usize = 2 << 10;

/// Bytes that are gathered: a TLS record. What is more does not wait.
const MOST: usize = 16 << 10;

/// A stream whose writes are gathered. The library writes to it, and whoever has another handle passes
/// on what was written.
#[derive(Debug)]
pub struct Gather<S>(Rc<RefCell<Gathered<S>>>);

impl<S> Clone for Gather<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Gathered<S> {
    stream: S,
    conn: Rc<Conn>,
    // Written and not yet passed on; `sent` of it is.
    held: Vec<u8>,
    sent: usize,
    // Passed on, and perhaps not all of it to the socket.
    flushed: bool,
}

impl<S> Gather<S> {
    /// Gathers what is written to `stream`.
    pub fn new(stream: S, conn: Rc<Conn>) -> Self {
        let held = Vec::new();
        Self(Rc::new(RefCell::new(Gathered { stream, conn, held, sent: 0, flushed: true })))
    }
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    /// Passes on what was written.
    pub fn poll_pass(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_pass(cx)
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    fn hold(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(MOST.saturating_sub(self.held.len()));
        if self.held.capacity() == 0 && count > 0 {
            self.held.reserve_exact(FIRST.max(count));
        }
        self.held.extend_from_slice(&bytes[..count]);
        count
    }

    fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.held.len() {
            let rest = &self.held[self.sent..];
            self.flushed = false;
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        self.held.clear();
        self.sent = 0;
        if !self.flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.flushed = true;
        }
        if self.conn.busy.get() == 0 {
            // An idle connection holds no buffer.
            self.held = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut this = self.0.borrow_mut();
        if this.held.len() >= MOST || this.sent > 0 {
            ready!(this.poll_pass(cx))?;
        }
        let mut taken = 0;
        for buf in bufs {
            let count = this.hold(buf);
            taken += count;
            if count < buf.len() {
                break;
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// It leaves when the turn is over.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.0.borrow_mut();
        ready!(this.poll_pass(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, DuplexStream};

    use crate::recorder::row::Protocol;

    fn gathered(room: usize) -> (Gather<DuplexStream>, DuplexStream) {
        let (near, far) = tokio::io::duplex(room);
        let anywhere = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let conn = Conn::new(anywhere, anywhere, Protocol::Http2, "", "");
        (Gather::new(near, conn), far)
    }

    #[tokio::test]
    async fn what_is_written_in_one_turn_leaves_together_and_in_order() {
        let (mut gather, mut far) = gathered(64 << 10);
        let other = gather.clone();
        let mut cx = Context::from_waker(Waker::noop());
        let mut gather = Pin::new(&mut gather);
        let mut got = [0; 16];
        for word in [&b"one "[..], b"two"] {
            assert!(gather.as_mut().poll_write(&mut cx, word).is_ready());
            assert!(gather.as_mut().poll_flush(&mut cx).is_ready());
            let mut early = ReadBuf::new(&mut got);
            assert!(Pin::new(&mut far).poll_read(&mut cx, &mut early).is_pending());
        }
        assert!(other.poll_pass(&mut cx).is_ready());
        assert_eq!(far.read(&mut got).await.unwrap(), 7);
        assert_eq!(&got[..7], b"one two");
        assert_eq!(other.0.borrow().held.capacity(), 0, "nothing runs: no buffer is kept");
    }

    /// A client that takes little at a time holds the writer up, and gets every byte.
    #[tokio::test]
    async fn a_full_record_does_not_wait_and_nothing_is_lost() {
        let (mut gather, mut far) = gathered(1_000);
        let sent: Vec<u8> = (0..40_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.unwrap();
            got
        });
        let mut at = 0;
        let mut waited = false;
        while at < sent.len() {
            let count = std::future::poll_fn(|cx| {
                let polled = Pin::new(&mut gather).poll_write(cx, &sent[at..]);
                waited |= polled.is_pending();
                polled
            });
            at += count.await.unwrap();
        }
        assert!(waited);
        std::future::poll_fn(|cx| Pin::new(&mut gather).poll_shutdown(cx)).await.unwrap();
        assert_eq!(reading.await.unwrap(), sent);
    }
}
