//! Limits of the wire: sizes, times, and what closes (hardening L01 to L11).

use std::time::Instant;

use weir_tests::raw_client::{Ended, Missing, frames};
use weir_tests::{backend, gateway, millis, raw_backend, raw_script, seconds};

use crate::wire_kit::{all_to, lines_of, listening, rejected, send_raw, with_key};

fn get(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n{fields}\r\n").into()
}

fn fields(count: usize) -> String {
    (0..count).map(|number| format!("x-{number}: y\r\n")).collect()
}

#[tokio::test]
async fn l01_l02_l03_heads_over_a_limit_are_refused_and_at_it_served() {
    let served = listening().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let (path, long) = (format!("/{}", "p".repeat(8191)), "v".repeat(33 * 1024));
    let (kept, _) = send_raw(&gateway, &get(&path, "connection: close\r\n")).await;
    assert_eq!(kept.status, 200);
    // Host and authorization are two, connection is one.
    let (kept, _) = send_raw(&gateway, &get("/", &(fields(97) + "connection: close\r\n"))).await;
    assert_eq!(kept.status, 200);
    let before = served.received_bytes();
    let cases = [
        (get(&format!("{path}p"), ""), 414, "target_too_long"),
        (get("/", &format!("x: {long}\r\n")), 431, "invalid_headers"),
        (get("/", &fields(99)), 431, "invalid_headers"),
    ];
    for (bytes, status, code) in &cases {
        let (answer, closed) = send_raw(&gateway, bytes).await;
        assert_eq!((answer.status, closed), (*status, true));
        assert_eq!(answer.header("x-weir-error"), Some(*code));
    }
    assert_eq!(served.received_bytes(), before);
    assert_eq!(rejected(&gateway, "header_too_large").await, 3.0);
    lines_of(&gateway, 431, 2).await;
    lines_of(&gateway, 414, 1).await;
}

