//! Spans as bytes: protobuf, in the messages of OTLP (`Span`, `KeyValue`, `AnyValue`).
//!
//! Written field after field behind each other into the buffer that is sent, in the order and in the
//! shortest form that any other writer would choose. Nothing is built first: the length of an
//! attribute is worked out, that of a span is filled in behind it.

use std::net::IpAddr;

use crate::telemetry::access_line;

/// Wire types, the low bits of a tag.
const NUMBER: u8 = 0;
const EIGHT_BYTES: u8 = 1;
const BYTES: u8 = 2;
const FOUR_BYTES: u8 = 5;

/// Room that is made at once for a span: more than most have.
const USUAL: usize = 1_024;

/// The tag of a field below 16.
pub(super) const fn tag(field: u8, wire_type: u8) -> u8 {
    field << 3 | wire_type
}

/// The tag of a field below 16 that has a length.
pub(super) const fn part(field: u8) -> u8 {
    tag(field, BYTES)
}

/// The low seven bits: what one byte of a varint tells.
const fn low(number: usize) -> u8 {
    number.to_le_bytes()[0] & 0x7f
}

/// Bytes of `number` as a varint.
pub(super) fn width(number: u64) -> usize {
    // Seven bits a byte: a division by seven, without one.
    (((64 - (number | 1).leading_zeros()) * 9 + 64) / 64) as usize
}

/// Appends `number` as a varint.
#[inline]
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

/// Appends a field below 16 with its length.
pub(super) fn put(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(part(field));
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The key of an attribute, as it stands in its `KeyValue`: its field, and the tag of the value's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key(pub(super) &'static [u8]);

impl Key {
    /// For [`key!`]: `LENGTH` is three more than the name's.
    pub(super) const fn bytes<const LENGTH: usize>(name: &str) -> [u8; LENGTH] {
        let name = name.as_bytes();
        assert!(name.len() < 0x80 && LENGTH == name.len() + 3, "one byte tells the length");
        let mut out = [0; LENGTH];
        out[0] = part(1);
        out[1] = low(name.len());
        let mut at = 0;
        while at < name.len() {
            out[at + 2] = name[at];
            at += 1;
        }
        out[LENGTH - 1] = part(2);
        out
    }
}

/// A [`Key`] that is worked out when this is compiled.
macro_rules! key {
    ($name:literal) => {{
        const BYTES: [u8; $name.len() + 3] = $crate::telemetry::traces::wire::Key::bytes($name);
        $crate::telemetry::traces::wire::Key(&BYTES)
    }};
}
pub(super) use key;

/// Who calls whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The request of a client.
    Server = 2,
    /// A call to a backend.
    Client = 3,
}

/// What a span begins with.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) trace_id: &'a [u8; 16],
    pub(super) id: &'a [u8; 8],
    /// Zero if it has none.
    pub(super) parent: &'a [u8; 8],
    pub(super) kind: Kind,
    /// Its name; a second word follows the first behind a space.
    pub(super) name: (&'a str, Option<&'a str>),
    /// Nanoseconds since 1970.
    pub(super) began: u64,
    pub(super) ended: u64,
}

/// A span of another trace that this one has to do with.
#[derive(Debug)]
pub(super) struct Link<'a> {
    pub(super) trace_id: &'a [u8; 16],
    pub(super) id: &'a [u8; 8],
    pub(super) sampled: bool,
}

/// How a span ends.
#[derive(Debug)]
pub(super) struct Tail<'a> {
    /// A span of somebody else.
    pub(super) link: Option<Link<'a>>,
    pub(super) in_error: bool,
    /// Whether the parent is in another process.
    pub(super) remote_parent: bool,
}

/// Bits of `flags`: sampled; the next bit is known; the parent, or what is linked, is remote.
const SAMPLED: u32 = 1;
const REMOTE_KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// One span under way: a member `spans` of `ScopeSpans`.
#[derive(Debug)]
pub(super) struct SpanWriter<'a> {
    out: &'a mut Vec<u8>,
    // Where the span begins, behind two bytes for its length.
    began: usize,
}

impl<'a> SpanWriter<'a> {
    /// Begins a span.
    pub(super) fn begin(out: &'a mut Vec<u8>, head: &Head<'_>) -> Self {
        out.reserve(USUAL);
        out.extend_from_slice(&[part(2), 0, 0]);
        let began = out.len();
        put(out, 1, head.trace_id);
        put(out, 2, head.id);
        if *head.parent != [0; 8] {
            put(out, 4, head.parent);
        }
        let (first, second) = head.name;
        out.push(part(5));
        put_number(out, (first.len() + second.map_or(0, |word| 1 + word.len())) as u64);
        out.extend_from_slice(first.as_bytes());
        if let Some(second) = second {
            out.push(b' ');
            out.extend_from_slice(second.as_bytes());
        }
        out.extend_from_slice(&[tag(6, NUMBER), head.kind as u8, tag(7, EIGHT_BYTES)]);
        out.extend_from_slice(&head.began.to_le_bytes());
        out.push(tag(8, EIGHT_BYTES));
        out.extend_from_slice(&head.ended.to_le_bytes());
        Self { out, began }
    }

    /// Ends the span.
    pub(super) fn end(self, tail: &Tail<'_>) {
        let Self { out, began } = self;
        if let Some(link) = &tail.link {
            let flags = REMOTE_KNOWN | REMOTE | if link.sampled { SAMPLED } else { 0 };
            // Two ids with tag and length, and the flags.
            out.extend_from_slice(&[part(13), 18 + 10 + 5]);
            put(out, 1, link.trace_id);
            put(out, 2, link.id);
            out.push(tag(6, FOUR_BYTES));
            out.extend_from_slice(&flags.to_le_bytes());
        }
        // A status without description; without a code it says that nothing is known.
        let status: &[u8] = if tail.in_error { &[tag(3, NUMBER), 2] } else { &[] };
        put(out, 15, status);
        let flags = SAMPLED | REMOTE_KNOWN | if tail.remote_parent { REMOTE } else { 0 };
        // Field 16: its tag takes two bytes.
        out.extend_from_slice(&[0x85, 0x01]);
        out.extend_from_slice(&flags.to_le_bytes());
        fill_in(out, began);
    }

