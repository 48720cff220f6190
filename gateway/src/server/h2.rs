//! HTTP/2 with a client: our own, on frames and fields that `policies::h2` takes apart.
//!
//! One task a connection, and all of its streams inside it: frames that came are taken in (`link`),
//! whoever of the streams has something to do runs (`ring`), and what all of them have to say leaves
//! in one write. There is no channel, no second task and no wake-up between a socket and its requests.
//! Cancelling is dropping: when the client resets a stream or leaves, its request is dropped, and with
//! it its connection to a backend (F10).

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::Method;
use policies::h2::Code;

use crate::body::ClientBody;
use crate::server::conn::{Conn, Kick};
use crate::server::h2::answer::{Answer, Step};
use crate::server::h2::link::{Fresh, Link, Read};
use crate::server::h2::ring::Ring;
use crate::server::http::{begin, caught, closed, linger};
use crate::server::running::{Running, Task};
use crate::server::socket::ClientStream;
use crate::telemetry::counters::Closed;
use crate::worker::Worker;

mod link;
mod stream;
mod ring;
mod answer;
mod body;

pub use body::RequestBody;

/// Turns that a connection and its streams may take, one because of the other, before others on this
/// thread have theirs.
const TURNS: u8 = 8;

/// How a connection came to its end, and whether something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// As both sides agreed, or with a last word that is on its way.
    Said(bool),
    /// Nobody is there to hear anything.
    Gone,
}

/// Serves HTTP/2 until the connection ends; why it did.
pub async fn serve(worker: &Rc<Worker>, conn: &Rc<Conn>, stream: ClientStream) -> Closed {
    let (ring, link) = {
        let snapshot = worker.snapshot();
        let ring = Ring::new(snapshot.limits.h2_streams as usize + link::MOST_RESET);
        let link = Link::new(Rc::clone(conn), stream, &snapshot.limits, Arc::clone(&ring));
        (ring, Rc::new(RefCell::new(link)))
    };
    let end = {
        let mut driver = Driver::new(worker, conn, &link, &ring);
        std::future::poll_fn(|cx| {
            let end = caught(worker, || driver.poll(cx));
            if matches!(end, Poll::Ready(None)) {
                // Before what was under way is dropped: its client did not leave.
                conn.panicked.set(true);
            }
            end
        })
        .await
    };
    let stream = link.borrow_mut().take_stream();
    match end {
        // Its state is not to be trusted any more.
        None => Closed::Error,
        Some(End::Gone) => closed(conn, true),
        Some(End::Said(failed)) => {
            let why = closed(conn, failed);
            if let Some(stream) = stream {
                Box::pin(linger(stream)).await;
            }
            why
        }
    }
}

/// One stream's request and answer.
struct Place {
    id: u32,
    waker: Waker,
    head_only: bool,
    request: Option<Running>,
    answer: Option<Answer>,
    // It is among those that wait.
    for_room: bool,
    for_window: bool,
}

/// Runs a connection and its streams.
struct Driver {
    worker: Rc<Worker>,
    conn: Rc<Conn>,
    link: Rc<RefCell<Link>>,
    ring: Arc<Ring>,
    waker: Waker,
    places: Vec<Place>,
    // Streams that wait for room, and for the connection's window or their own, which rings by itself.
    for_room: Vec<usize>,
    for_window: Vec<usize>,
    // The client may not be read from before something was written.
    full: bool,
    asked_to_leave: bool,
    // The stream that runs first.
    first: usize,
}

