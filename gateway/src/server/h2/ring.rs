//! Who of a connection has something to do: the connection itself, or one of its streams.
//!
//! A stream costs no task: all of them run inside the connection's. Each has a waker that rings its bell
//! here, and the task looks at the bells that rang and at no other. Rung by other threads too: one waits
//! for the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;

/// The bells of one connection.
#[derive(Debug)]
pub(super) struct Ring {
    link: AtomicBool,
    // A bit a place.
    streams: Box<[AtomicU64]>,
    // While the task runs it is not woken besides: it looks.
    running: AtomicBool,
    task: AtomicWaker,
}

/// One of them.
#[derive(Debug)]
struct Bell {
    ring: Arc<Ring>,
    place: Option<usize>,
}

impl Ring {
    /// For `places` streams at a time.
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            link: AtomicBool::new(true),
            streams: (0..places.div_ceil(64).max(1)).map(|_| AtomicU64::new(0)).collect(),
            running: AtomicBool::new(false),
            task: AtomicWaker::new(),
        })
    }

    /// Rings for the stream at a place, or for the connection.
    pub(super) fn waker(self: &Arc<Self>, place: Option<usize>) -> Waker {
        Waker::from(Arc::new(Bell { ring: Arc::clone(self), place }))
    }

    /// The task runs from now on.
    pub(super) fn enter(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
        self.running.store(true, SeqCst);
    }

    /// The task waits. What rang and was not looked at wakes it again.
    pub(super) fn leave(&self, cx: &Context<'_>) {
        self.running.store(false, SeqCst);
        if self.is_rung() {
            cx.waker().wake_by_ref();
        }
    }

    /// Rings for the stream at `place`, from within the task.
    pub(super) fn ring(&self, place: usize) {
        if let Some(word) = self.streams.get(place / 64) {
            word.fetch_or(1 << (place % 64), SeqCst);
        }
    }

    /// Rings for the connection, from within the task.
    pub(super) fn ring_link(&self) {
        self.link.store(true, SeqCst);
    }

    /// Whether somebody rang.
    pub(super) fn is_rung(&self) -> bool {
        self.link.load(SeqCst) || self.streams.iter().any(|word| word.load(SeqCst) != 0)
    }

    /// Whether the connection rang. It did not from now on.
    pub(super) fn take_link(&self) -> bool {
        self.link.load(SeqCst) && self.link.swap(false, SeqCst)
    }

    /// Which of 64 streams rang, as bits, as far as they are in `which`. They did not from now on.
    pub(super) fn take_streams(&self, word: usize, which: u64) -> u64 {
        self.streams.get(word).map_or(0, |word| {
            if word.load(SeqCst) & which == 0 { 0 } else { word.fetch_and(!which, SeqCst) & which }
        })
    }

    /// How many times 64 streams there may be.
    pub(super) fn words(&self) -> usize {
        self.streams.len()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match self.place {
            Some(place) => self.ring.ring(place),
            None => self.ring.ring_link(),
        }
        if !self.ring.running.load(SeqCst) {
            self.ring.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn bells_are_heard_once_and_wake_a_task_that_waits() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        let ring = Ring::new(100);
        let count = || woken.0.load(SeqCst);
        ring.enter(&cx);
        assert!(ring.take_link() && !ring.take_link(), "a connection has something to do at first");
        ring.waker(Some(70)).wake_by_ref();
        ring.waker(Some(3)).wake();
        assert_eq!(count(), 0, "it runs and will look");
        let all = u64::MAX;
        assert_eq!(ring.take_streams(0, !(1 << 3)), 0, "another was asked for");
        assert_eq!((ring.take_streams(0, all), ring.take_streams(1, all)), (1 << 3, 1 << 6));
        assert_eq!((ring.take_streams(0, all), ring.words()), (0, 2));
        ring.leave(&cx);
        assert_eq!(count(), 0, "nobody rang");
        let bell = ring.waker(None);
        bell.wake_by_ref();
        assert_eq!(count(), 1);
        ring.enter(&cx);
        bell.wake_by_ref();
        ring.leave(&cx);
        assert_eq!(count(), 2, "what rang and was not looked at is looked at later");
        assert!(ring.is_rung());
    }

    #[test]
    fn a_bell_may_ring_on_any_thread() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        let ring = Ring::new(64);
        ring.enter(&cx);
        assert!(ring.take_link());
        ring.leave(&cx);
        let bell = ring.waker(Some(63));
        std::thread::spawn(move || bell.wake()).join().unwrap();
        assert_eq!(woken.0.load(SeqCst), 1);
        assert_eq!(ring.take_streams(0, u64::MAX), 1 << 63);
    }
}
