use super::{Fate, LIMITS, requests, splits};
use crate::framing::{Fault, HeadLimits, RequestFraming};

/// `good` passes, and of `bad`, which follows it, nothing does.
#[track_caller]
fn refused_after(good: &[u8], bad: &[u8], fault: Fault) {
    let bytes = [good, bad].concat();
    for pieces in splits(&bytes) {
        let count = pieces.len();
        let fate = requests(LIMITS, pieces);
        let shown = bytes.escape_ascii();
        assert_eq!((fate.passed, fate.fault), (good.len(), Some(fault)), "{shown} in {count}");
    }
}

#[track_caller]
fn refused(bad: &[u8], fault: Fault) {
    refused_after(b"", bad, fault);
    // A request before it changes nothing.
    refused_after(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", bad, fault);
}

/// The head of a POST with these field lines is refused.
#[track_caller]
fn refused_with(lines: &[u8], fault: Fault) {
    refused(&[b"POST / HTTP/1.1\r\nHost: a\r\n", lines, b"\r\n\r\nabcde"].concat(), fault);
}

/// After the head of a chunked POST.
#[track_caller]
fn refused_chunk(good: &[u8], bad: &[u8], fault: Fault) {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    refused_after(&[head, good].concat(), bad, fault);
}

#[track_caller]
fn passes(bytes: &[u8]) {
    for pieces in splits(bytes) {
        let fate = requests(LIMITS, pieces);
        let shown = bytes.escape_ascii();
        assert_eq!((fate.passed, fate.fault), (bytes.len(), None), "{shown}");
        assert_eq!(fate.ends.last(), Some(&bytes.len()), "{shown} ends");
    }
}

#[test]
fn request_lines_other_than_method_target_version_are_refused() {
    for (line, fault) in [
        (&b"GET"[..], Fault::RequestLine),
        (b"GET /", Fault::RequestLine),
        (b"GET /  HTTP/1.1", Fault::RequestLine),
        (b"GET  / HTTP/1.1", Fault::RequestLine),
        (b"GET /a b HTTP/1.1", Fault::RequestLine),
        (b"GET / HTTP/1.1 ", Fault::RequestLine),
        (b"GET / http/1.1", Fault::RequestLine),
        (b"GET / HTTP/1.", Fault::RequestLine),
        (b"GET / HTTP/1.10", Fault::RequestLine),
        (b"GET  HTTP/1.1", Fault::RequestLine),
        (b"GET HTTP/1.1", Fault::RequestLine),
        (b"GET\t/\tHTTP/1.1", Fault::RequestLine),
        (b"GET\t/ HTTP/1.1", Fault::RequestLine),
        (b" GET / HTTP/1.1", Fault::Method),
        (b"G(T / HTTP/1.1", Fault::Method),
        (b"G\0T / HTTP/1.1", Fault::Method),
        (b"\x16\x03\x01 / HTTP/1.1", Fault::Method),
        (b"GET /\0 HTTP/1.1", Fault::TargetByte),
        (b"GET /\t HTTP/1.1", Fault::TargetByte),
        (b"GET /\x7f HTTP/1.1", Fault::TargetByte),
        (b"GET /\xc3\xa9 HTTP/1.1", Fault::TargetByte),
        (b"GET /long/enough\x80/for-a-word HTTP/1.1", Fault::TargetByte),
        (b"GET /a#b HTTP/1.1", Fault::TargetByte),
        (b"GET /a?b#c HTTP/1.1", Fault::TargetByte),
        (b"GET http://x/#c HTTP/1.1", Fault::TargetByte),
        (b"GET /a<b HTTP/1.1", Fault::TargetByte),
        (b"GET /a`b HTTP/1.1", Fault::TargetByte),
        (b"GET http:// HTTP/1.1", Fault::TargetByte),
        (b"GET / HTTP/2.0", Fault::Version),
        (b"PRI * HTTP/2.0", Fault::Version),
        (b"GET / HTTP/1.2", Fault::Version),
        (b"GET / HTTP/0.9", Fault::Version),
        (b"GET /\r HTTP/1.1", Fault::BareCr),
        (b"GET / HTTP/1.1\r", Fault::BareCr),
        (b"\rGET / HTTP/1.1", Fault::BareCr),
        (b"\nGET / HTTP/1.1", Fault::BareLf),
        (b"GET / HTTP/1.1\nX: y", Fault::BareLf),
        (b"\r\n\r\nGET / HTTP/1.1", Fault::BlankLines),
        (b"\r\n\nGET / HTTP/1.1", Fault::BareLf),
        (b"\r\n GET / HTTP/1.1", Fault::Method),
    ] {
        refused(&[line, b"\r\nHost: a\r\n\r\n"].concat(), fault);
    }
}

#[test]
fn a_length_beside_an_encoding_is_refused() {
    refused_with(b"Content-Length: 5\r\nTransfer-Encoding: chunked", Fault::LengthAndEncoding);
    refused_with(b"Transfer-Encoding: chunked\r\nContent-Length: 5", Fault::LengthAndEncoding);
    refused_with(
        b"transfer-encoding:chunked\r\nX: y\r\nCONTENT-LENGTH:0",
        Fault::LengthAndEncoding,
    );
    refused_with(b"Content-Length: 5\r\nTransfer-Encoding: identity", Fault::LengthAndEncoding);
}

#[test]
fn a_second_length_is_refused_even_if_equal() {
    refused_with(b"Content-Length: 5\r\nContent-Length: 5", Fault::ContentLengthRepeated);
    refused_with(b"Content-Length: 5\r\nX: y\r\ncontent-length: 6", Fault::ContentLengthRepeated);
    refused_with(b"Content-Length: 0\r\nContent-Length:", Fault::ContentLengthRepeated);
}

#[test]
fn a_length_that_is_not_plain_digits_is_refused() {
    for value in [
        "",
        " ",
        "+5",
        "-5",
        "-0",
        "5 5",
        "5,5",
        "5, 5",
        "1_000",
        "0x5",
        "5.0",
        "5e0",
        "five",
        "5;",
        "12345678901234567890",
        "00000000000000000005",
        "\u{a0}5",
        "٥",
        "5\t5",
        "\"5\"",
    ] {
        refused_with(format!("Content-Length: {value}").as_bytes(), Fault::ContentLength);
    }
    refused_with(b"Content-Length: 5\0", Fault::ControlByte);
    refused_with(b"Content-Length: 5\x0b", Fault::ControlByte);
}

#[test]
fn an_encoding_other_than_chunked_is_refused() {
    for value in [
        "",
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "xchunked",
        "chunkedx",
        "chunk",
        "\"chunked\"",
        "chun ked",
        "\u{a0}chunked",
    ] {
        refused_with(format!("Transfer-Encoding: {value}").as_bytes(), Fault::TransferEncoding);
    }
    refused_with(b"Transfer-Encoding: chunked\x0b", Fault::ControlByte);
    refused_with(
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        Fault::TransferEncodingRepeated,
    );
    refused_with(
        b"Transfer-Encoding: chunked\r\nTransfer-encoding: identity",
        Fault::TransferEncodingRepeated,
    );
    refused_with(b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", Fault::TransferEncoding);
}

#[test]
fn an_encoding_in_http_1_0_is_refused() {
    refused(
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Fault::EncodingInHttp10,
    );
}

#[test]
fn field_lines_that_could_be_read_in_two_ways_are_refused() {
    for (lines, fault) in [
        (&b"X: a\nY: b"[..], Fault::BareLf),
        (b"X: a\n", Fault::BareLf),
        (b"X: a\n\r\nY: b", Fault::BareLf),
        (b"X: a\rY: b", Fault::BareCr),
        (b"X: a\r", Fault::BareCr),
        (b"X\r: a", Fault::BareCr),
        (b"\r", Fault::BareCr),
        (b"X: \r\r\n", Fault::BareCr),
        (b"Content-Length: 5\r0", Fault::BareCr),
        (b"X: a\0", Fault::ControlByte),
        (b"X: \0aaaaaaaaaaaaaaaaaaaaa", Fault::ControlByte),
        (b"X: a\x01b", Fault::ControlByte),
        (b"X: a\x0bb", Fault::ControlByte),
        (b"X: a\x1f", Fault::ControlByte),
        (b"X: a\x7f", Fault::ControlByte),
        (b"X: \ta tab does not hide\x0c it", Fault::ControlByte),
        (b"X: a\r\n b", Fault::FoldedLine),
        (b"X: a\r\n\tb", Fault::FoldedLine),
        (b"X: a\r\n ", Fault::FoldedLine),
        (b"X: a\r\n Content-Length: 5", Fault::FoldedLine),
        (b"X : a", Fault::SpaceBeforeColon),
        (b"X\t: a", Fault::SpaceBeforeColon),
        (b"Content-Length : 5", Fault::SpaceBeforeColon),
        (b"Transfer-Encoding \t: chunked", Fault::SpaceBeforeColon),
        (b": a", Fault::EmptyName),
        (b":", Fault::EmptyName),
        (b"X Y: a", Fault::NameByte),
        (b"X\0: a", Fault::NameByte),
        (b"X\x7f: a", Fault::NameByte),
        (b"X(: a", Fault::NameByte),
        (b"\"X\": a", Fault::NameByte),
        (b"X\xe9: a", Fault::NameByte),
        (b"\x0bContent-Length: 5", Fault::NameByte),
        (b"Content-Length", Fault::NoColon),
        (b"X a", Fault::NoColon),
        (b"X\0", Fault::NoColon),
    ] {
        refused_with(lines, fault);
    }
}

#[test]
fn whitespace_before_the_first_field_is_refused() {
    for blank in [" ", "\t", "  "] {
        let head = format!("GET / HTTP/1.1\r\n{blank}Host: a\r\n\r\n");
        refused(head.as_bytes(), Fault::LeadingWhitespace);
        let head = format!("GET / HTTP/1.1\r\n{blank}\r\nHost: a\r\n\r\n");
        refused(head.as_bytes(), Fault::LeadingWhitespace);
    }
}

#[test]
fn exactly_one_host_is_required_and_http_1_0_may_have_none() {
    refused(b"GET / HTTP/1.1\r\n\r\n", Fault::Host);
    refused(b"GET / HTTP/1.1\r\nX-Host: a\r\nHosts: b\r\n\r\n", Fault::Host);
    refused_with(b"Host: a", Fault::Host);
    refused_with(b"hOST: b", Fault::Host);
    refused(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Fault::Host);
    passes(b"GET / HTTP/1.0\r\n\r\n");
    passes(b"GET / HTTP/1.1\r\nhost:\r\n\r\n");
}

#[test]
fn chunks_that_could_be_read_in_two_ways_are_refused() {
    let longest = [&b"5;"[..], &[b'x'; 256], b"\r\n"].concat();
    let endless = [b'0'; 400];
    for (line, fault) in [
        (&b"\r\n"[..], Fault::ChunkSize),
        (b" 5\r\n", Fault::ChunkSize),
        (b"5 \r\n", Fault::ChunkSize),
        (b"5\t\r\n", Fault::ChunkSize),
        (b"+5\r\n", Fault::ChunkSize),
        (b"-5\r\n", Fault::ChunkSize),
        (b"0x5\r\n", Fault::ChunkSize),
        (b"5_0\r\n", Fault::ChunkSize),
        (b"5,5\r\n", Fault::ChunkSize),
        (b"5 5\r\n", Fault::ChunkSize),
        (b"g\r\n", Fault::ChunkSize),
        (b";x\r\n", Fault::ChunkSize),
        (b"5 x\r\n", Fault::ChunkSize),
        (b"5\0\r\n", Fault::ChunkSize),
        (b"00000000000000005\r\n", Fault::ChunkSize),
        (b"10000000000000000\r\n", Fault::ChunkSize),
        (&endless, Fault::ChunkSize),
        (&longest, Fault::ChunkExtension),
        (&[&b"5;"[..], &[b'x'; 400]].concat(), Fault::ChunkExtension),
        (b"5\n", Fault::BareLf),
        (b"5;x\n", Fault::BareLf),
        (b"\n", Fault::BareLf),
        (b"5\r5\r\n", Fault::BareCr),
        (b"5\r\r\n", Fault::BareCr),
        (b"5;x\r\r\n", Fault::BareCr),
        (b"5;x=\"\0\"\r\n", Fault::ControlByte),
        (b"5;\x7f\r\n", Fault::ControlByte),
    ] {
        refused_chunk(b"", line, fault);
        refused_chunk(b"3\r\nabc\r\n", line, fault);
    }
    for end in [&b"\n"[..], b"x", b"\rx", b"\r\r\n", b"0\r\n\r\n", b"\n\r\n"] {
        refused_chunk(b"3\r\nabc", end, Fault::ChunkEnd);
    }
}

#[test]
fn trailers_follow_the_rules_of_field_lines() {
    for (lines, fault) in [
        (&b"X: a\n\r\n"[..], Fault::BareLf),
        (b"\n", Fault::BareLf),
        (b"\rX\r\n", Fault::BareCr),
        (b"X: a\r\n b\r\n\r\n", Fault::FoldedLine),
        (b" X: a\r\n\r\n", Fault::LeadingWhitespace),
        (b"X : a\r\n\r\n", Fault::SpaceBeforeColon),
        (b"X: \0\r\n\r\n", Fault::ControlByte),
        (b"GET / HTTP/1.1\r\n\r\n", Fault::NoColon),
        (b"X: a\r\nContent-Length: 5\r\n\r\n", Fault::FramingTrailer),
        (b"Transfer-Encoding: chunked\r\n\r\n", Fault::FramingTrailer),
        (b"host: b\r\n\r\n", Fault::FramingTrailer),
    ] {
        refused_chunk(b"0\r\n", lines, fault);
        refused_chunk(b"3\r\nabc\r\n0\r\n", lines, fault);
    }
}

#[test]
fn well_framed_requests_pass_whole() {
    for request in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        b"M-SEARCH http://a/?q=%20{}|^ HTTP/1.1\r\nhost:a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX_y: caf\xc3\xa9 \x80\xff\tb \r\nEmpty:\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length:\t 5 \t\r\n\r\nab\r\nc",
        b"POST / HTTP/1.0\r\nContent-Length: 0000000000000000005\r\n\r\n\r\n\r\n\0",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:  ChUnKeD\t\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n\r\n0\r\n\
          0000000000000001;a=\"b c\";d\r\nx\r\n1 \t;a\r\nx\r\n00\r\nX: y\r\nZ:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ] {
        passes(request);
        passes(&[request, request].concat());
    }
    let longest = [b"5;", &[b'x'; 255][..], b"\r\nabcde\r\n0\r\n\r\n"].concat();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    passes(&[&head[..], &longest].concat());
}

#[test]
fn the_largest_body_does_not_overflow() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n";
    let mut framing = RequestFraming::new(LIMITS);
    assert_eq!(framing.scan(head), Ok(head.len()));
    assert_eq!(framing.scan(&[0; 1000]), Ok(1000));
    assert!(framing.in_body());

    let head =
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffFFFFffffFFFF\r\n";
    let mut framing = RequestFraming::new(LIMITS);
    assert_eq!(framing.scan(head), Ok(head.len()));
    assert_eq!(framing.scan(&[0; 1000]), Ok(1000));
    assert!(framing.in_body());
}

