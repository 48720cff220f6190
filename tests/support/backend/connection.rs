//! Accepting connections and serving them until they end, idle too long or are cut.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::answer::answer;
use super::record::{Ledger, Peer};
use super::script::Script;
use super::wire::{Control, Stream, Watched, Wire};

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocols {
    H1,
    H2,
    /// What the client chooses: by ALPN, and without TLS by its first bytes.
    Both,
}

impl Protocols {
    pub(crate) fn alpn(self) -> &'static [&'static str] {
        match self {
            Self::H1 => &["http/1.1"],
            Self::H2 => &["h2"],
            Self::Both => &["h2", "http/1.1"],
        }
    }
}

/// What all connections of a backend share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) script: RwLock<Arc<Script>>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) protocols: Protocols,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) close_idle_after: Option<Duration>,
    /// Those that are open, to cut them.
    pub(crate) controls: Mutex<Vec<Weak<Control>>>,
}

/// Accepts until it is dropped.
pub(crate) async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((tcp, _)) = listener.accept().await else { continue };
        let number = shared.ledger.connections.fetch_add(1, Ordering::SeqCst);
        shared.ledger.open_connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let _open = Open(Arc::clone(&shared.ledger));
            serve(tcp, number, shared).await;
        });
    }
}

/// Counts an open connection for as long as it lives.
struct Open(Arc<Ledger>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open_connections.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(tcp: TcpStream, connection: usize, shared: Arc<Shared>) {
    let _ = tcp.set_nodelay(true);
    let control = Arc::new(Control::default());
    {
        let mut controls = shared.controls.lock();
        controls.retain(|control| control.strong_count() > 0);
        controls.push(Arc::downgrade(&control));
    }

    let (busy, busyness) = watch::channel(0);
    let mut peer = Peer { connection, certificate: None, server_name: None, busy };
    let mut h2 = shared.protocols == Protocols::H2;
    if shared.protocols == Protocols::Both && shared.tls.is_none() {
        let mut first = [0; 3];
        h2 = matches!(tcp.peek(&mut first).await, Ok(3)) && first == *b"PRI";
    }
    let wire = Wire { tcp, control: Arc::clone(&control) };
    let stream: Box<dyn Stream> = match &shared.tls {
        None => Box::new(wire),
        Some(config) => {
            let Ok(stream) = TlsAcceptor::from(Arc::clone(config)).accept(wire).await else {
                shared.ledger.failed_handshakes.fetch_add(1, Ordering::SeqCst);
                return;
            };
            let (_, session) = stream.get_ref();
            peer.server_name = session.server_name().map(str::to_owned);
            peer.certificate =
                session.peer_certificates().and_then(|chain| chain.first()).map(|der| der.to_vec());
            h2 = match (shared.protocols, session.alpn_protocol()) {
                (Protocols::Both, protocol) => protocol == Some(b"h2"),
                (only, _) => only == Protocols::H2,
            };
            Box::new(stream)
        }
    };
    let stream = TokioIo::new(Watched { stream, control: Arc::clone(&control) });

    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let script = shared.script.read().choose(request.uri().path());
        let ledger = Arc::clone(&shared.ledger);
        answer(script, request, ledger, Arc::clone(&control), peer.clone())
    });
    let serving = async {
        // How it ended is told by the requests on it.
        let _ = if h2 {
            http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
        } else {
            http1::Builder::new().serve_connection(stream, service).with_upgrades().await
        };
    };
    let idle = idle_for(shared.close_idle_after, busyness);
    tokio::select! {
        () = serving => {}
        () = control.cut.notified() => {}
        () = idle => {}
    }
}

/// Resolves when no request has been in progress for `limit`; never without a limit.
async fn idle_for(limit: Option<Duration>, mut busyness: watch::Receiver<usize>) {
    let Some(limit) = limit else { return std::future::pending().await };
    loop {
        if busyness.wait_for(|busy| *busy == 0).await.is_err() {
            return std::future::pending().await;
        }
        if tokio::time::timeout(limit, busyness.changed()).await.is_err() {
            return;
        }
    }
}
