//! Experiments that are defined through the admin API: made, edited, ended.
//!
//! What is asked for is checked as if it stood in the file (`config::Says`). It is kept on the revision
//! with which it comes into force, and stays in force until another one, or until the file itself says
//! something new of that experiment: then the file counts. One that does not fit a new file is set aside,
//! and comes back when it fits again: a file that is good by itself is never refused for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::experiments::{as_seen, audit};
use super::reload::layered;
use super::{ChangeError, Changes, Held};
use crate::clock;
use crate::config::plan::{Owner, Plan};
use crate::config::{Problems, Says, definition, experiment};
use crate::live::{Actor, LiveExperiment};
use crate::store::{Change, RevisionRow, State};

/// The plan of a file with what is defined elsewhere.
pub(super) struct Effective {
    pub(super) plan: Arc<Plan>,
    /// What does not fit, and why.
    pub(super) aside: BTreeMap<String, Problems>,
}

/// What is in force with these definitions. Those of experiments that are over count only where the file
/// declares the experiment: it stays known then.
pub(super) fn effective(
    file: &Says,
    live: &BTreeMap<String, LiveExperiment>,
    definitions: &BTreeMap<String, Value>,
) -> Effective {
    let is_over = |name: &str| live.get(name).is_some_and(|live| live.state == State::Ended);
    let wanted: Vec<(&str, &Map<String, Value>)> = definitions
        .iter()
        .filter(|(name, _)| !is_over(name) || file.line(name).is_some())
        .filter_map(|(name, definition)| Some((name.as_str(), definition.as_object()?)))
        .collect();
    if let Ok(plan) = file.plan_with(&wanted) {
        return Effective { plan, aside: BTreeMap::new() };
    }
    let mut fitting = Vec::new();
    let mut aside = BTreeMap::new();
    for one in wanted {
        fitting.push(one);
        if let Err(problems) = file.plan_with(&fitting) {
            fitting.pop();
            aside.insert(one.0.to_owned(), problems);
        }
    }
    let plan = file.plan_with(&fitting).unwrap_or_else(|_| Arc::clone(&file.plan));
    Effective { plan, aside }
}

/// An experiment that was found good: the plan with it, and its definition in its one form.
struct Checked {
    plan: Arc<Plan>,
    definition: Value,
}

fn checked(state: &Held, name: &str, members: &Map<String, Value>) -> Result<Checked, ChangeError> {
    if members.get("owner").and_then(Value::as_str) == Some("file") {
        let what = "an experiment that the file owns is declared there; leave `owner` out";
        return Err(ChangeError::Invalid(what.to_owned()));
    }
    let is_in_force = |other: &str| {
        other != name && state.plan.experiments.iter().any(|planned| *planned.name == *other)
    };
    let mut all: Vec<(&str, &Map<String, Value>)> = state
        .ledger
        .definitions
        .iter()
        .filter(|(other, _)| is_in_force(other))
        .filter_map(|(other, definition)| Some((other.as_str(), definition.as_object()?)))
        .collect();
    all.push((name, members));
    let plan = state.file.plan_with(&all).map_err(ChangeError::Problems)?;
    let Some(found) = experiment(&plan, name) else {
        return Err(ChangeError::Invalid(format!("experiment {name:?} cannot be read")));
    };
    let definition = definition::of(&plan, found, &[]);
    Ok(Checked { plan, definition })
}

/// `patch` on `target`, as RFC 7396 has it.
fn patched(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut members = target.as_object().cloned().unwrap_or_default();
    for (name, change) in patch {
        if change.is_null() {
            members.remove(name);
        } else {
            let before = members.get(name).unwrap_or(&Value::Null);
            let after = patched(before, change);
            members.insert(name.clone(), after);
        }
    }
    members.into()
}

/// The next revision, and what comes into force with it.
struct Next {
    live: LiveExperiment,
    plan: Arc<Plan>,
    /// The definition in force from here on; `None`: the file's.
    definition: Option<Value>,
    /// What does not fit, if that was worked out anew.
    aside: Option<BTreeMap<String, Problems>>,
}

