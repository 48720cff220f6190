//! Decisions in words: for the history, logs and people.

use policies::guardrail::Judgement;
use policies::ramp::{Action, Phase, Reason};

use super::Made;

/// The word of an action, as the API and the metrics have it.
pub fn action(action: Action) -> &'static str {
    match action {
        Action::Start => "start",
        Action::Widen => "widen",
        Action::Promote => "promote",
        Action::RollBack => "roll_back",
        Action::Hold => "hold",
        Action::Resume => "resume",
        Action::Pause => "pause",
        Action::Abort => "abort",
        Action::Move => "move",
    }
}

/// The word of a reason, as the API and the metrics have it.
pub fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Breached => "breached",
        Reason::NoTraffic => "no_traffic",
        Reason::SampleRatio => "sample_ratio",
        Reason::Drift => "drift",
        Reason::Held => "held",
        Reason::TimePassed => "time_passed",
        Reason::Undecided => "undecided",
        Reason::Cleared => "cleared",
        Reason::NewBackend => "new_backend",
        Reason::ByHand => "by_hand",
        Reason::Chances => "chances",
        Reason::Epochs => "epochs",
        Reason::Objective => "objective",
    }
}

/// A decision as one clause, such as "canary goes to 5 %, since all required guardrails hold".
pub fn decision(made: &Made) -> String {
    let Made { variant, decision, .. } = made;
    let share = decision.share.map_or_else(String::new, |share| format!("{} %", percent(share)));
    let what = match decision.action {
        Action::Start if share.is_empty() => format!("bandit started: {}", shares(made)),
        Action::Move => format!("shares move: {}", shares(made)),
        Action::Start => format!("ramp started: {variant} at {share}"),
        Action::Widen => format!("{variant} goes to {share}"),
        Action::Promote => format!("{variant} is promoted to {share}"),
        Action::RollBack => format!("{variant} is rolled back to {share}"),
        Action::Hold => "ramp holds".to_owned(),
        Action::Resume => "ramp goes on".to_owned(),
        Action::Pause => "ramp paused".to_owned(),
        Action::Abort if share.is_empty() => "ramp aborted".to_owned(),
        Action::Abort => format!("ramp aborted: {variant} at {share}"),
    };
    let why = match decision.reason {
        Reason::Breached => decision.evidence.guardrails.first().map_or_else(
            || "a guardrail is breached".to_owned(),
            |first| format!("guardrail {} is breached{}", first.metric, counts(first)),
        ),
        Reason::NoTraffic => format!("{variant} gets no traffic although it should"),
        Reason::SampleRatio => "units do not arrive as they were dealt".to_owned(),
        Reason::Drift => "the inputs have drifted".to_owned(),
        Reason::Held => "all required guardrails hold".to_owned(),
        Reason::TimePassed => match decision.from_phase {
            Phase::Verify => "the verification is over".to_owned(),
            Phase::WarmUp | Phase::Step(_) | Phase::Bandit => "warm-up is over".to_owned(),
        },
        Reason::Undecided => "the step is older than its patience".to_owned(),
        Reason::Cleared => "what held it is over".to_owned(),
        Reason::NewBackend => "the backend is another one".to_owned(),
        Reason::Chances => format!("chances of being best are {}", chances(made)),
        Reason::Epochs => "evidence is kept of so many revisions and no more".to_owned(),
        Reason::Objective => {
            "the route as a whole misses its objective, whoever serves: somebody must look"
                .to_owned()
        }
        Reason::ByHand => return what,
    };
    format!("{what}, since {why}")
}

/// `canary 15 %, stable 85 %`.
fn shares(made: &Made) -> String {
    let each = made.arms.iter().zip(&made.decision.shares);
    let each = each.map(|(name, share)| format!("{name} {} %", percent(*share)));
    each.collect::<Vec<_>>().join(", ")
}

/// The same of chances.
fn chances(made: &Made) -> String {
    let each = made.arms.iter().zip(&made.decision.evidence.arms);
    let each = each.filter_map(|(name, arm)| Some(format!("{name} {:.0} %", 100.0 * arm.chance?)));
    each.collect::<Vec<_>>().join(", ")
}

fn percent(share: u16) -> f64 {
    f64::from(share) / 100.0
}

fn counts(judgement: &Judgement) -> String {
    let (treated, control) = judgement.exposures;
    let evidence = format!(
        "evidence {:.1} of {:.1}",
        judgement.reached.harm.max(judgement.log_e_harm),
        judgement.thresholds.breach
    );
    match judgement.events {
        Some((of_treated, of_control)) => {
            format!(" ({of_treated} of {treated}, control {of_control} of {control}, {evidence})")
        }
        None => format!(" ({evidence})"),
    }
}
