//! What is counted of one experiment, and what the verdicts are made of.
//!
//! [`Evidence`] takes in finished requests one by one and keeps, for each *epoch* (a revision of the
//! experiment: its shares did not change meanwhile) and each variant, counts, means and sketches,
//! never requests. Its size does not depend on traffic, and it merges exactly.
//!
//! # How to use it
//!
//! ```
//! use policies::evidence::{Evidence, Exposure, UnitKind};
//! use policies::guardrail::{self, Alphas, Guardrail, Metric, Tables};
//! use policies::Outcome;
//! use policies::statistics::{Verdict, rule::Reached};
//!
//! // One for each experiment, in the recorder. Variants are numbered; a number is never used for
//! // another variant while the evidence lives.
//! let mut evidence = Evidence::new(UnitKind::Request);
//! // When a revision comes into force: its shares in basis points, by variant.
//! evidence.open(7, &[9500, 500]);
//! // For each finished, *eligible* request (dealt by hash, not refused).
//! for request in 0..100_000_u64 {
//!     let variant = u8::from(request % 20 == 0);
//!     evidence.add(&Exposure {
//!         unit: request,
//!         revision: 7,
//!         variant,
//!         outcome: if request % 60 == 0 { Outcome::Timeout } else { Outcome::Ok },
//!         duration_micros: Some(80_000),
//!         ..Exposure::default()
//!     });
//! }
//! // At every look, after `guardrail::marks_due` froze what can be frozen:
//! let failed = Guardrail::new(Metric::Failed);
//! let mut tables = Tables::default();
//! let alphas = Alphas { breach: 0.01, held: 0.05 };
//! let judged =
//!     guardrail::judge(&evidence, 1, 0, &failed, alphas, Reached::default(), &mut tables);
//! assert_eq!(judged.verdict, Verdict::Breached);
//! ```
//!
//! * `add` for requests that ended; [`Evidence::count_begun`] for how many have begun, so that a
//!   slow variant is not taken for one without traffic; [`Evidence::add_feedback`] whenever feedback
//!   arrives, filed under the exposure's epoch.
//! * Latency is judged by counts above *marks*, frozen from control while an epoch runs:
//!   [`guardrail::marks_due`](crate::guardrail::marks_due) says which can be frozen now, and
//!   [`Evidence::freeze`] does it; later it replaces those that have become stale. Only what ends
//!   afterwards is counted. If there are replicas, all of them must be given the same marks.
//! * A replica sends the whole of its evidence ([`Evidence::to_bytes`]) as often as it likes;
//!   [`Replicas`] keeps the newest of each and adds them up.
//! * [`ramp::look`](crate::ramp::look) and [`guardrail::judge`](crate::guardrail::judge) read it.
//!
//! # Independence
//!
//! Where the request itself is the unit, every request is dealt anew and requests are what is
//! counted. A *sticky* unit is one throw of the dice, however busy it is. So there yes/no events
//! count affected units, each once, and means (slowness too) take their spread from 200 groups of
//! units: a busy client cannot roll back a release.
//!
//! # Size
//!
//! Bounded, whatever the traffic. For a variant and epoch 1 KiB, where units are sticky also up to
//! 40 KiB for slowness and 3.2 KiB for each metric; in the newest [`SKETCHED_EPOCHS`] epochs also 7
//! KiB for each timing that is known, and the same once more for each variant over all older epochs.
//! Where units are sticky, also sets of affected ([`MOST_AFFECTED`] for each of three events) and
//! sampled units ([`MOST_SAMPLED`]): together at most some 3 MiB, four times that when merged. There
//! are at most [`MOST_EPOCHS`] epochs; after that the oldest is let go of when a new one comes. A
//! ramp with two variants and seven epochs takes 0.2 MiB with requests as units, 1 MiB with 20,000
//! sticky ones.

mod bytes;
mod read;
mod replicas;
mod slow;
mod tally;
#[cfg(test)]
mod tests;
mod units;

pub use bytes::EvidenceFault;
pub use read::Compared;
pub use replicas::{Replicas, Source};
pub use slow::{
    MOST_FORGIVEN, MOST_REPLACED, Marks, Neighbour, SlowMemo, SlowTally, Slowness, Timing,
};
pub use tally::{EpochTally, Latencies, MeanTally, VariantTally};
pub use units::{UnitCount, Units, mix64};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::statistics::moments::{Cap, Groups};
use units::{ANSWERED, Place, SERVED};

