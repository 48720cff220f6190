//! What a ramp is told.

use serde::{Deserialize, Serialize};

use super::bandit::Bandit;
use crate::guardrail::{Alphas, Guardrail, Metric};

/// A share of everything, in basis points.
const ALL: u16 = 10_000;

/// The beginning: latency is not judged, since a cold canary is slow. A failing one is not cold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarmUp {
    /// Share of `T`, in basis points.
    pub share: u16,
    /// Seconds.
    pub min_time: u64,
    /// Exposures of `T`.
    pub min_exposures: u64,
}

impl Default for WarmUp {
    fn default() -> Self {
        Self { share: 100, min_time: 60, min_exposures: 50 }
    }
}

/// One step. Margins shrink as more users are exposed: little proof for little risk.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Share of `T`, in basis points.
    pub share: u16,
    /// Seconds in which control had exposures.
    pub min_time: u64,
    /// Exposures of `T` in this step.
    pub min_exposures: u64,
    /// Margin of `failed`, `client_error` and `aborted`: 2.0 means "less than 3 times".
    #[serde(default)]
    pub failed_margin: Option<f64>,
    /// A rate of those that is low enough, whatever control's is.
    #[serde(default)]
    pub failed_ceiling: Option<f64>,
    /// Margin of latency, but for p99.
    #[serde(default)]
    pub latency_margin: Option<f64>,
    /// Margin of p99.
    #[serde(default)]
    pub p99_margin: Option<f64>,
}

/// The end: nearly everything to `T`, with a little control to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Verify {
    /// Share of `T`, in basis points.
    pub share: u16,
    /// Seconds.
    pub min_time: u64,
}

impl Default for Verify {
    fn default() -> Self {
        Self { share: 9_800, min_time: 30 * 60 }
    }
}

/// What to do with a step that stays undecided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUndecided {
    /// Say so and wait on.
    #[default]
    Hold,
    /// Go on as if everything held.
    Promote,
    /// Give up.
    RollBack,
}

/// One absolute line, of the whole route: if what is ramped slows everybody down, a comparison sees
/// nothing. Missing it blames nobody: the ramp pauses, and a person decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// `latency_p50`, `latency_p95` or `latency_p99`, over the last minute.
    pub metric: Metric,
    /// Where it is to stay below, in seconds.
    pub below: f64,
    /// For how many seconds without a break it may be above.
    pub lasting: u64,
}

/// Everything a ramp is told. Shares are in basis points, times in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The number of the variant that is ramped.
    pub treated: u8,
    /// The number of the variant it is judged against.
    pub control: u8,
    /// A variant that serves like control and gets as much as `T`, to be judged against in control's
    /// place: started at the same time, so that cold caches and age of machines cancel out. It costs
    /// power, and leaves no room for `verify`, which is left out.
    pub control_cell: Option<u8>,
    /// Shares that follow what is known, in place of steps.
    pub bandit: Option<Bandit>,
    /// The beginning; `None` for none.
    pub warm_up: Option<WarmUp>,
    /// The steps; at least one, their shares rising.
    pub steps: Vec<Step>,
    /// The end; `None` for none.
    pub verify: Option<Verify>,
    /// What must hold.
    pub guardrails: Vec<Guardrail>,
    /// What to do with a step that stays undecided.
    pub on_undecided: OnUndecided,
    /// After how long a step counts as undecided.
    pub patience: u64,
    /// How long after a rollback nothing begins again; doubles with each.
    pub cool_down: u64,
    /// The longest cool-down.
    pub most_cool_down: u64,
    /// Chance of a false rollback, over all guardrails, steps and looks.
    pub alpha_rollback: f64,
    /// How many variants of the experiment are judged; they share `alpha_rollback`.
    pub judged_variants: usize,
    /// Where the route as a whole is to stay below; `None` for nowhere.
    pub objective: Option<Objective>,
    /// Where required feedback is among the guardrails, nothing is promoted sooner after the
    /// beginning: people like what is new.
    pub novelty: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let minutes = |minutes: u64| minutes * 60;
        let step = |share, min_time, min_exposures, margins: [f64; 4]| Step {
            share,
            min_time: minutes(min_time),
            min_exposures,
            failed_margin: Some(margins[0]),
            failed_ceiling: Some(margins[1]),
            latency_margin: Some(margins[2]),
            p99_margin: Some(margins[3]),
        };
        Self {
            treated: 1,
            control: 0,
            control_cell: None,
            bandit: None,
            warm_up: Some(WarmUp::default()),
            steps: vec![
                step(100, 5, 500, [2.0, 0.02, 1.0, 1.0]),
                step(500, 10, 2_000, [1.0, 0.01, 0.5, 0.5]),
                step(2_500, 15, 5_000, [0.5, 0.005, 0.25, 0.35]),
                step(5_000, 30, 10_000, [0.25, 0.002, 0.15, 0.25]),
            ],
            verify: Some(Verify::default()),
            guardrails: Guardrail::defaults(),
            on_undecided: OnUndecided::Hold,
            patience: minutes(24 * 60),
            cool_down: minutes(30),
            most_cool_down: minutes(24 * 60),
            alpha_rollback: 0.05,
            judged_variants: 1,
            objective: None,
            novelty: minutes(24 * 60),
        }
    }
}

