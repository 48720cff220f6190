//! How a ramp's evidence grew: at most 200 points, thinned evenly as time goes on.

use policies::guardrail::{Judgement, Metric};

/// Most points of a guardrail.
const MOST: usize = 200;

/// Evidence of one guardrail at one look, logarithms of e-values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Seconds since 1970.
    pub at: u64,
    /// Of harm.
    pub harm: f64,
    /// Of safety.
    pub safe: f64,
}

/// The points of each guardrail.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Least seconds from point to point.
    gap: u64,
    /// By the number of the variant, and metric.
    of: Vec<((u8, Metric), Vec<Point>)>,
}

impl Series {
    /// The points of a variant's guardrail.
    pub fn of(&self, variant: u8, metric: &Metric) -> &[Point] {
        let is = |(number, of): &(u8, Metric)| *number == variant && of == metric;
        self.of.iter().find(|(of, _)| is(of)).map_or(&[], |(_, points)| points)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// One look more.
    pub(super) fn add(&mut self, at: u64, judged: &[(u8, Judgement)]) {
        let newest = self.of.first().and_then(|(_, points)| points.last());
        if newest.is_some_and(|newest| at < newest.at.saturating_add(self.gap)) {
            return;
        }
        for (variant, judgement) in judged {
            let point = Point { at, harm: judgement.log_e_harm, safe: judgement.log_e_safe };
            let of = (*variant, judgement.metric.clone());
            match self.of.iter_mut().find(|(known, _)| *known == of) {
                Some((_, points)) => points.push(point),
                None => self.of.push((of, vec![point])),
            }
        }
        if self.of.iter().any(|(_, points)| points.len() > MOST) {
            self.gap = self.gap.max(1) * 2;
            for (_, points) in &mut self.of {
                let mut place = 0;
                points.retain(|_| {
                    place += 1;
                    place % 2 == 1
                });
            }
        }
    }
}
