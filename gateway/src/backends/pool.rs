//! Connections to backends, of one worker.
//!
//! A request takes an idle HTTP/1.1 connection or a place on an HTTP/2 connection; if there is none
//! it makes one. Nothing here is shared between threads, so nothing locks.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http2;

use super::connect::{self, ConnectError, Connected};
use super::h1::{H1, OpenConnection};
use super::{Backend, Endpoint};
use crate::body::Outgoing;
use crate::config::plan::Scheme;

/// Idle HTTP/1.1 connections kept per endpoint.
const MOST_IDLE: usize = 256;

/// A place for one request.
pub enum Lease {
    /// A whole connection.
    H1(Box<H1>),
    /// A stream of a shared connection.
    H2(H2Stream),
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::H1(h1) => h1.fmt(f),
            Self::H2(_) => f.write_str("H2"),
        }
    }
}

/// An HTTP/2 connection, shared by the requests of this worker.
pub struct H2 {
    send: http2::SendRequest<Outgoing>,
    streams: Cell<usize>,
    // What the backend allows at this moment, as its connection task last saw it.
    most_streams: Rc<Cell<usize>>,
    idle_since: Cell<Instant>,
    idle_timeout: Duration,
    task: tokio::task::AbortHandle,
}

impl Drop for H2 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for H2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H2").field("streams", &self.streams).finish_non_exhaustive()
    }
}

/// One stream; gives its place back when dropped.
#[derive(Debug)]
pub struct H2Stream {
    connection: Rc<H2>,
    /// Whether the connection served before.
    pub reused: bool,
}

impl H2Stream {
    /// A sender for this stream.
    pub fn sender(&self) -> http2::SendRequest<Outgoing> {
        self.connection.send.clone()
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        self.connection.streams.set(self.connection.streams.get() - 1);
        self.connection.idle_since.set(crate::clock::now());
    }
}

/// Ids of endpoints are counted up here: nobody can choose them to collide.
#[derive(Default)]
struct ById(u64);

impl Hasher for ById {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u64(&mut self, id: u64) {
        // Golden ratio: neighbours lie far apart.
        self.0 = (self.0 ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// All connections of one worker.
#[derive(Default)]
pub struct Pool {
    #[expect(clippy::vec_box, reason = "a connection moves between request and pool as a pointer")]
    idle: RefCell<HashMap<u64, Vec<Box<H1>>, BuildHasherDefault<ById>>>,
    h2: RefCell<HashMap<u64, Vec<Rc<H2>>>>,
    // One connect at a time to an endpoint that speaks HTTP/2, so that a burst shares it.
    connecting: RefCell<HashMap<u64, Rc<tokio::sync::Semaphore>>>,
    // Endpoints that chose HTTP/1.1 by ALPN.
    only_h1: RefCell<std::collections::HashSet<u64>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pool")
    }
}

impl Pool {
    /// An existing place on a connection to `endpoint`.
    pub fn existing(&self, endpoint: &Endpoint) -> Option<Lease> {
        if endpoint.scheme != Scheme::Http
            && let Some(stream) = self.h2_place(endpoint.id, true)
        {
            return Some(Lease::H2(stream));
        }
        loop {
            // Last in, first out: the busiest connections stay warm, the others time out.
            let mut h1 = self.idle.borrow_mut().get_mut(&endpoint.id)?.pop()?;
            if h1.is_fresh() {
                return Some(Lease::H1(h1));
            }
        }
    }

    fn h2_place(&self, endpoint: u64, reused: bool) -> Option<H2Stream> {
        let mut h2 = self.h2.borrow_mut();
        let connections = h2.get_mut(&endpoint)?;
        connections.retain(|c| !c.send.is_closed());
        let connection = connections
            .iter()
            .filter(|c| c.streams.get() < c.most_streams.get())
            .min_by_key(|c| c.streams.get())?;
        connection.streams.set(connection.streams.get() + 1);
        Some(H2Stream { connection: Rc::clone(connection), reused })
    }

