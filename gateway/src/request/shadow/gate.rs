//! Room for copies: how many of one shadow run and how many wait, over all workers.
//!
//! A gate is kept by the shadow's name and survives a new snapshot, so a change of the configuration
//! neither forgets copies that run nor makes room for them twice. Entering is a compare and swap; who
//! finds no place waits on its own worker and is woken by whoever leaves, on whichever worker.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::names::Name;

/// The gates of the process, by shadow.
#[derive(Debug, Default)]
pub struct Gates(Mutex<HashMap<Name, Arc<Gate>>>);

impl Gates {
    /// The gate of shadow `name`, from now on with `most` copies under way and `queue` waiting. What
    /// runs beyond a smaller bound runs to its end.
    pub fn adopt(&self, name: Name, most: usize, queue: usize) -> Arc<Gate> {
        let gate = Arc::clone(self.0.lock().entry(name).or_default());
        gate.most.store(most, SeqCst);
        gate.queue.store(queue, SeqCst);
        // There may be room now for some who wait; the others go on waiting.
        gate.left.notify_waiters();
        gate
    }

    /// Forgets the shadows that `keep` refuses. Their running copies hold what they need.
    pub fn retire(&self, keep: impl Fn(Name) -> bool) {
        self.0.lock().retain(|name, _| keep(name));
    }
}

/// Room for the copies of one shadow.
#[derive(Debug, Default)]
pub struct Gate {
    running: AtomicUsize,
    waiting: AtomicUsize,
    most: AtomicUsize,
    queue: AtomicUsize,
    left: Notify,
}

/// What a copy finds at its gate.
#[derive(Debug)]
pub enum Entry {
    /// A place: it runs.
    Runs(Place),
    /// A place in the queue.
    Waits(Turn),
    /// Neither.
    Full,
}

impl Gate {
    /// Lets a copy in, lets it wait, or refuses it. Never waits itself.
    pub fn enter(self: &Arc<Self>) -> Entry {
        // Who comes now does not overtake those who wait.
        if self.waiting.load(SeqCst) == 0
            && let Some(place) = self.take()
        {
            return Entry::Runs(place);
        }
        if raise(&self.waiting, self.queue.load(SeqCst)) {
            return Entry::Waits(Turn(Arc::clone(self)));
        }
        Entry::Full
    }

    fn take(self: &Arc<Self>) -> Option<Place> {
        raise(&self.running, self.most.load(SeqCst)).then(|| Place(Arc::clone(self)))
    }
}

/// Adds one unless that makes more than `most`; whether it did.
fn raise(count: &AtomicUsize, most: usize) -> bool {
    count.fetch_update(SeqCst, SeqCst, |now| (now < most).then_some(now + 1)).is_ok()
}

/// A copy under way, until it is dropped.
#[derive(Debug)]
pub struct Place(Arc<Gate>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
        self.0.left.notify_one();
    }
}

/// A copy that waits, until it is dropped.
#[derive(Debug)]
pub struct Turn(Arc<Gate>);

impl Turn {
    /// Waits for a place. Dropping the future leaves the queue.
    pub async fn come(self) -> Place {
        loop {
            let mut left = std::pin::pin!(self.0.left.notified());
            // Listening before looking, so that who leaves in between is heard.
            left.as_mut().enable();
            if let Some(place) = self.0.take() {
                return place;
            }
            left.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn runs(gate: &Arc<Gate>) -> Place {
        match gate.enter() {
            Entry::Runs(place) => place,
            other @ (Entry::Waits(_) | Entry::Full) => panic!("{other:?}"),
        }
    }

    fn waits(gate: &Arc<Gate>) -> Turn {
        match gate.enter() {
            Entry::Waits(turn) => turn,
            other @ (Entry::Runs(_) | Entry::Full) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_gate_lets_in_so_many_and_lets_so_many_wait() {
        let gates = Gates::default();
        let gate = gates.adopt("next", 2, 1);
        let places = [runs(&gate), runs(&gate)];
        let turn = waits(&gate);
        assert!(matches!(gate.enter(), Entry::Full));
        drop(places);
        // A place is free, and the one who waits goes first.
        assert!(matches!(gate.enter(), Entry::Full));
        drop(turn);
        drop(runs(&gate));
    }

    #[tokio::test]
    async fn a_new_snapshot_keeps_what_runs_and_a_larger_bound_lets_in_who_waits() {
        let gates = Gates::default();
        let gate = gates.adopt("next", 1, 5);
        let first = runs(&gate);
        let coming = tokio::spawn(waits(&gate).come());
        tokio::task::yield_now().await;
        assert!(Arc::ptr_eq(&gate, &gates.adopt("next", 1, 5)));
        assert!(!coming.is_finished());
        gates.adopt("next", 2, 5);
        let second = coming.await.unwrap();
        gates.adopt("next", 1, 0);
        drop(first);
        assert!(matches!(gate.enter(), Entry::Full), "the second still runs");
        drop(second);
        drop(runs(&gate));
        gates.retire(|name| name != "next");
        assert!(!Arc::ptr_eq(&gate, &gates.adopt("next", 1, 5)));
    }

    /// Whoever leaves wakes somebody, also on another thread, and there are never more than the gate
    /// allows.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_pass_a_narrow_gate_on_two_threads() {
        let gate = Gates::default().adopt("next", 3, 1_000);
        let (inside, passed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let all: Vec<_> = (0..1_000)
            .map(|_| {
                let (gate, inside, passed) =
                    (Arc::clone(&gate), Arc::clone(&inside), Arc::clone(&passed));
                tokio::spawn(async move {
                    let _place = match gate.enter() {
                        Entry::Runs(place) => place,
                        Entry::Waits(turn) => turn.come().await,
                        Entry::Full => panic!("there is room for all to wait"),
                    };
                    assert!(inside.fetch_add(1, SeqCst) < 3);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, SeqCst);
                    passed.fetch_add(1, SeqCst);
                })
            })
            .collect();
        for each in all {
            tokio::time::timeout(Duration::from_secs(20), each).await.unwrap().unwrap();
        }
        assert_eq!(passed.load(SeqCst), 1_000);
        assert_eq!((gate.running.load(SeqCst), gate.waiting.load(SeqCst)), (0, 0));
    }
}
