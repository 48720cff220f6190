//! What each variant did, counted where it happened.
//!
//! Every (route, experiment, revision, variant) has a [`Cell`] with one [`Shard`] per worker. Only
//! its worker writes to a shard, so an add is a plain load and store without a bus lock; readers
//! merge the shards. Metrics, results, the live stream and the store all read these same numbers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use policies::outcome::Outcome;
use policies::sketch::{self, Sketch};
use routing::Reason;

use crate::names::Name;
use crate::recorder::row::Row;
use crate::telemetry::counters::{bump, lower};
use crate::telemetry::histogram::{Counted, OverheadTimes, REQUEST_BOUNDS};

/// Upper bounds of the duration histograms in seconds; one more bucket has no bound.
pub const BOUNDS: [f64; 19] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0,
];

const BOUNDS_MICROS: [u64; 19] = REQUEST_BOUNDS;

/// What a tally belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TallyKey {
    /// Route.
    pub route: Name,
    /// Experiment and variant, where one decided; else empty.
    pub experiment: Name,
    /// Revision; 0 without an experiment.
    pub revision: u64,
    /// Variant; empty without an experiment.
    pub variant: Name,
}

/// Durations as one worker counted them.
#[derive(Debug)]
struct LatencyShard {
    sketch: Box<[AtomicU64]>,
    classic: [AtomicU64; BOUNDS.len() + 1],
    sum_micros: AtomicU64,
}

impl LatencyShard {
    fn new() -> Self {
        Self {
            sketch: (0..sketch::BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            classic: Default::default(),
            sum_micros: AtomicU64::new(0),
        }
    }

    #[inline]
    fn add(&self, micros: u64) {
        bump(&self.sketch[sketch::bucket_of_micros(micros)], 1);
        bump(&self.classic[BOUNDS_MICROS.partition_point(|&bound| bound < micros)], 1);
        bump(&self.sum_micros, micros);
    }

    fn merge_into(&self, out: &mut Latency) {
        for (bucket, count) in self.sketch.iter().enumerate() {
            let count = count.load(Relaxed);
            if count > 0 {
                out.sketch.add_count(bucket, count);
            }
        }
        for (sum, count) in out.classic.iter_mut().zip(&self.classic) {
            *sum += count.load(Relaxed);
        }
        out.sum_micros += self.sum_micros.load(Relaxed);
    }
}

/// Counts of one worker.
#[derive(Debug)]
pub struct Shard {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    eligible: AtomicU64,
    fallback: AtomicU64,
    // Requests begun, by `Reason::index`.
    reasons: [AtomicU64; Reason::WORDS.len()],
    // Refused before they were assigned: of a route's own cell only.
    refused: AtomicU64,
    streams_open: AtomicU64,
    overhead: OverheadTimes,
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    duration: LatencyShard,
    first_byte: LatencyShard,
}

impl Shard {
    fn new() -> Self {
        Self {
            outcomes: Default::default(),
            eligible: AtomicU64::new(0),
            fallback: AtomicU64::new(0),
            reasons: Default::default(),
            refused: AtomicU64::new(0),
            streams_open: AtomicU64::new(0),
            overhead: OverheadTimes::default(),
            input_tokens: AtomicU64::new(0),
            output_tokens: AtomicU64::new(0),
            duration: LatencyShard::new(),
            first_byte: LatencyShard::new(),
        }
    }
}

/// Durations, merged.
#[derive(Clone, Debug)]
pub struct Latency {
    /// DDSketch buckets: quantiles and, later, verdicts.
    pub sketch: Sketch,
    /// Counts per [`BOUNDS`], not cumulative.
    pub classic: [u64; BOUNDS.len() + 1],
    /// Sum of all, microseconds.
    pub sum_micros: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { sketch: Sketch::new(), classic: [0; BOUNDS.len() + 1], sum_micros: 0 }
    }
}

impl Latency {
    /// Number of values: the sum of the classic buckets, so that a scrape agrees with itself.
    pub fn count(&self) -> u64 {
        self.classic.iter().sum()
    }

    fn merge(&mut self, other: &Self) {
        self.sketch.merge(&other.sketch);
        for (sum, count) in self.classic.iter_mut().zip(&other.classic) {
            *sum += count;
        }
        self.sum_micros += other.sum_micros;
    }
}

