//! Which function of this crate, or of `routing`, each name in a file of vectors means.

use std::collections::BTreeMap;

use routing::{Allocation, HashKey, Salt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::CaseFault;
use crate::sketch::{self, Sketch};
use crate::statistics::attribution::{Epoch, log_e_harm, log_e_safe, ratio};
use crate::statistics::fairness::{self, Group};
use crate::statistics::mean::{Arm, Strata};
use crate::statistics::slowdown::{Mark, Side, slow_events};
use crate::statistics::special::phi_inverse;
use crate::statistics::{Interval, drift, floor, quantile, rate, sample_ratio};

/// The names, in the order of the chapters.
pub(super) const NAMES: [&str; 15] = [
    "bucket",
    "allocation",
    "srm_log_e",
    "bernoulli_cs",
    "attribution",
    "rate_floor",
    "mean_diff_cs",
    "quantile_rank_bounds",
    "quantile_cs",
    "bucket_quantile_cs",
    "slowdown_attribution",
    "histogram_drift",
    "sample_drift",
    "group_fairness",
    "two_group_intervals",
];

/// The results of one case, by name.
pub(super) fn evaluate(function: &str, inputs: &Value) -> Result<Map<String, Value>, CaseFault> {
    let results = match function {
        "bucket" => bucket(read(inputs)?),
        "allocation" => allocation(read(inputs)?),
        "srm_log_e" => srm_log_e(read(inputs)?),
        "bernoulli_cs" => bernoulli_cs(read(inputs)?),
        "attribution" => attribution(read(inputs)?),
        "rate_floor" => rate_floor(read(inputs)?),
        "mean_diff_cs" => mean_diff_cs(read(inputs)?),
        "quantile_rank_bounds" => quantile_rank_bounds(read(inputs)?),
        "quantile_cs" => quantile_cs(read(inputs)?),
        "bucket_quantile_cs" => bucket_quantile_cs(read(inputs)?),
        "slowdown_attribution" => slowdown_attribution(read(inputs)?),
        "histogram_drift" => histogram_drift(read(inputs)?),
        "sample_drift" => sample_drift(read(inputs)?),
        "group_fairness" => group_fairness(read(inputs)?),
        "two_group_intervals" => two_group_intervals(read(inputs)?),
        unknown => return Err(CaseFault::Function(unknown.to_owned())),
    }?;
    Ok(results.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

type Results = Result<Vec<(&'static str, Value)>, CaseFault>;

fn read<T: DeserializeOwned>(inputs: &Value) -> Result<T, CaseFault> {
    T::deserialize(inputs).map_err(|why| CaseFault::Inputs(why.to_string()))
}

fn unusable(why: impl ToString) -> CaseFault {
    CaseFault::Inputs(why.to_string())
}

/// Infinity is `null`, as the files write it; what is no number must not look like it.
fn number(value: f64) -> Value {
    if value.is_nan() { json!("not a number") } else { json!(value) }
}

fn pair(interval: Interval) -> Value {
    Value::Array(vec![number(interval.lower), number(interval.upper)])
}

#[derive(Deserialize)]
struct BucketInputs {
    key_hex: String,
    salt: String,
    unit: String,
}

fn bucket(inputs: BucketInputs) -> Results {
    let key = (inputs.key_hex.len() == 32)
        .then(|| u128::from_str_radix(&inputs.key_hex, 16).ok())
        .flatten()
        .ok_or_else(|| unusable("key_hex is not 32 hexadecimal digits"))?;
    let salt = Salt::new(&HashKey(key.to_be_bytes()), &inputs.salt);
    Ok(vec![
        ("hash_hex", json!(format!("{:016x}", salt.hash(&inputs.unit)))),
        ("bucket", json!(salt.bucket(&inputs.unit))),
    ])
}

#[derive(Deserialize)]
struct AllocationInputs {
    shares_bp: Vec<Map<String, Value>>,
}

fn allocation(inputs: AllocationInputs) -> Results {
    let mut steps = inputs.shares_bp.iter();
    let first = steps.next().ok_or_else(|| unusable("shares_bp is empty"))?;
    let names: Vec<&String> = first.keys().collect();
    let shares = |step: &Map<String, Value>| -> Result<Vec<u16>, CaseFault> {
        let of = |name: &&String| {
            let share = step.get(*name).and_then(Value::as_u64);
            share.and_then(|share| u16::try_from(share).ok())
        };
        let shares: Option<Vec<u16>> = names.iter().map(of).collect();
        shares.ok_or_else(|| unusable("a step of shares_bp lacks a variant, or its share is none"))
    };
    let mut now = Allocation::initial(&shares(first)?).map_err(unusable)?;
    let runs = |allocation: &Allocation| -> Value {
        let run =
            |run: &routing::Run| json!([run.first, run.end, names.get(usize::from(run.variant.0))]);
        allocation.runs().iter().map(run).collect()
    };
    let (mut all_runs, mut moved) = (vec![runs(&now)], vec![json!(0)]);
    for step in steps {
        let next = now.retarget(&shares(step)?).map_err(unusable)?;
        all_runs.push(runs(&next.allocation));
        moved.push(json!(next.moved));
        now = next.allocation;
    }
    Ok(vec![("runs", all_runs.into()), ("moved_buckets", moved.into())])
}

#[derive(Deserialize)]
struct SrmEpoch {
    counts: Vec<u64>,
    weights: Vec<f64>,
}

#[derive(Deserialize)]
struct SrmInputs {
    epochs: Vec<SrmEpoch>,
    concentration: f64,
}

fn srm_log_e(inputs: SrmInputs) -> Results {
    let epochs: Vec<sample_ratio::Epoch<'_>> = inputs
        .epochs
        .iter()
        .map(|epoch| sample_ratio::Epoch { counts: &epoch.counts, shares: &epoch.weights })
        .collect();
    let log_e = sample_ratio::log_e(&epochs, inputs.concentration);
    let mut results =
        vec![("log_e", number(log_e)), ("p_value", number(sample_ratio::p_value(log_e)))];
    if let [epoch] = &epochs[..] {
        results.push(("chi2_fixed_n_p", number(sample_ratio::fixed_size_p_value(epoch))));
    }
    Ok(results)
}

#[derive(Deserialize)]
struct BernoulliInputs {
    successes: u64,
    trials: u64,
    alpha: f64,
    t_opt: f64,
}

fn bernoulli_cs(inputs: BernoulliInputs) -> Results {
    let BernoulliInputs { successes, trials, alpha, t_opt } = inputs;
    Ok(vec![("interval", pair(rate::interval(successes, trials, alpha, t_opt)))])
}

#[derive(Deserialize)]
struct AttributionEpoch {
    events_t: u64,
    events_c: u64,
    pi: f64,
}

#[derive(Deserialize)]
struct AttributionInputs {
    epochs: Vec<AttributionEpoch>,
    rho0: f64,
    rho1: f64,
    alpha: f64,
}

fn attribution(inputs: AttributionInputs) -> Results {
    let epochs: Vec<Epoch> = inputs
        .epochs
        .iter()
        .map(|epoch| Epoch { pi: epoch.pi, treated: epoch.events_t, control: epoch.events_c })
        .collect();
    let bounds = ratio(&epochs, inputs.alpha).bounds;
    Ok(vec![
        ("log_e_harm", number(log_e_harm(&epochs, inputs.rho0))),
        ("log_e_safe", number(log_e_safe(&epochs, inputs.rho1))),
        ("ratio_lower", number(bounds.lower)),
        ("ratio_upper", number(bounds.upper)),
    ])
}

#[derive(Deserialize)]
struct FloorInputs {
    events: u64,
    n: f64,
    floor: f64,
    safe_ceiling: f64,
}

fn rate_floor(inputs: FloorInputs) -> Results {
    let FloorInputs { events, n, floor, safe_ceiling } = inputs;
    Ok(vec![
        ("log_e_above_floor", number(floor::log_e_above(events, n, floor))),
        ("log_e_below_ceiling", number(floor::log_e_below(events, n, safe_ceiling))),
    ])
}

#[derive(Deserialize)]
struct MeanEpoch {
    n_t: u64,
    mean_t: f64,
    var_t: f64,
    n_c: u64,
    mean_c: f64,
    var_c: f64,
}

#[derive(Deserialize)]
struct MeanInputs {
    epochs: Vec<MeanEpoch>,
    alpha: f64,
    t_opt: f64,
}

fn mean_diff_cs(inputs: MeanInputs) -> Results {
    let mut strata = Strata::default();
    for epoch in &inputs.epochs {
        let arm = |n, mean, variance| Arm { n, mean, variance, grouped: None };
        strata.add(
            &arm(epoch.n_t, epoch.mean_t, epoch.var_t),
            &arm(epoch.n_c, epoch.mean_c, epoch.var_c),
        );
    }
    let shown = strata.difference().ok_or_else(|| unusable("no epoch has two values an arm"))?;
    let (alpha, t_opt) = (inputs.alpha, inputs.t_opt);
    Ok(vec![
        ("diff", number(shown.diff)),
        ("se", number(shown.se)),
        ("t", number(shown.t)),
        ("two_sided", pair(shown.two_sided(alpha, t_opt))),
        ("lower_one_sided", number(shown.lower(alpha, t_opt))),
        ("upper_one_sided", number(shown.upper(alpha, t_opt))),
    ])
}

#[derive(Deserialize)]
struct RankInputs {
    n: u64,
    p: f64,
    alpha: f64,
    t_opt: f64,
}

fn quantile_rank_bounds(inputs: RankInputs) -> Results {
    let ranks = quantile::ranks(inputs.n, inputs.p, inputs.alpha, inputs.t_opt);
    Ok(vec![
        ("k_lo", json!(ranks.low)),
        ("k_hi", json!(ranks.high)),
        ("index_lo", json!(ranks.lower())),
        ("index_hi", json!(ranks.upper())),
    ])
}

#[derive(Deserialize)]
struct QuantileInputs {
    values: Vec<f64>,
    p: f64,
    alpha: f64,
    t_opt: f64,
}

fn quantile_cs(mut inputs: QuantileInputs) -> Results {
    inputs.values.sort_by(f64::total_cmp);
    let QuantileInputs { values, p, alpha, t_opt } = inputs;
    Ok(vec![("interval", pair(quantile::interval_of_values(&values, p, alpha, t_opt)))])
}

/// Buckets as the paper numbers them.
type Buckets = Vec<(i32, u64)>;

/// The product's sketch with these counts: there is one accuracy, and a range.
fn sketch_of(accuracy: f64, buckets: &Buckets) -> Result<Sketch, CaseFault> {
    let gamma = (1.0 + accuracy) / (1.0 - accuracy);
    if gamma != sketch::GAMMA {
        return Err(unusable(
            "relative_accuracy is not 0.01, the only one that sketches have here",
        ));
    }
    let mut sketch = Sketch::new();
    for (index, count) in buckets {
        let dense = index.checked_sub(sketch::INDEX_OFFSET).and_then(|at| usize::try_from(at).ok());
        match dense {
            Some(dense) if dense < sketch::BUCKETS => sketch.add_count(dense, *count),
            Some(_) | None => return Err(unusable(format!("no sketch has a bucket {index}"))),
        }
    }
    Ok(sketch)
}

#[derive(Deserialize)]
struct BucketQuantileInputs {
    relative_accuracy: f64,
    buckets: Buckets,
    p: f64,
    alpha: f64,
    t_opt: f64,
}

fn bucket_quantile_cs(inputs: BucketQuantileInputs) -> Results {
    let sketch = sketch_of(inputs.relative_accuracy, &inputs.buckets)?;
    let interval = quantile::interval_of_sketch(&sketch, inputs.p, inputs.alpha, inputs.t_opt);
    Ok(vec![("interval", pair(interval))])
}

#[derive(Deserialize)]
struct SlowdownInputs {
    relative_accuracy: f64,
    q: f64,
    tolerance: f64,
    pi: f64,
    control_buckets: Buckets,
    canary_buckets: Buckets,
}

fn slowdown_attribution(inputs: SlowdownInputs) -> Results {
    let control = sketch_of(inputs.relative_accuracy, &inputs.control_buckets)?;
    let treated = sketch_of(inputs.relative_accuracy, &inputs.canary_buckets)?;
    let mark = Mark::at_quantile(&control, inputs.q)
        .ok_or_else(|| unusable("control has no such quantile below its last bucket"))?;
    let finished = |finished| Side { finished, running_above: 0 };
    let (t, c) = (finished(&treated), finished(&control));
    let events = slow_events(t, c, inputs.pi, mark, inputs.tolerance);
    Ok(vec![
        ("control_index", json!(sketch::paper_index(mark.bucket))),
        ("canary_index", json!(sketch::paper_index(mark.shifted(inputs.tolerance).bucket))),
        ("events_t", json!(events.treated)),
        ("events_c", json!(events.control)),
        ("log_e_harm", number(log_e_harm(&[events], 1.0))),
    ])
}

#[derive(Deserialize)]
struct HistogramInputs {
    reference_counts: Vec<u64>,
    current_counts: Vec<u64>,
}

fn histogram_drift(inputs: HistogramInputs) -> Results {
    if inputs.reference_counts.len() != inputs.current_counts.len() {
        return Err(unusable("the two histograms have different bins"));
    }
    let shown = drift::of_histograms(&inputs.reference_counts, &inputs.current_counts)
        .ok_or_else(|| unusable("a histogram is empty"))?;
    Ok(vec![
        ("psi", number(shown.psi)),
        ("js_distance", number(shown.js_distance)),
        ("psi_noise_floor", number(shown.psi_noise)),
        ("chi2", number(shown.chi2)),
        ("chi2_p", number(shown.chi2_p)),
    ])
}

#[derive(Deserialize)]
struct SampleInputs {
    reference: Vec<f64>,
    current: Vec<f64>,
}

fn sample_drift(mut inputs: SampleInputs) -> Results {
    inputs.reference.sort_by(f64::total_cmp);
    inputs.current.sort_by(f64::total_cmp);
    let shown = drift::of_samples(&inputs.reference, &inputs.current)
        .ok_or_else(|| unusable("a sample is empty"))?;
    Ok(vec![
        ("ks_d", number(shown.ks_d)),
        ("ks_p_asymptotic", number(shown.ks_p)),
        ("wasserstein_norm", number(shown.wasserstein)),
    ])
}

#[derive(Deserialize)]
struct FairnessInputs {
    /// Text or numbers.
    group: Vec<Value>,
    y_true: Vec<Value>,
    y_pred: Vec<Value>,
}

fn group_fairness(inputs: FairnessInputs) -> Results {
    let FairnessInputs { group, y_true, y_pred } = inputs;
    if group.len() != y_true.len() || group.len() != y_pred.len() {
        return Err(unusable("group, y_true and y_pred differ in length"));
    }
    let yes = |value: &Value| match value {
        Value::Bool(yes) => Ok(*yes),
        Value::Number(number) if number.as_u64() == Some(1) => Ok(true),
        Value::Number(number) if number.as_u64() == Some(0) => Ok(false),
        Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            Err(unusable("a label or prediction is neither 0 nor 1"))
        }
    };
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for ((group, label), selected) in group.iter().zip(&y_true).zip(&y_pred) {
        groups.entry(group.to_string()).or_default().add(yes(selected)?, Some(yes(label)?));
    }
    let groups: Vec<Group> = groups.into_values().collect();
    let spread = fairness::spread(&groups).ok_or_else(|| unusable("there are no groups"))?;
    Ok(vec![
        ("statistical_parity_difference", number(spread.statistical_parity_difference)),
        ("disparate_impact_ratio", number(spread.disparate_impact_ratio)),
        ("equal_opportunity_difference", json!(spread.equal_opportunity_difference)),
        ("equalized_odds_difference", json!(spread.equalized_odds_difference)),
    ])
}

#[derive(Deserialize)]
struct TwoGroupInputs {
    selected_1: u64,
    n_1: u64,
    selected_2: u64,
    n_2: u64,
    confidence: f64,
}

fn two_group_intervals(inputs: TwoGroupInputs) -> Results {
    let TwoGroupInputs { selected_1, n_1, selected_2, n_2, confidence } = inputs;
    let z = phi_inverse(0.5 + confidence / 2.0);
    let shown = fairness::compare(selected_1, n_1, selected_2, n_2, z)
        .ok_or_else(|| unusable("a group is empty"))?;
    Ok(vec![
        ("difference", number(shown.difference)),
        ("newcombe", pair(shown.newcombe)),
        ("ratio", number(shown.ratio)),
        ("katz", pair(shown.katz)),
        ("wilson_1", pair(fairness::wilson(selected_1, n_1, z))),
    ])
}
