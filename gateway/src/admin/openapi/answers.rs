//! Answers that handlers put together member by member, as types: what the document says of them. That
//! they say the truth is tested against a gateway that runs, member by member
//! (`tests/real/with_openapi.py`).
#![expect(dead_code, reason = "nobody makes one: they are what the document says")]

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

/// An estimate and where the truth lies; null where nothing is known or there is no bound.
#[derive(Debug, JsonSchema)]
pub struct Estimate {
    value: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
}

/// What each variant did, and how it compares with control. Every interval holds however often one looks.
#[derive(Debug, JsonSchema)]
pub struct Results {
    experiment: String,
    /// Null if the file does not define it any more.
    route: Option<String>,
    state: Option<crate::store::State>,
    /// When the first revision that counts came into force, RFC 3339 in UTC.
    since: Option<String>,
    since_revision: Option<u64>,
    /// Newest revision.
    revision: Option<u64>,
    control: String,
    unit: Option<Vec<String>>,
    /// What is counted: `units` or `requests`.
    counts: String,
    /// Chance that an interval ever misses the truth.
    alpha: f64,
    sample_ratio: SampleRatio,
    /// The verdict in a sentence.
    words: String,
    /// Names of the variants, control first.
    order: Vec<String>,
    variants: BTreeMap<String, VariantResults>,
    /// Each revision by itself, the newest first.
    revisions: Vec<RevisionResults>,
}

/// Whether units arrive as they were dealt.
#[derive(Debug, JsonSchema)]
pub struct SampleRatio {
    p_value: f64,
    expected: BTreeMap<String, f64>,
    observed: BTreeMap<String, u64>,
    /// `ok` or `mismatch`.
    verdict: String,
    threshold: f64,
    assigned: f64,
    served: f64,
    feedback: f64,
    closed: bool,
}

/// One variant over all revisions. Times in seconds, rates as fractions.
#[derive(Debug, JsonSchema)]
pub struct VariantResults {
    exposures: u64,
    units: Option<u64>,
    requests: u64,
    begun: u64,
    rescued: u64,
    outcomes: BTreeMap<String, u64>,
    failed: u64,
    failed_units: Option<u64>,
    error_rate: Estimate,
    latency: Latency,
    time_to_first_byte: Quantiles,
    token_time: Quantiles,
    tokens: Tokens,
    /// Feedback, by metric.
    metrics: BTreeMap<String, Feedback>,
    /// Against control, by metric. Not of control.
    #[schemars(skip_serializing_if = "absent", with = "BTreeMap<String, VersusControl>")]
    versus_control: Option<()>,
    /// `better`, `worse`, `no_worse` or `too_early`. Not of control.
    #[schemars(skip_serializing_if = "absent", with = "String")]
    verdict: Option<()>,
    /// The same in a sentence. Not of control.
    #[schemars(skip_serializing_if = "absent", with = "String")]
    words: Option<()>,
    /// Further exposures until a verdict is likely. Not of control.
    #[schemars(skip_serializing_if = "absent")]
    needed: Option<f64>,
}

/// Quantiles.
#[derive(Debug, JsonSchema)]
pub struct Quantiles {
    p50: Estimate,
    p95: Estimate,
    p99: Estimate,
}

/// Quantiles, and the buckets they come from where `sketch` asked for them.
#[derive(Debug, JsonSchema)]
pub struct Latency {
    p50: Estimate,
    p95: Estimate,
    p99: Estimate,
    /// Upper edge in seconds, and count.
    #[schemars(skip_serializing_if = "absent", with = "Vec<(f64, u64)>")]
    sketch: Option<()>,
}

/// Tokens.
#[derive(Debug, JsonSchema)]
pub struct Tokens {
    input: u64,
    output: u64,
}

/// What people said.
#[derive(Debug, JsonSchema)]
pub struct Feedback {
    count: u64,
    mean: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    capped: u64,
}

