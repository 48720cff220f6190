//! HTTP/2 with clients, frame by frame: what the protocol asks of a server (RFC 9113), and an end that
//! loses nothing. Windows are in `wire_windows`.

use weir_tests::RawClient;
use weir_tests::raw_client::frames::{self, Frame, code, flag, kind, setting};
use weir_tests::{Backend, Gateway, backend, gateway, millis, seconds, until};

use crate::wire_kit::all_to;

pub(crate) struct Kit {
    pub(crate) served: Backend,
    pub(crate) gateway: Gateway,
    pub(crate) bearer: String,
}

impl Kit {
    pub(crate) async fn start(served: weir_tests::BackendBuilder) -> Self {
        let served = served.start().await;
        let gateway = gateway(all_to(&served.url())).start().await;
        let bearer = format!("Bearer {}", gateway.client_key);
        Self { served, gateway, bearer }
    }

    pub(crate) async fn raw(&self, settings: &[(u16, u32)]) -> RawClient {
        let mut raw = self.gateway.raw_h2().await;
        raw.start_h2(settings).await.unwrap();
        raw
    }

    pub(crate) fn get(&self, stream: u32, path: &str) -> Vec<u8> {
        frames::get(stream, "localhost", path, &[("authorization", &self.bearer)])
    }

    pub(crate) fn post(&self, stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
        let auth = [("authorization", &*self.bearer)];
        let all: Vec<(&str, &str)> = auth.iter().chain(more).copied().collect();
        frames::post(stream, "localhost", "/", &all)
    }
}

pub(crate) async fn next(raw: &mut RawClient, stream: u32) -> Frame {
    raw.read_frame_on(stream, seconds(3)).await.unwrap()
}

/// All content of an answer whose head was read, up to its end.
pub(crate) async fn content(raw: &mut RawClient, stream: u32) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let frame = next(raw, stream).await;
        assert_eq!((frame.kind, frame.stream), (kind::DATA, stream), "{frame:?}");
        all.extend_from_slice(&frame.payload);
        if frame.ends_stream() {
            return all;
        }
    }
}

pub(crate) async fn ok(raw: &mut RawClient, stream: u32) -> Vec<u8> {
    let head = next(raw, stream).await;
    assert_eq!(head.status(), Some(200), "{head:?}");
    if head.ends_stream() { Vec::new() } else { content(raw, stream).await }
}

/// Each breaks a rule that concerns the whole connection: it ends, and says why.
#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection_with_its_code() {
    let kit = Kit::start(backend().stalls()).await;
    let open = kit.get(1, "/");
    let with = |more: Vec<u8>| [open.clone(), more].concat();
    let half = frames::frame(kind::HEADERS, flag::END_STREAM, 3, &[0x82]);
    let (protocol, size) = (code::PROTOCOL_ERROR, code::FRAME_SIZE_ERROR);
    let cases = [
        ("an even stream", kit.get(2, "/"), protocol),
        ("a lower stream", [kit.get(5, "/"), kit.get(3, "/")].concat(), code::STREAM_CLOSED),
        ("data of an idle stream", frames::data(7, b"x", true), protocol),
        ("a reset of an idle stream", frames::rst_stream(7, code::CANCEL), protocol),
        ("a window of an idle stream", frames::window_update(7, 1), protocol),
        ("data of no stream", frames::data(0, b"x", true), protocol),
        ("a large frame", frames::frame(kind::DATA, 0, 1, &[0; 16_385]), size),
        ("a short ping", frames::frame(kind::PING, 0, 0, b"short"), size),
        ("a ping of a stream", with(frames::frame(kind::PING, 0, 1, b"12345678")), protocol),
        ("settings of a stream", with(frames::frame(kind::SETTINGS, 0, 1, &[])), protocol),
        ("settings cut short", frames::frame(kind::SETTINGS, 0, 0, &[0; 5]), size),
        ("settings that say too much", frames::frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]), size),
        ("push", frames::settings(&[(setting::ENABLE_PUSH, 2)]), protocol),
        (
            "a window beyond any",
            frames::settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)]),
            code::FLOW_CONTROL_ERROR,
        ),
        ("a frame size", frames::settings(&[(setting::MAX_FRAME_SIZE, 1)]), protocol),
        ("a window by nothing", frames::window_update(0, 0), protocol),
        ("a window beyond all", frames::window_update(0, 0x7fff_ffff), code::FLOW_CONTROL_ERROR),
        ("a push of a client", with(frames::frame(kind::PUSH_PROMISE, 4, 1, &[0; 4])), protocol),
        ("more of no head", with(frames::continuation(1, &[0x82], true)), protocol),
        ("another frame within a head", [half.clone(), frames::ping([0; 8])].concat(), protocol),
        ("another head within a head", [half, kit.get(5, "/")].concat(), protocol),
        (
            "fields out of step",
            frames::frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &[0xff, 0xff]),
            code::COMPRESSION_ERROR,
        ),
        ("padding longer than all", frames::frame(kind::DATA, flag::PADDED, 1, &[9, 0]), protocol),
    ];
    for (what, bytes, expected) in cases {
        let mut raw = kit.raw(&[]).await;
        raw.send(bytes).await.unwrap();
        let ended = raw.read_frame_of(kind::GOAWAY, seconds(3)).await;
        let ended = ended.unwrap_or_else(|missing| panic!("{what}: {missing}"));
        assert_eq!(ended.code(), Some(expected), "{what}");
        assert!(raw.is_closed(seconds(3)).await, "{what}");
    }
    until(seconds(5), || kit.served.open_connections() == 0)
        .because("nothing is left behind")
        .await;
}

