//! The JSON Schema of the configuration file, for editors (`weir schema`).

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use serde_json::Value;

use super::written;

/// The JSON Schema (draft 2020-12) of the configuration file; every member is described.
///
/// It holds the shape: members, types, words. What reaches across members (names that are not
/// defined, parts of a layer over 100 %) is `weir check`'s to tell.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<written::File>();
    RecursiveTransform(without_null).transform(&mut schema);
    schema.to_value()
}

/// TOML has no null: a member that may be absent is never null.
fn without_null(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            schema.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type") != Some(&Value::from("null")));
        if let [Value::Object(one)] = choices.as_slice() {
            let one = one.clone();
            schema.remove("anyOf");
            for (name, value) in one {
                schema.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_is_described() {
        fn walk(at: &str, value: &Value, members: &mut usize) {
            if let Some(Value::Object(properties)) = value.get("properties") {
                for (name, member) in properties {
                    *members += 1;
                    let described = member.get("description").and_then(Value::as_str);
                    assert!(described.is_some_and(|text| text.len() > 10), "{at}.{name}: {member}");
                }
            }
            match value {
                Value::Object(map) => {
                    map.iter().for_each(|(key, v)| walk(&format!("{at}.{key}"), v, members))
                }
                Value::Array(list) => list.iter().for_each(|v| walk(at, v, members)),
                Value::Null => panic!("{at} is null"),
                Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                    assert_ne!(value, "null", "{at}");
                }
            }
        }
        let schema = schema();
        let mut members = 0;
        walk("", &schema, &mut members);
        assert!(members > 100, "{members}");
        assert_eq!(schema["title"], "weir.toml");
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["required"], serde_json::json!(["server"]));
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["$defs"]["Backend"]["required"], serde_json::json!(["endpoints"]));
        let balance = &schema["$defs"]["Backend"]["properties"]["balance"];
        assert_eq!(
            balance["enum"],
            serde_json::json!(["least_requests", "round_robin", "hash:unit"])
        );
    }
}
