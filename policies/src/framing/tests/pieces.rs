//! Requests as a reader takes them: piece by piece, with the places of a head's parts.

use proptest::prelude::*;

use super::splits::{cut, lengths, limits, request, wire};
use super::{LIMITS, feed, requests};
use crate::framing::{Fault, FieldMark, Marks, Piece, RequestFraming, Wishes};

/// What a reader got of some requests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    /// Method, target and fields of each.
    heads: Vec<(String, String, Vec<Field>)>,
    content: Vec<Vec<u8>>,
    trailers: Vec<Vec<Field>>,
    fault: Option<Fault>,
}

type Field = (String, Vec<u8>);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn fields(bytes: &[u8], marks: &[FieldMark]) -> Vec<Field> {
    let field =
        |mark: &FieldMark| (text(&bytes[mark.name.clone()]), bytes[mark.value.clone()].to_vec());
    marks.iter().map(field).collect()
}

/// Reads as a server does. `eager`: asks after content whether lines follow that only frame it.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, eager: bool) -> Read {
    let mut framing = RequestFraming::new(LIMITS);
    let mut marks = Marks::default();
    let mut kept = Vec::new();
    let mut read = Read::default();
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            let taken = match framing.next(&kept, &mut marks) {
                Ok(Piece::Nothing) => break,
                Ok(Piece::Head(count)) => {
                    let (method, target) = (marks.method.clone(), marks.target.clone());
                    assert!(marks.fields.iter().all(|mark| mark.value.end <= count));
                    read.heads.push((
                        text(&kept[method]),
                        text(&kept[target]),
                        fields(&kept, &marks.fields),
                    ));
                    read.content.push(Vec::new());
                    framing.not_upgraded();
                    count
                }
                Ok(Piece::Data(count)) => {
                    read.content.last_mut().unwrap().extend_from_slice(&kept[..count]);
                    let behind = &kept[count..];
                    count + if eager { framing.pass_lines(behind, &mut marks) } else { 0 }
                }
                Ok(Piece::Frame(count)) => count,
                Ok(Piece::Trailers(count)) => {
                    let trailers = fields(&kept, &marks.fields);
                    if !trailers.is_empty() {
                        read.trailers.push(trailers);
                    }
                    count
                }
                Ok(Piece::Informational(_)) => panic!("a client has nothing to inform of"),
                Err(fault) => {
                    read.fault = Some(fault);
                    return read;
                }
            };
            kept.drain(..taken);
        }
    }
    read
}

/// The fields of a head or a trailer section, found by looking for line ends and colons.
fn naive(lines: &[u8]) -> Vec<Field> {
    let lines = text_of_lines(lines);
    let fields = lines.into_iter().filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let value = line[colon + 1..].to_vec();
        let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
        let from = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
        let to = value.iter().rposition(|byte| !blank(byte)).map_or(from, |last| last + 1);
        Some((text(&line[..colon]), value[from..to].to_vec()))
    });
    fields.collect()
}

