//! An answer as it comes, and whole; and why there is none.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;

use super::Lease;

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

/// Name and data of one server-sent event.
pub(super) fn event(text: &str) -> (String, String) {
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
    pub(super) fn new(
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
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}
