//! Answers on their way back: hostile backends, bodiless answers, trailers, streams (hardening T07).

use serde_json::json;
use weir_tests::{
    Backend, Gateway, RawBackend, RawScript, backend, gateway, millis, raw_backend, raw_script,
    seconds, until,
};

use crate::wire_kit::{all_to, answering, lines_of, with_key};

async fn behind(script: RawScript) -> (RawBackend, Gateway) {
    let served = raw_backend(script).start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    (served, gateway)
}

/// One gateway with a route `/N` for each backend.
async fn behind_all(backends: &[RawBackend]) -> Gateway {
    let parts = backends.iter().enumerate().map(|(number, it)| {
        format!(
            "[backends.b{number}]\nendpoints = [\"{}\"]\n\
             [routes.r{number}]\npath = \"/{number}\"\nbackend = \"b{number}\"\n",
            it.url()
        )
    });
    gateway(parts.collect::<String>()).start().await
}

#[tokio::test]
async fn t07_an_answer_with_two_readings_is_a_502_and_its_connection_is_never_used_again() {
    let long =
        format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 2\r\n\r\nok", "v".repeat(70_000));
    let flood = "HTTP/1.1 102 Processing\r\n\r\n".repeat(9)
        + "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let cases: Vec<String> = [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 abc OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 099 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "nonsense\r\n\r\n",
        "<html>not http</html>\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
        "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nbytes",
        &long,
        &flood,
    ]
    .map(str::to_owned)
    .into();
    let mut backends = Vec::new();
    for case in &cases {
        let script = raw_script().reads_request().writes(case.clone());
        backends.push(raw_backend(script.stays_open()).start().await);
    }
    let gateway = behind_all(&backends).await;
    let client = gateway.client();
    for (number, case) in cases.iter().enumerate() {
        let case = &case[..case.len().min(120)];
        for calls in 1..=2 {
            let answer = client.get(&format!("/{number}")).await;
            assert_eq!(answer.status, 502, "{case:?}: {}", answer.text());
            assert_eq!(backends[number].connections(), calls, "{case:?}: used again, or retried");
        }
        let closed = || backends[number].received().iter().all(|it| it.closed_by_client.is_some());
        until(seconds(2), closed).because(format!("closed: {case:?}")).await;
    }
    assert_eq!(
        client.connections(),
        1,
        "a bad backend is no reason to end the client's connection"
    );
    lines_of(&gateway, 502, cases.len() * 2).await;
}

#[tokio::test]
async fn t07_a_body_that_breaks_off_is_never_a_clean_end() {
    let cases = [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\ncontent-length: 1\r\n\r\n",
    ];
    let mut backends = Vec::new();
    for case in cases {
        backends.push(raw_backend(answering(case).pauses(millis(50)).closes()).start().await);
    }
    let gateway = behind_all(&backends).await;
    for (number, case) in cases.iter().enumerate() {
        let mut raw = gateway.raw().await;
        let request =
            format!("GET /{number} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n\r\n");
        raw.send(with_key(&gateway, request.as_bytes())).await.unwrap();
        let answer = raw.read_response(seconds(3)).await.unwrap();
        assert!(
            answer.status == 502 || (answer.status == 200 && !answer.complete),
            "{case:?}: {answer:?}"
        );
        assert!(raw.is_closed(seconds(2)).await || answer.status == 502);
        let h2 = gateway.client().h2().get(&format!("/{number}")).attempt().await;
        if let Ok(answer) = h2 {
            assert!(answer.status == 502 || answer.error.is_some(), "{case:?}: {answer:?}");
        }
    }
    for row in gateway.outcomes("").await {
        assert!(["upstream_reset", "upstream_error"].contains(&row["outcome"].as_str().unwrap()));
    }
}

/// Bytes that nobody asked for must not become the answer to somebody else's request.
#[tokio::test]
async fn t07_bytes_after_the_end_never_answer_the_next_request() {
    let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let good = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let at_once = raw_script().reads_request().writes([good, evil].concat()).stays_open();
    let later = answering(good).pauses(millis(60)).writes(evil).stays_open();
    let excess = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokevil").stays_open();
    let no_content = answering("HTTP/1.1 204 No Content\r\n\r\nevil").stays_open();
    for (what, script) in
        [("at once", at_once), ("later", later), ("excess", excess), ("204", no_content)]
    {
        let (served, gateway) = behind(script).await;
        let client = gateway.client();
        for number in 1..=3 {
            let answer = client.get("/").await;
            assert!(!answer.text().contains("evil"), "{what}: {}", answer.text());
            // What came together with the head is known in time to refuse all of it.
            let status = if what == "later" { 200 } else { 502 };
            assert_eq!(answer.status, status, "{what}");
            tokio::time::sleep(millis(150)).await;
            assert_eq!(served.connections(), number, "{what}: the connection was pooled");
        }
    }
}

