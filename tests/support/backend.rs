//! A scripted HTTP server in the role of a model server, which remembers what it was asked.
//!
//! ```ignore
//! let control = backend().answers("from control").start().await;
//! let copied = backend().stalls().start().await;
//! // …
//! until(seconds(2), || copied.calls() == 1).await;
//! control.becomes(backend().status(503));
//! ```
//!
//! Without more it answers 200 with an empty body, over HTTP/1.1 without TLS.

pub mod raw;
pub mod websocket;
mod anthropic;
mod answer;
mod body;
mod builder;
mod connection;
mod openai;
pub(crate) mod own_thread;
mod record;
mod script;
pub(crate) mod wire;

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use parking_lot::Mutex;

pub use answer::sha256;
pub use body::pattern;
pub use builder::{BackendBuilder, backend};
pub use openai::INPUT_TOKENS;
pub use record::Seen;

use connection::{Protocols, Shared, accept};
use own_thread::OwnThread;

/// A backend that runs until it is stopped or dropped.
pub struct Backend {
    /// Where it listens, also after a restart.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Mutex<Option<OwnThread>>,
}

impl Backend {
    /// Its address as a gateway's configuration writes it: `http`, `https` or `h2c`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = match (&self.shared.tls, self.shared.protocols) {
            (Some(_), _) => "https",
            (None, Protocols::H2) => "h2c",
            (None, Protocols::H1 | Protocols::Both) => "http",
        };
        format!("{scheme}://{}", self.addr)
    }

    /// How many requests it saw.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.shared.ledger.calls()
    }

    /// The requests it saw, in the order of their heads.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.ledger.seen()
    }

    /// The latest request.
    ///
    /// # Panics
    /// If there was none.
    #[must_use]
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("the backend saw no request")
    }

    /// When it found a client gone before its answer had ended, in that order.
    #[must_use]
    pub fn aborted(&self) -> Vec<Instant> {
        self.shared.ledger.aborted()
    }

    /// How many connections it accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.ledger.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open; WebSockets are not among them.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.ledger.open_connections.load(Ordering::SeqCst)
    }

    /// How many TLS handshakes failed.
    #[must_use]
    pub fn failed_handshakes(&self) -> usize {
        self.shared.ledger.failed_handshakes.load(Ordering::SeqCst)
    }

    /// Forgets the requests it saw and counts from 0 again; connections go on counting.
    pub fn forget(&self) {
        self.shared.ledger.forget();
    }

    /// Treats requests from now on as `other` says. What `other` says of connections is ignored.
    pub fn becomes(&self, other: BackendBuilder) {
        *self.shared.script.write() = Arc::new(other.script);
    }

    /// Resets every open connection (RST); new ones are welcome.
    pub fn reset_connections(&self) {
        for control in self.shared.controls.lock().drain(..).filter_map(|weak| weak.upgrade()) {
            control.reset();
        }
    }

    /// Closes every open connection (FIN), whatever is under way; new ones are welcome.
    pub fn close_connections(&self) {
        for control in self.shared.controls.lock().drain(..).filter_map(|weak| weak.upgrade()) {
            control.close();
        }
    }

    /// Refuses connections and cuts those that are open. On return both have happened.
    pub fn stop(&self) {
        self.shared.ledger.stopping.store(true, Ordering::SeqCst);
        drop(self.thread.lock().take());
    }

    /// Serves again on the same port after [`Backend::stop`], remembering what it saw before.
    ///
    /// # Panics
    /// If it runs, or somebody else has taken the port for longer than a moment.
    pub fn restart(&self) {
        let mut thread = self.thread.lock();
        assert!(thread.is_none(), "stop the backend before it is restarted");
        self.shared.ledger.stopping.store(false, Ordering::SeqCst);
        *thread = Some(serve(listen(self.addr), &self.shared));
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("addr", &self.addr)
            .field("calls", &self.calls())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

fn serve(listener: TcpListener, shared: &Arc<Shared>) -> OwnThread {
    let shared = Arc::clone(shared);
    OwnThread::run("backend", move || accept(listener, shared))
}

/// Listens on `addr`. A port that was left a moment ago may still be an outgoing connection's, so
/// this asks for up to five seconds.
pub(crate) fn listen(addr: SocketAddr) -> TcpListener {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        match TcpListener::bind(addr) {
            Ok(listener) => {
                listener.set_nonblocking(true).unwrap();
                return listener;
            }
            Err(error) if Instant::now() > end => panic!("cannot listen on {addr}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn header_map(fields: &[(&str, &str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        })
        .collect()
}

#[cfg(test)]
mod tests;
