//! Those who send much and mean nothing, and those who send slowly (T09 to T11, L06), at a scale that
//! a developer waits for.

use std::time::{Duration, Instant};

use weir_tests::raw_client::frames;
use weir_tests::{Process, RawClient, backend, gateway, millis, seconds, until};

use crate::wire_kit::all_to;

/// Resident memory of a process, bytes.
fn resident(weir: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", weir.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}

/// A program that serves, its root certificates, and the `authorization` of a client of it.
async fn serving(
    limits: &str,
) -> (weir_tests::Backend, weir_tests::gateway::Prepared, Process, String) {
    let model = backend().answers("ok").start().await;
    let prepared = gateway(all_to(&model.url())).limits(limits).write();
    let weir = prepared.spawn().await;
    let key = weir.make_key("client").await;
    (model, prepared, weir, key)
}

#[tokio::test]
async fn l06_a_body_slower_than_the_least_rate_gets_408() {
    let model = backend().answers("ok").start().await;
    let limits = "body_min_rate = \"100KiB\"\nbody_idle_timeout = \"5s\"";
    let gateway = gateway(all_to(&model.url())).limits(limits).start().await;
    // Each gap is well below the limit of gaps, the whole far below the rate.
    let pieces = |count: usize| vec![vec![b'x'; 100]; count];
    let began = Instant::now();
    let slow = gateway.client().post("/", "").in_pieces(pieces(60), millis(150)).await;
    assert_eq!(slow.status, 408, "{}", slow.text());
    assert_eq!(slow.header("x-weir-error"), Some("client_idle_timeout"), "{}", slow.text());
    assert!(began.elapsed() >= millis(4_900), "the first five seconds are not judged");
    let short = gateway.client().post("/", "").in_pieces(pieces(5), millis(150)).await;
    assert_eq!(short.status, 200, "a body that is over by then is not judged either");
}

#[tokio::test]
async fn t09_floods_of_frames_cost_bounded_memory_and_nobody_else_anything() {
    let (_model, prepared, weir, key) = serving("").await;
    let good = weir.client(&key).h2();
    assert_eq!(good.get("/").await.status, 200);
    let before = resident(&weir);
    let many = |frame: Vec<u8>| frame.repeat((4 << 20) / frame.len());
    let floods = [
        ("ping", many(frames::ping([7; 8]))),
        ("settings", many(frames::settings(&[(frames::setting::INITIAL_WINDOW_SIZE, 1)]))),
        ("priority", many(frames::priority(1, 0, 1))),
        ("window", many(frames::window_update(0, 1))),
        ("empty data", {
            let post = frames::post(1, "localhost", "/", &[("authorization", "Bearer x")]);
            [post, many(frames::data(1, b"", false))].concat()
        }),
        ("continuation", {
            let part = frames::block(&[("x-a", "y")]);
            let first = frames::frame(frames::kind::HEADERS, 0, 1, &part);
            [first, many(frames::continuation(1, &part, false))].concat()
        }),
    ];
    for (name, bytes) in floods {
        let mut raw = RawClient::tls(weir.edge, &prepared.authority.roots(), &["h2"]).await;
        raw.start_h2(&[]).await.unwrap();
        // Nobody reads what comes back. It may be cut, or not be read to its end.
        let flood = tokio::spawn(async move {
            let sent = tokio::time::timeout(seconds(2), raw.send(bytes)).await;
            (raw, sent.is_ok_and(|sent| sent.is_ok()))
        });
        while !flood.is_finished() {
            let answer = good.get("/").within(seconds(5)).await;
            assert_eq!(answer.status, 200, "during a flood of {name}");
        }
        let (mut raw, _) = flood.await.unwrap();
        if name == "continuation" || name == "empty data" {
            assert!(raw.is_closed(seconds(3)).await, "a flood of {name} is cut");
        }
        let grown = resident(&weir).saturating_sub(before);
        assert!(grown < 64 << 20, "{grown} bytes more after a flood of {name}");
    }
    assert_eq!(good.get("/").await.status, 200);
}

/// CVE-2026-49975: one large field in the table, then references to it, one byte each.
#[tokio::test]
async fn t10_small_references_to_large_fields_cost_bounded_memory() {
    let (model, prepared, weir, key) = serving("").await;
    let before = resident(&weir);
    let mut block = frames::block(&frames::request_fields("GET", "localhost", "/", &[]));
    // Literal with indexing, new name; a value of 127 + 3,000 bytes. Then entry 62, the newest.
    block.extend_from_slice(&[0x40, 3, b'x', b'-', b'a', 0x7f, 0xb8, 0x17]);
    block.extend_from_slice(&[b'v'; 3127]);
    block.extend_from_slice(&[0xbe; 12_000]);
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut raw = RawClient::tls(weir.edge, &prepared.authority.roots(), &["h2"]).await;
        raw.start_h2(&[(frames::setting::INITIAL_WINDOW_SIZE, 0)]).await.unwrap();
        for stream in 0..50 {
            let flags = frames::flag::END_STREAM | frames::flag::END_HEADERS;
            let bomb = frames::frame(frames::kind::HEADERS, flags, 2 * stream + 1, &block);
            // It may be cut before the last.
            if raw.send(bomb).await.is_err() {
                break;
            }
        }
        held.push(raw);
    }
    assert_eq!(weir.client(&key).get("/").await.status, 200);
    let grown = resident(&weir).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    assert_eq!(model.calls(), 1, "no bomb reached the backend");
}

