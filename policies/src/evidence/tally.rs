//! What one variant did in one epoch.

use std::collections::BTreeMap;

use super::slow::{Marks, SlowTally, Slowness, Timing};
use super::{Exposure, MOST_METRICS};
use crate::outcome::Outcome;
use crate::sketch::{self, Sketch};
use crate::statistics::mean::Arm;
use crate::statistics::moments::{Groups, Moments};

/// Times of one variant, a sketch for each [`Timing`] that was ever known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    sketches: [Option<Sketch>; Timing::ALL.len()],
}

impl Latencies {
    /// The sketch of a timing; `None` if it was never known.
    pub fn of(&self, timing: Timing) -> Option<&Sketch> {
        self.sketches[timing.index()].as_ref()
    }

    pub(super) fn of_mut(&mut self, timing: Timing) -> &mut Sketch {
        self.sketches[timing.index()].get_or_insert_with(Sketch::new)
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.sketches.iter_mut().zip(&other.sketches) {
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => mine.merge(theirs),
                (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
                (_, None) => {}
            }
        }
    }
}

/// Numbers of one variant in one epoch, on their way to a mean.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeanTally {
    /// Count, mean, spread.
    pub moments: Moments,
    /// The same by groups of units, where units are sticky.
    pub groups: Option<Groups>,
    /// How many were above the metric's cap, and counted as the cap.
    pub capped: u64,
    /// How many were neither 0 nor 1: none of yes and no.
    pub fractional: u64,
}

impl MeanTally {
    /// Counts a value so many times.
    pub(super) fn add(&mut self, value: f64, capped: bool, sticky_unit: Option<u64>, count: u64) {
        let if_so = |yes: bool| if yes { count } else { 0 };
        let nonzero = if_so(value != 0.0);
        self.moments.merge(&Moments { n: count, mean: value, m2: 0.0, nonzero });
        self.capped = self.capped.saturating_add(if_so(capped));
        let is_fraction = value != 0.0 && value != 1.0;
        self.fractional = self.fractional.saturating_add(if_so(is_fraction));
        if let Some(unit) = sticky_unit {
            self.groups.get_or_insert_with(Groups::default).add_many(unit, value, count);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.moments.merge(&other.moments);
        self.capped = self.capped.saturating_add(other.capped);
        self.fractional = self.fractional.saturating_add(other.fractional);
        if let Some(theirs) = &other.groups {
            self.groups.get_or_insert_with(Groups::default).merge(theirs);
        }
    }

    /// One side of a comparison; `None` while too little is known.
    pub fn arm(&self) -> Option<Arm> {
        match &self.groups {
            Some(groups) => Arm::of_units(&self.moments, groups),
            None => Arm::of_requests(&self.moments),
        }
    }
}

/// What one variant did in one epoch. Eligible exposures only, each filed under the variant it was
/// assigned, whoever served it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VariantTally {
    /// Finished exposures, by [`Outcome::index`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Finished exposures by the first digit of the status the client got; 0: none.
    pub statuses: [u64; 6],
    /// Eligible exposures that have begun, where the caller counts those; else 0.
    pub begun: u64,
    /// Exposures that another variant served.
    pub rescued: u64,
    /// Slow ones, by [`Slowness::index`].
    pub slow: [SlowTally; Slowness::ALL.len()],
    /// Tokens read.
    pub input_tokens: MeanTally,
    /// Tokens made.
    pub output_tokens: MeanTally,
    /// Feedback, by metric.
    pub feedback: BTreeMap<Box<str>, MeanTally>,
    /// Times; `None` once the epoch is old, see [`Evidence::latencies`](super::Evidence::latencies).
    pub latencies: Option<Box<Latencies>>,
}

impl VariantTally {
    /// Finished exposures that say something about the variant: all but those that the gateway
    /// itself failed.
    pub fn exposures(&self) -> u64 {
        let ours = self.outcomes[Outcome::GatewayError.index()];
        self.finished().saturating_sub(ours)
    }

