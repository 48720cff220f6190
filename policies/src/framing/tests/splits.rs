//! Laws: what passes, and what it ends with, does not depend on how bytes were split over reads.

use proptest::prelude::*;

use super::{Fate, LIMITS, To, expecting, feed, requests, response};
use crate::framing::{FieldMark, HeadLimits, Piece, RequestFraming, ResponseFraming};

/// Small enough to be run into.
const TIGHT: HeadLimits = HeadLimits { target_bytes: 12, header_bytes: 90, header_fields: 4 };

/// Pieces that messages are made of, good and bad, so that random sequences get far.
const FRAGMENTS: [&[u8]; 40] = [
    b"GET / HTTP/1.1\r\nHost: a\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\n\r\n",
    b"HTTP/1.1 204\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Upgrade: websocket\r\n",
    b"Connection: close\r\n",
    b"X: y",
    b"X: y\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\r",
    b"\n",
    b"0\r\n\r\n",
    b"0\r\n",
    b"5\r\nabcde\r\n",
    b"5;x=y\r\nabcde\r\n",
    b"1 ;x\r\n",
    b"5",
    b"fffffffffffffff",
    b";",
    b" ",
    b"\t",
    b":",
    b"\0",
    b"\xff",
    b"abcde",
    b"GET",
    b"/",
    b"HTTP/1.1",
    b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

pub(super) fn wire() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(prop::sample::select(&FRAGMENTS[..]), 0..12)
            .prop_map(|fragments| fragments.concat()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

/// A valid request, as the bytes of its head and of its body.
pub(super) fn request() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let head = "(\r\n)?[A-Z]{1,7} /[!$-;=?-_a-z|~]{0,40} HTTP/1\\.1\r\nHost: [a-z]{1,9}\r\n\
                (X[a-zA-Z_-]{0,9}:[ -~\t]{0,30}\r\n){0,5}";
    let data = prop::collection::vec(any::<u8>(), 1..60);
    let chunks = prop::collection::vec((data, "( ?;[ -~\t]{0,9})?"), 0..5);
    let trailers = "(X[a-z]{0,5}:[ -~]{0,9}\r\n){0,2}";
    let body = prop_oneof![
        Just(("\r\n".to_owned(), Vec::new())),
        prop::collection::vec(any::<u8>(), 0..99)
            .prop_map(|body| { (format!("Content-Length: {}\r\n\r\n", body.len()), body) }),
        (chunks, trailers).prop_map(|(chunks, trailers)| {
            let mut body = Vec::new();
            for (data, extension) in chunks {
                body.extend_from_slice(format!("{:x}{extension}\r\n", data.len()).as_bytes());
                body.extend_from_slice(&data);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
            ("Transfer-Encoding: chunked\r\n\r\n".to_owned(), body)
        }),
    ];
    (head, body).prop_map(|(head, (lines, body))| ((head + &lines).into_bytes(), body))
}

/// `bytes` cut after pieces of these lengths; the last piece is whatever is left.
pub(super) fn cut<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths {
        let (piece, rest) = bytes.split_at((*length).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces
}

pub(super) fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..30_usize, 0..40)
}

pub(super) fn limits() -> impl Strategy<Value = HeadLimits> {
    prop::sample::select(vec![LIMITS, TIGHT])
}

fn to() -> impl Strategy<Value = To> {
    prop::sample::select(vec![To::Get, To::Head, To::Upgrade])
}

/// Names and values as the marks have them.
fn marked(bytes: &[u8], marks: &[FieldMark]) -> Vec<(String, String)> {
    let text = |place: &std::ops::Range<usize>| {
        String::from_utf8_lossy(&bytes[place.clone()]).into_owned()
    };
    marks.iter().map(|mark| (text(&mark.name), text(&mark.value))).collect()
}

/// The same, found by looking for colons in the lines from `first` on.
fn fields_of(bytes: &[u8], first: usize) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.split("\r\n").skip(first).take_while(|line| !line.is_empty());
    let split = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
    };
    lines.map(split).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn a_reader_of_pieces_takes_what_a_scan_lets_pass(
        bytes in wire(),
        lengths in lengths(),
        limits in limits(),
        to in to(),
    ) {
        let scanned = response(&mut expecting(limits, to), [&bytes[..]]);
        let next = |framing: &mut ResponseFraming, bytes: &[u8]| {
            Ok(match framing.next(bytes, &mut Vec::new())? {
                Piece::Nothing => 0,
                Piece::Informational(count)
                | Piece::Head(count)
                | Piece::Data(count)
                | Piece::Frame(count)
                | Piece::Trailers(count) => count,
            })
        };
        let taken = feed(&mut expecting(limits, to), cut(&bytes, &lengths), next, |_| false);
        prop_assert_eq!(&taken, &scanned);
        prop_assert_eq!(expecting(limits, to).foresee(&bytes), scanned.fault);
    }

    #[test]
    fn pieces_give_back_what_was_put_into_chunks(
        data in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..6),
        trailers in "(X[a-z]{0,5}:[ -~]{0,9}\r\n){0,2}",
        lengths in lengths(),
    ) {
        let head = "HTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut bytes = head.as_bytes().to_vec();
        for chunk in &data {
            bytes.extend_from_slice(format!("{:x};x=y\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
        let (mut heads, mut content, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let mut framing = expecting(LIMITS, To::Get);
        let mut kept = Vec::new();
        let mut marks = vec![FieldMark { name: 0..900, value: 0..900 }];
        for piece in cut(&bytes, &lengths) {
            kept.extend_from_slice(piece);
            loop {
                let taken = match framing.next(&kept, &mut marks).unwrap() {
                    Piece::Nothing => break,
                    Piece::Informational(count) | Piece::Head(count) => {
                        heads.extend_from_slice(&kept[..count]);
                        prop_assert_eq!(marked(&kept, &marks), fields_of(&kept[..count], 1));
                        count
                    }
                    Piece::Data(count) => {
                        content.extend_from_slice(&kept[..count]);
                        count
                    }
                    Piece::Frame(count) => count,
                    Piece::Trailers(count) => {
                        ends.extend_from_slice(&kept[..count]);
                        prop_assert_eq!(marked(&kept, &marks), fields_of(&kept[..count], 0));
                        count
                    }
                };
                kept.drain(..taken);
            }
        }
        prop_assert_eq!(heads, head.as_bytes());
        prop_assert_eq!(content, data.concat());
        prop_assert_eq!(ends, format!("{trailers}\r\n").into_bytes());
        prop_assert!(framing.finished() && kept.is_empty());
    }

    #[test]
    fn splitting_changes_no_verdict_on_requests(
        bytes in wire(),
        lengths in lengths(),
        limits in limits(),
    ) {
        let whole = requests(limits, [&bytes[..]]);
        prop_assert_eq!(&requests(limits, bytes.chunks(1)), &whole);
        prop_assert_eq!(&requests(limits, cut(&bytes, &lengths)), &whole);
        // What passed is beyond reproach by itself.
        prop_assert_eq!(
            requests(limits, [&bytes[..whole.passed]]),
            Fate { fault: None, ..whole }
        );
    }

    #[test]
    fn splitting_changes_no_verdict_on_responses(
        bytes in wire(),
        lengths in lengths(),
        limits in limits(),
        to in to(),
    ) {
        let verdict = |pieces: Vec<&[u8]>| {
            let mut framing = expecting(limits, to);
            let fate = response(&mut framing, pieces);
            (fate, framing.finished(), framing.close_delimited(), framing.tunnelled(), framing.end())
        };
        let whole = verdict(vec![&bytes[..]]);
        prop_assert_eq!(&verdict(bytes.chunks(1).collect()), &whole);
        prop_assert_eq!(&verdict(cut(&bytes, &lengths)), &whole);
        let passed = verdict(vec![&bytes[..whole.0.passed]]);
        prop_assert_eq!(passed.0, Fate { fault: None, ..whole.0 });
    }

    #[test]
    fn pipelined_requests_stop_at_each_boundary(
        messages in prop::collection::vec(request(), 1..5),
        lengths in lengths(),
    ) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for (head, body) in &messages {
            bytes.extend_from_slice(head);
            bytes.extend_from_slice(body);
            ends.push(bytes.len());
        }
        let expected = Fate { passed: bytes.len(), fault: None, ends };
        prop_assert_eq!(&requests(LIMITS, [&bytes[..]]), &expected);
        prop_assert_eq!(&requests(LIMITS, bytes.chunks(1)), &expected);
        prop_assert_eq!(&requests(LIMITS, cut(&bytes, &lengths)), &expected);
    }

    #[test]
    fn a_control_byte_anywhere_in_a_head_lets_none_of_it_pass(
        (head, body) in request(),
        at in any::<prop::sample::Index>(),
        control in prop::sample::select(&b"\0\x01\x0b\x0c\n\r\x1f\x7f"[..]),
        lengths in lengths(),
    ) {
        let mut bytes = head.clone();
        let at = at.index(head.len());
        bytes.insert(at, control);
        bytes.extend_from_slice(&body);
        // A line feed before the last one of a head ends the head there, and is no part of it.
        prop_assume!(control != b'\n' || at < head.len() - 1);
        for pieces in [vec![&bytes[..]], bytes.chunks(1).collect(), cut(&bytes, &lengths)] {
            let fate = requests(LIMITS, pieces);
            prop_assert_eq!(fate.passed, 0);
            prop_assert!(fate.fault.is_some());
        }
    }

    /// A caller that forgets what it was told to keep gets nonsense, but no panic.
    #[test]
    fn unrelated_bytes_in_each_call_never_panic(calls in prop::collection::vec(wire(), 0..8)) {
        let mut request = RequestFraming::new(TIGHT);
        let mut response = expecting(TIGHT, To::Get);
        for bytes in calls {
            let _ = request.scan(&bytes);
            let _ = response.scan(&bytes);
        }
    }
}
