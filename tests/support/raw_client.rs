//! A client that knows no HTTP: a test writes the very bytes and reads what comes back.
//!
//! ```ignore
//! let mut raw = RawClient::tls(edge, &roots, &["http/1.1"]).await;
//! raw.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx").await?;
//! assert_eq!(raw.read_response(seconds(2)).await?.status, 400);
//! assert!(raw.is_closed(seconds(2)).await);
//! ```

pub mod frames;
pub(crate) mod framing;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustls::RootCertStore;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::backend::websocket;
use crate::backend::wire::reset_when_closed;
use crate::certificates::{Pair, client_config};
use frames::Frame;
use framing::{Framing, Message, dechunk, fields, head_length};

/// A connection in bytes.
#[derive(Debug)]
pub struct RawClient {
    stream: Transport,
    /// What has come and has not been taken.
    buffer: Vec<u8>,
    /// How the other side ended its part.
    ended: Option<Ended>,
}

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How the other side ended its part of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// FIN, and over TLS `close_notify` before it.
    Cleanly,
    /// FIN without `close_notify`: over TLS, what came may be cut short.
    WithoutNotice,
    /// RST.
    Reset,
}

/// A response by its bytes.
#[derive(Clone, Debug)]
pub struct RawResponse {
    /// The status.
    pub status: u16,
    /// The head as it came, with its empty line.
    pub head: Vec<u8>,
    /// Its fields, names as they were sent.
    pub headers: Vec<(String, String)>,
    /// The body, taken out of its chunks.
    pub body: Vec<u8>,
    /// The fields after the last chunk.
    pub trailers: Vec<(String, String)>,
    /// Whether the body ended as the head said it would.
    pub complete: bool,
}

impl RawResponse {
    /// The value of the field `name`, the first if there are several.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(it, _)| it.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Why there is no whole head or frame; each with what had come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The other side ended the connection.
    Ended(Ended, Vec<u8>),
    /// The deadline passed.
    Late(Vec<u8>),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (why, bytes) = match self {
            Self::Ended(how, bytes) => (format!("the connection ended ({how:?})"), bytes),
            Self::Late(bytes) => ("the deadline passed".to_owned(), bytes),
        };
        write!(f, "{why} after {:?}", String::from_utf8_lossy(bytes))
    }
}

impl std::error::Error for Missing {}

impl RawClient {
    /// Connects without TLS.
    ///
    /// # Panics
    /// If nobody listens there.
    pub async fn plain(addr: SocketAddr) -> Self {
        Self::over(Transport::Plain(connect(addr).await.unwrap()))
    }

    /// Connects with TLS to the name `localhost`, offering `protocols`.
    ///
    /// # Panics
    /// If the connection or the handshake fails; [`RawClient::try_tls`] says why instead.
    pub async fn tls(addr: SocketAddr, roots: &RootCertStore, protocols: &[&str]) -> Self {
        Self::try_tls(addr, roots, protocols, None).await.unwrap()
    }

    /// [`RawClient::tls`] with a client certificate, for handshakes that may fail.
    ///
    /// # Errors
    /// The connection or the handshake failed.
    pub async fn try_tls(
        addr: SocketAddr,
        roots: &RootCertStore,
        protocols: &[&str],
        identity: Option<&Pair>,
    ) -> io::Result<Self> {
        let config = client_config(roots, identity, protocols);
        let name = "localhost".try_into().unwrap();
        let stream = TlsConnector::from(config).connect(name, connect(addr).await?).await?;
        Ok(Self::over(Transport::Tls(Box::new(stream))))
    }

    fn over(stream: Transport) -> Self {
        Self { stream, buffer: Vec::new(), ended: None }
    }

    /// What ALPN agreed on.
    #[must_use]
    pub fn protocol(&self) -> Option<String> {
        match &self.stream {
            Transport::Plain(_) => None,
            Transport::Tls(stream) => stream
                .get_ref()
                .1
                .alpn_protocol()
                .map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
        }
    }

