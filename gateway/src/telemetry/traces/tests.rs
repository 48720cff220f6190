//! Spans on their way, against collectors of both kinds, in the clear and over TLS.

use std::convert::Infallible;
use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1 as proto;
use policies::outcome::{Flag, Outcome};
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::retry::Refused;
use super::settings::BATCH;
use super::*;
use crate::clock;
use crate::ids::RequestId;
use crate::recorder::row::{Attempt, Micros, SpanFacts};

fn first_attempt() -> Attempt {
    Attempt {
        span_id: [0x34; 8],
        backend: Some("vllm"),
        endpoint: Some("10.1.2.4:8000".parse().unwrap()),
        reused: true,
        failed: Some(Flag::UpstreamClosed),
        began: Micros::from_micros(20),
        ended: Micros::from_micros(50),
    }
}

/// A request that was answered in its second attempt.
pub(super) fn served() -> Row {
    Row {
        request_id: RequestId::new(1_763_837_221_123_456_789, 7).0,
        seq: 41,
        started_unix_nanos: 1_763_837_221_123_456_789,
        trace_id: [0xab; 16],
        span_id: [0xcd; 8],
        parent_span_id: [0xef; 8],
        attempt_span_id: [0x12; 8],
        sampled: true,
        peer: "[::ffff:10.0.0.7]:51234".parse().unwrap(),
        client: "192.0.2.9".parse().unwrap(),
        tls_version: "1.3",
        user_agent: "OpenAI/Python 1.99.0".into(),
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        host: "models.example.com".into(),
        pattern: Some("/v1/chat/completions"),
        experiment: Some("int8"),
        revision: 12,
        variant: Some("canary"),
        served: Some("control"),
        reason: "split",
        unit_hash: 0x0123_4567_89ab_cdef,
        backend: Some("vllm-int8"),
        endpoint: Some("10.1.2.3:8000".parse().unwrap()),
        attempts: 2,
        upstream_status: 200,
        reused: true,
        status: 200,
        outcome: Some(Outcome::Ok),
        stream: true,
        complete: true,
        request_model: Some("llama-3"),
        response_model: "llama-3-int8".into(),
        input_tokens: Some(512),
        output_tokens: Some(309),
        finish_reason: "stop".into(),
        t_first_byte: Micros::from_micros(84_120),
        t_first_token: Micros::from_micros(84_151),
        t_total: Micros::from_micros(2_184_151),
        t_gateway: Micros::from_micros(61),
        spans: SpanFacts {
            began: Micros::from_micros(61),
            earlier: vec![first_attempt()],
            ..SpanFacts::default()
        },
        ..Row::default()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

type Answer = http::Response<BoxBody<Bytes, Infallible>>;

/// A collector that takes one kind of OTLP and hands over what it was sent.
async fn collector(
    grpc: bool,
    tls: Option<TlsAcceptor>,
) -> (u16, mpsc::Receiver<ExportTraceServiceRequest>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = mpsc::channel(16);
    drop(tokio::task::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (sender, tls) = (sender.clone(), tls.clone());
            drop(tokio::task::spawn(async move {
                match tls {
                    None => serve(grpc, stream, sender).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(grpc, stream, sender).await;
                        }
                    }
                }
            }));
        }
    }));
    (port, receiver)
}

async fn serve(
    grpc: bool,
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    sender: mpsc::Sender<ExportTraceServiceRequest>,
) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let sender = sender.clone();
        async move { Ok::<_, Infallible>(collect(grpc, request, sender).await) }
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

