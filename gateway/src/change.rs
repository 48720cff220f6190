//! The one writer: file, admin API and ramp all change the gateway through here.
//!
//! A change is worked out, stored with its audit entry in one transaction, and only then put in force
//! by one swap; the answer comes after the swap. Whoever changes an experiment names the revision it
//! saw, and is refused if somebody was faster. The first start is a change from nothing, so start and
//! reload are one path. What fails leaves everything as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use policies::api_key::{self, KeyEntry, KeyRing};
use policies::{Grants, KeyLimits, Role};
use serde_json::{Value, json};

use crate::backends::{Backends, resolve};
use crate::clock;
use crate::config::plan::{Owner, Plan};
use crate::ids;
use crate::limits::KeyStates;
use crate::live::{Actor, LiveExperiment, LiveLayer, WeightsFault, statement};
use crate::recorder::tally::Tallies;
use crate::server::tls::Certificates;
use crate::snapshot::{self, Parts, Snapshot};
use crate::store::thread::StoreHandle;
use crate::store::{AuditRow, Installation, KeyRow, RevisionRow, State, StoreError};
use crate::telemetry::events;
use crate::worker::Shared;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// No such experiment, key or revision.
    #[error("{0}")]
    Missing(String),
    /// The file owns it.
    #[error(
        "experiment {0:?} is owned by the file (`owner = \"file\"`); change it there and reload"
    )]
    OwnedByFile(String),
    /// The file declares it.
    #[error("key {0:?} is declared in the file; take it out there and reload")]
    DeclaredInFile(String),
    /// Somebody was faster.
    #[error("revision {seen} is not in force any more: {by} made revision {current}")]
    Stale {
        /// The revision the caller saw.
        seen: u64,
        /// The one in force.
        current: u64,
        /// Who made it.
        by: String,
    },
    /// Not possible as asked.
    #[error("{0}")]
    Invalid(String),
    /// Not allowed to this caller.
    #[error("{0}")]
    Forbidden(String),
    /// Nothing was changed, because it could not be stored.
    #[error("nothing was changed: {0}")]
    Store(#[from] StoreError),
}

impl From<WeightsFault> for ChangeError {
    fn from(fault: WeightsFault) -> Self {
        Self::Invalid(fault.to_string())
    }
}

/// What is known beyond the snapshot: held by the writer alone.
#[derive(Debug)]
struct Held {
    plan: Arc<Plan>,
    live: BTreeMap<String, LiveExperiment>,
    layers: BTreeMap<String, LiveLayer>,
    statements: BTreeMap<String, String>,
    keys: Vec<KeyRow>,
    /// In force and not stored: stops while the store was away. Stored before whatever comes next.
    unstored: Vec<(RevisionRow, AuditRow)>,
    generation: u64,
}

/// What anybody may look at: the same, frozen at the last change.
#[derive(Debug)]
pub struct View {
    /// The plan in force.
    pub plan: Arc<Plan>,
    /// Experiments as they stand.
    pub live: BTreeMap<String, LiveExperiment>,
    /// Layers as they stand.
    pub layers: BTreeMap<String, LiveLayer>,
    /// What the file says of each experiment's split (see `live::statement`).
    pub statements: BTreeMap<String, String>,
    /// Number of the snapshot.
    pub generation: u64,
}

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

/// The writer.
pub struct Changes {
    state: tokio::sync::Mutex<Held>,
    view: arc_swap::ArcSwap<View>,
    /// Experiments whose stop waits for its turn: they decide nothing, whatever their revision says.
    /// Held while a snapshot is built and swapped in.
    stopping: Mutex<Vec<String>>,
    shared: Arc<Shared>,
    key_states: KeyStates,
    installation: Installation,
    store: StoreHandle,
    edge_certificates: Arc<Certificates>,
    admin_certificates: Arc<Certificates>,
    file: PathBuf,
    watched: Mutex<Vec<PathBuf>>,
    reloads: Mutex<ReloadStats>,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("file", &self.file).finish_non_exhaustive()
    }
}

