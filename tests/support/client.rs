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

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, TE,
};
use http::{HeaderMap, Method, Response, StatusCode, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsConnector;

use crate::certificates::{Pair, client_config};

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

/// A request that has not been sent. `.await` sends it and reads the whole answer.
#[must_use = "nothing is sent before `.await`"]
#[derive(Debug)]
pub struct Request {
    client: Client,
    method: Method,
    path: String,
    headers: HeaderMap,
    upload: Upload,
    trailers: Option<HeaderMap>,
    deadline: Duration,
}

#[derive(Debug)]
enum Upload {
    Whole(Bytes),
    Pieces(Vec<Bytes>, Duration),
    Channel(mpsc::Receiver<io::Result<Frame<Bytes>>>),
}

impl Request {
    /// Adds a field.
    ///
    /// # Panics
    /// If it cannot be a field.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        add(&mut self.headers, name, value);
        self
    }

    /// Says that trailers are welcome (`te: trailers`); HTTP/1.1 servers send none otherwise.
    pub fn welcomes_trailers(mut self) -> Self {
        self.headers.insert(TE, HeaderValue::from_static("trailers"));
        self
    }

    /// Ends the body with these fields.
    ///
    /// # Panics
    /// If they cannot be fields.
    pub fn trailers(mut self, fields: &[(&str, &str)]) -> Self {
        let trailers = self.trailers.get_or_insert_default();
        for (name, value) in fields {
            add(trailers, name, value);
        }
        self
    }

    /// Sends the body in these pieces, the first at once and the others each after `gap`. Its
    /// length is not declared, unless as a field.
    pub fn in_pieces<P: Into<Bytes>>(
        mut self,
        pieces: impl IntoIterator<Item = P>,
        gap: Duration,
    ) -> Self {
        self.upload = Upload::Pieces(pieces.into_iter().map(Into::into).collect(), gap);
        self
    }

    /// Sends the body as the test writes it.
    pub fn uploading(mut self) -> (Self, Uploader) {
        let (sender, receiver) = mpsc::channel(1);
        self.upload = Upload::Channel(receiver);
        (self, Uploader { sender })
    }

    /// Declares this length, true or not.
    pub fn declaring_length(mut self, length: u64) -> Self {
        self.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        self
    }

    /// How long it may take to the end of the answer (with [`Request::open`], to its head).
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sends it and reads the whole answer. An answer whose body breaks off is still an answer, with
    /// [`Answer::error`] set.
    ///
    /// # Errors
    /// There was no answer, or not all of it came in time.
    pub async fn attempt(self) -> Result<Answer, Failure> {
        let deadline = self.deadline;
        let whole = async { Ok(self.open().await?.rest().await) };
        tokio::time::timeout(deadline, whole).await.unwrap_or(Err(Failure::Late(deadline)))
    }

    /// Sends it and waits for the head of the answer only.
    ///
    /// # Errors
    /// There was none, or not in time.
    pub async fn open(self) -> Result<Streaming, Failure> {
        let deadline = self.deadline;
        tokio::time::timeout(deadline, self.send()).await.unwrap_or(Err(Failure::Late(deadline)))
    }

    async fn send(self) -> Result<Streaming, Failure> {
        let (mut lease, mut was_kept) = self.client.connection().await?;
        let Self { client, method, path, headers, upload, trailers, .. } = self;
        let informational: Arc<Mutex<Vec<(StatusCode, HeaderMap)>>> = Arc::default();
        let mut outgoing =
            head(&client.settings, method, &path, headers, lease.connection().is_h2());
        if let Some(trailers) = &trailers {
            let names: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
            let names = HeaderValue::try_from(names.join(", ")).unwrap();
            outgoing.headers_mut().insert("trailer", names);
        }
        let noted = Arc::clone(&informational);
        hyper::ext::on_informational(&mut outgoing, move |response| {
            noted.lock().push((response.status(), response.headers().clone()));
        });
        let mut outgoing = outgoing.map(|()| Outgoing::new(upload, trailers));

        loop {
            let started = Instant::now();
            let connection = lease.connection();
            let number = connection.number;
            let sent = match &mut connection.sender {
                Sender::H1(sender) => sender.try_send_request(outgoing).await,
                Sender::H2(sender) => sender.try_send_request(outgoing).await,
            };
            match sent {
                Ok(response) => {
                    return Ok(Streaming::new(response, started, number, lease, &informational));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if was_kept => {
                        let h2 = lease.connection().is_h2();
                        lease = client.lease(client.connect().await?);
                        assert_eq!(h2, lease.connection().is_h2(), "the server changed its mind");
                        (outgoing, was_kept) = (unsent, false);
                    }
                    _ => return Err(Failure::Broken(told(error.error()))),
                },
            }
        }
    }
}

