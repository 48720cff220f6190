//! The streams under a scripted backend: they can be cut, reset, told when everything has been
//! flushed, and slip bytes in that hyper's server cannot send.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// What a handler may do to the connection that its request came on.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// Whether the socket, when it closes, sends RST instead of FIN.
    resets: AtomicBool,
    /// Asks the connection's task to let go of the socket.
    pub(crate) cut: Notify,
    flushes: AtomicU64,
    waiting_for_flush: Mutex<Vec<Waker>>,
    injected: Mutex<VecDeque<u8>>,
}

impl Control {
    /// Closes the connection with RST.
    pub(crate) fn reset(&self) {
        self.resets.store(true, Ordering::SeqCst);
        self.cut.notify_one();
    }

    /// Closes the connection with FIN, whatever was promised.
    pub(crate) fn close(&self) {
        self.cut.notify_one();
    }

    /// How often everything written so far has gone to the kernel.
    pub(crate) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::SeqCst)
    }

    pub(crate) fn wake_at_flush(&self, waker: &Waker) {
        self.waiting_for_flush.lock().push(waker.clone());
    }

    /// Sends `bytes` ahead of whatever is written next.
    pub(crate) fn inject(&self, bytes: &[u8]) {
        self.injected.lock().extend(bytes);
    }
}

/// The socket itself, below TLS.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) tcp: TcpStream,
    pub(crate) control: Arc<Control>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.control.resets.load(Ordering::SeqCst) {
            reset_when_closed(&self.tcp);
        }
    }
}

/// Makes the coming close of `tcp` an RST. What was written is on its way already.
pub(crate) fn reset_when_closed(tcp: &TcpStream) {
    // Fails only on a socket that the other side has reset before.
    let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

/// A plain or a TLS stream.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What HTTP is spoken on, above TLS.
pub(crate) struct Watched {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) control: Arc<Control>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut injected = this.control.injected.lock();
        while !injected.is_empty() {
            let (front, _) = injected.as_slices();
            let written = ready!(Pin::new(&mut this.stream).poll_write(context, front))?;
            injected.drain(..written);
        }
        drop(injected);
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.control.flushes.fetch_add(1, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *self.control.waiting_for_flush.lock());
        waiting.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