/// What only metrics show: of this process, and not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Requests begun, by `Reason::index`.
    pub reasons: [u64; Reason::WORDS.len()],
    /// Requests of the route that were refused before they were assigned.
    pub refused: u64,
    /// Event streams under way.
    pub streams_open: u64,
    /// Time that was the gateway's own.
    pub overhead: Counted,
}

impl Default for Watched {
    fn default() -> Self {
        // With its buckets, so that a series is whole before the first request.
        let overhead = OverheadTimes::default().read();
        Self { reasons: Default::default(), refused: 0, streams_open: 0, overhead }
    }
}

/// Counts, merged over workers.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By `Outcome::index`.
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Exposures that may be compared: dealt by hash.
    pub eligible: u64,
    /// Requests that control served in place of this variant.
    pub fallback: u64,
    /// Requests assigned and begun; `requests()` of them are over.
    pub started: u64,
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens made.
    pub output_tokens: u64,
    /// End of head to the end.
    pub duration: Latency,
    /// End of head to the first byte of the backend.
    pub first_byte: Latency,
    /// The rest, for metrics.
    pub watched: Watched,
}

impl Tally {
    /// Requests that are over.
    pub fn requests(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// Requests that failed by the backend's fault.
    pub fn failures(&self) -> u64 {
        Outcome::ALL.iter().filter(|o| o.is_failure()).map(|o| self.outcomes[o.index()]).sum()
    }

    /// Adds `other` to this.
    pub fn merge(&mut self, other: &Self) {
        for (sum, count) in self.outcomes.iter_mut().zip(&other.outcomes) {
            *sum += count;
        }
        self.eligible += other.eligible;
        self.fallback += other.fallback;
        self.started += other.started;
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.duration.merge(&other.duration);
        self.first_byte.merge(&other.first_byte);
        for (sum, count) in self.watched.reasons.iter_mut().zip(&other.watched.reasons) {
            *sum += count;
        }
        self.watched.refused += other.watched.refused;
        self.watched.streams_open += other.watched.streams_open;
        self.watched.overhead.merge(&other.watched.overhead);
    }

    /// Bytes for the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![1];
        let numbers = self
            .outcomes
            .iter()
            .copied()
            .chain([
                self.eligible,
                self.fallback,
                self.started,
                self.input_tokens,
                self.output_tokens,
            ])
            .chain(self.duration.classic)
            .chain([self.duration.sum_micros])
            .chain(self.first_byte.classic)
            .chain([self.first_byte.sum_micros]);
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for latency in [&self.duration, &self.first_byte] {
            let bytes = latency.sketch.to_bytes();
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(&bytes);
        }
        out
    }

    /// Reads [`Self::to_bytes`]; `None` if they are something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[1])?;
        let mut number = || -> Option<u64> {
            let (head, tail) = rest.split_first_chunk::<8>()?;
            rest = tail;
            Some(u64::from_le_bytes(*head))
        };
        let mut tally = Self::default();
        for outcome in &mut tally.outcomes {
            *outcome = number()?;
        }
        tally.eligible = number()?;
        tally.fallback = number()?;
        tally.started = number()?;
        tally.input_tokens = number()?;
        tally.output_tokens = number()?;
        for latency in [&mut tally.duration, &mut tally.first_byte] {
            for count in &mut latency.classic {
                *count = number()?;
            }
            latency.sum_micros = number()?;
        }
        for latency in [&mut tally.duration, &mut tally.first_byte] {
            let (head, tail) = rest.split_first_chunk::<8>()?;
            let len = usize::try_from(u64::from_le_bytes(*head)).ok()?;
            let (body, tail) = tail.split_at_checked(len)?;
            latency.sketch = Sketch::from_bytes(body).ok()?;
            rest = tail;
        }
        rest.is_empty().then_some(tally)
    }
}

/// Counts of one (route, experiment, revision, variant), a shard per worker.
#[derive(Debug)]
pub struct Cell {
    /// What is counted.
    pub key: TallyKey,
    // A shard is 17 KiB; one that no request reached is not made.
    shards: Box<[OnceLock<Box<Shard>>]>,
    // Nobody held it at the last look: it does not change any more, and the next save has all of it.
    leaving: std::sync::atomic::AtomicBool,
}

impl Cell {
    fn shard(&self, worker: usize) -> &Shard {
        self.shards[worker].get_or_init(|| Box::new(Shard::new()))
    }