impl IntoFuture for Request {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    /// Panics if there is no answer; [`Request::attempt`] tells why instead.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let what = format!("{} {}", self.method, self.path);
            self.attempt().await.unwrap_or_else(|failure| panic!("{what}: {failure}"))
        })
    }
}

/// Sends all of these at the same time, and gives the answers in their order.
///
/// # Panics
/// If one of them panics.
pub async fn together(requests: impl IntoIterator<Item = Request>) -> Vec<Result<Answer, Failure>> {
    let mut running = JoinSet::new();
    for (index, request) in requests.into_iter().enumerate() {
        running.spawn(async move { (index, request.attempt().await) });
    }
    let mut answers = running.join_all().await;
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

fn head(
    settings: &Settings,
    method: Method,
    path: &str,
    headers: HeaderMap,
    h2: bool,
) -> http::Request<()> {
    let authority = format!("{}:{}", settings.server_name, settings.addr.port());
    let mut request = http::Request::new(());
    *request.uri_mut() = if h2 {
        let scheme = if settings.roots.is_some() { "https" } else { "http" };
        Uri::try_from(format!("{scheme}://{authority}{path}")).unwrap()
    } else {
        request.headers_mut().insert(HOST, HeaderValue::try_from(&authority).unwrap());
        Uri::try_from(path).unwrap()
    };
    if method == Method::POST {
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
    }
    *request.method_mut() = method;
    for fields in [&settings.headers, &headers] {
        // A field that is given replaces one that is not said, or said for all requests.
        for name in fields.keys() {
            request.headers_mut().remove(name);
        }
        for (name, value) in fields {
            request.headers_mut().append(name, value.clone());
        }
    }
    request
}

fn add(headers: &mut HeaderMap, name: &str, value: &str) {
    headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
}

/// The test's end of a body that it writes itself.
#[derive(Debug)]
pub struct Uploader {
    sender: mpsc::Sender<io::Result<Frame<Bytes>>>,
}

impl Uploader {
    /// Sends a piece once the one before has been taken; `false` if nobody takes it any more.
    pub async fn send(&self, piece: impl Into<Bytes>) -> bool {
        self.sender.send(Ok(Frame::data(piece.into()))).await.is_ok()
    }

    /// Ends the body.
    pub fn finish(self) {}

    /// Ends the body with these fields. Over HTTP/1.1 they must be announced by
    /// `.header("trailer", …)`.
    pub async fn finish_with(self, fields: &[(&str, &str)]) {
        let mut trailers = HeaderMap::new();
        for (name, value) in fields {
            add(&mut trailers, name, value);
        }
        let _ = self.sender.send(Ok(Frame::trailers(trailers))).await;
    }

    /// Breaks the body off.
    pub async fn abort(self) {
        let _ = self.sender.send(Err(io::Error::other("the test aborts its upload"))).await;
    }
}

/// The body of a request on its way.
#[derive(Debug)]
struct Outgoing {
    left: VecDeque<Frame<Bytes>>,
    coming: Option<mpsc::Receiver<io::Result<Frame<Bytes>>>>,
    trailers: Option<HeaderMap>,
}

impl Outgoing {
    fn new(upload: Upload, trailers: Option<HeaderMap>) -> Self {
        match upload {
            Upload::Whole(bytes) => {
                let left = if bytes.is_empty() { None } else { Some(Frame::data(bytes)) };
                Self { left: left.into_iter().collect(), coming: None, trailers }
            }
            Upload::Channel(receiver) => {
                Self { left: VecDeque::new(), coming: Some(receiver), trailers }
            }
            Upload::Pieces(pieces, gap) => {
                let (sender, receiver) = mpsc::channel(1);
                tokio::spawn(async move {
                    for (index, piece) in pieces.into_iter().enumerate() {
                        if index > 0 && !gap.is_zero() {
                            tokio::time::sleep(gap).await;
                        }
                        if sender.send(Ok(Frame::data(piece))).await.is_err() {
                            return;
                        }
                    }
                });
                Self { left: VecDeque::new(), coming: Some(receiver), trailers }
            }
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(frame) = self.left.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(coming) = &mut self.coming {
            match std::task::ready!(coming.poll_recv(context)) {
                Some(frame) => return Poll::Ready(Some(frame)),
                None => self.coming = None,
            }
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.coming.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.coming.is_some() || self.trailers.is_some() {
            return SizeHint::default();
        }
        let lengths = self.left.iter().filter_map(|frame| frame.data_ref().map(Bytes::len));
        SizeHint::with_exact(lengths.sum::<usize>() as u64)
    }
}

/// Why there was no answer.
#[derive(Debug)]
pub enum Failure {
    /// Nobody accepted the connection.
    Connect(io::Error),
    /// The handshake failed.
    Tls(io::Error),
    /// The connection or the stream broke before the head of the answer came.
    Broken(String),
    /// It took longer than this.
    Late(Duration),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "could not connect: {error}"),
            Self::Tls(error) => write!(f, "the TLS handshake failed: {error}"),
            Self::Broken(reason) => write!(f, "broken off before an answer: {reason}"),
            Self::Late(deadline) => write!(f, "no answer within {deadline:?}"),
        }
    }
}

