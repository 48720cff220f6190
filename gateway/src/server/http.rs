//! HTTP on a client connection: hyper in the middle, our limits around it.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use policies::framing::HeadLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::server::TlsStream;

use crate::backends::connect::Local;
use crate::body::ClientBody;
use crate::request::{self, Cx, ResponseBody};
use crate::server::conn::{Conn, Kick};
use crate::server::edge_io::EdgeIo;
use crate::server::gather::Gather;
use crate::server::socket::ClientSocket;
use crate::telemetry::counters::{Closed, bump};
use crate::worker::Worker;

/// Header fields that hyper takes if nothing is said. Told any number, it puts the table of each head
/// on the heap; so it is told only a larger one.
const HYPER_FIELDS: usize = 100;

/// Bytes of a refused body that are read after the answer, and for how long (T03): a close with
/// unread bytes would reset the connection and could destroy the answer on its way.
const LINGER_BYTES: usize = 64 << 10;
const LINGER: Duration = Duration::from_secs(1);

/// Calls the request path. The future is boxed, so that an idle connection holds a pointer and not
/// room for a request.
#[derive(Debug)]
struct Edge {
    worker: Rc<Worker>,
    conn: Rc<Conn>,
}

impl Service<Request<Incoming>> for Edge {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Guarded;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // Now, not when the future runs: the stream asks before it passes on the next request.
        self.conn.busy.set(self.conn.busy.get() + 1);
        let served = self.conn.served.get() + 1;
        self.conn.served.set(served);
        let snapshot = self.worker.snapshot();
        if served >= snapshot.limits.requests_per_connection {
            self.conn.draining.set(true);
            self.conn.wake();
        }
        let (head, body) = request.into_parts();
        let cx = Cx { worker: Rc::clone(&self.worker), conn: Rc::clone(&self.conn), snapshot };
        Guarded {
            worker: Rc::clone(&self.worker),
            // Made in place: nesting it in another future would move all of it once more.
            handling: Box::pin(request::handle(cx, head, ClientBody::Hyper(body))),
        }
    }
}

/// A request under way. A panic ends it alone, not the process (F27): its record writes itself while
/// it unwinds.
struct Guarded {
    worker: Rc<Worker>,
    handling: Pin<Box<dyn Future<Output = Response<ResponseBody>>>>,
}

impl Future for Guarded {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        caught(&this.worker, || this.handling.as_mut().poll(task))
            .map(|answer| Ok(answer.unwrap_or_else(internal_error)))
    }
}

fn internal_error() -> Response<ResponseBody> {
    let text = b"{\"error\":{\"type\":\"internal\",\"message\":\"an error inside the gateway\"}}";
    let mut response =
        Response::new(ResponseBody::Own(Some(bytes::Bytes::from_static(text)), None));
    *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    let value = http::HeaderValue::from_static("internal");
    response.headers_mut().insert(&crate::snapshot::names::ERROR, value);
    response
}

/// What `poll` gives, or `None` if it panicked, which is counted.
fn caught<T>(worker: &Worker, poll: impl FnOnce() -> Poll<T>) -> Poll<Option<T>> {
    std::panic::catch_unwind(AssertUnwindSafe(poll)).map_or_else(
        |_| {
            bump(&worker.counters().panics, 1);
            Poll::Ready(None)
        },
        |poll| poll.map(Some),
    )
}

