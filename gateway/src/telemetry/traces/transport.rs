//! How a batch travels: gRPC or HTTP with protobuf, in the clear or over TLS.
//!
//! Over TLS the collector shows a certificate that the named authorities vouch for, or the public
//! ones where none are named. A batch comes as the bytes that are sent, which no OTLP library takes;
//! so both are spoken here, on hyper: each is one request and one answer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::answer;
use super::retry::{Destination, Refused};
use super::settings::Settings;

/// Most bytes of an answer that are read: it says little more than how many spans were taken.
const MOST_ANSWER: usize = 1 << 20;
/// The call of OTLP over gRPC.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// Who sends, unless `OTEL_EXPORTER_OTLP_HEADERS` says otherwise.
const NAME: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Whether spans can be sent to `endpoint`, as far as can be told without asking the collector.
/// `variable` answers for the environment, `read` gives a file or why it cannot be read, in words
/// that follow its name.
///
/// # Errors
/// What is wrong, in words for whoever configured it.
pub fn check(
    endpoint: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    read: &mut dyn FnMut(&Path) -> Result<Vec<u8>, String>,
) -> Result<(), String> {
    let settings = Settings::of(endpoint, variable)?;
    if let Some(path) = &settings.certificate {
        let pem = read(path).map_err(|why| format!("{NAMED} {} {why}", path.display()))?;
        let _ = authorities(path, &pem)?;
    }
    Ok(())
}

const NAMED: &str = "the file that OTEL_EXPORTER_OTLP_CERTIFICATE names:";

/// The authorities in a file.
fn authorities(path: &Path, pem: &[u8]) -> Result<RootCertStore, String> {
    let unusable = |why: &str| format!("{NAMED} {} {why}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        // What is wrong is not repeated: the file may be a key.
        let certificate = certificate.map_err(|_| unusable("is not PEM"))?;
        roots.add(certificate).map_err(|_| unusable("holds a malformed certificate"))?;
    }
    if roots.is_empty() {
        return Err(unusable("holds no certificate"));
    }
    Ok(roots)
}

/// Where batches go, by `settings`.
///
/// # Errors
/// Settings that cannot be used.
pub(super) fn collector(settings: &Settings) -> Result<Collector, String> {
    let roots = match &settings.certificate {
        _ if !settings.tls => None,
        Some(path) => {
            let pem = std::fs::read(path)
                .map_err(|error| format!("{NAMED} {} cannot be read: {error}", path.display()))?;
            Some(authorities(path, &pem)?)
        }
        None => Some(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }),
    };
    let tls = roots.map(|roots| connector(roots, settings.http)).transpose()?;
    Collector::new(settings, tls)
}

fn connector(roots: RootCertStore, http1: bool) -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![if http1 { b"http/1.1".to_vec() } else { b"h2".to_vec() }];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A collector: one connection, kept from batch to batch. A batch that meets a connection which has
/// just ended fails, and is sent again.
pub(super) struct Collector {
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    grpc: bool,
    // What every request says.
    uri: Uri,
    headers: HeaderMap,
    timeout: Duration,
    kept: Option<Sender>,
}