    /// An attribute whose value, an `AnyValue`, takes `length` bytes. They are to follow.
    #[inline]
    fn attribute(&mut self, key: Key, length: usize) {
        let out = &mut *self.out;
        let all = key.0.len() + width(length as u64) + length;
        if all < 0x80 {
            // Nearly always: one byte tells each length.
            out.extend_from_slice(&[part(9), low(all)]);
            out.extend_from_slice(key.0);
            out.push(low(length));
            return;
        }
        out.push(part(9));
        put_number(out, all as u64);
        out.extend_from_slice(key.0);
        put_number(out, length as u64);
    }

    /// An attribute that is a text.
    #[inline]
    pub(super) fn text(&mut self, key: Key, text: &str) {
        let length = text.len();
        let all = key.0.len() + 3 + length;
        if all < 0x80 {
            // As `attribute` and `put` would, in two steps fewer.
            let out = &mut *self.out;
            out.extend_from_slice(&[part(9), low(all)]);
            out.extend_from_slice(key.0);
            out.extend_from_slice(&[low(length + 2), part(1), low(length)]);
            out.extend_from_slice(text.as_bytes());
            return;
        }
        self.attribute(key, 1 + width(length as u64) + length);
        put(self.out, 1, text.as_bytes());
    }

    /// An attribute that is a list of one text.
    pub(super) fn texts(&mut self, key: Key, text: &str) {
        let one = 1 + width(text.len() as u64) + text.len();
        let list = 1 + width(one as u64) + one;
        self.attribute(key, 1 + width(list as u64) + list);
        self.out.push(part(5));
        put_number(self.out, list as u64);
        self.out.push(part(1));
        put_number(self.out, one as u64);
        put(self.out, 1, text.as_bytes());
    }

    /// An attribute that is a whole number; those that no `int64` holds are the largest.
    #[inline]
    pub(super) fn number(&mut self, key: Key, number: u64) {
        let number = number.min(i64::MAX as u64);
        self.attribute(key, 1 + width(number));
        self.out.push(tag(3, NUMBER));
        put_number(self.out, number);
    }

    /// An attribute that is a number.
    pub(super) fn fraction(&mut self, key: Key, number: f64) {
        self.attribute(key, 9);
        self.out.push(tag(4, EIGHT_BYTES));
        self.out.extend_from_slice(&number.to_le_bytes());
    }

    /// An attribute that is true or not.
    pub(super) fn flag(&mut self, key: Key, yes: bool) {
        self.attribute(key, 2);
        self.out.extend_from_slice(&[tag(2, NUMBER), u8::from(yes)]);
    }

    /// A whole number as text.
    pub(super) fn number_text(&mut self, key: Key, number: u64) {
        self.text(key, itoa::Buffer::new().format(number));
    }

    /// An address as text; an IPv4 address in IPv6 as the former.
    pub(super) fn address(&mut self, key: Key, address: IpAddr) {
        let out = &mut *self.out;
        // One byte tells each length: keys are short, and an address has 45 characters at most.
        out.extend_from_slice(&[part(9), 0]);
        let all = out.len();
        out.extend_from_slice(key.0);
        out.push(0);
        let value = out.len();
        out.extend_from_slice(&[part(1), 0]);
        let text = out.len();
        access_line::ip(out, address);
        let end = out.len();
        for began in [all, value, text] {
            debug_assert!(end - began < 0x80, "one byte tells the length");
            out[began - 1] = low(end - began);
        }
    }

    /// Lower-case hexadecimal digits of `number`, all sixteen.
    pub(super) fn hex(&mut self, key: Key, number: u64) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 16];
        for (pair, byte) in text.chunks_exact_mut(2).zip(number.to_be_bytes()) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        self.attribute(key, 2 + text.len());
        put(self.out, 1, &text);
    }
}

/// Fills in the length of what begins at `began`, behind two bytes for it, and ends where `out` does.
fn fill_in(out: &mut Vec<u8>, began: usize) {
    let length = out.len() - began;
    if let 0x80..0x4000 = length {
        out[began - 2] = low(length) | 0x80;
        out[began - 1] = low(length >> 7);
        return;
    }
    // Hardly ever: names that a configuration makes very long.
    let mut exact = Vec::with_capacity(10);
    put_number(&mut exact, length as u64);
    drop(out.splice(began - 2..began, exact));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_the_room_that_was_said() {
        for bits in 0..64 {
            for number in [(1_u64 << bits) - 1, 1 << bits, u64::MAX] {
                let mut out = Vec::new();
                put_number(&mut out, number);
                assert_eq!(out.len(), width(number), "{number}");
                assert_eq!(prost::encoding::decode_varint(&mut &*out), Ok(number));
            }
        }
    }

    #[test]
    fn a_length_is_as_short_as_it_can_be() {
        for length in [0, 5, 127, 128, 16_383, 16_384, 3_000_000] {
            let mut out = vec![9, 0, 0];
            out.resize(3 + length, 7);
            fill_in(&mut out, 3);
            let mut rest = &out[1..];
            assert_eq!(prost::encoding::decode_varint(&mut rest), Ok(length as u64));
            assert_eq!(out.len(), 1 + width(length as u64) + length);
            assert!(rest.iter().all(|byte| *byte == 7));
        }
    }
}