/// Each breaks a rule that concerns one stream: it is reset, and the others go on.
#[tokio::test]
async fn what_breaks_a_stream_ends_it_alone() {
    let kit = Kit::start(backend().echo()).await;
    let mut raw = kit.raw(&[]).await;
    let trailers = |stream, end| frames::headers(stream, &[("x-late", "1")], end);
    let cases: [(&str, Vec<u8>, u32); 6] = [
        (
            "a head after the end",
            [kit.post(1, &[]), frames::data(1, b"", false), trailers(1, false)].concat(),
            code::PROTOCOL_ERROR,
        ),
        (
            "a pseudo-header in trailers",
            [kit.post(3, &[]), frames::headers(3, &[(":path", "/")], true)].concat(),
            code::PROTOCOL_ERROR,
        ),
        (
            "trailers before all content",
            [kit.post(5, &[("content-length", "3")]), trailers(5, true)].concat(),
            code::PROTOCOL_ERROR,
        ),
        (
            "a window by nothing",
            [kit.post(7, &[]), frames::window_update(7, 0)].concat(),
            code::PROTOCOL_ERROR,
        ),
        (
            "a window beyond all",
            [kit.post(9, &[]), frames::window_update(9, 0x7fff_ffff)].concat(),
            code::FLOW_CONTROL_ERROR,
        ),
        (
            "content that is declared and not there",
            frames::headers(
                11,
                &frames::request_fields("GET", "localhost", "/", &[("content-length", "3")]),
                true,
            ),
            code::PROTOCOL_ERROR,
        ),
    ];
    for (number, (what, bytes, expected)) in cases.into_iter().enumerate() {
        let stream = u32::try_from(number).unwrap() * 2 + 1;
        raw.send(bytes).await.unwrap();
        let frame = next(&mut raw, stream).await;
        assert_eq!((frame.kind, frame.code()), (kind::RST_STREAM, Some(expected)), "{what}");
    }
    raw.send(kit.get(101, "/")).await.unwrap();
    assert!(!ok(&mut raw, 101).await.is_empty());
}

#[tokio::test]
async fn what_does_not_begin_as_http_2_is_not_served() {
    let kit = Kit::start(backend().echo()).await;
    for bytes in [
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        [frames::PREFACE, &kit.get(1, "/")[..]].concat(),
        [frames::PREFACE, &frames::settings_ack()[..]].concat(),
    ] {
        let mut raw = kit.gateway.raw_h2().await;
        raw.send(bytes).await.unwrap();
        let ended = raw.read_frame_of(kind::GOAWAY, seconds(3)).await.unwrap();
        assert_eq!(ended.code(), Some(code::PROTOCOL_ERROR));
        assert!(raw.is_closed(seconds(3)).await);
    }
    assert_eq!(kit.served.calls(), 0);
}

