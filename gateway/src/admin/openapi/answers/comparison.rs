//! What calls about shadows answer.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

use super::results::Estimate;

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
