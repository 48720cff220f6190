//! A schedule of growing shares, and what a look at it decides.
//!
//! [`look`] takes where a ramp stands, the time, what the ledger says and the [`Evidence`], and gives
//! where it stands now and at most one [`Decision`]. It has no effect: the caller stores the new
//! [`State`] *in the transaction that stores the decision's change*. So a crash before that leaves
//! the old state, and the same decision is made again; after it the new state knows.
//!
//! ```text
//! 1. any guardrail that rolls back Breached                  -> roll back   (also in warm-up, verify, holding, paused)
//! 2. no traffic of T though 20 were due                      -> roll back
//! 3. the route misses its objective for too long             -> pause, and tell a person
//!    sample ratio mismatch, or drift of the ramp's inputs    -> hold
//! 4. least time and least exposures of this step not met     -> stay
//! 5. all required guardrails Held at this step's margins     -> widen (or promote)
//! 6. step older than its patience                            -> hold, go on or roll back, as is set
//!    otherwise                                               -> stay
//! ```
//!
//! # How to use it
//!
//! * [`start`] makes the first state; [`pause`], [`resume`], [`abort`], [`promote`] and [`restart`]
//!   are an operator's hand. Each gives a decision to store, like a look.
//! * Every second, and on new evidence: [`marks_due`] (freeze what it gives), then [`look`] with the
//!   revision and share that are in force. If it gives no decision, the new state need not be stored
//!   at once, but now and then: it remembers what evidence has reached.
//! * A decision's `share` is `T`'s new share in basis points; `None` leaves the shares alone. It may
//!   be the one in force (from warm-up to the first step): then there is nothing to deal. Store the
//!   change with [`Decision::from_revision`] as the revision it was made from: if somebody else has
//!   changed the experiment meanwhile it is stale, and is to be dropped together with its state.
//! * [`Decision::fresh`] says that the evidence starts anew: another backend is judged.
//!
//! Times are whole seconds since 1970. A clock that jumps bends a step by a minute at most: the
//! step's own clock counts at most [`LONGEST_GAP`] from look to look, and only while control has
//! exposures.

pub mod bandit;
mod hand;
mod look;
mod settings;
#[cfg(test)]
mod tests;

pub use hand::{Refused, abort, pause, promote, promote_arm, restart, resume, start};
pub use look::{LONGEST_GAP, Seen, look, marks_due, ratios, seen};
pub use settings::{Objective, OnUndecided, Settings, SettingsFault, Step, Verify, WarmUp};

use serde::{Deserialize, Serialize};

use crate::evidence::Evidence;
use crate::guardrail::Judgement;
use crate::statistics::{rule, sample_ratio};
use bandit::{ArmEvidence, ArmState, Memory};

/// Where in its schedule a ramp is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Before the first step: latency is not judged yet.
    WarmUp,
    /// In the step of this number, from 0.
    Step(usize),
    /// Nearly all traffic; a little control is kept to compare with.
    Verify,
    /// There are no steps: shares follow what is known.
    Bandit,
}

/// What a ramp is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It widens when it may.
    Running,
    /// Something must become clear first.
    Holding,
    /// An operator froze the share; judging goes on.
    Paused,
    /// Its good end.
    Promoted,
    /// Its bad end; it may begin again after the cool-down.
    RolledBack,
    /// An operator ended it.
    Aborted,
}

/// Where a ramp stands. Serialised as JSON in the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What it is doing.
    pub status: Status,
    /// Where in its schedule it is.
    pub phase: Phase,
    /// Why it is holding, if it is.
    pub holding: Option<Reason>,
    /// The revision of the experiment it last saw in force.
    pub revision: u64,
    /// What stands for the treated backend: another number is another thing to judge.
    pub backend: u64,
    /// When it began.
    pub began_at: u64,
    /// When this phase began.
    pub since: u64,
    /// How long this phase has lasted, in seconds in which control had exposures.
    pub step_seconds: u64,
    /// Exposures of `T` before this phase.
    pub exposures_before: u64,
    /// Exposures of control at the last look.
    pub control_seen: u64,
    /// When control last had an exposure.
    pub control_at: u64,
    /// When it was last looked at.
    pub looked_at: u64,
    /// The most that each guardrail's evidence has reached, in the order of the settings.
    pub reached: Vec<rule::Reached>,
    /// The same for sample ratios: assigned, served, feedback.
    pub sample_ratio: [sample_ratio::Reached; 3],
    /// An operator went on in spite of a sample ratio mismatch.
    pub mismatch_accepted: bool,
    /// Since when the route has missed its objective without a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_since: Option<u64>,
    /// A bandit's arms, in the order of its settings, and control, last; else none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arms: Vec<ArmState>,
    /// What is known of a bandit's arms; else nothing.
    #[serde(default)]
    pub memory: Memory,
    /// How often this experiment was rolled back.
    pub rollbacks: u32,
    /// When it may begin again, after a rollback.
    pub cool_until: Option<u64>,
}

