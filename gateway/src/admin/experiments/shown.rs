//! An experiment as the API shows it.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::admin::Context;
use crate::admin::live::Named;
use crate::admin::ramps::RampInShort;
use crate::admin::rates::Recent;
use crate::change::View;
use crate::clock;
use crate::config::plan::{OnFailure, Owner};
use crate::config::{definition, experiment};
use crate::live::LiveExperiment;
use crate::recorder::tally::{Tally, TallyKey};
use crate::store::{Source, State};

/// One experiment.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Experiment {
    /// Its name.
    pub name: String,
    /// The route it splits.
    pub route: String,
    /// Who may change it: `api` (this API and the file) or `file` (only the file).
    pub owner: &'static str,
    /// Whether it decides.
    pub state: State,
    /// Newest revision: the `ETag` in quotes.
    pub revision: u64,
    /// The variant the others are judged against.
    pub control: String,
    /// Where the unit is looked for; the first that is present counts.
    pub unit: Vec<String>,
    /// What happens when a variant cannot serve: `fail` or `fallback` to control.
    pub on_failure: &'static str,
    /// Its place in a layer.
    pub layer: Option<Placement>,
    /// By variant, control first.
    pub variants: Named<Variant>,
    /// Names of the variants, control first.
    pub order: Vec<String>,
    /// Rules that come before the split, as in the file.
    pub targets: Vec<Value>,
    /// When the newest revision was made, RFC 3339 in UTC.
    pub changed_at: String,
    /// Who made it: name of a key, `file` or `ramp`.
    pub changed_by: String,
    /// Where it came from.
    pub source: Source,
    /// Why, if somebody said so.
    pub reason: Option<String>,
    /// Its newest ramp, if it ever had one.
    pub ramp: Option<RampInShort>,
    /// Where its definition comes from: `file` or `api`.
    pub defined_by: &'static str,
    /// Whether what is in force is not what the file says.
    pub differs_from_file: bool,
    /// The weights that the file says; null if the file does not declare it.
    pub file_weights: Option<Named<f64>>,
    /// What the file says of it; null if the file does not declare it.
    pub file: Option<InFile>,
    /// Why it takes no traffic: it does not fit the file any more. Null as long as it fits.
    pub set_aside: Option<String>,
    /// On how many gateways the newest revision is in force, of those that are known.
    pub gateways: Gateways,
}

/// A place in a layer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Placement {
    /// The layer.
    name: String,
    /// The experiment's part of it.
    percent: f64,
}

/// One variant.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Variant {
    /// Backend that serves it; null if the file does not define it any more.
    backend: Option<String>,
    /// Weight, relative to the others.
    weight: f64,
    /// Part of the buckets that is dealt to it.
    share: f64,
    /// What it did, where that was asked for.
    #[serde(flatten)]
    recent: Option<Recent>,
}

/// What the file says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InFile {
    /// The file.
    path: String,
    /// Line at which it declares the experiment.
    line: Option<usize>,
    /// Where the file and what is in force differ.
    differences: Vec<Difference>,
}

/// One difference.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Difference {
    /// The member, such as `variants.canary.weight`, or `state`.
    member: String,
    /// What the file says.
    file: Value,
    /// What is in force.
    live: Value,
}

/// Gateways on the same store.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Gateways {
    /// Where the newest revision is in force.
    in_force: u32,
    /// Those that are known.
    known: u32,
}

