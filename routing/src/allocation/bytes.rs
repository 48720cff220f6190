//! An allocation as it stands in the store.
//!
//! ```text
//! 1            the version of this form
//! u32          generation          (numbers are little-endian)
//! u8           variants, less one
//! then for each stretch, ascending: u16 length, u8 owner, u32 generation of acquisition
//! ```
//!
//! Equal allocations have equal bytes.

use super::{Allocation, Stretch, VariantId};
use crate::BUCKETS;

const VERSION: u8 = 1;
const HEAD: usize = 6;
const STRETCH: usize = 7;

/// Why bytes are not an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocationFault {
    /// Written by a release that knows more, or not an allocation at all.
    #[error("an allocation in form {version} cannot be read; this release knows form {VERSION}")]
    Version {
        /// The first byte.
        version: u8,
    },
    /// Cut short, or with something after the end.
    #[error("an allocation cannot be {length} bytes long")]
    Length {
        /// How many bytes there are.
        length: usize,
    },
    /// The stretches leave buckets out, or give some twice.
    #[error("the allocation covers {covered} buckets, not {BUCKETS}")]
    Covered {
        /// How many buckets they cover.
        covered: u32,
    },
    /// A stretch is empty, continues the one before it, belongs to a variant that is not there, or
    /// was acquired in the future.
    #[error("stretch {stretch} of the allocation contradicts the rest")]
    Stretch {
        /// Which one, from 0.
        stretch: usize,
    },
}

impl Allocation {
    /// The compact form for the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + STRETCH * self.stretches.len());
        bytes.push(VERSION);
        bytes.extend(self.generation.to_le_bytes());
        bytes.push(less_one(self.variants));
        for stretch in &self.stretches {
            bytes.extend(stretch.length.to_le_bytes());
            bytes.push(stretch.owner.0);
            bytes.extend(stretch.acquired.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`Allocation::to_bytes`] wrote, and believes none of it unchecked.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AllocationFault> {
        let wrong_length = AllocationFault::Length { length: bytes.len() };
        match bytes.first() {
            None => return Err(wrong_length),
            Some(&VERSION) => {}
            Some(&version) => return Err(AllocationFault::Version { version }),
        }
        let Some(([_, g0, g1, g2, g3, last], rest)) = bytes.split_first_chunk::<HEAD>() else {
            return Err(wrong_length);
        };
        let (written, []) = rest.as_chunks::<STRETCH>() else { return Err(wrong_length) };

        let generation = u32::from_le_bytes([*g0, *g1, *g2, *g3]);
        let mut stretches: Vec<Stretch> = Vec::with_capacity(written.len());
        let mut covered: u32 = 0;
        for (at, [l0, l1, owner, a0, a1, a2, a3]) in written.iter().enumerate() {
            let stretch = Stretch {
                length: u16::from_le_bytes([*l0, *l1]),
                owner: VariantId(*owner),
                acquired: u32::from_le_bytes([*a0, *a1, *a2, *a3]),
            };
            let continues = stretches.last().is_some_and(|before| {
                (before.owner, before.acquired) == (stretch.owner, stretch.acquired)
            });
            let impossible = stretch.length == 0 || owner > last || stretch.acquired > generation;
            if impossible || continues {
                return Err(AllocationFault::Stretch { stretch: at });
            }
            covered = covered.saturating_add(u32::from(stretch.length));
            stretches.push(stretch);
        }
        if covered != u32::from(BUCKETS) {
            return Err(AllocationFault::Covered { covered });
        }
        Ok(Self::from_stretches(generation, usize::from(*last) + 1, stretches))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "an allocation has 1 to 256 variants")]
fn less_one(variants: usize) -> u8 {
    (variants - 1) as u8
}
