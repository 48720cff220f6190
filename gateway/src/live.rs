//! Experiments and layers as they stand: weights in force and the buckets dealt to them.
//!
//! Pure steps from one revision to the next; `change.rs` stores the result and puts it in force.

use std::sync::Arc;

use routing::{Allocation, VariantId, shares_of_weights};

use crate::config::plan;
use crate::snapshot::variant_id;
use crate::store::{RevisionRow, Source, State};

/// One experiment at its newest revision.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveExperiment {
    /// Newest revision.
    pub revision: u64,
    /// Whether it decides.
    pub state: State,
    /// Variants and relative weights, control first.
    pub weights: Vec<(String, f64)>,
    /// Buckets.
    pub allocation: Arc<Allocation>,
    /// Where the revision came from.
    pub source: Source,
    /// Who made it.
    pub by: String,
    /// When, microseconds since 1970.
    pub at: i64,
    /// Why.
    pub reason: Option<String>,
    /// Buckets it moved.
    pub buckets_moved: u16,
    /// The revision it took back.
    pub undoes: Option<u64>,
    /// What the experiment is since this revision, if that changed with it: its definition, or null
    /// for what the file says.
    pub defines: Option<serde_json::Value>,
}

/// Who changes something, from where, and why.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Public id of the key, or `file`.
    pub key_id: String,
    /// Name of the key.
    pub name: String,
    /// Address.
    pub from: String,
    /// Where the change comes from.
    pub source: Source,
    /// Id of the admin request.
    pub request_id: String,
}

impl Actor {
    /// The configuration file.
    pub fn file() -> Self {
        Self {
            key_id: "file".into(),
            name: "file".into(),
            from: String::new(),
            source: Source::File,
            request_id: String::new(),
        }
    }
}

/// Weights that cannot be dealt, said to a person.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightsFault {
    /// A name that is no variant.
    #[error("experiment {experiment:?} has no variant {variant:?}; its variants are {known}")]
    UnknownVariant {
        /// Experiment.
        experiment: String,
        /// What was given.
        variant: String,
        /// What there is.
        known: String,
    },
    /// Not one number is usable.
    #[error("{0}")]
    Numbers(String),
}

impl LiveExperiment {
    /// From a stored row.
    ///
    /// # Errors
    /// What is wrong with its allocation.
    pub fn from_row(row: &RevisionRow) -> Result<Self, String> {
        let allocation = Allocation::from_bytes(&row.allocation)
            .map_err(|error| format!("{} revision {}: {error}", row.experiment, row.revision))?;
        Ok(Self {
            revision: row.revision,
            state: row.state,
            weights: row.weights.clone(),
            allocation: Arc::new(allocation),
            source: row.source,
            by: row.by.clone(),
            at: row.at,
            reason: row.reason.clone(),
            buckets_moved: row.buckets_moved,
            undoes: row.undoes,
            defines: row.definition.clone(),
        })
    }

    /// As a row to store.
    pub fn to_row(&self, experiment: &str) -> RevisionRow {
        RevisionRow {
            experiment: experiment.to_owned(),
            revision: self.revision,
            state: self.state,
            weights: self.weights.clone(),
            allocation: self.allocation.to_bytes().into(),
            source: self.source,
            by: self.by.clone(),
            at: self.at,
            reason: self.reason.clone(),
            buckets_moved: self.buckets_moved,
            undoes: self.undoes,
            definition: self.defines.clone(),
        }
    }

    /// Shares of the variants in basis points, by `VariantId`.
    pub fn shares(&self) -> Vec<u16> {
        let mut shares = self.allocation.shares();
        shares.resize(self.weights.len(), 0);
        shares
    }

    /// The first revision, as the file states it.
    ///
    /// # Errors
    /// Weights that cannot be dealt; the file's check has refused them before.
    pub fn first(
        experiment: &plan::Experiment,
        actor: &Actor,
        at: i64,
    ) -> Result<Self, WeightsFault> {
        let weights = written(experiment);
        let shares = shares(&experiment.name, &weights)?;
        let allocation = Allocation::initial(&shares)
            .map_err(|fault| WeightsFault::Numbers(fault.to_string()))?;
        Ok(Self {
            revision: 1,
            state: State::Running,
            weights,
            allocation: Arc::new(allocation),
            source: actor.source,
            by: actor.name.clone(),
            at,
            reason: None,
            buckets_moved: 0,
            undoes: None,
            defines: None,
        })
    }

