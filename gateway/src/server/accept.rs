//! Accepting connections, on every worker.
//!
//! Each worker has a socket of its own on the same port, so the kernel spreads connections. That
//! spreads numbers, not load: long HTTP/2 connections can pile up on one core. So a worker that
//! accepts hands the socket to another one, picked at random, if that one has clearly fewer.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pingora_limits::inflight::{Guard, Inflight};
use rustls::ServerConfig;
use socket2::{Domain, Protocol as Ip, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio_rustls::TlsAcceptor;

use crate::clock;
use crate::recorder::row::Protocol;
use crate::server::conn::Conn;
use crate::server::socket::{ClientSocket, ClientStream};
use crate::server::{h1, h2, tls};
use crate::telemetry::counters::{Closed, bump, lower, protocol_index};
use crate::worker::Worker;

/// Connections more than another worker has before one is handed over.
const MARGIN: usize = 2;

/// The first socket on `address`. Whoever else has it must not share it: the kernel would give each of two
/// processes a part of the connections, and nobody would notice.
///
/// # Errors
/// When the address cannot be bound, or is in use.
pub fn bind_first(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    if address.port() != 0 {
        drop(socket(address, false)?);
    }
    bind(address)
}

/// A socket on `address` that several workers may open.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    socket(address, true)
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Ip::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // `[::]` serves IPv4 too.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    if shared {
        socket.listen(4096)?;
    }
    Ok(socket.into())
}

/// What accepting needs, besides the worker.
pub struct Acceptor {
    /// TLS.
    pub tls: Arc<ServerConfig>,
    /// Where each worker takes handed sockets.
    pub hand_over: Arc<[UnboundedSender<(std::net::TcpStream, SocketAddr)>]>,
    /// Connections per address, over all workers: a sketch of fixed size, which can only over-count.
    pub per_address: Arc<Inflight>,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

/// Accepts until the worker is told to close.
pub async fn accept(
    worker: Rc<Worker>,
    acceptor: Rc<Acceptor>,
    listener: TcpListener,
    mut handed: UnboundedReceiver<(std::net::TcpStream, SocketAddr)>,
    mut closing: tokio::sync::watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => take_or_hand(&worker, &acceptor, socket, peer),
                Err(error) => {
                    // Out of descriptors, mostly: the queue waits while others end (F26).
                    crate::telemetry::events::accept_failed(&error);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some((socket, peer)) = handed.recv() => {
                if let Ok(socket) = TcpStream::from_std(socket) {
                    serve(&worker, &acceptor, socket, peer);
                }
            }
            _ = closing.wait_for(|closing| *closing) => return,
        }
    }
}

fn take_or_hand(worker: &Rc<Worker>, acceptor: &Rc<Acceptor>, socket: TcpStream, peer: SocketAddr) {
    let open = &worker.shared.open;
    let other = if open.len() > 1 {
        // Two choices are enough to keep all workers within a few connections of each other.
        (worker.id + 1 + fastrand::usize(..open.len() - 1)) % open.len()
    } else {
        worker.id
    };
    if open[other].load(Relaxed) + MARGIN >= open[worker.id].load(Relaxed) {
        open[worker.id].fetch_add(1, Relaxed);
        serve(worker, acceptor, socket, peer);
        return;
    }
    let Ok(socket) = socket.into_std() else { return };
    // Counted at once, so that a burst does not all go the same way.
    open[other].fetch_add(1, Relaxed);
    if acceptor.hand_over[other].send((socket, peer)).is_err() {
        open[other].fetch_sub(1, Relaxed);
    }
}

/// Counts an open connection until it is dropped.
struct Open(Rc<Worker>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.shared.open[self.0.id].fetch_sub(1, Relaxed);
        self.0.shared.in_use.connections.fetch_sub(1, Relaxed);
    }
}

/// Counts a handshake in progress until it is dropped.
struct Handshake(Rc<Worker>);

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.shared.in_use.handshakes.fetch_sub(1, Relaxed);
    }
}

/// Serves a socket that is counted as this worker's already.
fn serve(worker: &Rc<Worker>, acceptor: &Rc<Acceptor>, socket: TcpStream, peer: SocketAddr) {
    let in_use = &worker.shared.in_use;
    let connections = in_use.connections.fetch_add(1, Relaxed);
    let open = Open(Rc::clone(worker));
    let counters = worker.counters();
    let limits = &worker.snapshot().limits;
    let refused = || bump(&counters.closed[Closed::Refused as usize], 1);
    if connections >= limits.connections {
        refused();
        return;
    }
    let (place, from_here) = acceptor.per_address.incr(peer.ip(), 1);
    if usize::try_from(from_here).unwrap_or(0) > limits.connections_per_address {
        refused();
        return;
    }
    let handshakes = in_use.handshakes.fetch_add(1, Relaxed);
    let handshake = Handshake(Rc::clone(worker));
    if handshakes >= limits.handshakes {
        refused();
        return;
    }
    let handshake_timeout = limits.handshake_timeout;
    let worker = Rc::clone(worker);
    let acceptor = Rc::clone(acceptor);
    tokio::task::spawn_local(async move {
        let _open = open;
        connection(worker, &acceptor, socket, peer, place, handshake, handshake_timeout).await;
    });
}

/// A connection in the worker's list and gauges, taken out also when a panic ends its task.
struct Listed<'a> {
    worker: &'a Worker,
    slot: usize,
    index: usize,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.worker.conns.borrow_mut().remove(self.slot);
        lower(&self.worker.counters().open[self.index], 1);
    }
}

async fn connection(
    worker: Rc<Worker>,
    acceptor: &Acceptor,
    socket: TcpStream,
    peer: SocketAddr,
    _place: Guard,
    handshaking: Handshake,
    handshake_timeout: Duration,
) {
    let counters = worker.counters();
    let _ = socket.set_nodelay(true);
    let Ok(local) = socket.local_addr() else { return };
    let began = clock::now();
    // Boxed, here and below: what a connection needs only for a while must not stay part of its task
    // while it is idle.
    let handshake =
        Box::pin(TlsAcceptor::from(Arc::clone(&acceptor.tls)).accept(ClientSocket(socket)));
    let stream = tokio::time::timeout(handshake_timeout, handshake).await;
    drop(handshaking);
    let stream = match stream {
        Ok(Ok(stream)) => ClientStream::new(stream),
        Ok(Err(_)) => {
            bump(&counters.handshakes_failed, 1);
            bump(&counters.closed[Closed::Handshake as usize], 1);
            return;
        }
        Err(_) => {
            bump(&counters.handshakes_timed_out, 1);
            bump(&counters.closed[Closed::Handshake as usize], 1);
            return;
        }
    };
    let (version, cipher) = tls::described(stream.session());
    bump(&counters.handshakes_ok[usize::from(version == "1.3")], 1);
    counters.handshakes.add(began.elapsed());
    let protocol = match stream.session().alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http11,
    };
    let index = protocol_index(protocol);
    bump(&counters.connections[index], 1);
    bump(&counters.open[index], 1);
    let conn = Conn::new(peer, local, protocol, version, cipher);
    let slot = worker.conns.borrow_mut().insert(Rc::clone(&conn));
    let _listed = Listed { worker: &worker, slot, index };
    let why = match protocol {
        Protocol::Http2 => Box::pin(h2::serve(&worker, &conn, stream)).await,
        Protocol::Http10 | Protocol::Http11 => Box::pin(h1::serve(&worker, &conn, stream)).await,
    };
    bump(&counters.closed[why as usize], 1);
}