/// One metric against control.
#[derive(Debug, JsonSchema)]
pub struct VersusControl {
    /// `better`, `worse`, `no_worse` or `too_early`.
    verdict: String,
    words: String,
    difference: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    ratio: Estimate,
    above_mark: Option<Estimate>,
    tolerance: f64,
    floor: Option<f64>,
    margin: f64,
    needed: Option<f64>,
    required: bool,
    exposures: Pair,
    events: Option<Pair>,
    log_e_harm: f64,
    log_e_safe: f64,
    thresholds: Thresholds,
}

/// The variant and control.
#[derive(Debug, JsonSchema)]
pub struct Pair {
    variant: u64,
    control: u64,
}

/// What evidence must reach, and against what it speaks.
#[derive(Debug, JsonSchema)]
pub struct Thresholds {
    breach: f64,
    held: f64,
    tolerance: f64,
    margin: f64,
    floor: Option<f64>,
    ceiling: Option<f64>,
}

/// One revision.
#[derive(Debug, JsonSchema)]
pub struct RevisionResults {
    revision: u64,
    since: Option<String>,
    variants: BTreeMap<String, VariantOfRevision>,
}

/// One variant in one revision.
#[derive(Debug, JsonSchema)]
pub struct VariantOfRevision {
    share: f64,
    exposures: u64,
    failed: u64,
    error_rate: Estimate,
    latency_p95: Option<Estimate>,
}

/// A ramp: where it stands, and why.
#[derive(Debug, JsonSchema)]
pub struct Ramp {
    experiment: String,
    variant: String,
    control: String,
    control_cell: Option<String>,
    /// `running`, `holding`, `paused`, `promoted`, `rolled_back` or `aborted`.
    state: String,
    /// Why it holds.
    holding: Option<String>,
    /// `warm_up`, `step` or `verify`.
    phase: String,
    /// 0 is warm-up, then come the steps from 1, then the verification.
    step: u64,
    warm_up: Option<Step>,
    steps: Vec<Step>,
    verify: Option<VerifyStep>,
    /// The variant's share in force, a fraction.
    share: Option<f64>,
    revision: Option<u64>,
    began_at: String,
    since: String,
    step_seconds: u64,
    min_seconds: u64,
    seconds_left: u64,
    exposures: u64,
    min_exposures: u64,
    patience: u64,
    rollbacks: u64,
    cool_until: Option<String>,
    evidence_from_revision: u64,
    guardrails: Vec<GuardrailNow>,
    /// Newest first.
    decisions: Vec<Decision>,
}

/// One step.
#[derive(Debug, JsonSchema)]
pub struct Step {
    share: f64,
    /// Seconds.
    min_time: u64,
    min_exposures: u64,
}

/// The time after the last step.
#[derive(Debug, JsonSchema)]
pub struct VerifyStep {
    share: f64,
    /// Seconds.
    min_time: u64,
}

/// What is known of one guardrail. Evidence is the logarithm of an e-value.
#[derive(Debug, JsonSchema)]
pub struct GuardrailEvidence {
    metric: String,
    /// `roll_back` or `observe`.
    action: String,
    required: bool,
    /// `breached`, `held` or `too_early`.
    verdict: String,
    log_e_harm: f64,
    log_e_safe: f64,
    log_e_above_floor: Option<f64>,
    log_e_below_ceiling: Option<f64>,
    thresholds: Thresholds,
    exposures: TreatedAndControl,
    events: Option<TreatedAndControl>,
    needed: Option<f64>,
}

/// The same now, and over time.
#[derive(Debug, JsonSchema)]
pub struct GuardrailNow {
    #[schemars(flatten)]
    evidence: GuardrailEvidence,
    /// At most 200 points.
    series: Vec<Point>,
}

/// One point of evidence.
#[derive(Debug, JsonSchema)]
pub struct Point {
    at: String,
    log_e_harm: f64,
    log_e_safe: f64,
}

