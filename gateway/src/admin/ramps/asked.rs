//! What `POST …/ramp` says, read member by member: every problem is told at once, with its place.

use std::time::Duration;

use policies::guardrail::{Guardrail, Metric};
use policies::ramp::{Objective, OnUndecided, Settings, SettingsFault, Step, Verify, WarmUp};
use serde_json::{Map, Value, json};

use crate::admin::error::ApiError;
use crate::config::{parse_duration, plan};
use crate::control::Start;

mod bandit;

/// Members of the request.
const MEMBERS: [&str; 24] = [
    "variant",
    "control_cell",
    "warm_up",
    "steps",
    "verify",
    "guardrails",
    "on_undecided",
    "patience",
    "cool_down",
    "alpha_rollback",
    "novelty",
    "afresh",
    "reason",
    "most_cool_down",
    "judged_variants",
    "shadow",
    "objective",
    "mode",
    "arms",
    "metric",
    "better",
    "period",
    "floor",
    "decay",
];
/// What only a ramp with steps can be told.
const OF_STEPS: [&str; 7] =
    ["steps", "verify", "on_undecided", "patience", "novelty", "control_cell", "shadow"];
/// Most steps, and most guardrails.
const MOST: usize = 32;

/// What is wrong, and where.
#[derive(Default)]
struct Faults(Vec<(String, String)>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push((field.into(), message.into()));
    }

    fn told(self) -> Result<(), ApiError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let all: Vec<String> =
            self.0.iter().map(|(field, message)| format!("{field}: {message}")).collect();
        let error = ApiError::invalid(format!("the ramp cannot be started: {}", all.join("; ")));
        Err(self.0.into_iter().fold(error, |error, (field, message)| {
            error.with(json!({ "field": field, "message": message }))
        }))
    }
}

/// What was asked for.
pub(super) struct Asked {
    /// What the ramp is told.
    pub(super) told: Start,
    /// Why.
    pub(super) because: Option<String>,
    /// What whoever asks should know.
    pub(super) notes: Vec<String>,
}

/// What a ramp of `experiment` is told, and why it is started.
///
/// # Errors
/// 400 with every problem.
pub(super) fn told(
    object: &Value,
    experiment: &plan::Experiment,
    feedback: &plan::Feedback,
) -> Result<Asked, ApiError> {
    let Some(object) = object.as_object() else {
        return Err(ApiError::invalid("the body must be an object; `{}` takes every default"));
    };
    let mut faults = Faults::default();
    unknown(object, &MEMBERS, "", &mut faults);
    let control = experiment.variants[experiment.control].name.to_string();
    let cell = text(object, "control_cell", &mut faults);
    let names: Vec<&str> = experiment.variants.iter().map(|variant| &*variant.name).collect();
    if let Some(cell) = &cell
        && !names.contains(&cell.as_str())
    {
        faults.add("control_cell", no_variant(cell, &names));
    }
    let is_bandit = match text(object, "mode", &mut faults).as_deref() {
        None | Some("steps") => false,
        Some("bandit") => true,
        Some(_) => {
            faults.add("mode", "must be \"steps\" or \"bandit\"");
            false
        }
    };
    let arms = match is_bandit {
        true => bandit::arms(object, &control, &names, &mut faults),
        false => Vec::new(),
    };
    let variant = match arms.first() {
        Some(first) => first.clone(),
        None if is_bandit => String::new(),
        None => treated(object, &control, cell.as_deref(), &names, &mut faults),
    };
    let place = |name: &str| {
        let at = names.iter().position(|known| *known == name).unwrap_or(0);
        u8::try_from(at).unwrap_or(u8::MAX)
    };

    let mut settings = Settings {
        treated: place(&variant),
        control: place(&control),
        control_cell: cell.as_deref().map(place),
        ..Settings::default()
    };
    read(object, &mut settings, &mut faults);
    let mut notes = Vec::new();
    let (others, whose): (&[&str], _) = match is_bandit {
        true => (&OF_STEPS, "is for ramps with steps; a bandit has none"),
        false => (&bandit::MEMBERS, "is for bandits: add \"mode\": \"bandit\""),
    };
    for name in others.iter().filter(|name| object.get(**name).is_some_and(|it| !it.is_null())) {
        faults.add(*name, whose);
    }
    if is_bandit {
        let numbers = arms.iter().map(|arm| place(arm)).collect();
        settings.bandit = Some(bandit::settings(object, numbers, &mut faults));
        let sticky = bandit::Sticky { experiment, feedback };
        notes.extend(sticky.note(settings.bandit.as_ref(), &mut faults));
    }
    if faults.0.is_empty() {
        for fault in settings.problems() {
            faults.add(field(&fault, &settings), fault.to_string());
        }
    }
    let afresh = match object.get("afresh") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(afresh)) => *afresh,
        Some(_) => {
            faults.add("afresh", "must be true or false");
            false
        }
    };
    let reason = text(object, "reason", &mut faults);
    let shadow = text(object, "shadow", &mut faults);
    faults.told()?;
    let told = Start { variant, control, control_cell: cell, arms, settings, afresh, shadow };
    Ok(Asked { told, because: reason, notes })
}

