//! Identifiers made here: request ids (UUIDv7) and span ids.

use std::fmt;

/// The two lower-case digits of each byte.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

/// Identifier of one request: a UUIDv7, so that rows of a store lie in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub [u8; 16]);

impl RequestId {
    /// A new one: 48 bits of milliseconds, 12 bits of the fraction of that millisecond (RFC 9562,
    /// method 3 of section 6.2), 62 random bits.
    pub fn new(unix_nanos: u64, random: u64) -> Self {
        let millis = unix_nanos / 1_000_000;
        // 4096 steps of about 244 ns in a millisecond; always below 4096.
        let fraction = (unix_nanos % 1_000_000) * 4096 / 1_000_000;
        let high = (millis << 16) | 0x7000 | fraction;
        let low = 0x8000_0000_0000_0000 | (random >> 2);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        Self(bytes)
    }

    /// Nanoseconds since 1970 when it was made, up to 244 too few.
    pub fn unix_nanos(&self) -> u64 {
        let mut high = [0; 8];
        high.copy_from_slice(&self.0[..8]);
        let high = u64::from_be_bytes(high);
        let fraction = (high & 0xfff) * 1_000_000 / 4096;
        (high >> 16).saturating_mul(1_000_000).saturating_add(fraction)
    }

    /// The usual text, on the stack.
    pub fn text(&self) -> IdText {
        // Where the digits of each byte stand; between them are dashes.
        const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
        let mut out = [b'-'; 36];
        for (byte, place) in self.0.iter().zip(PLACES) {
            out[place..place + 2].copy_from_slice(&HEX[usize::from(*byte)]);
        }
        IdText(out)
    }

    /// Reads the usual text.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return None;
        }
        let mut out = [0; 16];
        let mut nibbles = 0;
        for (i, &byte) in bytes.iter().enumerate() {
            if matches!(i, 8 | 13 | 18 | 23) {
                if byte != b'-' {
                    return None;
                }
                continue;
            }
            let digit = u8::try_from(char::from(byte).to_digit(16)?).ok()?;
            out[nibbles / 2] = out[nibbles / 2] << 4 | digit;
            nibbles += 1;
        }
        Some(Self(out))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// Text of a [`RequestId`], on the stack.
#[derive(Clone, Copy, Debug)]
pub struct IdText([u8; 36]);

impl IdText {
    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Lower-case hexadecimal digits of a number, on the stack.
pub fn hex64(number: u64) -> [u8; 16] {
    let mut out = [0; 16];
    let (pairs, _) = out.as_chunks_mut::<2>();
    for (pair, byte) in pairs.iter_mut().zip(number.to_be_bytes()) {
        *pair = HEX[usize::from(byte)];
    }
    out
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Fills `bytes` from the system's random source: for secrets and seeds.
///
/// # Errors
/// When the system has none, which a process should not survive quietly.
pub fn random(bytes: &mut [u8]) -> std::io::Result<()> {
    getrandom::fill(bytes).map_err(|error| std::io::Error::other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_of_version_7_that_sorts_by_time() {
        let early = RequestId::new(1_700_000_000_123_456_789, u64::MAX);
        let late = RequestId::new(1_700_000_000_123_999_999, 0);
        assert!(early < late);
        let text = early.text();
        assert_eq!(text.as_str().as_bytes()[14], b'7');
        assert!(matches!(text.as_str().as_bytes()[19], b'8'..=b'b'));
        assert_eq!(RequestId::parse(text.as_str()), Some(early));
        assert_eq!(RequestId::parse("not an id"), None);
        let told = early.unix_nanos();
        assert!(told <= 1_700_000_000_123_456_789 && told + 245 > 1_700_000_000_123_456_789);
    }
}
