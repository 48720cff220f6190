//! Answers to copies beside those that clients got: pairs are made on the workers and compared here.
//!
//! The two sides of a pair live on one worker, so they meet without a lock or a table
//! (`request/shadow/watch.rs`); whoever comes second leaves the pair in one bounded queue and goes on.
//! A thread of its own compares (`comparison/thread.rs`): reading and comparing bodies takes
//! milliseconds, which neither a worker nor the recorder has. What is full drops and counts; nothing
//! here can delay, alter or fail an answer (hardening T26).
//!
//! What is counted is kept by shadow (`comparison/known.rs`), saved once a second, and read back at
//! start. Bodies are kept within bounds (`comparison/kept.rs`) and only until they are compared, unless
//! route and shadow both say that disagreements are kept (`comparison/sample.rs`, T27).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;
use policies::comparison::How;
use policies::statistics::agreement::Comparison;
use serde_json::{Value, json};

use crate::config::plan::Compare;
use crate::names::{Name, intern};
use crate::snapshot::Snapshot;
use crate::store::thread::StoreHandle;
use crate::worker::Shared;

pub mod kept;
pub mod known;
pub mod pair;
pub(crate) mod said;
pub mod sample;
mod thread;

use kept::Room;
use known::{ComparisonRow, Known};
use pair::Pair;

/// Pairs that wait at most. Their bodies have a bound of their own.
const QUEUE: usize = 2_048;

/// The comparisons of the process.
#[derive(Debug)]
pub struct Comparisons {
    queue: ArrayQueue<Pair>,
    /// Room for bodies.
    pub room: Arc<Room>,
    known: Mutex<HashMap<Name, Arc<Known>>>,
    stop: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Default for Comparisons {
    /// None yet.
    fn default() -> Self {
        Self {
            queue: ArrayQueue::new(QUEUE),
            // Until a snapshot says how much there is.
            room: Arc::new(Room::new(0)),
            known: Mutex::default(),
            stop: AtomicBool::new(false),
            thread: OnceLock::new(),
        }
    }
}

impl Comparisons {
    /// What is known of shadow `name`, from now on.
    pub fn adopt(&self, name: Name) -> Arc<Known> {
        let mut known = self.known.lock();
        Arc::clone(known.entry(name).or_insert_with(|| Arc::new(Known::new(name))))
    }

    /// What is known of a shadow, if anything is.
    pub fn of(&self, name: &str) -> Option<Arc<Known>> {
        self.known.lock().get(name).cloned()
    }

    /// What is known of all, by name.
    pub fn all(&self) -> Vec<Arc<Known>> {
        let mut all: Vec<_> = self.known.lock().values().cloned().collect();
        all.sort_by_key(|known| known.name);
        all
    }

    /// A snapshot comes into force: which subjects its shadows have. Counting begins anew where that
    /// changed.
    pub fn open(&self, snapshot: &Snapshot) {
        self.room.resize(snapshot.limits.compare_bytes);
        for shadow in snapshot.routes.iter().flat_map(|route| &route.shadows) {
            shadow.known.open(&shadow.subject);
        }
    }

