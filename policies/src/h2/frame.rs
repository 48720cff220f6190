//! Frames (RFC 9113, 4 and 6): taken apart, checked each for itself, and put together.

use std::ops::Range;

use super::code::Code;

/// Bytes of a frame's head.
pub const HEAD: usize = 9;

/// What a client sends before its first frame (3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest payload where nothing else was agreed, and the one that this side takes.
pub const MOST_PAYLOAD: usize = 16_384;

/// The largest window.
const MOST_WINDOW: u32 = (1 << 31) - 1;

/// The types of frames.
pub mod kind {
    #![expect(missing_docs, reason = "the names are those of RFC 9113, section 6")]
    pub const DATA: u8 = 0x0;
    pub const HEADERS: u8 = 0x1;
    pub const PRIORITY: u8 = 0x2;
    pub const RST_STREAM: u8 = 0x3;
    pub const SETTINGS: u8 = 0x4;
    pub const PUSH_PROMISE: u8 = 0x5;
    pub const PING: u8 = 0x6;
    pub const GOAWAY: u8 = 0x7;
    pub const WINDOW_UPDATE: u8 = 0x8;
    pub const CONTINUATION: u8 = 0x9;
}

/// The flags of frames.
pub mod flag {
    #![expect(missing_docs, reason = "the names are those of RFC 9113, section 6")]
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes of the payload.
    pub length: usize,
    /// One of [`kind`].
    pub kind: u8,
    /// Of [`flag`].
    pub flags: u8,
    /// 0 for the connection.
    pub stream: u32,
}

impl FrameHead {
    /// The head that `bytes` begin with; `None` if there are not enough of them.
    #[inline]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, d, e, f, g] = *bytes.first_chunk::<HEAD>()?;
        Some(Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            // The highest bit says nothing.
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
        })
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What is wrong with a frame, and what ends because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection.
    Connection(Code),
    /// This stream.
    Stream(u32, Code),
}

/// A frame that is fine by itself. Ranges are places in its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Content, in this range.
    Data {
        /// Where it stands.
        content: Range<usize>,
        /// The stream ends with it.
        ends: bool,
    },
    /// The beginning of a block of fields, in this range.
    Headers {
        /// Where it stands.
        block: Range<usize>,
        /// The stream ends with it.
        ends: bool,
        /// It is the whole block.
        whole: bool,
    },
    /// More of a block: all of the payload.
    Continuation {
        /// It is the last part.
        whole: bool,
    },
    /// The stream is taken back.
    Reset,
    /// Settings: read them with [`Settings::of`].
    Settings,
    /// Ours are in force.
    SettingsAck,
    /// The same is to be sent back.
    Ping([u8; 8]),
    /// The same as was sent.
    Pong([u8; 8]),
    /// No more streams come.
    GoAway,
    /// A window grows.
    Window(u32),
    /// Something that need not be known.
    Nothing,
}

impl Frame {
    /// The frame of `head` and `payload`, which has the length that `head` says.
    ///
    /// # Errors
    /// What RFC 9113, 6 forbids in a frame whatever came before it.
    pub fn of(head: FrameHead, payload: &[u8]) -> Result<Self, Fault> {
        use Fault::{Connection, Stream};
        let FrameHead { length, stream, .. } = head;
        let size = Connection(Code::FRAME_SIZE_ERROR);
        let protocol = Connection(Code::PROTOCOL_ERROR);
        let of_stream = |fine: bool| if fine && stream != 0 { Ok(()) } else { Err(protocol) };
        let of_connection = || if stream == 0 { Ok(()) } else { Err(protocol) };
        Ok(match head.kind {
            kind::DATA => {
                of_stream(true)?;
                Self::Data {
                    content: unpadded(head, payload, 0)?,
                    ends: head.has(flag::END_STREAM),
                }
            }
            kind::HEADERS => {
                of_stream(true)?;
                let priority = if head.has(flag::PRIORITY) { 5 } else { 0 };
                Self::Headers {
                    block: unpadded(head, payload, priority)?,
                    ends: head.has(flag::END_STREAM),
                    whole: head.has(flag::END_HEADERS),
                }
            }
            kind::CONTINUATION => {
                of_stream(true)?;
                Self::Continuation { whole: head.has(flag::END_HEADERS) }
            }
            kind::PRIORITY => {
                of_stream(true)?;
                if length != 5 {
                    return Err(Stream(stream, Code::FRAME_SIZE_ERROR));
                }
                Self::Nothing
            }
            kind::RST_STREAM => {
                of_stream(true)?;
                if length != 4 {
                    return Err(size);
                }
                Self::Reset
            }
            kind::SETTINGS => {
                of_connection()?;
                match (head.has(flag::ACK), length) {
                    (true, 0) => Self::SettingsAck,
                    (false, length) if length.is_multiple_of(6) => Self::Settings,
                    _ => return Err(size),
                }
            }
            // Only servers push.
            kind::PUSH_PROMISE => return Err(protocol),
            kind::PING => {
                of_connection()?;
                let said = *payload.as_array().ok_or(size)?;
                if head.has(flag::ACK) { Self::Pong(said) } else { Self::Ping(said) }
            }
            kind::GOAWAY => {
                of_connection()?;
                if length < 8 {
                    return Err(size);
                }
                Self::GoAway
            }
            kind::WINDOW_UPDATE => {
                let by = u32::from_be_bytes(*payload.as_array().ok_or(size)?) & MOST_WINDOW;
                match (by, stream) {
                    (0, 0) => return Err(protocol),
                    (0, stream) => return Err(Stream(stream, Code::PROTOCOL_ERROR)),
                    _ => Self::Window(by),
                }
            }
            _ => Self::Nothing,
        })
    }
}

