//! The checked configuration: plain data, complete, with every default filled in.
//!
//! `check` makes a [`Plan`] from what stands in the file; `snapshot` joins it with the living state
//! (connections, health, revisions in the store) into what requests are served from. Indexes
//! (`usize`) point into the vectors of the same plan.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use policies::comparison::How;
use routing::{Rule, Target, UnitSource};

use crate::store::outbox::Subscriber;
use crate::webhooks::{Events, sign::Secret};

/// Everything the file says, checked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The edge: where clients come in.
    pub server: Server,
    /// The admin listener.
    pub admin: Admin,
    /// Where keys, revisions, audit rows and outcomes are kept.
    pub store: Store,
    /// How durable outcomes are and how long they are kept.
    pub recording: Recording,
    /// What clients may say of answers.
    pub feedback: Feedback,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// Keys declared in the file.
    pub declared_keys: Vec<DeclaredKey>,
    /// Pools of endpoints, in the order written.
    pub backends: Vec<Backend>,
    /// Rules that say which requests belong together, in the order written.
    pub routes: Vec<Route>,
    /// Experiments declared in the file, in the order written.
    pub experiments: Vec<Experiment>,
    /// Which routes are copied where.
    pub shadows: Vec<Shadow>,
    /// Names of `[layers.*]`.
    pub layers: Vec<Arc<str>>,
    /// Share of all units kept out of every experiment, in basis points (0 to 10,000).
    pub holdout_bp: u16,
    /// Whom decisions are told, in the order written.
    pub webhooks: Vec<Arc<Webhook>>,
}

/// `[server]`.
#[derive(Clone, Debug)]
pub struct Server {
    /// Address of the edge; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Worker threads; at least 1.
    pub workers: usize,
    /// Path that answers 200 without a credential, for load balancers.
    pub health_path: Option<String>,
    /// Certificates in the order written; the first also serves names that none of them holds.
    pub certificates: Vec<Certificate>,
    /// Peers whose `x-forwarded-*` and `x-weir-shadow` are believed.
    pub trusted_peers: Vec<Cidr>,
    /// Limits of the wire.
    pub limits: Limits,
    /// After SIGTERM: how long readiness is refused while connections are still accepted.
    pub pre_drain: Duration,
    /// After that: how long running requests may take.
    pub drain_timeout: Duration,
}

/// A network, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// Address of the network.
    pub address: std::net::IpAddr,
    /// Leading bits that count.
    pub prefix: u8,
}

impl Cidr {
    /// Whether `ip` is in it. An IPv4 network holds no IPv6 address, and the other way round.
    pub fn contains(&self, ip: std::net::IpAddr) -> bool {
        use std::net::IpAddr::{V4, V6};
        let same = |a: u128, b: u128, width: u32| {
            let prefix = u32::from(self.prefix).min(width);
            prefix == 0 || (a ^ b) >> (width - prefix) == 0
        };
        match (self.address, ip) {
            (V4(network), V4(ip)) => {
                same(u128::from(u32::from(network)), u128::from(u32::from(ip)), 32)
            }
            (V6(network), V6(ip)) => same(u128::from(network), u128::from(ip), 128),
            (V4(_), V6(_)) | (V6(_), V4(_)) => false,
        }
    }
}

/// One certificate chain with its key, parsed and known to match.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Chain and signing key.
    pub certified: Arc<rustls::sign::CertifiedKey>,
    /// DNS names and addresses of the leaf, lower case; may start with `*.`.
    pub names: Vec<String>,
    /// End of validity of the leaf, seconds since 1970.
    pub not_after: i64,
    /// Subject of the leaf, for messages and metrics.
    pub subject: String,
    /// Files it was read from, watched for changes.
    pub files: [PathBuf; 2],
}

