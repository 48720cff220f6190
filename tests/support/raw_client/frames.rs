//! HTTP/2 in frames, for clients that break the protocol: nothing here checks anything.
//!
//! Fields are literals without indexing and without Huffman coding, so that a name or a value may
//! hold any byte.

/// What a client sends before its first frame.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

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
    pub const NONE: u8 = 0x0;
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// The names of settings.
pub mod setting {
    #![expect(missing_docs, reason = "the names are those of RFC 9113, section 6.5.2")]
    pub const HEADER_TABLE_SIZE: u16 = 0x1;
    pub const ENABLE_PUSH: u16 = 0x2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub const MAX_FRAME_SIZE: u16 = 0x5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;
}

/// The codes of RST_STREAM and GOAWAY.
pub mod code {
    #![expect(missing_docs, reason = "the names are those of RFC 9113, section 7")]
    pub const NO_ERROR: u32 = 0x0;
    pub const PROTOCOL_ERROR: u32 = 0x1;
    pub const INTERNAL_ERROR: u32 = 0x2;
    pub const FLOW_CONTROL_ERROR: u32 = 0x3;
    pub const STREAM_CLOSED: u32 = 0x5;
    pub const FRAME_SIZE_ERROR: u32 = 0x6;
    pub const REFUSED_STREAM: u32 = 0x7;
    pub const CANCEL: u32 = 0x8;
    pub const COMPRESSION_ERROR: u32 = 0x9;
    pub const ENHANCE_YOUR_CALM: u32 = 0xb;
}

/// One frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// One of [`kind`].
    pub kind: u8,
    /// Of [`flag`].
    pub flags: u8,
    /// 0 for the connection.
    pub stream: u32,
    /// What it carries, padding and all.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether it ends its stream.
    #[must_use]
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.flags & flag::END_STREAM != 0
    }

    /// The code of an RST_STREAM or GOAWAY.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        let at = match self.kind {
            kind::RST_STREAM => 0,
            kind::GOAWAY => 4,
            _ => return None,
        };
        self.payload.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// The `:status` of a HEADERS frame, if it stands first and does not hide in the dynamic table
    /// (which [`RawClient::start_h2`](super::RawClient::start_h2) turns off).
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        if self.kind != kind::HEADERS {
            return None;
        }
        let mut block = &self.payload[..];
        // Changes of the table's size come first; ours is 0, which fits one byte.
        while block.first()? & 0xe0 == 0x20 {
            block = &block[1..];
        }
        match *block.first()? {
            indexed @ 0x88..=0x8e => {
                Some([200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)])
            }
            // A literal whose name is entry 8 to 14 of the static table, ":status".
            0x08..=0x0e | 0x18..=0x1e | 0x48..=0x4e => {
                let (first, rest) = (block.get(1)?, &block[2..]);
                let value = rest.get(..usize::from(first & 0x7f))?;
                let text = if first & 0x80 == 0 {
                    String::from_utf8_lossy(value).into_owned()
                } else {
                    huffman_digits(value)
                };
                text.parse().ok()
            }
            _ => None,
        }
    }
}

/// One frame, whatever its payload. The stream's reserved bit is sent if it is given.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// SETTINGS with these values.
#[must_use]
pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in values {
        payload.extend(name.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(kind::SETTINGS, flag::NONE, 0, &payload)
}

/// The acknowledgement of the other side's SETTINGS.
#[must_use]
pub fn settings_ack() -> Vec<u8> {
    frame(kind::SETTINGS, flag::ACK, 0, &[])
}

/// A whole field block in one HEADERS frame.
#[must_use]
pub fn headers<N: AsRef<[u8]>, V: AsRef<[u8]>>(
    stream: u32,
    fields: &[(N, V)],
    end_stream: bool,
) -> Vec<u8> {
    let end_stream = if end_stream { flag::END_STREAM } else { flag::NONE };
    frame(kind::HEADERS, flag::END_HEADERS | end_stream, stream, &block(fields))
}

/// A GET without a body, with the pseudo-fields that it takes.
#[must_use]
pub fn get(stream: u32, authority: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    headers(stream, &request_fields("GET", authority, path, more), true)
}

/// The head of a POST, to be followed by [`data`].
#[must_use]
pub fn post(stream: u32, authority: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    headers(stream, &request_fields("POST", authority, path, more), false)
}

/// The pseudo-fields of a request over TLS and then `more`.
#[must_use]
pub fn request_fields(
    method: &str,
    authority: &str,
    path: &str,
    more: &[(&str, &str)],
) -> Vec<(String, String)> {
    let pseudo =
        [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)];
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pseudo.iter().chain(more).map(owned).collect()
}