/// Everything that is optional and has a default.
fn read(object: &Map<String, Value>, settings: &mut Settings, faults: &mut Faults) {
    match object.get("warm_up") {
        None => {}
        Some(Value::Null) => settings.warm_up = None,
        Some(value) => {
            let usual = WarmUp::default();
            if let Some(part) =
                part(value, "warm_up", &["share", "min_time", "min_exposures"], faults)
            {
                settings.warm_up = Some(WarmUp {
                    share: share(part, "warm_up.share", faults).unwrap_or(usual.share),
                    min_time: time(part, "min_time", "warm_up.", faults).unwrap_or(usual.min_time),
                    min_exposures: whole(part, "min_exposures", "warm_up.", faults)
                        .unwrap_or(usual.min_exposures),
                });
            }
        }
    }
    match object.get("verify") {
        None => {}
        Some(Value::Null) => settings.verify = None,
        Some(value) => {
            let usual = Verify::default();
            if let Some(part) = part(value, "verify", &["share", "min_time"], faults) {
                settings.verify = Some(Verify {
                    share: share(part, "verify.share", faults).unwrap_or(usual.share),
                    min_time: time(part, "min_time", "verify.", faults).unwrap_or(usual.min_time),
                });
            }
        }
    }
    match object.get("steps") {
        None | Some(Value::Null) => {}
        Some(Value::Array(steps)) if steps.len() <= MOST => {
            let usual = std::mem::take(&mut settings.steps);
            settings.steps = steps
                .iter()
                .enumerate()
                .filter_map(|(at, value)| step(value, at, &usual, faults))
                .collect();
        }
        Some(_) => faults.add("steps", format!("must be a list of at most {MOST} objects")),
    }
    match object.get("guardrails") {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) if (1..=MOST).contains(&list.len()) => {
            settings.guardrails.clear();
            for (at, value) in list.iter().enumerate() {
                match serde_json::from_value::<Guardrail>(value.clone()) {
                    Ok(guardrail) => settings.guardrails.push(guardrail),
                    Err(error) => faults.add(format!("guardrails[{at}]"), error.to_string()),
                }
            }
        }
        Some(_) => faults.add("guardrails", format!("must be a list of 1 to {MOST} objects")),
    }
    settings.objective = objective(object, faults);
    if let Some(word) = text(object, "on_undecided", faults) {
        match word.as_str() {
            "hold" => settings.on_undecided = OnUndecided::Hold,
            "promote" => settings.on_undecided = OnUndecided::Promote,
            "roll_back" => settings.on_undecided = OnUndecided::RollBack,
            _ => faults.add("on_undecided", "must be \"hold\", \"promote\" or \"roll_back\""),
        }
    }
    let mut set = |name, to: &mut u64| {
        if let Some(seconds) = time(object, name, "", faults) {
            *to = seconds;
        }
    };
    set("patience", &mut settings.patience);
    set("cool_down", &mut settings.cool_down);
    set("most_cool_down", &mut settings.most_cool_down);
    set("novelty", &mut settings.novelty);
    if let Some(alpha) = number(object, "alpha_rollback", "", faults) {
        settings.alpha_rollback = alpha;
    }
    if let Some(variants) = whole(object, "judged_variants", "", faults) {
        match usize::try_from(variants) {
            Ok(variants @ 1..=64) => settings.judged_variants = variants,
            _ => faults.add("judged_variants", "must be 1 to 64"),
        }
    }
}

