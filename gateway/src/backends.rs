//! Backends as they live: endpoints, their health, how busy they are.
//!
//! Living state is keyed by name and survives a new snapshot: an endpoint that stays in the
//! configuration keeps its connections, its health and its counts. Everything that a request
//! touches is an atomic; addresses are swapped whole.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use policies::health::{EndpointHealth, State};
use policies::retry::Failure;

use crate::config::plan::{self, Balance, Scheme};
use crate::names::{Name, intern};
use crate::telemetry::histogram::{RequestTimes, StepTimes};

pub mod added;
pub mod balance;
pub mod connect;
pub mod h1;
pub mod h1_head;
pub mod pool;
pub mod probe;
pub mod resolve;
pub mod stream;

/// One address of a backend, alive.
#[derive(Debug)]
pub struct Endpoint {
    /// Key of this endpoint in the pools of connections; never used twice in a process.
    pub id: u64,
    /// Backend it belongs to.
    pub backend: Name,
    /// Protocol.
    pub scheme: Scheme,
    /// Host as configured: the name that TLS verifies.
    pub host: Arc<str>,
    /// Address that is dialled.
    pub address: SocketAddr,
    /// `Host` sent to it.
    pub authority: HeaderValue,
    /// How TLS is spoken to it; `None` in the clear. It stands here and not at the backend, so that
    /// connections made under other settings never serve a request that came after a change.
    pub tls: Option<plan::Tls>,
    /// Requests in flight, over all workers.
    pub in_flight: AtomicU32,
    /// Serving, ejected or on trial.
    pub health: EndpointHealth,
    /// Whether the last request found nobody there: refused, unreachable, or no connection in time.
    pub unreachable: AtomicBool,
}

impl Endpoint {
    /// Notes whether somebody was there.
    pub fn reached(&self, reached: bool) {
        // Read first: on a good day no worker takes the line from another.
        if self.unreachable.load(Relaxed) == reached {
            self.unreachable.store(!reached, Relaxed);
        }
    }

    /// Whether this is what `spec` says of `address`: then it stays, with its health and connections.
    pub fn is(&self, backend: &Backend, spec: &plan::Endpoint, address: SocketAddr) -> bool {
        self.address == address
            && self.scheme == spec.scheme
            && self.host == spec.host
            && self.authority == authority(backend, spec)
            && self.tls.as_ref().map(|tls| tls.fingerprint)
                == backend.plan.tls.as_ref().map(|tls| tls.fingerprint)
    }
}

/// Endpoints of a backend at one moment, with the ring that keeps a unit on one of them.
#[derive(Debug, Default)]
pub struct EndpointSet {
    /// Every endpoint, in the order configured and resolved.
    pub all: Box<[Arc<Endpoint>]>,
    /// Ketama ring; only for `hash:unit`.
    pub ring: Option<balance::Ring>,
}

/// Whether requests get through to a backend, from what its endpoints say: label `state` of
/// `weir_circuit_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// Endpoints serve, and none is on trial.
    Closed,
    /// No endpoint serves, or there is none.
    Open,
    /// An endpoint is on trial.
    HalfOpen,
}

impl Circuit {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// Of a backend whose endpoints are in these states.
    pub fn of(endpoints: impl Iterator<Item = State>) -> Self {
        let (mut serving, mut trial) = (false, false);
        for state in endpoints {
            serving |= state == State::Serving;
            trial |= state == State::OnTrial;
        }
        match (serving, trial) {
            (_, true) => Self::HalfOpen,
            (true, false) => Self::Closed,
            (false, false) => Self::Open,
        }
    }

    /// Label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// How an attempt ended: label `result` of `weir_upstream_attempts_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// A response below 400.
    Ok,
    /// No connection.
    ConnectError,
    /// No first byte in time.
    Timeout,
    /// Closed or reset.
    Reset,
    /// Not HTTP.
    ProtocolError,
    /// A response of 500 and more.
    Status5xx,
    /// A response of 400 to 499.
    Status4xx,
    /// The client left.
    Cancelled,
}

