//! What a ramp decided, as a change: weights, the ramp's state, the evidence and the audit entry are
//! one transaction.

use serde_json::Value;

use super::experiments::{as_seen, audit, known};
use super::{ChangeError, Changes};
use crate::clock;
use crate::live::{Actor, LiveExperiment, WeightsFault};
use crate::store::{AuditRow, Change, RampStep};

/// Everybody's share together, in basis points.
const ALL: u16 = 10_000;

/// One decision to carry out.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is kept of it, but for the audit entry.
    pub step: RampStep,
    /// What was done, such as `ramp.widen`.
    pub action: String,
    /// The decision, for the audit log.
    pub decision: Value,
    /// Shares from now on in basis points, of the variants that get another one. Empty: all stay.
    pub shares: Vec<(String, u16)>,
    /// Who takes what those lose, and gives what they win: control.
    pub rest: String,
    /// Whether a revision is made although no share changes, since evidence begins anew with it.
    pub anew: bool,
    /// Why, for the history.
    pub reason: Option<String>,
}

impl Changes {
    /// Carries out a decision that was made from revision `seen`. Answers the experiment as it is
    /// once the decision is stored and in force.
    ///
    /// # Errors
    /// [`ChangeError`]; then nothing was changed, or the store is in doubt about what it has.
    pub async fn ramp(
        &self,
        experiment: &str,
        seen: u64,
        step: Step,
        actor: &Actor,
    ) -> Result<LiveExperiment, ChangeError> {
        let mut state = self.state.lock().await;
        self.store_stops(&mut state).await?;
        let before = as_seen(&state, experiment, seen)?;
        let next = next(&before, experiment, &step, actor)?;
        let entry = entry(&before, next.as_ref(), experiment, &step, actor);
        let Some(next) = next else {
            let ramps = vec![RampStep { audit: Some(entry), ..step.step }];
            self.keep(Change { ramps, ..Change::default() }).await?;
            return Ok(before);
        };
        let change = Change {
            revisions: vec![(next.to_row(experiment), entry)],
            ramps: vec![step.step],
            ..Change::default()
        };
        if let Err(error) = self.keep(change).await {
            return self.settle(&mut state, experiment, before.revision, next, error).await;
        }
        state.ledger.live.insert(experiment.to_owned(), next.clone());
        self.put_in_force(&mut state);
        self.changed(experiment, &step.action, Some(&before), &next, &actor.name);
        Ok(next)
    }

    /// Rolls back: in force first, then stored. Works without the store: then it is in force here
    /// and now, the error says that it is not stored, and [`Changes::store_what_waits`] does it later.
    ///
    /// # Errors
    /// `Stale` and `Missing`: nothing was changed. `Store`: in force, and not stored yet.
    pub async fn roll_back(
        &self,
        experiment: &str,
        seen: u64,
        step: Step,
        actor: &Actor,
    ) -> Result<LiveExperiment, ChangeError> {
        let mut state = self.state.lock().await;
        let before = known(&state, experiment)?.clone();
        if before.revision != seen {
            let (current, by) = (before.revision, before.by.clone());
            return Err(ChangeError::Stale { seen, current, by });
        }
        let next = next(&before, experiment, &step, actor)?;
        let entry = entry(&before, next.as_ref(), experiment, &step, actor);
        let Some(next) = next else {
            state.ledger.unstored_ramps.push(RampStep { audit: Some(entry), ..step.step });
            self.store_stops(&mut state).await?;
            return Ok(before);
        };
        state.ledger.unstored.push((next.to_row(experiment), entry));
        state.ledger.unstored_ramps.push(step.step);
        state.ledger.live.insert(experiment.to_owned(), next.clone());
        self.put_in_force(&mut state);
        self.changed(experiment, &step.action, Some(&before), &next, &actor.name);
        self.store_stops(&mut state).await?;
        // With another number, if somebody else had changed it meanwhile.
        Ok(state.ledger.live.get(experiment).cloned().unwrap_or(next))
    }

    /// Stores what came into force while the store was away, if there is something.
    ///
    /// # Errors
    /// The store's; then it waits on.
    pub async fn store_what_waits(&self) -> Result<(), ChangeError> {
        let Ok(mut state) = self.state.try_lock() else { return Ok(()) };
        if state.ledger.unstored.is_empty() && state.ledger.unstored_ramps.is_empty() {
            return Ok(());
        }
        Ok(self.store_stops(&mut state).await?)
    }
}

/// The next revision, if the decision makes one. A stopped experiment stays stopped.
fn next(
    before: &LiveExperiment,
    experiment: &str,
    step: &Step,
    actor: &Actor,
) -> Result<Option<LiveExperiment>, WeightsFault> {
    let shares = shares(before, step);
    if shares == before.shares() && !step.anew {
        return Ok(None);
    }
    let percent = |share: u16| f64::from(share) / 100.0;
    let weights: Vec<(String, f64)> = before
        .weights
        .iter()
        .zip(shares)
        .map(|((name, _), share)| (name.clone(), percent(share)))
        .collect();
    let at = clock::unix_micros();
    let next = before.reweighted(experiment, &weights, actor, at, step.reason.clone())?;
    Ok(Some(LiveExperiment { state: before.state, ..next }))
}

/// Everybody's share after a decision: what the named win comes from control, and from the others
/// only once control has nothing left.
fn shares(before: &LiveExperiment, step: &Step) -> Vec<u16> {
    let mut shares = before.shares();
    if step.shares.is_empty() {
        return shares;
    }
    let mut left = ALL;
    let mut others = Vec::new();
    let mut control = None;
    for (at, (name, _)) in before.weights.iter().enumerate() {
        let Some(share) = shares.get_mut(at) else { continue };
        if let Some((_, asked)) = step.shares.iter().find(|(named, _)| named == name) {
            *share = (*asked).min(left);
            left -= *share;
        } else if *name == step.rest {
            control = Some(at);
        } else {
            others.push(at);
        }
    }
    for at in others {
        shares[at] = shares[at].min(left);
        left -= shares[at];
    }
    if let Some(at) = control {
        shares[at] = left;
    }
    shares
}

fn entry(
    before: &LiveExperiment,
    next: Option<&LiveExperiment>,
    experiment: &str,
    step: &Step,
    actor: &Actor,
) -> AuditRow {
    let after = next.unwrap_or(before);
    let mut entry = audit(actor, after.at, &step.action, experiment, Some(before), after);
    if next.is_none() {
        entry.at = clock::unix_micros();
        entry.reason.clone_from(&step.reason);
    }
    if let Some(after) = entry.after.as_object_mut() {
        after.insert("ramp".to_owned(), step.decision.clone());
    }
    entry
}