/// `[server.limits]`; ids of the rows in the hardening table in brackets.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest request target (L01).
    pub target_bytes: usize,
    /// Request head, HTTP/1.1 (L02).
    pub header_bytes: usize,
    /// Header list, HTTP/2 (L02).
    pub h2_header_bytes: u32,
    /// Header fields (L03).
    pub header_fields: usize,
    /// From the first byte of a head to its end (L04).
    pub header_timeout: Duration,
    /// Request body (L05); a route may say otherwise.
    pub body_bytes: u64,
    /// Gap between two pieces of a request body (L06).
    pub body_idle_timeout: Duration,
    /// Least average rate of a request body after 5 s, bytes per second (L06).
    pub body_min_rate: u64,
    /// Concurrent HTTP/2 streams per connection (L07).
    pub h2_streams: u32,
    /// HTTP/2 stream window in bytes (L07).
    pub h2_stream_window: u32,
    /// HTTP/2 connection window in bytes (L07).
    pub h2_connection_window: u32,
    /// Client connections (L08).
    pub connections: usize,
    /// Client connections from one address (L08).
    pub connections_per_address: usize,
    /// TLS handshakes in progress (L08).
    pub handshakes: usize,
    /// Longest TLS handshake (L08).
    pub handshake_timeout: Duration,
    /// Idle keep-alive, HTTP/1.1 (L09).
    pub idle_timeout: Duration,
    /// Idle keep-alive, HTTP/2 (L09).
    pub h2_idle_timeout: Duration,
    /// Requests on one connection (L09).
    pub requests_per_connection: u64,
    /// Requests in flight, in all (L13).
    pub in_flight: usize,
    /// Response head from a backend (L11).
    pub response_header_bytes: usize,
    /// Response header fields from a backend (L11).
    pub response_header_fields: usize,
    /// Bytes buffered for one slow reader (L12).
    pub write_buffer: usize,
    /// Time without write progress (L12).
    pub write_timeout: Duration,
    /// Body kept for a retry (L14).
    pub replay_bytes: usize,
    /// Body kept for a shadow copy (L14).
    pub shadow_bytes: usize,
    /// Longest body that is inspected for `model` or a unit (L17).
    pub inspect_bytes: usize,
    /// Answers kept until they are compared with those of shadows, in all.
    pub compare_bytes: usize,
}

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Address of the admin listener.
    pub listen: SocketAddr,
    /// Certificates; required unless `listen` is loopback.
    pub certificates: Vec<Certificate>,
    /// Values of `Host` that are accepted besides the listen address and loopback names (T20).
    pub hosts: Vec<String>,
}

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// A SQLite database file; absolute, or relative to the working directory.
    Sqlite(PathBuf),
}

/// `[recording]`.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Durability of outcomes (D2).
    pub outcomes: Durability,
    /// Age at which outcomes are deleted; `None` keeps them.
    pub retention: Option<Duration>,
    /// Folder of the spool used while the store is away (D5).
    pub spool: PathBuf,
    /// Largest spool in bytes (L16).
    pub spool_bytes: u64,
}

/// D2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Committed before the last response byte.
    Sync,
    /// Committed within 50 ms.
    Group,
    /// Best effort.
    Async,
    /// No rows; tallies and metrics stay exact.
    Off,
}

/// `[feedback]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Feedback {
    /// How long after its request feedback is taken.
    pub window: Duration,
    /// Whether metrics are taken that are not among `metrics`.
    pub undeclared: bool,
    /// Declared metrics, in the order written.
    pub metrics: Vec<FeedbackMetric>,
}

/// `[feedback.metrics.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedbackMetric {
    /// Its name.
    pub name: Arc<str>,
    /// What its values are.
    pub kind: MetricKind,
    /// How long after its request it is taken.
    pub window: Duration,
}

/// What the values of a metric are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetricKind {
    /// Yes or no.
    Bool,
    /// Finite numbers within these bounds, both included.
    Number {
        /// Least.
        min: f64,
        /// Greatest.
        max: f64,
    },
    /// Kept, not analysed.
    Text,
}

/// `[telemetry]`.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Where access lines go.
    pub access_log: AccessLog,
    /// Share of requests that are traced, 0.0 to 1.0.
    pub sample_ratio: f64,
    /// Trace every request that fails.
    pub sample_errors: bool,
    /// OTLP endpoint; `None` sends no traces.
    pub otlp: Option<String>,
}

/// `telemetry.access_log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// No access lines.
    Off,
    /// Only lines of requests that failed.
    Errors,
    /// Every line, to standard output.
    Stdout,
    /// Every line, to this file.
    File(PathBuf),
}