impl Changes {
    /// Makes an experiment that is not there, or begins one anew that has ended.
    ///
    /// # Errors
    /// [`ChangeError`]; then nothing was changed.
    pub async fn create(
        &self,
        name: &str,
        members: &Map<String, Value>,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<LiveExperiment, ChangeError> {
        let mut state = self.state.lock().await;
        self.store_stops(&mut state).await?;
        let before = state.ledger.live.get(name).cloned();
        let planned = experiment(&state.plan, name);
        if planned.is_some_and(|planned| planned.owner == Owner::File) {
            return Err(ChangeError::OwnedByFile(name.to_owned()));
        }
        let is_over = before.as_ref().is_none_or(|before| before.state == State::Ended);
        if (planned.is_some() || state.aside.contains_key(name)) && !is_over {
            return Err(ChangeError::Exists(format!(
                "experiment {name:?} exists already; change it, or end it first"
            )));
        }
        let Checked { plan, definition } = checked(&state, name, members)?;
        let Some(found) = experiment(&plan, name) else {
            return Err(ChangeError::Missing(format!("experiment {name:?} does not exist")));
        };
        let first = LiveExperiment::first(found, actor, clock::unix_micros())?;
        let live = LiveExperiment {
            revision: before.as_ref().map_or(1, |before| before.revision + 1),
            reason,
            defines: Some(definition.clone()),
            ..first
        };
        let next = Next { live, plan, definition: Some(definition), aside: None };
        let action = "experiment.create";
        let made = self.commit_next(&mut state, name, action, before.as_ref(), next, actor).await?;
        if before.is_some() {
            // What an experiment of this name once counted is none of this one's.
            self.shared.evidence.begin_anew(name);
        }
        Ok(made)
    }

    /// Changes what an experiment is: `patch` on its definition, as RFC 7396 has it.
    ///
    /// # Errors
    /// [`ChangeError`]; then nothing was changed.
    pub async fn edit(
        &self,
        name: &str,
        seen: u64,
        patch: &Map<String, Value>,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<LiveExperiment, ChangeError> {
        let mut state = self.state.lock().await;
        self.store_stops(&mut state).await?;
        let before = as_seen(&state, name, seen)?;
        let current = match experiment(&state.plan, name) {
            Some(planned) => definition::of(&state.plan, planned, &before.weights),
            // Set aside: an edit may make it fit.
            None => {
                let definition = state.ledger.definitions.get(name).unwrap_or(&Value::Null);
                definition::with_weights(definition, &before.weights)
            }
        };
        let wanted = patched(&current, &patch.clone().into());
        let members = wanted.as_object().cloned().unwrap_or_default();
        let Checked { plan, definition } = checked(&state, name, &members)?;
        if definition == current && !state.aside.contains_key(name) {
            return Ok(before);
        }
        let Some(found) = experiment(&plan, name) else {
            return Err(ChangeError::Missing(format!("experiment {name:?} does not exist")));
        };
        let restated = before.restated(found, actor, clock::unix_micros(), reason)?;
        let live = LiveExperiment { defines: Some(definition.clone()), ..restated };
        let next = Next { live, plan, definition: Some(definition), aside: None };
        self.commit_next(&mut state, name, "experiment.edit", Some(&before), next, actor).await
    }

    /// Ends an experiment: the route's backend serves everything, and what was counted stays.
    ///
    /// # Errors
    /// [`ChangeError`]; then nothing was changed.
    pub async fn end(
        &self,
        name: &str,
        seen: u64,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<LiveExperiment, ChangeError> {
        let mut state = self.state.lock().await;
        self.store_stops(&mut state).await?;
        let before = as_seen(&state, name, seen)?;
        let live = before.ended(actor, clock::unix_micros(), reason);
        let mut after = state.ledger.live.clone();
        after.insert(name.to_owned(), live.clone());
        let Effective { plan, aside } = effective(&state.file, &after, &state.ledger.definitions);
        let definition = state.ledger.definitions.get(name).cloned();
        let next = Next { live, plan, definition, aside: Some(aside) };
        self.commit_next(&mut state, name, "experiment.end", Some(&before), next, actor).await
    }

    /// What an experiment was at a revision: its definition; `None` if it was what the file says.
    pub(super) async fn definition_at(
        &self,
        name: &str,
        revision: u64,
    ) -> Result<Option<Value>, ChangeError> {
        let mut before = revision + 1;
        loop {
            let experiment = name.to_owned();
            let found =
                self.store.call(move |store| store.revisions(&experiment, Some(before), 100));
            let rows: Vec<RevisionRow> = found.await?;
            if let Some(definition) = rows.iter().find_map(|row| row.definition.clone()) {
                return Ok(definition.is_object().then_some(definition));
            }
            match rows.last() {
                Some(last) if last.revision > 1 => before = last.revision,
                _ => return Ok(None),
            }
        }
    }

    /// Back to `earlier`, with what the experiment was then.
    pub(super) async fn undo_definition(
        &self,
        state: &mut Held,
        name: &str,
        before: &LiveExperiment,
        earlier: &RevisionRow,
        then: Option<Value>,
        (actor, reason): (&Actor, Option<String>),
    ) -> Result<LiveExperiment, ChangeError> {
        let (plan, definition) = match then.as_ref().and_then(Value::as_object) {
            Some(members) => {
                let Checked { plan, definition } = checked(state, name, members)?;
                (plan, Some(definition))
            }
            None => {
                let mut definitions = state.ledger.definitions.clone();
                definitions.remove(name);
                (effective(&state.file, &state.ledger.live, &definitions).plan, None)
            }
        };
        let Some(found) = experiment(&plan, name) else {
            return Err(ChangeError::Missing(format!(
                "at revision {} the file declared experiment {name:?}, which it does no longer",
                earlier.revision
            )));
        };
        let mut found = found.clone();
        for variant in &mut found.variants {
            let then = earlier.weights.iter().find(|(known, _)| *known == *variant.name);
            variant.weight = then.map_or(0.0, |(_, weight)| *weight);
        }
        let restated = before.restated(&found, actor, clock::unix_micros(), reason)?;
        let live = LiveExperiment {
            state: earlier.state,
            undoes: Some(before.revision),
            defines: Some(definition.clone().unwrap_or(Value::Null)),
            ..restated
        };
        let next = Next { live, plan, definition, aside: None };
        self.commit_next(state, name, "experiment.undo", Some(before), next, actor).await
    }

    /// Stores a revision with what it defines, and puts both in force.
    async fn commit_next(
        &self,
        state: &mut Held,
        name: &str,
        action: &str,
        before: Option<&LiveExperiment>,
        next: Next,
        actor: &Actor,
    ) -> Result<LiveExperiment, ChangeError> {
        let Next { live: next, plan, definition, aside } = next;
        let (layers, moved) = layered(&plan, &state.ledger.layers);
        let entry = audit(actor, next.at, action, name, before, &next);
        let change = Change {
            revisions: vec![(next.to_row(name), entry)],
            layers: moved,
            ..Change::default()
        };
        if let Err(error) = self.keep(change).await {
            let seen = before.map_or(0, |before| before.revision);
            return self.settle(state, name, seen, next, error).await;
        }
        state.ledger.live.insert(name.to_owned(), next.clone());
        match definition {
            Some(definition) => state.ledger.definitions.insert(name.to_owned(), definition),
            None => state.ledger.definitions.remove(name),
        };
        state.ledger.layers = layers;
        state.plan = plan;
        match aside {
            Some(aside) => state.aside = aside,
            None => drop(state.aside.remove(name)),
        }
        self.put_in_force(state);
        self.changed(name, action, before, &next, &actor.name);
        Ok(next)
    }
}
