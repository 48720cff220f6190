//! The file, read again: all of it comes into force, or nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::defined::{Effective, effective};
use super::experiments::audit;
use super::ledger::{Ledger, TRIES, fits, overtaken};
use super::{ChangeError, Changes};
use crate::backends::resolve;
use crate::clock;
use crate::config::plan::{Experiment, Plan};
use crate::config::{Problems, Says, definition};
use crate::live::{Actor, LiveExperiment, LiveLayer, statement};
use crate::news::{Kind, News};
use crate::store::{Change, FileStatement, LayerRow, State, StoreError};
use crate::telemetry::events;

/// How reloads went.
#[derive(Clone, Debug, Default)]
pub struct ReloadStats {
    /// Reloads that were put in force, the start included.
    pub ok: u64,
    /// Reloads that were refused.
    pub failed: u64,
    /// When the last good one came into force, seconds since 1970.
    pub last_success: i64,
    /// What was wrong with the last one, if it was refused.
    pub last_error: Option<String>,
    /// Notices of the plan in force.
    pub notices: Vec<String>,
}

impl Changes {
    /// Reads the file again and puts it in force, or changes nothing.
    ///
    /// # Errors
    /// What is wrong, as a person reads it.
    pub async fn reload(&self) -> Result<u64, String> {
        let file = self.file.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            crate::config::load(&file, &|name| std::env::var(name).ok())
        })
        .await
        .map_err(|error| error.to_string())?;
        let result = match loaded {
            Err(problems) => Err(problems.to_string()),
            Ok(mut loaded) => {
                let mut notices: Vec<String> =
                    loaded.notices.iter().map(ToString::to_string).collect();
                notices.extend(self.keep_what_needs_restart(&mut loaded.plan));
                let says = Says::new(&self.file, loaded.text, loaded.plan);
                self.apply_plan(Arc::new(says), loaded.files, notices)
                    .await
                    .map_err(|error| error.to_string())
            }
        };
        match result {
            Ok(generation) => Ok(generation),
            Err(problems) => {
                let mut reloads = self.reloads.lock();
                reloads.failed += 1;
                reloads.last_error = Some(problems.clone());
                drop(reloads);
                let generation = self.view().generation;
                events::config_refused(&self.file.display().to_string(), generation, &problems);
                let words = format!("the file was refused; configuration {generation} stays");
                let refused = News::now(Kind::Reload, "config.refuse", "file", words);
                let reason = problems.lines().next().map(str::to_owned);
                self.shared.news.tell(News { reason, ..refused });
                Err(problems)
            }
        }
    }

    /// Settings that a reload cannot change keep their values, so that what is shown as in force is,
    /// and each reload says again what waits for a restart.
    fn keep_what_needs_restart(&self, plan: &mut Plan) -> Vec<String> {
        fn keep<T: PartialEq + Clone>(what: &str, old: &T, new: &mut T, notices: &mut Vec<String>) {
            if old != new {
                new.clone_from(old);
                notices.push(format!("{what} changed; that takes a restart, the old value stays"));
            }
        }
        let view = self.view();
        let old = &view.plan;
        let mut notices = Vec::new();
        let said = &mut notices;
        keep("server.listen", &old.server.listen, &mut plan.server.listen, said);
        keep("server.workers", &old.server.workers, &mut plan.server.workers, said);
        keep("admin.listen", &old.admin.listen, &mut plan.admin.listen, said);
        keep("store.url", &old.store, &mut plan.store, said);
        let (kept, new) = (&old.recording, &mut plan.recording);
        keep("recording.outcomes", &kept.outcomes, &mut new.outcomes, said);
        keep("recording.retention", &kept.retention, &mut new.retention, said);
        keep("recording.spool", &kept.spool, &mut new.spool, said);
        keep("recording.spool_bytes", &kept.spool_bytes, &mut new.spool_bytes, said);
        let (kept, new) = (&old.telemetry, &mut plan.telemetry);
        keep("telemetry.access_log", &kept.access_log, &mut new.access_log, said);
        keep("telemetry.otlp", &kept.otlp, &mut new.otlp, said);
        notices
    }

    /// Puts what the file says in force: stored in one transaction, then swapped in.
    pub(super) async fn apply_plan(
        &self,
        file: Arc<Says>,
        watched: Vec<PathBuf>,
        mut notices: Vec<String>,
    ) -> Result<u64, ChangeError> {
        let mut state = self.state.lock().await;
        let at = clock::unix_micros();
        let actor = Actor::file();
        let mut ledger = state.ledger.clone();
        let mut failed: Option<StoreError> = None;
        let mut tries = 0;
        let next = loop {
            let next = restated(&file, ledger, &actor, at)?;
            if next.change.is_empty() {
                break next;
            }
            if let Some(error) = failed.take_if(|error| !overtaken(error) || tries == TRIES) {
                return Err(error.into());
            }
            let kept = self.keep_and_tell(&file.plan, next.change.clone()).await;
            let Err(error) = kept else { break next };
            // It may be stored all the same, or somebody else was faster: worked out from what the
            // store has now, it is nothing any more, or another change.
            let Ok(stored) = self.as_stored(&state).await else { return Err(error.into()) };
            ledger = stored;
            failed = Some(error);
            tries += 1;
        };

        let Restated { ledger: next, effective: Effective { plan, aside }, change: _ } = next;
        notices.extend(aside.iter().map(|(name, problems)| set_aside(name, problems)));
        let changed: Vec<_> = next
            .live
            .iter()
            .filter(|(name, now)| state.ledger.live.get(*name) != Some(now))
            .map(|(name, now)| (name.clone(), state.ledger.live.get(name).cloned(), now.clone()))
            .collect();
        (state.file, state.plan, state.aside) = (file, Arc::clone(&plan), aside);
        state.ledger = next;
        self.edge_certificates.replace(&plan.server.certificates);
        self.admin_certificates.replace(&plan.admin.certificates);
        let generation = self.put_in_force(&mut state);
        drop(state);
        resolve::resolve_all(&self.shared, resolve::FIRST_WAIT).await;

        *self.watched.lock() = watched;
        {
            let mut reloads = self.reloads.lock();
            reloads.ok += 1;
            reloads.last_success = clock::unix_seconds();
            reloads.last_error = None;
            reloads.notices.clone_from(&notices);
        }
        events::config_loaded(&self.file.display().to_string(), generation, &notices);
        let words = format!("configuration {generation} is in force");
        self.shared.news.tell(News::now(Kind::Reload, "config.load", "file", words));
        for (name, before, now) in changed {
            self.changed(&name, "file", before.as_ref(), &now, &now.by);
        }
        Ok(generation)
    }
}