/// The variant and control.
#[derive(Debug, JsonSchema)]
pub struct TreatedAndControl {
    treated: u64,
    control: u64,
}

/// What a ramp decided, and on what evidence.
#[derive(Debug, JsonSchema)]
pub struct Decision {
    at: String,
    variant: String,
    action: String,
    reason: String,
    words: String,
    row: u64,
    from_revision: u64,
    share: Option<f64>,
    evidence: DecisionEvidence,
}

/// What a decision was made from.
#[derive(Debug, JsonSchema)]
pub struct DecisionEvidence {
    guardrails: Vec<GuardrailEvidence>,
    /// As the ramp saw it.
    sample_ratio: Value,
    /// As the ramp saw them.
    epochs: Value,
    step_seconds: u64,
    step_exposures: u64,
}

/// What `POST …/ramp` may say; every member has a default.
#[derive(Debug, JsonSchema)]
pub struct StartRamp {
    /// The variant to ramp; without it the only one beside control.
    variant: Option<String>,
    control_cell: Option<String>,
    warm_up: Option<Value>,
    steps: Option<Vec<Value>>,
    verify: Option<Value>,
    guardrails: Option<Vec<Value>>,
    /// `hold` or `roll_back`.
    on_undecided: Option<String>,
    patience: Option<Value>,
    cool_down: Option<Value>,
    most_cool_down: Option<Value>,
    alpha_rollback: Option<f64>,
    novelty: Option<Value>,
    judged_variants: Option<Value>,
    /// Forget the evidence of an earlier ramp of the same backend.
    afresh: Option<bool>,
    /// Why.
    reason: Option<String>,
}

/// A webhook and how it stands.
#[derive(Debug, JsonSchema)]
pub struct Webhook {
    name: String,
    destination: String,
    /// `weir` or `alertmanager`.
    format: String,
    events: Vec<String>,
    signed: bool,
    /// `ok`, `failing` or `idle`.
    state: String,
    pending: u64,
    oldest_pending_at: Option<String>,
    next_try_at: Option<String>,
    delivered: u64,
    failed: u64,
    results: BTreeMap<String, u64>,
    dead: u64,
    last_delivered_at: Option<String>,
    failing_since: Option<String>,
    last_error: Option<WebhookError>,
}

/// What went wrong last.
#[derive(Debug, JsonSchema)]
pub struct WebhookError {
    at: String,
    message: String,
}

/// A test that was taken.
#[derive(Debug, JsonSchema)]
pub struct WebhookTest {
    webhook: String,
    id: String,
    event: String,
    status: Option<u16>,
    /// Seconds.
    took: f64,
}

/// Who the caller is, and what it may do.
#[derive(Debug, JsonSchema)]
pub struct Session {
    key: Option<SessionKey>,
    role: Option<String>,
    /// Null for all.
    routes: Option<Vec<String>>,
    permissions: Vec<String>,
    may_grant: Vec<String>,
    session: Option<SessionToken>,
}

/// The key that signed in.
#[derive(Debug, JsonSchema)]
pub struct SessionKey {
    id: String,
    name: String,
}

/// The session.
#[derive(Debug, JsonSchema)]
pub struct SessionToken {
    token: String,
    ends_at: String,
}

/// What a list of shadows says of a comparison.
#[derive(Debug, JsonSchema)]
pub struct ComparisonInShort {
    kind: Value,
    revision: u64,
    pairs: u64,
    agreement: Agreement,
    passed: bool,
    words: String,
}

/// How often answers agree.
#[derive(Debug, JsonSchema)]
pub struct Agreement {
    value: Option<f64>,
    low: f64,
    high: f64,
    agreed: u64,
    pairs: u64,
    /// For one look.
    wilson: Option<Bounds>,
}

/// Two ends.
#[derive(Debug, JsonSchema)]
pub struct Bounds {
    low: Option<f64>,
    high: Option<f64>,
}

