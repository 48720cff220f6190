//! A connection's bytes and what they say: frames taken in, streams and windows kept, frames given out.
//!
//! Nothing here runs a request. What a client sent is taken apart and kept for whoever wants it, and what
//! is to be told to it is put among what is to be written.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, header};
use http_body::Frame as Content;
use policies::framing;
use policies::h2::{
    Code, Decoder, Fault, Frame, FrameHead, HEAD, HeadFault, HeadReader, MOST_PAYLOAD, PREFACE,
    Setting, Settings, flag, kind, put_goaway, put_head, put_ping, put_reset, put_settings,
    put_window,
};

use super::ring::Ring;
use super::stream::{Stream, Streams};
use crate::body::BodyFault;
use crate::clock;
use crate::config::plan::Limits;
use crate::server::conn::{Conn, Kick, Refusal};
use crate::server::pipe::{MOST_GATHERED, Pipe};
use crate::server::socket::ClientStream;

/// Bytes that are read before others on this thread have their turn.
const MOST_READ: usize = 64 << 10;

/// Bytes of content that are sent in one frame: with its head they fill a TLS record.
const MOST_SENT: usize = MOST_GATHERED - HEAD;

/// Parts that a block of fields may come in, and how much longer than its fields it may be (T09).
const MOST_PARTS: u32 = 64;
const MOST_BLOCK_FACTOR: usize = 4;

/// The largest window (RFC 9113, 6.9.1).
const MOST_WINDOW: i64 = (1 << 31) - 1;

