//! What `GET …/results` answers.

use std::collections::BTreeMap;

use schemars::JsonSchema;

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
