//! A client of the admin API: one request, one connection.
//!
//! Everything that can go wrong on the way becomes a [`Fault`] that says which option mends it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, HeaderValue, IF_MATCH, RETRY_AFTER, USER_AGENT,
};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use policies::api_key::Secret;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::console::Console;
use super::fault::Fault;
use super::reading;

mod pass_on;
mod stream;

pub(crate) use stream::{Opened, Stream};

/// Where a gateway has its admin API if nobody says otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8444";

/// All paths of the API start with this.
const BASE: &str = "/api/v1";

/// Longest wait for a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(5);

/// Longest wait for a whole answer. A change waits for the disk, nothing waits for a model.
const ANSWER: Duration = Duration::from_secs(60);

/// Largest answer, in bytes.
const LARGEST: usize = 32 << 20;

/// The key of whoever runs the command; never shown.
pub(crate) struct Token(Arc<Secret>);

impl Token {
    /// Takes over `text`.
    pub(crate) fn new(text: String) -> Self {
        Self(Arc::new(Secret::new(text)))
    }

    /// Whether there is nothing in it, as with `WEIR_TOKEN=`.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.expose().is_empty()
    }
}

impl Clone for Token {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        // A line end comes along easily, as in WEIR_TOKEN="$(cat admin.key)\r".
        Self::new(text.trim().to_owned())
    }
}

/// What the API said.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// The body as it came.
    pub(crate) body: Bytes,
    /// The body, read; `Null` if it is empty.
    pub(crate) json: Value,
    /// The revision in its `ETag`.
    pub(crate) revision: Option<u64>,
    /// From the request's first byte to the answer's last.
    pub(crate) took: Duration,
    retry_after: Option<String>,
}

/// One call, before it is made.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    method: Method,
    path: &'a str,
    body: Option<Value>,
    if_match: Option<u64>,
    /// Whether a good answer is text, and no JSON.
    is_text: bool,
}

impl<'a> Call<'a> {
    /// Reads `path`, which starts after the base.
    pub(crate) fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, body: None, if_match: None, is_text: false }
    }

    /// Sends `body` to `path` with `method`.
    pub(crate) fn write(method: Method, path: &'a str, body: Option<Value>) -> Self {
        Self { method, path, body, if_match: None, is_text: false }
    }

    /// A good answer is text.
    pub(crate) fn text(mut self) -> Self {
        self.is_text = true;
        self
    }

    /// Only if `revision` is still the one in force.
    pub(crate) fn if_match(mut self, revision: u64) -> Self {
        self.if_match = Some(revision);
        self
    }
}

/// The admin API of one gateway.
pub(crate) struct AdminClient {
    /// As it was given, without a slash at the end.
    url: String,
    authority: String,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    token: Option<Token>,
}

impl fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminClient").field("url", &self.url).finish_non_exhaustive()
    }
}

impl AdminClient {
    /// The API at `url`, asked with `token`; `ca` is the authority to trust for `https`. What is empty, as
    /// from a variable that is set to nothing, is as good as not given.
    pub(crate) fn new(url: &str, token: Option<Token>, ca: Option<&Path>) -> Result<Self, Fault> {
        let wrong = |why: &str| {
            Fault::usage(
                format!("the admin address {why}"),
                format!("write --admin or WEIR_ADMIN as in {DEFAULT_URL}"),
            )
        };
        let url = match url.trim().trim_end_matches('/') {
            "" => DEFAULT_URL,
            url => url,
        };
        let token = token.filter(|token| !token.is_empty());
        let ca = ca.filter(|path| !path.as_os_str().is_empty());
        let uri: Uri = url.parse().map_err(|_| wrong("is not a URL"))?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err(wrong("must start with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("must not hold a name or a password: the key goes into WEIR_TOKEN"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("must end after the port"));
        }
        // An IPv6 address stands in brackets here, and without them everywhere else.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        if !https && !is_this_machine(&host) {
            return Err(Fault::usage(
                format!("http:// to {host} would send the key in the clear"),
                "use https:// (the gateway then needs [admin.tls]); http is for this machine only",
            ));
        }
        let tls = if https { Some(tls(&host, ca)?) } else { None };
        Ok(Self {
            url: url.to_owned(),
            authority: authority.as_str().to_owned(),
            host,
            port,
            tls,
            token,
        })
    }

