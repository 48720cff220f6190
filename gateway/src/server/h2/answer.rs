//! An answer on its way to a client of HTTP/2: its head, and its content as the windows allow.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING, UPGRADE};
use http::response::Parts;
use http::{HeaderName, Response, StatusCode};
use http_body::Body;
use policies::h2::{Code, put_field, put_status};

use super::link::Link;
use crate::clock;
use crate::request::ResponseBody;
use crate::server::conn::Conn;
use crate::worker::Worker;

/// What an answer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its content; it wakes.
    Content,
    /// Room among what is to be written.
    Room,
    /// A window.
    Window,
    /// Others have their turn.
    Turn,
    /// Nothing: it is over.
    Over,
}

/// An answer under way.
#[derive(Debug)]
pub(super) struct Answer {
    conn: Rc<Conn>,
    place: usize,
    id: u32,
    body: Option<ResponseBody>,
    // Given out by the content, and not sent.
    data: Bytes,
    // Nothing may follow the head. The content is asked all the same: it knows how it ended.
    bodiless: bool,
    // Since when the client takes nothing of it: a window that stays shut is noticed by this alone (L12).
    // Made when it has to wait for the first time.
    waits: Option<Rc<Cell<Option<Instant>>>>,
}

impl Answer {
    /// Gives its head out.
    pub(super) fn begin(
        worker: &Worker,
        conn: &Rc<Conn>,
        link: &RefCell<Link>,
        (place, id): (usize, u32),
        response: Response<ResponseBody>,
        head_only: bool,
    ) -> Self {
        let (parts, body) = response.into_parts();
        let ended = body.is_end_stream();
        let status = parts.status;
        let bodiless = head_only
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = if ended || bodiless { None } else { body.size_hint().exact() };
        let date = worker.date();
        link.borrow_mut().send_head(place, id, ended || bodiless, |out| {
            write_head(out, &parts, length, &date);
        });
        let body = (!ended).then_some(body);
        Self { conn: Rc::clone(conn), place, id, body, data: Bytes::new(), bodiless, waits: None }
    }

    /// Gives out what there is, one frame of content at a time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, link: &RefCell<Link>) -> Step {
        loop {
            if !self.data.is_empty() {
                return self.send(link);
            }
            let Some(body) = &mut self.body else { return Step::Over };
            if !self.bodiless && !link.borrow().pipe.has_room() {
                return Step::Room;
            }
            // Not borrowed while the content is asked: it may be reading the request's.
            let frame = match Pin::new(body).poll_frame(cx) {
                Poll::Pending => return Step::Content,
                Poll::Ready(None) => {
                    self.body = None;
                    if !self.bodiless {
                        link.borrow_mut().send(self.place, self.id, Bytes::new(), true);
                    }
                    return Step::Over;
                }
                Poll::Ready(Some(Err(_))) => {
                    if !self.bodiless {
                        // Nobody may take a part for the whole (F03).
                        link.borrow_mut().reset(self.place, self.id, Code::INTERNAL_ERROR);
                    }
                    return Step::Over;
                }
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            if self.bodiless {
                continue;
            }
            match frame.into_data() {
                Ok(data) => self.data = data,
                Err(frame) => {
                    let Ok(trailers) = frame.into_trailers() else { continue };
                    link.borrow_mut().send_fields(self.id, true, |out| {
                        for (name, value) in &trailers {
                            if may_be_sent(name) {
                                put_field(out, name, value.as_bytes());
                            }
                        }
                    });
                    return Step::Over;
                }
            }
        }
    }

    /// Sends as much of what was given out as may be.
    fn send(&mut self, link: &RefCell<Link>) -> Step {
        let mut link = link.borrow_mut();
        let Some(most) = link.window(self.place, self.id) else { return Step::Over };
        if most == 0 || !link.pipe.has_room() {
            self.wait();
            return if most == 0 { Step::Window } else { Step::Room };
        }
        if let Some(waits) = &self.waits {
            waits.set(None);
        }
        let part = self.data.split_to(most.min(self.data.len()));
        let last = self.data.is_empty() && self.body.as_ref().is_none_or(Body::is_end_stream);
        link.send(self.place, self.id, part, last);
        if last { Step::Over } else { Step::Turn }
    }

    /// The client takes nothing, from now on if it did before.
    fn wait(&mut self) {
        let waits = self.waits.get_or_insert_with(|| {
            let waits = Rc::default();
            self.conn.watch_stream(&waits);
            waits
        });
        if waits.get().is_none() {
            waits.set(Some(clock::now()));
        }
    }
}

fn write_head(out: &mut Vec<u8>, parts: &Parts, length: Option<u64>, date: &[u8]) {
    put_status(out, parts.status);
    let (mut dated, mut told) = (false, false);
    for (name, value) in &parts.headers {
        if !may_be_sent(name) {
            continue;
        }
        dated |= *name == DATE;
        told |= *name == CONTENT_LENGTH;
        put_field(out, name, value.as_bytes());
    }
    if let Some(length) = length
        && !told
    {
        put_field(out, &CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes());
    }
    if !dated {
        put_field(out, &DATE, date);
    }
}

/// Whether it speaks of more than a connection of HTTP/1.1 (RFC 9113, 8.2.2).
fn may_be_sent(name: &HeaderName) -> bool {
    match *name {
        CONNECTION | TRANSFER_ENCODING | UPGRADE => false,
        _ => !matches!(name.as_str(), "keep-alive" | "proxy-connection"),
    }
}
