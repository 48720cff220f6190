//! Clients that keep their variant, some of them a thousand times as busy as others.

use policies::Outcome;
use policies::evidence::{Evidence, Exposure, UnitKind, mix64};
use policies::guardrail::{Alphas, Guardrail, Metric, Tables, judge};
use policies::statistics::Verdict;
use policies::statistics::rule::Reached;

use super::chance::Chance;

/// An hour at 5 %, looked at every minute: whether the guardrail on failures is breached although
/// the variant is as good as control.
///
/// Clients differ in how much they send (log-normal, sigma 1.5) and in how often they fail
/// (1 % on average, log-normal, sigma 1). With `noisy` one more client sends 30 % of the variant's
/// requests, all of which fail.
pub fn false_breach(seed: u64, unit: UnitKind, clients: u64, noisy: bool) -> bool {
    let mut chance = Chance::new(seed);
    let clients: Vec<(u64, f64, f64)> = (0..clients)
        .map(|client| {
            let hash = mix64(mix64(seed) ^ client);
            let busy = (1.5 * chance.normal() - 1.1).exp();
            let fails = 0.01 * (chance.normal() - 0.5).exp();
            (hash, busy, fails.min(1.0))
        })
        .collect();
    let is_treated = |hash: u64| hash < u64::MAX / 20;
    let busy: f64 =
        clients.iter().filter(|(hash, ..)| is_treated(*hash)).map(|(_, busy, _)| busy).sum();
    let mut evidence = Evidence::new(unit);
    evidence.open(1, &[9_500, 500]);
    let guardrail = Guardrail::new(Metric::Failed);
    let alphas = Alphas { breach: 0.05, held: 0.05 };
    let (mut tables, mut reached) = (Tables::default(), Reached::default());
    for _ in 0..60 {
        for (unit, busy, fails) in &clients {
            let variant = u8::from(is_treated(*unit));
            let of = |outcome| Exposure {
                unit: *unit,
                revision: 1,
                variant,
                outcome,
                ..Exposure::default()
            };
            let failed = chance.poisson(busy * fails);
            evidence.add_many(&of(Outcome::UpstreamError), failed);
            evidence.add_many(&of(Outcome::Ok), chance.poisson(busy * (1.0 - fails)));
        }
        if noisy {
            let of = Exposure {
                unit: mix64(seed),
                revision: 1,
                variant: 1,
                outcome: Outcome::UpstreamError,
                ..Exposure::default()
            };
            evidence.add_many(&of, chance.poisson(busy * 3.0 / 7.0));
        }
        let judged = judge(&evidence, 1, 0, &guardrail, alphas, reached, &mut tables);
        reached = judged.reached;
        if judged.verdict == Verdict::Breached {
            return true;
        }
    }
    false
}
