//! Evidence of several replicas as one.

use std::collections::BTreeMap;

use super::Evidence;

/// Who sent it: an instance, and which start of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The instance's name.
    pub instance: Box<str>,
    /// Its boot; a restarted instance counts from nothing again.
    pub boot: u64,
}

/// The newest evidence of every replica about one experiment.
///
/// Replicas send *cumulative* evidence. What comes replaces what was there from the same source if
/// it is newer, else nothing happens: lost, repeated and overtaken messages change nothing but how
/// late it gets.
#[derive(Clone, Debug, Default)]
pub struct Replicas {
    newest: BTreeMap<Source, Evidence>,
}

impl Replicas {
    /// Takes in a message; whether it was news.
    pub fn receive(&mut self, source: Source, evidence: Evidence) -> bool {
        match self.newest.get(&source) {
            Some(had) if had.sequence() >= evidence.sequence() => false,
            Some(_) | None => {
                self.newest.insert(source, evidence);
                true
            }
        }
    }

    /// How many sources there are.
    pub fn len(&self) -> usize {
        self.newest.len()
    }

    /// Whether nobody has sent anything.
    pub fn is_empty(&self) -> bool {
        self.newest.is_empty()
    }

    /// All of it together; `None` if nobody has sent anything.
    pub fn merged(&self) -> Option<Evidence> {
        let mut all = self.newest.values();
        let mut merged = all.next()?.clone();
        all.for_each(|evidence| merged.merge(evidence));
        Some(merged)
    }
}
