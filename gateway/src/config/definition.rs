//! An experiment as a value of its own: what the API is told, what is stored, what is written as TOML.
//!
//! A definition is a JSON object with the members of `[experiments.NAME]`. [`of`] makes it of a plan,
//! in one form for each meaning, so that two are compared by comparing them; [`toml()`] writes any
//! object as the file would have it, mistakes included, so that it is read and checked by the code that
//! reads and checks the file.

use serde_json::{Map, Value, json};

use routing::{Condition, HeaderValueMatch};

use super::plan::{Experiment, OnFailure, Owner, Plan};

/// The definition of an experiment of `plan`, with these weights by variant; without one the plan's.
pub fn of(plan: &Plan, experiment: &Experiment, weights: &[(String, f64)]) -> Value {
    let variant = |index: usize| experiment.variants[index].name.to_string();
    let mut all = Map::new();
    all.insert("route".into(), plan.routes[experiment.route].name.to_string().into());
    let unit: Vec<String> = experiment.unit.iter().map(ToString::to_string).collect();
    all.insert("unit".into(), unit.into());
    all.insert("control".into(), variant(experiment.control).into());
    if experiment.on_failure == OnFailure::Fallback {
        all.insert("on_failure".into(), "fallback".into());
    }
    if experiment.owner == Owner::File {
        all.insert("owner".into(), "file".into());
    }
    if let Some((layer, share)) = experiment.layer {
        let percent = number(f64::from(share) / 100.0);
        all.insert("layer".into(), json!({ "name": *plan.layers[layer], "percent": percent }));
    }
    let variants: Map<String, Value> = experiment
        .variants
        .iter()
        .map(|variant| {
            let live = weights.iter().find(|(name, _)| *name == *variant.name);
            let weight = number(live.map_or(variant.weight, |(_, weight)| *weight));
            let backend = &*plan.backends[variant.backend].name;
            (variant.name.to_string(), json!({ "backend": backend, "weight": weight }))
        })
        .collect();
    all.insert("variants".into(), variants.into());
    let targets: Vec<Value> = experiment
        .targets
        .iter()
        .map(|target| {
            let variant = variant(usize::from(target.variant.0));
            json!({ "when": when(&target.when), "variant": variant })
        })
        .collect();
    if !targets.is_empty() {
        all.insert("targets".into(), targets.into());
    }
    all.into()
}

fn when(condition: &Condition) -> Value {
    match condition {
        Condition::Header(header) => {
            let value = match &header.value {
                HeaderValueMatch::Exact(value) => &**value,
                // No file can say this of a target.
                HeaderValueMatch::Present => "",
            };
            json!({ "header": { "name": header.name.as_str(), "value": value } })
        }
        Condition::Unit(units) => json!({ "unit": units }),
        Condition::Key(key) => json!({ "key": key }),
    }
}

/// A number as people write it: 90, not 90.0.
#[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
fn number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        return (number as i64).into();
    }
    number.into()
}

/// `definition` with these weights, where it has the variants.
pub fn with_weights(definition: &Value, weights: &[(String, f64)]) -> Value {
    let mut definition = definition.clone();
    for (variant, weight) in weights {
        let member = definition.get_mut("variants").and_then(|variants| variants.get_mut(variant));
        if let Some(Value::Object(member)) = member {
            member.insert("weight".into(), number(*weight));
        }
    }
    definition
}

/// Weights by variant, as `definition` has them.
pub fn weights(definition: &Value) -> Vec<(String, f64)> {
    let variants = definition.get("variants").and_then(Value::as_object);
    let weight = |value: &Value| value.get("weight").and_then(Value::as_f64).unwrap_or(0.0);
    variants
        .map(|all| all.iter().map(|(name, value)| (name.clone(), weight(value))).collect())
        .unwrap_or_default()
}

/// Where two definitions differ: the member as `variants.canary.weight`, and what each says.
pub fn differences<'a>(file: &'a Value, live: &'a Value) -> Vec<(String, &'a Value, &'a Value)> {
    let mut all = Vec::new();
    compare(String::new(), file, live, &mut all);
    all
}

fn compare<'a>(
    at: String,
    file: &'a Value,
    live: &'a Value,
    all: &mut Vec<(String, &'a Value, &'a Value)>,
) {
    let (Value::Object(left), Value::Object(right)) = (file, live) else {
        if file != live {
            all.push((at, file, live));
        }
        return;
    };
    let members = left.keys().chain(right.keys().filter(|name| !left.contains_key(*name)));
    for name in members {
        let place = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        let of = |side: &'a Map<String, Value>| side.get(name).unwrap_or(&Value::Null);
        compare(place, of(left), of(right), all);
    }
}