/// The route's own line: `{"metric": "latency_p99", "below": "2s", "for": "5m"}`.
fn objective(object: &Map<String, Value>, faults: &mut Faults) -> Option<Objective> {
    let value = object.get("objective").filter(|value| !value.is_null())?;
    let object = part(value, "objective", &["metric", "below", "for"], faults)?;
    let metric = match text(object, "metric", faults).map(|text| text.parse::<Metric>()) {
        None => Metric::LatencyP99,
        Some(Ok(metric)) => metric,
        Some(Err(fault)) => {
            faults.add("objective.metric", fault.to_string());
            return None;
        }
    };
    let below = match object.get("below").and_then(Value::as_str).map(parse_duration) {
        Some(Ok(below)) => below.as_secs_f64(),
        Some(Err(why)) => {
            faults.add("objective.below", why.to_string());
            return None;
        }
        None => {
            faults.add("objective.below", "must be text with a unit, such as \"2s\"");
            return None;
        }
    };
    let lasting = time(object, "for", "objective.", faults).unwrap_or(300);
    Some(Objective { metric, below, lasting })
}

/// One step. Margins that are not given are those of the default step with no smaller share: little
/// proof for little risk.
fn step(value: &Value, at: usize, usual: &[Step], faults: &mut Faults) -> Option<Step> {
    const MEMBERS: [&str; 7] = [
        "share",
        "min_time",
        "min_exposures",
        "failed_margin",
        "failed_ceiling",
        "latency_margin",
        "p99_margin",
    ];
    let place = format!("steps[{at}]");
    let object = part(value, &place, &MEMBERS, faults)?;
    let inside = format!("{place}.");
    let Some(share) = share(object, &format!("{inside}share"), faults) else {
        if !object.contains_key("share") {
            faults.add(format!("{inside}share"), "must be given: a fraction such as 0.05");
        }
        return None;
    };
    let like = usual.iter().find(|step| step.share >= share).or(usual.last()).copied()?;
    Some(Step {
        share,
        min_time: time(object, "min_time", &inside, faults).unwrap_or(like.min_time),
        min_exposures: whole(object, "min_exposures", &inside, faults)
            .unwrap_or(like.min_exposures),
        failed_margin: number(object, "failed_margin", &inside, faults).or(like.failed_margin),
        failed_ceiling: number(object, "failed_ceiling", &inside, faults).or(like.failed_ceiling),
        latency_margin: number(object, "latency_margin", &inside, faults).or(like.latency_margin),
        p99_margin: number(object, "p99_margin", &inside, faults).or(like.p99_margin),
    })
}

/// The variant to ramp: the one that is named, or the only one there is beside control.
fn treated(
    object: &Map<String, Value>,
    control: &str,
    cell: Option<&str>,
    names: &[&str],
    faults: &mut Faults,
) -> String {
    if let Some(named) = text(object, "variant", faults) {
        if named == control {
            faults.add("variant", format!("{named:?} is control: it is what others are judged by"));
        } else if !names.contains(&named.as_str()) {
            faults.add("variant", no_variant(&named, names));
        }
        return named;
    }
    let others: Vec<&str> =
        names.iter().copied().filter(|name| *name != control && Some(*name) != cell).collect();
    match others.as_slice() {
        [one] => (*one).to_owned(),
        [] => {
            faults.add("variant", "the experiment has no variant beside control");
            String::new()
        }
        several => {
            faults.add("variant", format!("say which: {}", several.join(", ")));
            several[0].to_owned()
        }
    }
}

fn no_variant(name: &str, names: &[&str]) -> String {
    format!("there is no variant {name:?}; variants are {}", names.join(", "))
}