/// The experiment as it stands in `view`; with what it did lately, if `now` is given.
pub fn shown(
    context: &Context,
    view: &View,
    name: &str,
    now: Option<&[(TallyKey, Tally)]>,
) -> Option<Experiment> {
    let live = view.live.get(name).or_else(|| view.past.get(name))?;
    let recent = |variant: &str| {
        let of = |key: &TallyKey| key.experiment == name && key.variant == variant;
        now.map(|now| context.rates.window(now, of).recent())
    };
    let is = current(view, name, live)?;
    let text = |member: &str| is.get(member).and_then(Value::as_str).unwrap_or("").to_owned();
    let list = |member: &str| is.get(member).and_then(Value::as_array).cloned().unwrap_or_default();
    let shares = live.shares();
    let variants = live.weights.iter().enumerate().map(|(index, (variant, weight))| {
        let backend = is.get("variants").and_then(|all| all.get(variant)?.get("backend")?.as_str());
        let shown = Variant {
            backend: backend.map(str::to_owned),
            weight: *weight,
            share: f64::from(shares.get(index).copied().unwrap_or(0)) / 10_000.0,
            recent: recent(variant),
        };
        (variant.clone(), shown)
    });
    let planned = experiment(&view.plan, name);
    let of_file = view.file.definition(name);
    let differences = of_file.as_ref().map(|file| differences(file, &is, live));
    let set_aside = view.aside.get(name).map(|problems| {
        problems.list.iter().map(|problem| &*problem.what).collect::<Vec<_>>().join("; ")
    });
    let units = list("unit").into_iter();
    Some(Experiment {
        name: name.to_owned(),
        route: text("route"),
        owner: match planned.map(|planned| planned.owner) {
            Some(Owner::File) => "file",
            Some(Owner::Api) | None => "api",
        },
        state: live.state,
        revision: live.revision,
        control: text("control"),
        unit: units.filter_map(|unit| unit.as_str().map(str::to_owned)).collect(),
        on_failure: match planned.map(|planned| planned.on_failure) {
            Some(OnFailure::Fallback) => "fallback",
            Some(OnFailure::Fail) => "fail",
            None if text("on_failure") == "fallback" => "fallback",
            None => "fail",
        },
        layer: is.get("layer").and_then(|layer| {
            let name = layer.get("name")?.as_str()?.to_owned();
            Some(Placement { name, percent: layer.get("percent")?.as_f64()? })
        }),
        variants: variants.collect(),
        order: live.weights.iter().map(|(name, _)| name.clone()).collect(),
        targets: list("targets"),
        changed_at: clock::rfc3339_micros(live.at),
        changed_by: live.by.clone(),
        source: live.source,
        reason: live.reason.clone(),
        ramp: crate::admin::ramps::in_short(context, name),
        defined_by: if view.definitions.contains_key(name) { "api" } else { "file" },
        differs_from_file: differences.as_ref().is_some_and(|all| !all.is_empty()),
        file_weights: of_file.as_ref().map(|file| definition::weights(file).into_iter().collect()),
        file: differences.map(|differences| InFile {
            path: view.file.path().display().to_string(),
            line: view.file.line(name),
            differences,
        }),
        set_aside,
        // One gateway serves from a store as yet, and a view is what is in force on it.
        gateways: Gateways { in_force: 1, known: 1 },
    })
}

/// The definition in force, with the weights in force.
pub(super) fn current(view: &View, name: &str, live: &LiveExperiment) -> Option<Value> {
    match experiment(&view.plan, name) {
        Some(planned) => Some(definition::of(&view.plan, planned, &live.weights)),
        None => {
            let definition = view.definitions.get(name)?;
            Some(definition::with_weights(definition, &live.weights))
        }
    }
}

/// The route of an experiment, whatever became of it; `None` if there is none of this name.
pub(in crate::admin) fn route_of(view: &View, name: &str) -> Option<String> {
    let live = view.live.get(name).or_else(|| view.past.get(name))?;
    current(view, name, live)?.get("route")?.as_str().map(str::to_owned)
}

fn differences(file: &Value, is: &Value, live: &LiveExperiment) -> Vec<Difference> {
    let mut all: Vec<Difference> = definition::differences(file, is)
        .into_iter()
        .map(|(member, file, live)| Difference { member, file: file.clone(), live: live.clone() })
        .collect();
    if live.state != State::Running {
        let word = |state: State| serde_json::to_value(state).unwrap_or_default();
        all.push(Difference {
            member: "state".to_owned(),
            file: word(State::Running),
            live: word(live.state),
        });
    }
    all
}
