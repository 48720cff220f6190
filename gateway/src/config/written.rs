//! What stands in the file, as it stands there: no defaults, nothing checked but the shape.
//!
//! The doc comments of the fields are the descriptions in the JSON Schema (`weir schema`).
//! Everything is optional here, because what is missing is told by `check`, which knows whether a
//! missing member was really left out or had to be set aside for a mistake in it. The attribute
//! `schemars(required)` tells the schema which members a file must have.

use schemars::JsonSchema;
use serde::Deserialize;

mod values;
mod webhooks;
mod words;

pub(crate) use values::{At, Duration, Entries, OneOrMany, Size};
pub(crate) use webhooks::Webhook;
pub(crate) use words::{
    Balance, ComparisonKind, Durability, MetricKind, OnFailure, Owner, Role, Undeclared,
    WebhookFormat,
};

/// Configuration of the Weir gateway (`weir.toml`).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "weir.toml")]
pub(crate) struct File {
    /// The edge: where clients come in.
    #[schemars(required)]
    pub(crate) server: Option<At<Server>>,
    /// The admin listener: API, dashboard, health, metrics.
    pub(crate) admin: Option<At<Admin>>,
    /// Where keys, revisions, audit rows and outcomes are kept.
    pub(crate) store: Option<At<Store>>,
    /// How durable outcomes are and how long they are kept.
    pub(crate) recording: Option<At<Recording>>,
    /// What clients may say of answers, and how long after them.
    pub(crate) feedback: Option<At<Feedback>>,
    /// Logs and traces.
    pub(crate) telemetry: Option<At<Telemetry>>,
    /// Keys declared in the file.
    pub(crate) auth: Option<At<Auth>>,
    /// Pools of endpoints, each serving one version of a model.
    #[serde(default)]
    pub(crate) backends: Entries<Backend>,
    /// Rules that say which requests belong together.
    #[serde(default)]
    pub(crate) routes: Entries<Route>,
    /// Questions put to a route's traffic: variants and their shares.
    #[serde(default)]
    pub(crate) experiments: Entries<Experiment>,
    /// Copies of a route's requests, whose answers no client sees.
    #[serde(default)]
    pub(crate) shadows: Entries<Shadow>,
    /// Layers: experiments in one layer never share a unit. Each is an empty table.
    #[serde(default)]
    pub(crate) layers: Entries<Layer>,
    /// Units kept out of every experiment.
    pub(crate) holdout: Option<At<Holdout>>,
    /// Whom decisions of ramps, breaches and changes are told.
    pub(crate) webhooks: Option<At<Vec<At<Webhook>>>>,
}

/// The edge.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    /// Address of the edge, as `ADDRESS:PORT`; port 0 takes a free one.
    #[schemars(required, extend("examples" = ["0.0.0.0:8443"]))]
    pub(crate) listen: Option<At<String>>,
    /// TLS of the edge.
    #[schemars(required)]
    pub(crate) tls: Option<At<ServerTls>>,
    /// Worker threads; 0, the default, is one per core.
    pub(crate) workers: Option<At<u64>>,
    /// Path that answers 200 without a credential on the edge, for load balancers.
    pub(crate) health_path: Option<At<String>>,
    /// Peers (networks such as `10.0.0.0/8`, or addresses) whose `x-forwarded-*` and
    /// `x-weir-shadow` headers are believed, and whose traces are continued.
    pub(crate) trusted_peers: Option<At<Vec<At<String>>>>,
    /// Limits of the wire. All have defaults; none can be switched off.
    pub(crate) limits: Option<At<Limits>>,
    /// After SIGTERM: how long readiness is refused while connections are still accepted.
    /// Default `5s`.
    pub(crate) pre_drain: Option<At<Duration>>,
    /// After that: how long running requests may take. Default `300s`.
    pub(crate) drain_timeout: Option<At<Duration>>,
}

/// TLS of a listener.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerTls {
    /// Certificates, chosen by the name the client asks for; the first also serves every other
    /// name. Read again when the files change.
    #[schemars(required)]
    pub(crate) certificates: Option<At<Vec<At<Certificate>>>>,
}

