//! An event stream of the admin API: opened like any other call, then read piece by piece.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, HeaderValue};
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{AdminClient, Answer, CONNECT, Call, Fault, reason};

/// What moves the bytes of a connection. It never ends: how the connection went is what the request
/// or the body says.
type Driven = Pin<Box<dyn Future<Output = ()>>>;

/// What came of the attempt to open a stream.
#[derive(Debug)]
pub(crate) enum Opened {
    /// It is open.
    Stream(Stream),
    /// It was refused.
    Refused(Answer),
}

/// An open stream; dropping it closes its connection.
pub(crate) struct Stream {
    connection: Driven,
    body: Incoming,
    /// Whoever lets go of it asks the connection to end.
    _sender: SendRequest<Full<Bytes>>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Stream {
    /// The next piece; `None` when it is over, in order or not.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.piece().await.and_then(Result::ok)
    }

    /// The next piece; `None` at an end in order, an error at any other.
    pub(super) async fn piece(&mut self) -> Option<hyper::Result<Bytes>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Bytes>>> {
        let _ = self.connection.as_mut().poll(cx);
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => return Poll::Ready(Some(Ok(piece))),
                    Err(_trailers) => {}
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl AdminClient {
    /// Opens the event stream at `path`, from after the event `last` on.
    pub(crate) async fn open(&self, path: &str, last: Option<&str>) -> Result<Opened, Fault> {
        let mut request = self.request(Call::get(path))?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(id) = last.and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.insert("last-event-id", id);
        }
        let opened = async {
            let connected = TcpStream::connect((self.host.as_str(), self.port)).await;
            let tcp = connected.map_err(|error| self.unreachable(&reason(&error)))?;
            let _ = tcp.set_nodelay(true);
            match &self.tls {
                None => self.begin(tcp, request).await,
                Some((tls, name)) => match tls.connect(name.clone(), tcp).await {
                    Ok(stream) => self.begin(stream, request).await,
                    Err(error) => Err(self.untrusted(&error)),
                },
            }
        };
        // A stream begins at once, or not at all.
        let opened = tokio::time::timeout(2 * CONNECT, opened).await;
        opened.unwrap_or_else(|_| Err(self.unreachable("no answer within 10 s")))
    }

    async fn begin<S>(&self, stream: S, request: Request<Full<Bytes>>) -> Result<Opened, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |error: hyper::Error| self.no_http(&error);
        let io = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(failed)?;
        let mut connection: Driven = Box::pin(async move {
            let _ = connection.await;
            std::future::pending().await
        });
        let answered = async {
            let response = sender.send_request(request).await.map_err(failed)?;
            if response.status().is_success() {
                return Ok(Ok(response.into_body()));
            }
            let (head, body) = response.into_parts();
            self.read(head, body, false).await.map(Err)
        };
        let answered = tokio::select! {
            answered = answered => answered?,
            () = &mut connection => return Err(self.unreachable("the connection was closed")),
        };
        Ok(match answered {
            Ok(body) => Opened::Stream(Stream { connection, body, _sender: sender }),
            Err(answer) => Opened::Refused(answer),
        })
    }
}
