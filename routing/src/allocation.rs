//! Which buckets belong to which variant, and how they change hands.
//!
//! A table, not a formula: a variant that grows keeps every bucket it has, one that shrinks gains
//! none, and no more buckets move than must. That needs to know who acquired what when, so the
//! table is state: it is kept with the experiment and cannot be made again from the shares.

mod bytes;
mod weights;

pub use bytes::AllocationFault;
pub use weights::{WeightFault, shares_of_weights};

use crate::BUCKETS;
use std::cmp::Reverse;
use std::fmt;

/// A variant's place among its experiment's variants, in the order written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariantId(pub u8);

/// Which variant each bucket belongs to, and since which generation. Shares are in basis points,
/// which is to say in buckets.
#[derive(Clone, PartialEq, Eq)]
pub struct Allocation {
    generation: u32,
    /// One for each bucket.
    owners: Box<[VariantId]>,
    /// The same and the time of acquisition, in ascending order; neighbours differ.
    stretches: Box<[Stretch]>,
    /// How many variants there are, those without a bucket included; 1 to 256.
    variants: usize,
    /// The variant that has every bucket.
    sole: Option<VariantId>,
}

/// Consecutive buckets that one variant acquired at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    length: u16,
    owner: VariantId,
    acquired: u32,
}

/// An allocation after new shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retargeted {
    /// The new table.
    pub allocation: Allocation,
    /// How many buckets changed hands.
    pub moved: u16,
}

/// Consecutive buckets of one variant: `first..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first bucket.
    pub first: u16,
    /// The bucket after the last.
    pub end: u16,
    /// Whose they are.
    pub variant: VariantId,
}

/// Why shares cannot be dealt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareFault {
    /// There is nobody to deal to.
    #[error("there are no variants")]
    NoVariants,
    /// A variant is numbered by one byte.
    #[error("{count} variants are more than the 256 there may be")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// Somebody would get nothing, or two the same.
    #[error("shares add up to {sum} of {BUCKETS} basis points")]
    Sum {
        /// What they add up to.
        sum: u32,
    },
    /// The shares, or the places of the old variants, are not as many as there are variants.
    #[error("{given} were given for {variants} variants")]
    Count {
        /// How many variants the allocation has.
        variants: usize,
        /// How many shares or places were given.
        given: usize,
    },
    /// An old variant is sent to a place that is not there, or that another one has taken.
    #[error("there is no variant number {}, or another one becomes it", .to.0)]
    Place {
        /// The place.
        to: VariantId,
    },
}

impl Allocation {
    /// The first deal: each variant gets its share as one run, in order. Generation 0.
    pub fn initial(shares: &[u16]) -> Result<Self, ShareFault> {
        check(shares)?;
        let owners = variants(shares).flat_map(|(owner, share)| (0..share).map(move |_| owner));
        Ok(Self::from_buckets(0, shares.len(), owners.map(|owner| (owner, 0))))
    }

    /// The allocation with new `shares` for the same variants, by the least movement.
    pub fn retarget(&self, shares: &[u16]) -> Result<Retargeted, ShareFault> {
        if shares.len() != self.variants {
            return Err(ShareFault::Count { variants: self.variants, given: shares.len() });
        }
        self.deal(Some, shares)
    }

    /// The allocation with new `shares` after variants were added, removed or put in another order.
    ///
    /// `new_ix_of_old` says for each old variant which of the new ones it is. The buckets of those
    /// that are gone are given up first; then it is the same as [`Allocation::retarget`].
    pub fn remap(
        &self,
        new_ix_of_old: &[Option<VariantId>],
        shares: &[u16],
    ) -> Result<Retargeted, ShareFault> {
        if new_ix_of_old.len() != self.variants {
            return Err(ShareFault::Count { variants: self.variants, given: new_ix_of_old.len() });
        }
        let mut taken = vec![false; shares.len()];
        for &to in new_ix_of_old.iter().flatten() {
            match taken.get_mut(usize::from(to.0)) {
                Some(taken) if !*taken => *taken = true,
                Some(_) | None => return Err(ShareFault::Place { to }),
            }
        }
        self.deal(|old| new_ix_of_old[usize::from(old.0)], shares)
    }

    /// Whose `bucket` is.
    ///
    /// # Panics
    ///
    /// If `bucket` is not below [`BUCKETS`]; [`bucket_of`](crate::bucket_of) gives no such bucket.
    pub fn variant_of(&self, bucket: u16) -> VariantId {
        self.owners[usize::from(bucket)]
    }

    /// The variant that has every bucket, if one has.
    pub fn sole(&self) -> Option<VariantId> {
        self.sole
    }

