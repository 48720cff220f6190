//! What the writer knows of the store, and what happens when the store turns out to know better.
//!
//! Two things make them differ. A store that fails may have kept the change all the same: the commit
//! was in doubt. And another gateway may have changed the same store. Either way the store is right,
//! and what it has comes into force; only a stop that could not be stored yet stays on top of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::defined::{Effective, effective};
use super::experiments::shown;
use super::{Changes, Held};
use crate::config::plan::Plan;
use crate::live::{Actor, LiveExperiment, LiveLayer};
use crate::store::{
    AuditRow, Change, FileStatement, LayerRow, RampStep, RevisionRow, State, StoreError,
};

/// How often a change is worked out anew because somebody else was faster.
pub(super) const TRIES: u32 = 3;

/// Experiments, layers and what the file said, as stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// Experiments at their newest revision.
    pub(super) live: BTreeMap<String, LiveExperiment>,
    /// Layers.
    pub(super) layers: BTreeMap<String, LiveLayer>,
    /// What the file said of each experiment.
    pub(super) statements: BTreeMap<String, FileStatement>,
    /// Experiments that are defined elsewhere than in the file, those that are over too.
    pub(super) definitions: BTreeMap<String, Value>,
    /// In force and not stored: stops and rollbacks while the store was away. Stored before whatever
    /// comes next.
    pub(super) unstored: Vec<(RevisionRow, AuditRow)>,
    /// The decisions of ramps that belong to those.
    pub(super) unstored_ramps: Vec<RampStep>,
}

impl Ledger {
    /// From what is stored.
    ///
    /// # Errors
    /// `Damaged` if an allocation cannot be read.
    pub(super) fn read(
        revisions: &[RevisionRow],
        statements: Vec<FileStatement>,
        layers: Vec<LayerRow>,
        definitions: Vec<(String, Value)>,
    ) -> Result<Self, StoreError> {
        let statements = statements.into_iter().map(|said| (said.experiment.clone(), said));
        let mut ledger = Self {
            statements: statements.collect(),
            definitions: definitions.into_iter().filter(|(_, what)| what.is_object()).collect(),
            ..Self::default()
        };
        for row in revisions {
            ledger.live.insert(row.experiment.clone(), experiment(row)?);
        }
        for (name, slots, bytes) in layers {
            let allocation = routing::Allocation::from_bytes(&bytes)
                .map_err(|error| StoreError::Damaged(format!("layer {name}: {error}")))?;
            ledger.layers.insert(name, LiveLayer { slots, allocation });
        }
        Ok(ledger)
    }

    /// Puts stops and rollbacks that are not stored on top of what is.
    fn stop(&mut self, unstored: &[(RevisionRow, AuditRow)]) -> Result<(), StoreError> {
        for (row, audit) in unstored {
            let Some(stored) = self.live.get(&row.experiment) else {
                self.live.insert(row.experiment.clone(), experiment(row)?);
                self.unstored.push((row.clone(), audit.clone()));
                continue;
            };
            // Stored after all.
            if stored.to_row(&row.experiment) == *row {
                continue;
            }
            if row.state != State::Stopped {
                let rollback = rolled_back(stored, row)?;
                let audit = AuditRow { before: shown(stored), ..audit.clone() };
                self.unstored.push((rollback.to_row(&row.experiment), audit));
                self.live.insert(row.experiment.clone(), rollback);
                continue;
            }
            if stored.state == State::Stopped {
                continue;
            }
            let stop = LiveExperiment {
                revision: stored.revision + 1,
                state: row.state,
                source: row.source,
                by: row.by.clone(),
                at: row.at,
                reason: row.reason.clone(),
                buckets_moved: 0,
                undoes: None,
                defines: None,
                ..stored.clone()
            };
            let audit = AuditRow { before: shown(stored), after: shown(&stop), ..audit.clone() };
            self.unstored.push((stop.to_row(&row.experiment), audit));
            self.live.insert(row.experiment.clone(), stop);
        }
        Ok(())
    }
}

/// A rollback that is not stored, made again from what is.
fn rolled_back(stored: &LiveExperiment, row: &RevisionRow) -> Result<LiveExperiment, StoreError> {
    let actor = Actor { source: row.source, name: row.by.clone(), ..Actor::file() };
    let name = &row.experiment;
    let known: Vec<(String, f64)> = row
        .weights
        .iter()
        .filter(|(variant, _)| stored.weights.iter().any(|(known, _)| known == variant))
        .cloned()
        .collect();
    let next = stored
        .reweighted(name, &known, &actor, row.at, row.reason.clone())
        .map_err(|fault| StoreError::Damaged(format!("experiment {name}: {fault}")))?;
    Ok(LiveExperiment { state: stored.state, ..next })
}

fn experiment(row: &RevisionRow) -> Result<LiveExperiment, StoreError> {
    LiveExperiment::from_row(row)
        .map_err(|error| StoreError::Damaged(format!("experiment {error}")))
}

