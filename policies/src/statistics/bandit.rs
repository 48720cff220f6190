//! Shares that follow what is known: optional, and off unless asked for.
//!
//! Every period each arm's chance of being the best is worked out from means and variances, without
//! random numbers, and shares move towards it. Guardrails, sample ratio and cool-down stay in force
//! and win.
//!
//! ```text
//! z_i = Phi^-1((i-0.5)/512), i = 1..512
//! P_k = mean_i prod_{j != k} Phi( (m_k + s_k*z_i - m_j)/s_j ),  then normalised
//! share_k = f + (1 - K*f) * P_k,  f = 0.05;  control never below 10 %;  at most 10 points move
//! ```
//!
//! With moving shares raw pooled means are biased: each period is an epoch of its own, with which
//! [`sample_ratio`](super::sample_ratio), [`attribution`](super::attribution) and
//! [`mean`](super::mean) hold as they stand. Sources: Thompson, Biometrika 25, 1933; floors: Hadad,
//! Hirshberg, Zhan, Wager, Athey, PNAS 118(15), 2021.

use super::mean::Better;
use super::moments::Moments;
use super::special::{phi, phi_inverse};

/// What every arm gets.
pub const FLOOR: f64 = 0.05;
/// What control gets at least.
pub const CONTROL_FLOOR: f64 = 0.10;
/// What may change hands in one period.
pub const LARGEST_MOVE: f64 = 0.10;
/// Exposures that each arm needs before shares move.
pub const LEAST_EXPOSURES: u64 = 200;
/// Events that each arm needs before shares move.
pub const LEAST_EVENTS: u64 = 20;

const POINTS: usize = 512;

/// What is believed about an arm's mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Posterior {
    /// Mean.
    pub mean: f64,
    /// Variance of that mean.
    pub variance: f64,
}

impl Posterior {
    /// From `k` events in `n` exposures: `m = (k+1)/(n+2)`, `s2 = m*(1-m)/(n+3)`.
    pub fn of_events(k: u64, n: u64) -> Self {
        Self::of_rate(k.min(n) as f64, n as f64)
    }

    /// The same where some count for a part only.
    pub fn of_rate(k: f64, n: f64) -> Self {
        let mean = (k + 1.0) / (n + 2.0);
        Self { mean, variance: mean * (1.0 - mean) / (n + 3.0) }
    }

    /// From numbers; `None` below two.
    pub fn of_numbers(moments: &Moments) -> Option<Self> {
        let variance = moments.variance()? / moments.n as f64;
        Some(Self { mean: moments.mean, variance })
    }
}

/// Whether an arm has been seen often enough for shares to move. `events` are those it had, or those
/// it was to have at everybody's rate if that is more.
pub fn is_enough(exposures: u64, events: u64) -> bool {
    exposures >= LEAST_EXPOSURES && events >= LEAST_EVENTS
}

/// Each arm's chance of being the best; they add up to 1.
///
/// Equal chances if there is a number that is none. Empty without arms.
pub fn chances_of_being_best(arms: &[Posterior], better: Better) -> Vec<f64> {
    let arms: Vec<(f64, f64)> = arms
        .iter()
        .map(|arm| match better {
            Better::Higher => (arm.mean, arm.variance.sqrt()),
            Better::Lower => (-arm.mean, arm.variance.sqrt()),
        })
        .collect();
    let points: Vec<f64> =
        (0..POINTS).map(|i| phi_inverse((i as f64 + 0.5) / POINTS as f64)).collect();
    let chance = |k: usize| -> f64 {
        let (m_k, s_k) = arms[k];
        let beats_all = |z: &f64| -> f64 {
            let value = m_k + s_k * z;
            let others = arms.iter().enumerate().filter(|(j, _)| *j != k);
            others.map(|(_, (m_j, s_j))| below(value - m_j, *s_j)).product()
        };
        points.iter().map(beats_all).sum::<f64>() / POINTS as f64
    };
    let chances: Vec<f64> = (0..arms.len()).map(chance).collect();
    let sum: f64 = chances.iter().sum();
    if !(sum > 0.0 && sum.is_finite()) {
        return vec![1.0 / arms.len() as f64; arms.len()];
    }
    chances.iter().map(|chance| chance / sum).collect()
}

/// The chance that a normal number with mean 0 and this spread is below `gap`.
fn below(gap: f64, spread: f64) -> f64 {
    if spread > 0.0 {
        return phi(gap / spread);
    }
    // Known exactly; half of a tie.
    match gap.partial_cmp(&0.0) {
        Some(std::cmp::Ordering::Less) => 0.0,
        Some(std::cmp::Ordering::Equal) => 0.5,
        Some(std::cmp::Ordering::Greater) => 1.0,
        None => f64::NAN,
    }
}