    /// The address of this end, as the other side sees it.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.tcp().local_addr().unwrap()
    }

    /// Writes these bytes, in one TLS record if they fit.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let stream: &mut (dyn AsyncStream + Unpin) = match &mut self.stream {
            Transport::Plain(stream) => stream,
            Transport::Tls(stream) => &mut **stream,
        };
        stream.write_all(bytes.as_ref()).await?;
        stream.flush().await
    }

    /// Writes these bytes `size` at a time, each with its own flush, with `gap` between.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_in_pieces(
        &mut self,
        bytes: impl AsRef<[u8]>,
        size: usize,
        gap: Duration,
    ) -> io::Result<()> {
        for (index, piece) in bytes.as_ref().chunks(size).enumerate() {
            if index > 0 && !gap.is_zero() {
                tokio::time::sleep(gap).await;
            }
            self.send(piece).await?;
        }
        Ok(())
    }

    /// Reads a response head and the body that it declares. A response of status 1xx has none, and
    /// the final one follows it. A body that breaks off, or lasts beyond the deadline, makes the
    /// response incomplete.
    ///
    /// # Errors
    /// No whole head came.
    pub async fn read_response(&mut self, within: Duration) -> Result<RawResponse, Missing> {
        self.read_response_with(within, None).await
    }

    /// [`RawClient::read_response`] to a HEAD request: whatever the head declares, no body follows.
    ///
    /// # Errors
    /// No whole head came.
    pub async fn read_response_to_head(
        &mut self,
        within: Duration,
    ) -> Result<RawResponse, Missing> {
        self.read_response_with(within, Some(Framing::Length(0))).await
    }

    async fn read_response_with(
        &mut self,
        within: Duration,
        framing: Option<Framing>,
    ) -> Result<RawResponse, Missing> {
        let end = Instant::now() + within;
        let length = loop {
            match head_length(&self.buffer) {
                Some(length) => break length,
                None => self.read_more(end).await?,
            }
        };
        let head = self.buffer[..length].to_vec();
        let status = String::from_utf8_lossy(&head)
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_default();
        let framing = framing.unwrap_or_else(|| Framing::of_response(&head, status));
        let headers = fields(&head);
        loop {
            if let Some(message) = Message::framed(&self.buffer, length, framing) {
                self.buffer.drain(..message.length);
                let Message { body, trailers, .. } = message;
                return Ok(RawResponse { status, head, headers, body, trailers, complete: true });
            }
            let Err(missing) = self.read_more(end).await else { continue };
            let to_its_end = matches!(missing, Missing::Ended(how, _) if how != Ended::Reset);
            let body = match framing {
                Framing::Chunked => dechunk(&self.buffer, length).0,
                Framing::Length(_) | Framing::ToClose => self.buffer[length..].to_vec(),
            };
            self.buffer.clear();
            let complete = framing == Framing::ToClose && to_its_end;
            let trailers = Vec::new();
            return Ok(RawResponse { status, head, headers, body, trailers, complete });
        }
    }

    /// Reads exactly so many bytes.
    ///
    /// # Errors
    /// Fewer came.
    pub async fn read_exactly(
        &mut self,
        count: usize,
        within: Duration,
    ) -> Result<Vec<u8>, Missing> {
        let end = Instant::now() + within;
        while self.buffer.len() < count {
            self.read_more(end).await?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// Reads everything until the other side ends the connection, and how it did; `None` if it has
    /// not when the deadline passes.
    pub async fn read_to_close(&mut self, within: Duration) -> (Vec<u8>, Option<Ended>) {
        let end = Instant::now() + within;
        while self.read_more(end).await.is_ok() {}
        (std::mem::take(&mut self.buffer), self.ended)
    }

    /// Whether the other side ends the connection within this time. What it sends before is kept
    /// for the reading methods.
    pub async fn is_closed(&mut self, within: Duration) -> bool {
        let end = Instant::now() + within;
        while self.read_more(end).await.is_ok() {}
        self.ended.is_some()
    }

    /// Ends this side (over TLS with `close_notify`) and goes on reading.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn half_close(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Transport::Plain(stream) => stream.shutdown().await,
            Transport::Tls(stream) => stream.shutdown().await,
        }
    }

    /// Ends the connection with RST.
    pub fn reset(self) {
        reset_when_closed(self.tcp());
    }

    /// Opens an HTTP/2 connection: sends the preface and SETTINGS, and acknowledges those of the
    /// other side. The dynamic table is off, so that [`Frame::status`] can read every status.
    ///
    /// # Errors
    /// No SETTINGS came within two seconds.
    pub async fn start_h2(&mut self, values: &[(u16, u32)]) -> Result<Frame, Missing> {
        let mut all = vec![(frames::setting::HEADER_TABLE_SIZE, 0)];
        all.extend(values);
        let opening = [frames::PREFACE, &frames::settings(&all)].concat();
        let _ = self.send(opening).await;
        let settings = self.read_frame_of(frames::kind::SETTINGS, Duration::from_secs(2)).await?;
        let _ = self.send(frames::settings_ack()).await;
        Ok(settings)
    }

    /// Reads the next HTTP/2 frame, whatever it is.
    ///
    /// # Errors
    /// No whole frame came.
    pub async fn read_frame(&mut self, within: Duration) -> Result<Frame, Missing> {
        let end = Instant::now() + within;
        loop {
            if let Some((frame, length)) = frames::parse(&self.buffer) {
                self.buffer.drain(..length);
                return Ok(frame);
            }
            self.read_more(end).await?;
        }
    }

    /// Reads frames until one of this kind, which is not an acknowledgement, and drops the others.
    ///
    /// # Errors
    /// None came.
    pub async fn read_frame_of(&mut self, kind: u8, within: Duration) -> Result<Frame, Missing> {
        let end = Instant::now() + within;
        loop {
            let frame = self.read_frame(end.saturating_duration_since(Instant::now())).await?;
            let acknowledges = matches!(kind, frames::kind::SETTINGS | frames::kind::PING)
                && frame.flags & frames::flag::ACK != 0;
            if frame.kind == kind && !acknowledges {
                return Ok(frame);
            }
        }
    }

    /// Reads frames until one that belongs to `stream`, and drops the others, except that GOAWAY is
    /// given as well: after it the stream may never be answered.
    ///
    /// # Errors
    /// None came.
    pub async fn read_frame_on(&mut self, stream: u32, within: Duration) -> Result<Frame, Missing> {
        let end = Instant::now() + within;
        loop {
            let frame = self.read_frame(end.saturating_duration_since(Instant::now())).await?;
            let credit = frame.kind == frames::kind::WINDOW_UPDATE;
            if frame.kind == frames::kind::GOAWAY || (frame.stream == stream && !credit) {
                return Ok(frame);
            }
        }
    }

    /// Opens a WebSocket at `path` with these fields besides those it takes.
    ///
    /// # Errors
    /// The answer's head, if it is not a proper 101; none, if none came within two seconds.
    pub async fn open_websocket(
        &mut self,
        path: &str,
        more: &[(&str, &str)],
    ) -> Result<RawResponse, Option<RawResponse>> {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let more: String =
            more.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n{more}\r\n"
        );
        let _ = self.send(request).await;
        let response = self.read_response(Duration::from_secs(2)).await.map_err(|_| None)?;
        let accepts = response.header("sec-websocket-accept") == Some(&websocket::accept_for(key));
        if response.status == 101 && accepts { Ok(response) } else { Err(Some(response)) }
    }

    /// Sends one whole WebSocket frame, masked as a client must.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_message(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        self.send(websocket::frame(opcode, payload, Some([0x37, 0xfa, 0x21, 0x3d]))).await
    }

    /// Reads one WebSocket frame.
    ///
    /// # Errors
    /// No whole frame came.
    pub async fn read_message(&mut self, within: Duration) -> Result<websocket::Frame, Missing> {
        let end = Instant::now() + within;
        loop {
            let mut unread = &self.buffer[..];
            if let Ok(frame) = websocket::read_frame(&mut unread).await {
                let left = unread.len();
                self.buffer.drain(..self.buffer.len() - left);
                return Ok(frame);
            }
            self.read_more(end).await?;
        }
    }

    /// Reads once, or says why there is nothing more to read by `end`.
    async fn read_more(&mut self, end: Instant) -> Result<(), Missing> {
        if let Some(how) = self.ended {
            return Err(Missing::Ended(how, self.buffer.clone()));
        }
        let stream: &mut (dyn AsyncStream + Unpin) = match &mut self.stream {
            Transport::Plain(stream) => stream,
            Transport::Tls(stream) => &mut **stream,
        };
        let left = end.saturating_duration_since(Instant::now());
        let mut piece = vec![0; 16 * 1024];
        let how = match tokio::time::timeout(left, stream.read(&mut piece)).await {
            Err(_) => return Err(Missing::Late(self.buffer.clone())),
            Ok(Ok(0)) => Ended::Cleanly,
            Ok(Ok(count)) => {
                self.buffer.extend_from_slice(&piece[..count]);
                return Ok(());
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ended::WithoutNotice,
            Ok(Err(_)) => Ended::Reset,
        };
        self.ended = Some(how);
        Err(Missing::Ended(how, self.buffer.clone()))
    }

    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Transport::Plain(stream) => stream,
            Transport::Tls(stream) => stream.get_ref().0,
        }
    }
}