/// A certificate for this machine that vouches for itself, and who takes connections with it.
fn vouched(grpc: bool) -> (String, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![if grpc { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    (pem, TlsAcceptor::from(Arc::new(config)))
}

async fn collect(
    grpc: bool,
    request: http::Request<Incoming>,
    sender: mpsc::Sender<ExportTraceServiceRequest>,
) -> Answer {
    let path = request.uri().path().to_owned();
    let kind = request.headers()["content-type"].to_str().unwrap().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if grpc {
        assert_eq!(path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
        assert_eq!(kind, "application/grpc");
        // One message: not compressed, its length, itself.
        let length = u32::from_be_bytes(body[1..5].try_into().unwrap());
        assert_eq!((body[0], length as usize), (0, body.len() - 5));
        sender.send(ExportTraceServiceRequest::decode(body.slice(5..)).unwrap()).await.unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let body = Full::new(Bytes::from_static(&[0; 5]));
        let body = body.with_trailers(async move { Some(Ok(trailers)) });
        let mut answer = http::Response::new(body.boxed());
        let grpc = http::HeaderValue::from_static("application/grpc");
        answer.headers_mut().insert("content-type", grpc);
        answer
    } else {
        assert_eq!((&*path, &*kind), ("/v1/traces", "application/x-protobuf"));
        sender.send(ExportTraceServiceRequest::decode(body).unwrap()).await.unwrap();
        http::Response::new(BodyExt::boxed(Full::default()))
    }
}

fn text_of(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|kv| kv.key == key).and_then(|kv| kv.value.clone());
    match found.and_then(|value| value.value) {
        Some(Any::StringValue(text)) => text,
        other => format!("{other:?}"),
    }
}

/// Sends three requests to a collector; what it got, in one batch.
fn sent(settings: &Settings, runtime: &tokio::runtime::Runtime) -> Arc<SpanCounts> {
    let counts = Arc::<SpanCounts>::default();
    let collector = transport::collector(settings).unwrap();
    let resource = resource([0x5a; 16]);
    let (sender, shutdown) = start(collector, settings, runtime.handle(), counts, &resource);
    assert!(sender.send(&served()));
    assert!(sender.send(&Row { attempts: 0, ..served() }));
    shutdown.shutdown();
    sender.counts()
}

fn exported(grpc: bool, tls: bool) {
    let runtime = runtime();
    let (pem, acceptor) = vouched(grpc);
    let (port, mut received) = runtime.block_on(collector(grpc, tls.then_some(acceptor)));
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    let variable = |name: &str| {
        (name == "OTEL_EXPORTER_OTLP_CERTIFICATE").then(|| ca.to_str().unwrap().to_owned())
    };
    let path = if grpc { "" } else { "/v1/traces" };
    let scheme = if tls { "https" } else { "http" };
    let settings = Settings::of(&format!("{scheme}://127.0.0.1:{port}{path}"), &variable).unwrap();
    let counts = sent(&settings, &runtime);
    assert_eq!(counts.exported.load(Relaxed), 4);
    assert_eq!(counts.shutdown.load(Relaxed), 0);

    let request = received.try_recv().unwrap();
    let [of_resource] = &*request.resource_spans else { panic!("{request:?}") };
    assert_eq!(of_resource.schema_url, SCHEMA_URL);
    let resource = &of_resource.resource.as_ref().unwrap().attributes;
    assert_eq!(text_of(resource, "service.name"), "weir");
    assert_eq!(text_of(resource, "service.instance.id"), "5a".repeat(16));
    assert_eq!(text_of(resource, "telemetry.sdk.language"), "rust");
    let [of_scope] = &*of_resource.scope_spans else { panic!("{request:?}") };
    assert_eq!(of_scope.schema_url, SCHEMA_URL);
    let [server, first, client, alone] = &*of_scope.spans else { panic!("{request:?}") };
    assert_eq!(server.trace_id, [0xab; 16]);
    assert_eq!((&*server.span_id, &*server.parent_span_id), (&[0xcd; 8][..], &[0xef; 8][..]));
    assert_eq!((&*first.span_id, &*first.parent_span_id), (&[0x34; 8][..], &[0xcd; 8][..]));
    assert_eq!((&*client.span_id, &*client.parent_span_id), (&[0x12; 8][..], &[0xcd; 8][..]));
    assert_eq!(
        (server.kind(), client.kind(), alone.kind()),
        (proto::span::SpanKind::Server, proto::span::SpanKind::Client, server.kind())
    );
    assert_eq!(server.start_time_unix_nano, 1_763_837_221_123_456_789);
    assert_eq!(server.end_time_unix_nano - server.start_time_unix_nano, 2_184_151_000);
    assert_eq!(server.flags & 1, 1, "sampled");
    assert_eq!(text_of(&server.attributes, "http.route"), "/v1/chat/completions");
    assert_eq!(text_of(&client.attributes, "weir.backend"), "vllm-int8");
    assert!(received.try_recv().is_err(), "one batch");
}

#[test]
fn a_batch_arrives_over_http() {
    exported(false, false);
}

#[test]
fn a_batch_arrives_over_grpc() {
    exported(true, false);
}

#[test]
fn a_batch_arrives_over_http_and_tls() {
    exported(false, true);
}

#[test]
fn a_batch_arrives_over_grpc_and_tls() {
    exported(true, true);
}

/// Spans tell of the inside of a system: nobody may take a collector's place.
#[test]
fn a_collector_that_nobody_vouches_for_gets_nothing() {
    for grpc in [false, true] {
        let runtime = runtime();
        let (_, acceptor) = vouched(grpc);
        let (port, mut received) = runtime.block_on(collector(grpc, Some(acceptor)));
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, vouched(grpc).0).unwrap();
        for named in [Some(ca.to_str().unwrap()), None] {
            let variable = |name: &str| match name {
                "OTEL_EXPORTER_OTLP_CERTIFICATE" => named.map(str::to_owned),
                "OTEL_EXPORTER_OTLP_PROTOCOL" if !grpc => Some("http/protobuf".to_owned()),
                "OTEL_BSP_EXPORT_TIMEOUT" => Some("1000".to_owned()),
                _ => None,
            };
            let settings = Settings::of(&format!("https://127.0.0.1:{port}"), &variable).unwrap();
            let counts = sent(&settings, &runtime);
            assert_eq!(counts.export_failed.load(Relaxed), 4, "{named:?}");
        }
        assert!(received.try_recv().is_err());
    }
}

#[test]
fn authorities_that_cannot_be_used_are_refused_by_name_and_without_their_content() {
    let said = |read: Result<Vec<u8>, String>| {
        let variable = |name: &str| {
            (name == "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE").then(|| "/etc/ca.pem".to_owned())
        };
        check("https://otel:4317", &variable, &mut |_| read.clone()).unwrap_err()
    };
    for (read, why) in [
        (Err("does not exist".to_owned()), "/etc/ca.pem does not exist"),
        (Ok(b"secret".to_vec()), "/etc/ca.pem holds no certificate"),
        (
            Ok(b"-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n".to_vec()),
            "/etc/ca.pem holds a malformed certificate",
        ),
    ] {
        let said = said(read);
        assert!(said.ends_with(why) && !said.contains("secret"), "{said}");
    }
    // In the clear nobody asks for it.
    let variable = |_: &str| Some("/etc/ca.pem".to_owned());
    let variable = |name: &str| variable(name).filter(|_| name.ends_with("CERTIFICATE"));
    assert_eq!(check("http://otel:4317", &variable, &mut |_| panic!("not read")), Ok(()));
}

/// Behaves as told; keeps the sizes of the batches it was given.
#[derive(Debug)]
struct Scripted {
    batches: Arc<Mutex<Vec<usize>>>,
    fails: bool,
    hangs: bool,
}

impl Destination for Scripted {
    async fn send(&mut self, batch: Bytes) -> Result<(), Refused> {
        let request = ExportTraceServiceRequest::decode(batch.slice(5..)).unwrap();
        self.batches.lock().unwrap().push(request.resource_spans[0].scope_spans[0].spans.len());
        if self.hangs {
            std::future::pending::<()>().await;
        }
        if self.fails { Err(Refused::for_good("down")) } else { Ok(()) }
    }
}

fn scripted(
    runtime: &tokio::runtime::Runtime,
    fails: bool,
    hangs: bool,
    settings: Settings,
) -> (SpanSender, Shutdown, Arc<Mutex<Vec<usize>>>) {
    let batches = Arc::<Mutex<Vec<usize>>>::default();
    let destination = Scripted { batches: Arc::clone(&batches), fails, hangs };
    let (sender, shutdown) = start(
        destination,
        &settings,
        runtime.handle(),
        Arc::<SpanCounts>::default(),
        &resource([0x5a; 16]),
    );
    (sender, shutdown, batches)
}

fn settings() -> Settings {
    Settings::of("http://otel:4317", &|_| None).unwrap()
}

fn until(what: impl Fn() -> bool) {
    let deadline = clock::now() + Duration::from_secs(10);
    while !what() {
        assert!(clock::now() < deadline, "not in ten seconds");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn spans_leave_in_full_batches_at_once_and_in_others_after_the_delay() {
    let runtime = runtime();
    let settings = Settings { delay: Duration::from_millis(50), ..settings() };
    let (sender, shutdown, batches) = scripted(&runtime, false, false, settings);
    let one = Row { attempts: 0, ..served() };
    (0..3).for_each(|_| assert!(sender.send(&one)));
    until(|| sender.counts().exported.load(Relaxed) == 3);
    assert_eq!(batches.lock().unwrap().iter().sum::<usize>(), 3);
    (0..1_100).for_each(|_| assert!(sender.send(&one)));
    shutdown.shutdown();
    assert_eq!(sender.counts().exported.load(Relaxed), 1_103);
    assert!(batches.lock().unwrap().iter().all(|size| *size <= BATCH));
    assert!(!sender.send(&one), "it has ended");
    assert_eq!(sender.counts().shutdown.load(Relaxed), 1);
}

#[test]
fn f23_a_collector_that_refuses_costs_spans_that_are_counted() {
    let runtime = runtime();
    let settings = Settings { delay: Duration::from_millis(1), ..settings() };
    let (sender, shutdown, _) = scripted(&runtime, true, false, settings);
    (0..10).for_each(|_| assert!(sender.send(&served())));
    shutdown.shutdown();
    assert_eq!(sender.counts().export_failed.load(Relaxed), 30);
    assert_eq!(sender.counts().shutdown.load(Relaxed), 0);
}

#[test]
fn f23_a_collector_that_hangs_makes_nobody_wait_and_the_end_takes_five_seconds_at_most() {
    let runtime = runtime();
    let settings = Settings { delay: Duration::from_millis(1), queue: 96, ..settings() };
    let (sender, shutdown, batches) = scripted(&runtime, false, true, settings);
    assert!(sender.send(&served()));
    until(|| !batches.lock().unwrap().is_empty());
    let began = clock::now();
    let taken = (0..1_000).filter(|_| sender.send(&served())).count();
    assert_eq!(taken, 32, "96 spans fit");
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert_eq!(sender.counts().queue_full.load(Relaxed), 3 * 968);
    let began = clock::now();
    shutdown.shutdown();
    let took = began.elapsed();
    assert!((4_900..6_000).contains(&took.as_millis()), "{took:?}");
    assert_eq!(sender.counts().shutdown.load(Relaxed), 99);
}

/// Run in release with `--ignored --nocapture`: the recorder's thread makes the spans of all
/// workers.
#[test]
#[ignore = "a measurement"]
fn measure_the_spans_of_a_request() {
    let runtime = runtime();
    let settings = Settings { queue: 1 << 20, ..settings() };
    let (sender, shutdown, _) = scripted(&runtime, false, false, settings);
    let row = served();
    let rows = 100_000_u32;
    let began = clock::now();
    for _ in 0..rows {
        assert!(sender.send(std::hint::black_box(&row)));
    }
    let sent = began.elapsed() / rows;
    let began = clock::now();
    shutdown.shutdown();
    println!("{sent:?} for the three spans of a row; {:?} to drain", began.elapsed());
}
