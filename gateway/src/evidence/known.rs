//! What is known of one experiment: its evidence, who is who in it, and what was reached.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use policies::evidence::{Evidence, MOST_EPOCHS, UnitKind};
use policies::guardrail::{MarkWatch, Metric};
use policies::statistics::{rule, sample_ratio};
use routing::UnitSource;
use serde::{Deserialize, Serialize};

use super::Watched;
use crate::clock;
use crate::snapshot::ExperimentPlan;

/// What is known of one experiment.
#[derive(Debug)]
pub struct Known {
    /// The evidence.
    pub evidence: Evidence,
    /// What is watched.
    pub watched: Watched,
    /// Whether marks still say something.
    pub marks: MarkWatch,
    /// Everything beside it that is saved.
    pub(super) kept: Kept,
    /// Begun before this process, by revision and variant.
    pub(super) begun_before: HashMap<(u64, u8), u64>,
    // Begun in this process, and how many of those are forgotten.
    begun_here: HashMap<(u64, u8), u64>,
    begun_forgotten: HashMap<(u64, u8), u64>,
    pub(super) saved: Saved,
}

/// What is saved with the evidence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Names of variants, by number.
    pub(super) variants: Vec<String>,
    /// Their backends, by number.
    pub(super) backends: Vec<String>,
    /// Number of control.
    pub(super) control: u8,
    /// Shares in basis points by number, of each revision that was in force, and when that began
    /// (microseconds since 1970).
    pub(super) dealt: BTreeMap<u64, (i64, Vec<u16>)>,
    /// Most ever reached, by variant and metric: a breach is remembered.
    pub(super) reached: BTreeMap<u8, Vec<(Metric, rule::Reached)>>,
    /// Most ever reached against "units arrive as dealt": assigned, served, feedback.
    pub(super) sample_ratio: [sample_ratio::Reached; 3],
}

/// What of it the store has.
#[derive(Debug, Default)]
pub(super) struct Saved {
    pub(super) sequence: u64,
    pub(super) kept: Kept,
    pub(super) at: Option<Instant>,
    pub(super) bytes: usize,
    /// Whether the store has any of it.
    pub(super) is_stored: bool,
}

impl Known {
    pub(super) fn new(unit: UnitKind) -> Self {
        Self {
            evidence: Evidence::new(unit),
            watched: Watched::default(),
            marks: MarkWatch::default(),
            kept: Kept::default(),
            begun_before: HashMap::new(),
            begun_here: HashMap::new(),
            begun_forgotten: HashMap::new(),
            saved: Saved::default(),
        }
    }

    /// Names of variants, by number.
    pub fn variants(&self) -> &[String] {
        &self.kept.variants
    }

    /// The number of a variant, if it was ever seen.
    pub fn number(&self, variant: &str) -> Option<u8> {
        let at = self.kept.variants.iter().position(|name| name == variant)?;
        u8::try_from(at).ok()
    }

    /// The number of control.
    pub fn control(&self) -> u8 {
        self.kept.control
    }

    /// When a revision came into force, microseconds since 1970.
    pub fn began(&self, revision: u64) -> Option<i64> {
        self.kept.dealt.get(&revision).map(|(at, _)| *at)
    }

    /// The revision that was in force at a time (microseconds since 1970); the first that is known
    /// if the time lies before it.
    pub fn in_force_at(&self, time: i64) -> Option<u64> {
        let before = self.kept.dealt.iter().rfind(|(_, (at, _))| *at <= time);
        before.or(self.kept.dealt.first_key_value()).map(|(revision, _)| *revision)
    }

    /// The most that was reached for a variant's guardrail so far.
    pub fn reached(&self, variant: u8, metric: &Metric) -> rule::Reached {
        let of = self.kept.reached.get(&variant).map(Vec::as_slice).unwrap_or_default();
        of.iter().find(|(at, _)| at == metric).map_or_else(Default::default, |(_, most)| *most)
    }

    /// Remembers what a look reached.
    pub fn remember(&mut self, variant: u8, metric: &Metric, most: rule::Reached) {
        let of = self.kept.reached.entry(variant).or_default();
        match of.iter_mut().find(|(at, _)| at == metric) {
            Some((_, before)) => *before = most,
            None => of.push((metric.clone(), most)),
        }
    }

