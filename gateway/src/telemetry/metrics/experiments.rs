//! Experiments: who was assigned to what and why, and the weights in force.

use std::collections::BTreeMap;

use routing::Reason;

use super::Extra;
use crate::control::STATES;
use crate::names::Name;
use crate::recorder::tally::{Tally, TallyKey};
use crate::snapshot::Snapshot;
use crate::telemetry::exposition::Exposition;
use crate::telemetry::names;

pub(super) fn assignments(tallies: &[(TallyKey, Tally)], out: &mut Exposition) {
    // The same variant may have served on several routes, one after the other; and what no
    // experiment took is not told apart by route.
    let mut sums = BTreeMap::<(Name, Name), [u64; Reason::WORDS.len()]>::new();
    for (key, tally) in tallies {
        let sums = sums.entry((key.experiment, key.variant)).or_default();
        sums.iter_mut().zip(tally.watched.reasons).for_each(|(sum, count)| *sum += count);
    }
    out.family(&names::ASSIGNMENTS);
    for ((experiment, variant), counts) in sums {
        for (at, (reason, count)) in Reason::WORDS.into_iter().zip(counts).enumerate() {
            // The others cannot be.
            if (at < Reason::TAKEN) != experiment.is_empty() || count > 0 {
                out.counter(&[experiment, variant, reason], count);
            }
        }
    }
}

pub(super) fn experiments(snapshot: &Snapshot, out: &mut Exposition) {
    let running = || {
        snapshot.routes.iter().flat_map(|route| route.experiments.iter().zip(route.plans.iter()))
    };
    out.family(&names::VARIANT_WEIGHT);
    for (experiment, plan) in running() {
        let shares = experiment.allocation.shares();
        for (at, variant) in plan.variants.iter().enumerate() {
            let share = shares.get(at).copied().filter(|_| experiment.running).unwrap_or(0);
            let ratio = f64::from(share) / f64::from(routing::BUCKETS);
            out.gauge(&[plan.name, variant.name], ratio);
        }
    }
    out.family(&names::EXPERIMENT_REVISION);
    for (_, plan) in running() {
        out.gauge(&[plan.name], plan.revision);
    }
}

pub(super) fn ramps(extra: &Extra, out: &mut Exposition) {
    out.family(&names::RAMP_STEP);
    for (experiment, _, step) in &extra.ramps {
        out.gauge(&[experiment], *step as f64);
    }
    out.family(&names::RAMP_STATE);
    for (experiment, state, _) in &extra.ramps {
        for each in STATES {
            out.gauge(&[experiment, each], each == *state);
        }
    }
    out.family(&names::RAMP_DECISIONS);
    for (experiment, decision, reason, count) in &extra.ramp_decisions {
        out.counter(&[experiment, decision, reason], *count);
    }
}

pub(super) fn sample_ratios(extra: &Extra, out: &mut Exposition) {
    out.family(&names::SAMPLE_RATIO);
    for (experiment, p_value) in &extra.sample_ratios {
        out.gauge(&[experiment], *p_value);
    }
}
