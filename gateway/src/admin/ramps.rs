//! Ramps: start one, see where it stands, pause, resume, abort, promote.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use policies::guardrail::Judgement;
use policies::ramp::Phase;
use policies::ramp::bandit::{ArmEvidence, Bandit};
use policies::statistics::Verdict;
use policies::statistics::bandit::{CONTROL_FLOOR, LARGEST_MOVE};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::access::Who;
use super::error::ApiError;
use super::experiments::{body, reason};
use super::extract::{Body, Path};
use super::idempotency::{Answer, Answers};
use super::{Context, to_the_end};
use crate::change::ChangeError;
use crate::clock;
use crate::comparison::NotPassed;
use crate::control::{HandFault, Made, Ramp, status_word, words};
use crate::live::{Actor, LiveExperiment};
use crate::store::Source;

mod asked;

impl From<HandFault> for ApiError {
    fn from(fault: HandFault) -> Self {
        let message = fault.to_string();
        match fault {
            HandFault::NoRamp(_) => Self::missing(message),
            HandFault::UnderWay(_) => Self::new(StatusCode::CONFLICT, "ramp_under_way", message),
            HandFault::NotRunning(_) => Self::new(StatusCode::CONFLICT, "not_running", message),
            HandFault::Shadow(_, NotPassed::NotYet(..)) => {
                Self::new(StatusCode::CONFLICT, "shadow_not_passed", message)
            }
            HandFault::Shadow(..) => Self::invalid(message),
            HandFault::Refused(policies::ramp::Refused::Cooling { until }) => {
                let until = at(until);
                let message = format!("the ramp was rolled back; it may begin again at {until}");
                Self::new(StatusCode::CONFLICT, "cooling_down", message)
                    .with(json!({ "until": until }))
            }
            HandFault::OthersHaveTraffic(_) => {
                Self::new(StatusCode::CONFLICT, "others_have_traffic", message)
            }
            HandFault::NoArm(_) => Self::invalid(message),
            HandFault::Refused(_) => Self::new(StatusCode::CONFLICT, "conflict", message),
            HandFault::Change(error) => Self::from(error),
        }
    }
}

/// `GET /experiments/{e}/ramp`.
pub async fn show(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let view = context.changes.view();
    if !view.live.contains_key(&name) {
        return Err(ApiError::missing(format!("experiment {name:?} does not exist")));
    }
    let ramp = context.control.ramp(&name).ok_or(HandFault::NoRamp(name.clone()))?;
    Ok(Json(described(&context, &name, &ramp)))
}

/// `POST /experiments/{e}/ramp`.
pub async fn start(
    State(context): State<Context>,
    Path(name): Path<String>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Body(bytes): Body,
) -> Result<Answer, ApiError> {
    let what = format!("ramp {name} {}", blake3::hash(&bytes));
    let key = Answers::key(&who, &headers)?;
    let _turn = context.answers.turn(key.as_deref()).await;
    if let Some(answer) = context.answers.find(key.as_deref(), &what)? {
        return Ok(answer);
    }
    let view = context.changes.view();
    let planned = view.plan.experiments.iter().find(|planned| *planned.name == *name);
    let Some(planned) = planned else {
        return Err(ApiError::missing(format!("experiment {name:?} does not exist")));
    };
    let object: Value = body(&bytes, Some(json!({})))?;
    let asked::Asked { told, because, notes } = asked::told(&object, planned, &view.plan.feedback)?;
    let because = reason(because)?;
    let (control, experiment) = (Arc::clone(&context.control), name.clone());
    let ramp =
        to_the_end(async move { control.begin(&experiment, told, &actor(&who), because).await })
            .await??;
    Ok(done(&context, &name, &ramp, StatusCode::CREATED, (key, what), notes))
}

/// `POST /experiments/{e}/ramp/{pause,resume,abort,promote}`.
pub async fn hand(
    State(context): State<Context>,
    Path((name, hand)): Path<(String, String)>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Body(bytes): Body,
) -> Result<Answer, ApiError> {
    let what = format!("ramp {hand} {name}");
    let key = Answers::key(&who, &headers)?;
    let _turn = context.answers.turn(key.as_deref()).await;
    if let Some(answer) = context.answers.find(key.as_deref(), &what)? {
        return Ok(answer);
    }
    let asked: Handed = body(&bytes, Some(Handed::default()))?;
    let because = reason(asked.reason)?;
    if asked.variant.is_some() && hand != "promote" {
        return Err(ApiError::invalid("`variant` says who is promoted, and nothing else"));
    }
    let variant = asked.variant;
    let (control, experiment, asked) = (Arc::clone(&context.control), name.clone(), hand.clone());
    let moved = to_the_end(async move {
        let actor = actor(&who);
        match asked.as_str() {
            "pause" => control.pause(&experiment, &actor, because).await,
            "resume" => control.resume(&experiment, &actor, because).await,
            "abort" => control.abort(&experiment, &actor, because).await,
            "promote" => match variant {
                Some(arm) => control.promote_arm(&experiment, &arm, &actor, because).await,
                None => control.promote(&experiment, &actor, because).await,
            },
            other => Err(HandFault::Change(ChangeError::Missing(format!(
                "a ramp cannot {other:?}; it can pause, resume, abort, promote"
            )))),
        }
    })
    .await??;
    Ok(done(&context, &name, &moved, StatusCode::OK, (key, what), Vec::new()))
}