    /// Hands over a pair. Never waits; without room the pair is lost and counted.
    pub fn offer(&self, pair: Pair) {
        if let Err(pair) = self.queue.push(pair) {
            pair.shadow.counts.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Takes in what an earlier process saved; the names of shadows whose bytes cannot be read.
    pub fn restore(&self, rows: &[ComparisonRow]) -> Vec<String> {
        let broken = rows.iter().filter(|row| !self.adopt(intern(&row.shadow)).restore(&row.bytes));
        broken.map(|row| row.shadow.clone()).collect()
    }

    /// Lets go of shadows that are gone and whose counts the store has deleted.
    fn forget(&self, shadows: &[String]) {
        self.known.lock().retain(|name, _| !shadows.iter().any(|gone| gone == name));
    }

    /// Lets the thread compare what is there, save it, and end.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// Starts the thread that compares. `retention` is how long counts of shadows that are gone are kept.
///
/// # Errors
/// If the system gives none.
pub fn start(
    shared: &Arc<Shared>,
    store: StoreHandle,
    retention: Option<Duration>,
) -> std::io::Result<JoinHandle<()>> {
    let of_thread = Arc::clone(shared);
    let work = move || thread::run(&of_thread, &store, retention);
    let handle = std::thread::Builder::new().name("comparison".into()).spawn(work)?;
    // Started once: a second thread would not be woken.
    let _ = shared.comparisons.thread.set(handle.thread().clone());
    Ok(handle)
}

/// Why a shadow does not vouch for a variant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPassed {
    /// It is not in force.
    #[error("shadow {0:?} does not exist")]
    Missing(String),
    /// It says nothing about this variant.
    #[error("shadow {shadow:?} copies route {route:?} to backend {backend:?}; {wanted}")]
    Other {
        /// The shadow.
        shadow: String,
        /// What it copies.
        route: String,
        /// Where to.
        backend: String,
        /// What it would have to.
        wanted: String,
    },
    /// It has not passed, or not yet.
    #[error("shadow {0:?} {1}")]
    NotYet(String, String),
}

/// Whether `shadow` has passed, as a copy of `route` at `backend`.
///
/// # Errors
/// Why it does not say so.
pub fn passed(
    snapshot: &Snapshot,
    shadow: &str,
    route: &str,
    backend: &str,
) -> Result<(), NotPassed> {
    let all = snapshot.routes.iter();
    let mut all = all.flat_map(|route| route.shadows.iter().map(move |shadow| (route, shadow)));
    let found = all.find(|(_, plan)| plan.name == shadow);
    let (copied, plan) = found.ok_or_else(|| NotPassed::Missing(shadow.to_owned()))?;
    let target = snapshot.backends[plan.backend].name;
    if copied.name != route || target != backend {
        return Err(NotPassed::Other {
            shadow: shadow.to_owned(),
            route: copied.name.to_owned(),
            backend: target.to_owned(),
            wanted: format!("the variant is served by {backend:?} on route {route:?}"),
        });
    }
    let (verdict, kept) = plan.known.look();
    let (agreed, compare) = (&kept.tally.agreed, &plan.compare);
    if agreed.passes(compare.min_pairs, compare.agreement, &[verdict]) {
        return Ok(());
    }
    Err(NotPassed::NotYet(shadow.to_owned(), said::passing(agreed, compare, verdict)))
}

/// How answers are compared, as the API shows it; numbers mean something else when it changes.
pub fn described(compare: &Compare) -> Value {
    let word = |kind: &str, path: &str| json!({ "kind": kind, "path": path });
    match &compare.how {
        How::Status | How::Body(Comparison::Status) => json!({ "kind": "status" }),
        How::Said { at_least } => json!({ "kind": "text", "path": null, "at_least": at_least }),
        How::SaidLabel => json!({ "kind": "label", "path": null }),
        How::Body(Comparison::Exact { ignored }) => json!({ "kind": "exact", "ignore": ignored }),
        How::Body(Comparison::Label { pointer }) => word("label", pointer),
        How::Body(Comparison::Numeric { pointer, closeness }) => json!({
            "kind": "numeric", "path": pointer,
            "atol": closeness.absolute, "rtol": closeness.relative,
        }),
        How::Body(Comparison::Text { pointer, at_least }) => {
            json!({ "kind": "text", "path": pointer, "at_least": at_least })
        }
        How::Body(Comparison::Embedding { pointer, at_least }) => {
            json!({ "kind": "embedding", "path": pointer, "at_least": at_least })
        }
    }
}

/// The subject of a shadow's comparison.
pub fn subject(route: &str, backend: &str, model: Option<&str>, compare: &Compare) -> Arc<str> {
    let subject = json!({
        "route": route, "backend": backend, "model": model, "compare": described(compare),
    });
    subject.to_string().into()
}

#[cfg(test)]
mod tests;
