//! The windows of HTTP/2 (RFC 9113, 5.2 and 6.9): both sides send as much as the other takes.

use weir_tests::raw_client::frames::{self, code, flag, kind, setting};
use weir_tests::{backend, gateway, millis, seconds, until_async};

use crate::wire_h2::{Kit, content, next};
use crate::wire_kit::all_to;

/// Nothing is sent that no window has room for, whichever window it is, and what was held back comes
/// when there is room.
#[tokio::test]
async fn answers_wait_for_windows_and_arrive_whole() {
    let large: String = (0..50_000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let kit = Kit::start(backend().answers(&large)).await;
    let mut raw = kit.raw(&[(setting::INITIAL_WINDOW_SIZE, 10)]).await;
    raw.send(kit.get(1, "/")).await.unwrap();
    assert_eq!(next(&mut raw, 1).await.status(), Some(200));
    let first = next(&mut raw, 1).await;
    assert_eq!(first.payload, large.as_bytes()[..10]);
    assert!(raw.read_frame_on(1, millis(200)).await.is_err());
    // Settings move the windows of streams that are open.
    raw.send(frames::settings(&[(setting::INITIAL_WINDOW_SIZE, 25)])).await.unwrap();
    assert_eq!(next(&mut raw, 1).await.payload, large.as_bytes()[10..25]);
    // And below nothing: what is owed must come first.
    raw.send(frames::settings(&[(setting::INITIAL_WINDOW_SIZE, 0)])).await.unwrap();
    raw.send(frames::window_update(1, 25)).await.unwrap();
    assert!(raw.read_frame_on(1, millis(200)).await.is_err());
    raw.send(frames::window_update(1, 5)).await.unwrap();
    assert_eq!(next(&mut raw, 1).await.payload, large.as_bytes()[25..30]);
    raw.send(frames::window_update(1, 1_000_000)).await.unwrap();
    assert_eq!(content(&mut raw, 1).await, large.as_bytes()[30..]);
    // 15,535 bytes are left of the connection's.
    raw.send(kit.get(3, "/")).await.unwrap();
    raw.send(frames::window_update(3, 1_000_000)).await.unwrap();
    assert_eq!(next(&mut raw, 3).await.status(), Some(200));
    let mut first = Vec::new();
    while first.len() < 15_535 {
        first.extend(next(&mut raw, 3).await.payload);
    }
    assert_eq!(first, large.as_bytes()[..15_535]);
    assert!(raw.read_frame_on(3, millis(200)).await.is_err());
    raw.send(frames::window_update(0, 1_000_000)).await.unwrap();
    assert_eq!(content(&mut raw, 3).await, large.as_bytes()[15_535..]);
}

/// One slow stream does not hold up another, and many large ones share what there is.
#[tokio::test]
async fn streams_share_a_connection() {
    let large = "x".repeat(300_000);
    let kit = Kit::start(backend().answers(&large)).await;
    let mut raw = kit.raw(&[(setting::INITIAL_WINDOW_SIZE, 0)]).await;
    raw.send(frames::window_update(0, 100_000_000)).await.unwrap();
    let streams: Vec<u32> = (0..20).map(|number| number * 2 + 1).collect();
    for stream in &streams {
        raw.send(kit.get(*stream, "/")).await.unwrap();
    }
    let mut heads = 0;
    while heads < streams.len() {
        let frame = raw.read_frame_of(kind::HEADERS, seconds(3)).await.unwrap();
        assert_eq!(frame.status(), Some(200));
        heads += 1;
    }
    // The last that was opened is the first that may go on.
    raw.send(frames::window_update(39, 1_000_000)).await.unwrap();
    assert_eq!(content(&mut raw, 39).await.len(), large.len());
    let all: Vec<u8> =
        streams[..19].iter().flat_map(|stream| frames::window_update(*stream, 1_000_000)).collect();
    raw.send(all).await.unwrap();
    let mut got = std::collections::BTreeMap::new();
    while got.values().filter(|length| **length == large.len()).count() < 19 {
        let frame = raw.read_frame_of(kind::DATA, seconds(5)).await.unwrap();
        *got.entry(frame.stream).or_insert(0) += frame.payload.len();
        let (least, most) = (got.values().min().unwrap(), got.values().max().unwrap());
        if got.len() == 19 && *most < large.len() {
            assert!(most - least <= 8 * 16_384, "{got:?}");
        }
    }
}

/// What nobody takes is not read: a client may send as much as the windows say, and more as it is taken.
#[tokio::test]
async fn a_client_may_send_as_much_as_is_taken() {
    let kit = Kit::start(backend().echo()).await;
    let mut raw = kit.gateway.raw_h2().await;
    let settings = raw.start_h2(&[]).await.unwrap();
    let window = settings
        .payload
        .chunks(6)
        .find(|entry| entry[..2] == setting::INITIAL_WINDOW_SIZE.to_be_bytes())
        .map(|entry| u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]))
        .unwrap();
    assert_eq!(window, 65_536);
    // 1 MiB on one stream, never more at a time than was allowed.
    raw.send(kit.post(1, &[])).await.unwrap();
    let (mut stream_room, mut room, mut sent) = (i64::from(window), 65_535_i64, 0);
    let total = 1 << 20;
    while sent < total {
        let part = stream_room.min(room).min(16_384).min(total - sent);
        if part > 0 {
            raw.send(frames::data(
                1,
                &vec![b'x'; usize::try_from(part).unwrap()],
                sent + part == total,
            ))
            .await
            .unwrap();
            (stream_room, room, sent) = (stream_room - part, room - part, sent + part);
            continue;
        }
        let frame = raw.read_frame_of(kind::WINDOW_UPDATE, seconds(3)).await.unwrap();
        let by = i64::from(u32::from_be_bytes(frame.payload[..].try_into().unwrap()));
        if frame.stream == 0 { room += by } else { stream_room += by }
    }
    let head = loop {
        let frame = next(&mut raw, 1).await;
        if frame.kind == kind::HEADERS {
            break frame;
        }
    };
    assert_eq!(head.status(), Some(200));
    assert_eq!(kit.served.last().body.len(), 1 << 20);
    // And a client that sends more than that has broken the rules.
    let stalling = Kit::start(backend().stalls()).await;
    let mut raw = stalling.raw(&[]).await;
    let bearer = stalling.bearer.clone();
    raw.send(frames::post(1, "localhost", "/", &[("authorization", &bearer)])).await.unwrap();
    for _ in 0..400 {
        if raw.send(frames::data(1, &[b'x'; 16_384], false)).await.is_err() {
            break;
        }
    }
    let ended = loop {
        let frame = raw.read_frame(seconds(5)).await.unwrap();
        if matches!(frame.kind, kind::RST_STREAM | kind::GOAWAY) {
            break frame;
        }
    };
    assert_eq!(ended.code(), Some(code::FLOW_CONTROL_ERROR), "{ended:?}");
}