/// What comes with a hand on a ramp.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Handed {
    /// Why.
    reason: Option<String>,
    /// Of a bandit with several arms: who is promoted.
    variant: Option<String>,
}

/// A person, whose change is a ramp's.
fn actor(who: &Who) -> Actor {
    Actor { source: Source::Ramp, ..who.actor() }
}

fn done(
    context: &Context,
    name: &str,
    ramp: &Ramp,
    status: StatusCode,
    (key, what): (Option<String>, String),
    notes: Vec<String>,
) -> Answer {
    let revision = context.changes.view().live.get(name).map(|live| live.revision);
    let mut body = described(context, name, ramp);
    if !notes.is_empty() {
        super::status::merge(&mut body, json!({ "notes": notes }));
    }
    let answer = Answer { status, revision, body };
    context.answers.keep(key, what, &answer);
    answer
}

fn at(unix_seconds: u64) -> String {
    clock::rfc3339_micros(i64::try_from(unix_seconds).unwrap_or(0).saturating_mul(1_000_000))
}

/// What a list or an experiment says of its ramp.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RampInShort {
    /// `running`, `holding`, `paused`, `promoted`, `rolled_back` or `aborted`.
    state: &'static str,
    /// The variant that is ramped.
    variant: String,
    /// `steps` or `bandit`.
    mode: &'static str,
    /// 0 is warm-up, then come the steps from 1, then the verification. A bandit is in 1 after that.
    step: usize,
    /// How many steps there are; a bandit has none.
    steps: usize,
}

fn mode(ramp: &Ramp) -> &'static str {
    if ramp.told.settings.bandit.is_some() { "bandit" } else { "steps" }
}

/// The newest ramp of an experiment.
pub(super) fn in_short(context: &Context, name: &str) -> Option<RampInShort> {
    let ramp = context.control.ramp(name)?;
    Some(RampInShort {
        state: status_word(ramp.state.status),
        variant: ramp.told.variant.clone(),
        mode: mode(&ramp),
        step: ramp.told.step(ramp.state.phase),
        steps: ramp.told.steps(),
    })
}

/// A ramp as the API shows it.
fn described(context: &Context, name: &str, ramp: &Ramp) -> Value {
    let view = context.changes.view();
    let live = view.live.get(name);
    let (state, told) = (&ramp.state, &ramp.told);
    let (time, exposures) = told.least(state.phase);
    let time = match state.phase {
        Phase::Bandit => ramp.seen.period.unwrap_or(time),
        Phase::WarmUp | Phase::Step(_) | Phase::Verify => time,
    };
    let steps = if told.settings.bandit.is_some() { &[][..] } else { &told.settings.steps };
    json!({
        "experiment": name,
        "variant": told.variant,
        "control": told.control,
        "control_cell": told.control_cell,
        "shadow": told.shadow,
        "mode": mode(ramp),
        "bandit": told.settings.bandit.as_ref().map(|bandit| self::bandit(ramp, bandit, live)),
        "state": status_word(state.status),
        "holding": state.holding.map(words::reason),
        "phase": match state.phase {
            Phase::WarmUp => "warm_up",
            Phase::Step(_) => "step",
            Phase::Verify => "verify",
            Phase::Bandit => "bandit",
        },
        "step": told.step(state.phase),
        "steps": steps.iter().map(|step| json!({
            "share": f64::from(step.share) / 10_000.0,
            "min_time": step.min_time,
            "min_exposures": step.min_exposures,
        })).collect::<Vec<_>>(),
        "warm_up": told.settings.warm_up.as_ref().map(|warm_up| json!({
            "share": f64::from(warm_up.share) / 10_000.0,
            "min_time": warm_up.min_time,
            "min_exposures": warm_up.min_exposures,
        })),
        "verify": told.settings.verify.as_ref().map(|verify| json!({
            "share": f64::from(verify.share) / 10_000.0,
            "min_time": verify.min_time,
        })),
        "share": live.and_then(|live| told.share(live)),
        "revision": live.map(|live| live.revision),
        "began_at": at(state.began_at),
        "since": at(state.since),
        "step_seconds": state.step_seconds,
        "min_seconds": time,
        "seconds_left": time.saturating_sub(state.step_seconds),
        "exposures": ramp.exposures,
        "min_exposures": exposures,
        "patience": told.settings.patience,
        "objective": told.settings.objective.as_ref().map(|objective| json!({
            "metric": objective.metric,
            "below": objective.below,
            "for": objective.lasting,
            "missed_since": state.missed_since.map(at),
        })),
        "rollbacks": state.rollbacks,
        "cool_until": state.cool_until.map(at),
        "evidence_from_revision": told.from,
        "guardrails": ramp.seen.judged.iter()
            .map(|(variant, judged)| guardrail(ramp, *variant, judged)).collect::<Vec<_>>(),
        "decisions": ramp.decisions.iter().rev()
            .map(decision).collect::<Vec<_>>(),
    })
}

