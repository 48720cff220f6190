//! An operator's hand on a ramp. Each gives the new state and the decision to store with it.

use super::look::ALL;
use super::{Action, Decision, Reason, Settings, Situation, State, Status};

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
    let share = Some(settings.share(state.phase));
    let bare = Decision::bare(state, at, settings, Reason::ByHand, share);
    Decision { action: Action::Start, fresh, ..bare }
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
    if state.is_over() {
        return Err(Refused::Over);
    }
    Ok(change(state, at, settings, Status::Aborted, (Action::Abort, Some(0))))
}

/// Ends the ramp: all traffic to `T`, whatever the evidence says.
pub fn promote(state: &State, at: &Situation, settings: &Settings) -> Done {
    if state.is_over() {
        return Err(Refused::Over);
    }
    Ok(change(state, at, settings, Status::Promoted, (Action::Promote, Some(ALL))))
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