/// The window of a connection before anybody widens it (6.9.2).
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
            streams: Streams::default(),
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
            if count > MOST_READ {
                return Ok(Read::Some);
            }
            match self.pipe.poll_read(cx, &mut self.read) {
                Poll::Pending => break,
                Poll::Ready(Ok(0) | Err(_)) => return Ok(Read::End),
                Poll::Ready(Ok(more)) => count += more,
            }
        }
        if count > 0 {
            self.conn.heard.set(true);
        }
        if self.read.is_empty() {
            // An idle connection holds no buffer.
            self.read = BytesMut::new();
        }
        Ok(Read::All)
    }

    /// All frames that are whole.
    fn take_frames(&mut self) -> Result<(), Code> {
        if !self.greeted {
            let count = PREFACE.len().min(self.read.len());
            if self.read.get(..count) != PREFACE.get(..count) {
                return Err(Code::PROTOCOL_ERROR);
            }
            if count < PREFACE.len() {
                return Ok(());
            }
            self.read.advance(count);
            self.greeted = true;
        }
        while let Some(head) = FrameHead::read(&self.read) {
            if head.length > MOST_PAYLOAD {
                return Err(Code::FRAME_SIZE_ERROR);
            }
            self.check_order(head)?;
            let Some(payload) = self.read.get(HEAD..HEAD + head.length) else { break };
            let fault = match Frame::of(head, payload) {
                Ok(frame) => self.take_frame(head, frame).err(),
                Err(fault) => {
                    self.read.advance(HEAD + head.length);
                    Some(fault)
                }
            };
            match fault {
                None => {}
                Some(Fault::Connection(code)) => return Err(code),
                Some(Fault::Stream(id, code)) => self.fail(id, code),
            }
            if self.conn.kick.get() == Some(Kick::Abuse) {
                return Ok(());
            }
        }
        self.note_head();
        Ok(())
    }

    /// Settings come first (3.4), and nothing comes within a block of fields (6.10).
    fn check_order(&mut self, head: FrameHead) -> Result<(), Code> {
        let of_block = head.kind == kind::CONTINUATION;
        let fine = match &self.block {
            Some(block) => of_block && block.stream == head.stream,
            None => !of_block,
        };
        if !fine || !self.settled && head.kind != kind::SETTINGS {
            return Err(Code::PROTOCOL_ERROR);
        }
        Ok(())
    }

    /// The clock of a head: it runs while only a part of it is there (L04).
    fn note_head(&self) {
        let begun = self.block.is_some()
            || matches!(self.read.get(3), Some(&(kind::HEADERS | kind::CONTINUATION)));
        if begun != self.conn.head_since.get().is_some() {
            self.conn.head_since.set(begun.then(clock::now));
        }
    }

    /// The next bytes are `frame`.
    fn take_frame(&mut self, head: FrameHead, frame: Frame) -> Result<(), Fault> {
        let size = HEAD + head.length;
        let id = head.stream;
        match frame {
            Frame::Data { content, ends } => {
                let mut payload = self.read.split_to(size).freeze();
                payload.advance(HEAD);
                self.take_data(id, payload.slice(content), head.length, ends)
            }
            Frame::Headers { block, ends, whole } => {
                let mut payload = self.read.split_to(size).freeze();
                payload.advance(HEAD);
                let block = payload.slice(block);
                if whole {
                    return self.take_block(id, ends, &block);
                }
                let bytes = BytesMut::from(&*block);
                self.block = Some(Block { stream: id, ends, bytes, parts: 1 });
                Ok(())
            }
            Frame::Continuation { whole } => {
                let payload = self.read.split_to(size);
                let Some(mut block) = self.block.take() else { return Ok(()) };
                block.bytes.extend_from_slice(payload.get(HEAD..).unwrap_or_default());
                block.parts += 1;
                if block.parts > MOST_PARTS || block.bytes.len() > self.most_block {
                    return Err(Fault::Connection(Code::ENHANCE_YOUR_CALM));
                }
                if whole {
                    return self.take_block(id, block.ends, &block.bytes.freeze());
                }
                self.block = Some(block);
                Ok(())
            }
            Frame::Settings => {
                let payload = self.read.split_to(size);
                self.settled = true;
                self.chore();
                let settings = payload.get(HEAD..).unwrap_or_default();
                self.take_settings(settings).map_err(Fault::Connection)
            }
            Frame::SettingsAck if !self.settled => Err(Fault::Connection(Code::PROTOCOL_ERROR)),
            other => {
                self.read.advance(size);
                self.take_small(id, &other)
            }
        }
    }

    fn take_small(&mut self, id: u32, frame: &Frame) -> Result<(), Fault> {
        let idle = Err(Fault::Connection(Code::PROTOCOL_ERROR));
        match frame {
            Frame::Reset if id > self.last => return idle,
            Frame::Reset => {
                self.conn.count_resets(clock::now());
                if let Some(place) = self.streams.find(id) {
                    self.end_by_reset(place);
                }
            }
            Frame::Ping(said) => {
                let said = *said;
                self.say(|out| put_ping(out, true, said));
            }
            Frame::Pong(LEAVING) if self.leaving == Leaving::Told => self.say_last(),
            Frame::Window(by) if id == 0 => {
                self.to_client += i64::from(*by);
                if self.to_client > MOST_WINDOW {
                    return Err(Fault::Connection(Code::FLOW_CONTROL_ERROR));
                }
                self.widened = true;
            }
            Frame::Window(_) if id > self.last => return idle,
            Frame::Window(by) => {
                if let Some(place) = self.streams.find(id)
                    && let Some(stream) = self.streams.get(place, id)
                {
                    stream.to_client += i64::from(*by);
                    if stream.to_client > MOST_WINDOW {
                        return Err(Fault::Stream(id, Code::FLOW_CONTROL_ERROR));
                    }
                    self.ring.ring(place);
                }
            }
            Frame::Nothing => self.chore(),
            _ => {}
        }
        Ok(())
    }

    fn take_settings(&mut self, payload: &[u8]) -> Result<(), Code> {
        for setting in Settings::of(payload) {
            match setting? {
                Setting::MostPayload(most) => self.most_payload = most,
                Setting::InitialWindow(window) => {
                    let by = i64::from(window) - self.first_to_client;
                    self.first_to_client = i64::from(window);
                    for (place, stream) in self.streams.all() {
                        stream.to_client += by;
                        if stream.to_client > MOST_WINDOW {
                            return Err(Code::FLOW_CONTROL_ERROR);
                        }
                        self.ring.ring(place);
                    }
                }
            }
        }
        self.say(|out| put_head(out, 0, kind::SETTINGS, flag::ACK, 0));
        Ok(())
    }

    fn take_data(
        &mut self,
        id: u32,
        content: Bytes,
        length: usize,
        ends: bool,
    ) -> Result<(), Fault> {
        // Padding counts (6.9.1). No payload is longer than a number of 32 bits says.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.from_client -= i64::from(length);
        if self.from_client < 0 {
            return Err(Fault::Connection(Code::FLOW_CONTROL_ERROR));
        }
        if content.is_empty() && !ends {
            self.chore();
        }
        let Some(place) = self.streams.find(id) else {
            self.claim_link(length);
            return self.closed(id);
        };
        let Some(stream) = self.streams.get(place, id) else { return Ok(()) };
        if stream.reset {
            self.claim_link(length);
            return Ok(());
        }
        stream.from_client -= i64::from(length);
        let verdict = if stream.ended {
            Err(Code::STREAM_CLOSED)
        } else if stream.from_client < 0 {
            Err(Code::FLOW_CONTROL_ERROR)
        } else {
            stream.count(content.len(), ends)
        };
        if let Err(code) = verdict {
            self.claim_link(length);
            return Err(Fault::Stream(id, code));
        }
        let taken = if stream.wanted {
            let padding = length - u32::try_from(content.len()).unwrap_or(length);
            if !content.is_empty() {
                stream.put(Content::data(content));
            }
            stream.wake();
            padding
        } else {
            // Its window is left as it is: nobody wants more.
            length
        };
        self.claim_link(taken);
        Ok(())
    }

    /// Something came on a stream that is not open. What was sent before the client knew of its end is
    /// passed over (5.1).
    fn closed(&mut self, id: u32) -> Result<(), Fault> {
        if id > self.last {
            return Err(Fault::Connection(Code::PROTOCOL_ERROR));
        }
        if !self.streams.was_reset(id) {
            return Err(Fault::Connection(Code::STREAM_CLOSED));
        }
        self.chore();
        Ok(())
    }

    fn take_block(&mut self, id: u32, ends: bool, block: &Bytes) -> Result<(), Fault> {
        let decoded = self.decoder.decode(block, &mut self.head);
        decoded.map_err(|_| Fault::Connection(Code::COMPRESSION_ERROR))?;
        if let Some(place) = self.streams.find(id) {
            let trailers = self.head.trailers();
            return self.take_trailers(place, id, ends, trailers);
        }
        if id <= self.last {
            self.head.clear();
            return self.closed(id);
        }
        if id % 2 == 0 {
            return Err(Fault::Connection(Code::PROTOCOL_ERROR));
        }
        self.last = id;
        if matches!(self.leaving, Leaving::Last(last) if id > last) {
            // The client learns that it was not served, and may send it again elsewhere.
            self.head.clear();
            self.streams.note_reset(id);
            return Ok(());
        }
        if self.streams.len() >= self.most_streams {
            self.head.clear();
            self.say(|out| put_reset(out, id, Code::REFUSED_STREAM));
            self.streams.note_reset(id);
            return Ok(());
        }
        let malformed = Fault::Stream(id, Code::PROTOCOL_ERROR);
        let (head, left, waits) = match self.head.request() {
            Err(HeadFault::Malformed) => return Err(malformed),
            Err(HeadFault::TooLarge) => {
                (Err(Refusal::Framing(framing::Fault::HeadTooLarge)), None, false)
            }
            Ok(parts) => {
                let left = content_length(&parts.headers).map_err(|()| malformed)?;
                let waits = parts.headers.contains_key(header::EXPECT);
                (Ok(parts), left, waits)
            }
        };
        if ends && left.is_some_and(|left| left > 0) {
            return Err(malformed);
        }
        let mut stream = Stream::new(id, ends, left, self.window, self.first_to_client);
        stream.continue_due = waits && !ends;
        stream.wanted &= head.is_ok();
        let place = self.streams.open(stream);
        self.fresh.push(Fresh { place, id, head, has_body: !ends });
        Ok(())
    }

    fn take_trailers(
        &mut self,
        place: usize,
        id: u32,
        ends: bool,
        trailers: Result<HeaderMap, HeadFault>,
    ) -> Result<(), Fault> {
        let Some(stream) = self.streams.get(place, id) else { return Ok(()) };
        if stream.reset {
            return Ok(());
        }
        let fault = |code| Err(Fault::Stream(id, code));
        if stream.ended {
            return fault(Code::STREAM_CLOSED);
        }
        // They end a stream, and a list that is too long is none (8.1).
        let (true, Ok(trailers)) = (ends, trailers) else { return fault(Code::PROTOCOL_ERROR) };
        if let Err(code) = stream.count(0, true) {
            return fault(code);
        }
        if stream.wanted {
            stream.put(Content::trailers(trailers));
            stream.wake();
        }
        Ok(())
    }

    /// A client's fault ends a stream (T08).
    fn fail(&mut self, id: u32, code: Code) {
        self.conn.count_faults(clock::now());
        if id > self.last {
            // There is nothing to reset.
            return;
        }
        self.say(|out| put_reset(out, id, code));
        self.streams.note_reset(id);
        if let Some(place) = self.streams.find(id) {
            self.end_by_reset(place);
        }
    }

    /// The stream at `place` is over for whoever reads or answers it. It is closed when they know.
    fn end_by_reset(&mut self, place: usize) {
        if let Some(stream) = self.streams.at(place) {
            stream.reset = true;
            stream.wake();
            self.ring.ring(place);
        }
    }

    /// Something that brings nothing forward: too much of it ends the connection (T09).
    fn chore(&self) {
        self.conn.count_chores(clock::now());
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

    /// The next frame of a stream's content. A stream that was reset has no end but breaks off.
    pub(super) fn poll_content(
        &mut self,
        place: usize,
        id: u32,
        waker: &Waker,
    ) -> Poll<Option<Result<Content<Bytes>, BodyFault>>> {
        let window = self.window;
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
                // `:status: 100`, and nothing besides.
                let block = b"\x08\x03100";
                self.say(|out| {
                    put_head(out, block.len(), kind::HEADERS, flag::END_HEADERS, id);
                    out.extend_from_slice(block);
                });
                self.conn.wake();
            }
            return Poll::Pending;
        };
        stream.continue_due = false;
        if let Some(data) = frame.data_ref() {
            let bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
            if let Some(by) = stream.claim(bytes, window) {
                self.say(|out| put_window(out, id, by));
                self.conn.wake();
            }
            self.claim_link(bytes);
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

    /// Gives out fields as `write` appends them.
    pub(super) fn send_fields(&mut self, id: u32, ends: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let most = self.most_payload;
        let ended = if ends { flag::END_STREAM } else { 0 };
        self.say(|out| {
            let begins = out.len();
            put_head(out, 0, kind::HEADERS, ended | flag::END_HEADERS, id);
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
            self.say(|out| put_reset(out, id, code));
            self.streams.note_reset(id);
        }
    }

    /// The stream at `place` is over, and answered unless it was reset. A client that still sends is told
    /// that it need not (8.1).
    pub(super) fn close(&mut self, place: usize) {
        let Some(mut stream) = self.streams.close(place) else { return };
        let bytes = stream.forget();
        self.claim_link(u32::try_from(bytes).unwrap_or(u32::MAX));
        if !stream.ended && !stream.reset {
            self.say(|out| put_reset(out, stream.id, Code::NO_ERROR));
        }
        if !stream.ended {
            self.streams.note_reset(stream.id);
        }
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
        let last = self.last;
        self.say(|out| put_goaway(out, last, code));
    }

    /// Whether everything is over that an end waits for.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.leaving, Leaving::Last(_)) && self.streams.len() == 0 && self.pipe.out.len() == 0
    }

    /// Writes all there is.
    ///
    /// # Errors
    /// When the client has left.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.poll_write(cx)
    }
}

/// Bytes of content by the head, if it says so.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, ()> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.as_bytes();
    if values.next().is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(());
    }
    value.to_str().ok().and_then(|digits| digits.parse().ok()).map(Some).ok_or(())
}
