//! A ramp without steps: shares follow what is known of each arm. Off unless asked for.
//!
//! Every period each arm's chance of being the best is worked out ([`statistics::bandit`]), and shares
//! move towards it, at most ten points of everything. Guardrails, sample ratio and cool-down stay in
//! force and win: an arm that is breached goes to 0 and stays there.
//!
//! ```text
//! 1. a guardrail that rolls back is Breached for an arm      -> that arm to 0; with the last of them the ramp is over
//! 2. no traffic of an arm though 20 were due                 -> the same
//! 3. the route misses its objective for too long             -> pause, and tell a person
//!    sample ratio mismatch, or drift of the inputs           -> hold
//! 4. the period is not over, or an arm was seen too little   -> stay
//! 5. the chances call for other shares by 2 points or more   -> move
//! 6. nearly as many revisions as evidence is kept of         -> hold
//! ```
//!
//! Each period is an epoch with shares that were fixed before its requests came, so what is said of
//! harm, sample ratio and differences holds as it stands. Evidence keeps [`MOST_EPOCHS`] epochs, and
//! letting one go would break the promise about all looks together. So shares move only if it is worth
//! an epoch, periods grow longer as epochs fill up, and in the end the ramp holds and says so.
//!
//! [`statistics::bandit`]: crate::statistics::bandit

mod belief;
mod memory;
#[cfg(test)]
mod tests;

pub use belief::Totals;
pub use memory::Memory;

use serde::{Deserialize, Serialize};

use super::look::{self, ALL, no_traffic, rolls_back, sample_ratios, tick};
use super::{
    Action, Decision, DecisionEvidence, EpochCounts, Phase, Reason, Settings, SettingsFault,
    Situation, State, Status,
};
use crate::evidence::{Evidence, MOST_EPOCHS};
use crate::guardrail::{self, Judgement, Metric, Tables};
use crate::statistics::bandit::{
    CONTROL_FLOOR, FLOOR, LEAST_EVENTS, LEAST_EXPOSURES, Posterior, chances_of_being_best,
    is_enough, shares, step,
};
use crate::statistics::mean::Better;
use crate::statistics::rule;
use belief::Counted;

/// Less than this, as a part of everything, is not worth an epoch.
const LEAST_MOVE: f64 = 0.02;
/// From so many epochs on periods grow longer: twice as long with every four more.
const STRETCHED_FROM: usize = 40;
/// So many epochs are left for changes by hand when the ramp holds.
const SPARE_EPOCHS: usize = 4;

/// What a bandit is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bandit {
    /// The numbers of the variants that compete with control and each other.
    pub arms: Vec<u8>,
    /// What the best one is best at.
    pub metric: Metric,
    /// Which way feedback is better; of events and times less is always better.
    pub better: Better,
    /// Seconds from one move to the next, at least.
    pub period: u64,
    /// What each arm gets at least, a fraction; control gets [`CONTROL_FLOOR`].
    pub floor: f64,
    /// What part of what is known is forgotten in a day; 0 for nothing.
    pub decay: f64,
}

impl Default for Bandit {
    fn default() -> Self {
        Self {
            arms: vec![1],
            metric: Metric::Failed,
            better: Better::Higher,
            period: 300,
            floor: FLOOR,
            decay: 0.0,
        }
    }
}

/// One arm of a bandit, or control, as the ledger has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmState {
    /// The most that each guardrail's evidence has reached, in the order of the settings.
    pub reached: Vec<rule::Reached>,
    /// Rolled back: it gets nothing any more.
    pub is_out: bool,
}

/// What was known of one arm, and what follows from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmEvidence {
    /// The number of its variant.
    pub variant: u8,
    /// Values that the mean is made of, as far as they are not forgotten.
    pub values: f64,
    /// Those that count as an event: failed, slow, a yes, not 0.
    pub events: f64,
    /// Whether it was seen often enough for shares to move.
    pub is_enough: bool,
    /// What is believed of its mean, and the spread of that belief; `None` before there is any.
    pub mean: Option<f64>,
    /// The standard deviation of that.
    pub spread: Option<f64>,
    /// Its chance of being the best; `None` while an arm is seen too little.
    pub chance: Option<f64>,
    /// The share that this calls for, in basis points.
    pub target: Option<u16>,
    /// Its guardrails; none of control.
    pub guardrails: Vec<Judgement>,
}

