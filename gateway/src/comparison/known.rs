//! What is known of one shadow: its pairs since its subject is what it is.
//!
//! The *subject* of a comparison is everything that makes its numbers mean something else when it
//! changes: route, backend and model of the copies, and how answers are compared. With another subject
//! counting begins anew, under the next revision. Share, places and bounds of a shadow are not in it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use policies::comparison::{ALPHA, Cause, Found, How, Reason, Tally};
use policies::statistics::Verdict;
use policies::statistics::shadow::PairedLatency;
use serde::{Deserialize, Serialize};

use super::pair::Pair;
use crate::clock;
use crate::names::Name;

/// A shadow's comparison, alive.
#[derive(Debug)]
pub struct Known {
    /// The shadow's name.
    pub name: Name,
    /// What this process did; never falls.
    pub counts: Counts,
    // That of `state`, for workers.
    revision: AtomicU64,
    state: Mutex<State>,
}

/// Counts of this process, for metrics.
#[derive(Debug, Default)]
pub struct Counts {
    /// Pairs that agree.
    pub agree: AtomicU64,
    /// Pairs that differ, by [`Cause`].
    pub differ: [AtomicU64; Cause::ALL.len()],
    /// Pairs that show nothing, by [`Reason`].
    pub void: [AtomicU64; Reason::ALL.len()],
    /// Pairs that found the queue full.
    pub dropped: AtomicU64,
    /// Pairs of an earlier subject.
    pub outdated: AtomicU64,
    /// Disagreements that were kept.
    pub samples: AtomicU64,
    /// Disagreements that were to be kept and could not be stored.
    pub samples_lost: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    kept: Kept,
    /// Of these, so much is stored: revision, pairs.
    saved: Option<(u64, u64)>,
    /// When that was taken, and how many bytes it was.
    taken: Option<(Instant, usize)>,
}

/// What is saved of a shadow's comparison.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    /// What is compared; empty before the shadow was ever in force.
    pub subject: String,
    /// 1, 2, 3, …: rises when counting begins anew.
    pub revision: u64,
    /// When it began, microseconds since 1970.
    pub began_at: i64,
    /// The counts.
    pub tally: Tally,
}

/// A shadow's comparison, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparisonRow {
    /// Shadow.
    pub shadow: String,
    /// When it was taken, microseconds since 1970.
    pub at: i64,
    /// Bytes that only this program reads.
    pub bytes: Vec<u8>,
}

/// A version, then JSON.
const VERSION: u8 = 1;

impl Known {
    /// Nothing yet.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            counts: Counts::default(),
            revision: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// The shadow is in force with this subject; whether counting began anew.
    pub fn open(&self, subject: &str) -> bool {
        let mut state = self.state.lock();
        if state.kept.subject == subject {
            return false;
        }
        state.begin(subject.to_owned());
        self.revision.store(state.kept.revision, Relaxed);
        true
    }

    /// The revision that pairs of requests that come now belong to.
    pub fn revision(&self) -> u64 {
        self.revision.load(Relaxed)
    }

    /// Counting begins anew, with the subject as it is; the new revision.
    pub fn begin_anew(&self) -> u64 {
        let mut state = self.state.lock();
        let subject = std::mem::take(&mut state.kept.subject);
        state.begin(subject);
        self.revision.store(state.kept.revision, Relaxed);
        state.kept.revision
    }

    /// Compares and counts a pair; what was found. `None` if it belongs to an earlier revision.
    pub fn add(&self, how: &How, pair: &Pair) -> Option<Found> {
        let measured = pair.measured();
        // Before the lock: it takes long, and somebody may look.
        let found = measured.compare(how);
        let mut state = self.state.lock();
        let kept = &mut state.kept;
        if kept.revision != pair.revision || kept.subject != *pair.subject {
            self.counts.outdated.fetch_add(1, Relaxed);
            return None;
        }
        kept.tally.add(how, &measured, &found);
        let count = match &found {
            Found::Agree(_) => &self.counts.agree,
            Found::Differ(cause, _) => &self.counts.differ[*cause as usize],
            Found::NotComparable(reason) => &self.counts.void[*reason as usize],
        };
        count.fetch_add(1, Relaxed);
        Some(found)
    }