/// However TCP cuts what a client sends.
#[tokio::test]
async fn frames_split_at_any_byte_are_read_alike() {
    let kit = Kit::start(backend().echo()).await;
    let mut raw = kit.raw(&[]).await;
    let padded = frames::frame(kind::DATA, flag::PADDED, 1, b"\x03abc\0\0\0");
    let block = frames::block(&frames::request_fields(
        "POST",
        "localhost",
        "/p",
        &[("authorization", &kit.bearer)],
    ));
    let mut with_priority = vec![0x80, 0, 0, 0, 16];
    with_priority.extend_from_slice(&block[..20]);
    let all = [
        frames::frame(kind::HEADERS, flag::PRIORITY, 1, &with_priority),
        frames::continuation(1, &block[20..40], false),
        frames::continuation(1, &block[40..], true),
        frames::frame(0x10, 0, 0, b"unknown"),
        padded,
        frames::ping(*b"between!"),
        frames::data(1, b"def", false),
        frames::headers(1, &[("x-late", "1")], true),
    ]
    .concat();
    for byte in all {
        raw.send([byte]).await.unwrap();
    }
    let echo = ok(&mut raw, 1).await;
    assert!(String::from_utf8(echo).unwrap().contains("abcdef"));
    let seen = kit.served.last();
    assert_eq!((seen.uri.path(), seen.text().as_str()), ("/p", "abcdef"));
}

/// Fields that a client put into its table are references afterwards, in whatever streams.
#[tokio::test]
async fn fields_of_the_table_are_those_that_were_put_there() {
    let kit = Kit::start(backend().echo()).await;
    let mut raw = kit.raw(&[]).await;
    let field = |name: &str, value: &str| {
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        let (name_length, value_length) = (length(name), length(value));
        [&[0x40, name_length], name.as_bytes(), &[value_length], value.as_bytes()].concat()
    };
    let bearer = kit.bearer.clone();
    // :method GET, :scheme https, :path /, then three that are kept: 62 is the newest.
    let first = [
        vec![0x82, 0x87, 0x84],
        field(":authority", "localhost"),
        field("authorization", &bearer),
        field("x-who", "first"),
    ]
    .concat();
    let head = |stream, block: &[u8]| {
        frames::frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, block)
    };
    raw.send(head(1, &first)).await.unwrap();
    ok(&mut raw, 1).await;
    assert_eq!(kit.served.last().header("x-who"), Some("first"));
    // A stream that is refused for its fields moves the table all the same.
    let refused = [vec![0x82, 0x87, 0x84, 0xc0, 0xbf], field("connection", "close")].concat();
    raw.send(head(3, &refused)).await.unwrap();
    assert_eq!(next(&mut raw, 3).await.code(), Some(code::PROTOCOL_ERROR));
    raw.send(head(5, &[0x82, 0x87, 0x84, 0xc1, 0xc0, 0xbf])).await.unwrap();
    ok(&mut raw, 5).await;
    assert_eq!(kit.served.last().header("x-who"), Some("first"));
    assert_eq!(kit.served.calls(), 2);
}

#[tokio::test]
async fn more_streams_than_agreed_are_refused_and_may_come_again() {
    let served = backend().stalls().start().await;
    let gateway = gateway(all_to(&served.url())).limits("h2_streams = 3").start().await;
    let bearer = format!("Bearer {}", gateway.client_key);
    let get = |stream| frames::get(stream, "localhost", "/", &[("authorization", &*bearer)]);
    let mut raw = gateway.raw_h2().await;
    raw.start_h2(&[]).await.unwrap();
    raw.send([get(1), get(3), get(5), get(7)].concat()).await.unwrap();
    let refused = next(&mut raw, 7).await;
    assert_eq!((refused.kind, refused.code()), (kind::RST_STREAM, Some(code::REFUSED_STREAM)));
    until(seconds(3), || served.calls() == 3).because("the others are served").await;
    raw.send(frames::rst_stream(3, code::CANCEL)).await.unwrap();
    raw.send(get(9)).await.unwrap();
    until(seconds(3), || served.calls() == 4).because("a place is free again").await;
}