/// Padding counts in both windows, and both get it back.
#[tokio::test]
async fn padding_does_not_use_a_window_up() {
    let kit = Kit::start(backend().echo()).await;
    let mut raw = kit.raw(&[]).await;
    raw.send(kit.post(1, &[])).await.unwrap();
    let mut padded = vec![255];
    padded.extend_from_slice(b"x");
    padded.extend_from_slice(&[0; 255]);
    let frame = frames::frame(kind::DATA, flag::PADDED, 1, &padded);
    raw.send(frame.repeat(250)).await.unwrap();
    let widened = loop {
        let frame = raw.read_frame_of(kind::WINDOW_UPDATE, seconds(3)).await.unwrap();
        if frame.stream == 1 {
            break u32::from_be_bytes(frame.payload[..].try_into().unwrap());
        }
    };
    assert!(widened >= 32_768, "{widened}");
    raw.send(frame.repeat(50)).await.unwrap();
    raw.send(frames::data(1, b"", true)).await.unwrap();
    let head = loop {
        let frame = next(&mut raw, 1).await;
        if frame.kind == kind::HEADERS {
            break frame;
        }
    };
    assert_eq!(head.status(), Some(200));
    assert_eq!(kit.served.last().body.len(), 300);
}

/// A client that has not heard of our window goes by the protocol's first one.
#[tokio::test]
async fn a_small_window_holds_once_the_client_knows_of_it() {
    let served = backend().echo().start().await;
    let gateway =
        gateway(all_to(&served.url())).limits("h2_stream_window = \"1KiB\"").start().await;
    let bearer = format!("Bearer {}", gateway.client_key);
    let auth = [("authorization", &*bearer)];
    let mut raw = gateway.raw_h2().await;
    let early = [
        frames::PREFACE,
        &frames::settings(&[]),
        &frames::post(1, "localhost", "/", &auth),
        &frames::data(1, &[b'x'; 16_000], true),
    ];
    raw.send(early.concat()).await.unwrap();
    assert_eq!(raw.read_frame_of(kind::HEADERS, seconds(3)).await.unwrap().status(), Some(200));
    raw.send(frames::settings_ack()).await.unwrap();
    raw.send(frames::post(3, "localhost", "/", &auth)).await.unwrap();
    raw.send(frames::data(3, &[b'x'; 1_025], true)).await.unwrap();
    let reset = loop {
        let frame = next(&mut raw, 3).await;
        if frame.kind != kind::HEADERS && frame.kind != kind::DATA {
            break frame;
        }
    };
    assert_eq!(reset.code(), Some(code::FLOW_CONTROL_ERROR));
}

/// L12: an answer that is out of the backend's hands still has a client that must take it.
#[tokio::test]
async fn l12_a_window_that_stays_shut_ends_the_connection() {
    let served = backend().answers("small").start().await;
    let gateway = gateway(all_to(&served.url())).limits("write_timeout = \"1s\"").start().await;
    let bearer = format!("Bearer {}", gateway.client_key);
    let stuck = "weir_connections_closed_total{listener=\"edge\",reason=\"stuck\"}";
    for (count, key) in [(1.0, &*bearer), (2.0, "Bearer none")] {
        let mut raw = gateway.raw_h2().await;
        raw.start_h2(&[(setting::INITIAL_WINDOW_SIZE, 0)]).await.unwrap();
        raw.send(frames::get(1, "localhost", "/", &[("authorization", key)])).await.unwrap();
        assert!(next(&mut raw, 1).await.status().is_some());
        assert!(raw.is_closed(seconds(5)).await);
        until_async(seconds(3), || async { gateway.metric(stuck).await >= count }).await;
    }
}