impl AttemptResult {
    /// Every one, by index.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::ConnectError,
        Self::Timeout,
        Self::Reset,
        Self::ProtocolError,
        Self::Status5xx,
        Self::Status4xx,
        Self::Cancelled,
    ];

    /// Label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ConnectError => "connect_error",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::ProtocolError => "protocol_error",
            Self::Status5xx => "5xx",
            Self::Status4xx => "4xx",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How a shadow copy ended: label `result` of `weir_shadow_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShadowResult {
    /// Answered below 500, read to the end.
    Ok,
    /// Anything else that was sent.
    Error,
    /// No place in flight or in the queue.
    DroppedQueue,
    /// The body was too large or did not arrive whole.
    DroppedBody,
    /// Marked as a copy already.
    DroppedPolicy,
}

impl ShadowResult {
    /// Every one, by index.
    pub const ALL: [Self; 5] =
        [Self::Ok, Self::Error, Self::DroppedQueue, Self::DroppedBody, Self::DroppedPolicy];

    /// Label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::DroppedQueue => "dropped_queue",
            Self::DroppedBody => "dropped_body",
            Self::DroppedPolicy => "dropped_policy",
        }
    }
}

/// Counts of one worker about one backend.
#[derive(Debug, Default)]
pub struct BackendCounts {
    /// Attempts by result, first tries and retries apart.
    pub attempts: [[AtomicU64; 2]; AttemptResult::ALL.len()],
    /// Time of connections made: TCP, and TLS where it is spoken.
    pub connect: StepTimes,
    /// Head of the request written to first byte of the answer, by attempt.
    pub first_byte: RequestTimes,
    /// Retries by what made them necessary (`Failure as usize`).
    pub retries: [AtomicU64; Failure::ALL.len()],
    /// Retries refused for want of budget, in the same way.
    pub budget_exhausted: [AtomicU64; Failure::ALL.len()],
    /// Shadow copies by result.
    pub shadows: [AtomicU64; ShadowResult::ALL.len()],
    /// Shadow copies under way.
    pub shadows_open: AtomicU64,
    /// Connections open now.
    pub open_connections: AtomicU64,
}

/// A backend, alive.
#[derive(Debug)]
pub struct Backend {
    /// Its name.
    pub name: Name,
    /// Written in place of the request's `model`.
    pub model: Option<Name>,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// The backend's own credential, sensitive.
    pub credential: Option<(HeaderName, HeaderValue)>,
    /// How long an unused connection is kept.
    pub idle_timeout: std::time::Duration,
    /// Cap on requests in flight.
    pub max_in_flight: Option<u32>,
    /// What stays across snapshots.
    pub life: Arc<Life>,
    /// As configured, for probes and resolution.
    pub plan: plan::Backend,
}

/// What makes an endpoint the same one after a new resolution.
type EndpointKey = (Scheme, Arc<str>, SocketAddr);

/// The part of a backend that survives a new snapshot.
#[derive(Debug)]
pub struct Life {
    /// Endpoints at this moment.
    pub endpoints: ArcSwap<EndpointSet>,
    /// Requests in flight, over all workers.
    pub in_flight: AtomicU32,
    /// Counts, a shard per worker.
    pub counts: Box<[CachePadded<BackendCounts>]>,
    /// Endpoints ejected since the start.
    pub ejections: AtomicU64,
    /// Retries, within the budget.
    pub budget: policies::retry::RetryBudget,
    /// Next endpoint for `round_robin`.
    pub turn: AtomicU32,
    // Endpoints by what they are, so that they survive a new resolution.
    known: Mutex<HashMap<EndpointKey, Arc<Endpoint>>>,
    // Names that did not resolve, with the reason: shown in status.
    pub(crate) unresolved: Mutex<Vec<(Arc<str>, String)>>,
}

/// All living backends of the process.
#[derive(Debug)]
pub struct Backends {
    workers: usize,
    lives: Mutex<HashMap<Name, Arc<Life>>>,
    next_id: AtomicU64,
    /// Start of the process's own time, for health and budgets.
    pub epoch: Instant,
}

impl Backends {
    /// For `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            lives: Mutex::default(),
            next_id: AtomicU64::new(1),
            epoch: crate::clock::now(),
        }
    }

    /// Time since the start of the process, as health and budgets want it.
    pub fn uptime(&self) -> std::time::Duration {
        self.uptime_at(crate::clock::now())
    }

    /// What [`Self::uptime`] was at `now`: for those who have read the clock already.
    pub fn uptime_at(&self, now: Instant) -> std::time::Duration {
        now.saturating_duration_since(self.epoch)
    }

    /// The same in nanoseconds, as rate limits want it.
    pub fn nanos(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The backend of `plan`, joined with what lives of it already.
    pub fn adopt(&self, plan: &plan::Backend) -> Arc<Backend> {
        let name = intern(&plan.name);
        let life = Arc::clone(self.lives.lock().entry(name).or_insert_with(|| {
            Arc::new(Life {
                endpoints: ArcSwap::from_pointee(EndpointSet::default()),
                in_flight: AtomicU32::new(0),
                counts: (0..self.workers).map(|_| CachePadded::default()).collect(),
                ejections: AtomicU64::new(0),
                budget: policies::retry::RetryBudget::default(),
                turn: AtomicU32::new(0),
                known: Mutex::default(),
                unresolved: Mutex::default(),
            })
        }));
        Arc::new(Backend {
            name,
            model: plan.model.as_deref().map(intern),
            balance: plan.balance,
            credential: plan.credential.clone(),
            idle_timeout: plan.idle_timeout,
            max_in_flight: plan.max_in_flight,
            life,
            plan: plan.clone(),
        })
    }

    /// Puts addresses in force. `found` pairs each configured endpoint with the addresses it leads
    /// to now, in order.
    pub fn set_addresses(&self, backend: &Backend, found: &[(plan::Endpoint, Vec<SocketAddr>)]) {
        let mut known = backend.life.known.lock();
        let mut all = Vec::new();
        for (spec, addresses) in found {
            for &address in addresses {
                let key = (spec.scheme, Arc::clone(&spec.host), address);
                if known.get(&key).is_some_and(|old| !old.is(backend, spec, address)) {
                    // Another `Host` or other TLS from now on: what ran under the old keeps it.
                    known.remove(&key);
                }
                let endpoint = known.entry(key).or_insert_with(|| {
                    Arc::new(Endpoint {
                        id: self.next_id.fetch_add(1, Relaxed),
                        backend: backend.name,
                        scheme: spec.scheme,
                        host: Arc::clone(&spec.host),
                        address,
                        authority: authority(backend, spec),
                        tls: backend.plan.tls.clone(),
                        in_flight: AtomicU32::new(0),
                        health: EndpointHealth::new(policies::health::HealthSettings::default()),
                        unreachable: AtomicBool::new(false),
                    })
                });
                all.push(Arc::clone(endpoint));
            }
        }
        let ring = (backend.balance == Balance::HashUnit).then(|| balance::Ring::new(&all));
        known.retain(|_, endpoint| all.iter().any(|e| e.id == endpoint.id));
        backend.life.endpoints.store(Arc::new(EndpointSet { all: all.into(), ring }));
    }

    /// Forgets backends that `keep` does not name. Their running requests hold what they need.
    pub fn retire(&self, keep: &[Arc<Backend>]) {
        self.lives.lock().retain(|name, _| keep.iter().any(|backend| backend.name == *name));
    }
}

/// The `Host` that an endpoint gets: as configured, else its own authority without a default port.
fn authority(backend: &Backend, spec: &plan::Endpoint) -> HeaderValue {
    if let Some(host) = &backend.plan.host {
        return host.clone();
    }
    let host: &str = &spec.host;
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let text = match (spec.scheme, spec.port) {
        (Scheme::Http | Scheme::H2c, 80) | (Scheme::Https, 443) => bracketed,
        (_, port) => format!("{bracketed}:{port}"),
    };
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circuit_is_open_only_if_nothing_serves() {
        let ejected = State::Ejected { until: std::time::Duration::ZERO };
        for (endpoints, circuit) in [
            (&[State::Serving, State::Serving][..], Circuit::Closed),
            (&[State::Serving, ejected], Circuit::Closed),
            (&[State::Serving, State::OnTrial], Circuit::HalfOpen),
            (&[ejected, State::OnTrial], Circuit::HalfOpen),
            (&[ejected, ejected], Circuit::Open),
            (&[], Circuit::Open),
        ] {
            assert_eq!(Circuit::of(endpoints.iter().copied()), circuit, "{endpoints:?}");
        }
    }
}
