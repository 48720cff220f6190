//! Weights moved, undone, stopped: one revision of one experiment a change.

use serde_json::{Value, json};

use super::{ChangeError, Changes, Held};
use crate::clock;
use crate::config::plan::Owner;
use crate::live::{Actor, LiveExperiment, in_words};
use crate::news::{Kind, News};
use crate::store::{AuditRow, Change, RevisionRow, State, StoreError};
use crate::telemetry::events;

impl Changes {
    /// Sets weights. Variants that are not named keep theirs. Answers the new revision once it is
    /// stored and in force.
    ///
    /// # Errors
    /// [`ChangeError`]; then nothing was changed.
    pub async fn set_weights(
        &self,
        experiment: &str,
        seen: u64,
        weights: &[(String, f64)],
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<LiveExperiment, ChangeError> {
        if weights.is_empty() {
            return Err(ChangeError::Invalid(
                "no weight is given; name at least one variant".into(),
            ));
        }
        let mut state = self.state.lock().await;
        self.store_stops(&mut state).await?;
        let before = as_seen(&state, experiment, seen)?;
        let at = clock::unix_micros();
        let next = before.reweighted(experiment, weights, actor, at, reason)?;
        self.commit(&mut state, experiment, "weights.set", &before, next, actor).await
    }

    /// The kill switch: the route's backend serves everything, at once. Works without the store: then
    /// it is in force here and now, and the error says that it was not stored.
    ///
    /// # Errors
    /// [`ChangeError::Missing`]; `Store` if it could not be stored although it is in force.
    pub async fn stop(
        &self,
        experiment: &str,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<LiveExperiment, ChangeError> {
        if let Ok(mut state) = self.state.try_lock() {
            return self.stop_in_turn(&mut state, experiment, actor, reason).await;
        }
        self.stop_deciding(experiment);
        let mut state = self.state.lock().await;
        self.stop_has_decided(experiment);
        self.stop_in_turn(&mut state, experiment, actor, reason).await
    }

    async fn stop_in_turn(
        &self,
        state: &mut Held,
        experiment: &str,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<LiveExperiment, ChangeError> {
        let before = known(state, experiment)?.clone();
        if before.state != State::Running {
            self.store_stops(state).await?;
            return Ok(before);
        }
        let next = before.stopped(actor, clock::unix_micros(), reason);
        let action = "experiment.stop";
        let audit = audit(actor, next.at, action, experiment, Some(&before), &next);
        state.ledger.unstored.push((next.to_row(experiment), audit));
        // In force first: nothing may delay it.
        state.ledger.live.insert(experiment.to_owned(), next.clone());
        self.put_in_force(state);
        self.store_stops(state).await?;
        // With another number, if somebody else had changed it meanwhile.
        let next = state.ledger.live.get(experiment).cloned().unwrap_or(next);
        self.changed(experiment, action, Some(&before), &next, &actor.name);
        Ok(next)
    }

    /// Back to an earlier revision: the one before the newest, or `to`.
    ///
    /// # Errors
    /// [`ChangeError`]; then nothing was changed.
    pub async fn undo(
        &self,
        experiment: &str,
        seen: u64,
        to: Option<u64>,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<LiveExperiment, ChangeError> {
        let mut state = self.state.lock().await;
        self.store_stops(&mut state).await?;
        let (before, owned) = undoable(&state, experiment, seen)?;
        if owned && before.state != State::Stopped {
            return Err(ChangeError::OwnedByFile(experiment.to_owned()));
        }
        let target = match to {
            Some(revision) => revision,
            None => self.before_newest(experiment, &before).await?,
        };
        if target == 0 || target >= before.revision {
            return Err(ChangeError::Missing(format!(
                "experiment {experiment:?} has no revision {target} before revision {}",
                before.revision
            )));
        }
        let earlier = self.revision(experiment, target).await?;
        // The kill switch works on what the file owns, so taking it back does too, and nothing else.
        if owned && (earlier.state != State::Running || earlier.weights != before.weights) {
            return Err(ChangeError::OwnedByFile(experiment.to_owned()));
        }
        let then = self.definition_at(experiment, target).await?;
        let planned = state.plan.experiments.iter().any(|planned| *planned.name == *experiment);
        if then.as_ref() != state.ledger.definitions.get(experiment) || !planned {
            let why = (actor, reason);
            return self
                .undo_definition(&mut state, experiment, &before, &earlier, then, why)
                .await;
        }
        let at = clock::unix_micros();
        let next = before.undone(experiment, &earlier, actor, at, reason)?;
        self.commit(&mut state, experiment, "experiment.undo", &before, next, actor).await
    }

    /// What a plain undo goes back to: the state before the newest change. An undo of an undo brings
    /// back what was undone.
    async fn before_newest(
        &self,
        experiment: &str,
        newest: &LiveExperiment,
    ) -> Result<u64, ChangeError> {
        if newest.revision <= 1 {
            return Err(ChangeError::Missing(format!(
                "experiment {experiment:?} has only one revision; there is nothing to undo"
            )));
        }
        Ok(newest.undoes.unwrap_or(newest.revision - 1))
    }

    async fn revision(&self, experiment: &str, revision: u64) -> Result<RevisionRow, ChangeError> {
        let name = experiment.to_owned();
        let rows =
            self.store.call(move |store| store.revisions(&name, Some(revision + 1), 1)).await?;
        rows.into_iter().find(|row| row.revision == revision).ok_or_else(|| {
            ChangeError::Missing(format!("experiment {experiment:?} has no revision {revision}"))
        })
    }

    async fn commit(
        &self,
        state: &mut Held,
        experiment: &str,
        action: &str,
        before: &LiveExperiment,
        next: LiveExperiment,
        actor: &Actor,
    ) -> Result<LiveExperiment, ChangeError> {
        // In the store before it is in force, and in force before anybody is answered.
        let audit = audit(actor, next.at, action, experiment, Some(before), &next);
        let change =
            Change { revisions: vec![(next.to_row(experiment), audit)], ..Change::default() };
        if let Err(error) = self.keep(change).await {
            return self.settle(state, experiment, before.revision, next, error).await;
        }
        state.ledger.live.insert(experiment.to_owned(), next.clone());
        self.put_in_force(state);
        self.changed(experiment, action, Some(before), &next, &actor.name);
        Ok(next)
    }

    /// What became of `next`, made from revision `seen`, when storing it ended with `error`: the
    /// store may have it all the same, by this try or one before, or somebody else's in its place.
    pub(super) async fn settle(
        &self,
        state: &mut Held,
        experiment: &str,
        seen: u64,
        next: LiveExperiment,
        error: StoreError,
    ) -> Result<LiveExperiment, ChangeError> {
        if self.catch_up(state).await.is_err() {
            return Err(error.into());
        }
        match state.ledger.live.get(experiment) {
            // A try before this one differs in nothing but its time.
            Some(now) if *now == (LiveExperiment { at: now.at, ..next }) => Ok(now.clone()),
            Some(now) if now.revision != seen => {
                Err(ChangeError::Stale { seen, current: now.revision, by: now.by.clone() })
            }
            Some(_) | None => Err(error.into()),
        }
    }
}

impl Changes {
    /// Says that a change is in force.
    pub(super) fn changed(
        &self,
        experiment: &str,
        action: &str,
        before: Option<&LiveExperiment>,
        now: &LiveExperiment,
        by: &str,
    ) {
        let weights = weights_json(&now.weights);
        events::experiment_changed(experiment, now.revision, action, by, &weights);
        self.shared.news.tell(News {
            experiment: Some(experiment.to_owned()),
            revision: Some(now.revision),
            reason: now.reason.clone(),
            ..News::at(now.at, Kind::Revision, action, &now.by, in_words(before, now))
        });
    }
}

/// An experiment that there is.
pub(super) fn known<'a>(
    state: &'a Held,
    experiment: &str,
) -> Result<&'a LiveExperiment, ChangeError> {
    let planned = state.plan.experiments.iter().any(|e| *e.name == *experiment);
    match state.ledger.live.get(experiment) {
        Some(live) if planned => Ok(live),
        Some(live) if state.ledger.definitions.contains_key(experiment) => {
            if live.state == State::Ended {
                return Err(ChangeError::Ended(experiment.to_owned()));
            }
            // Set aside: it takes no traffic, and can be ended.
            Ok(live)
        }
        Some(_) | None => {
            Err(ChangeError::Missing(format!("experiment {experiment:?} does not exist")))
        }
    }
}

/// The experiment, if it may be changed here and is still at the revision the caller saw.
pub(super) fn as_seen(
    state: &Held,
    experiment: &str,
    seen: u64,
) -> Result<LiveExperiment, ChangeError> {
    let live = known(state, experiment)?;
    if live.state == State::Ended {
        return Err(ChangeError::Ended(experiment.to_owned()));
    }
    at_revision(state, experiment, live, seen)
}

/// The same of one that may also be over, which can be undone, or owned by the file: whether it is.
fn undoable(
    state: &Held,
    experiment: &str,
    seen: u64,
) -> Result<(LiveExperiment, bool), ChangeError> {
    let defined = state.ledger.definitions.contains_key(experiment);
    let live = match state.ledger.live.get(experiment).filter(|_| defined) {
        Some(live) => live,
        None => known(state, experiment)?,
    };
    Ok((unchanged(live, seen)?, is_owned_by_file(state, experiment)))
}

fn is_owned_by_file(state: &Held, experiment: &str) -> bool {
    let mut planned = state.plan.experiments.iter();
    planned.any(|planned| *planned.name == *experiment && planned.owner == Owner::File)
}

fn at_revision(
    state: &Held,
    experiment: &str,
    live: &LiveExperiment,
    seen: u64,
) -> Result<LiveExperiment, ChangeError> {
    if is_owned_by_file(state, experiment) {
        return Err(ChangeError::OwnedByFile(experiment.to_owned()));
    }
    unchanged(live, seen)
}

fn unchanged(live: &LiveExperiment, seen: u64) -> Result<LiveExperiment, ChangeError> {
    if live.revision != seen {
        let (current, by) = (live.revision, live.by.clone());
        return Err(ChangeError::Stale { seen, current, by });
    }
    Ok(live.clone())
}

/// Weights as JSON, in the order of the experiment.
pub fn weights_json(weights: &[(String, f64)]) -> Value {
    Value::Object(weights.iter().map(|(name, weight)| (name.clone(), json!(weight))).collect())
}

/// An experiment as the audit log shows it.
pub(super) fn shown(live: &LiveExperiment) -> Value {
    let mut shown = json!({
        "revision": live.revision,
        "state": live.state,
        "weights": weights_json(&live.weights),
    });
    if let (Some(definition), Value::Object(shown)) = (&live.defines, &mut shown) {
        shown.insert("definition".to_owned(), definition.clone());
    }
    shown
}

pub(super) fn audit(
    actor: &Actor,
    at: i64,
    action: &str,
    experiment: &str,
    before: Option<&LiveExperiment>,
    after: &LiveExperiment,
) -> AuditRow {
    AuditRow {
        at,
        key_id: actor.key_id.clone(),
        actor: actor.name.clone(),
        from: actor.from.clone(),
        action: action.to_owned(),
        target: format!("experiment/{experiment}"),
        reason: after.reason.clone(),
        before: before.map_or(Value::Null, shown),
        after: shown(after),
        request_id: actor.request_id.clone(),
    }
}
