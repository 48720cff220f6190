//! An HTTP client that notes everything: when each chunk came, over which connection, and how a
//! body ended that did not end well.
//!
//! ```ignore
//! let client = Client::new(edge, authority.roots()).bearer(&key);
//! let answer = client.post("/v1/rank", "{}").header("x-user-id", "u1").within(millis(200)).await;
//! assert_eq!(answer.status, 200);
//! assert_eq!(answer.text(), "from control");
//! ```
//!
//! It never retries and never follows, so that what the other side did shows; the one exception is
//! a kept connection that closed before anything was written on it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{HeaderMap, Method};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

mod answer;
mod request;
mod upload;

pub use answer::{Answer, Failure, Streaming};
pub use request::{Request, together};
pub use upload::Uploader;

use crate::certificates::{Pair, client_config};
use answer::told;
use request::add;
use upload::{Outgoing, Upload};

/// How long anything may take that was given no other time: a test that hangs should say where.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client of one address. Clones share their connections; the methods that change how it
/// connects give a client with none.
#[derive(Clone, Debug)]
pub struct Client {
    settings: Settings,
    kept: Arc<Kept>,
}

#[derive(Clone, Debug)]
struct Settings {
    addr: SocketAddr,
    /// `None` is plain text.
    roots: Option<RootCertStore>,
    identity: Option<Pair>,
    server_name: String,
    speaks: Speaks,
    headers: HeaderMap,
    reuses: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    H1,
    H2,
    Either,
}

#[derive(Debug, Default)]
struct Kept {
    opened: AtomicUsize,
    idle_h1: Mutex<Vec<Connection>>,
    h2: tokio::sync::Mutex<Option<Connection>>,
}

impl Client {
    /// A client that speaks HTTP/1.1 over TLS to the name `localhost` and trusts `roots`.
    #[must_use]
    pub fn new(addr: SocketAddr, roots: RootCertStore) -> Self {
        Self::with(addr, Some(roots))
    }

    /// A client that speaks HTTP/1.1 without TLS.
    #[must_use]
    pub fn plain(addr: SocketAddr) -> Self {
        Self::with(addr, None)
    }

    fn with(addr: SocketAddr, roots: Option<RootCertStore>) -> Self {
        let settings = Settings {
            addr,
            roots,
            identity: None,
            server_name: "localhost".to_owned(),
            speaks: Speaks::H1,
            headers: HeaderMap::new(),
            reuses: true,
        };
        Self { settings, kept: Arc::default() }
    }

    /// Speaks HTTP/2, without TLS by prior knowledge. All requests share one connection.
    #[must_use]
    pub fn h2(self) -> Self {
        self.anew(|settings| settings.speaks = Speaks::H2)
    }

    /// Offers HTTP/2 and HTTP/1.1 and speaks what the server chooses. Needs TLS.
    #[must_use]
    pub fn h1_or_h2(self) -> Self {
        self.anew(|settings| settings.speaks = Speaks::Either)
    }

    /// Presents this certificate.
    #[must_use]
    pub fn identity(self, pair: &Pair) -> Self {
        self.anew(|settings| settings.identity = Some(pair.clone()))
    }

    /// Asks for and checks this name, in the handshake and as host.
    #[must_use]
    pub fn server_name(self, name: &str) -> Self {
        self.anew(|settings| name.clone_into(&mut settings.server_name))
    }

    /// Opens a connection for each request.
    #[must_use]
    pub fn always_new_connection(self) -> Self {
        self.anew(|settings| settings.reuses = false)
    }

    /// The same client with connections of its own.
    #[must_use]
    pub fn apart(&self) -> Self {
        self.clone().anew(|_| {})
    }

