//! Backends: attempts at them, their times, their health; and the copies that shadows get.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use policies::retry::Failure;

use super::{seconds, times};
use crate::backends::{AttemptResult, BackendCounts, Circuit, Life, ShadowResult};
use crate::names::Name;
use crate::recorder::tally::BOUNDS;
use crate::snapshot::Snapshot;
use crate::telemetry::exposition::Exposition;
use crate::telemetry::histogram::Counted;
use crate::telemetry::names;
use crate::worker::Shared;

/// One count of a backend over all workers.
fn sum(life: &Life, one: impl Fn(&BackendCounts) -> &AtomicU64) -> u64 {
    life.counts.iter().map(|shard| one(shard).load(Relaxed)).fold(0, u64::wrapping_add)
}

pub(super) fn upstream(snapshot: &Snapshot, out: &mut Exposition) {
    let backends: Vec<_> =
        snapshot.backends.iter().map(|backend| (backend.name, &backend.life)).collect();
    out.family(&names::UPSTREAM_ATTEMPTS);
    for (name, life) in &backends {
        for (at, result) in AttemptResult::ALL.into_iter().enumerate() {
            for (again, retry) in ["false", "true"].into_iter().enumerate() {
                let count = sum(life, |shard| &shard.attempts[at][again]);
                out.counter(&[name, result.as_str(), retry], count);
            }
        }
    }
    out.family(&names::UPSTREAM_CONNECT);
    for (name, life) in &backends {
        times(out, &[name], &Counted::of(life.counts.iter().map(|shard| &shard.connect)));
    }
    out.family(&names::UPSTREAM_FIRST_BYTE);
    for (name, life) in &backends {
        times(out, &[name], &Counted::of(life.counts.iter().map(|shard| &shard.first_byte)));
    }
    out.family(&names::UPSTREAM_HEALTHY);
    for (name, life) in &backends {
        let endpoints = life.endpoints.load();
        let serving = endpoints.all.iter().filter(|endpoint| endpoint.health.is_serving()).count();
        out.gauge(&[name], serving);
    }
    out.family(&names::UPSTREAM_EJECTED);
    for (name, life) in &backends {
        out.counter(&[name], life.ejections.load(Relaxed));
    }
    out.family(&names::CIRCUIT_STATE);
    for (name, life) in &backends {
        let endpoints = life.endpoints.load();
        let now = Circuit::of(endpoints.all.iter().map(|endpoint| endpoint.health.state()));
        for state in Circuit::ALL {
            out.gauge(&[name, state.as_str()], state == now);
        }
    }
    out.family(&names::RETRIES);
    for (name, life) in &backends {
        for failure in Failure::RETRIED {
            let count = sum(life, |shard| &shard.retries[failure as usize]);
            out.counter(&[name, failure.as_str()], count);
        }
    }
    out.family(&names::RETRY_BUDGET_EXHAUSTED);
    for (name, life) in &backends {
        for failure in Failure::BUDGETED {
            let count = sum(life, |shard| &shard.budget_exhausted[failure as usize]);
            out.counter(&[name, failure.as_str()], count);
        }
    }
}

pub(super) fn shadows(shared: &Shared, snapshot: &Snapshot, out: &mut Exposition) {
    let target_of: BTreeMap<Name, Name> = snapshot
        .routes
        .iter()
        .flat_map(|route| &route.shadows)
        .map(|shadow| (shadow.name, snapshot.backends[shadow.backend].name))
        .collect();
    let targets: BTreeSet<Name> = target_of.values().copied().collect();
    out.family(&names::SHADOW_REQUESTS);
    for backend in &snapshot.backends {
        let counts = ShadowResult::ALL
            .map(|result| sum(&backend.life, |shard| &shard.shadows[result as usize]));
        // A backend that gets no copies has no series, unless it got some earlier.
        if targets.contains(backend.name) || counts.iter().any(|count| *count > 0) {
            for (result, count) in ShadowResult::ALL.into_iter().zip(counts) {
                out.counter(&[backend.name, result.as_str()], count);
            }
        }
    }
    out.family(&names::SHADOW_IN_FLIGHT);
    for backend in &snapshot.backends {
        let open = sum(&backend.life, |shard| &shard.shadows_open);
        if targets.contains(backend.name) || open > 0 {
            out.gauge(&[backend.name], open);
        }
    }
    // Several shadows may go to one backend.
    let mut durations: BTreeMap<Name, ([u64; BOUNDS.len() + 1], u64)> =
        targets.iter().map(|name| (*name, ([0; BOUNDS.len() + 1], 0))).collect();
    for (key, tally) in shared.shadow_tallies.by_variant() {
        let target = target_of.get(key.experiment).and_then(|name| durations.get_mut(name));
        if let Some((counts, sum_micros)) = target {
            let classic = &tally.duration.classic;
            counts.iter_mut().zip(classic).for_each(|(sum, count)| *sum += count);
            *sum_micros += tally.duration.sum_micros;
        }
    }
    out.family(&names::SHADOW_DURATION);
    for (backend, (counts, sum_micros)) in durations {
        out.histogram(&[backend], &BOUNDS, &counts, seconds(sum_micros));
    }
}
