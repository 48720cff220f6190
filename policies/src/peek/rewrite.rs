//! Another value in the place of one, and no other byte touched.

use std::ops::Range;

/// The body with the value at `span` replaced by the JSON string `new`; all other bytes stay.
///
/// * `span`: the [`Member::span`](super::Member::span) of the same body. A span outside the body replaces nothing and
///   gives the body back.
pub fn rewrite_model(body: &[u8], span: Range<usize>, new: &str) -> Vec<u8> {
    if span.start > span.end || span.end > body.len() {
        return body.to_vec();
    }
    let mut rewritten = Vec::with_capacity(body.len() - span.len() + new.len() + 2);
    rewritten.extend_from_slice(&body[..span.start]);
    write_string(&mut rewritten, new);
    rewritten.extend_from_slice(&body[span.end..]);
    rewritten
}

fn write_string(json: &mut Vec<u8>, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    json.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => json.extend_from_slice(&[b'\\', byte]),
            0x00..0x20 => {
                json.extend_from_slice(b"\\u00");
                json.push(DIGITS[usize::from(byte >> 4)]);
                json.push(DIGITS[usize::from(byte & 0x0f)]);
            }
            _ => json.push(byte),
        }
    }
    json.push(b'"');
}