impl Driver {
    fn new(
        worker: &Rc<Worker>,
        conn: &Rc<Conn>,
        link: &Rc<RefCell<Link>>,
        ring: &Arc<Ring>,
    ) -> Self {
        let waker = ring.waker(None);
        conn.set_waker(&waker);
        Self {
            worker: Rc::clone(worker),
            conn: Rc::clone(conn),
            link: Rc::clone(link),
            ring: Arc::clone(ring),
            waker,
            places: Vec::new(),
            for_room: Vec::new(),
            for_window: Vec::new(),
            full: false,
            asked_to_leave: false,
            first: 0,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let ring = Arc::clone(&self.ring);
        ring.enter(cx);
        let end = self.turns();
        ring.leave(cx);
        end.map_or(Poll::Pending, Poll::Ready)
    }

    fn turns(&mut self) -> Option<End> {
        for _ in 0..TURNS {
            if self.ring.take_link()
                && let Some(end) = self.connection()
            {
                return Some(end);
            }
            self.streams();
            if self.ring.is_rung() {
                continue;
            }
            // All that is ready has run: what it has to say leaves together.
            if let Some(end) = self.write() {
                return Some(end);
            }
            if !self.ring.is_rung() {
                return None;
            }
        }
        self.write()
    }

    /// What concerns all of the connection, and what came on it.
    fn connection(&mut self) -> Option<End> {
        let link = Rc::clone(&self.link);
        let mut link = link.borrow_mut();
        match self.conn.kick.get() {
            Some(Kick::Stuck) => return Some(End::Gone),
            Some(Kick::HeaderTimeout) => return Some(self.say_end(&mut link, Code::NO_ERROR)),
            Some(Kick::Abuse) => return Some(self.say_end(&mut link, Code::ENHANCE_YOUR_CALM)),
            Some(Kick::Idle) | None => {}
        }
        if self.conn.cut.get() {
            return Some(End::Said(false));
        }
        let leaves = self.conn.draining.get()
            || self.conn.kick.get() == Some(Kick::Idle)
            || self.worker.closing();
        if leaves && !self.asked_to_leave {
            self.asked_to_leave = true;
            self.conn.draining.set(true);
            link.leave();
        }
        if self.conn.ask_due.take() {
            link.ask();
        }
        if !link.pipe.has_room() {
            // Whoever does not read gets no answers, and asks nothing.
            self.full = true;
            return None;
        }
        let read = link.poll_read(&mut Context::from_waker(&self.waker));
        let fresh = std::mem::take(&mut link.fresh);
        let end = match read {
            Ok(Read::All) => None,
            Ok(Read::Some) => {
                self.ring.ring_link();
                None
            }
            Ok(Read::End) => return Some(End::Said(link.streams.len() > 0)),
            Err(code) => Some(self.say_end(&mut link, code)),
        };
        drop(link);
        if end.is_none() {
            let mut fresh = fresh;
            fresh.drain(..).for_each(|fresh| self.begin(fresh));
            let mut link = self.link.borrow_mut();
            link.fresh = fresh;
            if std::mem::take(&mut link.widened) {
                for place in self.for_window.drain(..) {
                    self.ring.ring(place);
                    if let Some(place) = self.places.get_mut(place) {
                        place.for_window = false;
                    }
                }
            }
        }
        end
    }

    /// Our last word. As much of it leaves as can.
    fn say_end(&self, link: &mut Link, code: Code) -> End {
        link.end(code);
        let _ = link.poll_write(&mut Context::from_waker(&self.waker));
        End::Said(code != Code::NO_ERROR)
    }

    fn begin(&mut self, fresh: Fresh) {
        let Fresh { place, id, head, has_body } = fresh;
        let (task, head_only) = match head {
            Err(why) => (Task::Refuse(why), false),
            Ok(head) => {
                let body = if has_body {
                    ClientBody::H2(RequestBody::new(&self.link, place, id))
                } else {
                    ClientBody::None
                };
                let head_only = head.method == Method::HEAD;
                (Task::Handle(head, body), head_only)
            }
        };
        while self.places.len() <= place {
            let waker = self.ring.waker(Some(self.places.len()));
            self.places.push(Place {
                id: 0,
                waker,
                head_only: false,
                request: None,
                answer: None,
                for_room: false,
                for_window: false,
            });
        }
        let request = Running::begin(begin(&self.worker, &self.conn), task);
        if let Some(free) = self.places.get_mut(place) {
            (free.id, free.head_only, free.request) = (id, head_only, Some(request));
            self.ring.ring(place);
        }
    }

    /// Runs the streams that rang, those first that come behind the last one that sent content: what room and
    /// windows leave is for all in turn.
    fn streams(&mut self) {
        let words = self.ring.words();
        let (first, before) = (self.first / 64 % words, (1 << (self.first % 64)) - 1);
        self.some_streams(first, !before);
        (1..words).for_each(|more| self.some_streams((first + more) % words, u64::MAX));
        self.some_streams(first, before);
    }

    /// Those of 64 places that rang, as far as `which` has their bits.
    fn some_streams(&mut self, word: usize, which: u64) {
        let mut rung = self.ring.take_streams(word, which);
        while rung != 0 {
            let place = word * 64 + rung.trailing_zeros() as usize;
            rung &= rung - 1;
            self.stream(place);
        }
    }

    fn stream(&mut self, at: usize) {
        let Some(place) = self.places.get_mut(at).filter(|place| place.id != 0) else { return };
        let mut cx = Context::from_waker(&place.waker);
        let reset = match self.link.borrow_mut().streams.get(at, place.id) {
            Some(stream) => stream.reset,
            None => true,
        };
        if reset {
            return self.close(at);
        }
        if let Some(request) = &mut place.request {
            let Poll::Ready(response) = Pin::new(request).poll(&mut cx) else { return };
            place.request = None;
            let (here, head_only) = ((at, place.id), place.head_only);
            place.answer = Some(Answer::begin(
                &self.worker,
                &self.conn,
                &self.link,
                here,
                response,
                head_only,
            ));
        }
        let Some(answer) = &mut place.answer else { return };
        match answer.poll(&mut cx, &self.link) {
            Step::Content => {}
            Step::Room if place.for_room => {}
            Step::Room => {
                place.for_room = true;
                self.for_room.push(at);
            }
            Step::Window if place.for_window => {}
            Step::Window => {
                place.for_window = true;
                self.for_window.push(at);
            }
            Step::Turn => {
                self.first = at + 1;
                self.ring.ring(at);
            }
            Step::Over => self.close(at),
        }
    }

    /// A stream is over. Its request is dropped if it still runs: its client took it back.
    fn close(&mut self, at: usize) {
        if let Some(place) = self.places.get_mut(at) {
            place.id = 0;
            place.request = None;
            place.answer = None;
        }
        let mut link = self.link.borrow_mut();
        link.close(at);
        if link.streams.len() == 0 && self.places.len() > stream::MOST_KEPT {
            // An idle connection holds little.
            (self.places, self.for_room, self.for_window) = (Vec::new(), Vec::new(), Vec::new());
        }
    }

    fn write(&mut self) -> Option<End> {
        let link = Rc::clone(&self.link);
        let mut link = link.borrow_mut();
        let written = link.poll_write(&mut Context::from_waker(&self.waker));
        match written {
            Poll::Ready(Err(_)) => return Some(End::Gone),
            Poll::Ready(Ok(())) if link.is_over() => return Some(End::Said(false)),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        if link.pipe.has_room() {
            if std::mem::take(&mut self.full) {
                self.ring.ring_link();
            }
            for place in self.for_room.drain(..) {
                self.ring.ring(place);
                if let Some(place) = self.places.get_mut(place) {
                    place.for_room = false;
                }
            }
        }
        None
    }
}
