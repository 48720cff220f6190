//! HTTP/1.1 with a client: our own, on the scanner that looks at every byte anyway.
//!
//! One task a connection and a straight loop: read a head, let the request path answer it, write the
//! answer. The request is polled inside the connection's own task, so there is no channel, no second
//! task and no wake-up between a socket and its request. Cancelling is dropping: when the client
//! leaves, the request is dropped, and with it its connection to a backend (F10).
//!
//! A head is taken only when it is whole and beyond doubt (`policies::framing`). What is not is
//! answered, logged and counted on the ordinary path (`request::refuse`), in its turn when requests are
//! pipelined.

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use http::Response;
use policies::framing::Marks;

use crate::body::ClientBody;
use crate::request::ResponseBody;
use crate::server::conn::{Conn, Kick};
use crate::server::h1::answer::{Answer, Step};
use crate::server::h1::wire::{Asked, Next, Wire};
use crate::server::http::{begin, caught, closed, linger};
use crate::server::running::{Running, Task};
use crate::server::socket::ClientStream;
use crate::telemetry::counters::Closed;
use crate::worker::Worker;

mod wire;
mod head;
mod answer;
mod body;

pub use body::RequestBody;

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// As HTTP ends a connection.
    Normal,
    /// The client left, or did not do its part.
    Failed,
    /// An answer whose end only the close can tell broke off: nobody may take that for the end (F03).
    Cut,
    /// Both sides switched protocols.
    Upgraded,
}

/// What the connections of a worker use in turn, so that idle ones hold nothing.
#[derive(Debug, Default)]
pub struct Spare {
    marks: Marks,
    room: Vec<u8>,
}

/// Room that is larger than this is not kept.
const MOST_ROOM: usize = 32 << 10;

impl Spare {
    fn keep_room(&mut self, room: Vec<u8>) {
        if room.capacity() <= MOST_ROOM {
            self.room = room;
        }
    }
}

/// Serves HTTP/1.1 and HTTP/1.0 until the connection ends; why it did.
pub async fn serve(worker: &Rc<Worker>, conn: &Rc<Conn>, stream: ClientStream) -> Closed {
    let wire = Wire::new(Rc::clone(conn), stream, &worker.snapshot().limits);
    let wire = Rc::new(RefCell::new(wire));
    let end = {
        let mut exchanges = pin!(exchanges(worker, conn, &wire));
        std::future::poll_fn(|cx| {
            conn.set_waker(cx.waker());
            let end = caught(worker, || exchanges.as_mut().poll(cx));
            if matches!(end, Poll::Ready(None)) {
                // Before what was under way is dropped: its client did not leave.
                conn.panicked.set(true);
            }
            end
        })
        .await
    };
    let Some(end) = end else {
        // Its state is not to be trusted any more.
        return Closed::Error;
    };
    // Whoever still holds a body of this connection finds it ended.
    let Some((stream, sent)) = wire.borrow_mut().take_stream() else { return Closed::Error };
    let tunnel = conn.upgrade.take();
    if end == End::Upgraded
        && let Some(tunnel) = tunnel
    {
        Box::pin(tunnel.run(stream, sent)).await;
        return Closed::Normal;
    }
    let why = closed(conn, end != End::Normal);
    if matches!(why, Closed::Stuck | Closed::Abuse) || end == End::Cut {
        return why;
    }
    Box::pin(linger(stream)).await;
    why
}

/// One request after the other.
async fn exchanges(worker: &Rc<Worker>, conn: &Rc<Conn>, wire: &Rc<RefCell<Wire>>) -> End {
    loop {
        let next = std::future::poll_fn(|cx| wire.borrow_mut().poll_next(cx, worker)).await;
        let head = match next {
            Next::End(end) => return end,
            Next::Refused(why) => Err(why),
            Next::Head(count) => wire.borrow_mut().take_head(count, worker),
        };
        let (task, asked) = match head {
            Ok((head, asked)) => {
                let body = if wire.borrow().in_body() {
                    ClientBody::H1(RequestBody::new(wire))
                } else {
                    ClientBody::None
                };
                (Task::Handle(head, body), asked)
            }
            Err(why) => (Task::Refuse(why), Asked::nothing()),
        };
        let request = Running::begin(begin(worker, conn), task);
        let Some(response) = handled(request, conn, wire).await else { return End::Failed };
        let upgraded = conn.upgrade.borrow().is_some();
        let mut answer = Answer::begin(worker, conn, &mut wire.borrow_mut(), response, asked);
        let step = std::future::poll_fn(|cx| answer.poll(cx, wire)).await;
        drop(answer);
        match step {
            Step::Whole | Step::Last if upgraded => return End::Upgraded,
            Step::Whole if wire.borrow_mut().goes_on(worker) => {}
            Step::Whole => return End::Normal,
            Step::Last => return End::Normal,
            Step::Failed => return End::Failed,
            Step::Cut => return End::Cut,
        }
    }
}

/// What the request path answers; `None` if the client left meanwhile.
async fn handled(
    mut request: Running,
    conn: &Conn,
    wire: &RefCell<Wire>,
) -> Option<Response<ResponseBody>> {
    std::future::poll_fn(|cx| {
        if matches!(conn.kick.get(), Some(Kick::Stuck | Kick::Abuse)) {
            return Poll::Ready(None);
        }
        if let Poll::Ready(response) = Pin::new(&mut request).poll(cx) {
            return Poll::Ready(Some(response));
        }
        if wire.borrow_mut().has_left(cx) {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}