    /// Sends this field with every request.
    ///
    /// # Panics
    /// If it cannot be a field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        add(&mut self.settings.headers, name, value);
        self
    }

    /// Sends `Authorization: Bearer KEY` with every request.
    #[must_use]
    pub fn bearer(mut self, key: &str) -> Self {
        let value = HeaderValue::try_from(format!("Bearer {key}")).unwrap();
        self.settings.headers.insert(AUTHORIZATION, value);
        self
    }

    /// The address it connects to.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.settings.addr
    }

    /// How many connections it has opened.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.kept.opened.load(Ordering::SeqCst)
    }

    /// A GET, to be sent by `.await`.
    pub fn get(&self, path: &str) -> Request {
        self.request("GET", path, Bytes::new())
    }

    /// A POST, to be sent by `.await`; of JSON, if no `content-type` is given.
    pub fn post(&self, path: &str, body: impl Into<Bytes>) -> Request {
        self.request("POST", path, body)
    }

    /// Any request, to be sent by `.await`.
    ///
    /// # Panics
    /// If `method` cannot be one. A `path` that `http` does not parse is for
    /// [`RawClient`](crate::RawClient).
    pub fn request(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Request {
        Request {
            client: self.clone(),
            method: Method::try_from(method).unwrap(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            upload: Upload::Whole(body.into()),
            trailers: None,
            deadline: PATIENCE,
        }
    }

    fn anew(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self.kept = Arc::default();
        self
    }

    /// A connection that is free: a kept one, or a new one. Says whether it was kept.
    async fn connection(&self) -> Result<(Lease, bool), Failure> {
        if !self.settings.reuses {
            return Ok((self.lease(self.connect().await?), false));
        }
        // Time for the tasks of kept connections to notice what has come meanwhile, an end above
        // all: the first turn polls the sockets, the next ones run the tasks.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        while let Some(mut kept) = self.take_idle() {
            if kept.sender.is_ready().await {
                return Ok((self.lease(kept), true));
            }
        }
        if self.settings.speaks == Speaks::H1 {
            return Ok((self.lease(self.connect().await?), false));
        }
        // Held while connecting, so that requests at the same time wait for one connection.
        let mut h2 = self.kept.h2.lock().await;
        if let Some(shared) = &mut *h2
            && shared.sender.is_ready().await
        {
            let shared = shared.share();
            return Ok((self.lease(shared), true));
        }
        let connection = self.connect().await?;
        if connection.is_h2() {
            *h2 = Some(connection.share());
        }
        Ok((self.lease(connection), false))
    }

    fn take_idle(&self) -> Option<Connection> {
        self.kept.idle_h1.lock().pop()
    }

    fn lease(&self, connection: Connection) -> Lease {
        let keeps = self.settings.reuses.then(|| Arc::clone(&self.kept));
        Lease { connection: Some(connection), keeps }
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let settings = &self.settings;
        let number = self.kept.opened.fetch_add(1, Ordering::SeqCst);
        let tcp = TcpStream::connect(settings.addr).await.map_err(Failure::Connect)?;
        tcp.set_nodelay(true).map_err(Failure::Connect)?;
        let Some(roots) = &settings.roots else {
            return handshake(tcp, settings.speaks == Speaks::H2, number).await;
        };
        let offers: &[&str] = match settings.speaks {
            Speaks::H1 => &["http/1.1"],
            Speaks::H2 => &["h2"],
            Speaks::Either => &["h2", "http/1.1"],
        };
        let config = client_config(roots, settings.identity.as_ref(), offers);
        let name = ServerName::try_from(settings.server_name.clone()).unwrap();
        let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(Failure::Tls)?;
        let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        if settings.speaks == Speaks::H2 && !h2 {
            return Err(Failure::Tls(io::Error::other("the server did not choose h2")));
        }
        handshake(tls, h2, number).await
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    h2: bool,
    number: usize,
) -> Result<Connection, Failure> {
    let stream = TokioIo::new(stream);
    if h2 {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .handshake(stream)
            .await
            .map_err(|error| Failure::Broken(told(&error)))?;
        let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Connection { sender: Sender::H2(sender), task, number })
    } else {
        let (sender, connection) =
            http1::handshake(stream).await.map_err(|error| Failure::Broken(told(&error)))?;
        let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Connection { sender: Sender::H1(sender), task, number })
    }
}

#[derive(Debug)]
struct Connection {
    sender: Sender,
    /// The task that moves the bytes.
    task: AbortHandle,
    number: usize,
}

#[derive(Debug)]
enum Sender {
    H1(http1::SendRequest<Outgoing>),
    H2(http2::SendRequest<Outgoing>),
}

impl Sender {
    /// Waits until a request may be sent; `false` if never again.
    async fn is_ready(&mut self) -> bool {
        match self {
            Self::H1(sender) => sender.ready().await.is_ok(),
            Self::H2(sender) => sender.ready().await.is_ok(),
        }
    }
}

impl Connection {
    fn is_h2(&self) -> bool {
        matches!(self.sender, Sender::H2(_))
    }

    /// Another handle of an HTTP/2 connection.
    fn share(&self) -> Self {
        match &self.sender {
            Sender::H1(_) => unreachable!("only HTTP/2 connections are shared"),
            Sender::H2(sender) => Self {
                sender: Sender::H2(sender.clone()),
                task: self.task.clone(),
                number: self.number,
            },
        }
    }
}

/// A connection in use. Dropped before the answer has ended, an HTTP/1.1 connection closes at once,
/// as that of a client that goes away; an HTTP/2 stream is reset by dropping its parts.
#[derive(Debug)]
struct Lease {
    connection: Option<Connection>,
    keeps: Option<Arc<Kept>>,
}

impl Lease {
    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("a lease has its connection until it is given back")
    }

    fn give_back(mut self) {
        let Some(connection) = self.connection.take() else { return };
        match &self.keeps {
            Some(kept) if !connection.is_h2() => kept.idle_h1.lock().push(connection),
            _ => {}
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection
            && !connection.is_h2()
        {
            connection.task.abort();
        }
    }
}

#[cfg(test)]
mod tests;
