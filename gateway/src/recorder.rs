//! From a finished request to its access line, its outcome row and its spans.
//!
//! A worker hands over a row through one bounded queue and goes on; nothing here ever makes it wait.
//! One thread drains the queue every few milliseconds, writes access lines, passes sampled rows to
//! the trace exporter and batches outcome rows for the store. When the store is away, rows wait, then
//! go to the spool on disk, then are dropped, and every loss is counted: at any moment
//! `assigned = recorded + dropped + pending` (hardening D6).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::clock;
use crate::config::plan::{AccessLog, Durability, Recording};
use crate::evidence::EvidenceBook;
use crate::recorder::row::Row;
use crate::store::spool::{ReplayError, Spool};
use crate::store::thread::StoreHandle;
use crate::store::{StoreError, TallyRow};
use crate::telemetry::access_line;
use crate::telemetry::counters::{WorkerCounters, bump};
use crate::telemetry::histogram::StepTimes;
use crate::telemetry::traces::SpanSender;
use crate::threads::Turns;

pub mod row;
pub mod tally;
pub mod tried;

/// Rows in the queue at most (L16).
const QUEUE: usize = 16_384;
/// Rows that wait in memory for a store that is away, before they go to the spool.
const BACKLOG: usize = 16_384;
/// Rows of one transaction.
const BATCH: usize = 4_096;
/// How often the queue is drained. A row waits this long for its batch, or until the commit under
/// way is done if that takes longer, and then for its own commit: 50 ms leave 15 ms for each (D2).
const TICK: Duration = Duration::from_millis(20);
/// Rows that are drained together.
const AT_HAND: usize = 32;
/// How often tallies are saved.
const SAVE_TALLIES: Duration = Duration::from_secs(1);
/// Outcomes deleted at once.
const PRUNED: u32 = 5_000;
/// Spare rows kept for each worker.
const SPARE: usize = 1_024;

/// Why rows were not stored.
pub const DROP_REASONS: [&str; 4] = ["queue_full", "spool_full", "spool_failed", "off"];

struct Item {
    row: Box<Row>,
    ticket: Ticket,
}

/// What stays here while the store or the spool has the row.
struct Ticket {
    worker: usize,
    ack: Option<oneshot::Sender<bool>>,
}

/// Counts of the recorder, for metrics.
#[derive(Debug, Default)]
pub struct RecorderCounts {
    /// Rows on stable storage.
    pub recorded: AtomicU64,
    /// Rows lost, by [`DROP_REASONS`]; `queue_full` is counted by the workers.
    pub dropped: [AtomicU64; DROP_REASONS.len()],
    /// Rows in hand: drained and not yet stored.
    pub in_hand: AtomicU64,
    /// Rows in the spool.
    pub spooled: AtomicU64,
    /// Bytes in the spool.
    pub spool_bytes: AtomicU64,
    /// Time of commits that succeeded.
    pub commits: StepTimes,
    /// Access lines that found their writer busy.
    pub lines_dropped: AtomicU64,
    /// Spans of rows that found the queue full.
    pub spans_dropped: AtomicU64,
}

/// Takes finished rows.
pub struct Recorder {
    queue: Arc<ArrayQueue<Item>>,
    spare: Arc<[ArrayQueue<Box<Row>>]>,
    seq: AtomicU64,
    sync: AtomicBool,
    stop: Arc<AtomicBool>,
    thread: OnceLock<Thread>,
    // TICK, but for tests.
    tick: Duration,
    /// Counts.
    pub counts: Arc<RecorderCounts>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("queued", &self.queue.len()).finish_non_exhaustive()
    }
}

impl Recorder {
    /// For `workers` workers. Rows wait until [`Self::start`].
    pub fn new(workers: usize) -> Self {
        Self {
            queue: Arc::new(ArrayQueue::new(QUEUE)),
            spare: (0..workers).map(|_| ArrayQueue::new(SPARE)).collect(),
            seq: AtomicU64::new(0),
            sync: AtomicBool::new(false),
            stop: Arc::default(),
            thread: OnceLock::new(),
            tick: TICK,
            counts: Arc::default(),
        }
    }

    /// An empty row for a worker. Emptied here, by who fills it next: a row that comes back is not
    /// touched once more before.
    pub fn take_row(&self, worker: usize) -> Box<Row> {
        let Some(mut row) = self.spare[worker].pop() else { return Box::default() };
        row.clear();
        row
    }

