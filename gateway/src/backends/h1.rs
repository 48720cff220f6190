//! One HTTP/1.1 connection to a backend, driven by the request that uses it.
//!
//! hyper splits a client connection into a sender and a future that moves the bytes. Usually that
//! future is a task of its own, and each frame costs two wake-ups between tasks. Here the two stay
//! together: whoever waits for the answer polls the connection. While it is idle nobody polls it, so
//! a close by the backend is noticed when the connection is taken from the pool, before a request is
//! put on it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::wire::{BackendIo, Wire};
use super::{Backend, Endpoint};
use crate::body::Outgoing;

/// Header fields that hyper takes if nothing is said. Told any number, it puts the table of each head
/// on the heap; so it is told only a larger one.
pub const HYPER_FIELDS: usize = 100;

type Connection = http1::Connection<TokioIo<BackendIo>, Outgoing>;

/// A connection and its sender.
pub struct H1 {
    send: http1::SendRequest<Outgoing>,
    connection: Connection,
    /// Bytes and faults.
    pub wire: Rc<Wire>,
    /// Where it leads.
    pub endpoint: Arc<Endpoint>,
    /// Since when it is unused.
    pub idle_since: Instant,
    /// Whether a request was answered on it before.
    pub reused: bool,
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

/// Why no response head came.
#[derive(Debug)]
pub struct SendError {
    /// What went wrong.
    pub error: Option<hyper::Error>,
    /// The request, if nothing of it was written.
    pub unsent: Option<Request<Outgoing>>,
}

impl H1 {
    /// Speaks HTTP/1.1 over `io`.
    ///
    /// # Errors
    /// hyper's; in practice none before the first byte.
    pub async fn handshake(
        io: BackendIo,
        wire: Rc<Wire>,
        endpoint: Arc<Endpoint>,
        open: OpenConnection,
    ) -> hyper::Result<Box<Self>> {
        let mut builder = http1::Builder::new();
        if wire.header_fields > HYPER_FIELDS {
            builder.max_headers(wire.header_fields);
        }
        let (send, connection) = builder.handshake::<_, Outgoing>(TokioIo::new(io)).await?;
        Ok(Box::new(Self {
            send,
            connection,
            wire,
            endpoint,
            idle_since: crate::clock::now(),
            reused: false,
            open,
        }))
    }

    /// Moves bytes. Ready when the connection is over.
    pub fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.connection.poll_without_shutdown(cx).map(|_| ())
    }

    /// Whether the connection can take a request now. Reads what the backend said meanwhile: an
    /// idle connection that was closed, or on which bytes came that nobody asked for, is not fresh.
    pub fn is_fresh(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.poll_drive(&mut cx).is_pending() && self.send.poll_ready(&mut cx).is_ready_ok()
    }

    /// Sends `request` and waits for the head of the response.
    ///
    /// # Errors
    /// [`SendError`] when the connection ended first.
    pub async fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, SendError> {
        self.wire.expect(request.method() == http::Method::HEAD);
        self.exchange(request).await
    }

    /// Sends a request that asks for an upgrade.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_upgrade(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, SendError> {
        self.wire.expect_upgrade();
        self.exchange(request).await
    }

    async fn exchange(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, SendError> {
        let mut answer = pin!(self.send.try_send_request(request));
        let connection = &mut self.connection;
        let wire = &self.wire;
        let mut over = false;
        std::future::poll_fn(|cx| {
            if !over {
                over = connection.poll_without_shutdown(cx).is_ready();
            }
            match answer.as_mut().poll(cx) {
                Poll::Ready(Ok(response)) => match wire.foreseen() {
                    None => Poll::Ready(Ok(response)),
                    fault => {
                        wire.fault.set(fault);
                        Poll::Ready(Err(SendError { error: None, unsent: None }))
                    }
                },
                Poll::Ready(Err(mut failed)) => {
                    let unsent = failed.take_message();
                    Poll::Ready(Err(SendError { error: Some(failed.into_error()), unsent }))
                }
                // The connection is over and will never answer.
                Poll::Pending if over => Poll::Ready(Err(SendError { error: None, unsent: None })),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// The bare stream and what was read beyond the head, after a 101.
    pub fn into_stream(self: Box<Self>) -> (BackendIo, bytes::Bytes, OpenConnection) {
        let parts = self.connection.into_parts();
        (parts.io.into_inner(), parts.read_buf, self.open)
    }

    /// Polls until hyper considers the upgrade done.
    pub async fn finish_upgrade(&mut self) {
        std::future::poll_fn(|cx| self.poll_drive(cx)).await;
    }
}

trait IsReadyOk {
    fn is_ready_ok(&self) -> bool;
}

impl<T, E> IsReadyOk for Poll<Result<T, E>> {
    fn is_ready_ok(&self) -> bool {
        matches!(self, Poll::Ready(Ok(_)))
    }
}

/// The body of a response together with the connection that brings it.
pub struct H1Body {
    incoming: Incoming,
    // Gone once it went back to the pool.
    connection: Option<Box<H1>>,
}

impl std::fmt::Debug for H1Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("H1Body")
    }
}

impl H1Body {
    /// Joins the two.
    pub fn new(incoming: Incoming, connection: Box<H1>) -> Self {
        Self { incoming, connection: Some(connection) }
    }

    /// The next frame; drives the connection.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, hyper::Error>>> {
        use http_body::Body;
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if let Some(connection) = &mut self.connection {
            // Its end is seen through the body.
            let _ = connection.poll_drive(cx);
        }
        Pin::new(&mut self.incoming).poll_frame(cx)
    }

    /// Whether everything was read.
    pub fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.incoming)
    }

    /// Length, where known.
    pub fn size_hint(&self) -> http_body::SizeHint {
        http_body::Body::size_hint(&self.incoming)
    }

    /// The connection's wire, for telling whose fault a broken body is.
    pub fn wire(&self) -> Option<&Rc<Wire>> {
        self.connection.as_ref().map(|connection| &connection.wire)
    }

    /// After the last frame: the connection, if it can serve again.
    pub fn release(&mut self) -> Option<Box<H1>> {
        let mut connection = self.connection.take()?;
        if connection.is_fresh() && connection.wire.finished() {
            connection.reused = true;
            connection.idle_since = crate::clock::now();
            return Some(connection);
        }
        None
    }
}