/// A certificate and its key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    /// PEM file with the certificate, followed by its intermediates; relative to this file.
    #[schemars(required)]
    pub(crate) chain: Option<At<String>>,
    /// PEM file with the private key; relative to this file.
    #[schemars(required)]
    pub(crate) key: Option<At<String>>,
}

/// Limits of the wire.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// Longest request target. Default `8KiB`.
    pub(crate) target_bytes: Option<At<Size>>,
    /// Longest request head, HTTP/1.1. Default `32KiB`.
    pub(crate) header_bytes: Option<At<Size>>,
    /// Largest header list, HTTP/2. Default `16KiB`.
    pub(crate) h2_header_bytes: Option<At<Size>>,
    /// Most header fields of a request. Default 100.
    pub(crate) header_fields: Option<At<u64>>,
    /// From the first byte of a request head to its end. Default `10s`.
    pub(crate) header_timeout: Option<At<Duration>>,
    /// Largest request body; a route may say otherwise. Default `10MiB`.
    pub(crate) body_bytes: Option<At<Size>>,
    /// Longest gap between two pieces of a request body. Default `30s`.
    pub(crate) body_idle_timeout: Option<At<Duration>>,
    /// Least average rate of a request body after 5 s, per second. Default `1KiB`.
    pub(crate) body_min_rate: Option<At<Size>>,
    /// Concurrent HTTP/2 streams on one connection. Default 100.
    pub(crate) h2_streams: Option<At<u64>>,
    /// HTTP/2 flow-control window of a stream. Default `64KiB`.
    pub(crate) h2_stream_window: Option<At<Size>>,
    /// HTTP/2 flow-control window of a connection. Default `1MiB`.
    pub(crate) h2_connection_window: Option<At<Size>>,
    /// Client connections. Default 10000.
    pub(crate) connections: Option<At<u64>>,
    /// Client connections from one address. Default 256.
    pub(crate) connections_per_address: Option<At<u64>>,
    /// TLS handshakes in progress. Default 512.
    pub(crate) handshakes: Option<At<u64>>,
    /// Longest TLS handshake. Default `5s`.
    pub(crate) handshake_timeout: Option<At<Duration>>,
    /// How long an idle HTTP/1.1 connection is kept. Default `75s`.
    pub(crate) idle_timeout: Option<At<Duration>>,
    /// How long an idle HTTP/2 connection is kept. Default `300s`.
    pub(crate) h2_idle_timeout: Option<At<Duration>>,
    /// Requests on one connection. Default 10000.
    pub(crate) requests_per_connection: Option<At<u64>>,
    /// Requests in flight, in all. Default 4096.
    pub(crate) in_flight: Option<At<u64>>,
    /// Largest response head from a backend. Default `64KiB`.
    pub(crate) response_header_bytes: Option<At<Size>>,
    /// Most header fields of a response from a backend. Default 128.
    pub(crate) response_header_fields: Option<At<u64>>,
    /// Bytes buffered for one slow reader. Default `256KiB`.
    pub(crate) write_buffer: Option<At<Size>>,
    /// Longest time without progress in writing to a client. Default `30s`.
    pub(crate) write_timeout: Option<At<Duration>>,
    /// Largest body that is kept for a retry. Default `64KiB`.
    pub(crate) replay_bytes: Option<At<Size>>,
    /// Largest body that is kept for a shadow copy. Default `1MiB`.
    pub(crate) shadow_bytes: Option<At<Size>>,
    /// Largest body that is inspected for `model` or a unit. Default `1MiB`.
    pub(crate) inspect_bytes: Option<At<Size>>,
    /// Answers that are kept until they have been compared with those of shadows, in all; what comes
    /// on top is not compared. Default `64MiB`.
    pub(crate) compare_bytes: Option<At<Size>>,
}