#[tokio::test]
async fn t11_slow_heads_and_handshakes_are_cut_and_hinder_nobody() {
    const EACH: usize = 60;
    let limits =
        "header_timeout = \"1s\"\nhandshake_timeout = \"1s\"\nconnections_per_address = 1000";
    let (_model, prepared, weir, key) = serving(limits).await;
    let roots = prepared.authority.roots();
    let gone_after = |began: Instant| began.elapsed();
    let mut slow = Vec::new();
    for _ in 0..EACH {
        let mut head = RawClient::tls(weir.edge, &roots, &["http/1.1"]).await;
        slow.push(tokio::spawn(async move {
            let began = Instant::now();
            // A byte now and then, for ever.
            for byte in b"GET / HTTP/1.1\r\nx-a: ".iter().chain(std::iter::repeat(&b'a')) {
                if head.send([*byte]).await.is_err() || head.is_closed(millis(100)).await {
                    break;
                }
            }
            gone_after(began)
        }));
        let mut handshake = RawClient::plain(weir.edge).await;
        slow.push(tokio::spawn(async move {
            let began = Instant::now();
            // The beginning of a TLS record, and nothing more.
            let _ = handshake.send([0x16, 3, 1, 2]).await;
            assert!(handshake.is_closed(seconds(10)).await);
            gone_after(began)
        }));
    }
    let good = weir.client(&key);
    let mut slowest = Duration::ZERO;
    while slow.iter().any(|each| !each.is_finished()) {
        let answer = good.get("/").await;
        assert_eq!(answer.status, 200);
        slowest = slowest.max(answer.total);
    }
    for each in slow {
        let took = each.await.unwrap();
        assert!(took < seconds(5), "a slow one was there for {took:?}");
    }
    assert!(slowest < seconds(1), "{slowest:?} beside {EACH} slow heads and handshakes");
}

/// F26: out of descriptors the gateway takes nobody new, keeps serving those it has, and recovers by
/// itself.
#[tokio::test]
async fn f26_without_descriptors_the_gateway_serves_whom_it_has_and_recovers() {
    let (_model, prepared, weir, key) = serving("").await;
    let good = weir.client(&key).h2();
    assert_eq!(good.get("/").await.status, 200);
    let status = weir.api();
    assert_eq!(status.get("/api/v1/status").await.status, 200);
    let open = || std::fs::read_dir(format!("/proc/{}/fd", weir.id())).unwrap().count();
    let limit = open() + 20;
    let limited = std::process::Command::new("prlimit")
        .args(["--pid", &weir.id().to_string(), &format!("--nofile={limit}:{limit}")])
        .status();
    if !limited.is_ok_and(|status| status.success()) {
        println!("SKIPPED: prlimit cannot be run here");
        return;
    }
    let began = Instant::now();
    let mut crowd = Vec::new();
    for _ in 0..60 {
        crowd.push(tokio::net::TcpStream::connect(weir.edge).await.unwrap());
    }
    until(seconds(3), || !weir.events("weir.accept.failed").is_empty()).await;
    for _ in 0..20 {
        assert_eq!(good.get("/").await.status, 200, "who is there is served");
        assert_eq!(status.get("/api/v1/status").await.status, 200, "an operator, too");
    }
    // Two workers that fail twenty times a second each say it once a second, and how often.
    until(seconds(10), || weir.events("weir.accept.failed").len() > 2).await;
    let lines = weir.events("weir.accept.failed");
    assert!(lines[1]["suppressed"].as_u64() > Some(0), "{lines:?}");
    let ran = began.elapsed().as_secs();
    assert!(lines.len() as u64 <= ran + 2, "{} lines in {ran} s", lines.len());
    drop(crowd);
    let newcomer = weir.client(&key);
    let answer = newcomer.get("/").within(seconds(10)).await;
    assert_eq!(answer.status, 200, "room again");
    assert!(weir.runs());
    drop(prepared);
}
