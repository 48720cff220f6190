//! What people said of answers: kept before it is acknowledged, then told to whoever counts evidence.
//!
//! Many posts share one commit. A worker leaves what it has checked in one bounded queue and waits;
//! whenever the store's thread is free it takes all that has come meanwhile into one transaction,
//! and then answers everybody in it. So a lone post waits for its own commit only, and thousands a
//! second wait for few. Nothing here is recording of outcomes: `recording.outcomes` has no say, and
//! what the store has not synced is not acknowledged (hardening D1).

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_queue::SegQueue;
use policies::Grants;
use tokio::sync::oneshot;

use crate::clock;
use crate::names::{Name, intern};
use crate::store::thread::StoreHandle;
use crate::store::{Asked, FeedbackRow, FeedbackValue, Store, StoreError};

pub mod counts;
pub mod rules;

use counts::{Counts, Outcome};

/// Memory of what waits for the store, in bytes: beyond it posts are refused.
const MOST_WAITING: usize = 64 << 20;
/// Answers of one transaction, give or take the last post of it.
const BATCH: usize = 4_096;
/// Longest wait for the store. What is stored after it was not acknowledged: a repeat is a duplicate.
const PATIENCE: Duration = Duration::from_secs(10);
/// First pause after a failure of the store, in which posts are refused at once; then the double.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Different names of metrics that are not declared, for the life of the process: each is interned
/// (hardening T29).
pub const MOST_UNDECLARED: usize = 200;

/// The store does not take feedback now: send it again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("feedback cannot be stored now")]
pub struct Away;

/// One answer on its way to the store.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What is kept. The exposure of one that has a claim is filled in when its request is found.
    pub row: FeedbackRow,
    /// When the request began, microseconds since 1970.
    pub asked_at: i64,
    /// Of answers that name a request by its id: who may speak of it.
    pub claim: Option<Claim>,
    /// The metric as a label.
    pub label: Name,
    /// What became of it.
    pub fate: Fate,
}

/// Whose requests somebody may speak of (hardening T31).
#[derive(Clone, Debug)]
pub struct Claim {
    /// Routes of the key.
    pub routes: Grants,
    /// Whether it may speak of other keys' requests.
    pub others: bool,
}

/// What became of an [`Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing yet.
    Waiting,
    /// It is on stable storage.
    Stored,
    /// One like it was there.
    Duplicate,
    /// No outcome of a request that the key may speak of has this id.
    UnknownRequest,
    /// No experiment took the request.
    NoExperiment,
}

/// Feedback that was stored, as evidence. Text is not among it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Credited {
    /// Experiment.
    pub experiment: Name,
    /// Revision under which the request was assigned: the epoch.
    pub revision: u64,
    /// Variant that the request was assigned.
    pub variant: Name,
    /// Keyed hash of the unit.
    pub unit_hash: u64,
    /// Whether chance dealt the variant; what was forced is no evidence.
    pub eligible: bool,
    /// What was asked.
    pub metric: Name,
    /// What was said.
    pub value: Value,
    /// When the request began, microseconds since 1970: a window counts from here.
    pub asked_at: i64,
    /// When it was said, microseconds since 1970.
    pub received_at: i64,
}

/// A value that can be counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// Yes or no.
    Bool(bool),
    /// Finite.
    Number(f64),
}

/// Takes feedback of all workers.
#[derive(Debug)]
pub struct Feedback {
    inner: Arc<Inner>,
}

struct Inner {
    store: StoreHandle,
    queue: SegQueue<Post>,
    // Bytes in the queue.
    waiting: AtomicUsize,
    // Whether a batch is with the store's thread.
    at_work: AtomicBool,
    began: Instant,
    // Milliseconds since `began` until which the store counts as away, and the pause that led there.
    away_until: AtomicU64,
    pause: AtomicU64,
    undeclared: ArcSwap<HashSet<Name>>,
    counts: Counts,
    listener: OnceLock<SyncSender<Credited>>,
    missed: AtomicU64,
}

