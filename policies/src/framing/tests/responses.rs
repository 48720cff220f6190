use super::{LIMITS, To, expecting, response, splits};
use crate::framing::{Fault, HeadLimits, ResponseFraming};

#[track_caller]
fn refused_after(to: To, good: &[u8], bad: &[u8], fault: Fault) {
    let bytes = [good, bad].concat();
    for pieces in splits(&bytes) {
        let mut framing = expecting(LIMITS, to);
        let fate = response(&mut framing, pieces);
        let shown = bytes.escape_ascii();
        assert_eq!((fate.passed, fate.fault), (good.len(), Some(fault)), "{shown}");
        assert!(!framing.finished());
        assert_eq!(framing.end(), Err(fault));
    }
}

#[track_caller]
fn refused_with(lines: &[u8], fault: Fault) {
    // Also where there is no body, whatever the lines say.
    for (to, status) in [(To::Get, "200 OK"), (To::Get, "204 No Content"), (To::Head, "200 OK")] {
        let head = [b"HTTP/1.1 ", status.as_bytes(), b"\r\n", lines, b"\r\n\r\n"].concat();
        refused_after(to, b"", &head, fault);
        refused_after(to, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", &head, fault);
    }
}

/// Passes whole and leaves the connection fit for another request.
#[track_caller]
fn passes(to: To, bytes: &[u8]) {
    for pieces in splits(bytes) {
        let mut framing = expecting(LIMITS, to);
        assert!(!framing.finished());
        let fate = response(&mut framing, pieces);
        let shown = bytes.escape_ascii();
        assert_eq!((fate.passed, fate.fault), (bytes.len(), None), "{shown}");
        assert!(framing.finished() && !framing.close_delimited(), "{shown}");
        framing.expect(false);
        assert!(!framing.finished());
    }
    // And one byte more does not.
    refused_after(to, bytes, b"\r", Fault::ExcessBytes);
    refused_after(to, bytes, b"HTTP/1.1 200 OK\r\n\r\n", Fault::ExcessBytes);
}

#[test]
fn status_lines_other_than_version_status_reason_are_refused() {
    for (line, fault) in [
        (&b"HTTP/1.1"[..], Fault::StatusLine),
        (b"HTTP/1.1 ", Fault::StatusLine),
        (b"HTTP/1.1 20", Fault::StatusLine),
        (b"HTTP/1.1 2000 OK", Fault::StatusLine),
        (b"HTTP/1.1  200 OK", Fault::StatusLine),
        (b"HTTP/1.1 200\tOK", Fault::StatusLine),
        (b"HTTP/1.1 2x0 OK", Fault::StatusLine),
        (b"HTTP/1.1 +20 OK", Fault::StatusLine),
        (b"http/1.1 200 OK", Fault::StatusLine),
        (b" HTTP/1.1 200 OK", Fault::StatusLine),
        (b"HTTP/1.x 200 OK", Fault::StatusLine),
        (b"ICY 200 OK", Fault::StatusLine),
        (b"", Fault::StatusLine),
        (b"HTTP/2.0 200 OK", Fault::Version),
        (b"HTTP/0.9 200 OK", Fault::Version),
        (b"HTTP/1.1 099 OK", Fault::Status),
        (b"HTTP/1.1 000 OK", Fault::Status),
        (b"HTTP/1.1 600 OK", Fault::Status),
        (b"HTTP/1.1 999", Fault::Status),
        (b"HTTP/1.1 200 O\0K", Fault::ControlByte),
        (b"HTTP/1.1 200 O\x7fK", Fault::ControlByte),
        (b"HTTP/1.1 200 O\rK", Fault::BareCr),
        (b"HTTP/1.1 200\r", Fault::BareCr),
        (b"HTTP/1.1 200 OK\nX: y", Fault::BareLf),
    ] {
        refused_after(To::Get, b"", &[line, b"\r\nX: y\r\n\r\n"].concat(), fault);
    }
}

#[test]
fn field_lines_are_as_strict_as_those_of_requests() {
    for (lines, fault) in [
        (&b"Content-Length: 5\r\nTransfer-Encoding: chunked"[..], Fault::LengthAndEncoding),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5", Fault::LengthAndEncoding),
        (b"Content-Length: 5\r\nContent-Length: 5", Fault::ContentLengthRepeated),
        (b"Content-Length: 5, 5", Fault::ContentLength),
        (b"Content-Length: -1", Fault::ContentLength),
        (b"Content-Length:", Fault::ContentLength),
        (b"Transfer-Encoding: gzip, chunked", Fault::TransferEncoding),
        (b"Transfer-Encoding: identity", Fault::TransferEncoding),
        (
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            Fault::TransferEncodingRepeated,
        ),
        (b"X: a\n", Fault::BareLf),
        (b"X: a\rb", Fault::BareCr),
        (b"X: a\0", Fault::ControlByte),
        (b" X: a", Fault::LeadingWhitespace),
        (b"X: a\r\n b", Fault::FoldedLine),
        (b"X : a", Fault::SpaceBeforeColon),
        (b": a", Fault::EmptyName),
        (b"X\xff: a", Fault::NameByte),
        (b"X", Fault::NoColon),
    ] {
        refused_with(lines, fault);
    }
    refused_after(
        To::Get,
        b"",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Fault::EncodingInHttp10,
    );
}

#[test]
fn exactly_framed_responses_pass_whole() {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\nHost: a\r\nHost: b\r\n\r\n\r\n\r",
        b"HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 599 caf\xe9 \tau lait\r\nX: \xff\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3;x\r\nabc\r\n0\r\nX: y\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204\r\n\r\n",
        b"HTTP/1.1 103 Hints\r\nContent-Length: 5\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 1\r\n\r\nx",
    ] {
        passes(To::Get, bytes);
        passes(To::Upgrade, bytes);
    }
    passes(To::Head, b"HTTP/1.1 200 OK\r\n\r\n");
    passes(To::Head, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    passes(To::Head, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    passes(To::Head, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
}

#[test]
fn bad_chunks_and_trailers_are_refused() {
    let head = &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc"[..];
    refused_after(To::Get, head, b"\n0\r\n\r\n", Fault::ChunkEnd);
    refused_after(To::Get, head, b"d\r\n", Fault::ChunkEnd);
    let head = [head, b"\r\n"].concat();
    refused_after(To::Get, &head, b"-1\r\n", Fault::ChunkSize);
    refused_after(To::Get, &head, b"0\n\r\n", Fault::BareLf);
    let head = [&head[..], b"0\r\n"].concat();
    refused_after(To::Get, &head, b"X: \0\r\n\r\n", Fault::ControlByte);
    refused_after(To::Get, &head, b"HTTP/1.1 200 OK\r\n\r\n", Fault::NoColon);
}

#[test]
fn bytes_before_any_request_are_refused() {
    let mut framing = ResponseFraming::new(LIMITS);
    assert!(framing.finished());
    assert_eq!(framing.scan(b""), Ok(0));
    assert_eq!(framing.scan(b"HTTP/1.1 408 Request Timeout\r\n\r\n"), Err(Fault::ExcessBytes));
    assert!(!framing.finished());
    framing.expect(false);
    assert_eq!(framing.scan(b""), Err(Fault::ExcessBytes));
}

#[test]
fn excess_bytes_spoil_the_connection_before_they_are_asked_for() {
    let mut framing = expecting(LIMITS, To::Get);
    assert_eq!(framing.scan(b"HTTP/1.1 204\r\n\r\nH"), Ok(16));
    assert!(!framing.finished());
    framing.expect(false);
    assert_eq!(framing.scan(b"H"), Err(Fault::ExcessBytes));
}

#[test]
fn a_request_sent_before_the_last_response_ended_gets_none() {
    let mut framing = expecting(LIMITS, To::Get);
    assert_eq!(framing.scan(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na"), Ok(39));
    framing.expect(true);
    assert_eq!(framing.scan(b"b"), Ok(1));
    assert!(framing.finished());
    assert_eq!(framing.scan(b"H"), Err(Fault::ExcessBytes));
}

#[test]
fn a_response_without_a_length_lasts_until_the_close() {
    for head in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], b"HTTP/1.0 500 No\r\nX: y\r\n\r\n"] {
        let bytes = [head, b"HTTP/1.1 200 OK\n\0"].concat();
        for pieces in splits(&bytes) {
            let mut framing = expecting(LIMITS, To::Get);
            let fate = response(&mut framing, pieces);
            assert_eq!((fate.passed, fate.fault), (bytes.len(), None));
            assert!(framing.close_delimited() && !framing.finished());
            assert_eq!(framing.end(), Ok(()));
            assert!(!framing.finished());
        }
    }
}

#[test]
fn a_close_in_the_middle_is_a_short_response() {
    let end = |to, bytes: &[u8]| {
        let mut framing = expecting(LIMITS, to);
        assert_eq!(response(&mut framing, [bytes]).fault, None);
        let end = framing.end();
        assert_eq!(framing.finished(), end.is_ok());
        end
    };
    let chunked = |rest: &[u8]| {
        end(To::Get, &[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", rest].concat())
    };
    assert_eq!(end(To::Get, b""), Err(Fault::ShortHead));
    assert_eq!(end(To::Get, b"HTTP/1.1 200 OK\r\n\r"), Err(Fault::ShortHead));
    assert_eq!(end(To::Get, b"HTTP/1.1 100 Continue\r\n\r\n"), Err(Fault::ShortHead));
    assert_eq!(
        end(To::Get, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        Err(Fault::ShortBody)
    );
    assert_eq!(
        end(To::Get, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na"),
        Err(Fault::ShortBody)
    );
    assert_eq!(end(To::Get, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"), Ok(()));
    assert_eq!(end(To::Head, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), Ok(()));
    assert_eq!(chunked(b""), Err(Fault::ShortBody));
    assert_eq!(chunked(b"3"), Err(Fault::ShortBody));
    assert_eq!(chunked(b"3\r\nab"), Err(Fault::ShortBody));
    assert_eq!(chunked(b"3\r\nabc\r"), Err(Fault::ShortBody));
    assert_eq!(chunked(b"3\r\nabc\r\n"), Err(Fault::ShortBody));
    assert_eq!(chunked(b"0\r\n"), Err(Fault::ShortBody));
    assert_eq!(chunked(b"0\r\nX: y\r\n"), Err(Fault::ShortBody));
    assert_eq!(chunked(b"0\r\n\r\n"), Ok(()));
    assert_eq!(ResponseFraming::new(LIMITS).end(), Ok(()));
}

#[test]
fn eight_informational_responses_pass_and_a_ninth_does_not() {
    let one = b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\n";
    passes(To::Get, &[&one.repeat(8)[..], b"HTTP/1.1 204\r\n\r\n"].concat());
    refused_after(To::Get, &one.repeat(8), one, Fault::InformationalFlood);

    // Each response may have eight.
    let mut framing = expecting(LIMITS, To::Get);
    for _ in 0..3 {
        let bytes = [&one.repeat(8)[..], b"HTTP/1.1 204\r\n\r\n"].concat();
        assert_eq!(framing.scan(&bytes), Ok(bytes.len()));
        framing.expect(false);
    }
}

#[test]
fn only_a_101_that_was_asked_for_opens_a_tunnel() {
    let bytes = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n\0\n\x81anything";
    for pieces in splits(bytes) {
        let mut framing = expecting(LIMITS, To::Upgrade);
        let fate = response(&mut framing, pieces);
        assert_eq!((fate.passed, fate.fault), (bytes.len(), None));
        assert!(framing.tunnelled() && !framing.finished());
        assert_eq!(framing.end(), Ok(()));
    }
    refused_after(To::Get, b"", bytes, Fault::UnaskedUpgrade);
    refused_after(To::Head, b"", bytes, Fault::UnaskedUpgrade);
}

#[test]
fn a_head_as_large_as_its_limit_passes_and_one_more_byte_is_refused() {
    let limits = HeadLimits { target_bytes: 0, header_bytes: 41, header_fields: 2 };
    for (head, fault) in [
        // 16 + 19 + 4 + 2 bytes.
        (&b"HTTP/1.1 204 Ok\r\nX: 34567890123456\r\nX:\r\n\r\n"[..], Some(Fault::HeadTooLarge)),
        (b"HTTP/1.1 204 O\r\nX: 34567890123456\r\nX:\r\n\r\n", None),
        (b"HTTP/1.1 204 O\r\nX: 4\r\nX: 5\r\nX: 6\r\n\r\n", Some(Fault::TooManyFields)),
        (b"HTTP/1.1 204 OOOOOOOOOOOOOOOOOOOOOOOOOOOO", Some(Fault::HeadTooLarge)),
        (b"HTTP/1.1 204 OOOOOOOOOOOOOOOOOOOOOOOOO\r\n\r\n", Some(Fault::HeadTooLarge)),
        (b"HTTP/1.1 204 OOOOOOOOOOOOOOOOOOOOOOOO\r\n\r\n", None),
    ] {
        for pieces in splits(head) {
            let fate = response(&mut expecting(limits, To::Get), pieces);
            let passed = if fault.is_some() { 0 } else { head.len() };
            assert_eq!((fate.passed, fate.fault), (passed, fault), "{}", head.escape_ascii());
        }
    }
}
