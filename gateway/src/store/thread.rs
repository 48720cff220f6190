//! The one thread that talks to the store, and the handles through which everybody else does.
//!
//! A database blocks: on a lock, on a disk, on another process. So no request and no admin task ever
//! calls it; they leave a job here and wait for the answer, or learn at once that too many are
//! waiting. There are two queues: what people and ramps do goes before batches of outcomes, so that
//! a kill switch does not stand in line behind traffic.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{Store, StoreError};
use crate::clock;
use crate::telemetry::histogram::{Counted, StepTimes};

/// Control calls that may wait.
pub const CONTROL_CALLS: usize = 256;

/// Batches of outcomes that may wait; what comes then goes to the spool.
pub const BATCHES: usize = 32;

/// Something to do with the store; answers whoever asked by itself.
type Job = Box<dyn FnOnce(&mut dyn Store, &Counters) + Send>;

/// Makes the thread.
#[derive(Debug)]
pub struct StoreThread;

impl StoreThread {
    /// Starts a thread that owns `store` until [`StoreHandle::close`], or until no handle is left.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn spawn(store: Box<dyn Store>) -> io::Result<(StoreHandle, JoinHandle<()>)> {
        let shared = Arc::new(Shared {
            queues: Mutex::new(Queues::default()),
            wake: Condvar::new(),
            counters: Counters::default(),
        });
        let of_thread = Arc::clone(&shared);
        let thread =
            Builder::new().name("weir-store".to_owned()).spawn(move || work(&of_thread, store))?;
        Ok((StoreHandle(Arc::new(LastOut(shared))), thread))
    }
}

/// Leaves jobs with the store's thread.
#[derive(Clone, Debug)]
pub struct StoreHandle(Arc<LastOut>);

/// Closes the store's thread when the last handle goes.
#[derive(Debug)]
struct LastOut(Arc<Shared>);

impl Drop for LastOut {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Which queue.
#[derive(Clone, Copy)]
enum Lane {
    Control,
    Batch,
}

/// What goes through each of the two queues: label `operation` of `weir_store_operation_seconds`.
pub const OPERATIONS: [&str; 2] = ["control", "batch"];

impl StoreHandle {
    /// Runs `job` on the store's thread, before any waiting batch.
    ///
    /// Dropping the future does not take the job back.
    ///
    /// # Errors
    /// Those of `job`; `Unavailable` at once if [`CONTROL_CALLS`] are waiting or the store is
    /// closed, and if `job` panics.
    pub async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.wait(Lane::Control, job).await
    }

    /// Runs `job` after every waiting control call: for batches of outcomes and what else comes with
    /// traffic.
    ///
    /// # Errors
    /// As [`StoreHandle::call`], for [`BATCHES`].
    pub async fn batch<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.wait(Lane::Batch, job).await
    }

    /// [`StoreHandle::call`] for threads that may block.
    ///
    /// # Errors
    /// As [`StoreHandle::call`].
    pub fn call_blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.block(Lane::Control, job)
    }

    /// [`StoreHandle::batch`] for threads that may block.
    ///
    /// # Errors
    /// As [`StoreHandle::batch`].
    pub fn batch_blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.block(Lane::Batch, job)
    }

    /// Leaves `job` among the batches and goes on; `answer` gets its result on the store's thread.
    ///
    /// # Errors
    /// As [`StoreHandle::batch`], except those of `job`; then neither closure ran.
    pub fn submit<T>(
        &self,
        job: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
        answer: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.push(Lane::Batch, job, answer)
    }

    /// Takes no more jobs, finishes those that wait, and ends the thread. Returns at once; join the
    /// thread to know that it is done.
    pub fn close(&self) {
        self.0.0.close();
    }

    /// What happened so far.
    pub fn stats(&self) -> StoreStats {
        let shared = &self.0.0;
        let (control_waiting, batches_waiting) = {
            let queues = shared.queues.lock();
            (queues.control.len(), queues.batches.len())
        };
        let counters = &shared.counters;
        StoreStats {
            up: !counters.down.load(Relaxed),
            operations: counters.operations.load(Relaxed),
            took: counters.took.each_ref().map(StepTimes::read),
            busy: counters.busy.load(Relaxed),
            audited: counters.audited.load(Relaxed),
            unavailable: counters.unavailable.load(Relaxed),
            damaged: counters.damaged.load(Relaxed),
            newer: counters.newer.load(Relaxed),
            exists: counters.exists.load(Relaxed),
            missing: counters.missing.load(Relaxed),
            panics: counters.panics.load(Relaxed),
            refused: counters.refused.load(Relaxed),
            control_waiting,
            batches_waiting,
            last_error: counters.last_error.lock().clone(),
        }
    }

    async fn wait<T: Send + 'static>(
        &self,
        lane: Lane,
        job: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.push(lane, job, |result| drop(answer.send(result)))?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    fn block<T: Send + 'static>(
        &self,
        lane: Lane,
        job: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.push(lane, job, move |result| drop(answer.send(result)))?;
        answered.recv().unwrap_or_else(|_| Err(gone()))
    }

    fn push<T>(
        &self,
        lane: Lane,
        job: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
        answer: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        let shared = &self.0.0;
        let job: Job = Box::new(move |store, counters| answer(run(store, counters, lane, job)));
        let mut queues = shared.queues.lock();
        if queues.closed {
            return Err(gone());
        }
        let (queue, most) = match lane {
            Lane::Control => (&mut queues.control, CONTROL_CALLS),
            Lane::Batch => (&mut queues.batches, BATCHES),
        };
        if queue.len() >= most {
            shared.counters.refused.fetch_add(1, Relaxed);
            return Err(StoreError::Unavailable(format!("{most} calls are waiting for it")));
        }
        queue.push_back(job);
        drop(queues);
        shared.wake.notify_one();
        Ok(())
    }
}

