//! Both directions at once: gRPC, WebSocket, many streams on one connection (hardening T02).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use weir_tests::backend::websocket::{self, BINARY, CLOSE, PING, PONG, TEXT};
use weir_tests::{
    Gateway, backend, gateway, millis, raw_backend, raw_script, seconds, together, until,
    until_async,
};

use crate::wire_kit::{all_to, all_to_with, lines_of, with_key};

/// One gRPC message: not compressed, its length, its bytes.
fn message(text: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

#[tokio::test]
async fn grpc_messages_pass_one_by_one_in_both_directions() {
    let served = backend().grpc_echo().start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let (request, uploader) = gateway
        .client()
        .h2()
        .post("/inference.GRPCInferenceService/ModelStreamInfer", "")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "10S")
        .uploading();
    let opening = tokio::spawn(request.open());
    assert!(uploader.send(message("one")).await);
    let mut streaming = opening.await.unwrap().unwrap();
    assert_eq!(streaming.status(), 200);
    assert_eq!(streaming.header("content-type"), Some("application/grpc"));
    assert_eq!(streaming.chunk_within(seconds(2)).await.unwrap().unwrap(), message("one"));
    // Each comes back before the next is sent.
    for text in ["two", "three", "four"] {
        assert!(uploader.send(message(text)).await);
        assert_eq!(streaming.chunk_within(seconds(2)).await.unwrap().unwrap(), message(text));
    }
    uploader.finish();
    let answer = streaming.rest().await;
    assert_eq!((answer.trailer("grpc-status"), answer.error.as_deref()), (Some("0"), None));
    let seen = served.last();
    assert_eq!((seen.header("te"), seen.header("grpc-timeout")), (Some("trailers"), Some("10S")));
    assert_eq!(gateway.outcomes("").await[0]["outcome"], "ok");
}

#[tokio::test]
async fn a_grpc_status_without_a_body_passes_as_it_is() {
    let served = backend().grpc_error(5, "no such model").start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let request = gateway.client().h2().post("/p.S/M", message("x"));
    let answer = request.header("content-type", "application/grpc").await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    assert_eq!(answer.header("grpc-status"), Some("5"));
    assert_eq!(answer.header("grpc-message"), Some("no such model"));
    assert!(answer.trailers.is_none(), "it is one frame: {:?}", answer.trailers);
}

async fn websocket_gateway(url: &str) -> Gateway {
    gateway(all_to_with(url, "", "websocket = true\n")).start().await
}

#[tokio::test]
async fn a_websocket_echoes_through_tls_both_ways() {
    let served = backend().websocket_echo().start().await;
    let gateway = websocket_gateway(&served.url()).await;
    let bearer = format!("Bearer {}", gateway.client_key);
    let mut raw = gateway.raw().await;
    let more = [("authorization", bearer.as_str()), ("sec-websocket-protocol", "chat, other")];
    let opened = raw.open_websocket("/ws?x=1", &more).await.unwrap();
    assert_eq!(opened.header("sec-websocket-protocol"), Some("chat"));
    assert!(opened.header("x-request-id").is_some());
    raw.send_message(TEXT, b"hello").await.unwrap();
    let echo = raw.read_message(seconds(2)).await.unwrap();
    assert_eq!((echo.opcode, echo.payload.as_slice()), (TEXT, &b"hello"[..]));
    let large: Vec<u8> = (0..200_000).map(|it: u32| it.to_le_bytes()[0]).collect();
    raw.send_message(BINARY, &large).await.unwrap();
    assert_eq!(raw.read_message(seconds(5)).await.unwrap().payload, large);
    raw.send_message(PING, b"?").await.unwrap();
    assert_eq!(raw.read_message(seconds(2)).await.unwrap().opcode, PONG);
    raw.send_message(CLOSE, &1000_u16.to_be_bytes()).await.unwrap();
    assert_eq!(raw.read_message(seconds(2)).await.unwrap().opcode, CLOSE);
    assert!(raw.is_closed(seconds(2)).await);
    let seen = served.last();
    assert_eq!(seen.uri.to_string(), "/ws?x=1");
    assert_eq!(seen.header("authorization"), None, "the client's credential stays here");
    assert_eq!(gateway.outcomes("").await[0]["outcome"], "ok");
    assert_eq!(lines_of(&gateway, 101, 1).await[0]["url.path"], "/ws");
}