/// A backend that has seen enough answers and closes while the body is still on its way: writing it
/// fails then, and once that failure hid the answer.
#[tokio::test]
async fn t03_an_answer_ahead_of_the_body_passes_although_the_backend_stops_reading() {
    let head = "HTTP/1.1 413 Content Too Large\r\nx-mine: kept\r\n";
    let counted = format!("{head}content-length: 5\r\n\r\nlarge");
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n5\r\nlarge\r\n0\r\n\r\n");
    let to_the_end = format!("{head}\r\nlarge");
    let scripts = [
        // With bytes unread a close is a reset.
        raw_script().reads_head().writes(counted.clone()).closes(),
        raw_script().reads_head().writes(counted).resets(),
        raw_script().reads_head().writes(chunked).resets(),
        // Ends its side first, so that the answer is whole although it has no length.
        raw_script().reads_head().writes(to_the_end).half_closes().pauses(millis(50)).resets(),
    ];
    for (number, script) in scripts.into_iter().enumerate() {
        let (served, gateway) = behind(script).await;
        let body = vec![b'x'; 8 << 20];
        for round in 1..=8 {
            let answer = gateway.client().h2().post("/", body.clone()).await;
            assert_eq!(answer.status, 413, "{number}: {}", answer.text());
            assert_eq!(answer.text(), "large", "{number}");
            assert_eq!(answer.header("x-mine"), Some("kept"));
            assert_eq!(served.connections(), round, "{number}: used again, or sent twice");
        }
        // On HTTP/1.1 the client has sent a part and looks up.
        let mut raw = gateway.raw().await;
        let head = "POST / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n\
                    content-length: 8388608\r\n\r\n";
        raw.send(with_key(&gateway, head.as_bytes())).await.unwrap();
        raw.send(&body[..100_000]).await.unwrap();
        let answer = raw.read_response(seconds(5)).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (413, "large"), "{number}");
        assert!(raw.is_closed(seconds(3)).await, "a body that was not read ends the connection");
        for row in gateway.outcomes("").await {
            assert_eq!(row["outcome"], "client_error", "{number}: {row}");
        }
    }
}