    /// Looks whether copies fail more often, remembers what was reached, and gives all that is known.
    pub fn look(&self) -> (Verdict, Kept) {
        let mut state = self.state.lock();
        let verdict = state.kept.tally.look();
        (verdict, state.kept.clone())
    }

    /// Agreement, and how many times as long copies take at the first byte, the first piece and the end:
    /// what gauges show.
    pub fn gauges(&self) -> (Option<f64>, [Option<f64>; 3]) {
        let state = self.state.lock();
        let tally = &state.kept.tally;
        let ratio = |paired: &PairedLatency| paired.slowdown(ALPHA).map(|(ratio, _)| ratio);
        let latencies = [&tally.first_byte, &tally.first_piece, &tally.end];
        (tally.agreed.share(), latencies.map(ratio))
    }

    /// What changed since it was last taken, for the store. What is large is taken less often, so that
    /// a second of it never costs more than a quarter of a megabyte, unless `at_once`.
    pub fn unsaved(&self, at_once: bool) -> Option<ComparisonRow> {
        const PER_SECOND: usize = 256 << 10;
        let mut state = self.state.lock();
        let now = (state.kept.revision, state.kept.tally.pairs());
        let pause = |bytes: usize| Duration::from_secs((bytes / PER_SECOND) as u64);
        let is_early = state.taken.is_some_and(|(at, bytes)| at.elapsed() < pause(bytes));
        if state.kept.revision == 0 || state.saved == Some(now) || (is_early && !at_once) {
            return None;
        }
        // What a look would reach is to be remembered, though nobody looks.
        let _ = state.kept.tally.look();
        state.saved = Some(now);
        let mut bytes = vec![VERSION];
        // Names, whole and finite numbers: there is nothing that JSON cannot say.
        serde_json::to_writer(&mut bytes, &state.kept).ok()?;
        state.taken = Some((clock::now(), bytes.len()));
        Some(ComparisonRow { shadow: self.name.to_owned(), at: clock::unix_micros(), bytes })
    }

    /// What was taken was not saved.
    pub fn not_saved(&self) {
        let mut state = self.state.lock();
        (state.saved, state.taken) = (None, None);
    }

    /// Goes on from what an earlier process saved; false if the bytes cannot be read.
    pub fn restore(&self, bytes: &[u8]) -> bool {
        let read =
            bytes.strip_prefix(&[VERSION]).and_then(|json| serde_json::from_slice(json).ok());
        let Some(kept) = read else { return false };
        let kept: Kept = kept;
        let saved = Some((kept.revision, kept.tally.pairs()));
        self.revision.store(kept.revision, Relaxed);
        *self.state.lock() = State { kept, saved, taken: None };
        true
    }
}

impl State {
    fn begin(&mut self, subject: String) {
        let revision = self.kept.revision + 1;
        let began_at = clock::unix_micros();
        self.kept = Kept { subject, revision, began_at, tally: Tally::default() };
        self.saved = None;
    }
}

#[cfg(test)]
impl Known {
    /// Counts two pairs that agree, of these times in seconds.
    pub(crate) fn add_for_tests(
        self: &std::sync::Arc<Self>,
        room: &std::sync::Arc<super::kept::Room>,
        live: f64,
        copy: f64,
    ) {
        use super::pair::{Live, Side, Times};
        let side = |seconds| {
            let time = Some(std::time::Duration::from_secs_f64(seconds));
            Side {
                status: 200,
                failed: false,
                times: Times { first_byte: time, first_piece: None, end: time },
                body: super::kept::KeptBody::missing(room, policies::comparison::Missing::Unwanted),
            }
        };
        let (subject, revision) = {
            let state = self.state.lock();
            (state.kept.subject.clone(), state.kept.revision)
        };
        for _ in 0..2 {
            let live = Live {
                side: side(live),
                void: None,
                backend: "old",
                request_id: [0; 16],
                started: 0,
            };
            let pair = Pair {
                shadow: std::sync::Arc::clone(self),
                revision,
                subject: (&*subject).into(),
                compare: std::sync::Arc::new(crate::config::plan::Compare {
                    how: How::Status,
                    answer_bytes: 1,
                    agreement: 0.95,
                    min_pairs: 1,
                    samples: None,
                }),
                live: live.into(),
                copy: side(copy),
                request: None,
            };
            assert!(self.add(&How::Status, &pair).is_some());
        }
    }
}
