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
mod connection;
mod openai;
pub(crate) mod own_thread;
mod record;
mod script;
pub(crate) mod wire;

use std::fmt;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use parking_lot::{Mutex, RwLock};
use rustls::RootCertStore;

pub use answer::sha256;
pub use body::pattern;
pub use openai::INPUT_TOKENS;
pub use record::Seen;

use crate::certificates::{Authority, Pair, server_config};
use body::Cut;
use connection::{Protocols, Shared, accept};
use own_thread::OwnThread;
use record::Ledger;
use script::{Answering, Script, Silence};

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
    script: Script,
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

    /// Answers so many bytes of [`pattern`], with a declared length, as fast as they are taken.
    pub fn large(self, bytes: u64) -> Self {
        self.answering(Answering::Pattern(bytes))
    }

    /// Answers what it was asked, as JSON: `method`, `path`, `query`, `authority`, `version`,
    /// `headers` (a list of `[name, value]`), `body` (as text), `length` and `sha256` of the body,
    /// `trailers`. HTTP libraries fold the case of names and put equal names together;
    /// [`raw_backend`](raw::raw_backend) shows the very bytes.
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
mod tests {
    use http::Version;
    use serde_json::json;

    use super::*;
    use crate::raw_client::frames;
    use crate::{Client, Failure, RawClient, millis, seconds, together, until, until_blocking};

    #[tokio::test]
    async fn an_echo_tells_what_was_asked_and_so_does_the_record() {
        let echo = backend().echo().h1_and_h2().start().await;
        for client in [Client::plain(echo.addr), Client::plain(echo.addr).h2()] {
            echo.forget();
            let answer = client.post("/a/b?c=d&e", "body").header("x-one", "1").await.json();
            assert_eq!(answer["method"], "POST");
            assert_eq!(answer["path"], "/a/b");
            assert_eq!(answer["query"], "c=d&e");
            assert_eq!(answer["body"], "body");
            assert_eq!(answer["sha256"], sha256(b"body"));
            let headers = answer["headers"].as_array().unwrap();
            assert!(headers.contains(&json!(["x-one", "1"])), "{headers:?}");

            let seen = echo.last();
            assert_eq!((seen.path(), seen.text()), ("/a/b", "body".to_owned()));
            assert_eq!((seen.header("x-one"), seen.body_complete), (Some("1"), true));
            assert!(seen.ended.is_some() && seen.aborted.is_none());
        }
        assert_eq!(echo.connections(), 2);
    }

    #[tokio::test]
    async fn h1_and_h2_are_chosen_by_alpn_under_tls() {
        let authority = Authority::new();
        let pair = authority.leaf(&["localhost"]);
        let both = backend().answers("x").h1_and_h2().tls(&pair).start().await;
        let h2_only = backend().answers("x").h2().tls(&pair).start().await;
        for (addr, client, version) in [
            (both.addr, Client::new(both.addr, authority.roots()), Version::HTTP_11),
            (both.addr, Client::new(both.addr, authority.roots()).h1_or_h2(), Version::HTTP_2),
            (h2_only.addr, Client::new(h2_only.addr, authority.roots()).h2(), Version::HTTP_2),
        ] {
            assert_eq!(client.get("/").await.version, version, "{addr}");
        }
        assert_eq!(both.url(), format!("https://{}", both.addr));
    }

    #[test]
    fn a_backend_serves_tests_on_plain_threads() {
        let served = backend().answers("x").start_now();
        let mut stream = std::net::TcpStream::connect(served.addr).unwrap();
        std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        until_blocking(seconds(5), || served.calls() == 1);
    }