/// What is lost when a backend resets is not to be taken for an answer without a length.
#[tokio::test]
async fn f03_an_answer_ahead_of_the_body_that_breaks_off_is_never_a_clean_end() {
    let script = raw_script().reads_head().writes("HTTP/1.1 200 OK\r\n\r\npart").resets();
    let (_served, gateway) = behind(script).await;
    for _ in 0..8 {
        let request = gateway.client().h2().post("/", vec![b'x'; 8 << 20]);
        if let Ok(answer) = request.attempt().await {
            assert!(answer.status == 502 || answer.error.is_some(), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_clean_connection_is_used_again() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ] {
        let (served, gateway) = behind(answering(answer).again()).await;
        let client = gateway.client();
        for _ in 0..3 {
            let got = client.get("/").await;
            assert!(got.status.as_u16() < 400 && got.error.is_none(), "{answer:?}: {got:?}");
        }
        assert_eq!((served.connections(), client.connections()), (1, 1), "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_without_a_length_ends_with_its_connection() {
    let (served, gateway) =
        behind(answering("HTTP/1.1 200 OK\r\n\r\nto the end").pauses(millis(30)).closes()).await;
    for client in [gateway.client(), gateway.client().h2()] {
        let answer = client.get("/").await;
        assert_eq!((answer.text().as_str(), answer.error), ("to the end", None));
    }
    assert_eq!(served.connections(), 2);
}

#[tokio::test]
async fn a_backend_cannot_speak_in_the_gateways_name() {
    let head = "HTTP/1.1 200 OK\r\nx-weir-variant: canary\r\nX-Weir-Receipt: forged\r\n\
                x-weir-error: forged\r\nalt-svc: h3=\":1\"\r\nkeep-alive: timeout=5\r\n\
                connection: x-named\r\nx-named: y\r\nproxy-authenticate: Basic\r\n\
                x-mine: kept\r\ncontent-length: 2\r\n\r\nok";
    let (_served, gateway) = behind(answering(head).again()).await;
    for client in [gateway.client(), gateway.client().h2()] {
        let answer = client.get("/").await;
        for gone in [
            "x-weir-variant",
            "x-weir-error",
            "alt-svc",
            "keep-alive",
            "x-named",
            "connection",
            "proxy-authenticate",
        ] {
            assert_eq!(answer.header(gone), None, "{gone}");
        }
        assert_ne!(answer.header("x-weir-receipt"), Some("forged"));
        assert_eq!(answer.header("x-mine"), Some("kept"));
    }
}

#[tokio::test]
async fn head_204_and_304_have_no_body_and_keep_the_connection() {
    let served = backend()
        .answers("hello")
        .on("/204", backend().status(204))
        .on("/304", backend().status(304).header("etag", "\"x\""))
        .start()
        .await;
    let gateway = gateway(all_to(&served.url())).start().await;
    for client in [gateway.client(), gateway.client().h2()] {
        let head = client.request("HEAD", "/", "").await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), Some("5"), "of the answer to GET");
        let empty = client.get("/204").await;
        assert_eq!((empty.status.as_u16(), empty.body.len()), (204, 0));
        assert_eq!(empty.header("transfer-encoding"), None);
        let same = client.get("/304").header("if-none-match", "\"x\"").await;
        assert_eq!((same.status.as_u16(), same.header("etag")), (304, Some("\"x\"")));
        assert_eq!(client.get("/").await.text(), "hello");
        assert_eq!(client.connections(), 1);
    }
    assert_eq!(gateway.outcomes("outcome=ok").await.len(), 8);
    // By their bytes: nothing may follow the head.
    let mut raw = gateway.raw().await;
    let pair = "HEAD / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n\r\n\
                GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n\r\n";
    raw.send(with_key(&gateway, pair.as_bytes())).await.unwrap();
    assert_eq!(raw.read_response_to_head(seconds(2)).await.unwrap().status, 200);
    assert_eq!(raw.read_response(seconds(2)).await.unwrap().text(), "hello");
}

#[tokio::test]
async fn an_http_1_0_client_gets_chunks_as_a_plain_body() {
    let served = backend().streams(["one ", "two ", "three"]).gap(millis(20)).start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    for host in ["host: x\r\n", ""] {
        let mut raw = gateway.raw().await;
        let request = format!("GET / HTTP/1.0\r\n{host}authorization: Bearer KEY\r\n\r\n");
        raw.send(with_key(&gateway, request.as_bytes())).await.unwrap();
        let answer = raw.read_response(seconds(3)).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "one two three"));
        assert!(answer.complete && answer.header("transfer-encoding").is_none(), "{answer:?}");
        assert!(raw.is_closed(seconds(1)).await);
    }
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let sent = [("x-checksum", "abc")];
    let came = [("x-took", "5ms")];
    let h1 = backend().echo().trailers(&came).start().await;
    let h2 = backend().echo().trailers(&came).h2().start().await;
    for served in [&h1, &h2] {
        let gateway = gateway(all_to(&served.url())).start().await;
        for client in [gateway.client(), gateway.client().h2()] {
            let answer = client
                .post("/", "")
                .in_pieces(["a", "b"], millis(5))
                .trailers(&sent)
                .welcomes_trailers()
                .await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.json()["trailers"], json!([["x-checksum", "abc"]]));
            // An HTTP/1.1 answer must announce its trailers, which HTTP/2 backends need not do.
            let h2_to_h1 = served.url().starts_with("h2c") && answer.version == http_11();
            if !h2_to_h1 {
                assert_eq!(answer.trailer("x-took"), Some("5ms"), "{:?}", answer.version);
            }
        }
    }
}

/// An HTTP/2 backend need not announce its trailers; an HTTP/1.1 answer must. So they are dropped
/// there, which RFC 9110 (6.5.1) allows, and the body ends as it should.
#[tokio::test]
async fn trailers_that_nobody_announced_end_an_http_1_1_answer_cleanly() {
    let came = [("grpc-status", "0"), ("x-took", "5ms")];
    let long = || backend().streams(["one ", "two ", "three"]).trailers(&came).h2();
    let sized = backend().answers("one two three").trailers(&came).h2();
    for served in [long().start().await, sized.start().await] {
        let gateway = gateway(all_to(&served.url())).start().await;
        for te in ["te: trailers\r\nconnection: te\r\n", ""] {
            let mut raw = gateway.raw().await;
            for _ in 0..2 {
                let request =
                    format!("GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n{te}\r\n");
                raw.send(with_key(&gateway, request.as_bytes())).await.unwrap();
                let answer = raw.read_response(seconds(3)).await.unwrap();
                assert_eq!((answer.status, answer.text().as_str()), (200, "one two three"));
                assert!(answer.complete, "{answer:?}");
            }
        }
        let over_h2 = gateway.client().h2().get("/").header("te", "trailers").await;
        assert_eq!(over_h2.trailer("x-took"), Some("5ms"), "{over_h2:?}");
    }
}