impl std::error::Error for Failure {}

/// A whole answer, or as much of it as came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status; it compares with numbers.
    pub status: StatusCode,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// The fields of its head.
    pub headers: HeaderMap,
    /// The answers of status 1xx that came before it.
    pub informational: Vec<(StatusCode, HeaderMap)>,
    /// The body.
    pub body: Bytes,
    /// The pieces in which it was read, each with the time since the request was handed to the
    /// connection. Pieces that come close together may be read as one.
    pub chunks: Vec<(Duration, Bytes)>,
    /// The fields after the body.
    pub trailers: Option<HeaderMap>,
    /// From handing the request to the connection until the head of the answer.
    pub first_byte: Duration,
    /// The same until the end of the body.
    pub total: Duration,
    /// How the body broke off; `None` if it came to its end.
    pub error: Option<String>,
    /// The connection it came over, counted from 0 in its client.
    pub connection: usize,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{}, not JSON ({error}): {}", self.status, self.text()))
    }

    /// The value of the field `name`, the first if there are several, or `None` if it is not text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The value of the trailer `name`.
    #[must_use]
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.as_ref()?.get(name)?.to_str().ok()
    }

    /// The body as server-sent events: the name (empty if there is none) and the data of each.
    #[must_use]
    pub fn events(&self) -> Vec<(String, String)> {
        let text = self.text().replace("\r\n", "\n");
        text.split("\n\n").filter(|event| !event.trim().is_empty()).map(event).collect()
    }
}

fn event(text: &str) -> (String, String) {
    let values = |wanted: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let values = lines.filter(|(name, _)| *name == wanted);
        values.map(|(_, value)| value.strip_prefix(' ').unwrap_or(value)).collect::<Vec<_>>()
    };
    (values("event").concat(), values("data").join("\n"))
}

/// An answer whose head has come. Dropped, it is given up as a client does that goes away.
#[derive(Debug)]
pub struct Streaming {
    /// What has come so far; `body` is filled by [`Streaming::rest`].
    pub answer: Answer,
    started: Instant,
    incoming: Option<Incoming>,
    lease: Option<Lease>,
}

