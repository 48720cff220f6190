//! What the judges ask of evidence.

use super::slow::{self, Neighbour, SlowMemo, Slowness, Timing};
use super::tally::{EpochTally, MeanTally, VariantTally};
use super::units::Units;
use super::{Event, Evidence, UnitKind};
use crate::outcome::Outcome;
use crate::sketch::Sketch;
use crate::statistics::attribution;
use crate::statistics::mean::{Arm, Strata};
use crate::statistics::moments::Moments;

impl Evidence {
    /// One variant's times over all epochs: for freezing marks. For showing, an epoch's own sketches
    /// are better, because in those nothing but the variant differs.
    pub fn latencies(&self, variant: u8, timing: Timing) -> Sketch {
        let mut all = Sketch::new();
        let tallies = self.epochs.values().filter_map(|epoch| epoch.variants.get(&variant));
        let newer = tallies.filter_map(|tally| tally.latencies.as_deref());
        for sketch in newer.chain(self.older.get(&variant)).filter_map(|each| each.of(timing)) {
            all.merge(sketch);
        }
        all
    }

    /// One variant's finished exposures over all epochs.
    pub fn exposures(&self, variant: u8) -> u64 {
        let tallies = self.epochs.values().filter_map(|epoch| epoch.variants.get(&variant));
        tallies.map(VariantTally::exposures).fold(0, u64::saturating_add)
    }

    /// The epochs in which both variants were open to units, with what each did.
    fn compared(
        &self,
        treated: u8,
        control: u8,
    ) -> impl Iterator<Item = (u64, &EpochTally, f64, &VariantTally, &VariantTally)> {
        self.epochs.iter().filter_map(move |(revision, epoch)| {
            let pi = epoch.pi(treated, control)?;
            let of = |variant| epoch.variants.get(&variant).unwrap_or(&NOTHING);
            Some((*revision, epoch, pi, of(treated), of(control)))
        })
    }

    /// Exposures of `T` and of `C`, in epochs in which they can be compared.
    pub fn compared_exposures(&self, treated: u8, control: u8) -> (u64, u64) {
        self.compared(treated, control).fold((0, 0), |(t, c), (_, _, _, of_t, of_c)| {
            (t.saturating_add(of_t.exposures()), c.saturating_add(of_c.exposures()))
        })
    }

    /// Events of `T` and `C`, epoch by epoch: requests, or where units are sticky affected units.
    pub fn events(&self, event: Event, treated: u8, control: u8) -> Vec<attribution::Epoch> {
        let of = |revision, variant, tally: &VariantTally| match self.unit {
            UnitKind::Request => match event {
                Event::Failed => tally.failed(),
                Event::ClientError => tally.outcomes[Outcome::ClientError.index()],
                Event::Aborted => tally.outcomes[Outcome::ClientAborted.index()],
            },
            UnitKind::Sticky { .. } => self.affected[event.index()].count(revision, variant).seen,
        };
        self.compared(treated, control)
            .map(|(revision, _, pi, of_t, of_c)| attribution::Epoch {
                pi,
                treated: of(revision, treated, of_t),
                control: of(revision, control, of_c),
            })
            .collect()
    }

    /// Among how many of `T` the events were: requests, or where units are sticky the estimated
    /// number of units. `None` if that is not known any more, because the sample is closed.
    pub fn trials(&self, treated: u8, control: u8) -> Option<f64> {
        match self.unit {
            UnitKind::Request => Some(self.compared_exposures(treated, control).0 as f64),
            UnitKind::Sticky { .. } if self.sampled.is_closed() => None,
            UnitKind::Sticky { rate } => {
                let units = self
                    .compared(treated, control)
                    .map(|(revision, ..)| self.sampled.count(revision, treated).seen)
                    .fold(0, u64::saturating_add);
                Some(units as f64 / rate)
            }
        }
    }

    /// The sample of units, where those are sticky.
    pub fn sampled(&self) -> &Units {
        &self.sampled
    }

    /// Units with at least one event, where units are sticky.
    pub fn affected(&self, event: Event) -> &Units {
        &self.affected[event.index()]
    }

