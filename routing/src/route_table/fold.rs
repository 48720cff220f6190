//! A fast hash for names out of the configuration.
//!
//! Not SipHash: clients look names up here but cannot put any in, so there are no collisions for
//! them to arrange, and the standard hasher would be the dearest part of finding a route.

use std::hash::{BuildHasherDefault, Hasher};

/// Builds [`FoldHasher`]s.
pub(super) type Fold = BuildHasherDefault<FoldHasher>;

/// Eight bytes at a time: multiply to 128 bits and fold the halves together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FoldHasher(u64);

/// The golden ratio and the fractional part of the square root of 3: bits without a pattern.
const START: u64 = 0x9e37_79b9_7f4a_7c15;
const FACTOR: u64 = 0xbb67_ae85_84ca_a73b;

impl FoldHasher {
    #[expect(clippy::cast_possible_truncation, reason = "both halves of the product are used")]
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ START) * u128::from(FACTOR);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for FoldHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(u64::from(byte));
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
