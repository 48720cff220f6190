//! The HTTP/1.1 server by its bytes: what one of one's own can get wrong.

use serde_json::{Value, json};
use weir_tests::backend::websocket::TEXT;
use weir_tests::backend::{pattern, sha256};
use weir_tests::raw_client::{Ended, Missing, RawResponse};
use weir_tests::{
    Gateway, RawClient, backend, gateway, millis, raw_backend, raw_script, seconds, until,
};

use crate::wire_kit::{
    all_to, all_to_with, answering, echoed, lines_of, listening, rejected, values_of,
};

/// The lines that every request here has.
const BASE: &str = "host: x\r\nauthorization: Bearer KEY\r\n";

fn bytes_of(gateway: &Gateway, text: &str) -> Vec<u8> {
    text.replace("BASE", BASE).replace("KEY", &gateway.client_key).into_bytes()
}

async fn connect_and_send(gateway: &Gateway, text: &str) -> RawClient {
    let mut raw = gateway.raw().await;
    raw.send(bytes_of(gateway, text)).await.unwrap();
    raw
}

async fn read(raw: &mut RawClient) -> RawResponse {
    let answer = raw.read_response(seconds(10)).await.unwrap();
    assert!(answer.complete, "{answer:?}");
    answer
}

fn json_of(answer: &RawResponse) -> Value {
    serde_json::from_slice(&answer.body)
        .unwrap_or_else(|error| panic!("{error}: {}", answer.text()))
}

/// A request with a length, one in chunks with an extension and a trailer, and one without a body.
const THREE: &str = "POST /one HTTP/1.1\r\nBASEcontent-length: 5\r\n\r\nhello\
                     POST /two HTTP/1.1\r\nBASETransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n\
                     3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\n\
                     \r\nGET /three?x=1 HTTP/1.1\r\nBASEX-Mine:  kept \t\r\n\r\n";

async fn check_three(raw: &mut RawClient, what: &str) {
    let first = json_of(&read(raw).await);
    assert_eq!((&first["path"], &first["body"]), (&json!("/one"), &json!("hello")), "{what}");
    let second = json_of(&read(raw).await);
    assert_eq!(
        (&second["path"], &second["body"]),
        (&json!("/two"), &json!("abc0123456789")),
        "{what}"
    );
    assert_eq!(second["trailers"], json!([["x-sum", "1"]]), "{what}");
    let third = json_of(&read(raw).await);
    assert_eq!((&third["path"], &third["query"]), (&json!("/three"), &json!("x=1")), "{what}");
    assert_eq!(values_of(&echoed(&third), "x-mine"), ["kept"], "{what}");
}