/// A gateway that writes to one side before it reads the other stands still as soon as both sides
/// send more than the buffers between them hold.
#[tokio::test]
async fn a_websocket_carries_both_directions_at_full_speed_at_once() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let served = backend().websocket_echo().start().await;
    let gateway = websocket_gateway(&served.url()).await;
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(gateway.prepared.authority.roots())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tcp = tokio::net::TcpStream::connect(gateway.edge).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut tls = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    let head = "GET /ws HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer KEY\r\n\
                connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    tls.write_all(&with_key(&gateway, head.as_bytes())).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(tls.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    let (mut reading, mut writing) = tokio::io::split(tls);
    // More than the sockets of a fast loopback hold.
    let (count, payload) = (64, vec![7_u8; 1 << 20]);
    let sent = payload.clone();
    let sender = tokio::spawn(async move {
        for _ in 0..count {
            let frame = websocket::frame(BINARY, &sent, Some([1, 2, 3, 4]));
            writing.write_all(&frame).await.unwrap();
            writing.flush().await.unwrap();
        }
        writing
    });
    let receiving = async {
        // Late, so that every buffer is full before the first byte is taken.
        tokio::time::sleep(millis(1500)).await;
        for number in 0..count {
            let frame = websocket::read_frame(&mut reading).await.unwrap();
            assert_eq!(frame.payload.len(), payload.len(), "message {number}");
        }
    };
    tokio::time::timeout(seconds(30), receiving).await.expect("it stands still");
    let _ = sender.await.unwrap();
}

#[tokio::test]
async fn a_refused_websocket_is_answered_and_the_connection_goes_on() {
    // Answers 426 to everything that is not a proper handshake.
    let served = backend()
        .status(403)
        .header("x-weir-variant", "forged")
        .header("x-mine", "kept")
        .answers("not here")
        .start()
        .await;
    let gateway = websocket_gateway(&served.url()).await;
    let bearer = format!("Bearer {}", gateway.client_key);
    let mut raw = gateway.raw().await;
    for _ in 0..2 {
        let refused =
            raw.open_websocket("/ws", &[("authorization", &bearer)]).await.unwrap_err().unwrap();
        assert_eq!((refused.status, refused.text().as_str()), (403, "not here"));
        assert_eq!(refused.header("x-weir-variant"), None);
        assert_eq!(refused.header("x-mine"), Some("kept"));
        assert!(refused.complete);
    }
    let next = "GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n\r\n";
    raw.send(with_key(&gateway, next.as_bytes())).await.unwrap();
    assert_eq!(raw.read_response(seconds(2)).await.unwrap().text(), "not here");
    assert_eq!(served.calls(), 3);
}

#[tokio::test]
async fn a_route_without_websocket_and_a_caller_without_key_are_refused() {
    let served = backend().websocket_echo().start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let bearer = format!("Bearer {}", gateway.client_key);
    let mut raw = gateway.raw().await;
    let refused = raw.open_websocket("/", &[("authorization", &bearer)]).await;
    assert_eq!(refused.unwrap_err().unwrap().status, 403);
    drop(gateway);
    let gateway = websocket_gateway(&served.url()).await;
    let mut raw = gateway.raw().await;
    assert_eq!(raw.open_websocket("/", &[]).await.unwrap_err().unwrap().status, 401);
    let mut raw = gateway.raw().await;
    let with_body = [("authorization", bearer.as_str()), ("content-length", "3")];
    assert_eq!(raw.open_websocket("/", &with_body).await.unwrap_err().unwrap().status, 400);
    assert_eq!(served.calls(), 0);
}