#[tokio::test]
async fn a_backend_cannot_speak_in_the_gateways_name_in_trailers_either() {
    let came = [("x-weir-variant", "canary"), ("x-weir-receipt", "forged"), ("x-took", "5ms")];
    let h1 = backend().streams(["a", "b"]).trailers(&came).start().await;
    let h2 = backend().streams(["a", "b"]).trailers(&came).h2().start().await;
    for served in [&h1, &h2] {
        let gateway = gateway(all_to(&served.url())).start().await;
        for client in [gateway.client(), gateway.client().h2()] {
            let answer = client.get("/").welcomes_trailers().await;
            assert_eq!((answer.text().as_str(), answer.error.as_deref()), ("ab", None));
            assert_eq!(answer.trailer("x-weir-variant"), None);
            assert_eq!(answer.trailer("x-weir-receipt"), None);
            if answer.version == http::Version::HTTP_2 {
                assert_eq!(answer.trailer("x-took"), Some("5ms"));
            }
        }
    }
}

fn http_11() -> http::Version {
    http::Version::HTTP_11
}

#[tokio::test]
async fn early_hints_are_dropped_without_harm() {
    let served = backend().answers("ok").early_hints(&[("link", "</x>")]).start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    for client in [gateway.client(), gateway.client().h2()] {
        for _ in 0..2 {
            let answer = client.get("/").await;
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "ok"));
            assert!(answer.informational.is_empty() && answer.header("link").is_none());
        }
    }
    assert!(served.connections() <= 2, "the connection is used again");
}

async fn streaming(served: &Backend) -> Gateway {
    gateway(all_to(&served.url())).start().await
}

#[tokio::test]
async fn each_event_arrives_when_the_backend_sends_it() {
    let gap = millis(150);
    let openai = backend().openai("m").pieces(5).gap(gap).start().await;
    let anthropic = backend().anthropic("m").pieces(5).gap(gap).start().await;
    let over_h2 = backend().openai("m").pieces(5).gap(gap).h2().start().await;
    for (served, path) in [
        (&openai, "/v1/chat/completions"),
        (&anthropic, "/v1/messages"),
        (&over_h2, "/v1/chat/completions"),
    ] {
        let gateway = streaming(served).await;
        let body = json!({"model": "m", "stream": true, "max_tokens": 9,
                          "messages": [{"role": "user", "content": "hi"}]});
        for client in [gateway.client(), gateway.client().h2()] {
            let answer = client.post(path, body.to_string()).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.header("content-type"), Some("text/event-stream"));
            assert!(answer.chunks.len() >= 5, "{:?}", answer.chunks);
            // The last words of a model come together; the others each at its time.
            let first = answer.chunks[0].0;
            for (number, (at, _)) in answer.chunks.iter().enumerate().take(5) {
                let due = gap * u32::try_from(number).unwrap();
                let late = (*at - first).saturating_sub(due);
                assert!(late < gap, "{number} is {late:?} late: {:?}", answer.chunks);
            }
            let spread = answer.chunks.last().unwrap().0 - answer.chunks[0].0;
            assert!(spread >= gap * 3, "all at once: {:?}", answer.chunks);
        }
    }
}

#[tokio::test]
async fn a_refusal_has_the_shape_that_the_clients_sdk_reads() {
    let served = backend().answers("ok").start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    for client in [gateway.anonymous(), gateway.anonymous().h2()] {
        let openai = client.post("/v1/chat/completions", "{}").await;
        assert_eq!(openai.status, 401);
        assert_eq!(openai.header("x-weir-error"), Some("unauthenticated"));
        let error = &openai.json()["error"];
        assert_eq!(error["type"], "authentication_error");
        assert_eq!(error["code"], "invalid_api_key");
        assert!(error["message"].is_string() && error["param"].is_null());
        assert_eq!(error["request_id"], openai.header("x-request-id").unwrap());

        let anthropic = client.post("/v1/messages", "{}").await;
        assert_eq!(anthropic.status, 401);
        assert_eq!(anthropic.json()["type"], "error");
        assert_eq!(anthropic.json()["error"]["type"], "authentication_error");

        let other = client.post("/infer", "{}").await;
        assert_eq!(other.json()["error"]["type"], "unauthenticated");
        assert!(other.json()["error"]["request_id"].is_string());
    }
    // gRPC: a status in the only HEADERS frame, HTTP 200.
    let grpc =
        gateway.anonymous().h2().post("/p.S/M", "").header("content-type", "application/grpc");
    let grpc = grpc.await;
    assert_eq!((grpc.status.as_u16(), grpc.header("grpc-status")), (200, Some("16")));
    assert!(grpc.header("grpc-message").is_some_and(|it| !it.is_empty()));
    assert_eq!((grpc.body.len(), grpc.header("content-type")), (0, Some("application/grpc")));
    assert_eq!(served.calls(), 0);
    let lines = lines_of(&gateway, 401, 7).await;
    assert!(lines.iter().all(|line| line.get("outcome").is_none()), "refusals are no outcomes");
}