/// What the ledger and the world say at a look.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation {
    /// Seconds since 1970.
    pub now: u64,
    /// The experiment's revision in force.
    pub revision: u64,
    /// `T`'s share in force, in basis points.
    pub share: u16,
    /// The same of a bandit's arms, in the order of its settings, and of control, last; else none.
    pub arms: Vec<u16>,
    /// What stands for the treated backend now, such as a hash of its address and model.
    pub backend: u64,
    /// Whether the inputs of the ramp have drifted.
    pub drifted: bool,
    /// What the objective is about, in seconds: a quantile of the whole route over the last minute.
    /// `None` without an objective, or with too little traffic to say.
    pub route_seconds: Option<f64>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The ramp begins, or begins again.
    Start,
    /// The next step.
    Widen,
    /// All traffic: the ramp is over.
    Promote,
    /// No traffic: the ramp is over.
    RollBack,
    /// Nothing moves until something becomes clear.
    Hold,
    /// What was unclear, or an operator's pause, is over.
    Resume,
    /// An operator freezes the share.
    Pause,
    /// An operator ends it: no traffic.
    Abort,
    /// A bandit's period is over, and shares move.
    Move,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A guardrail is breached.
    Breached,
    /// `T` gets nothing although much was dealt to it.
    NoTraffic,
    /// Units do not arrive as they were dealt.
    SampleRatio,
    /// The inputs have drifted.
    Drift,
    /// All required guardrails hold.
    Held,
    /// Warm-up, or verification, is over.
    TimePassed,
    /// The step is older than its patience.
    Undecided,
    /// What held the ramp is over.
    Cleared,
    /// The route itself has missed its objective for too long, whoever served.
    Objective,
    /// The backend is another one since the rollback.
    NewBackend,
    /// An operator said so.
    ByHand,
    /// Whoever is likelier to be the best gets more.
    Chances,
    /// Evidence is kept of so many revisions, and no more.
    Epochs,
}

/// One decision, with everything that it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// What is to be done.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The row of the table that fired, 1 to 6; 0 for what is no look.
    pub row: u8,
    /// When, in seconds since 1970.
    pub at: u64,
    /// The revision it was made from.
    pub from_revision: u64,
    /// Where the ramp was.
    pub from_phase: Phase,
    /// `T`'s share from now on, in basis points; `None`: as it is.
    pub share: Option<u16>,
    /// With an equal control, the share of that from now on, in basis points.
    pub control_share: Option<u16>,
    /// A bandit's shares from now on, in basis points: its arms in the order of its settings, and
    /// control. Empty: as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<u16>,
    /// The arm that it is about, if it is about one of a bandit's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<usize>,
    /// Whether evidence starts anew.
    pub fresh: bool,
    /// The numbers.
    pub evidence: DecisionEvidence,
}

/// The numbers behind a decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DecisionEvidence {
    /// Each guardrail at this look, the one that decided first.
    pub guardrails: Vec<Judgement>,
    /// Logarithms of e-values against "as dealt": assigned, served, feedback.
    pub sample_ratio: [f64; 3],
    /// Counts by epoch.
    pub epochs: Vec<EpochCounts>,
    /// How long the phase had lasted, in seconds in which control had exposures.
    pub step_seconds: u64,
    /// Exposures of `T` in this phase.
    pub step_exposures: u64,
    /// What was known of a bandit's arms, and of control, last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arms: Vec<ArmEvidence>,
}

/// What `T` and `C` did in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochCounts {
    /// The epoch's revision.
    pub revision: u64,
    /// Shares of `T` and `C` in basis points.
    pub shares: (u16, u16),
    /// Finished exposures of `T` and `C`.
    pub exposures: (u64, u64),
    /// Those that failed.
    pub failed: (u64, u64),
}

impl EpochCounts {
    fn of(evidence: &Evidence, treated: u8, control: u8) -> Vec<Self> {
        let counts = evidence.epochs().iter().map(|(revision, epoch)| {
            let of = |variant: u8| {
                let tally = epoch.variants.get(&variant);
                tally.map_or((0, 0), |tally| (tally.exposures(), tally.failed()))
            };
            let (t, c) = (of(treated), of(control));
            Self {
                revision: *revision,
                shares: (epoch.share(treated), epoch.share(control)),
                exposures: (t.0, c.0),
                failed: (t.1, c.1),
            }
        });
        counts.collect()
    }
}

impl State {
    /// Whether its end is reached. A ramp that was rolled back may still begin again.
    pub fn is_over(&self) -> bool {
        matches!(self.status, Status::Promoted | Status::RolledBack | Status::Aborted)
    }
}