/// hyper has limits of its own (100 fields); they must not be in force where ours are wider.
#[tokio::test]
async fn limits_can_be_raised_beyond_those_of_the_library_below() {
    let served = listening().await;
    let limits = "header_fields = 300\nheader_bytes = \"256KiB\"\n";
    let gateway = gateway(all_to(&served.url())).limits(limits).start().await;
    let (answer, _) = send_raw(&gateway, &get("/", &(fields(250) + "connection: close\r\n"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let long = get("/", &format!("x: {}\r\nconnection: close\r\n", "v".repeat(200 * 1024)));
    let mut raw = gateway.raw().await;
    raw.send_in_pieces(with_key(&gateway, &long), 10_000, millis(1)).await.unwrap();
    let answer = raw.read_response(seconds(3)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// On HTTP/2 a target goes on with scheme and host in front, and may be too long then. Once `/` was
/// asked for in its place.
#[tokio::test]
async fn a_target_that_cannot_be_sent_on_is_refused() {
    let served = backend().answers("ok").h2().start().await;
    let limits = "target_bytes = \"64KiB\"\nheader_bytes = \"256KiB\"\n";
    let gateway = gateway(all_to(&served.url())).limits(limits).start().await;
    // The backend has a limit of its own, at 16 KiB.
    let fits = format!("/{}", "p".repeat(10_000));
    assert_eq!(send_raw(&gateway, &get(&fits, "connection: close\r\n")).await.0.status, 200);
    let long = format!("/{}", "p".repeat(65_520));
    let (answer, _) = send_raw(&gateway, &get(&long, "connection: close\r\n")).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(served.calls(), 1);
}

#[tokio::test]
async fn l03_fields_are_counted_on_http_2_as_well() {
    let served = backend().answers("ok").start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let bearer = format!("Bearer {}", gateway.client_key);
    let names: Vec<String> = (0..120).map(|number| format!("x-{number}")).collect();
    let crumbs: Vec<String> = (0..120).map(|number| format!("a{number}=1")).collect();
    let mut raw = gateway.raw_h2().await;
    raw.start_h2(&[]).await.unwrap();
    let mut many = vec![("authorization", bearer.as_str())];
    many.extend(names.iter().map(|name| (name.as_str(), "y")));
    raw.send(frames::get(1, "localhost", "/", &many)).await.unwrap();
    assert_eq!(raw.read_frame_on(1, seconds(2)).await.unwrap().status(), Some(431));
    let mut cookies = vec![("authorization", bearer.as_str())];
    cookies.extend(crumbs.iter().map(|crumb| ("cookie", crumb.as_str())));
    raw.send(frames::get(3, "localhost", "/", &cookies)).await.unwrap();
    assert_eq!(raw.read_frame_on(3, seconds(2)).await.unwrap().status(), Some(431));
    let long = "v".repeat(17 * 1024);
    let (first, rest) = {
        let fields = frames::request_fields(
            "GET",
            "localhost",
            "/",
            &[("authorization", &bearer), ("x-long", &long)],
        );
        let block = frames::block(&fields);
        (block[..16_000].to_vec(), block[16_000..].to_vec())
    };
    raw.send(frames::frame(frames::kind::HEADERS, frames::flag::END_STREAM, 5, &first))
        .await
        .unwrap();
    raw.send(frames::continuation(5, &rest, true)).await.unwrap();
    let answer = raw.read_frame_on(5, seconds(2)).await.unwrap();
    assert!(answer.kind == frames::kind::RST_STREAM || answer.status() == Some(431), "{answer:?}");
    assert_eq!(served.calls(), 0);
}

#[tokio::test]
async fn l04_a_slow_head_gets_408_and_a_silent_connection_nothing() {
    let served = listening().await;
    let limits = "header_timeout = \"400ms\"";
    let gateway = gateway(all_to(&served.url())).limits(limits).start().await;

    let mut slow = gateway.raw().await;
    slow.send("GET / HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let began = Instant::now();
    let answer = slow.read_response(seconds(3)).await.unwrap();
    assert_eq!((answer.status, answer.complete), (408, true));
    assert!(began.elapsed() >= millis(350), "{:?}", began.elapsed());
    assert!(slow.is_closed(seconds(2)).await);

    // The time is absolute: bytes that keep coming buy nothing.
    let mut dripping = gateway.raw().await;
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(400));
    let began = Instant::now();
    let _ = dripping.send_in_pieces(&head[..60], 1, millis(20)).await;
    assert_eq!(dripping.read_response(seconds(3)).await.unwrap().status, 408);
    assert!(began.elapsed() < seconds(2));

    let mut silent = gateway.raw().await;
    let (bytes, ended) = silent.read_to_close(seconds(3)).await;
    assert_eq!((bytes.len(), ended), (0, Some(Ended::Cleanly)));
    assert_eq!(rejected(&gateway, "header_timeout").await, 2.0);
    lines_of(&gateway, 408, 2).await;
    assert_eq!(served.received_bytes(), 0);
}

#[tokio::test]
async fn l05_a_declared_length_over_the_limit_is_refused_before_its_body_is_read() {
    let served = listening().await;
    let gateway = gateway(all_to(&served.url())).limits("body_bytes = \"1KiB\"").start().await;
    let head = "POST / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n";
    // Not a byte of the body is sent.
    let declared = format!("{head}content-length: 1025\r\n\r\n");
    let (answer, closed) = send_raw(&gateway, declared.as_bytes()).await;
    assert_eq!((answer.status, closed), (413, true));
    assert_eq!(answer.header("x-weir-error"), Some("body_too_large"));
    assert_eq!(answer.header("connection"), Some("close"));
    let fits =
        format!("{head}connection: close\r\ncontent-length: 1024\r\n\r\n{}", "x".repeat(1024));
    assert_eq!(send_raw(&gateway, fits.as_bytes()).await.0.status, 200);
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    let streamed =
        format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}{chunk}{chunk}0\r\n\r\n");
    let (answer, closed) = send_raw(&gateway, streamed.as_bytes()).await;
    assert_eq!((answer.status, closed), (413, true));
    lines_of(&gateway, 413, 2).await;
    let whole = served.received().iter().filter(|it| it.text().ends_with("0\r\n\r\n")).count();
    assert_eq!(whole, 0, "a body that was cut must not look whole");
}

#[tokio::test]
async fn l06_a_body_that_stops_gets_408() {
    let served = listening().await;
    let limits = "body_idle_timeout = \"300ms\"";
    let gateway = gateway(all_to(&served.url())).limits(limits).start().await;
    for framing in
        ["content-length: 100\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"]
    {
        let request =
            format!("POST / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n{framing}");
        let began = Instant::now();
        let (answer, closed) = send_raw(&gateway, request.as_bytes()).await;
        assert_eq!((answer.status, closed), (408, true), "{}", answer.text());
        assert!(began.elapsed() >= millis(250));
    }
    lines_of(&gateway, 408, 2).await;
}

#[tokio::test]
async fn l09_idle_connections_are_closed_cleanly() {
    let served = listening().await;
    let limits = "idle_timeout = \"300ms\"\nh2_idle_timeout = \"300ms\"";
    let gateway = gateway(all_to(&served.url())).limits(limits).start().await;
    let mut raw = gateway.raw().await;
    raw.send(with_key(&gateway, &get("/", ""))).await.unwrap();
    assert_eq!(raw.read_response(seconds(2)).await.unwrap().status, 200);
    let (bytes, ended) = raw.read_to_close(seconds(3)).await;
    assert_eq!((bytes.len(), ended), (0, Some(Ended::Cleanly)));

    let mut h2 = gateway.raw_h2().await;
    h2.start_h2(&[]).await.unwrap();
    h2.send(frames::get(1, "localhost", "/", &[])).await.unwrap();
    assert_eq!(h2.read_frame_on(1, seconds(2)).await.unwrap().status(), Some(401));
    let away = h2.read_frame_of(frames::kind::GOAWAY, seconds(3)).await.unwrap();
    assert_eq!(away.code(), Some(frames::code::NO_ERROR));
    assert!(h2.is_closed(seconds(3)).await);
}

#[tokio::test]
async fn l09_a_connection_ends_after_its_last_request() {
    let served = listening().await;
    let limits = "requests_per_connection = 3";
    let gateway = gateway(all_to(&served.url())).limits(limits).start().await;
    let mut raw = gateway.raw().await;
    for number in 1..=3 {
        raw.send(with_key(&gateway, &get("/", ""))).await.unwrap();
        let answer = raw.read_response(seconds(2)).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        assert_eq!(answer.header("connection") == Some("close"), number == 3);
    }
    assert!(raw.is_closed(seconds(2)).await);
    // Pipelined behind the last one: not answered, so the client knows that it may send it again.
    let mut raw = gateway.raw().await;
    raw.send(with_key(&gateway, &get("/", "").repeat(4))).await.unwrap();
    for _ in 0..3 {
        assert_eq!(raw.read_response(seconds(2)).await.unwrap().status, 200);
    }
    assert!(matches!(raw.read_response(seconds(2)).await, Err(Missing::Ended(..))));
    assert_eq!(served.received_text().matches("GET /").count(), 6);
}

#[tokio::test]
async fn l11_response_fields_are_counted_by_our_limit() {
    let head =
        |count: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{}\r\nok", fields(count));
    let fits = raw_backend(raw_script().reads_request().writes(head(120)).again()).start().await;
    let over = raw_backend(raw_script().reads_request().writes(head(129)).again()).start().await;
    let text = format!(
        "[backends.fits]\nendpoints = [\"{}\"]\n[backends.over]\nendpoints = [\"{}\"]\n\
         [routes.fits]\npath = \"/fits\"\nbackend = \"fits\"\n\
         [routes.over]\npath = \"/over\"\nbackend = \"over\"\n",
        fits.url(),
        over.url()
    );
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    // A client of bytes: the test library's own takes 100 fields.
    let (answer, _) = send_raw(&gateway, &get("/fits", "connection: close\r\n")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!(answer.header("x-119"), Some("y"));
    assert_eq!(client.get("/over").await.status, 502);
}