    /// How many buckets each variant has, in order.
    pub fn shares(&self) -> Vec<u16> {
        let mut shares = vec![0; self.variants];
        for stretch in &self.stretches {
            shares[usize::from(stretch.owner.0)] += stretch.length;
        }
        shares
    }

    /// The table as runs, ascending; neighbours belong to different variants.
    pub fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut first = 0;
        for Stretch { length, owner, .. } in &self.stretches {
            let end = first + length;
            match runs.last_mut() {
                Some(run) if run.variant == *owner => run.end = end,
                Some(_) | None => runs.push(Run { first, end, variant: *owner }),
            }
            first = end;
        }
        runs
    }

    /// How often the shares have been set since the first deal.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    fn deal(
        &self,
        new_of_old: impl Fn(VariantId) -> Option<VariantId>,
        shares: &[u16],
    ) -> Result<Retargeted, ShareFault> {
        check(shares)?;
        let generation = self.generation.saturating_add(1);
        let mut buckets: Vec<(Option<VariantId>, u32)> = self
            .stretches
            .iter()
            .flat_map(|stretch| {
                let held = (new_of_old(stretch.owner), stretch.acquired);
                (0..stretch.length).map(move |_| held)
            })
            .collect();

        for (variant, share) in variants(shares) {
            let mut own = owned_by(Some(variant), &buckets);
            let surplus = own.len().saturating_sub(usize::from(share));
            // Most recently acquired first; what was acquired at once, from the top down.
            own.sort_unstable_by_key(|at| Reverse((buckets[*at].1, *at)));
            for at in own.into_iter().take(surplus) {
                buckets[at].0 = None;
            }
        }

        let given_up = owned_by(None, &buckets);
        let moved = count(given_up.len());
        let mut given_up = given_up.into_iter();
        for (variant, share) in variants(shares) {
            let missing = usize::from(share) - owned_by(Some(variant), &buckets).len();
            for at in given_up.by_ref().take(missing) {
                buckets[at] = (Some(variant), generation);
            }
        }

        let dealt = buckets.into_iter().filter_map(|(owner, since)| Some((owner?, since)));
        let allocation = Self::from_buckets(generation, shares.len(), dealt);
        Ok(Retargeted { allocation, moved })
    }

    /// `buckets`: owner and time of acquisition, one for each bucket.
    fn from_buckets(
        generation: u32,
        variants: usize,
        buckets: impl Iterator<Item = (VariantId, u32)>,
    ) -> Self {
        let mut stretches: Vec<Stretch> = Vec::new();
        for (owner, acquired) in buckets {
            match stretches.last_mut() {
                Some(last) if (last.owner, last.acquired) == (owner, acquired) => last.length += 1,
                Some(_) | None => stretches.push(Stretch { length: 1, owner, acquired }),
            }
        }
        Self::from_stretches(generation, variants, stretches)
    }

    /// `stretches` must cover the buckets exactly and name no variant beyond `variants`.
    fn from_stretches(generation: u32, variants: usize, stretches: Vec<Stretch>) -> Self {
        let mut owners = Vec::with_capacity(usize::from(BUCKETS));
        for stretch in &stretches {
            owners.resize(owners.len() + usize::from(stretch.length), stretch.owner);
        }
        debug_assert_eq!(owners.len(), usize::from(BUCKETS), "every bucket has one owner");
        let first = owners.first().copied();
        let sole = first.filter(|first| stretches.iter().all(|stretch| stretch.owner == *first));
        Self { generation, owners: owners.into(), stretches: stretches.into(), variants, sole }
    }
}

impl fmt::Debug for Allocation {
    /// Ten thousand owners help nobody; the shares do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allocation")
            .field("generation", &self.generation)
            .field("shares", &self.shares())
            .field("stretches", &self.stretches.len())
            .finish_non_exhaustive()
    }
}

/// The buckets of `owner`, ascending.
fn owned_by(owner: Option<VariantId>, buckets: &[(Option<VariantId>, u32)]) -> Vec<usize> {
    let held = buckets.iter().enumerate().filter(|(_, (of, _))| *of == owner);
    held.map(|(at, _)| at).collect()
}

/// Each variant with its share.
fn variants(shares: &[u16]) -> impl Iterator<Item = (VariantId, u16)> {
    (0..=u8::MAX).map(VariantId).zip(shares.iter().copied())
}

fn check(shares: &[u16]) -> Result<(), ShareFault> {
    let count = shares.len();
    if count == 0 {
        return Err(ShareFault::NoVariants);
    }
    if count > 256 {
        return Err(ShareFault::TooMany { count });
    }
    let sum = shares.iter().copied().map(u32::from).sum();
    if sum != u32::from(BUCKETS) {
        return Err(ShareFault::Sum { sum });
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "no more than BUCKETS buckets are counted")]
fn count(buckets: usize) -> u16 {
    buckets as u16
}
