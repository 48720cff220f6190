//! One row as bytes of a segment: magic, length, check, payload.

use std::io;

use super::written::Written;
use crate::recorder::row::Row;

/// Beginning of every record. Payloads cannot contain a record: the length that follows here has a
/// zero byte at its end, and JSON has none, whatever a client put into its texts.
const MAGIC: [u8; 4] = *b"WSP1";

/// Magic, length, check.
const HEAD: usize = 4 + 4 + 16;

/// Longest payload taken seriously; texts in a row are cut long before.
const PAYLOAD_BYTES: usize = 1 << 20;

/// Payloads in the bytes of a segment; `None` once for each stretch that is damaged. A record that is
/// cut off at the end is not damaged: it was never whole.
pub(super) struct Records<'a> {
    bytes: &'a [u8],
    /// After the last record or damaged stretch.
    pub(super) end: usize,
}

impl<'a> Records<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, end: 0 }
    }

    /// The record at `at`, if it is whole and fits its check.
    fn at(&self, at: usize) -> Option<&'a [u8]> {
        let record = self.bytes.get(at..)?;
        let (head, rest) = record.split_at_checked(HEAD)?;
        let length = head.strip_prefix(&MAGIC)?.first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let payload = rest.get(..length)?;
        (length <= PAYLOAD_BYTES && check(payload) == head[8..]).then_some(payload)
    }

    /// Whether what is left looks like the beginning of a record that was never finished.
    fn torn(&self) -> bool {
        let rest = &self.bytes[self.end..];
        let Some(after_magic) = rest.strip_prefix(&MAGIC) else {
            // A file may also have grown before its content arrived: zeros.
            return MAGIC.starts_with(rest) || rest.iter().all(|&byte| byte == 0);
        };
        let Some(length) = after_magic.first_chunk() else { return true };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        length <= PAYLOAD_BYTES && rest.len() < HEAD + length
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(payload) = self.at(self.end) {
            self.end += HEAD + payload.len();
            return Some(Some(payload));
        }
        if self.end == self.bytes.len() {
            return None;
        }
        // Something is wrong here. Is there a whole record after it?
        let later = (self.end + 1..self.bytes.len())
            .find(|&at| self.bytes[at..].starts_with(&MAGIC) && self.at(at).is_some());
        match later {
            Some(at) => {
                self.end = at;
                Some(None)
            }
            None if self.torn() => None,
            None => {
                self.end = self.bytes.len();
                Some(None)
            }
        }
    }
}

fn check(payload: &[u8]) -> [u8; 16] {
    let mut check = [0; 16];
    check.copy_from_slice(&blake3::hash(payload).as_bytes()[..16]);
    check
}

/// Appends one record.
pub(super) fn encode(boot: [u8; 16], row: &Row, to: &mut Vec<u8>) -> io::Result<()> {
    let start = to.len();
    to.extend_from_slice(&[0; HEAD]);
    to.extend_from_slice(&boot);
    serde_json::to_writer(&mut *to, &Written::of(row))?;
    let (head, payload) = to[start..].split_at_mut(HEAD);
    let length = u32::try_from(payload.len())
        .ok()
        .filter(|_| payload.len() <= PAYLOAD_BYTES)
        .ok_or_else(|| io::Error::other("a row is too large for the spool"))?;
    head[..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&length.to_le_bytes());
    head[8..].copy_from_slice(&check(payload));
    Ok(())
}

/// The boot and the row of a payload; `None` if it is not one of ours.
pub(super) fn decode(payload: &[u8]) -> Option<([u8; 16], Box<Row>)> {
    let (boot, json) = payload.split_first_chunk()?;
    let written: Written<'_> = serde_json::from_slice(json).ok()?;
    Some((*boot, Box::new(written.read()?)))
}
