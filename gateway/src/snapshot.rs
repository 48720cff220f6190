//! Everything a request needs to know, frozen.
//!
//! A new configuration, a new weight, a new key: each is a new [`Snapshot`], put in force by one
//! swap. A request takes one snapshot and keeps it to its last byte.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use policies::api_key::KeyRing;
use policies::timeout::Deadlines;
use routing::{Experiment, HashKey, Holdout, Layer, RouteTable, Salt, UnitSource, VariantId};

use crate::backends::{Backend, Backends};
use crate::comparison::known::Known;
use crate::comparison::{Comparisons, subject};
use crate::config::plan::{Cidr, Compare, Limits, OnFailure, Plan};
use crate::feedback::rules::Rules;
use crate::limits::KeyState;
use crate::live::{LiveExperiment, LiveLayer};
use crate::names::{Name, intern};
use crate::recorder::tally::{Cell, Tallies, TallyKey};
use crate::request::shadow::gate::{Gate, Gates};

/// One state of the whole configuration.
#[derive(Debug)]
pub struct Snapshot {
    /// Rises by one with each swap.
    pub generation: u64,
    /// Who may come in.
    pub keys: Arc<KeyRing>,
    /// Limits of keys that have any, by key id.
    pub key_states: HashMap<Arc<str>, Arc<KeyState>>,
    /// Which route a request belongs to: indexes into `routes`.
    pub table: RouteTable<usize>,
    /// Routes as they run.
    pub routes: Box<[RoutePlan]>,
    /// Backends, alive; `RoutePlan` and its parts point into this list.
    pub backends: Box<[Arc<Backend>]>,
    /// Units kept out of all experiments.
    pub holdout: Option<Holdout>,
    /// Hashes clients without a unit onto endpoints.
    pub client_salt: Salt,
    /// Limits of the wire.
    pub limits: Limits,
    /// Path that answers without a credential.
    pub health_path: Option<Box<str>>,
    /// Peers whose forwarding headers are believed.
    pub trusted_peers: Box<[Cidr]>,
    /// Share of requests that are traced; 0 when nothing receives traces.
    pub sample_ratio: f64,
    /// Whether requests that fail are traced although not sampled.
    pub sample_errors: bool,
    /// Signs receipts.
    pub receipt_key: [u8; 32],
    /// Model names that routes ask for or backends are given, interned: the only ones that
    /// telemetry repeats from a request.
    pub models: HashMap<Box<str>, Name>,
    /// Which feedback is taken.
    pub feedback: Rules,
}

/// A route as it runs.
#[derive(Debug)]
pub struct RoutePlan {
    /// Its name.
    pub name: Name,
    /// Its path pattern, for telemetry.
    pub pattern: Name,
    /// The model that its requests ask for, if it takes only those.
    pub model: Option<Name>,
    /// Serves when no experiment decides.
    pub backend: usize,
    /// Deadlines.
    pub deadlines: Deadlines,
    /// Whether a non-idempotent request may go twice (F05).
    pub retry_non_idempotent: bool,
    /// Whether WebSocket passes.
    pub websocket: bool,
    /// Whether the backend gets the client's Host.
    pub preserve_host: bool,
    /// Largest request body.
    pub body_bytes: u64,
    /// Whether answers carry `server-timing`.
    pub server_timing: bool,
    /// Whether the body must be read: for `model`, a unit, or a rewrite.
    pub inspect: bool,
    /// Body members that units are taken from.
    pub pointers: Box<[Box<str>]>,
    /// What experiments decide.
    pub experiments: Box<[Experiment]>,
    /// The rest about them, in the same order.
    pub plans: Box<[ExperimentPlan]>,
    /// Where copies go.
    pub shadows: Box<[ShadowPlan]>,
    /// Counts of requests that no experiment took.
    pub cell: Arc<Cell>,
}

/// What an experiment is besides its split.
#[derive(Debug)]
pub struct ExperimentPlan {
    /// Its name.
    pub name: Name,
    /// Revision in force.
    pub revision: u64,
    /// Where units are looked for: for each source, its place among `RoutePlan::pointers` if it is a
    /// body member.
    pub units: Box<[(UnitSource, Option<usize>)]>,
    /// Variants, by `VariantId`.
    pub variants: Box<[VariantPlan]>,
    /// What happens when a variant cannot serve.
    pub on_failure: OnFailure,
    /// Control.
    pub control: VariantId,
    /// `NAME@REVISION`, for keys that may see it.
    pub label: HeaderValue,
}

/// A variant as it runs.
#[derive(Debug)]
pub struct VariantPlan {
    /// Its name.
    pub name: Name,
    /// Its name, as a header value.
    pub label: HeaderValue,
    /// Its backend.
    pub backend: usize,
    /// Its counts under the revision in force.
    pub cell: Arc<Cell>,
}