impl Streaming {
    fn new(
        response: Response<Incoming>,
        started: Instant,
        connection: usize,
        lease: Lease,
        informational: &Mutex<Vec<(StatusCode, HeaderMap)>>,
    ) -> Self {
        let first_byte = started.elapsed();
        let (head, incoming) = response.into_parts();
        let answer = Answer {
            status: head.status,
            version: head.version,
            headers: head.headers,
            informational: std::mem::take(&mut *informational.lock()),
            body: Bytes::new(),
            chunks: Vec::new(),
            trailers: None,
            first_byte,
            total: first_byte,
            error: None,
            connection,
        };
        Self { answer, started, incoming: Some(incoming), lease: Some(lease) }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.answer.status
    }

    /// The value of the field `name`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.header(name)
    }

    /// The next piece of the body; `None` at its end, be that a good one or, as
    /// [`Answer::error`] then says, a bad one.
    pub async fn chunk(&mut self) -> Option<Bytes> {
        while let Some(incoming) = &mut self.incoming {
            let frame = incoming.frame().await;
            let now = self.started.elapsed();
            self.answer.total = now;
            match frame.map(|frame| frame.map(Frame::into_data)) {
                // HTTP/2 may end a stream with a frame that carries nothing.
                Some(Ok(Ok(piece))) if piece.is_empty() => {}
                Some(Ok(Ok(piece))) => {
                    self.answer.chunks.push((now, piece.clone()));
                    return Some(piece);
                }
                Some(Ok(Err(frame))) => self.answer.trailers = frame.into_trailers().ok(),
                Some(Err(error)) => {
                    self.answer.error = Some(told(&error));
                    (self.incoming, self.lease) = (None, None);
                }
                None => {
                    self.incoming = None;
                    if let Some(lease) = self.lease.take() {
                        lease.give_back();
                    }
                }
            }
        }
        None
    }

    /// The next piece, if it comes within this time.
    ///
    /// # Errors
    /// Neither a piece nor the end came.
    pub async fn chunk_within(&mut self, time: Duration) -> Result<Option<Bytes>, Failure> {
        tokio::time::timeout(time, self.chunk()).await.map_err(|_| Failure::Late(time))
    }

    /// Reads to the end.
    pub async fn rest(mut self) -> Answer {
        while self.chunk().await.is_some() {}
        let mut body = BytesMut::new();
        for (_, piece) in &self.answer.chunks {
            body.extend_from_slice(piece);
        }
        self.answer.body = body.freeze();
        self.answer
    }
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend, millis, raw_backend, raw_script, seconds, until};

    #[tokio::test]
    async fn connections_are_kept_or_not_as_is_said() {
        let served = backend().answers("x").h1_and_h2().start().await;
        let kept = Client::plain(served.addr);
        let (first, second) = (kept.get("/").await, kept.get("/").await);
        assert_eq!((first.connection, second.connection, served.connections()), (0, 0, 1));
        let new = kept.clone().always_new_connection();
        let (first, second) = (new.get("/").await, new.get("/").await);
        assert_eq!((first.connection, second.connection, served.connections()), (0, 1, 3));

        let shared = Client::plain(served.addr).h2();
        for answer in together((0..20).map(|_| shared.get("/"))).await {
            assert_eq!(answer.unwrap().connection, 0);
        }
        assert_eq!((shared.connections(), served.connections()), (1, 4));
        let apart = Client::plain(served.addr);
        served.becomes(backend().answers("x").delay(millis(50)));
        for answer in together((0..5).map(|_| apart.get("/"))).await {
            answer.unwrap();
        }
        assert_eq!(apart.connections(), 5);
    }

    #[tokio::test]
    async fn a_kept_connection_that_was_closed_meanwhile_is_replaced() {
        let served = backend().answers("x").h1_and_h2().start().await;
        for client in [Client::plain(served.addr), Client::plain(served.addr).h2()] {
            client.get("/").await;
            served.close_connections();
            until(seconds(2), || served.open_connections() == 0).await;
            assert_eq!(client.get("/").await.connection, 1);
        }
    }

    #[tokio::test]
    async fn the_time_of_each_chunk_is_noted() {
        let served = backend().streams(["a", "b", "c"]).gap(millis(40)).h1_and_h2().start().await;
        for client in [Client::plain(served.addr), Client::plain(served.addr).h2()] {
            let answer = client.get("/").await;
            assert_eq!((answer.text(), answer.error.as_ref()), ("abc".to_owned(), None));
            let times: Vec<Duration> = answer.chunks.iter().map(|(at, _)| *at).collect();
            assert_eq!(times.len(), 3);
            assert!(times[1] >= times[0] + millis(30), "{times:?}");
            assert!(times[2] >= times[0] + millis(70) && answer.total >= times[2], "{times:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_read_piece_by_piece() {
        let served = backend().streams(["a", "b"]).stalls_after(1).start().await;
        let mut answer = Client::plain(served.addr).get("/").open().await.unwrap();
        assert_eq!(answer.chunk_within(seconds(2)).await.unwrap().unwrap(), "a");
        assert!(answer.chunk_within(millis(30)).await.is_err());
        served.stop();
        assert_eq!(answer.chunk().await, None);
        assert!(answer.rest().await.error.is_some());
    }

    #[tokio::test]
    async fn a_request_that_is_late_fails_at_its_deadline() {
        let served = backend().stalls().start().await;
        let started = Instant::now();
        let failure = Client::plain(served.addr).get("/").within(millis(60)).attempt().await;
        assert_eq!(failure.unwrap_err().to_string(), "no answer within 60ms");
        assert!((millis(60)..millis(500)).contains(&started.elapsed()));
    }

    #[tokio::test]
    async fn uploads_go_slowly_with_trailers_or_break_off() {
        let served = backend().echo().h1_and_h2().start().await;
        for client in [Client::plain(served.addr), Client::plain(served.addr).h2()] {
            let slow = client.post("/", "").in_pieces(["one", "two", "three"], millis(30));
            let answer = slow.trailers(&[("x-sum", "3")]).await;
            assert_eq!(answer.json()["body"], "onetwothree");
            assert_eq!(answer.json()["trailers"], serde_json::json!([["x-sum", "3"]]));
            assert!(answer.first_byte >= millis(60), "{:?}", answer.first_byte);

            let (request, upload) = client.post("/", "").declaring_length(10).uploading();
            let asking = tokio::spawn(request.attempt());
            assert!(upload.send("half").await);
            until(seconds(2), || served.last().text() == "half").await;
            upload.abort().await;
            assert!(asking.await.unwrap().is_err());
            until(seconds(2), || served.last().aborted.is_some()).await;
            assert!(!served.last().body_complete);
        }
    }

    #[tokio::test]
    async fn what_goes_over_the_wire_is_what_was_asked_for() {
        let served =
            raw_backend(raw_script().reads_request().writes("HTTP/1.1 204 None\r\n\r\n").again())
                .start()
                .await;
        let client = Client::plain(served.addr).bearer("key").header("x-all", "1");
        client.post("/p?q", "{}").header("x-one", "2").header("host", "other").await;
        client.request("DELETE", "/d", "").header("x-all", "3").await;
        let text = served.received_text();
        let (first, second) = text.split_at(text.find("DELETE").unwrap());
        for line in [
            "POST /p?q HTTP/1.1\r\n",
            "host: other\r\n",
            "content-type: application/json\r\n",
            "authorization: Bearer key\r\n",
            "x-all: 1\r\n",
            "x-one: 2\r\n",
            "content-length: 2\r\n",
            "\r\n\r\n{}",
        ] {
            assert!(first.contains(line), "{line:?} in {first}");
        }
        assert!(second.contains("x-all: 3\r\n") && !second.contains("x-all: 1"), "{second}");
        assert!(
            second.contains(&format!("host: localhost:{}\r\n", served.addr.port())),
            "{second}"
        );
    }

    #[test]
    fn events_are_taken_apart() {
        assert_eq!(event("event: a\ndata: 1\ndata:2"), ("a".to_owned(), "1\n2".to_owned()));
        assert_eq!(event(": comment\ndata: x: y"), (String::new(), "x: y".to_owned()));
    }
}