/// The admin listener.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    /// Address of the admin listener, as `ADDRESS:PORT`. Default `127.0.0.1:8444`. Plain HTTP is
    /// spoken on loopback only; any other address needs `[admin.tls]`.
    pub(crate) listen: Option<At<String>>,
    /// TLS of the admin listener.
    pub(crate) tls: Option<At<ServerTls>>,
    /// Names by which people reach the admin listener (values of `Host`), besides its address and
    /// the loopback names.
    pub(crate) hosts: Option<At<Vec<At<String>>>>,
}

/// The store.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    /// `sqlite:PATH`, relative to this file. Default `sqlite:weir.db`.
    pub(crate) url: Option<At<String>>,
}

/// Recording of outcomes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recording {
    /// How durable an outcome is when the answer ends: `sync` (committed before the last byte),
    /// `group` (the default: committed within 50 ms), `async` (best effort), `off` (no rows;
    /// tallies and metrics stay exact).
    pub(crate) outcomes: Option<At<Durability>>,
    /// Age at which outcomes are deleted. Without it they are kept.
    pub(crate) retention: Option<At<Duration>>,
    /// Folder that takes outcomes while the store is away; relative to this file. Default: the
    /// store's file with `.spool` added.
    pub(crate) spool: Option<At<String>>,
    /// Largest spool. Default `1GiB`.
    pub(crate) spool_bytes: Option<At<Size>>,
}

/// Feedback.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Feedback {
    /// How long after its request feedback is taken. Default `24h`.
    pub(crate) window: Option<At<Duration>>,
    /// What happens to metrics that are not declared below: `accept` (the default: any value that is
    /// a boolean, a number or text, at most 200 different names), or `refuse`.
    pub(crate) undeclared: Option<At<Undeclared>>,
    /// Metrics by name. Only declared ones become labels of Weir's own metrics.
    #[serde(default)]
    pub(crate) metrics: Entries<FeedbackMetric>,
}

/// A metric that clients report.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FeedbackMetric {
    /// What its values are: `bool`, `number`, or `text` (kept, not analysed).
    #[schemars(required)]
    pub(crate) kind: Option<At<MetricKind>>,
    /// Least number that is taken.
    pub(crate) min: Option<At<f64>>,
    /// Greatest number that is taken.
    pub(crate) max: Option<At<f64>>,
    /// How long after its request it is taken. Default: `feedback.window`.
    pub(crate) window: Option<At<Duration>>,
}