/// F24: a client that is told of the end may finish what it began, and what it sent before it knew.
#[tokio::test]
async fn an_end_that_was_announced_loses_nothing() {
    let served = backend().answers("well").delay(millis(300)).start().await;
    let prepared = gateway(all_to(&served.url())).write();
    let weir = prepared.spawn().await;
    let bearer = format!("Bearer {}", weir.make_key("client").await);
    let get = |stream| frames::get(stream, "localhost", "/", &[("authorization", &*bearer)]);
    let mut raw = RawClient::tls(weir.edge, &prepared.authority.roots(), &["h2"]).await;
    raw.start_h2(&[]).await.unwrap();
    raw.send(get(1)).await.unwrap();
    until(seconds(3), || served.calls() == 1).because("it is on its way").await;
    weir.signal("TERM");
    let told = raw.read_frame_of(kind::GOAWAY, seconds(5)).await.unwrap();
    assert_eq!(told.code(), Some(code::NO_ERROR));
    assert_eq!(
        told.payload[..4],
        0x7fff_ffff_u32.to_be_bytes(),
        "whatever is on its way is served"
    );
    // It did not know yet.
    raw.send(get(3)).await.unwrap();
    let asked = raw.read_frame_of(kind::PING, seconds(3)).await.unwrap();
    let answer: [u8; 8] = asked.payload[..].try_into().unwrap();
    raw.send(frames::frame(kind::PING, flag::ACK, 0, &answer)).await.unwrap();
    let mut statuses = Vec::new();
    let mut last = None;
    while let Ok(frame) = raw.read_frame(seconds(5)).await {
        match frame.kind {
            kind::HEADERS => statuses.push((frame.stream, frame.status())),
            kind::GOAWAY => last = Some(u32::from_be_bytes(frame.payload[..4].try_into().unwrap())),
            _ => {}
        }
    }
    assert_eq!(statuses, [(1, Some(200)), (3, Some(200))]);
    assert_eq!(last, Some(3), "nothing beyond it was looked at");
    assert_eq!(weir.exit(seconds(5)).await, Some(0));
}

#[tokio::test]
async fn answers_without_content_end_with_their_head() {
    let kit = Kit::start(backend().echo()).await;
    let mut raw = kit.raw(&[]).await;
    let head = |stream, path| {
        let fields =
            frames::request_fields("HEAD", "localhost", path, &[("authorization", &kit.bearer)]);
        frames::headers(stream, &fields, true)
    };
    raw.send(head(1, "/")).await.unwrap();
    let answer = next(&mut raw, 1).await;
    assert_eq!((answer.status(), answer.ends_stream()), (Some(200), true));
    // One of our own has words, and none of them is sent.
    raw.send(frames::headers(3, &frames::request_fields("HEAD", "localhost", "/", &[]), true))
        .await
        .unwrap();
    let answer = next(&mut raw, 3).await;
    assert_eq!((answer.status(), answer.ends_stream()), (Some(401), true));
    raw.send(kit.get(5, "/")).await.unwrap();
    ok(&mut raw, 5).await;
}

/// A client that waits before it sends its content is told to go on when somebody wants it, and not when
/// nobody does.
#[tokio::test]
async fn content_is_asked_for_when_it_is_wanted() {
    let kit = Kit::start(backend().echo()).await;
    let mut raw = kit.raw(&[]).await;
    raw.send(kit.post(1, &[("expect", "100-continue")])).await.unwrap();
    let go_on = next(&mut raw, 1).await;
    assert_eq!(
        (go_on.kind, go_on.status(), go_on.ends_stream()),
        (kind::HEADERS, Some(100), false)
    );
    raw.send(frames::data(1, b"here", true)).await.unwrap();
    ok(&mut raw, 1).await;
    assert_eq!(kit.served.last().text(), "here");
    let no_key = [("expect", "100-continue")];
    raw.send(frames::post(3, "localhost", "/", &no_key)).await.unwrap();
    assert_eq!(next(&mut raw, 3).await.status(), Some(401));
}

/// An answer that comes before all of the request is whole, and the client learns that it need not go on
/// (RFC 9113, 8.1). What it had sent meanwhile does no harm.
#[tokio::test]
async fn an_early_answer_is_whole_and_the_rest_is_not_wanted() {
    let kit = Kit::start(backend().answers("no thanks")).await;
    let mut raw = kit.raw(&[]).await;
    raw.send(frames::post(1, "localhost", "/", &[])).await.unwrap();
    raw.send(frames::data(1, b"some", false)).await.unwrap();
    assert_eq!(next(&mut raw, 1).await.status(), Some(401));
    let mut frame = next(&mut raw, 1).await;
    while frame.kind == kind::DATA {
        frame = next(&mut raw, 1).await;
    }
    assert_eq!((frame.kind, frame.code()), (kind::RST_STREAM, Some(code::NO_ERROR)));
    for _ in 0..5 {
        raw.send(frames::data(1, b"more", false)).await.unwrap();
    }
    raw.send(frames::headers(1, &[("x-late", "1")], true)).await.unwrap();
    raw.send(kit.get(3, "/")).await.unwrap();
    assert_eq!(ok(&mut raw, 3).await, b"no thanks");
}

