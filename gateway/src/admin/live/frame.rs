//! What everybody who watches gets each second: made once, written once for each filter.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use parking_lot::Mutex;
use policies::health::State as Health;
use schemars::JsonSchema;
use serde::Serialize;

use super::named::Named;
use super::second::{Numbers, Second, fraction, seconds, short};
use super::{Filter, News};
use crate::admin::Context;
use crate::clock;
use crate::control::status_word;
use crate::store::State;

/// One second, as it is told.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct Frame {
    /// When the second ended, RFC 3339 in UTC.
    pub(super) at: String,
    /// The same in seconds since 1970: the `id` of the event.
    pub(super) at_unix: i64,
    /// Everything together.
    pub(super) gateway: GatewayNow,
    /// By route, in the order of the file.
    pub(super) routes: Named<RouteNow>,
    /// By experiment.
    pub(super) experiments: Named<ExperimentNow>,
    /// By shadow.
    pub(super) shadows: Named<ShadowNow>,
    /// By backend.
    pub(super) backends: Named<BackendNow>,
    /// What happened since the frame before.
    pub(super) events: Vec<Arc<News>>,
}

/// The whole gateway.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct GatewayNow {
    /// Requests a second that ended.
    rate: f64,
    /// Of them, the part that failed by the backend's fault; null without requests.
    failed: Option<f64>,
    /// Requests a second that the gateway refused.
    rejected: f64,
    /// Requests under way.
    in_flight: u64,
    /// Open client connections.
    connections: u64,
    /// Whether it is out of service.
    draining: bool,
    /// Number of the configuration in force.
    revision: u64,
}

/// A route.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct RouteNow {
    /// Requests a second that ended.
    rate: f64,
    /// Of them, the part that failed by the backend's fault; null without requests.
    failed: Option<f64>,
    /// Requests of this route that the gateway refused, a second.
    rejected: f64,
    /// Quantiles of the last ten seconds, in seconds; null without requests.
    p50: Option<f64>,
    /// The same.
    p95: Option<f64>,
    /// The same.
    p99: Option<f64>,
    /// Requests under way.
    in_flight: u64,
}

/// An experiment.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct ExperimentNow {
    /// Its route.
    route: String,
    /// Revision in force.
    revision: u64,
    /// Whether it decides.
    state: State,
    /// By variant, control first.
    variants: Named<VariantNow>,
    /// Its newest ramp.
    ramp: Option<RampNow>,
}

/// A variant.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct VariantNow {
    /// Weight in force, relative to the others.
    weight: f64,
    /// Part of the buckets that is dealt to it.
    share: f64,
    /// Part of the experiment's requests of this second that was assigned to it; null without any.
    assigned_share: Option<f64>,
    /// Requests a second that ended.
    rate: f64,
    /// Of them, the part that failed by the backend's fault; null without requests.
    failed: Option<f64>,
    /// Quantiles of the last ten seconds, in seconds; null without requests.
    p50: Option<f64>,
    /// The same.
    p95: Option<f64>,
    /// The same.
    p99: Option<f64>,
    /// The same, of the time to the first byte.
    first_byte_p95: Option<f64>,
}

/// Where a ramp stands.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct RampNow {
    /// The variant that is ramped.
    variant: String,
    /// `running`, `holding`, `paused`, `promoted`, `rolled_back` or `aborted`.
    state: &'static str,
    /// 0 is warm-up, then come the steps from 1, then the verification.
    step: usize,
    /// How many steps there are.
    steps: usize,
    /// The variant's share in force, a fraction.
    share: Option<f64>,
}

/// A shadow.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct ShadowNow {
    /// Copies a second that ended.
    rate: f64,
    /// Of them, the part that failed; null without copies.
    failed: Option<f64>,
    /// Copies a second that were not sent, of all shadows with the same backend.
    dropped: f64,
}

/// A backend.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct BackendNow {
    /// Addresses that are known.
    endpoints: usize,
    /// Of them, those that get requests.
    serving: usize,
    /// Of them, those that get none, or one on trial.
    ejected: usize,
    /// Requests under way.
    in_flight: u64,
}

impl Frame {
    /// `second`, and everything else that is told with it.
    pub(super) fn new(context: &Context, second: &Second, events: Vec<Arc<News>>) -> Self {
        let shared = &context.shared;
        let rate = |count: u64| short(count as f64 * 1e6 / f64::from(second.micros));
        let counts = &second.gateway;
        Self {
            at: clock::rfc3339_micros(second.at_unix.saturating_mul(1_000_000)),
            at_unix: second.at_unix,
            gateway: GatewayNow {
                rate: rate(counts.requests),
                failed: fraction(counts.failures, counts.requests),
                rejected: rate(counts.refused),
                in_flight: shared.in_use.requests.load(Relaxed) as u64,
                connections: shared.in_use.connections.load(Relaxed) as u64,
                draining: shared.draining.load(Relaxed),
                revision: shared.current.load().generation,
            },
            routes: second.routes.iter().map(|of| (of.name.clone(), route(of, rate))).collect(),
            experiments: experiments(context, second, rate),
            shadows: second.shadows.iter().map(|of| (of.name.clone(), shadow(of, rate))).collect(),
            backends: backends(context),
            events,
        }
    }

    /// What `filter` leaves of it.
    fn filtered(&self, filter: &Filter) -> Self {
        let mut frame = self.clone();
        frame.routes.0.retain(|(name, _)| filter.wants_route(name));
        frame.experiments.0.retain(|(name, of)| filter.wants(name, &of.route));
        frame
    }
}

