//! Backends that break off, talk nonsense, or close at the wrong moment (F03, F04, F05, L14).

use weir_tests::raw_client::frames::{self, code, kind};
use weir_tests::{Failure, Gateway, backend, gateway, millis, raw_backend, raw_script, seconds};

fn route(url: &str, more: &str) -> String {
    format!(
        "[backends.b]\nendpoints = [\"{url}\"]\n[routes.r]\npath = \"/*\"\nbackend = \"b\"\n{more}\n"
    )
}

async fn started(url: &str, more: &str) -> Gateway {
    gateway(route(url, more)).start().await
}

#[tokio::test]
async fn f03_a_reset_in_the_middle_is_never_taken_for_the_end() {
    let whole = "0123456789".repeat(2_000);
    let pieces: Vec<String> = (0..20).map(|at| whole[at * 1000..(at + 1) * 1000].into()).collect();
    let of_length = || backend().answers(whole.clone());
    let chunked = || backend().streams(pieces.clone()).gap(millis(3));
    let builders = [
        ("length, reset", of_length().resets_after(5_000)),
        ("length, closed", of_length().breaks_off_after(5_000)),
        ("chunked, reset", chunked().resets_after(5_000)),
        ("chunked, closed", chunked().breaks_off_after(5_000)),
        ("h2, reset", chunked().h2().resets_after(5_000)),
        ("h2, stream reset", chunked().h2().breaks_off_after(5_000)),
    ];
    for (what, builder) in builders {
        let broken = builder.start().await;
        let gateway = started(&broken.url(), "").await;
        for client in [gateway.client(), gateway.client().h2()] {
            // Idempotent, and still not repeated: bytes of two answers are never spliced.
            let answer = match client.get("/x").attempt().await {
                Ok(answer) => answer,
                // What had not gone out when the rest broke is lost with it.
                Err(Failure::Broken(_)) => continue,
                Err(failure) => panic!("{what}: {failure}"),
            };
            assert_eq!(answer.status, 200, "{what}");
            assert!(answer.error.is_some(), "{what}: taken for whole");
            assert!(whole.starts_with(&answer.text()), "{what}: other bytes");
        }
        assert_eq!(broken.calls(), 2, "{what}");
        let rows = gateway.outcomes("").await;
        assert_eq!(rows.len(), 2, "{what}");
        for row in rows {
            assert_eq!(row["outcome"], "upstream_reset", "{what}: {row}");
            assert_eq!(row["flags"], "UR", "{what}: {row}");
            let size = row["http.response.body.size"].as_u64().unwrap_or(0);
            assert!(size <= 5_000, "{what}: {row}");
            assert_eq!(row["stream.complete"], false, "{what}: {row}");
            if what.contains("chunked") {
                assert!(size > 0, "{what}: {row}");
            }
        }
    }
}

#[tokio::test]
async fn f03_over_http2_the_stream_is_reset_with_internal_error() {
    let broken =
        backend().streams(["abc", "def"]).gap(millis(50)).breaks_off_after(3).start().await;
    let gateway = started(&broken.url(), "").await;
    let mut raw = gateway.raw_h2().await;
    raw.start_h2(&[]).await.unwrap();
    let key = format!("Bearer {}", gateway.client_key);
    let authority = format!("localhost:{}", gateway.edge.port());
    raw.send(frames::get(1, &authority, "/x", &[("authorization", &key)])).await.unwrap();
    let last = loop {
        let frame = raw.read_frame_on(1, seconds(3)).await.unwrap();
        assert!(!frame.ends_stream() || frame.kind == kind::RST_STREAM, "a clean end: {frame:?}");
        if frame.kind == kind::RST_STREAM {
            break frame;
        }
    };
    assert_eq!(last.code(), Some(code::INTERNAL_ERROR));
    // The connection and its other streams go on.
    broken.becomes(backend().answers("whole"));
    raw.send(frames::get(3, &authority, "/x", &[("authorization", &key)])).await.unwrap();
    assert_eq!(raw.read_frame_on(3, seconds(3)).await.unwrap().status(), Some(200));
}

