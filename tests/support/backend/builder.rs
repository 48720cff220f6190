//! What a backend will do, said before it starts or while it runs.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};
use parking_lot::{Mutex, RwLock};
use rustls::RootCertStore;

use super::body::Cut;
use super::connection::{Protocols, Shared};
use super::record::{Ledger, Seen};
use super::script::{Answering, Script, Silence};
use super::{Backend, header_map, listen, serve};
use crate::certificates::{Authority, Pair, server_config};

/// A backend that has not been started: what it will do.
pub fn backend() -> BackendBuilder {
    BackendBuilder {
        script: Script::default(),
        protocols: Protocols::H1,
        pair: None,
        clients: None,
        close_idle_after: None,
        counts_only: false,
    }
}

/// What a backend does. The methods up to [`BackendBuilder::every`] are about requests and can be
/// changed while it runs ([`Backend::becomes`]); the others are about its connections.
#[must_use]
#[derive(Clone, Debug)]
pub struct BackendBuilder {
    pub(super) script: Script,
    protocols: Protocols,
    pair: Option<Pair>,
    clients: Option<RootCertStore>,
    close_idle_after: Option<Duration>,
    counts_only: bool,
}

impl BackendBuilder {
    /// Answers this text.
    pub fn answers(self, text: impl Into<String>) -> Self {
        let body = Bytes::from(text.into());
        self.answering(Answering::Fixed { content_type: "text/plain; charset=utf-8", body })
    }

    /// Answers this JSON.
    #[expect(clippy::needless_pass_by_value, reason = "reads better with json!(…) in place")]
    pub fn json(self, value: serde_json::Value) -> Self {
        let body = Bytes::from(value.to_string());
        self.answering(Answering::Fixed { content_type: "application/json", body })
    }

    /// Answers these pieces, one chunk or DATA frame each, with [`BackendBuilder::gap`] between.
    pub fn streams<P: Into<Bytes>>(self, pieces: impl IntoIterator<Item = P>) -> Self {
        self.answering(Answering::Pieces(pieces.into_iter().map(Into::into).collect()))
    }

    /// Answers so many bytes of `pattern`, with a declared length, as fast as they are taken.
    pub fn large(self, bytes: u64) -> Self {
        self.answering(Answering::Pattern(bytes))
    }

    /// Answers what it was asked, as JSON: `method`, `path`, `query`, `authority`, `version`,
    /// `headers` (a list of `[name, value]`), `body` (as text), `length` and `sha256` of the body,
    /// `trailers`. HTTP libraries fold the case of names and put equal names together;
    /// `raw_backend` shows the very bytes.
    pub fn echo(self) -> Self {
        self.answering(Answering::Echo)
    }

    /// Speaks the OpenAI API for `model`: chat completions and completions, whole or as SSE with
    /// [`BackendBuilder::pieces`] words, embeddings, models. The text begins with `model`; a
    /// streamed answer tells its usage if the request asks for it.
    pub fn openai(self, model: impl Into<String>) -> Self {
        self.answering(Answering::OpenAi { model: model.into() })
    }

    /// Speaks the Anthropic messages API for `model`, whole or as SSE.
    pub fn anthropic(self, model: impl Into<String>) -> Self {
        self.answering(Answering::Anthropic { model: model.into() })
    }

    /// Sends each piece of the request back as it comes, then `grpc-status: 0` as a trailer.
    /// Makes the backend speak HTTP/2.
    pub fn grpc_echo(self) -> Self {
        self.answering(Answering::GrpcEcho).h2()
    }

    /// Answers with a gRPC status alone ("trailers-only"). Makes the backend speak HTTP/2.
    pub fn grpc_error(self, code: u32, message: impl Into<String>) -> Self {
        self.answering(Answering::GrpcError { code, message: message.into() }).h2()
    }

    /// Answers a WebSocket handshake with 101 and every frame with the same; 426 to the rest.
    pub fn websocket_echo(self) -> Self {
        self.answering(Answering::WebSocketEcho)
    }

    /// Answers what `handler` makes of the request and its whole body.
    pub fn handler<F>(self, handler: impl Fn(Seen) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Bytes>> + Send + 'static,
    {
        self.answering(Answering::Handler(Arc::new(move |seen| Box::pin(handler(seen)))))
    }

    /// Answers with this status.
    ///
    /// # Panics
    /// If there is no such status.
    pub fn status(mut self, status: u16) -> Self {
        self.script.status = Some(StatusCode::from_u16(status).unwrap());
        self
    }

    /// Adds a field to the answer.
    ///
    /// # Panics
    /// If it cannot be a field.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).unwrap();
        self.script.headers.append(name, HeaderValue::try_from(value).unwrap());
        self
    }

    /// Ends the answer with these fields. Over HTTP/1.1 they are sent only to a client that said
    /// `te: trailers`.
    ///
    /// # Panics
    /// If they cannot be fields.
    pub fn trailers(mut self, fields: &[(&str, &str)]) -> Self {
        self.script.trailers = Some(header_map(fields));
        self
    }