/// A shadow as it runs.
#[derive(Debug)]
pub struct ShadowPlan {
    /// Its name.
    pub name: Name,
    /// Where copies go.
    pub backend: usize,
    /// Share of requests.
    pub share: f64,
    /// Room for its copies.
    pub gate: Arc<Gate>,
    /// Longest copy.
    pub timeout: std::time::Duration,
    /// How its answers are compared.
    pub compare: Arc<Compare>,
    /// What its comparison is about.
    pub subject: Arc<str>,
    /// What is known of it.
    pub known: Arc<Known>,
}

/// What a snapshot is made of, besides the plan.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Number of the new snapshot.
    pub generation: u64,
    /// Keys.
    pub keys: Arc<KeyRing>,
    /// Limits of keys.
    pub key_states: HashMap<Arc<str>, Arc<KeyState>>,
    /// Experiments as they stand, by name.
    pub live: &'a BTreeMap<String, LiveExperiment>,
    /// Layers as they stand, by name.
    pub layers: &'a BTreeMap<String, LiveLayer>,
    /// The installation's assignment key.
    pub hash_key: HashKey,
    /// Signs receipts.
    pub receipt_key: [u8; 32],
    /// Room for copies, by shadow.
    pub gates: &'a Gates,
    /// What is known of shadows.
    pub comparisons: &'a Comparisons,
}

/// Freezes `plan` and what lives into a snapshot.
pub fn build(plan: &Plan, parts: Parts<'_>, backends: &Backends, tallies: &Tallies) -> Snapshot {
    let alive: Box<[Arc<Backend>]> = plan.backends.iter().map(|b| backends.adopt(b)).collect();
    let layers: BTreeMap<&str, Arc<Layer>> = parts
        .layers
        .iter()
        .map(|(name, layer)| {
            let salt = Salt::new(&parts.hash_key, &format!("layer:{name}"));
            (&**name, Arc::new(Layer { salt, allocation: layer.allocation.clone() }))
        })
        .collect();
    let routes: Box<[RoutePlan]> = (0..plan.routes.len())
        .map(|route| route_plan(plan, route, &parts, &layers, tallies))
        .collect();
    let table = RouteTable::new(plan.routes.iter().enumerate().map(|(at, r)| (r.rule.clone(), at)));
    let models = plan
        .routes
        .iter()
        .filter_map(|route| route.rule.model.as_deref())
        .chain(plan.backends.iter().filter_map(|backend| backend.model.as_deref()))
        .map(|model| (Box::from(model), intern(model)))
        .collect();
    Snapshot {
        generation: parts.generation,
        feedback: Rules::new(&plan.feedback, &routes),
        keys: parts.keys,
        key_states: parts.key_states,
        table,
        routes,
        backends: alive,
        holdout: (plan.holdout_bp > 0).then(|| Holdout {
            salt: Salt::new(&parts.hash_key, "holdout"),
            share_bp: plan.holdout_bp,
        }),
        client_salt: Salt::new(&parts.hash_key, "client"),
        limits: plan.server.limits.clone(),
        health_path: plan.server.health_path.as_deref().map(Box::from),
        trusted_peers: plan.server.trusted_peers.clone().into(),
        sample_ratio: if plan.telemetry.otlp.is_some() { plan.telemetry.sample_ratio } else { 0.0 },
        sample_errors: plan.telemetry.otlp.is_some() && plan.telemetry.sample_errors,
        receipt_key: parts.receipt_key,
        models,
    }
}