enum Sender {
    Http(http1::SendRequest<Full<Bytes>>),
    Grpc(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    /// Whether the connection still stands.
    async fn stands(&mut self) -> bool {
        match self {
            Self::Http(sender) => sender.ready().await.is_ok(),
            Self::Grpc(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http(sender) => sender.send_request(request).await,
            Self::Grpc(sender) => sender.send_request(request).await,
        }
    }
}

/// No answer, with the causes that an error keeps to itself.
fn broken(error: &(dyn std::error::Error + 'static)) -> Refused {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        why = format!("{why}: {error}");
        cause = error.source();
    }
    Refused::for_now(why)
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Destination for Collector {
    async fn send(&mut self, batch: Bytes) -> Result<(), Refused> {
        let answer = tokio::time::timeout(self.timeout, self.ask(batch)).await;
        answer.unwrap_or_else(|_| Err(Refused::for_now("no answer in time")))
    }
}

impl Collector {
    fn new(settings: &Settings, tls: Option<TlsConnector>) -> Result<Self, String> {
        let unusable = |why: &str| format!("{:?} {why}", settings.endpoint);
        let uri: Uri =
            settings.endpoint.parse().map_err(|error| unusable(&format!("is no URL: {error}")))?;
        let host = uri.host().ok_or_else(|| unusable("names no host"))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = uri.port_u16().unwrap_or(if settings.tls { 443 } else { 80 });
        let authority = uri.authority().map_or("", Authority::as_str);
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let scheme = if settings.tls { "https" } else { "http" };
        let mut headers = settings.headers.clone();
        headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(NAME));
        let uri = if settings.http {
            let host = HeaderValue::from_str(authority).map_err(|error| error.to_string())?;
            headers.insert(header::HOST, host);
            let kind = HeaderValue::from_static("application/x-protobuf");
            headers.insert(header::CONTENT_TYPE, kind);
            uri.path_and_query().cloned().map(Uri::from).ok_or_else(|| unusable("has no path"))?
        } else {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            let kind = HeaderValue::from_static("application/grpc");
            headers.insert(header::CONTENT_TYPE, kind);
            let built = Uri::builder().scheme(scheme).authority(authority).path_and_query(EXPORT);
            built.build().map_err(|error| error.to_string())?
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            tls,
            grpc: !settings.http,
            uri,
            headers,
            timeout: settings.answer,
            kept: None,
        })
    }

    async fn ask(&mut self, batch: Bytes) -> Result<(), Refused> {
        let mut sender = self.sender().await.map_err(|error| broken(&*error))?;
        let mut request = Request::new(Full::new(batch));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let response = sender.send(request).await.map_err(|error| broken(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MOST_ANSWER).collect().await;
        let body = body.map_err(|error| broken(&*error))?;
        self.kept = Some(sender);
        if self.grpc {
            answer::of_grpc(head.status, &head.headers, body.trailers())
        } else {
            answer::of_http(head.status, &head.headers)
        }
    }

    /// The kept connection if it still stands, else a new one.
    async fn sender(&mut self) -> Result<Sender, Error> {
        if let Some(mut sender) = self.kept.take()
            && sender.stands().await
        {
            return Ok(sender);
        }
        let tcp = TcpStream::connect((&*self.host, self.port)).await?;
        match &self.tls {
            None => self.speak(tcp).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone())?;
                self.speak(tls.connect(name, tcp).await?).await
            }
        }
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Sender, Error> {
        // The task ends with the connection; its failure is the sender's.
        if self.grpc {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            drop(tokio::task::spawn(connection));
            return Ok(Sender::Grpc(sender));
        }
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        drop(tokio::task::spawn(connection));
        Ok(Sender::Http(sender))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;

    use hyper::service::service_fn;
    use tokio::net::TcpListener;
    use tokio::sync::{Notify, mpsc};

    use super::*;
    use crate::telemetry::traces::retry;

    /// Answers one request as told and ends the connection.
    async fn answer_one(
        grpc: bool,
        stream: TcpStream,
        refuse: bool,
        received: mpsc::UnboundedSender<(HeaderMap, Bytes)>,
    ) {
        let answered = Arc::new(Notify::new());
        let of_service = Arc::clone(&answered);
        let service = service_fn(move |request: Request<Incoming>| {
            let (received, answered) = (received.clone(), Arc::clone(&of_service));
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                received.send((head.headers, body)).unwrap();
                answered.notify_one();
                let mut answer = Response::new(Full::<Bytes>::default());
                if grpc {
                    let status = HeaderValue::from_static(if refuse { "14" } else { "0" });
                    answer.headers_mut().insert("grpc-status", status);
                } else if refuse {
                    *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let stream = TokioIo::new(stream);
        if grpc {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let mut connection = pin!(builder.serve_connection(stream, service));
            tokio::select! {
                _ = &mut connection => return,
                () = answered.notified() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        } else {
            let mut builder = hyper::server::conn::http1::Builder::new();
            let _ = builder.keep_alive(false).serve_connection(stream, service).await;
        }
    }

    async fn sent_through_trouble(grpc: bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, mut received) = mpsc::unbounded_channel();
        drop(tokio::task::spawn(async move {
            for turn in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                // The first connection breaks off, the second is refused.
                if turn > 0 {
                    answer_one(grpc, stream, turn == 1, sender.clone()).await;
                }
            }
        }));
        let settings = Settings::of(&format!("http://127.0.0.1:{port}"), &|name| match name {
            "OTEL_EXPORTER_OTLP_PROTOCOL" if !grpc => Some("http/protobuf".into()),
            "OTEL_EXPORTER_OTLP_HEADERS" => Some("x-team=a%20b".into()),
            _ => None,
        });
        let mut collector = collector(&settings.unwrap()).unwrap();
        for batch in ["first", "second"] {
            let batch = Bytes::from_static(batch.as_bytes());
            let sent = retry::send(&mut collector, &batch, Duration::from_secs(10)).await;
            assert_eq!(sent, Ok(()), "{batch:?}");
        }
        let mut batches = Vec::new();
        while let Ok((headers, batch)) = received.try_recv() {
            assert_eq!(headers["x-team"], "a b");
            assert_eq!(headers[header::USER_AGENT], NAME);
            batches.push(batch);
        }
        assert_eq!(batches, ["first", "first", "second"]);
    }

    #[tokio::test]
    async fn a_collector_that_breaks_off_and_refuses_for_now_gets_every_batch() {
        sent_through_trouble(false).await;
        sent_through_trouble(true).await;
    }
}