#[test]
fn what_is_as_large_as_its_limit_passes_and_one_more_is_refused() {
    let limits = HeadLimits { target_bytes: 10, header_bytes: 40, header_fields: 3 };
    let fate = |bytes: &[u8]| {
        let fates = splits(bytes).map(|pieces| requests(limits, pieces));
        assert_eq!(fates[0], fates[1]);
        assert_eq!(fates[0], fates[2]);
        let [Fate { passed, fault, .. }, ..] = fates;
        assert!(passed == 0 || passed == bytes.len());
        fault
    };
    assert_eq!(fate(b"GET /123456789 HTTP/1.1\r\nHost: a\r\n\r\n"), None);
    assert_eq!(fate(b"GET /1234567890 HTTP/1.1\r\nHost: a\r\n\r\n"), Some(Fault::TargetTooLong));
    assert_eq!(fate(&[b'G'; 57]), None);
    assert_eq!(fate(&[b'G'; 58]), Some(Fault::TargetTooLong));
    assert_eq!(fate(&[&[b'G'; 58][..], b"\0\n\r\n"].concat()), Some(Fault::TargetTooLong));

    // 9 + 29 + 2 bytes.
    assert_eq!(fate(b"GET / HTTP/1.1\r\nHost: a\r\nX: 345678901234567890123456\r\n\r\n"), None);
    assert_eq!(
        fate(b"GET / HTTP/1.1\r\nHost: a\r\nX: 3456789012345678901234567\r\n\r\n"),
        Some(Fault::HeadTooLarge)
    );
    // Without a line end it is refused as soon as none could make it small enough.
    let head = b"GET / HTTP/1.1\r\nX: 4567890123456789012345678901234567890".to_vec();
    assert_eq!(head.len(), 16 + 40);
    assert_eq!(fate(&head), Some(Fault::HeadTooLarge));
    assert_eq!(fate(&head[..16 + 39]), None);

    assert_eq!(fate(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nA: b\r\n\r\n"), None);
    assert_eq!(
        fate(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nA: b\r\nA:\r\n\r\n"),
        Some(Fault::TooManyFields)
    );
}

#[test]
fn trailers_count_on_from_the_head() {
    let limits = HeadLimits { target_bytes: 10, header_bytes: 50, header_fields: 3 };
    let head = &b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"[..];
    for (trailers, fault) in [
        (&b"A: 45\r\n\r\n"[..], None),
        (b"A: 4567\r\n\r\n", None),
        (b"A: 4567890123\r\n\r\n", Some(Fault::HeadTooLarge)),
        (b"A:\r\nB:\r\n\r\n", Some(Fault::TooManyFields)),
    ] {
        let bytes = [head, trailers].concat();
        for pieces in splits(&bytes) {
            let fate = requests(limits, pieces);
            let passed = if fault.is_some() { head.len() } else { bytes.len() };
            assert_eq!((fate.passed, fate.fault), (passed, fault), "{}", trailers.escape_ascii());
        }
    }
}

#[test]
fn one_empty_line_between_requests_leaves_the_connection_idle() {
    let mut framing = RequestFraming::new(LIMITS);
    let states = |framing: &RequestFraming| (framing.at_boundary(), framing.in_head());
    assert_eq!(states(&framing), (true, false));
    for idle in [&b""[..], b"\r", b"\r\n"] {
        assert_eq!(framing.scan(idle), Ok(0));
        assert_eq!(states(&framing), (true, false), "{}", idle.escape_ascii());
    }
    assert_eq!(framing.scan(b"\r\nG"), Ok(0));
    assert_eq!(states(&framing), (false, true));
    let whole = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(framing.scan(&whole[..whole.len() - 2]), Ok(0));
    assert_eq!(states(&framing), (false, true));
    assert_eq!(framing.scan(whole), Ok(whole.len()));
    assert_eq!(states(&framing), (true, false));
    assert!(!framing.in_body());
}

#[test]
fn a_fault_behind_good_bytes_is_known_at_once_and_told_next() {
    let mut framing = RequestFraming::new(LIMITS);
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let bytes = [&head[..], b"zz\r\n"].concat();
    assert_eq!(framing.scan(&bytes), Ok(head.len()));
    assert_eq!(framing.fault(), Some(Fault::ChunkSize));
    assert_eq!(framing.scan(&bytes[head.len()..]), Err(Fault::ChunkSize));
    assert!(!framing.at_boundary());
}

const UPGRADE: &[u8] =
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nupgrade: websocket\r\n\r\n";

#[test]
fn bytes_after_a_request_for_an_upgrade_wait_for_the_decision() {
    let bytes = [UPGRADE, b"\0\x81frame"].concat();
    let mut framing = RequestFraming::new(LIMITS);
    assert_eq!(framing.scan(&bytes), Ok(UPGRADE.len()));
    assert!(framing.upgrade_asked() && framing.at_boundary());
    assert_eq!(framing.scan(&bytes[UPGRADE.len()..]), Ok(0));
    framing.tunnel();
    assert!(!framing.upgrade_asked() && !framing.at_boundary());
    assert_eq!(framing.scan(&bytes[UPGRADE.len()..]), Ok(7));
    assert_eq!(framing.scan(b"\n\n\n"), Ok(3));
}

#[test]
fn after_a_declined_upgrade_framing_goes_on() {
    let mut framing = RequestFraming::new(LIMITS);
    assert_eq!(framing.scan(UPGRADE), Ok(UPGRADE.len()));
    assert_eq!(framing.scan(b"GET /smuggled HTTP/1.1\n"), Ok(0));
    framing.not_upgraded();
    assert!(!framing.upgrade_asked());
    assert_eq!(framing.scan(b"GET /smuggled HTTP/1.1\n"), Err(Fault::BareLf));
}

#[test]
fn a_body_passes_before_the_decision_about_its_upgrade() {
    let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nabX";
    let mut framing = RequestFraming::new(LIMITS);
    assert_eq!(framing.scan(bytes), Ok(bytes.len() - 1));
    assert_eq!(framing.scan(b"X"), Ok(0));
}

#[test]
fn an_upgrade_in_http_1_0_or_in_a_trailer_is_none() {
    for bytes in [
        &b"GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\n"[..],
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nUpgrade: x\r\n\r\n",
    ] {
        let mut framing = RequestFraming::new(LIMITS);
        while framing.scan(bytes).unwrap() == 0 {}
        assert!(!framing.upgrade_asked());
    }
}
