//! What is counted of the pairs of one shadow.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Cause, Found, How, Reason, Side, compare};
use crate::statistics::agreement::{Agreement, Similarities};
use crate::statistics::attribution::{log_e_harm, log_e_safe};
use crate::statistics::moments::Moments;
use crate::statistics::shadow::{Agreed, Failures, Labels, PairedLatency};
use crate::statistics::{Verdict, threshold};

/// Most different pairs of statuses; what comes after has no row of its own.
const MOST_STATUSES: usize = 256;

/// Most backends of live answers that are told apart.
const MOST_BACKENDS: usize = 64;

/// A copy that fails up to so many times as often is not held against it.
pub const FAILURES_TOLERATED: f64 = 1.2;

/// Chance that a shadow is ever said to fail more often although it does not.
pub const ALPHA: f64 = 0.05;

/// A pair: both answers, and the times of both (live first), in seconds from the moment when its
/// request was on its way to the backend.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    /// The answer that the client got.
    pub live: Side<'a>,
    /// The copy's.
    pub copy: Side<'a>,
    /// Why the live answer shows nothing, if so.
    pub void: Option<Reason>,
    /// Backend of the live answer.
    pub backend: &'a str,
    /// To the head of the answer.
    pub first_byte: Option<(f64, f64)>,
    /// To the first piece of the body, of event streams.
    pub first_piece: Option<(f64, f64)>,
    /// To the end. `None` too where the client was slower than the backend.
    pub end: Option<(f64, f64)>,
}

/// Counts of one shadow, compared one way. Two merge by addition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Pairs that were compared, and those of them that agree.
    pub agreed: Agreed,
    /// Pairs that differ, by [`Cause`].
    pub differ: [u64; Cause::ALL.len()],
    /// Pairs that show nothing, by [`Reason`].
    pub void: [u64; Reason::ALL.len()],
    /// By backend of the live answer.
    pub by_backend: BTreeMap<String, Agreed>,
    /// Statuses, live and copy, and how many pairs had them; 0 is "no answer".
    pub statuses: Vec<(u16, u16, u64)>,
    /// Pairs whose statuses have no row.
    pub other_statuses: u64,
    /// Labels, if labels are compared.
    pub labels: Labels,
    /// How alike the answers are, where that comes by degrees.
    pub similarities: Similarities,
    /// Shorter over longer text.
    pub length_ratios: Moments,
    /// The largest gap between two numbers.
    pub largest_gap: Option<f64>,
    /// Who failed.
    pub failures: Failures,
    /// Pairs of which both failed.
    pub both_failed: u64,
    /// The most that was ever reached against "copies fail no more often".
    pub most_against: f64,
    /// Time to the first byte.
    pub first_byte: PairedLatency,
    /// Time to the first piece of event streams.
    pub first_piece: PairedLatency,
    /// Time to the end.
    pub end: PairedLatency,
    /// Pairs whose ends were not compared, because the client read more slowly than the backend wrote.
    pub slow_readers: u64,
}

impl Measured<'_> {
    /// What a comparison finds. This is the long part; counting it is short.
    pub fn compare(&self, how: &How) -> Found {
        match self.void {
            Some(reason) => Found::NotComparable(reason),
            None => compare(how, &self.live, &self.copy),
        }
    }
}

impl Tally {
    /// Counts a pair of which [`Measured::compare`] has found this.
    pub fn add(&mut self, how: &How, pair: &Measured<'_>, found: &Found) {
        if pair.void.is_none() {
            self.status(pair.live.status, pair.copy.status);
            self.failures.add(pair.live.failed, pair.copy.failed);
            self.both_failed += u64::from(pair.live.failed && pair.copy.failed);
            self.times(pair);
        }
        match found {
            Found::Agree(agreement) => self.compared(how, pair, true, agreement.as_ref()),
            Found::Differ(cause, agreement) => {
                self.differ[*cause as usize] += 1;
                self.compared(how, pair, false, agreement.as_ref());
            }
            Found::NotComparable(reason) => self.void[*reason as usize] += 1,
        }
    }

