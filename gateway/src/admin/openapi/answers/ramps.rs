//! What calls about ramps answer, and what starts one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

use super::results::{Estimate, Thresholds};

/// A ramp: where it stands, and why.
#[derive(Debug, JsonSchema)]
pub struct Ramp {
    experiment: String,
    variant: String,
    control: String,
    control_cell: Option<String>,
    /// `steps` or `bandit`.
    mode: String,
    /// Of a bandit.
    bandit: Option<BanditNow>,
    /// The shadow that had to pass first.
    shadow: Option<String>,
    /// The route's own line.
    objective: Option<ObjectiveNow>,
    /// `running`, `holding`, `paused`, `promoted`, `rolled_back` or `aborted`.
    state: String,
    /// Why it holds.
    holding: Option<String>,
    /// `warm_up`, `step`, `verify` or `bandit`.
    phase: String,
    /// 0 is warm-up, then come the steps from 1, then the verification. A bandit is in 1 after that.
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
    /// What whoever started it should know.
    #[schemars(skip_serializing_if = "absent", with = "Vec<String>")]
    notes: Option<()>,
}

/// One absolute line, and since when it is missed.
#[derive(Debug, JsonSchema)]
pub struct ObjectiveNow {
    metric: String,
    /// Seconds.
    below: f64,
    /// Seconds that it may be missed.
    #[schemars(rename = "for")]
    lasting: u64,
    missed_since: Option<String>,
}

/// What a bandit was told, and what is known of its arms.
#[derive(Debug, JsonSchema)]
pub struct BanditNow {
    metric: String,
    /// `higher` or `lower`.
    better: String,
    /// Seconds, as told and as in force.
    period: u64,
    period_in_force: u64,
    floor: f64,
    control_floor: f64,
    largest_move: f64,
    decay: f64,
    least: Known,
    /// Control last.
    arms: Vec<ArmNow>,
}

/// How much must be known before shares move.
#[derive(Debug, JsonSchema)]
pub struct Known {
    values: f64,
    events: f64,
}

/// One arm.
#[derive(Debug, JsonSchema)]
pub struct ArmNow {
    variant: String,
    /// `in`, `off` or `rolled_back`.
    state: String,
    share: Option<f64>,
    values: f64,
    events: f64,
    is_enough: bool,
    mean: Option<f64>,
    spread: Option<f64>,
    chance_best: Option<f64>,
    target: Option<f64>,
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
    /// The ratio that it is about, and where it lies.
    ratio: Option<Estimate>,
}

/// The same now, and over time.
#[derive(Debug, JsonSchema)]
pub struct GuardrailNow {
    #[schemars(flatten)]
    evidence: GuardrailEvidence,
    /// Whose evidence it is.
    variant: String,
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
    /// Of a bandit: by variant.
    shares: Option<BTreeMap<String, f64>>,
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
    /// Of a bandit.
    arms: Option<Vec<ArmThen>>,
}

/// What was known of one arm when a decision was made.
#[derive(Debug, JsonSchema)]
pub struct ArmThen {
    variant: String,
    values: f64,
    events: f64,
    mean: Option<f64>,
    spread: Option<f64>,
    chance_best: Option<f64>,
    target: Option<f64>,
    guardrails: Vec<GuardrailEvidence>,
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
    /// `hold`, `promote` or `roll_back`.
    on_undecided: Option<String>,
    patience: Option<Value>,
    cool_down: Option<Value>,
    most_cool_down: Option<Value>,
    alpha_rollback: Option<f64>,
    novelty: Option<Value>,
    judged_variants: Option<Value>,
    /// `steps`, which is what it is if nothing is said, or `bandit`.
    mode: Option<String>,
    /// The shadow that must have passed.
    shadow: Option<String>,
    /// One absolute line of the route: `{"metric","below","for"}`.
    objective: Option<Value>,
    /// Of a bandit: who competes with control; without it every variant does.
    arms: Option<Vec<String>>,
    /// Of a bandit: what the best is best at. It must be given.
    metric: Option<String>,
    /// Of a bandit: `higher` or `lower`.
    better: Option<String>,
    /// Of a bandit: time between moves.
    period: Option<Value>,
    /// Of a bandit: the least share of an arm, a fraction.
    floor: Option<f64>,
    /// Of a bandit: how much of what is known counts a period later, a fraction.
    decay: Option<f64>,
    /// Forget the evidence of an earlier ramp of the same backend.
    afresh: Option<bool>,
    /// Why.
    reason: Option<String>,
}
