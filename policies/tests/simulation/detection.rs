//! How long harm takes to be shown: only failures are drawn, and looked at when `T` has one.

use policies::Outcome;
use policies::evidence::{Evidence, Exposure, UnitKind};
use policies::guardrail::{Alphas, Guardrail, Metric, Tables, judge};
use policies::statistics::Verdict;
use policies::statistics::rule::Reached;

use super::chance::Chance;

/// Constant traffic with a variant that fails more often.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    pub per_second: f64,
    pub share: f64,
    pub control_fails: f64,
    pub treated_fails: f64,
}

/// A row of the guide: the traffic, seconds (median) at alpha 0.01 and 0.05, seconds by which 90 %
/// are found at 0.01, failed answers of `T` until then.
pub type Row = (Traffic, [f64; 2], f64, u64);

const fn row(
    per_second: f64,
    [share, control_fails, treated_fails]: [f64; 3],
    medians: [f64; 2],
    most: f64,
    failed: u64,
) -> Row {
    (Traffic { per_second, share, control_fails, treated_fails }, medians, most, failed)
}

/// What was worked out beforehand, by another program.
pub const GUIDE: [Row; 16] = [
    row(100.0, [0.05, 0.01, 0.03], [121.0, 75.0], 254.0, 20),
    row(100.0, [0.05, 0.01, 0.015], [3240.0, 2400.0], 6180.0, 267),
    row(100.0, [0.05, 0.01, 0.02], [498.0, 323.0], 1020.0, 57),
    row(100.0, [0.05, 0.01, 0.05], [38.0, 25.0], 77.0, 11),
    row(100.0, [0.05, 0.01, 0.10], [11.0, 8.0], 24.0, 6),
    row(100.0, [0.01, 0.01, 0.03], [530.0, 347.0], 1140.0, 18),
    row(100.0, [0.25, 0.01, 0.03], [33.0, 21.0], 68.0, 28),
    row(100.0, [0.50, 0.01, 0.03], [28.0, 19.0], 54.0, 46),
    row(10.0, [0.05, 0.01, 0.03], [1020.0, 840.0], 2400.0, 20),
    row(10.0, [0.05, 0.01, 0.10], [112.0, 76.0], 226.0, 6),
    row(1000.0, [0.05, 0.01, 0.03], [12.0, 8.0], 25.0, 20),
    row(1000.0, [0.01, 0.01, 0.03], [55.0, 38.0], 121.0, 19),
    row(100.0, [0.05, 0.001, 0.01], [140.0, 95.0], 304.0, 8),
    row(100.0, [0.05, 0.001, 0.005], [624.0, 429.0], 1380.0, 18),
    row(100.0, [0.05, 0.05, 0.10], [103.0, 64.0], 213.0, 57),
    row(100.0, [0.05, 0.01, 1.0], [1.0, 1.0], 1.4, 4),
];

/// Seconds until the guardrail on failures is breached, and failed answers of `T` until then.
pub fn time_to_breach(chance: &mut Chance, traffic: &Traffic, alpha: f64) -> (f64, u64) {
    let Traffic { per_second, share, control_fails, treated_fails } = *traffic;
    let of_t = per_second * share * treated_fails;
    let of_c = per_second * (1.0 - share) * control_fails;
    let guardrail = Guardrail::new(Metric::Failed);
    let alphas = Alphas { breach: alpha, held: 0.05 };
    let mut evidence = Evidence::new(UnitKind::Request);
    let dealt = (share * 10_000.0).round() as u16;
    evidence.open(1, &[10_000 - dealt, dealt]);
    let mut tables = Tables::default();
    let mut reached = Reached::default();
    let of = |variant, outcome| Exposure { revision: 1, variant, outcome, ..Exposure::default() };
    let (mut now, mut failed, mut others) = (0.0, 0, 0);
    loop {
        now += chance.wait(of_t + of_c);
        let is_control = chance.unit() * (of_t + of_c) >= of_t;
        let variant = u8::from(!is_control);
        evidence.add(&of(variant, Outcome::UpstreamError));
        if is_control {
            continue;
        }
        failed += 1;
        // Those that did not fail, as many as are to be expected by now.
        let due = (per_second * share * (1.0 - treated_fails) * now) as u64;
        evidence.add_many(&of(1, Outcome::Ok), due - others);
        others = due;
        let judged = judge(&evidence, 1, 0, &guardrail, alphas, reached, &mut tables);
        reached = judged.reached;
        if judged.verdict == Verdict::Breached {
            return (f64::max(now.ceil(), 1.0), failed);
        }
    }
}