#[tokio::test]
async fn requests_split_at_any_byte_are_read_alike() {
    let served = backend().echo().start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let bytes = bytes_of(&gateway, THREE);
    let mut raw = gateway.raw().await;
    for at in 0..=bytes.len() {
        raw.send(&bytes[..at]).await.unwrap();
        // So that it is read by itself.
        tokio::time::sleep(millis(1)).await;
        raw.send(&bytes[at..]).await.unwrap();
        check_three(&mut raw, &format!("split at {at}")).await;
    }
    raw.send_in_pieces(&bytes, 1, millis(0)).await.unwrap();
    check_three(&mut raw, "byte by byte").await;
    raw.send_in_pieces(&bytes, 1, millis(1)).await.unwrap();
    check_three(&mut raw, "byte by byte, slowly").await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_turn_and_none_reaches_a_backend_early() {
    let slow = raw_script()
        .reads_request()
        .pauses(millis(300))
        .writes("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let served = raw_backend(slow.again()).start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let one = |path: &str| format!("GET /{path} HTTP/1.1\r\nBASE\r\n");
    let bad = "GET /bad HTTP/1.1\r\nhost : x\r\n\r\n";
    let sent = [one("a"), one("b"), bad.to_owned(), one("c")].concat();
    let mut raw = connect_and_send(&gateway, &sent).await;
    until(seconds(2), || served.received_text().contains("GET /a")).await;
    tokio::time::sleep(millis(100)).await;
    assert!(!served.received_text().contains("GET /b"), "before the first was answered");
    assert_eq!(read(&mut raw).await.text(), "ok");
    assert_eq!(read(&mut raw).await.text(), "ok");
    let refused = read(&mut raw).await;
    assert_eq!((refused.status, refused.header("connection")), (400, Some("close")));
    assert!(raw.is_closed(seconds(3)).await);
    assert!(!served.received_text().contains("GET /c"), "nothing behind a fault is trusted");
}

/// More than is held for a client whose first request is still under way.
#[tokio::test]
async fn a_long_pipeline_waits_and_is_answered_whole() {
    let served = backend().echo().on("/slow", backend().echo().delay(millis(400)));
    let served = served.start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let pad = "p".repeat(1000);
    let mut text = "GET /slow HTTP/1.1\r\nBASE\r\n".to_owned();
    for number in 0..300 {
        text += &format!("GET /{number} HTTP/1.1\r\nBASEx-pad: {pad}\r\n\r\n");
    }
    let mut raw = gateway.raw().await;
    let bytes = bytes_of(&gateway, &text);
    assert!(bytes.len() > 300_000);
    raw.send(bytes).await.unwrap();
    assert_eq!(json_of(&read(&mut raw).await)["path"], "/slow");
    for number in 0..300 {
        assert_eq!(json_of(&read(&mut raw).await)["path"], format!("/{number}"));
    }
}

#[tokio::test]
async fn a_body_in_many_tiny_chunks_and_one_larger_than_any_buffer_arrive_whole() {
    let served = backend().echo().start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let tiny: String = (0..5000).map(|number| format!("1\r\n{}\r\n", number % 10)).collect();
    let expected: String = (0..5000).map(|number| (number % 10).to_string()).collect();
    let mut raw = connect_and_send(
        &gateway,
        &format!("POST / HTTP/1.1\r\nBASEtransfer-encoding: chunked\r\n\r\n{tiny}0\r\n\r\n"),
    )
    .await;
    let echo = json_of(&read(&mut raw).await);
    assert_eq!((&echo["length"], &echo["body"]), (&json!(5000), &json!(expected)));

    let large: Vec<u8> = (0..3 << 20).map(pattern).collect();
    for framing in
        ["content-length: 3145728\r\n\r\n", "transfer-encoding: chunked\r\n\r\n300000\r\n"]
    {
        raw.send(bytes_of(&gateway, &format!("POST / HTTP/1.1\r\nBASE{framing}"))).await.unwrap();
        raw.send(&large).await.unwrap();
        if framing.contains("chunked") {
            raw.send("\r\n0\r\n\r\n").await.unwrap();
        }
        let echo = json_of(&read(&mut raw).await);
        assert_eq!((&echo["length"], &echo["sha256"]), (&json!(3 << 20), &json!(sha256(&large))));
    }
}

#[tokio::test]
async fn empty_bodies_leave_the_connection_in_step() {
    let served = backend().echo().start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let mut raw = gateway.raw().await;
    for framing in
        ["content-length: 0\r\n\r\n", "transfer-encoding: chunked\r\n\r\n0\r\n\r\n", "\r\n"]
    {
        for method in ["POST", "GET", "DELETE"] {
            let text = format!("{method} / HTTP/1.1\r\nBASE{framing}");
            raw.send(bytes_of(&gateway, &text)).await.unwrap();
            let echo = json_of(&read(&mut raw).await);
            assert_eq!((&echo["method"], &echo["length"]), (&json!(method), &json!(0)), "{text}");
        }
    }
}

#[tokio::test]
async fn chunk_extensions_have_a_limit() {
    let served = backend().echo().start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let chunked = |extension: usize| {
        let extension = "e".repeat(extension);
        format!(
            "POST / HTTP/1.1\r\nBASEtransfer-encoding: chunked\r\n\r\n1;{extension}\r\na\r\n0\r\n\r\n"
        )
    };
    let mut raw = connect_and_send(&gateway, &chunked(255)).await;
    assert_eq!(json_of(&read(&mut raw).await)["body"], "a");
    for extension in [256, 1_000_000] {
        let mut raw = gateway.raw().await;
        // It may be refused, and the connection ended, before all of it was sent.
        let _ = raw.send(bytes_of(&gateway, &chunked(extension))).await;
        let answer = raw.read_response(seconds(5)).await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (400, Some("close")));
        assert!(raw.is_closed(seconds(3)).await);
    }
    assert_eq!(served.calls(), 1);
}

/// What a fault in a body that comes later is: the client's, seen when its bytes come.
#[tokio::test]
async fn t01_a_fault_in_a_body_that_comes_late_is_a_400() {
    let served = listening().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let head = "POST / HTTP/1.1\r\nBASEtransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let mut raw = connect_and_send(&gateway, head).await;
    tokio::time::sleep(millis(100)).await;
    raw.send("3\nabc\r\n0\r\n\r\n").await.unwrap();
    let answer = raw.read_response(seconds(3)).await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (400, Some("close")));
    assert!(answer.text().contains("line feed without carriage return"), "{}", answer.text());
    assert!(raw.is_closed(seconds(3)).await);
    let line = &lines_of(&gateway, 400, 1).await[0];
    assert_eq!(line["flags"], "DPE", "{line}");
    assert!(!served.received_text().contains("0\r\n\r\n"), "never a whole body");
}