/// Most epochs that are kept.
pub const MOST_EPOCHS: usize = 64;
/// The newest so many epochs have latency sketches of their own.
pub const SKETCHED_EPOCHS: usize = 4;
/// Most affected units of an event, all variants together; then the set is closed for good.
pub const MOST_AFFECTED: usize = 8_192;
/// Most sampled units, all variants together; then the sample is closed for good.
pub const MOST_SAMPLED: usize = 65_536;
/// So many units should be sampled in an experiment's life.
pub const EXPECTED_SAMPLE: f64 = 20_000.0;
/// Most feedback metrics.
pub const MOST_METRICS: usize = 16;
/// Feedback beyond this, either way, is no measurement.
const LARGEST_VALUE: f64 = 1e15;

/// What is dealt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UnitKind {
    /// Each request by itself.
    Request,
    /// Something that lasts: a user, a conversation, a key.
    Sticky {
        /// The part of units that is sampled, above 0 and at most 1: [`UnitKind::sticky`].
        rate: f64,
    },
}

impl UnitKind {
    /// Sticky units, of which so many are expected in the experiment's life: sampled so that
    /// [`EXPECTED_SAMPLE`] of them are kept.
    pub fn sticky(expected_units: f64) -> Self {
        let rate = EXPECTED_SAMPLE / expected_units;
        Self::Sticky { rate: if rate > 0.0 { rate.min(1.0) } else { 1.0 } }
    }

    fn is_sticky(self) -> bool {
        matches!(self, Self::Sticky { .. })
    }

    fn samples(self, mixed: u64) -> bool {
        match self {
            Self::Request => false,
            Self::Sticky { rate } => (mixed as f64) < rate * 2_f64.powi(64),
        }
    }
}

/// What one finished, eligible request says.
///
/// Eligible is what the hash dealt, in an epoch in which both treated and control were open to the
/// unit; not what a header, an override or a missing unit decided, and nothing that the gateway
/// refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exposure {
    /// The keyed hash of its unit; where requests are the unit, of the request.
    pub unit: u64,
    /// The revision of the experiment that dealt it: its epoch.
    pub revision: u64,
    /// The number of the variant it was *assigned*, whoever served it.
    pub variant: u8,
    /// Whether another variant served it. Its failure at the assigned variant, if there was one, is
    /// what `outcome` must say: otherwise a rescue hides the fault that is looked for.
    pub rescued: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// The first digit of the status the client got; 0 for none.
    pub status_class: u8,
    /// End of the request's head to the end of the answer.
    pub duration_micros: Option<u64>,
    /// End of the request's head to the first byte of the answer.
    pub first_byte_micros: Option<u64>,
    /// Time for each token of the answer, where usage is known.
    pub token_time_micros: Option<u64>,
    /// Tokens read.
    pub input_tokens: Option<u64>,
    /// Tokens made.
    pub output_tokens: Option<u64>,
}

impl Default for Exposure {
    /// A good answer about which nothing else is known.
    fn default() -> Self {
        Self {
            unit: 0,
            revision: 0,
            variant: 0,
            rescued: false,
            outcome: Outcome::Ok,
            status_class: 2,
            duration_micros: None,
            first_byte_micros: None,
            token_time_micros: None,
            input_tokens: None,
            output_tokens: None,
        }
    }
}

impl Exposure {
    fn micros(&self, timing: Timing) -> Option<u64> {
        match timing {
            Timing::Duration => self.duration_micros,
            Timing::FirstByte => self.first_byte_micros,
            Timing::TokenTime => self.token_time_micros,
        }
    }
}

/// Something that happens to a request, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The backend failed, was too slow, or broke off.
    Failed,
    /// The backend answered 4xx: a new model that refuses valid input shows here.
    ClientError,
    /// The client left before the end.
    Aborted,
}

impl Event {
    /// Every event, in the order of [`Event::index`].
    pub const ALL: [Self; 3] = [Self::Failed, Self::ClientError, Self::Aborted];

    /// Its place in [`Event::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether a request that ended like this had the event.
    pub const fn is(self, outcome: Outcome) -> bool {
        match self {
            Self::Failed => outcome.is_failure(),
            Self::ClientError => matches!(outcome, Outcome::ClientError),
            Self::Aborted => matches!(outcome, Outcome::ClientAborted),
        }
    }
}