/// An entry of `auth.keys`.
#[derive(Clone, Debug)]
pub struct DeclaredKey {
    /// Name for people; also the key's id in records.
    pub name: Arc<str>,
    /// What [`policies::api_key::declared_hash`] makes of the secret.
    pub hash: [u8; 32],
    /// What the key may do.
    pub role: policies::Role,
    /// Routes it may call; `None` for all.
    pub routes: Option<Vec<Arc<str>>>,
    /// Its limits.
    pub limits: KeyLimits,
}

/// Limits of one key; `None` is no limit of its own.
pub use policies::KeyLimits;

/// `[backends.NAME]`.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Its name.
    pub name: Arc<str>,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// Written in place of the request's `model`.
    pub model: Option<Arc<str>>,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// Header added to each request, marked sensitive: the backend's own credential.
    pub credential: Option<(HeaderName, HeaderValue)>,
    /// Active health probe.
    pub health: Option<Probe>,
    /// How TLS is spoken to `https` endpoints. `None` where there is none.
    pub tls: Option<Tls>,
    /// Host header to send instead of the endpoint's authority.
    pub host: Option<HeaderValue>,
    /// Requests in flight (L13); `None` for no cap of its own.
    pub max_in_flight: Option<u32>,
    /// How long an unused connection is kept. Below the model server's own keep-alive.
    pub idle_timeout: Duration,
    /// Whether a DNS name may lead to loopback or private addresses (T23).
    pub allow_private: bool,
}

/// Our side of TLS towards a backend.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Own CA and client certificate: a finished client configuration. Endpoints that share it share
    /// sessions.
    pub config: Arc<rustls::ClientConfig>,
    /// Name to ask for and to verify instead of the endpoint's host.
    pub server_name: Option<Arc<str>>,
    /// The same for the same authorities, certificate and name, and for no others.
    pub fingerprint: [u8; 32],
}

/// One address of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Protocol.
    pub scheme: Scheme,
    /// Host as written, without brackets, lower case: a DNS name or an address.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
}

/// Protocol of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http://`: HTTP/1.1 in the clear.
    Http,
    /// `https://`: TLS; HTTP/2 if the endpoint offers it, else HTTP/1.1.
    Https,
    /// `h2c://`: HTTP/2 in the clear, with prior knowledge.
    H2c,
}

/// `balance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The endpoint with the fewest requests in flight.
    LeastRequests,
    /// One after the other.
    RoundRobin,
    /// The unit's own endpoint, by a ketama ring.
    HashUnit,
}

/// `health`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Path to ask for.
    pub path: String,
    /// Time between two probes.
    pub interval: Duration,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

/// `[routes.NAME]`.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// The pattern of the path as written, for metrics and traces (`http.route`).
    pub pattern: Arc<str>,
    /// What it matches.
    pub rule: Rule,
    /// Serves when no experiment decides.
    pub backend: usize,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// Whether a request that is not idempotent may be sent again after a reused connection was
    /// closed before any response byte (F05).
    pub retry_non_idempotent: bool,
    /// Whether WebSocket upgrades pass.
    pub websocket: bool,
    /// Whether the backend gets the client's Host.
    pub preserve_host: bool,
    /// Largest request body.
    pub body_bytes: u64,
    /// Whether answers carry `server-timing`.
    pub server_timing: bool,
    /// Whether anything of its requests and answers may be kept (T27).
    pub payload_capture: bool,
}

/// `timeouts` (L10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To a connected socket, TLS included.
    pub connect: Duration,
    /// From the request sent to the first response byte.
    pub first_byte: Duration,
    /// Between two pieces of the response.
    pub idle: Duration,
    /// The whole request.
    pub total: Duration,
}

/// `[experiments.NAME]`.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// Its name.
    pub name: Arc<str>,
    /// The route it splits.
    pub route: usize,
    /// Where the unit is looked for, in this order.
    pub unit: Vec<UnitSource>,
    /// Index into `variants`.
    pub control: usize,
    /// Control first, then as written. At least two, at most 64.
    pub variants: Vec<Variant>,
    /// Rules that come before the split.
    pub targets: Vec<Target>,
    /// Who may change it.
    pub owner: Owner,
    /// What happens when a variant cannot serve (F08).
    pub on_failure: OnFailure,
    /// Its place in a layer: index into `layers`, and its part of the layer in basis points.
    pub layer: Option<(usize, u16)>,
}