/// The answers of one request to us, and who waits for their fate.
struct Post {
    entries: Vec<Entry>,
    bytes: usize,
    answer: oneshot::Sender<Vec<Entry>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl Feedback {
    /// Keeps feedback in this store.
    pub fn new(store: StoreHandle) -> Self {
        let inner = Inner {
            store,
            queue: SegQueue::new(),
            waiting: AtomicUsize::new(0),
            at_work: AtomicBool::new(false),
            began: clock::now(),
            away_until: AtomicU64::new(0),
            pause: AtomicU64::new(0),
            undeclared: ArcSwap::default(),
            counts: Counts::default(),
            listener: OnceLock::new(),
            missed: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Stores what is [`Fate::Waiting`] and gives all entries back with their fates, once they are on
    /// stable storage. A caller that stops waiting takes nothing back: a
    /// page that closes has said what it said.
    ///
    /// # Errors
    /// [`Away`]: the store cannot be reached, or too much is waiting for it. Some of it may have been
    /// stored all the same; sending it again does no harm.
    pub async fn keep(&self, entries: Vec<Entry>) -> Result<Vec<Entry>, Away> {
        let inner = &self.inner;
        if inner.is_away() {
            return Err(Away);
        }
        let bytes = entries.iter().map(weight).sum();
        if inner.waiting.fetch_add(bytes, Relaxed) + bytes > MOST_WAITING {
            inner.waiting.fetch_sub(bytes, Relaxed);
            return Err(Away);
        }
        let (answer, answered) = oneshot::channel();
        inner.queue.push(Post { entries, bytes, answer });
        Inner::work(inner);
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(entries)) => Ok(entries),
            Ok(Err(_)) | Err(_) => Err(Away),
        }
    }

    /// The one `Name` of a metric that is not declared; `None` if there are too many of them.
    pub fn undeclared(&self, metric: &str) -> Option<Name> {
        let known = self.inner.undeclared.load();
        if let Some(name) = known.get(metric) {
            return Some(name);
        }
        if known.len() >= MOST_UNDECLARED {
            return None;
        }
        let name = intern(metric);
        self.inner.undeclared.rcu(|known| {
            let mut known = HashSet::clone(known);
            if known.len() < MOST_UNDECLARED {
                known.insert(name);
            }
            known
        });
        self.inner.undeclared.load().contains(name).then_some(name)
    }

    /// How many answers came, and what became of them.
    pub fn counts(&self) -> &Counts {
        &self.inner.counts
    }

    /// From now on, everything that is stored comes through this channel too, after its commit; what
    /// finds `most` waiting there is left out and counted in [`Self::missed`], for the store has it.
    /// `None` if somebody listens already.
    pub fn listen(&self, most: usize) -> Option<Receiver<Credited>> {
        let (sender, receiver) = sync_channel(most);
        self.inner.listener.set(sender).is_ok().then_some(receiver)
    }

    /// How many answers were stored and not heard by the listener.
    pub fn missed(&self) -> u64 {
        self.inner.missed.load(Relaxed)
    }
}

/// What an entry takes while it waits, in bytes.
fn weight(entry: &Entry) -> usize {
    let length = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
    let text = match &entry.row.value {
        FeedbackValue::Text(text) => text.len(),
        FeedbackValue::Bool(_) | FeedbackValue::Number(_) => 0,
    };
    size_of::<Entry>() + text + length(&entry.row.id) + length(&entry.row.segment)
}

impl Inner {
    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_away(&self) -> bool {
        let until = self.away_until.load(Relaxed);
        until > 0 && self.elapsed() < until
    }

    /// Sees to it that the store's thread takes what waits. One batch at a time is with it, and takes
    /// what there is when its turn comes.
    fn work(self: &Arc<Self>) {
        if self.at_work.swap(true, SeqCst) {
            return;
        }
        let (of_job, of_answer) = (Arc::clone(self), Arc::clone(self));
        let submitted = self.store.submit(
            move |store| {
                // Those of a failed batch are dropped, which tells who waits.
                let mut posts = of_job.take();
                let again = of_job.pause.load(Relaxed) > 0;
                let result = keep(store, &mut posts, again);
                result.map(|()| posts)
            },
            move |result| of_answer.settle(result),
        );
        if submitted.is_err() {
            self.settle(Err(()));
        }
    }

    /// The posts of the next batch.
    fn take(&self) -> Vec<Post> {
        let mut posts = Vec::new();
        let mut entries = 0;
        while entries < BATCH
            && let Some(post) = self.queue.pop()
        {
            self.waiting.fetch_sub(post.bytes, Relaxed);
            entries += post.entries.len();
            posts.push(post);
        }
        posts
    }

