//! Written weights to basis points: the only floating point on the way to an assignment, and it
//! is used once, when shares are set.

use crate::BUCKETS;

/// Quotas closer than this, in basis points, count as equal: `0.1 + 0.2` must round like `0.3`.
const NOISE: f64 = 1e-6;

/// Why weights are not shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightFault {
    /// NaN or infinite.
    #[error("a weight is a finite number")]
    NotFinite {
        /// Which one, from 0.
        index: usize,
    },
    /// Below zero.
    #[error("a weight is not negative; 0 takes a variant out of the split")]
    Negative {
        /// Which one, from 0.
        index: usize,
    },
    /// All are zero, or there are none.
    #[error("every weight is 0; somebody has to serve")]
    AllZero,
    /// Above zero, but not enough for one bucket.
    #[error("the weight is less than 0.01 % of all, the smallest share there is; give 0 or more")]
    TooSmall {
        /// Which one, from 0.
        index: usize,
    },
}

/// Relative `weights` as basis points that add up to 10,000, by largest remainder; of equal
/// remainders the earlier wins.
///
/// Any finite weights of 0 or more will do, however large or small; no share is more than one
/// basis point away from its exact value, and only a weight of 0 gets none.
pub fn shares_of_weights(weights: &[f64]) -> Result<Vec<u16>, WeightFault> {
    for (index, weight) in weights.iter().enumerate() {
        if !weight.is_finite() {
            return Err(WeightFault::NotFinite { index });
        }
        if *weight < 0.0 {
            return Err(WeightFault::Negative { index });
        }
    }
    // Divided by the largest first, so that the sum of the largest numbers is still a number.
    let largest = weights.iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return Err(WeightFault::AllZero);
    }
    let sum: f64 = weights.iter().map(|weight| weight / largest).sum();
    let quotas: Vec<f64> =
        weights.iter().map(|weight| weight / largest / sum * f64::from(BUCKETS)).collect();

    let mut shares: Vec<u16> = quotas.iter().map(|quota| whole(quota + NOISE)).collect();
    let remainder = |index: usize| (quotas[index] - f64::from(shares[index])).max(0.0) / NOISE;
    let mut in_turn: Vec<(f64, usize)> = (0..weights.len())
        .filter(|index| weights[*index] > 0.0)
        .map(|index| (remainder(index).round(), index))
        .collect();
    // Stable, so of equal remainders the earlier stays in front.
    in_turn.sort_by(|(left, _), (right, _)| right.total_cmp(left));

    let dealt: u32 = shares.iter().copied().map(u32::from).sum();
    let left_over = u32::from(BUCKETS).saturating_sub(dealt);
    for (_, (_, index)) in (0..left_over).zip(in_turn) {
        shares[index] += 1;
    }
    let too_small = |index: &usize| weights[*index] > 0.0 && shares[*index] == 0;
    match (0..weights.len()).find(too_small) {
        Some(index) => Err(WeightFault::TooSmall { index }),
        None => Ok(shares),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a quota is between 0 and BUCKETS")]
fn whole(quota: f64) -> u16 {
    quota.floor() as u16
}
