//! What HTTP/1.1 and HTTP/2 with clients have in common.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::task::Poll;

use tokio_rustls::server::TlsStream;

use crate::request::Cx;
use crate::server::conn::{Conn, Kick};
use crate::server::socket::ClientSocket;
use crate::telemetry::counters::{Closed, bump};
use crate::worker::Worker;

/// A client's bytes, without TLS around them.
pub type ClientStream = Box<TlsStream<ClientSocket>>;

/// A request begins: what it may look at.
pub fn begin(worker: &Rc<Worker>, conn: &Rc<Conn>) -> Cx {
    conn.busy.set(conn.busy.get() + 1);
    let served = conn.served.get() + 1;
    conn.served.set(served);
    let snapshot = worker.snapshot();
    if served >= snapshot.limits.requests_per_connection && !conn.draining.replace(true) {
        conn.wake();
    }
    Cx { worker: Rc::clone(worker), conn: Rc::clone(conn), snapshot }
}

/// What `poll` gives, or `None` if it panicked, which is counted.
pub fn caught<T>(worker: &Worker, poll: impl FnOnce() -> Poll<T>) -> Poll<Option<T>> {
    std::panic::catch_unwind(AssertUnwindSafe(poll)).map_or_else(
        |_| {
            bump(&worker.counters().panics, 1);
            Poll::Ready(None)
        },
        |poll| poll.map(Some),
    )
}

/// Why a connection ended that ended so.
pub fn closed(conn: &Conn, failed: bool) -> Closed {
    match conn.kick.get() {
        Some(Kick::Idle) => Closed::Idle,
        Some(Kick::HeaderTimeout) => Closed::HeaderTimeout,
        Some(Kick::Stuck) => Closed::Stuck,
        Some(Kick::Abuse) => Closed::Abuse,
        None if failed => Closed::Error,
        None => Closed::Normal,
    }
}
