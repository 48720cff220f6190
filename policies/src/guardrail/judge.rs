//! From counts to a judgement.

use serde::{Deserialize, Serialize};

use super::{Action, Alphas, Guardrail, Metric};
use crate::evidence::{Compared, Event, Evidence, Neighbour, SlowMemo, Slowness, UnitKind};
use crate::statistics::attribution::{self, Against, Epoch, Table};
use crate::statistics::mean::{Better, Difference, T_OPT};
use crate::statistics::rule::{self, Reached, Rule};
use crate::statistics::{Interval, Verdict, floor, threshold};

/// Rarer values than this say nothing about a spread.
const LEAST_RARE: u64 = 25;
/// Fewer values on either side are too early for a mean.
const LEAST_VALUES: u64 = 100;

/// What one look at one guardrail found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// What is watched.
    pub metric: Metric,
    /// What a breach leads to.
    pub action: Action,
    /// Whether it must hold before a share grows.
    pub required: bool,
    /// The verdict.
    pub verdict: Verdict,
    /// Evidence of harm beyond the tolerance: logarithm of an e-value.
    pub log_e_harm: f64,
    /// Evidence that it stays below the margin.
    pub log_e_safe: f64,
    /// Evidence that the rate is above the floor; `None` where there is none.
    pub log_e_above_floor: Option<f64>,
    /// Evidence that the rate is below the ceiling; `None` where there is none.
    pub log_e_below_ceiling: Option<f64>,
    /// What the evidence has to reach, and against what it speaks.
    pub thresholds: Thresholds,
    /// Most ever reached; to be given to the next look.
    pub reached: Reached,
    /// Exposures (or answers) of `T` and of `C`.
    pub exposures: (u64, u64),
    /// Events of `T` and of `C`; `None` where means are compared.
    pub events: Option<(u64, u64)>,
    /// Further exposures of `T` until a verdict is likely; `None` if it cannot be said.
    pub needed: Option<f64>,
    /// What [`shown`] says of it; worked out for decisions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Bounds>,
}

/// `T` over `C`, and where that lies; an end that is not known is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// What it seems to be.
    pub value: Option<f64>,
    /// Not below.
    pub low: Option<f64>,
    /// Not above.
    pub high: Option<f64>,
}

impl From<Shown> for Bounds {
    fn from(shown: Shown) -> Self {
        let known = |number: f64| number.is_finite().then_some(number);
        let Interval { lower, upper } = shown.interval;
        Self { value: shown.ratio.and_then(known), low: known(lower), high: known(upper) }
    }
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// What evidence of harm, and of being above the floor, must reach.
    pub breach: f64,
    /// What evidence of safety, or of being below the ceiling, must reach.
    pub held: f64,
    /// Harm that is forgiven, a fraction.
    pub tolerance: f64,
    /// The margin in force, a fraction.
    pub margin: f64,
    /// The floor.
    pub floor: Option<f64>,
    /// The ceiling in force.
    pub ceiling: Option<f64>,
}

/// Logarithms that looks have in common: 1 KiB for each epoch and hypothesis, see
/// [`attribution::Table`]. One for each pair of treated and control, kept from look to look; a fresh
/// one gives the same answers, later; evidence that starts anew wants one.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    tables: Vec<Table>,
    slow: SlowMemo,
    arms: Vec<Tables>,
}

/// More hypotheses than a ramp's step has: beyond that the oldest goes.
const MOST_TABLES: usize = 12;

impl Tables {
    /// Those of one pair among several that are judged together, such as the arms of a bandit.
    pub fn of_arm(&mut self, arm: usize) -> &mut Self {
        if self.arms.len() <= arm {
            self.arms.resize_with(arm + 1, Self::default);
        }
        &mut self.arms[arm]
    }

    fn log_e(&mut self, epochs: &[Epoch], against: Against) -> f64 {
        let known = self.tables.iter().position(|table| table.against() == against);
        let at = known.unwrap_or_else(|| {
            if self.tables.len() >= MOST_TABLES {
                self.tables.remove(0);
            }
            self.tables.push(Table::new(against));
            self.tables.len() - 1
        });
        self.tables[at].log_e(epochs)
    }
}

/// What is found before the rule is asked.
struct Found {
    evidence: rule::Evidence,
    events: Option<(u64, u64)>,
    needed: Option<f64>,
}

