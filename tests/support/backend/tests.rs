//! The scripted backend itself, asked by our own client.

use bytes::Bytes;
use http::{Response, Version};
use serde_json::json;

use super::*;
use crate::Authority;
use crate::raw_client::frames;
use crate::{Client, Failure, RawClient, millis, seconds, together, until, until_blocking};

#[tokio::test]
async fn an_echo_tells_what_was_asked_and_so_does_the_record() {
    let echo = backend().echo().h1_and_h2().start().await;
    for client in [Client::plain(echo.addr), Client::plain(echo.addr).h2()] {
        echo.forget();
        let answer = client.post("/a/b?c=d&e", "body").header("x-one", "1").await.json();
        assert_eq!(answer["method"], "POST");
        assert_eq!(answer["path"], "/a/b");
        assert_eq!(answer["query"], "c=d&e");
        assert_eq!(answer["body"], "body");
        assert_eq!(answer["sha256"], sha256(b"body"));
        let headers = answer["headers"].as_array().unwrap();
        assert!(headers.contains(&json!(["x-one", "1"])), "{headers:?}");

        let seen = echo.last();
        assert_eq!((seen.path(), seen.text()), ("/a/b", "body".to_owned()));
        assert_eq!((seen.header("x-one"), seen.body_complete), (Some("1"), true));
        assert!(seen.ended.is_some() && seen.aborted.is_none());
    }
    assert_eq!(echo.connections(), 2);
}

#[tokio::test]
async fn h1_and_h2_are_chosen_by_alpn_under_tls() {
    let authority = Authority::new();
    let pair = authority.leaf(&["localhost"]);
    let both = backend().answers("x").h1_and_h2().tls(&pair).start().await;
    let h2_only = backend().answers("x").h2().tls(&pair).start().await;
    for (addr, client, version) in [
        (both.addr, Client::new(both.addr, authority.roots()), Version::HTTP_11),
        (both.addr, Client::new(both.addr, authority.roots()).h1_or_h2(), Version::HTTP_2),
        (h2_only.addr, Client::new(h2_only.addr, authority.roots()).h2(), Version::HTTP_2),
    ] {
        assert_eq!(client.get("/").await.version, version, "{addr}");
    }
    assert_eq!(both.url(), format!("https://{}", both.addr));
}

#[test]
fn a_backend_serves_tests_on_plain_threads() {
    let served = backend().answers("x").start_now();
    let mut stream = std::net::TcpStream::connect(served.addr).unwrap();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    until_blocking(seconds(5), || served.calls() == 1);
}

#[tokio::test]
async fn what_was_promised_and_not_sent_is_seen_by_the_client() {
    let text = "0123456789";
    let served = backend().start().await;
    let multiplexed = backend().h2().start().await;
    let authority = Authority::new();
    let secured = backend().tls(&authority.leaf(&["localhost"])).start().await;
    for (script, reason) in [
        (backend().answers(text).resets_after(4), "reset"),
        (backend().streams(["0123", "456"]).resets_after(4), "reset"),
        (backend().answers(text).breaks_off_after(4), "end of file before message length"),
        (backend().streams(["0123", "456"]).breaks_off_after(4), "error reading a body"),
    ] {
        served.becomes(script.clone());
        let answer = Client::plain(served.addr).get("/").await;
        let error = answer.error.clone().unwrap_or_default();
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "0123".to_owned()));
        assert!(error.contains(reason), "{error} is not {reason}");

        secured.becomes(script.clone());
        let answer = Client::new(secured.addr, authority.roots()).get("/").await;
        assert_eq!((answer.text(), answer.error.is_some()), ("0123".to_owned(), true));

        multiplexed.becomes(script);
        let answer = Client::plain(multiplexed.addr).h2().get("/").await;
        assert_eq!((answer.text(), answer.error.is_some()), ("0123".to_owned(), true));
    }
    assert!(served.aborted().is_empty(), "the script broke off, not the client");
    assert!(multiplexed.aborted().is_empty());
}

