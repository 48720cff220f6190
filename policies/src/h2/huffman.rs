//! The code of strings in HPACK (RFC 7541, 5.2 and appendix B): decoded a symbol at a time.
//!
//! Nothing is encoded with it here: what an answer would save in bytes costs more to work out than to
//! send.

/// Symbols: the bytes, and the end of a string.
const SYMBOLS: usize = 257;
const END: u16 = 256;

/// Bits that a table is asked with: the codes of what texts are made of are no longer.
const SHORT: u32 = 8;
/// Bits of the longest code.
const LONG: u32 = 30;

/// What eight bits begin with: a symbol and the length of its code, 0 where that is longer.
static BEGINNINGS: [(u8, u8); 1 << SHORT] = beginnings();

/// Codes of one length follow each other, in the order of their symbols, and behind all shorter ones.
static LENGTHS: [Length; LONG as usize + 1] = lengths();

/// All symbols, in the order of their codes.
static IN_ORDER: [u16; SYMBOLS] = in_order();

/// The codes of one length.
#[derive(Clone, Copy)]
struct Length {
    /// Of the first of them.
    code: u32,
    /// The first code behind them.
    after: u32,
    /// The first one's place in [`IN_ORDER`].
    place: usize,
}

const fn beginnings() -> [(u8, u8); 1 << SHORT] {
    let mut table = [(0, 0); 1 << SHORT];
    let mut byte = 0_u8;
    loop {
        let (code, length) = CODES[byte as usize];
        if length as u32 <= SHORT {
            let spare = SHORT - length as u32;
            let first = (code << spare) as usize;
            let mut more = 0;
            while more < 1 << spare {
                table[first + more] = (byte, length);
                more += 1;
            }
        }
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
    }
}

const fn lengths() -> [Length; LONG as usize + 1] {
    let mut table = [Length { code: 0, after: 0, place: 0 }; LONG as usize + 1];
    let mut length = 0;
    let mut place = 0;
    while length <= LONG {
        let (mut first, mut count) = (u32::MAX, 0);
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if CODES[symbol].1 as u32 == length {
                if CODES[symbol].0 < first {
                    first = CODES[symbol].0;
                }
                count += 1;
            }
            symbol += 1;
        }
        if count > 0 {
            table[length as usize] = Length { code: first, after: first + count, place };
            place += count as usize;
        }
        length += 1;
    }
    table
}

const fn in_order() -> [u16; SYMBOLS] {
    let lengths = lengths();
    let mut table = [0; SYMBOLS];
    let mut symbol = 0_u16;
    while (symbol as usize) < SYMBOLS {
        let (code, length) = CODES[symbol as usize];
        let Length { code: first, place, .. } = lengths[length as usize];
        table[place + (code - first) as usize] = symbol;
        symbol += 1;
    }
    table
}

/// Appends what `coded` says. `None` if it is no string (RFC 7541, 5.2).
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Option<()> {
    // No code is shorter than five bits.
    out.reserve(coded.len() * 8 / 5);
    let mut rest = coded.iter();
    // The next `known` bits, from the highest on; zeros behind them.
    let (mut bits, mut known) = (0_u64, 0_u32);
    loop {
        while known <= 56
            && let Some(byte) = rest.next()
        {
            bits |= u64::from(*byte) << (56 - known);
            known += 8;
        }
        let (mut symbol, length) = *BEGINNINGS.get((bits >> (64 - SHORT)) as usize)?;
        let mut length = u32::from(length);
        if length == 0 {
            match long(bits) {
                Some((found, bits)) if bits <= known => (symbol, length) = (found, bits),
                _ => break,
            }
        }
        if length > known {
            break;
        }
        out.push(symbol);
        bits <<= length;
        known -= length;
    }
    // What is left is padding: ones, and less than a byte of them.
    (known < 8 && bits.leading_ones() >= known).then_some(())
}

/// The symbol that `bits` begin with, and the length of its code, which is a long one. `None` also for
/// the end of a string, which is in none.
#[cold]
fn long(bits: u64) -> Option<(u8, u32)> {
    for length in SHORT + 1..=LONG {
        let Length { code: first, after, place } = *LENGTHS.get(length as usize)?;
        let code = u32::try_from(bits >> (64 - length)).ok()?;
        if code < after {
            let symbol = *IN_ORDER.get(place + code.checked_sub(first)? as usize)?;
            return u8::try_from(symbol)
                .ok()
                .filter(|_| symbol != END)
                .map(|symbol| (symbol, length));
        }
    }
    None
}

