//! Request bodies: what is looked into, what is rewritten, and who asks for them (hardening T25, T02).

use std::fmt::Write as _;

use serde_json::json;
use weir_tests::raw_client::Missing;
use weir_tests::{backend, gateway, millis, seconds};

use crate::wire_kit::{all_to, all_to_with, listening, with_key};

#[tokio::test]
async fn t25_a_member_that_is_looked_into_may_stand_there_once() {
    let served = backend().echo().start().await;
    let route = "model = \"chat\"\n";
    let gateway = gateway(all_to_with(&served.url(), "model = \"llama\"", route)).start().await;
    let client = gateway.client();
    for body in [
        r#"{"model":"chat","model":"chat"}"#,
        r#"{"model":"chat","x":{},"model":"other"}"#,
        r#"{"model":"other","model":"chat"}"#,
        r#"{"model":"chat","mod\u0065l":"other"}"#,
        r#"{"model":"chat""#,
        r#"{"model":["chat"]}"#,
        "not json",
    ] {
        let answer = client.post("/", body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    }
    for body in [r#"{"Model":"chat"}"#, r#"{"model":"Chat"}"#, r#"{"x":{"model":"chat"}}"#, "{}"] {
        let answer = client.post("/", body).await;
        assert_eq!(answer.status, 404, "{body}: {}", answer.text());
    }
    assert_eq!(served.calls(), 0);
    // Deeper, and in other letters, it is somebody else's member.
    let body = r#"{"Model":"x","x":{"model":"y","model":"z"},"model":"chat"}"#;
    let answer = client.post("/", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(served.last().text(), body.replace("\"chat\"", "\"llama\""));
}

/// Odd spacing, escapes, big numbers, order: a rewrite changes one value and no other byte.
#[tokio::test]
async fn t25_a_rewrite_changes_one_value_and_no_other_byte() {
    let served = backend().echo().start().await;
    let text = all_to_with(&served.url(), "model = \"llama-3.1:8b\"", "");
    let gateway = gateway(text).limits("inspect_bytes = \"8MiB\"").start().await;
    let start =
        "{ \"b\" : 1e400 ,\t\"a\":\"\\u00e9\\/\",\r\n\"model\"  :  \"ch\\u0061t\" , \"pad\":\"";
    let end = "\",\"model_\":\"chat\", \"n\":0.10000000000000000001 }\n";
    for size in [200, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 5 << 20] {
        let pad = "chat".repeat(size / 4 + 1);
        let body = format!("{start}{}{end}", &pad[..size - start.len() - end.len()]);
        assert_eq!(body.len(), size);
        let expected = body.replacen("\"ch\\u0061t\"", "\"llama-3.1:8b\"", 1);
        let pieces: Vec<String> = body
            .as_bytes()
            .chunks(20_000)
            .map(|piece| String::from_utf8_lossy(piece).into_owned())
            .collect();
        for client in [gateway.client(), gateway.client().h2()] {
            let whole = client.post("/", body.clone()).await;
            let chunked = client.post("/", "").in_pieces(pieces.clone(), millis(0)).await;
            for answer in [whole, chunked] {
                assert_eq!(answer.status, 200, "{size}: {}", answer.text());
                let echo = answer.json();
                assert_eq!(echo["length"], expected.len(), "{size}");
                let sum = weir_tests::backend::sha256(expected.as_bytes());
                assert_eq!(echo["sha256"], sum, "{size}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_nobody_looks_into_passes_byte_for_byte() {
    let (h1, h2) = (backend().echo().start().await, backend().echo().h2().start().await);
    for served in [&h1, &h2] {
        let gateway = gateway(all_to(&served.url())).start().await;
        for size in [1, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 5 << 20] {
            let body: Vec<u8> =
                (0..size).map(|it: u32| (it.wrapping_mul(31) >> 3).to_le_bytes()[0]).collect();
            let sum = weir_tests::backend::sha256(&body);
            let pieces: Vec<Vec<u8>> = body.chunks(30_000).map(<[u8]>::to_vec).collect();
            for client in [gateway.client(), gateway.client().h2()] {
                let whole = client.post("/", body.clone()).await;
                let chunked = client.post("/", "").in_pieces(pieces.clone(), millis(0)).await;
                for answer in [whole, chunked] {
                    assert_eq!(answer.status, 200, "{size}: {}", answer.text());
                    assert_eq!(answer.json()["sha256"], sum, "{size}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_body_too_large_to_be_looked_into_is_refused_with_a_hint() {
    let served = listening().await;
    let text = all_to_with(&served.url(), "", "model = \"chat\"\n");
    let gateway = gateway(text).limits("inspect_bytes = \"1KiB\"").start().await;
    let body = json!({"model": "chat", "pad": "x".repeat(2000)}).to_string();
    let answer = gateway.client().post("/", body).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("server.limits.inspect_bytes"), "{}", answer.text());
    assert_eq!(served.received_bytes(), 0);
}

fn expecting(fields: &str) -> String {
    let mut head = String::from("POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n");
    let _ = write!(head, "{fields}\r\n");
    head
}

#[tokio::test]
async fn a_100_is_sent_only_to_a_caller_that_is_known() {
    let served = backend().echo().start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let mut raw = gateway.raw().await;
    let head = expecting("authorization: Bearer KEY\r\nexpect: 100-continue\r\n");
    raw.send(with_key(&gateway, head.as_bytes())).await.unwrap();
    let answer = raw.read_response(seconds(2)).await.unwrap();
    assert_eq!(answer.status, 100);
    raw.send("12345").await.unwrap();
    let answer = raw.read_response(seconds(2)).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(served.last().text(), "12345");
    assert_eq!(served.last().header("expect"), None, "it was answered here");

    for fields in
        ["expect: 100-continue\r\n", "authorization: Bearer wrong\r\nexpect: 100-continue\r\n"]
    {
        let mut raw = gateway.raw().await;
        raw.send(expecting(fields)).await.unwrap();
        let answer = raw.read_response(millis(800)).await.unwrap();
        assert_eq!(answer.status, 401, "no 100 before it, and at once");
        assert!(matches!(raw.read_response(seconds(2)).await, Err(Missing::Ended(..))));
    }
    assert_eq!(served.calls(), 1);
}

/// Refused for another reason than the key: still no 100, and no waiting for a body either.
#[tokio::test]
async fn a_refused_request_is_never_told_to_go_on() {
    let served = listening().await;
    let text = all_to_with(&served.url(), "", "hosts = [\"x\"]\nbody_bytes = \"4B\"\n");
    let gateway = gateway(text).start().await;
    let key = "authorization: Bearer KEY\r\nexpect: 100-continue\r\n";
    let replaced = |from: &str, to: &str| expecting(key).replacen(from, to, 1);
    for (head, status) in [
        (expecting(key), 413),
        (replaced("/v1/x", "/a%2fb"), 400),
        (replaced("host: x", "host: y"), 421),
        (replaced("POST", "TRACE"), 405),
        (expecting("authorization: Bearer KEY\r\nexpect: something\r\n"), 417),
        (expecting("authorization: Bearer KEY\r\nexpect: 100-continue, x\r\n"), 417),
        (expecting(&format!("{key}expect: something\r\n")), 417),
    ] {
        let mut raw = gateway.raw().await;
        raw.send(with_key(&gateway, head.as_bytes())).await.unwrap();
        let answer = raw.read_response(seconds(2)).await.unwrap();
        assert_eq!(answer.status, status, "{head:?}: {}", answer.text());
    }
    assert_eq!(served.received_bytes(), 0);
}
