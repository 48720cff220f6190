//! The thread that compares: takes pairs from the queue, saves what is counted, deletes what is old.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use policies::comparison::Found;

use super::known::Known;
use super::pair::Pair;
use super::sample::{self, DisagreementRow};
use crate::clock;
use crate::names::Name;
use crate::store::thread::StoreHandle;
use crate::store::{Store, StoreError};
use crate::telemetry::events;
use crate::worker::Shared;

/// How often the queue is looked at.
const TICK: Duration = Duration::from_millis(20);

/// How often counts are saved.
const SAVE: Duration = Duration::from_secs(1);

/// How often what is old is deleted.
const PRUNE: Duration = Duration::from_secs(10);

/// Disagreements of one shadow that are kept in a second; more would only push each other out.
const SAMPLES_A_SECOND: u32 = 5;

/// Works until it is told to stop. `retention` is how long counts of shadows that are gone are kept.
pub(super) fn run(shared: &Arc<Shared>, store: &StoreHandle, retention: Option<Duration>) {
    let mut work = Work {
        shared,
        store,
        retention,
        samples: Vec::new(),
        taken: HashMap::new(),
        saved_at: clock::now(),
        saving: Arc::default(),
        pruned_at: None,
    };
    let comparisons = &shared.comparisons;
    loop {
        let stopping = comparisons.stop.load(Relaxed);
        work.drain();
        if stopping {
            work.save(true);
            return;
        }
        work.save(false);
        work.prune();
        if comparisons.queue.is_empty() {
            std::thread::park_timeout(TICK);
        }
    }
}

struct Work<'a> {
    shared: &'a Arc<Shared>,
    store: &'a StoreHandle,
    retention: Option<Duration>,
    samples: Vec<DisagreementRow>,
    /// Samples of the present second, by shadow.
    taken: HashMap<Name, u32>,
    saved_at: Instant,
    saving: Arc<AtomicBool>,
    pruned_at: Option<Instant>,
}

impl Work<'_> {
    fn drain(&mut self) {
        // Not endlessly: what is counted is to be saved although pairs keep coming.
        for _ in 0..super::QUEUE {
            let Some(pair) = self.shared.comparisons.queue.pop() else { return };
            // Bodies are strangers' words. Whatever they make of this, the next pair is compared.
            let counted = catch_unwind(AssertUnwindSafe(|| self.count(&pair)));
            if counted.is_err() {
                pair.shadow.counts.dropped.fetch_add(1, Relaxed);
                events::warning("weir.comparison.panicked", pair.shadow.name);
            }
        }
    }

    fn count(&mut self, pair: &Pair) {
        let Some(Found::Differ(cause, agreement)) = pair.shadow.add(&pair.compare.how, pair) else {
            return;
        };
        let Some(samples) = &pair.compare.samples else { return };
        let taken = self.taken.entry(pair.shadow.name).or_default();
        if *taken < SAMPLES_A_SECOND {
            *taken += 1;
            self.samples.push(sample::row(pair, cause, agreement.as_ref(), samples));
        }
    }

    /// Saves what changed; what could not be saved is taken again.
    fn save(&mut self, at_once: bool) {
        if !at_once && (self.saved_at.elapsed() < SAVE || self.saving.load(Relaxed)) {
            return;
        }
        self.saved_at = clock::now();
        self.taken.clear();
        let all = self.shared.comparisons.all();
        let rows: Vec<_> = all.iter().filter_map(|known| known.unsaved(at_once)).collect();
        let samples = std::mem::take(&mut self.samples);
        if rows.is_empty() && samples.is_empty() {
            return;
        }
        let of = |row: &DisagreementRow| all.iter().find(|known| known.name == row.shadow).cloned();
        let sampled: Vec<Arc<Known>> = samples.iter().filter_map(of).collect();
        let settle = move |saved: bool| {
            for known in &sampled {
                let count = if saved { &known.counts.samples } else { &known.counts.samples_lost };
                count.fetch_add(1, Relaxed);
            }
            if !saved {
                all.iter().for_each(|known| known.not_saved());
            }
        };
        let job = move |store: &mut dyn Store| -> Result<(), StoreError> {
            store.set_comparisons(&rows)?;
            store.add_disagreements(&samples)
        };
        if at_once {
            return settle(self.store.batch_blocking(job).is_ok());
        }
        self.saving.store(true, Relaxed);
        let (saving, settle_later) = (Arc::clone(&self.saving), settle.clone());
        let submitted = self.store.submit(job, move |result| {
            settle_later(result.is_ok());
            saving.store(false, Relaxed);
        });
        if submitted.is_err() {
            settle(false);
            self.saving.store(false, Relaxed);
        }
    }

    /// Deletes disagreements that are too many, too old or not allowed any more, and counts of shadows
    /// that are gone.
    fn prune(&mut self) {
        if self.pruned_at.is_some_and(|at| at.elapsed() < PRUNE) {
            return;
        }
        self.pruned_at = Some(clock::now());
        let now = clock::unix_micros();
        let before =
            |age: Duration| now.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
        let snapshot = self.shared.current.load();
        let mut names = Vec::new();
        let mut allowed = Vec::new();
        for shadow in snapshot.routes.iter().flat_map(|route| &route.shadows) {
            names.push(shadow.name.to_owned());
            if let Some(samples) = &shadow.compare.samples {
                allowed.push((shadow.name.to_owned(), before(samples.retention), samples.most));
            }
        }
        let gone = self.retention.map(before);
        let shared = Arc::clone(self.shared);
        // What is not deleted now is deleted in ten seconds.
        let _ = self.store.submit(
            move |store| {
                store.keep_disagreements(&allowed)?;
                gone.map_or_else(
                    || Ok(Vec::new()),
                    |before| store.delete_comparisons(&names, before),
                )
            },
            move |deleted| {
                if let Ok(shadows) = deleted {
                    shared.comparisons.forget(&shadows);
                }
            },
        );
    }
}
