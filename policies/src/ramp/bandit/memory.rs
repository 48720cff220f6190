//! What is known of all arms: strata of time, added up.
//!
//! Failures and load move over a day, and shares move with what is known. Whoever got much when all was
//! well looks good if everything is thrown together (Simpson), gets more, and looks better still. So arms
//! are compared within a stratum, a stretch in which shares did not change, and strata are added up with
//! the same weights for every arm:
//!
//! ```text
//! h = 1 / sum_k 1/n_k;   mean_k = sum(h*m_k)/sum(h);   n_k = sum(h)^2 / sum(h*h/n_k);   var_k = sum(h*h*v_k/n_k)/sum(h)^2
//! ```
//!
//! the weights of `statistics::mean` for two arms. With one stratum these are the plain counts.

use serde::{Deserialize, Serialize};

use super::belief::{Counted, Totals};
use crate::statistics::bandit::Posterior;

/// Fewer values of an arm make no stratum.
const LEAST: f64 = 2.0;

/// The strata so far, and where the open one began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// The sum of weights.
    weight: f64,
    /// What each arm adds up to, and control, last.
    arms: Vec<ArmMemory>,
    /// The revision of the open stratum.
    revision: u64,
    /// Who took part in it: places of arms, control is the last.
    places: Vec<usize>,
    /// When what is known faded last, in seconds since 1970.
    at: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct ArmMemory {
    /// Sums of `h*m`, `h*h/n` and `h*h*v/n`.
    means: f64,
    sizes: f64,
    spreads: f64,
    /// Values and events.
    values: f64,
    events: f64,
    /// What had been counted in this revision when the open stratum began.
    before: Totals,
}

/// What is known of one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Belief {
    pub(super) values: f64,
    pub(super) events: f64,
    /// `None` while nothing is known.
    pub(super) posterior: Option<Posterior>,
}

impl Memory {
    /// One look: fades what is known by `decay` a day, and begins another stratum if somebody else takes
    /// part or another revision is in force.
    pub(super) fn look(
        &mut self,
        counted: &[Counted],
        (revision, places): (u64, &[usize]),
        now: u64,
        decay: f64,
    ) {
        self.arms.resize_with(counted.len(), ArmMemory::default);
        let days = now.saturating_sub(self.at) as f64 / 86_400.0;
        self.fade((1.0 - decay).powf(days));
        self.at = now;
        let is_gone = |(arm, counted): (&ArmMemory, &Counted)| {
            counted.totals.values < arm.before.values / 2.0
        };
        let joined = places.iter().any(|place| !self.places.contains(place));
        if self.revision == revision && self.arms.iter().zip(counted).any(is_gone) {
            // The evidence began anew: another backend.
            *self = Self {
                arms: vec![ArmMemory::default(); counted.len()],
                at: now,
                ..Self::default()
            };
        } else if joined && !self.places.is_empty() {
            // Whoever comes later was not there in earlier strata, and cannot be compared over them.
            let arms = self
                .arms
                .iter()
                .map(|arm| ArmMemory { before: arm.before, ..ArmMemory::default() });
            *self = Self { arms: arms.collect(), weight: 0.0, ..self.clone() };
        }
        if self.revision != revision {
            // What the last one had beyond its closed strata is left out: its shares are gone.
            self.arms.iter_mut().for_each(|arm| arm.before = Totals::default());
            self.revision = revision;
        }
        self.places = places.to_vec();
    }

    fn fade(&mut self, part: f64) {
        self.weight *= part;
        for arm in &mut self.arms {
            arm.means *= part;
            arm.sizes *= part * part;
            arm.spreads *= part * part;
            arm.values *= part;
            arm.events *= part;
        }
    }

    /// The open stratum is over, if everybody who takes part was seen in it; a new one begins.
    pub(super) fn close(&mut self, counted: &[Counted]) {
        if self.add_open(counted) {
            for (arm, counted) in self.arms.iter_mut().zip(counted) {
                arm.before = counted.totals;
            }
        }
    }

    /// Adds the open stratum; false if there is none worth it.
    fn add_open(&mut self, counted: &[Counted]) -> bool {
        let open: Vec<(usize, Totals)> = self
            .places
            .iter()
            .filter_map(|place| {
                Some((*place, counted.get(*place)?.totals.since(self.arms.get(*place)?.before)))
            })
            .collect();
        if open.is_empty() || open.iter().any(|(_, new)| new.values < LEAST) {
            return false;
        }
        let h = 1.0 / open.iter().map(|(_, new)| 1.0 / new.values).sum::<f64>();
        self.weight += h;
        for (place, new) in open {
            let arm = &mut self.arms[place];
            arm.means += h * new.mean;
            arm.sizes += h * h / new.values;
            arm.spreads += h * h * new.squares / (new.values - 1.0) / new.values;
            arm.values += new.values;
            arm.events += new.events;
        }
        true
    }

    /// What is known of each arm, with the open stratum.
    pub(super) fn beliefs(&self, counted: &[Counted]) -> Vec<Belief> {
        let mut with_open = self.clone();
        with_open.arms.resize_with(counted.len(), ArmMemory::default);
        with_open.add_open(counted);
        let weight = with_open.weight;
        let each = with_open.arms.iter().zip(counted);
        each.map(|(arm, counted)| Belief {
            values: arm.values,
            events: arm.events,
            posterior: posterior(arm, weight, counted),
        })
        .collect()
    }
}

