//! A person's hand on a ramp: start, pause, resume, abort, promote.

use std::sync::Arc;

use policies::ramp::bandit::ArmState;
use policies::ramp::{self, Decision, Refused, Seen, Settings, Situation, State};
use policies::statistics::rule::Reached;

use super::kept::{Ramp, Told as KeptTold};
use super::{Control, arm_shares, backend, now, situation};
use crate::change::ChangeError;
use crate::comparison::NotPassed;
use crate::live::{Actor, LiveExperiment};
use crate::store::State as Running;
use crate::telemetry::events;

/// What a new ramp is told.
#[derive(Clone, Debug)]
pub struct Told {
    /// The variant to ramp.
    pub variant: String,
    /// What it is judged against.
    pub control: String,
    /// The equal control, if there is one.
    pub control_cell: Option<String>,
    /// A bandit's arms, the variant first; else none.
    pub arms: Vec<String>,
    /// Everything else; numbers of variants are found here.
    pub settings: Settings,
    /// Whether evidence of an earlier ramp of the same backend is forgotten.
    pub afresh: bool,
    /// The shadow that has to have passed before it begins.
    pub shadow: Option<String>,
}

/// Why a ramp does not do what it is told.
#[derive(Debug, thiserror::Error)]
pub enum HandFault {
    /// There is none.
    #[error("experiment {0:?} has no ramp; `POST …/ramp` starts one")]
    NoRamp(String),
    /// One runs.
    #[error("a ramp of experiment {0:?} is under way; abort or promote it first")]
    UnderWay(String),
    /// Nothing is split.
    #[error("experiment {0:?} is not running; undo its stop or set weights first")]
    NotRunning(String),
    /// What was to be shown first is not shown.
    #[error("the ramp of experiment {0:?} cannot begin: {1}")]
    Shadow(String, NotPassed),
    /// Promoting somebody who takes no part.
    #[error("the ramp is not about variant {0:?}")]
    NoArm(String),
    /// Traffic that a bandit knows nothing of.
    #[error(
        "variant {0:?} has traffic and takes no part: name it in `arms`, or set its weight to 0"
    )]
    OthersHaveTraffic(String),
    /// Against where it stands.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Not carried out.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// A step by hand of `policies::ramp`.
trait Hand: FnOnce(&State, &Situation, &Settings) -> Result<(State, Decision), Refused> {}

impl<F> Hand for F where
    F: FnOnce(&State, &Situation, &Settings) -> Result<(State, Decision), Refused>
{
}

