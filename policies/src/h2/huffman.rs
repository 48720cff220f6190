//! The code of strings in HPACK (RFC 7541, 5.2 and appendix B): decoded four bits at a time.
//!
//! Nothing is encoded with it here: what an answer would save in bytes costs more to work out than to
//! send.

/// Symbols: the bytes, and the end of a string.
const SYMBOLS: usize = 257;
const END: usize = 256;
/// Inner nodes of the tree: one less than its leaves.
const NODES: usize = SYMBOLS - 1;

/// From an inner node, with four bits more.
#[derive(Clone, Copy)]
struct Step {
    next: u8,
    symbol: u8,
    what: u8,
}

/// A symbol is complete.
const EMITS: u8 = 1;
/// This is in no string.
const FAILS: u8 = 2;

struct Machine {
    steps: [[Step; 16]; NODES],
    /// Whether a string may end here: what is left is padding, less than a byte of ones.
    ends: [bool; NODES],
}

static MACHINE: Machine = machine();

/// In the tree a child is an inner node, or a symbol and this.
const LEAF: u16 = 0x8000;

const fn tree() -> [[u16; 2]; NODES] {
    let mut tree = [[0_u16; 2]; NODES];
    let mut nodes = 1;
    let mut symbol = 0;
    while symbol < SYMBOLS {
        let (code, length) = CODES[symbol];
        let mut node = 0;
        let mut bit = length;
        while bit > 0 {
            bit -= 1;
            let side = ((code >> bit) & 1) as usize;
            if bit == 0 {
                tree[node][side] = LEAF | u16::from_le_bytes(low(symbol));
            } else {
                if tree[node][side] == 0 {
                    tree[node][side] = nodes;
                    nodes += 1;
                }
                node = tree[node][side] as usize;
            }
        }
        symbol += 1;
    }
    tree
}

const fn machine() -> Machine {
    let tree = tree();
    let mut steps = [[Step { next: 0, symbol: 0, what: 0 }; 16]; NODES];
    let mut state = 0;
    while state < NODES {
        let mut nibble = 0;
        while nibble < 16 {
            steps[state][nibble] = step(&tree, state, nibble);
            nibble += 1;
        }
        state += 1;
    }
    let mut ends = [false; NODES];
    let (mut node, mut ones) = (0, 0);
    while ones < 8 {
        ends[node] = true;
        node = tree[node][1] as usize;
        ones += 1;
    }
    Machine { steps, ends }
}

/// The lower bytes of a number that has no others.
const fn low(number: usize) -> [u8; 2] {
    let [a, b, ..] = number.to_le_bytes();
    [a, b]
}

/// No code is shorter than five bits: four complete one symbol at most.
const fn step(tree: &[[u16; 2]; NODES], state: usize, nibble: usize) -> Step {
    let (mut node, mut symbol, mut what) = (state, 0, 0);
    let mut bit = 4;
    while bit > 0 {
        bit -= 1;
        let child = tree[node][(nibble >> bit) & 1];
        if child & LEAF == 0 {
            node = child as usize;
            continue;
        }
        let leaf = (child & !LEAF) as usize;
        if leaf == END {
            return Step { next: 0, symbol: 0, what: FAILS };
        }
        symbol = low(leaf)[0];
        what = EMITS;
        node = 0;
    }
    Step { next: low(node)[0], symbol, what }
}

/// Appends what `coded` says. `None` if it is no string (RFC 7541, 5.2).
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut state = 0_u8;
    for byte in coded {
        for nibble in [byte >> 4, byte & 0xf] {
            let step = MACHINE.steps.get(usize::from(state))?.get(usize::from(nibble))?;
            if step.what == FAILS {
                return None;
            }
            if step.what == EMITS {
                out.push(step.symbol);
            }
            state = step.next;
        }
    }
    MACHINE.ends.get(usize::from(state))?.then_some(())
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