    /// Finished exposures.
    pub fn finished(&self) -> u64 {
        self.outcomes.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))
    }

    /// Exposures that have begun, as far as is known.
    pub fn assigned(&self) -> u64 {
        self.begun.max(self.finished())
    }

    /// Finished exposures that failed by the variant's fault.
    pub fn failed(&self) -> u64 {
        let failures = Outcome::ALL.iter().filter(|outcome| outcome.is_failure());
        failures.map(|outcome| self.outcomes[outcome.index()]).fold(0, u64::saturating_add)
    }

    pub(super) fn add(&mut self, exposure: &Exposure, sticky: bool, count: u64) {
        let step = |counted: &mut u64| *counted = counted.saturating_add(count);
        step(&mut self.outcomes[exposure.outcome.index()]);
        step(&mut self.statuses[usize::from(exposure.status_class).min(5)]);
        if exposure.rescued {
            step(&mut self.rescued);
        }
        if exposure.outcome == Outcome::GatewayError {
            return;
        }
        let unit = sticky.then_some(exposure.unit);
        if let Some(tokens) = exposure.input_tokens {
            self.input_tokens.add(tokens as f64, false, unit, count);
        }
        if let Some(tokens) = exposure.output_tokens {
            self.output_tokens.add(tokens as f64, false, unit, count);
        }
    }

    /// Counts the exposure's times above marks, and in the sketches.
    pub(super) fn add_times(
        &mut self,
        exposure: &Exposure,
        marks: &[Option<Marks>; Slowness::ALL.len()],
        group: Option<usize>,
        count: u64,
    ) {
        for timing in Timing::ALL {
            let Some(micros) = exposure.micros(timing) else { continue };
            let bucket = sketch::bucket_of_micros(micros);
            self.latencies.get_or_insert_default().of_mut(timing).add_count(bucket, count);
            for slowness in Slowness::ALL.into_iter().filter(|each| each.timing() == timing) {
                if let Some(marks) = &marks[slowness.index()] {
                    self.slow[slowness.index()].add(bucket, marks, group, count);
                }
            }
        }
    }

    /// The tally of a metric; `None` if there are too many metrics already.
    pub(super) fn metric(&mut self, name: &str) -> Option<&mut MeanTally> {
        if !self.feedback.contains_key(name) {
            if self.feedback.len() >= MOST_METRICS {
                return None;
            }
            self.feedback.insert(name.into(), MeanTally::default());
        }
        self.feedback.get_mut(name)
    }

    /// Adds everything but what was slow, which depends on the epoch's marks.
    fn merge(&mut self, other: &Self) {
        let add = |mine: &mut [u64], theirs: &[u64]| {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine = mine.saturating_add(*theirs);
            }
        };
        add(&mut self.outcomes, &other.outcomes);
        add(&mut self.statuses, &other.statuses);
        self.begun = self.begun.saturating_add(other.begun);
        self.rescued = self.rescued.saturating_add(other.rescued);
        self.input_tokens.merge(&other.input_tokens);
        self.output_tokens.merge(&other.output_tokens);
        for (name, theirs) in &other.feedback {
            self.feedback.entry(name.clone()).or_default().merge(theirs);
        }
        // Replicas that took in different metrics: the first by name, the same in every order.
        while self.feedback.len() > 4 * MOST_METRICS {
            self.feedback.pop_last();
        }
        if let Some(theirs) = &other.latencies {
            self.latencies.get_or_insert_default().merge(theirs);
        }
    }
}

static NONE: SlowTally = SlowTally::nothing();

/// A stretch in which the shares did not change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EpochTally {
    /// The share of each variant in basis points, by its number; `None` until
    /// [`Evidence::open`](super::Evidence::open) says them. Without them nothing is compared.
    pub shares: Option<Vec<u16>>,
    /// Frozen marks, by [`Slowness::index`].
    pub marks: [Option<Marks>; Slowness::ALL.len()],
    /// What each variant did.
    pub variants: BTreeMap<u8, VariantTally>,
    /// What was slow above marks that had stopped saying anything and were replaced, by variant.
    pub(super) earlier: BTreeMap<(Slowness, Marks), BTreeMap<u8, SlowTally>>,
}

