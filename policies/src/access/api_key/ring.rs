//! The keys that are known, found by their hash (T14).

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{LONGEST, PREFIX, declared_hash, looks_like_weir_key, stored_hash};
use crate::access::{Caller, Grants, KeyLimits, Role};

/// One key that is known here.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyEntry {
    /// Public id; the name, for a key declared in the file.
    pub id: Arc<str>,
    /// The name people gave it.
    pub name: Arc<str>,
    /// What it may do.
    pub role: Role,
    /// Where it may do it.
    pub grants: Grants,
    /// First second, since 1970, in which it no longer works.
    pub expires_at_unix: Option<i64>,
    /// Kept so that a use of it can be told from a guess.
    pub revoked: bool,
    /// Its limits.
    pub limits: KeyLimits,
}

impl KeyEntry {
    /// Who it is that holds this key.
    pub fn caller(&self) -> Caller {
        Caller {
            key_id: Arc::clone(&self.id),
            name: Arc::clone(&self.name),
            role: self.role,
            grants: self.grants.clone(),
        }
    }

    fn working_at(&self, now_unix: i64) -> Result<&Self, Denied> {
        if self.revoked {
            return Err(Denied::Revoked);
        }
        if self.expires_at_unix.is_some_and(|end| end <= now_unix) {
            return Err(Denied::Expired);
        }
        Ok(self)
    }
}

/// A key by its hashes, as [`KeyRing::fingerprint`] makes it. Not printed.
#[derive(Clone)]
pub struct Fingerprint {
    stored: [u8; 32],
    declared: [u8; 32],
}

impl Fingerprint {
    /// Whether both are of one key.
    pub fn is(&self, other: &Self) -> bool {
        bool::from(self.declared.ct_eq(&other.declared))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(***)")
    }
}

/// Why a credential is not accepted. For metrics and logs only: the client gets the same bytes
/// whichever it is (T14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denied {
    /// There is none.
    #[error("no credential was presented")]
    Missing,
    /// It cannot be one: too long, ambiguous, or with a checksum that does not fit.
    #[error("the credential is malformed")]
    Malformed,
    /// No key has it.
    #[error("no such key")]
    Unknown,
    /// Its time is over.
    #[error("the key has expired")]
    Expired,
    /// It was taken back.
    #[error("the key was revoked")]
    Revoked,
}

impl Denied {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::Missing, Self::Malformed, Self::Unknown, Self::Expired, Self::Revoked];

    /// The `result` label of `weir_auth_total`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// Every key that is known, by hash. Never changed: a new key makes a new ring.
pub struct KeyRing {
    pepper: Zeroizing<[u8; 32]>,
    stored: ByHash,
    declared: ByHash,
}

impl KeyRing {
    /// A ring of keys from the store, by [`stored_hash`] under `pepper`, and of keys from the file,
    /// by [`declared_hash`]. Of two with one hash the first counts.
    pub fn new(
        pepper: [u8; 32],
        stored: impl IntoIterator<Item = ([u8; 32], KeyEntry)>,
        declared: impl IntoIterator<Item = ([u8; 32], KeyEntry)>,
    ) -> Self {
        Self {
            pepper: Zeroizing::new(pepper),
            stored: ByHash::new(stored),
            declared: ByHash::new(declared),
        }
    }

    /// The key that `presented` is, if it works at `now_unix` (seconds since 1970).
    ///
    /// The shape is looked at last and decides nothing but the reason: keys brought along from
    /// elsewhere may be declared too, and every text of up to [`LONGEST`] bytes costs the same.
    pub fn find(&self, presented: impl AsRef<[u8]>, now_unix: i64) -> Result<&KeyEntry, Denied> {
        let presented = presented.as_ref();
        if presented.is_empty() {
            return Err(Denied::Missing);
        }
        if presented.len() > LONGEST {
            return Err(Denied::Malformed);
        }
        let stored = self.stored.get(&stored_hash(&self.pepper, presented));
        let declared = if self.declared.is_empty() {
            None
        } else {
            self.declared.get(&declared_hash(presented))
        };
        let Some(entry) = stored.or(declared) else {
            let text = std::str::from_utf8(presented).unwrap_or_default();
            let mistyped = text.starts_with(PREFIX) && !looks_like_weir_key(text);
            return Err(if mistyped { Denied::Malformed } else { Denied::Unknown });
        };
        entry.working_at(now_unix)
    }

    /// What a session keeps of the key that it was begun with: its hashes, never the key.
    pub fn fingerprint(&self, presented: &str) -> Fingerprint {
        Fingerprint {
            stored: stored_hash(&self.pepper, presented),
            declared: declared_hash(presented),
        }
    }

    /// The key that a session was begun with, if it still works: one that was revoked, has expired or
    /// whose name was given to another secret does not.
    pub fn find_again(&self, key: &Fingerprint, now_unix: i64) -> Result<&KeyEntry, Denied> {
        let found = self.stored.get(&key.stored).or_else(|| self.declared.get(&key.declared));
        found.ok_or(Denied::Unknown)?.working_at(now_unix)
    }

    /// Keys in the ring, revoked and expired ones included.
    pub fn len(&self) -> usize {
        self.stored.entries.len() + self.declared.entries.len()
    }

    /// Whether nobody can come in with a key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every key in the ring, in no order that means anything.
    pub fn entries(&self) -> impl Iterator<Item = &KeyEntry> {
        self.stored.entries.iter().chain(&self.declared.entries).map(|(_, entry)| entry)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("keys", &self.len()).finish_non_exhaustive()
    }
}

/// Entries sorted by the first eight bytes of their hash, which are kept apart to keep the search
/// in few cache lines. A hash map would do as well, but its seed is chance.
pub(super) struct ByHash {
    starts: Box<[u64]>,
    entries: Box<[([u8; 32], KeyEntry)]>,
}

impl ByHash {
    pub(super) fn new(entries: impl IntoIterator<Item = ([u8; 32], KeyEntry)>) -> Self {
        let mut entries: Box<[_]> = entries.into_iter().collect();
        entries.sort_by_key(|(hash, _)| start_of(hash));
        Self { starts: entries.iter().map(|(hash, _)| start_of(hash)).collect(), entries }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn get(&self, hash: &[u8; 32]) -> Option<&KeyEntry> {
        let start = start_of(hash);
        let first = self.starts.partition_point(|&each| each < start);
        let same_start = self.starts[first..].iter().take_while(|&&each| each == start).count();
        let candidates = &self.entries[first..first + same_start];
        let is = |each: &[u8; 32]| bool::from(words_of(each).ct_eq(&words_of(hash)));
        candidates.iter().find(|(each, _)| is(each)).map(|(_, entry)| entry)
    }
}

/// Four comparisons in constant time cost less than thirty-two.
#[inline]
fn words_of(hash: &[u8; 32]) -> [u64; 4] {
    let (words, _) = hash.as_chunks();
    std::array::from_fn(|at| u64::from_be_bytes(words[at]))
}

fn start_of(hash: &[u8; 32]) -> u64 {
    words_of(hash)[0]
}