/// Logs and traces.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Telemetry {
    /// Where access lines go: `stdout` (the default), `errors` (only failed requests), `off`, or
    /// `file:PATH`, relative to this file.
    #[schemars(regex(pattern = "^(off|errors|stdout|file:.+)$"))]
    pub(crate) access_log: Option<At<String>>,
    /// Which requests are traced.
    pub(crate) sample: Option<At<Sample>>,
    /// OTLP endpoint for traces, `http://…` or `https://…`. Default: the standard variables
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` and `OTEL_EXPORTER_OTLP_ENDPOINT`. Over TLS the
    /// collector's certificate must be vouched for by the authorities in the file that
    /// `OTEL_EXPORTER_OTLP_CERTIFICATE` names, else by a public one.
    pub(crate) otlp: Option<At<String>>,
}

/// Which requests are traced.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sample {
    /// Share of requests that are traced, from 0 to 1. Default 0.01.
    #[schemars(range(min = 0, max = 1))]
    pub(crate) ratio: Option<At<f64>>,
    /// Whether every request that fails is traced. Default true.
    pub(crate) errors: Option<At<bool>>,
}

/// Who may call.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Auth {
    /// Keys of a fixed deployment, declared by hash. Other keys live in the store
    /// (`weir key create`).
    pub(crate) keys: Option<At<Vec<At<Key>>>>,
}

/// A declared key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Key {
    /// Its name, for people and records.
    #[schemars(required, regex(pattern = "^[A-Za-z0-9_.-]{1,64}$"))]
    pub(crate) name: Option<At<String>>,
    /// `blake3:` and the 64 hexadecimal digits of the secret's hash.
    #[schemars(required, regex(pattern = "^blake3:[0-9A-Fa-f]{64}$"))]
    pub(crate) hash: Option<At<String>>,
    /// What it may do.
    #[schemars(required)]
    pub(crate) role: Option<At<Role>>,
    /// Routes it may call; without it all.
    pub(crate) routes: Option<At<Vec<At<String>>>>,
    /// Requests per second.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub(crate) requests_per_second: Option<At<f64>>,
    /// Requests at the same time.
    #[schemars(range(min = 1))]
    pub(crate) concurrent: Option<At<u64>>,
    /// Tokens, input and output, per minute.
    #[schemars(range(min = 1))]
    pub(crate) tokens_per_minute: Option<At<u64>>,
}

/// A pool of endpoints.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backend {
    /// Addresses: `http://HOST[:PORT]`, `https://…`, or `h2c://…` (HTTP/2 in the clear).
    #[schemars(required)]
    pub(crate) endpoints: Option<At<Vec<At<String>>>>,
    /// Written in place of the request's `model`; without it the request's stays.
    pub(crate) model: Option<At<String>>,
    /// How an endpoint is chosen: `least_requests` (the default), `round_robin`, or `hash:unit`
    /// (a unit stays on its endpoint; a request without one goes by its key and client address).
    pub(crate) balance: Option<At<Balance>>,
    /// The backend's own credential, as `env:NAME` or `file:PATH`. The client's is never sent.
    #[schemars(regex(pattern = "^(env|file):.+$"))]
    pub(crate) credential: Option<At<String>>,
    /// Header that carries the credential. Default `authorization`, as `Bearer CREDENTIAL`; any
    /// other header gets the bare credential.
    pub(crate) credential_header: Option<At<String>>,
    /// Active health probe; without it only the traffic tells.
    pub(crate) health: Option<At<Health>>,
    /// TLS towards `https` endpoints.
    pub(crate) tls: Option<At<BackendTls>>,
    /// Host header to send instead of the endpoint's own.
    pub(crate) host: Option<At<String>>,
    /// Requests in flight to this backend; without it only the gateway's limit counts.
    #[schemars(range(min = 1))]
    pub(crate) max_in_flight: Option<At<u64>>,
    /// How long an unused connection is kept. Default `4s`, which is below the keep-alive of the
    /// usual model servers (5 s).
    pub(crate) idle_timeout: Option<At<Duration>>,
    /// Whether a DNS name may lead to loopback or private addresses. Default false.
    pub(crate) allow_private: Option<At<bool>>,
}

/// An active health probe.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Health {
    /// Path to ask for; any 2xx is healthy.
    #[schemars(required)]
    pub(crate) path: Option<At<String>>,
    /// Time between two probes. Default `5s`.
    pub(crate) interval: Option<At<Duration>>,
    /// Longest wait for an answer, at most the interval. Default `2s`.
    pub(crate) timeout: Option<At<Duration>>,
}

/// TLS towards a backend.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackendTls {
    /// PEM file with the authorities to trust instead of the public ones; relative to this file.
    pub(crate) ca: Option<At<String>>,
    /// PEM file with our certificate for the backend; relative to this file.
    pub(crate) client_certificate: Option<At<String>>,
    /// PEM file with its private key; relative to this file.
    pub(crate) client_key: Option<At<String>>,
    /// Name to ask for and to verify instead of the endpoint's host.
    pub(crate) server_name: Option<At<String>>,
}

/// A rule that says which requests belong together.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// Path: exact (`/v1/chat/completions`), or a prefix (`/v2/models/*`).
    #[schemars(required)]
    pub(crate) path: Option<At<String>>,
    /// Hosts: exact (`api.example.com`), or with any first part (`*.example.com`); without it all.
    pub(crate) hosts: Option<At<Vec<At<String>>>>,
    /// Methods; without it all.
    pub(crate) methods: Option<At<Vec<At<String>>>>,
    /// Headers that must be there with exactly this value.
    #[serde(default)]
    pub(crate) headers: Entries<At<String>>,
    /// Only requests whose JSON body has this `model`; without it any.
    pub(crate) model: Option<At<String>>,
    /// Backend that serves when no experiment decides.
    #[schemars(required)]
    pub(crate) backend: Option<At<String>>,
    /// Deadlines towards the backend.
    pub(crate) timeouts: Option<At<Timeouts>>,
    /// Whether a request that is not idempotent may be sent again when a kept connection turns out
    /// to be closed before any byte of the answer. Default false.
    pub(crate) retry_non_idempotent: Option<At<bool>>,
    /// Whether WebSocket upgrades pass. Default false.
    pub(crate) websocket: Option<At<bool>>,
    /// Whether the backend gets the client's Host. Default false.
    pub(crate) preserve_host: Option<At<bool>>,
    /// Largest request body. Default: `server.limits.body_bytes`.
    pub(crate) body_bytes: Option<At<Size>>,
    /// Whether answers carry `server-timing`. Default false.
    pub(crate) server_timing: Option<At<bool>>,
    /// Whether anything of its requests and answers may be kept, for those who ask for it: a shadow's
    /// `compare.samples`. Default false.
    pub(crate) payload_capture: Option<At<bool>>,
}

