//! A client's bytes in both directions: how more is read, and how what is to be written leaves.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncBufRead, AsyncWrite};

use super::out::Out;
use crate::clock;
use crate::server::conn::Conn;
use crate::server::socket::ClientStream;

/// Bytes that are gathered for one write: a TLS record.
pub(super) const MOST_GATHERED: usize = 16 << 10;

/// The bytes of one connection.
#[derive(Debug)]
pub(super) struct Pipe {
    conn: Rc<Conn>,
    // Gone once the connection is over.
    stream: Option<ClientStream>,
    /// To be written.
    pub out: Out,
    // Most bytes that wait for a slow client.
    most: usize,
    flushed: bool,
}

impl Pipe {
    pub(super) fn new(conn: Rc<Conn>, stream: ClientStream, most: usize) -> Self {
        Self { conn, stream: Some(stream), out: Out::default(), most, flushed: true }
    }

    /// The bare stream, once.
    pub(super) fn take_stream(&mut self) -> Option<ClientStream> {
        self.stream.take()
    }

    /// Appends what has come to `read`; how many bytes, 0 at the end of the client's side.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        read: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(0)) };
        let mut stream = Pin::new(stream);
        let fresh = ready!(stream.as_mut().poll_fill_buf(cx))?;
        let count = fresh.len();
        read.extend_from_slice(fresh);
        stream.consume(count);
        Poll::Ready(Ok(count))
    }

    /// Whether more is to be gathered: until it makes a full write, or as long as the client takes
    /// nothing, up to a limit (L12).
    pub(super) fn has_room(&self) -> bool {
        let blocked = self.conn.blocked_since.get().is_some();
        self.out.len() < if blocked { self.most } else { self.most.min(MOST_GATHERED) }
    }

    /// Writes all there is. The sweep looks at how long nothing was taken (L12).
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let mut stream = Pin::new(stream);
        let done = loop {
            let step = if self.out.len() > 0 {
                let written = self.out.poll_write(cx, stream.as_mut());
                if matches!(written, Poll::Ready(Ok(()))) {
                    self.flushed = false;
                    // It took something.
                    self.conn.blocked_since.set(None);
                }
                written
            } else if self.flushed {
                break Poll::Ready(Ok(()));
            } else {
                let flushed = stream.as_mut().poll_flush(cx);
                self.flushed = matches!(flushed, Poll::Ready(Ok(())));
                flushed
            };
            if !matches!(step, Poll::Ready(Ok(()))) {
                break step;
            }
        };
        if done.is_ready() {
            self.conn.blocked_since.set(None);
        } else if self.conn.blocked_since.get().is_none() {
            self.conn.blocked_since.set(Some(clock::now()));
        }
        done
    }
}