/// Judges one guardrail of `treated` against `control`.
///
/// `alphas` as [`Alphas::shared`] gives them; `reached` is what the last look gave
/// ([`Judgement::reached`]), kept across restarts.
pub fn judge(
    evidence: &Evidence,
    treated: u8,
    control: u8,
    guardrail: &Guardrail,
    alphas: Alphas,
    reached: Reached,
    tables: &mut Tables,
) -> Judgement {
    let look = Look {
        evidence,
        pair: (treated, control),
        guardrail,
        margin: guardrail.margin.unwrap_or_else(|| guardrail.usual_margin()),
        alphas,
    };
    let rule =
        Rule { alpha_breach: alphas.breach, alpha_held: alphas.held, least: guardrail.least };
    let found = match (&guardrail.metric, guardrail.metric.event(), guardrail.metric.slowness()) {
        (_, Some(event), _) => look.events(event, tables),
        (_, _, Some(slowness)) => match evidence.unit() {
            UnitKind::Request => look.slow_requests(slowness, tables),
            UnitKind::Sticky { .. } => look.slow_units(slowness, tables),
        },
        (Metric::Feedback(name), _, _) => look.feedback(name),
        (_, None, None) => Found::nothing(),
    };
    let (verdict, reached) = rule.judge(&found.evidence, reached);
    Judgement {
        metric: guardrail.metric.clone(),
        action: guardrail.action,
        required: guardrail.required,
        verdict,
        log_e_harm: finite(found.evidence.harm),
        log_e_safe: finite(found.evidence.safe),
        log_e_above_floor: found.evidence.above_floor.map(finite),
        log_e_below_ceiling: found.evidence.below_ceiling.map(finite),
        thresholds: Thresholds {
            breach: finite(threshold(alphas.breach)),
            held: finite(look.threshold_held()),
            tolerance: guardrail.tolerance,
            margin: look.margin,
            floor: guardrail.floor,
            ceiling: look.ceiling(),
        },
        reached,
        exposures: found.evidence.seen,
        events: found.events,
        needed: (verdict == Verdict::TooEarly).then_some(found.needed).flatten(),
        ratio: None,
    }
}

/// JSON knows no infinity.
fn finite(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(f64::MIN, f64::MAX) }
}

struct Look<'a> {
    evidence: &'a Evidence,
    pair: (u8, u8),
    guardrail: &'a Guardrail,
    margin: f64,
    alphas: Alphas,
}

impl Found {
    fn nothing() -> Self {
        let evidence = rule::Evidence {
            harm: 0.0,
            above_floor: None,
            safe: 0.0,
            below_ceiling: None,
            seen: (0, 0),
        };
        Self { evidence, events: None, needed: None }
    }
}

