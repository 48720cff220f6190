//! A ramp as this process knows it: what is stored of it, and what the last look saw.

use std::collections::BTreeMap;

use policies::ramp::{Decision, DecisionEvidence, Phase, Seen, Settings, State};
use serde::{Deserialize, Serialize};

use super::DECISIONS;
use super::series::Series;
use crate::live::LiveExperiment;
use crate::store::{RampRow, StoreError};

/// What a ramp was told. Variants go by name here: their numbers in the evidence are looked up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The variant that is ramped.
    pub variant: String,
    /// What it is judged against.
    pub control: String,
    /// The equal control, if there is one.
    pub control_cell: Option<String>,
    /// A bandit's arms, in the order of its settings; else none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arms: Vec<String>,
    /// Variants that were rolled back, and until when none of them begins again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cooling: BTreeMap<String, u64>,
    /// The revision with which its evidence begins.
    pub from: u64,
    /// The shadow that has to have passed before it begins, also by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<String>,
    /// Everything else.
    pub settings: Settings,
}

impl Told {
    /// Everybody that is compared with control: the one of a ramp with steps, or a bandit's arms.
    pub fn treated(&self) -> &[String] {
        if self.arms.is_empty() { std::slice::from_ref(&self.variant) } else { &self.arms }
    }

    /// Whose number this is in the evidence, of those that the ramp is about.
    pub fn name(&self, number: u8) -> &str {
        let arms = self.settings.bandit.iter().flat_map(|bandit| &bandit.arms);
        let mut arms = arms.zip(&self.arms);
        match arms.find(|(arm, _)| **arm == number) {
            Some((_, name)) => name,
            None if number == self.settings.control => &self.control,
            None => &self.variant,
        }
    }

    /// The variant's share in force, a fraction.
    pub fn share(&self, live: &LiveExperiment) -> Option<f64> {
        let at = live.weights.iter().position(|(name, _)| *name == self.variant)?;
        live.shares().get(at).map(|share| f64::from(*share) / 10_000.0)
    }

    /// Least seconds and least exposures of a phase.
    pub fn least(&self, phase: Phase) -> (u64, u64) {
        let settings = &self.settings;
        match phase {
            Phase::WarmUp => settings.warm_up.map(|phase| (phase.min_time, phase.min_exposures)),
            Phase::Step(at) => {
                settings.steps.get(at).map(|step| (step.min_time, step.min_exposures))
            }
            Phase::Verify => settings.verify.map(|verify| (verify.min_time, 0)),
            Phase::Bandit => settings.bandit.as_ref().map(|bandit| (bandit.period, 0)),
        }
        .unwrap_or_default()
    }

    /// How many steps there are; a bandit has none.
    pub fn steps(&self) -> usize {
        if self.settings.bandit.is_some() { 0 } else { self.settings.steps.len() }
    }

    /// A phase as a number: 0 is warm-up, then come the steps from 1, then the verification.
    pub fn step(&self, phase: Phase) -> usize {
        match phase {
            Phase::WarmUp => 0,
            Phase::Bandit => 1,
            Phase::Step(at) => at + 1,
            Phase::Verify => self.settings.steps.len() + 1,
        }
    }
}

/// A decision, and whose it was: an experiment's ramps may be of one variant and then of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// The variant; empty in stores of earlier builds. Of a bandit the arm that it is about, or else
    /// the first.
    #[serde(default)]
    pub variant: String,
    /// Whose the shares of a bandit's decision are: its arms, and control.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arms: Vec<String>,
    /// What was decided.
    #[serde(flatten)]
    pub decision: Decision,
}

/// One ramp.
#[derive(Clone, Debug)]
pub struct Ramp {
    /// What it was told.
    pub told: Told,
    /// Where it stands.
    pub state: State,
    /// Number of its newest decision.
    pub number: u64,
    /// Its newest decisions, oldest first.
    pub decisions: Vec<Made>,
    /// How everything stood at the last look.
    pub seen: Seen,
    /// Exposures of the variant in this phase, at the last look.
    pub exposures: u64,
    /// What the guardrails' evidence was, since this process began.
    pub series: Series,
    /// Whether the store may know better.
    pub(super) in_doubt: bool,
    /// Whether the evidence is told what this ramp watches.
    pub(super) is_watched: bool,
    /// When the state was saved last.
    pub(super) saved_at: u64,
}

impl Made {
    /// A decision of a ramp that was told so.
    pub(super) fn of(told: &Told, decision: Decision) -> Self {
        let arm = decision.arm.and_then(|arm| told.arms.get(arm));
        let mut arms = told.arms.clone();
        if !arms.is_empty() {
            arms.push(told.control.clone());
        }
        Self { variant: arm.unwrap_or(&told.variant).clone(), arms, decision }
    }
}

impl Ramp {
    /// One that has not decided anything yet.
    pub(super) fn new(told: Told, state: State) -> Self {
        Self {
            told,
            state,
            number: 0,
            decisions: Vec::new(),
            seen: Seen::default(),
            exposures: 0,
            series: Series::default(),
            in_doubt: false,
            is_watched: false,
            saved_at: 0,
        }
    }

    /// From what is stored.
    ///
    /// # Errors
    /// `Damaged` if it cannot be read.
    pub(super) fn read(row: &RampRow) -> Result<Self, StoreError> {
        let damaged = |what: &str, error: serde_json::Error| {
            let name = &row.experiment;
            StoreError::Damaged(format!("{what} of the ramp of experiment {name}: {error}"))
        };
        let told: Told = serde_json::from_str(&row.settings).map_err(|e| damaged("settings", e))?;
        let state = serde_json::from_str(&row.state).map_err(|e| damaged("state", e))?;
        let mut decisions = Vec::new();
        for text in &row.decisions {
            let mut made: Made =
                serde_json::from_str(text).map_err(|e| damaged("a decision", e))?;
            if made.variant.is_empty() {
                made.variant.clone_from(&told.variant);
            }
            decisions.push(made);
        }
        let read = Self::new(told, state);
        // What ended it is what is to be shown of it: nobody looks any more.
        let last = decisions.last().filter(|_| read.state.is_over());
        let seen = last.map(|made| seen_at(&made.decision, &read.told)).unwrap_or_default();
        Ok(Self { number: row.number, decisions, seen, ..read })
    }

    /// What a look found.
    pub(super) fn saw(&mut self, state: &State, seen: Seen, exposures: u64, now: u64) {
        self.exposures = exposures.saturating_sub(state.exposures_before);
        // The look that ends it shows why; after that nothing is added.
        if !self.state.is_over() {
            self.series.add(now, &seen.judged);
            self.seen = seen;
        }
    }

    /// One more decision.
    pub(super) fn decided(&mut self, made: Made) {
        if self.decisions.len() >= DECISIONS as usize {
            self.decisions.remove(0);
        }
        self.decisions.push(made);
    }
}

/// What a decision saw.
fn seen_at(decision: &Decision, told: &Told) -> Seen {
    let DecisionEvidence { guardrails, arms, .. } = &decision.evidence;
    let treated = told.settings.treated;
    let of_arms = arms.iter().flat_map(|arm| arm.guardrails.iter().map(|each| (arm.variant, each)));
    let judged: Vec<_> = match arms.is_empty() {
        true => guardrails.iter().map(|each| (treated, each)).collect(),
        false => of_arms.collect(),
    };
    Seen {
        judged: judged.into_iter().map(|(variant, each)| (variant, each.clone())).collect(),
        arms: arms.clone(),
        period: None,
    }
}
