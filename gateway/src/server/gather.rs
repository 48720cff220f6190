//! One write for the answers of many streams.
//!
//! hyper flushes an HTTP/2 connection each time its task ran, which under load is once a stream: each
//! answer costs a TLS record and a system call of its own. Under this wrapper a flush waits until the
//! tasks that are ready to run have run, twice at most; what they wrote leaves together. With nothing
//! else to run that is no wait at all.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::conn::Conn;

/// Turns of the run queue that a flush may wait.
const TURNS: u8 = 2;

/// Room for the first bytes; it grows with what is gathered.
const FIRST: usize = 2 << 10;

/// Bytes that are gathered: a TLS record. What is more does not wait.
const MOST: usize = 16 << 10;

/// A stream whose writes are gathered.
#[derive(Debug)]
pub struct Gather<S> {
    stream: S,
    conn: Rc<Conn>,
    // Written by hyper and not yet passed on; `sent` of it is.
    held: Vec<u8>,
    sent: usize,
    waited: u8,
}

impl<S> Gather<S> {
    /// Gathers what is written to `stream`.
    pub fn new(stream: S, conn: Rc<Conn>) -> Self {
        Self { stream, conn, held: Vec::new(), sent: 0, waited: 0 }
    }

    fn hold(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(MOST.saturating_sub(self.held.len()));
        if self.held.capacity() == 0 && count > 0 {
            self.held.reserve_exact(FIRST.max(count));
        }
        self.held.extend_from_slice(&bytes[..count]);
        count
    }
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.held.len() {
            let rest = &self.held[self.sent..];
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        self.held.clear();
        self.sent = 0;
        self.waited = 0;
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
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
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
        let this = self.get_mut();
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

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.held.is_empty() {
            return Pin::new(&mut this.stream).poll_flush(cx);
        }
        if this.waited < TURNS && this.sent == 0 && this.held.len() < MOST {
            this.waited += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(this.poll_pass(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_pass(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    use tokio::io::AsyncReadExt;

    use crate::recorder::row::Protocol;

    fn gathered() -> (Gather<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64 << 10);
        let anywhere = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let conn = Conn::new(anywhere, anywhere, Protocol::Http2, "", "");
        (Gather::new(near, conn), far)
    }

    #[tokio::test]
    async fn what_is_written_within_two_turns_leaves_together_and_in_order() {
        let (mut gather, mut far) = gathered();
        let mut cx = Context::from_waker(Waker::noop());
        let mut gather = Pin::new(&mut gather);
        assert!(gather.as_mut().poll_write(&mut cx, b"one ").is_ready());
        assert!(gather.as_mut().poll_flush(&mut cx).is_pending());
        assert!(gather.as_mut().poll_write(&mut cx, b"two").is_ready());
        assert!(gather.as_mut().poll_flush(&mut cx).is_pending());
        assert!(gather.as_mut().poll_flush(&mut cx).is_ready());
        let mut got = [0; 16];
        assert_eq!(far.read(&mut got).await.unwrap(), 7);
        assert_eq!(&got[..7], b"one two");
        assert_eq!(gather.held.capacity(), 0, "nothing runs: no buffer is kept");
    }

    #[tokio::test]
    async fn a_full_record_does_not_wait_and_nothing_is_lost() {
        let (mut gather, mut far) = gathered();
        let mut cx = Context::from_waker(Waker::noop());
        let sent: Vec<u8> = (0..40_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut at = 0;
        let mut gather = Pin::new(&mut gather);
        while at < sent.len() {
            let Poll::Ready(Ok(count)) = gather.as_mut().poll_write(&mut cx, &sent[at..]) else {
                panic!("there is room");
            };
            assert!(count > 0);
            at += count;
        }
        assert!(gather.as_mut().poll_shutdown(&mut cx).is_ready());
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, sent);
    }
}