fn route(of: &Numbers, rate: impl Fn(u64) -> f64) -> RouteNow {
    let (counts, quantiles) = (&of.counts, &of.quantiles);
    RouteNow {
        rate: rate(counts.requests),
        failed: fraction(counts.failures, counts.requests),
        rejected: rate(counts.refused),
        p50: seconds(quantiles.p50),
        p95: seconds(quantiles.p95),
        p99: seconds(quantiles.p99),
        in_flight: of.in_flight,
    }
}

fn experiments(
    context: &Context,
    second: &Second,
    rate: impl Fn(u64) -> f64 + Copy,
) -> Named<ExperimentNow> {
    let view = context.changes.view();
    let of = |experiment: &super::second::Experiment| {
        let live = view.live.get(&experiment.name)?;
        let shares = live.shares();
        let begun: u64 = experiment.variants.iter().map(|of| of.counts.begun).sum();
        let variant = |numbers: &Numbers| {
            let place = live.weights.iter().position(|(name, _)| *name == numbers.name)?;
            let (counts, quantiles) = (&numbers.counts, &numbers.quantiles);
            let now = VariantNow {
                weight: live.weights[place].1,
                share: f64::from(shares.get(place).copied().unwrap_or(0)) / 10_000.0,
                assigned_share: fraction(counts.begun, begun),
                rate: rate(counts.requests),
                failed: fraction(counts.failures, counts.requests),
                p50: seconds(quantiles.p50),
                p95: seconds(quantiles.p95),
                p99: seconds(quantiles.p99),
                first_byte_p95: seconds(quantiles.first_byte_p95),
            };
            Some((numbers.name.clone(), now))
        };
        let ramp = context.control.ramp(&experiment.name).map(|ramp| RampNow {
            variant: ramp.told.variant.clone(),
            state: status_word(ramp.state.status),
            step: ramp.told.step(ramp.state.phase),
            steps: ramp.told.steps(),
            share: ramp.told.share(live),
        });
        let now = ExperimentNow {
            route: experiment.route.clone(),
            revision: live.revision,
            state: live.state,
            variants: experiment.variants.iter().filter_map(variant).collect(),
            ramp,
        };
        Some((experiment.name.clone(), now))
    };
    second.experiments.iter().filter_map(of).collect()
}

fn shadow(of: &Numbers, rate: impl Fn(u64) -> f64) -> ShadowNow {
    let counts = &of.counts;
    ShadowNow {
        rate: rate(counts.requests),
        failed: fraction(counts.failures, counts.requests),
        dropped: rate(counts.refused),
    }
}

fn backends(context: &Context) -> Named<BackendNow> {
    let snapshot = context.shared.current.load();
    let of = |backend: &Arc<crate::backends::Backend>| {
        let endpoints = backend.life.endpoints.load();
        let serving =
            endpoints.all.iter().filter(|e| matches!(e.health.state(), Health::Serving)).count();
        let now = BackendNow {
            endpoints: endpoints.all.len(),
            serving,
            ejected: endpoints.all.len() - serving,
            in_flight: u64::from(backend.life.in_flight.load(Relaxed)),
        };
        (backend.name.to_string(), now)
    };
    snapshot.backends.iter().map(of).collect()
}

/// A frame, and the bytes it was written to.
#[derive(Debug)]
pub(super) struct Written {
    frame: Frame,
    bytes: Mutex<HashMap<Filter, Bytes>>,
}

impl Written {
    pub(super) fn new(frame: Frame) -> Self {
        Self { frame, bytes: Mutex::default() }
    }

    pub(super) fn at_unix(&self) -> i64 {
        self.frame.at_unix
    }

    /// The event for those who watch with `filter`. Watchers are few, so are their filters.
    pub(super) fn event(&self, filter: &Filter) -> Bytes {
        let mut bytes = self.bytes.lock();
        if let Some(written) = bytes.get(filter) {
            return written.clone();
        }
        let id = self.frame.at_unix;
        let written = if filter.is_all() {
            event("frame", Some(id), &self.frame)
        } else {
            event("frame", Some(id), &self.frame.filtered(filter))
        };
        bytes.insert(filter.clone(), written.clone());
        written
    }
}

/// One event of the stream.
pub(super) fn event(name: &str, id: Option<i64>, data: &impl Serialize) -> Bytes {
    let mut out = Vec::with_capacity(1 << 10);
    if let Some(id) = id {
        out.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    out.extend_from_slice(format!("event: {name}\ndata: ").as_bytes());
    // JSON has no line breaks of its own, and these types can always be written.
    let _ = serde_json::to_writer(&mut out, data);
    out.extend_from_slice(b"\n\n");
    out.into()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A frame without anything in it.
    pub(in super::super) fn frame(at_unix: i64) -> Frame {
        Frame {
            at: clock::rfc3339_micros(at_unix * 1_000_000),
            at_unix,
            gateway: GatewayNow {
                rate: 0.0,
                failed: None,
                rejected: 0.0,
                in_flight: 0,
                connections: 0,
                draining: false,
                revision: 1,
            },
            routes: Named(Vec::new()),
            experiments: Named(Vec::new()),
            shadows: Named(Vec::new()),
            backends: Named(Vec::new()),
            events: Vec::new(),
        }
    }

    #[test]
    fn a_frame_is_written_once_for_all_who_want_the_same() {
        let written = Written::new(frame(7));
        let (one, two) = (written.event(&Filter::default()), written.event(&Filter::default()));
        assert_eq!(one.as_ptr(), two.as_ptr());
        let text = String::from_utf8(one.to_vec()).unwrap();
        assert!(text.starts_with("id: 7\nevent: frame\ndata: {\"at\":\"1970-01-01T00:00:07"));
        assert!(text.ends_with("}\n\n") && text.lines().count() == 4);
    }
}
