//! What a string says.

use std::borrow::Cow;

/// A string that was scanned but not unescaped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    /// What stands between the quotes.
    pub(crate) written: &'a [u8],
    /// There are escapes in it, all of them of a known form.
    pub(crate) escaped: bool,
}

/// A string that is JSON, but no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// Where that shows, counted from the opening quote, which is not counted.
    pub(crate) offset: usize,
    pub(crate) reason: &'static str,
}

impl<'a> Text<'a> {
    /// Without its escapes; borrowed unless there are any. Not necessarily UTF-8.
    #[inline]
    pub(crate) fn bytes(self) -> Result<Cow<'a, [u8]>, Unreadable> {
        if self.escaped { unescape(self.written).map(Cow::Owned) } else { Ok(self.written.into()) }
    }

    /// Without its escapes; borrowed unless there are any.
    #[inline]
    pub(crate) fn str(self) -> Result<Cow<'a, str>, Unreadable> {
        let not_utf8 = |offset| Unreadable { offset, reason: "not UTF-8" };
        match self.bytes()? {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes)
                .map(Cow::Borrowed)
                .map_err(|error| not_utf8(error.valid_up_to())),
            Cow::Owned(bytes) => String::from_utf8(bytes)
                .map(Cow::Owned)
                .map_err(|error| not_utf8(error.utf8_error().valid_up_to())),
        }
    }

    /// Whether it says this.
    #[inline]
    pub(crate) fn is(self, text: &str) -> bool {
        if self.escaped {
            self.bytes().is_ok_and(|bytes| *bytes == *text.as_bytes())
        } else {
            self.written == text.as_bytes()
        }
    }
}

/// The text of a string in which something is escaped.
fn unescape(written: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut text = Vec::with_capacity(written.len());
    let mut at = 0;
    while let Some(rest) = written.get(at..) {
        let plain = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        text.extend_from_slice(&rest[..plain]);
        at += plain;
        // Whoever scanned it saw to it that each backslash begins a whole escape.
        let Some(kind) = rest.get(plain + 1) else {
            break;
        };
        if *kind == b'u' {
            let (char, len) = unescape_unicode(&written[at..])
                .ok_or(Unreadable { offset: at, reason: "half of a surrogate pair" })?;
            text.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            at += len;
            continue;
        }
        text.push(match kind {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            other => *other,
        });
        at += 2;
    }
    Ok(text)
}

/// The character of the `\u` escape, or pair of them, that comes first, and how long it is written.
fn unescape_unicode(written: &[u8]) -> Option<(char, usize)> {
    let first = hex4(written.get(2..)?)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, 6));
    }
    let second = hex4(written.get(6..)?.strip_prefix(b"\\u")?)?;
    if !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    Some((char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))?, 12))
}

/// The number that the first four bytes make as hexadecimal digits.
pub(super) fn hex4(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<4>()?.iter().try_fold(0, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(value << 4 | digit)
    })
}
