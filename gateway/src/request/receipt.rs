//! The receipt of an assignment: signed, opaque, enough to credit feedback without a lookup.
//!
//! Layout before base64url: version 2, request id (16), milliseconds since 1970 (8), unit hash (8),
//! revision (8), whether the exposure counts (1), then key id, experiment and variant with a length byte each, then the first 16 bytes
//! of a BLAKE3 keyed hash over all of that.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::BufMut;
use http::HeaderMap;
use routing::VariantId;

use crate::request::{Cx, Record};
use crate::snapshot::names;

const VERSION: u8 = 2;
const TAG: usize = 16;
/// Names are at most 64 bytes, so that a receipt always fits.
const MOST: usize = 1 + 16 + 8 + 8 + 8 + 1 + 3 * 65 + TAG;
const MOST_TEXT: usize = MOST.div_ceil(3) * 4;

/// What a receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Request.
    pub request_id: [u8; 16],
    /// When, milliseconds since 1970.
    pub at_millis: u64,
    /// Keyed hash of the unit.
    pub unit_hash: u64,
    /// Revision of the experiment.
    pub revision: u64,
    /// Whether chance dealt the variant, so that the exposure is evidence: not a target, not by force.
    pub eligible: bool,
    /// Key that made the request.
    pub key_id: String,
    /// Experiment.
    pub experiment: String,
    /// Assigned variant.
    pub variant: String,
}

impl Receipt {
    /// Signs it.
    pub fn sign(&self, key: &[u8; 32]) -> String {
        let mut plain = Vec::with_capacity(MOST);
        plain.push(VERSION);
        plain.extend_from_slice(&self.request_id);
        plain.extend_from_slice(&self.at_millis.to_be_bytes());
        plain.extend_from_slice(&self.unit_hash.to_be_bytes());
        plain.extend_from_slice(&self.revision.to_be_bytes());
        plain.push(u8::from(self.eligible));
        for text in [&self.key_id, &self.experiment, &self.variant] {
            put(&mut plain, text);
        }
        let tag = blake3::keyed_hash(key, &plain);
        plain.extend_from_slice(&tag.as_bytes()[..TAG]);
        URL_SAFE_NO_PAD.encode(plain)
    }

    /// Reads a receipt that this key signed; `None` for anything else.
    pub fn verify(text: &str, key: &[u8; 32]) -> Option<Self> {
        let mut room = Room::default();
        let read = Read::of(text, key, &mut room)?;
        Some(Self {
            request_id: read.request_id,
            at_millis: read.at_millis,
            unit_hash: read.unit_hash,
            revision: read.revision,
            eligible: read.eligible,
            key_id: read.key_id.to_owned(),
            experiment: read.experiment.to_owned(),
            variant: read.variant.to_owned(),
        })
    }
}

/// Where a receipt is read into.
#[derive(Debug)]
pub struct Room([u8; MOST]);

impl Default for Room {
    fn default() -> Self {
        Self([0; MOST])
    }
}

/// A receipt that was vouched for, without an allocation; members as in [`Receipt`].
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "they stand at `Receipt`")]
pub struct Read<'a> {
    pub request_id: [u8; 16],
    pub at_millis: u64,
    pub unit_hash: u64,
    pub revision: u64,
    pub eligible: bool,
    pub key_id: &'a str,
    pub experiment: &'a str,
    pub variant: &'a str,
}