    /// Makes `call` and waits for the answer, telling that it does if that takes long. Whatever is
    /// not a success is a fault that begins with `cannot` and `aim`.
    pub(crate) fn ask(
        &self,
        call: Call<'_>,
        aim: &str,
        console: &mut Console,
    ) -> Result<Answer, Fault> {
        let answer = self.ask_anyway(call, console)?;
        if answer.status.is_success() { Ok(answer) } else { Err(self.refused(&answer, aim)) }
    }

    /// The same, but a refusal is an answer too.
    pub(crate) fn ask_anyway(
        &self,
        call: Call<'_>,
        console: &mut Console,
    ) -> Result<Answer, Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Fault::failed(format!("cannot start: {error}"), ""))?;
        runtime.block_on(async {
            let begun = Instant::now();
            let mut answer = std::pin::pin!(self.send(call));
            let mut told = false;
            loop {
                tokio::select! {
                    answer = &mut answer => {
                        if told {
                            console.progress_ends();
                        }
                        return answer;
                    }
                    () = tokio::time::sleep(Duration::from_secs(1)) => {
                        told = true;
                        console.progress(&format!("waiting for {}", self.url), begun.elapsed());
                    }
                }
            }
        })
    }

    /// Makes `call`. Any status is an answer; a fault is when there is none.
    pub(crate) async fn send(&self, call: Call<'_>) -> Result<Answer, Fault> {
        let begun = Instant::now();
        let is_text = call.is_text;
        let request = self.request(call)?;
        let connected =
            tokio::time::timeout(CONNECT, TcpStream::connect((self.host.as_str(), self.port)));
        let tcp = match connected.await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => return Err(self.unreachable(&reason(&error))),
            Err(_) => return Err(self.unreachable("no answer within 5 s")),
        };
        // A request is one small write; there is nothing to gather.
        let _ = tcp.set_nodelay(true);
        let answered = async {
            match &self.tls {
                None => self.exchange(tcp, request, is_text).await,
                Some((tls, name)) => match tls.connect(name.clone(), tcp).await {
                    Ok(stream) => self.exchange(stream, request, is_text).await,
                    Err(error) => Err(self.untrusted(&error)),
                },
            }
        };
        let mut answer = tokio::time::timeout(ANSWER, answered).await.map_err(|_| {
            Fault::failed(
                format!("the admin API at {} did not answer within 60 s", self.url),
                "whether a change was made is not known: look with `weir status` before trying again",
            )
        })??;
        answer.took = begun.elapsed();
        Ok(answer)
    }

    fn request(&self, call: Call<'_>) -> Result<Request<Full<Bytes>>, Fault> {
        let odd = |error: http::Error| Fault::usage(format!("cannot ask for that: {error}"), "");
        let mut request = Request::builder()
            .uri(format!("{BASE}{}", call.path))
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            let text = format!("Bearer {}", token.0.expose());
            let mut value = HeaderValue::try_from(text).map_err(|_| {
                Fault::usage("the token has characters that no key has", TOKEN_MEND)
            })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        if call.method != Method::GET {
            // So that the same command, sent twice by a network, is one change.
            let (high, low) = (fastrand::u64(..), fastrand::u64(..));
            request = request.header("idempotency-key", format!("{high:016x}{low:016x}"));
        }
        if let Some(revision) = call.if_match {
            request = request.header(IF_MATCH, format!("\"{revision}\""));
        }
        let body = match call.body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        request.method(call.method).body(Full::new(body)).map_err(odd)
    }

    async fn exchange<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
        is_text: bool,
    ) -> Result<Answer, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |error: hyper::Error| self.no_http(&error);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(failed)?;
            let (head, body) = response.into_parts();
            self.read(head, body, is_text).await
        };
        // The connection moves the bytes; it ends first only when something is wrong, and then the
        // exchange knows what.
        let driven = async {
            let _ = connection.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = exchange => answer,
            () = driven => Err(self.unreachable("the connection was closed")),
        }
    }

    /// A whole answer; how long it took is for the caller to say.
    async fn read(
        &self,
        head: http::response::Parts,
        body: Incoming,
        is_text: bool,
    ) -> Result<Answer, Fault> {
        let body = Limited::new(body, LARGEST).collect().await.map_err(|error| {
            Fault::failed(format!("the answer of {} broke off: {error}", self.url), "")
        })?;
        let body = body.to_bytes();
        let is_no_json = body.is_empty() || (is_text && head.status.is_success());
        let json = if is_no_json { Some(Value::Null) } else { serde_json::from_slice(&body).ok() };
        let Some(json) = json else {
            return Err(Fault::failed(
                format!("{} did not answer like the admin API ({})", self.url, head.status),
                "name the admin address, not the edge, with --admin URL or WEIR_ADMIN",
            ));
        };
        let header =
            |name| head.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let revision = header(ETAG).and_then(|etag| etag.trim_matches('"').parse().ok());
        let retry_after = header(RETRY_AFTER).map(str::to_owned);
        Ok(Answer { status: head.status, body, json, revision, took: Duration::ZERO, retry_after })
    }

    /// Where it is, as it was given.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The fault of a refusal.
    pub(crate) fn refused(&self, answer: &Answer, aim: &str) -> Fault {
        if answer.status == StatusCode::UNAUTHORIZED {
            let what = match self.token {
                Some(_) => format!("the admin API at {} does not accept this token", self.url),
                None => format!("the admin API at {} asks for a token", self.url),
            };
            return Fault::failed(what, TOKEN_MEND);
        }
        let error = answer.json.get("error").unwrap_or(&Value::Null);
        let message = reading::text(error, "message")
            .map_or_else(|| answer.status.to_string(), str::to_owned);
        let mut what = format!("cannot {aim}: {message}");
        for more in reading::list(error, "details").iter().filter_map(|of| beyond(&message, of)) {
            what.push_str(&format!("\n  {more}"));
        }
        let mut mend = String::new();
        if reading::text(error, "type") == Some("no_route") {
            mend.push_str(
                "this is an edge: name the admin address with --admin URL or WEIR_ADMIN\n",
            );
        }
        if answer.status == StatusCode::FORBIDDEN {
            mend.push_str("the role of this token does not allow it; give another with --token or WEIR_TOKEN\n");
        }
        if let Some(wait) = &answer.retry_after {
            mend.push_str(&format!("try again in {wait} s\n"));
        }
        if let Some(id) = reading::text(error, "request_id") {
            mend.push_str(&format!("status {}, request {id}", answer.status.as_u16()));
        }
        match answer.status {
            // What was asked for makes no sense, now or later.
            StatusCode::BAD_REQUEST => Fault::usage(what, mend.trim_end()),
            _ => Fault::failed(what, mend.trim_end()),
        }
    }

    fn unreachable(&self, why: &str) -> Fault {
        Fault::failed(
            format!("cannot reach the admin API at {}: {why}", self.url),
            "is the gateway running? name its admin address with --admin URL or WEIR_ADMIN",
        )
    }

    fn untrusted(&self, error: &io::Error) -> Fault {
        let is_ca = error.to_string().contains("certificate");
        let mend = if is_ca {
            "name the certificate authority of the gateway with --ca FILE or WEIR_CA"
        } else {
            "does the admin address speak TLS? on this machine it may be http://"
        };
        Fault::failed(format!("no safe connection to {}: {error}", self.url), mend)
    }

    fn no_http(&self, error: &hyper::Error) -> Fault {
        Fault::failed(
            format!("{} does not answer in HTTP: {error}", self.url),
            "is this the admin address, and is it http or https? see --admin and WEIR_ADMIN",
        )
    }
}

