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

/// The blob of a single row, as schemas 2 to 8 had it.
fn single(more: &More<'_>) -> Vec<u8> {
    more.write()
}

/// Rows as they are packed now.
fn packed(rows: &[More<'_>]) -> Vec<u8> {
    let mut packer = Packer::default();
    // What was packed before does not matter.
    full().pack(&mut packer);
    packer.clear();
    rows.iter().for_each(|row| row.pack(&mut packer));
    packer.bytes().to_vec()
}

fn unpacked(bytes: &[u8]) -> Vec<More<'_>> {
    Rows::of(bytes).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn blobs_of_the_first_version_stay_readable() {
    let blob = bytes_of(WRITTEN);
    assert_eq!(More::read(&blob).unwrap(), first());
    assert!(single(&full()).starts_with(&blob));
}

/// `full()` and again, but for its path, as the first version of blocks packed them. If it is not read as
/// that any more, stores are not either: a field may only be appended (see the file's head).
const PACKED: &str = "02ab810081040180017f81018080018180010a0a904e0bc8010cffffffffffffffffff010d00010f0001\
    1011121314077f0000010102050a00000113141414141414141414141414141414141414101515151515\
    15151515151515151515150816161616161616160008171717171717171705504f5354052f6120620c65\
    78616d706c652e6f72670f6375726c2f38204772c3bcc39f65036b31046d2d310573746f700400202202\
    7519055b7b7d5ddf800081040180017f81018080018180010a0a904e0bc8010cffffffffffffffffff01\
    0d00010f0001101112131400000010151515151515151515151515151515150816161616161616160008\
    171717171717171700032f63000000000000001900";

#[test]
fn rows_of_the_first_version_of_blocks_stay_readable() {
    let rows = [full(), More { path: "/c", ..full() }];
    let now: String = packed(&rows).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(unpacked(&bytes_of(PACKED)), rows, "{now}");
}

#[test]
fn a_text_that_is_the_same_again_takes_one_byte() {
    let one = packed(&[full()]).len();
    let texts = ["POST", "/a b", "example.org", "curl/8 Gr\u{fc}\u{df}e", "k1", "m-1", "stop"];
    let texts =
        texts.iter().map(|text| text.len()).sum::<usize>() + "\0 \"u[{}]".len() + 6 + 4 + 18;
    assert_eq!(packed(&[full(), full()]).len(), 2 * one - 1 - texts);
    let rows = [
        full(),
        More { host: "", method: "GET", ..full() },
        More { host: "", user_agent: "x", ..full() },
        full(),
        More::default(),
        full(),
    ];
    assert_eq!(unpacked(&packed(&rows)), rows);
}

#[test]
fn what_ends_early_was_written_before_the_rest_was_known() {
    let blob = single(&full());
    let whole = More::read(&blob).unwrap();
    assert_eq!(whole, full());
    let before_the_last = &blob[..blob.len() - "[{}]".len() - 1];
    assert_eq!(More::read(before_the_last).unwrap(), More { tried: "", ..full() });
    assert_eq!(More::read(&blob[..1]).unwrap(), More::default());
    // A later version appended something.
    assert_eq!(More::read(&[&blob[..], b"later"].concat()).unwrap(), full());

    let of_length = |row: &[u8]| [&padded(row.len())[..], row].concat();
    let bytes = packed(&[full(), full()]);
    let (one, two) = bytes[1..].split_at(packed(&[full()]).len() - 1);
    let (one, two) = (&one[LENGTH..], &two[LENGTH..]);
    let shorter = &one[..one.len() - "[{}]".len() - 1];
    let bytes = [&[ENCODING][..], &of_length(shorter), &of_length(&two[..two.len() - 1])].concat();
    assert_eq!(unpacked(&bytes), [More { tried: "", ..full() }, More { tried: "", ..full() }]);
    let later = [two, b"later"].concat();
    let bytes = [&[ENCODING][..], &of_length(one), &of_length(&later), &of_length(two)].concat();
    assert_eq!(unpacked(&bytes), [full(), full(), full()]);
}

#[test]
fn what_is_not_packed_is_not_read() {
    let blob = single(&full());
    assert_eq!(More::read(&[]), None);
    assert_eq!(More::read(&[&[2], &blob[1..]].concat()), None);
    // Cut within a field.
    assert_eq!(More::read(&blob[..blob.len() - 1]), None);
    // A number of more than 64 bits, a text that is none, a span that is too long.
    assert_eq!(More::read(&[&[SINGLE][..], &[0xff; 11]].concat()), None);
    assert_eq!(More::read(&[&[SINGLE][..], &[0xff; 9], &[2]].concat()), None);
    let mut broken = blob.clone();
    let text = broken.windows(4).position(|four| four == b"POST").unwrap();
    broken[text] = 0xff;
    assert_eq!(More::read(&broken), None);
    let mut broken = blob.clone();
    let span = broken.windows(9).position(|nine| nine == [8, 22, 22, 22, 22, 22, 22, 22, 22]);
    broken[span.unwrap()] = 7;
    assert_eq!(More::read(&broken), None);

    let rows = packed(&[full(), full(), full()]);
    assert_eq!(unpacked(&[]), []);
    assert_eq!(unpacked(&[&[SINGLE], &rows[1..]].concat()), []);
    assert_eq!(unpacked(&rows[..rows.len() - 1]).len(), 2, "cut within a row");
}

proptest! {
    #[test]
    fn numbers_come_back(
        number: u64,
        signed: i64,
        maybe in proptest::option::of(0..u64::MAX),
    ) {
        let more = More { revision: number, started: signed, t_stream: maybe, ..More::default() };
        let blob = single(&more);
        prop_assert_eq!(&More::read(&blob).unwrap(), &more);
        let packed = packed(&[full(), more.clone()]);
        prop_assert_eq!(unpacked(&packed), [full(), more]);
    }

    #[test]
    fn texts_and_bytes_come_back(
        text in ".{0,300}",
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        id: [u8; 16],
    ) {
        let more = More { host: &text, peer: &bytes, trace_id: id, ..full() };
        let blob = single(&more);
        prop_assert_eq!(&More::read(&blob).unwrap(), &more);
        let rows = [full(), more.clone(), more.clone(), full(), more];
        let packed = packed(&rows);
        prop_assert_eq!(&unpacked(&packed)[..], &rows[..]);
    }

    /// Also not with a panic.
    #[test]
    fn garbage_is_refused_or_written_back_as_something_that_reads_the_same(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        is_single: bool,
    ) {
        if let Some(first) = bytes.first_mut() {
            *first = if is_single { SINGLE } else { ENCODING };
        }
        if let Some(more) = More::read(&bytes) {
            let blob = single(&more);
            prop_assert_eq!(More::read(&blob).unwrap(), more);
        }
        let rows = unpacked(&bytes);
        let again = packed(&rows);
        prop_assert_eq!(unpacked(&again), rows);
    }
}
