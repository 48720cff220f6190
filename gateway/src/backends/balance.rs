//! Which endpoint of a backend serves a request.
//!
//! Only endpoints that serve are considered; if none does, all are (hardening F06: better an attempt
//! that may fail than a certain refusal), unless there are none at all.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use pingora_ketama::{Bucket, Continuum};

use super::{Backend, Endpoint, EndpointSet};
use crate::config::plan::Balance;

/// A ketama ring over the addresses of a backend: a unit stays on its endpoint, and when one leaves
/// only its own units move.
pub struct Ring(Continuum);

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

impl Ring {
    /// Over `endpoints`, all with the same weight.
    pub fn new(endpoints: &[Arc<Endpoint>]) -> Self {
        let buckets: Vec<Bucket> = endpoints.iter().map(|e| Bucket::new(e.address, 1)).collect();
        Self(Continuum::new(&buckets))
    }
}

/// Chooses an endpoint. `unit_hash` is used by `hash:unit`; without a unit (0) the least busy serves.
/// `avoid` is an endpoint that just failed: it is taken only if there is no other.
pub fn choose(
    backend: &Backend,
    set: &EndpointSet,
    unit_hash: u64,
    avoid: Option<u64>,
    uptime: std::time::Duration,
) -> Option<Arc<Endpoint>> {
    if let [only] = &*set.all {
        // Nothing to choose; not even health matters.
        return Some(Arc::clone(only));
    }
    // An ejected endpoint whose time is over is tried with one request at a time.
    if let Some(trial) =
        set.all.iter().find(|e| !e.health.is_serving() && e.health.try_trial(uptime))
    {
        return Some(Arc::clone(trial));
    }
    let usable = |e: &&Arc<Endpoint>| e.health.is_serving() && Some(e.id) != avoid;
    let found = match backend.balance {
        Balance::RoundRobin => {
            let turn = backend.life.turn.fetch_add(1, Relaxed) as usize;
            let len = set.all.len().max(1);
            (0..len).map(|i| &set.all[(turn + i) % len]).find(usable)
        }
        Balance::HashUnit if unit_hash != 0 => set.ring.as_ref().and_then(|ring| {
            let mut nodes = ring.0.node_iter(&unit_hash.to_le_bytes());
            // The ring repeats its nodes; a few rounds reach every endpoint that could serve.
            (0..set.all.len() * 8)
                .filter_map(|_| nodes.next())
                .find_map(|&address| set.all.iter().find(|e| e.address == address && usable(e)))
        }),
        Balance::LeastRequests | Balance::HashUnit => least_busy(set.all.iter().filter(usable)),
    };
    found
        .or_else(|| least_busy(set.all.iter().filter(|e| Some(e.id) != avoid)))
        .or_else(|| set.all.first())
        .cloned()
}

/// Chooses an endpoint for what must leave no trace in the backend's state (T26: a copy): it takes no
/// turn, and it never is the trial of an ejected endpoint.
pub fn choose_aside(set: &EndpointSet) -> Option<Arc<Endpoint>> {
    least_busy(set.all.iter().filter(|e| e.health.is_serving()))
        .or_else(|| least_busy(set.all.iter()))
        .cloned()
}

/// The endpoint with the fewest requests in flight. Ties go to a random one, else a quiet gateway
/// would send everything to the first.
fn least_busy<'a>(endpoints: impl Iterator<Item = &'a Arc<Endpoint>>) -> Option<&'a Arc<Endpoint>> {
    let mut best: Option<(u32, u32, &Arc<Endpoint>)> = None;
    for endpoint in endpoints {
        let busy = endpoint.in_flight.load(Relaxed);
        let tie = fastrand::u32(..);
        if best.is_none_or(|(least, best_tie, _)| (busy, tie) < (least, best_tie)) {
            best = Some((busy, tie, endpoint));
        }
    }
    best.map(|(_, _, endpoint)| endpoint)
}