/// What the store knew when the process started.
#[derive(Debug)]
pub struct Stored {
    /// Secrets.
    pub installation: Installation,
    /// Keys.
    pub keys: Vec<KeyRow>,
    /// Newest revisions.
    pub revisions: Vec<RevisionRow>,
    /// What the file said last.
    pub statements: Vec<(String, String)>,
    /// Layers.
    pub layers: Vec<(String, Vec<String>, Vec<u8>)>,
}

impl Stored {
    /// Reads everything. Blocks.
    ///
    /// # Errors
    /// The store's.
    pub fn read(store: &StoreHandle) -> Result<Self, StoreError> {
        store.call_blocking(|store| {
            Ok(Self {
                installation: store.installation()?,
                keys: store.keys()?,
                revisions: store.experiments()?,
                statements: store.file_statements()?,
                layers: store.layers()?,
            })
        })
    }
}

/// The first snapshot, before anything serves: nothing in it, so that whatever asks early is refused.
pub fn empty_snapshot(plan: &Plan, workers: usize) -> Snapshot {
    let parts = Parts {
        generation: 0,
        keys: Arc::new(KeyRing::new([0; 32], [], [])),
        key_states: Default::default(),
        live: &BTreeMap::new(),
        layers: &BTreeMap::new(),
        hash_key: routing::HashKey([0; 16]),
        receipt_key: [0; 32],
        workers,
    };
    let empty = Plan {
        server: crate::config::plan::Server {
            listen: plan.server.listen,
            workers,
            health_path: None,
            certificates: Vec::new(),
            trusted_peers: Vec::new(),
            limits: plan.server.limits.clone(),
            pre_drain: plan.server.pre_drain,
            drain_timeout: plan.server.drain_timeout,
        },
        admin: crate::config::plan::Admin {
            listen: plan.admin.listen,
            certificates: Vec::new(),
            hosts: Vec::new(),
        },
        store: plan.store.clone(),
        recording: plan.recording.clone(),
        telemetry: plan.telemetry.clone(),
        declared_keys: Vec::new(),
        backends: Vec::new(),
        routes: Vec::new(),
        experiments: Vec::new(),
        shadows: Vec::new(),
        layers: Vec::new(),
        holdout_bp: 0,
    };
    snapshot::build(&empty, parts, &Backends::new(workers), &Tallies::new(workers))
}

impl Changes {
    /// Makes the writer and puts `plan` in force: a change from nothing.
    ///
    /// # Errors
    /// When the store cannot be read or written, or holds an allocation that cannot be read.
    #[expect(clippy::too_many_arguments, reason = "the parts of the process meet here once")]
    pub async fn start(
        file: &Path,
        plan: Plan,
        watched: Vec<PathBuf>,
        notices: Vec<String>,
        stored: Stored,
        shared: Arc<Shared>,
        store: StoreHandle,
        certificates: (Arc<Certificates>, Arc<Certificates>),
    ) -> Result<Arc<Self>, ChangeError> {
        let mut live = BTreeMap::new();
        for row in &stored.revisions {
            let experiment = LiveExperiment::from_row(row)
                .map_err(|error| StoreError::Damaged(format!("experiment {error}")))?;
            live.insert(row.experiment.clone(), experiment);
        }
        let mut layers = BTreeMap::new();
        for (name, slots, bytes) in &stored.layers {
            let allocation = routing::Allocation::from_bytes(bytes)
                .map_err(|error| StoreError::Damaged(format!("layer {name}: {error}")))?;
            layers.insert(name.clone(), LiveLayer { slots: slots.clone(), allocation });
        }
        let plan = Arc::new(plan);
        let state = Held {
            plan: Arc::clone(&plan),
            live,
            layers,
            statements: stored.statements.into_iter().collect(),
            keys: stored.keys,
            unstored: Vec::new(),
            generation: 0,
        };
        let view = View {
            plan: Arc::clone(&plan),
            live: BTreeMap::new(),
            layers: BTreeMap::new(),
            statements: BTreeMap::new(),
            generation: 0,
        };
        let changes = Arc::new(Self {
            state: tokio::sync::Mutex::new(state),
            view: arc_swap::ArcSwap::from_pointee(view),
            stopping: Mutex::default(),
            shared,
            key_states: KeyStates::default(),
            installation: stored.installation,
            store,
            edge_certificates: certificates.0,
            admin_certificates: certificates.1,
            file: file.to_owned(),
            watched: Mutex::new(watched.clone()),
            reloads: Mutex::default(),
        });
        changes.apply_plan(plan, watched, notices).await?;
        Ok(changes)
    }

