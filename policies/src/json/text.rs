//! What stands between the quotes of a string: where it ends, and what it says.

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

/// How many bytes come before the first one that does not stand for itself in a string: a quote, a
/// backslash, a control character.
///
/// Names and most values are short, so it begins with words of eight bytes, which costs less than
/// calling memchr; what is longer is text, and there memchr is worth its call.
#[inline(always)]
pub(crate) fn plain(bytes: &[u8]) -> usize {
    const SHORT: usize = 32;
    let mut at = 0;
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk() {
        let marks = special(u64::from_le_bytes(*word));
        if marks != 0 {
            return at + marks.trailing_zeros() as usize / 8;
        }
        at += 8;
        rest = after;
        if at == SHORT {
            return SHORT + plain_in_long(rest);
        }
    }
    at + plain_in_last(rest)
}

/// The same where no whole word is left.
#[inline(never)]
fn plain_in_last(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0x00..0x20)).count()
}

/// The same for long text.
#[inline(never)]
fn plain_in_long(bytes: &[u8]) -> usize {
    let end = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
    let before = &bytes[..end];
    // Without a branch in it, the compiler makes this a few vector instructions.
    if before.iter().fold(false, |found, byte| found | (*byte < 0x20)) {
        return before.iter().take_while(|byte| **byte >= 0x20).count();
    }
    end
}

/// Marks the highest bit of each byte of the word that is not plain. Those above the first such
/// byte may be marked wrongly; none is when all bytes are plain.
#[inline(always)]
fn special(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    // To subtract from a byte borrows from its highest bit only if the byte is below what is
    // subtracted, or one before it borrowed. Bytes that had the bit to begin with are not ASCII.
    let quote = (word ^ (ONES * 0x22)).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES);
    let control = word.wrapping_sub(ONES * 0x20);
    (quote | backslash | control) & !word & (ONES * 0x80)
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
