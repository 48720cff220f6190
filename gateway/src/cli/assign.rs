//! `weir assign`: which variant a unit gets, and why.

use serde_json::Value;

use super::admin_client::{AdminClient, Call, escaped};
use super::console::Console;
use super::fault::Fault;
use super::{reading, split, words};

/// Asks the gateway, which answers with the very function that decides for requests.
pub(crate) fn assign(
    client: &AdminClient,
    name: &str,
    unit: &str,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let path = format!("/experiments/{}/assign?unit={}", escaped(name), escaped(unit));
    let answer = client.ask_anyway(Call::get(&path), console)?;
    if !answer.status.is_success() {
        let aim = format!("assign a unit of \"{name}\"");
        return Err(split::refused(client, &answer, name, &aim, console));
    }
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    console.print(&sentence(&answer.json, unit));
    Ok(())
}

fn sentence(answer: &Value, unit: &str) -> String {
    let get = |key| reading::text(answer, key);
    let unit = match get("unit").unwrap_or(unit) {
        "" => "a request without a unit",
        unit => unit,
    };
    let mut text = match get("variant") {
        Some(variant) => format!("{unit} gets {variant}"),
        None => format!("{unit} gets no variant"),
    };
    if let Some(backend) = get("backend") {
        text.push_str(&format!(" (backend {backend})"));
    }
    let mut why = Vec::new();
    if let Some(experiment) = get("experiment") {
        let revision = reading::whole(answer, "revision").map(|revision| format!("@{revision}"));
        why.push(format!("experiment {experiment}{}", revision.unwrap_or_default()));
    }
    if let Some(bucket) = reading::whole(answer, "bucket") {
        why.push(format!("bucket {} of 0 to 9,999", words::count(bucket)));
    }
    if let Some(reason) = get("reason") {
        why.push(format!("reason: {reason}"));
    }
    words::clean(&format!("{text}; {}", why.join(", "))).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_assignment_is_a_sentence() {
        let answer = json!({
            "experiment": "int8", "unit": "alice", "variant": "canary", "reason": "split",
            "bucket": 9412, "revision": 8, "backend": "llama-8b-int8",
        });
        assert_eq!(
            sentence(&answer, "alice"),
            "alice gets canary (backend llama-8b-int8); experiment int8@8, bucket 9,412 of 0 to 9,999, \
             reason: split"
        );
    }
}