/// Serves HTTP/1 until the connection ends; why it did.
pub async fn serve_http1(
    worker: &Rc<Worker>,
    conn: &Rc<Conn>,
    stream: Box<TlsStream<ClientSocket>>,
) -> Closed {
    let snapshot = worker.snapshot();
    let limits = &snapshot.limits;
    let heads = HeadLimits {
        target_bytes: limits.target_bytes,
        header_bytes: limits.header_bytes,
        header_fields: limits.header_fields,
    };
    let io = EdgeIo::http1(stream, Rc::clone(conn), heads);
    let edge = Edge { worker: Rc::clone(worker), conn: Rc::clone(conn) };
    let mut builder = http1::Builder::new();
    if limits.header_fields > HYPER_FIELDS {
        builder.max_headers(limits.header_fields);
    }
    let mut connection = builder
        // Deadlines are the sweep's: hyper's own would count idle time into the head's.
        .header_read_timeout(None)
        .max_buf_size(limits.write_buffer.max(limits.header_bytes + limits.target_bytes + 1024))
        .serve_connection(TokioIo::new(io), edge);
    let mut asked = false;
    let result = std::future::poll_fn(|cx| {
        conn.set_waker(cx.waker());
        if !asked && (conn.draining.get() || worker.shared.closing.load(Relaxed)) {
            asked = true;
            conn.draining.set(true);
            Pin::new(&mut connection).graceful_shutdown();
        }
        caught(worker, || connection.poll_without_shutdown(cx))
    })
    .await;
    let Some(result) = result else {
        // Its state is not to be trusted any more.
        conn.panicked.set(true);
        return Closed::Error;
    };

    let upgrade = conn.upgrade.borrow_mut().take();
    let parts = connection.into_parts();
    let (stream, held) = parts.io.into_inner().into_stream();
    if let Some(tunnel) = upgrade {
        let mut sent = parts.read_buf.to_vec();
        sent.extend_from_slice(&held);
        Box::pin(tunnel.run(stream, sent)).await;
        return Closed::Normal;
    }
    let why = closed(conn, result.is_err());
    if matches!(why, Closed::Stuck | Closed::Abuse) {
        return why;
    }
    Box::pin(linger(stream)).await;
    why
}

/// Serves HTTP/2 until the connection ends; why it did.
pub async fn serve_http2(
    worker: &Rc<Worker>,
    conn: &Rc<Conn>,
    stream: Box<TlsStream<ClientSocket>>,
) -> Closed {
    let snapshot = worker.snapshot();
    let limits = &snapshot.limits;
    let io = Gather::new(EdgeIo::http2(stream, Rc::clone(conn)), Rc::clone(conn));
    let edge = Edge { worker: Rc::clone(worker), conn: Rc::clone(conn) };
    let mut connection = pin!(
        http2::Builder::new(Local)
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.h2_streams)
            .initial_stream_window_size(limits.h2_stream_window)
            .initial_connection_window_size(limits.h2_connection_window)
            .max_header_list_size(limits.h2_header_bytes)
            .max_send_buf_size(limits.write_buffer)
            .max_pending_accept_reset_streams(32)
            .max_local_error_reset_streams(32)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .serve_connection(TokioIo::new(io), edge)
    );
    let mut asked = false;
    let result = std::future::poll_fn(|cx| {
        conn.set_waker(cx.waker());
        let leaving = conn.draining.get()
            || conn.kick.get() == Some(Kick::Idle)
            || worker.shared.closing.load(Relaxed);
        if !asked && leaving {
            asked = true;
            conn.draining.set(true);
            connection.as_mut().graceful_shutdown();
        }
        caught(worker, || connection.as_mut().poll(cx))
    })
    .await;
    let Some(result) = result else {
        conn.panicked.set(true);
        return Closed::Error;
    };
    closed(conn, result.is_err())
}

fn closed(conn: &Conn, failed: bool) -> Closed {
    match conn.kick.get() {
        Some(Kick::Idle) => Closed::Idle,
        Some(Kick::HeaderTimeout) => Closed::HeaderTimeout,
        Some(Kick::Stuck) => Closed::Stuck,
        Some(Kick::Abuse) => Closed::Abuse,
        None if failed => Closed::Error,
        None => Closed::Normal,
    }
}

/// Ends our side, then reads a little of what the client still sends.
async fn linger(mut stream: Box<TlsStream<ClientSocket>>) {
    let reading = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut scrap = [0; 4096];
        let mut total = 0;
        while total < LINGER_BYTES {
            match stream.read(&mut scrap).await {
                Ok(0) | Err(_) => return,
                Ok(count) => total += count,
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, reading).await;
}