/// Everything that is counted of one experiment, by one replica or by several together.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    unit: UnitKind,
    /// Rises with every change; says which of two messages of a replica is newer.
    sequence: u64,
    /// By revision.
    epochs: BTreeMap<u64, EpochTally>,
    /// Times of epochs that have no sketches of their own any more, by variant.
    older: BTreeMap<u8, Latencies>,
    /// Units with at least one event, by [`Event::index`]; empty where requests are the unit.
    affected: [Units; Event::ALL.len()],
    /// A sample of all units; empty where requests are the unit.
    sampled: Units,
    /// Caps of metrics with heavy tails.
    caps: BTreeMap<Box<str>, f64>,
}

impl Evidence {
    /// Nothing counted yet.
    pub fn new(unit: UnitKind) -> Self {
        Self {
            unit,
            sequence: 0,
            epochs: BTreeMap::new(),
            older: BTreeMap::new(),
            affected: std::array::from_fn(|_| Units::new(MOST_AFFECTED)),
            sampled: Units::new(MOST_SAMPLED),
            caps: BTreeMap::new(),
        }
    }

    /// What is dealt.
    pub fn unit(&self) -> UnitKind {
        self.unit
    }

    /// How often it changed.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The epochs, by revision.
    pub fn epochs(&self) -> &BTreeMap<u64, EpochTally> {
        &self.epochs
    }

    /// A revision comes into force, with these shares in basis points, by variant. What is said
    /// once stays. Exposures may come before; they are compared once the shares are known.
    pub fn open(&mut self, revision: u64, shares: &[u16]) {
        if self.epochs.get(&revision).is_some_and(|epoch| epoch.shares.is_some()) {
            return;
        }
        if let Some(epoch) = self.epoch(revision) {
            epoch.shares = Some(shares.to_vec());
            self.sequence += 1;
        }
    }

    /// Freezes marks in an epoch: what ends from now on is counted above them. What was counted above
    /// earlier ones of the epoch still counts, as what it was.
    pub fn freeze(&mut self, revision: u64, slowness: Slowness, marks: Marks) {
        let Some(epoch) = self.epoch(revision) else { return };
        if epoch.freeze(slowness, marks) {
            self.sequence += 1;
        }
    }

    /// Values of a feedback metric above `cap` count as it from now on; the first cap stays. Taken
    /// from control at the end of warm-up, such as its 99.9 % quantile. Ignored if there are too
    /// many metrics.
    pub fn set_cap(&mut self, metric: &str, cap: f64) {
        let is_known = self.caps.contains_key(metric) || self.caps.len() >= MOST_METRICS;
        if cap.is_finite() && !is_known {
            self.caps.insert(metric.into(), cap);
            self.sequence += 1;
        }
    }

    /// Counts one exposure; false if its epoch is too old to be kept.
    pub fn add(&mut self, exposure: &Exposure) -> bool {
        self.add_many(exposure, 1)
    }

    /// Counts so many exposures of one unit that are alike, at the cost of one.
    pub fn add_many(&mut self, exposure: &Exposure, count: u64) -> bool {
        if count == 0 {
            return true;
        }
        let sticky = self.unit.is_sticky();
        let Some(epoch) = self.epoch(exposure.revision) else { return false };
        let tally = epoch.variants.entry(exposure.variant).or_default();
        tally.add(exposure, sticky, count);
        if exposure.outcome != Outcome::GatewayError {
            let group = sticky.then(|| Groups::group_of(exposure.unit));
            tally.add_times(exposure, &epoch.marks, group, count);
            self.fold_if_old(exposure.revision, exposure.variant);
        }
        if sticky {
            let mixed = mix64(exposure.unit);
            let place = Place { revision: exposure.revision, variant: exposure.variant };
            if self.unit.samples(mixed) {
                let served = if exposure.rescued { 0 } else { SERVED };
                self.sampled.see(mixed, place, served);
            }
            let events = Event::ALL.into_iter().filter(|event| event.is(exposure.outcome));
            for event in events {
                self.affected[event.index()].see(mixed, place, 0);
            }
        }
        self.sequence += 1;
        true
    }

    /// So many eligible requests of a variant have begun in an epoch, in all; the larger of two
    /// statements stands.
    ///
    /// Without it a variant whose answers take longer seems to get fewer requests for a while, or
    /// none, which would roll a ramp back. It is of no use to samples of sticky units, which are
    /// taken from requests that ended.
    pub fn count_begun(&mut self, revision: u64, variant: u8, begun: u64) {
        let Some(epoch) = self.epoch(revision) else { return };
        let tally = epoch.variants.entry(variant).or_default();
        if begun > tally.begun {
            tally.begun = begun;
            self.sequence += 1;
        }
    }

