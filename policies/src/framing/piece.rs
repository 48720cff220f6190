//! What a reader of a connection is told: what the next bytes are, and where the parts of a head stand
//! in them, found while it is checked so that nobody has to look for them again.

use std::ops::Range;

use super::octets;

/// What the next bytes of a connection are; see [`RequestFraming::next`](super::RequestFraming::next)
/// and [`ResponseFraming::next`](super::ResponseFraming::next).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// More must be read first; or nothing may come now, and nothing did.
    Nothing,
    /// The whole head of an informational response: so many bytes.
    Informational(usize),
    /// The whole head, its closing empty line included.
    Head(usize),
    /// Content.
    Data(usize),
    /// Lines around chunks; nothing for the reader.
    Frame(usize),
    /// The whole trailer section, its closing empty line included.
    Trailers(usize),
}

/// What a client wants to be done with its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// It speaks HTTP/1.1, not HTTP/1.0.
    pub http11: bool,
    /// Another request may follow this one.
    pub keep: bool,
    /// It waits for a `100 Continue` before it sends its content.
    pub waits: bool,
    /// It takes trailers.
    pub trailers: bool,
}

/// The parts of a request's head, or the fields of its trailers: places that count from the first byte
/// of the piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The method.
    pub method: Range<usize>,
    /// The target.
    pub target: Range<usize>,
    /// The fields, in the order in which they came.
    pub fields: Vec<FieldMark>,
}

impl Marks {
    /// Forgets everything but its room.
    pub fn clear(&mut self) {
        self.method = 0..0;
        self.target = 0..0;
        self.fields.clear();
    }
}

/// One field line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldMark {
    /// Its name: a token of at least one byte.
    pub name: Range<usize>,
    /// Its value without the whitespace around it.
    pub value: Range<usize>,
}

impl FieldMark {
    /// Of `line`, which begins at `start` and whose name has `name` bytes, followed by a colon.
    #[inline]
    pub(super) fn of(start: usize, line: &[u8], name: usize) -> Self {
        let after = octets::trim_start(line.get(name + 1..).unwrap_or_default());
        let from = start + line.len() - after.len();
        Self { name: start..start + name, value: from..from + octets::trim(after).len() }
    }
}
