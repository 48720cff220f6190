//! The bytes of one connection: read, taken apart by the scanner, written.
//!
//! An idle connection holds no buffer: room is made for what has come, and given back.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::Method;
use http::request::Parts;
use http_body::Frame;
use policies::framing::{Fault, HeadLimits, Marks, Piece, RequestFraming, Wishes};

use super::End;
use super::head;
use crate::body::BodyFault;
use crate::clock;
use crate::config::plan::Limits;
use crate::server::conn::{Conn, Kick, Refusal};
use crate::server::out::Out;
use crate::server::pipe::Pipe;
use crate::server::socket::ClientStream;
use crate::worker::Worker;

/// Bytes of pipelined requests that are read while an earlier one runs.
const MOST_HELD: usize = 64 << 10;

/// Bytes of content that nobody wanted which are read so that the connection can go on (T03).
const MOST_DRAINED: usize = 64 << 10;

/// The answer to `Expect: 100-continue`.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What comes next on a connection.
pub(super) enum Next {
    /// A whole head, of so many bytes: [`Wire::take_head`] takes it.
    Head(usize),
    /// Something that is no request, or none in time.
    Refused(Refusal),
    /// Nothing.
    End(End),
}

/// What a request wants of its answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    /// Only the head.
    pub head_only: bool,
    /// What its client wants to be done with the connection.
    pub wishes: Wishes,
}

impl Asked {
    /// What is no request gets an answer, and nothing after it.
    pub(super) fn nothing() -> Self {
        Self { head_only: false, wishes: Wishes { http11: true, ..Wishes::default() } }
    }
}

/// The bytes of a connection.
pub(super) struct Wire {
    conn: Rc<Conn>,
    pipe: Pipe,
    framing: RequestFraming,
    marks: Marks,
    // Read and not taken: a part of a head, content, or requests behind the present one.
    read: BytesMut,
    number: u64,
    // The client waits for a 100 before it sends its content.
    continue_due: bool,
    // Nothing that still comes is looked at.
    deaf: bool,
}

impl Wire {
    pub(super) fn new(conn: Rc<Conn>, stream: ClientStream, limits: &Limits) -> Self {
        let heads = HeadLimits {
            target_bytes: limits.target_bytes,
            header_bytes: limits.header_bytes,
            header_fields: limits.header_fields,
        };
        Self {
            pipe: Pipe::new(Rc::clone(&conn), stream, limits.write_buffer),
            conn,
            framing: RequestFraming::new(heads),
            marks: Marks::default(),
            read: BytesMut::new(),
            number: 0,
            continue_due: false,
            deaf: false,
        }
    }

    /// The bare stream, and what was read beyond the last message. No body has anything to read after.
    pub(super) fn take_stream(&mut self) -> Option<(ClientStream, Vec<u8>)> {
        self.number += 1;
        Some((self.pipe.take_stream()?, std::mem::take(&mut self.read).into()))
    }

    /// Which request is the present one.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether content of the present request is still to be taken.
    pub(super) fn in_body(&self) -> bool {
        self.framing.in_body()
    }

    /// How much, where its head says so.
    pub(super) fn content_left(&self) -> Option<u64> {
        self.framing.content_left()
    }