async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(addr).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

trait AsyncStream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> AsyncStream for S {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, backend, millis, raw_backend, raw_script, seconds, until};
    use frames::{code, flag, kind};

    #[tokio::test]
    async fn responses_are_read_by_their_framing_and_may_follow_each_other() {
        let served = raw_backend(
            raw_script()
                .reads_request()
                .writes("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab")
                .reads_request()
                .writes("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\ncd\r\n0\r\nX-T: 1\r\n\r\n")
                .reads_request()
                .writes_in_pieces("HTTP/1.1 404 No\r\n\r\nto the close", 5, millis(1))
                .closes(),
        )
        .start()
        .await;
        let mut raw = RawClient::plain(served.addr).await;
        let get = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        let post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nxyz";
        raw.send([get, post].concat()).await.unwrap();
        raw.send_in_pieces(get, 1, Duration::ZERO).await.unwrap();

        let within = seconds(2);
        assert_eq!(raw.read_response(within).await.unwrap().status, 100);
        let whole = raw.read_response(within).await.unwrap();
        assert_eq!((whole.status, whole.text(), whole.complete), (200, "ab".to_owned(), true));
        let chunked = raw.read_response(within).await.unwrap();
        assert_eq!((chunked.text(), chunked.complete), ("cd".to_owned(), true));
        assert_eq!(chunked.trailers, [("X-T".to_owned(), "1".to_owned())]);
        let to_close = raw.read_response(within).await.unwrap();
        assert_eq!((to_close.status, to_close.complete), (404, true));
        assert_eq!(to_close.text(), "to the close");
        assert_eq!(raw.read_to_close(within).await, (vec![], Some(Ended::Cleanly)));
        assert_eq!(served.received_text(), [get, post, get].concat());
        until(within, || served.received()[0].ended.is_some()).await;
    }

    #[tokio::test]
    async fn what_breaks_off_is_incomplete_and_what_does_not_come_is_late() {
        let half = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
        let served = raw_backend(raw_script().reads_head().writes(half).closes())
            .then(raw_script().reads_head().writes(half).pauses(millis(20)).resets())
            .then(raw_script().reads_head().resets())
            .then(raw_script().reads_head().writes("HTTP/1.1 2").stays_open())
            .then(raw_script().reads_head().half_closes().stays_open())
            .start()
            .await;
        let get = "GET / HTTP/1.1\r\n\r\n";
        for ended in [Ended::Cleanly, Ended::Reset] {
            let mut raw = RawClient::plain(served.addr).await;
            raw.send(get).await.unwrap();
            let response = raw.read_response(seconds(2)).await.unwrap();
            assert_eq!((response.text(), response.complete), ("half".to_owned(), false));
            assert_eq!(raw.read_to_close(seconds(2)).await.1, Some(ended));
        }
        let mut raw = RawClient::plain(served.addr).await;
        raw.send(get).await.unwrap();
        let missing = raw.read_response(seconds(2)).await.unwrap_err();
        assert_eq!(missing, Missing::Ended(Ended::Reset, vec![]));

        let mut raw = RawClient::plain(served.addr).await;
        raw.send(get).await.unwrap();
        let missing = raw.read_response(millis(50)).await.unwrap_err();
        assert_eq!(missing, Missing::Late(b"HTTP/1.1 2".to_vec()));
        assert!(!raw.is_closed(millis(20)).await);
        assert_eq!(raw.read_to_close(millis(5)).await, (b"HTTP/1.1 2".to_vec(), None));
        raw.reset();
        until(seconds(2), || served.received()[3].closed_by_client.is_some()).await;

        let mut raw = RawClient::plain(served.addr).await;
        raw.send(get).await.unwrap();
        assert!(raw.is_closed(seconds(2)).await);
        raw.send("more").await.unwrap();
        until(seconds(2), || served.received()[4].text().ends_with("more")).await;
        assert_eq!(served.connections(), 5);
    }

    #[tokio::test]
    async fn bytes_go_through_tls_and_protocols_are_agreed_on() {
        let authority = Authority::new();
        let pair = authority.leaf(&["localhost"]);
        let served = backend().answers("x").h1_and_h2().tls(&pair).start().await;
        let roots = authority.roots();
        let mut raw = RawClient::tls(served.addr, &roots, &["http/1.1"]).await;
        assert_eq!(raw.protocol().as_deref(), Some("http/1.1"));
        raw.send("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        assert_eq!(raw.read_response(seconds(2)).await.unwrap().text(), "x");
        assert_eq!(raw.read_to_close(seconds(2)).await.1, Some(Ended::Cleanly));

        let raw = RawClient::tls(served.addr, &roots, &["h2"]).await;
        assert_eq!(raw.protocol().as_deref(), Some("h2"));
        let nothing = RawClient::try_tls(served.addr, &roots, &["spdy"], None).await;
        assert!(nothing.is_err());
    }

    #[tokio::test]
    async fn frames_make_requests_and_can_break_every_rule() {
        let served = backend().answers("x").h2().start().await;
        let within = seconds(2);
        let mut raw = RawClient::plain(served.addr).await;
        raw.start_h2(&[]).await.unwrap();
        raw.send(frames::post(1, "x", "/p", &[("x-one", "1")])).await.unwrap();
        raw.send(frames::data(1, b"body", true)).await.unwrap();
        let head = raw.read_frame_on(1, within).await.unwrap();
        assert_eq!((head.kind, head.status()), (kind::HEADERS, Some(200)));
        let data = raw.read_frame_on(1, within).await.unwrap();
        assert_eq!((data.kind, &*data.payload, data.ends_stream()), (kind::DATA, &b"x"[..], true));
        assert_eq!(
            (served.last().text(), served.last().header("x-one")),
            ("body".into(), Some("1"))
        );

        raw.send(frames::ping(*b"12345678")).await.unwrap();
        let pong = loop {
            let frame = raw.read_frame(within).await.unwrap();
            if frame.kind == kind::PING {
                break frame;
            }
        };
        assert_eq!((pong.flags, pong.payload), (flag::ACK, b"12345678".to_vec()));

        // In two frames, and with an odd status.
        served.becomes(backend().status(431));
        let block = frames::block(&frames::request_fields("GET", "x", "/", &[]));
        let (first, rest) = block.split_at(9);
        raw.send(frames::frame(kind::HEADERS, flag::END_STREAM, 3, first)).await.unwrap();
        raw.send(frames::continuation(3, rest, true)).await.unwrap();
        assert_eq!(raw.read_frame_on(3, within).await.unwrap().status(), Some(431));

        raw.send(frames::get(5, "x", "/", &[("connection", "close")])).await.unwrap();
        let reset = raw.read_frame_on(5, within).await.unwrap();
        assert_eq!((reset.kind, reset.code()), (kind::RST_STREAM, Some(code::PROTOCOL_ERROR)));
        raw.send(frames::frame(kind::PING, flag::NONE, 0, b"short")).await.unwrap();
        let away = raw.read_frame_of(kind::GOAWAY, within).await.unwrap();
        assert!(away.code().is_some_and(|code| code != code::NO_ERROR), "{away:?}");
        assert!(raw.is_closed(within).await);
    }

    #[tokio::test]
    async fn a_stream_that_is_reset_is_seen_by_the_backend() {
        let served = backend().stalls().h2().start().await;
        let mut raw = RawClient::plain(served.addr).await;
        raw.start_h2(&[]).await.unwrap();
        raw.send(frames::get(1, "x", "/", &[])).await.unwrap();
        until(seconds(2), || served.calls() == 1).await;
        raw.send(frames::rst_stream(1, code::CANCEL)).await.unwrap();
        until(seconds(2), || served.aborted().len() == 1).await;
    }
}