fn text_of_lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split(|&byte| byte == b'\n').map(|line| line.trim_ascii_end().to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn a_reader_of_pieces_takes_what_a_scan_lets_pass(
        bytes in wire(),
        lengths in lengths(),
        limits in limits(),
    ) {
        let scanned = requests(limits, [&bytes[..]]);
        let next = |reader: &mut (RequestFraming, Marks), bytes: &[u8]| {
            Ok(match reader.0.next(bytes, &mut reader.1)? {
                Piece::Nothing => 0,
                Piece::Informational(count)
                | Piece::Head(count)
                | Piece::Data(count)
                | Piece::Frame(count)
                | Piece::Trailers(count) => count,
            })
        };
        let mut reader = (RequestFraming::new(limits), Marks::default());
        let taken = feed(&mut reader, cut(&bytes, &lengths), next, |reader| {
            reader.0.not_upgraded();
            false
        });
        prop_assert_eq!((taken.passed, taken.fault), (scanned.passed, scanned.fault));
    }

    /// However they were split, and whether or not lines are passed over at once.
    #[test]
    fn parts_are_where_the_bytes_have_them_however_those_were_split(
        messages in prop::collection::vec(request(), 1..4),
        lengths in lengths(),
    ) {
        let bytes = messages.iter().flat_map(|(head, body)| [&head[..], body].concat());
        let bytes: Vec<u8> = bytes.collect();
        let whole = read([&bytes[..]], true);
        for (number, (head, body)) in messages.iter().enumerate() {
            let head = head.strip_prefix(b"\r\n").unwrap_or(head);
            let end = head.iter().position(|&byte| byte == b'\n').unwrap() + 1;
            let mut words = head[..end].split(|&byte| byte == b' ');
            let expected = (
                text(words.next().unwrap()),
                text(words.next().unwrap()),
                naive(&head[end..]),
            );
            prop_assert_eq!(&whole.heads[number], &expected);
            let chunked = head.ends_with(b"chunked\r\n\r\n");
            if !chunked {
                prop_assert_eq!(&whole.content[number], body);
            }
        }
        prop_assert_eq!(whole.heads.len(), messages.len());
        prop_assert_eq!(whole.fault, None);
        for pieces in [bytes.chunks(1).collect(), cut(&bytes, &lengths)] {
            prop_assert_eq!(&read(pieces.iter().copied(), true), &whole);
            prop_assert_eq!(&read(pieces, false), &whole);
        }
    }

    #[test]
    fn content_and_trailers_come_out_of_chunks_as_they_went_in(
        data in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..6),
        trailers in "(X[a-z]{0,5}:[ -~]{0,9}\r\n){0,3}",
        lengths in lengths(),
    ) {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut bytes = head.as_bytes().to_vec();
        for chunk in &data {
            bytes.extend_from_slice(format!("{:X};x=y\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
        let expected = naive(trailers.as_bytes());
        for eager in [true, false] {
            let got = read(cut(&bytes, &lengths), eager);
            prop_assert_eq!(&got.content, &vec![data.concat()]);
            prop_assert_eq!(got.trailers.first().cloned().unwrap_or_default(), expected.clone());
        }
    }

    /// What is wrong with a message is known before its first byte is sent on, if it is there.
    #[test]
    fn a_fault_in_the_present_message_is_foreseen_and_none_behind_it(
        bytes in wire(),
        behind in wire(),
    ) {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut framing = RequestFraming::new(LIMITS);
        prop_assert_eq!(framing.scan(head), Ok(head.len()));
        let mut rest = &bytes[..];
        let mut scanned = framing.clone();
        let fault = loop {
            match scanned.scan(rest) {
                Ok(0) => break None,
                Ok(count) => rest = &rest[count..],
                Err(fault) => break Some(fault),
            }
            if !scanned.in_body() {
                break None;
            }
        };
        prop_assert_eq!(framing.foresee(&bytes), fault);
        if !scanned.in_body() && fault.is_none() {
            let message = bytes.len() - rest.len();
            let bytes = [&bytes[..message], &behind].concat();
            prop_assert_eq!(framing.foresee(&bytes), None);
        }
    }
}

fn wishes_of(version: &str, lines: &str) -> Wishes {
    let mut framing = RequestFraming::new(LIMITS);
    let head = format!("POST / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
    let piece = framing.next(head.as_bytes(), &mut Marks::default());
    assert_eq!(piece, Ok(Piece::Head(head.len())), "{head}");
    framing.wishes()
}

#[test]
fn a_head_says_what_becomes_of_its_connection() {
    let plain = Wishes { http11: true, keep: true, ..Wishes::default() };
    for lines in ["", "Connection: keep-alive\r\n", "Connection: x, close-not\r\n", "Te: gzip\r\n"]
    {
        assert_eq!(wishes_of("1.1", lines), plain, "{lines}");
    }
    for lines in ["Connection: close\r\n", "CONNECTION: x\r\nconnection: a ,\tCLOSE\r\n"] {
        assert_eq!(wishes_of("1.1", lines), Wishes { keep: false, ..plain }, "{lines}");
    }
    assert_eq!(wishes_of("1.0", ""), Wishes::default());
    let kept = wishes_of("1.0", "connection: Keep-Alive\r\n");
    assert_eq!(kept, Wishes { keep: true, ..Wishes::default() });
    let waits = wishes_of("1.1", "expect: 100-Continue \r\n");
    assert_eq!(waits, Wishes { waits: true, ..plain });
    assert_eq!(wishes_of("1.1", "expect: 100-continue, x\r\n"), plain);
    // HTTP/1.0 knows no interim answers.
    assert!(!wishes_of("1.0", "expect: 100-continue\r\n").waits);
    assert_eq!(wishes_of("1.1", "te: x , trailers\r\n"), Wishes { trailers: true, ..plain });
}

#[test]
fn wishes_are_those_of_the_last_head_and_no_trailers() {
    let mut framing = RequestFraming::new(LIMITS);
    let first =
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let trailers = b"0\r\nExpect: 100-continue\r\nTe: trailers\r\nConnection: keep-alive\r\n\r\n";
    let second = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(framing.scan(first), Ok(first.len()));
    assert_eq!(framing.scan(trailers), Ok(trailers.len()));
    let wishes = framing.wishes();
    assert!(!wishes.keep && !wishes.waits && !wishes.trailers);
    assert_eq!(framing.scan(second), Ok(second.len()));
    assert!(framing.wishes().keep);
}
