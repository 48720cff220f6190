use proptest::prelude::*;

use super::*;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<Frame, Fault> {
    let head = FrameHead { length: payload.len(), kind, flags, stream };
    Frame::of(head, payload)
}

const PROTOCOL: Fault = Fault::Connection(Code::PROTOCOL_ERROR);
const SIZE: Fault = Fault::Connection(Code::FRAME_SIZE_ERROR);

#[test]
fn padding_and_priority_are_no_content() {
    let data = |flags, payload: &[u8]| frame(kind::DATA, flags, 1, payload);
    let content = |range| Ok(Frame::Data { content: range, ends: false });
    assert_eq!(data(0, b"abc"), content(0..3));
    assert_eq!(data(flag::PADDED, b"\x02abc\0\0"), content(1..4));
    assert_eq!(data(flag::PADDED, b"\x02\0\0"), content(1..1), "nothing but padding");
    assert_eq!(data(flag::PADDED, b"\x03\0\0"), Err(PROTOCOL), "more padding than there is");
    assert_eq!(data(flag::PADDED, b""), Err(SIZE));
    assert_eq!(data(flag::END_STREAM, b""), Ok(Frame::Data { content: 0..0, ends: true }));
    let headers = |flags, payload: &[u8]| frame(kind::HEADERS, flags, 1, payload);
    let block = |range| Ok(Frame::Headers { block: range, ends: false, whole: false });
    assert_eq!(headers(flag::PRIORITY, b"\0\0\0\0\x10abc"), block(5..8));
    assert_eq!(headers(flag::PRIORITY | flag::PADDED, b"\x01\0\0\0\0\x10abc\0"), block(6..9));
    assert_eq!(headers(flag::PRIORITY, b"\0\0\0"), Err(SIZE));
    assert_eq!(headers(flag::PRIORITY | flag::PADDED, b"\x04\0\0\0\0\x10abc"), Err(PROTOCOL));
    assert_eq!(
        headers(flag::END_STREAM | flag::END_HEADERS, b"abc"),
        Ok(Frame::Headers { block: 0..3, ends: true, whole: true })
    );
}

#[test]
fn what_no_frame_may_be_is_a_fault() {
    for (what, kind, flags, stream, payload, fault) in [
        ("data of no stream", kind::DATA, 0, 0, &b"a"[..], PROTOCOL),
        ("headers of no stream", kind::HEADERS, 0, 0, b"a", PROTOCOL),
        ("continuation of no stream", kind::CONTINUATION, 0, 0, b"a", PROTOCOL),
        ("priority of no stream", kind::PRIORITY, 0, 0, b"12345", PROTOCOL),
        ("priority", kind::PRIORITY, 0, 7, b"1234", Fault::Stream(7, Code::FRAME_SIZE_ERROR)),
        ("reset of no stream", kind::RST_STREAM, 0, 0, b"1234", PROTOCOL),
        ("reset", kind::RST_STREAM, 0, 1, b"12345", SIZE),
        ("settings of a stream", kind::SETTINGS, 0, 1, b"", PROTOCOL),
        ("settings", kind::SETTINGS, 0, 0, b"12345", SIZE),
        ("settings that are an answer", kind::SETTINGS, flag::ACK, 0, b"123456", SIZE),
        ("push", kind::PUSH_PROMISE, 0, 1, b"1234", PROTOCOL),
        ("ping of a stream", kind::PING, 0, 1, b"12345678", PROTOCOL),
        ("ping", kind::PING, 0, 0, b"1234567", SIZE),
        ("goaway of a stream", kind::GOAWAY, 0, 1, b"12345678", PROTOCOL),
        ("goaway", kind::GOAWAY, 0, 0, b"1234567", SIZE),
        ("window", kind::WINDOW_UPDATE, 0, 0, b"123", SIZE),
        ("window by nothing", kind::WINDOW_UPDATE, 0, 0, b"\x80\0\0\0", PROTOCOL),
        (
            "window of a stream by nothing",
            kind::WINDOW_UPDATE,
            0,
            3,
            b"\0\0\0\0",
            Fault::Stream(3, Code::PROTOCOL_ERROR),
        ),
    ] {
        assert_eq!(frame(kind, flags, stream, payload), Err(fault), "{what}");
    }
    assert_eq!(
        frame(0xbe, 0xff, 9, b"whatever"),
        Ok(Frame::Nothing),
        "unknown frames are passed over"
    );
}

