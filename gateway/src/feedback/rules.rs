//! Which feedback is taken: metrics with their kinds, ranges and windows, and the experiments that
//! can be credited.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::plan::{self, MetricKind};
use crate::feedback::Feedback;
use crate::feedback::counts::OTHER;
use crate::names::{Name, intern};
use crate::snapshot::RoutePlan;

/// What is asked of feedback under one configuration.
#[derive(Debug)]
pub struct Rules {
    window: Duration,
    undeclared: bool,
    metrics: HashMap<Box<str>, Metric>,
    experiments: HashMap<Name, Known>,
    /// Whether a route names the path `/feedback`, which is then that route's.
    pub claimed: bool,
}

/// An experiment in force.
#[derive(Debug)]
pub struct Known {
    /// Its name.
    pub name: Name,
    /// Its route.
    pub route: Name,
    variants: Box<[Name]>,
}

impl Known {
    /// The interned name of a variant.
    pub fn variant(&self, name: &str) -> Option<Name> {
        self.variants.iter().copied().find(|known| *known == name)
    }
}

/// What is asked of one metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: Name,
    /// Its name as a label: `_other` unless it is declared.
    pub label: Name,
    /// How long after its request it is taken.
    pub window: Duration,
    /// What its values are; `None`: anything.
    kind: Option<MetricKind>,
}

/// The path on the edge that takes feedback.
pub const PATH: Name = "/feedback";

impl Rules {
    /// Of this plan and its routes.
    pub fn new(plan: &plan::Feedback, routes: &[RoutePlan]) -> Self {
        let metrics = plan.metrics.iter().map(|metric| {
            let name = intern(&metric.name);
            let kind = Some(metric.kind);
            (Box::from(name), Metric { name, label: name, window: metric.window, kind })
        });
        let experiments = routes.iter().flat_map(|route| {
            route.plans.iter().map(|plan| {
                let variants = plan.variants.iter().map(|variant| variant.name).collect();
                (plan.name, Known { name: plan.name, route: route.name, variants })
            })
        });
        let names_it = |route: &RoutePlan| {
            route.pattern.strip_prefix(PATH).is_some_and(|rest| matches!(rest, "" | "/*" | "*"))
        };
        Self {
            window: plan.window,
            undeclared: plan.undeclared,
            metrics: metrics.collect(),
            experiments: experiments.collect(),
            claimed: routes.iter().any(names_it),
        }
    }

    /// The metric of this name; else why it is not taken.
    ///
    /// # Errors
    /// A sentence for the client.
    pub fn metric(&self, name: &str, feedback: &Feedback) -> Result<Metric, &'static str> {
        if let Some(metric) = self.metrics.get(name) {
            return Ok(*metric);
        }
        let fits = !name.is_empty()
            && name.len() <= 64
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if !fits {
            return Err("`metric` has 1 to 64 of the characters A-Z a-z 0-9 _ . -");
        }
        if !self.undeclared {
            return Err("this metric is not declared here, and others are not taken");
        }
        let name = feedback.undeclared(name).ok_or(
            "too many different metrics came already; the operator can declare this one in \
             [feedback.metrics]",
        )?;
        Ok(Metric { name, label: OTHER, window: self.window, kind: None })
    }

    /// An experiment in force.
    pub fn experiment(&self, name: &str) -> Option<&Known> {
        self.experiments.get(name)
    }
}

impl Metric {
    /// Whether `value` is one of this metric; numbers are finite already.
    ///
    /// # Errors
    /// A sentence for the client.
    pub fn check(&self, value: &Said<'_>) -> Result<(), String> {
        let fits = match (self.kind, value) {
            (None, _)
            | (Some(MetricKind::Bool), Said::Bool(_))
            | (Some(MetricKind::Text), Said::Text(_)) => return Ok(()),
            (Some(MetricKind::Number { min, max }), Said::Number(number)) => {
                if (min..=max).contains(number) {
                    return Ok(());
                }
                return Err(match (min > f64::MIN, max < f64::MAX) {
                    (true, true) => format!("`value` is from {min} to {max} for this metric"),
                    (true, false) => format!("`value` is at least {min} for this metric"),
                    _ => format!("`value` is at most {max} for this metric"),
                });
            }
            (Some(MetricKind::Bool), _) => "true or false",
            (Some(MetricKind::Number { .. }), _) => "a number",
            (Some(MetricKind::Text), _) => "text",
        };
        Err(format!("`value` is {fits} for this metric"))
    }
}

/// A value as a client says it.
#[derive(Clone, Debug, PartialEq)]
pub enum Said<'a> {
    /// Yes or no.
    Bool(bool),
    /// Finite.
    Number(f64),
    /// Kept, not analysed.
    Text(std::borrow::Cow<'a, str>),
}
