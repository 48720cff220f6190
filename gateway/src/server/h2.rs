//! HTTP/2 with a client: hyper in the middle, our limits around it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::backends::connect::Local;
use crate::body::ClientBody;
use crate::request::{self, ResponseBody};
use crate::server::conn::{Conn, Kick};
use crate::server::gather::Gather;
use crate::server::h2_io::H2Io;
use crate::server::http::{ClientStream, begin, caught, closed, internal_error};
use crate::telemetry::counters::Closed;
use crate::worker::Worker;

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
        let cx = begin(&self.worker, &self.conn);
        let (head, body) = request.into_parts();
        Guarded {
            worker: Rc::clone(&self.worker),
            // Made in place: nesting it in another future would move all of it once more.
            handling: Box::pin(request::handle(cx, head, ClientBody::H2(body))),
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

/// Serves HTTP/2 until the connection ends; why it did.
pub async fn serve(worker: &Rc<Worker>, conn: &Rc<Conn>, stream: ClientStream) -> Closed {
    let snapshot = worker.snapshot();
    let limits = &snapshot.limits;
    let io = Gather::new(H2Io::new(stream, Rc::clone(conn)), Rc::clone(conn));
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
        let leaving =
            conn.draining.get() || conn.kick.get() == Some(Kick::Idle) || worker.closing();
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