impl ArmEvidence {
    /// What it was to be seen at least: values, and events among them.
    pub const LEAST: (u64, u64) = (LEAST_EXPOSURES, LEAST_EVENTS);
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, or less")]
fn whole(count: f64) -> u64 {
    // What is forgotten a little is not seen less by a rounding error.
    (count + 1e-6).max(0.0) as u64
}

impl Bandit {
    /// Every problem, as a field and what it must be.
    pub(super) fn problems(&self, settings: &Settings) -> Vec<SettingsFault> {
        let mut faults = Vec::new();
        let mut check = |is_good: bool, field: &'static str, must: String| {
            if !is_good {
                faults.push(SettingsFault::Bandit { field, must });
            }
        };
        let arms = self.arms.len() as f64;
        let room = (1.0 - CONTROL_FLOOR) / arms;
        check(!self.arms.is_empty(), "arms", "at least one variant beside control".to_owned());
        let mut sorted = self.arms.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let is_set = sorted.len() == self.arms.len() && !self.arms.contains(&settings.control);
        check(is_set, "arms", "different variants, control not among them".to_owned());
        check(self.period > 0, "period", "at least a second".to_owned());
        let most = format!("0.001 to {:.3}", (room / 2.0 * 1000.0).floor() / 1000.0);
        check((0.001..=room / 2.0).contains(&self.floor), "floor", most);
        check(
            (0.0..1.0).contains(&self.decay),
            "decay",
            "from 0 to below 1, a part a day".to_owned(),
        );
        check(settings.control_cell.is_none(), "control_cell", "left out".to_owned());
        faults
    }

    /// Which way the metric is better.
    pub fn direction(&self) -> Better {
        if self.metric.feedback().is_some() { self.better } else { Better::Lower }
    }

    /// Seconds from move to move, with so many epochs in the evidence.
    pub fn period_in_force(&self, evidence: &Evidence) -> u64 {
        let more = evidence.epochs().len().saturating_sub(STRETCHED_FROM) / 4;
        self.period.saturating_mul(1 << more.min(16))
    }
}

/// The shares a bandit begins with: what each arm has, but at least the floor; the rest is control's.
pub(super) fn opening(at: &Situation, bandit: &Bandit) -> Vec<u16> {
    let pool: u16 = at.arms.iter().fold(0, |sum, share| sum.saturating_add(*share));
    let part = f64::from(pool) / f64::from(ALL);
    let floor = points(bandit.floor * part);
    let arms = &at.arms[..bandit.arms.len().min(at.arms.len())];
    let wanted: Vec<u16> = arms.iter().map(|share| (*share).max(floor)).collect();
    let above: f64 = wanted.iter().map(|share| f64::from(share - floor)).sum();
    let room = f64::from(pool)
        - f64::from(points(CONTROL_FLOOR * part))
        - f64::from(floor) * wanted.len() as f64;
    let kept = if above > room && above > 0.0 { (room / above).max(0.0) } else { 1.0 };
    let cut = |share: &u16| floor + points_below(f64::from(share - floor) / f64::from(ALL) * kept);
    with_control(wanted.iter().map(cut).collect(), pool)
}

/// Basis points of a part of everything.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 10,000")]
fn points(part: f64) -> u16 {
    (part * f64::from(ALL)).round().clamp(0.0, f64::from(ALL)) as u16
}

/// The same, rounded down.
fn points_below(part: f64) -> u16 {
    points(((part * f64::from(ALL) + 1e-6).floor()) / f64::from(ALL))
}

/// Shares of the arms, and control with what they leave of the pool.
fn with_control(mut arms: Vec<u16>, pool: u16) -> Vec<u16> {
    let taken: u16 = arms.iter().fold(0, |sum, share| sum.saturating_add(*share));
    arms.push(pool.saturating_sub(taken));
    arms
}

/// With one arm at 0: control gets what it had.
pub(super) fn without(at: &Situation, arm: usize) -> Vec<u16> {
    let mut shares = at.arms.clone();
    if let [.., control] = shares.as_slice()
        && let Some(had) = shares.get(arm).copied()
    {
        let control = control.saturating_add(had);
        shares[arm] = 0;
        if let Some(last) = shares.last_mut() {
            *last = control;
        }
    }
    shares
}