/// What is wrong with settings.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SettingsFault {
    /// A ramp without steps goes nowhere.
    #[error("a ramp needs at least one step")]
    NoSteps,
    /// A share of nothing, of everything, or too much beside an equal control.
    #[error("{phase}: a share of {share} basis points leaves nothing to compare")]
    Share {
        /// Where.
        phase: String,
        /// The share.
        share: u16,
    },
    /// A step that takes traffic away.
    #[error("step {step}: its share is not above the one before")]
    NotRising {
        /// Which, from 1.
        step: usize,
    },
    /// The same thing guarded twice.
    #[error("guardrail `{0}` is there twice")]
    Twice(Metric),
    /// A number that is no tolerance, margin, floor or ceiling.
    #[error("guardrail `{metric}`: {name} must be {must}")]
    Number {
        /// Which guardrail.
        metric: Metric,
        /// Which number.
        name: &'static str,
        /// What it must be.
        must: &'static str,
    },
    /// A margin or ceiling of a step that is none.
    #[error("step {step}: margins must be above 0 and ceilings between 0 and 1")]
    Margin {
        /// Which, from 1.
        step: usize,
    },
    /// A chance of error that is none.
    #[error("alpha_rollback must be above 0 and below 0.5")]
    Alpha,
    /// An objective that is none.
    #[error("objective.{field}: must be {must}")]
    Objective {
        /// Which member.
        field: &'static str,
        /// What it must be.
        must: &'static str,
    },
    /// Something that a bandit cannot be told.
    #[error("{field}: must be {must}")]
    Bandit {
        /// Which member.
        field: &'static str,
        /// What it must be.
        must: String,
    },
    /// Judged against itself.
    #[error("treated, control and control_cell must be different variants")]
    SameVariant,
}