    /// What is in force.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The installation's identity and secrets.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// How reloads went.
    pub fn reloads(&self) -> ReloadStats {
        self.reloads.lock().clone()
    }

    /// Files whose change calls for a reload.
    pub fn watched(&self) -> Vec<PathBuf> {
        self.watched.lock().clone()
    }

    /// The configuration file.
    pub fn file(&self) -> &Path {
        &self.file
    }

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

    async fn apply_plan(
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

    /// Builds the next snapshot from the state and swaps it in.
    fn put_in_force(&self, state: &mut Held) -> u64 {
        let stopping = self.stopping.lock();
        state.generation += 1;
        let declared = state.plan.declared_keys.iter().map(|key| {
            let entry = KeyEntry {
                id: Arc::clone(&key.name),
                name: Arc::clone(&key.name),
                role: key.role,
                grants: grants(
                    key.routes.as_deref().map(|r| r.iter().map(|name| &**name).collect()),
                ),
                expires_at_unix: None,
                revoked: false,
                limits: key.limits,
            };
            (key.hash, entry)
        });
        let stored = state.keys.iter().filter_map(|row| Some((row.hash, entry(row)?)));
        let keys = Arc::new(KeyRing::new(self.installation.pepper, stored, declared));
        let key_states =
            self.key_states.adopt(keys.entries().map(|entry| (&entry.id, entry.limits)));
        let parts = Parts {
            generation: state.generation,
            keys,
            key_states,
            live: &without(&state.live, &stopping),
            layers: &state.layers,
            hash_key: routing::HashKey(self.installation.hash_key),
            receipt_key: self.installation.receipt_key,
            workers: self.shared.open.len(),
        };
        let next = snapshot::build(&state.plan, parts, &self.shared.backends, &self.shared.tallies);
        // Before anybody can be sent there.
        for backend in &next.backends {
            resolve::literals(&self.shared.backends, backend);
        }
        self.shared.backends.retire(&next.backends);
        self.shared.current.store(Arc::new(next));
        self.view.store(Arc::new(View {
            plan: Arc::clone(&state.plan),
            live: state
                .live
                .iter()
                .filter(|(name, _)| state.plan.experiments.iter().any(|e| *e.name == ***name))
                .map(|(name, live)| (name.clone(), live.clone()))
                .collect(),
            layers: state.layers.clone(),
            statements: state.statements.clone(),
            generation: state.generation,
        }));
        drop(stopping);
        state.generation
    }

    /// Takes an experiment out of the decisions before its stop has its turn: a change that waits for
    /// the store holds the turn, and must not hold up the kill switch (F30).
    fn stop_deciding(&self, experiment: &str) {
        let mut stopping = self.stopping.lock();
        stopping.push(experiment.to_owned());
        let view = self.view();
        let current = self.shared.current.load();
        let parts = Parts {
            generation: view.generation,
            keys: Arc::clone(&current.keys),
            key_states: current.key_states.clone(),
            live: &without(&view.live, &stopping),
            layers: &view.layers,
            hash_key: routing::HashKey(self.installation.hash_key),
            receipt_key: self.installation.receipt_key,
            workers: self.shared.open.len(),
        };
        let next = snapshot::build(&view.plan, parts, &self.shared.backends, &self.shared.tallies);
        self.shared.current.store(Arc::new(next));
    }

    /// The stop has had its turn, and its revision says the rest.
    fn stop_has_decided(&self, experiment: &str) {
        let mut stopping = self.stopping.lock();
        if let Some(place) = stopping.iter().position(|name| name == experiment) {
            stopping.swap_remove(place);
        }
    }

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
        let before = changeable(&state, experiment)?.clone();
        if before.revision != seen {
            return Err(ChangeError::Stale { seen, current: before.revision, by: before.by });
        }
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
        if before.state == State::Stopped {
            self.store_rows(state, Vec::new()).await?;
            return Ok(before);
        }
        let next = before.stopped(actor, clock::unix_micros(), reason);
        // In force first: nothing may delay it.
        state.live.insert(experiment.to_owned(), next.clone());
        self.put_in_force(state);
        let action = "experiment.stop";
        let stored = self.store_revision(state, experiment, action, &before, &next, actor).await;
        if let Err(error) = stored {
            let audit = audit(actor, next.at, action, experiment, Some(&before), &next);
            state.unstored.push((next.to_row(experiment), audit));
            return Err(error);
        }
        Ok(next)
    }

