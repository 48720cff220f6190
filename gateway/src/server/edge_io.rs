//! The byte stream of a client connection, under hyper.
//!
//! On HTTP/1 every byte is scanned before hyper sees it (`policies::framing`). A head is passed on
//! only when it is complete and beyond doubt. What is not gets an answer on the ordinary path: hyper
//! is handed a stand-in request in its place, and the request path refuses that with the reason kept
//! in [`Conn::refused`]. So a malformed request is answered, logged and counted like any other, and
//! in its turn when requests are pipelined.
//!
//! HTTP/2 frames itself; there only the heads of frames are watched, for the resets of a client that
//! makes work and takes it back (T08).

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use policies::frames::{ENHANCE_YOUR_CALM, Frames, goaway};
use policies::framing::{HeadLimits, RequestFraming};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock;
use crate::server::conn::{Conn, Kick, Refusal};

/// What hyper gets in place of a request that is refused unseen.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: weir.invalid\r\nconnection: close\r\n\r\n";

/// Bytes of pipelined requests that are read while an earlier one runs.
const MOST_HELD: usize = 64 << 10;

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
pub struct EdgeIo<S> {
    stream: S,
    conn: Rc<Conn>,
    /// `None` for HTTP/2, which frames itself.
    framing: Option<RequestFraming>,
    /// `None` for HTTP/1.
    watch: Option<Box<Watch>>,
    // Read and not passed on: an incomplete head, or requests behind the present one.
    held: Vec<u8>,
    // How many of them may be passed on.
    cleared: usize,
    stand_in: Option<&'static [u8]>,
}

impl<S> EdgeIo<S> {
    /// Watches an HTTP/1 stream.
    pub fn http1(stream: S, conn: Rc<Conn>, limits: HeadLimits) -> Self {
        let framing = Some(RequestFraming::new(limits));
        Self { stream, conn, framing, watch: None, held: Vec::new(), cleared: 0, stand_in: None }
    }

    /// Watches an HTTP/2 stream.
    pub fn http2(stream: S, conn: Rc<Conn>) -> Self {
        let watch = Watch { from_client: Frames::from_client(), to_client: Frames::from_server() };
        Self {
            stream,
            conn,
            framing: None,
            watch: Some(Box::new(watch)),
            held: Vec::new(),
            cleared: 0,
            stand_in: None,
        }
    }

    /// The stream, and bytes read beyond the last head: for a tunnel.
    pub fn into_stream(self) -> (S, Vec<u8>) {
        (self.stream, self.held)
    }

    fn refuse(&mut self, why: Refusal) {
        self.conn.refused.set(Some(why));
        self.conn.head_since.set(None);
        self.stand_in = Some(STAND_IN);
        self.held = Vec::new();
        self.cleared = 0;
    }

    /// Whether what comes now belongs to a request behind the present one. An upgrade that was asked
    /// for and is over without a tunnel was declined.
    fn waiting(&mut self) -> bool {
        let busy = self.conn.busy.get() > 0;
        let Some(framing) = &mut self.framing else { return false };
        if !busy && framing.upgrade_asked() {
            framing.not_upgraded();
        }
        framing.at_boundary() && busy
    }

    fn scan_held(&mut self) -> Result<usize, policies::framing::Fault> {
        let scanned = self.framing.as_mut().map_or(Ok(0), |framing| framing.scan(&self.held));
        self.note_head();
        self.note_fault();
        scanned
    }

    /// A fault behind bytes that still pass belongs to the body of the request they begin: it is
    /// refused before anything of it goes to a backend (T01).
    fn note_fault(&self) {
        if let Some(fault) = self.framing.as_ref().and_then(RequestFraming::fault) {
            self.conn.refused.set(Some(Refusal::Framing(fault)));
        }
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
        // What is left waits for the end of the request that was passed on.
        self.conn.holds.set(!self.held.is_empty());
        if self.held.is_empty() {
            // An idle connection holds no buffer.
            self.held = Vec::new();
        }
        true
    }

    /// Keeps the clock of the head: it starts with the first byte and stops when the head is whole.
    fn note_head(&self) {
        let Some(framing) = &self.framing else { return };
        match (framing.in_head(), self.conn.head_since.get()) {
            (true, None) => self.conn.head_since.set(Some(clock::now())),
            (false, Some(since)) => {
                self.conn.head_took.set(since.elapsed());
                self.conn.head_since.set(None);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> EdgeIo<S> {
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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for EdgeIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.conn.cut.get() {
            return Poll::Ready(Ok(()));
        }
        match this.conn.kick.get() {
            None => {}
            // To hyper the client has left: it ends the connection.
            Some(Kick::Idle)
                if this.framing.is_some()
                    && this.conn.busy.get() == 0
                    && this.conn.blocked_since.get().is_none() =>
            {
                return Poll::Ready(Ok(()));
            }
            Some(Kick::HeaderTimeout) if this.stand_in.is_none() => {
                this.refuse(Refusal::HeaderTimeout);
            }
            Some(Kick::Stuck | Kick::Abuse) => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Some(Kick::Idle | Kick::HeaderTimeout) => {}
        }
        if this.framing.is_none() {
            return this.poll_frames(cx, buf);
        }
        if let Some(rest) = &mut this.stand_in {
            if rest.is_empty() {
                // Nothing more is read from this client; the answer closes the connection.
                return Poll::Pending;
            }
            let n = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..n]);
            *rest = &rest[n..];
            return Poll::Ready(Ok(()));
        }
        loop {
            // The next request waits until this one is over; meanwhile we only watch for the end.
            let waiting = this.cleared == 0 && this.waiting();
            if !this.held.is_empty() && !waiting {
                if this.cleared == 0 {
                    match this.scan_held() {
                        Ok(cleared) => this.cleared = cleared,
                        Err(fault) => {
                            this.refuse(Refusal::Framing(fault));
                            return Pin::new(this).poll_read(cx, buf);
                        }
                    }
                }
                if this.pass_held(buf) {
                    return Poll::Ready(Ok(()));
                }
            }
            // A head is bounded by its own limits, which may be larger.
            if waiting && this.held.len() >= MOST_HELD {
                return Poll::Pending;
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let fresh = &buf.filled()[before..];
            if fresh.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if waiting || !this.held.is_empty() {
                this.held.extend_from_slice(fresh);
                buf.set_filled(before);
                this.conn.holds.set(waiting);
                continue;
            }
            let scanned = this.framing.as_mut().map_or(Ok(fresh.len()), |f| f.scan(fresh));
            match scanned {
                Ok(passed) => {
                    if passed < fresh.len() {
                        this.held.extend_from_slice(&fresh[passed..]);
                        buf.set_filled(before + passed);
                        this.conn.holds.set(passed > 0);
                    }
                    this.note_head();
                    this.note_fault();
                    if passed > 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(fault) => {
                    buf.set_filled(before);
                    this.refuse(Refusal::Framing(fault));
                    return Pin::new(this).poll_read(cx, buf);
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> EdgeIo<S> {
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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for EdgeIo<S> {
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
