//! A bound that must hold while an experiment ramps, and what the evidence says of it.
//!
//! A guardrail is a metric and how much worse than control is too much. [`judge`] turns the
//! [`Evidence`](crate::evidence::Evidence) of a treated variant and its control into a [`Judgement`]: harm shown, absence of
//! intolerable harm shown, or neither. Every look is paid for, so it may be asked every second.
//!
//! | metric | judged by | where units are sticky |
//! |---|---|---|
//! | `failed`, `client_error`, `aborted` | whose the events are, and a floor | affected units |
//! | `latency_…`, `first_byte_p95`, `token_time_p50` | counts above marks frozen from control | means of those, spread by groups |
//! | `feedback:NAME` | difference of means | spread by groups |

mod judge;
mod marks;
mod metric;
#[cfg(test)]
mod tests;

pub use judge::{Bounds, Judgement, Shown, Tables, Thresholds, judge, shown};
pub use marks::{MarkWatch, marks_due};
pub use metric::{Metric, MetricFault};

use serde::{Deserialize, Serialize};

use crate::statistics::mean::Better;
use crate::statistics::rule;

/// What a breach leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The share goes to 0.
    RollBack,
    /// It is shown; it spends nothing of the chance of a false rollback.
    Observe,
}

/// One guardrail. In JSON only the metric must be written; the rest is [`Guardrail::new`]'s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Guardrail {
    /// What is watched.
    pub metric: Metric,
    /// Harm that is forgiven, as a fraction of control's: 0.2 forgives 20 % more failures.
    pub tolerance: f64,
    /// A rate (events) or a difference (feedback of yes and no) below which nothing is a breach.
    pub floor: Option<f64>,
    /// Harm below which the guardrail holds, as a fraction; `None`: the ramp step's.
    pub margin: Option<f64>,
    /// A rate of events below which it holds, whatever control's is; `None`: the ramp step's.
    pub ceiling: Option<f64>,
    /// What a breach leads to.
    pub action: Action,
    /// Whether it must hold before a share grows.
    pub required: bool,
    /// Which way feedback is better; of no meaning elsewhere.
    pub better: Better,
    /// Fewer exposures (or answers) on either side are too early to judge.
    pub least: u64,
}

impl Guardrail {
    /// The defaults for a metric: 20 % more failures from 0.2 % on; 15 % slower (25 % at p99);
    /// feedback 1 % worse and at least 0.02, with 100 answers on each side. Aborts are observed, and
    /// feedback is not required.
    pub fn new(metric: Metric) -> Self {
        let events = metric.event().is_some();
        let feedback = matches!(metric, Metric::Feedback(_));
        let slowness = metric.slowness();
        let observed = metric == Metric::Aborted;
        Self {
            tolerance: match slowness {
                Some(slowness) => slowness.judged().tolerance,
                None if events => 0.20,
                None => 0.01,
            },
            floor: if events { Some(0.002) } else { feedback.then_some(0.02) },
            margin: None,
            ceiling: None,
            action: if observed { Action::Observe } else { Action::RollBack },
            required: !observed && !feedback,
            better: Better::Higher,
            least: if feedback { 100 } else { 0 },
            metric,
        }
    }

    /// The five that watch a ramp unless told otherwise: `failed`, `client_error`, and latency at
    /// p50, p95 and p99.
    pub fn defaults() -> Vec<Self> {
        let metrics = [
            Metric::Failed,
            Metric::ClientError,
            Metric::LatencyP50,
            Metric::LatencyP95,
            Metric::LatencyP99,
        ];
        metrics.map(Self::new).into()
    }

    /// The margin where neither guardrail nor step say one: the last step's.
    fn usual_margin(&self) -> f64 {
        match self.metric {
            Metric::LatencyP50 | Metric::LatencyP95 => 0.15,
            Metric::FirstByteP95 | Metric::TokenTimeP50 => 0.15,
            Metric::Failed | Metric::ClientError | Metric::Aborted | Metric::LatencyP99 => 0.25,
            Metric::Feedback(_) => 0.05,
        }
    }
}

/// A guardrail as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    metric: Metric,
    tolerance: Option<f64>,
    floor: Option<f64>,
    margin: Option<f64>,
    ceiling: Option<f64>,
    action: Option<Action>,
    required: Option<bool>,
    better: Option<Better>,
    least: Option<u64>,
}

impl From<Written> for Guardrail {
    fn from(written: Written) -> Self {
        let Written { metric, tolerance, floor, margin, ceiling, action, required, better, least } =
            written;
        let usual = Self::new(metric);
        let action = action.unwrap_or(usual.action);
        Self {
            tolerance: tolerance.unwrap_or(usual.tolerance),
            floor: floor.or(usual.floor),
            margin: margin.or(usual.margin),
            ceiling: ceiling.or(usual.ceiling),
            required: required.unwrap_or(usual.required && action == Action::RollBack),
            action,
            better: better.unwrap_or(usual.better),
            least: least.unwrap_or(usual.least),
            metric: usual.metric,
        }
    }
}

/// Chances of error, for all looks together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alphas {
    /// Of a false breach of this one guardrail.
    pub breach: f64,
    /// Of a false "holds".
    pub held: f64,
}

impl Alphas {
    /// 5 % for a false rollback, shared out over the guardrails that roll back and the judged
    /// variants; 5 % for each "holds", since all that are required must hold.
    pub fn shared(total: f64, guardrails: &[Guardrail], judged_variants: usize) -> Self {
        let spending =
            guardrails.iter().filter(|guardrail| guardrail.action == Action::RollBack).count();
        Self { breach: rule::share_of_alpha(total, spending, judged_variants), held: 0.05 }
    }
}
