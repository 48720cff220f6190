//! Requests under way.
//!
//! What a request needs while it runs is a few kilobytes, too much for the allocator to have at hand. So
//! a worker keeps rooms in which one request is handled after the other: a request moves in, and its
//! answer comes out.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};

use crate::body::ClientBody;
use crate::request::{self, Cx, ResponseBody};
use crate::server::conn::Refusal;
use crate::server::http::{caught, never_looked_at};
use crate::snapshot::names;
use crate::worker::Worker;

/// Rooms that are kept while nobody is in them.
const MOST_EMPTY: usize = 64;

/// What is to be answered.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
#[derive(Debug)]
pub enum Task {
    /// A request.
    Handle(Parts, ClientBody),
    /// Something that is none.
    Refuse(Refusal),
}

/// A request under way. Dropped before it is answered, it is over: its client left.
pub struct Running {
    worker: Rc<Worker>,
    room: Option<Room>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Running")
    }
}

impl Running {
    /// Begins to answer.
    pub fn begin(cx: Cx, task: Task) -> Self {
        let worker = Rc::clone(&cx.worker);
        let room = worker.rooms.take().unwrap_or_else(Room::new);
        room.desk.task.set(Some((cx, task)));
        Self { worker, room: Some(room) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be dropped before it was polled: its client took it back at once. Then no record counts
        // it.
        if let Some(room) = &self.room
            && let Some((cx, _)) = room.desk.task.take()
        {
            never_looked_at(&cx.conn);
        }
    }
}

impl Future for Running {
    type Output = Response<ResponseBody>;

    /// A panic ends this request alone, not the process (F27): its record writes itself while it
    /// unwinds.
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(room) = &mut this.room else { return Poll::Pending };
        if caught(&this.worker, || room.handler.as_mut().poll(task)).is_ready() {
            // It never ends otherwise. What is in the room is not to be trusted any more.
            this.room = None;
            return Poll::Ready(internal_error());
        }
        let Some(response) = room.desk.response.take() else { return Poll::Pending };
        if let Some(room) = this.room.take() {
            this.worker.rooms.give(room);
        }
        Poll::Ready(response)
    }
}

fn internal_error() -> Response<ResponseBody> {
    let text = b"{\"error\":{\"type\":\"internal\",\"message\":\"an error inside the gateway\"}}";
    let mut response =
        Response::new(ResponseBody::Own(Some(bytes::Bytes::from_static(text)), None));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(&names::ERROR, HeaderValue::from_static("internal"));
    response
}

/// The rooms of a worker that nobody is in.
#[derive(Debug, Default)]
pub struct Rooms(RefCell<Vec<Room>>);

impl Rooms {
    fn take(&self) -> Option<Room> {
        self.0.borrow_mut().pop()
    }

    fn give(&self, room: Room) {
        let mut empty = self.0.borrow_mut();
        if empty.len() < MOST_EMPTY {
            empty.push(room);
        }
    }
}

/// Where requests are handled, one after the other.
struct Room {
    handler: Pin<Box<dyn Future<Output = Infallible>>>,
    desk: Rc<Desk>,
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Room")
    }
}

/// What goes in and what comes out.
#[derive(Default)]
struct Desk {
    task: Cell<Option<(Cx, Task)>>,
    response: Cell<Option<Response<ResponseBody>>>,
}

impl Room {
    fn new() -> Self {
        let desk = Rc::new(Desk::default());
        Self { handler: Box::pin(handle_all(Rc::clone(&desk))), desk }
    }
}

async fn handle_all(desk: Rc<Desk>) -> Infallible {
    loop {
        let next = |_: &mut Context<'_>| desk.task.take().map_or(Poll::Pending, Poll::Ready);
        let (cx, task) = std::future::poll_fn(next).await;
        let response = match task {
            Task::Handle(head, body) => request::handle(cx, head, body).await,
            Task::Refuse(why) => request::refuse(cx, why).await,
        };
        desk.response.set(Some(response));
    }
}