impl Settings {
    /// Every problem at once; empty if there is none.
    pub fn problems(&self) -> Vec<SettingsFault> {
        let mut faults = Vec::new();
        if self.steps.is_empty() {
            faults.push(SettingsFault::NoSteps);
        }
        let most = if self.control_cell.is_some() { ALL / 2 } else { ALL - 1 };
        let warm_up = self.warm_up.map(|warm_up| ("warm-up".to_owned(), warm_up.share));
        let verify = self.verify().map(|verify| ("verify".to_owned(), verify.share));
        let steps = self.steps.iter().enumerate();
        let steps = steps.map(|(at, step)| (format!("step {}", at + 1), step.share));
        for (phase, share) in warm_up.into_iter().chain(steps).chain(verify) {
            if share == 0 || share > most {
                faults.push(SettingsFault::Share { phase, share });
            }
        }
        for (at, pair) in self.steps.windows(2).enumerate() {
            if pair[0].share >= pair[1].share {
                faults.push(SettingsFault::NotRising { step: at + 2 });
            }
        }
        let is_margin = |margin: Option<f64>| margin.is_none_or(|m| m > 0.0 && m.is_finite());
        let is_rate = |rate: Option<f64>| rate.is_none_or(|rate| rate > 0.0 && rate < 1.0);
        for (at, step) in self.steps.iter().enumerate() {
            let margins = [step.failed_margin, step.latency_margin, step.p99_margin];
            if !margins.into_iter().all(is_margin) || !is_rate(step.failed_ceiling) {
                faults.push(SettingsFault::Margin { step: at + 1 });
            }
        }
        for (at, guardrail) in self.guardrails.iter().enumerate() {
            let metric = &guardrail.metric;
            if self.guardrails[..at].iter().any(|before| before.metric == *metric) {
                faults.push(SettingsFault::Twice(metric.clone()));
            }
            let mut check = |name, is_good: bool, must| {
                if !is_good {
                    let metric = metric.clone();
                    faults.push(SettingsFault::Number { metric, name, must });
                }
            };
            let tolerance = guardrail.tolerance;
            check("tolerance", tolerance >= 0.0 && tolerance.is_finite(), "0 or above");
            check("margin", is_margin(guardrail.margin), "above 0");
            check("floor", is_rate(guardrail.floor), "between 0 and 1");
            check("ceiling", is_rate(guardrail.ceiling), "between 0 and 1");
        }
        if !(self.alpha_rollback > 0.0 && self.alpha_rollback < 0.5) {
            faults.push(SettingsFault::Alpha);
        }
        let cell = self.control_cell;
        if self.treated == self.control || cell == Some(self.treated) || cell == Some(self.control)
        {
            faults.push(SettingsFault::SameVariant);
        }
        if let Some(objective) = &self.objective {
            let is_latency = matches!(
                objective.metric,
                Metric::LatencyP50 | Metric::LatencyP95 | Metric::LatencyP99
            );
            if !is_latency {
                let must = "latency_p50, latency_p95 or latency_p99";
                faults.push(SettingsFault::Objective { field: "metric", must });
            }
            if !(objective.below > 0.0 && objective.below.is_finite()) {
                faults.push(SettingsFault::Objective { field: "below", must: "above 0" });
            }
        }
        if let Some(bandit) = &self.bandit {
            faults.extend(bandit.problems(self));
        }
        faults
    }

    /// The variant that `T` is compared with.
    pub fn compared_with(&self) -> u8 {
        self.control_cell.unwrap_or(self.control)
    }

    /// The end, if there is one: nothing is left to compare with beside an equal control.
    pub(super) fn verify(&self) -> Option<Verify> {
        self.verify.filter(|_| self.control_cell.is_none())
    }

    /// Chances of error of each guardrail.
    pub fn alphas(&self) -> Alphas {
        let arms = self.bandit.as_ref().map_or(1, |bandit| bandit.arms.len());
        Alphas::shared(self.alpha_rollback, &self.guardrails, self.judged_variants.max(arms))
    }

    /// Every slowdown that a step may ask about: marks are frozen with all of them.
    pub fn latency_margins(&self) -> Vec<f64> {
        self.steps
            .iter()
            .flat_map(|step| [step.latency_margin, step.p99_margin])
            .flatten()
            .collect()
    }

    /// Every guardrail with the last step's margins: what a variant is held to by whoever does not know
    /// of steps.
    pub fn held_to_at_the_end(&self) -> Vec<Guardrail> {
        self.guardrails.iter().map(|guardrail| self.at(guardrail, self.steps.last())).collect()
    }

    /// A guardrail with a step's margins, where it has none of its own.
    pub(super) fn at(&self, guardrail: &Guardrail, step: Option<&Step>) -> Guardrail {
        let mut guardrail = guardrail.clone();
        let Some(step) = step else { return guardrail };
        let (margin, ceiling) = match &guardrail.metric {
            Metric::Failed | Metric::ClientError | Metric::Aborted => {
                (step.failed_margin, step.failed_ceiling)
            }
            Metric::LatencyP50
            | Metric::LatencyP95
            | Metric::FirstByteP95
            | Metric::TokenTimeP50 => (step.latency_margin, None),
            Metric::LatencyP99 => (step.p99_margin, None),
            Metric::Feedback(_) => (None, None),
        };
        guardrail.margin = guardrail.margin.or(margin);
        guardrail.ceiling = guardrail.ceiling.or(ceiling);
        guardrail
    }
}
