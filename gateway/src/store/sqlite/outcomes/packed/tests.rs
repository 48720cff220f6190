//! What is written is what is read, whatever it is; what was written earlier stays readable.

use proptest::prelude::*;

use super::*;

/// Every field with a value of its own, in the encoding of today.
fn full<'a>() -> More<'a> {
    More {
        bits: bit::SAMPLED | bit::PATH_IS_PATTERN,
        started: -1,
        reason: Some(127),
        rejected: Some(126),
        flag: Some(128),
        tls_version: Some(16_383),
        tls_cipher: Some(16_384),
        request_model: Some(9),
        revision: 10,
        bucket: Some(9_999),
        attempts: 11,
        upstream_status: 200,
        request_bytes: 12,
        response_bytes: u64::MAX,
        chunks: 13,
        input_tokens: None,
        output_tokens: Some(0),
        t_header: Some(14),
        t_auth: None,
        t_connect: Some(0),
        t_send: Some(15),
        t_first_byte: Some(16),
        t_first_token: Some(17),
        t_stream: Some(18),
        t_gateway: Some(19),
        peer: &[127, 0, 0, 1, 1, 2],
        client: &[10, 0, 0, 1],
        endpoint: &[20; 18],
        trace_id: [21; 16],
        span_id: [22; 8],
        parent_span_id: [0; 8],
        attempt_span_id: [23; 8],
        method: "POST",
        path: "/a b",
        host: "example.org",
        user_agent: "curl/8 Grüße",
        key_id: "k1",
        response_model: "m-1",
        finish_reason: "stop",
        client_request_id: "\0 \"",
        upstream_request_id: "u",
        t_attempt: Some(24),
        tried: "[{}]",
    }
}

/// What the first version knew of it.
fn first<'a>() -> More<'a> {
    More { t_attempt: None, tried: "", ..full() }
}

/// `first()` as the first version with this encoding wrote it. If it is not read as that any more,
/// stores are not either: a field may only be appended (see the file's head).
const WRITTEN: &str = "0181040180017f81018080018180010a0a904e0bc8010cffffffffffffffffff010d00010f0001101112\
    1314067f0000010102040a00000112141414141414141414141414141414141414101515151515151515\
    15151515151515150816161616161616160008171717171717171704504f5354042f6120620b6578616d\
    706c652e6f72670e6375726c2f38204772c3bcc39f65026b31036d2d310473746f70030020220175";

fn written(more: &More<'_>) -> Vec<u8> {
    let mut blob = Blob::default();
    // What was written before does not matter.
    full().write(&mut blob);
    more.write(&mut blob);
    blob.bytes().to_vec()
}

#[test]
fn blobs_of_the_first_version_stay_readable() {
    let blob: Vec<u8> = (0..WRITTEN.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&WRITTEN[at..at + 2], 16).unwrap())
        .collect();
    assert_eq!(More::read(&blob).unwrap(), first());
    assert!(written(&full()).starts_with(&blob));
}

#[test]
fn a_blob_that_ends_early_was_written_before_the_rest_was_known() {
    let blob = written(&full());
    let whole = More::read(&blob).unwrap();
    assert_eq!(whole, full());
    let before_the_last = &blob[..blob.len() - "[{}]".len() - 1];
    assert_eq!(More::read(before_the_last).unwrap(), More { tried: "", ..full() });
    assert_eq!(More::read(&blob[..1]).unwrap(), More::default());
    // A later version appended something.
    assert_eq!(More::read(&[&blob[..], b"later"].concat()).unwrap(), full());
}

#[test]
fn what_is_not_a_blob_is_not_read() {
    let blob = written(&full());
    assert_eq!(More::read(&[]), None);
    assert_eq!(More::read(&[&[2], &blob[1..]].concat()), None);
    // Cut within a field.
    assert_eq!(More::read(&blob[..blob.len() - 1]), None);
    // A number of more than 64 bits, a text that is none, a span that is too long.
    assert_eq!(More::read(&[&[ENCODING][..], &[0xff; 11]].concat()), None);
    assert_eq!(More::read(&[&[ENCODING][..], &[0xff; 9], &[2]].concat()), None);
    let mut broken = blob.clone();
    let text = broken.windows(4).position(|four| four == b"POST").unwrap();
    broken[text] = 0xff;
    assert_eq!(More::read(&broken), None);
    let mut broken = blob.clone();
    let span = broken.windows(9).position(|nine| nine == [8, 22, 22, 22, 22, 22, 22, 22, 22]);
    broken[span.unwrap()] = 7;
    assert_eq!(More::read(&broken), None);
}

proptest! {
    #[test]
    fn numbers_come_back(
        number: u64,
        signed: i64,
        maybe in proptest::option::of(0..u64::MAX),
    ) {
        let more = More { revision: number, started: signed, t_stream: maybe, ..More::default() };
        let blob = written(&more);
        prop_assert_eq!(More::read(&blob).unwrap(), more);
    }

    #[test]
    fn texts_and_bytes_come_back(
        text in ".{0,300}",
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        id: [u8; 16],
    ) {
        let more = More { host: &text, peer: &bytes, trace_id: id, ..full() };
        let blob = written(&more);
        prop_assert_eq!(More::read(&blob).unwrap(), more);
    }

    /// Also not with a panic.
    #[test]
    fn garbage_is_refused_or_written_back_as_something_that_reads_the_same(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Some(first) = bytes.first_mut() {
            *first = ENCODING;
        }
        if let Some(more) = More::read(&bytes) {
            let blob = written(&more);
        prop_assert_eq!(More::read(&blob).unwrap(), more);
        }
    }
}
