//! How a batch travels: gRPC or HTTP with protobuf, in the clear or over TLS.
//!
//! Over TLS the collector shows a certificate that the named authorities vouch for, or the public
//! ones where none are named. The exporter's own HTTP clients know no TLS, or bring another TLS
//! stack than ours; so HTTP is spoken here.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{
    Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::settings::Settings;

/// Most bytes of an answer that are read: it says little more than how many spans were taken.
const MOST_ANSWER: usize = 1 << 20;

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

/// Why the last request to a collector failed, where the exporter does not repeat it.
pub(super) type Cause = Arc<parking_lot::Mutex<Option<String>>>;

/// What sends batches. To be called inside a runtime.
///
/// # Errors
/// Settings that cannot be used.
pub(super) fn exporter(settings: &Settings) -> Result<(SpanExporter, Cause), String> {
    let cause = Cause::default();
    let named = match &settings.certificate {
        Some(path) => {
            let pem = std::fs::read(path)
                .map_err(|error| format!("{NAMED} {} cannot be read: {error}", path.display()))?;
            Some((authorities(path, &pem)?, pem))
        }
        None => None,
    };
    let builder = SpanExporter::builder();
    let built = if settings.http {
        let tls = match (settings.tls, named) {
            (false, _) => None,
            (true, Some((roots, _))) => Some(connector(roots)?),
            (true, None) => {
                Some(connector(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })?)
            }
        };
        builder
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(&settings.endpoint)
            .with_timeout(settings.answer)
            .with_http_client(Collector::new(tls, settings.answer, Arc::clone(&cause)))
            .build()
    } else {
        let builder =
            builder.with_tonic().with_endpoint(&settings.endpoint).with_timeout(settings.answer);
        let tls = ClientTlsConfig::new();
        match (settings.tls, named) {
            (false, _) => builder,
            (true, Some((_, pem))) => {
                builder.with_tls_config(tls.ca_certificate(Certificate::from_pem(pem)))
            }
            (true, None) => builder.with_tls_config(tls.with_webpki_roots()),
        }
        .build()
    };
    built.map(|exporter| (exporter, cause)).map_err(|error| error.to_string())
}

fn connector(roots: RootCertStore) -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A collector that takes HTTP: one connection, kept from batch to batch. A batch that meets a
/// connection which has just ended fails, and the exporter tries again.
struct Collector {
    tls: Option<TlsConnector>,
    timeout: Duration,
    kept: Mutex<Option<SendRequest<Full<Bytes>>>>,
    cause: Cause,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

impl HttpClient for Collector {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let answer = tokio::time::timeout(self.timeout, self.send(request)).await;
            let answer = answer.unwrap_or_else(|_| Err("no answer in time".into()));
            *self.cause.lock() = answer.as_ref().err().map(ToString::to_string);
            answer
        })
    }
}

impl Collector {
    fn new(tls: Option<TlsConnector>, timeout: Duration, cause: Cause) -> Self {
        Self { tls, timeout, kept: Mutex::default(), cause }
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut parts, body) = request.into_parts();
        let uri = std::mem::take(&mut parts.uri);
        let authority = uri.authority().ok_or("the endpoint names no host")?;
        parts.headers.insert(header::HOST, HeaderValue::from_str(authority.as_str())?);
        if let Some(target) = uri.path_and_query() {
            parts.uri = Uri::from(target.clone());
        }
        let mut kept = self.kept.lock().await;
        let usable = match kept.take() {
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let mut sender = match usable {
            Some(sender) => sender,
            None => self.connect(&uri).await?,
        };
        let response = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MOST_ANSWER).collect().await?.to_bytes();
        *kept = Some(sender);
        Ok(Response::from_parts(parts, body))
    }

    async fn connect(&self, uri: &Uri) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = uri.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let tcp = TcpStream::connect((host, port)).await?;
        match &self.tls {
            None => speak(tcp).await,
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned())?;
                speak(tls.connect(name, tcp).await?).await
            }
        }
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, HttpError> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the connection; its failure is the sender's.
    drop(tokio::task::spawn(connection));
    Ok(sender)
}