    /// Slow requests of `T` and `C`, for each mark of each epoch, where requests are the unit. `forgiven` is a
    /// slowdown as a fraction.
    pub fn slow_events(
        &self,
        slowness: Slowness,
        (treated, control): (u8, u8),
        forgiven: f64,
        whose: Neighbour,
    ) -> Vec<attribution::Epoch> {
        let mut all = Vec::new();
        for (_, epoch, pi, ..) in self.compared(treated, control) {
            let stretches = epoch.stretches(slowness, treated, control);
            all.extend(stretches.filter_map(|(marks, of_t, of_c)| {
                slow::events(marks, (of_t, of_c), pi, forgiven, whose)
            }));
        }
        all
    }

    /// Requests of `T` and of `C` that could be slow: since marks were frozen.
    pub fn slow_exposures(&self, slowness: Slowness, (treated, control): (u8, u8)) -> (u64, u64) {
        let mut seen = (0_u64, 0_u64);
        for (_, epoch, ..) in self.compared(treated, control) {
            for (_, of_t, of_c) in epoch.stretches(slowness, treated, control) {
                seen = (seen.0.saturating_add(of_t.n), seen.1.saturating_add(of_c.n));
            }
        }
        seen
    }

    /// The same as strata of means, where units are sticky, and the moments of all strata together.
    pub fn slow_strata(
        &self,
        slowness: Slowness,
        (treated, control): (u8, u8),
        forgiven: f64,
        whose: Neighbour,
        memo: &mut SlowMemo,
    ) -> Compared {
        let mut compared = Compared::default();
        for (revision, epoch, ..) in self.compared(treated, control) {
            for (marks, of_t, of_c) in epoch.stretches(slowness, treated, control) {
                let key = (revision, slowness);
                let arms = memo.arms(key, marks, (of_t, of_c), forgiven, whose);
                let Some((of_t, of_c)) = arms else { continue };
                compared.strata.add(&of_t, &of_c);
                for (sum, arm) in [(&mut compared.treated, of_t), (&mut compared.control, of_c)] {
                    sum.merge(&moments_of(&arm));
                }
            }
        }
        compared
    }

    /// A feedback metric of `T` and `C`.
    pub fn feedback(&self, metric: &str, treated: u8, control: u8) -> Compared {
        let mut compared = Compared::default();
        for (_, _, _, of_t, of_c) in self.compared(treated, control) {
            let (of_t, of_c) = (of_t.feedback.get(metric), of_c.feedback.get(metric));
            for (sum, tally) in [(&mut compared.treated, of_t), (&mut compared.control, of_c)] {
                if let Some(tally) = tally {
                    sum.merge(&tally.moments);
                    compared.is_yes_or_no &= tally.fractional == 0;
                }
            }
            let arms = of_t.and_then(MeanTally::arm).zip(of_c.and_then(MeanTally::arm));
            if let Some((of_t, of_c)) = arms {
                compared.strata.add(&of_t, &of_c);
            }
        }
        compared
    }
}

/// Numbers of `T` and `C`, ready to be compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// By epoch, with the spread that fits the unit.
    pub strata: Strata,
    /// All values of `T`.
    pub treated: Moments,
    /// All values of `C`.
    pub control: Moments,
    /// Whether all values are 0 or 1.
    pub is_yes_or_no: bool,
}

impl Default for Compared {
    fn default() -> Self {
        Self {
            strata: Strata::default(),
            treated: Moments::default(),
            control: Moments::default(),
            is_yes_or_no: true,
        }
    }
}

/// Of zeros and ones, which is all that slowness is made of.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
fn moments_of(arm: &Arm) -> Moments {
    let n = arm.n as f64;
    let nonzero = (arm.mean * n).round() as u64;
    Moments { n: arm.n, mean: arm.mean, m2: arm.variance * (n - 1.0), nonzero }
}

static NOTHING: std::sync::LazyLock<VariantTally> = std::sync::LazyLock::new(VariantTally::default);