impl Look<'_> {
    /// Only events have a rate, and so a ceiling.
    fn ceiling(&self) -> Option<f64> {
        self.guardrail.ceiling.filter(|_| self.guardrail.metric.event().is_some())
    }

    fn threshold_held(&self) -> f64 {
        // A union of two ways pays for both.
        let ways = if self.ceiling().is_some() { 2.0 } else { 1.0 };
        threshold(self.alphas.held / ways)
    }

    fn events(&self, event: Event, tables: &mut Tables) -> Found {
        let (treated, control) = self.pair;
        let epochs = self.evidence.events(event, treated, control);
        let (of_t, of_c) = sums(&epochs);
        let seen = self.evidence.compared_exposures(treated, control);
        let trials = match self.evidence.unit() {
            UnitKind::Request => Some(seen.0 as f64),
            UnitKind::Sticky { .. } => self.evidence.trials(treated, control),
        };
        // Without trials nothing new is known of the rate; what was reached is remembered.
        let rate = |test: fn(u64, f64, f64) -> f64, line: f64| {
            trials.map_or(0.0, |trials| test(of_t, trials, line))
        };
        let evidence = rule::Evidence {
            harm: tables.log_e(&epochs, Against::AtMost(1.0 + self.guardrail.tolerance)),
            above_floor: self.guardrail.floor.map(|line| rate(floor::log_e_above, line)),
            safe: tables.log_e(&epochs, Against::AtLeast(1.0 + self.margin)),
            below_ceiling: self.ceiling().map(|line| rate(floor::log_e_below, line)),
            seen,
        };
        let by_ratio = self.needed_by_ratio(
            &epochs,
            seen.0,
            (1.0 + self.guardrail.tolerance, evidence.harm),
            (1.0 + self.margin, evidence.safe),
        );
        let by_ceiling = self.ceiling().zip(evidence.below_ceiling).zip(trials).and_then(
            |((ceiling, log_e), trials)| {
                // As if one event more had been seen: none is no proof of a rate of 0.
                let rate = (of_t as f64 + 0.5) / (trials + 1.0);
                let each = if rate < ceiling { divergence(rate, ceiling) } else { 0.0 };
                let exposures_each = seen.0 as f64 / trials;
                some(exposures_each * (self.threshold_held() + 1.0 - log_e) / each)
            },
        );
        let needed = least(by_ratio, by_ceiling);
        Found { evidence, events: Some((of_t, of_c)), needed }
    }

    fn slow_requests(&self, slowness: Slowness, tables: &mut Tables) -> Found {
        let at = |forgiven, whose| self.evidence.slow_events(slowness, self.pair, forgiven, whose);
        let harm = at(self.guardrail.tolerance, Neighbour::Larger);
        let safe = at(self.margin, Neighbour::Smaller);
        let evidence = rule::Evidence {
            harm: tables.log_e(&harm, Against::AtMost(1.0)),
            above_floor: None,
            safe: tables.log_e(&safe, Against::AtLeast(1.0)),
            below_ceiling: None,
            seen: self.evidence.slow_exposures(slowness, self.pair),
        };
        let exposures = evidence.seen.0;
        let target = |log_e| (1.0, log_e);
        let nothing = (f64::NAN, 0.0);
        let needed = least(
            self.needed_by_ratio(&harm, exposures, target(evidence.harm), nothing),
            self.needed_by_ratio(&safe, exposures, nothing, target(evidence.safe)),
        );
        Found { evidence, events: Some(sums(&harm)), needed }
    }

    fn slow_units(&self, slowness: Slowness, tables: &mut Tables) -> Found {
        let mut at = |forgiven, whose| {
            let memo = &mut tables.slow;
            self.evidence.slow_strata(slowness, self.pair, forgiven, whose, memo)
        };
        let harm = at(self.guardrail.tolerance, Neighbour::Larger);
        let safe = at(self.margin, Neighbour::Smaller);
        // Slow ones are what is rare.
        let enough = |compared: &Compared| {
            let slow = compared.treated.nonzero.saturating_add(compared.control.nonzero);
            slow >= LEAST_RARE && compared.treated.n.min(compared.control.n) >= LEAST_VALUES
        };
        let harm_is = harm.strata.difference().filter(|_| enough(&harm));
        let safe_is = safe.strata.difference().filter(|_| enough(&safe));
        self.of_means(harm_is.map(|diff| (diff, 0.0)), safe_is.map(|diff| (diff, 0.0)), &harm)
    }

    fn feedback(&self, name: &str) -> Found {
        let compared = self.evidence.feedback(name, self.pair.0, self.pair.1);
        let (of_t, of_c) = (&compared.treated, &compared.control);
        let ones = of_t.nonzero.saturating_add(of_c.nonzero);
        let all = of_t.n.saturating_add(of_c.n);
        // Of yes and no the rarer one must be seen often enough, on whichever side: a variant that
        // nobody likes any more has no yes at all. Of other numbers both sides need some.
        let is_known = if compared.is_yes_or_no {
            ones.min(all.saturating_sub(ones)) >= LEAST_RARE
        } else {
            of_t.nonzero.min(of_c.nonzero) >= LEAST_RARE
        };
        let is_known = is_known && of_t.n.min(of_c.n) >= LEAST_VALUES;
        let harm = compared.strata.difference().filter(|_| is_known).map(|difference| {
            let sign = if self.guardrail.better == Better::Higher { -1.0 } else { 1.0 };
            Difference { diff: sign * difference.diff, ..difference }
        });
        let scale = of_c.mean.abs();
        let floor = self.guardrail.floor.filter(|_| compared.is_yes_or_no).unwrap_or(0.0);
        let tolerated = f64::max(self.guardrail.tolerance * scale, floor);
        let tolerable = self.margin * scale;
        self.of_means(harm.map(|d| (d, tolerated)), harm.map(|d| (d, tolerable)), &compared)
    }

    /// `harm` and `safe`: a difference in the direction of harm, and how much of it is allowed.
    fn of_means(
        &self,
        harm: Option<(Difference, f64)>,
        safe: Option<(Difference, f64)>,
        compared: &Compared,
    ) -> Found {
        let Alphas { breach, held } = self.alphas;
        let log_harm = harm.map_or(0.0, |(diff, line)| diff.log_e_above(line, breach, T_OPT));
        let log_safe = safe.map_or(0.0, |(diff, line)| diff.log_e_below(line, held, T_OPT));
        let exposures = compared.treated.n as f64;
        // Evidence grows with the square of the distance in standard errors, at this size.
        let needed = |sign: f64, (diff, line): (Difference, f64), to_go: f64| {
            let z = sign * (diff.diff - line) / diff.se;
            if z > 0.0 { some(exposures * to_go / (0.5 * z * z)) } else { None }
        };
        let to_breach = threshold(breach) + 1.0 - log_harm.max(0.0);
        let to_hold = self.threshold_held() + 1.0 - log_safe.max(0.0);
        Found {
            evidence: rule::Evidence {
                harm: log_harm,
                above_floor: None,
                safe: log_safe,
                below_ceiling: None,
                seen: (compared.treated.n, compared.control.n),
            },
            events: None,
            needed: least(
                harm.and_then(|harm| needed(1.0, harm, to_breach)),
                safe.and_then(|safe| needed(-1.0, safe, to_hold)),
            ),
        }
    }

    /// The rule of thumb: evidence grows with each event by how far its owner's chance is from what
    /// the hypothesis says. `harm` and `safe`: ratio of the hypothesis, and the evidence so far.
    fn needed_by_ratio(
        &self,
        epochs: &[Epoch],
        exposures: u64,
        harm: (f64, f64),
        safe: (f64, f64),
    ) -> Option<f64> {
        let (of_t, of_c) = sums(epochs);
        let events = of_t as f64 + of_c as f64;
        let pi = epochs.last()?.pi;
        // Shrunk by an event on each side, so that it is a number from the start.
        let odds = |epoch: &Epoch| epoch.pi / (1.0 - epoch.pi);
        let expected: f64 = epochs.iter().map(|epoch| epoch.control as f64 * odds(epoch)).sum();
        let ratio = (of_t as f64 + 0.5) / (expected + 0.5);
        let theta = |ratio: f64| pi * ratio / (pi * ratio + 1.0 - pi);
        let until = |hypothesis: f64, to_go: f64| {
            let each = divergence(theta(ratio), theta(hypothesis));
            some(to_go / each * exposures as f64 / events)
        };
        let breach = threshold(self.alphas.breach) + 1.0 - harm.1;
        let hold = self.threshold_held() + 1.0 - safe.1;
        least(
            if ratio > harm.0 { until(harm.0, breach) } else { None },
            if ratio < safe.0 { until(safe.0, hold) } else { None },
        )
    }
}

