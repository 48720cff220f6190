//! The byte stream of an HTTP/2 connection with a client, under hyper.
//!
//! Only the heads of frames are watched, for the resets of a client that makes work and takes it back
//! (T08).

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use policies::frames::{ENHANCE_YOUR_CALM, Frames, goaway};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock;
use crate::server::conn::{Conn, Kick};

/// Bytes of an abusive client that are read so that a close does not destroy the last frame to it.
const MOST_SCRAPPED: usize = 64 << 10;

/// What passes on HTTP/2, in both directions.
#[derive(Debug)]
struct Watch {
    from_client: Frames,
    to_client: Frames,
}

/// A client's stream.
#[derive(Debug)]
pub struct H2Io<S> {
    stream: S,
    conn: Rc<Conn>,
    // Gone once the client was told to calm down.
    watch: Option<Watch>,
}

impl<S> H2Io<S> {
    /// Watches `stream`.
    pub fn new(stream: S, conn: Rc<Conn>) -> Self {
        let watch = Watch { from_client: Frames::from_client(), to_client: Frames::from_server() };
        Self { stream, conn, watch: Some(watch) }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> H2Io<S> {
    /// Reads on HTTP/2.
    fn poll_frames(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let Some(watch) = &mut self.watch else { return Poll::Ready(Ok(())) };
        let resets = watch.from_client.pass(&buf.filled()[before..]);
        if resets > 0 {
            self.conn.count_resets(resets, clock::now());
            if self.conn.kick.get() == Some(Kick::Abuse) {
                buf.set_filled(before);
                self.calm(cx);
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Says `ENHANCE_YOUR_CALM`, which the HTTP/2 library cannot be asked for, and ends our side. A
    /// client that does not even take that gets nothing.
    fn calm(&mut self, cx: &mut Context<'_>) {
        let Some(watch) = self.watch.take() else { return };
        if !watch.to_client.at_boundary() {
            return;
        }
        let frame = goaway(watch.from_client.last_stream(), ENHANCE_YOUR_CALM);
        if !matches!(Pin::new(&mut self.stream).poll_write(cx, &frame), Poll::Ready(Ok(_)))
            || !matches!(Pin::new(&mut self.stream).poll_flush(cx), Poll::Ready(Ok(())))
        {
            return;
        }
        let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
        let mut scrap = [0; 4096];
        for _ in 0..MOST_SCRAPPED / scrap.len() {
            let mut scrap = ReadBuf::new(&mut scrap);
            let read = Pin::new(&mut self.stream).poll_read(cx, &mut scrap);
            if !matches!(read, Poll::Ready(Ok(()))) || scrap.filled().is_empty() {
                return;
            }
        }
    }

    /// Takes note of what was written on HTTP/2.
    fn passed(&mut self, written: &Poll<io::Result<usize>>, bufs: &[io::IoSlice<'_>]) {
        let (Some(watch), Poll::Ready(Ok(written))) = (&mut self.watch, written) else { return };
        let mut left = *written;
        for buf in bufs {
            let part = left.min(buf.len());
            watch.to_client.pass(&buf[..part]);
            left -= part;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for H2Io<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.conn.cut.get() {
            return Poll::Ready(Ok(()));
        }
        if matches!(this.conn.kick.get(), Some(Kick::Stuck | Kick::Abuse)) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        this.poll_frames(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> H2Io<S> {
    fn note_write<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_pending() {
            if self.conn.blocked_since.get().is_none() {
                self.conn.blocked_since.set(Some(clock::now()));
            }
        } else if self.conn.blocked_since.get().is_some() {
            self.conn.blocked_since.set(None);
        }
        result
    }

    fn stuck(&self) -> Option<io::Error> {
        matches!(self.conn.kick.get(), Some(Kick::Stuck | Kick::Abuse))
            .then(|| io::ErrorKind::TimedOut.into())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for H2Io<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(error) = this.stuck() {
            return Poll::Ready(Err(error));
        }
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.passed(&result, &[io::IoSlice::new(buf)]);
        this.note_write(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(error) = this.stuck() {
            return Poll::Ready(Err(error));
        }
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.passed(&result, bufs);
        this.note_write(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(error) = this.stuck() {
            return Poll::Ready(Err(error));
        }
        let result = Pin::new(&mut this.stream).poll_flush(cx);
        this.note_write(result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
