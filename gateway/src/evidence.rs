//! What each experiment's verdicts are made of: one [`Evidence`] for each, filled by the recorder.
//!
//! The recorder's thread adds every drained row, whether or not outcomes are stored; a worker never
//! comes here. The admin API and ramps read. Once a second what changed is saved with the tallies,
//! and a start reads it back, so evidence goes on over restarts.
//!
//! Variants get numbers in the order in which they are first seen, and keep them: order and names in
//! the file may change. When a variant gets another backend, its experiment's evidence begins anew:
//! what two models did must not be added up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use policies::evidence::{Evidence, Exposure, MOST_EPOCHS, UnitKind};
use policies::guardrail::{self, Action, Guardrail, Metric};
use policies::outcome::Outcome;
use policies::statistics::{rule, sample_ratio};
use routing::{Reason, UnitSource};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::feedback::{Credited, Value};
use crate::names::{Name, intern};
use crate::recorder::row::Row;
use crate::recorder::tally::Tallies;
use crate::snapshot::{ExperimentPlan, Snapshot};

mod saved;

pub use saved::EvidenceRow;

/// Slowdowns that the usual steps of a ramp ask about: marks are frozen with all of them, so that a
/// ramp that begins later finds what it needs.
const USUAL_MARGINS: [f64; 5] = [0.15, 0.25, 0.35, 0.5, 1.0];

/// What is watched of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// What each variant is held to against control.
    pub guardrails: Vec<Guardrail>,
    /// Whether marks are frozen here as soon as control was seen often enough. A ramp freezes its
    /// own, after its warm-up.
    pub freezes: bool,
}

impl Default for Watched {
    /// What a ramp watches unless told otherwise; the times of streams, and clients that left, are
    /// shown.
    fn default() -> Self {
        let mut guardrails = Guardrail::defaults();
        let observed = [Metric::FirstByteP95, Metric::TokenTimeP50, Metric::Aborted];
        guardrails.extend(observed.map(|metric| Guardrail {
            action: Action::Observe,
            required: false,
            ..Guardrail::new(metric)
        }));
        Self { guardrails, freezes: true }
    }
}

/// What is known of one experiment.
#[derive(Debug)]
pub struct Known {
    /// The evidence.
    pub evidence: Evidence,
    /// What is watched.
    pub watched: Watched,
    /// Everything beside it that is saved.
    pub(crate) kept: Kept,
    // Begun before this process, by revision and variant.
    begun_before: HashMap<(u64, u8), u64>,
    saved: Saved,
}

/// What is saved with the evidence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Names of variants, by number.
    variants: Vec<String>,
    /// Their backends, by number.
    backends: Vec<String>,
    /// Number of control.
    control: u8,
    /// Shares in basis points by number, of each revision that was in force, and when that began
    /// (microseconds since 1970).
    dealt: BTreeMap<u64, (i64, Vec<u16>)>,
    /// Most ever reached, by variant and metric: a breach is remembered.
    reached: BTreeMap<u8, Vec<(Metric, rule::Reached)>>,
    /// Most ever reached against "units arrive as dealt": assigned, served, feedback.
    sample_ratio: [sample_ratio::Reached; 3],
}

#[derive(Debug, Default)]
struct Saved {
    sequence: u64,
    kept: Kept,
    at: Option<Instant>,
    bytes: usize,
    // Whether the store has any of it.
    is_stored: bool,
}