#[tokio::test]
async fn l12_a_large_answer_reaches_a_slow_reader_whole() {
    let length = 20 << 20;
    let model = backend().large(length).start().await;
    let streaming = backend().streams((0..2000).map(|_| vec![b'x'; 10_000])).start().await;
    for (served, chunked) in [(&model, false), (&streaming, true)] {
        let gateway = gateway(all_to(&served.url())).start().await;
        let mut raw = connect_and_send(&gateway, "GET / HTTP/1.1\r\nBASE\r\n").await;
        // Every buffer on the way is full before the first byte is taken.
        tokio::time::sleep(millis(700)).await;
        let answer = raw.read_response(seconds(60)).await.unwrap();
        assert!(answer.complete);
        assert_eq!(answer.body.len(), if chunked { 20_000_000 } else { 20 << 20 });
        if !chunked {
            let wrong = (0_u64..).zip(&answer.body).find(|(at, byte)| pattern(*at) != **byte);
            assert_eq!(wrong, None);
        }
        // And the connection is in step.
        raw.send(bytes_of(&gateway, "HEAD / HTTP/1.1\r\nBASE\r\n")).await.unwrap();
        assert_eq!(raw.read_response_to_head(seconds(5)).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn t03_what_is_left_of_a_body_nobody_wants_is_read_if_it_is_there() {
    let served = backend().echo().start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let unknown = "POST / HTTP/1.1\r\nhost: x\r\n";
    let next = "GET / HTTP/1.1\r\nBASE\r\n";
    for body in [
        "content-length: 5\r\n\r\nhello",
        "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n",
        "content-length: 0\r\n\r\n",
    ] {
        let mut raw = connect_and_send(&gateway, &format!("{unknown}{body}{next}")).await;
        assert_eq!(read(&mut raw).await.status, 401, "{body}");
        assert_eq!(read(&mut raw).await.status, 200, "{body}: the connection goes on");
    }
    // A small one is waited for.
    let mut raw =
        connect_and_send(&gateway, &format!("{unknown}content-length: 5\r\n\r\nhe")).await;
    tokio::time::sleep(millis(100)).await;
    raw.send(bytes_of(&gateway, &format!("llo{next}"))).await.unwrap();
    assert_eq!(read(&mut raw).await.status, 401);
    assert_eq!(read(&mut raw).await.status, 200);
    // A large one is not, and no byte of it is taken for a request.
    let large = "GET /smuggled HTTP/1.1\r\nBASE\r\n".repeat(4000);
    let text = format!("{unknown}content-length: {}\r\n\r\n{large}", large.len() * 10);
    let mut raw = gateway.raw().await;
    let _ = raw.send(bytes_of(&gateway, &text)).await;
    assert_eq!(raw.read_response(seconds(5)).await.unwrap().status, 401);
    assert!(matches!(raw.read_response(seconds(5)).await, Err(Missing::Ended(..))));
    assert!(served.seen().iter().all(|seen| seen.path() == "/"));
}

#[tokio::test]
async fn a_client_that_waits_for_a_100_in_vain_is_told_that_the_connection_ends() {
    let served = backend().echo().start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let head = "POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let mut raw = connect_and_send(&gateway, head).await;
    let answer = read(&mut raw).await;
    assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
    assert!(raw.is_closed(seconds(3)).await);
    // One that did not wait is served on.
    let mut raw = connect_and_send(&gateway, &format!("{head}hello")).await;
    let answer = read(&mut raw).await;
    assert_eq!((answer.status, answer.header("connection")), (401, None));
    raw.send(bytes_of(&gateway, "GET / HTTP/1.1\r\nBASE\r\n")).await.unwrap();
    assert_eq!(read(&mut raw).await.status, 200);
    // HTTP/1.0 knows no 100.
    let old = "POST / HTTP/1.0\r\nBASEexpect: 100-continue\r\ncontent-length: 5\r\n\r\nhello";
    let mut raw = connect_and_send(&gateway, old).await;
    assert_eq!(read(&mut raw).await.status, 200);
}

fn first_line(answer: &RawResponse) -> String {
    String::from_utf8_lossy(&answer.head).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn http_1_0_is_answered_in_its_own_terms() {
    let whole = backend().answers("whole").start().await;
    let streamed = backend().streams(["one ", "two ", "three"]).start().await;
    let gateway = gateway(format!(
        "[backends.whole]\nendpoints = [\"{}\"]\n[backends.streamed]\nendpoints = [\"{}\"]\n\
         [routes.whole]\npath = \"/*\"\nbackend = \"whole\"\n\
         [routes.streamed]\npath = \"/s\"\nbackend = \"streamed\"\n",
        whole.url(),
        streamed.url()
    ))
    .start()
    .await;
    let mut raw = connect_and_send(&gateway, "GET / HTTP/1.0\r\nBASE\r\n").await;
    let answer = read(&mut raw).await;
    assert_eq!(first_line(&answer), "HTTP/1.0 200 OK");
    assert_eq!((answer.text().as_str(), answer.header("content-length")), ("whole", Some("5")));
    assert!(raw.is_closed(seconds(3)).await, "not asked to stay");

    let asks = "GET PATH HTTP/1.0\r\nBASEconnection: Keep-Alive\r\n\r\n";
    let mut raw = connect_and_send(&gateway, &asks.replace("PATH", "/")).await;
    for path in ["/", "/s"] {
        let answer = read(&mut raw).await;
        assert_eq!(first_line(&answer), "HTTP/1.0 200 OK");
        assert_eq!(answer.header("connection"), Some("keep-alive"));
        raw.send(bytes_of(&gateway, &asks.replace("PATH", path))).await.unwrap();
    }
    // Without a length its end is the end of the connection, whatever was asked.
    let answer = read(&mut raw).await;
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("one two three", None));
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(raw.read_to_close(seconds(1)).await.1, Some(Ended::Cleanly));
    // A client of HTTP/1.0 without a host is one like any other.
    let mut raw = connect_and_send(
        &gateway,
        "GET / HTTP/1.0\r\nauthorization: Bearer KEY\r\nconnection: keep-alive\r\n\r\n",
    )
    .await;
    assert_eq!(read(&mut raw).await.text(), "whole");
}

/// Over HTTP/1.0 an answer without a length ends where the connection does: one that broke off must
/// not look like that.
#[tokio::test]
async fn f03_an_answer_to_http_1_0_that_breaks_off_is_no_clean_end() {
    let broken = answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let served = raw_backend(broken.pauses(millis(100)).resets()).start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let mut raw = connect_and_send(&gateway, "GET / HTTP/1.0\r\nBASE\r\n").await;
    let (bytes, ended) = raw.read_to_close(seconds(5)).await;
    assert!(bytes.ends_with(b"\r\n\r\nabc"), "{}", String::from_utf8_lossy(&bytes));
    assert_ne!(ended.expect("it ends"), Ended::Cleanly);
}

/// An answer of HTTP/1.0 is one thing, what is said to a client of HTTP/1.1 another.
#[tokio::test]
async fn a_backend_of_http_1_0_is_answered_for_in_http_1_1() {
    let old = answering("HTTP/1.0 200 Fine\r\n\r\nto the end").pauses(millis(30)).closes();
    let served = raw_backend(old).start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let mut raw = gateway.raw().await;
    for _ in 0..2 {
        raw.send(bytes_of(&gateway, "GET / HTTP/1.1\r\nBASE\r\n")).await.unwrap();
        let answer = read(&mut raw).await;
        assert_eq!(first_line(&answer), "HTTP/1.1 200 OK");
        assert_eq!((answer.text().as_str(), answer.header("connection")), ("to the end", None));
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    }
}

#[tokio::test]
async fn answers_without_content_have_none_and_the_connection_goes_on() {
    let served = backend()
        .answers("content")
        .header("x-mine", "kept")
        .on("/204", backend().status(204).answers(""))
        .on("/304", backend().status(304).answers(""))
        .start()
        .await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let mut raw = gateway.raw().await;
    for _ in 0..2 {
        raw.send(bytes_of(&gateway, "HEAD / HTTP/1.1\r\nBASE\r\n")).await.unwrap();
        let answer = raw.read_response_to_head(seconds(3)).await.unwrap();
        assert_eq!(
            (answer.header("content-length"), answer.header("x-mine")),
            (Some("7"), Some("kept"))
        );
        for (path, status) in [("/204", 204), ("/304", 304)] {
            raw.send(bytes_of(&gateway, &format!("GET {path} HTTP/1.1\r\nBASE\r\n")))
                .await
                .unwrap();
            let answer = read(&mut raw).await;
            assert_eq!(answer.status, status);
            let framed = ["content-length", "transfer-encoding"].map(|name| answer.header(name));
            assert_eq!(framed, [None, None], "{status}");
        }
        // An answer of the gateway's own to HEAD: as long as the one to GET, and not there.
        raw.send("HEAD / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let answer = raw.read_response_to_head(seconds(3)).await.unwrap();
        assert_eq!(answer.status, 401);
        assert!(answer.header("content-length").is_some_and(|length| length != "0"));
        raw.send(bytes_of(&gateway, "GET / HTTP/1.1\r\nBASE\r\n")).await.unwrap();
        assert_eq!(read(&mut raw).await.text(), "content");
    }
}

#[tokio::test]
async fn each_answer_has_one_date_and_it_is_now_or_the_backends() {
    let dated = backend().answers("ok").header("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    let served =
        raw_backend(answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").writes("").again());
    let (dated, undated) = (dated.start().await, served.start().await);
    for (url, backends) in [(dated.url(), true), (undated.url(), false)] {
        let gateway = gateway(all_to(&url)).start().await;
        let mut raw = connect_and_send(&gateway, "GET / HTTP/1.1\r\nBASE\r\n").await;
        let answer = read(&mut raw).await;
        let dates: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "date").collect();
        assert_eq!(dates.len(), 1, "{dates:?}");
        let then = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(dates[0].1 == then, backends, "{dates:?}");
        let shape = |date: &str| date.len() == then.len() && date.ends_with(" GMT");
        assert!(shape(&dates[0].1), "{dates:?}");
    }
}

/// A backend of HTTP/2 may say that there is nothing, and end the stream later.
#[tokio::test]
async fn an_answer_of_no_bytes_is_whole_whenever_its_stream_ends() {
    let empty = || backend().streams(Vec::<&str>::new()).h2();
    let served = empty()
        .header("content-length", "0")
        .on("/204", empty().status(204))
        .on("/chunked", empty())
        .start()
        .await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let mut raw = gateway.raw().await;
    for (path, status) in [("/", 200), ("/204", 204), ("/chunked", 200)] {
        raw.send(bytes_of(&gateway, &format!("GET {path} HTTP/1.1\r\nBASE\r\n"))).await.unwrap();
        let answer = read(&mut raw).await;
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{path}");
    }
    let rows = until_rows(&gateway, 3).await;
    assert!(rows.iter().all(|row| row["outcome"] == "ok"), "{rows:#?}");
}

/// The last request of a connection may be the one that makes a tunnel of it.
#[tokio::test]
async fn l09_an_upgrade_may_be_the_last_request_of_its_connection() {
    let served = backend().websocket_echo().start().await;
    let text = all_to_with(&served.url(), "", "websocket = true\n");
    let gateway = gateway(text).limits("requests_per_connection = 1").start().await;
    let bearer = format!("Bearer {}", gateway.client_key);
    let mut raw = gateway.raw().await;
    let opened = raw.open_websocket("/", &[("authorization", &bearer)]).await.unwrap();
    assert_eq!(opened.status, 101);
    raw.send_message(TEXT, b"hello").await.unwrap();
    assert_eq!(raw.read_message(seconds(2)).await.unwrap().payload, b"hello");
}

/// Names in any case, values with any byte above 0x7f, repeated fields: all arrive, in their order.
#[tokio::test]
async fn fields_arrive_with_their_values_and_in_their_order() {
    let served = listening().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let mut raw = gateway.raw().await;
    let mut bytes = bytes_of(&gateway, "GET / HTTP/1.1\r\nBASE");
    bytes.extend_from_slice(
        b"X-LIST: one\r\nx-Other: y\r\nx-list:two\r\nX-List: \tthree\xff\xfe\r\n\r\n",
    );
    for _ in 0..2 {
        let before = served.received_bytes();
        raw.send(&bytes).await.unwrap();
        assert_eq!(read(&mut raw).await.text(), "ok");
        let received =
            served.received().iter().flat_map(|it| it.bytes.clone()).collect::<Vec<u8>>();
        let text = String::from_utf8_lossy(&received[before..]).into_owned();
        let at = |field: &str| text.find(field).unwrap_or_else(|| panic!("{field} in {text}"));
        assert!(at("x-list: one\r\n") < at("x-list: two\r\n"));
        assert!(at("x-list: two\r\n") < at("x-list: three\u{fffd}\u{fffd}\r\n"));
        assert!(text.contains("x-other: y\r\n"));
    }
}

#[tokio::test]
async fn f10_a_client_that_ends_its_side_has_left() {
    for answers in [backend().stalls(), backend().openai("m").pieces(1000).gap(millis(20))] {
        let served = answers.start().await;
        let gateway = gateway(all_to(&served.url())).start().await;
        let body = r#"{"model":"m","stream":true,"messages":[]}"#;
        let text = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nBASEcontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut raw = connect_and_send(&gateway, &text).await;
        until(seconds(3), || served.calls() == 1).await;
        raw.half_close().await.unwrap();
        until(seconds(3), || served.aborted().len() == 1).because("the backend hears of it").await;
        assert!(raw.is_closed(seconds(3)).await);
        let rows = until_rows(&gateway, 1).await;
        assert_eq!(
            (&rows[0]["outcome"], &rows[0]["flags"]),
            (&json!("client_aborted"), &json!("DC"))
        );
    }
}

async fn until_rows(gateway: &Gateway, count: usize) -> Vec<Value> {
    weir_tests::until_async(seconds(5), async || gateway.outcomes("").await.len() == count).await;
    gateway.outcomes("").await
}

/// While a client reads nothing, is in the middle of its head, or has not said a word.
#[tokio::test]
async fn f10_clients_that_reset_in_any_phase_leave_nothing_behind() {
    let served = backend().large(100 << 20).start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    gateway.raw().await.reset();
    connect_and_send(&gateway, "GET / HTTP/1.1\r\nhost: x").await.reset();
    connect_and_send(&gateway, "POST / HTTP/1.1\r\nBASEcontent-length: 9\r\n\r\nabc").await.reset();
    let reading_nothing = connect_and_send(&gateway, "GET / HTTP/1.1\r\nBASE\r\n").await;
    until(seconds(3), || served.calls() == 1).await;
    // The gateway has written until nothing more was taken.
    tokio::time::sleep(millis(300)).await;
    let open = "weir_connections_open{listener=\"edge\",protocol=\"1.1\"}";
    assert_eq!(gateway.metric(open).await, 1.0, "the others are gone");
    reading_nothing.reset();
    until(seconds(3), || served.aborted().len() == 1).await;
    let rows = until_rows(&gateway, 1).await;
    assert_eq!(rows[0]["outcome"], "client_aborted");
    weir_tests::until_async(seconds(3), async || gateway.metric(open).await == 0.0).await;
    assert_eq!(gateway.metric("weir_in_flight_requests{route=\"all\"}").await, 0.0);
}

/// The refusal was for the head; a client that has ended its side still reads it.
#[tokio::test]
async fn a_refusal_reaches_a_client_that_has_ended_its_side() {
    let served = listening().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let mut raw = connect_and_send(&gateway, "GET / HTTP/1.1\r\nhost : x\r\n\r\n").await;
    raw.half_close().await.unwrap();
    assert_eq!(read(&mut raw).await.status, 400);
    assert_eq!(rejected(&gateway, "malformed").await, 1.0);
}
