//! The streams of one HTTP/2 connection, run inside its task.
//!
//! hyper gives each stream a future of its own and leaves it to us where it runs. As tasks, each would
//! wake the connection, which would run for each. Here whatever is ready of the streams runs first and
//! then the connection, once; what it wrote leaves together (`gather`); and a stream costs no task.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::stream::{FuturesUnordered, Stream};
use futures_util::task::AtomicWaker;

/// Turns that streams and connection may take in one poll, one because of the other, before others have
/// theirs.
const TURNS: u8 = 4;

type Run = Pin<Box<dyn Future<Output = ()>>>;

/// Where hyper leaves a stream that was opened.
#[derive(Clone, Default)]
pub(super) struct Streams(Rc<RefCell<Vec<Run>>>);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, future: F) {
        self.0.borrow_mut().push(Box::pin(future));
    }
}

/// Whether somebody has something to do. Told while the task runs, it is not woken besides: it will look.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    inside: Arc<Inside>,
}

/// Whether the task runs, and whom to wake if not. Rung by other threads too: one waits for the store.
#[derive(Default)]
struct Inside {
    running: AtomicBool,
    task: AtomicWaker,
}

impl Bell {
    fn of(inside: &Arc<Inside>) -> Arc<Self> {
        Arc::new(Self { rung: AtomicBool::new(true), inside: Arc::clone(inside) })
    }

    fn answered(&self) -> bool {
        self.rung.swap(false, SeqCst)
    }

    fn is_rung(&self) -> bool {
        self.rung.load(SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, SeqCst);
        if !self.inside.running.load(SeqCst) {
            self.inside.task.wake();
        }
    }
}

/// Runs a connection and its streams.
pub(super) struct Driver {
    fresh: Streams,
    running: FuturesUnordered<Run>,
    inside: Arc<Inside>,
    for_streams: Arc<Bell>,
    for_connection: Arc<Bell>,
    streams_waker: Waker,
    connection_waker: Waker,
}

impl Driver {
    pub(super) fn new(fresh: Streams) -> Self {
        let inside = Arc::<Inside>::default();
        let (for_streams, for_connection) = (Bell::of(&inside), Bell::of(&inside));
        Self {
            fresh,
            running: FuturesUnordered::new(),
            inside,
            streams_waker: Waker::from(Arc::clone(&for_streams)),
            connection_waker: Waker::from(Arc::clone(&for_connection)),
            for_streams,
            for_connection,
        }
    }

    /// Wakes the connection itself.
    pub(super) fn waker(&self) -> &Waker {
        &self.connection_waker
    }

    /// Runs both; whether the connection failed, once it is over. What it wrote, `pass` passes on.
    pub(super) fn poll<E>(
        &mut self,
        cx: &mut Context<'_>,
        mut connection: Pin<&mut impl Future<Output = Result<(), E>>>,
        pass: impl Fn(&mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<bool> {
        self.inside.task.register(cx.waker());
        self.inside.running.store(true, SeqCst);
        let mut for_connection = Context::from_waker(&self.connection_waker);
        for _ in 0..TURNS {
            if self.for_streams.answered() {
                let mut cx = Context::from_waker(&self.streams_waker);
                while let Poll::Ready(Some(())) = Pin::new(&mut self.running).poll_next(&mut cx) {}
            }
            if self.for_connection.answered()
                && let Poll::Ready(end) = connection.as_mut().poll(&mut for_connection)
            {
                // As much of its last words as can be passed on.
                let _ = pass(&mut for_connection);
                return Poll::Ready(end.is_err());
            }
            let mut fresh = self.fresh.0.borrow_mut();
            if !fresh.is_empty() {
                self.running.extend(fresh.drain(..));
                self.for_streams.rung.store(true, SeqCst);
            } else if !self.for_streams.is_rung() && !self.for_connection.is_rung() {
                break;
            }
        }
        // If not all of it can be passed on now, the connection is woken when more can.
        if matches!(pass(&mut for_connection), Poll::Ready(Err(_))) {
            return Poll::Ready(true);
        }
        self.inside.running.store(false, SeqCst);
        if self.for_streams.is_rung() || self.for_connection.is_rung() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use hyper::rt::Executor;

    use super::*;

    fn pass(_: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// Waits until `open`, then says `word`.
    fn says(
        said: &Rc<RefCell<Vec<&'static str>>>,
        word: &'static str,
        open: &Rc<RefCell<(bool, Option<Waker>)>>,
    ) -> impl Future<Output = ()> + 'static {
        let (said, open) = (Rc::clone(said), Rc::clone(open));
        std::future::poll_fn(move |cx| {
            let mut open = open.borrow_mut();
            if open.0 {
                said.borrow_mut().push(word);
                return Poll::Ready(());
            }
            open.1 = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    #[test]
    fn streams_that_are_ready_run_before_the_connection_runs_once() {
        let said = Rc::new(RefCell::new(Vec::new()));
        let gates: Vec<_> = (0..3).map(|_| Rc::new(RefCell::new((false, None)))).collect();
        let streams = Streams::default();
        let mut driver = Driver::new(streams.clone());
        let mut opened = false;
        let (told, of) = (Rc::clone(&said), gates.clone());
        let mut connection = Box::pin(std::future::poll_fn(move |_: &mut Context<'_>| {
            told.borrow_mut().push("connection");
            if !std::mem::replace(&mut opened, true) {
                for (word, gate) in ["a", "b", "c"].into_iter().zip(&of) {
                    streams.execute(says(&told, word, gate));
                }
            }
            Poll::<Result<(), ()>>::Pending
        }));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        assert!(driver.poll(&mut cx, connection.as_mut(), pass).is_pending());
        assert_eq!(*said.borrow(), ["connection"]);
        assert_eq!(woken.0.load(SeqCst), 0, "nobody has anything to do");

        for gate in [&gates[2], &gates[0]] {
            let mut gate = gate.borrow_mut();
            gate.0 = true;
            gate.1.take().unwrap().wake();
        }
        assert!(woken.0.load(SeqCst) >= 1);
        driver.waker().wake_by_ref();
        said.borrow_mut().clear();
        assert!(driver.poll(&mut cx, connection.as_mut(), pass).is_pending());
        assert_eq!(*said.borrow(), ["c", "a", "connection"]);
        said.borrow_mut().clear();
        assert!(driver.poll(&mut cx, connection.as_mut(), pass).is_pending());
        assert!(said.borrow().is_empty(), "nobody rang");
    }

    /// Streams and connection that keep waking each other leave the others on this thread their turn.
    #[test]
    fn a_connection_that_is_never_done_yields() {
        let streams = Streams::default();
        let mut driver = Driver::new(streams.clone());
        let polls = Rc::new(RefCell::new(0));
        let counted = Rc::clone(&polls);
        let mut connection = Box::pin(std::future::poll_fn(move |cx: &mut Context<'_>| {
            *counted.borrow_mut() += 1;
            streams.execute(std::future::ready(()));
            cx.waker().wake_by_ref();
            Poll::<Result<(), ()>>::Pending
        }));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(
            driver.poll(&mut Context::from_waker(&waker), connection.as_mut(), pass).is_pending()
        );
        assert_eq!(*polls.borrow(), u32::from(TURNS));
        assert_eq!(woken.0.load(SeqCst), 1, "and is asked again");
    }
}
