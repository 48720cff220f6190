//! The bytes after a head: how many belong to the message.

use super::fields::Fields;
use super::line::{Line, sharpen};
use super::piece::FieldMark;
use super::{Fault, octets};

/// Most hexadecimal digits of a chunk size: all that a `u64` holds.
const SIZE_DIGITS: usize = 16;

/// Most bytes between a chunk size and its line end.
const EXTENSION_BYTES: usize = 256;

/// Most bytes of the line before a chunk, its line end included.
const SIZE_LINE_BYTES: usize = SIZE_DIGITS + EXTENSION_BYTES + 2;

/// Where in a body the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// With a Content-Length, of which so much is left; never zero.
    Fixed(u64),
    ChunkSize,
    /// In a chunk, of which so much is left; never zero.
    ChunkData(u64),
    /// At the CRLF after the data of a chunk.
    ChunkEnd,
    Trailers,
    UntilClose,
    Ended,
}

impl Body {
    /// The body that `fields` announce, if they announce one.
    pub(super) fn announced(fields: &Fields) -> Option<Self> {
        match fields.content_length {
            _ if fields.chunked => Some(Self::ChunkSize),
            Some(0) => Some(Self::Ended),
            Some(length) => Some(Self::Fixed(length)),
            None => None,
        }
    }

    /// How many bytes at the beginning may be passed on. At least one, unless more must be read
    /// first or the body has ended; not always as many as possible.
    ///
    /// A line of framing passes whole or not at all, and so does the trailer section.
    pub(super) fn step(
        &mut self,
        bytes: &[u8],
        line: &mut Line,
        fields: &mut Fields,
        marks: Option<&mut Vec<FieldMark>>,
    ) -> Result<usize, Fault> {
        match *self {
            Self::Fixed(left) => {
                let (count, left) = take(bytes, left);
                *self = if left == 0 { Self::Ended } else { Self::Fixed(left) };
                Ok(count)
            }
            Self::ChunkSize => {
                let Some(content) = size_line(bytes, line)? else { return Ok(0) };
                let size = chunk_size(content).map_err(|fault| sharpen(content, fault))?;
                let count = line.start();
                *line = Line::default();
                if size == 0 {
                    fields.begin_trailers();
                    if let Some(marks) = marks {
                        marks.clear();
                    }
                    *self = Self::Trailers;
                } else {
                    *self = Self::ChunkData(size);
                }
                Ok(count)
            }
            Self::ChunkData(left) => {
                let (count, left) = take(bytes, left);
                *self = if left == 0 { Self::ChunkEnd } else { Self::ChunkData(left) };
                Ok(count)
            }
            Self::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    *self = Self::ChunkSize;
                    Ok(2)
                }
                [] | [b'\r'] => Ok(0),
                _ => Err(Fault::ChunkEnd),
            },
            Self::Trailers => {
                if !fields.read(line, bytes, marks)? {
                    return Ok(0);
                }
                *self = Self::Ended;
                Ok(line.start())
            }
            Self::UntilClose => Ok(bytes.len()),
            Self::Ended => Ok(0),
        }
    }
}

/// How many of `bytes` belong to something of which `left` is left, and what is left after them.
fn take(bytes: &[u8], left: u64) -> (usize, u64) {
    let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (count, left - count as u64)
}

fn size_line<'a>(bytes: &'a [u8], line: &mut Line) -> Result<Option<&'a [u8]>, Fault> {
    line.next(bytes, SIZE_LINE_BYTES, Fault::ChunkExtension).map_err(|fault| {
        // Too long either way; what is wrong with the first bytes says which part is.
        let seen = bytes.get(..SIZE_LINE_BYTES).unwrap_or_default();
        match (fault, chunk_size(seen)) {
            (Fault::ChunkExtension, Err(better)) => better,
            (fault, _) => fault,
        }
    })
}

/// The size in a line such as `1f` or `1f;name=value`.
fn chunk_size(line: &[u8]) -> Result<u64, Fault> {
    let mut size = 0;
    let mut digits = 0;
    while let Some(digit) = line.get(digits).copied().and_then(hex) {
        if digits == SIZE_DIGITS {
            return Err(Fault::ChunkSize);
        }
        size = size << 4 | digit;
        digits += 1;
    }
    let rest = line.get(digits..).unwrap_or_default();
    if digits == 0 || !rest.is_empty() && octets::trim(rest).first() != Some(&b';') {
        return Err(Fault::ChunkSize);
    }
    if rest.len() > EXTENSION_BYTES {
        return Err(Fault::ChunkExtension);
    }
    if !octets::is_text(rest) {
        return Err(Fault::ControlByte);
    }
    Ok(size)
}

fn hex(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}