/// What `detail` says that `message` does not.
fn beyond(message: &str, detail: &Value) -> Option<String> {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match (reading::text(detail, "message"), detail.as_object()) {
        (None, Some(members)) => {
            let is_told = |value: &Value| value.as_str().is_some_and(|text| message.contains(text));
            let rest = members.iter().filter(|(_, value)| !is_told(value));
            let rest: Vec<String> =
                rest.map(|(name, value)| format!("{name}: {}", plain(value))).collect();
            (!rest.is_empty()).then(|| rest.join(", "))
        }
        (said, _) => {
            let said = said.map_or_else(|| plain(detail), str::to_owned);
            let is_told = message == said || message.contains(&format!(": {said}"));
            (!is_told).then_some(said)
        }
    }
}

/// How a missing or wrong token is mended.
const TOKEN_MEND: &str = "give a key with --token or WEIR_TOKEN; the first one was shown when the \
                          gateway first started, `weir key create` makes others";

/// `text` as one segment of a path, or as a value in a query.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte))
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// How a connection is made safe, and for which name.
fn tls(host: &str, ca: Option<&Path>) -> Result<(TlsConnector, ServerName<'static>), Fault> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let unusable = |why: String| {
                let what =
                    format!("cannot use the certificate authority in {}: {why}", path.display());
                Fault::usage(what, "--ca and WEIR_CA name a PEM file with certificates")
            };
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
                roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(unusable("it has no certificate".to_owned()));
            }
        }
    }
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Fault::usage(format!("{host} is no name for a certificate"), ""))?;
    let config = client_config(roots)
        .map_err(|error| Fault::failed(format!("cannot start TLS: {error}"), ""))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// TLS that trusts `roots` and nobody else.