impl Control {
    /// Begins a ramp, once it is stored and in force.
    ///
    /// # Errors
    /// [`HandFault`]; then nothing was changed.
    pub async fn begin(
        &self,
        experiment: &str,
        asked: Told,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<Arc<Ramp>, HandFault> {
        let mut turn = self.turn.lock().await;
        let before = self.ramp(experiment);
        if before.as_ref().is_some_and(|ramp| !ramp.state.is_over()) {
            return Err(HandFault::UnderWay(experiment.to_owned()));
        }
        let Told { variant, control, control_cell, arms, settings, afresh, shadow } = asked;
        let view = self.changes.view();
        let missing = || ChangeError::Missing(format!("experiment {experiment:?} does not exist"));
        let live = view.live.get(experiment).ok_or_else(missing)?;
        if live.state != Running::Running {
            return Err(HandFault::NotRunning(experiment.to_owned()));
        }
        if let Some(shadow) = &shadow {
            self.vouched(&view, experiment, &variant, shadow)
                .map_err(|why| HandFault::Shadow(experiment.to_owned(), why))?;
        }
        let mut told = KeptTold {
            variant,
            control,
            control_cell,
            arms,
            cooling: before.as_ref().map(|old| old.told.cooling.clone()).unwrap_or_default(),
            from: 0,
            shadow,
            settings,
        };
        // What was rolled back cools down, whatever was ramped since.
        told.cooling.retain(|_, until| *until > now());
        let cooling = told.treated().iter().filter_map(|name| told.cooling.get(name)).max();
        if let Some(until) = cooling.copied() {
            return Err(Refused::Cooling { until }.into());
        }
        let place = live.weights.iter().position(|(name, _)| *name == told.variant);
        let at = Situation {
            now: now(),
            revision: live.revision,
            share: place.and_then(|at| live.shares().get(at).copied()).unwrap_or(0),
            arms: arm_shares(live, &told.arms, &told.control).ok_or_else(missing)?,
            backend: backend(&view.plan, experiment, told.treated()).ok_or_else(missing)?,
            drifted: false,
            route_seconds: None,
        };
        refuse_shares_of_others(live, &told)?;
        let settings = &told.settings;
        let of_same = before.as_ref().filter(|ramp| ramp.told.treated() == told.treated());
        let (state, decision) = match of_same {
            Some(old) => {
                let carried = carried(old, settings);
                ramp::restart(&carried, &at, settings, afresh)?
            }
            None => {
                let (state, decision) = ramp::start(&at, settings);
                // Each rollback of the experiment counts, whoever was rolled back.
                let rollbacks = before.as_ref().map_or(0, |old| old.state.rollbacks);
                (State { rollbacks, ..state }, decision)
            }
        };
        let base = match &before {
            Some(old) => Arc::clone(old),
            None => Arc::new(Ramp::new(told.clone(), state.clone())),
        };
        let from = base.told.from;
        let next = Ramp {
            told: KeptTold { from, ..told },
            state,
            seen: Seen::default(),
            is_watched: false,
            ..Ramp::clone(&base)
        };
        turn.remove(experiment);
        let done = self.carry_out(experiment, &base, next, decision, actor, reason).await;
        if done.is_err() {
            self.shared.evidence.watch(experiment, None);
            if before.is_none() {
                self.ramps.lock().remove(experiment);
            }
        }
        done?;
        // Looked at at once: whoever asked sees what is watched, and what earlier evidence says of it.
        let tables = turn.entry(experiment.to_owned()).or_default();
        if let Err(error) = self.look_at(experiment, tables).await {
            events::warning("weir.ramp.failed", &format!("{experiment}: {error}"));
        }
        self.ramp(experiment).ok_or_else(|| HandFault::NoRamp(experiment.to_owned()))
    }

    /// Freezes the share; judging goes on.
    ///
    /// # Errors
    /// [`HandFault`]; then nothing was changed.
    pub async fn pause(
        &self,
        experiment: &str,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<Arc<Ramp>, HandFault> {
        self.by_hand(experiment, ramp::pause, actor, reason).await
    }

    /// Goes on after a pause or a hold.
    ///
    /// # Errors
    /// [`HandFault`]; then nothing was changed.
    pub async fn resume(
        &self,
        experiment: &str,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<Arc<Ramp>, HandFault> {
        let view = self.changes.view();
        if view.live.get(experiment).is_some_and(|live| live.state != Running::Running) {
            return Err(HandFault::NotRunning(experiment.to_owned()));
        }
        self.by_hand(experiment, ramp::resume, actor, reason).await
    }

    /// Ends it: no traffic to the variant.
    ///
    /// # Errors
    /// [`HandFault`]; then nothing was changed.
    pub async fn abort(
        &self,
        experiment: &str,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<Arc<Ramp>, HandFault> {
        self.by_hand(experiment, ramp::abort, actor, reason).await
    }

    /// Ends it: all traffic to the variant, whatever the evidence says.
    ///
    /// # Errors
    /// [`HandFault`]; then nothing was changed.
    pub async fn promote(
        &self,
        experiment: &str,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<Arc<Ramp>, HandFault> {
        self.by_hand(experiment, ramp::promote, actor, reason).await
    }

    /// The same of a bandit, to one of its arms.
    ///
    /// # Errors
    /// [`HandFault`]; then nothing was changed.
    pub async fn promote_arm(
        &self,
        experiment: &str,
        variant: &str,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<Arc<Ramp>, HandFault> {
        let none = || HandFault::NoRamp(experiment.to_owned());
        let ramp = self.ramp(experiment).ok_or_else(none)?;
        let of = ramp.told.treated().iter().position(|name| name == variant);
        let arm = of.ok_or_else(|| HandFault::NoArm(variant.to_owned()))?;
        if ramp.told.arms.is_empty() {
            return self.promote(experiment, actor, reason).await;
        }
        let hand = move |state: &State, at: &Situation, settings: &Settings| {
            ramp::promote_arm(state, at, settings, arm)
        };
        self.by_hand(experiment, hand, actor, reason).await
    }

    async fn by_hand(
        &self,
        experiment: &str,
        hand: impl Hand,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<Arc<Ramp>, HandFault> {
        let _turn = self.turn.lock().await;
        let none = || HandFault::NoRamp(experiment.to_owned());
        let ramp = self.ramp(experiment).ok_or_else(none)?;
        let view = self.changes.view();
        let live = view.live.get(experiment).ok_or_else(none)?;
        let at = situation(&view, live, &ramp, experiment).ok_or_else(none)?;
        let (state, decision) = hand(&ramp.state, &at, &ramp.told.settings)?;
        let next = Ramp { state, ..Ramp::clone(&ramp) };
        self.carry_out(experiment, &ramp, next, decision, actor, reason).await?;
        self.ramp(experiment).ok_or_else(none)
    }
}

/// A bandit shares out everything: who takes no part must have nothing.
fn refuse_shares_of_others(live: &LiveExperiment, told: &KeptTold) -> Result<(), HandFault> {
    if told.arms.is_empty() {
        return Ok(());
    }
    let shares = live.weights.iter().map(|(name, _)| name).zip(live.shares());
    let mut others = shares
        .filter(|(name, share)| *share > 0 && **name != told.control && !told.arms.contains(name));
    match others.next() {
        Some((name, _)) => Err(HandFault::OthersHaveTraffic(name.clone())),
        None => Ok(()),
    }
}

/// Where an earlier ramp of the same variants stands, with what each guardrail of the new one reached
/// in it, whether either has steps or not.
fn carried(old: &Ramp, settings: &Settings) -> State {
    let before = &old.told.settings.guardrails;
    let of = |reached: &[Reached]| -> Vec<Reached> {
        let each = settings.guardrails.iter().map(|guardrail| {
            let place = before.iter().position(|before| before.metric == guardrail.metric);
            place.and_then(|at| reached.get(at).copied()).unwrap_or_default()
        });
        each.collect()
    };
    let state = &old.state;
    let was_bandit = old.told.settings.bandit.is_some();
    let first = if was_bandit { state.arms.first().map(|arm| &arm.reached) } else { None };
    let reached = of(first.unwrap_or(&state.reached));
    let mut arms = Vec::new();
    if settings.bandit.is_some() {
        let each = |reached: Vec<Reached>| ArmState { reached, ..ArmState::default() };
        arms = match was_bandit {
            true => state.arms.iter().map(|arm| each(of(&arm.reached))).collect(),
            // Control is the last, and is not judged.
            false => vec![each(reached.clone()), ArmState::default()],
        };
    }
    State { reached, arms, ..state.clone() }
}