/// Deadlines towards the backend.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Timeouts {
    /// To a connected socket, TLS included. Default `2s`.
    pub(crate) connect: Option<At<Duration>>,
    /// From the request sent to the first byte of the answer. Default `60s`.
    pub(crate) first_byte: Option<At<Duration>>,
    /// Between two pieces of the answer. Default `60s`.
    pub(crate) idle: Option<At<Duration>>,
    /// The whole request. Default `600s`.
    pub(crate) total: Option<At<Duration>>,
}

/// A question put to a route's traffic.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Experiment {
    /// The route it splits.
    #[schemars(required)]
    pub(crate) route: Option<At<String>>,
    /// Where the unit (what stays on one variant) is looked for; the first that is present counts:
    /// `header:NAME`, `cookie:NAME`, `jwt:CLAIM`, `body:JSON.pointer`, `key`, `address`, `request`.
    #[schemars(required)]
    pub(crate) unit: Option<At<OneOrMany>>,
    /// The variant the others are judged against.
    #[schemars(required)]
    pub(crate) control: Option<At<String>>,
    /// Variants: from 2 to 64.
    #[serde(default)]
    #[schemars(extend("minProperties" = 2, "maxProperties" = 64))]
    pub(crate) variants: Entries<Variant>,
    /// Rules that come before the split; the first that holds counts.
    pub(crate) targets: Option<At<Vec<At<Target>>>>,
    /// Who may change it: `api` (the default: this file and the admin API) or `file` (only this
    /// file).
    pub(crate) owner: Option<At<Owner>>,
    /// What happens when a variant cannot serve: `fail` (the default) or `fallback` to control.
    pub(crate) on_failure: Option<At<OnFailure>>,
    /// Its place in a layer.
    pub(crate) layer: Option<At<Placement>>,
}

/// One way of serving.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variant {
    /// Backend that serves it.
    #[schemars(required)]
    pub(crate) backend: Option<At<String>>,
    /// Relative weight: any number from 0 up; 0 means drain.
    #[schemars(required, range(min = 0))]
    pub(crate) weight: Option<At<f64>>,
}

/// A rule that comes before the split.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// When it holds: exactly one of `header`, `unit`, `key`.
    #[schemars(required, extend("minProperties" = 1, "maxProperties" = 1))]
    pub(crate) when: Option<At<When>>,
    /// The variant it gives.
    #[schemars(required)]
    pub(crate) variant: Option<At<String>>,
}

/// When a target holds.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct When {
    /// The request has this header with exactly this value.
    pub(crate) header: Option<At<HeaderIs>>,
    /// The unit is one of these.
    pub(crate) unit: Option<At<Vec<At<String>>>>,
    /// The request came with the key of this name.
    pub(crate) key: Option<At<String>>,
}

/// A header and its value.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderIs {
    /// Name of the header.
    #[schemars(required)]
    pub(crate) name: Option<At<String>>,
    /// Its value, letter for letter.
    #[schemars(required)]
    pub(crate) value: Option<At<String>>,
}

/// An experiment's place in a layer.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Placement {
    /// Name of the layer.
    #[schemars(required)]
    pub(crate) name: Option<At<String>>,
    /// Part of the layer's units that the experiment may have; with all others at most 100.
    #[schemars(required, range(min = 0, max = 100))]
    pub(crate) percent: Option<At<f64>>,
}

