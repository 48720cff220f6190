//! Bytes kept until they can be read as a whole, or only their end when there are too many.

/// So many bytes are kept whole.
pub(super) const MAX_WHOLE: usize = 256 * 1024;

/// Of more, so many are kept from the end.
pub(super) const MAX_TAIL: usize = 8 * 1024;

/// And so many from the beginning.
const MAX_HEAD: usize = 256;

/// Data that came together: all of it, or its two ends when there was too much.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Data<'a> {
    Whole(&'a [u8]),
    /// The first [`MAX_HEAD`] bytes, and the last, at most [`MAX_TAIL`].
    Ends {
        head: &'a [u8],
        tail: &'a [u8],
    },
}

/// A buffer that never holds more than [`MAX_WHOLE`] bytes.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// All but the end is lost, and the beginning stands in `head`.
    cut: bool,
    head: Vec<u8>,
}

impl Held {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        if !self.cut && self.bytes.len() + chunk.len() <= MAX_WHOLE {
            self.bytes.extend_from_slice(chunk);
            return;
        }
        if !self.cut {
            self.cut = true;
            self.head.extend(self.bytes.iter().chain(chunk).take(MAX_HEAD));
            let lost = self.bytes.len().saturating_sub(MAX_TAIL);
            self.bytes.drain(..lost);
            self.bytes.shrink_to(2 * MAX_TAIL);
        }
        let chunk = &chunk[chunk.len().saturating_sub(MAX_TAIL)..];
        // Room for two tails, so that bytes are moved once in a tail's length, not with each chunk.
        if self.bytes.len() + chunk.len() > 2 * MAX_TAIL {
            let lost = self.bytes.len().saturating_sub(MAX_TAIL);
            self.bytes.drain(..lost);
        }
        self.bytes.extend_from_slice(chunk);
    }

    /// What is held.
    pub(super) fn data(&self) -> Data<'_> {
        if self.cut {
            let tail = &self.bytes[self.bytes.len().saturating_sub(MAX_TAIL)..];
            Data::Ends { head: &self.head, tail }
        } else {
            Data::Whole(&self.bytes)
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Empties it; the memory is kept for what comes next.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.head.clear();
        self.cut = false;
    }
}