    /// Back to an earlier revision: the one before the newest, or `to`.
    ///
    /// # Errors
    /// [`ChangeError`]; then nothing was changed.
    pub async fn undo(
        &self,
        experiment: &str,
        to: Option<u64>,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<LiveExperiment, ChangeError> {
        let mut state = self.state.lock().await;
        let before = changeable(&state, experiment)?.clone();
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
        self.store_revision(state, experiment, action, before, &next, actor).await?;
        state.live.insert(experiment.to_owned(), next.clone());
        self.put_in_force(state);
        Ok(next)
    }

    async fn store_revision(
        &self,
        state: &mut Held,
        experiment: &str,
        action: &str,
        before: &LiveExperiment,
        next: &LiveExperiment,
        actor: &Actor,
    ) -> Result<(), ChangeError> {
        let audit = audit(actor, next.at, action, experiment, Some(before), next);
        self.store_rows(state, vec![(next.to_row(experiment), audit)]).await?;
        events::experiment_changed(
            experiment,
            next.revision,
            action,
            &actor.name,
            &weights_json(&next.weights),
        );
        Ok(())
    }

    /// Stores `rows`, after those that could not be stored when they came into force: revisions have
    /// no gaps.
    async fn store_rows(
        &self,
        state: &mut Held,
        rows: Vec<(RevisionRow, AuditRow)>,
    ) -> Result<(), ChangeError> {
        let mut all = state.unstored.clone();
        all.extend(rows);
        if all.is_empty() {
            return Ok(());
        }
        self.store.call(move |store| store.add_revisions(&all)).await?;
        state.unstored.clear();
        Ok(())
    }

    /// Keys as stored, without secrets.
    pub async fn keys(&self) -> Vec<KeyRow> {
        self.state.lock().await.keys.clone()
    }

    /// Adds a key. Its secret is given back once and never kept.
    ///
    /// # Errors
    /// [`ChangeError`]; then there is no key.
    pub async fn add_key(
        &self,
        mut row: KeyRow,
        secret: Option<&str>,
        actor: &Actor,
    ) -> Result<(KeyRow, String), ChangeError> {
        let mut random = [0; 40];
        ids::random(&mut random)
            .map_err(|error| StoreError::Unavailable(format!("no random numbers: {error}")))?;
        let made = api_key::make(&random);
        let secret = secret.map_or_else(|| made.secret.expose().to_owned(), str::to_owned);
        row.id = made.id;
        row.hash = api_key::stored_hash(&self.installation.pepper, &secret);
        row.created_at = clock::unix_seconds();
        row.created_by.clone_from(&actor.name);
        let mut state = self.state.lock().await;
        if let Some(routes) = &row.routes
            && let Some(unknown) = routes
                .iter()
                .find(|route| !state.plan.routes.iter().any(|known| *known.name == ***route))
        {
            return Err(ChangeError::Invalid(format!("route {unknown:?} is not defined")));
        }
        let audit = AuditRow {
            at: clock::unix_micros(),
            key_id: actor.key_id.clone(),
            actor: actor.name.clone(),
            from: actor.from.clone(),
            action: "key.create".into(),
            target: format!("key/{}", row.id),
            reason: None,
            before: Value::Null,
            after: serde_json::to_value(&row).unwrap_or_default(),
            request_id: actor.request_id.clone(),
        };
        let stored = row.clone();
        self.store.call(move |store| store.add_key(&stored, &audit)).await?;
        state.keys.push(row.clone());
        self.put_in_force(&mut state);
        Ok((row, secret))
    }

    /// Revokes a key: effective with the next request.
    ///
    /// # Errors
    /// [`ChangeError`]; then the key works on.
    pub async fn revoke_key(
        &self,
        id: &str,
        may: impl Fn(Role, &Grants) -> bool,
        actor: &Actor,
    ) -> Result<KeyRow, ChangeError> {
        let mut state = self.state.lock().await;
        let Some(place) = state.keys.iter().position(|key| key.id == id) else {
            if state.plan.declared_keys.iter().any(|key| *key.name == *id) {
                return Err(ChangeError::DeclaredInFile(id.to_owned()));
            }
            return Err(ChangeError::Missing(format!("key {id:?} does not exist")));
        };
        let before = state.keys[place].clone();
        let routes = grants(before.routes.as_ref().map(|r| r.iter().map(|name| &**name).collect()));
        if !before.role.parse().is_ok_and(|role| may(role, &routes)) {
            return Err(ChangeError::Forbidden(format!(
                "this credential may not revoke a key of role {} for these routes",
                before.role
            )));
        }
        if before.revoked_at.is_some() {
            return Ok(before);
        }
        let at = clock::unix_seconds();
        let after = KeyRow { revoked_at: Some(at), ..before.clone() };
        let audit = AuditRow {
            at: clock::unix_micros(),
            key_id: actor.key_id.clone(),
            actor: actor.name.clone(),
            from: actor.from.clone(),
            action: "key.revoke".into(),
            target: format!("key/{id}"),
            reason: None,
            before: serde_json::to_value(&before).unwrap_or_default(),
            after: serde_json::to_value(&after).unwrap_or_default(),
            request_id: actor.request_id.clone(),
        };
        let id = id.to_owned();
        self.store.call(move |store| store.revoke_key(&id, at, &audit)).await?;
        state.keys[place] = after.clone();
        self.put_in_force(&mut state);
        Ok(after)
    }
}

/// Experiments as they stand, but those in `stopping` as stopped.
fn without(
    live: &BTreeMap<String, LiveExperiment>,
    stopping: &[String],
) -> BTreeMap<String, LiveExperiment> {
    let mut live = live.clone();
    for name in stopping {
        if let Some(experiment) = live.get_mut(name) {
            experiment.state = State::Stopped;
        }
    }
    live
}

fn known<'a>(state: &'a Held, experiment: &str) -> Result<&'a LiveExperiment, ChangeError> {
    let declared = state.plan.experiments.iter().any(|e| *e.name == *experiment);
    state
        .live
        .get(experiment)
        .filter(|_| declared)
        .ok_or_else(|| ChangeError::Missing(format!("experiment {experiment:?} does not exist")))
}