/// A copy of a route's requests.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shadow {
    /// The route that is copied. Naming it here says that a copy is safe there.
    #[schemars(required)]
    pub(crate) route: Option<At<String>>,
    /// Where copies go.
    #[schemars(required)]
    pub(crate) backend: Option<At<String>>,
    /// Percent of requests that are copied.
    #[schemars(required, range(min = 0, max = 100))]
    pub(crate) percent: Option<At<f64>>,
    /// Copies at the same time. Default 64.
    #[schemars(range(min = 1))]
    pub(crate) max_in_flight: Option<At<u64>>,
    /// Copies waiting for a place; what comes on top is dropped and counted. Default 256.
    pub(crate) queue: Option<At<u64>>,
    /// Longest copy, from sent to last byte. Default `600s`.
    pub(crate) timeout: Option<At<Duration>>,
    /// How answers are compared with those that clients get. Default: by their statuses.
    pub(crate) compare: Option<At<Compare>>,
}

/// How the answers of a shadow are compared with those that clients get.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Compare {
    /// By what: `status` (the default: its class, no body is looked at), `exact` (the whole body, as
    /// JSON without regard to the order of members), `label` (one value), `numeric` (numbers that are
    /// close), `text` (how alike two texts are), `embedding` (the cosine of two vectors).
    pub(crate) kind: Option<At<ComparisonKind>>,
    /// Where in the answer, as a JSON pointer such as `/outputs/0/data`. Required for `numeric`. For
    /// `embedding` the default is `/data/0/embedding`; for `text` and `label` it is what the model said,
    /// wherever the APIs of OpenAI and Anthropic put that. Streams are put together first.
    #[schemars(regex(pattern = "^(/.*)?$"))]
    pub(crate) path: Option<At<String>>,
    /// Of `exact`: JSON pointers of what may differ, such as `/id`.
    pub(crate) ignore: Option<At<Vec<At<String>>>>,
    /// Of `numeric`: numbers are close if they differ by at most `atol + rtol * (the larger one)`.
    /// Default 1e-6.
    #[schemars(range(min = 0))]
    pub(crate) atol: Option<At<f64>>,
    /// Default 1e-3.
    #[schemars(range(min = 0))]
    pub(crate) rtol: Option<At<f64>>,
    /// Of `text` and `embedding`: from how alike two answers agree, up to 1. Default 0.8 for texts and
    /// 0.95 for embeddings.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub(crate) at_least: Option<At<f64>>,
    /// Longest answer that is compared. Default `256KiB`.
    pub(crate) answer_bytes: Option<At<Size>>,
    /// Share of pairs that has to agree for the shadow to pass. Default 0.95.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub(crate) agreement: Option<At<f64>>,
    /// Pairs that it takes for the shadow to pass. Default 1000.
    #[schemars(range(min = 1))]
    pub(crate) min_pairs: Option<At<u64>>,
    /// Keeps the newest disagreements, with what was asked and answered. Without it only counts are
    /// kept. Needs `payload_capture = true` on the route.
    pub(crate) samples: Option<At<Samples>>,
}

/// Disagreements that are kept.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Samples {
    /// How many, the newest. Default 100.
    #[schemars(range(min = 1))]
    pub(crate) most: Option<At<u64>>,
    /// How much of each of the three texts. Default `8KiB`.
    pub(crate) bytes: Option<At<Size>>,
    /// How long. Default `7d`.
    pub(crate) retention: Option<At<Duration>>,
    /// JSON pointers of what is taken out besides credentials, such as `/user`. Texts that are no JSON
    /// are not kept then.
    pub(crate) redact: Option<At<Vec<At<String>>>>,
}

/// A layer; nothing is said about it but its name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layer {}

/// Units kept out of every experiment.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Holdout {
    /// Percent of all units, in steps of 0.01.
    #[schemars(required, range(min = 0, max = 100))]
    pub(crate) percent: Option<At<f64>>,
}