/// Where the payload stands without padding and without `before` bytes at its beginning.
fn unpadded(head: FrameHead, payload: &[u8], before: usize) -> Result<Range<usize>, Fault> {
    let (padding, begins) = match (head.has(flag::PADDED), payload.first()) {
        (false, _) => (0, before),
        (true, Some(padding)) => (usize::from(*padding), before + 1),
        (true, None) => return Err(Fault::Connection(Code::FRAME_SIZE_ERROR)),
    };
    if payload.len() < begins {
        return Err(Fault::Connection(Code::FRAME_SIZE_ERROR));
    }
    match payload.len().checked_sub(padding) {
        Some(ends) if begins <= ends => Ok(begins..ends),
        _ => Err(Fault::Connection(Code::PROTOCOL_ERROR)),
    }
}

/// A setting that matters to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Bytes that the table of whoever sends fields may have.
    Table(u32),
    /// Bytes that may be sent on a stream before its window is widened.
    InitialWindow(u32),
    /// The largest payload that the peer takes.
    MostPayload(usize),
}

/// The settings of one frame, in its order.
#[derive(Debug)]
pub struct Settings<'a>(std::slice::ChunksExact<'a, u8>);

impl<'a> Settings<'a> {
    /// Those in the payload of [`Frame::Settings`].
    pub fn of(payload: &'a [u8]) -> Self {
        Self(payload.chunks_exact(6))
    }
}

impl Iterator for Settings<'_> {
    type Item = Result<Setting, Code>;

    fn next(&mut self) -> Option<Self::Item> {
        for entry in self.0.by_ref() {
            let [a, b, c, d, e, f] = *entry.as_array()?;
            let value = u32::from_be_bytes([c, d, e, f]);
            match (u16::from_be_bytes([a, b]), value) {
                (1, _) => return Some(Ok(Setting::Table(value))),
                (2, 0..=1) => {}
                (2, _) => return Some(Err(Code::PROTOCOL_ERROR)),
                (4, 0..=MOST_WINDOW) => return Some(Ok(Setting::InitialWindow(value))),
                (4, _) => return Some(Err(Code::FLOW_CONTROL_ERROR)),
                (5, 0x4000..=0xff_ffff) => return Some(Ok(Setting::MostPayload(value as usize))),
                (5, _) => return Some(Err(Code::PROTOCOL_ERROR)),
                _ => {}
            }
        }
        None
    }
}

/// Appends the head of a frame with a payload of `length` bytes.
#[inline]
pub fn put_head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let [_, .., a, b, c] = (length as u64).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, d, e, f, g]);
}

/// Appends a `RST_STREAM`.
pub fn put_reset(out: &mut Vec<u8>, stream: u32, code: Code) {
    put_head(out, 4, kind::RST_STREAM, 0, stream);
    out.extend_from_slice(&code.0.to_be_bytes());
}

/// Appends a `WINDOW_UPDATE`; `by` is not 0.
pub fn put_window(out: &mut Vec<u8>, stream: u32, by: u32) {
    put_head(out, 4, kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&by.to_be_bytes());
}

/// Appends a `PING`, or the answer to one.
pub fn put_ping(out: &mut Vec<u8>, ack: bool, said: [u8; 8]) {
    put_head(out, 8, kind::PING, if ack { flag::ACK } else { 0 }, 0);
    out.extend_from_slice(&said);
}

/// Appends a `GOAWAY`: streams up to `last` are or were looked at.
pub fn put_goaway(out: &mut Vec<u8>, last: u32, code: Code) {
    put_head(out, 8, kind::GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
}

/// Appends a server's `SETTINGS`.
pub fn put_settings(out: &mut Vec<u8>, streams: u32, window: u32, header_bytes: u32) {
    let all = [(3_u16, streams), (4, window), (6, header_bytes)];
    put_head(out, 6 * all.len(), kind::SETTINGS, 0, 0);
    for (name, value) in all {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
