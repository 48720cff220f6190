//! Requests: how they ended, how long they took, what is under way.

use std::collections::BTreeMap;

use policies::outcome::{Outcome, RejectReason};

use super::{seconds, times};
use crate::names::Name;
use crate::recorder::tally::{BOUNDS, Latency, Tally, TallyKey};
use crate::telemetry::counters::PROTOCOLS;
use crate::telemetry::exposition::Exposition;
use crate::telemetry::histogram::Counted;
use crate::telemetry::names::{self, Metric};
use crate::worker::Shared;

/// What the cells of one route say together.
#[derive(Default)]
struct OfRoute {
    in_flight: u64,
    streams_open: u64,
    overhead: Counted,
}

pub(super) fn requests(shared: &Shared, tallies: &[(TallyKey, Tally)], out: &mut Exposition) {
    let labels = |key: &TallyKey| [key.route, key.experiment, key.variant];
    out.family(&names::REQUESTS);
    for (key, tally) in tallies {
        let [route, experiment, variant] = labels(key);
        for outcome in Outcome::ALL {
            let count = tally.outcomes[outcome.index()];
            out.counter(&[route, experiment, variant, outcome.as_str()], count);
        }
    }
    let mut latencies = |metric: &Metric, latency_of: fn(&Tally) -> &Latency| {
        out.family(metric);
        for (key, tally) in tallies {
            let latency = latency_of(tally);
            out.histogram(&labels(key), &BOUNDS, &latency.classic, seconds(latency.sum_micros));
        }
    };
    latencies(&names::REQUEST_DURATION, |tally| &tally.duration);
    latencies(&names::TIME_TO_FIRST_BYTE, |tally| &tally.first_byte);

    let mut routes = BTreeMap::<Name, OfRoute>::new();
    for (key, tally) in tallies {
        let route = routes.entry(key.route).or_default();
        // A cell's ends are read before its beginnings, so this is never too low by what moves on
        // meanwhile.
        route.in_flight += tally.started.saturating_sub(tally.requests());
        route.streams_open += tally.watched.streams_open;
        route.overhead.merge(&tally.watched.overhead);
    }
    out.family(&names::OVERHEAD);
    for (name, route) in &routes {
        times(out, &[name], &route.overhead);
    }
    out.family(&names::IN_FLIGHT);
    for (name, route) in &routes {
        out.gauge(&[name], route.in_flight);
    }
    out.family(&names::STREAMS_OPEN);
    for (name, route) in &routes {
        out.gauge(&[name], route.streams_open);
    }

    out.family(&names::REJECTED);
    for reason in RejectReason::ALL {
        for (at, protocol) in PROTOCOLS.into_iter().enumerate() {
            let count = shared.counters.sum(|worker| &worker.rejected[reason.index()][at]);
            out.counter(&[reason.as_str(), protocol], count);
        }
    }
}
