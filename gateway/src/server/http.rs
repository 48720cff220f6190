//! What HTTP/1.1 and HTTP/2 with clients have in common.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::clock;
use crate::request::Cx;
use crate::server::conn::{Conn, Kick};
use crate::server::socket::ClientStream;
use crate::telemetry::counters::{Closed, bump};
use crate::worker::Worker;

/// Bytes of a refused body that are read after the answer, and for how long (T03): a close with
/// unread bytes would reset the connection and could destroy the answer on its way.
const LINGER_BYTES: usize = 64 << 10;
const LINGER: Duration = Duration::from_secs(1);

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

/// A request that began is over before anybody looked at it: nothing is known of it.
pub fn never_looked_at(conn: &Conn) {
    conn.busy.set(conn.busy.get() - 1);
    conn.quiet_since.set(clock::now());
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

/// Ends our side, then reads a little of what the client still sends.
pub async fn linger(mut stream: ClientStream) {
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