/// A field block: each field a literal that is not indexed and not compressed.
#[must_use]
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x00);
        literal(name.as_ref(), &mut block);
        literal(value.as_ref(), &mut block);
    }
    block
}

/// More of a field block.
#[must_use]
pub fn continuation(stream: u32, block: &[u8], end_headers: bool) -> Vec<u8> {
    let flags = if end_headers { flag::END_HEADERS } else { flag::NONE };
    frame(kind::CONTINUATION, flags, stream, block)
}

/// Body bytes.
#[must_use]
pub fn data(stream: u32, bytes: &[u8], end_stream: bool) -> Vec<u8> {
    let flags = if end_stream { flag::END_STREAM } else { flag::NONE };
    frame(kind::DATA, flags, stream, bytes)
}

/// Gives up a stream, with one of [`code`].
#[must_use]
pub fn rst_stream(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, flag::NONE, stream, &code.to_be_bytes())
}

/// A ping that wants an answer.
#[must_use]
pub fn ping(opaque: [u8; 8]) -> Vec<u8> {
    frame(kind::PING, flag::NONE, 0, &opaque)
}

/// Allows so many bytes more; stream 0 is the connection.
#[must_use]
pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, flag::NONE, stream, &increment.to_be_bytes())
}

/// The priority of a stream.
#[must_use]
pub fn priority(stream: u32, depends_on: u32, weight: u8) -> Vec<u8> {
    let mut payload = depends_on.to_be_bytes().to_vec();
    payload.push(weight);
    frame(kind::PRIORITY, flag::NONE, stream, &payload)
}

/// Announces the end of the connection.
#[must_use]
pub fn goaway(last_stream: u32, code: u32) -> Vec<u8> {
    let payload = [last_stream.to_be_bytes(), code.to_be_bytes()].concat();
    frame(kind::GOAWAY, flag::NONE, 0, &payload)
}

/// The first whole frame in `bytes`, and how many bytes it takes.
pub(crate) fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let head = bytes.get(..9)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let payload = bytes.get(9..9 + length)?.to_vec();
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
    Some((Frame { kind: head[3], flags: head[4], stream, payload }, 9 + length))
}

fn literal(bytes: &[u8], block: &mut Vec<u8>) {
    // An integer with a 7-bit prefix, RFC 7541 section 5.1; the top bit says "no Huffman".
    let mut length = bytes.len();
    if length < 0x7f {
        block.push(u8::try_from(length).unwrap());
    } else {
        block.push(0x7f);
        length -= 0x7f;
        while length >= 0x80 {
            block.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        block.push(u8::try_from(length).unwrap());
    }
    block.extend(bytes);
}

/// Decodes digits: 0 to 2 have the codes 00000 to 00010, 3 to 9 the codes 011001 to 011111.
fn huffman_digits(bytes: &[u8]) -> String {
    let bits: Vec<u8> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0, |sum, bit| sum << 1 | u32::from(*bit));
    let mut digits = String::new();
    let mut rest = &bits[..];
    while rest.len() >= 5 {
        let (digit, used) = match number(&rest[..5]) {
            short @ 0..=2 => (short, 5),
            _ if rest.len() < 6 => break,
            _ => match number(&rest[..6]) {
                long @ 0b01_1001..=0b01_1111 => (long - 0b01_1001 + 3, 6),
                _ => break,
            },
        };
        digits.extend(char::from_digit(digit, 10));
        rest = &rest[used..];
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_all_its_forms() {
        let check = |payload: &[u8], status: Option<u16>| {
            let bytes = frame(kind::HEADERS, flag::END_HEADERS, 1, payload);
            let (frame, length) = parse(&bytes).unwrap();
            assert_eq!((frame.status(), length), (status, bytes.len()), "{payload:02x?}");
        };
        check(&[0x88], Some(200));
        check(&[0x20, 0x8c], Some(400));
        check(&[0x08, 0x03, b'4', b'3', b'1'], Some(431));
        // RFC 7541, C.6.1: "302" in Huffman code.
        check(&[0x48, 0x82, 0x64, 0x02], Some(302));
        // RFC 7541, C.6.2: "307".
        check(&[0x48, 0x83, 0x64, 0x0e, 0xff], Some(307));
        check(&[0xbe], None);
    }

    #[test]
    fn a_long_literal_has_a_long_length() {
        let mut block = Vec::new();
        literal(&[b'x'; 1337], &mut block);
        // 1337 - 127 = 1210 = 9 * 128 + 58.
        assert_eq!(block[..3], [0x7f, 58 | 0x80, 9]);
        assert_eq!(block.len(), 3 + 1337);
    }
}
