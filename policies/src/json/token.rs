//! Where a token ends.
//!
//! Each function takes the document and where in it the token begins, or goes on.

use super::Flaw;
use super::text::hex4;

/// A flaw, and the byte where it shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Broken {
    pub(super) at: usize,
    pub(super) flaw: Flaw,
}

fn broken<T>(at: usize, reason: &'static str) -> Result<T, Broken> {
    Err(Broken { at, flaw: Flaw(reason) })
}

/// The first byte that is not white space.
#[inline(always)]
pub(super) fn space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

/// The first byte that does not stand for itself in a string: a quote, a backslash, a control
/// character, or the end.
///
/// Names and most values are short, so it begins with words of eight bytes, which costs less than
/// calling memchr; what is longer is text, and there memchr is worth its call.
#[inline(always)]
pub(crate) fn plain(bytes: &[u8], start: usize) -> usize {
    const SHORT: usize = 32;
    let mut at = start;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let marks = special(u64::from_le_bytes(*word));
        if marks != 0 {
            return at + marks.trailing_zeros() as usize / 8;
        }
        at += 8;
        if at == start + SHORT {
            return plain_in_long(bytes, at);
        }
    }
    plain_in_last(bytes, at)
}

/// The same where no whole word is left.
#[inline(never)]
fn plain_in_last(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at)
        && !matches!(byte, b'"' | b'\\' | 0x00..0x20)
    {
        at += 1;
    }
    at
}

/// The same for long text.
#[inline(never)]
fn plain_in_long(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let end = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
    let before = &rest[..end];
    // Without a branch in it, the compiler makes this a few vector instructions.
    if before.iter().fold(false, |found, byte| found | (*byte < 0x20)) {
        return at + before.iter().take_while(|byte| **byte >= 0x20).count();
    }
    at + end
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

/// The closing quote of the string that is plain up to `at`, but does not end there. Escapes are
/// checked for their form only.
#[inline(never)]
pub(super) fn string(bytes: &[u8], mut at: usize) -> Result<usize, Broken> {
    loop {
        at += match bytes.get(at..).unwrap_or_default() {
            [b'"', ..] => return Ok(at),
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'\\', b'u', digits @ ..] if hex4(digits).is_some() => 6,
            [b'\\', ..] => return broken(at, "an unknown escape"),
            [_, ..] => return broken(at, "a control character inside a string"),
            [] => return broken(at, "the body ends inside a string"),
        };
        at = plain(bytes, at);
    }
}

/// The end of a number.
#[inline(always)]
pub(super) fn number(bytes: &[u8], start: usize) -> Result<usize, Broken> {
    let first = start + usize::from(bytes.get(start) == Some(&b'-'));
    // A digit after a leading zero is met, and refused, as what follows the value.
    let zero = bytes.get(first) == Some(&b'0');
    let end = if zero { first + 1 } else { digits(bytes, first)? };
    match bytes.get(end) {
        Some(b'.' | b'e' | b'E') => fraction(bytes, end),
        _ => Ok(end),
    }
}

/// The end of a number whose whole part ends at `at`.
#[inline(never)]
fn fraction(bytes: &[u8], mut at: usize) -> Result<usize, Broken> {
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        let sign = matches!(bytes.get(at + 1), Some(b'+' | b'-'));
        at = digits(bytes, at + 1 + usize::from(sign))?;
    }
    Ok(at)
}

/// The end of one digit or more.
#[inline(always)]
fn digits(bytes: &[u8], start: usize) -> Result<usize, Broken> {
    let mut at = start;
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at += 1;
    }
    if at == start { broken(at, "expected a digit") } else { Ok(at) }
}

/// The end of this word.
pub(super) fn literal(bytes: &[u8], at: usize, word: &[u8]) -> Result<usize, Broken> {
    match bytes.get(at..) {
        Some(rest) if rest.starts_with(word) => Ok(at + word.len()),
        _ => broken(at, "no JSON value begins like this"),
    }
}

/// The end of `true`, `false` or `null`.
#[inline(never)]
pub(super) fn word(bytes: &[u8], at: usize) -> Result<usize, Broken> {
    match bytes.get(at) {
        Some(b't') => literal(bytes, at, b"true"),
        Some(b'f') => literal(bytes, at, b"false"),
        Some(b'n') => literal(bytes, at, b"null"),
        Some(_) => broken(at, "no JSON value begins like this"),
        None => broken(at, "a value is missing"),
    }
}
