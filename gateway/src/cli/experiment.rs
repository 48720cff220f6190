//! `weir experiment`: make one without touching the file, and end one. `weir export experiment`: the
//! section of a file that says the same.

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::admin_client::{AdminClient, Call, escaped};
use super::console::Console;
use super::fault::Fault;
use super::{Connection, Output, complete, reading, split, words};

#[derive(Debug, Subcommand)]
pub(crate) enum ExperimentCommand {
    /// Make an experiment; what the file may say can be said here
    #[command(after_help = "Checked like the file. `weir export experiment NAME` prints it as a \
                            section of the file.")]
    Create(CreateArgs),
    /// End an experiment: all traffic to the route's backend; results stay
    End {
        /// Name of the experiment
        #[arg(add = ArgValueCandidates::new(complete::experiments))]
        experiment: String,
        /// Why, for the history
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        gateway: Connection,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Name of the experiment
    experiment: String,
    /// The route it splits
    #[arg(long, add = ArgValueCandidates::new(complete::routes))]
    route: String,
    /// Where the unit is looked for, such as header:x-user-id; again for what counts without it
    #[arg(long = "unit", value_name = "SOURCE", required = true)]
    units: Vec<String>,
    /// A variant, control first, such as canary=llama-int8:5; again for each
    #[arg(long = "variant", value_name = "NAME=BACKEND:WEIGHT", value_parser = variant)]
    #[arg(required = true)]
    variants: Vec<(String, String, f64)>,
    /// Its part of a layer in percent, such as ranking:50
    #[arg(long, value_name = "LAYER:PERCENT", value_parser = placement)]
    layer: Option<(String, f64)>,
    /// Control serves what a variant cannot, in place of a failure
    #[arg(long)]
    fallback: bool,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    gateway: Connection,
    #[command(flatten)]
    output: Output,
}

/// `canary=llama-int8:5`.
fn variant(text: &str) -> Result<(String, String, f64), String> {
    let how = "write NAME=BACKEND:WEIGHT, as in canary=llama-int8:5";
    let (name, rest) = text.split_once('=').ok_or(how)?;
    let (backend, weight) = rest.rsplit_once(':').ok_or(how)?;
    let weight = weight.parse().map_err(|_| format!("{weight:?} is no weight; {how}"))?;
    Ok((name.to_owned(), backend.to_owned(), weight))
}

/// `ranking:50`.
fn placement(text: &str) -> Result<(String, f64), String> {
    let how = "write LAYER:PERCENT, as in ranking:50";
    let (layer, percent) = text.rsplit_once(':').ok_or(how)?;
    let percent = percent.parse().map_err(|_| format!("{percent:?} is no percentage; {how}"))?;
    Ok((layer.to_owned(), percent))
}

/// Does what is asked.
pub(crate) fn obey(command: ExperimentCommand, console: &mut Console) -> Result<(), Fault> {
    match command {
        ExperimentCommand::Create(args) => create(args, console),
        ExperimentCommand::End { experiment, reason, gateway, output } => {
            end(&gateway.client()?, &experiment, reason.as_deref(), output.json, console)
        }
    }
}

fn create(args: CreateArgs, console: &mut Console) -> Result<(), Fault> {
    let CreateArgs { experiment, route, units, variants, layer, fallback, reason, .. } = args;
    let mut body = Map::new();
    body.insert("name".into(), json!(experiment));
    body.insert("route".into(), json!(route));
    body.insert("unit".into(), json!(units));
    body.insert("control".into(), json!(variants.first().map(|(name, _, _)| name)));
    let mut all = Map::new();
    for (name, backend, weight) in &variants {
        let variant = json!({ "backend": backend, "weight": weight });
        if all.insert(name.clone(), variant).is_some() {
            let what = format!("variant \"{name}\" is given twice");
            return Err(Fault::usage(what, "every variant has a name of its own"));
        }
    }
    body.insert("variants".into(), all.into());
    if let Some((name, percent)) = layer {
        body.insert("layer".into(), json!({ "name": name, "percent": percent }));
    }
    if fallback {
        body.insert("on_failure".into(), json!("fallback"));
    }
    body.extend(reason.map(|reason| ("reason".to_owned(), json!(reason))));
    let client = args.gateway.client()?;
    let call = Call::write(Method::POST, "/experiments", Some(body.into()));
    let answer = client.ask_anyway(call, console)?;
    if !answer.status.is_success() {
        return Err(problems(&client, &answer, &format!("make experiment \"{experiment}\"")));
    }
    if args.output.json {
        console.json(&answer.body);
        return Ok(());
    }
    console.print(&format!(
        "experiment {experiment} is in force after {}: {}\n\
         `weir split {experiment}` shows it, `weir export experiment {experiment}` prints it for the file",
        words::latency(answer.took.as_secs_f64()),
        words::clean(&reading::shares(&answer.json)),
    ));
    Ok(())
}

/// What is wrong, a line each, as `weir check` would say it of the file.
fn problems(client: &AdminClient, answer: &super::admin_client::Answer, aim: &str) -> Fault {
    let error = answer.json.get("error").unwrap_or(&Value::Null);
    let lines: Vec<String> = reading::list(error, "details")
        .iter()
        .filter_map(|detail| {
            let what = reading::text(detail, "what")?;
            let mend = reading::text(detail, "mend").map(|mend| mend.replace('\n', "; "));
            Some(mend.map_or_else(|| what.to_owned(), |mend| format!("{what}\n  {mend}")))
        })
        .collect();
    if answer.status != StatusCode::BAD_REQUEST || lines.is_empty() {
        return client.refused(answer, aim);
    }
    Fault::usage(format!("cannot {aim}:\n{}", lines.join("\n")), "nothing was changed")
}

fn end(
    client: &AdminClient,
    name: &str,
    reason: Option<&str>,
    json: bool,
    console: &mut Console,
) -> Result<(), Fault> {
    let seen = split::revision(&split::get(client, name, console)?, name)?;
    let query = reason.map(|reason| format!("?reason={}", escaped(reason))).unwrap_or_default();
    let path = format!("/experiments/{}{query}", escaped(name));
    let call = Call::write(Method::DELETE, &path, None).if_match(seen);
    let answer = client.ask_anyway(call, console)?;
    if answer.status == StatusCode::PRECONDITION_FAILED {
        return Err(split::overtaken(client, name, seen, &answer, console));
    }
    if !answer.status.is_success() {
        return Err(split::refused(client, &answer, name, &format!("end \"{name}\""), console));
    }
    if json {
        console.json(&answer.body);
        return Ok(());
    }
    console.print(&format!(
        "{name} has ended, in force after {}: all traffic of route {} goes to the route's backend\n\
         `weir results {name}` shows what came of it; `weir undo {name}` takes it up again",
        words::latency(answer.took.as_secs_f64()),
        words::clean(reading::text(&answer.json, "route").unwrap_or("?")),
    ));
    Ok(())
}

/// Prints an experiment as a section of the file.
pub(crate) fn export(client: &AdminClient, name: &str, console: &mut Console) -> Result<(), Fault> {
    let path = format!("/experiments/{}/export", escaped(name));
    let answer = client.ask_anyway(Call::get(&path).text(), console)?;
    if !answer.status.is_success() {
        let aim = format!("export experiment \"{name}\"");
        return Err(split::refused(client, &answer, name, &aim, console));
    }
    console.print(&String::from_utf8_lossy(&answer.body));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_is_read_from_behind_so_that_names_may_have_colons() {
        assert_eq!(variant("a=b:c:5").unwrap(), ("a".into(), "b:c".into(), 5.0));
        for odd in ["a", "a=b", "a=b:", "a=b:much"] {
            assert!(variant(odd).unwrap_err().contains("NAME=BACKEND:WEIGHT"), "{odd}");
        }
        assert_eq!(placement("ranking:12.5").unwrap(), ("ranking".into(), 12.5));
        assert!(placement("ranking").is_err());
    }
}
