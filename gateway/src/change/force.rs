//! From what is held to what is in force: one snapshot, swapped in whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use policies::api_key::{KeyEntry, KeyRing};

use super::keys::{entry, grants};
use super::{Changes, Held, View};
use crate::backends::{Backends, resolve};
use crate::comparison::Comparisons;
use crate::config::plan::Plan;
use crate::live::LiveExperiment;
use crate::recorder::tally::Tallies;
use crate::request::shadow::gate::Gates;
use crate::snapshot::{self, Parts, Snapshot};
use crate::store::State;

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
        gates: &Gates::default(),
        comparisons: &Comparisons::default(),
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
        feedback: plan.feedback.clone(),
        telemetry: plan.telemetry.clone(),
        declared_keys: Vec::new(),
        backends: Vec::new(),
        routes: Vec::new(),
        experiments: Vec::new(),
        shadows: Vec::new(),
        layers: Vec::new(),
        holdout_bp: 0,
        webhooks: Vec::new(),
    };
    snapshot::build(&empty, parts, &Backends::new(workers), &Tallies::new(workers))
}

impl Changes {
    /// Builds the next snapshot from the state and swaps it in.
    pub(super) fn put_in_force(&self, state: &mut Held) -> u64 {
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
            live: &without(&state.ledger.live, &stopping),
            layers: &state.ledger.layers,
            hash_key: routing::HashKey(self.installation.hash_key),
            receipt_key: self.installation.receipt_key,
            gates: &self.shared.gates,
            comparisons: &self.shared.comparisons,
        };
        let next = snapshot::build(&state.plan, parts, &self.shared.backends, &self.shared.tallies);
        // Before anybody can be sent there.
        for backend in &next.backends {
            resolve::literals(&self.shared.backends, backend);
        }
        self.shared.backends.retire(&next.backends);
        self.shared
            .gates
            .retire(|name| state.plan.shadows.iter().any(|shadow| *shadow.name == *name));
        self.shared.evidence.open(&next);
        self.shared.comparisons.open(&next);
        self.shared.current.store(Arc::new(next));
        let planned = |name: &str| state.plan.experiments.iter().any(|e| *e.name == *name);
        let (live, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            state.ledger.live.clone().into_iter().partition(|(name, _)| planned(name));
        let defined = |name: &str| state.ledger.definitions.contains_key(name);
        let past = others.into_iter().filter(|(name, _)| defined(name)).collect();
        self.view.store(Arc::new(View {
            plan: Arc::clone(&state.plan),
            file: Arc::clone(&state.file),
            definitions: state.ledger.definitions.clone(),
            aside: state.aside.clone(),
            past,
            live,
            layers: state.ledger.layers.clone(),
            generation: state.generation,
        }));
        drop(stopping);
        state.generation
    }

    /// Takes an experiment out of the decisions before its stop has its turn: a change that waits for
    /// the store holds the turn, and must not hold up the kill switch (F30).
    pub(super) fn stop_deciding(&self, experiment: &str) {
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
            gates: &self.shared.gates,
            comparisons: &self.shared.comparisons,
        };
        let next = snapshot::build(&view.plan, parts, &self.shared.backends, &self.shared.tallies);
        self.shared.evidence.open(&next);
        self.shared.current.store(Arc::new(next));
    }

    /// The stop has had its turn, and its revision says the rest.
    pub(super) fn stop_has_decided(&self, experiment: &str) {
        let mut stopping = self.stopping.lock();
        if let Some(place) = stopping.iter().position(|name| name == experiment) {
            stopping.swap_remove(place);
        }
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
