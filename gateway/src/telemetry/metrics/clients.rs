//! Clients: their connections, handshakes and credentials.

use std::collections::BTreeMap;

use super::{Extra, times};
use crate::telemetry::counters::{AUTH_RESULTS, Closed, PROTOCOLS};
use crate::telemetry::exposition::Exposition;
use crate::telemetry::histogram::Counted;
use crate::telemetry::names;
use crate::worker::Shared;

/// The one listener of the data plane.
const EDGE: &str = "edge";
/// The one way to present a credential.
const API_KEY: &str = "api_key";

pub(super) fn clients(shared: &Shared, out: &mut Exposition) {
    let counters = &shared.counters;
    out.family(&names::CONNECTIONS_OPEN);
    for (at, protocol) in PROTOCOLS.into_iter().enumerate() {
        out.gauge(&[EDGE, protocol], counters.sum(|worker| &worker.open[at]));
    }
    out.family(&names::CONNECTIONS);
    for (at, protocol) in PROTOCOLS.into_iter().enumerate() {
        out.counter(&[EDGE, protocol], counters.sum(|worker| &worker.connections[at]));
    }
    out.family(&names::CONNECTIONS_CLOSED);
    for (at, reason) in Closed::ALL.into_iter().enumerate() {
        out.counter(&[EDGE, reason.as_str()], counters.sum(|worker| &worker.closed[at]));
    }
}

pub(super) fn tls(shared: &Shared, extra: &Extra, out: &mut Exposition) {
    let counters = &shared.counters;
    let ok = [0, 1].map(|at| counters.sum(|worker| &worker.handshakes_ok[at]));
    out.family(&names::TLS_HANDSHAKES);
    out.counter(&[EDGE, "ok", "1.2"], ok[0]);
    out.counter(&[EDGE, "ok", "1.3"], ok[1]);
    out.counter(&[EDGE, "failed", ""], counters.sum(|worker| &worker.handshakes_failed));
    out.counter(&[EDGE, "timeout", ""], counters.sum(|worker| &worker.handshakes_timed_out));
    out.family(&names::TLS_HANDSHAKE);
    times(out, &[EDGE], &Counted::of(counters.each().map(|worker| &worker.handshakes)));

    // Of several certificates with one subject, the one that ends first.
    let mut ends = BTreeMap::<(&str, &str), i64>::new();
    for (listener, subject, not_after) in &extra.certificates {
        let end = ends.entry((listener, subject)).or_insert(*not_after);
        *end = (*end).min(*not_after);
    }
    out.family(&names::CERTIFICATE_NOT_AFTER);
    for ((listener, subject), not_after) in ends {
        out.gauge(&[listener, subject], not_after as f64);
    }
}

pub(super) fn auth(shared: &Shared, out: &mut Exposition) {
    out.family(&names::AUTH);
    for (at, result) in AUTH_RESULTS.into_iter().enumerate() {
        out.counter(&[API_KEY, result], shared.counters.sum(|worker| &worker.auth[at]));
    }
}
