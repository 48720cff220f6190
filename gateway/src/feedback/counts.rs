//! How many answers came and what became of them: `weir_feedback_total`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;

use crate::names::Name;

/// What became of an answer: label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is on stable storage.
    Stored,
    /// One like it was there.
    Duplicate,
    /// No request that the key may speak of has this id.
    UnknownRequest,
    /// It came too late.
    Expired,
    /// Anything else that is wrong with it: receipt, metric, value.
    Invalid,
    /// The store was away.
    Unavailable,
}

impl Outcome {
    /// Every one, by index.
    pub const ALL: [Self; 6] = [
        Self::Stored,
        Self::Duplicate,
        Self::UnknownRequest,
        Self::Expired,
        Self::Invalid,
        Self::Unavailable,
    ];

    /// Label, and `code` of a rejected item.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::UnknownRequest => "unknown_request",
            Self::Expired => "expired",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
        }
    }
}

type Cell = [AtomicU64; Outcome::ALL.len()];

/// Counts by experiment and metric. Both are configured names, so the table stays small; it is copied
/// when one is new, and read without a lock.
#[derive(Debug)]
pub struct Counts(ArcSwap<HashMap<(Name, Name), Arc<Cell>>>);

impl Default for Counts {
    fn default() -> Self {
        // What is refused before its experiment is known is there from the start, at zero.
        let first = HashMap::from([(("", OTHER), Arc::default())]);
        Self(ArcSwap::from_pointee(first))
    }
}

/// The label of metrics that are not declared.
pub const OTHER: Name = "_other";

impl Counts {
    /// Counts `by` answers.
    pub fn add(&self, experiment: Name, metric: Name, outcome: Outcome, by: u64) {
        let key = (experiment, metric);
        let add = |cell: &Cell| {
            cell[outcome as usize].fetch_add(by, Relaxed);
        };
        if let Some(cell) = self.0.load().get(&key) {
            return add(cell);
        }
        let new = Arc::<Cell>::default();
        self.0.rcu(|cells| {
            let mut cells = HashMap::clone(cells);
            cells.entry(key).or_insert_with(|| Arc::clone(&new));
            cells
        });
        if let Some(cell) = self.0.load().get(&key) {
            add(cell);
        }
    }

    /// Every series, by experiment and metric.
    pub fn read(&self) -> Vec<((Name, Name), [u64; Outcome::ALL.len()])> {
        let cells = self.0.load();
        let mut all: Vec<_> = cells
            .iter()
            .map(|(key, cell)| (*key, cell.each_ref().map(|count| count.load(Relaxed))))
            .collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }
}
