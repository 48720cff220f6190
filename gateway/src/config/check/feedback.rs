//! Feedback: metrics, their kinds and ranges, and how late they may come.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Check;
use crate::config::plan::{Feedback, FeedbackMetric, MetricKind};
use crate::config::written::{self, At};

/// Most declared metrics: each is a value of a label (L19).
const MOST: usize = 200;
const DEFAULT_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
const WINDOWS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(365 * 24 * 60 * 60);

impl Check<'_> {
    pub(super) fn feedback(&mut self, feedback: Option<At<written::Feedback>>) -> Feedback {
        let written::Feedback { window, undeclared, metrics } =
            feedback.map(|feedback| feedback.value).unwrap_or_default();
        let window = self.duration("feedback.window", window.as_ref(), DEFAULT_WINDOW, WINDOWS);
        self.names("metric", "feedback.metrics", &metrics);
        if let Some((first, _)) = metrics.0.get(MOST) {
            let what = format!("{} feedback.metrics are too many", metrics.0.len());
            self.problem(&first.span, what, format!("at most {MOST}; this is the first on top"));
        }
        let metrics = metrics
            .0
            .into_iter()
            .map(|(name, metric)| self.feedback_metric(name, metric, window))
            .collect();
        let undeclared = undeclared
            .is_none_or(|undeclared| matches!(undeclared.value, written::Undeclared::Accept));
        Feedback { window, undeclared, metrics }
    }

    fn feedback_metric(
        &mut self,
        name: At<String>,
        metric: written::FeedbackMetric,
        window: Duration,
    ) -> FeedbackMetric {
        let written::FeedbackMetric { kind, min, max, window: own } = metric;
        let label = format!("metric {:?}", name.value);
        let path = ["feedback", "metrics", &name.value];
        let kind = self.required(kind, &label, &path, "kind", &name.span, "\"bool\"");
        let kind = kind.map_or(written::MetricKind::Number, |kind| kind.value);
        let (least, most) = (min.as_ref().map(|min| min.value), max.as_ref().map(|max| max.value));
        for (member, bound) in [("min", &min), ("max", &max)] {
            let Some(bound) = bound else { continue };
            if !bound.value.is_finite() {
                let what = format!("{label}: {member} is {}", bound.value);
                self.problem(&bound.span, what, "a finite number; leave it out for no bound");
            }
            if kind != written::MetricKind::Number {
                let what = format!("{label}: {member} bounds numbers, and its kind is another");
                self.problem(
                    &bound.span,
                    what,
                    format!("take {member} away, or kind = \"number\""),
                );
            }
        }
        if let (Some(least), Some(most), Some(max)) = (least, most, &max)
            && least > most
        {
            let what = format!("{label}: max is {most}, below min, which is {least}");
            self.problem(&max.span, what, "no value could be taken: write a greater max");
        }
        FeedbackMetric {
            kind: match kind {
                written::MetricKind::Bool => MetricKind::Bool,
                written::MetricKind::Number => MetricKind::Number {
                    min: least.unwrap_or(f64::MIN),
                    max: most.unwrap_or(f64::MAX),
                },
                written::MetricKind::Text => MetricKind::Text,
            },
            window: self.duration(&format!("{label}: window"), own.as_ref(), window, WINDOWS),
            name: name.value.into(),
        }
    }
}