/// Whether somebody else's change is in the way: worked out anew, it may pass.
pub(super) fn overtaken(error: &StoreError) -> bool {
    match error {
        StoreError::Exists(_) | StoreError::Missing(_) => true,
        StoreError::Unavailable(_) | StoreError::Damaged(_) | StoreError::Newer { .. } => false,
    }
}

/// Whether the buckets of `live` are dealt to the variants that `plan` knows, in its order. Those of
/// a gateway with another file may not be.
pub(super) fn fits(plan: &Plan, name: &str, live: &LiveExperiment) -> bool {
    let planned = plan.experiments.iter().find(|experiment| *experiment.name == *name);
    planned.is_none_or(|experiment| {
        let known = experiment.variants.iter().map(|variant| &*variant.name);
        known.eq(live.weights.iter().map(|(variant, _)| &**variant))
    })
}

impl Changes {
    /// Stores a change, if there is something to store.
    ///
    /// # Errors
    /// The store's; then it may be stored or not, and [`Changes::as_stored`] tells.
    pub(super) async fn keep(&self, change: Change) -> Result<(), StoreError> {
        let plan = Arc::clone(&self.view().plan);
        self.keep_and_tell(&plan, change).await
    }

    /// The same, told to the webhooks of `plan`: of the file that is being read, not of the one before.
    ///
    /// # Errors
    /// As [`Changes::keep`].
    pub(super) async fn keep_and_tell(
        &self,
        plan: &Plan,
        mut change: Change,
    ) -> Result<(), StoreError> {
        if change.is_empty() {
            return Ok(());
        }
        change.subscribers = plan.webhooks.iter().map(|webhook| webhook.subscriber()).collect();
        self.store.call(move |store| store.add_change(&change)).await?;
        self.told.send_modify(|changes| *changes += 1);
        Ok(())
    }

    /// Keeps what is seen and changes nothing, unless it is known already, and tells it.
    ///
    /// # Errors
    /// The store's; then it may be kept or not, and saying it again is harmless.
    pub async fn see(&self, seen: AuditRow) -> Result<(), StoreError> {
        self.keep(Change { seen: vec![seen], ..Change::default() }).await
    }

    /// Counts the changes that were kept: whoever delivers messages looks when it moves.
    pub fn told(&self) -> tokio::sync::watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// What is stored now, with the stops of `state` that are not.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn as_stored(&self, state: &Held) -> Result<Ledger, StoreError> {
        let mut ledger = self
            .store
            .call(|store| {
                Ledger::read(
                    &store.experiments()?,
                    store.file_statements()?,
                    store.layers()?,
                    store.definitions()?,
                )
            })
            .await?;
        ledger.stop(&state.ledger.unstored)?;
        ledger.unstored_ramps.clone_from(&state.ledger.unstored_ramps);
        Ok(ledger)
    }

    /// Puts in force what the store has and we did not know of.
    ///
    /// # Errors
    /// The store's; then nothing was changed.
    pub(super) async fn catch_up(&self, state: &mut Held) -> Result<(), StoreError> {
        let Ledger { live, layers, definitions, unstored, .. } = self.as_stored(state).await?;
        state.ledger.unstored = unstored;
        let mut news = Vec::new();
        let is_defined_anew = definitions != state.ledger.definitions;
        if is_defined_anew {
            let Effective { plan, aside } = effective(&state.file, &live, &definitions);
            (state.plan, state.aside) = (plan, aside);
            (state.ledger.layers, state.ledger.definitions) = (layers, definitions);
        }
        for (name, stored) in live {
            if state.ledger.live.get(&name) != Some(&stored) && fits(&state.plan, &name, &stored) {
                let before = state.ledger.live.insert(name.clone(), stored.clone());
                news.push((name, before, stored));
            }
        }
        if is_defined_anew || !news.is_empty() {
            self.put_in_force(state);
        }
        for (name, before, now) in news {
            self.changed(&name, "store", before.as_ref(), &now, &now.by);
        }
        Ok(())
    }

    /// Stores the stops that are in force and could not be stored yet: revisions have no gaps.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn store_stops(&self, state: &mut Held) -> Result<(), StoreError> {
        let mut tries = 0;
        loop {
            let revisions = state.ledger.unstored.clone();
            let ramps = state.ledger.unstored_ramps.clone();
            let change = Change { revisions, ramps, ..Change::default() };
            let Err(error) = self.keep(change).await else {
                state.ledger.unstored.clear();
                state.ledger.unstored_ramps.clear();
                return Ok(());
            };
            if self.catch_up(state).await.is_err() {
                return Err(error);
            }
            tries += 1;
            let something_waits =
                !state.ledger.unstored.is_empty() || !state.ledger.unstored_ramps.is_empty();
            if tries == TRIES || (something_waits && !overtaken(&error)) {
                return Err(error);
            }
        }
    }
}