/// Code and its length in bits, by symbol.
#[rustfmt::skip]
const CODES: [(u32, u8); SYMBOLS] = [
    (0x1ff8, 13), (0x7fffd8, 23), (0xfffffe2, 28), (0xfffffe3, 28), (0xfffffe4, 28), (0xfffffe5, 28),
    (0xfffffe6, 28), (0xfffffe7, 28), (0xfffffe8, 28), (0xffffea, 24), (0x3ffffffc, 30), (0xfffffe9, 28),
    (0xfffffea, 28), (0x3ffffffd, 30), (0xfffffeb, 28), (0xfffffec, 28), (0xfffffed, 28), (0xfffffee, 28),
    (0xfffffef, 28), (0xffffff0, 28), (0xffffff1, 28), (0xffffff2, 28), (0x3ffffffe, 30), (0xffffff3, 28),
    (0xffffff4, 28), (0xffffff5, 28), (0xffffff6, 28), (0xffffff7, 28), (0xffffff8, 28), (0xffffff9, 28),
    (0xffffffa, 28), (0xffffffb, 28), (0x14, 6), (0x3f8, 10), (0x3f9, 10), (0xffa, 12),
    (0x1ff9, 13), (0x15, 6), (0xf8, 8), (0x7fa, 11), (0x3fa, 10), (0x3fb, 10),
    (0xf9, 8), (0x7fb, 11), (0xfa, 8), (0x16, 6), (0x17, 6), (0x18, 6),
    (0x0, 5), (0x1, 5), (0x2, 5), (0x19, 6), (0x1a, 6), (0x1b, 6),
    (0x1c, 6), (0x1d, 6), (0x1e, 6), (0x1f, 6), (0x5c, 7), (0xfb, 8),
    (0x7ffc, 15), (0x20, 6), (0xffb, 12), (0x3fc, 10), (0x1ffa, 13), (0x21, 6),
    (0x5d, 7), (0x5e, 7), (0x5f, 7), (0x60, 7), (0x61, 7), (0x62, 7),
    (0x63, 7), (0x64, 7), (0x65, 7), (0x66, 7), (0x67, 7), (0x68, 7),
    (0x69, 7), (0x6a, 7), (0x6b, 7), (0x6c, 7), (0x6d, 7), (0x6e, 7),
    (0x6f, 7), (0x70, 7), (0x71, 7), (0x72, 7), (0xfc, 8), (0x73, 7),
    (0xfd, 8), (0x1ffb, 13), (0x7fff0, 19), (0x1ffc, 13), (0x3ffc, 14), (0x22, 6),
    (0x7ffd, 15), (0x3, 5), (0x23, 6), (0x4, 5), (0x24, 6), (0x5, 5),
    (0x25, 6), (0x26, 6), (0x27, 6), (0x6, 5), (0x74, 7), (0x75, 7),
    (0x28, 6), (0x29, 6), (0x2a, 6), (0x7, 5), (0x2b, 6), (0x76, 7),
    (0x2c, 6), (0x8, 5), (0x9, 5), (0x2d, 6), (0x77, 7), (0x78, 7),
    (0x79, 7), (0x7a, 7), (0x7b, 7), (0x7ffe, 15), (0x7fc, 11), (0x3ffd, 14),
    (0x1ffd, 13), (0xffffffc, 28), (0xfffe6, 20), (0x3fffd2, 22), (0xfffe7, 20), (0xfffe8, 20),
    (0x3fffd3, 22), (0x3fffd4, 22), (0x3fffd5, 22), (0x7fffd9, 23), (0x3fffd6, 22), (0x7fffda, 23),
    (0x7fffdb, 23), (0x7fffdc, 23), (0x7fffdd, 23), (0x7fffde, 23), (0xffffeb, 24), (0x7fffdf, 23),
    (0xffffec, 24), (0xffffed, 24), (0x3fffd7, 22), (0x7fffe0, 23), (0xffffee, 24), (0x7fffe1, 23),
    (0x7fffe2, 23), (0x7fffe3, 23), (0x7fffe4, 23), (0x1fffdc, 21), (0x3fffd8, 22), (0x7fffe5, 23),
    (0x3fffd9, 22), (0x7fffe6, 23), (0x7fffe7, 23), (0xffffef, 24), (0x3fffda, 22), (0x1fffdd, 21),
    (0xfffe9, 20), (0x3fffdb, 22), (0x3fffdc, 22), (0x7fffe8, 23), (0x7fffe9, 23), (0x1fffde, 21),
    (0x7fffea, 23), (0x3fffdd, 22), (0x3fffde, 22), (0xfffff0, 24), (0x1fffdf, 21), (0x3fffdf, 22),
    (0x7fffeb, 23), (0x7fffec, 23), (0x1fffe0, 21), (0x1fffe1, 21), (0x3fffe0, 22), (0x1fffe2, 21),
    (0x7fffed, 23), (0x3fffe1, 22), (0x7fffee, 23), (0x7fffef, 23), (0xfffea, 20), (0x3fffe2, 22),
    (0x3fffe3, 22), (0x3fffe4, 22), (0x7ffff0, 23), (0x3fffe5, 22), (0x3fffe6, 22), (0x7ffff1, 23),
    (0x3ffffe0, 26), (0x3ffffe1, 26), (0xfffeb, 20), (0x7fff1, 19), (0x3fffe7, 22), (0x7ffff2, 23),
    (0x3fffe8, 22), (0x1ffffec, 25), (0x3ffffe2, 26), (0x3ffffe3, 26), (0x3ffffe4, 26), (0x7ffffde, 27),
    (0x7ffffdf, 27), (0x3ffffe5, 26), (0xfffff1, 24), (0x1ffffed, 25), (0x7fff2, 19), (0x1fffe3, 21),
    (0x3ffffe6, 26), (0x7ffffe0, 27), (0x7ffffe1, 27), (0x3ffffe7, 26), (0x7ffffe2, 27), (0xfffff2, 24),
    (0x1fffe4, 21), (0x1fffe5, 21), (0x3ffffe8, 26), (0x3ffffe9, 26), (0xffffffd, 28), (0x7ffffe3, 27),
    (0x7ffffe4, 27), (0x7ffffe5, 27), (0xfffec, 20), (0xfffff3, 24), (0xfffed, 20), (0x1fffe6, 21),
    (0x3fffe9, 22), (0x1fffe7, 21), (0x1fffe8, 21), (0x7ffff3, 23), (0x3fffea, 22), (0x3fffeb, 22),
    (0x1ffffee, 25), (0x1ffffef, 25), (0xfffff4, 24), (0xfffff5, 24), (0x3ffffea, 26), (0x7ffff4, 23),
    (0x3ffffeb, 26), (0x7ffffe6, 27), (0x3ffffec, 26), (0x3ffffed, 26), (0x7ffffe7, 27), (0x7ffffe8, 27),
    (0x7ffffe9, 27), (0x7ffffea, 27), (0x7ffffeb, 27), (0xffffffe, 28), (0x7ffffec, 27), (0x7ffffed, 27),
    (0x7ffffee, 27), (0x7ffffef, 27), (0x7fffff0, 27), (0x3ffffee, 26), (0x3fffffff, 30),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bit by bit from the same table.
    fn encode(bytes: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for byte in bytes {
            let (code, length) = CODES[usize::from(*byte)];
            bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
        }
        bits.resize(bits.len().next_multiple_of(8), true);
        bits.chunks(8)
            .map(|byte| byte.iter().fold(0, |all, bit| all << 1 | u8::from(*bit)))
            .collect()
    }

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(coded, &mut out).map(|()| out)
    }

    /// From RFC 7541, appendix C.4 and C.6.
    #[test]
    fn the_examples_of_the_rfc() {
        for (coded, text) in [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], "custom-key"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value"),
            (&[0x64, 0x02], "302"),
            (&[0xae, 0xc3, 0x77, 0x1a, 0x4b], "private"),
        ] {
            assert_eq!(decoded(coded).unwrap(), text.as_bytes(), "{text}");
        }
    }

    #[test]
    fn padding_is_ones_and_less_than_a_byte() {
        // `a` is 00011.
        assert_eq!(decoded(&[0b0001_1111]).unwrap(), b"a");
        assert_eq!(decoded(&[0b0001_1110]), None, "padded with something else");
        assert_eq!(decoded(&[0b0001_1111, 0xff]), None, "a byte too much");
        assert_eq!(decoded(&[0xff]), None, "nothing but padding");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None, "the end of a string is in no string");
        assert_eq!(decoded(&[]).unwrap(), b"");
    }

    proptest! {
        #[test]
        fn every_string_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decoded(&encode(&bytes)).unwrap(), bytes);
        }

        /// A string has one code: what is decoded from anything at all is coded the same again.
        #[test]
        fn whatever_is_taken_is_a_code(coded in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(text) = decoded(&coded) {
                prop_assert_eq!(encode(&text), coded);
            }
        }
    }
}