    /// The next revision, as the plan states it now: variants may have come, gone or changed places.
    ///
    /// # Errors
    /// Weights that cannot be dealt.
    pub fn restated(
        &self,
        experiment: &plan::Experiment,
        actor: &Actor,
        at: i64,
        reason: Option<String>,
    ) -> Result<Self, WeightsFault> {
        let weights = written(experiment);
        let shares = shares(&experiment.name, &weights)?;
        let places: Vec<Option<VariantId>> = self
            .weights
            .iter()
            .map(|(old, _)| weights.iter().position(|(new, _)| new == old).map(variant_id))
            .collect();
        let moved = self
            .allocation
            .remap(&places, &shares)
            .map_err(|fault| WeightsFault::Numbers(fault.to_string()))?;
        Ok(Self {
            revision: self.revision + 1,
            // Whoever stopped it starts it again, not an edit.
            state: self.state,
            weights,
            allocation: Arc::new(moved.allocation),
            source: actor.source,
            by: actor.name.clone(),
            at,
            reason,
            buckets_moved: moved.moved,
            undoes: None,
            defines: None,
        })
    }

    /// The next revision with `weights`. Variants that are not named keep their weight. A stopped
    /// experiment runs again.
    ///
    /// # Errors
    /// Weights that cannot be dealt.
    pub fn reweighted(
        &self,
        experiment: &str,
        weights: &[(String, f64)],
        actor: &Actor,
        at: i64,
        reason: Option<String>,
    ) -> Result<Self, WeightsFault> {
        let mut next = self.weights.clone();
        for (variant, weight) in weights {
            let Some(slot) = next.iter_mut().find(|(name, _)| name == variant) else {
                let known: Vec<&str> = self.weights.iter().map(|(name, _)| &**name).collect();
                return Err(WeightsFault::UnknownVariant {
                    experiment: experiment.to_owned(),
                    variant: variant.clone(),
                    known: known.join(", "),
                });
            };
            slot.1 = *weight;
        }
        let shares = shares(experiment, &next)?;
        let moved = self
            .allocation
            .retarget(&shares)
            .map_err(|fault| WeightsFault::Numbers(fault.to_string()))?;
        Ok(Self {
            revision: self.revision + 1,
            state: State::Running,
            weights: next,
            allocation: Arc::new(moved.allocation),
            source: actor.source,
            by: actor.name.clone(),
            at,
            reason,
            buckets_moved: moved.moved,
            undoes: None,
            defines: None,
        })
    }

    /// The next revision with the state of an earlier one.
    ///
    /// # Errors
    /// Weights that cannot be dealt any more (a variant is gone).
    pub fn undone(
        &self,
        experiment: &str,
        earlier: &RevisionRow,
        actor: &Actor,
        at: i64,
        reason: Option<String>,
    ) -> Result<Self, WeightsFault> {
        // A variant that came later had no weight then.
        let mut weights: Vec<(String, f64)> =
            self.weights.iter().map(|(name, _)| (name.clone(), 0.0)).collect();
        for (name, weight) in &earlier.weights {
            match weights.iter_mut().find(|(known, _)| known == name) {
                Some(slot) => slot.1 = *weight,
                None => weights.push((name.clone(), *weight)),
            }
        }
        let mut next = self.reweighted(experiment, &weights, actor, at, reason)?;
        next.state = earlier.state;
        next.undoes = Some(self.revision);
        Ok(next)
    }

    /// The next revision, stopped: the route's backend serves everything. Weights and buckets are
    /// kept for whoever starts it again.
    pub fn stopped(&self, actor: &Actor, at: i64, reason: Option<String>) -> Self {
        self.halted(State::Stopped, actor, at, reason)
    }

    /// The next revision, which is the last: results stay, nothing is dealt any more.
    pub fn ended(&self, actor: &Actor, at: i64, reason: Option<String>) -> Self {
        self.halted(State::Ended, actor, at, reason)
    }

    fn halted(&self, state: State, actor: &Actor, at: i64, reason: Option<String>) -> Self {
        Self {
            revision: self.revision + 1,
            state,
            source: actor.source,
            by: actor.name.clone(),
            at,
            reason,
            buckets_moved: 0,
            undoes: None,
            defines: None,
            ..self.clone()
        }
    }
}

