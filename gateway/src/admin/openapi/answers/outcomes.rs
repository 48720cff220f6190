//! Stored outcomes.

use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

/// A stored outcome. Members that are not known are missing; their names are those of the access log.
/// Times `t_…` are microseconds from the end of the request's head.
#[derive(Debug, JsonSchema)]
#[schemars(transform = as_far_as_known)]
pub struct Outcome {
    request_id: String,
    boot_id: String,
    timestamp: String,
    seq: u64,
    trace_sampled: bool,
    #[schemars(rename = "network.protocol.version")]
    protocol: String,
    stream: bool,
    #[schemars(rename = "stream.complete")]
    stream_complete: bool,
    #[schemars(rename = "connection.reused")]
    connection_reused: bool,
    shadow: bool,
    route: String,
    #[schemars(rename = "http.route")]
    http_route: String,
    experiment: String,
    #[schemars(rename = "experiment.revision")]
    experiment_revision: u64,
    variant: String,
    #[schemars(rename = "variant.served")]
    variant_served: String,
    #[schemars(rename = "assignment.reason")]
    assignment_reason: String,
    #[schemars(rename = "assignment.bucket")]
    assignment_bucket: u64,
    #[schemars(rename = "assignment.eligible")]
    assignment_eligible: bool,
    #[schemars(rename = "unit.hash")]
    unit_hash: String,
    backend: String,
    #[schemars(rename = "server.backend.address")]
    backend_address: String,
    attempts: u64,
    #[schemars(rename = "attempts.earlier")]
    attempts_earlier: Vec<EarlierAttempt>,
    #[schemars(rename = "upstream.status")]
    upstream_status: u64,
    #[schemars(rename = "http.response.status_code")]
    status: u64,
    outcome: String,
    rejected: String,
    flags: String,
    #[schemars(rename = "error.type")]
    error_type: String,
    #[schemars(rename = "http.request.method")]
    method: String,
    #[schemars(rename = "url.path")]
    path: String,
    #[schemars(rename = "server.address")]
    host: String,
    #[schemars(rename = "user_agent.original")]
    user_agent: String,
    #[schemars(rename = "auth.key_id")]
    key_id: String,
    #[schemars(rename = "network.peer.address")]
    peer_address: String,
    #[schemars(rename = "network.peer.port")]
    peer_port: u64,
    #[schemars(rename = "client.address")]
    client_address: String,
    #[schemars(rename = "tls.protocol.version")]
    tls_version: String,
    #[schemars(rename = "tls.cipher")]
    tls_cipher: String,
    #[schemars(rename = "http.request.body.size")]
    request_bytes: u64,
    #[schemars(rename = "http.response.body.size")]
    response_bytes: u64,
    #[schemars(rename = "stream.chunks")]
    chunks: u64,
    #[schemars(rename = "gen_ai.request.model")]
    request_model: String,
    #[schemars(rename = "gen_ai.response.model")]
    response_model: String,
    #[schemars(rename = "gen_ai.response.finish_reason")]
    finish_reason: String,
    #[schemars(rename = "gen_ai.usage.input_tokens")]
    input_tokens: u64,
    #[schemars(rename = "gen_ai.usage.output_tokens")]
    output_tokens: u64,
    #[schemars(rename = "usage.source")]
    usage_source: String,
    t_header: u64,
    t_auth: u64,
    t_connect: u64,
    t_send: u64,
    t_attempt: u64,
    t_first_byte: u64,
    t_first_token: u64,
    t_stream: u64,
    t_total: u64,
    t_gateway: u64,
    trace_id: String,
    span_id: String,
    parent_span_id: String,
    #[schemars(rename = "attempt.span_id")]
    attempt_span_id: String,
    client_request_id: String,
    upstream_request_id: String,
}

fn as_far_as_known(schema: &mut Schema) {
    schema.insert("required".into(), json!(["request_id", "boot_id", "timestamp"]));
}

/// An attempt that another one followed.
#[derive(Debug, JsonSchema)]
pub struct EarlierAttempt {
    backend: Option<String>,
    endpoint: Option<String>,
    reused: bool,
    error: Option<String>,
    began: Option<u64>,
    ended: Option<u64>,
    span_id: String,
}

/// One outcome with where its time went and why it went there.
#[derive(Debug, JsonSchema)]
pub struct OutcomeInFull {
    #[schemars(flatten)]
    outcome: Outcome,
    /// The first attempt first.
    attempt_list: Vec<AttemptShown>,
    /// What it spent its time on, in order and without gaps.
    phases: Vec<Phase>,
    /// Null without an experiment.
    decision: Option<WhyThere>,
    /// What people said of its answer.
    feedback: Vec<Said>,
}

/// Feedback on one answer.
#[derive(Debug, JsonSchema)]
pub struct Said {
    metric: String,
    value: Value,
    id: Option<String>,
    key_id: String,
    received_at: String,
    segment: Value,
}

/// One attempt. Times in microseconds from the end of the head.
#[derive(Debug, JsonSchema)]
pub struct AttemptShown {
    attempt: u64,
    backend: Option<String>,
    endpoint: Option<String>,
    reused: Option<bool>,
    status: Option<u64>,
    error: Option<String>,
    begin: Option<u64>,
    end: Option<u64>,
    span_id: Option<String>,
}

/// One phase. Times in microseconds from the end of the head.
#[derive(Debug, JsonSchema)]
pub struct Phase {
    phase: String,
    /// Whom it waited for: `client`, `gateway` or `backend`.
    of: String,
    begin: i64,
    end: i64,
    attempt: Option<u64>,
}

/// Why a request went where it went.
#[derive(Debug, JsonSchema)]
pub struct WhyThere {
    experiment: String,
    revision: u64,
    reason: Option<String>,
    eligible: Option<bool>,
    variant: Option<String>,
    served: Option<String>,
    unit_hash: Option<String>,
    bucket: Option<u16>,
    /// The run of buckets that holds this one, `first` to before `end`.
    bucket_range: Option<BucketRange>,
    share: Option<f64>,
}

/// Consecutive buckets of one variant.
#[derive(Debug, JsonSchema)]
pub struct BucketRange {
    first: u16,
    end: u16,
    variant: Option<String>,
}
