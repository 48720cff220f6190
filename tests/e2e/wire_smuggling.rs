//! Requests that two readers could take differently, in raw bytes over TLS (hardening T01 to T03).

use weir_tests::raw_client::Missing;
use weir_tests::{backend, gateway, millis, raw_backend, raw_script, seconds};

use crate::wire_kit::{all_to, lines_of, listening, rejected, send_raw, with_key};

/// A head up to the fields that differ.
const HEAD: &str = "POST /v1/x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n";

fn post(rest: &str) -> Vec<u8> {
    format!("{HEAD}{rest}").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    post(&format!("transfer-encoding: chunked\r\n\r\n{body}"))
}

fn get(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n{fields}\r\n").into_bytes()
}

/// Each with the status it is refused with.
fn smuggled() -> Vec<(Vec<u8>, u16)> {
    let long_extension = format!("4;{}\r\nabcd\r\n0\r\n\r\n", "x".repeat(300));
    let bad_request: Vec<Vec<u8>> = vec![
        // Two lengths.
        post("content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        post("transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n"),
        post("content-length: 4\r\ncontent-length: 4\r\n\r\nabcd"),
        post("content-length: 4\r\ncontent-length: 5\r\n\r\nabcd"),
        // A length that is no number.
        post("content-length: +4\r\n\r\nabcd"),
        post("content-length: -4\r\n\r\nabcd"),
        post("content-length: 4, 4\r\n\r\nabcd"),
        post("content-length: 0x4\r\n\r\nabcd"),
        post("content-length: 4_0\r\n\r\nabcd"),
        post("content-length: 4 4\r\n\r\nabcd"),
        post("content-length:\r\n\r\nabcd"),
        post("content-length: 00000000000000000004\r\n\r\nabcd"),
        // An encoding that is not exactly chunked.
        post("transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        post("transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        post("transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        post("transfer-encoding: identity\r\n\r\n"),
        post("transfer-encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
        post("transfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
        post("transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
        post("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        post("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n"),
        b"POST / HTTP/1.0\r\nhost: x\r\nauthorization: Bearer KEY\r\n\
          transfer-encoding: chunked\r\n\r\n0\r\n\r\n"
            .to_vec(),
        // Chunks.
        chunked("0x4\r\nabcd\r\n0\r\n\r\n"),
        chunked("+4\r\nabcd\r\n0\r\n\r\n"),
        chunked("-4\r\nabcd\r\n0\r\n\r\n"),
        chunked("4_\r\nabcd\r\n0\r\n\r\n"),
        chunked("\r\nabcd\r\n0\r\n\r\n"),
        chunked("00000000000000004\r\nabcd\r\n0\r\n\r\n"),
        chunked("4\nabcd\n0\n\n"),
        chunked("4\r\nabcdX\r\n0\r\n\r\n"),
        chunked("4\r\nabcd\n0\r\n\r\n"),
        chunked(&long_extension),
        chunked("4;a\x01\r\nabcd\r\n0\r\n\r\n"),
        chunked("0\r\ncontent-length: 3\r\n\r\n"),
        chunked("0\r\ntransfer-encoding: chunked\r\n\r\n"),
        chunked("0\r\nx : y\r\n\r\n"),
        // Line ends and control bytes.
        b"GET / HTTP/1.1\nhost: x\nauthorization: Bearer KEY\n\n".to_vec(),
        get("x: a\nauthorization: b\r\n"),
        get("x: a\rb\r\n"),
        get("x: a\0b\r\n"),
        get("x: a\x01b\r\n"),
        get("x: a\x7fb\r\n"),
        // Names.
        get("x : a\r\n"),
        get("x\t: a\r\n"),
        get("x: a\r\n folded: b\r\n"),
        get("x: a\r\n\tb\r\n"),
        get(": a\r\n"),
        get("x(y): a\r\n"),
        get("x\u{e9}: a\r\n"),
        get("nocolon\r\n"),
        b"GET / HTTP/1.1\r\n host: x\r\nauthorization: Bearer KEY\r\n\r\n".to_vec(),
        // The request line.
        b"GET  / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        b"GET / x HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        b"GET / http/1.1\r\nhost: x\r\n\r\n".to_vec(),
        b"GET /\r\nhost: x\r\n\r\n".to_vec(),
        b"G(T / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        b"\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        // Hosts.
        b"GET / HTTP/1.1\r\nauthorization: Bearer KEY\r\n\r\n".to_vec(),
        get("host: x\r\n"),
    ];
    let mut all: Vec<(Vec<u8>, u16)> = bad_request.into_iter().map(|it| (it, 400)).collect();
    all.push((b"GET / HTTP/1.2\r\nhost: x\r\n\r\n".to_vec(), 505));
    all.push((b"GET / HTTP/2.0\r\nhost: x\r\n\r\n".to_vec(), 505));
    all
}

#[tokio::test]
async fn t01_no_byte_of_a_smuggled_request_reaches_the_backend() {
    let served = listening().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let cases = smuggled();
    for (bytes, status) in &cases {
        let shown = String::from_utf8_lossy(bytes).into_owned();
        let (answer, closed) = send_raw(&gateway, bytes).await;
        assert_eq!(answer.status, *status, "{shown:?}: {}", answer.text());
        assert!(closed, "the connection goes on after {shown:?}");
        assert!(answer.complete && answer.header("x-weir-error").is_some(), "{shown:?}");
        assert_eq!(served.received_bytes(), 0, "{shown:?} reached the backend");
    }
    let bad = cases.iter().filter(|(_, status)| *status == 400).count();
    lines_of(&gateway, 400, bad).await;
    lines_of(&gateway, 505, cases.len() - bad).await;
    assert_eq!(rejected(&gateway, "malformed").await, cases.len() as f64);
}

/// The same bytes in pieces of one: no byte may get through because its reader saw only a part.
#[tokio::test]
async fn t01_a_smuggled_head_is_refused_byte_by_byte_too() {
    let served = listening().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    for rest in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n",
        "x: a\r\n folded: b\r\n\r\n",
        "transfer-encoding: gzip, chunked\r\n\r\n",
    ] {
        let mut raw = gateway.raw().await;
        let _ = raw.send_in_pieces(with_key(&gateway, &post(rest)), 1, millis(0)).await;
        assert_eq!(raw.read_response(seconds(5)).await.unwrap().status, 400, "{rest:?}");
        assert!(raw.is_closed(millis(1500)).await);
    }
    assert_eq!(served.received_bytes(), 0);
}

/// A fault that shows itself after bytes of the body have gone on cannot be undone; the backend must
/// see a request without an end, never a whole one.
#[tokio::test]
async fn t01_a_fault_far_inside_a_body_leaves_the_backend_without_its_end() {
    let served = raw_backend(raw_script().reads_head().stays_open()).start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let mut raw = gateway.raw().await;
    raw.send(with_key(&gateway, &chunked("4\r\nabcd\r\n"))).await.unwrap();
    tokio::time::sleep(millis(200)).await;
    assert!(served.received_text().ends_with("4\r\nabcd\r\n"), "{}", served.received_text());
    raw.send("nonsense\r\n0\r\n\r\n").await.unwrap();
    let answer = raw.read_response(seconds(2)).await.unwrap();
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(raw.is_closed(seconds(2)).await);
    weir_tests::until(seconds(2), || served.received()[0].closed_by_client.is_some()).await;
    assert!(!served.received_text().ends_with("0\r\n\r\n"));
    assert_eq!(lines_of(&gateway, 400, 1).await[0]["url.path"], "/v1/x");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let served = backend().echo().on("/slow", backend().echo().delay(millis(200))).start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let mut raw = gateway.raw().await;
    let one = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n\
             content-length: 3\r\n\r\nabc"
        )
    };
    let chunked = "POST /chunks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n\
                   transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let all = [&one("/slow"), &one("/second"), chunked, &one("/last")].concat();
    raw.send(with_key(&gateway, all.as_bytes())).await.unwrap();
    for path in ["/slow", "/second", "/chunks", "/last"] {
        let answer = raw.read_response(seconds(5)).await.unwrap();
        assert_eq!(answer.status, 200);
        let echo: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((&echo["path"], &echo["body"]), (&path.into(), &"abc".into()));
    }
    let paths: Vec<String> = served.seen().iter().map(|seen| seen.path().to_owned()).collect();
    assert_eq!(paths, ["/slow", "/second", "/chunks", "/last"]);
}

#[tokio::test]
async fn a_malformed_request_behind_good_ones_is_refused_in_its_turn() {
    let served = backend().answers("ok").delay(millis(100)).start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let mut raw = gateway.raw().await;
    let good = get("");
    let bad = post("content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
    let all = [good.clone(), good.clone(), bad, good].concat();
    raw.send(with_key(&gateway, &all)).await.unwrap();
    for status in [200, 200, 400] {
        assert_eq!(raw.read_response(seconds(5)).await.unwrap().status, status);
    }
    assert!(matches!(raw.read_response(seconds(2)).await, Err(Missing::Ended(..))));
    assert_eq!(served.calls(), 2);
}

/// An upgrade that nobody serves is only a header: what follows is the next request.
#[tokio::test]
async fn t02_an_upgrade_to_something_else_is_dropped_and_the_connection_goes_on() {
    let served = backend().echo().start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let mut raw = gateway.raw().await;
    let upgrade = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAAA\r\n";
    let all = [get(upgrade), get("")].concat();
    raw.send(with_key(&gateway, &all)).await.unwrap();
    for _ in 0..2 {
        let answer = raw.read_response(seconds(5)).await.unwrap();
        assert_eq!(answer.status, 200);
        let text = answer.text();
        assert!(!text.contains("h2c") && !text.contains("http2-settings"), "{text}");
    }
    assert_eq!(served.calls(), 2);
}

#[tokio::test]
async fn t03_an_early_answer_to_a_small_body_keeps_the_connection() {
    let served = listening().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let mut raw = gateway.raw().await;
    let refused = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{}",
        "GET / HTTP/1.1\r\n".repeat(62) + "12345678"
    );
    raw.send(refused).await.unwrap();
    assert_eq!(raw.read_response(seconds(2)).await.unwrap().status, 401);
    raw.send(with_key(&gateway, &get(""))).await.unwrap();
    let answer = raw.read_response(seconds(2)).await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "ok".to_owned()));
    assert_eq!(served.received_text().matches("HTTP/1.1").count(), 1);
}

#[tokio::test]
async fn t03_an_early_answer_to_a_large_body_arrives_whole_and_closes() {
    let served = listening().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let mut raw = gateway.raw().await;
    let mut request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5242880\r\n\r\n".to_vec();
    request.resize(request.len() + 300_000, b'x');
    // It may fail on the way: the gateway need not read it.
    let _ = raw.send(request).await;
    let answer = raw.read_response(seconds(3)).await.unwrap();
    assert_eq!((answer.status, answer.complete), (401, true));
    assert!(raw.is_closed(seconds(3)).await);
    assert_eq!(served.received_bytes(), 0);
}

#[tokio::test]
async fn a_fault_in_the_target_is_answered_counted_and_logged_like_any_other() {
    let served = listening().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let targets = ["/a<b", "/a>b", "/a`b", "/a#b", "/a?b#c", "/a?b<c", "http://", "/a\"b", "/a{b"];
    for target in targets {
        let request =
            format!("GET {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n\r\n");
        let mut raw = gateway.raw().await;
        raw.send(with_key(&gateway, request.as_bytes())).await.unwrap();
        let answer = raw.read_response(seconds(2)).await.unwrap();
        assert_eq!(answer.status, 400, "{target}");
        assert!(answer.header("x-request-id").is_some(), "{target}: {:?}", answer.headers);
    }
    lines_of(&gateway, 400, targets.len()).await;
    assert_eq!(rejected(&gateway, "malformed").await, targets.len() as f64);
    assert_eq!(served.received_bytes(), 0);
}