    /// A place on a new connection (or on one that somebody else just made).
    ///
    /// # Errors
    /// When the endpoint cannot be reached within `timeout`.
    pub async fn connect(
        &self,
        backend: &Arc<Backend>,
        endpoint: &Arc<Endpoint>,
        timeout: Duration,
        limits: policies::framing::HeadLimits,
        worker: usize,
    ) -> Result<Lease, ConnectError> {
        if endpoint.scheme == Scheme::Http || self.only_h1.borrow().contains(&endpoint.id) {
            return self.connect_now(backend, endpoint, timeout, limits, worker).await;
        }
        let deadline = tokio::time::Instant::now() + timeout;
        let gate = Rc::clone(
            self.connecting
                .borrow_mut()
                .entry(endpoint.id)
                .or_insert_with(|| Rc::new(tokio::sync::Semaphore::new(1))),
        );
        let turn = tokio::time::timeout_at(deadline, gate.acquire())
            .await
            .map_err(|_| ConnectError::TimedOut)?;
        if let Some(stream) = self.h2_place(endpoint.id, false) {
            return Ok(Lease::H2(stream));
        }
        if self.only_h1.borrow().contains(&endpoint.id) {
            // The first one found out that nothing can be shared: no need to wait for each other.
            drop(turn);
        }
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        self.connect_now(backend, endpoint, left, limits, worker).await
    }

    async fn connect_now(
        &self,
        backend: &Arc<Backend>,
        endpoint: &Arc<Endpoint>,
        timeout: Duration,
        limits: policies::framing::HeadLimits,
        worker: usize,
    ) -> Result<Lease, ConnectError> {
        let open = OpenConnection::new(backend, worker);
        let began = crate::clock::now();
        let connected = tokio::time::timeout(timeout, connect::connect(endpoint))
            .await
            .map_err(|_| ConnectError::TimedOut)??;
        backend.life.counts[worker].connect.add(began.elapsed());
        match connected {
            Connected::H1(stream) => {
                if endpoint.scheme == Scheme::Https {
                    self.only_h1.borrow_mut().insert(endpoint.id);
                }
                Ok(Lease::H1(H1::new(stream, limits, Arc::clone(endpoint), open)))
            }
            Connected::H2(io) => {
                let (send, connection) =
                    connect::h2_builder().handshake(io).await.map_err(ConnectError::Protocol)?;
                let most_streams = Rc::new(Cell::new(connection.current_max_send_streams()));
                let seen = Rc::clone(&most_streams);
                let task = tokio::task::spawn_local(async move {
                    let _open = open;
                    let mut connection = std::pin::pin!(connection);
                    // Its end is seen by the streams on it.
                    let _ = std::future::poll_fn(|cx| {
                        let poll = connection.as_mut().poll(cx);
                        seen.set(connection.current_max_send_streams().max(1));
                        poll
                    })
                    .await;
                })
                .abort_handle();
                let shared = Rc::new(H2 {
                    send,
                    streams: Cell::new(1),
                    most_streams,
                    idle_since: Cell::new(crate::clock::now()),
                    idle_timeout: backend.idle_timeout.max(Duration::from_secs(60)),
                    task,
                });
                self.h2.borrow_mut().entry(endpoint.id).or_default().push(Rc::clone(&shared));
                Ok(Lease::H2(H2Stream { connection: shared, reused: false }))
            }
        }
    }

    /// Keeps an HTTP/1.1 connection for the next request.
    pub fn keep(&self, h1: Box<H1>) {
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(h1.endpoint.id).or_default();
        if list.len() < MOST_IDLE {
            list.push(h1);
        }
    }

    /// Closes connections that were unused for `idle_timeout` of their backend, or that the backend
    /// closed. Called about once a second.
    pub fn sweep(&self, now: Instant, idle_timeout: impl Fn(&Endpoint) -> Option<Duration>) {
        self.idle.borrow_mut().retain(|_, list| {
            list.retain_mut(|h1| {
                let limit = idle_timeout(&h1.endpoint).unwrap_or_default();
                now.saturating_duration_since(h1.idle_since) < limit && h1.is_fresh()
            });
            !list.is_empty()
        });
        self.h2.borrow_mut().retain(|_, list| {
            list.retain(|h2| {
                !h2.send.is_closed()
                    && (h2.streams.get() > 0
                        || now.saturating_duration_since(h2.idle_since.get()) < h2.idle_timeout)
            });
            !list.is_empty()
        });
        self.connecting.borrow_mut().retain(|_, gate| Rc::strong_count(gate) > 1);
    }
}