    #[tokio::test]
    async fn what_was_promised_and_not_sent_is_seen_by_the_client() {
        let text = "0123456789";
        let served = backend().start().await;
        let multiplexed = backend().h2().start().await;
        let authority = Authority::new();
        let secured = backend().tls(&authority.leaf(&["localhost"])).start().await;
        for (script, reason) in [
            (backend().answers(text).resets_after(4), "reset"),
            (backend().streams(["0123", "456"]).resets_after(4), "reset"),
            (backend().answers(text).breaks_off_after(4), "end of file before message length"),
            (backend().streams(["0123", "456"]).breaks_off_after(4), "error reading a body"),
        ] {
            served.becomes(script.clone());
            let answer = Client::plain(served.addr).get("/").await;
            let error = answer.error.clone().unwrap_or_default();
            assert_eq!((answer.status.as_u16(), answer.text()), (200, "0123".to_owned()));
            assert!(error.contains(reason), "{error} is not {reason}");

            secured.becomes(script.clone());
            let answer = Client::new(secured.addr, authority.roots()).get("/").await;
            assert_eq!((answer.text(), answer.error.is_some()), ("0123".to_owned(), true));

            multiplexed.becomes(script);
            let answer = Client::plain(multiplexed.addr).h2().get("/").await;
            assert_eq!((answer.text(), answer.error.is_some()), ("0123".to_owned(), true));
        }
        assert!(served.aborted().is_empty(), "the script broke off, not the client");
        assert!(multiplexed.aborted().is_empty());
    }

    #[tokio::test]
    async fn a_silent_backend_breaks_off_before_it_answers() {
        let served = backend().h1_and_h2().start().await;
        for script in [backend().resets(), backend().closes()] {
            served.becomes(script);
            for client in [Client::plain(served.addr), Client::plain(served.addr).h2()] {
                let failure = client.post("/", "x").attempt().await.unwrap_err();
                assert!(matches!(failure, Failure::Broken(_)), "{failure}");
            }
        }
    }

    #[tokio::test]
    async fn a_client_that_goes_is_noted_at_once() {
        let served = backend().h1_and_h2().start().await;
        for (script, has_head) in [
            (backend().stalls(), false),
            (backend().delay(seconds(60)), false),
            (backend().openai("m").stalls_after(2), true),
            (backend().large(1 << 30), true),
        ] {
            served.becomes(script);
            for client in [Client::plain(served.addr), Client::plain(served.addr).h2()] {
                served.forget();
                let body = r#"{"stream":true}"#;
                let asking = client.post("/v1/chat/completions", body).within(millis(100)).open();
                let answer = asking.await;
                assert_eq!(answer.is_ok(), has_head);
                if let Ok(mut answer) = answer {
                    answer.chunk().await.unwrap();
                    assert!(served.aborted().is_empty());
                }
                // Here the answer is dropped; where there was none, `open` has given up.
                let gone = Instant::now();
                until(seconds(2), || served.aborted().len() == 1).await;
                let noticed = served.aborted()[0].saturating_duration_since(gone);
                assert!(noticed < seconds(1), "{noticed:?}");
                assert_eq!(served.last().aborted, Some(served.aborted()[0]));
            }
        }
    }

    #[tokio::test]
    async fn a_stopped_backend_refuses_and_serves_again_on_its_port() {
        let served = backend().answers("x").start().await;
        let client = Client::plain(served.addr);
        client.get("/").await;
        let stalled = backend().on("/stalled", backend().stalls()).answers("x");
        served.becomes(stalled);
        let hanging = tokio::spawn(client.get("/stalled").attempt());
        until(seconds(2), || served.calls() == 2).await;

        served.stop();
        assert!(hanging.await.unwrap().is_err());
        let failure = client.get("/").attempt().await.unwrap_err();
        assert!(matches!(failure, Failure::Connect(_)), "{failure}");
        served.restart();
        assert_eq!(client.get("/").await.text(), "x");
        assert_eq!((served.calls(), served.aborted()), (3, vec![]));
    }

    #[tokio::test]
    async fn idle_connections_are_closed_and_busy_ones_are_not() {
        let served = backend()
            .answers("x")
            .delay(millis(150))
            .close_idle_after(millis(50))
            .h1_and_h2()
            .start()
            .await;
        for client in [Client::plain(served.addr), Client::plain(served.addr).h2()] {
            assert_eq!(client.get("/").await.text(), "x");
            assert_eq!(served.open_connections(), 1);
            until(seconds(2), || served.open_connections() == 0).await;
            assert_eq!(client.get("/").await.connection, 1, "the first one was closed");
            until(seconds(2), || served.open_connections() == 0).await;
        }
    }

