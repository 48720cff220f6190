//! An operator's hand on a ramp. Each gives the new state and the decision to store with it.

use super::look::ALL;
use super::{Action, Decision, Reason, Settings, Situation, State, Status, bandit};

/// Why a ramp does not do what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Promoted, rolled back or aborted.
    #[error("the ramp is over")]
    Over,
    /// Nobody paused it, and nothing holds it.
    #[error("the ramp is running already")]
    Running,
    /// It is paused.
    #[error("the ramp is paused already")]
    Paused,
    /// Rolled back a short while ago.
    #[error("the ramp was rolled back; it may begin again at {until}, in seconds since 1970")]
    Cooling {
        /// When it may.
        until: u64,
    },
    /// A bandit with several arms left.
    #[error("several variants take part: say which is promoted")]
    WhichArm,
    /// It runs: there is nothing to begin again.
    #[error("the ramp is not over yet")]
    NotOver,
}

type Done = Result<(State, Decision), Refused>;

/// Begins a ramp of an experiment that has none. The evidence starts anew.
pub fn start(at: &Situation, settings: &Settings) -> (State, Decision) {
    let state = State::first(at, settings);
    let decision = begin(&state, at, settings, true);
    (state, decision)
}

/// Begins a ramp again that is over; after a rollback only once it has cooled down.
///
/// The same backend continues its evidence and what that has reached, unless `afresh`: that spends
/// the chance of a false rollback anew, and forgets what was found. What was breached and is
/// continued is rolled back at once. Another backend starts anew in any case.
pub fn restart(state: &State, at: &Situation, settings: &Settings, afresh: bool) -> Done {
    if !state.is_over() {
        return Err(Refused::NotOver);
    }
    if let Some(until) = state.cool_until.filter(|until| at.now < *until) {
        return Err(Refused::Cooling { until });
    }
    let fresh = afresh || state.backend != at.backend;
    let mut next = State { rollbacks: state.rollbacks, ..State::first(at, settings) };
    if !fresh {
        next.reached.clone_from(&state.reached);
        if next.arms.len() == state.arms.len() {
            next.memory = state.memory.clone();
            for (arm, before) in next.arms.iter_mut().zip(&state.arms) {
                arm.reached.clone_from(&before.reached);
            }
        }
        next.sample_ratio = state.sample_ratio;
        next.mismatch_accepted = state.mismatch_accepted;
        // Exposures so far are none of the new beginning; the first look cuts this to what there is.
        next.exposures_before = u64::MAX;
        next.control_seen = u64::MAX;
    }
    let decision = begin(&next, at, settings, fresh);
    Ok((next, decision))
}

fn begin(state: &State, at: &Situation, settings: &Settings, fresh: bool) -> Decision {
    Decision { fresh, ..Decision::start(state, at, settings, Reason::ByHand) }
}

/// Freezes the share. Judging goes on, and a breach still rolls back.
pub fn pause(state: &State, at: &Situation, settings: &Settings) -> Done {
    match state.status {
        Status::Running | Status::Holding => {}
        Status::Paused => return Err(Refused::Paused),
        Status::Promoted | Status::RolledBack | Status::Aborted => return Err(Refused::Over),
    }
    Ok(change(state, at, settings, Status::Paused, (Action::Pause, None)))
}

/// Goes on after a pause or a hold. A sample ratio mismatch is thereby accepted: the ramp does not
/// hold for it again.
pub fn resume(state: &State, at: &Situation, settings: &Settings) -> Done {
    match state.status {
        Status::Paused | Status::Holding => {}
        Status::Running => return Err(Refused::Running),
        Status::Promoted | Status::RolledBack | Status::Aborted => return Err(Refused::Over),
    }
    let (mut next, decision) = change(state, at, settings, Status::Running, (Action::Resume, None));
    next.mismatch_accepted |= state.holding == Some(Reason::SampleRatio);
    // The clock of a step that waited too long starts again, or the next look would hold it again.
    if state.holding == Some(Reason::Undecided) {
        next.step_seconds = 0;
    }
    Ok((next, decision))
}

/// Ends the ramp: no traffic to `T`.
pub fn abort(state: &State, at: &Situation, settings: &Settings) -> Done {
    ended(state, at, settings, Status::Aborted, (Action::Abort, 0), None)
}

/// Ends the ramp: all traffic to `T`, whatever the evidence says. Of a bandit to the arm that is
/// left.
pub fn promote(state: &State, at: &Situation, settings: &Settings) -> Done {
    if settings.bandit.is_none() {
        return ended(state, at, settings, Status::Promoted, (Action::Promote, ALL), None);
    }
    // Control is the last of them.
    let arms = state.arms.iter().take(state.arms.len().saturating_sub(1)).enumerate();
    let mut left = arms.filter(|(_, arm)| !arm.is_out);
    match (left.next(), left.next()) {
        (Some((arm, _)), None) => promote_arm(state, at, settings, arm),
        _ if state.is_over() => Err(Refused::Over),
        _ => Err(Refused::WhichArm),
    }
}

/// Ends a bandit: all traffic to one arm, whatever the evidence says.
pub fn promote_arm(state: &State, at: &Situation, settings: &Settings, arm: usize) -> Done {
    ended(state, at, settings, Status::Promoted, (Action::Promote, ALL), Some(arm))
}

fn ended(
    state: &State,
    at: &Situation,
    settings: &Settings,
    status: Status,
    (action, share): (Action, u16),
    arm: Option<usize>,
) -> Done {
    if state.is_over() {
        return Err(Refused::Over);
    }
    let (next, decision) = change(state, at, settings, status, (action, Some(share)));
    if settings.bandit.is_none() {
        return Ok((next, decision));
    }
    Ok((next, Decision { arm, shares: bandit::all_to(at, arm), ..decision }))
}

fn change(
    state: &State,
    at: &Situation,
    settings: &Settings,
    status: Status,
    (action, share): (Action, Option<u16>),
) -> (State, Decision) {
    // A hold that was paused is found again by the next look after the pause.
    let next = State { status, holding: None, ..state.clone() };
    let bare = Decision::bare(state, at, settings, Reason::ByHand, share);
    (next, Decision { action, ..bare })
}
