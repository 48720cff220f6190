//! A connection's bytes and what they say: frames taken in, streams and windows kept, frames given out.
//!
//! Nothing here runs a request. What a client sent is taken apart and kept for whoever wants it, and what
//! is to be told to it is put among what is to be written.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::request::Parts;
use http_body::Frame as Content;
use policies::h2::{
    Code, Decoder, HEAD, HeadReader, MOST_PAYLOAD, NO_TABLE, flag, kind, put_goaway, put_head,
    put_ping, put_reset, put_settings, put_status, put_window,
};

mod taken;

use super::ring::Ring;
use super::stream::Streams;
use crate::body::BodyFault;
use crate::config::plan::Limits;
use crate::server::conn::{Conn, Kick, Refusal};
use crate::server::pipe::{MOST_GATHERED, Pipe};
use crate::server::socket::ClientStream;

/// Bytes that are read before others on this thread have their turn.
const MOST_READ: usize = 64 << 10;

/// Streams that may be reset before they are closed, which is done when the rest of the connection has
/// its turn.
pub(super) const MOST_RESET: usize = 32;

/// Bytes of content that are sent in one frame: with its head they fill a TLS record.
const MOST_SENT: usize = MOST_GATHERED - HEAD;

/// How much longer than its fields a block may be, coded as it is (T09).
const MOST_BLOCK_FACTOR: usize = 4;

/// A window before anybody speaks of it (6.9.2).
const FIRST_WINDOW: u32 = 65_535;

/// What is said in the `PING` that goes with the first `GOAWAY`, and in the one that asks whether
/// somebody is there.
const LEAVING: [u8; 8] = *b"weir.bye";
const THERE: [u8; 8] = *b"weir.hi?";

/// A request that came.
#[derive(Debug)]
pub(super) struct Fresh {
    pub place: usize,
    pub id: u32,
    /// Its head, or why there is none.
    pub head: Result<Parts, Refusal>,
    /// Content may follow.
    pub has_body: bool,
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// There is no more now.
    All,
    /// There may be more, and others have their turn first.
    Some,
    /// The client's side has ended.
    End,
}

/// A block of fields that came in part.
#[derive(Debug)]
struct Block {
    stream: u32,
    ends: bool,
    bytes: BytesMut,
    parts: u32,
}

/// How far an end that was asked for has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// The client was told, and what it sent before it knew is still served.
    Told,
    /// Nothing new is served.
    Last(u32),
}

/// The table of our side, which is never used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    /// As large as at first.
    Agreed,
    /// The client allows less: the next block has to say so.
    ToBeEmptied,
    Empty,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    conn: Rc<Conn>,
    ring: Arc<Ring>,
    pub pipe: Pipe,
    read: BytesMut,
    // The client has said what it speaks, and what it wants.
    greeted: bool,
    settled: bool,
    block: Option<Block>,
    decoder: Decoder,
    head: HeadReader,
    pub streams: Streams,
    // Those that were reset and are not closed yet: they no longer count.
    reset: usize,
    /// The connection's window grew.
    pub widened: bool,
    /// Requests that came and that nobody took yet.
    pub fresh: Vec<Fresh>,
    // The highest number of a stream of the client's.
    last: u32,
    leaving: Leaving,
    // Windows: what may be sent, what may come, and what of that was taken and is to be told.
    to_client: i64,
    from_client: i64,
    unclaimed: u32,
    // What the client's settings say.
    first_to_client: i64,
    most_payload: usize,
    // What ours say.
    most_streams: usize,
    most_block: usize,
    window: u32,
    link_window: u32,
    // A client that has not heard of our window yet goes by the first one.
    window_now: u32,
    table: Table,
}

impl Link {
    /// Begins with our settings.
    pub(super) fn new(
        conn: Rc<Conn>,
        stream: ClientStream,
        limits: &Limits,
        ring: Arc<Ring>,
    ) -> Self {
        let mut pipe = Pipe::new(Rc::clone(&conn), stream, limits.write_buffer);
        let link_window = limits.h2_connection_window.max(FIRST_WINDOW);
        pipe.out.put_lines(|out| {
            put_settings(out, limits.h2_streams, limits.h2_stream_window, limits.h2_header_bytes);
            if link_window > FIRST_WINDOW {
                put_window(out, 0, link_window - FIRST_WINDOW);
            }
        });
        let most_fields = limits.h2_header_bytes as usize;
        Self {
            conn,
            ring,
            pipe,
            read: BytesMut::new(),
            greeted: false,
            settled: false,
            block: None,
            decoder: Decoder::new(),
            head: HeadReader::new(most_fields),
            streams: Streams::new(limits.h2_streams as usize),
            reset: 0,
            widened: false,
            fresh: Vec::new(),
            last: 0,
            leaving: Leaving::No,
            to_client: i64::from(FIRST_WINDOW),
            from_client: i64::from(link_window),
            unclaimed: 0,
            first_to_client: i64::from(FIRST_WINDOW),
            most_payload: MOST_PAYLOAD,
            most_streams: limits.h2_streams as usize,
            most_block: most_fields.saturating_mul(MOST_BLOCK_FACTOR).max(MOST_PAYLOAD),
            window: limits.h2_stream_window,
            link_window,
            window_now: limits.h2_stream_window.max(FIRST_WINDOW),
            table: Table::Agreed,
        }
    }

    fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.pipe.out.put_lines(write);
    }

    /// Takes in what has come.
    ///
    /// # Errors
    /// What the connection ends with.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<Read, Code> {
        let mut count = 0;
        loop {
            self.take_frames()?;
            if self.conn.kick.get() == Some(Kick::Abuse) {
                return Ok(Read::All);
            }
            if count > MOST_READ || self.reset >= MOST_RESET {
                return Ok(Read::Some);
            }
            match self.pipe.poll_read(cx, &mut self.read) {
                Poll::Pending => break,
                Poll::Ready(Ok(0) | Err(_)) => return Ok(Read::End),
                Poll::Ready(Ok(more)) => {
                    count += more;
                    self.conn.heard.set(true);
                }
            }
        }
        if self.read.is_empty() {
            // An idle connection holds no buffer.
            self.read = BytesMut::new();
        }
        Ok(Read::All)
    }

    /// So many bytes were taken: the connection's window grows by them, by halves.
    fn claim_link(&mut self, bytes: u32) {
        self.unclaimed += bytes;
        if self.unclaimed >= self.link_window / 2 {
            let by = std::mem::take(&mut self.unclaimed);
            self.from_client += i64::from(by);
            self.say(|out| put_window(out, 0, by));
            // Whoever took them may not be the connection's own task.
            self.conn.wake();
        }
    }

    /// So many bytes of a stream were taken: its window grows by them, by halves.
    fn claim(&mut self, place: usize, id: u32, bytes: u32) {
        let window = self.window;
        if let Some(by) = self.streams.get(place, id).and_then(|stream| stream.claim(bytes, window))
        {
            self.say(|out| put_window(out, id, by));
            self.conn.wake();
        }
        self.claim_link(bytes);
    }

    /// The client knows our settings.
    fn agree(&mut self) {
        let less = i64::from(std::mem::replace(&mut self.window_now, self.window))
            - i64::from(self.window);
        if less > 0 {
            self.streams.all().for_each(|(_, stream)| stream.from_client -= less);
        }
    }

    /// The next frame of a stream's content. A stream that was reset has no end but breaks off.
    pub(super) fn poll_content(
        &mut self,
        place: usize,
        id: u32,
        waker: &Waker,
    ) -> Poll<Option<Result<Content<Bytes>, BodyFault>>> {
        let broken = Poll::Ready(Some(Err(BodyFault::Broken)));
        let Some(stream) = self.streams.get(place, id) else { return broken };
        if stream.reset || !stream.wanted {
            return broken;
        }
        let Some(frame) = stream.take() else {
            if stream.ended {
                return Poll::Ready(None);
            }
            stream.set_reader(waker);
            if std::mem::take(&mut stream.continue_due) {
                self.send_fields(id, false, |out| put_status(out, StatusCode::CONTINUE));
                self.conn.wake();
            }
            return Poll::Pending;
        };
        stream.continue_due = false;
        if let Some(data) = frame.data_ref() {
            self.claim(place, id, u32::try_from(data.len()).unwrap_or(u32::MAX));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// Nobody wants the rest of a stream's content.
    pub(super) fn forget_content(&mut self, place: usize, id: u32) {
        if let Some(stream) = self.streams.get(place, id) {
            let bytes = stream.forget();
            self.claim_link(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }

    /// How much may be sent on a stream now; `None` if there is no such stream any more.
    pub(super) fn window(&mut self, place: usize, id: u32) -> Option<usize> {
        let most = self.to_client.min(self.most_payload.min(MOST_SENT) as i64);
        let stream = self.streams.get(place, id).filter(|stream| !stream.reset)?;
        Some(usize::try_from(stream.to_client.min(most)).unwrap_or(0))
    }

    /// Gives out a frame of content, no longer than [`Self::window`].
    pub(super) fn send(&mut self, place: usize, id: u32, data: Bytes, ends: bool) {
        let flags = if ends { flag::END_STREAM } else { 0 };
        self.say(|out| put_head(out, data.len(), kind::DATA, flags, id));
        let bytes = data.len() as i64;
        self.to_client -= bytes;
        if let Some(stream) = self.streams.get(place, id) {
            stream.to_client -= bytes;
        }
        self.pipe.out.put(data);
    }

    /// Gives out the head of an answer: nobody waits for a 100 any more.
    pub(super) fn send_head(
        &mut self,
        place: usize,
        id: u32,
        ends: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if let Some(stream) = self.streams.get(place, id) {
            stream.continue_due = false;
        }
        self.send_fields(id, ends, write);
    }

    /// Gives out fields as `write` appends them.
    pub(super) fn send_fields(&mut self, id: u32, ends: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let most = self.most_payload;
        let empties = self.table == Table::ToBeEmptied;
        if empties {
            self.table = Table::Empty;
        }
        let ended = if ends { flag::END_STREAM } else { 0 };
        self.say(|out| {
            let begins = out.len();
            put_head(out, 0, kind::HEADERS, ended | flag::END_HEADERS, id);
            if empties {
                out.push(NO_TABLE);
            }
            write(out);
            let length = out.len() - begins - HEAD;
            let rest = if length > most { out.split_off(begins + HEAD + most) } else { Vec::new() };
            let mut head = Vec::with_capacity(HEAD);
            let whole = if rest.is_empty() { flag::END_HEADERS } else { 0 };
            put_head(&mut head, length.min(most), kind::HEADERS, ended | whole, id);
            if let Some(place) = out.get_mut(begins..begins + HEAD) {
                place.copy_from_slice(&head);
            }
            let mut parts = rest.chunks(most).peekable();
            while let Some(part) = parts.next() {
                let whole = if parts.peek().is_none() { flag::END_HEADERS } else { 0 };
                put_head(out, part.len(), kind::CONTINUATION, whole, id);
                out.extend_from_slice(part);
            }
        });
    }

    /// Breaks a stream off.
    pub(super) fn reset(&mut self, place: usize, id: u32, code: Code) {
        if let Some(stream) = self.streams.get(place, id).filter(|stream| !stream.reset) {
            stream.reset = true;
            self.reset += 1;
            self.say(|out| put_reset(out, id, code));
        }
    }

    /// The stream at `place` is over, and answered unless it was reset. A client that still sends is told
    /// that it need not (8.1).
    pub(super) fn close(&mut self, place: usize) {
        let Some(mut stream) = self.streams.close(place) else { return };
        self.conn.open_streams.set(self.streams.len());
        // It finds that there is no more.
        stream.wake();
        self.reset -= usize::from(stream.reset);
        let bytes = stream.forget();
        self.claim_link(u32::try_from(bytes).unwrap_or(u32::MAX));
        if !stream.ended && !stream.reset {
            self.say(|out| put_reset(out, stream.id, Code::NO_ERROR));
        }
        if !stream.ended {
            self.streams.note_cut(stream.id);
        }
    }

    /// The connection is over: whoever still holds a body finds it broken off, and the stream is given
    /// back.
    pub(super) fn take_stream(&mut self) -> Option<ClientStream> {
        for (_, stream) in self.streams.all() {
            stream.reset = true;
            stream.wake();
        }
        self.pipe.take_stream()
    }

    /// Asks whether somebody is there.
    pub(super) fn ask(&mut self) {
        self.say(|out| put_ping(out, false, THERE));
    }

    /// Begins to end the connection: what the client sends before it knows is served.
    pub(super) fn leave(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Told;
            self.say(|out| {
                put_goaway(out, u32::MAX >> 1, Code::NO_ERROR);
                put_ping(out, false, LEAVING);
            });
        }
    }

    fn say_last(&mut self) {
        let last = self.last;
        self.leaving = Leaving::Last(last);
        self.say(|out| put_goaway(out, last, Code::NO_ERROR));
    }

    /// The last words of a connection that ends at once.
    pub(super) fn end(&mut self, code: Code) {
        // Never more than was said before (6.8).
        let last = if let Leaving::Last(last) = self.leaving { last } else { self.last };
        self.say(|out| put_goaway(out, last, code));
    }

    /// Whether everything is over that an end waits for.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.leaving, Leaving::Last(_))
            && self.streams.len() == 0
            && self.pipe.out.len() == 0
    }

    /// Writes all there is.
    ///
    /// # Errors
    /// When the client has left.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.poll_write(cx)
    }
}