impl Known {
    fn new(unit: UnitKind) -> Self {
        Self {
            evidence: Evidence::new(unit),
            watched: Watched::default(),
            kept: Kept::default(),
            begun_before: HashMap::new(),
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
    }

    fn number_or_new(&mut self, variant: &str, backend: &str) -> Option<u8> {
        if self.number(variant).is_none() {
            u8::try_from(self.kept.variants.len()).ok()?;
            self.kept.variants.push(variant.to_owned());
            self.kept.backends.push(backend.to_owned());
        }
        self.number(variant)
    }

    /// A revision is in force: who is who, and the shares.
    fn open(&mut self, plan: &ExperimentPlan, shares: &[u16], backend: impl Fn(usize) -> String) {
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
    fn began_epoch(&mut self, revision: u64) {
        let is_open =
            self.evidence.epochs().get(&revision).is_some_and(|epoch| epoch.shares.is_some());
        if !is_open && let Some((_, shares)) = self.kept.dealt.get(&revision) {
            self.evidence.open(revision, shares);
        }
    }
}

/// Whether each request is dealt anew.
fn unit_of(plan: &ExperimentPlan) -> UnitKind {
    let by_request = plan.units.iter().all(|(source, _)| matches!(source, UnitSource::Request));
    // Nobody knows how many units there will be, so none is left out until there is no more room.
    if by_request { UnitKind::Request } else { UnitKind::Sticky { rate: 1.0 } }
}

/// The evidence of every experiment.
#[derive(Debug, Default)]
pub struct EvidenceBook {
    known: RwLock<HashMap<Name, Arc<Mutex<Known>>>>,
    heard: Mutex<Option<Receiver<Credited>>>,
}

impl EvidenceBook {
    /// A snapshot comes into force: who its variants are, and their shares.
    pub fn open(&self, snapshot: &Snapshot) {
        for route in &snapshot.routes {
            for (plan, experiment) in route.plans.iter().zip(&route.experiments) {
                let known = self.of(plan.name).unwrap_or_else(|| {
                    let new = || Arc::new(Mutex::new(Known::new(unit_of(plan))));
                    Arc::clone(self.known.write().entry(plan.name).or_insert_with(new))
                });
                let mut shares = experiment.allocation.shares();
                shares.resize(plan.variants.len(), 0);
                known
                    .lock()
                    .open(plan, &shares, |backend| snapshot.backends[backend].name.to_string());
            }
        }
    }

    fn of(&self, experiment: &str) -> Option<Arc<Mutex<Known>>> {
        self.known.read().get(experiment).cloned()
    }

    /// Counts a finished request, if it is an exposure: dealt by hash, and not refused.
    pub fn add(&self, row: &Row) {
        let (Some(experiment), Some(variant)) = (row.experiment, row.variant) else { return };
        let Some(outcome) = row.outcome.filter(|_| row.eligible && row.seq > 0) else { return };
        let known = self.known.read();
        let Some(known) = known.get(experiment) else { return };
        let mut known = known.lock();
        let Some(number) = known.number(variant) else { return };
        known.began_epoch(row.revision);
        known.evidence.add(&exposure(row, outcome, number));
    }

    /// Counts feedback on an exposure, filed under the revision and variant that dealt it.
    ///
    /// False if nothing was counted: an unknown experiment or variant, a revision that is too old, a
    /// value that is no finite number, or too many metrics.
    pub fn credited(
        &self,
        experiment: &str,
        (revision, variant, unit_hash): (u64, &str, u64),
        metric: &str,
        value: f64,
    ) -> bool {
        self.with_known(experiment, |known| {
            let Some(number) = known.number(variant) else { return false };
            let is_kept = known.evidence.epochs().contains_key(&revision)
                || known.kept.dealt.contains_key(&revision);
            if !is_kept {
                return false;
            }
            known.began_epoch(revision);
            known.evidence.add_feedback(metric, revision, number, unit_hash, value)
        })
        .unwrap_or(false)
    }

    /// From here the feedback comes that [`Self::take_feedback`] counts.
    pub fn hear(&self, feedback: Option<Receiver<Credited>>) {
        *self.heard.lock() = feedback;
    }

    /// Counts the feedback that was stored since the last time, if chance dealt what it is about.
    pub fn take_feedback(&self) {
        let heard = self.heard.lock();
        for credited in heard.iter().flat_map(Receiver::try_iter).filter(|each| each.eligible) {
            let value = match credited.value {
                Value::Bool(yes) => f64::from(u8::from(yes)),
                Value::Number(number) => number,
            };
            let of = (credited.revision, credited.variant, credited.unit_hash);
            self.credited(credited.experiment, of, credited.metric, value);
        }
    }

    /// Reads an experiment's evidence; `None` if there is no such experiment. The recorder waits
    /// meanwhile: for long work take a copy.
    pub fn with<R>(&self, experiment: &str, read: impl FnOnce(&Evidence) -> R) -> Option<R> {
        self.with_known(experiment, |known| read(&known.evidence))
    }

    /// Reads or changes everything that is known of an experiment: freezing marks, setting caps.
    pub fn with_known<R>(&self, experiment: &str, work: impl FnOnce(&mut Known) -> R) -> Option<R> {
        let known = self.of(experiment)?;
        let mut known = known.lock();
        Some(work(&mut known))
    }

    /// What an experiment is held to from now on, `None` for the defaults. What was reached for
    /// other guardrails is forgotten. False if there is no such experiment.
    pub fn watch(&self, experiment: &str, watched: Option<Watched>) -> bool {
        self.with_known(experiment, |known| {
            let watched = watched.unwrap_or_default();
            if watched.guardrails != known.watched.guardrails {
                known.kept.reached.clear();
            }
            known.watched = watched;
        })
        .is_some()
    }

    /// Forgets what was counted of an experiment: what comes from here on counts.
    pub fn begin_anew(&self, experiment: &str) -> bool {
        self.with_known(experiment, Known::begin_anew).is_some()
    }

    /// Takes over how many requests have begun, so that a slow variant is not taken for one that gets
    /// none. Before every look.
    pub fn count_begun(&self, tallies: &Tallies) {
        for (key, reasons) in tallies.begun() {
            let begun = reasons[Reason::Split.index()];
            if begun == 0 {
                continue;
            }
            self.with_known(key.experiment, |known| {
                let Some(number) = known.number(key.variant) else { return };
                let of = (key.revision, number);
                let is_kept = known.kept.dealt.contains_key(&key.revision);
                if !is_kept {
                    return;
                }
                let before = known.begun_before.get(&of).copied().unwrap_or(0);
                known.began_epoch(key.revision);
                known.evidence.count_begun(key.revision, number, before.saturating_add(begun));
            });
        }
    }

    /// Freezes marks that are due in the newest epoch, where no ramp does it.
    pub fn freeze_due(&self) {
        for (_, known) in self.all() {
            let mut known = known.lock();
            let known = &mut *known;
            let newest = known.evidence.epochs().last_key_value().map(|(revision, _)| *revision);
            let (Some(revision), true) = (newest, known.watched.freezes) else { continue };
            let due = guardrail::marks_due(
                &known.evidence,
                revision,
                known.kept.control,
                &known.watched.guardrails,
                &USUAL_MARGINS,
            );
            for (slowness, marks) in due {
                known.evidence.freeze(revision, slowness, marks);
            }
        }
    }

    /// What changed since it was last taken, for the store. Large evidence is taken less often, so
    /// that a second of it never costs more than a quarter of a megabyte, unless `all_of_it`.
    pub fn unsaved(&self, all_of_it: bool) -> Vec<EvidenceRow> {
        const PER_SECOND: usize = 256 << 10;
        let mut rows = Vec::new();
        for (experiment, known) in self.all() {
            let mut known = known.lock();
            let saved = &known.saved;
            let pause = Duration::from_secs((saved.bytes / PER_SECOND) as u64);
            let is_early = saved.at.is_some_and(|at| at.elapsed() < pause);
            let is_same = saved.sequence == known.evidence.sequence() && saved.kept == known.kept;
            let is_empty = known.evidence.sequence() == 0 && !saved.is_stored;
            if is_same || is_empty || (is_early && !all_of_it) {
                continue;
            }
            let bytes = saved::write(&known.kept, &known.evidence);
            known.saved = Saved {
                sequence: known.evidence.sequence(),
                kept: known.kept.clone(),
                at: Some(clock::now()),
                bytes: bytes.len(),
                is_stored: true,
            };
            rows.push(EvidenceRow {
                experiment: experiment.to_owned(),
                at: clock::unix_micros(),
                bytes,
            });
        }
        rows
    }

    /// What was taken was not saved: the next time all of it is taken again.
    pub fn not_saved(&self) {
        for (_, known) in self.all() {
            let mut known = known.lock();
            known.saved = Saved { is_stored: known.saved.is_stored, ..Saved::default() };
        }
    }

    /// Takes in what an earlier process saved; the names of experiments whose bytes cannot be read.
    pub fn restore(&self, rows: Vec<EvidenceRow>) -> Vec<String> {
        let mut broken = Vec::new();
        for EvidenceRow { experiment, bytes, .. } in rows {
            let Some((kept, evidence)) = saved::read(&bytes) else {
                broken.push(experiment);
                continue;
            };
            let mut known = Known::new(evidence.unit());
            for (revision, epoch) in evidence.epochs() {
                let begun = epoch
                    .variants
                    .iter()
                    .map(|(variant, tally)| ((*revision, *variant), tally.assigned()));
                known.begun_before.extend(begun);
            }
            (known.kept, known.evidence) = (kept, evidence);
            known.saved.is_stored = true;
            self.known.write().insert(intern(&experiment), Arc::new(Mutex::new(known)));
        }
        broken
    }

    /// Lets go of experiments that are over and whose evidence the store has deleted.
    pub fn forget(&self, experiments: &[String]) {
        self.known.write().retain(|name, _| !experiments.iter().any(|gone| gone == name));
    }

    fn all(&self) -> Vec<(Name, Arc<Mutex<Known>>)> {
        self.known.read().iter().map(|(name, known)| (*name, Arc::clone(known))).collect()
    }
}

/// What a row says of its variant.
fn exposure(row: &Row, outcome: Outcome, variant: u8) -> Exposure {
    let rescued = row.served.is_some();
    // That another variant helped out does not unmake the failure of this one.
    let is_hidden = rescued && !outcome.is_failure() && outcome != Outcome::GatewayError;
    let outcome = if is_hidden { Outcome::UpstreamError } else { outcome };
    let token_time = row.output_tokens.filter(|tokens| row.stream && *tokens > 1);
    Exposure {
        unit: row.unit_hash,
        revision: row.revision,
        variant,
        rescued,
        outcome,
        status_class: u8::try_from(row.status / 100).unwrap_or(0),
        duration_micros: row.t_total.get(),
        first_byte_micros: row.t_first_byte.get(),
        // The first token ends what `first_byte_micros` is about.
        token_time_micros: token_time.and_then(|tokens| Some(row.t_stream.get()? / (tokens - 1))),
        input_tokens: row.input_tokens,
        output_tokens: row.output_tokens,
    }
}

#[cfg(test)]
mod tests;