pub(crate) fn client_config(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Why a connection could not be made, in words that do not depend on the system.
fn reason(error: &io::Error) -> String {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of input and output errors grow")]
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        AdminClient::new(url, None, None)
            .map(|_| "accepted".to_owned())
            .unwrap_or_else(|fault| fault.what)
    }

    #[test]
    fn an_admin_address_is_checked_before_a_key_is_sent() {
        for good in [
            "http://127.0.0.1:8444",
            "http://localhost:8444/",
            "http://[::1]:8444",
            "https://weir.example",
        ] {
            assert_eq!(refusal(good), "accepted", "{good}");
        }
        assert_eq!(
            refusal("127.0.0.1:8444"),
            "the admin address must start with http:// or https://"
        );
        assert_eq!(refusal("ftp://x"), "the admin address must start with http:// or https://");
        assert_eq!(
            refusal("http://weir.example"),
            "http:// to weir.example would send the key in the clear"
        );
        assert_eq!(
            refusal("http://me:word@127.0.0.1"),
            "the admin address must not hold a name or a password: the key goes into WEIR_TOKEN"
        );
        assert_eq!(
            refusal("http://127.0.0.1:8444/api"),
            "the admin address must end after the port"
        );
    }

    #[test]
    fn a_unit_is_one_segment_whatever_is_in_it() {
        assert_eq!(escaped("a/b c&ü"), "a%2Fb%20c%26%C3%BC");
    }

    #[test]
    fn nothing_is_told_twice() {
        let message = "the ramp cannot be started: variant: say which: canary, next";
        let detail =
            serde_json::json!({ "field": "variant", "message": "say which: canary, next" });
        assert_eq!(beyond(message, &detail), None);
        let until = serde_json::json!({ "until": "2026-11-30T17:35:01Z", "rollbacks": 2 });
        let message = "it may begin again at 2026-11-30T17:35:01Z";
        assert_eq!(beyond(message, &until).as_deref(), Some("rollbacks: 2"));
        assert_eq!(beyond("nothing is done", &"one".into()).as_deref(), Some("one"));
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = Token::from("weir_secret\n".to_owned());
        assert_eq!(format!("{token:?}"), "Token(***)");
        assert_eq!(token.0.expose(), "weir_secret");
    }
}
