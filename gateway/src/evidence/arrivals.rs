//! Whether units arrive as they were dealt: counts against shares, over all revisions.

use policies::evidence::{Evidence, UnitKind};
use policies::guardrail::{Guardrail, Metric};
use policies::ramp;

/// The logarithms of e-values against "arrives as it was dealt": assigned, served, and feedback if a
/// guardrail requires it. What is only shown is answered by whoever likes to.
pub fn ratios(evidence: &Evidence, guardrails: &[Guardrail]) -> [f64; 3] {
    let metric = guardrails.iter().filter(|guardrail| guardrail.required).find_map(|guardrail| {
        if let Metric::Feedback(name) = &guardrail.metric { Some(&**name) } else { None }
    });
    ramp::ratios(evidence, metric)
}

/// Of `variants` variants, by number: how many units were expected, and how many were counted.
pub fn arrivals(evidence: &Evidence, variants: usize) -> (Vec<f64>, Vec<u64>) {
    let mut expected = vec![0.0; variants];
    let mut observed = vec![0_u64; variants];
    for (revision, epoch) in evidence.epochs() {
        let Some(shares) = &epoch.shares else { continue };
        let all: f64 = shares.iter().map(|share| f64::from(*share)).sum();
        let counts: Vec<u64> = (0..=u8::MAX)
            .zip(shares)
            .map(|(number, _)| match evidence.unit() {
                UnitKind::Request => {
                    epoch.variants.get(&number).map_or(0, |tally| tally.assigned())
                }
                UnitKind::Sticky { .. } => evidence.sampled().count(*revision, number).seen,
            })
            .collect();
        let total = counts.iter().copied().fold(0, u64::saturating_add) as f64;
        for (at, (share, count)) in shares.iter().zip(counts).enumerate() {
            if let (Some(expected), Some(observed)) = (expected.get_mut(at), observed.get_mut(at)) {
                *expected += total * f64::from(*share) / all.max(1.0);
                *observed += count;
            }
        }
    }
    (expected, observed)
}