#[tokio::test]
async fn f04_nonsense_is_502_and_its_connection_is_never_used_again() {
    let long = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n", "y".repeat(100 << 10));
    let many: String = (0..200).map(|at| format!("x-{at}: 1\r\n")).collect();
    let many = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{many}\r\n");
    let bodies: Vec<(&str, String)> = vec![
        ("garbage", "\u{1}\u{2}\u{3} garbage\r\n\r\n".into()),
        ("tls instead", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\r\n\r\n".into()),
        ("status line", "HTTP/1.1 abc OK\r\n\r\n".into()),
        ("http 3", "HTTP/3.0 200 OK\r\ncontent-length: 0\r\n\r\n".into()),
        (
            "two lengths",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc".into(),
        ),
        (
            "both",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
                .into(),
        ),
        ("flood of 1xx", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(50)),
        ("long head", long),
        ("many fields", many),
    ];
    for (what, bytes) in bodies {
        let hostile =
            raw_backend(raw_script().reads_request().writes(bytes).stays_open()).start().await;
        let gateway = started(&hostile.url(), "").await;
        for at in 1..=2 {
            let answer = gateway.client().get("/x").within(seconds(5)).await;
            assert_eq!(answer.status, 502, "{what}");
            assert!(answer.header("x-weir-error").is_some(), "{what}");
            assert_eq!(hostile.connections(), at, "{what}: not sent again, not reused");
        }
        weir_tests::until(seconds(2), || {
            hostile.received().iter().all(|connection| connection.closed_by_client.is_some())
        })
        .because("what speaks nonsense is closed")
        .await;
        let rows = gateway.outcomes("").await;
        assert_eq!(rows.len(), 2, "{what}");
        assert!(rows.iter().all(|row| row["outcome"] == "upstream_error"), "{what}: {rows:?}");
        assert_eq!(gateway.metric("weir_panics_total").await, 0.0, "{what}");
        let attempts =
            "weir_upstream_attempts_total{backend=\"b\",result=\"protocol_error\",retry=\"false\"}";
        assert_eq!(gateway.metric(attempts).await, 2.0, "{what}");
    }
}

#[tokio::test]
async fn f04_bytes_after_the_end_of_an_answer_are_nobodys() {
    let twice = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\
                 content-length: 6\r\n\r\nstolen";
    let hostile =
        raw_backend(raw_script().reads_request().writes(twice).stays_open()).start().await;
    let gateway = started(&hostile.url(), "").await;
    let client = gateway.client();
    for _ in 0..5 {
        let answer = client.get("/x").within(seconds(5)).await;
        assert!(!answer.text().contains("stolen"), "{}", answer.text());
    }
    assert_eq!(hostile.connections(), 5, "a connection with bytes left over is not reused");
}

#[tokio::test]
async fn f05_gets_never_notice_that_idle_connections_close() {
    let hasty = backend().answers("ok").close_idle_after(millis(80)).start().await;
    let gateway = started(&hasty.url(), "").await;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..8_u64 {
        let client = gateway.client();
        clients.spawn(async move {
            for round in 0..25_u64 {
                let answer = client.get("/x").attempt().await.unwrap();
                assert_eq!(answer.status, 200, "client {number}, round {round}");
                // All around the moment at which the backend closes.
                tokio::time::sleep(millis(76 + (number + round) % 9)).await;
            }
        });
    }
    clients.join_all().await;
    let rows = gateway.outcomes("").await;
    assert_eq!(rows.len(), 200);
    assert!(rows.iter().all(|row| row["outcome"] == "ok"));
}

#[tokio::test]
async fn f05_a_post_on_a_connection_that_is_closed_this_instant_runs_once() {
    let served = backend().answers("ok").start().await;
    let gateway = started(&served.url(), "retry_non_idempotent = true").await;
    let client = gateway.client();
    for round in 0..60 {
        assert_eq!(client.post("/x", "{}").await.status, 200);
        served.close_connections();
        if round % 2 == 0 {
            tokio::time::sleep(millis(2)).await;
        }
    }
    assert_eq!(served.calls(), 60, "each ran, and none twice");
}

/// Answers the first request; takes the second and closes without a word.
fn closes_on_the_second() -> weir_tests::RawScript {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1";
    raw_script().reads_request().writes(ok).reads_request().closes()
}

fn answers_all() -> weir_tests::RawScript {
    raw_script().reads_request().writes("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n2").again()
}

#[tokio::test]
async fn f05_a_post_lost_on_a_reused_connection_goes_again_only_where_the_route_allows_it() {
    for (allowed, method, status, connections) in [
        (false, "POST", 502, 1),
        (true, "POST", 200, 2),
        (false, "GET", 200, 2),
        (false, "PUT", 200, 2),
        (false, "PATCH", 502, 1),
    ] {
        let served = raw_backend(closes_on_the_second()).then(answers_all()).start().await;
        let more = format!("retry_non_idempotent = {allowed}");
        let gateway = started(&served.url(), &more).await;
        let client = gateway.client();
        assert_eq!(client.get("/x").await.text(), "1");
        let body = if method == "GET" { "" } else { "{\"n\":1}" };
        let answer = client.request(method, "/x", body).await;
        assert_eq!(answer.status, status, "{method}, allowed: {allowed}");
        assert_eq!(served.connections(), connections, "{method}, allowed: {allowed}");
        let row = &gateway.outcomes("").await[0];
        assert_eq!(row["attempts"], connections, "{method}, allowed: {allowed}");
        if status == 502 {
            assert_eq!(row["outcome"], "upstream_reset");
        }
    }
}

#[tokio::test]
async fn f05_a_fresh_connection_that_breaks_is_retried_for_what_is_idempotent_only() {
    for (method, calls) in [("GET", 2), ("DELETE", 2), ("POST", 1)] {
        let broken = backend().resets().start().await;
        let gateway = started(&broken.url(), "retry_non_idempotent = true").await;
        let answer = gateway.client().request(method, "/x", "").await;
        assert_eq!(answer.status, 502, "{method}");
        assert_eq!(broken.calls(), calls, "{method}");
    }
}

#[tokio::test]
async fn l15_an_error_status_is_an_answer_and_is_not_repeated() {
    let failing = backend().status(503).start().await;
    let gateway = started(&failing.url(), "").await;
    assert_eq!(gateway.client().get("/x").await.status, 503);
    assert_eq!(failing.calls(), 1);
    assert_eq!(gateway.outcomes("").await[0]["outcome"], "upstream_error");
}

#[tokio::test]
async fn l14_a_chunked_body_goes_again_whole_if_it_was_kept_and_not_at_all_if_not() {
    for (size, status, connections) in [(60 << 10, 200, 2), (200 << 10, 502, 1)] {
        let served = raw_backend(closes_on_the_second()).then(answers_all()).start().await;
        let gateway = started(&served.url(), "").await;
        let client = gateway.client();
        assert_eq!(client.get("/x").await.text(), "1");
        let pieces: Vec<Vec<u8>> = (0..10).map(|_| vec![b'Z'; size / 10]).collect();
        let answer = client.request("PUT", "/x", "").in_pieces(pieces, millis(2)).await;
        assert_eq!(answer.status, status, "{size}");
        assert_eq!(served.connections(), connections, "{size}");
        let came = served.received().last().unwrap().bytes.iter().filter(|b| **b == b'Z').count();
        assert_eq!(came, size / 10 * 10, "{size}: the last attempt had the whole body");
    }
}

/// Half a head and then nothing: the first byte came, the head did not.
#[tokio::test]
async fn f04_half_a_head_is_a_timeout_or_a_502_and_is_not_repeated() {
    let half = || raw_script().reads_request().writes("HTTP/1.1 200 OK\r\nx-half: ");
    for (script, status) in [(half().stays_open(), 504), (half().closes(), 502)] {
        let hostile = raw_backend(script).start().await;
        let gateway = started(&hostile.url(), "timeouts = { first_byte = \"300ms\" }").await;
        assert_eq!(gateway.client().get("/x").await.status, status);
        assert_eq!(hostile.connections(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole_and_the_connection_is_not_used_again() {
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"] {
        let script = raw_script().reads_request().writes(format!("{head}to the end")).closes();
        let served = raw_backend(script).start().await;
        let gateway = started(&served.url(), "").await;
        for client in [gateway.client(), gateway.client().h2()] {
            for _ in 0..2 {
                let answer = client.post("/x", "{}").await;
                assert_eq!((answer.text(), answer.error), ("to the end".into(), None));
            }
        }
        assert_eq!(served.connections(), 4);
    }
}

/// A backend that ends its side after an answer still reads; what is sent to it is lost.
#[tokio::test]
async fn f05_a_half_closed_connection_takes_no_request() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let script = raw_script().reads_request().writes(ok).half_closes().stays_open();
    let served = raw_backend(script).start().await;
    let gateway = started(&served.url(), "").await;
    let client = gateway.client();
    for at in 1..=5 {
        assert_eq!(client.post("/x", "{}").await.status, 200, "request {at}");
        assert_eq!(served.connections(), at);
    }
}

/// 413 before the upload is over, as a backend does that looks at the length only.
#[tokio::test]
async fn t03_an_early_answer_reaches_the_client_and_its_connection_is_not_used_again() {
    for h2 in [false, true] {
        let builder = backend().answers("too large").status(413).without_reading();
        let served = if h2 { builder.h2() } else { builder }.start().await;
        let gateway = started(&served.url(), "").await;
        // Over HTTP/1.1 the client could lose the answer too: more than 64 KiB are not drained.
        let client = gateway.client().h2();
        for _ in 0..5 {
            let answer = client.post("/x", vec![b'a'; 200 << 10]).await;
            let told = (answer.status.as_u16(), answer.text());
            assert_eq!(told, (413, "too large".into()), "h2 backend: {h2}");
        }
        let rows = gateway.outcomes("").await;
        assert_eq!(rows.len(), 5);
        let told = |row: &serde_json::Value| row["outcome"] == "client_error";
        assert!(rows.iter().all(told), "{rows:?}");
        served.becomes(backend().echo());
        let answer = gateway.client().post("/x", "clean").await;
        assert_eq!(answer.json()["body"], "clean", "no leftovers of another body");
    }
}

/// A fault of our own while an answer is passed on: debug builds can be made to have one.
#[tokio::test]
#[cfg_attr(not(debug_assertions), ignore = "release builds have no such fault")]
async fn f27_a_panic_in_the_middle_of_an_answer_ends_that_answer_alone() {
    let panics = backend().streams(["part"]).header("x-weir-test-panic", "1");
    let slow = backend().streams(["a"; 20]).gap(millis(50));
    let served = backend().answers("well").on("/panics", panics).on("/slow", slow).start().await;
    let gateway = started(&served.url(), "").await;
    // On every worker, over both protocols.
    let clients: Vec<_> = (0..3).flat_map(|_| [gateway.client(), gateway.client().h2()]).collect();
    let mut running = Vec::new();
    for client in &clients {
        running.push(client.get("/slow").open().await.unwrap());
    }
    let shared = &clients[1];
    for (count, client) in
        [gateway.client(), gateway.client().h2(), shared.clone()].iter().enumerate()
    {
        if let Ok(answer) = client.get("/panics").attempt().await {
            assert!(answer.error.is_some(), "a part is not the whole: {answer:?}");
        }
        assert_eq!(gateway.metric("weir_panics_total").await, (count + 1) as f64);
    }
    for streaming in running {
        let answer = streaming.rest().await;
        assert_eq!((answer.text(), answer.error), ("a".repeat(20), None));
    }
    for client in &clients {
        assert_eq!(client.get("/").await.text(), "well");
    }
    let rows = gateway.outcomes("outcome=gateway_error").await;
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert_eq!(gateway.get("/status").await["backends"][0]["in_flight"], 0);
}
