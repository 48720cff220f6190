use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::h2::Pseudo;

/// Takes everything up to so many bytes.
struct All {
    most: usize,
    size: usize,
    fields: Vec<Field>,
}

impl Sink for All {
    fn wants(&mut self, size: usize) -> bool {
        self.size += size;
        self.size <= self.most
    }

    fn take(&mut self, field: Field) {
        self.fields.push(field);
    }
}

fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Field>, CompressionFault> {
    let mut all = All { most: usize::MAX, size: 0, fields: Vec::new() };
    decoder.decode(&Bytes::copy_from_slice(block), &mut all)?;
    Ok(all.fields)
}

fn regular(name: &str, value: &[u8]) -> Field {
    let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
    Field::Regular(name, HeaderValue::from_bytes(value).unwrap())
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Blocks that Python's `hpack` 4 wrote: tables that fill, overflow and change their size, coded strings
/// and plain ones.
#[test]
fn blocks_of_another_implementation_are_read() {
    let sequences: Vec<Vec<serde_json::Value>> =
        serde_json::from_str(include_str!("vectors.json")).unwrap();
    assert_eq!(sequences.len(), 12);
    for sequence in sequences {
        let mut decoder = Decoder::new();
        for part in sequence {
            let block = bytes_of(part["block"].as_str().unwrap());
            let expected: Vec<Field> = part["fields"]
                .as_array()
                .unwrap()
                .iter()
                .map(|pair| {
                    let value: Vec<u8> = pair[1]
                        .as_str()
                        .unwrap()
                        .chars()
                        .map(|c| u8::try_from(c as u32).unwrap())
                        .collect();
                    match pair[0].as_str().unwrap() {
                        ":method" => Field::Pseudo(Pseudo::Method, value.into()),
                        ":scheme" => Field::Pseudo(Pseudo::Scheme, value.into()),
                        ":authority" => Field::Pseudo(Pseudo::Authority, value.into()),
                        ":path" => Field::Pseudo(Pseudo::Path, value.into()),
                        name => regular(name, &value),
                    }
                })
                .collect();
            assert_eq!(read(&mut decoder, &block).unwrap(), expected);
        }
    }
}

/// RFC 7541, C.4: three requests of one connection.
#[test]
fn the_examples_of_the_rfc() {
    let mut decoder = Decoder::new();
    let request = |decoder: &mut Decoder, hex, more: &[Field]| {
        let fields = read(decoder, &bytes_of(hex)).unwrap();
        assert_eq!(
            fields[..2],
            [
                Field::Pseudo(Pseudo::Method, Bytes::from_static(b"GET")),
                Field::Pseudo(Pseudo::Scheme, fields_scheme(&fields)),
            ]
        );
        assert_eq!(
            fields[3],
            Field::Pseudo(Pseudo::Authority, Bytes::from_static(b"www.example.com"))
        );
        assert_eq!(&fields[4..], more);
    };
    request(&mut decoder, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", &[]);
    request(
        &mut decoder,
        "8286 84be 5886 a8eb 1064 9cbf",
        &[regular("cache-control", b"no-cache")],
    );
    request(
        &mut decoder,
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        &[regular("custom-key", b"custom-value")],
    );
}

fn fields_scheme(fields: &[Field]) -> Bytes {
    match &fields[1] {
        Field::Pseudo(Pseudo::Scheme, scheme) => scheme.clone(),
        other @ (Field::Pseudo(..) | Field::Regular(..) | Field::Malformed) => panic!("{other:?}"),
    }
}

#[test]
fn blocks_that_are_none_end_the_connection() {
    for (what, block) in [
        ("index 0", &[0x80][..]),
        ("an entry that is not there", &[0xbe]),
        ("a name that is not there", &[0x7e, 1, b'a']),
        ("a number without an end", &[0xff]),
        ("a number that is too large", &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("a string that is cut", &[0x40, 5, b'a']),
        ("a value that is missing", &[0x40, 1, b'a']),
        ("a string that is none", &[0x40, 0x81, 0x00, 1, b'a']),
        ("a table that is too large", &[0x3f, 0xe2, 0x1f]),
        ("a table that changes its size too late", &[0x82, 0x20]),
    ] {
        assert_eq!(read(&mut Decoder::new(), block), Err(CompressionFault), "{what}");
    }
    assert_eq!(read(&mut Decoder::new(), &[0x3f, 0xe1, 0x1f, 0x20]).unwrap(), [], "4096, then 0");
}

#[test]
fn a_table_of_no_bytes_keeps_nothing_and_a_large_entry_empties_it() {
    let mut decoder = Decoder::new();
    let kept = [0x40, 1, b'a', 1, b'b'];
    read(&mut decoder, &kept).unwrap();
    assert_eq!(read(&mut decoder, &[0xbe]).unwrap(), [regular("a", b"b")]);
    let mut large = vec![0x40, 1, b'l', 0x7f, 0x81, 0x1f];
    large.extend_from_slice(&[b'v'; 4096]);
    assert_eq!(read(&mut decoder, &large).unwrap(), [regular("l", &[b'v'; 4096])]);
    assert_eq!(read(&mut decoder, &[0xbe]), Err(CompressionFault), "it is empty");
    read(&mut decoder, &[&[0x20][..], &kept].concat()).unwrap();
    assert_eq!(read(&mut decoder, &[0xbe]), Err(CompressionFault), "it keeps nothing");
}

#[test]
fn what_http_has_no_names_or_values_for_is_told_apart() {
    for (what, block) in [
        ("a capital", &[0x00, 1, b'A', 1, b'b'][..]),
        ("a space in a name", &[0x00, 3, b'a', b' ', b'b', 0]),
        ("a quote in a name", &[0x00, 2, b'a', b'"', 1, b'b']),
        ("no name", &[0x00, 0, 1, b'b']),
        ("a line end in a value", &[0x00, 1, b'a', 3, b'b', b'\n', b'c']),
        ("a zero in a value", &[0x00, 1, b'a', 1, 0]),
        ("white space before a value", &[0x00, 1, b'a', 2, b' ', b'b']),
        ("white space behind a value", &[0x00, 1, b'a', 2, b'b', b'\t']),
    ] {
        assert_eq!(read(&mut Decoder::new(), block).unwrap(), [Field::Malformed], "{what}");
    }
    assert_eq!(
        read(&mut Decoder::new(), &[0x00, 2, b':', b'x', 1, b'b']).unwrap(),
        [Field::Pseudo(Pseudo::Other, Bytes::from_static(b"b"))]
    );
}

/// What is too much is not kept, and the table stays in step all the same.
#[test]
fn fields_that_nobody_wants_still_count_in_the_table() {
    let mut decoder = Decoder::new();
    let mut few = All { most: 40, size: 0, fields: Vec::new() };
    let block = [0x40, 1, b'a', 1, b'b', 0x40, 1, b'c', 1, b'd'];
    decoder.decode(&Bytes::copy_from_slice(&block), &mut few).unwrap();
    assert_eq!((few.fields, few.size), (vec![regular("a", b"b")], 68));
    assert_eq!(read(&mut decoder, &[0xbe]).unwrap(), [regular("c", b"d")]);
}

proptest! {
    /// Whatever comes is read or refused, and costs no more memory than it may.
    #[test]
    fn nothing_that_comes_is_too_strange(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..10),
    ) {
        let mut decoder = Decoder::new();
        for block in blocks {
            if read(&mut decoder, &block).is_err() {
                break;
            }
        }
    }
}