fn changeable<'a>(state: &'a Held, experiment: &str) -> Result<&'a LiveExperiment, ChangeError> {
    let live = known(state, experiment)?;
    let owner = state.plan.experiments.iter().find(|e| *e.name == *experiment).map(|e| e.owner);
    if owner == Some(Owner::File) {
        return Err(ChangeError::OwnedByFile(experiment.to_owned()));
    }
    Ok(live)
}

fn grants(routes: Option<Vec<&str>>) -> Grants {
    routes.map_or(Grants::All, |routes| Grants::Only(routes.into_iter().map(Arc::from).collect()))
}

/// A stored key as the ring knows it; `None` if its role is not one of this version's.
fn entry(row: &KeyRow) -> Option<KeyEntry> {
    Some(KeyEntry {
        id: Arc::from(&*row.id),
        name: Arc::from(&*row.name),
        role: row.role.parse().ok()?,
        grants: grants(row.routes.as_ref().map(|r| r.iter().map(|name| &**name).collect())),
        expires_at_unix: row.expires_at,
        revoked: row.revoked_at.is_some(),
        limits: KeyLimits {
            requests_per_second: row.requests_per_second,
            concurrent: row.concurrent,
            tokens_per_minute: row.tokens_per_minute,
        },
    })
}

/// Weights as JSON, in the order of the experiment.
pub fn weights_json(weights: &[(String, f64)]) -> Value {
    Value::Object(weights.iter().map(|(name, weight)| (name.clone(), json!(weight))).collect())
}

fn audit(
    actor: &Actor,
    at: i64,
    action: &str,
    experiment: &str,
    before: Option<&LiveExperiment>,
    after: &LiveExperiment,
) -> AuditRow {
    let shown = |live: &LiveExperiment| {
        json!({
            "revision": live.revision,
            "state": live.state,
            "weights": weights_json(&live.weights),
        })
    };
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