impl<'a> Read<'a> {
    /// Reads a receipt that this key signed; `None` for anything else, whatever is wrong with it. How
    /// long the comparison takes does not depend on where it differs.
    pub fn of(text: &str, key: &[u8; 32], room: &'a mut Room) -> Option<Self> {
        if text.len() > MOST_TEXT {
            return None;
        }
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut room.0).ok()?;
        let bytes = room.0.get(..length)?;
        let (plain, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG)?)?;
        let expected = blake3::keyed_hash(key, plain);
        if !bool::from(subtle::ConstantTimeEq::ct_eq(tag, &expected.as_bytes()[..TAG])) {
            return None;
        }
        let mut rest = plain.strip_prefix(&[VERSION])?;
        let request_id = take::<16>(&mut rest)?;
        let at_millis = u64::from_be_bytes(take::<8>(&mut rest)?);
        let unit_hash = u64::from_be_bytes(take::<8>(&mut rest)?);
        let revision = u64::from_be_bytes(take::<8>(&mut rest)?);
        let [eligible] = take::<1>(&mut rest)?;
        let mut text = || -> Option<&'a str> {
            let (&length, tail) = rest.split_first()?;
            let (text, tail) = tail.split_at_checked(usize::from(length))?;
            rest = tail;
            std::str::from_utf8(text).ok()
        };
        let (key_id, experiment, variant) = (text()?, text()?, text()?);
        rest.is_empty().then_some(Self {
            request_id,
            at_millis,
            unit_hash,
            revision,
            eligible: eligible == 1,
            key_id,
            experiment,
            variant,
        })
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    let bytes = &text.as_bytes()[..text.len().min(64)];
    out.push(u8::try_from(bytes.len()).unwrap_or(64));
    out.extend_from_slice(bytes);
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

/// Adds the receipt, and variant and experiment for keys that may see them.
pub fn add(cx: &Cx, headers: &mut HeaderMap, record: &mut Record, place: (usize, VariantId)) {
    let (experiment, variant) = place;
    let Some((route, inspect)) = record.route_and_inspect() else { return };
    let plan = &cx.snapshot.routes[route].plans[experiment];
    let variant = &plan.variants[usize::from(variant.0)];
    let row = record.row();
    // On the stack: this is done for every assigned request.
    let mut plain = [0u8; MOST];
    let mut at = 0;
    let mut write = |bytes: &[u8]| {
        plain[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    write(&[VERSION]);
    write(&row.request_id);
    write(&(row.started_unix_nanos / 1_000_000).to_be_bytes());
    write(&row.unit_hash.to_be_bytes());
    write(&plan.revision.to_be_bytes());
    write(&[u8::from(row.eligible)]);
    for text in [&*row.key_id, plan.name, variant.name] {
        let bytes = &text.as_bytes()[..text.len().min(64)];
        write(&[u8::try_from(bytes.len()).unwrap_or(64)]);
        write(bytes);
    }
    let signed = at;
    let tag = blake3::keyed_hash(&cx.snapshot.receipt_key, &plain[..signed]);
    plain[signed..signed + TAG].copy_from_slice(&tag.as_bytes()[..TAG]);
    let mut text = [0u8; MOST_TEXT];
    if let Ok(length) = URL_SAFE_NO_PAD.encode_slice(&plain[..signed + TAG], &mut text)
        && let Some(value) = cx.worker.header(|out| out.put_slice(&text[..length]))
    {
        headers.insert(&names::RECEIPT, value);
    }
    if inspect {
        headers.insert(&names::VARIANT, variant.label.clone());
        headers.insert(&names::EXPERIMENT, plan.label.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> Receipt {
        Receipt {
            request_id: [7; 16],
            at_millis: 1_763_000_000_000,
            unit_hash: 42,
            revision: 3,
            eligible: true,
            key_id: "k7Qm2xPd".into(),
            experiment: "int8".into(),
            variant: "canary".into(),
        }
    }

    #[test]
    fn what_was_signed_is_read_back_and_nothing_else_is() {
        let key = [1; 32];
        let text = receipt().sign(&key);
        assert_eq!(Receipt::verify(&text, &key), Some(receipt()));
        assert_eq!(Receipt::verify(&text, &[2; 32]), None, "another installation's");
        for at in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            // The last character of base64 can carry bits that mean nothing.
            assert!(at == text.len() - 1 || Receipt::verify(&forged, &key).is_none(), "{at}");
        }
        let longest = "x".repeat(64);
        let (key_id, experiment) = (longest.clone(), longest.clone());
        let longest =
            Receipt { key_id, experiment, variant: longest, eligible: false, ..receipt() };
        assert_eq!(Receipt::verify(&longest.sign(&key), &key), Some(longest));
        assert_eq!(Receipt::verify(&"A".repeat(MOST_TEXT), &key), None);
        assert_eq!(Receipt::verify(&"A".repeat(100_000), &key), None);
        assert_eq!(Receipt::verify("", &key), None);
        assert_eq!(Receipt::verify("not base64!", &key), None);
    }
}