    #[tokio::test]
    async fn connections_can_be_cut_from_outside() {
        let served = backend().stalls().start().await;
        let reset = tokio::spawn(Client::plain(served.addr).get("/").attempt());
        until(seconds(2), || served.calls() == 1).await;
        served.reset_connections();
        let failure = reset.await.unwrap().unwrap_err();
        assert!(failure.to_string().contains("reset"), "{failure}");
        let closed = tokio::spawn(Client::plain(served.addr).get("/").attempt());
        until(seconds(2), || served.calls() == 2).await;
        served.close_connections();
        let failure = closed.await.unwrap().unwrap_err();
        assert!(failure.to_string().contains("closed before message completed"), "{failure}");
    }

    #[tokio::test]
    async fn scripts_can_differ_by_path_by_turn_and_by_time() {
        let failing = || backend().status(503);
        let served = backend()
            .answers("x")
            .on("/health", backend().status(204))
            .first(2, failing())
            .every(3, backend().status(500))
            .start()
            .await;
        let client = Client::plain(served.addr);
        let mut statuses = Vec::new();
        for _ in 0..6 {
            statuses.push(client.get("/").await.status.as_u16());
            assert_eq!(client.get("/health").await.status, 204);
        }
        assert_eq!(statuses, [503, 503, 500, 200, 200, 500]);
        served.becomes(failing().header("retry-after", "1"));
        let answer = client.get("/health").await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")));
    }