    /// The sample ratio with one more look: assigned, served, feedback.
    pub fn sample_ratio(&mut self, log_e: [f64; 3]) -> [sample_ratio::Reached; 3] {
        for (reached, log_e) in self.kept.sample_ratio.iter_mut().zip(log_e) {
            *reached = reached.with(log_e);
        }
        self.kept.sample_ratio
    }

    /// Forgets what was counted, but not who is who; what comes from here on counts.
    pub fn begin_anew(&mut self) {
        let newest = self.kept.dealt.pop_last();
        self.kept.dealt = newest.into_iter().collect();
        self.kept.reached.clear();
        self.kept.sample_ratio = Default::default();
        self.evidence = Evidence::new(self.evidence.unit());
        self.begun_before.clear();
        self.begun_forgotten.clone_from(&self.begun_here);
    }

    /// So many requests of a variant have begun in this process under a revision.
    pub(super) fn count_begun(&mut self, revision: u64, variant: &str, begun: u64) {
        let Some(number) = self.number(variant) else { return };
        let of = (revision, number);
        self.begun_here.insert(of, begun);
        let forgotten = self.begun_forgotten.get(&of).copied().unwrap_or(0);
        let since = begun.saturating_sub(forgotten);
        if since == 0 || !self.kept.dealt.contains_key(&revision) {
            return;
        }
        let before = self.begun_before.get(&of).copied().unwrap_or(0);
        self.began_epoch(revision);
        self.evidence.count_begun(revision, number, before.saturating_add(since));
    }

    pub(super) fn number_or_new(&mut self, variant: &str, backend: &str) -> Option<u8> {
        if self.number(variant).is_none() {
            u8::try_from(self.kept.variants.len()).ok()?;
            self.kept.variants.push(variant.to_owned());
            self.kept.backends.push(backend.to_owned());
        }
        self.number(variant)
    }

    /// A revision is in force: who is who, and the shares.
    pub(super) fn open(
        &mut self,
        plan: &ExperimentPlan,
        shares: &[u16],
        backend: impl Fn(usize) -> String,
    ) {
        let unit = unit_of(plan);
        let is_sticky = |unit| matches!(unit, UnitKind::Sticky { .. });
        if is_sticky(unit) != is_sticky(self.evidence.unit()) {
            self.evidence = Evidence::new(unit);
            self.begin_anew();
        }
        let mut dealt = Vec::new();
        let mut changed = false;
        for (at, variant) in plan.variants.iter().enumerate() {
            let name = backend(variant.backend);
            let Some(number) = self.number_or_new(variant.name, &name) else { continue };
            let known = &mut self.kept.backends[usize::from(number)];
            changed |= *known != name;
            *known = name;
            let place = usize::from(number);
            dealt.resize(dealt.len().max(place + 1), 0);
            dealt[place] = shares.get(at).copied().unwrap_or(0);
        }
        if changed {
            self.begin_anew();
            self.kept.dealt.clear();
        }
        let control = plan.variants.get(usize::from(plan.control.0));
        self.kept.control = control.and_then(|control| self.number(control.name)).unwrap_or(0);
        let now = clock::unix_micros();
        self.kept.dealt.entry(plan.revision).or_insert((now, dealt));
        while self.kept.dealt.len() > MOST_EPOCHS {
            self.kept.dealt.pop_first();
        }
    }

    /// An epoch's shares are said when something happens in it: revisions without traffic would push
    /// out those with.
    pub(super) fn began_epoch(&mut self, revision: u64) {
        let is_open =
            self.evidence.epochs().get(&revision).is_some_and(|epoch| epoch.shares.is_some());
        if !is_open && let Some((_, shares)) = self.kept.dealt.get(&revision) {
            self.evidence.open(revision, shares);
        }
    }
}

/// Whether each request is dealt anew.
pub(super) fn unit_of(plan: &ExperimentPlan) -> UnitKind {
    let by_request = plan.units.iter().all(|(source, _)| matches!(source, UnitSource::Request));
    // Nobody knows how many units there will be, so none is left out until there is no more room.
    if by_request { UnitKind::Request } else { UnitKind::Sticky { rate: 1.0 } }
}