fn route_plan(
    plan: &Plan,
    index: usize,
    parts: &Parts<'_>,
    layers: &BTreeMap<&str, Arc<Layer>>,
    tallies: &Tallies,
) -> RoutePlan {
    let route = &plan.routes[index];
    let name = intern(&route.name);
    let declared: Vec<_> = plan.experiments.iter().filter(|e| e.route == index).collect();
    let mut pointers: Vec<Box<str>> = Vec::new();
    let mut experiments = Vec::new();
    let mut plans = Vec::new();
    for experiment in declared {
        let Some(live) = parts.live.get(&*experiment.name) else { continue };
        let units = experiment
            .unit
            .iter()
            .map(|source| {
                let place = match source {
                    UnitSource::Body(pointer) => {
                        Some(pointers.iter().position(|p| p == pointer).unwrap_or_else(|| {
                            pointers.push(pointer.clone());
                            pointers.len() - 1
                        }))
                    }
                    UnitSource::Header(_)
                    | UnitSource::Cookie(_)
                    | UnitSource::Jwt(_)
                    | UnitSource::Key
                    | UnitSource::Address
                    | UnitSource::Request => None,
                };
                (source.clone(), place)
            })
            .collect();
        let experiment_name = intern(&experiment.name);
        let variants = experiment
            .variants
            .iter()
            .map(|variant| {
                let variant_name = intern(&variant.name);
                VariantPlan {
                    name: variant_name,
                    label: header(variant_name),
                    backend: variant.backend,
                    cell: tallies.cell(TallyKey {
                        route: name,
                        experiment: experiment_name,
                        revision: live.revision,
                        variant: variant_name,
                    }),
                }
            })
            .collect();
        let control = variant_id(experiment.control);
        let layer = experiment.layer.and_then(|(layer, _)| {
            let layer_name = &*plan.layers[layer];
            let slot = parts.layers.get(layer_name)?.slot_of(&experiment.name)?;
            Some((Arc::clone(layers.get(layer_name)?), slot))
        });
        experiments.push(Experiment {
            name: experiment_name.into(),
            salt: Salt::new(&parts.hash_key, &format!("{experiment_name}/variant")),
            control,
            variants: experiment.variants.iter().map(|v| Box::from(&*v.name)).collect(),
            allocation: Arc::clone(&live.allocation),
            targets: experiment.targets.clone().into(),
            layer,
            running: live.state == crate::store::State::Running,
        });
        plans.push(ExperimentPlan {
            name: experiment_name,
            revision: live.revision,
            units,
            variants,
            on_failure: experiment.on_failure,
            control,
            label: header(&format!("{experiment_name}@{}", live.revision)),
        });
    }
    let shadows: Box<[ShadowPlan]> = plan
        .shadows
        .iter()
        .filter(|shadow| shadow.route == index)
        .map(|shadow| ShadowPlan {
            name: intern(&shadow.name),
            backend: shadow.backend,
            compare: Arc::clone(&shadow.compare),
            subject: {
                let backend = &plan.backends[shadow.backend];
                subject(&route.name, &backend.name, backend.model.as_deref(), &shadow.compare)
            },
            known: parts.comparisons.adopt(intern(&shadow.name)),
            share: shadow.share,
            gate: parts.gates.adopt(
                intern(&shadow.name),
                shadow.max_in_flight as usize,
                shadow.queue as usize,
            ),
            timeout: shadow.timeout,
        })
        .collect();
    let rewrites = std::iter::once(route.backend)
        .chain(plans.iter().flat_map(|p: &ExperimentPlan| p.variants.iter().map(|v| v.backend)))
        .chain(shadows.iter().map(|shadow| shadow.backend))
        .any(|backend| plan.backends[backend].model.is_some());
    RoutePlan {
        name,
        pattern: intern(&route.pattern),
        model: route.rule.model.as_deref().map(intern),
        backend: route.backend,
        deadlines: Deadlines {
            connect: route.timeouts.connect,
            first_byte: route.timeouts.first_byte,
            idle: route.timeouts.idle,
            total: route.timeouts.total,
        },
        retry_non_idempotent: route.retry_non_idempotent,
        websocket: route.websocket,
        preserve_host: route.preserve_host,
        body_bytes: route.body_bytes,
        server_timing: route.server_timing,
        inspect: rewrites || route.rule.model.is_some() || !pointers.is_empty(),
        pointers: pointers.into(),
        experiments: experiments.into(),
        plans: plans.into(),
        shadows,
        cell: tallies.cell(TallyKey { route: name, experiment: "", revision: 0, variant: "" }),
    }
}

fn header(text: &str) -> HeaderValue {
    // Names are checked when the file is read: letters, digits, `_`, `.`, `-`.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}

/// The id of the variant at `index`; there are at most 64.
pub fn variant_id(index: usize) -> VariantId {
    VariantId(u8::try_from(index).unwrap_or(u8::MAX))
}

/// Headers that Weir adds.
pub mod names {
    use super::HeaderName;
    /// Id of the request.
    pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    /// Signed receipt of an assignment.
    pub static RECEIPT: HeaderName = HeaderName::from_static("x-weir-receipt");
    /// Assigned variant; on a request: the variant to force.
    pub static VARIANT: HeaderName = HeaderName::from_static("x-weir-variant");
    /// `NAME@REVISION`.
    pub static EXPERIMENT: HeaderName = HeaderName::from_static("x-weir-experiment");
    /// Code of a refusal.
    pub static ERROR: HeaderName = HeaderName::from_static("x-weir-error");
    /// Mark of a shadow copy.
    pub static SHADOW: HeaderName = HeaderName::from_static("x-weir-shadow");
    /// W3C trace context.
    pub static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
    /// W3C trace state.
    pub static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
    /// The client's address, for backends.
    pub static FORWARDED_FOR: HeaderName = policies::headers::X_FORWARDED_FOR;
    /// The client's protocol.
    pub static FORWARDED_PROTO: HeaderName = policies::headers::X_FORWARDED_PROTO;
    /// The host that the client asked for.
    pub static FORWARDED_HOST: HeaderName = policies::headers::X_FORWARDED_HOST;
    /// W3C baggage.
    pub static BAGGAGE: HeaderName = HeaderName::from_static("baggage");
    /// Where the time went.
    pub static SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
}
