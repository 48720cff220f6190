//! The file, read again: all of it comes into force, or nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::experiments::audit;
use super::ledger::{Ledger, TRIES, fits, overtaken};
use super::{ChangeError, Changes};
use crate::backends::resolve;
use crate::clock;
use crate::config::plan::Plan;
use crate::live::{Actor, LiveExperiment, LiveLayer, statement};
use crate::news::{Kind, News};
use crate::store::{Change, StoreError};
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
                self.apply_plan(Arc::new(loaded.plan), loaded.files, notices)
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

    /// Puts `plan` in force: stored in one transaction, then swapped in.
    pub(super) async fn apply_plan(
        &self,
        plan: Arc<Plan>,
        watched: Vec<PathBuf>,
        notices: Vec<String>,
    ) -> Result<u64, ChangeError> {
        let mut state = self.state.lock().await;
        let at = clock::unix_micros();
        let actor = Actor::file();
        let mut ledger = state.ledger.clone();
        let mut failed: Option<StoreError> = None;
        let mut tries = 0;
        let next = loop {
            let next = restated(&plan, ledger, &actor, at)?;
            if next.1.is_empty() {
                break next.0;
            }
            if let Some(error) = failed.take_if(|error| !overtaken(error) || tries == TRIES) {
                return Err(error.into());
            }
            let Err(error) = self.keep_and_tell(&plan, next.1).await else { break next.0 };
            // It may be stored all the same, or somebody else was faster: worked out from what the
            // store has now, it is nothing any more, or another change.
            let Ok(stored) = self.as_stored(&state).await else { return Err(error.into()) };
            ledger = stored;
            failed = Some(error);
            tries += 1;
        };

        let changed: Vec<_> = next
            .live
            .iter()
            .filter(|(name, now)| state.ledger.live.get(*name) != Some(now))
            .map(|(name, now)| (name.clone(), state.ledger.live.get(name).cloned(), now.clone()))
            .collect();
        state.plan = Arc::clone(&plan);
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

/// What is known once `plan` is in force, and what has to be stored for that.
fn restated(
    plan: &Plan,
    before: Ledger,
    actor: &Actor,
    at: i64,
) -> Result<(Ledger, Change), ChangeError> {
    let Ledger { mut live, layers: old_layers, statements: said, unstored, unstored_ramps } =
        before;
    let (mut revisions, ramps) = (unstored, unstored_ramps);
    let mut statements = Vec::new();
    for experiment in &plan.experiments {
        let name = experiment.name.to_string();
        let says = statement(experiment);
        let old = live.get(&name);
        let next = match old {
            None => Some(LiveExperiment::first(experiment, actor, at)?),
            // A live change stays in force until the file itself says something new.
            Some(old) if said.get(&name) != Some(&says) || !fits(plan, &name, old) => {
                Some(old.restated(experiment, actor, at)?)
            }
            Some(_) => None,
        };
        if let Some(next) = next {
            let action = if old.is_none() { "experiment.create" } else { "weights.set" };
            let audit = audit(actor, at, action, &name, old, &next);
            revisions.push((next.to_row(&name), audit));
            live.insert(name.clone(), next);
        }
        statements.push((name, says));
    }
    // All that the file says now: what it says no more is forgotten, here as in the store.
    let says: BTreeMap<String, String> = statements.iter().cloned().collect();
    let statements = (says != said).then_some(statements);
    let mut layers = BTreeMap::new();
    let mut moved = Vec::new();
    for (index, name) in plan.layers.iter().enumerate() {
        let old = old_layers.get(&**name);
        if let Some(layer) = LiveLayer::restated(old, plan, index) {
            if old != Some(&layer) {
                let bytes = layer.allocation.to_bytes();
                moved.push((name.to_string(), layer.slots.clone(), bytes));
            }
            layers.insert(name.to_string(), layer);
        }
    }
    let after = Ledger { live, layers, statements: says, ..Ledger::default() };
    Ok((after, Change { revisions, statements, layers: moved, ramps, ..Change::default() }))
}
