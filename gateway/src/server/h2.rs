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

use crate::body::ClientBody;
use crate::request::ResponseBody;
use crate::server::conn::{Conn, Kick};
use crate::server::gather::Gather;
use crate::server::h2::streams::{Driver, Streams};
use crate::server::h2_io::H2Io;
use crate::server::http::{begin, caught, closed};
use crate::server::running::{Running, Task};
use crate::server::socket::ClientStream;
use crate::telemetry::counters::Closed;
use crate::worker::Worker;

mod streams;

/// Calls the request path.
#[derive(Debug)]
struct Edge {
    worker: Rc<Worker>,
    conn: Rc<Conn>,
}

impl Service<Request<Incoming>> for Edge {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (head, body) = request.into_parts();
        let task = Task::Handle(head, ClientBody::H2(body));
        Answering(Running::begin(begin(&self.worker, &self.conn), task))
    }
}

/// A request under way, which never fails.
struct Answering(Running);

impl Future for Answering {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.get_mut().0).poll(task).map(Ok)
    }
}

/// Serves HTTP/2 until the connection ends; why it did.
pub async fn serve(worker: &Rc<Worker>, conn: &Rc<Conn>, stream: ClientStream) -> Closed {
    let snapshot = worker.snapshot();
    let limits = &snapshot.limits;
    let io = Gather::new(H2Io::new(stream, Rc::clone(conn)), Rc::clone(conn));
    let streams = Streams::default();
    let edge = Edge { worker: Rc::clone(worker), conn: Rc::clone(conn) };
    let mut connection = pin!(
        http2::Builder::new(streams.clone())
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
            .serve_connection(TokioIo::new(io.clone()), edge)
    );
    let mut asked = false;
    let mut driver = Driver::new(streams);
    conn.set_waker(driver.waker());
    let result = std::future::poll_fn(|cx| {
        let leaving =
            conn.draining.get() || conn.kick.get() == Some(Kick::Idle) || worker.closing();
        if !asked && leaving {
            asked = true;
            conn.draining.set(true);
            connection.as_mut().graceful_shutdown();
        }
        caught(worker, || driver.poll(cx, connection.as_mut(), |cx| io.poll_pass(cx)))
    })
    .await;
    let Some(failed) = result else {
        conn.panicked.set(true);
        return Closed::Error;
    };
    closed(conn, failed)
}
