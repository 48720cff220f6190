//! What a client sent, frame by frame (RFC 9113, 5, 6 and 8).

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, header};
use policies::framing;
use policies::h2::{
    Code, FIRST_TABLE, Fault, Frame, FrameHead, HEAD, HeadFault, MOST_PAYLOAD, PREFACE, Setting,
    Settings, flag, kind, put_head, put_ping, put_reset,
};

use super::{Block, Fresh, LEAVING, Leaving, Link, MOST_RESET, Table};
use crate::clock;
use crate::server::conn::{Kick, Refusal};
use crate::server::h2::stream::Stream;

/// Parts that a block of fields may come in (T09).
const MOST_PARTS: u32 = 64;

/// The largest window (RFC 9113, 6.9.1).
const MOST_WINDOW: i64 = (1 << 31) - 1;

impl Link {
    /// All frames that are whole.
    pub(super) fn take_frames(&mut self) -> Result<(), Code> {
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
            if self.conn.kick.get() == Some(Kick::Abuse) || self.reset >= MOST_RESET {
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
            Frame::Reset
            | Frame::SettingsAck
            | Frame::Ping(_)
            | Frame::Pong(_)
            | Frame::GoAway
            | Frame::Window(_)
            | Frame::Nothing => {
                self.read.advance(size);
                self.take_small(id, &frame)
            }
        }
    }

    fn take_small(&mut self, id: u32, frame: &Frame) -> Result<(), Fault> {
        let forbidden = Err(Fault::Connection(Code::PROTOCOL_ERROR));
        match frame {
            Frame::Reset if id > self.last => return forbidden,
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
            Frame::Window(_) if id > self.last => return forbidden,
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
            Frame::SettingsAck if !self.settled => return forbidden,
            Frame::SettingsAck => self.agree(),
            Frame::Nothing => self.chore(),
            // What is left says nothing that changes anything here.
            Frame::Pong(_) | Frame::GoAway => {}
            Frame::Data { .. }
            | Frame::Headers { .. }
            | Frame::Continuation { .. }
            | Frame::Settings => {}
        }
        Ok(())
    }

    fn take_settings(&mut self, payload: &[u8]) -> Result<(), Code> {
        let mut first_window = None;
        for setting in Settings::of(payload) {
            match setting? {
                Setting::MostPayload(most) => self.most_payload = most,
                Setting::InitialWindow(window) => first_window = Some(i64::from(window)),
                Setting::Table(most) => {
                    if most < FIRST_TABLE && self.table == Table::Agreed {
                        self.table = Table::ToBeEmptied;
                    }
                }
            }
        }
        // Once, however often the frame says it.
        if let Some(window) = first_window {
            let by = window - std::mem::replace(&mut self.first_to_client, window);
            for (place, stream) in self.streams.all() {
                stream.to_client += by;
                if stream.to_client > MOST_WINDOW {
                    return Err(Code::FLOW_CONTROL_ERROR);
                }
                self.ring.ring(place);
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
        if !stream.wanted {
            // Its window is left as it is: nobody wants more.
            self.claim_link(length);
            return Ok(());
        }
        let padding = length - u32::try_from(content.len()).unwrap_or(length);
        if !content.is_empty() {
            stream.put(content);
        }
        stream.wake();
        if padding > 0 {
            self.claim(place, id, padding);
        }
        Ok(())
    }

    /// Something came on a stream that is not open. What was sent before the client knew of its end is
    /// passed over (5.1).
    fn closed(&mut self, id: u32) -> Result<(), Fault> {
        if id > self.last {
            return Err(Fault::Connection(Code::PROTOCOL_ERROR));
        }
        if !self.streams.was_cut(id) {
            return Err(Fault::Connection(Code::STREAM_CLOSED));
        }
        self.chore();
        Ok(())
    }

    fn take_block(&mut self, id: u32, ends: bool, block: &Bytes) -> Result<(), Fault> {
        let decoded = self.decoder.decode(block, &mut self.head);
        decoded.map_err(|_| Fault::Connection(Code::COMPRESSION_ERROR))?;
        // The clock of the next head is another.
        self.conn.head_since.set(None);
        if let Some(place) = self.streams.find(id) {
            let trailers = self.head.trailers();
            return self.take_trailers(place, id, ends, trailers);
        }
        if id <= self.last {
            self.head.clear();
            return self.closed(id);
        }
        if id.is_multiple_of(2) {
            return Err(Fault::Connection(Code::PROTOCOL_ERROR));
        }
        self.last = id;
        if matches!(self.leaving, Leaving::Last(last) if id > last) {
            // The client learns that it was not served, and may send it again elsewhere.
            self.head.clear();
            self.streams.note_cut(id);
            self.chore();
            return Ok(());
        }
        if self.streams.len() - self.reset >= self.most_streams {
            self.head.clear();
            self.say(|out| put_reset(out, id, Code::REFUSED_STREAM));
            self.streams.note_cut(id);
            self.chore();
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
        let mut stream = Stream::new(id, ends, left, self.window_now, self.first_to_client);
        stream.continue_due = waits && !ends;
        stream.wanted &= head.is_ok();
        let place = self.streams.open(stream);
        self.conn.open_streams.set(self.streams.len());
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
            stream.put_trailers(trailers);
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
        match self.streams.find(id) {
            Some(place) => self.end_by_reset(place),
            None => self.streams.note_cut(id),
        }
    }

    /// The stream at `place` is over for whoever reads or answers it. It is closed when they know.
    fn end_by_reset(&mut self, place: usize) {
        if let Some(stream) = self.streams.at(place) {
            self.reset += usize::from(!std::mem::replace(&mut stream.reset, true));
            stream.wake();
            self.ring.ring(place);
        }
    }

    /// Something that brings nothing forward: too much of it ends the connection (T09).
    fn chore(&self) {
        self.conn.count_chores(clock::now());
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