#[tokio::test]
async fn a_silent_backend_breaks_off_before_it_answers() {
    let served = backend().h1_and_h2().start().await;
    for script in [backend().resets(), backend().closes()] {
        served.becomes(script);
        for client in [Client::plain(served.addr), Client::plain(served.addr).h2()] {
            let failure = client.post("/", "x").attempt().await.unwrap_err();
            assert!(matches!(failure, Failure::Broken(_)), "{failure}");
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_is_noted_at_once() {
    let served = backend().h1_and_h2().start().await;
    for (script, has_head) in [
        (backend().stalls(), false),
        (backend().delay(seconds(60)), false),
        (backend().openai("m").stalls_after(2), true),
        (backend().large(1 << 30), true),
    ] {
        served.becomes(script);
        for client in [Client::plain(served.addr), Client::plain(served.addr).h2()] {
            served.forget();
            let body = r#"{"stream":true}"#;
            let asking = client.post("/v1/chat/completions", body).within(millis(100)).open();
            let answer = asking.await;
            assert_eq!(answer.is_ok(), has_head);
            if let Ok(mut answer) = answer {
                answer.chunk().await.unwrap();
                assert!(served.aborted().is_empty());
            }
            // Here the answer is dropped; where there was none, `open` has given up.
            let gone = Instant::now();
            until(seconds(2), || served.aborted().len() == 1).await;
            let noticed = served.aborted()[0].saturating_duration_since(gone);
            assert!(noticed < seconds(1), "{noticed:?}");
            assert_eq!(served.last().aborted, Some(served.aborted()[0]));
        }
    }
}

#[tokio::test]
async fn a_stopped_backend_refuses_and_serves_again_on_its_port() {
    let served = backend().answers("x").start().await;
    let client = Client::plain(served.addr);
    client.get("/").await;
    let stalled = backend().on("/stalled", backend().stalls()).answers("x");
    served.becomes(stalled);
    let hanging = tokio::spawn(client.get("/stalled").attempt());
    until(seconds(2), || served.calls() == 2).await;

    served.stop();
    assert!(hanging.await.unwrap().is_err());
    let failure = client.get("/").attempt().await.unwrap_err();
    assert!(matches!(failure, Failure::Connect(_)), "{failure}");
    served.restart();
    assert_eq!(client.get("/").await.text(), "x");
    assert_eq!((served.calls(), served.aborted()), (3, vec![]));
}

#[tokio::test]
async fn idle_connections_are_closed_and_busy_ones_are_not() {
    let served = backend()
        .answers("x")
        .delay(millis(150))
        .close_idle_after(millis(50))
        .h1_and_h2()
        .start()
        .await;
    for client in [Client::plain(served.addr), Client::plain(served.addr).h2()] {
        assert_eq!(client.get("/").await.text(), "x");
        assert_eq!(served.open_connections(), 1);
        until(seconds(2), || served.open_connections() == 0).await;
        assert_eq!(client.get("/").await.connection, 1, "the first one was closed");
        until(seconds(2), || served.open_connections() == 0).await;
    }
}

#[tokio::test]
async fn connections_can_be_cut_from_outside() {
    let served = backend().stalls().start().await;
    let reset = tokio::spawn(Client::plain(served.addr).get("/").attempt());
    until(seconds(2), || served.calls() == 1).await;
    served.reset_connections();
    let failure = reset.await.unwrap().unwrap_err();
    assert!(failure.to_string().contains("reset"), "{failure}");
    let closed = tokio::spawn(Client::plain(served.addr).get("/").attempt());
    until(seconds(2), || served.calls() == 2).await;
    served.close_connections();
    let failure = closed.await.unwrap().unwrap_err();
    assert!(failure.to_string().contains("closed before message completed"), "{failure}");
}

#[tokio::test]
async fn scripts_can_differ_by_path_by_turn_and_by_time() {
    let failing = || backend().status(503);
    let served = backend()
        .answers("x")
        .on("/health", backend().status(204))
        .first(2, failing())
        .every(3, backend().status(500))
        .start()
        .await;
    let client = Client::plain(served.addr);
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(client.get("/").await.status.as_u16());
        assert_eq!(client.get("/health").await.status, 204);
    }
    assert_eq!(statuses, [503, 503, 500, 200, 200, 500]);
    served.becomes(failing().header("retry-after", "1"));
    let answer = client.get("/health").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")));
}

#[tokio::test]
async fn models_answer_whole_and_streamed_with_their_usage() {
    let served = backend().openai("gpt-test").pieces(3).gap(millis(20)).start().await;
    let client = Client::plain(served.addr);
    let whole = client.post("/v1/chat/completions", "{}").await.json();
    assert_eq!(whole["choices"][0]["message"]["content"], "gpt-test word1 word2");
    assert_eq!(whole["usage"]["total_tokens"], INPUT_TOKENS + 3);
    let body = json!({ "stream": true, "stream_options": { "include_usage": true } });
    for path in ["/v1/chat/completions", "/v1/completions"] {
        let answer = client.post(path, body.to_string()).await;
        let events = answer.events();
        assert_eq!(events.len(), 6, "{events:?}");
        assert_eq!(events[5].1, "[DONE]");
        let usage: serde_json::Value = serde_json::from_str(&events[4].1).unwrap();
        assert_eq!(usage["usage"]["completion_tokens"], 3);
        assert!(answer.total - answer.first_byte > millis(80), "gaps: {answer:?}");
    }
    assert_eq!(client.get("/v1/models").await.json()["data"][0]["id"], "gpt-test");
    assert_eq!(client.post("/v1/chat/completions", "no").await.status, 400);

    let served = backend().anthropic("claude-test").pieces(2).start().await;
    let client = Client::plain(served.addr);
    let whole = client.post("/v1/messages", "{}").await.json();
    assert_eq!(whole["content"][0]["text"], "claude-test word1");
    let events = client.post("/v1/messages", r#"{"stream":true}"#).await.events();
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let delta = "content_block_delta";
    assert_eq!(names[..5], ["message_start", "content_block_start", "ping", delta, delta]);
    assert_eq!(names[5..], ["content_block_stop", "message_delta", "message_stop"]);
}

#[tokio::test]
async fn trailers_and_early_hints_arrive() {
    let served = backend()
        .answers("x")
        .trailers(&[("x-checksum", "1")])
        .early_hints(&[("link", "</a>")])
        .start()
        .await;
    let client = Client::plain(served.addr);
    let answer = client.get("/").welcomes_trailers().await;
    assert_eq!((answer.text(), answer.trailer("x-checksum")), ("x".to_owned(), Some("1")));
    let (status, headers) = &answer.informational[0];
    assert_eq!((status.as_u16(), &headers["link"]), (103, &HeaderValue::from_static("</a>")));

    let served = backend().answers("x").trailers(&[("x-checksum", "1")]).h2().start().await;
    let answer = Client::plain(served.addr).h2().get("/").await;
    assert_eq!((answer.text(), answer.trailer("x-checksum")), ("x".to_owned(), Some("1")));
}

#[tokio::test]
async fn a_grpc_echo_answers_while_it_is_asked() {
    let served = backend().grpc_echo().start().await;
    let client = Client::plain(served.addr).h2();
    let (request, upload) = client.post("/S/M", "").uploading();
    upload.send("one").await;
    let mut answer = request.open().await.unwrap();
    assert_eq!(answer.chunk().await.unwrap(), "one");
    upload.send("two").await;
    assert_eq!(answer.chunk().await.unwrap(), "two");
    upload.finish_with(&[("x-end", "1")]).await;
    let answer = answer.rest().await;
    assert_eq!(answer.trailer("grpc-status"), Some("0"));
    let seen = served.last();
    assert_eq!((seen.text(), seen.trailers.unwrap().len()), ("onetwo".to_owned(), 1));

    served.becomes(backend().grpc_error(8, "full"));
    let mut raw = RawClient::plain(served.addr).await;
    raw.start_h2(&[]).await.unwrap();
    raw.send(frames::get(1, "x", "/S/M", &[])).await.unwrap();
    let head = raw.read_frame_on(1, seconds(2)).await.unwrap();
    assert!(head.ends_stream(), "trailers only: {head:?}");
    let answer = client.post("/S/M", "").await;
    assert_eq!(answer.header("grpc-status"), Some("8"));
}

#[tokio::test]
async fn a_websocket_gives_back_what_it_gets() {
    let served = backend().websocket_echo().start().await;
    assert_eq!(Client::plain(served.addr).get("/").await.status, 426);
    let mut raw = RawClient::plain(served.addr).await;
    raw.open_websocket("/ws", &[]).await.unwrap();
    for (opcode, payload, answered) in [
        (websocket::TEXT, b"hello".to_vec(), websocket::TEXT),
        (websocket::BINARY, vec![7; 70_000], websocket::BINARY),
        (websocket::PING, b"p".to_vec(), websocket::PONG),
        (websocket::CLOSE, vec![3, 232], websocket::CLOSE),
    ] {
        raw.send_message(opcode, &payload).await.unwrap();
        let frame = raw.read_message(seconds(2)).await.unwrap();
        assert_eq!((frame.opcode, frame.payload), (answered, payload));
    }
    assert!(raw.is_closed(seconds(2)).await);
    assert!(served.aborted().is_empty());

    let mut raw = RawClient::plain(served.addr).await;
    raw.open_websocket("/ws", &[]).await.unwrap();
    drop(raw);
    until(seconds(2), || served.aborted().len() == 1).await;
}

#[tokio::test]
async fn a_large_answer_is_the_pattern_and_waits_for_its_reader() {
    let served = backend().large(3_000_000).start().await;
    let client = Client::plain(served.addr);
    let answer = client.get("/").await;
    assert_eq!(answer.body.len(), 3_000_000);
    assert!(answer.body.iter().zip(0..).all(|(byte, position)| *byte == pattern(position)));
    assert_eq!(served.last().sent, 3_000_000);

    served.becomes(backend().large(1 << 30));
    let answer = client.get("/").open().await.unwrap();
    until(seconds(2), || served.last().sent > 0).await;
    let mut before = 0;
    until(seconds(5), || {
        let sent = served.last().sent;
        std::mem::replace(&mut before, sent) == sent
    })
    .await;
    assert!(before < 64 << 20, "{before} bytes were taken for nobody");
    drop(answer);
}

#[tokio::test]
async fn a_handler_answers_for_itself_and_a_load_is_only_counted() {
    let served = backend()
        .handler(|seen| async move { Response::new(Bytes::from(seen.text() + "!")) })
        .counts_only()
        .start()
        .await;
    let client = Client::plain(served.addr);
    let asked = (0..50).map(|number| client.post("/", number.to_string()));
    let answers = together(asked).await;
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer.as_ref().unwrap().text(), format!("{number}!"));
    }
    assert_eq!((served.calls(), served.seen().len()), (50, 0));
}

#[tokio::test]
async fn an_early_answer_does_not_wait_for_the_body() {
    let served = backend().status(413).without_reading().start().await;
    let client = Client::plain(served.addr);
    let (request, upload) = client.post("/", "").uploading();
    let answer = request.open().await.unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(served.last().body_length, 0);
    drop(upload);
}
