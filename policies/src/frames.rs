//! The frames of one direction of an HTTP/2 connection as they pass, by their heads alone.
//!
//! The HTTP/2 library frames and judges by itself. What it does not tell is how often a client reset
//! a stream, and it cannot be made to end a connection for that: whoever wants to do so has to see
//! the frames, and has to know when a frame of its own may follow.

/// Bytes of a frame's head (RFC 9113, 4.1).
const HEAD: usize = 9;
/// Bytes that a client sends before its first frame (RFC 9113, 3.4).
const PREFACE: usize = 24;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

/// `ENHANCE_YOUR_CALM` (RFC 9113, 7): the peer causes too much work.
pub const ENHANCE_YOUR_CALM: u32 = 0xb;

/// One direction of a connection.
#[derive(Debug)]
pub struct Frames {
    /// Bytes that are still to pass before the next head: a payload, or the preface.
    skip: usize,
    head: [u8; HEAD],
    /// How many bytes of `head` have passed.
    known: usize,
    last_stream: u32,
}

impl Frames {
    /// What a client sends: a preface, then frames.
    pub fn from_client() -> Self {
        Self { skip: PREFACE, head: [0; HEAD], known: 0, last_stream: 0 }
    }

    /// What a server sends: frames.
    pub fn from_server() -> Self {
        Self { skip: 0, ..Self::from_client() }
    }

    /// Takes note of bytes that pass: how many `RST_STREAM` heads ended among them.
    pub fn pass(&mut self, mut bytes: &[u8]) -> u32 {
        let mut resets = 0;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = if self.skip > 0 { 0 } else { (HEAD - self.known).min(bytes.len()) };
            self.head[self.known..self.known + taken].copy_from_slice(&bytes[..taken]);
            self.known += taken;
            bytes = &bytes[taken..];
            if self.known == HEAD {
                self.known = 0;
                let [a, b, c, kind, _, d, e, f, g] = self.head;
                self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
                let stream = u32::from_be_bytes([d, e, f, g]) & (u32::MAX >> 1);
                self.last_stream = self.last_stream.max(stream);
                resets += u32::from(kind == RST_STREAM);
            }
        }
        resets
    }

    /// Whether the last frame is whole, so that another may follow.
    pub fn at_boundary(&self) -> bool {
        self.skip == 0 && self.known == 0
    }

    /// The highest stream that was named.
    pub fn last_stream(&self) -> u32 {
        self.last_stream
    }
}

/// A whole `GOAWAY` frame.
pub fn goaway(last_stream: u32, code: u32) -> [u8; HEAD + 8] {
    let mut frame = [0; HEAD + 8];
    frame[2] = 8;
    frame[3] = GOAWAY;
    frame[HEAD..HEAD + 4].copy_from_slice(&last_stream.to_be_bytes());
    frame[HEAD + 4..].copy_from_slice(&code.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, 0xff]);
        // The reserved bit says nothing.
        bytes.extend((stream | 1 << 31).to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    proptest! {
        /// However the bytes are cut, and whatever the payloads look like.
        #[test]
        fn resets_are_counted_however_the_bytes_are_cut(
            frames in prop::collection::vec(
                (0_u8..10, 1_u32..1000, prop::collection::vec(0_u8..5, 0..40)), 0..20),
            cuts in prop::collection::vec(1_usize..30, 1..40),
        ) {
            let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            frames.iter().for_each(|(kind, stream, payload)| {
                bytes.extend(frame(*kind, *stream, payload));
            });
            let mut seen = Frames::from_client();
            let mut resets = 0;
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                resets += seen.pass(now);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            let expected = frames.iter().filter(|(kind, ..)| *kind == RST_STREAM).count();
            prop_assert_eq!(resets as usize, expected);
            prop_assert!(seen.at_boundary());
            let last = frames.iter().map(|(_, stream, _)| *stream).max().unwrap_or(0);
            prop_assert_eq!(seen.last_stream(), last);
        }
    }

    #[test]
    fn a_frame_may_follow_only_a_whole_one() {
        let bytes = frame(0, 1, b"payload");
        let mut seen = Frames::from_server();
        assert!(seen.at_boundary());
        for (at, byte) in bytes.iter().enumerate() {
            seen.pass(&[*byte]);
            assert_eq!(seen.at_boundary(), at + 1 == bytes.len(), "after byte {at}");
        }
    }

    #[test]
    fn a_goaway_is_one_frame() {
        let bytes = goaway(7, ENHANCE_YOUR_CALM);
        assert_eq!(bytes, [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 11]);
    }
}