#[test]
fn settings_are_read_in_their_order_and_judged() {
    let entry = |name: u16, value: u32| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    let read = |entries: &[Vec<u8>]| Settings::of(&entries.concat()).collect::<Result<Vec<_>, _>>();
    assert_eq!(
        read(&[entry(1, 0), entry(4, 7), entry(99, 1), entry(5, 16_384), entry(2, 0), entry(4, 8)]),
        Ok(vec![
            Setting::Table(0),
            Setting::InitialWindow(7),
            Setting::MostPayload(16_384),
            Setting::InitialWindow(8)
        ])
    );
    assert_eq!(read(&[entry(2, 2)]), Err(Code::PROTOCOL_ERROR));
    assert_eq!(read(&[entry(4, 1 << 31)]), Err(Code::FLOW_CONTROL_ERROR));
    assert_eq!(read(&[entry(5, 16_383)]), Err(Code::PROTOCOL_ERROR));
    assert_eq!(read(&[entry(5, 1 << 24)]), Err(Code::PROTOCOL_ERROR));
}

#[test]
fn what_is_written_is_read() {
    let mut out = Vec::new();
    put_reset(&mut out, 5, Code::REFUSED_STREAM);
    put_window(&mut out, 0, 70_000);
    put_ping(&mut out, true, *b"12345678");
    put_goaway(&mut out, 9, Code::ENHANCE_YOUR_CALM);
    put_settings(&mut out, 100, 65_536, 16_384);
    let mut rest = &out[..];
    let mut next = || {
        let head = FrameHead::read(rest).unwrap();
        let (payload, behind) = rest[HEAD..].split_at(head.length);
        rest = behind;
        (head.stream, Frame::of(head, payload).unwrap(), payload.to_vec())
    };
    assert_eq!(next(), (5, Frame::Reset, vec![0, 0, 0, 7]));
    assert_eq!(next(), (0, Frame::Window(70_000), 70_000_u32.to_be_bytes().to_vec()));
    assert_eq!(next(), (0, Frame::Pong(*b"12345678"), b"12345678".to_vec()));
    assert_eq!(next(), (0, Frame::GoAway, vec![0, 0, 0, 9, 0, 0, 0, 11]));
    let (_, frame, payload) = next();
    assert_eq!(frame, Frame::Settings);
    assert_eq!(payload, [0, 3, 0, 0, 0, 100, 0, 4, 0, 1, 0, 0, 0, 6, 0, 0, 64, 0]);
    assert_eq!(rest, b"");
}

proptest! {
    /// Whatever comes is a frame or a fault, and what is told of it lies within it.
    #[test]
    fn nothing_that_comes_is_too_strange(
        kind in 0_u8..12, flags: u8, stream in 0_u32..3, payload in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        match frame(kind, flags, stream, &payload) {
            Ok(Frame::Data { content: range, .. } | Frame::Headers { block: range, .. }) => {
                prop_assert!(range.start <= range.end && range.end <= payload.len());
            }
            Ok(Frame::Settings) => {
                let _ = Settings::of(&payload).count();
            }
            _ => {}
        }
    }

    #[test]
    fn a_head_is_read_as_it_is_written(length in 0_usize..1 << 24, kind: u8, flags: u8, stream in 0_u32..1 << 31) {
        let mut out = Vec::new();
        put_head(&mut out, length, kind, flags, stream);
        prop_assert_eq!(FrameHead::read(&out), Some(FrameHead { length, kind, flags, stream }));
        prop_assert_eq!(FrameHead::read(&out[..8]), None);
    }
}
