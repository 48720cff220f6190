//! The file, read again: all of it comes into force, or nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::experiments::{audit, weights_json};
use super::{ChangeError, Changes};
use crate::backends::resolve;
use crate::clock;
use crate::config::plan::Plan;
use crate::live::{Actor, LiveExperiment, LiveLayer, statement};
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

    pub(super) async fn apply_plan(
        &self,
        plan: Arc<Plan>,
        watched: Vec<PathBuf>,
        notices: Vec<String>,
    ) -> Result<u64, ChangeError> {
        let mut state = self.state.lock().await;
        let at = clock::unix_micros();
        let actor = Actor::file();
        let mut live = state.live.clone();
        let statements = &state.statements;
        let mut rows = state.unstored.clone();
        let caught_up = rows.len();
        let mut stated = Vec::new();
        for experiment in &plan.experiments {
            let name = experiment.name.to_string();
            let says = statement(experiment);
            let said = statements.get(&name);
            let next = match live.get(&name) {
                None => Some(LiveExperiment::first(experiment, &actor, at)?),
                // A live change stays in force until the file itself says something new.
                Some(old) if said != Some(&says) => Some(old.restated(experiment, &actor, at)?),
                Some(_) => None,
            };
            if let Some(next) = next {
                let before = live.get(&name);
                let action = if before.is_none() { "experiment.create" } else { "weights.set" };
                let audit = audit(&actor, at, action, &name, before, &next);
                rows.push((next.to_row(&name), audit));
                live.insert(name.clone(), next);
            }
            stated.push((name, says));
        }
        // All that the file says now: what it says no more is forgotten, here as in the store.
        let restated: BTreeMap<String, String> = stated.iter().cloned().collect();
        let says_new = restated != state.statements;
        let mut layers = BTreeMap::new();
        for (index, name) in plan.layers.iter().enumerate() {
            let before = state.layers.get(&**name);
            if let Some(layer) = LiveLayer::restated(before, &plan, index) {
                layers.insert(name.to_string(), layer);
            }
        }
        let kept: Vec<(String, Vec<String>, Vec<u8>)> = layers
            .iter()
            .map(|(name, layer)| (name.clone(), layer.slots.clone(), layer.allocation.to_bytes()))
            .collect();
        let changed: Vec<_> = rows
            .iter()
            .skip(caught_up)
            .map(|(row, _)| (row.experiment.clone(), row.revision))
            .collect();
        self.store
            .call(move |store| {
                if !rows.is_empty() {
                    store.add_revisions(&rows)?;
                }
                if says_new {
                    store.set_file_statements(&stated)?;
                }
                for (name, slots, bytes) in &kept {
                    store.set_layer(name, slots, bytes)?;
                }
                Ok(())
            })
            .await?;

        state.unstored.clear();
        state.plan = Arc::clone(&plan);
        state.live = live;
        state.statements = restated;
        state.layers = layers;
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
        for (experiment, revision) in changed {
            let view = self.view();
            if let Some(now) = view.live.get(&experiment) {
                events::experiment_changed(
                    &experiment,
                    revision,
                    "file",
                    "file",
                    &weights_json(&now.weights),
                );
            }
        }
        Ok(generation)
    }
}