    /// A batch was stored, or was not.
    fn settle<E>(self: &Arc<Self>, result: Result<Vec<Post>, E>) {
        match result {
            Ok(posts) => {
                self.pause.store(0, Relaxed);
                self.away_until.store(0, Relaxed);
                for post in posts {
                    post.entries.iter().for_each(|entry| self.tell(entry));
                    // A client that left has its feedback stored all the same.
                    let _ = post.answer.send(post.entries);
                }
            }
            Err(_) => {
                let pause = match self.pause.load(Relaxed) {
                    0 => FIRST_PAUSE.as_millis(),
                    pause => (u128::from(pause) * 2).min(LONGEST_PAUSE.as_millis()),
                };
                let pause = u64::try_from(pause).unwrap_or(u64::MAX);
                self.pause.store(pause, Relaxed);
                self.away_until.store(self.elapsed().saturating_add(pause).max(1), Relaxed);
                // Nobody waits longer for a store that is known to be away.
                while let Some(post) = self.queue.pop() {
                    self.waiting.fetch_sub(post.bytes, Relaxed);
                }
            }
        }
        self.at_work.store(false, SeqCst);
        // Who came before that line left the work to this batch.
        if !self.queue.is_empty() {
            self.work();
        }
    }

    /// Counts what was stored and passes it on. Never waits.
    fn tell(&self, entry: &Entry) {
        let row = &entry.row;
        let outcome = match entry.fate {
            Fate::Stored => Outcome::Stored,
            Fate::Duplicate => Outcome::Duplicate,
            // Counted by who gives up on it.
            Fate::Waiting | Fate::UnknownRequest | Fate::NoExperiment => return,
        };
        self.counts.add(row.exposure.experiment, entry.label, outcome, 1);
        let value = match row.value {
            FeedbackValue::Bool(yes) => Value::Bool(yes),
            FeedbackValue::Number(number) => Value::Number(number),
            FeedbackValue::Text(_) => return,
        };
        let Some(listener) = self.listener.get().filter(|_| outcome == Outcome::Stored) else {
            return;
        };
        let credited = Credited {
            experiment: row.exposure.experiment,
            revision: row.exposure.revision,
            variant: row.exposure.variant,
            unit_hash: row.exposure.unit_hash,
            eligible: row.exposure.eligible,
            metric: row.metric,
            value,
            asked_at: entry.asked_at,
            received_at: row.received_at,
        };
        if listener.try_send(credited).is_err() {
            self.missed.fetch_add(1, Relaxed);
        }
    }
}

/// One batch: the requests it names are looked for, and what can be credited is stored.
fn keep(store: &mut dyn Store, posts: &mut [Post], again: bool) -> Result<(), StoreError> {
    if again {
        store.reopen()?;
    }
    let claims = |posts: &mut [Post]| -> Vec<[u8; 16]> {
        let entries = posts.iter().flat_map(|post| &post.entries);
        entries.filter(|entry| is_claim(entry)).map(|entry| entry.row.request_id).collect()
    };
    let ids = claims(posts);
    if !ids.is_empty() {
        let found = store.outcome_of(&ids)?;
        let entries = posts.iter_mut().flat_map(|post| &mut post.entries);
        entries.filter(|entry| is_claim(entry)).zip(found).for_each(|(entry, asked)| {
            credit(entry, asked);
        });
    }
    let entries = posts.iter().flat_map(|post| &post.entries);
    let rows: Vec<&FeedbackRow> =
        entries.filter(|entry| entry.fate == Fate::Waiting).map(|entry| &entry.row).collect();
    let new = store.add_feedback(&rows)?;
    let entries = posts.iter_mut().flat_map(|post| &mut post.entries);
    for (entry, new) in entries.filter(|entry| entry.fate == Fate::Waiting).zip(new) {
        entry.fate = if new { Fate::Stored } else { Fate::Duplicate };
    }
    Ok(())
}

fn is_claim(entry: &Entry) -> bool {
    entry.claim.is_some() && entry.fate == Fate::Waiting
}

/// Credits an answer to what its request was assigned, if its key may speak of that (T31).
fn credit(entry: &mut Entry, asked: Option<Asked>) {
    let Some(claim) = &entry.claim else { return };
    // The same fate for both: whether a request of somebody else exists is not told.
    let allowed = |asked: &Asked| {
        (*asked.key_id == *entry.row.key_id || claim.others)
            && asked.route.is_some_and(|route| claim.routes.allows(route))
    };
    let Some(asked) = asked.filter(allowed) else {
        entry.fate = Fate::UnknownRequest;
        return;
    };
    let Some(exposure) = asked.exposure else {
        entry.fate = Fate::NoExperiment;
        return;
    };
    let by_itself = *asked.key_id == *entry.row.key_id;
    entry.row.exposure = exposure;
    entry.row.exposure.asked_by = (!by_itself).then(|| asked.key_id.into());
}

#[cfg(test)]
mod tests;