/// Where a problem of the settings as a whole is.
fn field(fault: &SettingsFault, settings: &Settings) -> String {
    let of = |metric: &policies::guardrail::Metric| {
        let at = settings.guardrails.iter().rposition(|each| each.metric == *metric).unwrap_or(0);
        format!("guardrails[{at}]")
    };
    match fault {
        SettingsFault::NoSteps => "steps".to_owned(),
        SettingsFault::Share { phase, .. } => match phase.strip_prefix("step ") {
            Some(step) => {
                format!("steps[{}].share", step.parse::<usize>().map_or(0, |step| step - 1))
            }
            None => format!("{}.share", phase.replace('-', "_")),
        },
        SettingsFault::NotRising { step } => format!("steps[{}].share", step - 1),
        SettingsFault::Twice(metric) => of(metric),
        SettingsFault::Number { metric, name, .. } => format!("{}.{name}", of(metric)),
        SettingsFault::Margin { step } => format!("steps[{}]", step - 1),
        SettingsFault::Alpha => "alpha_rollback".to_owned(),
        SettingsFault::SameVariant => "control_cell".to_owned(),
        SettingsFault::Bandit { field, .. } => (*field).to_owned(),
        SettingsFault::Objective { field, .. } => format!("objective.{field}"),
    }
}

fn unknown(object: &Map<String, Value>, known: &[&str], place: &str, faults: &mut Faults) {
    for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
        faults.add(format!("{place}{name}"), format!("unknown; there is {}", known.join(", ")));
    }
}

fn part<'a>(
    value: &'a Value,
    place: &str,
    members: &[&str],
    faults: &mut Faults,
) -> Option<&'a Map<String, Value>> {
    let Some(object) = value.as_object() else {
        faults.add(place, "must be an object");
        return None;
    };
    unknown(object, members, &format!("{place}."), faults);
    Some(object)
}

fn text(object: &Map<String, Value>, name: &str, faults: &mut Faults) -> Option<String> {
    let value = object.get(name).filter(|value| !value.is_null())?;
    let text = value.as_str();
    if text.is_none() {
        faults.add(name, "must be text");
    }
    text.map(str::to_owned)
}

fn number(
    object: &Map<String, Value>,
    name: &str,
    place: &str,
    faults: &mut Faults,
) -> Option<f64> {
    let value = object.get(name).filter(|value| !value.is_null())?;
    let number = value.as_f64();
    if number.is_none() {
        faults.add(format!("{place}{name}"), "must be a number");
    }
    number
}

fn whole(object: &Map<String, Value>, name: &str, place: &str, faults: &mut Faults) -> Option<u64> {
    let value = object.get(name).filter(|value| !value.is_null())?;
    let number = value.as_u64();
    if number.is_none() {
        faults.add(format!("{place}{name}"), "must be a whole number from 0 up");
    }
    number
}

/// A fraction, as basis points.
fn share(object: &Map<String, Value>, place: &str, faults: &mut Faults) -> Option<u16> {
    let value = object.get("share").filter(|value| !value.is_null())?;
    let points = value.as_f64().map(|share| (share * 10_000.0).round());
    let Some(points) = points.filter(|points| (1.0..10_000.0).contains(points)) else {
        faults.add(place, "must be a fraction from 0.0001 to 0.9999, such as 0.05");
        return None;
    };
    #[expect(clippy::cast_possible_truncation, reason = "below 10,000")]
    let points = points as u16;
    Some(points)
}

/// A duration with its unit, as seconds.
fn time(object: &Map<String, Value>, name: &str, place: &str, faults: &mut Faults) -> Option<u64> {
    let value = object.get(name).filter(|value| !value.is_null())?;
    let span = match value.as_str() {
        Some(text) => parse_duration(text).map_err(|why| why.to_string()),
        None => Err("must be text with a unit, such as \"10m\"".to_owned()),
    };
    match span {
        Ok(span) => Some(seconds(span)),
        Err(why) => {
            faults.add(format!("{place}{name}"), why);
            None
        }
    }
}

/// Whole seconds, rounded up.
fn seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}