#[tokio::test]
async fn t02_no_byte_behind_an_upgrade_reaches_the_backend_before_its_101() {
    let pause = millis(300);
    let served = raw_backend(
        raw_script()
            .reads_head()
            .pauses(pause)
            .writes("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
            .stays_open(),
    )
    .then(
        raw_script()
            .reads_head()
            .pauses(pause)
            .writes("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
            .stays_open(),
    )
    .start()
    .await;
    let gateway = websocket_gateway(&served.url()).await;
    let upgrade = "GET /ws HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n\
                   connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    let both = [upgrade, smuggled].concat();

    let mut raw = gateway.raw().await;
    raw.send(with_key(&gateway, both.as_bytes())).await.unwrap();
    until(seconds(2), || served.received_text().contains("/ws")).await;
    tokio::time::sleep(pause / 2).await;
    assert!(!served.received_text().contains("smuggled"), "{}", served.received_text());
    assert_eq!(raw.read_response(seconds(2)).await.unwrap().status, 101);
    until(seconds(2), || served.received_text().ends_with(smuggled))
        .because("after the 101 they are the tunnel's")
        .await;

    // After a refusal they are the next request, and that one has no credential.
    let mut raw = gateway.raw().await;
    raw.send(with_key(&gateway, both.as_bytes())).await.unwrap();
    assert_eq!(raw.read_response(seconds(2)).await.unwrap().status, 403);
    assert_eq!(raw.read_response(seconds(2)).await.unwrap().status, 401);
    assert!(!served.received()[1].text().contains("smuggled"));
}

#[tokio::test]
async fn l13_a_tunnel_has_a_place_at_its_backend_as_long_as_it_lives() {
    let served = backend().websocket_echo().start().await;
    let route = "websocket = true\n";
    let gateway = gateway(all_to_with(&served.url(), "max_in_flight = 2", route)).start().await;
    let bearer = format!("Bearer {}", gateway.client_key);
    let open = async || {
        let mut raw = gateway.raw().await;
        raw.open_websocket("/", &[("authorization", &bearer)]).await.map(|_| raw)
    };
    let tunnels = [open().await.unwrap(), open().await.unwrap()];
    let in_flight = async || gateway.get("/status").await["backends"][0].clone();
    let shown = in_flight().await;
    assert_eq!((&shown["in_flight"], &shown["endpoints"][0]["in_flight"]), (&json!(2), &json!(2)));
    let refused = open().await.unwrap_err().unwrap();
    assert_eq!((refused.status, refused.header("x-weir-error")), (503, Some("upstream_overflow")));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(gateway.client().get("/").await.status, 503, "requests and tunnels count together");
    drop(tunnels);
    until_async(seconds(5), async || in_flight().await["in_flight"] == 0).await;
    assert!(open().await.is_ok());
}

#[tokio::test]
async fn l10_a_refused_upgrade_must_come_in_time() {
    let head = "HTTP/1.1 403 Forbidden\r\ncontent-length: 1000\r\n\r\n";
    let silent = raw_backend(raw_script().reads_head().writes(head).stays_open()).start().await;
    let drop_by_drop = raw_script()
        .reads_head()
        .writes(head)
        .writes_in_pieces(vec![b'x'; 1000], 1, millis(50))
        .stays_open();
    let slow = raw_backend(drop_by_drop).start().await;
    for (served, code) in [(silent, "upstream_timeout"), (slow, "max_duration")] {
        let times = "websocket = true\ntimeouts = { idle = \"400ms\", total = \"1s\" }\n";
        let gateway = gateway(all_to_with(&served.url(), "", times)).start().await;
        let bearer = format!("Bearer {}", gateway.client_key);
        let mut raw = gateway.raw().await;
        let refused = raw.open_websocket("/", &[("authorization", &bearer)]).await;
        let refused = refused.unwrap_err().unwrap();
        assert_eq!((refused.status, refused.header("x-weir-error")), (504, Some(code)));
        let closed = || served.received()[0].closed_by_client.is_some();
        until(seconds(2), closed).because("nobody waits for the rest").await;
    }
}

/// An endpoint that was ejected is tried with one request. If that is a WebSocket, its end must be
/// told as well, or the endpoint stays away for as long as a trial may last.
#[tokio::test]
async fn a_websocket_to_a_dead_endpoint_is_told_to_the_pool() {
    let served = backend().websocket_echo().start().await;
    let dead = backend().start().await;
    dead.stop();
    let text = format!(
        "[backends.one]\nendpoints = [\"{}\", \"{}\"]\nbalance = \"round_robin\"\n\
         [routes.all]\npath = \"/*\"\nbackend = \"one\"\nwebsocket = true\n",
        dead.url(),
        served.url()
    );
    let gateway = gateway(text).start().await;
    let bearer = format!("Bearer {}", gateway.client_key);
    let mut failed = 0;
    for _ in 0..40 {
        let mut raw = gateway.raw().await;
        match raw.open_websocket("/", &[("authorization", &bearer)]).await {
            Ok(_) => {}
            Err(refused) => {
                assert_eq!(refused.unwrap().status, 502);
                failed += 1;
            }
        }
    }
    assert!(failed < 12, "{failed} of 40 went to an endpoint that nobody listens on");
}

#[tokio::test]
async fn two_hundred_streams_share_a_backend_that_allows_a_hundred() {
    let (most, now) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let connections = Arc::new(AtomicUsize::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("h2c://{}", listener.local_addr().unwrap());
    let (most_seen, opened) = (Arc::clone(&most), Arc::clone(&connections));
    let serving = tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            opened.fetch_add(1, Ordering::SeqCst);
            let (most, now) = (Arc::clone(&most_seen), Arc::clone(&now));
            let service = service_fn(move |_| {
                let (most, now) = (Arc::clone(&most), Arc::clone(&now));
                async move {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(millis(300)).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(
                        Bytes::from_static(b"ok"),
                    )))
                }
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .max_concurrent_streams(100)
                    .serve_connection(TokioIo::new(tcp), service),
            );
        }
    });
    let limits = "h2_streams = 300";
    let gateway = gateway(all_to(&url)).limits(limits).start().await;
    let client = gateway.client().h2();
    assert_eq!(client.get("/").await.text(), "ok");
    let began = std::time::Instant::now();
    let answers = together((0..200).map(|_| client.get("/").within(seconds(10)))).await;
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "ok"));
    }
    assert!(began.elapsed() < seconds(5), "{:?}", began.elapsed());
    assert!(most.load(Ordering::SeqCst) > 100, "{most:?}: they waited for each other");
    assert!(connections.load(Ordering::SeqCst) <= 4, "{connections:?}");
    serving.abort();
}
