//! From evidence to a verdict about one guardrail.
//!
//! ```text
//! Breached: log_e_harm has reached L_b  AND  log_e_above(floor) has reached L_b    (each remembered once reached)
//! Held:     log_e_safe >= L_h           OR   log_e_below(ceiling) >= L_h           (now, not remembered)
//! ```
//!
//! `L_b = ln(1/alpha_b)`. The first is an intersection of two tests and costs no extra alpha; the
//! second is a union and pays for both: `L_h = ln(2/alpha_h)` where there is a ceiling, else
//! `ln(1/alpha_h)`. A breach is remembered because all looks are paid for: one crossing is
//! decisive. That a guardrail holds is a statement about now.

use super::threshold;

/// What is known about one guardrail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Harm is shown.
    Breached,
    /// Absence of intolerable harm is shown.
    Held,
    /// Neither. Never read as health, and never as a fault.
    TooEarly,
}

/// With which errors a guardrail is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Chance of one false [`Verdict::Breached`] in the experiment's life:
    /// `0.05 / (guardrails * judged variants)`, see [`share_of_alpha`].
    pub alpha_breach: f64,
    /// Chance of a false [`Verdict::Held`] of a variant that is worse than the margin: 0.05. All
    /// guardrails must hold for a promotion, so no correction is needed.
    pub alpha_held: f64,
    /// Fewer exposures (or answers) on either side are [`Verdict::TooEarly`]: 0 for failures, 100
    /// for feedback.
    pub least: u64,
}

/// What the tests say at one look. All numbers are logarithms of e-values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// Of `T` doing harm beyond the tolerance.
    pub harm: f64,
    /// Of `T`'s rate being above the floor; `None` where there is no floor.
    pub above_floor: Option<f64>,
    /// Of `T` staying below the margin.
    pub safe: f64,
    /// Of `T`'s rate being below the ceiling; `None` where there is no ceiling.
    pub below_ceiling: Option<f64>,
    /// Exposures (or answers) of `T` and of `C`.
    pub seen: (u64, u64),
}

/// The most that was ever reached. The caller keeps it between looks, and across restarts.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Reached {
    /// Largest [`Evidence::harm`] of all looks.
    pub harm: f64,
    /// Largest [`Evidence::above_floor`] of all looks.
    pub above_floor: f64,
}

impl Default for Reached {
    /// Before the first look.
    fn default() -> Self {
        Self { harm: 0.0, above_floor: 0.0 }
    }
}

impl Rule {
    /// The verdict at this look, and what to remember for the next one.
    ///
    /// NaN in the evidence reaches nothing.
    pub fn judge(&self, evidence: &Evidence, before: Reached) -> (Verdict, Reached) {
        if evidence.seen.0.min(evidence.seen.1) < self.least {
            return (Verdict::TooEarly, before);
        }
        // Kept finite, so that JSON can carry it.
        let most = |before: f64, now: f64| before.max(now).min(f64::MAX);
        let reached = Reached {
            harm: most(before.harm, evidence.harm),
            above_floor: most(before.above_floor, evidence.above_floor.unwrap_or(0.0)),
        };
        let breach = threshold(self.alpha_breach);
        let is_much = evidence.above_floor.is_none() || reached.above_floor >= breach;
        if reached.harm >= breach && is_much {
            return (Verdict::Breached, reached);
        }
        let ways = if evidence.below_ceiling.is_some() { 2.0 } else { 1.0 };
        let held = threshold(self.alpha_held / ways);
        let is_held = evidence.safe >= held || evidence.below_ceiling.is_some_and(|e| e >= held);
        (if is_held { Verdict::Held } else { Verdict::TooEarly }, reached)
    }
}

/// Each guardrail's part of the chance of a false rollback (Bonferroni): `alpha` in total over so
/// many guardrails that roll back and so many judged variants.
pub fn share_of_alpha(alpha: f64, guardrails: usize, judged_variants: usize) -> f64 {
    alpha / (guardrails.max(1) * judged_variants.max(1)) as f64
}

