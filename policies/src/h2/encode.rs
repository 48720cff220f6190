//! Blocks of fields (HPACK, RFC 7541, 6), put together without a table of our own.
//!
//! A name, and a status, that the static table has is a reference to it; everything else stands there as
//! it is. So an answer needs no state of the connection, is as long as over HTTP/1.1, and costs little
//! more than its bytes. NGINX does the same.

use http::{HeaderName, StatusCode};

/// What a block begins with, once, when a peer allows a smaller table than there was at first: ours has
/// no bytes from now on (4.2, 6.3).
pub const NO_TABLE: u8 = 0x20;

/// Bytes that a table may have where no setting says otherwise.
pub const FIRST_TABLE: u32 = 4096;

/// Appends `:status`.
pub fn put_status(out: &mut Vec<u8>, status: StatusCode) {
    let known = match status.as_u16() {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            out.extend_from_slice(&[8, 3]);
            return out.extend_from_slice(status.as_str().as_bytes());
        }
    };
    out.push(0x80 | known);
}

/// Appends a field, which no table is to keep.
pub fn put_field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    let name = name.as_str();
    match index(name) {
        0 => {
            out.push(0);
            put_number(out, name.len(), 7);
            out.extend_from_slice(name.as_bytes());
        }
        index => put_number(out, index, 4),
    }
    put_number(out, value.len(), 7);
    out.extend_from_slice(value);
}

/// Appends `number`, its first `prefix` bits behind zeros (5.1).
fn put_number(out: &mut Vec<u8>, number: usize, prefix: u8) {
    let most = (1_usize << prefix) - 1;
    let low = |number: usize| number.to_le_bytes()[0];
    if number < most {
        return out.push(low(number));
    }
    out.push(low(most));
    let mut rest = number - most;
    while rest >= 0x80 {
        out.push(0x80 | low(rest));
        rest >>= 7;
    }
    out.push(low(rest));
}

/// The place in the static table of a name that answers have; 0 if it has none.
fn index(name: &str) -> usize {
    match name {
        "accept-ranges" => 18,
        "access-control-allow-origin" => 20,
        "age" => 21,
        "allow" => 22,
        "cache-control" => 24,
        "content-disposition" => 25,
        "content-encoding" => 26,
        "content-language" => 27,
        "content-length" => 28,
        "content-location" => 29,
        "content-range" => 30,
        "content-type" => 31,
        "date" => 33,
        "etag" => 34,
        "expires" => 36,
        "last-modified" => 44,
        "link" => 45,
        "location" => 46,
        "proxy-authenticate" => 48,
        "refresh" => 52,
        "retry-after" => 53,
        "server" => 54,
        "set-cookie" => 55,
        "strict-transport-security" => 56,
        "vary" => 59,
        "via" => 60,
        "www-authenticate" => 61,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::h2::{Decoder, Field, Pseudo, Sink};

    #[derive(Default)]
    struct All(Vec<Field>);

    impl Sink for All {
        fn wants(&mut self, _: usize) -> bool {
            true
        }

        fn take(&mut self, field: Field) {
            self.0.push(field);
        }
    }

    fn read(block: Vec<u8>) -> Vec<Field> {
        let mut all = All::default();
        Decoder::new().decode(&Bytes::from(block), &mut all).unwrap();
        all.0
    }

    #[test]
    fn a_status_is_three_digits_or_one_byte() {
        for code in 100..=599 {
            let mut out = Vec::new();
            put_status(&mut out, StatusCode::from_u16(code).unwrap());
            let text = Bytes::from(code.to_string());
            assert_eq!(read(out), [Field::Pseudo(Pseudo::Status, text)]);
        }
    }

    proptest! {
        /// Whatever stands in an answer, a decoder reads it, and in its order.
        #[test]
        fn fields_are_read_as_they_were_written(
            fields in prop::collection::vec(
                (
                    prop_oneof![
                        "[a-z0-9-]{1,12}", "x-[a-z]{120,140}",
                        prop::sample::select(vec![
                            "content-type", "date", "server", "set-cookie", "location", "vary", "via",
                            "content-length", "retry-after", "www-authenticate", "etag", "age", "allow",
                        ]).prop_map(str::to_owned),
                    ],
                    "([!-~]([ -~]{0,300}[!-~])?)?",
                ),
                0..20,
            ),
        ) {
            let mut out = Vec::new();
            let mut expected = Vec::new();
            for (name, value) in &fields {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                put_field(&mut out, &name, value.as_bytes());
                expected.push(Field::Regular(name, HeaderValue::from_str(value).unwrap()));
            }
            prop_assert_eq!(read(out), expected);
        }
    }
}