/// A shadow's answers beside those that clients got.
#[derive(Debug, JsonSchema)]
pub struct Comparison {
    shadow: String,
    running: bool,
    route: Value,
    backend: Value,
    percent: Option<f64>,
    revision: u64,
    since: String,
    /// What is compared, as the file says it.
    compare: Value,
    words: String,
    alpha: f64,
    pairs: u64,
    agreement: Agreement,
    differences: BTreeMap<String, u64>,
    not_comparable: BTreeMap<String, u64>,
    by_backend: BTreeMap<String, Agreement>,
    status_pairs: Vec<StatusPair>,
    other_status_pairs: u64,
    labels: Option<Labels>,
    similarity: Option<Similarity>,
    largest_gap: Value,
    latency: PairedLatencies,
    failures: PairedFailures,
    this_process: BTreeMap<String, u64>,
    /// Of a shadow in force.
    #[schemars(skip_serializing_if = "absent", with = "bool")]
    passed: Option<()>,
    /// Of a shadow in force.
    #[schemars(skip_serializing_if = "absent", with = "ToPass")]
    to_pass: Option<()>,
    /// Of a shadow in force.
    #[schemars(skip_serializing_if = "absent", with = "u64")]
    answer_bytes: Option<()>,
    /// Of a shadow in force; null if it keeps none.
    #[schemars(skip_serializing_if = "absent")]
    samples: Option<BTreeMap<String, Value>>,
}

/// What it takes.
#[derive(Debug, JsonSchema)]
pub struct ToPass {
    agreement: f64,
    min_pairs: u64,
    words: String,
}

/// Statuses of both answers.
#[derive(Debug, JsonSchema)]
pub struct StatusPair {
    live: u64,
    copy: u64,
    count: u64,
}

/// Labels of both answers.
#[derive(Debug, JsonSchema)]
pub struct Labels {
    kappa: Option<f64>,
    table: Vec<LabelPair>,
}

/// Two labels.
#[derive(Debug, JsonSchema)]
pub struct LabelPair {
    live: Value,
    copy: Value,
    count: u64,
}

/// How alike texts are.
#[derive(Debug, JsonSchema)]
pub struct Similarity {
    bins: Vec<Bin>,
    length_ratio: Option<f64>,
}

/// One bin of a histogram.
#[derive(Debug, JsonSchema)]
pub struct Bin {
    from: Option<f64>,
    to: Option<f64>,
    count: u64,
}

/// How much longer copies take; null without pairs.
#[derive(Debug, JsonSchema)]
pub struct PairedLatencies {
    first_byte: Option<PairedLatency>,
    first_token: Option<PairedLatency>,
    end: Option<PairedLatency>,
    slow_readers: u64,
}

/// The same of one moment.
#[derive(Debug, JsonSchema)]
pub struct PairedLatency {
    pairs: u64,
    ratio: Option<Estimate>,
    /// `slower`, `faster` or `too_early`.
    verdict: String,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    sign_test: SignTest,
    histogram: Vec<Bin>,
}

/// How often a copy took longer.
#[derive(Debug, JsonSchema)]
pub struct SignTest {
    slower: u64,
    faster: u64,
    equal: u64,
    log_e_slower: f64,
    log_e_faster: f64,
    threshold: f64,
}

/// Who failed.
#[derive(Debug, JsonSchema)]
pub struct PairedFailures {
    only_copy: u64,
    only_live: u64,
    both: u64,
    tolerance: f64,
    log_e_harm: f64,
    threshold: f64,
    /// `breached`, `held` or `too_early`.
    verdict: String,
}

/// A comparison that began anew.
#[derive(Debug, JsonSchema)]
pub struct Restarted {
    shadow: String,
    revision: u64,
}

/// Two answers that disagree, as far as they were kept.
#[derive(Debug, JsonSchema)]
#[schemars(extend("additionalProperties" = true))]
pub struct Disagreement {
    id: u64,
    at: String,
}

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