/// `definition` as the section `[experiments.NAME]` of a file. Members that are null are left out.
pub fn toml(name: &str, definition: &Map<String, Value>) -> String {
    let section = format!("experiments.{}", key(name));
    let mut out = format!("[{section}]\n");
    let apart = |(member, value): &(&String, &Value)| match value {
        Value::Object(_) => *member == "variants",
        Value::Array(list) => {
            *member == "targets" && !list.is_empty() && list.iter().all(Value::is_object)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    let line =
        |(member, value): (&String, &Value)| format!("{} = {}\n", key(member), inline(value));
    let there = |(_, value): &(&String, &Value)| !value.is_null();
    definition.iter().filter(there).filter(|m| !apart(m)).for_each(|m| out += &line(m));
    for (member, value) in definition.iter().filter(apart) {
        if let Value::Object(members) = value {
            out += &format!("\n[{section}.{member}]\n");
            members.iter().filter(there).for_each(|m| out += &line(m));
        }
        for item in value.as_array().into_iter().flatten().filter_map(Value::as_object) {
            out += &format!("\n[[{section}.{member}]]\n");
            item.iter().filter(there).for_each(|m| out += &line(m));
        }
    }
    out
}

fn key(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.bytes().all(is_bare) { name.to_owned() } else { quoted(name) }
}

/// A string; `${` stands for itself, for what comes from outside is given no variables.
fn text(text: &str) -> String {
    quoted(&text.replace("${", "$${"))
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            control if control.is_control() => out += &format!("\\u{:04x}", u32::from(control)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn float(number: f64) -> String {
    // TOML knows no whole numbers as large as some floats are, so those get an exponent.
    let is_plain = number == 0.0 || (1e-5..1e15).contains(&number.abs());
    if is_plain { format!("{number:?}") } else { format!("{number:e}").replace("NaN", "nan") }
}

fn inline(value: &Value) -> String {
    match value {
        // Only within lists, where it cannot be left out; whoever reads it says what is wrong.
        Value::Null => "\"\"".to_owned(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.to_string(),
            None => float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(string) => text(string),
        Value::Array(list) => {
            format!("[{}]", list.iter().map(inline).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let members = members.iter().filter(|(_, value)| !value.is_null());
            let all: Vec<String> =
                members.map(|(name, value)| format!("{} = {}", key(name), inline(value))).collect();
            format!("{{ {} }}", all.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Value {
        serde_json::to_value(toml::from_str::<toml::Value>(text).unwrap()).unwrap()
    }

    #[test]
    fn a_section_is_written_as_a_person_would() {
        let definition = json!({
            "route": "chat",
            "unit": ["header:x-user-id", "key"],
            "control": "stable",
            "layer": {"name": "models", "percent": 12.5},
            "variants": {
                "stable": {"backend": "llama", "weight": 95},
                "can ary": {"backend": "llama-int8", "weight": 0.5},
            },
            "targets": [{"when": {"header": {"name": "x-team", "value": "a \"b\""}}, "variant": "stable"}],
            "on_failure": null,
        });
        let text = toml("int8", definition.as_object().unwrap());
        assert_eq!(
            text,
            "[experiments.int8]\nroute = \"chat\"\nunit = [\"header:x-user-id\", \"key\"]\n\
             control = \"stable\"\nlayer = { name = \"models\", percent = 12.5 }\n\n\
             [experiments.int8.variants]\nstable = { backend = \"llama\", weight = 95 }\n\
             \"can ary\" = { backend = \"llama-int8\", weight = 0.5 }\n\n\
             [[experiments.int8.targets]]\n\
             when = { header = { name = \"x-team\", value = \"a \\\"b\\\"\" } }\nvariant = \"stable\"\n"
        );
    }

    #[test]
    fn differences_name_the_member_and_both_sides() {
        let file = json!({"a": 1, "b": {"c": 2, "d": [1]}, "e": 5});
        let live = json!({"a": 1, "b": {"c": 3, "d": [1], "f": 4}});
        let told: Vec<String> = differences(&file, &live)
            .into_iter()
            .map(|(at, file, live)| format!("{at}: {file} {live}"))
            .collect();
        assert_eq!(told, ["b.c: 2 3", "b.f: null 4", "e: 5 null"]);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e300..1e300).prop_map(|n: f64| json!(n)),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::hash_map("[^$]{0,6}", inner, 0..4)
                    .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        /// Whatever is sent, the file's reader sees that and nothing else: no text can begin a section.
        #[test]
        fn what_is_written_is_read_as_the_same(name in ".{0,10}", unit in values(), other in values()) {
            let definition = json!({"unit": unit, "other": other, "variants": {"a": other}});
            let text = toml(&name, definition.as_object().unwrap());
            let back = read(&text);
            prop_assert_eq!(back.as_object().unwrap().len(), 1);
            let floats = |value: &Value| value.to_string().replace("-0.0", "0.0");
            let wanted = escaped(&definition);
            let found = &back["experiments"][name.as_str()];
            prop_assert_eq!(floats(&sorted(found)), floats(&sorted(&wanted)));
        }
    }

    /// As the text has it, from which a `${` is taken for itself.
    fn escaped(value: &Value) -> Value {
        match value {
            Value::String(text) => text.replace("${", "$${").into(),
            Value::Array(list) => list.iter().map(escaped).collect::<Vec<_>>().into(),
            Value::Object(members) => {
                let all = members.iter().map(|(name, value)| (name.clone(), escaped(value)));
                all.collect::<Map<_, _>>().into()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    /// Members in one order, and every number as a float: TOML's reader keeps neither.
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                let mut names: Vec<&String> = members.keys().collect();
                names.sort();
                names
                    .into_iter()
                    .map(|name| (name.clone(), sorted(&members[name])))
                    .collect::<Map<_, _>>()
                    .into()
            }
            Value::Array(list) => list.iter().map(sorted).collect::<Vec<_>>().into(),
            Value::Number(number) => json!(number.as_f64()),
            Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
        }
    }
}