/// What a bandit was told, and what is known of its arms.
fn bandit(ramp: &Ramp, bandit: &Bandit, live: Option<&LiveExperiment>) -> Value {
    let (told, state) = (&ramp.told, &ramp.state);
    let least = ArmEvidence::LEAST;
    let arms = told.arms.iter().chain([&told.control]).enumerate().map(|(place, name)| {
        let known = ramp.seen.arms.get(place);
        let is_out = state.arms.get(place).is_some_and(|arm| arm.is_out);
        let share = live.and_then(|live| {
            let at = live.weights.iter().position(|(variant, _)| variant == name)?;
            live.shares().get(at).copied()
        });
        let state = match (is_out, share) {
            (true, _) => "rolled_back",
            (false, Some(0)) => "off",
            (false, _) => "in",
        };
        json!({
            "variant": name,
            "state": state,
            "share": share.map(fraction),
            "values": known.map_or(0.0, |arm| arm.values).round(),
            "events": known.map_or(0.0, |arm| arm.events).round(),
            "is_enough": known.is_some_and(|arm| arm.is_enough),
            "mean": known.and_then(|arm| arm.mean),
            "spread": known.and_then(|arm| arm.spread),
            "chance_best": known.and_then(|arm| arm.chance),
            "target": known.and_then(|arm| arm.target).map(fraction),
        })
    });
    json!({
        "metric": bandit.metric,
        "better": bandit.direction(),
        "period": bandit.period,
        "period_in_force": ramp.seen.period.unwrap_or(bandit.period),
        "floor": bandit.floor,
        "control_floor": CONTROL_FLOOR,
        "largest_move": LARGEST_MOVE,
        "decay": bandit.decay,
        "least": { "values": least.0, "events": least.1 },
        "arms": arms.collect::<Vec<_>>(),
    })
}

fn fraction(share: u16) -> f64 {
    f64::from(share) / 10_000.0
}

fn guardrail(ramp: &Ramp, variant: u8, judged: &Judgement) -> Value {
    let points = ramp.series.of(variant, &judged.metric);
    let mut shown = evidence(judged);
    super::status::merge(
        &mut shown,
        json!({ "variant": ramp.told.name(variant), "series": points.iter().map(|point| json!({
            "at": at(point.at), "log_e_harm": point.harm, "log_e_safe": point.safe,
        })).collect::<Vec<_>>() }),
    );
    shown
}

fn evidence(judged: &Judgement) -> Value {
    let events = judged.events;
    json!({
        "metric": judged.metric,
        "action": judged.action,
        "required": judged.required,
        "verdict": match judged.verdict {
            Verdict::Breached => "breached",
            Verdict::Held => "held",
            _ => "too_early",
        },
        "log_e_harm": judged.log_e_harm,
        "log_e_safe": judged.log_e_safe,
        "log_e_above_floor": judged.log_e_above_floor,
        "log_e_below_ceiling": judged.log_e_below_ceiling,
        "thresholds": judged.thresholds,
        "exposures": { "treated": judged.exposures.0, "control": judged.exposures.1 },
        "events": events.map(|(treated, control)| json!({ "treated": treated, "control": control })),
        "needed": judged.needed,
        "ratio": judged.ratio,
    })
}

fn decision(made: &Made) -> Value {
    let words = words::decision(made);
    let Made { variant, arms, decision: made } = made;
    let evidence = &made.evidence;
    let shares: Map<String, Value> = arms
        .iter()
        .zip(&made.shares)
        .map(|(name, share)| (name.clone(), fraction(*share).into()))
        .collect();
    let known: Vec<Value> = arms
        .iter()
        .zip(&evidence.arms)
        .map(|(name, arm)| {
            json!({
                "variant": name,
                "values": arm.values,
                "events": arm.events,
                "mean": arm.mean,
                "spread": arm.spread,
                "chance_best": arm.chance,
                "target": arm.target.map(fraction),
                "guardrails": arm.guardrails.iter().map(self::evidence).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "at": at(made.at),
        "variant": variant,
        "action": words::action(made.action),
        "reason": words::reason(made.reason),
        "words": words,
        "row": made.row,
        "from_revision": made.from_revision,
        "share": made.share.map(fraction),
        "shares": if shares.is_empty() { Value::Null } else { shares.into() },
        "evidence": {
            "guardrails": evidence.guardrails.iter().map(self::evidence).collect::<Vec<_>>(),
            "sample_ratio": evidence.sample_ratio,
            "epochs": evidence.epochs,
            "step_seconds": evidence.step_seconds,
            "step_exposures": evidence.step_exposures,
            "arms": if known.is_empty() { Value::Null } else { known.into() },
        },
    })
}
