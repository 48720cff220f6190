//! An OpenTelemetry collector that keeps what it gets: OTLP over HTTP or gRPC, plain or over TLS.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::Pair;
use crate::certificates::server_config;

/// A collector under way.
#[derive(Debug)]
pub struct Collector {
    /// Where to send spans to.
    pub endpoint: String,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Collector {
    /// Plain HTTP.
    pub async fn start() -> Self {
        Self::listen(false, None).await
    }

    /// HTTP over TLS.
    pub async fn https(pair: &Pair) -> Self {
        Self::listen(false, Some(pair)).await
    }

    /// gRPC over TLS.
    pub async fn grpcs(pair: &Pair) -> Self {
        Self::listen(true, Some(pair)).await
    }

    async fn listen(grpc: bool, pair: Option<&Pair>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = if pair.is_some() { "https" } else { "http" };
        let path = if grpc { "" } else { "/v1/traces" };
        let bodies: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let protocol = if grpc { "h2" } else { "http/1.1" };
        let tls = pair.map(|pair| TlsAcceptor::from(server_config(pair, None, &[protocol])));
        let kept = Arc::clone(&bodies);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (kept, tls) = (Arc::clone(&kept), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(grpc, stream, kept).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(grpc, stream, kept).await;
                            }
                        }
                    }
                });
            }
        });
        Self { endpoint: format!("{scheme}://127.0.0.1:{port}{path}"), bodies }
    }

    /// `[telemetry]` for it.
    #[must_use]
    pub fn telemetry(&self, ratio: f64, access_log: &str) -> String {
        format!(
            "[telemetry]\naccess_log = \"{access_log}\"\notlp = \"{}\"\n\
             sample = {{ ratio = {ratio:?}, errors = false }}\n",
            self.endpoint
        )
    }

    /// Every batch so far, as it came.
    #[must_use]
    pub fn bodies(&self) -> Vec<Bytes> {
        self.bodies.lock().clone()
    }

    /// Every span so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.bodies()
            .iter()
            .map(|body| ExportTraceServiceRequest::decode(&**body).unwrap())
            .flat_map(|request| request.resource_spans)
            .flat_map(|of_resource| of_resource.scope_spans)
            .flat_map(|of_scope| of_scope.spans)
            .collect()
    }
}

async fn serve(
    grpc: bool,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    kept: Arc<Mutex<Vec<Bytes>>>,
) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let kept = Arc::clone(&kept);
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            if !grpc {
                assert_eq!(path, "/v1/traces");
                kept.lock().push(body);
                return Ok::<_, Infallible>(Response::new(Full::default().boxed()));
            }
            assert!(path.ends_with("TraceService/Export"), "{path}");
            // One message: not compressed, its length, itself.
            kept.lock().push(body.slice(5..));
            Ok(taken())
        }
    });
    let stream = TokioIo::new(stream);
    if grpc {
        let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = http2.serve_connection(stream, service).await;
    } else {
        let http1 = hyper::server::conn::http1::Builder::new();
        let _ = http1.serve_connection(stream, service).await;
    }
}

/// gRPC's answer to spans that were taken: an empty message, and status 0.
fn taken() -> Response<BoxBody<Bytes, Infallible>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from_static(&[0; 5]));
    let mut answer = Response::new(body.with_trailers(async move { Some(Ok(trailers)) }).boxed());
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    answer
}