/// That an experiment of the API's does not fit this file.
fn set_aside(name: &str, problems: &Problems) -> String {
    let what: Vec<&str> = problems.list.iter().map(|problem| &*problem.what).collect();
    format!(
        "experiment {name:?}, made through the admin API, does not fit this file and is set aside: {}; \
         it comes back with a file that it fits, `weir experiment end {name}` ends it",
        what.join("; ")
    )
}

/// What is known once `file` is in force, and what has to be stored for that.
struct Restated {
    ledger: Ledger,
    change: Change,
    effective: Effective,
}

fn restated(file: &Says, before: Ledger, actor: &Actor, at: i64) -> Result<Restated, ChangeError> {
    let Ledger {
        mut live,
        layers: old_layers,
        statements: said,
        mut definitions,
        unstored,
        unstored_ramps,
    } = before;
    let (mut revisions, ramps) = (unstored, unstored_ramps);
    let says = statements(&file.plan);
    let mut taken = taken_over(&live, &definitions, &said, &says);
    let now = loop {
        definitions.retain(|name, _| !taken.contains(name));
        let now = effective(file, &live, &definitions);
        // What the file says of it fits, what was made of it does not.
        let unfit: Vec<String> =
            now.aside.keys().filter(|name| says.contains_key(*name)).cloned().collect();
        if unfit.is_empty() {
            break now;
        }
        taken.extend(unfit);
    };
    for name in taken.iter().filter(|name| !says.contains_key(*name)) {
        let Some(old) = live.get(name) else { continue };
        // It goes with what the file said of it; whoever reads the store again must know.
        let reason = Some("the file does not declare it any more".to_owned());
        let ended = old.ended(actor, at, reason);
        let next = LiveExperiment { defines: Some(Value::Null), ..ended };
        let audit = audit(actor, at, "experiment.end", name, Some(old), &next);
        revisions.push((next.to_row(name), audit));
        live.insert(name.clone(), next);
    }
    for experiment in &now.plan.experiments {
        let name = experiment.name.to_string();
        let is_taken = taken.contains(&name);
        let is_defined = definitions.contains_key(&name);
        let says = says.get(&name).map(|says| &says.split);
        let is_said_anew = !is_defined && said.get(&name).map(|said| &said.split) != says;
        let old = live.get(&name);
        let next = match old {
            None => Some(LiveExperiment::first(experiment, actor, at)?),
            Some(old) if is_taken => {
                let reason = Some("the file declares it now".to_owned());
                let next = old.restated(experiment, actor, at, reason)?;
                // One that is over and that the file declares for the first time begins again.
                let begins = old.state == State::Ended && !said.contains_key(&name);
                let state = if begins { State::Running } else { old.state };
                Some(LiveExperiment { state, defines: Some(Value::Null), ..next })
            }
            // A live change stays in force until the file itself says something new.
            Some(old) if is_said_anew || !fits(&now.plan, &name, old) => {
                let reason = Some("the file's statement changed".to_owned());
                Some(old.restated(experiment, actor, at, reason)?)
            }
            Some(_) => None,
        };
        if let Some(next) = next {
            let action = if old.is_none() { "experiment.create" } else { "weights.set" };
            let audit = audit(actor, at, action, &name, old, &next);
            revisions.push((next.to_row(&name), audit));
            live.insert(name, next);
        }
    }
    let statements = (says != said).then(|| says.values().cloned().collect());
    let (layers, moved) = layered(&now.plan, &old_layers);
    let ledger = Ledger { live, layers, statements: says, definitions, ..Ledger::default() };
    let change = Change { revisions, statements, layers: moved, ramps, ..Change::default() };
    Ok(Restated { ledger, change, effective: now })
}

