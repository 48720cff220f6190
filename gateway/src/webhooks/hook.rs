//! What this process knows of one webhook: for metrics, the API and `weir status`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::post::{Answer, DEAD, RESULTS};
use crate::clock;
use crate::store::outbox::Outbox;
use crate::telemetry::events;

/// What is known of one webhook.
#[derive(Debug)]
pub struct Hook {
    /// Its name.
    pub name: Arc<str>,
    counts: [AtomicU64; RESULTS.len()],
    state: Mutex<State>,
    hurried: Notify,
}

/// How it stands; times in microseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Messages that wait.
    pub pending: u64,
    /// When the oldest of them happened.
    pub oldest: Option<i64>,
    /// Messages that were given up and are kept.
    pub dead: u64,
    /// When the next try is due, if the last one failed.
    pub next_try: Option<i64>,
    /// When the receiver last took something.
    pub last_taken: Option<i64>,
    /// Since when it has taken nothing.
    pub failing_since: Option<i64>,
    /// What the last failure met, and when.
    pub last_error: Option<(i64, String)>,
}

impl Hook {
    pub(super) fn new(name: &Arc<str>) -> Self {
        Self {
            name: Arc::clone(name),
            counts: Default::default(),
            state: Mutex::default(),
            hurried: Notify::new(),
        }
    }

    /// How it stands.
    pub fn state(&self) -> State {
        self.state.lock().clone()
    }

    /// What this process did, by [`RESULTS`].
    pub fn counts(&self) -> [u64; RESULTS.len()] {
        self.counts.each_ref().map(|count| count.load(Relaxed))
    }

    /// What the store has for it.
    pub(super) fn saw(&self, outbox: &Outbox) {
        let mut state = self.state.lock();
        state.pending = outbox.pending;
        state.oldest = outbox.oldest;
        state.dead = outbox.dead;
        let next = outbox.next.as_ref().filter(|message| message.tries > 0);
        state.next_try = next.map(|message| message.due);
        // What it met before this process began.
        if let Some(message) = next
            && state.last_error.is_none()
            && let Some(why) = &message.why
        {
            state.last_error = Some((message.at, why.clone()));
            state.failing_since.get_or_insert(message.at);
        }
    }

    /// One more try.
    pub(super) fn tried(&self, answer: &Answer) {
        self.counts[answer.result()].fetch_add(1, Relaxed);
        let now = clock::unix_micros();
        let mut state = self.state.lock();
        if let Answer::Taken(_) = answer {
            state.last_taken = Some(now);
            if state.failing_since.take().is_some() {
                events::webhook_delivering(&self.name);
            }
            return;
        }
        let why = answer.why();
        if state.failing_since.is_none() {
            state.failing_since = Some(now);
            events::webhook_failing(&self.name, &why, state.pending);
        }
        state.last_error = Some((now, why));
    }

    /// Messages were given up.
    pub(super) fn gave_up(&self, count: u64) {
        self.counts[DEAD].fetch_add(count, Relaxed);
    }

    /// Wakes its task.
    pub(super) fn hurry(&self) {
        self.hurried.notify_one();
    }

    /// Waits to be woken.
    pub(super) async fn hurried(&self) {
        self.hurried.notified().await;
    }
}