    /// Sends `103 Early Hints` with these fields before the answer. HTTP/1.1 only.
    pub fn early_hints(mut self, fields: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.script.early_hints = Some(fields.iter().map(owned).collect());
        self
    }

    /// Waits before it answers.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.script.delay = delay;
        self
    }

    /// How many words a streamed model answer has: 4 if not said.
    pub fn pieces(mut self, count: usize) -> Self {
        self.script.pieces = count;
        self
    }

    /// How long it waits between the pieces of a streamed answer.
    pub fn gap(mut self, gap: Duration) -> Self {
        self.script.gap = gap;
        self
    }

    /// Answers without reading the request's body.
    pub fn without_reading(mut self) -> Self {
        self.script.reads_body = false;
        self
    }

    /// Reads the request and never answers.
    pub fn stalls(self) -> Self {
        self.silent(Silence::Stall)
    }

    /// Reads the request and resets the connection (RST).
    pub fn resets(self) -> Self {
        self.silent(Silence::Reset)
    }

    /// Reads the request and closes the connection (FIN).
    pub fn closes(self) -> Self {
        self.silent(Silence::Close)
    }

    /// Sends the head and so many pieces of the body, then nothing more, and keeps the connection.
    pub fn stalls_after(mut self, pieces: usize) -> Self {
        self.script.faults.stall_after = Some(pieces);
        self
    }

    /// Sends the head and so many bytes of the body, then resets the connection (RST).
    pub fn resets_after(self, bytes: u64) -> Self {
        self.cut(bytes, Cut::Reset)
    }

    /// Sends the head and so many bytes of the body, then breaks off as a server does that has
    /// lost its own source: HTTP/1.1 closes without the end, HTTP/2 resets the stream.
    pub fn breaks_off_after(self, bytes: u64) -> Self {
        self.cut(bytes, Cut::BreakOff)
    }

    /// Treats requests for exactly `path` as `other` says.
    pub fn on(mut self, path: &str, other: Self) -> Self {
        self.script.on_path.push((path.to_owned(), Arc::new(other.script)));
        self
    }

    /// Treats the first `count` requests as `other` says.
    pub fn first(mut self, count: usize, other: Self) -> Self {
        self.script.first = Some((count, Arc::new(other.script)));
        self
    }

    /// Treats every `period`th request as `other` says.
    ///
    /// # Panics
    /// If `period` is 0.
    pub fn every(mut self, period: usize, other: Self) -> Self {
        assert!(period > 0, "every 0th request is none");
        self.script.every = Some((period, Arc::new(other.script)));
        self
    }

    /// Speaks HTTP/2 only: with prior knowledge, or by ALPN under TLS.
    pub fn h2(mut self) -> Self {
        self.protocols = Protocols::H2;
        self
    }

    /// Speaks HTTP/1.1 and HTTP/2, as the client likes.
    pub fn h1_and_h2(mut self) -> Self {
        self.protocols = Protocols::Both;
        self
    }

    /// Speaks TLS with this certificate.
    pub fn tls(mut self, pair: &Pair) -> Self {
        self.pair = Some(pair.clone());
        self
    }

    /// Refuses clients without a certificate of `authority`. Needs [`BackendBuilder::tls`].
    pub fn insists_on_clients_of(mut self, authority: &Authority) -> Self {
        self.clients = Some(authority.roots());
        self
    }

    /// Closes connections on which nothing was asked for so long.
    pub fn close_idle_after(mut self, limit: Duration) -> Self {
        self.close_idle_after = Some(limit);
        self
    }

    /// Counts requests without keeping them, for tests that make very many.
    pub fn counts_only(mut self) -> Self {
        self.counts_only = true;
        self
    }

    /// Starts it on a free port of 127.0.0.1. It accepts connections from now on.
    #[expect(clippy::unused_async, reason = "every server of this library starts with .await")]
    pub async fn start(self) -> Backend {
        self.start_now()
    }

    /// [`BackendBuilder::start`] for tests on plain threads.
    ///
    /// # Panics
    /// If there is no port, or client certificates are wanted without TLS.
    pub fn start_now(self) -> Backend {
        assert!(self.pair.is_some() || self.clients.is_none(), "client certificates need tls()");
        let clients = self.clients.as_ref();
        let tls =
            self.pair.as_ref().map(|pair| server_config(pair, clients, self.protocols.alpn()));
        let shared = Arc::new(Shared {
            script: RwLock::new(Arc::new(self.script)),
            ledger: Arc::new(Ledger::new(self.counts_only)),
            protocols: self.protocols,
            tls,
            close_idle_after: self.close_idle_after,
            controls: Mutex::default(),
        });
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let addr = listener.local_addr().unwrap();
        let thread = Mutex::new(Some(serve(listener, &shared)));
        Backend { addr, shared, thread }
    }

    fn answering(mut self, answering: Answering) -> Self {
        self.script.answering = answering;
        self
    }

    fn silent(mut self, silence: Silence) -> Self {
        self.script.silence = Some(silence);
        self
    }

    fn cut(mut self, bytes: u64, how: Cut) -> Self {
        self.script.faults.cut = Some((bytes, how));
        self
    }
}
