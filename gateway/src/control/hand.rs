//! A person's hand on a ramp: start, pause, resume, abort, promote.

use std::sync::Arc;

use policies::ramp::{self, Decision, Refused, Settings, Situation, State};

use super::kept::{Ramp, Told as KeptTold};
use super::{Control, backend, now, situation};
use crate::change::ChangeError;
use crate::comparison::NotPassed;
use crate::live::Actor;
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
    /// Against where it stands.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Not carried out.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

type Hand = fn(&State, &Situation, &Settings) -> Result<(State, Decision), Refused>;

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
        let Told { variant, control, control_cell, settings, afresh, shadow } = asked;
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
        let place = live.weights.iter().position(|(name, _)| *name == variant);
        let at = Situation {
            now: now(),
            revision: live.revision,
            share: place.and_then(|at| live.shares().get(at).copied()).unwrap_or(0),
            backend: backend(&view.plan, experiment, &variant).ok_or_else(missing)?,
            drifted: false,
        };
        let told = KeptTold { variant, control, control_cell, from: 0, shadow, settings };
        let settings = &told.settings;
        let of_same = before.as_ref().filter(|ramp| ramp.told.variant == told.variant);
        let (state, decision) = match of_same {
            Some(old) => {
                let carried = carried(old, settings);
                ramp::restart(&carried, &at, settings, afresh)?
            }
            None => ramp::start(&at, settings),
        };
        let base = match &before {
            Some(old) => Arc::clone(old),
            None => Arc::new(Ramp::new(told.clone(), state.clone())),
        };
        let from = base.told.from;
        let next = Ramp {
            told: KeptTold { from, ..told },
            state,
            judged: Vec::new(),
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

    async fn by_hand(
        &self,
        experiment: &str,
        hand: Hand,
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

/// Where an earlier ramp stands, with what each guardrail of the new one reached in it.
fn carried(old: &Ramp, settings: &Settings) -> State {
    let before = &old.told.settings.guardrails;
    let reached = settings.guardrails.iter().map(|guardrail| {
        let place = before.iter().position(|before| before.metric == guardrail.metric);
        place.and_then(|at| old.state.reached.get(at).copied()).unwrap_or_default()
    });
    State { reached: reached.collect(), ..old.state.clone() }
}