/// Everything to one arm, or with `None` to control.
pub(super) fn all_to(at: &Situation, arm: Option<usize>) -> Vec<u16> {
    let pool: u16 = at.arms.iter().fold(0, |sum, share| sum.saturating_add(*share));
    let last = at.arms.len().saturating_sub(1);
    let whose = arm.unwrap_or(last);
    (0..at.arms.len()).map(|place| if place == whose { pool } else { 0 }).collect()
}

/// Looks once; see [`super::look()`].
pub(super) fn look(
    state: &State,
    at: &Situation,
    evidence: &Evidence,
    (settings, bandit): (&Settings, &Bandit),
    tables: &mut Tables,
) -> (State, Option<Decision>) {
    let mut next = state.clone();
    let counted = counted(at, evidence, (settings, bandit));
    let places = next.in_play(at);
    next.memory.look(&counted, (at.revision, &places), at.now, bandit.decay);
    if at.revision != next.revision {
        next.revision = at.revision;
        next.begin_period(at.now);
    }
    tick(&mut next, at, evidence, settings);
    let judged = judge(&mut next, evidence, settings, tables);
    let ratios = sample_ratios(&mut next, evidence, settings);
    let mut look = Look { next, at, evidence, settings, bandit, judged, ratios, counted };
    let decision = look.decide();
    (look.next, decision)
}

/// The guardrails of each arm that is not out, in their order.
pub(super) fn judge(
    state: &mut State,
    evidence: &Evidence,
    settings: &Settings,
    tables: &mut Tables,
) -> Vec<Vec<Judgement>> {
    let Some(bandit) = &settings.bandit else { return Vec::new() };
    let (guardrails, alphas) = (settings.held_to_at_the_end(), settings.alphas());
    state.arms.resize_with(bandit.arms.len() + 1, ArmState::default);
    let arms = bandit.arms.iter().zip(&mut state.arms).enumerate();
    arms.map(|(place, (variant, arm))| {
        if arm.is_out {
            return Vec::new();
        }
        arm.reached.resize(guardrails.len(), Default::default());
        let tables = tables.of_arm(place);
        let each = guardrails.iter().zip(&mut arm.reached);
        each.map(|(guardrail, reached)| {
            let control = settings.control;
            let judgement =
                guardrail::judge(evidence, *variant, control, guardrail, alphas, *reached, tables);
            *reached = judgement.reached;
            judgement
        })
        .collect()
    })
    .collect()
}

/// What was counted of each arm in the revision in force, and of control, last.
fn counted(
    at: &Situation,
    evidence: &Evidence,
    (settings, bandit): (&Settings, &Bandit),
) -> Vec<Counted> {
    let variants = bandit.arms.iter().copied().chain([settings.control]);
    variants.map(|variant| belief::of(evidence, at.revision, variant, bandit)).collect()
}

/// What is known of each arm and of control, last, without deciding anything.
pub(super) fn known(
    state: &State,
    at: &Situation,
    evidence: &Evidence,
    (settings, bandit): (&Settings, &Bandit),
    judged: Vec<Vec<Judgement>>,
) -> Vec<ArmEvidence> {
    let variants = bandit.arms.iter().copied().chain([settings.control]);
    let counted = counted(at, evidence, (settings, bandit));
    let beliefs = state.memory.beliefs(&counted);
    let mut known: Vec<ArmEvidence> = variants
        .zip(&beliefs)
        .zip(judged.into_iter().chain([Vec::new()]))
        .map(|((variant, belief), guardrails)| ArmEvidence {
            variant,
            values: belief.values,
            events: belief.events,
            is_enough: false,
            mean: belief.posterior.map(|posterior| posterior.mean),
            spread: belief.posterior.map(|posterior| posterior.variance.sqrt()),
            chance: None,
            target: None,
            guardrails,
        })
        .collect();
    let places = state.in_play(at);
    let sum = |of: fn(&ArmEvidence) -> f64| -> f64 {
        places.iter().map(|place| of(&known[*place])).sum()
    };
    // An arm to which it hardly ever happens has told as much as one to which it does, once it was to
    // have happened so often: otherwise the best one would be waited for longest.
    let rate = sum(|arm| arm.events) / sum(|arm| arm.values);
    for place in &places {
        let arm = &mut known[*place];
        let due = if rate.is_finite() { rate * arm.values } else { 0.0 };
        let events = arm.events.max(due);
        arm.is_enough = arm.mean.is_some() && is_enough(whole(arm.values), whole(events));
    }
    let is_known = places.len() > 1 && places.iter().all(|place| known[*place].is_enough);
    let posteriors: Vec<Posterior> =
        places.iter().filter_map(|place| beliefs.get(*place)?.posterior).collect();
    if !is_known || posteriors.len() != places.len() {
        return known;
    }
    let chances = chances_of_being_best(&posteriors, bandit.direction());
    // Control is the last of them.
    let targets = shares(&chances, places.len() - 1, bandit.floor);
    let pool: u16 = at.arms.iter().fold(0, |sum, share| sum.saturating_add(*share));
    let part = f64::from(pool) / f64::from(ALL);
    for ((place, chance), target) in places.iter().zip(chances).zip(targets) {
        known[*place].chance = Some(chance);
        known[*place].target = Some(points(target * part));
    }
    known
}