    /// The number of the next assigned request (D4).
    pub fn next_seq(&self) -> u64 {
        self.seq.fetch_add(1, Relaxed) + 1
    }

    /// Whether the last byte of an answer waits for the store.
    pub fn waits_for_store(&self) -> bool {
        self.sync.load(Relaxed)
    }

    /// Rows waiting to be drained.
    pub fn queued(&self) -> u64 {
        self.queue.len() as u64
    }

    /// Hands over a finished row. Never waits; without room the row is lost and counted.
    pub fn finish(
        &self,
        worker: usize,
        counters: &WorkerCounters,
        row: Box<Row>,
        ack: Option<oneshot::Sender<bool>>,
    ) {
        let assigned = row.outcome.is_some() && row.seq > 0;
        let urgent = ack.is_some();
        if let Err(item) = self.queue.push(Item { row, ticket: Ticket { worker, ack } }) {
            self.spans_lost(&item.row);
            if assigned {
                bump(&counters.queue_full, 1);
            }
        }
        if assigned {
            bump(&counters.finished, 1);
        }
        if urgent && let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Hands over what is known of a copy to a shadow, for its span. Never waits; without room the
    /// span is lost and counted.
    pub fn copy_ended(&self, worker: usize, row: Box<Row>) {
        if let Err(item) = self.queue.push(Item { row, ticket: Ticket { worker, ack: None } }) {
            self.spans_lost(&item.row);
        }
    }

    fn spans_lost(&self, row: &Row) {
        if row.sampled {
            self.counts.spans_dropped.fetch_add(row.span_count() as u64, Relaxed);
        }
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// When the spool's folder cannot be used, or no thread can be had.
    #[expect(clippy::too_many_arguments, reason = "the parts of the process meet here once")]
    pub fn start(
        &self,
        recording: &Recording,
        access_log: &AccessLog,
        boot: [u8; 16],
        store: StoreHandle,
        spans: Option<SpanSender>,
        evidence: Arc<EvidenceBook>,
        tallies: impl Fn() -> Vec<TallyRow> + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        self.sync.store(recording.outcomes == Durability::Sync, Relaxed);
        let spool = Spool::open(&recording.spool, recording.spool_bytes)?;
        let drain = Drain {
            queue: Arc::clone(&self.queue),
            spare: Arc::clone(&self.spare),
            counts: Arc::clone(&self.counts),
            durability: recording.outcomes,
            retention: recording.retention,
            boot,
            store,
            spans,
            evidence,
            lines: crate::telemetry::logs::AccessWriter::open(access_log)?,
            only_errors: *access_log == AccessLog::Errors,
            spool,
            drained: Vec::new(),
            backlog: Vec::new(),
            under_way: None,
            awaited: Arc::default(),
            tick: self.tick,
            retry_at: None,
            backoff: Duration::from_millis(100),
            tallies: Box::new(tallies),
            saved_at: clock::now(),
            saving: None,
            pruned_at: clock::now(),
            prune_more: Arc::default(),
            replay_rest: true,
        };
        let stop = Arc::clone(&self.stop);
        let handle =
            std::thread::Builder::new().name("recorder".into()).spawn(move || drain.run(&stop))?;
        // Started once: a second thread would not be woken.
        let _ = self.thread.set(handle.thread().clone());
        Ok(handle)
    }

    /// Lets the thread finish what is there and end.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// A batch that the store has.
struct UnderWay {
    // Of the rows, which the job borrows.
    tickets: Vec<Ticket>,
    #[expect(clippy::vec_box, reason = "rows move as pointers and are recycled")]
    slot: Arc<Mutex<Vec<Box<Row>>>>,
    answer: std::sync::mpsc::Receiver<(Result<(), StoreError>, Duration)>,
}

struct Drain {
    queue: Arc<ArrayQueue<Item>>,
    spare: Arc<[ArrayQueue<Box<Row>>]>,
    counts: Arc<RecorderCounts>,
    durability: Durability,
    retention: Option<Duration>,
    boot: [u8; 16],
    store: StoreHandle,
    spans: Option<SpanSender>,
    evidence: Arc<EvidenceBook>,
    lines: crate::telemetry::logs::AccessWriter,
    only_errors: bool,
    spool: Spool,
    // Empty but while the queue is drained.
    drained: Vec<Item>,
    backlog: Vec<Item>,
    under_way: Option<UnderWay>,
    // Whether rows or answers wait for the batch under way: then its end wakes this thread.
    awaited: Arc<AtomicBool>,
    tick: Duration,
    retry_at: Option<Instant>,
    backoff: Duration,
    tallies: Box<dyn Fn() -> Vec<TallyRow> + Send>,
    saved_at: Instant,
    saving: Option<std::sync::mpsc::Receiver<bool>>,
    pruned_at: Instant,
    // Whether the last deletion found as much as it may delete at once.
    prune_more: Arc<AtomicBool>,
    // Whether the spool may hold rows.
    replay_rest: bool,
}

impl Drain {
    fn run(mut self, stop: &AtomicBool) {
        loop {
            let stopping = stop.load(Relaxed);
            self.drain();
            self.collect();
            self.submit();
            self.save_tallies(stopping);
            self.prune();
            if stopping && self.queue.is_empty() {
                self.finish();
                return;
            }
            if self.queue.len() < QUEUE / 8 {
                std::thread::park_timeout(self.tick);
            }
        }
    }

    /// Takes what the workers left: a line each, spans for some, a row to store for most.
    fn drain(&mut self) {
        self.evidence.take_feedback();
        let mut drained = std::mem::take(&mut self.drained);
        let mut turns = Turns::default();
        loop {
            self.drain_some(&mut drained);
            if drained.is_empty() {
                break;
            }
            self.evidence.add(drained.iter().map(|item| &*item.row));
            for item in drained.drain(..) {
                self.keep(item);
            }
            turns.give();
            if self.backlog.len() >= BACKLOG {
                break;
            }
        }
        self.drained = drained;
        if !self.lines.flush() {
            self.counts.lines_dropped.fetch_add(1, Relaxed);
        }
    }

    /// Takes a few rows: so few that each is still at hand when the next of these steps comes to it.
    fn drain_some(&mut self, drained: &mut Vec<Item>) {
        while drained.len() < AT_HAND
            && let Some(mut item) = self.queue.pop()
        {
            if self.retry_at.is_some()
                && let Some(ack) = item.ticket.ack.take()
            {
                // Live traffic does not wait for a store that is away (D5).
                let _ = ack.send(false);
            }
            let row = &*item.row;
            // An answer of the gateway's own has no outcome; it failed if it says so.
            let own = row.outcome.is_none() && row.rejected.is_none() && row.status < 400;
            let failed = row.outcome != Some(policies::Outcome::Ok) && !own;
            if !row.spans.copy && !self.lines.is_off() && (failed || !self.only_errors) {
                let stored = self.durability != Durability::Off && self.retry_at.is_none();
                access_line::write(row, stored, self.lines.buffer());
            }
            if row.sampled
                && let Some(spans) = &self.spans
            {
                // Without room they are lost, and counted there.
                let _ = spans.send(row);
            }
            drained.push(item);
        }
    }

    /// Keeps a row for the store, if that is where it goes.
    fn keep(&mut self, item: Item) {
        if item.row.outcome.is_none() || item.row.seq == 0 {
            self.recycle(item.row, item.ticket, true);
        } else if self.durability == Durability::Off {
            self.counts.dropped[3].fetch_add(1, Relaxed);
            self.recycle(item.row, item.ticket, true);
        } else {
            self.counts.in_hand.fetch_add(1, Relaxed);
            self.backlog.push(item);
        }
    }

    fn recycle(&self, row: Box<Row>, ticket: Ticket, stored: bool) {
        if let Some(ack) = ticket.ack {
            let _ = ack.send(stored);
        }
        // A full pool of spares lets the row go.
        let _ = self.spare[ticket.worker].push(row);
    }

    /// Looks whether the store is done with the last batch.
    fn collect(&mut self) {
        let Some(under_way) = &self.under_way else { return };
        if !self.backlog.is_empty() {
            // Said before looking, so that an end that is not seen here sees this.
            self.awaited.store(true, SeqCst);
        }
        match under_way.answer.try_recv() {
            Ok((result, took)) => self.settle(result, took),
            Err(std::sync::mpsc::TryRecvError::Empty) => {}
            Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                let gone = StoreError::Unavailable("its thread has ended".into());
                self.settle(Err(gone), Duration::ZERO);
            }
        }
    }

    /// The batch under way is stored, or is not.
    fn settle(&mut self, result: Result<(), StoreError>, took: Duration) {
        let Some(UnderWay { tickets, slot, .. }) = self.under_way.take() else { return };
        let rows = std::mem::take(&mut *slot.lock());
        let count = rows.len() as u64;
        match result {
            Ok(()) => {
                if self.retry_at.take().is_some() {
                    crate::telemetry::events::store_up();
                }
                self.backoff = Duration::from_millis(100);
                self.counts.commits.add(took);
                self.counts.in_hand.fetch_sub(count, Relaxed);
                self.counts.recorded.fetch_add(count, Relaxed);
                for (row, ticket) in rows.into_iter().zip(tickets) {
                    self.recycle(row, ticket, true);
                }
            }
            Err(error) => {
                if self.retry_at.is_none() {
                    crate::telemetry::events::store_down(&error);
                }
                self.retry_at = Some(clock::now() + self.backoff);
                self.backoff = (self.backoff * 2).min(Duration::from_secs(5));
                let items = rows.into_iter().zip(tickets).map(|(row, mut ticket)| {
                    // Their answers go on; the rows are not durable (D5).
                    if let Some(ack) = ticket.ack.take() {
                        let _ = ack.send(false);
                    }
                    Item { row, ticket }
                });
                self.backlog.splice(..0, items);
            }
        }
    }

    /// Gives the store its next batch, or the spool what does not fit.
    fn submit(&mut self) {
        if self.under_way.is_some() {
            if self.backlog.len() >= BACKLOG {
                self.spool_backlog();
            }
            return;
        }
        if let Some(at) = self.retry_at {
            if self.backlog.len() >= BACKLOG / 2 {
                self.spool_backlog();
            }
            if clock::now() < at {
                return;
            }
        }
        if self.retry_at.is_none() {
            self.replay();
        }
        // With nothing new to try with, an empty batch asks whether the store is back.
        if self.backlog.is_empty() && self.retry_at.is_none() {
            return;
        }
        let take = self.backlog.len().min(BATCH);
        let (rows, tickets): (Vec<_>, Vec<_>) =
            self.backlog.drain(..take).map(|item| (item.row, item.ticket)).unzip();
        let boot = self.boot;
        let again = self.retry_at.is_some();
        let (answer, under_way) = std::sync::mpsc::sync_channel(1);
        // The rows come back whatever happens, also if the job panics or never runs.
        let slot = Arc::new(Mutex::new(rows));
        let of_job = Arc::clone(&slot);
        // An answer that waits is let go as soon as its row is stored.
        self.awaited.store(tickets.iter().any(|ticket| ticket.ack.is_some()), SeqCst);
        let (awaited, thread) = (Arc::clone(&self.awaited), std::thread::current());
        let began = clock::now();
        let submitted = self.store.submit(
            move |store| {
                let rows = of_job.lock();
                if again {
                    store.reopen()?;
                }
                // A store that is locked can be opened: only a write shows that it is back.
                match () {
                    () if rows.is_empty() => store.check(),
                    // The commit that failed may have landed.
                    () if again => store.add_outcomes(boot, &rows),
                    () => store.add_new_outcomes(boot, &rows),
                }
            },
            move |result| {
                // Nobody takes it once the recorder has ended.
                let _ = answer.send((result, began.elapsed()));
                if awaited.load(SeqCst) {
                    thread.unpark();
                }
            },
        );
        self.under_way = Some(UnderWay { tickets, slot, answer: under_way });
        if let Err(error) = submitted {
            self.settle(Err(error), Duration::ZERO);
        }
    }

    /// Puts waiting rows on disk beside the store; what does not fit is dropped and counted.
    fn spool_backlog(&mut self) {
        let (rows, tickets): (Vec<_>, Vec<_>) =
            self.backlog.drain(..).map(|item| (item.row, item.ticket)).unzip();
        let count = rows.len() as u64;
        self.counts.in_hand.fetch_sub(count, Relaxed);
        match self.spool.append(self.boot, &rows) {
            Ok(appended) => {
                self.replay_rest = true;
                self.counts.spooled.fetch_add(appended.stored, Relaxed);
                self.counts.dropped[1].fetch_add(appended.refused, Relaxed);
            }
            Err(error) => {
                crate::telemetry::events::spool_failed(&error);
                self.counts.dropped[2].fetch_add(count, Relaxed);
            }
        }
        self.counts.spool_bytes.store(self.spool.pending_bytes(), Relaxed);
        for (row, ticket) in rows.into_iter().zip(tickets) {
            self.recycle(row, ticket, false);
        }
    }

    /// Brings the oldest spooled rows into the store, also those of an earlier process: a segment at
    /// a time, so that the queue is drained in between.
    fn replay(&mut self) {
        if !self.replay_rest {
            return;
        }
        let store = self.store.clone();
        let own = self.boot;
        let counts = Arc::clone(&self.counts);
        // Counted once the segment is through: what fails half-way comes again as a whole.
        let mut stored = 0;
        let replayed = self.spool.replay_oldest(|boot, rows| {
            let count = rows.len() as u64;
            store.batch_blocking(move |store| store.add_outcomes(boot, &rows))?;
            if boot == own {
                stored += count;
            }
            Ok(())
        });
        match replayed {
            Ok(Some(_)) => {
                counts.recorded.fetch_add(stored, Relaxed);
                counts.spooled.fetch_sub(stored.min(counts.spooled.load(Relaxed)), Relaxed);
            }
            Ok(None) => self.replay_rest = false,
            Err(ReplayError::Store(error)) => {
                self.retry_at = Some(clock::now() + self.backoff);
                crate::telemetry::events::store_down(&error);
            }
            Err(ReplayError::Io(error)) => {
                self.replay_rest = false;
                crate::telemetry::events::spool_failed(&error);
            }
        }
        self.counts.spool_bytes.store(self.spool.pending_bytes(), Relaxed);
    }

    /// Saves tallies and evidence once a second: cumulative, so that a repeat is harmless.
    fn save_tallies(&mut self, now_please: bool) {
        if let Some(saving) = &self.saving {
            match saving.try_recv() {
                Err(std::sync::mpsc::TryRecvError::Empty) => return,
                Ok(true) => {}
                // What was not saved is tried again as a whole.
                Ok(false) | Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                    self.evidence.not_saved();
                }
            }
            self.saving = None;
        }
        if !now_please && self.saved_at.elapsed() < SAVE_TALLIES || self.retry_at.is_some() {
            return;
        }
        self.saved_at = clock::now();
        let rows = (self.tallies)();
        self.evidence.freeze_due();
        let evidence = self.evidence.unsaved(now_please);
        if rows.is_empty() && evidence.is_empty() {
            return;
        }
        let boot = self.boot;
        let (done, saving) = std::sync::mpsc::sync_channel(1);
        let submitted = self.store.submit(
            move |store| {
                store.set_tallies(boot, &rows)?;
                store.set_evidence(&evidence)
            },
            move |saved| {
                let _ = done.send(saved.is_ok());
            },
        );
        if submitted.is_err() {
            self.evidence.not_saved();
        }
        self.saving = submitted.is_ok().then_some(saving);
    }

    /// Deletes outcomes past their retention, a little at a time.
    fn prune(&mut self) {
        let Some(retention) = self.retention else { return };
        let more = self.prune_more.swap(false, Relaxed);
        if (!more && self.pruned_at.elapsed() < Duration::from_secs(10)) || self.retry_at.is_some()
        {
            return;
        }
        self.pruned_at = clock::now();
        let age = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
        let before = clock::unix_micros().saturating_sub(age);
        // What is not deleted now is deleted in ten seconds.
        let more = Arc::clone(&self.prune_more);
        let _ = self.store.submit(
            move |store| {
                // What was said of an answer goes with it.
                let said = store.delete_feedback(before, PRUNED)?;
                Ok(store.delete_outcomes(before, PRUNED)?.max(said))
            },
            move |deleted| more.store(deleted.is_ok_and(|n| n >= u64::from(PRUNED)), Relaxed),
        );
        let evidence = Arc::clone(&self.evidence);
        let _ = self.store.submit(
            move |store| store.delete_evidence(before),
            move |deleted| {
                if let Ok(experiments) = deleted {
                    evidence.forget(&experiments);
                }
            },
        );
    }

    /// The end: everything in hand is stored, or spooled, before the thread leaves.
    fn finish(&mut self) {
        let deadline = clock::now() + Duration::from_secs(10);
        while clock::now() < deadline {
            self.collect();
            if self.under_way.is_none() {
                if self.backlog.is_empty() || self.retry_at.is_some() {
                    break;
                }
                self.submit();
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if !self.backlog.is_empty() {
            self.spool_backlog();
        }
        self.save_tallies(true);
        let _ = self.lines.flush();
        self.lines.close();
    }
}

#[cfg(test)]
mod tests;