    fn compared(
        &mut self,
        how: &How,
        pair: &Measured<'_>,
        agrees: bool,
        found: Option<&Agreement>,
    ) {
        self.agreed.add(agrees);
        if self.by_backend.contains_key(pair.backend) || self.by_backend.len() < MOST_BACKENDS {
            self.by_backend.entry(pair.backend.to_owned()).or_default().add(agrees);
        }
        let Some(found) = found else { return };
        if how.has_degrees() {
            self.similarities.add(found.similarity);
        }
        if let Some((live, copy)) = &found.labels {
            self.labels.add(live, copy);
        }
        if let Some(ratio) = found.length_ratio {
            self.length_ratios.add(ratio);
        }
        if let Some(gap) = found.largest_gap.filter(|gap| gap.is_finite()) {
            self.largest_gap = Some(self.largest_gap.map_or(gap, |most| most.max(gap)));
        }
    }

    fn status(&mut self, live: u16, copy: u16) {
        let at = self.statuses.binary_search_by_key(&(live, copy), |row| (row.0, row.1));
        match at {
            Ok(at) => self.statuses[at].2 += 1,
            Err(at) if self.statuses.len() < MOST_STATUSES => {
                self.statuses.insert(at, (live, copy, 1));
            }
            Err(_) => self.other_statuses += 1,
        }
    }

    /// Only of pairs in which both gave an answer of the same class: how soon one refuses says nothing
    /// about how long the other works.
    fn times(&mut self, pair: &Measured<'_>) {
        let (live, copy) = (&pair.live, &pair.copy);
        if live.failed || copy.failed || live.status / 100 != copy.status / 100 {
            return;
        }
        let all = [
            (&mut self.first_byte, pair.first_byte),
            (&mut self.first_piece, pair.first_piece),
            (&mut self.end, pair.end),
        ];
        for (latency, times) in all {
            if let Some((live, copy)) = times {
                latency.add(live, copy);
            }
        }
        self.slow_readers += u64::from(pair.end.is_none());
    }

    /// Pairs, whatever they show.
    pub fn pairs(&self) -> u64 {
        self.agreed.pairs + self.void.iter().sum::<u64>()
    }

    /// Whether copies fail more often than what clients get. A look is remembered: once shown it stays
    /// ([`Verdict::Breached`]). [`Verdict::Held`] says that harm beyond the tolerance is excluded.
    pub fn look(&mut self) -> Verdict {
        let events = [self.failures.events()];
        self.most_against = self.most_against.max(log_e_harm(&events, FAILURES_TOLERATED));
        if self.most_against >= threshold(ALPHA) {
            return Verdict::Breached;
        }
        let is_safe = log_e_safe(&events, FAILURES_TOLERATED) >= threshold(ALPHA);
        if is_safe { Verdict::Held } else { Verdict::TooEarly }
    }

    /// Adds what another replica counted.
    pub fn merge(&mut self, other: &Self) {
        self.agreed.merge(&other.agreed);
        add(&mut self.differ, &other.differ);
        add(&mut self.void, &other.void);
        for (backend, agreed) in &other.by_backend {
            self.by_backend.entry(backend.clone()).or_default().merge(agreed);
        }
        for (live, copy, count) in &other.statuses {
            match self.statuses.binary_search_by_key(&(live, copy), |row| (&row.0, &row.1)) {
                Ok(at) => self.statuses[at].2 += count,
                Err(at) => self.statuses.insert(at, (*live, *copy, *count)),
            }
        }
        self.other_statuses += other.other_statuses;
        self.labels.merge(&other.labels);
        self.similarities.merge(&other.similarities);
        self.length_ratios.merge(&other.length_ratios);
        self.largest_gap =
            [self.largest_gap, other.largest_gap].into_iter().flatten().reduce(f64::max);
        self.failures.merge(&other.failures);
        self.both_failed += other.both_failed;
        self.first_byte.merge(&other.first_byte);
        self.first_piece.merge(&other.first_piece);
        self.end.merge(&other.end);
        self.slow_readers += other.slow_readers;
    }
}

fn add(to: &mut [u64], other: &[u64]) {
    for (mine, theirs) in to.iter_mut().zip(other) {
        *mine += theirs;
    }
}