    /// A request begins, assigned for `reason`. On its worker's thread only.
    #[inline]
    pub fn begin(&self, worker: usize, reason: Reason) {
        bump(&self.shard(worker).reasons[reason.index()], 1);
    }

    /// A request of the route whose own cell this is was refused. On its worker's thread only.
    pub fn refused(&self, worker: usize) {
        bump(&self.shard(worker).refused, 1);
    }

    /// The answer to a request is an event stream, from here to the end of the request. On its
    /// worker's thread only.
    #[inline]
    pub fn stream_opened(&self, worker: usize) {
        bump(&self.shard(worker).streams_open, 1);
    }

    /// A request whose answer was an event stream is over. On its worker's thread only.
    #[inline]
    pub fn stream_closed(&self, worker: usize) {
        lower(&self.shard(worker).streams_open, 1);
    }

    /// What of a request's time was the gateway's own, in microseconds. On its worker's thread only.
    #[inline]
    pub fn overhead(&self, worker: usize, micros: u64) {
        self.shard(worker).overhead.add_micros(micros);
    }

    /// A request is over. On its worker's thread only.
    #[inline]
    pub fn add(&self, worker: usize, row: &Row, outcome: Outcome) {
        let shard = self.shard(worker);
        bump(&shard.outcomes[outcome.index()], 1);
        if row.eligible {
            bump(&shard.eligible, 1);
        }
        if row.served.is_some() {
            bump(&shard.fallback, 1);
        }
        if let Some(tokens) = row.input_tokens {
            bump(&shard.input_tokens, tokens);
        }
        if let Some(tokens) = row.output_tokens {
            bump(&shard.output_tokens, tokens);
        }
        if let Some(micros) = row.t_total.get() {
            shard.duration.add(micros);
        }
        if let Some(micros) = row.t_first_byte.get() {
            shard.first_byte.add(micros);
        }
    }

    /// Sum over the workers.
    pub fn merged(&self) -> Tally {
        let mut out = Tally::default();
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            for (sum, count) in out.outcomes.iter_mut().zip(&shard.outcomes) {
                *sum += count.load(Relaxed);
            }
            out.eligible += shard.eligible.load(Relaxed);
            out.fallback += shard.fallback.load(Relaxed);
            for (sum, count) in out.watched.reasons.iter_mut().zip(&shard.reasons) {
                let count = count.load(Relaxed);
                *sum += count;
                out.started += count;
            }
            out.watched.refused += shard.refused.load(Relaxed);
            out.watched.streams_open += shard.streams_open.load(Relaxed);
            out.watched.overhead.merge(&shard.overhead.read());
            out.input_tokens += shard.input_tokens.load(Relaxed);
            out.output_tokens += shard.output_tokens.load(Relaxed);
            shard.duration.merge_into(&mut out.duration);
            shard.first_byte.merge_into(&mut out.first_byte);
        }
        out
    }
}

/// Every cell of this process.
#[derive(Debug)]
pub struct Tallies {
    workers: usize,
    live: Mutex<HashMap<TallyKey, Arc<Cell>>>,
    // Cells of revisions that nothing names any more, folded so that counters never fall.
    retired: Mutex<HashMap<TallyKey, Tally>>,
}