/// The shares that the chances call for: an additive floor, which keeps order and spacing, and at
/// least 10 % for control. They add up to 1.
///
/// `control` is the place of control among the arms; `floor` is what every arm gets, a fraction,
/// usually [`FLOOR`].
pub fn shares(chances: &[f64], control: usize, floor: f64) -> Vec<f64> {
    let arms = chances.len() as f64;
    // So many arms that there is nothing left to share out.
    let floor = floor.min(0.5 / arms);
    let mut shares: Vec<f64> =
        chances.iter().map(|chance| floor + (1.0 - arms * floor) * chance).collect();
    let least = CONTROL_FLOOR.max(floor);
    if shares.len() > 1 && shares.get(control).is_some_and(|share| *share < least) {
        let above: f64 = (1.0 - shares[control]) - (arms - 1.0) * floor;
        let wanted = (1.0 - least) - (arms - 1.0) * floor;
        // What control gets more, the others give from what they have above the floor.
        let kept = if above > 0.0 { (wanted / above).max(0.0) } else { 0.0 };
        for (at, share) in shares.iter_mut().enumerate() {
            *share = if at == control { least } else { floor + (*share - floor) * kept };
        }
    }
    shares
}

/// The next period's shares: from `now` towards `target`, so far that at most [`LARGEST_MOVE`] of
/// all traffic changes hands. Both add up to 1 and have one share for each arm.
pub fn step(now: &[f64], target: &[f64]) -> Vec<f64> {
    let moved: f64 = now.iter().zip(target).map(|(now, target)| (target - now).max(0.0)).sum();
    let part = if moved > LARGEST_MOVE { LARGEST_MOVE / moved } else { 1.0 };
    now.iter().zip(target).map(|(now, target)| now + (target - now) * part).collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The classic place of an index error.
    #[test]
    fn where_lower_is_better_the_lower_of_two_arms_is_the_better() {
        let arms = [Posterior::of_events(200, 1000), Posterior::of_events(100, 1000)];
        let lower = chances_of_being_best(&arms, Better::Lower);
        assert!(lower[0] < 1e-6 && lower[1] > 1.0 - 1e-6, "{lower:?}");
        let higher = chances_of_being_best(&arms, Better::Higher);
        assert!(higher[0] > 1.0 - 1e-6);
        assert!(shares(&lower, 0, FLOOR)[1] > shares(&lower, 0, FLOOR)[0]);
    }

    #[test]
    fn two_arms_have_the_chances_of_the_normal_distribution() {
        let arms =
            [Posterior { mean: 1.0, variance: 0.04 }, Posterior { mean: 1.2, variance: 0.09 }];
        let chances = chances_of_being_best(&arms, Better::Higher);
        assert!((chances[1] - phi(0.2 / 0.13_f64.sqrt())).abs() < 1e-3, "{chances:?}");
    }

    #[test]
    fn three_equal_arms_are_equally_good_and_exact_knowledge_is_used() {
        let equal = [Posterior::of_events(20, 1000); 3];
        for chance in chances_of_being_best(&equal, Better::Higher) {
            assert!((chance - 1.0 / 3.0).abs() < 1e-9);
        }
        let exact =
            [Posterior { mean: 1.0, variance: 0.0 }, Posterior { mean: 2.0, variance: 0.0 }];
        assert_eq!(chances_of_being_best(&exact, Better::Higher), [0.0, 1.0]);
        let broken =
            [Posterior { mean: f64::NAN, variance: 0.0 }, Posterior { mean: 2.0, variance: 0.0 }];
        assert_eq!(chances_of_being_best(&broken, Better::Higher), [0.5, 0.5]);
        assert_eq!(chances_of_being_best(&[], Better::Higher), [0.0; 0]);
    }

    #[test]
    fn beliefs_are_those_of_the_formulas() {
        let half = Posterior::of_events(49, 98);
        assert_eq!((half.mean, half.variance), (0.5, 0.25 / 101.0));
        let moments = Moments { n: 100, mean: 3.0, m2: 99.0, nonzero: 100 };
        assert_eq!(Posterior::of_numbers(&moments), Some(Posterior { mean: 3.0, variance: 0.01 }));
        assert!(is_enough(200, 20) && !is_enough(199, 20) && !is_enough(200, 19));
    }

    #[test]
    fn at_most_ten_points_move_in_a_period() {
        let next = step(&[0.5, 0.5], &[0.9, 0.1]);
        assert!((next[0] - 0.6).abs() < 1e-12 && (next[1] - 0.4).abs() < 1e-12);
        assert_eq!(step(&[0.5, 0.5], &[0.55, 0.45]), [0.55, 0.45]);
    }

    proptest! {
        #[test]
        fn shares_add_up_and_keep_their_floors(
            weights in vec(0.0..1.0_f64, 2..30), control in any::<prop::sample::Index>(),
            now in vec(0.01..1.0_f64, 30)
        ) {
            let sum: f64 = weights.iter().sum();
            prop_assume!(sum > 0.0);
            let chances: Vec<f64> = weights.iter().map(|weight| weight / sum).collect();
            let control = control.index(chances.len());
            let shares = shares(&chances, control, FLOOR);
            prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(shares[control] >= CONTROL_FLOOR - 1e-9);
            let floor = FLOOR.min(0.5 / chances.len() as f64);
            prop_assert!(shares.iter().all(|share| *share >= floor - 1e-9));

            let now = &now[..shares.len()];
            let all: f64 = now.iter().sum();
            let now: Vec<f64> = now.iter().map(|share| share / all).collect();
            let next = step(&now, &shares);
            let moved: f64 = next.iter().zip(&now).map(|(a, b)| (a - b).max(0.0)).sum();
            prop_assert!(moved <= LARGEST_MOVE + 1e-9);
            prop_assert!((next.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }
}