struct Look<'a> {
    next: State,
    at: &'a Situation,
    evidence: &'a Evidence,
    settings: &'a Settings,
    bandit: &'a Bandit,
    judged: Vec<Vec<Judgement>>,
    ratios: [f64; 3],
    counted: Vec<Counted>,
}

impl Look<'_> {
    /// The rows, in their order.
    fn decide(&mut self) -> Option<Decision> {
        for place in 0..self.bandit.arms.len() {
            let is_cold = self.next.phase == Phase::WarmUp;
            let guilty = |each: &Judgement| rolls_back(each, is_cold);
            if let Some(first) = self.judged[place].iter().position(guilty) {
                // The one that decided first.
                self.judged[place][..=first].rotate_right(1);
                return Some(self.roll_back(place, Reason::Breached, 1));
            }
            let is_in = !self.next.arms[place].is_out && self.at.arms.get(place) != Some(&0);
            if is_in && no_traffic(self.evidence, self.bandit.arms[place]) {
                return Some(self.roll_back(place, Reason::NoTraffic, 2));
            }
        }
        if self.next.status == Status::Paused {
            return None;
        }
        if self.next.misses_objective(self.at, self.settings) {
            return Some(self.decision(Action::Pause, Reason::Objective, 3, None, None));
        }
        if let Some(reason) = look::unclear(&self.next, self.at) {
            return self.hold(reason, 3);
        }
        if matches!(self.next.holding, Some(Reason::SampleRatio | Reason::Drift)) {
            self.next.status = Status::Running;
            self.next.holding = None;
            return Some(self.decision(Action::Resume, Reason::Cleared, 3, None, None));
        }
        self.end_warm_up();
        let period = self.bandit.period_in_force(self.evidence);
        if self.next.phase == Phase::WarmUp || self.next.step_seconds < period {
            return None;
        }
        let shares = self.shares()?;
        // One way or the other this period is over.
        self.next.memory.close(&self.counted);
        self.next.begin_period(self.at.now);
        let shares = shares?;
        if self.evidence.epochs().len() + SPARE_EPOCHS >= MOST_EPOCHS {
            return self.hold(Reason::Epochs, 6);
        }
        let decision = self.decision(Action::Move, Reason::Chances, 5, None, Some(shares));
        self.next.status = Status::Running;
        self.next.holding = None;
        Some(decision)
    }

    /// Warm-up is over once it has lasted, and each arm was seen. Nothing moves with it.
    fn end_warm_up(&mut self) {
        let (time, least) = self
            .settings
            .warm_up
            .map_or((0, 0), |warm_up| (warm_up.min_time, warm_up.min_exposures));
        let places = self.next.in_play(self.at);
        let arms = places.iter().filter_map(|place| self.bandit.arms.get(*place));
        let seen = arms.map(|arm| self.evidence.exposures(*arm)).min().unwrap_or(0);
        let is_over = self.next.step_seconds >= time && seen >= least;
        if self.next.phase == Phase::WarmUp && is_over {
            self.next.phase = Phase::Bandit;
            self.next.begin_period(self.at.now);
        }
    }

    fn known(&self) -> Vec<ArmEvidence> {
        let of = (self.settings, self.bandit);
        known(&self.next, self.at, self.evidence, of, self.judged.clone())
    }

    /// The shares that the chances call for; `Some(None)` if these are the ones in force, or nearly,
    /// and `None` if an arm was seen too little to say.
    fn shares(&self) -> Option<Option<Vec<u16>>> {
        let known = self.known();
        let places = self.next.in_play(self.at);
        let target: Option<Vec<u16>> = places.iter().map(|place| known[*place].target).collect();
        let target = target.filter(|target| target.len() > 1)?;
        let part = |share: u16| f64::from(share) / f64::from(ALL);
        let now: Vec<f64> = places.iter().map(|place| part(self.at.arms[*place])).collect();
        let target: Vec<f64> = target.into_iter().map(part).collect();
        let next = step(&now, &target);
        let moved: f64 = now.iter().zip(&next).map(|(now, next)| (next - now).max(0.0)).sum();
        if moved < LEAST_MOVE {
            return Some(None);
        }
        let pool = self.at.arms.iter().fold(0, |sum: u16, share| sum.saturating_add(*share));
        let mut arms = vec![0; self.bandit.arms.len()];
        for (place, share) in places.iter().zip(next) {
            // Rounded down, so that control, which gets the rest, is not cut below its floor.
            if let Some(arm) = arms.get_mut(*place) {
                *arm = points_below(share);
            }
        }
        Some(Some(with_control(arms, pool)))
    }

    fn hold(&mut self, reason: Reason, row: u8) -> Option<Decision> {
        if self.next.status == Status::Holding && self.next.holding == Some(reason) {
            return None;
        }
        self.next.status = Status::Holding;
        self.next.holding = Some(reason);
        Some(self.decision(Action::Hold, reason, row, None, None))
    }

    /// One arm to 0; with the last one the ramp is over.
    fn roll_back(&mut self, place: usize, reason: Reason, row: u8) -> Decision {
        let shares = without(self.at, place);
        let decision = self.decision(Action::RollBack, reason, row, Some(place), Some(shares));
        self.next.cool_down(self.at.now, self.settings);
        self.next.arms[place].is_out = true;
        if self.next.arms.iter().take(self.bandit.arms.len()).all(|arm| arm.is_out) {
            self.next.status = Status::RolledBack;
            self.next.holding = None;
        }
        decision
    }

    fn decision(
        &self,
        action: Action,
        reason: Reason,
        row: u8,
        arm: Option<usize>,
        shares: Option<Vec<u16>>,
    ) -> Decision {
        let (settings, place) = (self.settings, arm.unwrap_or(0));
        let variant = self.bandit.arms.get(place).copied().unwrap_or(settings.treated);
        let judged = self.judged.get(place).map(Vec::as_slice).unwrap_or_default();
        let with_ratio = |each| settings.with_ratio(each, self.evidence, variant);
        let guardrails = judged.iter().map(with_ratio).collect();
        let is_rollback = action == Action::RollBack;
        Decision {
            action,
            row,
            arm,
            shares: shares.unwrap_or_default(),
            evidence: DecisionEvidence {
                guardrails,
                // JSON knows no infinity.
                sample_ratio: self.ratios.map(|log_e| log_e.min(f64::MAX)),
                epochs: EpochCounts::of(self.evidence, variant, settings.control),
                step_seconds: self.next.step_seconds,
                step_exposures: self.evidence.exposures(variant),
                arms: self.known(),
            },
            ..Decision::bare(&self.next, self.at, settings, reason, is_rollback.then_some(0))
        }
    }
}

impl State {
    /// Another period begins.
    fn begin_period(&mut self, now: u64) {
        self.since = now;
        self.step_seconds = 0;
    }

    /// The places of the arms that compete: not rolled back, and not taken to 0 by hand. Control is
    /// the last of them.
    fn in_play(&self, at: &Situation) -> Vec<usize> {
        let last = at.arms.len().saturating_sub(1);
        let is_in = |place: &usize| {
            let is_out = self.arms.get(*place).is_some_and(|arm| arm.is_out);
            *place == last || (!is_out && at.arms[*place] > 0)
        };
        (0..at.arms.len()).filter(is_in).collect()
    }
}
