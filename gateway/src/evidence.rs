//! What each experiment's verdicts are made of: one [`Evidence`] for each, filled by the recorder.
//!
//! The recorder's thread adds every drained row, whether or not outcomes are stored; a worker never
//! comes here. The admin API and ramps read. Once a second what changed is saved with the tallies,
//! and a start reads it back, so evidence goes on over restarts.
//!
//! Variants get numbers in the order in which they are first seen, and keep them: order and names in
//! the file may change. When a variant gets another backend, its experiment's evidence begins anew:
//! what two models did must not be added up.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use policies::evidence::{Evidence, Exposure};
use policies::guardrail::{self, Action, Guardrail, Metric};
use policies::outcome::Outcome;
use policies::ramp::Settings;
use routing::Reason;

use crate::clock;
use crate::feedback::{Credited, Value};
use crate::names::{Name, intern};
use crate::recorder::row::Row;
use crate::recorder::tally::Tallies;
use crate::snapshot::Snapshot;

mod arrivals;
mod known;
mod saved;

pub use arrivals::{arrivals, ratios};
pub use known::Known;
use known::{Saved, unit_of};
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
    /// What a ramp watches in its last step unless told otherwise; the times of streams, and clients that left, are
    /// shown.
    fn default() -> Self {
        let mut guardrails = Settings::default().held_to_at_the_end();
        let observed = [Metric::FirstByteP95, Metric::TokenTimeP50, Metric::Aborted];
        guardrails.extend(observed.map(|metric| Guardrail {
            action: Action::Observe,
            required: false,
            ..Guardrail::new(metric)
        }));
        Self { guardrails, freezes: true }
    }
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

    /// Counts finished requests, those that are exposures: dealt by hash, and not refused. Those of
    /// one experiment in a row are cheaper than others.
    pub fn add<'a>(&self, rows: impl IntoIterator<Item = &'a Row>) {
        let known = self.known.read();
        let exposed = |row: &'a Row| {
            let outcome = row.outcome.filter(|_| row.eligible && row.seq > 0)?;
            Some((row.experiment?, row.variant?, outcome, row))
        };
        let mut rows = rows.into_iter().filter_map(exposed).peekable();
        while let Some(&(experiment, ..)) = rows.peek() {
            let of_this =
                |(name, ..): &(Name, Name, Outcome, &Row)| std::ptr::eq(*name, experiment);
            let Some(known) = known.get(experiment) else {
                rows.next();
                continue;
            };
            let mut known = known.lock();
            // What was found out for the row before: variant and its number, and the revision.
            let mut last: Option<(Name, u8, u64)> = None;
            while let Some((_, variant, outcome, row)) = rows.next_if(of_this) {
                let number = match last {
                    Some((name, number, revision))
                        if std::ptr::eq(name, variant) && revision == row.revision =>
                    {
                        number
                    }
                    _ => {
                        let Some(number) = known.number(variant) else { continue };
                        // Begun before everything was forgotten, and over only now.
                        let first = known.kept.dealt.first_key_value();
                        if first.is_some_and(|(first, _)| row.revision < *first) {
                            continue;
                        }
                        known.began_epoch(row.revision);
                        last = Some((variant, number, row.revision));
                        number
                    }
                };
                known.evidence.add(&exposure(row, outcome, number));
            }
        }
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
                known.count_begun(key.revision, key.variant, begun);
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
                (revision, known.kept.control),
                &known.watched.guardrails,
                &USUAL_MARGINS,
                &mut known.marks,
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