/// A client takes a request back before anybody looked at it: nothing stays under way, and the connection
/// ends when it is idle.
#[tokio::test]
async fn a_request_taken_back_at_once_leaves_nothing_behind() {
    let served = backend().answers("x").start().await;
    let gateway = gateway(all_to(&served.url())).limits("h2_idle_timeout = \"1s\"").start().await;
    let bearer = format!("Bearer {}", gateway.client_key);
    let get = |stream| frames::get(stream, "localhost", "/", &[("authorization", &*bearer)]);
    let mut raw = gateway.raw_h2().await;
    raw.start_h2(&[]).await.unwrap();
    raw.send(get(1)).await.unwrap();
    ok(&mut raw, 1).await;
    raw.send([get(3), frames::rst_stream(3, code::CANCEL)].concat()).await.unwrap();
    let told = raw.read_frame_of(kind::GOAWAY, seconds(4)).await.unwrap();
    assert_eq!(told.code(), Some(code::NO_ERROR));
    // It does not agree, and goes all the same.
    assert!(raw.is_closed(seconds(4)).await);
}

/// Trailers are no matter of timing.
#[tokio::test]
async fn trailers_that_come_with_everything_else_go_on() {
    let kit = Kit::start(backend().echo()).await;
    let mut raw = kit.raw(&[]).await;
    let all = |stream, more: &[(&str, &str)]| {
        let trailers = frames::headers(stream, &[("x-late", "1")], true);
        [kit.post(stream, more), frames::data(stream, b"abc", false), trailers].concat()
    };
    raw.send(all(1, &[("te", "trailers")])).await.unwrap();
    ok(&mut raw, 1).await;
    assert_eq!(kit.served.last().text(), "abc");
    raw.send(all(3, &[("content-length", "3")])).await.unwrap();
    ok(&mut raw, 3).await;
    assert_eq!(kit.served.last().text(), "abc");
}

/// A client that allows a smaller table than there is at first is told that ours is empty, once (RFC 7541,
/// 4.2): some decoders insist.
#[tokio::test]
async fn a_smaller_table_is_acknowledged_once() {
    let kit = Kit::start(backend().echo()).await;
    // The kit's clients allow none.
    let mut raw = kit.raw(&[]).await;
    for (stream, told) in [(1, true), (3, false)] {
        raw.send(kit.get(stream, "/")).await.unwrap();
        let head = next(&mut raw, stream).await;
        assert_eq!(head.status(), Some(200));
        assert_eq!(head.payload[0] == 0x20, told, "{head:?}");
        content(&mut raw, stream).await;
    }
    let mut raw = kit.gateway.raw_h2().await;
    raw.send([frames::PREFACE, &frames::settings(&[])[..], &kit.get(1, "/")].concat())
        .await
        .unwrap();
    let head = raw.read_frame_of(kind::HEADERS, seconds(3)).await.unwrap();
    assert_eq!(head.payload[0], 0x88, "nothing is to be told");
}

/// F10: a backend that is streamed to over HTTP/2 learns that the client has gone, also when its answer
/// has begun.
#[tokio::test]
async fn f10_a_client_that_leaves_a_call_in_both_directions_leaves_its_backend() {
    let served = backend().grpc_echo().h2().start().await;
    let gateway = gateway(all_to(&served.url())).start().await;
    let bearer = format!("Bearer {}", gateway.client_key);
    let more =
        [("authorization", &*bearer), ("content-type", "application/grpc"), ("te", "trailers")];
    let mut raw = gateway.raw_h2().await;
    raw.start_h2(&[]).await.unwrap();
    raw.send(frames::post(1, "localhost", "/a.B/C", &more)).await.unwrap();
    raw.send(frames::data(1, b"\0\0\0\0\x03one", false)).await.unwrap();
    assert_eq!(next(&mut raw, 1).await.status(), Some(200));
    assert_eq!(next(&mut raw, 1).await.payload, b"\0\0\0\0\x03one");
    drop(raw);
    until(seconds(5), || served.aborted().len() == 1).because("the backend sees the end").await;
}
