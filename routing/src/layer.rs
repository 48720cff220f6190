//! Who takes part: experiments that may not share a unit, and units kept out of all of them.

use crate::{Allocation, Salt, VariantId};

/// Units kept out of every experiment, to be compared with everybody else.
#[derive(Clone, Debug)]
pub struct Holdout {
    /// The salt `holdout`.
    pub salt: Salt,
    /// How many units, in basis points; 1 to 5 % is usual.
    pub share_bp: u16,
}

impl Holdout {
    /// Whether `unit` is kept out.
    pub fn keeps(&self, unit: &str) -> bool {
        self.salt.bucket(unit) < self.share_bp
    }
}

/// Experiments that never share a unit: each has a slot, and a unit falls into one.
///
/// Different layers have different salts, and so are independent of each other.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The salt `layer:<name>`.
    pub salt: Salt,
    /// The slots' buckets. Slot 0 is outside every experiment; the others are one experiment's.
    pub allocation: Allocation,
}

impl Layer {
    /// The slot into which `unit` falls.
    pub fn slot_of(&self, unit: &str) -> VariantId {
        self.allocation.variant_of(self.salt.bucket(unit))
    }
}