    #[tokio::test]
    async fn models_answer_whole_and_streamed_with_their_usage() {
        let served = backend().openai("gpt-test").pieces(3).gap(millis(20)).start().await;
        let client = Client::plain(served.addr);
        let whole = client.post("/v1/chat/completions", "{}").await.json();
        assert_eq!(whole["choices"][0]["message"]["content"], "gpt-test word1 word2");
        assert_eq!(whole["usage"]["total_tokens"], INPUT_TOKENS + 3);
        let body = json!({ "stream": true, "stream_options": { "include_usage": true } });
        for path in ["/v1/chat/completions", "/v1/completions"] {
            let answer = client.post(path, body.to_string()).await;
            let events = answer.events();
            assert_eq!(events.len(), 6, "{events:?}");
            assert_eq!(events[5].1, "[DONE]");
            let usage: serde_json::Value = serde_json::from_str(&events[4].1).unwrap();
            assert_eq!(usage["usage"]["completion_tokens"], 3);
            assert!(answer.total - answer.first_byte > millis(80), "gaps: {answer:?}");
        }
        assert_eq!(client.get("/v1/models").await.json()["data"][0]["id"], "gpt-test");
        assert_eq!(client.post("/v1/chat/completions", "no").await.status, 400);

        let served = backend().anthropic("claude-test").pieces(2).start().await;
        let client = Client::plain(served.addr);
        let whole = client.post("/v1/messages", "{}").await.json();
        assert_eq!(whole["content"][0]["text"], "claude-test word1");
        let events = client.post("/v1/messages", r#"{"stream":true}"#).await.events();
        let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
        let delta = "content_block_delta";
        assert_eq!(names[..5], ["message_start", "content_block_start", "ping", delta, delta]);
        assert_eq!(names[5..], ["content_block_stop", "message_delta", "message_stop"]);
    }

    #[tokio::test]
    async fn trailers_and_early_hints_arrive() {
        let served = backend()
            .answers("x")
            .trailers(&[("x-checksum", "1")])
            .early_hints(&[("link", "</a>")])
            .start()
            .await;
        let client = Client::plain(served.addr);
        let answer = client.get("/").welcomes_trailers().await;
        assert_eq!((answer.text(), answer.trailer("x-checksum")), ("x".to_owned(), Some("1")));
        let (status, headers) = &answer.informational[0];
        assert_eq!((status.as_u16(), &headers["link"]), (103, &HeaderValue::from_static("</a>")));

        let served = backend().answers("x").trailers(&[("x-checksum", "1")]).h2().start().await;
        let answer = Client::plain(served.addr).h2().get("/").await;
        assert_eq!((answer.text(), answer.trailer("x-checksum")), ("x".to_owned(), Some("1")));
    }

    #[tokio::test]
    async fn a_grpc_echo_answers_while_it_is_asked() {
        let served = backend().grpc_echo().start().await;
        let client = Client::plain(served.addr).h2();
        let (request, upload) = client.post("/S/M", "").uploading();
        upload.send("one").await;
        let mut answer = request.open().await.unwrap();
        assert_eq!(answer.chunk().await.unwrap(), "one");
        upload.send("two").await;
        assert_eq!(answer.chunk().await.unwrap(), "two");
        upload.finish_with(&[("x-end", "1")]).await;
        let answer = answer.rest().await;
        assert_eq!(answer.trailer("grpc-status"), Some("0"));
        let seen = served.last();
        assert_eq!((seen.text(), seen.trailers.unwrap().len()), ("onetwo".to_owned(), 1));

        served.becomes(backend().grpc_error(8, "full"));
        let mut raw = RawClient::plain(served.addr).await;
        raw.start_h2(&[]).await.unwrap();
        raw.send(frames::get(1, "x", "/S/M", &[])).await.unwrap();
        let head = raw.read_frame_on(1, seconds(2)).await.unwrap();
        assert!(head.ends_stream(), "trailers only: {head:?}");
        let answer = client.post("/S/M", "").await;
        assert_eq!(answer.header("grpc-status"), Some("8"));
    }

    #[tokio::test]
    async fn a_websocket_gives_back_what_it_gets() {
        let served = backend().websocket_echo().start().await;
        assert_eq!(Client::plain(served.addr).get("/").await.status, 426);
        let mut raw = RawClient::plain(served.addr).await;
        raw.open_websocket("/ws", &[]).await.unwrap();
        for (opcode, payload, answered) in [
            (websocket::TEXT, b"hello".to_vec(), websocket::TEXT),
            (websocket::BINARY, vec![7; 70_000], websocket::BINARY),
            (websocket::PING, b"p".to_vec(), websocket::PONG),
            (websocket::CLOSE, vec![3, 232], websocket::CLOSE),
        ] {
            raw.send_message(opcode, &payload).await.unwrap();
            let frame = raw.read_message(seconds(2)).await.unwrap();
            assert_eq!((frame.opcode, frame.payload), (answered, payload));
        }
        assert!(raw.is_closed(seconds(2)).await);
        assert!(served.aborted().is_empty());

        let mut raw = RawClient::plain(served.addr).await;
        raw.open_websocket("/ws", &[]).await.unwrap();
        drop(raw);
        until(seconds(2), || served.aborted().len() == 1).await;
    }

    #[tokio::test]
    async fn a_large_answer_is_the_pattern_and_waits_for_its_reader() {
        let served = backend().large(3_000_000).start().await;
        let client = Client::plain(served.addr);
        let answer = client.get("/").await;
        assert_eq!(answer.body.len(), 3_000_000);
        assert!(answer.body.iter().zip(0..).all(|(byte, position)| *byte == pattern(position)));
        assert_eq!(served.last().sent, 3_000_000);

        served.becomes(backend().large(1 << 30));
        let answer = client.get("/").open().await.unwrap();
        until(seconds(2), || served.last().sent > 0).await;
        let mut before = 0;
        until(seconds(5), || {
            let sent = served.last().sent;
            std::mem::replace(&mut before, sent) == sent
        })
        .await;
        assert!(before < 64 << 20, "{before} bytes were taken for nobody");
        drop(answer);
    }

    #[tokio::test]
    async fn a_handler_answers_for_itself_and_a_load_is_only_counted() {
        let served = backend()
            .handler(|seen| async move { Response::new(Bytes::from(seen.text() + "!")) })
            .counts_only()
            .start()
            .await;
        let client = Client::plain(served.addr);
        let asked = (0..50).map(|number| client.post("/", number.to_string()));
        let answers = together(asked).await;
        for (number, answer) in answers.iter().enumerate() {
            assert_eq!(answer.as_ref().unwrap().text(), format!("{number}!"));
        }
        assert_eq!((served.calls(), served.seen().len()), (50, 0));
    }

    #[tokio::test]
    async fn an_early_answer_does_not_wait_for_the_body() {
        let served = backend().status(413).without_reading().start().await;
        let client = Client::plain(served.addr);
        let (request, upload) = client.post("/", "").uploading();
        let answer = request.open().await.unwrap();
        assert_eq!(answer.status(), 413);
        assert_eq!(served.last().body_length, 0);
        drop(upload);
    }
}
