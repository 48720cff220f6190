//! Evidence as bytes for the store.

use policies::evidence::Evidence;

use super::known::Kept;

/// The evidence of one experiment, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceRow {
    /// Experiment.
    pub experiment: String,
    /// When it was taken, microseconds since 1970.
    pub at: i64,
    /// Bytes that only this program reads.
    pub bytes: Vec<u8>,
}

const VERSION: u8 = 1;

/// A version, the length of what is kept beside, that as JSON, and the evidence.
pub(super) fn write(kept: &Kept, evidence: &Evidence) -> Vec<u8> {
    // Maps with numbers for keys and finite numbers: there is nothing that JSON cannot say.
    let beside = serde_json::to_vec(kept).unwrap_or_default();
    let mut bytes = vec![VERSION];
    bytes.extend((beside.len() as u64).to_le_bytes());
    bytes.extend(beside);
    bytes.extend(evidence.to_bytes());
    bytes
}

/// Reads what [`write`] wrote; `None` if it is something else.
pub(super) fn read(bytes: &[u8]) -> Option<(Kept, Evidence)> {
    let rest = bytes.strip_prefix(&[VERSION])?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (beside, evidence) = rest.split_at_checked(length)?;
    Some((serde_json::from_slice(beside).ok()?, Evidence::from_bytes(evidence).ok()?))
}