/// What happened on the store's thread since it started: for metrics and the status page.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreStats {
    /// Whether the last operation reached the store. True before the first.
    pub up: bool,
    /// Operations run, whatever their result.
    pub operations: u64,
    /// Time spent in them, by [`OPERATIONS`].
    pub took: [Counted; OPERATIONS.len()],
    /// Whether one runs now.
    pub busy: bool,
    /// Audit entries stored.
    pub audited: u64,
    /// Operations that found the store locked, full, read-only or gone; panics too.
    pub unavailable: u64,
    /// Operations that found it damaged.
    pub damaged: u64,
    /// Operations that found a newer schema.
    pub newer: u64,
    /// Operations that came too late: a row was there already. Not a fault.
    pub exists: u64,
    /// Operations on a row that is not there. Not a fault.
    pub missing: u64,
    /// Operations that panicked.
    pub panics: u64,
    /// Operations not taken because too many were waiting.
    pub refused: u64,
    /// Control calls that wait now.
    pub control_waiting: usize,
    /// Batches that wait now.
    pub batches_waiting: usize,
    /// The last fault and its time.
    pub last_error: Option<LastError>,
}

/// The last operation that did not reach the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// What was said.
    pub text: String,
    /// When, microseconds since 1970.
    pub at: i64,
}

struct Shared {
    queues: Mutex<Queues>,
    wake: Condvar,
    counters: Counters,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl Shared {
    fn close(&self) {
        self.queues.lock().closed = true;
        self.wake.notify_one();
    }

    /// The next job, control calls first; `None` when closed and empty.
    fn next(&self) -> Option<Job> {
        let mut queues = self.queues.lock();
        loop {
            let job = queues.control.pop_front().or_else(|| queues.batches.pop_front());
            if job.is_some() || queues.closed {
                return job;
            }
            self.wake.wait(&mut queues);
        }
    }
}

#[derive(Default)]
struct Queues {
    control: VecDeque<Job>,
    batches: VecDeque<Job>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Counters {
    down: AtomicBool,
    operations: AtomicU64,
    // By `Lane`; written by the store's thread alone.
    took: [StepTimes; OPERATIONS.len()],
    busy: AtomicBool,
    audited: AtomicU64,
    unavailable: AtomicU64,
    damaged: AtomicU64,
    newer: AtomicU64,
    exists: AtomicU64,
    missing: AtomicU64,
    panics: AtomicU64,
    refused: AtomicU64,
    last_error: Mutex<Option<LastError>>,
}

impl Counters {
    fn count(&self, error: Option<&StoreError>) {
        let (counter, fault) = match error {
            None => (None, false),
            Some(StoreError::Unavailable(_)) => (Some(&self.unavailable), true),
            Some(StoreError::Damaged(_)) => (Some(&self.damaged), true),
            Some(StoreError::Newer { .. }) => (Some(&self.newer), true),
            Some(StoreError::Exists(_)) => (Some(&self.exists), false),
            Some(StoreError::Missing(_)) => (Some(&self.missing), false),
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Relaxed);
        }
        if let Some(error) = error.filter(|_| fault) {
            let last = LastError { text: error.to_string(), at: clock::unix_micros() };
            *self.last_error.lock() = Some(last);
        }
        self.down.store(fault, Relaxed);
    }
}

fn work(shared: &Shared, mut store: Box<dyn Store>) {
    while let Some(job) = shared.next() {
        job(&mut *store, &shared.counters);
    }
}

/// Runs one job and counts it. A panic ends the job and nothing else.
fn run<T>(
    store: &mut dyn Store,
    counters: &Counters,
    lane: Lane,
    job: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    counters.busy.store(true, Relaxed);
    let start = clock::now();
    // What a panic may leave half done is the store's connection, and that is made anew.
    let result = catch_unwind(AssertUnwindSafe(|| job(&mut *store))).unwrap_or_else(|panic| {
        counters.panics.fetch_add(1, Relaxed);
        let text = format!("an operation panicked: {}", text_of(&*panic));
        let text = match catch_unwind(AssertUnwindSafe(|| store.reopen())) {
            Ok(Ok(())) => text,
            Ok(Err(error)) => format!("{text}; then: {error}"),
            Err(panic) => format!("{text}; then: {}", text_of(&*panic)),
        };
        Err(StoreError::Unavailable(text))
    });
    counters.busy.store(false, Relaxed);
    counters.took[lane as usize].add(start.elapsed());
    counters.audited.store(store.audited(), Relaxed);
    counters.operations.fetch_add(1, Relaxed);
    counters.count(result.as_ref().err());
    result
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

fn gone() -> StoreError {
    StoreError::Unavailable("it is closed".to_owned())
}

#[cfg(test)]
mod tests;