fn sums(epochs: &[Epoch]) -> (u64, u64) {
    epochs.iter().fold((0, 0), |(t, c), epoch| {
        (u64::saturating_add(t, epoch.treated), u64::saturating_add(c, epoch.control))
    })
}

/// How fast evidence against a chance of `b` grows with each event if it is `a`.
fn divergence(a: f64, b: f64) -> f64 {
    a * (a / b).ln() + (1.0 - a) * ((1.0 - a) / (1.0 - b)).ln()
}

/// A number of exposures to come, if it is one.
fn some(needed: f64) -> Option<f64> {
    // Beyond this it is no forecast.
    (needed < 1e9).then(|| needed.max(1.0).ceil())
}

fn least(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

/// How much worse or better `T` is, for showing beside the verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// `T`'s rate over `C`'s (events; requests above the mark), or mean over mean.
    pub ratio: Option<f64>,
    /// Where the ratio lies at all times with chance `1 - alpha`; each end at `alpha / 2`.
    pub interval: Interval,
    /// `T`'s mean less `C`'s, with the interval at `1 - alpha`; where means are compared.
    pub difference: Option<(f64, Interval)>,
}

/// The ratio that agrees with the verdict. Some hundred times the work of [`judge`]: for results
/// that somebody asked for and for decisions, not for every look.
pub fn shown(
    evidence: &Evidence,
    treated: u8,
    control: u8,
    guardrail: &Guardrail,
    alpha: f64,
) -> Shown {
    let pair = (treated, control);
    let of_epochs = |epochs: &[Epoch]| {
        let ratio = attribution::ratio(epochs, alpha / 2.0);
        Shown { ratio: ratio.estimate, interval: ratio.bounds, difference: None }
    };
    let of_means = |compared: &Compared| {
        let scale = compared.control.mean;
        let difference = compared.strata.difference();
        let shown = difference.map(|diff| (diff.diff, diff.two_sided(alpha, T_OPT)));
        let is_ratio = scale > 0.0;
        Shown {
            ratio: shown.filter(|_| is_ratio).map(|(diff, _)| 1.0 + diff / scale),
            interval: match shown {
                Some((_, ends)) if is_ratio => Interval {
                    lower: (1.0 + ends.lower / scale).max(0.0),
                    upper: 1.0 + ends.upper / scale,
                },
                Some(_) | None => Interval { lower: 0.0, upper: f64::INFINITY },
            },
            difference: shown,
        }
    };
    match (&guardrail.metric, guardrail.metric.event(), guardrail.metric.slowness()) {
        (_, Some(event), _) => of_epochs(&evidence.events(event, treated, control)),
        (_, _, Some(slowness)) => {
            // Nothing forgiven would be truest, but only what was asked for beforehand is counted.
            let forgiven = guardrail.tolerance;
            match evidence.unit() {
                UnitKind::Request => {
                    of_epochs(&evidence.slow_events(slowness, pair, forgiven, Neighbour::Larger))
                }
                UnitKind::Sticky { .. } => {
                    let mut memo = SlowMemo::default();
                    let larger = Neighbour::Larger;
                    of_means(&evidence.slow_strata(slowness, pair, forgiven, larger, &mut memo))
                }
            }
        }
        (Metric::Feedback(name), _, _) => of_means(&evidence.feedback(name, treated, control)),
        (_, None, None) => of_epochs(&[]),
    }
}