/// A variant as the file states it.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Its name.
    pub name: Arc<str>,
    /// Index into the plan's backends.
    pub backend: usize,
    /// Relative weight; finite, not negative.
    pub weight: f64,
}

/// `owner`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The file and the admin API may both change it.
    Api,
    /// Only the file may change it.
    File,
}

/// `on_failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The request fails; counted against the variant.
    Fail,
    /// Control serves it; assigned and served variant are kept apart.
    Fallback,
}

/// `[shadows.NAME]`.
#[derive(Clone, Debug)]
pub struct Shadow {
    /// Its name.
    pub name: Arc<str>,
    /// The route that is copied.
    pub route: usize,
    /// Where copies go.
    pub backend: usize,
    /// Share of requests that are copied, 0.0 to 1.0.
    pub share: f64,
    /// Copies at the same time, over all workers.
    pub max_in_flight: u32,
    /// Copies waiting for a place.
    pub queue: u32,
    /// Longest copy, from sent to last byte.
    pub timeout: Duration,
    /// How its answers are compared.
    pub compare: Arc<Compare>,
}

/// `compare` of a shadow.
#[derive(Clone, Debug, PartialEq)]
pub struct Compare {
    /// How.
    pub how: How,
    /// Longest answer that is compared.
    pub answer_bytes: usize,
    /// Share of pairs that has to agree for the shadow to pass.
    pub agreement: f64,
    /// Pairs that takes.
    pub min_pairs: u64,
    /// Which disagreements are kept; none without.
    pub samples: Option<Samples>,
}

/// `samples` of a comparison: only where the route allows it (T27).
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// How many.
    pub most: u32,
    /// Bytes of each text.
    pub bytes: usize,
    /// How long.
    pub retention: Duration,
    /// JSON pointers of what is taken out.
    pub redact: Vec<String>,
}

/// An entry of `[[webhooks]]`.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its name; no two have the same.
    pub name: Arc<str>,
    /// Where messages are sent.
    pub url: WebhookUrl,
    /// What is told.
    pub events: Events,
    /// What messages are signed with; empty: they are not.
    pub secrets: Vec<Secret>,
    /// Whether it takes alerts, as Alertmanager does, instead of events.
    pub takes_alerts: bool,
    /// Labels that every alert gets.
    pub labels: Vec<(String, String)>,
    /// Header added to each message, marked sensitive: what the receiver asks for.
    pub credential: Option<(HeaderName, HeaderValue)>,
    /// How TLS is spoken to an `https` receiver. `None` in the clear.
    pub tls: Option<Tls>,
    /// Whether a DNS name may lead to loopback or private addresses (T23).
    pub allow_private: bool,
    /// Longest try.
    pub timeout: Duration,
    /// Age at which a message that was not taken is given up.
    pub give_up_after: Duration,
}

impl Webhook {
    /// As far as the store must know it.
    pub fn subscriber(&self) -> Subscriber {
        Subscriber {
            name: Arc::clone(&self.name),
            events: self.events,
            takes_alerts: self.takes_alerts,
        }
    }
}

/// Where messages are sent. Only its origin is shown: many receivers put a secret into the path.
#[derive(Clone)]
pub struct WebhookUrl {
    /// Protocol, host and port. Never `h2c`.
    pub endpoint: Endpoint,
    /// The host as `Host` says it, with the port if one was written.
    pub authority: HeaderValue,
    /// Path and query.
    pub target: http::uri::PathAndQuery,
}

impl WebhookUrl {
    /// `https://HOST[:PORT]`.
    pub fn origin(&self) -> String {
        let scheme = if self.endpoint.scheme == Scheme::Https { "https" } else { "http" };
        format!("{scheme}://{}", self.authority.to_str().unwrap_or_default())
    }
}

impl std::fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WebhookUrl").field(&self.origin()).finish()
    }
}
