//! The names of what guardrails watch.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::evidence::{Event, Slowness};

/// What a guardrail watches. Its text form is API: it stands in requests, results and decisions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Metric {
    /// `failed`: the backend failed, was too slow, or broke off.
    Failed,
    /// `client_error`: the backend answered 4xx.
    ClientError,
    /// `aborted`: the client left before the end.
    Aborted,
    /// `latency_p50`.
    LatencyP50,
    /// `latency_p95`.
    LatencyP95,
    /// `latency_p99`.
    LatencyP99,
    /// `first_byte_p95`.
    FirstByteP95,
    /// `token_time_p50`: time for each token of the answer.
    TokenTimeP50,
    /// `feedback:NAME`.
    Feedback(Box<str>),
}

/// A name that no metric has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no metric `{0}`: it is one of failed, client_error, aborted, latency_p50, \
     latency_p95, latency_p99, first_byte_p95, token_time_p50, feedback:NAME"
)]
pub struct MetricFault(pub String);

const NAMED: [(&str, Metric); 8] = [
    ("failed", Metric::Failed),
    ("client_error", Metric::ClientError),
    ("aborted", Metric::Aborted),
    ("latency_p50", Metric::LatencyP50),
    ("latency_p95", Metric::LatencyP95),
    ("latency_p99", Metric::LatencyP99),
    ("first_byte_p95", Metric::FirstByteP95),
    ("token_time_p50", Metric::TokenTimeP50),
];

const FEEDBACK: &str = "feedback:";

impl Metric {
    /// The event it counts, if it counts one.
    pub fn event(&self) -> Option<Event> {
        match self {
            Self::Failed => Some(Event::Failed),
            Self::ClientError => Some(Event::ClientError),
            Self::Aborted => Some(Event::Aborted),
            Self::LatencyP50
            | Self::LatencyP95
            | Self::LatencyP99
            | Self::FirstByteP95
            | Self::TokenTimeP50
            | Self::Feedback(_) => None,
        }
    }

    /// The name of the feedback it averages, if it averages any.
    pub fn feedback(&self) -> Option<&str> {
        if let Self::Feedback(name) = self { Some(name) } else { None }
    }

    /// The quantile it times, if it times one.
    pub fn slowness(&self) -> Option<Slowness> {
        match self {
            Self::LatencyP50 => Some(Slowness::LatencyP50),
            Self::LatencyP95 => Some(Slowness::LatencyP95),
            Self::LatencyP99 => Some(Slowness::LatencyP99),
            Self::FirstByteP95 => Some(Slowness::FirstByteP95),
            Self::TokenTimeP50 => Some(Slowness::TokenTimeP50),
            Self::Failed | Self::ClientError | Self::Aborted | Self::Feedback(_) => None,
        }
    }
}

impl FromStr for Metric {
    type Err = MetricFault;

    fn from_str(text: &str) -> Result<Self, MetricFault> {
        if let Some((_, metric)) = NAMED.into_iter().find(|(name, _)| *name == text) {
            return Ok(metric);
        }
        match text.strip_prefix(FEEDBACK) {
            Some(name) if !name.is_empty() => Ok(Self::Feedback(name.into())),
            Some(_) | None => Err(MetricFault(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Metric {
    type Error = MetricFault;

    fn try_from(text: String) -> Result<Self, MetricFault> {
        text.parse()
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.to_string()
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Feedback(name) = self {
            return write!(f, "{FEEDBACK}{name}");
        }
        let name = NAMED.iter().find(|(_, metric)| metric == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}