/// What changed from one revision to the next, as one clause: `canary 5 → 20 %`. Control takes what
/// the others give, so it is named only where nobody else is.
pub fn in_words(before: Option<&LiveExperiment>, now: &LiveExperiment) -> String {
    let percent = |share: u16| f64::from(share) / 100.0;
    let (after, mut parts) = (now.shares(), Vec::new());
    if let Some(state) = before.map(|b| b.state).filter(|state| *state != now.state) {
        parts.push(match (state, now.state) {
            (_, State::Stopped) => "stopped".to_owned(),
            (_, State::Ended) => "ended".to_owned(),
            (_, State::Running) => "running again".to_owned(),
        });
    }
    let shares = before.map(LiveExperiment::shares).unwrap_or_default();
    for ((at, (name, _)), share) in now.weights.iter().enumerate().zip(&after) {
        let was = before.and_then(|before| {
            let place = before.weights.iter().position(|(known, _)| known == name)?;
            shares.get(place).copied()
        });
        match was {
            Some(was) if was != *share && at > 0 => {
                parts.push(format!("{name} {} → {} %", percent(was), percent(*share)));
            }
            Some(_) => {}
            None => parts.push(format!("{name} {} %", percent(*share))),
        }
    }
    if let Some(before) = before {
        let is_gone = |name: &str| now.weights.iter().all(|(known, _)| known != name);
        let gone = before.weights.iter().filter(|(name, _)| is_gone(name));
        parts.extend(gone.map(|(name, _)| format!("without {name}")));
    }
    if parts.is_empty() { "the shares stay".to_owned() } else { parts.join(", ") }
}

/// The file's own statement about an experiment's split, as canonical text: while it is the same, a
/// live change stays in force.
pub fn statement(experiment: &plan::Experiment) -> String {
    serde_json::to_string(&written(experiment)).unwrap_or_default()
}

fn written(experiment: &plan::Experiment) -> Vec<(String, f64)> {
    experiment.variants.iter().map(|v| (v.name.to_string(), v.weight)).collect()
}

fn shares(experiment: &str, weights: &[(String, f64)]) -> Result<Vec<u16>, WeightsFault> {
    let numbers: Vec<f64> = weights.iter().map(|(_, weight)| *weight).collect();
    shares_of_weights(&numbers).map_err(|fault| {
        use routing::WeightFault::{AllZero, Negative, NotFinite, TooSmall};
        let name = |index: usize| weights.get(index).map_or("?", |(name, _)| name);
        WeightsFault::Numbers(match fault {
            NotFinite { index } => format!(
                "experiment {experiment:?}: the weight of {:?} is not a finite number; \
                 weights are relative, any number from 0 up",
                name(index)
            ),
            Negative { index } => format!(
                "experiment {experiment:?}: the weight of {:?} is negative ({}); \
                 weights are relative, any number from 0 up; 0 means drain",
                name(index),
                weights.get(index).map_or(0.0, |(_, weight)| *weight)
            ),
            AllZero => format!(
                "experiment {experiment:?}: all weights are 0; give one variant a weight above 0, \
                 or stop the experiment"
            ),
            TooSmall { index } => format!(
                "experiment {experiment:?}: the weight of {:?} is less than half of one bucket in \
                 10,000; the smallest share is 0.01 %, and 0 means drain",
                name(index)
            ),
        })
    })
}

/// A layer as it stands: which experiment has which part of its buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveLayer {
    /// Slot 0 is outside; then experiments.
    pub slots: Vec<String>,
    /// Buckets.
    pub allocation: Allocation,
}

impl LiveLayer {
    /// The slot of an experiment.
    pub fn slot_of(&self, experiment: &str) -> Option<VariantId> {
        self.slots.iter().position(|slot| slot == experiment).map(variant_id)
    }

    /// The layer as the plan states it now, moving as few buckets as possible from `before`.
    pub fn restated(before: Option<&Self>, plan: &plan::Plan, layer: usize) -> Option<Self> {
        let mut slots = vec![String::new()];
        let mut shares = vec![routing::BUCKETS];
        for experiment in &plan.experiments {
            if let Some((at, share)) = experiment.layer
                && at == layer
            {
                slots.push(experiment.name.to_string());
                shares.push(share);
                shares[0] = shares[0].saturating_sub(share);
            }
        }
        let allocation = match before {
            None => Allocation::initial(&shares).ok()?,
            // Not dealt anew, which would be another generation of the same.
            Some(before) if before.slots == slots && before.allocation.shares() == shares => {
                before.allocation.clone()
            }
            Some(before) => {
                let places: Vec<Option<VariantId>> = before
                    .slots
                    .iter()
                    .map(|old| slots.iter().position(|new| new == old).map(variant_id))
                    .collect();
                before.allocation.remap(&places, &shares).ok()?.allocation
            }
        };
        Some(Self { slots, allocation })
    }
}