    /// Counts feedback on an exposure of this epoch, variant and unit: yes is 1, no is 0.
    ///
    /// False, and nothing counted, if the value is no finite number, the epoch is too old, or there
    /// are too many metrics.
    pub fn add_feedback(
        &mut self,
        metric: &str,
        revision: u64,
        variant: u8,
        unit: u64,
        value: f64,
    ) -> bool {
        let sticky = self.unit.is_sticky().then_some(unit);
        if value.is_nan() || value.abs() > LARGEST_VALUE {
            return false;
        }
        let cap = self.caps.get(metric).copied();
        let (value, cut) = cap.map_or((value, false), |cap| Cap(cap).apply(value));
        let Some(epoch) = self.epoch(revision) else { return false };
        let tally = epoch.variants.entry(variant).or_default();
        let Some(mean) = tally.metric(metric) else { return false };
        mean.add(value, cut, sticky, 1);
        // Who answers was there, even if another replica knows of that: so order does not matter.
        if let Some(mixed) = sticky.map(mix64).filter(|mixed| self.unit.samples(*mixed)) {
            self.sampled.see(mixed, Place { revision, variant }, ANSWERED);
        }
        self.sequence += 1;
        true
    }

    /// Adds everything another replica has counted. In any order, split in any way; but twice counts
    /// twice: [`Replicas`] sees to that.
    pub fn merge(&mut self, other: &Self) {
        // Two rates would make two samples; the smaller one is in both.
        if let (UnitKind::Sticky { rate: mine }, UnitKind::Sticky { rate }) =
            (&mut self.unit, other.unit)
        {
            *mine = mine.min(rate);
        }
        self.sequence = self.sequence.saturating_add(other.sequence);
        for (revision, theirs) in &other.epochs {
            self.epochs.entry(*revision).or_default().merge(theirs);
        }
        for (variant, theirs) in &other.older {
            self.older.entry(*variant).or_default().merge(theirs);
        }
        for (mine, theirs) in self.affected.iter_mut().zip(&other.affected) {
            mine.merge(theirs);
        }
        self.sampled.merge(&other.sampled);
        for (metric, cap) in &other.caps {
            let mine = self.caps.entry(metric.clone()).or_insert(*cap);
            *mine = mine.min(*cap);
        }
        self.let_go();
    }

    /// The same from a revision on: for showing what happened since. A unit counts where it was first
    /// seen, so one that was there before is not among the units of what is left.
    #[must_use]
    pub fn since(&self, revision: u64) -> Self {
        let mut later = self.clone();
        later.epochs = later.epochs.split_off(&revision);
        later.older.clear();
        later
    }

    /// The epoch of a revision, made if new; `None` if it is older than all that are kept.
    fn epoch(&mut self, revision: u64) -> Option<&mut EpochTally> {
        if !self.epochs.contains_key(&revision) {
            let oldest = self.epochs.keys().next();
            let is_full = self.epochs.len() >= MOST_EPOCHS;
            if is_full && oldest.is_some_and(|oldest| revision < *oldest) {
                return None;
            }
            self.epochs.insert(revision, EpochTally::default());
            self.let_go();
        }
        self.epochs.get_mut(&revision)
    }

    /// A late request of an epoch that has no sketches of its own any more.
    fn fold_if_old(&mut self, revision: u64, variant: u8) {
        if self.epochs.range(revision..).nth(SKETCHED_EPOCHS).is_none() {
            return;
        }
        let tally =
            self.epochs.get_mut(&revision).and_then(|epoch| epoch.variants.get_mut(&variant));
        if let Some(latencies) = tally.and_then(|tally| tally.latencies.take()) {
            self.older.entry(variant).or_default().merge(&latencies);
        }
    }

    /// Keeps the newest epochs, and sketches of the newest of those. Which these are depends on the
    /// revisions alone, so it is the same in whatever order evidence was merged.
    fn let_go(&mut self) {
        while self.epochs.len() > MOST_EPOCHS {
            if let Some((_, gone)) = self.epochs.pop_first() {
                fold(gone, &mut self.older);
            }
        }
        let old = self.epochs.len().saturating_sub(SKETCHED_EPOCHS);
        for epoch in self.epochs.values_mut().take(old) {
            for (variant, tally) in &mut epoch.variants {
                if let Some(latencies) = tally.latencies.take() {
                    self.older.entry(*variant).or_default().merge(&latencies);
                }
            }
        }
    }
}

fn fold(epoch: EpochTally, older: &mut BTreeMap<u8, Latencies>) {
    for (variant, tally) in epoch.variants {
        if let Some(latencies) = tally.latencies {
            older.entry(variant).or_default().merge(&latencies);
        }
    }
}
