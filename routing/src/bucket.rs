//! `(salt, unit)` to a bucket in `0..10_000`, the same on every machine and in every release.
//!
//! Changing anything here would deal every running experiment anew. `bucket/golden.tsv`, written
//! by another implementation, pins it.

use siphasher::sip::SipHasher24;
use std::fmt;
use std::hash::Hasher;

/// How many buckets there are; one is 0.01 % of units.
pub const BUCKETS: u16 = 10_000;

/// The installation's secret: without it, a client could choose its variant by choosing its id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub [u8; 16]);

/// What makes one experiment's deal independent of another's, ready to hash units.
///
/// The salts in use are `holdout`, `layer:<name>` and `<experiment>/variant`.
#[derive(Clone)]
pub struct Salt {
    /// Has taken in all that stands before the unit.
    state: SipHasher24,
}

impl Salt {
    /// `name` under the installation's `key`.
    pub fn new(key: &HashKey, name: &str) -> Self {
        let mut state = SipHasher24::new_with_key(&key.0);
        // The length goes in first, so that ("ab", "c") and ("a", "bc") are different inputs; as
        // u64, because usize is not equally wide everywhere. Always `write`: the methods for
        // numbers and strings follow the machine's byte order, or add bytes of their own.
        state.write(&(name.len() as u64).to_le_bytes());
        state.write(name.as_bytes());
        Self { state }
    }

    /// SipHash-2-4 of `le_u64(length of salt) || salt || unit`.
    ///
    /// Source: Aumasson, Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012.
    pub fn hash(&self, unit: &str) -> u64 {
        let mut state = self.state;
        state.write(unit.as_bytes());
        state.finish()
    }

    /// The bucket of `unit`, below [`BUCKETS`].
    pub fn bucket(&self, unit: &str) -> u16 {
        bucket_of(self.hash(unit))
    }
}

/// The bucket of a unit's hash, below [`BUCKETS`].
#[expect(clippy::cast_possible_truncation, reason = "the shifted product is below BUCKETS")]
pub fn bucket_of(hash: u64) -> u16 {
    // Multiply and shift: every bucket receives 2^64 / BUCKETS hashes, give or take one.
    ((u128::from(hash) * u128::from(BUCKETS)) >> 64) as u16
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(hidden)")
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: HashKey = HashKey([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

    #[test]
    fn the_hash_gives_the_published_check_value() {
        let message: Vec<u8> = (0..15).collect();
        let mut hasher = SipHasher24::new_with_key(&KEY.0);
        hasher.write(&message);
        assert_eq!(hasher.finish(), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn the_golden_buckets_have_not_moved() {
        let golden = include_str!("bucket/golden.tsv");
        let mut lines = 0;
        for line in golden.lines().filter(|line| !line.starts_with('#')) {
            let [salt, unit, hash, bucket] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("four columns: {line:?}");
            };
            let salt = Salt::new(&KEY, salt);
            assert_eq!(format!("{:016x}", salt.hash(unit)), hash, "{line}");
            assert_eq!(salt.bucket(unit).to_string(), bucket, "{line}");
            lines += 1;
        }
        assert_eq!(lines, 200);
    }

    #[test]
    fn hashing_in_pieces_is_hashing_at_once() {
        let text = "a unit that is long enough for several blocks of eight bytes";
        for salt_length in 0..24 {
            for end in salt_length..text.len() {
                let (salt, unit) = (&text[..salt_length], &text[salt_length..end]);
                let mut message = (salt.len() as u64).to_le_bytes().to_vec();
                message.extend_from_slice(salt.as_bytes());
                message.extend_from_slice(unit.as_bytes());
                let at_once = SipHasher24::new_with_key(&KEY.0).hash(&message);
                assert_eq!(Salt::new(&KEY, salt).hash(unit), at_once, "{salt:?} {unit:?}");
            }
        }
    }

    #[test]
    fn the_border_between_salt_and_unit_counts() {
        assert_ne!(Salt::new(&KEY, "ab").hash("c"), Salt::new(&KEY, "a").hash("bc"));
    }

    #[test]
    fn the_first_and_last_hash_fall_into_the_first_and_last_bucket() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn neither_key_nor_salt_shows_what_it_holds() {
        assert_eq!(format!("{KEY:?}"), "HashKey(hidden)");
        assert_eq!(format!("{:?}", Salt::new(&KEY, "holdout")), "Salt(hidden)");
    }
}
