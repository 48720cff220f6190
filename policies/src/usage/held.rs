//! Bytes kept until they can be read as a whole, or only their end when there are too many.

/// So many bytes are kept whole.
pub(super) const MAX_WHOLE: usize = 256 * 1024;

/// Of more, so many are kept from the end.
pub(super) const MAX_TAIL: usize = 8 * 1024;

/// And so many from the beginning.
const MAX_HEAD: usize = 256;

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

    /// All bytes, if they are all here.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        (!self.cut).then_some(&self.bytes)
    }

    /// The first bytes of what was cut.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// The last bytes, at most [`MAX_TAIL`].
    pub(super) fn tail(&self) -> &[u8] {
        &self.bytes[self.bytes.len().saturating_sub(MAX_TAIL)..]
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