impl Tallies {
    /// For `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self { workers, live: Mutex::default(), retired: Mutex::default() }
    }

    /// The cell of `key`, made if new.
    pub fn cell(&self, key: TallyKey) -> Arc<Cell> {
        let mut live = self.live.lock();
        Arc::clone(live.entry(key).or_insert_with(|| {
            Arc::new(Cell {
                key,
                shards: (0..self.workers).map(|_| OnceLock::new()).collect(),
                leaving: false.into(),
            })
        }))
    }

    /// Sums per (route, experiment, variant) over all revisions of this process, in a stable order:
    /// what counters show.
    pub fn by_variant(&self) -> Vec<(TallyKey, Tally)> {
        // Both locks at once, in the order of `retire`: a cell must not be seen in neither.
        let live = self.live.lock();
        let mut sums: HashMap<TallyKey, Tally> = self.retired.lock().clone();
        let cells: Vec<Arc<Cell>> = live.values().cloned().collect();
        drop(live);
        for cell in cells {
            let key = TallyKey { revision: 0, ..cell.key };
            sums.entry(key).or_default().merge(&cell.merged());
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|(key, _)| *key);
        sums
    }

    /// Sums per (route, experiment, revision, variant) of cells that are alive: what is saved.
    pub fn by_revision(&self) -> Vec<(TallyKey, Tally)> {
        self.cells().iter().map(|cell| (cell.key, cell.merged())).collect()
    }

    /// Folds cells that no snapshot and no request holds any more. In two steps: what is found unheld
    /// now goes at the next call, so that a save in between has all of it.
    pub fn retire(&self) {
        let mut live = self.live.lock();
        let gone: Vec<TallyKey> = live
            .iter()
            .filter(|(key, cell)| {
                let unheld = key.revision > 0 && Arc::strong_count(cell) == 1;
                cell.leaving.swap(unheld, Relaxed) && unheld
            })
            .map(|(key, _)| *key)
            .collect();
        let mut retired = self.retired.lock();
        for key in gone {
            if let Some(cell) = live.remove(&key) {
                let key = TallyKey { revision: 0, ..key };
                retired.entry(key).or_default().merge(&cell.merged());
            }
        }
    }

    /// Requests begun in this process, by `Reason::index`, of cells that are alive and belong to an
    /// experiment.
    pub fn begun(&self) -> Vec<(TallyKey, [u64; Reason::WORDS.len()])> {
        let cells = self.cells().into_iter().filter(|cell| cell.key.revision > 0);
        cells
            .map(|cell| {
                let mut begun = [0; Reason::WORDS.len()];
                for shard in cell.shards.iter().filter_map(OnceLock::get) {
                    for (sum, count) in begun.iter_mut().zip(&shard.reasons) {
                        *sum += count.load(Relaxed);
                    }
                }
                (cell.key, begun)
            })
            .collect()
    }

    fn cells(&self) -> Vec<Arc<Cell>> {
        self.live.lock().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::row::Micros;

    fn row(micros: u64) -> Row {
        Row {
            t_total: Micros::from_micros(micros),
            t_first_byte: Micros::from_micros(micros / 2),
            eligible: true,
            output_tokens: Some(3),
            ..Row::default()
        }
    }

    fn key(revision: u64) -> TallyKey {
        TallyKey { route: "chat", experiment: "int8", revision, variant: "canary" }
    }

    #[test]
    fn shards_of_all_workers_add_up_and_survive_the_store() {
        let tallies = Tallies::new(2);
        let cell = tallies.cell(key(1));
        cell.begin(0, Reason::Split);
        cell.add(0, &row(7_000), Outcome::Ok);
        cell.add(1, &row(90_000_000), Outcome::Timeout);
        let tally = cell.merged();
        assert_eq!((tally.requests(), tally.failures(), tally.started), (2, 1, 1));
        assert_eq!(tally.duration.count(), 2);
        assert_eq!(tally.output_tokens, 6);
        assert_eq!(tally.watched.reasons[Reason::Split.index()], 1);
        let again = Tally::from_bytes(&tally.to_bytes()).unwrap();
        assert_eq!(again.watched, Watched::default(), "of this process only");
        let tally = Tally { watched: Watched::default(), ..tally };
        assert_eq!(format!("{again:?}"), format!("{tally:?}"));
        assert!(Tally::from_bytes(b"other").is_none());
    }

    #[test]
    fn counters_do_not_fall_when_a_revision_retires() {
        let tallies = Tallies::new(1);
        let old = tallies.cell(key(1));
        old.add(0, &row(1_000), Outcome::Ok);
        let new = tallies.cell(key(2));
        new.add(0, &row(1_000), Outcome::Ok);
        tallies.retire();
        assert_eq!(tallies.by_revision().len(), 2, "both are still held");
        drop(old);
        tallies.retire();
        assert_eq!(tallies.by_revision().len(), 2, "the next save has it once more");
        tallies.retire();
        assert_eq!(tallies.by_revision().len(), 1);
        assert_eq!(tallies.by_variant()[0].1.requests(), 2);
    }

    #[test]
    fn bounds_in_seconds_and_in_microseconds_are_the_same() {
        for (seconds, micros) in BOUNDS.iter().zip(BOUNDS_MICROS) {
            assert!((seconds * 1e6 - micros as f64).abs() < 0.5);
        }
    }
}