/// Counts above one epoch's marks: the marks, `T`, `C`.
pub(super) type Stretch<'a> = (&'a Marks, &'a SlowTally, &'a SlowTally);

impl EpochTally {
    /// A variant's share in basis points; 0 where unknown.
    pub fn share(&self, variant: u8) -> u16 {
        let shares = self.shares.as_deref().unwrap_or_default();
        shares.get(usize::from(variant)).copied().unwrap_or(0)
    }

    /// The chance that an eligible request of `T` or `C` went to `T`; `None` unless both were open
    /// to it.
    pub fn pi(&self, treated: u8, control: u8) -> Option<f64> {
        let (t, c) = (f64::from(self.share(treated)), f64::from(self.share(control)));
        (t > 0.0 && c > 0.0).then(|| t / (t + c))
    }

    /// How often marks of this slowness were replaced.
    pub(crate) fn replaced(&self, slowness: Slowness) -> usize {
        self.earlier.keys().filter(|(of, _)| *of == slowness).count()
    }

    /// Freezes marks; what was counted above others before is kept as it is. Whether they are new.
    pub(super) fn freeze(&mut self, slowness: Slowness, marks: Marks) -> bool {
        let at = slowness.index();
        if self.marks[at].as_ref() == Some(&marks) {
            return false;
        }
        if let Some(before) = self.marks[at].replace(marks) {
            let counts = self.earlier.entry((slowness, before)).or_default();
            for (number, tally) in &mut self.variants {
                counts.entry(*number).or_default().merge(&std::mem::take(&mut tally.slow[at]));
            }
        }
        // These were in force before: it goes on where it stopped.
        let again =
            self.marks[at].clone().and_then(|marks| self.earlier.remove(&(slowness, marks)));
        for (number, counts) in again.into_iter().flatten() {
            self.variants.entry(number).or_default().slow[at].merge(&counts);
        }
        true
    }

    /// What `T` and `C` did above each of the epoch's marks, those in force first.
    pub(super) fn stretches(
        &self,
        slowness: Slowness,
        treated: u8,
        control: u8,
    ) -> impl Iterator<Item = Stretch<'_>> {
        let at = slowness.index();
        let now = self.marks[at].iter().map(move |marks| {
            let of = |variant| self.variants.get(&variant).map_or(&NONE, |tally| &tally.slow[at]);
            (marks, of(treated), of(control))
        });
        let earlier = self.earlier.iter().filter(move |((of, _), _)| *of == slowness);
        now.chain(earlier.map(move |((_, marks), counts)| {
            let of = |variant| counts.get(&variant).unwrap_or(&NONE);
            (marks, of(treated), of(control))
        }))
    }

    pub(super) fn merge(&mut self, other: &Self) {
        // Of two statements about one revision the larger stands, whoever came first.
        if other.shares > self.shares {
            self.shares.clone_from(&other.shares);
        }
        for (number, theirs) in &other.variants {
            self.variants.entry(*number).or_default().merge(theirs);
        }
        for at in 0..self.marks.len() {
            self.merge_slow(other, at);
        }
        for (marks, counts) in &other.earlier {
            let mine = self.earlier.entry(marks.clone()).or_default();
            for (number, theirs) in counts {
                mine.entry(*number).or_default().merge(theirs);
            }
        }
    }

    /// Counts above different marks cannot be added: those of the larger marks stand.
    fn merge_slow(&mut self, other: &Self, at: usize) {
        if other.marks[at] < self.marks[at] {
            return;
        }
        if other.marks[at] > self.marks[at] {
            self.marks[at].clone_from(&other.marks[at]);
            for mine in self.variants.values_mut() {
                mine.slow[at] = SlowTally::default();
            }
        }
        for (number, theirs) in &other.variants {
            if theirs.slow[at].n > 0 {
                self.variants.entry(*number).or_default().slow[at].merge(&theirs.slow[at]);
            }
        }
    }
}