/// How many of the discoveries with these `log_e` values, listed from the largest, to keep so that
/// at most a fraction `level` of those kept is false on average, however they depend on each other.
///
/// e-Benjamini-Hochberg: the first `k` with `e_(k) >= m/(level*k)`. For side results that are shown
/// and decide nothing. Source: Wang, Ramdas, "False discovery rate control with e-values", JRSS B
/// 84(3), 2022.
pub fn discoveries(log_e_descending: &[f64], level: f64) -> usize {
    let m = log_e_descending.len() as f64;
    let enough = |k: usize, log_e: f64| log_e >= (m / (level * k as f64)).ln();
    let kept = log_e_descending.iter().enumerate().filter(|(at, log_e)| enough(at + 1, **log_e));
    kept.map(|(at, _)| at + 1).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { alpha_breach: 0.01, alpha_held: 0.05, least: 0 };
    const NOTHING: Evidence = Evidence {
        harm: 0.0,
        above_floor: Some(0.0),
        safe: 0.0,
        below_ceiling: Some(0.0),
        seen: (10, 10),
    };

    fn after(looks: &[Evidence], rule: &Rule) -> Verdict {
        let mut reached = Reached::default();
        let mut last = Verdict::TooEarly;
        for look in looks {
            (last, reached) = rule.judge(look, reached);
        }
        last
    }

    #[test]
    fn harm_must_be_shown_and_be_above_the_floor_but_not_at_one_look() {
        let harm = Evidence { harm: 4.61, ..NOTHING };
        let many = Evidence { above_floor: Some(4.61), ..NOTHING };
        assert_eq!(after(&[harm], &RULE), Verdict::TooEarly);
        assert_eq!(after(&[many], &RULE), Verdict::TooEarly);
        assert_eq!(after(&[harm, many], &RULE), Verdict::Breached);
        assert_eq!(after(&[many, harm, NOTHING], &RULE), Verdict::Breached, "is remembered");
        let no_floor = Evidence { above_floor: None, ..harm };
        assert_eq!(after(&[no_floor], &RULE), Verdict::Breached);
    }

    #[test]
    fn to_hold_is_a_statement_about_now_and_two_ways_cost_double() {
        let safe = Evidence { safe: 3.7, ..NOTHING };
        assert_eq!(after(&[safe], &RULE), Verdict::Held);
        assert_eq!(after(&[safe, NOTHING], &RULE), Verdict::TooEarly);
        let below = Evidence { below_ceiling: Some(3.7), ..NOTHING };
        assert_eq!(after(&[below], &RULE), Verdict::Held);
        // ln(1/0.05) is 3.0, ln(2/0.05) is 3.7.
        let less = Evidence { safe: 3.2, ..NOTHING };
        assert_eq!(after(&[less], &RULE), Verdict::TooEarly);
        assert_eq!(after(&[Evidence { below_ceiling: None, ..less }], &RULE), Verdict::Held);
    }

    #[test]
    fn a_breach_outweighs_holding() {
        let both = Evidence { harm: 9.0, above_floor: Some(9.0), safe: 9.0, ..NOTHING };
        assert_eq!(after(&[both], &RULE), Verdict::Breached);
    }

    #[test]
    fn too_few_answers_show_nothing_and_are_not_remembered() {
        let rule = Rule { least: 100, ..RULE };
        let few = Evidence { harm: 9.0, above_floor: Some(9.0), seen: (99, 5000), ..NOTHING };
        assert_eq!(after(&[few], &rule), Verdict::TooEarly);
        let enough = Evidence { seen: (100, 5000), ..NOTHING };
        assert_eq!(after(&[few, enough], &rule), Verdict::TooEarly);
    }

    #[test]
    fn broken_numbers_reach_nothing() {
        let broken = Evidence {
            harm: f64::NAN,
            above_floor: Some(f64::NAN),
            safe: f64::NAN,
            below_ceiling: Some(f64::NAN),
            ..NOTHING
        };
        assert_eq!(
            RULE.judge(&broken, Reached::default()),
            (Verdict::TooEarly, Reached::default())
        );
        let never = Rule { alpha_breach: 0.0, alpha_held: f64::NAN, least: 0 };
        let much = Evidence { harm: 1e300, above_floor: Some(1e300), safe: 1e300, ..NOTHING };
        assert_eq!(after(&[much], &never), Verdict::TooEarly);
    }

    #[test]
    fn what_was_reached_survives_a_restart() {
        let reached = Reached { harm: 4.5, above_floor: 7.25 };
        let survives = |reached: Reached| {
            let text = serde_json::to_string(&reached).unwrap();
            assert_eq!(serde_json::from_str::<Reached>(&text).unwrap(), reached);
        };
        survives(reached);
        let certain = Evidence { harm: f64::INFINITY, above_floor: None, ..NOTHING };
        survives(RULE.judge(&certain, reached).1);
    }

    #[test]
    fn alpha_is_shared_out_and_discoveries_are_counted() {
        assert_eq!(share_of_alpha(0.05, 5, 2), 0.005);
        assert_eq!(share_of_alpha(0.05, 0, 0), 0.05);
        // m = 4 at 5 %: e must reach 80, 40, 26.7, 20.
        let e = [100_f64, 39.0, 27.0, 1.0].map(f64::ln);
        assert_eq!(discoveries(&e, 0.05), 3);
        assert_eq!(discoveries(&[0.0], 0.05), 0);
        assert_eq!(discoveries(&[], 0.05), 0);
    }
}