fn posterior(arm: &ArmMemory, weight: f64, counted: &Counted) -> Option<Posterior> {
    if !(weight > 0.0 && arm.sizes > 0.0) {
        return None;
    }
    let mean = arm.means / weight;
    let posterior = if counted.is_yes_or_no {
        let size = weight * weight / arm.sizes;
        Posterior::of_rate(mean * size, size)
    } else {
        Posterior { mean, variance: arm.spreads / (weight * weight) }
    };
    let variance = posterior.variance * counted.inflation;
    (posterior.mean.is_finite() && variance.is_finite())
        .then_some(Posterior { variance, ..posterior })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(all: &[(f64, f64)]) -> Vec<Counted> {
        let each = all.iter().map(|(events, values)| Counted {
            totals: Totals::of_events(*events, *values),
            ..Counted::nothing()
        });
        each.collect()
    }

    fn look(memory: &mut Memory, revision: u64, now: u64, all: &[(f64, f64)]) {
        memory.look(&counted(all), (revision, &[0, 1]), now, 0.0);
    }

    #[test]
    fn one_stratum_is_the_plain_counts() {
        let mut memory = Memory::default();
        let all = [(30.0, 1_000.0), (95.0, 3_000.0)];
        look(&mut memory, 5, 100, &all);
        let open = memory.beliefs(&counted(&all));
        memory.close(&counted(&all));
        assert_eq!(memory.beliefs(&counted(&all)), open, "open or closed");
        for (belief, (events, values)) in open.iter().zip([(30, 1_000), (95, 3_000)]) {
            let (got, want) = (belief.posterior.unwrap(), Posterior::of_events(events, values));
            assert!((got.mean - want.mean).abs() < 1e-9, "{belief:?}");
            assert!((got.variance - want.variance).abs() < 1e-12, "{belief:?}");
        }
    }

    /// Both fail alike, 10 % in the morning and 1 % in the evening; one got most of the evening.
    #[test]
    fn whoever_got_much_when_all_was_well_does_not_look_better() {
        let mut memory = Memory::default();
        let morning = [(10.0, 100.0), (990.0, 9_900.0)];
        look(&mut memory, 5, 100, &morning);
        memory.close(&counted(&morning));
        let evening = [(90.0, 9_000.0), (10.0, 1_000.0)];
        look(&mut memory, 6, 200, &evening);
        let beliefs = memory.beliefs(&counted(&evening));
        let mean = |at: usize| beliefs[at].posterior.unwrap().mean;
        assert!((mean(0) - mean(1)).abs() < 0.001, "{beliefs:?}");
        assert_eq!((beliefs[0].values, beliefs[1].values), (9_100.0, 10_900.0));
    }

    #[test]
    fn what_is_known_fades_and_what_is_new_does_not() {
        let mut memory = Memory::default();
        let before = [(40.0, 400.0), (40.0, 400.0)];
        memory.look(&counted(&before), (5, &[0, 1]), 1_000, 0.5);
        memory.close(&counted(&before));
        memory.look(&counted(&before), (5, &[0, 1]), 1_000 + 86_400, 0.5);
        let kept = memory.beliefs(&counted(&before))[0];
        assert!((kept.values - 200.0).abs() < 1e-9 && (kept.events - 20.0).abs() < 1e-9);
        let later = [(140.0, 600.0), (40.0, 600.0)];
        let kept = memory.beliefs(&counted(&later));
        // Half of 10 % of the past and 50 % of as many now.
        assert!((kept[0].posterior.unwrap().mean - 0.3).abs() < 0.01, "{kept:?}");
        assert!((kept[1].posterior.unwrap().mean - 0.05).abs() < 0.01, "{kept:?}");
    }

    #[test]
    fn a_crash_costs_a_second_and_evidence_that_began_anew_costs_all() {
        let mut memory = Memory::default();
        let all = [(10.0, 1_000.0), (10.0, 1_000.0)];
        look(&mut memory, 5, 100, &all);
        memory.close(&counted(&all));
        let less = [(10.0, 990.0), (10.0, 995.0)];
        look(&mut memory, 5, 101, &less);
        assert_eq!(memory.beliefs(&counted(&less))[0].values, 1_000.0);
        let anew = [(1.0, 10.0), (1.0, 20.0)];
        look(&mut memory, 5, 102, &anew);
        assert_eq!(memory.beliefs(&counted(&anew))[0].values, 10.0);
    }

    #[test]
    fn whoever_comes_later_is_compared_from_then_on() {
        let mut memory = Memory::default();
        let all = [(0.0, 0.0), (10.0, 1_000.0), (10.0, 1_000.0)];
        memory.look(&counted(&all), (5, &[1, 2]), 100, 0.0);
        memory.close(&counted(&all));
        assert_eq!(memory.beliefs(&counted(&all))[1].values, 1_000.0);
        let all = [(1.0, 50.0), (1.0, 50.0), (1.0, 50.0)];
        memory.look(&counted(&all), (6, &[0, 1, 2]), 200, 0.0);
        let values: Vec<f64> =
            memory.beliefs(&counted(&all)).iter().map(|each| each.values).collect();
        assert_eq!(values, [50.0; 3]);
        // Who leaves takes nothing along.
        memory.close(&counted(&all));
        memory.look(&counted(&all), (6, &[1, 2]), 300, 0.0);
        assert_eq!(memory.beliefs(&counted(&all))[1].values, 50.0);
    }
}