    /// The next request, or what is in its place.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>, worker: &Worker) -> Poll<Next> {
        let end = |end| Poll::Ready(Next::End(end));
        loop {
            match self.conn.kick.get() {
                None | Some(Kick::Idle) => {}
                Some(Kick::Stuck | Kick::Abuse) => return end(End::Failed),
                Some(Kick::HeaderTimeout) => {
                    return Poll::Ready(self.refuse(Refusal::HeaderTimeout));
                }
            }
            if !self.read.is_empty() {
                if self.framing.at_boundary() {
                    self.marks = std::mem::take(&mut worker.spare.borrow_mut().marks);
                }
                match self.framing.next(&self.read, &mut self.marks) {
                    Ok(Piece::Head(count)) => return Poll::Ready(Next::Head(count)),
                    Ok(_) => self.note_head(),
                    Err(fault) => return Poll::Ready(self.refuse(Refusal::Framing(fault))),
                }
            }
            match self.poll_more(cx) {
                Poll::Ready(Ok(true)) => {}
                // Between requests a client may leave, however it does.
                Poll::Ready(_) if self.framing.at_boundary() => return end(End::Normal),
                Poll::Ready(Ok(false) | Err(_)) => return end(End::Failed),
                // Only now: what has come already is served.
                Poll::Pending if self.is_to_end(worker) => return end(End::Normal),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether a connection on which nothing has come yet is to end.
    fn is_to_end(&self, worker: &Worker) -> bool {
        if !self.framing.at_boundary() {
            self.came_after_all();
            return false;
        }
        let conn = &self.conn;
        // The first request of a client that has just been let in is awaited, up to the sweep.
        conn.kick.get() == Some(Kick::Idle)
            || conn.served.get() > 0 && (conn.draining.get() || worker.closing())
    }

    /// A request comes on a connection that was to end because none did: it is the last.
    fn came_after_all(&self) {
        if self.conn.kick.get() == Some(Kick::Idle) {
            self.conn.unkick();
            self.conn.draining.set(true);
        }
    }

    fn refuse(&mut self, why: Refusal) -> Next {
        self.conn.head_since.set(None);
        self.read = BytesMut::new();
        self.number += 1;
        self.deaf = true;
        Next::Refused(why)
    }

    /// Takes the head, which has `count` bytes.
    ///
    /// # Errors
    /// What is wrong with content that came along, so that it is known before anything of the request
    /// is sent on (T01).
    pub(super) fn take_head(
        &mut self,
        count: usize,
        worker: &Worker,
    ) -> Result<(Parts, Asked), Refusal> {
        let since = self.conn.head_since.take();
        self.conn.head_took.set(since.map(|since| since.elapsed()).unwrap_or_default());
        self.came_after_all();
        let bytes = self.read.split_to(count).freeze();
        let fault = self.framing.foresee(&self.read);
        let wishes = self.framing.wishes();
        let mut spare = worker.spare.borrow_mut();
        // Longer than any URI may be, whatever the limit says.
        let mut names = worker.field_names.borrow_mut();
        let parts =
            head::parts(&bytes, &self.marks, wishes.http11, &mut names).ok_or(Fault::TargetTooLong);
        spare.marks = std::mem::take(&mut self.marks);
        match (fault, parts) {
            (None, Ok(parts)) => {
                self.number += 1;
                self.continue_due = wishes.waits && self.framing.in_body();
                let head_only = parts.method == Method::HEAD;
                Ok((parts, Asked { head_only, wishes }))
            }
            (Some(fault), _) | (None, Err(fault)) => {
                self.refuse(Refusal::Framing(fault));
                Err(Refusal::Framing(fault))
            }
        }
    }

    /// Keeps the clock of the head: it starts with the first byte.
    fn note_head(&self) {
        if self.framing.in_head() && self.conn.head_since.get().is_none() {
            self.conn.head_since.set(Some(clock::now()));
        }
    }

    /// More bytes; false at the end of the client's side.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let count = ready!(self.pipe.poll_read(cx, &mut self.read))?;
        Poll::Ready(Ok(count > 0))
    }

    /// The next frame of the present request's content.
    pub(super) fn poll_content(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        loop {
            if !self.framing.in_body() {
                return Poll::Ready(None);
            }
            match self.framing.next(&self.read, &mut self.marks) {
                Err(fault) => return Poll::Ready(Some(Err(BodyFault::Malformed(fault)))),
                Ok(Piece::Data(count)) => {
                    let data = self.read.split_to(count).freeze();
                    let lines = self.framing.pass_lines(&self.read, &mut self.marks);
                    self.read.advance(lines);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Piece::Trailers(count)) => {
                    let lines = self.read.split_to(count).freeze();
                    let trailers = crate::fields::fields(&lines, &self.marks.fields, None, 0);
                    if let Some(trailers) = trailers.filter(|trailers| !trailers.is_empty()) {
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                }
                Ok(Piece::Frame(count) | Piece::Head(count) | Piece::Informational(count)) => {
                    self.read.advance(count);
                }
                Ok(Piece::Nothing) => {
                    if std::mem::take(&mut self.continue_due) {
                        self.pipe.out.put_lines(|lines| lines.extend_from_slice(CONTINUE));
                        // What is left of it goes before the answer.
                        let _ = self.poll_write(cx);
                    }
                    match ready!(self.poll_more(cx)) {
                        Ok(true) => {}
                        Ok(false) | Err(_) => return Poll::Ready(Some(Err(BodyFault::Broken))),
                    }
                }
            }
        }
    }

    /// Whether the client has gone, looked for while its request runs (F10). What it sends meanwhile
    /// waits, up to a limit; its content is read by whoever wants it, not here.
    pub(super) fn has_left(&mut self, cx: &mut Context<'_>) -> bool {
        if matches!(self.poll_write(cx), Poll::Ready(Err(_))) {
            return true;
        }
        while !self.deaf && !self.framing.in_body() && self.read.len() < MOST_HELD {
            match self.poll_more(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false) | Err(_)) => return true,
                Poll::Pending => break,
            }
        }
        false
    }

    /// Whether more is to be gathered.
    pub(super) fn has_room(&self) -> bool {
        self.pipe.has_room()
    }

    /// What is to be written.
    pub(super) fn out(&mut self) -> &mut Out {
        &mut self.pipe.out
    }

    /// Writes all there is.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.poll_write(cx)
    }

    /// Whether the client waits for a 100 that it will not get: then its content may never come.
    pub(super) fn waits_in_vain(&self) -> bool {
        self.continue_due && self.framing.in_body() && self.read.is_empty()
    }

    /// After a whole answer: whether another request may come. Content that nobody wanted is read if it
    /// is there (T03).
    pub(super) fn goes_on(&mut self, worker: &Worker) -> bool {
        self.continue_due = false;
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut drained = 0;
        while self.framing.in_body() && drained <= MOST_DRAINED {
            match self.poll_content(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => drained += frame.data_ref().map_or(0, Bytes::len),
                Poll::Ready(None) => {}
                Poll::Ready(Some(Err(_))) | Poll::Pending => return false,
            }
        }
        if self.framing.upgrade_asked() {
            self.framing.not_upgraded();
        }
        worker.spare.borrow_mut().keep_room(self.pipe.out.give_room());
        if self.read.is_empty() {
            // An idle connection holds no buffer.
            self.read = BytesMut::new();
            self.marks = Marks::default();
        }
        !self.framing.in_body()
    }
}
