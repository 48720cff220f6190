//! Blocks of fields (HPACK, RFC 7541, 6), taken apart.

use bytes::Bytes;

use super::huffman;
use super::table::{Entry, Field, MOST_TABLE, Name, Table};

/// Room for decoded strings that a connection keeps.
const MOST_SCRATCH: usize = 4096;

/// The compression is out of step with the peer's: no block that comes can be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the compression of fields is out of step")]
pub struct CompressionFault;

/// Takes the fields of a block.
pub trait Sink {
    /// A field of `size` bytes (RFC 9113, 6.5.2: 32 more than its name and value) came: whether it is
    /// wanted.
    fn wants(&mut self, size: usize) -> bool;
    /// The field, if it is.
    fn take(&mut self, field: Field);
}

/// Reads the blocks of one peer, in their order.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    // What a string is decoded into.
    scratch: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// For the first block of a connection.
    pub fn new() -> Self {
        Self { table: Table::new(), scratch: Vec::new() }
    }

    /// Hands the fields of `block`, which is whole, to `sink`. Values may be slices of `block`.
    ///
    /// # Errors
    /// When the block is not one. The connection cannot go on then.
    pub fn decode(&mut self, block: &Bytes, sink: &mut impl Sink) -> Result<(), CompressionFault> {
        let decoded = self.read(block, sink);
        if self.scratch.capacity() > MOST_SCRATCH {
            self.scratch = Vec::new();
        }
        decoded
    }

    fn read(&mut self, block: &Bytes, sink: &mut impl Sink) -> Result<(), CompressionFault> {
        let mut reader = Reader { block, at: 0 };
        let mut resizable = true;
        while let Some(first) = reader.peek() {
            if first & 0xe0 == 0x20 {
                // Only before the first field, and to no more than was agreed (4.2, 6.3).
                let most = reader.number(5)?;
                if !resizable || most > MOST_TABLE {
                    return Err(CompressionFault);
                }
                self.table.resize(most);
                continue;
            }
            resizable = false;
            if first & 0x80 != 0 {
                let entry = self.table.get(reader.number(7)?).ok_or(CompressionFault)?;
                if sink.wants(entry.size) {
                    sink.take(entry.field.clone());
                }
            } else if first & 0xc0 == 0x40 {
                let entry = self.literal(&mut reader, 6, true)?;
                if sink.wants(entry.size) {
                    sink.take(entry.field.clone());
                }
                self.table.put(entry);
            } else {
                let entry = self.literal(&mut reader, 4, false)?;
                if sink.wants(entry.size) {
                    sink.take(entry.field);
                }
            }
        }
        Ok(())
    }

    /// A field whose value, and perhaps name, stands in the block. One that is `kept` has bytes of its
    /// own: the block is not kept for its sake.
    fn literal(
        &mut self,
        reader: &mut Reader<'_>,
        prefix: u8,
        kept: bool,
    ) -> Result<Entry, CompressionFault> {
        let index = reader.number(prefix)?;
        let (name, name_bytes) = if index == 0 {
            let name = reader.string(&mut self.scratch)?;
            let written = name.bytes(reader, &self.scratch);
            (Name::of(written), written.len())
        } else {
            let entry = self.table.get(index).ok_or(CompressionFault)?;
            (entry.field.name(), entry.name_bytes)
        };
        let value = reader.string(&mut self.scratch)?;
        let value = match value {
            Text::At(from, to) if !kept => reader.block.slice(from..to),
            value @ (Text::At(..) | Text::Decoded) => {
                Bytes::copy_from_slice(value.bytes(reader, &self.scratch))
            }
        };
        let value_bytes = value.len();
        Ok(Entry::new(Field::of(name, value), name_bytes, value_bytes))
    }
}

/// A string: in the block, or decoded.
enum Text {
    At(usize, usize),
    Decoded,
}

impl Text {
    fn bytes<'a>(&self, reader: &Reader<'a>, scratch: &'a [u8]) -> &'a [u8] {
        match self {
            Self::At(from, to) => reader.block.get(*from..*to).unwrap_or_default(),
            Self::Decoded => scratch,
        }
    }
}

struct Reader<'a> {
    block: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.block.get(self.at).copied()
    }

    /// A number whose first `prefix` bits stand in the next byte (5.1). More than any length is a fault.
    fn number(&mut self, prefix: u8) -> Result<usize, CompressionFault> {
        let most = (1_usize << prefix) - 1;
        let first = usize::from(self.peek().ok_or(CompressionFault)?) & most;
        self.at += 1;
        if first < most {
            return Ok(first);
        }
        let mut number = most;
        for shift in [0, 7, 14, 21] {
            let byte = usize::from(self.peek().ok_or(CompressionFault)?);
            self.at += 1;
            number += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(CompressionFault)
    }

    /// A string (5.2). One that is coded is decoded into `scratch`.
    fn string(&mut self, scratch: &mut Vec<u8>) -> Result<Text, CompressionFault> {
        let coded = self.peek().ok_or(CompressionFault)? & 0x80 != 0;
        let length = self.number(7)?;
        let (from, to) = (self.at, self.at + length);
        let bytes = self.block.get(from..to).ok_or(CompressionFault)?;
        self.at = to;
        if !coded {
            return Ok(Text::At(from, to));
        }
        scratch.clear();
        huffman::decode(bytes, scratch).ok_or(CompressionFault)?;
        Ok(Text::Decoded)
    }
}

#[cfg(test)]
mod tests;