/// What the file says of its experiments.
fn statements(plan: &Plan) -> BTreeMap<String, FileStatement> {
    let of = |experiment: &Experiment| FileStatement {
        experiment: experiment.name.to_string(),
        split: statement(experiment),
        whole: Some(definition::of(plan, experiment, &[]).to_string()),
    };
    plan.experiments.iter().map(|e| (e.name.to_string(), of(e))).collect()
}

/// Experiments that were defined elsewhere and are the file's from here on: it says something new of
/// them, and something else than what is in force.
fn taken_over(
    live: &BTreeMap<String, LiveExperiment>,
    definitions: &BTreeMap<String, Value>,
    said: &BTreeMap<String, FileStatement>,
    says: &BTreeMap<String, FileStatement>,
) -> Vec<String> {
    let is_taken = |name: &String, definition: &Value| {
        let (before, now) = (said.get(name), says.get(name));
        let is_same = match (before, now) {
            (None, None) => true,
            (Some(before), Some(now)) => before.whole.is_none() || before.whole == now.whole,
            (Some(_), None) | (None, Some(_)) => false,
        };
        // As it is exported.
        let in_force = live
            .get(name)
            .filter(|live| live.state != State::Ended)
            .map(|live| definition::with_weights(definition, &live.weights).to_string());
        !is_same && now.and_then(|now| now.whole.as_ref()) != in_force.as_ref()
    };
    let all = definitions.iter().filter(|(name, definition)| is_taken(name, definition));
    all.map(|(name, _)| name.clone()).collect()
}

/// Layers as `plan` states them, and those that have to be stored.
pub(super) fn layered(
    plan: &Plan,
    before: &BTreeMap<String, LiveLayer>,
) -> (BTreeMap<String, LiveLayer>, Vec<LayerRow>) {
    let mut layers = BTreeMap::new();
    let mut moved = Vec::new();
    for (index, name) in plan.layers.iter().enumerate() {
        let old = before.get(&**name);
        if let Some(layer) = LiveLayer::restated(old, plan, index) {
            if old != Some(&layer) {
                let bytes = layer.allocation.to_bytes();
                moved.push((name.to_string(), layer.slots.clone(), bytes));
            }
            layers.insert(name.to_string(), layer);
        }
    }
    (layers, moved)
}
